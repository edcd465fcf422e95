"""Farneback flow beside OpenCV's, one thread each: one pair, and a film of 64 frames in interval and reference form.

Run with `pytest benchmarks/bench_farneback.py -o python_files=bench_*.py -o python_functions=bench_*`. Every benchmark
asserts its result against OpenCV's; `extra_info` holds the end-point error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import _backend, farneback

cv2 = pytest.importorskip("cv2")
pytest.importorskip("pytest_benchmark")

Array = NDArray[Any]
FRAMES = 64


@cache
def film(size: int) -> Array:
    """Return frames of a texture that sways, as a head does, with a local motion and camera noise."""
    rng = np.random.default_rng(size)
    waves, phases = 0.25 * rng.normal(size=(24, 2)), rng.uniform(0, 2 * np.pi, 24)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    local = np.exp(-((x - 0.4 * size) ** 2 + (y - 0.6 * size) ** 2) / (0.1 * size) ** 2)
    frames = np.empty((FRAMES, size, size), np.uint8)
    for i in range(FRAMES):
        u = 1.5 * np.sin(i / 10) + local * np.sin(i / 6)
        v = 0.8 * np.sin(i / 14) - local * np.cos(i / 6)
        grey = sum(np.sin(kx * (x - u) + ky * (y - v) + phase) for (kx, ky), phase in zip(waves, phases, strict=True))
        frames[i] = (128 + 7 * grey + rng.normal(size=grey.shape)).round().clip(0, 255)
    return frames


def opencv(prev: Array, curr: Array) -> Array:
    return cv2.calcOpticalFlowFarneback(prev, curr, None, 0.5, 3, 15, 5, 7, 1.5, 0)


@cache
def expected(size: int, i: int, j: int) -> Array:
    return opencv(film(size)[i], film(size)[j])


@pytest.fixture(params=["opencv", *mmme_fast.backends()])
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    before, threads = _backend.active_backend(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    if request.param != "opencv":
        mmme_fast.use_backend(request.param)
        farneback(film(128)[0], film(128)[1], threads=1)  # Numba compiles
    yield request.param
    mmme_fast.use_backend(before)
    cv2.setNumThreads(threads)


def check(benchmark: Any, ours: Array, theirs: Array) -> None:
    error = np.hypot(*np.moveaxis(ours.astype(np.float64) - theirs, -1, 0))
    benchmark.extra_info["epe"] = {
        "mean": float(error.mean()),
        "median": float(np.median(error)),
        "interior": float(error[..., 16:-16, 16:-16].mean()),
        "95th percentile": float(np.percentile(error, 95)),
    }
    assert error.mean() < 1e-4


@pytest.mark.parametrize("size", [128, 256, 512])
def bench_farneback_pair(benchmark: Any, library: str, size: int) -> None:
    benchmark.group = f"farneback, one pair, {size}x{size}"
    prev, curr = film(size)[0], film(size)[5]
    flow: Callable[[], Array] = (
        (lambda: opencv(prev, curr)) if library == "opencv" else (lambda: farneback(prev, curr, threads=1))
    )
    rounds = {128: 40, 256: 15, 512: 5}[size]
    check(benchmark, benchmark.pedantic(flow, rounds=rounds, warmup_rounds=1), expected(size, 0, 5))


@pytest.mark.parametrize("form", ["interval", "reference"])
@pytest.mark.parametrize("size", [128, 256])
def bench_farneback_film(benchmark: Any, library: str, size: int, form: str) -> None:
    benchmark.group = f"farneback, film of {FRAMES} frames, {form}, {size}x{size}"
    frames = film(size)
    ends = [(i, i + 1) if form == "interval" else (0, i + 1) for i in range(FRAMES - 1)]

    def flow() -> Array:
        if library == "opencv":
            return np.stack([opencv(frames[i], frames[j]) for i, j in ends])
        return farneback(frames[:-1] if form == "interval" else frames[0], frames[1:], threads=1)

    result = benchmark.pedantic(flow, rounds={128: 3, 256: 1}[size], warmup_rounds=0)
    some = [0, 20, len(ends) - 1]
    check(benchmark, result[some], np.stack([expected(size, *ends[i]) for i in some]))
