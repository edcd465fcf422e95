"""Band power by a DFT of only the bins that the bands need; the twin of cpp/kernels/band_power.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._arrays import not_finite
from mmme_fast._numba._batch import parallel_for

PANEL = 56  # bins whose table exists at a time
UNROLL = 8  # table rows that one pass over the bins takes in: as _dft() writes them out


def _tables(taper: NDArray[np.float32], nfft: int, bins: NDArray[np.int32]) -> NDArray[np.float32]:
    """Cosines and sines about the window's centre, (2, m, PANEL), zeros where padded; last row: the taper's own DFT."""
    window = len(taper)
    half = (window + 1) // 2
    table = np.zeros((2, -(-half // UNROLL) * UNROLL + 1, PANEL), np.float32)
    angle = (2 * np.arange(half)[:, None] + (window % 2 == 0)) * bins.astype(np.int64) % (2 * nfft) * (np.pi / nfft)
    right, left = taper[window // 2 :].astype(np.float64), taper[(window - 1) // 2 :: -1].astype(np.float64)
    if window % 2:
        left[0] = 0
    for part, values, folded in ((0, np.cos(angle), right + left), (1, np.sin(angle), right - left)):
        table[part, :half, : len(bins)] = values
        table[part, -1, : len(bins)] = folded @ values
    return table


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def _total(samples: Any) -> float:
    total = 0.0
    for i in range(len(samples)):
        total += np.float64(samples[i])
    return total


@njit(cache=True, nogil=True, fastmath={"contract"})
def _fold(samples: Any, constant: Any, taper: Any, even: Any, odd: Any) -> None:
    half = len(taper) - len(taper) // 2
    right, taper_right = samples[-half:], taper[-half:]
    left, taper_left = samples[:half][::-1], taper[:half][::-1]
    for m in range(half):
        r = np.float32(right[m] - constant) * taper_right[m]
        l = np.float32(left[m] - constant) * taper_left[m]  # noqa: E741
        even[m] = r + l
        odd[m] = r - l
    if len(taper) % 2:
        even[0] *= np.float32(0.5)  # the middle sample met itself


@njit(cache=True, nogil=True, fastmath={"contract"})
def _dft(folded: Any, table: Any, constant: Any, dft: Any) -> None:
    # One flat array and a width that the compiler knows: otherwise it does not vectorise.
    flat = table.reshape(-1)
    for b in range(PANEL):
        dft[b] = constant * flat[len(folded) * PANEL + b]
    for m in range(0, len(folded), UNROLL):
        x0, x1, x2, x3 = folded[m], folded[m + 1], folded[m + 2], folded[m + 3]
        x4, x5, x6, x7 = folded[m + 4], folded[m + 5], folded[m + 6], folded[m + 7]
        t = flat[m * PANEL : (m + UNROLL) * PANEL]
        for b in range(PANEL):
            dft[b] += (
                x0 * t[b]
                + x1 * t[b + PANEL]
                + x2 * t[b + 2 * PANEL]
                + x3 * t[b + 3 * PANEL]
                + x4 * t[b + 4 * PANEL]
                + x5 * t[b + 5 * PANEL]
                + x6 * t[b + 6 * PANEL]
                + x7 * t[b + 7 * PANEL]
            )


@njit(cache=True, nogil=True, fastmath={"contract"})
def _windows(
    data: Any, stride: int, out: Any, starts: Any, taper: Any, detrend: bool, table: Any, weights: Any, add: bool
) -> None:
    # Arrays of their own, so that the compiler sees that they do not overlap.
    even, odd = np.zeros(table.shape[1] - 1, np.float32), np.zeros(table.shape[1] - 1, np.float32)
    re, im = np.empty(PANEL, np.float32), np.empty(PANEL, np.float32)
    window = len(taper)
    for i in range(len(starts)):
        for channel in range(out.shape[1]):
            start = channel * stride + starts[i]
            samples = data[start : start + window]
            mean = _total(samples) / window
            # The mean as float goes first, so that a large offset costs no digits; its rounding follows as a constant.
            near = np.float32(mean)
            constant = np.float32(np.float64(near) - mean) if detrend else near
            _fold(samples, near, taper, even, odd)
            _dft(even, table[0], constant, re)
            _dft(odd, table[1], constant, im)
            for k in range(out.shape[2]):
                total = np.float32(0)
                for b in range(weights.shape[1]):
                    total += weights[k, b] * (re[b] * re[b] + im[b] * im[b])
                out[i, channel, k] = out[i, channel, k] + total if add else total


def band_power(
    data: NDArray[Any],
    out: NDArray[np.float32],
    starts: NDArray[np.int64],
    taper: NDArray[np.float32],
    detrend: bool,
    nfft: int,
    bins: NDArray[np.int32],
    weights: NDArray[np.float32],
    threads: int,
) -> None:
    """Weighted sums of |DFT|^2 over windows, written to out."""
    channels, samples = data.shape
    stride = data.strides[0] // data.itemsize
    flat = np.lib.stride_tricks.as_strided(
        data, ((channels - 1) * stride + samples,), (data.itemsize,), writeable=False
    )
    tasks = min(len(starts), threads)
    for first in range(0, len(bins), PANEL):
        panel = slice(first, first + PANEL)
        table = _tables(taper, nfft, bins[panel])
        weight = np.ascontiguousarray(weights[:, panel])

        def body(task: int, table: Any = table, weight: Any = weight, add: bool = first > 0) -> None:
            own = slice(len(starts) * task // tasks, len(starts) * (task + 1) // tasks)
            _windows(flat, stride, out[own], starts[own], taper, detrend, table, weight, add)

        parallel_for(tasks, threads, body)


BATCH = 64  # overlapping windows whose DFTs exist at a time
NEVER = 1 << 30


def _moves(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return after how many segments, the nearest to the anchor first, the sums take each of their references.

    The first is that of the first segment. A segment that makes the sums at least twice as long as what their reference
    is of moves it to all samples so far and its own.
    """
    samples = np.cumsum(lengths)
    moves, of = [0], samples[0]
    for j in range(1, len(samples)):
        if samples[j] >= 2 * of:
            moves.append(j)
            of = samples[j]
    return np.array([*moves, NEVER])


