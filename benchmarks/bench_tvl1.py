"""TV-L1 beside OpenCV's DualTVL1OpticalFlow: one thread each, one noisy pair, the distance noted."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast._backend import active_backend

Floats = NDArray[np.float32]


@cache
def frame_pair(size: int) -> tuple[Floats, Floats]:
    """Two textured frames in 0..1 that differ by a smooth flow below 1 pixel and camera noise of one grey level."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size].astype(np.float64)
    dx = 0.9 * np.sin(2 * np.pi * y / size + 0.5) * np.cos(2 * np.pi * x / size)
    dy = 0.7 * np.cos(2 * np.pi * (x + y) / size)
    waves = rng.uniform((0.1, 0, 0), (1.5, 2 * np.pi, 2 * np.pi), (48, 3))

    def frame(x: Any, y: Any) -> Floats:
        grey = 127 + sum(9 * np.sin(k * (np.cos(a) * x + np.sin(a) * y) + c) for k, a, c in waves)
        return (np.clip(grey + rng.normal(0, 1, grey.shape), 0, 255) / 255).astype(np.float32)

    return frame(x, y), frame(x - dx, y - dy)


def opencv(prev: Floats, curr: Floats) -> Floats:
    cv2.setNumThreads(1)
    return cv2.optflow.createOptFlow_DualTVL1().calc(prev, curr, None)


@cache
def reference(size: int) -> tuple[Floats, float]:
    """OpenCV's flow, and how far it moves when the frames change by 1e-6 (the mean over three changes)."""
    prev, curr = frame_pair(size)
    flow = opencv(prev, curr)
    rng = np.random.default_rng(1)
    moved = [opencv(*((f + rng.normal(0, 1e-6, f.shape)).astype(np.float32) for f in (prev, curr))) for _ in range(3)]
    return flow, float(np.mean([np.linalg.norm(m - flow, axis=-1).mean() for m in moved]))


@pytest.mark.parametrize("size", [128, 256, 512])
@pytest.mark.parametrize("implementation", ["opencv", *mmme_fast.backends()])
def bench_tvl1(benchmark: Any, implementation: str, size: int) -> None:
    benchmark.group = f"tvl1 {size}x{size}"
    prev, curr = frame_pair(size)
    expected, floor = reference(size)
    if implementation == "opencv":
        benchmark.pedantic(opencv, (prev, curr), rounds=3)
        return
    before = active_backend()
    mmme_fast.use_backend(implementation)
    try:
        run = lambda: mmme_fast.tvl1(prev, curr, threads=1)  # noqa: E731
        flow = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    finally:
        mmme_fast.use_backend(before)
    epe = np.linalg.norm(flow - expected, axis=-1)
    benchmark.extra_info.update(
        mean_epe=float(epe.mean()),
        median_epe=float(np.median(epe)),
        interior_epe=float(epe[16:-16, 16:-16].mean()),
        p95_epe=float(np.percentile(epe, 95)),
        opencv_to_itself_mean_epe=floor,
    )
    print(f"\n{size} {implementation}:", {k: f"{v:.2g}" for k, v in benchmark.extra_info.items()})
    assert epe.mean() < 2 * floor  # one draw against the mean of three
    assert (epe < 0.1).mean() >= 0.95
