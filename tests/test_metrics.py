"""Scores against published numbers, hand-worked cases and brute force; tables with good and bad rows; the command."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmme_fast.cli import main
from mmme_fast.metrics import Recognition, Score, Segment, evaluate, read_predictions, read_truth, sweep

LENGTHS = {"min_length": {"micro": 7, "macro": 17}, "max_length": {"micro": 16}}
CODE_FINAL = [
    [1, "anger1_1", 557, 572, 608, "4+10", "negative", "macro-expression", "anger"],
    [1, "anger1_2", 2854.0, 2862, 0, 38, "others", "micro-expression", "sadness"],
    [2, "happy12_10", 1763, 0, 1787, 24, "Positive", "macro-expression", "happiness"],
    [2, "happy12_11", 12, 14, 11, 24, "positive", "macro-expression", "happiness"],
    [3, "anger1_1", 12, 14, 19, 24, "positive", "macro-expression", "happiness"],
    [2, "fear1_1", 12, 14, 19, 24, "positive", "macro-expression", "happiness"],
    [2, "anger1_3", None, 14, 19, 24, "positive", "macro-expression", "happiness"],
    [2, "anger1_4", 12, 14, 19, 24, "positive", "expression", "happiness"],
]
SUBJECTS, VIDEOS = [[15, "s15", 1], [16, "s16", 2]], [["0401", "anger1"], [502, "happy12"]]
SAMM = [
    ["SAMM Long Videos Dataset - FACS Codes"],
    [],
    ["Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type", "Action Units", "Notes"],
    ["006", "006_1_1", 1, 566, 648, 743, 178, "Macro", "4(B/C)+7B", None],
    ["006", "006_1_2", 1, 3562, -1, 3632, 71, "Micro - 1/2", "4+7", None],
    ["011", "011_6_10", 6, 0, 3323, 4123, 4124, "Macro", "6C+12E", None],
    ["011", "011", 6, 1, 2, 3, 3, "Macro", None, None],
    ["011", "011_6_11", 6, 1, "?", 3, 3, "Macro", None, None],
]


def segments(text: str, type: str = "micro", video: str = "v") -> list[Segment]:
    """ "0-9 4-13" are two segments."""
    return [Segment(video, type, *map(int, one.split("-"))) for one in text.split()]


def counts(score: Score) -> tuple[int, int, int]:
    return score.tp, score.fp, score.fn


@pytest.fixture
def published(shared_data: Path) -> tuple[list[Segment], list[Segment]]:
    (predictions, bad), (truth, worse) = (
        read_predictions(shared_data / "megc2020" / "mdmd_predictions.csv"),
        read_truth(shared_data / "megc2020" / "ground_truth.csv"),
    )
    assert (len(predictions), len(truth), bad, worse) == (39052, 357, [], [])
    return predictions, truth


def test_megc2020_baseline(published: tuple[list[Segment], list[Segment]]) -> None:
    """The MDMD baseline on CAS(ME)^2 as its authors publish it: predicted, true, TP, recall, precision, F1."""
    result = evaluate(*published, **LENGTHS)
    for score, expected in (
        (result.types["micro"], (5035, 57, 21, 0.3684210526315789, 0.004170804369414101, 0.008248232521602514)),
        (result.types["macro"], (1523, 300, 109, 0.36333333333333334, 0.07156927117531188, 0.11958310477235326)),
        (result.overall, (6558, 357, 130, 0.3641456582633053, 0.01982311680390363, 0.03759942154736081)),
    ):
        assert (score.predictions, score.truths, score.tp) == expected[:3]
        assert (score.recall, score.precision, score.f1) == pytest.approx(expected[3:], rel=1e-14)
    strict = evaluate(*published, **LENGTHS, matching="one-to-one")
    assert counts(strict.types["micro"]) == (21, 5014, 36)
    assert counts(strict.types["macro"]) == (104, 1419, 196)
    assert len({hit.prediction for hit in strict.hits}) == len({hit.truth for hit in strict.hits}) == 125
    only = evaluate(*published, type="micro", min_length=7, max_length=16)
    assert only.overall == only.types["micro"] == result.types["micro"]
    assert list(only.types) == ["micro"]


@pytest.mark.parametrize(
    ("predicted", "true", "iou", "official", "strict"),
    [
        ("0-4", "0-9", 0.5, (1, 0, 0), (1, 0, 0)),  # 5 of 10 frames
        ("0-3", "0-9", 0.5, (0, 1, 1), (0, 1, 1)),
        ("0-2", "0-9", 0.3, (1, 0, 0), (1, 0, 0)),
        ("3-3", "3-3", 1.0, (1, 0, 0), (1, 0, 0)),
        ("0-9", "10-19", 0.01, (0, 1, 1), (0, 1, 1)),
        ("0-9 1-9", "0-9", 0.5, (1, 1, 0), (1, 1, 0)),  # the second is false in both counts
        ("0-9", "0-9 1-10", 0.5, (2, -1, 0), (1, 0, 1)),  # one for two: the official precision is 2
        ("0-10 0-4", "0-9 4-13", 0.5, (2, 0, 0), (2, 0, 0)),  # the closest pair, 0-10 and 0-9, must be given up
        ("", "0-9", 0.5, (0, 0, 1), (0, 0, 1)),
        ("0-9", "", 0.5, (0, 1, 0), (0, 1, 0)),
        ("", "", 0.5, (0, 0, 0), (0, 0, 0)),
    ],
)
def test_counts(
    predicted: str, true: str, iou: float, official: tuple[int, int, int], strict: tuple[int, int, int]
) -> None:
    for matching, expected in (("official", official), ("one-to-one", strict)):
        score = evaluate(segments(predicted), segments(true), iou=iou, matching=matching).overall
        assert counts(score) == expected
        tp, fp, fn = expected
        assert score.precision == (tp / (tp + fp) if tp + fp else 0)
        assert score.recall == (tp / (tp + fn) if tp + fn else 0)
        assert score.f1 == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0)


def test_pooled_over_videos_and_types() -> None:
    predictions = segments("0-9 20-29", video="a") + segments("0-9", "macro", "a") + segments("0-9", video="b")
    truth = segments("0-9", video="a") + segments("20-29", "macro", "a") + segments("50-59", video="c")
    result = evaluate(predictions, truth)
    assert counts(result.types["micro"]) == (1, 2, 1)
    assert counts(result.types["macro"]) == (0, 1, 1)
    assert counts(result.overall) == (1, 3, 2)
    by_video = {(video, name): counts(one) for video, types in result.videos.items() for name, one in types.items()}
    assert by_video == {
        ("a", "micro"): (1, 1, 0), ("a", "macro"): (0, 1, 1), ("b", "micro"): (0, 1, 0), ("c", "micro"): (0, 0, 1),
    }  # fmt: skip
    assert [(hit.prediction, hit.truth, hit.iou) for hit in result.hits] == [(predictions[0], truth[0], 1.0)]
    assert result.overall.recognition is result.overall.strs is None


def test_lengths_are_those_of_predictions_with_both_ends() -> None:
    predictions = segments("0-5 20-26 40-55 60-76") + segments("0-5 20-36", "macro")
    assert evaluate(predictions, [], min_length=7, max_length=16).overall.predictions == 2
    assert evaluate(predictions, [], **LENGTHS).overall.predictions == 3
    assert evaluate([], segments("0-5"), min_length=7).overall.fn == 1


@dataclass
class Interval:
    """What any of the package's kinds of interval has."""

    onset: int
    offset: int
    type: str
    score: float = 1.0


