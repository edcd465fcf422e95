// Band power by a DFT of only the bins that the bands need: of each window by itself, or with sums that windows share.
//
// Directly, as a product of small matrices. A power does not depend on the phase of its window, so phases count from
// the window's centre: the sum of the samples at equal distance from it meets the cosines only, their difference the
// sines, and half of the products remain. A row is one channel's window. A few rows at a time stay in registers while
// the table streams past, its lanes the bins.
//
// Overlapping (van Herk). Every window of n samples holds exactly one multiple of n, its anchor. Its DFT is a sum that
// runs back from the anchor to its start plus one that runs on from the anchor to its end, and both are met on the way
// to those of its neighbours. Sums that start anew every n samples keep no memory of what came before the window. They
// run over segments, whose DFT is computed once, folded as above. Phases count from the anchor, and the taper a - b cos
// is three taps across the bins. Lanes are channels.
#include "isa.hpp"

#include <cmath>
#include <utility>

namespace mmme::MMME_ISA {
namespace {

#ifdef MMME_VECTOR
typedef float Vec MMME_VECTOR(MMME_VECTOR_BYTES);
constexpr int lanes = sizeof(Vec) / sizeof(float), rows = lanes == 16 ? 8 : 4;
MMME_INLINE Vec load(const float* from) {
    return *reinterpret_cast<const Vec*>(from);
}
MMME_INLINE void store(float* to, Vec v) {
    *reinterpret_cast<Vec*>(to) = v;
}
MMME_INLINE float sum(Vec v) {
    float total = 0;
    for (int l = 0; l < lanes; ++l) total += v[l];
    return total;
}
#else
constexpr int lanes = 1, rows = 4;
using Vec = float;
MMME_INLINE Vec load(const float* from) {
    return *from;
}
MMME_INLINE void store(float* to, Vec v) {
    *to = v;
}
MMME_INLINE float sum(Vec v) {
    return v;
}
#endif

constexpr int panel = 48;  // bins whose table exists at a time, so that it stays in the second-level cache
constexpr int vectors = 3; // of bins that have an accumulator in every row

constexpr double pi = 3.14159265358979323846;

std::ptrdiff_t padded(std::ptrdiff_t n) {
    return (n + 15) / 16 * 16;
}

// Offsets of the parts of the scratch memory, in floats.
struct Layout {
    std::ptrdiff_t half, stride, cosines, sines, table_cos, table_sin, even, odd, even_dft, odd_dft, weights, size;

