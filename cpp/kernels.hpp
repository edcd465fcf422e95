// The one list of kernels: their parameters, and a table of function pointers that every instruction set fills.
//
// Kernels are pure functions on pointers. They never allocate, throw, start a thread or know Python; scratch memory and
// the means to spread rows over threads come from outside.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mmme {

enum class Pixel : int { u8, u16, f32 };

// One frame where it lies in the caller's memory: pixels of a row are adjacent, rows are row_bytes apart.
struct Image {
    const void* data;
    std::ptrdiff_t row_bytes;
    Pixel pixel;

    bool operator==(const Image&) const = default;
};

// Runs body(self, begin, end) over bands that cover rows 0..rows once, perhaps on several threads, and returns when all
// are done. A kernel's result must not depend on where the bands are cut.
struct Rows {
    void (*run)(const Rows& rows, int count, void (*body)(void* self, int begin, int end), void* self);
    int threads;
    void* team = nullptr; // for `run`

    template <class Body> void operator()(int count, Body&& body) const {
        auto call = [](void* self, int begin, int end) { (*static_cast<Body*>(self))(begin, end); };
        if (threads <= 1)
            body(0, count);
        else
            run(*this, count, call, &body);
    }
};

struct TVL1 {
    double tau, lambda, theta, epsilon, scale_step;
    int scales, warps, inner_iterations, outer_iterations, median;
    bool resumed = false; // the start is the flow of the pair before: every warp but the last is one iteration

    bool operator==(const TVL1&) const = default;
};

struct Farneback {
    double pyr_scale, poly_sigma;
    int levels, window, iterations, poly_n;
    bool gaussian;

    bool operator==(const Farneback&) const = default;
};

struct DIS {
    int finest_scale, patch_stride, iterations; // iterations: of the search, both passes together
    int refinements;                            // fixed-point iterations of the variational refinement

    bool operator==(const DIS&) const = default;
};

// A dense flow method in two steps, so that a frame that occurs in several pairs is prepared once.
// Sizes are in floats; frame and scratch are 64-byte aligned.
template <class Params> struct FlowKernel {
    std::size_t (*frame_size)(int height, int width, const Params&);
    std::size_t (*scratch_size)(int height, int width, const Params&);
    void (*prepare)(const Image&, int height, int width, const Params&, float* frame, float* scratch, const Rows&);
    // flow: (height, width, 2), (dx, dy) in pixels. With use_initial it holds the flow to start from.
    void (*solve)(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width,
                  const Params&, float* scratch, const Rows&);
    // For films, null where a method has none: the parameters with which a pair goes on from the flow of the pair
    // before it, and how badly a flow fits, as the mean of |curr(x + flow) - prev| in grey levels (flow null: 0).
    Params (*resumed)(const Params&);
    double (*misfit)(const float* prev, const float* curr, const float* flow, int height, int width, const Params&);
};

enum class Stencil : int { central, forward, backward };

struct Strain {
    Stencil stencil;
    bool mmme;       // the MMME notebooks' swapped axes
    bool components; // (exx, eyy, exy) instead of the magnitude
};

enum class Motion : int { translation, similarity, affine };

enum class Statistic : int { mean, sum, max, min, range, threshold };

struct BandPower {
    const void* data; // (channel, sample)
    bool float64;
    std::ptrdiff_t channels, channel_stride; // in samples
    const std::int64_t* starts;              // first sample of each window
    int window;
    const float* taper; // (window)
    bool detrend;       // remove each window's mean
    int nfft;
    const std::int32_t* bins; // the DFT bins that the bands need
    int n_bins;
    const float* weights; // (band, bin): what |X|^2 counts for
    int n_bands;
};

// Windows that may share sums, with a taper a - b cos(2 pi t / window) and a DFT as long as they are.
struct OverlappingBandPower {
    const void* data; // (channel, sample)
    bool float64;
    std::ptrdiff_t channels, channel_stride; // in samples
    std::int64_t first;                      // what number the data's first sample has in the whole recording
    const std::int64_t* starts;              // first sample of each window, within the data
    const std::int64_t* order;               // the windows by rising start
    int window;
    // Rising, from 0: where every `window` samples of the recording are cut into segments that windows share. Windows
    // begin at places, of which each cut is one; the data go back to the cut before each. No cuts: anywhere.
    const std::int32_t* cuts;
    int n_cuts;
    const std::int32_t* places;
    int n_places;
    // What the cosines and sines of the bins about the centre of an even and of an odd number of samples are made of,
    // at most as many as the longest segment has: (2, m, term, cosines and sines), orthonormal columns. Rank 0:
    // themselves.
    const float* basis;
    int rank;
    double a, b;              // a must not be 0
    bool detrend;             // remove each window's mean
    const std::int32_t* bins; // rising: the DFT bins that the bands need
    int n_bins;
    const float* weights; // (band, bin): what |X|^2 counts for
    std::ptrdiff_t weights_stride;
    int n_bands;
    bool add;                 // to what out holds
    std::uint8_t* not_finite; // (window, group): set where a power is NaN or infinite
};

