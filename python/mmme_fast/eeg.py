"""EEG: recordings on disk, and the power of their frequency bands."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import tempfile
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import channels, not_finite, number, one_of, whole
from mmme_fast._backend import active_backend, kernels, resolve_threads
from mmme_fast._files import map_npy, save, write_csv, write_parquet, written

logger = logging.getLogger("mmme_fast")

Bands = Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]]
Chunks = Iterator[tuple[NDArray[np.float64], NDArray[np.float32]]]  # (times, power)

BANDS: dict[str, tuple[float, float]] = {
    "delta": (1, 4),
    "theta": (4, 8),
    "alpha": (8, 13),
    "beta": (13, 30),
    "gamma": (30, 47),
}  # those of the MMME data set

# What an argument is where neither the caller nor a preset says.
_DEFAULTS: dict[str, Any] = {
    "bands": BANDS,
    "window": 1.0,
    "subwindow": None,
    "overlap": 0.5,
    "average": "mean",
    "taper": "hann",
    "detrend": "constant",
    "nfft": None,
    "scaling": "density",
    "sides": "one",
    "edges": "inclusive",
    "aggregate": "mean",
    "output": "power",
    "precision": "single",
}

# Published conventions, as arguments of `band_power`.
PRESETS: dict[str, dict[str, Any]] = {
    # The notebooks of the MMME data set: scipy.signal.periodogram(nfft=512, return_onesided=False), means over bins.
    "mmme": {"taper": "boxcar", "nfft": 512, "sides": "two", "precision": "double"},
    # yasa.bandpower, over an epoch of sleep staging.
    "yasa": {
        "bands": {
            "delta": (0.5, 4),
            "theta": (4, 8),
            "alpha": (8, 12),
            "sigma": (12, 16),
            "beta": (16, 30),
            "gamma": (30, 40),
        },
        "window": 30.0,
        "subwindow": 4.0,
        "average": "median",
        "taper": "hamming",
        "aggregate": "simpson",
        "output": "relative",
    },
    # mne.time_frequency.psd_array_welch; its n_fft is `subwindow`.
    "mne": {"overlap": 0.0, "taper": "hamming"},
    # bandpower(x, fs, freqrange).
    "matlab": {"taper": "hamming_symmetric", "detrend": "none", "edges": "outer", "aggregate": "sum"},
}

# Coefficients of the cosine tapers, as scipy.signal.get_window(taper, n).
_TAPERS = {"boxcar": (1.0, 0.0), "hann": (0.5, 0.5), "hamming": (0.54, 0.46)}
_TAPERS |= {f"{name}_symmetric": _TAPERS[name] for name in ("hann", "hamming")}
_INTEGRALS = ("trapezoid", "simpson", "sum")


_Each = tuple[float, float]  # for itself, and for each bin


class _Costs(NamedTuple):
    """What the ways to a window's power cost for a channel, in ns on one machine: only their ratios matter.

    Taken at hops of 7 to 1000 ms with 13, 48 and 101 bins; benchmarks/bench_eeg.py holds them against the clock.
    """

    direct: _Each  # a sample of the window, for bins that meet it folded twice; else each bin counts double
    segments: tuple[_Each, _Each, _Each]  # sums of segments: a sample of the hop, a segment, a window
    samples: tuple[_Each, _Each]  # sums of samples: a sample of the hop, a window
    vector: int  # channels that sums take at a time
    step: _Each | None = None  # from one window to the next within a segment, if that is done


_SHORT = 16  # samples; a step of more costs no less than a segment
_APART = 0.066  # part of a window that a segment has at least where windows may begin within it
_FFT = (0.7, 10.0, 1e5)  # ns for each of n log2(n), for each bin, for what is in memory at a time
_TABLE = 1.5  # ns for each sample and bin of the table that windows meet, once a call
_COSTS = {
    # assumed from avx2's, with twice as many lanes
    "avx512": _Costs((0.5, 0.006), ((0.4, 0.012), (7, 0.4), (15, 0.3)), ((1.3, 0.06), (14, 0.6)), 16, (4, 0.2)),
    "avx2": _Costs((0.6, 0.0085), ((0.45, 0.019), (7, 0.6), (15, 0.5)), ((1.5, 0.10), (15, 1.0)), 8, (4, 0.35)),
    "baseline": _Costs((0.85, 0.027), ((0.6, 0.055), (12, 2.0), (20, 1.2)), ((2.5, 0.28), (25, 1.6)), 4, (4, 1.0)),
    "numba": _Costs((4.2, 0.01), ((12, 0.0), (400, 5.0), (350, 4.5)), ((70, 0.1), (1300, 5.0)), 1),
}

_BATCH = 2**17  # values that the FFT, or the mean over sub-windows, has in memory at a time


def band_power(
    data: ArrayLike,
    sfreq: float,
    *,
    bands: Bands | None = None,
    window: float | None = None,
    hop: float | None = None,
    at: ArrayLike | None = None,
    subwindow: float | None = None,
    overlap: float | None = None,
    average: str | None = None,
    taper: str | None = None,
    detrend: str | None = None,
    nfft: int | None = None,
    scaling: str | None = None,
    sides: str | None = None,
    edges: str | None = None,
    aggregate: str | None = None,
    output: str | None = None,
    precision: str | None = None,
    preset: str | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Power of frequency bands in windows of a multichannel signal.

    Each window's spectrum is that of ``scipy.signal.periodogram``, or of ``scipy.signal.welch`` where it is cut into
    sub-windows, with the same arguments; a band's power is the mean or the integral over the bins in the band. An
    argument that is left out is the preset's; what that does not name is as given below.

    Parameters
    ----------
    data : array_like, (channel, sample)
        The signal, in volts for the units below. float32 and float64 are read where they lie when a channel's samples
        are adjacent; anything else is copied.
    sfreq : float
        Samples per second.
    bands : mapping of name to (low, high), or sequence of (low, high), optional
        Band edges in Hz. Default: delta 1-4, theta 4-8, alpha 8-13, beta 13-30, gamma 30-47 Hz.
    window : float, default 1.0
        Length of a window in seconds, rounded to whole samples.
    hop : float, optional
        Seconds from one window's start to the next. Window i starts at sample round(i * hop * sfreq), so that
        ``hop=1 / fps`` is one window per video frame. Default: one window.
    at : array_like, (window,), optional
        Instead of `hop`: the time in seconds at which each window starts, rounded to the nearest sample. For windows
        centred on video frames pass ``frame_times - window / 2``.
    subwindow : float, optional
        Cut each window into sub-windows of this length in seconds and average their spectra (Welch). Default: the
        window whole.
    overlap : float, default 0.5
        Part of a sub-window that the next one shares, 0 to 0.99.
    average : {"mean", "median"}, default "mean"
        Over sub-windows. The median of each bin is divided by its bias, as SciPy does.
    taper : {"hann", "hamming", "boxcar", "hann_symmetric", "hamming_symmetric"}, default "hann"
        In SciPy's periodic form, or in the symmetric one of MATLAB's ``hann(n)`` and ``hamming(n)``.
    detrend : {"constant", "linear", "none"}, default "constant"
        What is removed from each (sub-)window before the taper: its mean, or the line that fits it best.
    nfft : int, optional
        Samples that the DFT takes: longer ones pad a (sub-)window with zeros; shorter ones take the first `nfft`
        samples of the window, as ``scipy.signal.periodogram`` does, and are an error with sub-windows. Bins are
        sfreq / nfft apart. Default: the (sub-)window.
    scaling : {"density", "spectrum"}, default "density"
        Power spectral density in V^2/Hz, or power spectrum in V^2.
    sides : {"one", "two"}, default "one"
        One-sided, where a bin stands for its negative frequency too, or two-sided: half of that, but for the bins 0
        and sfreq / 2.
    edges : {"inclusive", "half-open", "outer"}, default "inclusive"
        A bin at frequency f is in the band when low <= f <= high, so that one on a common edge counts in both bands;
        or when low <= f < high; or, MATLAB's rule, from the last bin with f <= low to the first with f >= high.
    aggregate : {"mean", "trapezoid", "simpson", "sum"}, default "mean"
        Mean over a band's bins; or the integral of the density over them in V^2, by the trapezoidal, Simpson's
        (``scipy.integrate.simpson``) or the rectangle rule. "sum" of a power spectrum adds its bins.
    output : {"power", "relative", "log10", "db", "entropy"}, default "power"
        The power; its part of that from the lowest to the highest edge of all bands; its decimal logarithm, and ten
        times that; or the differential entropy ln(2 pi e power) / 2 of a normal signal of this power, in nats. Part
        and entropy are made of integrals: `aggregate` must not be "mean"; and the entropy's variance is that of a
        one-sided density.
    precision : {"single", "double"}, default "single"
        Within 5e-5 of SciPy's double precision, 1.5e-4 where the edge of a window, which the taper makes small, holds
        an artefact of 250 times the rest; or the same to the digits of the result. Double is slower; see Notes.
    preset : {"mmme", "yasa", "mne", "matlab"}, optional
        The convention of the MMME data set's notebooks, of ``yasa.bandpower``, of MNE's ``psd_array_welch`` or of
        MATLAB's ``bandpower``: a row of `PRESETS`. (MATLAB counts no bin at sfreq / 2.)
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (window, channel, band)
        Power in V^2/Hz, or V^2 for a spectrum or an integral. Where a channel is flat its part is NaN and its
        logarithms are very low or -inf.

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule; the message names argument, rule and value. A band that reaches above
        sfreq / 2, or holds no bin because it is narrower than the resolution, is an error.

    Notes
    -----
    The kernels compute a DFT of only the bins that the bands need, in single precision. NumPy's FFT in double
    precision takes over where ``precision="double"``, for a linear detrend and a median over sub-windows, and where it
    costs less: for many bins.

    Examples
    --------
    A wave of 10 uV at 10 Hz has a power of 50 uV^2, all of it in alpha:

    >>> time = np.arange(0, 4, 1 / 250)
    >>> wave = 10e-6 * np.sin(2 * np.pi * 10 * time)[None]
    >>> power = mf.band_power(wave, 250, bands={"theta": (4, 8), "alpha": (8, 13)}, hop=1, aggregate="sum")
    >>> power.shape
    (4, 1, 2)
    >>> power[0, 0, 1].round(13)
    np.float32(5e-11)
    """
    array = channels(data, "data")
    plan = _Plan.of(sfreq, _chosen(
        preset, bands=bands, window=window, subwindow=subwindow, overlap=overlap, average=average, taper=taper,
        detrend=detrend, nfft=nfft, scaling=scaling, sides=sides, edges=edges, aggregate=aggregate, output=output,
        precision=precision,
    ))  # fmt: skip
    starts = plan.starts(array.shape[1], hop, at)
    return plan.run(array, starts, plan.route(starts, len(array)), resolve_threads(threads))


