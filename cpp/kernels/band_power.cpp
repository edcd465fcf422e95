// Band power by a direct DFT of only the bins that the bands need, as a product of small matrices.
//
// A power does not depend on the phase of its window, so phases count from the window's centre: the sum of the samples
// at equal distance from it meets the cosines only, their difference the sines, and half of the products remain. A row
// is one channel's window. A few rows at a time stay in registers while the table streams past, its lanes the bins.
#include "isa.hpp"

#include <cmath>

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
    for (std::ptrdiff_t m = 0; m < half; ++m, table += V * lanes)
        for (int r = 0; r < rows; ++r) {
            const float x = folded[r * stride + m];
            for (int v = 0; v < V; ++v) sums[r][v] += x * load(table + v * lanes);
        }
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < V; ++v) store(dft + r * panel + v * lanes, sums[r][v]);
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

} // namespace mmme::MMME_ISA
