"""spot_many() and `mmme-fast run`: many films at a time, workers that die, and what is done again."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import mmme_fast
from mmme_fast import many, synth
from mmme_fast.cli import main
from mmme_fast.many import Outcome, spot_many
from mmme_fast.methods import joined
from mmme_fast.pipeline import Parts, spot

OPTIONS: dict[str, Any] = {"crop": "full", "size": 64, "fps": 50}


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of one name, a folder of images, and what is no film."""
    folder = tmp_path_factory.mktemp("many") / "films"
    for i, place in enumerate(("s1", "s2")):
        (folder / place).mkdir(parents=True)
        synth.film(4, 50, 64, seed=i, micro=20, macro=10, blinks=10).write(folder / place / "film.avi")
    synth.film(3, 50, 64, seed=7).write(folder / "images" / "%06d.png")
    (folder / "<b>&.avi").write_text("this is no film")
    (folder / "notes.txt").write_text("nor is this")
    return folder


@pytest.fixture(scope="session")
def alone(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What spot() gives for each film."""
    out = tmp_path_factory.mktemp("alone")
    for name in ("s1/film.avi", "s2/film.avi", "images"):
        spot(films / name, out=out / name, **OPTIONS)
    return out


def assert_same(out: Path, alone: Path, names: tuple[str, ...] = ("s1/film.avi", "s2/film.avi", "images")) -> None:
    """Bit for bit what one run of spot() writes."""
    for name in names:
        for table in ("intervals.csv", "blinks.csv"):
            assert (out / name / table).read_bytes() == (alone / name / table).read_bytes()
        with np.load(out / name / "signals.npz") as got, np.load(alone / name / "signals.npz") as want:
            assert list(got) == list(want)
            for signal_name in want:
                np.testing.assert_array_equal(got[signal_name], want[signal_name], err_msg=f"{name} {signal_name}")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def statuses(outcomes: list[Outcome]) -> dict[str, str]:
    return {one.film: one.status for one in outcomes}


ALL_DONE = {"s1/film.avi": "done", "s2/film.avi": "done", "images": "done", "<b>&.avi": "failed"}


def test_processes_of_this_machine(films: Path, alone: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    outcomes = spot_many(
        films, tmp_path, workers=2, progress=lambda one, done, total: told.append((one.film, done, total)), **OPTIONS
    )
    assert statuses(outcomes) == ALL_DONE
    assert [one.film for one in outcomes] == sorted(ALL_DONE)
    assert_same(tmp_path, alone)
    assert sorted(name for name, _, _ in told) == sorted(ALL_DONE)
    assert [(done, total) for _, done, total in told] == [(i + 1, 4) for i in range(4)]
    assert not multiprocessing.active_children()

    summary = table(tmp_path / "summary.csv")
    assert list(summary[0]) == ["film", "status", "intervals", "seconds", "message"]
    assert {row["film"]: row["status"] for row in summary} == ALL_DONE
    assert "is not a film that FFmpeg can read" in summary[0]["message"]
    for row in summary[1:]:
        assert int(row["intervals"]) == len(table(alone / row["film"] / "intervals.csv"))
    rows = table(tmp_path / "expressions.csv")
    assert {row["video"] for row in rows} <= {"s1/film", "s2/film", "images"}
    assert [row["onset"] for row in rows if row["video"] == "s1/film"] == [
        row["onset"] for row in table(alone / "s1/film.avi" / "intervals.csv")
    ]
    page = (tmp_path / "index.html").read_text()
    assert 'href="s1/film.avi/report.html"' in page
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.avi" in page
    meta = json.loads((tmp_path / "s1/film.avi/meta.json").read_text())
    assert (meta["threads"], meta["backend"]) == (1, mmme_fast.sys_info()["backend"])

    again = spot_many(films, tmp_path, workers=1, **OPTIONS)
    assert statuses(again) == {name: "kept" if status == "done" else status for name, status in ALL_DONE.items()}
    assert [one.intervals for one in again] == [one.intervals for one in outcomes]


def when_workers_are_busy(out: Path, act: Callable[[psutil.Process], None], times: int) -> threading.Thread:
    """Call something with a worker that has begun a film, so many times."""

    def watch() -> None:
        seen: set[int] = set()
        end = time.monotonic() + 60
        while len(seen) < times and time.monotonic() < end:
            for process in psutil.Process().children(recursive=True):
                if process.pid not in seen and "spawn_main" in " ".join(process.cmdline()) and any(out.rglob("x.avi")):
                    seen.add(process.pid)
                    time.sleep(0.1)
                    act(process)
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.fixture(scope="session")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that takes a second or two."""
    folder = tmp_path_factory.mktemp("longer")
    return synth.film(10, 50, 96, seed=3, micro=20).write(folder / "x.avi")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("deaths", "status"), [(1, "done"), (3, "failed")])
