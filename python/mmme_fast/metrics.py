"""Scores of spotted intervals against annotations, as the MEGC challenges count them, and readers of their tables.

docs/scoring.md says what is computed, by whose definition, and where the official count errs.
"""

from __future__ import annotations

import csv
import json
import math
import operator
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mmme_fast._arrays import number, one_of, whole

__all__ = [
    "Evaluation", "Hit", "Recognition", "Score", "Segment", "evaluate", "pool", "read_predictions", "read_truth",
    "sweep",
]  # fmt: skip

TYPES = ("micro", "macro")
BLINK = "blink"  # no expression: left out wherever it occurs
MATCHINGS = ("official", "one-to-one")
P = tuple(i / 20 for i in range(21))

MICRO_LONGEST = 0.5  # seconds; for tables that do not name the type
MMME_FPS = 150.0

MAX_FRAME = 1 << 40


@dataclass(frozen=True)
class Segment:
    """One expression in a video, predicted or annotated; its first and its last frame belong to it.

    Raises
    ------
    ValueError
        If `type` is neither "micro" nor "macro", `offset` lies before `onset`, or `score` is not finite.
    """

    video: str
    type: str
    onset: int
    offset: int
    apex: int | None = None
    score: float | None = None
    emotion: str | None = None

    def __post_init__(self) -> None:
        one_of(self.type, "type", TYPES)
        whole(self.offset, "offset", low=self.onset)
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"score must be finite, got {self.score!r}")


Segments: TypeAlias = Iterable[Segment] | Mapping[str, Iterable[Any]]
"""Segments, or for each video what has an onset, an offset and a type, such as the intervals of `spot`."""

Lengths: TypeAlias = int | Mapping[str, int] | None
Pair: TypeAlias = tuple[float, int, int]  # iou, prediction, truth


@dataclass(frozen=True)
class Recognition:
    """How well emotions were named on the hits; all means are over classes, which all weigh the same.

    `precision` and `recall` are means, `f1` is the harmonic mean of the two, which STRS takes; `uf1` is the mean of the
    classes' F1, `uar` the mean recall.
    """

    hits: int
    precision: float
    recall: float
    f1: float
    uf1: float

    @property
    def uar(self) -> float:
        return self.recall


