"""Signals of the body beside the EEG (pulse, breath, skin conductance, temperature) and their features in windows."""

from __future__ import annotations

import logging
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from mmme_fast._arrays import number, one_of
from mmme_fast.eeg import Marker, Recording, open_recording

logger = logging.getLogger("mmme_fast")

Float = NDArray[np.float64]
Pieces = Callable[[], Iterator[NDArray[Any]]]  # the samples from the first to the last, a piece at a time

# Kind -> how channels of that kind are named. A name that speaks of a rate is that of a computed channel.
KINDS = {
    "ecg": re.compile(r"ECG|EKG|electrocardio", re.IGNORECASE),
    "ppg": re.compile(r"PPG|BVP|pulse|pleth", re.IGNORECASE),
    "rsp": re.compile(r"RSP|resp|breath", re.IGNORECASE),
    "eda": re.compile(r"EDA|GSR|SCL|SCR|skin cond|electrodermal", re.IGNORECASE),
    "skt": re.compile(r"SKT|temp", re.IGNORECASE),
}
_COMPUTED = re.compile(r"\brate\b|\bBPM\b", re.IGNORECASE)

# Kinds that have a rate -> the longest time between two beats or breaths, s; a longer one is a loss of the signal.
_LONGEST = {"ecg": 3.0, "ppg": 3.0, "rsp": 20.0}

# Beats are sought in stretches, with so much more in view on either side, s.
_STRETCH, _MARGIN = 300.0, 30.0
_SHORTEST = 3.0  # s, in which no rate is to be found

_PIECE = 2**18  # samples read at a time


@dataclass(frozen=True)
class Channel:
    """A channel: its name, its kind (a key of `KINDS`), the unit of its samples, their rate in Hz and their number."""

    name: str
    kind: str
    unit: str
    sfreq: float
    n_samples: int
    _pieces: Pieces = field(repr=False)


@dataclass(frozen=True)
class Peripherals:
    """Peripheral signals on disk, read piece by piece.

    Attributes
    ----------
    source : str
        Where they came from.
    channels : tuple of Channel
        They may have different rates; all begin at second 0.
    markers : tuple of Marker
        In order of onset; times count from the first sample. `mmme_fast.align` takes them.
    """

    source: str
    channels: tuple[Channel, ...]
    markers: tuple[Marker, ...] = ()


def open_peripherals(
    source: str | os.PathLike[str] | Recording, *, sfreq: float | None = None, kinds: Mapping[str, str] | None = None
) -> Peripherals:
    """Open a recording of peripheral signals for `peripheral_features` and `spot`.

    Needs ``pip install "mmme_fast[peripherals]"``.

    Parameters
    ----------
    source : path or Recording
        BIOPAC ``.acq``, read piece by piece unless it is compressed, then channel by channel. ``.mat`` (up to version
        7), held in memory: as AcqKnowledge exports it, as bioread's acq2mat writes it, or any other, of which each
        vector is a channel. Or whatever `open_recording` opens, or has opened, such as an EDF whose ECG lies beside the
        EEG.
    sfreq : float, optional
        Samples per second where the file does not say it: vectors of a .mat, and .npy.
    kinds : mapping of str to {"ecg", "ppg", "rsp", "eda", "skt"}, optional
        What the channels of these names are; others are left out. Default: what their names tell.

    Returns
    -------
    Peripherals

    Raises
    ------
    FileNotFoundError
        When the file is missing.
    ImportError
        When a library that the file or a rate needs is missing.
    ValueError
        When the file cannot be read or is cut off, or no channel is of a known kind.

    Examples
    --------
    >>> pulse = np.sin(2 * np.pi * 1.2 * np.arange(0, 60, 0.01))
    >>> recording = mf.open_recording(pulse[None], sfreq=100, pick="all")
    >>> [(one.name, one.kind) for one in mf.open_peripherals(recording, kinds={"1": "ppg"}).channels]
    [('1', 'ppg')]
    """
    kinds = None if kinds is None else {name: one_of(kind, "kinds", tuple(KINDS)) for name, kind in kinds.items()}
    if isinstance(source, Recording):
        opened, known = source, _of_recording(source, source.ch_names)
        found = Peripherals(opened.source, known, opened.markers)
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"no such recording: {path}")
        suffix = path.suffix.lower()
        if suffix != ".mat" and suffix != ".npy" and sfreq is not None:
            raise ValueError(f"sfreq must be None for {path.name}, which says it itself, got {sfreq!r}")
        if suffix == ".acq":
            found = _from_acq(path)
        elif suffix == ".mat":
            found = _from_mat(path, sfreq)
        else:
            found = _from_recording(path, sfreq, kinds)
    channels = _chosen(found, kinds)
    if any(channel.kind in _LONGEST for channel in channels) and find_spec("neurokit2") is None:
        raise ImportError('heart and breathing rates need neurokit2: pip install "mmme_fast[peripherals]"')
    return Peripherals(found.source, channels, found.markers)


