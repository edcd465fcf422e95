"""What patch_cv2 brings: one pair a call, as scripts call it, beside the same call of stock OpenCV, from 16 x 16 to
2048 x 1088 pixels, on one and two threads of both; and whole scripts, imports included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import patch, synth

cv2 = pytest.importorskip("cv2")
optflow = getattr(cv2, "optflow", None)

Array = NDArray[Any]
EXACT_WARP = int(cv2.__version__.split(".")[0]) >= 5
SIZES = [(16, 16), (24, 24), (32, 32), (48, 48), (64, 64), (96, 96), (128, 128), (256, 256), (512, 512), (1088, 2048)]
FARNEBACK = {
    "poly_n 5": (0.5, 3, 15, 3, 5, 1.2, 0),
    "poly_n 7": (0.5, 3, 15, 5, 7, 1.5, 0),
    "winsize 5": (0.5, 3, 5, 3, 5, 1.2, 0),
    "winsize 51": (0.5, 3, 51, 3, 5, 1.2, 0),
    "gaussian": (0.5, 3, 15, 3, 5, 1.2, 256),
    "one level": (0.5, 0, 15, 1, 5, 1.1, 0),
}


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many of ours and of OpenCV's."""
    mmme_fast.set_num_threads(request.param)
    cv2.setNumThreads(request.param)
    yield request.param
    mmme_fast.set_num_threads(None)


@cache
def frames(height: int, width: int) -> tuple[Array, Array]:
    """Two noisy frames of a face that moves by up to 1.5 pixels, or of the middle of it."""
    size = max(height, 64), max(width, 64)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    prev, curr, _ = synth.flow_pair(size, displacement=1.5)
    return tuple(np.ascontiguousarray(f[top : top + height, left : left + width]) for f in (prev, curr))  # type: ignore[return-value]


def solver(method: str) -> Any:
    if method == "tvl1":
        if optflow is None:
            pytest.skip("this OpenCV has no optflow module")
        return optflow.createOptFlow_DualTVL1()
    return cv2.DISOpticalFlow_create(["ultrafast", "fast", "medium"].index(method.split()[1]))


def calls(method: str, *pair: Array) -> tuple[Callable[[], list[Array]], Callable[[], list[Array]]]:
    """The call on our kernels, and stock; and the same mirrored, so that no frame is known from the call before."""
    ours: Callable[..., Array]
    stock: Callable[..., Array]
    if method in FARNEBACK:
        stock, more = cv2.calcOpticalFlowFarneback, FARNEBACK[method]
        with patch.patch_cv2():
            ours = cv2.calcOpticalFlowFarneback
    else:
        made, more = solver(method), ()
        stock = partial(cv2.DenseOpticalFlow.calc, made)
        with patch.patch_cv2(dis=True):
            ours = partial(type(made).calc, made)
    pairs = pair, tuple(frame[:, ::-1].copy() for frame in pair)
    return tuple(lambda call=call: [call(*one, None, *more) for one in pairs] for call in (ours, stock))  # type: ignore[return-value, misc]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
@pytest.mark.parametrize("method", ["tvl1", *FARNEBACK, "dis ultrafast", "dis fast", "dis medium"])
def bench_patch(benchmark: Any, beside: Any, note_epe: Any, method: str, size: tuple[int, int], threads: int) -> None:
    benchmark.group = f"patched {method}, {threads} thread{'s' * (threads > 1)}"
    if min(size) < {"dis medium": 46, "dis fast": 91, "dis ultrafast": 91}.get(method, 0):
        pytest.skip("such frames go to stock OpenCV")
    pixels = size[0] * size[1]
    ours, stock = calls(method, *frames(*size))
    rounds = max(1, min(40, 1_000_000 // pixels)) if method != "tvl1" else max(1, min(5, 100_000 // pixels))
    found, expected = beside(ours, stock, rounds=rounds)
    error = note_epe(found[0], expected[0])
    if method == "tvl1":
        # Up to twice OpenCV's own distance to itself when frames change by a millionth.
        assert np.median(error) < 0.01
    else:
        assert np.median(error) < (1e-4 if method in FARNEBACK else 1e-3 if EXACT_WARP else 0.03)


PIPELINES = Path(__file__).parents[1] / "tests" / "pipelines"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """What makes a folder of so many frames of 128 x 128."""

    @cache
    def folder(frames: int) -> Path:
        made = tmp_path_factory.mktemp("film")
        for i, frame in enumerate(synth.film(40, 30, 128, sway=2, seed=1).frames(0, frames)):
            cv2.imwrite(str(made / f"{i:04}.png"), frame)
        return made

    return folder


@pytest.mark.parametrize(
    ("name", "length", "frames"),
    [
        ("softnet.py", 6, 200),
        ("mean.py", 6, 200),
        ("mmme_images.py", 1, 200),
        ("roi.py", 200, 400),
        ("mdmd.py", 12, 1000),
    ],
)
def bench_script(
    benchmark: Any, film: Callable[[int], Path], tmp_path: Path, name: str, length: int, frames: int, threads: int
) -> None:
    """Once each: from starting Python to its end."""
    if name in ("softnet.py", "mean.py", "mmme_images.py") and optflow is None:
        pytest.skip("this OpenCV has no optflow module")
    benchmark.group = f"whole scripts, {threads} thread{'s' * (threads > 1)}"
    source = str(Path(mmme_fast.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))),
        "MMME_FAST_NUM_THREADS": str(threads),
        "OPENCV_FOR_THREADS_NUM": str(threads),
    }

    def script(*how: str) -> Path:
        out = tmp_path / f"{len(how)}.npy"
        command = [sys.executable, *how, str(PIPELINES / name), str(film(frames)), str(length), str(out)]
        subprocess.run(command, env=environment, check=True)
        return out

    film(frames)
    began = time.perf_counter()
    stock = np.load(script()).astype(float)
    seconds = time.perf_counter() - began
    ours = np.load(benchmark.pedantic(script, ("-m", "mmme_fast"), rounds=1)).astype(float)
    benchmark.extra_info.update(
        stock=seconds, ratio=seconds / benchmark.stats.stats.median, difference=float(np.median(abs(ours - stock)))
    )
    assert benchmark.extra_info["difference"] < 0.01
