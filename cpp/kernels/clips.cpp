// Band power of windows of a filtered signal, straight from rows of samples: lanes are channels.
//
// The filter and the DFT of the bins that the bands need are one matrix over the samples around a window. It is even
// (cosines) or odd (sines) about the window's middle, so samples at equal distance from it meet in a sum and a
// difference, and half of the products remain. Far from both the window and the filter's ends the matrix changes so
// slowly that few numbers for a window, made of sums over blocks of samples, stand for all samples there.
//
// What is left of an offset of 40 mV must be exact to a thousandth of a microvolt. The matrix is summed up, so that it
// meets the samples' differences, each from the next one inwards: these are exact in single precision, however large
// the offset, and no larger for a drift. Products of few of them at a time are summed in single precision. The slow
// part is in double precision throughout.
//
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
constexpr int terms = 64; // that go through together: with their part of the matrix they stay in the first-level cache
constexpr int batch = 8;  // windows whose sums of blocks are read together

// Memory that is fetched while there is arithmetic to do, a little with each term, for a CPU waits when it has asked
// for more lines than it can have under way.
struct Ahead {
    const char* at;
    std::ptrdiff_t step; // bytes with each term

    template <class Sample>
    Ahead(const Sample* from, std::ptrdiff_t values, std::ptrdiff_t all_terms)
        : at(reinterpret_cast<const char*>(from)),
          step(values * static_cast<std::ptrdiff_t>(sizeof(Sample)) / all_terms) {}
    void fetch() {
        MMME_PREFETCH(at);
        at += step;
    }
};

// sums[r][lane] += sum over k of matrix[k][r] * rows[k][lane].
template <int R, class T>
void product(const T* MMME_RESTRICT matrix, std::ptrdiff_t matrix_stride, const T* MMME_RESTRICT rows, std::ptrdiff_t n,
             double* MMME_RESTRICT sums, Ahead& ahead) {
    constexpr int lanes = sizeof(Vec<T>) / sizeof(T);
    Vec<T> sum[R][2] = {};
    Ahead own = ahead;
    for (std::ptrdiff_t k = 0; k < n; ++k, rows += width, matrix += matrix_stride) {
        own.fetch();
        const Vec<T> a = load(rows), b = load(rows + lanes);
        MMME_UNROLL
        for (int r = 0; r < R; ++r) {
            sum[r][0] += matrix[r] * a;
            sum[r][1] += matrix[r] * b;
        }
    }
    ahead = own;
    T done[R][2 * lanes];
    MMME_UNROLL
    for (int r = 0; r < R; ++r) {
        store(done[r], sum[r][0]);
        store(done[r] + lanes, sum[r][1]);
    }
    for (int r = 0; r < R; ++r)
        for (int l = 0; l < 2 * lanes; ++l) sums[r * width + l] += static_cast<double>(done[r][l]);
}

template <class T>
void product_of(int count, const T* matrix, std::ptrdiff_t matrix_stride, const T* rows, std::ptrdiff_t n, double* sums,
                Ahead& ahead) {
    constexpr int lanes = sizeof(Vec<T>) / sizeof(T);
    for (; count > 0; count -= tile, matrix += tile, sums += tile * width)
        for (int lane = 0; lane < width; lane += 2 * lanes) {
            if (count >= tile)
                product<tile>(matrix, matrix_stride, rows + lane, n, sums + lane, ahead);
            else
                for (int r = 0; r < count; ++r)
                    product<1>(matrix + r, matrix_stride, rows + lane, n, sums + r * width + lane, ahead);
        }
}

// The recording's rows. Beyond its ends it goes on as a half turn about its first and its last sample.
template <class Sample> struct Rows {
    const Sample* data;
    std::ptrdiff_t stride, count;

    explicit Rows(const ClipPower& job)
        : data(static_cast<const Sample*>(job.data)), stride(job.stride), count(job.samples) {}
    bool outside(std::ptrdiff_t row) const { return row < 0 || row >= count; }
    std::ptrdiff_t turned(std::ptrdiff_t row) const {
        return row < 0 ? -row : row >= count ? 2 * (count - 1) - row : row;
    }
    const Sample* edge(std::ptrdiff_t row) const { return data + (row < 0 ? 0 : count - 1) * stride; }
    const Sample* operator[](std::ptrdiff_t row) const { return data + row * stride; }
};

