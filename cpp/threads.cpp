#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace mmme {
namespace {

thread_local bool inside = false; // this thread is running tasks: a nested call runs in place
thread_local std::uint64_t uses = 0;

struct Job {
    Task body;
    std::ptrdiff_t tasks;
    int threads;
    std::atomic<std::ptrdiff_t> next{0};
    int joined = 1, helping = 0; // both under the pool's mutex
    std::exception_ptr error{};  // likewise

    std::exception_ptr work(int slot) {
        inside = true;
        std::exception_ptr caught;
        try {
            for (std::ptrdiff_t task; (task = next.fetch_add(1)) < tasks;) body(task, slot);
        } catch (...) {
            caught = std::current_exception();
            next = tasks;
        }
        inside = false;
        return caught;
    }
};

class Pool {
public:
    void run(Job& job) {
        {
            std::lock_guard lock(mutex_);
            while (workers_ < job.threads - 1) {
                std::thread([this] { work(); }).detach();
                ++workers_;
            }
            jobs_.push_back(&job);
        }
        wake_.notify_all();
        std::exception_ptr error = job.work(0);
        std::unique_lock lock(mutex_);
        std::erase(jobs_, &job);
        done_.wait(lock, [&] { return job.helping == 0; });
        if (!error) error = job.error;
        if (error) std::rethrow_exception(error);
    }

private:
    [[noreturn]] void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return !jobs_.empty(); });
            Job& job = *jobs_.front();
            const int slot = job.joined++;
            ++job.helping;
            if (job.joined == job.threads) jobs_.erase(jobs_.begin());
            lock.unlock();
            std::exception_ptr error = job.work(slot);
            lock.lock();
            if (error && !job.error) job.error = error;
            std::erase(jobs_, &job); // no task is left: nobody else need join
            if (--job.helping == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<Job*> jobs_;
    int workers_ = 0;
};

// Never destroyed: its threads wait for work until the process ends. A forked child has none of them, and may have
// inherited a locked mutex, so it forgets the pool and makes its own.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
    Pool* found = the_pool.load();
    if (!found) {
        auto fresh = std::make_unique<Pool>();
        if (the_pool.compare_exchange_strong(found, fresh.get())) found = fresh.release();
    }
    return *found;
}

// What one thread keeps. All are listed, so that release_scratch() reaches those of idle threads.
struct Workspace {
    Scratch memory{};
    std::size_t size = 0;
};

std::mutex workspaces_mutex;
auto& workspaces = *new std::vector<std::weak_ptr<Workspace>>; // never destroyed: threads may outlive other statics

Workspace& own_workspace() {
    thread_local const std::shared_ptr<Workspace> own = [] {
        auto fresh = std::make_shared<Workspace>();
        std::lock_guard lock(workspaces_mutex);
        std::erase_if(workspaces, [](const auto& workspace) { return workspace.expired(); });
        workspaces.push_back(fresh);
        return fresh;
    }();
    return *own;
}

#if !defined(_WIN32)
void before_fork() {
    workspaces_mutex.lock(); // no other thread is in the midst of changing the list
}

void after_fork() {
    workspaces_mutex.unlock();
}

[[maybe_unused]] const int at_fork = pthread_atfork(before_fork, after_fork, [] {
    after_fork();
    the_pool = nullptr;
    inside = false;
});
#endif

void run_rows(const Rows& rows, int count, void (*body)(void*, int, int), void* self) {
    const int bands = std::min(count, rows.threads);
    parallel_for(bands, rows.threads, [&](std::ptrdiff_t band, int) {
        const auto edge = [&](std::ptrdiff_t i) { return static_cast<int>(count * i / bands); };
        body(self, edge(band), edge(band + 1));
    });
}

struct AlignedDelete {
    void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};

} // namespace

void parallel_for(std::ptrdiff_t tasks, int threads, Task body) {
    threads = static_cast<int>(std::min<std::ptrdiff_t>(threads, tasks));
    if (threads <= 1 || inside) {
        for (std::ptrdiff_t task = 0; task < tasks; ++task) body(task, 0);
        return;
    }
    Job job{body, tasks, threads};
    pool().run(job);
}

Rows rows_on(int threads) {
    return {run_rows, threads};
}

Scratch scratch(std::size_t floats) {
    ++uses;
    Workspace& own = own_workspace();
    std::lock_guard lock(workspaces_mutex);
    if (floats > own.size) {
        own = {}; // first, so that the old and the new never add up
        own.memory.reset(new (std::align_val_t{64}) float[floats], AlignedDelete{});
        own.size = floats;
    }
    return own.memory;
}

std::uint64_t scratch_uses() {
    return uses;
}

void release_scratch() {
    std::lock_guard lock(workspaces_mutex);
    for (const auto& workspace : workspaces)
        if (const auto found = workspace.lock()) *found = {};
}

} // namespace mmme
