"""The spotting methods' kernels beside NumPy and their scoring beside SciPy, one thread: frames of 128x128."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast import synth
from mmme_fast.methods import directional_difference, feature_difference, find_peaks, lbp_histograms, softnet_intervals

FILM = synth.film(3, 50, 128, seed=1, micro=20, macro=20, blinks=0).frames().astype(np.float32) / 255
BLOCKS, K = 6, 10
PART = np.float32(0.12132)


def numpy_lbp(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole frames at a time: differences, a table of patterns, one bincount of block and pattern."""
    count, height, width = frames.shape
    height, width = height - 6, width - 6

    def moved(dy: int, dx: int) -> NDArray[np.float32]:
        return frames[:, 3 + dy : 3 + dy + height, 3 + dx : 3 + dx + width]

    middle = moved(0, 0)
    codes = np.zeros(middle.shape, np.int64)
    for bit, (dy, dx) in enumerate(((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))):
        if dy and dx:
            near, far = 1 - PART, PART
            away = near * near * (moved(2 * dy, 2 * dx) - middle) + near * far * (moved(2 * dy, 3 * dx) - middle)
            away += near * far * (moved(3 * dy, 2 * dx) - middle) + far * far * (moved(3 * dy, 3 * dx) - middle)
            codes |= (away >= 0).astype(np.int64) << bit
        else:
            codes |= (moved(3 * dy, 3 * dx) >= middle).astype(np.int64) << bit
    table = np.full(256, 58)
    for pattern in range(256):
        bits = [pattern >> p & 1 for p in range(8)]
        if sum(bits) in (0, 8):
            table[pattern] = 0 if not sum(bits) else 57
        elif sum(bits[p] != bits[p - 1] for p in range(8)) == 2:
            first = bits.index(1)
            table[pattern] = 1 + 8 * (sum(bits) - 1) + (sum(bits) - bits.index(0) if first == 0 else 8 - first)
    lines = [
        np.searchsorted([n * i // BLOCKS for i in range(1, BLOCKS)], np.arange(n), "right") for n in (height, width)
    ]
    block = lines[0][:, None] * BLOCKS + lines[1]
    frame = np.arange(count)[:, None, None] * BLOCKS**2
    counts = np.bincount(((frame + block) * 59 + table[codes]).ravel(), minlength=count * BLOCKS**2 * 59)
    shares = counts.reshape(count, BLOCKS**2, 59) / np.bincount(block.ravel())[:, None]
    return shares.reshape(count, BLOCKS, BLOCKS, 59).astype(np.float32)


def numpy_difference(histograms: NDArray[np.float32]) -> NDArray[np.float32]:
    at, mean = histograms[K:-K], (histograms[: -2 * K] + histograms[2 * K :]) / 2
    both = at + mean
    return np.where(both > 0, (at - mean) ** 2 / np.where(both > 0, both, 1), 0).sum(-1, dtype=np.float32)


@pytest.mark.parametrize("part", ["lbp", "chi-square", "both"])
def bench_lbp(benchmark: Any, backend: str, beside: Any, part: str) -> None:
    benchmark.group = f"local binary patterns: {part}, {len(FILM)} frames"
    histograms = lbp_histograms(FILM)
    ours, theirs = beside(
        *{
            "lbp": (lambda: lbp_histograms(FILM, threads=1), lambda: numpy_lbp(FILM)),
            "chi-square": (
                lambda: feature_difference(histograms, K, threads=1),
                lambda: numpy_difference(histograms),
            ),
            "both": (
                lambda: feature_difference(lbp_histograms(FILM, threads=1), K, threads=1),
                lambda: numpy_difference(numpy_lbp(FILM)),
            ),
        }[part]
    )
    error = float(np.abs(ours - theirs).max())
    benchmark.extra_info["max_error"] = error
    assert error < 0.01  # a tie that rounding decides moves one of a block's 400 pixels
    assert float(np.abs(ours - theirs).mean()) < 1e-4


def numpy_directional(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """One block of all frames at a time."""
    count, height, width, _ = a.shape
    quarter = np.clip(np.floor(np.arctan2(a[..., 1], a[..., 0]) / (np.pi / 2)) + 2, 0, 3)
    away = np.hypot(a[..., 0], a[..., 1]) - np.hypot(b[..., 0], b[..., 1])
    out = np.empty((count, BLOCKS, BLOCKS), np.float32)
    for r in range(BLOCKS):
        for c in range(BLOCKS):
            y = slice(height * r // BLOCKS, height * (r + 1) // BLOCKS)
            x = slice(width * c // BLOCKS, width * (c + 1) // BLOCKS)
            own = quarter[:, y, x].reshape(count, -1)
            counts = (own[..., None] == np.arange(4)).sum(1)
            chosen = np.where(own == counts.argmax(1)[:, None], away[:, y, x].reshape(count, -1), -np.inf)
            sums = np.cumsum(-np.sort(-chosen, axis=1), axis=1, dtype=float)
            many = np.maximum(counts.max(1) // 3, 1)
            out[:, r, c] = sums[np.arange(count), many - 1] / many
    return out


def bench_mdmd(benchmark: Any, backend: str, beside: Any) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 32, 128, 128, 2)).astype(np.float32)
    benchmark.group = "main directional maximal difference, 32 pairs of flow fields"
    ours, theirs = beside(lambda: directional_difference(a, b, threads=1), lambda: numpy_directional(a, b))
    error = float(np.abs(ours - theirs).max())
    benchmark.extra_info["max_error"] = error
    assert error < 1e-5


@pytest.mark.parametrize("part", ["peaks", "softnet"])
def bench_scoring(benchmark: Any, beside: Any, part: str) -> None:
    """Ten minutes of scores at 200 frames per second; SOFTNet's published loop."""
    signal = pytest.importorskip("scipy.signal")
    k = 37
    scores = np.random.default_rng(0).random(120_000)
    scores = np.convolve(scores, np.ones(9) / 9, "same")
    benchmark.group = f"scoring 120,000 frames: {part}"
    height = float(scores.mean())

    def published() -> NDArray[np.intp]:
        means = scores.copy()
        for x in range(len(scores) - 2 * k):
            means[x + k] = scores[x : x + 2 * k].mean()
        means = means[k:-k]
        level = means.mean() + 0.55 * (means.max() - means.mean())
        return signal.find_peaks(means, height=level, distance=k)[0]

    ours, theirs = beside(
        *{
            "peaks": (
                lambda: find_peaks(scores, height=height, distance=k),
                lambda: signal.find_peaks(scores, height=height, distance=k)[0],
            ),
            "softnet": (lambda: softnet_intervals(scores, k)[1][:, 0], published),
        }[part]
    )
    np.testing.assert_array_equal(ours, theirs)
