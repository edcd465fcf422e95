"""How fast it is on this machine, beside the libraries that compute the same: what `mmme-fast bench` measures.

A case is one piece of work. Its sides (each backend, each library, and one thread where there are several) take turns,
each as often as fills its share of a turn, so that whatever else the machine does slows all alike. A ratio is taken
within a turn; its median and quartiles over the turns are what counts. The answers are compared as well.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast import __version__, _backend
from mmme_fast._arrays import number, one_of, whole
from mmme_fast._files import written
from mmme_fast.eeg import BANDS, band_power, open_recording, stream_band_power
from mmme_fast.flow import FLOWS
from mmme_fast.frames import open_frames
from mmme_fast.metrics import evaluate
from mmme_fast.pipeline import spot
from mmme_fast.report import BAND_COLOURS, document, drawn, facts, plotly_parts
from mmme_fast.spotting import sliding_window
from mmme_fast.strain import optical_strain
from mmme_fast.synth import Event, film, recording, write_film

Array = NDArray[Any]
Row = dict[str, Any]
Peers = dict[str, tuple[Callable[[Array, Array], Array], float | None]]  # flow of one pair, and the gate of its error

SCHEMA = 1  # of the record; another number when old records can no longer be compared
TASKS = ("tvl1", "farneback", "dis", "strain", "windows", "band-power", "decode", "spot")
MIN_TURNS, MAX_TURNS = 3, 40
INTERVAL = 8  # frames from prev to curr: 50 ms of a film at 150 frames per second
WARM = 32  # pairs of a film until TV-L1 starts afresh
CHANNELS, SFREQ = 64, 1000
BLOCKS, WINDOW = 36, 151  # of the signals that windows slide over; frames
# A regression: a ratio below this part of the old one, where the quartiles of the two do not meet either. Ratios taken
# minutes apart on a busy machine differ by a tenth.
TOLERANCE = 0.85
ONE = "1 thread"
YARDSTICK = "yardstick"  # NumPy's FFT, beside what nothing else computes: only records are compared by it


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Parameters
    ----------
    methods : sequence of str
        Of `TASKS`.
    sizes : sequence of int
        Height and width of frames in pixels, 64 to 4096.
    backends : sequence of str
        Of `mmme_fast.backends()`.
    threads : sequence of int
        Numbers of threads, for us and for the libraries beside.
    seconds : float
        For all sides of a case together; it has at least three turns, however long they are.
    fps : float
        Frame rate of the film, by which real time is counted, 20 or more.
    quick : bool
        Short films, and neither scikit-image's TV-L1 nor longer films nor the published methods of `spot`.

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule; the message names argument, rule and value.
    """

    methods: Sequence[str]
    sizes: Sequence[int]
    backends: Sequence[str]
    threads: Sequence[int]
    seconds: float
    fps: float = 150.0
    quick: bool = False

    def __post_init__(self) -> None:
        for method in self.methods:
            one_of(method, "methods", TASKS)
        for backend in self.backends:
            one_of(backend, "backends", _backend.backends())
        for size in self.sizes:
            whole(size, "sizes", low=64, high=4096)
        for threads in self.threads:
            whole(threads, "threads", low=1)
        number(self.seconds, "seconds", low=0, open_low=True)
        number(self.fps, "fps", low=20)


def planned(
    quick: bool = False,
    methods: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    backends: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    seconds: float | None = None,
    fps: float = 150.0,
) -> Plan:
    """A plan in which what is not given is all there is; or, when quick, what ends within a minute."""
    here = _backend.backends()
    return Plan(
        methods or TASKS, sizes or ((128,) if quick else (128, 256, 512)), backends or (here[:1] if quick else here),
        threads or sorted({1, _backend.get_num_threads()}), (0.3 if quick else 3.0) if seconds is None else seconds,
        fps, quick,
    )  # fmt: skip


