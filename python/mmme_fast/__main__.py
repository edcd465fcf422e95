"""Run a Python script whose calls of cv2's dense flow go to mmme_fast."""

from __future__ import annotations

import argparse
import atexit
import io
import os
import pkgutil
import runpy
import sys
import types
from importlib.util import module_from_spec
from typing import Any

from mmme_fast.patch import patch_cv2, unpatch_cv2


def main() -> None:
    """Patch cv2, then run the script or module as the interpreter itself would."""
    parser = argparse.ArgumentParser(
        prog="python -m mmme_fast",
        usage="%(prog)s [--dis] [-m] SCRIPT [ARGUMENT ...]",
        description="Run a Python script whose calls of OpenCV's dense optical flow (DualTVL1, Farneback) run on the "
        "kernels of mmme_fast. With MMME_FAST_VERBOSE=1 it says which calls do, and why others do not.",
        allow_abbrev=False,
    )
    parser.add_argument("--dis", action="store_true", help="DISOpticalFlow too, whose bits differ a little more")
    parser.add_argument("-m", action="store_true", dest="module", help="SCRIPT names a module, as with python -m")
    parser.add_argument("script", metavar="SCRIPT", help="a .py file, a folder or .zip with __main__.py, or a module")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="arguments of the script")
    given = parser.parse_args()
    try:
        patch_cv2(dis=given.dis)
    except ImportError as error:
        sys.exit(f"mmme_fast: error: {error}")
    atexit.register(unpatch_cv2)  # which says how many calls ran where

    script = given.script
    sys.argv = [script, *given.arguments]
    if given.module:
        runpy.run_module(script, run_name="__main__", alter_sys=True)
        return
    # As the interpreter has it: sys.argv[0] as given, all other paths absolute.
    path = os.path.abspath(script)
    importer = pkgutil.get_importer(path)
    if importer is None:
        sees = os.path.dirname(os.path.realpath(script))
        try:
            with io.open_code(path) as file:
                code = compile(file.read(), path, "exec")
        except OSError as error:
            print(f"mmme_fast: can't open file {path!r}: {error}", file=sys.stderr)
            sys.exit(2)
        module = types.ModuleType("__main__")
        module.__file__ = path
    else:  # a folder or an archive
        sees = path
        spec: Any = importer.find_spec("__main__", None)
        if spec is None:
            sys.exit(f"mmme_fast: can't find '__main__' module in {path!r}")
        code = spec.loader.get_code("__main__")
        module = module_from_spec(spec)
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = sees  # in place of the current folder
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


if __name__ == "__main__":
    main()
