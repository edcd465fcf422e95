"""TV-L1 optical flow step by step as OpenCV 5 computes it; the twin of cpp/kernels/tvl1.cpp.

All arithmetic is float32. Loops are kept apart, each on few arrays, so that LLVM's run-time alias checks still let it
vectorise them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import flow_batch

_BORDER = 4  # zeros around an image that is warped: what its 4x4 taps may touch
_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

# Exchanges (the smaller value to the first place) that sort five values.
_SORT_5 = np.array([(0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2)])
# And those that leave the median of 25 in place 12, where place 5 r + c holds the r-th smallest of column c.
_MEDIAN_25 = np.array([
    (0, 1), (3, 4), (1, 4), (0, 3), (14, 11), (8, 9), (5, 6), (6, 9), (4, 18), (12, 14), (13, 14), (5, 8), (10, 11),
    (1, 8), (2, 3), (15, 16), (10, 13), (6, 7), (11, 14), (3, 4), (18, 19), (11, 13), (10, 8), (11, 12), (17, 18),
    (16, 19), (23, 13), (16, 18), (22, 23), (15, 17), (22, 24), (9, 23), (7, 8), (21, 24), (8, 4), (11, 3), (6, 7),
    (20, 22), (21, 22), (15, 7), (17, 16), (3, 7), (12, 21), (20, 9), (4, 21), (17, 20), (7, 4), (8, 12), (16, 9),
    (16, 20), (4, 16), (7, 8), (4, 12), (12, 20), (8, 17), (12, 17), (4, 12),
])  # fmt: skip


@_jit
def _resize(source: Any, ratio_y: float, ratio_x: float, gain: float, out: Any) -> None:
    """Linear, pixel centres at half-integers; ratio is source over target length."""
    height, width = source.shape
    factor = np.float32(gain)
    columns = np.empty(out.shape[1], np.int64)
    weights = np.empty(out.shape[1], np.float32)
    for x in range(out.shape[1]):
        columns[x], weights[x] = _tap(x, width, ratio_x)
    for y in range(out.shape[0]):
        y0, wy = _tap(y, height, ratio_y)
        top, bottom = source[y0], source[min(y0 + 1, height - 1)]
        for x in range(out.shape[1]):
            x0 = columns[x]
            x1 = min(x0 + 1, width - 1)
            a = top[x0] + weights[x] * (top[x1] - top[x0])
            b = bottom[x0] + weights[x] * (bottom[x1] - bottom[x0])
            out[y, x] = factor * (a + wy * (b - a))


@_jit
def _tap(i: int, length: int, ratio: float) -> Any:
    at = np.float32((i + 0.5) * ratio - 0.5)
    index = math.floor(at)
    if index < 0:
        return 0, np.float32(0)
    if index >= length - 1:
        return length - 1, np.float32(0)
    return index, at - np.float32(index)


@_jit
def _pack(grey: Any, out: Any) -> None:
    """(I, Ix, Iy, 0) inside the border of out, which holds zeros."""
    height, width = grey.shape
    half = np.float32(0.5)
    for y in range(height):
        for x in range(width):
            pixel = out[y + _BORDER, x + _BORDER]
            pixel[0] = grey[y, x]
            pixel[1] = half * (grey[y, min(x + 1, width - 1)] - grey[y, max(x - 1, 0)])
            pixel[2] = half * (grey[min(y + 1, height - 1), x] - grey[max(y - 1, 0), x])


@_jit
def _cubic(t: Any) -> Any:
    """Keys' cubic with A = -0.75."""
    a = np.float32(-0.75)
    s, r = np.float32(1) - t, t + np.float32(1)
    w0 = ((a * r - np.float32(5) * a) * r + np.float32(8) * a) * r - np.float32(4) * a
    w1 = ((a + np.float32(2)) * t - (a + np.float32(3))) * t * t + np.float32(1)
    w2 = ((a + np.float32(2)) * s - (a + np.float32(3))) * s * s + np.float32(1)
    return w0, w1, w2, np.float32(1) - w0 - w1 - w2


@_jit
def _clamp(value: Any, low: Any, high: Any) -> Any:
    value = value if value > low else low
    return value if value < high else high