// Sums and differences, over pairs of samples at equal distance from the middle, of what each differs by from the next
// one inwards; the last of them from `inmost`, where that is given.
template <class Sample>
void fold(const Rows<Sample>& rows, std::ptrdiff_t before, std::ptrdiff_t after, int lane, int pairs,
          const Sample* inmost, int count, float* MMME_RESTRICT even, float* MMME_RESTRICT odd) {
    for (int i = 0; i < pairs; ++i, ++before, --after, even += width, odd += width) {
        // A half turn makes of a difference the one of the samples turned, in their order.
        const bool b_out = rows.outside(before), a_out = rows.outside(after);
        const Sample* MMME_RESTRICT b = rows[b_out ? rows.turned(before + 1) : before] + lane;
        const Sample* MMME_RESTRICT a = rows[a_out ? rows.turned(after - 1) : after] + lane;
        const Sample* MMME_RESTRICT from_b = rows[b_out ? rows.turned(before) : before + 1] + lane;
        const Sample* MMME_RESTRICT from_a = rows[a_out ? rows.turned(after) : after - 1] + lane;
        if (inmost != nullptr && i == pairs - 1) {
            const Sample *b_edge = rows.edge(before) + lane, *a_edge = rows.edge(after) + lane;
            for (int l = 0; l < count; ++l) {
                const Sample x = b_out ? (b_edge[l] - from_b[l]) + (b_edge[l] - inmost[l]) : b[l] - inmost[l];
                const Sample y = a_out ? (a_edge[l] - from_a[l]) + (a_edge[l] - inmost[l]) : a[l] - inmost[l];
                even[l] = static_cast<float>(x + y);
                odd[l] = static_cast<float>(x - y);
            }
            continue;
        }
        const auto pair = [&](int l) {
            const Sample x = b[l] - from_b[l], y = a[l] - from_a[l];
            even[l] = static_cast<float>(x + y);
            odd[l] = static_cast<float>(x - y);
        };
        if (count == width) {
            MMME_LANES
            for (int l = 0; l < width; ++l) pair(l);
        } else {
            for (int l = 0; l < count; ++l) pair(l);
        }
    }
}

// Channels by groups of `width`. The last group is the last channels, some of which are in the one before as well.
struct Groups {
    int count, lanes, last;

    explicit Groups(const ClipPower& job)
        : count((job.channels + width - 1) / width), lanes(job.channels < width ? job.channels : width),
          last(job.channels - lanes) {}
    int first(int group) const { return group < count - 1 ? group * width : last; }
};

struct Layout {
    std::ptrdiff_t even, odd, values, size; // in doubles
    std::ptrdiff_t group_values, window_values, group_dft, window_dft;

    explicit Layout(const ClipPower& job) {
        const Groups groups(job);
        group_values = std::ptrdiff_t{1} * job.n_values * width;
        window_values = groups.count * group_values;
        group_dft = std::ptrdiff_t{2} * job.n_bins * width;
        window_dft = std::ptrdiff_t{2} * job.n_bins * job.lanes;
        even = 0;
        odd = even + terms * width / 2;
        values = odd + terms * width / 2;
        size = values + batch * window_values;
    }
};

