"""Peripheral signals: BIOPAC's files, features in windows against NumPy, and rates against signals of known rate."""

from __future__ import annotations

import csv
import json
import struct
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import Peripherals, open_peripherals, peripheral_features, peripherals, synth
from mmme_fast.alignment import Alignment
from mmme_fast.cli import main
from mmme_fast.eeg import Marker, open_recording

Float = NDArray[np.float64]


def noise(channels: int, samples: int) -> Float:
    return np.random.default_rng(channels).normal(size=(channels, samples)).cumsum(axis=1)


def opened(data: Any, sfreq: float, *kinds: str) -> Peripherals:
    return open_peripherals(open_recording(data, sfreq=sfreq), kinds={str(i): kind for i, kind in enumerate(kinds, 1)})


def hearts(seconds: float, sfreq: float, beats: Float) -> Float:
    """An electrocardiogram of heartbeats at these seconds: P, QRS and T waves."""
    t = np.arange(round(seconds * sfreq)) / sfreq
    x = np.zeros(len(t))
    for beat in beats:
        for delay, width, height in ((-0.18, 0.025, 0.12), (-0.025, 0.008, -0.1), (0, 0.01, 1), (0.25, 0.05, 0.3)):
            x += height * np.exp(-(((t - beat - delay) / width) ** 2) / 2)
    return x


# BIOPAC's Application Note 156 has the layout of these files; what no reader needs is left 0.
Wave = tuple[str, str, int, NDArray[Any], float, float]  # name, unit, divider, samples as stored, scale, offset
MARKS = ((2500, "101"), (4000, "100"))