def measure(
    plan: Plan, said: Callable[[Row], None] = lambda row: None, only: Collection[str] | None = None
) -> dict[str, Any]:
    """Measure everything in the plan.

    Parameters
    ----------
    plan : Plan
    said : callable
        Gets each row as soon as it is there.
    only : collection of str, optional
        Titles of cases; others are passed over.

    Returns
    -------
    dict
        The record, which JSON can hold. "rows" has a dict for each case, number of threads, backend and side beside it:
        "seconds" and "peer_seconds" for a unit of work and "ratio", how many times faster ours is, are lists of first
        quartile, median and third quartile. After Ctrl-C it has the rows so far, and "complete" is False.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA, "complete": False, "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": _machine(),
        "plan": {"quick": plan.quick, "seconds": plan.seconds, "fps": plan.fps, "threads": list(plan.threads),
                 "backends": list(plan.backends)},
        "versions": {}, "left_out": [], "rows": [],
    }  # fmt: skip
    cases = _Cases(plan)
    with suppress(KeyboardInterrupt), closing(cases):
        record |= {"versions": cases.versions, "left_out": cases.left_out}
        for threads, case in cases:
            if only is not None and _title(case.task, case.what, case.size, threads) not in only:
                continue
            for row in _rows(case, threads, plan):
                record["rows"].append(row)
                said(row)
        record["complete"] = True
    return record


def _machine() -> dict[str, Any]:
    """What decides about speed, and nothing that names the machine."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu(), "cpus": os.cpu_count(), "usable_cpus": _backend.get_num_threads(), "system": platform.system(),
        "architecture": platform.machine(), "backends": list(_backend.backends()),
        "load": None if load is None else round(load, 2),
    }  # fmt: skip


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class _Side:
    """A library that does the work of a case, or a part of it."""

    call: Callable[[], Any]
    units: float
    error: Callable[[Any, Any], float] | None = None  # of our answer and its own
    measure: str = ""  # of the error
    gate: float | None = None  # an error above it is a wrong answer; None: another algorithm, no answer is wrong


