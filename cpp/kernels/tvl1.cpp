// TV-L1 optical flow (Zach, Pock, Bischof 2007; Sanchez Perez et al. 2013), step by step as OpenCV 5 computes it.
//
// The flow u and the dual variables p are planar. Rows are padded to whole vectors and the padding of u and p stays 0
// all the time, so no loop treats a border or a last vector specially.
#include "image.hpp"
#include "vec.hpp"

#include <cfloat>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>

namespace mmme::MMME_ISA {
namespace {

constexpr int lanes = 16;  // floats in the longest vector: rows begin and end on a multiple
constexpr int border = 5;  // rows of zeros above and below an image that is warped
constexpr int chunk = 128; // columns whose intermediate values stay on the stack

constexpr int padded(int n) {
    return (n + lanes - 1) & -lanes;
}

// A level of the pyramid. A row of k planes takes k * pitch floats; each plane has `lanes` floats before its first
// pixel.
struct Level {
    int height, width;
    std::ptrdiff_t pitch;

    Level(int h, int w) : height(h), width(w), pitch(padded(w) + lanes) {
        pitch |= lanes; // an odd multiple of a cache line, so that planes do not fall on each other in the cache
    }
};

int shrunk(int n, const TVL1& p) {
    return static_cast<int>(std::lrint(n * p.scale_step));
}

int count_levels(int height, int width, const TVL1& p) {
    int n = 1;
    for (; n < p.scales; ++n) {
        height = shrunk(height, p);
        width = shrunk(width, p);
        if (height < 16 || width < 16) break;
    }
    return n;
}

Level level_at(int height, int width, const TVL1& p, int level) {
    for (; level > 0; --level) {
        height = shrunk(height, p);
        width = shrunk(width, p);
    }
    return {height, width};
}

// A level of a prepared frame: its grey values and their gradient, row by row, within zeros.
enum Channel { grey, grey_x, grey_y, channels };

struct Prepared {
    int height, width;
    std::ptrdiff_t pitch;
    float* data;

    Prepared(const float* frame, const Level& at)
        : height(at.height), width(at.width), pitch(padded(at.width) + 2 * lanes), data(const_cast<float*>(frame)) {}
    std::size_t size() const { return (height + std::size_t{2 * border}) * channels * pitch; }
    float* row(Channel c, int y) const { return data + ((y + std::ptrdiff_t{border}) * channels + c) * pitch + lanes; }
    Plane plane() const { return {row(grey, 0), channels * pitch, height, width}; }
};

// Fills in the gradient and the zeros around rows begin..end.
void differentiate(const Prepared& to, int begin, int end) {
    const int height = to.height, width = to.width;
    for (int y = begin; y < end; ++y) {
        const float* MMME_RESTRICT row = to.row(grey, y);
        const float* MMME_RESTRICT above = to.row(grey, y > 0 ? y - 1 : 0);
        const float* MMME_RESTRICT below = to.row(grey, y < height - 1 ? y + 1 : y);
        float* MMME_RESTRICT dx = to.row(grey_x, y);
        float* MMME_RESTRICT dy = to.row(grey_y, y);
        MMME_IVDEP
        for (int x = 0; x < width; ++x) dy[x] = 0.5f * (below[x] - above[x]); // halved at the borders too
        MMME_IVDEP
        for (int x = 1; x < width - 1; ++x) dx[x] = 0.5f * (row[x + 1] - row[x - 1]);
        dx[0] = 0.5f * (row[1] - row[0]);
        dx[width - 1] = 0.5f * (row[width - 1] - row[width - 2]);
        for (int c = 0; c < channels; ++c) {
            float* pixels = to.row(static_cast<Channel>(c), y);
            std::memset(pixels - lanes, 0, lanes * sizeof(float));
            std::memset(pixels + width, 0, (to.pitch - lanes - width) * sizeof(float));
        }
    }
}

// The solver's memory. u[0] holds the flow, u[1] is where the median filter puts it next; p1 and p2 hold the x
// components of the dual variables. What is only read where it belongs is interleaved vector by vector: the dual
// variables' y components, and the data term (see warp()).
enum FlowPlane { u1, u2, flow_planes };
enum DualPlane { p11, p21, dual_planes };
enum Field { p12, p22, unit_x, unit_y, residual, reach, fields };

struct State {
    Level at;
    float *u[2], *dual, *interleaved, *changes;

    static std::size_t flow_size(const Level& at) {
        return static_cast<std::size_t>(at.height) * flow_planes * at.pitch;
    }
    static std::size_t dual_size(const Level& at) { return (at.height + std::size_t{1}) * dual_planes * at.pitch; }
    static std::size_t field_size(const Level& at) { return (at.height + std::size_t{1}) * fields * at.pitch; }
    static std::size_t size(const Level& at) {
        return 2 * flow_size(at) + dual_size(at) + field_size(at) + lanes + at.height;
    }