@_jit
def _warp(u: Any, grey: Any, packed: Any, data: Any) -> None:
    """Linearise the data term around u: rho + ix u0 + iy u1. data (4, y, x): ix, iy, rho and -1 / (ix^2 + iy^2)."""
    height, width = grey.shape
    low, right, bottom = np.float32(-2), np.float32(width + 1), np.float32(height + 1)
    tiny = np.float32(1e-30)
    for y in range(height):
        for x in range(width):
            at_x = _clamp(np.float32(x) + u[0, y, x], low, right)
            at_y = _clamp(np.float32(y) + u[1, y, x], low, bottom)
            fx, fy = np.float32(math.floor(at_x)), np.float32(math.floor(at_y))
            a0, a1, a2, a3 = _cubic(at_x - fx)
            wy = _cubic(at_y - fy)
            x0, y0 = int(fx) + _BORDER - 1, int(fy) + _BORDER - 1
            value = gx = gy = np.float32(0)
            for j in range(4):
                t = packed[y0 + j, x0 : x0 + 4]
                value += wy[j] * (a0 * t[0, 0] + a1 * t[1, 0] + a2 * t[2, 0] + a3 * t[3, 0])
                gx += wy[j] * (a0 * t[0, 1] + a1 * t[1, 1] + a2 * t[2, 1] + a3 * t[3, 1])
                gy += wy[j] * (a0 * t[0, 2] + a1 * t[1, 2] + a2 * t[2, 2] + a3 * t[3, 2])
            square = gx * gx + gy * gy
            data[0, y, x] = gx
            data[1, y, x] = gy
            data[2, y, x] = value - gx * u[0, y, x] - gy * u[1, y, x] - grey[y, x]
            data[3, y, x] = np.float32(-1) / (square if square > tiny else tiny)


@_jit
def _iterate(u: Any, p: Any, data: Any, bound: Any, theta: Any, taut: Any) -> float:
    """One inner iteration; returns the sum of squared changes. p (4, 1 + y, 1 + x) is 0 above and left of the image."""
    height, width = u.shape[1:]
    one = np.float32(1)
    step = np.empty(width, np.float32)
    total = 0.0
    for y in range(height + 1):
        if y < height:
            ix, iy, rho, inverse = data[0, y], data[1, y], data[2, y], data[3, y]
            u0, u1 = u[0, y], u[1, y]
            for x in range(width):
                step[x] = _clamp((rho[x] + ix[x] * u0[x] + iy[x] * u1[x]) * inverse[x], -bound, bound)
            error = np.float32(0)
            for k in range(2):
                flow, gradient = u[k, y], data[k, y]
                here, left = p[2 * k, y + 1, 1:], p[2 * k, y + 1]
                down, up = p[2 * k + 1, y + 1, 1:], p[2 * k + 1, y, 1:]
                for x in range(width):
                    change = step[x] * gradient[x] + theta * (here[x] - left[x] + down[x] - up[x])
                    flow[x] += change
                    error += change * change
            total += error
        if y > 0:  # p of the row above, whose flow and the flow below it are new by now
            for k in range(2):
                flow, below = u[k, y - 1], u[k, min(y, height - 1)]
                right = flow[1:]
                px, py = p[2 * k, y, 1:], p[2 * k + 1, y, 1:]
                for x in range(width - 1):
                    dx, dy = right[x] - flow[x], below[x] - flow[x]
                    scale = one / (one + taut * math.sqrt(dx * dx + dy * dy))
                    px[x] = (px[x] + taut * dx) * scale
                    py[x] = (py[x] + taut * dy) * scale
                dy = below[width - 1] - flow[width - 1]
                py[width - 1] = (py[width - 1] + taut * dy) / (one + taut * abs(dy))
    return total


@_jit
def _exchange(v: Any, i: int, j: int, n: int) -> None:
    low, high = v[i], v[j]
    for x in range(n):
        a, b = low[x], high[x]
        low[x] = a if a < b else b
        high[x] = a if a > b else b


@_jit
def _median(plane: Any, size: int, out: Any) -> None:
    """Median of size x size pixels with repeated borders."""
    height, width = plane.shape
    half = size // 2
    ranks = np.empty((size, width + 2 * half), np.float32)
    v = np.empty((25, width), np.float32)
    for y in range(height):
        for r in range(size):
            ranks[r, half : half + width] = plane[min(max(y + r - half, 0), height - 1)]
        if size == 5:
            for i, j in _SORT_5:
                _exchange(ranks, i, j, half + width)
        else:
            for i, j in ((0, 1), (1, 2), (0, 1)):
                _exchange(ranks, i, j, half + width)
        for r in range(size):
            ranks[r, :half] = ranks[r, half]
            ranks[r, half + width :] = ranks[r, half + width - 1]
            for c in range(size):
                v[size * r + c] = ranks[r, c : c + width]
        if size == 5:
            for i, j in _MEDIAN_25:
                _exchange(v, i, j, width)
            out[y] = v[12]
        else:  # the median of the largest low, the median middle and the smallest high value of three columns
            for i, j in ((0, 2), (1, 2), (3, 4), (4, 5), (3, 4), (6, 8), (6, 7), (2, 4), (4, 6), (2, 4)):
                _exchange(v, i, j, width)
            out[y] = v[4]


