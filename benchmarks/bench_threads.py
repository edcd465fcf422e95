"""Two threads over one: 64 pairs, and the rows of one pair shared out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import synth

PAIRS = 64

pytestmark = pytest.mark.skipif(mmme_fast.get_num_threads() < 2, reason="this process has one CPU")


@cache
def film(size: int) -> NDArray[np.uint8]:
    return synth.film(1, PAIRS + 1, size, micro=0, macro=0, blinks=0, sway=3, seed=1).frames()


@pytest.mark.parametrize("pairs", [PAIRS, 1])
@pytest.mark.parametrize("method", ["tvl1", "farneback", "dis"])
@pytest.mark.parametrize("size", [128, 256, 512])
def bench_two_threads(benchmark: Any, beside: Any, method: str, size: int, pairs: int) -> None:
    benchmark.group = f"{method} {size}x{size}, two threads beside one, {pairs} pairs"
    flow = getattr(mmme_fast, method)
    frames = film(size)
    # One pair: two of them, one after the other, so that no frame is known from before.
    calls = [(frames[:-1], frames[1:])] if pairs > 1 else [(frames[0], frames[1]), (frames[2], frames[3])]

    def on(threads: int) -> list[NDArray[np.float32]]:
        return [flow(*call, threads=threads) for call in calls]

    two, one = beside(lambda: on(2), lambda: on(1))
    assert all(map(np.array_equal, two, one))
