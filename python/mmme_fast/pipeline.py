"""spot(): the stages joined as generators, from a film on disk to intervals."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast import __version__, flow, motion
from mmme_fast._arrays import MIN_SIZE, one_of, whole
from mmme_fast._backend import active_backend, resolve_threads
from mmme_fast.frames import Frames, open_frames
from mmme_fast.spotting import Found, Matched, block_means, matched
from mmme_fast.strain import optical_strain

logger = logging.getLogger("mmme_fast")

Floats = NDArray[np.float64]
Flow = Callable[..., NDArray[np.float32]]
Progress = Callable[[int, int | None], None]

WIDTH = 128  # px: frames are reduced to about this before flow; 96 finds fewer expressions, more finds no more
RATE = 50.0  # frames/s: faster film is averaged in groups to about this, which takes the noise down
RENEWAL = 2.3  # s until the reference frame of flow is renewed
RENEWAL_CHOICE = 0.6  # s at the end of that time, of which the calmest frame becomes the new reference
SCENE = 0.7  # two frames in sequence that correlate less belong to two scenes
ANCHOR_LEFT = 0.004  # of the width: the pose is held against the first frame while the median residual is below
CHUNK = 128  # frames decoded at a time
CELL = 4  # px of the reduced frame: flow is averaged over cells of this size
LATTICE = 1 / 16  # of the width: distance between blocks
BLOCK_SIGMA = 0.045  # of the width: Gaussian window of a block
EDGE = 0.09  # of the width: blocks nearer than this to the border of the crop are left out


@dataclass(frozen=True)
class Interval:
    """One expression or blink.

    Frames are numbers of the film's frames, all of them inside the interval; seconds are the film's timestamps. `x` and
    `y` say where on the crop the motion is strongest, in parts of its width; `amplitude` is in pixels of a crop 256
    pixels wide.
    """

    onset: int
    apex: int
    offset: int
    onset_s: float
    apex_s: float
    offset_s: float
    type: str
    score: float
    x: float
    y: float
    amplitude: float


COLUMNS = ("onset", "apex", "offset", "onset_s", "apex_s", "offset_s", "type", "score")


@dataclass
class Spotting:
    """What `spot` found.

    Attributes
    ----------
    intervals : list of Interval
        Expressions, "micro" and "macro", in order of onset.
    blinks : list of Interval
        Blinks, which are no expressions.
    signals : dict of str to ndarray, (frame,)
        "timestamp" (s); "score"; "motion", the largest motion of any block, and "head_x", "head_y", the head's, in pixels
        of a crop 256 pixels wide; "head_turn" (degrees); "head_growth" (a part of 1); "strain" (mean optical strain).
    fps : float
        Frames per second.
    meta : dict
        Parameters, version, input identity, timing and warnings, as in meta.json.
    """

    intervals: list[Interval]
    blinks: list[Interval]
    signals: dict[str, NDArray[Any]]
    fps: float
    meta: dict[str, Any] = field(default_factory=dict)
    source: Any = field(default=None, repr=False)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Spotting score per frame; 1 is the threshold."""
        return self.signals["score"]

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the intervals to a CSV file and return its path.

        Columns: onset, apex, offset (frames), onset_s, apex_s, offset_s (seconds), type, score.
        """
        return _write_intervals(Path(path), self.intervals)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, one self-contained page, and return its path. Needs ``pip install "mmme_fast[report]"``."""
        from mmme_fast.report import page

        with _written(Path(path)) as file:
            file.write(page(self).encode())
        return Path(path)


