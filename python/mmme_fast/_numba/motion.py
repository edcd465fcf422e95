"""The motion that most of a flow field shares, by reweighted least squares; the twin of cpp/kernels/motion.cpp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmme_fast._numba._batch import parallel_for


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _fit(x: Any, y: Any, u: Any, v: Any, w: Any, similarity: bool, affine: bool) -> Any:
    s = sx = sy = su = sv = sxx = sxy = syy = sxu = syu = sxv = syv = 0.0
    for i in range(len(x)):
        wx, wy = w[i] * x[i], w[i] * y[i]
        s += w[i]
        sx += wx
        sy += wy
        su += w[i] * u[i]
        sv += w[i] * v[i]
        sxx += wx * x[i]
        sxy += wx * y[i]
        syy += wy * y[i]
        sxu += wx * u[i]
        syu += wy * u[i]
        sxv += wx * v[i]
        syv += wy * v[i]
    mx, my, mu, mv, ridge = sx / s, sy / s, su / s, sv / s, 1e-12 * (s + sxx + syy)
    xx, yy, xy = sxx - sx * mx + ridge, syy - sy * my + ridge, sxy - sx * my
    xu, yu, xv, yv = sxu - sx * mu, syu - sy * mu, sxv - sx * mv, syv - sy * mv
    a = b = c = d = 0.0
    if similarity:
        a = d = (xu + yv) / (xx + yy)
        c = (xv - yu) / (xx + yy)
        b = -c
    elif affine:
        det = xx * yy - xy * xy
        a, b = (yy * xu - xy * yu) / det, (xx * yu - xy * xu) / det
        c, d = (yy * xv - xy * yv) / det, (xx * yv - xy * xv) / det
    return a, b, mu - a * mx - b * my, c, d, mv - c * mx - d * my


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_motion(flow: Any, out: Any, points: Any, trust: Any, similarity: bool, affine: bool, rounds: int) -> None:
    x, y = points[0], points[1]
    u, v, w = flow[:, 0].astype(np.float64), flow[:, 1].astype(np.float64), trust.copy()
    error = np.empty(len(x), np.float32)
    middle = len(x) // 2
    a, b, tx, c, d, ty = _fit(x, y, u, v, w, similarity, affine)
    for _ in range(1, rounds):
        for i in range(len(x)):
            du, dv = u[i] - (a * x[i] + b * y[i] + tx), v[i] - (c * x[i] + d * y[i] + ty)
            error[i] = du * du + dv * dv
        spread = 2 * 1.4826 * math.sqrt(np.float64(np.partition(error, middle)[middle])) + 1e-6
        per = 1 / (spread * spread)
        for i in range(len(x)):
            w[i] = trust[i] / (1 + np.float64(error[i]) * per)
        a, b, tx, c, d, ty = _fit(x, y, u, v, w, similarity, affine)
    out[0], out[1], out[2], out[3], out[4], out[5] = a, b, tx, c, d, ty


def fit_motion(
    flow: NDArray[np.float32],
    out: NDArray[np.float64],
    points: NDArray[np.float64],
    trust: NDArray[np.float64],
    model: str,
    rounds: int,
    threads: int,
) -> None:
    """Maps that most of each flow field follows, written to out."""
    similarity, affine = model == "similarity", model == "affine"

    def body(i: int) -> None:
        _fit_motion(flow[i], out[i].reshape(-1), points, trust, similarity, affine, rounds)

    parallel_for(len(flow), threads, body)
