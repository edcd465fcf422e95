"""Dense inverse search flow (Kroeger et al. 2016) step by step as OpenCV 5 computes it; the twin of
cpp/kernels/dis.cpp.

Flow is planar, (2, y, x). All arithmetic is float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import flow_batch

PATCH = 8
STRIPES = 8  # bands of patch rows between which displacements do not propagate
BORDER = 24  # pixels around a level, its edge repeated: what a patch may touch when it has left the frame
ALPHA, DELTA, GAMMA, OMEGA = (np.float32(v) for v in (10, 2.5, 5, 1.6))
ZETA2, EPSILON2 = np.float32(0.1**2), np.float32(0.01**2)
SWEEPS = 10  # half of them of each colour

Floats = NDArray[np.float32]
_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


def _scales(height: int, width: int, finest: int) -> tuple[int, int]:
    """Return the finest and the coarsest scale."""
    coarsest = min(
        int(math.log(max(height, width) / (4 * PATCH)) / math.log(2) + 0.5),
        int(math.log(min(height, width) // PATCH) / math.log(2)),
    )
    if coarsest < finest:  # small frames
        coarsest = max(0, math.floor(math.log2(2 * width / (5 * PATCH))))
        finest = max(coarsest - 2, 0)
    while coarsest > 0 and min(height, width) >> coarsest < PATCH:
        coarsest -= 1
    return min(finest, coarsest), coarsest


def _area_weights(n: int, m: int) -> Any:
    """Return the weights (m, n) that average n samples into m cells."""
    step = n / m
    low = np.arange(m)[:, None] * step
    sample = np.arange(n)
    weights = np.minimum(low + step, sample + 1) - np.maximum(low, sample)
    return (weights.clip(0) / step).astype(np.float32)


def _reduced(grey: Any, shape: tuple[int, int], whole: bool) -> Any:
    """Return the area means of an image; whole grey values stay whole."""
    (height, width), (rows, columns) = grey.shape, shape
    f = height // rows
    if f == 1:
        return grey
    exact = height == f * rows and width == f * columns
    if exact:
        small = grey.reshape(rows, f, columns, f).sum((1, 3)) * np.float32(1 / f**2)
    else:
        small = _area_weights(height, rows) @ grey @ _area_weights(width, columns).T
    if not whole:
        return small
    return np.floor(small + np.float32(0.5)) if exact and f == 2 else np.rint(small)


@_jit
def _sobel(grey: Any, dx: Any, dy: Any) -> None:
    """Sobel's derivatives, the frame mirrored at its edge."""
    height, width = grey.shape
    two = np.float32(2)
    smooth, step = np.empty(width + 2, np.float32), np.empty(width + 2, np.float32)
    for y in range(height):
        a, b, c = grey[abs(y - 1)], grey[y], grey[y + 1 if y + 1 < height else y - 1]
        for x in range(width):
            smooth[x + 1] = a[x] + two * b[x] + c[x]
            step[x + 1] = c[x] - a[x]
        for row in (smooth, step):
            row[0] = row[2]
            row[width + 1] = row[width - 1]
        left, right, mid = smooth[:width], smooth[2:], step[1 : width + 1]
        before, after = step[:width], step[2:]
        for x in range(width):
            dx[y, x] = right[x] - left[x]
            dy[y, x] = before[x] + two * mid[x] + after[x]


