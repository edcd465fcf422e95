"""Sliding windows beside scipy.ndimage, one thread: 90,000 frames of 36 blocks; and matched spotting of 60 s."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import sliding_window
from mmme_fast.spotting import matched

SIGNALS = np.random.default_rng(0).normal(size=(90_000, 36)).astype(np.float32)
WINDOW = 151


def scipy_windows(values: NDArray[np.float32], statistic: str) -> NDArray[np.float32]:
    ndimage = pytest.importorskip("scipy.ndimage")
    inner = slice(WINDOW // 2, len(values) - WINDOW // 2)
    mean = ndimage.uniform_filter1d(values, WINDOW, axis=0)[inner] if statistic != "range" else 0
    high = ndimage.maximum_filter1d(values, WINDOW, axis=0)[inner] if statistic != "mean" else 0
    low = ndimage.minimum_filter1d(values, WINDOW, axis=0)[inner] if statistic == "range" else 0
    return {"mean": mean, "range": high - low, "threshold": mean + np.float32(0.55) * (high - mean)}[statistic]


@pytest.mark.parametrize("statistic", ["mean", "range", "threshold"])
def bench_sliding(benchmark: Any, backend: str, beside: Any, statistic: str) -> None:
    benchmark.group = f"sliding {statistic}, 90,000 x 36, window {WINDOW}"
    ours, theirs = beside(
        lambda: sliding_window(SIGNALS, WINDOW, statistic, threads=1), lambda: scipy_windows(SIGNALS, statistic)
    )
    error = float(np.abs(ours - theirs).max())
    benchmark.extra_info["max_error"] = error
    assert error < 1e-4


@pytest.mark.benchmark(group="matched, 60 s of 169 blocks at 50 Hz")
def bench_matched(benchmark: Any) -> None:
    blocks = np.random.default_rng(0).normal(scale=0.02, size=(3000, 169, 2)).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(13), np.arange(13)), -1).reshape(-1, 2) / 16 + 1 / 8
    stream = [(blocks, np.ones(blocks.shape[:2], bool), np.zeros(len(blocks), np.float32))]
    scores, found = benchmark.pedantic(matched, (stream, 50.0, grid), rounds=3)
    assert not found
    assert scores.shape == (3000,)
