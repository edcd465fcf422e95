// The only file that knows Python: exact arrays in, kernels called without the GIL. python/mmme_fast/ checks values and
// words the errors; what is checked here again is only what keeps memory safe.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "flow_batch.hpp"
#include "kernels.hpp"
#include "threads.hpp"

namespace py = pybind11;
using namespace mmme;

namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;
using Ints = py::array_t<std::int64_t, py::array::c_style>;

void require(bool ok, const char* rule) {
    if (!ok) throw py::value_error(rule);
}

Pixel pixel_of(const py::array& frames) {
    if (frames.dtype().equal(py::dtype::of<std::uint8_t>())) return Pixel::u8;
    if (frames.dtype().equal(py::dtype::of<std::uint16_t>())) return Pixel::u16;
    if (frames.dtype().equal(py::dtype::of<float>())) return Pixel::f32;
    throw py::type_error("frames must be uint8, uint16 or float32");
}

Film film_of(const py::array& frames) {
    require(frames.ndim() == 3, "frames must be (frame, y, x)");
    require(frames.strides(2) == frames.itemsize(), "pixels of a row must be adjacent");
    return {static_cast<const char*>(frames.data()), frames.strides(0), frames.strides(1), pixel_of(frames)};
}

template <class Params>
void run_flow(const FlowKernel<Params>& kernel, const Params& params, const py::array& prev, const py::array& curr,
              Floats& flow, bool use_initial, int warm_start, int threads) {
    const Film from = film_of(prev), to = film_of(curr);
    require(flow.ndim() == 4 && flow.shape(3) == 2, "flow must be (frame, y, x, 2)");
    for (int axis = 0; axis < 3; ++axis)
        require(prev.shape(axis) == flow.shape(axis) && curr.shape(axis) == flow.shape(axis),
                "prev, curr and flow must have the same frames, rows and columns");
    require(flow.shape(1) > 0 && flow.shape(2) > 0 && flow.shape(1) < (1 << 15) && flow.shape(2) < (1 << 15),
            "height and width must be 1 to 32767");
    float* out = flow.mutable_data();
    const std::ptrdiff_t pairs = flow.shape(0);
    const int height = static_cast<int>(flow.shape(1)), width = static_cast<int>(flow.shape(2));
    py::gil_scoped_release unlocked;
    flow_batch(kernel, params, from, to, out, use_initial, pairs, height, width, warm_start, threads);
}

template <class Enum> Enum named(const std::string& name, std::initializer_list<std::pair<const char*, Enum>> all) {
    for (const auto& [known, value] : all)
        if (name == known) return value;
    throw py::value_error("unknown name " + name);
}

void tvl1(const py::array& prev, const py::array& curr, Floats flow, bool use_initial, double tau, double lambda,
          double theta, int scales, int warps, double epsilon, int inner_iterations, int outer_iterations,
          double scale_step, int median, int warm_start, int threads) {
    const TVL1 params{tau,   lambda, theta, epsilon, scale_step, scales, warps, inner_iterations, outer_iterations,
                      median};
    run_flow(active().tvl1, params, prev, curr, flow, use_initial, warm_start, threads);
}

void farneback(const py::array& prev, const py::array& curr, Floats flow, bool use_initial, double pyr_scale,
               int levels, int window, int iterations, int poly_n, double poly_sigma, bool gaussian, int threads) {
    const Farneback params{pyr_scale, poly_sigma, levels, window, iterations, poly_n, gaussian};
    run_flow(active().farneback, params, prev, curr, flow, use_initial, 0, threads);
}

void dis(const py::array& prev, const py::array& curr, Floats flow, bool use_initial, int finest_scale,
         int patch_stride, int iterations, int refinements, int threads) {
    require(finest_scale >= 0 && patch_stride >= 1 && patch_stride <= 8, "finest_scale or patch_stride out of range");
    const DIS params{finest_scale, patch_stride, iterations, refinements};
    run_flow(active().dis, params, prev, curr, flow, use_initial, 0, threads);
}

