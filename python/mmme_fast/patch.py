"""OpenCV's dense flow on our kernels, in scripts that know nothing of them."""

from __future__ import annotations

import functools
import logging
import math
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmme_fast._arrays import MAX_SIZE
from mmme_fast._backend import active_backend, get_num_threads, kernels

logger = logging.getLogger("mmme_fast")

OURS = "mmme_fast"
# Since patch_cv2(), of each patched name: how many calls ran on our kernels, and how many on stock OpenCV for what
# reason.
calls: dict[str, Counter[str]] = {}

_U8, _U16, _F32, _F64 = map(np.dtype, ("u1", "u2", "f4", "f8"))

# In pixels. Of smaller frames a call costs as much as what it computes; threads that share the rows of a pair cost more
# than they bring.
_MIN_SIZE = 16
_WORTH_THREADS = 128 * 128

_USE_INITIAL_FLOW, _GAUSSIAN = 4, 256  # cv2's flags


class _Call:
    """One call: what its conditions look at, and what the kernel takes.

    `parameters` are the kernel's, in its order. `starts` is whether the flow given is the one to start from; None:
    when there is one.
    """

    def __init__(
        self,
        prev: Any,
        curr: Any,
        flow: Any,
        parameters: tuple[Any, ...],
        *,
        starts: bool | None,
        solver: Any = None,
        flags: Any = 0,
    ) -> None:
        self.prev, self.curr, self.flow = _seen(prev), _seen(curr), flow
        self.parameters, self.solver, self.flags = parameters, solver, flags
        self._starts = starts

    @property
    def given(self) -> bool:
        """Whether cv2 writes into the flow given; one of another size or type it leaves alone."""
        flow = self.flow
        return flow is not None and flow.dtype == _F32 and flow.shape == (*self.prev.shape, 2)

    @property
    def starts(self) -> bool:
        return self.given if self._starts is None else self._starts

    def run(self, kernel: Callable[..., None], threads: int) -> Any:
        """Return the flow, as cv2 does: the very array given for it, where there is one."""
        flow = self.flow if self.given else np.empty((*self.prev.shape, 2), _F32)
        seen = np.asarray(flow)
        out = seen if seen.flags.c_contiguous else seen.copy()
        kernel(_film(self.prev), _film(self.curr), out[None], self.starts, *self.parameters, threads)
        if out is not seen:
            seen[...] = out
        return flow


def _seen(frame: Any) -> Any:
    """What cv2 sees of an array: the memory, whatever the subclass, and no axis for a single channel."""
    if type(frame) is not np.ndarray:
        if not isinstance(frame, np.ndarray):
            return frame
        frame = np.asarray(frame)
    return frame[:, :, 0] if frame.ndim == 3 and frame.shape[2] == 1 else frame


def _film(frame: NDArray[Any]) -> NDArray[Any]:
    """A film of one frame, as kernels take it: aligned, with the pixels of a row adjacent."""
    return (frame if frame.strides[1] == frame.itemsize and frame.flags.aligned else frame.copy())[None]


def _writable(flow: Any) -> bool:
    """Whether cv2 takes this for its argument flow."""
    if flow is None:
        return True
    if not isinstance(flow, np.ndarray) or flow.ndim not in (2, 3) or flow.dtype not in (_F32, _F64, _U8, _U16):
        return False
    rows, pixel = flow.strides[0], flow.itemsize * (flow.shape[2] if flow.ndim == 3 else 1)
    adjacent = flow.strides[1] == pixel and flow.strides[-1] == flow.itemsize and rows >= pixel * flow.shape[1]
    return adjacent and flow.flags.writeable and flow.flags.aligned


def _sized(shape: tuple[int, int]) -> bool:
    return _MIN_SIZE <= shape[0] <= MAX_SIZE and _MIN_SIZE <= shape[1] <= MAX_SIZE


def _within(frame: NDArray[Any], low: float, high: float) -> bool:
    """Whether floats are in low..high, as NaN is not."""
    return frame.dtype.kind != "f" or bool(low <= frame.min() and frame.max() <= high)


# What cv2 takes for an integer, and for a number.
_WHOLE = {int, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64}
_REAL = {float, np.float32, np.float64, *_WHOLE}


# What holds of the calls that our kernels take. A call goes to stock OpenCV for the first reason that applies.
_Condition = tuple[str, Callable[[_Call], bool]]

