"""Films, folders of images, TIFF stacks and arrays as chunks of grey frames, each frame with its time.

A source is read in sequence, once per pass, by a thread of its own that runs a few chunks ahead, so memory does not
grow with the film. Nothing is invented and nothing dropped: a damaged film gives every frame before the damage and then
says that it broke off.
"""

from __future__ import annotations

import logging
import math
import operator
import os
import queue
import re
import struct
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from io import FileIO
from itertools import accumulate, count, islice
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmme_fast import _arrays, _faces
from mmme_fast._arrays import MIN_SIZE
from mmme_fast._backend import get_num_threads
from mmme_fast._faces import Box
from mmme_fast._files import map_npy

__all__ = ["Frames", "open_frames"]

Array = NDArray[Any]
Grey = Literal["luma", "bgr2gray"]
Pictures = Generator["_Picture", None, None]

_log = logging.getLogger("mmme_fast")

_DECODERS = {".bmp": "bmp", ".jpeg": "mjpeg", ".jpg": "mjpeg", ".png": "png", ".tif": "tiff", ".tiff": "tiff"}
IMAGES = tuple(_DECODERS)
FILMS = (
    ".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv",
)  # fmt: skip
# The decoders of still images would rather show half a picture than fail; a measurement needs the failure.
_STRICT = {"err_detect": "explode+crccheck"}
# Containers and file names often count time in milliseconds: a step of that size says nothing about the camera.
_TICK = 1e-3
_DIGITS = re.compile(r"(\d+)")
# Bytes of chunks that may wait to be taken, at least one and at most four chunks: who takes them works in bursts, on a
# span of some seconds at a time, and meanwhile the decoder must not come to a stand.
_WAITING = 1 << 25
_AROUND = 1 << 16  # bytes of a TIFF beside its pixels, at most, that are compared to know its layout again


def open_frames(
    source: str | os.PathLike[str] | Array,
    *,
    crop: Literal["auto", "full"] | Box | None = None,
    size: int | None = None,
    fps: float | None = None,
    landmarks: str | os.PathLike[str] | Array | None = None,
    grey: Grey = "luma",
) -> Frames:
    """Open a film, a folder of images, a TIFF stack, a ``.npy`` file or an array as grey frames.

    Parameters
    ----------
    source : path or ndarray
        - a film in any container that FFmpeg reads (avi, mp4, mov, mkv, wmv, mpg, ...);
        - a folder of bmp, jpg, png or tif images (one kind, one size, one image per file), in natural order
          (``frame2`` before ``frame10``);
        - a multi-page TIFF, 8 or 16 bit, classic or BigTIFF, in strips; uncompressed also float32;
        - a ``.npy`` file (mapped, not loaded) or an array: (frame, y, x) grey or (frame, y, x, 3) RGB, uint8, uint16
          or float (finite; made float32).
    crop : {"auto", "full"} or (x, y, width, height), optional
        The part of the frame to keep, in pixels of the film; the default is the whole frame. "auto" finds the face in
        the first second (the first 30 frames where no rate is known) and takes the square around it; it looks again
        every 2 s and after a cut, moves the square when the face has left its middle (`Frames.faces`), and follows it
        as far as half a side beyond its first place. Needs ``pip install "mmme_fast[face]"``, or landmarks.
    size : int, optional
        The longer side of the result in pixels; the other side keeps the aspect ratio, so a square crop gives
        (size, size). Shrinking averages areas, growing is bilinear; both accumulate in float32 and round to the
        source's dtype.
    fps : float, optional
        Frames per second. Overrides what the source says: the timestamps are then frame number / fps. Needed for times
        where the source has none.
    landmarks : path or array_like, optional
        Where the face is, in pixels of the film, for ``crop="auto"`` instead of the detector, and where the eyes are,
        for `spot`: an array (frame, point, 2) of 68 (dlib, OpenFace), 468 or 478 (MediaPipe), 5 or 2 (the eyes) points
        (x, y), NaN where there is no face; or a CSV file with a row per frame: OpenFace's (frame from 1, success, x_0,
        ..., y_0, ...), MediaPipe's points as frame (from 0), x_0, y_0, x_1, ... in parts of the frame, or boxes as
        frame, x, y, width, height.
    grey : {"luma", "bgr2gray"}, default "luma"
        How a film in YUV becomes grey: the decoder's luma plane as it is, or what OpenCV makes of it, the frame
        converted by FFmpeg to 8-bit BGR and then as by ``cv2.COLOR_BGR2GRAY``. RGB pictures are always converted by
        OpenCV's weights, (9798 R + 19235 G + 3735 B + 16384) >> 15. Samples of 9 to 15 bits are shifted up to fill
        uint16.

    Returns
    -------
    Frames

    Raises
    ------
    FileNotFoundError
        The path does not exist.
    ImportError
        ``crop="auto"`` without the face extra.
    TypeError
        The source or an option has the wrong type or dtype.
    ValueError
        The source is empty, is no film, holds fewer than two frames or frames smaller than 8x8; the crop lies outside
        the frame; no face was found; an option is out of range.

    Notes
    -----
    Times come from the container, one per frame, or from file names of the form
    ``Year-Month-Day-Hour-Minute-Second-Millisecond-Code-Marker`` where all files of a folder have it (then in order of
    time, from 0). Other folders, stacks and arrays have no times unless `fps` gives them.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> film = synth.film(1, fps=50, size=128, seed=1, micro=0, macro=0, blinks=0)
    >>> frames = mf.open_frames(film.frames(), crop=(16, 0, 96, 128), size=64, fps=50)
    >>> frames
    <Frames array: 50 x 64 x 48 uint8, 50 fps, stored>
    >>> [chunk.shape for chunk in frames.chunks(32)]
    [(32, 64, 48), (18, 64, 48)]
    >>> frames.timestamps[:3]
    array([0.  , 0.02, 0.04])
    """
    _arrays.one_of(grey, "grey", ("luma", "bgr2gray"))
    size = None if size is None else _arrays.whole(size, "size", low=MIN_SIZE)
    fps = None if fps is None else _arrays.number(fps, "fps", low=0, open_low=True)
    return Frames(_open(source, grey), crop, size, fps, landmarks)


