// Dense inverse search optical flow (Kroeger, Timofte, Dai, Van Gool 2016), step by step as OpenCV 5 computes it.
//
// On every level of a pyramid, coarse to fine: patches of the first frame on a grid are matched to the second one by
// Gauss-Newton steps from the best of a few candidates (search); the patches' displacements are averaged, weighted by
// how well each pixel matches (densify); the flow is refined by minimising a variational energy (refine).
//
// The refinement solves its systems by red-black successive over-relaxation. Each row is therefore kept split: even
// columns, then odd columns. Row y of one colour is its even half when y is even, and its odd half when y is odd.
#include "image.hpp"
#include "layout.hpp"

#include <cstring>

namespace mmme::MMME_ISA {
namespace {

constexpr int patch = 8;   // width of a patch
constexpr int stripes = 8; // bands of patch rows between which displacements do not propagate
// Pixels around a level, its border repeated: what a patch may touch when it has left the frame.
constexpr int before = 16, after = 32, above = 12, below = 20;

// Weights of smoothness, brightness and gradient constancy, halved; the rest as in OpenCV's VariationalRefinement.
constexpr float alpha = 10.0f, delta = 2.5f, gamma = 5.0f, omega = 1.6f;
constexpr float zeta2 = 0.1f * 0.1f, epsilon2 = 0.01f * 0.01f;
constexpr int half_sweeps = 10; // five of each colour

MMME_INLINE float clamp(float value, float low, float high) {
    const float up = value > low ? value : low;
    return up < high ? up : high;
}

// One row of a patch.
#if defined(MMME_VECTOR) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) // not in GCC before 12
#define MMME_VECTOR_ROWS
#endif
#endif
#ifdef MMME_VECTOR_ROWS
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" // rows are passed to functions that are inlined, and to no others
#endif
typedef float Row MMME_VECTOR(patch * sizeof(float));
typedef float Four MMME_VECTOR(4 * sizeof(float));
MMME_INLINE Row load(const float* from) {
    return *reinterpret_cast<const Row*>(from);
}
MMME_INLINE void store(float* to, Row v) {
    *reinterpret_cast<Row*>(to) = v;
}
MMME_INLINE Row inverse_of_magnitude_above_one(Row v) {
    const Row one = Row{} + 1.0f;
    v = v < 0.0f ? -v : v;
    return one / (v > one ? v : one);
}
// to[0..3]: the sums over a, b, c, d.
MMME_INLINE void store_sums(float* to, Row a, Row b, Row c, Row d) {
    const auto halves = [](Row v) {
        return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
    };
    const Four p = halves(a), q = halves(b), r = halves(c), s = halves(d);
    const Four pq = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
    const Four rs = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
    *reinterpret_cast<Four*>(to) =
        __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
}
#else // no such vectors
struct Row {
    float at[patch];
};
template <class Op> MMME_INLINE Row each(Op&& op) {
    Row out;
    for (int i = 0; i < patch; ++i) out.at[i] = op(i);
    return out;
}
MMME_INLINE Row operator+(Row a, Row b) {
    return each([&](int i) { return a.at[i] + b.at[i]; });
}
MMME_INLINE Row operator-(Row a, Row b) {
    return each([&](int i) { return a.at[i] - b.at[i]; });
}
MMME_INLINE Row operator*(Row a, Row b) {
    return each([&](int i) { return a.at[i] * b.at[i]; });
}
MMME_INLINE Row operator*(float a, Row b) {
    return each([&](int i) { return a * b.at[i]; });
}
MMME_INLINE Row& operator+=(Row& a, Row b) {
    return a = a + b;
}
MMME_INLINE Row load(const float* from) {
    return each([&](int i) { return from[i]; });
}
MMME_INLINE void store(float* to, Row v) {
    for (int i = 0; i < patch; ++i) to[i] = v.at[i];
}
MMME_INLINE Row inverse_of_magnitude_above_one(Row v) {
    return each([&](int i) { return 1.0f / (std::fabs(v.at[i]) > 1.0f ? std::fabs(v.at[i]) : 1.0f); });
}
MMME_INLINE void store_sums(float* to, Row a, Row b, Row c, Row d) {
    const Row* rows[] = {&a, &b, &c, &d};
    for (int k = 0; k < 4; ++k) {
        to[k] = 0.0f;
        for (int i = 0; i < patch; ++i) to[k] += rows[k]->at[i];
    }
}
#endif

struct Scales {
    int finest, coarsest;
};

Scales scales_of(int height, int width, const DIS& p) {
    int finest = p.finest_scale;
    int coarsest = smaller(static_cast<int>(std::log(larger(height, width) / (4.0 * patch)) / std::log(2.0) + 0.5),
                           static_cast<int>(std::log(smaller(height, width) / patch) / std::log(2.0)));
    if (coarsest < finest) { // small frames
        coarsest =
            larger(0, static_cast<int>(std::floor(std::log2(2.0f * static_cast<float>(width) / (5.0f * patch)))));
        finest = larger(coarsest - 2, 0);
    }
    while (coarsest > 0 && smaller(height, width) >> coarsest < patch) --coarsest; // OpenCV reads outside the frame
    return {smaller(finest, coarsest), coarsest};
}

// What the search knows of a patch of the first frame: the inverse of its structure tensor, its mean gradient.
enum PatchField { h11, h12, h22, mean_x, mean_y, patch_fields };

// A level, and where it lies in a prepared frame: grey values within a border, their gradient, the patches.
struct Level {
    int scale, height, width;
    int rows, columns; // of patches
    Index stride, gradient_stride;
    Index grey, dx, dy, patches, end;