_ARRAYS: tuple[_Condition, ...] = (
    ("frames that are not NumPy arrays", lambda c: isinstance(c.prev, np.ndarray) and isinstance(c.curr, np.ndarray)),
    ("frames of several channels or different sizes", lambda c: c.prev.ndim == 2 and c.prev.shape == c.curr.shape),
    (
        f"frames under {_MIN_SIZE} or over {MAX_SIZE} pixels high or wide",
        lambda c: _sized(c.prev.shape),
    ),
    ("a flow argument that is neither None nor a writable array", lambda c: _writable(c.flow)),
    ("an initial flow that is missing or of another size", lambda c: not c.starts or c.given),
    ("an initial flow that is not finite", lambda c: not c.starts or bool(np.isfinite(c.flow).all())),
)


def _tvl1(solver: Any, I0: Any, I1: Any, flow: Any) -> _Call:
    parameters = (
        solver.getTau(), solver.getLambda(), solver.getTheta(), solver.getScalesNumber(), solver.getWarpingsNumber(),
        solver.getEpsilon(), solver.getInnerIterations(), solver.getOuterIterations(), solver.getScaleStep(),
        max(solver.getMedianFiltering(), 1), 0,
    )  # fmt: skip
    return _Call(I0, I1, flow, parameters, starts=solver.getUseInitialFlow(), solver=solver)


def _tvl1_takes(call: _Call) -> bool:
    tau, lambda_, theta, scales, warps, epsilon, inner, outer, step, median, _ = call.parameters
    return (
        all(0 < value < math.inf for value in (tau, lambda_, theta))
        and 0 <= epsilon < math.inf
        and min(scales, warps, inner, outer) >= 1
        and scales <= 100
        and 0.1 <= step <= 0.99
        and median in (1, 3, 5)
    )


_TVL1: tuple[_Condition, ...] = (
    *_ARRAYS,
    ("frames that are not both uint8 or both float32", lambda c: c.prev.dtype == c.curr.dtype in (_U8, _F32)),
    ("float frames beyond 0..1", lambda c: _within(c.prev, -1, 2) and _within(c.curr, -1, 2)),
    ("gamma other than 0", lambda c: c.solver.getGamma() == 0),
    ("parameters beyond those of mmme_fast.tvl1", _tvl1_takes),
)


def _farneback_function(
    prev: Any, next: Any, flow: Any, pyr_scale: Any, levels: Any, winsize: Any, iterations: Any, poly_n: Any,
    poly_sigma: Any, flags: Any,
) -> _Call:  # fmt: skip
    parameters = (pyr_scale, levels, winsize, iterations, poly_n, poly_sigma, bool(flags & _GAUSSIAN))
    return _Call(prev, next, flow, parameters, starts=bool(flags & _USE_INITIAL_FLOW), flags=flags)


def _farneback(solver: Any, I0: Any, I1: Any, flow: Any) -> _Call:
    call = _farneback_function(
        I0, I1, flow, solver.getPyrScale(), solver.getNumLevels(), solver.getWinSize(), solver.getNumIters(),
        solver.getPolyN(), solver.getPolySigma(), solver.getFlags(),
    )  # fmt: skip
    call.solver = solver
    return call


def _farneback_takes(call: _Call) -> bool:
    pyr_scale, levels, window, iterations, poly_n, poly_sigma, _ = call.parameters
    return (
        _REAL.issuperset((type(pyr_scale), type(poly_sigma)))
        and _WHOLE.issuperset(map(type, (levels, window, iterations, poly_n, call.flags)))
        and 0.1 <= pyr_scale <= 0.99
        and 0 <= levels <= 100
        and 1 <= window <= 1000
        and iterations >= 1
        and 3 <= poly_n <= 31
        and 0.2 <= poly_sigma < math.inf  # with less, the neighbours' weights vanish in single precision
    )


def _farneback_kernel(prev: NDArray[Any], curr: NDArray[Any], *rest: Any) -> None:
    kernels().farneback(_scaled(prev), _scaled(curr), *rest)


def _scaled(frame: NDArray[Any]) -> NDArray[Any]:
    # cv2 takes deeper frames at their own scale; our kernel multiplies floats by 255.
    if frame.dtype == _U8:
        return frame
    scaled: NDArray[np.float32] = np.multiply(frame, np.float32(1 / 255), dtype=np.float32, casting="unsafe")
    return scaled