@njit(cache=True, nogil=True)
def _reference(samples: Any) -> Any:
    """What samples are taken less of before they become floats, so that a large offset costs no digits.

    The median of the means of a few each at the beginning, in the middle and at the end: one artefact must not draw it
    away.
    """
    few = min(1 + len(samples) // 256, 8)
    middle, last = (len(samples) - few) // 2, len(samples) - few
    a, b, c = np.float64(samples[0]), np.float64(samples[middle]), np.float64(samples[last])
    for i in range(1, few):
        a += samples[i]
        b += samples[middle + i]
        c += samples[last + i]
    return max(min(a, b), min(max(a, b), c)) / few


@njit(cache=True, nogil=True)
def _which(moves: Any, taken: int) -> int:
    """The reference of the sums of so many segments."""
    i = 0
    while moves[i + 1] < taken:
        i += 1
    return i


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_rows(sums: Any, x: Any, begin: int, end: int, table: Any, run: int, to: Any) -> None:
    # Of the run of UNROLL rows from `run` on only begin..end.
    x0 = x[run] if begin <= run < end else np.float32(0)
    x1 = x[run + 1] if begin <= run + 1 < end else np.float32(0)
    x2 = x[run + 2] if begin <= run + 2 < end else np.float32(0)
    x3 = x[run + 3] if begin <= run + 3 < end else np.float32(0)
    x4 = x[run + 4] if begin <= run + 4 < end else np.float32(0)
    x5 = x[run + 5] if begin <= run + 5 < end else np.float32(0)
    x6 = x[run + 6] if begin <= run + 6 < end else np.float32(0)
    x7 = x[run + 7] if begin <= run + 7 < end else np.float32(0)
    width = 2 * PANEL
    t = table[run * width : (run + UNROLL) * width]
    for b in range(2 * PANEL):
        to[b] = sums[b] + (
            x0 * t[b]
            + x1 * t[b + 2 * PANEL]
            + x2 * t[b + 4 * PANEL]
            + x3 * t[b + 6 * PANEL]
            + x4 * t[b + 8 * PANEL]
            + x5 * t[b + 10 * PANEL]
            + x6 * t[b + 12 * PANEL]
            + x7 * t[b + 14 * PANEL]
        )


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add(to: Any, row: Any, x: Any) -> None:
    for b in range(2 * PANEL):
        to[b] += row[b] * x


@njit(cache=True, nogil=True, fastmath={"contract"})
def _anchored(
    x: Any, n: int, stops: Any, table: Any, rests: Any, back: Any, on: Any, moves: Any, closings: Any, dfts: Any
) -> None:
    """DFTs of windows around one anchor.

    x: the n samples before it and the n after it, each padded to whole runs; moves: of the reference before and after
    it; closings: what makes the two of a window one.
    """
    padded = len(x) // 2
    before, after = x[:padded], x[padded:]
    # Runs lie where the rows say, not where a window ends, so that windows do not matter to each other.
    sums = np.zeros(2 * PANEL, np.float32)
    t, moved = n, 0
    for i in range(len(stops) - 1, -1, -1):
        while t > stops[i]:
            if t == n - back[moved + 1]:
                _add(sums, rests[t], moves[0, moved])
                moved += 1
            to = max((t - 1) // UNROLL * UNROLL, n - back[moved + 1])
            if to < stops[i]:
                break
            _add_rows(sums, before, to, t, table, to // UNROLL * UNROLL, sums)
            t = to
        if t > stops[i]:
            _add_rows(sums, before, stops[i], t, table, (t - 1) // UNROLL * UNROLL, dfts[i])
        else:
            dfts[i] = sums
        _add(dfts[i], rests[stops[i]], closings[i])
    sums[:] = 0
    part = np.empty(2 * PANEL, np.float32)
    t, moved = 0, 0
    for i in range(len(stops)):
        while t < stops[i]:
            if t == on[moved + 1]:
                _add(sums, rests[t], moves[1, moved])
                moved += 1
            to = min(t // UNROLL * UNROLL + UNROLL, on[moved + 1])
            if to > stops[i]:
                break
            _add_rows(sums, after, t, to, table, t // UNROLL * UNROLL, sums)
            t = to
        if t < stops[i]:
            _add_rows(sums, after, t, stops[i], table, t // UNROLL * UNROLL, part)
        else:
            part[:] = sums
        dft = dfts[i]
        for b in range(2 * PANEL):
            dft[b] += part[b]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _reduce(folded: Any, half: int, basis: Any, to: Any) -> None:
    """Its sums with the columns of the basis."""
    to[:] = 0
    for m in range(half):
        for r in range(basis.shape[1]):
            to[r] += basis[m, r] * folded[m]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _share(
    samples: Any, reference: Any, flat: Any, basis: Any, waves: Any, turn: Any, even: Any, odd: Any, reduced: Any,
    to: Any,
) -> None:  # fmt: skip
    """DFT of a segment less its reference, with phases that count from the anchor."""
    re, im = np.empty(PANEL, np.float32), np.empty(PANEL, np.float32)
    _fold(samples, reference, flat[: len(samples)], even, odd)
    which, half = len(samples) % 2, (len(samples) + 1) // 2
    if basis.shape[3]:
        _reduce(even, half, basis[which, 0], reduced[0])
        _reduce(odd, half, basis[which, 1], reduced[1])
        _dft(reduced[0], waves[which, 0], np.float32(0), re)
        _dft(reduced[1], waves[which, 1], np.float32(0), im)
    else:
        rows = -(-half // UNROLL) * UNROLL
        even[half:rows] = 0  # of a longer one before it
        odd[half:rows] = 0
        _dft(even[:rows], waves[which, 0], np.float32(0), re)
        _dft(odd[:rows], waves[which, 1], np.float32(0), im)
    for b in range(PANEL):
        c, s = turn[b], turn[PANEL + b]
        to[b] = c * re[b] + s * im[b]
        to[PANEL + b] = s * re[b] - c * im[b]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _joined(
    x: Any, before: Any, after: Any, stops: Any, ones: Any, rests: Any, back: Any, on: Any, moves: Any, closings: Any,
    dfts: Any,
) -> None:  # fmt: skip
    """The same as _anchored() from the DFTs of the segments before and after the anchor; x: what each is less."""
    segments = len(before)
    sums = np.zeros(2 * PANEL, np.float32)
    j, moved = segments, 0
    for i in range(len(stops) - 1, -1, -1):
        while j > stops[i]:
            if j == segments - back[moved + 1]:
                _add(sums, rests[j], moves[0, moved])
                moved += 1
            j -= 1
            own, one, offset = before[j], ones[j], x[j]
            for b in range(2 * PANEL):
                sums[b] += own[b] + one[b] * offset
        dfts[i] = sums
        _add(dfts[i], rests[j], closings[i])
    sums[:] = 0
    j, moved = 0, 0
    for i in range(len(stops)):
        while j < stops[i]:
            if j == on[moved + 1]:
                _add(sums, rests[j], moves[1, moved])
                moved += 1
            own, one, offset = after[j], ones[j], x[segments + j]
            for b in range(2 * PANEL):
                sums[b] += own[b] + one[b] * offset
            j += 1
        dft = dfts[i]
        for b in range(2 * PANEL):
            dft[b] += sums[b]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _overlapping(
    data: Any, out: Any, starts: Any, order: Any, first: int, n: int, cuts: Any, shared: bool, basis: Any, a: float,
    b: float, detrend: bool, back: Any, on: Any, constants: Any, centres: Any, ones: Any, rests: Any, turns: Any,
    waves: Any, weights: Any, add: bool
) -> None:  # fmt: skip
    segments = len(cuts) - 1  # cuts: where segments begin, and n
    padded = -(-segments // UNROLL) * UNROLL
    x = np.zeros(2 * padded, np.float32)
    stops = np.empty(BATCH, np.int64)
    dfts = np.empty((BATCH, 2 * PANEL), np.float32)
    power = np.empty(len(centres), np.float32)
    # The n samples before the anchor and those after it take turns in two places.
    shares = np.empty((2, segments if shared else 0, 2 * PANEL), np.float32)
    most = -(-(np.max(np.diff(cuts)) + 1) // 2 // UNROLL) * UNROLL
    even, odd = np.zeros(most, np.float32), np.zeros(most, np.float32)
    flat = np.ones(2 * most, np.float32)
    reduced = np.zeros((2, waves.shape[2] - 1), np.float32)
    before_refs, after_refs = np.empty(len(back), data.dtype), np.empty(len(on), data.dtype)
    refs = np.empty(2 * segments, data.dtype)  # of each segment
    moves = np.empty((2, max(len(back), len(on))), np.float32)
    closings = np.empty(BATCH, np.float32)
    for channel in range(len(data)):
        samples = data[channel]
        known = 0  # segments up to here have their DFT
        begin = 0
        while begin < len(order):
            number = -(-(starts[order[begin]] + first) // n)
            anchor = number * n - first
            count = 0
            while count < BATCH and begin + count < len(order) and starts[order[begin + count]] <= anchor:
                stops[count] = np.searchsorted(cuts, starts[order[begin + count]] - anchor + n)
                count += 1
            # A constant changes no bin but 0, so that samples may be taken less a reference. It must be one of the
            # window's own samples, or of some of them, and the only one that all these windows hold is that at the
            # anchor, which may be an artefact. So both sides' references move on the way, and to make the two of a
            # window one, its sums before the anchor move by their difference.
            begins, ends = stops[0], stops[count - 1]
            if begins < segments:
                for i in range(_which(back, segments - begins) + 1):
                    before_refs[i] = _reference(samples[anchor - n + cuts[segments - 1 - back[i]] : anchor])
                    if i > 0:
                        moves[0, i - 1] = before_refs[i - 1] - before_refs[i]
            for i in range(_which(on, ends) + 1):
                after_refs[i] = _reference(samples[anchor : anchor + cuts[on[i] + 1]])
                if i > 0:
                    moves[1, i - 1] = after_refs[i] - after_refs[i - 1]
            for i in range(count):
                closings[i] = 0
                if stops[i] < segments:
                    closings[i] = before_refs[_which(back, segments - stops[i])] - after_refs[_which(on, stops[i])]
            after = segments if shared else padded
            for side in range(2):
                which = 0
                for j in range(segments - begins if side == 0 else ends):
                    if j == (back if side == 0 else on)[which + 1]:
                        which += 1
                    t = segments - 1 - j if side == 0 else j
                    start = anchor + cuts[t] - (n if side == 0 else 0)
                    own_ref = samples[start]
                    if shared:
                        refs[side * segments + t] = _reference(samples[start : start + cuts[t + 1] - cuts[t]])
                        own_ref = refs[side * segments + t]
                    x[side * after + t] = own_ref - (before_refs if side == 0 else after_refs)[which]
            if not shared:
                _anchored(x, n, stops[:count], ones.reshape(-1), rests, back, on, moves, closings, dfts)
            else:
                for t in range(begins, segments + ends):
                    block, j = (number, t) if t < segments else (number + 1, t - segments)
                    start = anchor + (block - number - 1) * n + cuts[j]
                    if start >= known:
                        own = samples[start : start + cuts[j + 1] - cuts[j]]
                        _share(own, refs[t], flat, basis, waves, turns[j], even, odd, reduced, shares[block % 2, j])
                known = anchor + cuts[ends]
                before, other = shares[number % 2], shares[(number + 1) % 2]
                _joined(x, before, other, stops[:count], ones, rests, back, on, moves, closings, dfts)
            for i in range(count):
                dft = dfts[i]
                for place in constants:
                    dft[place] = np.float32(0) if detrend else dft[place] + np.float32(np.float64(after_refs[0]) * n)
                    if detrend:
                        dft[PANEL + place] = np.float32(0)
                phase = 2 * np.pi * cuts[stops[i]] / n  # of the taper, which starts with the window
                c, s = np.float32(b / 2 * np.cos(phase)), np.float32(b / 2 * np.sin(phase))
                for k in range(len(centres)):
                    p = centres[k]
                    q = p + PANEL
                    re = np.float32(a) * dft[p] - c * (dft[p + 1] + dft[p - 1]) + s * (dft[q + 1] - dft[q - 1])
                    im = np.float32(a) * dft[q] - c * (dft[q + 1] + dft[q - 1]) - s * (dft[p + 1] - dft[p - 1])
                    power[k] = re * re + im * im
                window = order[begin + i]
                for k in range(len(weights)):
                    total = np.float32(0)
                    for j in range(len(power)):
                        total += weights[k, j] * power[j]
                    out[window, channel, k] = out[window, channel, k] + total if add else total
            begin += count


def _panels(bins: NDArray[np.int32]) -> list[tuple[slice, NDArray[np.int64]]]:
    """Runs of bins and, for each, the bins of the DFTs that it takes: they and both neighbours of each."""
    panels: list[tuple[slice, NDArray[np.int64]]] = []
    first = 0
    while first < len(bins):
        last = len(bins)
        while True:
            places: NDArray[np.int64] = np.unique(bins[first:last].astype(np.int64)[:, None] + [-1, 0, 1])
            if len(places) <= PANEL:
                break
            last = min(last - 1, first + PANEL)
        panels.append((slice(first, last), places))
        first = last
    return panels


def overlapping_band_power(
    data: NDArray[Any],
    out: NDArray[np.float32],
    starts: NDArray[np.int64],
    first: int,
    window: int,
    cuts: NDArray[np.int32],
    places: NDArray[np.int32],
    basis: NDArray[np.float32],
    a: float,
    b: float,
    detrend: bool,
    bins: NDArray[np.int32],
    weights: NDArray[np.float32],
    threads: int,
) -> list[int]:
    """The same with sums that windows share, for a taper a - b cos and a DFT as long as they are.

    Returns the windows that hold a power which is NaN or infinite.
    """
    order = np.argsort(starts, kind="stable")
    tasks = min(len(starts), threads)
    # There are no steps: each place is a cut.
    edges = np.append(places, window).astype(np.int64) if len(cuts) else np.arange(window + 1)
    if len(places) > len(cuts):
        basis = np.empty((2, 0, 0, 2), np.float32)
    lengths = np.diff(edges)
    back, on = _moves(lengths[::-1]), _moves(lengths)
    segments, half = len(lengths), (int(lengths.max()) + 1) // 2
    rank = basis.shape[2]
    columns = np.ascontiguousarray(basis.transpose(0, 3, 1, 2))
    for panel, near in _panels(bins):
        frequency = np.pi / window * near
        # About the centre of every segment: its phase, and the DFT of ones; and about the centre of one of an even or
        # odd number of samples, theirs.
        angle = (edges[:-1] + edges[1:] - 1)[:, None] * near % (2 * window) * (np.pi / window)
        with np.errstate(invalid="ignore"):
            one = np.sin(lengths[:, None] * frequency) / np.sin(frequency)
        one = np.where(near % window, one, lengths[:, None])
        turns = np.zeros((segments, 2, PANEL), np.float32)
        turns[:, 0, : len(near)], turns[:, 1, : len(near)] = np.cos(angle), -np.sin(angle)
        ones = np.zeros((-(-segments // UNROLL) * UNROLL, 2, PANEL), np.float32)
        ones[:segments, 0, : len(near)], ones[:segments, 1, : len(near)] = one * np.cos(angle), -one * np.sin(angle)
        rest = (window - edges)[:, None]  # of ones from every segment on to the window's end
        with np.errstate(invalid="ignore"):
            ahead = np.where(
                near % window, np.sin(rest * near % (2 * window) * (np.pi / window)) / np.sin(frequency), rest
            )
        angle = (window + edges - 1)[:, None] * near % (2 * window) * (np.pi / window)
        rests = np.zeros((segments + 1, 2 * PANEL), np.float32)
        rests[:, : len(near)], rests[:, PANEL : PANEL + len(near)] = ahead * np.cos(angle), -ahead * np.sin(angle)
        terms = rank or half  # a segment's waves, or what the basis makes of them
        waves = np.zeros((2, 2, -(-terms // UNROLL) * UNROLL + 1, PANEL), np.float32)  # and no constant to add
        for odd in (0, 1):
            inside = (2 * np.arange(half)[:, None] + (odd == 0)) * frequency
            for part, wave in enumerate((np.cos(inside), np.sin(inside))):
                waves[odd, part, :terms, : len(near)] = columns[odd, part].T @ wave if rank else wave
        constants = np.flatnonzero(near % window == 0)
        centres = np.searchsorted(near, bins[panel])
        tables = ones.reshape(len(ones), -1), rests, turns.reshape(segments, -1), waves
        weight = np.ascontiguousarray(weights[:, panel])

        def body(
            task: int, constants: Any = constants, centres: Any = centres, tables: Any = tables, weight: Any = weight,
            add: bool = panel.start > 0,
        ) -> None:  # fmt: skip
            own = order[len(order) * task // tasks : len(order) * (task + 1) // tasks]
            _overlapping(
                data, out, starts, own, first, window, edges, len(cuts) > 0, columns, a, b, detrend, back, on,
                constants, centres, *tables, weight, add,
            )  # fmt: skip

        parallel_for(tasks, threads, body)
    return not_finite(out)
