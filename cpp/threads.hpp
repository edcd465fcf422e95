// One lazy pool of threads for the whole process.
#pragma once

#include <cstddef>
#include <functional>

#include "kernels.hpp"

namespace mmme {

// Calls body(task, slot) for every task in 0..tasks, on at most `threads` threads with slots 0..threads-1; a slot is
// used by one thread at a time. The calling thread takes part, so the call ends even when every pool thread is busy.
// Nested calls run in place. The first exception is rethrown. After a fork the child starts a pool of its own.
void parallel_for(std::ptrdiff_t tasks, int threads, const std::function<void(std::ptrdiff_t task, int slot)>& body);

Rows rows_on(int threads);

// Scratch memory of the calling thread, 64-byte aligned, kept between calls; it grows and holds no promise of content.
float* scratch(std::size_t floats);

} // namespace mmme
