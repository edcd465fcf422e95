"""The field's spotting methods: frames in, scores and intervals out, by the published recipes.

Each method is a frozen dataclass of its parameters that is called with a film's frames. Times are in seconds, so that
nothing depends on the frame rate; `PRESETS` holds the numbers of frames that papers give for their data sets. Only what
is measured per sample is kept, so that memory does not grow with the film's pictures.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmme_fast import motion
from mmme_fast._arrays import flow_fields, frames, number, one_of, reals, whole
from mmme_fast._backend import kernels, resolve_threads
from mmme_fast.flow import FLOWS
from mmme_fast.spotting import Matched, block_means, sliding_window
from mmme_fast.strain import optical_strain

__all__ = [
    "METHODS", "PRESETS", "Expression", "Lbp", "Mdmd", "Preset", "Roi", "Spotted", "Strain", "configured",
    "directional_difference", "feature_difference", "find_peaks", "lbp_histograms", "peak_threshold",
    "softnet_features", "softnet_intervals",
]  # fmt: skip

Floats = NDArray[np.float64]
Flow = Callable[..., NDArray[np.float32]]
Samples = Iterable[NDArray[np.float32]]
Measurements = tuple[list[Floats], tuple[int, ...]]  # a row per sample for each kind, and the shape of all samples
Window = tuple[int, float, Floats]  # its first sample, height over width, and a row per sample
Box = tuple[float, float, float, float]

BLOCKS = 6  # per side: the lattice of strain, mdmd and lbp
STRONGEST = BLOCKS**2 // 3  # of its blocks, whose mean is a sample's value
BATCH = 32  # samples whose flow is computed at a time
LBP_MARGIN = 3  # px: the radius of the patterns


class Expression(NamedTuple):
    """One spotted expression, in samples; the offset belongs to it."""

    onset: float
    apex: float
    offset: float
    type: str
    score: float
    x: float = float("nan")  # where it is strongest, in parts of the crop's width
    y: float = float("nan")
    amplitude: float = float("nan")  # px of a crop 256 px wide


@dataclass
class Spotted:
    """What a method found in a film."""

    scores: NDArray[np.float32]  # (sample,): 1 is the threshold
    expressions: list[Expression]
    signals: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # (sample,)


def find_peaks(signal: ArrayLike, *, height: float, distance: float = 1) -> NDArray[np.intp]:
    """Local maxima of a signal, as ``scipy.signal.find_peaks(signal, height=height, distance=distance)`` has them.

    Parameters
    ----------
    signal : array_like, (sample,)
        Finite numbers.
    height : float
        Least value of a peak.
    distance : float, default 1
        Least distance of two peaks in samples, at least 1; of two that are nearer the lower one goes.

    Returns
    -------
    ndarray of int, (peak,)
        Their samples, rising. A flat top counts once, in its middle; what reaches an end of the signal is no peak.

    Examples
    --------
    >>> from mmme_fast.methods import find_peaks
    >>> find_peaks([0, 2, 0, 3, 0, 1, 0], height=1.5)
    array([1, 3])
    """
    x = _signal(signal, "signal")
    distance = number(distance, "distance", low=1)
    begins = np.flatnonzero(np.diff(x, prepend=np.nan) != 0)  # of stretches of equal values
    level = x[begins]
    inner = np.flatnonzero((level[1:-1] > level[:-2]) & (level[1:-1] > level[2:])) + 1
    peaks = (begins[inner] + begins[inner + 1] - 1) // 2
    peaks = peaks[x[peaks] >= height]
    low = np.searchsorted(peaks, peaks - distance, "right").tolist()
    high = np.searchsorted(peaks, peaks + distance, "left").tolist()
    keep = bytearray(b"\1" * len(peaks))
    for i in np.argsort(x[peaks])[::-1].tolist():  # the order in which SciPy goes, also among equals
        if keep[i]:
            keep[low[i] : high[i]] = bytes(high[i] - low[i])
            keep[i] = 1
    return np.asarray(peaks[np.frombuffer(keep, bool)], np.intp)


def peak_threshold(signal: ArrayLike, p: float) -> float:
    """The threshold mean + p (max - mean) of Moilanen et al. (2014).

    Parameters
    ----------
    signal : array_like, (sample,)
        Finite numbers.
    p : float
        0 to 1.

    Examples
    --------
    >>> from mmme_fast.methods import peak_threshold
    >>> peak_threshold([0, 0, 0, 4], p=0.5)
    2.5
    """
    x = _signal(signal, "signal")
    mean = float(x.mean())
    return mean + number(p, "p", low=0, high=1) * (float(x.max()) - mean)


def softnet_intervals(scores: ArrayLike, k: int, *, p: float = 0.55) -> tuple[Floats, NDArray[np.intp]]:
    """Intervals from scores per frame as SOFTNet has them: means over 2k, a threshold, peaks, k frames to each side.

    Parameters
    ----------
    scores : array_like, (frame,)
        For SOFTNet the network's output for the pair of frames i and i + k; any score will do.
    k : int
        Half the mean length of the expressions sought, in frames.
    p : float, default 0.55
        The threshold is mean + p (max - mean) of the means.

    Returns
    -------
    means : ndarray of float64, (frame - 2k,)
        Entry j is the mean of scores j to j + 2k - 1; it stands for frame j + k. Empty for a film of 2k frames or less.
    intervals : ndarray of int, (interval, 3)
        Onset, apex and offset: frames j, j + k and j + 2k for each peak j of the means that reaches the threshold, no
        two of them nearer than k.

    References
    ----------
    Liong, See, Wong, "Shallow optical flow three-stream CNN for macro- and micro-expression spotting from long videos",
    ICIP 2021, and its code.

    Examples
    --------
    >>> from mmme_fast.methods import softnet_intervals
    >>> scores = np.zeros(60)
    >>> scores[25:35] = 1
    >>> means, intervals = softnet_intervals(scores, k=5)
    >>> intervals
    array([[25, 30, 35]])
    """
    x = _signal(scores, "scores")
    k = whole(k, "k", low=1)
    p = number(p, "p", low=0, high=1)
    if len(x) <= 2 * k:
        return np.empty(0), np.empty((0, 3), np.intp)
    means: Floats = np.lib.stride_tricks.sliding_window_view(x, 2 * k)[:-1].mean(-1)
    peaks = find_peaks(means, height=peak_threshold(means, p), distance=k)
    return means, peaks[:, None] + np.array([0, k, 2 * k])


def _signal(value: ArrayLike, name: str) -> Floats:
    x = np.asarray(value, float)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"{name} must be 1-D and not empty, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return x


def lbp_histograms(
    pictures: ArrayLike, *, rows: int = BLOCKS, columns: int = BLOCKS, threads: int | None = None
) -> NDArray[np.float32]:
    """Histograms of uniform local binary patterns (8 samples on a circle of radius 3) over a lattice of blocks.

    Parameters
    ----------
    pictures : array_like, (y, x) or (frame, y, x)
        Frames as uint8, uint16 or float in 0..1.
    rows, columns : int, default 6
        Blocks along y and x. The lattice covers the pixels that lie at least 3 from the border, the only ones that have
        a pattern; its lines lie at ``3 + (height - 6) * i // rows``.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (rows, columns, 59) or (frame, rows, columns, 59)
        The share of each pattern among the block's pixels. Patterns are numbered as by scikit-image's
        ``local_binary_pattern(frame, 8, 3, "nri_uniform")``: 58 uniform ones and one for all others. A sample that is
        as bright as the middle, to a millionth, counts as brighter.

    References
    ----------
    Ojala, Pietikainen, Maenpaa, "Multiresolution gray-scale and rotation invariant texture classification with local
    binary patterns", IEEE TPAMI 24, 2002.

    Examples
    --------
    >>> from mmme_fast.methods import lbp_histograms
    >>> from mmme_fast import synth
    >>> film = synth.film(0.5, fps=20, size=64, seed=1, micro=0, macro=0, blinks=0).frames()
    >>> histograms = lbp_histograms(film)
    >>> histograms.shape
    (10, 6, 6, 59)
    >>> bool(np.allclose(histograms.sum(axis=-1), 1))
    True
    """
    array = frames(pictures, "pictures")
    rows = whole(rows, "rows", low=1, high=array.shape[-2] - 2 * LBP_MARGIN)
    columns = whole(columns, "columns", low=1, high=array.shape[-1] - 2 * LBP_MARGIN)
    three = np.ascontiguousarray(array.reshape(-1, *array.shape[-2:]), np.float32)
    out = np.empty((len(three), rows, columns, 59), np.float32)
    kernels().lbp(three, out, resolve_threads(threads))
    return out if array.ndim == 3 else out[0]


def feature_difference(histograms: ArrayLike, k: int, *, threads: int | None = None) -> NDArray[np.float32]:
    """Chi-square distance of each frame's histograms from the mean of those k frames before and after.

    Parameters
    ----------
    histograms : array_like, (frame, rows, columns, bin)
        As `lbp_histograms` gives them; at least 0.
    k : int
        Frames, at least 1.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (frame - 2k, rows, columns)
        Entry j is sum (q - m)^2 / (q + m) over the bins, for q of frame j + k and m the mean of frames j and j + 2k.

    References
    ----------
    Moilanen, Zhao, Pietikainen, "Spotting rapid facial movements from videos using appearance-based feature difference
    analysis", ICPR 2014.

    Examples
    --------
    >>> from mmme_fast.methods import feature_difference
    >>> still = np.full((10, 6, 6, 59), 1 / 59)
    >>> feature_difference(still, 3).shape, feature_difference(still, 3).max()
    ((4, 6, 6), np.float32(0.0))
    """
    array = reals(histograms, "histograms")
    if array.ndim != 4:
        raise ValueError(f"histograms must be (frame, rows, columns, bin), got shape {array.shape}")
    k = whole(k, "k", low=1)
    out = np.empty((max(len(array) - 2 * k, 0), *array.shape[1:3]), np.float32)
    if len(out):
        flat = array.reshape(len(array), -1, array.shape[3])
        parts = flat[: -2 * k], flat[k:-k], flat[2 * k :]
        kernels().chi_square(*parts, out.reshape(len(out), -1), resolve_threads(threads))
    return out


def directional_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rows: int = BLOCKS,
    columns: int = BLOCKS,
    quadrant: str = "atan2",
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Main directional maximal difference (MDMD) of two flow fields over a lattice of blocks.

    In each block the quarter turn in which most vectors of `a` point is its main direction. Over the pixels whose `a`
    points there, the differences ``|a| - |b|`` are sorted; the result is the mean of the largest third (rounded down,
    at least one).

    Parameters
    ----------
    a, b : array_like, (y, x, 2) or (frame, y, x, 2)
        Flow from one frame to the frames k and 2k after it, in pixels.
    rows, columns : int, default 6
        Blocks along y and x; their borders lie at ``y * i // rows``.
    quadrant : {"atan2", "atan"}, default "atan2"
        How the angle is taken. The paper's four quarters need "atan2". The published code takes the arc tangent of
        v / u, -90 to 90 degrees, so that opposite directions are one and only two quarters fill: "atan" reproduces it.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (rows, columns) or (frame, rows, columns)

    References
    ----------
    Wang, Wu, Qian, Li, Fu, "A main directional maximal difference analysis for spotting facial movements from long-term
    videos", Neurocomputing 230, 2017. He, Wang, Li, Yap, "Spotting macro- and micro-expression intervals in long video
    sequences", FG 2020.

    Examples
    --------
    >>> from mmme_fast.methods import directional_difference
    >>> a = np.broadcast_to([2.0, 0.0], (60, 60, 2))  # everything goes right by 2 px, and then comes back to 0.5
    >>> directional_difference(a, a / 4, rows=1, columns=2)
    array([[1.5, 1.5]], dtype=float32)
    """
    first, second = flow_fields(a, "a"), flow_fields(b, "b")
    if first.shape != second.shape:
        raise ValueError(f"a and b must have the same shape, got {np.shape(a)} and {np.shape(b)}")
    one_of(quadrant, "quadrant", ("atan2", "atan"))
    rows = whole(rows, "rows", low=1, high=first.shape[1])
    columns = whole(columns, "columns", low=1, high=first.shape[2])
    out = np.empty((len(first), rows, columns), np.float32)
    kernels().mdmd(first, second, out, quadrant, resolve_threads(threads))
    return out if np.ndim(a) == 4 else out[0]


