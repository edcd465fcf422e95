"""What was built, without a clock: hot loops are vector instructions, no instruction set lends its code to another, and
the kernels give their recorded results without Python, here and on another architecture. And what installing it brings:
no extra a second cv2."""

from __future__ import annotations

import filecmp
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mmme_fast
from mmme_fast import _backend

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "cpp" / "kernels"
NATIVE = [name for name in mmme_fast.backends() if name != "numba"]
X86 = platform.machine() in ("x86_64", "AMD64")
BUILT = ["avx512", "avx2", "baseline"] if X86 else ["baseline"]  # whether this CPU runs them or not
COMPILER = os.environ.get("CXX", "c++").split()

# Lines that compute on vector types, beside the loops that MMME_IVDEP and MMME_LANES mark.
EXPLICIT_VECTORS = {
    "band_power.cpp": [
        "sums[r][v] += x * load(", "sums[w][v] += table[w] * of[",
    ]
}  # fmt: skip


def need(*tools: str) -> list[str]:
    """Find the tools, or skip the test."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = [shutil.which(tool, path=path) for tool in tools]
    if None in found:
        pytest.skip(f"no {tools[found.index(None)]} here")
    return [tool for tool in found if tool]


def output(*command: str | Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}:\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def objects() -> dict[str, list[Path]]:
    """The kernels' objects of every instruction set, from which the installed extension was linked."""
    if not NATIVE:
        pytest.skip("the native kernels were not built")
    if not sys.platform.startswith("linux"):
        pytest.skip("objects are read in the ELF format only")
    extension = Path(_backend._core.__file__)
    for folder in (ROOT / "build").glob("*"):
        linked = folder / extension.name
        if linked.is_file() and filecmp.cmp(linked, extension, shallow=False):
            if re.search(r"MMME_SANITIZE:\w+=(ON|thread)", (folder / "CMakeCache.txt").read_text()):
                pytest.skip("the sanitizers add code of their own")
            built = sorted((folder / "CMakeFiles").glob("kernels_*.dir"))
            return {each.stem.removeprefix("kernels_"): sorted(each.rglob("*.o")) for each in built}
    pytest.skip("no folder in build/ holds the objects of the extension that is installed")


@pytest.mark.parametrize("isa", BUILT)
def test_no_name_leaves_an_instruction_set(objects: dict[str, list[Path]], isa: str) -> None:
    """A weak function compiled for AVX could be picked by the linker for every CPU."""
    (nm,) = need("nm")
    assert objects[isa]
    for file in objects[isa]:
        for line in output(nm, "-C", "--defined-only", file).splitlines():
            _, kind, name = line.split(None, 2)
            local = kind.islower() and kind not in "uvw"
            assert local or (kind in "TRDB" and name.startswith(f"mmme::{isa}::")), f"{file.name}: {line}"


def marked_lines(source: Path) -> Iterator[range]:
    """Lines of each loop that must be vector instructions."""
    text = source.read_text()

    def end(at: int, opening: str, closing: str) -> int:
        """Where the bracket that opens next is closed."""
        depth = 0
        for i in range(text.index(opening, at), len(text)):
            depth += (text[i] == opening) - (text[i] == closing)
            if depth == 0:
                return i
        raise AssertionError(f"{source.name} has an open {opening}")

    def line(at: int) -> int:
        return text.count("\n", 0, at) + 1

    for mark in re.finditer(r"^[^#\n/]*MMME_(IVDEP|LANES)\b", text, re.MULTILINE):
        head = end(mark.end(), "(", ")")
        braced = text[head + 1 :].lstrip().startswith("{")
        last = end(head, "{", "}") if braced else text.index(";", head)
        yield range(line(mark.end()), line(last) + 1)
    for fragment in EXPLICIT_VECTORS.get(source.name, []):
        yield range(line(text.index(fragment)), line(text.index(fragment)) + 1)


# What only a vectorised loop does with a register of each instruction set's full width.
VECTOR = {
    "avx512": re.compile(r"%zmm"),
    "avx2": re.compile(r"%ymm"),
    "baseline": re.compile(
        r"^((add|sub|mul|div|sqrt|min|max|round|cmp\w*)p[sd]|cvtdq2p[sd]|cvttp[sd]2dq|blendvps|p(add|sub|cmp|min|max)\w+"
        r"|mov[au]p[sd] .*\((?!%rsp))"
    ),
}


