// Statistics over sliding windows in O(1) per sample (van Herk 1992; Gil and Werman 1993), lanes side by side.
//
// The samples are cut into blocks of one window's length. A window is the tail of one block and the head of the next,
// so its statistic is one suffix combined with one prefix: nothing is ever subtracted, and a huge value leaves no trace
// in the windows that do not hold it.
#include "isa.hpp"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace mmme::MMME_ISA {
namespace {

constexpr int lanes_at_once = 16;

struct Sum {
    static constexpr float neutral = 0.0f;
    static float join(float a, float b) { return a + b; }
};
struct Max {
    static constexpr float neutral = -HUGE_VALF;
    static float join(float a, float b) { return a < b ? b : a; }
};
struct Min {
    static constexpr float neutral = HUGE_VALF;
    static float join(float a, float b) { return b < a ? b : a; }
};
struct Nothing {
    static constexpr float neutral = 0.0f;
    static float join(float a, float) { return a; }
};

// First and Second run together where a statistic needs two; put(first, second) is the value written. Lanes are
// handled sixteen at a time; the last group may be narrower.
template <class First, class Second, class Put>
MMME_NOINLINE void slide(const float* values, float* out, std::ptrdiff_t samples, std::ptrdiff_t lanes, int width,
                         std::ptrdiff_t window, float* scratch, Put put) {
    constexpr int W = lanes_at_once;
    constexpr bool two = !std::is_same_v<Second, Nothing>;
    float* MMME_RESTRICT suffix1 = scratch;
    float* MMME_RESTRICT suffix2 = scratch + window * W;
    float spare[W] = {}, a[W], b[W], y[W];
    const auto row = [&](std::ptrdiff_t sample) -> const float* {
        const float* from = values + sample * lanes;
        if (width == W) return from;
        for (int l = 0; l < width; ++l) spare[l] = from[l];
        return spare;
    };
    for (std::ptrdiff_t block = 0; block + window <= samples; block += window) {
        for (int l = 0; l < W; ++l) a[l] = First::neutral, b[l] = Second::neutral;
        for (std::ptrdiff_t j = window; j-- > 0;) {
            const float* MMME_RESTRICT x = row(block + j);
            MMME_LANES
            for (int l = 0; l < W; ++l) a[l] = First::join(a[l], x[l]), b[l] = Second::join(b[l], x[l]);
            std::memcpy(suffix1 + j * W, a, sizeof(a));
            if constexpr (two) std::memcpy(suffix2 + j * W, b, sizeof(b));
        }
        for (int l = 0; l < W; ++l) a[l] = First::neutral, b[l] = Second::neutral;
        for (std::ptrdiff_t j = 0; j < window && block + j + window <= samples; ++j) {
            if (j > 0) {
                const float* MMME_RESTRICT x = row(block + window + j - 1);
                MMME_LANES
                for (int l = 0; l < W; ++l) a[l] = First::join(a[l], x[l]), b[l] = Second::join(b[l], x[l]);
            }
            float* to = out + (block + j) * lanes;
            MMME_LANES
            for (int l = 0; l < W; ++l)
                y[l] = put(First::join(suffix1[j * W + l], a[l]), two ? Second::join(suffix2[j * W + l], b[l]) : 0.0f);
            if (width == W)
                std::memcpy(to, y, sizeof(y));
            else
                for (int l = 0; l < width; ++l) to[l] = y[l];
        }
    }
}

} // namespace

std::size_t sliding_scratch(std::ptrdiff_t window, std::ptrdiff_t, Statistic) {
    return static_cast<std::size_t>(window) * lanes_at_once * 2;
}

void sliding(const float* values, float* out, std::ptrdiff_t samples, std::ptrdiff_t lanes, std::ptrdiff_t begin,
             std::ptrdiff_t end, std::ptrdiff_t window, Statistic statistic, float p, float* scratch) {
    const float per_window = 1.0f / static_cast<float>(window);
    for (std::ptrdiff_t lane = begin; lane < end; lane += lanes_at_once) {
        const int width = static_cast<int>(end - lane < lanes_at_once ? end - lane : lanes_at_once);
        const float* from = values + lane;
        float* to = out + lane;
        const auto run = [&]<class First, class Second>(First, Second, auto put) {
            slide<First, Second>(from, to, samples, lanes, width, window, scratch, put);
        };
        switch (statistic) {
        case Statistic::mean:
            run(Sum{}, Nothing{}, [=](float s, float) { return s * per_window; });
            break;
        case Statistic::sum:
            run(Sum{}, Nothing{}, [](float s, float) { return s; });
            break;
        case Statistic::max:
            run(Max{}, Nothing{}, [](float m, float) { return m; });
            break;
        case Statistic::min:
            run(Min{}, Nothing{}, [](float m, float) { return m; });
            break;
        case Statistic::range:
            run(Max{}, Min{}, [](float high, float low) { return high - low; });
            break;
        case Statistic::threshold:
            run(Sum{}, Max{}, [=](float s, float high) {
                const float mean = s * per_window;
                return mean + p * (high - mean);
            });
            break;
        }
    }
}

} // namespace mmme::MMME_ISA
