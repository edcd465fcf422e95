"""Films, folders, stacks and arrays as chunks of frames: pixels, times, and what is said about damaged sources."""

from __future__ import annotations

import io
import logging
import re
import struct
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmme_fast.frames import Frames, _Fresh, _Scratch, _TiffPage, open_frames

Array = NDArray[Any]

# file name, codec, pixel format, B-frames: every container of the shared films and the usual ones beside
FILMS = [
    ("a.avi", "mpeg4", "yuv420p", 0),
    ("b.avi", "mpeg4", "yuv420p", 2),
    ("gray.avi", "ffv1", "gray", 0),
    ("a.mp4", "mpeg4", "yuv420p", 2),
    ("a.mov", "mjpeg", "yuvj420p", 0),
    ("a.mkv", "ffv1", "yuv420p", 0),
    ("a.wmv", "wmv2", "yuv420p", 0),
    ("a.mpg", "mpeg1video", "yuv420p", 2),
]


def scene(frames: int, height: int = 48, width: int = 66) -> Array:
    """Moving waves, (frame, y, x) uint8: smooth enough for a lossy codec, different in every frame."""
    y, x = np.mgrid[:height, :width]
    return np.stack(
        [
            (128 + 60 * np.sin((x + 1.3 * i) / 7) + 50 * np.cos((y - 0.7 * i) / 5)).astype(np.uint8)
            for i in range(frames)
        ]
    )


def colours(frames: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.stack([cv2.GaussianBlur(rng.integers(0, 256, (48, 66, 3), np.uint8), (0, 0), 2) for _ in range(frames)])


def write_film(
    path: Path,
    frames: Array,
    codec: str,
    pixels: str,
    *,
    b_frames: int = 0,
    rate: int = 25,
    stamps: list[int] | None = None,
) -> Path:
    """Encode grey (frame, y, x) or BGR frames; stamps are in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.max_b_frames = b_frames
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(frames):
            kind = {2: "gray16le" if picture.dtype == np.uint16 else "gray", 3: "bgr24"}[picture.ndim]
            frame = av.VideoFrame.from_ndarray(picture, format=kind).reformat(format=pixels)
            if stamps is not None:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decoded_luma(path: Path) -> Array:
    """What PyAV gives on one thread, by its own conversion to arrays."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return np.stack([f.to_ndarray()[: f.height, : f.width] for f in container.decode(video=0)])


def everything(source: Any, n: int = 16, **options: Any) -> tuple[Frames, Array]:
    frames = open_frames(source, **options)
    return frames, np.concatenate(list(frames.chunks(n)))


def same_as_opencv_reads(got: Array, expected: list[Array]) -> None:
    """To the bit, where OpenCV and PyAV carry the same FFmpeg: from 8.1 on it converts BT.709 to BGR differently."""
    ours = av.library_versions["libswscale"][:2]
    same = re.search(rf"swscale:\s+YES \({ours[0]}\.{ours[1]}\.", cv2.getBuildInformation()) is not None
    assert got.shape == np.shape(expected)
    assert np.abs(got.astype(int) - expected).max() <= (0 if same else 10)


def write_folder(path: Path, frames: Array, suffix: str = ".png") -> Path:
    path.mkdir(exist_ok=True)
    for i, picture in enumerate(frames):
        assert cv2.imwrite(str(path / f"frame{i}{suffix}"), picture)
    return path


# Films


@pytest.mark.parametrize(("name", "codec", "pixels", "b_frames"), FILMS, ids=[f[0] for f in FILMS])
def test_every_frame_of_a_film_in_order_with_its_time(
    tmp_path: Path, name: str, codec: str, pixels: str, b_frames: int
) -> None:
    film = write_film(tmp_path / name, scene(40), codec, pixels, b_frames=b_frames)
    frames, got = everything(film)
    np.testing.assert_array_equal(got, decoded_luma(film))
    assert np.abs(got.astype(int) - scene(40)).mean() < 25  # the scene itself, in limited or full range
    first = frames.timestamps[0]
    np.testing.assert_allclose(frames.timestamps, first + np.arange(40) / 25, atol=1.1e-3)
    assert frames.fps == pytest.approx(25, rel=1e-3)
    assert frames.shape == (40, 48, 66)
    assert (frames.n_frames, frames.complete, frames.warnings) == (40, True, [])
    assert frames.grey == ("stored" if pixels == "gray" else "luma")
    assert frames.dtype == np.uint8


def test_h264_with_b_frames_in_avi_has_increasing_times(tmp_path: Path) -> None:
    if "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg cannot encode H.264")
    frames, got = everything(write_film(tmp_path / "a.avi", scene(40), "libx264", "yuv420p", b_frames=2))
    assert len(got) == 40
    np.testing.assert_allclose(np.diff(frames.timestamps), 1 / 25, atol=1e-9)
    assert frames.warnings == []


def test_frames_without_times_get_them_from_the_rate(tmp_path: Path) -> None:
    if "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg cannot encode H.264")
    frames, _ = everything(write_film(tmp_path / "raw.h264", scene(20), "libx264", "yuv420p"))
    np.testing.assert_allclose(frames.timestamps, np.arange(20) / 25)
    assert frames.warnings == [
        "states no length: if its end is missing, that does not show",
        "20 frames carry no time of their own: it follows from the rate",
    ]


