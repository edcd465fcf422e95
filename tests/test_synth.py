"""The synthetic films and recordings must be what they say they are, measured from outside."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import synth

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def minute() -> synth.SyntheticFilm:
    return synth.film()


@pytest.fixture(scope="module")
def clean() -> synth.SyntheticFilm:
    """A minute without noise, sway and changes of light."""
    return synth.film(sway=0, noise=0, lighting=0, seed=3)


def undo(curr: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frame prev as the flow from prev to curr predicts it from curr."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return cv2.remap(curr.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LANCZOS4)


def remaining_shift(a: NDArray[np.float32], b: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Least-squares translation (dx, dy) of image b against a (Lucas-Kanade)."""
    gy, gx = np.gradient((a.astype(np.float64) + b) / 2)
    system = np.stack([gx[where], gy[where]], axis=1)
    return np.linalg.lstsq(system, (a.astype(np.float64) - b)[where], rcond=None)[0]


def magnitude(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.hypot(flow[..., 0], flow[..., 1])


def test_the_same_seed_gives_the_same_film_and_another_seed_another() -> None:
    one, same, other = (synth.film(4, 60, 96, seed=seed, blinks=30, micro=15) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.frames(), same.frames())
    assert one.truth == same.truth
    assert (one.frame(7) != other.frame(7)).mean() > 0.5
    assert one.truth != other.truth


@pytest.mark.parametrize("n", [1, 7, 64, 1000])
def test_a_film_does_not_depend_on_how_it_is_read(n: int) -> None:
    film = synth.film(2, 50, 64, micro=30, blinks=30)
    whole = film.frames()
    assert whole.shape == film.shape == (100, 64, 64)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(np.concatenate(list(film.chunks(n))), whole)
    np.testing.assert_array_equal(film.frame(63), whole[63])
    assert film.frames(90, 20).shape == (0, 64, 64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("duration", "fps"), [(60, 150), (37, 29.97), (12, 200)])
def test_events_keep_their_bounds(seed: int, duration: float, fps: float) -> None:
    film = synth.film(duration, fps, 32, seed=seed)
    expressions = [e for e in film.truth if e.type != "blink"]
    blinks = [e for e in film.truth if e.type == "blink"]
    for kind, rate in (("micro", 6), ("macro", 4), ("blink", 12)):
        assert sum(e.type == kind for e in film.truth) == round(rate * duration / 60)
    half = 0.5 / fps
    limits = {"micro": (0.2, 0.5), "macro": (0.6, 1.8), "blink": (0.15, 0.4)}
    pixels = {"micro": (0.7, 1.8), "macro": (2.0, 4.0), "blink": (8.0, 10.0)}
    for e in film.truth:
        low, high = limits[e.type]
        assert low - half <= e.offset_s - e.onset_s <= high + half
        low, high = pixels[e.type]
        assert low <= e.amplitude * 256 / 32 <= high
        assert 0 < e.onset < e.apex < e.offset < len(film) - 1
        assert (e.onset_s, e.apex_s, e.offset_s) == (e.onset / fps, e.apex / fps, e.offset / fps)
    for group in (expressions, blinks):
        for before, after in itertools.pairwise(group):
            assert before.offset < after.onset
    assert [e.onset for e in film.truth] == sorted(e.onset for e in film.truth)


def test_events_spread_over_films_regions_and_sides() -> None:
    events = [e for seed in range(12) for e in synth.film(fps=30, size=32, seed=seed).truth if e.type != "blink"]
    quarters = np.histogram([e.onset_s for e in events], 4, (0, 60))[0]
    assert quarters.min() > 0.5 * len(events) / 4
    regions = {e.region for e in events}
    assert any(r.endswith("_left") for r in regions)
    assert any(r.endswith("_right") for r in regions)
    assert {r.removesuffix("_left").removesuffix("_right") for r in regions} >= {
        "brow_raise",
        "lip_corner_pull",
        "chin_raise",
    }


@pytest.mark.parametrize("kind", ["micro", "macro"])
def test_the_flow_is_what_moves_the_picture(clean: synth.SyntheticFilm, kind: str) -> None:
    for event in [e for e in clean.truth if e.type == kind][:3]:
        flow = clean.flow(event.onset, event.apex)
        size = magnitude(flow)
        assert size.max() == pytest.approx(event.amplitude, rel=0.02)
        a, b = clean.frame(event.onset), clean.frame(event.apex)
        moved = undo(b, flow)
        inside = (size > 0.5 * event.amplitude) & (np.abs(np.mgrid[:256, :256] - 127.5).max(axis=0) < 120)
        assert inside.sum() > 300
        # What is left is the picture's rounding to whole grey levels and Lanczos, not motion.
        assert np.abs(moved - a)[inside].mean() < 0.5
        np.testing.assert_allclose(remaining_shift(a, moved, inside), 0, atol=0.02)
        assert np.abs(remaining_shift(a, b, inside)).max() > 0.3


def test_an_optical_flow_measures_the_truth_under_sway_and_noise(minute: synth.SyntheticFilm) -> None:
    measure = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    errors = []
    for event in minute.truth:
        if event.type == "blink" or any(
            b.type == "blink" and b.onset < event.apex and b.offset > event.onset for b in minute.truth
        ):
            continue
        truth = minute.flow(event.onset, event.apex)
        still = magnitude(truth - pose_flow(minute, event.onset, event.apex))
        core = still > 0.7 * event.amplitude
        found = measure.calc(minute.frame(event.onset), minute.frame(event.apex), None)
        errors.append(np.hypot(*(found - truth)[core].mean(axis=0)))
    assert len(errors) >= 6
    assert np.median(errors) < 0.15, errors


def pose_flow(film: synth.SyntheticFilm, i: int, j: int) -> NDArray[np.float32]:
    """The head's part of the flow, from the definition of `pose`."""
    size = film.shape[1]
    centre = (size - 1) / 2
    y, x = np.mgrid[:size, :size] - centre
    z = x + 1j * y
    (dx, dy, angle, scale), (dx2, dy2, angle2, scale2) = film.pose(i), film.pose(j)
    face = (z - (dx + 1j * dy)) / (scale * np.exp(1j * angle))
    there = scale2 * np.exp(1j * angle2) * face + dx2 + 1j * dy2 - z
    return np.stack([there.real, there.imag], axis=-1).astype(np.float32)


def test_the_head_moves_as_its_pose_says() -> None:
    film = synth.film(20, 30, 192, micro=0, macro=0, blinks=0, noise=0, lighting=0, sway=4, seed=2)
    poses = np.array([film.pose(i) for i in range(len(film))])
    assert 1.5 < np.abs(poses[:, :2]).max() <= 4
    assert 0.2 < np.abs(np.rad2deg(poses[:, 2])).max() <= 1.2
    assert np.abs(np.diff(poses[:, :2], axis=0)).max() < 4 * 4 * 2 * np.pi * 0.6 / 30
    i, j = np.argmin(poses[:, 0]), np.argmax(poses[:, 0])
    flow = film.flow(i, j)
    np.testing.assert_allclose(flow, pose_flow(film, i, j), atol=1e-4)
    inner = np.zeros((192, 192), bool)
    inner[12:-12, 12:-12] = True
    moved = undo(film.frame(j), flow)
    assert np.abs(moved - film.frame(i))[inner].mean() < 0.5
    np.testing.assert_allclose(remaining_shift(film.frame(i), moved, inner), 0, atol=0.01)


def test_moving_by_parts_of_a_pixel_does_not_blur() -> None:
    film = synth.film(20, 20, 128, micro=0, macro=0, blinks=0, noise=0, lighting=0, sway=3)
    fine = [cv2.Laplacian(film.frame(i), cv2.CV_32F)[12:-12, 12:-12].std() for i in range(0, 400, 10)]
    assert np.ptp(fine) < 0.05 * np.mean(fine)


def test_a_blink_moves_both_lids_over_both_eyes(clean: synth.SyntheticFilm) -> None:
    blink = next(
        b
        for b in clean.truth
        if b.type == "blink"
        and not any(e.type != "blink" and e.onset < b.offset and e.offset > b.onset for e in clean.truth)
    )
    opened, half, closed = (
        clean.frame(i).astype(int) for i in (blink.onset, (blink.onset + blink.apex) // 2, blink.apex)
    )
    for x in (87, 167):  # the middle of each eye
        iris = np.s_[108:116, x - 3 : x + 4]
        lash = [int(np.argmin(picture[98:124, x + 5 : x + 9].mean(axis=1))) + 98 for picture in (opened, closed)]
        assert opened[iris].min() < 60
        assert closed[iris].mean() > opened[iris].mean() + 30
        assert np.abs(half[iris] - opened[iris]).mean() > 3
        assert lash[1] - lash[0] >= 5
        # The lower lid has risen too: its skin is where its rim was.
        assert (closed - opened)[116, x - 3 : x + 4].mean() > 30
    far = np.ones((256, 256), bool)
    far[70:155, 40:215] = False
    np.testing.assert_array_equal(opened[far], closed[far])
    np.testing.assert_array_equal(clean.frame(blink.offset), opened)
    # Around the eyes the flow of the skin is exact too.
    flow = clean.flow(blink.onset, blink.apex)
    brow = np.s_[84:100, 60:115]
    moved = undo(clean.frame(blink.apex), flow)
    assert magnitude(flow)[brow].max() > 0.5
    assert np.abs(moved - opened)[84:97, 60:115].mean() < 0.5


def test_the_hold_keeps_the_apex() -> None:
    film = synth.film(10, 100, 64, micro=6, macro=0, blinks=0, sway=0, noise=0, lighting=0, hold=0.5)
    (event,) = film.truth
    pictures = film.frames(event.onset, event.offset + 1)
    still = [
        i
        for i in range(event.onset, event.offset + 1)
        if np.array_equal(pictures[i - event.onset], film.frame(event.apex))
    ]
    assert len(still) / (event.offset - event.onset) == pytest.approx(0.5, abs=0.15)
    assert event.apex in still


def test_noise_and_light_are_as_asked() -> None:
    calm = {"micro": 0, "macro": 0, "blinks": 0, "sway": 0}
    pictures = synth.film(2, 50, 128, noise=2, lighting=0, **calm).frames().astype(float)
    assert pictures.std(axis=0).mean() == pytest.approx(np.hypot(2, 12**-0.5), rel=0.02)
    np.testing.assert_allclose(np.corrcoef(pictures[0] - pictures[2], pictures[1] - pictures[3])[0, 1:], 0, atol=0.4)
    drifting = synth.film(60, 20, 64, noise=0, lighting=0.05, **calm)
    level = np.array([drifting.frame(i).mean() for i in range(0, 1200, 20)]) / drifting.frame(0).mean()
    assert 0.01 < np.ptp(level) < 0.11
    assert np.abs(np.diff(level)).max() < 0.02
    step = synth.film(60, 20, 64, noise=0, lighting=0, lighting_step=0.1, **calm)
    level = np.array([step.frame(i).mean() for i in range(0, 1200, 20)]) / step.frame(0).mean()
    np.testing.assert_allclose(np.sort(np.diff(level))[-2:], [0, 0.1], atol=0.005)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_written_film_reads_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    av = pytest.importorskip("av")
    film = synth.film(2, 150, 96, micro=30, macro=0, blinks=30)
    path = film.write(tmp_path / f"film{suffix}")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "ffv1"
        assert stream.average_rate == Fraction(150)
        decoded = list(container.decode(stream))
        times = np.array([float(frame.pts * frame.time_base) for frame in decoded])
        np.testing.assert_array_equal([frame.to_ndarray() for frame in decoded], film.frames())
    np.testing.assert_allclose(times, film.timestamps, atol=1e-9 if suffix == ".avi" else 6e-4)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_written_images_read_back(tmp_path: Path, suffix: str) -> None:
    film = synth.film(0.1, 150, 64, micro=0, macro=0, blinks=0)
    film.write(tmp_path / "new" / f"img_%04d{suffix}")
    files = sorted((tmp_path / "new").iterdir())
    assert [f.name for f in files] == [f"img_{i:04d}{suffix}" for i in range(15)]
    np.testing.assert_array_equal([cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in files], film.frames())


def test_a_written_array_and_truth_read_back(tmp_path: Path) -> None:
    film = synth.film(10, 30, 48)
    np.testing.assert_array_equal(np.load(film.write(tmp_path / "film.npy")), film.frames())
    with film.write_truth(tmp_path / "truth.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in dataclasses.fields(synth.Event)]
    assert ",".join(rows[0]) == "type,onset,apex,offset,onset_s,apex_s,offset_s,amplitude,region"
    assert [(r["type"], int(r["apex"]), float(r["apex_s"]), r["region"]) for r in rows] == [
        (e.type, e.apex, e.apex_s, e.region) for e in film.truth
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 20}, "size must be at least 32, got 20"),
        ({"fps": 5}, "fps must be at least 20, got 5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"noise": -1}, "noise must be at least 0, got -1"),
        ({"hold": 1}, r"hold must be in 0\.\.0\.9, got 1"),
        ({"duration": 0}, "duration must hold at least one frame, got 0 s at 150 fps"),
        ({"duration": 3, "macro": 200}, "micro and macro must fit in the film"),
        ({"sway": float("nan")}, "sway must be at least 0, got nan"),
    ],
)
def test_a_bad_film_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synth.film(**{"size": 32, **arguments})


def test_a_bad_frame_or_path_is_refused(tmp_path: Path) -> None:
    film = synth.film(1, 30, 32, micro=0, macro=0, blinks=0)
    with pytest.raises(IndexError, match=r"frame must be in 0\.\.29, got 30"):
        film.frame(30)
    with pytest.raises(ValueError, match=r"path must end in .*film\.mp4"):
        film.write(tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"path must end in .*eeg\.edf"):
        synth.recording(1).write(tmp_path / "eeg.edf")


@pytest.mark.parametrize("size", [128, (200, 256)])
def test_a_pair_has_the_flow_it_says(size: int | tuple[int, int]) -> None:
    prev, curr, flow = synth.flow_pair(size, displacement=2, noise=0, seed=1)
    shape = (size, size) if isinstance(size, int) else size
    assert prev.shape == curr.shape == shape
    assert flow.shape == (*shape, 2)
    assert flow.dtype == np.float32
    assert 1.5 < magnitude(flow).max() < 8
    inner = np.zeros(shape, bool)
    inner[10:-10, 10:-10] = True
    moved = undo(curr, flow)
    assert np.abs(moved - prev)[inner].mean() < 0.6
    np.testing.assert_allclose(remaining_shift(prev, moved, inner), 0, atol=0.02)
    noisy = synth.flow_pair(size, displacement=2, noise=1, seed=1)
    np.testing.assert_array_equal(noisy[2], flow)
    assert (noisy[0].astype(float) - prev).std() == pytest.approx(1, rel=0.1)
    for array in (prev, curr, flow):
        assert array.flags.c_contiguous


@pytest.mark.parametrize("seed", range(6))
def test_the_flow_of_the_largest_pair_is_smooth_and_true(seed: int) -> None:
    prev, curr, flow = synth.flow_pair(96, displacement=4, noise=0, seed=seed)
    (uy, ux), (vy, vx) = np.gradient(flow[..., 0]), np.gradient(flow[..., 1])
    assert ((1 + ux) * (1 + vy) - uy * vx).min() > 0.1  # nothing folds over
    inner = np.s_[10:-10, 10:-10]
    assert np.abs(undo(curr, flow) - prev)[inner].mean() < 1


@pytest.mark.parametrize("arguments", [{"displacement": 6.0}, {"size": (20, 96)}, {"noise": -1.0}])
def test_a_bad_pair_is_refused(arguments: dict[str, Any]) -> None:
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f"{name} must be at "):
        synth.flow_pair(**{"size": 96, **arguments})


