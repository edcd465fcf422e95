"""Which implementation of the kernels runs, and on how many threads."""

from __future__ import annotations

import importlib
import logging
import math
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

logger = logging.getLogger("mmme_fast")

_core: ModuleType | None
try:
    _core = importlib.import_module("mmme_fast._core")
except ModuleNotFoundError as error:
    if error.name != "mmme_fast._core":
        raise
    _core = None
    logger.warning(
        "mmme_fast runs on Numba: its native kernels were not built. To build them, install a C++20 compiler and run "
        "'pip install --no-cache-dir --force-reinstall --no-deps mmme_fast'."
    )

_NUMBA = "numba"
_active: str | None = None
_threads: int | None = None


def backends() -> tuple[str, ...]:
    """Return the names of the backends that run here, fastest first.

    Returns
    -------
    tuple of str
        Of "avx512", "avx2", "baseline" (native, by instruction set; "baseline" is SSE4.2 on x86-64 and the compiler's
        default elsewhere) and "numba".

    Examples
    --------
    >>> mf.backends()[-1]
    'numba'
    """
    native = () if _core is None else tuple(_core.supported())
    return (*native, _NUMBA)


def use_backend(name: str) -> None:
    """Choose the backend for every call that follows, in all threads.

    Parameters
    ----------
    name : str
        One of `backends()`. The environment variable MMME_FAST_BACKEND does the same at start.

    Raises
    ------
    ValueError
        When `name` is not one of `backends()`.

    Examples
    --------
    >>> mf.use_backend("numba")
    >>> mf.use_backend(mf.backends()[0])  # the fastest, which is the default
    """
    _use(name, "name")


def _use(name: str, argument: str) -> None:
    global _active
    if name not in backends():
        raise ValueError(f"{argument} must be one of {', '.join(backends())} on this machine, got {name!r}")
    if _core is not None and name != _NUMBA:
        _core.use(name)
    _active = name


def active_backend() -> str:
    """Return the name of the backend in use."""
    if _active is None:
        _use(os.environ.get("MMME_FAST_BACKEND") or backends()[0], "MMME_FAST_BACKEND")
    assert _active is not None
    return _active


def kernels() -> ModuleType:
    """Return the module whose functions are the kernels: `_core`, or its twin `_numba`."""
    if active_backend() == _NUMBA or _core is None:
        return importlib.import_module("mmme_fast._numba")
    return _core


def set_num_threads(threads: int | None) -> None:
    """Set how many threads a call uses when its own `threads` is None.

    Parameters
    ----------
    threads : int or None
        At least 1; None returns to the default, which `get_num_threads` describes.

    Examples
    --------
    >>> mf.set_num_threads(2)
    >>> mf.get_num_threads()
    2
    >>> mf.set_num_threads(None)
    """
    global _threads
    _threads = None if threads is None else _at_least_one(threads, "threads")


def get_num_threads() -> int:
    """Return how many threads a call uses when its own `threads` is None.

    Returns
    -------
    int
        What `set_num_threads` said; or else MMME_FAST_NUM_THREADS; or else 1 in a task of Dask or joblib, whose workers
        share out the CPUs already, and elsewhere the CPUs that this process may use: by its affinity, and by the CPU
        quota of its control group, rounded up.

    Examples
    --------
    >>> mf.get_num_threads() >= 1
    True
    """
    if _threads is not None:
        return _threads
    asked = os.environ.get("MMME_FAST_NUM_THREADS")
    if asked:
        return _at_least_one(asked, "MMME_FAST_NUM_THREADS")
    return 1 if _in_task() else min(_cpus(), _cgroup_cpus())


