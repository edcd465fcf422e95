"""The kernel of band power whose windows share sums, against SciPy in double precision, and when it is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from mmme_fast import eeg
from mmme_fast._backend import backends, kernels

RTOL = 5e-5
TAPERS = {"boxcar": (1.0, 0.0), "hann": (0.5, 0.5), "hamming": (0.54, 0.46)}


def noise(channels: int, samples: int, seed: int = 0) -> NDArray[np.float64]:
    """Background EEG in microvolts: noise whose power falls with frequency."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((channels, samples))
    return 10 * signal.lfilter([0.3], [1, -0.9], white) + rng.standard_normal((channels, samples))


def expected(
    data: NDArray[Any],
    starts: NDArray[np.int64],
    n: int,
    bins: NDArray[np.int32],
    weights: NDArray[np.float32],
    taper: str = "hann",
    detrend: bool = True,
) -> NDArray[np.float64]:
    windows = np.stack([data[:, start : start + n] for start in starts]).astype(np.float64)
    if detrend:
        windows = signal.detrend(windows, type="constant")
    power = np.abs(np.fft.rfft(windows * signal.get_window(taper, n))) ** 2
    return power[..., bins] @ weights.T.astype(np.float64)


def overlapping(*args: Any, **options: Any) -> NDArray[np.float32]:
    return overlapping_and_told(*args, **options)[0]


def overlapping_and_told(
    data: NDArray[Any],
    starts: NDArray[np.int64],
    n: int,
    segment: int,
    bins: NDArray[np.int32],
    weights: NDArray[np.float32],
    taper: str = "hann",
    detrend: bool = True,
    first: int = 0,
    threads: int = 1,
    cuts: Any = None,
    places: Any = None,
) -> tuple[NDArray[np.float32], list[int]]:
    """With segments of equal length, of any length, or sample by sample (1); and windows at cuts, or also between."""
    if cuts is None:
        cuts = np.arange(0, n if segment > 1 else 0, segment)
    if places is None:
        places = cuts
    basis = eeg._basis(tuple(cuts), n, int(bins[0]) - 1, int(bins[-1]) + 1)
    out = np.full((len(starts), len(data), len(weights)), np.nan, np.float32)
    told = kernels().overlapping_band_power(
        data, out, starts - first, first, n, np.asarray(cuts, np.int32), np.asarray(places, np.int32), basis,
        *TAPERS[taper], detrend, bins, weights, threads,
    )  # fmt: skip
    return out, told


