/* Softmax for one choice of kernels; see scores.c and each_choice_template.h. No include guard. */
#include "worker/nn/wide_template.h"

#define largest CHOICE(largest)
#define exponentials CHOICE(exponentials)
#define normalise CHOICE(normalise)
#define gradient CHOICE(gradient)

/* The largest of the first n of a row; those behind them are hidden. */
WIDE_INLINE real largest(real *x, size_t n, size_t length)
{
    wide most, v;
    WIDE_EACH(most.at[p] = (part){0} + x[0]);
    for (size_t j = 0; j < length; j += WIDE) {
        wide_load(&v, x + j, WIDE);
        if (j + WIDE > n) {
            wide_cut(&v, n > j ? n - j : 0, REAL(-1e30));
            wide_store(x + j, &v, WIDE);
        }
        wide_larger(&most, &v);
    }
    return wide_most(&most);
}

/* Returns their sum. */
WIDE_INLINE real exponentials(real *x, size_t length, real scale, real most)
{
    wide sum = {0}, v;
    for (size_t j = 0; j < length; j += WIDE) {
        wide_load(&v, x + j, WIDE);
        WIDE_EACH(v.at[p] = scale * (v.at[p] - most));
        wide_exp(&v);
        wide_store(x + j, &v, WIDE);
        WIDE_EACH(sum.at[p] += v.at[p]);
    }
    return wide_sum(&sum);
}

CHOICE_TARGET static void normalise(size_t rows, size_t n, size_t length, real scale, real *restrict x)
{
    real most[ROWS], sum[ROWS];
    for (size_t from = 0; from < rows; from += ROWS, x += ROWS * length) {
        size_t here = rows - from < ROWS ? rows - from : ROWS;
        for (size_t r = 0; r < here; r++)
            most[r] = largest(x + r * length, n, length);
        for (size_t r = 0; r < here; r++)
            sum[r] = exponentials(x + r * length, length, scale, most[r]);
        for (size_t r = 0; r < here; r++) {
            const real inverse = 1 / sum[r];
            for (size_t j = 0; j < length; j += WIDE)
                WIDE_EACH(WIDE_AT(x + r * length + j) *= inverse);
        }
    }
}

CHOICE_TARGET static void gradient(size_t rows, size_t length, const real *restrict probability, real scale,
                                   real *restrict d)
{
    for (size_t r = 0; r < rows; r++, probability += length, d += length) {
        wide sum = {0};
        for (size_t j = 0; j < length; j += WIDE)
            WIDE_EACH(sum.at[p] += *(const part *)(probability + j + p * WIDE_LANES) * WIDE_AT(d + j));
        real along = wide_sum(&sum);
        for (size_t j = 0; j < length; j++)
            d[j] = scale * probability[j] * (d[j] - along);
    }
}

#undef largest
#undef exponentials
#undef normalise
#undef gradient
