"""Matched-filter spotting on block signals whose events are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from mmme_fast.spotting import Matched, matched

RATE = 50.0
GRID = np.stack(np.meshgrid(np.arange(13), np.arange(13)), -1).reshape(-1, 2) / 16 + 1 / 8  # parts of the width


def bump(centre: tuple[float, float], direction: tuple[float, float], sigma: float = 0.07) -> NDArray[np.float64]:
    distance = ((GRID - centre) ** 2).sum(1)
    return np.exp(-distance / (2 * sigma**2))[:, None] * np.array(direction)


def signals(seconds: float, events: list[tuple[float, float, NDArray[np.float64]]], noise: float = 0.01) -> NDArray:
    t = np.arange(int(seconds * RATE)) / RATE
    out = np.random.default_rng(0).normal(scale=noise, size=(len(t), len(GRID), 2))
    out += 0.2 * np.sin(2 * np.pi * t / 17)[:, None, None]  # drift
    for start, length, pattern in events:
        phase = np.clip((t - start) / length, 0, 1)
        out += (0.5 - 0.5 * np.cos(2 * np.pi * phase))[:, None, None] * pattern
    return out.astype(np.float32)


def known(blocks: NDArray, valid: NDArray | None = None, unrest: float = 0) -> tuple[NDArray, NDArray, NDArray]:
    shown = np.ones(blocks.shape[:2], bool) if valid is None else valid
    return blocks, shown, np.full(len(blocks), unrest, np.float32)


SMILE = bump((0.35, 0.7), (-0.8, -0.6))
BROWS = bump((0.35, 0.3), (0, -1)) + bump((0.65, 0.3), (0, -1))
BLINK = 2.4 * (bump((0.35, 0.42), (0, 1), 0.06) + bump((0.65, 0.42), (0, 1), 0.06))


def test_events_are_found_where_they_are_and_nothing_else() -> None:
    events = [(5.0, 0.3, SMILE), (12.0, 1.2, 2 * BROWS), (20.0, 0.4, 0.6 * BROWS), (26.0, 0.25, BLINK)]
    blocks = signals(32, events)
    scores, found = matched([known(blocks)], RATE, GRID)
    assert [f.type for f in found] == ["micro", "macro", "micro", "blink"]
    assert len(scores) == len(blocks)
    for (start, length, _), one in zip(events, found, strict=True):
        assert one.onset / RATE == pytest.approx(start, abs=0.05)
        assert one.offset / RATE == pytest.approx(start + length, abs=0.05)
        assert one.apex / RATE == pytest.approx(start + length / 2, abs=0.05)
        assert scores[round(one.apex)] == pytest.approx(one.score, rel=0.2)
    np.testing.assert_allclose(GRID[found[0].block], (0.35, 0.7), atol=0.05)


def test_noise_and_drift_alone_give_nothing() -> None:
    blocks = signals(60, [], noise=0.02)
    scores, found = matched([known(blocks)], RATE, GRID)
    assert not found
    assert scores.max() < 1


def test_an_expression_beside_a_blink_survives() -> None:
    blocks = signals(20, [(10.0, 0.3, BLINK), (10.05, 0.4, SMILE)])
    _, found = matched([known(blocks)], RATE, GRID)
    assert sorted(f.type for f in found) == ["blink", "micro"]


def test_an_expression_that_holds_keeps_its_ends() -> None:
    t = np.arange(int(20 * RATE)) / RATE
    blocks = signals(20, [])
    rise = np.clip((t - 8) / 0.3, 0, 1) - np.clip((t - 9.2) / 0.3, 0, 1)
    blocks += ((0.5 - 0.5 * np.cos(np.pi * rise))[:, None, None] * 2 * SMILE).astype(np.float32)
    _, found = matched([known(blocks)], RATE, GRID)
    assert len(found) == 1
    assert found[0].onset / RATE == pytest.approx(8.0, abs=0.06)
    assert found[0].offset / RATE == pytest.approx(9.5, abs=0.06)


def test_an_expression_during_a_blink_is_told_apart() -> None:
    chin = bump((0.5, 0.87), (0, -1))
    blocks = signals(24, [(float(s), 0.3, BLINK) for s in (3, 9, 15, 20)] + [(9.02, 0.36, 0.9 * chin)])
    _, found = matched([known(blocks)], RATE, GRID)
    assert [f.type for f in found].count("blink") == 4
    (one,) = (f for f in found if f.type != "blink")
    assert one.type == "micro"
    np.testing.assert_allclose(GRID[one.block], (0.5, 0.875), atol=0.01)


def test_a_long_hold_is_one_expression_also_at_the_ends_of_a_film() -> None:
    blocks = signals(10, [(0.3, 1.5, 2 * SMILE), (8.2, 1.5, 2 * SMILE)])
    _, found = matched([known(blocks)], RATE, GRID)
    assert [f.type for f in found] == ["macro", "macro"]
    np.testing.assert_allclose([f.onset / RATE for f in found], [0.3, 8.2], atol=0.1)


def test_what_moves_with_the_whole_frame_does_not_count() -> None:
    blocks = signals(20, [(5.0, 0.3, SMILE), (12.0, 0.3, 4 * SMILE)])
    _, found = matched([known(blocks, unrest=0.8)], RATE, GRID)
    assert [round(f.apex / RATE) for f in found] == [12]


def test_known_eyes_tell_a_single_small_blink_from_raised_brows() -> None:
    blocks = signals(20, [(5.0, 0.25, 0.4 * BLINK), (12.0, 0.25, BROWS), (16.0, 0.3, SMILE)])
    at = np.array([[0.35, 0.43], [0.65, 0.43]])
    _, found = matched([known(blocks)], RATE, GRID, eyes=lambda sample: at)
    assert [f.type for f in found] == ["blink", "micro", "micro"]
    _, found = matched([known(blocks)], RATE, GRID, eyes=lambda sample: at * np.nan)
    assert [f.type for f in found] == ["micro", "micro", "micro"]


def test_brows_raised_on_both_sides_again_and_again_are_no_blinks() -> None:
    blocks = signals(40, [(float(s), 0.3, 1.6 * BROWS) for s in range(4, 36, 5)])
    _, found = matched([known(blocks)], RATE, GRID)
    assert [f.type for f in found] == ["micro"] * 7


def test_lost_samples_hide_what_they_touch() -> None:
    blocks = signals(20, [(5.0, 0.3, SMILE), (12.0, 0.3, SMILE)])
    valid = np.ones(blocks.shape[:2], bool)
    valid[int(5.1 * RATE)] = False
    _, found = matched([known(blocks, valid)], RATE, GRID)
    assert [round(f.apex / RATE) for f in found] == [12]


@pytest.mark.parametrize("cut", [37, 500])
def test_chunks_do_not_change_the_result(cut: int) -> None:
    events = [(float(s), 0.35, SMILE) for s in range(4, 74, 9)]
    blocks = signals(76, events)
    valid = np.ones(blocks.shape[:2], bool)

    def stream() -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        for i in range(0, len(blocks), cut):
            yield known(blocks[i : i + cut], valid[i : i + cut])

    whole_scores, whole = matched([known(blocks, valid)], RATE, GRID)
    scores, found = matched(stream(), RATE, GRID)
    np.testing.assert_array_equal(scores, whole_scores)
    assert [(f.onset, f.apex, f.offset, f.score) for f in found] == [
        (f.onset, f.apex, f.offset, f.score) for f in whole
    ]
    assert len(found) == len(events)


def test_short_signals_give_nothing() -> None:
    blocks = signals(0.2, [])
    scores, found = matched([known(blocks)], RATE, GRID)
    assert not found
    assert len(scores) == len(blocks)
    assert scores.max() < 1
    assert matched([], RATE, GRID)[1] == []


def test_matched_rules() -> None:
    with pytest.raises(ValueError, match="rate must be above 0, got 0"):
        matched([], 0, GRID)
    with pytest.raises(ValueError, match="margin must be at least twice the longest duration, got 1"):
        Matched(margin=1)
