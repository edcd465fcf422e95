"""Dense inverse search flow beside OpenCV's, one thread each: one pair, and a film of 64 frames."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import dis, synth

cv2 = pytest.importorskip("cv2")

Array = NDArray[Any]
FRAMES = 64
PRESETS = ("ultrafast", "fast", "medium")


@cache
def film(size: int) -> Array:
    return synth.film(1, FRAMES, size, micro=0, macro=0, blinks=0, sway=3, seed=1).frames()


def opencv(prev: Array, curr: Array, preset: str) -> Array:
    method = cv2.DISOpticalFlow_create(PRESETS.index(preset))
    return np.stack([method.calc(a, b, None) for a, b in zip(prev, curr, strict=True)])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [128, 256, 512])
def bench_dis_pair(benchmark: Any, library: str, note_epe: Any, size: int, preset: str) -> None:
    benchmark.group = f"dis {preset} {size}x{size}, one pair"
    prev, curr = film(size)[:1], film(size)[5:6]
    run, options = (opencv, {}) if library == "stock" else (dis, {"threads": 1})
    rounds = {128: 100, 256: 40, 512: 10}[size]
    flow = benchmark.pedantic(run, (prev, curr), {"preset": preset, **options}, rounds=rounds, warmup_rounds=1)
    assert note_epe(flow, opencv(prev, curr, preset)).mean() < 1e-3


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [128, 256, 512])
def bench_dis_film(benchmark: Any, library: str, note_epe: Any, size: int, preset: str) -> None:
    benchmark.group = f"dis {preset} {size}x{size}, film of {FRAMES} frames"
    prev, curr = film(size)[:-1], film(size)[1:]
    run, options = (opencv, {}) if library == "stock" else (dis, {"threads": 1})
    rounds = {128: 10, 256: 5, 512: 2}[size]
    flow = benchmark.pedantic(run, (prev, curr), {"preset": preset, **options}, rounds=rounds, warmup_rounds=1)
    some = [0, 30, -1]
    assert note_epe(flow[some], opencv(prev[some], curr[some], preset)).mean() < 1e-3
