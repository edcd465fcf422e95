// A frame resampled by an affine map, by cubic convolution (Keys 1981, a = -1/2).
#include "isa.hpp"

#include <cmath>

namespace mmme::MMME_ISA {
namespace {

MMME_INLINE int clamp(int i, int last) {
    return i < 0 ? 0 : i > last ? last : i;
}

struct Taps {
    float w0, w1, w2, w3;
};

MMME_INLINE Taps taps(float t) {
    const float s = 1.0f - t;
    return {-0.5f * t * s * s, 1.0f + t * t * (1.5f * t - 2.5f), 1.0f + s * s * (1.5f * s - 2.5f), -0.5f * s * t * t};
}

} // namespace

void warp(const float* frame, float* out, int height, int width, const double* matrix) {
    const float m0 = static_cast<float>(matrix[0]), m3 = static_cast<float>(matrix[3]);
    for (int y = 0; y < height; ++y) {
        const float x_start = static_cast<float>(matrix[1] * y + matrix[2]);
        const float y_start = static_cast<float>(matrix[4] * y + matrix[5]);
        float* MMME_RESTRICT to = out + static_cast<std::ptrdiff_t>(y) * width;
        MMME_IVDEP
        for (int x = 0; x < width; ++x) {
            // Far outside is the border all the same; the bounds keep the conversion to int defined.
            const float fx = x_start + m0 * static_cast<float>(x), fy = y_start + m3 * static_cast<float>(x);
            const float sx = fx < -4.0f ? -4.0f : fx > 32768.0f ? 32768.0f : fx;
            const float sy = fy < -4.0f ? -4.0f : fy > 32768.0f ? 32768.0f : fy;
            const float x_floor = std::floor(sx), y_floor = std::floor(sy);
            const Taps h = taps(sx - x_floor), v = taps(sy - y_floor);
            const int ix = static_cast<int>(x_floor), iy = static_cast<int>(y_floor);
            const int c0 = clamp(ix - 1, width - 1), c1 = clamp(ix, width - 1);
            const int c2 = clamp(ix + 1, width - 1), c3 = clamp(ix + 2, width - 1);
            const auto line = [&](int row) {
                const int r = clamp(row, height - 1) * width;
                return h.w0 * frame[r + c0] + h.w1 * frame[r + c1] + h.w2 * frame[r + c2] + h.w3 * frame[r + c3];
            };
            to[x] = v.w0 * line(iy - 1) + v.w1 * line(iy) + v.w2 * line(iy + 1) + v.w3 * line(iy + 2);
        }
    }
}

} // namespace mmme::MMME_ISA
