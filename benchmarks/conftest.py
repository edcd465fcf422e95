"""What the benchmarks share: the stock library and every backend in turn, errors noted, and one table at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import _backend

rows: list[dict[str, Any]] = []


@pytest.fixture(params=["stock", *mmme_fast.backends()])
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """The library to measure: "stock" (OpenCV, SciPy or NumPy, one thread) or one of our backends, made active."""
    try:
        import cv2
    except ImportError:
        pass
    else:
        cv2.setNumThreads(1)
    before = _backend.active_backend()
    if request.param != "stock":
        mmme_fast.use_backend(request.param)
    yield request.param
    mmme_fast.use_backend(before)


@pytest.fixture
def note_epe(benchmark: Any) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]:
    """A function that notes the end-point error between two flows with the benchmark, and returns it."""

    def note(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
        error: NDArray[np.float64] = np.linalg.norm(np.subtract(ours, theirs, dtype=float), axis=-1)
        benchmark.extra_info.update(
            mean=float(error.mean()),
            median=float(np.median(error)),
            interior=float(error[..., 16:-16, 16:-16].mean()),
            p95=float(np.percentile(error, 95)),
        )
        return error

    return note


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    rows.extend(output_json["benchmarks"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each backend beside the stock library: median time, ratio of medians, and the error between them."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    for group, members in groups.items():
        terminalreporter.section(str(group))
        stock = next((m for m in members if m["params"] and m["params"].get("library") == "stock"), None)
        for row in members:
            name = "-".join(map(str, (row["params"] or {"": row["name"]}).values()))
            ratio = f"{per_pair(stock) / per_pair(row):7.2f}x" if stock else " " * 8
            notes = "  ".join(f"{k} {v:.2g}" for k, v in row["extra_info"].items() if isinstance(v, int | float))
            terminalreporter.write_line(f"{name:32} {row['stats']['median'] * 1e3:10.3f} ms {ratio}  {notes}")


def per_pair(row: dict[str, Any]) -> float:
    """The median time over the pairs that it took: the stock library may have been given fewer."""
    return float(row["stats"]["median"] / row["extra_info"].get("pairs", 1))