def _cpus() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _cgroup_cpus(root: Path = Path("/")) -> int:
    """Return the CPU quota of this process's control group or of one around it, the least one, rounded up.

    Versions 1 and 2. A file that is not there, or does not say so, is no limit.
    """
    quotas = [sys.maxsize]
    with suppress(OSError, ValueError):
        files: tuple[str, ...]
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                top, files = root / "sys/fs/cgroup", ("cpu.max",)
            elif "cpu" in controllers.split(","):
                top, files = root / "sys/fs/cgroup/cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            else:
                continue
            group = top / path.lstrip("/")
            while group.is_relative_to(top):
                with suppress(OSError, ValueError, ZeroDivisionError):
                    quota, period = " ".join((group / file).read_text() for file in files).split()
                    if int(quota) > 0:  # version 2 says "max" when there is none, version 1 says -1
                        quotas.append(math.ceil(int(quota) / int(period)))
                group = group.parent
    return min(quotas)


def _in_task() -> bool:
    """Whether the caller runs in a task of Dask or joblib; where neither was imported, that is soon known."""
    get_worker = getattr(sys.modules.get("distributed.worker"), "get_worker", None)
    if get_worker is not None:
        with suppress(ValueError):  # "No worker found"
            get_worker()
            return True
    get_active_backend = getattr(sys.modules.get("joblib.parallel"), "get_active_backend", None)
    if get_active_backend is not None and (get_active_backend()[0].nesting_level or 0) > 0:
        return True
    # Dask's schedulers for one machine leave no sign but the stack: tasks are at its root, unless get_sync runs them.
    root = ""
    frame = sys._getframe() if "dask.local" in sys.modules else None
    while frame is not None:
        if frame.f_globals.get("__name__") == "dask.local":
            root = frame.f_code.co_name
        frame = frame.f_back
    return root not in ("", "get_async", "get_sync")


def release_workspaces() -> None:
    """Free the scratch memory that threads keep between calls.

    A thread keeps what the largest call so far needed of it, up to some 50 MB for frames of 512 x 512 pixels, and frees
    it when it ends. Other threads may be computing: what they use is freed as soon as they no longer do.

    Examples
    --------
    >>> mf.release_workspaces()
    """
    if _core is not None:
        _core.release_workspaces()


def resolve_threads(threads: int | None) -> int:
    """Return the number of threads for a call whose argument `threads` is given."""
    return get_num_threads() if threads is None else _at_least_one(threads, "threads")


def _at_least_one(value: int | str, argument: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or number != (int(value) if isinstance(value, str) else value):
        raise ValueError(f"{argument} must be a whole number of at least 1, got {value!r}")
    return number


_PACKAGES = (
    "numpy", "numba", "llvmlite", "av", "mne", "scikit-image", "bioread", "scipy", "neurokit2", "plotly", "tqdm",
    "openpyxl", "zarr", "dask", "distributed", "pandas", "pyarrow", "xarray",
)  # fmt: skip
_CV2_WHEELS = [f"opencv{contrib}-python{headless}" for contrib in ("", "-contrib") for headless in ("", "-headless")]


def sys_info() -> dict[str, Any]:
    """Return what a bug report needs: versions, machine, backends, threads.

    Returns
    -------
    dict
        Keys "mmme_fast", "python", "platform", "cpu" (its name), "cpus" (all, and those that this process may use),
        "threads", "backend", "backends", "environment" (variables MMME_FAST_* that are set), one per package that is
        used, with its version, or None when it is not installed, and "cv2": the wheels that bring it, with versions.
        More than one overwrite each other.

    Examples
    --------
    >>> mf.sys_info()["mmme_fast"] == mf.__version__
    True
    """
    from importlib import metadata, util

    from mmme_fast import __version__

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    cv2 = [f"{wheel} {found}" for wheel in _CV2_WHEELS if (found := version(wheel))]
    if not cv2 and util.find_spec("cv2") is not None:
        cv2 = ["installed, by none of the wheels"]
    return {
        "mmme_fast": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpus": f"{os.cpu_count()}, of which this process may use {min(_cpus(), _cgroup_cpus())}",
        "threads": get_num_threads(),
        "backend": active_backend(),
        "backends": list(backends()),
        "environment": [f"{name}={value}" for name, value in os.environ.items() if name.startswith("MMME_FAST_")],
        **{package: version(package) for package in _PACKAGES},
        "cv2": cv2 or None,
    }


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