@_jit
def _summaries(dx: Any, dy: Any, stride: int, out: Any) -> None:
    """out (rows, columns, 5): each patch's inverse structure tensor and its mean gradient."""
    _, width = dx.shape
    sums = np.empty((5, width), np.float32)
    for row in range(out.shape[0]):
        sums[:] = 0
        for i in range(PATCH):
            gx, gy = dx[row * stride + i], dy[row * stride + i]
            for x in range(width):
                sums[0, x] += gx[x] * gx[x]
                sums[1, x] += gx[x] * gy[x]
                sums[2, x] += gy[x] * gy[x]
                sums[3, x] += gx[x]
                sums[4, x] += gy[x]
        for column in range(out.shape[1]):
            x0 = column * stride
            xx = xy = yy = mx = my = np.float32(0)
            for x in range(x0, x0 + PATCH):
                xx += sums[0, x]
                xy += sums[1, x]
                yy += sums[2, x]
                mx += sums[3, x]
                my += sums[4, x]
            determinant = xx * yy - xy * xy
            if abs(determinant) < np.float32(1e-3):
                determinant = np.float32(1e-3)
            inverse = np.float32(1) / determinant
            out[row, column, 0] = yy * inverse
            out[row, column, 1] = -xy * inverse
            out[row, column, 2] = xx * inverse
            out[row, column, 3] = mx * np.float32(1 / PATCH**2)
            out[row, column, 4] = my * np.float32(1 / PATCH**2)


@_jit
def _clamp(value: Any, low: Any, high: Any) -> Any:
    value = value if value > low else low
    return value if value < high else high


@_jit
def _place(x: Any, y: Any, left: int, top: int, width: int, height: int) -> Any:
    """A position in the second frame: row and column within its border, and the weights of the four pixels around."""
    one = np.float32(1)
    px, py = (
        _clamp(x, np.float32(left), np.float32(width - 1)),
        _clamp(y, np.float32(top), np.float32(height - 1)),
    )
    fx, fy = np.float32(math.floor(px)), np.float32(math.floor(py))
    ax, ay = px - fx, py - fy
    return int(fy) + BORDER, int(fx) + BORDER, (one - ax) * (one - ay), ax * (one - ay), (one - ax) * ay, ax * ay


@_jit
def _compare(grey: Any, dx: Any, dy: Any, curr: Any, y0: int, x0: int, u: Any, v: Any, patch: Any) -> Any:
    """Error of a patch moved by (u, v), and its gradient, both with the patches' means taken off."""
    height, width = dx.shape
    row, column, w00, w01, w10, w11 = _place(
        np.float32(x0) + u, np.float32(y0) + v, 1 - PATCH, 1 - PATCH, width, height
    )
    s = ss = sx = sy = np.float32(0)
    for i in range(PATCH):
        a, b = curr[row + i, column : column + PATCH], curr[row + i, column + 1 : column + 1 + PATCH]
        c, d = curr[row + i + 1, column : column + PATCH], curr[row + i + 1, column + 1 : column + 1 + PATCH]
        first = grey[y0 + BORDER + i, x0 + BORDER : x0 + BORDER + PATCH]
        gx, gy = dx[y0 + i, x0 : x0 + PATCH], dy[y0 + i, x0 : x0 + PATCH]
        for j in range(PATCH):
            e = w00 * a[j] + w01 * b[j] + w10 * c[j] + w11 * d[j] - first[j]
            s += e
            ss += e * e
            sx += e * gx[j]
            sy += e * gy[j]
    return ss - s * s * np.float32(1 / PATCH**2), sx - s * patch[3], sy - s * patch[4]


@_jit
def _tap(i: int, length: int, ratio: float) -> Any:
    at = np.float32((i + 0.5) * ratio - 0.5)
    index = math.floor(at)
    if index < 0:
        return 0, 0, np.float32(0)
    if index >= length - 1:
        return length - 1, length - 1, np.float32(0)
    return index, index + 1, at - np.float32(index)


@_jit
def _sample(flow: Any, y: int, x: int, height: int, width: int) -> Any:
    """A flow at pixel (y, x) of a level of the given size."""
    y0, y1, wy = _tap(y, flow.shape[1], flow.shape[1] / height)
    x0, x1, wx = _tap(x, flow.shape[2], flow.shape[2] / width)
    a0 = flow[0, y0, x0] + wx * (flow[0, y0, x1] - flow[0, y0, x0])
    b0 = flow[0, y1, x0] + wx * (flow[0, y1, x1] - flow[0, y1, x0])
    a1 = flow[1, y0, x0] + wx * (flow[1, y0, x1] - flow[1, y0, x0])
    b1 = flow[1, y1, x0] + wx * (flow[1, y1, x1] - flow[1, y1, x0])
    return a0 + wy * (b0 - a0), a1 + wy * (b1 - a1)


