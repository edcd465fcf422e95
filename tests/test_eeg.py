"""Band power against SciPy in double precision, and recordings of every format against what was written into them."""

from __future__ import annotations

import json
import logging
import struct
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, signal

from mmme_fast import eeg

RTOL = 5e-5


@pytest.fixture(autouse=True)
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test goes through the backends, no FFT takes their work over."""
    if "backend" in request.fixturenames:
        monkeypatch.setattr(eeg, "_FFT", (np.inf, 0, 0))


def noise(channels: int, samples: int, seed: int = 0) -> NDArray[np.float64]:
    """Background EEG in volts: noise whose power falls with frequency, and some that does not."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((channels, samples))
    return 1e-5 * signal.lfilter([0.3], [1, -0.9], white) + 1e-6 * rng.standard_normal((channels, samples))


def expected(
    data: NDArray[Any],
    sfreq: float,
    starts: NDArray[np.int64],
    n: int,
    bands: list[tuple[float, float]],
    *,
    taper: str = "hann",
    detrend: str = "constant",
    scaling: str = "density",
    aggregate: str = "mean",
) -> NDArray[np.float64]:
    out = np.empty((len(starts), len(data), len(bands)))
    for i, start in enumerate(starts):
        f, p = signal.periodogram(
            data[:, start : start + n].astype(np.float64),
            sfreq,
            taper,
            detrend=False if detrend == "none" else detrend,
            scaling=scaling,
        )
        for k, (low, high) in enumerate(bands):
            inside = (f >= low - 1e-6) & (f <= high + 1e-6)
            if aggregate == "mean":
                out[i, :, k] = p[:, inside].mean(axis=1)
            else:
                out[i, :, k] = integrate.trapezoid(p[:, inside], f[inside], axis=1)
    return out


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    channels=st.integers(1, 11),
    n=st.integers(8, 220),
    windows=st.integers(1, 5),
    sfreq=st.sampled_from([100.0, 128.0, 499.7]),
    dtype=st.sampled_from([np.float32, np.float64]),
    taper=st.sampled_from(["hann", "hamming", "boxcar"]),
    detrend=st.sampled_from(["constant", "none"]),
    mode=st.sampled_from([("density", "mean"), ("density", "trapezoid"), ("spectrum", "mean")]),
    seed=st.integers(0, 99),
)
def test_band_power_is_scipys_periodogram(
    backend: str,
    channels: int,
    n: int,
    windows: int,
    sfreq: float,
    dtype: type,
    taper: str,
    detrend: str,
    mode: tuple[str, str],
    seed: int,
) -> None:
    data = (noise(channels, n + 3 * windows, seed) + 1e-4).astype(dtype)
    starts = 3 * np.arange(windows)
    resolution = sfreq / n
    bands = [(0.0, resolution), (resolution, 3.2 * resolution), (2 * resolution, sfreq / 2)]
    scaling, aggregate = mode
    got = eeg.band_power(
        data, sfreq, bands=bands, window=n / sfreq, at=starts / sfreq, taper=taper, detrend=detrend, scaling=scaling,
        aggregate=aggregate, threads=2,
    )  # fmt: skip
    want = expected(data, sfreq, starts, n, bands, taper=taper, detrend=detrend, scaling=scaling, aggregate=aggregate)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    # A sum of few bins may all but vanish beside the window's total.
    np.testing.assert_allclose(got, want, rtol=RTOL, atol=1e-8 * want.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_band_power_keeps_its_digits_beside_an_offset_and_after_an_artefact(backend: str, dtype: type) -> None:
    sfreq, n = 1000.0, 1000
    data = noise(5, 4 * n) + 0.02  # an offset of 20,000 uV
    data[:, n - 40 : n] += 250 * data.std()  # ends where the second window starts
    data = data.astype(dtype)
    got = eeg.band_power(data, sfreq)
    want = expected(data, sfreq, n * np.arange(4), n, list(eeg.BANDS.values()))
    np.testing.assert_allclose(got, want, rtol=RTOL)


def test_band_power_keeps_its_digits_where_the_taper_hides_an_artefact(backend: str) -> None:
    data = noise(2, 1000).astype(np.float32)
    data[:, 0] += np.float32(250 * data.std())  # Hann's first weight is 0
    want = expected(data, 1000.0, np.array([0]), 1000, list(eeg.BANDS.values()))
    np.testing.assert_allclose(eeg.band_power(data, 1000), want, rtol=RTOL)


def test_band_power_is_scipys_spectrogram_and_welch(backend: str) -> None:
    data, sfreq = noise(3, 2000), 250.0
    got = eeg.band_power(data, sfreq, window=2, hop=0.5, bands={"low": (1, 4), "all": (0, 125)})
    f, _, p = signal.spectrogram(data, sfreq, "hann", 500, 375)
    want = np.stack([p[:, (f >= low) & (f <= high)].mean(axis=1).T for low, high in [(1, 4), (0, 125)]], axis=-1)
    np.testing.assert_allclose(got, want, rtol=RTOL)
    f, p = signal.welch(data, sfreq, "hann", 500, 375)
    np.testing.assert_allclose(got[:, :, 1].mean(axis=0), p.mean(axis=1), rtol=RTOL)


def test_band_power_of_a_sine_is_its_mean_square() -> None:
    t = np.arange(1000) / 500
    tone = 3e-6 * np.sin(2 * np.pi * 10 * t)[None] + 5e-3
    total = eeg.band_power(tone, 500, window=2, bands=[(8, 12)], aggregate="trapezoid")
    np.testing.assert_allclose(total, np.full((1, 1, 1), 9e-12 / 2), rtol=1e-5)
    peak = eeg.band_power(tone, 500, window=2, bands=[(9.8, 10.2)], scaling="spectrum", taper="boxcar")
    np.testing.assert_allclose(peak, np.full((1, 1, 1), 9e-12 / 2), rtol=1e-5)


def test_band_power_takes_bands_beyond_one_panel_of_bins(backend: str) -> None:
    data, sfreq, n = noise(9, 1200), 300.0, 601
    bands = [(low, low + 11.5) for low in range(0, 137, 3)] + [(0.0, 150.0)]
    got = eeg.band_power(data, sfreq, bands=bands, window=n / sfreq, hop=0.37)
    starts = np.rint(np.arange(len(got)) * 0.37 * sfreq).astype(np.int64)
    assert 1200 - n - 111 < starts[-1] <= 1200 - n
    np.testing.assert_allclose(got, expected(data, sfreq, starts, n, bands), rtol=RTOL)


def test_band_power_has_one_value_per_video_frame() -> None:
    data, sfreq, fps = noise(2, 3000), 1000.0, 150.0
    by_hop = eeg.band_power(data, sfreq, hop=1 / fps)
    by_time = eeg.band_power(data, sfreq, at=np.arange(301) / fps)
    assert len(by_hop) == 301
    assert np.array_equal(by_hop, by_time)
    starts = np.rint(np.arange(0, 301, 50) * sfreq / fps).astype(np.int64)
    np.testing.assert_allclose(by_hop[::50], expected(data, sfreq, starts, 1000, list(eeg.BANDS.values())), rtol=RTOL)


@pytest.mark.parametrize(("samples", "windows"), [(1000, 1), (1999, 1), (2000, 2), (2001, 2)])
def test_band_power_windows_lie_side_by_side_by_default(samples: int, windows: int) -> None:
    assert eeg.band_power(noise(1, samples), 1000).shape == (windows, 1, 5)


def test_band_power_has_the_same_bits_for_any_threads_and_any_company(backend: str) -> None:
    data = noise(13, 3000).astype(np.float32)
    alone = eeg.band_power(data, 500, hop=0.1, threads=1)
    for threads in (2, 3, 7):
        assert np.array_equal(alone, eeg.band_power(data, 500, hop=0.1, threads=threads))
    assert np.array_equal(alone[:, 1:13], eeg.band_power(data[1:13], 500, hop=0.1))  # few channels take another way
    assert np.array_equal(alone[7:37], eeg.band_power(data, 500, at=np.arange(7, 37) / 10))
    assert np.array_equal(alone[::-1], eeg.band_power(data, 500, at=np.arange(len(alone))[::-1] / 10))


def test_band_power_takes_any_layout_and_leaves_its_input(backend: str) -> None:
    data = (noise(4, 600) * 1e9).astype(np.int16)
    want = eeg.band_power(data.astype(np.float32), 200)
    for other in (
        data,
        data.astype(">f4"),
        data.astype(np.float32).T.copy().T,
        data.astype(np.float32)[::-1][::-1],
        np.repeat(data.astype(np.float32), 2, axis=1)[:, ::2],
        np.hstack([data, data]).astype(np.float32)[:, :600],
        np.frombuffer(b"x" + data.astype(np.float32).tobytes(), np.float32, offset=1, count=data.size).reshape(4, 600),
    ):
        before = other.copy()
        assert np.array_equal(eeg.band_power(other, 200), want)
        assert np.array_equal(other, before)
    wide = data.astype(np.int32).tolist()
    np.testing.assert_allclose(eeg.band_power(wide, 200), want, rtol=1e-6)


def test_a_hop_beyond_the_data_leaves_one_window() -> None:
    data = np.random.default_rng(0).normal(size=(1, 500))
    for hop in (5, 1e30, 1e308):  # the last is infinite in samples
        np.testing.assert_array_equal(eeg.band_power(data, 200, hop=hop), eeg.band_power(data[:, :200], 200))


GOOD = np.ones((2, 500))
BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("no samples", {"data": np.ones((2, 0))}, ValueError, r"data must hold .* one sample, got shape \(2, 0\)"),
    ("no channels", {"data": np.ones((0, 9))}, ValueError, r"data must hold .* one channel .* got shape \(0, 9\)"),
    ("1-D", {"data": np.ones(500)}, ValueError, r"data must be 2-D \(channel, sample\), got shape \(500,\)"),
    ("3-D", {"data": np.ones((2, 3, 5))}, ValueError, r"data must be 2-D .* got shape \(2, 3, 5\)"),
    ("complex", {"data": GOOD * 1j}, TypeError, "data must be real numbers, got complex128"),
    ("text", {"data": np.full((2, 500), "a")}, TypeError, "data must be real numbers, got <U1"),
    ("sfreq 0", {"sfreq": 0}, ValueError, "sfreq must be above 0 .* got 0"),
    ("sfreq < 0", {"sfreq": -100.0}, ValueError, "sfreq must be above 0 .* got -100"),
    ("sfreq NaN", {"sfreq": np.nan}, ValueError, "sfreq must be above 0 .* got nan"),
    ("sfreq text", {"sfreq": "100"}, TypeError, "sfreq must be a number, got '100'"),
    ("long window", {"window": 6.0}, ValueError, "window must be at most the data's length, 5 s, got 6 s"),
    ("window 0", {"window": 0}, ValueError, "window must be above 0, got 0"),
    ("tiny window", {"window": 0.01}, ValueError, "window must be 2 to .* samples .* got 0.01"),
    ("hop 0", {"hop": 0}, ValueError, "hop must be above 0, got 0"),
    ("hop NaN", {"hop": np.nan}, ValueError, "hop must be above 0, got nan"),
    ("tiny hop", {"hop": 0.001}, ValueError, "hop must be at least one sample, 0.01 s, got 0.001"),
    ("at early", {"at": [1, -0.5]}, ValueError, r"at must be 0 to 4 s, .*, got at\[1\] = -0.5"),
    ("at late", {"at": [4.1]}, ValueError, r"at must be 0 to 4 s, .*, got at\[0\] = 4.1"),
    ("at NaN", {"at": [0.0, np.nan]}, ValueError, r"at must be 0 to 4 s, .*, got at\[1\] = nan"),
    ("at empty", {"at": []}, ValueError, r"at must be 1-D with at least one time, got shape \(0,\)"),
    ("at text", {"at": ["a"]}, TypeError, "at must be real numbers, got <U1"),
    ("at and hop", {"at": [0.0], "hop": 1.0}, ValueError, "hop must be None where at is given, got 1.0"),
    ("Nyquist", {"bands": {"g": (30, 51)}}, ValueError, r"bands\['g'\] must end .* Nyquist .* 50 Hz, got 30-51 Hz"),
    ("narrow", {"bands": [(4.2, 4.8)]}, ValueError, "at least one bin, got 4.2-4.8 Hz, .* resolution of 1 Hz"),
    ("one bin", {"bands": [(4, 4.5)], "aggregate": "trapezoid"}, ValueError, "at least two bins .* of 1 Hz"),
    ("band < 0", {"bands": [(-1, 4)]}, ValueError, r"bands\[0\] low must be at least 0, got -1"),
    ("band NaN", {"bands": [(1, np.nan)]}, ValueError, r"bands\[0\] high must be at least 0, got nan"),
    ("reversed", {"bands": {"a": (8, 4)}}, ValueError, r"bands\['a'\] must have low below high, got 8-4 Hz"),
    ("no band", {"bands": {}}, ValueError, "bands must hold at least one band, got none"),
    ("band of 3", {"bands": [(1, 2, 3)]}, ValueError, r"bands\[0\] must be \(low, high\) in Hz, got \(1, 2, 3\)"),
    ("band text", {"bands": "alpha"}, TypeError, "bands must be a mapping .* got 'alpha'"),
    ("taper", {"taper": "hanning"}, ValueError, "taper must be one of .*'hann'.* got 'hanning'"),
    ("detrend", {"detrend": "line"}, ValueError, "detrend must be one of 'constant', 'linear', 'none', got 'line'"),
    ("scaling", {"scaling": "psd"}, ValueError, "scaling must be one of 'density', 'spectrum', got 'psd'"),
    ("aggregate", {"aggregate": "max"}, ValueError, "aggregate must be one of 'mean', .*'sum', got 'max'"),
    ("integral", {"aggregate": "trapezoid", "scaling": "spectrum"}, ValueError, "scaling must be 'density' for"),
    ("preset", {"preset": "eeglab"}, ValueError, "preset must be one of 'mmme', .* got 'eeglab'"),
    ("entropy of a mean", {"output": "entropy"}, ValueError, "aggregate, for output='entropy', must be .* got 'mean'"),
    ("part of a mean", {"output": "relative"}, ValueError, "aggregate, for output='relative', must be .* got 'mean'"),
    ("half", {"output": "entropy", "aggregate": "sum", "sides": "two"}, ValueError, "sides must be 'one' for"),
    ("nfft", {"nfft": 1}, ValueError, "nfft must be at least 2 .* got 1"),
    (
        "nfft of parts",
        {"nfft": 20, "subwindow": 0.5},
        ValueError,
        "nfft must be at least the sub-window's 50 .* got 20",
    ),
    ("nfft float", {"nfft": 64.0}, TypeError, "nfft must be a whole number, got 64.0"),
    ("subwindow", {"subwindow": 2.0}, ValueError, "subwindow must be 2 to 100 samples .* got 2.0 s"),
    ("endless subwindow", {"subwindow": 1e308}, ValueError, r"subwindow must be 2 to 100 samples .* got 1e\+308 s"),
    ("endless window", {"window": 1e307}, ValueError, r"window must be 2 to 1048576 samples .* got 1e\+307 s"),
    ("subwindows", {"window": 1e300, "subwindow": 0.5}, ValueError, "window must hold at most 1048576 sub-windows"),
    ("sfreq", {"sfreq": 1e308}, ValueError, r"sfreq must be above 0 and at most 1e\+09, got 1e\+308"),
    ("overlap", {"overlap": 1.0}, ValueError, "overlap must be at least 0 and at most 0.99, got 1.0"),
    ("half-open", {"bands": [(4.2, 5)], "edges": "half-open"}, ValueError, "at least one bin"),
    ("all taper", {"window": 0.02, "taper": "hann_symmetric", "bands": [(0, 50)]}, ValueError, "window must be longer"),
    ("threads", {"threads": 0}, ValueError, "threads must be a whole number of at least 1, got 0"),
    ("huge", {"data": GOOD * 1e30 * np.arange(500)}, ValueError, "data must be small enough .* channel 0 too large"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_band_power_names_what_is_wrong(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        eeg.band_power(**({"data": GOOD, "sfreq": 100} | arguments))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_band_power_refuses_nan_and_infinity(backend: str, bad: float, tmp_path: Path) -> None:
    data = noise(3, 2000).astype(np.float32)
    data[1, 1234] = bad
    text = f"data must be finite, got {bad} in channel 1, sample 1234"
    with pytest.raises(ValueError, match=text):
        eeg.band_power(data, 100, taper="boxcar")
    np.save(tmp_path / "bad.npy", data)
    stream = eeg.stream_band_power(eeg.open_recording(tmp_path / "bad.npy", sfreq=100), chunk=3)
    with pytest.raises(ValueError, match=text):
        stream.save(tmp_path / "out.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npy"]
    eeg.band_power(data, 100, at=[11, 13])  # beside it all is well


# Conventions, each against the library or the rule that it is named after.

WIDE = [(0.0, 4.0), (4.0, 9.5), (9.5, 32.0)]


def in_double(**options: Any) -> dict[str, Any]:
    return {"sfreq": 64.0, "window": 2.0, "hop": 0.75, "bands": WIDE} | options


@pytest.mark.parametrize("detrend", ["constant", "linear", "none"])
@pytest.mark.parametrize("average", ["mean", "median"])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_sub_windows_are_scipys_welch(detrend: str, average: str, precision: str) -> None:
    data = noise(3, 400) + 1e-5
    got = eeg.band_power(
        data, **in_double(subwindow=0.5, overlap=0.6, detrend=detrend, average=average, nfft=48, precision=precision)
    )
    for i, power in enumerate(got):
        f, p = signal.welch(
            data[:, 48 * i : 48 * i + 128], 64, "hann", 32, 19, 48, detrend if detrend != "none" else False,
            average=average,
        )  # fmt: skip
        want = np.stack([p[:, (f >= low) & (f <= high)].mean(axis=1) for low, high in WIDE], axis=-1)
        np.testing.assert_allclose(power, want, rtol=1e-6 if precision == "double" else RTOL)


@pytest.mark.parametrize("nfft", [100, 128, 200, 513])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_nfft_and_sides_are_scipys_periodogram(nfft: int, precision: str) -> None:
    data = noise(2, 400).astype(np.float32)
    for sides in ("one", "two"):
        got = eeg.band_power(data, **in_double(nfft=nfft, sides=sides, precision=precision))
        for i, power in enumerate(got):
            f, p = signal.periodogram(
                data[:, 48 * i : 48 * i + 128].astype(float), 64, "hann", nfft, return_onesided=sides == "one"
            )
            f = np.where(f == -32, 32, f)  # the Nyquist frequency counts as positive
            want = np.stack([p[:, (f >= low) & (f <= high)].mean(axis=1) for low, high in WIDE], axis=-1)
            np.testing.assert_allclose(power, want, rtol=1e-6 if precision == "double" else RTOL)


@pytest.mark.parametrize("n", range(2, 12))
def test_rules_are_scipys_integrals(n: int) -> None:
    basis = np.eye(n)
    np.testing.assert_allclose(eeg._rule("simpson", n), integrate.simpson(basis, axis=1), atol=1e-15)
    np.testing.assert_allclose(eeg._rule("trapezoid", n), integrate.trapezoid(basis, axis=1))
    np.testing.assert_allclose(eeg._rule("mean", n), basis.mean(axis=1))
    assert np.array_equal(eeg._rule("sum", n), np.ones(n))


@pytest.mark.parametrize("precision", ["single", "double"])
def test_edges_and_aggregates_take_the_bins_that_they_name(precision: str) -> None:
    data = noise(2, 128)
    f, p = signal.periodogram(data, 64, "hann")  # bins of 0.5 Hz
    for edges, (low, high), inside in (
        ("inclusive", (4, 9), (f >= 4) & (f <= 9)),
        ("half-open", (4, 9), (f >= 4) & (f < 9)),
        ("outer", (4.2, 8.7), (f >= 4) & (f <= 9)),
        ("outer", (4, 9), (f >= 4) & (f <= 9)),
        ("half-open", (4.2, 32), (f > 4.2) & (f < 32)),
    ):
        band = p[:, inside]
        for aggregate, want in (
            ("mean", band.mean(axis=1)),
            ("sum", band.sum(axis=1) / 2),
            ("trapezoid", integrate.trapezoid(band, dx=0.5)),
            ("simpson", integrate.simpson(band, dx=0.5)),
        ):
            got = eeg.band_power(
                data, **in_double(bands=[(low, high)], edges=edges, aggregate=aggregate, precision=precision)
            )
            np.testing.assert_allclose(got[0, :, 0], want, rtol=RTOL)


def test_outputs_are_functions_of_the_power() -> None:
    data = noise(2, 400)
    bands = [(1.0, 4.0), (6.0, 9.0), (20.0, 25.0)]
    power = eeg.band_power(data, **in_double(bands=bands, aggregate="simpson")).astype(float)
    whole = eeg.band_power(data, **in_double(bands=[(1, 25)], aggregate="simpson")).astype(float)
    for output, want in (
        ("relative", power / whole),
        ("log10", np.log10(power)),
        ("db", 10 * np.log10(power)),
        ("entropy", 0.5 * np.log(2 * np.pi * np.e * power)),
    ):
        got = eeg.band_power(data, **in_double(bands=bands, aggregate="simpson", output=output))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-5)
    units = {
        output: eeg.stream_band_power(
            eeg.open_recording(data, sfreq=64), aggregate="sum", bands=bands, output=output
        ).unit
        for output in ("power", "relative", "log10", "db", "entropy")
    }
    assert units == {
        "power": "V^2", "relative": "1", "log10": "log10(V^2)", "db": "dB re 1 V^2", "entropy": "nat re 1 V"
    }  # fmt: skip


def test_entropy_of_white_noise_is_that_of_the_normal_distribution() -> None:
    data = 3e-6 * np.random.default_rng(0).standard_normal((2, 2**14))
    got = eeg.band_power(data, 128, window=128, bands=[(0, 64)], aggregate="sum", taper="boxcar", output="entropy")
    np.testing.assert_allclose(got.ravel(), 0.5 * np.log(2 * np.pi * np.e * data.var(axis=1)), rtol=1e-6)


def test_a_flat_channel_has_no_logarithm_and_no_part() -> None:
    flat = np.zeros((1, 200))
    assert (eeg.band_power(flat, 100, output="db", precision="double") == -np.inf).all()
    assert np.isnan(eeg.band_power(flat, 100, output="relative", aggregate="sum", precision="double")).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_preset_mmme_is_the_periodogram_of_its_notebooks(dtype: type) -> None:
    data = (noise(3, 4001) + 0.01).astype(dtype)
    got = eeg.band_power(data, 1000, window=1.001, hop=1, preset="mmme")
    f = np.abs(np.fft.fftfreq(512, 1e-3))
    for i, power in enumerate(got):
        _, p = signal.periodogram(
            data[:, 1000 * i : 1000 * i + 1001].astype(float), 1000, nfft=512, return_onesided=False
        )
        positive = np.arange(512) <= 256
        want = [p[:, positive & (f >= low) & (f <= high)].mean(axis=1) for low, high in eeg.BANDS.values()]
        np.testing.assert_allclose(power, np.transpose(want), rtol=1e-6)
    assert np.array_equal(got, eeg.band_power(data, 1000, hop=1, preset="mmme"))  # the last samples go unused


def test_preset_yasa_is_the_rule_of_its_bandpower() -> None:
    data = noise(3, 3200)
    got = eeg.band_power(data, 100, preset="yasa")
    f, p = signal.welch(data[:, :3000], 100, "hamming", 400, average="median")
    total = integrate.simpson(p[:, (f >= 0.5) & (f <= 40)], dx=0.25)
    edges = [(0.5, 4), (4, 8), (8, 12), (12, 16), (16, 30), (30, 40)]
    want = [integrate.simpson(p[:, (f >= low) & (f <= high)], dx=0.25) / total for low, high in edges]
    assert got.shape == (1, 3, 6)
    np.testing.assert_allclose(got[0], np.transpose(want), rtol=1e-6)


def test_preset_mne_is_psd_array_welch() -> None:
    mne = pytest.importorskip("mne")
    data = noise(3, 1000)
    for subwindow, n_fft in ((None, 500), (1.0, 250)):
        got = eeg.band_power(data, 250, window=2, preset="mne", subwindow=subwindow)
        p, f = mne.time_frequency.psd_array_welch(data[:, :500], 250, n_fft=n_fft, verbose="ERROR")
        want = [p[:, (f >= low) & (f <= high)].mean(axis=1) for low, high in eeg.BANDS.values()]
        np.testing.assert_allclose(got[0], np.transpose(want), rtol=RTOL)


def test_preset_matlab_is_the_rule_of_its_bandpower() -> None:
    data = noise(3, 500) + 1e-6
    bands = [(8, 13), (13.3, 29.9)]
    got = eeg.band_power(data, 250, window=2, preset="matlab", bands=bands)
    f, p = signal.periodogram(data, 250, signal.get_window("hamming", 500, fftbins=False), detrend=False)
    want = []
    for low, high in bands:
        first, last = np.flatnonzero(f <= low)[-1], np.flatnonzero(f >= high)[0]
        want.append((np.diff(f)[first : last + 1] * p[:, first : last + 1]).sum(axis=1))
    np.testing.assert_allclose(got[0], np.transpose(want), rtol=RTOL)


def test_an_argument_overrides_its_preset() -> None:
    data = noise(2, 600)
    got = eeg.band_power(data, 100, preset="matlab", taper="hann", detrend="constant", edges="inclusive")
    np.testing.assert_array_equal(got, eeg.band_power(data, 100, aggregate="sum"))


def test_the_fft_takes_over_where_it_costs_less_with_the_same_power(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (noise(3, 32_000) + 0.02).astype(np.float32)
    options: dict[str, Any] = {"bands": [(1, 47), (30, 500)], "window": 8.0}
    plan = eeg._Plan.of(1000.0, eeg._chosen(None, **options))
    assert plan.route(8000 * np.arange(4), 3).way == "fft"
    assert plan.route(10 * np.arange(300), 16).way == "overlapping"
    assert eeg._Plan.of(1000.0, eeg._chosen(None)).route(1000 * np.arange(4), 3).way == "direct"
    by_fft = eeg.band_power(data, 1000, **options)
    for threads in (1, 3):
        assert np.array_equal(eeg.band_power(data, 1000, threads=threads, **options), by_fft)
    assert np.array_equal(eeg.band_power(data[1:2], 1000, **options), by_fft[:, 1:2])
    monkeypatch.setattr(eeg, "_FFT", (np.inf, 0, 0))
    by_kernel = eeg.band_power(data, 1000, **options)
    assert not np.array_equal(by_kernel, by_fft)
    np.testing.assert_allclose(by_kernel, by_fft, rtol=RTOL)


@pytest.mark.parametrize(
    "options", [{"detrend": "linear"}, {"subwindow": 0.5, "average": "median"}, {"subwindow": 0.5}]
)
def test_every_route_has_the_same_bits_for_any_chunk_and_batch(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(3, 900)
    whole = eeg.band_power(data, 100, hop=0.13, **options)
    recording = eeg.open_recording(data, sfreq=100)
    for batch in (1, 300, 2**17):
        monkeypatch.setattr(eeg, "_BATCH", batch)
        pieces = [power for _, power in eeg.stream_band_power(recording, hop=0.13, chunk=1.7, threads=2, **options)]
        assert np.array_equal(np.concatenate(pieces), whole)


def test_the_fft_refuses_nan_and_names_its_place() -> None:
    data = noise(2, 1000)
    data[1, 777] = np.nan
    with pytest.raises(ValueError, match="data must be finite, got nan in channel 1, sample 777"):
        eeg.band_power(data, 100, detrend="linear", threads=2)


# Recordings. Each writer puts the same signal, in volts, into a file of its format.

SFREQ = 200.0
NAMES = ("Fp1", "Cz", "O2", "EOG1")


def write_edf(path: Path, data: NDArray[Any], width: int = 2) -> None:
    """EDF (16 bit) or BDF (24 bit), one-second records, in uV."""
    channels, records = len(data), data.shape[1] // int(SFREQ)
    top = 2 ** (8 * width - 1)
    head = b"0       " if width == 2 else b"\xffBIOSEMI"
    head += f"{'X X X X':80}{'Startdate 01-JAN-2020 X X X':80}01.01.2000.00.00".encode()
    head += f"{256 * (channels + 1):<8}{'' if width == 2 else '24BIT':44}{records:<8}{1:<8}{channels:<4}".encode()
    for values, size in (
        (NAMES, 16), ([""] * channels, 80), (["uV"] * channels, 8), ([-3000] * channels, 8), ([3000] * channels, 8),
        ([-top] * channels, 8), ([top - 1] * channels, 8), ([""] * channels, 80), ([int(SFREQ)] * channels, 8),
        ([""] * channels, 32),
    ):  # fmt: skip
        head += "".join(f"{value:<{size}}" for value in values).encode()
    digital = np.rint((data * 1e6 + 3000) / 6000 * (2 * top - 1) - top).astype("<i4")
    blocks = digital[:, : records * int(SFREQ)].reshape(channels, records, -1).transpose(1, 0, 2)
    path.write_bytes(head + np.ascontiguousarray(blocks)[..., None].view("u1")[..., :width].tobytes())


def write_set(path: Path, data: NDArray[Any], embedded: bool = False) -> None:
    from scipy.io import savemat

    microvolts = (data * 1e6).astype("<f4")
    if not embedded:
        microvolts.T.tofile(path.with_suffix(".fdt"))
    where = np.zeros(len(NAMES), [("labels", object), ("type", object)])
    where["labels"], where["type"] = NAMES, "EEG"
    event = np.zeros(1, [("latency", object), ("type", object), ("duration", object)])
    event["latency"], event["type"], event["duration"] = 401.0, "101", 0.0
    savemat(
        path,
        {
            "EEG": {
                "nbchan": float(len(data)), "pnts": float(data.shape[1]), "trials": 1.0, "srate": SFREQ, "xmin": 0.0,
                "data": microvolts if embedded else path.with_suffix(".fdt").name, "chanlocs": where, "event": event,
                "setname": "", "filename": path.name, "epoch": [], "icawinv": [], "icaweights": [], "ref": "common",
            }
        },
        appendmat=False,
    )  # fmt: skip


def write_vhdr(path: Path, data: NDArray[Any]) -> None:
    (data * 1e6).T.astype("<f4").tofile(path.with_suffix(".eeg"))
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\nMk1=Stimulus,101,401,1,0\n"
    )
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(data)}\nSamplingInterval={1e6 / SFREQ:g}\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n"
        "[Channel Infos]\n" + "".join(f"Ch{i + 1}={name},,1,µV\n" for i, name in enumerate(NAMES)),
        encoding="utf-8",
    )


def write_cnt(path: Path, data: NDArray[Any]) -> None:
    """Neuroscan CNT, 16 bit, a tenth of a microvolt a step."""
    head = bytearray(900 + 75 * len(data))
    head[:20] = b"Version 3.0".ljust(20, b"\0")
    head[225:247] = b"01/01/20\0\0" + b"00:00:00".ljust(12, b"\0")
    struct.pack_into("<H", head, 370, len(data))
    struct.pack_into("<H", head, 376, int(SFREQ))
    struct.pack_into("<i", head, 864, data.shape[1])
    for i, name in enumerate(NAMES):
        at = 900 + 75 * i
        head[at : at + 10] = name.encode().ljust(10, b"\0")
        struct.pack_into("<ff", head, at + 19, float(i), float(i % 2))
        struct.pack_into("<f", head, at + 59, 20.48)
        struct.pack_into("<f", head, at + 71, 1.0)
    samples = np.rint(data.T * 1e7).astype("<i2").tobytes()
    end = len(head) + len(samples)
    struct.pack_into("<i", head, 886, end)
    event = struct.pack("<HBBi", 101, 0, 0, len(head) + 401 * 2 * len(data))  # MNE counts from one
    path.write_bytes(bytes(head) + samples + struct.pack("<Bii", 1, len(event), 0) + event)


def write_fif(path: Path, data: NDArray[Any]) -> None:
    import mne

    info = mne.create_info(list(NAMES), SFREQ, ["eeg", "eeg", "eeg", "eog"])
    raw = mne.io.RawArray(data, info, first_samp=70, verbose="ERROR")
    raw.set_annotations(mne.Annotations(2.0, 0, "101"))
    raw.save(path, fmt="double", verbose="ERROR")


def write_curry(path: Path, data: NDArray[Any]) -> None:
    """Curry 7 or 8, with the labels not in the order of the file."""
    order = [2, 0, 3, 1]
    (data * 1e6).T.astype("<f4").tofile(path)
    header = (
        "DATA_PARAMETERS START\n   DataFormat = FLOAT\n   DataByteOrder = INTEL\n   DataSampOrder = SAMP\n"
        f"   NumSamples = {data.shape[1]}\n   NumTrials = 1\n   NumChannels = {len(data)}\n"
        f"   SampleFreqHz = {SFREQ:g}\n"
        "DATA_PARAMETERS END\n\nDEVICE_PARAMETERS START\n   DataUnit = uV\n   NumChanThisGroup = 4\n"
        "DEVICE_PARAMETERS END\n\nDEVICE_PARAMETERS_OTHERS START\n   DataUnit = uV\n   NumChanThisGroup = 1\n"
        "DEVICE_PARAMETERS_OTHERS END\n\nCHAN_IN_FILE START_LIST\t# Do not edit!\n"
        + "".join(f"  {i + 1}\n" for i in order)
        + "  0\nCHAN_IN_FILE END_LIST\n"
    )
    labels = (
        "LABELS START_LIST\t# Do not edit!\n" + "".join(f"{NAMES[i]}\n" for i in order) + "LABELS END_LIST\n\n"
        "LABELS_OTHERS START_LIST\t# Do not edit!\nTrigger\nLABELS_OTHERS END_LIST\n"
    )
    events = (
        "NUMBER_LIST START_LIST\t# Do not edit!\n  400\t 0\t 101\t-1\t 400\t 400\nNUMBER_LIST END_LIST\n"
        "REMARK_LIST START_LIST\t# Do not edit!\n\nREMARK_LIST END_LIST\n"
    )
    if path.suffix == ".dat":
        parts = {path.with_suffix(".dap"): header, path.with_suffix(".rs3"): labels, path.with_suffix(".cef"): events}
    else:
        parts = {path.with_name(path.name + ".dpa"): header + labels, path.with_name(path.name + ".cef"): events}
    for part, text in parts.items():
        part.write_text(text, encoding="utf-8-sig")


WRITERS: dict[str, Callable[[Path, NDArray[Any]], None]] = {
    "a.edf": write_edf,
    "a.bdf": lambda path, data: write_edf(path, data, 3),
    "a.set": write_set,
    "whole.set": lambda path, data: write_set(path, data, embedded=True),
    "a.vhdr": write_vhdr,
    "a.cnt": write_cnt,
    "a_raw.fif": write_fif,
    "a.dat": write_curry,
    "a.cdt": write_curry,
}


def written(folder: Path, name: str, data: NDArray[Any]) -> Path:
    if not name.endswith((".dat", ".cdt")):
        pytest.importorskip("mne")
    WRITERS[name](folder / name, data)
    return folder / name


@pytest.mark.parametrize("name", WRITERS)
def test_recordings_of_every_format_stream_what_was_written(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = 3 * noise(4, 4600)
    with caplog.at_level(logging.INFO, "mmme_fast"):
        recording = eeg.open_recording(written(tmp_path, name, data))
    assert recording.ch_names == NAMES[:3]
    assert (recording.sfreq, recording.n_samples, recording.duration) == (SFREQ, 4600, 23.0)
    if not name.endswith(("edf", "bdf")):
        (marker,) = recording.markers
        assert (marker.onset, marker.text.split("/")[-1]) == (2.0, "101")
    step = {"a.edf": 6e-3 / 2**16, "a.bdf": 6e-3 / 2**24, "a.cnt": 1e-7}.get(name, 1e-11)
    np.testing.assert_allclose(recording.read(), data[:3], atol=0.6 * step)
    np.testing.assert_allclose(recording.read(1111, 1114), data[:3, 1111:1114], atol=0.6 * step)
    whole = eeg.band_power(recording.read(), SFREQ, hop=0.3)
    times, power = (np.concatenate(part) for part in zip(*eeg.stream_band_power(recording, hop=0.3), strict=True))
    assert np.array_equal(power, whole)
    np.testing.assert_allclose(times, 0.3 * np.arange(len(whole)))
    said = " ".join(record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert ("read whole" in said) == (name == "whole.set")
    assert "EOG1" in caplog.text


@pytest.mark.parametrize("chunk", [0.01, 1.3, 4.0, 100.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_stream_has_the_bits_of_the_whole(backend: str, chunk: float, dtype: type, tmp_path: Path) -> None:
    data = (noise(5, 1700) * 1e9).astype(dtype)
    np.save(tmp_path / "a.npy", data)
    recording = eeg.open_recording(tmp_path / "a.npy", sfreq=100)
    assert recording.ch_names == ("1", "2", "3", "4", "5")
    shuffled = np.random.default_rng(1).uniform(0, 15, 40)
    for choice in ({"hop": 0.07}, {"hop": 2.9}, {"at": shuffled}, {"at": np.sort(shuffled)}):
        options: dict[str, Any] = {"window": 2.0, "bands": [(1, 50)], **choice}
        pieces = [power for _, power in eeg.stream_band_power(recording, chunk=chunk, threads=2, **options)]
        assert np.array_equal(np.concatenate(pieces), eeg.band_power(data, 100, **options))


def test_stream_reads_every_sample_once_and_little_at_a_time() -> None:
    data, reads = noise(2, 20000), []
    recording = eeg.open_recording(data, sfreq=100)
    inner = recording._read
    object.__setattr__(recording, "_read", lambda a, b: (reads.append((a, b)), inner(a, b))[1])
    for _ in eeg.stream_band_power(recording, hop=0.1, chunk=10):
        pass
    assert reads[0] == (0, 1000)
    assert all(a[1] == b[0] for a, b in pairwise(reads))
    assert reads[-1][1] == 20000
    assert max(b - a for a, b in reads) <= 1000


def test_open_recording_picks_channels(tmp_path: Path) -> None:
    path = written(tmp_path, "a.dat", noise(4, 1000))
    assert eeg.open_recording(path, pick="all").ch_names == NAMES
    some = eeg.open_recording(path, pick=["O2", "EOG1"])
    assert some.ch_names == ("O2", "EOG1")
    assert np.array_equal(some.read(), eeg.open_recording(path, pick="all").read()[2:])
    with pytest.raises(ValueError, match=r"pick must name channels of .*Fp1, Cz, O2, EOG1.*, got \['Pz'\]"):
        eeg.open_recording(path, pick=["O2", "Pz"])
    with pytest.raises(ValueError, match="pick must be one of 'eeg', 'all', got 'meg'"):
        eeg.open_recording(path, pick="meg")


@pytest.mark.parametrize(
    "name", ["EOG1", "VEOG", "HEO", "VEOU", "ECG", "EKG", "EMG-left", "BIP12", "Trigger", "STATUS", "Resp. belt"]
)
def test_pick_eeg_leaves_out_what_is_named_otherwise(name: str) -> None:
    assert eeg._picked(["Fp1", name, "T7", "CPz", "M1"], ["eeg"] * 5, "eeg", "a.edf") == [0, 2, 3, 4]
    with pytest.raises(ValueError, match=r"pick='eeg' finds no EEG channel in a\.edf, which has"):
        eeg._picked([name, "Fp1"], ["eeg", "misc"], "eeg", "a.edf")


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("missing.edf", None, FileNotFoundError, "no such recording: .*missing.edf"),
        ("folder.edf", "folder", IsADirectoryError, "a recording must be a file, got the folder"),
        ("empty.edf", b"", ValueError, "empty.edf is empty"),
        ("text.edf", b"hello\nworld\n" * 40, ValueError, "text.edf is not a readable .edf recording: "),
        ("text.bdf", b"hello\nworld\n" * 40, ValueError, "text.bdf is not a readable .bdf recording: "),
        ("text.set", b"hello\nworld\n" * 40, ValueError, "text.set is not a readable .set recording: "),
        ("text.vhdr", b"hello\nworld\n" * 40, ValueError, "text.vhdr is not a readable .vhdr recording: "),
        ("text.cnt", b"hello\nworld\n" * 40, ValueError, "text.cnt is not a readable .cnt recording: "),
        ("text_raw.fif", b"hello\nworld\n" * 40, ValueError, "text_raw.fif is not a readable .fif recording: "),
        ("text.npy", b"hello\nworld\n" * 40, ValueError, "text.npy is not a readable .npy recording: "),
        ("alone.cdt", b"1234", FileNotFoundError, "alone.cdt needs alone.cdt.dpa beside it, which is missing"),
        ("alone.dat", b"1234", FileNotFoundError, "alone.dat needs alone.dap beside it, which is missing"),
        ("part.fdt", b"1234", ValueError, "part.fdt is part of a recording; open its part.set"),
        ("film.mp4", b"1234", ValueError, "a recording must be one of .edf, .*, got film.mp4"),
    ],
)
def test_open_recording_says_what_is_wrong_in_one_line(
    name: str, content: Any, error: type[Exception], text: str, tmp_path: Path
) -> None:
    if name.endswith(("edf", "bdf", "set", "vhdr", "cnt", "fif")) and name.startswith("text"):
        pytest.importorskip("mne")
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=text) as caught:
        eeg.open_recording(path, sfreq=100 if name.endswith("npy") else None)
    assert "\n" not in str(caught.value)


def test_open_recording_refuses_bad_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{}, None]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy is not a readable .npy recording: .*Python objects"):
        eeg.open_recording(path, sfreq=100)
    np.save(path, np.ones(9))
    with pytest.raises(ValueError, match=r"a.npy must be 2-D \(channel, sample\) .* got shape \(9,\)"):
        eeg.open_recording(path, sfreq=100)
    np.save(path, np.ones((2, 9), complex))
    with pytest.raises(TypeError, match=r"a.npy must be real numbers, got complex128"):
        eeg.open_recording(path, sfreq=100)
    np.save(path, np.ones((2, 900)))
    with pytest.raises(ValueError, match=r"sfreq must be given for .*a.npy, which cannot say it, got None"):
        eeg.open_recording(path)
    with pytest.raises(ValueError, match=r"sfreq must be above 0 .* got 0"):
        eeg.open_recording(path, sfreq=0)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"a.npy is not a readable .npy recording: "):
        eeg.open_recording(path, sfreq=100)


