"""cv2's dense flow on our kernels: which calls, with what result, and that nothing else changes."""

from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mmme_fast
from mmme_fast import _backend, patch
from mmme_fast.patch import cv2_is_patched, patch_cv2, unpatch_cv2

cv2 = pytest.importorskip("cv2")
if _backend.active_backend() == "numba":
    pytest.skip("most of these calls go to stock OpenCV where there is only Numba", allow_module_level=True)

Array = NDArray[Any]
CONTRIB = hasattr(cv2, "optflow")
EXACT_WARP = int(cv2.__version__.split(".")[0]) >= 5
contrib = pytest.mark.skipif(not CONTRIB, reason="this OpenCV has no optflow module")

SMALL_ON_NUMBA = "frames under 128 x 128 pixels on the Numba backend"
DIS_ON_NUMBA = "the Numba backend, which is slower"
STOCK_FARNEBACK = cv2.calcOpticalFlowFarneback
TYPICAL = (0.5, 3, 15, 3, 5, 1.2, 0)
NAMES = ("pyr_scale", "levels", "winsize", "iterations", "poly_n", "poly_sigma", "flags")


def frames(height: int = 40, width: int = 50, seed: int = 0) -> tuple[Array, Array]:
    """Two uint8 frames of one noisy texture, the second moved to the right by a pixel."""
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, 256, (height + 6, width + 6)).astype(np.float32)
    scene = sum(fine[i : i + height + 2, j : j + width + 2] for i in range(5) for j in range(5)) / 8 - 270
    parts = scene[1:-1, 1:-1], scene[1:-1, :-2]
    prev, curr = ((part + rng.normal(size=part.shape)).clip(0, 255).astype(np.uint8) for part in parts)
    return prev, curr


def epe(a: Array, b: Array) -> Array:
    return np.linalg.norm(np.subtract(a, b, dtype=float), axis=-1)


def quick_tvl1() -> Any:
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    solver.setScalesNumber(2)
    solver.setWarpingsNumber(2)
    solver.setInnerIterations(5)
    solver.setOuterIterations(2)
    return solver


def test_patch_is_undone_exactly() -> None:
    owners = [
        cv2,
        cv2.FarnebackOpticalFlow,
        cv2.DISOpticalFlow,
        *([cv2.optflow.DualTVL1OpticalFlow] if CONTRIB else []),
    ]
    before = [dict(vars(owner)) for owner in owners]
    kept = cv2.FarnebackOpticalFlow_create()
    assert not cv2_is_patched()
    patch_cv2()
    assert cv2_is_patched()
    assert cv2.calcOpticalFlowFarneback is not STOCK_FARNEBACK
    assert "calc" not in vars(cv2.DISOpticalFlow)
    with patch_cv2(dis=True):  # adds DIS and takes it away; the rest stays
        assert "calc" in vars(cv2.DISOpticalFlow)
    assert "calc" not in vars(cv2.DISOpticalFlow)
    assert cv2_is_patched()
    assert isinstance(kept, cv2.FarnebackOpticalFlow)
    unpatch_cv2()
    unpatch_cv2()
    assert not cv2_is_patched()
    after = [dict(vars(owner)) for owner in owners]
    for was, now in zip(before, after, strict=True):
        assert was.keys() == now.keys()
        assert all(now[key] is value for key, value in was.items())


def test_patch_ends_with_its_block_even_after_an_error() -> None:
    with pytest.raises(RuntimeError), patch_cv2():
        raise RuntimeError
    assert not cv2_is_patched()
    with patch_cv2():
        unpatch_cv2()
    assert cv2.calcOpticalFlowFarneback is STOCK_FARNEBACK


