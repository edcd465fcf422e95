"""Motion by polynomial expansion (Farneback 2003), equal to OpenCV's; the twin of cpp/kernels/farneback.cpp.

Coefficients and flow are planar by row: (y, plane, x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import flow_batch

SMALLEST = 32  # no level is narrower or lower
BORDER = 5  # pixels along the edge whose systems count less
BORDER_WEIGHTS = np.array([0.14, 0.14, 0.4472, 0.4472, 0.4472], np.float32)

Floats = NDArray[np.float32]
FAST = {"contract", "nsz", "reassoc", "arcp"}  # what lets loops vectorise; infinity and NaN keep their meaning


def _levels(height: int, width: int, pyr_scale: float, levels: int) -> list[tuple[int, int, float]]:
    """Return height, width and scale of every level, full size first."""
    found = [(height, width, 1.0)]
    scale = 1.0
    for _ in range(levels):
        scale *= pyr_scale
        if width * scale < SMALLEST or height * scale < SMALLEST:
            break
        found.append((round(height * scale), round(width * scale), scale))
    return found


def _gaussian(radius: int, sigma: float) -> NDArray[np.float64]:
    if sigma == 0:
        return np.ones(1)
    taps: NDArray[np.float64] = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    return taps


def _blur(scale: float) -> NDArray[np.float64]:
    """Return the taps of the blur before a frame is reduced to `scale`."""
    sigma = (1 / scale - 1) / 2
    return _gaussian(max(round(sigma * 5) | 1, 3) // 2, sigma) if sigma else np.array([0.25, 0.5, 0.25])


def _taps(n: int, m: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the samples that bilinear interpolation from n to m values reads, and the part of each one's successor."""
    place = ((np.arange(m) + 0.5) * (1 / (m / n)) - 0.5).astype(np.float32)
    at = np.floor(place).astype(np.int64)
    part = np.where((at < 0) | (at >= n - 1), np.float32(0), place - at.astype(np.float32))
    return at.clip(0, n - 1), part.astype(np.float32)


def _expansion(n: int, sigma: float) -> Floats:
    """Return the taps of the polynomial expansion, (7, n + 1): three over rows, four over columns."""
    g = _gaussian(n, sigma if sigma >= np.finfo(np.float32).eps else 0.3 * n).astype(np.float32).astype(np.float64)
    i = np.arange(-n, n + 1)
    m0, m2, m4 = (g * i**k @ np.ones(2 * n + 1) for k in (0, 2, 4))
    a, b, c, d = m0 * m0, m2 * m0, m4 * m0, m2 * m2
    determinant = (c - d) * (a * (c + d) - 2 * b * b)
    ig03, ig33 = -b * (c - d) / determinant, (a * c - b * b) / determinant
    g, i = g[n:], i[n:]
    second = g * (ig03 + ig33 * i * i)
    return np.stack([g, g * i, second, g / b, g * i / b, second, g * i / d]).astype(np.float32)


@njit(cache=True, nogil=True, fastmath=FAST)
def _reduced(grey: Any, blur: Any, row_at: Any, row_part: Any, column_at: Any, column_part: Any) -> Any:
    height, width = grey.shape
    radius = len(blur) // 2
    image = np.empty((len(row_at), len(column_at)), np.float32)
    row = np.empty(width + 2 * radius, np.float32)
    smooth = np.empty(width, np.float32)
    for y in range(len(row_at)):
        inner = row[radius : radius + width]
        inner[:] = 0
        part = row_part[y]
        for t in range(len(blur) + 1):  # the blur of two rows and their mean, as one filter
            weight = np.float32(0)
            if t < len(blur):
                weight += (np.float32(1) - part) * blur[t]
            if t > 0:
                weight += part * blur[t - 1]
            if weight != 0:
                k = abs(row_at[y] - radius + t)
                source = grey[k if k < height else 2 * (height - 1) - k]
                for x in range(width):
                    inner[x] += weight * source[x]
        for x in range(1, radius + 1):
            row[radius - x] = inner[x]
            row[radius + width - 1 + x] = inner[width - 1 - x]
        smooth[:] = 0
        for t in range(len(blur)):
            weight = blur[t]
            source = row[t : t + width]
            for x in range(width):
                smooth[x] += weight * source[x]
        for x in range(len(column_at)):
            i = column_at[x]
            part = column_part[x]
            image[y, x] = (np.float32(1) - part) * smooth[i] + part * smooth[min(i + 1, width - 1)]
    return image