def spot(
    source: Any,
    *,
    preset: str | None = None,
    method: str = "matched",
    flow: str = "farneback",
    crop: Any = "auto",
    size: int = 256,
    fps: float | None = None,
    eeg: Any = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    threads: int | None = None,
) -> Spotting:
    """Spot facial expressions in a film, streamed in chunks.

    Frames are cropped, averaged to about 50 per second and 128 pixels, held still against the head's motion, and followed
    by dense flow from a reference frame that is renewed about every 2 seconds; what remains at the blocks of a lattice is
    searched for expressions of 0.2 to 2 seconds (`spotting.Matched`). Memory does not grow with the film's length.

    Parameters
    ----------
    source : path, array or Frames
        What `open_frames` opens.
    preset : None
        Reserved for settings per data set; there is none yet.
    method : {"matched"}, default "matched"
        How signals become scores and intervals.
    flow : {"farneback", "tvl1"}, default "farneback"
        Dense flow method.
    crop : {"auto", "full"} or (x, y, width, height), default "auto"
        Part of the frame to look at: "auto" finds the face (needs ``pip install "mmme_fast[face]"``).
    size : int, default 256
        Longer side of the crop after resizing, in pixels.
    fps : float, optional
        Frames per second; needed where the source does not know.
    eeg : optional
        Recording whose band power is wanted per frame and per interval.
    out : path, optional
        Folder for intervals.csv, blinks.csv, signals.npz, meta.json and, with the extra "report", report.html. Each is
        written to a temporary file and renamed.
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
        After Ctrl-C: what was done is scored and written first, and the message says where. A second Ctrl-C ends at once.
    """
    if preset is not None:
        raise ValueError(f"preset must be None, got {preset!r}")
    one_of(method, "method", ("matched",))
    estimator = FLOWS[one_of(flow, "flow", tuple(FLOWS))]
    whole(size, "size", low=32)
    resolve_threads(threads)
    folder = None if out is None else _output_folder(Path(out))
    frames = source if isinstance(source, Frames) else open_frames(source, crop=crop, size=size, fps=fps)
    if frames.fps is None:
        raise ValueError(f"fps must be given: {frames.source} has no times of its own")

    begun = time.perf_counter()
    group = group_size(frames.fps)
    rate = frames.fps / group
    run = _Run(frames, progress)
    kept: list[NDArray[np.float32]] = []  # (sample, 6) of each part: what is per sample stays, block signals pass by

    def blocks() -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        for part in face_signals(reduced(run.chunks(), group), rate, estimator, threads):
            kept.append(np.column_stack([part.motion, part.head, part.strain]))
            yield part.blocks, part.valid

    height, width = frames.shape[1:]
    lattice = Lattice(*_reduced_size(height, width))
    with _interruptible(run):
        scores, found = matched(blocks(), rate, lattice.blocks / lattice.unit)
    seconds = time.perf_counter() - begun

    times = np.array(frames.timestamps[: run.done])

    def interval(one: Found) -> Interval:
        onset, apex, offset = (
            int(np.clip(round(at * group + (group - 1) / 2), 0, run.done - 1))
            for at in (one.onset, one.apex, one.offset)
        )
        x, y = lattice.blocks[one.block] / lattice.unit
        size_ = float(np.hypot(*one.pattern[one.block]))
        return Interval(
            onset, apex, offset, float(times[onset]), float(times[apex]), float(times[offset]), one.type, one.score,
            float(x), float(y), size_,
        )  # fmt: skip

    intervals = [interval(one) for one in found]
    names = ("motion", "head_x", "head_y", "head_turn", "head_growth", "strain")
    per_sample = {"score": scores, **dict(zip(names, np.concatenate(kept).T, strict=True))}
    if run.failure is not None:
        run.warn(f"ends early, after {run.done} frames: {run.failure}")
    elif run.interrupted:
        run.warn(f"interrupted after {run.done} frames")
    result = Spotting(
        intervals=[i for i in intervals if i.type != "blink"],
        blinks=[i for i in intervals if i.type == "blink"],
        signals={"timestamp": times, **{k: np.repeat(v, group)[: run.done] for k, v in per_sample.items()}},
        fps=frames.fps,
        source=frames,
        meta={
            "mmme_fast": __version__,
            "backend": active_backend(),
            "input": _identity(frames.source),
            "parameters": {
                "method": method, "flow": flow, "crop": list(frames.crop), "size": size, "fps": frames.fps,
                "grey": frames.grey, "samples_per_second": rate, **{"matched": asdict(Matched())},
            },
            "frames": run.done,
            "complete": run.failure is None and not run.interrupted and bool(frames.complete),
            "seconds": round(seconds, 3),
            "frames_per_second": round(run.done / seconds, 1),
            "threads": resolve_threads(threads),
            "warnings": [*frames.warnings, *run.warnings],
        },
    )  # fmt: skip
    where = "" if folder is None else f"; what was done is in {_save(result, folder)}"
    if run.failure is not None:
        raise type(run.failure)(f"{run.failure}{where}") from run.failure
    if run.interrupted:
        raise KeyboardInterrupt(f"interrupted after {run.done} frames{where}")
    return result


FLOWS: dict[str, Flow] = {"farneback": flow.farneback, "tvl1": flow.tvl1}


