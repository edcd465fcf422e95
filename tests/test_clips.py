"""The clips of an MMME recording against MNE's filter and the MMME notebooks' way, on small recordings."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import logging
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import clips, eeg
from mmme_fast.cli import main
from mmme_fast.clips import Clip, ClipBandPower, clip_band_power

MARKS = [
    ("77", 0.3),
    ("110", 1.0),
    ("100", 42.5),
    ("148", 43.0),
    ("100", 84.5),
    ("88", 85.0),
    ("77", 86.0),
    ("101", 90.0),
]


def off(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Relative error of all but one feature in a thousand, beside a floor of 1e-7 uV^2/Hz."""
    return float(np.quantile(abs(ours - theirs) / (theirs + 1e-19), 0.999))


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "mmme_notebook.py"
    spec = importlib.util.spec_from_file_location("mmme_notebook", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def path(peer: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """135 s of 7 EEG channels and 6 others, the last clip up to the end; offsets, bursts and a flat channel."""
    pytest.importorskip("mne")
    path: Path = tmp_path_factory.mktemp("clips") / "a.set"
    assert peer.write_recording(path, 135, 7, MARKS) == [f"E{i}" for i in range(1, 8)]
    return path


@pytest.fixture(scope="module")
def general(path: Path) -> tuple[ClipBandPower, NDArray[np.float64]]:
    power = clip_band_power(path, route="fft")
    return power, power.compute()


@pytest.mark.parametrize(
    ("sfreq", "low", "high"), [(1000, 0.04, 48), (500, 0.1, 40), (200, 1, None), (200, None, 30), (250, 5, 20)]
)
def test_the_filter_is_mnes(sfreq: float, low: float | None, high: float | None) -> None:
    mne = pytest.importorskip("mne")
    want = mne.filter.create_filter(None, sfreq, low, high, verbose="ERROR")
    np.testing.assert_allclose(clips.filter_taps(sfreq, low, high), want, rtol=0, atol=1e-15)


@pytest.mark.filterwarnings("ignore:filter_length")
@pytest.mark.parametrize("samples", [2500, 1500, 700])  # the filter has 1651 taps; the mirror ends before it does
def test_filtered_is_what_mne_filters(samples: int) -> None:
    mne = pytest.importorskip("mne")
    data = np.random.default_rng(0).standard_normal((3, samples)).cumsum(axis=1) + 1e3
    want = mne.filter.filter_data(data, 200.0, 0.4, 40, verbose="ERROR")
    recording = eeg.open_recording(data, sfreq=200)
    np.testing.assert_allclose(clips.filtered(recording, low=0.4, high=40), want, rtol=0, atol=1e-9)
    part = clips.filtered(recording, 300, 650, low=0.4, high=40)
    np.testing.assert_allclose(part, want[:, 300:650], rtol=0, atol=1e-9)


def test_features_are_the_notebooks(
    path: Path, peer: ModuleType, general: tuple[ClipBandPower, NDArray[np.float64]]
) -> None:
    pytest.importorskip("pandas")
    power, got = general
    order = np.argsort([clip.marker for clip in power.clips])
    want = 1e-12 * peer.notebook(path, list(power.recording.ch_names))  # a DataFrame is in uV
    assert off(got[order], want) < 1e-7


def test_features_are_those_of_a_tidy_script(
    path: Path, peer: ModuleType, general: tuple[ClipBandPower, NDArray[np.float64]]
) -> None:
    power, got = general
    order = np.argsort([clip.marker for clip in power.clips])
    assert off(got[order], peer.tidy(path, list(power.recording.ch_names))) < 1e-7


def test_fused_features_are_those_of_the_general_route(
    path: Path, general: tuple[ClipBandPower, NDArray[np.float64]], backend: str
) -> None:
    power = clip_band_power(path, threads=1)
    assert power.parameters["route"] == "fused"
    got = power.compute()
    assert off(got, general[1]) < 5e-6
    assert got[:, :, -1].max() < 1e-30  # flat
    np.testing.assert_array_equal(clip_band_power(path, threads=3).compute(), got)


@pytest.mark.parametrize("channels", [1, 37])
def test_fused_power_of_a_channel_does_not_depend_on_the_others(channels: int, backend: str) -> None:
    """Their number may leave a vector unfilled."""
    rng = np.random.default_rng(0)
    data = (1e-5 * rng.standard_normal((channels, 45000)).cumsum(axis=1) + 0.04).astype(np.float32)
    made = marked([("101", 1)], seconds=45, channels=channels)
    recording = dataclasses.replace(made, mapped=(np.ascontiguousarray(1e6 * data.T), tuple(range(channels))))
    got = clip_band_power(recording).compute()
    assert off(got, clip_band_power(recording, route="fft").compute()) < 5e-6
    last = dataclasses.replace(recording, ch_names=("E0",), mapped=(recording.mapped[0], (channels - 1,)))
    np.testing.assert_array_equal(clip_band_power(last).compute(), got[:, :, -1:])


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    channels, samples = 8, 1_200_000
    with open(tmp_path / "x.fdt", "wb") as file:
        file.truncate(4 * channels * samples)  # zeros
    data = np.memmap(tmp_path / "x.fdt", "<f4", "r", shape=(samples, channels)).view(np.ndarray)
    made = marked([(str(101 + i), 60.0 * i + 10) for i in range(19)], seconds=1, channels=channels)
    recording = dataclasses.replace(made, n_samples=samples, mapped=(data, tuple(range(channels))))
    tracemalloc.start()
    for _, _, power in clip_band_power(recording):
        assert not power.any()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * channels * 122_000  # the samples of a clip are not copied, not even at the recording's ends


def test_fused_serves_any_reader_and_other_rates() -> None:
    rng = np.random.default_rng(0)
    data = 1e-5 * rng.standard_normal((2, 45 * 600)).cumsum(axis=1)
    made = eeg.open_recording(data, sfreq=600)
    recording = eeg.Recording("array", 600.0, made.ch_names, made.n_samples, (eeg.Marker(2.0, 0.0, "101"),), made.read)
    bands = {"low": (0.5, 3.0), "all": (1.0, 70.0)}  # no bin 0: there the mean is removed
    a, b = (clip_band_power(recording, bands=bands, high=70, low=0.08, route=route) for route in ("fft", "fused"))
    assert off(b.compute(), a.compute()) < 1e-5
    assert clip_band_power(recording, low=5).parameters["route"] == "fft"
    with pytest.raises(ValueError, match="route must be 'fft'"):
        clip_band_power(recording, low=5, route="fused")


def marked(marks: list[tuple[str, float]], seconds: float = 200, sfreq: float = 1000, channels: int = 2) -> Any:
    events = tuple(eeg.Marker(onset, 0.0, text) for text, onset in marks)
    data = np.zeros((channels, round(seconds * sfreq)), np.float32)
    names = tuple(f"E{i}" for i in range(channels))
    return eeg.Recording("rec", sfreq, names, data.shape[1], events, lambda start, stop: data[:, start:stop])


def test_markers_make_clips(caplog: pytest.LogCaptureFixture) -> None:
    recording = marked([("101", 1), ("77", 5), ("102", 42.5), ("100", 82.4), ("88", 83), ("102", 84), ("100", 130)])
    assert clips.find_clips(recording) == (
        Clip("101", 1000, 42500),
        Clip("102", 42500, 82400),
        Clip("102", 84000, 130000),
    )
    with caplog.at_level(logging.WARNING, logger="mmme_fast"):
        power = clip_band_power(recording)
    assert [clip.start for clip in power.clips] == [1000, 84000]
    assert power.starts(power.clips[0]).tolist() == list(range(2499, 42499, 1000))
    assert "2 of 48 clips are there; missing: 103, 104" in caplog.text
    assert "clip 102 is there 2 times" in caplog.text
    assert "clip 102 at 42.500 s is left out: it lasts 39.9 s" in caplog.text
    assert "2 EEG channels, where MMME uses 62" in caplog.text


@pytest.mark.parametrize(
    ("recording", "options", "text"),
    [
        (marked([("77", 1.0)]), {}, "must have markers 101 to 148, which start its clips, got 77"),
        (marked([]), {}, "got none"),
        (marked([("101", 1), ("100", 9)]), {}, "must have a clip of more than 40 s, got 1 shorter"),
        (marked([("101", 1)], sfreq=500), {}, "sfreq must be a whole number of at least 512 Hz"),
        (marked([("101", 1)]), {"bands": {"thin": (8, 9)}}, "must hold at least one bin"),
        (marked([("101", 1)]), {"low": 50}, "low must be below high"),
        (marked([("101", 1)]), {"high": 500}, "high must be below sfreq / 2"),
    ],
)
def test_bad_input(recording: eeg.Recording, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        clip_band_power(recording, **options)


def test_data_must_be_finite() -> None:
    recording = marked([("101", 1)], seconds=60)
    recording.read(0, 60000)[1, 50000] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in channel E1 near clip 101"):
        clip_band_power(recording).compute()


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_the_command_writes_the_table(
    kind: str, path: Path, general: tuple[ClipBandPower, NDArray[np.float64]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{kind}"
    plot = ["--plot"] if kind == "npz" else []
    assert main(["band-power", str(path), "--preset", "mmme", "--out", str(out), *plot]) == 0
    assert out.with_suffix(".html").exists() == bool(plot)
    said = capsys.readouterr()
    assert "beta     13-30 Hz, 9 bins of 1.95312 Hz" in said.out
    assert f"3 clips of 40 windows, V^2/Hz: {out}" in said.out
    assert "3 of 48 clips are there" in said.err
    meta = json.loads(out.with_suffix(".json").read_text())
    assert (meta["complete"], meta["done"], meta["parameters"]["route"]) == (True, 3, "fused")
    assert meta["clips"][0] == ["110", 1.0, 42.5]
    want = general[1]
    columns = ["clip", "window", "time", *(f"E{i} {band}" for i in range(1, 8) for band in eeg.BANDS)]
    first = [2.499, 44.499, 94.999]  # of each clip's windows
    if kind == "npz":
        with np.load(out) as file:
            assert file["clips"].tolist() == ["110", "148", "101"]
            assert file["times"][:, 0].tolist() == first
            got = file["power"]
    elif kind == "csv":
        rows = list(csv.reader(out.read_text().splitlines()))
        assert rows[0] == columns
        assert [rows[i][:3] for i in (1, 41, 120)] == [
            ["110", "0", "2.499"],
            ["148", "0", "44.499"],
            ["101", "39", "133.999"],
        ]
        got = np.array([row[3:] for row in rows[1:]], np.float64).reshape(want.shape)
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(out)
        assert table.column_names == columns
        assert table["clip"].to_pylist() == ["110"] * 40 + ["148"] * 40 + ["101"] * 40
        assert table["window"].to_pylist() == 3 * list(range(40))
        got = np.stack([table[name].to_numpy() for name in columns[3:]], axis=1).reshape(want.shape)
    assert off(got, want) < 1e-5


def test_the_command_refuses_what_the_preset_fixes(path: Path, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "x.csv")
    assert main(["band-power", str(path), "--preset", "mmme", "--hop", "1", "--out", out]) == 1
    assert "--hop must be left out with --preset mmme" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_save_keeps_what_is_done_when_interrupted(kind: str, path: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=rf"interrupted; 1 of 3 clips are in .*out.{kind}"):
        clip_band_power(path).save(tmp_path / f"out.{kind}", progress=stop)
    assert not json.loads((tmp_path / "out.json").read_text())["complete"]


def test_save_leaves_no_half_file(path: Path, tmp_path: Path) -> None:
    power = clip_band_power(path)
    with pytest.raises(ValueError, match=r"out must end in one of .npz, .csv, .parquet"):
        power.save(tmp_path / "out.xlsx")

    def fail(done: int, total: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        power.save(tmp_path / "out.npz", progress=fail)
    assert not list(tmp_path.iterdir())
