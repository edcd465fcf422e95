"""Where the face is: detected, or read from a table of landmarks; and a crop that follows it without trembling."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Box: TypeAlias = tuple[int, int, int, int]
Find: TypeAlias = "Callable[[int, NDArray[Any]], Box | None]"  # number and grey pixels of a frame -> square

# The drawn proportions that crops are framed by, in parts of the square's side: where the eyes are in it.
EYES_APART, EYES_DOWN = 0.31, 0.44
# Points that are the corners and lids of the two eyes, by how many points a face has: 68 (dlib, OpenFace), 468 and 478
# (MediaPipe), 5 (RetinaFace, YuNet), 2 (the eyes alone).
EYE_POINTS: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {
    68: (tuple(range(36, 42)), tuple(range(42, 48))),
    468: ((33, 133, 159, 145), (263, 362, 386, 374)),
    478: ((33, 133, 159, 145), (263, 362, 386, 374)),
    5: ((0,), (1,)),
    2: ((0,), (1,)),
}
DETECT_EVERY = 2.0  # s
LOOK_EVERY = 0.1  # s, where looking costs nothing, and again where the face was not found
MISSES = 3  # in sequence, before the face counts as lost: a detector overlooks some
MOVED, GREW = 0.12, 1.3  # the crop stays while the face keeps within this part of its side, and this factor of its size
CUT = 0.7  # two frames in sequence that correlate by less than this are two scenes
FADED = 0.1  # so are two of which one has less than this part of the other's power
THUMB = 16  # px, of the pictures that tell cuts


class Landmarks:
    """Per frame what a table says: the square around the face, and the middles of both eyes, in pixels of the film.

    Parameters
    ----------
    source : path or array_like
        See `open_frames`.
    shape : (int, int)
        (y, x) of the film's frames, for tables whose coordinates are parts of it.
    """

    def __init__(self, source: Any, shape: tuple[int, ...]) -> None:
        self.name = "landmarks"
        if isinstance(source, str | os.PathLike):
            self.name = str(source)
            points, boxes = _read(Path(source), shape)
        else:
            points, boxes = np.asarray(source, float), None
            if points.ndim != 3 or points.shape[2] != 2:
                raise ValueError(f"landmarks must be (frame, point, 2), got shape {points.shape}")
        self.eyes: NDArray[np.float64] | None = (
            None  # (frame, 2, 2): (x, y) of the one and the other, NaN where unknown
        )
        if points is not None:
            count = points.shape[1]
            if count not in EYE_POINTS:
                raise ValueError(f"landmarks must be of {', '.join(map(str, EYE_POINTS))} points, got {count}")
            self.eyes = np.stack([points[:, list(which)].mean(1) for which in EYE_POINTS[count]], axis=1)
        if boxes is None:
            assert self.eyes is not None
            side = np.hypot(*(self.eyes[:, 1] - self.eyes[:, 0]).T) / EYES_APART
            middle = self.eyes.mean(1) + np.stack([0 * side, (0.5 - EYES_DOWN) * side], axis=1)
            boxes = np.column_stack([middle, side])
        self.squares = boxes  # (frame, 3): middle and side
        if not np.isfinite(boxes).all(axis=1).any():
            raise ValueError(f"{self.name} must hold a face in some frame, got none")

    def finder(self, left: int, top: int) -> Find:
        """What looks up the square around the face in pictures that show the film from (left, top) on."""

        def find(number: int, picture: NDArray[Any]) -> Box | None:
            if number >= len(self.squares) or not np.isfinite(self.squares[number]).all():
                return None
            x, y, side = self.squares[number]
            return square(x - left, y - top, side, picture.shape)

        return find

    def eyes_of(self, number: int) -> NDArray[np.float64]:
        """(2, 2), NaN where they are not known."""
        if self.eyes is None or number >= len(self.eyes):
            return np.full((2, 2), np.nan)
        eyes: NDArray[np.float64] = self.eyes[number]
        return eyes


def around(box: Box, shape: tuple[int, ...]) -> Box:
    """The part of the frame in which a face is followed: half a side beyond its first place."""
    x, y, width, height = box
    left, top = max(x - width // 2, 0), max(y - height // 2, 0)
    return left, top, min(x + width + width // 2, shape[1]) - left, min(y + height + height // 2, shape[0]) - top


def square(x: float, y: float, side: float, shape: tuple[int, ...]) -> Box:
    """The square of whole pixels about (x, y) that lies in the frame."""
    height, width = shape[:2]
    size = min(max(round(side), 1), height, width)
    left, top = round(x - size / 2), round(y - size / 2)
    return min(max(left, 0), width - size), min(max(top, 0), height - size), size, size


def _read(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Points (frame, point, 2) and middles and sides of squares (frame, 3), as far as a table has them.

    Of several faces in one frame the largest counts. Frames count from 0, in OpenFace's tables, which are known by
    their column "success", from 1.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        column = {name: i for i, name in enumerate(header)}
        xs = [column[name] for name in _numbered(header, "x")]
        ys = [column[name] for name in _numbered(header, "y")]
        box = [column[name] for name in ("x", "y", "width", "height") if name in column]
        if "frame" not in column or len(xs) != len(ys) or (not xs and len(box) < 4):
            raise ValueError(
                f"{path} must have the columns frame, and x_0, y_0, x_1, ... (OpenFace, MediaPipe) or x, y, width, "
                f"height, got {', '.join(header[:8])} ..."
            )
        first = 1 if "success" in column else 0
        known: dict[int, list[float]] = {}
        extent: dict[int, float] = {}
        wanted = xs + ys if xs else box
        for line, cells in enumerate(reader, 2):
            if not cells:
                continue
            try:
                number = int(float(cells[column["frame"]])) - first
                if first and float(cells[column["success"]]) < 0.5:
                    continue
                row = [float(cells[i]) for i in wanted]
            except (ValueError, IndexError):
                raise ValueError(f"{path} must hold a number in every column in use, line {line} does not") from None
            if number < 0 or not np.isfinite(row).all():
                continue
            size = float(np.ptp(row[: len(xs)])) if xs else row[2]
            if size > extent.get(number, -1.0):
                known[number], extent[number] = row, size
    if not known:
        raise ValueError(f"{path} must hold a face in some frame, got none")
    table = np.full((max(known) + 1, len(wanted)), np.nan)
    table[list(known)] = list(known.values())
    if np.nanmax(np.abs(table)) <= 2:  # parts of the frame, as MediaPipe has them
        half = len(wanted) // 2
        table *= np.repeat(shape[::-1], half) if xs else np.tile(shape[::-1], 2)
    if xs:
        return np.stack([table[:, : len(xs)], table[:, len(xs) :]], axis=2), None
    x, y, width, height = table.T
    return None, np.column_stack([x + width / 2, y + height / 2, np.maximum(width, height)])


def _numbered(header: list[str], letter: str) -> list[str]:
    """Names such as x_0, x_1, ... or x0, x1, ... in the order of their numbers."""
    numbers = {name: name[1:].removeprefix("_") for name in header if name.startswith(letter)}
    return sorted((name for name, number in numbers.items() if number.isdigit()), key=lambda name: int(numbers[name]))


def detector(shrink: Callable[[NDArray[Any], tuple[int, int]], NDArray[Any]]) -> Find:
    """A function from a frame to the square around its largest face; `shrink` resizes a picture to (y, x)."""
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError as error:
        raise ImportError(
            'crop="auto" needs a face detector: pip install "mmme_fast[face]", '
            'or give crop="full", crop=(x, y, width, height) or landmarks'
        ) from error
    cascade = Cascade(lbp_frontal_face_cascade_filename())

    def detect(number: int, picture: NDArray[Any]) -> Box | None:
        height, width = picture.shape
        scale = max(1.0, min(height, width) / 240)
        small = shrink(picture, (round(height / scale), round(width / scale)))
        if small.dtype != np.uint8:
            low, high = float(small.min()), float(small.max())
            small = ((small - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
        limit = min(small.shape)
        faces = cascade.detect_multi_scale(
            np.ascontiguousarray(small),
            scale_factor=1.1,
            step_ratio=1,
            min_size=(limit // 5,) * 2,
            max_size=(limit,) * 2,
        )
        if not faces:
            return None
        face = max(faces, key=lambda found: (found["width"], -found["r"], -found["c"]))
        # The cascade's square cuts into chin and forehead.
        side = 1.1 * scale * face["width"]
        return square(
            scale * (face["c"] + face["width"] / 2), scale * (face["r"] + face["height"] / 2), side, picture.shape
        )

    return detect


def is_cut(before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """Whether two pictures in sequence, less their means, are of two scenes; other light on one scene is no cut."""
    power, other = float(np.vdot(now, now)), float(np.vdot(before, before))
    faded = min(power, other) < FADED * max(power, other)  # a face that gives way to nothing
    return faded or float(np.vdot(now, before)) < CUT * np.sqrt(power * other)


class Follower:
    """The crop of every frame in sequence: a square that stays where it is until the face has left its middle.

    Frames are seen from `origin` on. `places` says from which frame on the crop is where in the film, None where there
    is no face.
    """

    def __init__(self, find: Find, box: Box, fps: float | None, origin: tuple[int, int], every: float) -> None:
        rate = fps or 30.0
        self._find = find
        self._origin = origin
        self._retry = max(round(LOOK_EVERY * rate), 1)
        self._every = max(round(every * rate), 1)
        self._due = 0
        self._missed: list[int] = []
        self._before: NDArray[np.float32] | None = None
        self.places: list[tuple[int, Box | None]] = [(0, box)]
        self.box = box[0] - origin[0], box[1] - origin[1], *box[2:]

    def __call__(self, number: int, picture: NDArray[Any]) -> Box:
        """The crop of the next frame, in it."""
        x, y, width, height = self.box
        if self._is_cut(picture[y : y + height, x : x + width]):
            self._due = number
        if number >= self._due:
            self._look(number, picture)
        return self.box

    def _is_cut(self, crop: NDArray[Any]) -> bool:
        step = max(min(crop.shape) // (4 * THUMB), 1)
        small = crop[::step, ::step].astype(np.float32)
        rows, columns = (np.linspace(0, n, THUMB, endpoint=False).astype(int) for n in small.shape)
        small = np.add.reduceat(np.add.reduceat(small, rows, axis=0), columns, axis=1)
        small -= small.mean()
        before, self._before = self._before, small
        return before is not None and is_cut(before, small)

    def _look(self, number: int, picture: NDArray[Any]) -> None:
        found = self._find(number, picture)
        if found is None:
            self._missed.append(number)
            self._due = number + self._retry
            if len(self._missed) == MISSES:
                self.places.append((self._missed[0], None))
            return
        lost = len(self._missed) >= MISSES
        self._missed = []
        self._due = number + self._every
        side = self.box[2]
        now, then = (np.array([x + size / 2, y + size / 2]) for x, y, size, _ in (found, self.box))
        if max(found[2] / side, side / found[2]) > GREW:
            box = found
        elif np.abs(now - then).max() > MOVED * side:
            box = square(float(now[0]), float(now[1]), side, picture.shape)
        else:
            box = self.box
        if lost or box != self.box:
            self.places.append((number, (box[0] + self._origin[0], box[1] + self._origin[1], *box[2:])))
        if box != self.box:
            self.box, self._before = box, None  # what has moved is the crop
