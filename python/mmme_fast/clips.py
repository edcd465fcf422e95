"""Band power of the clips that a subject watched, as the MMME notebooks compute it: filter, markers, windows, bands."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmme_fast._arrays import number, one_of
from mmme_fast._backend import kernels, resolve_threads
from mmme_fast._files import save, write_csv, write_parquet, written
from mmme_fast.eeg import BANDS, Bands, Recording, _named, open_recording

logger = logging.getLogger("mmme_fast")

Samples = NDArray[Any]  # (sample, channel)
Power = NDArray[np.float64]

STARTS = tuple(str(code) for code in range(101, 149))  # markers of the 48 clips
END = "100"
SECONDS = 40  # at the end of each clip, one window each
N_FFT = 512  # samples of a window's periodogram
TOGETHER = 8  # clips that share the reading of their samples
CHANNELS = 62  # that the MMME notebooks use


class Clip(NamedTuple):
    """A stretch of a recording: its marker, its first sample, and the one after its last."""

    marker: str
    start: int
    stop: int


def find_clips(recording: Recording) -> tuple[Clip, ...]:
    """Return the clips that MMME's markers delimit, in order of time.

    "101" to "148" start a clip; "100", the start of another or the recording's end ends it. Other markers ("77" and
    "88" among them) are passed over. (The notebooks delete only the first of each of these two; a second one inside a
    clip would end it there.)

    Raises
    ------
    ValueError
        When no clip starts in the recording.
    """
    events = [
        (int(np.ceil(marker.onset * recording.sfreq - 1e-6)), marker.text.strip())
        for marker in recording.markers
        if marker.text.strip() in (*STARTS, END)
    ]
    stops = [sample for sample, _ in events[1:]] + [recording.n_samples]
    clips = tuple(Clip(text, start, stop) for (start, text), stop in zip(events, stops, strict=False) if text != END)
    if not clips:
        found = ", ".join(sorted({marker.text for marker in recording.markers})[:10]) or "none"
        raise ValueError(f"{recording.source} must have markers 101 to 148, which start its clips, got {found}")
    return clips


# Filters. A pass band is a sum of low passes of odd lengths, each with its sign.


class _Lowpass(NamedTuple):
    """A windowed sinc (Hamming)."""

    n: int  # taps
    cutoff: float  # cycles per sample

    def taps(self, at: NDArray[Any] | None = None) -> NDArray[np.float64]:
        """Return the taps; or what their formula gives at places counted from the middle."""
        half = self.n // 2
        m = np.arange(-half, half + 1) if at is None else at
        taps: NDArray[np.float64] = np.sinc(2 * self.cutoff * m) * (0.54 + 0.46 * np.cos(np.pi / half * m))
        return taps / (taps.sum() if at is None else _gain(self))


@lru_cache(8)
def _gain(lowpass: _Lowpass) -> float:
    return float(1 / lowpass.taps()[lowpass.n // 2])  # the formula gives 1 in the middle


def _lowpasses(sfreq: float, low: float | None, high: float | None) -> tuple[_Lowpass | None, _Lowpass | None, int]:
    """Return the low passes of the upper and the lower edge, and the length of the filter they make.

    Lengths and transition bands are those of MNE's defaults: firwin, Hamming, filter_length="auto".
    """

    def lowpass(stop: float, edge: float) -> _Lowpass:
        n = round(3.3 * sfreq / abs(stop - edge))
        return _Lowpass(n + 1 - n % 2, (stop + edge) / 2 / sfreq)

    upper = lower = None
    narrowest = np.inf
    if high is not None:
        width = min(max(0.25 * high, 2.0), sfreq / 2 - high)
        upper, narrowest = lowpass(high + width, high), width
    if low is not None:
        width = min(max(0.25 * low, 2.0), low)
        lower, narrowest = lowpass(low - width, low), min(narrowest, width)
    n = int(np.ceil(3.3 / narrowest * sfreq))
    return upper, lower, n + 1 - n % 2


def _check_edges(sfreq: float, low: float | None, high: float | None) -> None:
    sfreq = number(sfreq, "sfreq", low=0, open_low=True)
    if low is None and high is None:
        raise ValueError("low or high must be given, got None for both")
    for name, edge in (("low", low), ("high", high)):
        if edge is not None and not 0 < number(edge, name, low=0, open_low=True) < sfreq / 2:
            raise ValueError(f"{name} must be below sfreq / 2, {sfreq / 2:g} Hz, got {edge!r}")
    if low is not None and high is not None and low >= high:
        raise ValueError(f"low must be below high, {high:g} Hz, got {low!r}")


def filter_taps(sfreq: float, low: float | None, high: float | None) -> NDArray[np.float64]:
    """Return the zero-phase FIR filter that ``mne.filter.filter_data(data, sfreq, low, high)`` uses by default.

    Parameters
    ----------
    sfreq : float
        Samples per second.
    low, high : float or None
        Edges of the pass band in Hz; None leaves that side open.

    Returns
    -------
    ndarray of float64, (tap,)
        Of odd length, symmetric.

    Raises
    ------
    ValueError
        When an edge is not within 0 to sfreq / 2, or low is not below high, or both are None.
    """
    _check_edges(sfreq, low, high)
    upper, lower, n = _lowpasses(sfreq, low, high)
    taps = np.zeros(n)
    if upper is None:
        taps[n // 2] = 1
    for lowpass, sign in ((upper, 1), (lower, -1)):
        if lowpass is not None:
            outside = (n - lowpass.n) // 2
            taps[outside : n - outside] += sign * lowpass.taps()
    return taps


class _Rows:
    """A recording's samples, sample by sample, mirrored at both ends as MNE does ("reflect_limited").

    `unit` is what one step is worth in volts. A mapped file is handed out where it lies.
    """

    def __init__(self, recording: Recording, reach: int) -> None:
        self.n = recording.n_samples
        self.reach = min(reach, self.n) - 1  # samples that the mirror shows; beyond it all is zero
        self.mapped = recording.mapped is not None
        self.unit, self.picked = 1.0, np.arange(len(recording.ch_names))
        self._read: Callable[[int, int], Samples] = lambda start, stop: recording.read(start, stop).T
        if recording.mapped is not None:
            data, picked = recording.mapped
            first = min(picked)
            data = data[:, first : max(picked) + 1]
            self.unit, self.picked = 1e-6, np.array(picked) - first
            self._read = lambda start, stop: data[start:stop]

    def __call__(self, start: int, stop: int) -> Samples:
        """Return the samples start to stop - 1; `picked` are the channels wanted."""
        if start >= 0 and stop <= self.n:
            return self._read(start, stop)
        shown: Samples = np.zeros((stop - start, self._read(0, 1).shape[1]))
        first, last = max(start, 0), min(stop, self.n)
        shown[first - start : last - start] = self._read(first, last)
        if (before := min(-start, self.reach)) > 0:
            near = self._read(0, before + 1)
            np.subtract(2 * near[0].astype(np.float64), near[:0:-1], out=shown[-start - before : -start])
        if (after := min(stop - self.n, self.reach)) > 0:
            near = self._read(self.n - after - 1, self.n)
            np.subtract(2 * near[-1].astype(np.float64), near[-2::-1], out=shown[self.n - start :][:after])
        return shown


def _overlap_save(rows: _Rows, start: int, stop: int, taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the filtered samples start to stop - 1 of the channels picked, (channel, sample), in units of rows."""
    half = len(taps) // 2
    n_fft = 2 ** int(np.ceil(np.log2(max(min(stop - start, len(taps)) + 2 * half, 1024))))
    response = np.fft.rfft(taps, n_fft)
    step = n_fft - 2 * half
    out = []
    for begin in range(start, stop, step):
        end = min(begin + step, stop)
        block = rows(begin - half, end + half)[:, rows.picked]
        filtered = np.empty((block.shape[1], end - begin))
        for i, channel in enumerate(block.T):  # one at a time, for an hour has many samples
            spectrum = np.fft.rfft(channel.astype(np.float64), n_fft)
            filtered[i] = np.fft.irfft(spectrum * response, n_fft)[2 * half : 2 * half + end - begin]
        out.append(filtered)
    return np.concatenate(out, axis=1)