def test_patched_functions_look_like_those_of_cv2(patched: set[str]) -> None:
    function = cv2.calcOpticalFlowFarneback
    assert function.__name__ == "calcOpticalFlowFarneback"
    assert function.__doc__ == STOCK_FARNEBACK.__doc__
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("flags", [0, cv2.OPTFLOW_FARNEBACK_GAUSSIAN])
@pytest.mark.parametrize("size", [(16, 16), (40, 50), (128, 130)], ids=str)
def test_patched_farneback_function(backend: str, patched: set[str], size: tuple[int, int], flags: int) -> None:
    prev, curr = frames(*size)
    parameters = (*TYPICAL[:-1], flags)
    found = cv2.calcOpticalFlowFarneback(prev, curr, None, *parameters)
    assert epe(found, STOCK_FARNEBACK(prev, curr, None, *parameters)).mean() < 1e-4
    if backend == "numba" and size != (128, 130):
        patched.add(SMALL_ON_NUMBA)
        np.testing.assert_array_equal(found, STOCK_FARNEBACK(prev, curr, None, *parameters))
        return
    named = cv2.calcOpticalFlowFarneback(flow=None, next=curr, prev=prev, **dict(zip(NAMES, parameters, strict=True)))
    np.testing.assert_array_equal(named, found)
    options = dict(zip(("pyr_scale", "levels", "window", "iterations", "poly_n", "poly_sigma"), TYPICAL, strict=False))
    np.testing.assert_array_equal(found, mmme_fast.farneback(prev, curr, gaussian=bool(flags), **options))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_patched_farneback_agrees_whatever_the_arguments(data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(16, 70), label=name) for name in ("height", "width"))
    prev, curr = frames(height, width, data.draw(st.integers(0, 9), label="seed"))
    kind = data.draw(st.sampled_from(["u1", "u2", "f4", "f8", "unit"]), label="dtype")
    if kind == "unit":
        prev, curr = prev / 255, curr / 255
    else:
        prev, curr = ((f * np.float64(200 if kind == "u2" else 1)).astype(kind) for f in (prev, curr))
    if data.draw(st.booleans(), label="upside down"):
        prev, curr = np.ascontiguousarray(prev[::-1])[::-1], np.asfortranarray(curr)
    parameters = (
        data.draw(st.floats(0.3, 0.9), label="pyr_scale"),
        data.draw(st.integers(0, 4), label="levels"),
        data.draw(st.integers(2, 90), label="winsize"),
        data.draw(st.integers(1, 3), label="iterations"),
        data.draw(st.integers(3, 15), label="poly_n"),
        data.draw(st.floats(0.8, 4), label="poly_sigma"),
        data.draw(st.sampled_from([0, 4, 256, 260]), label="flags"),
    )
    start = np.full((height, width, 2), 0.3, np.float32)
    flows = [start.copy() for _ in range(2)]
    expected = STOCK_FARNEBACK(prev, curr, flows[0], *parameters)
    with patch_cv2():
        found = cv2.calcOpticalFlowFarneback(prev, curr, flows[1], *parameters)
        assert patch.calls["calcOpticalFlowFarneback"] == {patch.OURS: 1}
    assert found is flows[1]
    assert np.median(epe(found, expected)) < 1e-4


def test_patched_farneback_object_keeps_its_parameters(patched: set[str]) -> None:
    prev, curr = frames()
    made = [
        cv2.FarnebackOpticalFlow_create(3, 0.6, False, 9, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN),
        cv2.FarnebackOpticalFlow.create(),
    ]
    for name, value in {
        "NumLevels": 3, "PyrScale": 0.6, "WinSize": 9, "NumIters": 2, "PolyN": 7, "PolySigma": 1.5,
        "Flags": cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
    }.items():  # fmt: skip
        getattr(made[1], "set" + name)(value)
    expected = STOCK_FARNEBACK(prev, curr, None, 0.6, 3, 9, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN)
    for solver in made:
        assert epe(solver.calc(prev, curr, None), expected).mean() < 1e-4
    assert made[1].getWinSize() == 9


