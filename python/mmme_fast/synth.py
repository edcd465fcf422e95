"""Films and EEG recordings with known truth, for the demo, the tests and the benchmarks.

`film` draws a face once and moves it: every frame is the same drawing seen through a smooth map, so the flow between
any two frames is known, not measured. `flow_pair` is two such frames. `recording` is EEG made of sinusoids of whole
hertz, so the power of each band is known in every window of whole seconds.

Everything is a function of the seed and the index of the frame or sample: reading in any order or chunk size gives the
same values, and nothing is held in memory but the drawing.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clip", "Event", "SyntheticFilm", "SyntheticRecording", "film", "flow_pair", "recording"]

Float = NDArray[np.float64]

# A frame shows the drawing D through a map W: frame(p) = D(W(p)), W(p) = y - d(y), y = the head's pose undone at p.
# `pose` is (dx, dy, radians, scale) about the middle of the frame. `bumps` has one row (x, y, rx, ry, dx, dy) in pixels
# per local motion; d(y) sums (dx, dy) (1 - r^2)^4 inside each ellipse, which is a Gaussian of sigma radius / sqrt(8) to
# the eye but ends, so that an expression is exactly local.
_RADIUS = 8**0.5

# name: (across, down, sigma across, sigma down, outward, downward), parts of the face's width; across counts from the
# middle, and a region with across > 0 has a mirror image.
_REGIONS = {
    "brow_raise": (0.150, 0.345, 0.080, 0.065, 0.0, -1.0),
    "brow_lower": (0.105, 0.350, 0.070, 0.060, -0.5, 0.9),
    "lid_tighten": (0.155, 0.485, 0.070, 0.060, 0.0, -1.0),
    "nose_wrinkle": (0.075, 0.590, 0.060, 0.070, 0.1, -1.0),
    "lip_corner_pull": (0.120, 0.745, 0.080, 0.070, 0.8, -0.6),
    "lip_corner_depress": (0.110, 0.765, 0.070, 0.065, 0.3, 0.95),
    "chin_raise": (0.000, 0.875, 0.090, 0.065, 0.0, -1.0),
}
_EYE_X, _EYE_Y, _EYE_WIDTH, _EYE_UP, _EYE_DOWN = 0.155, 0.440, 0.070, 0.028, 0.016
_LOWER_LID = 0.2  # the part of the opening that the lower lid closes


@dataclass(frozen=True)
class _Scene:
    """Where everything is in one frame."""

    pose: tuple[float, float, float, float]
    bumps: Float
    closure: float = 0.0

    def undo_pose(self, x: Any, y: Any, centre: float) -> tuple[Any, Any]:
        dx, dy, angle, scale = self.pose
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        x, y = x - (centre + dx), y - (centre + dy)
        return cos * x + sin * y + centre, cos * y - sin * x + centre

    def apply_pose(self, x: Any, y: Any, centre: float) -> tuple[Any, Any]:
        dx, dy, angle, scale = self.pose
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        x, y = x - centre, y - centre
        return cos * x - sin * y + (centre + dx), cos * y + sin * x + (centre + dy)

    def displacement(self, x: Any, y: Any) -> tuple[Any, Any]:
        u, v = np.zeros_like(x), np.zeros_like(y)
        for cx, cy, rx, ry, dx, dy in self.bumps.astype(x.dtype):
            bump = np.maximum(1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2, 0)
            bump *= bump
            bump *= bump
            u += dx * bump
            v += dy * bump
        return u, v

    def to_drawing(self, x: Any, y: Any, centre: float) -> tuple[Any, Any]:
        x, y = self.undo_pose(x, y, centre)
        u, v = self.displacement(x, y)
        return x - u, y - v

    def from_drawing(self, x: Any, y: Any, centre: float) -> tuple[Any, Any]:
        # y = q + d(y), by iteration: each step shrinks the error by |grad d|, below .2 in a film and .8 in a pair.
        u, v = self.displacement(x, y)
        for _ in range(100):
            before = u, v
            u, v = self.displacement(x + u, y + v)
            if np.allclose(u, before[0], rtol=0, atol=1e-7) and np.allclose(v, before[1], rtol=0, atol=1e-7):
                break
        return self.apply_pose(x + u, y + v, centre)


def _flow(before: _Scene, after: _Scene, size: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:size, :size].astype(np.float64)
    centre = (size - 1) / 2
    there = after.from_drawing(*before.to_drawing(x, y, centre), centre)
    return np.stack([there[0] - x, there[1] - y], axis=-1).astype(np.float32)


def _bumps(region: str, sides: Sequence[int], size: int) -> Float:
    """Rows of a region's motion, scaled so that its largest displacement is one pixel."""
    across, down, sx, sy, outward, downward = _REGIONS[region]
    norm = np.hypot(outward, downward)
    # In the middle between two sides the bumps add up; the largest sum is one pixel.
    rows = np.array(
        [
            (0.5 + s * across, down, _RADIUS * sx, _RADIUS * sy, s * outward / norm, downward / norm)
            for s in (sides if across else (1,))
        ]
    )
    grid = np.linspace(0, 1, 201)
    u, v = _Scene((0, 0, 0, 1), rows).displacement(*np.meshgrid(grid, grid))
    rows[:, 4:] /= np.hypot(u, v).max()
    rows[:, :4] *= size
    rows[:, :2] -= 0.5
    return rows


_OVERSAMPLING = 2
_MARGIN = 0.125  # of the width, drawn beyond every edge for the head to sway into
# Of the lens, sigma in pixels of the frame. The drawing is sampled with cubic B-splines that are not prefiltered: they
# blur by another 0.29 pixels, but every place alike, wherever it falls between the pixels.
_BLUR = 0.58


def _fourier(image: NDArray[Any], gain: Callable[[Any, Any], Any]) -> Float:
    fy, fx = 2 * np.pi * np.fft.fftfreq(image.shape[0])[:, None], 2 * np.pi * np.fft.rfftfreq(image.shape[1])
    return np.fft.irfft2(np.fft.rfft2(image) * gain(fy, fx), image.shape)


def _through_lens(image: Float) -> Float:
    def gain(fy: Any, fx: Any) -> Any:
        return np.exp(-((_BLUR * _OVERSAMPLING) ** 2) * (fx**2 + fy**2) / 2)

    return _fourier(image, gain)


def _texture(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, stretch: float = 1.0) -> Float:
    """Band-limited noise of unit variance; stretch > 1 makes vertical strands."""
    k = 2 * np.pi / wavelength

    def gain(fy: Any, fx: Any) -> Any:
        r2 = (fx**2 + (fy * stretch) ** 2) / k**2
        return r2 * np.exp(-r2)

    image = _fourier(rng.standard_normal(shape), gain)
    image /= image.std()
    return image


