"""TV-L1 beside OpenCV's DualTVL1OpticalFlow: one thread each; one noisy pair with the distance between the two noted,
and a film with sway, a blink and a cut, started cold and warm, with the distance to its known flow."""

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
def bench_tvl1(benchmark: Any, backend: str, beside: Any, note_epe: Any, size: int) -> None:
    benchmark.group = f"tvl1 {size}x{size}"
    prev, curr = frames(size)
    expected, floor = reference(size)
    # And the same mirrored, one after the other, so that no frame is known from before.
    pairs = (prev, curr), (prev[:, ::-1].copy(), curr[:, ::-1].copy())
    flows, _ = beside(lambda: [tvl1(*pair, threads=1) for pair in pairs], lambda: [opencv(*pair) for pair in pairs])
    error = note_epe(flows[0], expected)
    benchmark.extra_info["floor"] = floor
    assert error.mean() < 1.5 * floor + 1e-3
    assert (error < 0.1).mean() >= 0.95


INTERVAL = 8  # frames from prev to curr: about 50 ms


@cache
def film(size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
    """prev, curr and their flow, NaN across the cut."""
    pairs = {128: 300, 256: 96, 512: 32}[size]
    scenes = [synth.film(1.4, 150, size, micro=0, macro=0, blinks=60 * (s == 1), sway=3, seed=s) for s in (1, 2)]
    cut = 2 * pairs // 3
    shown = [(scenes[0], i) for i in range(cut)] + [(scenes[1], i) for i in range(pairs + INTERVAL - cut)]
    frames = np.stack([scene.frame(i) for scene, i in shown])
    truth = np.full((pairs, size, size, 2), np.nan, np.float32)
    for flow, (scene, i), (later, j) in zip(truth, shown[:-INTERVAL], shown[INTERVAL:], strict=True):
        if scene is later:
            flow[...] = scene.flow(i, j)
    return frames[:-INTERVAL], frames[INTERVAL:], truth


@pytest.mark.parametrize("warm_start", [0, 32])
@pytest.mark.parametrize("size", [128, 256, 512])
def bench_tvl1_film(benchmark: Any, backend: str, beside: Any, size: int, warm_start: int) -> None:
    benchmark.group = f"tvl1 {size}x{size}, film"
    prev, curr, truth = film(size)
    some = np.linspace(0, len(prev) // 2, 4, dtype=int)  # before the cut

    def ours() -> Floats:
        return tvl1(prev, curr, warm_start=warm_start, threads=1)

    def theirs() -> Floats:
        return np.stack(list(map(opencv, prev[some], curr[some])))

    flow, stock = beside(ours, theirs, rounds=3, share=len(some) / len(prev))
    errors = [float(np.nanmean(np.linalg.norm(f - t, axis=-1))) for f, t in ((flow, truth), (stock, truth[some]))]
    benchmark.extra_info.update(epe_to_truth=errors[0], stock_epe=errors[1])
    assert errors[0] < 0.1
