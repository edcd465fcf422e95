#include "dispatch.hpp"

#include <atomic>

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#endif

namespace mmme {

#ifdef MMME_HAVE_avx512
namespace avx512 {
extern const Kernels kernels;
}
#endif
#ifdef MMME_HAVE_avx2
namespace avx2 {
extern const Kernels kernels;
}
#endif
namespace baseline {
extern const Kernels kernels;
}

namespace {

#if defined(MMME_HAVE_avx2)
#if defined(_MSC_VER) && !defined(__clang__)
bool cpu_bits(int leaf, int reg, unsigned mask) {
    int out[4];
    __cpuidex(out, leaf, 0);
    return (static_cast<unsigned>(out[reg]) & mask) == mask;
}
bool os_saves(unsigned long long mask) {
    return cpu_bits(1, 2, 1u << 27) && (_xgetbv(0) & mask) == mask;
}
bool has_avx2() {
    constexpr unsigned fma_movbe_f16c = 1u << 12 | 1u << 22 | 1u << 29, bmi1_avx2_bmi2 = 1u << 3 | 1u << 5 | 1u << 8;
    return os_saves(0x6) && cpu_bits(1, 2, fma_movbe_f16c) && cpu_bits(7, 1, bmi1_avx2_bmi2);
}
bool has_avx512() {
    constexpr unsigned f_dq_cd_bw_vl = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    return has_avx2() && os_saves(0xe6) && cpu_bits(7, 1, f_dq_cd_bw_vl);
}
#else
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
#ifdef MMME_EMULATE_AVX512
    return has_avx2();
#else
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
}
#endif
#endif

std::atomic<const Kernels*> chosen{nullptr};

} // namespace

std::vector<const Kernels*> supported() {
    std::vector<const Kernels*> tables;
#ifdef MMME_HAVE_avx512
    if (has_avx512()) tables.push_back(&avx512::kernels);
#endif
#ifdef MMME_HAVE_avx2
    if (has_avx2()) tables.push_back(&avx2::kernels);
#endif
    tables.push_back(&baseline::kernels);
    return tables;
}

const Kernels& active() {
    const Kernels* table = chosen.load(std::memory_order_relaxed);
    if (!table) {
        table = supported().front();
        chosen.store(table, std::memory_order_relaxed);
    }
    return *table;
}

bool use(std::string_view name) {
    for (const Kernels* table : supported())
        if (name == table->name) {
            chosen.store(table, std::memory_order_relaxed);
            return true;
        }
    return false;
}

} // namespace mmme
