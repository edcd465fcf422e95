// Two-frame motion estimation by polynomial expansion (Farneback 2003), equal to OpenCV's calcOpticalFlowFarneback.
//
// Each level of a Gaussian pyramid is approximated around every pixel by a quadratic polynomial (prepare). A
// displacement gives every pixel a linear system that relates the two frames' polynomials; the systems are averaged
// over a window and solved for the next displacement (solve). Coefficients, systems and flow are planar; the systems
// live in a ring of rows.
#include "isa.hpp"

#include <cmath>
#include <cstring>

#if defined(__GNUC__)
#define MMME_UNROLL _Pragma("GCC unroll 32")
#define MMME_NOINLINE __attribute__((noinline))
#else
#define MMME_NOINLINE
#define MMME_UNROLL
#endif

namespace mmme::MMME_ISA {
namespace {

constexpr int lanes = 16;    // pixels that are sampled together; rows are padded to a multiple of it
constexpr int chunk = 128;   // pixels of a row that go through sampling at a time, to stay in the first cache
constexpr int strip = 32;    // rows that one thread takes at least
constexpr int margin = 32;   // floats before and after a level's coefficients: what a group of taps may touch outside
constexpr int smallest = 32; // no level is narrower or lower
constexpr int planes = 5;    // coefficients y, x, yy, xx, xy of the polynomial; g11, g12, g22, h1, h2 of the system
constexpr int max_poly_n = 31;
constexpr int border = 5; // pixels along the edge whose systems count less
constexpr float border_weights[border] = {0.14f, 0.14f, 0.4472f, 0.4472f, 0.4472f};

using Index = std::ptrdiff_t;

constexpr int smaller(int a, int b) {
    return a < b ? a : b;
}
constexpr int larger(int a, int b) {
    return a > b ? a : b;
}
constexpr int clamp(int i, int low, int high) {
    return i < low ? low : i > high ? high : i;
}
constexpr Index padded(Index floats) {
    return (floats + lanes - 1) / lanes * lanes;
}

// One rounding where the CPU has it, on every path alike; the compiler may not choose.
MMME_INLINE float mul_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

template <int n> struct Number {
    static constexpr int value = n;
};

struct Level {
    int height, width;
    Index stride; // floats from one row of a plane to the next
    double scale;
    Index offset; // of the level's coefficients in a prepared frame
    Index coefficients() const { return planes * stride * height; }
};

Level level_at(int height, int width, const Farneback& p, int k) {
    Level level{height, width, padded(width), 1.0, margin};
    for (int i = 0; i < k; ++i) {
        level.offset += level.coefficients() + 2 * margin;
        level.scale *= p.pyr_scale;
        level.height = static_cast<int>(std::lrint(height * level.scale));
        level.width = static_cast<int>(std::lrint(width * level.scale));
        level.stride = padded(level.width);
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

// Calls body(first row, last row + 1, memory) for bands that cover the rows; no two bands share their memory, of which
// there is one piece of `floats` per strip.
template <class Body> MMME_INLINE void strips(const Rows& rows, int height, float* memory, Index floats, Body&& body) {
    rows((height + strip - 1) / strip,
         [&](int begin, int end) { body(begin * strip, smaller(end * strip, height), memory + begin * floats); });
}

Index strip_count(int height) {
    return (height + strip - 1) / strip;
}

template <int terms>
MMME_INLINE void weighted_terms(float* MMME_RESTRICT out, Index count, const float* const* at, const float* weights,
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
// matrix folded in. Rows first: sum (g), difference (xg), sum (yy); then columns.
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
        e.xy[i] = static_cast<float>(w * i * ig55);
    }
    return e;
}

constexpr Index reach = padded(max_poly_n);
Index expand_memory(Index stride) {
    return 3 * (stride + 2 * reach);
}

// The polynomials of row y, with taps 0..n of which those beyond the expansion's own are 0.
template <int n>
void expand_row(const float* image, const Level& level, const Expansion& e, int y, float* to, float* memory) {
    const Index stride = level.stride, pitch = stride + 2 * reach;
    float* MMME_RESTRICT s = memory + reach;
    float* MMME_RESTRICT d = s + pitch;
    float* MMME_RESTRICT q = d + pitch;
    const float* centre = image + y * stride;
    const float* above[n + 1];
    const float* below[n + 1];
    for (int k = 1; k <= n; ++k) {
        above[k] = image + larger(y - k, 0) * stride;
        below[k] = image + smaller(y + k, level.height - 1) * stride;
    }
    MMME_IVDEP
    for (int i = 0; i < level.width; ++i) {
        float si = e.g[0] * centre[i], di = 0, qi = e.yy[0] * centre[i];
        MMME_UNROLL
        for (int k = 1; k <= n; ++k) {
            const float sum = above[k][i] + below[k][i], difference = below[k][i] - above[k][i];
            si += e.g[k] * sum;
            di += e.xg[k] * difference;
            qi += e.yy[k] * sum;
        }
        s[i] = si;
        d[i] = di;
        q[i] = qi;
    }
    for (int i = 0; i < 3; ++i) extend(s + i * pitch, level.width, reach, stride - level.width + reach);
    float* MMME_RESTRICT ry = to;
    float* MMME_RESTRICT rx = to + stride;
    float* MMME_RESTRICT ryy = to + 2 * stride;
    float* MMME_RESTRICT rxx = to + 3 * stride;
    float* MMME_RESTRICT rxy = to + 4 * stride;
    MMME_IVDEP
    for (Index i = 0; i < stride; ++i) {
        float yi = e.y[0] * d[i], xi = 0, yyi = e.g[0] * q[i], xxi = e.xx[0] * s[i], xyi = 0;
        MMME_UNROLL
        for (int k = 1; k <= n; ++k) {
            xi += e.x[k] * (s[i + k] - s[i - k]);
            xxi += e.xx[k] * (s[i + k] + s[i - k]);
            yi += e.y[k] * (d[i + k] + d[i - k]);
            xyi += e.xy[k] * (d[i + k] - d[i - k]);
            yyi += e.g[k] * (q[i + k] + q[i - k]);
        }
        ry[i] = yi;
        rx[i] = xi;
        ryy[i] = yyi;
        rxx[i] = xxi;
        rxy[i] = xyi;
    }
}

struct PrepareMemory {
    Index frame, columns, taps, strips;
    Index total(int height) const { return 2 * frame + columns + taps + strip_count(height) * strips; }
};

PrepareMemory prepare_memory(int height, int width, const Farneback& p) {
    const Blur widest = blur_of(level_at(height, width, p, top_level(height, width, p)).scale);
    const Index a = level_row_memory(width, widest), b = expand_memory(padded(width));
    return {padded(width) * height, 2 * padded(width), padded(2 * widest.radius + 1), a > b ? a : b};
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
    int step;             // a box sums `step` neighbours, then every step-th of those sums
    bool gaussian, first; // first: OpenCV's box of width 1 always takes in row 0 and column 0
    float bias;           // of the determinant, in units of unscaled sums
    Index lead() const { return padded(2 * radius) + lanes; }           // floats before a row's first plane
    Index pitch(int width) const { return padded(width + 2 * radius); } // from a plane to the next
};

Window window_of(const Farneback& p) {
    const int radius = p.window / 2, length = 2 * radius + 1;
    const double area = p.gaussian ? 1.0 : static_cast<double>(p.window) * p.window;
    int step = 1;
    for (int s = 2; s * s <= 4 * length; ++s) // fewest additions
        if (s + length / s + length % s < step + length / step + length % step) step = s;
    return {radius, length, step, p.gaussian, radius == 0 && !p.gaussian, static_cast<float>(1e-3 * area * area)};
}

// What a band of rows needs: a ring of rows of window sums and their running sum, a row of systems, one of partial
// sums, one of weights, two of flow.
struct BandMemory {
    Index pitch, sums, systems, partial, rows;
    Index total(const Window& window) const { return (window.length + 2) * sums + systems + partial + rows; }
};

BandMemory band_memory(int width, const Window& window) {
    const Index pitch = window.pitch(width), sums = planes * pitch, over = padded(window.length);
    return {pitch, sums, window.lead() + sums + 2 * over, sums + over, 3 * padded(width)};
}

// Where the flow of a chunk of a row points: the first of two taps relative to the pixel, what part of the way to the
// second, and whether both are inside the frame (1 or 0). Then for each group of pixels which taps it needs: those of
// the first of them relative to the pixels, and `kind`, or that they are scattered. Last, the coefficients found there.
struct Places {
    float dx[chunk], dy[chunk], part_x[chunk], part_y[chunk], inside[chunk];
    float first_x[chunk / lanes], first_y[chunk / lanes], kind[chunk / lanes];
    float found[planes][chunk];
};
constexpr float three_columns = 1, three_rows = 2, scattered = 4; // a sum of these; without, two of each

void locate(const float* to_u, const float* to_v, const Level& level, int column, int count, int y, Places& places) {
    constexpr float limit = 65536.0f; // pixels; further than any frame
    const auto within = [](float d) { return std::fabs(d) < limit ? d : limit; };
    const float row = static_cast<float>(y), right = static_cast<float>(level.width - 1),
                bottom = static_cast<float>(level.height - 1);
    const float* MMME_RESTRICT u = to_u;
    const float* MMME_RESTRICT v = to_v;
    float* MMME_RESTRICT dx = places.dx;
    float* MMME_RESTRICT dy = places.dy;
    float* MMME_RESTRICT part_x = places.part_x;
    float* MMME_RESTRICT part_y = places.part_y;
    float* MMME_RESTRICT inside = places.inside;
    MMME_IVDEP
    for (int x = 0; x < count; ++x) {
        const float at = static_cast<float>(column + x), px = at + within(u[x]), py = row + within(v[x]);
        const float fx = std::floor(px), fy = std::floor(py);
        part_x[x] = px - fx;
        part_y[x] = py - fy;
        dx[x] = fx - at;
        dy[x] = fy - row;
        inside[x] = ((fx >= 0.0f) & (fx < right) & (fy >= 0.0f) & (fy < bottom)) ? 1.0f : 0.0f;
    }
    // Compared with a group's first pixel, is a tap less far, farther, or more than a pixel away?
    enum { less_x = 1, more_x = 2, less_y = 4, more_y = 8, away = 16 };
    for (int group = 0; group < count / lanes; ++group) {
        const float* MMME_RESTRICT gx = dx + group * lanes;
        const float* MMME_RESTRICT gy = dy + group * lanes;
        const float base_x = gx[0], base_y = gy[0];
        int seen = 0;
        MMME_IVDEP
        for (int i = 0; i < lanes; ++i) {
            const float tx = gx[i] - base_x, ty = gy[i] - base_y;
            seen |= (tx < 0 ? less_x : 0) | (tx > 0 ? more_x : 0) | (ty < 0 ? less_y : 0) | (ty > 0 ? more_y : 0);
            seen |= tx * tx + ty * ty > 2.0f ? away : 0;
        }
        places.kind[group] = static_cast<float>(seen);
    }
    for (int group = 0; group < count / lanes; ++group) {
        const int seen = static_cast<int>(places.kind[group]);
        const bool lx = seen & less_x, mx = seen & more_x, ly = seen & less_y, my = seen & more_y;
        places.first_x[group] = dx[group * lanes] - (lx ? 1.0f : 0.0f);
        places.first_y[group] = dy[group * lanes] - (ly ? 1.0f : 0.0f);
        const bool apart = (seen & away) | (lx & mx) | (ly & my);
        places.kind[group] = apart ? scattered : (lx || mx ? three_columns : 0.0f) + (ly || my ? three_rows : 0.0f);
    }
}

// The next frame's polynomials where the flow points, 0 outside, for a run of pixels whose taps are neighbours as they
// are. Taps with weight 0 add nothing: the result of a pixel does not depend on the kind of its group.
template <int columns, int rows>
MMME_NOINLINE void sample_near(const float* MMME_RESTRICT from, const float* MMME_RESTRICT middle,
                               const float* MMME_RESTRICT bottom, Index stride, Places& places, int x, int count) {
    float* MMME_RESTRICT to = places.found[0] + x;
    const float* MMME_RESTRICT dx = places.dx + x;
    const float* MMME_RESTRICT dy = places.dy + x;
    const float* MMME_RESTRICT part_x = places.part_x + x;
    const float* MMME_RESTRICT part_y = places.part_y + x;
    const float* MMME_RESTRICT in = places.inside + x;
    const float first_x = places.first_x[x / lanes], first_y = places.first_y[x / lanes];
    MMME_IVDEP
    for (int i = 0; i < count; ++i) {
        const float f = part_x[i], g = 1.0f - f, fy = part_y[i], gy = 1.0f - fy;
        const bool next = columns == 3 && dx[i] > first_x, below = rows == 3 && dy[i] > first_y;
        const float w0 = next ? 0.0f : g, w1 = next ? g : f, w2 = next ? f : 0.0f;
        const float v0 = below ? 0.0f : gy, v1 = below ? gy : fy, v2 = below ? fy : 0.0f;
        const float inside = in[i];
        const auto plane = [&](Index c) {
            const auto along = [&](const float* MMME_RESTRICT r) {
                const float two = mul_add(w1, r[c + i + 1], w0 * r[c + i]);
                return columns == 3 ? mul_add(w2, r[c + i + 2], two) : two;
            };
            const float two = mul_add(v1, along(middle), v0 * along(from));
            return (rows == 3 ? mul_add(v2, along(bottom), two) : two) * inside;
        };
        to[i] = plane(0);
        to[chunk + i] = plane(stride);
        to[2 * chunk + i] = plane(2 * stride);
        to[3 * chunk + i] = plane(3 * stride);
        to[4 * chunk + i] = plane(4 * stride);
    }
}

void sample_far(const float* from, const Level& level, int column, int x, int y, Places& places) {
    const Index stride = level.stride, next = planes * stride;
    for (int i = x; i < x + lanes; ++i) {
        const bool inside = places.inside[i] > 0;
        const Index dx = static_cast<Index>(places.dx[i]), dy = static_cast<Index>(places.dy[i]);
        const float* p = from + (inside ? (y + dy) * next + column + i + dx : 0);
        const float f = places.part_x[i], g = 1.0f - f, fy = places.part_y[i], gy = 1.0f - fy;
        for (int c = 0; c < planes; ++c, p += stride) {
            const float top = mul_add(f, p[1], g * p[0]), bottom = mul_add(f, p[next + 1], g * p[next]);
            places.found[c][i] = inside ? mul_add(fy, bottom, gy * top) : 0.0f;
        }
    }
}

void sample(const float* coefficients, const Level& level, int column, int count, int y, Places& places) {
    const int groups = count / lanes;
    for (int begin = 0, end; begin < groups; begin = end) {
        const float first_x = places.first_x[begin], first_y = places.first_y[begin], kind = places.kind[begin];
        const int x = begin * lanes;
        end = begin + 1;
        if (kind == scattered) {
            sample_far(coefficients, level, column, x, y, places);
            continue;
        }
        // A group far outside is sampled anywhere, by itself: no run of taps leaves the frame by more than a group.
        const int shift = column + static_cast<int>(first_x), at = clamp(x + shift, -lanes - 2, level.width);
        while (end < groups && at == x + shift && end * lanes + shift <= level.width && places.kind[end] == kind &&
               places.first_x[end] == first_x && places.first_y[end] == first_y)
            ++end;
        const auto row = [&](int i) {
            const int at_y = clamp(y + static_cast<int>(first_y) + i, 0, level.height - 1);
            return coefficients + planes * level.stride * at_y + at;
        };
        const auto near = kind == three_columns ? sample_near<3, 2>
                          : kind == three_rows  ? sample_near<2, 3>
                          : kind == 0           ? sample_near<2, 2>
                                                : sample_near<3, 3>;
        near(row(0), row(1), row(2), level.stride, places, x, (end - begin) * lanes);
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
    const auto put = [&](int x) { to[x] = edge_row || edge(x, level.width) ? weight(x, level.width) * row : 1.0f; };
    for (int x = 0; x < smaller(border, level.width); ++x) put(x);
    for (int x = larger(level.width - border, 0); x < level.width; ++x) put(x);
}

// The systems of a chunk of a row: products of the mean quadratic part and of the difference of the linear parts.
void form_systems(const float* prev, const Places& places, const float* to_weights, const float* to_u,
                  const float* to_v, Index stride, Index pitch, int count, float* to) {
    const float* MMME_RESTRICT a = prev;
    const float* MMME_RESTRICT b = places.found[0];
    const float* MMME_RESTRICT inside = places.inside;
    const float* MMME_RESTRICT weights = to_weights;
    const float* MMME_RESTRICT u = to_u;
    const float* MMME_RESTRICT v = to_v;
    float* MMME_RESTRICT g11 = to;
    float* MMME_RESTRICT g12 = to + pitch;
    float* MMME_RESTRICT g22 = to + 2 * pitch;
    float* MMME_RESTRICT h1 = to + 3 * pitch;
    float* MMME_RESTRICT h2 = to + 4 * pitch;
    MMME_IVDEP
    for (int x = 0; x < count; ++x) {
        const float w = weights[x], half = 0.5f * w, mean = (1.0f - 0.5f * inside[x]) * w;
        const float yy = (a[2 * stride + x] + b[2 * chunk + x]) * mean;
        const float xx = (a[3 * stride + x] + b[3 * chunk + x]) * mean;
        const float xy = (a[4 * stride + x] + b[4 * chunk + x]) * (0.5f * mean);
        const float ry = (a[x] - b[x]) * half + (yy * v[x] + xy * u[x]);
        const float rx = (a[stride + x] - b[chunk + x]) * half + (xy * v[x] + xx * u[x]);
        g11[x] = yy * yy + xy * xy;
        g12[x] = (yy + xx) * xy;
        g22[x] = xx * xx + xy * xy;
        h1[x] = yy * ry + xy * rx;
        h2[x] = xy * ry + xx * rx;
    }
}

// The window's sums along a row of all five planes at once; what runs over a plane's end lands in the padding.
void window_row(float* systems, const Window& window, const float* kernel, int width, const BandMemory& sizes,
                float* partial, float* out) {
    float* row = systems + window.lead();
    // Around each plane its first and last value go on, over half of the gap to the next plane.
    const Index gap = sizes.pitch - width;
    for (int c = 0; c <= planes; ++c) {
        float* MMME_RESTRICT between = row + c * sizes.pitch - gap;
        const float before = c > 0 ? between[-1] : 0.0f, after = c < planes ? between[gap] : 0.0f;
        MMME_IVDEP
        for (Index i = 0; i < gap; ++i) between[i] = i < window.radius ? before : after;
    }
    const float* from = row - window.radius;
    const auto next = [&](int t) { return from + t; };
    if (window.gaussian || window.step == 1) {
        weighted_sum(out, sizes.sums, window.length, kernel, next);
        if (window.first)
            for (Index i = 0; i < sizes.sums; ++i) out[i] += from[i / sizes.pitch * sizes.pitch];
        return;
    }
    const int steps = window.length / window.step, rest = steps * window.step;
    weighted_sum(partial, sizes.sums + window.length, window.step, kernel, next);
    weighted_sum(out, sizes.sums, steps, kernel, [&](int t) { return partial + t * window.step; });
    weighted_sum(out, sizes.sums, window.length - rest, kernel, [&](int t) { return from + rest + t; }, true);
}

// The flow of one row. Its sums are `rest` plus `running`, to which `sums` are added first.
void solve_row(const float* rest, const float* sums, float* running, float bias, Index pitch, int width, float* to_u,
               float* to_v) {
    const float* MMME_RESTRICT a = rest;
    const float* MMME_RESTRICT b = sums;
    float* MMME_RESTRICT r = running;
    float* MMME_RESTRICT u = to_u;
    float* MMME_RESTRICT v = to_v;
    MMME_IVDEP
    for (int x = 0; x < width; ++x) {
        const float r0 = r[x] + b[x], r1 = r[pitch + x] + b[pitch + x], r2 = r[2 * pitch + x] + b[2 * pitch + x];
        const float r3 = r[3 * pitch + x] + b[3 * pitch + x], r4 = r[4 * pitch + x] + b[4 * pitch + x];
        r[x] = r0;
        r[pitch + x] = r1;
        r[2 * pitch + x] = r2;
        r[3 * pitch + x] = r3;
        r[4 * pitch + x] = r4;
        const float g11 = a[x] + r0, g12 = a[pitch + x] + r1, g22 = a[2 * pitch + x] + r2;
        const float h1 = a[3 * pitch + x] + r3, h2 = a[4 * pitch + x] + r4;
        const float inverse = 1.0f / (g11 * g22 - g12 * g12 + bias);
        u[x] = (g11 * h2 - g12 * h1) * inverse;
        v[x] = (g22 * h1 - g12 * h2) * inverse;
    }
}

void add(float* MMME_RESTRICT to, const float* MMME_RESTRICT from, Index count) {
    MMME_IVDEP
    for (Index i = 0; i < count; ++i) to[i] += from[i];
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

// One iteration for rows begin..end. A box sums rows by van Herk's scheme: blocks of the window's length, at the same
// rows whatever the bands; a window is the end of one block (sums from each row to the block's last) and the beginning
// of the next (a running sum). Neither drifts.
void iterate(const Iteration& it, int begin, int end, float* memory) {
    const Level& level = it.level;
    const Window& window = it.window;
    const Index stride = level.stride;
    const BandMemory sizes = band_memory(level.width, window);
    float* ring = memory; // and one row more, all 0: what is left of a block after its last row
    float* running = ring + (window.length + 1) * sizes.sums;
    float* systems = running + sizes.sums;
    float* partial = systems + sizes.systems;
    float* weights = partial + sizes.partial;
    float* solved = weights + stride;
    alignas(64) Places places;
    const auto slot = [&](int i) { return ring + i % (window.length + 1) * sizes.sums; };
    const float* none = slot(window.length);
    bool weighted = false; // as the rows away from the edge are
    const auto plain = [&](int row) { return row >= border && row < level.height - border; };
    const auto sum_row = [&](int row, float* sums) {
        const float* u = it.from + 2 * stride * row;
        if (!weighted || !plain(row)) edge_weights(level, row, weights);
        weighted = plain(row);
        for (int x = 0; x < level.width; x += chunk) {
            const int count = static_cast<int>(padded(smaller(level.width - x, chunk)));
            locate(u + x, u + stride + x, level, x, count, row, places);
            sample(it.next, level, x, count, row, places);
            form_systems(it.prev + planes * stride * row + x, places, weights + x, u + x, u + stride + x, stride,
                         sizes.pitch, smaller(level.width - x, chunk), systems + window.lead() + x);
        }
        window_row(systems, window, it.kernel, level.width, sizes, partial, sums);
    };
    fill(systems, sizes.systems, 0.0f);
    if (window.first)
        sum_row(0, slot(1));
    else
        fill(slot(window.length), sizes.sums, 0.0f);
    int last = -1;
    for (int r = begin - window.radius; r < end + window.radius; ++r) {
        const int row = clamp(r, 0, level.height - 1), place = (r + window.radius) % window.length;
        float* sums = slot(place);
        if (row == last)
            std::memcpy(sums, slot(place > 0 ? place - 1 : window.length - 1), sizes.sums * sizeof(float));
        else
            sum_row(row, sums);
        last = row;
        const bool solves = r >= begin + window.radius;
        if (window.gaussian && solves)
            weighted_sum(running, sizes.sums, window.length, it.kernel,
                         [&](int t) { return slot((place + 1 + t) % window.length); });
        if (!window.gaussian && place == 0) fill(running, sizes.sums, 0.0f);
        if (solves) {
            const int y = r - window.radius;
            float* u = it.result ? solved : it.to + 2 * stride * y;
            float* v = u + stride;
            if (window.gaussian)
                solve_row(none, none, running, window.bias, sizes.pitch, level.width, u, v);
            else
                solve_row(slot(place + 1), sums, running, window.bias, sizes.pitch, level.width, u, v);
            if (it.result) {
                float* MMME_RESTRICT out = it.result + static_cast<Index>(2) * level.width * y;
                for (int x = 0; x < level.width; ++x) {
                    out[2 * x] = u[x];
                    out[2 * x + 1] = v[x];
                }
            }
        } else if (!window.gaussian) {
            add(running, sums, sizes.sums);
        }
        if (!window.gaussian && place == window.length - 1)
            for (int i = window.length - 2; i > 0; --i) add(slot(i), slot(i + 1), sizes.sums);
    }
}

// The flow of the level below (coarser), magnified.
void enlarge(const float* from, const Level& coarse, float* to, const Level& level, float factor, int begin, int end,
             float* memory) {
    float* at = memory;
    float* part = at + level.stride;
    float* mixed = part + level.stride;
    tap_table(coarse.width, level.width, at, part);
    for (int y = begin; y < end; ++y) {
        const Tap row = tap(y, coarse.height, level.height);
        for (int c = 0; c < 2; ++c) {
            const float* MMME_RESTRICT a = from + (2 * row.at + c) * coarse.stride;
            const float* MMME_RESTRICT b = from + (2 * smaller(row.at + 1, coarse.height - 1) + c) * coarse.stride;
            float* MMME_RESTRICT out = to + (static_cast<Index>(2) * y + c) * level.stride;
            MMME_IVDEP
            for (int x = 0; x < coarse.width; ++x) mixed[x] = (a[x] + row.part * (b[x] - a[x])) * factor;
            mixed[coarse.width] = mixed[coarse.width - 1];
            interpolate(mixed, at, part, level.width, out);
        }
    }
}

// Calls body(sample, weight) for the samples that cell i of m covers when n samples are averaged into m cells.
template <class Body> MMME_INLINE void covered(int i, int n, int m, Body&& body) {
    const double step = 1.0 / (static_cast<double>(m) / n), low = i * step, high = low + step;
    const double cell = step < n - low ? step : n - low;
    const int last = smaller(static_cast<int>(std::floor(high)), n - 1);
    const int first = smaller(static_cast<int>(std::ceil(low)), last);
    if (first - low > 1e-3) body(first - 1, static_cast<float>((first - low) / cell));
    for (int k = first; k < last; ++k) body(k, static_cast<float>(1.0 / cell));
    if (high - last > 1e-3) {
        double rest = high - last < 1.0 ? high - last : 1.0;
        rest = rest < cell ? rest : cell;
        body(last, static_cast<float>(rest / cell));
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
    Index total(int height) const { return 2 * flow + kernel + strip_count(height) * band; }
};

SolveMemory solve_memory(int height, int width, const Farneback& p) {
    const Window window = window_of(p);
    return {2 * padded(width) * height, padded(window.length), band_memory(width, window).total(window)};
}

void solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width,
           const Farneback& p, float* scratch, const Rows& rows) {
    const SolveMemory memory = solve_memory(height, width, p);
    float* from = scratch;
    float* to = from + memory.flow;
    float* kernel = to + memory.flow;
    float* bands = kernel + memory.kernel;
    const Window window = window_of(p);
    if (window.gaussian && window.radius > 0)
        gaussian(kernel, window.radius, window.radius * 0.3);
    else
        fill(kernel, window.length, 1.0f);
    const int top = top_level(height, width, p);
    Level coarse{};
    for (int k = top; k >= 0; --k) {
        const Level level = level_at(height, width, p, k);
        const Index last_column = level.stride - 1;
        strips(rows, level.height, bands, memory.band, [&](int begin, int end, float* own) {
            for (int y = 2 * begin; y < 2 * end; ++y) // the padding stays 0 in both: it is read, never written
                for (Index x = last_column; x >= level.width; --x) from[y * level.stride + x] = 0.0f;
            if (k < top)
                enlarge(to, coarse, from, level, static_cast<float>(1.0 / p.pyr_scale), begin, end, own);
            else if (use_initial)
                reduce(flow, height, width, from, level, begin, end, own);
            else
                fill(from + 2 * level.stride * begin, 2 * level.stride * (end - begin), 0.0f);
        });
        for (int i = 0; i < p.iterations; ++i) {
            const bool final = k == 0 && i == p.iterations - 1;
            const Iteration it{
                prev + level.offset, curr + level.offset, from, to, final ? flow : nullptr, level, window, kernel};
            strips(rows, level.height, bands, memory.band, [&](int begin, int end, float* own) {
                if (i == 0)
                    for (int y = 2 * begin; y < 2 * end; ++y)
                        for (Index x = last_column; x >= level.width; --x) to[y * level.stride + x] = 0.0f;
                iterate(it, begin, end, own);
            });
            float* swap = from;
            from = to;
            to = swap;
        }
        // The level's flow is in `from` now; the next level reads it from `to`.
        float* swap = from;
        from = to;
        to = swap;
        coarse = level;
    }
}

} // namespace

std::size_t farneback_frame_size(int height, int width, const Farneback& p) {
    const Level top = level_at(height, width, p, top_level(height, width, p));
    return top.offset + top.coefficients() + margin;
}

std::size_t farneback_scratch_size(int height, int width, const Farneback& p) {
    const Index a = prepare_memory(height, width, p).total(height), b = solve_memory(height, width, p).total(height);
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
