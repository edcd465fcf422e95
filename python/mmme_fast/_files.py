"""Files that appear under their name only when they are whole, tables that are written as they are computed, and arrays
that are mapped."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()  # it can only be read by setting it, which threads would notice later


def map_npy(path: Path) -> NDArray[Any]:
    """Map the array in a .npy file; ValueError where there is none, or one of Python objects."""
    try:
        mapped: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        raise
    except Exception as error:  # the header is read by Python's own parser, which has many
        raise ValueError(f"its header is damaged: {error}") from error
    return mapped


@contextlib.contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`, which takes its place when the block ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o666 & ~_UMASK)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def save(
    out: str | os.PathLike[str],
    writers: Mapping[str, Callable[[Path, Any, Iterator[Any]], None]],
    source: Any,
    size: Callable[[Any], int],
    noun: str,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Write what `source` yields, by the writer of the suffix, and a .json of the same name; return what it holds.

    Of `len(source)` nouns each part holds `size(part)`; `source._meta(done)` describes them. When interrupted by
    Ctrl-C, the parts done so far are written, and the KeyboardInterrupt goes on with a message that says where.
    """
    path = Path(out)
    write = writers.get(path.suffix.lower())
    if write is None or path.with_suffix(".json") == path:
        raise ValueError(f"out must end in one of {', '.join(writers)}, got {path.name}")
    began, done, interrupted = time.perf_counter(), 0, False

    def parts() -> Iterator[Any]:
        nonlocal done, interrupted
        try:
            for part in source:
                yield part
                done += size(part)
                if progress is not None:
                    progress(done, len(source))
        except KeyboardInterrupt:
            interrupted = True

    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, source, parts())
    meta: dict[str, Any] = source._meta(done) | {"seconds": time.perf_counter() - began}
    with written(path.with_suffix(".json")) as file:
        file.write(json.dumps(meta, indent=1).encode())
    if interrupted:
        raise KeyboardInterrupt(f"interrupted; {done} of {len(source)} {noun} are in {path}")
    return meta


def write_csv(path: Path, columns: list[str], rows: Iterable[list[Any]]) -> None:
    """Write a table row by row."""
    with written(path) as file:
        # A file's name may hold bytes that are no text, which Python has as half a surrogate pair.
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        text.detach()  # flushed, and the file left open


def write_parquet(path: Path, columns: Mapping[str, str], groups: Iterable[list[Any]]) -> None:
    """Write a table of (name: Arrow's type) in groups of rows, each a list of columns."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("writing .parquet needs pyarrow: pip install pyarrow; or save as .npz or .csv") from error
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    with written(path) as file, pq.ParquetWriter(file, schema) as writer:
        for group in groups:
            writer.write_table(pa.table([pa.array(values) for values in group], schema=schema))