@pytest.mark.parametrize(("n", "overlap"), [(1, 0), (7, 0), (7, 3), (16, 15), (40, 1), (64, 0)])
def test_chunks_are_consecutive_and_overlap(tmp_path: Path, n: int, overlap: int) -> None:
    film = write_film(tmp_path / "a.mkv", scene(40), "ffv1", "gray")
    frames = open_frames(film)
    at = 0
    for chunk in frames.chunks(n, overlap=overlap):
        np.testing.assert_array_equal(chunk, scene(40)[at : at + len(chunk)])
        assert chunk.flags.c_contiguous
        assert chunk.flags.writeable
        assert len(frames.timestamps) == at + len(chunk)
        assert len(chunk) == min(n, 40 - at)
        chunk[:] = 0  # what the consumer does with a chunk is its own affair
        at += len(chunk) - overlap
    assert at + overlap == 40
    np.testing.assert_array_equal(np.concatenate(list(frames.chunks(9))), scene(40))  # again, from the start


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_luma_fills_uint16(tmp_path: Path, bits: int) -> None:
    picture = np.random.default_rng(bits).integers(0, 1 << bits, (3, 48, 66)).astype(np.uint16) << (16 - bits)
    film = write_film(tmp_path / "deep.mkv", picture, "ffv1", f"gray{bits}le")
    with av.open(str(film)) as container:
        stored = np.stack([np.frombuffer(f.planes[0], np.uint16).reshape(48, -1)[:, :66] for f in container.decode()])
    frames, got = everything(film)
    assert frames.dtype == np.uint16
    np.testing.assert_array_equal(got, stored << (16 - bits))
    assert got.max() > 60000


@pytest.mark.parametrize("pixels", ["yuyv422", "uyvy422"])
def test_packed_yuv_gives_its_luma(tmp_path: Path, pixels: str) -> None:
    film = write_film(tmp_path / "packed.nut", scene(3), "rawvideo", pixels)
    with av.open(str(film)) as container:
        samples = [np.frombuffer(f.planes[0], np.uint8).reshape(48, -1) for f in container.decode()]
    frames, got = everything(film)
    assert frames.grey == "luma"
    np.testing.assert_array_equal(got, [s[:, pixels.startswith("u") : 2 * 66 : 2] for s in samples])


@pytest.mark.parametrize(("name", "codec", "pixels"), [("a.avi", "rawvideo", "bgr24"), ("a.mkv", "ffv1", "bgr0")])
def test_rgb_films_are_converted_as_opencv_does(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    frames, got = everything(write_film(tmp_path / name, colours(4), codec, pixels))
    assert frames.grey == "bgr2gray"
    np.testing.assert_array_equal(got, [cv2.cvtColor(c, cv2.COLOR_BGR2GRAY) for c in colours(4)])


def test_bgr2gray_of_a_yuv_film_is_what_opencv_reads(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", colours(10), "mpeg4", "yuv420p")
    frames, got = everything(film, grey="bgr2gray")
    assert frames.grey == "bgr2gray"
    capture = cv2.VideoCapture(str(film))
    same_as_opencv_reads(got, [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY) for _ in got])
    assert not capture.read()[0]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_films_stand_upright(tmp_path: Path, rotation: int) -> None:
    film = write_film(tmp_path / "a.mp4", colours(3), "mpeg4", "yuv420p")
    data = bytearray(film.read_bytes())
    matrix = data.index(b"tkhd") + 44
    assert struct.unpack_from(">5i", data, matrix) == (1 << 16, 0, 0, 0, 1 << 16)
    cosine, sine = (round(f(np.radians(rotation))) << 16 for f in (np.cos, np.sin))
    struct.pack_into(">5i", data, matrix, cosine, sine, 0, -sine, cosine)
    film.write_bytes(data)
    _, got = everything(film, grey="bgr2gray")
    ok, picture = cv2.VideoCapture(str(film)).read()
    assert ok
    same_as_opencv_reads(got[:1], [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)])
    assert open_frames(film, crop=(2, 4, 10, 12)).shape == (3, 12, 10)


# Times


def test_rate_of_a_film_that_counts_in_milliseconds(tmp_path: Path) -> None:
    stamps = [round(i * 1000 / 150) for i in range(60)]
    frames, _ = everything(write_film(tmp_path / "a.mkv", scene(60), "ffv1", "gray", rate=150, stamps=stamps))
    assert frames.fps == pytest.approx(150, rel=2e-3)  # the median interval, 7 ms, would say 143
    np.testing.assert_allclose(frames.timestamps, np.array(stamps) / 1000)
    assert frames.warnings == []


def test_gap_is_reported_and_nothing_is_filled_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stamps = [20 * (i + 3 * (i > 24)) for i in range(40)]
    film = write_film(tmp_path / "a.mkv", scene(40), "ffv1", "gray", rate=50, stamps=stamps)
    with caplog.at_level(logging.WARNING, "mmme_fast"):
        frames, got = everything(film)
    assert len(got) == 40
    gap = "gaps in time: 1, about 3 frames missing; the longest, 0.080 s, follows frame 24"
    assert gap in frames.warnings
    assert f"{film}: {gap}" in caplog.messages
    assert frames.complete
    count = len(caplog.messages)
    list(frames.chunks())
    assert len(caplog.messages) == count == len(frames.warnings)  # a second pass says nothing twice


def test_variable_rate_is_reported(tmp_path: Path) -> None:
    stamps = np.cumsum([40, 33] * 20).tolist()
    frames, _ = everything(write_film(tmp_path / "a.mkv", scene(40), "ffv1", "gray", stamps=stamps))
    assert frames.warnings == ["variable frame rate: intervals of 33 to 40 ms"]
    np.testing.assert_allclose(frames.timestamps, np.array(stamps) / 1000)


def test_rate_that_changes_later_is_reported(tmp_path: Path) -> None:
    stamps = np.cumsum([20] * 550 + [22] * 150).tolist()
    frames, _ = everything(write_film(tmp_path / "a.mkv", scene(700, 16, 16), "ffv1", "gray", stamps=stamps))
    assert frames.fps == pytest.approx(50)
    assert any("whole film has 48.9" in text and "first frames 50" in text for text in frames.warnings)


