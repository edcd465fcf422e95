"""Motion by polynomial expansion (Farneback 2003), equal to OpenCV's; the twin of cpp/kernels/farneback.cpp.

Coefficients and flow are planar by row: (y, plane, x). The compiler vectorises a loop when it can tell few arrays
apart at run time, or knows the distances within one: a chunk's values lie in one array, `CHUNK` apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import flow_batch

SMALLEST = 32  # no level is narrower or lower
BORDER = 5  # pixels along the edge whose systems count less
BORDER_WEIGHTS = np.array([0.14, 0.14, 0.4472, 0.4472, 0.4472], np.float32)
MARGIN = 32  # floats before and after a level's coefficients: what a run of taps may touch outside
OUTSIDE = MARGIN - 4  # columns outside the frame that are told apart
NEAR = 8  # pixels from which on a run is sampled as one
CHUNK = 128  # pixels of a row that are sampled at a time

# Where the values of a chunk begin: its flow, the first tap relative to the pixel and what part of the way the second
# is, whether both are inside the frame, the weights of three taps each way, the polynomials found, the systems.
U, V, DX, DY, PART_X, PART_Y, INSIDE, X0, X1, X2, Y0, Y1, Y2 = range(0, 13 * CHUNK, CHUNK)
FOUND, SYSTEM, PLACES = 13 * CHUNK, 18 * CHUNK, 23 * CHUNK
TABLES = 64  # kept of each kind, for the next pair

Floats = NDArray[np.float32]

# What lets loops vectorise; infinity and NaN keep their meaning.
_jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc", "arcp"})


@lru_cache(TABLES)
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


@lru_cache(TABLES)
def _blur(scale: float) -> NDArray[np.float64]:
    """Return the taps of the blur before a frame is reduced to `scale`."""
    sigma = (1 / scale - 1) / 2
    return _gaussian(max(round(sigma * 5) | 1, 3) // 2, sigma) if sigma else np.array([0.25, 0.5, 0.25])


@lru_cache(TABLES)
def _taps(n: int, m: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the samples that bilinear interpolation from n to m values reads, and the part of each one's successor."""
    place = ((np.arange(m) + 0.5) * (1 / (m / n)) - 0.5).astype(np.float32)
    at = np.floor(place).astype(np.int64)
    part = np.where((at < 0) | (at >= n - 1), np.float32(0), place - at.astype(np.float32))
    return at.clip(0, n - 1), part.astype(np.float32)


@lru_cache(TABLES)
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


@_jit
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


@_jit
def _expanded(image: Any, taps: Any) -> Any:
    """Return the coefficients y, x, yy, xx, xy of every pixel's polynomial, with a margin around them."""
    height, width = image.shape
    n = taps.shape[1] - 1
    g, xg, yy, ty, tx, txx, txy = taps
    flat = np.empty(5 * height * width + 2 * MARGIN, np.float32)
    flat[:MARGIN] = flat[len(flat) - MARGIN :] = 0
    out = flat[MARGIN : len(flat) - MARGIN].reshape((height, 5, width))
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
    return flat


@_jit
def _locate(flow: Any, y: int, begin: int, count: int, places: Any) -> None:
    """Write where the flow of a chunk of row y points: taps relative to the pixel, the parts, whether inside."""
    u, v = flow[y, 0, begin : begin + count], flow[y, 1, begin : begin + count]
    height, _, width = flow.shape
    zero, one, row = np.float32(0), np.float32(1), np.float32(y)
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    least_x, most_x = np.float32(-OUTSIDE), np.float32(width + OUTSIDE)
    least_y, most_y = np.float32(-2), np.float32(height + 1)
    for x in range(count):
        column = np.float32(np.int32(begin + x))
        px = min(most_x, max(least_x, column + u[x]))  # in this order NaN becomes the least
        py = min(most_y, max(least_y, row + v[x]))
        left, above = np.floor(px), np.floor(py)
        inside = (left >= zero) & (left < right) & (above >= zero) & (above < bottom)
        places[U + x] = u[x]
        places[V + x] = v[x]
        places[DX + x] = left - column
        places[DY + x] = above - row
        places[PART_X + x] = px - left
        places[PART_Y + x] = py - above
        places[INSIDE + x] = one if inside else zero


@_jit
def _run(places: Any, count: int) -> Any:
    """Return how many pixels have taps within the same three columns and rows, and the first of these."""
    one = np.float32(1)
    left = right = places[DX]
    above = below = places[DY]
    for x in range(1, count):
        dx, dy = places[DX + x], places[DY + x]
        if max(right, dx) - min(left, dx) > one or max(below, dy) - min(above, dy) > one:
            return x, left, above
        left, right = min(left, dx), max(right, dx)
        above, below = min(above, dy), max(below, dy)
    return count, left, above


