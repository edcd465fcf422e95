"""The mmme-fast command."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast import __version__, sys_info
from mmme_fast.flow import FLOWS
from mmme_fast.methods import METHODS, PRESETS

if TYPE_CHECKING:
    from mmme_fast.clips import ClipBandPower
    from mmme_fast.eeg import BandPowerStream, Recording
    from mmme_fast.frames import Frames
    from mmme_fast.metrics import Score
    from mmme_fast.results import Interval
    from mmme_fast.synth import Event

logger = logging.getLogger("mmme_fast")

Flow = NDArray[np.float32]
Progress = Callable[[int, int | None], None]

BATCH = 32  # frames whose flow is computed at a time


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 done, 1 a problem with the input, 130 after Ctrl-C, 143 after SIGTERM. Wrong usage ends in argparse's
    SystemExit with code 2.
    """
    arguments = _parser().parse_args(argv)
    with _terminable() as stopped:
        return _done(arguments, stopped)


@contextlib.contextmanager
def _terminable() -> Iterator[Callable[[], int]]:
    """Let SIGTERM, by which batch systems end what runs too long, do what Ctrl-C does; only the exit code differs."""
    code = 130

    def stop(*_: object) -> None:
        nonlocal code
        code = 143
        signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: code
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield lambda: code
    finally:
        signal.signal(signal.SIGTERM, before)


def _done(arguments: argparse.Namespace, stopped: Callable[[], int]) -> int:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mmme-fast: warning: %(message)s"))
    logger.addHandler(handler)
    try:
        arguments.command(arguments)
    except KeyboardInterrupt as stop:
        print(f"mmme-fast: {stop or 'interrupted'}", file=sys.stderr)
        return stopped()
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        if os.environ.get("MMME_FAST_VERBOSE") == "1":
            traceback.print_exc()
        print(f"mmme-fast: error: {_line(error)}", file=sys.stderr)
        return 1
    finally:
        logger.removeHandler(handler)
    return 0


