// Band power by a DFT of only the bins that the bands need: of each window by itself, or with sums that windows share.
//
// Directly, as a product of small matrices. A power does not depend on the phase of its window, so phases count from
// the window's centre: the sum of the samples at equal distance from it meets the cosines only, their difference the
// sines, and half of the products remain. Where the DFT is as long as a window of 4 n samples they are folded again,
// about the middle of what is left: even bins meet sums where odd ones meet differences. A row is one channel's window.
// A few rows at a time stay in registers while the table streams past, its lanes the bins.
//
// Overlapping (van Herk). Every window of n samples holds exactly one multiple of n, its anchor. Its DFT is a sum that
// runs back from the anchor to its start plus one that runs on from the anchor to its end, and both are met on the way
// to those of its neighbours. Sums that start anew every n samples keep no memory of what came before the window. They
// run over segments, whose DFT is computed once, folded as above. Phases count from the anchor, and the taper a - b cos
// is three taps across the bins. Lanes are channels.
//
// A window that begins within a segment is reached by steps from one that begins with it: what comes in is added, what
// goes out subtracted. This leaves a trace of an artefact that goes out, so that steps are few, and a window is left
// out, as NaN, where the trace may matter.
#include "isa.hpp"

#include <cmath>
#include <type_traits>
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

#if defined(_MSC_VER) && !defined(__clang__)
#define MMME_ROLLED
#else
#define MMME_ROLLED _Pragma("GCC unroll 1")
#endif

constexpr int panel = 64;  // bins whose table exists at a time, so that it stays in the second-level cache
constexpr int vectors = 3; // of bins that have an accumulator in every row

constexpr double pi = 3.14159265358979323846;

std::ptrdiff_t padded(std::ptrdiff_t n) {
    return (n + 15) / 16 * 16;
}

// Offsets of the parts of the scratch memory, in floats.
struct Layout {
    std::ptrdiff_t half, terms, stride, cosines, sines, table_cos, table_sin, even, odd, even_dft, odd_dft, weights,
        size;
    bool twice; // folded

    explicit Layout(const BandPower& job) {
        half = (job.window + 1) / 2;
        twice = job.nfft == job.window && job.window % 4 == 0;
        terms = twice ? half / 2 : half;
        stride = padded(half) + 16; // not a power of two, which would put all rows into one set of the cache
        cosines = 0;
        sines = cosines + padded(4 * static_cast<std::ptrdiff_t>(job.nfft)); // doubles
        table_cos = sines + padded(4 * static_cast<std::ptrdiff_t>(job.nfft));
        table_sin = table_cos + terms * panel;
        even = padded(table_sin + terms * panel);
        odd = even + rows * stride;
        even_dft = odd + rows * stride;
        odd_dft = even_dft + rows * panel;
        weights = odd_dft + rows * panel;
        size = weights + padded(static_cast<std::ptrdiff_t>(job.n_bands) * panel);
    }
};

// Near the mean of n samples, by sums in a fixed order, whatever their address.
template <class T> T near_mean(const T* samples, int n) {
    constexpr int parts = 32; // enough to hide the latency of an addition
    T part[parts] = {};
    int i = 0;
    for (; i + parts <= n; i += parts) {
        MMME_IVDEP
        for (int l = 0; l < parts; ++l) part[l] += samples[i + l];
    }
    for (int l = 0; i + l < n; ++l) part[l] += samples[i + l];
    T all = 0;
    for (int l = 0; l < parts; ++l) all += part[l];
    return all / static_cast<T>(n);
}

// Tapered deviations from a constant near the mean, folded about the centre. Returns the sum of the deviations.
template <class T>
float fold(const T* samples, T constant, const float* taper, int window, float* MMME_RESTRICT even,
           float* MMME_RESTRICT odd) {
    const int half = (window + 1) / 2, after = window / 2, before = (window - 1) / 2;
    const T* MMME_RESTRICT right = samples + after;
    const T* MMME_RESTRICT left = samples + before;
    const float* MMME_RESTRICT taper_right = taper + after;
    const float* MMME_RESTRICT taper_left = taper + before;
    float sum = after == before ? -static_cast<float>(right[0] - constant) : 0.0f; // the middle sample meets itself
    MMME_IVDEP
    for (int m = 0; m < half; ++m) {
        const float r = static_cast<float>(right[m] - constant), l = static_cast<float>(left[-m] - constant);
        sum += r + l;
        even[m] = r * taper_right[m] + l * taper_left[-m];
        odd[m] = r * taper_right[m] - l * taper_left[-m];
    }
    if (after == before) even[0] *= 0.5f;
    return sum;
}

// The same of 4 n samples, folded again: sums of what stands at equal distance from the middle of either half, then
// their differences.
template <class T>
float fold_twice(const T* samples, T constant, const float* taper, int n, float* MMME_RESTRICT even,
                 float* MMME_RESTRICT odd) {
    const T* MMME_RESTRICT from = samples;
    const float* MMME_RESTRICT by = taper;
    float sum = 0.0f;
    MMME_IVDEP
    for (int m = 0; m < n; ++m) {
        const int back = 2 * n - 1 - m;
        const float first = static_cast<float>(from[m] - constant), second = static_cast<float>(from[back] - constant);
        const float third = static_cast<float>(from[2 * n + m] - constant);
        const float fourth = static_cast<float>(from[2 * n + back] - constant);
        sum += (first + second) + (third + fourth);
        const float inner = third * by[2 * n + m], across = second * by[back];
        const float outer = fourth * by[2 * n + back], beyond = first * by[m];
        const float even_inner = inner + across, even_outer = outer + beyond;
        const float odd_inner = inner - across, odd_outer = outer - beyond;
        even[m] = even_inner + even_outer;
        even[n + m] = even_inner - even_outer;
        odd[m] = odd_inner + odd_outer;
        odd[n + m] = odd_inner - odd_outer;
    }
    return sum;
}