// Power of bands in windows of a filtered signal. A window's DFT is a matrix times what its samples make of each term.
struct ClipPower {
    const void* data; // (sample, channel); beyond its ends it goes on as a half turn about its first and last sample
    bool float64;
    std::ptrdiff_t samples, stride; // stride: from a sample to the next
    int channels, lanes;            // lanes: channels rounded up to a multiple of 32
    const std::int64_t* starts;     // (clips): first sample of a clip's first window
    int clips, windows;             // windows of a clip
    std::ptrdiff_t hop;             // from a window to the next
    int window;
    // Pairs of samples at equal distance from the window's middle are a term each: the first pair is the sample `reach`
    // before the window and the one `reach` after it, each further pair one sample nearer. Each sample is taken less
    // the next nearer one; those of the last pair less the one in the window's middle.
    struct Span {
        std::ptrdiff_t reach;
        int pairs;
        const float* matrix; // (pair, 2, bin), for the pairs' sums and for their differences
    } near, far;
    int n_bins;
    // The values stand for the samples between near and far.
    const double* curves; // (value, 2, bin)
    // (node + 1, value): what the sums around the nodes count for; last the sample in the window's middle, less which
    // all samples are taken.
    const double* slow;
    int n_values;
    std::ptrdiff_t inner, nodes; // samples from the first node to the window; nodes of a window
    int block;                   // samples from node to node; divides hop
    std::ptrdiff_t all_nodes;    // of a clip
    const double* weights;       // (band, bin): what |X|^2 counts for
    int n_bands;
};

struct Kernels {
    const char* name;
    FlowKernel<TVL1> tvl1;
    FlowKernel<Farneback> farneback;
    FlowKernel<DIS> dis;
    // flow (height, width, 2) -> (height, width), or (height, width, 3) with components.
    void (*strain)(const float* flow, float* out, int height, int width, const Strain&);
    // values (height, width, channels) -> (rows, columns, channels): means of the cells of a lattice whose lines lie at
    // y = height * i / rows, rounded down.
    std::size_t (*block_means_scratch)(int width, int channels);
    void (*block_means)(const float* values, float* out, int height, int width, int channels, int rows, int columns,
                        float* scratch);
    // frame (height, width) -> (rows, columns, 59): shares of the uniform local binary patterns in each cell of a
    // lattice over the pixels that lie at least 3 from the border.
    std::size_t (*lbp_scratch)(int width, int columns);
    void (*lbp)(const float* frame, float* out, int height, int width, int rows, int columns, float* scratch);
    // out[i] = chi-square distance of histogram at[i] (size) from the mean of before[i] and after[i].
    void (*chi_square)(const float* before, const float* at, const float* after, float* out, std::ptrdiff_t count,
                       int size);
    // Flow fields a, b (height, width, 2) -> (rows, columns): over the pixels of each cell that a moves in the cell's
    // main direction (a quarter turn), the mean of the largest third of |a| - |b|.
    std::size_t (*mdmd_scratch)(int height, int width, int rows);
    void (*mdmd)(const float* a, const float* b, float* out, int height, int width, int rows, int columns, bool atan,
                 float* scratch);
    // out[y, x] = frame at (m0 x + m1 y + m2, m3 x + m4 y + m5), by cubic convolution, the border repeated outside.
    void (*warp)(const float* frame, float* out, int height, int width, const double* matrix);
    // flow (n, 2) at points (2, n), x and then y -> out (2, 3): the map from (x, y, 1) to flow that most of the field
    // follows, by `rounds` least squares fits, each weighted with trust (n) and the residuals of the one before.
    std::size_t (*motion_scratch)(std::ptrdiff_t points);
    void (*fit_motion)(const float* flow, const double* points, const double* trust, double* out, std::ptrdiff_t n,
                       Motion model, int rounds, float* scratch);
    // values (samples, lanes) -> (samples - window + 1, lanes), for lanes begin..end only. p: mean + p (max - mean).
    std::size_t (*sliding_scratch)(std::ptrdiff_t window, std::ptrdiff_t lanes, Statistic);
    void (*sliding)(const float* values, float* out, std::ptrdiff_t samples, std::ptrdiff_t lanes, std::ptrdiff_t begin,
                    std::ptrdiff_t end, std::ptrdiff_t window, Statistic, float p, float* scratch);
    // out (windows, channel, band), for windows begin..end only.
    std::size_t (*band_power_scratch)(const BandPower&);
    void (*band_power)(const BandPower&, float* out, std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch);
    // The same for windows order[begin..end] of the `group`-th channels, of which there are `lanes` to a group. The
    // table of cosines and sines serves all of them.
    struct {
        int lanes;
        std::size_t (*table_size)(const OverlappingBandPower&);
        void (*fill)(const OverlappingBandPower&, float* table);
        std::size_t (*scratch_size)(const OverlappingBandPower&);
        void (*run)(const OverlappingBandPower&, const float* table, float* out, std::ptrdiff_t group,
                    std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch);
    } overlapping_band_power;
    // Reads samples begin * hop..end * hop in their order and adds to two arrays that begin as zeros: to sums (clip,
    // node, lanes in any order) those of the samples less than a block away from each node, with weights that fall to
    // 0; to dft (clip, window, 2, bin, lanes in any order) what the samples near the windows make of it.
    void (*clip_sums)(const ClipPower&, double* sums, double* dft, std::ptrdiff_t begin, std::ptrdiff_t end,
                      float* scratch);
    // out (clip and window, channel, band), for windows begin..end of all clips'. Spoils their part of dft.
    std::size_t (*clip_scratch)(const ClipPower&);
    void (*clip_power)(const ClipPower&, const double* sums, double* dft, double* out, std::ptrdiff_t begin,
                       std::ptrdiff_t end, float* scratch);
};

} // namespace mmme
