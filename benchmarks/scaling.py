"""How much faster two workers are than one, over films that keep them busy, and what a film costs.

    python benchmarks/scaling.py --films 8 --seconds 20 --workers 1 2

Efficiency is time with one worker / (workers x time with so many), workers' start included. n workers may use n CPUs,
to which the whole run is bound (on Linux): a worker decodes ahead in a thread of its own, which otherwise has a CPU of
its own for as long as there are fewer workers than CPUs. Last comes one worker with all CPUs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from mmme_fast import spot_many, synth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--method", default="matched")
    parser.add_argument("--data", type=Path, help="folder for the films, kept; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data or Path(temporary) / "films"
        if not data.exists():
            data.mkdir(parents=True)
            first = synth.film(arguments.seconds, 150, arguments.size, seed=1).write(data / "0.avi")
            for i in range(1, arguments.films):
                shutil.copy(first, data / f"{i}.avi")
        films = sorted(data.glob("*.avi"))
        frames = len(films) * round(150 * arguments.seconds)
        options: dict[str, Any] = {"crop": "full", "size": arguments.size, "method": arguments.method}
        alone = 0.0
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        for number, (workers, used) in enumerate([*((n, n) for n in arguments.workers), (1, len(cpus))]):
            if cpus:
                os.sched_setaffinity(0, cpus[:used])
            out = Path(temporary) / f"out{number}"
            begun = time.perf_counter()
            outcomes = spot_many(films, out, workers=workers, **options)
            took = time.perf_counter() - begun
            assert all(one.status == "done" for one in outcomes), outcomes
            alone = alone or took * workers
            written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / len(films)
            begun = time.perf_counter()
            again = spot_many(films, out, workers=workers, **options)
            kept = time.perf_counter() - begun
            assert all(one.status == "kept" for one in again), again
            print(
                f"{workers} workers on {min(used, len(cpus)) or 'all'} CPUs: {took:.2f} s, "
                f"{frames / took:.0f} frames/s, efficiency {alone / workers / took:.3f}; "
                f"{films[0].stat().st_size / frames * len(films):.0f} bytes read per frame, "
                f"{written / 1e6:.2f} MB written per film; kept again in {kept:.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
