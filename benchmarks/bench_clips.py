"""Band power of the 48 clips of an hour of 68 channels at 1000 Hz, beside the MMME notebooks' way and a tidy script.

Set OMP_NUM_THREADS=1 (and OPENBLAS_NUM_THREADS=1) for one core each.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast.clips import clip_band_power

_spec = importlib.util.spec_from_file_location("mmme_notebook", Path(__file__).with_name("mmme_notebook.py"))
assert _spec is not None
assert _spec.loader is not None
peer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peer)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    path = tmp_path_factory.mktemp("clips") / "hour.set"
    order = np.random.default_rng(1).permutation(peer.CODES)
    marks = [("77", 1.0), ("88", 2.0)]
    for i, code in enumerate(order):
        marks += [(str(code), 74.0 * i + 5), ("100", 74.0 * i + 65)]
    return path, peer.write_recording(path, 3600, 62, marks[:-1])


def off(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[float, float]:
    """Relative error beside a floor of 1e-7 uV^2/Hz: of all but one feature in a thousand, and the median."""
    error = abs(ours - theirs) / (theirs + 1e-19)
    return float(np.quantile(error, 0.999)), float(np.median(error))


@pytest.mark.parametrize("stock", ["notebook", "tidy"])
def bench_clips(benchmark: Any, beside: Any, recording: tuple[Path, list[str]], stock: str) -> None:
    benchmark.group = "MMME recording of an hour, 62 channels, 48 clips, 40 windows, 5 bands"
    path, names = recording

    def ours() -> tuple[list[str], NDArray[np.float64]]:
        power = clip_band_power(path)
        return [clip.marker for clip in power.clips], power.compute()

    (markers, got), expected = beside(ours, lambda: getattr(peer, stock)(path, names), rounds=1)
    expected = expected * (1e-12 if stock == "notebook" else 1)
    q999, median = off(got[np.argsort(markers)], expected)
    benchmark.extra_info.update(q999=q999, median=median)
    assert q999 < 1e-5