class _Face:
    """A face drawn on a grid twice as fine as the frames, ready to be sampled anywhere."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.margin = int(np.ceil(_MARGIN * size))
        n = _OVERSAMPLING * (size + 2 * self.margin)
        self.fine = _OVERSAMPLING * size  # pixels of the drawing per face width
        axis = (np.arange(n) / _OVERSAMPLING - self.margin + 0.5) / size
        self._x, self._y = np.meshgrid(axis, axis)
        self._lid_texture = _texture(rng, (n, n), 8.0)
        self._skin, self._eyeball = self._draw(rng)
        self._open = self._with_eyes(0.0)
        self.picture = _through_lens(self._open).astype(np.float32)

    def _edge(self, distance: Float) -> Float:
        """Coverage, 0 to 1, of a shape by signed distance (parts of the width, positive inside)."""
        return np.clip(distance * self.fine / 1.5 + 0.5, 0, 1)

    def _ellipse(self, x: Float, y: Float, cx: float, cy: float, rx: float, ry: float) -> Float:
        return (1 - np.hypot((x - cx) / rx, (y - cy) / ry)) * min(rx, ry)

    def _draw(self, rng: np.random.Generator) -> tuple[Float, Float]:
        x, y, shape = self._x, self._y, self._x.shape
        across = np.abs(x - 0.5)
        fine = self.fine

        def glow(cx: float, cy: float, sx: float, sy: float) -> Float:
            """A soft spot, mirrored when off the middle."""
            return np.exp(-(((across - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2)

        # Skin: a lit ellipsoid with sockets, cheeks, nose and chin, and texture from pores to blotches.
        nx, ny = (x - 0.5) / 0.47, (y - 0.54) / 0.62
        nz = np.sqrt(np.maximum(1 - nx**2 - ny**2, 0.02))
        skin = 70 + 115 * np.clip(0.93 * nz - 0.18 * nx - 0.22 * ny, 0, 1)
        skin += 11 * glow(0.18, 0.60, 0.07, 0.06) + 9 * glow(0, 0.24, 0.16, 0.07) + 8 * glow(0, 0.89, 0.06, 0.035)
        skin -= 24 * glow(_EYE_X, _EYE_Y - 0.012, 0.085, 0.042) + 13 * glow(_EYE_X, 0.495, 0.05, 0.012)
        skin -= 15 * glow(0.062, 0.47, 0.022, 0.06) + 12 * glow(0, 0.825, 0.07, 0.014)
        skin += 20 * glow(0, 0.52, 0.018, 0.09) + 16 * glow(0, 0.612, 0.028, 0.022)
        wing = self._ellipse(across, y, 0.058, 0.628, 0.030, 0.026)
        skin -= 26 * np.exp(-((wing / 0.007) ** 2)) * (across > 0.05) + 20 * glow(0, 0.662, 0.055, 0.010)
        skin -= 85 * self._edge(self._ellipse(across, y, 0.030, 0.646, 0.017, 0.0085))
        fold = across - (0.085 + 0.30 * (y - 0.63))
        skin -= (
            15 * np.exp(-((fold / 0.010) ** 2)) * np.clip((y - 0.61) / 0.04, 0, 1) * np.clip((0.76 - y) / 0.06, 0, 1)
        )
        for height in (0.175, 0.215, 0.255):
            wave = height + 0.012 * np.cos(9 * (x - 0.5)) + 0.003 * np.sin(40 * x + 90 * height)
            skin -= 5 * np.exp(-(((y - wave) / 0.005) ** 2)) * np.exp(-((across / 0.17) ** 4))
        rough = np.clip(0.75 + 0.35 * _texture(rng, shape, 0.25 * fine), 0.25, 1.6)
        rough *= 1 - 0.45 * glow(0.20, 0.66, 0.06, 0.08)  # cheeks are the flat skin of a real face
        skin += 2.2 * rough * _texture(rng, shape, 7) + 2.4 * rough * _texture(rng, shape, 16)
        skin += 2.6 * _texture(rng, shape, 0.07 * fine) + 2.5 * _texture(rng, shape, 0.2 * fine)
        for _ in range(45):  # freckles and moles
            fx, fy = rng.uniform(0.18, 0.82), rng.uniform(0.15, 0.95)
            spot, depth = rng.uniform(0.0025, 0.006), rng.uniform(5, 28)
            skin -= depth * np.exp(-((x - fx) ** 2 + (y - fy) ** 2) / (2 * spot**2))

        # Brows: an arc of short hairs.
        t = (across - _EYE_X) / 0.095
        arc = 0.362 - 0.020 * (1 - t**2) + 0.012 * t
        thick = 0.017 * np.clip(1.05 - 0.45 * (t + 0.3) ** 2, 0.15, 1)
        hairs = _texture(rng, shape, 7, 0.6)
        brow = np.clip((thick - np.abs(y - arc) + 0.0035 * hairs) / 0.008, 0, 1) * self._edge(0.098 - 0.095 * np.abs(t))
        skin = skin * (1 - 0.80 * brow) + (52 + 14 * hairs) * 0.80 * brow

        # Mouth: two lips and the line between them.
        t = np.clip((x - 0.5) / 0.125, -1, 1)
        line = 0.748 + 0.0035 * np.cos(2.6 * np.pi * t) * (1 - t**2)
        upper = line - (0.026 - 0.008 * np.exp(-((t / 0.14) ** 2))) * (1 - t**2) ** 0.8
        lower = line + 0.038 * (1 - t**2) ** 0.7
        inside = self._edge(np.minimum(y - upper, lower - y)) * (np.abs(x - 0.5) < 0.125)
        wrinkles = _texture(rng, shape, 8, 2.5)
        tone = np.where(y < line, 92, 112 + 16 * np.exp(-(((y - line - 0.016) / 0.007) ** 2))) + 5 * wrinkles
        skin = skin * (1 - 0.9 * inside) + tone * 0.9 * inside
        skin -= 62 * np.exp(-(((y - line) / 0.0042) ** 2)) * self._edge(0.13 - across)
        skin -= 22 * glow(0.128, 0.748, 0.010, 0.010)

        # Around the face: neck, ears, hair, and a plain backdrop.
        backdrop = 128 - 30 * (y - 0.5) + 18 * (x - 0.5) + 1.5 * _texture(rng, shape, 0.15 * fine)
        neck = self._edge(np.minimum(0.22 + 0.6 * np.clip(y - 0.98, 0, 1) ** 2 - across, y - 0.6))
        picture = backdrop * (1 - neck) + (78 + 2 * _texture(rng, shape, 14)) * neck
        strands = _texture(rng, shape, 7, 3) + 0.8 * _texture(rng, shape, 24, 2.5)
        hair = self._edge(self._ellipse(x, y, 0.5, 0.40, 0.475, 0.46) + 0.004 * strands)
        hair *= np.clip((0.80 - y) / 0.1, 0, 1)
        picture = picture * (1 - hair) + (42 + 13 * strands + 20 * glow(0.15, 0.02, 0.15, 0.04)) * hair
        ear = self._edge(self._ellipse(across, y, 0.385, 0.50, 0.032, 0.085))
        picture = picture * (1 - ear) + (112 + 2 * _texture(rng, shape, 14)) * ear
        outline = np.where(
            y < 0.52, self._ellipse(x, y, 0.5, 0.52, 0.375, 0.44), self._ellipse(x, y, 0.5, 0.52, 0.375, 0.47)
        )
        hairline = 0.115 + 0.25 * across**2 * 4 + 0.004 * strands
        face = self._edge(outline) * np.clip((y - hairline) / 0.02 + 0.5, 0, 1)
        picture = picture * (1 - face) + skin * face

        # Eyeballs, seen between the lids.
        ball = 196 - 900 * (across - _EYE_X) ** 2 * 8 + 2 * _texture(rng, shape, 10)
        radius = np.hypot(across - _EYE_X, y - (_EYE_Y - 0.006))
        angle = np.arctan2(y - _EYE_Y, x - 0.5 - np.sign(x - 0.5) * _EYE_X)
        iris = (
            88 + 14 * np.sin(23 * angle) * np.clip(radius / 0.026, 0, 1) - 40 * np.clip((radius - 0.021) / 0.006, 0, 1)
        )
        inside = self._edge(0.027 - radius)
        ball = ball * (1 - inside) + iris * inside
        ball -= (ball - 18) * self._edge(0.0115 - radius)
        glint = self._edge(0.0055 - np.hypot(x - 0.5 - np.sign(x - 0.5) * _EYE_X + 0.008, y - _EYE_Y + 0.015))
        return picture, ball + (240 - ball) * glint

    def _with_eyes(self, closure: float, window: tuple[slice, slice] = (slice(None), slice(None))) -> Float:
        """The drawing, or a window of it, with the lids closed by a part 0 to 1."""
        x, y = self._x[window], self._y[window]
        skin = self._skin[window]
        across = np.abs(x - 0.5)
        t = (across - _EYE_X) / _EYE_WIDTH
        arch = np.maximum(1 - t**2, 0)
        rise, fall = _EYE_UP * arch, _EYE_DOWN * arch
        opening = rise + fall
        top = _EYE_Y - rise + closure * (1 - _LOWER_LID) * opening
        bottom = _EYE_Y + fall - closure * _LOWER_LID * opening
        fold = _EYE_Y - 0.016 - rise  # the crease out of which the lid slides
        inside = (np.abs(t) < 1).astype(np.float64)

        # The lid is one sheet of skin: its texture keeps its distance to the lid's edge.
        column = np.broadcast_to(np.arange(x.shape[1]) + (window[1].start or 0), x.shape)
        row = np.clip((y - top + 0.2) * self.fine, 0, len(self._lid_texture) - 2)
        base = row.astype(np.intp)
        part = row - base
        sheet = self._lid_texture[base, column] * (1 - part) + self._lid_texture[base + 1, column] * part
        lid = skin - 4 + 3.5 * sheet + 250 * (y - top)
        on_lid = inside * self._edge(y - fold) * self._edge(bottom - y)
        picture = skin * (1 - on_lid) + lid * on_lid
        picture -= 24 * np.exp(-(((y - fold) / 0.005) ** 2)) * inside * np.sqrt(arch)

        shade = self._eyeball[window] * (0.62 + 0.38 * np.clip((y - top) / 0.018, 0, 1))
        on_ball = inside * self._edge(np.minimum(y - top, bottom - y))
        picture = picture * (1 - on_ball) + shade * on_ball
        lash = np.exp(-(((y - top + 0.001) / 0.0055) ** 2)) * np.clip(1.06 - np.abs(t), 0, 0.2) * 5
        picture -= (picture - 28) * 0.85 * lash
        rim = np.exp(-(((y - bottom) / 0.004) ** 2)) * np.clip(1.03 - np.abs(t), 0, 0.2) * 5
        return np.asarray(picture - (picture - 70) * 0.45 * rim)

    def _blinking(self, closure: float) -> NDArray[np.float32]:
        picture: NDArray[np.float32] = self.picture.copy()
        pad = 16  # the difference is 0 beyond the eye, and so is its blurred picture beyond this
        for side in (-1, 1):
            low = np.array([_EYE_Y - 0.075, 0.5 + side * _EYE_X - _EYE_WIDTH - 0.01])
            high = np.array([_EYE_Y + 0.045, 0.5 + side * _EYE_X + _EYE_WIDTH + 0.01])
            first = ((low * self.size + self.margin) * _OVERSAMPLING).astype(int) - pad
            last = ((high * self.size + self.margin) * _OVERSAMPLING).astype(int) + pad
            window = slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))
            change = self._with_eyes(closure, window) - self._open[window]
            picture[window] += _through_lens(change).astype(np.float32)
        return picture

    def render(self, scene: _Scene, gain: float, noise: NDArray[np.float32]) -> NDArray[np.uint8]:
        size, centre = self.size, (self.size - 1) / 2
        x0, y0 = scene.undo_pose(0.0, 0.0, centre)
        cos, sin = np.cos(scene.pose[2]) / scene.pose[3], np.sin(scene.pose[2]) / scene.pose[3]
        if len(scene.bumps):
            grid = np.arange(size, dtype=np.float32)
            x, y = scene.undo_pose(*np.meshgrid(grid, grid), centre)
            shift = np.stack(scene.displacement(x.astype(np.float32), y.astype(np.float32)))
        else:
            shift = np.zeros((2, 1, 1), np.float32)
        picture = self._blinking(scene.closure) if scene.closure else self.picture
        out = np.empty((size, size), np.uint8)
        view = np.array([x0, y0, cos, sin])
        _sampler()(picture, view, shift, float(_OVERSAMPLING), float(self.margin), gain, noise, out)
        return out


@functools.cache
def _sampler() -> Callable[..., None]:
    """The cubic B-spline sampler, compiled on first use."""
    from numba import njit

    @njit(cache=True, nogil=True, error_model="numpy")
    def sample(picture, view, shift, oversampling, margin, gain, noise, out):  # type: ignore[no-untyped-def]
        rows, columns = picture.shape
        x0, y0, cos, sin = view
        moved = shift.shape[1] > 1
        sixth = np.float32(1 / 6)
        one, two, three, four = np.float32(1), np.float32(2), np.float32(3), np.float32(4)
        level = np.float32(gain)
        step = np.uint64(1)
        for i in range(out.shape[0]):
            for j in range(out.shape[1]):
                x = x0 + cos * j + sin * i
                y = y0 + cos * i - sin * j
                if moved:
                    x -= shift[0, i, j]
                    y -= shift[1, i, j]
                x = min(max((x + margin) * oversampling, 1.0), columns - 3.001)
                y = min(max((y + margin) * oversampling, 1.0), rows - 3.001)
                left, top = np.uint64(x), np.uint64(y)  # unsigned, so that no index is tested for being negative
                a, b = np.float32(x - left), np.float32(y - top)
                c, d = one - a, one - b
                wx0, wx3 = c * c * c, a * a * a
                wx1, wx2 = four - three * a * a * (two - a), four - three * c * c * (two - c)
                wy0, wy3 = d * d * d, b * b * b
                wy1, wy2 = four - three * b * b * (two - b), four - three * d * d * (two - d)
                total = np.float32(0)
                row = top - step
                for w in (wy0, wy1, wy2, wy3):
                    near = wx0 * picture[row, left - step] + wx1 * picture[row, left]
                    far = wx2 * picture[row, left + step] + wx3 * picture[row, left + step + step]
                    total += w * (near + far)
                    row += step
                value = total * sixth * sixth * level + noise[i, j]
                out[i, j] = np.uint8(min(max(value + np.float32(0.5), np.float32(0)), np.float32(255)))

    return sample  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Event:
    """One expression or blink; frames are inclusive, seconds are frame / fps, amplitude is in pixels.

    The motion is 0 at `onset` and `offset` and full at `apex`. A blink's amplitude is the way of the upper lid.
    """

    type: str
    onset: int
    apex: int
    offset: int
    onset_s: float
    apex_s: float
    offset_s: float
    amplitude: float
    region: str


@dataclass(frozen=True)
class _Waves:
    """A smooth random course: sinusoids whose amplitudes add up to 1."""

    frequency: Float
    phase: Float
    amplitude: Float

    @classmethod
    def draw(cls, rng: np.random.Generator, low: float, high: float) -> _Waves:
        frequency = np.exp(rng.uniform(np.log(low), np.log(high), 4))
        amplitude = frequency**-0.5
        return cls(2 * np.pi * frequency, rng.uniform(0, 2 * np.pi, 4), amplitude / amplitude.sum())

    def at(self, seconds: float) -> float:
        return float(self.amplitude @ np.sin(self.frequency * seconds + self.phase))


def _course(event: Event, hold: float, i: int) -> float:
    """How far an event has come at a frame inside it, 0 to 1: raised cosines up and down, full for `hold` of it."""
    far = event.onset if i <= event.apex else event.offset
    part = min((i - far) / (event.apex - far) / (1 - hold), 1.0)
    return float(0.5 - 0.5 * np.cos(np.pi * part))


class SyntheticFilm:
    """A film of a drawn face with known motion; made by `film`.

    Attributes
    ----------
    truth : list of Event
        Expressions and blinks in order of onset.
    fps : float
        Frames per second.
    shape : tuple of int
        (frame, y, x).
    """

    def __init__(
        self,
        face: _Face,
        frames: int,
        fps: float,
        *,
        seed: int,
        truth: list[Event],
        motions: list[Float],
        sway: float,
        waves: list[_Waves],
        noise: float,
        lighting: tuple[float, float, float],
        hold: float,
    ) -> None:
        self.truth = truth
        self.fps = fps
        self.shape = (frames, face.size, face.size)
        self._face = face
        self._seed = seed
        self._motions = motions
        self._onsets = np.array([event.onset for event in truth], np.intp)
        self._offsets = np.array([event.offset for event in truth], np.intp)
        self._sway = sway
        self._waves = waves
        self._noise = noise
        self._lighting = lighting
        self._hold = hold

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self.frame(i) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<SyntheticFilm of {len(self)} frames, {self.shape[1]}x{self.shape[2]}, {self.fps:g} fps>"

    @property
    def timestamps(self) -> Float:
        """Seconds of each frame, (frame,) float64."""
        return np.arange(len(self)) / self.fps

    def pose(self, i: int) -> tuple[float, float, float, float]:
        """Where the head is in frame i: (dx, dy, angle, scale) in pixels, radians and a factor.

        A point x of the neutral face is seen at `centre + scale R(angle) (x - centre) + (dx, dy)`; the centre is
        (size - 1) / 2 and a positive angle turns +x towards +y.
        """
        dx, dy, angle, scale, _ = (wave.at(i / self.fps) for wave in self._waves)
        pixels = self._sway
        return pixels * dx, pixels * dy, np.deg2rad(0.3 * pixels) * angle, 1 + 0.0015 * pixels * scale

    @property
    def eyes(self) -> Float:
        """Where the middles of both eyes are in each frame, (frame, 2, 2): (x, y) in pixels."""
        size, centre = self.shape[1], (self.shape[1] - 1) / 2
        x, y = np.array([[0.5 - _EYE_X, 0.5 + _EYE_X], [_EYE_Y, _EYE_Y]]) * size - 0.5
        still = np.empty((0, 6))
        return np.stack([
            np.stack(_Scene(self.pose(i), still).apply_pose(x, y, centre), axis=-1) for i in range(len(self))
        ])  # fmt: skip

    def _scene(self, i: int) -> _Scene:
        if not 0 <= i < len(self):
            raise IndexError(f"frame must be in 0..{len(self) - 1}, got {i}")
        rows, closure = [], 0.0
        for k in np.flatnonzero((self._onsets < i) & (i < self._offsets)):
            event, motion = self.truth[k], self._motions[k]
            part = _course(event, self._hold if event.type != "blink" else 0.0, i)
            rows.append(motion * [1, 1, 1, 1, part, part])
            if event.type == "blink":
                closure = part
        return _Scene(self.pose(i), np.concatenate(rows) if rows else np.empty((0, 6)), closure)

    def frame(self, i: int) -> NDArray[np.uint8]:
        """Frame i, (y, x) uint8."""
        scene = self._scene(i)
        noise = np.random.Generator(np.random.SFC64([self._seed, 1, i])).standard_normal(self.shape[1:], np.float32)
        noise *= np.float32(self._noise)
        drift, step, step_s = self._lighting
        gain = 1 + drift * self._waves[4].at(i / self.fps) + (step if i / self.fps >= step_s else 0)
        return self._face.render(scene, gain, noise)

    def frames(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Frames start to stop (left out), (frame, y, x) uint8."""
        start, stop, _ = slice(start, stop).indices(len(self))
        out: NDArray[np.uint8] = np.empty((max(stop - start, 0), *self.shape[1:]), np.uint8)
        for i in range(start, stop):
            out[i - start] = self.frame(i)
        return out

    def chunks(self, n: int = 256) -> Iterator[NDArray[np.uint8]]:
        """The whole film, n frames at a time."""
        return (self.frames(i, i + n) for i in range(0, len(self), n))

    def flow(self, i: int, j: int) -> NDArray[np.float32]:
        """The true flow from frame i to frame j.

        Returns
        -------
        flow : (y, x, 2) float32
            (dx, dy) in pixels with frame_j(x + flow(x)) = frame_i(x), as OpenCV has it. It is exact but for rounding,
            except between the eyelids while they blink, where the lids cover what would have moved, and where the
            frame's edge uncovers what frame i does not show.
        """
        return _flow(self._scene(i), self._scene(j), self.shape[1])

    def write(self, path: str | Path) -> Path:
        """Write every frame, bit for bit.

        Parameters
        ----------
        path
            A film (.avi or .mkv: FFV1 at a constant rate; Matroska rounds its timestamps to milliseconds), an array
            (.npy), or one image per frame (a pattern such as "folder/%06d.png" or "folder/%06d.tif"; the folder is
            made when it is missing).
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if "%" in path.name and suffix in _IMAGES:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write_images(path, _IMAGES[suffix])
        elif suffix in (".avi", ".mkv"):
            write_film(path, self, self.fps, self.shape[1:])
        elif suffix == ".npy":
            out = np.lib.format.open_memmap(path, "w+", np.uint8, self.shape)
            for i, frame in enumerate(self):
                out[i] = frame
            out.flush()
        else:
            raise ValueError(
                f"path must end in .avi, .mkv, .npy, or be a pattern like %06d.png or %06d.tif, got '{path}'"
            )
        return path

    def _write_images(self, pattern: Path, codec: str) -> None:
        import av

        for i, picture in enumerate(self):
            encoder = av.CodecContext.create(codec, "w")
            encoder.height, encoder.width = self.shape[1:]
            encoder.pix_fmt, encoder.time_base = "gray", Fraction(1, 1)
            packets = [*encoder.encode(av.VideoFrame.from_ndarray(picture, format="gray")), *encoder.encode()]
            pattern.with_name(pattern.name % i).write_bytes(b"".join(bytes(packet) for packet in packets))

    def write_truth(self, path: str | Path) -> Path:
        """Write `truth` as CSV: type, onset, apex, offset, onset_s, apex_s, offset_s, amplitude, region."""
        path = Path(path)
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow([field.name for field in fields(Event)])
            table.writerows(astuple(event) for event in self.truth)
        return path


# name: (seconds, pixels of a frame 256 wide), each from and to
_KINDS = {"micro": ((0.2, 0.5), (0.7, 1.8)), "macro": ((0.6, 1.8), (2.0, 4.0))}
_IMAGES = {".png": "png", ".tif": "tiff", ".tiff": "tiff"}


def write_film(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float, shape: tuple[int, ...]) -> None:
    """Write grey frames of `shape` (y, x) bit for bit, as FFV1."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = shape
        stream.pix_fmt = "gray"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode())


