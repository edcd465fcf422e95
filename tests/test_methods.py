"""The field's spotting methods against plain NumPy, SciPy, scikit-image and OpenCV, and on a film of known truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.feature import local_binary_pattern

import mmme_fast
from mmme_fast import methods, open_frames, optical_strain, spot, synth
from mmme_fast.methods import Lbp, Mdmd, Roi, Strain

FPS = 30.0


@pytest.fixture(scope="module")
def film() -> synth.SyntheticFilm:
    return synth.film(24, FPS, 128, seed=5, micro=8, macro=10, blinks=0, sway=0)


@pytest.fixture(scope="module")
def frames(film: synth.SyntheticFilm) -> NDArray[np.uint8]:
    return film.frames()


def overlap(a: Any, b: Any) -> float:
    shared = min(a.offset, b.offset) - max(a.onset, b.onset) + 1
    return max(shared, 0) / (max(a.offset, b.offset) - min(a.onset, b.onset) + 1)


def hits(found: list[Any], truth: list[Any]) -> int:
    return sum(any(overlap(one, event) >= 0.5 for one in found) for event in truth)


# ----- peaks and thresholds


@given(
    st.lists(st.integers(-4, 4) | st.floats(-3, 3), min_size=1, max_size=60),
    st.floats(-3, 3),
    st.floats(1, 12) | st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_peaks_are_those_of_scipy(signal: list[float], height: float, distance: float) -> None:
    expected, _ = scipy.signal.find_peaks(np.array(signal, float), height=height, distance=distance)
    np.testing.assert_array_equal(methods.find_peaks(signal, height=height, distance=distance), expected)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=80), st.integers(1, 12), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_softnet_intervals_are_those_of_the_published_loop(scores: list[float], k: int, p: float) -> None:
    means, intervals = methods.softnet_intervals(scores, k, p=p)
    score_plot = np.array(scores)
    averaged = score_plot.copy()
    for x in range(len(score_plot[k:-k])):
        averaged[x + k] = score_plot[x : x + 2 * k].mean()
    averaged = averaged[k:-k]
    np.testing.assert_array_equal(means, averaged)
    if not len(averaged):
        assert intervals.shape == (0, 3)
        return
    threshold = averaged.mean() + p * (max(averaged) - averaged.mean())
    peaks, _ = scipy.signal.find_peaks(averaged, height=threshold, distance=k)
    np.testing.assert_array_equal(intervals, [[peak, peak + k, peak + 2 * k] for peak in peaks] or np.empty((0, 3)))


# ----- the kernels


@given(st.integers(8, 40), st.integers(8, 40), st.data())
@settings(max_examples=25, deadline=None)
def test_lbp_equals_scikit_image(height: int, width: int, data: st.DataObject) -> None:
    levels = data.draw(st.sampled_from([2, 4, 256]))
    rng = np.random.default_rng(height * 100 + width)
    picture = rng.integers(0, levels, (height, width)).astype(np.uint8)
    codes = local_binary_pattern(picture, 8, 3, "nri_uniform")[3:-3, 3:-3].astype(int)
    # Where the weighted differences cancel, scikit-image's rounding decides; ours is a tie.
    grey, part = picture.astype(float), 0.12132
    middle = grey[3:-3, 3:-3]
    tied = np.zeros(middle.shape, bool)
    for dy, dx in ((-1, 1), (-1, -1), (1, -1), (1, 1)):
        away = -middle
        for step_y, share_y in ((2, 1 - part), (3, part)):
            for step_x, share_x in ((2, 1 - part), (3, part)):
                y, x = 3 + dy * step_y, 3 + dx * step_x
                away = away + share_y * share_x * grey[y : y + height - 6, x : x + width - 6]
        tied |= np.abs(away) < 1e-3
    before = mmme_fast.sys_info()["backend"]
    ties = []
    for name in mmme_fast.backends():
        mmme_fast.use_backend(name)
        single = methods.lbp_histograms(picture, rows=height - 6, columns=width - 6)  # blocks of one pixel
        assert (single.max(-1) == 1).all()
        got = single.argmax(-1)
        np.testing.assert_array_equal(got[~tied], codes[~tied])
        scaled = methods.lbp_histograms(picture / np.float32(255), rows=height - 6, columns=width - 6).argmax(-1)
        np.testing.assert_array_equal(scaled, got)  # a tie whatever the scale
        ties.append(got[tied])
        np.testing.assert_array_equal(ties[-1], ties[0])
        rows, columns = min(6, height - 6), min(5, width - 6)
        blocks = methods.lbp_histograms(picture, rows=rows, columns=columns)
        for r in range(rows):
            for c in range(columns):
                part_of = got[
                    (height - 6) * r // rows : (height - 6) * (r + 1) // rows,
                    (width - 6) * c // columns : (width - 6) * (c + 1) // columns,
                ]
                share = np.bincount(part_of.ravel(), minlength=59) / part_of.size
                np.testing.assert_allclose(blocks[r, c], share, atol=1e-6)
    mmme_fast.use_backend(before)


def test_lbp_of_flat_skin_is_a_tie(backend: str) -> None:
    flat = np.full((2, 20, 20), 0.3, np.float32)
    np.testing.assert_array_equal(methods.lbp_histograms(flat)[..., 57], 1)  # all samples are as bright as the middle


def slow_difference(histograms: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    rows = []
    for i in range(k, len(histograms) - k):
        mean = (histograms[i - k] + histograms[i + k]) / 2
        both = histograms[i] + mean
        terms = np.where(both > 0, (histograms[i] - mean) ** 2 / np.where(both > 0, both, 1), 0)
        rows.append(terms.sum(-1))
    return np.array(rows)


def test_feature_difference_equals_its_slow_twin(backend: str) -> None:
    rng = np.random.default_rng(0)
    histograms = rng.random((30, 5, 4, 59)).astype(np.float32) * (rng.random((30, 5, 4, 59)) < 0.3)
    for k in (1, 7, 14):
        got = methods.feature_difference(histograms, k, threads=2)
        np.testing.assert_allclose(got, slow_difference(histograms.astype(float), k), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(got, methods.feature_difference(histograms, k, threads=1))
    assert methods.feature_difference(histograms, 15).shape == (0, 5, 4)


def slow_directional(a: NDArray[Any], b: NDArray[Any], rows: int, columns: int, quadrant: str) -> NDArray[np.float64]:
    """The recipe as it is told, one block at a time."""
    height, width, _ = a.shape
    u, v = a[..., 0].astype(float), a[..., 1].astype(float)
    if quadrant == "atan2":
        angle = np.arctan2(v, u)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.nan_to_num(np.arctan(v / u))
    quarter = np.clip(np.floor((angle + np.pi) / (np.pi / 2)), 0, 3 if quadrant == "atan2" else 2)
    away = np.hypot(u, v) - np.hypot(b[..., 0].astype(float), b[..., 1].astype(float))
    out = np.empty((rows, columns))
    for r in range(rows):
        for c in range(columns):
            y = slice(height * r // rows, height * (r + 1) // rows)
            x = slice(width * c // columns, width * (c + 1) // columns)
            main = np.bincount(quarter[y, x].astype(int).ravel(), minlength=4).argmax()
            chosen = np.sort(away[y, x][quarter[y, x] == main])[::-1]
            out[r, c] = chosen[: max(len(chosen) // 3, 1)].mean()
    return out


@pytest.mark.parametrize("quadrant", ["atan2", "atan"])
def test_directional_difference_equals_its_slow_twin(backend: str, quadrant: str) -> None:
    rng = np.random.default_rng(0)
    for height, width, rows, columns in ((37, 52, 6, 6), (8, 9, 8, 9), (24, 24, 1, 1)):
        a, b = rng.normal(0.3, 1, (2, 3, height, width, 2)).astype(np.float32)
        a[0, :, ::3] = 0  # no direction
        a[1, ..., 0] = np.where(rng.random((height, width)) < 0.5, 0, a[1, ..., 0])
        a[2], b[2] = np.round(a[2]) + 0.0, np.round(b[2])  # many equals, and no -0
        got = methods.directional_difference(a, b, rows=rows, columns=columns, quadrant=quadrant, threads=2)
        want = [slow_directional(p, q, rows, columns, quadrant) for p, q in zip(a, b, strict=True)]
        np.testing.assert_allclose(got, want, atol=2e-6)
        single = methods.directional_difference(a[1], b[1], rows=rows, columns=columns, quadrant=quadrant)
        np.testing.assert_array_equal(single, got[1])


def test_atan_takes_opposite_directions_for_one() -> None:
    a = np.zeros((12, 12, 2), np.float32)
    a[:, :7] = (1.0, 1.0)
    a[:, 7:] = (-2.0, -2.0)
    both = [methods.directional_difference(a, 0 * a, rows=1, columns=1, quadrant=q)[0, 0] for q in ("atan2", "atan")]
    np.testing.assert_allclose(both, [np.sqrt(2), 2 * np.sqrt(2)], rtol=0.3)
    assert both[1] > both[0]


# ----- the methods, each beside the recipe in its most literal form


def flow_of(prev: NDArray[Any], curr: NDArray[Any]) -> NDArray[np.float32]:
    return mmme_fast.farneback(prev, curr)


def grey(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    return frames.astype(np.float32) * np.float32(1 / 255)


def strongest(blocks: NDArray[Any]) -> float:
    return float(np.sort(blocks.ravel().astype(float))[-12:].mean())


def block_means(image: NDArray[Any]) -> NDArray[np.float64]:
    height, width = image.shape
    lines = [[size * i // 6 for i in range(7)] for size in (height, width)]
    return np.array([[image[lines[0][r] : lines[0][r + 1], lines[1][c] : lines[1][c + 1]].mean() for c in range(6)]
                     for r in range(6)])  # fmt: skip


def runs_above(signal: NDArray[Any], level: float) -> list[tuple[int, int]]:
    runs, begin = [], None
    for i, value in enumerate([*signal, -np.inf]):
        if value > level and begin is None:
            begin = i
        if value <= level and begin is not None:
            runs.append((begin, i - 1))
            begin = None
    return runs


def literal_strain(frames: NDArray[np.float32]) -> list[tuple[str, int, int, int]]:
    found = []
    for kind, k in (("micro", 6), ("macro", 18)):
        scores = []
        for i in range(len(frames) - k):
            strain = optical_strain(flow_of(frames[i], frames[i + k]))
            scores.append(strongest(block_means(strain)))
        means = np.array([np.mean(scores[i : i + 2 * k]) for i in range(len(scores) - 2 * k)])
        level = means.mean() + Strain().p * (means.max() - means.mean())
        peaks, _ = scipy.signal.find_peaks(means, height=level, distance=k)
        found += [(kind, int(at) + k // 2, int(at) + k + k // 2, int(at) + 2 * k + k // 2) for at in peaks]
    return sorted(found)


def literal_mdmd(frames: NDArray[np.float32], quadrant: str) -> list[tuple[str, int, int, int]]:
    found = []
    n = len(frames)
    for kind, k, low, high in (("micro", 12, 7, 16), ("macro", 39, 17, n)):
        d = np.full(n, np.nan)
        for i in range(k, n - k):
            a, b = flow_of(frames[i - k], frames[i]), flow_of(frames[i - k], frames[i + k])
            d[i] = strongest(slow_directional(a, b, 6, 6, quadrant).astype(np.float32))
        c = np.full(n, np.nan)
        for i in range(k - 1, n - k + 1):
            c[i] = d[i] - (d[i - k + 1] + d[i + k - 1]) / 2
        level = np.nanmean(c) + 0.01 * (np.nanmax(c) - np.nanmean(c))
        for begin, end in runs_above(np.nan_to_num(c, nan=-np.inf), level):
            if low <= end - begin + 1 <= high:
                found.append((kind, begin, begin + int(c[begin : end + 1].argmax()), end))
    return sorted(found)


def literal_lbp(frames: NDArray[np.uint8]) -> list[tuple[str, int, int, int]]:
    found = []
    n = len(frames)
    histograms = np.empty((n, 6, 6, 59))
    for i, frame in enumerate(frames):
        codes = local_binary_pattern(frame, 8, 3, "nri_uniform")[3:-3, 3:-3].astype(int)
        for pattern in range(59):
            histograms[i, ..., pattern] = block_means(codes == pattern)
    for kind, k in (("micro", 6), ("macro", 18)):
        f = np.full(n, np.nan)
        f[k : n - k] = [strongest(blocks) for blocks in slow_difference(histograms, k)]
        c = np.full(n, np.nan)
        for i in range(2 * k, n - 2 * k):
            c[i] = max(f[i] - (f[i - k] + f[i + k]) / 2, 0)
        inner = c[2 * k : n - 2 * k]
        level = inner.mean() + Lbp().p * (inner.max() - inner.mean())
        peaks, _ = scipy.signal.find_peaks(inner, height=level, distance=k / 2)
        found += [(kind, int(at) + k, int(at) + 2 * k, int(at) + 3 * k) for at in peaks]
    return sorted(found)


def literal_roi(frames: NDArray[np.float32], roi: Roi) -> NDArray[np.float64]:
    """The score per frame: windows, regions and thresholds one by one, of a head that keeps still."""
    n = len(frames)
    scores = np.zeros(n)
    size = frames.shape[1]
    for start in range(0, n, 100):
        window = frames[start : start + 200]
        if start and n <= start + 100:
            continue
        for x, y, width, height in roi.regions:
            across = slice(round(x * size), round((x + width) * size))
            down = slice(round(y * size), round((y + height) * size))
            nose_x = slice(round(roi.nose[0] * size), round((roi.nose[0] + roi.nose[2]) * size))
            nose_y = slice(round(roi.nose[1] * size), round((roi.nose[1] + roi.nose[3]) * size))
            r = []
            for frame in window:
                dense = flow_of(window[0], frame).astype(float)
                tip = dense[nose_y, nose_x].reshape(-1, 2)
                order = np.argsort((tip**2).sum(-1), kind="stable")
                head = tip[order[-round(0.7 * len(tip)) :]].mean(0)
                own = dense[down, across].reshape(-1, 2) - head
                order = np.argsort((own**2).sum(-1), kind="stable")
                r.append(np.hypot(*own[order[-round(0.2 * len(own)) :]].mean(0)) * 256 / size)
            spectrum = np.fft.rfft(r)
            spectrum[np.fft.rfftfreq(len(r), 1 / FPS) > 5] = 0
            low = np.fft.irfft(spectrum, len(r))
            for i in range(len(r)):
                near = low[max(i - 30, 0) : i + 31].min()
                score = min((low[i] - low.min()) / 1.4, (low[i] - near) / 1.8)
                scores[start + i] = max(scores[start + i], score)
    return scores


def as_told(spotted: methods.Spotted) -> list[tuple[str, int, int, int]]:
    return sorted((one.type, int(one.onset), int(one.apex), int(one.offset)) for one in spotted.expressions)


@pytest.mark.parametrize("quadrant", ["atan2", "atan"])
def test_mdmd_is_the_published_recipe(frames: NDArray[np.uint8], quadrant: str) -> None:
    some = grey(frames[390:620, ::2, ::2])
    told = literal_mdmd(some, quadrant)
    assert {kind for kind, *_ in told} == {"micro", "macro"}
    preset = methods.configured("mdmd", "casme2")
    assert isinstance(preset, Mdmd)
    assert as_told(replace(preset, quadrant=quadrant)([some], FPS, mmme_fast.farneback)) == told


def test_strain_is_the_recipe(frames: NDArray[np.uint8]) -> None:
    some = grey(frames[400:600, ::2, ::2])
    told = literal_strain(some)
    assert told
    assert as_told(Strain()([some], FPS, mmme_fast.farneback)) == told


def test_lbp_is_the_published_recipe(frames: NDArray[np.uint8]) -> None:
    some = frames[400:520, ::2, ::2]
    told = literal_lbp(some)
    assert told
    assert as_told(Lbp()([grey(some)], FPS, mmme_fast.farneback)) == told


def test_roi_is_the_published_recipe(frames: NDArray[np.uint8]) -> None:
    roi = Roi(head="nose", regions=methods.REGIONS[1:12:5])
    some = grey(frames[420:680])
    got = roi([some], FPS, mmme_fast.farneback)
    told = literal_roi(some, roi)
    assert (told > 1).any()
    np.testing.assert_allclose(got.scores, told, atol=1e-4)


# ----- through spot()


@pytest.mark.parametrize(
    ("method", "least"), [("roi", 0.9), ("strain", 0.5), ("mdmd", 0.5), ("lbp", 0.7)]
)  # of the macro-expressions; false hits are the methods' own
def test_a_method_finds_planted_expressions(
    film: synth.SyntheticFilm, frames: NDArray[np.uint8], method: str, least: float
) -> None:
    found = spot(frames, crop="full", size=128, fps=FPS, method=method)
    truth = [event for event in film.truth if event.type == "macro"]
    if method == "roi":  # above its thresholds, and where it has regions
        truth = [event for event in truth if 2 * event.amplitude > 2.5 and not event.region.startswith("chin")]
    assert len(truth) >= 2
    assert hits([one for one in found.intervals if one.type == "macro"], truth) >= least * len(truth)
    assert found.blinks == []
    assert set(found.signals) == {
        "timestamp", "score", "motion", "head_x", "head_y", "head_turn", "head_growth", "strain", "valid", "blink"
    }  # fmt: skip
    assert all(len(signal) == len(frames) for signal in found.signals.values())
    assert found.meta["parameters"]["method"] == method
    assert found.meta["parameters"][method]["rate"] in (30.0, 50.0)
    strong = max(found.intervals, key=lambda one: one.score)
    assert strong.score >= 1
    assert 0 < strong.x < 1
    assert found.scores.max() >= 1


@pytest.mark.parametrize("method", ["roi", "strain", "mdmd", "lbp"])
def test_chunks_and_threads_do_not_change_the_result(frames: NDArray[np.uint8], method: str) -> None:
    chosen = methods.configured(method)
    assert not isinstance(chosen, methods.Matched)
    some = grey(frames[:270, ::2, ::2])

    def chunks(size: int) -> Iterator[NDArray[np.float32]]:
        return (some[i : i + size] for i in range(0, len(some), size))

    one, other = (chosen(chunks(size), FPS, mmme_fast.farneback, threads) for size, threads in ((270, 1), (17, 2)))
    np.testing.assert_array_equal(one.scores, other.scores)
    assert one.expressions == other.expressions
    for name, signal in one.signals.items():
        np.testing.assert_array_equal(signal, other.signals[name])


@pytest.mark.parametrize("method", ["roi", "strain", "mdmd", "lbp"])
@pytest.mark.parametrize("samples", [1, 2, 13, 40])
def test_films_that_are_too_short_give_nothing_and_no_error(method: str, samples: int) -> None:
    chosen: Callable[..., methods.Spotted] = methods.configured(method)  # type: ignore[assignment]
    film = np.full((samples, 32, 32), 0.5, np.float32)
    spotted = chosen([film], 100.0, mmme_fast.farneback)
    assert spotted.expressions == []
    assert spotted.scores.shape == (samples,)


def test_a_head_that_sways_is_no_expression_to_roi() -> None:
    film = synth.film(8, FPS, 128, seed=2, micro=0, macro=0, blinks=0, sway=6)
    found = spot(film.frames(), crop="full", size=128, fps=FPS, method="roi")
    assert found.intervals == []
    assert np.abs(found.signals["head_x"]).max() > 2


def test_what_a_method_keeps_does_not_grow_with_the_film() -> None:
    """Of a stream only what k needs is held: chunks are let go."""
    alive = []

    class Chunk(np.ndarray):  # type: ignore[type-arg]
        pass

    def chunks() -> Iterator[NDArray[np.float32]]:
        import weakref

        for i in range(60):
            chunk = np.full((20, 16, 16), 0.5, np.float32).view(Chunk)
            reference = weakref.ref(chunk)
            alive.append(reference)
            yield chunk
            del chunk
            assert sum(ref() is not None for ref in alive) <= 4, i

    Mdmd()(chunks(), 30.0, mmme_fast.farneback)


# ----- presets and parameters


@pytest.mark.parametrize("name", list(methods.PRESETS))
def test_presets_give_their_frames_back(name: str) -> None:
    preset = methods.PRESETS[name]
    mdmd, lbp = methods.configured("mdmd", name), methods.configured("lbp", name)
    assert isinstance(mdmd, Mdmd)
    assert isinstance(lbp, Lbp)
    assert [round(k * preset.fps) for k in mdmd.k] == list(preset.mdmd_k)
    assert [round(k * preset.fps) for k in lbp.k] == list(preset.k)
    assert [round(length * preset.fps) for length in mdmd.micro] == list(preset.micro)
    assert preset.micro[1] / preset.fps == pytest.approx(16 / 30, rel=0.03)  # the data sets agree in seconds


def test_a_preset_knows_the_frame_rate() -> None:
    still = np.full((60, 32, 32), 100, np.uint8)
    assert spot(still, crop="full", method="lbp", preset="samm-lv").fps == 200
    assert spot(still, crop="full", method="lbp", preset="samm-lv", fps=50).fps == 50
    assert spot(still, crop="full", fps=50, method=Lbp(p=0.5)).meta["parameters"]["lbp"]["p"] == 0.5


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Mdmd(p=2), ValueError, "p must be at least 0 and at most 1, got 2"),
        (lambda: Mdmd(quadrant="sin"), ValueError, "quadrant must be one of 'atan2', 'atan', got 'sin'"),
        (lambda: Mdmd(micro=(2, 1)), ValueError, r"micro must be shortest and longest, got \(2, 1\)"),
        (lambda: Lbp(k=(0.2, 0)), ValueError, "k must be above 0, got 0"),
        (lambda: Strain(k=(1, 2, 3)), ValueError, "k must be two times"),  # type: ignore[arg-type]
        (lambda: Strain(rate=0), ValueError, "rate must be above 0, got 0"),
        (lambda: Roi(head="ear"), ValueError, "head must be one of 'global', 'nose', got 'ear'"),
        (lambda: Roi(regions=((0.9, 0, 0.2, 0.1),)), ValueError, r"regions must be \(x, y, width, height\) in parts"),
        (lambda: Roi(regions=()), ValueError, "regions must hold at least one box"),
        (lambda: Roi(band=(5, 1)), ValueError, "band must be two rising frequencies"),
        (lambda: methods.configured("hog"), ValueError, "method must be one of 'matched', 'roi', .* got 'hog'"),
        (lambda: methods.configured(3), TypeError, "method must be a name or one of"),  # type: ignore[arg-type]
        (lambda: methods.configured("lbp", "fer"), ValueError, "preset must be one of 'casme2', .* got 'fer'"),
        (lambda: methods.find_peaks([], height=0), ValueError, r"signal must be 1-D and not empty"),
        (lambda: methods.find_peaks([np.nan], height=0), ValueError, "signal must be finite"),
        (lambda: methods.find_peaks([1], height=0, distance=0), ValueError, "distance must be at least 1, got 0"),
        (lambda: methods.softnet_intervals([1.0], 0), ValueError, "k must be at least 1, got 0"),
        (lambda: methods.lbp_histograms(np.zeros((9, 9), np.uint8)), ValueError, "rows must be .* at most 3, got 6"),
        (lambda: methods.feature_difference(np.zeros((3, 4)), 1), ValueError, r"histograms must be \(frame, rows"),
        (
            lambda: methods.directional_difference(np.zeros((9, 9, 2)), np.zeros((9, 8, 2))),
            ValueError,
            "a and b must have the same shape",
        ),
        (lambda: methods.softnet_features(np.zeros((3, 64, 64)), 1), ValueError, r"pictures must be \(frame, 128, 128"),
        (
            lambda: methods.softnet_features(np.zeros((3, 128, 128)), 1, landmarks=np.zeros((5, 2))),
            ValueError,
            r"landmarks must be finite and have shape \(68, 2\), got \(5, 2\)",
        ),
        (
            lambda: methods.softnet_features(np.zeros((3, 128, 128)), 1, landmarks=np.zeros((68, 2))),
            ValueError,
            "landmarks must lie inside the frame",
        ),
    ],
)
def test_rules(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


# ----- SOFTNet's front end


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127)), min_size=3, max_size=6))
@settings(max_examples=150, deadline=None)
def test_polygons_are_those_of_opencv(corners: list[tuple[int, int]]) -> None:
    picture = np.zeros((128, 128, 3))
    cv2.fillPoly(picture, [np.array(corners, np.int32)], (1, 1, 1))
    got = methods._polygon(corners, 128)
    np.testing.assert_array_equal(got, picture[..., 0] > 0)


def published_features(
    first: NDArray[Any], second: NDArray[Any], landmarks: NDArray[np.intp], flow: Callable[..., NDArray[np.float32]]
) -> NDArray[np.float64]:
    """One frame as SOFTNet's code makes it, but for the trip through polar coordinates."""
    dense = flow(first, second)
    u, v = dense[..., 0].astype(float), dense[..., 1].astype(float)
    strain = np.full(u.shape, np.nan)
    for y in range(127):
        for x in range(127):
            ux, uy = u[y, x] - u[y, x + 1], u[y, x] - u[y + 1, x]
            vx, vy = v[y, x] - v[y, x + 1], v[y, x] - v[y + 1, x]
            strain[y, x] = np.sqrt(ux**2 + vy**2 + (uy + vx) ** 2 / 2)
    strain[:127, 127] = strain[:127, 126]
    strain[127] = strain[126]
    maps = np.stack([u, v, strain], -1)
    x, y = landmarks[28]
    nose = maps[y - 5 : y + 6, x - 5 : x + 6].mean((0, 1))
    maps = np.stack([abs(u - nose[0]), abs(v - nose[1]), strain - nose[2]], -1)
    for eye in (36, 42):
        p = landmarks[eye : eye + 6].astype(int)
        polygon = [
            (max(p[0][0] - 15, 0), p[0][1]), (p[1][0], max(p[1][1] - 15, 0)), (p[2][0], max(p[2][1] - 15, 0)),
            (min(p[3][0] + 15, 128), p[3][1]), (p[4][0], min(p[4][1] + 15, 128)), (p[5][0], min(p[5][1] + 15, 128)),
        ]  # fmt: skip
        cv2.fillPoly(maps, [np.array(polygon, np.int32)], (0, 0, 0))
    (left, top), (right, bottom) = (
        (landmarks[17][0] - 12, min(landmarks[19][1], landmarks[24][1]) - 12),
        (landmarks[26][0] + 12, max(landmarks[41][1], landmarks[46][1]) + 12),
    )
    brows = maps[max(top, 0) : min(bottom, 128), max(left, 0) : min(right, 128)]
    mouth = maps[landmarks[50][1] - 12 : landmarks[57][1] + 12, landmarks[60][0] - 12 : landmarks[64][0] + 12]
    return np.concatenate([cv2.resize(brows, (42, 21)), cv2.resize(mouth, (42, 21))])


