"""Kill `mmme-fast run` at random moments, again and again: what is whole must be right, and the end as if undisturbed.

    python tests/kills.py --times 50

Each time SIGKILL goes to the command, to one of its workers, or to all of them at once.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from mmme_fast import synth

RUN = [sys.executable, "-c", "import sys; from mmme_fast.cli import main; sys.exit(main())", "run"]
OPTIONS = ["--crop", "full", "--size", "64", "--fps", "50", "--workers", "2"]


def data_set(folder: Path, films: int) -> Path:
    for i in range(films):
        (folder / f"s{i}").mkdir(parents=True)
        synth.film(4, 50, 64, seed=i, micro=20, macro=10, blinks=10).write(folder / f"s{i}" / "film.avi")
    synth.film(3, 50, 64, seed=99, micro=20).write(folder / "images" / "%06d.png")
    return folder


def results(folder: Path) -> dict[str, object]:
    """What an undisturbed run would give in a film's folder: all but times and the report, which holds times."""
    found: dict[str, object] = {name: (folder / name).read_bytes() for name in ("intervals.csv", "blinks.csv")}
    with np.load(folder / "signals.npz", allow_pickle=False) as signals:
        found |= {name: (signals[name].dtype.str, signals[name].tobytes()) for name in signals}
    meta = json.loads((folder / "meta.json").read_text())
    return found | {"frames": meta["frames"], "complete": meta["complete"], "parameters": meta["parameters"]}


def sealed(out: Path) -> list[Path]:
    return [path.parent for path in sorted(out.rglob("meta.json")) if "sealed" in json.loads(path.read_bytes())]


def tables(out: Path) -> dict[str, object]:
    with (out / "summary.csv").open(newline="") as file:
        rows = [(row["film"], row["intervals"]) for row in csv.DictReader(file)]
    return {"expressions": (out / "expressions.csv").read_bytes(), "summary": rows}


def start(films: Path, out: Path) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*RUN, str(films), "--out", str(out), *OPTIONS], start_new_session=True, **quiet)  # type: ignore[call-overload,no-any-return]


def kill(process: subprocess.Popen[bytes], rng: random.Random) -> str:
    """One of three ways to die; afterwards no process is left."""
    which = rng.choice(["command", "worker", "all"])
    try:
        workers = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        workers = []
    if which == "worker":  # the run gets over that; then it is killed as well
        for worker in workers[-1:]:
            worker.kill()
        time.sleep(rng.random() * 0.5)
    if which == "all":
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, f"{len(alive)} workers outlive the run"
    return which


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--films", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        films = data_set(Path(temporary) / "films", arguments.films)
        undisturbed, out = Path(temporary) / "undisturbed", Path(temporary) / "out"
        begun = time.perf_counter()
        assert start(films, undisturbed).wait() == 0
        whole = time.perf_counter() - begun
        wanted = {path.relative_to(undisturbed): results(path) for path in sealed(undisturbed)}
        assert len(wanted) == arguments.films + 1
        counts = dict.fromkeys(("command", "worker", "all"), 0)
        kept = 0
        for _ in range(arguments.times):
            if len(sealed(out)) == len(wanted):  # all is done: begin again, from nothing or from a part
                shutil.rmtree(out if rng.random() < 0.5 else out / rng.choice(sorted(wanted)))
            process = start(films, out)
            time.sleep(rng.random() * 1.2 * whole)
            counts[kill(process, rng)] += 1
            for path in sealed(out):
                assert results(path) == wanted[path.relative_to(out)], f"{path} is sealed and wrong"
                kept += 1
        assert start(films, out).wait() == 0
        assert {path.relative_to(out): results(path) for path in sealed(out)} == wanted
        assert tables(out) == tables(undisturbed)
        left = [path for path in out.rglob(".*") if path.is_file()]
        assert not left, f"left behind: {left}"
    print(f"killed {arguments.times} times ({counts}): {kept} sealed results seen, all right; the end as undisturbed")


if __name__ == "__main__":
    main()
