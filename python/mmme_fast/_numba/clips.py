"""Band power of windows of a filtered signal, straight from rows of samples; the twin of cpp/kernels/clips.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for


@njit(cache=True, nogil=True, fastmath={"contract"})
def _product(matrix: Any, rows: Any, sums: Any) -> None:
    """sums += matrix.T @ rows."""
    n = len(rows) // 4 * 4
    for r in range(matrix.shape[1]):
        own = sums[r]
        for k in range(0, n, 4):
            m0, m1, m2, m3 = matrix[k, r], matrix[k + 1, r], matrix[k + 2, r], matrix[k + 3, r]
            x0, x1, x2, x3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
            for c in range(len(own)):
                own[c] += m0 * x0[c] + m1 * x1[c] + m2 * x2[c] + m3 * x3[c]
        for k in range(n, len(rows)):
            m0, x0 = matrix[k, r], rows[k]
            for c in range(len(own)):
                own[c] += m0 * x0[c]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _sums(data: Any, first: int, block: int, sums: Any) -> None:
    outside = np.zeros(data.shape[1])  # of these nodes
    sums[:] = 0
    for i in range(-1, len(sums)):
        begin, end = sums[i] if i >= 0 else outside, sums[i + 1] if i + 1 < len(sums) else outside
        for t in range(block):
            row = data[first + i * block + t]
            weight = (t + 0.5) / block
            rest = 1 - weight
            for c in range(len(row)):
                x = np.float64(row[c])
                begin[c] += rest * x
                end[c] += weight * x


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_pairs(
    data: Any, start: int, window: int, reach: int, matrix: Any, reference: Any, even: Any, odd: Any, dft: Any
) -> None:
    pairs = len(matrix)
    for i in range(pairs):
        before, after = data[start - reach + i], data[start + window - 1 + reach - i]
        for c in range(len(reference)):
            b, a = np.float64(before[c]) - reference[c], np.float64(after[c]) - reference[c]
            even[i, c] = b + a
            odd[i, c] = b - a
    _product(matrix[:, 0], even[:pairs], dft[0])
    _product(matrix[:, 1], odd[:pairs], dft[1])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _windows(
    data: Any, start: int, hop: int, window: int, near: int, far: int, matrix: Any, far_matrix: Any, slow: Any,
    sums: Any, block: int, weights: Any, out: Any
) -> None:  # fmt: skip
    channels, n_values, bins = data.shape[1], slow.shape[1], matrix.shape[2]
    pairs = len(matrix) - n_values
    even, odd = np.empty((pairs, channels)), np.empty((pairs, channels))
    far_even = np.empty((len(far_matrix), channels), np.float32)
    far_odd = np.empty((len(far_matrix), channels), np.float32)
    for i in range(len(out)):
        first = start + i * hop
        reference = data[first + window // 2].astype(np.float64)
        far_dft = np.zeros((2, bins, channels), np.float32)
        _add_pairs(data, first, window, far, far_matrix, reference, far_even, far_odd, far_dft)
        dft = far_dft.astype(np.float64)
        _add_pairs(data, first, window, near, matrix[:pairs], reference, even, odd, dft)
        values = np.zeros((n_values, channels))
        _product(slow[:-1], sums[i * hop // block :][: len(slow) - 1], values)
        for v in range(n_values):
            for c in range(channels):
                values[v, c] -= slow[-1, v] * reference[c]
        _product(matrix[pairs:, 0], values, dft[0])
        _product(matrix[pairs:, 1], values, dft[1])
        for c in range(channels):
            for band in range(len(weights)):
                power = 0.0
                for b in range(bins):
                    re, im = dft[0, b, c], dft[1, b, c]
                    power += weights[band, b] * (re * re + im * im)
                out[i, c, band] = power


def clip_power(
    data: NDArray[Any],
    out: NDArray[np.float64],
    start: int,
    hop: int,
    window: int,
    near_reach: int,
    far_reach: int,
    matrix: NDArray[np.float64],
    far_matrix: NDArray[np.float32],
    slow: NDArray[np.float64],
    inner: int,
    block: int,
    weights: NDArray[np.float64],
    threads: int,
) -> None:
    """Weighted sums of |DFT|^2 over windows of a filtered signal, written to out."""
    windows, nodes = len(out), len(slow) - 1
    every = nodes + (windows - 1) * hop // block
    sums = np.empty((every, data.shape[1]))

    def shared(count: int, body: Any) -> None:
        tasks = min(count, threads)
        parallel_for(tasks, threads, lambda task: body(count * task // tasks, count * (task + 1) // tasks))

    def sum_up(begin: int, end: int) -> None:
        _sums(data, start - inner + begin * block, block, sums[begin:end])

    def transform(begin: int, end: int) -> None:
        _windows(
            data, start + begin * hop, hop, window, near_reach, far_reach, matrix, far_matrix, slow,
            sums[begin * hop // block :], block, weights, out[begin:end],
        )  # fmt: skip

    shared(every, sum_up)
    shared(windows, transform)
