"""How Sphinx builds these pages (make docs). Warnings are errors, and so are references to nothing.

The theme is Furo: one Python package without a front-end toolchain, legible on a telephone, in the dark and without
JavaScript.
"""

from __future__ import annotations

import importlib
import inspect
from itertools import chain
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import mmme_fast

project = "mmme_fast"
author = copyright = "the mmme_fast developers"
version = release = mmme_fast.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
myst_heading_anchors = 3
templates_path = ["_templates"]
nitpicky = True
highlight_language = "none"  # of blocks that name no language
default_role = "obj"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["page.css"]
html_title = f"mmme_fast {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

autodoc_typehints = "none"  # the docstrings say more: shapes and units
autosummary_generate = True
numpydoc_show_class_members = False  # a page of a class has them once, by autodoc
numpydoc_validation_checks = {
    "GL01", "GL03", "GL05", "GL06", "GL07", "GL09", "GL10", "SS03", "SS06",
    "PR01", "PR02", "PR05", "PR06", "PR10", "YD01", "EX01",
}  # fmt: skip
numpydoc_validation_exclude = {r"\.[A-Z]"}  # classes describe their attributes, methods are short

# Headings of the API in their order, and the modules whose public names stand under each.
SECTIONS = {
    "Frames": ["frames"],
    "Flow, strain, head motion": ["flow", "strain", "motion"],
    "Spotting": ["pipeline", "many", "results", "spotting"],
    "Published methods": ["methods"],
    "Scoring": ["metrics"],
    "EEG and peripheral signals": ["eeg", "clips", "alignment", "peripherals"],
    "In place of OpenCV": ["patch"],
    "Backends and threads": ["_backend"],
    "Synthetic films and recordings": ["synth"],
}
# Public beside the package's `__all__`: that of these modules, and single names of others.
MODULES = ("methods", "metrics", "synth")
NAMES = (
    "spotting.Matched", "spotting.block_means", "motion.global_motion", "eeg.BandPowerStream", "clips.clip_band_power",
)  # fmt: skip
API = Path(__file__).parent / "api"


def public() -> dict[str, list[str]]:
    """The public names by heading; a module that SECTIONS does not know has a heading of its own."""
    headings = {module: heading for heading, modules in SECTIONS.items() for module in modules}
    found: dict[str, list[str]] = {heading: [] for heading in SECTIONS}

    def add(path: str) -> None:
        module, _, name = path.rpartition(".")
        home = getattr(importlib.import_module(module), name).__module__.partition(".")[2]
        found.setdefault(headings.get(home, home.capitalize()), []).append(path)

    for name in mmme_fast.__all__:
        if not inspect.ismodule(getattr(mmme_fast, name)):
            add(f"mmme_fast.{name}")
    for name in NAMES:
        add(f"mmme_fast.{name}")
    for each in MODULES:
        module = importlib.import_module(f"mmme_fast.{each}")
        for name in module.__all__:
            if callable(getattr(module, name)):
                add(f"{module.__name__}.{name}")
    return found


def write_api() -> None:
    """Write the page of all public names; autosummary then makes a page of each."""
    API.mkdir(exist_ok=True)
    lines = ["API", "===", ""]
    lines += ["Examples take ``import numpy as np`` and ``import mmme_fast as mf`` as done.", ""]
    for heading, names in public().items():
        if not names:
            continue
        lines += [heading, "-" * len(heading), "", ".. autosummary::", "   :toctree: .", ""]
        lines += [f"   {name}" for name in names] + [""]
    for stub in API.glob("*.rst"):  # of names that are gone
        if stub.stem not in {"index", *chain(*public().values())}:
            stub.unlink()
    text = "\n".join(lines)
    page = API / "index.rst"
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Names in single backquotes are links where they are public, and code where they are not."""
    if node.get("reftype") != "obj" or node.get("refexplicit"):
        return None
    name = node["reftarget"].split("(")[0]
    known = env.get_domain("py").objects  # type: ignore[attr-defined]
    inside = (f"mmme_fast.{module}.{name}" for module in (*MODULES, "spotting", "motion", "eeg", "clips"))
    for full in (f"mmme_fast.{name}", *inside):
        if full in known:
            return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, content)
    return nodes.literal("", node.astext())


def setup(app: Sphinx) -> None:
    write_api()
    app.connect("missing-reference", resolve)