void strain(const Floats& flow, Floats out, const std::string& stencil, const std::string& convention, bool components,
            int threads) {
    const Strain params{
        named<Stencil>(stencil,
                       {{"central", Stencil::central}, {"forward", Stencil::forward}, {"backward", Stencil::backward}}),
        convention == "mmme", components};
    require(flow.ndim() == 4 && flow.shape(3) == 2, "flow must be (frame, y, x, 2)");
    require(out.size() == flow.size() / 2 * (components ? 3 : 1), "out has the wrong size");
    const std::ptrdiff_t fields = flow.shape(0);
    const int height = static_cast<int>(flow.shape(1)), width = static_cast<int>(flow.shape(2));
    const float* from = flow.data();
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    const std::ptrdiff_t pixels = static_cast<std::ptrdiff_t>(height) * width;
    parallel_for(fields, threads, [&](std::ptrdiff_t i, int) {
        active().strain(from + i * pixels * 2, to + i * pixels * (components ? 3 : 1), height, width, params);
    });
}

void block_means(const Floats& values, Floats out, int threads) {
    require(values.ndim() == 4 && out.ndim() == 4 && values.shape(0) == out.shape(0) && values.shape(3) == out.shape(3),
            "values, out must be (frame, y, x, channel)");
    require(out.shape(1) <= values.shape(1) && out.shape(2) <= values.shape(2), "more blocks than pixels");
    const int height = static_cast<int>(values.shape(1)), width = static_cast<int>(values.shape(2));
    const int rows = static_cast<int>(out.shape(1)), columns = static_cast<int>(out.shape(2));
    const int channels = static_cast<int>(values.shape(3));
    const std::ptrdiff_t field = std::ptrdiff_t{1} * height * width * channels;
    const std::ptrdiff_t lattice = std::ptrdiff_t{1} * rows * columns * channels;
    const std::ptrdiff_t frames = values.shape(0);
    const float* from = values.data();
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    parallel_for(frames, threads, [&](std::ptrdiff_t i, int) {
        const Scratch memory = scratch(active().block_means_scratch(width, channels));
        active().block_means(from + i * field, to + i * lattice, height, width, channels, rows, columns, memory.get());
    });
}

void lbp(const Floats& frames, Floats out, int threads) {
    require(frames.ndim() == 3 && out.ndim() == 4 && out.shape(0) == frames.shape(0) && out.shape(3) == 59,
            "frames must be (frame, y, x), out (frame, row, column, 59)");
    require(out.shape(1) >= 1 && out.shape(2) >= 1 && out.shape(1) <= frames.shape(1) - 6 &&
                out.shape(2) <= frames.shape(2) - 6,
            "more blocks than pixels");
    const int height = static_cast<int>(frames.shape(1)), width = static_cast<int>(frames.shape(2));
    const int rows = static_cast<int>(out.shape(1)), columns = static_cast<int>(out.shape(2));
    const std::ptrdiff_t field = std::ptrdiff_t{1} * height * width, histograms = std::ptrdiff_t{59} * rows * columns;
    const std::ptrdiff_t count = frames.shape(0);
    const float* from = frames.data();
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    parallel_for(count, threads, [&](std::ptrdiff_t i, int) {
        const Scratch memory = scratch(active().lbp_scratch(width, columns));
        active().lbp(from + i * field, to + i * histograms, height, width, rows, columns, memory.get());
    });
}

void chi_square(const Floats& before, const Floats& at, const Floats& after, Floats out, int threads) {
    require(before.ndim() == 3 && at.ndim() == 3 && after.ndim() == 3 && out.ndim() == 2,
            "histograms must be (frame, block, bin), out (frame, block)");
    for (int axis = 0; axis < 3; ++axis)
        require(before.shape(axis) == at.shape(axis) && after.shape(axis) == at.shape(axis),
                "histograms must have one shape");
    require(out.shape(0) == at.shape(0) && out.shape(1) == at.shape(1), "out must be (frame, block)");
    const std::ptrdiff_t count = at.shape(0), blocks = at.shape(1);
    const int size = static_cast<int>(at.shape(2));
    const float *first = before.data(), *middle = at.data(), *last = after.data();
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    const std::ptrdiff_t all = count * blocks, tasks = std::min<std::ptrdiff_t>(count, threads);
    parallel_for(tasks, threads, [&](std::ptrdiff_t task, int) {
        const std::ptrdiff_t begin = all * task / tasks, end = all * (task + 1) / tasks;
        active().chi_square(first + begin * size, middle + begin * size, last + begin * size, to + begin, end - begin,
                            size);
    });
}

