// Optical strain (Shreve et al. 2011): the symmetric part of the gradient of flow; and means over a lattice of blocks.
#include "isa.hpp"

#include <cmath>
#include <cstring>

namespace mmme::MMME_ISA {
namespace {

template <bool swapped, bool components> MMME_INLINE void put(float* out, float ux, float uy, float vx, float vy) {
    // The MMME notebooks take (d/dy, d/dx) for (d/dx, d/dy): their exx is u_y, their eyy v_x.
    const float exx = swapped ? uy : ux, eyy = swapped ? vx : vy, exy = 0.5f * (swapped ? ux + vy : uy + vx);
    if constexpr (components) {
        out[0] = exx;
        out[1] = eyy;
        out[2] = exy;
    } else {
        out[0] = std::sqrt(exx * exx + eyy * eyy + 2.0f * exy * exy);
    }
}

template <bool swapped, bool components>
void rows(const float* flow, float* out, int height, int width, Stencil stencil) {
    constexpr int stride = components ? 3 : 1;
    const int after = stencil != Stencil::backward, before = stencil != Stencil::forward;
    for (int y = 0; y < height; ++y) {
        int y0 = y - before, y1 = y + after;
        float sy = 1.0f;
        if (stencil == Stencil::central) { // one-sided at the borders, as np.gradient
            y0 = y0 < 0 ? 0 : y0;
            y1 = y1 >= height ? height - 1 : y1;
            sy = y1 - y0 == 2 ? 0.5f : 1.0f;
        } else { // the last (forward) difference is repeated; the first (backward) one is 0
            if (y1 >= height) y1 = height - 1, y0 = height >= 2 ? height - 2 : 0;
            if (y0 < 0) y0 = y1 = 0;
        }
        const float* MMME_RESTRICT row = flow + static_cast<std::ptrdiff_t>(y) * width * 2;
        const float* MMME_RESTRICT above = flow + static_cast<std::ptrdiff_t>(y0) * width * 2;
        const float* MMME_RESTRICT below = flow + static_cast<std::ptrdiff_t>(y1) * width * 2;
        float* MMME_RESTRICT to = out + static_cast<std::ptrdiff_t>(y) * width * stride;
        const auto at = [&](int x, int x0, int x1, float sx) {
            put<swapped, components>(to + x * stride, sx * (row[2 * x1] - row[2 * x0]),
                                     sy * (below[2 * x] - above[2 * x]), sx * (row[2 * x1 + 1] - row[2 * x0 + 1]),
                                     sy * (below[2 * x + 1] - above[2 * x + 1]));
        };
        const float sx = stencil == Stencil::central ? 0.5f : 1.0f;
        if (width == 1)
            at(0, 0, 0, 1.0f);
        else {
            at(0, 0, stencil == Stencil::backward ? 0 : 1, 1.0f);
            MMME_IVDEP
            for (int x = 1; x < width - 1; ++x)
                put<swapped, components>(to + x * stride, sx * (row[2 * (x + after)] - row[2 * (x - before)]),
                                         sy * (below[2 * x] - above[2 * x]),
                                         sx * (row[2 * (x + after) + 1] - row[2 * (x - before) + 1]),
                                         sy * (below[2 * x + 1] - above[2 * x + 1]));
            at(width - 1, width - 2, width - 1, 1.0f);
        }
    }
}

} // namespace

void strain(const float* flow, float* out, int height, int width, const Strain& params) {
    const auto run = params.mmme ? (params.components ? rows<true, true> : rows<true, false>)
                                 : (params.components ? rows<false, true> : rows<false, false>);
    run(flow, out, height, width, params.stencil);
}

std::size_t block_means_scratch(int width, int channels) {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
}

void block_means(const float* values, float* out, int height, int width, int channels, int rows, int columns,
                 float* scratch) {
    const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(width) * channels;
    float* MMME_RESTRICT sums = scratch;
    for (int r = 0, y = 0; r < rows; ++r) {
        // Down each cell first, along whole lines: cells are often but two or four pixels wide.
        const int end = static_cast<int>(static_cast<std::int64_t>(height) * (r + 1) / rows), down = end - y;
        std::memcpy(sums, values + y * line, static_cast<std::size_t>(line) * sizeof(float));
        while (++y < end) {
            const float* MMME_RESTRICT more = values + y * line;
            MMME_IVDEP
            for (std::ptrdiff_t i = 0; i < line; ++i) sums[i] += more[i];
        }
        if (channels == 1 && width == 2 * columns) { // half size, the commonest
            float* MMME_RESTRICT half = out;
            const float size = static_cast<float>(2 * down);
            MMME_IVDEP
            for (int c = 0; c < columns; ++c) half[c] = (sums[2 * c] + sums[2 * c + 1]) / size;
            out += columns;
            continue;
        }
        const float* from = sums;
        for (int c = 0, over = 0; c < columns; ++c) {
            // To the cell's end at width (c + 1) / columns, without a division.
            int across = width / columns;
            over += width % columns;
            if (over >= columns) ++across, over -= columns;
            const float size = static_cast<float>(down * across);
            for (int k = 0; k < channels; ++k) {
                float sum = from[k];
                for (int i = 1; i < across; ++i) sum += from[i * channels + k];
                *out++ = sum / size;
            }
            from += static_cast<std::ptrdiff_t>(across) * channels;
        }
    }
}

} // namespace mmme::MMME_ISA
