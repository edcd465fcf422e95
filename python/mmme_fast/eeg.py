"""EEG: recordings on disk, and the power of their frequency bands."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import channels, number, one_of, whole
from mmme_fast._backend import active_backend, kernels, resolve_threads
from mmme_fast._files import written

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

# Coefficients of the periodic cosine tapers, as scipy.signal.get_window(taper, n).
_TAPERS = {"boxcar": (1.0, 0.0), "hann": (0.5, 0.5), "hamming": (0.54, 0.46)}

# What the two kernels cost for each window, channel and bin, in multiply-adds: the direct DFT as many as the window has
# samples; sums that overlapping windows share _SHARED_SAMPLE for each sample to the next window and _SHARED_WINDOW
# besides, for as many channels as fill whole vectors. benchmarks/bench_eeg.py measures both sides of where they meet.
_SHARED_SAMPLE, _SHARED_WINDOW, _VECTOR = 4.0, 20.0, 16


def band_power(
    data: ArrayLike,
    sfreq: float,
    *,
    bands: Bands | None = None,
    window: float = 1.0,
    hop: float | None = None,
    at: ArrayLike | None = None,
    taper: str = "hann",
    detrend: str = "constant",
    scaling: str = "density",
    aggregate: str = "mean",
    preset: str | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Power of frequency bands in windows of a multichannel signal.

    Each window's one-sided periodogram is that of ``scipy.signal.periodogram`` with the same taper, detrend and
    scaling (and no zero padding), within 5e-5 of its double precision; a band's power is the mean or the integral over
    the bins in the band.

    Parameters
    ----------
    data : array_like, (channel, sample)
        The signal, in volts for the units below. float32 and float64 are read where they lie when a channel's samples
        are adjacent; anything else is copied.
    sfreq : float
        Samples per second.
    bands : mapping of name to (low, high), or sequence of (low, high), optional
        Band edges in Hz. A bin at frequency f is in the band when low <= f <= high, so that a bin on a common edge
        counts in both bands. Default: delta 1-4, theta 4-8, alpha 8-13, beta 13-30, gamma 30-47 Hz.
    window : float, default 1.0
        Length of a window in seconds, rounded to whole samples. Bins are 1 / window apart.
    hop : float, optional
        Seconds from one window's start to the next. Window i starts at sample round(i * hop * sfreq), so that
        ``hop=1 / fps`` is one window per video frame. Default: one window.
    at : array_like, (window,), optional
        Instead of `hop`: the time in seconds at which each window starts, rounded to the nearest sample. For windows
        centred on video frames pass ``frame_times - window / 2``.
    taper : {"hann", "hamming", "boxcar"}, default "hann"
        In SciPy's periodic form.
    detrend : {"constant", "none"}, default "constant"
        "constant" removes each window's mean before the taper.
    scaling : {"density", "spectrum"}, default "density"
        Power spectral density in V^2/Hz, or power spectrum in V^2.
    aggregate : {"mean", "trapezoid"}, default "mean"
        Mean over a band's bins, or the integral of the density over them by the trapezoidal rule, in V^2.
    preset : None
        For published conventions; there are none yet.
    threads : int, optional
        Default: `get_num_threads()`.

    Returns
    -------
    ndarray of float32, (window, channel, band)
        In V^2/Hz, or V^2 for a spectrum or an integral.

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule; the message names argument, rule and value. A band that reaches above
        sfreq / 2, or holds no bin because it is narrower than the resolution, is an error.
    """
    array = channels(data, "data")
    plan = _Plan.of(sfreq, bands, window, taper, detrend, scaling, aggregate, preset)
    starts = plan.starts(array.shape[1], hop, at)
    return plan.run(array, starts, plan.overlapping(starts, len(array)), resolve_threads(threads))


