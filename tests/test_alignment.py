"""align(): offset and skew of a recording's clock against the film's, from markers, names or as given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmme_fast import align, open_frames, synth
from mmme_fast.alignment import Alignment
from mmme_fast.eeg import Marker, Recording

Marks = list[tuple[float, str]]


def recording(marks: Marks) -> Recording:
    """A recording of which only the markers matter."""
    markers = tuple(Marker(time, 0.0, text) for time, text in sorted(marks))
    return Recording("made", 1000.0, ("1",), 10**7, markers, lambda start, stop: np.zeros((1, stop - start)))


def session(offset: float, skew: float, clip: float = 60.0) -> tuple[Marks, Marks]:
    """The markers of a session of 48 clips on the film's clock, and on the recording's, to the sample."""
    made = synth.recording(
        48 * (clip + 5) + 200, 1000, 1, seed=3, clip=clip, offset=offset, skew_ppm=skew
    )  # its samples are never computed
    film = [(c.start_s, str(c.code)) for c in made.clips] + [(c.stop_s, "100") for c in made.clips]
    assert len(film) == 96
    return sorted(film), [(sample / 1000, f"Stimulus/S{code:3d}") for sample, code in made.markers]


def without(marks: Marks, share: float, rng: np.random.Generator) -> Marks:
    return [mark for mark in marks if rng.random() >= share]


@pytest.mark.parametrize(("offset", "skew"), [(0.0, 0.0), (12.345, 35.0), (-2.5, -120.0), (100.25, 200.0)])
@pytest.mark.parametrize("lost", [0.0, 0.25])
def test_offset_and_skew_from_jittered_markers_with_losses(offset: float, skew: float, lost: float) -> None:
    film, eeg = session(offset, skew)
    rng = np.random.default_rng([int(abs(skew)), int(100 * lost)])
    film = [(time + rng.uniform(-5e-4, 5e-4), code) for time, code in film]
    film, eeg = without(film, lost, rng), without(eeg, lost, rng)
    found = align(recording=recording(eeg), markers=film, preset="mmme")
    assert abs(found.skew - skew) < 0.5
    # Of the whole session, not only of its start.
    times = np.array([0.0, 1500.0, 3120.0])
    known = (times + offset) * (1 + skew * 1e-6)
    np.testing.assert_allclose(found.film_to_eeg(times), known, atol=4e-4)
    np.testing.assert_allclose(found.eeg_to_film(known), times, atol=4e-4)
    assert np.abs(found.residuals).max() < 1.5e-3
    # Exactly the markers that both kept are pairs.
    truth = {((time + offset) * (1 + skew * 1e-6), code) for time, code in film}
    kept = [(time, text[-3:]) for time, text in eeg if text[-3:] not in (" 77", " 88")]
    both = [(a, b) for a, code in truth for b, text in kept if code == text and abs(a - b) < 0.01]
    assert sorted(pair.eeg for pair in found.pairs) == sorted(b for _, b in both)
    assert len(found.lost_film) == len(film) - len(both)
    assert all(pair.text in ("100", *map(str, range(101, 149))) for pair in found.pairs)


def test_a_wrong_marker_is_left_out_not_fitted() -> None:
    film, eeg = session(5.0, 80.0)
    time, text = eeg[40]
    eeg[40] = (time + 0.5, text)
    found = align(recording=recording(eeg), markers=film, preset="mmme")
    assert len(found.pairs) == 95
    assert abs(found.skew - 80) < 0.5
    assert len(found.lost_film) == 1
    assert found.lost_eeg == ((time + 0.5, text[-3:]),)
    assert "95 pairs of markers within" in str(found)


def test_times_without_texts_match_by_order() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(20, 90, 30))
    eeg = [(1.0002 * t + 7, "flash") for t in np.delete(times, [3, 17])]
    found = align(recording=recording(eeg), markers=np.delete(times, [8, 9, 29]))
    assert found.skew == pytest.approx(200, abs=0.02)  # the prior's share
    assert found.offset == pytest.approx(7, abs=5e-5)
    assert len(found.pairs) == 25


def test_markers_at_equal_distances_that_fit_in_two_ways_are_refused() -> None:
    beats = 10.0 * np.arange(20)
    eeg = [(t + 3, "beat") for t in beats[1:]]
    with pytest.raises(ValueError, match="markers must match in one way, got 19 pairs both at an offset of"):
        align(recording=recording(eeg), markers=beats)


def test_few_markers_close_together_do_not_tell_the_skew() -> None:
    marks = [(1.0, "101"), (6.0, "102"), (11.0, "103")]
    eeg = [(t + 50 + late, text) for (t, text), late in zip(marks, (0.0, 0.003, 0.006), strict=True)]
    found = align(recording=recording(eeg), markers=marks)
    assert 0 < found.skew < 100  # 600 ppm by plain least squares
    assert found.film_to_eeg(6.0) == pytest.approx(56.003, abs=1e-9)


def test_one_clip_of_a_long_recording() -> None:
    film, eeg = session(4.0, 50.0)
    start = film[30][0]
    clip = [(time - start, text) for time, text in film[30:32]]
    found = align(recording=recording(eeg), markers=clip, preset="mmme")
    assert found.offset == pytest.approx((start + 4) * 1.00005, abs=2e-3)
    assert found.lost_eeg == ()


def stretched(marks: Marks, factor: float) -> Marks:
    return [(factor * time, text) for time, text in marks]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda eeg: stretched(eeg, 1.005), r"the clocks' skew must be within 1000 ppm, got 50\d\d ppm from 96 pairs"),
        (
            lambda eeg: [(time + 0.1 * np.sin(2.4 * i), text) for i, (time, text) in enumerate(eeg)],
            r"markers must match within tolerance=0\.02 s, got residuals of up to 0\.(09|1)\d* s in the 96 pairs",
        ),
        (
            lambda eeg: [(float(time), text) for time, (_, text) in zip(np.arange(98) ** 1.6, eeg, strict=True)],
            r"markers must match in at least 48 pairs, got \d of 96 markers of the film and 96 of the recording",
        ),
        (lambda eeg: [(time, "7") for time, _ in eeg], "recording must hold at least one marker of MMME, 100 to 148"),
    ],
)
def test_markers_that_do_not_match_are_refused(change: Callable[[Marks], Marks], text: str) -> None:
    film, eeg = session(1.0, 20.0)
    with pytest.raises(ValueError, match=text):
        align(recording=recording(change(eeg)), markers=film, preset="mmme")


def test_given_offset_and_skew() -> None:
    found = align(offset=2.0, skew=100.0)
    np.testing.assert_allclose(found.film_to_eeg([0.0, 1000.0]), [2.0, 1002.1])
    assert found.pairs == ()
    assert Alignment().film_to_eeg(3.0) == 3.0


def write_frames(folder: Path, times: list[float], marks: list[str]) -> datetime:
    """Images named as those of MMME; returns the clock at time 0."""
    import cv2

    zero = datetime(2021, 7, 13, 23, 59, 58)
    folder.mkdir()
    for i, (time, mark) in enumerate(zip(times, marks, strict=True)):
        at = zero + timedelta(milliseconds=round(1000 * time))
        name = at.strftime("%Y-%m-%d-%H-%M-%S-") + f"{at.microsecond // 1000}-{i}-{mark}.png"
        assert cv2.imwrite(str(folder / name), np.full((8, 8), i % 255, np.uint8))
    return zero


def test_file_names_of_frames(tmp_path: Path) -> None:
    times = [0.5 + i / 50 for i in range(300)]
    events = [(0.505, "0"), (1.613, "103"), (3.207, "100"), (4.002, "77"), (5.111, "118")]
    marks = [[text for at, text in events if at <= max(time, 0.505)][-1] for time in times]
    zero = write_frames(tmp_path / "film", times, marks)
    frames = open_frames(tmp_path / "film")
    eeg = [(at + 10 - 0.5, f"{text}.0") for at, text in events[1:]]
    found = align(frames, recording(eeg), preset="mmme")
    assert [pair.text for pair in found.pairs] == ["103", "100", "118"]
    assert found.offset == pytest.approx(10, abs=0.01)  # half a frame
    with pytest.raises(ValueError, match="got 1 of 3 markers of the film and 3 of the recording"):
        align(frames, recording([(9.0, "103"), (10.0, "100"), (20.0, "118")]), preset="mmme")

    clocked = align(frames, clock=(zero - timedelta(seconds=7)).isoformat(), skew=-30.0)
    assert (clocked.offset, clocked.skew) == (7.5, -30.0)
    with pytest.raises(ValueError, match=r"frames must be images named Year-.*opened without fps"):
        align(open_frames(tmp_path / "film", fps=50), clock=zero)


def test_a_film_named_after_its_marker(tmp_path: Path) -> None:
    np.save(tmp_path / "happy_2_117_s01_20210713.npy", np.zeros((4, 8, 8), np.uint8))
    frames = open_frames(tmp_path / "happy_2_117_s01_20210713.npy", fps=50)
    _, eeg = session(0.0, 0.0)
    found = align(frames, recording(eeg), preset="mmme")
    assert found.offset == next(time for time, text in eeg if text.endswith("117"))
    with pytest.raises(ValueError, match="markers must match in one way"):
        align(frames, recording([*eeg, (3900.0, "117")]), preset="mmme")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, ValueError, "markers must be given where no file name states them"),
        ({"preset": "yasa"}, ValueError, "preset must be one of 'mmme', got 'yasa'"),
        ({"offset": 1.0, "markers": [1.0]}, ValueError, "offset must be None where markers is given, got both"),
        ({"offset": float("nan")}, ValueError, "offset must be"),
        ({"offset": 1.0, "skew": 1001.0}, ValueError, "skew must be at least -1000 and at most 1000, got 1001"),
        ({"markers": [1.0], "skew": 5.0}, ValueError, "skew must be 0 without offset or clock"),
        ({"tolerance": 0}, ValueError, "tolerance must be above 0"),
        ({"min_pairs": 0}, ValueError, "min_pairs must be at least 1"),
        ({"markers": []}, ValueError, "markers must hold at least one marker, got none"),
        ({"markers": [1.0, np.inf]}, ValueError, "markers must be finite"),
        ({"markers": ["a"]}, TypeError, "markers must be times in seconds"),
        ({"markers": [(1.0, "a", 2)]}, ValueError, r"markers\[0\] must be \(time, text\)"),
        ({"markers": [1.0], "recording": None}, ValueError, "recording must be given"),
        ({"clock": "yesterday"}, ValueError, "frames must be images named"),
    ],
)
def test_rules(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        align(**{"recording": recording([(1.0, "a")]), **options})
