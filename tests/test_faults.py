"""What goes wrong outside: full disks, files that vanish or are damaged, little memory, signals, odd names and clocks.

Each has a clear message and an exit code, loses nothing that was done, and hangs nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmme_fast
from mmme_fast import synth
from mmme_fast.cli import main
from mmme_fast.pipeline import spot

COMMAND = [sys.executable, "-c", "import sys; from mmme_fast.cli import main; sys.exit(main())"]
SMALL = ["--crop", "full", "--size", "64"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth.film(4, 50, 64, seed=0, micro=20, macro=10).write(tmp_path_factory.mktemp("faults") / "film.avi")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """32 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or sys.platform != "linux":
        pytest.skip("a small disk is a tmpfs, which needs Linux")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=32k", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk has to be mounted: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_disk_full(film: Path, small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "other").write_bytes(bytes(20 << 10))
    result = command("spot", film, "--out", small_disk / "out", *SMALL)
    assert result.returncode == 1
    assert result.stderr.startswith("mmme-fast: error: ")
    assert "No space left on device" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (small_disk / "out" / "meta.json").exists()  # which would say that all is there
    assert not list((small_disk / "out").glob(".*"))
    result = command("run", film, "--out", small_disk / "many", *SMALL)
    assert result.returncode == 1
    assert "No space left on device" in result.stdout + result.stderr


def test_images_that_vanish_midway(film: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    synth.film(8, 50, 64, seed=0, micro=20).write(folder / "%06d.png")

    def vanish(done: int, total: int | None) -> None:
        if done == 128:
            for image in sorted(folder.iterdir())[300:]:
                image.unlink()

    with pytest.raises(FileNotFoundError, match=r"000300\.png.*; what was done is in"):
        spot(folder, crop="full", size=64, fps=50, out=tmp_path / "out", progress=vanish)
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert (meta["frames"], meta["complete"]) == (300, False)


def test_a_film_that_is_cut_short_midway(tmp_path: Path) -> None:
    path = synth.film(12, 50, 64, seed=0, micro=20).write(tmp_path / "film.avi")

    def cut(done: int, total: int | None) -> None:
        os.truncate(path, path.stat().st_size * 3 // 4) if done == 128 else None

    found = spot(path, crop="full", size=64, out=tmp_path / "out", progress=cut)
    assert 300 < found.meta["frames"] < 600
    assert found.meta["complete"] is False
    assert any("breaks off" in text or "declares" in text for text in found.meta["warnings"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(film: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.avi"
    shutil.copy(film, locked)
    locked.chmod(0)
    result = command("spot", locked, "--out", tmp_path / "out", *SMALL)
    assert result.returncode == 1
    assert "Permission denied" in result.stderr
    (tmp_path / "folder").mkdir(mode=0)
    result = command("run", tmp_path, "--out", tmp_path / "many", *SMALL)
    assert result.stdout.count("Permission denied") == 2
    (tmp_path / "folder").chmod(0o700)


def test_a_link_to_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop.avi").symlink_to(tmp_path / "loop.avi")
    assert main(["spot", str(tmp_path / "loop.avi"), "--out", str(tmp_path / "out")]) == 1
    assert "source must exist" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have rules for names")
def test_odd_names(film: Path, tmp_path: Path) -> None:
    names = ['<img src=x onerror="alert(1)">&表情 é 🙂.avi', "x" * 251 + ".avi", os.fsdecode(b"-h 100%\ntwo \xff.avi")]
    (tmp_path / "films").mkdir()
    for name in names:
        os.link(film, tmp_path / "films" / name)
    arguments = ["run", tmp_path / "films", "--out", tmp_path / "out", *SMALL, "--workers", 1, "--method", "lbp"]
    result = command(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 done, 0 kept, 0 failed" in result.stdout
    assert "0 done, 3 kept, 0 failed" in command(*arguments).stdout
    for name in names:
        assert (tmp_path / "out" / name / "report.html").exists()
    for page in (tmp_path / "out/index.html", tmp_path / "out" / names[0] / "report.html"):
        text = page.read_text(encoding="utf-8")
        assert "<img src=x" not in text
        assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;表情 é 🙂.avi" in text
    assert "\\udcff" in (tmp_path / "out/summary.csv").read_text(encoding="utf-8")  # a byte that is no text


LITTLE_MEMORY = """
import resource, sys
from mmme_fast.cli import main
film, out = sys.argv[1:]
assert main(["spot", film, "--out", out, "--crop", "full", "--size", "64"]) == 0
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (40 << 20),) * 2)
sys.exit(main(["spot", film, "--out", out, "--crop", "full", "--size", "2048"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_little_memory(film: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, film, tmp_path / "out"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("mmme-fast: error: out of memory. ")
    assert (tmp_path / "out/meta.json").exists()  # of the first


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_sigterm_keeps_what_was_done(tmp_path: Path) -> None:
    film = np.concatenate([synth.film(4, 50, 64, seed=0).frames()] * 100)
    np.save(tmp_path / "film.npy", film)
    code = (
        "import sys, mmme_fast.pipeline as p; from mmme_fast.cli import main; spot = p.spot\n"
        "p.spot = lambda *a, **k: spot(*a, **{**k, 'progress': lambda done, of: print(done, flush=True)})\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["spot", str(tmp_path / "film.npy"), "--fps", "50", "--out", str(tmp_path / "out"), *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    next(line for line in process.stdout if int(line) >= 500)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "mmme-fast: interrupted after" in errors
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert 500 <= meta["frames"] < len(film)
    assert (tmp_path / "out/intervals.csv").exists()


def test_a_clock_that_goes_backwards(film: Path, tmp_path: Path) -> None:
    frames = mmme_fast.open_frames(film, crop="full", size=64)
    read = frames._source.read

    def backwards(*arguments: Any) -> Any:
        for i, picture in enumerate(read(*arguments)):
            yield picture._replace(time=picture.time - 1.0 * (i >= 100))

    frames._source.read = backwards  # type: ignore[method-assign]
    found = spot(frames, out=tmp_path)
    assert any("time does not advance at 1 frames, the first of them frame 100" in t for t in found.meta["warnings"])
    want = spot(film, crop="full", size=64)
    assert [one.onset for one in found.intervals] == [one.onset for one in want.intervals]
    np.testing.assert_array_equal(found.signals["timestamp"][:100], want.signals["timestamp"][:100])
    np.testing.assert_allclose(found.signals["timestamp"][100:], want.signals["timestamp"][100:] - 1)


def test_damage_at_random_places() -> None:
    script = Path(__file__).with_name("corruption.py")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script), "--times", "24"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("slowest") == 15


@pytest.mark.parametrize(
    "header", [b"\x93NUMPY\x01\x00\x76\x00{'descr': ('<u1', 'shape", b"\x93NUMPY\x01\x00\x10\x00(" * 9]
)
def test_a_header_that_python_cannot_parse(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "film.npy").write_bytes(header.ljust(5000))
    with pytest.raises(ValueError, match=r"film\.npy is not a \.npy file that can be mapped"):
        mmme_fast.open_frames(tmp_path / "film.npy")
