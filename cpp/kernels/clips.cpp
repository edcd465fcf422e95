// Band power of windows of a filtered signal, straight from rows of samples: lanes are channels.
//
// The filter and the DFT of the bins that the bands need are one matrix over the samples around a window. It is even
// (cosines) or odd (sines) about the window's middle, so samples at equal distance from it meet in a sum and a
// difference, and half of the products remain. Far from both the window and the filter's ends the matrix changes so
// slowly that few numbers for a window, made of sums over blocks of samples, stand for all samples there.
//
// What is left of an offset of 40 mV must be exact to a thousandth of a microvolt, so all is in double precision, but
// for the samples at the filter's ends, which count for little, once a sample nearby is taken off.
#include "isa.hpp"

namespace mmme::MMME_ISA {
namespace {

#ifdef MMME_VECTOR
template <class T> struct Vector {
    typedef T type MMME_VECTOR(MMME_VECTOR_BYTES);
};
#else
template <class T> struct Vector {
    typedef T type;
};
#endif
template <class T> using Vec = typename Vector<T>::type;
template <class T> MMME_INLINE Vec<T> load(const T* from) {
    return *reinterpret_cast<const Vec<T>*>(from);
}
template <class T> MMME_INLINE void store(T* to, Vec<T> v) {
    *reinterpret_cast<Vec<T>*>(to) = v;
}

constexpr int width = 2 * MMME_VECTOR_LANES; // channels that go through together
constexpr int tile = 6;                      // sums in registers, each of two vectors
constexpr int terms = 32; // that go through together: with their part of the matrix they stay in the first-level cache

// sums[r][lane] += sum over k of matrix[k][r] * rows[k][lane].
template <int R, class T>
void product(const T* MMME_RESTRICT matrix, std::ptrdiff_t matrix_stride, const T* MMME_RESTRICT rows,
             std::ptrdiff_t stride, std::ptrdiff_t n, T* MMME_RESTRICT sums) {
    constexpr int lanes = sizeof(Vec<T>) / sizeof(T);
    Vec<T> sum[R][2];
    MMME_UNROLL
    for (int r = 0; r < R; ++r) {
        sum[r][0] = load(sums + r * width);
        sum[r][1] = load(sums + r * width + lanes);
    }
    for (std::ptrdiff_t k = 0; k < n; ++k, rows += stride, matrix += matrix_stride) {
        const Vec<T> a = load(rows), b = load(rows + lanes);
        MMME_UNROLL
        for (int r = 0; r < R; ++r) {
            sum[r][0] += matrix[r] * a;
            sum[r][1] += matrix[r] * b;
        }
    }
    MMME_UNROLL
    for (int r = 0; r < R; ++r) {
        store(sums + r * width, sum[r][0]);
        store(sums + r * width + lanes, sum[r][1]);
    }
}

template <class T>
void product_of(int count, const T* matrix, std::ptrdiff_t matrix_stride, const T* rows, std::ptrdiff_t stride,
                std::ptrdiff_t n, T* sums) {
    constexpr int lanes = sizeof(Vec<T>) / sizeof(T);
    for (; count > 0; count -= tile, matrix += tile, sums += tile * width)
        for (int lane = 0; lane < width; lane += 2 * lanes) {
            if (count >= tile)
                product<tile>(matrix, matrix_stride, rows + lane, stride, n, sums + lane);
            else
                for (int r = 0; r < count; ++r)
                    product<1>(matrix + r, matrix_stride, rows + lane, stride, n, sums + r * width + lane);
        }
}

// Sums and differences of samples at equal distance from the middle, less what both hold of the reference.
template <class T, class Sample>
void fold(const Sample* MMME_RESTRICT before, const Sample* MMME_RESTRICT after, std::ptrdiff_t stride, int pairs,
          const double* MMME_RESTRICT reference, int count, T* MMME_RESTRICT even, T* MMME_RESTRICT odd) {
    for (int i = 0; i < pairs; ++i, before += stride, after -= stride, even += width, odd += width) {
        const auto pair = [&](int l) {
            const double b = static_cast<double>(before[l]) - reference[l];
            const double a = static_cast<double>(after[l]) - reference[l];
            even[l] = static_cast<T>(b + a);
            odd[l] = static_cast<T>(b - a);
        };
        MMME_PREFETCH(before + terms * stride); // what the next terms are made of: rows are far apart
        MMME_PREFETCH(before + terms * stride + width - 1);
        MMME_PREFETCH(after - terms * stride);
        MMME_PREFETCH(after - terms * stride + width - 1);
        if (count == width) {
            MMME_LANES
            for (int l = 0; l < width; ++l) pair(l);
        } else {
            for (int l = 0; l < count; ++l) pair(l);
        }
    }
}

struct Layout {
    std::ptrdiff_t even, odd, dft, far_dft, values, reference, size; // in doubles

