"""Build the sdist and a wheel with each Python that is here, install each wheel without a compiler, and try it.

python tests/wheels.py [3.10 ...]    # "make wheels"; takes a minute or two for each Python, and the network

In the end the sdist is installed once more where no compiler works, which must give the pure wheel that runs on Numba.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
SDIST = {"CHANGELOG.md", "CMakeLists.txt", "LICENSE", "PKG-INFO", "README.md", "cpp", "pyproject.toml", "python"}


def find(version: str) -> Path | None:
    """A Python of this version: on PATH, in the usual places, or pyenv's."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    places = [shutil.which(f"python{version}"), f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"]
    for place in (*places, *sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python"), reverse=True)):
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        if place and Path(place).exists():
            said = subprocess.run([place, "-c", code], capture_output=True, text=True, check=False).stdout
            if said.strip() == version:
                return Path(place)
    return None


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}")
    return done.stdout


def environment(python: Path, folder: Path) -> Path:
    """A new virtual environment; its Python."""
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def without_compiler(python: Path) -> dict[str, str]:
    return {"PATH": str(python.parent), "CC": "false", "CXX": "false"}


def check_contents(sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert held == SDIST, f"{sdist.name} must hold {sorted(SDIST)}, got {sorted(held)}"
    names = zipfile.ZipFile(wheel).namelist()
    stray = [
        name
        for name in names
        if not name.startswith(("mmme_fast/", "mmme_fast-")) or not name.endswith((".py", ".pyi", ".so", "py.typed"))
    ]
    assert all(".dist-info/" in name for name in stray), stray
    assert any(name.startswith("mmme_fast/_core.") and name.endswith(".so") for name in names), names
    assert any(name.endswith("licenses/LICENSE") for name in names), names


def smoke(native: bool) -> None:
    """What every install can do; run by the Python that has it, with nothing but the package and what it requires."""
    import numpy as np

    import mmme_fast as mf
    from mmme_fast import synth

    assert ("baseline" in mf.backends()) == native, mf.backends()
    prev, curr, known = synth.flow_pair(64, displacement=1.5, seed=1)
    wave = np.sin(2 * np.pi * 10 * np.arange(1000) / 250)[None]
    for backend in mf.backends():
        mf.use_backend(backend)
        for method in (mf.tvl1, mf.farneback, mf.dis):
            error = np.linalg.norm(method(prev, curr) - known, axis=-1).mean()
            assert error < 0.5, f"{method.__name__} on {backend}: {error} px"
        power = mf.band_power(wave, 250, bands={"theta": (4, 8), "alpha": (8, 13)}, aggregate="sum")
        assert abs(power[0, 0, 1] - 0.5) < 1e-4, power
    mf.use_backend(mf.backends()[0])
    film = synth.film(6, fps=30, size=64, seed=1, micro=0, macro=10, blinks=0)
    found = mf.spot(film.frames(), fps=30, crop="full", size=64)
    assert len(found.intervals) == len(film.truth), (found.intervals, film.truth)
    command = Path(sys.executable).with_name("mmme-fast")
    info = json.loads(subprocess.run([command, "info", "--json"], capture_output=True, check=True).stdout)
    assert info["mmme_fast"] == mf.__version__, info
    print(f"{info['python']}: {', '.join(info['backends'])}; numpy {info['numpy']}, numba {info['numba']}")


def main(versions: list[str]) -> None:
    pythons = {version: find(version) for version in versions or VERSIONS}
    for version, python in pythons.items():
        print(f"Python {version}: {python or 'not here'}", flush=True)
    found = {version: python for version, python in pythons.items() if python}
    if not found:
        raise SystemExit("no Python to build with")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for version, python in found.items():
            builder = environment(python, folder / f"build-{version}")
            run(builder, "-m", "pip", "install", "--quiet", "build")
            out = folder / version
            run(builder, "-m", "build", "--outdir", out, ROOT)  # the sdist, and the wheel of the sdist
            (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
            check_contents(sdist, wheel)
            print(
                f"{sdist.name}, {sdist.stat().st_size:,} bytes; {wheel.name}, {wheel.stat().st_size:,} bytes",
                flush=True,
            )
            clean = environment(python, folder / f"run-{version}")
            bare = without_compiler(clean)
            run(clean, "-m", "pip", "install", "--quiet", wheel, **bare)
            print(run(clean, __file__, "--smoke", "native", **bare), end="", flush=True)

        clean = environment(python, folder / "pure")
        bare = without_compiler(clean)
        said = run(clean, "-m", "pip", "install", "--verbose", sdist, **bare)
        assert "so the native kernels were left out" in said, said
        print(run(clean, __file__, "--smoke", "pure", **bare), end="")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--smoke"]:
        smoke(sys.argv[2] == "native")
    else:
        main(sys.argv[1:])
