"""How well spot() finds expressions of known truth: F1 per method and condition, as a table and a picture.

    python benchmarks/accuracy.py [--methods matched ...] [--films N] [--real FOLDER] [--out docs]

writes accuracy.md and accuracy.png. Each film is drawn once and spotted by every method. The seeds here were never used
to choose a method or one of its parameters.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmme_fast import spot, synth
from mmme_fast.metrics import Score, evaluate

SECONDS = 60
MICRO, MACRO, BLINKS = 10, 6, 12  # a minute
LENGTHS = "micro 0.2-0.5 s and 0.7-1.8 px, macro 0.6-1.8 s and 2-4 px (of 256)"
FRAME_RATES = (30.0, 100.0, 200.0)


@dataclass(frozen=True)
class Condition:
    """What a film is made of; a fractional design, in which every level of one factor meets every level of the next."""

    noise: float  # grey levels
    sway: float  # px
    hold: float  # part of an expression's length
    step: float  # of brightness, a part of 1


CONDITIONS = (
    Condition(1, 0, 0.0, 0.0), Condition(2, 2, 0.4, 0.2), Condition(4, 6, 0.0, 0.2), Condition(1, 2, 0.4, 0.0),
    Condition(2, 6, 0.0, 0.0), Condition(4, 0, 0.4, 0.2), Condition(1, 6, 0.4, 0.2), Condition(2, 0, 0.0, 0.0),
    Condition(4, 2, 0.0, 0.2), Condition(2, 2, 0.4, 0.0),
)  # fmt: skip
FACTORS: dict[str, Callable[[Condition], str]] = {
    "noise": lambda c: f"noise {c.noise:g}",
    "sway": lambda c: f"head sway {c.sway:g} px",
    "hold": lambda c: f"hold {c.hold:g}",
    "step": lambda c: "step of brightness" if c.step else "no step of brightness",
}
FIRST_SEED = 1000


def film(number: int, fps: float, micro: float = MICRO, macro: float = MACRO, first: int = FIRST_SEED) -> Any:
    one = CONDITIONS[number]
    return synth.film(
        SECONDS, fps, seed=first + number, micro=micro, macro=macro, blinks=BLINKS, hold=one.hold, sway=one.sway,
        noise=one.noise, lighting_step=one.step,
    )  # fmt: skip


class Spotted:
    """What methods found in films; kept in a file, so that a run that was stopped goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, list[list[Any]]] = json.loads(path.read_text()) if path.exists() else {}

    def __call__(self, key: str, drawn: synth.SyntheticFilm, runs: dict[str, dict[str, Any]]) -> None:
        """Run `spot` on the film with the options of each run whose result is not known yet."""
        missing = {name: options for name, options in runs.items() if f"{key} {name}" not in self.known}
        if not missing:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = drawn.write(Path(folder) / "film.npy")
            for name, options in missing.items():
                begun = time.perf_counter()
                found = spot(path, **{"crop": "full", "fps": drawn.fps, **options})
                self.known[f"{key} {name}"] = [[one.type, one.onset, one.offset] for one in found.intervals]
                self.path.write_text(json.dumps(self.known))
                print(f"{key} {name}: {len(found.intervals)} in {time.perf_counter() - begun:.1f} s", flush=True)


@dataclass(frozen=True)
class Span:
    type: str
    onset: int
    offset: int


def scores(spotted: Spotted, name: str, keys: Iterable[tuple[str, synth.SyntheticFilm]]) -> tuple[Score, Score, Score]:
    """Micro, macro and overall."""
    predictions, truth = {}, {}
    for key, drawn in keys:
        predictions[key] = [Span(*one) for one in spotted.known[f"{key} {name}"]]
        truth[key] = drawn.truth
    result = evaluate(predictions, truth, matching="one-to-one")
    return result.types["micro"], result.types["macro"], result.overall


def row(name: str, parts: tuple[Score, Score, Score]) -> str:
    counts = " | ".join(f"{one.tp} of {one.truths}, {one.fp} false" for one in parts[:2])
    return f"| {name} | {' | '.join(f'{one.f1:.3f}' for one in parts)} | {counts} |"


HEAD = "| | micro | macro | overall | micro found | macro found |\n|---|---|---|---|---|---|"


def sides(spotted: Spotted, name: str, keys: list[tuple[str, Any]]) -> dict[str, tuple[int, int]]:
    """Found and all, of expressions on one side, on both, and of brows raised on both for less than half a second."""
    kinds: dict[str, Callable[[Any], bool]] = {
        "one side": lambda e: e.region.endswith(("_left", "_right")),
        "both sides": lambda e: not e.region.endswith(("_left", "_right")),
        "both brows raised, micro": lambda e: e.region == "brow_raise" and e.type == "micro",
        "both brows lowered, micro": lambda e: e.region == "brow_lower" and e.type == "micro",
    }
    counts = {}
    for kind, belongs in kinds.items():
        chosen = {key: [e for e in drawn.truth if e.type != "blink" and belongs(e)] for key, drawn in keys}
        found = {key: [Span(*one) for one in spotted.known[f"{key} {name}"]] for key in chosen}
        one = evaluate(found, chosen, matching="one-to-one").overall
        counts[kind] = (one.tp, one.truths)
    return counts


