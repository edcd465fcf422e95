"""TV-L1 beside OpenCV's DualTVL1OpticalFlow: one thread each, one noisy pair, the distance noted."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import synth, tvl1

cv2 = pytest.importorskip("cv2")
if not hasattr(cv2, "optflow"):
    pytest.skip("this OpenCV has no optflow module", allow_module_level=True)

Floats = NDArray[np.float32]


@cache
def frames(size: int) -> tuple[Floats, Floats]:
    prev, curr, _ = synth.flow_pair(size, displacement=1.5)
    return prev.astype(np.float32) / 255, curr.astype(np.float32) / 255


def opencv(prev: Floats, curr: Floats) -> Floats:
    return cv2.optflow.createOptFlow_DualTVL1().calc(prev, curr, None)


@cache
def reference(size: int) -> tuple[Floats, float]:
    """OpenCV's flow, and the largest distance it moves when the frames change by 1e-6.

    At 128 its flows fall into two heaps, .015 px apart: enough draws that both are seen.
    """
    prev, curr = frames(size)
    flow = opencv(prev, curr)
    rng = np.random.default_rng(1)
    moved = [
        opencv(*((f + rng.normal(0, 1e-6, f.shape)).astype(np.float32) for f in (prev, curr)))
        for _ in range({128: 8}.get(size, 3))
    ]
    return flow, max(float(np.linalg.norm(m - flow, axis=-1).mean()) for m in moved)


@pytest.mark.parametrize("size", [128, 256, 512])
def bench_tvl1(benchmark: Any, library: str, note_epe: Any, size: int) -> None:
    benchmark.group = f"tvl1 {size}x{size}"
    prev, curr = frames(size)
    expected, floor = reference(size)
    if library == "stock":
        benchmark.pedantic(opencv, (prev, curr), rounds=3)
        return
    flow = benchmark.pedantic(tvl1, (prev, curr), {"threads": 1}, rounds=5, warmup_rounds=1)
    error = note_epe(flow, expected)
    benchmark.extra_info["floor"] = floor
    assert error.mean() < 1.5 * floor + 1e-3
    assert (error < 0.1).mean() >= 0.95
