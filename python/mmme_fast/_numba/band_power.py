"""Band power by a direct DFT of only the bins that the bands need; the twin of cpp/kernels/band_power.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for

PANEL = 48  # bins whose table exists at a time
UNROLL = 8  # table rows that one pass over the bins takes in


def _tables(taper: NDArray[np.float32], nfft: int, bins: NDArray[np.int32]) -> NDArray[np.float32]:
    """Cosines and sines about the window's centre, (2, m, bin), zeros where padded; last row: the taper's own DFT."""
    window = len(taper)
    half = (window + 1) // 2
    table = np.zeros((2, -(-half // UNROLL) * UNROLL + 1, -(-len(bins) // 16) * 16), np.float32)
    angle = (2 * np.arange(half)[:, None] + (window % 2 == 0)) * bins.astype(np.int64) % (2 * nfft) * (np.pi / nfft)
    right, left = taper[window // 2 :].astype(np.float64), taper[(window - 1) // 2 :: -1].astype(np.float64)
    if window % 2:
        left[0] = 0
    for part, values, folded in ((0, np.cos(angle), right + left), (1, np.sin(angle), right - left)):
        table[part, :half, : len(bins)] = values
        table[part, -1, : len(bins)] = folded @ values
    return table


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def _total(samples: Any) -> float:
    total = 0.0
    for i in range(len(samples)):
        total += np.float64(samples[i])
    return total


@njit(cache=True, nogil=True, fastmath={"contract"})
def _fold(samples: Any, constant: Any, taper: Any, even: Any, odd: Any) -> None:
    window = len(taper)
    after, before = window // 2, (window - 1) // 2
    for m in range((window + 1) // 2):
        r = np.float32(samples[after + m] - constant) * taper[after + m]
        l = np.float32(samples[before - m] - constant) * taper[before - m]  # noqa: E741
        even[m] = r + l
        odd[m] = r - l
    if after == before:
        even[0] *= np.float32(0.5)  # the middle sample met itself


@njit(cache=True, nogil=True, fastmath={"contract"})
def _dft(folded: Any, table: Any, constant: Any, dft: Any) -> None:
    bins = len(dft)
    for b in range(bins):
        dft[b] = constant * table[-1, b]
    for m in range(0, len(folded), 8):
        x0, x1, x2, x3 = folded[m], folded[m + 1], folded[m + 2], folded[m + 3]
        x4, x5, x6, x7 = folded[m + 4], folded[m + 5], folded[m + 6], folded[m + 7]
        t0, t1, t2, t3 = table[m], table[m + 1], table[m + 2], table[m + 3]
        t4, t5, t6, t7 = table[m + 4], table[m + 5], table[m + 6], table[m + 7]
        for b in range(bins):
            total = x0 * t0[b] + x1 * t1[b] + x2 * t2[b] + x3 * t3[b]
            total += x4 * t4[b] + x5 * t5[b] + x6 * t6[b] + x7 * t7[b]
            dft[b] += total


@njit(cache=True, nogil=True, fastmath={"contract"})
def _windows(
    data: Any, stride: int, out: Any, starts: Any, taper: Any, detrend: bool, table: Any, weights: Any, add: bool
) -> None:
    even, odd = np.zeros((2, table.shape[1] - 1), np.float32)
    re, im = np.empty((2, table.shape[2]), np.float32)
    window = len(taper)
    for i in range(len(starts)):
        for channel in range(out.shape[1]):
            start = channel * stride + starts[i]
            samples = data[start : start + window]
            mean = _total(samples) / window
            # The mean as float goes first, so that a large offset costs no digits; its rounding follows as a constant.
            near = np.float32(mean)
            constant = np.float32(np.float64(near) - mean) if detrend else near
            _fold(samples, near, taper, even, odd)
            _dft(even, table[0], constant, re)
            _dft(odd, table[1], constant, im)
            for k in range(out.shape[2]):
                total = np.float32(0)
                for b in range(weights.shape[1]):
                    total += weights[k, b] * (re[b] * re[b] + im[b] * im[b])
                out[i, channel, k] = out[i, channel, k] + total if add else total


def band_power(
    data: NDArray[Any],
    out: NDArray[np.float32],
    starts: NDArray[np.int64],
    taper: NDArray[np.float32],
    detrend: bool,
    nfft: int,
    bins: NDArray[np.int32],
    weights: NDArray[np.float32],
    threads: int,
) -> None:
    """Weighted sums of |DFT|^2 over windows, written to out."""
    channels, samples = data.shape
    stride = data.strides[0] // data.itemsize
    flat = np.lib.stride_tricks.as_strided(
        data, ((channels - 1) * stride + samples,), (data.itemsize,), writeable=False
    )
    tasks = min(len(starts), threads)
    for first in range(0, len(bins), PANEL):
        panel = slice(first, first + PANEL)
        table = _tables(taper, nfft, bins[panel])
        weight = np.ascontiguousarray(weights[:, panel])

        def body(task: int, table: Any = table, weight: Any = weight, add: bool = first > 0) -> None:
            own = slice(len(starts) * task // tasks, len(starts) * (task + 1) // tasks)
            _windows(flat, stride, out[own], starts[own], taper, detrend, table, weight, add)

        parallel_for(tasks, threads, body)
