"""What the documentation says holds: its examples run and its commands parse."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import mmme_fast
from mmme_fast import cli, synth

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = ["mmme_fast", *(f"mmme_fast.{one.name}" for one in pkgutil.iter_modules(mmme_fast.__path__))]
NEEDS = {"alignment": "mne", "peripherals": "neurokit2", "eeg-with-film": "mne"}

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the documentation is not in the sdist")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    film = synth.film(12, fps=30, size=128, seed=1, micro=10, macro=5)
    film.write(folder / "film.avi")
    film.write_truth(folder / "truth.csv")
    synth.recording(20, sfreq=250, channels=4, seed=1, clip=4, gap=1).write(folder / "recording.vhdr")
    return folder


def run(examples: list[doctest.Example], where: str) -> None:
    test = doctest.DocTest(examples, {"np": np, "mf": mmme_fast}, where, where, 0, None)
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    assert not runner.run(test, out=said.write).failed, said.getvalue()


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("_core", "_numba", "__main__"))])
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if needed := NEEDS.get(name.rpartition(".")[2]):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    for test in doctest.DocTestFinder().find(importlib.import_module(name), name):
        if test.examples:
            run(test.examples, test.name)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language: line and text of each."""
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, one.start(1)), one[1]) for one in found]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_pages_examples_run(page: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks with prompts are held to what they print; the others need only run. A page's blocks share their names."""
    if needed := NEEDS.get(page.stem):
        pytest.importorskip(needed)
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    examples = []
    for line, text in blocks(page, "python"):
        if ">>>" in text:
            found = doctest.DocTestParser().get_examples(text)
        else:
            # As a doctest takes one statement at a time, the block is one: what it prints is not held to anything.
            found = [doctest.Example(f"exec(compile({text!r}, {str(page)!r}, 'exec'), globals())\n", "...\n")]
        for one in found:
            one.lineno += line
        examples += found
    run(examples, str(page))


COMMANDS = [
    (page.stem, line)
    for page in PAGES
    for _, text in blocks(page, "sh")
    for line in text.splitlines()
    if line.startswith("mmme-fast ")
]


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[page for page, _ in COMMANDS])
def test_pages_commands_parse(page: str, line: str) -> None:
    cli._parser().parse_args(shlex.split(line, comments=True)[1:])
