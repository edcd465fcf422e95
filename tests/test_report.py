"""The report: its pictures, its table and chart, what it escapes, and that it needs nothing from outside."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmme_fast import eeg, flow, motion, report, synth
from mmme_fast.cli import main
from mmme_fast.frames import open_frames
from mmme_fast.metrics import Segment
from mmme_fast.pipeline import spot
from mmme_fast.report import envelope, expression_flow, page, wheel
from mmme_fast.results import Interval, Spotting

pytest.importorskip("plotly")

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """What a test asks of a page; complains of tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for name, attrs in self.tags if name == tag and attribute in attrs]


def picture(uri: str) -> Any:
    import av

    data = base64.b64decode(uri.partition(";base64,")[2])
    with av.open(io.BytesIO(data)) as container:
        return next(container.decode(video=0)).to_ndarray()


def made_up(frames: Any, intervals: list[Interval], **meta: Any) -> Spotting:
    """A result over an array of frames, as if these intervals had been found."""
    n = len(frames)
    names = ("score", "motion", "head_x", "head_y", "head_turn", "head_growth", "strain")
    signals = {"timestamp": np.arange(n) / 50, **{name: np.linspace(0, 2, n, dtype=np.float32) for name in names}}
    signals |= {"valid": np.ones(n, bool), "blink": np.zeros(n, bool)}
    return Spotting(intervals, [], signals, 50.0, {"warnings": [], **meta}, open_frames(frames, fps=50))


def interval(onset: int, apex: int, offset: int, score: float = 2.0) -> Interval:
    return Interval(onset, apex, offset, onset / 50, apex / 50, offset / 50, "micro", score, 0.5, 0.5, 1.0)


@pytest.fixture(scope="module")
def film() -> synth.SyntheticFilm:
    return synth.film(6, 50, 96, seed=1, micro=20, macro=10, blinks=10)


@pytest.fixture(scope="module")
def spotting(film: synth.SyntheticFilm, tmp_path_factory: pytest.TempPathFactory) -> Spotting:
    return spot(film.write(tmp_path_factory.mktemp("report") / "a & b.avi"), crop="full", size=96)


@pytest.fixture(scope="module")
def html(spotting: Spotting) -> str:
    return page(spotting)


def test_each_interval_has_its_pictures(html: str, spotting: Spotting, film: synth.SyntheticFilm) -> None:
    assert len(spotting.intervals) == 3
    articles = re.findall(r"<article .*?</article>", html, re.S)
    assert len(articles) == 3
    for article, one in zip(articles, spotting.intervals, strict=True):
        onset, apex, offset, colours, strain = map(picture, Page(article).all("img", "src"))
        np.testing.assert_array_equal(onset, film.frame(one.onset))
        np.testing.assert_array_equal(apex, film.frame(one.apex))
        np.testing.assert_array_equal(offset, film.frame(one.offset))
        assert colours.shape == strain.shape == (96, 96, 3)
        assert np.ptp(colours) > 200  # the longest vector has its full colour
        assert f"{one.onset_s:.3f} to {one.offset_s:.3f} s, score {one.score:.2f}" in article


def test_rows_of_the_table_lead_to_the_pictures(html: str, spotting: Spotting) -> None:
    read = Page(html)
    there, back = [f"#interval-{i}" for i in (1, 2, 3)], [f"#interval-row-{i}" for i in (1, 2, 3)]
    assert read.all("a", "href") == there + back
    assert {link[1:] for link in there + back} <= set(read.all("article", "id") + read.all("tr", "id"))
    for one in (*spotting.intervals, *spotting.blinks):
        for value in (f"{one.onset_s:.3f}", str(one.onset), str(one.apex), str(one.offset), f"{one.amplitude:.2f}"):
            assert value in read.text


def drawn(html: str) -> tuple[dict[tuple[str, str], Any], Any]:
    """The traces of a page's chart by name and mode, and its layout, out of its call of Plotly.newPlot."""
    decoder = json.JSONDecoder()
    data, end = decoder.raw_decode(html, html.index("[", html.rindex("Plotly.newPlot(")))
    layout, _ = decoder.raw_decode(html, html.index("{", end))
    return {(trace["name"], trace["mode"]): trace for trace in data}, layout