def peripheral_features(
    source: str | os.PathLike[str] | Peripherals, at: ArrayLike, *, window: ArrayLike = 1.0
) -> dict[str, Float]:
    """Mean, slope, range and rate of peripheral signals in windows.

    Parameters
    ----------
    source : path or Peripherals
        What `open_peripherals` opens, or has opened.
    at : array_like, (window,)
        When each window starts, in seconds of the recording, in any order. For windows centred on video frames pass
        ``frame_times - window / 2``.
    window : float or array_like, (window,), default 1.0
        Length of the windows, or of each, in seconds, rounded to whole samples and at least one. Windows of ``1 / fps``
        resample the signals to video frames: their mean is the sample of that frame.

    Returns
    -------
    dict of str to ndarray of float64, (window,)
        For each channel "NAME mean", in the channel's unit; "NAME slope", of the line that fits best, in the unit per
        second; "NAME range", largest less smallest; and for ECG, PPG and respiration "NAME rate", beats or breaths per
        minute. NaN where a window reaches beyond the signal or holds a NaN, where one sample has no slope, and where
        the pulse or breath is not to be found.

    Raises
    ------
    TypeError, ValueError
        When an argument breaks its rule, or no window lies within the recording.

    Notes
    -----
    Beats and breaths are the peaks that NeuroKit2 finds with its default methods ("neurokit" for ECG, "elgendi" for
    PPG, "khodadad2018" for respiration), without correction of artefacts. The rate is their number in the window, the
    interval at either end in part, divided by its length; intervals of more than 3 s (beats) and 20 s (breaths) are
    left out of both.

    Examples
    --------
    >>> pulse = np.sin(2 * np.pi * 1.2 * np.arange(0, 60, 0.01))  # 72 beats per minute
    >>> signals = mf.open_peripherals(mf.open_recording(pulse[None], sfreq=100, pick="all"), kinds={"1": "ppg"})
    >>> features = mf.peripheral_features(signals, at=[10, 20, 30], window=5)
    >>> list(features)
    ['1 mean', '1 slope', '1 range', '1 rate']
    >>> features["1 rate"].round(1)
    array([72., 72., 72.])
    """
    opened = source if isinstance(source, Peripherals) else open_peripherals(source)
    times = np.asarray(at)
    if times.ndim != 1 or not times.size:
        raise ValueError(f"at must be 1-D with at least one time, got shape {times.shape}")
    lengths = np.asarray(window)
    for name, values in (("at", times), ("window", lengths)):
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{name} must be real numbers, got {values.dtype}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    if lengths.shape not in ((), times.shape):
        raise ValueError(f"window must be a number or one for each of the {len(times)} times, got {lengths.shape}")
    if not (lengths > 0).all():
        raise ValueError(f"window must be above 0, got {lengths.min():g}")
    lengths = np.broadcast_to(lengths, times.shape).astype(np.float64)
    times = times.astype(np.float64)
    ends = max(channel.n_samples / channel.sfreq for channel in opened.channels)
    if not ((times >= 0) & (times + lengths <= ends + 1e-9)).any():
        raise ValueError(f"at must have a window within the {ends:g} s of {opened.source}, got none")
    features: dict[str, Float] = {}
    for channel in opened.channels:
        mean, slope, span = _statistics(channel, times, lengths)
        features |= {f"{channel.name} mean": mean, f"{channel.name} slope": slope, f"{channel.name} range": span}
        if channel.kind in _LONGEST:
            features[f"{channel.name} rate"] = _rate(channel, times, lengths)
    return features