    explicit Layout(const ClipPower& job) {
        const std::ptrdiff_t all = std::ptrdiff_t{2} * job.n_bins * width;
        even = 0;
        odd = even + terms * width;
        dft = odd + terms * width;
        far_dft = dft + all;
        values = far_dft + all / 2;
        reference = values + std::ptrdiff_t{1} * job.n_values * width;
        size = reference + width;
    }
};

// Adds what the span's pairs make of the DFT of `count` channels.
template <class T, class Sample>
void add_pairs(const ClipPower& job, const ClipPower::Span& span, const T* matrix, const Sample* start,
               const double* reference, int count, T* even, T* odd, T* dft) {
    const Sample* before = start - span.reach * job.stride;
    const Sample* after = start + (job.window - 1 + span.reach) * job.stride;
    for (int i = 0; i < span.pairs; i += terms) {
        const int n = span.pairs - i < terms ? span.pairs - i : terms;
        fold(before, after, job.stride, n, reference, count, even, odd);
        product_of(job.n_bins, matrix, 2 * job.n_bins, even, width, n, dft);
        product_of(job.n_bins, matrix + job.n_bins, 2 * job.n_bins, odd, width, n, dft + job.n_bins * width);
        before += n * job.stride;
        after -= n * job.stride;
        matrix += 2 * job.n_bins * n;
    }
}

template <class Sample>
void window_power(const ClipPower& job, const Sample* start, const double* sums, double* out, double* scratch) {
    const Layout at(job);
    double *even = scratch + at.even, *odd = scratch + at.odd, *dft = scratch + at.dft, *values = scratch + at.values;
    double* reference = scratch + at.reference;
    float* far_dft = reinterpret_cast<float*>(scratch + at.far_dft);
    const int n_bins = job.n_bins;
    for (int first = 0; first < job.channels; first += width) {
        // The last lanes of many are the last channels, some of which have been computed already.
        const int count = job.channels < width ? job.channels : width;
        const int lane = first + count > job.channels ? job.channels - count : first;
        const Sample* own = start + lane;
        for (int l = 0; l < count; ++l) reference[l] = static_cast<double>(own[job.window / 2 * job.stride + l]);

        for (int i = 0; i < 2 * n_bins * width; ++i) far_dft[i] = 0;
        add_pairs(job, job.far, job.far_matrix, own, reference, count, reinterpret_cast<float*>(even),
                  reinterpret_cast<float*>(odd), far_dft);
        for (int i = 0; i < 2 * n_bins * width; ++i) dft[i] = static_cast<double>(far_dft[i]);
        add_pairs(job, job.near, job.matrix, own, reference, count, even, odd, dft);

        for (int i = 0; i < job.n_values * width; ++i) values[i] = 0;
        for (std::ptrdiff_t i = 0; i < job.nodes; i += terms) {
            const std::ptrdiff_t n = job.nodes - i < terms ? job.nodes - i : terms;
            const double* rows = sums + i * job.sums_stride + lane;
            product_of(job.n_values, job.slow + i * job.n_values, job.n_values, rows, job.sums_stride, n, values);
        }
        const double* whole = job.slow + job.nodes * job.n_values;
        for (int v = 0; v < job.n_values; ++v)
            for (int l = 0; l < width; ++l) values[v * width + l] -= whole[v] * reference[l];
        product_of(2 * n_bins, job.matrix + std::ptrdiff_t{2} * n_bins * job.near.pairs, 2 * n_bins, values, width,
                   job.n_values, dft);

        for (int i = 0; i < n_bins * width; ++i) {
            const double re = dft[i], im = dft[n_bins * width + i];
            dft[i] = re * re + im * im;
        }
        for (int band = 0; band < job.n_bands; ++band) {
            for (int l = 0; l < width; ++l) even[l] = 0;
            for (int b = 0; b < n_bins; ++b)
                for (int l = 0; l < width; ++l) even[l] += job.weights[band * n_bins + b] * dft[b * width + l];
            for (int l = 0; l < count; ++l) out[(lane + l) * job.n_bands + band] = even[l];
        }
    }
}

// Adds a block of samples to the sums of the node where it begins and of the one where it ends.
template <class Sample>
void add_block(const ClipPower& job, const Sample* MMME_RESTRICT rows, double* MMME_RESTRICT begin,
               double* MMME_RESTRICT end) {
    const auto add = [&](int first, int count) {
        double low[width], high[width];
        for (int l = 0; l < count; ++l) low[l] = begin[first + l], high[l] = end[first + l];
        const Sample* own = rows + first;
        for (int t = 0; t < job.block; ++t, own += job.stride) {
            const double weight = (t + 0.5) / job.block, rest = 1 - weight;
            MMME_PREFETCH(own + job.block * job.stride);
            MMME_LANES
            for (int l = 0; l < count; ++l) {
                const double x = static_cast<double>(own[l]);
                low[l] += rest * x;
                high[l] += weight * x;
            }
        }
        for (int l = 0; l < count; ++l) begin[first + l] = low[l], end[first + l] = high[l];
    };
    int first = 0;
    for (; first + width <= job.channels; first += width) add(first, width);
    if (first < job.channels) add(first, job.channels - first);
}

} // namespace

void clip_sums(const ClipPower& job, double* sums, std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch) {
    double* outside = reinterpret_cast<double*>(scratch); // of these nodes
    for (std::ptrdiff_t i = begin * job.sums_stride; i < end * job.sums_stride; ++i) sums[i] = 0;
    for (std::ptrdiff_t i = begin - 1; i < end; ++i) {
        const std::ptrdiff_t from = (job.start - job.inner + i * job.block) * job.stride;
        double* low = i < begin ? outside : sums + i * job.sums_stride;
        double* high = i + 1 < end ? sums + (i + 1) * job.sums_stride : outside;
        if (job.float64)
            add_block(job, static_cast<const double*>(job.data) + from, low, high);
        else
            add_block(job, static_cast<const float*>(job.data) + from, low, high);
    }
}

std::size_t clip_scratch(const ClipPower& job) {
    return static_cast<std::size_t>(2 * (Layout(job).size + job.sums_stride));
}

void clip_power(const ClipPower& job, const double* sums, double* out, std::ptrdiff_t begin, std::ptrdiff_t end,
                float* scratch) {
    double* memory = reinterpret_cast<double*>(scratch);
    for (std::ptrdiff_t i = begin; i < end; ++i) {
        const std::ptrdiff_t start = job.start + i * job.hop;
        const double* own = sums + i * job.hop / job.block * job.sums_stride;
        double* to = out + i * job.channels * job.n_bands;
        if (job.float64)
            window_power(job, static_cast<const double*>(job.data) + start * job.stride, own, to, memory);
        else
            window_power(job, static_cast<const float*>(job.data) + start * job.stride, own, to, memory);
    }
}

} // namespace mmme::MMME_ISA