def _middle(sizes: Collection[int]) -> int:
    return 256 if 256 in sizes or not sizes else sorted(sizes)[len(sizes) // 2]


def _other_bits(one: Array, other: Array) -> bool:
    return not np.array_equal(one, other)


@dataclass(frozen=True)
class _Case:
    task: str
    what: str
    size: int | None
    unit: str
    units: float  # in one call
    ours: Callable[[], Any]
    peers: dict[str, _Side] = field(default_factory=dict)
    bytes: float = 0  # of a unit
    lasts: float = 0  # s of film or signal in a unit
    backends: int | None = None  # how many of them, from the first
    differ: Callable[[Any, Any], bool] = _other_bits


def _rows(case: _Case, threads: int, plan: Plan) -> Iterator[Row]:
    """Let the sides of a case take turns."""
    # (name, backend) -> what is called, with the threads it has
    sides: dict[tuple[str, str], tuple[_Side, int]] = {}
    for backend in plan.backends[: case.backends]:
        ours = _Side(case.ours, case.units, lambda one, other: float(case.differ(one, other)), "bits that differ", 0)
        sides["", backend] = ours, threads
        if threads > 1:
            sides[ONE, backend] = ours, 1
    for name, peer in (case.peers or {YARDSTICK: _Side(_yardstick, 1)}).items():
        sides[name, ""] = peer, threads
    answers, costs = {}, {}
    for key, (side, n) in sides.items():
        with _on(key[1], n):
            # The first call compiles or touches memory, which counts for little where it takes long without.
            costs[key], answers[key] = _timed(side.call)
            if key[1] == "numba" or costs[key] < 0.5:
                costs[key], _ = _timed(side.call)
    share = plan.seconds / len(sides) / 8
    often = {key: min(max(1, round(share / max(cost, 1e-9))), 100_000) for key, cost in costs.items()}
    turns: list[dict[tuple[str, str], float]] = []
    began = time.perf_counter()
    while len(turns) < MIN_TURNS or (time.perf_counter() - began < plan.seconds and len(turns) < MAX_TURNS):
        turn: dict[tuple[str, str], float] = {}
        for key in list(sides) if len(turns) % 2 else list(reversed(sides)):
            side, n = sides[key]
            with _on(key[1], n):
                turn[key] = _timed(side.call, often[key])[0] / side.units
        turns.append(turn)
    for ours_key in (key for key in sides if key[0] == ""):
        backend = ours_key[1]
        for key in (key for key in sides if key[0] and key[1] in ("", backend)):
            side, _ = sides[key]
            error = None if side.error is None else side.error(answers[ours_key], answers[key])
            seconds = _quartiles([turn[ours_key] for turn in turns])
            yield {
                "task": case.task, "what": case.what, "size": case.size, "threads": threads, "backend": backend,
                "unit": case.unit, "units": case.units, "turns": len(turns), "seconds": seconds,
                "per_second": _short(1 / seconds[1]),
                "gb_per_second": _short(case.bytes / seconds[1] / 1e9) if case.bytes else None,
                "real_time": _short(case.lasts / seconds[1]) if case.lasts else None,
                "peer": key[0], "peer_seconds": _quartiles([turn[key] for turn in turns]),
                "ratio": _quartiles([turn[key] / turn[ours_key] for turn in turns]),
                "error": None if error is None else _short(error), "measure": side.measure, "gate": side.gate,
            }  # fmt: skip


@contextmanager
def _on(backend: str, threads: int) -> Iterator[None]:
    """Run on this backend ("": as it is) and on so many threads, OpenCV as well; then as before."""
    before = _backend.active_backend(), _backend._threads
    opencv = _module("cv2")
    opencv_before = opencv.getNumThreads() if opencv else 0
    try:
        if backend:
            _backend.use_backend(backend)
        _backend.set_num_threads(threads)
        if opencv:
            opencv.setNumThreads(threads)
        yield
    finally:
        _backend.use_backend(before[0])
        _backend.set_num_threads(before[1])
        if opencv:
            opencv.setNumThreads(opencv_before)


def _module(name: str) -> Any:
    """A library, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _timed(call: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Seconds of one call, and what it returned last."""
    began = time.perf_counter()
    for _ in range(times):
        answer = call()
    return (time.perf_counter() - began) / times, answer


def _quartiles(values: list[float]) -> list[float]:
    return [_short(value) for value in np.percentile(values, [25, 50, 75])]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


@cache
def _noise() -> Array:
    return np.random.default_rng(0).normal(size=(256, 1024))


def _yardstick() -> Array:
    return np.fft.rfft(_noise())


class _Cases:
    """The cases of a plan one after the other, each for one number of threads; their films are drawn when needed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.left_out: list[str] = []
        self.versions: dict[str, str] = {"mmme_fast": __version__, "python": platform.python_version()}
        self.folder = tempfile.TemporaryDirectory(prefix="mmme_fast_bench_")
        self._pairs, self._film, self._drawn = cache(self._draw_pairs), cache(self._write), cache(self._draw)
        for name in ("numpy", "numba"):
            self.versions[name] = importlib.import_module(name).__version__
        self.cv2, self.skimage, self.scipy, self.mne = (
            self._optional(name, title) for name, title in (
                ("cv2", "OpenCV"), ("skimage.registration", "scikit-image"), ("scipy.fft", "SciPy"), ("mne", "MNE"))
        )  # fmt: skip
        self.optflow = self.cv2 and getattr(self.cv2, "optflow", None)
        if self.cv2 and not self.optflow:
            self.left_out.append("OpenCV's TV-L1: this OpenCV has no module optflow, which opencv-contrib-python has")
        if plan.quick:
            self.left_out.append("with --quick: scikit-image's TV-L1, longer films, the published methods of spot")
            self.left_out += [f"with --quick: {b}" for b in _backend.backends() if b not in plan.backends]

    def _optional(self, name: str, title: str) -> Any:
        module = _module(name)
        if module is None:
            self.left_out.append(f"{title}: not installed")
        else:
            self.versions[title] = importlib.import_module(name.partition(".")[0]).__version__
        return module

    def close(self) -> None:
        self.folder.cleanup()

    def __iter__(self) -> Iterator[tuple[int, _Case]]:
        for task in self.plan.methods:
            of_task: Callable[[int, int], Iterator[_Case]] = getattr(self, f"_{task.replace('-', '_')}")
            for size in (self.middle,) if task in ("windows", "band-power") else self.plan.sizes:
                for threads in self.plan.threads:
                    for case in of_task(size, threads):
                        yield threads, case

    @property
    def middle(self) -> int:
        """The size that stands for all where only one is measured."""
        return _middle(self.plan.sizes)

    # Dense flow

    def _draw_pairs(self, size: int) -> tuple[Array, Array]:
        pairs = min(max(1 << 20, size**2 * 8) // size**2, 64)
        frames = film(1, 150, size, micro=0, macro=0, blinks=0, sway=3, seed=1).frames(0, pairs + INTERVAL)
        return frames[:-INTERVAL], frames[INTERVAL:]

    def _flow(self, task: str, what: str, size: int, ours: Callable[[Array, Array], Array], theirs: Peers) -> _Case:
        """One pair a call, or a film, beside libraries that take pair by pair, of a film only some."""
        prev, curr = self._pairs(size)
        single = what.startswith("one pair")
        if single:  # two of them in turn, so that no frame is known from the call before
            prev, curr = prev[:2], curr[:2]
            some = np.arange(2)
        else:
            some = np.linspace(0, len(prev) - 1, 4 if size <= 256 else 3).astype(int)[1:-1]

        def epe(flow: Array, other: Array) -> float:
            return float(np.linalg.norm(flow[some] - other, axis=-1).mean())

        def each(call: Callable[[Array, Array], Array]) -> Array:
            return np.stack([call(prev[i], curr[i]) for i in some])

        peers = {
            name: _Side(partial(each, call), len(some), epe, "mean EPE (px)", gate)
            for name, (call, gate) in theirs.items()
        }
        return _Case(
            task, what, size, "pair", len(prev), lambda: each(ours) if single else ours(prev, curr), peers,
            bytes=0 if single else size**2, lasts=0 if single else 1 / self.plan.fps,
        )  # fmt: skip

    def _tvl1(self, size: int, threads: int) -> Iterator[_Case]:
        theirs: Peers = {}
        if self.optflow:
            theirs["OpenCV"] = partial(_calc, self.optflow.createOptFlow_DualTVL1()), 0.03
        more = dict(theirs)
        if self.skimage and threads == 1 and not self.plan.quick:

            def by_skimage(a: Array, b: Array) -> Array:
                v, u = self.skimage.optical_flow_tvl1(*(f.astype(np.float32) / 255 for f in (a, b)), dtype=np.float32)
                return np.stack([u, v], axis=-1)

            more["scikit-image"] = by_skimage, None
        yield self._flow("tvl1", "one pair", size, FLOWS["tvl1"], more)
        # Warm pairs stop at half the tolerance: nearer to the truth than OpenCV's, and by that away from it.
        theirs = {name: (call, 0.1) for name, (call, _) in theirs.items()}
        yield self._flow("tvl1", "film, warm start", size, partial(FLOWS["tvl1"], warm_start=WARM), theirs)

    def _farneback(self, size: int, threads: int) -> Iterator[_Case]:
        theirs: Peers = {}
        if self.cv2:
            calc = self.cv2.calcOpticalFlowFarneback
            theirs["OpenCV"] = (lambda a, b: calc(a, b, None, 0.5, 3, 15, 5, 7, 1.5, 0)), 1e-4
        for what in ("one pair", "film"):
            yield self._flow("farneback", what, size, FLOWS["farneback"], theirs)

    def _dis(self, size: int, threads: int) -> Iterator[_Case]:
        for number_of, preset in enumerate(("ultrafast", "fast", "medium")):
            theirs: Peers = {}
            if self.cv2:
                # The bound of the tests, for OpenCV 4, which warps otherwise, and 5: patches choose among candidates.
                rounded = int(self.cv2.__version__.split(".")[0]) < 5  # OpenCV 4 rounds coordinates
                theirs["OpenCV"] = partial(_calc, self.cv2.DISOpticalFlow_create(number_of)), 0.03 if rounded else 0.01
            for what in ("one pair", "film") if preset == "medium" else ("film",):
                yield self._flow("dis", f"{what}, {preset}", size, partial(FLOWS["dis"], preset=preset), theirs)

    # What comes after flow

    def _strain(self, size: int, threads: int) -> Iterator[_Case]:
        fields = max(1, (1 << 20) // size**2)
        flow = np.random.default_rng(0).normal(size=(fields, size, size, 2)).astype(np.float32)

        def by_numpy(flow: Array = flow) -> Array:
            (uy, ux), (vy, vx) = (np.gradient(flow[..., i], axis=(1, 2)) for i in (0, 1))
            return np.asarray(np.sqrt(ux**2 + vy**2 + (uy + vx) ** 2 / 2))

        exact = by_numpy(flow.astype(np.float64))
        side = _Side(by_numpy, fields, lambda ours, _: _largest(ours - exact), "largest error", 1e-5)
        peers = {"NumPy": side} if threads == 1 else {}
        yield _Case("strain", "", size, "field", fields, lambda: optical_strain(flow), peers, bytes=8 * size**2)

    def _windows(self, size: int, threads: int) -> Iterator[_Case]:
        frames = round(self.plan.fps * (60 if self.plan.quick else 600))
        signals = np.random.default_rng(0).normal(size=(frames, BLOCKS)).astype(np.float32)
        peers = {}
        if self.scipy and threads == 1:
            ndimage = importlib.import_module("scipy.ndimage")
            inner = slice(WINDOW // 2, frames - WINDOW // 2)

            def by_scipy(signals: Array = signals) -> Array:
                mean = ndimage.uniform_filter1d(signals, WINDOW, axis=0)[inner]
                high = ndimage.maximum_filter1d(signals, WINDOW, axis=0)[inner]
                return np.asarray(mean + signals.dtype.type(0.55) * (high - mean))

            exact = by_scipy(signals.astype(np.float64))
            peers["SciPy"] = _Side(by_scipy, frames, lambda ours, _: _largest(ours - exact), "largest error", 1e-4)
        yield _Case(
            "windows", f"threshold over {WINDOW} frames, {BLOCKS} blocks", None, "frame", frames,
            lambda: sliding_window(signals, WINDOW, "threshold"), peers, lasts=1 / self.plan.fps,
        )  # fmt: skip

    # Band power

    def _band_power(self, size: int, threads: int) -> Iterator[_Case]:
        seconds = 10 if self.plan.quick else 60
        made = recording(seconds, SFREQ, CHANNELS, seed=1, pink=1e-5)
        data = made.data()
        hops = {"hop 1 s": 1000.0, "hop 100 ms": 100.0, "hop 10 ms": 10.0}
        hops[f"a window for each frame at {self.plan.fps:g} fps"] = SFREQ / self.plan.fps
        for what, hop in hops.items():
            every = np.rint(np.arange(int((data.shape[1] - SFREQ) / hop) + 1) * hop).astype(int)
            starts = every[:60]  # of which the libraries do their part
            peers = {}
            if self.scipy:
                exact = _by_scipy(data.astype(np.float64), starts, 1)
                peers["SciPy"] = _relative(partial(_by_scipy, data, starts, threads), len(starts), exact)
                if self.mne and threads == 1:
                    peers["MNE"] = _relative(partial(_by_mne, data.astype(np.float64), starts), len(starts), exact)
            yield _Case(
                "band-power", f"{CHANNELS} channels, {what}", None, "window", len(every),
                partial(band_power, data, SFREQ, hop=hop / SFREQ), peers, bytes=hop * CHANNELS * data.itemsize,
                lasts=hop / SFREQ,
            )  # fmt: skip
        path = Path(self.folder.name) / ("recording.vhdr" if self.mne else "recording.npy")
        if not path.exists():
            made.write(path)
        hop, peers = 250, {}
        starts = np.arange(0, data.shape[1] - SFREQ + 1, hop)

        def ours() -> Array:
            opened = open_recording(path, sfreq=None if self.mne else SFREQ)
            return np.concatenate([power for _, power in stream_band_power(opened, hop=hop / SFREQ)])

        if self.mne and self.scipy and threads == 1:
            exact = _by_scipy(open_recording(path).read().astype(np.float64), starts, 1)
            peers["MNE"] = _relative(partial(_file_by_mne, path, starts), len(starts), exact)
        yield _Case(
            "band-power", f"{CHANNELS} channels from disk, hop {hop} ms", None, "window", len(starts), ours, peers,
            bytes=hop * CHANNELS * data.itemsize, lasts=hop / SFREQ,
        )  # fmt: skip

    # Whole films

    def _seconds(self, size: int) -> float:
        """Of the film that is drawn; large frames take long to draw."""
        return 3.0 if self.plan.quick or size > 256 else 5.0

    def _write(self, size: int, times: int) -> tuple[Path, list[Event], int]:
        """A film with micro-expressions that is shown so many times in sequence, and what is in it."""
        frames, truth = self._drawn(size)
        path = Path(self.folder.name) / f"{size}_{times}.avi"
        write_film(path, (frame for _ in range(times) for frame in frames), self.plan.fps, frames.shape[1:])
        events = [
            replace(one, onset=one.onset + i * len(frames), offset=one.offset + i * len(frames))
            for i in range(times)
            for one in truth
        ]
        return path, events, times * len(frames)

    def _draw(self, size: int) -> tuple[Array, list[Event]]:
        made = film(self._seconds(size), self.plan.fps, size, micro=30, macro=0, blinks=0, seed=3)
        return made.frames(), list(made.truth)

    def _decode(self, size: int, threads: int) -> Iterator[_Case]:
        path, _, frames = self._film(size, 1)
        chunk = 128

        def ours() -> Array:
            return np.stack([one[-1] for one in open_frames(path).chunks(chunk)])

        peers = {}
        if self.cv2:
            by = partial(_decoded_by_opencv, self.cv2, path, threads, chunk)
            peers["OpenCV"] = _Side(
                by, frames, lambda ours, theirs: _largest(ours.astype(float) - theirs), "largest error (grey levels)", 1
            )
        yield _Case(
            "decode", "FFV1", size, "frame", frames, ours, peers, bytes=size**2, lasts=1 / self.plan.fps, backends=1
        )

    def _spot(self, size: int, threads: int) -> Iterator[_Case]:
        yield self._spotting(size, "matched")
        if size == self.middle and threads == min(self.plan.threads) and not self.plan.quick:
            for times in (2, 4):
                yield replace(self._spotting(size, "matched", times), backends=1)
            for method in ("roi", "strain", "mdmd", "lbp"):
                yield replace(self._spotting(size, method), backends=1)

    def _spotting(self, size: int, method: str, times: int = 1) -> _Case:
        path, events, frames = self._film(size, times)

        def missed(found: Any, _: Any) -> float:
            score = evaluate({"film": found.intervals}, {"film": events}, matching="one-to-one").overall
            return 1 - score.f1

        # The published methods are not expected to find what is as small as this.
        known = (missed, "1 - F1", 0.5) if method == "matched" else (None, "", None)
        return _Case(
            "spot", f"{method}, film of {frames / self.plan.fps:g} s", size, "frame", frames,
            lambda: spot(path, method=method, crop="full", size=size), {YARDSTICK: _Side(_yardstick, 1, *known)},
            bytes=size**2, lasts=1 / self.plan.fps,
            differ=lambda one, other: one.intervals != other.intervals or not np.array_equal(one.scores, other.scores),
        )  # fmt: skip


def _calc(method: Any, prev: Array, curr: Array) -> Array:
    return np.asarray(method.calc(prev, curr, None))


def _largest(errors: Array) -> float:
    return float(np.abs(errors).max())


def _relative(call: Callable[[], Array], windows: int, exact: Array) -> _Side:
    """Beside band power in double precision."""

    def error(ours: Array, _: Array) -> float:
        return _largest(ours[:windows] / exact - 1)

    return _Side(call, windows, error, "relative error", 5e-5)


def _means(density: Array) -> Array:
    """Of the bands, from bins of 1 Hz: (..., band)."""
    return np.stack([density[..., int(low) : int(high) + 1].mean(axis=-1) for low, high in BANDS.values()], axis=-1)


def _by_scipy(data: Array, starts: Array, workers: int) -> Array:
    """What a user of SciPy writes: a taper, an FFT and band means, window by window, in the precision of data."""
    fft, signal = importlib.import_module("scipy.fft"), importlib.import_module("scipy.signal")
    taper = signal.get_window("hann", SFREQ)
    scale = 2 / (SFREQ * np.sum(taper**2))
    taper = taper.astype(data.dtype)
    out = np.empty((len(starts), len(data), len(BANDS)), data.dtype)
    for i, start in enumerate(starts):
        window = data[:, start : start + SFREQ]
        spectrum = fft.rfft((window - window.mean(axis=1, keepdims=True)) * taper, workers=workers)
        out[i] = _means(spectrum.real**2 + spectrum.imag**2) * scale
    return out


def _by_mne(data: Array, starts: Array) -> Array:
    """MNE's Welch of one window at a time, for it takes many at once channel by channel, ten times as slowly."""
    from mne.time_frequency import psd_array_welch

    def density(start: int) -> Array:
        window = data[:, start : start + SFREQ]
        return np.asarray(psd_array_welch(window, SFREQ, 0, 47, n_fft=SFREQ, window="hann", verbose="error")[0])

    return _means(np.stack([density(start) for start in starts]))


def _file_by_mne(path: Path, starts: Array) -> Array:
    import mne

    return _by_mne(mne.io.read_raw_brainvision(path, verbose="error").get_data(), starts)


def _decoded_by_opencv(cv2: Any, path: Path, threads: int, chunk: int) -> Array:
    """The last frame of every chunk, as grey."""
    reader = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
    kept: list[Array] = []
    i, frame = 0, None
    while (read := reader.read())[0]:
        frame = cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY)
        i += 1
        if i % chunk == 0:
            kept.append(frame)
    reader.release()
    if i % chunk and frame is not None:
        kept.append(frame)
    return np.stack(kept)


