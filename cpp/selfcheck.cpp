// Runs every kernel of every instruction set of this CPU on small inputs made by integer arithmetic and compares with
// recorded results: a check that needs no Python, so that it also runs where only a cross-compiler and an emulator are.
//
//   selfcheck FILE               compare with FILE; 0 when all agree
//   selfcheck --record > FILE    print what the baseline kernels give
//
// Results agree up to rounding: compilers differ in what they fuse into one multiply-add and in the order of sums.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "dispatch.hpp"

namespace {

using namespace mmme;
using Values = std::vector<float>;

struct alignas(64) Line {
    float floats[16];
};

// Memory for a kernel, 64-byte aligned; NaN, so that what is read before it is written shows.
class Memory {
public:
    explicit Memory(std::size_t floats) : lines_(floats / 16 + 1) {
        for (Line& line : lines_)
            for (float& value : line.floats) value = std::numeric_limits<float>::quiet_NaN();
    }
    float* data() { return lines_.data()->floats; }

private:
    std::vector<Line> lines_;
};

int wave(int t, int half_period) {
    t %= 2 * half_period;
    return t < half_period ? t : 2 * half_period - t;
}

// 0..240; a unit of x and y is a quarter of a pixel.
int texture(int x, int y) {
    x += 4000;
    return 110 * wave(3 * x + 2 * y, 61) / 61 + 70 * wave(5 * y - 2 * x + 20000, 43) / 43 +
           60 * wave(x - y + 4000, 29) / 29;
}

template <class T> std::vector<T> frame(int height, int width, bool moved) {
    std::vector<T> pixels;
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const int grey = moved ? texture(4 * x - 3 + y / 64, 4 * y + 2) : texture(4 * x, 4 * y);
            if constexpr (sizeof(T) == 4)
                pixels.push_back(static_cast<T>(grey) / 255);
            else
                pixels.push_back(static_cast<T>(sizeof(T) == 2 ? 257 * grey : grey));
        }
    return pixels;
}

Values smooth(int count) {
    Values values;
    for (int i = 0; i < count; ++i) values.push_back(static_cast<float>(texture(7 * i, i)) / 128 - 1);
    return values;
}

template <class T, class Params>
Values flow(const FlowKernel<Params>& kernel, const Params& params, int height, int width, const Rows& rows,
            bool use_initial = false) {
    const Pixel pixel = sizeof(T) == 1 ? Pixel::u8 : sizeof(T) == 2 ? Pixel::u16 : Pixel::f32;
    Memory scratch(kernel.scratch_size(height, width, params));
    Memory frames[] = {Memory(kernel.frame_size(height, width, params)),
                       Memory(kernel.frame_size(height, width, params))};
    for (int i = 0; i < 2; ++i) {
        const std::vector<T> pixels = frame<T>(height, width, i == 1);
        const Image image{pixels.data(), static_cast<std::ptrdiff_t>(width * sizeof(T)), pixel};
        kernel.prepare(image, height, width, params, frames[i].data(), scratch.data(), rows);
    }
    Values result(static_cast<std::size_t>(height) * width * 2, 0.25f);
    kernel.solve(frames[0].data(), frames[1].data(), result.data(), use_initial, height, width, params, scratch.data(),
                 rows);
    return result;
}

// A fixed number of iterations: where they end at a threshold, rounding decides how many there are.
constexpr TVL1 tvl1{0.25, 0.15, 0.3, 0.0, 0.8, 1, 2, 10, 2, 5};
constexpr TVL1 tvl1_scales{0.25, 0.15, 0.3, 0.0, 0.8, 3, 1, 10, 2, 3};
constexpr Farneback box{0.5, 1.5, 1, 15, 3, 7, false};
constexpr Farneback gaussian{0.7, 1.1, 2, 9, 2, 5, true};
constexpr DIS medium{1, 3, 25, 5};
constexpr DIS fast{2, 4, 16, 5};
constexpr DIS ultrafast{2, 4, 12, 0};

