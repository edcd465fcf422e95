"""Optical strain (Shreve et al. 2011) and means over a lattice of blocks; the twin of cpp/kernels/strain.cpp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for


@njit(cache=True, nogil=True)
def _gradient(plane: Any, stencil: int, dx: Any, dy: Any) -> None:  # stencil: 0 central, 1 forward, 2 backward
    height, width = plane.shape
    after = 0 if stencil == 2 else 1
    before = 0 if stencil == 1 else 1
    for y in range(height):
        y0, y1, sy = _ends(y, height, before, after)
        for x in range(width):
            x0, x1, sx = _ends(x, width, before, after)
            dx[y, x] = sx * (plane[y, x1] - plane[y, x0])
            dy[y, x] = sy * (plane[y1, x] - plane[y0, x])


@njit(cache=True, nogil=True)
def _ends(i: int, n: int, before: int, after: int) -> Any:
    i0, i1 = i - before, i + after
    if before and after:  # central: one-sided at the borders
        i0, i1 = max(i0, 0), min(i1, n - 1)
        return i0, i1, np.float32(0.5) if i1 - i0 == 2 else np.float32(1)
    if i1 >= n:  # forward: the last difference is repeated
        i0, i1 = max(n - 2, 0), n - 1
    if i0 < 0:  # backward: the first is 0
        i0 = i1 = 0
    return i0, i1, np.float32(1)


@njit(cache=True, nogil=True)
def _strain(flow: Any, out: Any, stencil: int, swapped: bool) -> None:
    height, width, _ = flow.shape
    ux, uy, vx, vy = np.empty((4, height, width), np.float32)
    _gradient(flow[:, :, 0], stencil, ux, uy)
    _gradient(flow[:, :, 1], stencil, vx, vy)
    if swapped:  # the MMME notebooks take (d/dy, d/dx) for (d/dx, d/dy)
        ux, uy, vx, vy = uy, ux, vy, vx
    for y in range(height):
        for x in range(width):
            exx, eyy, exy = ux[y, x], vy[y, x], np.float32(0.5) * (uy[y, x] + vx[y, x])
            if out.shape[2] == 3:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = exx, eyy, exy
            else:
                out[y, x, 0] = math.sqrt(exx * exx + eyy * eyy + np.float32(2) * exy * exy)


def strain(
    flow: NDArray[np.float32], out: NDArray[np.float32], stencil: str, convention: str, components: bool, threads: int
) -> None:
    """Optical strain of flow fields, written to out."""
    fields = out.reshape(*flow.shape[:3], 3 if components else 1)
    code = ("central", "forward", "backward").index(stencil)
    parallel_for(len(flow), threads, lambda i: _strain(flow[i], fields[i], code, convention == "mmme"))


@njit(cache=True, nogil=True)
def _block_means(values: Any, out: Any) -> None:
    height, width, channels = values.shape
    rows, columns, _ = out.shape
    for r in range(rows):
        for c in range(columns):
            y0, y1 = height * r // rows, height * (r + 1) // rows
            x0, x1 = width * c // columns, width * (c + 1) // columns
            for k in range(channels):
                total = np.float32(0)
                for y in range(y0, y1):
                    part = np.float32(0)
                    for x in range(x0, x1):
                        part += values[y, x, k]
                    total += part
                out[r, c, k] = total / np.float32((y1 - y0) * (x1 - x0))


def block_means(values: NDArray[np.float32], out: NDArray[np.float32], threads: int) -> None:
    """Means over the cells of a lattice, written to out."""
    parallel_for(len(values), threads, lambda i: _block_means(values[i], out[i]))