@dataclass(frozen=True)
class _Plan:
    """What a call asks of the kernel, worked out once for all of its chunks."""

    sfreq: float
    taper: NDArray[np.float32]
    cosine: tuple[float, float]  # (a, b) of the taper a - b cos(2 pi t / n)
    detrend: bool
    bins: NDArray[np.int32]
    weights: NDArray[np.float32]  # (band, bin): what |DFT|^2 counts for
    bands: dict[str, tuple[float, float]]
    unit: str

    @classmethod
    def of(
        cls,
        sfreq: float,
        bands: Bands | None,
        window: float,
        taper: str,
        detrend: str,
        scaling: str,
        aggregate: str,
        preset: str | None,
    ) -> _Plan:
        if preset is not None:
            raise ValueError(f"preset must be None, as there are no presets yet, got {preset!r}")
        sfreq = number(sfreq, "sfreq", low=0, open_low=True)
        window = number(window, "window", low=0, open_low=True)
        one_of(taper, "taper", tuple(_TAPERS))
        one_of(detrend, "detrend", ("constant", "none"))
        one_of(scaling, "scaling", ("density", "spectrum"))
        one_of(aggregate, "aggregate", ("mean", "trapezoid"))
        if aggregate == "trapezoid" and scaling != "density":
            raise ValueError(f"scaling must be 'density' for aggregate='trapezoid', an integral, got {scaling!r}")
        n = round(window * sfreq)
        if not 2 <= n <= 2**20:  # the kernel's table grows with it
            raise ValueError(f"window must be 2 to {2**20} samples of 1 / {sfreq:g} s, got {window!r} s")
        a, b = _TAPERS[taper]
        weighting = a - b * np.cos(2 * np.pi / n * np.arange(n))
        scale = 1 / (sfreq * np.sum(weighting**2)) if scaling == "density" else 1 / np.sum(weighting) ** 2
        named = _named(bands)
        resolution = sfreq / n
        ranges = {name: _bins(name, edges, n, sfreq) for name, edges in named.items()}
        bins = np.unique(np.concatenate([np.arange(low, high + 1) for low, high in ranges.values()]))
        one_sided = np.where((bins == 0) | (2 * bins == n), scale, 2 * scale)
        weights = np.zeros((len(named), len(bins)))
        for row, (name, (low, high)) in zip(weights, ranges.items(), strict=True):
            inside = (low <= bins) & (bins <= high)
            if aggregate == "mean":
                row[inside] = one_sided[inside] / (high - low + 1)
            elif low == high:
                raise ValueError(
                    f"bands[{name!r}] must hold at least two bins for aggregate='trapezoid', got {named[name]} Hz at a "
                    f"resolution of {resolution:g} Hz"
                )
            else:
                ends = np.where((bins == low) | (bins == high), 0.5, 1.0)
                row[inside] = (one_sided * ends * resolution)[inside]
        unit = "V^2/Hz" if (scaling, aggregate) == ("density", "mean") else "V^2"
        return cls(
            sfreq,
            weighting.astype(np.float32),
            (a, b),
            detrend == "constant",
            bins.astype(np.int32),
            weights.astype(np.float32),
            named,
            unit,
        )

    @property
    def resolution(self) -> float:
        return self.sfreq / len(self.taper)

    def starts(self, n_samples: int, hop: float | None, at: ArrayLike | None) -> NDArray[np.int64]:
        """Return the first sample of every window."""
        n = len(self.taper)
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

    def overlapping(self, starts: NDArray[np.int64], n_channels: int) -> bool:
        """Whether windows share sums; decided for all windows of a call, so that any chunks give the same bits."""
        if len(starts) < 2:
            return False
        hop = float(np.ptp(starts)) / (len(starts) - 1)
        filled = n_channels / (-(-n_channels // _VECTOR) * _VECTOR)
        return _SHARED_SAMPLE * hop + _SHARED_WINDOW < filled * len(self.taper)

    def run(
        self, data: NDArray[Any], starts: NDArray[np.int64], overlapping: bool, threads: int, first: int = 0
    ) -> NDArray[np.float32]:
        """Return the power in the windows of `data`, which begins at sample `first` of the whole."""
        out = np.empty((len(starts), len(data), len(self.bands)), np.float32)
        n = len(self.taper)
        starts_here = starts - first
        if overlapping:
            kernels().overlapping_band_power(
                data, out, starts_here, first, n, *self.cosine, self.detrend, self.bins, self.weights, threads
            )
        else:
            kernels().band_power(data, out, starts_here, self.taper, self.detrend, n, self.bins, self.weights, threads)
        # NaN and infinity go through to the output, which is far smaller to look through than the input.
        if not np.isfinite(out).all():
            window, channel = np.argwhere(~np.isfinite(out))[0, :2]
            start = starts[window] - first
            bad = ~np.isfinite(data[channel, start : start + n])
            if not bad.any():
                raise ValueError(f"data must be small enough for its power in float32, got channel {channel} too large")
            i = start + int(np.argmax(bad))
            raise ValueError(f"data must be finite, got {data[channel, i]} in channel {channel}, sample {i + first}")
        return out


def _named(bands: Bands | None) -> dict[str, tuple[float, float]]:
    if bands is None:
        return BANDS
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


def _bins(name: str, edges: tuple[float, float], n: int, sfreq: float) -> tuple[int, int]:
    """Return the first and the last DFT bin within the edges, both inclusive up to rounding."""
    low, high = (edge * n / sfreq for edge in edges)
    if edges[1] > sfreq / 2 * (1 + 1e-9):
        raise ValueError(
            f"bands[{name!r}] must end at or below the Nyquist frequency, {sfreq / 2:g} Hz, got "
            f"{edges[0]:g}-{edges[1]:g} Hz"
        )
    first, last = int(np.ceil(low - 1e-9 * (1 + low))), int(np.floor(high + 1e-9 * (1 + high)))
    last = min(last, n // 2)
    if last < first:
        raise ValueError(
            f"bands[{name!r}] must hold at least one bin, got {edges[0]:g}-{edges[1]:g} Hz, narrower than the "
            f"resolution of {sfreq / n:g} Hz; a longer window makes it finer"
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
    """

    source: str
    sfreq: float
    ch_names: tuple[str, ...]
    n_samples: int
    markers: tuple[Marker, ...]
    _read: Callable[[int, int], NDArray[Any]] = field(repr=False)
    unit: str = "V"

    @property
    def duration(self) -> float:
        """Seconds from the first sample to the end of the last."""
        return self.n_samples / self.sfreq

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the samples start to stop - 1, (channel, sample), float32 or float64 in volts.

        Pieces of about ten seconds are read fastest; without arguments the whole recording is read.
        """
        stop = self.n_samples if stop is None else whole(stop, "stop", low=1, high=self.n_samples)
        start = whole(start, "start", low=0, high=stop - 1)
        return channels(self._read(start, stop), "data")


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
            data = np.lib.format.open_memmap(path, mode="r")
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
    sfreq = number(sfreq, "sfreq", low=0, open_low=True)
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

    sfreq = float(raw.info["sfreq"])
    return Recording(str(path), sfreq, tuple(names[i] for i in kept), n_samples, tuple(markers), read)


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
    bands : dict of str to (float, float)
        Edges in Hz, both inclusive.
    bins : dict of str to int
        DFT bins in each band.
    resolution : float
        Distance of the bins in Hz.
    unit : str
        "V^2/Hz" or "V^2".
    parameters : dict
        The arguments it was made with.
    """

    recording: Recording
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
        return dict(zip(self._plan.bands, np.count_nonzero(self._plan.weights, axis=1).tolist(), strict=True))

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
        n, starts, times = len(self._plan.taper), self._starts, self.times
        span = max(round(self._chunk * self.recording.sfreq), n)
        threads = resolve_threads(self._threads)
        overlapping = self._plan.overlapping(starts, len(self.recording.ch_names))
        kept = np.empty((len(self.recording.ch_names), 0))  # the samples from `first` on that were read last
        first = i = 0
        while i < len(starts):
            # The windows from i on that lie within `span` samples of window i, whose order may be any.
            near = (starts[i:] >= starts[i]) & (starts[i:] + n <= starts[i] + span)
            j = i + (len(near) if near.all() else int(np.argmin(near)))
            begin, end = int(starts[i]), int(starts[i:j].max()) + n
            have = first + kept.shape[1]
            if first <= begin < have:
                fresh = [self.recording.read(have, end)] if end > have else []
                kept = np.concatenate([kept[:, begin - first :], *fresh], axis=1)
            else:
                kept = self.recording.read(begin, end)
            first = begin
            yield times[i:j], self._plan.run(kept, starts[i:j], overlapping, threads, first)
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
            channel and band ("Fp1 alpha"), written as they come. ``.npz``: the arrays times (window,), power
            (window, channel, band), ch_names, bands and band_edges (band, 2), Hz. Missing folders are made.
        progress : callable, optional
            Called with the number of windows done and their total.

        Returns
        -------
        dict
            What the .json holds.
        """
        path = Path(out)
        write = _WRITERS.get(path.suffix.lower())
        if write is None or path.with_suffix(".json") == path:
            raise ValueError(f"out must end in one of {', '.join(_WRITERS)}, got {path.name}")
        began, done, interrupted = time.perf_counter(), 0, False

        def chunks() -> Chunks:
            nonlocal done, interrupted
            try:
                for times, power in self:
                    yield times, power
                    done += len(times)
                    if progress is not None:
                        progress(done, len(self))
            except KeyboardInterrupt:
                interrupted = True

        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as file:
            write(file, self, chunks())
        meta = self._meta(done) | {"seconds": time.perf_counter() - began}
        with written(path.with_suffix(".json")) as file:
            file.write(json.dumps(meta, indent=1).encode())
        if interrupted:
            raise KeyboardInterrupt(f"interrupted; {done} of {len(self)} windows are in {path}")
        return meta

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
            "complete": done == len(self),
            "unit": self.unit,
            "resolution": self.resolution,
            "bands": {name: list(edges) for name, edges in self.bands.items()},
            "bins": self.bins,
            "parameters": self.parameters,
        }


def stream_band_power(
    recording: Recording,
    *,
    bands: Bands | None = None,
    window: float = 1.0,
    hop: float | None = None,
    at: ArrayLike | None = None,
    taper: str = "hann",
    detrend: str = "constant",
    scaling: str = "density",
    aggregate: str = "mean",
    preset: str | None = None,
    chunk: float = 10.0,
    threads: int | None = None,
) -> BandPowerStream:
    """Band power of a recording in constant memory: that of `band_power`, bit for bit, for any length of chunk.

    Parameters
    ----------
    recording : Recording
        From `open_recording`.
    bands, window, hop, at, taper, detrend, scaling, aggregate, preset, threads
        As in `band_power`. With `at` in no order pieces are read again and again; sort it where that matters.
    chunk : float, default 10.0
        Seconds to read at a time, at least one window.

    Returns
    -------
    BandPowerStream
        Nothing is read before it is iterated or saved; wrong arguments raise here.

    Examples
    --------
    >>> recording = open_recording("rest.edf")                              # doctest: +SKIP
    >>> for times, power in stream_band_power(recording, hop=0.1): ...      # doctest: +SKIP
    >>> stream_band_power(recording, hop=0.1).save("rest.parquet")          # doctest: +SKIP
    """
    plan = _Plan.of(recording.sfreq, bands, window, taper, detrend, scaling, aggregate, preset)
    starts = plan.starts(recording.n_samples, hop, at)
    chunk = number(chunk, "chunk", low=0, open_low=True)
    parameters = {
        "window": len(plan.taper) / plan.sfreq,
        "hop": None if at is not None else len(plan.taper) / plan.sfreq if hop is None else float(hop),
        "at": at is not None,
        "taper": taper,
        "detrend": detrend,
        "scaling": scaling,
        "aggregate": aggregate,
    }
    return BandPowerStream(recording, parameters, plan, starts, chunk, threads)


def _columns(stream: BandPowerStream) -> list[str]:
    return ["time", *(f"{channel} {band}" for channel in stream.recording.ch_names for band in stream.bands)]


def _write_npz(file: IO[bytes], stream: BandPowerStream, chunks: Chunks) -> None:
    shape = (0, len(stream.recording.ch_names), len(stream.bands))
    times, power = [np.empty(0)], [np.empty(shape, np.float32)]
    for t, p in chunks:
        times.append(t)
        power.append(p)
    np.savez(
        file,
        times=np.concatenate(times),
        power=np.concatenate(power),
        ch_names=np.array(stream.recording.ch_names),
        bands=np.array(list(stream.bands)),
        band_edges=np.array(list(stream.bands.values()), np.float64),
    )


def _write_csv(file: IO[bytes], stream: BandPowerStream, chunks: Chunks) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(stream))
    for times, power in chunks:
        for t, row in zip(times.tolist(), power.reshape(len(power), -1), strict=True):
            writer.writerow([f"{t:.10g}", *(f"{value:.9g}" for value in row.tolist())])
    text.detach()  # flushed, and the file left open


def _write_parquet(file: IO[bytes], stream: BandPowerStream, chunks: Chunks) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("writing .parquet needs pyarrow: pip install pyarrow; or save as .npz or .csv") from error
    columns = _columns(stream)
    schema = pa.schema([(columns[0], pa.float64()), *((name, pa.float32()) for name in columns[1:])])
    with pq.ParquetWriter(file, schema) as writer:
        for times, power in chunks:
            values = np.ascontiguousarray(power.reshape(len(power), -1).T)
            writer.write_table(pa.table([pa.array(times), *map(pa.array, values)], schema=schema))


_WRITERS: dict[str, Callable[[IO[bytes], BandPowerStream, Chunks], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
