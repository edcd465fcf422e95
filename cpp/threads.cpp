#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
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
#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(_M_ARM64)
#include <intrin.h>
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

// Tells the core that this thread only waits.
void relax() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(_M_ARM64)
    __yield();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

// Waits awake, about as long as sleeping and being woken takes on a busy machine; returns whether it is done. Whoever
// else wants the CPU is let in every microsecond or so: perhaps it is the one that is waited for.
template <class Done> bool awaited(Done&& done) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    do {
        for (int i = 0; i < 32; ++i) {
            if (done()) return true;
            relax();
        }
        std::this_thread::yield();
    } while (Clock::now() - begin < std::chrono::microseconds(200));
    return false;
}

} // namespace

// Threads that share the rows of pairs: the one that made it, which calls `meet`, and members who come when the pool
// has some to spare and stay for as long as meetings follow each other closely. Meetings depend on no member: what none
// has taken the caller does, and it waits only for what is under way. The last of them frees the memory, so that nobody
// waits for a member to notice that a team is dissolved.
class Team : public std::enable_shared_from_this<Team> {
public:
    static constexpr int most = 64; // threads: a bit each

    explicit Team(int threads) : everyone_(~std::uint64_t{0} >> (most - threads)) {}

    void meet(int count, int pieces, void (*body)(void*, int, int), void* self) {
        count_ = count;
        pieces_ = pieces;
        body_ = body;
        self_ = self;
        unfinished_.store(pieces, std::memory_order_relaxed);
        open_.store(~std::uint64_t{0} >> (most - pieces), std::memory_order_release);
        if (members_.load(std::memory_order_relaxed) != everyone_ && !called_.load(std::memory_order_relaxed)) call();
        inside = true;
        take(0);
        inside = false;
        const auto finished = [&] { return unfinished_.load(std::memory_order_acquire) == 0; };
        if (awaited(finished)) return;
        std::unique_lock lock(mutex_);
        finished_.wait(lock, finished);
    }
    void call();
    void dissolve();

    // What a member does until meetings end or are too far between.
    void serve(int member) {
        inside = true;
        const auto over = [&] { return over_.load(std::memory_order_relaxed); };
        while (awaited([&] { return open_.load(std::memory_order_relaxed) || over(); }) && !over()) take(member);
        inside = false;
    }

    // Under the pool's mutex.
    int join() {
        const int member = std::countr_one(members_.load());
        members_ |= std::uint64_t{1} << member;
        return member;
    }
    void leave(int member) { members_ &= ~(std::uint64_t{1} << member); }
    bool full() const { return members_ == everyone_; }
    void called(bool yes) { called_ = yes; }

private:
    // A member takes the same piece of every meeting if it can, whose rows are in its cache.
    void take(int member) {
        const std::uint64_t own = std::uint64_t{1} << member;
        while (const std::uint64_t seen = open_.load(std::memory_order_relaxed)) {
            const std::uint64_t bit = seen & own ? own : seen & (~seen + 1);
            if (!(open_.fetch_and(~bit, std::memory_order_acquire) & bit)) continue; // another was faster
            const std::ptrdiff_t piece = std::countr_zero(bit);
            const auto edge = [&](std::ptrdiff_t i) { return static_cast<int>(count_ * i / pieces_); };
            body_(self_, edge(piece), edge(piece + 1));
            if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1 && member != 0) {
                { // the caller is not about to sleep: it does, or has seen that it need not
                    std::lock_guard lock(mutex_);
                }
                finished_.notify_one();
            }
        }
    }

    // The meeting: written before `open_`, which says what pieces nobody has taken.
    int count_ = 0, pieces_ = 0;
    void (*body_)(void*, int, int) = nullptr;
    void* self_ = nullptr;
    const std::uint64_t everyone_;
    std::atomic<std::uint64_t> members_{1};
    std::atomic<bool> called_{false}; // the pool knows that members are wanted
    std::atomic<bool> over_{false};
    std::mutex mutex_{};
    std::condition_variable finished_{};
    std::atomic<std::uint64_t> open_{0};
    std::atomic<int> unfinished_{0};
};

namespace {

class Pool {
public:
    void run(Job& job) {
        {
            std::lock_guard lock(mutex_);
            grow(job.threads - 1);
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

    void call(std::shared_ptr<Team> team, int workers) {
        {
            std::lock_guard lock(mutex_);
            grow(workers);
            team->called(true);
            teams_.push_back(std::move(team));
        }
        wake_.notify_all();
    }
    void call_off(const std::shared_ptr<Team>& team) {
        std::lock_guard lock(mutex_);
        settle(team);
    }

private:
    void grow(int workers) {
        for (; workers_ < workers; ++workers_) std::thread([this] { work(); }).detach();
    }

    [[noreturn]] void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return !jobs_.empty() || !teams_.empty(); });
            jobs_.empty() ? serve(lock) : help(lock);
        }
    }

    void help(std::unique_lock<std::mutex>& lock) {
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

    void serve(std::unique_lock<std::mutex>& lock) {
        const std::shared_ptr<Team> team = teams_.front();
        const int member = team->join();
        if (team->full()) settle(team);
        lock.unlock();
        team->serve(member);
        lock.lock();
        team->leave(member);
        settle(team); // there is nothing to do just now: whoever misses members will call again
    }

    void settle(const std::shared_ptr<Team>& team) {
        std::erase(teams_, team);
        team->called(false);
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<Job*> jobs_;
    std::vector<std::shared_ptr<Team>> teams_; // that want members
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
    const int pieces = std::min(count, rows.threads);
    if (pieces <= 1 || inside)
        body(self, 0, count);
    else
        static_cast<Team*>(rows.team)->meet(count, pieces, body, self);
}

// Large memory asks for pages of 2 MB: a processor remembers where some 2,000 pages are, and the coefficients of two
// frames of 512 x 512 take more of 4 KB.
constexpr std::size_t cache_line = 64, large_page = 2u << 20;

Scratch allocated(std::size_t floats) {
    const std::size_t bytes = floats * sizeof(float), pages = bytes / large_page;
    const std::align_val_t alignment{pages > 0 ? large_page : cache_line};
    const Scratch memory(new (alignment) float[floats], [alignment](float* p) { ::operator delete[](p, alignment); });
#if defined(MADV_HUGEPAGE)
    if (pages > 0) madvise(memory.get(), pages * large_page, MADV_HUGEPAGE); // as good as no answer if it fails
#endif
    return memory;
}

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

void Team::call() {
    try {
        pool().call(shared_from_this(), std::popcount(everyone_) - 1);
    } catch (const std::exception&) {
        called_ = true; // no more threads are to be had: go on with those there are
    }
}

void Team::dissolve() {
    over_ = true;
    if (called_) pool().call_off(shared_from_this());
}

RowSharing::RowSharing(int threads) {
    if (threads > 1 && !inside) team_ = std::make_shared<Team>(threads_ = std::min(threads, Team::most));
}

RowSharing::~RowSharing() {
    if (team_) team_->dissolve();
}

Rows RowSharing::rows() const {
    return {run_rows, threads_, team_.get()};
}

Scratch scratch(std::size_t floats) {
    ++uses;
    Workspace& own = own_workspace();
    std::lock_guard lock(workspaces_mutex);
    if (floats > own.size) {
        own = {}; // first, so that the old and the new never add up
        own.memory = allocated(floats);
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