def filtered(
    recording: Recording,
    start: int = 0,
    stop: int | None = None,
    *,
    low: float | None = 0.04,
    high: float | None = 48.0,
) -> NDArray[np.float64]:
    """Return samples of a recording filtered as MNE's ``filter_data`` would filter all of it.

    Only the samples asked for, and those under the filter around them, are read.

    Parameters
    ----------
    recording : Recording
        From `open_recording`.
    start, stop : int
        First sample, and the one after the last.
    low, high : float or None
        Edges of the pass band in Hz.

    Returns
    -------
    ndarray of float64, (channel, sample)
        In volts.
    """
    taps = filter_taps(recording.sfreq, low, high)
    stop = recording.n_samples if stop is None else stop
    if not 0 <= start < stop <= recording.n_samples:
        raise ValueError(f"start and stop must satisfy 0 <= start < stop <= {recording.n_samples}, got {start}, {stop}")
    rows = _Rows(recording, len(taps))
    return _overlap_save(rows, start, stop, taps) * rows.unit


# Two routes from samples to the power of a clip's windows, (window, channel, band).


class _General:
    """Filter by overlap-save, then transform: any filter, in double precision."""

    def __init__(self, rows: _Rows, taps: NDArray[np.float64], bins: NDArray[np.int64], weights: Power) -> None:
        self.rows, self.taps, self.bins, self.weights = rows, taps, bins, weights

    def together(self, starts: NDArray[np.int64]) -> bool:
        return False

    def __call__(self, clips: list[NDArray[np.int64]]) -> Power:
        return np.stack([self._clip(starts) for starts in clips])

    def _clip(self, starts: NDArray[np.int64]) -> Power:
        signal = _overlap_save(self.rows, int(starts[0]), int(starts[-1]) + N_FFT, self.taps)
        power = np.empty((len(starts), len(signal), len(self.weights)))
        for to, start in zip(power, starts - starts[0], strict=True):
            window = signal[:, start : start + N_FFT]
            spectrum = np.fft.rfft(window - window.mean(axis=1, keepdims=True))[:, self.bins]
            to[:] = (spectrum.real**2 + spectrum.imag**2) @ self.weights.T
        return power