@dataclass(frozen=True)
class Score:
    """Counts pooled over videos, and what follows from them; a ratio of nothing is 0.

    With official matching `fp` is what is left of the predictions when `tp`, the *truths* found, is taken away; it is
    too small, and may be negative, where one prediction finds several truths.
    """

    predictions: int
    truths: int
    tp: int
    recognition: Recognition | None = None

    @property
    def fp(self) -> int:
        return self.predictions - self.tp

    @property
    def fn(self) -> int:
        return self.truths - self.tp

    @property
    def precision(self) -> float:
        return _ratio(self.tp, self.predictions)

    @property
    def recall(self) -> float:
        return _ratio(self.tp, self.truths)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.tp, self.predictions + self.truths)

    @property
    def strs(self) -> float | None:
        """F1 of spotting times F1 of recognition on the hits; None without emotions."""
        return None if self.recognition is None else self.f1 * self.recognition.f1

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and ratios by name."""
        names = ["predictions", "truths", "tp", "fp", "fn", "precision", "recall", "f1"]
        table = {name: getattr(self, name) for name in names}
        if self.recognition is not None:
            parts = ("hits", "precision", "recall", "f1", "uf1", "uar")
            table["recognition"] = {name: getattr(self.recognition, name) for name in parts}
            table["strs"] = self.strs
        return table


@dataclass(frozen=True)
class Hit:
    """A truth that was found, the prediction that found it, and their intersection over union."""

    prediction: Segment
    truth: Segment
    iou: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` counted.

    Attributes
    ----------
    types : dict of str to Score
        Per type, pooled over the videos.
    overall : Score
        Pooled over types as well: a prediction never finds a truth of another type.
    videos : dict of str to dict of str to Score
        Per video and type.
    hits : list of Hit
        Every truth that was found.
    """

    types: dict[str, Score]
    overall: Score
    videos: dict[str, dict[str, Score]] = field(repr=False)
    hits: list[Hit] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores by name, for JSON."""
        return {
            "types": {name: score.to_dict() for name, score in self.types.items()},
            "overall": self.overall.to_dict(),
            "videos": {
                video: {name: score.to_dict() for name, score in types.items()} for video, types in self.videos.items()
            },
        }


def evaluate(
    predictions: Segments,
    truth: Segments,
    *,
    type: str | None = None,
    min_length: Lengths = None,
    max_length: Lengths = None,
    matching: str = "official",
    iou: float = 0.5,
) -> Evaluation:
    """Count hits and misses of predicted intervals, pooled over all videos.

    Parameters
    ----------
    predictions, truth : iterable of Segment, or mapping of video to intervals
        Intervals are what has `onset`, `offset` (frames, both inside) and `type`, such as the intervals of `spot`.
        Intervals of type "blink" are left out.
    type : {"micro", "macro"}, optional
        Count this type only; default: both.
    min_length, max_length : int, or mapping of type to int, optional
        Leave out predictions shorter or longer than that, in frames. Truths are never left out.
    matching : {"official", "one-to-one"}, default "official"
        "official" counts the truths for which there is a prediction, as the MEGC baselines do: one prediction may find
        several. "one-to-one" is the largest number of pairs in which each prediction and each truth occurs once.
    iou : float, default 0.5
        A prediction finds a truth of its video and type when they share at least this part, above 0 and at most 1, of
        the frames that either has.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If an argument breaks its rule, or predictions and truth have no video in common.

    References
    ----------
    Li et al., "MEGC2020 - The Third Facial Micro-Expression Grand Challenge", FG 2020. Liong, See, Chan, "Spot-then-
    recognize: A micro-expression analysis network for seamless evaluation of long videos", Signal Processing: Image
    Communication 110, 2023 (STRS).

    Examples
    --------
    >>> from mmme_fast.metrics import Segment, evaluate
    >>> truth = [Segment("a", "micro", 10, 19), Segment("a", "macro", 50, 99)]
    >>> found = [Segment("a", "micro", 12, 21), Segment("a", "macro", 200, 249)]
    >>> result = evaluate(found, truth)
    >>> result.overall.tp, result.overall.fp, result.overall.fn, result.overall.f1
    (1, 1, 1, 0.5)
    >>> result.types["micro"].f1
    1.0
    """
    one_of(matching, "matching", MATCHINGS)
    return _count(_groups(predictions, truth, type, min_length, max_length, iou), _types(type), matching)


def sweep(
    predictions: Segments | Callable[[float], Segments],
    truth: Segments,
    p: Iterable[float] = P,
    *,
    type: str | None = None,
    min_length: Lengths = None,
    max_length: Lengths = None,
    matching: str = "official",
    iou: float = 0.5,
) -> dict[float, Evaluation]:
    """Evaluate at every p of the threshold mean + p (max - mean).

    Parameters
    ----------
    predictions : callable of p, or as in `evaluate`
        A callable returns the predictions at p: this is how the literature sweeps, with a threshold on each frame's
        score. Otherwise the threshold is on the scores of the predictions: at p those of a video and type are kept
        that reach mean + p (max - mean) of its predictions' scores. Lengths are filtered after that.
    truth, type, min_length, max_length, matching, iou
        As in `evaluate`.
    p : iterable of float, default 0, 0.05, ... 1
        From 0 to 1.

    Returns
    -------
    dict of float to Evaluation

    References
    ----------
    Moilanen, Zhao, Pietikainen, "Spotting rapid facial movements from videos using appearance-based feature difference
    analysis", ICPR 2014 (the threshold).

    Examples
    --------
    >>> from mmme_fast.metrics import Segment, sweep
    >>> truth = [Segment("a", "micro", 10, 19)]
    >>> found = [Segment("a", "micro", 12, 21, score=3.0), Segment("a", "micro", 70, 79, score=1.0)]
    >>> {p: round(result.overall.f1, 2) for p, result in sweep(found, truth, p=[0, 0.5, 1]).items()}
    {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}
    """
    one_of(matching, "matching", MATCHINGS)
    values = [number(value, "p", low=0, high=1) for value in p]
    types, known, rules = _types(type), _segments(truth, "truth"), (type, min_length, max_length, iou)
    if callable(predictions):
        return {value: _count(_groups(predictions(value), known, *rules), types, matching) for value in values}
    given = _segments(predictions, "predictions")
    for one in given:
        if one.score is None:
            raise ValueError(f"predictions must all have a score for a sweep of p, got {one}")
    groups = _groups(given, known, *rules)
    return {value: _count([group.at(value) for group in groups], types, matching) for value in values}


@dataclass(frozen=True)
class _Group:
    """Predictions and truths of one video and type, and the pairs (iou, prediction, truth) that are close enough."""

    video: str
    type: str
    predictions: list[Segment]
    truths: list[Segment]
    pairs: list[Pair]  # closest first
    mean: float  # of the scores before lengths were filtered
    top: float

    def at(self, p: float) -> _Group:
        """What is left at p."""
        least = p * (self.top - self.mean)
        kept = [i for i, one in enumerate(self.predictions) if one.score is not None and one.score - self.mean >= least]
        new = {i: n for n, i in enumerate(kept)}
        pairs = [(iou, new[i], j) for iou, i, j in self.pairs if i in new]
        return replace(self, predictions=[self.predictions[i] for i in kept], pairs=pairs)


def _types(type: str | None) -> tuple[str, ...]:
    return TYPES if type is None else (one_of(type, "type", TYPES),)


def _limits(value: Lengths, name: str, types: tuple[str, ...]) -> dict[str, int]:
    if value is None:
        return {}
    limits = value if isinstance(value, Mapping) else dict.fromkeys(types, value)
    return {one_of(key, f"the types of {name}", TYPES): whole(limit, name, low=1) for key, limit in limits.items()}


def _segments(value: Segments, name: str) -> list[Segment]:
    if not isinstance(value, Mapping):
        segments = list(value)
        for one in segments:
            if not isinstance(one, Segment):
                raise TypeError(f"{name} must be Segments or a mapping of video to intervals, got {one!r}")
        return segments
    return [
        Segment(
            video, one.type, operator.index(one.onset), operator.index(one.offset),
            score=getattr(one, "score", None), emotion=getattr(one, "emotion", None),
        )
        for video, intervals in value.items() for one in intervals if one.type != BLINK
    ]  # fmt: skip


def _groups(
    predictions: Segments, truth: Segments, type: str | None, min_length: Lengths, max_length: Lengths, iou: float
) -> list[_Group]:
    number(iou, "iou", low=0, high=1, open_low=True)
    types = _types(type)
    shortest, longest = _limits(min_length, "min_length", types), _limits(max_length, "max_length", types)
    for name in shortest.keys() & longest.keys():
        whole(longest[name], "max_length", low=shortest[name])
    given, known = _segments(predictions, "predictions"), _segments(truth, "truth")
    videos, others = {one.video for one in given}, {one.video for one in known}
    if videos and others and not videos & others:
        raise ValueError(
            f"predictions and truth must have a video in common, got {_listed(videos)} and {_listed(others)}"
        )
    by_key: dict[tuple[str, str], tuple[list[Segment], list[Segment]]] = defaultdict(lambda: ([], []))
    for which, segments in enumerate((given, known)):
        for one in segments:
            if one.type in types:
                by_key[one.video, one.type][which].append(one)
    groups = []
    for (video, name), (found, truths) in sorted(by_key.items()):
        scores = np.array([one.score for one in found if one.score is not None])
        top = float(scores.max()) if len(scores) else 0.0
        mean = min(float(scores.mean()), top) if len(scores) else 0.0  # a mean of equal numbers may be rounded up
        low, high = shortest.get(name, 0), longest.get(name, np.inf)
        kept = [one for one in found if low <= one.offset - one.onset + 1 <= high]
        groups.append(_Group(video, name, kept, truths, _pairs(kept, truths, iou), mean, top))
    return groups


def _pairs(predictions: list[Segment], truths: list[Segment], least: float) -> list[Pair]:
    """Pairs (iou, prediction, truth) whose iou is at least `least`, closest first."""
    onset = np.array([one.onset for one in predictions], np.int64)
    offset = np.array([one.offset for one in predictions], np.int64)
    pairs = []
    for j, one in enumerate(truths):
        shared = np.maximum(np.minimum(offset, one.offset) - np.maximum(onset, one.onset) + 1, 0)
        either = (offset - onset + 1) + (one.offset - one.onset + 1) - shared
        ious = shared / either
        pairs += [(float(ious[i]), int(i), j) for i in np.flatnonzero(ious >= least)]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[2], pair[1]))


def _official(pairs: list[Pair]) -> list[Pair]:
    """The closest prediction of every truth that has one."""
    closest: dict[int, Pair] = {}
    for pair in pairs:
        closest.setdefault(pair[2], pair)
    return list(closest.values())


def _one_to_one(pairs: list[Pair]) -> list[Pair]:
    """A largest matching: the closest pairs first, then augmenting paths (Berge's theorem)."""
    near: dict[int, list[int]] = defaultdict(list)  # the predictions of each truth, closest first
    truth_of: dict[int, int] = {}
    prediction_of: dict[int, int] = {}
    for _, i, j in pairs:
        near[j].append(i)
        if i not in truth_of and j not in prediction_of:
            truth_of[i], prediction_of[j] = j, i

    def augment(start: int) -> None:
        """Find a path from a free truth to a free prediction, alternately outside and inside the matching; flip it."""
        reached: dict[int, int] = {}  # prediction: the truth before it on the way
        queue = [start]
        for truth in queue:
            for i in near[truth]:
                if i in reached:
                    continue
                reached[i] = truth
                if i in truth_of:
                    queue.append(truth_of[i])
                    continue
                free: int | None = i
                while free is not None:
                    j = reached[free]
                    truth_of[free] = j
                    before = prediction_of.get(j)
                    prediction_of[j], free = free, before
                return

    for j in list(near):
        if j not in prediction_of:
            augment(j)
    ious = {(i, j): iou for iou, i, j in pairs}
    return [(ious[i, j], i, j) for j, i in prediction_of.items()]


_MATCH: dict[str, Callable[[list[Pair]], list[Pair]]] = {
    "official": _official,
    "one-to-one": _one_to_one,
}


def _count(groups: list[_Group], types: tuple[str, ...], matching: str) -> Evaluation:
    videos: dict[str, dict[str, Score]] = defaultdict(dict)
    hits: dict[str, list[Hit]] = {name: [] for name in types}
    said: dict[str, set[str]] = {name: set() for name in types}
    known: dict[str, set[str]] = {name: set() for name in types}
    for group in groups:
        found = [Hit(group.predictions[i], group.truths[j], iou) for iou, i, j in _MATCH[matching](group.pairs)]
        found.sort(key=lambda hit: (hit.truth.onset, hit.truth.offset))
        videos[group.video][group.type] = Score(len(group.predictions), len(group.truths), len(found))
        hits[group.type] += found
        said[group.type].update(one.emotion for one in group.predictions if one.emotion is not None)
        known[group.type].update(one.emotion for one in group.truths if one.emotion is not None)

    def pooled(names: Sequence[str]) -> Score:
        parts = [scores[name] for scores in videos.values() for name in names if name in scores]
        emotions = [set().union(*(of[name] for name in names)) for of in (said, known)]
        recognition = _recognition([hit for name in names for hit in hits[name]], *emotions) if all(emotions) else None
        return replace(pool(parts), recognition=recognition)

    every = [hit for name in types for hit in hits[name]]
    return Evaluation({name: pooled([name]) for name in types}, pooled(types), dict(videos), every)


def pool(scores: Iterable[Score]) -> Score:
    """Add up counts; recognition, which does not add up, is left out.

    Parameters
    ----------
    scores : iterable of Score

    Returns
    -------
    Score

    Examples
    --------
    >>> from mmme_fast.metrics import Score, pool
    >>> pool([Score(10, 4, 3), Score(2, 6, 1)]).f1
    0.36363636363636365
    """
    every = list(scores)
    return Score(*(sum(getattr(one, name) for one in every) for name in ("predictions", "truths", "tp")))


def _recognition(hits: list[Hit], said: set[str], known: set[str]) -> Recognition:
    """Score the emotions of the hits whose truth has one.

    Every emotion of the predictions or truths is a class, in a hit or not, as in the code of STRS's authors.
    """
    named = [(hit.prediction.emotion, hit.truth.emotion) for hit in hits if hit.truth.emotion is not None]
    precision, recall, f1 = [], [], []
    for name in sorted(said | known):
        right = sum(prediction == truth == name for prediction, truth in named)
        n_said = sum(prediction == name for prediction, _ in named)
        n_known = sum(truth == name for _, truth in named)
        precision.append(_ratio(right, n_said))
        recall.append(_ratio(right, n_known))
        f1.append(_ratio(2 * right, n_said + n_known))
    p, r = float(np.mean(precision)), float(np.mean(recall))
    return Recognition(len(named), p, r, _ratio(2 * p * r, p + r), float(np.mean(f1)))


def _ratio(part: float, all: float) -> float:
    return part / all if all else 0.0


def _listed(names: Iterable[str]) -> str:
    every = sorted(names)
    return ", ".join(map(repr, every[:3])) + (f" and {len(every) - 3} more" if len(every) > 3 else "")


def read_predictions(path: str | os.PathLike[str]) -> tuple[list[Segment], list[str]]:
    """Read predicted intervals.

    Parameters
    ----------
    path : path-like
        A CSV or .xlsx table with the columns video, type, start (or onset) and end (or offset), and score and emotion
        where there are such; or the intervals.csv that `spot` writes; or a folder with results of `spot` in it. A table
        without the column video is of one video: that which the meta.json beside it names, else that of its own name.

    Returns
    -------
    segments : list of Segment
        Rows of type "blink" are left out.
    problems : list of str
        "row 7: offset must be ..." for each row that could not be read; row 1 is the table's first.

    Raises
    ------
    ValueError
        If no table, column or good row is there, or two results are of videos of one name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from mmme_fast.metrics import read_predictions
    >>> _ = Path("found.csv").write_text("video,type,start,end\\na,micro,10,19\\na,micro,30,20\\n")
    >>> segments, problems = read_predictions("found.csv")
    >>> len(segments), problems
    (1, ['row 3: offset must be at least 30, got 20'])
    """
    path = Path(path)
    if not path.is_dir():
        return _parse(path, _sheets(path, "predictions"), "predictions", MMME_FPS)
    files = sorted(path.rglob("intervals.csv"))
    if not files:
        raise ValueError(f"predictions must be a table, or a folder with an intervals.csv in it, got {path}")
    segments: list[Segment] = []
    problems: list[str] = []
    named: dict[str, Path] = {}
    for file in files:
        video = _video(file)
        if video in named:
            raise ValueError(
                f"predictions must be of videos of different names, got {video!r} in {named[video]} and {file}"
            )
        named[video] = file
        more, bad = read_predictions(file)
        segments += more
        problems += [f"{file.relative_to(path)}, {problem}" for problem in bad]
    return segments, problems


def read_truth(path: str | os.PathLike[str], *, fps: float = MMME_FPS) -> tuple[list[Segment], list[str]]:
    """Read annotated intervals.

    Parameters
    ----------
    path : path-like
        One of these, told apart by what is in it:

        - a CSV or .xlsx table with the columns video, type, onset (or start) and offset (or end), and apex and emotion
          where there are such. Frames are taken as they are. Without video: as in `read_predictions`;
        - CAS(ME)^2's "CAS(ME)^2code_final.xlsx", with its two sheets of naming rules. Videos are named "s15_0401";
        - SAMM Long Videos' "SAMM_LongVideos_V..._Release.xlsx", or a CSV of it. Videos are named "006_1";
        - MMME's annotations as CSV with the columns subject, marker, onset_s, apex_s, offset_s and emotion. Videos are
          named "s01_146", after subject and marker; expressions of at most half a second are micro.

        Frames of CAS(ME)^2 and SAMM-LV, which count from 1, become numbers from 0, as `spot` has them. Where no offset
        was annotated, CAS(ME)^2 has 0, and the apex takes its place, as in the MEGC baselines.
    fps : float, default 150
        Frames per second of MMME's films, whose annotations are in seconds.

    Returns
    -------
    segments : list of Segment
        Rows of type "blink" are left out.
    problems : list of str
        "row 7: offset must be ..." for each row that could not be read; row 1 is the table's first.

    Raises
    ------
    ImportError
        If an .xlsx file is to be read without openpyxl: ``pip install "mmme_fast[tables]"``.
    ValueError
        If no table, column or good row is there.

    Examples
    --------
    >>> from pathlib import Path
    >>> from mmme_fast.metrics import read_truth
    >>> _ = Path("truth.csv").write_text("video,type,onset,apex,offset\\na,micro,10,14,19\\n")
    >>> segments, problems = read_truth("truth.csv")
    >>> segments[0].onset, segments[0].apex, segments[0].offset, problems
    (10, 14, 19, [])
    """
    path = Path(path)
    return _parse(path, _sheets(path, "truth"), "truth", number(fps, "fps", low=0, high=1e6, open_low=True))


Row: TypeAlias = dict[str, str]


def _sheets(path: Path, name: str) -> dict[str, list[list[str]]]:
    """The rows of each sheet, as text; a CSV file is one sheet."""
    if path.suffix.lower() == ".csv":
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return {"": [[cell.strip() for cell in row] for row in csv.reader(file)]}
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{name} must be a CSV file in UTF-8, got {path}: {error}") from None
    if path.suffix.lower() != ".xlsx":
        raise ValueError(f"{name} must be a .csv or .xlsx file, got {path}")
    import zipfile

    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise ImportError(
            f'reading {path.name} needs openpyxl: pip install "mmme_fast[tables]"; or save it as CSV'
        ) from error
    try:
        book = load_workbook(path, data_only=True)
    except (zipfile.BadZipFile, KeyError, SyntaxError) as error:  # broken XML is a SyntaxError
        raise ValueError(f"{name} must be an .xlsx file that is whole, got {path}: {error}") from None
    return {sheet.title: [[_text(cell) for cell in row] for row in sheet.values] for sheet in book.worksheets}


def _text(cell: object) -> str:
    return (
        "" if cell is None else str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
    )


def _parse(path: Path, sheets: dict[str, list[list[str]]], name: str, fps: float) -> tuple[list[Segment], list[str]]:
    by_title = {title.lower().replace(" ", ""): rows for title, rows in sheets.items()}
    rules = [by_title.pop(title, []) for title in ("namingrule1", "namingrule2")]
    rows = next(iter(by_title.values()), [])
    start, header, make = 0, [str(i) for i in range(9)], None
    if all(rules):
        make = _casme2(*rules)
    else:
        for i, row in enumerate(rows, 1):
            header = [cell.lower() for cell in row]
            make = _maker(set(header), path, fps)
            if make:
                start = i
                break
    if make is None:
        found = ", ".join(filter(None, rows[0])) if rows else "an empty table"
        raise ValueError(f"{name} must have the columns video, type, onset and offset, got {found} in {path}")
    segments: list[Segment] = []
    problems: list[str] = []
    for i, row in enumerate(rows[start:], start + 1):
        if not any(row):
            continue
        cells = defaultdict(str, zip(header, row, strict=False))
        if cells["type"].lower() == BLINK:
            continue
        try:
            segments.append(make(cells))
        except ValueError as error:
            problems.append(f"row {i}: {error}")
    if problems and not segments:
        raise ValueError(f"{name} must have a good row, got none in {path}; {problems[0]}")
    return segments, problems


def _maker(header: set[str], path: Path, fps: float) -> Callable[[Row], Segment] | None:
    """What makes a Segment of a row below this header; None if it is not one."""
    if {"filename", "onset", "offset", "type"} <= header:
        return _samm
    if {"subject", "marker", "onset_s", "offset_s"} <= header:
        return lambda row: _mmme(row, fps)
    first = "start" if "start" in header else "onset"
    last = "end" if "end" in header else "offset"
    if not {"type", first, last} <= header:
        return None
    video = None if "video" in header else _video(path)

    def plain(row: Row) -> Segment:
        if video is None and not row["video"]:
            raise ValueError("video must be named, got ''")
        return Segment(
            row["video"] if video is None else video, _type(row["type"]), _frame(row, first), _frame(row, last),
            _frame(row, "apex") if row["apex"] else None, _real(row, "score") if row["score"] else None,
            row["emotion"].lower() or None,
        )  # fmt: skip

    return plain


def _samm(row: Row) -> Segment:
    parts = row["filename"].split("_")
    if len(parts) < 3:
        raise ValueError(f"Filename must be SUBJECT_VIDEO_NUMBER, got {row['filename']!r}")
    apex = _frame(row, "apex")  # -1: not annotated
    return Segment(
        f"{parts[0]}_{parts[1]}", _type(row["type"]), max(_frame(row, "onset") - 1, 0), _frame(row, "offset") - 1,
        apex - 1 if apex > 0 else None,
    )  # fmt: skip


def _mmme(row: Row, fps: float) -> Segment:
    onset, offset = _real(row, "onset_s"), _real(row, "offset_s")
    return Segment(
        f"{row['subject']}_{row['marker']}", "micro" if round(offset - onset, 6) <= MICRO_LONGEST else "macro",
        round(onset * fps), round(offset * fps), round(_real(row, "apex_s") * fps),
        emotion=row["emotion"].lower() or None,
    )  # fmt: skip


def _casme2(subjects: list[list[str]], videos: list[list[str]]) -> Callable[[Row], Segment]:
    """Columns by number: subject, NAME_NUMBER, onset, apex, offset, action units, emotion, type, self-report."""
    folder = {row[2]: row[1] for row in subjects if len(row) > 2}
    code = {row[1]: row[0].zfill(4) for row in videos if len(row) > 1}

    def make(row: Row) -> Segment:
        name = row["1"].rpartition("_")[0]
        for value, known in ((row["0"], folder), (name, code)):
            if value not in known:
                raise ValueError(f"subject and video must be in the sheets of naming rules, got {value!r}")
        named = {"onset": row["2"], "apex": row["3"], "offset": row["4"]}
        onset, apex, offset = (_frame(named, part) for part in named)
        return Segment(
            f"{folder[row['0']]}_{code[name]}", _type(row["7"]), onset - 1, (offset or apex) - 1,
            apex - 1 if apex else None, emotion=row["6"].lower() or None,
        )  # fmt: skip

    return make


def _video(path: Path) -> str:
    """The name of a table's only video."""
    meta = path.with_name("meta.json")
    if path.name == "intervals.csv" and meta.exists():
        try:
            source = json.loads(meta.read_text(encoding="utf-8"))["input"]
            film = Path(source["source"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{meta} must name the input of {path.name}, got {error!r}") from None
        return film.name if "files" in source else film.stem
    return path.stem


def _type(text: str) -> str:
    """ "Micro - 1/2" and "micro-expression" are micro."""
    return next((name for name in TYPES if text.lower().startswith(name)), text)


def _frame(row: Mapping[str, str], name: str) -> int:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not value.is_integer() or abs(value) > MAX_FRAME:
        raise ValueError(f"{name} must be the number of a frame, got {row[name]!r}")
    return int(value)


def _real(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {row[name]!r}")
    return value