def values(field: Any) -> Any:
    """Numbers as plotly writes them: a list, or since version 6 the bytes of an array."""
    if isinstance(field, dict):
        return np.frombuffer(base64.b64decode(field["bdata"]), field["dtype"])
    return np.array([value for value in field if value is not None])


def test_chart_has_scores_threshold_and_intervals(html: str, spotting: Spotting) -> None:
    traces, layout = drawn(html)
    for name in ("score", "strain"):
        trace = traces[name, "lines"]
        np.testing.assert_allclose(values(trace["x"]), spotting.signals["timestamp"])
        np.testing.assert_allclose(values(trace["y"]), spotting.signals[name], rtol=1e-6)
    head = np.hypot(spotting.signals["head_x"], spotting.signals["head_y"])
    np.testing.assert_allclose(values(traces["head motion, px", "lines"]["y"]), head, rtol=1e-6)
    assert [(line["y0"], line["y1"]) for line in layout["shapes"]] == [(1, 1)]
    for kind in ("micro", "macro", "blink"):
        found = [one for one in (*spotting.intervals, *spotting.blinks) if one.type == kind]
        assert found
        edges = [t for one in found for t in (one.onset_s, one.onset_s, one.offset_s, one.offset_s)]
        np.testing.assert_allclose(values(traces[kind, "lines"]["x"]), edges)
        np.testing.assert_allclose(values(traces[kind, "markers"]["y"]), [one.score for one in found])


def test_chart_shows_truth_and_lost_frames(spotting: Spotting, tmp_path: Path) -> None:
    truth = [Segment("a", "micro", 10, 24), Segment("a", "macro", 280, 900)]
    signals = {**spotting.signals, "valid": np.arange(300) % 100 >= 20}
    html = page(replace(spotting, truth=truth, signals=signals))
    traces, layout = drawn(html)
    np.testing.assert_allclose(values(traces["truth", "lines"]["x"]), [0.2, 0.48, 5.6, 5.98])
    (grey,) = [shape for shape in layout["shapes"] if shape["type"] == "path"]
    assert grey["path"] == "M0,0V1H0.4V0ZM2,0V1H2.4V0ZM4,0V1H4.4V0Z"
    assert "The bars at the top are the annotated expressions. Grey: frames without a face" in Page(html).text
    (tmp_path / "truth.csv").write_text("video,type,onset,apex,offset\nother,micro,3,5,9\n")
    found = spot(np.zeros((10, 40, 40), np.uint8), crop="full", fps=50, truth=tmp_path / "truth.csv")
    assert [(one.onset, one.offset) for one in found.truth] == [(3, 9)]
    (tmp_path / "truth.csv").write_text("video,type,onset,apex,offset\na,micro,3,5,9\nb,micro,3,5,9\n")
    with pytest.raises(ValueError, match="truth must hold expressions of array, got videos a, b"):
        spot(np.zeros((10, 40, 40), np.uint8), crop="full", fps=50, truth=tmp_path / "truth.csv")


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    read = Page(html)
    sources = read.all("link", "href")
    for tag in ("img", "script", "iframe", "object", "video"):
        for attribute in ("src", "srcset", "data", "poster"):
            sources += read.all(tag, attribute)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import", report.STYLE)
    assert html.count("plotly.js v") == 1


def test_what_others_wrote_is_escaped(spotting: Spotting) -> None:
    evil = "<img src=x onerror=alert(1)> & 'x' \"y\".avi"
    html = page(replace(spotting, meta={**spotting.meta, "input": {"source": evil}, "warnings": [evil]}))
    read = Page(html)
    assert read.text.count("<img src=x onerror=alert(1)>") == 6  # title, heading, path, warning; input and warnings
    assert all(source.startswith("data:") for source in read.all("img", "src"))


