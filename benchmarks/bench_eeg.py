"""Band power of 64 channels x 60 s at 1000 Hz, beside SciPy's float32 FFT over the same windows; one thread each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray
from scipy import signal

from mmme_fast import eeg

SFREQ, WINDOW = 1000, 1000


@pytest.fixture(scope="module")
def recording() -> NDArray[np.float32]:
    """Noise whose power falls with frequency, in volts, beside an offset of 20,000 uV."""
    white = np.random.default_rng(0).standard_normal((64, 60 * SFREQ))
    return (1e-5 * signal.lfilter([0.3], [1, -0.9], white) + 0.02).astype(np.float32)


def by_fft(data: NDArray[Any], hop: int) -> NDArray[Any]:
    """What a user of SciPy writes: a taper, an FFT and band means, window by window, in the precision of data."""
    starts = range(0, data.shape[1] - WINDOW + 1, hop)
    taper = signal.get_window("hann", WINDOW)
    scale = 2 / (SFREQ * np.sum(taper**2))
    taper = taper.astype(data.dtype)
    out = np.empty((len(starts), len(data), len(eeg.BANDS)), data.dtype)
    for i, start in enumerate(starts):
        window = data[:, start : start + WINDOW]
        spectrum = scipy.fft.rfft((window - window.mean(axis=1, keepdims=True)) * taper, workers=1)
        power = spectrum.real**2 + spectrum.imag**2
        for k, (low, high) in enumerate(eeg.BANDS.values()):
            out[i, :, k] = power[:, int(low) : int(high) + 1].mean(axis=1) * scale
    return out


@pytest.mark.parametrize("hop", [1000, 100], ids=["hop 1 s", "hop 100 ms"])
def bench_band_power(benchmark: Any, backend: str, beside: Any, recording: NDArray[np.float32], hop: int) -> None:
    benchmark.group = f"band power, 64 channels x 60 s, hop {hop} ms"
    ours, _ = beside(
        lambda: eeg.band_power(recording, SFREQ, hop=hop / SFREQ, threads=1), lambda: by_fft(recording, hop)
    )
    want = by_fft(recording.astype(np.float64), hop)
    error = float(np.abs(ours / want - 1).max())
    benchmark.extra_info["max_relative_error"] = error
    assert error < 5e-5
