"""The kernels of `_core` in Numba: the same names, the same arguments, the same results up to rounding.

Each module mirrors the source of its name under cpp/kernels/.
"""

from mmme_fast._numba.band_power import band_power, overlapping_band_power
from mmme_fast._numba.clips import clip_power
from mmme_fast._numba.dis import dis
from mmme_fast._numba.farneback import farneback
from mmme_fast._numba.lbp import chi_square, lbp
from mmme_fast._numba.mdmd import mdmd
from mmme_fast._numba.motion import fit_motion
from mmme_fast._numba.strain import block_means, strain
from mmme_fast._numba.tvl1 import tvl1
from mmme_fast._numba.warp import warp
from mmme_fast._numba.windows import sliding

__all__ = [
    "band_power",
    "block_means",
    "chi_square",
    "clip_power",
    "dis",
    "farneback",
    "fit_motion",
    "lbp",
    "mdmd",
    "overlapping_band_power",
    "sliding",
    "strain",
    "tvl1",
    "warp",
]