// dft[row][bin] = sum over m of folded[row][m] * table[m][bin], for V vectors of bins. Meanwhile K windows that come
// next are fetched, a step of bytes for each term: each is elsewhere in memory, which the CPU finds out only when it is
// well into it.
template <int K, int V>
void product(const float* MMME_RESTRICT folded, std::ptrdiff_t stride, const float* MMME_RESTRICT table,
             std::ptrdiff_t half, const char* const* ahead, std::ptrdiff_t step, float* MMME_RESTRICT dft) {
    Vec sums[rows][V] = {};
    for (std::ptrdiff_t m = 0; m < half; ++m, table += V * lanes) {
        MMME_UNROLL
        for (int k = 0; k < K; ++k) MMME_PREFETCH(ahead[k] + m * step);
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

template <int K>
void dft_of(const float* folded, std::ptrdiff_t stride, const float* table, std::ptrdiff_t half, int used,
            const char* const* ahead, std::ptrdiff_t step, float* dft) {
    for (; used >= vectors; used -= vectors, table += half * vectors * lanes, dft += vectors * lanes)
        product<K, vectors>(folded, stride, table, half, ahead, step, dft);
    if (used == 2) product<K, 2>(folded, stride, table, half, ahead, step, dft);
    if (used == 1) product<K, 1>(folded, stride, table, half, ahead, step, dft);
}

// Cosines and sines of the given bins about the window's centre, (term, bin) for each group of bins that goes through
// product() at once; and the taper's own DFT, which is what a constant contributes.
void fill_tables(const BandPower& job, const Layout& at, const std::int32_t* bins, int n_bins, const double* cosines,
                 const double* sines, float* table_cos, float* table_sin, float* taper_even, float* taper_odd) {
    const int half = static_cast<int>(at.half), period = 2 * job.nfft, between = job.window % 2 == 0;
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
        for (std::ptrdiff_t m = 0; m < half; ++m) {
            const double r = taper_right[m], l = between || m ? taper_left[-m] : 0.0;
            float *to_cos = table_cos + m * width, *to_sin = table_sin + m * width;
            for (int i = 0; i < width; ++i) {
                const double c = cosines[angle[i]], s = sines[angle[i]];
                if (m < at.terms) to_cos[i] = static_cast<float>(c), to_sin[i] = static_cast<float>(s);
                even[i] += (r + l) * c;
                odd[i] += (r - l) * s;
                const int next = angle[i] + step[i];
                angle[i] = next < period ? next : next - period;
            }
        }
        table_cos += at.terms * width, table_sin += at.terms * width;
        for (int i = 0; i < width; ++i) {
            taper_even[b + i] = static_cast<float>(even[i]);
            taper_odd[b + i] = static_cast<float>(odd[i]);
        }
    }
}

// Bins whose table exists at a time: lanes that are spare have weight 0.
struct Panel {
    std::int32_t bins[2][panel]; // even and odd ones, where they meet different sums; else all
    int places[2][panel];        // which of the job's bins they are
    int counts[2] = {};

    int used(int part) const { return (counts[part] + lanes - 1) / lanes; }

    // As many from the job's bin `first` on as there is room for. Returns the one after them.
    int fill(const BandPower& job, bool twice, int first) {
        for (; first < job.n_bins; ++first) {
            const int part = twice ? job.bins[first] % 2 : 0;
            if (used(0) + used(1) == panel / lanes && counts[part] % lanes == 0) break;
            bins[part][counts[part]] = job.bins[first];
            places[part][counts[part]++] = first;
        }
        return first;
    }
};

// Overlapping windows.

constexpr int most = 256;                // windows whose sums are in memory at a time where there are no cuts
constexpr int together = 2;              // vectors of channels for which a value is spread once; table.cpp says it too
constexpr int wide = 6;                  // bins in a group
constexpr int levels = 32;               // references on one side of an anchor, at most
constexpr int line = 64 / sizeof(float); // of memory

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int registers = 32;
#else
constexpr int registers = 16;
#endif
// Bins of a group whose sums fit into registers, of V vectors of channels.
template <int V> constexpr int fitting = wide * 2 * V < registers ? wide : wide / V;

// The bins whose DFT is needed: the bands' and both neighbours of each. One below 0 or above n / 2 is like any other.
// Left out is a bin 0 that would be the first, for whose neighbour it counts nothing.
template <class Each> int neighbourhood(const OverlappingBandPower& job, const Each& each) {
    int count = 0, last = job.detrend && job.bins[0] == 1 ? 0 : -2;
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
template <int largest, class With> void in_groups(int count, const With& with) {
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

// What lies where in the table and in the scratch memory, in floats. Bins go in groups of `wide`, the last one filled
// up with zeros; a row is (bin, re and im) of one of them. All that is said of channels is said of `width` of them.
struct OverlappingLayout {
    static constexpr int row = 2 * wide;
    std::ptrdiff_t width;
    int count = 0, groups;                   // of bins
    int constants[2], n_constants = 0;       // those that a constant changes: bin 0, which is bin n as well
    int segments, longest;                   // of a window; samples of the longest
    int half[2] = {}, terms[2];              // of segments of an even and an odd number of samples
    Moves back, on;                          // of the reference on both sides of an anchor
    int slots;                               // DFTs in memory: of each segment, or of so many windows
    int step_half[2] = {}, longest_step = 0; // the same of steps from window to window within a segment
    std::ptrdiff_t ones, rests, turns, waves[2], step_turns, step_waves[2], circle, table_size;
    std::ptrdiff_t offsets, moves, closings, tile, folded, reduced, dfts, running, spectrum, largest, power, weights,
        ranges, references, size;

    explicit OverlappingLayout(const OverlappingBandPower& job) {
        width = job.channels > lanes ? together * lanes : lanes;
        count = neighbourhood(job, [&](int place, int bin) {
            if (bin % job.window == 0) constants[n_constants++] = place;
        });
        groups = (count + wide - 1) / wide;
        const bool shared = job.n_cuts > 0;
        segments = shared ? job.n_cuts : job.window;
        longest = 1;
        for (int j = 0; shared && j < segments; ++j) {
            const int own = length(job, j), rows_of = (own + 1) / 2;
            if (own > longest) longest = own;
            if (rows_of > half[own % 2]) half[own % 2] = rows_of;
        }
        for (int f = 0; f + 1 < job.n_places; ++f) {
            const int own = job.places[f + 1] - job.places[f], rows_of = own / 2;
            if (own > longest_step) longest_step = own;
            if (rows_of > step_half[own % 2]) step_half[own % 2] = rows_of;
        }
        for (int odd = 0; odd < 2; ++odd) terms[odd] = job.rank && half[odd] ? job.rank : half[odd];
        slots = shared ? segments : most;
        back.fill(segments, [&](int j) { return job.window - edge(job, segments - j); });
        on.fill(segments, [&](int j) { return edge(job, j); });

        const std::ptrdiff_t all = std::ptrdiff_t{row} * groups;
        ones = 0;
        rests = ones + all * segments;
        turns = rests + all * (segments + 1);
        waves[0] = turns + shared * all * segments;
        waves[1] = waves[0] + all * terms[0];
        step_turns = waves[1] + all * terms[1];
        step_waves[0] = step_turns + all * (job.n_places > job.n_cuts ? job.n_places : 0);
        step_waves[1] = step_waves[0] + all * step_half[0];
        circle = step_waves[1] + all * step_half[1];
        table_size = circle + 4 * static_cast<std::ptrdiff_t>(job.window);

        offsets = 0;
        moves = offsets + (2 * static_cast<std::ptrdiff_t>(segments) + lanes) * width;
        closings = moves + levels * width;
        tile = closings + slots * width;
        const std::ptrdiff_t longer = longest > longest_step ? longest : longest_step;
        folded = tile + (longer + lanes) * width;
        reduced = folded + (longer + 1) * width;
        dfts = reduced + 2 * job.rank * width;
        running = dfts + all * (slots + 1) * width;
        spectrum = running + all * width;
        largest = spectrum + all * width;
        power = largest + groups * width;
        weights = power + (all / 2 + 1) * width;
        ranges = weights + padded(job.n_bands * all / 2);
        references = padded(ranges + 3 * static_cast<std::ptrdiff_t>(job.n_bands));
        size = references + shared * 2 * static_cast<std::ptrdiff_t>(segments) * width;
    }

    // Where the j-th segment of n samples begins, and how many samples it has.
    static int cut(const OverlappingBandPower& job, int j) { return j < job.n_cuts ? job.cuts[j] : job.window; }
    static int edge(const OverlappingBandPower& job, int j) { return job.n_cuts ? cut(job, j) : j; }
    static int length(const OverlappingBandPower& job, int j) { return cut(job, j + 1) - cut(job, j); }

    // The rows of a group of bins, of which there are so many.
    static std::ptrdiff_t of(int group, int rows_of) { return static_cast<std::ptrdiff_t>(group) * rows_of * row; }

    // Calls with(group, place in its rows) for as much of each group as fits into registers.
    template <int V, class With> void in_parts(const With& with) const {
        for (int g = 0; g < groups; ++g) {
            MMME_UNROLL
            for (int from = 0; from < row; from += 2 * fitting<V>) with(g, from);
        }
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

// V vectors of channels; spare lanes repeat the last channel.
template <class T, int V> struct Group {
    static constexpr int width = V * lanes;
    const T* channels[width];
    int used;

    Group(const OverlappingBandPower& job, std::ptrdiff_t first) {
        const std::ptrdiff_t left = job.channels - first;
        used = static_cast<int>(left < width ? left : width);
        for (int l = 0; l < width; ++l)
            channels[l] = static_cast<const T*>(job.data) + (first + (l < used ? l : used - 1)) * job.channel_stride;
    }
};

// What each lane's samples are taken less of before they become floats, so that a large offset costs no digits. Any
// value near them will do; one artefact must not draw it away. So it is the median of the means of a few samples each
// at the beginning, in the middle and at the end of a stretch.
template <class T, int V> struct Reference {
    static constexpr int width = V * lanes;
    T of[width];

    static std::ptrdiff_t few_of(std::ptrdiff_t length) { return length < 1792 ? 1 + length / 256 : 8; }

    void take(const Group<T, V>& group, std::ptrdiff_t begin, std::ptrdiff_t end) {
        const std::ptrdiff_t length = end - begin, few = few_of(length);
        T first[width], middle[width], last[width];
        for (int l = 0; l < width; ++l) {
            const T* of_first = group.channels[l] + begin;
            const T* of_middle = of_first + (length - few) / 2;
            const T* of_last = of_first + (length - few);
            first[l] = of_first[0], middle[l] = of_middle[0], last[l] = of_last[0];
            for (std::ptrdiff_t i = 1; i < few; ++i)
                first[l] += of_first[i], middle[l] += of_middle[i], last[l] += of_last[i];
        }
        const T share = T(1) / static_cast<T>(few);
        for (int l = 0; l < width; ++l) {
            const T low = first[l] < middle[l] ? first[l] : middle[l],
                    high = first[l] < middle[l] ? middle[l] : first[l];
            const T less = high < last[l] ? high : last[l];
            of[l] = share * (low < less ? less : low);
        }
    }
    void less(const Reference& other, float* to) const {
        for (int l = 0; l < width; ++l) to[l] = static_cast<float>(of[l] - other.of[l]);
    }
};
// Samples begin..end, less their reference or, if `differences`, of what is so much further on less them, as (sample,
// lane); up to `lanes` samples more are written. Of what is read all lies in low..high.
template <bool differences = false, class T, int V>
void gather(const Group<T, V>& group, const Reference<T, V>& reference, std::ptrdiff_t begin, std::ptrdiff_t end,
            std::ptrdiff_t low, std::ptrdiff_t high, float* to, std::ptrdiff_t further = 0) {
    constexpr int width = V * lanes;
    high -= further;
    if (high - low < lanes) {
        for (std::ptrdiff_t t = begin; t < end; ++t, to += width)
            for (int c = 0; c < width; ++c) {
                const T* from = group.channels[c] + t;
                to[c] = static_cast<float>(differences ? from[further] - from[0] : from[0] - reference.of[c]);
            }
        return;
    }
    for (std::ptrdiff_t t = begin; t < end; t += lanes, to += lanes * width) {
        const std::ptrdiff_t at = t + lanes <= high ? t : high - lanes;
        for (int first = 0; first < width; first += lanes) {
            alignas(64) float block[lanes][lanes];
            Vec v[lanes];
            MMME_UNROLL
            for (int c = 0; c < lanes; ++c) {
                const T* MMME_RESTRICT from = group.channels[first + c] + at;
                const T* MMME_RESTRICT on = from + further;
                const T less = reference.of[first + c];
                MMME_PREFETCH(on + 256); // channels are pages apart
                if constexpr (sizeof(T) == sizeof(float)) {
                    v[c] = differences ? load(on) - load(from) : load(from) - less;
                } else {
                    MMME_LANES
                    for (int l = 0; l < lanes; ++l)
                        block[c][l] = static_cast<float>(differences ? on[l] - from[l] : from[l] - less);
                    v[c] = load(block[c]);
                }
            }
            transpose(v);
            float* rows_of = to + first - (t - at) * width;
            if (at == t) {
                MMME_UNROLL
                for (int l = 0; l < lanes; ++l) store(rows_of + l * width, v[l]);
            } else {
                for (int l = 0; l < lanes; ++l) store(block[l], v[l]);
                for (int l = static_cast<int>(t - at); l < lanes; ++l) store(rows_of + l * width, load(block[l]));
            }
        }
    }
}

// The sums of samples at equal distance from a segment's centre, and their differences: (m, 2, lane).
template <int V> void fold_segment(const float* tile, int length, float* folded) {
    constexpr int width = V * lanes;
    const float* right = tile + length / 2 * width;
    const float* left = tile + (length - 1) / 2 * width;
    if (length % 2) {
        for (int l = 0; l < width; l += lanes) {
            store(folded + l, load(right + l));
            store(folded + width + l, Vec{});
        }
        right += width, left -= width, folded += 2 * width;
    }
    for (int m = 0; m < length / 2; ++m, right += width, left -= width, folded += 2 * width) {
        MMME_UNROLL
        for (int l = 0; l < width; l += lanes) {
            const Vec r = load(right + l), of_left = load(left + l);
            store(folded + l, r + of_left);
            store(folded + width + l, r - of_left);
        }
    }
}

// Sums over n terms (term, 2, lane), each part times its own column of a table (term, W, 2) with rows `stride` apart.
template <int W, int V>
MMME_INLINE void product(const float* terms, int n, const float* table, std::ptrdiff_t stride, Vec (&sums)[2 * W][V]) {
    for (const float* end = terms + n * std::ptrdiff_t{2 * V * lanes}; terms != end;
         terms += 2 * V * lanes, table += stride) {
        Vec of[2 * V]; // the sums, then the differences
        MMME_UNROLL
        for (int v = 0; v < 2 * V; ++v) of[v] = load(terms + v * lanes);
        MMME_UNROLL
        for (int w = 0; w < 2 * W; ++w) {
            MMME_UNROLL
            for (int v = 0; v < V; ++v) sums[w][v] += table[w] * of[w % 2 * V + v];
        }
    }
}

// DFT of the segment that begins at sample `begin` and is the j-th of its n samples, less a reference of its own. With
// that less another one it is added to the running sums.
template <class T, int V>
void share(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, const Group<T, V>& group,
           std::ptrdiff_t begin, int j, std::ptrdiff_t low, std::ptrdiff_t high, Reference<T, V>& reference,
           const Reference<T, V>& other, float* scratch) {
    constexpr int width = V * lanes, W = fitting<V>;
    float *tile = scratch + at.tile, *folded = scratch + at.folded, *reduced = scratch + at.reduced;
    const int length = at.length(job, j), odd = length % 2;
    reference.take(group, begin, begin + length);
    gather(group, reference, begin, begin + length, low, high, tile);
    alignas(64) float offset[width];
    reference.less(other, offset);
    fold_segment<V>(tile, length, folded);
    const float* terms = folded;
    int n_terms = (length + 1) / 2;
    if (job.rank) {
        in_groups<W>(job.rank, [&]<int of>(int first) {
            const float* basis = job.basis + std::ptrdiff_t{2} * (odd * ((at.longest + 1) / 2) * job.rank + first);
            Vec sums[2 * of][V] = {};
            product<of, V>(folded, n_terms, basis, std::ptrdiff_t{2} * job.rank, sums);
            MMME_UNROLL
            for (int w = 0; w < 2 * of; ++w) {
                MMME_UNROLL
                for (int v = 0; v < V; ++v) store(reduced + (2 * first + w) * width + v * lanes, sums[w][v]);
            }
        });
        terms = reduced;
        n_terms = job.rank;
    }
    at.in_parts<V>([&](int g, int from) {
        Vec sums[2 * W][V] = {};
        product<W, V>(terms, n_terms, table + at.waves[odd] + at.of(g, at.terms[odd]) + from, at.row, sums);
        const float* turn = table + at.turns + at.of(g, at.segments) + j * at.row + from; // cos and -sin
        const float* ones = table + at.ones + at.of(g, at.segments) + j * at.row + from;
        float* dft = scratch + at.dfts + (at.of(g, at.slots + 1) + j * at.row + from) * width;
        float* running = scratch + at.running + (at.of(g, 1) + from) * width;
        // Of each group of bins these go on elsewhere in memory, and the next window needs the sums that lie after dft.
        MMME_PREFETCH(turn + 2 * at.row);
        MMME_PREFETCH(ones + 2 * at.row);
        for (int w = 0; w < 2 * W * width; w += line) MMME_PREFETCH(dft + at.row * width + w);
        MMME_UNROLL
        for (int w = 0; w < 2 * W; w += 2) {
            const float c = turn[w], s = turn[w + 1];
            MMME_UNROLL
            for (int v = 0; v < V; ++v) {
                const Vec re = c * sums[w][v] + s * sums[w + 1][v], im = s * sums[w][v] - c * sums[w + 1][v];
                const Vec by = load(offset + v * lanes);
                float *to = dft + w * width + v * lanes, *on = running + w * width + v * lanes;
                store(to, re);
                store(to + width, im);
                store(on, load(on) + re + ones[w] * by);
                store(on + width, load(on + width) + im + ones[w + 1] * by);
            }
        }
    });
}

// How large a group's DFT is, squared, by two of its bins.
MMME_INLINE Vec size_of(const float* spectrum, int width) {
    const Vec a = load(spectrum), b = load(spectrum + width), c = load(spectrum + 6 * width),
              d = load(spectrum + 7 * width);
    return (a * a + b * b) + (c * c + d * d);
}

// From the DFT of a window to that of the next, which begins a step of samples from the f-th place, `begin`, on: what
// comes in lies a window further on than what goes out, so that both meet the same cosines and sines. Where an artefact
// has gone out, so that the DFT is a twentieth of what it was at a place before, digits have gone with it: `doubt`
// becomes NaN in those lanes.
template <class T, int V>
void step(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, const Group<T, V>& group,
          std::ptrdiff_t begin, int f, std::ptrdiff_t low, std::ptrdiff_t high, float* doubt, float* scratch) {
    constexpr int width = V * lanes, W = fitting<V>;
    const int length = job.places[f + 1] - job.places[f], odd = length % 2;
    float *tile = scratch + at.tile, *folded = scratch + at.folded, *spectrum = scratch + at.spectrum;
    float* largest = scratch + at.largest;
    Vec found[V], size[V];
    for (int v = 0; v < V; ++v) found[v] = load(doubt + v * lanes);
    gather<true>(group, Reference<T, V>{}, begin, begin + length, low, high, tile, job.window);
    fold_segment<V>(tile, length, folded);
    Vec centre[V] = {};
    for (int v = 0; v < V && odd; ++v) centre[v] = load(folded + v * lanes);
    folded += odd * 2 * width;
    at.in_parts<V>([&](int g, int from) {
        Vec sums[2 * W][V];
        MMME_UNROLL
        for (int w = 0; w < 2 * W; w += 2) {
            MMME_UNROLL
            for (int v = 0; v < V; ++v) sums[w][v] = centre[v], sums[w + 1][v] = Vec{};
        }
        product<W, V>(folded, length / 2, table + at.step_waves[odd] + at.of(g, at.step_half[odd]) + from, at.row,
                      sums);
        const float* turn = table + at.step_turns + at.of(g, job.n_places) + f * at.row + from; // cos and -sin
        MMME_PREFETCH(turn + 2 * at.row);
        float* to = spectrum + (at.of(g, 1) + from) * width;
        MMME_UNROLL
        for (int w = 0; w < 2 * W; w += 2) {
            const float c = turn[w], s = turn[w + 1];
            MMME_UNROLL
            for (int v = 0; v < V; ++v) {
                float* on = to + w * width + v * lanes;
                const Vec re = load(on) + c * sums[w][v] + s * sums[w + 1][v];
                const Vec im = load(on + width) + s * sums[w][v] - c * sums[w + 1][v];
                store(on, re);
                store(on + width, im);
                if (from + w == 0) size[v] = re * re + im * im; // as size_of() has it
                if (from + w == wide) size[v] += re * re + im * im;
            }
        }
        if (from + 2 * W < at.row) return;
        MMME_UNROLL
        for (int v = 0; v < V; ++v, largest += lanes) {
            const Vec before = load(largest);
            found[v] = 400 * size[v] < before ? Vec{} + __builtin_nanf("") : found[v];
            store(largest, size[v] < before ? before : size[v]);
        }
    });
    for (int v = 0; v < V; ++v) store(doubt + v * lanes, found[v]);
}

// Sums back from the anchor of the samples, less their reference, times the DFT of ones. At every stop those so far
// become its DFT. Where there are segments (shared) each is a stop and has a DFT of its own, whose place the sums take.
// They are added up segment by segment, so that no stop matters to the others. Where the reference moves, and with the
// closing at a stop, the sums are those of samples less another one.
template <int V, bool shared>
void sweep_back(const OverlappingLayout& at, const float* table, const int* stops, int first, int end, float* scratch) {
    constexpr int width = V * lanes, rows_of = 2 * fitting<V>;
    at.in_parts<V>([&](int g, int from) {
        const float* ones = table + at.ones + at.of(g, at.segments) + from;
        const float* rests = table + at.rests + at.of(g, at.segments + 1) + from;
        const float* offsets = scratch + at.offsets;
        const float* moves = scratch + at.moves;
        float* dfts = scratch + at.dfts + (at.of(g, at.slots + 1) + from) * width;
        Vec sums[rows_of][V] = {};
        const int* after = at.back.after + 1;
        int t = at.segments, move = t - *after;
        const auto add = [&](const float* table_row, const float* by) {
            Vec each[V];
            MMME_UNROLL
            for (int v = 0; v < V; ++v) each[v] = load(by + v * lanes);
            MMME_UNROLL
            for (int w = 0; w < rows_of; ++w) {
                MMME_UNROLL
                for (int v = 0; v < V; ++v) sums[w][v] += table_row[w] * each[v];
            }
        };
        const auto move_on = [&] {
            add(rests + at.of(1, t), moves);
            moves += width;
            move = at.segments - *++after;
        };
        // Else GCC unrolls this loop as well, into 40 KB of code, more than the first-level cache holds.
        MMME_ROLLED
        for (int i = end - 1; i >= first; --i) {
            float* dft = dfts + at.of(1, i) * width;
            if constexpr (shared) {
                if (t == move) move_on();
                --t;
                MMME_UNROLL
                for (int w = 0; w < rows_of; ++w) {
                    MMME_UNROLL
                    for (int v = 0; v < V; ++v) sums[w][v] += load(dft + w * width + v * lanes);
                }
                add(ones + at.of(1, t), offsets + t * std::ptrdiff_t{width});
            } else {
                while (t > stops[i]) {
                    if (t == move) move_on();
                    for (const int to = stops[i] > move ? stops[i] : move; t > to;) {
                        --t;
                        add(ones + at.of(1, t), offsets + t * std::ptrdiff_t{width});
                    }
                }
            }
            const float *closing = scratch + at.closings + i * std::ptrdiff_t{width}, *rest = rests + at.of(1, t);
            MMME_UNROLL
            for (int w = 0; w < rows_of; ++w) {
                MMME_UNROLL
                for (int v = 0; v < V; ++v)
                    store(dft + w * width + v * lanes, sums[w][v] + rest[w] * load(closing + v * lanes));
            }
        }
    });
}

// The running sums go on over samples begin..end.
template <int V>
void sweep_on(const OverlappingLayout& at, const float* table, const float* offsets, int begin, int end,
              float* running) {
    constexpr int width = V * lanes, rows_of = 2 * fitting<V>;
    at.in_parts<V>([&](int g, int from) {
        float* to = running + (at.of(g, 1) + from) * width;
        Vec sums[rows_of][V];
        MMME_UNROLL
        for (int w = 0; w < rows_of * V; ++w) sums[w / V][w % V] = load(to + w * lanes);
        const float* ones = table + at.ones + at.of(g, at.segments) + at.of(1, begin) + from;
        for (std::ptrdiff_t t = begin; t < end; ++t, ones += at.row) {
            Vec offset[V];
            MMME_UNROLL
            for (int v = 0; v < V; ++v) offset[v] = load(offsets + t * width + v * lanes);
            MMME_UNROLL
            for (int w = 0; w < rows_of * V; ++w) sums[w / V][w % V] += ones[w / V] * offset[w % V];
        }
        MMME_UNROLL
        for (int w = 0; w < rows_of * V; ++w) store(to + w * lanes, sums[w / V][w % V]);
    });
}

// |DFT of the tapered window|^2 / a^2 of each bin but the last, from the sums on both sides of the anchor; phase: (cos,
// -sin) of where the window starts, as the taper does. Where two bins are no neighbours what comes of them has no use.
// Without sums, from the DFT itself, which else is kept where that is asked for.
template <int V, bool sums, bool keep>
void powers(const OverlappingBandPower& job, const OverlappingLayout& at, const float* phase, const float* before,
            const float* after, float* MMME_RESTRICT spectrum, float* MMME_RESTRICT power) {
    constexpr int width = V * lanes;
    const float c = static_cast<float>(job.b / 2 / job.a) * -phase[0],
                s = static_cast<float>(job.b / 2 / job.a) * -phase[1];
    for (int l = 0; l < width; l += lanes) {
        const float *own_before = before + l, *own_after = after + l;
        float *MMME_RESTRICT own = spectrum + l, *MMME_RESTRICT to = power + l;
        Vec left_re = {}, left_im = {}, re = {}, im = {};
        for (int g = 0; g < at.groups; ++g) {
            MMME_UNROLL
            for (int w = 0; w < at.row; w += 2, to += width) {
                const float* MMME_RESTRICT from = sums ? own_before : own;
                Vec right_re = load(from + w * width), right_im = load(from + (w + 1) * width);
                if constexpr (sums) {
                    right_re += load(own_after + w * width);
                    right_im += load(own_after + (w + 1) * width);
                }
                if constexpr (keep) {
                    store(own + w * width, right_re);
                    store(own + (w + 1) * width, right_im);
                }
                const Vec tapered_re = re + c * (right_re + left_re) + s * (right_im - left_im);
                const Vec tapered_im = im + c * (right_im + left_im) - s * (right_re - left_re);
                store(to, tapered_re * tapered_re + tapered_im * tapered_im);
                left_re = re, left_im = im, re = right_re, im = right_im;
            }
            own_before += at.of(1, at.slots + 1) * width, own_after += at.row * width, own += at.row * width;
        }
    }
}

// Sums the bands' weights times powers, NaN where there is doubt, and writes (lane, band); of `whole` lanes whole
// vectors, if there are no more bands than lanes, because what is too much of them lies in bands that are still to
// come. Returns what is NaN or infinite where one of them is.
template <int V>
float sum_bands(const OverlappingBandPower& job, const OverlappingLayout& at, const float* scratch, int used, int whole,
                const float* doubt, float* to) {
    constexpr int width = V * lanes;
    const float* power = scratch + at.power + width; // the first one is of no bin
    const std::int32_t* ranges = reinterpret_cast<const std::int32_t*>(scratch + at.ranges);
    const float* weights = scratch + at.weights;
    Vec all_sums = {};
    float added = 0;
    for (int first = 0; first < job.n_bands; first += lanes) {
        const int n = job.n_bands - first < lanes ? job.n_bands - first : lanes;
        Vec totals[V][lanes];
        MMME_UNROLL
        for (int i = 0; i < V * lanes; ++i) totals[i / lanes][i % lanes] = Vec{};
        for (int k = 0; k < n; ++k, weights += at.groups * wide, ranges += 3) {
            constexpr int chains = 2;
            Vec sums[chains][V] = {};
            const float *own = power + ranges[0] * width, *weight = weights + ranges[0];
            int left = ranges[1] - ranges[0];
            const auto add_all = [&](auto weighted) {
                for (; left >= chains; left -= chains, own += chains * width, weight += chains) {
                    MMME_UNROLL
                    for (int i = 0; i < chains; ++i) {
                        MMME_UNROLL
                        for (int v = 0; v < V; ++v) sums[i][v] += weighted(i, load(own + i * width + v * lanes));
                    }
                }
                for (; left; --left, own += width, ++weight) {
                    MMME_UNROLL
                    for (int v = 0; v < V; ++v) sums[0][v] += weighted(0, load(own + v * lanes));
                }
            };
            float all = 1;
            if (ranges[2]) {
                all = *weight;
                add_all([](int, Vec own_power) { return own_power; });
            } else {
                add_all([&](int i, Vec own_power) { return weight[i] * own_power; });
            }
            MMME_UNROLL
            for (int v = 0; v < V; ++v) {
                Vec total = sums[0][v];
                for (int i = 1; i < chains; ++i) total += sums[i][v];
                totals[v][k] = load(doubt + v * lanes) + all * total;
                all_sums += totals[v][k];
            }
        }
        for (int v = 0; v < V; ++v) {
            transpose(totals[v]);
            float* own = to + v * lanes * job.n_bands + first;
            int l = 0;
            const auto up_to = [&](int channel) { // of the vector's lanes
                const int inside = channel - v * lanes;
                return inside < lanes ? inside : lanes;
            };
            if (!job.add)
                for (const int end = up_to(n == lanes ? used : first ? 0 : whole); l < end; ++l, own += job.n_bands)
                    store(own, totals[v][l]);
            for (; l < up_to(used); ++l, own += job.n_bands) {
                alignas(64) float values[lanes];
                store(values, totals[v][l]);
                for (int k = 0; k < n; ++k) {
                    own[k] = job.add ? own[k] + values[k] : values[k];
                    if (job.add) added += own[k];
                }
            }
        }
    }
    return sum(all_sums) + added;
}

// The windows `begin`..`end` in the order of their starts, which have one anchor. Segments up to `known` have their
// DFT.
template <class T, int V, bool shared>
void anchored(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, float* out,
              std::ptrdiff_t channel, std::ptrdiff_t begin, std::ptrdiff_t end, std::ptrdiff_t anchor,
              std::ptrdiff_t& known, float* scratch) {
    constexpr int width = V * lanes;
    const int n = job.window;
    const Group<T, V> own(job, channel);
    const auto start = [&](std::ptrdiff_t i) { return static_cast<std::ptrdiff_t>(job.starts[job.order[i]]); };
    const auto written = [&](std::ptrdiff_t i) { return out + (job.order[i] * job.channels + channel) * job.n_bands; };
    constexpr int ahead = 8;
    const std::ptrdiff_t groups = (job.channels + together * lanes - 1) / (together * lanes);
    const int spare = own.used * job.n_bands - lanes, whole = spare < 0 ? 0 : spare / job.n_bands + 1;
    const std::ptrdiff_t block = anchor - n, high = start(end - 1) + n;
    float* offsets = scratch + at.offsets; // of the segments before the anchor, then of those after it
    float* offsets_after = offsets + static_cast<std::ptrdiff_t>(at.segments) * width;
    float* running = scratch + at.running;

    // A constant changes no bin but 0, so that samples may be taken less a reference. It must be one of the window's
    // own samples, or of some of them, and the only one that all these windows hold is that at the anchor, which may be
    // an artefact. So both sides' references move on the way, and to make the two of a window one, its sums before the
    // anchor move by their difference.
    Reference<T, V> before_refs[levels], after_refs[levels];
    auto* references = reinterpret_cast<Reference<T, V>*>(scratch + at.references); // of segments with a DFT
    int stops[most], windows = static_cast<int>(end - begin);
    const auto place_of = [&](std::ptrdiff_t i) { return static_cast<int>(start(i) - block); };
    const auto on_to = [&](int& j, int place) { // the segment that begins there, or before
        while (j < at.segments && at.edge(job, j + 1) <= place) ++j;
    };
    int first = 0, after_last_place = 0;
    on_to(first, place_of(begin));
    on_to(after_last_place, place_of(end - 1));
    const std::ptrdiff_t low = block + at.edge(job, first);
    const int before_last = at.back.of(at.segments - first), after_last = at.on.of(after_last_place);
    for (int i = 0; i <= before_last && first < at.segments; ++i)
        before_refs[i].take(own, block + at.edge(job, at.segments - 1 - at.back.after[i]), anchor);
    for (int i = 0; i <= after_last && after_last_place > 0; ++i)
        after_refs[i].take(own, anchor, anchor + at.edge(job, at.on.after[i] + 1));
    for (int i = 0; i < before_last; ++i) before_refs[i].less(before_refs[i + 1], scratch + at.moves + i * width);

    float* closings = scratch + at.closings;
    const int slots = shared ? at.segments : windows;
    for (std::ptrdiff_t i = 0; i < slots * static_cast<std::ptrdiff_t>(width); ++i) closings[i] = 0;
    for (int i = 0, j = 0, to = 0, from = before_last; i < windows; ++i) {
        on_to(j, place_of(begin + i));
        if constexpr (!shared) stops[i] = j; // of windows that share segments there may be more than `most`
        while (at.on.after[to + 1] < j) ++to;
        while (from > 0 && at.back.after[from] >= at.segments - j) --from;
        if (j > 0 && j < at.segments) // else all sums are on one side
            before_refs[from].less(after_refs[to], closings + (shared ? j : i) * static_cast<std::ptrdiff_t>(width));
    }

    if constexpr (shared) {
        windows = at.segments;
        for (int j = first, from = before_last; j < at.segments; ++j) {
            const std::ptrdiff_t t = block + job.cuts[j];
            while (from > 0 && at.back.after[from] >= at.segments - j) --from;
            if (t >= known) share(job, at, table, own, t, j, low, high, references[j], before_refs[from], scratch);
            references[j].less(before_refs[from], offsets + static_cast<std::ptrdiff_t>(j) * width);
        }
        for (int g = 0; g < at.groups; ++g) { // of the window at the anchor
            float* dft = scratch + at.dfts + (at.of(g, at.slots + 1) + at.of(1, at.segments)) * width;
            for (int i = 0; i < at.row * width; ++i) dft[i] = 0;
        }
    } else {
        // Each gather() may write past its end what the next one writes anew.
        for (int i = before_last; i >= 0; --i) {
            const std::ptrdiff_t from = anchor - at.back.after[i + 1], begins = from < low ? low : from;
            if (first < at.segments)
                gather(own, before_refs[i], begins, anchor - at.back.after[i], low, high,
                       offsets + (begins - block) * width);
        }
        for (int i = 0; i <= after_last; ++i) {
            const std::ptrdiff_t from = anchor + at.on.after[i], ends = anchor + at.on.after[i + 1];
            gather(own, after_refs[i], from, ends < high ? ends : high, low, high, offsets + (from - block) * width);
        }
    }
    sweep_back<V, shared>(at, table, stops, shared ? first : 0, windows, scratch);

    for (std::ptrdiff_t i = 0; i < at.of(at.groups, 1) * width; ++i) running[i] = 0;
    const auto begin_with = [&](const Reference<T, V>& reference) { // what all is less
        for (int c = 0; c < at.n_constants && !job.detrend; ++c)
            for (int l = 0; l < width; ++l)
                running[at.constants[c] * 2 * width + l] = static_cast<float>(static_cast<double>(reference.of[l]) * n);
    };
    begin_with(first == 0 ? before_refs[before_last] : after_refs[0]);
    int j = 0, moved = 0, f = 0, stepped = -1; // the place and the segment of the window whose DFT is kept
    alignas(64) float doubt[width] = {};
    const auto move = [&] { // where it is time
        if (j != at.on.after[moved + 1]) return;
        alignas(64) float by[width];
        after_refs[moved + 1].less(after_refs[moved], by);
        ++moved;
        for (int g = 0; g < at.groups; ++g) {
            const float* rest = table + at.rests + at.of(g, at.segments + 1) + at.of(1, j);
            float* to = running + at.of(g, 1) * width;
            for (int w = 0; w < at.row; ++w, to += width)
                for (int l = 0; l < width; l += lanes) store(to + l, load(to + l) + rest[w] * load(by + l));
        }
    };
    for (std::ptrdiff_t i = begin; i < end; ++i) {
        const int place = place_of(i);
        if constexpr (shared) {
            for (; j < at.segments && at.cut(job, j + 1) <= place; ++j) {
                if (j == 0) begin_with(after_refs[0]);
                move();
                share(job, at, table, own, anchor + job.cuts[j], j, low, high, references[j], after_refs[moved],
                      scratch);
            }
        } else {
            while (j < place) {
                move();
                const int to = place < at.on.after[moved + 1] ? place : at.on.after[moved + 1];
                sweep_on<V>(at, table, offsets_after, j, to, running);
                j = to;
            }
        }
        // Each window's place in the output is in memory of its own, which would hold up all that is stored meanwhile.
        const float* later = written(i + ahead < end ? i + ahead : end - 1);
        for (int l = 0; l < own.used * job.n_bands; l += line) MMME_PREFETCH(later + l);
        const float* before = scratch + at.dfts + at.of(1, static_cast<int>(shared ? j : i - begin)) * width;
        const float* phase = table + at.circle + 4 * static_cast<std::ptrdiff_t>(place % n);
        float *spectrum = scratch + at.spectrum, *power = scratch + at.power;
        if (!shared || job.n_places == job.n_cuts) {
            powers<V, true, false>(job, at, phase, before, running, spectrum, power);
        } else {
            if (stepped != j) {
                while (f + 1 < job.n_places && job.places[f] < at.cut(job, j)) ++f;
                powers<V, true, true>(job, at, phase, before, running, spectrum, power);
                for (int g = 0; g < at.groups; ++g)
                    for (int l = 0; l < width; l += lanes)
                        store(scratch + at.largest + g * width + l, size_of(spectrum + g * at.row * width + l, width));
                for (float& each : doubt) each = 0;
                stepped = j;
            }
            if (job.places[f] < place % n) {
                for (; job.places[f] < place; ++f)
                    step(job, at, table, own, block + job.places[f], f, low, high, doubt, scratch);
                powers<V, false, false>(job, at, phase, before, running, spectrum, power);
            }
        }
        if (!std::isfinite(sum_bands<V>(job, at, scratch, own.used, whole, doubt, written(i))))
            job.not_finite[job.order[i] * groups + channel / (together * lanes)] = 1;
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
    const std::ptrdiff_t bytes = job.float64 ? sizeof(double) : sizeof(float); // of a sample
    const std::ptrdiff_t step = (bytes * job.window + at.terms - 1) / at.terms;

    for (int first = 0, next; first < job.n_bins; first = next) {
        Panel chosen;
        next = chosen.fill(job, at.twice, first);
        const int used = chosen.used(0) + chosen.used(1);
        float taper_even[panel], taper_odd[panel];
        for (std::ptrdiff_t i = 0; i < std::ptrdiff_t{panel} * job.n_bands; ++i) weights[i] = 0.0f;
        for (int part = 0; part < 2; ++part) {
            const int begins = part * chosen.used(0) * lanes;
            fill_tables(job, at, chosen.bins[part], chosen.counts[part], cosines, sines,
                        scratch + at.table_cos + at.terms * begins, scratch + at.table_sin + at.terms * begins,
                        taper_even + begins, taper_odd + begins);
            for (int k = 0; k < job.n_bands; ++k)
                for (int b = 0; b < chosen.counts[part]; ++b)
                    weights[k * panel + begins + b] =
                        job.weights[k * static_cast<std::ptrdiff_t>(job.n_bins) + chosen.places[part][b]];
        }

        for (std::ptrdiff_t row = begin * job.channels; row < last_row; row += rows) {
            const int count = static_cast<int>(last_row - row < rows ? last_row - row : rows);
            const char* ahead[rows];
            float constants[rows]; // what is still to be added to the samples that were folded
            for (int r = 0; r < rows; ++r) {
                const auto begin_of = [&](std::ptrdiff_t of_row) {
                    if (of_row >= last_row) of_row = last_row - 1; // spare rows repeat the last
                    return of_row % job.channels * job.channel_stride +
                           static_cast<std::ptrdiff_t>(job.starts[of_row / job.channels]);
                };
                const std::ptrdiff_t from = begin_of(row + r);
                ahead[r] = static_cast<const char*>(job.data) + bytes * begin_of(row + rows + r);
                // What is near the mean goes first, so that a large offset costs no digits; the rest of it follows.
                const auto centre = [&](auto* samples) {
                    const auto near = static_cast<std::remove_cvref_t<decltype(*samples)>>(
                        static_cast<float>(near_mean(samples, job.window)));
                    float *even = scratch + at.even + r * at.stride, *odd = scratch + at.odd + r * at.stride;
                    const float rest = at.twice ? fold_twice(samples, near, job.taper, job.window / 4, even, odd)
                                                : fold(samples, near, job.taper, job.window, even, odd);
                    constants[r] = job.detrend ? -rest / static_cast<float>(job.window) : static_cast<float>(near);
                };
                if (job.float64)
                    centre(static_cast<const double*>(job.data) + from);
                else
                    centre(static_cast<const float*>(job.data) + from);
            }
            float* even = scratch + at.even_dft;
            float* odd = scratch + at.odd_dft;
            for (int part = 0; part < 2; ++part) {
                const std::ptrdiff_t begins = part * chosen.used(0) * std::ptrdiff_t{lanes};
                const std::ptrdiff_t sums = part ? at.terms : 0, differences = at.twice ? at.terms - sums : 0;
                const auto both = [&]<int K>() { // cosines and sines
                    dft_of<K>(scratch + at.even + sums, at.stride, scratch + at.table_cos + at.terms * begins, at.terms,
                              chosen.used(part), ahead + 2 * K * part, step, even + begins);
                    dft_of<K>(scratch + at.odd + differences, at.stride, scratch + at.table_sin + at.terms * begins,
                              at.terms, chosen.used(part), ahead + K * (2 * part + 1), step, odd + begins);
                };
                if (at.twice)
                    both.template operator()<rows / 4>();
                else if (part == 0)
                    both.template operator()<rows / 2>();
            }
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

// For each group of bins: the DFT of ones over every segment of a window and from every one on to its end; where
// segments have a DFT of their own, the turns that bring it to its place, and the waves about its centre, which is what
// the basis makes of them if there is one; and (cos, -sin) of pi i / n, for i < 2 n.
void overlapping_fill(const OverlappingBandPower& job, float* table) {
    const OverlappingLayout at(job);
    const int n = job.window;
    for (std::ptrdiff_t i = 0; i < at.circle; ++i) table[i] = 0;
    float* circle = table + at.circle;
    for (int i = 0; i <= n; ++i) {
        const int mirrored = i ? 2 * n - i : 0;
        circle[2 * mirrored] = circle[2 * i] = static_cast<float>(std::cos(pi * i / n));
        circle[2 * mirrored + 1] = static_cast<float>(std::sin(pi * i / n));
        circle[2 * i + 1] = -circle[2 * mirrored + 1];
    }
    const int most_half = (at.longest + 1) / 2;
    neighbourhood(job, [&](int place, int signed_bin) {
        const int bin = (signed_bin + n) % n, group = place / wide;
        const float live = job.detrend && bin == 0 ? 0.0f : 1.0f; // bin 0 is the mean
        const auto in_rows = [&](std::ptrdiff_t part, int rows_of, int row) {
            return table + part + at.of(group, rows_of) + at.of(1, row) + 2 * (place % wide);
        };
        const auto wave = [&](std::int64_t halves) { return circle + 2 * (bin * halves % (2 * n)); };
        const auto put = [&](float* to, std::int64_t halves, double scale) {
            const float* at_end = wave(halves);
            to[0] = static_cast<float>(scale * static_cast<double>(at_end[0]));
            to[1] = static_cast<float>(scale * static_cast<double>(at_end[1]));
        };
        const double sine = std::sin(pi * bin / n);
        const auto ones = [&](int length) { // their DFT about the centre
            if (bin == 0) return static_cast<double>(live * static_cast<float>(length));
            return static_cast<double>(-wave(length)[1]) / sine;
        };
        for (int j = 0; j <= at.segments; ++j) {
            const int begin = at.edge(job, j), length = job.n_cuts ? at.length(job, j) : 1;
            put(in_rows(at.rests, at.segments + 1, j), begin + n - std::int64_t{1}, ones(n - begin));
            if (j == at.segments) break;
            const std::int64_t centre = std::int64_t{2} * begin + length - 1;
            put(in_rows(at.ones, at.segments, j), centre, ones(length));
            if (job.n_cuts) put(in_rows(at.turns, at.segments, j), centre, 1);
        }
        for (int f = 0; f + 1 < job.n_places && job.n_places > job.n_cuts; ++f)
            put(in_rows(at.step_turns, job.n_places, f), job.places[f] + job.places[f + 1] - std::int64_t{1},
                static_cast<double>(live));
        for (int odd = 0; odd < 2; ++odd) {
            const auto about_centre = [&](int m) { return wave(std::int64_t{2} * m + !odd); };
            for (int m = 0; m < at.step_half[odd]; ++m) {
                float* to = in_rows(at.step_waves[odd], at.step_half[odd], m);
                to[0] = about_centre(m + odd)[0], to[1] = -about_centre(m + odd)[1];
            }
            for (int term = 0; term < at.terms[odd]; ++term) {
                float* to = in_rows(at.waves[odd], at.terms[odd], term);
                if (!job.rank) {
                    to[0] = live * about_centre(term)[0], to[1] = -live * about_centre(term)[1];
                    continue;
                }
                double even_part = 0, odd_part = 0;
                const float* row = job.basis + std::ptrdiff_t{2} * (odd * most_half * std::ptrdiff_t{job.rank} + term);
                int angle = odd ? 0 : bin; // of about_centre(m)
                for (int m = 0; m < most_half; ++m, row += std::ptrdiff_t{2} * job.rank) {
                    even_part += static_cast<double>(row[0] * circle[2 * angle]);
                    odd_part -= static_cast<double>(row[1] * circle[2 * angle + 1]);
                    angle += 2 * bin;
                    if (angle >= 2 * n) angle -= 2 * n;
                }
                to[0] = live * static_cast<float>(even_part), to[1] = live * static_cast<float>(odd_part);
            }
        }
    });
}

std::size_t overlapping_scratch(const OverlappingBandPower& job) {
    return static_cast<std::size_t>(OverlappingLayout(job).size);
}

void overlapping_band_power(const OverlappingBandPower& job, const float* table, float* out, std::ptrdiff_t group,
                            std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch) {
    const OverlappingLayout at(job);
    const std::ptrdiff_t channel = group * together * lanes;
    // Of weights that are not 0, and whether they are alike.
    std::int32_t* ranges = reinterpret_cast<std::int32_t*>(scratch + at.ranges);
    for (int k = 0; k < job.n_bands; ++k, ranges += 3) {
        float* weights = scratch + at.weights + static_cast<std::ptrdiff_t>(k) * at.groups * wide;
        ranges[0] = ranges[1] = 0, ranges[2] = 1;
        int b = 0;
        neighbourhood(job, [&](int place, int bin) {
            weights[place] = 0;
            if (b == job.n_bins || bin != job.bins[b]) return;
            const float own = job.weights[k * job.weights_stride + b++];
            weights[place] = static_cast<float>(job.a * job.a) * own;
            if (own == 0) return;
            if (!ranges[1]) ranges[0] = place;
            ranges[1] = place + 1;
        });
        for (int i = ranges[0]; i < ranges[1]; ++i) ranges[2] &= weights[i] == weights[ranges[0]];
    }
    const auto start = [&](std::ptrdiff_t i) { return job.starts[job.order[i]]; };
    std::ptrdiff_t known = -job.window;
    while (begin < end) {
        const std::int64_t own = start(begin) + job.first;
        const std::ptrdiff_t anchor = (own + job.window - 1) / job.window * job.window - job.first;
        std::ptrdiff_t last = begin + 1;
        while (last < end && (job.n_cuts || last - begin < most) && start(last) <= anchor) ++last;
        const auto run_of = [&]<class T, int V>() { return job.n_cuts ? anchored<T, V, true> : anchored<T, V, false>; };
        const auto run_on = [&]<class T>() {
            return job.channels - channel > lanes ? run_of.template operator()<T, together>()
                                                  : run_of.template operator()<T, 1>();
        };
        const auto run = job.float64 ? run_on.template operator()<double>() : run_on.template operator()<float>();
        run(job, at, table, out, channel, begin, last, anchor, known, scratch);
        begin = last;
    }
}

} // namespace mmme::MMME_ISA