def test_strongest_are_pictured(monkeypatch: pytest.MonkeyPatch) -> None:
    film = np.random.default_rng(0).integers(0, 255, (120, 16, 16), np.uint8)
    found = [interval(2 * i, 2 * i + 1, 2 * i + 2, score=2 + i % 7) for i in range(50)]
    read = Page(page(made_up(film, found)))
    assert read.all("article", "id") == [f"interval-{i}" for i in range(1, 51)]
    for i, uri in enumerate(read.all("img", "src")[1::5]):  # so many are JPEG
        onset = picture(uri)[:16, :16].astype(float)
        assert np.corrcoef(onset.ravel(), film[2 * i].ravel())[0, 1] > 0.99
    monkeypatch.setattr(report, "PICTURED", 40)
    read = Page(page(made_up(film, found)))
    left_out = {i for i, one in enumerate(found, 1) if f"interval-{i}" not in read.all("article", "id")}
    assert len(left_out) == 10
    assert max(found[i - 1].score for i in left_out) == 3
    assert "The 40 strongest of 50 intervals." in read.text
    assert read.text.count("micro") > 90  # the table still has them all


def test_a_source_that_is_gone_leaves_the_rest(
    spotting: Spotting, film: synth.SyntheticFilm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    html = page(replace(spotting, source=None))
    assert "some pictures are missing: the film is not known here" in html
    assert "<article" not in html
    assert "<td>" in html
    assert caplog.messages == ["the report lacks pictures: the film is not known here"]

    html = page(replace(spotting, source=open_frames(film.frames(0, 100), fps=50)))
    assert "some pictures are missing: the film now ends after 100 frames" in html
    assert len(Page(html).all("article", "id")) == 2

    path = film.write(tmp_path / "film.avi")
    source = open_frames(path)
    path.unlink()
    assert "No such file or directory" in page(replace(spotting, source=source))


@pytest.mark.parametrize(
    ("height", "width", "shown"), [(40, 24, (40, 24)), (24, 300, (20, 256)), (600, 512, (256, 218))]
)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pictures_of_other_frames(height: int, width: int, shown: tuple[int, int], dtype: str) -> None:
    noise = np.random.default_rng(1).random((3, height, width))
    film = (noise * 4095).astype(dtype) if dtype == "uint16" else (noise * 0.1).astype(dtype)
    article = Page(page(made_up(film, [interval(0, 1, 2)])))
    pictures = [picture(uri) for uri in article.all("img", "src")[1:]]  # the first is the legend
    assert [p.shape[:2] for p in pictures] == [shown] * 5
    assert article.all("img", "width")[1:] == [str(shown[1])] * 5
    for p in pictures[:3]:
        assert p.mean() == pytest.approx(127, abs=8)  # dark film is shown over the whole range of grey


def long(frames: int = 9000) -> Spotting:
    """A result whose curves the page opens with less of, and has whole to zoom into."""
    film = np.random.default_rng(0).integers(0, 255, (frames, 16, 16), np.uint8)
    found = [interval(1000 * i, 1000 * i + 10, 1000 * i + 20, score=[3.0, 5.0, 4.0][i % 3]) for i in range(1, 6)]
    blinks = [replace(interval(1500 * i, 1500 * i + 5, 1500 * i + 9), type="blink") for i in (1, 2)]
    result = replace(made_up(film, found), blinks=blinks)
    result.signals["score"] = np.random.default_rng(1).random(frames).astype(np.float32) * 3
    result.signals["score"][7] = np.nan
    return result


@pytest.mark.parametrize("jitter", [0.0, 0.01])
def test_long_film_can_be_zoomed_down_to_frames(jitter: float, monkeypatch: pytest.MonkeyPatch) -> None:
    result = long()
    times = result.signals["timestamp"] = np.arange(9000) / 50 + jitter * np.random.default_rng(0).random(9000)
    html = page(result)
    assert len(values(drawn(html)[0]["score", "lines"]["y"])) <= 4000

    def fine(html: str) -> tuple[Any, Any]:
        read = json.loads(html.partition('id="fine">')[2].partition("</script>")[0])
        at = np.linspace(read["from"], read["to"], read["n"])
        if read["late"]:
            at = at + np.frombuffer(base64.b64decode(read["late"]), "<f4")
        curve = read["curves"][0]
        levels = np.frombuffer(base64.b64decode(curve["levels"]), "<u2")
        assert len(levels) == read["n"]
        return at, np.where(levels == 65535, np.nan, curve["low"] + levels * (curve["high"] - curve["low"]) / 65534)

    at, score = fine(html)
    np.testing.assert_allclose(at, times, atol=1e-3 if jitter == 0 else 1e-6)
    np.testing.assert_allclose(score, result.signals["score"], atol=3 / 65534)
    monkeypatch.setattr(report, "FINE", 5000)
    html = page(result)
    assert "The curves are the least and the largest value of each 4 frames." in html
    at, score = fine(html)
    assert len(at) == 4500
    ends = result.signals["score"][8:].reshape(-1, 4)
    np.testing.assert_allclose(score[4:].reshape(-1, 2), np.stack([ends.min(1), ends.max(1)], 1), atol=3 / 65534)


def test_quiet_film() -> None:
    html = page(made_up(np.zeros((3, 16, 16), np.uint8), []))
    text = Page(html).text
    assert text.count("None were found.") == 2
    assert "There are none." in text
    still = Page(page(made_up(np.full((3, 16, 16), 9, np.uint8), [interval(0, 1, 2)])))
    assert len(still.all("img", "src")) == 6


def test_without_plotly(spotting: Spotting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r'pip install "mmme_fast\[report\]"'):
        spotting.to_html(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_band_power_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three seconds are drawn, the line breaks at the gap, and the spectrum is Welch's beside the gap."""
    monkeypatch.setattr(report, "MOST_WINDOWS", 40)
    signal = pytest.importorskip("scipy.signal")
    sfreq, t = 200.0, np.arange(12000) / 200
    data = 1e-6 * np.random.default_rng(0).normal(size=(3, 12000))
    data[1] += 2e-5 * np.sin(2 * np.pi * 10 * t)
    markers = (eeg.Marker(3.0, 0, "<b>101</b>"), eeg.Marker(30.0, 0, "boundary"))
    recording = replace(eeg.open_recording(data, sfreq=sfreq), markers=markers)
    stream = eeg.stream_band_power(recording, window=1.5, hop=1)
    html = report.band_power_page(stream)
    read = Page(html)
    assert "Band power in array" in read.text
    assert "windows left out" in read.text
    assert "in each second window" in read.text
    assert "<b>101" not in html
    traces, layout = drawn(html)
    want = 1e12 * np.median(np.concatenate([power for _, power in stream]), axis=1)
    course = traces["alpha 8-13 Hz", "lines"]
    x, y = values(course["x"]), values(course["y"])
    assert np.isnan(x).sum() <= 1
    np.testing.assert_allclose(x[np.isfinite(x)], stream.times[::2])
    np.testing.assert_allclose(y[np.isfinite(y)], want[::2, 2], rtol=1e-6)
    halves = [signal.welch(part, sfreq, nperseg=800, noverlap=400)[1] for part in np.split(data, 2, axis=1)]
    density = traces["median of channels", "lines"]
    frequency = values(density["x"])
    np.testing.assert_allclose(frequency, np.arange(1, 400) / 4)
    np.testing.assert_allclose(
        values(density["y"]), 1e12 * np.median(np.mean(halves, axis=0), axis=0)[1:400], rtol=1e-3
    )
    every = values(traces["channels", "lines"]["y"]).reshape(3, -1)
    assert frequency[np.argmax(every[1, :-1])] == 10
    strips = [shape for shape in layout["shapes"] if shape["xref"] == "x"]
    assert [(strip["x0"], strip["x1"]) for strip in strips] == [(3, 3), (30, 30), (30, 30.06)]
    assert sum(shape["xref"] == "x2" for shape in layout["shapes"]) == 5


def test_band_power_page_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(2, 3000)))
    command = ["band-power", str(tmp_path / "a.npy"), "--sfreq", "100", "--out", str(tmp_path / "out.csv"), "--plot"]
    assert main([*command, "--preset", "yasa"]) == 0
    assert f"page: {tmp_path / 'out.html'}" in capsys.readouterr().out
    traces, layout = drawn((tmp_path / "out.html").read_text())
    assert layout["yaxis"]["title"]["text"] == "1"  # parts of the whole
    assert ("sigma 12-16 Hz", "lines") in traces