@_jit
def _solve_level(
    u: Any, grey: Any, packed: Any, tau: float, lambda_: float, theta: float, warps: int, enough: float,
    inner_iterations: int, outer_iterations: int, median: int, resumed: bool,
) -> None:  # fmt: skip
    _, height, width = u.shape
    data = np.empty((4, height, width), np.float32)
    p = np.zeros((4, height + 1, width + 1), np.float32)
    filtered = np.empty((height, width), np.float32)
    bound, step, taut = np.float32(lambda_ * theta), np.float32(theta), np.float32(tau / theta)
    for warp in range(warps):
        brief = resumed and warp + 1 < warps
        _warp(u, grey, packed, data)
        error = np.inf
        for _ in range(1 if brief else outer_iterations):
            if error <= enough:
                break
            if median > 1:
                for k in range(2):
                    _median(u[k], median, filtered)
                    u[k] = filtered
            for _ in range(1 if brief else inner_iterations):
                if error <= enough:
                    break
                error = _iterate(u, p, data, bound, step, taut)


@_jit
def _misfit(prev: Any, curr: Any, flow: Any) -> Any:
    """The mean of |curr(x + flow) - prev|, bilinear."""
    height, width = prev.shape
    total = 0.0
    for y in range(height):
        row = np.float32(0)
        for x in range(width):
            at_x = min(max(np.float32(x) + flow[y, x, 0], np.float32(0)), np.float32(width - 1))
            at_y = min(max(np.float32(y) + flow[y, x, 1], np.float32(0)), np.float32(height - 1))
            x0, y0 = min(int(at_x), width - 2), min(int(at_y), height - 2)
            wx, wy = at_x - np.float32(x0), at_y - np.float32(y0)
            top = curr[y0, x0] + wx * (curr[y0, x0 + 1] - curr[y0, x0])
            bottom = curr[y0 + 1, x0] + wx * (curr[y0 + 1, x0 + 1] - curr[y0 + 1, x0])
            row += abs(top + wy * (bottom - top) - prev[y, x])
        total += row
    return total / (height * width)


def tvl1(
    prev: NDArray[Any], curr: NDArray[Any], flow: NDArray[np.float32], use_initial: bool, tau: float, lambda_: float,
    theta: float, scales: int, warps: int, epsilon: float, inner_iterations: int, outer_iterations: int,
    scale_step: float, median: int, warm_start: int, threads: int,
) -> None:  # fmt: skip
    """TV-L1 flow of pairs of frames, written to flow."""
    sizes = [flow.shape[1:3]]
    while len(sizes) < scales:
        height, width = (round(n * scale_step) for n in sizes[-1])
        if min(height, width) < 16:
            break
        sizes.append((height, width))

    def resized(planes: Any, size: tuple[int, int], ratio: tuple[float, float], gain: float) -> Any:
        out = np.empty((len(planes), *size), np.float32)
        for source, target in zip(planes, out, strict=True):
            _resize(source, *ratio, gain, target)
        return out

    def shrunk(planes: Any, gain: float, sizes: Any = sizes) -> list[Any]:
        pyramid = [planes]
        for size in sizes[1:]:
            pyramid.append(resized(pyramid[-1], size, (1 / scale_step, 1 / scale_step), gain))
        return pyramid

    def prepare(frame: NDArray[np.float32]) -> list[Any]:
        levels = []
        for (grey,) in shrunk(frame[None], 1.0):
            packed = np.zeros((grey.shape[0] + 2 * _BORDER, grey.shape[1] + 2 * _BORDER, 4), np.float32)
            _pack(grey, packed)
            levels.append((grey, packed))
        return levels

    def solve(
        first: list[Any], second: list[Any], out: NDArray[np.float32], start: bool, sizes: Any = sizes,
        warps: int = warps, epsilon: float = epsilon, outer: int = outer_iterations, resumed: bool = False,
    ) -> None:  # fmt: skip
        if start:  # beyond 65536 is outside every frame
            u = shrunk(np.ascontiguousarray(np.moveaxis(np.clip(out, -65536, 65536), 2, 0)), scale_step, sizes)[-1]
        else:
            u = np.zeros((2, *sizes[-1]), np.float32)
        for level, size in reversed(list(enumerate(sizes))):
            (grey, _), (_, packed) = first[level], second[level]
            if level < len(sizes) - 1:
                _, height, width = u.shape
                u = resized(u, size, (height / size[0], width / size[1]), 1 / scale_step)
            enough = float(np.float32(epsilon * epsilon * (size[0] * size[1])))
            _solve_level(u, grey, packed, tau, lambda_, theta, warps, enough, inner_iterations, outer, median, resumed)
        out[...] = np.moveaxis(u, 0, 2)

    resume = partial(
        solve, sizes=sizes[:1], warps=min(warps, 2), epsilon=0.6 * epsilon, outer=min(outer_iterations, 4), resumed=True
    )

    def misfit(first: list[Any], second: list[Any], out: NDArray[np.float32]) -> float:
        return float(_misfit(first[0][0], second[0][0], out))

    flow_batch(prepare, solve, prev, curr, flow, use_initial, threads, warm_start, resume, misfit)
