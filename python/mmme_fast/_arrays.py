"""Coercion of what users pass to the exact arrays that kernels take, and the wording of every error about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Frames = NDArray[Any]

MIN_SIZE = 8  # pixels; the smallest frame that a dense flow method makes sense of
MAX_SIZE = 32767


def number(value: float, name: str, *, low: float, high: float = np.inf, open_low: bool = False) -> float:
    """Return `value` as a float in [low, high], or in (low, high] with `open_low`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r}")
    inside = (low < value if open_low else low <= value) and value <= high
    if not (inside and np.isfinite(value)):
        rule = f"{'above' if open_low else 'at least'} {low:g}" + (
            f" and at most {high:g}" if np.isfinite(high) else ""
        )
        raise ValueError(f"{name} must be {rule}, got {value!r}")
    return float(value)


def whole(value: int, name: str, *, low: int, high: int | None = None) -> int:
    """Return `value` as an int in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(
            f"{name} must be at least {low}{'' if high is None else f' and at most {high}'}, got {value!r}"
        )
    return int(value)


def one_of(value: str, name: str, allowed: tuple[str, ...]) -> str:
    """Return `value` when it is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def not_finite(values: NDArray[Any]) -> list[int]:
    """Return in which values[i], none of them below 0, some are NaN or too large for float32."""
    with np.errstate(over="ignore"):
        largest = values.max(axis=tuple(range(1, values.ndim)), initial=0).astype(np.float32)
    indices: list[int] = np.flatnonzero(~np.isfinite(largest)).tolist()
    return indices


def frames(value: ArrayLike, name: str) -> Frames:
    """Return frames as uint8, uint16 or float32, (y, x) or (frame, y, x), with the pixels of a row adjacent."""
    array = np.asarray(value)
    if array.ndim not in (2, 3):
        raise ValueError(f"{name} must be 2-D or 3-D (frame, y, x), got shape {array.shape}")
    if array.ndim == 3 and not len(array):
        raise ValueError(f"{name} must hold at least one frame, got shape {array.shape}")
    if min(array.shape[-2:]) < MIN_SIZE or max(array.shape[-2:]) > MAX_SIZE:
        raise ValueError(f"{name} must be {MIN_SIZE} to {MAX_SIZE} pixels high and wide, got shape {array.shape}")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{name} must be finite, got NaN or infinity")
        if low < -1 or high > 2:
            raise ValueError(
                f"{name} must be in 0..1 as float, got {low:g} to {high:g}; pass uint8 frames, or divide by 255"
            )
    elif array.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    else:
        raise TypeError(f"{name} must be uint8, uint16 or float in 0..1, got {array.dtype}")
    # Rows may lie anywhere; a kernel reads along them.
    readable = array.flags.aligned and array.strides[-1] == array.itemsize
    return array if readable else array.copy(order="C")


def pairs(prev: ArrayLike, curr: ArrayLike) -> tuple[Frames, Frames, bool]:
    """Return prev and curr as (frame, y, x), broadcast against each other, and whether both were single frames."""
    a, b = frames(prev, "prev"), frames(curr, "curr")
    if a.shape[-2:] != b.shape[-2:]:
        raise ValueError(f"prev and curr must have frames of the same size, got {a.shape[-2:]} and {b.shape[-2:]}")
    single = a.ndim == b.ndim == 2
    a, b = (f[None] if f.ndim == 2 else f for f in (a, b))
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(f"prev and curr must have the same number of frames or one, got {len(a)} and {len(b)}")
    n = max(len(a), len(b))
    a, b = (np.broadcast_to(f, (n, *f.shape[1:])) for f in (a, b))
    return a, b, single


def flow_fields(value: ArrayLike, name: str) -> NDArray[np.float32]:
    """Return flow as contiguous float32 of shape (frame, y, x, 2); a single field gets a frame axis."""
    array = np.asarray(value)
    if array.ndim not in (3, 4) or array.shape[-1] != 2:
        raise ValueError(f"{name} must be (y, x, 2) or (frame, y, x, 2), got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    if 0 in array.shape:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    array = reals(array, name)
    return array if array.ndim == 4 else array[None]


def start_flow(initial: ArrayLike | None, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return the array for the flow of `shape` (frame, y, x), filled with `initial` when that is given."""
    if initial is None:
        return np.empty((*shape, 2), np.float32)
    fields = flow_fields(initial, "initial_flow")
    if fields.shape[1:] != (*shape[1:], 2) or len(fields) not in (1, shape[0]):
        raise ValueError(f"initial_flow must broadcast to shape {(*shape, 2)}, got {np.shape(initial)}")
    if not np.isfinite(fields).all():
        raise ValueError("initial_flow must be finite, got NaN or infinity")
    flow: NDArray[np.float32] = np.broadcast_to(fields, (*shape, 2)).copy()
    return flow


def reals(value: ArrayLike, name: str) -> NDArray[np.float32]:
    """Return real numbers as contiguous float32, each at an address that is a multiple of four."""
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    return np.require(array, np.float32, ["C", "A"])


def channels(value: ArrayLike, name: str) -> NDArray[Any]:
    """Return a signal (channel, sample) as float32 or float64, with the samples of a channel adjacent."""
    array = np.asarray(value)
    if array.ndim != 2:
        raise ValueError(f"{name} must be 2-D (channel, sample), got shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name} must hold at least one channel and one sample, got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    exact_in_float32 = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    array = array.astype(np.float32 if exact_in_float32 else np.float64, copy=False)
    step = array.strides[0]
    readable = array.flags.aligned and array.strides[1] == array.itemsize and step >= 0 and step % array.itemsize == 0
    return array if readable else array.copy(order="C")