def bands(n: int, low: int, high: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Means over three bands that overlap."""
    bins = np.arange(low, high + 1, dtype=np.int32)
    weights = np.zeros((3, len(bins)), np.float32)
    weights[0], weights[1, : len(bins) // 2 + 1], weights[2, len(bins) // 2 :] = 1, 2, 3
    return bins, weights


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(segment=1, segments=2, channels=1, windows=3, spread=2, dtype=np.float64, taper="hann", detrend=True, seed=0)
@example(
    segment=1, segments=1000, channels=3, windows=400, spread=700, dtype=np.float32, taper="hann", detrend=True, seed=1
)
@example(segment=300, segments=1, channels=2, windows=9, spread=3, dtype=np.float64, taper="hann", detrend=True, seed=3)
@example(
    segment=315, segments=3, channels=3, windows=9, spread=9, dtype=np.float32, taper="hamming", detrend=True, seed=4
)
@example(
    segment=25, segments=8, channels=18, windows=30, spread=40, dtype=np.float32, taper="hann", detrend=False, seed=2
)
@given(
    segment=st.sampled_from([1, 1, 2, 5, 11, 24, 64]),
    segments=st.integers(2, 20),
    channels=st.integers(1, 37),
    windows=st.integers(1, 40),
    spread=st.integers(1, 100),
    dtype=st.sampled_from([np.float32, np.float64]),
    taper=st.sampled_from(sorted(TAPERS)),
    detrend=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_overlapping_windows_are_scipys_periodograms(
    backend: str, segment: int, segments: int, channels: int, windows: int, spread: int, dtype: type, taper: str,
    detrend: bool, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    n = segment * segments
    starts = segment * rng.integers(0, spread, windows)  # in no order, some of them twice
    data = (noise(channels, n + segment * spread, seed) + 50).astype(dtype)
    bins = np.flatnonzero(rng.random(n // 2 + 1) < 0.7).astype(np.int32)
    if not len(bins):
        bins = np.array([n // 2], np.int32)
    weights = rng.random((3, len(bins))).astype(np.float32)
    got = overlapping(data, starts, n, segment, bins, weights, taper, detrend, threads=2)
    want = expected(data, starts, n, bins, weights, taper, detrend)
    np.testing.assert_allclose(got, want, rtol=RTOL, atol=max(1e-7 * want.max(), 1e-20))
    places = np.unique([0, *(starts % n), *rng.integers(0, n, 3)])
    for cuts in (places, places[[True, *(rng.random(len(places) - 1) < 0.5)]]):
        got = overlapping(data, starts, n, segment, bins, weights, taper, detrend, 0, 2, cuts, places)
        known = ~np.isnan(got)  # after steps as long as these some are in doubt
        assert len(cuts) < len(places) or known.all()
        np.testing.assert_allclose(got[known], want[known], rtol=RTOL, atol=max(1e-7 * want.max(), 1e-20))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("segment", [1, 50])
def test_overlapping_windows_keep_their_digits_beside_an_offset_and_after_an_artefact(
    backend: str, segment: int, dtype: type
) -> None:
    n = 1000
    data = noise(3, 4 * n) + 20_000
    data[0, 950:1000] += 250 * 10  # around anchors, in the middle of a block, and longer than one
    data[1, 1400:1500] += 250 * 10
    data[2, 700:1900] += 250 * 10
    data = data.astype(dtype)
    starts = np.array([700, 951, 1000, 1001, 1040, 1500, 1510, 1899, 1900, 1901, 2000, 2500, 3000])
    starts -= starts % segment
    bins, weights = bands(n, 1, 47)
    np.testing.assert_allclose(
        overlapping(data, starts, n, segment, bins, weights), expected(data, starts, n, bins, weights), rtol=RTOL
    )


@pytest.mark.parametrize("n", [100, 2000, 20_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overlapping_windows_keep_their_digits_where_an_artefact_is_at_an_anchor_or_cut(
    backend: str, n: int, dtype: type
) -> None:
    data = 10 * np.random.default_rng(0).standard_normal((8, 4 * n))
    data[:4, [n, 2 * n]] += 2500
    data[4:6, [n - 1, n + n // 10]] -= 2500
    data = data.astype(dtype)
    starts = np.array([n // 2, n - 1, n, n + 1, n + n // 10, 2 * n - 1, 2 * n, 2 * n + n // 5])
    bins, weights = bands(n, 1, 47)
    every = starts - starts % (n // 10)
    for segment, at, cuts in ((1, starts, None), (1, starts, np.unique(starts % n)), (n // 10, every, None)):
        got = overlapping(data, at, n, segment, bins, weights, cuts=cuts)
        np.testing.assert_allclose(got, expected(data, at, n, bins, weights), rtol=RTOL)


@pytest.mark.parametrize(
    ("sfreq", "hop"), [(100, 1 / 50), (250, 1 / 150), (1000, 1 / 150), (1000, 0.01), (5000, 1 / 150)]
)
def test_windows_within_a_segment_keep_their_digits_after_artefacts_of_any_length(
    backend: str, sfreq: int, hop: float
) -> None:
    rng = np.random.default_rng(0)
    data = 10 * rng.standard_normal((8, 3 * sfreq)) + 20_000
    artefact = np.zeros(data.shape, bool)
    for channel, length in enumerate(10 ** rng.uniform(-3, 0, 7)):
        begin = int(rng.uniform(0.5, 1.5) * sfreq)
        artefact[channel, begin : begin + max(1, int(length * sfreq))] = True
    data[artefact] += 2500
    data = data.astype(np.float32)
    starts = np.rint(np.arange(int(2 / hop) + 1) * hop * sfreq).astype(np.int64)
    clean = ~np.array([artefact[:, start : start + sfreq].any(axis=1) for start in starts])
    got = eeg.band_power(data, sfreq, bands={"low": (1, 4), "high": (30, 47)}, at=starts / sfreq, aggregate="sum")
    bins = np.arange(1, 48, dtype=np.int32)
    scale = 2 / (sfreq * np.sum(signal.get_window("hann", sfreq) ** 2))
    weights = scale * np.array([bins <= 4, bins >= 30], np.float64)
    want = expected(data, starts, sfreq, bins, weights)
    np.testing.assert_allclose(got[clean], want[clean], rtol=2e-5)
    np.testing.assert_allclose(got, want, rtol=2e-4)


def test_any_number_of_windows_may_begin_between_two_anchors(backend: str) -> None:
    n = 2000
    data = noise(21, 3 * n).astype(np.float32)
    starts = np.arange(0, 2 * n, 3)
    bins, weights = bands(n, 2, 40)
    places = np.arange(n)
    got = overlapping(data, starts, n, 100, bins, weights, threads=2, places=places)
    known = ~np.isnan(got)
    assert known.mean() > 0.9
    some = slice(None, None, 50)
    want = expected(data, starts[some], n, bins, weights)
    np.testing.assert_allclose(got[some][known[some]], want[known[some]], rtol=RTOL)


def test_windows_within_a_segment_know_nothing_of_samples_before_them(backend: str) -> None:
    data = noise(9, 3200).astype(np.float32)
    at = np.array([*range(0, 100, 10), *range(1170, 2000, 10)]) / 1000
    want = eeg.band_power(data, 1000, at=at)
    data[[3, 5, 7], 1165] = np.nan, 1e30, np.inf  # in none of these windows
    np.testing.assert_allclose(eeg.band_power(data, 1000, at=at), want, rtol=RTOL)
    data[2, 1175] = np.nan
    with pytest.raises(ValueError, match=r"data must be finite, got nan in channel 2, sample 1175"):
        eeg.band_power(data, 1000, at=at[::-1])


@pytest.mark.parametrize(("segment", "starts"), [(1, [90, 119, 120, 121, 180, 200]), (10, [90, 110, 120, 130, 180])])
def test_a_window_knows_nothing_of_its_neighbours(backend: str, segment: int, starts: list[int]) -> None:
    n = 90
    data = noise(2, 400).astype(np.float32)
    bins, weights = bands(n, 0, 45)
    want = overlapping(data, np.array([120]), n, segment, bins, weights)
    data[:, 119] = np.nan
    data[:, 120 + n :] = np.inf
    got = overlapping(data, np.array(starts), n, segment, bins, weights)
    clean = np.array(starts) == 120
    assert np.array_equal(got[clean], want)
    assert not np.isfinite(got[~clean]).any()


@pytest.mark.parametrize(("segment", "hop"), [(1, 20 / 3), (10, 10)])
def test_overlapping_windows_have_the_same_bits_for_any_chunk_and_threads(
    backend: str, segment: int, hop: float
) -> None:
    n = 150
    data = noise(21, 4400).astype(np.float32)
    starts = np.rint(np.arange(420) * hop).astype(np.int64)
    bins, weights = bands(n, 1, 70)  # more bins than go at a time
    whole = overlapping(data, starts, n, segment, bins, weights)
    for threads in (2, 5):
        assert np.array_equal(whole, overlapping(data, starts, n, segment, bins, weights, threads=threads))
    for begin, end in ((0, 1), (7, 100), (100, 101), (333, 420)):
        own = starts[begin:end]
        piece = np.ascontiguousarray(data[:, own[0] : own[-1] + n])
        assert np.array_equal(whole[begin:end], overlapping(piece, own, n, segment, bins, weights, first=int(own[0])))
    assert np.array_equal(whole[::-1], overlapping(data, starts[::-1].copy(), n, segment, bins, weights))
    assert np.array_equal(whole[:, :3], overlapping(data[:3], starts, n, segment, bins, weights))  # fewer lanes


def test_windows_within_a_segment_have_the_same_bits_for_any_chunk_and_threads(backend: str) -> None:
    n = 150
    data = noise(21, 3200).astype(np.float32)
    starts = np.rint(np.arange(450) * 20 / 3).astype(np.int64)
    places = np.unique(starts % n)
    cuts = places[::3]
    bins, weights = bands(n, 0, 40)

    def power(data: NDArray[Any], starts: NDArray[np.int64], **options: Any) -> NDArray[np.float32]:
        return overlapping(data, starts, n, 1, bins, weights, detrend=False, cuts=cuts, places=places, **options)

    whole = power(data, starts)
    known = ~np.isnan(whole)
    assert known.mean() > 0.9
    np.testing.assert_allclose(whole[known], expected(data, starts, n, bins, weights, detrend=False)[known], rtol=RTOL)
    assert np.array_equal(whole, power(data, starts, threads=3), equal_nan=True)
    assert np.array_equal(whole[:, :3], power(data[:3], starts), equal_nan=True)  # fewer lanes
    for begin, last in np.sort(np.random.default_rng(0).integers(0, len(starts), (60, 2))):
        place = starts[begin] % n
        low = starts[begin] - place + cuts[np.searchsorted(cuts, place, side="right") - 1]
        piece = np.ascontiguousarray(data[:, low : starts[last] + n])
        got = power(piece, starts[begin : last + 1], first=int(low))
        assert np.array_equal(whole[begin : last + 1], got, equal_nan=True)


@pytest.mark.parametrize(
    "options", [{"hop": 0.5}, {"hop": 1 / 30}, {"hop": 0.01}, {"at": np.arange(0.085, 11, 0.1)}, {"hop": 1.0}]
)
def test_streams_have_the_bits_of_the_whole(backend: str, options: dict[str, Any]) -> None:
    data = noise(16, 2600).astype(np.float32)
    recording = eeg.open_recording(data, sfreq=200)
    want = eeg.band_power(data, 200, **options)
    for chunk in (1.0, 2.3):
        stream = eeg.stream_band_power(recording, chunk=chunk, threads=2, **options)
        got = np.concatenate([power for _, power in stream])
        assert np.array_equal(got, want)


def test_segments_do_without_a_basis_where_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(16, 4000)  # whole vectors, so that windows share sums on every backend
    want = eeg.band_power(data, 1000, hop=0.1)

    def fails(*_: Any, **__: Any) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", fails)
    eeg._basis.cache_clear()
    got = eeg.band_power(data, 1000, hop=0.1)
    eeg._basis.cache_clear()
    np.testing.assert_allclose(got, want, rtol=RTOL)
    assert not np.array_equal(got, want)


def test_windows_share_what_they_can_where_that_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(backends()) <= set(eeg._COSTS)
    monkeypatch.setattr(eeg, "_COSTS", dict.fromkeys(eeg._COSTS, eeg._COSTS["avx2"]))

    def route(channels: int, starts: Any, **options: Any) -> tuple[str, int, int]:
        """The way, the number of segments and the first sample."""
        way, cuts, origin, _ = eeg._Plan.of(1000.0, eeg._chosen(None, **options)).route(
            np.asarray(starts).astype(np.int64), channels
        )
        return way, len(cuts), origin

    every_100 = 100 * np.arange(50)
    assert route(64, every_100) == ("overlapping", 10, 0)
    assert route(64, every_100 + 7) == ("overlapping", 10, 7)  # segments count from the first window
    assert route(64, every_100[::-1] + 7, window=0.96) == ("overlapping", 48, 7)
    assert route(64, 500 * np.arange(9)) == ("overlapping", 8, 0)  # long segments in parts
    assert route(64, 1000 * np.arange(9)) == ("direct", 0, 0)  # nothing to share
    assert route(64, [0, 3000, 3001]) == ("direct", 0, 0)
    assert route(64, np.rint(np.arange(3000) * 1000 / 29.97)) == ("overlapping", 0, 0)  # anywhere
    assert route(64, np.rint(np.arange(3000) * 1000 / 150)) == ("overlapping", 15, 0)  # and steps between them
    assert route(64, np.arange(0, 6000, 151)) == ("overlapping", 40, 0)
    assert route(1, 1000 * np.arange(9)) == ("direct", 0, 0)  # one lane of many
    assert route(1, 6 * np.arange(500))[0] == "overlapping"
    assert route(64, [0, 60_000], window=30.0, subwindow=4.0) == ("overlapping", 14, 0)
    assert route(64, [0, 60_000], window=30.0, subwindow=4.0, average="median") == ("fft", 0, 0)
    for options in ({"nfft": 1024}, {"taper": "hann_symmetric"}):
        assert route(64, every_100, **options) == ("direct", 0, 0)
    assert route(64, every_100, detrend="linear") == ("fft", 0, 0)


@pytest.mark.parametrize("spoil", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize(("segment", "places"), [(1, None), (50, None), (50, np.arange(0, 200, 5))])
def test_the_kernel_tells_which_windows_are_not_finite(
    backend: str, segment: int, places: NDArray[np.int64] | None, spoil: float
) -> None:
    bins, weights = bands(200, 1, 90)  # of more than one table
    weights = np.repeat(weights, 4, axis=0)  # of more bands than a vector has lanes
    apart = 50 if segment == 50 and places is None else 5
    starts = np.random.default_rng(0).permutation(np.arange(0, 2000, apart))
    for channel in (0, 18):
        data = noise(19, 2400)
        data[channel, 1003] = spoil
        power, told = overlapping_and_told(data, starts, 200, segment, bins, weights, places=places)
        assert told == np.flatnonzero(~np.isfinite(power).all(axis=(1, 2))).tolist()
        assert set(np.flatnonzero((starts <= 1003) & (starts + 200 > 1003))) <= set(told)


def test_the_kernel_tells_of_sums_that_overflow(backend: str) -> None:
    bins, weights = bands(200, 1, 90)
    data, starts = np.random.default_rng(0).normal(size=(32, 600)), np.arange(0, 400, 100)
    data[1:] *= 1e-3  # so that it is one channel's sum over two tables that overflows, and no other sum
    largest = overlapping(data, starts, 200, 100, bins[:64], weights[:1, :64]).max()  # of the first table
    power, told = overlapping_and_told(data, starts, 200, 100, bins, weights[:1] * (np.float32(3.3e38) / largest))
    assert told == np.flatnonzero(np.isinf(power).any(axis=(1, 2))).tolist() != []


def test_the_route_leads_to_its_kernel(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for name in ("band_power", "overlapping_band_power"):
        kernel = getattr(kernels(), name)

        def noted(*args: Any, name: str = name, kernel: Any = kernel) -> Any:
            asked.append(name)
            return kernel(*args)

        monkeypatch.setattr(kernels(), name, noted)
    data = noise(16, 3000)
    eeg.band_power(data, 1000, hop=0.1)
    eeg.band_power(data, 1000, hop=0.1, taper="hann_symmetric")
    assert asked == ["overlapping_band_power", "band_power"]