# The record


def save(record: dict[str, Any], path: Path) -> None:
    """Write the record as JSON, a row in a line."""
    head = json.dumps({key: value for key, value in record.items() if key != "rows"}, indent=1)
    rows = ",\n".join(f"  {json.dumps(row)}" for row in record["rows"])
    with written(path) as file:
        file.write(f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n'.encode())


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        When it is not there, or is something else.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema = record["schema"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a record of mmme-fast bench") from None
    if schema != SCHEMA:
        raise ValueError(f"{path} must have schema {SCHEMA}, got {schema!r}; measure it anew")
    return dict(record)


def idle(record: dict[str, Any]) -> bool:
    """Whether the machine did little else when it began; or else times are too long, and ratios scatter."""
    load = record["machine"]["load"]
    return load is None or bool(load < record["machine"]["cpus"] / 2)


def wrong(record: dict[str, Any]) -> list[Row]:
    """Rows whose answer is farther from the library's than it may be."""
    return [row for row in record["rows"] if not _passes(row)]


def _passes(row: Row) -> bool:
    return row["error"] is None or row["gate"] is None or bool(row["error"] <= row["gate"])


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[tuple[Row, Row]], list[tuple[Row, Row]]]:
    """Hold one record against another by the ratios in them.

    Returns
    -------
    warnings : list of str
        What makes the two less comparable.
    shared, slower : list of (row of old, row of new)
        Rows that both have; and those of them whose ratio fell below `TOLERANCE` of the old one and whose quartiles lie
        below the old ones.

    Raises
    ------
    ValueError
        When no row is in both.
    """
    known = {_key(row): row for row in old["rows"]}
    shared = [(known[_key(row)], row) for row in new["rows"] if _key(row) in known]
    if not shared:
        raise ValueError("the two records must have measurements in common, got none; give the same options as then")
    warnings = [
        f"other {name}: {before}, now {now}"
        for name, before, now in (
            *((key, old["machine"].get(key), new["machine"].get(key)) for key in ("cpu", "usable_cpus", "system")),
            *((key, value, new["versions"].get(key)) for key, value in old["versions"].items() if key != "mmme_fast"),
        )
        if before != now
    ]
    slower = [(a, b) for a, b in shared if b["ratio"][1] < TOLERANCE * a["ratio"][1] and b["ratio"][2] < a["ratio"][0]]
    return warnings, shared, slower


def slower_twice(plan: Plan, old: dict[str, Any], slower: list[tuple[Row, Row]]) -> list[tuple[Row, Row]]:
    """Those that are slower when they are measured once more: chance seldom strikes twice."""
    again = measure(plan, only={title(row) for _, row in slower}) if slower else None
    if again is None or not again["rows"]:
        return slower
    still = {_key(row) for _, row in compare(old, again)[2]}
    return [(a, b) for a, b in slower if _key(b) in still]


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("task", "what", "size", "threads", "backend", "peer"))