@njit(cache=True, nogil=True, fastmath=FAST)
def _expanded(image: Any, taps: Any) -> Any:
    height, width = image.shape
    n = taps.shape[1] - 1
    g, xg, yy, ty, tx, txx, txy = taps
    out = np.empty((height, 5, width), np.float32)
    rows = np.empty((3, width + 2 * n), np.float32)
    s, d, q = rows[0, n : n + width], rows[1, n : n + width], rows[2, n : n + width]
    for y in range(height):
        centre = image[y]
        for x in range(width):
            s[x] = g[0] * centre[x]
            d[x] = 0
            q[x] = yy[0] * centre[x]
        for k in range(1, n + 1):
            above, below = image[max(y - k, 0)], image[min(y + k, height - 1)]
            gk, xgk, yyk = g[k], xg[k], yy[k]
            for x in range(width):
                total, difference = above[x] + below[x], below[x] - above[x]
                s[x] += gk * total
                d[x] += xgk * difference
                q[x] += yyk * total
        for c in range(3):
            rows[c, :n] = rows[c, n]
            rows[c, n + width :] = rows[c, n + width - 1]
        ry, rx, ryy, rxx, rxy = out[y, 0], out[y, 1], out[y, 2], out[y, 3], out[y, 4]
        for x in range(width):
            ry[x] = ty[0] * d[x]
            rx[x] = 0
            ryy[x] = g[0] * q[x]
            rxx[x] = txx[0] * s[x]
            rxy[x] = 0
        for k in range(1, n + 1):
            s0, s1 = rows[0, n - k : n - k + width], rows[0, n + k : n + k + width]
            d0, d1 = rows[1, n - k : n - k + width], rows[1, n + k : n + k + width]
            q0, q1 = rows[2, n - k : n - k + width], rows[2, n + k : n + k + width]
            gk, yk, xk, xxk, xyk = g[k], ty[k], tx[k], txx[k], txy[k]
            for x in range(width):
                rx[x] += xk * (s1[x] - s0[x])
                rxx[x] += xxk * (s1[x] + s0[x])
            for x in range(width):
                ry[x] += yk * (d1[x] + d0[x])
                rxy[x] += xyk * (d1[x] - d0[x])
                ryy[x] += gk * (q1[x] + q0[x])
    return out


@njit(cache=True, nogil=True)
def _edge_weight(i: int, n: int) -> Any:
    weight = np.float32(1)
    if i < BORDER:
        weight *= BORDER_WEIGHTS[i]
    if i >= n - BORDER:
        weight *= BORDER_WEIGHTS[n - 1 - i]
    return weight


@njit(cache=True, nogil=True)
def _edge(i: int, n: int) -> bool:
    """Whether OpenCV takes i for near the edge; its unsigned test wraps around below 10 pixels."""
    return (i - BORDER) % 2**32 >= (n - 2 * BORDER) % 2**32