def _line(error: Exception) -> str:
    text = f"out of memory. {error}" if isinstance(error, MemoryError) else str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.strerror}: {error.filename}"
    return " ".join(text.split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmme-fast",
        description="Facial expressions in film and band power of EEG, fast.",
        epilog="mmme-fast COMMAND --help has examples. MMME_FAST_BACKEND and MMME_FAST_NUM_THREADS choose the kernels "
        "and the threads; with MMME_FAST_VERBOSE=1 an error shows where it came from.",
    )
    parser.add_argument("--version", action="version", version=f"mmme-fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str, examples: str) -> Any:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        return sub

    demo = add(
        "demo", _demo, "make a film and an EEG recording of known content, analyse both, and compare",
        "  mmme-fast demo\n  mmme-fast demo --out /tmp/demo --seconds 30",
    )  # fmt: skip
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder (default: demo)")
    demo.add_argument("--seconds", type=float, default=20.0, help="length of the film (default: 20)")

    spot = add(
        "spot", _spot, "spot the expressions in a film and write intervals, signals and a report",
        "  mmme-fast spot film.avi\n  mmme-fast spot film.avi --crop full --out results\n"
        "  mmme-fast spot folder_of_images --fps 150 --crop 800,200,700,700\n"
        "  mmme-fast spot film.avi --method mdmd --preset casme2\n"
        "  mmme-fast spot folder_of_images --eeg session.set --peripherals session.acq --align mmme --baseline 2",
    )  # fmt: skip
    _add_film(spot, crop="auto")
    spot.add_argument("--out", type=Path, metavar="DIR", help="folder (default: FILM_mmme_fast in this folder)")
    _add_method(spot)
    spot.add_argument(
        "--warm-start", type=int, nargs="?", const=32, default=0, metavar="N",
        help="with --flow tvl1: start pairs from the flow before them, and cold every N pairs (32); faster",
    )  # fmt: skip
    spot.add_argument(
        "--landmarks", metavar="CSV", help="where face and eyes are: OpenFace's or MediaPipe's points, or boxes"
    )
    spot.add_argument("--truth", metavar="TABLE", help="annotated expressions, for the report to show")
    spot.add_argument("--plot", action="store_true", help="insist on the report: without plotly stop before the work")
    spot.add_argument("--eeg", metavar="RECORDING", help="EEG whose band power is wanted per frame and interval")
    spot.add_argument(
        "--peripherals", metavar="RECORDING", help="ECG, PPG, RSP, EDA, SKT (.acq, .mat) wanted per frame and interval"
    )
    _add_recorded(spot)
    spot.set_defaults(size=256)

    run = add(
        "run", _run, "spot the expressions in many films, several at a time, and go on where an earlier run ended",
        "  mmme-fast run folder_of_films --out results\n"
        "  mmme-fast run films.csv --out results --crop full --workers 4\n"
        "  mmme-fast run /data/films --out /data/results --scheduler tcp://10.0.0.1:8786\n"
        "films.csv has the column film and any of fps, crop, landmarks, eeg, peripherals, align.",
    )  # fmt: skip
    run.add_argument("films", metavar="MANIFEST_OR_FOLDER", help="CSV table of films, or a folder that holds them")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder; what is done there is kept")
    run.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that sees the same files")
    run.add_argument("--workers", type=int, metavar="N", help="processes (default: all CPUs that this one may use)")
    _add_frames(run, crop="auto")
    _add_method(run)
    _add_recorded(run)
    _add_common(run, threads="of each worker (default: 1)")
    run.set_defaults(size=256)

    flow = add(
        "flow", _flow, "write a film's dense optical flow",
        "  mmme-fast flow film.avi --out flow.npz\n  mmme-fast flow film.avi --out flow.npz --interval 10 --size 256\n"
        "  mmme-fast flow film.avi --out flow.zarr --reference 0 --method tvl1 --start 300 --stop 600",
    )  # fmt: skip
    _add_film(flow, crop="full")
    flow.add_argument("--out", type=Path, required=True, metavar="PATH", help=f"ends in {' or '.join(_FLOW_FILES)}")
    flow.add_argument("--method", choices=tuple(FLOWS), default="farneback", help="default: farneback")
    between = flow.add_mutually_exclusive_group()
    between.add_argument(
        "--interval", type=int, default=1, metavar="K", help="from each frame to the K-th after it (1)"
    )
    between.add_argument("--reference", type=int, metavar="I", help="from frame I to every frame")
    flow.add_argument("--start", type=int, default=0, metavar="I", help="first frame (default: 0)")
    flow.add_argument("--stop", type=int, metavar="I", help="the frame after the last one (default: the film's end)")

    power = add(
        "band-power", _band_power, "write the band power of an EEG recording",
        "  mmme-fast band-power rest.edf --out power.csv\n"
        "  mmme-fast band-power rest.set --out power.npz --window 2 --hop 0.1 --bands theta=4-8,alpha=8-13\n"
        "  mmme-fast band-power samples.npy --sfreq 1000 --out power.parquet\n"
        "  mmme-fast band-power night.edf --preset yasa --out power.parquet --plot\n"
        "  mmme-fast band-power subject.set --preset mmme --out features.csv",
    )  # fmt: skip
    power.add_argument("recording", metavar="RECORDING", help="EDF, BDF, .set, .vhdr, .cdt, .dat, .cnt, .fif or .npy")
    power.add_argument("--out", type=Path, required=True, metavar="PATH", help="ends in .npz, .csv, .parquet or .zarr")
    power.add_argument(
        "--plot", action="store_true", help="a page beside it, .html, that shows band power over time and the spectrum"
    )
    power.add_argument(
        "--preset",
        choices=("mmme", "yasa", "mne", "matlab"),
        help="mmme: filter, and the last 40 s of each clip, as the MMME notebooks have it; others: the convention of "
        "that library",
    )
    power.add_argument("--window", type=float, metavar="S", help="length of a window (default: 1 s, or the preset's)")
    power.add_argument("--hop", type=float, metavar="S", help="from window to window (default: its length)")
    power.add_argument("--bands", type=_bands, metavar="NAME=LOW-HIGH,...", help="in Hz (default: delta ... gamma)")
    power.add_argument("--taper", choices=("hann", "hamming", "boxcar"), help="default: hann")
    power.add_argument("--sfreq", type=float, metavar="HZ", help="samples per second of a .npy file")
    _add_common(power)

    scores = add(
        "evaluate", _evaluate, "score predicted intervals against annotations, as the MEGC challenges do",
        "  mmme-fast evaluate predictions.csv truth.csv\n"
        "  mmme-fast evaluate predictions.csv truth.csv --min-length micro=7,macro=17 --max-length micro=16\n"
        "  mmme-fast evaluate results 'CAS(ME)^2code_final.xlsx' --type micro --matching one-to-one --json",
    )  # fmt: skip
    scores.add_argument(
        "predictions", metavar="PRED", help="table with video, type, start, end[, score][, emotion]; or spot's folder"
    )
    scores.add_argument(
        "truth",
        metavar="TRUTH",
        help="table with video, type, onset, apex, offset; or that of CAS(ME)^2, SAMM-LV or MMME",
    )
    scores.add_argument("--type", choices=("micro", "macro"), help="score this type only (default: both)")
    scores.add_argument(
        "--min-length", type=_lengths, metavar="N|TYPE=N,...", help="leave out predictions of fewer frames"
    )
    scores.add_argument(
        "--max-length", type=_lengths, metavar="N|TYPE=N,...", help="leave out predictions of more frames"
    )
    scores.add_argument(
        "--matching", choices=("official", "one-to-one"), default="official",
        help="whether one prediction may find several expressions, as in the official count (default: official)",
    )  # fmt: skip
    scores.add_argument("--iou", type=float, default=0.5, help="part of the frames that must be shared (default: 0.5)")
    scores.add_argument(
        "--shift", type=int, default=0, metavar="N", help="add N to PRED's frames: 1 if only TRUTH counts from 1"
    )
    scores.add_argument("--fps", type=float, default=150, metavar="F", help="of MMME's films (default: 150)")
    scores.add_argument("--json", action="store_true", help="as JSON")

    bench = add(
        "bench", _bench, "measure speed on this machine, beside OpenCV, scikit-image, SciPy and MNE where installed",
        "  mmme-fast bench --quick\n  mmme-fast bench --out before.json\n"
        "  mmme-fast bench --methods tvl1 farneback --sizes 128 512 --threads 1 --compare before.json",
    )  # fmt: skip
    bench.add_argument("--quick", action="store_true", help="less than a minute: small frames, the fastest backend")
    bench.add_argument(
        "--methods", nargs="+", metavar="NAME",
        help="of tvl1, farneback, dis, strain, windows, band-power, decode, spot (default: all)",
    )  # fmt: skip
    bench.add_argument("--sizes", nargs="+", type=int, metavar="PX", help="of frames (default: 128 256 512)")
    bench.add_argument("--backends", nargs="+", metavar="NAME", help="default: all that run here")
    bench.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: 1, and all CPUs")
    bench.add_argument("--fps", type=float, default=150.0, metavar="F", help="rate that is real time (default: 150)")
    bench.add_argument("--seconds", type=float, metavar="S", help="for each measurement (default: 3; quick: 0.3)")
    bench.add_argument(
        "--out", type=Path, default=Path("bench.json"), metavar="PATH",
        help="a .json file, beside which a page goes (.html), or a folder for both (default: bench.json)",
    )  # fmt: skip
    bench.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="fail where a ratio is worse than in OLD by more than its spread",
    )

    info = add("info", _info, "print versions, machine and backends", "  mmme-fast info\n  mmme-fast info --json")
    info.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _add_film(parser: argparse.ArgumentParser, crop: str) -> None:
    parser.add_argument("film", metavar="FILM", help="film, folder of images, TIFF stack or .npy file")
    _add_frames(parser, crop)
    _add_common(parser)