    State(float* memory, const Level& level) : at(level) {
        u[0] = memory;
        dual = u[0] + flow_size(at);
        interleaved = dual + dual_size(at);
        u[1] = interleaved + field_size(at);
        // The last row is read one pixel too far, though not used there: not where another thread writes.
        changes = u[1] + flow_size(at) + lanes;
    }
    float* flow(int which, int plane, int y) const { return u[which] + (y * flow_planes + plane) * at.pitch + lanes; }
    // Row -1 is zero: the dual variables above the image.
    float* row(DualPlane p, int y) const {
        return dual + ((y + std::ptrdiff_t{1}) * dual_planes + p) * at.pitch + lanes;
    }
    // The vector of field f at (x, y) is at row(y) + x * fields + f * Vec::size.
    float* row(int y) const { return interleaved + (y + std::ptrdiff_t{1}) * fields * at.pitch; }
    // What an iteration changed in row y.
    float& change(int y) const { return changes[y]; }
    Plane plane(int which, int plane) const {
        return {flow(which, plane, 0), flow_planes * at.pitch, at.height, at.width};
    }
    // No flow, no dual variables, in rows begin - 1..end - 1. What the median filter and warp() write before it is read
    // stays as it is.
    void clear(int begin, int end) const {
        for (int y = begin - 1; y < end - 1; ++y) {
            if (y >= 0) std::memset(flow(0, u1, y) - lanes, 0, flow_planes * at.pitch * sizeof(float));
            std::memset(row(p11, y) - lanes, 0, dual_planes * at.pitch * sizeof(float));
            float* MMME_RESTRICT to = row(y);
            for (int x = 0; x < at.width; x += Vec::size, to += fields * Vec::size) {
                store(to + p12 * Vec::size, broadcast(0.0f));
                store(to + p22 * Vec::size, broadcast(0.0f));
            }
        }
    }
    void swap_flow() {
        float* other = u[0];
        u[0] = u[1];
        u[1] = other;
    }
};

MMME_INLINE float clamp(float value, float low, float high) {
    const float above = value > low ? value : low; // low when value is NaN
    return above < high ? above : high;
}

MMME_INLINE void clear_padding(float* row, int n) {
    for (int x = n; x < padded(n); ++x) row[x] = 0.0f;
}

// The bicubic taps of a vector of pixels along one axis: the pixel in lane k reads from whole[k] - 1 onwards, with
// Keys' weights for A = -0.75. `low` is what whole - k * step is at least, where step is 1 along x and 0 along y. If it
// is nowhere more than low + 1, five taps from low - 1 onwards serve all pixels alike; four where it is `low`
// everywhere.
struct Taps {
    Vec whole, later, weight[5]; // later: whole - k * step - low
    std::int32_t low;
    bool alike, wide;
};

template <int step> MMME_INLINE Taps find_taps(int first, Vec flow, int last) {
    constexpr float a = -0.75f;
    const Vec one = broadcast(1.0f), from = broadcast(static_cast<float>(first));
    const Vec lane = step == 1 ? lane_numbers() : broadcast(0.0f);
    const Vec at = min_of(max_of(from + lane + flow, broadcast(-2.0f)), broadcast(static_cast<float>(last)));
    Taps t;
    t.whole = floor(at);
    const Vec x = at - t.whole, y = one - x, z = x + one;
    const Vec w0 = fma(fma(fma(broadcast(a), z, broadcast(-5 * a)), z, broadcast(8 * a)), z, broadcast(-4 * a));
    const Vec w1 = fma(fma(broadcast(a + 2), x, broadcast(-a - 3)), x * x, one);
    const Vec w2 = fma(fma(broadcast(a + 2), y, broadcast(-a - 3)), y * y, one);
    const Vec w3 = one - w0 - w1 - w2;
    const Vec offset = t.whole - lane, any = broadcast(first_lane(offset));
    const Vec low = all_equal(min_of(offset, any), any) ? any : any - one;
    t.low = static_cast<std::int32_t>(first_lane(low));
    t.alike = all_equal(min_of(max_of(offset, low), low + one), offset);
    t.wide = !all_equal(offset, low);
    t.later = offset - low;
    t.weight[0] = w0;
    t.weight[1] = w1;
    t.weight[2] = w2;
    t.weight[3] = w3;
    return t;
}

// Four taps per pixel as five for all.
MMME_INLINE void widen(Taps& t) {
    const Vec later = t.later, sooner = broadcast(1.0f) - later; // 0 or 1
    t.weight[4] = later * t.weight[3];
    for (int i = 3; i > 0; --i) t.weight[i] = fma(later, t.weight[i - 1], sooner * t.weight[i]);
    t.weight[0] = sooner * t.weight[0];
}

struct Sample {
    Vec channel[channels];
};

// The same nx x ny taps for all pixels: whole vectors are read where they lie.
template <int nx, int ny>
MMME_INLINE Sample sample_together(const float* from, std::ptrdiff_t pitch, const Taps& tx, const Taps& ty) {
    Sample sample;
    for (int c = 0; c < channels; ++c)
        for (int j = 0; j < ny; ++j) {
            const float* row = from + (j * channels + c) * pitch;
            Vec line = tx.weight[0] * load_unaligned(row);
            for (int i = 1; i < nx; ++i) line = fma(tx.weight[i], load_unaligned(row + i), line);
            sample.channel[c] = j == 0 ? ty.weight[0] * line : fma(ty.weight[j], line, sample.channel[c]);
        }
    return sample;
}

// Each pixel by itself.
Sample sample_apart(const Prepared& image, const Taps& tx, const Taps& ty) {
    constexpr int size = Vec::size;
    alignas(sizeof(Vec)) float column[size], row[size], wx[4][size], wy[4][size], value[channels][size];
    store(column, tx.whole);
    store(row, ty.whole);
    for (int i = 0; i < 4; ++i) {
        store(wx[i], tx.weight[i]);
        store(wy[i], ty.weight[i]);
    }
    for (int k = 0; k < size; ++k)
        for (int c = 0; c < channels; ++c) {
            float sum = 0.0f;
            for (int j = 0; j < 4; ++j) {
                const float* from = image.row(static_cast<Channel>(c), static_cast<int>(row[k]) + j - 1) +
                                    static_cast<int>(column[k]) - 1;
                sum += wy[j][k] * (wx[0][k] * from[0] + wx[1][k] * from[1] + wx[2][k] * from[2] + wx[3][k] * from[3]);
            }
            value[c][k] = sum;
        }
    return {{load(value[grey]), load(value[grey_x]), load(value[grey_y])}};
}

// Warps curr by the flow, bicubically and with zeros outside, and linearises the data term around it:
// rho(u) = |g| (residual + unit . u) with the gradient g = |g| unit. A step is at most `bound` |g| = reach along unit.
void warp(const State& s, const Prepared& prev, const Prepared& curr, float bound, int begin, int end) {
    // Positions beyond these lie in the zeros and so may move there; the padding of a row need not.
    const int last_x = padded(s.at.width) + 1, last_y = s.at.height + 1;
    constexpr int soon = 4; // rows ahead: iterations have driven both frames out of the cache
    for (int y = begin; y < end; ++y)
        for (int x = 0; x < s.at.width; x += Vec::size) {
            for (int c = 0; c < channels; ++c) MMME_PREFETCH(curr.row(static_cast<Channel>(c), y + soon) + x);
            MMME_PREFETCH(prev.row(grey, y + 1) + x);
            const Vec u = load(s.flow(0, u1, y) + x), v = load(s.flow(0, u2, y) + x);
            Taps tx = find_taps<1>(x, u, last_x), ty = find_taps<0>(y, v, last_y);
            Sample at;
            if (tx.alike && ty.alike) {
                if (tx.wide) widen(tx);
                if (ty.wide) widen(ty);
                const float* from = curr.row(grey, ty.low - 1) + tx.low - 1;
                at = tx.wide ? (ty.wide ? sample_together<5, 5>(from, curr.pitch, tx, ty)
                                        : sample_together<5, 4>(from, curr.pitch, tx, ty))
                             : (ty.wide ? sample_together<4, 5>(from, curr.pitch, tx, ty)
                                        : sample_together<4, 4>(from, curr.pitch, tx, ty));
            } else {
                at = sample_apart(curr, tx, ty);
            }
            const Vec gx = at.channel[grey_x], gy = at.channel[grey_y];
            const Vec length = sqrt(max_of(fma(gx, gx, gy * gy), broadcast(1e-30f)));
            const Vec inverse = broadcast(1.0f) / length;
            const Vec rho = at.channel[grey] - fma(gx, u, fma(gy, v, load(prev.row(grey, y) + x)));
            float* out = s.row(y) + x * fields;
            store(out + unit_x * Vec::size, gx * inverse);
            store(out + unit_y * Vec::size, gy * inverse);
            store(out + residual * Vec::size, rho * inverse);
            store(out + reach * Vec::size, broadcast(bound) * length);
        }
}

struct Steps {
    float tau, taut; // tau; tau / theta
};

// One sweep in x of an inner iteration. `primal` updates the flow of row y: thresholding of the data term, plus the
// divergence of p, which is kept times theta; it returns the sum of squared changes. `dual` updates p of the row above
// from the flow there and in row y_below; fused, because by then both rows of flow are new and the primal step has used
// the old p.
template <bool primal, bool dual> float sweep(const State& s, const Steps& steps, int y, int y_below) {
    constexpr int size = Vec::size;
    const int last = (s.at.width - 1) / size * size, in_last = s.at.width - 1 - last;
    const float* MMME_RESTRICT here = s.row(y);
    const float* MMME_RESTRICT here11 = s.row(p11, y);
    const float* MMME_RESTRICT here21 = s.row(p21, y);
    float* MMME_RESTRICT above = s.row(y - 1);
    float* MMME_RESTRICT above11 = s.row(p11, y - 1);
    float* MMME_RESTRICT above21 = s.row(p21, y - 1);
    float* MMME_RESTRICT flow1 = s.flow(0, u1, y_below);
    float* MMME_RESTRICT flow2 = s.flow(0, u2, y_below);
    const float* MMME_RESTRICT top1 = s.flow(0, u1, dual ? y - 1 : y);
    const float* MMME_RESTRICT top2 = s.flow(0, u2, dual ? y - 1 : y);
    const Vec tau = broadcast(steps.tau), taut = broadcast(steps.taut), one = broadcast(1.0f);
    Vec changes = broadcast(0.0f);

    const auto update = [&](int x) {
        if constexpr (primal) {
            const float* field = here + x * fields;
            const Vec a = load(flow1 + x), b = load(flow2 + x);
            const Vec ex = load(field + unit_x * size), ey = load(field + unit_y * size);
            const Vec d = limit(fma(ex, a, fma(ey, b, load(field + residual * size))), load(field + reach * size));
            const Vec da = fnma(d, ex,
                                (load(here11 + x) - load_unaligned(here11 + x - 1)) +
                                    (load(field + p12 * size) - load(above + x * fields + p12 * size)));
            const Vec db = fnma(d, ey,
                                (load(here21 + x) - load_unaligned(here21 + x - 1)) +
                                    (load(field + p22 * size) - load(above + x * fields + p22 * size)));
            store(flow1 + x, a + da);
            store(flow2 + x, b + db);
            changes = fma(da, da, fma(db, db, changes));
        }
    };
    // The dual step of a vector begins one vector after its update and ends one vector later, so that each of the three
    // finds what it needs when its turn comes: their chains of operations are longer than a core looks ahead.
    struct Gradient {
        Vec ax, ay, bx, by, a, b;
    };
    const auto begin = [&](int x, auto is_last) {
        Gradient g{};
        if constexpr (dual) {
            const Vec a0 = load(top1 + x), b0 = load(top2 + x);
            g.ax = load_unaligned(top1 + x + 1) - a0;
            g.bx = load_unaligned(top2 + x + 1) - b0;
            if constexpr (is_last) { // no neighbour
                g.ax = first_lanes(g.ax, in_last);
                g.bx = first_lanes(g.bx, in_last);
            }
            g.ay = load(flow1 + x) - a0;
            g.by = load(flow2 + x) - b0;
            g.a = sqrt(fma(g.ax, g.ax, g.ay * g.ay));
            g.b = sqrt(fma(g.bx, g.bx, g.by * g.by));
        }
        return g;
    };
    const auto end = [&](int x, const Gradient& g) {
        if constexpr (dual) {
            float* const field = above + x * fields;
            const Vec na = fma(taut, g.a, one), nb = fma(taut, g.b, one);
            const Vec both = reciprocal(na * nb), ra = both * nb, rb = both * na;
            store(above11 + x, fma(tau, g.ax, load(above11 + x)) * ra);
            store(field + p12 * size, fma(tau, g.ay, load(field + p12 * size)) * ra);
            store(above21 + x, fma(tau, g.bx, load(above21 + x)) * rb);
            store(field + p22 * size, fma(tau, g.by, load(field + p22 * size)) * rb);
        }
    };
    using No = std::false_type;
    using Yes = std::true_type;
    update(0);
    if (last == 0) {
        end(0, begin(0, Yes()));
    } else {
        update(size);
        Gradient g = begin(0, No());
        for (int x = 2 * size; x <= last; x += size) {
            update(x);
            const Gradient next = begin(x - size, No());
            end(x - 2 * size, g);
            g = next;
        }
        const Gradient next = begin(last, Yes());
        end(last - size, g);
        end(last, next);
    }
    return sum(changes);
}

// Levels of fewer pixels stay on one thread: threads would wait for each other longer than they compute.
constexpr std::ptrdiff_t pixels_to_share = 1 << 11;
constexpr int rows_to_share = 16; // in a band at least

Rows crew(const Level& at, const Rows& rows) {
    return {rows.run, std::ptrdiff_t{at.height} * at.width < pixels_to_share ? 1 : rows.threads, rows.team};
}

// Several iterations are in flight at a time, each two rows behind the one before, so that a row is still in the cache
// when the next needs it. One may begin as soon as the one before has surely not been the last: the change, a sum of
// squares row by row, has passed `enough`.
double iterate_alone(const State& s, const Steps& steps, double enough, int limit) {
    constexpr int depth = 4;
    const int height = s.at.height;
    struct {
        int row;
        double change;
    } flights[depth] = {};
    for (int oldest = 0, next = 0;;) {
        const bool room = next < limit && next - oldest < depth;
        if (room && (next == 0 || flights[(next - 1) % depth].change > enough)) flights[next++ % depth] = {0, 0.0};
        if (oldest == next) return flights[(next - 1) % depth].change;
        for (int i = oldest; i < next; ++i) {
            auto& flight = flights[i % depth];
            if (i > oldest) {
                const int ahead = flights[(i - 1) % depth].row;
                if (ahead < flight.row + 2 && ahead <= height) break;
            }
            const int y = flight.row++;
            flight.change += y == 0        ? sweep<true, false>(s, steps, y, y)
                             : y == height ? sweep<false, true>(s, steps, y, y - 1)
                                           : sweep<true, true>(s, steps, y, y);
        }
        while (oldest < next && flights[oldest % depth].row > height) ++oldest;
    }
}

// Inner iterations until one changes the flow by no more than `enough`, at most `limit`; returns the last change.
//
// Several threads meet for every iteration: each has a band of rows, whose first cannot have the dual step of the row
// above yet. The rows' changes are summed in the order of the rows, so that the bits are those of one thread.
double iterate(const State& s, const Steps& steps, double enough, int limit, const Rows& rows) {
    const int height = s.at.height;
    const int bands = rows.threads < height / rows_to_share ? rows.threads : height / rows_to_share;
    if (bands <= 1) return iterate_alone(s, steps, enough, limit);
    const auto cut = [&](int band) { return static_cast<int>(std::ptrdiff_t{height} * band / bands); };
    double change = FLT_MAX;
    for (int i = 0; i < limit && change > enough; ++i) {
        rows(bands, [&](int begin, int end) {
            for (int band = begin; band < end; ++band) {
                const int first = cut(band);
                s.change(first) = sweep<true, false>(s, steps, first, first);
                for (int y = first + 1; y < cut(band + 1); ++y) s.change(y) = sweep<true, true>(s, steps, y, y);
                if (band == bands - 1) sweep<false, true>(s, steps, height, height - 1);
            }
        });
        for (int band = 1; band < bands; ++band) sweep<false, true>(s, steps, cut(band), cut(band));
        change = 0.0;
        for (int y = 0; y < height; ++y) change += s.change(y);
    }
    return change;
}

MMME_INLINE Vec middle_of(Vec a, Vec b, Vec c) {
    return max_of(min_of(a, b), min_of(max_of(a, b), c));
}

template <class Value> MMME_INLINE void exchange(Value& low, Value& high) {
    const Value a = low, b = high;
    low = min_of(a, b);
    high = max_of(a, b);
}

// Exchanges put the smaller value into the first place.
using Exchange = unsigned char[2];
constexpr Exchange sort_four[] = {{0, 1}, {2, 3}, {0, 2}, {1, 3}, {1, 2}};
constexpr Exchange sort_five[] = {{0, 1}, {3, 4}, {2, 4}, {2, 3}, {1, 4}, {0, 3}, {0, 2}, {1, 3}, {1, 2}};
constexpr Exchange merge_fours[] = {{0, 4}, {1, 5}, {2, 6}, {3, 7}, {2, 4}, {3, 5}, {1, 2}, {3, 4}, {5, 6}};
// From two ascending eights and an ascending four: the six in the middle. Found by pruning a merger for as long as
// every input of zeros and ones came out right, which decides it for all inputs (the 0-1 principle).
constexpr Exchange middle_six[] = {{4, 12}, {0, 8},   {2, 10},  {6, 14},  {6, 10}, {5, 13},  {4, 8},   {10, 12},
                                   {3, 11}, {6, 8},   {2, 4},   {1, 9},   {5, 9},  {7, 15},  {7, 11},  {11, 13},
                                   {3, 5},  {7, 9},   {7, 8},   {9, 10},  {3, 4},  {5, 6},   {10, 18}, {8, 16},
                                   {4, 10}, {9, 17},  {11, 12}, {12, 16}, {6, 10}, {5, 9},   {3, 19},  {10, 12},
                                   {6, 8},  {19, 17}, {11, 19}, {7, 11},  {7, 9},  {11, 12}, {10, 9},  {7, 8}};
constexpr unsigned char six_places[] = {7, 8, 10, 9, 11, 12};

template <const auto& network, int places, int... i>
MMME_INLINE void apply(Vec (&v)[places], std::integer_sequence<int, i...>) {
    (exchange(v[network[i][0]], v[network[i][1]]), ...);
}
template <const auto& network, int places> MMME_INLINE void apply(Vec (&v)[places]) {
    apply<network>(v, std::make_integer_sequence<int, sizeof network / sizeof(Exchange)>());
}

using Line = float[chunk + 2 * lanes]; // of columns x0 - lanes .. x0 + chunk + lanes

// The 5 x 5 median with repeated borders of two rows at a time. Their windows share four rows: of these twenty pixels
// only the six in the middle can be a median. Sorted columns and pairs of columns are shared by neighbouring pixels.
void median_five(const State& s, int plane, int begin, int end) {
    constexpr int size = Vec::size;
    const int width = s.at.width, last = s.at.height - 1;
    alignas(64) Line column[4], pair[8], outer[2];
    for (int y = begin; y < end; y += 2)
        for (int x0 = 0; x0 < width; x0 += chunk) {
            const int n = width - x0 < chunk ? width - x0 : chunk, count = padded(n);
            const auto row = [&](int at) { return s.flow(0, plane, at < 0 ? 0 : at > last ? last : at) + x0; };
            const float* const rows[] = {row(y - 2), row(y - 1), row(y), row(y + 1), row(y + 2), row(y + 3)};
            for (int x = -lanes; x < count + lanes; x += size) {
                Vec v[4];
                for (int r = 0; r < 4; ++r) v[r] = load(rows[r + 1] + x);
                apply<sort_four>(v);
                for (int r = 0; r < 4; ++r) store(column[r] + lanes + x, v[r]);
                store(outer[0] + lanes + x, load(rows[0] + x));
                store(outer[1] + lanes + x, load(rows[5] + x));
            }
            const auto repeat_borders = [&](float* line) {
                if (x0 == 0) line[-1] = line[-2] = line[0];
                if (x0 + n == width) line[n] = line[n + 1] = line[n - 1];
            };
            for (Line& line : column) repeat_borders(line + lanes);
            for (Line& line : outer) repeat_borders(line + lanes);
            for (int x = -size; x < count; x += size) {
                Vec v[8];
                for (int r = 0; r < 4; ++r) {
                    v[r] = load(column[r] + lanes + x);
                    v[r + 4] = load_unaligned(column[r] + lanes + x + 1);
                }
                apply<merge_fours>(v);
                for (int r = 0; r < 8; ++r) store(pair[r] + lanes + x, v[r]);
            }
            for (int x = 0; x < count; x += size) {
                Vec v[20];
                for (int r = 0; r < 8; ++r) {
                    v[r] = load_unaligned(pair[r] + lanes + x - 2);
                    v[r + 8] = load(pair[r] + lanes + x);
                }
                for (int r = 0; r < 4; ++r) v[r + 16] = load_unaligned(column[r] + lanes + x + 2);
                apply<middle_six>(v);
                for (int i = 0; i < 2 && y + i < end; ++i) {
                    Vec e[5];
                    for (int c = 0; c < 5; ++c) e[c] = load_unaligned(outer[i] + lanes + x + c - 2);
                    apply<sort_five>(e);
                    Vec median = v[six_places[5]]; // the sixth of eleven
                    for (int c = 0; c < 5; ++c) median = min_of(median, max_of(v[six_places[4 - c]], e[c]));
                    store(s.flow(1, plane, y + i) + x0 + x, median);
                }
            }
            for (int i = 0; i < 2 && y + i < end; ++i) clear_padding(s.flow(1, plane, y + i) + x0, n);
        }
}

// The 3 x 3 median with repeated borders, from u[0] to u[1].
void median_three(const State& s, int plane, int begin, int end) {
    constexpr int size = Vec::size;
    const int width = s.at.width, last = s.at.height - 1;
    alignas(64) Line low, mid, high;
    for (int y = begin; y < end; ++y)
        for (int x0 = 0; x0 < width; x0 += chunk) {
            const int n = width - x0 < chunk ? width - x0 : chunk, count = padded(n);
            const float* above = s.flow(0, plane, y > 0 ? y - 1 : 0) + x0;
            const float* here = s.flow(0, plane, y) + x0;
            const float* below = s.flow(0, plane, y < last ? y + 1 : last) + x0;
            for (int x = -lanes; x < count + lanes; x += size) {
                Vec a = load(above + x), b = load(here + x), c = load(below + x);
                exchange(a, b);
                exchange(b, c);
                exchange(a, b);
                store(low + lanes + x, a);
                store(mid + lanes + x, b);
                store(high + lanes + x, c);
            }
            for (float* line : {low + lanes, mid + lanes, high + lanes}) {
                if (x0 == 0) line[-1] = line[0];
                if (x0 + n == width) line[n] = line[n - 1];
            }
            float* out = s.flow(1, plane, y) + x0;
            for (int x = 0; x < count; x += size) {
                const auto at = [&](const float* line, int dx) { return load_unaligned(line + lanes + x + dx); };
                store(out + x, middle_of(max_of(max_of(at(low, -1), at(low, 0)), at(low, 1)),
                                         middle_of(at(mid, -1), at(mid, 0), at(mid, 1)),
                                         min_of(min_of(at(high, -1), at(high, 0)), at(high, 1))));
            }
            clear_padding(out, n);
        }
}

void solve_level(State& s, const Prepared& prev, const Prepared& curr, const TVL1& p, const Rows& rows) {
    const Level& at = s.at;
    const Steps steps{static_cast<float>(p.tau), static_cast<float>(p.tau / p.theta)};
    const float bound = static_cast<float>(p.lambda * p.theta);
    const double enough = static_cast<float>(p.epsilon * p.epsilon * (static_cast<double>(at.height) * at.width));
    for (int i = 0; i < p.warps; ++i) {
        const bool brief = p.resumed && i + 1 < p.warps;
        const int outer_iterations = brief ? 1 : p.outer_iterations, inner_iterations = brief ? 1 : p.inner_iterations;
        rows(at.height, [&](int begin, int end) { warp(s, prev, curr, bound, begin, end); });
        double change = FLT_MAX;
        for (int outer = 0; change > enough && outer < outer_iterations; ++outer) {
            if (p.median > 1) {
                rows(at.height, [&](int begin, int end) {
                    for (int plane = 0; plane < flow_planes; ++plane)
                        p.median == 3 ? median_three(s, plane, begin, end) : median_five(s, plane, begin, end);
                });
                s.swap_flow();
            }
            change = iterate(s, steps, enough, inner_iterations, rows);
        }
    }
}

// The grey values of a vector of pixels moved by the flow (u, v), bilinearly, with the border repeated. Pixels beyond
// the last column are not moved.
Vec sample_linear(const Prepared& image, int x, int y, Vec u, Vec v) {
    constexpr int size = Vec::size;
    const Vec zero = broadcast(0.0f), one = broadcast(1.0f), lane = lane_numbers();
    const Vec column = broadcast(static_cast<float>(x)) + lane, row = broadcast(static_cast<float>(y));
    const Vec last = max_of(column, broadcast(static_cast<float>(image.width - 1)));
    const Vec at_x = min_of(max_of(column + u, zero), last) - lane;
    const Vec at_y = min_of(max_of(row + v, zero), broadcast(static_cast<float>(image.height - 1)));
    const Vec whole_x = floor(at_x), whole_y = floor(at_y);
    // Three taps along either axis serve all pixels if theirs begin at one of two places.
    const auto lowest = [&](Vec whole) {
        const Vec any = broadcast(first_lane(whole));
        return all_equal(min_of(whole, any), any) ? any : any - one;
    };
    const Vec low_x = lowest(whole_x), low_y = lowest(whole_y);
    if (all_equal(min_of(max_of(whole_x, low_x), low_x + one), whole_x) &&
        all_equal(min_of(max_of(whole_y, low_y), low_y + one), whole_y)) {
        const float* from = image.row(grey, static_cast<int>(first_lane(low_y))) + static_cast<int>(first_lane(low_x));
        const auto tent = [&](Vec distance, int tap) {
            const Vec d = distance - broadcast(static_cast<float>(tap));
            return max_of(one - max_of(d, zero - d), zero);
        };
        const Vec dx = at_x - low_x, dy = at_y - low_y;
        const Vec wx[3] = {tent(dx, 0), tent(dx, 1), tent(dx, 2)};
        Vec value = zero;
        for (int j = 0; j < 3; ++j) {
            const float* taps = from + j * channels * image.pitch;
            const Vec line = fma(wx[2], load_unaligned(taps + 2),
                                 fma(wx[1], load_unaligned(taps + 1), wx[0] * load_unaligned(taps)));
            value = fma(tent(dy, j), line, value);
        }
        return value;
    }
    alignas(sizeof(Vec)) float left[size], upper[size], wx[size], wy[size], value[size];
    store(left, whole_x + lane);
    store(upper, whole_y);
    store(wx, at_x - whole_x);
    store(wy, at_y - whole_y);
    for (int k = 0; k < size; ++k) {
        const float* a = image.row(grey, static_cast<int>(upper[k])) + static_cast<int>(left[k]);
        const float* b = a + channels * image.pitch;
        const float top = a[0] + wx[k] * (a[1] - a[0]), bottom = b[0] + wx[k] * (b[1] - b[0]);
        value[k] = top + wy[k] * (bottom - top);
    }
    return load(value);
}

std::size_t taps_size(int width) {
    return padded(static_cast<int>(sizeof(Tap) / sizeof(float)) * width);
}

// A component of flow between levels, without padding.
Plane compact(float* data, const Level& at, int plane) {
    const std::size_t pixels = static_cast<std::size_t>(at.height) * at.width;
    return {data + plane * pixels, at.width, at.height, at.width};
}

// Turns flow from (y, x, 2) at full size to planes at the coarsest level's, in place.
void shrink_initial(float* flow, int height, int width, int levels, const TVL1& p, float* memory, Tap* taps,
                    const Rows& rows) {
    Level at(height, width);
    const float far = 65536.0f; // beyond every frame
    for (int plane = 0; plane < flow_planes; ++plane) {
        float* MMME_RESTRICT out = compact(memory, at, plane).data;
        for (std::ptrdiff_t i = 0, n = std::ptrdiff_t{height} * width; i < n; ++i)
            out[i] = clamp(flow[2 * i + plane], -far, far);
    }
    float *from = memory, *to = flow;
    for (int level = 1; level < levels; ++level) {
        const Level next = level_at(height, width, p, level);
        for (int plane = 0; plane < flow_planes; ++plane)
            resize_linear(compact(from, at, plane), compact(to, next, plane), 1 / p.scale_step, 1 / p.scale_step,
                          static_cast<float>(p.scale_step), taps, rows);
        at = next;
        float* other = from;
        from = to;
        to = other;
    }
    if (from != flow) std::memcpy(flow, from, sizeof(float) * flow_planes * at.height * at.width);
}

} // namespace

std::size_t tvl1_frame_size(int height, int width, const TVL1& p) {
    std::size_t floats = 0;
    for (int s = 0, n = count_levels(height, width, p); s < n; ++s)
        floats += Prepared(nullptr, level_at(height, width, p, s)).size();
    return floats;
}

std::size_t tvl1_scratch_size(int height, int width, const TVL1&) {
    return taps_size(width) + State::size({height, width});
}

void tvl1_prepare(const Image& image, int height, int width, const TVL1& p, float* frame, float* scratch,
                  const Rows& rows) {
    Tap* taps = reinterpret_cast<Tap*>(scratch);
    const int levels = count_levels(height, width, p);
    Plane finer{};
    for (int level = 0; level < levels; ++level) {
        const Level at = level_at(height, width, p, level);
        const Rows share = crew(at, rows);
        const Prepared to(frame, at);
        if (level == 0)
            share(height, [&](int begin, int end) {
                for (int y = begin; y < end; ++y) grey_row(image, y, width, to.row(grey, y));
            });
        else
            resize_linear(finer, to.plane(), 1 / p.scale_step, 1 / p.scale_step, 1.0f, taps, share);
        share(at.height, [&](int begin, int end) { differentiate(to, begin, end); });
        const std::size_t outside = border * channels * to.pitch * sizeof(float);
        std::memset(to.data, 0, outside);
        std::memset(to.row(grey, at.height) - lanes, 0, outside);
        finer = to.plane();
        frame += to.size();
    }
}

void tvl1_solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width,
                const TVL1& p, float* scratch, const Rows& rows) {
    Tap* taps = reinterpret_cast<Tap*>(scratch);
    float* memory = scratch + taps_size(width);
    const int levels = count_levels(height, width, p);
    if (use_initial) shrink_initial(flow, height, width, levels, p, memory, taps, rows);
    std::size_t offset = tvl1_frame_size(height, width, p);
    for (int level = levels - 1; level >= 0; --level) {
        const Level at = level_at(height, width, p, level);
        const Rows share = crew(at, rows);
        const Prepared from(prev + offset - Prepared(nullptr, at).size(), at);
        const Prepared to(curr + offset - from.size(), at);
        offset -= from.size();
        State s(memory, at);
        share(at.height + 1, [&](int begin, int end) { s.clear(begin, end); });
        if (level < levels - 1) {
            const Level coarser = level_at(height, width, p, level + 1);
            for (int plane = 0; plane < flow_planes; ++plane)
                resize_linear(
                    compact(flow, coarser, plane), s.plane(0, plane), static_cast<double>(coarser.height) / at.height,
                    static_cast<double>(coarser.width) / at.width, static_cast<float>(1 / p.scale_step), taps, share);
        } else if (use_initial) {
            for (int plane = 0; plane < flow_planes; ++plane)
                for (int y = 0; y < at.height; ++y)
                    std::memcpy(s.flow(0, plane, y), compact(flow, at, plane).row(y), sizeof(float) * at.width);
        }
        solve_level(s, from, to, p, share);
        share(at.height, [&](int begin, int end) {
            for (int y = begin; y < end; ++y) {
                const float* MMME_RESTRICT a = s.flow(0, u1, y);
                const float* MMME_RESTRICT b = s.flow(0, u2, y);
                if (level > 0) {
                    std::memcpy(compact(flow, at, 0).row(y), a, sizeof(float) * at.width);
                    std::memcpy(compact(flow, at, 1).row(y), b, sizeof(float) * at.width);
                } else {
                    float* MMME_RESTRICT out = flow + std::ptrdiff_t{2} * y * width;
                    for (int x = 0; x < width; ++x) {
                        out[2 * x] = a[x];
                        out[2 * x + 1] = b[x];
                    }
                }
            }
        });
    }
}