def test_open_recording_refuses_a_truncated_or_missing_fdt(tmp_path: Path) -> None:
    path = written(tmp_path, "a.set", noise(4, 1000))
    data = path.with_suffix(".fdt")
    data.write_bytes(data.read_bytes()[:8000])
    with pytest.raises(ValueError, match=r"a.fdt must hold 1000 samples of 4 channels as a.set says, got 500 samples"):
        eeg.open_recording(path)
    data.unlink()
    with pytest.raises(FileNotFoundError, match=r"a.set cannot be read: .*a.fdt"):
        eeg.open_recording(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("= FLOAT", "= ASCII"), "must be raw float, sample by sample"),
        (("NumTrials = 1", "NumTrials = 7"), "must be a continuous recording, got 7 epochs"),
        (("NumSamples = 1000", "NumSamples = 1001"), "must hold 16016 bytes for 4 channels .* got 16000"),
        (("NumSamples = 1000", ""), "a.dap is not a readable Curry header: it has no NumSamples"),
        (("SampleFreqHz = 200", "SampleFreqHz = 0"), "declares 4 channels of 1000 samples at 0 Hz"),
        (("  0\nCHAN_IN", "CHAN_IN"), "a.rs3 must name the 4 channels of a.dat, got 5"),
    ],
)
def test_open_recording_refuses_a_bad_curry_header(change: tuple[str, str], text: str, tmp_path: Path) -> None:
    path = written(tmp_path, "a.dat", noise(4, 1000))
    header = path.with_suffix(".dap")
    before = header.read_text()
    header.write_text(before.replace(*change))
    assert header.read_text() != before
    with pytest.raises(ValueError, match=text):
        eeg.open_recording(path)


