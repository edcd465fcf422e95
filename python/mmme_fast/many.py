"""spot_many(): spot() over many films, in processes of this machine or on a Dask cluster; what is done stays done."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import logging
import math
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from mmme_fast import __version__
from mmme_fast._arrays import number, one_of, whole
from mmme_fast._backend import active_backend, get_num_threads, resolve_threads, set_num_threads, use_backend
from mmme_fast._files import write_csv, written
from mmme_fast.flow import FLOWS
from mmme_fast.frames import FILMS, IMAGES
from mmme_fast.methods import configured, joined
from mmme_fast.pipeline import Parts, spot
from mmme_fast.report import document, facts
from mmme_fast.results import COLUMNS, RESULTS, identity, output_folder

logger = logging.getLogger("mmme_fast")

PART = 600.0  # s: films twice as long are measured in parts, where the method allows that
# Flows that make it worth it: every part decodes the film from its start, and so does their joining.
DIVIDED = ("tvl1",)
RETRIES = 2  # how often a film is tried again whose worker died
REFRESH = 5.0  # s from one writing of the tables to the next, while films are being spotted
# What options of spot films may share.
SHARED = ("preset", "method", "flow", "crop", "size", "fps", "align", "baseline")
FILES = ("landmarks", "eeg", "peripherals")  # what each film may have of its own, beside these: fps, crop, align
STATUS = ("done", "kept", "failed", "stopped", "waiting")


@dataclass(frozen=True)
class Outcome:
    """What became of one film.

    Attributes
    ----------
    film : str
        Its name: its path from the folder that was searched, from the manifest's, or from what all paths have in
        common; also that of its results in `out`.
    status : {"done", "kept", "failed", "stopped"}
        "kept": it was done before, and nothing has changed since; "stopped": the run was interrupted before its end.
    intervals : int or None
        Expressions found.
    seconds : float or None
        How long it took; of a film that was kept, how long it had taken.
    message : str
        Why it failed; or why it was done again, and what is wrong with the film.
    """

    film: str
    status: str
    intervals: int | None = None
    seconds: float | None = None
    message: str = ""


Progress = Callable[[Outcome, int, int], None]


class _Film(NamedTuple):
    name: str  # parts joined by "/"
    source: str
    options: dict[str, Any]


def spot_many(
    sources: Any,
    out: str | os.PathLike[str],
    *,
    scheduler: Any = None,
    workers: int | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
    **options: Any,
) -> list[Outcome]:
    """Spot the facial expressions in many films, several at a time; go on where an earlier run ended.

    Each film is one task (with ``flow="tvl1"`` and a published method, one of 20 minutes or more is several, with the
    bits of one) and has a folder of its own in `out`, with what `spot` writes. A film whose results are there,
    whole, from the same input, options and version of this package, is kept; any other is done, and `Outcome.message`
    says why it was done again. A film that fails is listed and does not stop the others.

    Parameters
    ----------
    sources : path, or iterable of paths or mappings
        A folder, which is searched for films (a folder in it that holds images and no film is one); a manifest, a CSV
        file with the column "film" and any of "fps", "crop", "landmarks", "eeg", "peripherals" and "align", whose
        paths count from its folder and whose empty cells mean that nothing is given; or films, each a path or a mapping
        like a row of such a table.
    out : path
        Folder for the results, and for summary.csv (film, status, intervals, seconds, message), expressions.csv (the
        intervals of all films) and index.html.
    scheduler : str or distributed.Client, optional
        A Dask scheduler's address or client, ``pip install "mmme_fast[dask]"``: its workers must see films and `out`
        under the same paths. Default: processes of this machine.
    workers : int, optional
        Processes of this machine. Default: as many as `get_num_threads()` allows.
    threads : int, default 1
        Threads of each worker.
    progress : bool or callable, optional
        True shows a bar (tqdm, extra "report"; lines where that is missing); a callable gets each Outcome, how many
        films are through, and how many there are.
    **options
        preset, method, flow, crop, size, fps, align, baseline: as for `spot`, of every film that has none of its own.

    Returns
    -------
    list of Outcome
        In the order of the films' names.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError, ImportError
        When sources hold no film, two films have one name, an argument breaks its rule, or Dask is missing. What is
        wrong with a film is in its Outcome.
    KeyboardInterrupt
        After Ctrl-C: films that are not done are given up, the tables are written, and the message says so.

    Notes
    -----
    On this machine workers are new interpreters, so a script that calls this must do so under
    ``if __name__ == "__main__":``. One that dies is replaced; its film is tried again, twice at most.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> for seed in (1, 2):
    ...     film = synth.film(4, fps=30, size=64, seed=seed, micro=0, macro=0, blinks=0)
    ...     path = film.write(f"film{seed}.avi")
    >>> outcomes = mf.spot_many(["film1.avi", "film2.avi"], "results", crop="full", workers=1)
    >>> [(one.film, one.status) for one in outcomes]
    [('film1.avi', 'done'), ('film2.avi', 'done')]
    """
    _check(options)
    if scheduler is not None and workers is not None:
        raise ValueError(f"workers must be None with a scheduler, which has its own, got {workers!r}")
    threads = 1 if threads is None else resolve_threads(threads)
    workers = max(get_num_threads() // threads, 1) if workers is None else whole(workers, "workers", low=1)
    folder = output_folder(Path(out).absolute())
    films = _films(sources, folder, options)
    outcomes = {film.name: Outcome(film.name, "waiting") for film in films}
    waiting = dict(zip(outcomes, films, strict=True))
    written_at = time.monotonic()
    with _told(progress, len(films)) as tell:
        try:
            with _pool(scheduler, min(workers, len(films)), threads) as pool:
                divided = options.get("flow") in DIVIDED and (scheduler is not None or workers > 1)
                part = PART if divided else math.inf
                parts: dict[str, int] = {}  # how many are still to be measured
                for film in films:
                    pool.submit(film.name, _spotted, film, str(folder / film.name), threads, __version__, part)
                while waiting:
                    name, result = pool.next()
                    if isinstance(result, _Divided):
                        parts[name] = result.parts
                        for number in range(result.parts):
                            pool.submit(
                                name, _measured, waiting[name], str(folder / name), threads, part, number, first=True
                            )
                        continue
                    if parts.get(name):
                        parts[name] -= 1
                        if not parts[name]:  # those that failed are missed there
                            call = _spotted, waiting[name], str(folder / name), threads, __version__, None
                            pool.submit(name, *call, first=True)
                        continue
                    if isinstance(result, BaseException):
                        result = Outcome(name, "failed", message=_line(result))
                    outcomes[name] = result
                    del waiting[name]
                    tell(result, len(films) - len(waiting), len(films))
                    if time.monotonic() > written_at + REFRESH:
                        _write_summary(folder, list(outcomes.values()))
                        written_at = time.monotonic()
        except KeyboardInterrupt:
            for name in waiting:
                _tidy(folder / name)
                outcomes[name] = Outcome(name, "stopped")
            _write_tables(folder, list(outcomes.values()))
            done = len(films) - len(waiting)
            raise KeyboardInterrupt(
                f"interrupted; {done} of {len(films)} films are in {folder}, and another run goes on from there"
            ) from None
    _write_tables(folder, list(outcomes.values()))
    return list(outcomes.values())


def _check(options: Mapping[str, Any]) -> None:
    """The rules of what all films share, before the work."""
    for name in options:
        one_of(name, "option", SHARED)
    configured(options.get("method", "matched"), options.get("preset"))
    one_of(options.get("flow", "farneback"), "flow", tuple(FLOWS))
    whole(options.get("size", 256), "size", low=32)
    for name in ("fps", "baseline"):
        if options.get(name) is not None:
            number(options[name], name, low=0, open_low=True)


# What to do: films and their names


def _films(sources: Any, out: Path, options: Mapping[str, Any]) -> list[_Film]:
    """The films in order of their names."""
    if isinstance(sources, str | os.PathLike):
        path = Path(sources).absolute()
        if not path.exists():
            raise FileNotFoundError(f"sources must exist, got {path}")
        if path.is_dir():
            base, rows = path, [{"film": str(film)} for film in _search(path, out)]
            if not rows:
                raise ValueError(f"sources must hold films or folders of images, got none in {path}")
        elif path.suffix.lower() == ".csv":
            base, rows = path.parent, _manifest(path)
        else:
            base, rows = path.parent, [{"film": str(path)}]
    else:
        rows = [dict(one) if isinstance(one, Mapping) else {"film": one} for one in sources]
        for row in rows:
            if not isinstance(row.get("film"), str | os.PathLike):
                raise TypeError(f"sources must be paths, or mappings with a path as 'film', got {row.get('film')!r}")
            for name in ("film", *FILES):
                if row.get(name) is not None:
                    row[name] = os.path.abspath(row[name])
        base = _common([Path(row["film"]) for row in rows])
    if not rows:
        raise ValueError("sources must hold at least one film, got none")
    films = []
    for row in rows:
        for name in row:
            one_of(name, "what a film has", ("film", "fps", "crop", "align", *FILES))
        film = Path(row.pop("film"))
        own = {name: value for name, value in row.items() if value is not None}
        recorded = "eeg" in own or "peripherals" in own
        shared = {k: v for k, v in options.items() if v is not None and (recorded or k not in ("align", "baseline"))}
        films.append(_Film(_name(film, base), str(film), shared | own))
    films.sort(key=lambda film: film.name)
    for one, other in itertools.pairwise(films):
        if one.name == other.name:
            raise ValueError(f"sources must name each film once, got {one.source} twice")
    return films


def _search(root: Path, out: Path) -> list[Path]:
    """Films below a folder; links are followed, each folder is entered once."""
    seen: set[tuple[int, int]] = set()
    found = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            status = folder.stat()
            with os.scandir(folder) as scan:
                entries = sorted((e for e in scan if not e.name.startswith(".")), key=lambda entry: entry.name)
        except OSError:
            found.append(folder)  # which fails with the reason
            continue
        if (status.st_dev, status.st_ino) in seen or folder == out:
            continue
        seen.add((status.st_dev, status.st_ino))
        inner = [Path(entry.path) for entry in entries]
        files = [path for path in inner if not path.is_dir()]  # be it a link that leads nowhere, which then fails
        films = [file for file in files if file.suffix.lower() in FILMS]
        images = [file for file in files if file.suffix.lower() in IMAGES]
        if not films and len(images) > 1:
            films = [folder]
        elif not films:
            films = [file for file in images if file.suffix.lower() in (".tif", ".tiff")]
        found += films
        folders += [path for path in reversed(inner) if path.is_dir()]
    return found


def _manifest(path: Path) -> list[dict[str, Any]]:
    def crop(text: str) -> Any:
        return text if text in ("auto", "full") else tuple(int(part) for part in text.split(","))

    def align(text: str) -> Any:
        return text if text == "mmme" else float(text)

    columns: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(("film", *FILES), lambda text: os.path.abspath(path.parent / text)),
        "fps": float, "crop": crop, "align": align,
    }  # fmt: skip
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        header = reader.fieldnames or []
        if "film" not in header or not set(header) <= set(columns):
            raise ValueError(f"{path} must have the column film, and of others only {', '.join([*columns][1:])}, got "
                             f"{', '.join(header) or 'none'}")  # fmt: skip
        try:
            for row in reader:
                if None in row or not row["film"]:
                    raise ValueError("it must name a film, and have no more cells than the header")
                rows.append({name: columns[name](text) for name, text in row.items() if text})
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return rows


def _common(films: list[Path]) -> Path:
    try:
        return Path(os.path.commonpath([film.parent for film in films]))
    except ValueError:  # none, or on several drives
        return Path(films[0].anchor if films else ".")


def _name(film: Path, base: Path) -> str:
    """The path from `base`; of a film elsewhere the whole path, below a folder that no path begins with."""
    film = Path(os.path.normpath(film))
    if film == base:
        return film.name or "film"
    if film.is_relative_to(base):
        return film.relative_to(base).as_posix()
    return "/".join(["...", *(part.strip("/\\:") for part in film.parts if part.strip("/\\:"))])


# One film, where the work is done


class _Divided(NamedTuple):
    """A film that is to be measured in so many parts first."""

    parts: int


def _spotted(film: _Film, folder: str, threads: int, version: str, part: float | None) -> Outcome | _Divided:
    """Bring the results of a film up to date. It never raises: what is wrong is in the Outcome.

    Films of more than two `part` seconds are handed back to be divided; None joins what was measured of one.
    """
    place = Path(folder)
    begun = time.perf_counter()
    try:
        if version != __version__:
            raise ValueError(f"the worker must have mmme_fast {version}, got {__version__}")
        request = _request(film)
        sealed, reason = _sealed(place, request)
        if sealed is not None:
            return Outcome(film.name, "kept", sealed["intervals"], sealed["seconds"], _notes(sealed["warnings"]))
        _tidy(place)
        options = film.options
        if part is None:
            options = options | _joined(place, request, film)
        elif part < math.inf and (count := Parts(film.source, part, **options).count):
            return _Divided(count)
        found = spot(film.source, out=place, threads=threads, **options)
        _seal(place, request, len(found.intervals))
        shutil.rmtree(place / _PARTS, ignore_errors=True)
        notes = _notes([reason, *found.meta["warnings"]])
        return Outcome(film.name, "done", len(found.intervals), round(time.perf_counter() - begun, 3), notes)
    except Exception as error:  # MemoryError is one, and whatever a damaged film may cause
        with suppress(OSError):
            _tidy(place)
        return Outcome(film.name, "failed", None, round(time.perf_counter() - begun, 3), _line(error))


_PARTS = ".parts"  # the folder of what is measured of a film before it is joined


def _part_file(folder: Path, request: dict[str, Any], number: int, count: int) -> Path:
    """A name that what was measured by another request has not."""
    asked = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return folder / _PARTS / f"{asked[:32]}-{number}-{count}.npz"


def _measured(film: _Film, folder: str, threads: int, part: float, number: int) -> None:
    """Measure one part of a film, unless an earlier run has; `_joined` finds it."""
    parts = Parts(film.source, part, **film.options)
    file = _part_file(Path(folder), _request(film), number, parts.count)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        values = parts.measure(number, threads)
        with written(file) as target:
            np.savez(target, **values)  # type: ignore[arg-type]


def _joined(folder: Path, request: dict[str, Any], film: _Film) -> dict[str, Any]:
    """The method that has measured all parts; nothing where one of them is missing: then the film is done in one."""
    found = sorted((folder / _PARTS).glob("*-0-*.npz"))
    counts = [int(path.stem.rsplit("-", 1)[1]) for path in found]
    for count in counts:
        files = [_part_file(folder, request, number, count) for number in range(count)]
        if all(file.exists() for file in files):

            def parts(files: list[Path] = files) -> Iterator[Mapping[str, Any]]:
                for file in files:
                    with np.load(file, allow_pickle=False) as values:
                        yield dict(values)

            method = configured(film.options.get("method", "matched"), film.options.get("preset"))
            return {"method": joined(method, parts())}  # type: ignore[arg-type]
    logger.warning("%s: a part of it could not be measured; it is done in one", film.name)
    return {}


def _request(film: _Film) -> dict[str, Any]:
    """What the results of a film depend on: where one of these is another, they are made anew."""
    options = {name: value for name, value in film.options.items() if name not in FILES}
    method = configured(options.pop("method", "matched"), options.get("preset"))
    inputs = {"film": film.source} | {name: film.options[name] for name in FILES if name in film.options}
    identities = {name: identity(str(source)) for name, source in inputs.items()}
    for one in identities.values():
        del one["source"]  # a data set may be moved
    request = {
        "mmme_fast": __version__,
        "options": {**options, "method": [type(method).__name__.lower(), asdict(method)]},
        "inputs": identities,
    }
    try:
        plain: dict[str, Any] = json.loads(json.dumps(request))  # as it will be read
    except TypeError as error:
        raise TypeError(f"options must be numbers, names and tuples of them: {error}") from None
    return plain


def _seal(folder: Path, request: dict[str, Any], intervals: int) -> None:
    """Write into meta.json what was asked for, and what the files are that now answer it."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    files = {name: _digest(folder / name) for name in RESULTS if name != "meta.json" and (folder / name).exists()}
    meta["sealed"] = {"request": request, "files": files, "intervals": intervals, "seconds": meta["seconds"],
                      "warnings": meta["warnings"]}  # fmt: skip
    with written(folder / "meta.json") as file:
        file.write(json.dumps(meta, indent=2).encode())