    explicit Layout(const BandPower& job) {
        half = (job.window + 1) / 2;
        stride = padded(half) + 16; // not a power of two, which would put all rows into one set of the cache
        cosines = 0;
        sines = cosines + padded(4 * static_cast<std::ptrdiff_t>(job.nfft)); // doubles
        table_cos = sines + padded(4 * static_cast<std::ptrdiff_t>(job.nfft));
        table_sin = table_cos + half * panel;
        even = padded(table_sin + half * panel);
        odd = even + rows * stride;
        even_dft = odd + rows * stride;
        odd_dft = even_dft + rows * panel;
        weights = odd_dft + rows * panel;
        size = weights + padded(static_cast<std::ptrdiff_t>(job.n_bands) * panel);
    }
};

// The sum of n samples in a fixed order, whatever their address.
template <class T> double total(const T* samples, int n) {
    constexpr int parts = 32; // enough to hide the latency of an addition
    double part[parts] = {};
    int i = 0;
    for (; i + parts <= n; i += parts)
        for (int l = 0; l < parts; ++l) part[l] += static_cast<double>(samples[i + l]);
    for (int l = 0; i + l < n; ++l) part[l] += static_cast<double>(samples[i + l]);
    double all = 0;
    for (int l = 0; l < parts; ++l) all += part[l];
    return all;
}

// Tapered deviations from a constant near the mean, folded about the centre.
template <class T>
void fold(const T* samples, T constant, const float* taper, int window, float* MMME_RESTRICT even,
          float* MMME_RESTRICT odd) {
    const int half = (window + 1) / 2, after = window / 2, before = (window - 1) / 2;
    const T* MMME_RESTRICT right = samples + after;
    const T* MMME_RESTRICT left = samples + before;
    const float* MMME_RESTRICT taper_right = taper + after;
    const float* MMME_RESTRICT taper_left = taper + before;
    MMME_IVDEP
    for (int m = 0; m < half; ++m) {
        const float r = static_cast<float>(right[m] - constant) * taper_right[m];
        const float l = static_cast<float>(left[-m] - constant) * taper_left[-m];
        even[m] = r + l;
        odd[m] = r - l;
    }
    if (after == before) even[0] *= 0.5f; // the middle sample met itself
}

// dft[row][bin] = sum over m of folded[row][m] * table[m][bin], for V vectors of bins.
template <int V>
void product(const float* MMME_RESTRICT folded, std::ptrdiff_t stride, const float* MMME_RESTRICT table,
             std::ptrdiff_t half, float* MMME_RESTRICT dft) {
    Vec sums[rows][V] = {};
    for (std::ptrdiff_t m = 0; m < half; ++m, table += V * lanes) {
        MMME_UNROLL
        for (int r = 0; r < rows; ++r) {
            const float x = folded[r * stride + m];
            MMME_UNROLL
            for (int v = 0; v < V; ++v) sums[r][v] += x * load(table + v * lanes);
        }
    }
    MMME_UNROLL
    for (int r = 0; r < rows; ++r) {
        MMME_UNROLL
        for (int v = 0; v < V; ++v) store(dft + r * panel + v * lanes, sums[r][v]);
    }
}

void dft_of(const float* folded, std::ptrdiff_t stride, const float* table, std::ptrdiff_t half, int used, float* dft) {
    for (; used >= vectors; used -= vectors, table += half * vectors * lanes, dft += vectors * lanes)
        product<vectors>(folded, stride, table, half, dft);
    if (used == 2) product<2>(folded, stride, table, half, dft);
    if (used == 1) product<1>(folded, stride, table, half, dft);
}

// Cosines and sines of the given bins about the window's centre, (m, bin) for each group of bins that goes through
// product() at once; and the taper's own DFT, which is what a constant contributes.
void fill_tables(const BandPower& job, const std::int32_t* bins, int n_bins, const double* cosines, const double* sines,
                 float* MMME_RESTRICT table_cos, float* MMME_RESTRICT table_sin, float* taper_even, float* taper_odd) {
    const int half = (job.window + 1) / 2, period = 2 * job.nfft, between = job.window % 2 == 0;
    const float* taper_right = job.taper + job.window / 2;
    const float* taper_left = job.taper + (job.window - 1) / 2;
    for (int b = 0; b < n_bins; b += vectors * lanes) {
        const int left = (n_bins - b + lanes - 1) / lanes * lanes;
        const int width = left < vectors * lanes ? left : vectors * lanes;
        double even[vectors * lanes] = {}, odd[vectors * lanes] = {};
        int angle[vectors * lanes], step[vectors * lanes];
        for (int i = 0; i < width; ++i) { // spare lanes repeat the last bin; their weight is 0
            const int bin = bins[b + i < n_bins ? b + i : n_bins - 1];
            angle[i] = bin * between;
            step[i] = 2 * bin;
        }
        for (int m = 0; m < half; ++m, table_cos += width, table_sin += width) {
            const double r = taper_right[m], l = between || m ? taper_left[-m] : 0.0;
            for (int i = 0; i < width; ++i) {
                const double c = cosines[angle[i]], s = sines[angle[i]];
                table_cos[i] = static_cast<float>(c);
                table_sin[i] = static_cast<float>(s);
                even[i] += (r + l) * c;
                odd[i] += (r - l) * s;
                const int next = angle[i] + step[i];
                angle[i] = next < period ? next : next - period;
            }
        }
        for (int i = 0; i < width; ++i) {
            taper_even[b + i] = static_cast<float>(even[i]);
            taper_odd[b + i] = static_cast<float>(odd[i]);
        }
    }
}

// Overlapping windows.

constexpr int most = 256;                  // windows whose DFT is in memory at a time
constexpr int ahead = 4;                   // windows that are finished while their DFT is in the first-level cache
constexpr int wide = lanes == 16 ? 13 : 6; // bins whose sums fit into registers

// The bins whose DFT is needed: the bands' and both neighbours of each. One below 0 or above n / 2 is like any other.
template <class Each> int neighbourhood(const OverlappingBandPower& job, const Each& each) {
    int count = 0, last = -2;
    for (int b = 0; b < job.n_bins; ++b)
        for (int bin = job.bins[b] - 1; bin <= job.bins[b] + 1; ++bin)
            if (bin > last) each(count++, last = bin);
    return count;
}

// Calls with.operator()<W>(first) for groups of W of `count` bins, as few and as equal as can be.
template <int W, class With> void group_of(int size, int first, const With& with) {
    if (size == W)
        with.template operator()<W>(first);
    else if constexpr (W > 1)
        group_of<W - 1>(size, first, with);
}
template <class With> void in_groups(int count, const With& with) {
    int first = 0;
    for (int groups = (count + wide - 1) / wide; groups > 0; --groups) {
        const int size = (count - first + groups - 1) / groups;
        group_of<wide>(size, first, with);
        first += size;
    }
}

// What lies where in the table and in the scratch memory, in floats. A DFT is (bin, re and im, lane).
//
// The samples of a segment lie j * step + m from its centre, with |m| <= step / 2. Where there is more than one step to
// a segment, bins whose phases agree at all multiples of the step, but for the sign, are a class: they take the same
// sums over j, and only those over m are their own.
struct OverlappingLayout {
    int count = 0;                     // of a DFT's bins
    int constants[2], n_constants = 0; // those that a constant changes: bin 0, which is bin n as well
    int segments, step, steps, period; // segments of a window, samples of a step, steps of a segment and of a window
    int half, classes, parts;          // of a step; of bins; sums of each class
    int batch;                         // windows whose DFT is in memory
    std::ptrdiff_t ones, turns, waves, signs, places, ends, circle, table_size;
    std::ptrdiff_t dft, offsets, tile, pairs, folded, shares, dfts, running, power, centres, ranges, size;

