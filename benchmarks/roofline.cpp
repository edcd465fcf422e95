// What this machine could do at most, on one thread: arithmetic from registers, and memory traffic by size of the data.
// Built and run by `make roofline`; docs/performance.md holds the kernels against it.
//
// Every figure is the best of many short runs, which noise from other work on the machine can only lengthen.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif
typedef float Vector __attribute__((vector_size(lanes * sizeof(float)))); // GCC and Clang

template <class Body> double best_ns(Body&& body) {
    using clock = std::chrono::steady_clock;
    double best = std::numeric_limits<double>::max();
    const auto end = clock::now() + std::chrono::milliseconds(700);
    int runs = 0;
    for (auto from = clock::now(); from < end || runs < 5; ++runs) {
        body();
        const auto now = clock::now();
        best = std::min(best, std::chrono::duration<double, std::nano>(now - from).count());
        from = now;
    }
    return best;
}

void keep(Vector& v) {
    asm volatile("" : "+m"(v)); // the compiler must believe that v is used
}

// Nanoseconds of one vector operation when enough independent chains of it are in flight.
template <class Operation> double operation_ns(Operation&& operation) {
    constexpr int chains = 12, steps = 2000;
    Vector v[chains];
    for (int c = 0; c < chains; ++c) v[c] = Vector{} + (1.0f + 0.01f * static_cast<float>(c));
    const double ns = best_ns([&] {
        Vector w[chains];
        for (int c = 0; c < chains; ++c) w[c] = v[c];
        for (int s = 0; s < steps; ++s)
            for (int c = 0; c < chains; ++c) w[c] = operation(w[c]);
        for (int c = 0; c < chains; ++c) keep(w[c]);
    });
    return ns / (chains * steps);
}

Vector root(Vector v) {
    float x[lanes];
    std::memcpy(x, &v, sizeof v);
    for (float& each : x) each = __builtin_sqrtf(each);
    std::memcpy(&v, x, sizeof v);
    return v;
}

int main() {
    const Vector a = Vector{} + 0.999f, b = Vector{} + 0.001f, one = Vector{} + 1.0f;
    const double fma = operation_ns([&](Vector v) { return v * a + b; });
    const double divide = operation_ns([&](Vector v) { return one / v; });
    const double square_root = operation_ns([](Vector v) { return root(v); });
    std::printf("vectors of %d floats\n", lanes);
    std::printf("multiply-add  %6.2f ns a vector, %6.1f GFLOP/s\n", fma, 2 * lanes / fma);
    std::printf("divide        %6.2f ns a vector\n", divide);
    std::printf("square root   %6.2f ns a vector\n", square_root);
    for (std::size_t bytes = std::size_t{16} << 10; bytes <= std::size_t{256} << 20; bytes *= 4) {
        const std::size_t n = bytes / sizeof(Vector) / 2;
        const int passes = static_cast<int>(std::max<std::size_t>(1, (std::size_t{4} << 20) / bytes)); // beside a timer
        const auto over = [&](auto&& body) {
            return best_ns([&] {
                       for (int pass = 0; pass < passes; ++pass) body();
                   }) /
                   passes;
        };
        std::vector<Vector> from(n, one), to(n);
        const double read = over([&] {
            Vector sum[8] = {};
            for (std::size_t i = 0; i + 8 <= n; i += 8)
                for (int k = 0; k < 8; ++k) sum[k] += from[i + k];
            for (Vector s : sum) keep(s); // a copy, so that the sums stay in registers
        });
        const double write = over([&] {
            for (std::size_t i = 0; i < n; ++i) to[i] = one;
            keep(to[n / 2]);
        });
        const double copy = over([&] {
            for (std::size_t i = 0; i < n; ++i) to[i] = from[i] * a;
            keep(to[n / 2]);
        });
        const float* values = reinterpret_cast<const float*>(from.data());
        const double broadcast = over([&] {
            Vector sum[8] = {};
            for (std::size_t i = 0; i + 8 <= n; i += 8)
                for (int k = 0; k < 8; ++k) sum[k] += values[i + k];
            for (Vector s : sum) keep(s); // a copy, so that the sums stay in registers
        });
        const double size = static_cast<double>(n * sizeof(Vector));
        std::printf(
            "%8zu KB: read %6.1f GB/s, write %6.1f, scale (read + write) %6.1f; one value into a vector %5.2f ns\n",
            bytes >> 10, size / read, size / write, 2 * size / copy, broadcast / static_cast<double>(n));
    }
}
