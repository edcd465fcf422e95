"""Strain, block means and affine warps: each backend against a slow twin in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import motion, spotting

STENCILS = ("central", "forward", "backward")


def slow_strain(flow: NDArray[np.float32], stencil: str, convention: str, components: bool) -> NDArray[np.float64]:
    def derivative(plane: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        if plane.shape[axis] == 1:
            return np.zeros_like(plane)
        if stencil == "central":
            return np.gradient(plane, axis=axis)
        steps = np.diff(plane, axis=axis)
        if stencil == "forward":
            return np.concatenate([steps, np.take(steps, [-1], axis)], axis)
        return np.concatenate([np.zeros_like(np.take(steps, [0], axis)), steps], axis)

    u, v = flow[..., 0].astype(float), flow[..., 1].astype(float)
    ux, uy, vx, vy = derivative(u, -1), derivative(u, -2), derivative(v, -1), derivative(v, -2)
    if convention == "mmme":
        ux, uy, vx, vy = uy, ux, vy, vx
    exx, eyy, exy = ux, vy, (uy + vx) / 2
    return np.stack([exx, eyy, exy], -1) if components else np.sqrt(exx**2 + eyy**2 + 2 * exy**2)


@pytest.mark.parametrize("stencil", STENCILS)
@pytest.mark.parametrize("convention", ["xy", "mmme"])
@pytest.mark.parametrize("components", [False, True])
def test_strain_equals_its_slow_twin(backend: str, stencil: str, convention: str, components: bool) -> None:
    rng = np.random.default_rng(1)
    for shape in [(3, 20, 31), (1, 1, 7), (2, 7, 1), (1, 2, 2), (2, 64, 64)]:
        flow = rng.normal(size=(*shape, 2)).astype(np.float32)
        before = flow.copy()
        got = mmme_fast.optical_strain(flow, stencil=stencil, convention=convention, components=components, threads=2)
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        np.testing.assert_allclose(got, slow_strain(flow, stencil, convention, components), atol=2e-6)
        np.testing.assert_array_equal(flow, before)
        single = mmme_fast.optical_strain(
            flow[0], stencil=stencil, convention=convention, components=components, threads=1
        )
        np.testing.assert_array_equal(single, got[0])


def test_strain_of_a_rotation_is_zero_and_the_notebooks_are_not(backend: str) -> None:
    y, x = np.mgrid[:40, :40] - 20.0
    roll = np.stack([-0.02 * y, 0.02 * x], -1)
    assert mmme_fast.optical_strain(roll).max() < 1e-6
    # sqrt(u_y^2 + v_x^2): the head's roll shows as "expression".
    np.testing.assert_allclose(mmme_fast.optical_strain(roll, convention="mmme"), 0.02 * np.sqrt(2), rtol=1e-4)


def test_strain_takes_views_and_other_dtypes(backend: str) -> None:
    flow = np.random.default_rng(2).normal(size=(4, 30, 40, 2))
    view = flow[::2, ::-1, 3:33:3]
    np.testing.assert_allclose(mmme_fast.optical_strain(view), slow_strain(view, "central", "xy", False), atol=2e-6)


@pytest.mark.parametrize(
    ("flow", "options", "error", "text"),
    [
        (np.zeros((5, 5)), {}, ValueError, r"flow must be \(y, x, 2\) or \(frame, y, x, 2\), got shape \(5, 5\)"),
        (np.zeros((5, 5, 3)), {}, ValueError, r"got shape \(5, 5, 3\)"),
        (np.zeros((0, 5, 5, 2)), {}, ValueError, r"flow must not be empty, got shape \(0, 5, 5, 2\)"),
        (np.zeros((5, 5, 2), complex), {}, TypeError, "flow must be real numbers, got complex128"),
        (np.zeros((5, 5, 2)), {"stencil": "sobel"}, ValueError, "stencil must be one of 'central', .* got 'sobel'"),
        (np.zeros((5, 5, 2)), {"convention": "yx"}, ValueError, "convention must be one of 'xy', 'mmme', got 'yx'"),
        (np.zeros((5, 5, 2)), {"threads": 0}, ValueError, "threads must be a whole number of at least 1, got 0"),
    ],
)
def test_strain_errors(flow: NDArray[np.float64], options: dict[str, str], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        mmme_fast.optical_strain(flow, **options)  # type: ignore[arg-type]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
@example(16, 18, 5, 9, 1)  # half as wide
@settings(max_examples=40, deadline=None)
def test_block_means_equal_their_slow_twin(height: int, width: int, rows: int, columns: int, channels: int) -> None:
    rows, columns = min(rows, height), min(columns, width)
    values = np.random.default_rng(height).normal(size=(2, height, width, channels)).astype(np.float32)
    edges = [[size * i // n for i in range(n + 1)] for size, n in ((height, rows), (width, columns))]
    want = np.array(
        [
            [values[:, y0:y1, x0:x1].mean((1, 2), dtype=float) for x0, x1 in zip(edges[1], edges[1][1:], strict=False)]
            for y0, y1 in zip(edges[0], edges[0][1:], strict=False)
        ]
    ).transpose(2, 0, 1, 3)
    for name in mmme_fast.backends():
        before = mmme_fast.sys_info()["backend"]
        mmme_fast.use_backend(name)
        try:
            np.testing.assert_allclose(spotting.block_means(values, rows, columns), want, atol=1e-5)
        finally:
            mmme_fast.use_backend(before)


def test_block_means_rules() -> None:
    with pytest.raises(ValueError, match="rows must be at least 1 and at most 8, got 9"):
        spotting.block_means(np.zeros((1, 8, 8)), 9, 2)
    with pytest.raises(ValueError, match=r"values must be \(frame, y, x\) or .* got shape \(8, 8\)"):
        spotting.block_means(np.zeros((8, 8)), 2, 2)


def test_warp_is_exact_on_polynomials_and_repeats_the_border(backend: str) -> None:
    y, x = np.mgrid[:30, :41].astype(float)
    frame = (0.5 + 0.01 * x + 0.02 * y + 0.0004 * x * y + 0.0002 * x * x).astype(np.float32)  # cubic convolution: exact
    maps = np.array([[[1.01, 0.02, 0.3], [-0.03, 0.99, 1.2]], [[1, 0, 0], [0, 1, 0]], [[1, 0, 500], [0, 1, -500]]])
    got = motion.warp(np.stack([frame] * 3), maps, threads=2)
    sx, sy = 1.01 * x + 0.02 * y + 0.3, -0.03 * x + 0.99 * y + 1.2
    inside = (sx > 1) & (sx < 38) & (sy > 1) & (sy < 27)
    want = 0.5 + 0.01 * sx + 0.02 * sy + 0.0004 * sx * sy + 0.0002 * sx * sx
    assert inside.sum() > 500
    np.testing.assert_allclose(got[0][inside], want[inside], atol=1e-5)
    np.testing.assert_array_equal(got[1], frame)
    np.testing.assert_allclose(got[2], np.full_like(frame, frame[0, -1]), atol=1e-6)