class _Fused:
    """Filter and transform at once, where the lower edge is so low that its filter is very long.

    The band pass is a short low pass less a long one, of 2 M + 1 taps. A window's DFT is a sum over all samples under
    either, and the samples that count are of three kinds. Within the short filter's reach: its taps convolved with the
    DFT's waves. Within a window's length of where the long one ends: likewise, for the Hamming window ends in a step.
    In between, the long filter's output hardly changes within a window, so that its values at a few points stand for
    it; its taps are so smooth that they are taken to be linear within blocks of samples, whose sums serve all windows
    of a clip. Clips go through together, for what they need overlaps.
    """

    points = 6  # of the polynomial through the long filter's output

    def __init__(
        self, rows: _Rows, sfreq: float, low: float, high: float, bins: NDArray[np.int64], weights: Power, threads: int
    ) -> None:
        self.rows, self.weights, self.threads, self.hop = rows, weights, threads, round(sfreq)
        upper, lower, _ = _lowpasses(sfreq, low, high)
        block = _block(sfreq, upper, lower)
        assert upper is not None
        assert lower is not None
        assert block is not None
        self.block, self.reach = block, lower.n // 2

        # Times count from the window's middle, about which cosines are even and sines odd.
        t = np.arange(N_FFT) - (N_FFT - 1) / 2
        angle = 2 * np.pi / N_FFT * np.outer(bins, t)
        waves = np.stack([np.cos(angle), np.sin(angle)])
        waves[:, bins == 0] = 0  # each window's mean is removed

        def filtered(taps: NDArray[np.float64], n: int) -> Power:
            return np.apply_along_axis(lambda wave: np.convolve(wave, taps)[:n], -1, waves)

        self.near = upper.n // 2
        near = N_FFT // 2 + self.near
        between = 2 * self.reach - N_FFT + 2  # samples that are under the long filter for the whole window
        more = next(i for i in range(block) if (between - 2 * i) % block == 0)  # which leaves whole blocks of them
        far = N_FFT - 1 + more
        self.inner = self.reach - far

        points = N_FFT / 2 * np.cos(np.pi * (np.arange(self.points) + 0.5) / self.points)  # Chebyshev's
        values = waves @ np.array([np.prod([(t - q) / (p - q) for q in points if q != p], axis=0) for p in points]).T

        # Taps at the nodes, corrected for what lines do to a curve. The sum around the first node has samples of the
        # ends in it, which are taken back there.
        nodes = block * np.arange(-1, (between - 2 * more) // block + 2)
        taps = lower.taps(points[:, None] + N_FFT / 2 + self.inner - nodes)
        taps = taps[:, 1:-1] - np.diff(taps, 2) * (block**2 + 0.5) / (12 * block**2)
        self.slow = np.vstack([taps.T, block * taps.sum(axis=1)]).copy()
        ends = filtered(lower.taps(np.arange(far) - lower.n // 2), far)
        ends[..., -block:] -= (values @ taps[:, 0])[..., None] * (np.arange(block) + 0.5) / block
        self.curves = np.ascontiguousarray(-values.transpose(2, 0, 1))

        def summed(matrix: Power) -> NDArray[np.float32]:  # for it meets differences of samples
            return np.ascontiguousarray(np.cumsum(matrix, axis=-1).transpose(2, 0, 1), np.float32)

        self.matrix, self.ends = summed(filtered(upper.taps(), near)), summed(-ends)

    def _span(self, starts: NDArray[np.int64]) -> tuple[int, int]:
        return int(starts[0]) - self.reach, int(starts[-1]) + N_FFT + self.reach

    def _shown(self, first: int, stop: int) -> bool:
        """Whether the kernel can go on where the recording ends: whether the mirror shows all that it needs."""
        return first >= -self.rows.reach and stop <= self.rows.n + self.rows.reach

    def together(self, starts: NDArray[np.int64]) -> bool:
        """Whether the clip can be one of several: whether its samples are handed out without a copy."""
        return self.rows.mapped and self._shown(*self._span(starts))

    def __call__(self, clips: list[NDArray[np.int64]]) -> Power:
        firsts, stops = zip(*(self._span(starts) for starts in clips), strict=True)
        first, stop = min(firsts), max(stops)
        if self._shown(first, stop):
            first, stop = max(first, 0), min(stop, self.rows.n)
        data = self.rows(first, stop)
        if data.strides[1] != data.itemsize:
            data = np.ascontiguousarray(data)
        power = np.empty((len(clips), SECONDS, data.shape[1], len(self.weights)))
        kernels().clip_power(
            data, power, np.array([starts[0] - first for starts in clips]), self.hop, N_FFT, self.near, self.reach,
            self.matrix, self.ends, self.curves, self.slow, self.inner, self.block, self.weights, self.threads,
        )  # fmt: skip
        return power[:, :, self.rows.picked]


def _block(sfreq: float, upper: _Lowpass | None, lower: _Lowpass | None) -> int | None:
    """Return the samples of a block of `_Fused`, or None where it does not serve.

    Windows are whole blocks apart, and a block is short beside the long filter, but long enough to save work.
    """
    if upper is None or lower is None or 4 * upper.n > lower.n:
        return None
    longest = min(lower.n // 800, N_FFT // 2)
    return next((n for n in range(longest, 15, -1) if round(sfreq) % n == 0), None)


@dataclass(frozen=True)
class ClipBandPower:
    """Band power of the end of each clip, computed clip by clip: iterate over it, compute() or save() it.

    Attributes
    ----------
    recording : Recording
    clips : tuple of Clip
        Those that are long enough, in order of time.
    bands : dict of str to (float, float)
        Edges in Hz, both inclusive.
    bins : dict of str to int
        DFT bins in each band.
    resolution : float
        Distance of the bins in Hz.
    unit : str
        "V^2/Hz", two-sided.
    problems : tuple of str
        What is not as in MMME: clips missing, twice there or too short, another number of channels.
    parameters : dict
        The arguments it was made with, and the route taken.
    """

    recording: Recording
    clips: tuple[Clip, ...]
    bands: dict[str, tuple[float, float]]
    problems: tuple[str, ...]
    parameters: dict[str, Any]
    _ranges: dict[str, tuple[int, int]] = field(repr=False)
    _threads: int | None = field(default=None, repr=False)
    unit: str = "V^2/Hz"

    @property
    def bins(self) -> dict[str, int]:
        return {name: high - low + 1 for name, (low, high) in self._ranges.items()}

    @property
    def resolution(self) -> float:
        return self.recording.sfreq / N_FFT

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def starts(self, clip: Clip) -> NDArray[np.int64]:
        """Return the first samples of a clip's windows, one second apart; the last sample of the last ends the clip."""
        rate = round(self.recording.sfreq)
        return clip.stop - 1 - rate * np.arange(SECONDS, 0, -1)

    def __iter__(self) -> Iterator[tuple[Clip, NDArray[np.float64], Power]]:
        """Yield each clip, its windows' starts in seconds (window,), and their power (window, channel, band)."""
        sfreq, low, high = self.recording.sfreq, self.parameters["low"], self.parameters["high"]
        bins = np.unique(np.concatenate([np.arange(a, b + 1) for a, b in self._ranges.values()]))
        weights = np.stack([(a <= bins) & (bins <= b) for a, b in self._ranges.values()]).astype(np.float64)
        weights /= weights.sum(axis=1, keepdims=True)
        rows = _Rows(self.recording, _lowpasses(sfreq, low, high)[2])
        weights *= rows.unit**2 / (sfreq * N_FFT)
        route: _Fused | _General
        if self.parameters["route"] == "fused":
            route = _Fused(rows, sfreq, low, high, bins, weights, resolve_threads(self._threads))
        else:
            route = _General(rows, filter_taps(sfreq, low, high), bins, weights)
        starts = [self.starts(clip) for clip in self.clips]
        begin = 0
        while begin < len(starts):
            end = begin + 1
            while end < min(begin + TOGETHER, len(starts)) and all(map(route.together, starts[begin : end + 1])):
                end += 1
            with np.errstate(invalid="ignore", over="ignore"):  # what they leave is looked for below
                power = route(starts[begin:end])
            for clip, own, values in zip(self.clips[begin:end], starts[begin:end], power, strict=True):
                if not np.isfinite(values).all():
                    channel = self.recording.ch_names[int(np.argwhere(~np.isfinite(values))[0, 1])]
                    raise ValueError(
                        f"data must be finite, got NaN or infinity in channel {channel} near clip {clip.marker}"
                    )
                yield clip, own / sfreq, values
            begin = end

    def compute(self) -> Power:
        """Return the power of all clips, (clip, window, channel, band)."""
        return np.stack([power for _, _, power in self])

    def save(
        self, out: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        """Compute the band power and write it, with a .json of the same name that says how it was made.

        Nothing appears at `out` before it is complete. When interrupted by Ctrl-C, the clips done so far are written,
        the .json says that they are not all, and the KeyboardInterrupt goes on with a message that says where.

        Parameters
        ----------
        out : path
            ``.csv`` and ``.parquet``: a row per window, with the columns "clip" (its marker), "window" (0 to 39),
            "time" (start of the window in seconds) and one per channel and band ("Fp1 alpha"). ``.npz``: the arrays
            power (clip, window, channel, band), times (clip, window), clips, ch_names, bands and band_edges (band, 2),
            Hz. Missing folders are made.
        progress : callable, optional
            Called with the number of clips done and their total.

        Returns
        -------
        dict
            What the .json holds.
        """
        return save(out, _WRITERS, self, lambda part: 1, "clips", progress)

    def _meta(self, done: int) -> dict[str, Any]:
        from mmme_fast import __version__

        recording, path = self.recording, Path(self.recording.source)
        return {
            "mmme_fast": __version__,
            "source": recording.source,
            "source_bytes": path.stat().st_size if path.is_file() else None,
            "sfreq": recording.sfreq,
            "n_samples": recording.n_samples,
            "ch_names": list(recording.ch_names),
            "clips": [[clip.marker, clip.start / recording.sfreq, clip.stop / recording.sfreq] for clip in self.clips],
            "done": done,
            "complete": done == len(self),
            "problems": list(self.problems),
            "unit": self.unit,
            "resolution": self.resolution,
            "bands": {name: list(edges) for name, edges in self.bands.items()},
            "bins": self.bins,
            "parameters": self.parameters,
        }


def clip_band_power(
    recording: str | os.PathLike[str] | Recording,
    *,
    low: float | None = 0.04,
    high: float | None = 48.0,
    bands: Bands | None = None,
    route: str = "auto",
    threads: int | None = None,
) -> ClipBandPower:
    """Band power of the last 40 s of each clip of an MMME recording, as the data set's notebooks compute it.

    The recording is filtered (MNE's default FIR filter), and cut at its markers (see `find_clips`). Each second of a
    clip's last 40 is a window, of which the two-sided periodogram of the first 512 samples (boxcar, density, mean
    removed) is averaged over the bins of each band: what ``scipy.signal.periodogram(window, nfft=512,
    return_onesided=False)`` makes of a window of 1001 samples.

    Parameters
    ----------
    recording : path or Recording
        An EEGLAB .fdt is mapped into memory; other formats are read clip by clip.
    low, high : float or None
        Edges of the pass band in Hz; None leaves that side open.
    bands : mapping of name to (low, high), or sequence of (low, high), optional
        Band edges in Hz, both inclusive. Default: delta 1-4, theta 4-8, alpha 8-13, beta 13-30, gamma 30-47 Hz.
    route : {"auto", "fused", "fft"}
        "fft" filters by FFT, whatever the edges, in double precision. "fused" joins filter and transform, many times
        faster and within 1e-5 of it, where the lower edge is far below the upper one. "auto" takes "fused" where it
        serves; `parameters` of the result say which it was.
    threads : int, optional
        Of the fused route. Default: `get_num_threads()`.

    Returns
    -------
    ClipBandPower
        No samples are read before it is iterated, computed or saved. `problems`, also logged as warnings, say what is
        missing.

    Raises
    ------
    ValueError
        When no clip is marked or long enough, the rate is no whole number of at least 512 Hz, or an argument breaks
        its rule.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from mmme_fast import eeg, synth
    >>> from mmme_fast.clips import clip_band_power
    >>> made = synth.recording(110, channels=2, seed=1, clip=45, gap=5)
    >>> markers = tuple(eeg.Marker(sample / 1000, 0, str(code)) for sample, code in made.markers)
    >>> recording = replace(mf.open_recording(made.data(), sfreq=1000), markers=markers)
    >>> power = clip_band_power(recording)
    >>> len(power), power.bins["alpha"], power.unit
    (2, 2, 'V^2/Hz')
    """
    if not isinstance(recording, Recording):
        recording = open_recording(recording)
    sfreq = recording.sfreq
    if sfreq != round(sfreq) or sfreq < N_FFT:
        raise ValueError(f"sfreq must be a whole number of at least {N_FFT} Hz for windows of 1 s, got {sfreq:g}")
    _check_edges(sfreq, low, high)
    named = _named(BANDS if bands is None else bands)
    ranges = {name: _range(name, edges, sfreq) for name, edges in named.items()}
    one_of(route, "route", ("auto", "fused", "fft"))
    fused = _block(sfreq, *_lowpasses(sfreq, low, high)[:2]) is not None
    if route == "fused" and not fused:
        raise ValueError(f"route must be 'fft' for the edges {low} and {high} Hz at {sfreq:g} Hz, got 'fused'")
    found = find_clips(recording)
    clips = tuple(clip for clip in found if clip.stop - clip.start > SECONDS * sfreq)
    problems = _problems(recording, found)
    for problem in problems:
        logger.warning("%s: %s", recording.source, problem)
    if not clips:
        raise ValueError(f"{recording.source} must have a clip of more than {SECONDS} s, got {len(found)} shorter ones")
    parameters = {"preset": "mmme", "low": low, "high": high, "route": "fused" if fused and route != "fft" else "fft"}
    return ClipBandPower(recording, clips, named, problems, parameters, ranges, threads)


def _range(name: str, edges: tuple[float, float], sfreq: float) -> tuple[int, int]:
    """Return the first and the last DFT bin within the edges."""
    frequency = np.arange(N_FFT // 2) * sfreq / N_FFT
    inside = np.flatnonzero((frequency >= edges[0]) & (frequency <= edges[1]))
    if not len(inside):
        raise ValueError(
            f"bands[{name!r}] must hold at least one bin below {sfreq / 2:g} Hz, got {edges[0]:g}-{edges[1]:g} Hz at a "
            f"resolution of {sfreq / N_FFT:g} Hz"
        )
    return int(inside[0]), int(inside[-1])


def _problems(recording: Recording, found: tuple[Clip, ...]) -> tuple[str, ...]:
    """Say what is not as in MMME."""
    problems = []
    count = Counter(clip.marker for clip in found)
    missing = [marker for marker in STARTS if marker not in count]
    if missing:
        problems.append(f"{len(count)} of {len(STARTS)} clips are there; missing: {', '.join(missing)}")
    problems += [f"clip {marker} is there {n} times; all are kept" for marker, n in count.items() if n > 1]
    problems += [
        f"clip {clip.marker} at {clip.start / recording.sfreq:.3f} s is left out: it lasts "
        f"{(clip.stop - clip.start) / recording.sfreq:g} s, not more than {SECONDS}"
        for clip in found
        if clip.stop - clip.start <= SECONDS * recording.sfreq
    ]
    if len(recording.ch_names) != CHANNELS:
        problems.append(f"{len(recording.ch_names)} EEG channels, where MMME uses {CHANNELS}; all are kept")
    return tuple(problems)


Parts = Iterator[tuple[Clip, NDArray[np.float64], Power]]


def _columns(power: ClipBandPower) -> list[str]:
    return [
        "clip", "window", "time", *(f"{channel} {band}" for channel in power.recording.ch_names for band in power.bands)
    ]  # fmt: skip


def _write_npz(path: Path, power: ClipBandPower, parts: Parts) -> None:
    done = list(parts)
    shape = (len(done), SECONDS, len(power.recording.ch_names), len(power.bands))
    with written(path) as file:
        np.savez(
            file,
            power=np.array([values for _, _, values in done]).reshape(shape),
            times=np.array([times for _, times, _ in done]).reshape(shape[:2]),
            clips=np.array([clip.marker for clip, _, _ in done], str),
            ch_names=np.array(power.recording.ch_names),
            bands=np.array(list(power.bands)),
            band_edges=np.array(list(power.bands.values()), np.float64),
        )


def _write_csv(path: Path, power: ClipBandPower, parts: Parts) -> None:
    write_csv(
        path,
        _columns(power),
        (
            [clip.marker, i, f"{t:.10g}", *(f"{value:.9g}" for value in row)]
            for clip, times, values in parts
            for i, (t, row) in enumerate(zip(times.tolist(), values.reshape(len(values), -1).tolist(), strict=True))
        ),
    )


def _write_parquet(path: Path, power: ClipBandPower, parts: Parts) -> None:
    columns = dict.fromkeys(_columns(power), "float64") | {"clip": "string", "window": "int32"}
    window = np.arange(SECONDS, dtype=np.int32)
    groups = (
        [[clip.marker] * SECONDS, window, times, *np.ascontiguousarray(values.reshape(SECONDS, -1).T)]
        for clip, times, values in parts
    )
    write_parquet(path, columns, groups)


_WRITERS: dict[str, Callable[[Path, ClipBandPower, Parts], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
