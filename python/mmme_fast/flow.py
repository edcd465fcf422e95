"""Dense optical flow: frames in, flow out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import number, one_of, pairs, start_flow, whole
from mmme_fast._backend import kernels, resolve_threads

# OpenCV 5's presets of dense inverse search: finest scale, patch stride, iterations of the search, fixed-point
# iterations of the variational refinement.
_DIS_PRESETS = {"ultrafast": (2, 4, 12, 0), "fast": (2, 4, 16, 5), "medium": (1, 3, 25, 5)}


def tvl1(
    prev: ArrayLike,
    curr: ArrayLike,
    *,
    tau: float = 0.25,
    lambda_: float = 0.15,
    theta: float = 0.3,
    scales: int = 5,
    warps: int = 5,
    epsilon: float = 0.01,
    inner_iterations: int = 30,
    outer_iterations: int = 10,
    scale_step: float = 0.8,
    median: int = 5,
    initial_flow: ArrayLike | None = None,
    warm_start: int = 0,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Dense optical flow by duality-based TV-L1.

    The result is that of OpenCV 5's ``cv2.optflow.DualTVL1OpticalFlow`` with the same parameters and ``gamma=0``, up to
    the rounding to which that algorithm itself is sensitive.

    Parameters
    ----------
    prev, curr : array_like, (y, x) or (frame, y, x)
        Frames as uint8 (0-255), uint16 (0-65535) or float (0-1), at least 8 x 8 pixels. They broadcast against each
        other: ``tvl1(film[:-k], film[k:])`` takes an interval of k frames, ``tvl1(film[0], film[1:])`` a reference.
    tau : float, default 0.25
        Time step of the dual scheme.
    lambda_ : float, default 0.15
        Weight of the data term; smaller is smoother.
    theta : float, default 0.3
        Tightness of the coupling between data term and regularisation.
    scales : int, default 5
        Levels of the pyramid; fewer are used where a level would be under 16 pixels.
    warps : int, default 5
        Warps per level.
    epsilon : float, default 0.01
        The inner iterations stop when the mean squared change of the flow per pixel falls below epsilon^2.
    inner_iterations, outer_iterations : int, default 30, 10
        Upper bounds: iterations between two median filters, and the number of those rounds per warp.
    scale_step : float, default 0.8
        Size of a level over the one before, 0 < scale_step < 1.
    median : {1, 3, 5}, default 5
        Width of the median filter over the flow; 1 is none.
    initial_flow : array_like, (y, x, 2) or (frame, y, x, 2), optional
        Flow to start from, in pixels.
    warm_start : int, default 0
        For films, whose neighbouring flows are alike, several times faster: each pair goes on from the flow of the pair
        before it, on the finest level alone, with 0.6 of epsilon and at most 2 warps: the first one iteration long, the
        last at most 4 times inner_iterations. Every warm_start-th pair starts afresh (0: all do), and so does one that
        the flow before it explains badly, as beyond a cut: where the mean of ``|curr(x + flow) - prev|`` exceeds 1.5
        times that of the last fresh flow or of no flow, plus half a grey level.
        The result does not depend on the number of threads; calls with a multiple of warm_start pairs give together
        what one call gives.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (y, x, 2) or (frame, y, x, 2)
        (dx, dy) in pixels: ``curr[y + dy, x + dx]`` shows what ``prev[y, x]`` showed.

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule; the message names argument, rule and value.

    References
    ----------
    Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007.
    Sanchez Perez, Meinhardt-Llopis, Facciolo, "TV-L1 optical flow estimation", Image Processing On Line 3, 2013.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> prev, curr, known = synth.flow_pair(128, seed=1)
    >>> flow = mf.tvl1(prev, curr)
    >>> flow.shape, flow.dtype
    ((128, 128, 2), dtype('float32'))
    >>> bool(np.linalg.norm(flow - known, axis=-1).mean() < 0.3)  # mean error in pixels
    True
    """
    a, b, single = pairs(prev, curr)
    tau = number(tau, "tau", low=0, open_low=True)
    lambda_ = number(lambda_, "lambda_", low=0, open_low=True)
    theta = number(theta, "theta", low=0, open_low=True)
    epsilon = number(epsilon, "epsilon", low=0)
    scale_step = number(scale_step, "scale_step", low=0.1, high=0.99)
    scales = whole(scales, "scales", low=1, high=100)
    warps = whole(warps, "warps", low=1)
    inner_iterations = whole(inner_iterations, "inner_iterations", low=1)
    outer_iterations = whole(outer_iterations, "outer_iterations", low=1)
    warm_start = whole(warm_start, "warm_start", low=0)
    if median not in (1, 3, 5):
        raise ValueError(f"median must be 1, 3 or 5, got {median!r}")
    flow = start_flow(initial_flow, a.shape)
    kernels().tvl1(
        a, b, flow, initial_flow is not None, tau, lambda_, theta, scales, warps, epsilon, inner_iterations,
        outer_iterations, scale_step, median, warm_start, resolve_threads(threads),
    )  # fmt: skip
    return flow[0] if single else flow