@_jit
def _sample_near(curr: Any, at: Any, width: int, places: Any, left: Any, above: Any, count: int) -> None:
    """Sample a run of pixels from contiguous taps with tent weights; at: where three rows of taps begin in curr."""
    zero, one = np.float32(0), np.float32(1)
    for x in range(count):
        tx = places[DX + x] - left + places[PART_X + x] - one
        ty = places[DY + x] - above + places[PART_Y + x] - one
        inside = places[INSIDE + x]
        x0, x2 = max(-tx, zero), max(tx, zero)
        y0, y2 = max(-ty, zero), max(ty, zero)
        places[X0 + x] = x0
        places[X1 + x] = one - x0 - x2
        places[X2 + x] = x2
        places[Y0 + x] = y0 * inside
        places[Y1 + x] = (one - y0 - y2) * inside
        places[Y2 + x] = y2 * inside
    for c in range(5):
        top, middle, bottom = curr[at[0] + c * width :], curr[at[1] + c * width :], curr[at[2] + c * width :]
        found = places[c * CHUNK :]
        for x in range(count):
            x0, x1, x2 = places[X0 + x], places[X1 + x], places[X2 + x]
            found[FOUND + x] = (
                places[Y0 + x] * (x0 * top[x] + x1 * top[x + 1] + x2 * top[x + 2])
                + places[Y1 + x] * (x0 * middle[x] + x1 * middle[x + 1] + x2 * middle[x + 2])
                + places[Y2 + x] * (x0 * bottom[x] + x1 * bottom[x + 1] + x2 * bottom[x + 2])
            )


@_jit
def _sample(curr: Any, height: int, width: int, y: int, begin: int, count: int, places: Any) -> None:
    """Write the other frame's polynomials where the flow of a chunk of row y points, 0 outside."""
    x = 0
    while x < count:
        here, column = places[x:], MARGIN + begin + x
        pixels, left, above = _run(here, count - x)
        if pixels >= NEAR:
            row = y + int(above)
            at = (
                5 * width * min(max(row, 0), height - 1) + column + int(left),
                5 * width * min(max(row + 1, 0), height - 1) + column + int(left),
                5 * width * min(max(row + 2, 0), height - 1) + column + int(left),
            )
            _sample_near(curr, at, width, here, left, above, pixels)
        else:
            for i in range(pixels):
                inside = here[INSIDE + i] > 0
                top = 5 * width * (y + int(here[DY + i])) + column + i + int(here[DX + i])
                fx, fy = here[PART_X + i], here[PART_Y + i]
                gx, gy = np.float32(1) - fx, np.float32(1) - fy
                for c in range(5):
                    value = np.float32(0)
                    if inside:
                        j = top + c * width
                        k = j + 5 * width
                        value = gy * (gx * curr[j] + fx * curr[j + 1]) + fy * (gx * curr[k] + fx * curr[k + 1])
                    here[FOUND + c * CHUNK + i] = value
        x += pixels


@_jit
def _form(prev: Any, at: int, width: int, weights: Any, places: Any, count: int) -> None:
    """Write a chunk's systems: products of the mean quadratic part and of the difference of the linear parts."""
    a0, a1, a2 = prev[at:], prev[at + width :], prev[at + 2 * width :]
    a3, a4 = prev[at + 3 * width :], prev[at + 4 * width :]
    one, half = np.float32(1), np.float32(0.5)
    for x in range(count):
        u, v = places[U + x], places[V + x]
        linear = half * weights[x]
        mean = weights[x] * (one - half * places[INSIDE + x])
        yy = (a2[x] + places[FOUND + 2 * CHUNK + x]) * mean
        xx = (a3[x] + places[FOUND + 3 * CHUNK + x]) * mean
        xy = (a4[x] + places[FOUND + 4 * CHUNK + x]) * (half * mean)
        ry = (a0[x] - places[FOUND + x]) * linear + (yy * v + xy * u)
        rx = (a1[x] - places[FOUND + CHUNK + x]) * linear + (xy * v + xx * u)
        places[SYSTEM + x] = yy * yy + xy * xy
        places[SYSTEM + CHUNK + x] = (yy + xx) * xy
        places[SYSTEM + 2 * CHUNK + x] = xx * xx + xy * xy
        places[SYSTEM + 3 * CHUNK + x] = yy * ry + xy * rx
        places[SYSTEM + 4 * CHUNK + x] = xy * ry + xx * rx


@_jit
def _systems(prev: Any, curr: Any, flow: Any, y: int, weights: Any, places: Any, systems: Any, radius: int) -> None:
    """Write the systems of row y, plane after plane; the first and last value of each go on for `radius` pixels."""
    height, _, width = flow.shape
    pitch = width + 2 * radius
    for begin in range(0, width, CHUNK):
        count = min(CHUNK, width - begin)
        _locate(flow, y, begin, count, places)
        _sample(curr, height, width, y, begin, count, places)
        _form(prev, MARGIN + 5 * width * y + begin, width, weights[begin:], places, count)
        for c in range(5):
            line, found = systems[c * pitch + radius + begin :], places[SYSTEM + c * CHUNK :]
            for x in range(count):
                line[x] = found[x]
    for c in range(5):
        line = systems[c * pitch : (c + 1) * pitch]
        line[:radius] = line[radius]
        line[radius + width :] = line[radius + width - 1]