def _chosen(preset: str | None, **given: Any) -> dict[str, Any]:
    """Return all arguments: those given, else the preset's, else the defaults."""
    named = {} if preset is None else PRESETS[one_of(preset, "preset", tuple(PRESETS))]
    return _DEFAULTS | named | {name: value for name, value in given.items() if value is not None}


class _Route(NamedTuple):
    """A way to the power of windows."""

    way: str  # "direct", "overlapping" or "fft"
    cuts: tuple[int, ...] = ()  # where, in as many samples as a window has, segments begin that windows share
    origin: int = 0  # sample from which these count
    places: tuple[int, ...] = ()  # where windows begin: at cuts, or between them, a step on from another window


def _thinned(places: NDArray[np.int64], apart: float) -> NDArray[np.int64]:
    """Return those of the places, the first among them, that are at least so far apart."""
    kept, among = [0], places.tolist()
    while (following := bisect_left(among, among[kept[-1]] + apart)) < len(among):
        kept.append(following)
    return places[kept]


def _divided(cuts: NDArray[np.int64], n: int, highest: int, bins: int) -> NDArray[np.int64]:
    """Return cuts and more of them, where a segment's DFT costs less in parts."""
    lengths = np.diff(cuts, append=n)
    length = -(-lengths.max() // np.arange(1, 65))
    cycles = length * (highest / n)
    rank = cycles + 5 + np.log2(1 + cycles)  # about as many as _basis() finds
    cost = np.minimum(rank, bins) + bins * (2 * rank + 8) / length  # of a sample
    longest = length[cost.argmin()]
    parts = -(-lengths // longest)
    first = np.cumsum(parts) - parts
    which = np.arange(parts.sum()) - np.repeat(first, parts)
    divided: NDArray[np.int64] = np.repeat(cuts, parts) + which * np.repeat(lengths, parts) // np.repeat(parts, parts)
    return divided


@lru_cache(maxsize=16)
def _basis(cuts: tuple[int, ...], n: int, lowest: int, highest: int) -> NDArray[np.float32]:
    """Return what the cosines and sines of the DFT of the longest segment are made of, (2, half, rank, 2).

    About the centre of an even, then of an odd number of samples, half of them; a cosine and a sine each. Empty where
    that would save nothing: the bins of a segment of few periods are alike, so that few terms make all of them.
    """
    half, bins = (max(np.diff(cuts, append=n), default=0) + 1) // 2, np.arange(lowest, highest + 1)
    nothing = np.empty((2, 0, 0, 2), np.float32)
    if (highest * half / n + 4) * (half + len(bins)) > half * len(bins):
        return nothing
    parts = []
    for middle in (0.5, 0):
        angle = 2 * np.pi / n * np.outer(np.arange(half) + middle, bins)
        try:
            parts.append([np.linalg.svd(wave, full_matrices=False)[:2] for wave in (np.cos(angle), np.sin(angle))])
        except np.linalg.LinAlgError:  # LAPACK gave up, as it does on some of no low rank; a basis only saves time
            return nothing
    rank = max(int(np.count_nonzero(values > 3e-7)) for part in parts for _, values in part)
    if rank * (half + len(bins)) > half * len(bins):
        return nothing
    return np.array([np.stack([waves[:, :rank] for waves, _ in part], axis=-1) for part in parts], np.float32)


@dataclass(frozen=True)
class _Plan:
    """What a call asks for, worked out once for all of its chunks.

    A power is a weighted sum of |DFT|^2 over bins, whatever the scaling, the sides and the aggregate.
    """

    sfreq: float
    window: int
    offsets: NDArray[np.int64]  # of the sub-windows
    taper: NDArray[np.float64]
    cosine: tuple[float, float] | None  # (a, b) of a taper a - b cos(2 pi t / nfft)
    detrend: str
    nfft: int
    bins: NDArray[np.int32]
    weights: NDArray[np.float64]  # (band, bin), and a last row for the whole of the bands where output is relative
    bands: dict[str, tuple[float, float]]
    median: bool
    double: bool
    output: str
    unit: str

    @classmethod
    def of(cls, sfreq: float, chosen: dict[str, Any]) -> _Plan:
        sfreq = number(sfreq, "sfreq", low=0, high=1e9, open_low=True)
        window = number(chosen["window"], "window", low=0, open_low=True)
        for name, allowed in (
            ("taper", tuple(_TAPERS)),
            ("detrend", ("constant", "linear", "none")),
            ("scaling", ("density", "spectrum")),
            ("sides", ("one", "two")),
            ("edges", ("inclusive", "half-open", "outer")),
            ("aggregate", ("mean", *_INTEGRALS)),
            ("average", ("mean", "median")),
            ("output", ("power", "relative", "log10", "db", "entropy")),
            ("precision", ("single", "double")),
        ):
            one_of(chosen[name], name, allowed)
        scaling, aggregate, output = chosen["scaling"], chosen["aggregate"], chosen["output"]
        if scaling != "density" and (aggregate in ("trapezoid", "simpson") or output == "entropy"):
            which = f"output={output!r}" if output == "entropy" else f"aggregate={aggregate!r}"
            raise ValueError(f"scaling must be 'density' for {which}, an integral, got {scaling!r}")
        if output in ("relative", "entropy"):
            one_of(aggregate, f"aggregate, for output={output!r},", _INTEGRALS)
        if output == "entropy" and chosen["sides"] != "one":
            raise ValueError(f"sides must be 'one' for output='entropy', got {chosen['sides']!r}")

        n = round(min(window * sfreq, 2.0**53))
        segment, offsets, nfft = _segments(n, sfreq, window, chosen)
        a, b = _TAPERS[chosen["taper"]]
        period = max(segment - chosen["taper"].endswith("_symmetric"), 1)
        taper = a - b * np.cos(2 * np.pi / period * np.arange(segment))
        if not taper.any():
            raise ValueError(f"window must be longer for taper={chosen['taper']!r}, got {segment} samples, all 0")
        scale = 1 / (sfreq * np.sum(taper**2)) if scaling == "density" else 1 / np.sum(taper) ** 2

        bands = _named(chosen["bands"])
        resolution = sfreq / nfft
        ranges = [_bins(name, limits, nfft, sfreq, chosen["edges"]) for name, limits in bands.items()]
        if output == "relative":
            whole_range = (min(low for low, _ in bands.values()), max(high for _, high in bands.values()))
            ranges.append(_bins("all", whole_range, nfft, sfreq, chosen["edges"]))
        bins = np.unique(np.concatenate([np.arange(low, high + 1) for low, high in ranges]))
        counts = np.where((bins == 0) | (2 * bins == nfft) | (chosen["sides"] == "two"), scale, 2 * scale)
        weights = np.zeros((len(ranges), len(bins)))
        for row, name, (low, high) in zip(weights, [*bands, "all"], ranges, strict=False):
            inside = (low <= bins) & (bins <= high)
            if low == high and aggregate in ("trapezoid", "simpson"):
                raise ValueError(
                    f"bands[{name!r}] must hold at least two bins for aggregate={aggregate!r}, got {bands[name]} Hz at "
                    f"a resolution of {resolution:g} Hz"
                )
            row[inside] = counts[inside] * _rule(aggregate, high - low + 1)
            if aggregate in _INTEGRALS and scaling == "density":
                row *= resolution
        unit = "V^2/Hz" if (scaling, aggregate) == ("density", "mean") else "V^2"
        return cls(
            sfreq,
            n,
            offsets,
            taper,
            (a, b) if period == nfft == len(taper) else None,
            chosen["detrend"],
            nfft,
            bins.astype(np.int32),
            weights,
            bands,
            chosen["average"] == "median" and len(offsets) > 1,
            chosen["precision"] == "double",
            output,
            {
                "power": unit,
                "relative": "1",
                "log10": f"log10({unit})",
                "db": f"dB re 1 {unit}",
                "entropy": "nat re 1 V",
            }[output],
        )

    @property
    def resolution(self) -> float:
        return self.sfreq / self.nfft

    def starts(self, n_samples: int, hop: float | None, at: ArrayLike | None) -> NDArray[np.int64]:
        """Return the first sample of every window."""
        n = self.window
        if n > n_samples:
            raise ValueError(
                f"window must be at most the data's length, {n_samples / self.sfreq:g} s, got {n / self.sfreq:g} s"
            )
        last = n_samples - n
        if at is None:
            step = float(n)
            if hop is not None:
                step = number(hop, "hop", low=0, open_low=True) * self.sfreq
                if step < 1 - 1e-9:
                    raise ValueError(f"hop must be at least one sample, {1 / self.sfreq:g} s, got {hop!r}")
                step = min(step, last + 1.0)  # it may be infinite
            starts = np.rint(np.arange(int((last + 0.5) / step) + 1) * step).astype(np.int64)
            fitting: NDArray[np.int64] = starts[starts <= last]
            return fitting
        if hop is not None:
            raise ValueError(f"hop must be None where at is given, got {hop!r}")
        times = np.asarray(at)
        if times.ndim != 1 or not times.size:
            raise ValueError(f"at must be 1-D with at least one time, got shape {times.shape}")
        if times.dtype.kind not in "fiu":
            raise TypeError(f"at must be real numbers, got {times.dtype}")
        samples = np.rint(times.astype(np.float64) * self.sfreq)
        outside = ~((samples >= 0) & (samples <= last))  # NaN is outside
        if outside.any():
            i = int(np.argmax(outside))
            raise ValueError(
                f"at must be 0 to {last / self.sfreq:g} s, where a window of {n / self.sfreq:g} s still fits in the "
                f"data, got at[{i}] = {times[i]!s}"
            )
        return samples.astype(np.int64)

    def route(self, starts: NDArray[np.int64], n_channels: int) -> _Route:
        """Return the cheapest way to compute these windows.

        Decided for all windows of a call, so that any chunks give the same bits.
        """
        if self.double or self.median or self.detrend == "linear":
            return _Route("fft")
        costs = self.costs(starts, n_channels)
        return min(costs, key=lambda route: costs[route])

    def costs(self, starts: NDArray[np.int64], n_channels: int) -> dict[_Route, float]:
        """Return what each way costs for a window and channel."""
        n, cost, bins = len(self.taper), _COSTS[active_backend()], len(self.bins)

        def of(each: _Each) -> float:
            return each[0] + each[1] * bins

        panels = -(-bins // 64)  # of bins, for each of which samples are folded anew
        folded = 2 if self.nfft == n and n % 4 == 0 else 1  # times
        count = len(starts) * len(self.offsets) * n_channels
        table = _TABLE * n * bins / count
        length, each_bin, batch = _FFT
        batches = -(-count // min(max(_BATCH // self.nfft, 1), count))
        costs = {
            _Route("direct"): table + n * (cost.direct[0] * panels + cost.direct[1] * bins * 2 / folded),
            _Route("fft"): length * self.nfft * float(np.log2(self.nfft)) + each_bin * bins + batch * batches / count,
        }
        if self.cosine is not None:
            begin = int(starts.min())
            used = np.zeros(n, bool)
            used[(starts - begin) % n] = True
            used = np.logical_or.reduce([np.roll(used, offset) for offset in np.unique(self.offsets % n)])
            cuts, origin = np.flatnonzero(used), begin % n
            # Where a common measure is long enough, other windows beside these do not change their bits.
            common = int(np.gcd.reduce(cuts, initial=n))
            if common >= _SHORT:
                cuts, origin = np.arange(0, n, common), begin % common
            places = cuts
            if cost.step is not None and n < _SHORT * len(places):
                cuts = _thinned(places, n * _APART)
            cuts = _divided(cuts, n, int(self.bins[-1]) + 1, len(self.bins))
            places = np.union1d(places, cuts)
            apart = np.diff(starts)
            if apart.min(initial=0) < 0:
                apart = np.diff(np.sort(starts))
            samples = int(np.minimum(apart, self.window).sum()) + self.window
            hop = max(samples / (len(starts) * len(self.offsets)), 1)
            spare = -(-n_channels // cost.vector) * cost.vector / n_channels
            sample, segment, window = map(of, cost.segments)
            segments, steps = hop * len(cuts) / n, hop * (len(places) - len(cuts)) / n
            route = _Route("overlapping", tuple(cuts.tolist()), origin, tuple(places.tolist()))
            between = of(cost.step) * steps if steps and cost.step is not None else 0
            costs[route] = table + spare * (sample * hop + segment * max(segments, not steps) + between + window)
            sample, window = map(of, cost.samples)
            costs[_Route("overlapping")] = table + spare * (sample * hop + window)
        return costs

    def reach(self, route: _Route, start: int) -> int:
        """Return the first sample that the route reads for a window and those after it: at the cut before it."""
        if not route.cuts:
            return start
        starts, cuts = start + self.offsets, np.array(route.cuts)
        places = (starts - route.origin) % len(self.taper)
        return int((starts - places + cuts[np.searchsorted(cuts, places, side="right") - 1]).min())

    def run(
        self, data: NDArray[Any], starts: NDArray[np.int64], route: _Route, threads: int, first: int = 0
    ) -> NDArray[np.float32]:
        """Return the output for the windows of `data`, which begins at sample `first` of the whole."""
        with np.errstate(invalid="ignore", over="ignore"):
            # NaN and infinity go through to the output, so that the input need not be looked through.
            power: NDArray[Any]
            if route.way == "fft":
                power = self._powers_by_fft(data, starts - first, threads)
                suspects = not_finite(power)
            else:
                power, suspects = self._powers_by_kernel(data, starts - first, route, first, threads)
            which = np.array(suspects, np.int64)
            if len(which) and len(route.places) > len(route.cuts):
                # A step from another window that had an artefact, NaN or infinity in it may have spoiled these.
                alone, _ = self._powers_by_kernel(data, starts[which] - first, _Route("direct"), first, threads)
                power[which] = np.where(np.isfinite(power[which]), power[which], alone)
            which = which[not_finite(power[which])]
        if len(which):
            with np.errstate(over="ignore"):
                window, channel = np.argwhere(~np.isfinite(power[which].astype(np.float32, copy=False)))[0, :2]
            start = starts[which[window]] - first
            bad = ~np.isfinite(data[channel, start : start + self.window])
            if not bad.any():
                raise ValueError(f"data must be small enough for its power in float32, got channel {channel} too large")
            i = start + int(np.argmax(bad))
            raise ValueError(f"data must be finite, got {data[channel, i]} in channel {channel}, sample {i + first}")
        with np.errstate(divide="ignore", invalid="ignore"):  # a flat channel
            if self.output == "relative":
                power = power[..., :-1] / power[..., -1:]
            elif self.output == "entropy":
                power = np.log(2 * np.pi * np.e * power) / 2
            elif self.output != "power":
                power = np.log10(power) * (10 if self.output == "db" else 1)
        return np.ascontiguousarray(power, np.float32)

    def _powers_by_kernel(
        self, data: NDArray[Any], starts: NDArray[np.int64], route: _Route, first: int, threads: int
    ) -> tuple[NDArray[np.float32], list[int]]:
        """Return the powers and in which windows they may be NaN or infinite."""
        taper, weights, detrend = self.taper.astype(np.float32), self.weights.astype(np.float32), self.detrend != "none"

        def segments(at: NDArray[np.int64]) -> tuple[NDArray[np.float32], list[int]]:
            out = np.empty((len(at), len(data), len(weights)), np.float32)
            if route.way == "overlapping":
                assert self.cosine is not None
                n = len(taper)
                return out, kernels().overlapping_band_power(
                    data, out, at, first - route.origin + n, n, np.array(route.cuts, np.int32),
                    np.array(route.places, np.int32),
                    _basis(route.cuts, n, int(self.bins[0]) - 1, int(self.bins[-1]) + 1), *self.cosine, detrend,
                    self.bins, weights, threads,
                )  # fmt: skip
            kernels().band_power(data, out, at, taper, detrend, self.nfft, self.bins, weights, threads)
            return out, not_finite(out)

        count = len(self.offsets)
        if count == 1:
            return segments(starts)
        mean = np.empty((len(starts), len(data), len(weights)), np.float32)
        step = max(1, _BATCH // (count * len(data) * len(weights)))
        for i in range(0, len(starts), step):
            at, which = np.unique(starts[i : i + step, None] + self.offsets, return_inverse=True)
            (power, _), total = segments(at), 0.0
            for column in which.reshape(-1, count).T:
                total = total + power[column].astype(np.float64)
            mean[i : i + step] = total / count
        return mean, not_finite(mean)

    def _powers_by_fft(self, data: NDArray[Any], starts: NDArray[np.int64], threads: int) -> NDArray[np.float64]:
        n, count = len(self.taper), len(self.offsets)
        out = np.empty((len(starts), len(data), len(self.weights)))
        samples = sliding_window_view(data, n, axis=1)  # (channel, start, sample)
        at = starts[:, None] + self.offsets
        ramp = np.arange(n) - (n - 1) / 2
        ranges = [slice(used[0], used[-1] + 1) for used in map(np.flatnonzero, self.weights)]
        rows = max(1, _BATCH // (self.nfft * count))
        channels, windows = min(rows, len(data)), max(1, rows // len(data))

        def batch(corner: tuple[int, int]) -> None:
            here = [slice(i, i + size) for i, size in zip(corner, (windows, channels), strict=True)]
            with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are found in the result
                x = samples[here[1]][:, at[here[0]]].astype(np.float64)  # (channel, window, sub-window, sample)
                if self.detrend != "none":
                    x -= x.mean(axis=-1, keepdims=True)
                if self.detrend == "linear":
                    x -= (x * ramp).sum(axis=-1, keepdims=True) / (ramp @ ramp) * ramp
                x *= self.taper
                dft = np.fft.rfft(x, self.nfft)[..., self.bins]
                power = dft.real**2 + dft.imag**2
                power = np.median(power, axis=2) / _median_bias(count) if self.median else power.mean(axis=2)
                # Sums along bins, not a matrix product, whose order of terms may depend on the size of the batch.
                for band, (weights, used) in enumerate(zip(self.weights, ranges, strict=True)):
                    out[here[0], here[1], band] = (power[..., used] * weights[used]).sum(axis=-1).T

        corners = itertools.product(range(0, len(starts), windows), range(0, len(data), channels))
        if threads == 1:
            for corner in corners:
                batch(corner)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(batch, corners))
        return out


def _segments(n: int, sfreq: float, window: float, chosen: dict[str, Any]) -> tuple[int, NDArray[np.int64], int]:
    """Return the samples that are tapered at a time, where they begin in the window, and the length of the DFT."""
    longest = 2**20  # samples; the kernel's tables grow with them
    subwindow, nfft = chosen["subwindow"], chosen["nfft"]
    if n < 2 or (subwindow is None and n > longest):
        raise ValueError(f"window must be 2 to {longest} samples of 1 / {sfreq:g} s, got {window!r} s")
    overlap = number(chosen["overlap"], "overlap", low=0, high=0.99)
    segment, offsets = n, np.zeros(1, np.int64)
    if subwindow is not None:
        segment = round(min(number(subwindow, "subwindow", low=0, open_low=True) * sfreq, n + 1))
        if not 2 <= segment <= min(n, longest):
            raise ValueError(
                f"subwindow must be 2 to {min(n, longest)} samples of 1 / {sfreq:g} s, within the window, got "
                f"{subwindow!r} s"
            )
        step = segment - int(overlap * segment + 1e-9)
        if (n - segment) // step >= longest:
            raise ValueError(f"window must hold at most {longest} sub-windows, got {(n - segment) // step + 1}")
        offsets = np.arange(0, n - segment + 1, step, dtype=np.int64)
    if nfft is None:
        return segment, offsets, segment
    nfft = whole(nfft, "nfft", low=2, high=longest)
    if nfft < segment and subwindow is not None:
        raise ValueError(f"nfft must be at least the sub-window's {segment} samples, got {nfft}")
    return min(segment, nfft), offsets, nfft


def _rule(aggregate: str, n: int) -> NDArray[np.float64]:
    """Return the weights of n neighbouring bins, one apart, in their mean or their integral."""
    weights = np.ones(n)
    if aggregate == "mean":
        weights /= n
    elif aggregate == "trapezoid" or (aggregate == "simpson" and n == 2):
        weights[[0, -1]] = 0.5
    elif aggregate == "simpson":
        odd = n - 1 + n % 2  # bins that pairs of intervals join; Cartwright's formula adds an interval that is left
        weights[:odd] = np.where(np.arange(odd) % 2, 4 / 3, 2 / 3)
        weights[[0, odd - 1]] = 1 / 3
        if odd < n:
            weights[-1] = 0
            weights[-3:] += np.array([-1, 8, 5]) / 12
    return weights


def _median_bias(n: int) -> float:
    """Return the expected median of n periodograms of noise, beside their mean (Allen et al. 2012, appendix B)."""
    even = 2 * np.arange(1, (n - 1) // 2 + 1)
    return 1 + float(np.sum(1 / (even + 1) - 1 / even))


def _named(bands: Bands) -> dict[str, tuple[float, float]]:
    items: list[tuple[Any, Any]]
    if isinstance(bands, Mapping):
        items = list(bands.items())
    elif isinstance(bands, Sequence | np.ndarray) and not isinstance(bands, str):
        items = [(i, edges) for i, edges in enumerate(bands)]
    else:
        raise TypeError(f"bands must be a mapping of name to (low, high) or a sequence of (low, high), got {bands!r}")
    if not items:
        raise ValueError("bands must hold at least one band, got none")
    named = {}
    for key, edges in items:
        label = f"bands[{key!r}]"
        if np.shape(edges) != (2,):
            raise ValueError(f"{label} must be (low, high) in Hz, got {edges!r}")
        low, high = number(edges[0], f"{label} low", low=0), number(edges[1], f"{label} high", low=0)
        if low >= high:
            raise ValueError(f"{label} must have low below high, got {low:g}-{high:g} Hz")
        named[key if isinstance(bands, Mapping) else f"{low:g}-{high:g} Hz"] = (low, high)
    return named


def _bins(name: str, limits: tuple[float, float], nfft: int, sfreq: float, edges: str) -> tuple[int, int]:
    """Return the first and the last DFT bin of a band, whose limits are compared with the bins up to rounding."""
    if limits[1] > sfreq / 2 * (1 + 1e-9):
        raise ValueError(
            f"bands[{name!r}] must end at or below the Nyquist frequency, {sfreq / 2:g} Hz, got "
            f"{limits[0]:g}-{limits[1]:g} Hz"
        )
    low, high = (limit * nfft / sfreq for limit in limits)
    (low_down, low_up), (high_down, high_up) = (
        (int(np.floor(x + 1e-9 * (1 + x))), int(np.ceil(x - 1e-9 * (1 + x)))) for x in (low, high)
    )
    first, last = {
        "inclusive": (low_up, high_down),
        "half-open": (low_up, high_up - 1),
        "outer": (low_down, high_up),
    }[edges]
    last = min(last, nfft // 2)
    if last < first:
        raise ValueError(
            f"bands[{name!r}] must hold at least one bin, got {limits[0]:g}-{limits[1]:g} Hz, narrower than the "
            f"resolution of {sfreq / nfft:g} Hz; a longer window makes it finer"
        )
    return first, last


class Marker(NamedTuple):
    """An event written into a recording: onset and duration in seconds, and its text."""

    onset: float
    duration: float
    text: str


@dataclass(frozen=True)
class Recording:
    """An EEG recording on disk, read piece by piece.

    Attributes
    ----------
    source : str
        Where it came from.
    sfreq : float
        Samples per second.
    ch_names : tuple of str
        The channels picked.
    n_samples : int
        Samples per channel.
    markers : tuple of Marker
        In order of onset; times count from the first sample.
    unit : str
        Of the samples: "V"; an array is taken to be in volts.
    mapped : (ndarray of float32, (sample, channel); tuple of int), or None
        The file of an EEGLAB recording mapped into memory, all of its channels in microvolts, and those picked.
    """

    source: str
    sfreq: float
    ch_names: tuple[str, ...]
    n_samples: int
    markers: tuple[Marker, ...]
    _read: Callable[[int, int], NDArray[Any]] = field(repr=False)
    unit: str = "V"
    mapped: tuple[NDArray[np.float32], tuple[int, ...]] | None = field(default=None, repr=False)

    @property
    def duration(self) -> float:
        """Seconds from the first sample to the end of the last."""
        return self.n_samples / self.sfreq

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Where the recording was interrupted, (begin, end) in seconds, from the markers that say so.

        A boundary has no length: what lay between is not in the file. Those are "boundary" of EEGLAB and MNE, "New
        Segment" of BrainVision; MNE's "BAD_ACQ_SKIP" lasts as long as its samples are missing.
        """
        gaps = {
            (onset, onset + (duration if text.upper().startswith("BAD_ACQ") else 0.0))
            for onset, duration, text in self.markers
            if _GAP.fullmatch(text)
        }
        return tuple(sorted((begin, end) for begin, end in gaps if end > 0 and begin < self.duration))

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the samples start to stop - 1, (channel, sample), float32 or float64 in volts.

        Pieces of about ten seconds are read fastest; without arguments the whole recording is read.
        """
        stop = self.n_samples if stop is None else whole(stop, "stop", low=1, high=self.n_samples)
        start = whole(start, "start", low=0, high=stop - 1)
        return channels(self._read(start, stop), "data")


_GAP = re.compile(r"((BAD|EDGE)[ _])?boundary|New Segment(/.*)?|BAD_ACQ_SKIP", re.IGNORECASE)

# What MNE calls EEG, because the file says no more, but whose name tells otherwise.
_NOT_EEG = re.compile(r".*(EOG|ECG|EKG|EMG|GSR|EDA|RESP|RSP|PPG|TRIG|STATUS).*|[HV]EO[LRUD]?|BIP\d*", re.IGNORECASE)

# Format -> MNE's reader and its arguments.
_READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".edf": ("read_raw_edf", {"infer_types": True}),
    ".bdf": ("read_raw_bdf", {"infer_types": True}),
    ".set": ("read_raw_eeglab", {}),
    ".vhdr": ("read_raw_brainvision", {}),
    ".cnt": ("read_raw_cnt", {}),
    ".fif": ("read_raw_fif", {}),
}
_HEADER_OF = {".fdt": ".set", ".eeg": ".vhdr", ".vmrk": ".vhdr", ".dap": ".dat", ".rs3": ".dat"}


def open_recording(
    source: str | os.PathLike[str] | ArrayLike, *, sfreq: float | None = None, pick: str | Sequence[str] = "eeg"
) -> Recording:
    """Open an EEG recording for reading piece by piece; it is never in memory as a whole.

    Parameters
    ----------
    source : path or array_like, (channel, sample)
        EDF (.edf), BDF (.bdf), EEGLAB (.set with .fdt), BrainVision (.vhdr), Neuroscan (.cnt) and FIF (.fif) are read
        through MNE, ``pip install "mmme_fast[eeg]"``; Curry 7 (.dat) and 8 (.cdt), and .npy, which is mapped into
        memory, without it. A .set that holds the data itself can only be read whole; a warning says so.
    sfreq : float, optional
        Samples per second of an array or .npy, which cannot say it.
    pick : {"eeg", "all"} or sequence of str, default "eeg"
        Channels to read. "eeg" leaves out those of other types and, as many formats know no types, those named like
        EOG, ECG, EMG, respiration, BIP1 or a trigger. Names are read in the order given.

    Returns
    -------
    Recording

    Raises
    ------
    FileNotFoundError
        When the file, or a file that it refers to, is missing.
    ImportError
        When MNE is needed and missing.
    ValueError
        When the file is empty, not of its format, or shorter than it declares.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> made = synth.recording(10, sfreq=250, channels=4, seed=1)
    >>> recording = mf.open_recording(made.data(), sfreq=250)
    >>> recording.duration, recording.ch_names
    (10.0, ('1', '2', '3', '4'))
    >>> recording.read(0, 500).shape
    (4, 500)
    """
    if not isinstance(source, str | os.PathLike):
        return _from_array("array", channels(source, "source"), sfreq, pick)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no such recording: {path}")
    if not path.is_file():
        raise IsADirectoryError(f"a recording must be a file, got the folder {path}")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    kind = path.suffix.lower()
    if kind in _HEADER_OF:
        raise ValueError(f"{path} is part of a recording; open its {path.with_suffix(_HEADER_OF[kind]).name}")
    if kind == ".npy":
        try:
            data = map_npy(path)
        except ValueError as error:
            raise _unreadable(path, error) from error
        return _from_array(str(path), data, sfreq, pick)
    if sfreq is not None:
        raise ValueError(f"sfreq must be None for {path.name}, which says it itself, got {sfreq!r}")
    if kind in (".cdt", ".dat"):
        return _from_curry(path, pick)
    if kind in _READERS:
        return _from_mne(path, kind, pick)
    known = ", ".join((*_READERS, ".cdt", ".dat", ".npy"))
    raise ValueError(f"a recording must be one of {known}, got {path.name}")


def _unreadable(path: Path, error: Exception) -> ValueError:
    # Some of MNE's messages begin with the indented lines of a traceback.
    lines = [line for line in str(error).splitlines() if line and not line[0].isspace()]
    reason = lines[0] if lines else type(error).__name__
    return ValueError(f"{path} is not a readable {path.suffix.lower()} recording: {reason}")


def _picked(names: Sequence[str], types: Sequence[str], pick: str | Sequence[str], source: str) -> list[int]:
    """Return the indices of the channels to read."""
    if isinstance(pick, str):
        one_of(pick, "pick", ("eeg", "all"))
        if pick == "all":
            return list(range(len(names)))
        kept = [i for i, name in enumerate(names) if types[i] == "eeg" and not _NOT_EEG.fullmatch(name)]
        if not kept:
            raise ValueError(f"pick='eeg' finds no EEG channel in {source}, which has {', '.join(names)}")
        left_out = [name for i, name in enumerate(names) if i not in kept]
        if left_out:
            logger.info("%s: left out %d channels that are not EEG: %s", source, len(left_out), ", ".join(left_out))
        return kept
    missing = [name for name in pick if name not in names]
    if missing or not len(pick):
        raise ValueError(f"pick must name channels of {source} ({', '.join(names)}), got {missing or list(pick)}")
    return [names.index(name) for name in pick]


def _from_array(source: str, data: NDArray[Any], sfreq: float | None, pick: str | Sequence[str]) -> Recording:
    if sfreq is None:
        raise ValueError(f"sfreq must be given for {source}, which cannot say it, got None")
    sfreq = number(sfreq, "sfreq", low=0, high=1e9, open_low=True)
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(f"{source} must be 2-D (channel, sample) and not empty, got shape {data.shape}")
    if data.dtype.kind not in "fiu":
        raise TypeError(f"{source} must be real numbers, got {data.dtype}")
    names = [str(i + 1) for i in range(len(data))]
    kept = _picked(names, ["eeg"] * len(names), pick, source)

    def read(start: int, stop: int) -> NDArray[Any]:
        piece = data[:, start:stop]
        return piece if kept == list(range(len(data))) else piece[kept]

    return Recording(source, sfreq, tuple(names[i] for i in kept), data.shape[1], (), read)


def _from_curry(path: Path, pick: str | Sequence[str]) -> Recording:
    """Read Curry's raw float data. (MNE's reader loads the whole file, several times over, when it opens one.)"""
    if path.suffix.lower() == ".cdt":
        header_path, label_path, event_path = (path.with_name(path.name + end) for end in (".dpa", ".dpa", ".cef"))
        if not header_path.exists() and path.with_name(path.name + ".dpo").exists():
            header_path = label_path = path.with_name(path.name + ".dpo")
    else:
        header_path, label_path, event_path = (path.with_suffix(end) for end in (".dap", ".rs3", ".cef"))
    for part in (header_path, label_path):
        if not part.exists():
            raise FileNotFoundError(f"{path} needs {part.name} beside it, which is missing")
    header, labels = (part.read_text(encoding="utf-8-sig", errors="replace") for part in (header_path, label_path))

    def value(key: str) -> str:
        found = re.search(rf"^\s*{key}\s*=[ \t]*(\S+)", header, re.MULTILINE)
        if not found:
            raise ValueError(f"{header_path} is not a readable Curry header: it has no {key}")
        return found[1]

    def lists(text: str, key: str) -> list[list[str]]:
        """The lines of every list KEY or KEY_GROUP."""
        found = re.findall(rf"^{key}(\w*) START_LIST[^\n]*\n(.*?)^{key}\1 END_LIST", text, re.MULTILINE | re.DOTALL)
        return [body.splitlines() for _, body in found]

    if value("DataFormat") == "ASCII" or value("DataSampOrder") != "SAMP" or value("DataByteOrder") != "INTEL":
        raise ValueError(f"{path} must be raw float, sample by sample: export it from Curry as 'Raw Float'")
    try:
        n_channels, n_samples, n_trials = (int(value(f"Num{what}")) for what in ("Channels", "Samples", "Trials"))
        sfreq = float(value("SampleFreqHz"))
    except ValueError as error:
        raise _unreadable(path, error) from error
    if n_trials != 1:
        raise ValueError(f"{path} must be a continuous recording, got {n_trials} epochs")
    if min(n_channels, n_samples) < 1 or not sfreq > 0:
        raise ValueError(f"{path} declares {n_channels} channels of {n_samples} samples at {sfreq:g} Hz")
    if path.stat().st_size != 4 * n_channels * n_samples:
        raise ValueError(
            f"{path} must hold {4 * n_channels * n_samples} bytes for {n_channels} channels of {n_samples} samples, "
            f"got {path.stat().st_size}"
        )
    names = [line.strip() for body in lists(labels, "LABELS") for line in body]
    groups = re.findall(r"^DEVICE_PARAMETERS(\w*) START$(.*?)^DEVICE_PARAMETERS\1 END", header, re.M | re.S)
    types, scales = [], []
    for group, body in groups:
        count = re.search(r"NumChanThisGroup\s*=\s*(\d+)", body)
        unit = re.search(r"DataUnit\s*=\s*(\S+)", body)
        n = int(count[1]) if count else 0
        types += ["misc" if "OTHER" in group else "mag" if "MAG" in group else "eeg"] * n
        scales += [{"uV": 1e-6, "fT": 1e-15}.get(unit[1] if unit else "", 1.0)] * n
    # The labels may name channels that were not stored: their place in the file is 0.
    places = [int(line) for body in lists(header, "CHAN_IN_FILE") for line in body]
    if places and len(places) == len(names) == len(types):
        order = sorted((place, i) for i, place in enumerate(places) if place)
        names, types = ([each[i] for _, i in order] for each in (names, types))
        scales = [scales[i] for _, i in order]
    if not len(names) == len(types) == n_channels:
        raise ValueError(f"{label_path} must name the {n_channels} channels of {path.name}, got {len(names)}")

    markers = []
    if event_path.exists():
        events = event_path.read_text(encoding="utf-8-sig", errors="replace")
        rows = [line.split() for body in lists(events, "NUMBER_LIST") for line in body]
        remarks = [line.strip() for body in lists(events, "REMARK_LIST") for line in body]
        for i, row in enumerate(rows):
            first, last = int(row[4]), int(row[5])
            text = remarks[i] if i < len(remarks) and remarks[i] else row[2]
            markers.append(Marker(first / sfreq, (last - first) / sfreq, text))
    kept = _picked(names, types, pick, str(path))
    scale = np.array([scales[i] for i in kept])[:, None]

    def read(start: int, stop: int) -> NDArray[Any]:
        count = (stop - start) * n_channels
        samples = np.fromfile(path, "<f4", count, offset=4 * n_channels * start).reshape(-1, n_channels)
        volts: NDArray[np.float64] = samples.T[kept] * scale
        return volts

    return Recording(str(path), sfreq, tuple(names[i] for i in kept), n_samples, tuple(sorted(markers)), read)


def _from_mne(path: Path, kind: str, pick: str | Sequence[str]) -> Recording:
    try:
        import mne
    except ImportError as error:
        raise ImportError(f'reading {path.name} needs MNE: pip install "mmme_fast[eeg]"') from error

    reader, options = _READERS[kind]
    with _mne_speaks(path):
        raw = getattr(mne.io, reader)(path, preload=False, verbose="WARNING", **options)
    data_path = Path(raw.filenames[0] or path)
    n_channels, n_samples = len(raw.ch_names), int(raw.n_times)
    mapped = None
    if kind == ".set":
        if raw.preload or data_path.samefile(path):
            logger.warning(
                "%s holds its data itself, so it is read whole; save it from EEGLAB in two files (.set and .fdt) to "
                "have it read piece by piece",
                path,
            )
        elif data_path.stat().st_size < 4 * n_channels * n_samples:
            raise ValueError(
                f"{data_path} must hold {n_samples} samples of {n_channels} channels as {path.name} says, got "
                f"{data_path.stat().st_size // (4 * n_channels)} samples"
            )
    names = list(raw.ch_names)
    kept = _picked(names, raw.get_channel_types(), pick, str(path))
    markers = sorted(
        Marker(float(onset - raw.first_time), float(duration), str(text))
        for onset, duration, text in zip(
            raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
        )
    )

    def read(start: int, stop: int) -> NDArray[Any]:
        with _mne_speaks(path):
            samples: NDArray[Any] = raw.get_data(picks=kept, start=start, stop=stop, verbose="WARNING")
        return samples

    if kind == ".set" and not (raw.preload or data_path.samefile(path)):
        data = np.memmap(data_path, "<f4", "r", shape=(n_samples, n_channels)).view(np.ndarray)
        mapped = (data, tuple(kept))
    sfreq = float(raw.info["sfreq"])
    return Recording(str(path), sfreq, tuple(names[i] for i in kept), n_samples, tuple(markers), read, mapped=mapped)


@contextmanager
def _mne_speaks(path: Path) -> Iterator[None]:
    """Turn MNE's warnings into log lines, and its many kinds of errors into one, of one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        except (PermissionError, MemoryError):
            raise
        except Exception as error:
            raise _unreadable(path, error) from error
    for warning in caught:
        logger.warning("%s: %s", path, " ".join(str(warning.message).split()))


@dataclass(frozen=True)
class BandPowerStream:
    """Band power of a recording, computed as it is read: iterate over it for (times, power), or save() it.

    Attributes
    ----------
    recording : Recording
    times : ndarray of float64, (window,)
        Where each window starts, in seconds.
    kept : ndarray of int, (window,)
        Which of the windows asked for these are, counted from 0: one that would span a gap of the recording is left
        out.
    left_out : int
        How many those were.
    bands : dict of str to (float, float)
        Edges in Hz.
    bins : dict of str to int
        DFT bins in each band.
    resolution : float
        Distance of the bins in Hz.
    unit : str
        "V^2/Hz" or "V^2" for power, "1" for its part of the whole, "log10(V^2/Hz)", "dB re 1 V^2/Hz", "nat re 1 V".
    parameters : dict
        The arguments it was made with.
    """

    recording: Recording
    kept: NDArray[np.int64]
    left_out: int
    parameters: dict[str, Any]
    _plan: _Plan = field(repr=False)
    _starts: NDArray[np.int64] = field(repr=False)
    _chunk: float = field(repr=False)
    _threads: int | None = field(repr=False)

    @property
    def times(self) -> NDArray[np.float64]:
        return self._starts / self.recording.sfreq

    @property
    def bands(self) -> dict[str, tuple[float, float]]:
        return dict(self._plan.bands)

    @property
    def bins(self) -> dict[str, int]:
        return dict(zip(self._plan.bands, np.count_nonzero(self._plan.weights, axis=1).tolist(), strict=False))

    @property
    def resolution(self) -> float:
        return self._plan.resolution

    @property
    def unit(self) -> str:
        return self._plan.unit

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._starts)

    def __iter__(self) -> Chunks:
        """Yield (times, power) chunk by chunk: (window,) float64 and (window, channel, band) float32."""
        n, starts, times = self._plan.window, self._starts, self.times
        span = max(round(self._chunk * self.recording.sfreq), n)
        threads, route = resolve_threads(self._threads), self._plan.route(starts, len(self.recording.ch_names))
        kept = np.empty((len(self.recording.ch_names), 0))  # the samples from `first` on that were read last
        first = i = 0
        while i < len(starts):
            # The windows from i on that lie within `span` samples of window i, whose order may be any.
            near = (starts[i:] >= starts[i]) & (starts[i:] + n <= starts[i] + span)
            j = i + (len(near) if near.all() else int(np.argmin(near)))
            begin, end = self._plan.reach(route, int(starts[i])), int(starts[i:j].max()) + n
            have = first + kept.shape[1]
            if first <= begin < have:
                fresh = [self.recording.read(have, end)] if end > have else []
                kept = np.concatenate([kept[:, begin - first :], *fresh], axis=1)
            else:
                kept = self.recording.read(begin, end)
            first = begin
            yield times[i:j], self._plan.run(kept, starts[i:j], route, threads, first)
            i = j

    def save(
        self, out: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        """Compute the band power and write it, with a .json of the same name that says how it was made.

        Nothing appears at `out` before it is complete. When interrupted by Ctrl-C, the windows done so far are
        written, the .json says that they are not all, and the KeyboardInterrupt goes on with a message that says where.

        Parameters
        ----------
        out : path
            ``.csv`` and ``.parquet``: a row per window, a column "time" (start of the window in seconds) and one per
            channel and band ("Fp1 alpha"). ``.npz``: the arrays times (window,), power (window, channel, band),
            ch_names, bands and band_edges (band, 2), Hz. ``.zarr``: times and power, and what the .json says as
            attributes; one that is there already is an error. All but .npz are written as the windows come. Missing
            folders are made.
        progress : callable, optional
            Called with the number of windows done and their total.

        Returns
        -------
        dict
            What the .json holds.
        """
        return save(out, _WRITERS, self, lambda part: len(part[0]), "windows", progress)

    def to_dataframe(self) -> Any:
        """Compute the band power as a pandas DataFrame: a row per window, columns (channel, band).

        The index is the start of the window in seconds; ``attrs`` has unit, resolution, bands and bins.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_dataframe() needs pandas: pip install pandas") from error
        times, power = _joined(self, self)
        columns = pd.MultiIndex.from_product([self.recording.ch_names, self.bands], names=["channel", "band"])
        table = pd.DataFrame(power.reshape(len(power), -1), pd.Index(times, name="time"), columns)
        table.attrs.update(self._attributes())
        return table

    def to_xarray(self) -> Any:
        """Compute the band power as an xarray DataArray (time, channel, band).

        Along "band" there are the coordinates low and high, the edges in Hz, and bins; ``attrs`` has units and
        resolution.
        """
        try:
            import xarray as xr
        except ImportError as error:
            raise ImportError("to_xarray() needs xarray: pip install xarray") from error
        times, power = _joined(self, self)
        low, high = zip(*self.bands.values(), strict=True)
        return xr.DataArray(
            power,
            {
                "time": ("time", times, {"units": "s"}),
                "channel": list(self.recording.ch_names),
                "band": list(self.bands),
                "low": ("band", list(low), {"units": "Hz"}),
                "high": ("band", list(high), {"units": "Hz"}),
                "bins": ("band", list(self.bins.values())),
            },
            ("time", "channel", "band"),
            name="band_power",
            attrs={"units": self.unit, "resolution": self.resolution},
        )

    def _attributes(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "resolution": self.resolution,
            "bands": {name: list(edges) for name, edges in self.bands.items()},
            "bins": self.bins,
        }

    def _meta(self, done: int) -> dict[str, Any]:
        from mmme_fast import __version__

        recording, path = self.recording, Path(self.recording.source)
        return {
            "mmme_fast": __version__,
            "backend": active_backend(),
            "source": recording.source,
            "source_bytes": path.stat().st_size if path.is_file() else None,
            "sfreq": recording.sfreq,
            "n_samples": recording.n_samples,
            "ch_names": list(recording.ch_names),
            "markers": [list(marker) for marker in recording.markers],
            "windows": done,
            "windows_left_out": self.left_out,
            "complete": done == len(self),
            **self._attributes(),
            "parameters": self.parameters,
        }


def stream_band_power(
    recording: Recording,
    *,
    bands: Bands | None = None,
    window: float | None = None,
    hop: float | None = None,
    at: ArrayLike | None = None,
    subwindow: float | None = None,
    overlap: float | None = None,
    average: str | None = None,
    taper: str | None = None,
    detrend: str | None = None,
    nfft: int | None = None,
    scaling: str | None = None,
    sides: str | None = None,
    edges: str | None = None,
    aggregate: str | None = None,
    output: str | None = None,
    precision: str | None = None,
    preset: str | None = None,
    chunk: float = 10.0,
    threads: int | None = None,
) -> BandPowerStream:
    """Band power of a recording in constant memory: that of `band_power`, bit for bit, for any length of chunk.

    Windows that would span one of the recording's `gaps` are left out and counted.

    Parameters
    ----------
    recording : Recording
        From `open_recording`.
    bands, window, hop, at, subwindow, overlap, average, taper : optional
    detrend, nfft, scaling, sides, edges, aggregate, output, precision, preset, threads : optional
        As in `band_power`. With `at` in no order pieces are read again and again; sort it where that matters.
    chunk : float, default 10.0
        Seconds to read at a time, at least one window.

    Returns
    -------
    BandPowerStream
        Nothing is read before it is iterated or saved; wrong arguments raise here.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> recording = mf.open_recording(synth.recording(30, sfreq=250, channels=4, seed=1).data(), sfreq=250)
    >>> stream = mf.stream_band_power(recording, hop=0.5)
    >>> len(stream), stream.unit, stream.resolution
    (59, 'V^2/Hz', 1.0)
    >>> [power.shape for times, power in stream]
    [(19, 4, 5), (19, 4, 5), (19, 4, 5), (2, 4, 5)]
    >>> sorted(stream.save("rest.npz"))[:3]
    ['backend', 'bands', 'bins']
    """
    chosen = _chosen(
        preset, bands=bands, window=window, subwindow=subwindow, overlap=overlap, average=average, taper=taper,
        detrend=detrend, nfft=nfft, scaling=scaling, sides=sides, edges=edges, aggregate=aggregate, output=output,
        precision=precision,
    )  # fmt: skip
    plan = _Plan.of(recording.sfreq, chosen)
    asked = plan.starts(recording.n_samples, hop, at)
    chunk = number(chunk, "chunk", low=0, open_low=True)
    kept = _within(asked, plan.window, recording)
    window = plan.window / plan.sfreq
    parameters = {name: value for name, value in chosen.items() if name != "bands"} | {
        "window": window,
        "hop": None if at is not None else window if hop is None else float(hop),
        "at": at is not None,
        "preset": preset,
    }
    return BandPowerStream(recording, kept, len(asked) - len(kept), parameters, plan, asked[kept], chunk, threads)


def _within(starts: NDArray[np.int64], n: int, recording: Recording) -> NDArray[np.int64]:
    """Return the indices of the windows of n samples that span no gap."""
    whole_ones = np.ones(len(starts), bool)
    for gap in recording.gaps:
        # A boundary may lie half a sample before the first one that follows it.
        begin, end = (int(np.ceil(seconds * recording.sfreq - 1e-3)) for seconds in gap)
        whole_ones &= (starts >= end) | (starts + n <= begin)
    kept = np.flatnonzero(whole_ones).astype(np.int64)
    if not len(kept):
        raise ValueError(
            f"window must fit between the gaps of {recording.source}, got {n / recording.sfreq:g} s, and all "
            f"{len(starts)} windows span one"
        )
    if len(kept) < len(starts):
        logger.warning(
            "%s: left out %d of %d windows that would span one of its %d gaps",
            recording.source, len(starts) - len(kept), len(starts), len(recording.gaps),
        )  # fmt: skip
    return kept


def _columns(stream: BandPowerStream) -> list[str]:
    return ["time", *(f"{channel} {band}" for channel in stream.recording.ch_names for band in stream.bands)]


def _joined(
    stream: BandPowerStream, chunks: Iterable[tuple[NDArray[np.float64], NDArray[np.float32]]]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    shape = (0, len(stream.recording.ch_names), len(stream.bands))
    times, power = [np.empty(0)], [np.empty(shape, np.float32)]
    for t, p in chunks:
        times.append(t)
        power.append(p)
    return np.concatenate(times), np.concatenate(power)


def _rows(stream: BandPowerStream) -> int:
    """Return how many windows a file is best written in at a time: 4 MB."""
    return max(1, 2**20 // (len(stream.recording.ch_names) * len(stream.bands)))


def _blocks(stream: BandPowerStream, chunks: Chunks) -> Chunks:
    """Yield the same windows, _rows() at a time."""
    rows = _rows(stream)
    waiting: list[tuple[NDArray[np.float64], NDArray[np.float32]]] = []
    for chunk in chunks:
        waiting.append(chunk)
        while sum(len(times) for times, _ in waiting) >= rows:
            times, power = _joined(stream, waiting)
            yield times[:rows], power[:rows]
            waiting = [(times[rows:], power[rows:])]
    times, power = _joined(stream, waiting)
    if len(times):
        yield times, power


def _write_npz(path: Path, stream: BandPowerStream, chunks: Chunks) -> None:
    with written(path) as file:
        times, power = _joined(stream, chunks)
        np.savez(
            file,
            times=times,
            power=power,
            ch_names=np.array(stream.recording.ch_names),
            bands=np.array(list(stream.bands)),
            band_edges=np.array(list(stream.bands.values()), np.float64),
        )


def _write_csv(path: Path, stream: BandPowerStream, chunks: Chunks) -> None:
    write_csv(
        path,
        _columns(stream),
        (
            [f"{t:.10g}", *(f"{value:.9g}" for value in row.tolist())]
            for times, power in chunks
            for t, row in zip(times.tolist(), power.reshape(len(power), -1), strict=True)
        ),
    )


def _write_parquet(path: Path, stream: BandPowerStream, chunks: Chunks) -> None:
    columns = dict.fromkeys(_columns(stream), "float32") | {"time": "float64"}
    groups = (
        [times, *np.ascontiguousarray(power.reshape(len(power), -1).T)] for times, power in _blocks(stream, chunks)
    )
    write_parquet(path, columns, groups)


def _write_zarr(path: Path, stream: BandPowerStream, chunks: Chunks) -> None:
    try:
        import zarr
    except ImportError as error:
        raise ImportError('writing .zarr needs zarr: pip install "mmme_fast[zarr]"; or save as .npz') from error
    if path.exists():
        raise FileExistsError(errno.EEXIST, "out must not be there yet", str(path))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        store = Path(folder) / path.name
        group = zarr.open_group(str(store), mode="w")

        def array(name: str, dtype: str, *shape: int) -> Any:
            return zarr.open_array(
                str(store / name),
                mode="w",
                shape=(len(stream), *shape),
                chunks=(min(_rows(stream), len(stream)), *shape),
                dtype=dtype,
            )

        arrays = (
            array("times", "float64"),
            array("power", "float32", len(stream.recording.ch_names), len(stream.bands)),
        )
        done = 0
        for times, power in _blocks(stream, chunks):
            for to, values in ((arrays[0], times), (arrays[1], power)):
                to[done : done + len(times)] = values
            done += len(times)
        if done < len(stream):
            for to in arrays:
                to.resize((done, *to.shape[1:]))
        group.attrs.update(stream._meta(done))
        os.replace(store, path)


_WRITERS: dict[str, Callable[[Path, BandPowerStream, Chunks], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".zarr": _write_zarr,
}
