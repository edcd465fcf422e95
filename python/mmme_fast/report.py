"""Pages of HTML that need nothing else: what `spot` found in a film, and the band power of a recording."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmme_fast import flow, motion
from mmme_fast.clips import ClipBandPower
from mmme_fast.eeg import BandPowerStream, Recording, stream_band_power
from mmme_fast.spotting import block_means
from mmme_fast.strain import optical_strain

if TYPE_CHECKING:
    from mmme_fast.results import Interval, Spotting

logger = logging.getLogger("mmme_fast")

Pixels = NDArray[np.uint8]
Signal = NDArray[Any]

PICTURED = 500  # intervals; the strongest ones
LOSSLESS = 40  # intervals pictured without loss; the pictures of more are JPEG, a sixth as large
PICTURE_SIDE = 256  # px
POINTS = 4000  # of a curve as the page opens; a longer one is drawn as least and largest value of half as many bins
FINE = 1 << 20  # of a curve for the page to zoom into: each frame of two hours at 145 frames/s
LEAST_MOTION = 0.25  # px of a crop 256 wide: smaller motion does not get the full colours of the wheel
CELL = 8  # px: global motion is fitted to flow averaged over cells of this size
# The colours of the shaded intervals, also those of the words in the table; they read on white and on black.
COLOURS = {"micro": "#d9480f", "macro": "#1c7ed6", "blink": "#868e96"}
TRUTH = "#2b8a3e"
# Magma (van der Walt and Smith), at equal steps.
HEAT = np.array([(0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)])


def page(spotting: Spotting) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    spotting : Spotting
        From `mmme_fast.spot`. Its `source` is read once more for the pictures; where that fails the page says so.

    Raises
    ------
    ImportError
        Without plotly, ``pip install "mmme_fast[report]"``.
    """
    meta = spotting.meta
    source = str(meta.get("input", {}).get("source", ""))
    name = Path(source).name or "film"
    strongest = sorted(enumerate(spotting.intervals, 1), key=lambda pair: -pair[1].score)
    numbers = dict(sorted(strongest[:PICTURED]))
    chart = _chart(spotting)
    figures, trouble = _pictures(spotting, numbers)
    notes = list(meta.get("warnings", []))
    if trouble:
        notes.append(f"some pictures are missing: {trouble}")
    step = -(-len(spotting.scores) // FINE)
    left_out = len(spotting.intervals) - len(numbers)
    pictured = f"<p>The {len(numbers)} strongest of {len(spotting.intervals)} intervals.</p>" if left_out else ""
    warned = "".join(f"<li>{escape(note)}</li>" for note in notes)
    blinks = _table("blink", spotting.blinks, spotting.fps, {})
    warnings = f'<section class="warnings" aria-label="Warnings"><ul>{warned}</ul></section>' if warned else ""
    main = f"""<section aria-labelledby="scores">
<h2 id="scores">Score over time</h2>
<p>Above 1, the threshold, something moves that is not the head. {_said(spotting)}Drag to zoom, double-click to see all;
by touch, the buttons zoom; with the keyboard + and &minus; do, arrows move, and Home shows all. A click on an interval
leads to its pictures.
{f"The curves are the least and the largest value of each {2 * step} frames." if step > 1 else ""}</p>
<div class="chart" tabindex="0" role="group"
aria-label="Score, head motion and strain over time; the intervals are in the table below">{chart}</div>
{_fine(spotting)}
</section>
<section aria-labelledby="intervals">
<h2 id="intervals">Intervals</h2>
{_table("interval", spotting.intervals, spotting.fps, figures)}
</section>
<section aria-labelledby="pictures">
<h2 id="pictures">Pictures</h2>
{pictured}{_legend() if figures else "<p>There are none.</p>"}
{"".join(figures.values())}
</section>
<details><summary>Blinks ({len(spotting.blinks)})</summary>{blinks}</details>
{_details(meta)}"""
    return document("Facial expressions", name, source, _summary(spotting) + warnings, main, script=SCRIPT)


def _said(spotting: Spotting) -> str:
    """What else the chart shows."""
    parts = []
    if spotting.truth:
        parts.append("The bars at the top are the annotated expressions. ")
    if not spotting.signals["valid"].all():
        parts.append("Grey: frames without a face that could be followed. ")
    return "".join(parts)


def document(title: str, name: str, source: str, header: str, main: str, *, of: str = "in", script: str = "") -> str:
    """The page around what is told: every page of this package."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(name)}: {title[0].lower()}{title[1:]}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{title} {of} {escape(name)}</h1>
<p class="path">{escape(source)}</p>
{header}
</header>
<main>
{main}
</main>{f"{chr(10)}<script>{script}</script>" if script else ""}
</body>
</html>
"""


def _details(meta: dict[str, Any]) -> str:
    text = escape(json.dumps(meta, indent=2))
    return f"<details><summary>Parameters and versions</summary><pre>{text}</pre></details>"


def facts(told: dict[str, str]) -> str:
    return f"<dl>{''.join(f'<div><dt>{key}</dt><dd>{escape(value)}</dd></div>' for key, value in told.items())}</dl>"


def _summary(spotting: Spotting) -> str:
    meta, times = spotting.meta, spotting.signals["timestamp"]
    types = [one.type for one in spotting.intervals]
    seconds = (float(times[-1] - times[0]) if len(times) else 0.0) + 1 / spotting.fps
    told = {
        "micro-expressions": str(types.count("micro")),
        "macro-expressions": str(types.count("macro")),
        "blinks": str(len(spotting.blinks)),
        "length": _clock(seconds),
        "frames": f"{len(times):,}",
        "frames per second": f"{spotting.fps:.6g}",
    }
    if "seconds" in meta:
        told["taken"] = f"{_clock(meta['seconds'])}, {meta['frames_per_second']:g} frames/s"
    return facts(told)


def _clock(seconds: float) -> str:
    """Seconds as people write them."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


# Of a table of intervals: heading, unit and, for the copy, the names of the columns.
HEADS = (
    ("No.", "", "number"), ("Type", "", "type"), ("Onset", "s, frame", "onset_s onset"),
    ("Apex", "s, frame", "apex_s apex"), ("Offset", "s, frame", "offset_s offset"), ("Length", "s", "length_s"),
    ("Score", "", "score"), ("Amplitude", "px of 256", "amplitude"),
)  # fmt: skip


def _table(name: str, intervals: list[Interval], fps: float, figures: dict[int, str]) -> str:
    if not intervals:
        return "<p>None were found.</p>"
    rows = []
    for i, one in enumerate(intervals, 1):
        number = f'<a href="#interval-{i}">{i}</a>' if i in figures else str(i)
        moments = [f"{t:.3f}<small>{f}</small>" for t, f in (
            (one.onset_s, one.onset), (one.apex_s, one.apex), (one.offset_s, one.offset)
        )]  # fmt: skip
        cells = [*moments, f"{one.offset_s - one.onset_s + 1 / fps:.3f}", f"{one.score:.2f}", f"{one.amplitude:.2f}"]
        rows.append(
            f'<tr id="{name}-row-{i}"><th scope="row">{number}</th><td class="{escape(one.type)}">{escape(one.type)}'
            f"</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        )
    head = "".join(
        f'<th scope="col" data-columns="{columns}"><button type="button">{title}<small>{unit}</small></button></th>'
        for title, unit, columns in HEADS
    )
    return (
        '<p class="tools"><button type="button" class="copy">Copy the table</button> <span role="status"></span></p>'
        f'<div class="wide" tabindex="0" role="region" aria-label="Table of {name}s"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _chart(spotting: Spotting) -> str:
    """The curves with the intervals behind them, and plotly.js itself."""
    Scatter, make_subplots = plotly_parts()
    signals, times = spotting.signals, spotting.signals["timestamp"]
    rows = _curves(spotting)
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.04, row_heights=[0.6, 0.2, 0.2])
    top = 1.05 * max(1.5, float(signals["score"].max(initial=0)))
    for kind, colour in COLOURS.items():
        found = [one for one in (*spotting.intervals, *spotting.blinks) if one.type == kind]
        if not found:
            continue
        # One outline for all intervals of a type: a shape for each would make long films slow.
        x = [t for one in found for t in (one.onset_s, one.onset_s, one.offset_s, one.offset_s, None)]
        figure.add_trace(
            Scatter(x=x, y=[0, top, top, 0, None] * len(found), name=kind, legendgroup=kind, mode="lines",
                    fill="toself", line={"width": 0}, fillcolor=f"{colour}55", hoverinfo="skip"),
            row=1, col=1,
        )  # fmt: skip
        numbers = [i for i, one in enumerate(spotting.intervals, 1) if one.type == kind]  # none of blinks
        texts = [f"{kind}<br>{one.onset_s:.3f} to {one.offset_s:.3f} s<br>{one.amplitude:.2f} px" for one in found]
        figure.add_trace(
            Scatter(x=[one.apex_s for one in found], y=[one.score for one in found], text=texts, name=kind,
                    customdata=numbers or None, legendgroup=kind, showlegend=False, mode="markers",
                    marker={"color": colour, "size": 7}, hovertemplate="%{text}<br>score %{y:.2f}<extra></extra>"),
            row=1, col=1,
        )  # fmt: skip
    if spotting.truth:
        x = [t for begin, end in _moments(spotting) for t in (begin, end, None)]
        figure.add_trace(
            Scatter(x=x, y=[top, top, None] * len(spotting.truth), name="truth", mode="lines",
                    line={"width": 7, "color": TRUTH}, hovertemplate="%{x:.3f} s<extra>truth</extra>"),
            row=1, col=1,
        )  # fmt: skip
    for row, (name, values) in enumerate(rows, 1):
        at, largest = envelope(times, values)
        figure.add_trace(
            Scatter(x=at, y=largest, name=name, meta=row - 1, showlegend=False, mode="lines",
                    line={"width": 1, "color": "#12a085"}, hovertemplate="%{x:.3f} s: %{y:.3g}<extra></extra>"),
            row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(title_text=name, row=row, col=1)
    figure.add_trace(
        Scatter(x=[None], y=[None], name="chosen", meta="chosen", showlegend=False, mode="markers", hoverinfo="skip",
                marker={"symbol": "circle-open", "size": 16, "color": "#12a085", "line": {"width": 3}}),
        row=1, col=1,
    )  # fmt: skip
    figure.add_hline(y=1, line={"dash": "dash", "width": 1, "color": "#888"}, row=1, col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(range=[0, 1.04 * top], row=1, col=1)
    lost = np.flatnonzero(np.diff(np.concatenate([[True], signals["valid"], [True]]).astype(int)))
    edges = np.append(times, times[-1] + 1 / spotting.fps if len(times) else 0.0)
    if len(lost):  # one shape for all: thousands of them would stall the page
        path = "".join(f"M{a:.6g},0V1H{b:.6g}V0Z" for a, b in edges[lost].reshape(-1, 2))
        figure.add_shape(type="path", path=path, xref="x", yref="paper", fillcolor="#888", opacity=0.35, layer="below",
                         line_width=0)  # fmt: skip
    if len(times):
        figure.update_xaxes(range=[float(edges[0]), float(edges[-1])])
    figure.update_xaxes(title_text="s", row=3, col=1)
    return drawn(figure, 480)


def _curves(spotting: Spotting) -> tuple[tuple[str, Signal], ...]:
    signals = spotting.signals
    head = np.hypot(signals["head_x"], signals["head_y"])
    return ("score", signals["score"]), ("head motion, px", head), ("strain", signals["strain"])


def _fine(spotting: Spotting) -> str:
    """The curves frame by frame, for the page to zoom into, where the chart opens with less: 8 bytes a frame.

    Values are of 16 bits; times are a grid and, where the film leaves it by a millisecond, by how much.
    """
    times = spotting.signals["timestamp"]
    if len(times) <= POINTS:
        return ""
    step = -(-len(times) // FINE)
    at = times[::step]
    grid = np.linspace(at[0], at[-1], len(at))
    curves = []
    for _, values in _curves(spotting):
        if step > 1:
            starts = np.arange(0, len(values), 2 * step)
            ends = (np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts))
            values = np.stack(ends, axis=1).ravel()[: len(at)]
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        levels = np.rint((values - low) * (65534 / max(high - low, 1e-30)))
        levels = np.where(np.isnan(levels), 65535, levels)
        curves.append({"low": low, "high": high, "levels": _base64(levels.astype("<u2").tobytes())})
    late = _base64((at - grid).astype("<f4").tobytes()) if np.abs(at - grid).max() > 1e-3 else None
    fine = {"n": len(at), "from": float(at[0]), "to": float(at[-1]), "late": late, "curves": curves}
    return f'<script type="application/json" id="fine">{json.dumps(fine)}</script>'


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _moments(spotting: Spotting) -> list[tuple[float, float]]:
    """Seconds of the annotated expressions, as far as the film goes."""
    times = spotting.signals["timestamp"]
    last = len(times) - 1
    return [(float(times[min(one.onset, last)]), float(times[min(one.offset, last)])) for one in spotting.truth]


def plotly_parts() -> tuple[Any, Any]:
    """What the charts are made of."""
    try:
        from plotly.graph_objects import Scatter
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise ImportError('the report needs plotly: pip install "mmme_fast[report]"') from error
    return Scatter, make_subplots


def drawn(figure: Any, height: int) -> str:
    """A chart in the page's style, and plotly.js itself."""
    grid = "rgba(128, 128, 128, 0.25)"
    figure.update_xaxes(gridcolor=grid, zeroline=False)
    figure.update_yaxes(gridcolor=grid, zeroline=False, title_font_size=12)
    figure.update_layout(
        height=height, margin={"l": 50, "r": 10, "t": 55, "b": 40}, template="none", paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}, dragmode="zoom",
        modebar={"bgcolor": "rgba(0, 0, 0, 0)", "color": "#888", "activecolor": "#12a085"},
    )  # fmt: skip
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="chart", post_script=PAINT,
        config={"responsive": True, "displaylogo": False,
                "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]]},
    )  # fmt: skip
    return html