@_jit
def _search(
    grey: Any, dx: Any, dy: Any, patches: Any, curr: Any, coarse: Any, initial: Any, scale: float, stride: int,
    iterations: int, found: Any,
) -> None:  # fmt: skip
    """Displacements (2, rows, columns) of the patches. coarse: the flow of the next coarser level; initial: the flow to
    try beside it, of the whole frame; either may be empty."""
    height, width = dx.shape
    rows, columns = patches.shape[:2]
    stripe = (rows + STRIPES - 1) // STRIPES
    two, far = np.float32(2), np.float32(PATCH * PATCH)
    candidates = np.empty((4, 2), np.float32)
    for direction in (1, -1):
        for r in range(rows):
            row = r if direction > 0 else rows - 1 - r
            first = row // stripe * stripe
            edge = first if direction > 0 else min(first + stripe, rows) - 1
            for c in range(columns):
                column = c if direction > 0 else columns - 1 - c
                y, x, patch = row * stride, column * stride, patches[row, column]
                if direction > 0:
                    found[0, row, column] = found[1, row, column] = 0
                    if coarse.shape[1]:
                        u, v = _sample(coarse, y + PATCH // 2, x + PATCH // 2, height, width)
                        found[0, row, column] = two * u
                        found[1, row, column] = two * v
                candidates[0] = found[:, row, column]
                n = 1
                if initial.shape[1]:
                    u, v = _sample(initial, y + PATCH // 2, x + PATCH // 2, height, width)
                    candidates[n, 0] = u * np.float32(scale)
                    candidates[n, 1] = v * np.float32(scale)
                    n += 1
                if c > 0:
                    candidates[n] = found[:, row, column - direction]
                    n += 1
                if row != edge:
                    candidates[n] = found[:, row - direction, column]
                    n += 1
                best_u = best_v = gx = gy = np.float32(0)
                least = np.float32(1e10)
                for k in range(n):
                    error, ex, ey = _compare(grey, dx, dy, curr, y, x, candidates[k, 0], candidates[k, 1], patch)
                    if error < least:
                        least, gx, gy, best_u, best_v = error, ex, ey, candidates[k, 0], candidates[k, 1]
                u, v, error = best_u, best_v, least
                last = np.float32(1e10)
                for t in range(iterations):
                    if t > 0:
                        error, gx, gy = _compare(grey, dx, dy, curr, y, x, u, v, patch)
                    u -= patch[0] * gx + patch[1] * gy
                    v -= patch[1] * gx + patch[2] * gy
                    if not error < last:
                        break
                    last = error
                du, dv = u - best_u, v - best_v
                near = du * du + dv * dv <= far
                found[0, row, column] = u if near else best_u
                found[1, row, column] = v if near else best_v


@_jit
def _densify(grey: Any, curr: Any, found: Any, stride: int, flow: Any) -> None:
    """Every pixel's mean over the patches that cover it, weighted by how well it matches where they say."""
    _, height, width = flow.shape
    _, rows, columns = found.shape
    one = np.float32(1)
    total = np.zeros((height, width), np.float32)
    flow[:] = 0
    for row in range(rows):
        y = row * stride
        tall = height - y if row == rows - 1 else PATCH
        for column in range(columns):
            x = column * stride
            wide = width - x if column == columns - 1 else PATCH
            u, v = found[0, row, column], found[1, row, column]
            r, c, w00, w01, w10, w11 = _place(
                np.float32(x) + u, np.float32(y) + v, 1 - 2 * PATCH, 1 - 2 * PATCH, width, height
            )
            for i in range(tall):
                top, low = curr[r + i, c : c + wide + 1], curr[r + i + 1, c : c + wide + 1]
                first = grey[y + BORDER + i, x + BORDER : x + BORDER + wide]
                su, sv, sw = flow[0, y + i, x : x + wide], flow[1, y + i, x : x + wide], total[y + i, x : x + wide]
                for j in range(wide):
                    e = abs(w00 * top[j] + w01 * top[j + 1] + w10 * low[j] + w11 * low[j + 1] - first[j])
                    weight = one / (e if e > one else one)
                    su[j] += weight * u
                    sv[j] += weight * v
                    sw[j] += weight
    for y in range(height):
        for k in range(2):
            row_of_flow, weights = flow[k, y], total[y]
            for x in range(width):
                row_of_flow[x] /= weights[x]


@_jit
def _warp(grey: Any, curr: Any, flow: Any, mean: Any, time: Any) -> None:
    """The mean of the first frame and the second one warped to it, and their difference."""
    height, width = mean.shape
    half, low = np.float32(0.5), np.float32(-1)
    for y in range(height):
        first = grey[y + BORDER, BORDER:]
        for x in range(width):
            px = _clamp(np.float32(x) + flow[0, y, x], low, np.float32(width))
            py = _clamp(np.float32(y) + flow[1, y, x], low, np.float32(height))
            fx, fy = np.float32(math.floor(px)), np.float32(math.floor(py))
            ax, ay = px - fx, py - fy
            r, c = int(fy) + BORDER, int(fx) + BORDER
            a = curr[r, c] + ax * (curr[r, c + 1] - curr[r, c])
            b = curr[r + 1, c] + ax * (curr[r + 1, c + 1] - curr[r + 1, c])
            warped = a + ay * (b - a)
            mean[y, x] = half * (warped + first[x])
            time[y, x] = warped - first[x]


@_jit
def _across(source: Any, out: Any) -> None:
    height, width = out.shape
    for y in range(height):
        row = source[y]
        left, right, mid = row[: width - 2], row[2:], out[y, 1:]
        for x in range(width - 2):
            mid[x] = right[x] - left[x]
        out[y, 0] = row[1] - row[0]
        out[y, width - 1] = row[width - 1] - row[width - 2]


@_jit
def _down(source: Any, out: Any) -> None:
    height, width = out.shape
    for y in range(height):
        up, low, row = source[max(y - 1, 0)], source[min(y + 1, height - 1)], out[y]
        for x in range(width):
            row[x] = low[x] - up[x]


@_jit
def _normalise(a: Any, b: Any, c: Any) -> None:
    one = np.float32(1)
    for y in range(a.shape[0]):
        ra, rb, rc = a[y], b[y], c[y]
        for x in range(a.shape[1]):
            norm = one / np.sqrt(ra[x] * ra[x] + rb[x] * rb[x] + ZETA2)
            ra[x] *= norm
            rb[x] *= norm
            rc[x] *= norm


@_jit
def _weights(u: Any, v: Any, out: Any) -> None:
    """The weight of smoothness at each pixel: of its links to the right and down. out has a column before the first."""
    height, width = u.shape
    for y in range(height):
        u0, v0, u1, v1 = u[y], v[y], u[min(y + 1, height - 1)], v[min(y + 1, height - 1)]
        u_right, v_right, row = u0[1:], v0[1:], out[y + 1, 1:]
        for x in range(width - 1):
            ux, vx, uy, vy = u_right[x] - u0[x], v_right[x] - v0[x], u1[x] - u0[x], v1[x] - v0[x]
            row[x] = ALPHA / np.sqrt(ux * ux + vx * vx + uy * uy + vy * vy + EPSILON2)
        uy, vy = u1[width - 1] - u0[width - 1], v1[width - 1] - v0[width - 1]
        row[width - 1] = ALPHA / np.sqrt(uy * uy + vy * vy + EPSILON2)


@_jit
def _data_term(d: Any, step: Any, system: Any) -> None:
    """system (5, y, x): a11, a12, a22, b1, b2 from the derivatives d (9, y, x) around the step so far."""
    for y in range(d.shape[1]):
        ix, iy, iz, xx, xy, xz = d[0, y], d[1, y], d[2, y], d[3, y], d[4, y], d[5, y]
        yx, yy, yz, du, dv = d[6, y], d[7, y], d[8, y], step[0, y + 1, 1:], step[1, y + 1, 1:]
        a11, a12, a22, b1, b2 = system[0, y], system[1, y], system[2, y], system[3, y], system[4, y]
        for x in range(d.shape[2]):
            ri = iz[x] + ix[x] * du[x] + iy[x] * dv[x]
            rx = xz[x] + xx[x] * du[x] + xy[x] * dv[x]
            ry = yz[x] + yx[x] * du[x] + yy[x] * dv[x]
            wi = DELTA / np.sqrt(ri * ri + EPSILON2)
            wg = GAMMA / np.sqrt(rx * rx + ry * ry + EPSILON2)
            a11[x] = ZETA2 + wi * ix[x] * ix[x] + wg * (xx[x] * xx[x] + yx[x] * yx[x])
            a12[x] = wi * ix[x] * iy[x] + wg * (xx[x] * xy[x] + yx[x] * yy[x])
            a22[x] = ZETA2 + wi * iy[x] * iy[x] + wg * (xy[x] * xy[x] + yy[x] * yy[x])
            b1[x] = -(wi * ix[x] * iz[x] + wg * (xx[x] * xz[x] + yx[x] * yz[x]))
            b2[x] = -(wi * iy[x] * iz[x] + wg * (xy[x] * xz[x] + yy[x] * yz[x]))


@_jit
def _smoothness_term(flow: Any, weight: Any, system: Any) -> None:
    """Add the links to the neighbours; a11 and a22 are replaced by OMEGA over them."""
    _, height, width = flow.shape
    for y in range(height):
        w, up, a11, a22 = weight[y + 1], weight[y], system[0, y], system[2, y]
        for k in range(2):
            here, b = flow[k, y], system[3 + k, y]
            above, below = flow[k, max(y - 1, 0)], flow[k, min(y + 1, height - 1)]
            for x in range(width):
                b[x] += w[x + 1] * (below[x] - here[x]) + up[x + 1] * (above[x] - here[x])
            for x in range(width - 1):
                pull = w[x + 1] * (here[x + 1] - here[x])
                b[x] += pull
                b[x + 1] -= pull
        down = np.float32(1 if y + 1 < height else 0)
        for x in range(width):
            right = w[x + 1] if x + 1 < width else np.float32(0)
            links = right + w[x] + down * w[x + 1] + up[x + 1]
            a11[x] = OMEGA / (a11[x] + links)
            a22[x] = OMEGA / (a22[x] + links)


@_jit
def _relax(step: Any, weight: Any, system: Any) -> None:
    """Red-black over-relaxation of the step, which has a border of zeros."""
    _, height, width = system.shape
    keep = np.float32(1) - OMEGA
    for sweep in range(SWEEPS):
        for y in range(height):
            first = (y + sweep) % 2
            u, v, w, w_up = step[0, y + 1], step[1, y + 1], weight[y + 1], weight[y]
            u_up, u_low, v_up, v_low = step[0, y], step[0, y + 2], step[1, y], step[1, y + 2]
            i11, a12, i22, b1, b2 = system[0, y], system[1, y], system[2, y], system[3, y], system[4, y]
            for k in range((width - first + 1) // 2):
                x = 2 * k + first
                i = x + 1
                pull_u = w[i - 1] * u[i - 1] + w[i] * (u[i + 1] + u_low[i]) + w_up[i] * u_up[i] + b1[x]
                pull_v = w[i - 1] * v[i - 1] + w[i] * (v[i + 1] + v_low[i]) + w_up[i] * v_up[i] + b2[x]
                u[i] = keep * u[i] + i11[x] * (pull_u - a12[x] * v[i])
                v[i] = keep * v[i] + i22[x] * (pull_v - a12[x] * u[i])


def _refine(grey: Floats, curr: Floats, flow: Floats, iterations: int) -> None:
    """Variational refinement of flow (2, y, x), in place."""
    _, height, width = flow.shape
    mean, time = np.empty((2, height, width), np.float32)
    _warp(grey, curr, flow, mean, time)
    d = np.empty((9, height, width), np.float32)
    _across(mean, d[0])
    _down(mean, d[1])
    d[2] = time
    _across(d[0], d[3])
    _down(d[0], d[4])
    _across(time, d[5])
    d[6] = d[4]
    _down(d[1], d[7])
    _down(time, d[8])
    for k in range(0, 9, 3):
        _normalise(d[k], d[k + 1], d[k + 2])
    step = np.zeros((2, height + 2, width + 2), np.float32)
    weight = np.zeros((height + 1, width + 1), np.float32)
    system = np.empty((5, height, width), np.float32)
    moved = flow.copy()
    for _ in range(iterations):
        _weights(moved[0], moved[1], weight)
        _data_term(d, step, system)
        _smoothness_term(flow, weight, system)
        _relax(step, weight, system)
        np.add(flow, step[:, 1:-1, 1:-1], out=moved)
    flow[...] = moved


@_jit
def _enlarge(flow: Any, gain: Any, out: Any) -> None:
    """out (y, x, 2) = gain * flow, resized."""
    _, rows, columns = flow.shape
    height, width, _ = out.shape
    at, then, part = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.float32)
    for x in range(width):
        at[x], then[x], part[x] = _tap(x, columns, columns / width)
    mixed = np.empty((2, columns), np.float32)
    for y in range(height):
        y0, y1, wy = _tap(y, rows, rows / height)
        for k in range(2):
            a, b, m = flow[k, y0], flow[k, y1], mixed[k]
            for x in range(columns):
                m[x] = (a[x] + wy * (b[x] - a[x])) * gain
        for x in range(width):
            i, j, w = at[x], then[x], part[x]
            out[y, x, 0] = mixed[0, i] + w * (mixed[0, j] - mixed[0, i])
            out[y, x, 1] = mixed[1, i] + w * (mixed[1, j] - mixed[1, i])


def dis(
    prev: NDArray[Any], curr: NDArray[Any], flow: NDArray[np.float32], use_initial: bool, finest_scale: int,
    patch_stride: int, iterations: int, refinements: int, threads: int,
) -> None:  # fmt: skip
    """Dense inverse search flow of pairs of frames, written to flow."""
    height, width = flow.shape[1:3]
    finest, coarsest = _scales(height, width, finest_scale)
    empty = np.empty((2, 0, 0), np.float32)

    def prepare(frame: Floats) -> list[Any]:
        whole = not np.any(frame % 1)  # uint8 frames: those of more bits have fractions
        levels: list[Any] = []
        image = frame
        for k in range(finest, coarsest + 1):
            image = _reduced(image, (height >> k, width >> k), whole)
            dx, dy = np.empty((2, *image.shape), np.float32)
            _sobel(image, dx, dy)
            grid = tuple(1 + (n - PATCH) // patch_stride for n in image.shape)
            patches = np.empty((*grid, 5), np.float32)
            _summaries(dx, dy, patch_stride, patches)
            levels.append((np.pad(image, BORDER, mode="edge"), dx, dy, patches))
        return levels

    def solve(first: list[Any], second: list[Any], out: NDArray[np.float32], start: bool) -> None:
        initial = np.ascontiguousarray(np.moveaxis(out, 2, 0)) if start else empty
        dense = empty
        for k in range(coarsest, finest - 1, -1):
            (grey, dx, dy, patches), (other, *_) = first[k - finest], second[k - finest]
            found = np.empty((2, *patches.shape[:2]), np.float32)
            _search(grey, dx, dy, patches, other, dense, initial, 1 / (1 << k), patch_stride, iterations // 2, found)
            dense = np.empty((2, *dx.shape), np.float32)
            _densify(grey, other, found, patch_stride, dense)
            if refinements:
                _refine(grey, other, dense, refinements)
        _enlarge(dense, np.float32(1 << finest), out)

    flow_batch(prepare, solve, prev, curr, flow, use_initial, threads)