@njit(cache=True, nogil=True, fastmath=FAST)
def _systems(prev: Any, curr: Any, flow: Any, y: int, samples: Any, systems: Any) -> None:
    """Write the systems of row y: products of the mean quadratic part and of the difference of the linear parts."""
    height, _, width = prev.shape
    limit = np.float32(65536)
    u, v = flow[y, 0], flow[y, 1]
    edge_row, row_weight = _edge(y, height), _edge_weight(y, height)
    for x in range(width):
        px = np.float32(x) + min(max(u[x], -limit), limit)
        py = np.float32(y) + min(max(v[x], -limit), limit)
        left, above = np.floor(px), np.floor(py)
        inside = (left >= 0) & (left < width - 1) & (above >= 0) & (above < height - 1)
        samples[5, x] = np.float32(0.5) if inside else np.float32(1)
        samples[7, x] = left
        samples[8, x] = above
        samples[9, x] = px - left
        samples[10, x] = py - above
    for x in range(width):
        if samples[5, x] == 1:
            for c in range(5):
                samples[c, x] = 0
            continue
        # Unsigned: an index that might be negative costs a comparison.
        x0, y0 = np.uint64(np.int64(samples[7, x])), np.uint64(np.int64(samples[8, x]))
        x1, y1 = x0 + np.uint64(1), y0 + np.uint64(1)
        fx, fy = samples[9, x], samples[10, x]
        gx, gy = np.float32(1) - fx, np.float32(1) - fy
        for c in range(5):
            top = gx * curr[y0, c, x0] + fx * curr[y0, c, x1]
            bottom = gx * curr[y1, c, x0] + fx * curr[y1, c, x1]
            samples[c, x] = gy * top + fy * bottom
    samples[6, :] = row_weight if edge_row else np.float32(1)
    for i in range(min(2 * BORDER, width)):
        x = i if i < BORDER else max(width - 2 * BORDER, 0) + i
        if x < width and (edge_row or _edge(x, width)):
            samples[6, x] = row_weight * _edge_weight(x, width)
    a0, a1, a2, a3, a4 = prev[y]
    b0, b1, b2, b3, b4 = samples[:5]
    mean, half, yy, xx, xy, ry, rx = samples[5:]
    g11, g12, g22, h1, h2 = systems
    # One result a loop: with many arrays in a loop the compiler gives up on vectors.
    for x in range(width):
        mean[x] *= half[x]
    for x in range(width):
        half[x] *= np.float32(0.5)
    for x in range(width):
        yy[x] = (a2[x] + b2[x]) * mean[x]
    for x in range(width):
        xx[x] = (a3[x] + b3[x]) * mean[x]
    for x in range(width):
        xy[x] = (a4[x] + b4[x]) * (np.float32(0.5) * mean[x])
    for x in range(width):
        ry[x] = (a0[x] - b0[x]) * half[x] + (yy[x] * v[x] + xy[x] * u[x])
    for x in range(width):
        rx[x] = (a1[x] - b1[x]) * half[x] + (xy[x] * v[x] + xx[x] * u[x])
    for x in range(width):
        g11[x] = yy[x] * yy[x] + xy[x] * xy[x]
    for x in range(width):
        g12[x] = (yy[x] + xx[x]) * xy[x]
    for x in range(width):
        g22[x] = xx[x] * xx[x] + xy[x] * xy[x]
    for x in range(width):
        h1[x] = yy[x] * ry[x] + xy[x] * rx[x]
    for x in range(width):
        h2[x] = xy[x] * ry[x] + xx[x] * rx[x]


@njit(cache=True, nogil=True, fastmath=FAST)
def _box(row: Any, spare: Any, length: int, first: bool, out: Any) -> None:
    """Write row[x] + ... + row[x + length - 1], by sums of 2, 4, 8... neighbours: nothing is ever subtracted."""
    out[:] = row[0] if first else np.float32(0)
    done, size = 0, 1
    while True:
        if length & size:
            shifted = row[done : done + len(out)]
            for x in range(len(out)):
                out[x] += shifted[x]
            done += size
        if done == length:
            return
        shifted = row[size:]
        for x in range(len(shifted)):
            spare[x] = row[x] + shifted[x]
        row, spare = spare, row
        size *= 2


@njit(cache=True, nogil=True, fastmath=FAST)
def _iterate(prev: Any, curr: Any, flow: Any, out: Any, radius: int, kernel: Any, bias: Any, first: bool) -> None:
    """One iteration; an empty kernel stands for a box, summed over rows by van Herk's scheme (see the C++ source)."""
    height, _, width = prev.shape
    length = 2 * radius + 1
    gaussian = len(kernel) > 0
    ring = np.zeros((length + 1, 5, width), np.float32)
    running = np.empty((5, width), np.float32)
    systems = np.zeros((5, width + length), np.float32)
    spare = np.zeros(width + length, np.float32)
    samples = np.empty((12, width), np.float32)
    total = np.empty((5, width), np.float32)
    g11, g12, g22, h1, h2 = total
    inverse = np.empty(width, np.float32)
    last = -1
    for r in range(-radius - first, height + radius):
        row = min(max(r, 0), height - 1)
        place = (r + radius) % length
        sums = ring[place]
        if r < -radius:  # the box of width 1, which always takes in row 0
            sums = ring[1]
        if row == last and r != -radius:
            sums[:] = ring[place - 1 if place > 0 else length - 1]
        else:
            _systems(prev, curr, flow, row, samples, systems[:, radius : radius + width])
            for c in range(5):
                line = systems[c]
                line[:radius] = line[radius]
                line[radius + width :] = line[radius + width - 1]
                if gaussian:
                    sums[c] = 0
                    for t in range(length):
                        weight, shifted = kernel[t], line[t : t + width]
                        for x in range(width):
                            sums[c, x] += weight * shifted[x]
                else:
                    _box(line, spare, length, first, sums[c])
            last = row
        if r < -radius:
            continue
        if gaussian:
            running[:] = 0
            for t in range(length):
                weight = kernel[t]
                source = ring[(place + 1 + t) % length]
                for c in range(5):
                    for x in range(width):
                        running[c, x] += weight * source[c, x]
            rest = ring[length]
        else:
            for c in range(5):
                for x in range(width):
                    running[c, x] = sums[c, x] + (running[c, x] if place > 0 else np.float32(0))
            rest = ring[place + 1]
        if r >= radius:
            for c in range(5):
                for x in range(width):
                    total[c, x] = rest[c, x] + running[c, x]
            u, v = out[r - radius, 0], out[r - radius, 1]
            for x in range(width):
                inverse[x] = np.float32(1) / (g11[x] * g22[x] - g12[x] * g12[x] + bias)
            for x in range(width):
                u[x] = (g11[x] * h2[x] - g12[x] * h1[x]) * inverse[x]
            for x in range(width):
                v[x] = (g22[x] * h1[x] - g12[x] * h2[x]) * inverse[x]
        if not gaussian and place == length - 1:
            for i in range(length - 2, 0, -1):
                for c in range(5):
                    for x in range(width):
                        ring[i, c, x] += ring[i + 1, c, x]