    explicit OverlappingLayout(const OverlappingBandPower& job) {
        count = neighbourhood(job, [&](int place, int bin) {
            if (bin % job.window == 0) constants[n_constants++] = place;
        });
        segments = job.window / job.segment;
        step = job.segment;
        // The step that takes least; the sums of classes have short loops and cost about three times as much. Like the
        // segment it is odd or even, so that m and -m meet.
        double least = static_cast<double>(count) * step;
        for (int i = 2 - job.segment % 2; i <= 1024 && i < job.segment; i += 2)
            if (job.segment % i == 0) {
                const double sums = (job.window / i / 2 + 1.0) * (job.segment / i / 2 + 1.0);
                const double all = 2.0 * i * (count + 3 * sums);
                if (all < least) least = all, step = i;
            }
        steps = job.segment / step;
        period = job.window / step;
        half = (step + 1) / 2;
        classes = steps > 1 ? period / 2 + 1 : 1;
        parts = steps > 1 ? 4 : 2;
        batch = segments < most ? segments : most;

        const std::ptrdiff_t both = 2 * static_cast<std::ptrdiff_t>(count);
        const bool shared = job.segment > 1;
        ones = 0;
        turns = ones + both * segments;
        waves = turns + shared * both * segments;
        signs = waves + shared * both * half;
        places = signs + count;
        ends = places + count;
        circle = ends + classes;
        table_size = circle + 4 * static_cast<std::ptrdiff_t>(job.window);

        dft = both * lanes;
        offsets = 0;
        tile = offsets + (2 * static_cast<std::ptrdiff_t>(segments) + lanes) * lanes;
        pairs = tile + shared * (static_cast<std::ptrdiff_t>(job.segment) + lanes) * lanes;
        folded = pairs + 4 * (steps / 2 + 1) * static_cast<std::ptrdiff_t>(lanes);
        shares = folded + shared * parts * classes * static_cast<std::ptrdiff_t>(half) * lanes;
        dfts = shares + shared * 2 * segments * dft;
        running = dfts + batch * dft;
        power = running + dft;
        centres = power + static_cast<std::ptrdiff_t>(job.n_bins) * lanes;
        ranges = centres + padded(job.n_bins);
        size = ranges + padded(2 * static_cast<std::ptrdiff_t>(job.n_bands));
    }

    // The class of a bin, and what the bin is to have the class's phases and not their negatives.
    struct Phases {
        int which, bin, sign;
    };
    Phases phases(int bin, int window) const {
        const int own = (bin + window) % window, rest = own % period;
        if (classes == 1) return {0, own, 1};
        if (2 * rest <= period) return {rest, own, 1};
        return {period - rest, window - own, -1};
    }
};

#ifdef MMME_VECTOR
// Within each four lanes the lower (from 0) or upper (from 2) two of a and b in turns; or those of a, then those of b.
template <int from, int... I> MMME_INLINE Vec in_turns(Vec a, Vec b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 4 * 4 + from + I % 4 / 2 + I % 2 * lanes)...);
}
template <int from, int... I> MMME_INLINE Vec in_pairs(Vec a, Vec b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 4 * 4 + from + I % 2 + I % 4 / 2 * lanes)...);
}
// Every other four lanes of a, then of b.
template <int from, int... I> MMME_INLINE Vec every_other(Vec a, Vec b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 4 * 8 + from + I % 4)...);
}
// What each CPU does in one instruction without a table of indices: squares of four, then squares of squares.
MMME_INLINE void transpose(Vec (&v)[lanes]) {
    constexpr auto all = std::make_integer_sequence<int, lanes>();
    Vec w[lanes];
    MMME_UNROLL
    for (int i = 0; i < lanes; i += 4) {
        const Vec a = in_turns<0>(v[i], v[i + 1], all), b = in_turns<2>(v[i], v[i + 1], all);
        const Vec c = in_turns<0>(v[i + 2], v[i + 3], all), d = in_turns<2>(v[i + 2], v[i + 3], all);
        w[i] = in_pairs<0>(a, c, all), w[i + 1] = in_pairs<2>(a, c, all);
        w[i + 2] = in_pairs<0>(b, d, all), w[i + 3] = in_pairs<2>(b, d, all);
    }
    // w[4 i + k] has rows 4 i.. of columns k, 4 + k, ...
    MMME_UNROLL
    for (int k = 0; k < 4; ++k) {
        if constexpr (lanes == 4) {
            v[k] = w[k];
        } else if constexpr (lanes == 8) {
            v[k] = every_other<0>(w[k], w[4 + k], all);
            v[4 + k] = every_other<4>(w[k], w[4 + k], all);
        } else {
            const Vec a = every_other<0>(w[k], w[4 + k], all), b = every_other<4>(w[k], w[4 + k], all);
            const Vec c = every_other<0>(w[8 + k], w[12 + k], all), d = every_other<4>(w[8 + k], w[12 + k], all);
            v[k] = every_other<0>(a, c, all), v[4 + k] = every_other<0>(b, d, all);
            v[8 + k] = every_other<4>(a, c, all), v[12 + k] = every_other<4>(b, d, all);
        }
    }
}
#else
MMME_INLINE void transpose(Vec (&)[lanes]) {}
#endif