Values strain(const Kernels& kernels, Stencil stencil, bool mmme, bool components) {
    constexpr int height = 21, width = 37;
    Values out(height * width * (components ? 3 : 1));
    kernels.strain(smooth(height * width * 2).data(), out.data(), height, width, {stencil, mmme, components});
    return out;
}

Values block_means(const Kernels& kernels) {
    Memory scratch(kernels.block_means_scratch(38, 2));
    Values out(4 * 3 * 2);
    kernels.block_means(smooth(25 * 38 * 2).data(), out.data(), 25, 38, 2, 4, 3, scratch.data());
    return out;
}

Values lbp(const Kernels& kernels) {
    constexpr int height = 27, width = 45, rows = 2, columns = 3;
    Memory scratch(kernels.lbp_scratch(width, columns));
    Values out(rows * columns * 59);
    kernels.lbp(frame<float>(height, width, false).data(), out.data(), height, width, rows, columns, scratch.data());
    return out;
}

Values chi_square(const Kernels& kernels) {
    constexpr int count = 40, size = 59;
    Values histograms = smooth((count + 4) * size), out(count);
    for (float& value : histograms) value = value < 0 ? 0 : value;
    const float* first = histograms.data();
    kernels.chi_square(first, first + 2 * size, first + 4 * size, out.data(), count, size);
    return out;
}

Values mdmd(const Kernels& kernels, bool atan) {
    constexpr int height = 29, width = 43, rows = 3, columns = 4, size = height * width * 2;
    Memory scratch(kernels.mdmd_scratch(height, width, rows));
    const Values flow = smooth(size + 2 * width);
    Values out(rows * columns);
    kernels.mdmd(flow.data(), flow.data() + 2 * width, out.data(), height, width, rows, columns, atan, scratch.data());
    return out;
}

Values warp(const Kernels& kernels) {
    constexpr int height = 27, width = 45;
    const double matrix[] = {1.015625, 0.0625, -1.3125, -0.046875, 0.984375, 0.8125};
    Values out(height * width);
    kernels.warp(frame<float>(height, width, false).data(), out.data(), height, width, matrix);
    return out;
}

Values fit_motion(const Kernels& kernels, Motion model) {
    constexpr int height = 17, width = 23, n = height * width, rounds = 10;
    Values flow = smooth(2 * n);
    std::vector<double> points(2 * n), trust(n), out(6);
    for (int i = 0; i < n; ++i) {
        const double x = points[i] = (i % width - width / 2) / 16.0,
                     y = points[n + i] = (i / width - height / 2) / 16.0;
        const bool own = i / width > 9 && i % width < 10; // a corner of the field goes its own way
        flow[2 * i] = static_cast<float>(flow[2 * i] / 16 + 0.5 * x - 0.25 * y + (own ? 1 : 0));
        flow[2 * i + 1] = static_cast<float>(flow[2 * i + 1] / 16 + 0.375 * x + 0.75 * y - (own ? 3 : 2));
        trust[i] = (i % 7 + 1) / 8.0;
    }
    Memory scratch(kernels.motion_scratch(n));
    kernels.fit_motion(flow.data(), points.data(), trust.data(), out.data(), n, model, rounds, scratch.data());
    return Values(out.begin(), out.end());
}

Values sliding(const Kernels& kernels, Statistic statistic) {
    constexpr int samples = 50, lanes = 19, window = 7;
    Memory scratch(kernels.sliding_scratch(window, lanes, statistic));
    Values out((samples - window + 1) * lanes);
    kernels.sliding(smooth(samples * lanes).data(), out.data(), samples, lanes, 0, lanes, window, statistic, 0.375f,
                    scratch.data());
    return out;
}

