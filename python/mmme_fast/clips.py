"""Band power of the clips that a subject watched, as the MMME notebooks compute it: filter, markers, windows, bands."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmme_fast._arrays import number, one_of
from mmme_fast._files import written
from mmme_fast.eeg import BANDS, Bands, Recording, _named, open_recording

logger = logging.getLogger("mmme_fast")

Samples = NDArray[Any]  # (sample, channel)
Power = NDArray[np.float64]

STARTS = tuple(str(code) for code in range(101, 149))  # markers of the 48 clips
END = "100"
SECONDS = 40  # at the end of each clip, one window each
N_FFT = 512  # samples of a window's periodogram
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

        def value(m: NDArray[Any]) -> NDArray[np.float64]:
            taps: NDArray[np.float64] = np.sinc(2 * self.cutoff * m) * (0.54 + 0.46 * np.cos(np.pi / half * m))
            return taps

        own = value(np.arange(-half, half + 1))
        taps: NDArray[np.float64] = (own if at is None else value(at)) / own.sum()
        return taps


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
    sfreq = number(sfreq, "sfreq", low=0, open_low=True)
    if low is None and high is None:
        raise ValueError("low or high must be given, got None for both")
    for name, edge in (("low", low), ("high", high)):
        if edge is not None and not 0 < number(edge, name, low=0, open_low=True) < sfreq / 2:
            raise ValueError(f"{name} must be below sfreq / 2, {sfreq / 2:g} Hz, got {edge!r}")
    if low is not None and high is not None and low >= high:
        raise ValueError(f"low must be below high, {high:g} Hz, got {low!r}")
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

    `unit` is what one step is worth in volts. A mapped .fdt is handed out where it lies.
    """

    def __init__(self, recording: Recording, reach: int) -> None:
        self.n = recording.n_samples
        self.reach = min(reach, self.n) - 1  # samples that the mirror shows; beyond it all is zero
        mapped = _mapped(recording)
        self.unit = 1.0 if mapped is None else 1e-6
        if mapped is None:
            self.picked: Any = slice(None)
            self._read: Callable[[int, int], Samples] = lambda start, stop: recording.read(start, stop).T
        else:
            data, self.picked = mapped
            self._read = lambda start, stop: data[start:stop]

    def __call__(self, start: int, stop: int) -> Samples:
        """Return the samples start to stop - 1 of all channels; `picked` are those wanted."""
        if start >= 0 and stop <= self.n:
            return self._read(start, stop)
        at = np.arange(start, stop)
        edge = np.clip(at, 0, self.n - 1)  # within the recording: the sample itself
        mirrored = np.clip(2 * edge - at, 0, self.n - 1)
        first = min(edge[0], mirrored.min())
        data = self._read(int(first), int(max(edge[-1], mirrored.max())) + 1)
        shown: Samples = data[edge - first].astype(np.float64)
        shown *= 2
        shown -= data[mirrored - first]
        shown[abs(at - edge) > self.reach] = 0
        return shown


def _mapped(recording: Recording) -> tuple[Samples, list[int]] | None:
    """Map the .fdt of an EEGLAB recording, (sample, channel) in microvolts; also the channels picked."""
    if Path(recording.source).suffix.lower() != ".set":
        return None
    import mne

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # open_recording has passed them on
        raw = mne.io.read_raw_eeglab(recording.source, preload=False, verbose="ERROR")
    path = Path(raw.filenames[0] or recording.source)
    if raw.preload or path.samefile(recording.source):
        return None
    names = list(raw.ch_names)
    data = np.memmap(path, "<f4", "r", shape=(recording.n_samples, len(names)))
    return data.view(np.ndarray), [names.index(name) for name in recording.ch_names]


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


# Two routes from samples to |DFT|^2 of the filtered windows, (window, bin, channel), in units of rows.


class _General:
    """Filter by overlap-save, then transform: any filter, in double precision."""

    def __init__(self, rows: _Rows, sfreq: float, low: float | None, high: float | None, bins: NDArray[np.int64]):
        self.rows, self.bins = rows, bins
        self.taps = filter_taps(sfreq, low, high)

    def __call__(self, starts: NDArray[np.int64]) -> Power:
        signal = _overlap_save(self.rows, int(starts[0]), int(starts[-1]) + N_FFT, self.taps)
        power = np.empty((len(starts), len(self.bins), len(signal)))
        for i, start in enumerate(starts - starts[0]):
            window = signal[:, start : start + N_FFT]
            window = window - window.mean(axis=1, keepdims=True)
            spectrum = np.fft.rfft(window)[:, self.bins]
            power[i] = (spectrum.real**2 + spectrum.imag**2).T
        return power


