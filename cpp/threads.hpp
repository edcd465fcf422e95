// One lazy pool of threads for the whole process, and the scratch memory of every thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels.hpp"

namespace mmme {

// Refers to the caller's function object, so that sharing out work allocates nothing.
class Task {
public:
    template <class Body>
    Task(const Body& body)
        : body_(&body), call_([](const void* self, std::ptrdiff_t task, int slot) {
              (*static_cast<const Body*>(self))(task, slot);
          }) {}
    void operator()(std::ptrdiff_t task, int slot) const { call_(body_, task, slot); }

private:
    const void* body_;
    void (*call_)(const void* self, std::ptrdiff_t task, int slot);
};

// Calls body(task, slot) for every task in 0..tasks, on at most `threads` threads with slots 0..threads-1; a slot is
// used by one thread at a time. The calling thread takes part, so the call ends even when every pool thread is busy.
// Nested calls run in place. The first exception is rethrown. After a fork the child starts a pool of its own.
void parallel_for(std::ptrdiff_t tasks, int threads, Task body);

// The means to share the rows of pairs, one pair after the other, among the calling thread and as many as the pool has
// to spare, `threads` in all. While it lasts they wait for each other awake, if not for long: kernels meet so often
// that waking one each time would cost what is gained. Nobody is woken, and nothing but memory for it is taken, before
// a kernel has rows to share. What kernels do with rows must not throw.
class Team;
class RowSharing {
public:
    explicit RowSharing(int threads);
    ~RowSharing();
    RowSharing(const RowSharing&) = delete;
    RowSharing& operator=(const RowSharing&) = delete;
    Rows rows() const; // for the calling thread

private:
    int threads_ = 1;
    std::shared_ptr<Team> team_{};
};

// Scratch memory of the calling thread, 64-byte aligned, without promise of content; one use of it at a time. The
// thread keeps it between calls, and it grows. It holds what a use left there when the next use is given the same
// memory; scratch_uses() counts the thread's uses.
using Scratch = std::shared_ptr<float[]>;
Scratch scratch(std::size_t floats);
std::uint64_t scratch_uses();

// Frees what threads keep; what is in use goes when its last owner lets go of it.
void release_scratch();

} // namespace mmme
