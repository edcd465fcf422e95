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


def by_fft(data: NDArray[Any], starts: NDArray[Any]) -> NDArray[Any]:
    """What a user of SciPy writes: a taper, an FFT and band means, window by window, in the precision of data."""
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


HOPS = {1000.0: "hop 1 s", 100.0: "hop 100 ms", 10.0: "hop 10 ms", 1000 / 150: "one a frame at 150 fps"}  # samples


@pytest.mark.parametrize("hop", HOPS, ids=HOPS.values())
def bench_band_power(benchmark: Any, backend: str, beside: Any, recording: NDArray[np.float32], hop: float) -> None:
    benchmark.group = f"band power, 64 channels x 60 s, {HOPS[hop]}, beside SciPy"
    part = min(1.0, hop / 100)  # of the windows that SciPy does, for it takes seconds over all of them
    last = round((recording.shape[1] - WINDOW) * part)
    starts = np.rint(np.arange(int(last / hop) + 1) * hop).astype(int)
    ours, _ = beside(
        lambda: eeg.band_power(recording, SFREQ, hop=hop / SFREQ, threads=1),
        lambda: by_fft(recording, starts),
        share=len(starts) / (int((recording.shape[1] - WINDOW) / hop) + 1),
    )
    want = by_fft(recording.astype(np.float64), starts)
    error = float(np.abs(ours[: len(starts)] / want - 1).max())
    benchmark.extra_info["max_relative_error"] = error
    assert error < 5e-5


@pytest.mark.parametrize("hop", [1000, 100, 10], ids=["hop 1 s", "hop 100 ms", "hop 10 ms"])
def bench_band_power_beside_mne(
    benchmark: Any, backend: str, beside: Any, recording: NDArray[np.float32], hop: int
) -> None:
    benchmark.group = f"band power, 64 channels x 60 s, hop {hop} ms, beside MNE's Welch of every window"
    mne = pytest.importorskip("mne")
    starts = np.arange(0, recording.shape[1] - WINDOW + 1, hop)
    some = starts[:60]
    data = recording.astype(np.float64)  # MNE takes nothing else

    def by_mne() -> NDArray[np.float64]:
        out = np.empty((len(some), len(data), len(eeg.BANDS)))
        for i, start in enumerate(some):
            power, _ = mne.time_frequency.psd_array_welch(
                data[:, start : start + WINDOW], SFREQ, 0, 47, n_fft=WINDOW, window="hann", verbose="error"
            )
            for k, (low, high) in enumerate(eeg.BANDS.values()):
                out[i, :, k] = power[:, int(low) : int(high) + 1].mean(axis=1)
        return out

    ours, theirs = beside(
        lambda: eeg.band_power(recording, SFREQ, hop=hop / SFREQ, threads=1), by_mne, share=len(some) / len(starts)
    )
    error = float(np.abs(ours[: len(some)] / theirs - 1).max())
    benchmark.extra_info["max_relative_error"] = error
    assert error < 5e-5


# Hop in samples, the highest frequency and a window's length: on both sides of where one way becomes cheaper than
# another. The last three are few windows of many bins.
PLACES = [
    *((hop, 47, 1.0) for hop in (1000, 500, 250, 100, 50, 20, 10, 1000 / 150)),
    *((1000, 400, 1.0), (4000, 75, 4.0), (4000, 450, 4.0)),
]


@pytest.mark.parametrize(("hop", "highest", "window"), PLACES)
@pytest.mark.parametrize("way", ["direct", "segments", "samples", "fft"])
def bench_ways_of_band_power(
    benchmark: Any, recording: NDArray[np.float32], way: str, hop: float, highest: int, window: float
) -> None:
    """The cost rule against the clock: in each group the time and the cost should rise alike."""
    plan = eeg._Plan.of(SFREQ, eeg._chosen(None, bands=[(1, highest)], window=window))
    starts = np.rint(np.arange(int((10_000 - plan.window) / hop) + 1) * hop).astype(np.int64)
    data = recording[:16, :10_000]
    costs = {
        route.way if route.way != "overlapping" else "segments" if route.cuts else "samples": (route, cost)
        for route, cost in plan.costs(starts, len(data)).items()
    }
    if way not in costs:
        pytest.skip("these windows have no segments in common")
    route, cost = costs[way]
    benchmark.group = f"ways of band power, window {window:g} s, hop {hop:g} ms, 1-{highest} Hz"
    power = benchmark.pedantic(plan.run, (data, starts, route, 1), rounds=7, iterations=3, warmup_rounds=1)
    benchmark.extra_info["us_per_window_and_channel"] = benchmark.stats.stats.median / len(starts) / 16 * 1e6
    benchmark.extra_info["cost"] = cost
    want = plan.run(data, starts, costs["fft"][0], 1)
    assert float(np.abs(power / want - 1).max()) < 5e-5


def bench_band_power_on_two_threads(benchmark: Any, beside: Any, recording: NDArray[np.float32]) -> None:
    benchmark.group = "band power, 64 channels x 60 s, hop 10 ms: two threads beside one"
    two, one = beside(
        lambda: eeg.band_power(recording, SFREQ, hop=0.01, threads=2),
        lambda: eeg.band_power(recording, SFREQ, hop=0.01, threads=1),
    )
    assert np.array_equal(two, one)
