"""Damage films and images at random places: each is read up to the damage, or refused with a reason.

    python tests/corruption.py --times 200

Anything but frames, ValueError and OSError (another exception, a crash, a hang, much memory) fails. The bytes of the
case that failed are left in the folder that is printed.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import shutil
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import tifffile

from mmme_fast.frames import open_frames

FRAMES, HEIGHT, WIDTH = 12, 48, 64
FILMS = [
    ("a.avi", "mpeg4", "yuv420p"),
    ("mjpeg.avi", "mjpeg", "yuvj420p"),
    ("raw.avi", "rawvideo", "gray"),
    ("a.mp4", "mpeg4", "yuv420p"),
    ("a.mov", "mjpeg", "yuvj420p"),
    ("a.mkv", "ffv1", "yuv420p"),
    ("a.wmv", "wmv2", "yuv420p"),
    ("a.mpg", "mpeg1video", "yuv420p"),
]
IMAGES = ("png", "jpg", "bmp", "tif")
SECONDS = 60  # none of these small films may take as long


def scene() -> list[av.VideoFrame]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [128 + 60 * np.sin((x + 1.3 * i) / 7) + 50 * np.cos((y - 0.7 * i) / 5) for i in range(FRAMES)]
    return [av.VideoFrame.from_ndarray(wave.astype(np.uint8), format="gray") for wave in waves]


def sources(folder: Path) -> dict[str, tuple[Path, Path]]:
    """By format: what is opened, and the file in it that is damaged."""
    made = {}
    for name, codec, pixels in FILMS:
        path = folder / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pixels
            for frame in scene():
                container.mux(stream.encode(frame.reformat(format=pixels)))
            container.mux(stream.encode(None))
        made[name] = (path, path)
    for suffix in IMAGES:
        path = folder / suffix
        path.mkdir()
        for i, frame in enumerate(scene()):
            (path / f"{i}.{suffix}").write_bytes(cv2.imencode(f".{suffix}", frame.to_ndarray())[1].tobytes())
        made[suffix] = (path, path / f"5.{suffix}")
    stack = np.stack([frame.to_ndarray() for frame in scene()])
    np.save(folder / "stack.npy", stack)
    made["npy"] = (folder / "stack.npy",) * 2
    for name, compression in (("stack", None), ("deflate", "zlib")):
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, stack, compression=compression, photometric="minisblack")
        made[f"{name}.tif"] = (path, path)
    return made


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, a few bytes or a block made others, or bytes taken out or put in; often in the header."""
    n = len(data)
    at = int(rng.integers(min(n, 600) if rng.random() < 0.4 else n))
    some = rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8).tobytes()
    how = rng.integers(5)
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + some + data[at + len(some) :]
    if how == 2:
        return data[:at] + some + data[at:]
    if how == 3:
        return data[:at] + data[at + len(some) :]
    changed = bytearray(data)
    for place in rng.integers(n, size=int(rng.integers(1, 9))):
        changed[place] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
    return bytes(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="for each format")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    logging.getLogger("mmme_fast").addHandler(logging.NullHandler())
    av.logging.set_level(None)
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    folder = Path(tempfile.mkdtemp())
    print(folder, flush=True)
    for format_, (source, file) in sources(folder).items():
        data = file.read_bytes()
        rng = np.random.default_rng(arguments.seed)
        ends: Counter[str] = Counter()
        slowest = 0.0
        for _ in range(arguments.times):
            file.write_bytes(damaged(data, rng))
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            begun = time.perf_counter()
            try:
                frames = open_frames(source)
                seen = sum(len(chunk) for chunk in frames.chunks(5))
                ends["all frames" if seen >= FRAMES else "fewer, said so" if frames.warnings else "fewer, unsaid"] += 1
            except (ValueError, OSError) as error:
                ends[f"refused ({type(error).__name__})" if str(error) else "refused without a word"] += 1
            slowest = max(slowest, time.perf_counter() - begun)
        faulthandler.cancel_dump_traceback_later()
        file.write_bytes(data)
        assert "refused without a word" not in ends
        print(f"{format_:12} {dict(sorted(ends.items()))}, slowest {slowest:.2f} s", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