void mdmd(const Floats& a, const Floats& b, Floats out, const std::string& quadrant, int threads) {
    const bool atan = named<bool>(quadrant, {{"atan2", false}, {"atan", true}});
    require(a.ndim() == 4 && b.ndim() == 4 && out.ndim() == 3 && a.shape(3) == 2 && b.shape(3) == 2,
            "a, b must be (frame, y, x, 2), out (frame, row, column)");
    for (int axis = 0; axis < 3; ++axis) require(a.shape(axis) == b.shape(axis), "a and b must have one shape");
    require(out.shape(0) == a.shape(0) && out.shape(1) >= 1 && out.shape(2) >= 1 && out.shape(1) <= a.shape(1) &&
                out.shape(2) <= a.shape(2),
            "out must be (frame, row, column), with no more blocks than pixels");
    const int height = static_cast<int>(a.shape(1)), width = static_cast<int>(a.shape(2));
    const int rows = static_cast<int>(out.shape(1)), columns = static_cast<int>(out.shape(2));
    const std::ptrdiff_t field = std::ptrdiff_t{2} * height * width, lattice = std::ptrdiff_t{1} * rows * columns;
    const std::ptrdiff_t count = a.shape(0);
    const float *first = a.data(), *second = b.data();
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    parallel_for(count, threads, [&](std::ptrdiff_t i, int) {
        const Scratch memory = scratch(active().mdmd_scratch(height, width, rows));
        active().mdmd(first + i * field, second + i * field, to + i * lattice, height, width, rows, columns, atan,
                      memory.get());
    });
}

void warp(const Floats& frames, Floats out, const py::array_t<double, py::array::c_style>& matrices, int threads) {
    require(frames.ndim() == 3 && out.ndim() == 3 && matrices.ndim() == 3, "frames, out must be (frame, y, x)");
    require(matrices.shape(0) == frames.shape(0) && matrices.shape(1) == 2 && matrices.shape(2) == 3,
            "matrices must be (frame, 2, 3)");
    for (int axis = 0; axis < 3; ++axis) require(frames.shape(axis) == out.shape(axis), "out must have frames' shape");
    const int height = static_cast<int>(frames.shape(1)), width = static_cast<int>(frames.shape(2));
    const std::ptrdiff_t field = std::ptrdiff_t{1} * height * width, count = frames.shape(0);
    const float* from = frames.data();
    const double* matrix = matrices.data();
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    parallel_for(count, threads, [&](std::ptrdiff_t i, int) {
        active().warp(from + i * field, to + i * field, height, width, matrix + 6 * i);
    });
}

void fit_motion(const Floats& flow, Doubles out, const Doubles& points, const Doubles& trust, const std::string& model,
                int rounds, int threads) {
    const auto which = named<Motion>(
        model, {{"translation", Motion::translation}, {"similarity", Motion::similarity}, {"affine", Motion::affine}});
    require(flow.ndim() == 3 && flow.shape(2) == 2 && points.ndim() == 2 && points.shape(0) == 2 && trust.ndim() == 1 &&
                points.shape(1) == flow.shape(1) && trust.shape(0) == flow.shape(1),
            "flow must be (frame, point, 2), points (2, point), trust (point)");
    require(out.ndim() == 3 && out.shape(0) == flow.shape(0) && out.shape(1) == 2 && out.shape(2) == 3,
            "out must be (frame, 2, 3)");
    const std::ptrdiff_t count = flow.shape(0), n = flow.shape(1);
    const float* from = flow.data();
    const double *where = points.data(), *trusted = trust.data();
    double* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    parallel_for(count, threads, [&](std::ptrdiff_t i, int) {
        const Scratch memory = scratch(active().motion_scratch(n));
        active().fit_motion(from + 2 * n * i, where, trusted, to + 6 * i, n, which, rounds, memory.get());
    });
}