def scalar_loops(objdump: str, file: Path, isa: str) -> list[str]:
    """Marked loops that some function of the object runs without full vectors.

    What was inlined into one function counts as one: MMME_NOINLINE makes an instance of a template seen on its own.
    """
    marked = {source.name: list(marked_lines(source)) for source in KERNELS.glob("*.[ch]pp")}
    vector: dict[tuple[str, int, str], bool] = defaultdict(bool)
    function, here = "", []
    for line in output(objdump, "-d", "-l", "-C", "--no-show-raw-insn", "-M", "att", file).splitlines():
        if symbol := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = symbol[1].replace("(anonymous namespace)::", "")
        elif place := re.match(r"(/.*):(\d+)( \(discriminator \d+\))?$", line):
            name, number = Path(place[1]).name, int(place[2])
            here = [(name, lines.start, function) for lines in marked.get(name, ()) if number in lines]
        elif instruction := re.match(r"\s+[0-9a-f]+:\t(.*)", line):
            for key in here:
                vector[key] |= bool(VECTOR[isa].search(instruction[1]))
    assert vector or not any(marked[file.name.removesuffix(".o")]), f"{file.name} has no line table"
    return [f"{name}:{number} in {function}" for (name, number, function), found in vector.items() if not found]


@pytest.mark.parametrize("isa", BUILT)
def test_hot_loops_are_vector_instructions(objects: dict[str, list[Path]], isa: str) -> None:
    if not X86:
        pytest.skip("only the instructions of x86-64 are known")
    (objdump,) = need("objdump")
    for file in objects[isa]:
        if file.stat().st_mtime < (KERNELS / file.name.removesuffix(".o")).stat().st_mtime:
            pytest.skip(f"{file.name} is older than its source")
    assert not [f"{isa} {loop}" for file in objects[isa] for loop in scalar_loops(objdump, file, isa)]


def test_selfcheck_passes_on_every_instruction_set(objects: dict[str, list[Path]], tmp_path: Path) -> None:
    need(COMPILER[0])
    program = tmp_path / "selfcheck"
    sources = [ROOT / "cpp" / "selfcheck.cpp", ROOT / "cpp" / "dispatch.cpp"]
    have = [f"-DMMME_HAVE_{isa}" for isa in objects]
    linked = [file for files in objects.values() for file in files]
    output(*COMPILER, "-std=c++20", "-Wall", "-Wextra", "-Werror", *have, *sources, *linked, "-o", program)
    printed = output(program, ROOT / "cpp" / "selfcheck.txt")
    assert {line.split()[1] for line in printed.splitlines()} == set(NATIVE)


@pytest.mark.timeout(1800)
def test_selfcheck_passes_on_aarch64(tmp_path: Path) -> None:
    cmake, compiler, emulator = need("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64")
    output(
        cmake, "-S", ROOT, "-B", tmp_path, "-DMMME_SELFCHECK=ON", "-DMMME_WERROR=ON", "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={compiler}",
    )  # fmt: skip
    output(cmake, "--build", tmp_path, "--parallel", "2")
    output(emulator, "-L", "/usr/aarch64-linux-gnu", tmp_path / "selfcheck", ROOT / "cpp" / "selfcheck.txt")


def brought(package: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Names of all that a package with these extras requires, as far as it is installed here."""
    if (package, extras) in seen:
        return set()
    seen.add((package, extras))
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return {package}
    names = {package}
    for one in map(Requirement, lines):
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            names |= brought(one.name.lower().replace("_", "-"), frozenset(one.extras), seen)
    return names


@pytest.mark.parametrize("extra", ["", *(metadata.metadata("mmme_fast").get_all("Provides-Extra") or [])])
def test_no_extra_brings_a_second_cv2(extra: str) -> None:
    """The wheels of cv2 overwrite each other: which one there is, if any, is for the user to say."""
    wheels = {name for name in brought("mmme-fast", frozenset([extra]), set()) if name.startswith("opencv")}
    assert wheels == ({"opencv-contrib-python-headless"} if extra in ("opencv", "test") else set())
