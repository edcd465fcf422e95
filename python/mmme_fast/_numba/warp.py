"""A frame resampled by an affine map, by cubic convolution (Keys 1981); the twin of cpp/kernels/warp.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for

HALF, ONE, A3, A2 = np.float32(0.5), np.float32(1), np.float32(1.5), np.float32(2.5)


@njit(cache=True, nogil=True)
def _taps(t: Any) -> Any:
    s = ONE - t
    return -HALF * t * s * s, ONE + t * t * (A3 * t - A2), ONE + s * s * (A3 * s - A2), -HALF * s * t * t


@njit(cache=True, nogil=True)
def _warp(frame: Any, out: Any, matrix: Any) -> None:
    height, width = frame.shape
    low, high = np.float32(-4), np.float32(32768)  # outside is the border all the same
    for y in range(height):
        x_start = np.float32(matrix[0, 1] * y + matrix[0, 2])
        y_start = np.float32(matrix[1, 1] * y + matrix[1, 2])
        for x in range(width):
            sx = min(max(x_start + np.float32(matrix[0, 0]) * np.float32(x), low), high)
            sy = min(max(y_start + np.float32(matrix[1, 0]) * np.float32(x), low), high)
            x_floor, y_floor = np.floor(sx), np.floor(sy)
            h, v = _taps(sx - x_floor), _taps(sy - y_floor)
            ix, iy = int(x_floor), int(y_floor)
            total = np.float32(0)
            for i in range(4):
                row = min(max(iy - 1 + i, 0), height - 1)
                line = np.float32(0)
                for j in range(4):
                    line += h[j] * frame[row, min(max(ix - 1 + j, 0), width - 1)]
                total += v[i] * line
            out[y, x] = total


def warp(frames: NDArray[np.float32], out: NDArray[np.float32], matrices: NDArray[np.float64], threads: int) -> None:
    """Frames resampled by affine maps, written to out."""
    parallel_for(len(frames), threads, lambda i: _warp(frames[i], out[i], matrices[i]))