template <class T> Values band_power(const Kernels& kernels, int window, bool detrend) {
    constexpr int channels = 3, samples = 200, windows = 3, bands = 2, nfft = 80;
    const std::int64_t starts[windows] = {0, 37, 120};
    const std::int32_t bins[] = {1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 17, 18, 19, 20, 22, 23};
    constexpr int n_bins = sizeof(bins) / sizeof(*bins);
    std::vector<T> data;
    for (int i = 0; i < channels * samples; ++i) data.push_back(static_cast<T>(texture(7 * i, i)) + 1000);
    Values taper, weights;
    for (int i = 0; i < window; ++i) taper.push_back(static_cast<float>((i + 1) * (window - i)) / (window * window));
    for (int i = 0; i < bands * n_bins; ++i) weights.push_back(static_cast<float>(i % 7) / 64);
    const BandPower job{data.data(), sizeof(T) == 8, channels, samples, starts,         window, taper.data(),
                        detrend,     nfft,           bins,     n_bins,  weights.data(), bands};
    Memory scratch(kernels.band_power_scratch(job));
    Values out(windows * channels * bands);
    kernels.band_power(job, out.data(), 0, windows, scratch.data());
    return out;
}

template <class T> Values clip_power(const Kernels& kernels) {
    constexpr int channels = 37, clips = 2, windows = 3, n_bins = 7, n_values = 2, nodes = 5, n_bands = 2;
    const auto doubles = [](int count) {
        const Values values = smooth(count);
        return std::vector<double>(values.begin(), values.end());
    };
    const Values values = smooth(80 * channels), near_matrix = smooth(2 * n_bins * 9),
                 far_matrix = smooth(2 * n_bins * 15);
    const std::vector<T> data(values.begin(), values.end());
    const std::vector<double> curves = doubles(2 * n_bins * n_values), slow = doubles((nodes + 1) * n_values);
    const std::vector<double> weights = doubles(n_bands * n_bins);
    const std::int64_t starts[clips] = {20, 40}; // both reach beyond the samples
    const ClipPower job{data.data(),
                        sizeof(T) == 8,
                        80,
                        channels,
                        channels,
                        64,
                        starts,
                        clips,
                        windows,
                        4,
                        12,
                        {3, 9, near_matrix.data()},
                        {30, 15, far_matrix.data()},
                        n_bins,
                        curves.data(),
                        slow.data(),
                        n_values,
                        15,
                        nodes,
                        4,
                        nodes + windows - 1,
                        weights.data(),
                        n_bands};
    Memory scratch(kernels.clip_scratch(job));
    std::vector<double> sums(clips * job.all_nodes * job.lanes), dft(clips * windows * 2 * n_bins * job.lanes);
    std::vector<double> out(clips * windows * channels * n_bands);
    kernels.clip_sums(job, sums.data(), dft.data(), -3, 9, scratch.data());
    kernels.clip_sums(job, sums.data(), dft.data(), 9, 25, scratch.data());
    kernels.clip_power(job, sums.data(), dft.data(), out.data(), 0, clips * windows, scratch.data());
    return Values(out.begin(), out.end());
}

template <class T>
Values overlapping_band_power(const Kernels& kernels, int segment, int hop, bool detrend, int rank = 0, int apart = 0) {
    constexpr int channels = 5, window = 144, windows = 4, samples = 3 * window, bands = 2;
    const auto& kernel = kernels.overlapping_band_power;
    std::vector<std::int32_t> cuts, places;
    for (int t = 0; segment && t < window; t += segment) cuts.push_back(t);
    for (int t = 0; segment && t < window; t += apart ? apart : segment) places.push_back(t);
    std::int64_t starts[windows];
    const std::int64_t order[windows] = {3, 1, 0, 2};
    for (int i = 0; i < windows; ++i) starts[order[i]] = i * hop;
    const std::int32_t bins[] = {0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 17, 18, 19, 20, 22, 72};
    constexpr int n_bins = sizeof(bins) / sizeof(*bins);
    std::vector<T> data;
    for (int i = 0; i < channels * samples; ++i) data.push_back(static_cast<T>(texture(7 * i, i)) + 1000);
    Values weights;
    for (int i = 0; i < bands * n_bins; ++i) weights.push_back(static_cast<float>(i % 7) / 64);
    // Any columns of which no two share a term are orthogonal.
    const int half = (segment + 1) / 2;
    Values basis(2 * static_cast<std::size_t>(half) * rank * 2);
    for (int m = 0; m < 2 * half; ++m)
        for (int part = 0; part < 2 && rank; ++part) basis[(m * rank + m % half % rank) * 2 + part] = 1;
    for (float& value : basis) value /= std::sqrt(static_cast<float>(half / (rank ? rank : 1)));
    std::uint8_t not_finite[windows * channels] = {};
    const OverlappingBandPower job{data.data(),   sizeof(T) == 8,
                                   channels,      samples,
                                   window,        starts,
                                   order,         window,
                                   cuts.data(),   static_cast<int>(cuts.size()),
                                   places.data(), static_cast<int>(places.size()),
                                   basis.data(),  rank,
                                   0.5,           0.5,
                                   detrend,       bins,
                                   n_bins,        weights.data(),
                                   n_bins,        bands,
                                   false,         not_finite};
    Memory table(kernel.table_size(job)), scratch(kernel.scratch_size(job));
    kernel.fill(job, table.data());
    Values out(windows * channels * bands);
    for (std::ptrdiff_t group = 0; group * kernel.lanes < channels; ++group)
        kernel.run(job, table.data(), out.data(), group, 0, windows, scratch.data());
    return out;
}

