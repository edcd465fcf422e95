// The longest vector of floats that the instruction set has, where the compiler's own vectors would not do. Included
// only by kernel sources: internal linkage.
//
// Sums of products are spelled fma(), so that every instance of a template rounds alike; without such an instruction it
// is a multiplication and an addition.
#pragma once

#include "isa.hpp"

#include <cmath>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE4_1__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace mmme::MMME_ISA {
namespace {

#if defined(__AVX2__) || defined(__SSE4_1__) || defined(_M_X64)
MMME_INLINE float sum_of_four(__m128 a) {
    const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)

struct Vec {
    static constexpr int size = 16;
    __m512 v;
};

// GCC 12 warns of the unmasked forms: their header reads a variable that it leaves uninitialised on purpose.
constexpr __mmask16 all_lanes = 0xffff;

MMME_INLINE Vec load(const float* p) {
    return {_mm512_load_ps(p)};
}
MMME_INLINE Vec load_unaligned(const float* p) {
    return {_mm512_loadu_ps(p)};
}
MMME_INLINE void store(float* p, Vec a) {
    _mm512_store_ps(p, a.v);
}
MMME_INLINE Vec broadcast(float a) {
    return {_mm512_set1_ps(a)};
}
MMME_INLINE Vec operator+(Vec a, Vec b) {
    return {_mm512_add_ps(a.v, b.v)};
}
MMME_INLINE Vec operator-(Vec a, Vec b) {
    return {_mm512_sub_ps(a.v, b.v)};
}
MMME_INLINE Vec operator*(Vec a, Vec b) {
    return {_mm512_mul_ps(a.v, b.v)};
}
MMME_INLINE Vec operator/(Vec a, Vec b) {
    return {_mm512_div_ps(a.v, b.v)};
}
MMME_INLINE Vec fma(Vec a, Vec b, Vec c) {
    return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
MMME_INLINE Vec fnma(Vec a, Vec b, Vec c) {
    return {_mm512_fnmadd_ps(a.v, b.v, c.v)};
}
MMME_INLINE Vec min_of(Vec a, Vec b) {
    return {_mm512_maskz_min_ps(all_lanes, a.v, b.v)};
}
MMME_INLINE Vec max_of(Vec a, Vec b) {
    return {_mm512_maskz_max_ps(all_lanes, a.v, b.v)};
}
MMME_INLINE Vec sqrt(Vec a) {
    return {_mm512_maskz_sqrt_ps(all_lanes, a.v)};
}
// Within rounding: the estimate's 14 bits and a Newton step, which leave the divider to the square roots.
MMME_INLINE Vec reciprocal(Vec a) {
    const __m512 r = _mm512_maskz_rcp14_ps(all_lanes, a.v);
    return {_mm512_mul_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(2.0f)))};
}
MMME_INLINE Vec floor(Vec a) {
    return {_mm512_maskz_roundscale_ps(all_lanes, a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
}
MMME_INLINE float first_lane(Vec a) {
    return _mm512_cvtss_f32(a.v);
}
MMME_INLINE float sum(Vec a) {
    const __m256 b =
        _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, a.v, 0), _mm512_maskz_extractf32x8_ps(0xff, a.v, 1));
    return sum_of_four(_mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1)));
}
MMME_INLINE bool all_equal(Vec a, Vec b) {
    return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ) == all_lanes;
}
// a limited to -bound..bound
MMME_INLINE Vec limit(Vec a, Vec bound) {
    return {_mm512_maskz_range_ps(all_lanes, a.v, bound.v, 2)}; // the smaller magnitude with the sign of a
}
// a in the first `count` lanes, then 0
MMME_INLINE Vec first_lanes(Vec a, int count) {
    return {_mm512_maskz_mov_ps(static_cast<__mmask16>((1u << count) - 1), a.v)};
}

#elif defined(__AVX2__)

struct Vec {
    static constexpr int size = 8;
    __m256 v;
};

