// Statistics over sliding windows in O(1) per sample (van Herk 1992; Gil and Werman 1993), lanes side by side.
//
// The samples are cut into blocks of one window's length. A window is the tail of one block and the head of the next,
// so its statistic is one suffix combined with one prefix: nothing is ever subtracted, and a huge value leaves no trace
// in the windows that do not hold it.
#include "vec.hpp"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace mmme::MMME_ISA {
namespace {

constexpr int lanes_at_once = 16, vectors = lanes_at_once / Vec::size;

struct Sum {
    static constexpr float neutral = 0.0f;
    static Vec join(Vec a, Vec b) { return a + b; }
};
struct Max {
    static constexpr float neutral = -HUGE_VALF;
    static Vec join(Vec a, Vec b) { return max_of(a, b); }
};
struct Min {
    static constexpr float neutral = HUGE_VALF;
    static Vec join(Vec a, Vec b) { return min_of(a, b); }
};
struct Nothing {
    static constexpr float neutral = 0.0f;
    static Vec join(Vec a, Vec) { return a; }
};

// The windows that begin in one block: `count` of them, at most as many as it has samples. First and Second run
// together where a statistic needs two; put(first, second) is the value written. Sixteen lanes, `width` of which exist.
template <class First, class Second, class Put>
MMME_NOINLINE void slide(const float* values, float* out, std::ptrdiff_t count, std::ptrdiff_t lanes, int width,
                         std::ptrdiff_t window, float* scratch, Put put) {
    constexpr int W = lanes_at_once;
    constexpr bool two = !std::is_same_v<Second, Nothing>;
    float* suffix1 = scratch;
    float* suffix2 = scratch + window * W;
    float spare[W] = {};
    Vec a[vectors], b[vectors];
    const auto clear = [&] {
        MMME_UNROLL
        for (int v = 0; v < vectors; ++v) a[v] = broadcast(First::neutral), b[v] = broadcast(Second::neutral);
    };
    const auto add = [&](std::ptrdiff_t sample) {
        const float* x = values + sample * lanes;
        if (width < W) {
            std::memcpy(spare, x, static_cast<std::size_t>(width) * sizeof(float));
            x = spare;
        }
        MMME_UNROLL
        for (int v = 0; v < vectors; ++v) {
            const Vec more = load_unaligned(x + v * Vec::size);
            a[v] = First::join(a[v], more), b[v] = Second::join(b[v], more);
        }
    };
    clear();
    for (std::ptrdiff_t j = window; j-- > 0;) {
        add(j);
        MMME_UNROLL
        for (int v = 0; v < vectors; ++v) {
            store(suffix1 + j * W + v * Vec::size, a[v]);
            if constexpr (two) store(suffix2 + j * W + v * Vec::size, b[v]);
        }
    }
    clear();
    for (std::ptrdiff_t j = 0; j < count; ++j) {
        if (j > 0) add(window + j - 1);
        Vec y[vectors];
        MMME_UNROLL
        for (int v = 0; v < vectors; ++v) {
            const std::ptrdiff_t at = j * W + v * Vec::size;
            y[v] = put(First::join(load(suffix1 + at), a[v]), two ? Second::join(load(suffix2 + at), b[v]) : b[v]);
        }
        float* to = out + j * lanes;
        if (width == W)
            std::memcpy(to, y, sizeof(y));
        else
            std::memcpy(to, y, static_cast<std::size_t>(width) * sizeof(float));
    }
}

} // namespace

std::size_t sliding_scratch(std::ptrdiff_t window, std::ptrdiff_t, Statistic) {
    return static_cast<std::size_t>(window) * lanes_at_once * 2;
}

void sliding(const float* values, float* out, std::ptrdiff_t samples, std::ptrdiff_t lanes, std::ptrdiff_t begin,
             std::ptrdiff_t end, std::ptrdiff_t window, Statistic statistic, float p, float* scratch) {
    const Vec per_window = broadcast(1.0f / static_cast<float>(window)), part = broadcast(p);
    const std::ptrdiff_t windows = samples - window + 1;
    // Whole groups where there is room: the last one begins earlier and does some lanes again.
    const std::ptrdiff_t last = end - lanes_at_once < begin ? begin : end - lanes_at_once;
    const int width = static_cast<int>(end - last);
    const auto block_of_group = [&](std::ptrdiff_t block, std::ptrdiff_t lane) {
        const float* from = values + block * lanes + lane;
        float* to = out + block * lanes + lane;
        const std::ptrdiff_t count = windows - block < window ? windows - block : window;
        const auto run = [&]<class First, class Second>(First, Second, auto put) {
            slide<First, Second>(from, to, count, lanes, width, window, scratch, put);
        };
        switch (statistic) {
        case Statistic::mean:
            run(Sum{}, Nothing{}, [=](Vec s, Vec) { return s * per_window; });
            break;
        case Statistic::sum:
            run(Sum{}, Nothing{}, [](Vec s, Vec) { return s; });
            break;
        case Statistic::max:
            run(Max{}, Nothing{}, [](Vec m, Vec) { return m; });
            break;
        case Statistic::min:
            run(Min{}, Nothing{}, [](Vec m, Vec) { return m; });
            break;
        case Statistic::range:
            run(Max{}, Min{}, [](Vec high, Vec low) { return high - low; });
            break;
        case Statistic::threshold:
            run(Sum{}, Max{}, [=](Vec s, Vec high) {
                const Vec mean = s * per_window;
                return fma(part, high - mean, mean);
            });
            break;
        }
    };
    for (std::ptrdiff_t block = 0; block < windows; block += window)
        for (std::ptrdiff_t lane = begin; lane < end; lane += lanes_at_once)
            block_of_group(block, lane < last ? lane : last);
}

} // namespace mmme::MMME_ISA
