"""spot() from disk: 10 s of 256x256 film at 150 fps, on every backend with all threads."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mmme_fast import backends, get_num_threads, spot, synth, sys_info, use_backend


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