# What people read


def title(row: Row) -> str:
    """The case that a row belongs to."""
    return _title(row["task"], row["what"], row["size"], row["threads"])


def _title(task: str, what: str, size: int | None, threads: int) -> str:
    return ", ".join(part for part in (task, what, size and f"{size}x{size}", threads and _threads(threads)) if part)


def _threads(n: int) -> str:
    return f"{n} thread{'s' * (n > 1)}"


def beside(row: Row) -> str:
    """The ratio with its quartiles, and the error."""
    if row["peer"] == YARDSTICK:
        parts = []
    else:
        low, middle, high = row["ratio"]
        parts = [f"{_figures(middle)} x {row['peer']} ({_figures(low)}-{_figures(high)})"]
    if row["error"] is not None and row["peer"] != ONE:
        parts.append(f"{row['measure']} {row['error']:.1e}")
    if not _passes(row):
        parts.append(f"WRONG: above {row['gate']:g}" if row["peer"] != ONE else "WRONG: other bits")
    return ", ".join(parts)


def rate(row: Row) -> str:
    """Time of a unit of work, and throughput."""
    seconds = row["seconds"][1]
    scale, name = next(((s, n) for s, n in ((1, "s"), (1e3, "ms"), (1e6, "us")) if seconds * s >= 1), (1e9, "ns"))
    parts = [f"{_figures(seconds * scale)} {name}/{row['unit']}", f"{_figures(row['per_second'])}/s"]
    if row["gb_per_second"]:
        gb = row["gb_per_second"]
        parts.append(f"{_figures(gb)} GB/s" if gb >= 1 else f"{_figures(1e3 * gb)} MB/s")
    if row["real_time"]:
        parts.append(f"{_figures(row['real_time'])} x real time")
    return ", ".join(parts)


