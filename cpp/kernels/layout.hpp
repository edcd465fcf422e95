// How rows are laid out in memory, shared out over threads and averaged down. Included only by kernel sources: internal
// linkage.
#pragma once

#include "isa.hpp"

#include <cmath>

namespace mmme::MMME_ISA {
namespace {

using Index = std::ptrdiff_t;

constexpr int lanes = 16; // floats in the longest vector: rows are padded to a multiple of it
constexpr int strip = 32; // rows that one thread takes at least

constexpr int smaller(int a, int b) {
    return a < b ? a : b;
}
constexpr int larger(int a, int b) {
    return a > b ? a : b;
}
constexpr int clamp(int i, int low, int high) {
    return i < low ? low : i > high ? high : i;
}
constexpr Index padded(Index floats) {
    return (floats + lanes - 1) / lanes * lanes;
}

constexpr Index strip_count(int height) {
    return (height + strip - 1) / strip;
}

// Calls body(first row, last row + 1, memory) for bands that cover the rows; no two bands share their memory, of which
// there is one piece of `floats` per strip.
template <class Body> MMME_INLINE void strips(const Rows& rows, int height, float* memory, Index floats, Body&& body) {
    rows(static_cast<int>(strip_count(height)),
         [&](int begin, int end) { body(begin * strip, smaller(end * strip, height), memory + begin * floats); });
}

// Calls body(sample, weight) for the samples that cell i of m covers when n samples are averaged into m cells:
// OpenCV's resize(INTER_AREA).
template <class Body> MMME_INLINE void covered(int i, int n, int m, Body&& body) {
    const double step = 1.0 / (static_cast<double>(m) / n), low = i * step, high = low + step;
    const double cell = step < n - low ? step : n - low;
    const int last = smaller(static_cast<int>(std::floor(high)), n - 1);
    const int first = smaller(static_cast<int>(std::ceil(low)), last);
    if (first - low > 1e-3) body(first - 1, static_cast<float>((first - low) / cell));
    for (int k = first; k < last; ++k) body(k, static_cast<float>(1.0 / cell));
    if (high - last > 1e-3) {
        double rest = high - last < 1.0 ? high - last : 1.0;
        rest = rest < cell ? rest : cell;
        body(last, static_cast<float>(rest / cell));
    }
}

} // namespace
} // namespace mmme::MMME_ISA
