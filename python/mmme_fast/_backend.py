"""Which implementation of the kernels runs, and on how many threads."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import sys
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
        At least 1; None returns to the default: MMME_FAST_NUM_THREADS, or the CPUs this process may use.
    """
    global _threads
    _threads = None if threads is None else _at_least_one(threads, "threads")


def get_num_threads() -> int:
    """Return how many threads a call uses when its own `threads` is None."""
    if _threads is not None:
        return _threads
    asked = os.environ.get("MMME_FAST_NUM_THREADS")
    if asked:
        return _at_least_one(asked, "MMME_FAST_NUM_THREADS")
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def sys_info() -> dict[str, Any]:
    """Return what a bug report needs: versions, machine, backends, threads.

    Returns
    -------
    dict
        Keys "mmme_fast", "python", "platform", "cpus", "threads", "backend", "backends", and one per dependency with
        its version, or None when it is not installed.
    """
    from importlib import metadata

    from mmme_fast import __version__

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    cv2_wheels = [f"opencv{contrib}-python{headless}" for contrib in ("", "-contrib") for headless in ("", "-headless")]
    packages = ["numpy", "numba", "av", "mne", "plotly", "scipy", *cv2_wheels]
    return {
        "mmme_fast": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": get_num_threads(),
        "backend": active_backend(),
        "backends": list(backends()),
        **{package: version(package) for package in packages},
    }