def test_intervals_by_video() -> None:
    found = {"film": [Interval(0, 9, "micro"), Interval(20, 22, "blink"), Interval(30, 39, "macro")], "other": []}
    truth = {"film": [Interval(1, 9, "micro"), Interval(20, 22, "blink")]}
    assert counts(evaluate(found, truth).overall) == (1, 1, 0)
    assert list(sweep(found, truth, [0.5])) == [0.5]
    with pytest.raises(ValueError, match="type must be one of 'micro', 'macro', got 'smile'"):
        evaluate({"film": [Interval(0, 9, "smile")]}, truth)
    with pytest.raises(TypeError, match="predictions must be Segments or a mapping"):
        evaluate(found["film"], truth)  # type: ignore[arg-type]


spans = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)).map(lambda x: (x[0], x[0] + x[1])), max_size=5)


def most_pairs(near: Sequence[set[int]], used: frozenset[int] = frozenset()) -> int:
    """The size of a largest matching, by trying all of them."""
    if not near:
        return 0
    return max([most_pairs(near[1:], used), *(1 + most_pairs(near[1:], used | {i}) for i in near[0] - used)])


@settings(deadline=None)
@given(spans, spans, st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]))
def test_matching_against_brute_force(
    predicted: list[tuple[int, int]], true: list[tuple[int, int]], iou: float
) -> None:
    predictions, truth = ([Segment("v", "micro", *span) for span in given] for given in (predicted, true))
    sets = [[set(range(first, last + 1)) for first, last in given] for given in (predicted, true)]
    near = [{i for i, p in enumerate(sets[0]) if len(p & t) / len(p | t) >= iou} for t in sets[1]]
    official = evaluate(predictions, truth, iou=iou)
    strict = evaluate(predictions, truth, iou=iou, matching="one-to-one")
    assert official.overall.tp == sum(map(bool, near))
    assert strict.overall.tp == most_pairs(near) <= official.overall.tp
    assert evaluate(predictions[::-1], truth[::-1], iou=iou, matching="one-to-one").overall == strict.overall
    turned = evaluate(truth, predictions, iou=iou, matching="one-to-one").overall
    assert (turned.tp, turned.fp, turned.fn) == (strict.overall.tp, strict.overall.fn, strict.overall.fp)
    for result in (official, strict):
        assert len(result.hits) == result.overall.tp
        for hit in result.hits:
            p, t = (set(range(one.onset, one.offset + 1)) for one in (hit.prediction, hit.truth))
            assert hit.iou == len(p & t) / len(p | t) >= iou


