"""Main directional maximal difference of two flow fields, block by block; the twin of cpp/kernels/mdmd.cpp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for


@njit(cache=True, nogil=True)
def _quarter(u: Any, v: Any, atan: bool) -> int:
    """Which quarter turn from -180 degrees an angle lies in; those of atan are the middle two."""
    if atan:
        return 1 if (v < 0 and u >= 0) or (v > 0 and u < 0) else 2
    if v < 0:
        return 0 if u < 0 else 1
    return 2 if u > 0 or (u == 0 and v == 0) else 3


@njit(cache=True, nogil=True)
def _mdmd(a: Any, b: Any, out: Any, atan: bool) -> None:
    height, width, _ = a.shape
    rows, columns = out.shape
    for r in range(rows):
        y0, y1 = height * r // rows, height * (r + 1) // rows
        for c in range(columns):
            x0, x1 = width * c // columns, width * (c + 1) // columns
            counts = np.zeros(4, np.int64)
            for y in range(y0, y1):
                for x in range(x0, x1):
                    counts[_quarter(a[y, x, 0], a[y, x, 1], atan)] += 1
            main = counts.argmax()
            chosen = np.empty(counts[main], np.float32)
            count = 0
            for y in range(y0, y1):
                for x in range(x0, x1):
                    u, v, s, t = a[y, x, 0], a[y, x, 1], b[y, x, 0], b[y, x, 1]
                    if _quarter(u, v, atan) == main:
                        chosen[count] = math.sqrt(u * u + v * v) - math.sqrt(s * s + t * t)
                        count += 1
            many = max(count // 3, 1)
            chosen.sort()
            total = 0.0
            for i in range(count - many, count):
                total += chosen[i]
            out[r, c] = total / many


def mdmd(a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float32], quadrant: str, threads: int) -> None:
    """Main directional maximal differences of pairs of flow fields, written to out."""
    parallel_for(len(a), threads, lambda i: _mdmd(a[i], b[i], out[i], quadrant == "atan"))
