"""What spotting returns, and how it is written to disk."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast._files import written
from mmme_fast.metrics import Segment

logger = logging.getLogger("mmme_fast")


@dataclass(frozen=True)
class Interval:
    """One expression or blink.

    Frames are numbers of the film's frames, all of them inside the interval; seconds are the film's timestamps. `x` and
    `y` say where on the crop the motion is strongest, in parts of its width; `amplitude` is in pixels of a crop 256
    pixels wide.
    """

    onset: int
    apex: int
    offset: int
    onset_s: float
    apex_s: float
    offset_s: float
    type: str
    score: float
    x: float
    y: float
    amplitude: float


COLUMNS = ("onset", "apex", "offset", "onset_s", "apex_s", "offset_s", "type", "score")
RESULTS = (
    "intervals.csv", "blinks.csv", "signals.npz", "peripherals.npz", "features.csv", "band_power.npy", "report.html",
    "meta.json",
)  # fmt: skip


@dataclass
class Spotting:
    """What `spot` found.

    Attributes
    ----------
    intervals : list of Interval
        Expressions, "micro" and "macro", in order of onset.
    blinks : list of Interval
        Blinks, which are no expressions.
    signals : dict of str to ndarray, (frame,)
        "timestamp" (s); "score"; "motion", the largest motion of any block, and "head_x", "head_y", the head's, in
        pixels of a crop 256 pixels wide; "head_turn" (degrees); "head_growth" (a part of 1); "strain" (mean optical
        strain); "blink" (bool: a blink covers the frame); "valid" (bool: there is a face, inside the crop, whose motion
        could be followed).
    fps : float
        Frames per second.
    truth : list of Segment
        Annotated expressions of this film, where `spot` was given some; the report shows them.
    meta : dict
        Parameters, version, input identity, timing and warnings, as in meta.json.
    band_power : ndarray of float32, (frame, channel, band), or None
        EEG band power around each frame; NaN where the window leaves the recording. Mapped from band_power.npy when it
        was written. `meta["eeg"]` names channels, bands and unit.
    interval_power : ndarray of float32, (interval, channel, band), or None
        Its mean over those frames of each interval that have one, less that of the seconds before the onset where
        `spot` was given a `baseline`.
    peripherals : dict of str to ndarray of float32, (frame,)
        The columns of `peripheral_features` in the second around each frame, "ECG mean" and so on; NaN where it leaves
        the recording. `meta["peripherals"]` names kinds and units.
    interval_peripherals : dict of str to ndarray of float64, (interval,)
        The same columns of each interval itself, means and rates less those of the `baseline`.
    """

    intervals: list[Interval]
    blinks: list[Interval]
    signals: dict[str, NDArray[Any]]
    fps: float
    meta: dict[str, Any] = field(default_factory=dict)
    source: Any = field(default=None, repr=False)
    truth: list[Segment] = field(default_factory=list, repr=False)
    band_power: NDArray[np.float32] | None = field(default=None, repr=False)
    interval_power: NDArray[np.float32] | None = field(default=None, repr=False)
    peripherals: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    interval_peripherals: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Spotting score per frame; 1 is the threshold."""
        return self.signals["score"]

    def features(self) -> dict[str, list[Any]]:
        """Return the table of what is known of each interval, column by column.

        The fields of `Interval`, the mean and the largest value of each film signal over the interval's frames
        ("strain mean", "strain max"); with EEG `interval_power` per channel and band ("Fp1 alpha"), in the unit that
        ``meta["eeg"]`` names; and with peripheral signals `interval_peripherals`.
        """
        table = {field.name: [getattr(one, field.name) for one in self.intervals] for field in fields(Interval)}
        for name, signal in self.signals.items():
            if name not in ("timestamp", "score"):
                parts = [signal[one.onset : one.offset + 1] for one in self.intervals]
                table[f"{name} mean"] = [float(np.mean(part)) for part in parts]
                table[f"{name} max"] = [float(np.max(part)) for part in parts]
        if self.interval_power is not None:
            for i, channel in enumerate(self.meta["eeg"]["channels"]):
                for j, band in enumerate(self.meta["eeg"]["bands"]):
                    table[f"{channel} {band}"] = self.interval_power[:, i, j].tolist()
        return table | {name: values.tolist() for name, values in self.interval_peripherals.items()}

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the intervals to a CSV file and return its path.

        Columns: onset, apex, offset (frames), onset_s, apex_s, offset_s (seconds), type, score.
        """
        return _write_intervals(Path(path), self.intervals)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, one self-contained page, and return its path. Needs ``pip install "mmme_fast[report]"``."""
        from mmme_fast.report import page

        with written(Path(path)) as file:
            file.write(page(self).encode(errors="backslashreplace"))  # names may hold what is no text
        return Path(path)


