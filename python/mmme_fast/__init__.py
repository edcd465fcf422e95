"""Micro-expression spotting and EEG band power, from film and recordings on disk, fast."""

__version__ = "0.1.0"

import importlib
from typing import TYPE_CHECKING, Any

from mmme_fast._backend import (
    backends,
    get_num_threads,
    release_workspaces,
    set_num_threads,
    sys_info,
    use_backend,
)
from mmme_fast.patch import cv2_is_patched, patch_cv2, unpatch_cv2

if TYPE_CHECKING:
    from mmme_fast import methods, metrics
    from mmme_fast.alignment import Alignment, align
    from mmme_fast.eeg import Recording, band_power, open_recording, stream_band_power
    from mmme_fast.flow import dis, farneback, tvl1
    from mmme_fast.frames import Frames, open_frames
    from mmme_fast.many import Outcome, spot_many
    from mmme_fast.peripherals import Peripherals, open_peripherals, peripheral_features
    from mmme_fast.pipeline import spot
    from mmme_fast.results import Interval, Spotting
    from mmme_fast.spotting import sliding_window
    from mmme_fast.strain import optical_strain
else:
    # A stage is imported when one of its names is asked for. All of them take longer than NumPy, and a script under
    # "python -m mmme_fast" asks for none.
    _STAGES = {
        "methods": (),
        "metrics": (),
        "alignment": ("Alignment", "align"),
        "eeg": ("Recording", "band_power", "open_recording", "stream_band_power"),
        "flow": ("dis", "farneback", "tvl1"),
        "frames": ("Frames", "open_frames"),
        "many": ("Outcome", "spot_many"),
        "peripherals": ("Peripherals", "open_peripherals", "peripheral_features"),
        "pipeline": ("spot",),
        "results": ("Interval", "Spotting"),
        "spotting": ("sliding_window",),
        "strain": ("optical_strain",),
    }

    def __getattr__(name: str) -> Any:
        for stage, names in _STAGES.items():
            if name == stage or name in names:
                module = importlib.import_module(f"mmme_fast.{stage}")
                globals()[name] = value = module if name == stage else getattr(module, name)
                return value
        raise AttributeError(f"module 'mmme_fast' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Alignment",
    "Frames",
    "Interval",
    "Outcome",
    "Peripherals",
    "Recording",
    "Spotting",
    "align",
    "backends",
    "band_power",
    "cv2_is_patched",
    "dis",
    "farneback",
    "get_num_threads",
    "methods",
    "metrics",
    "open_frames",
    "open_peripherals",
    "open_recording",
    "optical_strain",
    "patch_cv2",
    "peripheral_features",
    "release_workspaces",
    "set_num_threads",
    "sliding_window",
    "spot",
    "spot_many",
    "stream_band_power",
    "sys_info",
    "tvl1",
    "unpatch_cv2",
    "use_backend",
]