def test_envelope() -> None:
    times = np.arange(540_000) / 150
    values = np.random.default_rng(0).random(540_000).astype(np.float32)
    ends = [0, 77_777, 300_001, 539_999]
    values[ends] = [2, -3, 4, -5]
    x, y = envelope(times, values)
    assert 3990 <= len(x) == len(y) <= 4000
    assert (np.diff(x) > 0).all()
    assert {(a, b) for a, b in zip(x, y, strict=True) if not 0 <= b <= 1} == {(times[i], values[i]) for i in ends}
    bins = values.reshape(2000, 270)
    np.testing.assert_array_equal(np.sort(y), np.sort(np.concatenate([bins.min(1), bins.max(1)])))
    short, same = envelope(times[:4000], values[:4000])
    np.testing.assert_array_equal((short, same), (times[:4000], values[:4000]))


def test_expression_flow_has_no_head_motion() -> None:
    film = synth.film(6, 50, 128, seed=1, micro=20, macro=10, blinks=0, sway=8)
    event = max(film.truth, key=lambda one: np.hypot(*np.subtract(film.pose(one.onset)[:2], film.pose(one.apex)[:2])))
    before, after = (film.frame(i) / np.float32(255) for i in (event.onset, event.apex))
    truth = film.flow(event.onset, event.apex)
    ys, xs = np.mgrid[:128, :128]
    head = motion.displace(motion.global_motion(truth), np.stack([xs, ys], -1).reshape(-1, 2).astype(float))
    expression = truth - head.reshape(truth.shape)
    face = (np.hypot(ys - 64, xs - 64) < 45)[..., None]  # outside are flat surfaces, where no flow can be seen

    def error(field: Any) -> float:
        return float(np.hypot(*np.moveaxis((field - expression) * face, -1, 0)).mean())

    assert error(expression_flow(before, after)) < 0.25 * error(flow.farneback(before, after))