@dataclass(frozen=True)
class Strain:
    """Peaks of the optical strain between frames that are half an expression apart.

    The value of a pair of frames i, i + k is the mean of the 12 of 6 x 6 blocks with the largest mean strain; rigid
    motion of the head has none. The values are scored as SOFTNet scores its network's output (`softnet_intervals`),
    for micro- and for macro-expressions, each with its own k; both kinds may overlap.

    Unlike in SOFTNet a pair stands for its middle, not for its first frame, which dates intervals k / 2 too early.

    Parameters
    ----------
    k : (float, float), default (0.2, 0.6)
        Half the mean length of micro- and of macro-expressions, in seconds.
    p : float, default 0.3
        The threshold is mean + p (max - mean); 0.55 for SOFTNet's scores, which are less noisy.
    rate : float or None, default 50.0
        Frames per second: faster film is averaged in groups to about this; None takes every frame.

    References
    ----------
    Shreve, Godavarthy, Goldgof, Sarkar, "Macro- and micro-expression spotting in long videos using spatio-temporal
    strain", FG 2011; Liong, See, Wong, ICIP 2021 (scoring).
    """

    k: tuple[float, float] = (0.2, 0.6)
    p: float = 0.3
    rate: float | None = 50.0
    width = 128  # px: frames are reduced to about this

    def __post_init__(self) -> None:
        _check(self)

    def spans(self, rate: float) -> list[int]:
        """How many samples after a sample its values of each kind depend on."""
        return _spans(self.k, rate)

    def measure(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Measurements:
        """The values of reduced frames (sample, y, x) at `rate` samples per second."""
        spans = self.spans(rate)

        def measure(stretch: NDArray[np.float32], which: int) -> Floats:
            k = spans[which]
            dense = flow(stretch[:-k], stretch[k:], threads=threads)
            strain = optical_strain(dense, threads=threads)
            return _strongest(block_means(strain, BLOCKS, BLOCKS, threads=threads))

        return _sweep(samples, spans, measure)

    def __call__(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Spotted:
        """Spot in reduced frames (sample, y, x) at `rate` samples per second."""
        spans = self.spans(rate)
        values, shape = self.measure(samples, rate, flow, threads)
        found = _Found(shape, self.p)
        for kind, k, rows in zip(KINDS, spans, values, strict=True):
            if len(rows) > 2 * k:
                means, intervals = softnet_intervals(rows[:, 0], k, p=self.p)
                found.score(means, k + k // 2)
                for onset, apex, offset in intervals:
                    found.add(kind, onset + k // 2, apex + k // 2, offset + k // 2, means[onset], rows[apex, 1])
        series = np.full(shape[0], np.nan, np.float32)
        series[spans[0] // 2 :][: len(values[0])] = values[0][:, 0]
        return found.spotted(strain=series)


@dataclass(frozen=True)
class Mdmd:
    """Main directional maximal difference, the baseline of the MEGC challenges.

    `directional_difference` of the flow from frame i - k to i and to i + k, the mean of its 12 largest blocks of 36,
    gives d_i; c_i = d_i - (d_(i-k+1) + d_(i+k-1)) / 2 is its contrast. Runs above mean + p (max - mean) of the contrast
    are expressions when they are as long as such are: for micro-expressions with one k, for macro-expressions with
    another; both kinds may overlap.

    Not as published: the lattice covers the crop, not a face aligned by landmarks; frames nearer than 2k - 1 to the
    film's ends, of which not every flow is known, have no part in mean and maximum; flow is Farneback's by default;
    film faster than `rate` is averaged to it.

    Parameters
    ----------
    k : (float, float), default (12 / 30, 39 / 30)
        For micro- and for macro-expressions, in seconds.
    p : float, default 0.01
        The threshold is mean + p (max - mean).
    micro : (float, float), default (7 / 30, 16 / 30)
        Shortest and longest micro-expression in seconds; macro is what is longer.
    quadrant : {"atan2", "atan"}, default "atan2"
        "atan" as in the published code (`directional_difference`).
    rate : float or None, default 50.0
        Frames per second: faster film is averaged in groups to about this; None takes every frame.

    References
    ----------
    Wang, Wu, Qian, Li, Fu, Neurocomputing 230, 2017; He, Wang, Li, Yap, FG 2020.
    """

    k: tuple[float, float] = (12 / 30, 39 / 30)
    p: float = 0.01
    micro: tuple[float, float] = (7 / 30, 16 / 30)
    quadrant: str = "atan2"
    rate: float | None = 50.0
    width = 128  # px: frames are reduced to about this

    def __post_init__(self) -> None:
        _check(self)
        one_of(self.quadrant, "quadrant", ("atan2", "atan"))
        if not 0 <= self.micro[0] <= self.micro[1]:
            raise ValueError(f"micro must be shortest and longest, got {self.micro!r}")

    def spans(self, rate: float) -> list[int]:
        """How many samples after a sample its values of each kind depend on."""
        return [2 * k for k in _spans(self.k, rate)]

    def measure(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Measurements:
        """The values of reduced frames (sample, y, x) at `rate` samples per second."""

        def measure(stretch: NDArray[np.float32], which: int) -> Floats:
            k = self.spans(rate)[which] // 2
            before = stretch[: -2 * k]
            a = flow(before, stretch[k:-k], threads=threads)
            b = flow(before, stretch[2 * k :], threads=threads)
            return _strongest(directional_difference(a, b, quadrant=self.quadrant, threads=threads))

        return _sweep(samples, self.spans(rate), measure)

    def __call__(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Spotted:
        """Spot in reduced frames (sample, y, x) at `rate` samples per second."""
        spans = _spans(self.k, rate)
        values, shape = self.measure(samples, rate, flow, threads)
        shortest, longest = (round(seconds * rate) for seconds in self.micro)
        limits = {"micro": (shortest, longest), "macro": (longest + 1, shape[0])}
        found = _Found(shape, self.p)
        for kind, k, rows in zip(KINDS, spans, values, strict=True):
            if len(rows) < 2 * k - 1:
                continue
            d = rows[:, 0]
            # d[0] is of sample k; the contrast of its entry j is that of sample j + 2k - 1.
            contrast = d[k - 1 : len(d) - k + 1] - (d[: len(d) - 2 * k + 2] + d[2 * k - 2 :]) / 2
            found.score(contrast, 2 * k - 1)
            least, most = limits[kind]
            for begin, stop in _runs(contrast > peak_threshold(contrast, self.p)):
                if least <= stop - begin <= most:
                    apex = begin + int(contrast[begin:stop].argmax())
                    first = 2 * k - 1
                    where = rows[apex + k - 1, 1]
                    found.add(kind, begin + first, apex + first, stop - 1 + first, contrast[apex], where)
        return found.spotted()


@dataclass(frozen=True)
class Lbp:
    """Chi-square feature difference of local binary patterns, the first of the field's spotting methods.

    F_i is the mean of the 12 largest of the 6 x 6 blocks' `feature_difference`; C_i = F_i - (F_(i-k) + F_(i+k)) / 2,
    with what is below 0 put to 0, is its contrast. A peak of the contrast that reaches mean + p (max - mean), none
    nearer to another than k / 2, is the apex of an expression of k frames to each side: of micro-expressions with one
    k, of macro-expressions with another; both kinds may overlap.

    Not as published: the lattice covers the crop, not a face aligned by landmarks, so that motion of the head counts;
    frames nearer than 2k to the film's ends have no part in mean and maximum; film faster than `rate` is averaged to
    it.

    Parameters
    ----------
    k : (float, float), default (0.2, 0.6)
        Half the mean length of micro- and of macro-expressions, in seconds.
    p : float, default 0.15
        The threshold is mean + p (max - mean).
    rate : float or None, default 50.0
        Frames per second: faster film is averaged in groups to about this; None takes every frame.

    References
    ----------
    Moilanen, Zhao, Pietikainen, ICPR 2014; Li, Hong, Moilanen, Huang, Pfister, Zhao, Pietikainen, "Towards reading
    hidden emotions", IEEE TAFFC 9, 2018. p is that of the MEGC 2019 baseline.
    """

    k: tuple[float, float] = (0.2, 0.6)
    p: float = 0.15
    rate: float | None = 50.0
    width = 128  # px: frames are reduced to about this

    def __post_init__(self) -> None:
        _check(self)

    def spans(self, rate: float) -> list[int]:
        """How many samples after a sample its values of each kind depend on."""
        return [2 * k for k in _spans(self.k, rate)]

    def measure(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Measurements:
        """The values of reduced frames (sample, y, x) at `rate` samples per second; `flow` is not used."""
        spans = _spans(self.k, rate)
        size: tuple[int, ...] = (1, 1)

        def histograms() -> Iterator[NDArray[np.float32]]:
            nonlocal size
            for chunk in samples:
                size = chunk.shape[1:]
                yield lbp_histograms(chunk, threads=threads)

        def measure(stretch: NDArray[np.float32], which: int) -> Floats:
            return _strongest(feature_difference(stretch, spans[which], threads=threads))

        values, shape = _sweep(histograms(), self.spans(rate), measure)
        return values, (shape[0], *size)

    def __call__(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Spotted:
        """Spot in reduced frames (sample, y, x) at `rate` samples per second; `flow` is not used."""
        spans = _spans(self.k, rate)
        values, shape = self.measure(samples, rate, flow, threads)
        found = _Found(shape, self.p)
        for kind, k, rows in zip(KINDS, spans, values, strict=True):
            if len(rows) <= 2 * k:
                continue
            f = rows[:, 0]
            contrast = np.maximum(f[k:-k] - (f[: -2 * k] + f[2 * k :]) / 2, 0)
            found.score(contrast, 2 * k)
            if not contrast.any():
                continue
            peaks = find_peaks(contrast, height=peak_threshold(contrast, self.p), distance=max(k / 2, 1))
            for peak in peaks:
                apex = int(peak) + 2 * k
                found.add(kind, apex - k, apex, apex + k, contrast[peak], rows[peak + k, 1])
        return found.spotted()


# Where a frontal face has its brows, eyes' lower lids, nose wings and mouth in a crop that is filled by the face.
REGIONS: tuple[Box, ...] = tuple(
    (x - 0.04, y - height / 2, 0.08, height)
    for y, height, xs in (
        (0.33, 0.12, (0.26, 0.345, 0.43, 0.57, 0.655, 0.74)),
        (0.49, 0.08, (0.345, 0.655)),
        (0.58, 0.08, (0.415, 0.585)),
        (0.70, 0.08, (0.50,)),
        (0.74, 0.10, (0.37, 0.50, 0.63)),
        (0.81, 0.08, (0.50,)),
    )
    for x in xs
)
NOSE: Box = (0.45, 0.48, 0.10, 0.12)
WINDOW, STEP = 200 / 30, 100 / 30  # s: every window has a reference of its own
ALIGNED = 1.0  # px of 256: a head that moved further is moved back, and its flow taken anew
ALIGNMENTS = 3
TIP = 0.7  # of the nose region's vectors, the strongest, whose mean is the head's motion
NEAR = 1.0  # s: within which the local minimum lies
GAP = 0.1  # s: runs as near as this are one
SLOPE, VALLEY = 1 / 3, 0.3  # s, px: how a boundary that begins in a dip is moved
LONGEST = 200 / 30  # s


@dataclass(frozen=True)
class Roi:
    """Farneback flow in regions of the face, from a reference renewed every few seconds.

    The film is looked at in windows of 200/30 s every 100/30 s, in each every frame against the window's first. A head
    that moved more than a pixel is moved back and the flow taken anew, at most three times. In each region the mean
    vector of the strongest 20 %, head motion removed, gives a magnitude over time, limited to a band of frequencies. It
    counts where it exceeds its least value in the window by `height` and the least within a second by `rise`. Onset and
    offset go down the slopes to the nearest valley, or to 33 % of the height over the valley; overlapping intervals of
    regions and windows are merged. Motion is in pixels of a crop 256 pixels wide.

    Not as published: regions are fixed for a frontal face or given, not found by landmarks; flow is that of the whole
    crop, cut to regions, and the head's motion is taken out before the strongest vectors are chosen; by default it is
    a similarity map fitted robustly to the whole crop (``head="nose"``: the nose's mean vector, as published); frames
    are moved back by fractions of a pixel; windows do not shift to avoid cutting an interval; a third threshold by
    empirical mode decomposition and the division of long intervals are left out. The papers speak of 1 to 5 Hz, the
    code removes only what is faster than 5 Hz: so does the default.

    Parameters
    ----------
    regions : tuple of (x, y, width, height)
        In parts of the crop. Default: brows, lower lids, nose wings and mouth of a frontal face that fills it.
    head : {"global", "nose"}, default "global"
        How the head's motion is found.
    nose : (x, y, width, height)
        The region for ``head="nose"``.
    strongest : float, default 0.2
        Part of a region's pixels, the strongest, whose mean counts.
    band : (float, float), default (0.0, 5.0)
        Frequencies that are kept, in Hz.
    height : float, default 1.4
        Pixels above the least value of the window.
    rise : float, default 1.8
        Pixels above the least value within a second.
    valley : float, default 0.33
        Part of the height over the valley down to which an interval goes.
    shortest : float, default 0.2
        Seconds that an interval must last.
    micro_longest : float, default 0.5
        Seconds up to which it is a micro-expression.
    overlap : float, default 0.34
        Two intervals that share more than this part of the shorter one are one.
    rate : float or None, default 30.0
        Frames per second: faster film is averaged in groups to about this; None takes every frame.

    References
    ----------
    He, "Research on micro-expression spotting method based on optical flow features", ACM MM 2021. Zhao, Tong, Zhu,
    Sheng, Dai, Xu, Xia, Jiang, Li, "Rethinking optical flow methods for micro-expression spotting", ACM MM 2022.
    """

    regions: tuple[Box, ...] = REGIONS
    head: str = "global"
    nose: Box = NOSE
    strongest: float = 0.2
    band: tuple[float, float] = (0.0, 5.0)
    height: float = 1.4
    rise: float = 1.8
    valley: float = 0.33
    shortest: float = 0.2
    micro_longest: float = 0.5
    overlap: float = 0.34
    rate: float | None = 30.0
    width = 256  # px: frames are reduced to about this

    def __post_init__(self) -> None:
        one_of(self.head, "head", ("global", "nose"))
        for box in (*self.regions, self.nose):
            x, y, width, height = box
            if min(x, y) < 0 or min(width, height) <= 0 or max(x + width, y + height) > 1 + 1e-9:
                raise ValueError(f"regions must be (x, y, width, height) in parts of the crop, got {box!r}")
        if not self.regions:
            raise ValueError("regions must hold at least one box, got ()")
        number(self.strongest, "strongest", low=0, high=1, open_low=True)
        if not 0 <= self.band[0] < self.band[1]:
            raise ValueError(f"band must be two rising frequencies in Hz, got {self.band!r}")
        for name in ("height", "rise"):
            number(getattr(self, name), name, low=0, open_low=True)
        for name in ("valley", "overlap"):
            number(getattr(self, name), name, low=0, high=1)
        if self.rate is not None:
            number(self.rate, "rate", low=0, open_low=True)

    def windows(self, rate: float) -> tuple[int, int]:
        """How many samples a window has, and how many there are from one to the next."""
        return max(round(WINDOW * rate), 2), max(round(STEP * rate), 1)

    def measure(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Iterator[Window]:
        """What is measured in each window of frames (sample, y, x) at `rate` samples per second."""
        span, step = self.windows(rate)
        views: list[_View] = []
        total = 0
        for frame in _pieces(samples, BATCH):
            starts = range(-(-total // step) * step, total + len(frame), step)
            views += [_View(self, start, frame[start - total]) for start in starts]
            for view in views:
                view.follow(frame[max(view.start - total, 0) : max(view.start + span - total, 0)], flow, threads)
            total += len(frame)
            while views and views[0].start + span <= total:
                yield views.pop(0).window()
        for view in views:
            yield view.window()

    def __call__(self, samples: Samples, rate: float, flow: Flow, threads: int | None = None) -> Spotted:
        """Spot in frames (sample, y, x) at `rate` samples per second."""
        span, step = self.windows(rate)
        scores: list[float] = []
        heads: list[tuple[float, ...]] = []
        strains: list[float] = []
        seen: list[Expression] = []
        for start, aspect, measured in self.measure(samples, rate, flow, threads):
            if start > 0 and len(measured) <= span - step:  # the window before has seen all of it
                continue
            new = start + len(measured) - len(heads)  # the first window that has them says what the head's motion is
            heads += measured[-new:, :4].tolist()
            strains += measured[-new:, 4].tolist()
            scores += [0.0] * new
            score, found = self._rises(measured, rate)
            for one in found:
                times = {name: getattr(one, name) + start for name in TIMES}
                seen.append(one._replace(y=one.y * aspect, **times))
            for i, value in enumerate(score, start):
                scores[i] = max(scores[i], float(value))
        columns = np.array(heads, np.float32).reshape(-1, 4).T
        names = ("head_x", "head_y", "head_turn", "head_growth")
        signals = dict(zip(names, columns, strict=True)) | {"strain": np.array(strains, np.float32)}
        shortest, longest = round(self.shortest * rate), max(round(LONGEST * rate), 1)
        lasting = [one for one in _merge(seen, self.overlap) if shortest <= one.offset - one.onset + 1 <= longest]
        micro = round(self.micro_longest * rate)
        named = [one._replace(type=KINDS[one.offset - one.onset + 1 > micro]) for one in lasting]
        return Spotted(np.array(scores, np.float32), sorted(named), signals)

    def _rises(self, measured: Floats, rate: float) -> tuple[Floats, list[Expression]]:
        """Score per sample, and the intervals of every region, of one window (sample, 5 + 2 regions)."""
        magnitude = np.hypot(measured[:, 5::2], measured[:, 6::2])
        frequency = np.fft.rfftfreq(len(magnitude), 1 / rate)
        spectrum = np.fft.rfft(magnitude, axis=0)
        spectrum[(frequency < self.band[0]) | (frequency > self.band[1])] = 0
        r: Floats = np.fft.irfft(spectrum, len(magnitude), axis=0)
        reach = max(round(NEAR * rate), 1)
        padded = np.pad(r, ((reach, reach), (0, 0)), mode="edge")
        over_least = (r - r.min(0)) / self.height
        over_near = (r - sliding_window(padded, 2 * reach + 1, "min")) / self.rise
        score = np.minimum(over_least, over_near)
        found = []
        for region, (x, y, width, height) in enumerate(self.regions):
            for begin, stop in _runs(score[:, region] >= 1, max(round(GAP * rate), 1)):
                signal = r[:, region]
                apex = begin + int(signal[begin:stop].argmax())
                onset = _descend(signal, begin, apex, rate, self.valley)
                offset = len(signal) - 1 - _descend(signal[::-1], len(signal) - stop, len(signal) - 1 - apex, rate,
                                                    self.valley)  # fmt: skip
                strength = float(score[begin:stop, region].max())
                found.append(
                    Expression(onset, apex, offset, "", strength, x + width / 2, y + height / 2, float(signal[apex]))
                )
        return score.max(1), found


class _View:
    """A window of the film and the motion in it since its first frame."""

    def __init__(self, roi: Roi, start: int, reference: NDArray[np.float32]) -> None:
        self.roi, self.start = roi, start
        self.reference = reference
        height, width = reference.shape
        self.scale, self.aspect = 256 / max(height, width), height / width
        self.grid = max(height // 16, 2), max(width // 16, 2)
        centres = [(np.arange(n) + 0.5) * size / n - 0.5 for n, size in zip(self.grid, (height, width), strict=True)]
        self.points = np.stack(np.meshgrid(centres[1], centres[0]), axis=-1)
        self.trust = motion.texture(reference, *self.grid)
        self.centre = np.array([[(width - 1) / 2, (height - 1) / 2]])
        self.boxes = [_pixels(box, height, width) for box in roi.regions]
        self.nose = _pixels(roi.nose, height, width)
        self.rows: list[Floats] = []

    def window(self) -> Window:
        return self.start, self.aspect, np.concatenate(self.rows)

    def follow(self, frame: NDArray[np.float32], flow: Flow, threads: int | None) -> None:
        """Head motion (4), strain and the regions' vectors of each frame, (frame, 5 + 2 regions)."""
        if not len(frame):
            return
        maps = np.repeat(motion.IDENTITY[None], len(frame), axis=0)
        left = np.arange(len(frame))
        rows = np.empty((len(frame), 5 + 2 * len(self.boxes)))
        for turn in range(ALIGNMENTS + 1):
            moved = motion.warp(frame[left], maps[left], threads=threads) if turn else frame
            dense = flow(self.reference, moved, threads=threads)
            head = self._head(dense, threads)
            maps[left] = motion.compose(maps[left], head)
            shift = motion.displace(head, self.centre)[:, 0] * self.scale
            done = np.hypot(*shift.T) <= ALIGNED if turn < ALIGNMENTS else np.ones(len(left), bool)
            if done.any():
                rows[left[done], 4] = optical_strain(dense[done], threads=threads).mean((1, 2))
                rows[left[done], 5:] = self._regions(dense[done], head[done]).reshape(int(done.sum()), -1)
            left = left[~done]
            if not len(left):
                break
        shift = motion.displace(maps, self.centre)[:, 0] * self.scale
        a, c = maps[:, 0, 0], maps[:, 1, 0]
        rows[:, :4] = np.column_stack([shift, np.degrees(np.arctan2(c, a)), np.hypot(a, c) - 1])
        self.rows.append(rows)

    def _head(self, dense: NDArray[np.float32], threads: int | None) -> Floats:
        if self.roi.head == "global":
            cells = block_means(dense, *self.grid, threads=threads)
            return motion.global_motion(cells, weights=self.trust, points=self.points, threads=threads)
        maps = np.repeat(motion.IDENTITY[None], len(dense), axis=0)
        y, x = self.nose
        maps[:, :, 2] = _strongest_vectors(dense[:, y, x].reshape(len(dense), -1, 2), TIP)
        return maps

    def _regions(self, dense: NDArray[np.float32], head: Floats) -> Floats:
        vectors = []
        for y, x in self.boxes:
            across, down = np.arange(x.start, x.stop)[:, None], np.arange(y.start, y.stop)[:, None, None]
            turn = (head[:, :, :2] - np.eye(2))[:, None, None]  # of positions, less themselves
            moved = turn[..., 0] * across + turn[..., 1] * down + head[:, None, None, :, 2]
            own = dense[:, y, x] - moved.astype(np.float32)
            vectors.append(_strongest_vectors(own.reshape(len(dense), -1, 2), self.roi.strongest) * self.scale)
        return np.stack(vectors, axis=1)


KINDS = ("micro", "macro")
TIMES = ("onset", "apex", "offset")


class _Found:
    """Scores and expressions of a film as they come together."""

    def __init__(self, shape: tuple[int, ...], p: float) -> None:
        self.samples, self.p = shape[0], p
        height, width = shape[1:3] if len(shape) > 2 else (1, 1)
        self.aspect = height / max(width, 1)
        self.scores = np.zeros(self.samples, np.float32)
        self.expressions: list[Expression] = []
        self.mean = self.above = 0.0

    def score(self, signal: Floats, first: int) -> None:
        """Take the signal of the samples from `first` on; its threshold becomes 1, its mean 0."""
        self.mean, self.above = float(signal.mean()), peak_threshold(signal, self.p) - float(signal.mean())
        part = self.scores[first : first + len(signal)]
        if self.above > 0:
            np.maximum(part, (signal - self.mean) / self.above, out=part, casting="unsafe")

    def add(self, kind: str, onset: int, apex: int, offset: int, value: float, block: float) -> None:
        score = (float(value) - self.mean) / self.above if self.above > 0 else 1.0
        row, column = divmod(int(block), BLOCKS)
        x, y = (column + 0.5) / BLOCKS, (row + 0.5) / BLOCKS * self.aspect
        self.expressions.append(Expression(int(onset), int(apex), int(offset), kind, score, x, y))

    def spotted(self, **signals: NDArray[np.float32]) -> Spotted:
        return Spotted(self.scores, sorted(self.expressions), signals)


def _check(method: Strain | Mdmd | Lbp) -> None:
    if len(method.k) != 2:
        raise ValueError(f"k must be two times, of micro- and macro-expressions, got {method.k!r}")
    for k in method.k:
        number(k, "k", low=0, open_low=True)
    number(method.p, "p", low=0, high=1)
    if method.rate is not None:
        number(method.rate, "rate", low=0, open_low=True)


def _spans(k: Sequence[float], rate: float) -> list[int]:
    return [max(round(seconds * rate), 1) for seconds in k]


def _pieces(samples: Iterable[NDArray[Any]], most: int) -> Iterator[NDArray[Any]]:
    for chunk in samples:
        for begin in range(0, len(chunk), most):
            yield chunk[begin : begin + most]


def _sweep(
    samples: Iterable[NDArray[Any]], spans: Sequence[int], measure: Callable[[NDArray[Any], int], Floats]
) -> tuple[list[Floats], tuple[int, ...]]:
    """Measure every sample together with the one `span` after it, for each span; and the shape of all samples.

    `measure` gets consecutive samples and the span's number and returns a row for all but the last `span`, which must
    not depend on the other rows; what no span needs any more is let go.
    """
    held: NDArray[Any] | None = None
    first = 0
    begins = [0] * len(spans)
    rows: list[list[Floats]] = [[np.empty((0, 2))] for _ in spans]
    shape: tuple[int, ...] = (0,)
    for chunk in samples:
        held = chunk if held is None else np.concatenate([held, chunk])
        stop = first + len(held)
        shape = (stop, *held.shape[1:])
        for i, span in enumerate(spans):
            while begins[i] + span < stop:
                end = min(begins[i] + BATCH, stop - span)
                rows[i].append(measure(held[begins[i] - first : end + span - first], i))
                begins[i] = end
        held, first = held[min(begins) - first :], min(begins)
    return [np.concatenate(parts) for parts in rows], shape


def _strongest(blocks: NDArray[np.float32]) -> Floats:
    """The mean of the strongest third of blocks (n, rows, columns), and which is the strongest: (n, 2)."""
    flat = blocks.reshape(len(blocks), -1).astype(float)
    return np.column_stack([np.sort(flat, axis=1)[:, -STRONGEST:].mean(1), flat.argmax(1)])


def _strongest_vectors(vectors: NDArray[Any], share: float) -> Floats:
    """The mean of the longest vectors (n, pixel, 2), a share of all of them: (n, 2)."""
    many = max(round(share * vectors.shape[1]), 1)
    length = vectors[..., 0] ** 2 + vectors[..., 1] ** 2
    chosen = np.sort(np.argpartition(length, -many, axis=1)[:, -many:], axis=1)
    means: Floats = np.take_along_axis(vectors, chosen[..., None], axis=1).mean(1, dtype=float)
    return means


def _pixels(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a box in parts of the crop, at least one of each."""
    lines = []
    for begin, length, size in ((box[1], box[3], height), (box[0], box[2], width)):
        low = min(round(begin * size), size - 1)
        lines.append(slice(low, max(min(round((begin + length) * size), size), low + 1)))
    return lines[0], lines[1]


def _runs(above: NDArray[np.bool_], gap: int = 1) -> list[tuple[int, int]]:
    """Begin and end (left out) of the runs of True; two that are less than `gap` samples apart are one."""
    edges = np.flatnonzero(np.diff(above.astype(np.int8), prepend=0, append=0))
    runs: list[tuple[int, int]] = []
    for begin, stop in edges.reshape(-1, 2).tolist():
        if runs and begin - runs[-1][1] < gap:
            runs[-1] = runs[-1][0], stop
        else:
            runs.append((begin, stop))
    return runs


def _descend(signal: Floats, begin: int, apex: int, rate: float, part: float) -> int:
    """Where the slope that rises to `begin` has its foot; for the other slope the signal is turned round."""
    reach = max(round(NEAR * rate), 1)
    low = max(begin - reach, 0)
    lowest = low + int(signal[low : begin + reach].argmin())
    if lowest < begin:
        for i in range(begin - 1, -1, -1):
            if signal[i] - signal[lowest] < part * (signal[apex] - signal[lowest]):
                return i
            if signal[i] > signal[i + 1]:
                return i + 1
        return 0
    # The valley lies on the other side: only a dip close by is followed.
    low = max(begin - round(SLOPE * rate), 0)
    dip = low + int(signal[low : begin + 1].argmin())
    return dip + 1 if signal[begin] - signal[dip] > VALLEY else begin


def _merge(seen: list[Expression], overlap: float) -> list[Expression]:
    """Join what shares more than a part of the shorter one; the strongest gives apex, score and place."""
    merged = sorted(seen)
    while True:
        kept: list[Expression] = []
        for one in merged:
            for i, other in enumerate(kept):
                shared = min(one.offset, other.offset) - max(one.onset, other.onset)
                shorter = min(one.offset - one.onset, other.offset - other.onset)
                if shared > overlap * max(shorter, 1):
                    strong = max(one, other, key=lambda each: each.score)
                    ends = min(one.onset, other.onset), max(one.offset, other.offset)
                    kept[i] = strong._replace(onset=ends[0], offset=ends[1])
                    break
            else:
                kept.append(one)
        if len(kept) == len(merged):
            return kept
        merged = sorted(kept)


# A film measured in parts. Every value depends on a bounded number of samples after its own, so that parts which
# overlap by as many give, joined, the bits of the whole. `Matched` has no such bound: each of its references, and the
# pose and the motion that signals go on from, follow from all before.
Divisible = Roi | Strain | Mdmd | Lbp


def overlap(method: Divisible, rate: float) -> tuple[int, int]:
    """How many samples after its end a part must see, and of how many its beginning must be a multiple."""
    return method.windows(rate) if isinstance(method, Roi) else (max(method.spans(rate)), 1)


def measured_part(
    method: Divisible, samples: Samples, first: int, stop: int | None, rate: float, flow: Flow, threads: int | None
) -> dict[str, NDArray[Any]]:
    """What is measured of the samples from `first`, with which `samples` begin, up to `stop` or to the film's end."""
    if isinstance(method, Roi):
        windows = [
            (first + start, aspect, rows)
            for start, aspect, rows in method.measure(samples, rate, flow, threads)
            if stop is None or first + start < stop
        ]
        rows = [rows for _, _, rows in windows]
        return {
            "starts": np.array([start for start, _, _ in windows], np.int64),
            "lengths": np.array([len(each) for each in rows], np.int64),
            "aspect": np.array([aspect for _, aspect, _ in windows[:1]]),
            "rows": np.concatenate(rows) if rows else np.empty((0, 0)),
        }
    values, shape = method.measure(samples, rate, flow, threads)
    most = shape[0] if stop is None else min(stop - first, shape[0])
    return {"micro": values[0][:most], "macro": values[1][:most], "shape": np.array([most, *shape[1:]], np.int64)}


def joined(method: Divisible, parts: Iterable[Mapping[str, NDArray[Any]]]) -> Divisible:
    """The method as one that has measured all parts of a film: of the samples it is given it looks at none."""

    def windows() -> Iterator[Window]:
        for each in parts:
            begins = np.cumsum(each["lengths"]) - each["lengths"]
            for start, length, begin in zip(each["starts"], each["lengths"], begins, strict=True):
                yield int(start), float(each["aspect"][0]), each["rows"][begin : begin + length]

    def measure(samples: Samples, *_: Any) -> Iterator[Window] | Measurements:
        deque(samples, maxlen=0)  # frames are counted, and their times noted, as they pass
        if isinstance(method, Roi):
            return windows()
        known = list(parts)
        shapes = [tuple(each["shape"].tolist()) for each in known]
        size = next((shape[1:] for shape in shapes if shape[0]), ())
        values = [np.concatenate([each[kind] for each in known]) for kind in KINDS]
        return values, (sum(shape[0] for shape in shapes), *size)

    copied = copy.copy(method)
    object.__setattr__(copied, "measure", measure)
    return copied


METHODS: dict[str, type] = {"matched": Matched, "roi": Roi, "strain": Strain, "mdmd": Mdmd, "lbp": Lbp}
Method = Matched | Roi | Strain | Mdmd | Lbp


@dataclass(frozen=True)
class Preset:
    """A data set's frame rate and the lengths that methods use for it, in its frames.

    Parameters
    ----------
    fps : float
        Frames per second.
    k : (int, int)
        Of `Strain` and `Lbp`: half the mean length of micro- and of macro-expressions.
    mdmd_k : (int, int)
        Of `Mdmd`, for micro- and for macro-expressions.
    micro : (int, int)
        Shortest and longest micro-expression that `Mdmd` reports.
    every_frame : bool, default False
        Take every frame, as published, where the default would average groups of them.
    """

    fps: float
    k: tuple[int, int]
    mdmd_k: tuple[int, int]
    micro: tuple[int, int]
    every_frame: bool = False


# CAS(ME)^2 and SAMM Long Videos: as published (SOFTNet's k, the MEGC 2020 baseline's k and lengths); the others: the
# same times at their rates.
PRESETS = {
    "casme2": Preset(30, (6, 18), (12, 39), (7, 16)),
    "casme3": Preset(30, (6, 18), (12, 39), (7, 16)),
    "samm-lv": Preset(200, (37, 174), (80, 260), (47, 105), every_frame=True),
    "smic": Preset(100, (20, 60), (40, 130), (23, 53)),
    "4dme": Preset(60, (12, 36), (24, 78), (14, 32)),
    "mmme": Preset(150, (30, 90), (60, 195), (35, 80)),
}


def configured(method: str | Method, preset: str | None = None) -> Method:
    """Return a method with its parameters: its defaults, or those of a data set.

    Parameters
    ----------
    method : {"matched", "roi", "strain", "mdmd", "lbp"}, or one of the dataclasses
        The latter is returned as it is.
    preset : {"casme2", "casme3", "samm-lv", "smic", "4dme", "mmme"}, optional
        "casme2" is CAS(ME)^2. Its lengths in frames become seconds at its own frame rate, so that a film at that rate
        is treated as published, and one at another rate alike. "matched" has nothing that depends on the data set.

    Examples
    --------
    >>> from mmme_fast.methods import configured
    >>> configured("strain", "casme2")
    Strain(k=(0.2, 0.6), p=0.3, rate=50.0)
    """
    lengths = None if preset is None else PRESETS[one_of(preset, "preset", tuple(PRESETS))]
    if not isinstance(method, str):
        if not isinstance(method, tuple(METHODS.values())):
            raise TypeError(f"method must be a name or one of the methods' dataclasses, got {method!r}")
        return method
    chosen: Method = METHODS[one_of(method, "method", tuple(METHODS))]()
    if lengths is None or isinstance(chosen, Matched):
        return chosen

    def seconds(pair: tuple[int, int]) -> tuple[float, float]:
        return pair[0] / lengths.fps, pair[1] / lengths.fps

    if isinstance(chosen, Roi):  # published for both: film at about 30 frames/s, nothing under 12 frames
        return replace(chosen, shortest=12 / 30) if preset in ("casme2", "samm-lv") else chosen
    if isinstance(chosen, Mdmd):
        chosen = replace(chosen, k=seconds(lengths.mdmd_k), micro=seconds(lengths.micro))
    else:
        chosen = replace(chosen, k=seconds(lengths.k))
    return replace(chosen, rate=None) if lengths.every_frame else chosen


# SOFTNet's front end. dlib's landmarks that it uses, of a frontal face that fills the crop, in parts of its size.
LANDMARKS = {
    17: (0.21, 0.33), 19: (0.32, 0.29), 21: (0.42, 0.33), 22: (0.58, 0.33), 24: (0.68, 0.29), 26: (0.79, 0.33),
    28: (0.50, 0.50),
    36: (0.275, 0.44), 37: (0.32, 0.415), 38: (0.37, 0.415), 39: (0.415, 0.44), 40: (0.37, 0.46), 41: (0.32, 0.46),
    42: (0.585, 0.44), 43: (0.63, 0.415), 44: (0.68, 0.415), 45: (0.725, 0.44), 46: (0.68, 0.46), 47: (0.63, 0.46),
    50: (0.45, 0.70), 57: (0.50, 0.81), 60: (0.40, 0.75), 64: (0.60, 0.75),
}  # fmt: skip
SOFTNET_SIZE = 128


def softnet_features(
    pictures: ArrayLike,
    k: int,
    *,
    landmarks: ArrayLike | None = None,
    flow: str = "tvl1",
    threads: int | None = None,
) -> NDArray[np.float32]:
    """What SOFTNet and its successors feed their networks: flow and strain of brows and mouth, 42 x 42 x 3 a frame.

    Flow from each frame to the k-th after it gives (u, v, strain). The mean of the 11 x 11 pixels around the nose
    bridge is subtracted from each, as the head's motion, and of u and v the absolute value is taken; the eyes are
    masked with 0; the box around brows and eyes fills rows 0 to 20, the box around the mouth rows 21 to 41, resized
    bilinearly.

    Parameters
    ----------
    pictures : array_like, (frame, 128, 128)
        Face crops as uint8, uint16 or float in 0..1.
    k : int
        Half the mean length of the expressions sought, in frames (`PRESETS`).
    landmarks : array_like, (68, 2), optional
        The 68 of dlib in the first frame, (x, y) in pixels, rounded to whole ones. Default: those of a frontal face
        that fills the crop.
    flow : {"tvl1", "farneback", "dis"}, default "tvl1"
        Published is "tvl1".
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (frame - k, 42, 42, 3)
        Not normalised: the published code scales each channel of each frame to 0..1 when it trains.

    Raises
    ------
    ValueError
        When an argument breaks its rule, or a box of the landmarks lies outside the frame.

    Notes
    -----
    A long film goes through in pieces, with the same result:
    ``for part in open_frames(path, size=128).chunks(256, overlap=k): softnet_features(part, k)``.
    Unlike the published code it does not take u and v through OpenCV's polar coordinates and back, which turns them
    by up to 0.3 degrees.

    References
    ----------
    Liong, See, Wong, "Shallow optical flow three-stream CNN for macro- and micro-expression spotting from long videos",
    ICIP 2021, and its code.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> from mmme_fast.methods import softnet_features
    >>> film = synth.film(0.5, fps=30, size=128, seed=1, micro=0, macro=0, blinks=0).frames()
    >>> softnet_features(film, k=6).shape
    (9, 42, 42, 3)
    """
    array = frames(pictures, "pictures")
    if array.ndim != 3 or array.shape[1:] != (SOFTNET_SIZE, SOFTNET_SIZE):
        raise ValueError(f"pictures must be (frame, {SOFTNET_SIZE}, {SOFTNET_SIZE}), got shape {array.shape}")
    k = whole(k, "k", low=1)
    method = FLOWS[one_of(flow, "flow", tuple(FLOWS))]
    if landmarks is None:
        points = {i: (round(x * SOFTNET_SIZE), round(y * SOFTNET_SIZE)) for i, (x, y) in LANDMARKS.items()}
    else:
        given = np.asarray(landmarks, float)
        if given.shape != (68, 2) or not np.isfinite(given).all():
            raise ValueError(f"landmarks must be finite and have shape (68, 2), got {given.shape}")
        points = {i: (round(float(given[i, 0])), round(float(given[i, 1]))) for i in LANDMARKS}

    def inside(value: int) -> int:
        return min(max(value, 0), SOFTNET_SIZE)

    eyes = np.zeros((SOFTNET_SIZE, SOFTNET_SIZE), bool)
    for eye in (36, 42):
        moves = ((-15, 0), (0, -15), (0, -15), (15, 0), (0, 15), (0, 15))
        corners = [(points[eye + i][0] + dx, points[eye + i][1] + dy) for i, (dx, dy) in enumerate(moves)]
        eyes |= _polygon([(inside(x), inside(y)) for x, y in corners], SOFTNET_SIZE)
    # (left, top, right, bottom), 12 px around the landmarks
    brows = (
        points[17][0] - 12, min(points[19][1], points[24][1]) - 12,
        points[26][0] + 12, max(points[41][1], points[46][1]) + 12,
    )  # fmt: skip
    mouth = points[60][0] - 12, points[50][1] - 12, points[64][0] + 12, points[57][1] + 12
    boxes = [tuple(map(inside, box)) for box in (brows, mouth)]
    nose = points[28]
    x, y = nose
    if any(right <= left or bottom <= top for left, top, right, bottom in boxes) or not (
        5 <= x < SOFTNET_SIZE - 5 and 5 <= y < SOFTNET_SIZE - 5
    ):
        raise ValueError(f"landmarks must lie inside the frame, got the boxes {boxes} and the nose at {nose}")

    out = np.empty((max(len(array) - k, 0), 42, 42, 3), np.float32)
    for begin in range(0, len(out), BATCH):
        stop = min(begin + BATCH, len(out))
        dense = method(array[begin:stop], array[begin + k : stop + k], threads=threads)
        strain = optical_strain(dense, stencil="forward", threads=threads)
        strain[:, :, -1] = strain[:, :, -2]  # the magnitude is repeated there, not the differences
        strain[:, -1] = strain[:, -2]
        maps = np.concatenate([dense, strain[..., None]], axis=-1).astype(float)
        maps -= maps[:, y - 5 : y + 6, x - 5 : x + 6].mean((1, 2), keepdims=True)
        np.abs(maps[..., :2], out=maps[..., :2])
        maps[:, eyes] = 0
        for half, (left, top, right, bottom) in enumerate(boxes):
            out[begin:stop, 21 * half : 21 * (half + 1)] = _resized(maps[:, top:bottom, left:right], 21, 42)
    return out


def _resized(maps: Floats, height: int, width: int) -> Floats:
    """Bilinear resampling (frame, y, x, channel) with the centres of pixels in line, as cv2.resize has it."""
    for axis, size in ((1, height), (2, width)):
        n = maps.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), max(n - 2, 0))
        share = (at - low).reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, np.minimum(low + 1, n - 1), axis) * share
    return maps


def _polygon(corners: list[tuple[int, int]], size: int) -> NDArray[np.bool_]:
    """The pixels of a polygon with its outline, those of cv2.fillPoly."""
    mask = np.zeros((size, size), bool)
    crossings: list[list[float]] = [[] for _ in range(size)]
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        for x, y in _line(x0, y0, x1, y1):
            if x < size and y < size:
                mask[y, x] = True
        for y in range(min(y0, y1), min(max(y0, y1), size)):
            crossings[y].append(x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    for y, row in enumerate(crossings):
        row.sort()
        for left, right in zip(row[::2], row[1::2], strict=True):
            mask[y, int(np.ceil(left - 1e-4)) : int(np.floor(right + 1e-4)) + 1] = True
    return mask


def _line(x0: int, y0: int, x1: int, y1: int) -> Iterator[tuple[int, int]]:
    """Bresenham's line from left to right."""
    if x1 < x0:
        x0, y0, x1, y1 = x1, y1, x0, y0
    dx, dy, way = x1 - x0, abs(y1 - y0), 1 if y1 >= y0 else -1
    steep = dy > dx
    long, short = (dy, dx) if steep else (dx, dy)
    error, side = long - 2 * short, 0
    for i in range(long + 1):
        yield (x0 + side, y0 + way * i) if steep else (x0 + i, y0 + way * side)
        if error < 0:
            error += 2 * long
            side += 1
        error -= 2 * short