def test_time_that_runs_backwards_is_reported(tmp_path: Path) -> None:
    names = [f"2021-7-13-15-31-24-{ms}-x{i}-101.png" for i, ms in enumerate([0, 20, 20, 60, 80, 100])]
    for name in names:
        cv2.imwrite(str(tmp_path / name), scene(1)[0])
    frames, _ = everything(tmp_path)
    assert "time does not advance at 1 frames, the first of them frame 2" in frames.warnings


def test_names_with_colons_and_percent_signs_are_no_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no colons in file names")
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "a.avi", scene(3), "ffv1", "gray").rename("http:50%03d.avi")
    _, got = everything("http:50%03d.avi")
    np.testing.assert_array_equal(got, scene(3))


def test_given_fps_replaces_the_times(tmp_path: Path) -> None:
    frames, _ = everything(write_film(tmp_path / "a.mp4", scene(20), "mpeg4", "yuv420p"), fps=150)
    assert frames.fps == 150
    np.testing.assert_array_equal(frames.timestamps, np.arange(20) / 150)
    assert frames.warnings == ["fps=150 was given and replaces the 25 frames per second of the source"]


def test_arrays_have_times_only_by_fps() -> None:
    frames, _ = everything(scene(20))
    assert frames.fps is None
    assert frames.timestamps.shape == (20,)
    assert np.isnan(frames.timestamps).all()
    assert frames.warnings == []
    frames, _ = everything(scene(20), fps=200.0)
    np.testing.assert_array_equal(frames.timestamps, np.arange(20) / 200)
    with pytest.raises(ValueError, match="read-only"):
        frames.timestamps[0] = 1


# Folders and TIFF


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(s, k) for s in (".tif", ".TIFF", ".png", ".jpg", ".bmp") for k in ("grey", "colour")]
    + [(".tif", "uint16"), (".png", "uint16")],
)
def test_folder_of_images(tmp_path: Path, suffix: str, kind: str) -> None:
    pictures = {"grey": scene(12), "colour": colours(12), "uint16": scene(12).astype(np.uint16) * 257 + 3}[kind]
    write_folder(tmp_path, pictures, suffix)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / f"._frame3{suffix}").write_bytes(b"what macOS leaves")
    frames, got = everything(tmp_path)
    files = [tmp_path / f"frame{i}{suffix}" for i in range(12)]  # 2 before 10
    if suffix == ".jpg":  # two decoders of a lossy format; OpenCV, too, takes the luma plane
        expected = np.stack([cv2.imread(str(f), cv2.IMREAD_GRAYSCALE) for f in files])
        assert np.abs(got.astype(int) - expected).max() <= 2
        assert frames.grey == ("stored" if kind == "grey" else "luma")
    else:
        expected = pictures if pictures.ndim == 3 else [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in pictures]
        np.testing.assert_array_equal(got, expected)
        assert frames.dtype == pictures.dtype
    assert frames.shape == (12, 48, 66)
    assert (frames.complete, frames.warnings) == (True, [])


def test_names_of_mmme_give_times_and_order(tmp_path: Path) -> None:
    clock = [(59, 993), (59, 999), (60, 6), (60, 13), (60, 20), (60, 46), (60, 53), (60, 60)]  # s, ms; 3 frames lost
    for i, (second, ms) in enumerate(clock):
        stamp = f"2021-12-31-23-59-{second}" if second < 60 else "2022-1-1-0-0-0"
        cv2.imwrite(str(tmp_path / f"{stamp}-{ms}-c{99 - i}-101.tif"), scene(8)[i])
    frames, got = everything(tmp_path)
    np.testing.assert_array_equal(got, scene(8))
    np.testing.assert_allclose(frames.timestamps, [s + ms / 1000 - 59.993 for s, ms in clock], atol=1e-9)
    assert frames.fps == pytest.approx(1000 / (67 - 26) * 6, rel=1e-9)
    assert frames.warnings == ["gaps in time: 1, about 3 frames missing; the longest, 0.026 s, follows frame 4"]


def test_names_that_only_partly_state_times_are_reported(tmp_path: Path) -> None:
    for name in ("2021-7-13-15-31-24-7-c-101", "2021-7-13-15-31-24-27-c-101", "2021-13-45-15-31-24-40-c-101"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), scene(1)[0])
    frames, _ = everything(tmp_path)
    assert frames.fps is None
    assert frames.warnings == ["only 2 of 3 file names state a time, so none is used"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])  # none, LZW, deflate, PackBits
@pytest.mark.parametrize("colour", [False, True])
def test_multi_page_tiff_by_opencv(tmp_path: Path, dtype: type, compression: int, colour: bool) -> None:
    pages = (colours(5) if colour else scene(5)).astype(dtype) * (257 if dtype is np.uint16 else 1)
    path = tmp_path / "stack.tif"
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 7]
    assert cv2.imwritemulti(str(path), list(pages), options)
    frames, got = everything(path, n=2)
    np.testing.assert_array_equal(got, [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in pages] if colour else pages)
    assert (frames.declared, frames.n_frames, frames.dtype) == (5, 5, dtype)
    assert np.isnan(frames.timestamps).all()


