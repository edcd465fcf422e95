// Band power by a DFT of only the bins that the bands need: directly, as a product of small matrices, and for windows
// that overlap with sums that they share.
//
// Directly. A power does not depend on the phase of its window, so phases count from the window's centre: the sum of
// the samples at equal distance from it meets the cosines only, their difference the sines, and half of the products
// remain. A row is one channel's window. A few rows at a time stay in registers while the table streams past, its lanes
// the bins.
//
// Overlapping (van Herk). Every window of n samples holds exactly one multiple of n, its anchor. Its DFT is a sum that
// runs back from the anchor to its start plus one that runs on from the anchor to its end, and both are met on the way
// to those of its neighbours. Sums that start anew every n samples keep no memory of what came before the window.
// Phases count from the anchor, and the taper a - b cos is three taps across the bins. Lanes are channels.
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

constexpr int batch = 256; // windows whose DFT is in memory at a time
constexpr int ahead = 4;   // windows that are finished while their DFT is in the first-level cache
constexpr int wide = lanes == 16 ? 12 : 6, narrow = lanes == 16 ? 4 : 2; // bins whose sums fit into registers

// The bins whose DFT is needed: the bands' and both neighbours of each. One below 0 or above n / 2 is like any other.
template <class Each> int neighbourhood(const OverlappingBandPower& job, const Each& each) {
    int count = 0, last = -2;
    for (int b = 0; b < job.n_bins; ++b)
        for (int bin = job.bins[b] - 1; bin <= job.bins[b] + 1; ++bin)
            if (bin > last) each(count++, last = bin);
    return count;
}

// Calls with.operator()<W>(first) for groups of W of `count` bins.
template <class With> void in_groups(int count, const With& with) {
    int first = 0;
    for (; first + wide <= count; first += wide) with.template operator()<wide>(first);
    for (; first + narrow <= count; first += narrow) with.template operator()<narrow>(first);
    for (; first < count; ++first) with.template operator()<1>(first);
}

// Offsets of the parts of the scratch memory, in floats. A DFT is (bin, re and im, lane).
struct OverlappingLayout {
    int count = 0;                     // of a DFT's bins
    int constants[2], n_constants = 0; // those that a constant changes: bin 0, which is bin n as well
    std::ptrdiff_t dft, samples, dfts, running, power, centres, ranges, size;

    explicit OverlappingLayout(const OverlappingBandPower& job) {
        count = neighbourhood(job, [&](int place, int bin) {
            if (bin % job.window == 0) constants[n_constants++] = place;
        });
        dft = 2 * static_cast<std::ptrdiff_t>(count) * lanes;
        samples = 0;
        dfts = samples + 2 * static_cast<std::ptrdiff_t>(job.window) * lanes;
        running = dfts + batch * dft;
        power = running + dft;
        centres = power + static_cast<std::ptrdiff_t>(job.n_bins) * lanes;
        ranges = centres + padded(job.n_bins);
        size = ranges + padded(2 * static_cast<std::ptrdiff_t>(job.n_bands));
    }
};

#ifdef MMME_VECTOR
template <int... I> MMME_INLINE Vec low_halves(Vec a, Vec b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 2 + I % 2 * lanes)...);
}
template <int... I> MMME_INLINE Vec high_halves(Vec a, Vec b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (lanes / 2 + I / 2 + I % 2 * lanes)...);
}
// Every round interleaves the first half of the vectors with the second.
MMME_INLINE void transpose(Vec (&v)[lanes]) {
    constexpr auto all = std::make_integer_sequence<int, lanes>();
    MMME_UNROLL
    for (int round = 1; round < lanes; round *= 2) {
        Vec next[lanes];
        MMME_UNROLL
        for (int i = 0; i < lanes / 2; ++i) {
            next[2 * i] = low_halves(v[i], v[i + lanes / 2], all);
            next[2 * i + 1] = high_halves(v[i], v[i + lanes / 2], all);
        }
        MMME_UNROLL
        for (int i = 0; i < lanes; ++i) v[i] = next[i];
    }
}
#else
MMME_INLINE void transpose(Vec (&)[lanes]) {}
#endif

