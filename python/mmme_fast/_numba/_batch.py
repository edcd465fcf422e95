"""Work shared out over threads, as flow_batch.hpp and parallel_for do for the native kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY = {"uint8": np.float32(1), "uint16": np.float32(255 / 65535), "float32": np.float32(255)}  # to 0..255
KEPT_BYTES = 32 << 20  # of prepared frames, per thread


def parallel_for(tasks: int, threads: int, body: Callable[[int], None]) -> None:
    """Run body(task) for every task; kernels release the GIL."""
    if min(tasks, threads) <= 1:
        for task in range(tasks):
            body(task)
        return
    with ThreadPoolExecutor(min(tasks, threads)) as pool:
        for _ in pool.map(body, range(tasks)):
            pass


def flow_batch(
    prepare: Callable[[NDArray[np.float32]], Any],
    solve: Callable[[Any, Any, NDArray[np.float32], bool], None],
    prev: NDArray[Any],
    curr: NDArray[Any],
    flow: NDArray[np.float32],
    use_initial: bool,
    threads: int,
    warm_start: int = 0,
    resume: Any = None,
    misfit: Any = None,
) -> None:
    """Solve pair by pair into flow; each thread prepares a frame that occurs in several pairs once.

    prepare(grey) takes one frame as float32 in 0..255; solve(prev, curr, flow, use_initial) two prepared frames. With
    warm_start, resume(prev, curr, flow, True) goes on from the flow before, where misfit(prev, curr, flow) allows it.
    """
    pairs = len(flow)
    chain = max(warm_start, 1)
    chains = -(-pairs // chain)
    run = min(max(chains // (4 * threads), 1), 64)

    def body(task: int) -> None:
        kept: OrderedDict[Any, Any] = OrderedDict()

        def prepared(frame: NDArray[Any], room: int) -> Any:
            key = frame.__array_interface__["data"][0], frame.strides, frame.dtype
            if key in kept:
                kept.move_to_end(key)
            else:
                kept[key] = prepare(frame.astype(np.float32) * GREY[frame.dtype.name])
                if len(kept) > room:
                    kept.popitem(last=False)
            return kept[key]

        cold_misfit = 0.0  # of the last flow that started cold
        # A prepared frame takes about 20 floats a pixel.
        room = max(2, KEPT_BYTES // (80 * flow.shape[1] * flow.shape[2]))
        for i in range(task * run * chain, min((task + 1) * run * chain, pairs)):
            first, second = prepared(prev[i], room), prepared(curr[i], room)
            if (
                i % chain
                and misfit(first, second, flow[i - 1])
                <= 1.5 * min(cold_misfit, misfit(first, second, np.zeros_like(flow[i]))) + 0.5
            ):
                flow[i] = flow[i - 1]
                resume(first, second, flow[i], True)
                continue
            solve(first, second, flow[i], use_initial)
            if chain > 1:
                cold_misfit = misfit(first, second, flow[i])

    parallel_for(-(-chains // run), threads, body)
