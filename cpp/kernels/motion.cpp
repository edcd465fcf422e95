// The motion that most of a flow field shares: least squares reweighted with Cauchy weights (Holland and Welsch 1977).
//
// All in double, but for what only the weights are made of: the flow and the squares of the residuals.
#include "isa.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace mmme::MMME_ISA {
namespace {

// u = a x + b y + tx, v = c x + d y + ty
struct Map {
    double a, b, tx, c, d, ty;
};

Map fit(const double* MMME_RESTRICT x, const double* MMME_RESTRICT y, const double* MMME_RESTRICT u,
        const double* MMME_RESTRICT v, const double* MMME_RESTRICT w, std::ptrdiff_t n, Motion model) {
    double s = 0, sx = 0, sy = 0, su = 0, sv = 0, sxx = 0, sxy = 0, syy = 0, sxu = 0, syu = 0, sxv = 0, syv = 0;
    MMME_IVDEP
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        const double wx = w[i] * x[i], wy = w[i] * y[i];
        s += w[i];
        sx += wx;
        sy += wy;
        su += w[i] * u[i];
        sv += w[i] * v[i];
        sxx += wx * x[i];
        sxy += wx * y[i];
        syy += wy * y[i];
        sxu += wx * u[i];
        syu += wy * u[i];
        sxv += wx * v[i];
        syv += wy * v[i];
    }
    // About the weighted means the shift drops out of the normal equations. Points on a line leave a part of the linear
    // map open; the least of the possible ones is taken.
    const double mx = sx / s, my = sy / s, mu = su / s, mv = sv / s, ridge = 1e-12 * (s + sxx + syy);
    const double xx = sxx - sx * mx + ridge, yy = syy - sy * my + ridge, xy = sxy - sx * my;
    const double xu = sxu - sx * mu, yu = syu - sy * mu, xv = sxv - sx * mv, yv = syv - sy * mv;
    Map m{};
    if (model == Motion::similarity) {
        m.a = m.d = (xu + yv) / (xx + yy);
        m.c = (xv - yu) / (xx + yy);
        m.b = -m.c;
    } else if (model == Motion::affine) {
        const double det = xx * yy - xy * xy;
        m.a = (yy * xu - xy * yu) / det;
        m.b = (xx * yu - xy * xu) / det;
        m.c = (yy * xv - xy * yv) / det;
        m.d = (xx * yv - xy * xv) / det;
    }
    m.tx = mu - m.a * mx - m.b * my;
    m.ty = mv - m.c * mx - m.d * my;
    return m;
}

// The value that stands at n / 2 when values, none below 0, are sorted: its bits from the highest, two at a time, for
// such floats have the order of their bits. Every pass is a plain count, as no pass of quickselect is.
float median(const float* MMME_RESTRICT values, std::ptrdiff_t n) {
    std::uint32_t found = 0; // without the sign, which leaves 31 bits, and a last one that does not matter
    const auto value = [](std::uint32_t bits) {
        bits >>= 1;
        float f;
        std::memcpy(&f, &bits, sizeof(f));
        return f;
    };
    for (int shift = 30; shift >= 0; shift -= 2) {
        const float one = value(found | 1u << shift), two = value(found | 2u << shift);
        const float three = value(found | 3u << shift);
        std::int32_t below_one = 0, below_two = 0, below_three = 0;
        MMME_IVDEP
        for (std::ptrdiff_t i = 0; i < n; ++i) {
            below_one += values[i] < one ? 1 : 0;
            below_two += values[i] < two ? 1 : 0;
            below_three += values[i] < three ? 1 : 0;
        }
        const int digit = (below_one <= n / 2) + (below_two <= n / 2) + (below_three <= n / 2);
        found |= static_cast<std::uint32_t>(digit) << shift;
    }
    return value(found);
}

} // namespace

std::size_t motion_scratch(std::ptrdiff_t points) {
    return static_cast<std::size_t>(points) * 7;
}

void fit_motion(const float* flow, const double* points, const double* trust, double* out, std::ptrdiff_t n,
                Motion model, int rounds, float* scratch) {
    const double* MMME_RESTRICT x = points;
    const double* MMME_RESTRICT y = points + n;
    double* MMME_RESTRICT u = reinterpret_cast<double*>(scratch);
    double* MMME_RESTRICT v = u + n;
    double* MMME_RESTRICT w = v + n;
    float* MMME_RESTRICT error = scratch + 6 * n; // squared: the median of roots is the root of the median
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        u[i] = flow[2 * i];
        v[i] = flow[2 * i + 1];
        w[i] = trust[i];
    }
    Map m = fit(x, y, u, v, w, n, model);
    for (int round = 1; round < rounds; ++round) {
        MMME_IVDEP
        for (std::ptrdiff_t i = 0; i < n; ++i) {
            const double du = u[i] - (m.a * x[i] + m.b * y[i] + m.tx), dv = v[i] - (m.c * x[i] + m.d * y[i] + m.ty);
            error[i] = static_cast<float>(du * du + dv * dv);
        }
        // 1.4826: the median residual of a normal distribution in its standard deviations, inverted.
        const double spread = 2 * 1.4826 * std::sqrt(static_cast<double>(median(error, n))) + 1e-6;
        const double per = 1 / (spread * spread);
        MMME_IVDEP
        for (std::ptrdiff_t i = 0; i < n; ++i) w[i] = trust[i] / (1 + static_cast<double>(error[i]) * per);
        m = fit(x, y, u, v, w, n, model);
    }
    std::memcpy(out, &m, sizeof(m));
}

} // namespace mmme::MMME_ISA