def _sealed(folder: Path, request: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The seal where the results are whole and answer the request; else why they are made again."""
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_bytes())
        sealed: dict[str, Any] = meta["sealed"]
        before, files = sealed["request"], sealed["files"]
        for name, digest in files.items():
            if name not in RESULTS or not (folder / name).exists() or _digest(folder / name) != digest:
                return None, f"done again: {name} is not as it was written"
        changes = _changes(before, request)
    except FileNotFoundError:
        begun = folder.is_dir() and any(folder.joinpath(name).exists() for name in RESULTS)
        return None, "done again: it was not finished" if begun else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, "done again: it was not finished"
    return (sealed, "") if not changes else (None, f"done again: {', '.join(changes)}")


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is another than it was, in words."""
    changes = []
    if before["mmme_fast"] != now["mmme_fast"]:
        changes.append(f"mmme_fast was {before['mmme_fast']}")
    for name in sorted(before["options"].keys() | now["options"].keys()):
        old, new = before["options"].get(name), now["options"].get(name)
        if old != new:
            old, new = (one[0] if name == "method" and one else one for one in (old, new))
            changes.append(f"{name} was {old}" if old != new else f"the parameters of {name} were others")
    for name in sorted(before["inputs"].keys() | now["inputs"].keys()):
        old, new = before["inputs"].get(name), now["inputs"].get(name)
        if old is None or new is None:
            changes.append(f"{name} was {'not ' if old is None else ''}given")
        elif old != new:
            what = [key for key in ("bytes", "files", "sha256", "modified") if old.get(key) != new.get(key)]
            words = {"bytes": "size", "files": "number of files", "sha256": "content", "modified": "time of change"}
            changes.append(f"the {name} changed ({' and '.join(words[key] for key in what)})")
    return changes


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _tidy(folder: Path) -> None:
    """Take away what a killed process left of files that it was writing."""
    for name in RESULTS:
        for left in folder.glob(f".{name}.*"):
            left.unlink(missing_ok=True)


def _notes(notes: Iterable[str]) -> str:
    return "; ".join(note for note in notes if note)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.strerror}: {error.filename}"
    known = isinstance(error, ValueError | OSError | TypeError | ImportError) and text
    return text if known else f"{type(error).__name__}: {text}" if text else type(error).__name__


