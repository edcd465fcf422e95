"""spot(): the stages joined as generators, from a film on disk to intervals."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast import __version__
from mmme_fast._arrays import number, one_of, whole
from mmme_fast._backend import active_backend, resolve_threads
from mmme_fast._files import written
from mmme_fast.alignment import Alignment
from mmme_fast.alignment import align as align_clocks
from mmme_fast.eeg import Recording, open_recording, stream_band_power
from mmme_fast.flow import FLOWS
from mmme_fast.frames import Frames, open_frames
from mmme_fast.methods import PRESETS, Expression, Method, configured, measured_part, overlap
from mmme_fast.metrics import MMME_FPS, Segment, read_truth
from mmme_fast.peripherals import Peripherals, open_peripherals, peripheral_features
from mmme_fast.results import Interval, Spotting, identity, output_folder, save
from mmme_fast.spotting import Matched, Measured, matched
from mmme_fast.tracking import Lattice, face_signals, group_size, reduced, reduced_size

logger = logging.getLogger("mmme_fast")

Progress = Callable[[int, int | None], None]

UNREST = 3.0  # px of a crop 256 wide: where the frame as a whole moves more, otherwise than a head does, none is usable
CHUNK = 128  # frames decoded at a time
SIGNALS = ("motion", "head_x", "head_y", "head_turn", "head_growth", "strain", "valid")
EEG_WINDOW = PERIPHERAL_WINDOW = 1.0  # s, centred on each frame


def spot(
    source: Any,
    *,
    preset: str | None = None,
    method: str | Method = "matched",
    flow: str = "farneback",
    warm_start: int = 0,
    crop: Any = "auto",
    size: int = 256,
    fps: float | None = None,
    landmarks: Any = None,
    eeg: Any = None,
    peripherals: Any = None,
    align: Any = None,
    baseline: float | None = None,
    truth: Any = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    threads: int | None = None,
) -> Spotting:
    """Spot facial expressions in a film, streamed in chunks.

    By default, frames are cropped, averaged to about 50 per second and 128 pixels, held still against the head's
    motion, and followed by dense flow from a reference frame that is renewed about every 2 seconds; what remains at the
    blocks of a lattice is searched for expressions of 0.2 to 2 seconds (`spotting.Matched`). The field's published
    methods can take its place (`mmme_fast.methods`). Memory does not grow with the film.

    Parameters
    ----------
    source : path, array or Frames
        What `open_frames` opens, or has opened; `crop`, `size`, `fps` and `landmarks` then count for nothing.
    preset : {"casme2", "casme3", "samm-lv", "smic", "4dme", "mmme"}, optional
        The data set whose lengths of expressions a named method uses, and whose frame rate where the source has none
        (`mmme_fast.methods.PRESETS`; "casme2" is CAS(ME)^2).
    method : {"matched", "roi", "strain", "mdmd", "lbp"} or a dataclass of these, default "matched"
        How frames become scores and intervals: by name, or with parameters of your own, as in
        ``method=mmme_fast.methods.Mdmd(p=0.1, quadrant="atan")``. Only "matched" tells blinks from expressions.
    flow : {"farneback", "tvl1", "dis"}, default "farneback"
        Dense flow method; "lbp" uses none.
    warm_start : int, default 0
        With ``flow="tvl1"``, start a pair from the flow before it, and cold every so many pairs, as in `tvl1`: three
        times as fast, with another result. 32 serves well.
    crop : {"auto", "full"} or (x, y, width, height), default "auto"
        Part of the frame to look at: "auto" finds the face (needs ``pip install "mmme_fast[face]"``, or landmarks) and
        moves with it; what happens while there is no face is not reported.
    size : int, default 256
        Longer side of the crop after resizing, in pixels.
    fps : float, optional
        Frames per second; needed where the source does not know.
    landmarks : path or array_like, optional
        Where the face and its eyes are, as for `open_frames`: OpenFace's or MediaPipe's points, or boxes. Blinks are
        told from expressions by known eyes.
    eeg : path or Recording, optional
        What `open_recording` opens: band power (the bands and defaults of `band_power`) of the second around each
        frame, and its mean over each interval.
    peripherals : path or Peripherals, optional
        What `open_peripherals` opens: mean, slope, range and rate of pulse, breath, skin conductance and temperature in
        the second around each frame, and in each interval (`peripheral_features`).
    align : None, float, "mmme" or Alignment, or a mapping of "eeg" and "peripherals" to such, default None
        How a recording's time follows from the film's: None takes them as equal, a number is the second of the
        recording at the film's second 0, "mmme" finds it from the markers of both, an Alignment comes from
        `mmme_fast.align`. What is no mapping holds for both recordings.
    baseline : float, optional
        Seconds before each onset whose mean band power, and peripheral means and rates, are subtracted from the
        interval's. Default: none are.
    truth : path or list of Segment, optional
        Annotated expressions, which the report shows: what `metrics.read_truth` reads, of this film, or of any film
        where the table has only one.
    out : path, optional
        Folder for intervals.csv, blinks.csv, signals.npz, meta.json and, with the extra "report", report.html; with
        `eeg` also band_power.npy, with `peripherals` peripherals.npz, with either features.csv (`Spotting.features`).
        Each is written to a temporary file and renamed.
    progress : bool or callable, optional
        True shows a bar (tqdm, extra "report"); a callable gets (frames done, frames in all or None).
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    Spotting

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        When the source cannot be read or an argument breaks its rule. A source that fails midway leaves the results of
        the frames before in `out`, and the message says so.
    KeyboardInterrupt
        After Ctrl-C: what was done is scored and written first, and the message says where. A second one ends at once.

    Examples
    --------
    A drawn face with three expressions in 12 s:

    >>> from mmme_fast import synth
    >>> film = synth.film(12, fps=30, size=128, seed=1, micro=10, macro=5)
    >>> found = mf.spot(film.frames(), fps=film.fps, crop="full", size=128)
    >>> [(one.type, one.onset, one.offset) for one in found.intervals]
    [('micro', 25, 36), ('micro', 72, 85), ('macro', 198, 234)]
    >>> [(event.type, event.onset, event.offset) for event in film.truth if event.type != "blink"]
    [('micro', 25, 36), ('micro', 72, 86), ('macro', 198, 234)]
    >>> found.scores.shape  # one per frame; 1 is the threshold
    (360,)
    """
    chosen = configured(method, preset)
    estimator = FLOWS[one_of(flow, "flow", tuple(FLOWS))]
    if whole(warm_start, "warm_start", low=0):
        one_of(flow, "flow, with warm_start,", ("tvl1",))
        estimator = functools.partial(estimator, warm_start=warm_start)
    whole(size, "size", low=32)
    resolve_threads(threads)
    if progress is True:
        import tqdm  # noqa: F401  (missing, it should say so before the work)
    for name, value in (("align", align), ("baseline", baseline)):
        if eeg is None and peripherals is None and value is not None:
            raise ValueError(f"{name} must be None without eeg or peripherals, got {value!r}")
    if baseline is not None:
        baseline = number(baseline, "baseline", low=0, open_low=True)
    recording = eeg if eeg is None or isinstance(eeg, Recording) else open_recording(eeg)
    if peripherals is not None and not isinstance(peripherals, Peripherals):
        peripherals = open_peripherals(peripherals)
    frames = _opened(source, preset, crop, size, fps, landmarks)
    assert frames.fps is not None
    annotated = _annotated(truth, frames)
    aligned = {
        name: _alignment(align, name, frames, opened)
        for name, opened in (("eeg", recording), ("peripherals", peripherals))
        if opened is not None
    }
    folder = None if out is None else output_folder(Path(out))

    begun = time.perf_counter()
    run = _Run(frames, progress)
    group = group_size(frames.fps) if isinstance(chosen, Matched) else group_size(frames.fps, chosen.rate)
    rate = frames.fps / group
    with _interruptible(run):
        if isinstance(chosen, Matched):
            scores, found, measured = _matched(run, group, chosen, estimator, threads)
        else:
            spotted = chosen(reduced(run.chunks(), group, chosen.width, threads), rate, estimator, threads)
            scores, found, measured = spotted.scores, spotted.expressions, spotted.signals
            measured["valid"] = np.ones(len(scores), np.float32)
    seconds = time.perf_counter() - begun

    times = np.array(frames.timestamps[: run.done])
    intervals = [_interval(one, group, times) for one in found]
    unmeasured = np.full(len(scores), np.nan, np.float32)
    per_sample = {"score": scores, **{name: measured.get(name, unmeasured) for name in SIGNALS}}
    signals = {"timestamp": times, **{k: np.repeat(v, group)[: run.done] for k, v in per_sample.items()}}
    faces = _with_face(frames, run.done)
    signals["valid"] = (signals["valid"] > 0) & faces
    signals["valid"][:group] |= faces[:group]  # before which nothing was to compare it with
    intervals = [one for one in intervals if signals["valid"][one.onset : one.offset + 1].all()]
    signals["blink"] = np.zeros(run.done, bool)
    for one in intervals:
        if one.type == "blink":
            signals["blink"][one.onset : one.offset + 1] = True
    if not faces.all():
        run.warn(f"no face in {run.done - int(faces.sum())} frames, the first of them frame {int(faces.argmin())}")
    if run.failure is not None:
        run.warn(f"ends early, after {run.done} frames: {run.failure}")
    if run.interrupted:
        run.warn(f"interrupted after {run.done} frames")
    result = Spotting(
        intervals=[i for i in intervals if i.type != "blink"],
        blinks=[i for i in intervals if i.type == "blink"],
        signals=signals,
        fps=frames.fps,
        source=frames,
        truth=annotated,
        meta={
            "mmme_fast": __version__,
            "backend": active_backend(),
            "input": identity(frames.source),
            "parameters": {
                "method": type(chosen).__name__.lower(), "preset": preset, "flow": flow,
                "warm_start": warm_start, "crop": list(frames.crop),
                "size": size, "fps": frames.fps, "grey": frames.grey, "samples_per_second": rate,
                type(chosen).__name__.lower(): asdict(chosen),
            },
            "frames": run.done,
            "complete": run.failure is None and not run.interrupted and bool(frames.complete),
            "seconds": round(seconds, 3),
            "frames_per_second": round(run.done / seconds, 1),
            "threads": resolve_threads(threads),
            "warnings": [*frames.warnings, *run.warnings],
        },
    )  # fmt: skip
    try:
        if recording is not None:
            _add_band_power(result, recording, aligned["eeg"], baseline, folder, threads)
        if peripherals is not None:
            _add_peripherals(result, peripherals, aligned["peripherals"], baseline)
    except (ValueError, OSError) as error:  # the film's part is not to be lost
        run.failure = run.failure or error
    where = "" if folder is None else f"; what was done is in {save(result, folder)}"
    if run.failure is not None:
        raise type(run.failure)(f"{run.failure}{where}") from run.failure
    if run.interrupted:
        raise KeyboardInterrupt(f"interrupted after {run.done} frames{where}")
    return result


def _opened(source: Any, preset: str | None, crop: Any, size: int, fps: float | None, landmarks: Any) -> Frames:
    """The frames of a source, whose rate is known."""
    frames = source
    if not isinstance(frames, Frames):
        frames = open_frames(source, crop=crop, size=size, fps=fps, landmarks=landmarks)
        if frames.fps is None and preset is not None:
            frames = open_frames(source, crop=crop, size=size, fps=PRESETS[preset].fps, landmarks=landmarks)
    if frames.fps is None:
        raise ValueError(f"fps must be given: {frames.source} has no times of its own")
    return frames


class Parts:
    """A film that is measured in parts, by several workers, for `spot` to join: the same bits as in one go.

    Parts begin at samples that depend on the film and the method alone. Frames have to be decoded from the start for
    any of them, since a film says where its frames are only as it is read, and a crop that follows a face depends on
    all before.
    """

    def __init__(
        self,
        source: Any,
        seconds: float,
        *,
        preset: str | None = None,
        method: str | Method = "matched",
        flow: str = "farneback",
        crop: Any = "auto",
        size: int = 256,
        fps: float | None = None,
        landmarks: Any = None,
        **_: Any,
    ) -> None:
        self.method, self.flow = configured(method, preset), FLOWS[flow]
        self.count = 0  # one part is none
        if isinstance(self.method, Matched):
            return
        self.frames = _opened(source, preset, crop, size, fps, landmarks)
        assert self.frames.fps is not None
        self.group = group_size(self.frames.fps, self.method.rate)
        self.rate = self.frames.fps / self.group
        self.overlap, step = overlap(self.method, self.rate)
        self.length = max(round(seconds * self.rate) // step, 1) * step
        count = (self.frames.declared or 0) // self.group // self.length
        self.count = count if count > 1 else 0

    def measure(self, number: int, threads: int | None) -> dict[str, NDArray[Any]]:
        """What is measured in one part; the last goes on to the film's end, wherever that is."""
        assert not isinstance(self.method, Matched)
        first = number * self.length
        stop = None if number == self.count - 1 else first + self.length
        end = np.inf if stop is None else (stop + self.overlap) * self.group

        def chunks() -> Iterator[NDArray[Any]]:
            seen = 0
            with contextlib.closing(self.frames.chunks(CHUNK)) as whole:
                for chunk in whole:
                    wanted = chunk[max(first * self.group - seen, 0) : int(min(max(end - seen, 0), len(chunk)))]
                    seen += len(chunk)
                    if len(wanted):
                        yield wanted
                    if seen >= end:
                        return

        samples = reduced(chunks(), self.group, self.method.width, threads)
        return measured_part(self.method, samples, first, stop, self.rate, self.flow, threads)


