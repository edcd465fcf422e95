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

constexpr int most = 256;                     // windows whose sums are in memory at a time where there are no cuts
constexpr int wide = lanes == 16 ? 13 : 6;    // bins whose sums fit into registers
constexpr int together = lanes == 16 ? 4 : 2; // classes of bins likewise
constexpr int levels = 32;                    // references on one side of an anchor, at most

// The bins whose DFT is needed: the bands' and both neighbours of each. One below 0 or above n / 2 is like any other.
template <class Each> int neighbourhood(const OverlappingBandPower& job, const Each& each) {
    int count = 0, last = -2;
    for (int b = 0; b < job.n_bins; ++b)
        for (int bin = job.bins[b] - 1; bin <= job.bins[b] + 1; ++bin)
            if (bin > last) each(count++, last = bin);
    return count;
}

// Calls with.operator()<W>(first) for groups of W of `count`, W at most `largest`, as few and as equal as can be.
template <int W, class With> void group_of(int size, int first, const With& with) {
    if (size == W)
        with.template operator()<W>(first);
    else if constexpr (W > 1)
        group_of<W - 1>(size, first, with);
}
template <int largest = wide, class With> void in_groups(int count, const With& with) {
    int first = 0;
    for (int groups = (count + largest - 1) / largest; groups > 0; --groups) {
        const int size = (count - first + groups - 1) / groups;
        group_of<largest>(size, first, with);
        first += size;
    }
}

// The sums on one side of an anchor are of samples less a reference, that of the first segment. A segment that makes
// them at least twice as long as what their reference is of moves it to all samples so far and its own.
struct Moves {
    int after[levels + 1] = {0, never}; // so many segments the i-th begins
    static constexpr int never = 1 << 30;

    // lengths(j): samples of the first j segments.
    template <class Lengths> void fill(int segments, const Lengths& lengths) {
        int count = 1;
        for (int j = 1, of = lengths(1); j < segments; ++j)
            if (lengths(j + 1) >= 2 * static_cast<std::int64_t>(of)) after[count++] = j, of = lengths(j + 1);
        after[count] = never;
    }
    int of(int taken) const { // the reference of the sums of so many segments
        int i = 0;
        while (after[i + 1] < taken) ++i;
        return i;
    }
};

// What lies where in the table and in the scratch memory, in floats. A DFT is (bin, re and im, lane).
//
// The samples of a segment lie j * step + m from its centre, with |m| <= step / 2. Where there is more than one step to
// a segment, bins whose phases agree at all multiples of the step, but for the sign, are a class: they take the same
// sums over j, and only those over m are their own.
struct OverlappingLayout {
    int count = 0;                               // of a DFT's bins
    int constants[2], n_constants = 0;           // those that a constant changes: bin 0, which is bin n as well
    int segments, longest;                       // of a window; samples of the longest
    int step, steps, period;                     // samples of a step, steps of a segment and of a window
    int half[2] = {}, most_half, classes, parts; // of even and odd segments, or of a step; of bins; sums of each class
    Moves back, on;                              // of the reference on both sides of an anchor
    int slots;                                   // DFTs in memory: of each segment, or of so many windows
    std::ptrdiff_t ones, rests, turns, waves[2], places, ends, circle, table_size;
    std::ptrdiff_t dft, offsets, moves, closings, tile, pairs, folded, dfts, running, power, centres, ranges,
        references, size;

