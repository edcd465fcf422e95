from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

def supported() -> list[str]: ...
def active() -> str: ...
def use(name: str) -> bool: ...
def release_workspaces() -> None: ...
def tvl1(
    prev: NDArray[Any],
    curr: NDArray[Any],
    flow: Floats,
    use_initial: bool,
    tau: float,
    lambda_: float,
    theta: float,
    scales: int,
    warps: int,
    epsilon: float,
    inner_iterations: int,
    outer_iterations: int,
    scale_step: float,
    median: int,
    warm_start: int,
    threads: int,
) -> None: ...
def farneback(
    prev: NDArray[Any],
    curr: NDArray[Any],
    flow: Floats,
    use_initial: bool,
    pyr_scale: float,
    levels: int,
    window: int,
    iterations: int,
    poly_n: int,
    poly_sigma: float,
    gaussian: bool,
    threads: int,
) -> None: ...
def dis(
    prev: NDArray[Any],
    curr: NDArray[Any],
    flow: Floats,
    use_initial: bool,
    finest_scale: int,
    patch_stride: int,
    iterations: int,
    refinements: int,
    threads: int,
) -> None: ...
def strain(flow: Floats, out: Floats, stencil: str, convention: str, components: bool, threads: int) -> None: ...
def block_means(values: Floats, out: Floats, threads: int) -> None: ...
def lbp(frames: Floats, out: Floats, threads: int) -> None: ...
def chi_square(before: Floats, at: Floats, after: Floats, out: Floats, threads: int) -> None: ...
def mdmd(a: Floats, b: Floats, out: Floats, quadrant: str, threads: int) -> None: ...
def warp(frames: Floats, out: Floats, matrices: NDArray[np.float64], threads: int) -> None: ...
def fit_motion(
    flow: Floats,
    out: NDArray[np.float64],
    points: NDArray[np.float64],
    trust: NDArray[np.float64],
    model: str,
    rounds: int,
    threads: int,
) -> None: ...
def sliding(values: Floats, out: Floats, window: int, statistic: str, p: float, threads: int) -> None: ...
def band_power(
    data: NDArray[Any],
    out: Floats,
    starts: NDArray[np.int64],
    taper: Floats,
    detrend: bool,
    nfft: int,
    bins: NDArray[np.int32],
    weights: Floats,
    threads: int,
) -> None: ...
def overlapping_band_power(
    data: NDArray[Any],
    out: Floats,
    starts: NDArray[np.int64],
    first: int,
    window: int,
    cuts: NDArray[np.int32],
    places: NDArray[np.int32],
    basis: Floats,
    a: float,
    b: float,
    detrend: bool,
    bins: NDArray[np.int32],
    weights: Floats,
    threads: int,
) -> list[int]: ...
def clip_power(
    data: NDArray[Any],
    out: NDArray[np.float64],
    starts: NDArray[np.int64],
    hop: int,
    window: int,
    near_reach: int,
    far_reach: int,
    near_matrix: NDArray[np.float32],
    far_matrix: NDArray[np.float32],
    curves: NDArray[np.float64],
    slow: NDArray[np.float64],
    inner: int,
    block: int,
    weights: NDArray[np.float64],
    threads: int,
) -> None: ...
