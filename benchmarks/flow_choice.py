"""Accuracy and speed of the flow methods on films of known motion, one thread: the picture of choose-a-flow.md.

python benchmarks/flow_choice.py    # takes about a minute
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

import mmme_fast as mf
from mmme_fast import synth

matplotlib.use("Agg")
from matplotlib import pyplot

Frames = NDArray[np.uint8]
SIZES = (128, 256)
SECONDS, FPS, APART = 4, 50, 6  # every frame of the film with the one 0.12 s after it
ROUNDS = 3

OURS: dict[str, Callable[..., NDArray[np.float32]]] = {
    "tvl1": mf.tvl1,
    "tvl1, warm_start=32": partial(mf.tvl1, warm_start=32),
    "farneback": mf.farneback,
    **{f"dis, {preset}": partial(mf.dis, preset=preset) for preset in ("medium", "fast", "ultrafast")},
}


def opencv() -> dict[str, Callable[[Frames, Frames], NDArray[np.float32]]]:
    """The same of OpenCV, pair by pair."""
    import cv2

    cv2.setNumThreads(1)
    tvl1 = cv2.optflow.DualTVL1OpticalFlow_create()
    presets = {
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    }
    dis = {name: cv2.DISOpticalFlow_create(preset) for name, preset in presets.items()}
    return {
        "tvl1": lambda a, b: tvl1.calc(a, b, None),
        "farneback": lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 5, 7, 1.5, 0),
        **{f"dis, {name}": partial(lambda one, a, b: one.calc(a, b, None), each) for name, each in dis.items()},
    }


def measure(size: int) -> dict[str, tuple[float, float, float]]:
    """Method -> mean end-point error in pixels, pairs per second, and OpenCV's (0 where it has no such method)."""
    film = synth.film(SECONDS, FPS, size, seed=2, micro=15, macro=15, blinks=0, noise=2)
    frames = film.frames()
    prev, curr = frames[:-APART], frames[APART:]
    known = np.stack([film.flow(i, i + APART) for i in range(len(prev))])
    stock = opencv()
    times: dict[str, list[float]] = {name: [] for name in OURS}
    stock_times: dict[str, list[float]] = {name: [] for name in stock}
    errors = {}
    for _ in range(ROUNDS):  # in turns, and the process's own time, so that what else the machine does counts little
        for name, method in OURS.items():
            begun = time.process_time()
            flow = method(prev, curr, threads=1)
            times[name].append((time.process_time() - begun) / len(prev))
            errors[name] = float(np.linalg.norm(flow - known, axis=-1).mean())
        for name, one in stock.items():
            some = range(0, len(prev), 48 if name == "tvl1" else 1)
            begun = time.process_time()
            for i in some:
                one(prev[i], curr[i])
            stock_times[name].append((time.process_time() - begun) / len(some))
    return {
        name: (errors[name], 1 / statistics.median(times[name]), 1 / statistics.median(stock_times.get(name, [np.inf])))
        for name in OURS
    }


def main() -> None:
    figure, axes = pyplot.subplots(1, len(SIZES), figsize=(11, 4), sharey=True, layout="constrained")
    for axis, size in zip(axes, SIZES, strict=True):
        table = measure(size)
        print(f"{size} x {size}, {mf.sys_info()['backend']}: mean error in px, pairs/s, OpenCV's pairs/s")
        for i, (name, (error, rate, theirs)) in enumerate(table.items()):
            print(f"  {name:20} {error:.3f} {rate:8.1f} " + (f"{theirs:8.1f}" if theirs else ""))
            axis.plot(rate, error, "o", color=f"C{i}", markersize=9, label=name)
            if theirs:
                axis.plot(theirs, error, "o", color=f"C{i}", markersize=9, fillstyle="none")
                axis.plot([theirs, rate], [error, error], ":", color=f"C{i}", linewidth=1)
        axis.set(xscale="log", xlabel="pairs per second, one thread", title=f"{size} x {size}")
        axis.grid(color="#ddd", which="both", linewidth=0.5)
    axes[0].plot([], [], "o", color="#666", markersize=9, fillstyle="none", label="OpenCV's speed")
    axes[0].set_ylabel("mean error of the flow, px")
    axes[0].set_ylim(0, 1.08 * max(axis.dataLim.ymax for axis in axes))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(Path("docs") / "flow_choice.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