def test_sweep_by_scores() -> None:
    predictions = [
        replace(one, score=score) for one, score in zip(segments("0-9 20-29 40-49 60-69"), (1, 2, 3, 6), strict=True)
    ]
    truth = segments("40-49 60-69 80-89")
    by_p = sweep(predictions, truth, [0, 0.5, 1])  # mean 3, max 6
    assert {p: counts(at.overall) for p, at in by_p.items()} == {0: (2, 0, 1), 0.5: (1, 0, 2), 1: (1, 0, 2)}
    # The threshold is known before lengths are filtered, and each video and type has its own.
    other = [replace(one, type="macro", score=0.1) for one in predictions]
    long = [*predictions, Segment("v", "micro", 100, 200, score=12.0), *other]
    by_p = sweep(long, truth, [0, 0.3, 1], max_length=10, matching="one-to-one")
    assert [at.types["micro"].predictions for at in by_p.values()] == [1, 0, 0]  # mean 4.8, max 12
    assert [at.types["macro"].predictions for at in by_p.values()] == [4, 4, 4]
    assert list(sweep(predictions, truth))[:3] == [0, 0.05, 0.1]
    with pytest.raises(ValueError, match=r"predictions must all have a score for a sweep of p, got Segment"):
        sweep(truth, truth)
    with pytest.raises(ValueError, match=r"p must be at least 0 and at most 1, got 1\.5"):
        sweep(predictions, truth, [1.5])


def test_sweep_by_a_callable() -> None:
    truth = iter(segments("0-9 20-29"))
    by_p = sweep(lambda p: segments("0-9 20-29 40-49" if p < 0.5 else "0-9"), truth, [0.2, 0.8])
    assert {p: counts(at.overall) for p, at in by_p.items()} == {0.2: (2, 1, 0), 0.8: (1, 0, 1)}