    explicit OverlappingLayout(const OverlappingBandPower& job) {
        count = neighbourhood(job, [&](int place, int bin) {
            if (bin % job.window == 0) constants[n_constants++] = place;
        });
        const bool shared = job.n_cuts > 0;
        segments = shared ? job.n_cuts : job.window;
        longest = 1;
        bool equal = shared;
        for (int j = 0; shared && j < segments; ++j) {
            const int own = length(job, j), rows_of = (own + 1) / 2;
            if (own > longest) longest = own;
            if (rows_of > half[own % 2]) half[own % 2] = rows_of;
            equal = equal && own == length(job, 0);
        }
        // The step that takes least, where all segments are alike; the sums of classes cost half as much again. Like
        // the segment it is odd or even, so that m and -m meet.
        step = longest;
        double least = static_cast<double>(count) * step;
        for (int i = 2 - longest % 2; equal && i <= 1024 && i < longest; i += 2)
            if (longest % i == 0) {
                const double sums = (job.window / i / 2 + 1.0) * (longest / i / 2 + 1.0);
                const double all = 2.0 * i * (count + 1.5 * sums);
                if (all < least) least = all, step = i;
            }
        steps = longest / step;
        if (steps > 1) half[step % 2] = (step + 1) / 2;
        most_half = half[0] > half[1] ? half[0] : half[1];
        period = job.window / step;
        classes = steps > 1 ? period / 2 + 1 : 1;
        parts = steps > 1 ? 4 : 2;
        slots = shared ? segments : most;
        back.fill(segments, [&](int j) { return job.window - edge(job, segments - j); });
        on.fill(segments, [&](int j) { return edge(job, j); });

        const std::ptrdiff_t both = 2 * static_cast<std::ptrdiff_t>(count);
        ones = 0;
        rests = ones + both * segments;
        turns = rests + both * (segments + 1);
        waves[0] = turns + shared * 2 * both * segments;
        waves[1] = waves[0] + both * half[0];
        places = waves[1] + both * half[1];
        ends = places + count;
        circle = ends + classes;
        table_size = circle + 4 * static_cast<std::ptrdiff_t>(job.window);

        dft = both * lanes;
        offsets = 0;
        moves = offsets + (2 * static_cast<std::ptrdiff_t>(segments) + lanes) * lanes;
        closings = moves + levels * lanes;
        tile = closings + slots * static_cast<std::ptrdiff_t>(lanes);
        pairs = tile + (static_cast<std::ptrdiff_t>(longest) + lanes) * lanes;
        folded = pairs + 4 * (steps / 2 + 1) * static_cast<std::ptrdiff_t>(lanes);
        dfts = folded + parts * classes * static_cast<std::ptrdiff_t>(most_half) * lanes;
        running = dfts + (slots + 1) * dft;
        power = running + dft;
        centres = power + static_cast<std::ptrdiff_t>(job.n_bins) * lanes;
        ranges = centres + padded(job.n_bins);
        references = padded(ranges + 2 * static_cast<std::ptrdiff_t>(job.n_bands));
        size = references + shared * 2 * static_cast<std::ptrdiff_t>(segments) * lanes;
    }