void sliding(const Floats& values, Floats out, std::ptrdiff_t window, const std::string& statistic, float p,
             int threads) {
    const auto which = named<Statistic>(statistic, {{"mean", Statistic::mean},
                                                    {"sum", Statistic::sum},
                                                    {"max", Statistic::max},
                                                    {"min", Statistic::min},
                                                    {"range", Statistic::range},
                                                    {"threshold", Statistic::threshold}});
    require(values.ndim() == 2 && out.ndim() == 2 && values.shape(1) == out.shape(1), "values must be (sample, lane)");
    require(window >= 1 && out.shape(0) == values.shape(0) - window + 1, "out has the wrong number of samples");
    const std::ptrdiff_t samples = values.shape(0), lanes = values.shape(1);
    const float* from = values.data();
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    // Whole cache lines of lanes: a thread never writes into another's.
    constexpr std::ptrdiff_t width = 16;
    const std::ptrdiff_t groups = (lanes + width - 1) / width;
    const std::ptrdiff_t tasks = std::min<std::ptrdiff_t>(groups, threads);
    parallel_for(tasks, threads, [&](std::ptrdiff_t task, int) {
        const std::ptrdiff_t begin = groups * task / tasks * width;
        const std::ptrdiff_t end = std::min(groups * (task + 1) / tasks * width, lanes);
        const Scratch memory = scratch(active().sliding_scratch(window, end - begin, which));
        active().sliding(from, to, samples, lanes, begin, end, window, which, p, memory.get());
    });
}

void band_power(const py::array& data, Floats out, const Ints& starts, const Floats& taper, bool detrend, int nfft,
                const py::array_t<std::int32_t, py::array::c_style>& bins, const Floats& weights, int threads) {
    const bool float64 = data.dtype().equal(py::dtype::of<double>());
    require(float64 || data.dtype().equal(py::dtype::of<float>()), "data must be float32 or float64");
    require(data.ndim() == 2 && data.strides(1) == data.itemsize() && data.strides(0) % data.itemsize() == 0,
            "data must be (channel, sample), with adjacent samples");
    require(starts.ndim() == 1 && taper.ndim() == 1 && bins.ndim() == 1 && weights.ndim() == 2 &&
                weights.shape(1) == bins.shape(0),
            "starts, taper, bins must be 1-D, weights (band, bin)");
    require(out.ndim() == 3 && out.shape(0) == starts.shape(0) && out.shape(1) == data.shape(0) &&
                out.shape(2) == weights.shape(0),
            "out must be (window, channel, band)");
    const int window = static_cast<int>(taper.shape(0));
    require(window >= 1 && nfft >= window, "window must be 1 to nfft samples");
    for (py::ssize_t i = 0; i < starts.shape(0); ++i)
        require(starts.data()[i] >= 0 && starts.data()[i] + window <= data.shape(1), "a window leaves the data");
    const BandPower job{data.data(),
                        float64,
                        data.shape(0),
                        data.strides(0) / data.itemsize(),
                        starts.data(),
                        window,
                        taper.data(),
                        detrend,
                        nfft,
                        bins.data(),
                        static_cast<int>(bins.shape(0)),
                        weights.data(),
                        static_cast<int>(weights.shape(0))};
    const std::ptrdiff_t windows = starts.shape(0);
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    const std::ptrdiff_t tasks = std::min<std::ptrdiff_t>(windows, 4 * threads);
    parallel_for(tasks, threads, [&](std::ptrdiff_t task, int) {
        const Scratch memory = scratch(active().band_power_scratch(job));
        active().band_power(job, to, windows * task / tasks, windows * (task + 1) / tasks, memory.get());
    });
}