// The channels of a group; spare lanes repeat the last one.
template <class T> struct Group {
    const T* channels[lanes];
    int used;

    Group(const OverlappingBandPower& job, std::ptrdiff_t group) {
        const std::ptrdiff_t left = job.channels - group * lanes;
        used = static_cast<int>(left < lanes ? left : lanes);
        for (int l = 0; l < lanes; ++l)
            channels[l] =
                static_cast<const T*>(job.data) + (group * lanes + (l < used ? l : used - 1)) * job.channel_stride;
    }
};

// Samples begin..end, less those at `reference`, as (sample, lane); up to `lanes` samples more are written. Of what is
// read all lies in low..high.
template <class T>
void gather(const Group<T>& group, std::ptrdiff_t reference, std::ptrdiff_t begin, std::ptrdiff_t end,
            std::ptrdiff_t low, std::ptrdiff_t high, float* to) {
    if (high - low < lanes) {
        for (std::ptrdiff_t t = begin; t < end; ++t, to += lanes)
            for (int c = 0; c < lanes; ++c)
                to[c] = static_cast<float>(group.channels[c][t] - group.channels[c][reference]);
        return;
    }
    for (std::ptrdiff_t t = begin; t < end; t += lanes, to += lanes * lanes) {
        const std::ptrdiff_t at = t + lanes <= high ? t : high - lanes;
        alignas(64) float block[lanes][lanes];
        for (int c = 0; c < lanes; ++c) {
            const T* MMME_RESTRICT from = group.channels[c] + at;
            const T less = group.channels[c][reference];
            MMME_LANES
            for (int l = 0; l < lanes; ++l) block[c][l] = static_cast<float>(from[l] - less);
        }
        Vec v[lanes];
        MMME_UNROLL
        for (int c = 0; c < lanes; ++c) v[c] = load(block[c]);
        transpose(v);
        float* rows_of = to - (t - at) * lanes;
        if (at == t) {
            MMME_UNROLL
            for (int l = 0; l < lanes; ++l) store(rows_of + l * lanes, v[l]);
        } else {
            for (int l = 0; l < lanes; ++l) store(block[l], v[l]);
            for (int l = static_cast<int>(t - at); l < lanes; ++l) store(rows_of + l * lanes, load(block[l]));
        }
    }
}

// DFT of a segment from its folded samples (m, part, lane) and waves (m, bin, cos and sin about its centre), turned by
// (bin, cos and -sin) to phases that count from the anchor.
template <int W, bool stepped>
void segment_dft(const float* folded, int half, const float* waves, const float* turn, const float* signs,
                 const std::int32_t* places, float* dft) {
    constexpr int parts = stepped ? 4 : 2;
    Vec sums[2 * W] = {};
    for (int m = 0; m < half; ++m, folded += parts * lanes, waves += 2 * W) {
        MMME_UNROLL
        for (int w = 0; w < W; ++w) {
            sums[2 * w] += waves[2 * w] * load(folded);
            sums[2 * w + 1] += waves[2 * w + 1] * load(folded + lanes);
            if constexpr (stepped) {
                sums[2 * w] += waves[2 * w + 1] * load(folded + 2 * lanes);
                sums[2 * w + 1] += waves[2 * w] * load(folded + 3 * lanes);
            }
        }
    }
    MMME_UNROLL
    for (int w = 0; w < W; ++w) {
        const float c = turn[2 * w], s = turn[2 * w + 1];
        float* to = dft + places[w] * 2 * static_cast<std::ptrdiff_t>(lanes);
        store(to, c * sums[2 * w] + s * sums[2 * w + 1]);
        store(to + lanes, signs[w] * (s * sums[2 * w] - c * sums[2 * w + 1]));
    }
}

