#include "isa.hpp"

#define MMME_STRING_(x) #x
#define MMME_STRING(x) MMME_STRING_(x)

namespace mmme::MMME_ISA {

const Kernels kernels = {
    MMME_STRING(MMME_ISA),
    {tvl1_frame_size, tvl1_scratch_size, tvl1_prepare, tvl1_solve, tvl1_resumed, tvl1_misfit},
    {farneback_frame_size, farneback_scratch_size, farneback_prepare, farneback_solve, nullptr, nullptr},
    {dis_frame_size, dis_scratch_size, dis_prepare, dis_solve, nullptr, nullptr},
    strain,
    block_means_scratch,
    block_means,
    lbp_scratch,
    lbp,
    chi_square,
    mdmd_scratch,
    mdmd,
    warp,
    motion_scratch,
    fit_motion,
    sliding_scratch,
    sliding,
    band_power_scratch,
    band_power,
    {2 * MMME_VECTOR_LANES, overlapping_table, overlapping_fill, overlapping_scratch, overlapping_band_power},
    clip_sums,
    clip_scratch,
    clip_power,
};

} // namespace mmme::MMME_ISA