@njit(cache=True, nogil=True, fastmath=FAST)
def _enlarged(flow: Any, factor: Any, row_at: Any, row_part: Any, column_at: Any, column_part: Any) -> Any:
    height, _, width = flow.shape
    out = np.empty((len(row_at), 2, len(column_at)), np.float32)
    mixed = np.empty(width + 1, np.float32)
    for y in range(len(row_at)):
        for c in range(2):
            a, b = flow[row_at[y], c], flow[min(row_at[y] + 1, height - 1), c]
            for x in range(width):
                mixed[x] = (a[x] + row_part[y] * (b[x] - a[x])) * factor
            mixed[width] = mixed[width - 1]
            for x in range(len(column_at)):
                i = column_at[x]
                out[y, c, x] = mixed[i] + column_part[x] * (mixed[i + 1] - mixed[i])
    return out


def _averages(n: int, m: int) -> Floats:
    """Return the matrix that averages n samples into m cells, (m, n)."""
    edges = np.arange(m)[:, None] * (1 / (m / n))
    samples = np.arange(n)
    covered = (np.minimum(samples + 1, edges + n / m) - np.maximum(samples, edges)).clip(0, 1)
    covered[covered <= 1e-3] = 0  # OpenCV leaves slivers out, and does not make up for them
    weights: Floats = (covered / np.minimum(n / m, n - edges)).astype(np.float32)
    return weights


def farneback(
    prev: NDArray[Any],
    curr: NDArray[Any],
    flow: Floats,
    use_initial: bool,
    pyr_scale: float,
    levels: int,
    window: int,
    iterations: int,
    poly_n: int,
    poly_sigma: float,
    gaussian: bool,
    threads: int,
) -> None:
    """Farneback flow of pairs of frames, written to flow."""
    height, width = prev.shape[1:]
    sizes = _levels(height, width, pyr_scale, levels)
    expansion = _expansion(poly_n, poly_sigma)
    filters = [
        (_blur(scale).astype(np.float32), *_taps(height, rows), *_taps(width, columns))
        for rows, columns, scale in sizes
    ]
    radius = window // 2
    kernel = _gaussian(radius, 0.3 * radius).astype(np.float32) if gaussian else np.empty(0, np.float32)
    bias = np.float32(1e-3 * (1.0 if gaussian else float(window) ** 4))
    first = radius == 0 and not gaussian

    def prepare(grey: Floats) -> list[Floats]:
        grey -= np.float32(128)  # nothing depends on the mean, and small values round better
        return [_expanded(_reduced(grey, *tables), expansion) for tables in filters]

    def solve(a: list[Floats], b: list[Floats], out: Floats, initial: bool) -> None:
        rows, columns, scale = sizes[-1]
        now = np.zeros((rows, 2, columns), np.float32)
        if initial:
            down, across = _averages(height, rows), _averages(width, columns)
            for c in range(2):
                now[:, c] = down @ out[:, :, c] @ across.T * np.float32(scale)
        for k in range(len(sizes) - 1, -1, -1):
            if k < len(sizes) - 1:
                coarse = sizes[k + 1]
                tables = (*_taps(coarse[0], sizes[k][0]), *_taps(coarse[1], sizes[k][1]))
                now = _enlarged(now, np.float32(1 / pyr_scale), *tables)
            then = np.empty_like(now)
            for _ in range(iterations):
                _iterate(a[k], b[k], now, then, radius, kernel, bias, first)
                now, then = then, now
        out[:] = now.transpose(0, 2, 1)

    flow_batch(prepare, solve, prev, curr, flow, use_initial, threads)