# Who does the work


class _Task:
    def __init__(self, key: str, call: tuple[Any, ...]) -> None:
        self.key, self.call = key, call
        self.deaths = 0


class _Processes:
    """Processes of this machine, each at one task. One that dies is replaced, and its task tried again."""

    def __init__(self, workers: int, threads: int) -> None:
        import multiprocessing

        self._workers, self._threads = workers, threads
        self._context = multiprocessing.get_context("spawn")
        self._waiting: deque[_Task] = deque()
        self._idle: list[tuple[Any, Any]] = []
        self._busy: dict[Any, tuple[Any, _Task]] = {}

    def submit(self, key: str, *call: Any, first: bool = False) -> None:
        """Queue a function and its arguments; `first` before all others."""
        (self._waiting.appendleft if first else self._waiting.append)(_Task(key, call))

    def next(self) -> tuple[str, Any]:
        """Wait for a task that ends; its key, and its result or the error that kept it from one."""
        from multiprocessing import connection

        while True:
            while self._waiting and (self._idle or len(self._busy) < self._workers):
                process, pipe = self._idle.pop() if self._idle else self._start()
                task = self._waiting.popleft()
                self._busy[pipe] = process, task
                with suppress(OSError):  # it died, which shows below
                    pipe.send(task.call)
            ready: list[Any] = connection.wait(list(self._busy))
            for pipe in ready:
                process, task = self._busy.pop(pipe)
                try:
                    result = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    pipe.close()
                    task.deaths += 1
                    if task.deaths <= RETRIES:
                        logger.warning("%s: its worker died (%s); it is tried again", task.key, _end(process.exitcode))
                        self._waiting.appendleft(task)
                        break
                    result = ChildProcessError(f"its worker died {task.deaths} times ({_end(process.exitcode)})")
                else:
                    self._idle.append((process, pipe))
                return task.key, result

    def _start(self) -> tuple[Any, Any]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._threads, active_backend()), name="mmme_fast worker", daemon=True
        )
        # The libraries under NumPy would otherwise have as many threads as there are CPUs, in every worker.
        names = [
            name for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS") if name not in os.environ
        ]
        os.environ.update(dict.fromkeys(names, str(self._threads)))
        try:
            process.start()
        finally:
            for name in names:
                del os.environ[name]
        theirs.close()
        return process, ours

    def close(self) -> None:
        for process, _ in self._busy.values():
            process.kill()
        for pipe in [*self._busy, *(pipe for _, pipe in self._idle)]:
            pipe.close()
        for process, _ in [*self._busy.values(), *self._idle]:
            process.join()


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def _serve(pipe: Any, threads: int, backend: str) -> None:
    """A worker's life: do what comes through the pipe, and end with it, or with the process at its other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    logger.addHandler(logging.NullHandler())  # what is wrong with a film is in its Outcome
    use_backend(backend)
    set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, *arguments = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(function(*arguments))


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Cluster:
    """A Dask cluster, which itself gives the task of a worker that died to another."""

    def __init__(self, scheduler: Any) -> None:
        try:
            from distributed import Client, as_completed
        except ImportError as error:
            raise ImportError('scheduler needs Dask: pip install "mmme_fast[dask]"') from error
        self._owned = not isinstance(scheduler, Client)
        self._client = Client(scheduler, set_as_default=False) if self._owned else scheduler
        self._keys: dict[str, tuple[str, Any]] = {}  # the future of each, by its own key
        self._completed = as_completed(loop=self._client.loop)

    def submit(self, key: str, *call: Any, first: bool = False) -> None:
        future = self._client.submit(*call, pure=False, priority=int(first))
        self._keys[future.key] = key, future
        self._completed.add(future)

    def next(self) -> tuple[str, Any]:
        future = next(self._completed)
        key, _ = self._keys.pop(future.key)
        try:
            return key, future.result()
        except Exception as error:
            return key, error

    def close(self) -> None:
        if self._keys:
            self._client.cancel([future for _, future in self._keys.values()])
        if self._owned:
            self._client.close()


@contextmanager
def _pool(scheduler: Any, workers: int, threads: int) -> Iterator[_Processes | _Cluster]:
    pool = _Processes(workers, threads) if scheduler is None else _Cluster(scheduler)
    try:
        yield pool
    finally:
        pool.close()


# What is said of all films


@contextmanager
def _told(progress: bool | Progress | None, total: int) -> Iterator[Progress]:
    if progress is not True:
        yield progress or (lambda outcome, done, total: None)
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda outcome, done, total: print(f"[{done}/{total}] {outcome.status} {outcome.film}", flush=True)
        return
    with tqdm(total=total, unit=" films", dynamic_ncols=True) as bar:
        yield lambda outcome, done, total: bar.update(done - bar.n)


def _write_summary(folder: Path, outcomes: list[Outcome]) -> None:
    def cell(value: Any) -> Any:
        return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value

    columns = ["film", "status", "intervals", "seconds", "message"]
    write_csv(folder / "summary.csv", columns, ([cell(getattr(one, c)) for c in columns] for one in outcomes))
    with written(folder / "index.html") as file:
        file.write(_index(folder, outcomes).encode(errors="backslashreplace"))


def _write_tables(folder: Path, outcomes: list[Outcome]) -> None:
    """The summary, and one table of the intervals of all films that are done."""

    def intervals() -> Iterator[list[Any]]:
        for one in outcomes:
            if one.status in ("done", "kept"):
                with (folder / one.film / "intervals.csv").open(encoding="utf-8", newline="") as file:
                    for row in csv.DictReader(file):
                        yield [_video(one.film), *(row[column] for column in COLUMNS)]

    _write_summary(folder, outcomes)
    write_csv(folder / "expressions.csv", ["video", *COLUMNS], intervals())


def _video(film: str) -> str:
    stem, suffix = os.path.splitext(film)
    return stem if suffix.lower() in (*FILMS, *IMAGES, ".npy") else film


def _index(folder: Path, outcomes: list[Outcome]) -> str:
    """A page that leads to every film's report."""
    counts = {status: sum(one.status == status for one in outcomes) for status in STATUS}
    rows = []
    for one in outcomes:
        name = escape(one.film)
        for page in ("report.html", "intervals.csv"):
            if one.status in ("done", "kept") and (folder / one.film / page).exists():
                name = f'<a href="{quote(f"{one.film}/{page}", errors="surrogateescape")}">{name}</a>'
                break
        numbers = "".join(f"<td>{'' if value is None else f'{value:g}'}</td>" for value in (one.intervals, one.seconds))
        rows.append(
            f'<tr class="{one.status}"><th scope="row">{name}</th><td>{one.status}</td>{numbers}'
            f"<td>{escape(one.message)}</td></tr>"
        )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Film", "Status", "Expressions", "Seconds", "Message"))
    main = f"""<p>The numbers are in <a href="summary.csv">summary.csv</a>, the intervals of all films in
<a href="expressions.csv">expressions.csv</a>.</p>
<div class="wide films" tabindex="0" role="region" aria-label="Table of films"><table>
<thead><tr>{heads}</tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody>
</table></div>"""
    told = facts({status: str(count) for status, count in counts.items() if count})
    number = f"{len(outcomes)} film{'' if len(outcomes) == 1 else 's'}"
    return document("Facial expressions", number, str(folder), told, main)
