// Many pairs of frames on one dense flow kernel: which thread takes which pair, and each frame prepared once.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.hpp"
#include "threads.hpp"

namespace mmme {

// Frames that lie frame_bytes apart; 0 is one frame for every pair.
struct Film {
    const char* data;
    std::ptrdiff_t frame_bytes, row_bytes;
    Pixel pixel;

    Image operator[](std::ptrdiff_t i) const { return {data + i * frame_bytes, row_bytes, pixel}; }
};

// Prepared frames to keep, so that pairs taken in turn find every frame that recurs. More would be cold memory.
inline std::ptrdiff_t recurring(const Film& prev, const Film& curr, std::ptrdiff_t pairs) {
    const std::ptrdiff_t step = prev.frame_bytes;
    if (step == 0 || step != curr.frame_bytes) return 2;
    const auto apart = reinterpret_cast<std::intptr_t>(curr.data) - reinterpret_cast<std::intptr_t>(prev.data);
    const std::ptrdiff_t lag = apart / step; // curr[i] is prev[i + lag]
    if (apart % step != 0 || lag == 0 || std::abs(lag) >= pairs) return 2;
    return lag > 0 ? 2 * lag : 1 - 2 * lag; // behind prev, a pair's new frame comes before the one kept for it
}

// The prepared frames one thread keeps, least recently used out first. A frame is known by where and how it lies.
template <class Params> class PreparedFrames {
public:
    PreparedFrames(const FlowKernel<Params>& kernel, int height, int width, const Params& params, std::ptrdiff_t frames)
        : kernel_(kernel), height_(height), width_(width), params_(params),
          frame_size_(align(kernel.frame_size(height, width, params))),
          scratch_size_(align(kernel.scratch_size(height, width, params))),
          capacity_(std::max<std::size_t>(2, std::min<std::size_t>(frames, budget / frame_size_))) {}

    // The memory that every thread needs; call attach() on that thread before anything else.
    void attach() {
        if (memory_) return;
        memory_ = mmme::scratch(scratch_size_ + capacity_ * frame_size_);
        entries_.reserve(capacity_);
    }
    float* scratch() { return memory_.get(); }

    // whole: ready for a cold start; otherwise at least for the kernel's resumed() parameters and misfit().
    const float* prepared(const Image& image, bool whole, const Rows& rows) {
        ++clock_;
        Entry& entry = entry_of(image);
        entry.used = clock_;
        if (entry.state < (whole ? State::whole : State::part)) {
            entry.state = whole ? State::whole : State::part;
            kernel_.prepare(image, height_, width_, whole ? params_ : kernel_.resumed(params_), entry.frame, scratch(),
                            rows);
        }
        return entry.frame;
    }

private:
    static constexpr std::size_t budget = 8u << 20; // floats: 32 MB a thread
    static std::size_t align(std::size_t floats) { return (floats + 15) / 16 * 16; }

    enum class State { empty, part, whole };
    struct Entry {
        Image image;
        float* frame;
        std::uint64_t used;
        State state;
    };

    Entry& entry_of(const Image& image) {
        for (Entry& entry : entries_)
            if (entry.image == image) return entry;
        if (entries_.size() < capacity_)
            entries_.push_back({{}, memory_.get() + scratch_size_ + entries_.size() * frame_size_, 0, State::empty});
        else
            std::swap(*std::min_element(entries_.begin(), entries_.end(),
                                        [](const Entry& a, const Entry& b) { return a.used < b.used; }),
                      entries_.back());
        Entry& entry = entries_.back();
        entry.image = image;
        entry.state = State::empty;
        return entry;
    }

    const FlowKernel<Params>& kernel_;
    int height_, width_;
    const Params& params_;
    std::size_t frame_size_, scratch_size_, capacity_;
    Scratch memory_{};
    std::vector<Entry> entries_;
    std::uint64_t clock_ = 0;
};

// flow: (pairs, height, width, 2); with use_initial it holds the flows to start from. warm_start = n > 0: each pair
// goes on from the flow before it where that still fits, every n-th one starts cold, so that chains of n pairs are what
// threads share out.
template <class Params>
void flow_batch(const FlowKernel<Params>& kernel, const Params& params, const Film& prev, const Film& curr, float* flow,
                bool use_initial, std::ptrdiff_t pairs, int height, int width, int warm_start, int threads) {
    const std::ptrdiff_t field = static_cast<std::ptrdiff_t>(height) * width * 2;
    const std::ptrdiff_t chain = std::max(warm_start, 1);
    const std::ptrdiff_t chains = (pairs + chain - 1) / chain;
    // Fewer chains than threads: the threads share the rows of one pair at a time. Otherwise runs of neighbouring
    // chains, long enough that a film's frames are seldom prepared by two threads, short enough that none waits long.
    const bool share_rows = chains < threads;
    const std::ptrdiff_t run = share_rows ? chains : std::clamp<std::ptrdiff_t>(chains / (4 * threads), 1, 64);
    const Rows rows = rows_on(share_rows ? threads : 1);

    std::vector<PreparedFrames<Params>> workers;
    for (int i = 0; i < (share_rows ? 1 : threads); ++i)
        workers.emplace_back(kernel, height, width, params, recurring(prev, curr, pairs));

    parallel_for((chains + run - 1) / run, share_rows ? 1 : threads, [&](std::ptrdiff_t task, int slot) {
        PreparedFrames<Params>& frames = workers[slot];
        frames.attach();
        const std::ptrdiff_t end = std::min((task + 1) * run * chain, pairs);
        double cold_misfit = 0.0; // of the last flow that started cold
        for (std::ptrdiff_t i = task * run * chain; i < end; ++i) {
            const bool begins = i % chain == 0;
            const float* from = frames.prepared(prev[i], begins, rows);
            const float* to = frames.prepared(curr[i], begins, rows);
            float* out = flow + i * field;
            const auto misfit = [&](const float* of) { return kernel.misfit(from, to, of, height, width, params); };
            // The flow before still fits when it explains the pair about as well as flows of the chain do, and no worse
            // than rest does: beyond a cut it fails the first, after the last pair across a cut the second.
            const bool warm = !begins && misfit(out - field) <= 1.5 * std::min(cold_misfit, misfit(nullptr)) + 0.5;
            if (warm) {
                std::memcpy(out, out - field, field * sizeof(float));
            } else {
                from = frames.prepared(prev[i], true, rows);
                to = frames.prepared(curr[i], true, rows);
            }
            kernel.solve(from, to, out, use_initial || warm, height, width, warm ? kernel.resumed(params) : params,
                         frames.scratch(), rows);
            if (chain > 1 && !warm) cold_misfit = misfit(out);
        }
    });
}

} // namespace mmme