// Folds a segment (sample, lane) about its centre, and where it has several steps each class's sums over them.
void fold_segment(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, const float* tile,
                  float* pairs, float* folded) {
    const int last = job.segment - 1;
    // The sum and the difference of the samples that lie `twice` / 2 after and before the centre.
    const auto sum = [&](int twice) {
        const Vec r = load(tile + (last + twice) / 2 * lanes), l = load(tile + (last - twice) / 2 * lanes);
        return twice ? r + l : r;
    };
    const auto difference = [&](int twice) {
        return load(tile + (last + twice) / 2 * lanes) - load(tile + (last - twice) / 2 * lanes);
    };
    for (int i = 0; i < at.half; ++i) {
        const int m = 2 * i + (at.step % 2 == 0);
        float* to = folded + i * at.parts * lanes;
        if (at.steps == 1) {
            store(to, sum(m));
            store(to + lanes, difference(m));
            continue;
        }
        for (int j = 0; j <= at.steps / 2; ++j) {
            const int ahead_of = 2 * j * at.step + m, behind = 2 * j * at.step - m;
            Vec a = {}, b = {}, p = {}, q = {};
            if (ahead_of <= last) a = sum(ahead_of), p = difference(ahead_of);
            if (j > 0 && m > 0) b = sum(behind), q = difference(behind);
            float* pair = pairs + 4 * j * lanes;
            store(pair, a + b);
            store(pair + lanes, p - q);
            store(pair + 2 * lanes, b - a);
            store(pair + 3 * lanes, p + q);
        }
        for (int which = 0; which < at.classes; ++which, to += at.half * at.parts * lanes) {
            Vec sums[4] = {};
            for (int j = 0, angle = 0; j <= at.steps / 2; ++j) {
                const float* wave = table + at.circle + 4 * static_cast<std::ptrdiff_t>(angle) * at.step;
                const float* pair = pairs + 4 * j * lanes;
                sums[0] += wave[0] * load(pair);
                sums[1] += wave[0] * load(pair + lanes);
                sums[2] += wave[1] * load(pair + 2 * lanes);
                sums[3] += wave[1] * load(pair + 3 * lanes);
                angle += angle < at.period - which ? which : which - at.period;
            }
            store(to, sums[0]);
            store(to + lanes, sums[1]);
            store(to + 2 * lanes, Vec{} - sums[2]); // the circle has -sin
            store(to + 3 * lanes, Vec{} - sums[3]);
        }
    }
}

// DFT of the segment that begins at sample `begin` and is the j-th of its n samples, less its first sample, so that a
// large offset costs no digits.
template <class T>
void share(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, const Group<T>& group,
           std::ptrdiff_t begin, int j, std::ptrdiff_t low, std::ptrdiff_t high, float* scratch, float* dft) {
    float* folded = scratch + at.folded;
    gather(group, begin, begin, begin + job.segment, low, high, scratch + at.tile);
    fold_segment(job, at, table, scratch + at.tile, scratch + at.pairs, folded);
    const std::int32_t* places = reinterpret_cast<const std::int32_t*>(table + at.places);
    const std::int32_t* ends = reinterpret_cast<const std::int32_t*>(table + at.ends);
    for (int which = 0, begins = 0; which < at.classes; begins = ends[which++]) {
        in_groups(ends[which] - begins, [&]<int W>(int first) {
            const std::ptrdiff_t own = begins + first;
            const auto run = at.steps > 1 ? segment_dft<W, true> : segment_dft<W, false>;
            run(folded + static_cast<std::ptrdiff_t>(which) * at.half * at.parts * lanes, at.half,
                table + at.waves + 2 * own * at.half, table + at.turns + 2 * own * at.segments + 2 * W * j,
                table + at.signs + own, places + own, dft);
        });
    }
}

// Sums over segments, on from number `from` or back from it: of the segments' own DFT, where they have one (shared),
// and of their offset times the DFT of ones. At every stop the sums so far become its DFT, or on the way on are added
// to it. They are added up segment by segment, so that no stop matters to the others.
template <int W, bool back, bool shared>
void sweep(const float* offsets, const float* shares, std::ptrdiff_t stride, const float* ones, int from,
           const int* stops, int count, float* running, float* dfts) {
    Vec sums[2 * W];
    MMME_UNROLL
    for (int w = 0; w < 2 * W; ++w) sums[w] = load(running + w * lanes);
    std::ptrdiff_t t = from;
    for (int i = back ? count - 1 : 0; back ? i >= 0 : i < count; i += back ? -1 : 1) {
        for (; t != stops[i]; t += back ? -1 : 1) {
            const std::ptrdiff_t at = back ? t - 1 : t;
            const Vec offset = load(offsets + at * lanes);
            const float* row = ones + at * 2 * W;
            const float* own = shares + at * stride;
            MMME_UNROLL
            for (int w = 0; w < W; ++w) {
                const Vec re = row[2 * w] * offset, im = row[2 * w + 1] * offset;
                sums[2 * w] += shared ? re + load(own + 2 * w * lanes) : re;
                sums[2 * w + 1] += shared ? im + load(own + (2 * w + 1) * lanes) : im;
            }
        }
        float* dft = dfts + i * stride;
        MMME_UNROLL
        for (int w = 0; w < 2 * W; ++w) store(dft + w * lanes, back ? sums[w] : load(dft + w * lanes) + sums[w]);
    }
    MMME_UNROLL
    for (int w = 0; w < 2 * W; ++w) store(running + w * lanes, sums[w]);
}