struct Case {
    const char* name;
    double tolerance; // share of the largest recorded value
    Values (*run)(const Kernels&, const Rows&);
};

#define CASE(name, tolerance, ...)                                                                                     \
    {name, tolerance, []([[maybe_unused]] const Kernels& k, [[maybe_unused]] const Rows& rows) { return __VA_ARGS__; }}
const Case cases[] = {
    CASE("tvl1_u8", 1e-4, flow<std::uint8_t>(k.tvl1, tvl1, 250, 265, rows)), // of a size that is cut into bands
    CASE("tvl1_scales_f32", 1e-4, flow<float>(k.tvl1, tvl1_scales, 45, 61, rows)),
    CASE("tvl1_initial_u16", 1e-4, flow<std::uint16_t>(k.tvl1, tvl1, 33, 30, rows, true)),
    CASE("tvl1_tiny_u8", 1e-4, flow<std::uint8_t>(k.tvl1, tvl1, 8, 8, rows)),
    CASE("farneback_u8", 1e-4, flow<std::uint8_t>(k.farneback, box, 69, 75, rows)),
    CASE("farneback_gaussian_u16", 1e-4, flow<std::uint16_t>(k.farneback, gaussian, 69, 75, rows)),
    CASE("farneback_initial_f32", 1e-4, flow<float>(k.farneback, box, 45, 61, rows, true)),
    CASE("farneback_wide_u8", 1e-4, flow<std::uint8_t>(k.farneback, box, 70, 512, rows)), // in flight with AVX-512
    CASE("farneback_tiny_u8", 1e-4, flow<std::uint8_t>(k.farneback, box, 8, 8, rows)),
    // Of a size that halves evenly: whole grey values are otherwise a matter of the last bit.
    CASE("dis_u8", 1e-4, flow<std::uint8_t>(k.dis, medium, 72, 88, rows)),
    CASE("dis_fast_u16", 1e-4, flow<std::uint16_t>(k.dis, fast, 61, 83, rows)),
    CASE("dis_initial_f32", 1e-4, flow<float>(k.dis, ultrafast, 45, 61, rows, true)),
    CASE("dis_tiny_u8", 1e-4, flow<std::uint8_t>(k.dis, medium, 8, 8, rows)),
    CASE("strain", 1e-5, strain(k, Stencil::central, false, false)),
    CASE("strain_mmme", 1e-5, strain(k, Stencil::forward, true, false)),
    CASE("strain_components", 1e-5, strain(k, Stencil::backward, false, true)),
    CASE("block_means", 1e-5, block_means(k)),
    CASE("lbp", 1e-5, lbp(k)),
    CASE("chi_square", 1e-5, chi_square(k)),
    CASE("mdmd", 1e-5, mdmd(k, false)),
    CASE("mdmd_atan", 1e-5, mdmd(k, true)),
    CASE("warp", 1e-5, warp(k)),
    CASE("fit_motion_translation", 1e-5, fit_motion(k, Motion::translation)),
    CASE("fit_motion_similarity", 1e-5, fit_motion(k, Motion::similarity)),
    CASE("fit_motion_affine", 1e-5, fit_motion(k, Motion::affine)),
    CASE("sliding_mean", 1e-5, sliding(k, Statistic::mean)),
    CASE("sliding_range", 1e-5, sliding(k, Statistic::range)),
    CASE("sliding_threshold", 1e-5, sliding(k, Statistic::threshold)),
    CASE("band_power_f32", 1e-5, band_power<float>(k, 64, true)),
    CASE("band_power_f64", 1e-5, band_power<double>(k, 75, false)),
    CASE("overlapping_band_power_f32", 1e-5, overlapping_band_power<float>(k, 0, 37, true)),
    CASE("overlapping_band_power_f64", 1e-5, overlapping_band_power<double>(k, 24, 48, false)),
    CASE("overlapping_band_power_basis_f32", 1e-5, overlapping_band_power<float>(k, 48, 48, true, 8)),
    CASE("overlapping_band_power_steps_f32", 1e-5, overlapping_band_power<float>(k, 24, 9, true, 0, 3)),
    CASE("clip_power_f32", 1e-5, clip_power<float>(k)),
    CASE("clip_power_f64", 1e-5, clip_power<double>(k)),
};
#undef CASE

