"""Micro-expression spotting and EEG band power, from film and recordings on disk, fast."""

from mmme_fast._backend import backends, get_num_threads, set_num_threads, sys_info, use_backend
from mmme_fast.flow import farneback, tvl1
from mmme_fast.strain import optical_strain

__version__ = "0.1.0"

__all__ = [
    "backends",
    "farneback",
    "get_num_threads",
    "optical_strain",
    "set_num_threads",
    "sys_info",
    "tvl1",
    "use_backend",
]