// |DFT of the tapered window|^2 of the bands' bins, from the window's DFT without a taper; phase: (cos, -sin) of where
// the window starts, as the taper does.
void powers(const OverlappingBandPower& job, const float* phase, const float* dft, const std::int32_t* centres,
            float* MMME_RESTRICT power) {
    const float a = static_cast<float>(job.a), c = static_cast<float>(job.b / 2) * phase[0],
                s = static_cast<float>(job.b / 2) * -phase[1];
    for (int b = 0; b < job.n_bins; ++b, power += lanes) {
        const float* at = dft + centres[b] * 2 * static_cast<std::ptrdiff_t>(lanes);
        const Vec left_re = load(at - 2 * lanes), left_im = load(at - lanes);
        const Vec right_re = load(at + 2 * lanes), right_im = load(at + 3 * lanes);
        const Vec re = a * load(at) - c * (right_re + left_re) + s * (right_im - left_im);
        const Vec im = a * load(at + lanes) - c * (right_im + left_im) - s * (right_re - left_re);
        store(power, re * re + im * im);
    }
}

// The windows `begin`..`end` in the order of their starts, which have one anchor. Segments up to `known` have their
// DFT.
template <class T>
void anchored(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, float* out,
              std::ptrdiff_t group, std::ptrdiff_t begin, std::ptrdiff_t end, std::ptrdiff_t anchor,
              std::ptrdiff_t& known, float* scratch) {
    const int n = job.window, count = static_cast<int>(end - begin);
    const Group<T> own(job, group);
    const std::ptrdiff_t low = job.starts[job.order[begin]], high = job.starts[job.order[end - 1]] + n;
    float* offsets = scratch + at.offsets;
    float* dfts = scratch + at.dfts;
    float* running = scratch + at.running;
    float* power = scratch + at.power;
    const std::int32_t* centres = reinterpret_cast<const std::int32_t*>(scratch + at.centres);
    const std::int32_t* ranges = reinterpret_cast<const std::int32_t*>(scratch + at.ranges);

    int stops[most]; // segments before the window's start behind the anchor, and before its end ahead of it
    for (int i = 0; i < count; ++i)
        stops[i] = static_cast<int>(job.starts[job.order[begin + i]] - anchor + n) / job.segment;

    // The n samples behind the anchor and those ahead of it take turns in two places.
    const std::ptrdiff_t number = (anchor + job.first) / n;
    const auto block = [&](std::ptrdiff_t which) { return scratch + at.shares + which % 2 * at.segments * at.dft; };
    if (job.segment > 1)
        for (known = known > low ? known : low; known < high; known += job.segment) {
            const int ahead_of = known >= anchor;
            const int j = static_cast<int>(known - anchor + (ahead_of ? 0 : n)) / job.segment;
            share(job, at, table, own, known, j, low, high, scratch, block(number + ahead_of) + j * at.dft);
        }

    // A constant changes no bin but 0. Less the sample at the anchor, which every window holds, a large offset costs no
    // digits.
    if (job.segment == 1)
        gather(own, anchor, low, high, low, high, offsets);
    else
        for (std::ptrdiff_t t = low, i = 0; t < high; t += job.segment)
            for (int l = 0; l < lanes; ++l)
                offsets[i++] = static_cast<float>(own.channels[l][t] - own.channels[l][anchor]);
    alignas(64) float constant[lanes];
    for (int l = 0; l < lanes; ++l) constant[l] = static_cast<float>(static_cast<double>(own.channels[l][anchor]) * n);
    const float* before = offsets - static_cast<std::ptrdiff_t>(stops[0]) * lanes;
    const float* after = before + static_cast<std::ptrdiff_t>(at.segments) * lanes;

    const auto run = [&]<bool shared>() {
        for (std::ptrdiff_t i = 0; i < at.dft; ++i) running[i] = 0;
        in_groups(at.count, [&]<int W>(int first) {
            const std::ptrdiff_t from = 2 * static_cast<std::ptrdiff_t>(first);
            sweep<W, true, shared>(before, block(number) + from * lanes, at.dft, table + at.ones + from * at.segments,
                                   at.segments, stops, count, running + from * lanes, dfts + from * lanes);
        });
        for (std::ptrdiff_t i = 0; i < at.dft; ++i) running[i] = 0;
        for (int next = 0, row = 0; next < count; next += ahead) {
            const int some = count - next < ahead ? count - next : ahead;
            float* dft = dfts + next * at.dft;
            in_groups(at.count, [&]<int W>(int first) {
                const std::ptrdiff_t from = 2 * static_cast<std::ptrdiff_t>(first);
                sweep<W, false, shared>(after, block(number + 1) + from * lanes, at.dft,
                                        table + at.ones + from * at.segments, row, stops + next, some,
                                        running + from * lanes, dft + from * lanes);
            });
            row = stops[next + some - 1];
            for (int i = next; i < next + some; ++i, dft += at.dft) {
                for (int c = 0; c < at.n_constants; ++c) {
                    float* zero = dft + at.constants[c] * 2 * static_cast<std::ptrdiff_t>(lanes);
                    store(zero, job.detrend ? Vec{} : load(zero) + load(constant));
                    if (job.detrend) store(zero + lanes, Vec{});
                }
                powers(job, table + at.circle + 4 * static_cast<std::ptrdiff_t>(stops[i] % at.segments) * job.segment,
                       dft, centres, power);
                float* to = out + (job.order[begin + i] * job.channels + group * lanes) * job.n_bands;
                for (int k = 0; k < job.n_bands; ++k) {
                    const float* weights = job.weights + k * job.weights_stride;
                    Vec total = {};
                    for (int b = ranges[2 * k]; b < ranges[2 * k + 1]; ++b)
                        total += weights[b] * load(power + b * static_cast<std::ptrdiff_t>(lanes));
                    alignas(64) float values[lanes];
                    store(values, total);
                    for (int l = 0; l < own.used; ++l) {
                        float& value = to[l * static_cast<std::ptrdiff_t>(job.n_bands) + k];
                        value = job.add ? value + values[l] : values[l];
                    }
                }
            }
        }
    };
    if (job.segment == 1)
        run.template operator()<false>();
    else
        run.template operator()<true>();
}

} // namespace