    Level(int full_height, int full_width, int k, const DIS& p, Index begin)
        : scale(k), height(full_height >> k), width(full_width >> k), rows(1 + (height - patch) / p.patch_stride),
          columns(1 + (width - patch) / p.patch_stride), stride(before + padded(width + after)),
          gradient_stride(padded(width)), grey(begin + above * stride + before),
          dx(begin + (height + above + below) * stride), dy(dx + height * gradient_stride),
          patches(dy + height * gradient_stride), end(patches + patch_fields * padded(Index{1} * rows * columns)) {}
    Index patch_plane() const { return padded(Index{1} * rows * columns); }
    Index flow_stride() const { return gradient_stride; }
};

Level level_at(int height, int width, int k, const DIS& p) {
    Index begin = 0;
    for (int i = scales_of(height, width, p).finest; i < k; ++i) begin = Level(height, width, i, p, begin).end;
    return {height, width, k, p, begin};
}

// ---- prepare

// Means of f x f pixels of f rows, which lie one after the other.
template <int f> void shrink(const float* from, Index stride, int count, float* MMME_RESTRICT to) {
    MMME_IVDEP
    for (int x = 0; x < count; ++x) {
        float sum = 0.0f;
        MMME_UNROLL
        for (int i = 0; i < f; ++i) {
            MMME_UNROLL
            for (int j = 0; j < f; ++j) sum += from[i * stride + f * x + j];
        }
        to[x] = sum * (1.0f / (f * f));
    }
}

void add_row(float* MMME_RESTRICT to, const float* MMME_RESTRICT from, int count, float weight) {
    MMME_IVDEP
    for (int x = 0; x < count; ++x) to[x] += weight * from[x];
}

// Whole grey values, as OpenCV has them: quarters round half up, all else half to even.
void round_row(float* row, int count, bool quarters) {
    if (quarters) {
        MMME_IVDEP
        for (int x = 0; x < count; ++x) row[x] = std::floor(row[x] + 0.5f);
    } else {
        MMME_IVDEP
        for (int x = 0; x < count; ++x) row[x] = std::nearbyint(row[x]);
    }
}

// Row y of a level as the area means of a larger image, whose rows `row_of` fetches into memory or where they lie.
// f: how many times larger at least; whole grey values stay whole.
template <class RowOf>
void reduce_row(RowOf&& row_of, int height, int width, int f, bool whole, const Level& level, int y, float* to,
                float* memory) {
    const Index stride = padded(width);
    if (f == 1) {
        const float* row = row_of(y, memory);
        if (row != to) std::memcpy(to, row, width * sizeof(float));
        return;
    }
    if (height == f * level.height && width == f * level.width && f <= 4) {
        for (int i = 0; i < f; ++i) {
            const float* row = row_of(f * y + i, memory + i * stride);
            if (row != memory + i * stride) std::memcpy(memory + i * stride, row, width * sizeof(float));
        }
        if (f == 2)
            shrink<2>(memory, stride, level.width, to);
        else
            shrink<4>(memory, stride, level.width, to);
    } else {
        float* sum = memory + stride;
        for (int x = 0; x < width; ++x) sum[x] = 0.0f;
        covered(y, height, level.height, [&](int i, float weight) { add_row(sum, row_of(i, memory), width, weight); });
        for (int x = 0; x < level.width; ++x) {
            float mean = 0.0f;
            covered(x, width, level.width, [&](int i, float weight) { mean += weight * sum[i]; });
            to[x] = mean;
        }
    }
    if (whole) round_row(to, level.width, f == 2 && height == 2 * level.height && width == 2 * level.width);
}

// The border around rows begin..end, above and below the first and last one.
void extend(float* grey, const Level& level, int begin, int end) {
    for (int y = begin; y < end; ++y) {
        float* row = grey + y * level.stride;
        for (int x = 1; x <= before; ++x) row[-x] = row[0];
        for (Index x = level.width; x < level.stride - before; ++x) row[x] = row[level.width - 1];
    }
    const auto copy = [&](int to, int from) {
        std::memcpy(grey + to * level.stride - before, grey + from * level.stride - before,
                    level.stride * sizeof(float));
    };
    if (begin == 0)
        for (int y = 1; y <= above; ++y) copy(-y, 0);
    if (end == level.height)
        for (int y = 0; y < below; ++y) copy(level.height + y, level.height - 1);
}

// Sobel's derivatives, the frame mirrored at its edge.
void differentiate(const float* grey, const Level& level, int y, float* to_x, float* to_y, float* memory) {
    const int width = level.width;
    const float* MMME_RESTRICT a = grey + (y > 0 ? y - 1 : 1) * level.stride;
    const float* MMME_RESTRICT b = grey + y * level.stride;
    const float* MMME_RESTRICT c = grey + (y < level.height - 1 ? y + 1 : y - 1) * level.stride;
    float* MMME_RESTRICT smooth = memory + lanes;
    float* MMME_RESTRICT step = smooth + padded(width) + 2 * lanes;
    float* MMME_RESTRICT dx = to_x;
    float* MMME_RESTRICT dy = to_y;
    MMME_IVDEP
    for (int x = 0; x < width; ++x) {
        smooth[x] = a[x] + 2.0f * b[x] + c[x];
        step[x] = c[x] - a[x];
    }
    smooth[-1] = smooth[1];
    smooth[width] = smooth[width - 2];
    step[-1] = step[1];
    step[width] = step[width - 2];
    MMME_IVDEP
    for (int x = 0; x < width; ++x) {
        dx[x] = smooth[x + 1] - smooth[x - 1];
        dy[x] = step[x - 1] + 2.0f * step[x] + step[x + 1];
    }
}

// Not inlined and not restrict, or Clang keeps values for the next step, which is a chain and no vector.
MMME_NOINLINE void box(const float* from, float* to, int count) {
    MMME_IVDEP
    for (int x = 0; x < count; ++x)
        to[x] = ((from[x] + from[x + 1]) + (from[x + 2] + from[x + 3])) +
                ((from[x + 4] + from[x + 5]) + (from[x + 6] + from[x + 7]));
}

// One row of patches, from the derivatives.
void summarise(const float* from_x, const float* from_y, const Level& level, int patch_stride, int row, float* to,
               float* memory) {
    const Index stride = level.gradient_stride, pitch = padded(level.width) + lanes;
    const int width = level.width;
    float* MMME_RESTRICT sum = memory;
    for (Index i = 0; i < 5 * pitch; ++i) sum[i] = 0.0f;
    for (int i = 0; i < patch; ++i) {
        const float* MMME_RESTRICT dx = from_x + (row * patch_stride + i) * stride;
        const float* MMME_RESTRICT dy = from_y + (row * patch_stride + i) * stride;
        MMME_IVDEP
        for (int x = 0; x < width; ++x) {
            sum[x] += dx[x] * dx[x];
            sum[pitch + x] += dx[x] * dy[x];
            sum[2 * pitch + x] += dy[x] * dy[x];
            sum[3 * pitch + x] += dx[x];
            sum[4 * pitch + x] += dy[x];
        }
    }
    float* boxed = memory + 5 * pitch;
    for (int k = 0; k < 5; ++k) box(sum + k * pitch, boxed + k * pitch, width - patch + 1);
    const Index plane = level.patch_plane();
    float* MMME_RESTRICT out = to + Index{1} * row * level.columns;
    const float* MMME_RESTRICT sums = boxed;
    for (int i = 0; i < level.columns; ++i) {
        const Index x = Index{1} * i * patch_stride;
        const float xx = sums[x], xy = sums[pitch + x], yy = sums[2 * pitch + x];
        float determinant = xx * yy - xy * xy;
        if (std::fabs(determinant) < 1e-3f) determinant = 1e-3f;
        const float inverse = 1.0f / determinant;
        out[h11 * plane + i] = yy * inverse;
        out[h12 * plane + i] = -xy * inverse;
        out[h22 * plane + i] = xx * inverse;
        out[mean_x * plane + i] = sums[3 * pitch + x] * (1.0f / (patch * patch));
        out[mean_y * plane + i] = sums[4 * pitch + x] * (1.0f / (patch * patch));
    }
}

Index prepare_memory(int width) {
    return 10 * (padded(width) + 2 * lanes); // of a strip
}

void prepare(const Image& image, int height, int width, const DIS& p, float* frame, float* scratch, const Rows& rows) {
    const Scales scales = scales_of(height, width, p);
    const Index memory = prepare_memory(width);
    const bool whole = image.pixel == Pixel::u8;
    Level larger_level = level_at(height, width, scales.finest, p);
    for (int k = scales.finest; k <= scales.coarsest; ++k) {
        const Level level = level_at(height, width, k, p);
        float* grey = frame + level.grey;
        strips(rows, level.height, scratch, memory, [&](int begin, int end, float* own) {
            for (int y = begin; y < end; ++y) {
                float* to = grey + y * level.stride;
                if (k == scales.finest)
                    reduce_row(
                        [&](int i, float* row) {
                            grey_row(image, i, width, row);
                            return row;
                        },
                        height, width, 1 << k, whole, level, y, to, own);
                else
                    reduce_row([&](int i, float*) { return frame + larger_level.grey + i * larger_level.stride; },
                               larger_level.height, larger_level.width, 2, whole, level, y, to, own);
            }
            extend(grey, level, begin, end);
        });
        strips(rows, level.height, scratch, memory, [&](int begin, int end, float* own) {
            for (int y = begin; y < end; ++y)
                differentiate(grey, level, y, frame + level.dx + y * level.gradient_stride,
                              frame + level.dy + y * level.gradient_stride, own);
        });
        strips(rows, level.rows, scratch, memory, [&](int begin, int end, float* own) {
            for (int row = begin; row < end; ++row)
                summarise(frame + level.dx, frame + level.dy, level, p.patch_stride, row, frame + level.patches, own);
        });
        larger_level = level;
    }
}

// ---- search

// A flow, by rows of two planes.
struct Flow {
    float* data;
    Index stride;
    int height, width;
    float* row(int plane, int y) const { return data + (2 * Index{1} * y + plane) * stride; }
};

// A position in the second frame: a pixel, and the weights of the four around it.
struct Place {
    Index at;
    float w00, w01, w10, w11;
};

MMME_INLINE Place place(float x, float y, float left, float top, const Level& level) {
    const float px = clamp(x, left, static_cast<float>(level.width - 1));
    const float py = clamp(y, top, static_cast<float>(level.height - 1));
    const float fx = std::floor(px), fy = std::floor(py), ax = px - fx, ay = py - fy;
    return {static_cast<Index>(fy) * level.stride + static_cast<Index>(fx), (1.0f - ax) * (1.0f - ay), ax * (1.0f - ay),
            (1.0f - ax) * ay, ax * ay};
}

// A patch of the first frame: its grey values and derivatives, row by row.
struct Patch {
    alignas(64) float grey[patch * patch];
    float dx[patch * patch], dy[patch * patch];
};

void copy_patch(Patch& to, const float* grey, Index stride, const float* dx, const float* dy, Index gradient_stride) {
    for (int i = 0; i < patch; ++i) {
        store(to.grey + i * patch, load(grey + i * stride));
        store(to.dx + i * patch, load(dx + i * gradient_stride));
        store(to.dy + i * patch, load(dy + i * gradient_stride));
    }
}

// Sums over the difference d of the patches: of d, d^2, d dx, d dy.
MMME_INLINE void compare(const Patch& first, const float* second, Index stride, float w00, float w01, float w10,
                         float w11, float* sums) {
    const float* from = second;
    Row a = load(from), b = load(from + 1);
    Row s{}, ss{}, sx{}, sy{};
    MMME_UNROLL
    for (int i = 0; i < patch; ++i) {
        from += stride;
        const Row c = load(from), d = load(from + 1);
        const Row difference = w00 * a + w01 * b + w10 * c + w11 * d - load(first.grey + i * patch);
        s += difference;
        ss += difference * difference;
        sx += difference * load(first.dx + i * patch);
        sy += difference * load(first.dy + i * patch);
        a = c;
        b = d;
    }
    store_sums(sums, s, ss, sx, sy);
}

// One patch of each stripe: they do not depend on each other, so they are matched side by side.
struct Group {
    Patch patches[stripes];
    int begin, end; // stripes
    float x[stripes], y[stripes], inverse11[stripes], inverse12[stripes], inverse22[stripes], mean[2][stripes];
    float u[stripes], v[stripes], error[stripes], gradient_x[stripes], gradient_y[stripes]; // best so far
    float try_u[stripes], try_v[stripes], try_error[stripes], try_x[stripes], try_y[stripes];
    float sums[stripes][4];
    std::int32_t open[stripes]; // 1: to be compared; while descending: not yet at the end
};

// Compares the patches that are open with the second frame at (try_u, try_v).
MMME_INLINE void evaluate(Group& g, const float* second, const Level& level) {
    std::int32_t at[stripes];
    float w00[stripes], w01[stripes], w10[stripes], w11[stripes];
    const float right = static_cast<float>(level.width - 1), bottom = static_cast<float>(level.height - 1);
    const auto stride = static_cast<std::int32_t>(level.stride);
    for (int i = 0; i < stripes; ++i) {
        const float px = clamp(g.x[i] + g.try_u[i], 1.0f - patch, right);
        const float py = clamp(g.y[i] + g.try_v[i], 1.0f - patch, bottom);
        const float fx = std::floor(px), fy = std::floor(py), ax = px - fx, ay = py - fy;
        at[i] = static_cast<std::int32_t>(fy) * stride + static_cast<std::int32_t>(fx);
        w00[i] = (1.0f - ax) * (1.0f - ay);
        w01[i] = ax * (1.0f - ay);
        w10[i] = (1.0f - ax) * ay;
        w11[i] = ax * ay;
    }
    for (int i = g.begin; i < g.end; ++i)
        if (g.open[i]) compare(g.patches[i], second + at[i], level.stride, w00[i], w01[i], w10[i], w11[i], g.sums[i]);
    for (int i = 0; i < stripes; ++i) {
        const float s = g.sums[i][0];
        g.try_error[i] = g.sums[i][1] - s * s * (1.0f / (patch * patch));
        g.try_x[i] = g.sums[i][2] - s * g.mean[0][i];
        g.try_y[i] = g.sums[i][3] - s * g.mean[1][i];
    }
}

// Takes over the candidates that match better.
MMME_INLINE void choose(Group& g) {
    for (int i = 0; i < stripes; ++i) {
        const bool better = g.try_error[i] < g.error[i];
        g.u[i] = better ? g.try_u[i] : g.u[i];
        g.v[i] = better ? g.try_v[i] : g.v[i];
        g.gradient_x[i] = better ? g.try_x[i] : g.gradient_x[i];
        g.gradient_y[i] = better ? g.try_y[i] : g.gradient_y[i];
        g.error[i] = better ? g.try_error[i] : g.error[i];
    }
}

// Gauss-Newton steps from the best candidate, until the error grows.
MMME_INLINE void descend(Group& g, const float* second, const Level& level, int iterations) {
    float u[stripes], v[stripes], error[stripes];
    for (int i = 0; i < stripes; ++i) {
        u[i] = g.u[i];
        v[i] = g.v[i];
        error[i] = 1e10f;
        g.try_error[i] = g.error[i];
        g.try_x[i] = g.gradient_x[i];
        g.try_y[i] = g.gradient_y[i];
    }
    std::int32_t all[stripes];
    for (int i = 0; i < stripes; ++i) all[i] = g.open[i];
    for (int t = 0;; ++t) {
        std::int32_t left = 0;
        for (int i = 0; i < stripes; ++i) {
            const float du = g.inverse11[i] * g.try_x[i] + g.inverse12[i] * g.try_y[i];
            const float dv = g.inverse12[i] * g.try_x[i] + g.inverse22[i] * g.try_y[i];
            u[i] = g.open[i] ? u[i] - du : u[i];
            v[i] = g.open[i] ? v[i] - dv : v[i];
            g.open[i] &= g.try_error[i] < error[i] ? 1 : 0;
            error[i] = g.try_error[i];
            left += g.open[i];
        }
        if (left == 0 || t + 1 >= iterations) break;
        for (int i = 0; i < stripes; ++i) {
            g.try_u[i] = u[i];
            g.try_v[i] = v[i];
        }
        evaluate(g, second, level);
    }
    for (int i = 0; i < stripes; ++i) {
        const float du = u[i] - g.u[i], dv = v[i] - g.v[i];
        const bool near = du * du + dv * dv <= static_cast<float>(patch * patch);
        g.u[i] = near ? u[i] : g.u[i];
        g.v[i] = near ? v[i] : g.v[i];
        g.open[i] = all[i];
    }
}

// Linear interpolation of an interleaved flow, pixel centres at half-integers.
MMME_INLINE float sample(const float* flow, Index row_stride, Index step, const Tap& line, const Tap& column) {
    const float* top = flow + line.index * row_stride + column.index * step;
    const float* bottom = top + line.step * row_stride;
    const Index next = column.step * step;
    const float a = top[0] + column.weight * (top[next] - top[0]);
    const float b = bottom[0] + column.weight * (bottom[next] - bottom[0]);
    return a + line.weight * (b - a);
}

// The flow of the next coarser level at the middle of each patch; nothing there: zero.
void start_patches(const Flow* coarse, const Level& level, int patch_stride, int begin, int end, float* to) {
    const Index plane = level.patch_plane();
    for (int row = begin; row < end; ++row)
        for (int column = 0; column < level.columns; ++column) {
            float* out = to + Index{1} * row * level.columns + column;
            out[0] = out[plane] = 0.0f;
            if (!coarse) continue;
            const Tap line = tap(row * patch_stride + patch / 2, coarse->height, 1.0 * coarse->height / level.height);
            const Tap across = tap(column * patch_stride + patch / 2, coarse->width, 1.0 * coarse->width / level.width);
            for (int c = 0; c < 2; ++c)
                out[c * plane] = 2.0f * sample(coarse->row(c, 0), 2 * coarse->stride, 1, line, across);
        }
}

struct Search {
    const float *prev, *curr; // prepared frames
    const float* initial;     // interleaved flow of the whole frame, or null
    int height, width;        // of the whole frame
    const DIS& params;
    const Level& level;
    float* found; // displacements of the patches: a plane of u, a plane of v
};

// Matches the patches of stripes begin..end: a pass forward and a pass backward, in which each patch also tries what
// its neighbours before it have found.
void search(const Search& job, int begin, int end) {
    const Level& level = job.level;
    const Index plane = level.patch_plane();
    const int stripe = (level.rows + stripes - 1) / stripes, patch_stride = job.params.patch_stride;
    const float* second = job.curr + level.grey;
    float* MMME_RESTRICT found_u = job.found;
    float* MMME_RESTRICT found_v = job.found + plane;
    Group g{};
    g.begin = begin;
    for (int direction = 1; direction >= -1; direction -= 2)
        for (int r = 0; r < stripe; ++r)
            for (int c = 0; c < level.columns; ++c) {
                const int column = direction > 0 ? c : level.columns - 1 - c;
                Index at[stripes];
                g.end = begin;
                for (int i = 0; i < stripes; ++i) g.open[i] = 0;
                for (int i = begin; i < end; ++i) {
                    const int first = i * stripe, last = smaller(first + stripe, level.rows) - 1;
                    if (first + r > last) break; // nor do the stripes below have so many rows
                    g.open[i] = 1;
                    g.end = i + 1;
                    const int row = direction > 0 ? first + r : last - r;
                    const int y = row * patch_stride, x = column * patch_stride;
                    at[i] = Index{1} * row * level.columns + column;
                    const float* fields = job.prev + level.patches + at[i];
                    g.x[i] = static_cast<float>(x);
                    g.y[i] = static_cast<float>(y);
                    g.inverse11[i] = fields[h11 * plane];
                    g.inverse12[i] = fields[h12 * plane];
                    g.inverse22[i] = fields[h22 * plane];
                    g.mean[0][i] = fields[mean_x * plane];
                    g.mean[1][i] = fields[mean_y * plane];
                    const Index gradient = y * level.gradient_stride + x;
                    copy_patch(g.patches[i], job.prev + level.grey + y * level.stride + x, level.stride,
                               job.prev + level.dx + gradient, job.prev + level.dy + gradient, level.gradient_stride);
                }
                if (g.end == begin) break;
                for (int i = 0; i < stripes; ++i) g.error[i] = 1e10f;
                const auto attempt = [&](Index offset) {
                    for (int i = g.begin; i < g.end; ++i) {
                        g.try_u[i] = found_u[at[i] + offset];
                        g.try_v[i] = found_v[at[i] + offset];
                    }
                    evaluate(g, second, level);
                    choose(g);
                };
                for (int i = g.begin; i < g.end; ++i) { // even if nothing compares below infinity
                    g.u[i] = found_u[at[i]];
                    g.v[i] = found_v[at[i]];
                }
                attempt(0);
                if (job.initial) {
                    for (int i = g.begin; i < g.end; ++i) {
                        const Tap line =
                            tap(static_cast<int>(g.y[i]) + patch / 2, job.height, 1.0 * job.height / level.height);
                        const Tap across =
                            tap(static_cast<int>(g.x[i]) + patch / 2, job.width, 1.0 * job.width / level.width);
                        const float scale = 1.0f / static_cast<float>(1 << level.scale);
                        g.try_u[i] = scale * sample(job.initial, Index{2} * job.width, 2, line, across);
                        g.try_v[i] = scale * sample(job.initial + 1, Index{2} * job.width, 2, line, across);
                    }
                    evaluate(g, second, level);
                    choose(g);
                }
                if (c > 0) attempt(-direction);
                if (r > 0) attempt(-Index{direction} * level.columns);
                descend(g, second, level, job.params.iterations / 2);
                for (int i = g.begin; i < g.end; ++i) {
                    found_u[at[i]] = g.u[i];
                    found_v[at[i]] = g.v[i];
                }
            }
}

// ---- densify

constexpr int ring = 16; // rows whose sums are under way: those of a patch, and of the pixels after the last one

Index densify_memory(const Level& level) {
    return ring * 3 * (level.flow_stride() + 2 * lanes);
}

void divide(const float* MMME_RESTRICT sums, Index pitch, Index count, float* MMME_RESTRICT u, float* MMME_RESTRICT v) {
    MMME_IVDEP
    for (Index x = 0; x < count; ++x) {
        const float inverse = 1.0f / sums[2 * pitch + x];
        u[x] = sums[x] * inverse;
        v[x] = sums[pitch + x] * inverse;
    }
}

// Every pixel's mean over the patches that cover it, weighted by how well it matches where each of them says. Pixels
// after the last patch of a row or column belong to that one.
void densify(const Search& job, const Flow& to, int begin, int end, float* memory) {
    const Level& level = job.level;
    const Index pitch = level.flow_stride() + 2 * lanes, plane = level.patch_plane();
    const int patch_stride = job.params.patch_stride;
    const auto sums = [&](int y) { return memory + y % ring * 3 * pitch; };
    const auto clear = [&](int from, int until) {
        for (int y = from; y < until; ++y)
            for (Index x = 0; x < 3 * pitch; ++x) sums(y)[x] = 0.0f;
    };
    const int first = clamp((begin - patch) / patch_stride, 0, level.rows - 1);
    int cleared = begin, done = begin;
    for (int row = first; row < level.rows && done < end; ++row) {
        const bool last_row = row == level.rows - 1;
        const int y = row * patch_stride, stop = smaller(end, last_row ? level.height : y + patch);
        if (stop <= begin) continue;
        clear(cleared, stop);
        cleared = larger(cleared, stop);
        for (int column = 0; column < level.columns; ++column) {
            const bool last_column = column == level.columns - 1;
            const Index at = Index{1} * row * level.columns + column;
            const float u = job.found[at], v = job.found[plane + at];
            // Up to patch_stride - 1 pixels more than a patch may follow.
            for (int x = column * patch_stride, x_stop = last_column ? level.width : x + 1; x < x_stop; x += patch) {
                const int y0 = larger(y, begin);
                const Place p =
                    place(static_cast<float>(x) + u, static_cast<float>(y) + v, -12.0f, 1.0f - above, level);
                const float* second = job.curr + level.grey + p.at + (y0 - y) * level.stride;
                const float* grey = job.prev + level.grey + y0 * level.stride + x;
                Row a = load(second), b = load(second + 1);
                for (int i = y0; i < stop; ++i) {
                    second += level.stride;
                    const Row c = load(second), d = load(second + 1);
                    const Row weight =
                        inverse_of_magnitude_above_one(p.w00 * a + p.w01 * b + p.w10 * c + p.w11 * d - load(grey));
                    float* sum = sums(i) + x;
                    store(sum, load(sum) + u * weight);
                    store(sum + pitch, load(sum + pitch) + v * weight);
                    store(sum + 2 * pitch, load(sum + 2 * pitch) + weight);
                    grey += level.stride;
                    a = c;
                    b = d;
                }
            }
        }
        for (const int ready = last_row ? end : smaller(end, y + patch_stride); done < ready; ++done)
            divide(sums(done), pitch, level.flow_stride(), to.row(0, done), to.row(1, done));
    }
}

// ---- refine

// The planes of the refinement, row by row, each row split into its even and its odd columns. Derivatives of the
// brightness (i) and of its gradient (x, y) over x, y and time (z), normalised; then the linear systems.
enum Field {
    ix,
    iy,
    iz,
    xx,
    xy,
    xz,
    yx,
    yy,
    yz,
    flow_u,
    flow_v,
    step_u,
    step_v,
    a12,
    b1,
    b2,
    i11,
    i22,
    weight,
    fields
};

struct State {
    int height, width, half; // half: columns in the even half
    Index pitch;             // from one half to the other
    float* data;