@_jit
def _add(out: Any, weight: Any, row: Any) -> None:
    for x in range(len(out)):
        out[x] += weight * row[x]


@_jit
def _box(rows: Any, length: int, out: Any) -> None:
    """Write rows[0, x] + ... + rows[0, x + length - 1]: rows[k] take sums of 2^k neighbours, nothing is subtracted."""
    out[:] = 0
    done, k = 0, 0
    while True:
        size = 1 << k
        if length & size:
            _add(out, np.float32(1), rows[k, done:])
            done += size
        if done == length:
            return
        row, shifted, doubled = rows[k], rows[k, size:], rows[k + 1]
        for x in range(len(shifted)):
            doubled[x] = row[x] + shifted[x]
        k += 1


@_jit
def _solve_row(rest: Any, sums: Any, running: Any, total: Any, bias: Any, u: Any, v: Any) -> None:
    """Add a row's sums to the running ones and solve the systems of these and of the rest."""
    for x in range(len(total)):
        r = running[x] + sums[x]
        running[x] = r
        total[x] = rest[x] + r
    width, pitch = len(u), len(total) // 5
    g11, g12, g22, h1, h2 = total, total[pitch:], total[2 * pitch :], total[3 * pitch :], total[4 * pitch :]
    for x in range(width):
        u[x] = np.float32(1) / (g11[x] * g22[x] - g12[x] * g12[x] + bias)
    for x in range(width):
        v[x] = (g22[x] * h1[x] - g12[x] * h2[x]) * u[x]
    for x in range(width):
        u[x] *= g11[x] * h2[x] - g12[x] * h1[x]


@_jit
def _solve_level(
    prev: Any, curr: Any, flow: Any, weights: Any, iterations: int, radius: int, kernel: Any, bias: Any, first: bool
) -> Any:
    """Iterate on one level's flow; an empty kernel stands for a box, summed over rows by van Herk's scheme (see the C++
    source)."""
    height, _, width = flow.shape
    length = 2 * radius + 1
    gaussian = len(kernel) > 0
    size = 5 * (width + 2 * radius)
    one = np.float32(1)
    ring = np.zeros((length + 1, size), np.float32)
    running, total = np.empty(size, np.float32), np.empty(size, np.float32)
    doublings = 1
    while 1 << doublings <= length:
        doublings += 1
    systems = np.zeros((doublings, size + length), np.float32)
    places = np.empty(PLACES, np.float32)
    out = np.empty_like(flow)
    for _ in range(iterations):
        last = -1
        for r in range(-radius - first, height + radius):
            row = min(max(r, 0), height - 1)
            place = (r + radius) % length
            sums = ring[place] if r >= -radius else ring[1]  # ring[1]: the box of width 1 always takes in row 0
            if row == last and r != -radius:
                sums[:] = ring[place - 1 if place > 0 else length - 1]
            else:
                counts = weights[min(row, max(BORDER, row + len(weights) - height))]
                _systems(prev, curr, flow, row, counts, places, systems[0], radius)
                if gaussian:
                    sums[:] = 0
                    for t in range(length):
                        _add(sums, kernel[t], systems[0, t:])
                else:
                    _box(systems, length, sums)
                    if first:
                        for c in range(5):
                            sums[c * width : (c + 1) * width] += systems[0, c * width]
                last = row
            if r < -radius:
                continue
            if place == 0:
                running[:] = 0
            if r < radius:
                if not gaussian:
                    _add(running, one, sums)
            else:
                rest = ring[place + 1]
                if gaussian:
                    running[:] = 0
                    for t in range(length):
                        _add(running, kernel[t], ring[(place + 1 + t) % length])
                    sums = rest = ring[length]
                _solve_row(rest, sums, running, total, bias, out[r - radius, 0], out[r - radius, 1])
            if not gaussian and place == length - 1:
                for i in range(length - 2, 0, -1):
                    _add(ring[i], one, ring[i + 1])
        flow, out = out, flow
    return flow


@_jit
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


@lru_cache(TABLES)
def _edge_weights(height: int, width: int) -> Floats:
    """Return how much each pixel counts: the rows near the edges and one for all rows between them."""

    def along(n: int) -> tuple[Floats, NDArray[np.bool_]]:
        weights = np.ones(n, np.float32)
        for side in (weights, weights[::-1]):
            side[:BORDER] *= BORDER_WEIGHTS[:n]
        # OpenCV's unsigned test for near the edge; below 10 pixels it wraps around.
        return weights, (np.arange(n) - BORDER) % 2**32 >= (n - 2 * BORDER) % 2**32

    (down, edge_y), (across, edge_x) = along(height), along(width)
    rows = np.arange(min(height, 2 * BORDER + 1))
    rows[BORDER + 1 :] += height - len(rows)
    weights: Floats = np.where(edge_y[rows, None] | edge_x, down[rows, None] * across, np.float32(1))
    return weights


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
            now = _solve_level(a[k], b[k], now, _edge_weights(*sizes[k][:2]), iterations, radius, kernel, bias, first)
        out[:] = now.transpose(0, 2, 1)

    flow_batch(prepare, solve, prev, curr, flow, use_initial, threads)
