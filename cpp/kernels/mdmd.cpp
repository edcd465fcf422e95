// Main directional maximal difference of two flow fields, block by block (Wang et al. 2017; He et al. 2020).
#include "isa.hpp"

#include <cmath>
#include <cstdint>

namespace mmme::MMME_ISA {
namespace {

// Angles by quarter turns from -180 degrees, of atan2 or, as published, of atan, which fills the middle two only.
// `away` is by how much a is longer than b.
template <bool atan>
MMME_NOINLINE void compare(const float* MMME_RESTRICT a, const float* MMME_RESTRICT b,
                           std::int32_t* MMME_RESTRICT quarter, float* MMME_RESTRICT away, int width) {
    MMME_IVDEP
    for (int x = 0; x < width; ++x) {
        const float u = a[2 * x], v = a[2 * x + 1], s = b[2 * x], t = b[2 * x + 1];
        const int up = u > 0.0f, left = u < 0.0f, down = v > 0.0f, above = v < 0.0f;
        if constexpr (atan)
            quarter[x] = 2 - ((above & (1 - left)) | (down & left));
        else
            quarter[x] = above ? 1 - left : 3 - (up | (1 - left - down > 0));
        away[x] = std::sqrt(u * u + v * v) - std::sqrt(s * s + t * t);
    }
}

// The sum of the `many` largest of count values, which are put in another order (Hoare's selection).
double sum_of_largest(float* values, int count, int many) {
    for (int low = 0, high = count - 1; low < high;) {
        const float a = values[low], b = values[low + (high - low) / 2], c = values[high];
        const float pivot = (a < b) == (b < c) ? b : (b < a) == (a < c) ? a : c;
        int i = low - 1, j = high + 1;
        for (;;) {
            do ++i;
            while (values[i] > pivot);
            do --j;
            while (values[j] < pivot);
            if (i >= j) break;
            const float kept = values[i];
            values[i] = values[j];
            values[j] = kept;
        }
        if (many - 1 <= j)
            high = j;
        else
            low = j + 1;
    }
    double sum = 0;
    for (int i = 0; i < many; ++i) sum += static_cast<double>(values[i]);
    return sum;
}

} // namespace

std::size_t mdmd_scratch(int height, int width, int rows) {
    return static_cast<std::size_t>(height / rows + 1) * static_cast<std::size_t>(width) * 3;
}

void mdmd(const float* a, const float* b, float* out, int height, int width, int rows, int columns, bool atan,
          float* scratch) {
    const auto line = [](int size, int i, int n) { return static_cast<int>(static_cast<std::int64_t>(size) * i / n); };
    const std::ptrdiff_t strip = static_cast<std::ptrdiff_t>(height / rows + 1) * width;
    float *away = scratch, *chosen = scratch + strip;
    auto* quarter = reinterpret_cast<std::int32_t*>(scratch + 2 * strip);
    for (int r = 0; r < rows; ++r) {
        const int begin = line(height, r, rows), end = line(height, r + 1, rows);
        for (int y = begin; y < end; ++y) {
            const std::ptrdiff_t from = static_cast<std::ptrdiff_t>(y) * width * 2;
            const std::ptrdiff_t to = static_cast<std::ptrdiff_t>(y - begin) * width;
            if (atan)
                compare<true>(a + from, b + from, quarter + to, away + to, width);
            else
                compare<false>(a + from, b + from, quarter + to, away + to, width);
        }
        for (int c = 0; c < columns; ++c) {
            const int left = line(width, c, columns), right = line(width, c + 1, columns);
            int counts[4] = {};
            for (int y = 0; y < end - begin; ++y)
                for (int x = left; x < right; ++x) ++counts[quarter[static_cast<std::ptrdiff_t>(y) * width + x]];
            int main = 0;
            for (int q = 1; q < 4; ++q)
                if (counts[q] > counts[main]) main = q;
            int count = 0;
            for (int y = 0; y < end - begin; ++y)
                for (int x = left; x < right; ++x) {
                    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(y) * width + x;
                    chosen[count] = away[at];
                    count += quarter[at] == main;
                }
            const int many = count >= 3 ? count / 3 : 1;
            *out++ = static_cast<float>(sum_of_largest(chosen, count, many) / many);
        }
    }
}

} // namespace mmme::MMME_ISA