def _statistics(channel: Channel, times: Float, lengths: Float) -> Float:
    """Mean, slope per second and range in each window, (3, window)."""
    out = np.full((3, len(times)), np.nan)
    starts = np.rint(times * channel.sfreq).astype(np.int64)
    samples = np.maximum(np.rint(lengths * channel.sfreq), 1).astype(np.int64)
    order = np.argsort(starts, kind="stable")
    order = order[(starts[order] >= 0) & (starts[order] + samples[order] <= channel.n_samples)]
    starts, samples = starts[order], samples[order]
    stops = starts + samples
    kept, first = np.empty(0), 0  # the samples from `first` on
    i = 0
    for piece in channel._pieces():
        kept = np.concatenate([kept, piece])
        whole = stops[i:] <= first + len(kept)
        j = i + (len(whole) if whole.all() else int(np.argmin(whole)))
        if i < j:
            out[:, order[i:j]] = _reduced(kept, starts[i:j] - first, samples[i:j], channel.sfreq)
            i = j
        if i == len(starts):
            break
        drop = min(max(int(starts[i]) - first, 0), len(kept))
        kept, first = kept[drop:], first + drop
    return out


def _reduced(x: Float, starts: NDArray[np.int64], lengths: NDArray[np.int64], sfreq: float) -> Float:
    """Mean, slope per second and range of the windows of x, (3, window)."""
    out = np.full((3, len(starts)), np.nan)
    for n in np.unique(lengths):
        alike = np.flatnonzero(lengths == n)
        ramp = np.arange(n) - (n - 1) / 2
        rows = max(_PIECE // n, 1)
        for i in range(0, len(alike), rows):
            which = alike[i : i + rows]
            windows = sliding_window_view(x, n)[starts[which]]
            out[0, which] = windows.mean(axis=1)
            if n > 1:
                out[1, which] = windows @ ramp * (sfreq / (ramp @ ramp))
            out[2, which] = np.ptp(windows, axis=1)
    return out


def _rate(channel: Channel, times: Float, lengths: Float) -> Float:
    """Beats or breaths per minute in each window, (window,)."""
    peaks = _peaks(channel) / channel.sfreq
    if len(peaks) < 2:
        return np.full(len(times), np.nan)
    intervals = np.diff(peaks)
    seen = intervals <= _LONGEST[channel.kind]
    counted, lasted = (np.concatenate([[0.0], np.cumsum(each)]) for each in (seen, np.where(seen, intervals, 0.0)))
    beats, seconds = (
        np.interp(times + lengths, peaks, course) - np.interp(times, peaks, course) for course in (counted, lasted)
    )
    known = seconds > 1e-6
    inside = (times >= 0) & (times + lengths <= channel.n_samples / channel.sfreq + 1e-9)
    return np.where(known & inside, 60 * beats / np.where(known, seconds, 1.0), np.nan)


def _peaks(channel: Channel) -> NDArray[np.int64]:
    """Samples of the heart's beats or of the breaths' heights."""
    find = _FINDERS[channel.kind]
    stretch, margin = round(_STRETCH * channel.sfreq), round(_MARGIN * channel.sfreq)
    found = [np.empty(0, np.int64)]
    kept, first, begin = np.empty(0), 0, 0

    def decide(end: int, view: int) -> None:
        """Find the peaks from begin to end - 1, with the samples to `view` in sight."""
        samples = kept[: view - first]
        finite = np.isfinite(samples)
        if len(samples) < _SHORTEST * channel.sfreq or not finite.any() or not np.ptp(samples[finite]):
            return
        if not finite.all():
            samples = np.interp(np.arange(len(samples)), np.flatnonzero(finite), samples[finite])
        peaks = first + find(samples, channel.sfreq)
        found.append(peaks[(begin <= peaks) & (peaks < end)])

    for piece in channel._pieces():
        kept = np.concatenate([kept, piece])
        while first + len(kept) >= begin + stretch + margin:
            decide(begin + stretch, begin + stretch + margin)
            begin += stretch
            drop = max(begin - margin - first, 0)
            kept, first = kept[drop:], first + drop
    decide(first + len(kept), first + len(kept))
    return np.concatenate(found)


def _finder(kind: str, key: str) -> Callable[[Float, float], NDArray[np.int64]]:
    def find(samples: Float, sfreq: float) -> NDArray[np.int64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import neurokit2

            try:
                clean = getattr(neurokit2, f"{kind}_clean")(samples, sampling_rate=sfreq)
                peaks = getattr(neurokit2, f"{kind}_findpeaks")(clean, sampling_rate=sfreq)[key]
            except (IndexError, ValueError):  # its way of saying that there is none
                peaks = []
        return np.asarray(peaks, np.int64)

    return find


_FINDERS = {
    "ecg": _finder("ecg", "ECG_R_Peaks"),
    "ppg": _finder("ppg", "PPG_Peaks"),
    "rsp": _finder("rsp", "RSP_Peaks"),
}


def _chosen(found: Peripherals, kinds: Mapping[str, str] | None) -> tuple[Channel, ...]:
    """The channels wanted, with their kinds, under names that occur once."""
    names = [channel.name for channel in found.channels]
    if kinds is None:
        kinds = {name: kind for name in names if (kind := _kind(name)) is not None}
        left_out = [name for name in names if name not in kinds]
        if left_out:
            logger.info("%s: left out %d channels of other kinds: %s", found.source, len(left_out), ", ".join(left_out))
    missing = [name for name in kinds if name not in names]
    if missing or not kinds:
        raise ValueError(
            f"kinds must name channels of {found.source} ({', '.join(names)})"
            + (f", got {missing}" if missing else ", as none of these names tells what it is")
        )
    channels = []
    for i, channel in enumerate(found.channels):
        if channel.name in kinds:
            again = names[:i].count(channel.name)
            name = f"{channel.name} {again + 1}" if again else channel.name
            channels.append(replace(channel, name=name, kind=kinds[channel.name]))
    return tuple(channels)


def _kind(name: str) -> str | None:
    if _COMPUTED.search(name):
        return None
    return next((kind for kind, pattern in KINDS.items() if pattern.search(name)), None)


# Readers.


def _unreadable(path: Path, reason: object) -> ValueError:
    return ValueError(f"{path} is not a readable {path.suffix.lower()} recording: {' '.join(str(reason).split())}")


def _of_array(samples: NDArray[Any]) -> Pieces:
    return lambda: (samples[i : i + _PIECE] for i in range(0, len(samples), _PIECE))


def _from_acq(path: Path) -> Peripherals:
    try:
        import bioread
    except ImportError as error:
        raise ImportError(f'reading {path.name} needs bioread: pip install "mmme_fast[peripherals]"') from error

    with path.open("rb") as file:
        # bioread would seek the thousands of channels that a foreign file's bytes may stand for.
        head = file.read(12).ljust(12, b"\0")
        revision, n_channels = min(struct.unpack(f"{order}2xi4xh", head) for order in "<>")
        if not (0 < revision < 1000 and 0 < n_channels < 1000):
            raise _unreadable(path, "it does not begin as one of AcqKnowledge's does")
        try:
            reader = bioread.reader_for_streaming(file)
        except Exception as error:  # some of what it meets in a foreign file
            raise _unreadable(path, error) from error
    data = reader.datafile
    if data is None:
        raise _unreadable(path, "bioread finds no channels")
    size = path.stat().st_size - reader.data_start_offset
    if size < reader.data_length:
        raise ValueError(f"{path} must hold {reader.data_length} bytes of samples, got {size}")

    def pieces(i: int) -> Iterator[NDArray[Any]]:
        if data.is_compressed:
            try:
                yield bioread.read(str(path), channel_indexes=[i]).channels[i].data
            except Exception as error:
                raise _unreadable(path, error) from error
            return
        one = data.channels[i]
        with path.open("rb") as file:
            for buffers in bioread.reader_for_streaming(file).stream([i]):
                yield buffers[i].buffer * one.raw_scale_factor + one.raw_offset

    channels = tuple(
        Channel(one.name.strip(), "", one.units.strip(), float(one.samples_per_second), int(one.point_count),
                partial(pieces, i))
        for i, one in enumerate(data.channels)
    )  # fmt: skip
    markers = (
        Marker(mark.sample_index / data.samples_per_second, 0.0, mark.text) for mark in reader.event_markers or ()
    )
    return Peripherals(str(path), channels, tuple(sorted(markers)))


def _from_mat(path: Path, sfreq: float | None) -> Peripherals:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(f'reading {path.name} needs SciPy: pip install "mmme_fast[peripherals]"') from error

    try:
        variables = loadmat(path, simplify_cells=True)
    except NotImplementedError as error:  # loadmat's, of version 7.3: that is HDF5
        raise ValueError(f"{path} must be of version 7 at most, got 7.3: save it with save(..., '-v7')") from error
    except Exception as error:  # SciPy has many
        raise _unreadable(path, error) from error
    says = {"data", "isi", "isi_units", "labels"} <= set(variables) or {"channels", "samples_per_second"} <= set(
        variables
    )
    if says and sfreq is not None:
        raise ValueError(f"sfreq must be None for {path.name}, which says it itself, got {sfreq!r}")
    if says and "channels" in variables:
        return _of_acq2mat(path, variables)
    if says:
        return _of_acqknowledge(path, variables)
    vectors = {
        name: np.ravel(value)
        for name, value in variables.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size == max(value.shape) > 1
    }
    if not vectors:
        raise ValueError(f"{path} must hold a vector for each channel, got {', '.join(variables) or 'nothing'}")
    if sfreq is None:
        raise ValueError(f"sfreq must be given for {path.name}, which does not say it, got None")
    sfreq = number(sfreq, "sfreq", low=0, open_low=True)
    channels = (Channel(name, "", "", sfreq, len(x), _of_array(x)) for name, x in vectors.items())
    return Peripherals(str(path), tuple(channels))


def _of_acqknowledge(path: Path, variables: Mapping[str, Any]) -> Peripherals:
    """What AcqKnowledge saves as MATLAB: data (sample, channel), its interval, and a name and a unit per channel."""
    if variables["isi_units"] != "ms":
        raise ValueError(f"{path} must have its sample interval in ms, got {variables['isi_units']!r}")
    names = [str(name).strip() for name in np.atleast_1d(variables["labels"])]
    units = [str(unit).strip() for unit in np.atleast_1d(variables.get("units", [""] * len(names)))]
    data = np.asarray(variables["data"])
    data = data.reshape(-1, 1) if data.ndim == 1 else data
    if data.ndim != 2 or not data.shape[1] == len(names) == len(units):
        raise ValueError(f"{path} must have a label and a unit for each column of data, {data.shape}, got {names}")
    sfreq = 1000 / number(float(variables["isi"]), "isi", low=0, open_low=True)
    channels = (
        Channel(name, "", unit, sfreq, len(data), _of_array(column))
        for name, unit, column in zip(names, units, data.T, strict=True)
    )
    return Peripherals(str(path), tuple(channels))


def _of_acq2mat(path: Path, variables: Mapping[str, Any]) -> Peripherals:
    """What bioread's acq2mat writes: a struct per channel, and per marker, with the samples of the fastest channel."""
    channels = (
        Channel(
            str(one["name"]).strip(), "", str(one["units"]).strip(), float(one["samples_per_second"]),
            np.size(one["data"]), _of_array(np.ravel(one["data"])),
        )
        for one in np.atleast_1d(variables["channels"])
    )  # fmt: skip
    base = float(variables["samples_per_second"])
    markers = (
        Marker(float(mark["sample_index"]) / base, 0.0, str(mark["label"]))
        for mark in np.atleast_1d(variables.get("event_markers", []))
    )
    return Peripherals(str(path), tuple(channels), tuple(sorted(markers)))


def _from_recording(path: Path, sfreq: float | None, kinds: Mapping[str, str] | None) -> Peripherals:
    """The peripheral channels of what `open_recording` reads."""
    names = open_recording(path, sfreq=sfreq, pick="all").ch_names
    wanted = [name for name in names if (_kind(name) if kinds is None else kinds.get(name)) is not None]
    recording = open_recording(path, sfreq=sfreq, pick=wanted or "all")
    return Peripherals(recording.source, _of_recording(recording, recording.ch_names), recording.markers)


def _of_recording(recording: Recording, names: tuple[str, ...]) -> tuple[Channel, ...]:
    step = max(_PIECE // len(names), 1)

    def pieces(i: int) -> Iterator[NDArray[Any]]:
        for start in range(0, recording.n_samples, step):
            yield recording.read(start, min(start + step, recording.n_samples))[i]

    return tuple(
        Channel(name, "", recording.unit, recording.sfreq, recording.n_samples, partial(pieces, i))
        for i, name in enumerate(names)
    )
