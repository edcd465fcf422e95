"""Where the face is: tables of landmarks, a crop that follows without trembling, and frames in which there is none."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmme_fast import _faces, synth
from mmme_fast.frames import open_frames
from mmme_fast.pipeline import spot

PICTURE = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def points_of(eyes: Any, count: int) -> np.ndarray:
    """(frame, point, 2) of which only the eyes are right."""
    points = np.full((len(eyes), count, 2), 3.0)
    for side, which in enumerate(_faces.EYE_POINTS[count]):
        points[:, list(which)] = eyes[:, None, side]
    return points


def test_tables_of_three_kinds_say_the_same(tmp_path: Path) -> None:
    eyes = np.array([[[30.0, 25], [45.5, 25]], [[31, 26], [46.5, 26]]])
    names = [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    rows = [[i + 1, 0, 0.1 * i, 0.98, 1, *p.T.ravel()] for i, p in enumerate(points_of(eyes, 68))]
    rows.append([3, 0, 0.2, 0.1, 0, *rows[0][5:]])  # not found there
    rows.insert(0, [1, 1, 0.0, 0.9, 1, *(0.1 * np.array(rows[0][5:]))])  # a smaller face
    openface = write(tmp_path / "o.csv", ["frame", " face_id", " timestamp", " confidence", " success", *names], rows)
    names = [f"{axis}_{i}" for i in range(478) for axis in "xyz"]
    mesh = np.concatenate([points_of(eyes, 478) / [80, 60], np.zeros((2, 478, 1))], axis=2)
    mediapipe = write(tmp_path / "m.csv", ["frame", *names], [[i, *p.ravel()] for i, p in enumerate(mesh)])
    side = 15.5 / _faces.EYES_APART
    boxes = [[i, e[:, 0].mean() - side / 2, e[0, 1] - 0.44 * side, side, side] for i, e in enumerate(eyes)]
    boxed = write(tmp_path / "b.csv", ["frame", "x", "y", "width", "height"], boxes)
    for source in (openface, mediapipe, boxed, points_of(eyes, 5), eyes):
        marks = _faces.Landmarks(source, PICTURE.shape)
        find = marks.finder(0, 0)
        assert [find(i, PICTURE) for i in range(3)] == [(13, 3, 50, 50), (14, 4, 50, 50), None]
        assert _faces.Landmarks(source, PICTURE.shape).finder(10, 2)(0, PICTURE[2:, 10:]) == (3, 1, 50, 50)
        if source is not boxed:
            np.testing.assert_allclose(marks.eyes_of(1), eyes[1], rtol=1e-6)
        assert np.isnan(marks.eyes_of(5)).all()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (np.zeros((2, 7, 2)), "landmarks must be of 68, 468, 478, 5, 2 points, got 7"),
        (np.zeros((2, 7)), r"landmarks must be \(frame, point, 2\), got shape \(2, 7\)"),
        (np.full((2, 2, 2), np.nan), "must hold a face in some frame, got none"),
        ("frame,left\n0,1\n", "must have the columns frame, and x_0, y_0, x_1, ..."),
        ("frame,x,y,width,height\n0,1,2,?,4\n", "must hold a number in every column in use, line 2 does not"),
        ("frame,x,y,width,height\n", "must hold a face in some frame, got none"),
    ],
)
def test_landmarks_rules(source: Any, text: str, tmp_path: Path) -> None:
    if isinstance(source, str):
        (tmp_path / "table.csv").write_text(source)
        source = tmp_path / "table.csv"
    with pytest.raises(ValueError, match=text):
        open_frames(np.stack([PICTURE] * 2), crop="auto", landmarks=source)


def followed(find: Callable[[int], Any], frames: int, pictures: Callable[[int], np.ndarray]) -> tuple[list, list]:
    follower = _faces.Follower(lambda i, _: find(i), (10, 10, 40, 40), 50, (5, 0), every=0.2)
    return [follower(i, pictures(i)) for i in range(frames)], follower.places


def test_crop_stays_moves_and_is_lost() -> None:
    trembling = np.random.default_rng(1).integers(-3, 4, (100, 2))

    def find(i: int) -> tuple[int, int, int, int] | None:
        if 60 <= i < 80 or i == 20:  # lost, and once overlooked
            return None
        x, y = trembling[i] + ((5, 10) if i < 40 else (18, 10))
        return int(x), int(y), 40 + i % 3, 40 + i % 3

    boxes, places = followed(find, 100, lambda i: PICTURE)
    assert boxes[:45] == [(5, 10, 40, 40)] * 45
    assert len(set(boxes[45:])) == 1
    assert abs(boxes[45][0] - 18) <= 5
    assert [(first, box is None) for first, box in places] == [(0, False), (45, False), (65, True), (80, False)]
    assert places[1][1][0] == boxes[45][0] + 5  # places are those in the film


def test_a_cut_is_looked_into_at_once() -> None:
    other = np.random.default_rng(9).integers(0, 255, (60, 80), np.uint8)

    def film(i: int) -> np.ndarray:
        return other if i >= 33 else PICTURE if i >= 20 else PICTURE // 2

    _, places = followed(lambda i: (5, 10, 40, 40) if i < 33 else None, 60, film)
    assert places == [(0, (10, 10, 40, 40)), (33, None)]


def test_landmarks_move_the_crop_and_name_the_blinks() -> None:
    film = synth.film(12, 50, 128, seed=3, micro=10, macro=0, blinks=10)
    pictures = film.frames()
    eyes = film.eyes + np.array([70, 10])
    wide = np.full((len(pictures), 150, 260), 100, np.uint8)
    for i, picture in enumerate(pictures):
        left = 70 if i < 300 else 100
        wide[i, 10:138, left : left + 128] = picture
    eyes[300:, :, 0] += 30
    eyes[500:] = np.nan
    frames = open_frames(wide, crop="auto", size=128, fps=50, landmarks=eyes)
    found = spot(frames)
    assert [first for first, _ in frames.faces] == [0, 300, 500]
    assert frames.faces[2][1] is None
    assert abs(frames.faces[1][1][0] - frames.faces[0][1][0] - 30) <= 4
    valid = found.signals["valid"]
    assert valid[:500].mean() > 0.98
    assert not valid[500:].any()
    assert all(one.offset < 500 for one in (*found.intervals, *found.blinks))
    assert any("no face in 100 frames, the first of them frame 500" in text for text in found.meta["warnings"])
    covered = found.signals["blink"]
    assert covered.sum() == sum(one.offset - one.onset + 1 for one in found.blinks)
    for blink in (e for e in film.truth if e.type == "blink" and (e.offset < 290 or e.onset > 310) and e.offset < 490):
        assert covered[blink.apex]


def test_no_interval_where_a_real_film_has_no_face(shared_data: Path) -> None:
    pytest.importorskip("skimage")
    frames = open_frames(shared_data / "video/pyfeat_face_noface.mov", crop="auto", size=256)
    found = spot(frames)
    assert [first for first, box in frames.faces if box is None] == [72]
    assert not found.signals["valid"][72:].any()
    assert all(one.offset < 72 for one in (*found.intervals, *found.blinks))