_FARNEBACK: tuple[_Condition, ...] = (
    *_ARRAYS,
    (
        "frames that are not uint8, uint16, float32 or float64",
        lambda c: c.prev.dtype in (_U8, _U16, _F32, _F64) and c.curr.dtype in (_U8, _U16, _F32, _F64),
    ),
    (
        "float frames beyond 65535, or not finite",
        lambda c: _within(c.prev, -65535, 65535) and _within(c.curr, -65535, 65535),
    ),
    ("flags that mmme_fast does not know", lambda c: not c.flags & ~(_USE_INITIAL_FLOW | _GAUSSIAN)),
    ("fast pyramids", lambda c: c.solver is None or not c.solver.getFastPyramids()),
    ("parameters beyond those of mmme_fast.farneback", _farneback_takes),
    (  # where Numba's kernel is slower than OpenCV
        "frames under 128 x 128 pixels on the Numba backend",
        lambda c: c.prev.size >= 128 * 128 or active_backend() != "numba",
    ),
)


def _dis(solver: Any, I0: Any, I1: Any, flow: Any) -> _Call:
    parameters = (
        solver.getFinestScale(), solver.getPatchStride(), solver.getGradientDescentIterations(),
        solver.getVariationalRefinementIterations(),
    )  # fmt: skip
    return _Call(I0, I1, flow, parameters, starts=None, solver=solver)


def _dis_keeps_scales(call: _Call) -> bool:
    """Whether the pyramid reaches the object's finest scale; where it does not, OpenCV changes the object."""
    most, least = max(call.prev.shape), min(call.prev.shape)
    coarsest = min(int(math.log2(most / 32) + 0.5), int(math.log2(least / 8)))
    return bool(coarsest >= call.parameters[0])


def _dis_takes(call: _Call) -> bool:
    solver, (finest, stride, iterations, refinements) = call.solver, call.parameters
    epsilon = getattr(solver, "getVariationalRefinementEpsilon", lambda: 0.01)()  # not in every version
    return (
        finest >= 0
        and 1 <= stride <= 8
        and iterations >= 2
        and refinements >= 0
        and getattr(solver, "getCoarsestScale", lambda: -1)() == -1
        and solver.getPatchSize() == 8
        and solver.getUseMeanNormalization()
        and solver.getUseSpatialPropagation()
        and solver.getVariationalRefinementAlpha() == 20
        and solver.getVariationalRefinementDelta() == 5
        and solver.getVariationalRefinementGamma() == 10
        and abs(epsilon - 0.01) < 1e-6
    )


_DIS: tuple[_Condition, ...] = (
    *_ARRAYS,
    ("frames that are not uint8", lambda c: c.prev.dtype == c.curr.dtype == _U8),
    ("parameters that OpenCV's presets never change", _dis_takes),
    ("frames too small for the object's finest scale", _dis_keeps_scales),
    ("the Numba backend, which is slower", lambda c: active_backend() != "numba"),
)


class Patch(NamedTuple):
    """One name of cv2 that runs on a kernel of ours instead."""

    name: str  # below cv2
    read: Callable[..., _Call]  # with cv2's names of the arguments
    kernel: Callable[..., None]
    conditions: tuple[_Condition, ...]
    asked: bool = False  # patched only on request


# Objects keep their class, so that what creates them need not be patched.
PATCHES = (
    Patch("optflow.DualTVL1OpticalFlow.calc", _tvl1, lambda *a: kernels().tvl1(*a), _TVL1),
    Patch("calcOpticalFlowFarneback", _farneback_function, _farneback_kernel, _FARNEBACK),
    Patch("FarnebackOpticalFlow.calc", _farneback, _farneback_kernel, _FARNEBACK),
    Patch("DISOpticalFlow.calc", _dis, lambda *a: kernels().dis(*a), _DIS, asked=True),
)
_REFUSED = "arguments that OpenCV refuses"

_INHERITED = object()
_installed: dict[str, tuple[Any, str, Any]] = {}  # owner, attribute and what it was


