"""Native kernels beside their Numba twins, whatever they are given: shapes, strides, dtypes, parameters.

`make cases` runs 10,000 of these.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmme_fast

CASES = int(os.environ.get("MMME_FAST_CASES", "20"))
_spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).with_name("fuzz.py"))
assert _spec is not None
assert _spec.loader is not None
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)


class Choices:
    """What Atheris gives the fuzzer, by Hypothesis, which reduces a case that fails; once more from the start."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw
        self._drawn: list[Any] = []
        self._at = 0

    def again(self) -> Choices:
        self._at = 0
        return self

    def _next(self, strategy: Any) -> Any:
        if self._at == len(self._drawn):
            self._drawn.append(self._draw(strategy))
        self._at += 1
        return self._drawn[self._at - 1]

    def ConsumeIntInRange(self, low: int, high: int) -> Any:  # noqa: N802
        return self._next(st.integers(low, high))

    def ConsumeFloatInRange(self, low: float, high: float) -> Any:  # noqa: N802
        return self._next(st.floats(low, high))

    def ConsumeRegularFloat(self) -> Any:  # noqa: N802
        return self._next(st.floats(allow_nan=False, allow_infinity=False))

    def ConsumeProbability(self) -> Any:  # noqa: N802
        return self._next(st.integers(0, 99)) / 100

    def ConsumeBool(self) -> Any:  # noqa: N802
        return self._next(st.booleans())

    def ConsumeBytes(self, size: int) -> Any:  # noqa: N802
        return self._next(st.binary(min_size=size, max_size=size))


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_twins_agree_whatever_they_are_given(data: st.DataObject) -> None:
    before = mmme_fast.sys_info()["backend"]
    choices = Choices(data.draw)
    try:
        fuzz.compared(choices.again)
    finally:
        mmme_fast.use_backend(before)
