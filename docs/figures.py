"""The figures of match-your-numbers.md, from synthetic data: each convention beside the published code's own result.

python docs/figures.py    # needs the extra "test"; the largest differences go to the standard output
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from scipy import integrate, signal

import mmme_fast as mf
from mmme_fast import synth

matplotlib.use("Agg")
from matplotlib import pyplot

FOLDER = Path(__file__).parent
SFREQ = 1000.0
BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 47)}


def strain() -> None:
    """A head that turns by two degrees while its left brow rises by 1.5 pixels."""
    y, x = np.mgrid[:128, :128].astype(np.float32)
    turn = np.radians(2) * np.stack([63.5 - y, x - 63.5], axis=-1)
    brow = np.exp(-(((x - 42) / 14) ** 2) - ((y - 42) / 8) ** 2)
    flow = turn - 1.5 * brow[..., None] * np.array([0, 1])

    def notebook(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        ux, uy = np.gradient(u)  # NumPy gives the derivative along y first
        vx, vy = np.gradient(v)
        exy = (uy + vx) / 2
        return np.asarray(np.sqrt(ux**2 + vy**2 + 2 * exy**2))

    def softnet(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        ux, uy = u - np.pad(u, ((0, 0), (0, 1)), "edge")[:, 1:], u - np.pad(u, ((0, 1), (0, 0)), "edge")[1:]
        vx, vy = v - np.pad(v, ((0, 0), (0, 1)), "edge")[:, 1:], v - np.pad(v, ((0, 1), (0, 0)), "edge")[1:]
        ux[:, -1], uy[-1], vx[:, -1], vy[-1] = ux[:, -2], uy[-2], vx[:, -2], vy[-2]
        return np.asarray(np.sqrt(ux**2 + vy**2 + (uy + vx) ** 2 / 2))

    panels = {
        "flow: the head turns, a brow rises": np.linalg.norm(flow, axis=-1),
        'convention="xy" (default)': mf.optical_strain(flow),
        'convention="mmme"': mf.optical_strain(flow, convention="mmme"),
        "the MMME notebooks' code": notebook(flow[..., 0], flow[..., 1]),
    }
    figure, axes = pyplot.subplots(1, 4, figsize=(11, 3.0), layout="constrained")
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        top, unit = (4.0, "px") if title.startswith("flow") else (0.2, "px per px")
        image = axis.imshow(values, cmap="magma", vmin=0, vmax=top)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
        figure.colorbar(image, ax=axis, shrink=0.75, orientation="horizontal", label=unit)
    figure.savefig(FOLDER / "strain.png", dpi=110, metadata={"Software": None})
    _, ours, mmme, published = panels.values()
    print(f'"mmme" and the notebooks: {np.abs(mmme - published).max():.1e}')
    forward = mf.optical_strain(flow, stencil="forward")
    print(f'stencil="forward" and SOFTNet: {np.abs(forward - softnet(flow[..., 0], flow[..., 1])).max():.1e}')
    print(f'away from the brow: "xy" {ours[100:, 100:].max():.1e}, "mmme" {mmme[100:, 100:].mean():.3f}')


def band_power() -> None:
    """Thirty seconds of one channel, a 1/f background and an alpha rhythm, by each preset and by what it stands for."""
    data = synth.recording(30, sfreq=SFREQ, channels=1, seed=3, pink=12e-6).data().astype(np.float64)
    micro = 1e12
    mmme = mf.band_power(data, SFREQ, window=1.001, hop=1, preset="mmme")[:, 0].mean(0) * micro
    panels: dict[str, dict[str, tuple[Any, Any]]] = {
        "uV$^2$/Hz": {
            "default": (mf.band_power(data, SFREQ, hop=1)[:, 0].mean(0) * micro, _scipy(data[0]) * micro),
            "mmme": (mmme, _notebook(data[0]) * micro),
            "mne": (mf.band_power(data, SFREQ, window=30, subwindow=1, preset="mne")[0, 0] * micro, _mne(data) * micro),
        },
        "part of 1-47 Hz": {
            "yasa": (mf.band_power(data, SFREQ, bands=BANDS, preset="yasa")[0, 0], _yasa(data[0])),
            "matlab": (
                mf.band_power(data, SFREQ, window=30, preset="matlab", output="relative")[0, 0], _matlab(data[0]),
            ),
        },
    }  # fmt: skip
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=(3, 2))
    colours = iter(f"C{i}" for i in range(9))
    for axis, (unit, presets) in zip(axes, panels.items(), strict=True):
        width = 0.8 / len(presets)
        for i, (preset, (ours, published)) in enumerate(presets.items()):
            where = np.arange(5) + (i - (len(presets) - 1) / 2) * width
            label = preset if preset == "default" else f'preset="{preset}"'
            axis.bar(where, ours, 0.9 * width, color=next(colours), label=label)
            axis.plot(
                where, published, "ko", markersize=3, label="the published code" if i == len(presets) - 1 else None
            )
            print(f"{preset}: {np.abs(ours / published - 1).max():.1e}")
        axis.set(xticks=range(5), xticklabels=BANDS, ylabel=unit, yscale="log")
        axis.legend(fontsize=8)
    figure.savefig(FOLDER / "band_power.png", dpi=110, metadata={"Software": None})


def _bins(frequencies: NDArray[Any], power: NDArray[Any]) -> NDArray[Any]:
    return np.array([power[..., (frequencies >= low) & (frequencies <= high)].mean() for low, high in BANDS.values()])


def _scipy(samples: NDArray[Any]) -> NDArray[Any]:
    return _bins(*signal.periodogram(samples.reshape(-1, 1000), SFREQ, "hann"))


def _notebook(samples: NDArray[Any]) -> NDArray[Any]:
    windows = np.lib.stride_tricks.sliding_window_view(samples, 1001)[::1000]
    return _bins(*signal.periodogram(windows, SFREQ, "boxcar", nfft=512, return_onesided=False))


def _mne(data: NDArray[Any]) -> NDArray[Any]:
    from mne.time_frequency import psd_array_welch

    power, frequencies = psd_array_welch(data, SFREQ, n_fft=1000, n_overlap=0, verbose="ERROR")
    return _bins(frequencies, power[0])


def _yasa(samples: NDArray[Any]) -> NDArray[Any]:
    """yasa.bandpower's lines, which are SciPy's."""
    frequencies, power = signal.welch(samples, SFREQ, "hamming", nperseg=4000, average="median")
    inside = (frequencies >= 1) & (frequencies <= 47)
    frequencies, power = frequencies[inside], power[inside]
    bands = [(frequencies >= low) & (frequencies <= high) for low, high in BANDS.values()]
    return np.array([integrate.simpson(power[band], dx=0.25) for band in bands]) / integrate.simpson(power, dx=0.25)


def _matlab(samples: NDArray[Any]) -> NDArray[Any]:
    """bandpower(x, fs, range) over bandpower(x, fs, [1 47]): a Hamming periodogram and the rectangle rule."""
    taper = signal.get_window("hamming", len(samples), fftbins=False)
    frequencies, power = signal.periodogram(samples, SFREQ, taper, detrend=False)

    def inside(low: float, high: float) -> float:
        first = np.flatnonzero(frequencies <= low)[-1]
        last = np.flatnonzero(frequencies >= high)[0]
        return float(power[first : last + 1].sum())

    return np.array([inside(*edges) for edges in BANDS.values()]) / inside(1, 47)


if __name__ == "__main__":
    strain()
    band_power()