// Samples of the group's channels, less each channel's reference, as (sample, lane).
template <class T>
void gather(const T* const* channels, const T* references, std::ptrdiff_t begin, std::ptrdiff_t end, float* to) {
    std::ptrdiff_t t = begin;
    for (; t + lanes <= end; t += lanes, to += lanes * lanes) {
        alignas(64) float block[lanes][lanes];
        for (int c = 0; c < lanes; ++c) {
            const T* MMME_RESTRICT from = channels[c] + t;
            const T reference = references[c];
            MMME_LANES
            for (int l = 0; l < lanes; ++l) block[c][l] = static_cast<float>(from[l] - reference);
        }
        Vec v[lanes];
        MMME_UNROLL
        for (int c = 0; c < lanes; ++c) v[c] = load(block[c]);
        transpose(v);
        MMME_UNROLL
        for (int l = 0; l < lanes; ++l) store(to + l * lanes, v[l]);
    }
    for (; t < end; ++t, to += lanes)
        for (int c = 0; c < lanes; ++c) to[c] = static_cast<float>(channels[c][t] - references[c]);
}

// Sums of samples times rows of the table, on from row `from`, or back from it: at every stop the sums so far become
// its DFT, or on the way on are added to it. They are added up row by row, so that no stop matters to the others.
template <int W, bool back>
void sweep(const float* samples, const float* table, int from, const int* stops, int count, float* running, float* dfts,
           std::ptrdiff_t stride) {
    Vec sums[2 * W];
    MMME_UNROLL
    for (int w = 0; w < 2 * W; ++w) sums[w] = load(running + w * lanes);
    std::ptrdiff_t t = from;
    const float* x = samples + t * lanes;
    const float* row = table + t * 2 * W;
    for (int i = back ? count - 1 : 0; back ? i >= 0 : i < count; i += back ? -1 : 1) {
        for (; t != stops[i]; t += back ? -1 : 1) {
            if constexpr (back) x -= lanes, row -= 2 * W;
            const Vec sample = load(x);
            MMME_UNROLL
            for (int w = 0; w < 2 * W; ++w) sums[w] += row[w] * sample;
            if constexpr (!back) x += lanes, row += 2 * W;
        }
        float* dft = dfts + i * stride;
        MMME_UNROLL
        for (int w = 0; w < 2 * W; ++w) store(dft + w * lanes, back ? sums[w] : load(dft + w * lanes) + sums[w]);
    }
    MMME_UNROLL
    for (int w = 0; w < 2 * W; ++w) store(running + w * lanes, sums[w]);
}

// |DFT of the tapered window|^2 of the bands' bins, from the window's DFT without a taper.
void powers(const OverlappingBandPower& job, int start, const float* dft, const std::int32_t* centres,
            float* MMME_RESTRICT power) {
    const double phase = 2 * pi * start / job.window; // of the taper, which starts with the window
    const float a = static_cast<float>(job.a), c = static_cast<float>(job.b / 2 * std::cos(phase)),
                s = static_cast<float>(job.b / 2 * std::sin(phase));
    for (int b = 0; b < job.n_bins; ++b, power += lanes) {
        const float* at = dft + centres[b] * 2 * static_cast<std::ptrdiff_t>(lanes);
        const Vec left_re = load(at - 2 * lanes), left_im = load(at - lanes);
        const Vec right_re = load(at + 2 * lanes), right_im = load(at + 3 * lanes);
        const Vec re = a * load(at) - c * (right_re + left_re) + s * (right_im - left_im);
        const Vec im = a * load(at + lanes) - c * (right_im + left_im) - s * (right_re - left_re);
        store(power, re * re + im * im);
    }
}

