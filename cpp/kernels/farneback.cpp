#include "isa.hpp"

namespace mmme::MMME_ISA {

std::size_t farneback_frame_size(int, int, const Farneback&) { return 16; }
std::size_t farneback_scratch_size(int, int, const Farneback&) { return 16; }
void farneback_prepare(const Image&, int, int, const Farneback&, float*, float*, const Rows&) {}
void farneback_solve(const float*, const float*, float*, bool, int, int, const Farneback&, float*, const Rows&) {}

} // namespace mmme::MMME_ISA
