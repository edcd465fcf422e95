"""The performance page and the README's table, from records of `mmme-fast bench`.

    python benchmarks/speed.py [RECORD.json ...]

joins records that were taken in pieces into docs/bench.json, the last of each measurement counting; without any it
takes docs/bench.json as it is. From that it writes docs/speed.md, docs/speed.png and the table in README.md.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from mmme_fast import bench

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- speed: written by benchmarks/speed.py -->\n", "<!-- speed: end -->\n"
NAMES = {
    "tvl1": "TV-L1", "farneback": "Farneback", "dis": "DIS", "strain": "optical strain", "windows": "sliding windows",
    "band-power": "band power", "decode": "decoding", "spot": "`spot`",
}  # fmt: skip
HEADLINES = [  # of the README: task, what
    ("tvl1", "one pair"), ("tvl1", "film, warm start"), ("farneback", "one pair"), ("farneback", "film"),
    ("dis", "film, medium"), ("strain", ""),
]  # fmt: skip
Row = dict[str, Any]


def joined(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of many from one machine."""
    first = records[0]
    for record in records[1:]:
        for name, ours, theirs in (
            ("versions", first["versions"], record["versions"]),
            ("cpu", first["machine"]["cpu"], record["machine"]["cpu"]),
        ):
            if ours != theirs:
                raise ValueError(f"records must have the same {name}, got {ours} and {theirs}")
    rows = {bench._key(row): row for record in records for row in record["rows"]}
    plan = {
        **first["plan"],
        "threads": sorted({n for record in records for n in record["plan"]["threads"]}),
        "backends": [name for name in first["machine"]["backends"] if any(r["backend"] == name for r in rows.values())],
    }
    order = [*NAMES]
    ordered = sorted(rows.values(), key=lambda row: (order.index(row["task"]), row["threads"], row["size"] or 0))
    loads = [record["machine"]["load"] or 0.0 for record in records]
    found = {**first["machine"], "load": max(loads)}
    return {
        **first,
        "machine": found,
        "plan": plan,
        "complete": all(record["complete"] for record in records),
        "rows": ordered,
    }


def times(row: Row, spread: bool = False) -> str:
    low, middle, high = (bench._figures(value) for value in row["ratio"])
    return f"{middle} ({low}-{high})" if spread else middle


def error(rows: list[Row]) -> str:
    known = [row["error"] for row in rows if row["error"] is not None]
    unit = "px" if "px" in rows[0]["measure"] else "relative" if "relative" in rows[0]["measure"] else ""
    return f"{max(known):.0e} {unit}".strip() if known else ""


def machine(record: dict[str, Any]) -> str:
    found, versions = record["machine"], record["versions"]
    beside = [f"{name} {versions[name]}" for name in ("OpenCV", "scikit-image", "SciPy", "MNE") if name in versions]
    beside.insert(0, f"NumPy {versions['numpy']}")
    return f"{found['cpu']}, {found['cpus']} CPUs, {record['plan']['backends'][0]}; {', '.join(beside)}"


def table(record: dict[str, Any]) -> str:
    """The README's table."""
    rows = bench.ratios(record)
    by_name = {
        (task, what): {row["size"]: row for row in rows
                       if (row["task"], row["what"]) == (task, what) and row["peer"] != "scikit-image"}
        for task, what in HEADLINES
    }  # fmt: skip
    known = [size for chosen in by_name.values() for size in chosen]
    sizes = sorted(size for size in set(known) if known.count(size) > 1)  # not a column for one of them
    lines = [
        f"| times faster, one thread | beside | {' | '.join(f'{s} x {s}' for s in sizes)} | error at most |",
        f"|---|---|{'---|' * len(sizes)}---|",
    ]
    for (task, what), chosen in by_name.items():
        shown = [chosen[size] for size in sizes if size in chosen]
        if shown:
            name = ", ".join(part for part in (NAMES[task], what) if part)
            cells = " | ".join(times(chosen[size]) if size in chosen else "" for size in sizes)
            lines.append(f"| {name} | {shown[0]['peer']} | {cells} | {error(shown)} |")
    lines += [
        "",
        "| band power, one thread | times SciPy | times MNE | error at most |",
        "|---|---|---|---|",
    ]
    for what in dict.fromkeys(row["what"] for row in rows if row["task"] == "band-power"):
        by = {row["peer"]: row for row in rows if row["task"] == "band-power" and row["what"] == what}
        cells = [times(by[peer]) if peer in by else "" for peer in ("SciPy", "MNE")]
        lines.append(f"| {what} | {' | '.join(cells)} | {error([*by.values()])} |")
    films = [
        row for row in record["rows"]
        if row["task"] == "spot" and row["what"].startswith("matched") and row["peer"] == bench.YARDSTICK
        and row["backend"] == record["plan"]["backends"][0] and row["size"] == 256
    ]  # fmt: skip
    text = f"{machine(record)}."
    if not bench.idle(record):
        text += f" The machine was busy (load {record['machine']['load']:g}), so that ratios scatter."
    elif films:
        best = max(films, key=lambda row: row["per_second"])
        text += (
            f" `spot` on film of 256 x 256 at {record['plan']['fps']:g} fps, {bench._threads(best['threads'])}, with "
            f"decoding: {bench._figures(best['per_second'])} frames/s, {bench._figures(best['real_time'])} x real time."
        )
    lines += ["", textwrap.fill(text, 120)]
    return "\n".join(lines) + "\n"