def patch_cv2(*, dis: bool = False) -> ExitStack:
    """Let cv2's dense flow run on the kernels of mmme_fast, wherever the process calls it from now on.

    That is ``calc`` of cv2.optflow.DualTVL1OpticalFlow (where cv2 has the contrib modules) and of
    cv2.FarnebackOpticalFlow, however created, and cv2.calcOpticalFlowFarneback. An object's own parameters hold, the
    flow is written into the array given for it, and what mmme_fast does not cover goes to stock OpenCV: the logger
    "mmme_fast" has each reason once, at level INFO, and with MMME_FAST_VERBOSE=1 standard error as well.

    Threads are as many as both `get_num_threads` and cv2.getNumThreads allow.

    Parameters
    ----------
    dis : bool, default False
        Take calc of cv2.DISOpticalFlow as well, whose bits differ a little more: by a mean of up to .001 pixel from
        OpenCV 5, of up to .03 from version 4, which rounds coordinates.

    Returns
    -------
    context manager
        ``with patch_cv2(): ...`` undoes at its end what the call changed. It may be ignored: `unpatch_cv2` undoes all.

    Raises
    ------
    ImportError
        When no cv2 is installed.

    Notes
    -----
    Who did ``from cv2 import calcOpticalFlowFarneback`` before this call keeps OpenCV's function; methods are reached
    in any case.

    Examples
    --------
    >>> with mf.patch_cv2():
    ...     mf.cv2_is_patched()
    True
    >>> mf.cv2_is_patched()
    False
    """
    cv2 = _cv2()
    _speak()
    undo = ExitStack()
    for patch in PATCHES:
        if patch.name in _installed or (patch.asked and not dis):
            continue
        *path, attribute = patch.name.split(".")
        try:
            owner = functools.reduce(getattr, path, cv2)
            stock = getattr(owner, attribute)
        except AttributeError:
            logger.info("cv2.%s is not in this OpenCV", patch.name)
            continue
        _installed[patch.name] = owner, attribute, vars(owner).get(attribute, _INHERITED)
        calls[patch.name] = Counter()
        setattr(owner, attribute, _replacement(patch, stock, cv2.getNumThreads))
        undo.callback(_undo, patch.name)
    return undo


def unpatch_cv2() -> None:
    """Give cv2 back every function and method that `patch_cv2` changed.

    Examples
    --------
    >>> patched = mf.patch_cv2()
    >>> mf.unpatch_cv2()
    >>> mf.cv2_is_patched()
    False
    """
    for name in tuple(_installed):
        _undo(name)


def cv2_is_patched() -> bool:
    """Return whether cv2's dense flow runs on the kernels of mmme_fast.

    Examples
    --------
    >>> mf.cv2_is_patched()
    False
    """
    return bool(_installed)


def _undo(name: str) -> None:
    if name not in _installed:
        return
    owner, attribute, before = _installed.pop(name)
    if before is _INHERITED:
        delattr(owner, attribute)
    else:
        setattr(owner, attribute, before)
    ours = calls[name][OURS]
    logger.info("cv2.%s: %d calls on mmme_fast, %d on stock OpenCV", name, ours, calls[name].total() - ours)


def _unmet(conditions: tuple[_Condition, ...], call: _Call) -> str | None:
    for reason, holds in conditions:
        if not holds(call):
            return reason
    return None


def _replacement(patch: Patch, stock: Callable[..., Any], opencv_threads: Callable[[], int]) -> Callable[..., Any]:
    count = calls[patch.name]

    @functools.wraps(stock)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        try:
            call = patch.read(*args, **kwargs)
        except (TypeError, ValueError):  # missing or unknown arguments, flags that are no number
            reason = _REFUSED
        else:
            unmet = _unmet(patch.conditions, call)
            if unmet is None:
                count[OURS] += 1
                small = call.prev.size < _WORTH_THREADS
                return call.run(patch.kernel, 1 if small else max(1, min(get_num_threads(), opencv_threads())))
            reason = unmet
        if reason not in count:
            logger.info("cv2.%s goes to stock OpenCV: %s", patch.name, reason)
        count[reason] += 1
        return stock(*args, **kwargs)

    return replacement


def _cv2() -> Any:
    try:
        import cv2
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        raise ImportError(
            "patch_cv2 needs OpenCV, and no cv2 is installed: 'pip install opencv-contrib-python-headless' brings one"
        ) from error
    return cv2


def _speak() -> None:
    """With MMME_FAST_VERBOSE=1, let the log be seen."""
    if os.environ.get("MMME_FAST_VERBOSE") == "1" and not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("mmme_fast: %(message)s"))
            logger.addHandler(handler)