// Returns the windows that hold a power which is NaN or infinite, and perhaps a few whose powers are very large.
std::vector<std::int64_t> overlapping_band_power(const py::array& data, Floats out, const Ints& starts,
                                                 std::int64_t first, int window,
                                                 const py::array_t<std::int32_t, py::array::c_style>& cuts,
                                                 const py::array_t<std::int32_t, py::array::c_style>& places,
                                                 const Floats& basis, double a, double b, bool detrend,
                                                 const py::array_t<std::int32_t, py::array::c_style>& bins,
                                                 const Floats& weights, int threads) {
    const bool float64 = data.dtype().equal(py::dtype::of<double>());
    require(float64 || data.dtype().equal(py::dtype::of<float>()), "data must be float32 or float64");
    require(data.ndim() == 2 && data.strides(1) == data.itemsize() && data.strides(0) % data.itemsize() == 0,
            "data must be (channel, sample), with adjacent samples");
    require(starts.ndim() == 1 && cuts.ndim() == 1 && places.ndim() == 1 && bins.ndim() == 1 && weights.ndim() == 2 &&
                weights.shape(1) == bins.shape(0),
            "starts, cuts, places, bins must be 1-D, weights (band, bin)");
    require(out.ndim() == 3 && out.shape(0) == starts.shape(0) && out.shape(1) == data.shape(0) &&
                out.shape(2) == weights.shape(0),
            "out must be (window, channel, band)");
    require(window >= 2 && window <= 1 << 24 && first >= 0, "window or first out of range");
    const int n_cuts = static_cast<int>(cuts.shape(0));
    for (int i = 0; i < n_cuts; ++i)
        require(i ? cuts.data()[i] > cuts.data()[i - 1] && cuts.data()[i] < window : cuts.data()[i] == 0,
                "cuts must rise from 0 to less than window");
    const int n_places = n_cuts ? static_cast<int>(places.shape(0)) : 0;
    const std::int32_t *from = places.data(), *to_last = from + n_places;
    for (int i = 0; i < n_places; ++i)
        require(from[i] > (i ? from[i - 1] : -1) && from[i] < window, "places must rise from 0 to less than window");
    require(std::includes(from, to_last, cuts.data(), cuts.data() + n_cuts), "each cut must be a place");
    int longest = 0;
    for (int i = 0; i < n_cuts; ++i)
        longest = std::max(longest, (i + 1 < n_cuts ? cuts.data()[i + 1] : window) - cuts.data()[i]);
    const int rank = basis.ndim() == 4 ? static_cast<int>(basis.shape(2)) : 0;
    require(basis.size() == 0 || (n_cuts && basis.ndim() == 4 && basis.shape(0) == 2 &&
                                  basis.shape(1) == (longest + 1) / 2 && basis.shape(3) == 2),
            "basis must be (2, half of the longest segment, term, 2), or empty");
    require(a > 0, "a must be more than 0");
    for (py::ssize_t i = 0; i < starts.shape(0); ++i) {
        require(starts.data()[i] >= 0 && starts.data()[i] + window <= data.shape(1), "a window leaves the data");
        if (!n_cuts) continue;
        const auto place = static_cast<std::int32_t>((starts.data()[i] + first) % window);
        require(std::binary_search(from, to_last, place), "every window must begin at a place");
        require(starts.data()[i] >= place - *(std::upper_bound(cuts.data(), cuts.data() + n_cuts, place) - 1),
                "data must go back to the cut before each window");
    }
    for (py::ssize_t i = 0; i < bins.shape(0); ++i)
        require(bins.data()[i] > (i ? bins.data()[i - 1] : -1) && bins.data()[i] <= window / 2,
                "bins must rise from 0 or more to window / 2 or less");
    OverlappingBandPower job{data.data(),
                             float64,
                             data.shape(0),
                             data.strides(0) / data.itemsize(),
                             first,
                             starts.data(),
                             nullptr,
                             window,
                             cuts.data(),
                             n_cuts,
                             from,
                             n_places,
                             basis.data(),
                             basis.size() ? rank : 0,
                             a,
                             b,
                             detrend,
                             bins.data(),
                             0,
                             weights.data(),
                             bins.shape(0),
                             static_cast<int>(weights.shape(0)),
                             false,
                             nullptr};
    const std::ptrdiff_t windows = starts.shape(0);
    const int n_bins = static_cast<int>(bins.shape(0));
    float* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    std::vector<std::int64_t> order(static_cast<std::size_t>(windows));
    std::iota(order.begin(), order.end(), 0);
    if (!std::is_sorted(job.starts, job.starts + windows))
        std::stable_sort(order.begin(), order.end(), [&](auto i, auto j) { return job.starts[i] < job.starts[j]; });
    job.order = order.data();
    const auto& kernel = active().overlapping_band_power;
    const std::ptrdiff_t groups = (job.channels + kernel.lanes - 1) / kernel.lanes;
    std::vector<std::uint8_t> not_finite(static_cast<std::size_t>(windows * groups));
    job.not_finite = not_finite.data();
    // Groups take turns at as many windows as have some megabytes of output, which stays in cache until all have
    // written theirs. What is cut off costs up to a window's samples anew. Threads that have no group of their own
    // share windows.
    const std::ptrdiff_t fitting = (std::ptrdiff_t{8} << 20) / (4 * job.channels * job.n_bands);
    const std::ptrdiff_t parts = threads == 1 ? 1 : (2 * threads + groups - 1) / groups;
    const std::ptrdiff_t pieces = std::min(std::max(parts, windows / std::max<std::ptrdiff_t>(fitting, 1)), windows);
    // As many bins at a time as have a table of some megabytes.
    const int panel = std::clamp((1 << 18) / (n_cuts ? n_places : window), 4, 64);
    std::vector<float> table;
    for (int bin = 0; bin < n_bins; bin += panel) {
        job.bins = bins.data() + bin;
        job.n_bins = std::min(n_bins - bin, panel);
        job.weights = weights.data() + bin;
        job.add = bin > 0;
        table.resize(kernel.table_size(job));
        kernel.fill(job, table.data());
        parallel_for(groups * pieces, threads, [&](std::ptrdiff_t task, int) {
            const Scratch memory = scratch(kernel.scratch_size(job));
            const std::ptrdiff_t piece = task / groups;
            kernel.run(job, table.data(), to, task % groups, windows * piece / pieces, windows * (piece + 1) / pieces,
                       memory.get());
        });
    }
    std::vector<std::int64_t> windows_not_finite;
    for (std::ptrdiff_t i = 0; i < windows; ++i) {
        const auto* own = job.not_finite + i * groups;
        if (std::any_of(own, own + groups, [](auto each) { return each != 0; })) windows_not_finite.push_back(i);
    }
    return windows_not_finite;
}

