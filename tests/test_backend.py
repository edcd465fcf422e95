"""Which kernels run: names, choice, threads, and that the native ones were built where they could be."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    monkeypatch.setattr(_backend, "_cgroup_cpus", lambda: sys.maxsize)
    if hasattr(os, "sched_getaffinity"):
        assert mmme_fast.get_num_threads() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(_backend, "_cgroup_cpus", lambda: 2)
    monkeypatch.setattr(_backend, "_cpus", lambda: 64)
    assert mmme_fast.get_num_threads() == 2
    for bad in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"threads must be a whole number of at least 1, got {bad}"):
            mmme_fast.set_num_threads(bad)


@pytest.mark.parametrize(
    ("groups", "quotas", "cpus"),
    [
        ("0::/a/b", {"a/b/cpu.max": "150000 100000"}, 2),
        ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, 1),
        ("0::/a/b", {"cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/../up", {"cpu.max": "200000 100000"}, 2),
        ("5:cpu,cpuacct:/a\n0::/", {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"}, 3),
        # A container that sees its group as the root, but is told the host's name of it.
        ("5:cpu:/docker/a", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "25000"}, 2),
        ("5:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, sys.maxsize),
        ("5:cpu:/", {"cpu/cpu.cfs_quota_us": "50000"}, sys.maxsize),
        ("6:cpuset:/\n0::/", {"cpuset/cpu.max": "100000 100000"}, sys.maxsize),
        ("0::/", {"cpu.max": "100000 0"}, sys.maxsize),
        ("0::/", {"cpu.max": "\xff 100000 1"}, sys.maxsize),
        ("0::/", {"cpu.max/file": ""}, sys.maxsize),
        ("nonsense", {"cpu.max": "100000 100000"}, sys.maxsize),
        (None, {}, sys.maxsize),
    ],
)
def test_cpu_quota_of_control_groups(tmp_path: Path, groups: str | None, quotas: dict[str, str], cpus: int) -> None:
    texts = {f"sys/fs/cgroup/{name}": text for name, text in quotas.items()}
    if groups is not None:
        texts["proc/self/cgroup"] = groups
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(f"{text}\n".encode("latin-1"))
    assert _backend._cgroup_cpus(tmp_path) == cpus


def test_tasks_default_to_one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMME_FAST_NUM_THREADS", raising=False)
    monkeypatch.setattr(_backend, "_cpus", lambda: 8)
    monkeypatch.setattr(_backend, "_cgroup_cpus", lambda: 8)
    assert mmme_fast.get_num_threads() == 8
    monkeypatch.setattr(_backend, "_in_task", lambda: True)
    assert mmme_fast.get_num_threads() == 1
    assert _backend.resolve_threads(4) == 4
    monkeypatch.setenv("MMME_FAST_NUM_THREADS", "3")
    assert mmme_fast.get_num_threads() == 3
    mmme_fast.set_num_threads(5)
    assert mmme_fast.get_num_threads() == 5
    mmme_fast.set_num_threads(None)


def test_tasks_of_joblib_are_known(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    result = run(
        "from joblib import Parallel, delayed\n"
        "from mmme_fast._backend import _in_task\n"
        "for backend in ('loky', 'multiprocessing', 'threading'):\n"
        "    print(Parallel(n_jobs=2, backend=backend)(delayed(_in_task)() for _ in range(3)))\n"
        "print(Parallel(n_jobs=1)([delayed(_in_task)()]), _in_task())\n",
        JOBLIB_TEMP_FOLDER=str(tmp_path),
    )
    assert result.stdout.split("\n")[:-1] == 3 * ["[True, True, True]"] + ["[False] False"], result.stderr


def test_tasks_of_dask_are_known() -> None:
    pytest.importorskip("dask")
    result = run(
        "import dask\n"
        "from mmme_fast._backend import _in_task\n"
        "task = dask.delayed(_in_task)\n"
        "def nested(): return task().compute(scheduler='sync')\n"
        "for scheduler in ('threads', 'processes', 'sync'):\n"
        "    print(dask.compute(task(), task(), scheduler=scheduler, num_workers=2))\n"
        "print(dask.delayed(nested)().compute(scheduler='threads'), _in_task())\n"
    )
    want = ["(True, True)", "(True, True)", "(False, False)", "True False"]
    assert result.stdout.split("\n")[:-1] == want, result.stderr


def test_tasks_of_a_dask_cluster_are_known() -> None:
    pytest.importorskip("distributed")
    result = run(
        "from distributed import Client\n"
        "from mmme_fast._backend import _in_task\n"
        "with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:\n"
        "    print(client.submit(_in_task).result(), _in_task())\n"
    )
    assert result.stdout == "True False\n", result.stderr


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
    code = "import sys, mmme_fast; {}; print([m for m in ('numba', 'cv2', 'mne', 'av', 'scipy') if m in sys.modules])"
    result = run(code.format("[getattr(mmme_fast, name) for name in mmme_fast.__all__]"))
    assert result.stdout.strip() == "[]", result.stderr
    assert set(mmme_fast.__all__) <= set(dir(mmme_fast))
    with pytest.raises(AttributeError, match="module 'mmme_fast' has no attribute 'nothing'"):
        mmme_fast.nothing  # type: ignore[attr-defined]  # noqa: B018
    result = run("import sys, mmme_fast; print(sorted(m[10:] for m in sys.modules if m.startswith('mmme_fast.')))")
    assert set(ast.literal_eval(result.stdout)) <= {"_arrays", "_backend", "_core", "patch"}, result.stderr


def test_layers_import_downwards_only() -> None:
    layers = [
        {"__main__", "cli"},
        {"bench"},
        {"patch", "many", "pipeline", "report"},
        {"results", "tracking", "methods", "clips", "alignment", "peripherals"},
        {"frames", "flow", "strain", "spotting", "motion", "metrics", "eeg", "synth"},
        {"_backend", "_arrays", "_faces", "_files"},
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
                joined = level[name] == level[path.stem] and level[name] in (2, 3, 5)
                assert below or joined, f"{path.name} must not import {name}"


def results(threads: int) -> list[Any]:
    """What the kernels that keep memory or share rows give, for small inputs."""
    noise = np.random.default_rng(0)
    film = noise.integers(0, 255, (7, 32, 40), np.uint8)
    pair = noise.integers(0, 255, (2, 64, 40), np.uint8)  # large enough for threads to share its rows
    quick = {"scales": 2, "warps": 1, "outer_iterations": 2}
    return [
        mmme_fast.optical_strain(noise.normal(size=(12, 40, 50, 2)), threads=threads),
        mmme_fast.farneback(film[:-2], film[2:], threads=threads),
        mmme_fast.tvl1(film[0], film[1:], threads=threads, **quick),
        mmme_fast.tvl1(*pair, threads=threads, **quick),
        mmme_fast.farneback(*pair, threads=threads),
        mmme_fast.sliding_window(noise.normal(size=(90, 40)), 9, "range", threads=threads),
        mmme_fast.band_power(noise.normal(size=(3, 900)), 300.0, threads=threads),
    ]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_calls_from_many_threads_at_once_agree(backend: str) -> None:
    expected = results(threads=1)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: same(results(threads=2), expected), range(24)))


def test_workspaces_are_released_while_others_compute(backend: str) -> None:
    expected = results(threads=1)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(results, threads=2) for _ in range(6)]
        while not all(call.done() for call in calls):
            mmme_fast.release_workspaces()
        assert all(same(call.result(), expected) for call in calls)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells the memory in use on Linux")
@pytest.mark.skipif(mmme_fast.backends() == ("numba",), reason="Numba keeps nothing")
def test_release_reaches_the_workspaces_of_idle_threads() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def call() -> None:
        mmme_fast.tvl1(*np.zeros((2, 600, 600), np.uint8), warps=1, outer_iterations=1, inner_iterations=1, threads=1)

    with ThreadPoolExecutor(1) as pool:
        mmme_fast.release_workspaces()
        before = resident()
        pool.submit(call).result()
        kept = resident() - before
        mmme_fast.release_workspaces()
        assert kept > 20 << 20
        assert resident() - before < kept // 4


# Counts what the C library is asked for; preloaded, so that it sees the calls of every library.
COUNTER = """
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
static atomic_long calls;
long allocations(void) { return calls; }
void *malloc(size_t n) { ++calls; return __libc_malloc(n); }
void *calloc(size_t m, size_t n) { ++calls; return __libc_calloc(m, n); }
void *realloc(void *p, size_t n) { ++calls; return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { ++calls; return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) { ++calls; return (*p = __libc_memalign(a, n)) ? 0 : ENOMEM; }
"""
COUNTED = """
import ctypes, gc, resource
import numpy as np
import mmme_fast as m

count = ctypes.CDLL(None).allocations
count.restype = ctypes.c_long
film = np.random.default_rng(0).integers(0, 255, (30, 48, 48), np.uint8)
large = np.zeros((2, 128, 128), np.uint8)
gc.disable()

def least(method, pairs, k, film=film, **options):
    if k:
        a, b = film[:pairs], film[k : k + pairs]
    else:
        a, b = film[0], film[1 : pairs + 1]
    best = (1 << 60, 1 << 60)
    for _ in range(4):
        before = count(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        flow = method(a, b, **options)
        after = count(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        best = tuple(min(b, y - x) for b, x, y in zip(best, before, after))
    return best

fast = {m.tvl1: {"scales": 2, "warps": 1, "outer_iterations": 1, "inner_iterations": 2}, m.farneback: {"iterations": 1}}
more = {m.tvl1: {"scales": 2, "warps": 1, "outer_iterations": 1, "inner_iterations": 5}, m.farneback: {"iterations": 4}}
for method in m.tvl1, m.farneback:
    for k in 0, 1, 3:
        for threads in 1, 3:
            few, many = (least(method, n, k, threads=threads, **fast[method])[0] for n in (6, 24))
            # More pairs may call in a thread more, which notes its frames in a list.
            assert many < few + threads, f"{method.__name__}, k = {k}, {threads} threads: {few} allocations, {many}"
    few, many = (least(method, 1, 1, threads=2, **set[method])[0] for set in (fast, more))
    assert few == many, f"{method.__name__}, rows shared out: {few} allocations, then {many}"
    faults = least(method, 1, 1, film=large, threads=1, **fast[method])[1]
    assert faults < 64, f"{method.__name__}: {faults} pages of 4 KB taken anew, of which the flow is 32"
print("counted")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the allocations of the GNU C library")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer wants to be first")
@pytest.mark.parametrize("native", [b for b in mmme_fast.backends() if b != "numba"])
def test_calls_allocate_nothing_per_pair(tmp_path: Path, native: str) -> None:
    if platform.libc_ver()[0] != "glibc" or not compiler_works():
        pytest.skip("needs the GNU C library and a compiler")
    source, library = tmp_path / "count.c", tmp_path / "count.so"
    source.write_text(COUNTER)
    compiler = os.environ.get("CXX", "c++").split()
    subprocess.run([*compiler, "-x", "c", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    result = run(COUNTED, MMME_FAST_BACKEND=native, LD_PRELOAD=str(library))
    assert result.stdout == "counted\n", result.stderr


FORKING = """
import os, signal, sys, threading, warnings
import numpy as np
import mmme_fast as m

warnings.simplefilter("ignore")  # Python warns of forks beside threads, which are the point here
film = np.random.default_rng(0).integers(0, 255, (7, 64, 40), np.uint8)

def flows():
    return np.concatenate([
        m.farneback(film[:-1], film[1:], threads=3), m.tvl1(film[0], film[1:], scales=2, warps=1, threads=3),
        m.farneback(film[:1], film[1:2], threads=3), m.tvl1(film[:1], film[1:2], scales=2, warps=1, threads=3),
    ])

want = flows()
done = threading.Event()

def busy():
    while not done.is_set():
        flows()
        m.release_workspaces()

threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads:
    thread.start()
failed = 0
for _ in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that hangs
        same = np.array_equal(flows(), want)
        m.release_workspaces()
        os._exit(not (same and np.array_equal(flows(), want)))
    failed += os.waitpid(child, 0)[1] != 0
done.set()
for thread in threads:
    thread.join()
assert np.array_equal(flows(), want)
print(failed, "children failed")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_threads_compute_has_working_threads(backend: str) -> None:
    result = run(FORKING, MMME_FAST_BACKEND=backend)
    assert result.stdout == "0 children failed\n", result.stderr
