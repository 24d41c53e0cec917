/* LayerNorm for one choice of kernels; see layernorm.c and each_choice_template.h. No include guard. */
#include "worker/nn/wide_template.h"

#define add CHOICE(add)
#define add_square CHOICE(add_square)
#define measure CHOICE(measure)
#define normalise CHOICE(normalise)
#define forward CHOICE(forward)
#define arrive CHOICE(arrive)
#define leave CHOICE(leave)
#define backward CHOICE(backward)

WIDE_INLINE void add(wide *sum, const real *x, size_t left)
{
    wide v;
    wide_load(&v, x, left);
    WIDE_EACH(sum->at[p] += v.at[p]);
}

WIDE_INLINE void add_square(wide *sum, const real *x, real mean, size_t left)
{
    wide v;
    wide_load(&v, x, left);
    WIDE_EACH(v.at[p] -= mean);
    if (left < WIDE)
        wide_cut(&v, left, 0);
    WIDE_EACH(sum->at[p] += v.at[p] * v.at[p]);
}

WIDE_INLINE void measure(const real *restrict x, size_t rows, size_t n, struct moments m[ROWS])
{
    for (size_t r = 0; r < rows; r++) {
        wide sum = {0};
#define DO(i, left) add(&sum, x + r * n + (i), left)
        WIDE_ROW(n, DO);
#undef DO
        m[r].mean = wide_sum(&sum) / (real)n;
    }
    for (size_t r = 0; r < rows; r++) {
        wide sum = {0};
#define DO(i, left) add_square(&sum, x + r * n + (i), m[r].mean, left)
        WIDE_ROW(n, DO);
#undef DO
        m[r].inverse = 1 / real_sqrt(wide_sum(&sum) / (real)n + EPSILON);
    }
}

WIDE_INLINE void normalise(const real *x, struct moments m, const real *gamma, const real *beta, real *y, size_t left)
{
    wide v, g, b;
    wide_load(&v, x, left);
    wide_load(&g, gamma, left);
    wide_load(&b, beta, left);
    WIDE_EACH(v.at[p] = (v.at[p] - m.mean) * m.inverse * g.at[p] + b.at[p]);
    wide_store(y, &v, left);
}

CHOICE_TARGET static void forward(const real *restrict x, size_t rows, size_t n, const real *restrict gamma,
                                  const real *restrict beta, real *restrict y)
{
    struct moments m[ROWS];
    for (size_t from = 0; from < rows; from += ROWS, x += ROWS * n, y += ROWS * n) {
        size_t here = rows - from < ROWS ? rows - from : ROWS;
        measure(x, here, n, m);
        for (size_t r = 0, at = 0; r < here; r++, at += n) {
#define DO(i, left) normalise(x + at + (i), m[r], gamma + (i), beta + (i), y + at + (i), left)
            WIDE_ROW(n, DO);
#undef DO
        }
    }
}

/* What arrives at a row: added to d_gamma and d_beta; through gamma, to its sum and that of its products with xhat. */
WIDE_INLINE void arrive(const real *x, struct moments m, const real *d_y, const real *gamma, real *d_gamma,
                        real *d_beta, wide *sum, wide *product, size_t left)
{
    wide hat, d, g, to_gamma, to_beta;
    wide_load(&hat, x, left);
    wide_load(&d, d_y, left);
    wide_load(&g, gamma, left);
    wide_load(&to_gamma, d_gamma, left);
    wide_load(&to_beta, d_beta, left);
    WIDE_EACH(hat.at[p] = (hat.at[p] - m.mean) * m.inverse; to_gamma.at[p] += d.at[p] * hat.at[p];
              to_beta.at[p] += d.at[p]; d.at[p] *= g.at[p]; sum->at[p] += d.at[p];
              product->at[p] += d.at[p] * hat.at[p]);
    wide_store(d_gamma, &to_gamma, left);
    wide_store(d_beta, &to_beta, left);
}

/* d_x += (gamma d_y - mean - xhat along) / deviation */
WIDE_INLINE void leave(const real *x, struct moments m, const real *d_y, const real *gamma, struct through t, real *d_x,
                       size_t left)
{
    wide hat, d, g, to;
    wide_load(&hat, x, left);
    wide_load(&d, d_y, left);
    wide_load(&g, gamma, left);
    wide_load(&to, d_x, left);
    WIDE_EACH(hat.at[p] = (hat.at[p] - m.mean) * m.inverse;
              to.at[p] += m.inverse * (g.at[p] * d.at[p] - t.mean - hat.at[p] * t.along));
    wide_store(d_x, &to, left);
}

CHOICE_TARGET static void backward(const real *restrict x, size_t rows, size_t n, const real *restrict gamma,
                                   const real *restrict beta, const real *restrict d_y, real *restrict d_x,
                                   real *restrict y, real *restrict d_gamma, real *restrict d_beta)
{
    struct moments m[ROWS];
    struct through t[ROWS];
    for (size_t from = 0; from < rows; from += ROWS) {
        size_t here = rows - from < ROWS ? rows - from : ROWS;
        measure(x, here, n, m);
        for (size_t r = 0, at = 0; r < here; r++, at += n) {
            wide sum = {0}, product = {0};
#define DO(i, left)                                                                                                    \
    normalise(x + at + (i), m[r], gamma + (i), beta + (i), y + at + (i), left),                                        \
        arrive(x + at + (i), m[r], d_y + at + (i), gamma + (i), d_gamma + (i), d_beta + (i), &sum, &product, left)
            WIDE_ROW(n, DO);
#undef DO
            t[r] = (struct through){wide_sum(&sum) / (real)n, wide_sum(&product) / (real)n};
        }
        for (size_t r = 0, at = 0; r < here; r++, at += n) {
#define DO(i, left) leave(x + at + (i), m[r], d_y + at + (i), gamma + (i), t[r], d_x + at + (i), left)
            WIDE_ROW(n, DO);
#undef DO
        }
        x += ROWS * n;
        y += ROWS * n;
        d_y += ROWS * n;
        d_x += ROWS * n;
    }
}

#undef add
#undef add_square
#undef measure
#undef normalise
#undef forward
#undef arrive
#undef leave
#undef backward