void clip_power(const py::array& data, Doubles out, const Ints& starts, std::int64_t hop, int window,
                std::int64_t near_reach, std::int64_t far_reach, const Floats& near_matrix, const Floats& far_matrix,
                const Doubles& curves, const Doubles& slow, std::int64_t inner, int block, const Doubles& weights,
                int threads) {
    const bool float64 = data.dtype().equal(py::dtype::of<double>());
    require(float64 || data.dtype().equal(py::dtype::of<float>()), "data must be float32 or float64");
    require(data.ndim() == 2 && data.strides(1) == data.itemsize() && data.strides(0) % data.itemsize() == 0,
            "data must be (sample, channel), with adjacent channels");
    require(
        out.ndim() == 4 && starts.ndim() == 1 && out.shape(0) == starts.shape(0) && out.size() > 0 &&
            curves.ndim() == 3 && slow.ndim() == 2 && slow.shape(0) >= 1 && slow.shape(1) == curves.shape(0) &&
            weights.ndim() == 2 && out.shape(2) == data.shape(1) && out.shape(3) == weights.shape(0) &&
            weights.shape(1) == curves.shape(2),
        "out must be (clip, window, channel, band), curves (value, 2, bin), slow (node, value), weights (band, bin)");
    for (const auto* matrix : {&near_matrix, &far_matrix})
        require(matrix->ndim() == 3 && matrix->shape(2) == curves.shape(2), "matrices must be (pair, 2, bin)");
    for (const auto pairs_of : {near_matrix.shape(1), far_matrix.shape(1), curves.shape(1)})
        require(pairs_of == 2, "matrices and curves must have cosines and sines");
    require(window >= 1 && block >= 1 && hop >= 1 && hop % block == 0, "block must divide hop");
    const std::ptrdiff_t windows = out.shape(1), nodes = slow.shape(0) - 1;
    const std::int64_t first = *std::min_element(starts.data(), starts.data() + starts.size());
    const std::int64_t last = *std::max_element(starts.data(), starts.data() + starts.size()) + hop * (windows - 1);
    const auto within = [&](std::int64_t before, std::int64_t length) {
        return first - before > -data.shape(0) && last - before + length < 2 * data.shape(0);
    };
    require(first >= 0 && last + window <= data.shape(0), "a window is not in the data");
    const auto span = [&](std::int64_t reach, const Floats& matrix) {
        require(2 * matrix.shape(0) <= window + 2 * reach && within(reach, window + 2 * reach),
                "a window's samples leave the data");
        return ClipPower::Span{reach, static_cast<int>(matrix.shape(0)), matrix.data()};
    };
    require(within(inner + block, (nodes + 1) * block), "a window's nodes leave the data");
    const ClipPower job{data.data(),
                        float64,
                        data.shape(0),
                        data.strides(0) / data.itemsize(),
                        static_cast<int>(data.shape(1)),
                        static_cast<int>((data.shape(1) + 31) / 32 * 32),
                        starts.data(),
                        static_cast<int>(starts.shape(0)),
                        static_cast<int>(windows),
                        hop,
                        window,
                        span(near_reach, near_matrix),
                        span(far_reach, far_matrix),
                        static_cast<int>(curves.shape(2)),
                        curves.data(),
                        slow.data(),
                        static_cast<int>(slow.shape(1)),
                        inner,
                        nodes,
                        block,
                        nodes + (windows - 1) * hop / block,
                        weights.data(),
                        static_cast<int>(weights.shape(0))};
    // Chunks of `hop` samples that sums and windows are made of; some are before the data.
    const std::ptrdiff_t chunk = (first - inner - block) / hop - 1;
    const std::ptrdiff_t stop = last + std::max((nodes + 1) * block - inner, window + near_reach);
    const std::ptrdiff_t chunks = stop / hop + 1 - chunk;
    const std::ptrdiff_t all_windows = job.clips * windows;
    double* to = out.mutable_data();
    py::gil_scoped_release unlocked;
    std::vector<double> sums(static_cast<std::size_t>(job.clips * job.all_nodes * job.lanes));
    std::vector<double> dft(static_cast<std::size_t>(all_windows * 2 * job.n_bins * job.lanes));
    const auto shared = [&](std::ptrdiff_t count, const auto& body) {
        const std::ptrdiff_t tasks = std::min<std::ptrdiff_t>(count, threads == 1 ? 1 : 4 * threads);
        parallel_for(tasks, threads, [&](std::ptrdiff_t task, int) {
            const Scratch memory = scratch(active().clip_scratch(job));
            body(count * task / tasks, count * (task + 1) / tasks, memory.get());
        });
    };
    shared(chunks, [&](auto begin, auto end, float* own) {
        active().clip_sums(job, sums.data(), dft.data(), chunk + begin, chunk + end, own);
    });
    shared(all_windows, [&](auto begin, auto end, float* own) {
        active().clip_power(job, sums.data(), dft.data(), to, begin, end, own);
    });
}

} // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "Native kernels of mmme_fast. Arguments are exact: nothing is converted or copied; results go to out.";

    m.def(
        "supported",
        [] {
            std::vector<std::string> names;
            for (const Kernels* table : supported()) names.push_back(table->name);
            return names;
        },
        "Instruction sets that this build and this CPU share, fastest first.");
    m.def("active", [] { return std::string(active().name); }, "The instruction set in use.");
    m.def(
        "use", [](const std::string& name) { return use(name); }, py::arg("name"),
        "Choose the instruction set; False when it is not supported.");
    m.def("release_workspaces", release_scratch, py::call_guard<py::gil_scoped_release>(),
          "Free the scratch memory that threads keep between calls.");

    const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
    m.def("tvl1", tvl1, exact("prev"), exact("curr"), exact("flow"), py::arg("use_initial"), py::arg("tau"),
          py::arg("lambda_"), py::arg("theta"), py::arg("scales"), py::arg("warps"), py::arg("epsilon"),
          py::arg("inner_iterations"), py::arg("outer_iterations"), py::arg("scale_step"), py::arg("median"),
          py::arg("warm_start"), py::arg("threads"), "TV-L1 flow of pairs of frames, written to flow.");
    m.def("farneback", farneback, exact("prev"), exact("curr"), exact("flow"), py::arg("use_initial"),
          py::arg("pyr_scale"), py::arg("levels"), py::arg("window"), py::arg("iterations"), py::arg("poly_n"),
          py::arg("poly_sigma"), py::arg("gaussian"), py::arg("threads"),
          "Farneback flow of pairs of frames, written to flow.");
    m.def("dis", dis, exact("prev"), exact("curr"), exact("flow"), py::arg("use_initial"), py::arg("finest_scale"),
          py::arg("patch_stride"), py::arg("iterations"), py::arg("refinements"), py::arg("threads"),
          "Dense inverse search flow of pairs of frames, written to flow.");
    m.def("strain", strain, exact("flow"), exact("out"), py::arg("stencil"), py::arg("convention"),
          py::arg("components"), py::arg("threads"), "Optical strain of flow fields, written to out.");
    m.def("block_means", block_means, exact("values"), exact("out"), py::arg("threads"),
          "Means over the cells of a lattice, written to out.");
    m.def("lbp", lbp, exact("frames"), exact("out"), py::arg("threads"),
          "Histograms of uniform local binary patterns over the cells of a lattice, written to out.");
    m.def("chi_square", chi_square, exact("before"), exact("at"), exact("after"), exact("out"), py::arg("threads"),
          "Chi-square distances of histograms from the mean of two others, written to out.");
    m.def("mdmd", mdmd, exact("a"), exact("b"), exact("out"), py::arg("quadrant"), py::arg("threads"),
          "Main directional maximal differences of pairs of flow fields, written to out.");
    m.def("warp", warp, exact("frames"), exact("out"), exact("matrices"), py::arg("threads"),
          "Frames resampled by affine maps, written to out.");
    m.def("fit_motion", fit_motion, exact("flow"), exact("out"), exact("points"), exact("trust"), py::arg("model"),
          py::arg("rounds"), py::arg("threads"), "Maps that most of each flow field follows, written to out.");
    m.def("sliding", sliding, exact("values"), exact("out"), py::arg("window"), py::arg("statistic"), py::arg("p"),
          py::arg("threads"), "A statistic over sliding windows of each lane, written to out.");
    m.def("band_power", band_power, exact("data"), exact("out"), exact("starts"), exact("taper"), py::arg("detrend"),
          py::arg("nfft"), exact("bins"), exact("weights"), py::arg("threads"),
          "Weighted sums of |DFT|^2 over windows, written to out.");
    m.def("overlapping_band_power", overlapping_band_power, exact("data"), exact("out"), exact("starts"),
          py::arg("first"), py::arg("window"), exact("cuts"), exact("places"), exact("basis"), py::arg("a"),
          py::arg("b"), py::arg("detrend"), exact("bins"), exact("weights"), py::arg("threads"),
          "The same with sums that windows share, for a taper a - b cos and a DFT as long as they are.");
    m.def("clip_power", clip_power, exact("data"), exact("out"), exact("starts"), py::arg("hop"), py::arg("window"),
          py::arg("near_reach"), py::arg("far_reach"), exact("near_matrix"), exact("far_matrix"), exact("curves"),
          exact("slow"), py::arg("inner"), py::arg("block"), exact("weights"), py::arg("threads"),
          "Weighted sums of |DFT|^2 over windows of a filtered signal, written to out.");
}
