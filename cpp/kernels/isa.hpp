// What the kernel sources share: the namespace of the instruction set they are compiled for, and hints to the compiler.
//
// Everything here and in the sources has internal linkage or lives in mmme::MMME_ISA: an inline function with a common
// name, compiled with AVX, could be picked by the linker for every CPU.
#pragma once

#include "../kernels.hpp"

// MMME_IVDEP and MMME_LANES stand before a loop that must become vector instructions; a test finds them in the built
// objects. MMME_IVDEP: the iterations do not depend on each other. MMME_LANES: and are so few that the compiler would
// otherwise unroll them into scalars.
#if defined(_MSC_VER) && !defined(__clang__)
#define MMME_RESTRICT __restrict
#define MMME_IVDEP __pragma(loop(ivdep))
#define MMME_LANES __pragma(loop(ivdep))
#define MMME_UNROLL
#define MMME_INLINE static __forceinline
#define MMME_INLINED
#define MMME_NOINLINE __declspec(noinline)
#else
#define MMME_RESTRICT __restrict__
#define MMME_INLINE static inline __attribute__((always_inline))
#define MMME_INLINED __attribute__((always_inline)) // of a lambda, after its parameters
#define MMME_NOINLINE __attribute__((noinline))
#define MMME_UNROLL _Pragma("GCC unroll 32")
#ifdef __clang__
#define MMME_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#define MMME_LANES _Pragma("clang loop vectorize(assume_safety)")
#else
#define MMME_IVDEP _Pragma("GCC ivdep")
#define MMME_LANES _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#endif
#endif

#if defined(__GNUC__) || defined(__clang__)
#define MMME_PREFETCH(address) __builtin_prefetch(address)
#else
#define MMME_PREFETCH(address) static_cast<void>(address)
#endif

// a * b + c in one rounding where the CPU has it, on every path alike; the compiler may not choose.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MMME_FUSED(a, b, c) __builtin_fmaf(a, b, c)
#else
#define MMME_FUSED(a, b, c) ((a) * (b) + (c))
#endif

// `typedef float Vec MMME_VECTOR(MMME_VECTOR_BYTES);` is a vector of the instruction set's full width, at any address.
// Where a compiler has no such types the macros are missing, and a source needs another way.
#if defined(__GNUC__) || defined(__clang__)
#if defined(__AVX512F__)
#define MMME_VECTOR_BYTES 64
#elif defined(__AVX__)
#define MMME_VECTOR_BYTES 32
#else
#define MMME_VECTOR_BYTES 16
#endif
#define MMME_VECTOR(bytes) __attribute__((vector_size(bytes), aligned(sizeof(float)), may_alias))
#endif
#ifdef MMME_VECTOR
#define MMME_VECTOR_LANES (MMME_VECTOR_BYTES / 4)
#else
#define MMME_VECTOR_LANES 1
#endif

namespace mmme::MMME_ISA {

std::size_t tvl1_frame_size(int height, int width, const TVL1&);
std::size_t tvl1_scratch_size(int height, int width, const TVL1&);
void tvl1_prepare(const Image&, int height, int width, const TVL1&, float* frame, float* scratch, const Rows&);
void tvl1_solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width, const TVL1&,
                float* scratch, const Rows&);
TVL1 tvl1_resumed(const TVL1&);
double tvl1_misfit(const float* prev, const float* curr, const float* flow, int height, int width, const TVL1&);

std::size_t farneback_frame_size(int height, int width, const Farneback&);
std::size_t farneback_scratch_size(int height, int width, const Farneback&);
void farneback_prepare(const Image&, int height, int width, const Farneback&, float* frame, float* scratch,
                       const Rows&);
void farneback_solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width,
                     const Farneback&, float* scratch, const Rows&);

std::size_t dis_frame_size(int height, int width, const DIS&);
std::size_t dis_scratch_size(int height, int width, const DIS&);
void dis_prepare(const Image&, int height, int width, const DIS&, float* frame, float* scratch, const Rows&);
void dis_solve(const float* prev, const float* curr, float* flow, bool use_initial, int height, int width, const DIS&,
               float* scratch, const Rows&);

void strain(const float* flow, float* out, int height, int width, const Strain&);
std::size_t block_means_scratch(int width, int channels);
void block_means(const float* values, float* out, int height, int width, int channels, int rows, int columns,
                 float* scratch);
std::size_t lbp_scratch(int width, int columns);
void lbp(const float* frame, float* out, int height, int width, int rows, int columns, float* scratch);
void chi_square(const float* before, const float* at, const float* after, float* out, std::ptrdiff_t count, int size);
std::size_t mdmd_scratch(int height, int width, int rows);
void mdmd(const float* a, const float* b, float* out, int height, int width, int rows, int columns, bool atan,
          float* scratch);
void warp(const float* frame, float* out, int height, int width, const double* matrix);
std::size_t motion_scratch(std::ptrdiff_t points);
void fit_motion(const float* flow, const double* points, const double* trust, double* out, std::ptrdiff_t n,
                Motion model, int rounds, float* scratch);

std::size_t sliding_scratch(std::ptrdiff_t window, std::ptrdiff_t lanes, Statistic);
void sliding(const float* values, float* out, std::ptrdiff_t samples, std::ptrdiff_t lanes, std::ptrdiff_t begin,
             std::ptrdiff_t end, std::ptrdiff_t window, Statistic, float p, float* scratch);

std::size_t band_power_scratch(const BandPower&);
void band_power(const BandPower&, float* out, std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch);

std::size_t overlapping_table(const OverlappingBandPower&);
void overlapping_fill(const OverlappingBandPower&, float* table);
std::size_t overlapping_scratch(const OverlappingBandPower&);
void overlapping_band_power(const OverlappingBandPower&, const float* table, float* out, std::ptrdiff_t group,
                            std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch);

void clip_sums(const ClipPower&, double* sums, double* dft, std::ptrdiff_t begin, std::ptrdiff_t end, float* scratch);
std::size_t clip_scratch(const ClipPower&);
void clip_power(const ClipPower&, const double* sums, double* dft, double* out, std::ptrdiff_t begin,
                std::ptrdiff_t end, float* scratch);

extern const Kernels kernels;

} // namespace mmme::MMME_ISA
