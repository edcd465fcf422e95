"""What the benchmarks share: the stock library and every backend in turn, and one thread for OpenCV."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import mmme_fast
from mmme_fast import _backend


@pytest.fixture(params=["stock", *mmme_fast.backends()])
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """The library to measure: "stock" (OpenCV, SciPy or NumPy, one thread) or one of our backends, made active."""
    try:
        import cv2
    except ImportError:
        pass
    else:
        cv2.setNumThreads(1)
    before = _backend.active_backend()
    if request.param != "stock":
        mmme_fast.use_backend(request.param)
    yield request.param
    mmme_fast.use_backend(before)
