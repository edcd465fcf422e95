"""Coverage-guided fuzzing of the array boundary and of frames.py, by Atheris (libFuzzer).

    python tests/fuzz.py arrays|twins|frames [libFuzzer options] [folder of finds]

What a call may do is to return an answer, finite where all that it was given is, or to raise TypeError, ValueError or
OSError with a message; as a twin, to do the same on every backend. `make fuzz` builds the kernels with the sanitizers
and runs arrays and frames for ten minutes each, from seeds that it makes and from what earlier runs found to reach
further (tests/corpus; `-set_cover_merge=1 NEW_FOLDER FOLDER` reduces a folder of finds to what counts).
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import atheris
except ImportError:  # tests/test_twins.py goes by Hypothesis
    atheris = None

with atheris.instrument_imports(include=["mmme_fast"], enable_loader_override=False) if atheris else nullcontext():
    import mmme_fast
    from mmme_fast import methods
    from mmme_fast.flow import dis, farneback, tvl1
    from mmme_fast.frames import open_frames
    from mmme_fast.motion import global_motion
    from mmme_fast.spotting import block_means, sliding_window
    from mmme_fast.strain import optical_strain

DTYPES = ("u1", "u2", "f4", "f8", "f2", "i4", "i8", ">f4", "?", "c8", "O", "U1", "M8[s]")
SIDES = (0, 1, 2, 3, 7, 8, 9, 16, 17, 33, 40, 64)
MOST = 2**63 - 1


class Given:
    """What the call at hand was given."""

    finite = True
    frames = False


def array(data: atheris.FuzzedDataProvider, ndim: int) -> NDArray[Any]:
    """Mostly of the dimensions that are asked for, of any dtype and layout; repeats its few random bytes."""
    if data.ConsumeProbability() < 0.1:
        ndim = data.ConsumeIntInRange(0, 5)
    shape = tuple(SIDES[data.ConsumeIntInRange(0, len(SIDES) - 1)] for _ in range(ndim))
    while np.prod(shape, dtype=float) > 20_000:
        shape = tuple(side // 2 for side in shape)
    dtype = DTYPES[data.ConsumeIntInRange(0, len(DTYPES) - 1) if data.ConsumeBool() else data.ConsumeIntInRange(0, 3)]
    seed = np.frombuffer(data.ConsumeBytes(data.ConsumeIntInRange(1, 64)) or b"\0", np.uint8)
    values = np.resize(seed, shape)
    if dtype in ("f4", "f8", "f2", ">f4"):
        values = values / 255
        if data.ConsumeProbability() < 0.2 and values.size:
            value = (np.nan, np.inf, -np.inf, 1e30, -1e-40)[data.ConsumeIntInRange(0, 4)]
            values.reshape(-1)[data.ConsumeIntInRange(0, values.size - 1)] = value
            Given.finite = False
    with np.errstate(over="ignore"):
        made: NDArray[Any] = values.astype(dtype)
    kind = data.ConsumeIntInRange(0, 5)
    if kind == 1 and made.ndim:
        made = made[::-1]
    elif kind == 2 and made.ndim:
        made = np.repeat(made, 2, axis=-1)[..., ::2]
    elif kind == 3:
        made = np.asfortranarray(made)
    elif kind == 4 and made.ndim > 1:
        made = np.broadcast_to(made[:1], made.shape)
    elif kind == 5:
        made = (
            np.frombuffer(b"\0" + made.tobytes(), np.uint8)[1:].view(made.dtype).reshape(made.shape)
            if (made.size and made.dtype != object)
            else made
        )
    return made


def whole(data: atheris.FuzzedDataProvider) -> Any:
    kind = data.ConsumeIntInRange(0, 9)
    if kind < 8:
        return data.ConsumeIntInRange(-1, 40)
    return (MOST, -MOST, 2**31, 1.5, None, "1", np.int64(3))[data.ConsumeIntInRange(0, 6)]


def real(data: atheris.FuzzedDataProvider) -> Any:
    kind = data.ConsumeIntInRange(0, 9)
    if kind < 7:
        return data.ConsumeFloatInRange(0, 2)
    return (
        data.ConsumeRegularFloat()
        if kind == 7
        else (float("nan"), 1e300, -1.0, None, "x")[data.ConsumeIntInRange(0, 4)]
    )


def some(data: atheris.FuzzedDataProvider, **makers: Callable[[atheris.FuzzedDataProvider], Any]) -> dict[str, Any]:
    return {name: make(data) for name, make in makers.items() if data.ConsumeProbability() < 0.3}


def one_of(*names: str) -> Callable[[atheris.FuzzedDataProvider], str]:
    return lambda data: (*names, "?")[data.ConsumeIntInRange(0, len(names))]


def call(data: atheris.FuzzedDataProvider) -> Any:
    threads = {"threads": data.ConsumeIntInRange(1, 2)}
    frames = 2 + data.ConsumeBool()
    function = data.ConsumeIntInRange(0, 10)
    Given.frames = function <= 2
    match function:
        case 0:
            # Few iterations, so that fuzzing sees many calls.
            few = {"warps": 1, "outer_iterations": 2, "inner_iterations": 3}
            options = some(
                data, tau=real, lambda_=real, theta=real, scales=whole, epsilon=real, scale_step=real, median=whole,
                warm_start=whole, initial_flow=lambda d: array(d, 3),
            )  # fmt: skip
            return tvl1(array(data, frames), array(data, frames), **few, **options, **threads)
        case 1:
            options = some(
                data, pyr_scale=real, levels=whole, window=whole, iterations=lambda d: d.ConsumeIntInRange(-1, 3),
                poly_n=whole, poly_sigma=real, gaussian=lambda d: d.ConsumeBool(), initial_flow=lambda d: array(d, 3),
            )  # fmt: skip
            return farneback(array(data, frames), array(data, frames), **options, **threads)
        case 2:
            options = some(data, preset=one_of("ultrafast", "fast", "medium"), initial_flow=lambda d: array(d, 3))
            return dis(array(data, frames), array(data, frames), **options, **threads)
        case 3:
            options = some(
                data, stencil=one_of("central", "forward"), convention=one_of("xy", "mmme"),
                components=lambda d: d.ConsumeBool(),
            )  # fmt: skip
            return optical_strain(array(data, 3), **options)
        case 4:
            statistic = one_of("mean", "sum", "max", "min", "range", "threshold")(data)
            return sliding_window(array(data, 2), whole(data), statistic, **some(data, p=real), **threads)
        case 5:
            return block_means(array(data, 3), whole(data), whole(data), **threads)
        case 6:
            return methods.lbp_histograms(array(data, 2), **some(data, rows=whole, columns=whole), **threads)
        case 7:
            return methods.feature_difference(array(data, 4), whole(data), **threads)
        case 8:
            quadrant = one_of("atan2", "atan")
            options = some(data, rows=whole, columns=whole, quadrant=quadrant)
            return methods.directional_difference(array(data, 4), array(data, 4), **options, **threads)
        case 9:
            return global_motion(array(data, 3), **some(data, model=one_of("translation", "similarity", "affine")))
        case _:
            options = some(
                data, window=real, hop=real, at=lambda d: array(d, 1), nfft=whole, subwindow=real, overlap=real,
                taper=one_of("hann", "hamming", "boxcar"), detrend=one_of("constant", "linear", "none"),
                scaling=one_of("density", "spectrum"), aggregate=one_of("mean", "sum", "simpson", "trapezoid"),
            )  # fmt: skip
            bands = {"b": (data.ConsumeFloatInRange(-1, 30), data.ConsumeFloatInRange(0, 60))}
            sfreq = data.ConsumeIntInRange(1, 200) if data.ConsumeBool() else real(data)
            return mmme_fast.band_power(array(data, 2), sfreq, bands=bands, **options, **threads)


def check(holds: object, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)


def arrays(raw: bytes) -> None:
    Given.finite = True
    try:
        result = call(atheris.FuzzedDataProvider(raw))
    except (TypeError, ValueError, OSError) as error:
        check(str(error), "an error must say something")
        return
    for each in result if isinstance(result, tuple) else (result,):
        if Given.finite and isinstance(each, np.ndarray) and each.dtype.kind == "f":
            check(np.isfinite(each).all(), "a result must be finite")


def twins(raw: bytes) -> None:
    compared(lambda: atheris.FuzzedDataProvider(raw))


def compared(data: Callable[[], Any]) -> None:
    """The same call, from the same data, on every backend gives the same answer or the same error."""
    seen = []
    for name in mmme_fast.backends():
        mmme_fast.use_backend(name)
        Given.finite = True
        try:
            result = call(data())
        except (TypeError, ValueError, OSError) as error:
            seen.append(("error", str(error)))
        else:
            seen.append(("answer", result))
    first = seen[0]
    for kind, answer in seen[1:]:
        check(kind == first[0], f"one backend answers, another does not: {first[1]}, {answer}")
        if kind == "error":
            check(answer == first[1], f"errors must be the same: {first[1]}, {answer}")
        elif Given.finite:
            one, other = np.asarray(first[1], float), np.asarray(answer, float)
            # The median, and more of it for flow, which jumps where two displacements serve as well.
            gap, scale = (np.median(np.abs(each)) if each.size else 0.0 for each in (one - other, one))
            check(gap <= (0.03 if Given.frames else 1e-3) * (1 + scale), f"twins differ by {gap}")


SUFFIXES = (".avi", ".npy", ".tif", ".png", ".mp4", ".jpg", ".bmp", ".mkv")
FOLDER = tempfile.TemporaryDirectory()


def frames(raw: bytes) -> None:
    """The first byte chooses what the others are called; a still is one of two in a folder."""
    suffix = SUFFIXES[raw[0] % len(SUFFIXES)] if raw else SUFFIXES[0]
    still = suffix in (".png", ".jpg", ".bmp")
    folder = Path(FOLDER.name) / suffix[1:]
    folder.mkdir(exist_ok=True)
    for name in ("0", "1") if still else ("0",):
        (folder / (name + suffix)).write_bytes(raw[1:])
    try:
        for chunk in open_frames(folder if still else folder / f"0{suffix}", size=16).chunks(4):
            check(chunk.ndim == 3, "a chunk must be (frame, y, x)")
    except (TypeError, ValueError, OSError) as error:
        check(str(error), "an error must say something")


def seeds(target: str, folder: Path) -> None:
    """Inputs that reach far, made here rather than kept."""
    rng = np.random.default_rng(0)
    if target != "frames":
        for i in range(64):
            (folder / f"seed{i}").write_bytes(rng.integers(0, 256, 400).astype(np.uint8).tobytes())
        return
    import io

    import av

    pictures = rng.integers(0, 256, (3, 16, 24)).astype(np.uint8)
    codecs = {
        ".avi": "rawvideo",
        ".mp4": "mpeg4",
        ".mkv": "ffv1",
        ".png": "png",
        ".jpg": "mjpeg",
        ".bmp": "bmp",
        ".tif": "tiff",
    }
    for number, suffix in enumerate(SUFFIXES):
        if suffix == ".npy":
            file = io.BytesIO()
            np.save(file, pictures)
            content = file.getvalue()
        else:
            path = folder / ("made" + suffix)
            codec = codecs[suffix]
            layout = {"png": "gray", "bmp": "gray", "tiff": "gray", "rawvideo": "gray", "mjpeg": "yuvj420p"}.get(
                codec, "yuv420p"
            )
            still = suffix in (".png", ".jpg", ".bmp", ".tif")
            with av.open(
                str(path), "w", format="image2" if still else None, options={"update": "1"} if still else {}
            ) as film:
                stream = film.add_stream(codec, rate=25)
                stream.height, stream.width, stream.pix_fmt = 16, 24, layout
                for picture in pictures[: 1 if still else None]:
                    film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray").reformat(format=layout)))
                film.mux(stream.encode(None))
            content = path.read_bytes()
            path.unlink()
        (folder / f"seed{suffix}").write_bytes(bytes([number]) + content)


TARGETS = {"arrays": arrays, "twins": twins, "frames": frames}


def main(arguments: Sequence[str]) -> None:
    if len(arguments) < 2 or arguments[1] not in TARGETS:
        sys.exit(__doc__)
    target = arguments[1]
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("AV_LOG_FORCE_NOCOLOR", "1")
    given = Path(FOLDER.name) / "seeds"
    given.mkdir()
    seeds(target, given)
    corpus = Path(__file__).parent / "corpus" / target
    kept = [str(corpus)] if corpus.is_dir() else []
    program = shlex.join([sys.executable, arguments[0], target])  # which -merge=1 starts again
    atheris.Setup([program, *arguments[2:], str(given), *kept], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