MMME_INLINE Vec load(const float* p) {
    return {_mm256_load_ps(p)};
}
MMME_INLINE Vec load_unaligned(const float* p) {
    return {_mm256_loadu_ps(p)};
}
MMME_INLINE void store(float* p, Vec a) {
    _mm256_store_ps(p, a.v);
}
MMME_INLINE Vec broadcast(float a) {
    return {_mm256_set1_ps(a)};
}
MMME_INLINE Vec operator+(Vec a, Vec b) {
    return {_mm256_add_ps(a.v, b.v)};
}
MMME_INLINE Vec operator-(Vec a, Vec b) {
    return {_mm256_sub_ps(a.v, b.v)};
}
MMME_INLINE Vec operator*(Vec a, Vec b) {
    return {_mm256_mul_ps(a.v, b.v)};
}
MMME_INLINE Vec operator/(Vec a, Vec b) {
    return {_mm256_div_ps(a.v, b.v)};
}
MMME_INLINE Vec fma(Vec a, Vec b, Vec c) {
    return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
MMME_INLINE Vec fnma(Vec a, Vec b, Vec c) {
    return {_mm256_fnmadd_ps(a.v, b.v, c.v)};
}
MMME_INLINE Vec min_of(Vec a, Vec b) {
    return {_mm256_min_ps(a.v, b.v)};
}
MMME_INLINE Vec max_of(Vec a, Vec b) {
    return {_mm256_max_ps(a.v, b.v)};
}
MMME_INLINE Vec sqrt(Vec a) {
    return {_mm256_sqrt_ps(a.v)};
}
MMME_INLINE Vec reciprocal(Vec a) {
    const __m256 r = _mm256_rcp_ps(a.v); // 12 bits
    return {_mm256_mul_ps(r, _mm256_fnmadd_ps(a.v, r, _mm256_set1_ps(2.0f)))};
}
MMME_INLINE Vec floor(Vec a) {
    return {_mm256_floor_ps(a.v)};
}
MMME_INLINE float first_lane(Vec a) {
    return _mm256_cvtss_f32(a.v);
}
MMME_INLINE float sum(Vec a) {
    return sum_of_four(_mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1)));
}
MMME_INLINE bool all_equal(Vec a, Vec b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)) == 0xff;
}
MMME_INLINE Vec limit(Vec a, Vec bound) {
    return max_of(min_of(a, bound), {_mm256_sub_ps(_mm256_setzero_ps(), bound.v)});
}
MMME_INLINE Vec first_lanes(Vec a, int count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return {_mm256_and_ps(a.v, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane)))};
}

#elif defined(__SSE4_1__) || defined(_M_X64)

struct Vec {
    static constexpr int size = 4;
    __m128 v;
};

MMME_INLINE Vec load(const float* p) {
    return {_mm_load_ps(p)};
}
MMME_INLINE Vec load_unaligned(const float* p) {
    return {_mm_loadu_ps(p)};
}
MMME_INLINE void store(float* p, Vec a) {
    _mm_store_ps(p, a.v);
}
MMME_INLINE Vec broadcast(float a) {
    return {_mm_set1_ps(a)};
}
MMME_INLINE Vec operator+(Vec a, Vec b) {
    return {_mm_add_ps(a.v, b.v)};
}
MMME_INLINE Vec operator-(Vec a, Vec b) {
    return {_mm_sub_ps(a.v, b.v)};
}
MMME_INLINE Vec operator*(Vec a, Vec b) {
    return {_mm_mul_ps(a.v, b.v)};
}
MMME_INLINE Vec operator/(Vec a, Vec b) {
    return {_mm_div_ps(a.v, b.v)};
}
MMME_INLINE Vec fma(Vec a, Vec b, Vec c) {
    return a * b + c;
}
MMME_INLINE Vec fnma(Vec a, Vec b, Vec c) {
    return c - a * b;
}
MMME_INLINE Vec min_of(Vec a, Vec b) {
    return {_mm_min_ps(a.v, b.v)};
}
MMME_INLINE Vec max_of(Vec a, Vec b) {
    return {_mm_max_ps(a.v, b.v)};
}
MMME_INLINE Vec sqrt(Vec a) {
    return {_mm_sqrt_ps(a.v)};
}
MMME_INLINE Vec reciprocal(Vec a) {
    return {_mm_div_ps(_mm_set1_ps(1.0f), a.v)};
}
MMME_INLINE Vec floor(Vec a) {
    return {_mm_floor_ps(a.v)};
}
MMME_INLINE float first_lane(Vec a) {
    return _mm_cvtss_f32(a.v);
}
MMME_INLINE float sum(Vec a) {
    return sum_of_four(a.v);
}
MMME_INLINE bool all_equal(Vec a, Vec b) {
    return _mm_movemask_ps(_mm_cmpeq_ps(a.v, b.v)) == 0xf;
}
MMME_INLINE Vec limit(Vec a, Vec bound) {
    return max_of(min_of(a, bound), {_mm_sub_ps(_mm_setzero_ps(), bound.v)});
}
MMME_INLINE Vec first_lanes(Vec a, int count) {
    const __m128i lane = _mm_setr_epi32(0, 1, 2, 3);
    return {_mm_and_ps(a.v, _mm_castsi128_ps(_mm_cmpgt_epi32(_mm_set1_epi32(count), lane)))};
}

