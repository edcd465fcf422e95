"""spot(): 10 s of 256x256 film at 150 fps from disk, on every backend, and beside the same steps on cv2 and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mmme_fast import (
    backends,
    get_num_threads,
    motion,
    open_frames,
    pipeline,
    spot,
    synth,
    sys_info,
    tracking,
    use_backend,
)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth.film(10, micro=18, macro=6).write(tmp_path_factory.mktemp("film") / "film.avi")


@pytest.mark.benchmark(group="spot, 1500 frames of 256x256")
@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("flow", ["farneback", "tvl1"])
def bench_spot(benchmark: BenchmarkFixture, film: Path, backend: str, flow: str) -> None:
    before = sys_info()["backend"]
    use_backend(backend)
    try:
        found = benchmark.pedantic(spot, (film,), {"crop": "full", "flow": flow}, rounds=2, warmup_rounds=1)
    finally:
        use_backend(before)
    benchmark.extra_info["frames_per_second"] = found.meta["frames_per_second"]
    benchmark.extra_info["threads"] = get_num_threads()
    assert len(found.intervals) == 4


def stock_flow(prev: Any, curr: Any, *, threads: int | None = None) -> Any:
    """cv2's Farneback from one frame to each of many, with the parameters of ours."""
    before = np.asarray(prev).reshape(-1, *prev.shape[-2:])[0] * 255
    return np.stack(
        [cv2.calcOpticalFlowFarneback(before, one * 255, None, 0.5, 3, 15, 5, 7, 1.5, 0) for one in np.asarray(curr)]
    )


def stock_warp(frames: Any, maps: Any, *, threads: int | None = None) -> Any:
    how = {"flags": cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    return np.stack([cv2.warpAffine(one, m, one.shape[::-1], **how) for one, m in zip(frames, maps, strict=True)])


def stock_means(values: Any, rows: int, columns: int, *, threads: int | None = None) -> Any:
    return np.stack([cv2.resize(one, (columns, rows), interpolation=cv2.INTER_AREA) for one in values])


def stock_motion(flow: Any, *, model: str = "similarity", weights: Any, points: Any, threads: int | None = None) -> Any:
    """Iteratively reweighted least squares, frame by frame."""
    x, y = (points.reshape(-1, 2) / 128).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    if model == "similarity":
        basis = np.array([[x, -y, one, zero], [y, x, zero, one]]).transpose(0, 2, 1)
    else:
        basis = np.array([[x, y, one, zero, zero, zero], [zero, zero, zero, x, y, one]]).transpose(0, 2, 1)
    maps = np.empty((len(flow), 2, 3))
    for k, field in enumerate(flow.reshape(len(flow), -1, 2).astype(float)):
        w = weights.reshape(-1)
        for _ in range(motion.ROUNDS):
            normal = sum((b * w[:, None]).T @ b for b in basis)
            p = np.linalg.solve(normal, sum((b * w[:, None]).T @ f for b, f in zip(basis, field.T, strict=True)))
            error = np.hypot(*(f - b @ p for b, f in zip(basis, field.T, strict=True)))
            w = weights.reshape(-1) / (1 + (error / (2 * 1.4826 * np.median(error) + 1e-6)) ** 2)
        a, b, tx, c, d, ty = (p[0], -p[1], p[2], p[1], p[0], p[3]) if model == "similarity" else p
        maps[k] = [[1 + a / 128, b / 128, tx], [c / 128, 1 + d / 128, ty]]
    return maps


def stock_strain(flow: Any, *, threads: int | None = None) -> Any:
    (uy, ux), (vy, vx) = (np.gradient(flow[..., i], axis=(1, 2)) for i in (0, 1))
    return np.sqrt(ux**2 + vy**2 + (uy + vx) ** 2 / 2)


@pytest.mark.benchmark(group="spot beside the same steps on cv2 and NumPy, 1500 frames of 256x256")
@pytest.mark.parametrize("threads", [1, 2])
def bench_spot_beside_cv2(
    beside: Callable[..., tuple[Any, Any]], benchmark: BenchmarkFixture, film: Path, threads: int
) -> None:
    frames = np.concatenate(list(open_frames(film).chunks()))

    def ours() -> Any:
        return spot(frames, crop="full", fps=150, threads=threads)

    def stock() -> Any:
        with pytest.MonkeyPatch.context() as patch:
            cv2.setNumThreads(threads)
            patch.setitem(pipeline.FLOWS, "farneback", stock_flow)
            patch.setattr(tracking, "block_means", stock_means)
            patch.setattr(tracking, "optical_strain", stock_strain)
            patch.setattr(motion, "warp", stock_warp)
            patch.setattr(motion, "global_motion", stock_motion)
            return spot(frames, crop="full", fps=150, threads=threads)

    got, expected = beside(ours, stock, rounds=2)
    benchmark.extra_info["frames_per_second"] = got.meta["frames_per_second"]
    assert [one.type for one in got.intervals] == [one.type for one in expected.intervals]
    for a, b in zip(got.intervals, expected.intervals, strict=True):
        assert abs(a.onset - b.onset) <= 3  # one group of frames
        assert abs(a.offset - b.offset) <= 3