class Frames:
    """Grey frames with times, read in chunks; made by `open_frames`.

    Attributes
    ----------
    source : str
        The path, or "array".
    fps : float or None
        As given to `open_frames`, else measured when the source was opened, over its first frames: one over the mean of
        the intervals between frames that lie within half of their median, which neither a gap nor a container that
        rounds its times to milliseconds disturbs. None where the source has no times.
    declared : int or None
        Frames that the source says it holds (estimated from its duration where it states no number).
    n_frames : int or None
        Frames that it does hold, known when a pass has reached the end.
    complete : bool or None
        False when the film broke off, holds fewer frames than the number it states, or ends clearly (two frames and
        2 %) before the duration it states; None before the end of a pass.
    warnings : list of str
        What is wrong with the source: broken off, frames missing, gaps, a variable rate. Also in the log, once.
    grey : str
        What the samples are: "luma" (the Y plane of a colour film), "bgr2gray" (converted from RGB by OpenCV's
        weights) or "stored" (the source is grey).
    dtype : numpy.dtype
        uint8, uint16 or float32.
    crop : (x, y, width, height)
        The part of the source's frame in use, of a crop that moves the first.
    faces : list of (int, (x, y, width, height) or None)
        With ``crop="auto"`` the frames from which on the crop is another, as far as read; None from where no face was
        found. Otherwise empty.
    landmarks : object or None
        What was given to `open_frames`, as read.
    names : list of str or None
        The frames' file names without suffix, in order, where the times come from them.
    """

    def __init__(
        self,
        source: _Source,
        crop: Literal["auto", "full"] | Box | None,
        size: int | None,
        fps: float | None,
        landmarks: Any = None,
    ) -> None:
        self._source = source
        self.source = source.name
        self.warnings: list[str] = []
        self.n_frames: int | None = None
        self.complete: bool | None = None
        self.fps = source.rate if fps is None else fps
        self._fps_given = fps is not None
        self.names = source.names if fps is None else None
        self._times = np.empty((2, 0))  # those of timestamps, and those that the source states
        self._known = 0
        self._filled = 0

        first = self._first_two()
        self.grey = first.grey
        self.declared = source.declared
        self.landmarks = None if landmarks is None else _faces.Landmarks(landmarks, first.full)
        self.faces: list[tuple[int, Box | None]] = []
        self._finder: Callable[[int, int], _faces.Find] | None = None
        self._read: Box  # the part of the frame that is decoded
        if crop == "auto":
            if self.landmarks is not None:
                self._finder = self.landmarks.finder
            else:
                detect = _faces.detector(lambda picture, shape: _Resize(picture.shape, shape)(picture))
                self._finder = lambda left, top: detect
            self.crop: Box = self._find_face(self._finder(0, 0))
            self._read = _faces.around(self.crop, first.full)
        else:
            self.crop = self._read = _checked_crop(crop, first.full)
        width, height = self.crop[2:]
        scale = 1.0 if size is None else size / max(width, height)
        self._size = (round(height * scale), round(width * scale))
        if min(self._size) < MIN_SIZE:
            raise ValueError(
                f"size must leave at least {MIN_SIZE} pixels per side, got size={size} for a crop of {width}x{height}"
            )
        self._resize = _Resize((height, width), self._size)
        if fps is not None and source.rate is not None and abs(fps / source.rate - 1) > 0.01:
            self._warn(f"fps={fps:g} was given and replaces the {source.rate:.6g} frames per second of the source")
        for note in source.notes:
            self._warn(note)

    def __repr__(self) -> str:
        frames, (height, width) = self.shape[0], self._size
        fps = "no times" if self.fps is None else f"{self.fps:.6g} fps"
        return f"<Frames {self.source}: {frames or '?'} x {height} x {width} {self.dtype}, {fps}, {self.grey}>"

    @property
    def shape(self) -> tuple[int | None, int, int]:
        """(frames, y, x); frames is `n_frames` once known, before that `declared`, which may be wrong or None."""
        return (self.declared if self.n_frames is None else self.n_frames, *self._size)

    @property
    def timestamps(self) -> NDArray[np.float64]:
        """Seconds, one per frame delivered so far, read-only; NaN where neither source nor fps gives times."""
        times = self._times[0, : self._known]
        times.flags.writeable = False
        return times

    def chunks(self, n: int = 64, *, overlap: int = 0) -> Generator[Array, None, None]:
        """Read the source from its start.

        Parameters
        ----------
        n : int, default 64
            Frames per chunk; the last chunk may be shorter. At most seven chunks are in memory at a time, of more
            than 16 MB each at most four.
        overlap : int, default 0
            Frames that each chunk repeats from the end of the one before, 0 <= overlap < n.

        Yields
        ------
        (m, y, x) array of `dtype`, C-contiguous, new for each chunk. When it begins with frame i,
        its times are ``timestamps[i : i + m]``.

        Raises
        ------
        ValueError
            A frame differs in size or dtype from the first one, or holds NaN or infinity; after the chunks of all
            frames before it.
        """
        n = _arrays.whole(n, "n", low=1)
        overlap = _arrays.whole(overlap, "overlap", low=0, high=n - 1)
        return self._pass(n, overlap)

    def _pass(self, n: int, overlap: int) -> Generator[Array, None, None]:
        size = n * math.prod(self._size) * self.dtype.itemsize
        ahead = min(max(_WAITING // size, 1), 4)
        ready: queue.Queue[tuple[Array, list[float]] | BaseException | None] = queue.Queue(maxsize=ahead)
        stop = threading.Event()
        threads = get_num_threads()  # of the caller: what a task of Dask or joblib may use is not known in decode()

        def decode() -> None:
            try:
                for chunk in self._decoded(n, overlap, stop, threads):
                    ready.put(chunk)
                ready.put(None)
            except BaseException as error:
                ready.put(error)

        thread = threading.Thread(target=decode, name="mmme_fast frames", daemon=True)
        thread.start()
        seen = 0
        try:
            while isinstance(item := ready.get(), tuple):
                chunk, times = item
                self._note_times(seen, times)
                seen += len(times)
                yield chunk
            if item is not None and not isinstance(item, _BreakOff):
                raise item
            self._note_end(seen, item)
        finally:
            stop.set()
            while thread.is_alive():  # it may be waiting to hand over a chunk that nobody wants any more
                with suppress(queue.Empty):
                    ready.get(timeout=0.01)
            thread.join()

    def _decoded(
        self, n: int, overlap: int, stop: threading.Event, threads: int
    ) -> Iterator[tuple[Array, list[float]]]:
        """Chunks and the times of their new frames; an error is raised after the frames before it were given."""
        fresh = _Fresh((n, *self._size), self.dtype)
        chunk = fresh()
        filled, times = 0, list[float]()
        failure: Exception | None = None
        crop = self._follow()
        done = 0
        with closing(self._source.read(self._read, threads)) as pictures:
            while not stop.is_set():
                try:
                    picture = next(pictures)
                    self._check(picture)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                chunk[filled] = crop(done, picture.pixels)
                done += 1
                times.append(picture.time)
                filled += 1
                if filled == n:
                    full, chunk = chunk, fresh()
                    chunk[:overlap] = full[n - overlap :]  # before the consumer has it and may change it
                    yield full, times
                    filled, times = overlap, []
        if times and not stop.is_set():
            yield chunk[:filled], times
        if failure is not None:
            raise failure

    def _check(self, picture: _Picture) -> None:
        if picture.full != self._full or picture.pixels.dtype != self.dtype:
            raise ValueError(
                f"all frames of {self.source} must be alike: {picture.name} is {picture.full[1]}x{picture.full[0]} "
                f"{picture.pixels.dtype}, the first is {self._full[1]}x{self._full[0]} {self.dtype}"
            )
        if self.dtype.kind == "f" and not np.isfinite(picture.pixels).all():
            raise ValueError(f"{self.source} must be finite, got NaN or infinity in {picture.name}")

    def _first_two(self) -> _Picture:
        """What is known of the first frame, whole, of a source that holds at least two; its pixels are gone."""
        found: list[_Picture] = []
        reason = ""
        with closing(self._source.read(None, get_num_threads())) as pictures:
            try:
                for picture in islice(pictures, 2):
                    if not found:
                        self.dtype: np.dtype[Any] = picture.pixels.dtype
                        self._full = picture.full
                    self._check(picture)
                    found.append(picture)
            except _BreakOff as error:
                reason = f": {error}"
        if len(found) < 2:
            raise ValueError(f"{self.source} must hold at least 2 frames, got {len(found)}{reason}")
        height, width = found[0].full
        if min(height, width) < MIN_SIZE:
            raise ValueError(
                f"frames of {self.source} must be at least {MIN_SIZE}x{MIN_SIZE} pixels, got {width}x{height}"
            )
        return found[0]

    def _find_face(self, find: _faces.Find) -> Box:
        step = max(1, round((self.fps or 30.0) / 30))
        number = 0
        with (
            closing(self._source.read(None, get_num_threads())) as pictures,
            suppress(_BreakOff),
        ):  # a pass over the film reports it
            for number, picture in enumerate(islice(pictures, 29 * step + 1)):
                if number % step == 0 and (face := find(number, picture.pixels)) is not None:
                    return face
        raise ValueError(
            f'crop="auto" found no face in the first {number + 1} frames of {self.source}, 0 to {number}: '
            'give crop="full", crop=(x, y, width, height) or landmarks'
        )

    def _follow(self) -> Callable[[int, Array], Array]:
        """What takes the crop out of each picture in sequence, as it is read, and resizes it."""
        if self._finder is None:
            return lambda _, pixels: self._resize(pixels)
        left, top = self._read[:2]
        every = _faces.DETECT_EVERY if self.landmarks is None else _faces.LOOK_EVERY
        follower = _faces.Follower(self._finder(left, top), self.crop, self.fps, (left, top), every)
        self.faces = follower.places
        resize = {self.crop[2:]: self._resize}

        def crop(number: int, pixels: Array) -> Array:
            box = follower(number, pixels)
            if box[2:] not in resize:
                resize[box[2:]] = _Resize((box[3], box[2]), self._size)
            return resize[box[2:]](_cropped(pixels, box))

        return crop

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            _log.warning("%s: %s", self.source, text)

    def _note_times(self, start: int, stated: list[float]) -> None:
        end = start + len(stated)
        if end <= self._known:  # a second pass over the same frames
            return
        if end > self._times.shape[1]:
            self._times = np.concatenate([self._times, np.empty((2, max(end, 1024)))], axis=1)
        times = np.array(stated)
        if self._source.rate is not None:
            for i in np.flatnonzero(np.isnan(times)):
                before = times[i - 1] if i else self._times[1, start - 1] if start else -1 / self._source.rate
                times[i] = before + 1 / self._source.rate
                self._filled += int(start + i >= self._known)
        self._times[1, start:end] = times
        self._times[0, start:end] = np.arange(start, end) / self.fps if self._fps_given and self.fps else times
        self._known = end

    def _note_end(self, frames: int, failure: _BreakOff | None) -> None:
        self.n_frames = frames
        self.complete = failure is None
        if failure is not None:
            self._warn(f"breaks off after {frames} frames: {failure}")
        if self.declared is not None and frames < self.declared:
            self.complete &= self._source.estimated
            self._warn(f"declares {'about ' if self._source.estimated else ''}{self.declared} frames, holds {frames}")
        if self._filled:
            self._warn(f"{self._filled} frames carry no time of their own: it follows from the rate")
        stated = self._times[1, :frames]
        if self._source.estimated and self._source.duration is not None and self._source.rate is not None and frames:
            end = stated[-1] - stated[0] + 1 / self._source.rate
            if end < self._source.duration - max(2 / self._source.rate, 0.02 * self._source.duration):
                self.complete = False
                self._warn(f"declares {self._source.duration:.3f} s, ends after {end:.3f} s")
        for text in _irregularities(stated, self._source.rate):
            self._warn(text)


class _BreakOff(Exception):  # noqa: N818  (an end, not always an error)
    """The source is damaged from here on."""


class _Picture(NamedTuple):
    pixels: Array  # (y, x) grey; may be a view of the decoder's memory
    full: tuple[int, ...]  # (y, x) before the crop
    grey: str  # see Frames.grey
    time: float  # s, NaN where the source states none
    name: str  # for messages: "frame 3" or a file's name


class _Source(ABC):
    """What Frames reads from; each kind of source is a subclass."""

    rate: float | None = None  # frames per second, where the source has times
    declared: int | None = None  # frames that it says it holds
    estimated = False  # declared follows from the duration
    duration: float | None = None  # s, where the source states it
    names: list[str] | None = None  # see Frames.names

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []

    @abstractmethod
    def read(self, box: Box | None, threads: int) -> Pictures:
        """The pictures from the start, cropped to the box."""


def _open(source: object, grey: Grey) -> _Source:
    if isinstance(source, np.ndarray):
        return _Array("array", lambda: source)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a path or a NumPy array, got {type(source).__name__}")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"source must exist, got {path}")
    if path.is_dir():
        return _Folder(path, grey)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes)")
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        return _Stack(path, grey)
    if suffix == ".npy":
        return _Array(str(path), lambda: _mapped(path))
    return _Film(path, grey)


class _Film(_Source):
    def __init__(self, path: Path, grey: Grey) -> None:
        super().__init__(str(path))
        self._grey = grey
        with self._opened() as container:
            stream = container.streams.video[0]
            declared = stream.average_rate or stream.guessed_rate
            self.rate = _measured_rate(container, stream) or (float(declared) if declared else None)
            if stream.duration is not None:
                self.duration = float(stream.duration * stream.time_base)
            elif container.duration is not None:
                # Matroska's duration counts from zero, not from its first frame.
                self.duration = container.duration * 1e-6 - float((stream.start_time or 0) * stream.time_base)
            self.estimated = not stream.frames
            if stream.frames:
                self.declared = stream.frames
            elif self.duration is not None and self.rate is not None:
                self.declared = int(self.duration * self.rate + 0.5)
            else:
                self.notes.append("states no length: if its end is missing, that does not show")

    def _opened(self) -> Any:
        import av

        try:
            container = av.open(
                f"file:{self.name}", metadata_errors="replace"
            )  # what stands before a colon in the name is no protocol
        except av.FFmpegError as error:
            raise ValueError(f"{self.name} is not a film that FFmpeg can read: {error.strerror}") from error
        text = container.format.name == "tty"  # which FFmpeg would draw, as it did on a terminal
        if text or not container.streams.video or container.streams.video[0].codec_context is None:
            container.close()
            raise ValueError(f"{self.name} has no video stream that FFmpeg can decode")
        return container

    def read(self, box: Box | None, threads: int) -> Pictures:
        # Several decoding threads report an error late and lose frames on the way, so from the first error on the film
        # is decoded again by one, which gives exactly the frames before the damage.
        done = 0
        try:
            for item in self._decoded(box, threads):
                yield item
                done += 1
        except _BreakOff:
            yield from islice(self._decoded(box, threads=1), done, None)

    def _decoded(self, box: Box | None, threads: int) -> Pictures:
        import av

        with self._opened() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO" if threads > 1 else "NONE"
            stream.codec_context.thread_count = min(threads, 16)
            if stream.codec_context.codec.intra_only:
                stream.codec_context.options = _STRICT
            # An AVI states when to decode a frame, not when to show it; the frames, in order, are shown at those times.
            decoding_times = deque[Any]() if container.format.name == "avi" else None
            numbers = count()
            greyer = _Greyer(self._grey)
            damage = ""
            packets = container.demux(stream)
            while not damage:
                try:
                    packet = next(packets)
                    if packet.is_corrupt:
                        raise av.InvalidDataError(0, "a packet is damaged or cut short")
                    if decoding_times is not None and packet.dts is not None and packet.size:
                        decoding_times.append(packet.dts)
                    frames = packet.decode()
                except StopIteration:
                    return
                except av.FFmpegError as error:
                    damage = error.strerror
                    if threads > 1:
                        raise _BreakOff(damage) from error
                    frames = _flushed(stream)
                for frame in frames:
                    if frame.is_corrupt:
                        raise _BreakOff("the decoder had to make up parts of the next frame")
                    stamp = frame.pts
                    if decoding_times is not None:
                        stamp = decoding_times.popleft() if decoding_times else None
                    time = math.nan if stamp is None else float(stamp * stream.time_base)
                    yield greyer(frame, box, time, f"frame {next(numbers)}")
            raise _BreakOff(damage)


def _flushed(stream: Any) -> list[Any]:
    """The frames that the decoder still holds."""
    import av

    try:
        return list(stream.codec_context.decode(None))
    except av.FFmpegError:
        return []


def _measured_rate(container: Any, stream: Any) -> float | None:
    """Frames per second over the first packets of a film; nothing is decoded."""
    import av

    times, size = [], 0
    try:
        for packet in container.demux(stream):
            stamp = packet.dts if packet.pts is None or container.format.name == "avi" else packet.pts
            if stamp is not None and packet.size:
                times.append(float(stamp * packet.time_base))
            size += packet.size
            if len(times) >= 512 or size > 1 << 25:
                break
    except av.FFmpegError:
        pass  # the pass over the film reports it
    return _rate(np.sort(times))


class _Folder(_Source):
    def __init__(self, path: Path, grey: Grey) -> None:
        super().__init__(str(path))
        self._grey = grey
        stems = {
            name: stem
            for name in os.listdir(path)
            for stem, suffix in [os.path.splitext(name)]
            if suffix.lower() in _DECODERS and not name.startswith(".")
        }
        images = sorted(stems, key=_natural)
        kinds = sorted({_DECODERS[name[len(stem) :].lower()] for name, stem in stems.items()})
        if len(images) < 2:
            raise ValueError(f"{path} must hold at least 2 images ({', '.join(_DECODERS)}), got {len(images)}")
        if len(kinds) > 1:
            raise ValueError(f"{path} must hold one kind of image, got {' and '.join(kinds)}")
        self._codec = kinds[0]
        times = {name: time for name in images if (time := _time_in_name(stems[name])) is not None}
        self._times = [math.nan] * len(images)
        if len(times) == len(images):
            images.sort(key=times.__getitem__)
            start = times[images[0]]
            self._times = [(times[name] - start).total_seconds() for name in images]
            self.names = [stems[name] for name in images]
        elif times:
            self.notes.append(f"only {len(times)} of {len(images)} file names state a time, so none is used")
        self.rate = _rate(np.array(self._times))
        self._images = images
        self.declared = len(images)
        self._plain = False
        if self._codec == "tiff":
            # A pass over the images reports what is wrong.
            with open(path / images[0], "rb", buffering=0) as file, suppress(_BreakOff):
                self._plain = any(page.plain(file) for page in islice(_TiffPage.walk(file), 1))

    def read(self, box: Box | None, threads: int) -> Pictures:
        known: _Around | None = None

        def picture(name: str, time: float, scratch: _Scratch) -> _Picture:
            nonlocal known
            path = os.path.join(self.name, name)
            with open(path, "rb", buffering=0) as file:
                try:
                    if self._codec != "tiff":
                        return _still(self._codec, file.read(), box, self._grey, time, name)
                    layout = known  # another thread may replace it
                    if layout is not None and layout.fits(file):
                        page = layout.page
                    else:
                        pages = list(islice(_TiffPage.walk(file), 2))
                        if len(pages) > 1:
                            raise ValueError(f"{path} must hold one page; open a multi-page TIFF by itself")
                        page = pages[0]
                        known = page.around(file)
                    return page.picture(file, box, self._grey, time, name, scratch)
                except _BreakOff as error:
                    raise _BreakOff(f"{name} cannot be decoded: {error}") from error

        jobs = (partial(picture, name, time) for name, time in zip(self._images, self._times, strict=True))
        return _ahead(jobs, 1 if self._plain else threads)


class _Stack(_Source):
    """A multi-page TIFF."""

    def __init__(self, path: Path, grey: Grey) -> None:
        super().__init__(str(path))
        self._grey = grey
        self._plain = False
        with path.open("rb", buffering=0) as file, suppress(_BreakOff):  # a pass over the pages reports it
            self.declared = sum(1 for _ in _TiffPage.walk(file))
            self._plain = any(page.plain(file) for page in islice(_TiffPage.walk(file), 1))

    def read(self, box: Box | None, threads: int) -> Pictures:
        def picture(number: int, page: _TiffPage, scratch: _Scratch) -> _Picture:
            with open(self.name, "rb", buffering=0) as file:  # its own, for the position
                return page.picture(file, box, self._grey, math.nan, f"page {number}", scratch)

        with open(self.name, "rb", buffering=0) as file:
            jobs = (partial(picture, *page) for page in enumerate(_TiffPage.walk(file)))
            yield from _ahead(jobs, 1 if self._plain else threads)


class _Array(_Source):
    def __init__(self, name: str, load: Callable[[], Array]) -> None:
        super().__init__(name)
        self._load = load
        array = load()
        if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16) and array.dtype.kind != "f":
            raise TypeError(f"{name} must be uint8, uint16 or float, got {array.dtype}")
        if array.ndim != 3 and not (array.ndim == 4 and array.shape[3] == 3):
            raise ValueError(f"{name} must be (frame, y, x) grey or (frame, y, x, 3) RGB, got shape {array.shape}")
        self.declared = len(array)

    def read(self, box: Box | None, threads: int) -> Pictures:
        for number in range(self.declared or 0):
            if number % 256 == 0:
                array = self._load()  # a map anew, so that the pages already read do not stay in memory
            yield _picture(array[number], "rgb", box, math.nan, f"frame {number}")


