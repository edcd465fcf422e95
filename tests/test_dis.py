"""Dense inverse search flow against OpenCV's, on every backend.

`pytest -s -k parity` prints the errors that the gates bound.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import dis, synth

cv2 = pytest.importorskip("cv2")

# Before version 5, the refinement's warp rounds coordinates to 1/32 pixel: no preset but "ultrafast" is exact then.
EXACT_WARP = int(cv2.__version__.split(".")[0]) >= 5

PRESETS = ("ultrafast", "fast", "medium")
Array = NDArray[Any]


@cache
def pair(height: int, width: int, displacement: float = 1.5, seed: int = 0) -> tuple[Array, Array, Array]:
    """Return two frames of a face and the flow between them, cut from the middle when they are small."""
    size = max(height, 40), max(width, 40)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    found = synth.flow_pair(size, displacement=displacement, seed=seed)
    prev, curr, flow = (a[top : top + height, left : left + width].copy() for a in found)
    return prev, curr, flow


def opencv(prev: Array, curr: Array, preset: str = "medium", initial_flow: Array | None = None) -> Array:
    method = cv2.DISOpticalFlow_create(PRESETS.index(preset))
    return method.calc(prev, curr, None if initial_flow is None else initial_flow.copy())


def epe(a: Array, b: Array) -> Array:
    return np.hypot(*np.moveaxis(a.astype(np.float64) - b, -1, 0))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("size", "seed"), [(128, 1), (128, 2), (256, 3)])
def test_dis_parity(backend: str, preset: str, size: int, seed: int) -> None:
    prev, curr, truth = pair(size, size, size / 60, seed)
    ours, theirs = dis(prev, curr, preset=preset), opencv(prev, curr, preset)
    error, known, same = epe(ours, truth).mean(), epe(theirs, truth).mean(), epe(ours, theirs)
    print(
        f"\n{backend} {preset} {size}: EPE to the truth {error:.4f}, OpenCV's {known:.4f}; between them mean "
        f"{same.mean():.1e}, median {np.median(same):.1e}, 95th percentile {np.percentile(same, 95):.1e}"
    )
    assert error <= 1.02 * known
    assert same.mean() < (1e-3 if EXACT_WARP else 0.03)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["RubberWhale", "Grove2", "Venus"])
def test_dis_middlebury(backend: str, shared_data: Path, name: str, preset: str) -> None:
    folder = shared_data / "flow" / name
    prev, curr = (cv2.imread(str(folder / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11))
    truth = cv2.readOpticalFlow(str(folder / "flow10.flo"))
    known = (abs(truth) < 1e9).all(-1)
    flows = dis(prev, curr, preset=preset), opencv(prev, curr, preset)
    ours, theirs = (epe(flow, truth)[known].mean() for flow in flows)
    assert ours <= 1.02 * theirs


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "shape", [(12, 12), (15, 15), (31, 33), (63, 97), (97, 63), (101, 142), (130, 131), (300, 24), (64, 520)], ids=str
)
def test_dis_shapes(backend: str, shape: tuple[int, int], preset: str) -> None:
    prev, curr, _ = pair(*shape, 1.2)
    error = epe(dis(prev, curr, preset=preset), opencv(prev, curr, preset))
    # A mean that falls between two whole grey values may be rounded either way.
    assert error.mean() < (0.01 if EXACT_WARP else 0.03)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(8, 8), (9, 17), (8, 300), (11, 40), (16, 300), (17, 800), (300, 9)], ids=str)
def test_dis_shapes_beyond_opencv(backend: str, shape: tuple[int, int], preset: str) -> None:
    # OpenCV refuses these, or reads outside the frame on a level that is smaller than a patch.
    prev, curr, truth = pair(*shape, 0.8)
    assert epe(dis(prev, curr, preset=preset), truth).mean() < 0.8
    assert epe(dis(prev, prev, preset=preset), 0 * truth).max() < 1e-3


@pytest.mark.parametrize("preset", PRESETS)
def test_dis_wide_motion(backend: str, preset: str) -> None:
    prev, curr = np.random.default_rng(0).integers(0, 256, (2, 96, 160), np.uint8)  # patches leave the frame
    ours, theirs = dis(prev, curr, preset=preset), opencv(prev, curr, preset)
    assert np.isfinite(ours).all()
    assert np.median(epe(ours, theirs)) < (1e-2 if EXACT_WARP else 0.03)


@pytest.mark.parametrize("preset", PRESETS)
def test_dis_initial_flow(backend: str, preset: str) -> None:
    prev, curr, truth = pair(131, 150, 3.0)
    prev = np.roll(prev, (9, -20), (0, 1))  # so far that it is found only where the start says
    start = truth + np.float32([20, -9])
    kept = start.copy()
    ours = dis(prev, curr, preset=preset, initial_flow=start)
    assert epe(ours, opencv(prev, curr, preset, start)).mean() < 0.02
    np.testing.assert_array_equal(start, kept)
    assert epe(ours, dis(prev, curr, preset=preset)).mean() > 0.3
    far = 1e20 * np.random.default_rng(0).normal(size=start.shape)  # beyond what an int holds
    assert np.isfinite(dis(prev, curr, preset=preset, initial_flow=far)).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_dis_flat_frames(backend: str, preset: str) -> None:
    flat = np.full((70, 90), 77, np.uint8)
    np.testing.assert_array_equal(dis(flat, flat, preset=preset), np.zeros((70, 90, 2), np.float32))
    np.testing.assert_allclose(dis(flat, flat + 40, preset=preset), 0, atol=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_dis_dtypes(backend: str, preset: str) -> None:
    prev, curr, truth = pair(128, 160, 2.0)
    expected = epe(opencv(prev, curr, preset), truth).mean()
    for frames in (
        (prev.astype(np.uint16) * 257, curr.astype(np.uint16) * 257),
        (prev / np.float32(255), curr / np.float32(255)),
        (prev / 255, curr / 255),
        (prev, curr / 255),
    ):
        # Only the pyramid of uint8 frames is rounded, so that these differ a little.
        assert epe(dis(*frames, preset=preset), truth).mean() <= 1.1 * expected


def test_dis_deep_frames_keep_their_fractions(backend: str) -> None:
    prev, curr, _ = pair(128, 160, 2.0)
    dim = [(f.astype(np.float32) / 255) / 64 for f in (prev, curr)]  # four grey levels at most
    assert epe(dis(*dim, preset="ultrafast"), dis(prev, curr, preset="ultrafast")).mean() < 0.2


def test_dis_layouts(backend: str) -> None:
    frames = np.stack(pair(64, 80)[:2])
    expected = dis(*frames)
    wide = np.zeros((2, 80, 100), np.uint8)
    wide[:, 5:69, 7:87] = frames
    every_other = np.zeros((4, 128, 80), np.uint8)
    every_other[::2, ::2] = frames
    columns = np.zeros((2, 64, 160), np.uint8)
    columns[..., ::2] = frames
    for view in (
        wide[:, 5:69, 7:87],
        every_other[::2, ::2],
        columns[..., ::2],
        np.asfortranarray(frames),
        np.ascontiguousarray(frames[:, ::-1])[:, ::-1],
    ):
        before = view.copy()
        np.testing.assert_array_equal(dis(*view), expected)
        np.testing.assert_array_equal(view, before)
    assert expected.dtype == np.float32
    assert expected.flags.c_contiguous


@pytest.mark.parametrize("preset", PRESETS)
def test_dis_batches(backend: str, preset: str) -> None:
    film = np.concatenate([np.stack(pair(70, 90, seed=seed)[:2]) for seed in range(3)])
    options: dict[str, Any] = {"preset": preset}
    singles = {(i, j): dis(film[i], film[j], **options) for i in range(6) for j in range(6) if j - i == 2 or i == 0}
    for threads in (1, 2):
        options["threads"] = threads
        np.testing.assert_array_equal(dis(film[:-2], film[2:], **options), [singles[i, i + 2] for i in range(4)])
        np.testing.assert_array_equal(dis(film[0], film[1:], **options), [singles[0, i] for i in range(1, 6)])
    starts = np.random.default_rng(0).normal(size=(3, 70, 90, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        dis(film[0], film[1:4], initial_flow=starts, **options),
        [dis(film[0], film[1 + i], initial_flow=starts[i], **options) for i in range(3)],
    )


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(203, 75), (331, 160)], ids=str)
def test_dis_rows_shared(backend: str, shape: tuple[int, int], preset: str, threads: int) -> None:
    prev, curr, _ = pair(*shape, 3.0)
    np.testing.assert_array_equal(
        dis(prev, curr, preset=preset, threads=threads), dis(prev, curr, preset=preset, threads=1)
    )


def test_dis_errors() -> None:
    prev, curr, _ = pair(40, 40)
    with pytest.raises(ValueError, match="preset must be one of 'ultrafast', 'fast', 'medium', got 'slow'"):
        dis(prev, curr, preset="slow")
    with pytest.raises(ValueError, match="initial_flow must be finite"):
        dis(prev, curr, initial_flow=np.full((40, 40, 2), np.nan))
