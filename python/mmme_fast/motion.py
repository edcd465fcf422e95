"""Head motion: the global part of flow, estimated robustly, and frames warped to undo it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import flow_fields, one_of
from mmme_fast._backend import kernels, resolve_threads

Floats = NDArray[np.float64]

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
ROUNDS = 10  # of reweighting; the fit moves by less than 1e-3 px after about 6
NOISE = 5  # per cent of a frame's cells, those of least texture, that are taken to show noise alone


def global_motion(
    flow: ArrayLike,
    *,
    model: str = "similarity",
    weights: ArrayLike | None = None,
    points: ArrayLike | None = None,
    threads: int | None = None,
) -> Floats:
    """Robust global motion of flow fields.

    Iteratively reweighted least squares with Cauchy weights whose scale is 2 x 1.4826 x the median residual of each
    field: motion of a minority of the skin does not count.

    Parameters
    ----------
    flow : array_like, (y, x, 2) or (frame, y, x, 2)
        (dx, dy) in pixels.
    model : {"translation", "similarity", "affine"}, default "similarity"
        What the motion may be.
    weights : array_like, (y, x), optional
        How far each position is trusted, at least 0; default: all alike. See `texture`.
    points : array_like, (y, x, 2), optional
        Where each flow vector stands, (x, y) in pixels; default: its indices.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float64, (2, 3) or (frame, 2, 3)
        Maps M: the position (x, y) moves to M @ (x, y, 1).

    Examples
    --------
    Half the face moves, the rest goes with the head:

    >>> from mmme_fast.motion import global_motion
    >>> flow = np.full((32, 32, 2), [1.0, -0.5])
    >>> flow[8:16, 8:16] += 3
    >>> global_motion(flow, model="translation").round(3) + 0.0
    array([[ 1. ,  0. ,  1. ],
           [ 0. ,  1. , -0.5]])
    """
    one_of(model, "model", ("translation", "similarity", "affine"))
    fields = flow_fields(flow, "flow")
    frames, height, width, _ = fields.shape
    if points is None:
        where = np.stack(np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float)), axis=-1)
    else:
        where = np.asarray(points, float)
        if where.shape != (height, width, 2):
            raise ValueError(f"points must have shape {(height, width, 2)}, got {where.shape}")
    trust = np.ones(height * width) if weights is None else np.asarray(weights, float).reshape(-1)
    if trust.shape != (height * width,):
        raise ValueError(f"weights must hold {height * width} numbers, got {trust.size}")
    if not (trust >= 0).all() or not trust.any():
        raise ValueError("weights must be at least 0, and not all of them 0")

    # Centred and scaled: the fit is as sure far from the origin and in any unit.
    where = where.reshape(-1, 2)
    centre = where.mean(0)
    scale = max(float(np.abs(where - centre).max()), 1.0)
    places = np.ascontiguousarray(((where - centre) / scale).T)
    maps = np.empty((frames, 2, 3))
    kernels().fit_motion(
        fields.reshape(frames, -1, 2), maps, places, trust / trust.max(), model, ROUNDS, resolve_threads(threads)
    )
    maps[..., :2] /= scale
    maps[..., 2] -= maps[..., :2] @ centre
    maps += IDENTITY
    result: Floats = maps[0] if np.ndim(flow) == 3 else maps
    return result


def compose(outer: Floats, inner: Floats) -> Floats:
    """Return the maps that take a point through `inner`, then `outer`; both (..., 2, 3)."""
    linear = outer[..., :2] @ inner[..., :2]
    shift = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    both: Floats = np.concatenate([linear, shift], axis=-1)
    return both


def displace(maps: Floats, points: Floats) -> Floats:
    """Return how far `maps` (..., 2, 3) move `points` (n, 2): (..., n, 2)."""
    moved: Floats = points @ np.swapaxes(maps[..., :2], -1, -2) + maps[..., None, :, 2] - points
    return moved


def warp(frames: NDArray[np.float32], maps: Floats, *, threads: int | None = None) -> NDArray[np.float32]:
    """Resample frames: position (x, y) of the result shows M @ (x, y, 1) of the frame.

    Cubic convolution (Keys 1981); outside the frame its border is repeated.

    Parameters
    ----------
    frames : ndarray of float32, (frame, y, x)
        Frames.
    maps : ndarray of float64, (frame, 2, 3)
        One map M per frame.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (frame, y, x)
    """
    out = np.empty_like(frames)
    kernels().warp(np.ascontiguousarray(frames), out, np.ascontiguousarray(maps, np.float64), resolve_threads(threads))
    return out


def texture(frame: NDArray[np.float32], rows: int, columns: int) -> Floats:
    """How well the texture of each cell of a lattice holds flow, 0 to 1.

    The smaller eigenvalue of the structure tensor, meaned over the cell, less what noise alone makes of it, against its
    median over the frame: flat skin and straight edges, where flow slips, count little, plain walls nothing, and strong
    texture does not count beyond measure.

    Parameters
    ----------
    frame : ndarray of float32, (y, x)
        One frame.
    rows, columns : int
        Size of the lattice.

    Returns
    -------
    ndarray of float64, (rows, columns)
    """
    gy, gx = np.gradient(frame)
    products = np.stack([gx * gx, gy * gy, gx * gy], axis=-1)[None].astype(np.float32)
    cells = np.empty((1, rows, columns, 3), np.float32)
    kernels().block_means(products, cells, 1)
    xx, yy, xy = cells[0].astype(float).transpose(2, 0, 1)
    smaller = np.maximum((xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy**2)) / 2, 0)
    smaller = np.maximum(smaller - np.percentile(smaller, NOISE), 0)
    if not smaller.any():  # nothing to tell them apart by
        return np.ones_like(smaller)
    trust: Floats = smaller / (smaller + float(np.median(smaller)) + 1e-12)
    return trust
