"""Optical strain: how the skin deforms, from how it moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import flow_fields, one_of
from mmme_fast._backend import kernels, resolve_threads


def optical_strain(
    flow: ArrayLike,
    *,
    stencil: str = "central",
    convention: str = "xy",
    components: bool = False,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Optical strain of dense flow.

    With flow (u, v): exx = du/dx, eyy = dv/dy, exy = (du/dy + dv/dx) / 2; the magnitude is
    sqrt(exx^2 + eyy^2 + 2 exy^2). A rigid rotation has none.

    Parameters
    ----------
    flow : array_like, (y, x, 2) or (frame, y, x, 2)
        (dx, dy) in pixels; computed as float32.
    stencil : {"central", "forward", "backward"}, default "central"
        How derivatives are taken. "central" is ``numpy.gradient``: one-sided at the borders. "forward" is the next
        pixel minus this one, the last difference repeated (SOFTNet). "backward" is this pixel minus the one before,
        the first difference 0 (MEAN).
    convention : {"xy", "mmme"}, default "xy"
        "mmme" reproduces the notebooks of the MMME data set, which take the axes of ``numpy.gradient`` the wrong way
        round: their magnitude is sqrt(u_y^2 + v_x^2 + (u_x + v_y)^2 / 2), and a rotation of the head shows as strain.
    components : bool, default False
        Return (exx, eyy, exy) instead of the magnitude.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (y, x) or (frame, y, x); with `components` a last axis of 3
        Strain, in pixels per pixel.

    References
    ----------
    Shreve, Godavarthy, Goldgof, Sarkar, "Macro- and micro-expression spotting in long videos using spatio-temporal
    strain", FG 2011. Liong, Phan, See, Oh, Wong, "Optical strain based recognition of subtle emotions", ISPACS 2014.

    Examples
    --------
    A head that turns by one degree does not deform:

    >>> y, x = np.mgrid[:64, :64] - 31.5
    >>> turned = np.radians(1) * np.stack([-y, x], axis=-1)
    >>> bool(mf.optical_strain(turned).max() < 1e-6)
    True
    >>> round(float(mf.optical_strain(turned, convention="mmme").mean()), 4)
    0.0247
    """
    fields = flow_fields(flow, "flow")
    one_of(stencil, "stencil", ("central", "forward", "backward"))
    one_of(convention, "convention", ("xy", "mmme"))
    out = np.empty((*fields.shape[:3], 3) if components else fields.shape[:3], np.float32)
    kernels().strain(fields, out, stencil, convention, bool(components), resolve_threads(threads))
    return out[0] if np.ndim(flow) == 3 else out