@pytest.mark.parametrize("pink", [0.0, 2e-6])
def test_a_recording_does_not_depend_on_how_it_is_read(pink: float) -> None:
    made = synth.recording(40, 1000, 8, pink=pink, alpha_switch=3)
    whole = made.data()
    assert whole.shape == made.shape == (8, 40000)
    assert whole.dtype == np.float32
    for n in (999, 8192, 30000):
        np.testing.assert_array_equal(np.concatenate(list(made.chunks(n)), axis=1), whole)
    np.testing.assert_array_equal(made.data(8191, 8193), whole[:, 8191:8193])
    np.testing.assert_array_equal(synth.recording(40, 1000, 8, pink=pink, alpha_switch=3).data(), whole)
    assert not np.array_equal(synth.recording(40, 1000, 8, seed=1, pink=pink, alpha_switch=3).data(), whole)


@pytest.mark.parametrize("sfreq", [1000, 250, 500.5])
@pytest.mark.parametrize("taper", ["boxcar", "hann"])
def test_the_power_of_each_band_is_known(sfreq: float, taper: str) -> None:
    signal = pytest.importorskip("scipy.signal")
    made = synth.recording(30, sfreq, 5, seed=4)
    assert list(made.bands) == list(made.truth) == ["delta", "theta", "alpha", "beta", "gamma"]
    for start in (0, 3.3):
        first = round(start * sfreq)
        window = made.data(first, first + round(4 * sfreq)).astype(np.float64)
        f, density = signal.periodogram(window, sfreq, taper, detrend=False)
        for name, (low, high) in made.bands.items():
            power = density[:, (f >= low) & (f < high)].sum(axis=1) * f[1]
            # A Hann window lets neighbouring hertz interfere less than one part in a thousand over 4 s.
            np.testing.assert_allclose(power, made.truth[name], rtol=2e-3)