@contrib
def test_patched_tvl1_object_keeps_its_parameters(backend: str, patched: set[str]) -> None:
    prev, curr = frames()
    options: dict[str, Any] = {
        "tau": 0.2, "lambda_": 0.1, "theta": 0.4, "scales": 2, "warps": 2, "epsilon": 0.02, "inner_iterations": 5,
        "outer_iterations": 2, "scale_step": 0.7, "median": 3,
    }  # fmt: skip
    expected = mmme_fast.tvl1(prev, curr, **options)
    setters = (
        "Tau", "Lambda", "Theta", "ScalesNumber", "WarpingsNumber", "Epsilon", "InnerIterations", "OuterIterations",
        "ScaleStep", "MedianFiltering",
    )  # fmt: skip
    creators = cv2.optflow.createOptFlow_DualTVL1, cv2.optflow.DualTVL1OpticalFlow_create
    for create in (*creators, cv2.optflow.DualTVL1OpticalFlow.create, cv2.optflow_DualTVL1OpticalFlow.create):
        solver = create()
        for name, value in zip(setters, options.values(), strict=True):
            getattr(solver, "set" + name)(value)
        assert isinstance(solver, cv2.optflow.DualTVL1OpticalFlow)
        assert isinstance(solver, cv2.DenseOpticalFlow)
        np.testing.assert_array_equal(solver.calc(prev, curr, None), expected)
        np.testing.assert_array_equal(solver.calc(flow=None, I1=curr, I0=prev), expected)
    stock = cv2.DenseOpticalFlow.calc(solver, prev, curr, None)
    assert np.median(epe(stock, expected)) < (1e-3 if EXACT_WARP else 0.02)


@contrib
def test_patched_tvl1_takes_floats_and_starts_from_a_flow(patched: set[str]) -> None:
    prev, curr = (f / np.float32(255) for f in frames())
    solver = quick_tvl1()
    for median in (1, 0):
        solver.setMedianFiltering(median)
        expected = cv2.DenseOpticalFlow.calc(solver, prev, curr, None)
        assert np.median(epe(solver.calc(prev, curr, None), expected)) < (1e-3 if EXACT_WARP else 0.02)
    solver.setUseInitialFlow(True)
    start = np.full((40, 50, 2), 0.4, np.float32)
    flow = start.copy()
    found = solver.calc(prev, curr, flow)
    assert found is flow
    expected = cv2.DenseOpticalFlow.calc(solver, prev, curr, start.copy())
    assert np.median(epe(found, expected)) < (1e-3 if EXACT_WARP else 0.02)


@pytest.mark.parametrize("preset", range(3))
def test_patched_dis(backend: str, patched: set[str], preset: int) -> None:
    if backend == "numba":
        patched.add(DIS_ON_NUMBA)
    prev, curr = frames(130, 141)
    solver = cv2.DISOpticalFlow_create(preset)
    start = np.full((130, 141, 2), 0.4, np.float32)
    for flow in (None, start):  # DIS starts from any flow of the frames' size
        expected = cv2.DenseOpticalFlow.calc(
            cv2.DISOpticalFlow_create(preset), prev, curr, None if flow is None else flow.copy()
        )
        found = solver.calc(prev, curr, flow)
        assert epe(found, expected).mean() < (0.01 if EXACT_WARP else 0.03)
        assert flow is None or found is flow
    solver = cv2.DISOpticalFlow_create(preset)  # stock OpenCV may crash when an object's scales change after a call
    solver.setFinestScale(1)
    solver.setPatchStride(5)
    solver.setGradientDescentIterations(9)
    solver.setVariationalRefinementIterations(2)
    expected = cv2.DenseOpticalFlow.calc(solver, prev, curr, None)
    assert epe(solver.calc(prev, curr, None), expected).mean() < (0.01 if EXACT_WARP else 0.03)


def test_patched_flow_is_written_where_cv2_writes_it(patched: set[str]) -> None:
    prev, curr = frames()
    expected = cv2.calcOpticalFlowFarneback(prev, curr, None, *TYPICAL)
    wide = np.full((44, 60, 2), 7, np.float32)
    inside = wide[2:42, 5:55]
    for flow in (np.zeros((40, 50, 2), np.float32), inside):
        assert cv2.calcOpticalFlowFarneback(prev, curr, flow, *TYPICAL) is flow
        np.testing.assert_array_equal(flow, expected)
    wide[2:42, 5:55] = 7
    assert (wide == 7).all()
    for other in (np.zeros((41, 50, 2), np.float32), np.zeros((40, 50, 2)), np.zeros((40, 50), np.uint8)):
        found = cv2.calcOpticalFlowFarneback(prev, curr, other, *TYPICAL)
        assert not other.any()  # neither its size nor its type fits: a new one
        np.testing.assert_array_equal(found, expected)