def test_strs_by_hand() -> None:
    spots = "0-9 20-29 40-49 60-69"
    said, known = ("positive", "positive", "negative", "others"), ("positive", "negative", "negative", "surprise")
    predictions = [replace(one, emotion=name) for one, name in zip(segments(spots), said, strict=True)]
    truth = [replace(one, emotion=name) for one, name in zip(segments("0-9 20-29 40-49 80-89"), known, strict=True)]
    score = evaluate(predictions, truth).overall
    # Precision and recall of positive 1/2, 1; negative 1, 1/2; others and surprise 0: hits of neither.
    assert score.recognition == Recognition(3, 0.375, 0.375, 0.375, pytest.approx(1 / 3))
    assert score.recognition.uar == 0.375
    assert score.strs == 0.75 * 0.375
    # A truth without an emotion is a hit of no class; a prediction without one is wrong.
    gaps = evaluate(
        [replace(predictions[0], emotion=None), *predictions[1:]],
        [truth[0], replace(truth[1], emotion=None), *truth[2:]],
    )
    assert gaps.overall.recognition == Recognition(2, 0.25, 0.25, 0.25, 0.25)
    missed = evaluate(predictions[3:], truth).overall
    assert (missed.f1, missed.strs) == (0, 0)
    assert evaluate(predictions, segments("0-9")).overall.strs is None


def test_bad_arguments() -> None:
    one = segments("0-9")
    for message, options in {
        "matching must be one of 'official', 'one-to-one', got 'greedy'": {"matching": "greedy"},
        "type must be one of 'micro', 'macro', got 'blink'": {"type": "blink"},
        "iou must be above 0 and at most 1, got 0": {"iou": 0},
        "min_length must be at least 1, got 0": {"min_length": 0},
        "max_length must be at least 9, got 8": {"min_length": {"micro": 9}, "max_length": 8},
        "the types of max_length must be one of 'micro', 'macro', got 'short'": {"max_length": {"short": 3}},
    }.items():
        with pytest.raises(ValueError) as error:  # noqa: PT011
            evaluate(one, one, **options)
        assert str(error.value) == message
    with pytest.raises(ValueError, match="must have a video in common, got 'v' and 'a', 'b', 'c' and 1 more"):
        evaluate(one, [replace(one[0], video=video) for video in "dcba"])
    with pytest.raises(ValueError, match="offset must be at least 5, got 4"):
        Segment("v", "micro", 5, 4)
    with pytest.raises(ValueError, match="score must be finite, got nan"):
        Segment("v", "micro", 5, 6, score=float("nan"))