    State(float* memory, const Level& level)
        : height(level.height), width(level.width), half((width + 1) / 2), pitch(padded(half) + lanes), data(memory) {}
    Index count() const { return pitch - lanes; }
    Index line() const { return 2 * pitch; }
    Index size() const { return (height + 2) * fields * line() + lanes; }
    // Rows -1 and height exist: zeros.
    float* row(int field, int y, int odd = 0) const {
        return data + ((y + Index{1}) * fields + field) * line() + odd * pitch + lanes;
    }
};

// Even and odd halves of a row of floats outside the state.
struct Line {
    float* half[2];
    Line(float* memory, Index pitch) : half{memory + lanes, memory + lanes + pitch} {}
};

// The border repeated on both sides. What loops over whole vectors read after that must be finite: it meets zeros.
MMME_INLINE void extend(const State& s, float* even, float* odd) {
    even[s.count()] = 0.0f;
    odd[-1] = even[0];
    if (s.width % 2)
        odd[s.half - 1] = even[s.half - 1];
    else
        even[s.half] = odd[s.half - 1];
}

// Rows of the warped second frame: the mean of both frames and their difference.
template <int odd>
void warp_half(const State& s, const Level& level, const float* prev, const float* curr, int y, const Line& mean,
               const Line& difference) {
    const float* MMME_RESTRICT u = s.row(flow_u, y, odd);
    const float* MMME_RESTRICT v = s.row(flow_v, y, odd);
    const float* MMME_RESTRICT first = prev + level.grey + y * level.stride + odd;
    const float* MMME_RESTRICT second = curr + level.grey;
    float* MMME_RESTRICT m = mean.half[odd];
    float* MMME_RESTRICT d = difference.half[odd];
    const float right = static_cast<float>(s.width), bottom = static_cast<float>(s.height),
                at_y = static_cast<float>(y);
    const auto stride = static_cast<std::int32_t>(level.stride);
    const int count = static_cast<int>(s.count());
    MMME_IVDEP
    for (int k = 0; k < count; ++k) {
        const float px = clamp(static_cast<float>(2 * k + odd) + u[k], -1.0f, right);
        const float py = clamp(at_y + v[k], -1.0f, bottom);
        const float fx = std::floor(px), fy = std::floor(py), ax = px - fx, ay = py - fy;
        const std::int32_t at = static_cast<std::int32_t>(fy) * stride + static_cast<std::int32_t>(fx);
        const float top = second[at] + ax * (second[at + 1] - second[at]);
        const float low = second[at + stride] + ax * (second[at + stride + 1] - second[at + stride]);
        const float warped = top + ay * (low - top), grey = first[2 * k];
        m[k] = 0.5f * (warped + grey);
        d[k] = warped - grey;
    }
}

void split(const float* MMME_RESTRICT from, int width, float* even, float* odd, Index count) {
    float* MMME_RESTRICT e = even;
    float* MMME_RESTRICT o = odd;
    const int pairs = width / 2;
    MMME_IVDEP
    for (int k = 0; k < pairs; ++k) {
        e[k] = from[2 * k];
        o[k] = from[2 * k + 1];
    }
    for (Index k = pairs; k < count; ++k) e[k] = o[k] = 0.0f;
    if (width % 2) e[pairs] = from[width - 1];
}

constexpr int kept = 8; // rows of the warped frame that stay

Index linearise_memory(const State& s) {
    return (2 * kept + 2) * (s.line() + lanes);
}

// Rows begin..end: flow split, second frame warped, derivatives taken.
void linearise(const State& s, const Level& level, const float* prev, const float* curr, int begin, int end,
               float* memory) {
    const Index size = s.line() + lanes;
    const auto mean = [&](int y) { return Line(memory + clamp(y, 0, s.height - 1) % kept * size, s.pitch); };
    const auto time = [&](int y) { return Line(memory + (kept + clamp(y, 0, s.height - 1) % kept) * size, s.pitch); };
    const Line across(memory + 2 * kept * size, s.pitch), down(memory + (2 * kept + 1) * size, s.pitch);
    int next = larger(begin - 2, 0);
    for (int y = begin; y < end; ++y) {
        for (; next < smaller(y + 3, s.height); ++next) {
            warp_half<0>(s, level, prev, curr, next, mean(next), time(next));
            warp_half<1>(s, level, prev, curr, next, mean(next), time(next));
            extend(s, mean(next).half[0], mean(next).half[1]);
            extend(s, time(next).half[0], time(next).half[1]);
        }
        const Line here = mean(y), over = mean(y - 1), under = mean(y + 1);
        const Index count = s.count();
        for (int odd = 0; odd < 2; ++odd) {
            // The columns beside even column k are odd ones k - 1 and k; beside odd column k, even ones k and k + 1.
            const float* MMME_RESTRICT left = here.half[1 - odd] + odd - 1;
            const float* MMME_RESTRICT right = here.half[1 - odd] + odd;
            const float* MMME_RESTRICT up = over.half[odd];
            const float* MMME_RESTRICT low = under.half[odd];
            float* MMME_RESTRICT dx = across.half[odd];
            float* MMME_RESTRICT dy = down.half[odd];
            MMME_IVDEP
            for (Index k = 0; k < count; ++k) {
                dx[k] = right[k] - left[k];
                dy[k] = low[k] - up[k];
            }
        }
        extend(s, across.half[0], across.half[1]);
        extend(s, down.half[0], down.half[1]);
        // The second derivative down: of the differences at the rows below and above, which the border repeats.
        const int next_row = smaller(y + 1, s.height - 1), last_row = larger(y - 1, 0);
        const Line ends[] = {mean(next_row + 1), mean(next_row - 1), mean(last_row + 1), mean(last_row - 1)};
        const Line now = time(y), earlier = time(y - 1), later = time(y + 1);
        for (int odd = 0; odd < 2; ++odd) {
            const int other = 1 - odd;
            const float* MMME_RESTRICT dx = across.half[odd];
            const float* MMME_RESTRICT dy = down.half[odd];
            const float* MMME_RESTRICT dz = now.half[odd];
            const float* MMME_RESTRICT dx_left = across.half[other] + odd - 1;
            const float* MMME_RESTRICT dx_right = across.half[other] + odd;
            const float* MMME_RESTRICT dy_left = down.half[other] + odd - 1;
            const float* MMME_RESTRICT dy_right = down.half[other] + odd;
            const float* MMME_RESTRICT dz_left = now.half[other] + odd - 1;
            const float* MMME_RESTRICT dz_right = now.half[other] + odd;
            const float* MMME_RESTRICT dz_up = earlier.half[odd];
            const float* MMME_RESTRICT dz_down = later.half[odd];
            const float* MMME_RESTRICT e0 = ends[0].half[odd];
            const float* MMME_RESTRICT e1 = ends[1].half[odd];
            const float* MMME_RESTRICT e2 = ends[2].half[odd];
            const float* MMME_RESTRICT e3 = ends[3].half[odd];
            float* MMME_RESTRICT out_i[] = {s.row(ix, y, odd), s.row(iy, y, odd), s.row(iz, y, odd)};
            float* MMME_RESTRICT out_x[] = {s.row(xx, y, odd), s.row(xy, y, odd), s.row(xz, y, odd)};
            float* MMME_RESTRICT out_y[] = {s.row(yx, y, odd), s.row(yy, y, odd), s.row(yz, y, odd)};
            MMME_IVDEP
            for (Index k = 0; k < count; ++k) {
                const float norm = 1.0f / std::sqrt(dx[k] * dx[k] + dy[k] * dy[k] + zeta2);
                out_i[0][k] = dx[k] * norm;
                out_i[1][k] = dy[k] * norm;
                out_i[2][k] = dz[k] * norm;
            }
            MMME_IVDEP
            for (Index k = 0; k < count; ++k) {
                const float dxx = dx_right[k] - dx_left[k], dxy = dy_right[k] - dy_left[k];
                const float dyy = (e0[k] - e1[k]) - (e2[k] - e3[k]);
                const float norm_x = 1.0f / std::sqrt(dxx * dxx + dxy * dxy + zeta2);
                const float norm_y = 1.0f / std::sqrt(dxy * dxy + dyy * dyy + zeta2);
                out_x[0][k] = dxx * norm_x;
                out_x[1][k] = dxy * norm_x;
                out_x[2][k] = (dz_right[k] - dz_left[k]) * norm_x;
                out_y[0][k] = dxy * norm_y;
                out_y[1][k] = dyy * norm_y;
                out_y[2][k] = (dz_down[k] - dz_up[k]) * norm_y;
            }
        }
    }
}

// The flow with the step that is under way, its border repeated.
void moved(const State& s, int y, const Line& u, const Line& v) {
    const Index count = s.line() - lanes;
    for (int c = 0; c < 2; ++c) {
        const float* MMME_RESTRICT flow = s.row(flow_u + c, y);
        const float* MMME_RESTRICT step = s.row(step_u + c, y);
        float* MMME_RESTRICT out = (c ? v : u).half[0];
        MMME_IVDEP
        for (Index k = 0; k < count; ++k) out[k] = flow[k] + step[k];
    }
    extend(s, u.half[0], u.half[1]);
    extend(s, v.half[0], v.half[1]);
}

// The weight that smoothness has at each pixel of row y: of its links to the right and down.
void smoothness(const State& s, int y, const Line* here, const Line* next) {
    const Index count = s.count();
    for (int odd = 0; odd < 2; ++odd) {
        const float* MMME_RESTRICT u = here[0].half[odd];
        const float* MMME_RESTRICT v = here[1].half[odd];
        const float* MMME_RESTRICT u_right = here[0].half[1 - odd] + odd;
        const float* MMME_RESTRICT v_right = here[1].half[1 - odd] + odd;
        const float* MMME_RESTRICT u_down = next[0].half[odd];
        const float* MMME_RESTRICT v_down = next[1].half[odd];
        float* MMME_RESTRICT out = s.row(weight, y, odd);
        MMME_IVDEP
        for (Index k = 0; k < count; ++k) {
            const float ux = u_right[k] - u[k], vx = v_right[k] - v[k], uy = u_down[k] - u[k], vy = v_down[k] - v[k];
            out[k] = alpha / std::sqrt(ux * ux + vx * vx + uy * uy + vy * vy + epsilon2);
        }
    }
}

// The linear systems of row y: data term and smoothness around the step so far.
void form_systems(const State& s, int y, const float* const* inside) {
    const Index count = s.count();
    const bool last = y == s.height - 1;
    const float link_down = last ? 0.0f : 1.0f;
    for (int odd = 0; odd < 2; ++odd) {
        const int other = 1 - odd;
        const float* MMME_RESTRICT dix = s.row(ix, y, odd);
        const float* MMME_RESTRICT diy = s.row(iy, y, odd);
        const float* MMME_RESTRICT diz = s.row(iz, y, odd);
        const float* MMME_RESTRICT dxx = s.row(xx, y, odd);
        const float* MMME_RESTRICT dxy = s.row(xy, y, odd);
        const float* MMME_RESTRICT dxz = s.row(xz, y, odd);
        const float* MMME_RESTRICT dyx = s.row(yx, y, odd);
        const float* MMME_RESTRICT dyy = s.row(yy, y, odd);
        const float* MMME_RESTRICT dyz = s.row(yz, y, odd);
        const float* MMME_RESTRICT du = s.row(step_u, y, odd);
        const float* MMME_RESTRICT dv = s.row(step_v, y, odd);
        const float* MMME_RESTRICT u = s.row(flow_u, y, odd);
        const float* MMME_RESTRICT v = s.row(flow_v, y, odd);
        const float* MMME_RESTRICT u_left = s.row(flow_u, y, other) + odd - 1;
        const float* MMME_RESTRICT v_left = s.row(flow_v, y, other) + odd - 1;
        const float* MMME_RESTRICT u_right = s.row(flow_u, y, other) + odd;
        const float* MMME_RESTRICT v_right = s.row(flow_v, y, other) + odd;
        const float* MMME_RESTRICT u_up = s.row(flow_u, y - 1, odd);
        const float* MMME_RESTRICT v_up = s.row(flow_v, y - 1, odd);
        const float* MMME_RESTRICT u_down = s.row(flow_u, y + 1, odd);
        const float* MMME_RESTRICT v_down = s.row(flow_v, y + 1, odd);
        const float* MMME_RESTRICT w = s.row(weight, y, odd);
        const float* MMME_RESTRICT w_left = s.row(weight, y, other) + odd - 1;
        const float* MMME_RESTRICT w_up = s.row(weight, y - 1, odd);
        const float* MMME_RESTRICT in = inside[odd];
        float* MMME_RESTRICT out_12 = s.row(a12, y, odd);
        float* MMME_RESTRICT out_1 = s.row(b1, y, odd);
        float* MMME_RESTRICT out_2 = s.row(b2, y, odd);
        float* MMME_RESTRICT out_11 = s.row(i11, y, odd);
        float* MMME_RESTRICT out_22 = s.row(i22, y, odd);
        MMME_IVDEP
        for (Index k = 0; k < count; ++k) {
            const float ri = diz[k] + dix[k] * du[k] + diy[k] * dv[k];
            const float rx = dxz[k] + dxx[k] * du[k] + dxy[k] * dv[k];
            const float ry = dyz[k] + dyx[k] * du[k] + dyy[k] * dv[k];
            const float wi = delta / std::sqrt(ri * ri + epsilon2);
            const float wg = gamma / std::sqrt(rx * rx + ry * ry + epsilon2);
            const float a = wi * dix[k], b = wi * diy[k];
            const float c = wg * dxx[k], d = wg * dxy[k], e = wg * dyx[k], f = wg * dyy[k];
            // A link out of the frame has no weight.
            const float wr = w[k] * in[k], wl = w_left[k], wd = w[k] * link_down, wu = w_up[k];
            const float links = (wr + wl) + (wd + wu);
            const float a11 = zeta2 + a * dix[k] + c * dxx[k] + e * dyx[k] + links;
            const float a22 = zeta2 + b * diy[k] + d * dxy[k] + f * dyy[k] + links;
            out_12[k] = a * diy[k] + c * dxy[k] + e * dyy[k];
            out_1[k] = wr * (u_right[k] - u[k]) + wl * (u_left[k] - u[k]) + wd * (u_down[k] - u[k]) +
                       wu * (u_up[k] - u[k]) - (a * diz[k] + c * dxz[k] + e * dyz[k]);
            out_2[k] = wr * (v_right[k] - v[k]) + wl * (v_left[k] - v[k]) + wd * (v_down[k] - v[k]) +
                       wu * (v_up[k] - v[k]) - (b * diz[k] + d * dxz[k] + f * dyz[k]);
            const float both = omega / (a11 * a22);
            out_11[k] = a22 * both;
            out_22[k] = a11 * both;
        }
        // Columns after the last one never move: they are what a neighbour outside is, zero.
        for (Index k = (s.width - odd + 1) / 2; k < count; ++k) out_11[k] = out_22[k] = 0.0f;
    }
}

// One half-sweep of over-relaxation on row y.
void relax(const State& s, int y, int odd) {
    const Index count = s.count();
    const int other = 1 - odd;
    const float* MMME_RESTRICT w = s.row(weight, y, odd);
    const float* MMME_RESTRICT w_left = s.row(weight, y, other) + odd - 1;
    const float* MMME_RESTRICT w_up = s.row(weight, y - 1, odd);
    const float* MMME_RESTRICT c12 = s.row(a12, y, odd);
    const float* MMME_RESTRICT c1 = s.row(b1, y, odd);
    const float* MMME_RESTRICT c2 = s.row(b2, y, odd);
    const float* MMME_RESTRICT c11 = s.row(i11, y, odd);
    const float* MMME_RESTRICT c22 = s.row(i22, y, odd);
    const float* MMME_RESTRICT u_left = s.row(step_u, y, other) + odd - 1;
    const float* MMME_RESTRICT v_left = s.row(step_v, y, other) + odd - 1;
    const float* MMME_RESTRICT u_right = s.row(step_u, y, other) + odd;
    const float* MMME_RESTRICT v_right = s.row(step_v, y, other) + odd;
    const float* MMME_RESTRICT u_up = s.row(step_u, y - 1, odd);
    const float* MMME_RESTRICT v_up = s.row(step_v, y - 1, odd);
    const float* MMME_RESTRICT u_down = s.row(step_u, y + 1, odd);
    const float* MMME_RESTRICT v_down = s.row(step_v, y + 1, odd);
    float* MMME_RESTRICT u = s.row(step_u, y, odd);
    float* MMME_RESTRICT v = s.row(step_v, y, odd);
    MMME_IVDEP
    for (Index k = 0; k < count; ++k) {
        const float pull_u = w_left[k] * u_left[k] + w[k] * (u_right[k] + u_down[k]) + w_up[k] * u_up[k] + c1[k];
        const float pull_v = w_left[k] * v_left[k] + w[k] * (v_right[k] + v_down[k]) + w_up[k] * v_up[k] + c2[k];
        const float du = (1.0f - omega) * u[k] + c11[k] * (pull_u - c12[k] * v[k]);
        u[k] = du;
        v[k] = (1.0f - omega) * v[k] + c22[k] * (pull_v - c12[k] * du);
    }
}

// One fixed-point iteration. Row by row from the top: the systems of a row, and each half-sweep one row above the one
// before it, which is as soon as it may, so that what they share stays in the cache.
void iterate(const State& s, float* memory) {
    const Index size = s.line() + lanes;
    const Line lines[] = {Line(memory, s.pitch), Line(memory + size, s.pitch), Line(memory + 2 * size, s.pitch),
                          Line(memory + 3 * size, s.pitch)};
    float* inside[] = {memory + 4 * size, memory + 4 * size + s.pitch};
    for (int odd = 0; odd < 2; ++odd)
        for (Index k = 0; k < s.count(); ++k) inside[odd][k] = 2 * k + odd == s.width - 1 ? 0.0f : 1.0f;
    moved(s, 0, lines[0], lines[1]);
    for (int t = 0; t < s.height + half_sweeps; ++t) {
        if (t < s.height) {
            const Line* here = lines + 2 * (t % 2);
            const Line* next = lines + 2 * ((t + 1) % 2);
            moved(s, smaller(t + 1, s.height - 1), next[0], next[1]);
            smoothness(s, t, here, next);
            form_systems(s, t, inside);
        }
        for (int sweep = 0; sweep < half_sweeps; ++sweep) {
            const int y = t - 1 - sweep;
            if (y >= 0 && y < s.height) relax(s, y, (y + sweep) % 2);
        }
    }
}

void merge(const State& s, int y, int plane, float* to) {
    const float* MMME_RESTRICT e = s.row(flow_u + plane, y, 0);
    const float* MMME_RESTRICT o = s.row(flow_u + plane, y, 1);
    const float* MMME_RESTRICT de = s.row(step_u + plane, y, 0);
    const float* MMME_RESTRICT d_o = s.row(step_u + plane, y, 1);
    float* MMME_RESTRICT out = to;
    const int pairs = s.width / 2;
    MMME_IVDEP
    for (int k = 0; k < pairs; ++k) {
        out[2 * k] = e[k] + de[k];
        out[2 * k + 1] = o[k] + d_o[k];
    }
    if (s.width % 2) out[s.width - 1] = e[pairs] + de[pairs];
}

Index refine_memory(const State& s) { // of a strip
    const Index a = linearise_memory(s), b = 6 * (s.line() + lanes);
    return a > b ? a : b;
}

void refine(const Level& level, const float* prev, const float* curr, const Flow& flow, int iterations, float* memory,
            float* bands, Index band, const Rows& rows) {
    const State s(memory, level);
    strips(rows, s.height, bands, band, [&](int begin, int end, float*) {
        for (int y = begin; y < end; ++y)
            for (int c = 0; c < 2; ++c) {
                split(flow.row(c, y), s.width, s.row(flow_u + c, y, 0), s.row(flow_u + c, y, 1), s.count());
                extend(s, s.row(flow_u + c, y, 0), s.row(flow_u + c, y, 1));
                std::memset(s.row(step_u + c, y) - lanes, 0, (s.line() + lanes) * sizeof(float));
            }
    });
    for (int y = -1; y <= s.height; y += s.height + 1)
        std::memset(s.row(0, y) - lanes, 0, fields * s.line() * sizeof(float));
    for (int y = 0; y < s.height; ++y)
        for (int odd = 0; odd < 2; ++odd) s.row(weight, y, odd)[-1] = 0.0f;
    strips(rows, s.height, bands, band,
           [&](int begin, int end, float* own) { linearise(s, level, prev, curr, begin, end, own); });
    for (int i = 0; i < iterations; ++i) iterate(s, bands);
    strips(rows, s.height, bands, band, [&](int begin, int end, float*) {
        for (int y = begin; y < end; ++y)
            for (int c = 0; c < 2; ++c) merge(s, y, c, flow.row(c, y));
    });
}

// ---- solve

// A row of flow f times as wide, interleaved. u, v: with a value before the first and after the last. Not
// restrict, as in box().
template <int f> void widen(const float* u, const float* v, int count, float* out) {
    MMME_IVDEP
    for (int k = 0; k < count; ++k) {
        MMME_UNROLL
        for (int i = 0; i < f; ++i) {
            const float at = (static_cast<float>(i) + 0.5f) / f - 0.5f; // a constant
            const int left = at < 0.0f ? -1 : 0;
            const float part = at - static_cast<float>(left);
            out[2 * (f * k + i)] = u[k + left] + part * (u[k + left + 1] - u[k + left]);
            out[2 * (f * k + i) + 1] = v[k + left] + part * (v[k + left + 1] - v[k + left]);
        }
    }
}

Index enlarge_memory(const Level& level) {
    return 2 * (level.flow_stride() + 2 * lanes);
}

// Rows begin..end of the result: the flow of the finest level, magnified.
void enlarge(const Flow& from, int scale, float* to, int height, int width, int begin, int end, float* memory) {
    const float gain = static_cast<float>(1 << scale);
    float* mixed[] = {memory + lanes, memory + from.stride + 3 * lanes};
    for (int y = begin; y < end; ++y) {
        const Tap line = tap(y, from.height, 1.0 * from.height / height);
        for (int c = 0; c < 2; ++c) {
            const float* MMME_RESTRICT a = from.row(c, line.index);
            const float* MMME_RESTRICT b = from.row(c, line.index + line.step);
            float* MMME_RESTRICT out = mixed[c];
            MMME_IVDEP
            for (int x = 0; x < from.width; ++x) out[x] = (a[x] + line.weight * (b[x] - a[x])) * gain;
            out[-1] = out[0];
            out[from.width] = out[from.width - 1];
        }
        float* out = to + Index{2} * width * y;
        if (width == from.width << scale && scale == 0)
            widen<1>(mixed[0], mixed[1], from.width, out);
        else if (width == from.width << scale && scale == 1)
            widen<2>(mixed[0], mixed[1], from.width, out);
        else if (width == from.width << scale && scale == 2)
            widen<4>(mixed[0], mixed[1], from.width, out);
        else
            for (int x = 0; x < width; ++x) {
                const Tap column = tap(x, from.width, 1.0 * from.width / width);
                for (int c = 0; c < 2; ++c) {
                    const float* at = mixed[c] + column.index;
                    out[2 * x + c] = at[0] + column.weight * (at[column.step] - at[0]);
                }
            }
    }
}

struct SolveMemory {
    Index found, flow, state, band;

