"""Long films: memory, how well decoding and kernels overlap, whether a camera is kept up with, and TIFFs by the crop.

    python benchmarks/long_film.py memory|overlap|keep-up|tiff [--minutes 3 30] [--codec rawvideo] [--threads 1]

Films are made for the measurement, in a temporary folder: a drawn clip of 10 s, encoded once, again and again. Half an
hour of 256 x 256 is 18 GB raw and 7 GB as FFV1, which takes longer to decode.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from mmme_fast import open_frames, set_num_threads, spot, synth

FPS = 150
CHUNK = 128


def made(path: Path, seconds: float, size: int, codec: str) -> Path:
    """A film of so many seconds: 10 of them, repeated."""
    import av

    clip = synth.film(min(seconds, 10), FPS, size, seed=1, micro=12, macro=6).frames()
    frames = round(seconds * FPS)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(FPS))
        stream.height, stream.width, stream.pix_fmt = size, size, "gray"
        encoded = [
            bytes(packet)
            for picture in clip
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="gray"))
        ]
        encoded += [bytes(packet) for packet in stream.encode()]
        assert len(encoded) == len(clip)  # each picture by itself
        for i, content in enumerate(itertools.islice(itertools.cycle(encoded), frames)):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, FPS), True
            packet.pts = packet.dts = i
            packet.duration = 1
            container.mux(packet)
    return path


def command(film: Path, out: Path, *options: str) -> tuple[dict[str, Any], float]:
    """`mmme-fast spot` in a process of its own: what meta.json says, and its peak memory in MB, sampled."""
    run = [sys.executable, "-c", "import sys; from mmme_fast.cli import main; sys.exit(main())", "spot", str(film)]
    process = psutil.Popen([*run, "--crop", "full", "--out", str(out), *options], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.02)
    assert process.wait() == 0
    return json.loads((out / "meta.json").read_text()), peak / 1e6


def memory(folder: Path, arguments: argparse.Namespace) -> None:
    for minutes in arguments.minutes:
        film = made(folder / "film.avi", 60 * minutes, 256, arguments.codec)
        options = ["--threads", str(arguments.threads), "--method", arguments.method]
        meta, peak = command(film, folder / "out", *options)
        assert meta["frames"] == round(60 * minutes * FPS)
        size, rate = film.stat().st_size / 1e9, meta["frames_per_second"]
        print(
            f"{minutes:g} min, {size:.1f} GB of {arguments.codec}: {rate:.0f} frames/s, peak memory {peak:.0f} MB",
            flush=True,
        )
        film.unlink()


def rates(frames: int, rounds: int, *calls: Callable[[], Any]) -> list[float]:
    """Frames per second of each call, which take turns: medians."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            begun = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begun)
    return [frames / median(taken) for taken in times]


def overlap(folder: Path, arguments: argparse.Namespace) -> None:
    set_num_threads(arguments.threads)
    film = made(folder / "film.avi", arguments.seconds, 256, arguments.codec)
    pixels = np.concatenate(list(open_frames(film).chunks(CHUNK)))
    options: dict[str, Any] = {"crop": "full", "method": arguments.method, "flow": arguments.flow}

    spot(pixels[:1000], fps=FPS, **options)  # touches memory

    def decode() -> None:
        assert sum(map(len, open_frames(film).chunks(CHUNK))) == len(pixels)

    decoding, kernels, both = rates(
        len(pixels), arguments.rounds, decode, lambda: spot(pixels, fps=FPS, **options), lambda: spot(film, **options)
    )
    print(
        f"{arguments.method}, {arguments.flow}, {arguments.codec}, {arguments.threads} threads: decoding alone "
        f"{decoding:.0f} frames/s, from memory {kernels:.0f}, from the file {both:.0f}: "
        f"{100 * both / min(decoding, kernels):.0f} % of the slower",
        flush=True,
    )


def keep_up(folder: Path, arguments: argparse.Namespace) -> None:
    for size, *options in (
        (128, "--flow", "tvl1", "--warm-start", "32"),
        (256, "--flow", "farneback"),
        (128, "--method", "strain", "--flow", "tvl1", "--warm-start", "32"),
        (256, "--method", "strain", "--flow", "farneback"),
    ):
        film = made(folder / "film.avi", arguments.seconds, int(size), arguments.codec)
        options += ["--size", str(size), "--threads", str(arguments.threads)]
        meta, _ = command(film, folder / "out", *map(str, options))
        rate = meta["frames_per_second"]
        print(
            f"{size} x {size}, {arguments.codec}, {' '.join(map(str, options))}: {rate:.0f} frames/s, "
            f"{rate / FPS:.1f} times {FPS}",
            flush=True,
        )


def cropped(folder: Path, box: tuple[int, int, int, int]) -> Any:
    """Read a folder of images; the last chunk."""
    for chunk in open_frames(folder, crop=box, fps=FPS).chunks(16):
        last = chunk
    return last


def imread(paths: list[Path], box: tuple[int, int, int, int]) -> Any:
    """The same by tifffile."""
    import tifffile

    x, y, width, height = box
    for i, path in enumerate(paths):
        if i % 16 == 0:
            chunk = np.empty((min(16, len(paths) - i), height, width), np.uint8)
        chunk[i % 16] = tifffile.imread(path)[y : y + height, x : x + width]
    return chunk


def tiff(folder: Path, arguments: argparse.Namespace) -> None:
    import tifffile

    rng = np.random.default_rng(0)
    for i in range(500):
        tifffile.imwrite(folder / f"{i:03}.tif", rng.integers(0, 256, (1088, 2048), np.uint8))
    paths = sorted(folder.glob("*.tif"))
    set_num_threads(arguments.threads)
    for x, y, width, height in ((700, 250, 600, 600), (900, 400, 256, 256)):
        ours, stock = partial(cropped, folder, (x, y, width, height)), partial(imread, paths, (x, y, width, height))
        np.testing.assert_array_equal(ours(), stock())
        fast, slow = rates(len(paths), arguments.rounds, ours, stock)
        print(
            f"2048 x 1088 TIFF, crop of {width} x {height}, {arguments.threads} threads: {fast:.0f} frames/s, "
            f"tifffile.imread and crop {slow:.0f}: {fast / slow:.2f}x",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"memory": memory, "overlap": overlap, "keep-up": keep_up, "tiff": tiff}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 30], help="memory: of each film")
    parser.add_argument("--seconds", type=float, default=60, help="of the others")
    parser.add_argument("--codec", default="rawvideo", choices=["rawvideo", "ffv1"])
    parser.add_argument("--method", default="matched")
    parser.add_argument("--flow", default="farneback")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts[arguments.part](Path(folder), arguments)


if __name__ == "__main__":
    main()
