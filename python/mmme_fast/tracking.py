"""From frames to the motion of the skin: a face followed through a film, the head held still."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast import motion
from mmme_fast._arrays import MIN_SIZE
from mmme_fast._faces import is_cut
from mmme_fast.spotting import block_means, medians
from mmme_fast.strain import optical_strain

Floats = NDArray[np.float64]
Flow = Callable[..., NDArray[np.float32]]

WIDTH = 128  # px: frames are reduced to about this before flow; 96 finds fewer expressions, more finds no more
RATE = 50.0  # frames/s: faster film is averaged in groups to about this, which takes the noise down
RENEWAL = 2.3  # s until the reference frame of flow is renewed
RENEWAL_CHOICE = 0.6  # s at the end of that time, of which the calmest frame becomes the new reference
LIGHTS = 8  # along each side: places at which a frame's light is taken, to be made that of the reference
ANCHOR_LEFT = 0.004  # of the width: the pose is held against the first frame while the median residual is below
CELL = 4  # px of the reduced frame: flow is averaged over cells of this size
LATTICE = 1 / 16  # of the width: distance between blocks
BLOCK_SIGMA = 0.045  # of the width: Gaussian window of a block
EDGE = 0.09  # of the width: blocks nearer than this to the border of the crop are left out
BARE = 0.06  # where texture (0 to 1) is less than about this, flow finds nothing to follow


@dataclass
class Signals:
    """What is measured per sample (a group of frames); amplitudes in pixels of a crop 256 pixels wide."""

    blocks: NDArray[np.float32]  # (sample, block, 2): motion of the skin, head motion removed
    valid: NDArray[np.bool_]  # (sample, block): the block's surroundings were inside the frame
    head: NDArray[np.float32]  # (sample, 4): dx, dy of the crop's centre, turn in degrees, growth
    strain: NDArray[np.float32]  # (sample,): mean optical strain against the reference frame
    unrest: NDArray[np.float32]  # (sample,): median motion of all the frame that the head's does not explain

    @property
    def motion(self) -> NDArray[np.float32]:
        """(sample,): how far the block that moves most has moved."""
        largest: NDArray[np.float32] = np.hypot(self.blocks[..., 0], self.blocks[..., 1]).max(1)
        return largest


def group_size(fps: float, rate: float | None = RATE) -> int:
    """How many frames are averaged into one sample, for about `rate` samples per second; None: every frame is one."""
    return max(round(fps / rate), 1) if rate is not None and fps > 1.5 * rate else 1


def reduced(
    chunks: Iterable[NDArray[Any]], group: int, width: int = WIDTH, threads: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Average groups of frames, reduce them to about `width` by area, and scale them to 0..1: (sample, y, x)."""
    rest: NDArray[Any] | None = None
    for chunk in chunks:
        frames = chunk if rest is None else np.concatenate([rest, chunk])
        whole = len(frames) // group * group
        rest = frames[whole:] if whole < len(frames) else None
        if whole:
            yield _reduce(frames[:whole], group, width, threads)
    if rest is not None:
        yield _reduce(rest, len(rest), width, threads)


