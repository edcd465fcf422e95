"""100,000 calls of everything that computes, on threads of Python as well; memory must stay where it was.

python tests/soak.py [--calls N]
"""

from __future__ import annotations

import argparse
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import psutil

import mmme_fast as mf
from mmme_fast import methods, spotting

ALLOWED = 16  # MB of growth between the first tenth of the calls and the last


def call(number: int) -> None:
    """Sizes vary, so that scratch memory is made anew now and then."""
    rng = np.random.default_rng(number % 97)
    height, width = 16 + number % 5, 16 + number % 7
    film = rng.integers(0, 256, (3, height, width)).astype(np.uint8)
    match number % 8:
        case 0:
            mf.tvl1(film[:-1], film[1:], warps=1, outer_iterations=1, threads=1 + number % 2)
        case 1:
            mf.farneback(film[0], film[1:], threads=1 + number % 2)
        case 2:
            mf.dis(film[:-1], film[1:], preset="ultrafast")
        case 3:
            mf.optical_strain(rng.normal(size=(2, height, width, 2)).astype(np.float32))
        case 4:
            mf.band_power(rng.normal(size=(3, 400)), 100, hop=0.1)
        case 5:
            methods.lbp_histograms(film, rows=2, columns=2)
        case 6:
            mf.sliding_window(rng.normal(size=(200, 5)), 20, "range")
            spotting.block_means(film, 3, 3)
        case _:
            with suppress(ValueError):  # an error must not keep its arrays
                mf.farneback(film[0], film[1:, 1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    calls = parser.parse_args().calls
    process, seen = psutil.Process(), []
    with ThreadPoolExecutor(3) as pool:
        for tenth in range(10):
            list(pool.map(call, range(calls * tenth // 10, calls * (tenth + 1) // 10)))
            gc.collect()
            seen.append(process.memory_info().rss / 2**20)
            print(f"{calls * (tenth + 1) // 10} calls: {seen[-1]:.1f} MB", flush=True)
    if seen[-1] - seen[0] > ALLOWED:
        sys.exit(f"memory grew by {seen[-1] - seen[0]:.1f} MB, more than {ALLOWED}")


if __name__ == "__main__":
    main()
