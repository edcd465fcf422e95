// The AVX-512 intrinsics that the kernels use, on halves of AVX2, to test those kernels on a CPU without AVX-512: with
// MMME_EMULATE_AVX512 the compiler includes this before each of their sources. As on a CPU that has them, an address
// that should be a multiple of 64 and is not ends the process.
#pragma once

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstdint>

#define __AVX512F__ 1
#define __AVX512DQ__ 1

namespace {

struct Halves {
    __m256 low, high;
};

template <class Step, class... More> inline __m512 by_halves(Step step, __m512 a, More... more) {
    return std::bit_cast<__m512>(Halves{step(std::bit_cast<Halves>(a).low, std::bit_cast<Halves>(more).low...),
                                        step(std::bit_cast<Halves>(a).high, std::bit_cast<Halves>(more).high...)});
}

inline const float* aligned(const float* p) {
    if (reinterpret_cast<std::uintptr_t>(p) % 64 != 0) __builtin_trap();
    return p;
}

inline __m512 emulated_loadu(const float* p) {
    return std::bit_cast<__m512>(Halves{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)});
}
inline void emulated_storeu(float* p, __m512 a) {
    _mm256_storeu_ps(p, std::bit_cast<Halves>(a).low);
    _mm256_storeu_ps(p + 8, std::bit_cast<Halves>(a).high);
}

inline __mmask16 emulated_equal(__m512 a, __m512 b) {
    const auto equal = [](__m256 x, __m256 y) { return _mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_EQ_OQ)); };
    const Halves x = std::bit_cast<Halves>(a), y = std::bit_cast<Halves>(b);
    return static_cast<__mmask16>(equal(x.low, y.low) | equal(x.high, y.high) << 8);
}

// No better than the instruction, whose relative error may be 2^-14.
inline __m256 estimated_reciprocal(__m256 a) {
    const __m256 r = _mm256_div_ps(_mm256_set1_ps(1.0f), a);
    return _mm256_and_ps(r, _mm256_castsi256_ps(_mm256_set1_epi32(~0x1ff)));
}

inline __m256 smaller_magnitude(__m256 a, __m256 b) { // with the sign of a
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256 magnitude = _mm256_min_ps(_mm256_andnot_ps(sign, b), _mm256_andnot_ps(sign, a));
    return _mm256_or_ps(magnitude, _mm256_and_ps(sign, a));
}

inline __m512 emulated_first(unsigned lanes, __m512 a) {
    for (int k = 0; k < 16; ++k) a[k] = lanes >> k & 1 ? a[k] : 0.0f;
    return a;
}

inline __m512 emulated_permute(__m512 low, __m512i places, __m512 high) {
    const auto place = std::bit_cast<std::array<std::uint32_t, 16>>(places);
    __m512 out = low;
    for (int k = 0; k < 16; ++k) out[k] = place[k] & 16 ? high[place[k] & 15] : low[place[k] & 15];
    return out;
}

} // namespace

// The compiler's header has functions of these names, which it does not let code for AVX2 call; some are macros there.
#define _mm512_load_ps(p) emulated_loadu(aligned(p))
#define _mm512_loadu_ps(p) emulated_loadu(p)
#define _mm512_store_ps(p, a) emulated_storeu(const_cast<float*>(aligned(p)), a)
#define _mm512_set1_ps(a) std::bit_cast<__m512>(Halves{_mm256_set1_ps(a), _mm256_set1_ps(a)})
#define _mm512_add_ps(a, b) ((a) + (b))
#define _mm512_sub_ps(a, b) ((a) - (b))
#define _mm512_mul_ps(a, b) ((a) * (b))
#define _mm512_div_ps(a, b) ((a) / (b))
#define _mm512_fmadd_ps(a, b, c) by_halves([](auto x, auto y, auto z) { return _mm256_fmadd_ps(x, y, z); }, a, b, c)
#define _mm512_fnmadd_ps(a, b, c) by_halves([](auto x, auto y, auto z) { return _mm256_fnmadd_ps(x, y, z); }, a, b, c)
#define _mm512_maskz_min_ps(all, a, b) by_halves([](auto x, auto y) { return _mm256_min_ps(x, y); }, a, b)
#define _mm512_maskz_max_ps(all, a, b) by_halves([](auto x, auto y) { return _mm256_max_ps(x, y); }, a, b)
#define _mm512_maskz_sqrt_ps(all, a) by_halves([](auto x) { return _mm256_sqrt_ps(x); }, a)
#define _mm512_maskz_rcp14_ps(all, a) by_halves(estimated_reciprocal, a)
#undef _mm512_maskz_roundscale_ps
#define _mm512_maskz_roundscale_ps(all, a, down) by_halves([](auto x) { return _mm256_floor_ps(x); }, a)
#undef _mm512_maskz_range_ps
#define _mm512_maskz_range_ps(all, a, bound, two) by_halves(smaller_magnitude, a, bound)
#define _mm512_maskz_mov_ps(mask, a) emulated_first(mask, a)
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask(a, b, equal) emulated_equal(a, b)
#define _mm512_cvtss_f32(a) ((a)[0])
#undef _mm512_maskz_extractf32x8_ps
#define _mm512_maskz_extractf32x8_ps(all, a, half)                                                                     \
    ((half) ? std::bit_cast<Halves>(a).high : std::bit_cast<Halves>(a).low)
#define _mm512_permutex2var_ps(low, places, high) emulated_permute(low, places, high)
