"""spot(): from a film on disk to intervals, signals and files; its accuracy, its memory, and how it fails."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import synth, tracking
from mmme_fast.alignment import Alignment
from mmme_fast.frames import open_frames
from mmme_fast.pipeline import spot
from mmme_fast.results import COLUMNS, Spotting

EEG = mmme_fast.open_recording(np.zeros((1, 2000)), sfreq=1000)


@pytest.fixture(scope="session")
def short() -> synth.SyntheticFilm:
    return synth.film(12, 100, 128, seed=3, micro=15, macro=10)


@pytest.fixture(scope="session")
def short_file(short: synth.SyntheticFilm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short.write(tmp_path_factory.mktemp("film") / "short.avi")


def overlap(a: Any, b: Any) -> float:
    shared = min(a.offset, b.offset) - max(a.onset, b.onset) + 1
    return max(shared, 0) / (max(a.offset, b.offset) - min(a.onset, b.onset) + 1)


def score(found: list[Any], truth: list[Any]) -> tuple[int, int]:
    """Hits and false hits, one to one, at IoU >= .5."""
    left = list(found)
    hits = 0
    for event in truth:
        best = max(left, key=lambda one: overlap(one, event), default=None)
        if best is not None and overlap(best, event) >= 0.5:
            left.remove(best)
            hits += 1
    return hits, len(left)


def expressions(film: synth.SyntheticFilm) -> list[synth.Event]:
    return [event for event in film.truth if event.type != "blink"]


def test_expressions_and_blinks_of_a_short_film(backend: str, short: synth.SyntheticFilm, short_file: Path) -> None:
    found = spot(short_file, crop="full", size=128)
    assert score(found.intervals, expressions(short)) == (len(expressions(short)), 0)
    assert score(found.blinks, [e for e in short.truth if e.type == "blink"])[1] == 0
    assert found.meta["backend"] == backend
    for one in found.intervals:
        truth = max(short.truth, key=lambda event: overlap(one, event))
        assert one.type == truth.type
        assert abs(one.apex - truth.apex) <= 5
        assert one.onset_s == pytest.approx(one.onset / 100)


@pytest.mark.parametrize("fps", [30.0, 200.0])
def test_frame_rate_does_not_matter(fps: float) -> None:
    film = synth.film(10, fps, 128, seed=5, micro=12, macro=6, blinks=6, sway=4)
    found = spot(np.concatenate(list(film.chunks())), crop="full", size=128, fps=fps)
    assert score(found.intervals, expressions(film)) == (len(expressions(film)), 0)


@pytest.mark.parametrize("flow", ["tvl1", "dis"])
def test_other_flows_find_them_too(short: synth.SyntheticFilm, flow: str) -> None:
    film = short.frames(0, 600)
    truth = [event for event in expressions(short) if event.offset < 560]
    found = spot(film, crop="full", size=128, fps=100, flow=flow)
    assert score(found.intervals, truth) == (len(truth), 0)
    assert found.meta["parameters"]["flow"] == flow


# Run apart, for its own peak memory; VmHWM, because ru_maxrss is inherited from the parent.
RUN = """
import sys
from mmme_fast import open_frames, spot
path, end = sys.argv[1], int(sys.argv[2])
frames = open_frames(path)
chunks = frames.chunks
frames.chunks = lambda n: (chunk for i, chunk in zip(range(end // n), chunks(n)))
found = spot(frames)
print(*(f"{i.onset},{i.offset}" for i in found.intervals))
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc")
def test_the_minute_of_film_that_the_project_is_judged_by(tmp_path: Path) -> None:
    film = synth.film()  # 60 s, 150 fps, 256x256, noise, sway, blinks
    path = film.write(tmp_path / "minute.avi")
    peak = {}
    for seconds in (10, 60):
        frames = str(seconds * 150)
        result = subprocess.run([sys.executable, "-c", RUN, path, frames], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        intervals, memory = result.stdout.splitlines()
        peak[seconds] = int(memory) / 1024
    truth = expressions(film)
    hits, false = score([Span(*map(int, pair.split(","))) for pair in intervals.split()], truth)
    print(f"{hits} of {len(truth)} expressions, {false} false; {peak[10]:.0f} MB at 10 s, {peak[60]:.0f} MB at 60 s")
    assert hits >= 0.8 * len(truth)
    assert false <= len(truth)
    assert peak[60] < 400
    assert peak[60] < 1.15 * peak[10] + 10


class Span:
    def __init__(self, onset: int, offset: int) -> None:
        self.onset, self.offset = onset, offset


def test_event_free_film_gives_no_interval() -> None:
    film = synth.film(8, 60, 128, seed=1, micro=0, macro=0, blinks=8, sway=4, noise=2)
    assert spot(film.frames(), crop="full", size=128, fps=60).intervals == []


def test_outputs_on_disk(short_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "results"
    seen: list[tuple[int, int | None]] = []
    found = spot(short_file, crop="full", size=128, out=out, progress=lambda done, of: seen.append((done, of)))
    assert sorted(p.name for p in out.iterdir() if p.name != "report.html") == [
        "blinks.csv", "intervals.csv", "meta.json", "signals.npz"
    ]  # fmt: skip
    with (out / "intervals.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["onset"]) for row in rows] == [one.onset for one in found.intervals]
    with np.load(out / "signals.npz") as signals:
        assert set(signals) == {
            "timestamp", "score", "motion", "head_x", "head_y", "head_turn", "head_growth", "strain", "valid",
                "blink",
        }  # fmt: skip
        for name in signals:
            assert signals[name].shape == (1200,), name
            np.testing.assert_array_equal(signals[name], found.signals[name])
        np.testing.assert_allclose(np.diff(signals["timestamp"]), 0.01, atol=1e-6)
    meta = json.loads((out / "meta.json").read_text())
    assert meta["frames"] == 1200
    assert meta["complete"] is True
    assert meta["input"]["bytes"] == short_file.stat().st_size
    assert meta["parameters"]["grey"] in ("luma", "stored")
    assert seen[-1] == (1200, 1200)


def test_signals_are_the_films_own(short: synth.SyntheticFilm, short_file: Path) -> None:
    found = spot(short_file, crop="full", size=128)
    poses = np.array([short.pose(i) for i in range(1200)])
    for k, name in enumerate(("head_x", "head_y")):
        known = (poses[:, k] - poses[0, k]) * 2  # to pixels of a crop 256 wide
        assert np.abs(found.signals[name] - known).max() < 0.4
    quiet = np.ones(1200, bool)
    for one in [*found.intervals, *found.blinks]:
        assert found.scores[one.onset : one.offset + 1].max() > 1
        quiet[one.onset : one.offset + 1] = False
    # The score crosses its threshold in the intervals, and hardly ever beside them.
    assert (found.scores[quiet] > 1).mean() < 0.03


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [50, 333])
def test_same_bits_for_any_chunk_and_number_of_threads(
    short: synth.SyntheticFilm, chunk: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = short.frames(0, 700)
    want = spot(film, crop="full", size=128, fps=100, threads=2)
    monkeypatch.setattr("mmme_fast.pipeline.CHUNK", chunk)
    got = spot(film, crop="full", size=128, fps=100, threads=threads)
    assert got.intervals == want.intervals
    for name, values in want.signals.items():
        np.testing.assert_array_equal(got.signals[name], values, err_msg=name)


def test_warm_start_gives_the_same_bits_too(short: synth.SyntheticFilm, monkeypatch: pytest.MonkeyPatch) -> None:
    film = short.frames(0, 160)

    def scores(**options: Any) -> NDArray[np.float32]:
        return spot(film, crop="full", size=128, fps=100, flow="tvl1", **options).scores

    want = scores(warm_start=8, threads=2)
    assert (scores(threads=2) != want).any()
    monkeypatch.setattr("mmme_fast.pipeline.CHUNK", 30)
    np.testing.assert_array_equal(scores(warm_start=8, threads=1), want)


def test_warm_start_is_for_tvl1(short: synth.SyntheticFilm) -> None:
    with pytest.raises(ValueError, match="flow, with warm_start, must be one of 'tvl1', got 'farneback'"):
        spot(short.frames(0, 9), crop="full", fps=100, warm_start=8)


def test_band_power_per_frame_and_interval(short_file: Path, tmp_path: Path) -> None:
    recording = synth.recording(12, channels=4, seed=1)
    path = recording.write(tmp_path / "eeg.npy")
    eeg = mmme_fast.open_recording(path, sfreq=1000)
    found = spot(short_file, crop="full", size=128, eeg=eeg, out=tmp_path / "out")
    power = found.band_power
    assert power is not None
    assert found.interval_power is not None
    assert power.shape == (1200, 4, 5)
    assert np.isnan(power[:49]).all()
    assert np.isfinite(power[50:1150]).all()
    # A window centred on the frame, as band_power gives it.
    data = recording.data(int(6.0 * 1000) - 500, int(6.0 * 1000) + 500)
    np.testing.assert_allclose(power[600], mmme_fast.band_power(data, 1000)[0], rtol=1e-5)
    one = found.intervals[1]
    np.testing.assert_allclose(found.interval_power[1], power[one.onset : one.offset + 1].mean(0), rtol=1e-5)
    with (tmp_path / "out" / "features.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.intervals)
    assert float(rows[1][f"{eeg.ch_names[2]} alpha"]) == pytest.approx(found.interval_power[1, 2, 2], rel=1e-5)
    strain = found.signals["strain"][one.onset : one.offset + 1]
    assert float(rows[1]["strain mean"]) == pytest.approx(strain.mean(), rel=1e-5)
    assert float(rows[1]["strain max"]) == pytest.approx(strain.max(), rel=1e-5)
    assert float(rows[1]["amplitude"]) == pytest.approx(one.amplitude, rel=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "band_power.npy"), power)


def test_band_power_on_the_clock_of_another_recording(short: synth.SyntheticFilm, tmp_path: Path) -> None:
    """A film from the middle of a session: alpha is on for 1 s in 2 of the recording, whose clock is early and fast."""
    made = synth.recording(16, channels=2, seed=1, alpha_switch=1.0)
    data = made.data().astype(np.float64)
    eeg = mmme_fast.open_recording(data, sfreq=1000)
    film = short.frames(0, 500)
    marks = [(0.5, "a"), (1.7, "b"), (2.0, "c"), (3.1, "a"), (4.4, "d")]
    aligned = mmme_fast.align(
        recording=replace(eeg, markers=tuple(mmme_fast.eeg.Marker(t + 6.25, 0, text) for t, text in marks[1:])),
        markers=marks[:-1],
    )
    assert aligned.offset == pytest.approx(6.25)
    skewed = Alignment(aligned.offset, 200.0)
    found = spot(film, crop="full", size=128, fps=100, eeg=eeg, align=skewed, baseline=0.5, out=tmp_path)
    power, alpha = found.band_power, list(found.meta["eeg"]["bands"]).index("alpha")
    assert power is not None
    assert found.interval_power is not None
    assert found.meta["eeg"]["frames_without"] == 0
    for frame in (0, 200, 499):
        first = round((6.25 + frame / 100 * 1.0002 - 0.5) * 1000)
        want = mmme_fast.band_power(data[:, first : first + 1000], 1000)[0]
        np.testing.assert_allclose(power[frame], want, rtol=1e-4, atol=1e-18)
    assert power[125, 0, alpha] < 0.3 * power[25, 0, alpha]  # 6.5 s, where alpha is on, and 7.5 s, where it is off
    assert len(found.intervals) >= 1
    for one, got in zip(found.intervals, found.interval_power, strict=True):
        want = power[one.onset : one.offset + 1].mean(0) - power[one.onset - 50 : one.onset].mean(0)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * power.max())
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert (meta["eeg"]["alignment"]["skew_ppm"], meta["eeg"]["baseline"]) == (200.0, 0.5)


def test_frames_named_after_markers_align_themselves(tmp_path: Path) -> None:
    """A folder as MMME has it: the clock and the markers of a session are in the names of its frames."""
    cv2 = pytest.importorskip("cv2")
    face = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    (tmp_path / "frames").mkdir()
    marks = [(0.0, "77"), (0.51, "101"), (1.53, "100"), (1.83, "102")]  # s of the film, at which they came
    for i in range(120):
        mark = [text for time, text in marks if time <= i / 50][-1]
        second, millisecond = divmod(20 * i + 700, 1000)
        name = f"2021-7-13-23-59-{50 + second}-{millisecond}-{i}-{mark}.png"
        assert cv2.imwrite(str(tmp_path / "frames" / name), face)
    made = synth.recording(12, 250, 2, seed=1).data()
    eeg = replace(
        mmme_fast.open_recording(made, sfreq=250),
        markers=tuple(mmme_fast.eeg.Marker(time + 5, 0, f"Stimulus/S{text}") for time, text in marks[1:]),
    )
    found = spot(tmp_path / "frames", crop="full", size=40, eeg=eeg, align="mmme", out=tmp_path / "out")
    aligned = found.meta["eeg"]["alignment"]
    assert [pair[0] for pair in aligned["pairs"]] == ["101", "100", "102"]
    assert aligned["offset"] == pytest.approx(5, abs=0.012)  # half a frame
    assert found.band_power is not None
    at = [aligned["offset"] + (1 + aligned["skew_ppm"] * 1e-6) * 60 / 50 - 0.5]
    np.testing.assert_allclose(found.band_power[60], mmme_fast.band_power(made, 250, at=at)[0], rtol=1e-4)
    assert (tmp_path / "out" / "features.csv").exists()


def test_frames_before_and_after_the_recording_have_no_band_power(short: synth.SyntheticFilm) -> None:
    eeg = mmme_fast.open_recording(synth.recording(3, channels=2, seed=1).data(), sfreq=1000)
    found = spot(short.frames(0, 500), crop="full", size=128, fps=100, eeg=eeg, align=-1.0)
    known = np.isfinite(found.band_power).all((1, 2))
    np.testing.assert_array_equal(np.flatnonzero(known), np.arange(150, 351))
    assert found.meta["eeg"]["frames_without"] == 500 - 201


def test_a_recording_that_does_not_fit_loses_nothing_of_the_film(short_file: Path, tmp_path: Path) -> None:
    eeg = mmme_fast.open_recording(np.zeros((2, 500)), sfreq=1000)
    with pytest.raises(ValueError, match=r"eeg must overlap the film in time, got 0\.5 s .*; what was done is in"):
        spot(short_file, crop="full", size=128, eeg=eeg, out=tmp_path)
    assert (tmp_path / "intervals.csv").read_text().count("\n") > 1
    assert (tmp_path / "meta.json").exists()


def test_a_film_cut_in_two_is_two_scenes() -> None:
    one = synth.film(5, 50, 128, seed=1, micro=0, macro=12, blinks=0, sway=1)
    rng = np.random.default_rng(0)
    other = np.repeat(rng.integers(0, 255, (1, 16, 16), np.uint8).repeat(8, 1).repeat(8, 2), 150, 0)
    film = np.concatenate([one.frames(), other])
    found = spot(film, crop="full", size=128, fps=50)
    assert score(found.intervals, expressions(one)) == (1, 0)
    assert not any(i.onset <= 250 <= i.offset for i in found.intervals)


def test_a_film_that_fails_midway_keeps_what_was_done(short: synth.SyntheticFilm, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    short.write(folder / "%06d.png")
    for late in sorted(folder.iterdir())[700:]:
        late.unlink()
    (folder / "000699.png").write_bytes((folder / "000699.png").read_bytes()[:200])
    out = tmp_path / "out"
    found = spot(folder, crop="full", size=128, fps=100, out=out)
    assert any("breaks off" in text for text in found.meta["warnings"])
    meta = json.loads((out / "meta.json").read_text())
    assert meta["complete"] is False
    assert meta["frames"] == 699
    with (out / "intervals.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len([e for e in expressions(short) if e.offset < 680])


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_keeps_what_was_done(tmp_path: Path) -> None:
    code = (
        "import sys, time, mmme_fast\n"
        "from mmme_fast import synth\n"
        "film = synth.film(30, 100, 128, seed=3).frames(0, 400)\n"
        "import numpy as np\n"
        "film = np.concatenate([film] * 30)\n"
        "def tell(done, of):\n"
        "    print(done, flush=True)\n"
        "    time.sleep(0.05)\n"
        f"mmme_fast.spot(film, crop='full', size=128, fps=100, out={str(tmp_path / 'out')!r}, progress=tell)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 1000:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "interrupted after" in errors
    assert str(tmp_path / "out") in errors
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["complete"] is False
    assert 1000 <= meta["frames"] < 12000
    assert f"interrupted after {meta['frames']} frames" in meta["warnings"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"preset": "fer"}, ValueError, "preset must be one of 'casme2', .* got 'fer'"),
        ({"method": "hog"}, ValueError, "method must be one of 'matched', 'roi', .* got 'hog'"),
        ({"flow": "sift"}, ValueError, "flow must be one of 'farneback', 'tvl1', 'dis', got 'sift'"),
        ({"size": 3}, ValueError, "size must be at least 32, got 3"),
        ({"size": 1.5}, TypeError, "size must be a whole number, got 1.5"),
        ({"threads": 0}, ValueError, "threads must be a whole number of at least 1, got 0"),
        ({"fps": None}, ValueError, "fps must be given: array has no times of its own"),
        ({"crop": (0, 0, 500, 20)}, ValueError, "crop"),
        ({"eeg": "missing.edf"}, FileNotFoundError, "missing.edf"),
        ({"align": 1.0}, ValueError, r"align must be None without eeg or peripherals, got 1\.0"),
        ({"baseline": 1.0}, ValueError, r"baseline must be None without eeg or peripherals, got 1\.0"),
        ({"eeg": EEG, "baseline": 0}, ValueError, "baseline must be above 0, got 0"),
        ({"eeg": EEG, "align": "auto"}, ValueError, "align must be one of 'mmme', got 'auto'"),
        ({"eeg": EEG, "align": "mmme"}, ValueError, "markers must be given where no file name states them"),
        ({"eeg": EEG, "align": []}, TypeError, r"align must be a number, got \[\]"),
    ],
)
def test_rules(options: dict[str, Any], error: type[Exception], text: str) -> None:
    film = np.zeros((10, 40, 40), np.uint8)
    with pytest.raises(error, match=text):
        spot(film, **{"crop": "full", "fps": 50, **options})


def test_an_output_folder_that_cannot_be_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="out must be a folder that can be written to"):
        spot(np.zeros((10, 40, 40), np.uint8), crop="full", fps=50, out=tmp_path / "file" / "out")


def test_a_film_of_two_frames_is_no_error() -> None:
    film = np.random.default_rng(0).integers(0, 255, (2, 40, 40), np.uint8)
    found = spot(film, crop="full", size=40, fps=50)
    assert found.intervals == []
    assert found.scores.shape == (2,)


def test_a_film_whose_last_frame_is_a_new_reference() -> None:
    """Nothing is left to be followed from it."""
    frame = np.random.default_rng(0).random((64, 64), np.float32)
    tracker = tracking._Tracker(frame, mmme_fast.farneback, 50.0, 1)
    first, done = tracker.follow([frame] * 10, last=True)
    signals, _ = tracker.follow([frame], last=True)
    assert (len(first.blocks), done) == (10, 9)
    assert [len(part) for part in (signals.blocks, signals.valid, signals.head, signals.strain)] == [0] * 4
    assert signals.motion.shape == (0,)


def test_a_blink_does_not_move_the_plain_backdrop() -> None:
    """It pulls the pose a little, which the flow of the face puts right; the backdrop has no flow, and stays."""
    film = synth.film(60, 50, seed=2206, micro=0, macro=0, blinks=12, sway=6, hold=0.4, noise=0.6, lighting_step=0.2)
    frames = np.stack([film.frame(i) for i in range(1650, 1725)])  # a blink from 1687 to 1705
    signals = list(tracking.face_signals(tracking.reduced([frames], 1), 50.0, mmme_fast.farneback))
    places = tracking.Lattice(128, 128).blocks
    moved = np.ptp(np.concatenate([part.blocks for part in signals]), axis=0).max(1)
    assert moved.max() > 1.5
    corners = (places[:, 1] > 110) & (np.abs(places[:, 0] - 64) > 45)
    assert corners.sum() == 2
    assert moved[corners].max() < 0.15  # px of 256; it was 0.76


def test_cells_that_see_copies_of_the_border_are_not_inside() -> None:
    lattice = tracking.Lattice(128, 128)
    inside = lattice.inside(np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 3.0]]])).reshape(32, 32)
    below = lattice.cells[:, 0, 1] > 127 - 6
    assert 0 < below.sum() < 4
    assert not inside[below].any()
    assert inside[~below].all()