    SolveMemory(int height, int width, const DIS& p) {
        const Level level = level_at(height, width, scales_of(height, width, p).finest, p);
        const State s(nullptr, level);
        found = 2 * level.patch_plane();
        flow = 2 * level.flow_stride() * level.height;
        state = p.refinements ? padded(s.size()) : 0;
        const Index needs[] = {densify_memory(level), refine_memory(s), enlarge_memory(level)};
        band = 0;
        for (const Index need : needs) band = need > band ? need : band;
        band = padded(band);
    }
    Index total(int height) const { return found + flow + state + strip_count(height) * band; }
};

void solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width, const DIS& p,
           float* scratch, const Rows& rows) {
    const SolveMemory memory(height, width, p);
    float* found = scratch;
    float* dense = found + memory.found;
    float* state = dense + memory.flow;
    float* bands = state + memory.state;
    const Scales scales = scales_of(height, width, p);
    Flow coarse{};
    for (int k = scales.coarsest; k >= scales.finest; --k) {
        const Level level = level_at(height, width, k, p);
        const Search job{prev, curr, use_initial ? flow : nullptr, height, width, p, level, found};
        start_patches(k < scales.coarsest ? &coarse : nullptr, level, p.patch_stride, 0, level.rows, found);
        rows(stripes, [&](int begin, int end) { search(job, begin, end); });
        const Flow to{dense, level.flow_stride(), level.height, level.width};
        strips(rows, level.height, bands, memory.band,
               [&](int begin, int end, float* own) { densify(job, to, begin, end, own); });
        if (p.refinements > 0) refine(level, prev, curr, to, p.refinements, state, bands, memory.band, rows);
        coarse = to;
    }
    strips(rows, height, bands, memory.band, [&](int begin, int end, float* own) {
        enlarge(coarse, scales.finest, flow, height, width, begin, end, own);
    });
}

} // namespace

std::size_t dis_frame_size(int height, int width, const DIS& p) {
    return level_at(height, width, scales_of(height, width, p).coarsest, p).end;
}

std::size_t dis_scratch_size(int height, int width, const DIS& p) {
    const Index a = prepare_memory(width) * strip_count(height), b = SolveMemory(height, width, p).total(height);
    return a > b ? a : b;
}

void dis_prepare(const Image& image, int height, int width, const DIS& p, float* frame, float* scratch,
                 const Rows& rows) {
    prepare(image, height, width, p, frame, scratch, rows);
}

void dis_solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width, const DIS& p,
               float* scratch, const Rows& rows) {
    solve(prev, curr, flow, use_initial, height, width, p, scratch, rows);
}

} // namespace mmme::MMME_ISA
