// Two-frame motion estimation by polynomial expansion (Farneback 2003), equal to OpenCV's calcOpticalFlowFarneback.
//
// Each level of a Gaussian pyramid is approximated around every pixel by a quadratic polynomial (prepare). A
// displacement gives every pixel a linear system that relates the two frames' polynomials; the systems are averaged
// over a window and solved for the next displacement (solve). Coefficients, systems and flow are planar; the systems
// live in a ring of rows.
#include "layout.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#if defined(MMME_VECTOR) && defined(__AVX512F__)
#include <immintrin.h>
#define MMME_PICKS
#endif

namespace mmme::MMME_ISA {
namespace {

constexpr int chunk = 64;             // pixels of a row whose taps are looked for together
constexpr int margin = chunk + lanes; // floats before and after a level's coefficients: what taps may touch outside
constexpr int smallest = 32;          // no level is narrower or lower
constexpr int planes = 5; // coefficients y, x, yy, xx, xy of the polynomial; g11, g12, g22, h1, h2 of the system
constexpr int max_poly_n = 31;
constexpr int border = 5; // pixels along the edge whose systems count less
constexpr float border_weights[border] = {0.14f, 0.14f, 0.4472f, 0.4472f, 0.4472f};

// As many floats as one register holds, so that a long loop body keeps to a few addresses; a plain float elsewhere.
#ifdef MMME_VECTOR
typedef float Floats __attribute__((vector_size(MMME_VECTOR_BYTES)));
#else
using Floats = float;
#endif
constexpr int wide = sizeof(Floats) / sizeof(float), lane_bits = std::bit_width(static_cast<unsigned>(wide)) - 1;

template <class Value = Floats> MMME_INLINE Value load(const float* from) {
    Value value;
    std::memcpy(&value, from, sizeof value);
    return value;
}
template <class Value> MMME_INLINE void store(float* to, Value value) {
    std::memcpy(to, &value, sizeof value);
}
MMME_INLINE Floats all(float value) {
    return value - Floats{};
}
MMME_INLINE Floats least(Floats a, Floats b) {
    return a < b ? a : b;
}
MMME_INLINE Floats most(Floats a, Floats b) {
    return a > b ? a : b;
}

constexpr float numbers[lanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#if defined(MMME_VECTOR) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define MMME_SHIFTS
#endif
#endif
#ifdef MMME_SHIFTS
constexpr bool shifts = true;
// The values of `low` from the n-th on, and as many of `high` as then fit.
template <int n> MMME_INLINE Floats shifted(Floats low, Floats high) {
#if MMME_VECTOR_LANES == 16
    return __builtin_shufflevector(low, high, n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7, n + 8, n + 9, n + 10,
                                   n + 11, n + 12, n + 13, n + 14, n + 15);
#elif MMME_VECTOR_LANES == 8
    return __builtin_shufflevector(low, high, n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7);
#else
    return __builtin_shufflevector(low, high, n, n + 1, n + 2, n + 3);
#endif
}
#else
constexpr bool shifts = false;
template <int n> MMME_INLINE Floats shifted(Floats, Floats high) {
    return high;
}
#endif

#ifdef MMME_PICKS
// A load that crosses a cache line takes as long as four that do not, and one of 16 floats nearly always would: then
// values are picked from two neighbouring vectors, `low` and `high`.
constexpr bool picks = true;
typedef int Ints __attribute__((vector_size(MMME_VECTOR_BYTES)));
constexpr Ints lane_numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
MMME_INLINE Floats pick(Floats low, Floats high, Ints places) {
    return _mm512_permutex2var_ps(low, (__m512i)places, high);
}
MMME_INLINE Ints whole(Floats values) {
    return __builtin_convertvector(values, Ints);
}
MMME_INLINE Floats floats(Ints values) {
    return __builtin_convertvector(values, Floats);
}
// Values from + place onwards, `from` aligned.
MMME_INLINE Floats load_at(const float* from, Index place) {
    const Index within = place & (wide - 1);
    from += place - within;
    return pick(load(from), load(from + wide), lane_numbers + static_cast<int>(within));
}
#else
constexpr bool picks = false;
MMME_INLINE Floats load_at(const float* from, Index place) {
    return load(from + place);
}
#endif

template <int n> struct Number {
    static constexpr int value = n;
};
template <int... i, class Body> MMME_INLINE void each(std::integer_sequence<int, i...>, Body&& body) {
    (body(Number<i>{}), ...);
}
// body(Number<0>), ..., body(Number<n - 1>)
template <int n, class Body> MMME_INLINE void each(Body&& body) {
    each(std::make_integer_sequence<int, n>(), body);
}

// Floats from one plane to the next. Planes that lie whole multiples of 2 KB apart compete for the same few places of
// the first cache: a cache line between them saves a tenth of its misses at 512 x 512.
constexpr Index pitch_of(Index floats) {
    return padded(floats) + (padded(floats) % 512 == 0 ? lanes : 0);
}

struct Level {
    int height, width;
    Index row;    // floats computed of each row: whole groups of lanes
    Index stride; // floats from one row of a plane to the next
    double scale;
    Index offset; // of the level's coefficients in a prepared frame
    Index coefficients() const { return planes * stride * height; }
    Index vectors() const { return (width + wide - 1) / wide * wide; } // floats of a row's vectors, which may be fewer
};

Level level_at(int height, int width, const Farneback& p, int k) {
    Level level{height, width, padded(width), pitch_of(width), 1.0, margin};
    for (int i = 0; i < k; ++i) {
        level.offset += level.coefficients() + 2 * margin;
        level.scale *= p.pyr_scale;
        level.height = static_cast<int>(std::lrint(height * level.scale));
        level.width = static_cast<int>(std::lrint(width * level.scale));
        level.row = padded(level.width);
        level.stride = pitch_of(level.width);
    }
    return level;
}

int top_level(int height, int width, const Farneback& p) {
    double scale = 1.0;
    for (int k = 0; k < p.levels; ++k) {
        scale *= p.pyr_scale;
        if (width * scale < smallest || height * scale < smallest) return k;
    }
    return p.levels;
}

template <int terms>
MMME_NOINLINE void weighted_terms(float* MMME_RESTRICT out, Index count, const float* const* at, const float* weights,
                                  bool add) {
    const float* MMME_RESTRICT a[terms];
    float w[terms];
    for (int t = 0; t < terms; ++t) a[t] = at[t], w[t] = weights[t];
    const auto sum = [&](Index x) {
        float value = w[0] * a[0][x];
        MMME_UNROLL
        for (int t = 1; t < terms; ++t) value += w[t] * a[t][x];
        return value;
    };
    if (add) {
        MMME_IVDEP
        for (Index x = 0; x < count; ++x) out[x] += sum(x);
    } else {
        MMME_IVDEP
        for (Index x = 0; x < count; ++x) out[x] = sum(x);
    }
}

// out[x] = sum over t of weights[t] * at(t)[x], plus out[x] itself with `add`.
template <class At>
MMME_INLINE void weighted_sum(float* out, Index count, int terms, const float* weights, At&& at, bool add = false) {
    constexpr int most = 8; // terms in one pass
    for (int t = 0; t < terms; t += most) {
        const float* a[most];
        const int n = smaller(terms - t, most);
        for (int i = 0; i < n; ++i) a[i] = at(t + i);
        const auto pass = [&](auto number) {
            weighted_terms<decltype(number)::value>(out, count, a, weights + t, add || t > 0);
        };
        switch (n) {
        case 1:
            pass(Number<1>{});
            break;
        case 2:
            pass(Number<2>{});
            break;
        case 3:
            pass(Number<3>{});
            break;
        case 4:
            pass(Number<4>{});
            break;
        case 5:
            pass(Number<5>{});
            break;
        case 6:
            pass(Number<6>{});
            break;
        case 7:
            pass(Number<7>{});
            break;
        default:
            pass(Number<8>{});
        }
    }
}

void fill(float* to, Index count, float value) {
    for (Index i = 0; i < count; ++i) to[i] = value;
}

// The row's first and last value go on to both sides.
void extend(float* row, int width, Index before, Index after) {
    fill(row - before, before, row[0]);
    fill(row + width, after, row[width - 1]);
}

// Where bilinear interpolation from n samples to m reads output i: sample `at`, and `part` of the next one.
struct Tap {
    int at;
    float part;
};

Tap tap(int i, int n, int m) {
    const double step = 1.0 / (static_cast<double>(m) / n);
    const float place = static_cast<float>((i + 0.5) * step - 0.5);
    const int at = static_cast<int>(std::floor(place));
    if (at < 0) return {0, 0.0f};
    if (at >= n - 1) return {n - 1, 0.0f};
    return {at, place - static_cast<float>(at)};
}

// The taps of every output, as two rows of floats.
void tap_table(int n, int m, float* at, float* part) {
    for (int i = 0; i < m; ++i) {
        const Tap found = tap(i, n, m);
        at[i] = static_cast<float>(found.at);
        part[i] = found.part;
    }
}

// out[x] = row read at the taps; row has a value after its last, of any finite size.
void interpolate(const float* MMME_RESTRICT row, const float* MMME_RESTRICT at, const float* MMME_RESTRICT part,
                 int count, float* MMME_RESTRICT out) {
    MMME_IVDEP
    for (int x = 0; x < count; ++x) {
        const int i = static_cast<int>(at[x]);
        out[x] = row[i] + part[x] * (row[i + 1] - row[i]);
    }
}

// ---- prepare

// The blur of a level before its size is reduced: 2 * radius + 1 taps.
struct Blur {
    int radius;
    double sigma;
};

Blur blur_of(double scale) {
    const double sigma = (1.0 / scale - 1.0) * 0.5;
    return {larger(static_cast<int>(std::lrint(sigma * 5)) | 1, 3) / 2, sigma};
}

void gaussian(float* taps, int radius, double sigma) {
    double sum = 0;
    for (int i = -radius; i <= radius; ++i) sum += std::exp(-0.5 * i * i / (sigma * sigma));
    for (int i = -radius; i <= radius; ++i)
        taps[i + radius] = static_cast<float>(std::exp(-0.5 * i * i / (sigma * sigma)) / sum);
}

void blur_taps(float* taps, const Blur& blur) {
    if (blur.sigma > 0) return gaussian(taps, blur.radius, blur.sigma);
    taps[0] = taps[2] = 0.25f;
    taps[1] = 0.5f;
}

int mirrored(int i, int n) {
    return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
}

template <class T> void convert_row(const void* from, float* MMME_RESTRICT to, int width, float scale) {
    const T* MMME_RESTRICT row = static_cast<const T*>(from);
    MMME_IVDEP
    for (int x = 0; x < width; ++x) to[x] = static_cast<float>(row[x]) * scale - 128.0f;
}

// Grey values in -128..127: nothing that follows depends on the mean, and small values round better.
void convert(const Image& image, int y, float* to, int width) {
    const char* row = static_cast<const char*>(image.data) + y * image.row_bytes;
    switch (image.pixel) {
    case Pixel::u8:
        return convert_row<std::uint8_t>(row, to, width, 1.0f);
    case Pixel::u16:
        return convert_row<std::uint16_t>(row, to, width, 255.0f / 65535.0f);
    case Pixel::f32:
        return convert_row<float>(row, to, width, 255.0f);
    }
}

// Row y of a level: the blurred frame, read bilinearly. Blur and interpolation over rows are one filter; over columns
// the blur runs on the few rows there are, then the interpolation picks.
void level_row(const float* frame, int height, int width, const Level& level, const Blur& blur, const float* taps,
               const float* columns, int y, float* to, float* memory) {
    const Index stride = padded(width);
    const int r = blur.radius, terms = 2 * r + 2;
    float* row = memory + padded(r);
    float* smooth = row + stride + padded(r);
    float* weights = smooth + stride + lanes;
    const Tap row_tap = tap(y, height, level.height);
    for (int t = 0; t < terms; ++t)
        weights[t] =
            (1.0f - row_tap.part) * (t < terms - 1 ? taps[t] : 0.0f) + row_tap.part * (t > 0 ? taps[t - 1] : 0.0f);
    weighted_sum(row, width, row_tap.part > 0 ? terms : terms - 1, weights,
                 [&](int t) { return frame + mirrored(row_tap.at - r + t, height) * stride; });
    for (int i = 1; i <= r; ++i) {
        row[-i] = row[i];
        row[width - 1 + i] = row[width - 1 - i];
    }
    const bool same = level.width == width;
    weighted_sum(same ? to : smooth, width, terms - 1, taps, [&](int t) { return row - r + t; });
    if (same) return;
    smooth[width] = 0.0f;
    interpolate(smooth, columns, columns + stride, level.width, to);
}

Index level_row_memory(int width, const Blur& blur) {
    return 2 * padded(width) + lanes + 2 * padded(blur.radius) + padded(2 * blur.radius + 2);
}

// Taps 0..n of the five projections on the polynomial's basis under a Gaussian weight, the inverse of the basis' Gram
// matrix folded in, xy halved. Rows first: sum (g), difference (xg), sum (yy); then columns.
struct Expansion {
    float g[max_poly_n + 1], xg[max_poly_n + 1], yy[max_poly_n + 1];                    // over rows
    float y[max_poly_n + 1], x[max_poly_n + 1], xx[max_poly_n + 1], xy[max_poly_n + 1]; // over columns; y^2 is g
};

Expansion expansion(int n, double sigma) {
    if (sigma < 1.1920929e-07) sigma = n * 0.3;
    Expansion e{};
    float g[2 * max_poly_n + 1];
    gaussian(g, n, sigma);
    double m2 = 0, m4 = 0; // moments of the weight in one direction; the odd ones are 0
    for (int i = -n; i <= n; ++i) {
        m2 += static_cast<double>(g[i + n]) * i * i;
        m4 += static_cast<double>(g[i + n]) * i * i * i * i;
    }
    double m0 = 0;
    for (int i = -n; i <= n; ++i) m0 += g[i + n];
    // The Gram matrix couples 1, x^2 and y^2: (m0 m0, m2 m0, m2 m0; ., m4 m0, m2 m2; ., ., m4 m0).
    const double a = m0 * m0, b = m2 * m0, c = m4 * m0, d = m2 * m2;
    const double ig11 = 1 / b, ig55 = 1 / d;
    const double determinant = (c - d) * (a * (c + d) - 2 * b * b);
    const double ig03 = -b * (c - d) / determinant, ig33 = (a * c - b * b) / determinant;
    for (int i = 0; i <= n; ++i) {
        const double w = g[i + n];
        e.g[i] = static_cast<float>(w);
        e.xg[i] = static_cast<float>(w * i);
        e.yy[i] = static_cast<float>(w * (ig03 + ig33 * i * i));
        e.y[i] = static_cast<float>(w * ig11);
        e.x[i] = static_cast<float>(w * i * ig11);
        e.xx[i] = static_cast<float>(w * (ig03 + ig33 * i * i));
        e.xy[i] = static_cast<float>(w * i * ig55 / 2);
    }
    return e;
}

constexpr Index reach = padded(max_poly_n);
Index expand_memory(Index stride) {
    return 3 * (stride + 2 * reach);
}

// Sums over rows of several vectors from x on: there are more taps than registers, and so each is read for all of them.
template <int n, int vectors>
MMME_INLINE void expand_down(const Expansion& e, const float* const* above, const float* const* below, Index x,
                             float* s, float* d, float* q) {
    Floats si[vectors], di[vectors], qi[vectors];
    for (int v = 0; v < vectors; ++v) {
        const Floats centre = load(above[0] + x + v * wide);
        si[v] = all(e.g[0]) * centre;
        di[v] = Floats{};
        qi[v] = all(e.yy[0]) * centre;
    }
    MMME_UNROLL
    for (int k = 1; k <= n; ++k)
        for (int v = 0; v < vectors; ++v) {
            const Floats a = load(above[k] + x + v * wide), b = load(below[k] + x + v * wide), sum = a + b;
            si[v] += all(e.g[k]) * sum;
            di[v] += all(e.xg[k]) * (b - a);
            qi[v] += all(e.yy[k]) * sum;
        }
    for (int v = 0; v < vectors; ++v) {
        store(s + x + v * wide, si[v]);
        store(d + x + v * wide, di[v]);
        store(q + x + v * wide, qi[v]);
    }
}

// Likewise sums over columns with even taps and, unless those are null, with odd ones. Few taps are picked from
// registers, for most loads would cross a cache line.
template <int n, int vectors>
MMME_INLINE void expand_across(const float* from, Index x, const float* even, float* to_even, const float* odd,
                               float* to_odd) {
    Floats sum[vectors], difference[vectors];
    for (int v = 0; v < vectors; ++v) {
        sum[v] = all(even[0]) * load(from + x + v * wide);
        difference[v] = Floats{};
    }
    const auto add = [&](int k, int v, Floats a, Floats b) MMME_INLINED {
        sum[v] += all(even[k]) * (b + a);
        if (odd) difference[v] += all(odd[k]) * (b - a);
    };
    if constexpr (shifts && n <= 8) {
        constexpr int around = (n + wide - 1) / wide, seen = vectors + 2 * around;
        Floats values[seen];
        for (int i = 0; i < seen; ++i) values[i] = load(from + x + (i - around) * wide);
        const auto at = [&](auto place, int v) MMME_INLINED { // of the v-th vector
            constexpr int i = place.value + around * wide, within = i % wide;
            const Floats* low = values + v + i / wide;
            return within == 0 ? low[0] : shifted<within>(low[0], low[within > 0]);
        };
        each<n>([&](auto number) MMME_INLINED {
            constexpr int k = number.value + 1;
            for (int v = 0; v < vectors; ++v) add(k, v, at(Number<-k>{}, v), at(Number<k>{}, v));
        });
    } else {
        MMME_UNROLL
        for (int k = 1; k <= n; ++k)
            for (int v = 0; v < vectors; ++v) add(k, v, load(from + x + v * wide - k), load(from + x + v * wide + k));
    }
    for (int v = 0; v < vectors; ++v) {
        store(to_even + x + v * wide, sum[v]);
        if (odd) store(to_odd + x + v * wide, difference[v]);
    }
}

// The polynomials of row y, with taps 0..n of which those beyond the expansion's own are 0.
template <int n>
void expand_row(const float* image, const Level& level, const Expansion& e, int y, float* to, float* memory) {
    const Index stride = level.stride, pitch = stride + 2 * reach;
    float* s = memory + reach;
    float* d = s + pitch;
    float* q = d + pitch;
    const float* above[n + 1];
    const float* below[n + 1];
    for (int k = 0; k <= n; ++k) {
        above[k] = image + larger(y - k, 0) * stride;
        below[k] = image + smaller(y + k, level.height - 1) * stride;
    }
    Index x = 0;
    for (; x + 4 * wide <= level.row; x += 4 * wide) expand_down<n, 4>(e, above, below, x, s, d, q);
    for (; x < level.row; x += wide) expand_down<n, 1>(e, above, below, x, s, d, q);
    for (int i = 0; i < 3; ++i) extend(s + i * pitch, level.width, reach, level.row - level.width + reach);
    const auto across = [&](auto number) {
        constexpr int vectors = decltype(number)::value;
        for (; x + vectors * wide <= level.row; x += vectors * wide) {
            expand_across<n, vectors>(d, x, e.y, to, e.xy, to + 4 * stride);
            expand_across<n, vectors>(s, x, e.xx, to + 3 * stride, e.x, to + stride);
            expand_across<n, vectors>(q, x, e.g, to + 2 * stride, nullptr, nullptr);
        }
    };
    x = 0;
    across(Number<2>{});
    across(Number<1>{});
    for (int c = 0; c < planes; ++c) fill(to + c * stride + level.row, stride - level.row, 0.0f); // taps may touch it
}

struct PrepareMemory {
    Index frame, columns, taps, strips;
    Index total(int height) const { return 2 * frame + columns + taps + strip_count(height) * strips; }
};

PrepareMemory prepare_memory(int height, int width, const Farneback& p) {
    const Blur widest = blur_of(level_at(height, width, p, top_level(height, width, p)).scale);
    const Index a = level_row_memory(width, widest), b = expand_memory(pitch_of(width));
    return {pitch_of(width) * height, 2 * padded(width), padded(2 * widest.radius + 1), a > b ? a : b};
}

void prepare(const Image& image, int height, int width, const Farneback& p, float* frame, float* scratch,
             const Rows& rows) {
    const PrepareMemory memory = prepare_memory(height, width, p);
    float* grey = scratch;
    float* reduced = grey + memory.frame;
    float* columns = reduced + memory.frame;
    float* taps = columns + memory.columns;
    float* rest = taps + memory.taps;
    strips(rows, height, rest, 0, [&](int begin, int end, float*) {
        for (int y = begin; y < end; ++y) convert(image, y, grey + y * padded(width), width);
    });
    const Expansion e = expansion(p.poly_n, p.poly_sigma);
    const auto expand = p.poly_n <= 5    ? expand_row<5>
                        : p.poly_n <= 7  ? expand_row<7>
                        : p.poly_n <= 15 ? expand_row<15>
                                         : expand_row<max_poly_n>;
    for (int k = top_level(height, width, p); k >= 0; --k) {
        const Level level = level_at(height, width, p, k);
        const Blur blur = blur_of(level.scale);
        blur_taps(taps, blur);
        tap_table(width, level.width, columns, columns + padded(width));
        strips(rows, level.height, rest, memory.strips, [&](int begin, int end, float* own) {
            for (int y = begin; y < end; ++y)
                level_row(grey, height, width, level, blur, taps, columns, y, reduced + y * level.stride, own);
        });
        float* to = frame + level.offset;
        fill(to - margin, margin, 0.0f);
        fill(to + level.coefficients(), margin, 0.0f);
        strips(rows, level.height, rest, memory.strips, [&](int begin, int end, float* own) {
            for (int y = begin; y < end; ++y) expand(reduced, level, e, y, to + planes * level.stride * y, own);
        });
    }
}

// ---- solve

// The averaging window: pixels i - radius .. i + radius both ways.
struct Window {
    int radius, length;
    int step;                                     // a box sums `step` neighbours, then every step-th of those sums
    bool gaussian, first;                         // first: OpenCV's box of width 1 always takes in row 0 and column 0
    float bias;                                   // of the determinant, in units of sums of doubled systems
    Index lead() const { return padded(radius); } // floats before a plane in a row of sums
    Index pitch(int width) const { return pitch_of(padded(width) + 2 * lead()); } // from a plane to the next
};

Window window_of(const Farneback& p) {
    const int radius = p.window / 2, length = 2 * radius + 1;
    const double area = p.gaussian ? 1.0 : static_cast<double>(p.window) * p.window;
    int step = 1;
    for (int s = 2; s * s <= 4 * length; ++s) // fewest additions
        if (s + length / s + length % s < step + length / step + length % step) step = s;
    return {radius, length, step, p.gaussian, radius == 0 && !p.gaussian, static_cast<float>(16e-3 * area * area)};
}

// What a band of rows needs: a ring of rows of systems and two such rows more; a row of sums down the columns, one of
// partial sums along it; one row of weights, two of flow.
struct BandMemory {
    Index pitch, systems, sums, partial, rows;
    Index total(const Window& window) const { return (window.length + 2) * systems + sums + partial + rows; }
};

BandMemory band_memory(int width, const Window& window) {
    const Index pitch = window.pitch(width), stride = pitch_of(width), over = padded(window.length);
    const Index partial = planes * pitch + 2 * over;
    return {pitch, planes * stride, window.lead() + partial, partial, 3 * stride};
}

// A row of the frame before, whose systems are wanted, and where they go: to the place of those that leave the window.
struct SystemsRow {
    const Level& level;
    int y;
    const float *prev, *next;     // coefficients: of the row, of the whole next frame
    const float *u, *v, *weights; // of the row
    float *to, *sums;             // sums down the columns of what is in the window
    Index pitch;                  // from one plane of the sums to the next
    bool box, plain;              // the sums are wanted; the row is away from the edge
};

// Displacements that no frame reaches are cut, NaN too, so that they fit an integer.
constexpr float limit = 65536.0f;
MMME_INLINE float cut(float displacement) {
    return std::fabs(displacement) < limit ? displacement : limit;
}

// The first of the two taps each way, relative to the pixel: their range over a run of pixels.
struct Span {
    int left, right, top, bottom;
};

// Of all lanes, by a choice of two at a time.
template <class Choose> MMME_INLINE int floor_of(Floats values, Choose&& choose) {
    float lane[wide];
    if constexpr (shifts) {
        each<lane_bits>([&](auto number) MMME_INLINED {
            values = choose(values, shifted<(wide >> (number.value + 1))>(values, values));
        });
        store(lane, values);
    } else {
        store(lane, values);
        for (int i = 1; i < wide; ++i) lane[0] = choose(lane[0], lane[i]);
    }
    return static_cast<int>(std::floor(lane[0]));
}

Span span_of(const SystemsRow& row, int x, int groups) {
    Floats left = all(limit), right = all(-limit), top = left, bottom = right;
    for (int i = x; i < x + groups * lanes; i += wide) {
        const Floats u = load(row.u + i), v = load(row.v + i);
        left = least(u, left);
        right = most(u, right);
        top = least(v, top);
        bottom = most(v, bottom);
    }
    // What rounding carries to the next pixel is between the same two taps.
    const auto least_of = [](auto a, auto b) { return a < b ? a : b; };
    const auto most_of = [](auto a, auto b) { return a > b ? a : b; };
    return {floor_of(most(left, all(-limit)), least_of), floor_of(least(right, all(limit)), most_of),
            floor_of(most(top, all(-limit)), least_of), floor_of(least(bottom, all(limit)), most_of)};
}

// Is the point one between pixels of the frame? 1 or 0.
MMME_INLINE float inside(const Level& level, float x, float y) {
    const float right = static_cast<float>(level.width - 1), bottom = static_cast<float>(level.height - 1);
    return ((x >= 0.0f) & (x < right) & (y >= 0.0f) & (y < bottom)) ? 1.0f : 0.0f;
}

// A pixel's system, or those of a vector of pixels: products of the mean quadratic part and of the difference of the
// linear parts, both doubled, enters the window. a: the coefficients of the row; sampled(c): the next frame's where the
// pixel points, 0 unless that is inside; mean: the weight, or twice the weight unless inside.
template <class Value, class Sampled>
MMME_INLINE void form(const float* a, Index stride, float* to, float* sums, Index pitch, bool box, Value u, Value v,
                      Value weight, Value mean, Sampled&& sampled) {
    const Value yy = (load<Value>(a + 2 * stride) + sampled(2)) * mean;
    const Value xx = (load<Value>(a + 3 * stride) + sampled(3)) * mean;
    const Value xy = (load<Value>(a + 4 * stride) + sampled(4)) * mean;
    const Value ry = (load<Value>(a) - sampled(0)) * weight + (yy * v + xy * u);
    const Value rx = (load<Value>(a + stride) - sampled(1)) * weight + (xy * v + xx * u);
    const Value system[planes] = {yy * yy + xy * xy, (yy + xx) * xy, xx * xx + xy * xy, yy * ry + xy * rx,
                                  xy * ry + xx * rx};
    if (box)
        for (int c = 0; c < planes; ++c) {
            float* sum = sums + c * pitch;
            store(sum, load<Value>(sum) + (system[c] - load<Value>(to + c * stride)));
        }
    for (int c = 0; c < planes; ++c) store(to + c * stride, system[c]);
}

// For a run of pixels whose taps are near each other. Taps are picked from two vectors a row; or the run's taps differ
// by at most a pixel and so are neighbours as they are: with 3 columns, each pixel gives weight 0 to the first or the
// last. So it is with 3 rows.
template <int columns, int rows>
MMME_NOINLINE void form_near(const SystemsRow& row, const Span& span, int begin, int groups) {
    const Level& level = row.level;
    const int end = begin + groups * lanes, left = begin + span.left, top = row.y + span.top;
    const Index stride = level.stride, pitch = row.pitch;
    const bool box = row.box;
    const int column = clamp(left, begin - end - 2, level.width); // a run far outside the frame is sampled anywhere
    const float* lines[rows];
    for (int j = 0; j < rows; ++j) lines[j] = row.next + planes * stride * clamp(top + j, 0, level.height - 1) + column;
    const float* a = row.prev + begin;
    const float* flow = row.u + begin;
    float* to = row.to + begin;
    float* sums = row.sums + begin;
    // What the next row will read: rows are too short for the processor to see where they go.
    for (int c = 0; c < planes; ++c)
        for (int i = 0; i < end - begin; i += lanes) {
            MMME_PREFETCH(a + (planes + c) * stride + i);
            MMME_PREFETCH(lines[rows - 1] + (planes + c) * stride + i);
        }
    // Most pixels are away from the edge and point inside.
    const bool plain = row.plain && top >= 0 && row.y + span.bottom < level.height - 2;
    const int plain_begin = plain ? larger(border, -span.left) : end;
    const int plain_end = smaller(level.width - border, level.width - 2 - span.right) - wide;
    const Floats zero = all(0.0f), one = all(1.0f), two = all(2.0f);
    const Floats first_x = all(static_cast<float>(span.left)), first_y = all(static_cast<float>(span.top));
#ifdef MMME_PICKS
    Floats low[rows][planes];
    for (int j = 0; j < rows; ++j)
        for (int c = 0; c < planes; ++c) low[j][c] = load(lines[j] + c * stride);
#endif
    for (int x = begin; x < end; x += wide) {
        const Floats u = load(flow), v = load(flow + stride), dx = u - first_x, dy = v - first_y;
        Floats within = one, weight = one, mean = one;
        if (x < plain_begin || x > plain_end) {
            const Floats px = all(static_cast<float>(x)) + load(numbers) + u, py = all(static_cast<float>(row.y)) + v;
            within = px >= zero ? one : zero;
            within = px < all(static_cast<float>(level.width - 1)) ? within : zero;
            within = py >= zero ? within : zero;
            within = py < all(static_cast<float>(level.height - 1)) ? within : zero;
            weight = load(row.weights + x);
            mean = (two - within) * weight;
        }
        const Floats wy[3] = {(rows == 2 ? one - dy : most(one - dy, zero)) * within,
                              (rows == 2 ? dy : least(dy, two - dy)) * within, most(dy - one, zero) * within};
#ifdef MMME_PICKS
        const Ints first = whole(dx), places = first + lane_numbers, next_places = places + 1;
        const Floats x1 = dx - floats(first), x0 = one - x1;
        Floats w[rows][2];
        for (int j = 0; j < rows; ++j) w[j][0] = wy[j] * x0, w[j][1] = wy[j] * x1;
        const auto sampled = [&](int c) MMME_INLINED {
            Floats sum;
            for (int j = 0; j < rows; ++j) {
                const Floats high = load(lines[j] + c * stride + wide), l = low[j][c];
                low[j][c] = high;
                const Floats t0 = pick(l, high, places), t1 = pick(l, high, next_places);
                sum = j == 0 ? w[j][0] * t0 : w[j][0] * t0 + sum;
                sum = w[j][1] * t1 + sum;
            }
            return sum;
        };
#else
        const Floats wx[3] = {columns == 2 ? one - dx : most(one - dx, zero), columns == 2 ? dx : least(dx, two - dx),
                              most(dx - one, zero)};
        Floats w[rows][columns];
        for (int j = 0; j < rows; ++j)
            for (int k = 0; k < columns; ++k) w[j][k] = wy[j] * wx[k];
        const auto sampled = [&](int c) MMME_INLINED {
            Floats sum[rows]; // apart: one chain of nine would take long
            for (int j = 0; j < rows; ++j) {
                sum[j] = w[j][0] * load(lines[j] + c * stride);
                for (int k = 1; k < columns; ++k) sum[j] = w[j][k] * load(lines[j] + c * stride + k) + sum[j];
            }
            return rows == 2 ? sum[0] + sum[1] : sum[0] + sum[1] + sum[rows - 1];
        };
#endif
        form(a, stride, to, sums, pitch, box, u, v, weight, mean, sampled);
        for (int j = 0; j < rows; ++j) lines[j] += wide;
        a += wide;
        flow += wide;
        to += wide;
        sums += wide;
    }
}

void form_far(const SystemsRow& row, int begin) {
    const Index stride = row.level.stride, next = planes * stride;
    for (int i = begin; i < begin + lanes; ++i) {
        const float px = static_cast<float>(i) + cut(row.u[i]), py = static_cast<float>(row.y) + cut(row.v[i]);
        const float within = inside(row.level, px, py), left = std::floor(px), top = std::floor(py);
        const float* from = row.next + (within > 0 ? static_cast<Index>(top) * next + static_cast<Index>(left) : 0);
        const float x1 = px - left, x0 = 1.0f - x1, y = py - top, y0 = (1.0f - y) * within, y1 = y * within;
        const auto sampled = [&](Index c) {
            const float top_sum = MMME_FUSED(y0 * x1, from[c + 1], y0 * x0 * from[c]);
            return MMME_FUSED(y1 * x1, from[c + next + 1], MMME_FUSED(y1 * x0, from[c + next], top_sum));
        };
        const float weight = row.weights[i];
        form(row.prev + i, stride, row.to + i, row.sums + i, row.pitch, row.box, row.u[i], row.v[i], weight,
             (2.0f - within) * weight, [&](int c) { return sampled(c * stride); });
    }
}

// Systems of the groups of pixels from x onwards; a run whose taps are too far apart is halved.
void form_systems(const SystemsRow& row, int x, int groups) {
    const Span span = span_of(row, x, groups);
    const int across = span.right - span.left, down = span.bottom - span.top;
    if (across <= (picks ? lanes - 1 : 1) && down <= 1) {
        const auto form = across > 0 && !picks ? (down > 0 ? form_near<3, 3> : form_near<3, 2>)
                                               : (down > 0 ? form_near<2, 3> : form_near<2, 2>);
        form(row, span, x, groups);
    } else if (groups > 1) {
        form_systems(row, x, groups / 2);
        form_systems(row, x + groups / 2 * lanes, groups - groups / 2);
    } else {
        form_far(row, x);
    }
}

// How much each pixel of row y counts. OpenCV's test for "along the edge" wraps around in frames under 10 pixels.
void edge_weights(const Level& level, int y, float* to) {
    const auto weight = [](int i, int n) {
        return (i < border ? border_weights[i] : 1.0f) * (i >= n - border ? border_weights[n - 1 - i] : 1.0f);
    };
    const auto edge = [](int i, int n) {
        return static_cast<unsigned>(i - border) >= static_cast<unsigned>(n - 2 * border);
    };
    const bool edge_row = edge(y, level.height);
    const float row = weight(y, level.height);
    fill(to, level.width, edge_row ? row : 1.0f);
    fill(to + level.width, level.row - level.width, 0.0f);
    const auto put = [&](int x) { to[x] = edge_row || edge(x, level.width) ? weight(x, level.width) * row : 1.0f; };
    for (int x = 0; x < smaller(border, level.width); ++x) put(x);
    for (int x = larger(level.width - border, 0); x < level.width; ++x) put(x);
}

// to[c] += values of plane c at `place`, place + step, ..., `count` of them.
MMME_INLINE void add_terms(Floats* to, const float* from, Index pitch, int place, int step, int count) {
    MMME_UNROLL
    for (int t = 0; t < count; ++t)
        for (int c = 0; c < planes; ++c) to[c] += load_at(from + c * pitch, place + t * step);
}

// to[c] += weights[t] * the value of plane c at t, for all t.
MMME_INLINE void add_weighted(Floats* to, const float* from, Index pitch, int count, const float* weights) {
    for (int t = 0; t < count; ++t)
        for (int c = 0; c < planes; ++c) to[c] += all(weights[t]) * load(from + c * pitch + t);
}

// The window's sums along a row of all five planes, and the flow that solves them. A box sums `step` neighbours
// (partial), then every step-th of those sums; 15 are 8 and 8 with the middle one in common, which takes half as many
// loads that are not aligned.
template <int fixed_length, int fixed_step>
MMME_NOINLINE void solve_row(float* row, const Window& window, const float* kernel, const Level& level,
                             const BandMemory& sizes, float* partial, float* u, float* v) {
    const Index pitch = sizes.pitch;
    const int length = fixed_length ? fixed_length : window.length, step = fixed_step ? fixed_step : window.step;
    const int radius = length / 2, steps = length / step, rest = steps * step, width = level.width;
    const Index count = level.vectors();
    const bool gaussian = !fixed_length && window.gaussian, first = !fixed_length && window.first;
    for (int c = 0; c < planes; ++c) {
        float* plane = row + c * pitch;
        const Floats before = all(plane[0]), after = all(plane[width - 1]);
        for (int i = 0; i < radius; i += wide) {
            store(plane - wide - i, before);
            store(plane + width + i, after);
        }
    }
    constexpr bool eights = fixed_length == 15 && shifts;
    constexpr int before = larger(8, wide);
    float* eight = partial + before; // the sum of eight values from each on
    if (eights) {
        // Sums of two and of four stay in registers until the next ones are there.
        Floats twos[planes] = {}, fours[planes] = {};
        for (Index x = -before; x < count + 2 * wide; x += wide)
            for (int c = 0; c < planes; ++c) {
                const float* from = row + c * pitch;
                const Floats two = load(from + x) + load_at(from, x + 1), four = twos[c] + shifted<2>(twos[c], two);
                if (x >= 2 * wide - before)
                    store(eight + c * pitch + x - 2 * wide, fours[c] + shifted<4>(fours[c], four));
                twos[c] = two;
                fours[c] = four;
            }
    } else {
        for (Index x = 0; x < (gaussian ? count : count + length - step); x += wide) {
            Floats sum[planes] = {};
            if (gaussian)
                add_weighted(sum, row + x - radius, pitch, length, kernel);
            else
                add_terms(sum, row + x, pitch, -radius, 1, step);
            for (int c = 0; c < planes; ++c) store(partial + c * pitch + x, sum[c]);
        }
    }
    const Floats bias = all(window.bias), one = all(1.0f);
    for (Index x = 0; x < count; x += wide) {
        Floats sum[planes];
        for (int c = 0; c < planes; ++c)
            sum[c] = eights
                         ? load_at(eight + c * pitch, x - 7) + load(eight + c * pitch + x) - load(row + c * pitch + x)
                         : load(partial + c * pitch + x);
        if (!eights && !gaussian) {
            add_terms(sum, partial + x, pitch, step, step, steps - 1);
            add_terms(sum, row + x, pitch, rest - radius, 1, length - rest);
        }
        if (first)
            for (int c = 0; c < planes; ++c) sum[c] += all(row[c * pitch]);
        const Floats g11 = sum[0], g12 = sum[1], g22 = sum[2], h1 = sum[3], h2 = sum[4];
        const Floats inverse = one / (g11 * g22 - g12 * g12 + bias);
        store(u + x, (g11 * h2 - g12 * h1) * inverse);
        store(v + x, (g22 * h1 - g12 * h2) * inverse);
    }
    fill(u + width, level.row - width, 0.0f);
    fill(v + width, level.row - width, 0.0f);
}

// Systems enter the window once more, as the row beyond the frame that the last one stands for.
void enter_again(const float* MMME_RESTRICT from, float* MMME_RESTRICT place, float* MMME_RESTRICT sum, Index count) {
    MMME_IVDEP
    for (Index i = 0; i < count; ++i) {
        sum[i] += from[i] - place[i];
        place[i] = from[i];
    }
}

struct Iteration {
    const float *prev, *next; // coefficients
    const float* from;        // flow: a row of u, a row of v
    float* to;                // likewise, or
    float* result;            // interleaved, when not null
    const Level& level;
    const Window& window;
    const float* kernel; // the window's weights
};

// One iteration for rows begin..end, a step for each row from begin - radius to end + radius: step(r) forms the systems
// of row r, for which it reads the flow there, and solves row r - radius. The sums down the columns go on from row to
// row; against drift they are taken anew for the first row of every strip, where bands begin.
class Pass {
public:
    void start(const Iteration& iteration, int first, float* memory) {
        it = &iteration;
        begin = first;
        sizes = band_memory(it->level.width, it->window);
        ring = memory;
        fresh = ring + (it->window.length + 1) * sizes.systems;
        sums = fresh + sizes.systems + it->window.lead();
        partial = sums - it->window.lead() + sizes.sums;
        weights = partial + sizes.partial;
        weighted = false;
        last = -1;
        fill(sums - it->window.lead(), sizes.sums, 0.0f);
        fill(ring, it->window.length * sizes.systems, 0.0f);
        if (it->window.first) form_row(0, slot(it->window.length));
    }

    // Not inline: its instances must round alike.
    MMME_NOINLINE void step(int r) {
        const Level& level = it->level;
        const Window& window = it->window;
        const int row = clamp(r, 0, level.height - 1), place = (r + window.radius) % window.length;
        float* systems = slot(place);
        if (row == last) {
            const float* from = slot(place > 0 ? place - 1 : window.length - 1);
            for (int c = 0; c < planes; ++c)
                enter_again(from + c * level.stride, systems + c * level.stride, sums + c * sizes.pitch, level.row);
        } else {
            form_row(row, systems);
        }
        last = row;
        const int y = r - window.radius;
        if (y < begin) return;
        if (window.gaussian || window.length == 1 || y % strip == 0) {
            // All planes at once, with the gaps between them: short rows cost less than calls.
            weighted_sum(fresh, sizes.systems, window.length, it->kernel,
                         [&](int t) { return slot((place + 1 + t) % window.length); });
            if (window.first) weighted_sum(fresh, sizes.systems, 1, it->kernel, [&](int) { return slot(1); }, true);
            for (int c = 0; c < planes; ++c)
                std::memcpy(sums + c * sizes.pitch, fresh + c * level.stride, level.row * sizeof(float));
        }
        solve(y);
    }

private:
    float* slot(int i) const { return ring + i * sizes.systems; }
    bool plain(int row) const { return row >= border && row < it->level.height - border; }

    void form_row(int y, float* to) {
        const Level& level = it->level;
        const float* u = it->from + 2 * level.stride * y;
        if (!weighted || !plain(y)) edge_weights(level, y, weights);
        weighted = plain(y); // as all rows away from the edge are
        const SystemsRow row{level,
                             y,
                             it->prev + planes * level.stride * y,
                             it->next,
                             u,
                             u + level.stride,
                             weights,
                             to,
                             sums,
                             sizes.pitch,
                             !it->window.gaussian,
                             plain(y)};
        const int groups = static_cast<int>(level.row / lanes), most = chunk / lanes;
        for (int g = 0; g < groups; g += most) form_systems(row, g * lanes, smaller(groups - g, most));
    }

    void solve(int y) {
        const Level& level = it->level;
        const auto solve = !it->window.gaussian && it->window.length == 15 ? solve_row<15, 3> : solve_row<0, 0>;
        float* u = it->result ? weights + level.stride : it->to + 2 * level.stride * y;
        float* v = u + level.stride;
        solve(sums, it->window, it->kernel, level, sizes, partial, u, v);
        if (it->result) {
            float* MMME_RESTRICT out = it->result + static_cast<Index>(2) * level.width * y;
            for (int x = 0; x < level.width; ++x) {
                out[2 * x] = u[x];
                out[2 * x + 1] = v[x];
            }
        }
    }

    const Iteration* it;
    int begin, last;
    bool weighted;
    BandMemory sizes;
    float *ring, *fresh, *sums, *partial, *weights;
};

// The flow of the level below (coarser), magnified.
void enlarge(const float* from, const Level& coarse, float* to, const Level& level, float factor, int begin, int end,
             float* memory) {
    const int n = coarse.width;
    const bool twice = level.width == 2 * n; // the taps are 1/4 and 3/4
    float* at = memory;
    float* part = at + level.stride;
    float* mixed = part + level.stride + lanes;
    if (!twice) tap_table(n, level.width, at, part);
    for (int y = begin; y < end; ++y) {
        const Tap row = tap(y, coarse.height, level.height);
        for (int c = 0; c < 2; ++c) {
            const float* MMME_RESTRICT a = from + (2 * row.at + c) * coarse.stride;
            const float* MMME_RESTRICT b = from + (2 * smaller(row.at + 1, coarse.height - 1) + c) * coarse.stride;
            float* MMME_RESTRICT m = mixed;
            float* MMME_RESTRICT out = to + (static_cast<Index>(2) * y + c) * level.stride;
            MMME_IVDEP
            for (int x = 0; x < n; ++x) m[x] = (a[x] + row.part * (b[x] - a[x])) * factor;
            extend(mixed, n, 1, 1);
            if (twice) {
                MMME_IVDEP
                for (int x = 0; x < n; ++x) {
                    out[2 * x] = m[x - 1] + 0.75f * (m[x] - m[x - 1]);
                    out[2 * x + 1] = m[x] + 0.25f * (m[x + 1] - m[x]);
                }
            } else {
                interpolate(mixed, at, part, level.width, out);
            }
        }
    }
}

// The start flow (interleaved, full size), averaged down to the level.
void reduce(const float* from, int height, int width, float* to, const Level& level, int begin, int end,
            float* memory) {
    float* row = memory;
    const float factor = static_cast<float>(level.scale);
    for (int y = begin; y < end; ++y) {
        fill(row, static_cast<Index>(2) * width, 0.0f);
        covered(y, height, level.height, [&](int i, float weight) {
            const float* MMME_RESTRICT a = from + static_cast<Index>(2) * width * i;
            for (int x = 0; x < 2 * width; ++x) row[x] += weight * a[x];
        });
        for (int x = 0; x < level.width; ++x) {
            float u = 0, v = 0;
            covered(x, width, level.width, [&](int i, float weight) {
                u += weight * row[2 * i];
                v += weight * row[2 * i + 1];
            });
            to[2 * level.stride * y + x] = u * factor;
            to[(2 * y + 1) * level.stride + x] = v * factor;
        }
    }
}

struct SolveMemory {
    Index flow, kernel, band;
    int bands; // as many as there are strips, and enough for the iterations in flight
    Index total() const { return 2 * flow + kernel + bands * band; }
};

constexpr int in_flight = 8; // iterations at most
constexpr int turn = 16;     // rows of one iteration before the next goes on: they share what is in the first cache
// Levels of so few pixels go one iteration at a time: both frames' coefficients stay in the third cache anyway, and the
// rows of several iterations crowd the second, which is larger in CPUs with AVX-512.
constexpr Index resident = picks ? 1 << 15 : 1 << 17;

SolveMemory solve_memory(int height, int width, const Farneback& p) {
    const Window window = window_of(p);
    return {2 * pitch_of(width) * height, padded(window.length), band_memory(width, window).total(window),
            larger(static_cast<int>(strip_count(height)), smaller(p.iterations, in_flight))};
}

// All iterations of a level. On one thread several are in flight, each `radius` rows behind the one before, so that
// coefficients are still in the cache; a row of flow is read before the same iteration replaces it. The result, and
// where it is not null the flow of the last iteration, interleaved: the one that is returned.
float* iterate(const float* prev, const float* next, float* from, float* to, float* result, int iterations,
               const Level& level, const Window& window, const float* kernel, float* memory, Index band,
               const Rows& rows) {
    const int height = level.height, radius = window.radius;
    if (rows.threads <= 1) {
        const int most = level.row * height > resident ? in_flight : 1;
        for (int done = 0; done < iterations; done += most) {
            const int passes = smaller(iterations - done, most);
            const bool ends = done + passes == iterations;
            const Iteration inner{prev, next, from, from, nullptr, level, window, kernel};
            const Iteration final{prev, next, from, from, ends ? result : nullptr, level, window, kernel};
            Pass pass[in_flight];
            for (int t = 0; t < height + radius * passes; t += turn)
                for (int i = 0; i < passes; ++i)
                    for (int r = t - i * radius; r < t - i * radius + turn; ++r) { // the pass before has solved row r
                        if (r == 0) {
                            pass[i].start(i == passes - 1 ? final : inner, 0, memory + i * band);
                            for (int above = -radius; above < 0; ++above) pass[i].step(above);
                        }
                        if (r >= 0 && r < height + radius) pass[i].step(r);
                    }
        }
        return from;
    }
    for (int i = 0; i < iterations; ++i) {
        const Iteration it{prev, next, from, to, i == iterations - 1 ? result : nullptr, level, window, kernel};
        strips(rows, height, memory, band, [&](int begin, int end, float* own) {
            Pass pass;
            pass.start(it, begin, own);
            for (int r = begin - radius; r < end + radius; ++r) pass.step(r);
        });
        float* swap = from;
        from = to;
        to = swap;
    }
    return from;
}

void solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width,
           const Farneback& p, float* scratch, const Rows& rows) {
    const SolveMemory memory = solve_memory(height, width, p);
    float* const flows[2] = {scratch, scratch + memory.flow};
    float* kernel = scratch + 2 * memory.flow;
    float* bands = kernel + memory.kernel;
    const Window window = window_of(p);
    if (window.gaussian && window.radius > 0)
        gaussian(kernel, window.radius, window.radius * 0.3);
    else
        fill(kernel, window.length, 1.0f);
    const int top = top_level(height, width, p);
    Level coarse{};
    const float* below = flows[1]; // the flow of the coarser level
    for (int k = top; k >= 0; --k) {
        const Level level = level_at(height, width, p, k);
        float* from = below == flows[1] ? flows[0] : flows[1];
        float* to = below == flows[1] ? flows[1] : flows[0];
        strips(rows, level.height, bands, memory.band, [&](int begin, int end, float* own) {
            if (k < top)
                enlarge(below, coarse, from, level, static_cast<float>(1.0 / p.pyr_scale), begin, end, own);
            else if (use_initial)
                reduce(flow, height, width, from, level, begin, end, own);
            else
                fill(from + 2 * level.stride * begin, 2 * level.stride * (end - begin), 0.0f);
            for (int y = 2 * begin; y < 2 * end; ++y) // the padding is read
                fill(from + y * level.stride + level.width, level.row - level.width, 0.0f);
        });
        below = iterate(prev + level.offset, curr + level.offset, from, to, k == 0 ? flow : nullptr, p.iterations,
                        level, window, kernel, bands, memory.band, rows);
        coarse = level;
    }
}

} // namespace

std::size_t farneback_frame_size(int height, int width, const Farneback& p) {
    const Level top = level_at(height, width, p, top_level(height, width, p));
    return top.offset + top.coefficients() + margin;
}

std::size_t farneback_scratch_size(int height, int width, const Farneback& p) {
    const Index a = prepare_memory(height, width, p).total(height), b = solve_memory(height, width, p).total();
    return a > b ? a : b;
}

void farneback_prepare(const Image& image, int height, int width, const Farneback& p, float* frame, float* scratch,
                       const Rows& rows) {
    prepare(image, height, width, p, frame, scratch, rows);
}

void farneback_solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width,
                     const Farneback& p, float* scratch, const Rows& rows) {
    solve(prev, curr, flow, use_initial, height, width, p, scratch, rows);
}

} // namespace mmme::MMME_ISA