def test_patched_frames_may_be_views_and_subclasses(patched: set[str]) -> None:
    prev, curr = frames()
    expected = cv2.calcOpticalFlowFarneback(prev, curr, None, *TYPICAL)
    columns = np.zeros((40, 100), np.uint8)
    columns[:, ::2] = curr
    unaligned = np.frombuffer(b"x" + curr.astype(np.float32).tobytes(), np.float32, offset=1).reshape(curr.shape)
    locked = curr.copy()
    locked.flags.writeable = False
    for view in (locked, curr[..., None], np.asfortranarray(curr), columns[:, ::2], np.ma.array(curr), unaligned):
        found = cv2.calcOpticalFlowFarneback(prev, view, None, *TYPICAL)
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, expected, atol=1e-4)


PREV, CURR = frames()
FLOAT = PREV / np.float32(255)
NO_NUMBER = FLOAT.copy()
NO_NUMBER[3, 4] = np.nan
LOCKED = np.zeros((40, 50, 2), np.float32)
LOCKED.flags.writeable = False
Solver = Callable[[], Any]


def farneback_call(*given: Any, **named: Any) -> Callable[[], Any]:
    """A call of the function with these first arguments, and the typical ones after them."""
    arguments = [PREV, CURR, None, *TYPICAL]
    arguments[: len(given)] = given
    for name, value in named.items():
        arguments[3 + NAMES.index(name)] = value
    return lambda: cv2.calcOpticalFlowFarneback(*arguments)


def object_call(create: Solver, *given: Any, **setters: Any) -> Callable[[], Any]:
    def call() -> Any:
        solver = create()
        for name, value in setters.items():
            getattr(solver, "set" + name)(value)
        return solver.calc(*given) if given else solver.calc(PREV, CURR, None)

    return call


def on_numba(call: Callable[[], Any]) -> Callable[[], Any]:
    def called() -> Any:
        before = _backend.active_backend()
        mmme_fast.use_backend("numba")
        try:
            return call()
        finally:
            mmme_fast.use_backend(before)

    return called


