"""Spotting: block signals in, scores and intervals out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import number, one_of, reals, whole
from mmme_fast._backend import kernels, resolve_threads

Floats = NDArray[np.float64]


def sliding_window(
    values: ArrayLike, window: int, statistic: str = "mean", *, p: float = 0.55, threads: int | None = None
) -> NDArray[np.float32]:
    """A statistic over every window of neighbouring samples, in time that does not depend on the window's length.

    Parameters
    ----------
    values : array_like, (sample,) or (sample, lane)
        Signals, side by side; computed as float32.
    window : int
        Samples in a window.
    statistic : {"mean", "sum", "max", "min", "range", "threshold"}, default "mean"
        "range" is max - min. "threshold" is mean + p (max - mean), the threshold of the spotting literature.
    p : float, default 0.55
        For "threshold" only, 0 to 1.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (sample - window + 1,) or (sample - window + 1, lane)
        Entry i is the statistic of samples i to i + window - 1.

    References
    ----------
    van Herk, "A fast algorithm for local minimum and maximum filters on rectangular and octagonal kernels", Pattern
    Recognition Letters 13, 1992. Moilanen, Zhao, Pietikainen, "Spotting rapid facial movements from videos using
    appearance-based feature difference analysis", ICPR 2014 (the threshold).

    Examples
    --------
    >>> mf.sliding_window([1, 2, 3, 4, 5], 2)
    array([1.5, 2.5, 3.5, 4.5], dtype=float32)
    >>> mf.sliding_window([1, 2, 3, 4, 5], 3, "max")
    array([3., 4., 5.], dtype=float32)
    """
    array = reals(values, "values")
    if array.ndim not in (1, 2):
        raise ValueError(f"values must be 1-D or 2-D (sample, lane), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite, got NaN or infinity")
    one_of(statistic, "statistic", ("mean", "sum", "max", "min", "range", "threshold"))
    window = whole(window, "window", low=1, high=len(array))
    lanes = array.reshape(len(array), -1)
    out = np.empty((len(lanes) - window + 1, lanes.shape[1]), np.float32)
    kernels().sliding(lanes, out, window, statistic, number(p, "p", low=0, high=1), resolve_threads(threads))
    return out.reshape(-1) if array.ndim == 1 else out


def block_means(values: ArrayLike, rows: int, columns: int, *, threads: int | None = None) -> NDArray[np.float32]:
    """Means over the cells of a lattice.

    Parameters
    ----------
    values : array_like, (frame, y, x) or (frame, y, x, channel)
        Images, such as strain or flow; computed as float32.
    rows, columns : int
        Cells along y and x. Their borders lie at ``y * i // rows``: cells differ by at most one pixel.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (frame, rows, columns) or (frame, rows, columns, channel)

    Examples
    --------
    >>> from mmme_fast.spotting import block_means
    >>> block_means(np.arange(16).reshape(1, 4, 4), 2, 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]], dtype=float32)
    """
    array = reals(values, "values")
    if array.ndim not in (3, 4):
        raise ValueError(f"values must be (frame, y, x) or (frame, y, x, channel), got shape {array.shape}")
    rows = whole(rows, "rows", low=1, high=array.shape[1])
    columns = whole(columns, "columns", low=1, high=array.shape[2])
    out = np.empty((len(array), rows, columns, *array.shape[3:]), np.float32)
    four = (array, out) if array.ndim == 4 else (array[..., None], out[..., None])
    kernels().block_means(*four, resolve_threads(threads))
    return out


@dataclass(frozen=True)
class Matched:
    """Spotting by a bank of matched filters in time over the block signals of a face; training-free.

    A block signal is the mean flow *vector* around one lattice point, head motion removed. The bank holds raised
    cosines of eleven durations, each with flanks of zero mean, so that drift and slow changes of pose have no answer. A
    block answers to a duration with a vector: the least-squares amplitude of that shape. It counts when it stands out
    of the local noise *and* is large enough to be seen. Answers are taken strongest first; one that a stronger interval
    explains, as its side lobe or its spread over the skin, is passed over.

    Times are in seconds, amplitudes in pixels of a crop 256 pixels wide.

    Parameters
    ----------
    durations : tuple of float
        Of the bank. Default: eleven from 0.2 to 2 s, in equal ratios.
    snr : float, default 8.0
        Least amplitude over the local noise.
    amplitude : float, default 0.22
        Least amplitude.
    noise_window : float, default 10.0
        Over which noise is local.
    boundary : float, default 0.1
        Onset and offset are where the motion crosses this part of its height.
    micro_below : float, default 0.54
        Shorter ones are micro-expressions.
    merge : float, default 0.4
        Intervals of a larger IoU are one.
    unrest : float, default 3.0
        Least amplitude over what the whole frame moves otherwise than a head in a plane does, beyond 0.1 px.
    shortest : float, default 0.12
        Least length of an interval.
    aside : float, default 0.1
        Elsewhere on the face, less than twice this part of a stronger motion is its echo.
    blink_longest : float, default 0.5
        Longest blink.
    blink_amplitude : float, default 1.5
        A downward motion of both eyes' height as large as this is a blink even when alone.
    core, margin : float, default 15.0, 6.0
        A film is decided in stretches of `core`, with `margin` in view before and after.
    """

    durations: tuple[float, ...] = tuple(float(d) for d in np.geomspace(0.2, 2.0, 11))
    snr: float = 8.0
    amplitude: float = 0.22
    noise_window: float = 10.0
    boundary: float = 0.1
    micro_below: float = 0.54
    merge: float = 0.4
    unrest: float = 3.0
    shortest: float = 0.12
    aside: float = 0.1
    blink_longest: float = 0.5
    blink_amplitude: float = 1.5
    core: float = 15.0
    margin: float = 6.0

    def __post_init__(self) -> None:
        if self.margin < 2 * max(self.durations):
            raise ValueError(f"margin must be at least twice the longest duration, got {self.margin!r}")


SLOW = 0.5  # s: the least amplitude grows with the square root of a duration beyond, as drift does
EYE_BAND = 0.06  # of the width: the height of the band in which an eye's lids move
UNREST = 0.1  # px: that much the estimate's own noise moves
UPHILL, STEP = 1.05, 0.03  # what motion may rise from block to block, a factor and pixels, and still be the same


@dataclass
class Found:
    """An interval in samples, and the motion that gave it away."""

    onset: float
    apex: float
    offset: float
    score: float  # 1 is the threshold
    block: int  # where it is strongest
    pattern: Floats  # (block, 2): the motion of all blocks in it, in pixels of a crop 256 pixels wide
    type: str = ""  # "micro", "macro" or "blink"


class _Bank:
    """The filters of `Matched` at one rate of samples."""

    def __init__(self, method: Matched, rate: float) -> None:
        self.method, self.rate = method, rate
        self.shapes: list[Floats] = []  # of zero mean; the inner product with a signal is the amplitude
        self.halves: list[float] = []  # of the raised cosines alone
        for duration in method.durations:
            half = max(duration * rate / 2, 1.5)
            reach = int(np.ceil(half + rate * np.clip(0.4 * duration, 0.12, 0.5)))
            t = np.arange(-reach, reach + 1)
            shape = np.where(np.abs(t) < half, 0.5 + 0.5 * np.cos(np.pi * t / half), 0.0)
            shape -= shape.mean()
            self.shapes.append(shape / (shape @ shape))
            self.halves.append(half)

    def answers(
        self, blocks: Floats, valid: NDArray[np.bool_], unrest: Floats, film: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score (1 is the threshold) and amplitude of every filter, (duration, sample, block).

        `film` says which samples are the film's; what was put before and after them has no noise.
        """
        samples, count, _ = blocks.shape
        score, size = np.zeros((2, len(self.shapes), samples, count), np.float32)
        lost = (~valid).astype(np.float32)
        length = 1 << (samples + max(map(len, self.shapes)) - 2).bit_length()
        lines = np.ascontiguousarray(blocks.reshape(samples, -1).T, np.float32)
        spectrum = np.fft.rfft(lines, length)
        for i, shape in enumerate(self.shapes):
            if samples < len(shape):
                continue
            # Answers where the whole filter lies on known signal.
            response = np.fft.irfft(spectrum * np.fft.rfft(shape.astype(np.float32), length), length)
            vectors = response[:, len(shape) - 1 : samples].reshape(count, 2, -1)
            inner = slice(len(shape) // 2, samples - len(shape) // 2)
            size[i, inner] = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2).T
            noise = self._noise(vectors, self.halves[i], [max(end - len(shape) // 2, 0) for end in film])
            least = self.method.amplitude * max(2 * self.halves[i] / (SLOW * self.rate), 1) ** 0.5
            around = sliding_window(unrest[:, None], len(shape), "max")
            least = np.maximum(least, self.method.unrest * (around - UNREST))
            score[i, inner] = size[i, inner] / np.maximum(self.method.snr * noise, least)
            score[i, inner][sliding_window(lost, len(shape), "max") > 0] = 0
        return score, size

    def pattern(self, blocks: Floats, i: int, t: int) -> Floats:
        """Amplitudes of all blocks (block, 2) for one duration and sample."""
        reach = len(self.shapes[i]) // 2
        amplitudes: Floats = np.tensordot(self.shapes[i], blocks[t - reach : t + reach + 1], axes=1)
        return amplitudes

    def _noise(self, vectors: Floats, half: float, film: list[int]) -> Floats:
        """Robust noise of the answers per sample and block, over windows of time around them."""
        count, _, samples = vectors.shape
        # Answers are smooth over a filter's length: a few per length say all.
        step = max(int(half / 4), 1)
        thin = np.ascontiguousarray(vectors[..., film[0] : film[1] : step])
        total = thin.shape[2]
        window = max(int(self.method.noise_window * self.rate / step), 1)
        starts = np.arange(0, max(total - window, 0) + max(window // 2, 1), max(window // 2, 1))
        starts = np.unique(np.minimum(starts, max(total - window, 0)))
        noise = np.empty((len(starts), count))
        for k, start in enumerate(starts):
            part = thin[..., start : start + window]
            spread = medians(np.abs(part - medians(part)[..., None]))
            noise[k] = 1.4826 * np.hypot(spread[:, 0], spread[:, 1]) / np.sqrt(2)
        noise = np.maximum(noise, np.median(noise, axis=1, keepdims=True) / 2) + 1e-9
        middles = film[0] + (starts + window / 2) * step
        nearest = np.abs(middles[None] - np.arange(samples)[:, None]).argmin(1)
        per_sample: Floats = noise[nearest]
        return per_sample


def medians(values: NDArray[Any]) -> NDArray[Any]:
    """Medians along the last axis, by sorting, which NumPy does faster in float32 than it partitions."""
    ordered, n = np.sort(values, axis=-1), values.shape[-1]
    median: NDArray[Any] = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    return median


def _select(
    bank: _Bank,
    blocks: Floats,
    valid: NDArray[np.bool_],
    unrest: Floats,
    film: tuple[int, int],
    near_by: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], list[Found]]:
    """Take the strongest answer, pass over what it explains, and go on; say what is left and what was found.

    An answer is explained where the supports of the two filters overlap (a side lobe is where one's flank lies on the
    other's motion) and the stronger motion is more than half as large at its block.
    """
    score, size = bank.answers(blocks, valid, unrest, film)
    best = score.max((0, 2))
    # Local maxima in time, strongest first.
    peak = score > 1
    peak[:, 1:] &= score[:, 1:] >= score[:, :-1]
    peak[:, :-1] &= score[:, :-1] > score[:, 1:]
    candidates = np.argwhere(peak)
    strength = score[peak]
    found = []
    # By size, not by score: long durations have more noise to stand out of, and must not lose to a part of themselves.
    for k in np.argsort(-size[peak], kind="stable"):
        i, t, b = candidates[k]
        if score[i, t, b] == 0:
            continue
        pattern = bank.pattern(blocks, i, t)
        extent = np.hypot(*pattern.T)
        extent[~_own(extent, int(b), near_by)] = bank.method.aside * extent[b]
        for other, shape in enumerate(bank.shapes):
            reach = max(bank.halves[i] + len(shape) // 2, bank.halves[other] + len(bank.shapes[i]) // 2)
            near = slice(max(int(t - reach), 0), int(t + reach) + 1)
            score[other, near][extent > 0.5 * size[other, near]] = 0
        half = int(np.ceil(bank.halves[i]))
        ends = _boundaries(blocks[:, b], t, half, pattern[b], bank.method.boundary)
        if ends is None or ends[0] <= 0 or ends[2] >= len(blocks) - 1:
            continue
        if ends[2] - ends[0] < bank.method.shortest * bank.rate:
            continue
        around = (ends[2] - ends[0]) / 2  # a filter can fit beside lost samples and see half an expression
        if valid[max(int(ends[0] - around), 0) : int(ends[2] + around) + 2, b].all():
            found.append(Found(*ends, float(strength[k]), int(b), pattern))
    left = score.max((0, 2))
    for one in found:
        inside = slice(int(np.ceil(one.onset)), int(one.offset) + 1)
        left[inside] = best[inside]
    return left, found


def _own(extent: Floats, block: int, near_by: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Blocks that are reached from one downhill: those of its own motion, not of another at the same time."""
    own = np.zeros(len(extent), bool)
    edge = np.zeros(len(extent), bool)
    edge[block] = True
    while edge.any():
        own |= edge
        height = np.where(edge, extent, 0)
        reached = (near_by * height).max(1)
        edge = ~own & (reached > 0) & (extent <= UPHILL * reached + STEP)
    return own


def _boundaries(
    signal: Floats, apex: int, half: int, direction: Floats, part: float
) -> tuple[float, float, float] | None:
    """Where the motion along its own direction leaves and regains its rest, in samples, between them its height."""
    along = signal @ direction / np.hypot(*direction)
    first, last = max(apex - 2 * half, 0), min(apex + 2 * half, len(along) - 1)
    rest_before = np.median(along[first : max(apex - half, first) + 1])
    rest_after = np.median(along[min(apex + half, last) : last + 1])
    top = max(apex - half // 2, 0) + int(along[max(apex - half // 2, 0) : apex + half // 2 + 1].argmax())

    def foot(rest: float, step: int, stop: int) -> float:
        """Where a raised cosine through the crossings of `part` and of one half of the height begins."""
        crossings = []
        at = top
        for share in (0.5, part):
            level = rest + share * (along[top] - rest)
            while at != stop and along[at] > level:
                at += step
            inside, outside = along[at - step], along[at]
            fine = (level - outside) / (inside - outside) if at != top and inside > outside else 0.0
            crossings.append(at - step * float(np.clip(fine, 0, 1)))
        phase = np.arccos(1 - 2 * part) / np.pi  # of the rise, where it crosses `part`; half the height is at 1/2
        return crossings[1] + (crossings[1] - crossings[0]) * float(phase / (0.5 - phase))

    if along[top] <= max(rest_before, rest_after):
        return None
    return foot(float(rest_before), -1, first), float(top), foot(float(rest_after), 1, last)


def _overlap(a: Found, b: Found) -> float:
    shared = min(a.offset, b.offset) - max(a.onset, b.onset)
    return max(shared, 0) / max(max(a.offset, b.offset) - min(a.onset, b.onset), 1e-9)


def _merged(found: list[Found], least: float) -> list[Found]:
    """Drop what overlaps a stronger interval, as the same expression seen elsewhere on the face."""
    longest = max((one.offset - one.onset for one in found), default=0.0) + 1
    kept: list[Found] = []
    places: dict[int, list[Found]] = {}  # by onset: only neighbours can overlap
    for one in sorted(found, key=lambda f: -f.score):
        place = int(one.onset // longest)
        near = (other for at in (place - 1, place, place + 1) for other in places.get(at, ()))
        if all(_overlap(one, other) <= least for other in near):
            kept.append(one)
            places.setdefault(place, []).append(one)
    return kept


def _name_types(
    found: list[Found], points: Floats, rate: float, samples: int, method: Matched, eyes: Floats | None
) -> None:
    """Tell blinks from expressions, and micro from macro by length.

    `eyes` (sample, 2, 2) says where the eyes are, (x, y) in parts of the crop's width, NaN where that is unknown.
    """
    short = [f for f in found if f.offset - f.onset <= method.blink_longest * rate]
    for one in found:
        one.type = "micro" if one.offset - one.onset < method.micro_below * rate else "macro"
    rest = []
    for one in short:
        at = None if eyes is None else _seen(eyes[int(one.onset) : int(one.offset) + 2])
        if at is None:
            rest.append(one)
        elif _lids_down(one, points, at):
            one.type = "blink"
    alike = _likeness(short)
    for one in rest:
        if _both_eyes_down(one.pattern, points, one.block):
            others = _merged([f for f in alike(one, 0.85) if _overlap(one, f) == 0], 0)
            times = len(others)
            recurrent = times * 24.0 * rate >= samples and times > 0  # one in 24 s, or half of the blinks people make
            if recurrent or float(np.hypot(*one.pattern.T).max()) >= method.blink_amplitude:
                one.type = "blink"
    # What is found where the film's blinks are, and much like them, is another, although flow saw an eyeball vanish.
    alike = _likeness([one for one in rest if one.type == "blink"])
    for one in rest:
        others = [f for f in alike(one, 0.7) if np.hypot(*(points[one.block] - points[f.block])) < 0.1]
        if len(_merged(others, 0)) >= 2:
            one.type = "blink"


def _likeness(found: list[Found]) -> Callable[[Found, float], list[Found]]:
    """A function that picks what has a pattern like that of one; a long film has thousands, compared all at once."""
    patterns = np.array([one.pattern for one in found])
    sizes = [float(np.linalg.norm(one.pattern)) for one in found]

    def alike(one: Found, cosine: float) -> list[Found]:
        size = float(np.linalg.norm(one.pattern))
        products = np.einsum("nbv,bv->n", patterns, one.pattern).tolist() if found else []
        return [
            other
            for other, product, its in zip(found, products, sizes, strict=True)
            if product > cosine * size * its and 0.5 < size / its < 2
        ]

    return alike


def _seen(eyes: Floats) -> Floats | None:
    """Where the eyes are in some samples, (2, 2), or None."""
    known = eyes[np.isfinite(eyes).all(axis=(1, 2))]
    return np.median(known, axis=0) if len(known) else None


def _lids_down(one: Found, points: Floats, eyes: Floats) -> bool:
    """Whether what moves most lies in the band of an eye, and both eyes' skin goes down, none or little of it up."""
    away = np.abs(points[None] - eyes[:, None])  # (eye, block, 2)
    band = (away[..., 1] < EYE_BAND) & (away[..., 0] < 2 * EYE_BAND)
    if not band[:, one.block].any() or not band.any(axis=1).all():
        return False
    down = [float(one.pattern[each, 1].max()) for each in band]
    up = [float(-one.pattern[each, 1].min()) for each in band]
    return min(down) > 0.4 * max(down) and max(down) > 0.3 * np.hypot(*one.pattern[one.block]) and max(down) > max(up)


def _both_eyes_down(pattern: Floats, points: Floats, block: int) -> bool:
    """Whether the face moves down in two places of one height, an eye's distance apart, more than between them."""
    down = pattern[:, 1]
    if down.max() < 0.45 * np.hypot(*pattern[block]):  # the lower lids, and brows pulled along, move too
        return False
    across = points[None] - points[:, None]
    strong = down > 0.5 * down.max()
    apart = (np.abs(across[..., 1]) < 0.06) & (across[..., 0] > 0.2) & (across[..., 0] < 0.45)
    for left, right in np.argwhere(apart & strong[:, None] & strong[None]):
        if np.hypot(*(points[[left, right]] - points[block]).T).min() > 0.1:  # it is about something else
            continue
        middle = np.hypot(*(points - (points[left] + points[right]) / 2).T).argmin()
        if down[middle] < 0.6 * min(down[left], down[right]):
            return True
    return False


Measured: TypeAlias = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]


def _with_rest(stream: Iterable[Measured], rest: int) -> Iterator[Measured]:
    """The stream with its first and last sample repeated, so that a filter can lie beyond the film's ends."""
    last: Measured | None = None
    for blocks, known, unrest in stream:
        if not len(blocks):
            continue
        if last is None:
            known = known.copy()
            known[0] = True  # unlike the first sample after a cut
            yield np.repeat(blocks[:1], rest, axis=0), np.repeat(known[:1], rest, axis=0), unrest[:1].repeat(rest)
        yield blocks, known, unrest
        last = blocks[-1:], known[-1:], unrest[-1:]
    if last is not None:
        yield last[0].repeat(rest, axis=0), last[1].repeat(rest, axis=0), last[2].repeat(rest, axis=0)


def matched(
    stream: Iterable[Measured],
    rate: float,
    points: ArrayLike,
    method: Matched | None = None,
    eyes: Callable[[int], Floats] | None = None,
) -> tuple[NDArray[np.float32], list[Found]]:
    """Score block signals and find the expressions and blinks in them, in memory that does not grow with their length.

    Parameters
    ----------
    stream : iterable of (blocks, valid, unrest)
        Consecutive stretches of block signals: motion (sample, block, 2) in pixels of a crop 256 pixels wide, where it
        is known (sample, block), and how much the frame as a whole moves otherwise than by the head's pose (sample,).
    rate : float
        Samples per second.
    points : array_like, (block, 2)
        Where the blocks stand, (x, y) in parts of the crop's width.
    method : Matched, optional
        Parameters; default: `Matched()`.
    eyes : callable, optional
        Where the eyes are in a sample, by its number: (2, 2) as `points`, NaN where unknown. Blinks are then told by
        where they are.

    Returns
    -------
    scores : ndarray of float32, (sample,)
        The best answer of any block and duration centred there that no stronger one explains; 1 is the threshold.
    found : list of Found
        Expressions and blinks in order of onset. An interval that the signals' ends cut is left out.

    Notes
    -----
    Stretches of `Matched.core` seconds are decided one by one with `Matched.margin` seconds before and after them in
    view, at places that depend on the samples' numbers alone: the result does not depend on how the stream is cut.
    """
    method = method or Matched()
    number(rate, "rate", low=0, open_low=True)
    bank = _Bank(method, rate)
    core, margin = max(round(method.core * rate), 1), round(method.margin * rate)
    scores: list[NDArray[np.float32]] = []
    found: list[Found] = []
    places = np.asarray(points, float)
    count = len(places)
    apart = np.hypot(*np.moveaxis(places[None] - places[:, None], -1, 0))
    near_by = apart < 1.5 * float(np.min(apart + 10 * np.eye(count)))
    blocks, valid, unrest = np.empty((0, count, 2)), np.empty((0, count), bool), np.empty(0)
    first = 0  # number of the sample blocks[0]
    begin = 0  # of the stretch to be decided next

    def decide(stretch: int, view: int, after: int = 0) -> None:
        """Decide samples begin to stretch, with those to `view` in sight, the last `after` behind the film's end."""
        film = max(rest - first, 0), view - first - after
        shown = slice(0, view - first)
        left, seen = _select(bank, blocks[shown], valid[shown], unrest[shown], film, near_by)
        scores.append(left[begin - first : stretch - first])
        for one in seen:
            if begin <= one.apex + first < stretch:
                found.append(replace(one, onset=one.onset + first, apex=one.apex + first, offset=one.offset + first))

    rest = max(map(len, bank.shapes)) // 2  # samples before and after all, in which nothing moves
    for more, known, much in _with_rest(stream, rest):
        blocks, valid, unrest = (np.concatenate(pair) for pair in ((blocks, more), (valid, known), (unrest, much)))
        while first + len(blocks) >= begin + core + margin:
            decide(begin + core, begin + core + margin)
            begin += core
            drop = max(begin - margin - first, 0)
            blocks, valid, unrest, first = blocks[drop:], valid[drop:], unrest[drop:], first + drop
    samples = first + len(blocks) - 2 * rest
    if samples <= 0:
        return np.zeros(0, np.float32), []
    decide(first + len(blocks), first + len(blocks), rest)
    found = [
        replace(one, onset=one.onset - rest, apex=one.apex - rest, offset=one.offset - rest)
        for one in found
        if one.onset > rest and one.offset < rest + samples - 1  # neither end of the film cuts it
    ]
    seen = None if eyes is None else np.array([eyes(i) for i in range(samples)])
    _name_types(found, places, rate, samples, method, seen)
    # A blink does not stand for an expression at the same time: the two are merged apart.
    kept = _merged([f for f in found if f.type != "blink"], method.merge)
    kept += _merged([f for f in found if f.type == "blink"], method.merge)
    return np.concatenate(scores)[rest : rest + samples], sorted(kept, key=lambda f: f.onset)
