#include "isa.hpp"

namespace mmme::MMME_ISA {

std::size_t tvl1_frame_size(int, int, const TVL1&) { return 16; }
std::size_t tvl1_scratch_size(int, int, const TVL1&) { return 16; }
void tvl1_prepare(const Image&, int, int, const TVL1&, float*, float*, const Rows&) {}
void tvl1_solve(const float*, const float*, float*, bool, int, int, const TVL1&, float*, const Rows&) {}

} // namespace mmme::MMME_ISA
