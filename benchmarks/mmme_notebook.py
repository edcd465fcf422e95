"""The MMME notebooks' band power of one recording, written the way they go about it; a tidy script; and a recording."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 47)}
CODES = [str(code) for code in range(101, 149)]
OTHERS = ("HEO", "VEO", "EKG", "EMG", "TRIGGER", "BIP1")


def notebook(path: Path, channels: list[str]) -> NDArray[np.float64]:
    """(clip, window, channel, band) in uV^2/Hz, as a notebook does it: everything in a DataFrame."""
    import mne

    raw = mne.io.read_raw_eeglab(path, preload=True, verbose="ERROR")
    raw.filter(0.04, 48, verbose="ERROR")
    table = raw.to_data_frame()

    onsets, texts = raw.annotations.onset.tolist(), raw.annotations.description.tolist()
    for junk in ("77", "88"):
        if junk in texts:
            del onsets[texts.index(junk)]
            texts.remove(junk)

    def marker(t: float) -> str:
        i = bisect_right(onsets, t) - 1
        return texts[i] if i >= 0 else ""

    table["marker"] = table["time"].apply(marker)
    features = []
    for code in CODES:
        clip = table[table["marker"] == code][channels].to_numpy()
        if not len(clip):
            continue
        clip = clip[-40001:]
        for second in range(40):
            window = clip[1000 * second : 1000 * second + 1001]
            for low, high in BANDS.values():
                f, p = signal.periodogram(
                    window, 1000, window="boxcar", nfft=512, return_onesided=False, scaling="density", axis=0
                )
                features.append(p[(f >= low) & (f <= high)].mean(axis=0))
    return np.array(features).reshape(-1, 40, len(BANDS), len(channels)).transpose(0, 1, 3, 2)


def tidy(path: Path, channels: list[str]) -> NDArray[np.float64]:
    """The same in V^2/Hz, as somebody who knows MNE would do it: only the channels wanted, clips as arrays."""
    import mne

    raw = mne.io.read_raw_eeglab(path, preload=False, verbose="ERROR").pick(channels).load_data(verbose="ERROR")
    raw.filter(0.04, 48, verbose="ERROR")
    marks = [
        (round(onset * 1000), text)
        for onset, text in zip(raw.annotations.onset, raw.annotations.description, strict=True)
        if text in (*CODES, "100")
    ]
    stops = [sample for sample, _ in marks[1:]] + [raw.n_times]
    clips = {text: stop for (_, text), stop in zip(marks, stops, strict=True) if text != "100"}
    features = []
    for code in CODES:
        if code not in clips:
            continue
        data = raw.get_data(start=clips[code] - 40001, stop=clips[code])
        windows = np.lib.stride_tricks.sliding_window_view(data, 512, axis=1)[:, :40000:1000]
        f, p = signal.periodogram(windows, 1000)
        features.append([p[..., (f >= low) & (f <= high)].mean(axis=-1) / 2 for low, high in BANDS.values()])
    return np.array(features).transpose(0, 3, 2, 1)


def write_recording(
    path: Path, seconds: int, channels: int, clips: list[tuple[str, float]], *, seed: int = 0
) -> list[str]:
    """Write an EEGLAB recording (.set and .fdt) at 1000 Hz and return the names of its EEG channels.

    It is noise of 10 uV whose power falls with frequency, slow drifts, an offset of up to 40 mV, bursts of 3 mV and a
    flat channel, with `channels` of EEG and six others. `clips` are (marker, onset in seconds).
    """
    from scipy.io import savemat

    rng = np.random.default_rng(seed)
    names = [f"E{i + 1}" for i in range(channels)]
    n = channels + len(OTHERS)
    offset = rng.uniform(-4e4, 4e4, n)
    drift, state = rng.uniform(0.002, 0.05, n), np.zeros((1, n))
    with open(path.with_suffix(".fdt"), "wb") as file:
        for second in range(0, seconds, 10):
            samples = 1000 * min(10, seconds - second)
            white = rng.standard_normal((samples, n), np.float32)
            noise, state = signal.lfilter([0.8], [1, -0.99], white, axis=0, zi=state)
            t = second + np.arange(samples)[:, None] / 1000
            data = 1.5 * noise + white + offset + 100 * np.sin(2 * np.pi * drift * t)
            if second % 30 == 20:
                data[4000:4300, second // 30 % n] += 3000 * rng.standard_normal(300)
            data[:, channels - 1] = offset[channels - 1]
            file.write(data.astype("<f4").tobytes())
    where = np.zeros(n, [("labels", object), ("type", object)])
    where["labels"], where["type"] = [*names, *OTHERS], "EEG"
    event = np.zeros(len(clips), [("latency", object), ("type", object), ("duration", object)])
    event["latency"] = [1000 * onset + 1.0 for _, onset in clips]
    event["type"], event["duration"] = [text for text, _ in clips], 0.0
    header: dict[str, Any] = {
        "nbchan": float(n), "pnts": 1000.0 * seconds, "trials": 1.0, "srate": 1000.0, "xmin": 0.0,
        "data": path.with_suffix(".fdt").name, "chanlocs": where, "event": event, "setname": "", "filename": path.name,
        "epoch": [], "icawinv": [], "icaweights": [], "ref": "common",
    }  # fmt: skip
    savemat(path, {"EEG": header}, appendmat=False)
    return names