// The flow of the pair before is right up to a fraction of a pixel, which the finest level alone resolves. A first warp
// of one iteration only lets the median smooth that flow before the warp that counts. Of noisy films these settings
// give flow about as near to the truth as a cold start, mostly nearer (docs/performance.md). Pairs that have not ended
// after four rounds of iterations are mostly those across a cut, which would never end.
TVL1 tvl1_resumed(const TVL1& p) {
    TVL1 resumed = p;
    resumed.scales = 1;
    resumed.warps = p.warps < 2 ? p.warps : 2;
    resumed.epsilon = 0.6 * p.epsilon;
    resumed.outer_iterations = p.outer_iterations < 4 ? p.outer_iterations : 4;
    resumed.resumed = true;
    return resumed;
}

double tvl1_misfit(const float* prev, const float* curr, const float* flow, int height, int width, const TVL1&) {
    const Level at(height, width);
    const Prepared from(prev, at), to(curr, at);
    double sum_of_rows = 0.0;
    alignas(64) float u[chunk] = {}, v[chunk] = {};
    for (int y = 0; y < height; ++y) {
        Vec row = broadcast(0.0f);
        for (int x0 = 0; x0 < width; x0 += chunk) {
            const int n = width - x0 < chunk ? width - x0 : chunk;
            if (flow) {
                const float* MMME_RESTRICT of = flow + 2 * (std::ptrdiff_t{y} * width + x0);
                MMME_IVDEP
                for (int x = 0; x < n; ++x) {
                    u[x] = of[2 * x];
                    v[x] = of[2 * x + 1];
                }
                clear_padding(u, n);
                clear_padding(v, n);
            }
            for (int x = 0; x < n; x += Vec::size) {
                const Vec moved =
                    flow ? sample_linear(to, x0 + x, y, load(u + x), load(v + x)) : load(to.row(grey, y) + x0 + x);
                const Vec difference = moved - load(from.row(grey, y) + x0 + x);
                const Vec misfit = max_of(difference, broadcast(0.0f) - difference);
                row = row + (n - x < Vec::size ? first_lanes(misfit, n - x) : misfit);
            }
        }
        sum_of_rows += sum(row);
    }
    return sum_of_rows / (static_cast<double>(height) * width);
}

} // namespace mmme::MMME_ISA