    // Where the j-th segment of n samples begins, and how many samples it has.
    static int cut(const OverlappingBandPower& job, int j) { return j < job.n_cuts ? job.cuts[j] : job.window; }
    static int edge(const OverlappingBandPower& job, int j) { return job.n_cuts ? cut(job, j) : j; }
    static int length(const OverlappingBandPower& job, int j) { return cut(job, j + 1) - cut(job, j); }

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

// What each lane's samples are taken less of before they become floats, so that a large offset costs no digits. Any
// value near them will do; one artefact must not draw it away. So it is the median of the means of a few samples each
// at the beginning, in the middle and at the end of a stretch.
template <class T> struct Reference {
    T of[lanes];

    void take(const Group<T>& group, std::ptrdiff_t begin, std::ptrdiff_t end) {
        const std::ptrdiff_t length = end - begin, few = length < 1792 ? 1 + length / 256 : 8;
        T first[lanes], middle[lanes], last[lanes];
        for (int l = 0; l < lanes; ++l) {
            const T* of_first = group.channels[l] + begin;
            const T* of_middle = of_first + (length - few) / 2;
            const T* of_last = of_first + (length - few);
            first[l] = of_first[0], middle[l] = of_middle[0], last[l] = of_last[0];
            for (std::ptrdiff_t i = 1; i < few; ++i)
                first[l] += of_first[i], middle[l] += of_middle[i], last[l] += of_last[i];
        }
        const T share = T(1) / static_cast<T>(few);
        for (int l = 0; l < lanes; ++l) {
            const T low = first[l] < middle[l] ? first[l] : middle[l],
                    high = first[l] < middle[l] ? middle[l] : first[l];
            const T less = high < last[l] ? high : last[l];
            of[l] = share * (low < less ? less : low);
        }
    }
    Vec less(const Reference& other) const {
        alignas(64) float difference[lanes];
        for (int l = 0; l < lanes; ++l) difference[l] = static_cast<float>(of[l] - other.of[l]);
        return load(difference);
    }
};

// Samples begin..end, less their reference, as (sample, lane); up to `lanes` samples more are written. Of what is read
// all lies in low..high.
template <class T>
void gather(const Group<T>& group, const Reference<T>& reference, std::ptrdiff_t begin, std::ptrdiff_t end,
            std::ptrdiff_t low, std::ptrdiff_t high, float* to) {
    if (high - low < lanes) {
        for (std::ptrdiff_t t = begin; t < end; ++t, to += lanes)
            for (int c = 0; c < lanes; ++c) to[c] = static_cast<float>(group.channels[c][t] - reference.of[c]);
        return;
    }
    for (std::ptrdiff_t t = begin; t < end; t += lanes, to += lanes * lanes) {
        const std::ptrdiff_t at = t + lanes <= high ? t : high - lanes;
        alignas(64) float block[lanes][lanes];
        for (int c = 0; c < lanes; ++c) {
            const T* MMME_RESTRICT from = group.channels[c] + at;
            const T less = reference.of[c];
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

// DFT of a segment from its folded samples (m, part, lane) and waves (m, bin, cos and sin about its centre), turned to
// phases that count from the anchor; turns (bin, 4): cos and -sin, the DFT of ones about the centre, and the sign of
// the bin in its class. The segment and its offset are added to the running sums.
template <int W, bool stepped>
void segment_dft(const float* folded, int half, const float* waves, const float* turns, const std::int32_t* places,
                 Vec offset, float* dft, float* running) {
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
    for (int w = 0; w < W; ++w, turns += 4) {
        const float c = turns[0], s = turns[1];
        const std::ptrdiff_t at = (stepped ? places[w] : places[0] + w) * 2 * static_cast<std::ptrdiff_t>(lanes);
        const Vec ones = turns[2] * offset, whole = sums[2 * w] + ones;
        Vec re = c * sums[2 * w] + s * sums[2 * w + 1], im = s * sums[2 * w] - c * sums[2 * w + 1];
        Vec re_with = c * whole + s * sums[2 * w + 1], im_with = s * whole - c * sums[2 * w + 1];
        if constexpr (stepped) im = turns[3] * im, im_with = turns[3] * im_with;
        store(dft + at, re);
        store(dft + at + lanes, im);
        store(running + at, load(running + at) + re_with);
        store(running + at + lanes, load(running + at + lanes) + im_with);
    }
}

// The sums of K classes over the steps of a segment, from its (step, part, lane), for one distance from the centre.
template <int K>
void class_sums(const float* pairs, int steps, const float* circle, int step, int period, int first,
                std::ptrdiff_t stride, float* to) {
    Vec sums[K][4] = {};
    int angles[K] = {};
    for (int j = 0; j <= steps / 2; ++j, pairs += 4 * lanes) {
        const Vec a = load(pairs), b = load(pairs + lanes), c = load(pairs + 2 * lanes), d = load(pairs + 3 * lanes);
        MMME_UNROLL
        for (int k = 0; k < K; ++k) {
            const float* wave = circle + 4 * static_cast<std::ptrdiff_t>(angles[k]) * step; // (cos, -sin)
            sums[k][0] += wave[0] * a;
            sums[k][1] += wave[0] * b;
            sums[k][2] -= wave[1] * c;
            sums[k][3] -= wave[1] * d;
            angles[k] += angles[k] < period - first - k ? first + k : first + k - period;
        }
    }
    MMME_UNROLL
    for (int k = 0; k < K; ++k) {
        MMME_UNROLL
        for (int part = 0; part < 4; ++part) store(to + (first + k) * stride + part * lanes, sums[k][part]);
    }
}

// Folds a segment of `length` (sample, lane) about its centre, and where it has several steps each class's sums over
// them.
void fold_segment(const OverlappingLayout& at, const float* table, const float* tile, int length, float* pairs,
                  float* folded) {
    const int last = length - 1;
    // The sum and the difference of the samples that lie `twice` / 2 after and before the centre.
    const auto sum = [&](int twice) {
        const Vec r = load(tile + (last + twice) / 2 * lanes), l = load(tile + (last - twice) / 2 * lanes);
        return twice ? r + l : r;
    };
    const auto difference = [&](int twice) {
        return load(tile + (last + twice) / 2 * lanes) - load(tile + (last - twice) / 2 * lanes);
    };
    if (at.steps == 1) {
        for (int m = length % 2 == 0; m <= last; m += 2, folded += 2 * lanes) {
            store(folded, sum(m));
            store(folded + lanes, difference(m));
        }
        return;
    }
    const int half = at.half[at.step % 2];
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(half) * 4 * lanes;
    for (int i = 0; i < half; ++i, folded += 4 * lanes) {
        const int m = 2 * i + (at.step % 2 == 0);
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
        in_groups<together>(at.classes, [&]<int K>(int first) {
            class_sums<K>(pairs, at.steps, table + at.circle, at.step, at.period, first, stride, folded);
        });
    }
}

// DFT of the segment that begins at sample `begin` and is the j-th of its n samples, less a reference of its own.
// With `offset`, which is that less the running sums' reference, it is added to them.
template <class T>
void share(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, const Group<T>& group,
           std::ptrdiff_t begin, int j, std::ptrdiff_t low, std::ptrdiff_t high, const Reference<T>& reference,
           Vec offset, float* scratch, float* dft) {
    float* folded = scratch + at.folded;
    const int length = at.length(job, j), odd = (at.steps > 1 ? at.step : length) % 2, half = at.half[odd];
    const int rows_of = at.steps > 1 ? half : (length + 1) / 2;
    gather(group, reference, begin, begin + length, low, high, scratch + at.tile);
    fold_segment(at, table, scratch + at.tile, length, scratch + at.pairs, folded);
    const std::int32_t* places = reinterpret_cast<const std::int32_t*>(table + at.places);
    const std::int32_t* ends = reinterpret_cast<const std::int32_t*>(table + at.ends);
    for (int which = 0, begins = 0; which < at.classes; begins = ends[which++]) {
        in_groups(ends[which] - begins, [&]<int W>(int first) {
            const std::ptrdiff_t own = begins + first;
            const auto run = at.steps > 1 ? segment_dft<W, true> : segment_dft<W, false>;
            run(folded + static_cast<std::ptrdiff_t>(which) * half * at.parts * lanes, rows_of,
                table + at.waves[odd] + 2 * own * half, table + at.turns + 4 * (own * at.segments + W * j),
                places + own, offset, dft, scratch + at.running);
        });
    }
}

// Sums back from the anchor of the samples, less their reference, times the DFT of ones. At every stop those so far
// become its DFT. Where there are segments (shared) each is a stop and has a DFT of its own, whose place the sums take.
// They are added up segment by segment, so that no stop matters to the others. Where the reference moves, and with the
// closing at a stop, the sums are those of samples less another one.
template <int W, bool shared>
void sweep_back(const float* offsets, const float* ones, const float* rests, const Moves& back, const float* moves,
                const float* closings, int from, const int* stops, int first, int end, std::ptrdiff_t stride,
                float* dfts) {
    Vec sums[2 * W] = {};
    const int* after = back.after + 1;
    int t = from, move = from - *after;
    const auto rest = [&](int of) { return rests + static_cast<std::ptrdiff_t>(of) * 2 * W; };
    for (int i = end; i-- > first;) {
        float* dft = dfts + i * stride;
        const int stop = shared ? i : stops[i];
        while (t > stop) {
            if (t == move) {
                const Vec by = load(moves);
                MMME_UNROLL
                for (int w = 0; w < 2 * W; ++w) sums[w] += rest(t)[w] * by;
                moves += lanes;
                move = from - *++after;
            }
            for (const int to = stop > move ? stop : move; t > to;) {
                --t;
                const Vec offset = load(offsets + static_cast<std::ptrdiff_t>(t) * lanes);
                const float* row = ones + static_cast<std::ptrdiff_t>(t) * 2 * W;
                MMME_UNROLL
                for (int w = 0; w < 2 * W; ++w) {
                    if constexpr (shared) sums[w] += load(dft + w * lanes);
                    sums[w] += row[w] * offset;
                }
            }
        }
        const Vec closing = load(closings + static_cast<std::ptrdiff_t>(i) * lanes);
        MMME_UNROLL
        for (int w = 0; w < 2 * W; ++w) store(dft + w * lanes, sums[w] + rest(t)[w] * closing);
    }
}

// The running sums go on over samples begin..end.
template <int W> void sweep_on(const float* offsets, const float* ones, int begin, int end, float* running) {
    Vec sums[2 * W];
    MMME_UNROLL
    for (int w = 0; w < 2 * W; ++w) sums[w] = load(running + w * lanes);
    for (std::ptrdiff_t t = begin; t < end; ++t) {
        const Vec offset = load(offsets + t * lanes);
        const float* row = ones + t * 2 * W;
        MMME_UNROLL
        for (int w = 0; w < 2 * W; ++w) sums[w] += row[w] * offset;
    }
    MMME_UNROLL
    for (int w = 0; w < 2 * W; ++w) store(running + w * lanes, sums[w]);
}

// Their reference moves.
template <int W> void move_on(Vec by, const float* rest, float* running) {
    MMME_UNROLL
    for (int w = 0; w < 2 * W; ++w) store(running + w * lanes, load(running + w * lanes) + rest[w] * by);
}

// |DFT of the tapered window|^2 of the bands' bins, from the sums on both sides of the anchor; phase: (cos, -sin) of
// where the window starts, as the taper does.
void powers(const OverlappingBandPower& job, const float* phase, const float* before, const float* after,
            const std::int32_t* centres, float* MMME_RESTRICT power) {
    const float a = static_cast<float>(job.a), c = static_cast<float>(job.b / 2) * phase[0],
                s = static_cast<float>(job.b / 2) * -phase[1];
    const auto sum = [&](std::ptrdiff_t i) { return load(before + i * lanes) + load(after + i * lanes); };
    for (int b = 0; b < job.n_bins;) { // each run of neighbours
        std::ptrdiff_t at = 2 * static_cast<std::ptrdiff_t>(centres[b]) - 2;
        Vec left_re = sum(at), left_im = sum(at + 1), re = sum(at + 2), im = sum(at + 3);
        do {
            const Vec right_re = sum(at + 4), right_im = sum(at + 5);
            const Vec tapered_re = a * re - c * (right_re + left_re) + s * (right_im - left_im);
            const Vec tapered_im = a * im - c * (right_im + left_im) - s * (right_re - left_re);
            store(power, tapered_re * tapered_re + tapered_im * tapered_im);
            left_re = re, left_im = im, re = right_re, im = right_im;
            at += 2, power += lanes, ++b;
        } while (b < job.n_bins && centres[b] == centres[b - 1] + 1);
    }
}

// The windows `begin`..`end` in the order of their starts, which have one anchor. Segments up to `known` have their
// DFT.
template <class T, bool shared>
void anchored(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, float* out,
              std::ptrdiff_t group, std::ptrdiff_t begin, std::ptrdiff_t end, std::ptrdiff_t anchor,
              std::ptrdiff_t& known, float* scratch) {
    const int n = job.window;
    const Group<T> own(job, group);
    const auto start = [&](std::ptrdiff_t i) { return static_cast<std::ptrdiff_t>(job.starts[job.order[i]]); };
    const std::ptrdiff_t block = anchor - n, low = start(begin), high = start(end - 1) + n;
    float* offsets = scratch + at.offsets; // of the segments before the anchor, then of those after it
    float* offsets_after = offsets + static_cast<std::ptrdiff_t>(at.segments) * lanes;
    float* dfts = scratch + at.dfts;
    float* running = scratch + at.running;
    float* power = scratch + at.power;
    const std::int32_t* centres = reinterpret_cast<const std::int32_t*>(scratch + at.centres);
    const std::int32_t* ranges = reinterpret_cast<const std::int32_t*>(scratch + at.ranges);

    // A constant changes no bin but 0, so that samples may be taken less a reference. It must be one of the window's
    // own samples, or of some of them, and the only one that all these windows hold is that at the anchor, which may be
    // an artefact. So both sides' references move on the way, and to make the two of a window one, its sums before the
    // anchor move by their difference.
    Reference<T> before_refs[levels], after_refs[levels];
    Reference<T>* references = reinterpret_cast<Reference<T>*>(scratch + at.references); // of segments with a DFT
    int stops[most], first = 0, windows = static_cast<int>(end - begin);
    const int last_place = static_cast<int>(start(end - 1) - block);
    if constexpr (shared)
        while (block + at.cut(job, first) < low) ++first;
    else
        first = static_cast<int>(low - block);
    const auto after_of = [&](int place) { // segments
        if constexpr (!shared) return place;
        int j = 0;
        while (at.cut(job, j) < place) ++j;
        return j;
    };
    const int before_last = at.back.of(at.segments - first), after_last = at.on.of(after_of(last_place));
    for (int i = 0; i <= before_last && first < at.segments; ++i)
        before_refs[i].take(own, block + at.edge(job, at.segments - 1 - at.back.after[i]), anchor);
    for (int i = 0; i <= after_last; ++i) after_refs[i].take(own, anchor, anchor + at.edge(job, at.on.after[i] + 1));
    for (int i = 0; i < before_last; ++i)
        store(scratch + at.moves + i * lanes, before_refs[i].less(before_refs[i + 1]));

    float* closings = scratch + at.closings;
    const int slots = shared ? at.segments : windows;
    for (std::ptrdiff_t i = 0; i < slots * static_cast<std::ptrdiff_t>(lanes); ++i) closings[i] = 0;
    for (int i = 0, j = 0, to = 0, from = before_last; i < windows; ++i) {
        const int place = static_cast<int>(start(begin + i) - block);
        if constexpr (shared)
            while (at.cut(job, j) < place) ++j;
        else
            j = stops[i] = place;
        while (at.on.after[to + 1] < j) ++to;
        while (from > 0 && at.back.after[from] >= at.segments - j) --from;
        if (j < at.segments)
            store(closings + (shared ? j : i) * static_cast<std::ptrdiff_t>(lanes),
                  before_refs[from].less(after_refs[to]));
    }

    if constexpr (shared) {
        windows = at.segments;
        for (int j = first, from = before_last; j < at.segments; ++j) {
            const std::ptrdiff_t t = block + job.cuts[j];
            if (t >= known) references[j].take(own, t, t + at.length(job, j));
            while (from > 0 && at.back.after[from] >= at.segments - j) --from;
            const Vec offset = references[j].less(before_refs[from]);
            store(offsets + static_cast<std::ptrdiff_t>(j) * lanes, offset);
            if (t >= known)
                share(job, at, table, own, t, j, low, high, references[j], offset, scratch, dfts + j * at.dft);
        }
        for (std::ptrdiff_t i = 0; i < at.dft; ++i) dfts[at.segments * at.dft + i] = 0; // of the window at the anchor
    } else {
        // Each gather() may write past its end what the next one writes anew.
        for (int i = before_last; i >= 0; --i) {
            const std::ptrdiff_t from = anchor - at.back.after[i + 1], begins = from < low ? low : from;
            if (first < at.segments)
                gather(own, before_refs[i], begins, anchor - at.back.after[i], low, high,
                       offsets + (begins - block) * lanes);
        }
        for (int i = 0; i <= after_last; ++i) {
            const std::ptrdiff_t from = anchor + at.on.after[i], ends = anchor + at.on.after[i + 1];
            gather(own, after_refs[i], from, ends < high ? ends : high, low, high, offsets + (from - block) * lanes);
        }
    }
    in_groups(at.count, [&]<int W>(int bin) {
        const std::ptrdiff_t from = 2 * static_cast<std::ptrdiff_t>(bin);
        sweep_back<W, shared>(offsets, table + at.ones + from * at.segments,
                              table + at.rests + from * (at.segments + 1), at.back, scratch + at.moves, closings,
                              at.segments, stops, shared ? first : 0, windows, at.dft, dfts + from * lanes);
    });

    for (std::ptrdiff_t i = 0; i < at.dft; ++i) running[i] = 0;
    if (!job.detrend)
        for (int c = 0; c < at.n_constants; ++c)
            for (int l = 0; l < lanes; ++l)
                running[at.constants[c] * 2 * lanes + l] =
                    static_cast<float>(static_cast<double>(after_refs[0].of[l]) * n);
    int j = 0, moved = 0;
    const auto move = [&] { // where it is time
        if (j != at.on.after[moved + 1]) return;
        const Vec by = after_refs[moved + 1].less(after_refs[moved]);
        ++moved;
        in_groups(at.count, [&]<int W>(int bin) {
            const std::ptrdiff_t from = 2 * static_cast<std::ptrdiff_t>(bin);
            move_on<W>(by, table + at.rests + from * (at.segments + 1) + static_cast<std::ptrdiff_t>(j) * 2 * W,
                       running + from * lanes);
        });
    };
    for (std::ptrdiff_t i = begin; i < end; ++i) {
        const int place = static_cast<int>(start(i) - block);
        if constexpr (shared) {
            for (; at.cut(job, j) < place; ++j) {
                move();
                const std::ptrdiff_t t = anchor + job.cuts[j];
                references[j].take(own, t, t + at.length(job, j));
                share(job, at, table, own, t, j, low, high, references[j], references[j].less(after_refs[moved]),
                      scratch, dfts + j * at.dft);
            }
        } else {
            while (j < place) {
                move();
                const int to = place < at.on.after[moved + 1] ? place : at.on.after[moved + 1];
                in_groups(at.count, [&]<int W>(int bin) {
                    const std::ptrdiff_t from = 2 * static_cast<std::ptrdiff_t>(bin);
                    sweep_on<W>(offsets_after, table + at.ones + from * at.segments, j, to, running + from * lanes);
                });
                j = to;
            }
        }
        const float* before = dfts + (shared ? j : i - begin) * at.dft;
        powers(job, table + at.circle + 4 * static_cast<std::ptrdiff_t>(place % n), before, running, centres, power);
        float* to = out + (job.order[i] * job.channels + group * lanes) * job.n_bands;
        for (int k = 0; k < job.n_bands; ++k) {
            const float* weights = job.weights + k * job.weights_stride;
            Vec total = {};
            for (int b = ranges[2 * k]; b < ranges[2 * k + 1]; ++b)
                total += weights[b] * load(power + b * static_cast<std::ptrdiff_t>(lanes));
            alignas(64) float values[lanes];
            store(values, total);
            if (job.add)
                for (int l = 0; l < own.used; ++l) to[l * static_cast<std::ptrdiff_t>(job.n_bands) + k] += values[l];
            else
                for (int l = 0; l < own.used; ++l) to[l * static_cast<std::ptrdiff_t>(job.n_bands) + k] = values[l];
        }
    }
    known = anchor + at.cut(job, j);
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

// The DFT of ones over every segment of a window and from every one on to its end, for each group of bins and of each
// of its bins; where segments have a DFT of their own, the turns and waves that segment_dft() takes, for the bins by
// their classes; and (cos, -sin) of pi i / n, for i < 2 n.
void overlapping_fill(const OverlappingBandPower& job, float* table) {
    const OverlappingLayout at(job);
    const int n = job.window;
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
    const auto ones = [&](int bin, int length) { // their DFT about the centre
        const double x = pi * bin / n;
        return static_cast<float>(bin ? std::sin(x * length) / std::sin(x) : length);
    };
    const auto live = [&](int bin) { return job.detrend && bin % n == 0 ? 0.0f : 1.0f; }; // bin 0 is the mean
    neighbourhood(job, [&](int place, int signed_bin) {
        in_groups(at.count, [&]<int W>(int first) {
            if (place < first || place >= first + W) return;
            const int bin = (signed_bin + n) % n;
            float* rest = table + at.rests + 2 * (first * (at.segments + std::ptrdiff_t{1}) + place - first);
            const double turn = pi * bin / n, scale = bin ? -live(bin) / std::sin(turn) : 0.0;
            for (int j = 0; j <= at.segments; ++j, rest += 2 * W) {
                const int begin = job.n_cuts ? at.cut(job, j) : j, length = n - begin;
                const std::int64_t half = static_cast<std::int64_t>(bin) * length % (2 * n);
                const double all = bin ? scale * static_cast<double>(circle[2 * half + 1]) : live(bin) * length;
                fill(rest, 1, W, bin, begin + n - 1, 0, static_cast<float>(all), static_cast<float>(all));
            }
            float* to = table + at.ones + 2 * (static_cast<std::ptrdiff_t>(first) * at.segments + place - first);
            if (!job.n_cuts) return fill(to, n, W, bin, 0, 2, live(bin), live(bin));
            for (int j = 0; j < at.segments; ++j, to += 2 * W) {
                const int length = at.length(job, j);
                const float all = live(bin) * ones(bin, length);
                fill(to, 1, W, bin, 2 * at.cut(job, j) + length - 1, 0, all, all);
            }
        });
    });
    if (!job.n_cuts) return;
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
                    float* turn = table + at.turns + 4 * (group * at.segments + w);
                    for (int j = 0; j < at.segments; ++j, turn += 4 * W) {
                        const int length = at.length(job, j);
                        fill(turn, 1, W, own.bin, 2 * at.cut(job, j) + length - 1, 0, 1, 1);
                        turn[2] = live(bin) * ones(own.bin, length);
                        turn[3] = static_cast<float>(own.sign);
                    }
                    for (int odd = 0; odd < 2; ++odd)
                        fill(table + at.waves[odd] + 2 * (group * at.half[odd] + w), at.half[odd], W, own.bin, !odd, 2,
                             live(bin), -live(bin));
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
    std::ptrdiff_t known = -job.window;
    while (begin < end) {
        const std::int64_t own = start(begin) + job.first;
        const std::ptrdiff_t anchor = (own + job.window - 1) / job.window * job.window - job.first;
        std::ptrdiff_t last = begin + 1;
        while (last < end && (job.n_cuts || last - begin < most) && start(last) <= anchor) ++last;
        const auto run = job.float64 ? (job.n_cuts ? anchored<double, true> : anchored<double, false>)
                                     : (job.n_cuts ? anchored<float, true> : anchored<float, false>);
        run(job, at, table, out, group, begin, last, anchor, known, scratch);
        begin = last;
    }
}

} // namespace mmme::MMME_ISA