def output_folder(folder: Path) -> Path:
    """Make the folder and prove, before the long work, that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            error.errno, f"out must be a folder that can be written to: {error.strerror}", str(folder)
        ) from None
    return folder


def _write_intervals(path: Path, intervals: list[Interval]) -> Path:
    return _write_table(path, {column: [getattr(one, column) for one in intervals] for column in COLUMNS})


def _write_table(path: Path, table: dict[str, list[Any]]) -> Path:
    with written(path) as binary:
        text = io.TextIOWrapper(binary, "utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table)
        for row in zip(*table.values(), strict=True):
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row])
        text.detach()
    return path


def save(result: Spotting, folder: Path) -> Path:
    """Write all files; those that an earlier result had and this one has not go away."""
    features = result.interval_power is not None or bool(result.interval_peripherals)
    there = {"peripherals.npz": bool(result.peripherals), "features.csv": features,
             "band_power.npy": result.band_power is not None, "report.html": False, "meta.json": False}  # fmt: skip
    for name, kept in there.items():
        if not kept:
            (folder / name).unlink(missing_ok=True)
    result.to_csv(folder / "intervals.csv")
    _write_intervals(folder / "blinks.csv", result.blinks)
    with written(folder / "signals.npz") as file:
        np.savez_compressed(file, **result.signals)  # type: ignore[arg-type]
    if result.peripherals:
        with written(folder / "peripherals.npz") as file:
            np.savez_compressed(file, **result.peripherals)  # type: ignore[arg-type]
    if features:
        _write_table(folder / "features.csv", result.features())
    _write_meta(folder, result)  # where it is, the numbers are whole
    try:
        result.to_html(folder / "report.html")
    except ImportError as error:
        result.meta["warnings"].append(f"report.html was not written: {error}")
        logger.warning("%s", result.meta["warnings"][-1])
        _write_meta(folder, result)
    return folder


def _write_meta(folder: Path, result: Spotting) -> None:
    with written(folder / "meta.json") as file:
        file.write(json.dumps(result.meta, indent=2).encode())


def identity(source: str) -> dict[str, Any]:
    """What tells this input from another: size, time of change, and a hash of its head and tail."""
    path = Path(source)
    if not path.exists():
        return {"source": source}
    if path.is_dir():
        return {"source": source, **_folder_identity(path)}
    return {"source": source, "bytes": path.stat().st_size, "modified": path.stat().st_mtime, "sha256": _ends(path)}


def _folder_identity(folder: Path) -> dict[str, Any]:
    """Names and sizes of the files, the latest change of any, and the ends of the first and the last."""
    with os.scandir(folder) as scan:
        entries = sorted((entry for entry in scan if entry.is_file()), key=lambda entry: entry.name)
    digest = hashlib.sha256()
    size, modified = 0, 0.0
    for entry in entries:
        status = entry.stat()
        digest.update(os.fsencode(entry.name) + f" {status.st_size}\n".encode())
        size, modified = size + status.st_size, max(modified, status.st_mtime)
    for entry in entries[:1] + entries[-1:]:
        digest.update(_ends(Path(entry.path)).encode())
    return {"files": len(entries), "bytes": size, "modified": modified, "sha256": digest.hexdigest()}


def _ends(path: Path) -> str:
    """A hash of the first and the last 64 KB."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(1 << 16))
        file.seek(max(path.stat().st_size - (1 << 16), 0))
        digest.update(file.read())
    return digest.hexdigest()