def _block(upper: _Lowpass | None, lower: _Lowpass | None) -> int | None:
    """Return the samples of a block of `_Fused`, or None where it does not serve: it must be long to save work."""
    if upper is None or lower is None or 4 * upper.n > lower.n:
        return None
    half = lower.n // 2
    return next((half // q for q in range(330, 661) if half % q == 0 and half // q >= 16), None)


class _Fused:
    """Filter and transform at once, where the lower edge is so low that its filter is very long.

    The band pass is a short low pass s minus a long one g, of 2 M + 1 taps. Short: filter and DFT of the few bins are
    one matrix over the window's samples and the filter's reach around them; its rows are even or odd, so folding the
    samples halves it. Long: z = g * x hardly changes within a window, and with d[n] = z[n] - z[n - 1] the DFT of z,
    without bin 0, is a sum over d. The taps of d, g[m] - g[m + 1], are smooth up to their ends. So d is computed once
    per block of samples, as products of taps with averages over blocks, weighted so that the taps are linear within a
    block; cubics interpolate it. M is a whole number of blocks, so that the taps end where a block does.

    At their ends, the Hamming window's steps, the taps of d have a spike, which is applied to each sample; and before
    it a jump, so that d itself jumps where a sample comes under the filter or leaves it: what the cubics make of such
    a jump is put right sample by sample too.
    """

    def __init__(self, rows: _Rows, sfreq: float, low: float, high: float, bins: NDArray[np.int64]) -> None:
        self.rows = rows
        upper, lower, _ = _lowpasses(sfreq, low, high)
        block = _block(upper, lower)
        assert upper is not None
        assert lower is not None
        assert block is not None
        self.h = h = block
        self.half, self.long = upper.n // 2, lower.n // 2

        # The DFT, its phase counted from the window's middle: cosines are even, sines odd.
        angle = 2 * np.pi / N_FFT * np.outer(bins, np.arange(N_FFT) - (N_FFT - 1) / 2)
        wave = np.stack([np.cos(angle), np.sin(angle)])
        wave[:, bins == 0] = 0  # each window's mean is removed
        short = upper.taps()
        folded = N_FFT // 2 + self.half
        self.fold = np.stack([[np.convolve(short, row)[:folded] for row in rows] for rows in wave])

        # What each difference d[1] to d[N_FFT - 1] adds to the DFT of z.
        self.steps = np.cumsum(wave.reshape(-1, N_FFT)[:, ::-1], axis=1)[:, ::-1][:, 1:]
        edge = lower.taps()[:2]
        self.spike, self.jump = edge[0], edge[1] - edge[0]

        # Taps of d at the nodes, corrected for what linear weights do to a curve.
        self.q = q = self.long // h
        node = h * np.arange(-q - 1, q + 2)
        difference = lower.taps(node) - lower.taps(node + 1)
        self.taps = taps = difference[1:-1] - np.diff(difference, 2) * (h * h - 1) / (12 * h * h)
        self.toeplitz = np.zeros((64, 64 + 2 * q))
        for i, row in enumerate(self.toeplitz):
            row[i : i + 2 * q + 1] = taps
        rising = np.arange(h, dtype=np.float32) / h
        self.weights = np.stack([1 - rising, rising])
        self.nodes = (h + N_FFT - 2) // h + 4  # of a window's cubics, from the one before its start's block on
        self.matrices = lru_cache(8)(self._matrices)

        self.origin = np.tile(rows(0, 1), (max(h, N_FFT - 1), 1))  # whole arrays are subtracted faster than rows
        self.first = 0  # of the block averages kept, of which there are none yet
        self.kept = np.empty((0, 2, self.origin.shape[1]))

    def __call__(self, starts: NDArray[np.int64]) -> Power:
        """`starts` ascend, and no call's lie before those of the call before."""
        begin, end = int(starts[0]), int(starts[-1]) + N_FFT
        near = self.rows(begin - self.half, end + self.half)
        early = self.rows(begin - self.long, end - 1 - self.long)  # x[n - M - 1] for n = begin + 1 on
        late = self.rows(begin + 1 + self.long, end + self.long)  # x[n + M]
        first = begin // self.h - 1
        slow = self._slow(first, int(starts[-1]) // self.h - 1 + self.nodes)

        channels = self.origin.shape[1]
        n, folded = N_FFT - 1, self.fold.shape[2]
        origin = self.origin[:n]
        window = np.empty((2 * folded, channels))
        even, odd = np.empty((2, folded, channels))
        ends = np.empty((2, n, channels), np.float32)
        dft = np.empty((len(starts), 2, self.fold.shape[1], channels))
        for out, start in zip(dft, starts.tolist(), strict=True):
            at = start - begin
            np.copyto(window, near[at : at + 2 * folded])
            top, bottom = window[:folded], window[: folded - 1 : -1]
            np.add(top, bottom, out=even)
            even -= 2 * window[0]  # the even rows add up to zero, but for rounding
            np.subtract(top, bottom, out=odd)
            np.matmul(self.fold[0], even, out=out[0])
            np.matmul(self.fold[1], odd, out=out[1])
            np.subtract(late[at : at + n], origin, out=ends[0], casting="same_kind")
            np.subtract(early[at : at + n], origin, out=ends[1], casting="same_kind")
            of_ends, of_nodes = self.matrices(start % self.h)
            node = start // self.h - 1 - first
            long = of_nodes @ slow[node : node + self.nodes]
            long += of_ends @ ends.reshape(2 * n, channels)
            out -= long.reshape(out.shape)
        wanted = dft[..., self.rows.picked]
        power: Power = wanted[:, 0] ** 2 + wanted[:, 1] ** 2
        return power

    def _matrices(self, phase: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return what late and early samples, and d at the nodes, add to the DFT of z, window `phase` after a node."""
        n = np.arange(1, N_FFT)
        place = (phase + n) / self.h
        cell = place.astype(np.int64)
        t = place - cell
        cubic = (-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2, -(t + 1) * t * (t - 2) / 2,
                 (t + 1) * t * (t - 1) / 6)  # fmt: skip
        lagrange = np.zeros((len(n), self.nodes))
        for i, weight in enumerate(cubic):
            lagrange[n - 1, cell + i] = weight
        of_nodes = self.steps @ lagrange

        def rest(terms: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.cumsum(terms[:, ::-1], axis=1)[:, ::-1]

        # A jump from n on, n = 1 to N_FFT: what it adds, less what the nodes from there on do.
        node = -(-(phase + np.arange(1, N_FFT + 1)) // self.h) + 1
        jump = self.jump * (np.pad(rest(self.steps), ((0, 0), (0, 1))) - rest(of_nodes)[:, node])
        jump -= jump.mean(axis=1, keepdims=True)  # of the constant before a window's cubics, too, nothing is left
        spike = self.spike * self.steps
        return np.hstack([jump[:, 1:] + spike, jump[:, :-1] - spike]).astype(np.float32), of_nodes

    def _slow(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return d without its spikes at the nodes first to stop - 1, (node, channel)."""
        q = self.q
        falling, rising = self._averages(first - q - 1, stop + q).transpose(1, 0, 2)
        hats = falling[1:] + rising[:-1]  # from node first - q on
        out = np.empty((stop - first, hats.shape[1]))
        for i in range(0, len(out), len(self.toeplitz)):
            n = min(len(self.toeplitz), len(out) - i)
            np.matmul(self.toeplitz[:n, : n + 2 * q], hats[i : i + n + 2 * q], out=out[i : i + n])
        # The first tap is for what follows its node, the last for what comes before.
        out -= self.taps[-1] * falling[2 * q + 1 :]
        out -= self.taps[0] * rising[: len(out)]
        return out

    def _averages(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the weighted sums over the blocks first to stop - 1, (block, 2, channel), less those of the origin."""
        kept = self.kept[first - self.first :]
        h, channels = self.h, self.origin.shape[1]
        fresh = np.empty((stop - first - len(kept), 2, channels))
        begin = stop - len(fresh)
        origin = self.origin[:h]
        less = np.empty((8, h, channels), np.float32)  # a few blocks at a time stay in the cache
        for b in range(begin, stop, 8):
            n = min(8, stop - b)
            samples = self.rows(b * h, (b + n) * h).reshape(n, h, channels)
            np.subtract(samples, origin, out=less[:n], casting="same_kind")
            fresh[b - begin : b - begin + n] = self.weights @ less[:n]
        self.first, self.kept = first, np.concatenate([kept, fresh])
        return self.kept


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
        rows = _Rows(self.recording, len(filter_taps(sfreq, low, high)))
        weights *= rows.unit**2 / (sfreq * N_FFT)
        route = (_Fused if self.parameters["route"] == "fused" else _General)(rows, sfreq, low, high, bins)
        for clip in self.clips:
            starts = self.starts(clip)
            with np.errstate(invalid="ignore", over="ignore"):  # what they leave is looked for below
                power = np.matmul(weights, route(starts)).transpose(0, 2, 1)
            if not np.isfinite(power).all():
                channel = self.recording.ch_names[int(np.argwhere(~np.isfinite(power))[0, 1])]
                raise ValueError(
                    f"data must be finite, got NaN or infinity in channel {channel} near clip {clip.marker}"
                )
            yield clip, starts / sfreq, power

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
        path = Path(out)
        write = _WRITERS.get(path.suffix.lower())
        if write is None or path.with_suffix(".json") == path:
            raise ValueError(f"out must end in one of {', '.join(_WRITERS)}, got {path.name}")
        began, done, interrupted = time.perf_counter(), 0, False

        def parts() -> Parts:
            nonlocal done, interrupted
            try:
                for part in self:
                    yield part
                    done += 1
                    if progress is not None:
                        progress(done, len(self))
            except KeyboardInterrupt:
                interrupted = True

        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as file:
            write(file, self, parts())
        meta = self._meta(done) | {"seconds": time.perf_counter() - began}
        with written(path.with_suffix(".json")) as file:
            file.write(json.dumps(meta, indent=1).encode())
        if interrupted:
            raise KeyboardInterrupt(f"interrupted; {done} of {len(self)} clips are in {path}")
        return meta

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
    >>> power = clip_band_power("subject.set")          # doctest: +SKIP
    >>> power.save("subject.parquet")                   # doctest: +SKIP
    """
    if not isinstance(recording, Recording):
        recording = open_recording(recording)
    sfreq = recording.sfreq
    if sfreq != round(sfreq) or sfreq < N_FFT:
        raise ValueError(f"sfreq must be a whole number of at least {N_FFT} Hz for windows of 1 s, got {sfreq:g}")
    filter_taps(sfreq, low, high)  # checks its arguments
    named = _named(BANDS if bands is None else bands)
    ranges = {name: _range(name, edges, sfreq) for name, edges in named.items()}
    one_of(route, "route", ("auto", "fused", "fft"))
    fused = _block(*_lowpasses(sfreq, low, high)[:2]) is not None
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
    return ClipBandPower(recording, clips, named, problems, parameters, ranges)


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


def _write_npz(file: IO[bytes], power: ClipBandPower, parts: Parts) -> None:
    done = list(parts)
    shape = (len(done), SECONDS, len(power.recording.ch_names), len(power.bands))
    np.savez(
        file,
        power=np.array([values for _, _, values in done]).reshape(shape),
        times=np.array([times for _, times, _ in done]).reshape(shape[:2]),
        clips=np.array([clip.marker for clip, _, _ in done], str),
        ch_names=np.array(power.recording.ch_names),
        bands=np.array(list(power.bands)),
        band_edges=np.array(list(power.bands.values()), np.float64),
    )


def _write_csv(file: IO[bytes], power: ClipBandPower, parts: Parts) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(power))
    for clip, times, values in parts:
        for i, (t, row) in enumerate(zip(times.tolist(), values.reshape(len(values), -1).tolist(), strict=True)):
            writer.writerow([clip.marker, i, f"{t:.10g}", *(f"{value:.9g}" for value in row)])
    text.detach()  # flushed, and the file left open


def _write_parquet(file: IO[bytes], power: ClipBandPower, parts: Parts) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("writing .parquet needs pyarrow: pip install pyarrow; or save as .npz or .csv") from error
    names = _columns(power)
    types = [pa.string(), pa.int32(), *[pa.float64()] * (len(names) - 2)]
    schema = pa.schema(list(zip(names, types, strict=True)))
    with pq.ParquetWriter(file, schema) as writer:
        for clip, times, values in parts:
            n = len(values)
            numbers = np.ascontiguousarray(values.reshape(n, -1).T)
            columns = [[clip.marker] * n, np.arange(n, dtype=np.int32), times, *numbers]
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))


_WRITERS: dict[str, Callable[[IO[bytes], ClipBandPower, Parts], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