// Adds what the span's pairs make of the DFT of all channels. Meanwhile the `hop` rows from `next` on are fetched, or,
// if it is null, the pairs that go through next, after the last of them those that are first in the next window.
template <class Sample>
void add_pairs(const ClipPower& job, const ClipPower::Span& span, std::ptrdiff_t start, const Sample* next, double* dft,
               double* scratch) {
    const Groups groups(job);
    const Layout at(job);
    const Rows<Sample> rows(job);
    float* even = reinterpret_cast<float*>(scratch + at.even);
    float* odd = reinterpret_cast<float*>(scratch + at.odd);
    const float* matrix = span.matrix;
    const std::ptrdiff_t products = groups.count * ((job.n_bins + tile - 1) / tile); // of sums, and of differences
    const std::ptrdiff_t half = job.hop * job.stride / 2;
    Ahead with_even(next, half, products * span.pairs),
        with_odd(next ? next + half : next, half, products * span.pairs);
    for (int i = 0; i < span.pairs; i += terms) {
        const int left = span.pairs - i, n = left < terms ? left : terms;
        const bool last = n == left;
        if (next == nullptr) {
            const int count = last || left - n > terms ? terms : left - n;
            const std::ptrdiff_t before = start - span.reach + (last ? job.hop : i + n);
            const std::ptrdiff_t after = start + job.window + span.reach + (last ? job.hop : -i - n);
            with_even = Ahead(rows[before], count * job.stride, products * n);
            with_odd = Ahead(rows[after - count], count * job.stride, products * n);
        }
        for (int group = 0; group < groups.count; ++group) {
            const int lane = groups.first(group);
            fold(rows, start - span.reach + i, start + job.window - 1 + span.reach - i, lane, n,
                 last ? rows[start + job.window / 2] + lane : nullptr, groups.lanes, even, odd);
            double* own = dft + group * at.group_dft;
            product_of(job.n_bins, matrix, 2 * job.n_bins, even, n, own, with_even);
            product_of(job.n_bins, matrix + job.n_bins, 2 * job.n_bins, odd, n, own + job.n_bins * width, with_odd);
        }
        matrix += 2 * job.n_bins * n;
    }
}

template <class Sample>
void window_power(const ClipPower& job, std::ptrdiff_t start, double* values, double* dft, double* out,
                  double* scratch) {
    const Layout at(job);
    const Groups groups(job);
    const int n_bins = job.n_bins;
    const Sample* middle = Rows<Sample>(job)[start + job.window / 2];
    add_pairs<Sample>(job, job.far, start, static_cast<const Sample*>(nullptr), dft, scratch);
    for (int group = 0; group < groups.count; ++group, values += at.group_values, dft += at.group_dft) {
        const int lane = groups.first(group);
        const double* whole = job.slow + job.nodes * job.n_values;
        for (int v = 0; v < job.n_values; ++v)
            for (int l = 0; l < groups.lanes; ++l)
                values[v * width + l] -= whole[v] * static_cast<double>(middle[lane + l]);
        Ahead none(values, 0, 1);
        product_of(2 * n_bins, job.curves, 2 * n_bins, values, job.n_values, dft, none);

        for (int i = 0; i < n_bins * width; ++i) {
            const double re = dft[i], im = dft[n_bins * width + i];
            dft[i] = re * re + im * im;
        }
        for (int band = 0; band < job.n_bands; ++band) {
            double power[width] = {};
            for (int b = 0; b < n_bins; ++b)
                for (int l = 0; l < width; ++l) power[l] += job.weights[band * n_bins + b] * dft[b * width + l];
            for (int l = 0; l < groups.lanes; ++l) out[(lane + l) * job.n_bands + band] = power[l];
        }
    }
}

// Sums over n rows of samples less `reference`, and of these times (i + 1/2) in the i-th row.
template <class Sample>
MMME_NOINLINE void sum_rows(const Sample* MMME_RESTRICT rows, std::ptrdiff_t stride, int n,
                            const Sample* MMME_RESTRICT reference, Sample* MMME_RESTRICT sums,
                            Sample* MMME_RESTRICT moments, Ahead& ahead) {
    constexpr int lanes = sizeof(Vec<Sample>) / sizeof(Sample), vectors = width / lanes;
    Vec<Sample> sum[vectors] = {}, moment[vectors] = {}, less[vectors];
    MMME_UNROLL
    for (int v = 0; v < vectors; ++v) less[v] = load(reference + v * lanes);
    Sample place = Sample(0.5);
    Ahead own = ahead;
    for (int i = 0; i < n; ++i, rows += stride, place += 1) {
        own.fetch();
        MMME_UNROLL
        for (int v = 0; v < vectors; ++v) {
            const Vec<Sample> x = load(rows + v * lanes) - less[v];
            sum[v] += x;
            moment[v] += place * x;
        }
    }
    MMME_UNROLL
    for (int v = 0; v < vectors; ++v) {
        store(sums + v * lanes, sum[v]);
        store(moments + v * lanes, moment[v]);
    }
    ahead = own;
}