TIFFS = [
    (compression, dtype, layout)
    for compression in (None, "zlib")
    for dtype in ("uint8", "uint16")
    for layout in ("minisblack", "miniswhite", "rgb", "separate")
] + [(None, "float32", "minisblack")]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("compression", "dtype", "layout"), TIFFS)
def test_tiff_variants_by_tifffile(
    tmp_path: Path, order: Any, big: bool, compression: str | None, dtype: str, layout: str
) -> None:
    tifffile = pytest.importorskip("tifffile")
    rng = np.random.default_rng(0)
    pixels = rng.random((3, 3, 37, 53)) if layout in ("rgb", "separate") else rng.random((3, 37, 53))
    pages = (pixels * {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]).astype(dtype)
    options: dict[str, Any] = {"photometric": "rgb" if layout == "separate" else layout, "compression": compression}
    if layout in ("rgb", "separate"):
        options["planarconfig"] = "contig" if layout == "rgb" else "separate"
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as writer:
        for page in pages:
            stored = np.moveaxis(page, 0, -1) if layout == "rgb" else page
            writer.write(stored, contiguous=False, rowsperstrip=5, description="page", **options)
    _, got = everything(path)
    if layout in ("rgb", "separate"):
        expected = [cv2.cvtColor(np.ascontiguousarray(np.moveaxis(p, 0, -1)), cv2.COLOR_RGB2GRAY) for p in pages]
    else:
        expected = np.iinfo(dtype).max - pages if layout == "miniswhite" else pages
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == dtype


