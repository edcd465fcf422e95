"""Farneback flow against OpenCV's, on every backend.

`pytest -s -k parity` prints the differences that the gates bound.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import farneback

cv2 = pytest.importorskip("cv2")

DEFAULTS = {
    "pyr_scale": 0.5, "levels": 3, "window": 15, "iterations": 5, "poly_n": 7, "poly_sigma": 1.5, "gaussian": False
}  # fmt: skip
Array = NDArray[Any]


def true_flow(height: int, width: int, reach: float) -> Array:
    """Return a smooth flow of up to `reach` pixels, (y, x, 2)."""
    y, x = np.mgrid[:height, :width]
    u = np.sin(2 * np.pi * (0.7 * x / width + 0.5 * y / height) + 1)
    v = 0.7 * np.cos(2 * np.pi * (0.8 * y / height - 0.3 * x / width))
    return (reach * np.stack([u, v], -1)).astype(np.float32)


def moved_pair(height: int, width: int, noise: float = 1.0, reach: float = 1.5, seed: int = 0) -> Array:
    """Return two uint8 frames of a texture, the second moved by `true_flow`, each with camera noise of its own."""
    rng = np.random.default_rng(seed)
    waves, phases = 0.25 * rng.normal(size=(32, 2)), rng.uniform(0, 2 * np.pi, 32)
    y, x = np.mgrid[:height, :width]
    flow = true_flow(height, width, reach)
    frames = np.zeros((2, height, width))
    for (kx, ky), phase in zip(waves, phases, strict=True):
        frames[0] += np.sin(kx * x + ky * y + phase)
        frames[1] += np.sin(kx * (x - flow[..., 0]) + ky * (y - flow[..., 1]) + phase)
    frames = 128 + 100 * frames / abs(frames).max() + noise * rng.normal(size=frames.shape)
    return frames.round().clip(0, 255).astype(np.uint8)


def opencv(prev: Array, curr: Array, initial_flow: Array | None = None, **parameters: Any) -> Array:
    p = DEFAULTS | parameters
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if p["gaussian"] else 0
    if initial_flow is not None:
        flags |= cv2.OPTFLOW_USE_INITIAL_FLOW
        initial_flow = initial_flow.copy()
    return cv2.calcOpticalFlowFarneback(
        prev, curr, initial_flow, p["pyr_scale"], p["levels"], p["window"], p["iterations"], p["poly_n"],
        p["poly_sigma"], flags,
    )  # fmt: skip


def epe(a: Array, b: Array) -> Array:
    return np.hypot(*np.moveaxis(a.astype(np.float64) - b, -1, 0))


def gate(a: Array, b: Array, limit: float = 1e-4) -> None:
    assert epe(a, b).mean() < limit


@pytest.mark.parametrize("gaussian", [False, True], ids=["box", "gaussian"])
@pytest.mark.parametrize("size", [128, 256, 512])
def test_farneback_parity(backend: str, size: int, gaussian: bool) -> None:
    prev, curr = moved_pair(size, size)
    error = epe(farneback(prev, curr, gaussian=gaussian), opencv(prev, curr, gaussian=gaussian))
    inner = error[16:-16, 16:-16]
    print(
        f"\n{backend} {size} {'gaussian' if gaussian else 'box'}: EPE to OpenCV mean {error.mean():.1e}, "
        f"median {np.median(error):.1e}, interior {inner.mean():.1e}, 95th percentile {np.percentile(error, 95):.1e}"
    )
    assert error.mean() < 1e-4


@pytest.mark.parametrize(
    "parameters",
    [
        {"levels": 0},
        {"levels": 5},
        {"levels": 1, "iterations": 1},
        {"pyr_scale": 0.7, "levels": 5},
        {"pyr_scale": 0.7, "levels": 4, "gaussian": True},
        {"pyr_scale": 0.95, "levels": 3},
        {"poly_n": 5, "poly_sigma": 1.1},
        {"poly_n": 3, "poly_sigma": 0.8},
        {"poly_n": 11, "poly_sigma": 2.4},
        {"poly_n": 31, "poly_sigma": 4.0},
        {"window": 9},
        {"window": 21},
        {"window": 21, "gaussian": True},
        {"window": 10},
        {"window": 2},
        {"window": 101},
        {"window": 64, "gaussian": True},
    ],
    ids=str,
)
def test_farneback_parameters(backend: str, parameters: dict[str, Any]) -> None:
    prev, curr = moved_pair(130, 141)
    gate(farneback(prev, curr, **parameters), opencv(prev, curr, **parameters))


@pytest.mark.parametrize("gaussian", [False, True], ids=["box", "gaussian"])
def test_farneback_window_of_one_pixel(backend: str, gaussian: bool) -> None:
    prev, curr = moved_pair(33, 47)
    ours = farneback(prev, curr, window=1, levels=0, iterations=2, gaussian=gaussian)
    # One pixel's system is nearly singular here and there: rounding shows, but only there.
    assert np.percentile(epe(ours, opencv(prev, curr, window=1, levels=0, iterations=2, gaussian=gaussian)), 95) < 1e-4


@pytest.mark.parametrize("shape", [(8, 8), (9, 17), (17, 300), (300, 17), (33, 65), (64, 64), (97, 240)], ids=str)
@pytest.mark.parametrize("gaussian", [False, True], ids=["box", "gaussian"])
def test_farneback_shapes(backend: str, shape: tuple[int, int], gaussian: bool) -> None:
    prev, curr = moved_pair(*shape, reach=0.8)
    gate(farneback(prev, curr, gaussian=gaussian), opencv(prev, curr, gaussian=gaussian))


def test_farneback_weak_texture_under_strong(backend: str) -> None:
    # Sums that go on from row to row must not remember what has left the window.
    frames = moved_pair(160, 128, noise=0.0) - 128.0
    frames[:, 40:] *= 0.05
    frames += 128 + 0.3 * np.random.default_rng(1).normal(size=frames.shape)
    prev, curr = frames.round().astype(np.uint8)
    gate(farneback(prev, curr), opencv(prev, curr), 1e-5)


def test_farneback_wide_motion(backend: str) -> None:
    # Displacements that differ by several pixels from one pixel to the next, and leave the frame.
    prev, curr = moved_pair(96, 160, noise=3.0, reach=12.0)
    start = 40 * np.random.default_rng(1).normal(size=(96, 160, 2)).astype(np.float32)
    for parameters in ({"levels": 3}, {"levels": 0, "initial_flow": start}):
        gate(farneback(prev, curr, iterations=1, **parameters), opencv(prev, curr, iterations=1, **parameters))
    far: dict[str, Any] = {"levels": 0, "iterations": 1, "initial_flow": 1e20 * start}  # beyond what an int holds
    theirs = opencv(prev, curr, **far)
    assert np.median(epe(farneback(prev, curr, **far), theirs) / np.hypot(*np.moveaxis(theirs, -1, 0))) < 1e-3


@pytest.mark.parametrize("levels", [0, 2, 3])
@pytest.mark.parametrize("pyr_scale", [0.5, 0.7])
def test_farneback_initial_flow(backend: str, levels: int, pyr_scale: float) -> None:
    prev, curr = moved_pair(131, 150, reach=6.0)
    start = -true_flow(131, 150, 8.0)  # so far off that the result remembers it
    kept = start.copy()
    parameters: dict[str, Any] = {"levels": levels, "pyr_scale": pyr_scale, "iterations": 1, "initial_flow": start}
    ours = farneback(prev, curr, **parameters)
    gate(ours, opencv(prev, curr, **parameters))
    np.testing.assert_array_equal(start, kept)
    assert epe(ours, farneback(prev, curr, **{**parameters, "initial_flow": None})).mean() > 1e-2


def test_farneback_without_noise(backend: str) -> None:
    # OpenCV's border test is discontinuous at a displacement of 0, which noise-free frames have all along the border.
    prev, curr = moved_pair(128, 160, noise=0.0)
    error = epe(farneback(prev, curr), opencv(prev, curr))
    assert error[16:-16, 16:-16].mean() < 1e-4


def test_farneback_flat_frames(backend: str) -> None:
    flat = np.full((40, 50), 77, np.uint8)
    assert abs(farneback(flat, flat)).max() < 1e-3
    # A sharp-edged flat patch: where the systems vanish, so must the flow.
    prev, curr = moved_pair(96, 96, noise=0.0)
    prev[30:80, 20:90] = curr[30:80, 20:90] = 40
    error = epe(farneback(prev, curr), opencv(prev, curr))
    assert error[16:-16, 16:-16].mean() < 1e-4


def test_farneback_known_flow(backend: str) -> None:
    prev, curr = moved_pair(128, 128)
    assert epe(farneback(prev, curr), true_flow(128, 128, 1.5))[16:-16, 16:-16].mean() < 0.1


@pytest.mark.parametrize("name", ["RubberWhale", "Grove2", "Venus"])
def test_farneback_middlebury(backend: str, shared_data: Path, name: str) -> None:
    folder = shared_data / "flow" / name
    prev, curr = (cv2.imread(str(folder / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11))
    truth = cv2.readOpticalFlow(str(folder / "flow10.flo"))
    known = (abs(truth) < 1e9).all(-1)
    ours, theirs = (epe(flow, truth)[known].mean() for flow in (farneback(prev, curr), opencv(prev, curr)))
    assert abs(ours - theirs) < 0.01 * theirs


def test_farneback_dtypes(backend: str) -> None:
    eight = moved_pair(50, 70)
    expected = opencv(*eight)
    gate(farneback(*(eight.astype(np.uint16) * 257)), expected)
    gate(farneback(*(eight / np.float32(255))), expected)
    gate(farneback(*(eight / 255)), expected)
    deep = (eight.astype(np.uint16) * 257) + np.random.default_rng(0).integers(0, 256, eight.shape, np.uint16)
    gate(farneback(*deep), opencv(*(deep * np.float32(255 / 65535))))


def test_farneback_layouts(backend: str) -> None:
    frames = moved_pair(48, 80)
    expected = farneback(*frames)
    wide = np.zeros((2, 60, 100), np.uint8)
    wide[:, 5:53, 7:87] = frames
    every_other = np.zeros((4, 96, 80), np.uint8)
    every_other[::2, ::2] = frames
    columns = np.zeros((2, 48, 160), np.uint8)
    columns[..., ::2] = frames
    for view in (
        wide[:, 5:53, 7:87],
        every_other[::2, ::2],
        columns[..., ::2],
        np.asfortranarray(frames),
        np.ascontiguousarray(frames[:, ::-1])[:, ::-1],
    ):
        before = view.copy()
        np.testing.assert_array_equal(farneback(*view), expected)
        np.testing.assert_array_equal(view, before)
    assert expected.dtype == np.float32
    assert expected.flags.c_contiguous


@pytest.mark.parametrize("gaussian", [False, True], ids=["box", "gaussian"])
def test_farneback_batches(backend: str, gaussian: bool) -> None:
    film = np.concatenate([moved_pair(70, 90, seed=seed) for seed in range(3)])
    options: dict[str, Any] = {"gaussian": gaussian, "levels": 1, "iterations": 2}
    singles = {
        (i, j): farneback(film[i], film[j], **options) for i in range(6) for j in range(6) if j - i in (2, 1) or i == 0
    }
    for threads in (1, 2):
        options["threads"] = threads
        np.testing.assert_array_equal(farneback(film[:-2], film[2:], **options), [singles[i, i + 2] for i in range(4)])
        np.testing.assert_array_equal(farneback(film[0], film[1:], **options), [singles[0, i] for i in range(1, 6)])
        # One pair: the threads share its rows.
        np.testing.assert_array_equal(farneback(film[1], film[2], **options), singles[1, 2])
    starts = np.stack([true_flow(70, 90, reach) for reach in (0.0, 1.0, 2.0)])
    np.testing.assert_array_equal(
        farneback(film[0], film[1:4], initial_flow=starts, **options),
        [farneback(film[0], film[1 + i], initial_flow=starts[i], **options) for i in range(3)],
    )


@pytest.mark.parametrize("options", [{}, {"window": 1}, {"window": 41}, {"gaussian": True}], ids=str)
def test_farneback_iterations_in_flight(backend: str, options: dict[str, Any]) -> None:
    """On one thread iterations of a large level follow each other closely, on several each waits for the last."""
    if backend == "numba":
        pytest.skip("the twin does one iteration after the other")
    prev, curr = moved_pair(270, 500, reach=3.0)
    options = {"levels": 0, "iterations": 10, **options}
    np.testing.assert_array_equal(
        farneback(prev, curr, threads=1, **options), farneback(prev, curr, threads=2, **options)
    )


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("window", [1, 4, 15, 41])
def test_farneback_rows_shared(backend: str, threads: int, window: int) -> None:
    prev, curr = moved_pair(203, 75, reach=3.0)
    options: dict[str, Any] = {"window": window, "levels": 2, "iterations": 2}
    np.testing.assert_array_equal(
        farneback(prev, curr, threads=threads, **options), farneback(prev, curr, threads=1, **options)
    )