def write(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # as Excel exports it
        csv.writer(file).writerows(rows)
    return path


def test_table_with_bad_rows(tmp_path: Path) -> None:
    table = write(
        tmp_path / "predictions.csv",
        [
            ["Video", "Type", "Start", "End", "Score", "Emotion", "notes"],
            ["a", "micro-expression", "33", "40.0", "1.5", " Happy "],
            [],
            ["a", "micro", "33.5", "40", "1"],
            ["a", "macro", "50", "40", "1"],
            ["", "macro", "30", "40", "1"],
            ["a", "smile", "30", "40", "1"],
            ["a", "macro", "30", "40", "high"],
            ["a", "macro", "", "40", "1"],
            ["a", "macro", "1e30", "2e30", "1"],
            ["a", "blink", "", "40", "1"],
            ["b", "MACRO", "-3", "65"],
        ],
    )
    found, problems = read_predictions(table)
    assert found == [
        Segment("a", "micro", 33, 40, score=1.5, emotion="happy"),
        Segment("b", "macro", -3, 65),
    ]
    assert problems == [
        "row 4: start must be the number of a frame, got '33.5'",
        "row 5: offset must be at least 50, got 40",
        "row 6: video must be named, got ''",
        "row 7: type must be one of 'micro', 'macro', got 'smile'",
        "row 8: score must be a finite number, got 'high'",
        "row 9: start must be the number of a frame, got ''",
        "row 10: start must be the number of a frame, got '1e30'",
    ]


def test_mmme_annotations(shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "mmme_annotations.csv"
    truth, problems = read_truth(table)
    assert (len(truth), problems) == (944, [])
    assert truth[0] == Segment("s01_146", "macro", 3650 - 1, 3799, 3688, emotion="angry")  # 24.33, 24.59, 25.33 s
    assert sum(one.type == "micro" for one in truth) == 434
    assert all(one.offset - one.onset <= 76 for one in truth if one.type == "micro")
    assert read_truth(table, fps=50)[0][0].offset == 1266
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[:5]
    rows[1][3:6] = ["", "", ""]
    rows[2][5] = "1.0"
    truth, problems = read_truth(write(tmp_path / "mmme.csv", rows))
    assert [one.onset for one in truth] == [498, 5446]
    assert problems == [
        "row 2: onset_s must be a finite number, got ''",
        "row 3: offset must be at least 1814, got 150",
    ]


def test_samm_long_videos_as_csv(tmp_path: Path) -> None:
    truth, problems = read_truth(write(tmp_path / "samm.csv", SAMM))
    assert truth == [
        Segment("006_1", "macro", 565, 742, 647),
        Segment("006_1", "micro", 3561, 3631),
        Segment("011_6", "macro", 0, 4122, 3322),
    ]
    assert problems == [
        "row 7: Filename must be SUBJECT_VIDEO_NUMBER, got '011'",
        "row 8: apex must be the number of a frame, got '?'",
    ]


def test_workbooks(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")

    def workbook(path: Path, **sheets: list[list[object]]) -> Path:
        book = openpyxl.Workbook()
        book.remove(book.active)
        for title, rows in sheets.items():
            sheet = book.create_sheet(title.replace("_", " "))
            for row in rows:
                sheet.append(row)
        book.save(path)
        return path

    code = workbook(tmp_path / "code.xlsx", CASFEcode=CODE_FINAL, naming_rule1=SUBJECTS, naming_rule2=VIDEOS)
    truth, problems = read_truth(code)
    assert truth == [
        Segment("s15_0401", "macro", 556, 607, 571, emotion="negative"),
        Segment("s15_0401", "micro", 2853, 2861, 2861, emotion="others"),  # no offset: the apex
        Segment("s16_0502", "macro", 1762, 1786, emotion="positive"),  # no apex
    ]
    assert problems == [
        "row 4: offset must be at least 11, got 10",
        "row 5: subject and video must be in the sheets of naming rules, got '3'",
        "row 6: subject and video must be in the sheets of naming rules, got 'fear1'",
        "row 7: onset must be the number of a frame, got ''",
        "row 8: type must be one of 'micro', 'macro', got 'expression'",
    ]
    samm = workbook(tmp_path / "samm.xlsx", FACS_Movement_Only=SAMM)
    assert read_truth(samm) == read_truth(write(tmp_path / "samm.csv", SAMM))


def test_one_video_is_named_by_its_file(tmp_path: Path) -> None:
    rows = [["type", "onset", "apex", "offset", "onset_s"], ["micro", 5, 7, 9, 0.1], ["blink", 5, 7, 9, 0.1]]
    assert read_truth(write(tmp_path / "film.csv", rows))[0] == [Segment("film", "micro", 5, 9, 7)]
    with pytest.raises(ValueError, match=r"predictions must be a table, or a folder with an intervals\.csv in it, got"):
        read_predictions(tmp_path)
    for name, source in (("one", {"source": "films/s1_2.avi", "bytes": 3}), ("two", {"source": "s.1", "files": 3})):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "intervals.csv", rows)
        (tmp_path / name / "meta.json").write_text(json.dumps({"input": source}))
    assert [one.video for one in read_predictions(tmp_path)[0]] == ["s1_2", "s.1"]
    assert [one.video for one in read_predictions(tmp_path / "two" / "intervals.csv")[0]] == ["s.1"]
    (tmp_path / "two" / "meta.json").write_text(json.dumps({"input": {"source": "elsewhere/s1_2.mp4"}}))
    with pytest.raises(ValueError, match="predictions must be of videos of different names, got 's1_2' in"):
        read_predictions(tmp_path)
    (tmp_path / "two" / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match=r"meta\.json must name the input of intervals\.csv"):
        read_predictions(tmp_path)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[str, str]:
    head = ["video", "type", "start", "end", "score", "emotion"]
    rows = [
        ["a", "micro", 1, 10, 2, "sad"],
        ["a", "micro", 31, 40, 1, "sad"],
        ["b", "macro", 1, 50, 3, "fear"],
        ["c", "x", 1, 2, 3, ""],
    ]
    truth = [
        ["video", "type", "onset", "apex", "offset", "emotion"],
        ["a", "micro", 0, 5, 9, "sad"],
        ["b", "macro", 60, 70, 80, "joy"],
    ]
    return str(write(tmp_path / "pred.csv", [head, *rows])), str(write(tmp_path / "truth.csv", truth))


def test_evaluate_command(tables: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *tables]) == 0
    printed = capsys.readouterr()
    problem = "row 5: type must be one of 'micro', 'macro', got 'x'"
    assert printed.err == f"mmme-fast: warning: 1 rows of {tables[0]} were left out: {problem}\n"
    lines = [line.split() for line in printed.out.splitlines()]
    assert ["micro", "2", "1", "1", "1", "0", "0.500000", "1.000000", "0.666667"] in lines
    assert ["overall", "3", "2", "1", "2", "1", "0.333333", "0.500000", "0.400000"] in lines
    assert ["b", "1", "1", "0", "1", "1", "0.000000", "0.000000", "0.000000"] in lines
    assert ["1.00", "2", "2", "1", "1", "1", "0.500000", "0.500000", "0.500000"] in lines  # the best of each video
    assert "STRS micro: 0.666667 = F1 0.666667 x recognition F1 1.000000 on 1 hits" in printed.out


def test_evaluate_command_as_json(tables: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *tables, "--json", "--type", "micro", "--shift", "-1", "--iou", "1",
                 "--min-length", "micro=3,macro=5", "--max-length", "10", "--matching", "one-to-one"]) == 0  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    assert result["overall"] == result["types"]["micro"]
    assert result["videos"]["a"]["micro"]["tp"] == result["overall"]["tp"] == 1
    assert result["overall"]["strs"] == pytest.approx(2 / 3)
    assert [at["p"] for at in result["sweep"]][-1] == 1
    assert result["sweep"][-1]["overall"]["f1"] == 1
    assert result["left_out"] == {
        "predictions": ["row 5: type must be one of 'micro', 'macro', got 'x'"], "truth": [],
    }  # fmt: skip
    assert (result["min_length"], result["max_length"]) == ({"micro": 3, "macro": 5}, 10)
    assert result["videos_only_in"] == {"predictions": [], "truth": []}