def test_alpha_switches_at_known_times() -> None:
    made = synth.recording(20, 500, 3, alpha_switch=4)
    assert made.alpha == [(0, 2000), (4000, 6000), (8000, 10000)]
    always = synth.recording(20, 500, 3)
    assert always.alpha == [(0, 10000)]
    missing = (always.data() - made.data()).astype(np.float64)
    on = np.zeros(10000, bool)
    for first, last in made.alpha:
        on[first:last] = True
    np.testing.assert_allclose(missing[:, on], 0, atol=1e-11)
    np.testing.assert_allclose((missing[:, ~on] ** 2).mean(axis=1), made.truth["alpha"], rtol=1e-4)


def test_the_background_is_pink_and_as_strong_as_asked() -> None:
    signal = pytest.importorskip("scipy.signal")
    added = synth.recording(120, 500, 2, pink=3e-6).data() - synth.recording(120, 500, 2).data()
    np.testing.assert_allclose(added.std(axis=1), 3e-6, rtol=0.1)
    f, density = signal.welch(added.astype(np.float64), 500, nperseg=4000)
    used = (f > 1) & (f < 200)
    slope = np.polyfit(np.log(f[used]), np.log(density[:, used].mean(axis=0)), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)
    assert abs(np.corrcoef(added)[0, 1]) < 0.2