def envelope(times: Signal, values: Signal) -> tuple[Signal, Signal]:
    """The least and the largest value of each of POINTS / 2 bins, and when they were; short curves are as they are."""
    if len(values) <= POINTS:
        return times, values
    edges = np.linspace(0, len(values), POINTS // 2 + 1).astype(int)
    bins = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    ends = [[a + int(end) for end in (values[a:b].argmin(), values[a:b].argmax())] for a, b in bins]
    where = np.unique(ends)  # in order of time
    return times[where], values[where]


def _pictures(spotting: Spotting, numbers: dict[int, Interval]) -> tuple[dict[int, str], str]:
    """HTML of each interval's pictures, and why some are missing."""
    trouble: list[str] = []
    lossless = len(numbers) <= LOSSLESS
    wanted = {i: (one.onset, one.apex, one.offset) for i, one in numbers.items()}
    figures = {i: _figures(i, numbers[i], frames, lossless) for i, frames in _frames(spotting.source, wanted, trouble)}
    return dict(sorted(figures.items())), "".join(trouble)


def _frames(
    source: Any, wanted: dict[int, tuple[int, int, int]], trouble: list[str]
) -> Iterator[tuple[int, list[Signal]]]:
    """The three frames of each interval once all are there.

    The film is read in sequence, since seeking in it is inexact; no more is kept than what unfinished intervals need.
    """
    due = sorted(((frame, i) for i, moments in wanted.items() for frame in set(moments)), reverse=True)
    kept: dict[int, dict[int, Signal]] = {i: {} for i in wanted}
    if not due:
        return
    try:
        if source is None:
            raise ValueError("the film is not known here")
        done = 0
        with closing(source.chunks()) as chunks:
            for chunk in chunks:
                while due and due[-1][0] < done + len(chunk):
                    frame, i = due.pop()
                    kept[i][frame] = chunk[frame - done].copy()  # lets go of the chunk
                    if frame == max(wanted[i]):
                        frames = kept.pop(i)
                        yield i, [frames[moment] for moment in wanted[i]]
                done += len(chunk)
                if not due:
                    return
        trouble.append(f"the film now ends after {done} frames")
    except (OSError, ValueError) as error:
        logger.warning("the report lacks pictures: %s", error)
        trouble.append(str(error))


def _figures(number: int, one: Interval, frames: list[Signal], lossless: bool) -> str:
    before, after, end = _comparable(*frames)
    height, width = before.shape
    rest = expression_flow(before, after)
    scale = 256 / max(height, width)
    longest = float(np.quantile(np.hypot(rest[..., 0], rest[..., 1]), 0.999)) * scale
    strain = optical_strain(rest)
    most = float(np.quantile(strain, 0.999))
    pictures = (
        (f"onset, {one.onset_s:.3f} s", before),
        (f"apex, {one.apex_s:.3f} s", after),
        (f"offset, {one.offset_s:.3f} s", end),
        (f"flow, up to {longest:.2f} px of 256", wheel(rest * (scale / max(longest, LEAST_MOTION)))),
        (f"strain, up to {most:.3f}", _heat(strain / max(most, 1e-6))),
    )
    unit = 100 * max(height, width)
    place = f"left:{one.x * unit / width:.1f}%;top:{one.y * unit / height:.1f}%"
    figures = "".join(
        f'<figure><div><img src="{_image(_bytes(pixels), lossless)}" alt="{text}" width="{width}" height="{height}" '
        f'decoding="async"><i style="{place}"></i></div><figcaption>{text}</figcaption></figure>'
        for text, pixels in pictures
    )
    kind = escape(one.type)
    return (
        f'<article id="interval-{number}" tabindex="-1" aria-labelledby="title-{number}">'
        f'<h3 id="title-{number}">{number}. '
        f'<span class="{kind}">{kind}</span> {one.onset_s:.3f} to {one.offset_s:.3f} s, score {one.score:.2f}</h3>'
        f'<div class="pictures">{figures}</div><nav aria-label="From interval {number}">'
        f'<a href="#interval-row-{number}">In the table</a><button type="button">In the chart</button></nav></article>'
    )


def _comparable(*frames: Signal) -> Signal:
    """The frames, stacked, as float32 in 0..1 and at most PICTURE_SIDE wide and high."""
    stack = np.stack(frames).astype(np.float32)
    low, high = (0.0, 255.0) if frames[0].dtype == np.uint8 else (float(stack.min()), float(stack.max()))
    stack = (stack - low) / max(high - low, 1e-12)
    side = max(stack.shape[1:])
    if side > PICTURE_SIDE:
        # Not below what flow asks for, where the crop is a narrow band.
        stack = block_means(stack, *(max(n * PICTURE_SIDE // side, min(n, 8)) for n in stack.shape[1:]))
    return stack


def expression_flow(before: Signal, after: Signal) -> NDArray[np.float32]:
    """Flow from one frame to the other after the head's motion between them is undone: (y, x, 2)."""
    height, width = before.shape
    rows, columns = max(height // CELL, 2), max(width // CELL, 2)
    cells = block_means(flow.farneback(before, after)[None], rows, columns)[0]
    ys, xs = (np.arange(rows) + 0.5) * height / rows - 0.5, (np.arange(columns) + 0.5) * width / columns - 0.5
    head = motion.global_motion(
        cells, weights=motion.texture(before, rows, columns) + 1e-6, points=np.stack(np.meshgrid(xs, ys), axis=-1)
    )
    return flow.farneback(before, np.clip(motion.warp(after[None], head[None])[0], 0, 1))


def wheel(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Colours of flow, (y, x, 3) in 0..1: the hue is the direction, and the paler the shorter; length 1 is full."""
    length = np.minimum(np.hypot(vectors[..., 0], vectors[..., 1]), 1)
    hue = np.arctan2(vectors[..., 1], vectors[..., 0]) * (3 / np.pi)  # 0 to 6 once around, modulo 6
    step = (np.array([5, 3, 1]) + hue[..., None]) % 6
    colours: NDArray[np.float32] = 1 - length[..., None] * np.clip(np.minimum(step, 4 - step), 0, 1)
    return colours


def _heat(values: Signal) -> NDArray[np.float32]:
    at = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, at, channel / 255) for channel in HEAT.T], axis=-1).astype(np.float32)


def _legend() -> str:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    disc = _image(_bytes(wheel(np.stack([x, y], axis=-1))))
    return (
        f'<p class="legend"><img src="{disc}" alt="" width="64" height="64">'
        "<span>The flow leads from onset to apex, head motion removed. Its colour is the direction in which the skin "
        "moves, from the middle of this wheel outwards; white is rest. Strain is how far it is stretched or sheared, "
        "black where it is not. The ring marks where the motion was strongest.</span></p>"
    )


def _bytes(pixels: Signal) -> Pixels:
    scaled: Pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return scaled


def _image(pixels: Pixels, lossless: bool = True) -> str:
    """Grey (y, x) or RGB (y, x, 3) as a data URI: PNG, or JPEG in good quality."""
    import av

    given = "gray" if pixels.ndim == 2 else "rgb24"
    kind, codec, format_, options = "png", "png", given, {"pred": "mixed"}
    if not lossless:
        kind, codec, format_, options = "jpeg", "mjpeg", "yuvj420p", {"qmin": "4", "qmax": "4"}
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.options = format_, Fraction(1), options
    frame = av.VideoFrame.from_ndarray(pixels, format=given)
    packets = [*encoder.encode(frame if lossless else frame.reformat(format=format_)), *encoder.encode()]
    return f"data:image/{kind};base64,{_base64(b''.join(bytes(p) for p in packets))}"


# Colours of the bands, in their order; from Wong's palette, told apart by colour-blind readers.
BAND_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c8c00", "#7f7f7f")
MOST_WINDOWS = 2000  # drawn of band power; of more, every second, third ... is
SEGMENT = 4.0  # s, of the spectrum
MOST_SEGMENTS = 600
MOST_HZ = 100.0
MARKERS = 500  # drawn


def band_power_page(power: BandPowerStream | ClipBandPower) -> str:
    """Return a page with a recording's band power over time and its power spectral density, as HTML.

    Parameters
    ----------
    power : BandPowerStream or ClipBandPower
        From `mmme_fast.stream_band_power` or `clips.clip_band_power`. The recording is read twice for it, in constant
        memory.

    Raises
    ------
    ImportError
        Without plotly, ``pip install "mmme_fast[report]"``.
    """
    Scatter, make_subplots = plotly_parts()
    recording = power.recording
    times, median, step = _course(power)
    frequency, density = _spectrum(recording)
    micro = power.unit.startswith("V^2")
    unit, scale = (power.unit.replace("V^2", "\N{MICRO SIGN}V\N{SUPERSCRIPT TWO}"), 1e12) if micro else (power.unit, 1)
    figure = make_subplots(rows=2, vertical_spacing=0.13, row_heights=[0.5, 0.5])
    colours = {name: BAND_COLOURS[i % len(BAND_COLOURS)] for i, name in enumerate(power.bands)}
    shapes: list[dict[str, Any]] = []
    # A line is not drawn over what was left out.
    steps = np.diff(times)
    breaks = np.flatnonzero(steps > 1.5 * np.median(steps)) + 1 if len(steps) > 1 else np.array([], int)
    for (name, edges), values in zip(power.bands.items(), median.T, strict=True):
        label = name if name[0].isdigit() else f"{name} {edges[0]:g}-{edges[1]:g} Hz"
        figure.add_trace(
            Scatter(x=np.insert(times, breaks, np.nan), y=np.insert(values * scale, breaks, np.nan), name=label,
                    mode="lines", line={"width": 1.2, "color": colours[name]},
                    hovertemplate=f"%{{x:.3f}} s: %{{y:.3g}}<extra>{name}</extra>"),
            row=1, col=1,
        )  # fmt: skip
        shapes.append(_shade(*edges, colours[name], 0.12, 2))
    shapes += [_shade(m.onset, m.onset, "#888", 0.5, 1, width=1, dash="dot") for m in recording.markers[:MARKERS]]
    shapes += [
        _shade(begin, max(end, begin + recording.duration / 1000), "#888", 0.4, 1) for begin, end in recording.gaps
    ]
    figure.update_layout(shapes=shapes)  # all at once, as plotly takes seconds to add a hundred
    lines = np.column_stack([density * 1e12, np.full(len(density), np.nan)])
    figure.add_trace(
        Scatter(x=np.tile(np.append(frequency, np.nan), len(density)), y=lines.ravel(), name="channels", mode="lines",
                line={"width": 0.6, "color": "rgba(128, 128, 128, 0.5)"}, hoverinfo="skip", showlegend=False),
        row=2, col=1,
    )  # fmt: skip
    figure.add_trace(
        Scatter(x=frequency, y=np.median(density, axis=0) * 1e12, name="median of channels", mode="lines",
                line={"width": 2, "color": "#12a085"}, showlegend=False,
                hovertemplate="%{x:g} Hz: %{y:.3g}<extra></extra>"),
        row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if not micro:
        figure.update_yaxes(type="linear", dtick=None, row=1, col=1)
    figure.update_yaxes(title_text=unit, row=1, col=1)
    figure.update_yaxes(title_text="\N{MICRO SIGN}V\N{SUPERSCRIPT TWO}/Hz", row=2, col=1)
    figure.update_xaxes(title_text="s", range=[0, recording.duration], row=1, col=1)
    figure.update_xaxes(title_text="Hz", range=[0, float(frequency[-1])], row=2, col=1)

    left_out = power.left_out if isinstance(power, BandPowerStream) else 0
    told = {
        "channels": str(len(recording.ch_names)),
        "length": _clock(recording.duration),
        "samples per second": f"{recording.sfreq:g}",
        "windows": f"{len(times) * step:,}" if step == 1 else f"{len(power):,}",
        "resolution": f"{power.resolution:.4g} Hz",
        "markers": str(len(recording.markers)),
    } | ({"windows left out": str(left_out)} if left_out else {})
    marked = f"Dotted: the {'first ' * (len(recording.markers) > MARKERS)}markers." if recording.markers else ""
    main = f"""<section aria-labelledby="power">
<h2 id="power">Band power over time, and spectrum</h2>
<p>Above, the median over channels in each {"window" if step == 1 else f"{_ordinal(step)} window"}. {marked}
{"Grey: gaps of the recording." if recording.gaps else ""} Below, the power spectral density (Welch, Hann windows of
{1 / (frequency[1] - frequency[0]):g} s) of each channel and, thick, their median; the bands are shaded. Drag to zoom,
double-click to see all.</p>
<div role="img" aria-label="Band power over time and power spectral density">{drawn(figure, 720)}</div>
</section>
<section aria-labelledby="bands">
<h2 id="bands">Bands</h2>
{_band_table(power, median * scale, unit)}
</section>
{_details(power._meta(len(power)))}"""
    return document("Band power", Path(recording.source).name or "recording", recording.source, facts(told), main)


def _course(power: BandPowerStream | ClipBandPower) -> tuple[Signal, Signal, int]:
    """Times (window,), the median over channels (window, band), and how many windows each stands for."""
    parts: list[tuple[Signal, Signal]]
    if isinstance(power, ClipBandPower):
        parts = sorted(((times, values) for _, times, values in power), key=lambda part: float(part[0][0]))
        step = 1
    else:
        step = -(-len(power) // MOST_WINDOWS)
        parts = [*replace(power, kept=power.kept[::step], _starts=power._starts[::step])]
    course = np.concatenate([np.nanmedian(values, axis=1) for _, values in parts])
    return np.concatenate([times for times, _ in parts]), course, step


def _shade(left: float, right: float, colour: str, opacity: float, row: int, **line: Any) -> dict[str, Any]:
    """A strip of a chart's row from its bottom to its top."""
    axis = "" if row == 1 else str(row)
    return {
        "type": "rect", "xref": f"x{axis}", "yref": f"y{axis} domain", "x0": left, "x1": right, "y0": 0, "y1": 1,
        "fillcolor": colour, "opacity": opacity, "layer": "below", "line": {"width": 0, "color": colour, **line},
    }  # fmt: skip


def _spectrum(recording: Recording) -> tuple[Signal, Signal]:
    """Frequencies (bin,) in Hz and power spectral density (channel, bin) in V^2/Hz."""
    sfreq, n = recording.sfreq, recording.n_samples
    # Between the gaps, where a boundary may lie half a sample before the first one that follows it.
    edges = [int(np.ceil(seconds * sfreq - 1e-3)) for gap in recording.gaps for seconds in gap]
    stretches = np.clip([0, *edges, n], 0, n).reshape(-1, 2)
    window = min(round(SEGMENT * sfreq), int(np.diff(stretches).max()))
    hop = max(window // 2, n // MOST_SEGMENTS, 1)
    starts = np.concatenate([np.arange(begin, end - window + 1, hop) for begin, end in stretches])
    resolution = sfreq / window
    bins = np.arange(1, int(min(sfreq / 2, MOST_HZ) / resolution))
    stream = stream_band_power(
        recording, window=window / sfreq, at=starts / sfreq,
        bands={str(i): ((i - 0.25) * resolution, (i + 0.25) * resolution) for i in bins},
    )  # fmt: skip
    total: Signal = np.zeros((len(recording.ch_names), len(bins)))
    for _, power in stream:
        total += power.sum(axis=0, dtype=np.float64)
    return bins * resolution, total / len(stream)


def _band_table(power: BandPowerStream | ClipBandPower, median: Signal, unit: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in (f'{low:g}-{high:g}', power.bins[name], f'{middle:.4g}'))}</tr>"
        for (name, (low, high)), middle in zip(power.bands.items(), np.nanmedian(median, axis=0), strict=True)
    )
    head = "".join(
        f'<th scope="col">{name}<small>{of}</small></th>'
        for name, of in (("", ""), ("Edges", "Hz"), ("Bins", ""), ("Median", unit))
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")


# The chart follows the page's colours, which follow the reader's choice of light or dark.
PAINT = """
const paint = () => Plotly.relayout("{plot_id}", {"font.color": getComputedStyle(document.body).color});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
paint();
"""

# Of the page of a film. It adds zoom down to frames, the way from the chart to the pictures, keys, and tables that
# sort and copy. Links and pictures are there without it.
SCRIPT = r"""
"use strict";
const chart = document.getElementById("chart");
const whole = [...chart.layout.xaxis.range];
const view = (begin, end) =>
  Plotly.relayout(chart, Object.fromEntries(["", 2, 3].map(i => [`xaxis${i}.range`, [begin, end]])));
const traces = test => [...chart.data.keys()].filter(i => test(chart.data[i].meta));
const number = cell => parseFloat(cell.firstChild.textContent);
const found = [...document.querySelectorAll("tr[id^=interval-row-]")].map(row => ({
  row, link: row.querySelector("a"), onset: number(row.cells[2]), apex: number(row.cells[3]),
  offset: number(row.cells[4]), score: number(row.cells[6]),
}));

// Zoom: of what is in view, the least and the largest value of each pixel's frames; around it as in the whole.
const fine = document.getElementById("fine") && JSON.parse(document.getElementById("fine").textContent);
if (fine) {
  const decode = (text, type) => new type(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const step = (fine.to - fine.from) / (fine.n - 1);
  let late, curves;
  const time = i => fine.from + i * step + (late ? late[i] : 0);
  const first = t => {  // the first point at or after t
    let low = 0, high = fine.n;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (time(middle) < t) low = middle + 1; else high = middle;
    }
    return low;
  };
  const reduce = ({low, high, levels}, begin, end, bins, x, y) => {
    const put = i => {
      x.push(time(i));
      y.push(levels[i] === 65535 ? NaN : low + levels[i] * (high - low) / 65534);
    };
    if (end - begin <= 2 * bins) { for (let i = begin; i < end; i++) put(i); return; }
    for (let bin = 0, from = begin; bin < bins; bin++) {
      const to = begin + Math.round((end - begin) * (bin + 1) / bins);
      let least = from, most = from;
      for (let i = from; i < to; i++) {
        if (levels[i] < levels[least]) least = i;
        if (levels[i] > levels[most]) most = i;
      }
      put(Math.min(least, most));
      if (least !== most) put(Math.max(least, most));
      from = to;
    }
  };
  chart.on("plotly_relayout", change => {
    if (!Object.keys(change).some(key => key.startsWith("xaxis"))) return;
    if (!curves) {  // decoded when first needed: the page opens sooner
      late = fine.late && decode(fine.late, Float32Array);
      curves = fine.curves.map(curve => ({...curve, levels: decode(curve.levels, Uint16Array)}));
    }
    const [from, to] = chart.layout.xaxis.range, bins = Math.max(chart.clientWidth, 300);
    const begin = Math.max(first(from) - 1, 0), end = Math.min(first(to) + 1, fine.n);
    const x = [], y = [];
    for (const curve of curves) {
      const xs = [], ys = [];
      reduce(curve, 0, begin, bins, xs, ys);
      reduce(curve, begin, end, bins, xs, ys);
      reduce(curve, end, fine.n, bins, xs, ys);
      x.push(xs);
      y.push(ys);
    }
    Plotly.restyle(chart, {x, y}, traces(meta => typeof meta === "number"));
  });
}

// A click in the chart leads to the pictures; what is shown is marked in table and chart.
chart.on("plotly_click", ({points: [point]}) => {
  const one = point.customdata ? found.find(({row}) => row.id === `interval-row-${point.customdata}`)
    : found.find(({onset, offset}) => onset <= point.x && point.x <= offset);
  if (one && one.link) one.link.click();
});
const choose = () => {
  const chosen = location.hash.replace("-row", "").slice(1);
  const one = found.find(({row}) => row.id.replace("-row", "") === chosen);
  for (const {row} of found) row.classList.toggle("chosen", Boolean(one) && row === one.row);
  if (one) Plotly.restyle(chart, {x: [[one.apex]], y: [[one.score]]}, traces(meta => meta === "chosen"));
};
addEventListener("hashchange", choose);
choose();
for (const article of document.querySelectorAll("article")) {
  const {row, onset, offset} = found.find(({row}) => row.id.replace("-row", "") === article.id);
  article.querySelector("button").addEventListener("click", () => {
    const margin = Math.max(2 * (offset - onset), 1);
    view(onset - margin, offset + margin);
    chart.parentElement.focus();
  });
  article.addEventListener("keydown", event => {
    const next = {ArrowLeft: article.previousElementSibling, ArrowRight: article.nextElementSibling}[event.key];
    if (next && next.localName === "article") { event.preventDefault(); location.hash = next.id; }
  });
}

chart.parentElement.addEventListener("keydown", event => {
  const [from, to] = chart.layout.xaxis.range, part = (to - from) / 4;
  const act = {
    "+": () => view(from + part, to - part), "-": () => view(from - 2 * part, to + 2 * part),
    ArrowLeft: () => view(from - part, to - part), ArrowRight: () => view(from + part, to + part),
    Home: () => view(...whole),
  }[event.key === "=" ? "+" : event.key];
  if (act && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); act(); }
});
// A finger that moves over the chart scrolls the page; it zooms with the chart's buttons.
if (matchMedia("(pointer: coarse)").matches) Plotly.relayout(chart, {dragmode: false});

const texts = cell => [...cell.childNodes].map(node => node.textContent);
for (const region of document.querySelectorAll(".wide")) {
  const table = region.querySelector("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.ariaSort === "ascending" ? -1 : 1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const order = (a, b) => isNaN(a) ? a.localeCompare(b) : a - b;
    body.append(...[...body.rows].sort((a, b) => sign * order(texts(a.cells[column])[0], texts(b.cells[column])[0])));
  }));
  region.addEventListener("keydown", event => {
    const row = event.target.closest("tbody tr");
    const next = row && {ArrowUp: row.previousElementSibling, ArrowDown: row.nextElementSibling}[event.key];
    const link = next && next.querySelector("a");
    if (link) { event.preventDefault(); link.focus(); }
  });
  const [button, status] = region.previousElementSibling.children;
  button.addEventListener("click", async () => {
    const lines = [heads.flatMap(head => head.dataset.columns.split(" "))];
    for (const row of body.rows) lines.push([...row.cells].flatMap(texts));
    const text = lines.map(line => line.join("\t") + "\n").join("");
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a page that came over plain http
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    status.textContent = `${body.rows.length} rows are in the clipboard, tab-separated.`;
  });
}
"""

STYLE = f"""
:root {{ color-scheme: light dark; --line: #8884; --soft: #8882; --quiet: #666; --warm: #b35900; --link: #1864ab; }}
@media (prefers-color-scheme: dark) {{ :root {{ --quiet: #aaa; --warm: #ffa94d; --link: #74c0fc; }} }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1120px; margin: 0 auto; padding: 1rem; }}
h1, h2, h3 {{ line-height: 1.2; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.6rem; margin: .5rem 0; }}
h2 {{ font-size: 1.25rem; margin: 2rem 0 .5rem; }}
h3 {{ font-size: 1rem; margin: 0 0 .5rem; }}
a {{ color: var(--link); }}
.path, small, figcaption, dt, .legend {{ color: var(--quiet); font-size: .85rem; }}
.path {{ margin: 0; overflow-wrap: anywhere; }}
dl {{ display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; }}
dd {{ margin: 0; font-size: 1.15rem; font-weight: 600; }}
.warnings {{ border-left: 4px solid var(--warm); background: var(--soft); padding: .5rem 1rem;
  overflow-wrap: anywhere; }}
.warnings ul {{ margin: 0; padding-left: 1rem; }}
.wide {{ overflow: auto; max-height: 70vh; }}
thead th {{ position: sticky; top: 0; background: Canvas; }}
thead button {{ all: unset; cursor: pointer; }}
thead button:focus-visible {{ outline: 2px solid var(--link); }}
[aria-sort=ascending] button::after {{ content: "\\2191"; }}
[aria-sort=descending] button::after {{ content: "\\2193"; }}
tr.chosen {{ background: var(--soft); }}
.tools {{ margin: .5rem 0; }}
.tools button, nav button {{ font: inherit; font-size: .85rem; cursor: pointer; }}
nav {{ display: flex; gap: 1rem; align-items: center; margin-top: .5rem; font-size: .85rem; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .75rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); }}
th, td:nth-child(2), small {{ white-space: nowrap; }}
th:nth-child(2), td:nth-child(2) {{ text-align: left; }}
.words th, .words td {{ text-align: left; white-space: normal; }}
.films :is(th, td):is(:first-child, :last-child) {{ text-align: left; }}
.films tbody th, .films td:last-child {{ white-space: normal; min-width: 11rem; overflow-wrap: anywhere; }}
.films tbody :is(th, td) {{ font-weight: 400; vertical-align: top; }}
.films .failed td:nth-child(2) {{ color: var(--warm); font-weight: 600; }}
td small, thead small {{ display: block; font-weight: 400; }}
{
    "".join(
        f"td.{kind}, span.{kind} {{ font-weight: 600; }} td.{kind}::before, span.{kind}::before {{ content: ''; "
        f"display: inline-block; width: .7em; height: .7em; margin-right: .4em; background: {colour}; }}"
        for kind, colour in COLOURS.items()
    )
}
@media (max-width: 600px) {{ table {{ font-size: .85rem; }} th, td {{ padding-right: .5rem; }} }}
/* Those out of view are not laid out. */
article {{ padding: 1rem 0; border-bottom: 1px solid var(--line); content-visibility: auto;
  contain-intrinsic-size: auto 300px; }}
article:target {{ background: var(--soft); }}
article:focus {{ outline: none; }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem; }}
figure {{ margin: 0; max-width: 320px; }}
figure div {{ position: relative; }}
figure img {{ display: block; width: 100%; height: auto; }}
figure i {{ position: absolute; width: 14%; aspect-ratio: 1; border: 1.5px solid #fff; outline: 1px solid #000a;
  border-radius: 50%; transform: translate(-50%, -50%); }}
.legend {{ display: flex; gap: 1rem; align-items: center; max-width: 46rem; }}
.legend img {{ border-radius: 50%; flex: none; }}
details {{ margin-top: 2rem; }}
summary {{ cursor: pointer; font-weight: 600; }}
pre {{ overflow-x: auto; font-size: .8rem; }}
"""