def test_evaluate_bad_input(
    tables: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> str:
        assert main(["evaluate", *map(str, arguments)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err.splitlines()[-1].removeprefix("mmme-fast: error: ")

    predicted, true = tables
    none, text, binary, broken = (tmp_path / name for name in ("none.csv", "notes.txt", "film.csv", "table.xlsx"))
    text.write_text("notes")
    binary.write_bytes(b"\xff\x00\xfe")
    broken.write_text("not a workbook")
    bad = write(tmp_path / "bad.csv", [["video", "type", "start", "end"], ["a", "micro", "x", 3]])
    (tmp_path / "empty.csv").touch()
    assert fails(none, true) == f"No such file or directory: {none}"
    assert fails(text, true) == f"predictions must be a .csv or .xlsx file, got {text}"
    assert fails(predicted, binary).startswith(f"truth must be a CSV file in UTF-8, got {binary}: ")
    assert fails(predicted, tmp_path / "empty.csv").startswith(
        "truth must have the columns video, type, onset and offset, got an empty table in "
    )
    assert "predictions must have a good row, got none in" in fails(bad, true)
    assert "row 2: start must be the number of a frame, got 'x'" in fails(bad, true)
    assert fails(predicted, true, "--iou", "1.5") == "iou must be above 0 and at most 1, got 1.5"
    assert fails(predicted, true, "--min-length", "0") == "min_length must be at least 1, got 0"
    assert fails(predicted, true, "--fps", "0") == "fps must be above 0 and at most 1e+06, got 0.0"
    assert "video in common, got 'a', 'b' and 'other'" in fails(
        predicted, write(tmp_path / "other.csv", [["type", "onset", "offset"], ["micro", 0, 9]])
    )
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert 'pip install "mmme_fast[tables]"' in fails(predicted, broken)
    monkeypatch.undo()
    pytest.importorskip("openpyxl")
    assert fails(predicted, broken).startswith(f"truth must be an .xlsx file that is whole, got {broken}: ")
