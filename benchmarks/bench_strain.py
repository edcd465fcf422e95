"""Optical strain beside NumPy, one thread: 64 fields of 256x256."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast import optical_strain

FLOW = np.random.default_rng(0).normal(size=(64, 256, 256, 2)).astype(np.float32)


def numpy_strain(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    uy, ux = np.gradient(flow[..., 0], axis=(1, 2))
    vy, vx = np.gradient(flow[..., 1], axis=(1, 2))
    return np.sqrt(ux**2 + vy**2 + 0.5 * (uy + vx) ** 2)


def bench_strain(benchmark: Any, backend: str, beside: Any) -> None:
    benchmark.group = "strain 256x256, 64 fields"
    ours, theirs = beside(lambda: optical_strain(FLOW, threads=1), lambda: numpy_strain(FLOW), rounds=15)
    error = float(np.abs(ours - theirs).max())
    benchmark.extra_info["max_error"] = error
    assert error < 1e-5