std::size_t band_power_scratch(const BandPower& job) {
    return static_cast<std::size_t>(Layout(job).size);
}

void band_power(const BandPower& job, float* out, std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch) {
    const Layout at(job);
    double* cosines = reinterpret_cast<double*>(scratch + at.cosines);
    double* sines = reinterpret_cast<double*>(scratch + at.sines);
    for (int j = 0; j < 2 * job.nfft; ++j) { // half steps, as the centre of an even window lies between two samples
        cosines[j] = std::cos(pi * j / job.nfft);
        sines[j] = std::sin(pi * j / job.nfft);
    }
    float* weights = scratch + at.weights;
    const std::ptrdiff_t last_row = end * job.channels;

    for (int first = 0; first < job.n_bins; first += panel) {
        const int bins = job.n_bins - first < panel ? job.n_bins - first : panel;
        const int used = (bins + lanes - 1) / lanes;
        float taper_even[panel], taper_odd[panel];
        fill_tables(job, job.bins + first, bins, cosines, sines, scratch + at.table_cos, scratch + at.table_sin,
                    taper_even, taper_odd);
        for (int k = 0; k < job.n_bands; ++k)
            for (int b = 0; b < panel; ++b)
                weights[k * panel + b] =
                    b < bins ? job.weights[k * static_cast<std::ptrdiff_t>(job.n_bins) + first + b] : 0.0f;

        for (std::ptrdiff_t row = begin * job.channels; row < last_row; row += rows) {
            const int count = static_cast<int>(last_row - row < rows ? last_row - row : rows);
            float constants[rows]; // what is still to be added to the samples that were folded
            for (int r = 0; r < rows; ++r) {
                const std::ptrdiff_t own = row + (r < count ? r : count - 1); // spare rows repeat the last
                const std::ptrdiff_t from = own % job.channels * job.channel_stride +
                                            static_cast<std::ptrdiff_t>(job.starts[own / job.channels]);
                // The mean as float goes first, so that a large offset costs no digits; its rounding error follows.
                const auto centre = [&](auto* samples) {
                    const double mean = total(samples, job.window) / job.window;
                    const float near_mean = static_cast<float>(mean);
                    constants[r] = job.detrend ? static_cast<float>(static_cast<double>(near_mean) - mean) : near_mean;
                    fold(samples, {near_mean}, job.taper, job.window, scratch + at.even + r * at.stride,
                         scratch + at.odd + r * at.stride);
                };
                if (job.float64)
                    centre(static_cast<const double*>(job.data) + from);
                else
                    centre(static_cast<const float*>(job.data) + from);
            }
            float* even = scratch + at.even_dft;
            float* odd = scratch + at.odd_dft;
            dft_of(scratch + at.even, at.stride, scratch + at.table_cos, at.half, used, even);
            dft_of(scratch + at.odd, at.stride, scratch + at.table_sin, at.half, used, odd);
            for (int r = 0; r < count; ++r, even += panel, odd += panel) {
                Vec power[panel / lanes];
                for (int v = 0; v < used; ++v) {
                    const Vec re = load(even + v * lanes) + constants[r] * load(taper_even + v * lanes);
                    const Vec im = load(odd + v * lanes) + constants[r] * load(taper_odd + v * lanes);
                    power[v] = re * re + im * im;
                }
                float* to = out + (row + r) * job.n_bands;
                for (int k = 0; k < job.n_bands; ++k) {
                    Vec weighted = load(weights + k * panel) * power[0];
                    for (int v = 1; v < used; ++v) weighted += load(weights + k * panel + v * lanes) * power[v];
                    to[k] = first ? to[k] + sum(weighted) : sum(weighted);
                }
            }
        }
    }
}

std::size_t overlapping_table(const OverlappingBandPower& job) {
    return static_cast<std::size_t>(OverlappingLayout(job).table_size);
}

