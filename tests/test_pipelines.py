"""Scripts in the form in which published pipelines call cv2, unchanged: stock, and under ``python -m mmme_fast``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import synth

cv2 = pytest.importorskip("cv2")

Array = NDArray[Any]
PIPELINES = Path(__file__).parent / "pipelines"
CONTRIB = hasattr(cv2, "optflow")
EXACT_WARP = int(cv2.__version__.split(".")[0]) >= 5
K = 3


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven frames of 128 x 128, with sway and camera noise."""
    folder = tmp_path_factory.mktemp("film")
    for i, frame in enumerate(synth.film(1, 30, 128, micro=0, macro=0, blinks=0, sway=3, seed=1).frames(0, 7)):
        cv2.imwrite(str(folder / f"{i:04}.png"), frame)
    return folder


def both(name: str, folder: Path, length: int, tmp_path: Path) -> tuple[Array, Array]:
    """What the script saves stock, and on our kernels: with every call of it there."""
    source = str(Path(mmme_fast.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "MMME_FAST_VERBOSE": "1"}

    def run(*how: str) -> tuple[Array, str]:
        out = tmp_path / f"{len(how)}.npy"
        command = [sys.executable, *how, str(PIPELINES / name), str(folder), str(length), str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return np.load(out), done.stderr

    stock, _ = run()
    ours, said = run("-m", "mmme_fast")
    calls = [tuple(map(int, found)) for found in re.findall(r"(\d+) calls on mmme_fast, (\d+) on stock OpenCV", said)]
    assert sum(on_ours for on_ours, _ in calls) >= len(stock), said
    assert sum(on_stock for _, on_stock in calls) == 0, said
    return stock, ours


@pytest.fixture(scope="module")
def floor(film: Path) -> float:
    """How far OpenCV's TV-L1 is from itself when frames change by a millionth: mean end-point error in pixels."""
    if not CONTRIB:
        pytest.skip("this OpenCV has no optflow module")
    rng = np.random.default_rng(0)
    pair = [cv2.imread(str(film / f"{i:04}.png"), 0) / np.float32(255) for i in (0, K)]
    moved = [[(f + rng.normal(0, 1e-6, f.shape)).astype(np.float32) for f in pair] for _ in range(3)]
    solver = cv2.optflow.createOptFlow_DualTVL1()
    flow = solver.calc(*pair, None)
    return max(float(np.linalg.norm(solver.calc(*each, None) - flow, axis=-1).mean()) for each in moved)


@pytest.mark.parametrize("name", ["softnet.py", "mean.py"])
def test_tvl1_front_ends(name: str, film: Path, floor: float, tmp_path: Path) -> None:
    stock, ours = both(name, film, K, tmp_path)
    error = np.linalg.norm(ours[..., :2] - stock[..., :2], axis=-1)
    print(f"\n{name}: EPE mean {error.mean():.2g}, median {np.median(error):.2g}; OpenCV to itself {floor:.2g}")
    assert error.mean() < (1.5 if EXACT_WARP else 4) * floor + 1e-3
    assert np.median(error) < (2e-3 if EXACT_WARP else 0.02)
    assert (error < 0.1).mean() >= 0.95
    assert np.median(abs(ours[..., 2:] - stock[..., 2:])) < (2e-3 if EXACT_WARP else 0.02)


def test_mmme_images(film: Path, floor: float, tmp_path: Path) -> None:
    stock, ours = both("mmme_images.py", film, K, tmp_path)
    apart = abs(ours.astype(int) - stock)
    print(f"\nlevels of grey between them, mean of u, v, strain: {apart.mean(axis=(0, 1, 2))}")
    assert stock.std() > 1
    # One grey level of flow is 30/255 pixel; what moves across its edge is one level off.
    assert apart[..., :2].mean() < 255 / 30 * (1.5 * floor + 1e-3) * (1 if EXACT_WARP else 3)
    assert (apart[..., :2] <= 1).mean() > 0.99
    assert np.median(apart[..., 2]) == 0


@pytest.mark.parametrize(("name", "length"), [("roi.py", 4), ("mdmd.py", 2)])
def test_farneback_methods(name: str, length: int, film: Path, tmp_path: Path) -> None:
    stock, ours = both(name, film, length, tmp_path)
    print(f"\n{name}: {abs(stock).max():.2g} pixels at most; difference {abs(ours - stock).max():.2g} at most")
    np.testing.assert_allclose(ours, stock, atol=1e-4)
