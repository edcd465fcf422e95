"""TV-L1 against OpenCV's DualTVL1OpticalFlow, and its promises about batches, threads and inputs.

The algorithm is chaotic at the level of rounding: it stops iterating at a threshold, and one iteration more or less
moves its result by a hundredth of a pixel. Where that matters, the measure of our distance to OpenCV is OpenCV's own
distance to itself when the input changes by 1e-6; where it does not (one level, few warps), the results agree to
rounding.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import synth

cv2 = pytest.importorskip("cv2")
if not hasattr(cv2, "optflow"):
    pytest.skip("this OpenCV has no optflow module", allow_module_level=True)

# Before version 5, remap(INTER_CUBIC) rounds coordinates to 1/32 pixel.
EXACT_WARP = int(cv2.__version__.split(".")[0]) >= 5

Floats = NDArray[np.float32]
SETTERS = {
    "tau": "Tau",
    "lambda_": "Lambda",
    "theta": "Theta",
    "scales": "ScalesNumber",
    "warps": "WarpingsNumber",
    "epsilon": "Epsilon",
    "inner_iterations": "InnerIterations",
    "outer_iterations": "OuterIterations",
    "scale_step": "ScaleStep",
    "median": "MedianFiltering",
}


def frame_pair(height: int, width: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Two textured frames in 0..1 with camera noise of one grey level, and the flow between them, below 1 pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    dx = 0.9 * np.sin(2 * np.pi * y / height + 0.5) * np.cos(2 * np.pi * x / width)
    dy = 0.7 * np.cos(2 * np.pi * (x / width + y / height))
    waves = rng.uniform((0.1, 0, 0), (1.5, 2 * np.pi, 2 * np.pi), (48, 3))

    def frame(x: Any, y: Any) -> Floats:
        grey = 127 + sum(9 * np.sin(k * (np.cos(a) * x + np.sin(a) * y) + c) for k, a, c in waves)
        return (np.clip(grey + rng.normal(0, 1, grey.shape), 0, 255) / 255).astype(np.float32)

    return frame(x, y), frame(x - dx, y - dy), np.stack([dx, dy], axis=-1).astype(np.float32)


def opencv(prev: Any, curr: Any, initial_flow: Any = None, **parameters: Any) -> Floats:
    solver = cv2.optflow.createOptFlow_DualTVL1()
    for name, value in parameters.items():
        getattr(solver, "set" + SETTERS[name])(value)
    if initial_flow is None:
        return solver.calc(prev, curr, None)
    solver.setUseInitialFlow(True)
    return solver.calc(prev, curr, initial_flow.copy())


def errors(flow: Floats, other: Floats) -> dict[str, float]:
    """End-point error: mean, median, mean without a border of 16 pixels, 95th percentile, share below 0.1 pixel."""
    epe = np.linalg.norm(flow.astype(np.float64) - other, axis=-1)
    return {
        "mean": float(epe.mean()),
        "median": float(np.median(epe)),
        "interior": float(epe[16:-16, 16:-16].mean()),
        "p95": float(np.percentile(epe, 95)),
        "within": float((epe < 0.1).mean()),
    }


@cache
def sensitivity(size: int) -> tuple[Floats, list[tuple[Floats, Floats]], dict[str, float]]:
    """OpenCV's flow of a pair, the pair perturbed by 1e-6, and the largest errors between OpenCV's flows."""
    prev, curr, _ = frame_pair(size, size)
    rng = np.random.default_rng(1)

    def perturbed(frame: Floats) -> Floats:
        return (frame + rng.normal(0, 1e-6, frame.shape)).astype(np.float32)

    # OpenCV's flows fall into two heaps, .015 px apart at 128: enough draws that both are seen.
    pairs = [(perturbed(prev), perturbed(curr)) for _ in range({128: 7, 256: 5}.get(size, 3))]
    flows = [opencv(prev, curr), *(opencv(*pair) for pair in pairs)]
    apart = [errors(a, b) for a, b in combinations(flows, 2)]
    return flows[0], pairs, {key: max(e[key] for e in apart) for key in apart[0]}


@pytest.mark.parametrize("size", [128, 256, 512])
def test_tvl1_is_as_close_to_opencv_as_opencv_to_itself(backend: str, size: int) -> None:
    if backend == "numba" and size > 256:
        pytest.skip("the twin is compared up to 256 pixels, for time")
    reference, pairs, floor = sensitivity(size)
    each = [errors(mmme_fast.tvl1(*pair, threads=1), reference) for pair in pairs[:3]]
    found = {key: float(np.mean([e[key] for e in each])) for key in floor}
    print(f"\n{size} {backend}: {found}; OpenCV to itself: {floor}")
    slack = 1.5 if EXACT_WARP else 4
    assert found["mean"] < slack * floor["mean"]
    assert found["median"] < max(0.002, slack * floor["median"])
    assert found["interior"] < max(0.003, slack * floor["interior"])
    assert found["within"] >= 0.95


@pytest.mark.skipif(not EXACT_WARP, reason="OpenCV before 5 rounds the coordinates of its warp")
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"median": 1},
        {"median": 3},
        {"tau": 0.1, "lambda_": 0.05, "theta": 0.5},
        {"inner_iterations": 7, "outer_iterations": 3},
        {"epsilon": 0.0, "outer_iterations": 2},
        {"epsilon": 0.05, "scales": 3, "scale_step": 0.5, "warps": 1},
        {"scales": 2, "scale_step": 0.9, "warps": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(64, 95), (25, 35), (35, 25)], ids=str)
def test_tvl1_equals_opencv_before_it_turns_chaotic(
    backend: str, shape: tuple[int, int], parameters: dict[str, Any]
) -> None:
    prev, curr, _ = frame_pair(*shape, seed=3)
    parameters = {"scales": 1, "warps": 3, **parameters}
    difference = mmme_fast.tvl1(prev, curr, **parameters) - opencv(prev, curr, **parameters)
    epe = np.linalg.norm(difference, axis=-1)
    assert epe.mean() < 1e-4
    assert np.percentile(epe, 95) < 2e-4


@pytest.mark.parametrize("scales", [1, 3])
def test_tvl1_starts_from_an_initial_flow_as_opencv(backend: str, scales: int) -> None:
    prev, curr, truth = frame_pair(64, 90, seed=4)
    start = (truth + np.float32(0.3)).astype(np.float32)
    kept = start.copy()
    parameters = {"scales": scales, "warps": 1, "outer_iterations": 1, "inner_iterations": 10}
    found = mmme_fast.tvl1(prev, curr, initial_flow=start, **parameters)
    assert errors(found, opencv(prev, curr, start, **parameters))["mean"] < (1e-4 if EXACT_WARP else 0.02)
    assert errors(found, mmme_fast.tvl1(prev, curr, **parameters))["mean"] > 0.01
    np.testing.assert_array_equal(start, kept)


def test_tvl1_survives_an_absurd_initial_flow(backend: str) -> None:
    prev, curr, _ = frame_pair(20, 30)
    start = np.full((20, 30, 2), 3e38, np.float32)
    start[::2] *= -1
    assert np.isfinite(mmme_fast.tvl1(prev, curr, initial_flow=start)).all()


@pytest.mark.parametrize("shape", [(8, 8), (9, 17), (17, 300), (300, 17), (8, 130)], ids=str)
def test_tvl1_takes_tiny_and_odd_sizes(backend: str, shape: tuple[int, int]) -> None:
    prev, curr, _ = frame_pair(*shape, seed=5)
    for parameters in ({"warps": 1, "scales": 2, "scale_step": 0.9}, {"warps": 1, "median": 3}):
        found = mmme_fast.tvl1(prev, curr, **parameters)
        assert found.shape == (*shape, 2)
        assert found.dtype == np.float32
        expected = opencv(prev, curr, **parameters)
        assert np.median(np.abs(found - expected)) < (1e-4 if EXACT_WARP else 0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_tvl1_takes_every_pixel_type(backend: str, dtype: Any) -> None:
    prev, curr, _ = frame_pair(40, 50, seed=6)
    full = {np.uint8: 255, np.uint16: 65535, np.float64: 1}[dtype]
    levels = [np.round(255 * f) for f in (prev, curr)]
    same = [(v / 255 * full).astype(dtype) for v in levels]
    as_float = mmme_fast.tvl1(*(v.astype(np.float32) / 255 for v in levels), warps=2)
    np.testing.assert_allclose(mmme_fast.tvl1(*same, warps=2), as_float, atol=0.01)
    if dtype == np.uint8:
        expected = opencv(*same, warps=2)
        assert errors(mmme_fast.tvl1(*same, warps=2), expected)["median"] < (1e-3 if EXACT_WARP else 0.02)


@pytest.fixture(scope="module")
def film() -> NDArray[np.uint8]:
    """Seven frames of 48 x 60 that drift to the left."""
    prev, _, _ = frame_pair(48, 100, seed=7)
    return np.stack([(prev[:, 4 * i : 4 * i + 60] * 255).astype(np.uint8) for i in range(7)])


QUICK = {"warps": 2, "outer_iterations": 2}


def test_tvl1_gives_the_same_bits_in_any_batch_and_on_any_threads(backend: str, film: NDArray[np.uint8]) -> None:
    alone = np.stack([mmme_fast.tvl1(film[i], film[i + 2], threads=1, **QUICK) for i in range(5)])
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(mmme_fast.tvl1(film[:-2], film[2:], threads=threads, **QUICK), alone)
    reference = mmme_fast.tvl1(film[0], film[1:], threads=2, **QUICK)
    assert reference.shape == (6, 48, 60, 2)
    np.testing.assert_array_equal(reference[1], alone[0])


def test_tvl1_gives_the_same_bits_when_threads_share_the_rows_of_a_pair(backend: str) -> None:
    if backend == "numba":
        pytest.skip("the twin does not share the rows of a pair")
    prev, curr, truth = frame_pair(301, 257, seed=8)
    one = mmme_fast.tvl1(prev, curr, threads=1, **QUICK)
    for threads in (2, 3, 9):
        np.testing.assert_array_equal(mmme_fast.tvl1(prev, curr, threads=threads, **QUICK), one)
    warm = [mmme_fast.tvl1(prev, curr, initial_flow=truth, threads=t, **QUICK) for t in (1, 2)]
    np.testing.assert_array_equal(*warm)


@pytest.mark.parametrize(
    ("options", "resumed"),
    [
        ({"epsilon": 0.05}, {"epsilon": 0.03}),
        ({"outer_iterations": 6, "inner_iterations": 5, "epsilon": 0.0}, {"outer_iterations": 4}),  # none is ever done
    ],
)
def test_tvl1_warm_start_chains_pairs_whatever_the_threads(
    backend: str, options: dict[str, Any], resumed: dict[str, Any]
) -> None:
    film = synth.film(1, 50, 64, sway=1, micro=0, macro=0, blinks=0, seed=1).frames()[:7]
    options = options | {"warps": 1}  # two warps in a chain are nothing that a call of its own does
    chained = mmme_fast.tvl1(film[:-1], film[1:], warm_start=3, threads=1, **options)
    np.testing.assert_array_equal(mmme_fast.tvl1(film[:-1], film[1:], warm_start=3, threads=2, **options), chained)
    for i in range(6):
        start = {"initial_flow": chained[i - 1], "scales": 1} | resumed if i % 3 else {}
        np.testing.assert_array_equal(chained[i], mmme_fast.tvl1(film[i], film[i + 1], **options | start))
    parts = [mmme_fast.tvl1(film[i : i + 3], film[i + 1 : i + 4], warm_start=3, **options) for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), chained)


def test_tvl1_warm_start_starts_cold_at_a_cut_and_after_it(backend: str) -> None:
    before, after = (synth.film(0.2, 30, 64, sway=3, micro=0, macro=0, blinks=0, seed=s).frames() for s in (1, 2))
    film = np.concatenate([before, after])
    cold = mmme_fast.tvl1(film[:-2], film[2:], **QUICK)
    warm = mmme_fast.tvl1(film[:-2], film[2:], warm_start=100, **QUICK)
    cut = len(before)
    afresh = [bool((a == b).all()) for a, b in zip(cold, warm, strict=True)]
    assert afresh[0]
    assert afresh[cut - 2]  # the first pair across the cut
    assert afresh[cut]  # the first one beyond it
    assert sum(afresh) <= 4


def test_tvl1_warm_start_is_as_near_to_the_truth_as_cold(backend: str) -> None:
    film = synth.film(1.2, 50, 64, sway=3, micro=0, macro=0, blinks=50, seed=1)
    assert [event.type for event in film.truth] == ["blink"]
    frames = film.frames()
    truth = np.stack([film.flow(i, i + 4) for i in range(56)])

    def epe(warm_start: int) -> float:
        flow = mmme_fast.tvl1(frames[:-4], frames[4:], warm_start=warm_start)
        return float(np.linalg.norm(flow - truth, axis=-1).mean())

    assert epe(16) < 1.01 * epe(0)


def test_tvl1_reads_views_and_leaves_inputs_alone(backend: str, film: NDArray[np.uint8]) -> None:
    wide = np.zeros((2, 96, 130), np.uint8)
    views = [wide[0, ::2, 5:65], wide[1, ::-2, 70:10:-1]]
    for view, frame in zip(views, film, strict=False):
        view[...] = frame
    before = wide.copy()
    np.testing.assert_array_equal(mmme_fast.tvl1(*views, **QUICK), mmme_fast.tvl1(film[0], film[1], **QUICK))
    np.testing.assert_array_equal(wide, before)
    cropped = film[:, 8:40, 3:50]
    np.testing.assert_array_equal(
        mmme_fast.tvl1(cropped[:-1], cropped[1:], **QUICK),
        mmme_fast.tvl1(cropped[:-1].copy(), cropped[1:].copy(), **QUICK),
    )


def test_tvl1_of_flat_and_equal_frames_is_zero(backend: str, film: NDArray[np.uint8]) -> None:
    flat = np.full((33, 47), 90, np.uint8)
    assert not mmme_fast.tvl1(flat, flat).any()
    assert np.abs(mmme_fast.tvl1(film[0], film[0])).max() < 1e-3


@pytest.mark.parametrize(("scene", "opencv_error"), [("RubberWhale", 0.156), ("Grove2", 0.157), ("Venus", 0.306)])
def test_tvl1_is_as_accurate_as_opencv_on_real_scenes(
    backend: str, shared_data: Path, scene: str, opencv_error: float
) -> None:
    if backend == "numba" and scene != "Venus":
        pytest.skip("the twin is compared on one scene, for time")
    folder = shared_data / "flow" / scene
    prev, curr = (cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name in ("frame10.png", "frame11.png"))
    truth = cv2.readOpticalFlow(str(folder / "flow10.flo"))
    known = (np.abs(truth) < 1e9).all(axis=-1)
    error = np.linalg.norm(mmme_fast.tvl1(prev, curr) - truth, axis=-1)[known].mean()
    assert error == pytest.approx(opencv_error, rel=0.02)
