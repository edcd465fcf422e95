// Steps on planar float images that dense flow methods share. Included only by kernel sources: internal linkage.
#pragma once

#include "isa.hpp"

#include <cmath>

namespace mmme::MMME_ISA {
namespace {

// One row of a frame as grey values 0..255.
MMME_INLINE void grey_row(const Image& image, int y, int width, float* MMME_RESTRICT out) {
    const auto from = static_cast<const char*>(image.data) + y * image.row_bytes;
    if (image.pixel == Pixel::u8) {
        const auto* row = reinterpret_cast<const std::uint8_t*>(from);
        for (int x = 0; x < width; ++x) out[x] = row[x];
    } else if (image.pixel == Pixel::u16) {
        const auto* row = reinterpret_cast<const std::uint16_t*>(from);
        for (int x = 0; x < width; ++x) out[x] = row[x] * (255.0f / 65535.0f);
    } else {
        const auto* row = reinterpret_cast<const float*>(from);
        for (int x = 0; x < width; ++x) out[x] = row[x] * 255.0f;
    }
}

// Where a linear resize reads for output i: source samples index and index + step (0 at the end), and the latter's
// weight.
struct Tap {
    int index, step;
    float weight;
};

// ratio is source over target length, pixel centres at half-integers: OpenCV's resize(INTER_LINEAR).
MMME_INLINE Tap tap(int i, int length, double ratio) {
    const float at = static_cast<float>((i + 0.5) * ratio - 0.5);
    const int index = static_cast<int>(std::floor(at));
    if (index < 0) return {0, 0, 0.0f};
    if (index >= length - 1) return {length - 1, 0, 0.0f};
    return {index, 1, at - static_cast<float>(index)};
}

struct Plane {
    float* data;
    std::ptrdiff_t stride;
    int height, width;

    float* row(int y) const { return data + y * stride; }
};

// to = gain * from resized. columns: scratch for to.width taps.
MMME_INLINE void resize_linear(const Plane& from, const Plane& to, double ratio_y, double ratio_x, float gain,
                               Tap* columns, const Rows& rows) {
    constexpr int most = 128; // columns at a time
    for (int x = 0; x < to.width; ++x) columns[x] = tap(x, from.width, ratio_x);
    rows(to.height, [&](int begin, int end) {
        for (int x0 = 0; x0 < to.width; x0 += most) {
            const int n = to.width - x0 < most ? to.width - x0 : most;
            // The last two rows of `from` that were needed, resized along x: neighbouring rows of `to` share them.
            float lines[2][most];
            int held[2] = {-1, -1};
            const auto line = [&](int y) -> const float* {
                float* MMME_RESTRICT out = lines[y % 2];
                if (held[y % 2] != y) {
                    const Tap* MMME_RESTRICT column = columns + x0;
                    const float* row = from.row(y);
                    for (int x = 0; x < n; ++x) { // two values from anywhere: scalar on every instruction set
                        const Tap c = column[x];
                        const float* a = row + c.index;
                        out[x] = a[0] + c.weight * (a[c.step] - a[0]);
                    }
                    held[y % 2] = y;
                }
                return out;
            };
            for (int y = begin; y < end; ++y) {
                const Tap t = tap(y, from.height, ratio_y);
                const float* top = line(t.index);
                const float* bottom = line(t.index + t.step);
                float* MMME_RESTRICT out = to.row(y) + x0;
                MMME_IVDEP
                for (int x = 0; x < n; ++x) out[x] = gain * (top[x] + t.weight * (bottom[x] - top[x]));
            }
        }
    });
}

} // namespace
} // namespace mmme::MMME_ISA
