"""Which kernels run: names, choice, threads, and that the native ones were built where they could be."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mmme_fast
from mmme_fast import _backend, _numba

PACKAGE = Path(mmme_fast.__file__).parent


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def compiler_works() -> bool:
    compiler = os.environ.get("CXX", "c++").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "x.cpp")
        source.write_text("#include <span>\nint main() { return 0; }\n")
        try:
            result = subprocess.run(
                [*compiler, "-std=c++20", "-c", str(source), "-o", str(source.with_suffix(".o"))],
                capture_output=True, check=False,
            )  # fmt: skip
        except OSError:
            return False
        return result.returncode == 0


def test_native_kernels_were_built_where_a_compiler_works() -> None:
    if not compiler_works():
        pytest.skip("no working C++20 compiler: Numba alone is right")
    assert "baseline" in mmme_fast.backends()


def test_backends_end_with_numba_and_start_with_the_default() -> None:
    assert mmme_fast.backends()[-1] == "numba"
    result = run("import mmme_fast; print(mmme_fast.sys_info()['backend'])", MMME_FAST_BACKEND="")
    assert result.stdout.strip() == mmme_fast.backends()[0], result.stderr


def test_use_backend_chooses(backend: str) -> None:
    assert _backend.active_backend() == backend
    assert (_backend.kernels() is _numba) == (backend == "numba")
    assert mmme_fast.sys_info()["backend"] == backend


def test_unknown_backend_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"name must be one of .*numba on this machine, got 'mmx'"):
        mmme_fast.use_backend("mmx")
    result = run("import mmme_fast as m, numpy as np; m.optical_strain(np.zeros((9, 9, 2)))", MMME_FAST_BACKEND="mmx")
    assert result.returncode == 1
    assert "MMME_FAST_BACKEND must be one of" in result.stderr
    assert "got 'mmx'" in result.stderr


def test_environment_chooses_the_backend() -> None:
    result = run("import mmme_fast; print(mmme_fast.sys_info()['backend'])", MMME_FAST_BACKEND="numba")
    assert result.stdout.strip() == "numba", result.stderr


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMME_FAST_NUM_THREADS", "3")
    assert mmme_fast.get_num_threads() == 3
    mmme_fast.set_num_threads(5)
    assert mmme_fast.get_num_threads() == 5
    mmme_fast.set_num_threads(None)
    assert mmme_fast.get_num_threads() == 3
    monkeypatch.setenv("MMME_FAST_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="MMME_FAST_NUM_THREADS must be a whole number of at least 1, got 'many'"):
        mmme_fast.get_num_threads()
    monkeypatch.delenv("MMME_FAST_NUM_THREADS")
    if hasattr(os, "sched_getaffinity"):
        assert mmme_fast.get_num_threads() == len(os.sched_getaffinity(0))
    for bad in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"threads must be a whole number of at least 1, got {bad}"):
            mmme_fast.set_num_threads(bad)


def test_a_missing_extension_is_one_warning_and_a_broken_one_an_error(tmp_path: Path) -> None:
    copy = tmp_path / "mmme_fast"
    subprocess.run(
        [sys.executable, "-c", f"import shutil; shutil.copytree({str(PACKAGE)!r}, {str(copy)!r})"], check=True
    )
    for built in [*copy.glob("_core*.so"), *copy.glob("_core*.pyd")]:
        built.unlink()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mmme_fast; print(mmme_fast.backends())"
    missing = run(code)
    assert missing.stdout.strip() == "('numba',)"
    assert missing.stderr.count("runs on Numba") == 1
    (copy / "_core.py").write_text("raise ImportError('undefined symbol')")
    broken = run(code)
    assert broken.returncode == 1
    assert "undefined symbol" in broken.stderr


def test_import_is_light() -> None:
    result = run(
        "import sys, mmme_fast; print([m for m in ('numba', 'cv2', 'mne', 'av', 'scipy') if m in sys.modules])"
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_layers_import_downwards_only() -> None:
    layers = [
        {"__main__", "cli"},
        {"patch", "pipeline", "report"},
        {"results", "tracking"},
        {"frames", "flow", "strain", "spotting", "motion", "metrics", "eeg", "synth"},
        {"_backend", "_arrays", "_files"},
        {"_core", "_numba"},
    ]
    level = {name: i for i, names in enumerate(layers) for name in names}
    for path in PACKAGE.glob("*.py"):
        if path.stem == "__init__":
            continue
        assert path.stem in level, f"{path.name} has no layer"
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mmme_fast":
                parts = node.module.split(".")
                names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            for name in names:
                if name == "__version__" or (name in mmme_fast.__all__ and name not in level):
                    continue  # a public name, which the top layer may use
                # results -> report is the one way up: Spotting.to_html draws its page when asked.
                if (path.stem, name) == ("results", "report"):
                    continue
                below = level[name] > level[path.stem]
                joined = level[name] == level[path.stem] and level[name] in (1, 2, 4)
                assert below or joined, f"{path.name} must not import {name}"


def test_calls_from_many_threads_at_once_agree(backend: str) -> None:
    flow = np.random.default_rng(0).normal(size=(12, 40, 50, 2)).astype(np.float32)
    expected = mmme_fast.optical_strain(flow, threads=1)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: mmme_fast.optical_strain(flow, threads=4), range(40)):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.skipif(mmme_fast.backends() == ("numba",), reason="the native pool was not built")
def test_a_forked_child_has_working_threads() -> None:
    result = run(
        "import os, warnings, numpy as np, mmme_fast as m\n"
        "warnings.simplefilter('ignore')\n"
        "f = np.random.default_rng(0).normal(size=(9, 30, 30, 2)).astype('f4')\n"
        "want = m.optical_strain(f, threads=3)\n"
        "pid = os.fork()\n"
        "ok = bool((m.optical_strain(f, threads=3) == want).all())\n"
        "if pid == 0: os._exit(0 if ok else 1)\n"
        "status = os.waitpid(pid, 0)[1]\n"
        "raise SystemExit(status != 0 or not ok)\n"
    )
    assert result.returncode == 0, result.stderr