class _Run:
    """One pass over a film: how far it is, and why it ended."""

    def __init__(self, frames: Frames, progress: bool | Progress | None) -> None:
        self.frames = frames
        self.done = 0
        self.interrupted = False
        self.failure: Exception | None = None
        self.warnings: list[str] = []
        self.report = _bar if progress is True else progress or None

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning("%s: %s", self.frames.source, text)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """The film's chunks until it ends, fails or is interrupted; a film that fails keeps what came before."""
        total = self.frames.shape[0]
        with contextlib.ExitStack() as stack:
            report = stack.enter_context(self.report(total)) if self.report is _bar else self.report
            chunks = self.frames.chunks(CHUNK)
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
            chunks.close()


@contextlib.contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr."""
    from tqdm import tqdm

    with tqdm(total=total, unit=" frames", unit_scale=True, dynamic_ncols=True) as bar:
        yield lambda done, _: bar.update(done - bar.n)


@contextlib.contextmanager
def _interruptible(run: _Run) -> Iterator[None]:
    """Let the first Ctrl-C end the film early instead of the program; the second is Python's own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        run.interrupted = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _output_folder(folder: Path) -> Path:
    """Make the folder and prove, before the long work, that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            error.errno, f"out must be a folder that can be written to: {error.strerror}", str(folder)
        ) from None
    return folder


@contextlib.contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o666 & ~_UMASK)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()  # it can only be read by setting it, which threads would notice later


def _write_intervals(path: Path, intervals: list[Interval]) -> Path:
    with _written(path) as binary:
        text = io.TextIOWrapper(binary, "utf-8", newline="", write_through=True)
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for one in intervals:
            values = (getattr(one, column) for column in COLUMNS)
            table.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
        text.detach()
    return path


def _save(result: Spotting, folder: Path) -> Path:
    result.to_csv(folder / "intervals.csv")
    _write_intervals(folder / "blinks.csv", result.blinks)
    with _written(folder / "signals.npz") as file:
        np.savez_compressed(file, **result.signals)  # type: ignore[arg-type]
    try:
        result.to_html(folder / "report.html")
    except ImportError as error:
        result.meta["warnings"].append(f"report.html was not written: {error}")
        logger.warning("%s", result.meta["warnings"][-1])
    with _written(folder / "meta.json") as file:  # last: where it is, the rest is whole
        file.write(json.dumps(result.meta, indent=2).encode())
    return folder


def _identity(source: str) -> dict[str, Any]:
    """What tells this input from another: size, time of change, and a hash of its head and tail."""
    path = Path(source)
    if not path.exists():
        return {"source": source}
    if path.is_dir():
        names = sorted(entry.name for entry in os.scandir(path))
        return {"source": source, "files": len(names), "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(1 << 16))
        file.seek(max(size - (1 << 16), 0))
        digest.update(file.read())
    return {"source": source, "bytes": size, "modified": path.stat().st_mtime, "sha256": digest.hexdigest()}


@dataclass
class Signals:
    """What is measured per sample (a group of frames); amplitudes in pixels of a crop 256 pixels wide."""

    blocks: NDArray[np.float32]  # (sample, block, 2): motion of the skin, head motion removed
    valid: NDArray[np.bool_]  # (sample, block): the block's surroundings were inside the frame
    head: NDArray[np.float32]  # (sample, 4): dx, dy of the crop's centre, turn in degrees, growth
    strain: NDArray[np.float32]  # (sample,): mean optical strain against the reference frame

    @property
    def motion(self) -> NDArray[np.float32]:
        """(sample,): how far the block that moves most has moved."""
        return np.hypot(self.blocks[..., 0], self.blocks[..., 1]).max(1)


def group_size(fps: float) -> int:
    """How many frames are averaged into one sample."""
    return max(round(fps / RATE), 1) if fps > 1.5 * RATE else 1


def reduced(chunks: Iterable[NDArray[Any]], group: int) -> Iterator[NDArray[np.float32]]:
    """Average groups of frames, reduce them to about WIDTH by area, and scale them to 0..1: (sample, y, x)."""
    rest: NDArray[Any] | None = None
    for chunk in chunks:
        frames = chunk if rest is None else np.concatenate([rest, chunk])
        whole = len(frames) // group * group
        rest = frames[whole:] if whole < len(frames) else None
        if whole:
            yield _reduce(frames[:whole], group)
    if rest is not None:
        yield _reduce(rest, len(rest))


def _reduced_size(height: int, width: int) -> tuple[int, int]:
    factor = max(max(height, width) // WIDTH, 1)
    return height // factor, width // factor


def _reduce(frames: NDArray[Any], group: int) -> NDArray[np.float32]:
    unit = {"uint8": 255.0, "uint16": 65535.0}.get(frames.dtype.name, 1.0)
    # Frame by frame: no temporary of the whole chunk in float.
    sums = frames[::group].astype(np.float32)
    for i in range(1, group):
        sums += frames[i::group]
    sums *= np.float32(1 / (unit * group))
    size = _reduced_size(*frames.shape[1:])
    return sums if size == frames.shape[1:] else block_means(sums, *size)


class Lattice:
    """Cells, over which flow is averaged, and blocks, whose motion is followed, of frames of one size."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.rows, self.columns = max(height // CELL, 2), max(width // CELL, 2)
        self.unit = float(max(height, width))
        ys = (np.arange(self.rows) + 0.5) * height / self.rows - 0.5
        xs = (np.arange(self.columns) + 0.5) * width / self.columns - 0.5
        self.cells = np.stack(np.meshgrid(xs, ys), axis=-1)  # (rows, columns, 2): (x, y)
        step, edge = LATTICE * self.unit, EDGE * self.unit

        def line(size: int) -> Floats:
            n = max(int((size - 1 - 2 * edge) / step), 0)
            return (size - 1) / 2 + step * (np.arange(n + 1) - n / 2)

        self.blocks = np.stack(np.meshgrid(line(width), line(height)), axis=-1).reshape(-1, 2)
        distance = ((self.blocks[:, None] - self.cells.reshape(1, -1, 2)) ** 2).sum(-1)
        window = np.exp(-distance / (2 * (BLOCK_SIGMA * self.unit) ** 2))
        self.window = window / window.sum(1, keepdims=True)  # (block, cell)

    def inside(self, maps: Floats) -> NDArray[np.bool_]:
        """Which cells (map, cell) are inside the frame after the maps moved them."""
        points = self.cells.reshape(-1, 2)
        moved = points + motion.displace(maps, points)
        inside: NDArray[np.bool_] = ((moved >= 0) & (moved <= [self.width - 1, self.height - 1])).all(-1)
        return inside

    def motion_of_blocks(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean vectors around the blocks, in pixels of a crop 256 pixels wide."""
        means = np.einsum("bc,ncv->nbv", self.window, cells.reshape(len(cells), -1, 2), optimize=True)
        return (means * (256 / self.unit)).astype(np.float32)

    def head(self, poses: Floats) -> NDArray[np.float32]:
        """Motion of the crop's centre in pixels of a crop 256 pixels wide, turn in degrees, and growth."""
        centre = np.array([[(self.width - 1) / 2, (self.height - 1) / 2]])
        shift = motion.displace(poses, centre)[:, 0] * (256 / self.unit)
        a, c = poses[:, 0, 0], poses[:, 1, 0]
        return np.column_stack([shift, np.degrees(np.arctan2(c, a)), np.hypot(a, c) - 1]).astype(np.float32)


def face_signals(
    samples: Iterable[NDArray[np.float32]], rate: float, method: Flow, threads: int | None = None
) -> Iterator[Signals]:
    """Follow the blocks of a face through reduced frames at `rate` samples per second, a reference's span at a time."""
    span = max(round(RENEWAL * rate), 2)
    tracker: _Tracker | None = None
    held: list[NDArray[np.float32]] = []
    for frame, cut in _scenes(samples):
        if cut and tracker is not None:
            yield tracker.follow(held, last=True)[0]
            tracker, held = None, []
        if tracker is None:
            tracker = _Tracker(frame, method, rate, threads)
        held.append(frame)
        if len(held) > span:
            signals, done = tracker.follow(held, last=False)
            yield signals
            held = held[done:]
    if tracker is not None:
        yield tracker.follow(held, last=True)[0]


def _scenes(samples: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Frames one by one, and whether each is the first after a cut."""
    before: NDArray[np.float32] | None = None
    for chunk in samples:
        for frame in chunk:
            now = frame - frame.mean()
            if before is None:
                cut = False
            else:
                both = float(np.sqrt(np.vdot(now, now) * np.vdot(before, before)))
                cut = both > 0 and float(np.vdot(now, before)) < SCENE * both
            before = now
            yield frame, cut


class _Tracker:
    """Follows one scene: the head's pose since its first frame, and the motion of the skin that pose leaves.

    Each span of frames is done in two steps, both over whole arrays. Flow at half size from the span's reference frame
    gives the pose of every frame, a similarity map. Then flow from the reference to the frames warped by their poses
    gives the rest, from which a small affine motion is removed: what stays is the expression.
    """

    def __init__(self, first: NDArray[np.float32], method: Flow, rate: float, threads: int | None) -> None:
        self.flow, self.threads = method, threads
        self.lattice = Lattice(*first.shape)
        self.choice = max(round(RENEWAL_CHOICE * rate), 1)
        self.anchor = self._half(first[None])[0]
        self.pose = motion.IDENTITY
        # Motion from the scene's first frame to the reference, so that signals go on where a reference is renewed.
        self.offset = np.zeros((self.lattice.rows, self.lattice.columns, 2), np.float32)
        self.begun = False

    def follow(self, frames: list[NDArray[np.float32]], last: bool) -> tuple[Signals, int]:
        """Return the signals of the frames after the reference, frames[0], and the number of the next reference."""
        n, lattice = len(frames), self.lattice
        stack = np.stack(frames)
        reference = self._posed(stack[:1], self.pose[None])[0]
        trust = motion.texture(reference, lattice.rows, lattice.columns)
        poses = np.repeat(self.pose[None], n, axis=0)
        cells = np.repeat(self.offset[None], n, axis=0)
        strain = np.zeros(n, np.float32)
        if n > 1:
            seen = self._half(self._posed(stack[1:], poses[1:]))
            poses[1:] = motion.compose(self.pose, self._pose_change(self._half(reference[None])[0], seen, trust))
            dense = self.flow(reference, self._posed(stack[1:], poses[1:]), threads=self.threads)
            rest = block_means(dense, lattice.rows, lattice.columns, threads=self.threads)
            affine = motion.global_motion(rest, model="affine", weights=trust, points=lattice.cells)
            rest -= motion.displace(affine, lattice.cells.reshape(-1, 2)).reshape(rest.shape).astype(np.float32)
            cells[1:] += rest
            strain[1:] = optical_strain(dense, threads=self.threads).mean((1, 2))
        done = n - 1 if last else self._calmest(cells)
        new = slice(1 if self.begun else 0, done + 1)
        inside = lattice.inside(poses[new]) & lattice.inside(self.pose)
        valid = inside @ lattice.window.T > 0.95
        if not self.begun:
            valid[0] = False  # nothing is known across a cut or the film's start
        signals = Signals(lattice.motion_of_blocks(cells[new]), valid, lattice.head(poses[new]), strain[new])
        self.begun = True
        self.pose, self.offset = self._anchored(stack[done], poses[done], trust), cells[done]
        return signals, done

    def _posed(self, frames: NDArray[np.float32], poses: Floats) -> NDArray[np.float32]:
        return motion.warp(frames, poses, threads=self.threads)

    def _half(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = (max(size // 2, MIN_SIZE) for size in frames.shape[1:])
        return block_means(frames, height, width, threads=self.threads)

    def _pose_change(self, before: NDArray[np.float32], after: NDArray[np.float32], trust: Floats) -> Floats:
        """Similarity maps between frames at half size, in pixels at full size."""
        cells = self._coarse_cells(before, after)
        return motion.global_motion(cells, weights=trust, points=self.lattice.cells)

    def _coarse_cells(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        lattice = self.lattice
        dense = self.flow(before, after, threads=self.threads)
        scale = np.array([lattice.width / before.shape[1], lattice.height / before.shape[0]], np.float32)
        return block_means(dense, lattice.rows, lattice.columns, threads=self.threads) * scale

    def _calmest(self, cells: NDArray[np.float32]) -> int:
        """Where the face is most at rest among the last frames: a reference taken in a blink misleads its whole span."""
        away = np.abs(cells - np.median(cells, axis=0)).mean((1, 2, 3))
        return len(cells) - self.choice + int(away[-self.choice :].argmin())

    def _anchored(self, frame: NDArray[np.float32], pose: Floats, trust: Floats) -> Floats:
        """The pose against the scene's first frame itself where the two still match: small errors do not add up."""
        seen = self._half(self._posed(frame[None], pose[None]))
        cells = self._coarse_cells(self.anchor, seen)
        drift = motion.global_motion(cells, weights=trust, points=self.lattice.cells)
        left = cells[0] - motion.displace(drift[0], self.lattice.cells.reshape(-1, 2)).reshape(cells[0].shape)
        matches = float(np.median(np.hypot(left[..., 0], left[..., 1]))) < ANCHOR_LEFT * self.lattice.unit
        return motion.compose(pose, drift[0]) if matches else pose