#else

struct Vec {
    static constexpr int size = 4;
    alignas(16) float v[size];
};

template <class Lane> MMME_INLINE Vec each_lane(Lane&& lane) {
    Vec r;
    for (int k = 0; k < Vec::size; ++k) r.v[k] = lane(k);
    return r;
}
MMME_INLINE Vec load(const float* p) {
    return each_lane([&](int k) { return p[k]; });
}
MMME_INLINE Vec load_unaligned(const float* p) {
    return load(p);
}
MMME_INLINE void store(float* p, Vec a) {
    for (int k = 0; k < Vec::size; ++k) p[k] = a.v[k];
}
MMME_INLINE Vec broadcast(float a) {
    return each_lane([&](int) { return a; });
}
MMME_INLINE Vec operator+(Vec a, Vec b) {
    return each_lane([&](int k) { return a.v[k] + b.v[k]; });
}
MMME_INLINE Vec operator-(Vec a, Vec b) {
    return each_lane([&](int k) { return a.v[k] - b.v[k]; });
}
MMME_INLINE Vec operator*(Vec a, Vec b) {
    return each_lane([&](int k) { return a.v[k] * b.v[k]; });
}
MMME_INLINE Vec operator/(Vec a, Vec b) {
    return each_lane([&](int k) { return a.v[k] / b.v[k]; });
}
MMME_INLINE Vec fma(Vec a, Vec b, Vec c) {
    return each_lane([&](int k) { return a.v[k] * b.v[k] + c.v[k]; });
}
MMME_INLINE Vec fnma(Vec a, Vec b, Vec c) {
    return each_lane([&](int k) { return c.v[k] - a.v[k] * b.v[k]; });
}
MMME_INLINE Vec min_of(Vec a, Vec b) {
    return each_lane([&](int k) { return a.v[k] < b.v[k] ? a.v[k] : b.v[k]; });
}
MMME_INLINE Vec max_of(Vec a, Vec b) {
    return each_lane([&](int k) { return a.v[k] > b.v[k] ? a.v[k] : b.v[k]; });
}
MMME_INLINE Vec sqrt(Vec a) {
    return each_lane([&](int k) { return std::sqrt(a.v[k]); });
}
MMME_INLINE Vec reciprocal(Vec a) {
    return broadcast(1.0f) / a;
}
MMME_INLINE Vec floor(Vec a) {
    return each_lane([&](int k) { return std::floor(a.v[k]); });
}
MMME_INLINE float first_lane(Vec a) {
    return a.v[0];
}
MMME_INLINE float sum(Vec a) {
    return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}
MMME_INLINE bool all_equal(Vec a, Vec b) {
    bool equal = true;
    for (int k = 0; k < Vec::size; ++k) equal &= a.v[k] == b.v[k];
    return equal;
}
MMME_INLINE Vec limit(Vec a, Vec bound) {
    return max_of(min_of(a, bound), broadcast(0.0f) - bound);
}
MMME_INLINE Vec first_lanes(Vec a, int count) {
    return each_lane([&](int k) { return k < count ? a.v[k] : 0.0f; });
}

#endif

MMME_INLINE Vec lane_numbers() {
    alignas(64) static constexpr float numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(numbers);
}

} // namespace
} // namespace mmme::MMME_ISA
