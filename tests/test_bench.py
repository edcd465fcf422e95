"""mmme-fast bench: the record, its comparison with another, what is missing, and the page; nothing here is timed."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmme_fast
from mmme_fast import _backend, bench
from mmme_fast.cli import main

ROOT = Path(__file__).resolve().parents[1]
NATIVE = mmme_fast.backends()[0]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """Everything on one thread, and some of it on two."""
    tiny: dict[str, Any] = {"quick": True, "sizes": [64], "backends": [NATIVE], "seconds": 0.01, "fps": 50}
    record = bench.measure(bench.planned(threads=[1], **tiny))
    more = bench.measure(bench.planned(threads=[2], methods=["farneback", "strain", "spot"], **tiny))
    assert record["complete"]
    assert more["complete"]
    return {**record, "rows": record["rows"] + more["rows"]}


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        assert main(["bench", *map(str, arguments)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("mmme-fast: error: ")
        assert error.count("\n") == 1
        return error

    return run


def test_record(record: dict[str, Any]) -> None:
    assert not bench.wrong(record)
    assert {row["task"] for row in record["rows"]} == set(bench.TASKS)
    assert {row["threads"] for row in record["rows"]} == {1, 2}
    assert len({bench._key(row) for row in record["rows"]}) == len(record["rows"])
    for row in record["rows"]:
        for name in ("seconds", "peer_seconds", "ratio"):
            assert 0 < row[name][0] <= row[name][1] <= row[name][2]
        assert row["turns"] >= bench.MIN_TURNS
        assert row["error"] == 0 if row["peer"] == bench.ONE else row["error"] is not None or row["gate"] is None
    decoded = next(row for row in record["rows"] if row["task"] == "decode")
    assert decoded["gb_per_second"] == pytest.approx(64 * 64 * decoded["per_second"] / 1e9, rel=1e-3)
    assert decoded["real_time"] == pytest.approx(decoded["per_second"] / 50, rel=1e-3)
    peers = {row["peer"] for row in record["rows"]} - {bench.ONE, bench.YARDSTICK}
    for module, name in (("cv2", "OpenCV"), ("scipy", "SciPy"), ("mne", "MNE")):
        assert (name in peers) == (bench._module(module) is not None)
    assert record["versions"]["mmme_fast"] == mmme_fast.__version__


def test_record_goes_through_json(record: dict[str, Any], tmp_path: Path) -> None:
    bench.save(record, tmp_path / "record.json")
    assert bench.load(tmp_path / "record.json") == record
    assert len((tmp_path / "record.json").read_text().splitlines()) > len(record["rows"])


def test_nothing_stays_changed() -> None:
    cv2 = pytest.importorskip("cv2")

    def state() -> tuple[str, int | None, int]:
        return _backend.active_backend(), _backend._threads, cv2.getNumThreads()

    before = state()
    with bench._on("numba", 3):
        assert state() == ("numba", 3, 3)
    assert state() == before


def test_compare(record: dict[str, Any]) -> None:
    warnings, shared, slower = bench.compare(record, record)
    assert (warnings, slower) == ([], [])
    assert len(shared) == len(record["rows"])

    def with_ratio(low: float, middle: float, high: float) -> dict[str, Any]:
        other = copy.deepcopy(record)
        other["rows"][0]["ratio"] = [low, middle, high]
        return other

    old = with_ratio(9, 10, 11)
    assert not bench.compare(old, with_ratio(7, 8.6, 8.9))[2]  # within the tolerance
    assert not bench.compare(old, with_ratio(4, 7, 9.5))[2]  # within the spread
    assert not bench.compare(with_ratio(7, 8, 8.9), old)[2]  # faster
    ((before, after),) = bench.compare(old, with_ratio(6, 7, 8))[2]
    assert (before["ratio"][1], after["ratio"][1]) == (10, 7)

    other = copy.deepcopy(record)
    other["machine"]["cpu"] = "another"
    other["versions"].pop("numpy")
    warnings, shared, slower = bench.compare(record, other)
    assert warnings == [
        f"other cpu: {record['machine']['cpu']}, now another",
        f"other numpy: {record['versions']['numpy']}, now None",
    ]
    assert not slower
    other["rows"] = []
    with pytest.raises(ValueError, match="must have measurements in common, got none"):
        bench.compare(record, other)


def test_slower_counts_when_it_is_slower_again(record: dict[str, Any]) -> None:
    plan = bench.planned(quick=True, methods=["strain"], sizes=[64], backends=[NATIVE], threads=[1], seconds=0.01)
    (row,) = (row for row in record["rows"] if row["task"] == "strain" and row["threads"] == 1)
    for times, expected in ((1e6, 1), (1e-6, 0)):
        old = {**record, "rows": [{**row, "ratio": [times * value for value in row["ratio"]]}]}
        assert len(bench.slower_twice(plan, old, [(old["rows"][0], row)])) == expected


def test_a_wrong_answer_is_said(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fails: Any, tmp_path: Path
) -> None:
    def off(*arguments: Any, **options: Any) -> Any:
        return mmme_fast.optical_strain(*arguments, **options) + np.float32(1e-3)

    monkeypatch.setattr(bench, "optical_strain", off)
    command = ("--quick", "--methods", "strain", "--sizes", 64, "--threads", 1, "--seconds", 0.01, "--out", tmp_path)
    assert "1 measurements are wrong or slower: strain, 64x64, 1 thread" in (error := fails(*command))
    assert "largest error 1.0e-03, WRONG: above 1e-05" in error


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    command = [
        "bench",
        "--quick",
        "--methods",
        "strain",
        "decode",
        "--sizes",
        "64",
        "--threads",
        "1",
        "--seconds",
        ".01",
    ]
    assert main([*command, "--out", str(tmp_path / "a" / "old.json")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"strain, 64x64, 1 thread\n  {NATIVE:8} " in printed.out
    assert f"page: {tmp_path / 'a' / 'old.html'}\nrecord: {tmp_path / 'a' / 'old.json'}\n" in printed.out
    old = json.loads((tmp_path / "a" / "old.json").read_text())
    old["machine"]["cpu"] = "another"
    for row in old["rows"]:
        row["ratio"] = [1e6, 1e6, 1e6] if row["task"] == "strain" else [1e-6, 1e-6, 1e-6]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert main([*command, "--out", str(tmp_path), "--compare", str(tmp_path / "old.json")]) == 1
    printed = capsys.readouterr()
    assert "mmme-fast: warning: other cpu: another, now " in printed.err
    assert "error: 1 measurements are wrong or slower: strain, 64x64, 1 thread, " in printed.err
    assert "times NumPy, was 1e+06" in printed.err
    assert {path.name for path in tmp_path.iterdir()} == {"a", "old.json", "bench.json", "bench.html"}


def test_without_plotly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert main(["bench", "--quick", "--methods", "strain", "--sizes", "64", "--threads", "1", "--seconds", ".01",
                 "--out", str(tmp_path)]) == 0  # fmt: skip
    assert "left out: the page: the report needs plotly" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench._Cases, "_decode", stop)
    assert main(["bench", "--quick", "--methods", "strain", "decode", "--sizes", "64", "--threads", "1", "--seconds",
                 ".01", "--out", str(tmp_path)]) == 130  # fmt: skip
    assert f"interrupted; 1 rows are in {tmp_path / 'bench.json'}" in capsys.readouterr().err
    kept = bench.load(tmp_path / "bench.json")
    assert (kept["complete"], len(kept["rows"])) == (False, 1)


def test_missing_libraries_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cv2", "scipy.fft", "mne", "skimage.registration"):
        monkeypatch.setitem(sys.modules, name, None)
    methods = ["dis", "windows", "band-power"]
    plan = bench.planned(quick=True, methods=methods, sizes=[64], backends=[NATIVE], threads=[1], seconds=0.01)
    record = bench.measure(plan)
    assert record["complete"]
    assert {row["peer"] for row in record["rows"]} == {bench.YARDSTICK}
    missing = ["OpenCV: not installed", "scikit-image: not installed", "SciPy: not installed", "MNE: not installed"]
    assert record["left_out"][:4] == missing


def test_opencv_without_contrib(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.delattr(cv2, "optflow", raising=False)
    cases = bench._Cases(bench.planned(quick=True, methods=["tvl1"], sizes=[64]))
    assert any(line.startswith("OpenCV's TV-L1: this OpenCV has no module optflow") for line in cases.left_out)
    cases.close()


def test_bad_arguments(tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "sizes must be at least 64 and at most 4096, got 16" in fails("--sizes", 16)
    assert "threads must be at least 1, got 0" in fails("--threads", 0)
    assert "methods must be one of 'tvl1', 'farneback'" in fails("--methods", "lucas")
    assert "backends must be one of " in fails("--backends", "cuda")
    assert "seconds must be above 0, got 0.0" in fails("--seconds", 0)
    assert "fps must be at least 20, got 3.0" in fails("--fps", 3)
    assert "No such file or directory: " in fails("--compare", tmp_path / "none.json")
    other = tmp_path / "other.json"
    other.write_text("[]")
    assert "is not a record of mmme-fast bench" in fails("--compare", other)
    other.write_text('{"schema": 0}')
    assert "must have schema 1, got 0; measure it anew" in fails("--compare", other)
    other.write_text("")
    assert "out must be a folder that can be written to" in fails("--out", other / "folder")


def test_page(record: dict[str, Any]) -> None:
    pytest.importorskip("plotly")
    html = bench.page(record)
    assert "Speed on " in html
    assert html.count("<tr>") == len(record["rows"]) + 1
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', html)  # nothing from outside
    curves = bench.scaling(record)
    assert list(curves) == ["threads"]  # one size and one length
    longer = [{**row, "units": 4 * row["units"]} for row in record["rows"] if row["task"] == "spot"]
    larger = [{**row, "size": 128} for row in record["rows"] if row["task"] == "spot"]
    more = {**record, "rows": [*record["rows"], *longer, *larger]}
    assert list(bench.scaling(more)) == list(bench.PLOTS)
    assert [x for x, _ in bench.scaling(more)["spot: frame size"][f"{NATIVE}, 2 threads"]] == [64, 128]
    assert [x for x, _ in bench.scaling(more)["spot: film length"][f"{NATIVE}, 2 threads, 64x64"]] == [3, 12]
    assert bench.page(more)
    assert bench.page({**record, "rows": []})


def test_the_readme_and_the_page_say_what_was_measured() -> None:
    spec = importlib.util.spec_from_file_location("speed", ROOT / "benchmarks" / "speed.py")
    assert spec is not None
    assert spec.loader is not None
    speed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(speed)
    kept = bench.load(ROOT / "docs" / "bench.json")
    assert not bench.wrong(kept)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert speed.with_table(readme, kept) == readme
    assert speed.document(kept) == (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert speed.joined([kept, kept]) == kept


def test_the_plan_leaves_nothing_out_unasked() -> None:
    plan = bench.planned()
    assert (plan.methods, plan.sizes, plan.backends) == (bench.TASKS, (128, 256, 512), mmme_fast.backends())
    assert plan.threads[0] == 1
    assert bench.planned(quick=True, sizes=[256], backends=["numba"]).sizes == [256]
    assert replace(plan, sizes=[64, 96, 128]).sizes == [64, 96, 128]
