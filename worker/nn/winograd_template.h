/* The transforms of patches and outputs for one choice of kernels; see winograd.c and each_choice_template.h.
 * No include guard. A vector of channels at a time, of which there are enough for one: the last vector of a pixel may
 * repeat some of the one before. */

#define part CHOICE(part)
#define LANES (CHOICE_BYTES / sizeof(real))
#define AT(x) (*(const part *)(x))
#define PUT(x) (*(part *)(x))

typedef real part __attribute__((vector_size(CHOICE_BYTES), aligned(sizeof(real)), may_alias));

/* B' d B of each patch. */
CHOICE_TARGET static void CHOICE(spread_row)(const struct patch_row *p, size_t stride, real *v)
{
    const size_t n = p->channels;
    for (size_t column = 0; column < p->columns; column++, v += n) {
        const size_t last = column + 1 == p->columns ? 3 - p->beyond : 3;
        for (size_t i = 0; i < n; i += LANES) {
            const size_t c = at_most(i, n - LANES);
            const size_t at = 2 * column * n + c;
            real *to = v + c;
            part t[SIDE][SIDE];
#pragma GCC unroll 4
            for (size_t j = 0; j < SIDE; j++) {
                const size_t pixel = at + (j < 3 ? j : last) * n;
                part d1 = AT(p->row[1] + pixel), d2 = AT(p->row[2] + pixel);
                t[0][j] = AT(p->row[0] + pixel) - d2;
                t[1][j] = d1 + d2;
                t[2][j] = d2 - d1;
                t[3][j] = d1 - AT(p->row[3] + pixel);
            }
#pragma GCC unroll 4
            for (size_t r = 0; r < SIDE; r++, to += SIDE * stride) {
                PUT(to) = t[r][0] - t[r][2];
                PUT(to + stride) = t[r][1] + t[r][2];
                PUT(to + 2 * stride) = t[r][2] - t[r][1];
                PUT(to + 3 * stride) = t[r][1] - t[r][3];
            }
        }
    }
}

/* A y A' of each patch. */
CHOICE_TARGET static void CHOICE(spread_delta_row)(const struct patch_row *p, size_t stride, real *m)
{
    const size_t n = p->channels;
    for (size_t column = 0; column < p->columns; column++, m += n)
        for (size_t i = 0; i < n; i += LANES) {
            const size_t c = at_most(i, n - LANES);
            const real *above = p->row[0] + 2 * column * n + c, *below = p->row[1] + 2 * column * n + c;
            real *to = m + c;
            const part t[SIDE][2] = {{AT(above), AT(above + n)},
                                     {AT(above) + AT(below), AT(above + n) + AT(below + n)},
                                     {AT(above) - AT(below), AT(above + n) - AT(below + n)},
                                     {-AT(below), -AT(below + n)}};
#pragma GCC unroll 4
            for (size_t r = 0; r < SIDE; r++, to += SIDE * stride) {
                PUT(to) = t[r][0];
                PUT(to + stride) = t[r][0] + t[r][1];
                PUT(to + 2 * stride) = t[r][0] - t[r][1];
                PUT(to + 3 * stride) = -t[r][1];
            }
        }
}

/* A' m A of each patch. */
CHOICE_TARGET static void CHOICE(collect_row)(const struct output_row *p, size_t stride, const real *m)
{
    const size_t n = p->channels;
    for (size_t column = 0; column < p->columns; column++, m += n) {
        const bool beyond = p->beyond && column + 1 == p->columns;
        real *above = p->row[0] + 2 * column * n, *below = p->row[1] + 2 * column * n;
        real *const y[2][2] = {{above, beyond ? p->unused : above + n},
                               {p->below ? p->unused : below, beyond || p->below ? p->unused : below + n}};
        for (size_t i = 0; i < n; i += LANES) {
            const size_t c = at_most(i, n - LANES);
            part t[2][SIDE];
#pragma GCC unroll 4
            for (size_t j = 0; j < SIDE; j++) {
                const real *from = m + j * stride + c;
                part m1 = AT(from + SIDE * stride), m2 = AT(from + 2 * SIDE * stride);
                t[0][j] = AT(from) + m1 + m2;
                t[1][j] = m1 - m2 - AT(from + 3 * SIDE * stride);
            }
#pragma GCC unroll 2
            for (size_t r = 0; r < 2; r++) {
                PUT(y[r][0] + c) = t[r][0] + t[r][1] + t[r][2];
                PUT(y[r][1] + c) = t[r][1] - t[r][2] - t[r][3];
            }
        }
    }
}

#undef part
#undef LANES
#undef AT
#undef PUT