// The windows `begin`..`end` in the order of their starts, which have one anchor.
template <class T>
void anchored(const OverlappingBandPower& job, const OverlappingLayout& at, const float* table, float* out,
              std::ptrdiff_t group, std::ptrdiff_t begin, std::ptrdiff_t end, std::ptrdiff_t anchor, float* scratch) {
    const int n = job.window, count = static_cast<int>(end - begin);
    const int used = static_cast<int>(job.channels - group * lanes < lanes ? job.channels - group * lanes : lanes);
    float* samples = scratch + at.samples;
    float* dfts = scratch + at.dfts;
    float* running = scratch + at.running;
    float* power = scratch + at.power;
    const std::int32_t* centres = reinterpret_cast<const std::int32_t*>(scratch + at.centres);
    const std::int32_t* ranges = reinterpret_cast<const std::int32_t*>(scratch + at.ranges);

    int stops[batch]; // rows before the window's start behind the anchor, and before its end ahead of it
    for (int i = 0; i < count; ++i) stops[i] = static_cast<int>(job.starts[job.order[begin + i]] - anchor) + n;

    // A constant changes no bin but 0. Less the sample at the anchor, which every window holds, a large offset costs no
    // digits.
    const T* channels[lanes];
    T references[lanes];
    alignas(64) float constant[lanes];
    for (int l = 0; l < lanes; ++l) { // spare lanes repeat the last channel
        const std::ptrdiff_t channel = group * lanes + (l < used ? l : used - 1);
        channels[l] = static_cast<const T*>(job.data) + channel * job.channel_stride + (anchor - n);
        references[l] = channels[l][n];
        constant[l] = static_cast<float>(static_cast<double>(references[l]) * n);
    }
    gather(channels, references, stops[0], n + stops[count - 1], samples);
    const float* before = samples - static_cast<std::ptrdiff_t>(stops[0]) * lanes;
    const float* after = before + static_cast<std::ptrdiff_t>(n) * lanes;

    for (std::ptrdiff_t i = 0; i < at.dft; ++i) running[i] = 0;
    in_groups(at.count, [&]<int W>(int first) {
        const std::ptrdiff_t from = 2 * static_cast<std::ptrdiff_t>(first);
        sweep<W, true>(before, table + from * n, n, stops, count, running + from * lanes, dfts + from * lanes, at.dft);
    });
    for (std::ptrdiff_t i = 0; i < at.dft; ++i) running[i] = 0;
    for (int next = 0, row = 0; next < count; next += ahead) {
        const int some = count - next < ahead ? count - next : ahead;
        float* dft = dfts + next * at.dft;
        in_groups(at.count, [&]<int W>(int first) {
            const std::ptrdiff_t from = 2 * static_cast<std::ptrdiff_t>(first);
            sweep<W, false>(after, table + from * n, row, stops + next, some, running + from * lanes,
                            dft + from * lanes, at.dft);
        });
        row = stops[next + some - 1];
        for (int i = next; i < next + some; ++i, dft += at.dft) {
            for (int c = 0; c < at.n_constants; ++c) {
                float* zero = dft + at.constants[c] * 2 * static_cast<std::ptrdiff_t>(lanes);
                store(zero, job.detrend ? Vec{} : load(zero) + load(constant));
                if (job.detrend) store(zero + lanes, Vec{});
            }
            powers(job, stops[i], dft, centres, power);
            float* to = out + (job.order[begin + i] * job.channels + group * lanes) * job.n_bands;
            for (int k = 0; k < job.n_bands; ++k) {
                const float* weights = job.weights + k * job.weights_stride;
                Vec total = {};
                for (int b = ranges[2 * k]; b < ranges[2 * k + 1]; ++b)
                    total += weights[b] * load(power + b * static_cast<std::ptrdiff_t>(lanes));
                alignas(64) float values[lanes];
                store(values, total);
                for (int l = 0; l < used; ++l) {
                    float& value = to[l * static_cast<std::ptrdiff_t>(job.n_bands) + k];
                    value = job.add ? value + values[l] : values[l];
                }
            }
        }
    }
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
    return 2 * static_cast<std::size_t>(OverlappingLayout(job).count + 1) * static_cast<std::size_t>(job.window);
}

// For each group of bins the rows t = 0..window of cos and -sin of 2 pi bin t / window; and behind them those of bin 1.
void overlapping_fill(const OverlappingBandPower& job, float* table) {
    const int n = job.window, count = OverlappingLayout(job).count;
    float* circle = table + 2 * static_cast<std::ptrdiff_t>(count) * n;
    for (int t = 0; t < n; ++t) {
        circle[2 * t] = static_cast<float>(std::cos(2 * pi * t / n));
        circle[2 * t + 1] = static_cast<float>(-std::sin(2 * pi * t / n));
    }
    neighbourhood(job, [&](int place, int bin) {
        in_groups(count, [&]<int W>(int first) {
            if (place < first || place >= first + W) return;
            float* to = table + 2 * (static_cast<std::ptrdiff_t>(first) * n + place - first);
            const int step = (bin + n) % n;
            for (int t = 0, angle = 0; t < n; ++t, to += 2 * W) {
                to[0] = circle[2 * angle];
                to[1] = circle[2 * angle + 1];
                angle += angle < n - step ? step : step - n;
            }
        });
    });
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
    while (begin < end) {
        const std::int64_t own = start(begin) + job.first;
        const std::ptrdiff_t anchor = (own + job.window - 1) / job.window * job.window - job.first;
        std::ptrdiff_t last = begin + 1;
        while (last < end && last - begin < batch && start(last) <= anchor) ++last;
        if (job.float64)
            anchored<double>(job, at, table, out, group, begin, last, anchor, scratch);
        else
            anchored<float>(job, at, table, out, group, begin, last, anchor, scratch);
        begin = last;
    }
}

} // namespace mmme::MMME_ISA