// Adds the block of samples from `row` on to the sums of the node where it begins and of the one where it ends, with
// weights that fall from 1 to 0 and that rise from 0 to 1: of all groups, a few rows at a time, so that memory is read
// in its order. These sums, of samples less those of the first row, lose no digit that counts in single precision.
template <class Sample>
void add_block(const ClipPower& job, std::ptrdiff_t row, double* begin, std::ptrdiff_t begin_stride, double* end,
               std::ptrdiff_t end_stride) {
    constexpr int together = 25;
    const Groups groups(job);
    const Rows<Sample> rows(job);
    const double step = 1.0 / job.block;
    for (int t = 0; t < job.block; t += together) {
        const int n = job.block - t < together ? job.block - t : together;
        const bool whole = groups.lanes == width && !rows.outside(row + t) && !rows.outside(row + t + n - 1);
        const double all = step * n * (t + 0.5 * n);
        Ahead ahead(rows[row + t + 2 * together], n * job.stride, n * groups.count);
        for (int group = 0; group < groups.count; ++group) {
            double* MMME_RESTRICT to_begin = begin + group * begin_stride;
            double* MMME_RESTRICT to_end = end + group * end_stride;
            const int lane = groups.first(group);
            alignas(64) Sample sums[width], moments[width], reference[width] = {};
            for (int l = 0; l < groups.lanes; ++l) reference[l] = rows[rows.turned(row + t)][lane + l];
            if (whole) {
                sum_rows(rows[row + t] + lane, job.stride, n, reference, sums, moments, ahead);
            } else {
                alignas(64) Sample turned[together * width] = {}, none[width] = {};
                for (int i = 0; i < n; ++i) {
                    const bool outside = rows.outside(row + t + i);
                    const Sample* own = rows[rows.turned(row + t + i)] + lane;
                    const Sample* edge = rows.edge(row + t + i) + lane;
                    for (int l = 0; l < groups.lanes; ++l)
                        turned[i * width + l] =
                            outside ? (edge[l] - own[l]) + (edge[l] - reference[l]) : own[l] - reference[l];
                }
                sum_rows(turned, width, n, none, sums, moments, ahead);
            }
            MMME_LANES
            for (int l = 0; l < width; ++l) {
                const double r = static_cast<double>(reference[l]), sum = static_cast<double>(sums[l]);
                const double rising = step * (t * sum + static_cast<double>(moments[l])) + all * r;
                to_begin[l] += sum + n * r - rising;
                to_end[l] += rising;
            }
        }
    }
}

// The first of items `step` apart, the first of all at `from`, that does not begin before `row`.
std::ptrdiff_t first_after(std::ptrdiff_t row, std::ptrdiff_t from, std::ptrdiff_t step, std::ptrdiff_t count) {
    const std::ptrdiff_t i = row <= from ? 0 : (row - from + step - 1) / step;
    return i < count ? i : count;
}

// Reads one value of each page of rows, for of a page of a file that is not mapped yet nothing can be fetched.
template <class Sample> void touch(const Rows<Sample>& rows, std::ptrdiff_t begin, std::ptrdiff_t end) {
    constexpr std::ptrdiff_t page = 4096 / sizeof(Sample);
    if (rows.outside(begin) || rows.outside(end - 1)) return;
    for (const volatile Sample* at = rows[begin]; at < rows[end - 1]; at += page) static_cast<void>(*at);
}

