"""Band power by a direct DFT of only the bins that the bands need; the twin of cpp/kernels/band_power.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for

PANEL = 48  # bins whose table exists at a time
UNROLL = 8  # table rows that one pass over the bins takes in: as _dft() writes them out


def _tables(taper: NDArray[np.float32], nfft: int, bins: NDArray[np.int32]) -> NDArray[np.float32]:
    """Cosines and sines about the window's centre, (2, m, PANEL), zeros where padded; last row: the taper's own DFT."""
    window = len(taper)
    half = (window + 1) // 2
    table = np.zeros((2, -(-half // UNROLL) * UNROLL + 1, PANEL), np.float32)
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
    half = len(taper) - len(taper) // 2
    right, taper_right = samples[-half:], taper[-half:]
    left, taper_left = samples[:half][::-1], taper[:half][::-1]
    for m in range(half):
        r = np.float32(right[m] - constant) * taper_right[m]
        l = np.float32(left[m] - constant) * taper_left[m]  # noqa: E741
        even[m] = r + l
        odd[m] = r - l
    if len(taper) % 2:
        even[0] *= np.float32(0.5)  # the middle sample met itself


@njit(cache=True, nogil=True, fastmath={"contract"})
def _dft(folded: Any, table: Any, constant: Any, dft: Any) -> None:
    # One flat array and a width that the compiler knows: otherwise it does not vectorise.
    flat = table.reshape(-1)
    for b in range(PANEL):
        dft[b] = constant * flat[len(folded) * PANEL + b]
    for m in range(0, len(folded), UNROLL):
        x0, x1, x2, x3 = folded[m], folded[m + 1], folded[m + 2], folded[m + 3]
        x4, x5, x6, x7 = folded[m + 4], folded[m + 5], folded[m + 6], folded[m + 7]
        t = flat[m * PANEL : (m + UNROLL) * PANEL]
        for b in range(PANEL):
            dft[b] += (
                x0 * t[b]
                + x1 * t[b + PANEL]
                + x2 * t[b + 2 * PANEL]
                + x3 * t[b + 3 * PANEL]
                + x4 * t[b + 4 * PANEL]
                + x5 * t[b + 5 * PANEL]
                + x6 * t[b + 6 * PANEL]
                + x7 * t[b + 7 * PANEL]
            )


@njit(cache=True, nogil=True, fastmath={"contract"})
def _windows(
    data: Any, stride: int, out: Any, starts: Any, taper: Any, detrend: bool, table: Any, weights: Any, add: bool
) -> None:
    # Arrays of their own, so that the compiler sees that they do not overlap.
    even, odd = np.zeros(table.shape[1] - 1, np.float32), np.zeros(table.shape[1] - 1, np.float32)
    re, im = np.empty(PANEL, np.float32), np.empty(PANEL, np.float32)
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