def _matched(
    run: _Run, group: int, method: Matched, flow: Callable[..., NDArray[np.float32]], threads: int | None
) -> tuple[NDArray[np.float32], list[Expression], dict[str, NDArray[np.float32]]]:
    """Scores, expressions and blinks, and signals, by the default method."""
    frames = run.frames
    assert frames.fps is not None
    rate = frames.fps / group
    lattice = Lattice(*reduced_size(*frames.shape[1:]))
    points = lattice.blocks / lattice.unit
    kept: list[NDArray[np.float32]] = []  # (sample, 7) of each part: what is per sample stays, block signals pass by

    def moved(sample: int) -> bool:
        """Whether the crop is another in this group of frames, or another face is in it."""
        return any(first > 0 and first // group == sample for first, _ in frames.faces)

    def blocks() -> Iterator[Measured]:
        for part in face_signals(reduced(run.chunks(), group, threads=threads), rate, flow, threads, moved):
            usable = (part.valid.mean(1) > 0.5) & (part.unrest <= UNREST)
            kept.append(np.column_stack([part.motion, part.head, part.strain, usable]))
            yield part.blocks, part.valid, part.unrest

    scores, found = matched(blocks(), rate, points, method, eyes=_eyes(frames, group))
    expressions = [
        Expression(
            one.onset, one.apex, one.offset, one.type, one.score, float(points[one.block, 0]),
            float(points[one.block, 1]), float(np.hypot(*one.pattern[one.block])),
        )
        for one in found
    ]  # fmt: skip
    return scores, expressions, dict(zip(SIGNALS, np.concatenate(kept).T, strict=True))


def _annotated(truth: Any, frames: Frames) -> list[Segment]:
    """The annotated expressions of this film."""
    if truth is None:
        return []
    if not isinstance(truth, str | os.PathLike):
        return list(truth)
    segments, notes = read_truth(truth, fps=frames.fps or MMME_FPS)
    for note in notes:
        logger.warning("%s", note)
    videos = {one.video for one in segments}
    name = Path(frames.source)
    chosen = [one for one in segments if len(videos) == 1 or one.video in (name.stem, name.name)]
    if not chosen:
        raise ValueError(f"truth must hold expressions of {name.stem}, got videos {', '.join(sorted(videos)[:5])}")
    return chosen


def _with_face(frames: Frames, done: int) -> NDArray[np.bool_]:
    """(frame,): whether the crop holds a face, as far as one was looked for."""
    there = np.ones(done, bool)
    for first, box in frames.faces:
        there[first:] = box is not None
    return there


def _eyes(frames: Frames, group: int) -> Callable[[int], NDArray[np.float64]] | None:
    """Where the eyes are in a group of frames, in parts of the crop's width; None where nothing says so."""
    marks = frames.landmarks
    if marks is None or marks.eyes is None:
        return None

    def eyes(sample: int) -> NDArray[np.float64]:
        frame = sample * group + (group - 1) // 2
        x, y, width, height = next((b for first, b in reversed(frames.faces) if b and first <= frame), frames.crop)
        seen: NDArray[np.float64] = (marks.eyes_of(frame) - [x, y]) / max(width, height)
        return seen

    return eyes


def _interval(one: Expression, group: int, times: NDArray[np.float64]) -> Interval:
    """From samples, groups of frames, to frames and seconds."""
    middles = (at * group + (group - 1) / 2 for at in (one.onset, one.apex, one.offset))
    onset, apex, offset = (min(max(round(middle), 0), len(times) - 1) for middle in middles)
    return Interval(
        onset, apex, offset, float(times[onset]), float(times[apex]), float(times[offset]), one.type, one.score,
        one.x, one.y, one.amplitude,
    )  # fmt: skip


def _alignment(align: Any, name: str, frames: Frames, recording: Recording | Peripherals) -> Alignment:
    """What the argument `align` stands for, for the recording that is the argument `name`."""
    if isinstance(align, Mapping):
        for key in align:
            one_of(key, "align", ("eeg", "peripherals"))
        align = align.get(name)
    if align is None:
        return Alignment()
    if isinstance(align, Alignment):
        return align
    if isinstance(align, str):
        found = align_clocks(frames, recording, preset=one_of(align, "align", ("mmme",)))
        logger.info("%s and %s: %s", frames.source, recording.source, found)
        return found
    return Alignment(number(align, "align", low=-np.inf))


def _add_band_power(
    result: Spotting,
    recording: Recording,
    aligned: Alignment,
    baseline: float | None,
    folder: Path | None,
    threads: int | None,
) -> None:
    """Band power of the EEG_WINDOW around each frame, to band_power.npy in the folder, and its means over intervals."""
    times = result.signals["timestamp"]
    starts = aligned.film_to_eeg(times) - EEG_WINDOW / 2
    samples = np.rint(starts * recording.sfreq)
    known = np.flatnonzero((samples >= 0) & (samples + round(EEG_WINDOW * recording.sfreq) <= recording.n_samples))
    if not len(known):
        raise ValueError(f"eeg must overlap the film in time, got {recording.duration:g} s of {recording.source}")
    stream = stream_band_power(recording, window=EEG_WINDOW, at=starts[known], threads=threads)
    known = known[stream.kept]  # no window spans a gap of the recording
    shape = (len(starts), len(recording.ch_names), len(stream.bands))

    def pieces() -> Iterator[NDArray[np.float32]]:
        """All frames in order, NaN where the window leaves the recording."""
        done = windows = 0
        for _, power in stream:
            frames = known[windows : windows + len(power)]
            piece = np.full((frames[-1] + 1 - done, *shape[1:]), np.nan, np.float32)
            piece[frames - done] = power
            yield piece
            done, windows = frames[-1] + 1, windows + len(power)
        yield np.full((shape[0] - done, *shape[1:]), np.nan, np.float32)

    if folder is None:
        result.band_power = np.concatenate(list(pieces()))
    else:
        with written(folder / "band_power.npy") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces():
                file.write(np.ascontiguousarray(piece, "<f4").tobytes())
        result.band_power = np.load(folder / "band_power.npy", mmap_mode="r")
    power = result.band_power

    def mean(first: int, stop: int) -> NDArray[np.float64]:
        """Over the frames whose window lies in the recording; NaN where none does."""
        part = power[known[np.searchsorted(known, first) : np.searchsorted(known, stop)]]
        return np.mean(part, axis=0, dtype=np.float64) if len(part) else np.full(shape[1:], np.nan)

    means = []
    for one in result.intervals:
        level = mean(one.onset, one.offset + 1)
        if baseline is not None:
            level = level - mean(int(np.searchsorted(times, one.onset_s - baseline - 1e-6)), one.onset)
        means.append(level)
    result.interval_power = np.array(means, np.float32).reshape(len(means), *shape[1:])
    result.meta["eeg"] = {
        "source": recording.source,
        "channels": list(recording.ch_names),
        "bands": {name: list(edges) for name, edges in stream.bands.items()},
        "unit": stream.unit,
        "window": EEG_WINDOW,
        "resolution": stream.resolution,
        "baseline": baseline,
        "frames_without": len(times) - len(known),
        "alignment": _described(aligned),
    }


def _add_peripherals(result: Spotting, peripherals: Peripherals, aligned: Alignment, baseline: float | None) -> None:
    """Features of the PERIPHERAL_WINDOW around each frame, and of each interval."""
    times = result.signals["timestamp"]
    onsets = np.array([one.onset_s for one in result.intervals])
    ends = np.array([one.offset_s for one in result.intervals]) + 1 / result.fps
    before = onsets if baseline is None else onsets - baseline
    # All in one go, as beats are sought once: the frames, the intervals, and the time before each.
    begin = np.concatenate([aligned.film_to_eeg(each) for each in (times, onsets, before)])
    begin[: len(times)] -= PERIPHERAL_WINDOW / 2
    length = np.concatenate([
        np.full(len(times), PERIPHERAL_WINDOW), aligned.film_to_eeg(ends) - aligned.film_to_eeg(onsets),
        np.full(len(onsets), baseline or PERIPHERAL_WINDOW),
    ])  # fmt: skip
    for name, values in peripheral_features(peripherals, begin, window=length).items():
        frames, intervals, level = np.split(values, [len(times), len(times) + len(onsets)])
        result.peripherals[name] = frames.astype(np.float32)
        level_like = name.endswith((" mean", " rate"))
        result.interval_peripherals[name] = intervals - level if baseline is not None and level_like else intervals
    result.meta["peripherals"] = {
        "source": peripherals.source,
        "channels": [
            {"name": one.name, "kind": one.kind, "unit": one.unit, "sfreq": one.sfreq} for one in peripherals.channels
        ],
        "window": PERIPHERAL_WINDOW,
        "baseline": baseline,
        "alignment": _described(aligned),
    }


def _described(aligned: Alignment) -> dict[str, Any]:
    return {
        "offset": aligned.offset,
        "skew_ppm": aligned.skew,
        "pairs": [list(pair) for pair in aligned.pairs],
        "residuals": aligned.residuals.tolist(),
        "lost_film": [list(mark) for mark in aligned.lost_film],
        "lost_eeg": [list(mark) for mark in aligned.lost_eeg],
    }


class _Run:
    """One pass over a film: how far it is, and why it ended."""

    def __init__(self, frames: Frames, progress: bool | Progress | None) -> None:
        self.frames = frames
        self.done = 0
        self.interrupted = False
        self.failure: Exception | None = None
        self.warnings: list[str] = []
        self.progress = progress

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning("%s: %s", self.frames.source, text)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """The film's chunks until it ends, fails or is interrupted; a film that fails keeps what came before."""
        total = self.frames.shape[0]
        with contextlib.ExitStack() as stack:
            report = stack.enter_context(_bar(total)) if self.progress is True else self.progress or None
            chunks = stack.enter_context(contextlib.closing(self.frames.chunks(CHUNK)))
            while not self.interrupted:
                try:
                    chunk = next(chunks)
                except StopIteration:
                    break
                except (ValueError, OSError) as error:
                    if not self.done:
                        raise
                    self.failure = error
                    break
                self.done += len(chunk)
                if report is not None:
                    report(self.done, total)
                yield chunk


@contextlib.contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr."""
    from tqdm import tqdm

    with tqdm(total=total, unit=" frames", unit_scale=True, dynamic_ncols=True) as bar:
        yield lambda done, _: bar.update(done - bar.n)


@contextlib.contextmanager
def _interruptible(run: _Run) -> Iterator[None]:
    """Let the first Ctrl-C end the film early instead of the program; the second is Python's own."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield
        return

    def stop(*_: object) -> None:
        run.interrupted = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
