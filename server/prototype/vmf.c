/* log I_nu(x) by the uniform expansion for large orders (NIST DLMF 10.41.3), in which x may be anything: with z =
 * x/nu, r = sqrt(1 + z^2), p = 1/r
 *
 *   I_nu(nu z) = exp(nu eta) / (sqrt(2 pi nu) sqrt(r)) (1 + U_1(p)/nu + U_2(p)/nu^2 + ...),  eta = r + log(z/(1 + r))
 *
 * Cut after U_4 its relative error is below 1e-9 from order ORDER_MIN on. Smaller orders are reached from there by
 * the recurrence I_{n-1}(x) = I_{n+1}(x) + 2n/x I_n(x), which is stable downwards (DLMF 10.29.1, 10.74.iv), as ratios
 * so that nothing overflows. */
#include "server/prototype/vmf.h"

#include <math.h>

enum { ORDER_MIN = 40 };

/* log of the sum of the expansion, from DLMF 10.41.10. */
static double log_series(double nu, double p)
{
    double p2 = p * p, t = p / nu;
    double u1 = (3 - 5 * p2) / 24;
    double u2 = (81 + p2 * (-462 + p2 * 385)) / 1152;
    double u3 = (30375 + p2 * (-369603 + p2 * (765765 - p2 * 425425))) / 414720;
    double u4 = (4465125 + p2 * (-94121676 + p2 * (349922430 + p2 * (-446185740 + p2 * 185910725)))) / 39813120;
    return log1p(t * (u1 + t * (u2 + t * (u3 + t * u4))));
}

static double log_bessel_of_large_order(double nu, double x)
{
    double z = x / nu, r = sqrt(1 + z * z);
    double eta = r + log(z / (1 + r));
    return nu * eta - 0.5 * (log(2 * M_PI * nu) + log(r)) + log_series(nu, 1 / r);
}

/* log I_nu(x), nu >= 0, x > 0. */
static double log_bessel(double nu, double x)
{
    if (nu >= ORDER_MIN)
        return log_bessel_of_large_order(nu, x);
    double top = nu + ceil(ORDER_MIN - nu), value = log_bessel_of_large_order(top, x);
    double ratio = exp(log_bessel_of_large_order(top + 1, x) - value); /* I_{n+1}/I_n of n = top */
    for (double n = top; n > nu + 0.25; n--) {
        double below = 1 / (ratio + 2 * n / x); /* I_n/I_{n-1} */
        value -= log(below);
        ratio = below;
    }
    return value;
}

double vmf_log_normaliser(uint32_t D, double kappa)
{
    double nu = 0.5 * D - 1;
    return nu * log(kappa) - 0.5 * D * log(2 * M_PI) - log_bessel(nu, kappa);
}

double vmf_concentration(uint32_t D, double R)
{
    return R < 1 ? R * (D - R * R) / (1 - R * R) : INFINITY;
}

double vmf_resultant(uint32_t D, double kappa)
{
    double low = 0, high = 1;
    for (int i = 0; i < 60; i++) {
        double middle = 0.5 * (low + high);
        if (vmf_concentration(D, middle) < kappa)
            low = middle;
        else
            high = middle;
    }
    return low;
}