@pytest.mark.parametrize("shift", [(0, 0), (3, -4), (-20, -30)])
def test_softnet_features_are_the_published_front_end(frames: NDArray[np.uint8], shift: tuple[int, int]) -> None:
    landmarks = np.zeros((68, 2), int)
    for i, (x, y) in methods.LANDMARKS.items():
        landmarks[i] = round(x * 128) + shift[0], round(y * 128) + shift[1]
    got = methods.softnet_features(frames[:9], 6, landmarks=landmarks, flow="farneback")
    assert got.shape == (3, 42, 42, 3)
    assert got.dtype == np.float32
    for i in range(3):
        want = published_features(frames[i], frames[i + 6], landmarks, flow_of)
        np.testing.assert_allclose(got[i], want, atol=1e-5)
    if shift == (0, 0):
        np.testing.assert_array_equal(methods.softnet_features(frames[:9], 6, flow="farneback"), got)


def test_softnet_features_of_pieces_are_those_of_the_whole(frames: NDArray[np.uint8]) -> None:
    whole = methods.softnet_features(frames[:30], 6, flow="dis")
    pieces = open_frames(frames[:30]).chunks(13, overlap=6)
    np.testing.assert_array_equal(np.concatenate([methods.softnet_features(p, 6, flow="dis") for p in pieces]), whole)
    assert methods.softnet_features(frames[:3], 6, flow="dis").shape == (0, 42, 42, 3)