def write_acq(path: Path, waves: Sequence[Wave], ms: float = 1.0, compressed: bool = False) -> Path:
    """AcqKnowledge 3.7, or 3.8.1, the first that compresses."""
    header = bytearray(1944 if compressed else 1894)
    struct.pack_into("<hiihhhd", header, 0, 0, 41 if compressed else 38, len(header), len(waves), 0, 0, ms)
    if compressed:
        struct.pack_into("<i", header, 1936, 1)
    parts = [bytes(header)]
    for i, (name, unit, divider, samples, scale, offset) in enumerate(waves):
        channel = bytearray(254 if compressed else 252)
        struct.pack_into("<ih40s", channel, 0, len(channel), i, name.encode("latin1"))
        struct.pack_into("<20siddh", channel, 68, unit.encode("latin1"), len(samples), scale, offset, i)
        struct.pack_into("<h", channel, 250, divider)
        parts.append(bytes(channel))
    parts.append(struct.pack("<hh", 4, 0))
    parts += [struct.pack("<hh", x.itemsize, 2 if x.dtype.kind == "i" else 1) for _, _, _, x, _, _ in waves]
    marks = [struct.pack("<ihhhh", at, 0, 0, 0, len(text)) + text.encode() + b"\0" for at, text in MARKS]
    behind = [struct.pack("<ii", 0, len(MARKS)), *marks, b"\x44\x33\x22\x11", struct.pack("<hi", 0, 0)]
    if compressed:
        parts += [*behind, struct.pack("<34xi", 0)]
        for name, unit, _, samples, _, _ in waves:
            packed = zlib.compress(samples.tobytes())
            labels = (name.encode("latin1"), unit.encode("latin1"))
            parts += [struct.pack("<44x4i", *map(len, labels), samples.nbytes, len(packed)), *labels, packed]
    else:
        # Sample by sample, each channel in every divider-th turn.
        ends = max(divider * len(samples) for _, _, divider, samples, _, _ in waves)
        parts += [
            samples[turn // divider].tobytes()
            for turn in range(ends)
            for _, _, divider, samples, _, _ in waves
            if turn % divider == 0 and turn // divider < len(samples)
        ]
        parts += behind
    path.write_bytes(b"".join(parts))
    return path


def waves() -> list[Wave]:
    """10 s at 500 Hz: two of 16 bits, one of them at a fourth of the rate, one of doubles, and a computed one."""
    rng = np.random.default_rng(5)
    raw = rng.integers(-30000, 30000, 5000).astype("<i2")
    slow = (1000 * np.sin(np.arange(1250) / 200)).astype("<i2")
    return [
        ("EDA100C", "microsiemens", 4, slow, 0.002, 5.0),
        ("ECG - ECG100C", "mV", 1, raw, 1e-4, -0.25),
        ("Temperatur \xb0C", "deg C", 2, 33 + rng.normal(size=2500), 7.0, 7.0),  # doubles are stored as they are
        ("Heart rate", "BPM", 1, raw, 1.0, 0.0),
    ]


@pytest.mark.parametrize("compressed", [False, True])
def test_acq(compressed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bioread")
    pytest.importorskip("neurokit2")
    made = waves()
    path = write_acq(tmp_path / "s.acq", made, ms=2.0, compressed=compressed)
    found = open_peripherals(path)
    assert [(c.name, c.kind, c.unit, c.sfreq, c.n_samples) for c in found.channels] == [
        ("EDA100C", "eda", "microsiemens", 125.0, 1250),
        ("ECG - ECG100C", "ecg", "mV", 500.0, 5000),
        ("Temperatur \xb0C", "skt", "deg C", 250.0, 2500),
    ]
    assert found.markers == (Marker(5.0, 0.0, "101"), Marker(8.0, 0.0, "100"))
    stored = [wave[3] * wave[4] + wave[5] for wave in made[:2]] + [made[2][3]]
    for channel, want in zip(found.channels, stored, strict=True):
        np.testing.assert_allclose(np.concatenate(list(channel._pieces())), want, rtol=1e-14)
    features = peripheral_features(path, at=[1.0, 2.5])
    np.testing.assert_allclose(features["EDA100C mean"][1], stored[0][312:437].mean(), rtol=1e-12)  # 312.5 is even
    np.testing.assert_allclose(features["Temperatur \xb0C range"][0], np.ptp(stored[2][250:500]), rtol=1e-12)
    assert mmme_fast.align(recording=found, markers=[(1.0, "101"), (4.0, "100")], preset="mmme").offset == 4.0
    kinds = {"Heart rate": "ppg"}
    assert [c.name for c in open_peripherals(path, kinds=kinds).channels] == ["Heart rate"]


def test_an_acq_that_is_no_good_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("bioread")
    path = write_acq(tmp_path / "s.acq", waves())
    whole = path.read_bytes()
    path.write_bytes(whole[:-4000])
    with pytest.raises(ValueError, match=r"s.acq must hold 42500 bytes of samples, got 38\d\d\d"):
        open_peripherals(path)
    for bad in (b"", whole[:1000], b"nothing of that kind" * 500):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"s.acq is not a readable .acq recording: "):
            open_peripherals(path)
    with pytest.raises(ValueError, match=r"sfreq must be None for s.acq, which says it itself, got 500"):
        open_peripherals(path, sfreq=500)


@pytest.mark.parametrize("kind", ["AcqKnowledge", "one channel", "acq2mat", "vectors"])
def test_mat(kind: str, tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    path, data = tmp_path / "s.mat", noise(2, 3000)
    names, sfreq = ["EDA", "SKT100C"], None
    if kind == "AcqKnowledge":
        says = {"isi": 4.0, "isi_units": "ms", "start_sample": 0.0}
        io.savemat(path, {"data": data.T, "labels": names, "units": ["uS", "deg C"], **says})
    elif kind == "one channel":
        data, names = data[:1], names[:1]
        io.savemat(path, {"data": data.T, "labels": "EDA", "units": "uS", "isi": 4.0, "isi_units": "ms"})
    elif kind == "acq2mat":
        structs = np.empty(2, object)
        for i, unit in enumerate(("uS", "deg C")):
            structs[i] = {"data": data[i], "samples_per_second": 250.0, "name": names[i], "units": unit}
        mark = {"label": "101", "sample_index": 500}
        io.savemat(path, {"samples_per_second": 250.0, "channels": structs, "event_markers": mark})
    else:
        io.savemat(
            path,
            dict(zip(names, data, strict=True)) | {"subject": "s01", "ECG_table": np.eye(3)},
        )
        sfreq = 250.0
        with pytest.raises(ValueError, match=r"sfreq must be given for s.mat, which does not say it"):
            open_peripherals(path)
    found = open_peripherals(path, sfreq=sfreq)
    assert [c.name for c in found.channels] == names
    assert found.channels[0].unit == ("" if kind == "vectors" else "uS")
    assert found.markers == ((Marker(2.0, 0.0, "101"),) if kind == "acq2mat" else ())
    features = peripheral_features(found, at=[4.0], window=2.0)
    for name, row in zip(names, data, strict=True):
        np.testing.assert_allclose(features[f"{name} mean"][0], row[1000:1500].mean(), rtol=1e-12)
    if sfreq is None:
        with pytest.raises(ValueError, match=r"sfreq must be None for s.mat, which says it itself, got 9"):
            open_peripherals(path, sfreq=9)


def test_a_mat_that_is_no_good_is_an_error(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    path = tmp_path / "s.mat"
    path.write_bytes(b"nothing of that kind" * 50)
    with pytest.raises(ValueError, match=r"s.mat is not a readable .mat recording: "):
        open_peripherals(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(ValueError, match=r"must be of version 7 at most, got 7.3: save it with save\(..., '-v7'\)"):
        open_peripherals(path)
    io.savemat(path, {"data": np.zeros((9, 3)), "labels": ["EDA", "SKT"], "isi": 1.0, "isi_units": "ms"})
    with pytest.raises(ValueError, match=r"must have a label and a unit for each column of data, \(9, 3\)"):
        open_peripherals(path)
    io.savemat(path, {"data": np.zeros((9, 1)), "labels": "EDA", "isi": 1.0, "isi_units": "kHz"})
    with pytest.raises(ValueError, match=r"must have its sample interval in ms, got 'kHz'"):
        open_peripherals(path)
    io.savemat(path, {"subject": "s01"})
    with pytest.raises(ValueError, match=r"must hold a vector for each channel"):
        open_peripherals(path, sfreq=250)


def test_what_open_recording_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(3, 2000)
    recording = replace(open_recording(data, sfreq=200), ch_names=("Fp1", "GSR", "Temp"))
    found = open_peripherals(recording)
    assert [(c.name, c.kind, c.unit) for c in found.channels] == [("GSR", "eda", "V"), ("Temp", "skt", "V")]
    np.testing.assert_allclose(peripheral_features(found, [1.0])["Temp mean"], data[2, 200:400].mean())
    np.save(tmp_path / "s.npy", data)
    found = open_peripherals(tmp_path / "s.npy", sfreq=200, kinds={"3": "skt"})
    np.testing.assert_allclose(peripheral_features(found, [1.0])["3 mean"], data[2, 200:400].mean())


@pytest.mark.parametrize("piece", [97, 2**18])
def test_windows_hold_what_numpy_finds(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of any length in any order, at any two rates, however the signal is read."""
    monkeypatch.setattr(peripherals, "_PIECE", piece)
    data, sfreq = 1e3 + noise(2, 4000), 200.0
    rng = np.random.default_rng(0)
    at, window = rng.uniform(-1, 20, 200), rng.choice([0.005, 0.02, 0.5, 1.0, 7.3], 200)
    features = peripheral_features(opened(data, sfreq, "eda", "skt"), at, window=window)
    assert list(features) == [f"{i} {what}" for i in (1, 2) for what in ("mean", "slope", "range")]
    seen = 0
    for i, (start, length) in enumerate(
        zip(np.rint(at * sfreq).astype(int), np.rint(window * sfreq).astype(int), strict=True)
    ):
        got = np.array([features[f"2 {what}"][i] for what in ("mean", "slope", "range")])
        if start < 0 or start + length > 4000:
            assert np.isnan(got).all()
            continue
        x = data[1, start : start + length]
        slope = np.polyfit(np.arange(length) / sfreq, x - x[0], 1)[0] if length > 1 else np.nan
        np.testing.assert_allclose(got, [x.mean(), slope, np.ptp(x)], rtol=1e-9, atol=1e-8)
        seen += 1
    assert seen > 100


def test_windows_of_a_frame_resample() -> None:
    """A slow sensor under a fast film gives the nearest sample; NaN stays where it is."""
    x = np.arange(100.0)
    x[50] = np.nan
    frames = np.arange(0, 9.9, 1 / 150)
    mean = peripheral_features(opened(x[None], 10.0, "skt"), frames, window=1 / 150)["1 mean"]
    np.testing.assert_array_equal(mean, x[np.rint(frames * 10).astype(int)])


def test_heart_and_breathing_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("neurokit2")
    monkeypatch.setattr(peripherals, "_STRETCH", 40.0)  # of 100 s
    monkeypatch.setattr(peripherals, "_MARGIN", 15.0)
    rng = np.random.default_rng(1)
    sfreq, seconds = 250.0, 100.0
    t = np.arange(round(seconds * sfreq)) / sfreq
    # A heart that goes from 60 to 90 beats per minute, and stops being heard from 50 to 60 s.
    course = np.interp(t, [0, 40, 70, 100], [60, 60, 90, 90]) / 60
    beats = np.interp(np.arange(1.0, np.sum(course) / sfreq), np.cumsum(course) / sfreq, t)
    ecg = hearts(seconds, sfreq, beats[(beats < 50) | (beats > 60)])
    phase = t * 84 / 60 % 1
    ppg = np.exp(-(((phase - 0.3) / 0.1) ** 2) / 2) + 0.3 * np.exp(-(((phase - 0.6) / 0.12) ** 2) / 2)
    rsp = np.sin(2 * np.pi * t * 15 / 60)
    data = np.stack([ecg, ppg, rsp]) + rng.normal(0, 0.01, (3, len(t)))
    data[2, 3000:3020] = np.nan
    found = opened(data, sfreq, "ecg", "ppg", "rsp")
    at = [10.0, 85.0, 30.2, 54.0, 5.0]
    window = [20.0, 10.0, 1.0, 1.0, 90.0]
    features = peripheral_features(found, at, window=window)
    np.testing.assert_allclose(features["1 rate"][:3], [60, 90, 60], rtol=5e-3)
    assert np.isnan(features["1 rate"][3])  # not heard
    heard = (beats >= 5) & (beats < 95) & ((beats < 50) | (beats > 60))
    lost = np.diff(beats[(beats < 50) | (beats > 60)]).max()
    assert features["1 rate"][4] == pytest.approx(60 * (heard.sum() - 1) / (90 - lost), rel=2e-2)
    np.testing.assert_allclose(features["2 rate"], 84, rtol=2e-2)
    np.testing.assert_allclose(features["2 rate"][[0, 4]], 84, rtol=2e-3)
    np.testing.assert_allclose(features["3 rate"], 15, rtol=2e-2)
    # A second that no breath's peak has begun or ended yet.
    assert np.isnan(peripheral_features(found, [0.0], window=0.2)["3 rate"][0])


def test_signals_without_beats_have_no_rate() -> None:
    pytest.importorskip("neurokit2")
    data = np.stack([np.zeros(3000), np.arange(3000.0), np.full(3000, np.nan)])
    features = peripheral_features(opened(data, 100.0, "ecg", "rsp", "ppg"), [5.0], window=20)
    assert all(np.isnan(features[f"{i} rate"]).all() for i in (1, 2, 3))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"at": 1.0}, ValueError, r"at must be 1-D with at least one time, got shape \(\)"),
        ({"at": ["1"]}, TypeError, "at must be real numbers"),
        ({"at": [np.nan]}, ValueError, "at must be finite"),
        ({"at": [1.0], "window": 0}, ValueError, "window must be above 0, got 0"),
        ({"at": [1.0], "window": [1.0, 2.0]}, ValueError, r"window must be a number or one for each of the 1 times"),
        ({"at": [9.5]}, ValueError, "at must have a window within the 10 s of array, got none"),
    ],
)
def test_rules(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        peripheral_features(opened(noise(1, 1000), 100.0, "skt"), **arguments)


def test_kinds_must_be_known_and_there(tmp_path: Path) -> None:
    recording = replace(open_recording(noise(2, 100), sfreq=10), ch_names=("Fp1", "Resp rate"))
    with pytest.raises(ValueError, match=r"\(Fp1, Resp rate\), as none of these names tells what it is"):
        open_peripherals(recording)
    with pytest.raises(ValueError, match=r"kinds must name channels of array \(Fp1, Resp rate\), got \['EDA'\]"):
        open_peripherals(recording, kinds={"EDA": "eda"})
    with pytest.raises(ValueError, match="kinds must be one of 'ecg', 'ppg', 'rsp', 'eda', 'skt', got 'eeg'"):
        open_peripherals(recording, kinds={"Fp1": "eeg"})
    with pytest.raises(FileNotFoundError, match=r"no such recording: .*none.acq"):
        open_peripherals(tmp_path / "none.acq")
    twice = open_peripherals(replace(recording, ch_names=("EDA", "EDA")))
    assert [channel.name for channel in twice.channels] == ["EDA", "EDA 2"]


@pytest.mark.parametrize(("name", "file"), [("bioread", "a.acq"), ("scipy.io", "a.mat"), ("neurokit2", "")])
def test_what_is_missing_is_an_error_that_says_how_to_get_it(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    source: Any = tmp_path / file
    if file:
        source.touch()
    else:
        source = replace(open_recording(noise(1, 100), sfreq=10), ch_names=("Respiration",))
    with pytest.raises(ImportError, match=r'pip install "mmme_fast\[peripherals\]"'):
        open_peripherals(source)


def test_spot_joins_them_to_the_film(tmp_path: Path) -> None:
    """A film from second 4 of a recording, by the command: its frames, its intervals, and its clock's skew."""
    io = pytest.importorskip("scipy.io")
    pytest.importorskip("neurokit2")
    np.save(tmp_path / "film.npy", synth.film(12, 100, 128, seed=3, micro=15, macro=10).frames(0, 500))
    sfreq, seconds = 200.0, 20.0
    data = np.stack([hearts(seconds, sfreq, np.arange(0.3, seconds, 60 / 72)), noise(1, 4000)[0]])
    names, units = ["ECG", "SKT"], ["mV", "deg C"]
    io.savemat(
        tmp_path / "s.mat", {"data": data.T, "labels": names, "units": units, "isi": 1000 / sfreq, "isi_units": "ms"}
    )
    out = tmp_path / "out"
    options = ["--fps", "100", "--crop", "full", "--size", "128", "--align", "eeg=1,peripherals=4", "--baseline", "0.5"]
    command = ["spot", tmp_path / "film.npy", "--peripherals", tmp_path / "s.mat", "--out", out, *options]
    assert main([str(part) for part in command]) == 0
    meta = json.loads((out / "meta.json").read_text())["peripherals"]
    assert meta["channels"][1] == {"name": "SKT", "kind": "skt", "unit": "deg C", "sfreq": 200.0}
    assert (meta["alignment"]["offset"], meta["baseline"]) == (4.0, 0.5)
    want = peripheral_features(tmp_path / "s.mat", 3.5 + np.arange(500) / 100)
    with np.load(out / "peripherals.npz") as saved:
        assert sorted(saved) == sorted(want)
        for name, values in want.items():
            np.testing.assert_allclose(saved[name], values, rtol=1e-6)
        np.testing.assert_allclose(saved["ECG rate"], 72, rtol=1e-2)
    with (out / "features.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 1
    for row in rows:
        start, stop = (round((4 + float(row[name])) * sfreq) for name in ("onset_s", "offset_s"))
        x = data[1, start : stop + 2]  # to the end of the frame at the offset
        assert float(row["SKT range"]) == pytest.approx(np.ptp(x), rel=1e-5)
        assert float(row["SKT mean"]) == pytest.approx(x.mean() - data[1, start - 100 : start].mean(), rel=1e-4)
        assert abs(float(row["ECG rate"])) < 1
        assert float(row["strain mean"]) > 0
    assert not (out / "band_power.npy").exists()


def test_a_recording_of_another_time_loses_nothing_of_the_film(tmp_path: Path) -> None:
    film = synth.film(3, 60, 96, seed=1, micro=0, macro=0).frames()
    temperature = opened(noise(1, 100), 10.0, "skt")
    for align in ("mmme", {"film": 1.0}, [1.0]):
        with pytest.raises((ValueError, TypeError)):
            mmme_fast.spot(film, crop="full", size=96, fps=60, peripherals=temperature, align=align, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(
        ValueError, match="at must have a window within the 10 s of array, got none; what was done is in"
    ):
        mmme_fast.spot(
            film, crop="full", size=96, fps=60, peripherals=temperature, align=Alignment(500.0), out=tmp_path / "b"
        )
    assert (tmp_path / "b" / "meta.json").exists()