def _at_least(name: str, value: float, low: float) -> None:
    if not value >= low:
        raise ValueError(f"{name} must be at least {low:g}, got {value!r}")


def _spread(rng: np.random.Generator, lengths: NDArray[np.intp], frames: int, gap: int, what: str) -> NDArray[np.intp]:
    """First frames of intervals that keep `gap` frames between them and to the film's ends, in order."""
    free = frames - int(lengths.sum()) - gap * (len(lengths) + 1)
    if free < 0:
        raise ValueError(f"{what} must fit in the film: {len(lengths)} events need {-free} more frames than {frames}")
    before = np.concatenate([[0], np.cumsum(lengths[:-1])]).astype(np.intp)
    return np.asarray(np.sort(rng.integers(0, free + 1, len(lengths))) + before + gap * np.arange(1, len(lengths) + 1))


def film(
    duration: float = 60.0,
    fps: float = 150.0,
    size: int = 256,
    *,
    seed: int = 0,
    micro: float = 6.0,
    macro: float = 4.0,
    blinks: float = 12.0,
    hold: float = 0.0,
    sway: float = 2.0,
    noise: float = 1.0,
    lighting: float = 0.03,
    lighting_step: float = 0.0,
) -> SyntheticFilm:
    """Plan a film of a drawn face with known motion; its frames are drawn when they are asked for.

    Expressions are local smooth motions in the places of brows, lids, nose, lip corners and chin, on one side or both,
    that rise and fall as raised cosines: micro-expressions last 0.2-0.5 s with 0.7-1.8 px, macro-expressions 0.6-1.8 s
    with 2-4 px (per 256 px of width). They keep 0.4 s between each other and to the film's ends, and so do blinks
    (0.15-0.4 s), which may overlap expressions. The whole picture follows the head, its plain backdrop too.

    Parameters
    ----------
    duration : float
        Seconds.
    fps : float
        Frames per second, at least 20.
    size : int
        Height and width in pixels, at least 32.
    seed : int
        Decides face, events and noise.
    micro, macro, blinks : float
        Events per minute, rounded to a whole number for the film.
    hold : float
        Part of an expression's length, 0 to 0.9, for which it stays at its apex.
    sway : float
        Bound of the head's slow motion in pixels along each axis; it also turns by up to 0.3 degrees and grows by up
        to 0.15 % per pixel.
    noise : float
        Standard deviation of the camera's noise in grey levels.
    lighting : float
        Bound of the slow drift of brightness, a part of 1.
    lighting_step : float
        One sudden change of brightness, a part of 1, at a moment that the seed decides.

    Returns
    -------
    SyntheticFilm

    Raises
    ------
    ValueError
        When a parameter is out of range or the events do not fit in the film.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> film = synth.film(20, fps=50, size=128, seed=1)
    >>> film
    <SyntheticFilm of 1000 frames, 128x128, 50 fps>
    >>> film.frame(0).shape
    (128, 128)
    >>> [(event.type, event.region, event.apex) for event in film.truth][1]
    ('micro', 'lip_corner_depress_left', 74)
    """
    _at_least("fps", fps, 20)
    _at_least("size", size, 32)
    _at_least("seed", seed, 0)
    for name, value in [
        ("micro", micro),
        ("macro", macro),
        ("blinks", blinks),
        ("sway", sway),
        ("noise", noise),
        ("lighting", lighting),
    ]:
        _at_least(name, value, 0)
    if not 0 <= hold <= 0.9:
        raise ValueError(f"hold must be in 0..0.9, got {hold!r}")
    frames = round(duration * fps)
    if frames < 1:
        raise ValueError(f"duration must hold at least one frame, got {duration!r} s at {fps:g} fps")
    rng = np.random.default_rng([seed, 0])
    face = _Face(size, np.random.default_rng([seed, 2]))
    waves = [_Waves.draw(rng, 0.06, 0.6) for _ in range(4)] + [_Waves.draw(rng, 0.01, 0.06)]
    step_s = duration * rng.uniform(0.2, 0.8)

    planned: list[tuple[Event, Float]] = []

    def add(kind: str, onset: int, length: int, rise: float, amplitude: float, region: str, motion: Float) -> None:
        apex = onset + min(max(round(length * rise), 1), length - 1)
        offset = onset + length
        seconds = onset / fps, apex / fps, offset / fps
        planned.append((Event(kind, onset, apex, offset, *seconds, amplitude, region), motion))

    kinds = rng.permutation(
        ["micro"] * round(micro * duration / 60) + ["macro"] * round(macro * duration / 60)
    ).tolist()
    if kinds:
        seconds, pixels = np.array([[rng.uniform(*limits) for limits in _KINDS[kind]] for kind in kinds]).T
        lengths = np.rint(seconds * fps).astype(np.intp)
        onsets = _spread(rng, lengths, frames, round(0.4 * fps), "micro and macro")
        for kind, onset, length, amplitude in zip(kinds, onsets, lengths, pixels * size / 256, strict=True):
            region = rng.choice(list(_REGIONS)).item()
            sides, side_name = [((-1, 1), ""), ((-1,), "_left"), ((1,), "_right")][rng.choice(3, p=[0.6, 0.2, 0.2])]
            motion = _bumps(region, sides, size) * [1, 1, 1, 1, amplitude, amplitude]
            place = region + side_name if _REGIONS[region][0] else region
            add(kind, int(onset), int(length), rng.uniform(0.35, 0.55), float(amplitude), place, motion)

    lengths = np.rint(rng.uniform(0.15, 0.4, round(blinks * duration / 60)) * fps).astype(np.intp)
    if len(lengths):
        travel = (1 - _LOWER_LID) * (_EYE_UP + _EYE_DOWN) * size
        skin = np.array(  # what a blink moves around the eyes: the brow side down, the cheek side up
            [
                ((0.5 + s * _EYE_X) * size - 0.5, y * size - 0.5, 0.14 * size, 0.09 * size, 0, dy * size / 256)
                for s in (-1, 1)
                for y, dy in ((_EYE_Y - 0.05, 0.8), (_EYE_Y + 0.05, -0.6))
            ]
        )
        for onset, length in zip(_spread(rng, lengths, frames, round(0.4 * fps), "blinks"), lengths, strict=True):
            add("blink", int(onset), int(length), rng.uniform(0.3, 0.45), travel, "eyes", skin)

    planned.sort(key=lambda item: (item[0].onset, item[0].type))
    return SyntheticFilm(
        face,
        frames,
        float(fps),
        seed=seed,
        truth=[event for event, _ in planned],
        motions=[motion for _, motion in planned],
        sway=float(sway),
        waves=waves,
        noise=noise,
        lighting=(lighting, lighting_step, step_s),
        hold=hold,
    )