def test_a_cut_off_edf_is_read_as_far_as_it_goes_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "a.edf", noise(4, 2000))
    path.write_bytes(path.read_bytes()[: 256 * 5 + 7 * 1600 + 100])
    recording = eeg.open_recording(path)
    assert recording.n_samples == 1400
    assert "Number of records from the header does not match" in caplog.text


def test_mne_missing_is_an_error_that_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_edf(tmp_path / "a.edf", noise(4, 1000))
    monkeypatch.setitem(sys.modules, "mne", None)
    with pytest.raises(ImportError, match=r'reading a.edf needs MNE: pip install "mmme_fast\[eeg\]"'):
        eeg.open_recording(tmp_path / "a.edf")


def test_recording_read_checks_its_range() -> None:
    recording = eeg.open_recording(noise(2, 100), sfreq=10)
    for start, stop, text in (
        (-1, 5, "start must be at least 0 and at most 4, got -1"),
        (5, 5, "start must be at least 0 and at most 4, got 5"),
        (0, 101, "stop must be at least 1 and at most 100, got 101"),
    ):
        with pytest.raises(ValueError, match=text):
            recording.read(start, stop)


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet", "zarr"])
def test_save_writes_the_table_and_says_how_it_was_made(kind: str, tmp_path: Path) -> None:
    recording = eeg.open_recording(written(tmp_path, "a.cdt", noise(4, 6000)))
    stream = eeg.stream_band_power(recording, hop=0.25, chunk=5, bands={"alpha": (8, 13), "low, slow": (1, 4)})
    power = np.concatenate([p for _, p in stream])
    seen: list[tuple[int, int]] = []
    out = tmp_path / "new" / f"out.{kind}"
    meta = stream.save(out, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 3
    assert seen[-1] == (117, 117) == (len(stream), len(stream))
    assert sorted(p.name for p in out.parent.iterdir()) == sorted([out.name, "out.json"])
    assert json.loads((out.parent / "out.json").read_text()) == meta
    assert meta["complete"]
    assert meta["bins"] == {"alpha": 6, "low, slow": 4} == stream.bins
    assert (meta["unit"], meta["resolution"], meta["windows"]) == ("V^2/Hz", 1.0, 117)
    assert meta["markers"] == [[2.0, 0.0, "101"]]
    columns = ["time", *(f"{channel} {band}" for channel in NAMES[:3] for band in ("alpha", "low, slow"))]
    if kind == "npz":
        with np.load(out) as file:
            assert file["ch_names"].tolist() == list(NAMES[:3])
            assert file["bands"].tolist() == ["alpha", "low, slow"]
            assert file["band_edges"].tolist() == [[8, 13], [1, 4]]
            times, table = file["times"], file["power"].reshape(117, -1)
    elif kind == "csv":
        import csv

        rows = list(csv.reader(out.read_text().splitlines()))
        assert rows[0] == columns
        values = np.array(rows[1:], np.float64)
        times, table = values[:, 0], values[:, 1:].astype(np.float32)
    elif kind == "zarr":
        group = pytest.importorskip("zarr").open_group(str(out), mode="r")
        assert dict(group.attrs) == {key: value for key, value in meta.items() if key != "seconds"}
        times, table = group["times"][:], group["power"][:].reshape(117, -1)
        with pytest.raises(FileExistsError, match="out must not be there yet"):
            stream.save(out)
    else:
        parquet = pytest.importorskip("pyarrow.parquet").read_table(out)
        assert parquet.column_names == columns
        times, table = parquet["time"].to_numpy(), np.stack([parquet[c].to_numpy() for c in columns[1:]], axis=1)
    assert np.array_equal(times, stream.times)
    assert np.array_equal(table.reshape(power.shape), power)


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet", "zarr"])
def test_save_keeps_what_is_done_when_interrupted(kind: str, tmp_path: Path) -> None:
    if kind in ("parquet", "zarr"):
        pytest.importorskip({"parquet": "pyarrow"}.get(kind, kind))
    stream = eeg.stream_band_power(eeg.open_recording(noise(2, 6000), sfreq=100), chunk=10)

    def interrupt(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=rf"20 of 60 windows are in .*out.{kind}"):
        stream.save(tmp_path / f"out.{kind}", progress=interrupt)
    meta = json.loads((tmp_path / "out.json").read_text())
    assert (meta["windows"], meta["complete"]) == (20, False)
    if kind == "npz":
        with np.load(tmp_path / "out.npz") as file:
            assert file["power"].shape == (20, 2, 5)
    elif kind == "zarr":
        import zarr

        group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
        assert (group["power"].shape, group["times"].shape) == ((20, 2, 5), (20,))
        assert group.attrs["complete"] is False


@pytest.mark.parametrize("kind", ["csv", "parquet", "zarr"])
def test_save_appends_as_it_goes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times the recording needs no more memory, although all of its output would not fit into it."""
    if kind != "csv":
        pytest.importorskip({"parquet": "pyarrow"}.get(kind, kind))
    monkeypatch.setattr(eeg, "_rows", lambda stream: 200)
    second = noise(4, 100)

    def peak(seconds: int, out: str) -> int:
        made = eeg.open_recording(second, sfreq=100)
        read = lambda start, stop: np.take(second, np.arange(start, stop), axis=1, mode="wrap")  # noqa: E731
        stream = eeg.stream_band_power(replace(made, n_samples=100 * seconds, _read=read), hop=0.1, threads=1)
        tracemalloc.start()
        stream.save(tmp_path / out)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(stream) == 10 * seconds - 9
        return most

    peak(10, f"first.{kind}")  # imports
    once = peak(100, f"once.{kind}")
    assert peak(600, f"six.{kind}") - once < 6000 * 4 * 5 * 4 / 3


def test_save_leaves_no_half_file(tmp_path: Path) -> None:
    stream = eeg.stream_band_power(eeg.open_recording(noise(2, 600), sfreq=100))
    with pytest.raises(ValueError, match=r"out must end in one of .npz, .csv, .parquet, .zarr, got out.xlsx"):
        stream.save(tmp_path / "out.xlsx")

    def fail(done: int, total: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stream.save(tmp_path / "out.csv", progress=fail)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        stream.save(tmp_path / "file" / "out.csv")


def test_stream_checks_its_arguments_at_once() -> None:
    recording = eeg.open_recording(noise(2, 600), sfreq=100)
    for arguments, text in (
        ({"chunk": 0}, "chunk must be above 0, got 0"),
        ({"window": 7}, "window must be at most the data's length, 6 s, got 7 s"),
        ({"bands": [(1, 60)]}, "Nyquist"),
        ({"preset": "yasa"}, "window must be at most the data's length, 6 s, got 30 s"),
    ):
        with pytest.raises(ValueError, match=text):
            eeg.stream_band_power(recording, **arguments)


@pytest.mark.parametrize(
    ("text", "duration", "gap"),
    [
        ("boundary", 7.0, (4.9975, 4.9975)),
        ("BAD boundary", 0.0, (4.9975, 4.9975)),
        ("EDGE boundary", 0.0, (4.9975, 4.9975)),
        ("New Segment/", 0.005, (4.9975, 4.9975)),
        ("BAD_ACQ_SKIP", 1.5, (4.9975, 6.4975)),
    ],
)
def test_windows_that_would_span_a_gap_are_left_out_and_counted(
    text: str, duration: float, gap: tuple[float, float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = noise(2, 2000)
    markers = (eeg.Marker(0.0, 0.005, "New Segment/"), eeg.Marker(4.9975, duration, text), eeg.Marker(7.0, 0, "101"))
    recording = replace(eeg.open_recording(data, sfreq=SFREQ), markers=markers)
    assert recording.gaps == (gap,)
    stream = eeg.stream_band_power(recording, hop=0.5)
    starts = np.arange(0, 1801, 100)
    end = round(gap[1] * SFREQ + 0.5)
    kept = np.flatnonzero((starts + 200 <= 1000) | (starts >= end))  # the boundary is half a sample before 1000
    assert np.array_equal(stream.kept, kept)
    assert np.array_equal(stream.times, starts[kept] / SFREQ)
    assert stream.left_out == 19 - len(kept) > 0
    assert f"left out {stream.left_out} of 19 windows that would span one of its 1 gaps" in caplog.text
    assert stream.save(tmp_path / "a.npz")["windows_left_out"] == stream.left_out
    power = np.concatenate([p for _, p in stream])
    assert np.array_equal(power, eeg.band_power(data, SFREQ, hop=0.5)[kept])
    with pytest.raises(ValueError, match=r"window must fit between the gaps of array, got 9 s, and all 1 windows"):
        eeg.stream_band_power(recording, window=9)


def test_gaps_of_a_file_leave_windows_out(tmp_path: Path) -> None:
    path = written(tmp_path, "a.vhdr", noise(4, 2000))
    marks = path.with_suffix(".vmrk")
    marks.write_text(marks.read_text() + "Mk2=New Segment,,1,1,0\nMk3=New Segment,,901,1,0\n")
    stream = eeg.stream_band_power(eeg.open_recording(path))
    assert stream.recording.gaps == ((4.5, 4.5),)
    assert stream.kept.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_tables_hold_the_power_and_what_it_is() -> None:
    recording = eeg.open_recording(noise(2, 1000), sfreq=100)
    stream = eeg.stream_band_power(recording, hop=0.5, bands={"theta": (4, 8), "alpha": (8, 13)}, output="db")
    power = np.concatenate([p for _, p in stream])
    table = pytest.importorskip("pandas") and stream.to_dataframe()
    assert np.array_equal(table["2"]["alpha"].to_numpy(), power[:, 1, 1])
    assert table.columns.names == ["channel", "band"]
    assert np.array_equal(table.index, stream.times)
    assert (table.attrs["unit"], table.attrs["bins"]) == ("dB re 1 V^2/Hz", {"theta": 5, "alpha": 6})
    array = pytest.importorskip("xarray") and stream.to_xarray()
    assert np.array_equal(array.sel(channel="2", band="alpha"), power[:, 1, 1])
    assert array.dims == ("time", "channel", "band")
    assert np.array_equal(array.time, stream.times)
    assert (array.attrs["units"], array.attrs["resolution"]) == ("dB re 1 V^2/Hz", 1.0)
    assert (array.low.values.tolist(), array.high.values.tolist()) == ([4, 8], [8, 13])
    assert array.bins.values.tolist() == [5, 6]


@pytest.mark.parametrize("name", ["pandas", "xarray", "zarr"])
def test_what_is_missing_is_an_error_that_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = eeg.stream_band_power(eeg.open_recording(noise(2, 1000), sfreq=100))
    monkeypatch.setitem(sys.modules, name, None)
    make = {"pandas": stream.to_dataframe, "xarray": stream.to_xarray, "zarr": lambda: stream.save(tmp_path / "a.zarr")}
    with pytest.raises(ImportError, match=rf'needs {name}: pip install "?(mmme_fast\[)?{name}'):
        make[name]()


# Real recordings.

REAL = {
    "eeglab_data.set": (30, 128.0, 154),
    "eegmat_Subject00_1.edf": (20, 500.0, 1),
    "eegmat_Subject00_2.edf": (20, 500.0, 1),
    "test_CA_208_start_stop.vhdr": (63, 1000.0, 8),
    "test_bdf_stim_channel Curry 7.dat": (3, 500.0, 18),
    "test_bdf_stim_channel Curry 8.cdt": (3, 500.0, 18),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_stream_what_scipy_finds(name: str, shared_data: Path) -> None:
    pytest.importorskip("mne")
    recording = eeg.open_recording(shared_data / "eeg" / name)
    assert (len(recording.ch_names), recording.sfreq, len(recording.markers)) == REAL[name]
    n = round(recording.sfreq)
    stream = eeg.stream_band_power(recording, chunk=7)
    power = np.concatenate([p for _, p in stream])
    assert len(power) + stream.left_out == recording.n_samples // n
    want = expected(recording.read(), recording.sfreq, n * stream.kept, n, list(eeg.BANDS.values()))
    # Where the recording has been faded out some bands hold less than float32 resolves beside the others.
    assert (abs(power - want) <= RTOL * want + 1e-9 * want.max(axis=2, keepdims=True)).all()


def test_curry_7_and_8_hold_the_same(shared_data: Path) -> None:
    old, new = (
        eeg.open_recording(shared_data / "eeg" / f"test_bdf_stim_channel Curry {version}")
        for version in ("7.dat", "8.cdt")
    )
    assert (old.ch_names, old.sfreq, old.markers) == (new.ch_names, new.sfreq, new.markers)
    for (_, a), (_, b) in zip(eeg.stream_band_power(old), eeg.stream_band_power(new), strict=True):
        assert np.array_equal(a, b)


def test_curry_reads_as_mne_has_it(shared_data: Path) -> None:
    mne = pytest.importorskip("mne")
    pytest.importorskip("curryreader")
    path = shared_data / "eeg" / "test_bdf_stim_channel Curry 8.cdt"
    raw = mne.io.read_raw_curry(path, verbose="ERROR")
    recording = eeg.open_recording(path)
    assert recording.ch_names == tuple(raw.ch_names)
    assert [marker.text for marker in recording.markers] == list(raw.annotations.description)
    np.testing.assert_allclose([marker.onset for marker in recording.markers], raw.annotations.onset)
    assert np.array_equal(recording.read(), raw.get_data())


def test_alpha_is_strongest_at_the_back_of_the_head(shared_data: Path) -> None:
    pytest.importorskip("mne")
    recording = eeg.open_recording(shared_data / "eeg" / "eeglab_data.set")
    bands = {"theta": (4, 7.5), "alpha": (8, 13), "beta": (13.5, 30)}
    power = np.median(np.concatenate([p for _, p in eeg.stream_band_power(recording, bands=bands, window=2)]), axis=0)
    back = [name in ("O1", "Oz", "O2", "PO7", "PO3", "POz", "PO4", "PO8") for name in recording.ch_names]
    front = [name in ("FPz", "F3", "Fz", "F4") for name in recording.ch_names]
    assert (power[back, 1] > 2 * power[back, 0]).all()
    assert (power[back, 1] > 5 * power[back, 2]).all()
    assert power[back, 1].mean() > 1.5 * power[front, 1].mean()