def _add_frames(parser: argparse.ArgumentParser, crop: str) -> None:
    parser.add_argument("--crop", type=_crop, default=crop, metavar="auto|full|X,Y,W,H", help=f"default: {crop}")
    parser.add_argument("--size", type=int, metavar="PX", help="longer side after resizing")
    parser.add_argument("--fps", type=float, metavar="F", help="frames per second, where the film does not know")


def _add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method", choices=tuple(METHODS), default="matched",
        help="default: matched; the others as published (help(mmme_fast.methods))",
    )  # fmt: skip
    parser.add_argument(
        "--preset", choices=tuple(PRESETS),
        help="the data set whose lengths the method uses, and whose frame rate where the film has none",
    )  # fmt: skip
    parser.add_argument("--flow", choices=tuple(FLOWS), default="farneback", help="default: farneback")


def _add_recorded(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--align", type=_align, metavar="mmme|S",
        help="the recording's time: found from MMME's markers, or its second at the film's start (default: 0); or "
        "eeg=...,peripherals=... where they differ",
    )  # fmt: skip
    parser.add_argument("--baseline", type=float, metavar="S", help="subtract what is there S s before each onset")


def _add_common(parser: argparse.ArgumentParser, threads: str = "default: all CPUs that this process may use") -> None:
    parser.add_argument("--threads", type=int, metavar="N", help=threads)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _crop(text: str) -> str | tuple[int, ...]:
    if text in ("auto", "full"):
        return text
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto, full or X,Y,W,H in pixels, got {text!r}") from None
    return x, y, width, height