def document(record: dict[str, Any]) -> str:
    """docs/speed.md."""
    begin = (
        "Written by `benchmarks/speed.py` from [bench.json](bench.json), a record of `mmme-fast bench`, which measures "
        "the same on your machine. [performance.md](performance.md) says where the time goes and what was tried."
    )
    busy = f"busy, with a load of up to {record['machine']['load']:g}: times are too long and ratios scatter"
    how = (
        f"{machine(record)}; {'idle' if bench.idle(record) else busy}. {record['date']}, "
        f"{record['plan']['seconds']:g} s or three turns for each measurement. All sides of a measurement take turns, "
        "on equal threads, and a ratio is taken within a turn. Medians, with quartiles in brackets. The error is that "
        "between the two answers: the mean end-point error of flow in pixels, the largest error of anything else, "
        "relative for band power; of `spot`, 1 - F1 to the known truth of the drawn film. The TV-L1 of scikit-image is "
        "another algorithm than OpenCV's and ours. More threads stand beside one thread of the same backend, and give "
        "the same bits. Films are decoded ahead in a thread that is not counted."
    )
    lines = [
        "# Speed, measured", "", textwrap.fill(begin, 120), "", textwrap.fill(how, 120), "",
        "![Times faster than the library beside, on one thread; speed by film, frame size and threads](speed.png)",
    ]  # fmt: skip
    for task, name in NAMES.items():
        rows = [row for row in record["rows"] if row["task"] == task]
        if not rows:
            continue
        lines += [
            "",
            f"## {name[0].upper()}{name[1:]}",
            "",
            "| | threads | backend | speed | beside | times faster | error |",
        ]
        lines.append("|---|---|---|---|---|---|---|")
        for row in rows:
            what = ", ".join(part for part in (row["what"], row["size"] and f"{row['size']} x {row['size']}") if part)
            beside = ["", ""] if row["peer"] == bench.YARDSTICK else [row["peer"], times(row, spread=True)]
            off = "" if row["error"] is None or row["peer"] == bench.ONE else f"{row['error']:.0e}"
            cells = [what, str(row["threads"]), row["backend"], bench.rate(row), *beside, off]
            lines.append(f"| {' | '.join(cells)} |")
    if record["left_out"]:
        lines += ["", "## Left out", "", *(f"- {line}" for line in record["left_out"])]
    return "\n".join(lines) + "\n"


def picture(record: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, plots = bench.ratios(record), bench.scaling(record)
    labels = list(dict.fromkeys(bench._title(row["task"], row["what"], row["size"], 0) for row in rows))
    parts = [0.22 * len(labels) + 1]
    if plots:  # with a legend below each
        parts.append(3.8 + 0.15 * max(map(len, plots.values())))
    whole = pyplot.figure(figsize=(11, sum(parts)), layout="constrained")
    figures = whole.subfigures(len(parts), 1, height_ratios=parts, squeeze=False)[:, 0]
    axis = figures[0].subplots()
    for i, peer in enumerate(dict.fromkeys(row["peer"] for row in rows)):
        of_peer = [row for row in rows if row["peer"] == peer]
        y = [labels.index(bench._title(row["task"], row["what"], row["size"], 0)) for row in of_peer]
        middle = [row["ratio"][1] for row in of_peer]
        spread = [[m - row["ratio"][0] for m, row in zip(middle, of_peer, strict=True)],
                  [row["ratio"][2] - m for m, row in zip(middle, of_peer, strict=True)]]  # fmt: skip
        axis.errorbar(middle, y, xerr=spread, fmt="os^Dv"[i % 5], color=f"C{i}", label=peer, markersize=5)
    axis.set(xscale="log", yticks=range(len(labels)), xlabel="times faster, one thread")
    axis.set_yticklabels(labels)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(1, color="#888", linestyle="--", linewidth=1)
    axis.invert_yaxis()
    axis.grid(color="#ddd")
    axis.legend(loc="center right")
    for column, (name, lines) in enumerate(plots.items()):
        axis = figures[1].add_subplot(1, len(plots), column + 1)
        for label, points in lines.items():
            axis.plot(*zip(*points, strict=True), "o-", label=label, markersize=4)
        across, up = bench.PLOTS[name]
        axis.set(title=name, xlabel=across, ylabel=up, xticks=sorted({x for p in lines.values() for x, _ in p}))
        axis.set_ylim(0, 1.1 * max(y for points in lines.values() for _, y in points))
        axis.grid(color="#ddd")
        axis.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    whole.savefig(path, dpi=110, metadata={"Software": None})


def with_table(readme: str, record: dict[str, Any]) -> str:
    """The README with its table as the record has it."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table(record)}{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="*", type=Path, metavar="RECORD.json")
    records = parser.parse_args().records
    kept = ROOT / "docs" / "bench.json"
    if records:
        bench.save(joined([bench.load(path) for path in records]), kept)
    record = bench.load(kept)
    (ROOT / "docs" / "speed.md").write_text(document(record))
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), record))
    picture(record, ROOT / "docs" / "speed.png")


if __name__ == "__main__":
    main()