def test_tiff_thumbnails_are_no_frames(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in scene(3):
            writer.write(page, contiguous=False)
            writer.write(page[::4, ::4], contiguous=False, subfiletype=1)
    _, got = everything(tmp_path / "a.tif")
    np.testing.assert_array_equal(got, scene(3))


def test_only_the_rows_of_the_crop_are_read_of_an_uncompressed_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    page = scene(1, 60, 40)[0]
    tifffile.imwrite(tmp_path / "a.tif", page, rowsperstrip=7, photometric="minisblack")
    read: list[int] = []

    class File(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            read.append(super().readinto(buffer))
            return read[-1]

    with File(tmp_path / "a.tif") as file:
        (tiff,) = _TiffPage.walk(file)
        got = tiff.picture(file, (5, 11, 20, 30), "luma", 0.0, "", _Scratch())
    np.testing.assert_array_equal(got.pixels, page[11:41, 5:25])
    assert got.full == page.shape
    assert read == [30 * 40]
    # Rows that nobody wants must be there all the same.
    data = (tmp_path / "a.tif").read_bytes()
    for i in range(3):
        (tmp_path / f"{i}.tif").write_bytes(data[:-50] if i == 2 else data)
    (tmp_path / "a.tif").unlink()
    frames = open_frames(tmp_path, crop=(5, 11, 20, 30))
    assert sum(map(len, frames.chunks())) == 2
    assert "2.tif cannot be decoded: the file ends within a page" in frames.warnings[0]


@pytest.mark.parametrize("other", ["strips", "byteorder", "longer", "size of the page"])
def test_a_tiff_laid_out_otherwise_among_equal_ones(tmp_path: Path, other: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pages = scene(6, 60, 40)
    pages[4] = pages[3]
    for i, page in enumerate(pages):
        different = i == 3
        tifffile.imwrite(
            tmp_path / f"{i}.tif",
            page.T if different and other == "size of the page" else page,
            photometric="minisblack",
            rowsperstrip=7 if different and other == "strips" else 60,
            byteorder=">" if different and other == "byteorder" else "<",
        )
        if different and other == "longer":
            with (tmp_path / f"{i}.tif").open("ab") as file:
                file.write(bytes(9))
    frames = open_frames(tmp_path, crop=(5, 11, 20, 24))
    if other == "size of the page":
        with pytest.raises(ValueError, match=r"3\.tif is 60x40 uint8, the first is 40x60"):
            list(frames.chunks())
    else:
        np.testing.assert_array_equal(np.concatenate(list(frames.chunks(4))), pages[:, 11:35, 5:25])


# Arrays


def test_a_chunk_stays_as_it_is_while_anything_refers_to_it() -> None:
    film = scene(200, 16, 16)
    frames = open_frames(film)
    kept: list[Any] = []
    for number, chunk in enumerate(frames.chunks(4)):
        if number % 10 == 0:
            kept.append((number, [chunk, chunk[1:, ::2], memoryview(chunk)][number // 10 % 3]))
    for number, part in kept:
        whole = film[4 * number : 4 * number + 4]
        np.testing.assert_array_equal(np.asarray(part), whole[1:, ::2] if part.shape[0] == 3 else whole)
    assert len(kept) == 5


def test_new_arrays_take_memory_that_nothing_refers_to() -> None:
    fresh = _Fresh((4, 3), np.dtype("u1"))
    first = fresh()
    place, part = first.ctypes.data, first[1:]
    del first
    second = fresh()
    assert second.ctypes.data != place
    del part
    assert fresh().ctypes.data == place


def test_npy_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", scene(600, 16, 16))
    frames, got = everything(tmp_path / "film.npy", n=100, crop=(3, 2, 9, 11))
    np.testing.assert_array_equal(got, scene(600, 16, 16)[:, 2:13, 3:12])
    assert (frames.fps, frames.grey, frames.shape) == (None, "stored", (600, 11, 9))


@pytest.mark.parametrize("dtype", [">u2", "<u2", "f2", ">f4", "f8"])
def test_arrays_of_other_dtypes_become_native(dtype: str) -> None:
    film = (scene(5) / 255).astype(dtype) if "f" in dtype else scene(5).astype(dtype) * 257
    before = film.copy()
    _, got = everything(film)
    assert got.dtype == (np.float32 if "f" in dtype else np.uint16)
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, film.astype(got.dtype))
    np.testing.assert_array_equal(film, before)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]), st.integers(8, 40), st.integers(8, 40))
@settings(max_examples=20, deadline=None)
def test_rgb_arrays_match_opencv_to_the_bit(seed: int, dtype: type, height: int, width: int) -> None:
    film = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (2, height, width, 3)).astype(dtype)
    film[0, :2] = np.iinfo(dtype).max
    frames, got = everything(film)
    assert frames.grey == "bgr2gray"
    np.testing.assert_array_equal(got, [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in film])


def test_large_and_float_rgb_arrays_match_opencv() -> None:
    film = np.random.default_rng(0).random((2, 300, 700, 3))
    _, got = everything(film)
    expected = [cv2.cvtColor(f.astype(np.float32), cv2.COLOR_RGB2GRAY) for f in film]
    np.testing.assert_allclose(got, expected, atol=2e-7)
    _, got = everything((film * 255).astype(np.uint8))
    np.testing.assert_array_equal(got, [cv2.cvtColor((f * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for f in film])


# Crop and size


def test_crop_is_a_part_of_the_frame() -> None:
    frames, got = everything(scene(4), crop=(5, 7, 20, 11))
    np.testing.assert_array_equal(got, scene(4)[:, 7:18, 5:25])
    assert frames.crop == (5, 7, 20, 11)
    for whole in (None, "full"):
        assert open_frames(scene(4), crop=whole).crop == (0, 0, 66, 48)


def area_means(picture: Array, after: int, axis: int) -> Array:
    """Means over equal parts of an axis: exact, by repeating each sample."""
    repeated = np.repeat(picture.astype(np.float64), after, axis)
    shape = list(picture.shape)
    shape[axis : axis + 1] = [after, picture.shape[axis]]
    return repeated.reshape(shape).mean(axis + 1)


@given(st.integers(8, 60), st.integers(8, 60), st.integers(8, 60), st.sampled_from(["uint8", "uint16", "float32"]))
@settings(max_examples=40, deadline=None)
def test_shrinking_averages_areas(height: int, width: int, size: int, dtype: str) -> None:
    size = min(size, max(height, width))
    after = [round(side * size / max(height, width)) for side in (height, width)]
    film = np.random.default_rng(height * width).random((2, height, width)) * {"uint8": 255, "uint16": 65535}.get(
        dtype, 1
    )
    film = film.astype(dtype)
    if min(after) < 8:
        with pytest.raises(ValueError, match="size must leave at least 8 pixels per side"):
            open_frames(film, size=size)
        return
    _, got = everything(film, size=size)
    expected = np.stack([area_means(area_means(f, after[0], 0), after[1], 1) for f in film])
    assert got.dtype == dtype
    assert got.shape == (2, *after)
    tolerance = {"uint8": 0.5001, "uint16": 0.52}.get(dtype, 1e-6)  # rounding to the dtype, and float32
    assert np.abs(got.astype(np.float64) - expected).max() <= tolerance


@pytest.mark.parametrize(("before", "size"), [(100, 64), (97, 31), (96, 32), (60, 100), (33, 64)])
def test_resizing_agrees_with_opencv(before: int, size: int) -> None:
    film = np.random.default_rng(before).integers(0, 256, (2, before, before), np.uint8)
    _, got = everything(film, size=size)
    how = cv2.INTER_AREA if size < before else cv2.INTER_LINEAR
    expected = np.stack([cv2.resize(f, (size, size), interpolation=how) for f in film])
    assert np.abs(got.astype(int) - expected).max() <= 1  # OpenCV's fixed point, and its rounding of halves


def test_size_keeps_the_aspect_ratio_and_constant_frames() -> None:
    film = np.full((2, 90, 160), 255, np.uint8)
    for size in (40, 64, 200):
        frames, got = everything(film, size=size)
        assert frames.shape == (2, round(size * 90 / 160), size)
        assert (got == 255).all()
    assert open_frames(film, crop=(0, 0, 90, 90), size=32).shape == (2, 32, 32)


def test_auto_crop_finds_a_face() -> None:
    data = pytest.importorskip("skimage.data")
    pictures = np.stack([data.astronaut()] * 3)  # the face is at x 180-270, y 70-190
    frames, got = everything(pictures, crop="auto", size=64)
    x, y, width, height = frames.crop
    assert width == height
    assert got.shape == (3, 64, 64)
    assert x < 190 < 250 < x + width < 350
    assert y < 90 < 170 < y + height < 260
    deep = open_frames(pictures.astype(np.uint16) * 16, crop="auto")  # a 12-bit camera in 16 bits
    assert np.abs(np.subtract(deep.crop, frames.crop)).max() < 40
    late = np.concatenate([np.zeros((20, 512, 512, 3), np.uint8), pictures])
    assert open_frames(late, crop="auto").crop == frames.crop


def test_auto_crop_without_a_face_names_the_ways_out() -> None:
    pytest.importorskip("skimage")
    with pytest.raises(
        ValueError, match=r'found no face in the first 30 frames of array, 0 to 29: give crop="full", crop='
    ):
        open_frames(scene(40), crop="auto")


def test_auto_crop_without_a_detector_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ImportError, match=r'pip install "mmme_fast\[face\]", or give crop="full"'):
        open_frames(scene(40), crop="auto")


# Reading ahead


def test_reading_ahead_is_bounded_and_stops_with_its_consumer() -> None:
    before = threading.active_count()
    frames = open_frames(scene(400, 8, 8))
    read = []
    original = frames._source.read

    def counted(box: Any, threads: int) -> Any:
        for picture in original(box, threads):
            read.append(picture.name)
            yield picture

    frames._source.read = counted  # type: ignore[method-assign]
    chunks = frames.chunks(10)
    assert not read  # nothing runs before it is asked for
    next(chunks)
    deadline = time.monotonic() + 10
    while len(read) < 60 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(read) == 60  # given out, four waiting, about to wait
    assert threading.active_count() == before + 1
    chunks.close()
    assert threading.active_count() == before
    assert len(read) <= 70
    chunks = frames.chunks(10)
    next(chunks)
    del chunks
    assert threading.active_count() == before


def test_decoding_takes_the_threads_of_its_consumer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of Dask or joblib defaults to one thread, which the thread that decodes cannot know of itself."""
    asked = set()
    monkeypatch.setattr("mmme_fast.frames.get_num_threads", lambda: asked.add(threading.current_thread()) or 1)
    film = write_film(tmp_path / "a.avi", scene(6), "mpeg4", "yuv420p")
    for source in (write_folder(tmp_path / "folder", scene(6)), film):
        assert sum(len(chunk) for chunk in open_frames(source).chunks(4)) == 6
    assert asked == {threading.current_thread()}


def test_abandoned_passes_leave_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    stack = tmp_path / "stack.tif"
    assert cv2.imwritemulti(str(stack), list(scene(40)))
    film = write_film(tmp_path / "a.avi", scene(40), "mpeg4", "yuv420p")
    for source in (write_folder(tmp_path / "folder", scene(40)), stack, film):
        for chunk in open_frames(source).chunks(4):
            assert len(chunk) == 4
            break
        assert threading.active_count() == before


def test_error_in_the_thread_reaches_the_consumer_after_the_frames_before() -> None:
    film = (scene(50) / 255).astype(np.float32)
    film[33, 5, 5] = np.inf
    frames = open_frames(film)
    seen = []
    with pytest.raises(ValueError, match="array must be finite, got NaN or infinity in frame 33"):
        seen.extend(frames.chunks(8))
    np.testing.assert_array_equal(np.concatenate(seen), film[:33])
    assert frames.n_frames is None


def test_two_passes_at_once_are_independent() -> None:
    frames = open_frames(scene(30))
    for a, b in zip(frames.chunks(5), frames.chunks(5), strict=True):
        np.testing.assert_array_equal(a, b)


# Damage


@pytest.mark.parametrize(("name", "codec", "pixels", "b_frames"), FILMS, ids=[f[0] for f in FILMS])
def test_truncated_film_gives_the_frames_before_the_break(
    tmp_path: Path, name: str, codec: str, pixels: str, b_frames: int
) -> None:
    film = write_film(tmp_path / name, scene(60), codec, pixels, b_frames=b_frames)
    whole = everything(film)[1]
    data = film.read_bytes()
    index = data.find(b"moov")  # of an MP4 or MOV: at the end of the file
    film.write_bytes(data[: int(0.7 * (index if index >= 0 else len(data)))])
    if index >= 0:
        with pytest.raises(ValueError, match=r"a\.(mp4|mov) is not a film that FFmpeg can read"):
            open_frames(film)
        return
    frames, got = everything(film)
    assert 20 < len(got) < 60
    # A B-frame that is cut off leaves the frame after it behind: real, but no longer next to its neighbours.
    known = len(got) - (1 if b_frames else 0)
    np.testing.assert_array_equal(got[:known], whole[:known])
    assert frames.complete is False
    assert frames.n_frames == len(got) == frames.shape[0]
    assert any("breaks off after" in text or "declares" in text for text in frames.warnings)


def test_damage_in_the_middle_of_a_film_ends_it(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.avi", scene(60), "mpeg4", "yuv420p")
    whole = everything(film)[1]
    data = bytearray(film.read_bytes())
    with av.open(str(film)) as container:
        packet = [p for p in container.demux() if p.size][30]
    data[packet.pos + 20 : packet.pos + packet.size] = bytes(packet.size - 20)
    film.write_bytes(data)
    frames, got = everything(film)
    np.testing.assert_array_equal(got, whole[:30])
    assert frames.complete is False
    assert frames.warnings[0].startswith("breaks off after 30 frames: ")


def test_declared_but_missing_frames_are_reported(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.avi", scene(20), "mjpeg", "yuvj420p")
    data = bytearray(film.read_bytes())
    length = data.index(b"strh") + 8 + 32
    assert struct.unpack_from("<I", data, length) == (20,)
    struct.pack_into("<I", data, length, 25)
    film.write_bytes(data)
    frames = open_frames(film)
    assert frames.shape == (25, 48, 66)
    assert sum(map(len, frames.chunks())) == 20
    assert frames.shape == (20, 48, 66)
    assert frames.warnings == ["declares 25 frames, holds 20"]
    assert frames.complete is False


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("part", [0, 0.5, 0.98])
def test_corrupt_image_in_the_middle_ends_the_film(tmp_path: Path, suffix: str, part: float) -> None:
    write_folder(tmp_path, scene(9), suffix)
    damaged = tmp_path / f"frame5{suffix}"
    data = damaged.read_bytes()
    damaged.write_bytes(data[: int(part * len(data))])
    whole = np.stack([cv2.imread(str(tmp_path / f"frame{i}{suffix}"), cv2.IMREAD_GRAYSCALE) for i in range(5)])
    frames, got = everything(tmp_path, n=2)
    assert len(got) == 5
    assert np.abs(got.astype(int) - whole).max() <= (2 if suffix == ".jpg" else 0)
    assert frames.complete is False
    assert frames.warnings[0].startswith(f"breaks off after 5 frames: frame5{suffix} cannot be decoded: ")


def test_truncated_stack_gives_the_pages_before_the_break(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    assert cv2.imwritemulti(str(path), list(scene(9)), [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    frames, got = everything(path)
    assert 4 <= len(got) <= 6
    np.testing.assert_array_equal(got, scene(9)[: len(got)])
    assert (frames.declared, frames.complete) == (None, False)
    assert "ends within a page" in frames.warnings[0]


def test_damaged_tiffs_never_crash(tmp_path: Path) -> None:
    """Random bytes in the headers: an error or a break, never a hang or another exception."""
    rng = np.random.default_rng(0)
    path = tmp_path / "stack.tif"
    assert cv2.imwritemulti(str(path), list(scene(3)), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    data = path.read_bytes()
    tables = [i for i in range(len(data) - 8) if data[i : i + 4] == struct.pack("<HH", 256, 3)]
    assert len(tables) == 3
    for _ in range(150):
        bad = bytearray(data)
        bad[int(rng.choice(tables)) + int(rng.integers(-2, 150))] = int(rng.integers(256))
        path.write_bytes(bad)
        with suppress(ValueError):  # anything else fails the test
            everything(path)


# Bad input


def test_missing_path() -> None:
    with pytest.raises(FileNotFoundError, match=r"source must exist, got nowhere/film\.mp4"):
        open_frames("nowhere/film.mp4")


@pytest.mark.parametrize("name", ["film.mp4", "film.avi", "film.npy", "film.tif"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=rf"{name} is empty \(0 bytes\)"):
        open_frames(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("film.mp4", r"film\.mp4 is not a film that FFmpeg can read: Invalid data"),
        ("film.avi", r"film\.avi is not a film that FFmpeg can read: Invalid data"),
        ("film.txt", r"film\.txt has no video stream that FFmpeg can decode"),
        ("film.npy", r"film\.npy is not a \.npy file that can be mapped"),
        ("film.tif", r"film\.tif must hold at least 2 frames, got 0: it is no TIFF"),
    ],
)
def test_text_named_as_a_film(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text("This is a text.\n" * 200)
    with pytest.raises(ValueError, match=text):
        open_frames(tmp_path / name)


def test_film_without_frames(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.avi", scene(2), "mjpeg", "yuvj420p")
    data = film.read_bytes()
    film.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(ValueError, match=r"a\.avi must hold at least 2 frames, got 0|is not a film"):
        open_frames(film)


def test_film_of_one_frame(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.avi must hold at least 2 frames, got 1"):
        open_frames(write_film(tmp_path / "a.avi", scene(1), "mjpeg", "yuvj420p"))


def test_sound_without_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"sound\.mp4 has no video stream that FFmpeg can decode"):
        open_frames(path)


def test_folders_that_are_no_film(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold at least 2 images \(\.bmp, .*\), got 0"):
        open_frames(tmp_path)
    write_folder(tmp_path, scene(1))
    with pytest.raises(ValueError, match=r"must hold at least 2 images .*, got 1"):
        open_frames(tmp_path)
    write_folder(tmp_path, scene(3), ".bmp")
    with pytest.raises(ValueError, match="must hold one kind of image, got bmp and png"):
        open_frames(tmp_path)


@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("crop", [None, (0, 0, 20, 20)])
def test_folder_of_mixed_sizes(tmp_path: Path, at: int, crop: Any) -> None:
    write_folder(tmp_path, scene(6))
    cv2.imwrite(str(tmp_path / f"frame{at}.png"), scene(1, 40, 50)[0])
    with pytest.raises(ValueError, match=rf"must be alike: frame{at}\.png is 50x40 uint8, the first is 66x48 uint8"):
        everything(tmp_path, crop=crop)


def test_folder_of_mixed_depths(tmp_path: Path) -> None:
    write_folder(tmp_path, scene(6))
    cv2.imwrite(str(tmp_path / "frame3.png"), scene(1)[0].astype(np.uint16))
    with pytest.raises(ValueError, match=r"frame3\.png is 66x48 uint16, the first is 66x48 uint8"):
        everything(tmp_path)


def test_multi_page_tiff_in_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, scene(3), ".tif")
    assert cv2.imwritemulti(str(tmp_path / "frame2.tif"), list(scene(2)))
    with pytest.raises(ValueError, match=r"frame2\.tif must hold one page; open a multi-page TIFF by itself"):
        everything(tmp_path)


@pytest.mark.parametrize(
    ("array", "error", "text"),
    [
        (
            np.zeros((48, 66), np.uint8),
            ValueError,
            r"\(frame, y, x\) grey or \(frame, y, x, 3\) RGB, got shape \(48, 66\)",
        ),
        (np.zeros((4, 48, 66, 4), np.uint8), ValueError, r"got shape \(4, 48, 66, 4\)"),
        (np.zeros((4, 48, 66), np.int64), TypeError, "array must be uint8, uint16 or float, got int64"),
        (np.zeros((4, 48, 66), bool), TypeError, "got bool"),
        (np.zeros((4, 48, 66), complex), TypeError, "got complex128"),
        (np.zeros((4, 48, 66), object), TypeError, "got object"),
        (np.zeros((0, 48, 66), np.uint8), ValueError, "array must hold at least 2 frames, got 0"),
        (np.zeros((1, 48, 66), np.uint8), ValueError, "array must hold at least 2 frames, got 1"),
        (np.zeros((4, 0, 0), np.uint8), ValueError, "frames of array must be at least 8x8 pixels, got 0x0"),
        (np.zeros((4, 1, 1), np.uint8), ValueError, "frames of array must be at least 8x8 pixels, got 1x1"),
        (np.full((4, 48, 66), np.nan), ValueError, "array must be finite, got NaN or infinity in frame 0"),
        (np.full((4, 48, 66), -np.inf, np.float32), ValueError, "array must be finite"),
        ([[1, 2], [3, 4]], TypeError, "source must be a path or a NumPy array, got list"),
        (None, TypeError, "source must be a path or a NumPy array, got NoneType"),
    ],
    ids=lambda value: None,
)
def test_bad_arrays(array: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        open_frames(array)


def test_bad_npy_files(tmp_path: Path) -> None:
    path = tmp_path / "film.npy"
    np.save(path, np.zeros((3, 9, 9), object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"film\.npy is not a \.npy file that can be mapped"):
        open_frames(path)
    np.save(path, scene(9))
    whole = path.read_bytes()
    for damaged in (
        whole.replace(b"'shape'", b"'shap'\n"),
        whole.replace(b"), }", b"(, }"),
        whole.replace(b"NUMPY", b"NUMBY"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"film\.npy is not a \.npy file that can be mapped"):
            open_frames(path)
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"film\.npy is not a \.npy file that can be mapped"):
        open_frames(path)
    np.save(path, np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match=r"film\.npy must be \(frame, y, x\) grey"):
        open_frames(path)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"crop": (60, 0, 20, 20)}, ValueError, r"crop must lie within the frame of 66x48, got \(60, 0, 20, 20\)"),
        ({"crop": (0, -1, 20, 20)}, ValueError, r"crop must lie within the frame of 66x48"),
        ({"crop": (0, 0, 0, 0)}, ValueError, r"crop must be at least 8x8 pixels, got \(0, 0, 0, 0\)"),
        ({"crop": "face"}, ValueError, r"crop must be \"auto\", \"full\" or \(x, y, width, height\)"),
        ({"crop": (1, 2, 3)}, TypeError, r"in whole pixels, got \(1, 2, 3\)"),
        ({"crop": (0, 0, 20.5, 20)}, TypeError, "in whole pixels"),
        ({"crop": 5}, TypeError, "in whole pixels, got 5"),
        ({"size": 7}, ValueError, "size must be at least 8, got 7"),
        ({"size": 10}, ValueError, "size must leave at least 8 pixels per side, got size=10 for a crop of 66x48"),
        ({"size": 12.5}, TypeError, "size must be a whole number, got 12.5"),
        ({"fps": 0}, ValueError, "fps must be above 0, got 0"),
        ({"fps": float("nan")}, ValueError, "fps must be above 0, got nan"),
        ({"fps": "25"}, TypeError, "fps must be a number, got '25'"),
        ({"grey": "lumen"}, ValueError, "grey must be one of 'luma', 'bgr2gray', got 'lumen'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_bad_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        open_frames(scene(4), **options)


@pytest.mark.parametrize(
    ("n", "overlap", "text"),
    [
        (0, 0, "n must be at least 1, got 0"),
        (4, 4, "overlap must be at least 0 and at most 3, got 4"),
        (4, -1, "overlap must be at least 0"),
    ],
)
def test_bad_chunks(n: int, overlap: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        open_frames(scene(4)).chunks(n, overlap=overlap)


# Real inputs


@pytest.mark.parametrize(
    ("name", "count", "fps", "said"),
    [
        ("evm_face.mp4", 301, 30, []),
        ("pyfeat_single_face.mp4", 72, 30, []),
        ("grid_bbaf2n.mpg", 75, 25, []),
        ("pyfeat_face_noface.mov", 169, 26.3, ["variable frame rate"]),
        ("clm_changeLighting.wmv", 88, 15, ["declares about 89 frames, holds 88", "variable frame rate"]),
        ("mousavi_kinect_depth_face_mjpeg.avi", 196, 30, []),
    ],
)
def test_real_films(shared_data: Path, name: str, count: int, fps: float, said: list[str]) -> None:
    film = shared_data / "video" / name
    frames, got = everything(film, crop=(8, 8, 100, 100))
    capture, expected = cv2.VideoCapture(str(film)), []
    while (read := capture.read())[0]:
        expected.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY)[8:108, 8:108])
    assert len(got) == len(expected) == count == frames.n_frames
    same_as_opencv_reads(everything(film, grey="bgr2gray", crop=(8, 8, 100, 100))[1], expected)
    assert frames.fps == pytest.approx(fps, rel=5e-3)
    assert frames.complete
    assert (np.diff(frames.timestamps) > 0).all()
    assert [text[: len(start)] for text, start in zip(frames.warnings, said, strict=True)] == said


@pytest.mark.parametrize("name", ["ptv_test_cavity_cam1", "timelapse_uint16"])
def test_real_folders(shared_data: Path, name: str) -> None:
    folder = shared_data / "tiff" / name
    frames, got = everything(folder, fps=10)
    expected = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.iterdir())]
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected[0].dtype
    assert (len(got), frames.complete, frames.warnings) == (5, True, [])


@pytest.mark.parametrize(
    ("name", "eyes"),  # (x, y) of both, by hand
    [
        ("evm_face.mp4", [(185, 240), (335, 250)]),
        ("pyfeat_single_face.mp4", [(258, 170), (342, 166)]),
        ("grid_bbaf2n.mpg", [(130, 158), (183, 157)]),
        ("pyfeat_face_noface.mov", [(387, 252), (505, 250)]),
        ("clm_changeLighting.wmv", [(265, 185), (370, 188)]),
    ],
)
def test_auto_crop_of_real_films_holds_the_face(shared_data: Path, name: str, eyes: list[tuple[int, int]]) -> None:
    pytest.importorskip("skimage")
    x, y, width, height = open_frames(shared_data / "video" / name, crop="auto").crop
    assert width == height
    between = eyes[1][0] - eyes[0][0]
    for eye in eyes:
        assert x + 0.1 * width < eye[0] < x + 0.9 * width
        assert y + 0.15 * height < eye[1] < y + 0.6 * height
    assert 1.8 * between < width < 4 * between