def test_a_worker_that_is_killed(
    deaths: int, status: str, longer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killer = when_workers_are_busy(tmp_path, lambda process: process.kill(), deaths)
    (outcome,) = spot_many([longer], tmp_path, workers=1, crop="full", size=96)
    killer.join()
    assert outcome.status == status
    assert caplog.text.count("its worker died (SIGKILL); it is tried again") == min(deaths, 2)
    if status == "done":
        found = spot(longer, crop="full", size=96)
        assert [int(row["onset"]) for row in table(tmp_path / "x.avi/intervals.csv")] == [
            one.onset for one in found.intervals
        ]
        with np.load(tmp_path / "x.avi/signals.npz") as signals:
            np.testing.assert_array_equal(signals["score"], found.scores)
    else:
        assert outcome.message == "its worker died 3 times (SIGKILL)"
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_a_dask_cluster_whose_worker_is_killed(films: Path, alone: Path, longer: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    sources = [films / "s1/film.avi", films / "s2/film.avi", films / "images", films / "<b>&.avi", longer]
    killed: list[int] = []

    def kill_one(one: Outcome, done: int, total: int) -> None:
        if not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL if os.name != "nt" else signal.SIGTERM)

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        outcomes = spot_many(sources, tmp_path, scheduler=client, progress=kill_one, **OPTIONS)
        assert killed
        by_name = {Path(one.film).as_posix(): one for one in outcomes}
        ends = {name.split("films/")[-1]: one.status for name, one in by_name.items()}
        assert {ends[name] for name in ("s1/film.avi", "s2/film.avi", "images")} == {"done"}
        assert ends["<b>&.avi"] == "failed"
        (root,) = {name.removesuffix("s1/film.avi") for name in by_name if name.endswith("s1/film.avi")}
        assert_same(tmp_path / root, alone)
        address = cluster.scheduler_address
        again = spot_many(sources, tmp_path, scheduler=address, **OPTIONS)
        assert [one.status for one in again].count("kept") == 4
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not psutil.wait_procs(left, timeout=10)[1]


# Films in parts


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames are one sample."""
    film = synth.film(14, 100, 48, seed=3, micro=20, macro=10, sway=3)
    return film.write(tmp_path_factory.mktemp("parts") / "minute.npy")


@pytest.mark.parametrize("method", ["roi", "strain", "mdmd", "lbp"])
@pytest.mark.parametrize("ends", [1399, 1100, 250])
def test_parts_are_the_whole(method: str, ends: int, minute: Path) -> None:
    """Bit for bit, wherever the film ends, be it before the last part begins."""
    options = {"crop": "full", "size": 48, "fps": 100, "method": method}

    def shortened() -> Any:
        frames = mmme_fast.open_frames(minute, crop="full", size=48, fps=100)
        chunks = frames.chunks

        def until(n: int) -> Any:
            left = ends
            for chunk in chunks(n):
                if left > 0:
                    yield chunk[:left]
                left -= len(chunk)

        frames.chunks = until  # type: ignore[method-assign, assignment]
        return frames

    whole = spot(shortened(), **options)
    parts = Parts(shortened(), 3.5, **options)
    assert parts.count == 4
    measured = [parts.measure(number, 1) for number in range(parts.count)]
    got = spot(shortened(), **{**options, "method": joined(parts.method, measured)})  # type: ignore[arg-type]
    assert got.intervals == whole.intervals
    for name, values in whole.signals.items():
        np.testing.assert_array_equal(got.signals[name], values, err_msg=name)
    assert got.meta["parameters"] == whole.meta["parameters"]


def test_matched_has_no_parts(minute: Path) -> None:
    assert Parts(minute, 1, crop="full", size=48, fps=100).count == 0


def test_a_long_film_is_measured_in_parts(minute: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PART", 5.0)
    monkeypatch.setattr(many, "DIVIDED", ("farneback",))
    options = {"crop": "full", "size": 48, "fps": 100, "method": "strain", "flow": "farneback"}
    whole = spot(minute, out=tmp_path / "alone" / "minute.npy", **options)
    sent: list[str] = []
    submit = many._Processes.submit
    monkeypatch.setattr(
        many._Processes, "submit",
        lambda pool, key, *call, first=False: (sent.append(call[0].__name__), submit(pool, key, *call, first=first)),
    )  # fmt: skip
    (outcome,) = spot_many([minute], tmp_path, workers=2, **options)
    assert sent == ["_spotted", "_measured", "_measured", "_spotted"]
    assert (outcome.status, outcome.intervals, outcome.message) == ("done", len(whole.intervals), "")
    assert_same(tmp_path, tmp_path / "alone", ("minute.npy",))
    assert not list((tmp_path / "minute.npy").glob(".*"))


def test_parts_that_cannot_be_measured_leave_the_film_in_one(
    minute: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And parts that an earlier run has measured are not measured again."""
    film = many._Film("minute", str(minute), {"crop": "full", "size": 48, "fps": 100, "method": "lbp"})
    folder = str(tmp_path / "minute")
    assert many._spotted(film, folder, 1, mmme_fast.__version__, 5.0) == many._Divided(2)
    many._measured(film, folder, 1, 5.0, 0)
    (file,) = (tmp_path / "minute").glob(".parts/*")
    before = file.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "measure", lambda *_: pytest.fail("it is measured already"))
        many._measured(film, folder, 1, 5.0, 0)
    assert file.stat().st_mtime_ns == before
    outcome = many._spotted(film, folder, 1, mmme_fast.__version__, None)
    assert isinstance(outcome, Outcome)
    assert outcome.status == "done"
    assert "a part of it could not be measured; it is done in one" in caplog.text