def test_wheel() -> None:
    colours = wheel(np.array([[(0, 0), (1, 0), (-1, 0), (0.5, 0), (0, 3)]], float))[0]
    np.testing.assert_allclose(colours[:4], [(1, 1, 1), (1, 0, 0), (0, 1, 1), (1, 0.5, 0.5)], atol=1e-6)
    np.testing.assert_allclose(colours[4], wheel(np.array([[(0.0, 1.0)]]))[0, 0], atol=1e-6)


# What a reader does with the page, and what it then shows.
VISIT = """
<script>
const errors = [], seen = {errors};
addEventListener("error", event => errors.push(event.message));
const key = (target, name) => target.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
const settled = () => new Promise(done => setTimeout(done, 100));
const shown = id => {
  const article = document.getElementById(id), images = [...article.querySelectorAll("img")];
  const box = images[0].getBoundingClientRect();
  return location.hash === "#" + id && box.top >= 0 && box.top < innerHeight && images.length === 5
    && images.every(image => image.complete && image.naturalWidth > 0) && document.activeElement === article
    && document.querySelectorAll("tr.chosen").length === 1
    && document.querySelector("tr.chosen").id === id.replace("interval", "interval-row");
};
const range = () => chart.layout.xaxis3.range.map(x => Math.round(x * 100) / 100);
const curve = () => chart.data.find(trace => trace.meta === 0);
addEventListener("load", async () => {
  seen.title = document.title;
  seen.drawn = document.querySelectorAll("#chart .main-svg .scatterlayer .trace").length;
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  document.querySelector("#interval-row-2 a").click();
  await settled();
  seen.clicked = shown("interval-2");
  seen.chosen = chart.data.find(trace => trace.meta === "chosen").x;
  key(document.getElementById("interval-2"), "ArrowRight");
  await settled();
  seen.next = shown("interval-3");
  chart.emit("plotly_click", {points: [{x: 20.3}]});
  await settled();
  seen.curve = shown("interval-1");
  chart.emit("plotly_click", {points: [{x: 80.2, customdata: 4}]});
  await settled();
  seen.marker = shown("interval-4");

  document.querySelector("#interval-4 nav button").click();
  await settled();
  seen.zoomed = range();
  const inside = [...curve().x.keys()].filter(i => curve().x[i] >= 80 && curve().x[i] <= 80.4);
  seen.frames = inside.map(i => Math.round(curve().x[i] * 50));
  seen.values = inside.map(i => curve().y[i]);
  seen.rest = [curve().x.length < 6000, curve().x[0], curve().x.at(-1)];
  key(chart.parentElement, "+");
  await settled();
  seen.closer = range();
  key(chart.parentElement, "ArrowRight");
  await settled();
  seen.moved = range();
  key(chart.parentElement, "Home");
  await settled();
  seen.whole = range();

  const score = document.querySelector("th[data-columns=score]"), table = score.closest("table");
  const order = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent).join("");
  score.querySelector("button").click();
  seen.up = [order(), score.ariaSort];
  score.querySelector("button").click();
  seen.down = [order(), score.ariaSort];
  table.tBodies[0].rows[0].querySelector("a").focus();
  key(document.activeElement, "ArrowDown");
  seen.focus = document.activeElement.textContent;
  navigator.clipboard.writeText = async text => { seen.copied = text; };
  document.querySelector(".copy").click();
  await settled();
  seen.status = document.querySelector("[role=status]").textContent;
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = "SEEN" + btoa(JSON.stringify(seen)) + "END";
});
</script>
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_in_a_browser(tmp_path: Path) -> None:
    """Load, click, zoom, sort, copy and keys, at the width of a phone, and not one complaint of the browser's."""
    result = long()
    evil = "</script><script>throw 1</script><img src=x onerror='throw 2'>.avi"
    html = page(replace(result, meta={"input": {"source": evil}, "warnings": [evil]}))
    (tmp_path / "report.html").write_text(html.replace("</body>", VISIT + "</body>"), encoding="utf-8")
    run = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=20000",
         "--window-size=390,800", "--dump-dom", (tmp_path / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
    seen = json.loads(base64.b64decode(run.stdout.partition("SEEN")[2].partition("END")[0]))
    assert seen["errors"] == []
    assert seen["title"] == "script><img src=x onerror='throw 2'>.avi: facial expressions"  # of a path the last part
    assert seen["drawn"] >= 7
    assert seen["wide"] <= 0
    assert [seen[how] for how in ("clicked", "next", "curve", "marker")] == [True] * 4
    assert seen["chosen"] == [40.2]
    assert seen["zoomed"] == [79, 81.4]
    assert seen["frames"] == list(range(4000, 4021))  # each of them
    np.testing.assert_allclose(seen["values"], result.signals["score"][4000:4021], atol=1e-4)
    assert seen["rest"] == [True, pytest.approx(0, abs=0.5), pytest.approx(180, abs=0.5)]
    assert seen["closer"] == [79.6, 80.8]
    assert seen["moved"] == [79.9, 81.1]
    assert seen["whole"] == [0, 180]
    assert seen["up"] == ["32514", "ascending"]
    assert seen["down"] == ["14253", "descending"]
    assert seen["focus"] == "4"
    lines = seen["copied"].splitlines()
    assert lines[0].split("\t") == [
        "number", "type", "onset_s", "onset", "apex_s", "apex", "offset_s", "offset", "length_s", "score", "amplitude"
    ]  # fmt: skip
    assert lines[1] == "1\tmicro\t20.000\t1000\t20.200\t1010\t20.400\t1020\t0.420\t5.00\t1.00"
    assert len(lines) == 6
    assert seen["status"] == "5 rows are in the clipboard, tab-separated."
