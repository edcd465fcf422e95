"""The clocks of a film and a recording: which second of the one is which second of the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import number, one_of, whole

if TYPE_CHECKING:
    from mmme_fast.eeg import Recording
    from mmme_fast.frames import Frames
    from mmme_fast.peripherals import Peripherals

Float = NDArray[np.float64]
Mark = tuple[float, str]  # time in s, text

MAX_SKEW = 1000.0  # ppm; quartz clocks differ by less than 200
# What is believed of two clocks and of a marker's time before any is seen. A few markers close together say little of
# the skew, which then stays near 0; markers over minutes outweigh this by far.
_USUAL_SKEW = 100e-6
_USUAL_JITTER = 0.002  # s; that of a frame's turn at 150 frames per second


class Pair(NamedTuple):
    """A marker seen by both: its text, and its seconds on either clock."""

    text: str
    film: float
    eeg: float


@dataclass(frozen=True)
class Alignment:
    """An affine map from a film's clock to a recording's: ``eeg = offset + (1 + skew / 1e6) * film``, in seconds.

    Attributes
    ----------
    offset : float
        Second of the recording in which second 0 of the film falls.
    skew : float
        Parts per million by which the recording's clock runs faster.
    pairs : tuple of Pair
        The markers it was fitted to; empty where the offset was given.
    residuals : ndarray of float64, (pair,)
        Seconds from where the map puts a pair's film marker to where the recording has it.
    lost_film : tuple of (float, str)
        The film's markers, time and text, that the recording lacks.
    lost_eeg : tuple of (float, str)
        The recording's markers within the film's first and last one that the film lacks.
    """

    offset: float = 0.0
    skew: float = 0.0
    pairs: tuple[Pair, ...] = ()
    residuals: Float = field(default_factory=lambda: np.empty(0))
    lost_film: tuple[Mark, ...] = ()
    lost_eeg: tuple[Mark, ...] = ()

    def film_to_eeg(self, times: ArrayLike) -> Float:
        """Seconds of the recording for seconds of the film."""
        return np.asarray(self.offset + (1 + self.skew * 1e-6) * np.asarray(times, np.float64))

    def eeg_to_film(self, times: ArrayLike) -> Float:
        """Seconds of the film for seconds of the recording."""
        return np.asarray((np.asarray(times, np.float64) - self.offset) / (1 + self.skew * 1e-6))

    def __str__(self) -> str:
        text = f"offset {self.offset:.6g} s, skew {self.skew:.1f} ppm"
        if self.pairs:
            text += (
                f"; {len(self.pairs)} pairs of markers within {np.abs(self.residuals).max() * 1e3:.1f} ms, "
                f"lost {len(self.lost_film)} of the film's and {len(self.lost_eeg)} of the recording's"
            )
        return text


def align(
    frames: Frames | None = None,
    recording: Recording | Peripherals | None = None,
    *,
    markers: ArrayLike | Sequence[Mark] | None = None,
    preset: str | None = None,
    offset: float | None = None,
    clock: datetime | str | None = None,
    skew: float = 0.0,
    tolerance: float = 0.02,
    min_pairs: int | None = None,
) -> Alignment:
    """Find which second of a recording each second of a film is.

    Markers that both have are paired by text and order, whichever of them either side lost, and an affine map is fitted
    to the pairs. Or the offset is given, or follows from the clock in the frames' file names.

    Parameters
    ----------
    frames : Frames, optional
        The film. Its file names ``Year-Month-Day-Hour-Minute-Second-Millisecond-Code-Marker`` state a clock, and as
        markers the changes of their last field; a film named ``emotion_i_MARKER_subject_date`` begins with its marker.
    recording : Recording or Peripherals, optional
        Its `markers` are the other side.
    markers : sequence of (float, str), or array_like of float, (marker,), optional
        The film's markers in seconds of the film, instead of those of its file names; times alone match any text.
    preset : {None, "mmme"}
        None compares texts as they are. "mmme" takes the number at a text's end ("101", "Stimulus/S101"), keeps 101 to
        148, the start of a clip, and 100, its end, and drops all others, such as 77 and 88.
    offset : float, optional
        Instead of markers: the second of the recording in which second 0 of the film falls.
    clock : datetime or str in ISO format, optional
        Instead of markers: when the recording's first sample was taken, on the clock of the frames' file names.
    skew : float, default 0.0
        In ppm; only with `offset` or `clock`.
    tolerance : float, default 0.02
        The most seconds that a pair may be off the map.
    min_pairs : int, optional
        The fewest pairs to rely on. Default: half of the markers of the side that has fewer, and at least 2; 1 for the
        marker in a film's own name.

    Returns
    -------
    Alignment

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule; when too few markers match, their residuals exceed the tolerance, the skew
        exceeds 1000 ppm, or they match in more than one way. The message says which.

    Notes
    -----
    The map is the line that most markers lie on within the tolerance, found by going through all pairs of equal text
    and, for each, the slopes that bring others onto the line; nothing is drawn at random. The fit is least squares with
    a prior of 100 ppm on the skew, worth as much as a jitter of 2 ms: three markers in ten seconds cannot tell the skew
    and leave it near 0, two in ten minutes shrink it by less than 1 %. Fewer pairs than 3 have little to contradict.

    Examples
    --------
    The recording began 2.5 s before the film:

    >>> clocks = mf.align(offset=2.5)
    >>> clocks.film_to_eeg([0, 1])
    array([2.5, 3.5])

    Or both saw the same markers:

    >>> from mmme_fast import synth
    >>> made = synth.recording(200, sfreq=100, channels=1, seed=1, clip=20, gap=2, offset=2.5)
    >>> made.write("session.vhdr").name
    'session.vhdr'
    >>> seen = [(clip.start_s, str(clip.code)) for clip in made.clips]
    >>> clocks = mf.align(recording=mf.open_recording("session.vhdr"), markers=seen, preset="mmme")
    >>> round(clocks.offset, 2), len(clocks.pairs)
    (2.5, 8)
    """
    if preset is not None:
        one_of(preset, "preset", ("mmme",))
    tolerance = number(tolerance, "tolerance", low=0, open_low=True)
    if min_pairs is not None:
        whole(min_pairs, "min_pairs", low=1)
    skew = number(skew, "skew", low=-MAX_SKEW, high=MAX_SKEW)
    given = [name for name, value in (("markers", markers), ("offset", offset), ("clock", clock)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"{given[1]} must be None where {given[0]} is given, got both")
    if offset is not None:
        return Alignment(number(offset, "offset", low=-np.inf), skew)
    if clock is not None:
        return Alignment((_start(frames) - _datetime(clock)).total_seconds(), skew)
    if skew:
        raise ValueError(f"skew must be 0 without offset or clock, as it follows from markers, got {skew:g}")
    if recording is None:
        raise ValueError("recording must be given, as its markers are to be matched, got None")
    if markers is None:
        film = _kept(_in_names(frames), preset)
        if min_pairs is None and frames is not None and frames.names is None:
            min_pairs = 1
    elif np.ndim(markers) == 1:
        film = [(time, "") for time in _times(markers)]
    else:
        film = _kept(_marks(markers), preset)
    eeg = _kept([(marker.onset, marker.text) for marker in recording.markers], preset)
    for name, side in (("markers", film), ("recording", eeg)):
        if not side:
            kinds = " of MMME, 100 to 148" if preset else ""
            raise ValueError(f"{name} must hold at least one marker{kinds}, got none")
    return _aligned(sorted(film), sorted(eeg), tolerance, min_pairs)


def _times(value: Any) -> list[float]:
    times = np.asarray(value)
    if times.dtype.kind not in "fiu":
        raise TypeError(f"markers must be times in seconds or (time, text), got {times.dtype}")
    if not np.isfinite(times).all():
        raise ValueError("markers must be finite, got NaN or infinity")
    return [float(time) for time in times]


def _marks(value: Any) -> list[Mark]:
    marks = list(value)
    for i, mark in enumerate(marks):
        if len(mark) != 2:
            raise ValueError(f"markers[{i}] must be (time, text), got {mark!r}")
    times = _times(np.array([float(time) for time, _ in marks]))
    return [(time, str(text)) for time, (_, text) in zip(times, marks, strict=True)]


def _kept(marks: list[Mark], preset: str | None) -> list[Mark]:
    """The markers that count, with their texts as they compare."""
    if preset is None:
        return marks
    found = ((time, re.search(r"(\d+)(?:\.0+)?\s*$", text)) for time, text in marks)
    return [(time, str(code)) for time, match in found if match and 100 <= (code := int(match[1])) <= 148]


def _datetime(clock: datetime | str) -> datetime:
    try:
        moment = datetime.fromisoformat(clock) if isinstance(clock, str) else clock
    except ValueError:
        raise ValueError(f"clock must be a date and time in ISO format, got {clock!r}") from None
    if not isinstance(moment, datetime) or moment.tzinfo is not None:
        raise ValueError(f"clock must be a date and time without time zone, as in file names, got {clock!r}")
    return moment


def _named_time(name: str) -> datetime:
    *date, millisecond = map(int, name.split("-")[:7])
    return datetime(*date, microsecond=1000 * millisecond)  # type: ignore[misc, arg-type]


def _start(frames: Frames | None) -> datetime:
    """When the film's second 0 was."""
    if frames is None or frames.names is None:
        raise ValueError(
            "frames must be images named Year-Month-Day-Hour-Minute-Second-Millisecond-Code-Marker, and opened without "
            f"fps, where clock is given, got {getattr(frames, 'source', None)}"
        )
    return _named_time(frames.names[0])