@pytest.mark.parametrize("sizes", [[1000], [1, 2, 3, 994], [7] * 143])
def test_reduced_frames_do_not_depend_on_chunks(sizes: list[int]) -> None:
    film = np.random.default_rng(0).integers(0, 255, (1000, 16, 16), np.uint8)

    def chunks() -> Iterator[np.ndarray]:
        at = 0
        for n in sizes:
            yield film[at : at + n]
            at += n

    got = np.concatenate(list(tracking.reduced(chunks(), 3)))
    want = [film[i : i + 3].mean(0) / 255 for i in range(0, min(sum(sizes), 1000), 3)]
    np.testing.assert_allclose(got, want, atol=1e-6)


def real(shared: Path, name: str) -> Callable[..., Spotting]:
    def run(**options: Any) -> Spotting:
        return spot(shared / name, **{"crop": "full", "size": 128, **options})

    return run


def test_a_still_real_face_gives_no_interval(shared_data: Path) -> None:
    assert real(shared_data, "video/evm_face.mp4")().intervals == []


def test_a_real_smile_is_seen(shared_data: Path) -> None:
    found = real(shared_data, "video/pyfeat_single_face.mp4")()
    assert found.signals["motion"].max() > 1.5


def test_a_real_cut_is_no_expression(shared_data: Path) -> None:
    found = real(shared_data, "video/pyfeat_face_noface.mov")()
    assert not any(i.onset <= 72 <= i.offset for i in found.intervals)
    assert any("rate" in text for text in found.meta["warnings"])


def test_frames_can_be_given_open(short_file: Path) -> None:
    frames = open_frames(short_file, crop=(10, 10, 100, 100), size=64)
    found = spot(frames)
    assert found.meta["parameters"]["crop"] == [10, 10, 100, 100]
    assert found.meta["frames"] == 1200
