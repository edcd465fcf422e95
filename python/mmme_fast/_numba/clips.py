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


@njit(cache=True, nogil=True, inline="always")
def _turned(row: int, n: int) -> int:
    """Where the half turn about the first or the last of n samples takes a sample beyond it."""
    return -row if row < 0 else 2 * (n - 1) - row if row >= n else row


@njit(cache=True, nogil=True, fastmath={"contract"})
def _sums(data: Any, first: int, block: int, sums: Any) -> None:
    outside = np.zeros(data.shape[1])  # of these nodes
    sums[:] = 0
    for i in range(-1, len(sums)):
        begin, end = sums[i] if i >= 0 else outside, sums[i + 1] if i + 1 < len(sums) else outside
        for t in range(block):
            at = first + i * block + t
            row, edge = data[_turned(at, len(data))], data[0 if at < 0 else len(data) - 1]
            turned = at < 0 or at >= len(data)
            weight = (t + 0.5) / block
            rest = 1 - weight
            for c in range(len(row)):
                x = np.float64(row[c])
                if turned:
                    x = 2 * np.float64(edge[c]) - x
                begin[c] += rest * x
                end[c] += weight * x


@njit(cache=True, nogil=True, fastmath={"contract"})
def _difference(data: Any, at: int, inwards: int, middle: Any, last: bool, out: Any) -> None:
    """Write the sample's difference from the next one inwards, or from the one in the middle."""
    n = len(data)
    turned = at < 0 or at >= n
    if last:
        row, edge = data[_turned(at, n)], data[0 if at < 0 else n - 1]
        for c in range(len(out)):
            out[c] = (edge[c] - row[c]) + (edge[c] - middle[c]) if turned else row[c] - middle[c]
    else:  # a half turn makes of a difference the one of the samples turned, in their order
        row = data[_turned(at + inwards, n) if turned else at]
        other = data[_turned(at, n) if turned else at + inwards]
        for c in range(len(out)):
            out[c] = row[c] - other[c]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_pairs(
    data: Any, start: int, window: int, reach: int, matrix: Any, even: Any, odd: Any, part: Any, dft: Any
) -> None:
    """Add what pairs of differences make of the DFT, few at a time in float32."""
    pairs, terms = len(matrix), len(even)
    middle = data[start + window // 2]
    for first in range(0, pairs, terms):
        n = min(terms, pairs - first)
        for i in range(n):
            own_even, own_odd, last = even[i], odd[i], first + i == pairs - 1
            _difference(data, start - reach + first + i, 1, middle, last, own_even)
            _difference(data, start + window - 1 + reach - first - i, -1, middle, last, own_odd)
            for c in range(len(own_even)):
                before, after = own_even[c], own_odd[c]
                own_even[c] = before + after
                own_odd[c] = before - after
        part[:] = 0
        _product(matrix[first : first + n, 0], even[:n], part[0])
        _product(matrix[first : first + n, 1], odd[:n], part[1])
        for r in range(2):
            for b in range(dft.shape[1]):
                for c in range(dft.shape[2]):
                    dft[r, b, c] += part[r, b, c]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _windows(
    data: Any, start: int, hop: int, window: int, near_reach: int, far_reach: int, near: Any, far: Any, curves: Any,
    slow: Any, sums: Any, block: int, weights: Any, out: Any
) -> None:  # fmt: skip
    channels, n_values, bins = data.shape[1], slow.shape[1], curves.shape[2]
    even, odd = np.empty((64, channels), np.float32), np.empty((64, channels), np.float32)
    part = np.empty((2, bins, channels), np.float32)
    for i in range(len(out)):
        first = start + i * hop
        dft = np.zeros((2, bins, channels))
        _add_pairs(data, first, window, far_reach, far, even, odd, part, dft)
        _add_pairs(data, first, window, near_reach, near, even, odd, part, dft)
        values = np.zeros((n_values, channels))
        _product(slow[:-1], sums[i * hop // block :][: len(slow) - 1], values)
        for v in range(n_values):
            for c in range(channels):
                values[v, c] -= slow[-1, v] * np.float64(data[first + window // 2, c])
        _product(curves[:, 0], values, dft[0])
        _product(curves[:, 1], values, dft[1])
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
    starts: NDArray[np.int64],
    hop: int,
    window: int,
    near_reach: int,
    far_reach: int,
    near_matrix: NDArray[np.float32],
    far_matrix: NDArray[np.float32],
    curves: NDArray[np.float64],
    slow: NDArray[np.float64],
    inner: int,
    block: int,
    weights: NDArray[np.float64],
    threads: int,
) -> None:
    """Weighted sums of |DFT|^2 over windows of a filtered signal, written to out."""
    windows, nodes = out.shape[1], len(slow) - 1
    every = nodes + (windows - 1) * hop // block
    sums = np.empty((every, data.shape[1]))

    def shared(count: int, body: Any) -> None:
        tasks = min(count, threads)
        parallel_for(tasks, threads, lambda task: body(count * task // tasks, count * (task + 1) // tasks))

    for own, start in zip(out, starts.tolist(), strict=True):

        def sum_up(begin: int, end: int, start: int = start) -> None:
            _sums(data, start - inner + begin * block, block, sums[begin:end])

        def transform(begin: int, end: int, start: int = start, own: NDArray[np.float64] = own) -> None:
            _windows(
                data, start + begin * hop, hop, window, near_reach, far_reach, near_matrix, far_matrix,
                curves, slow, sums[begin * hop // block :], block, weights, own[begin:end],
            )  # fmt: skip

        shared(every, sum_up)
        shared(windows, transform)
