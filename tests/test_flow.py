"""What the flow methods share: how frames pair up, what is prepared once, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import _arrays, dis, farneback, release_workspaces, sliding_window, synth, tvl1

cv2 = pytest.importorskip("cv2")

Flow = Callable[..., NDArray[np.float32]]


@pytest.fixture(params=[farneback, tvl1, dis])
def method(request: pytest.FixtureRequest) -> Flow:
    return request.param


def opencv_tvl1(prev: NDArray[np.uint8], curr: NDArray[np.uint8]) -> NDArray[np.float32]:
    if not hasattr(cv2, "optflow"):
        pytest.skip("this OpenCV has no optflow module")
    return cv2.optflow.DualTVL1OpticalFlow_create(
        nscales=2, warps=2, innnerIterations=4, outerIterations=1, medianFiltering=3
    ).calc(prev, curr, None)


def opencv_farneback(prev: NDArray[np.uint8], curr: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.calcOpticalFlowFarneback(prev, curr, None, 0.5, 3, 15, 2, 7, 1.5, 0)


def opencv_dis(prev: NDArray[np.uint8], curr: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(prev, curr, None)


# Each method with few iterations, the same from OpenCV, and the largest mean distance between them in pixels. Before
# version 5, OpenCV's warps round coordinates to 1/32 pixel.
AUTHORITIES = [
    (
        tvl1,
        {"scales": 2, "warps": 2, "inner_iterations": 4, "outer_iterations": 1, "median": 3},
        opencv_tvl1,
        1e-3 if cv2.__version__ >= "5" else 0.02,
    ),
    (farneback, {"iterations": 2}, opencv_farneback, 1e-3),
    (dis, {"preset": "fast"}, opencv_dis, 1e-3 if cv2.__version__ >= "5" else 0.03),
]


@pytest.fixture(scope="module")
def film() -> NDArray[np.uint8]:
    return synth.film(2, 20, 40, micro=0, macro=0, blinks=0).frames(0, 6)


def test_flow_batches_are_their_pairs(backend: str, method: Flow, film: NDArray[np.uint8]) -> None:
    pairs = {(i, j): method(film[i], film[j]) for i, j in [(0, 2), (1, 3), (2, 4), (3, 5), (0, 1), (5, 0)]}
    before = film.copy()
    interval = method(film[:-2], film[2:])
    assert interval.shape == (4, 40, 40, 2)
    assert interval.dtype == np.float32
    assert interval.flags.c_contiguous
    for i in range(4):
        np.testing.assert_array_equal(interval[i], pairs[i, i + 2])
    reference = method(film[0], film[1:3])
    np.testing.assert_array_equal(reference[0], pairs[0, 1])
    np.testing.assert_array_equal(reference[1], pairs[0, 2])
    np.testing.assert_array_equal(method(film[5:], film[0])[0], pairs[5, 0])
    np.testing.assert_array_equal(film, before)


def test_flow_frames_that_begin_at_one_address_are_not_one_frame(backend: str, method: Flow) -> None:
    rows = np.random.default_rng(0).integers(0, 255, (80, 40), np.uint8)
    prev, curr = rows[:40], rows[::2]  # the same first pixel, other rows
    np.testing.assert_array_equal(method(prev, curr), method(prev.copy(), curr.copy()))
    floats = rows[:32, :32].astype(np.float32) / 255
    wide = np.zeros((8, 32), np.float32)
    wide[:] = floats[:8]
    bytes_ = wide.view(np.uint8)[:, :32]
    np.testing.assert_array_equal(method(wide, bytes_), method(wide.copy(), bytes_.copy()))


def test_flow_of_frames_that_come_again_in_other_calls(backend: str, method: Flow, film: NDArray[np.uint8]) -> None:
    """What a call finds prepared by the call before is known by its pixels, and changes no bit."""
    rng = np.random.default_rng(0)
    frames = [film[0].copy(), film[2].copy(), film[4].astype(np.uint16) * 257]
    calls = []
    for step in range(18):
        prev, curr = (frames[i] for i in rng.permutation(3)[:2])
        if step % 4 == 1:
            prev[rng.integers(40), rng.integers(40)] ^= 99  # where it lies
        if step % 9 == 8:
            method(prev[:32], curr[:32])
        calls.append(((prev.copy(), curr.copy()), method(prev, curr, threads=1 + step % 2)))
    for given, found in calls:
        release_workspaces()
        np.testing.assert_array_equal(found, method(*given))


def test_flow_after_other_work_in_the_same_memory(method: Flow, film: NDArray[np.uint8]) -> None:
    signals = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32)
    expected = method(film[0], film[2])
    for window in range(3999, 0, -200):  # as much of the memory as windows need
        sliding_window(signals, window, "range")
        np.testing.assert_array_equal(method(film[0], film[2]), expected)


def test_flow_dtypes_mean_the_same_picture(backend: str, method: Flow, film: NDArray[np.uint8]) -> None:
    want = method(film[0], film[3])
    for scaled in (film.astype(np.uint16) * 257, film / 255.0, (film.astype(">u2") * 257).astype(">u2")):
        assert np.median(np.abs(method(scaled[0], scaled[3]) - want)) < 1e-3


def test_flow_of_arrays_at_odd_addresses(method: Flow, film: NDArray[np.uint8]) -> None:
    """Kernels read whole numbers and floats only where these may lie."""
    for whole in (film[:2].astype(np.uint16), film[:2].astype(np.float32) / 255):
        odd = np.frombuffer(b"x" + whole.tobytes(), whole.dtype, offset=1).reshape(whole.shape)
        assert _arrays.frames(odd, "odd").flags.aligned
        assert _arrays.reals(odd, "odd").flags.aligned
        np.testing.assert_array_equal(method(odd[0], odd[1]), method(whole[0], whole[1]))


@pytest.mark.parametrize(
    ("prev", "error", "text"),
    [
        (np.zeros(480, np.uint8), ValueError, r"prev must be 2-D or 3-D \(frame, y, x\), got shape \(480,\)"),
        (np.zeros((1, 1), np.uint8), ValueError, r"prev must be 8 to 32767 pixels high and wide, got shape \(1, 1\)"),
        (np.zeros((0, 9, 9), np.uint8), ValueError, r"prev must hold at least one frame, got shape \(0, 9, 9\)"),
        (np.zeros((0, 9), np.uint8), ValueError, r"prev must be 8 to 32767 pixels high and wide, got shape \(0, 9\)"),
        (np.full((9, 9), np.nan), ValueError, "prev must be finite, got NaN or infinity"),
        (np.full((9, 9), np.inf), ValueError, "prev must be finite, got NaN or infinity"),
        (np.full((9, 9), 200.0), ValueError, r"prev must be in 0\.\.1 as float, got 200 to 200; pass uint8 frames"),
        (np.zeros((9, 9), np.int32), TypeError, r"prev must be uint8, uint16 or float in 0\.\.1, got int32"),
        (np.zeros((9, 9), bool), TypeError, "got bool"),
        (np.zeros((9, 10), np.uint8), ValueError, r"frames of the same size, got \(9, 10\) and \(9, 9\)"),
        (np.zeros((3, 9, 9), np.uint8), ValueError, "prev and curr must have the same number of frames or one, got 3"),
    ],
)
def test_flow_refuses_frames(method: Flow, prev: NDArray[Any], error: type[Exception], text: str) -> None:
    curr = np.zeros((2, 9, 9), np.uint8)
    with pytest.raises(error, match=text):
        method(prev, curr)


def test_flow_of_an_interval_longer_than_the_film(method: Flow, film: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="prev must hold at least one frame"):
        method(film[:-10], film[10:])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"initial_flow": np.zeros((5, 5, 2))}, ValueError, r"initial_flow must broadcast to shape \(1, 40, 40, 2\)"),
        ({"initial_flow": np.full((40, 40, 2), np.nan)}, ValueError, "initial_flow must be finite"),
        ({"threads": 0}, ValueError, "threads must be a whole number of at least 1, got 0"),
    ],
)
def test_flow_rules(
    method: Flow, film: NDArray[np.uint8], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        method(film[0], film[1], **options)


@pytest.mark.parametrize(
    ("method", "options", "error", "text"),
    [
        (tvl1, {"median": 4}, ValueError, "median must be 1, 3 or 5, got 4"),
        (tvl1, {"tau": 0}, ValueError, "tau must be above 0, got 0"),
        (tvl1, {"scales": 2.5}, TypeError, "scales must be a whole number, got 2.5"),
        (tvl1, {"scale_step": 1}, ValueError, r"scale_step must be at least 0.1 and at most 0.99, got 1"),
        (tvl1, {"warm_start": -1}, ValueError, "warm_start must be at least 0, got -1"),
        (tvl1, {"epsilon": "small"}, TypeError, "epsilon must be a number, got 'small'"),
        (farneback, {"poly_n": 1}, ValueError, "poly_n must be at least 3 and at most 31, got 1"),
        (farneback, {"poly_sigma": 0.05}, ValueError, "poly_sigma must be at least 0.2, got 0.05"),
        (farneback, {"window": 0}, ValueError, "window must be at least 1, got 0"),
        (farneback, {"pyr_scale": 1.5}, ValueError, "pyr_scale must be at least 0.1 and at most 0.99, got 1.5"),
        (farneback, {"levels": -1}, ValueError, "levels must be at least 0 and at most 100, got -1"),
    ],
)
def test_flow_parameters(
    method: Flow, film: NDArray[np.uint8], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        method(film[0], film[1], **options)


def test_flow_of_frames_smaller_than_the_pyramid(backend: str, film: NDArray[np.uint8]) -> None:
    """The pyramid has fewer levels then, as in OpenCV: asking for more changes nothing."""
    small = film[0, 8:32, 8:32], film[2, 8:32, 8:32]
    np.testing.assert_array_equal(farneback(*small, levels=3), farneback(*small, levels=0))
    np.testing.assert_array_equal(tvl1(*small, scales=5), tvl1(*small, scales=2))


@pytest.mark.parametrize(
    ("method", "options", "opencv", "limit"), AUTHORITIES, ids=[method.__name__ for method, *_ in AUTHORITIES]
)
@pytest.mark.parametrize("shape", [(8, 8), (11, 9), (8, 2048), (2048, 8), (33, 1027), (1088, 2048)], ids=str)
def test_flow_equals_opencv_at_any_size_and_on_views(
    backend: str, method: Flow, options: dict[str, Any], opencv: Flow, limit: float, shape: tuple[int, int]
) -> None:
    if backend == "numba" and shape[0] * shape[1] > 100_000:
        pytest.skip("the twin is compared on small frames, for time")
    height, width = shape
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (height + 6, width + 6)).astype(np.float32)
    scene = sum(fine[i : i + height + 2, j : j + width + 2] for i in range(5) for j in range(5)) / 8 - 270
    frames = [
        (part + rng.normal(size=shape)).clip(0, 255).astype(np.uint8) for part in (scene[1:-1, 1:-1], scene[1:-1, 2:])
    ]
    found = method(*frames, **options)
    if method is dis and height < 12:  # OpenCV refuses these: the motion itself
        expected, limit = np.float32([-1, 0]), 0.5
    else:
        expected = opencv(*frames)
    assert np.linalg.norm(found - expected, axis=-1).mean() < limit
    # Rows that are apart, and upside down; columns that are apart, and mirrored.
    rows = np.zeros((2 * height, width), np.uint8)[::-2]
    columns = np.zeros((height, 2 * width), np.uint8)[:, ::-2]
    rows[...], columns[...] = frames
    np.testing.assert_array_equal(method(rows, columns, **options), found)
