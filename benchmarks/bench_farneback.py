"""Farneback flow beside OpenCV's, one thread each: one pair, and a film of 64 frames in interval and
reference form and pair by pair."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import farneback, synth

cv2 = pytest.importorskip("cv2")

Array = NDArray[Any]
FRAMES = 64


@cache
def film(size: int) -> Array:
    return synth.film(1, FRAMES, size, micro=0, macro=0, blinks=0, sway=3, seed=1).frames()


def opencv(prev: Array, curr: Array) -> Array:
    pairs = zip(np.broadcast_to(prev, curr.shape), curr, strict=True)
    return np.stack([cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 5, 7, 1.5, 0) for a, b in pairs])


def pair_by_pair(prev: Array, curr: Array) -> Array:
    return np.stack([farneback(a, b, threads=1) for a, b in zip(prev, curr, strict=True)])


@pytest.mark.parametrize("size", [128, 256, 512])
def bench_farneback_pair(benchmark: Any, backend: str, beside: Any, note_epe: Any, size: int) -> None:
    benchmark.group = f"farneback {size}x{size}, one pair"
    prev, curr = film(size)[:2], film(size)[5:7]  # two, one after the other, so that no frame is known from before
    rounds = {128: 40, 256: 15, 512: 7}[size]
    ours, theirs = beside(lambda: pair_by_pair(prev, curr), lambda: opencv(prev, curr), rounds=rounds)
    assert note_epe(ours, theirs).mean() < 1e-4


@pytest.mark.parametrize("form", ["interval", "reference", "pair by pair"])
@pytest.mark.parametrize("size", [128, 256, 512])
def bench_farneback_film(benchmark: Any, backend: str, beside: Any, note_epe: Any, size: int, form: str) -> None:
    benchmark.group = f"farneback {size}x{size}, film of {FRAMES} frames, {form}"
    frames = film(size)
    prev, curr = (frames[0] if form == "reference" else frames[:-1]), frames[1:]
    call = pair_by_pair if form == "pair by pair" else partial(farneback, threads=1)
    some = slice(None, None, {128: 1, 256: 4, 512: 12}[size])
    fewer = prev[some] if prev.ndim == 3 else prev, curr[some]
    ours, theirs = beside(lambda: call(prev, curr), lambda: opencv(*fewer), share=len(fewer[1]) / len(curr))
    assert note_epe(ours[some], theirs).mean() < 1e-4