def _mapped(path: Path) -> Array:
    try:
        return map_npy(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a .npy file that can be mapped: {error}") from error


def _ahead(jobs: Iterator[Callable[[_Scratch], _Picture]], threads: int) -> Pictures:
    """The results of the jobs, in order, a few of them at work at a time; each is good until the next is asked for."""
    if threads == 1:
        scratch = _Scratch()
        for job in jobs:
            yield job(scratch)
        return
    workers = min(threads, 8)
    scratches = [_Scratch() for _ in range(workers + 2)]  # at work, waiting, or in the hands of the consumer
    pool = ThreadPoolExecutor(workers, "mmme_fast images")
    waiting: deque[Future[_Picture]] = deque()
    failure: _BreakOff | None = None
    try:
        for number in count():
            try:
                waiting.append(pool.submit(next(jobs), scratches[number % len(scratches)]))
            except StopIteration:
                break
            except _BreakOff as error:
                failure = error
                break
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def _still(codec: str, data: bytes, box: Box | None, grey: Grey, time: float, name: str) -> _Picture:
    """One image by FFmpeg's decoder; damage is an error, never half a picture."""
    import av

    # What FFmpeg lets pass: a JPEG without its end marker, which coded data cannot hold, and a BMP without its end.
    if (codec == "mjpeg" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")) or (
        codec == "bmp" and len(data) < int.from_bytes(data[2:6], "little")
    ):
        raise _BreakOff("the file is cut short")
    # A decoder of its own: that of PNG adds a picture to the one before.
    context = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    context.options = _STRICT
    try:
        (frame,) = context.decode(av.Packet(data))
    except av.FFmpegError as error:
        raise _BreakOff(error.strerror) from error
    except ValueError as error:
        raise _BreakOff("it holds no picture") from error
    return _Greyer(grey)(frame, box, time, name)


class _Fresh:
    """New arrays of one shape, in memory to which nothing refers any more where there is such; only one is kept."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._shape = shape
        self._dtype = dtype
        self._memory: list[Array] = []

    def __call__(self) -> Array:
        used, spare = [], None
        for memory, references in zip(self._memory, _references(self._memory), strict=True):
            if references == _UNUSED:  # every view of it refers to the memory itself
                spare = memory
            else:
                used.append(memory)
        if spare is None:
            spare = np.empty(self._shape, self._dtype)
        self._memory = [*used, spare]
        return spare[:]


def _references(arrays: list[Array]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


_UNUSED = _references([np.empty(0)])[0]  # the list's own, and what counting adds in this Python


class _Scratch:
    """Memory that is used again and again: fresh pages cost many times what reading into them does."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __call__(self, size: int) -> memoryview:
        if len(self._bytes) < size:
            self._bytes = bytearray(size)  # views of the old one keep it
        return memoryview(self._bytes)[:size]


class _Rows(NamedTuple):
    """Rows of pixels that need no decoder, and where they lie in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    spans: list[list[int]]  # of offset and length


class _Around(NamedTuple):
    """All of a file but the pixels of its one page. Where that is the same, so is the page, but for its pixels."""

    page: _TiffPage
    before: bytes
    pixels: int
    after: bytes

    def fits(self, file: FileIO) -> bool:
        size = len(self.before) + self.pixels + len(self.after)
        if os.fstat(file.fileno()).st_size != size or file.read(len(self.before)) != self.before:
            return False
        return not self.after or (file.seek(size - len(self.after)) > 0 and file.read() == self.after)


class _TiffPage:
    """One page (IFD) of a TIFF or BigTIFF in strips.

    FFmpeg decodes a whole file per page and no BigTIFF, so each page goes to it as a small file of its own, without the
    tags it does not know; uncompressed pages need no decoder.
    """

    _TYPES: ClassVar = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
    _SHORTS = frozenset({258, 259, 262, 266, 277, 284, 317, 320})
    _LONGS = frozenset({256, 257, 273, 278, 279})
    _SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
    _OFFSETS, _SAMPLES, _COUNTS, _PLANAR, _FORMAT = 273, 277, 279, 284, 339

    def __init__(self, order: str, big: bool, entries: dict[int, tuple[int, int, bytes]]) -> None:
        self._order = order
        self._big = big
        self._entries = entries
        self._known: dict[int, tuple[int, ...]] = {}
        self._rows: dict[tuple[int, int], _Rows | None] = {}

    @classmethod
    def walk(cls, file: FileIO) -> Iterator[_TiffPage]:
        """The pages of an open file, without reduced copies and masks."""
        file.seek(0)
        head = file.read(4)
        order = {b"II\x2a\x00": "<", b"MM\x00\x2a": ">", b"II\x2b\x00": "<", b"MM\x00\x2b": ">"}.get(head)
        if order is None:
            raise _BreakOff("it is no TIFF")
        big = 43 in head
        (offset,) = _unpack(file, 8 if big else 4, order + ("Q" if big else "I"))
        seen = set()
        while offset:
            if offset in seen:
                raise _BreakOff("its pages form a loop")
            seen.add(offset)
            (number,) = _unpack(file, offset, order + ("Q" if big else "H"))
            if number > 4096:
                raise _BreakOff(f"a page has {number} tags")
            entry = order + ("HHQ8s" if big else "HHI4s")
            table = file.read(number * struct.calcsize(entry))
            if len(table) < number * struct.calcsize(entry):
                raise _BreakOff("the file ends within a page")
            page = cls(order, big, {tag: (k, n, v) for tag, k, n, v in struct.iter_unpack(entry, table)})
            (offset,) = _unpack(file, file.tell(), order + ("Q" if big else "I"))
            if not page._values(file, cls._SUBFILE, 0)[0] & 0b101:
                yield page
        if not seen:
            raise _BreakOff("it has no pages")

    def _values(self, file: FileIO, tag: int, default: int | None = None) -> tuple[int, ...]:
        if tag in self._known:
            return self._known[tag]
        if tag not in self._entries:
            if default is None:
                raise _BreakOff("it is a tiled TIFF" if 322 in self._entries else f"TIFF tag {tag} is missing")
            return (default,)
        kind, number, inline = self._entries[tag]
        if kind not in self._TYPES or not 0 < number < 1 << 24:
            raise _BreakOff(f"TIFF tag {tag} is malformed")
        layout = f"{self._order}{number}{self._TYPES[kind]}"
        if struct.calcsize(layout) <= len(inline):
            self._known[tag] = struct.unpack_from(layout, inline)
        else:
            (offset,) = struct.unpack(self._order + ("Q" if self._big else "I"), inline)
            self._known[tag] = _unpack(file, offset, layout)
        return self._known[tag]

    def around(self, file: FileIO) -> _Around | None:
        """What of the file is not this page's uncompressed pixels, where these lie together."""
        offsets, lengths = self._values(file, self._OFFSETS), self._values(file, self._COUNTS)
        begin, end = offsets[0], offsets[-1] + lengths[-1]
        rest = os.fstat(file.fileno()).st_size - (end - begin)
        together = tuple(map(operator.add, offsets, lengths)) == (*offsets[1:], end)
        if self.plain(file) is None or not together or not begin <= rest <= _AROUND:
            return None
        file.seek(0)
        before = file.read(begin)
        file.seek(end)
        return _Around(self, before, end - begin, file.read())

    def _spans(self, file: FileIO, first: int, stop: int) -> list[list[int]]:
        """Of all strips, one after the other, where in the file the bytes from `first` to `stop` lie: [offset, length].

        What adjoins in the file is one span; what is not asked for must be there all the same.
        """
        offsets, lengths = self._values(file, self._OFFSETS), self._values(file, self._COUNTS)
        if len(offsets) != len(lengths):
            raise _BreakOff(f"a page has {len(offsets)} strips, but the lengths of {len(lengths)}")
        size = os.fstat(file.fileno()).st_size
        if max(*map(operator.add, offsets, lengths), sum(lengths)) > size:
            raise _BreakOff("the file ends within a page")
        spans: list[list[int]] = []
        begin = 0
        for offset, length in zip(offsets, lengths, strict=True):
            low, high = max(first - begin, 0), min(stop - begin, length)
            begin += length
            if low >= high:
                continue
            if spans and sum(spans[-1]) == offset + low:
                spans[-1][1] += high - low
            else:
                spans.append([offset + low, high - low])
        return spans

    def picture(self, file: FileIO, box: Box | None, grey: Grey, time: float, name: str, scratch: _Scratch) -> _Picture:
        full = self._values(file, self._HEIGHT)[0], self._values(file, self._WIDTH)[0]
        x, y, width, height = box or (0, 0, *full[::-1])
        if (y, height) not in self._rows:
            self._rows[y, height] = self._uncompressed(file, full, y, y + height)
        rows = self._rows[y, height]
        if rows is None:
            return _still("tiff", self._alone(file, scratch), box, grey, time, name)
        pixels = np.frombuffer(_read(file, rows.spans, scratch), rows.dtype).reshape(rows.shape)
        return _picture(pixels, "rgb", (x, 0, width, height), time, name)._replace(full=full)

    def plain(self, file: FileIO) -> tuple[str, int] | None:
        """Dtype and samples of pixels that need no decoder. Who reads those waits for memory: one thread is best."""
        samples = self._values(file, self._SAMPLES, 1)[0]
        bits = set(self._values(file, self._BITS, 1))
        dtype = {(8, 1): "u1", (16, 1): "u2", (32, 3): "f4"}.get((bits.pop(), self._values(file, self._FORMAT, 1)[0]))
        ordinary = (
            self._values(file, self._COMPRESSION, 1) == self._values(file, self._PLANAR, 1) == (1,)
            and self._values(file, self._FILL_ORDER, 1) == (1,)
            and (self._values(file, self._PHOTOMETRIC)[0], samples) in ((1, 1), (2, 3))
        )
        if dtype is None or bits or not ordinary:
            return None
        return dtype, samples

    def _uncompressed(self, file: FileIO, full: tuple[int, int], top: int, bottom: int) -> _Rows | None:
        """Some rows, (y, x) grey or (y, x, 3) RGB; None where a decoder is needed."""
        layout = self.plain(file)
        if layout is None:
            return None
        dtype, samples = layout
        row = full[1] * samples * int(dtype[1])
        size = sum(self._values(file, self._COUNTS))
        if size != full[0] * row or not size:
            raise _BreakOff(f"a page of {full[1]}x{full[0]} has {size} bytes of pixels")
        shape = (-1, full[1], samples) if samples == 3 else (-1, full[1])
        return _Rows(np.dtype(self._order + dtype), shape, self._spans(file, top * row, bottom * row))

    def _alone(self, file: FileIO, scratch: _Scratch) -> bytes:
        """The page as a classic TIFF that holds nothing else: header, tags, long values, strips."""
        if self._values(file, self._FORMAT, 1)[0] != 1:
            raise _BreakOff("signed and compressed float TIFF pages are not supported")
        lengths = self._values(file, self._COUNTS)
        data = _read(file, self._spans(file, 0, sum(lengths)), scratch)
        tags = {tag: self._values(file, tag) for tag in sorted((self._SHORTS | self._LONGS) & self._entries.keys())}
        kinds = {tag: "H" if tag in self._SHORTS else "I" for tag in tags}
        values_at = 8 + 2 + 12 * len(tags) + 4
        position = values_at + sum(
            size for tag in tags if (size := struct.calcsize(f"{len(tags[tag])}{kinds[tag]}")) > 4
        )
        tags[self._OFFSETS] = tuple(accumulate(lengths[:-1], initial=position))
        table, values = b"", b""
        for tag, numbers in tags.items():
            value = struct.pack(f"{self._order}{len(numbers)}{kinds[tag]}", *numbers)
            if len(value) > 4:
                where = values_at + len(values)
                values += value
                value = struct.pack(self._order + "I", where)
            table += struct.pack(self._order + "HHI", tag, 3 if kinds[tag] == "H" else 4, len(numbers))
            table += value.ljust(4, b"\0")
        head = (b"II" if self._order == "<" else b"MM") + struct.pack(self._order + "HIH", 42, 8, len(tags))
        return b"".join([head, table, bytes(4), values, data])


def _read(file: FileIO, spans: list[list[int]], scratch: _Scratch) -> memoryview:
    data = scratch(sum(length for _, length in spans))
    done = 0
    for offset, length in spans:
        file.seek(offset)
        if file.readinto(data[done : done + length]) < length:
            raise _BreakOff("the file ends within a page")
        done += length
    return data


def _unpack(file: FileIO, offset: int, layout: str) -> tuple[Any, ...]:
    file.seek(offset)
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise _BreakOff("the file ends within a page")
    return struct.unpack(layout, data)


class _Greyer:
    """Decoded frames to grey pictures: a view of the decoder's memory where it has a grey plane."""

    def __init__(self, wanted: Grey) -> None:
        from av.video.reformatter import VideoReformatter

        self._wanted = wanted
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any, box: Box | None, time: float, where: str) -> _Picture:
        name, bits = frame.format.name, frame.format.components[0].bits
        wide = bits > 8
        if frame.format.is_rgb or frame.format.has_palette or "bayer" in name:
            kind, plain = "bgr2gray", "bgr48le" if wide else "bgr24"
            keep = name in ("rgb24", "bgr24", "rgb48le")
        elif name.startswith(("gray", "ya", "mono")):
            kind, plain = "stored", "gray16le" if wide else "gray"
            keep = name.startswith("gray")
        elif self._wanted == "bgr2gray":
            kind, plain, keep = "bgr2gray", "bgr24", False
        else:
            kind, plain = "luma", "yuv444p16le" if wide else "yuv444p"
            keep = frame.format.is_planar and frame.format.components[0].is_luma and not name.startswith("p0")
        rotation = frame.rotation
        if not keep:
            frame = self._reformatter.reformat(frame, format=plain)
            name, bits = plain, frame.format.components[0].bits
        plane = frame.planes[0]
        dtype = np.dtype("f4" if bits == 32 else "u2" if bits > 8 else "u1")
        dtype = dtype.newbyteorder(">" if name.endswith("be") else "<")
        channels = 3 if kind == "bgr2gray" else 1
        rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
        pixels = rows[:, : frame.width * channels * dtype.itemsize].view(dtype)
        if channels == 3:
            pixels = pixels.reshape(frame.height, frame.width, 3)
        if rotation:
            pixels = np.rot90(pixels, round(rotation / 90))
        if 8 < bits < 16:
            pixels = pixels << (16 - bits)
        return _picture(pixels, name[:3], box, time, where, kind)