def _align(text: str) -> str | float | dict[str, str | float]:
    def one(part: str) -> str | float:
        return part if part == "mmme" else float(part)

    try:
        if "=" not in text:
            return one(text)
        return {name: one(part) for name, _, part in (each.partition("=") for each in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be mmme or seconds, got {text!r}") from None


def _bands(text: str) -> dict[str, tuple[float, float]]:
    bands = {}
    for part in text.split(","):
        name, _, edges = part.partition("=")
        low, _, high = edges.partition("-")
        try:
            bands[name.strip()] = (float(low), float(high))
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be NAME=LOW-HIGH,... in Hz, got {part!r}") from None
    return bands


def _lengths(text: str) -> int | dict[str, int]:
    try:
        if "=" not in text:
            return int(text)
        return {name.strip(): int(length) for name, length in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be N or TYPE=N,... in frames, got {text!r}") from None


@contextlib.contextmanager
def _progress(quiet: bool, unit: str) -> Iterator[Progress]:
    """A bar on stderr when that is a terminal and tqdm is there; the log's lines then go above it."""
    try:
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm
    except ImportError:
        quiet = True
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with logging_redirect_tqdm([logger]), tqdm(unit=unit, unit_scale=True, dynamic_ncols=True) as bar:

        def report(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def _spot(arguments: argparse.Namespace) -> None:
    from mmme_fast.pipeline import spot

    if arguments.plot:
        from mmme_fast.report import plotly_parts

        plotly_parts()
    film = Path(os.path.realpath(arguments.film))  # a name even where links form a loop
    out = arguments.out or Path(f"{film.name if film.is_dir() else film.stem}_mmme_fast")
    with _progress(arguments.quiet, " frames") as progress:
        result = spot(
            arguments.film, preset=arguments.preset, method=arguments.method, flow=arguments.flow,
            warm_start=arguments.warm_start, crop=arguments.crop, size=arguments.size, fps=arguments.fps,
            landmarks=arguments.landmarks, truth=arguments.truth, eeg=arguments.eeg, peripherals=arguments.peripherals,
            align=arguments.align, baseline=arguments.baseline, out=out, progress=progress, threads=arguments.threads,
        )  # fmt: skip
    _print_intervals(result.intervals)
    print(f"{len(result.blinks)} blinks; {result.meta['frames']} frames in {result.meta['seconds']:.1f} s")
    _print_results(out)


def _run(arguments: argparse.Namespace) -> None:
    from mmme_fast.many import Outcome, spot_many

    with _progress(arguments.quiet, " films") as bar:

        def report(one: Outcome, done: int, total: int) -> None:
            found = "" if one.intervals is None else f", {one.intervals} expressions in {one.seconds:.1f} s"
            message = f": {one.message}" if one.message else ""
            _say(f"[{done}/{total}] {one.status:6} {one.film}{found}{message}")
            bar(done, total)

        outcomes = spot_many(
            arguments.films, arguments.out, scheduler=arguments.scheduler, workers=arguments.workers,
            threads=arguments.threads, progress=report, preset=arguments.preset, method=arguments.method,
            flow=arguments.flow, crop=arguments.crop, size=arguments.size, fps=arguments.fps, align=arguments.align,
            baseline=arguments.baseline,
        )  # fmt: skip
    status = [one.status for one in outcomes]
    print(", ".join(f"{status.count(each)} {each}" for each in ("done", "kept", "failed")))
    print(f"summary: {arguments.out / 'summary.csv'}")
    print(f"index:   {arguments.out / 'index.html'}")
    if "failed" in status:
        raise ValueError(f"{status.count('failed')} of {len(status)} films failed; run again to try these again")


def _say(line: str) -> None:
    """Print a line above the bar; a name that is not text is shown with replacements."""
    line = line.encode(errors="replace").decode()
    encoding = sys.stdout.encoding or "utf-8"
    line = line.encode(encoding, "replace").decode(encoding)
    tqdm = sys.modules.get("tqdm")
    print(line, flush=True) if tqdm is None else tqdm.tqdm.write(line)


def _print_intervals(intervals: Sequence[Interval]) -> None:
    types = [one.type for one in intervals]
    print(f"{len(types)} expressions: {types.count('micro')} micro, {types.count('macro')} macro")
    if intervals:
        print(f"  {'type':5} {'onset':>9} {'apex':>9} {'offset':>9} s {'frames':>17} {'score':>7}")
    for one in intervals:
        frames = f"{one.onset}-{one.offset}"
        print(
            f"  {one.type:5} {one.onset_s:9.3f} {one.apex_s:9.3f} {one.offset_s:9.3f}   {frames:>17} {one.score:7.2f}"
        )


def _print_results(out: Path) -> None:
    print(f"results: {out}")
    if (out / "report.html").exists():
        print(f"report:  {out / 'report.html'}")


def _flow(arguments: argparse.Namespace) -> None:
    from mmme_fast._arrays import whole
    from mmme_fast.frames import open_frames
    from mmme_fast.results import identity, output_folder

    out: Path = arguments.out
    write = _FLOW_FILES.get(out.suffix.lower())
    if write is None:
        raise ValueError(f"out must end in {' or '.join(_FLOW_FILES)}, got {out.name}")
    method = FLOWS[arguments.method]
    interval = whole(arguments.interval, "interval", low=1)
    output_folder(out.parent)
    frames = open_frames(arguments.film, crop=arguments.crop, size=arguments.size, fps=arguments.fps)

    # What a film declares is not to be trusted, and the file's header needs the number of frames.
    n_frames, reference = _counted(frames, arguments.reference)
    stop = n_frames if arguments.stop is None else whole(arguments.stop, "stop", low=1, high=n_frames)
    start = whole(arguments.start, "start", low=0, high=stop - 1)
    curr = np.arange(start, stop)
    if arguments.reference is None:
        if interval >= len(curr):
            raise ValueError(f"interval must be below the number of frames, {len(curr)}, got {interval}")
        prev, curr = curr[:-interval], curr[interval:]
    else:
        whole(arguments.reference, "reference", low=0, high=n_frames - 1)
        prev = np.full_like(curr, arguments.reference)
    more = {
        "prev": prev,
        "curr": curr,
        "timestamp": frames.timestamps[curr],
        "meta": np.array(json.dumps({
            "mmme_fast": __version__, "input": identity(frames.source), "method": arguments.method,
            "crop": list(frames.crop), "grey": frames.grey, "fps": frames.fps, "warnings": frames.warnings,
        })),
    }  # fmt: skip

    with _progress(arguments.quiet, " flows") as progress:

        def flows() -> Iterator[Flow]:
            done = 0
            for before, after in _pairs(frames, start, stop, interval, reference):
                yield method(before, after, threads=arguments.threads)
                done += len(after)
                progress(done, len(curr))
            if done != len(curr):
                raise ValueError(f"{frames.source} changed while it was read: {len(curr)} flows became {done}")

        try:
            write(out, (len(curr), *frames.shape[1:], 2), flows(), more)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {out} was not written") from None
    print(f"{len(curr)} flows of {frames.shape[2]}x{frames.shape[1]} pixels: {out}")


def _counted(frames: Frames, wanted: int | None) -> tuple[int, NDArray[Any] | None]:
    """The number of frames that there are, and one of them."""
    n_frames, frame = 0, None
    for chunk in frames.chunks(BATCH):
        if wanted is not None and n_frames <= wanted < n_frames + len(chunk):
            frame = chunk[wanted - n_frames].copy()
        n_frames += len(chunk)
    return n_frames, frame


def _pairs(
    frames: Frames, start: int, stop: int, interval: int, reference: NDArray[Any] | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The frames start to stop - 1 with those `interval` before them, or with the reference."""
    held: NDArray[Any] | None = None
    first = 0
    with contextlib.closing(frames.chunks(BATCH)) as chunks:
        for chunk in chunks:
            part = chunk[max(start - first, 0) : max(stop - first, 0)]
            first += len(chunk)
            if len(part) and reference is not None:
                yield reference, part
            elif len(part):
                held = part if held is None else np.concatenate([held, part])
                if len(held) > interval:
                    yield held[:-interval], held[interval:]
                    held = held[-interval:]
            if first >= stop:
                return


def _write_npz(out: Path, shape: tuple[int, ...], flows: Iterator[Flow], more: dict[str, NDArray[Any]]) -> None:
    from mmme_fast._files import written

    with written(out) as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("flow.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
            )
            for flow in flows:
                member.write(flow.data)
        for name, array in more.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)


def _write_zarr(out: Path, shape: tuple[int, ...], flows: Iterator[Flow], more: dict[str, NDArray[Any]]) -> None:
    try:
        import zarr
    except ImportError as error:
        raise ImportError('writing .zarr needs zarr: pip install "mmme_fast[zarr]"; or write .npz') from error
    if out.exists():
        raise FileExistsError(errno.EEXIST, "out must not be there yet", str(out))
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        store = Path(folder) / out.name
        group = zarr.open_group(str(store), mode="w")
        group.attrs.update(json.loads(str(more.pop("meta"))))
        for name, array in more.items():
            zarr.open_array(str(store / name), mode="w", shape=array.shape, dtype=array.dtype)[:] = array
        target = zarr.open_array(str(store / "flow"), mode="w", shape=shape, chunks=(1, *shape[1:]), dtype="float32")
        done = 0
        for flow in flows:
            target[done : done + len(flow)] = flow
            done += len(flow)
        os.replace(store, out)


_FLOW_FILES: dict[str, Callable[[Path, tuple[int, ...], Iterator[Flow], dict[str, NDArray[Any]]], None]] = {
    ".npz": _write_npz,
    ".zarr": _write_zarr,
}


def _band_power(arguments: argparse.Namespace) -> None:
    from mmme_fast.eeg import open_recording, stream_band_power

    if arguments.preset == "mmme":
        _clip_band_power(arguments)
        return
    recording = open_recording(arguments.recording, sfreq=arguments.sfreq)
    stream = stream_band_power(
        recording, bands=arguments.bands, window=arguments.window, hop=arguments.hop, taper=arguments.taper,
        preset=arguments.preset, threads=arguments.threads,
    )  # fmt: skip
    _save_band_power(stream, f"{len(stream)} windows", arguments)


def _save_band_power(power: BandPowerStream | ClipBandPower, what: str, arguments: argparse.Namespace) -> None:
    """Write the table, and the page where it is asked for, and say what they hold."""
    if arguments.plot:
        from mmme_fast.report import band_power_page, plotly_parts

        plotly_parts()  # missing, it should say so before the work
    with _progress(arguments.quiet, f" {what.split()[1]}") as progress:
        power.save(arguments.out, progress=progress)
    recording = power.recording
    print(f"{len(recording.ch_names)} channels, {recording.duration:.6g} s at {recording.sfreq:g} Hz")
    for name, (low, high) in power.bands.items():
        print(f"  {name:8} {low:g}-{high:g} Hz, {power.bins[name]} bins of {power.resolution:g} Hz")
    print(f"{what}, {power.unit}: {arguments.out}")
    if arguments.plot:
        from mmme_fast._files import written

        page = arguments.out.with_suffix(".html")
        with written(page) as file:
            file.write(band_power_page(power).encode())
        print(f"page: {page}")


def _clip_band_power(arguments: argparse.Namespace) -> None:
    from mmme_fast.clips import SECONDS, clip_band_power
    from mmme_fast.eeg import open_recording

    for option in ("window", "hop", "taper"):
        if getattr(arguments, option) is not None:
            raise ValueError(f"--{option} must be left out with --preset mmme, which fixes it")
    recording = open_recording(arguments.recording, sfreq=arguments.sfreq)
    power = clip_band_power(recording, bands=arguments.bands)
    _save_band_power(power, f"{len(power)} clips of {SECONDS} windows", arguments)


def _evaluate(arguments: argparse.Namespace) -> None:
    from mmme_fast.metrics import evaluate, pool, read_predictions, read_truth, sweep

    predictions, left_out = read_predictions(arguments.predictions)
    truth, truth_left_out = read_truth(arguments.truth, fps=arguments.fps)
    for path, problems in ((arguments.predictions, left_out), (arguments.truth, truth_left_out)):
        if problems:
            shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
            logger.warning("%d rows of %s were left out: %s", len(problems), path, shown)
    shift = arguments.shift
    predictions = [replace(one, onset=one.onset + shift, offset=one.offset + shift) for one in predictions]
    options: dict[str, Any] = {
        "type": arguments.type, "min_length": arguments.min_length, "max_length": arguments.max_length,
        "matching": arguments.matching, "iou": arguments.iou,
    }  # fmt: skip
    result = evaluate(predictions, truth, **options)
    known, given = {one.video for one in truth}, {one.video for one in predictions}
    alone = {"predictions": sorted(given - known), "truth": sorted(known - given)}
    # Scores that are all the same, or not there, can be told apart by no threshold.
    scores = {one.score for one in predictions}
    by_p = sweep(predictions, truth, **options) if len(scores) > 1 and None not in scores else {}
    if arguments.json:
        table = {
            **options, "shift": shift, **result.to_dict(),
            "sweep": [{"p": p, **{k: v for k, v in at.to_dict().items() if k != "videos"}} for p, at in by_p.items()],
            "videos_only_in": alone,
            "left_out": {"predictions": left_out, "truth": truth_left_out},
        }  # fmt: skip
        print(json.dumps(table, indent=2))
        return
    rows = result.types if arguments.type else {**result.types, "overall": result.overall}
    print(f"{arguments.matching} matching, IoU of at least {arguments.iou:g}")
    _print_scores("type", rows)
    for name, score in rows.items():
        if score.recognition is not None:
            print(
                f"STRS {name}: {score.strs:.6f} = F1 {score.f1:.6f} x recognition F1 {score.recognition.f1:.6f} "
                f"on {score.recognition.hits} hits (UF1 {score.recognition.uf1:.6f}, UAR {score.recognition.uar:.6f})"
            )
    _print_scores("video", {video: pool(types.values()) for video, types in result.videos.items()})
    for where, names in alone.items():
        if names:
            print(f"{len(names)} videos are in {where} only: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    if by_p:
        _print_scores("p", {f"{p:.2f}": at.overall for p, at in by_p.items()})


def _print_scores(title: str, scores: dict[str, Score]) -> None:
    width = max(map(len, (title, *scores)))
    columns = [f"{name:>9}" for name in ("predicted", "true", "TP", "FP", "FN", "precision", "recall", "F1")]
    print(f"{title:{width}} {' '.join(columns)}")
    for name, one in scores.items():
        counts = (one.predictions, one.truths, one.tp, one.fp, one.fn)
        ratios = (one.precision, one.recall, one.f1)
        print(f"{name:{width}} " + " ".join([f"{n:9}" for n in counts] + [f"{r:9.6f}" for r in ratios]))


def _bench(arguments: argparse.Namespace) -> None:
    from mmme_fast import bench
    from mmme_fast._files import written
    from mmme_fast.results import output_folder

    out: Path = arguments.out if arguments.out.suffix == ".json" else arguments.out / "bench.json"
    plan = bench.planned(
        arguments.quick, arguments.methods, arguments.sizes, arguments.backends, arguments.threads, arguments.seconds,
        arguments.fps,
    )  # fmt: skip
    old = None if arguments.compare is None else bench.load(arguments.compare)
    output_folder(out.parent)
    said = ["", ""]

    def show(row: dict[str, Any]) -> None:
        lines = [bench.title(row), f"  {row['backend']:8} {bench.rate(row)}", f"{'':11}{bench.beside(row)}".rstrip()]
        fresh = 0 if lines[0] != said[0] else 1 if lines[1] != said[1] else 2
        said[:] = lines[:2]
        print("\n".join(filter(None, lines[fresh:])), flush=True)

    record = bench.measure(plan, show)
    bench.save(record, out)
    if not record["complete"]:
        raise KeyboardInterrupt(f"interrupted; {len(record['rows'])} rows are in {out}")
    for name, text in bench.described(record).items():
        print(f"{name}: {text}")
    if not bench.idle(record):
        print("The machine was busy when this began: times are too long, and ratios scatter.")
    for line in record["left_out"]:
        print(f"left out: {line}")
    try:
        with written(out.with_suffix(".html")) as file:
            file.write(bench.page(record).encode())
        print(f"page: {out.with_suffix('.html')}")
    except ImportError as error:
        print(f"left out: the page: {error}")
    print(f"record: {out}")
    failed = [f"{bench.title(row)}, {row['backend']}: {bench.beside(row)}" for row in bench.wrong(record)]
    if old is not None:
        warnings, shared, slower = bench.compare(old, record)
        slower = bench.slower_twice(plan, old, slower)
        for warning in warnings:
            logger.warning("%s", warning)
        print(
            f"compared: {len(shared)} of {len(record['rows'])} rows, {len(slower)} slower than in {arguments.compare}"
        )
        failed += [
            f"{bench.title(b)}, {b['backend']}: {b['ratio'][1]:.3g} times {b['peer']}, was {a['ratio'][1]:.3g}"
            for a, b in slower
        ]
    if failed:
        raise ValueError(f"{len(failed)} measurements are wrong or slower: {'; '.join(failed)}")


def _info(arguments: argparse.Namespace) -> None:
    info = sys_info()
    if arguments.json:
        print(json.dumps(info, indent=2))
        return
    width = max(map(len, info))
    for key, value in info.items():
        text = ", ".join(value) or "-" if isinstance(value, list) else "not installed" if value is None else value
        print(f"{key:{width}}  {text}")


def _demo(arguments: argparse.Namespace) -> None:
    from mmme_fast import synth
    from mmme_fast.eeg import open_recording
    from mmme_fast.pipeline import spot
    from mmme_fast.results import output_folder

    out = output_folder(arguments.out)
    results = out / "results"
    film = synth.film(arguments.seconds, seed=1, micro=12, macro=6)
    print(f"drawing {len(film)} frames with known expressions: {out / 'film.avi'}", flush=True)
    film.write(out / "film.avi")
    film.write_truth(out / "film.csv")
    made = synth.recording(arguments.seconds, seed=1)
    made.write(out / "recording.vhdr")
    try:
        recording = open_recording(out / "recording.vhdr")
    except ImportError as error:
        logger.warning("the recording is left out: %s", error)
        recording = None
    with _progress(False, " frames") as progress:
        result = spot(out / "film.avi", crop="full", eeg=recording, out=results, progress=progress)
    _print_intervals(result.intervals)
    expressions = [event for event in film.truth if event.type != "blink"]
    blinks = [event for event in film.truth if event.type == "blink"]
    hits = _hits(expressions, result.intervals)
    print(
        f"found {hits} of {len(expressions)} expressions and {_hits(blinks, result.blinks)} of {len(blinks)} blinks; "
        f"{len(result.intervals) - hits} false hits; {result.meta['frames_per_second']:g} frames/s"
    )
    if recording is not None:
        off = _power_error(recording, made.truth, out / "band_power.npz")
        print(f"band power of {len(recording.ch_names)} channels: within {off:.0e} of the truth")
    _print_results(results)


def _power_error(recording: Recording, truth: dict[str, NDArray[np.float64]], out: Path) -> float:
    """The largest relative error of the power that the recording's sinusoids have in each second."""
    from mmme_fast.eeg import stream_band_power

    stream = stream_band_power(recording, taper="boxcar")
    stream.save(out)
    with np.load(out) as saved:
        # Mean density times bandwidth is the power in a band.
        power = saved["power"] * [n * stream.resolution for n in stream.bins.values()]
    return float(np.abs(power / np.stack([truth[name] for name in stream.bands], axis=-1) - 1).max())


def _hits(events: Sequence[Event], intervals: Sequence[Interval]) -> int:
    """How many intervals are events, one to one: they share at least half of the frames that either has."""
    left = list(events)
    hits = 0
    for one in intervals:
        for event in left:
            shared = min(event.offset, one.offset) - max(event.onset, one.onset) + 1
            either = max(event.offset, one.offset) - min(event.onset, one.onset) + 1
            if 2 * shared >= either:
                left.remove(event)
                hits += 1
                break
    return hits