def _figures(value: float) -> str:
    """Three figures, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def described(record: dict[str, Any]) -> dict[str, str]:
    """Machine and versions."""
    machine = record["machine"]
    cpus = f"{machine['usable_cpus']} of {machine['cpus']} CPUs, {', '.join(machine['backends'])}"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return {
        "machine": f"{machine['cpu']}, {cpus}", "versions": versions, "date": record["date"],
        "load before": "unknown" if machine["load"] is None else f"{machine['load']:g}",
    }  # fmt: skip


# The page

PLOTS = {  # name: what is on each axis
    "spot: frame size": ("px", "frames/s"),
    "spot: film length": ("s", "frames/s"),
    "threads": ("threads", "times faster than one"),
}
Curves = dict[str, list[tuple[float, float]]]  # label: points


def ratios(record: dict[str, Any]) -> list[Row]:
    """Rows of the first backend on the fewest threads, beside another library."""
    backend, threads = record["plan"]["backends"][0], min(record["plan"]["threads"])
    return [
        row for row in record["rows"]
        if (row["backend"], row["threads"]) == (backend, threads) and row["peer"] not in (ONE, YARDSTICK)
    ]  # fmt: skip


def scaling(record: dict[str, Any]) -> dict[str, Curves]:
    """Curves of each of the `PLOTS` for which there are two points or more."""
    plots: dict[str, Curves] = {name: {} for name in PLOTS}
    films: dict[tuple[str, int, int], list[tuple[float, float]]] = {}  # backend, threads, size: (s, frames/s)
    middle = _middle({row["size"] for row in record["rows"] if row["size"]})
    for row in record["rows"]:
        if row["task"] == "spot" and row["what"].startswith("matched") and row["peer"] == YARDSTICK:
            lengths = films.setdefault((row["backend"], row["threads"], row["size"]), [])
            lengths.append((row["units"] / record["plan"]["fps"], row["per_second"]))
        if row["peer"] == ONE and row["backend"] == record["plan"]["backends"][0] and row["size"] in (None, middle):
            label = ", ".join(part for part in (row["task"], row["what"]) if part)
            plots["threads"].setdefault(label, [(1, 1.0)]).append((row["threads"], row["ratio"][1]))
    for (backend, threads, size), lengths in films.items():
        label = f"{backend}, {_threads(threads)}"
        plots["spot: frame size"].setdefault(label, []).append((size, min(lengths)[1]))
        plots["spot: film length"][f"{label}, {size}x{size}"] = sorted(lengths)
    kept = {name: {label: line for label, line in lines.items() if len(line) > 1} for name, lines in plots.items()}
    return {name: lines for name, lines in kept.items() if lines}


def page(record: dict[str, Any]) -> str:
    """Return the record as a page of HTML: ratios, and how speed goes with frame size, film length and threads.

    Raises
    ------
    ImportError
        Without plotly, ``pip install "mmme_fast[report]"``.
    """
    picture = _picture(record)
    body = "".join(
        f'<tr><th scope="row">{escape(title(row))}</th><td>{escape(row["backend"])}</td><td>{escape(rate(row))}</td>'
        f"<td>{escape(beside(row))}</td></tr>"
        for row in record["rows"]
    )
    left_out = "".join(f"<li>{escape(line)}</li>" for line in record["left_out"])
    main = f"""<section aria-labelledby="picture">
