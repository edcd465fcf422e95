"""Global motion: known maps are found, whatever a minority of the skin does."""

from __future__ import annotations

import numpy as np
import pytest

from mmme_fast import motion


def field(matrix: np.ndarray, shape: tuple[int, int] = (32, 40)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    points = np.stack([x, y], -1).reshape(-1, 2)
    return motion.displace(matrix, points).reshape(*shape, 2)


@pytest.mark.parametrize(
    ("model", "matrix"),
    [
        ("translation", [[1, 0, 1.5], [0, 1, -0.7]]),
        ("similarity", [[1.01, -0.02, 1.5], [0.02, 1.01, -0.7]]),
        ("affine", [[1.01, -0.03, 1.5], [0.01, 0.98, -0.7]]),
    ],
)
def test_a_known_map_is_found_beside_an_expression(model: str, matrix: list[list[float]]) -> None:
    rng = np.random.default_rng(0)
    truth = np.array(matrix)
    flow = field(truth) + rng.normal(scale=0.02, size=(32, 40, 2))
    flow[20:28, 5:15] += [0.5, 2.0]  # a smile
    got = motion.global_motion(np.stack([flow, np.zeros_like(flow)]), model=model)
    np.testing.assert_allclose(field(got[0]), field(truth), atol=0.03)
    np.testing.assert_allclose(got[1], motion.IDENTITY, atol=1e-9)
    np.testing.assert_allclose(motion.global_motion(flow, model=model), got[0], atol=1e-6)


def test_weights_say_what_counts() -> None:
    flow = np.zeros((10, 10, 2))
    flow[:, 5:] = [3, 0]
    weights = np.zeros((10, 10))
    weights[:, 5:] = 1
    np.testing.assert_allclose(
        motion.global_motion(flow, model="translation", weights=weights), [[1, 0, 3], [0, 1, 0]], atol=1e-6
    )


def test_maps_compose_in_order() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0]])
    shift = np.array([[1.0, 0, 5], [0, 1, 0]])
    np.testing.assert_allclose(motion.compose(turn, shift), [[0, -1, 0], [1, 0, 5]])


def test_texture_trusts_corners_not_edges_or_flat_skin() -> None:
    y, x = np.mgrid[:48, :48]
    frame = np.zeros((48, 48), np.float32)
    frame[:, :16] = np.sin(y[:, :16]) * np.sin(x[:, :16])
    frame[:, 32:] = np.sin(x[:, 32:])
    assert (motion.texture(np.zeros_like(frame), 3, 3) == 1).all()
    trust = motion.texture(frame, 3, 3)
    assert trust[1, 0] > 0.5
    assert trust[1, 1] < 0.1
    assert trust[1, 2] < 0.1


def test_motion_rules() -> None:
    flow = np.zeros((4, 5, 2))
    with pytest.raises(ValueError, match=r"model must be one of .* got 'rigid'"):
        motion.global_motion(flow, model="rigid")
    with pytest.raises(ValueError, match="weights must hold 20 numbers, got 3"):
        motion.global_motion(flow, weights=[1, 2, 3])
    with pytest.raises(ValueError, match="weights must be at least 0, and not all of them 0"):
        motion.global_motion(flow, weights=np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"points must have shape \(4, 5, 2\), got \(2,\)"):
        motion.global_motion(flow, points=[1, 2])
