"""The mmme-fast command: what it prints and writes, its exit codes, and one readable line for every bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path

import numpy as np
import pytest

import mmme_fast
from mmme_fast import synth
from mmme_fast.cli import main
from mmme_fast.flow import FLOWS
from mmme_fast.frames import open_frames


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = synth.film(6, 50, 96, seed=1, micro=20, macro=10, blinks=10)
    path = drawn.write(tmp_path_factory.mktemp("cli") / "film.avi")
    drawn.write_truth(path.with_suffix(".csv"))
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth.recording(10, 250, 4, seed=1).write(tmp_path_factory.mktemp("cli") / "recording.npy")


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with code 1, and return its one line on stderr."""

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("mmme-fast: error: ")
        assert printed.err.count("\n") == 1
        return printed.err.removeprefix("mmme-fast: error: ").strip()

    return run


def test_spot(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spot", str(film), "--crop", "full", "--size", "96", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    with (tmp_path / "out" / "intervals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert "3 expressions: 2 micro, 1 macro" in printed.out
    for row in rows:
        assert f"{row['onset']}-{row['offset']}" in printed.out
    assert f"report:  {tmp_path / 'out' / 'report.html'}" in printed.out
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["complete"] is True
    assert main(["evaluate", str(tmp_path / "out"), str(film.with_suffix(".csv")), "--json"]) == 0
    score = json.loads(capsys.readouterr().out)["overall"]
    assert (score["predictions"], score["truths"], score["tp"]) == (3, 3, 3)


def test_spot_by_a_published_method(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["spot", str(film), "--crop", "full", "--size", "96", "--out", str(tmp_path / "out")]
    assert main([*command, "--method", "lbp", "--preset", "samm-lv"]) == 0
    assert capsys.readouterr().err == ""
    parameters = json.loads((tmp_path / "out" / "meta.json").read_text())["parameters"]
    assert parameters["method"] == "lbp"
    assert parameters["preset"] == "samm-lv"
    assert parameters["lbp"]["k"] == [37 / 200, 174 / 200]
    assert (tmp_path / "out" / "report.html").exists()


def test_spot_names_its_folder_after_the_film(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["spot", str(film), "--crop", "8,8,80,80", "--size", "80", "--threads", "1"]) == 0
    meta = json.loads((tmp_path / "film_mmme_fast" / "meta.json").read_text())
    assert meta["parameters"]["crop"] == [8, 8, 80, 80]
    assert meta["parameters"]["size"] == 80
    assert meta["threads"] == 1


def test_spot_with_eeg(film: Path, tmp_path: Path) -> None:
    pytest.importorskip("mne")
    eeg = synth.recording(6, 250, 4, seed=1).write(tmp_path / "eeg.vhdr")
    out = tmp_path / "out"
    assert main(["spot", str(film), "--crop", "full", "--size", "96", "--eeg", str(eeg), "--out", str(out),
                 "--align", "0.25", "--baseline", "0.5"]) == 0  # fmt: skip
    assert np.load(out / "band_power.npy").shape == (300, 4, 5)
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["eeg"]["alignment"]["offset"], meta["eeg"]["baseline"]) == (0.25, 0.5)
    assert (out / "features.csv").exists()


def test_spot_bad_input(film: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    out = tmp_path / "out"
    empty, text, folder = tmp_path / "empty.avi", tmp_path / "text.mp4", tmp_path / "folder"
    empty.touch()
    text.write_text("not a film\n")
    folder.mkdir()
    assert "source must exist, got " in fails("spot", tmp_path / "none.avi", "--out", out)
    assert "is empty" in fails("spot", empty, "--out", out)
    assert "is not a film" in fails("spot", text, "--out", out)
    assert "must hold at least 2 images" in fails("spot", folder, "--out", out)
    assert "crop must lie within the frame of 96x96" in fails("spot", film, "--crop", "90,0,20,20", "--out", out)
    assert "size must be at least 32, got 3" in fails("spot", film, "--size", "3", "--out", out)
    assert "fps must be above 0" in fails("spot", film, "--fps", "0", "--out", out)
    assert "threads must be" in fails("spot", film, "--threads", "0", "--out", out)
    assert f"out must be a folder that can be written to: File exists: {text}" in fails("spot", film, "--out", text)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["spot"],
        ["spot", "film.avi", "--crop", "1,2,3"],
        ["spot", "film.avi", "--crop", "a,b,c,d"],
        ["spot", "film.avi", "--flow", "best"],
        ["flow", "film.avi"],
        ["flow", "film.avi", "--out", "x.npz", "--interval", "2", "--reference", "0"],
        ["band-power", "x.npy", "--out", "x.npz", "--bands", "alpha"],
        ["band-power", "x.npy", "--out", "x.npz", "--bands", "alpha=8-"],
        ["evaluate", "predictions.csv"],
        ["evaluate", "predictions.csv", "truth.csv", "--min-length", "micro=x"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: mmme-fast" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "spot", "flow", "band-power", "evaluate", "info"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"examples:\n  mmme-fast {command}" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".npz", ".zarr"])
@pytest.mark.parametrize(
    ("options", "prev", "curr"),
    [
        (["--interval", "7"], range(293), range(7, 300)),
        (["--interval", "70", "--start", "33", "--stop", "130"], range(33, 60), range(103, 130)),
        (["--reference", "40", "--start", "20", "--stop", "100"], [40] * 80, range(20, 100)),
    ],
)
def test_flow(suffix: str, options: list[str], prev: list[int], curr: list[int], film: Path, tmp_path: Path) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    out = tmp_path / f"new/flow{suffix}"
    assert main(["flow", str(film), "--out", str(out), "--crop", "8,8,80,80", "--size", "40", *options]) == 0
    saved = arrays(out)
    frames = np.concatenate(list(open_frames(film, crop=(8, 8, 80, 80), size=40).chunks()))
    np.testing.assert_array_equal(saved["prev"], prev)
    np.testing.assert_array_equal(saved["curr"], curr)
    np.testing.assert_allclose(saved["timestamp"], np.array(curr) / 50)
    np.testing.assert_array_equal(saved["flow"], mmme_fast.farneback(frames[list(prev)], frames[list(curr)]))
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            meta = json.loads(str(file["meta"]))
            assert meta["crop"] == [8, 8, 80, 80]
            return dict(file)
    import zarr

    group = zarr.open_group(str(path), mode="r")
    assert group.attrs["crop"] == [8, 8, 80, 80]
    return {name: array[:] for name, array in group.arrays()}


@pytest.mark.parametrize("method", ["tvl1", "dis"])
def test_flow_of_other_methods(film: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "flow.npz"
    assert main(["flow", str(film), "--out", str(out), "--size", "32", "--stop", "4", "--method", method]) == 0
    frames = next(open_frames(film, size=32).chunks(4))
    with np.load(out) as saved:
        np.testing.assert_array_equal(saved["flow"], getattr(mmme_fast, method)(frames[:-1], frames[1:]))


def test_flow_bad_input(film: Path, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "flow.npz"
    assert fails("flow", film, "--out", tmp_path / "x.txt") == "out must end in .npz or .zarr, got x.txt"
    assert "interval must be below the number of frames, 300, got 300" in fails(
        "flow", film, "--out", out, "--interval", 300
    )
    assert "interval must be at least 1" in fails("flow", film, "--out", out, "--interval", 0)
    assert "reference must be at least 0 and at most 299" in fails("flow", film, "--out", out, "--reference", 300)
    assert "stop must be at least 1 and at most 300" in fails("flow", film, "--out", out, "--stop", 301)
    assert "start must be at least 0 and at most 9" in fails("flow", film, "--out", out, "--stop", 10, "--start", 10)
    assert "crop must lie within" in fails("flow", film, "--out", out, "--crop", "0,0,97,96")
    assert "source must exist" in fails("flow", tmp_path / "none.avi", "--out", out)
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert 'pip install "mmme_fast[zarr]"' in fails("flow", film, "--out", tmp_path / "x.zarr")
    assert not list(tmp_path.iterdir())


def test_flow_that_is_interrupted_leaves_nothing(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(FLOWS, "farneback", interrupted)
    out = tmp_path / "flow.npz"
    assert main(["flow", str(film), "--out", str(out)]) == 130
    assert capsys.readouterr().err == f"mmme-fast: interrupted; {out} was not written\n"
    assert not list(tmp_path.iterdir())


def test_band_power(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "power.npz"
    options = [
        "--sfreq",
        "250",
        "--window",
        "2",
        "--hop",
        "0.5",
        "--bands",
        "theta=4-8,alpha=8-13",
        "--taper",
        "boxcar",
    ]
    assert main(["band-power", str(recording), "--out", str(out), *options]) == 0
    with np.load(out) as saved:
        expected = mmme_fast.band_power(
            np.load(recording), 250, window=2, hop=0.5, bands={"theta": (4, 8), "alpha": (8, 13)}, taper="boxcar"
        )
        np.testing.assert_array_equal(saved["power"], expected)
        assert saved["bands"].tolist() == ["theta", "alpha"]
    printed = capsys.readouterr().out
    assert "4 channels, 10 s at 250 Hz" in printed
    assert "alpha    8-13 Hz, 11 bins of 0.5 Hz" in printed
    assert f"17 windows, V^2/Hz: {out}" in printed


@pytest.mark.parametrize("preset", ["mne", "matlab", "yasa"])
def test_band_power_of_a_preset(preset: str, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "power.npz"
    window = {"yasa": 8.0}.get(preset)
    options = ["--sfreq", "250", "--preset", preset, *([] if window is None else ["--window", str(window)])]
    assert main(["band-power", str(recording), "--out", str(out), *options]) == 0
    with np.load(out) as saved:
        expected = mmme_fast.band_power(np.load(recording), 250, window=window, hop=window or 1, preset=preset)
        np.testing.assert_array_equal(saved["power"], expected)
    assert json.loads(out.with_suffix(".json").read_text())["parameters"]["preset"] == preset


def test_band_power_bad_input(recording: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    def power(*options: str) -> str:
        return fails("band-power", recording, "--out", tmp_path / "x.npz", *options)

    assert "Nyquist" in power("--sfreq", "250", "--bands", "high=100-126")
    assert "narrower than the resolution" in power("--sfreq", "250", "--bands", "thin=8.1-8.2")
    assert "low below high" in power("--sfreq", "250", "--bands", "turned=9-8")
    assert "window must be at most the data's length" in power("--sfreq", "250", "--window", "11")
    assert "sfreq must be above 0" in power("--sfreq", "0")
    assert "sfreq" in power()
    assert "no such recording" in fails("band-power", tmp_path / "none.edf", "--out", tmp_path / "x.npz")
    assert "out must end in" in fails("band-power", recording, "--sfreq", "250", "--out", tmp_path / "x.txt")
    assert not list(tmp_path.iterdir())


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["mmme_fast"] == mmme_fast.__version__
    assert lines["backends"] == ", ".join(mmme_fast.backends())
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == mmme_fast.sys_info()
    assert {"python", "platform", "cpu", "cpus", "threads", "environment", "numpy", "dask", "cv2"} <= set(lines)


def test_info_names_the_wheels_of_cv2(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"opencv-python": "4.12", "opencv-contrib-python-headless": "5.0"}

    def version(package: str) -> str:
        if package not in installed:
            raise metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(metadata, "version", version)
    info = mmme_fast.sys_info()
    assert info["cv2"] == ["opencv-python 4.12", "opencv-contrib-python-headless 5.0"]
    assert info["mne"] is None
    installed.clear()
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "cv2" else name)
    assert mmme_fast.sys_info()["cv2"] is None


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mne")
    assert main(["demo", "--out", str(tmp_path / "demo"), "--seconds", "5"]) == 0
    printed = capsys.readouterr().out
    assert "found 1 of 1 expressions" in printed
    assert "0 false hits" in printed
    within = re.search(r"band power of 64 channels: within (\S+) of the truth", printed)
    assert within
    assert float(within[1]) < 1e-5
    report = tmp_path / "demo" / "results" / "report.html"
    assert f"report:  {report}" in printed
    assert report.stat().st_size > 1e6


def test_errors_tell_more_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMME_FAST_VERBOSE", "1")
    assert main(["flow", str(tmp_path / "none.avi"), "--out", str(tmp_path / "x.npz")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.splitlines()[-1].startswith("mmme-fast: error: source must exist")


def command(*arguments: object, before: str = "") -> list[str]:
    code = f"import sys; {before}\nfrom mmme_fast.cli import main\nsys.exit(main())"
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_as_a_program(film: Path, tmp_path: Path) -> None:
    """Its stderr is no terminal, so there is no bar; the warning about the film is there."""
    run = subprocess.run(
        command("flow", film, "--fps", "60", "--stop", "5", "--out", tmp_path / "flow.npz"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"4 flows of 96x96 pixels: {tmp_path / 'flow.npz'}\n"
    (line,) = (line for line in run.stderr.splitlines() if "runs on Numba" not in line)
    assert line.startswith("mmme-fast: warning: ")
    assert "fps=60 was given and replaces the 50 frames per second" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("quiet", [False, True])
def test_bar_on_a_terminal(quiet: bool, film: Path, tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    import fcntl
    import struct
    import termios

    here, there = os.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    arguments = ["spot", film, "--crop", "full", "--size", "96", "--out", tmp_path, *(["--quiet"] if quiet else [])]
    run = subprocess.run(command(*arguments), stdout=subprocess.DEVNULL, stderr=there, check=True)
    os.close(there)
    shown = b""
    try:
        while part := os.read(here, 65536):
            shown += part
    except OSError:  # the end of a pseudo-terminal on Linux
        pass
    os.close(here)
    assert run.returncode == 0
    assert (b"100%" in shown and b"300/300" in shown and b"frames/s" in shown) is not quiet
    assert not quiet or all(b"runs on Numba" in line for line in shown.splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_keeps_what_was_done(film: Path, tmp_path: Path) -> None:
    # The process sends itself the signal of Ctrl-C when it has seen the first chunks.
    before = (
        "import os, signal; from mmme_fast import pipeline; chunks = pipeline.Frames.chunks\n"
        "def counted(self, n):\n"
        "    for i, chunk in enumerate(chunks(self, 32)):\n"
        "        if i == 4: os.kill(os.getpid(), signal.SIGINT)\n"
        "        yield chunk\n"
        "pipeline.Frames.chunks = lambda self, n=64, **_: counted(self, n) if n == pipeline.CHUNK else chunks(self, n)"
    )
    out = tmp_path / "out"
    run = subprocess.run(
        command("spot", film, "--crop", "full", "--size", "96", "--out", out, before=before),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 130, run.stderr
    meta = json.loads((out / "meta.json").read_text())
    assert meta["complete"] is False
    assert 128 <= meta["frames"] < 300
    last = run.stderr.splitlines()[-1]
    assert last == f"mmme-fast: interrupted after {meta['frames']} frames; what was done is in {out}"
    assert {"intervals.csv", "signals.npz", "report.html"} <= {path.name for path in out.iterdir()}
    assert "Traceback" not in run.stderr
