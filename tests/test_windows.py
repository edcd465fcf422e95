"""Sliding windows: every backend against NumPy's own windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mmme_fast

STATISTICS = ("mean", "sum", "max", "min", "range", "threshold")


def slow(values: NDArray[np.float32], window: int, statistic: str, p: float) -> NDArray[np.float64]:
    w = np.lib.stride_tricks.sliding_window_view(values.astype(float), window, axis=0)
    mean, high, low = w.mean(-1), w.max(-1), w.min(-1)
    both = {"range": high - low, "threshold": mean + p * (high - mean)}
    return {"mean": mean, "sum": w.sum(-1), "max": high, "min": low, **both}[statistic]


@given(st.integers(1, 90), st.integers(1, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_windows_equal_numpy(samples: int, lanes: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(1, samples))
    statistic = data.draw(st.sampled_from(STATISTICS))
    threads = data.draw(st.integers(1, 3))
    values = np.random.default_rng(samples * 100 + lanes).normal(size=(samples, lanes)).astype(np.float32)
    before = mmme_fast.sys_info()["backend"]
    for name in mmme_fast.backends():
        mmme_fast.use_backend(name)
        got = mmme_fast.sliding_window(values, window, statistic, p=0.3, threads=threads)
        np.testing.assert_allclose(got, slow(values, window, statistic, 0.3), atol=2e-5)
        single = mmme_fast.sliding_window(values, window, statistic, p=0.3, threads=1)
        np.testing.assert_array_equal(got, single)
    mmme_fast.use_backend(before)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_huge_value_leaves_no_trace(backend: str, statistic: str) -> None:
    values = np.random.default_rng(3).normal(size=500).astype(np.float32)
    spoiled = values.copy()
    spoiled[100] = 3e8
    clean = mmme_fast.sliding_window(values, 20, statistic)
    np.testing.assert_array_equal(mmme_fast.sliding_window(spoiled, 20, statistic)[101:], clean[101:])


def test_one_signal_and_a_view(backend: str) -> None:
    values = np.arange(20.0)
    np.testing.assert_allclose(mmme_fast.sliding_window(values, 5), np.arange(2, 18))
    np.testing.assert_allclose(mmme_fast.sliding_window(values[::-2], 2, "max"), values[::-2][:-1])


def test_window_rules() -> None:
    with pytest.raises(ValueError, match="window must be at least 1 and at most 5, got 6"):
        mmme_fast.sliding_window(np.zeros(5), 6)
    with pytest.raises(ValueError, match="window must be at least 1 and at most 5, got 0"):
        mmme_fast.sliding_window(np.zeros(5), 0)
    with pytest.raises(ValueError, match="values must be finite, got NaN or infinity"):
        mmme_fast.sliding_window([1.0, np.nan], 1)
    with pytest.raises(ValueError, match=r"values must be 1-D or 2-D \(sample, lane\), got shape \(2, 2, 2\)"):
        mmme_fast.sliding_window(np.zeros((2, 2, 2)), 1)
    with pytest.raises(ValueError, match=r"statistic must be one of 'mean', .* got 'median'"):
        mmme_fast.sliding_window(np.zeros(5), 1, "median")
    with pytest.raises(TypeError, match="values must be real numbers, got complex128"):
        mmme_fast.sliding_window(np.zeros(5, complex), 1)
    with pytest.raises(ValueError, match="p must be at least 0 and at most 1, got 2"):
        mmme_fast.sliding_window(np.zeros(5), 1, "threshold", p=2)