def picture(table: dict[str, dict[str, tuple[Score, Score, Score]]], path: Path) -> None:
    """F1 of each method by condition, micro and macro apart."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    conditions = list(next(iter(table.values())))
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 0.32 * len(conditions) + 1.6), sharey=True, layout="constrained")
    for axis, part, title in zip(axes, (0, 1), ("micro", "macro"), strict=True):
        for i, (method, by_condition) in enumerate(table.items()):
            f1 = [by_condition[c][part].f1 for c in conditions]
            axis.plot(f1, range(len(conditions)), "os^Dv"[i % 5], color=f"C{i}", label=method)
        axis.set(title=f"{title}-expressions", xlabel="F1", xlim=(0, 1.02), yticks=range(len(conditions)))
        axis.set_yticklabels(conditions)
        axis.grid(color="#ddd")
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(table))
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["matched"], help="the first is held against the goals")
    parser.add_argument("--films", type=int, default=len(CONDITIONS), help="fewer are for trying it out")
    parser.add_argument("--free", type=int, default=len(CONDITIONS), help="films without expressions")
    parser.add_argument("--rates", nargs="*", type=float, default=FRAME_RATES, help="others than 150 frames per second")
    parser.add_argument("--real", type=Path, help="folder of films in which a still face is not to show anything")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--kept", type=Path, default=Path("build/accuracy.json"), help="what is known; delete to redo")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first film")
    arguments = parser.parse_args()
    arguments.kept.parent.mkdir(parents=True, exist_ok=True)
    spotted = Spotted(arguments.kept)
    methods = {name: {"method": name} for name in arguments.methods}
    main_method = arguments.methods[0]
    numbers = range(arguments.films)

    def planned(fps: float) -> list[tuple[str, Any]]:
        seed = arguments.seed
        return [(f"{seed + i} at {fps:g}", film(i, fps, first=seed)) for i in numbers]

    films = planned(150)
    for key, drawn in films:
        spotted(key, drawn, methods)
    rates = {fps: planned(fps) for fps in arguments.rates}
    for keys in rates.values():
        for key, drawn in keys:
            spotted(key, drawn, {main_method: methods[main_method]})
    quiet = [
        (f"{arguments.seed + 100 + i} free", film(i, 150, 0, 0, arguments.seed + 100)) for i in range(arguments.free)
    ]
    for key, drawn in quiet:
        options = methods[main_method]
        spotted(key, drawn, {main_method: options, "eyes known": {**options, "landmarks": drawn.eyes}})

    table: dict[str, dict[str, tuple[Score, Score, Score]]] = {}
    for name in methods:
        table[name] = {"all": scores(spotted, name, films)}
        for factor in FACTORS.values():
            levels = dict.fromkeys(factor(one) for one in CONDITIONS[: arguments.films])
            for level in sorted(levels):
                of_level = [kept for kept, one in zip(films, CONDITIONS, strict=False) if factor(one) == level]
                table[name][level] = scores(spotted, name, of_level)
    lines = [
        "# Accuracy on known truth", "",
        f"Films made by `make accuracy`: {len(films)}, of {SECONDS} s, 256 x 256 at 150 fps (`mmme_fast.synth`, seeds "
        f"{arguments.seed} to {arguments.seed + len(films) - 1}, never used to choose a parameter), each with {MICRO} "
        f"micro- and {MACRO} macro-expressions and {BLINKS} blinks: {LENGTHS}, on one side or both, with a slow drift "
        "of brightness. Noise (grey levels), head sway, a hold at the apex (part of the length) and a step of "
        "brightness of 20 % vary in a fractional design. F1 is one-to-one at IoU 0.5, and a "
        "micro-expression does not find a macro-expression.", "", "![F1 by method and condition](accuracy.png)", "",
    ]  # fmt: skip
    for name, by_condition in table.items():
        lines += [f"## {name}", "", HEAD, *(row(level, parts) for level, parts in by_condition.items()), ""]
    if rates:
        lines += ["## Frame rates", "", f"The same conditions, method {main_method}, films of other events.", "", HEAD]
        lines += [row(f"{fps:g} fps", scores(spotted, main_method, keys)) for fps, keys in rates.items()]
    lines += ["", "## What is missed", "", "| | found | of |", "|---|---|---|"]
    lines += [f"| {kind} | {n} | {of} |" for kind, (n, of) in sides(spotted, main_method, films).items()]
    false = {name: sum(len(spotted.known[f"{key} {name}"]) for key, _ in quiet) for name in (main_method, "eyes known")}
    minutes = len(quiet) * SECONDS / 60
    lines += [
        "", "## Without expressions", "",
        f"{len(quiet)} films of the same conditions with {BLINKS} blinks a minute and nothing else: false intervals a "
        f"minute {false[main_method] / minutes:.2f}, with the eyes known from landmarks "
        f"{false['eyes known'] / minutes:.2f}.", "",
    ]  # fmt: skip
    if arguments.real is not None:
        lines += ["## Real films", "", "| film | crop | intervals |", "|---|---|---|"]
        for path in sorted(p for p in arguments.real.iterdir() if p.suffix in (".mp4", ".mpg", ".mov", ".wmv")):
            for crop in ("auto", "full"):
                found = spot(path, crop=crop, method=main_method)
                lines.append(f"| {path.name} | {crop} | {len(found.intervals)} |")
        lines.append("")
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = [line if line.startswith(("|", "#", "!")) else textwrap.fill(line, 120) for line in lines]
    (arguments.out / "accuracy.md").write_text("\n".join(text))
    picture(table, arguments.out / "accuracy.png")
    print("\n".join(text))


if __name__ == "__main__":
    main()
