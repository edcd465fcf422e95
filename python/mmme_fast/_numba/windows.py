"""Statistics over sliding windows in O(1) per sample (van Herk 1992); the twin of cpp/kernels/windows.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for

SUM, MAX, MIN = 0, 1, 2
NEUTRAL = (np.float32(0), np.float32(-np.inf), np.float32(np.inf))


@njit(cache=True, nogil=True)
def _join(op: int, a: Any, b: Any) -> Any:
    if op == SUM:
        return a + b
    if op == MAX:
        return max(a, b)
    return min(a, b)


@njit(cache=True, nogil=True)
def _slide(values: Any, out: Any, window: int, op: int) -> None:
    samples, lanes = values.shape
    suffix = np.empty((window, lanes), np.float32)
    prefix = np.empty(lanes, np.float32)
    for block in range(0, samples - window + 1, window):
        prefix[:] = NEUTRAL[op]
        for j in range(window - 1, -1, -1):
            for lane in range(lanes):
                prefix[lane] = _join(op, prefix[lane], values[block + j, lane])
                suffix[j, lane] = prefix[lane]
        prefix[:] = NEUTRAL[op]
        for j in range(min(window, samples - window + 1 - block)):
            for lane in range(lanes):
                if j > 0:
                    prefix[lane] = _join(op, prefix[lane], values[block + window + j - 1, lane])
                out[block + j, lane] = _join(op, suffix[j, lane], prefix[lane])


def sliding(
    values: NDArray[np.float32], out: NDArray[np.float32], window: int, statistic: str, p: float, threads: int
) -> None:
    """A statistic over sliding windows of each lane, written to out."""
    lanes = values.shape[1]
    tasks = min(lanes, threads)
    per_window = np.float32(1) / np.float32(window)

    def body(task: int) -> None:
        own = slice(lanes * task // tasks, lanes * (task + 1) // tasks)
        x, y = values[:, own], out[:, own]
        ops = {"max": MAX, "range": MAX, "min": MIN}
        _slide(x, y, window, ops.get(statistic, SUM))
        if statistic in ("mean", "threshold"):
            y *= per_window
        if statistic in ("range", "threshold"):
            other = np.empty_like(y)
            _slide(x, other, window, MIN if statistic == "range" else MAX)
            if statistic == "range":
                y -= other
            else:
                y += np.float32(p) * (other - y)

    if tasks:
        parallel_for(tasks, threads, body)