<h2 id="picture">Ratios and scaling</h2>
<p>How many times faster {escape(record["plan"]["backends"][0])} is on {_threads(min(record["plan"]["threads"]))}, with
quartiles; point at one for the error between the two answers. Then whole films, decoded from disk, and threads.</p>
<div role="img" aria-label="Ratios and scaling; the numbers are in the table below">{picture}</div>
</section>
<section aria-labelledby="table">
<h2 id="table">All measurements</h2>
<div class="wide" tabindex="0" role="region" aria-label="Table of measurements"><table class="words"><thead><tr>
<th scope="col">What</th><th scope="col">Backend</th><th scope="col">Speed</th><th scope="col">Beside</th></tr></thead>
<tbody>{body}</tbody></table></div>
</section>
{f"<section><h2>Left out</h2><ul>{left_out}</ul></section>" if left_out else ""}"""
    told = described(record)
    return document("Speed", record["machine"]["cpu"], told.pop("machine"), facts(told), main, of="on")


def _picture(record: dict[str, Any]) -> str:
    Scatter, make_subplots = plotly_parts()
    shown, plots = ratios(record), scaling(record)
    named = [_title(row["task"], row["what"], row["size"], 0) for row in shown]
    labels = list(dict.fromkeys(named))
    columns = max(len(plots), 1)
    heights = [120 + 18 * len(labels)] * bool(shown) + [450] * bool(plots)
    if not heights:
        return ""
    figure = make_subplots(
        rows=len(heights), cols=columns, row_heights=heights, horizontal_spacing=0.07,
        vertical_spacing=80 / sum(heights), subplot_titles=[*(["ratio"] * bool(shown)), *plots],
        specs=[[{"colspan": columns}, *[None] * (columns - 1)]] * bool(shown) + [[{}] * columns] * bool(plots),
    )  # fmt: skip
    for i, peer in enumerate(dict.fromkeys(row["peer"] for row in shown)):
        rows = [row for row in shown if row["peer"] == peer]
        low, middle, high = np.array([row["ratio"] for row in rows]).T
        names = [name for name, row in zip(named, shown, strict=True) if row["peer"] == peer]
        figure.add_trace(
            Scatter(x=middle, y=names, name=f"times {peer}", mode="markers",
                    marker={"color": BAND_COLOURS[i], "size": 8}, text=[beside(row) for row in rows],
                    error_x={"type": "data", "array": high - middle, "arrayminus": middle - low, "thickness": 1},
                    hovertemplate="%{text}<extra></extra>"),
            row=1, col=1,
        )  # fmt: skip
    if shown:
        figure.update_xaxes(type="log", dtick="D2", row=1, col=1)
        figure.update_yaxes(
            categoryorder="array", categoryarray=labels[::-1], dtick=1, automargin=True, ticklabelstandoff=6, row=1,
            col=1,
        )  # fmt: skip
        figure.add_vline(x=1, line={"dash": "dash", "width": 1, "color": "#888"}, row=1, col=1)
    for column, (name, lines) in enumerate(plots.items(), 1):
        place = {"row": len(heights), "col": column}
        for i, (label, points) in enumerate(lines.items()):
            x, y = zip(*points, strict=True)
            figure.add_trace(
                Scatter(x=x, y=y, name=label, legend="legend2", legendgroup=name,
                        legendgrouptitle={"text": name}, mode="lines+markers",
                        line={"color": BAND_COLOURS[i % len(BAND_COLOURS)]}, text=[label] * len(x),
                        hovertemplate="%{text}: %{y:.4g}<extra></extra>"),
                **place,
            )  # fmt: skip
        across, up = PLOTS[name]
        ticks = sorted({x for points in lines.values() for x, _ in points})
        figure.update_xaxes(title_text=across, tickvals=ticks, **place)
        figure.update_yaxes(title_text=up, rangemode="tozero", **place)
    figure.update_layout(legend2={"orientation": "h", "y": -60 / sum(heights), "yanchor": "top"})
    return drawn(figure, sum(heights))
