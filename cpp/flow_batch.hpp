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

inline std::size_t bytes_of(Pixel pixel) {
    return pixel == Pixel::u8 ? 1 : pixel == Pixel::u16 ? 2 : 4;
}

// Prepared frames to keep, so that pairs taken in turn find every frame that recurs. More would be cold memory.
inline std::ptrdiff_t recurring(const Film& prev, const Film& curr, std::ptrdiff_t pairs) {
    const std::ptrdiff_t step = prev.frame_bytes;
    if (step == 0 || step != curr.frame_bytes) return 2;
    const auto apart = reinterpret_cast<std::intptr_t>(curr.data) - reinterpret_cast<std::intptr_t>(prev.data);
    const std::ptrdiff_t lag = apart / step; // curr[i] is prev[i + lag]
    if (apart % step != 0 || lag == 0 || std::abs(lag) >= pairs) return 2;
    return lag > 0 ? 2 * lag : 1 - 2 * lag; // behind prev, a pair's new frame comes before the one kept for it
}

// The prepared frames one thread keeps, least recently used out first. Within a call a frame is known by where and how
// it lies; from one call to the next by its pixels, so that films that come pair by pair have each frame prepared once
// as well.
template <class Params> class PreparedFrames {
public:
    // Those of the calling thread, as they are at the beginning of a call; `memory` must live as long as they are used.
    static PreparedFrames& of_thread(const FlowKernel<Params>& kernel, int height, int width, std::size_t pixel_bytes,
                                     const Params& params, std::ptrdiff_t frames, Scratch& memory) {
        thread_local PreparedFrames own;
        own.begin({&kernel, height, width, pixel_bytes, params}, frames, memory);
        return own;
    }

    float* scratch() { return memory_; }

    // whole: ready for a cold start; otherwise at least for the kernel's resumed() parameters and misfit().
    const float* prepared(const Image& image, bool whole, const Rows& rows) {
        Entry& entry = entry_of(image);
        entry.used = ++clock_;
        if (entry.state < (whole ? State::whole : State::part)) {
            entry.state = whole ? State::whole : State::part;
            const FlowKernel<Params>& kernel = *job_.kernel;
            kernel.prepare(image, job_.height, job_.width, whole ? job_.params : kernel.resumed(job_.params),
                           entry.frame, scratch(), rows);
        }
        return entry.frame;
    }

private:
    static constexpr std::size_t budget = 8u << 20; // floats: 32 MB a thread
    static std::size_t align(std::size_t floats) { return (floats + 15) / 16 * 16; }

    // What all frames have in common.
    struct Job {
        const FlowKernel<Params>* kernel;
        int height, width;
        std::size_t pixel_bytes; // at most
        Params params;

        bool operator==(const Job&) const = default;
    };
    enum class State { empty, part, whole };
    struct Entry {
        Image image; // its data is null before the frame is met in this call
        float* frame;
        char* pixels;
        std::uint64_t used;
        State state;
    };

    void begin(const Job& job, std::ptrdiff_t frames, Scratch& memory) {
        const std::size_t scratch_size = align(job.kernel->scratch_size(job.height, job.width, job.params));
        const std::size_t bytes = job.pixel_bytes * job.height * job.width;
        frame_size_ = align(job.kernel->frame_size(job.height, job.width, job.params));
        entry_size_ = frame_size_ + align((bytes + sizeof(float) - 1) / sizeof(float));
        capacity_ = std::max<std::size_t>(2, std::min<std::size_t>(frames, budget / entry_size_));
        memory = mmme::scratch(scratch_size + capacity_ * entry_size_);
        // Untouched since the last call on this thread, when they are of the same kind.
        if (!(job_ == job && left_.lock() == memory && scratch_uses() == uses_ + 1)) entries_.clear();
        for (Entry& entry : entries_) entry.image.data = nullptr;
        entries_.reserve(capacity_);
        job_ = job;
        left_ = memory;
        uses_ = scratch_uses();
        memory_ = memory.get();
        first_ = memory_ + scratch_size;
    }

    Entry& entry_of(const Image& image) {
        for (Entry& entry : entries_)
            if (entry.image == image) return entry;
        for (Entry& entry : entries_)
            if (!entry.image.data && holds(entry, image)) {
                entry.image = image;
                return entry;
            }
        if (entries_.size() < capacity_) {
            float* frame = first_ + entries_.size() * entry_size_;
            entries_.push_back({{}, frame, reinterpret_cast<char*>(frame + frame_size_), 0, State::empty});
        } else {
            std::swap(*std::min_element(entries_.begin(), entries_.end(),
                                        [](const Entry& a, const Entry& b) { return a.used < b.used; }),
                      entries_.back());
        }
        Entry& entry = entries_.back();
        entry.image = image;
        entry.state = State::empty;
        const std::size_t row = row_bytes(image);
        for (int y = 0; y < job_.height; ++y) std::memcpy(entry.pixels + y * row, row_of(image, y), row);
        return entry;
    }

    bool holds(const Entry& entry, const Image& image) const {
        if (entry.image.pixel != image.pixel) return false;
        const std::size_t row = row_bytes(image);
        for (int y = 0; y < job_.height; ++y)
            if (std::memcmp(entry.pixels + y * row, row_of(image, y), row) != 0) return false;
        return true;
    }

    std::size_t row_bytes(const Image& image) const { return bytes_of(image.pixel) * job_.width; }
    static const char* row_of(const Image& image, int y) {
        return static_cast<const char*>(image.data) + y * image.row_bytes;
    }

    Job job_{};
    std::size_t frame_size_ = 0, entry_size_ = 0, capacity_ = 0; // floats, floats, frames
    std::weak_ptr<float[]> left_{};                              // the memory of the last call on this thread
    std::uint64_t uses_ = 0, clock_ = 0;
    float *memory_ = nullptr, *first_ = nullptr; // during a call
    std::vector<Entry> entries_{};
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
    const RowSharing sharing(share_rows ? threads : 1);
    const Rows rows = sharing.rows();

    struct Worker {
        PreparedFrames<Params>* frames = nullptr;
        Scratch memory{};
    };
    std::vector<Worker> workers(share_rows ? 1 : threads);

    parallel_for((chains + run - 1) / run, share_rows ? 1 : threads, [&](std::ptrdiff_t task, int slot) {
        Worker& worker = workers[slot];
        if (!worker.frames)
            worker.frames = &PreparedFrames<Params>::of_thread(kernel, height, width,
                                                               std::max(bytes_of(prev.pixel), bytes_of(curr.pixel)),
                                                               params, recurring(prev, curr, pairs), worker.memory);
        PreparedFrames<Params>& frames = *worker.frames;
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