# What is done again, and why


def in_place(name: str, films: Path, out: Path, **options: Any) -> Outcome:
    """One film in this process, as a worker does it."""
    film = many._Film(name, str(films / name), {**OPTIONS, **options})
    return many._spotted(film, str(out / name), 1, mmme_fast.__version__, math.inf)


@pytest.fixture(scope="module")
def kept(films: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A folder with a film and, in "out", its results; and what was said of them."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "s1").mkdir()
    shutil.copy2(films / "s1/film.avi", folder / "s1")
    return folder, in_place("s1/film.avi", folder, folder / "out")


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ("nothing", {}, None),
        ("nothing", {"size": 48}, "done again: size was 64"),
        ("nothing", {"method": "lbp"}, "done again: method was matched"),
        ("nothing", {"method": mmme_fast.spotting.Matched(snr=9)}, "done again: the parameters of method were others"),
        ("touched", {}, "done again: the film changed (time of change)"),
        ("longer", {}, "done again: the film changed (size and content and time of change)"),
        ("lost", {}, "done again: signals.npz is not as it was written"),
        ("cut", {}, "done again: intervals.csv is not as it was written"),
        ("cut meta", {}, "done again: it was not finished"),
        ("unsealed", {}, "done again: it was not finished"),
        ("no meta", {}, "done again: it was not finished"),
        ("version", {}, "done again: mmme_fast was 0.0.1"),
    ],
)
def test_what_changed_is_done_again(
    change: str, options: dict[str, Any], reason: str | None, kept: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder, first = kept
    assert (first.status, first.message) == ("done", "")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    film, out = tmp_path / "s1/film.avi", tmp_path / "out/s1/film.avi"
    meta = out / "meta.json"
    if change == "touched":
        os.utime(film, (1, 1))
    elif change == "longer":
        film.write_bytes(film.read_bytes() + bytes(5))
    elif change == "lost":
        (out / "signals.npz").unlink()
    elif change == "cut":
        (out / "intervals.csv").write_bytes((out / "intervals.csv").read_bytes()[:-5])
    elif change == "cut meta":
        meta.write_bytes(meta.read_bytes()[:-100])
    elif change == "unsealed":
        meta.write_text(json.dumps({k: v for k, v in json.loads(meta.read_text()).items() if k != "sealed"}))
    elif change == "no meta":
        meta.unlink()
    elif change == "version":
        known = json.loads(meta.read_text())
        known["sealed"]["request"]["mmme_fast"] = "0.0.1"
        meta.write_text(json.dumps(known))
    (out / ".signals.npz.left_by_a_killed_one").write_text("")
    again = in_place("s1/film.avi", tmp_path, tmp_path / "out", **options)
    if reason is None:
        assert again == Outcome("s1/film.avi", "kept", first.intervals, again.seconds)
        return
    assert again.status == "done"
    assert again.message.startswith(reason)
    assert in_place("s1/film.avi", tmp_path, tmp_path / "out", **options).status == "kept"
    assert not list(out.glob(".*"))


def test_images_that_changed_are_a_film_that_changed(films: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for image in sorted((films / "images").iterdir())[:60]:
        (tmp_path / "images" / image.name).write_bytes(image.read_bytes())
    assert in_place("images", tmp_path, tmp_path / "out").status == "done"
    assert in_place("images", tmp_path, tmp_path / "out").status == "kept"
    image = tmp_path / "images/000030.png"
    image.write_bytes(image.read_bytes())
    os.utime(image, (2e9, 2e9))
    again = in_place("images", tmp_path, tmp_path / "out")
    assert again.message.startswith("done again: the film changed (time of change)")
    image.unlink()
    again = in_place("images", tmp_path, tmp_path / "out")
    assert again.message.startswith("done again: the film changed (size and number of files and content")


def test_a_recording_that_changed_or_went_away(films: Path, tmp_path: Path) -> None:
    pytest.importorskip("mne")
    eeg = synth.recording(4, 250, 2, seed=1).write(tmp_path / "eeg.vhdr")
    first = in_place("s1/film.avi", films, tmp_path, eeg=str(eeg))
    assert (first.status, first.message) == ("done", "")
    assert (tmp_path / "s1/film.avi/band_power.npy").exists()
    assert in_place("s1/film.avi", films, tmp_path, eeg=str(eeg)).status == "kept"
    os.utime(eeg, (1, 1))
    assert in_place("s1/film.avi", films, tmp_path, eeg=str(eeg)).message.startswith("done again: the eeg changed")
    assert in_place("s1/film.avi", films, tmp_path).message.startswith("done again: eeg was given")
    assert not (tmp_path / "s1/film.avi/band_power.npy").exists()  # nor any other file of the earlier result
    assert not (tmp_path / "s1/film.avi/features.csv").exists()


def test_a_failure_is_tried_again(films: Path, tmp_path: Path) -> None:
    assert in_place("<b>&.avi", films, tmp_path).status == "failed"
    assert in_place("<b>&.avi", films, tmp_path).status == "failed"
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, image in enumerate(sorted((films / "images").iterdir())[:20]):
        (folder / f"{i}.png").write_bytes(image.read_bytes())
    (folder / "19.png").write_bytes(b"")
    assert "breaks off after 19 frames" in in_place("frames", tmp_path, tmp_path / "out").message
    kept = in_place("frames", tmp_path, tmp_path / "out")  # as whole as that film can be
    assert kept.status == "kept"
    assert "breaks off after 19 frames" in kept.message


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_at_random_moments() -> None:
    script = Path(__file__).with_name("kills.py")
    result = subprocess.run(
        [sys.executable, str(script), "--times", "3", "--films", "1"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "all right" in result.stdout


# What is done: manifests, folders, names


def named(sources: Any, out: Path, **options: Any) -> dict[str, dict[str, Any]]:
    return {film.name: {"source": film.source, **film.options} for film in many._films(sources, out, options)}


def test_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "films.csv"
    manifest.write_text(
        '\ufefffilm,fps,eeg,crop,align\na/x.avi,150,e.edf,"1,2,30,40",mmme\n../y.avi,,,full,\nb/z,,e.edf,,2.5\n',
        "utf-8",
    )
    found = named(manifest, tmp_path / "out", fps=50, align=1.0, crop="auto", size=128, preset=None)
    eeg = str(tmp_path / "e.edf")
    outside = "/".join(["...", *(part.strip("/\\:") for part in tmp_path.parent.parts[1:]), "y.avi"])
    assert {name: {k: v for k, v in one.items() if k != "source"} for name, one in found.items()} == {
        "a/x.avi": {"fps": 150, "align": "mmme", "crop": (1, 2, 30, 40), "size": 128, "eeg": eeg},
        outside: {"fps": 50, "crop": "full", "size": 128},  # no recording: nothing to align
        "b/z": {"fps": 50, "align": 2.5, "crop": "auto", "size": 128, "eeg": eeg},
    }
    assert found["a/x.avi"]["source"] == str(tmp_path / "a" / "x.avi")
    assert found[outside]["source"] == str(tmp_path.parent / "y.avi")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("path\nx.avi\n", r"films\.csv must have the column film, and of others only landmarks, eeg, .* got path"),
        ("film,speed\nx.avi,3\n", "got film, speed"),
        ("", "got none"),
        ("film,fps\nx.avi,fast\n", r"films\.csv, line 2: could not convert"),
        ("film,fps\nx.avi,1\n,2\n", "line 3: it must name a film"),
        ("film\nx.avi,3\n", "line 2: it must name a film, and have no more cells than the header"),
        ("film\n", "sources must hold at least one film, got none"),
        ("film\nx.avi\nx.avi\n", r"sources must name each film once, got .*x\.avi twice"),
    ],
)
def test_bad_manifests(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text(text)
    with pytest.raises(ValueError, match=error):
        spot_many(tmp_path / "films.csv", tmp_path / "out")


def test_what_a_folder_holds(films: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a/x.avi", "a/thumb.png", "a/thumb2.png", "b/.hidden.avi", ".c/x.avi", "d/1.png", "e/stack.tif",
                 "f/1.bmp", "f/2.bmp", "out/x.avi"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / "gone.mp4").symlink_to(root / "nowhere")
    (root / "a/again").symlink_to(root, target_is_directory=True)
    (root / "loop").symlink_to(root / "loop")
    (root / "loop.avi").symlink_to(root / "loop.avi")
    assert list(named(root, root / "out")) == ["a/x.avi", "e/stack.tif", "f", "gone.mp4", "loop.avi"]
    assert list(named(root / "f", tmp_path)) == ["f"]
    assert list(named(root / "a/x.avi", tmp_path)) == ["x.avi"]
    outcomes = spot_many(root, root / "out", workers=1)
    assert {one.status for one in outcomes} == {"failed"}
    assert all(one.message for one in outcomes)
    assert "source must exist" in {one.film: one for one in outcomes}["gone.mp4"].message
    with pytest.raises(ValueError, match="sources must hold films or folders of images, got none in"):
        spot_many(root / "d", tmp_path / "out")


@pytest.mark.parametrize(
    ("sources", "options", "error", "text"),
    [
        ("nowhere", {}, FileNotFoundError, "sources must exist, got .*nowhere"),
        ([], {}, ValueError, "sources must hold at least one film"),
        ([3], {}, TypeError, "sources must be paths, or mappings with a path as 'film', got 3"),
        ([{"film": "x", "speed": 3}], {}, ValueError, "what a film has must be one of 'film', .* got 'speed'"),
        (["x"], {"truth": "x.csv"}, ValueError, "option must be one of 'preset', .* got 'truth'"),
        (["x"], {"workers": 0}, ValueError, "workers must be at least 1, got 0"),
        (["x"], {"workers": 2, "scheduler": "tcp://x"}, ValueError, "workers must be None with a scheduler"),
        (["x"], {"threads": 0}, ValueError, "threads must be a whole number of at least 1, got 0"),
        (["x"], {"size": 3}, ValueError, "size must be at least 32, got 3"),
        (["x"], {"flow": "sift"}, ValueError, "flow must be one of"),
        (["x"], {"fps": -1}, ValueError, "fps must be above 0, got -1"),
    ],
)
def test_rules(
    sources: Any, options: dict[str, Any], error: type[Exception], text: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        spot_many(sources, tmp_path / "out", **options)


# The command


def test_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    for i in range(2):
        with many._told(True, 2) as tell:
            tell(Outcome("a.avi", "done"), 1, 2)
            tell(Outcome("b.avi", "failed"), 2, 2)
        printed = capsys.readouterr()
        assert "2/2" in (printed.out if i else printed.err)
        monkeypatch.setitem(sys.modules, "tqdm", None)  # and without it
    assert "[2/2] failed b.avi" in printed.out


def test_the_command(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(films), "--out", str(tmp_path), "--crop", "full", "--size", "64", "--fps", "50"]
    assert main([*arguments, "--workers", "1", "--method", "lbp"]) == 1
    printed = capsys.readouterr()
    assert "3 done, 0 kept, 1 failed" in printed.out
    assert "[4/4]" in printed.out
    assert "failed <b>&.avi: " in printed.out
    assert printed.err == "mmme-fast: error: 1 of 4 films failed; run again to try these again\n"
    assert json.loads((tmp_path / "images/meta.json").read_text())["parameters"]["method"] == "lbp"
    arguments[1] = str(films / "s1")
    assert main([*arguments, "--workers", "1"]) == 0
    assert "1 done, 0 kept, 0 failed" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_interrupted_goes_on(number: int, code: int, films: Path, longer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.avi").write_bytes((films / "s1/film.avi").read_bytes())
    (folder / "b.avi").write_bytes(longer.read_bytes())
    command = [sys.executable, "-c", "import sys; from mmme_fast.cli import main; sys.exit(main())", "run", str(folder)]
    command += ["--out", str(tmp_path / "out"), "--crop", "full", "--size", "96", "--workers", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("[1/2] done   a.avi, ")
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors == (
        f"mmme-fast: interrupted; 1 of 2 films are in {tmp_path / 'out'}, and another run goes on from there\n"
    )
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert {row["film"]: row["status"] for row in table(tmp_path / "out/summary.csv")} == {
        "a.avi": "done", "b.avi": "stopped"
    }  # fmt: skip
    if number == signal.SIGINT:
        assert "1 done, 1 kept, 0 failed" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
