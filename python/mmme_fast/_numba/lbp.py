"""Histograms of uniform local binary patterns and their chi-square distances; the twin of cpp/kernels/lbp.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for

RADIUS, BINS = 3, 59
PART = np.float32(0.12132)  # where 3 sin(45 degrees), rounded to 5 places, stands between pixels 2 and 3
OUTER, SIDE, INNER = PART * PART, PART * (np.float32(1) - PART), (np.float32(1) - PART) * (np.float32(1) - PART)
ROUNDING = np.float32(1e-6)  # a part of the brightness


def _number_bins() -> NDArray[np.intp]:
    """The bins of all patterns, in the order of scikit-image's "nri_uniform"."""
    table = np.full(256, BINS - 1)
    for pattern in range(256):
        bits = [pattern >> p & 1 for p in range(8)]
        ones = sum(bits)
        if ones in (0, 8):
            table[pattern] = 0 if ones == 0 else BINS - 2
        elif sum(bits[p] != bits[p - 1] for p in range(8)) == 2:
            first = bits.index(1)
            table[pattern] = 1 + 8 * (ones - 1) + (ones - bits.index(0) if first == 0 else 8 - first)
    return table


BIN_OF = _number_bins()


@njit(cache=True, nogil=True)
def _patterns(frame: Any, y: int, out: Any) -> None:
    t3, t2, middle, b2, b3 = frame[y - 3], frame[y - 2], frame[y], frame[y + 2], frame[y + 3]
    for i in range(len(out)):  # indices that cannot be negative: the loop becomes vector instructions
        c = middle[i + 3]
        least = -ROUNDING * c  # less than rounding is a tie, whatever the order of the sums
        ne = INNER * (t2[i + 5] - c) + SIDE * (t2[i + 6] - c) + (SIDE * (t3[i + 5] - c) + OUTER * (t3[i + 6] - c))
        nw = INNER * (t2[i + 1] - c) + SIDE * (t2[i] - c) + (SIDE * (t3[i + 1] - c) + OUTER * (t3[i] - c))
        sw = INNER * (b2[i + 1] - c) + SIDE * (b2[i] - c) + (SIDE * (b3[i + 1] - c) + OUTER * (b3[i] - c))
        se = INNER * (b2[i + 5] - c) + SIDE * (b2[i + 6] - c) + (SIDE * (b3[i + 5] - c) + OUTER * (b3[i + 6] - c))
        pattern = np.int32(1) if middle[i + 6] >= c else np.int32(0)
        pattern += np.int32(2) if ne >= least else np.int32(0)
        pattern += np.int32(4) if t3[i + 3] >= c else np.int32(0)
        pattern += np.int32(8) if nw >= least else np.int32(0)
        pattern += np.int32(16) if middle[i] >= c else np.int32(0)
        pattern += np.int32(32) if sw >= least else np.int32(0)
        pattern += np.int32(64) if b3[i + 3] >= c else np.int32(0)
        pattern += np.int32(128) if se >= least else np.int32(0)
        out[i] = pattern


@njit(cache=True, nogil=True)
def _lbp(frame: Any, out: Any, bin_of: Any) -> None:
    height, width = frame.shape[0] - 2 * RADIUS, frame.shape[1] - 2 * RADIUS
    rows, columns, _ = out.shape
    patterns = np.empty(width, np.int32)
    for r in range(rows):
        counts = np.zeros((columns, BINS), np.int64)
        y0, y1 = height * r // rows, height * (r + 1) // rows
        for y in range(y0, y1):
            _patterns(frame, y + RADIUS, patterns)
            for c in range(columns):
                for x in range(width * c // columns, width * (c + 1) // columns):
                    counts[c, bin_of[patterns[x]]] += 1
        for c in range(columns):
            across = width * (c + 1) // columns - width * c // columns
            per = np.float32(1) / np.float32((y1 - y0) * across)
            for b in range(BINS):
                out[r, c, b] = np.float32(counts[c, b]) * per


def lbp(frames: NDArray[np.float32], out: NDArray[np.float32], threads: int) -> None:
    """Histograms of uniform local binary patterns over the cells of a lattice, written to out."""
    parallel_for(len(frames), threads, lambda i: _lbp(frames[i], out[i], BIN_OF))


@njit(cache=True, nogil=True)
def _chi_square(before: Any, at: Any, after: Any, out: Any) -> None:
    blocks, size = at.shape
    for i in range(blocks):
        total = np.float32(0)
        for b in range(size):
            mean = np.float32(0.5) * (before[i, b] + after[i, b])
            away, both = at[i, b] - mean, at[i, b] + mean
            if both > 0:
                total += away * away / both
        out[i] = total


def chi_square(
    before: NDArray[np.float32],
    at: NDArray[np.float32],
    after: NDArray[np.float32],
    out: NDArray[np.float32],
    threads: int,
) -> None:
    """Chi-square distances of histograms from the mean of two others, written to out."""
    parallel_for(len(at), threads, lambda i: _chi_square(before[i], at[i], after[i], out[i]))