def _in_names(frames: Frames | None) -> list[Mark]:
    """The markers that file names state."""
    if frames is not None and frames.names is not None:
        start = _named_time(frames.names[0])
        times = np.array([(_named_time(name) - start).total_seconds() for name in frames.names])
        texts = [name.rsplit("-", 1)[1] for name in frames.names]
        # A marker came between its first frame and the one before, about half a period earlier.
        before = np.diff(times, prepend=-np.inf)
        half = np.minimum(before, 1 / frames.fps if frames.fps else 0) / 2
        first = [i for i, text in enumerate(texts) if i == 0 or text != texts[i - 1]]
        return [(float(times[i] - half[i]), texts[i]) for i in first]
    stem = "" if frames is None else Path(frames.source).stem
    match = re.fullmatch(r"[^\W_]+_\d+_(\d+)_[^_]+_[^_]+", stem)
    if match is None:
        raise ValueError(
            "markers must be given where no file name states them (Year-Month-Day-Hour-Minute-Second-Millisecond-"
            "Code-Marker of each frame, or emotion_i_MARKER_subject_date of the film), got "
            f"{getattr(frames, 'source', None)}"
        )
    return [(0.0, match[1])]


class _Line(NamedTuple):
    """A candidate: the pairs on it (indices of film and EEG markers), and eeg - film = offset + slope * film."""

    film: NDArray[np.intp]
    eeg: NDArray[np.intp]
    offset: float
    slope: float
    rms: float