def test_markers_and_clocks() -> None:
    made = synth.recording(200, 1000, 2, clip=20, gap=5, seed=3)
    assert len(made.clips) == 7
    codes = [clip.code for clip in made.clips]
    assert len(set(codes)) == 7
    assert set(codes) <= set(range(101, 149))
    wanted = [mark for c in made.clips for mark in ((round(1000 * c.start_s), c.code), (round(1000 * c.stop_s), 100))]
    assert [m for m in made.markers if m[1] not in (77, 88)] == wanted
    assert [code for _, code in made.markers].count(88) == [code for _, code in made.markers].count(77) == 1
    skewed = synth.recording(200, 1000, 2, clip=20, gap=5, seed=3, offset=1.5, skew_ppm=200)
    assert skewed.clips == made.clips
    for (sample, code), (moved, same) in zip(made.markers, skewed.markers, strict=True):
        assert code == same
        assert moved == round((sample + 1500) * (1 + 200e-6))
    assert len(synth.recording(4000, 100, 1).clips) == 48
    assert synth.recording(10).markers == []


@pytest.mark.parametrize("name", ["a.set", "b.vhdr"])
def test_mne_reads_a_written_recording(tmp_path: Path, name: str) -> None:
    mne = pytest.importorskip("mne")
    made = synth.recording(90, 500, 64, clip=20, others=True)
    path = made.write(tmp_path / name)
    read = {".set": mne.io.read_raw_eeglab, ".vhdr": mne.io.read_raw_brainvision}[path.suffix]
    raw = read(path, verbose="error")
    assert raw.info["sfreq"] == 500
    assert raw.ch_names == made.ch_names
    assert raw.ch_names[-5:] == ["HEO", "VEO", "EKG", "EMG", "TRIGGER"]
    np.testing.assert_allclose(raw.get_data(), made.data(), rtol=0, atol=1e-11)
    notes = [(round(a["onset"] * 500), a["description"]) for a in raw.annotations]
    if path.suffix == ".vhdr":
        notes = [(sample, text.removeprefix("Stimulus/S")) for sample, text in notes if text.startswith("Stimulus")]
    assert [(sample, int(text)) for sample, text in notes] == made.markers


def test_a_written_array_of_samples_reads_back(tmp_path: Path) -> None:
    made = synth.recording(150, 1000, 3)
    data = np.load(made.write(tmp_path / "eeg.npy"), mmap_mode="r")
    np.testing.assert_array_equal(data, made.data())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sfreq": 50}, "sfreq must be at least 100, got 50"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"duration": 0}, "duration must hold at least one sample, got 0 s at 1000 Hz"),
        ({"clip": 0}, "clip must be above 0 s, got 0"),
        ({"pink": -1.0}, "pink must be at least 0, got -1"),
    ],
)
def test_a_bad_recording_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synth.recording(**arguments)