def flow_pair(
    size: int | tuple[int, int] = 256, *, displacement: float = 2.0, noise: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Two frames of a drawn face between which everything moves, and the flow between them.

    Parameters
    ----------
    size : int or (int, int)
        Side, or (height, width), in pixels, at least 32; a rectangle is the middle of a square drawing.
    displacement : float
        Size of the motions in pixels, at most a 24th of the longer side: the head sways by up to this, and five
        regions of the face each move by it.
    noise : float
        Standard deviation of the camera's noise in grey levels.
    seed : int
        Decides face, motions and noise.

    Returns
    -------
    prev, curr : (y, x) uint8
    flow : (y, x, 2) float32
        (dx, dy) in pixels with curr(x + flow(x)) = prev(x).

    Examples
    --------
    >>> from mmme_fast import synth
    >>> prev, curr, flow = synth.flow_pair(128)
    >>> prev.shape, prev.dtype, flow.shape, flow.dtype
    ((128, 128), dtype('uint8'), (128, 128, 2), dtype('float32'))
    """
    height, width = (size, size) if isinstance(size, int) else size
    _at_least("size", min(height, width), 32)
    _at_least("displacement", displacement, 0)
    _at_least("noise", noise, 0)
    _at_least("seed", seed, 0)
    side = max(height, width)
    if not displacement <= side / 24:
        raise ValueError(f"displacement must be at most size / 24 = {side / 24:.3g} px, got {displacement!r}")
    rng = np.random.default_rng([seed, 3])
    face = _Face(side, rng)

    def scene(regions: Sequence[str]) -> _Scene:
        dx, dy, angle, scale = rng.uniform(-0.5, 0.5, 4) * displacement
        rows = [_bumps(region, (-1, 1), side) * [1, 1, 1, 1, displacement, displacement] for region in regions]
        pose = dx, dy, angle / side, 1 + scale / side
        return _Scene(pose, np.concatenate(rows) if rows else np.empty((0, 6)))

    before, after = scene([]), scene(rng.choice(list(_REGIONS), 5, replace=False).tolist())
    top, left = (side - height) // 2, (side - width) // 2
    window = slice(top, top + height), slice(left, left + width)
    grain = (rng.standard_normal((2, side, side), np.float32) * np.float32(noise)).astype(np.float32)
    prev, curr = (
        np.ascontiguousarray(face.render(scene, 1.0, grain[k])[window]) for k, scene in enumerate((before, after))
    )
    return prev, curr, np.ascontiguousarray(_flow(before, after, side)[window])


# Whole hertz, so that sinusoids are orthogonal over any window of whole seconds, and one hertz or more inside the band,
# so that a Hann taper does not carry them out of it.
_BANDS = {
    "delta": ((1.0, 4.0), (2, 3), 12e-6),
    "theta": ((4.0, 8.0), (5, 6, 7), 6e-6),
    "alpha": ((8.0, 13.0), (9, 10, 11), 9e-6),
    "beta": ((13.0, 30.0), (15, 20, 26), 4e-6),
    "gamma": ((30.0, 47.0), (33, 38, 43), 2e-6),
}
# fmt: off
_CHANNELS = [
    "FP1", "FPZ", "FP2", "AF3", "AF4", "F7", "F5", "F3", "F1", "FZ", "F2", "F4", "F6",
    "F8", "FT7", "FC5", "FC3", "FC1", "FCZ", "FC2", "FC4", "FC6", "FT8", "T7", "C5", "C3",
    "C1", "CZ", "C2", "C4", "C6", "T8", "M1", "TP7", "CP5", "CP3", "CP1", "CPZ", "CP2",
    "CP4", "CP6", "TP8", "M2", "P7", "P5", "P3", "P1", "PZ", "P2", "P4", "P6", "P8",
    "PO7", "PO5", "PO3", "POZ", "PO4", "PO6", "PO8", "CB1", "O1", "OZ", "O2", "CB2",
]
# fmt: on
_OTHERS = ["HEO", "VEO", "EKG", "EMG", "TRIGGER"]
_BLOCK = 8192  # samples; blocks are always computed whole, so that no value depends on what was asked for


@dataclass(frozen=True)
class Clip:
    """A clip that was shown: its marker, and its start and end in seconds of the film's clock."""

    code: int
    start_s: float
    stop_s: float


class SyntheticRecording:
    """EEG with known band power and markers; made by `recording`.

    Attributes
    ----------
    sfreq : float
        Samples per second.
    ch_names : list of str
    shape : tuple of int
        (channel, sample).
    bands : dict of str to (float, float)
        Lowest and highest frequency of each band in Hz.
    truth : dict of str to (channel,) float64
        Power of each band in V^2, in any window of whole seconds; alpha while it is on.
    alpha : list of (int, int)
        First and last (left out) sample of each stretch in which alpha is on.
    clips : list of Clip
    markers : list of (int, int)
        Sample and code: 101-148 start a clip, 100 ends it, 77 and 88 mean nothing.
    """

    def __init__(
        self,
        ch_names: list[str],
        samples: int,
        sfreq: float,
        *,
        seed: int,
        weights: NDArray[np.complex128],
        alpha: list[tuple[int, int]],
        pink: float,
        clips: list[Clip],
        markers: list[tuple[int, int]],
    ) -> None:
        self.sfreq = sfreq
        self.ch_names = ch_names
        self.shape = (len(ch_names), samples)
        self.bands = {name: edges for name, (edges, _, _) in _BANDS.items()}
        self.alpha = alpha
        self.clips = clips
        self.markers = markers
        self._seed = seed
        self._weights = weights
        self._pink = pink
        self._frequencies = np.array([hertz for _, tones, _ in _BANDS.values() for hertz in tones], np.float64)
        of_band = [name for name, (_, tones, _) in _BANDS.items() for _ in tones]
        self._is_alpha = np.array([name == "alpha" for name in of_band])
        power = np.abs(weights) ** 2 / 2
        self.truth = {name: power[:, [b == name for b in of_band]].sum(axis=1) for name in _BANDS}

    def __repr__(self) -> str:
        channels, samples = self.shape
        return f"<SyntheticRecording of {channels} channels, {samples / self.sfreq:g} s at {self.sfreq:g} Hz>"

    def data(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Samples start to stop (left out), (channel, sample) float32 in volts."""
        start, stop, _ = slice(start, stop).indices(self.shape[1])
        out = np.empty((self.shape[0], max(stop - start, 0)), np.float32)
        for block in range(start // _BLOCK, -(-stop // _BLOCK) if stop > start else 0):
            first = block * _BLOCK
            low, high = max(start, first), min(stop, first + _BLOCK)
            out[:, low - start : high - start] = self._block(block)[:, low - first : high - first]
        return out

    def chunks(self, n: int = 16 * _BLOCK) -> Iterator[NDArray[np.float32]]:
        """The whole recording, n samples at a time."""
        return (self.data(i, i + n) for i in range(0, self.shape[1], n))

    def _block(self, block: int) -> NDArray[np.float32]:
        n = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
        turns = (self._frequencies[:, None] * n % self.sfreq) / self.sfreq
        tones = np.exp(2j * np.pi * turns)
        on = np.zeros(_BLOCK)
        for first, last in self.alpha:
            on[max(first - int(n[0]), 0) : max(last - int(n[0]), 0)] = 1
        tones[self._is_alpha] *= on
        data: Float = self._weights.real @ tones.real - self._weights.imag @ tones.imag
        if self._pink:
            white = np.concatenate([self._white(block), self._white(block + 1)], axis=1)
            coloured = np.fft.irfft(np.fft.rfft(white) * np.fft.rfft(self._pink_taps(), 2 * _BLOCK), 2 * _BLOCK)
            data += coloured[:, _BLOCK:]
        return data.astype(np.float32)

    def _white(self, block: int) -> Float:
        return np.random.Generator(np.random.SFC64([self._seed, 5, block])).standard_normal((self.shape[0], _BLOCK))

    def _pink_taps(self) -> Float:
        """FIR filter that gives white noise a spectrum of 1/f above 0.5 Hz and the wanted standard deviation."""
        hertz = np.fft.rfftfreq(_BLOCK, 1 / self.sfreq)
        taps = np.roll(np.fft.irfft(np.maximum(hertz, 0.5) ** -0.5), _BLOCK // 2)
        return np.asarray(self._pink * taps / np.sqrt((taps**2).sum()))

    def write(self, path: str | Path) -> Path:
        """Write the recording piece by piece.

        Parameters
        ----------
        path
            .npy (volts, (channel, sample) float32), .set (EEGLAB, with its .fdt beside it; needs SciPy), or .vhdr
            (BrainVision, with .vmrk and .eeg beside it). The two last hold microvolts as float32 and the markers.
        """
        path = Path(path)
        writers = {".npy": self._write_npy, ".set": self._write_eeglab, ".vhdr": self._write_brainvision}
        if path.suffix.lower() not in writers:
            raise ValueError(f"path must end in {', '.join(writers)}, got '{path}'")
        writers[path.suffix.lower()](path)
        return path

    def _write_npy(self, path: Path) -> None:
        out = np.lib.format.open_memmap(path, "w+", np.float32, self.shape)
        done = 0
        for chunk in self.chunks():
            out[:, done : done + chunk.shape[1]] = chunk
            done += chunk.shape[1]
        out.flush()

    def _write_samples(self, path: Path) -> None:
        with path.open("wb") as file:
            for chunk in self.chunks():
                np.ascontiguousarray(chunk.T * np.float32(1e6), "<f4").tofile(file)

    def _write_eeglab(self, path: Path) -> None:
        from scipy.io import savemat

        channels, samples = self.shape
        self._write_samples(path.with_suffix(".fdt"))
        places = np.array([(name,) for name in self.ch_names], [("labels", object)])
        rows = [(str(code), sample + 1.0, 1.0) for sample, code in self.markers]
        events = np.array(rows, [("type", object), ("latency", object), ("duration", object)])
        savemat(
            path,
            {
                "EEG": {
                    "setname": path.stem,
                    "filename": path.name,
                    "filepath": "",
                    "nbchan": float(channels),
                    "pnts": float(samples),
                    "trials": 1.0,
                    "srate": self.sfreq,
                    "xmin": 0.0,
                    "xmax": (samples - 1) / self.sfreq,
                    "data": path.with_suffix(".fdt").name,
                    "datfile": path.with_suffix(".fdt").name,
                    "ref": "common",
                    "chanlocs": places,
                    "event": events,
                    "epoch": np.empty((0, 0)),
                    "icawinv": np.empty((0, 0)),
                    "icasphere": np.empty((0, 0)),
                    "icaweights": np.empty((0, 0)),
                }
            },
        )

    def _write_brainvision(self, path: Path) -> None:
        samples, marks = path.with_suffix(".eeg"), path.with_suffix(".vmrk")
        self._write_samples(samples)
        common = ["[Common Infos]", "Codepage=UTF-8", f"DataFile={samples.name}"]
        header = [
            "Brain Vision Data Exchange Header File Version 1.0",
            *common,
            f"MarkerFile={marks.name}",
            "DataFormat=BINARY",
            "DataOrientation=MULTIPLEXED",
            f"NumberOfChannels={self.shape[0]}",
            f"SamplingInterval={1e6 / self.sfreq:.12g}",
            "[Binary Infos]",
            "BinaryFormat=IEEE_FLOAT_32",
            "[Channel Infos]",
            *(f"Ch{i}={name},,1,µV" for i, name in enumerate(self.ch_names, 1)),
        ]
        markers = [
            "Brain Vision Data Exchange Marker File, Version 1.0",
            *common,
            "[Marker Infos]",
            "Mk1=New Segment,,1,1,0",
            *(f"Mk{i}=Stimulus,S{code:3d},{sample + 1},1,0" for i, (sample, code) in enumerate(self.markers, 2)),
        ]
        path.write_text("\n".join(header) + "\n", encoding="utf-8")
        marks.write_text("\n".join(markers) + "\n", encoding="utf-8")


def recording(
    duration: float = 600.0,
    sfreq: float = 1000.0,
    channels: int = 64,
    *,
    seed: int = 0,
    others: bool = False,
    alpha_switch: float = 0.0,
    pink: float = 0.0,
    clip: float = 60.0,
    gap: float = 5.0,
    offset: float = 0.0,
    skew_ppm: float = 0.0,
) -> SyntheticRecording:
    """Plan an EEG recording with known band power and MMME's markers; its samples are computed when asked for.

    Each channel is the sum of two or three sinusoids of whole hertz in each of the bands delta, theta, alpha, beta and
    gamma, so a periodogram of any whole seconds finds exactly the power in `SyntheticRecording.truth`.

    Parameters
    ----------
    duration : float
        Seconds.
    sfreq : float
        Samples per second, at least 100.
    channels : int
        EEG channels, named as on a 64-channel cap and E65, E66, ... beyond.
    seed : int
        Decides powers, phases, the order of the clips and the background.
    others : bool
        Add five channels that are not EEG, made in the same way: HEO, VEO, EKG, EMG, TRIGGER.
    alpha_switch : float
        Seconds for which alpha is on, then off, and so on; 0 leaves it on.
    pink : float
        Standard deviation in volts of a 1/f background, which adds to the power in `truth`.
    clip, gap : float
        Seconds of a clip, and before and after each; there are as many clips as fit, 48 at most.
    offset, skew_ppm : float
        The EEG's clock against the film's: second t of the film is second (t + offset) (1 + skew_ppm / 1e6) here.

    Returns
    -------
    SyntheticRecording

    Raises
    ------
    ValueError
        When a parameter is out of range.

    Examples
    --------
    >>> from mmme_fast import synth
    >>> made = synth.recording(10, sfreq=250, channels=4, seed=1)
    >>> made
    <SyntheticRecording of 4 channels, 10 s at 250 Hz>
    >>> made.data(0, 250).shape
    (4, 250)
    """
    _at_least("sfreq", sfreq, 100)
    _at_least("channels", channels, 1)
    for name, value in [("seed", seed), ("alpha_switch", alpha_switch), ("pink", pink), ("gap", gap)]:
        _at_least(name, value, 0)
    if not clip > 0:
        raise ValueError(f"clip must be above 0 s, got {clip!r}")
    samples = round(duration * sfreq)
    if samples < 1:
        raise ValueError(f"duration must hold at least one sample, got {duration!r} s at {sfreq:g} Hz")
    rng = np.random.default_rng([seed, 4])
    ch_names = [*_CHANNELS, *(f"E{i}" for i in range(len(_CHANNELS) + 1, channels + 1))][:channels]
    ch_names += _OTHERS if others else []

    weights = []
    for _, tones, rms in _BANDS.values():
        share = rng.uniform(0.5, 1.5, (len(ch_names), len(tones)))
        share /= share.sum(axis=1, keepdims=True)
        power = (rms * rng.lognormal(0, 0.3, (len(ch_names), 1))) ** 2 * share
        weights.append(np.sqrt(2 * power) * np.exp(2j * np.pi * rng.random(power.shape)))

    switch = round(alpha_switch * sfreq)
    alpha = [(i, min(i + switch, samples)) for i in range(0, samples, 2 * switch)] if switch else [(0, samples)]

    def sample_at(seconds: float) -> int:
        return round((seconds + offset) * (1 + skew_ppm * 1e-6) * sfreq)

    clips = []
    for k, code in enumerate(rng.permutation(np.arange(101, 149))):
        start = gap + k * (clip + gap)
        if sample_at(start) >= 0 and sample_at(start + clip) < samples:
            clips.append(Clip(int(code), start, start + clip))
    marked = [mark for c in clips for mark in ((c.start_s, c.code), (c.stop_s, 100))]
    if clips:
        marked += [(clips[0].start_s - gap / 2, 88), (clips[-1].stop_s + gap / 2, 77)]
    markers = sorted((sample_at(seconds), code) for seconds, code in marked)
    return SyntheticRecording(
        ch_names,
        samples,
        float(sfreq),
        seed=seed,
        weights=np.concatenate(weights, axis=1),
        alpha=alpha,
        pink=pink,
        clips=clips,
        markers=[(sample, code) for sample, code in markers if 0 <= sample < samples],
    )