def _picture(pixels: Array, order: str, box: Box | None, time: float, name: str, grey: str = "stored") -> _Picture:
    """Crop, then make grey what is RGB or BGR, as `order` says."""
    full, pixels = pixels.shape[:2], _cropped(pixels, box)
    if pixels.ndim == 3:
        return _Picture(_bgr2gray(pixels, order), full, "bgr2gray", time, name)
    dtype = np.float32 if pixels.dtype.kind == "f" else pixels.dtype.newbyteorder("=")
    return _Picture(pixels.astype(dtype, copy=False), full, grey, time, name)


def _bgr2gray(pixels: Array, order: str) -> Array:
    """Grey of (y, x, 3) by the weights of ``cv2.COLOR_BGR2GRAY``; exact for uint8 and uint16, where it rounds.

    OpenCV computes (9798 R + 19235 G + 3735 B + 2^14) >> 15. The weights over 2^15 are exact in binary, and so are the
    products and sums while they fit the significand: 23 bits for uint8, 31 for uint16.
    """
    real = pixels.dtype.kind == "f"
    exact = np.float64 if pixels.dtype.itemsize == 2 else np.float32
    weights = np.array([0.299, 0.587, 0.114] if real else np.array([9798, 19235, 3735]) / (1 << 15), exact)
    weights = weights if order == "rgb" else weights[::-1].copy()
    grey = np.empty(pixels.shape[:2], exact if real else pixels.dtype.newbyteorder("="))
    band = max(1, (1 << 16) // pixels.shape[1])  # rows at a time: the products stay in the cache
    for top in range(0, len(pixels), band):
        sums = pixels[top : top + band].astype(exact, copy=False) @ weights
        grey[top : top + band] = sums if real else sums + exact(0.5)
    return grey


def _cropped(pixels: Array, box: Box | None) -> Array:
    if box is None:
        return pixels
    x, y, width, height = box
    return pixels[y : y + height, x : x + width]


def _checked_crop(crop: object, shape: tuple[int, ...]) -> Box:
    full = (0, 0, shape[1], shape[0])
    if crop is None or crop == "full":
        return full
    rule = f'crop must be "auto", "full" or (x, y, width, height) in whole pixels, got {crop!r}'
    if isinstance(crop, str):
        raise ValueError(rule)
    try:
        x, y, width, height = (operator.index(value) for value in crop)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise TypeError(rule) from error
    if x < 0 or y < 0 or x + width > full[2] or y + height > full[3]:
        raise ValueError(f"crop must lie within the frame of {full[2]}x{full[3]}, got {(x, y, width, height)}")
    if min(width, height) < MIN_SIZE:
        raise ValueError(f"crop must be at least {MIN_SIZE}x{MIN_SIZE} pixels, got {(x, y, width, height)}")
    return x, y, width, height


class _Resize:
    """Separable resampling of (y, x) pictures: area average where an axis shrinks, linear where it grows."""

    def __init__(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        self._taps = [None if n == m else _taps(n, m) for n, m in zip(before, after, strict=True)]

    def __call__(self, picture: Array) -> Array:
        if self._taps == [None, None]:
            return picture
        result = picture
        for taps in self._taps:
            if taps is not None:
                index, weight = taps
                result, rows = np.zeros((len(index[0]), result.shape[1]), np.float32), result
                product = np.empty_like(result)
                for i, w in zip(index, weight, strict=True):
                    result += np.multiply(rows.take(i, axis=0, mode="clip"), w, out=product)
            result = np.ascontiguousarray(result.T)
        return result if picture.dtype.kind == "f" else np.rint(result).astype(picture.dtype)


def _taps(before: int, after: int) -> tuple[Array, Array]:
    """Sources and weights, (tap, target) and (tap, target, 1), of each target sample of one axis."""
    target = np.arange(after)
    if after < before:  # target i is the mean over [i, i + 1) * before / after, here in units of 1 / after
        start, stop = target * before, (target + 1) * before
        first = start // after
        index = first + np.arange(int((-(-stop // after) - first).max()))[:, None]
        weight = (np.minimum((index + 1) * after, stop) - np.maximum(index * after, start)).clip(0) / before
    else:
        centre = (target + 0.5) * before / after - 0.5
        index = np.floor(centre).astype(np.intp) + np.arange(2)[:, None]
        weight = 1 - np.abs(centre - index)
    return index.clip(0, before - 1), weight[..., None].astype(np.float32)


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key that takes digits as numbers: frame2 before frame10."""
    parts = _DIGITS.split(name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _time_in_name(stem: str) -> datetime | None:
    """The time in MMME's Year-Month-Day-Hour-Minute-Second-Millisecond-Code-Marker."""
    match = re.fullmatch(r"(\d{4})-(\d\d?)-(\d\d?)-(\d\d?)-(\d\d?)-(\d\d?)-(\d{1,3})-[^-]+-[^-]+", stem)
    if match is None:
        return None
    *date, millisecond = map(int, match.groups())
    try:
        return datetime(*date, microsecond=1000 * millisecond)  # type: ignore[misc, arg-type]
    except ValueError:
        return None


def _rate(times: Array) -> float | None:
    """Frames per second; see Frames.fps."""
    intervals = np.diff(times)
    intervals = intervals[intervals > 0]
    if len(intervals) == 0:
        return None
    middle = np.median(intervals)
    near = intervals[np.abs(intervals - middle) <= middle / 2]
    return float(1 / (near.mean() if len(near) else middle))  # the median of two may be near to neither


def _irregularities(times: Array, rate: float | None) -> list[str]:
    measured = _rate(times)
    if rate is None or measured is None:
        return []
    found = []
    period, intervals = 1 / measured, np.diff(times)
    if abs(measured / rate - 1) > 0.01:
        found.append(f"the whole film has {measured:.6g} frames per second, its first frames {rate:.6g}")
    if (back := np.flatnonzero(intervals <= 0)).size:
        found.append(f"time does not advance at {back.size} frames, the first of them frame {back[0] + 1}")
    gap = intervals > 1.5 * period + _TICK
    uneven = ~gap & (np.abs(intervals - period) > period / 20 + _TICK)
    if uneven.mean() > 0.1 or gap.mean() > 0.25:
        low, high = np.percentile(intervals, [1, 99]) * 1e3
        found.append(f"variable frame rate: intervals of {low:.4g} to {high:.4g} ms")
    elif (gaps := np.flatnonzero(gap)).size:
        missing = int(np.rint(intervals[gaps] / period - 1).sum())
        longest = gaps[intervals[gaps].argmax()]
        found.append(
            f"gaps in time: {gaps.size}, about {missing} frames missing; "
            f"the longest, {intervals[longest]:.3f} s, follows frame {longest}"
        )
    return found