template <class Sample>
void read(const ClipPower& job, double* sums, double* dft, std::ptrdiff_t begin, std::ptrdiff_t end, double* scratch) {
    const Layout at(job);
    const Groups groups(job);
    const std::ptrdiff_t stride = job.all_nodes * width;
    const Rows<Sample> rows(job);
    double* outside = scratch + at.size; // sums of nodes that are not these
    for (std::ptrdiff_t chunk = begin; chunk < end; ++chunk) {
        touch(rows, (chunk + 1) * job.hop, (chunk + 2) * job.hop);
        for (int clip = 0; clip < job.clips; ++clip) {
            const std::ptrdiff_t row = chunk * job.hop, next = row + job.hop, start = job.starts[clip];
            const auto nodes = [&](std::ptrdiff_t from) {
                return first_after(from, start - job.inner, job.block, job.all_nodes);
            };
            double* own = sums + clip * job.all_nodes * job.lanes;
            const std::ptrdiff_t first = nodes(row), last = nodes(next), owned = nodes(end * job.hop);
            // A node's sum begins with the block before it, which another call has if it is not in these chunks.
            const bool anew = first < last && (chunk == begin || first == 0);
            for (std::ptrdiff_t i = first - anew; i < last; ++i) {
                const bool low = i >= first, high = i + 1 < owned;
                add_block<Sample>(job, start - job.inner + i * job.block, low ? own + i * width : outside,
                                  low ? stride : width, high ? own + (i + 1) * width : outside, high ? stride : width);
            }
            const std::ptrdiff_t nearest = job.window + job.near.reach - 1; // last sample near a window
            const auto windows = [&](std::ptrdiff_t from) {
                return first_after(from, start + nearest, job.hop, job.windows);
            };
            for (std::ptrdiff_t i = windows(row); i < windows(next); ++i)
                add_pairs<Sample>(job, job.near, start + i * job.hop, rows[next],
                                  dft + (clip * job.windows + i) * at.window_dft, scratch);
        }
    }
}

} // namespace

void clip_sums(const ClipPower& job, double* sums, double* dft, std::ptrdiff_t begin, std::ptrdiff_t end,
               float* scratch) {
    if (job.float64)
        read<double>(job, sums, dft, begin, end, reinterpret_cast<double*>(scratch));
    else
        read<float>(job, sums, dft, begin, end, reinterpret_cast<double*>(scratch));
}

std::size_t clip_scratch(const ClipPower& job) {
    return static_cast<std::size_t>(2 * (Layout(job).size + job.lanes));
}

void clip_power(const ClipPower& job, const double* sums, double* dft, double* out, std::ptrdiff_t begin,
                std::ptrdiff_t end, float* scratch) {
    const Layout at(job);
    const Groups groups(job);
    double* memory = reinterpret_cast<double*>(scratch);
    const auto clip_of = [&](std::ptrdiff_t i) { return i / job.windows; };
    for (std::ptrdiff_t first = begin; first < end; first += batch) {
        const std::ptrdiff_t n = end - first < batch ? end - first : batch;
        for (std::ptrdiff_t i = at.values; i < at.size; ++i) memory[i] = 0;
        for (int group = 0; group < groups.count; ++group)
            for (std::ptrdiff_t i = 0; i < n; ++i) {
                const std::ptrdiff_t clip = clip_of(first + i), node = (first + i) % job.windows * job.hop / job.block;
                const double* own = sums + clip * job.all_nodes * job.lanes + (group * job.all_nodes + node) * width;
                double* values = memory + at.values + i * at.window_values + group * at.group_values;
                Ahead none(own, 0, 1);
                for (std::ptrdiff_t k = 0; k < job.nodes; k += terms)
                    product_of(job.n_values, job.slow + k * job.n_values, job.n_values, own + k * width,
                               job.nodes - k < terms ? job.nodes - k : terms, values, none);
            }
        for (std::ptrdiff_t i = first; i < first + n; ++i) {
            const std::ptrdiff_t start = job.starts[clip_of(i)] + i % job.windows * job.hop;
            double *values = memory + at.values + (i - first) * at.window_values, *own = dft + i * at.window_dft;
            double* to = out + i * job.channels * job.n_bands;
            if (job.float64)
                window_power<double>(job, start, values, own, to, memory);
            else
                window_power<float>(job, start, values, own, to, memory);
        }
    }
}

} // namespace mmme::MMME_ISA