def _aligned(film: list[Mark], eeg: list[Mark], tolerance: float, min_pairs: int | None) -> Alignment:
    fewer = min(len(film), len(eeg))
    needed = max(2, -(-fewer // 2)) if min_pairs is None else min_pairs
    lines = _lines(film, eeg, tolerance, MAX_SKEW * 1e-6)
    best = lines[0] if lines else None
    if best is None or len(best.film) < needed:
        _explain(film, eeg, tolerance, needed, 0 if best is None else len(best.film))
    assert best is not None
    middle = float(np.mean([time for time, _ in film]))
    for other in lines[1:]:
        shift = (other.offset + other.slope * middle) - (best.offset + best.slope * middle)
        if len(other.film) == len(best.film) and abs(shift) > 4 * tolerance:
            raise ValueError(
                f"markers must match in one way, got {len(best.film)} pairs both at an offset of {best.offset:.6g} s "
                f"and of {other.offset:.6g} s; texts, or more markers, tell them apart"
            )
    skew = best.slope * 1e6
    used = Alignment(best.offset, skew)
    pairs = tuple(Pair(eeg[j][1], film[i][0], eeg[j][0]) for i, j in zip(best.film, best.eeg, strict=True))
    residuals = np.array([pair.eeg for pair in pairs]) - used.film_to_eeg([pair.film for pair in pairs])
    first, last = used.film_to_eeg([film[0][0] - tolerance, film[-1][0] + tolerance])
    on_film, on_eeg = set(best.film.tolist()), set(best.eeg.tolist())
    return Alignment(
        best.offset,
        skew,
        pairs,
        residuals,
        tuple(mark for i, mark in enumerate(film) if i not in on_film),
        tuple(mark for j, mark in enumerate(eeg) if j not in on_eeg and first <= mark[0] <= last),
    )


def _explain(film: list[Mark], eeg: list[Mark], tolerance: float, needed: int, found: int) -> None:
    """Raise the error that says why so few markers match."""
    skewed = _lines(film, eeg, tolerance, 10 * MAX_SKEW * 1e-6, usual=10 * _USUAL_SKEW)
    if skewed and len(skewed[0].film) >= max(needed, 3) and abs(skewed[0].slope) > MAX_SKEW * 1e-6:
        raise ValueError(
            f"the clocks' skew must be within {MAX_SKEW:g} ppm, got {skewed[0].slope * 1e6:.0f} ppm from "
            f"{len(skewed[0].film)} pairs of markers"
        )
    loose = _lines(film, eeg, 10 * tolerance, MAX_SKEW * 1e-6)
    if loose and len(loose[0].film) >= max(needed, 2):
        line = loose[0]
        times, others = (np.array([time for time, _ in side]) for side in (film, eeg))
        off = others[line.eeg] - times[line.film] - (line.offset + line.slope * times[line.film])
        raise ValueError(
            f"markers must match within tolerance={tolerance:g} s, got residuals of up to {np.abs(off).max():.3g} s in "
            f"the {len(off)} pairs that fit best"
        )
    raise ValueError(
        f"markers must match in at least {needed} pairs, got {found} of {len(film)} markers of the film and {len(eeg)} "
        f"of the recording that agree in text and, within {tolerance:g} s, in time"
    )


def _lines(
    film: list[Mark], eeg: list[Mark], tolerance: float, steepest: float, usual: float = _USUAL_SKEW
) -> list[_Line]:
    """Lines through pairs of equal text that have as many others within the tolerance as any; the best one first."""
    times, others = (np.array([time for time, _ in side]) for side in (film, eeg))
    texts, names = (np.array([text for _, text in side]) for side in (film, eeg))
    equal = (texts[:, None] == names) | (texts[:, None] == "")
    i, j = np.nonzero(equal)
    x, d = times[i], others[j] - times[i]
    found: list[_Line] = []
    most = 1
    # Pairs that could be no other come first: they set the mark that spares most of the rest.
    for p in np.argsort(equal.sum(axis=1)[i] * equal.sum(axis=0)[j], kind="stable"):
        dx, dd = x - x[p], d - d[p]
        near = np.flatnonzero(np.abs(dd) <= steepest * np.abs(dx) + 2 * tolerance)
        if len(near) < most:
            continue
        slope = _slope(dx[near], dd[near], 2 * tolerance, steepest)
        line = _fitted(x, d, i, j, slope, d[p] - slope * x[p], tolerance, usual)
        if line is not None and len(line.film) >= most and abs(line.slope) <= steepest:
            most = len(line.film)
            found.append(line)
    return sorted((line for line in found if len(line.film) == most), key=lambda line: line.rms)


def _slope(dx: Float, dd: Float, reach: float, steepest: float) -> float:
    """The slope, of those within +-steepest, for which most points lie within reach of a line through the origin."""
    away = dx != 0
    a, b = (dd[away] - reach) / dx[away], (dd[away] + reach) / dx[away]
    low, high = np.maximum(np.minimum(a, b), -steepest), np.minimum(np.maximum(a, b), steepest)
    inside = low <= high
    low, high = np.sort(low[inside]), np.sort(high[inside])
    if not len(low):
        return 0.0
    # Most intervals overlap where one of them begins; of such stretches, the middle.
    depth = np.arange(1, len(low) + 1) - np.searchsorted(high, low, side="left")
    deepest = low[int(np.argmax(depth))]
    return float(deepest + high[np.searchsorted(high, deepest, side="left")]) / 2


def _fitted(
    x: Float,
    d: Float,
    i: NDArray[np.intp],
    j: NDArray[np.intp],
    slope: float,
    offset: float,
    tolerance: float,
    usual: float,
) -> _Line | None:
    """Fit to the pairs near the line, one to one, again and again until they stay the same."""
    reach, chosen = 2 * tolerance, np.empty(0, np.intp)
    for _ in range(20):
        off = np.abs(d - (offset + slope * x))
        near = np.flatnonzero(off <= reach)
        near = near[np.argsort(off[near], kind="stable")]
        for side in (i, j):  # of several pairs of one marker, the closest
            near = near[np.sort(np.unique(side[near], return_index=True)[1])]
        near = np.sort(near)
        if not len(near):
            return None
        if reach == tolerance and np.array_equal(near, chosen):
            break
        chosen, reach = near, tolerance
        middle, level = x[chosen].mean(), d[chosen].mean()
        dx = x[chosen] - middle
        slope = float(dx @ (d[chosen] - level) / (dx @ dx + (_USUAL_JITTER / usual) ** 2))
        offset = float(level - slope * middle)
    else:
        return None
    rms = float(np.sqrt(np.mean((d[chosen] - (offset + slope * x[chosen])) ** 2)))
    order = np.argsort(i[chosen], kind="stable")
    return _Line(i[chosen][order], j[chosen][order], offset, slope, rms)
