// Histograms of uniform local binary patterns (Ojala et al. 2002; 8 samples on a circle of radius 3), and how far
// histograms are from the mean of two others (Moilanen et al. 2014).
#include "isa.hpp"

#include <cstdint>
#include <cstring>

namespace mmme::MMME_ISA {
namespace {

constexpr int radius = 3, bins = 59, tables = 2;

// Where 3 sin(45 degrees), rounded to 5 places as everywhere, stands between pixels 2 and 3; and the weights of the
// pixel (3, 3), of (2, 3) and (3, 2), and of (2, 2).
constexpr float part = 0.12132f;
constexpr float outer = part * part, side = part * (1 - part), inner = (1 - part) * (1 - part);
constexpr float rounding = 1e-6f; // a part of the brightness

// The bins of all patterns: 0 for no bit set, 1 + 8 (ones - 1) + where the ones begin for those in one run, 57 for all
// bits, 58 for patterns of more runs. It is the order of scikit-image's "nri_uniform".
struct Bins {
    std::uint8_t of[256];
};

constexpr Bins number_bins() {
    Bins table{};
    for (int pattern = 0; pattern < 256; ++pattern) {
        int ones = 0, changes = 0, first_one = -1, first_zero = -1;
        for (int p = 0; p < 8; ++p) {
            const int bit = pattern >> p & 1;
            ones += bit;
            changes += bit != (pattern >> (p + 1) % 8 & 1);
            if (bit && first_one < 0) first_one = p;
            if (!bit && first_zero < 0) first_zero = p;
        }
        int bin = bins - 1;
        if (ones == 0)
            bin = 0;
        else if (ones == 8)
            bin = bins - 2;
        else if (changes == 2)
            bin = 1 + 8 * (ones - 1) + (first_one == 0 ? ones - first_zero : 8 - first_one);
        table.of[pattern] = static_cast<std::uint8_t>(bin);
    }
    return table;
}

constexpr Bins bin_of = number_bins();

// Bit p is set where the picture on the circle at 45 degrees times p, counted from +x towards the top, is at least as
// bright as the middle. What differs from it by less than rounding is a tie, whatever the order of sums.
void patterns(const float* frame, std::int32_t* MMME_RESTRICT out, int width, int y) {
    const float* MMME_RESTRICT row[2 * radius + 1];
    for (int i = 0; i <= 2 * radius; ++i) row[i] = frame + static_cast<std::ptrdiff_t>(y + i - radius) * width + radius;
    const float *MMME_RESTRICT t3 = row[0], *MMME_RESTRICT t2 = row[1], *MMME_RESTRICT mid = row[3];
    const float *MMME_RESTRICT b2 = row[5], *MMME_RESTRICT b3 = row[6];
    MMME_IVDEP
    for (int x = 0; x < width - 2 * radius; ++x) {
        const float c = mid[x], least = -rounding * c;
        const auto between = [&](const float* near_row, const float* far_row, int near_x, int far_x) {
            return inner * (near_row[near_x] - c) + side * (near_row[far_x] - c) + side * (far_row[near_x] - c) +
                   outer * (far_row[far_x] - c);
        };
        std::int32_t pattern = mid[x + 3] >= c ? 1 : 0;
        pattern |= between(t2, t3, x + 2, x + 3) >= least ? 2 : 0;
        pattern |= t3[x] >= c ? 4 : 0;
        pattern |= between(t2, t3, x - 2, x - 3) >= least ? 8 : 0;
        pattern |= mid[x - 3] >= c ? 16 : 0;
        pattern |= between(b2, b3, x - 2, x - 3) >= least ? 32 : 0;
        pattern |= b3[x] >= c ? 64 : 0;
        pattern |= between(b2, b3, x + 2, x + 3) >= least ? 128 : 0;
        out[x] = pattern;
    }
}

} // namespace

std::size_t lbp_scratch(int width, int columns) {
    return static_cast<std::size_t>(width) + static_cast<std::size_t>(columns) * tables * 64;
}

void lbp(const float* frame, float* out, int height, int width, int rows, int columns, float* scratch) {
    const int inner_height = height - 2 * radius, inner_width = width - 2 * radius;
    auto* codes = reinterpret_cast<std::int32_t*>(scratch);
    auto* counts = reinterpret_cast<std::uint32_t*>(scratch + width);
    const auto line = [](int size, int i, int n) { return static_cast<int>(static_cast<std::int64_t>(size) * i / n); };
    for (int r = 0; r < rows; ++r) {
        std::memset(counts, 0, static_cast<std::size_t>(columns) * tables * 64 * sizeof(*counts));
        const int begin = line(inner_height, r, rows), end = line(inner_height, r + 1, rows);
        for (int y = begin; y < end; ++y) {
            patterns(frame, codes, width, y + radius);
            for (int c = 0; c < columns; ++c) {
                // Two tables in turn: neighbours have often the same pattern, and one counter would wait for itself.
                std::uint32_t* even = counts + static_cast<std::ptrdiff_t>(c) * tables * 64;
                std::uint32_t* odd = even + 64;
                int x = line(inner_width, c, columns);
                const int stop = line(inner_width, c + 1, columns);
                for (; x + 1 < stop; x += 2) {
                    ++even[bin_of.of[codes[x]]];
                    ++odd[bin_of.of[codes[x + 1]]];
                }
                if (x < stop) ++even[bin_of.of[codes[x]]];
            }
        }
        for (int c = 0; c < columns; ++c) {
            const std::uint32_t* even = counts + static_cast<std::ptrdiff_t>(c) * tables * 64;
            const int across = line(inner_width, c + 1, columns) - line(inner_width, c, columns);
            const float per = 1.0f / static_cast<float>(static_cast<std::int64_t>(end - begin) * across);
            for (int b = 0; b < bins; ++b) out[b] = static_cast<float>(even[b] + even[b + 64]) * per;
            out += bins;
        }
    }
}

void chi_square(const float* before, const float* at, const float* after, float* out, std::ptrdiff_t count, int size) {
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const float* MMME_RESTRICT p = before + i * size;
        const float* MMME_RESTRICT q = at + i * size;
        const float* MMME_RESTRICT r = after + i * size;
        constexpr int lanes = 16;
        float sums[lanes] = {};
        int b = 0;
        for (; b + lanes <= size; b += lanes) {
            MMME_LANES
            for (int l = 0; l < lanes; ++l) {
                const float mean = 0.5f * (p[b + l] + r[b + l]), away = q[b + l] - mean, both = q[b + l] + mean;
                sums[l] += away * away / (both > 0.0f ? both : 1.0f);
            }
        }
        for (int l = 0; b < size; ++b, ++l) {
            const float mean = 0.5f * (p[b] + r[b]), away = q[b] - mean, both = q[b] + mean;
            sums[l] += away * away / (both > 0.0f ? both : 1.0f);
        }
        float sum = 0.0f;
        for (int l = 0; l < lanes; ++l) sum += sums[l];
        out[i] = sum;
    }
}

} // namespace mmme::MMME_ISA