# Per reason, calls that go to stock OpenCV for it.
TO_STOCK: dict[str, list[Callable[[], Any]]] = {
    "frames that are not NumPy arrays": [
        farneback_call(cv2.UMat(PREV)),
        farneback_call(PREV.tolist()),
        farneback_call(None),
    ],
    "frames of several channels or different sizes": [
        farneback_call(np.dstack([PREV] * 3), np.dstack([CURR] * 3)),
        farneback_call(PREV, CURR[1:]),
    ],
    "frames under 16 or over 32767 pixels high or wide": [farneback_call(PREV[:15], CURR[:15])],
    "a flow argument that is neither None nor a writable array": [
        farneback_call(PREV, CURR, LOCKED),
        farneback_call(PREV, CURR, np.zeros((40, 100, 2), np.float32)[:, ::2]),
        farneback_call(PREV, CURR, cv2.UMat(PREV)),
        farneback_call(PREV, CURR, 0),
    ],
    "an initial flow that is missing or of another size": [
        # Where OpenCV refuses it; its function starts from whatever its memory holds then.
        *([object_call(quick_tvl1, UseInitialFlow=True)] if CONTRIB else []),
    ],
    "an initial flow that is not finite": [
        farneback_call(PREV, CURR, np.full((40, 50, 2), np.nan, np.float32), flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    ],
    "frames that are not uint8, uint16, float32 or float64": [
        farneback_call(PREV.astype(np.int16), CURR),
        farneback_call(PREV.astype(">u2"), CURR.astype(">u2")),
    ],
    "float frames beyond 65535, or not finite": [farneback_call(NO_NUMBER, FLOAT)],
    "flags that mmme_fast does not know": [farneback_call(flags=1024)],
    "fast pyramids": [object_call(cv2.FarnebackOpticalFlow_create, FastPyramids=True)],
    "parameters beyond those of mmme_fast.farneback": [
        farneback_call(levels=3.0),
        farneback_call(pyr_scale=1.5),
        farneback_call(pyr_scale="half"),
        farneback_call(iterations=0),
        farneback_call(flags=False),
    ],
    patch._REFUSED: [
        lambda: cv2.calcOpticalFlowFarneback(PREV, CURR, None, *TYPICAL[:-1]),
        farneback_call(flags=np.array([0, 256])),
        lambda: cv2.FarnebackOpticalFlow_create().calc(PREV, CURR),
        lambda: cv2.FarnebackOpticalFlow_create().calc(PREV, CURR, None, threads=2),
    ],
    SMALL_ON_NUMBA: [on_numba(farneback_call())],
    DIS_ON_NUMBA: [on_numba(object_call(cv2.DISOpticalFlow_create, *frames(130, 141), None))],
    "frames that are not uint8": [object_call(cv2.DISOpticalFlow_create, FLOAT, FLOAT, None)],
    "parameters that OpenCV's presets never change": [
        object_call(cv2.DISOpticalFlow_create, PatchSize=6),
        object_call(cv2.DISOpticalFlow_create, UseMeanNormalization=False),
    ],
    "frames too small for the object's finest scale": [object_call(cv2.DISOpticalFlow_create)],
}
if CONTRIB:
    TO_STOCK |= {
        "frames that are not both uint8 or both float32": [object_call(quick_tvl1, PREV, FLOAT, None)],
        "float frames beyond 0..1": [object_call(quick_tvl1, 100 * FLOAT, FLOAT, None)],
        "gamma other than 0": [object_call(quick_tvl1, Gamma=0.1)],
        "parameters beyond those of mmme_fast.tvl1": [
            object_call(quick_tvl1, ScaleStep=0.05),
            object_call(quick_tvl1, MedianFiltering=7),
            object_call(quick_tvl1, ScalesNumber=0),
        ],
    }


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, as an array, or what it says."""
    try:
        found = call()
    except cv2.error as error:
        return str(error)
    return found.get() if isinstance(found, cv2.UMat) else found


@pytest.mark.parametrize("reason", TO_STOCK)
def test_what_is_not_covered_goes_to_stock_opencv(
    reason: str, patched: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mmme_fast")
    found = [[outcome(call) for call in TO_STOCK[reason]] for _ in range(2)]
    unpatch_cv2()
    for call, *each in zip(TO_STOCK[reason], *found, strict=True):
        expected = outcome(call)
        for one in each:
            assert type(one) is type(expected)
            np.testing.assert_array_equal(one, expected)
    if TO_STOCK[reason]:
        patched.add(reason)
        messages = [record.getMessage() for record in caplog.records]
        assert any(text.endswith("0 calls on mmme_fast, 2 on stock OpenCV") for text in messages) or len(found[0]) > 1
        assert sum(text.endswith(f"goes to stock OpenCV: {reason}") for text in messages) == len(
            [name for name, count in patch.calls.items() if count[reason]]
        )


def test_every_reason_is_tested_and_documented() -> None:
    conditions = {(p.name, reason) for p in patch.PATCHES for reason, _ in p.conditions}
    reasons = {reason for _, reason in conditions} | {patch._REFUSED}
    if CONTRIB:
        assert TO_STOCK.keys() == reasons
    page = Path(__file__).parents[1].joinpath("docs", "drop-in.md").read_text()
    for text in reasons | {p.name for p in patch.PATCHES}:
        assert text in page, f"docs/drop-in.md does not say: {text}"


def test_patched_calls_use_no_more_threads_than_cv2_may(patched: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(patch._Call, "run", lambda self, kernel, threads: asked.append(threads))
    before = cv2.getNumThreads()
    try:
        for ours, theirs in [(4, 2), (1, 2), (4, 1), (4, 0)]:
            mmme_fast.set_num_threads(ours)
            cv2.setNumThreads(theirs)
            cv2.calcOpticalFlowFarneback(*frames(128, 128), None, *TYPICAL)
        cv2.setNumThreads(2)
        cv2.calcOpticalFlowFarneback(*frames(127, 128), None, *TYPICAL)
    finally:
        mmme_fast.set_num_threads(None)
        cv2.setNumThreads(before)
    assert asked == [2, 1, 1, 1, 1]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_patch_says_where_there_is_no_cv2(tmp_path: Path) -> None:
    code = "import sys; sys.modules['cv2'] = None; import mmme_fast; mmme_fast.patch_cv2()"
    result = run("-c", code)
    assert result.returncode == 1
    assert "ImportError: patch_cv2 needs OpenCV, and no cv2 is installed: 'pip install" in result.stderr
    code = "import sys; sys.modules['cv2'] = None; sys.argv = ['', 'x.py']; from mmme_fast.__main__ import main; main()"
    result = run("-c", code)
    assert (result.returncode, result.stderr.split(",")[0]) == (1, "mmme_fast: error: patch_cv2 needs OpenCV")


def test_patch_without_the_contrib_modules(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mmme_fast")
    monkeypatch.delattr(cv2, "optflow", raising=False)
    with patch_cv2():
        cv2.calcOpticalFlowFarneback(PREV, CURR, None, *TYPICAL)
        assert patch.calls["calcOpticalFlowFarneback"] == {patch.OURS: 1}
    assert "cv2.optflow.DualTVL1OpticalFlow.calc is not in this OpenCV" in caplog.text


def test_verbose_says_what_runs_where() -> None:
    code = (
        "import cv2, numpy as np, mmme_fast\n"
        "a = np.zeros((20, 20), np.uint8)\n"
        "with mmme_fast.patch_cv2():\n"
        f"    for f in (a, a, a.astype('i2'), a.astype('i2')): cv2.calcOpticalFlowFarneback(f, f, None, *{TYPICAL})\n"
    )
    assert run("-c", code, MMME_FAST_VERBOSE="").stderr == ""
    said = run("-c", code, MMME_FAST_VERBOSE="1").stderr.splitlines()
    reason = "frames that are not uint8, uint16, float32 or float64"
    assert said.count(f"mmme_fast: cv2.calcOpticalFlowFarneback goes to stock OpenCV: {reason}") == 1
    assert "mmme_fast: cv2.calcOpticalFlowFarneback: 2 calls on mmme_fast, 2 on stock OpenCV" in said


SHOW = """
import sys
if __name__ == "__main__":
    import cv2, neighbour
    print(sys.argv, sys.path[0], __file__, __name__, __spec__ and __spec__.name, __package__)
    print(sys.modules["__main__"].__dict__ is globals(), neighbour.__name__)
    print(*("calc" in vars(c) for c in (cv2.FarnebackOpticalFlow, cv2.DISOpticalFlow)), file=sys.stderr)
    if sys.argv[-1] == "raise":
        1 / 0
    sys.exit({"fail": 7, "text": "no"}.get(sys.argv[-1]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "some where"
    folder.mkdir()
    (folder / "show.py").write_text(SHOW)
    (folder / "neighbour.py").write_text("")
    (folder / "inside").mkdir()
    (folder / "inside" / "__main__.py").write_text(SHOW)
    (folder / "inside" / "neighbour.py").write_text("")
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", SHOW)
        archive.writestr("neighbour.py", "")
    (folder / "linked.py").symlink_to(folder / "show.py")
    return folder


@pytest.mark.parametrize(
    ("how", "arguments"),
    [
        *(
            (how, ["a", "--dis", "-m", "--", "x y"])
            for how in ("show.py", "linked.py", "inside", "archive.zip", "-m show")
        ),
        *(("show.py", [end]) for end in ("fail", "text", "raise", "-h")),
    ],
    ids=str,
)
def test_run_is_the_interpreter_itself_with_cv2_patched(
    script: Path, how: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(script)
    source = str(Path(mmme_fast.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    plain = run(*how.split(), *arguments, PYTHONPATH=path)
    ours = run("-m", "mmme_fast", *how.split(), *arguments, PYTHONPATH=path)
    assert ours.stdout == plain.stdout != "", ours.stderr
    assert ours.returncode == plain.returncode
    assert (
        ours.stderr.splitlines()[-1:]
        == (plain.stderr if arguments[0] in ("text", "raise") else ours.stderr).splitlines()[-1:]
    )
    assert plain.stderr.startswith("False False")
    assert ours.stderr.startswith("True False")


def test_run_with_dis_and_its_own_errors(script: Path) -> None:
    assert run("-m", "mmme_fast", "--dis", script / "show.py").stderr == "True True\n"
    result = run("-m", "mmme_fast", script / "none.py")
    assert result.returncode == run(script / "none.py").returncode == 2
    assert re.search("can't open file .*none.py", result.stderr)
    result = run("-m", "mmme_fast")
    assert result.returncode == 2
    assert "usage: python -m mmme_fast [--dis] [-m] SCRIPT [ARGUMENT ...]" in result.stderr