def reduced_size(height: int, width: int, wanted: int = WIDTH) -> tuple[int, int]:
    factor = max(max(height, width) // wanted, 1)
    return height // factor, width // factor


def _reduce(frames: NDArray[Any], group: int, width: int, threads: int | None) -> NDArray[np.float32]:
    unit = {"uint8": 255.0, "uint16": 65535.0}.get(frames.dtype.name, 1.0)
    # Frame by frame: no temporary of the whole chunk. Sums of bytes are whole numbers, of half a float's width.
    whole = frames.dtype == np.uint8 and group <= 257
    total: NDArray[Any] = frames[::group].astype(np.uint16 if whole else np.float32)
    for i in range(1, group):
        total += frames[i::group]
    sums: NDArray[np.float32] = total * np.float32(1 / (unit * group))
    size = reduced_size(frames.shape[1], frames.shape[2], width)
    return sums if size == frames.shape[1:] else block_means(sums, *size, threads=threads)


class Lattice:
    """Cells, over which flow is averaged, and blocks, whose motion is followed, of frames of one size."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.rows, self.columns = max(height // CELL, 2), max(width // CELL, 2)
        self.unit = float(max(height, width))
        ys = (np.arange(self.rows) + 0.5) * height / self.rows - 0.5
        xs = (np.arange(self.columns) + 0.5) * width / self.columns - 0.5
        self.cells = np.stack(np.meshgrid(xs, ys), axis=-1)  # (rows, columns, 2): (x, y)
        step, edge = LATTICE * self.unit, EDGE * self.unit

        def line(size: int) -> Floats:
            n = max(int((size - 1 - 2 * edge) / step), 0)
            return np.asarray((size - 1) / 2 + step * (np.arange(n + 1) - n / 2), float)

        self.blocks = np.stack(np.meshgrid(line(width), line(height)), axis=-1).reshape(-1, 2)
        distance = ((self.blocks[:, None] - self.cells.reshape(1, -1, 2)) ** 2).sum(-1)
        window = np.exp(-distance / (2 * (BLOCK_SIGMA * self.unit) ** 2))
        self.window = window / window.sum(1, keepdims=True)  # (block, cell)

    def inside(self, maps: Floats) -> NDArray[np.bool_]:
        """Which cells (map, cell), once moved by the maps, are so far inside the frame that flow sees no copied border.

        A warped frame shows copies of its border in a strip as broad as the motion, and flow looks around itself:
        a cell must be inside after twice the motion.
        """
        points = self.cells.reshape(-1, 2)
        x, y = np.moveaxis(points + 2 * motion.displace(maps, points), -1, 0)
        inside: NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x <= self.width - 1) & (y <= self.height - 1)
        return inside

    def motion_of_blocks(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean vectors around the blocks, in pixels of a crop 256 pixels wide."""
        means = np.einsum("bc,ncv->nbv", self.window, cells.reshape(-1, self.window.shape[1], 2), optimize=True)
        scaled: NDArray[np.float32] = (means * (256 / self.unit)).astype(np.float32)
        return scaled

    def head(self, poses: Floats) -> NDArray[np.float32]:
        """Motion of the crop's centre in pixels of a crop 256 pixels wide, turn in degrees, and growth."""
        centre = np.array([[(self.width - 1) / 2, (self.height - 1) / 2]])
        shift = motion.displace(poses, centre)[:, 0] * (256 / self.unit)
        a, c = poses[:, 0, 0], poses[:, 1, 0]
        return np.column_stack([shift, np.degrees(np.arctan2(c, a)), np.hypot(a, c) - 1]).astype(np.float32)


def face_signals(
    samples: Iterable[NDArray[np.float32]],
    rate: float,
    method: Flow,
    threads: int | None = None,
    moved: Callable[[int], bool] = lambda sample: False,
) -> Iterator[Signals]:
    """Follow the blocks of a face through reduced frames at `rate` samples per second, a reference's span at a time.

    `moved` says of a sample whether the crop was moved before it, which begins a new scene.
    """
    span = max(round(RENEWAL * rate), 2)
    tracker: _Tracker | None = None
    held: list[NDArray[np.float32]] = []
    for frame, cut in _scenes(samples, moved):
        if cut and tracker is not None:
            yield tracker.follow(held, last=True)[0]
            tracker, held = None, []
        if tracker is None:
            tracker = _Tracker(frame, method, rate, threads)
        held.append(frame)
        if len(held) > span:
            signals, done = tracker.follow(held, last=False)
            yield signals
            held = held[done:]
    if tracker is not None:
        yield tracker.follow(held, last=True)[0]


def _scenes(
    samples: Iterable[NDArray[np.float32]], moved: Callable[[int], bool]
) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Frames one by one, and whether each is the first after a cut."""
    before: NDArray[np.float32] | None = None
    number = 0
    for chunk in samples:
        for frame in chunk:
            now = frame - frame.mean()
            cut = before is not None and (moved(number) or is_cut(before, now))
            number += 1
            before = now
            yield frame, cut


def _gain(wanted: NDArray[np.float32], frames: NDArray[np.float32], threads: int | None) -> NDArray[np.float32]:
    """What gives frames (frame, y, x) the local brightness of one frame (1, y, x), smooth in between."""
    light, lights = (block_means(each, LIGHTS, LIGHTS, threads=threads) + 0.02 for each in (wanted, frames))
    gain = np.clip(light / lights, 0.5, 2)
    rows, columns = (_tents(n) for n in frames.shape[1:])
    smooth: NDArray[np.float32] = rows @ gain @ columns.T
    return smooth


@functools.cache
def _tents(size: int) -> NDArray[np.float32]:
    """Linear interpolation from LIGHTS places to a line of pixels, (pixel, place)."""
    at = np.clip((np.arange(size) + 0.5) * LIGHTS / size - 0.5, 0, LIGHTS - 1)
    tents: NDArray[np.float32] = np.maximum(1 - np.abs(at[:, None] - np.arange(LIGHTS)), 0).astype(np.float32)
    return tents


class _Tracker:
    """Follows one scene: the head's pose since its first frame, and the motion of the skin that pose leaves.

    Each span of frames is done in two steps, both over whole arrays. Flow at half size from the span's reference frame
    gives the pose of every frame, a similarity map. Then flow from the reference to the frames warped by their poses
    gives the rest, from which a small affine motion is removed: what stays is the expression.
    """

    def __init__(self, first: NDArray[np.float32], method: Flow, rate: float, threads: int | None) -> None:
        self.flow, self.threads = method, threads
        self.lattice = Lattice(*first.shape)
        self.choice = max(round(RENEWAL_CHOICE * rate), 1)
        self.anchor = self._half(first[None])[0]
        self.pose = motion.IDENTITY
        # Motion from the scene's first frame to the reference, so that signals go on where a reference is renewed.
        self.offset = np.zeros((self.lattice.rows, self.lattice.columns, 2), np.float32)
        self.begun = False

    def follow(self, frames: list[NDArray[np.float32]], last: bool) -> tuple[Signals, int]:
        """Return the signals of the frames after the reference, frames[0], and the number of the next reference."""
        n, lattice = len(frames), self.lattice
        stack = np.stack(frames)
        reference = self._posed(stack[:1], self.pose[None])[0]
        trust = motion.texture(reference, lattice.rows, lattice.columns)
        poses = np.repeat(self.pose[None], n, axis=0)
        cells = np.repeat(self.offset[None], n, axis=0)
        strain, unrest = np.zeros((2, n), np.float32)
        if n > 1:
            seen = self._half(self._posed(stack[1:], poses[1:]))
            poses[1:] = motion.compose(self.pose, self._pose_change(self._half(reference[None])[0], seen, trust))
            dense = self._between(reference, self._posed(stack[1:], poses[1:]))
            rest = block_means(dense, lattice.rows, lattice.columns, threads=self.threads)
            affine = motion.global_motion(
                rest, model="affine", weights=trust, points=lattice.cells, threads=self.threads
            )
            rest -= motion.displace(affine, lattice.cells.reshape(-1, 2)).reshape(rest.shape).astype(np.float32)
            # Flow is 0 where it finds nothing to follow; less the affine map, that would pass for motion of the skin.
            cells[1:] += rest * (trust**2 / (trust**2 + BARE**2))[..., None].astype(np.float32)
            unrest[1:] = medians(np.hypot(rest[..., 0], rest[..., 1]).reshape(n - 1, -1))
            strain[1:] = optical_strain(dense, threads=self.threads).mean((1, 2))
        done = n - 1 if last else self._calmest(cells)
        new = slice(1 if self.begun else 0, done + 1)
        inside = lattice.inside(poses[new]) & lattice.inside(self.pose)
        valid = inside @ lattice.window.T > 0.95
        if not self.begun:
            valid[0] = False  # nothing is known across a cut or the film's start
        signals = Signals(
            lattice.motion_of_blocks(cells[new]),
            valid,
            lattice.head(poses[new]),
            strain[new],
            unrest[new] * np.float32(256 / lattice.unit),
        )
        self.begun = True
        self.pose, self.offset = self._anchored(stack[done], poses[done], trust), cells[done]
        return signals, done

    def _posed(self, frames: NDArray[np.float32], poses: Floats) -> NDArray[np.float32]:
        return motion.warp(frames, poses, threads=self.threads)

    def _half(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = (max(size // 2, MIN_SIZE) for size in frames.shape[1:])
        return block_means(frames, height, width, threads=self.threads)

    def _between(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Flow from one frame to others, in the same light: Farneback's takes a change of brightness for motion."""
        lit = after * _gain(before.reshape(-1, *before.shape[-2:])[:1], after, self.threads)
        return self.flow(before, np.minimum(lit, 1, out=lit), threads=self.threads)

    def _pose_change(self, before: NDArray[np.float32], after: NDArray[np.float32], trust: Floats) -> Floats:
        """Similarity maps between frames at half size, in pixels at full size."""
        cells = self._coarse_cells(before, after)
        return motion.global_motion(cells, weights=trust, points=self.lattice.cells, threads=self.threads)

    def _coarse_cells(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        lattice = self.lattice
        dense = self._between(before, after)
        scale = np.array([lattice.width / before.shape[1], lattice.height / before.shape[0]], np.float32)
        return block_means(dense, lattice.rows, lattice.columns, threads=self.threads) * scale

    def _calmest(self, cells: NDArray[np.float32]) -> int:
        """Where the face is most at rest among the last frames: a reference taken in a blink misleads its span."""
        usual = medians(np.ascontiguousarray(np.moveaxis(cells, 0, -1)))
        away = np.abs(cells[-self.choice :] - usual).mean((1, 2, 3))
        return len(cells) - self.choice + int(away.argmin())

    def _anchored(self, frame: NDArray[np.float32], pose: Floats, trust: Floats) -> Floats:
        """The pose against the scene's first frame itself where the two still match: small errors do not add up."""
        seen = self._half(self._posed(frame[None], pose[None]))
        cells = self._coarse_cells(self.anchor, seen)
        drift = motion.global_motion(cells, weights=trust, points=self.lattice.cells, threads=self.threads)
        left = cells[0] - motion.displace(drift[0], self.lattice.cells.reshape(-1, 2)).reshape(cells[0].shape)
        matches = float(np.median(np.hypot(left[..., 0], left[..., 1]))) < ANCHOR_LEFT * self.lattice.unit
        return motion.compose(pose, drift[0]) if matches else pose