// Every so many values, an odd number of them, so that both components of flow are among them.
Values sample(const Values& all) {
    Values some;
    for (std::size_t i = 0; i < all.size(); i += all.size() / 24 | 1) some.push_back(all[i]);
    return some;
}

const Rows whole{nullptr, 1};
// Narrow bands, the last one first.
const Rows bands{[](const Rows&, int count, void (*body)(void* self, int begin, int end), void* self) {
                     for (int begin = (count - 1) / 3 * 3; begin >= 0; begin -= 3)
                         body(self, begin, begin + 3 < count ? begin + 3 : count);
                 },
                 2};

int record() {
    for (const Case& c : cases) {
        std::printf("%s", c.name);
        for (const float value : sample(c.run(*supported().back(), whole))) std::printf(" %.7g", value);
        std::printf("\n");
    }
    return 0;
}

// The values that FILE has for a case; fewer where it has another case or ends.
std::vector<double> recorded(std::FILE* file, const char* name) {
    std::vector<double> values;
    char found[64];
    if (std::fscanf(file, "%63s", found) == 1 && std::strcmp(found, name) == 0)
        for (double value; std::fscanf(file, "%lf", &value) == 1;) values.push_back(value);
    return values;
}

int compare(const char* path) {
    std::FILE* file = std::fopen(path, "r");
    if (!file) {
        std::perror(path);
        return 2;
    }
    int failures = 0;
    for (const Case& c : cases) {
        const std::vector<double> want = recorded(file, c.name);
        double largest = 0;
        for (const double value : want) largest = std::fmax(largest, std::fabs(value));
        for (const Kernels* kernels : supported()) {
            const Values all = c.run(*kernels, whole), got = sample(all), cut = c.run(*kernels, bands);
            double error = got.size() == want.size() ? 0 : HUGE_VAL;
            for (std::size_t i = 0; i < got.size() && i < want.size(); ++i) {
                const double difference = std::fabs(got[i] - want[i]);
                if (!(difference <= error)) error = difference; // NaN too
            }
            const bool same = std::memcmp(cut.data(), all.data(), all.size() * sizeof(float)) == 0;
            const bool ok = same && error <= c.tolerance * largest;
            failures += !ok;
            std::printf("%s %s %s: off by %.1e of %.1e allowed%s\n", ok ? "ok" : "FAILED", kernels->name, c.name, error,
                        c.tolerance * largest, same ? "" : ", and other bits in bands of rows");
        }
    }
    std::fclose(file);
    return failures != 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: selfcheck FILE | --record\n");
        return 2;
    }
    return std::strcmp(argv[1], "--record") == 0 ? record() : compare(argv[1]);
}
