/* Sixteen floats, or eight doubles, of a row at a time: one register of AVX-512, two of AVX2, four of others. The head
 * of templates that each_choice_template.h includes. Sums have a shape that no choice changes: lanes apart, those of a
 * row's end beside zeros, then halves upon halves. The names below are macros that mean those of the choice.
 * No include guard. */
#include <string.h>
#include "worker/nn/scalar.h"

#define WIDE_INLINE static inline __attribute__((always_inline)) CHOICE_TARGET
#define WIDE_BYTES 64
#define WIDE (WIDE_BYTES / sizeof(real))
#define WIDE_PARTS (WIDE_BYTES / CHOICE_BYTES)
#define WIDE_LANES (CHOICE_BYTES / sizeof(real)) /* of a part */

#define part CHOICE(part)
#define part_bits CHOICE(part_bits)
#define wide CHOICE(wide)
#define wide_load CHOICE(wide_load)
#define wide_store CHOICE(wide_store)
#define wide_cut CHOICE(wide_cut)
#define wide_larger CHOICE(wide_larger)
#define wide_halves CHOICE(wide_halves)
#define wide_sum CHOICE(wide_sum)
#define wide_most CHOICE(wide_most)
#define wide_exp CHOICE(wide_exp)

typedef real part __attribute__((vector_size(CHOICE_BYTES), aligned(sizeof(real)), may_alias));
typedef lane_bits part_bits __attribute__((vector_size(CHOICE_BYTES), aligned(sizeof(real)), may_alias));
typedef struct {
    part at[WIDE_PARTS];
} wide;

/* Statements for each part p. */
#define WIDE_EACH(...)                                                                                                 \
    do {                                                                                                               \
        _Pragma("GCC unroll 4") for (size_t p = 0; p < WIDE_PARTS; p++)                                                \
        {                                                                                                              \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)
#define WIDE_AT(x) (*(part *)((x) + p * WIDE_LANES)) /* part p of it */

/* Calls DO(i, left) for each WIDE of n reals, from i on, of which `left` are left. */
#define WIDE_ROW(n, DO)                                                                                                \
    do {                                                                                                               \
        size_t wide_i = 0;                                                                                             \
        _Pragma("GCC unroll 4") for (; wide_i + WIDE <= (n); wide_i += WIDE) DO(wide_i, WIDE);                         \
        if (wide_i < (n))                                                                                              \
            DO(wide_i, (n)-wide_i);                                                                                    \
    } while (0)

/* The first WIDE of the `left` reals of x, zeros behind the last. Where `left` is the constant WIDE nothing remains of
 * the choice. */
WIDE_INLINE void wide_load(wide *v, const real *x, size_t left)
{
    if (left >= WIDE) {
        WIDE_EACH(v->at[p] = *(const part *)(x + p * WIDE_LANES));
    } else {
        real end[WIDE] = {0};
        memcpy(end, x, left * sizeof(real));
        WIDE_EACH(v->at[p] = WIDE_AT(end));
    }
}

WIDE_INLINE void wide_store(real *x, const wide *v, size_t left)
{
    if (left >= WIDE) {
        WIDE_EACH(WIDE_AT(x) = v->at[p]);
    } else {
        real end[WIDE];
        WIDE_EACH(WIDE_AT(end) = v->at[p]);
        memcpy(x, end, left * sizeof(real));
    }
}

/* Lanes from `kept` on become `low`. */
WIDE_INLINE void wide_cut(wide *v, size_t kept, real low)
{
    static const lane_bits lane[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    WIDE_EACH(part_bits cut = *(const part_bits *)(lane + p * WIDE_LANES) >= (part_bits){0} + (lane_bits)kept;
              part other = (part){0} + low; v->at[p] = (part)((cut & (part_bits)other) | (~cut & (part_bits)v->at[p])));
}

/* a = the larger of both, lane by lane; a's where they cannot be compared. */
WIDE_INLINE void wide_larger(wide *a, const wide *b)
{
    WIDE_EACH(part_bits take = b->at[p] > a->at[p];
              a->at[p] = (part)((take & (part_bits)b->at[p]) | (~take & (part_bits)a->at[p])));
}

/* Its halves, as vectors. */
WIDE_INLINE void wide_halves(const wide *v, vector *low, vector *high)
{
    real lane[WIDE];
    WIDE_EACH(WIDE_AT(lane) = v->at[p]);
    *low = VECTOR_AT(lane);
    *high = VECTOR_AT(lane + VECTOR);
}

WIDE_INLINE real wide_sum(const wide *v)
{
    vector low, high;
    wide_halves(v, &low, &high);
    low += high;
    return vector_lanes(&low);
}

/* The largest lane. */
WIDE_INLINE real wide_most(const wide *v)
{
    vector low, high;
    wide_halves(v, &low, &high);
    vector_larger(&low, &high);
    return vector_largest(&low);
}

/* e^x of each lane, as real_exp's. */
WIDE_INLINE void wide_exp(wide *x)
{
#ifdef NN_DOUBLE
    real lane[WIDE];
    wide_store(lane, x, WIDE);
    for (size_t i = 0; i < WIDE; i++)
        lane[i] = real_exp(lane[i]);
    wide_load(x, lane, WIDE);
#else
    WIDE_EACH(const part least = (part){0} - 87.0f; part_bits below = x->at[p] < least;
              part clamped = (part)((below & (part_bits)least) | (~below & (part_bits)x->at[p]));
              part shifted = clamped * 1.44269504088896341f + 12582912.0f; /* its low bits are the integer's */
              part n = shifted - 12582912.0f, r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
              part y = (part){0} + 1.9875691500e-4f; y = y * r + 1.3981999507e-3f; y = y * r + 8.3334519073e-3f;
              y = y * r + 4.1665795894e-2f; y = y * r + 1.6666665459e-1f; y = y * r + 5.0000001201e-1f;
              y = y * r * r + r + 1.0f; x->at[p] = y * (part)(((part_bits)shifted << 23) + (127 << 23)));
#endif
}
