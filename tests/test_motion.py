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


def plain_fit(field: np.ndarray, basis: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Reweighted least squares in NumPy: field (n, 2), basis (2, n, unknown) -> parameters."""
    w = trust
    for _ in range(motion.ROUNDS):
        root = np.sqrt(w)
        rows = (basis * root[:, None]).reshape(-1, basis.shape[-1])
        p: np.ndarray = np.linalg.lstsq(rows, (field * root[:, None]).T.reshape(-1), rcond=None)[0]
        error = np.hypot(*(field.T - basis @ p))
        spread = 2 * 1.4826 * np.sort(error)[len(error) // 2] + 1e-6
        w = trust / (1 + (error / spread) ** 2)
    return p


@pytest.mark.parametrize("shape", [(13, 17), (3, 4), (40, 1)])
@pytest.mark.parametrize("model", ["translation", "similarity", "affine"])
def test_global_motion_is_the_plain_fit(backend: str, model: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    rows, columns = shape
    flow = rng.normal(size=(9, rows, columns, 2)).astype(np.float32)
    flow += field(np.array([[1.1, -0.2, 3], [0.3, 0.9, -2]]), shape).astype(np.float32)
    flow[:, rows // 2 :] += np.float32(4)
    weights = rng.uniform(size=shape) * (rng.uniform(size=shape) > 0.2)
    points = rng.uniform(-5, 5, (rows, columns, 2)) + np.array([300, 200])
    got = motion.global_motion(flow, model=model, weights=weights, points=points, threads=1)
    assert (got == motion.global_motion(flow, model=model, weights=weights, points=points, threads=3)).all()

    x, y = (points.reshape(-1, 2) - [300, 200]).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    columns_of = {
        "translation": ([one, zero], [zero, one]),
        "similarity": ([x, -y, one, zero], [y, x, zero, one]),
        "affine": ([x, y, one, zero, zero, zero], [zero, zero, zero, x, y, one]),
    }
    basis = np.array(columns_of[model]).transpose(0, 2, 1)
    for one_map, one_field in zip(got, flow.reshape(9, -1, 2), strict=True):
        expected = basis @ plain_fit(one_field.astype(float), basis, weights.reshape(-1))
        np.testing.assert_allclose(motion.displace(one_map, points.reshape(-1, 2)).T, expected, atol=1e-5)


def test_what_a_field_leaves_open_stays_still(backend: str) -> None:
    flow = np.full((2, 4, 5, 2), [3, -1], np.float32)
    weights = np.zeros((4, 5))
    weights[1] = 1e-300  # a line: nothing tells how the field grows across it
    for model in ("similarity", "affine"):
        got = motion.global_motion(flow, model=model, weights=weights)
        np.testing.assert_allclose(got, [[[1, 0, 3], [0, 1, -1]]] * 2, atol=1e-5)
    assert motion.global_motion(flow[:, :1, :1], model="affine").tolist() == [[[1, 0, 3], [0, 1, -1]]] * 2
    flow[0, 2, 2] = np.nan
    assert np.isnan(motion.global_motion(flow, weights=weights)).any((1, 2)).tolist() == [True, False]


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