// The DFT of ones over every segment of a window, for each group of bins and of each of its bins; where segments have a
// DFT of their own, the turns and waves that segment_dft() takes, for the bins by their classes; and (cos, -sin) of
// pi i / n, for i < 2 n.
void overlapping_fill(const OverlappingBandPower& job, float* table) {
    const OverlappingLayout at(job);
    const int n = job.window, segment = job.segment;
    float* circle = table + at.circle;
    for (int i = 0; i <= n; ++i) {
        const int mirrored = i ? 2 * n - i : 0;
        circle[2 * mirrored] = circle[2 * i] = static_cast<float>(std::cos(pi * i / n));
        circle[2 * mirrored + 1] = static_cast<float>(std::sin(pi * i / n));
        circle[2 * i + 1] = -circle[2 * mirrored + 1];
    }
    // Rows `width` pairs apart of cosines and sines of an angle that starts at `angle` and grows by `step`, in
    // pi bin / n.
    const auto fill = [&](float* to, int rows_of, int width, int bin, int angle, int step, float cosine, float sine) {
        const auto index = [&](int turns) {
            return static_cast<int>(static_cast<std::int64_t>(bin) * turns % (2 * n));
        };
        const int turn = index(step);
        for (int row = 0, i = index(angle); row < rows_of; ++row, to += 2 * width) {
            to[0] = cosine * circle[2 * i];
            to[1] = sine * circle[2 * i + 1];
            i += i < 2 * n - turn ? turn : turn - 2 * n;
        }
    };
    neighbourhood(job, [&](int place, int signed_bin) {
        in_groups(at.count, [&]<int W>(int first) {
            if (place < first || place >= first + W) return;
            const int bin = (signed_bin + n) % n;
            const double x = pi * bin / n;
            const float one =
                bin ? static_cast<float>(std::sin(x * segment) / std::sin(x)) : static_cast<float>(segment);
            fill(table + at.ones + 2 * (static_cast<std::ptrdiff_t>(first) * at.segments + place - first), at.segments,
                 W, bin, segment - 1, 2 * segment, one, one);
        });
    });
    if (segment == 1) return;
    std::int32_t* places = reinterpret_cast<std::int32_t*>(table + at.places);
    std::int32_t* ends = reinterpret_cast<std::int32_t*>(table + at.ends);
    for (int which = 0, end = 0; which < at.classes; ++which) {
        const int begin = end;
        neighbourhood(job, [&](int place, int bin) {
            if (at.phases(bin, n).which == which) places[end++] = place;
        });
        ends[which] = end;
        neighbourhood(job, [&](int place, int bin) {
            const OverlappingLayout::Phases own = at.phases(bin, n);
            if (own.which != which) return;
            in_groups(end - begin, [&]<int W>(int first) {
                for (int w = 0; w < W; ++w) {
                    const std::ptrdiff_t group = begin + first;
                    if (places[group + w] != place) continue;
                    table[at.signs + group + w] = static_cast<float>(own.sign);
                    fill(table + at.turns + 2 * (group * at.segments + w), at.segments, W, own.bin, segment - 1,
                         2 * segment, 1, 1);
                    fill(table + at.waves + 2 * (group * at.half + w), at.half, W, own.bin, at.step % 2 == 0, 2, 1, -1);
                }
            });
        });
    }
}

std::size_t overlapping_scratch(const OverlappingBandPower& job) {
    return static_cast<std::size_t>(OverlappingLayout(job).size);
}

void overlapping_band_power(const OverlappingBandPower& job, const float* table, float* out, std::ptrdiff_t group,
                            std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch) {
    const OverlappingLayout at(job);
    std::int32_t* centres = reinterpret_cast<std::int32_t*>(scratch + at.centres);
    int b = 0;
    neighbourhood(job, [&](int place, int bin) {
        if (b < job.n_bins && bin == job.bins[b]) centres[b++] = place;
    });
    std::int32_t* ranges =
        reinterpret_cast<std::int32_t*>(scratch + at.ranges); // of each band's weights that are not 0
    for (int k = 0; k < job.n_bands; ++k) {
        const float* weights = job.weights + k * job.weights_stride;
        int low = 0, high = job.n_bins;
        while (low < high && weights[low] == 0) ++low;
        while (low < high && weights[high - 1] == 0) --high;
        ranges[2 * k] = low;
        ranges[2 * k + 1] = high;
    }
    const auto start = [&](std::ptrdiff_t i) { return job.starts[job.order[i]]; };
    std::ptrdiff_t known = 0;
    while (begin < end) {
        const std::int64_t own = start(begin) + job.first;
        const std::ptrdiff_t anchor = (own + job.window - 1) / job.window * job.window - job.first;
        std::ptrdiff_t last = begin + 1;
        while (last < end && last - begin < at.batch && start(last) <= anchor) ++last;
        if (job.float64)
            anchored<double>(job, at, table, out, group, begin, last, anchor, known, scratch);
        else
            anchored<float>(job, at, table, out, group, begin, last, anchor, known, scratch);
        begin = last;
    }
}

} // namespace mmme::MMME_ISA
