"""What the benchmarks share: two calls measured in turns, errors noted, and one table at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast

Call = Callable[[], Any]
rows: list[dict[str, Any]] = []


@pytest.fixture(autouse=True)
def _one_thread_of_opencv() -> None:
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(1)


@pytest.fixture(params=mmme_fast.backends())
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend in turn, made active."""
    before = mmme_fast.sys_info()["backend"]
    mmme_fast.use_backend(request.param)
    yield request.param
    mmme_fast.use_backend(before)


@pytest.fixture
def beside(benchmark: Any) -> Callable[..., tuple[Any, Any]]:
    """A function that measures a call beside another that does the same, and returns what each returned."""

    def measure(ours: Call, stock: Call, *, rounds: int = 5, share: float = 1.0) -> tuple[Any, Any]:
        """Take turns: `stock` once, then `ours` as often as takes about as long, so that whatever else the machine does
        slows both alike. `share` is the part of the work of `ours` that `stock` does."""

        clock = benchmark._timer  # perf_counter, or that of --benchmark-timer

        def seconds(call: Call) -> float:
            began = clock()
            call()
            return float(clock() - began)

        def shortest(call: Call) -> float:
            return min(seconds(call) for _ in range(2))

        expected = stock()  # both compile and touch their memory first
        ours()
        iterations = max(1, round(shortest(stock) / shortest(ours)))
        turns: list[float] = []
        got = benchmark.pedantic(
            ours, rounds=rounds, iterations=iterations, teardown=lambda: turns.append(seconds(stock))
        )
        theirs = median(turns) / share
        benchmark.extra_info.update(stock=theirs, ratio=theirs / benchmark.stats.stats.median)
        return got, expected

    return measure


@pytest.fixture
def note_epe(benchmark: Any) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]:
    """A function that notes the end-point error between two flows with the benchmark, and returns it."""

    def note(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
        error: NDArray[np.float64] = np.linalg.norm(np.subtract(ours, theirs, dtype=float), axis=-1)
        benchmark.extra_info.update(
            mean=float(error.mean()),
            median=float(np.median(error)),
            p95=float(np.percentile(error, 95)),
        )
        interior = error[..., 16:-16, 16:-16]
        if interior.size:
            benchmark.extra_info["interior"] = float(interior.mean())
        return error

    return note


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    rows.extend(output_json["benchmarks"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each backend beside the stock library: medians, ratio of medians, and the error between the two."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    for group, members in groups.items():
        terminalreporter.section(str(group))
        for row in members:
            notes = dict(row["extra_info"])
            stock, ratio = notes.pop("stock", None), notes.pop("ratio", None)
            name = "-".join(map(str, (row["params"] or {"": row["name"]}).values()))
            beside = f"{stock * 1e3:10.3f} ms {ratio:7.2f}x" if stock else " " * 22
            said = "  ".join(f"{k} {v:.2g}" for k, v in notes.items() if isinstance(v, int | float))
            terminalreporter.write_line(f"{name:24} {row['stats']['median'] * 1e3:10.3f} ms, stock {beside}  {said}")