def farneback(
    prev: ArrayLike,
    curr: ArrayLike,
    *,
    pyr_scale: float = 0.5,
    levels: int = 3,
    window: int = 15,
    iterations: int = 5,
    poly_n: int = 7,
    poly_sigma: float = 1.5,
    gaussian: bool = False,
    initial_flow: ArrayLike | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Dense optical flow by polynomial expansion (Farneback).

    The result is that of ``cv2.calcOpticalFlowFarneback`` with the same parameters. The defaults are those of the
    micro-expression spotting literature.

    Parameters
    ----------
    prev, curr : array_like, (y, x) or (frame, y, x)
        Frames as uint8 (0-255), uint16 (0-65535) or float (0-1), at least 8 x 8 pixels. They broadcast against each
        other: ``farneback(film[0], film[1:])`` is every frame against a reference.
    pyr_scale : float, default 0.5
        Size of a level over the one before, 0 < pyr_scale < 1.
    levels : int, default 3
        Levels of the pyramid above the frames themselves; fewer are used where a level would be under 32 pixels.
    window : int, default 15
        Width of the averaging window, in pixels.
    iterations : int, default 5
        Iterations per level.
    poly_n : int, default 7
        Pixels to each side in the neighbourhood of the polynomial expansion (2 * poly_n + 1 wide), as in OpenCV.
    poly_sigma : float, default 1.5
        Standard deviation of the Gaussian that weights that neighbourhood, at least 0.2 pixels.
    gaussian : bool, default False
        Average with a Gaussian window instead of a box (OPTFLOW_FARNEBACK_GAUSSIAN).
    initial_flow : array_like, (y, x, 2) or (frame, y, x, 2), optional
        Flow to start from, in pixels (OPTFLOW_USE_INITIAL_FLOW).
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (y, x, 2) or (frame, y, x, 2)
        (dx, dy) in pixels: ``curr[y + dy, x + dx]`` shows what ``prev[y, x]`` showed.

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule; the message names argument, rule and value.

    References
    ----------
    Farneback, "Two-frame motion estimation based on polynomial expansion", SCIA 2003.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> film = synth.film(0.5, fps=20, size=128, seed=1, micro=0, macro=0, blinks=0).frames()
    >>> mf.farneback(film[0], film[1:]).shape  # every frame against the first
    (9, 128, 128, 2)
    >>> mf.farneback(film[:-3], film[3:]).shape  # pairs three frames apart
    (7, 128, 128, 2)
    """
    a, b, single = pairs(prev, curr)
    pyr_scale = number(pyr_scale, "pyr_scale", low=0.1, high=0.99)
    poly_sigma = number(poly_sigma, "poly_sigma", low=0.2)  # narrower, and the neighbours have no weight left
    levels = whole(levels, "levels", low=0, high=100)
    window = whole(window, "window", low=1)
    iterations = whole(iterations, "iterations", low=1)
    poly_n = whole(poly_n, "poly_n", low=3, high=31)
    flow = start_flow(initial_flow, a.shape)
    kernels().farneback(
        a, b, flow, initial_flow is not None, pyr_scale, levels, window, iterations, poly_n, poly_sigma, bool(gaussian),
        resolve_threads(threads),
    )  # fmt: skip
    return flow[0] if single else flow


def dis(
    prev: ArrayLike,
    curr: ArrayLike,
    *,
    preset: str = "medium",
    initial_flow: ArrayLike | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Dense optical flow by dense inverse search (DIS).

    The result is that of OpenCV 5's ``cv2.DISOpticalFlow`` with the same preset, up to rounding.

    Parameters
    ----------
    prev, curr : array_like, (y, x) or (frame, y, x)
        Frames as uint8 (0-255), uint16 (0-65535) or float (0-1), at least 8 x 8 pixels. They broadcast against each
        other: ``dis(film[0], film[1:])`` is every frame against a reference. The pyramid of uint8 frames is rounded
        to whole grey values, as OpenCV has it; that of deeper frames, which OpenCV does not take, is not.
    preset : {"medium", "fast", "ultrafast"}, default "medium"
        "medium" computes the flow at half the size of the frames, the others at a quarter; "ultrafast" leaves out the
        variational refinement. Frames too small for that are computed at a larger scale.
    initial_flow : array_like, (y, x, 2) or (frame, y, x, 2), optional
        Flow that each patch tries, at every level, beside what was found so far, in pixels.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (y, x, 2) or (frame, y, x, 2)
        (dx, dy) in pixels: ``curr[y + dy, x + dx]`` shows what ``prev[y, x]`` showed.

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule; the message names argument, rule and value.

    References
    ----------
    Kroeger, Timofte, Dai, Van Gool, "Fast optical flow using dense inverse search", ECCV 2016.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> prev, curr, known = synth.flow_pair(128, seed=1)
    >>> mf.dis(prev, curr, preset="fast").shape
    (128, 128, 2)
    """
    a, b, single = pairs(prev, curr)
    parameters = _DIS_PRESETS[one_of(preset, "preset", tuple(_DIS_PRESETS))]
    flow = start_flow(initial_flow, a.shape)
    kernels().dis(a, b, flow, initial_flow is not None, *parameters, resolve_threads(threads))
    return flow[0] if single else flow


FLOWS: dict[str, Callable[..., NDArray[np.float32]]] = {"farneback": farneback, "tvl1": tvl1, "dis": dis}
