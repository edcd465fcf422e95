"""Dense inverse search flow beside OpenCV's, one thread each: one pair, and a film of 64 frames."""

from __future__ import annotations

from functools import cache, partial
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


@pytest.mark.parametrize("form", ["one pair", "film"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [128, 256, 512])
def bench_dis(benchmark: Any, backend: str, beside: Any, note_epe: Any, size: int, preset: str, form: str) -> None:
    benchmark.group = f"dis {preset} {size}x{size}, {form}"
    frames = film(size)
    # Two pairs, one after the other, so that no frame is known from before; or all in one call.
    prev, curr = (frames[:2], frames[5:7]) if form == "one pair" else (frames[:-1], frames[1:])
    call = partial(dis, preset=preset, threads=1)

    def pair_by_pair() -> Array:
        return np.stack([call(a, b) for a, b in zip(prev, curr, strict=True)])

    ours, theirs = beside(
        pair_by_pair if form == "one pair" else lambda: call(prev, curr), lambda: opencv(prev, curr, preset)
    )
    assert note_epe(ours, theirs).mean() < 1e-3
