/* Operands are brought into the shape that the instructions want in buffers on the stack, a few dozen rows at a time;
 * then one of two inner kernels multiplies blocks of 32 x 32. */
#include "worker/nn/bf16.h"

#if BF16_KERNELS

#include <immintrin.h>
#include <string.h>
#include "common/at_most.h"
#include "worker/nn/transpose.h"

enum {
    SIDE = 16,            /* rows of a tile, and columns */
    DEPTH = 2 * SIDE,     /* in k */
    ROWS = 2 * SIDE,      /* of a block of sums */
    GAP = DEPTH,          /* between rows of a buffer, so that they do not all fall on the same lines of the cache */
    DEPTH_MAX = 1024,     /* of A at a time: its 64 KiB stay in the second-level cache */
    HEIGHT_MAX = 128,     /* rows of A at a time, if they are short: */
    HEIGHT_WORDS = 12288, /* as many as leave half of the first-level cache to B */
    POINTS = 256,         /* of gather_outer at a time */
    OUTER_COLUMNS = 256,  /* likewise: their D takes 128 KiB */
};

#define TARGET KERNELS_TARGET_AVX512_BF16
#define INLINE_TARGET static inline __attribute__((always_inline)) TARGET

/* One block: C = start + A B, of 1 or 2 x SIDE rows and 1 or 2 panels. Strides and distances are in elements. */
struct block {
    const uint16_t *a; /* rows of `depth` */
    size_t a_stride;
    const uint16_t *b; /* packed panel */
    size_t b_next;     /* to the next panel */
    size_t depth;      /* multiple of DEPTH */
    const float *start;
    size_t start_stride, start_next; /* from row to row (0: the same for all); from panel to panel */
    float *c;
    size_t c_stride, c_next;
};

static size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* ---- inner kernels ---- */

/* The compiler knows nothing of tile registers, hence `memory` everywhere. */
#define TILE_LOAD(tile, at, stride)                                                                                    \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(at), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(tile, at, stride)                                                                                   \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(at), "r"((size_t)(stride)) : "memory")
#define TILE_MULTIPLY(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")

/* Eight tiles of 16 rows of 64 bytes; Intel's Software Developer's Manual, LDTILECFG. */
static void tiles_begin(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shape.row_bytes[i] = SIDE * sizeof(float);
        shape.rows[i] = SIDE;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(shape) : "memory");
}

static void tiles_end(void)
{
    __asm__ volatile("tilerelease" ::: "memory");
}

/* A tile of B into the first-level cache. A tile that is in use cannot be loaded ahead, so that what comes from further
 * away would be waited for: with this, products with many weights take a tenth to a fifth less time. */
static inline __attribute__((always_inline)) void prefetch(const uint16_t *panel)
{
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; i++)
        __builtin_prefetch(panel + i * DEPTH);
}

/* Sums in tiles 0 to 3, A in 4 and 5, B in 6 and 7. */
static inline __attribute__((always_inline)) void amx_block(const struct block *k, const bool two_rows,
                                                            const bool two_columns)
{
    const size_t start = k->start_stride * sizeof(float), c = k->c_stride * sizeof(float);
    const size_t a = k->a_stride * sizeof(uint16_t);
    const uint16_t *a1 = k->a + SIDE * k->a_stride, *b1 = k->b + k->b_next;
    TILE_LOAD(0, k->start, start);
    if (two_columns)
        TILE_LOAD(1, k->start + k->start_next, start);
    if (two_rows)
        TILE_LOAD(2, k->start + SIDE * k->start_stride, start);
    if (two_rows && two_columns)
        TILE_LOAD(3, k->start + SIDE * k->start_stride + k->start_next, start);
    for (size_t i = 0; i < k->depth; i += DEPTH) {
        TILE_LOAD(4, k->a + i, a);
        TILE_LOAD(6, k->b + i * SIDE, SIDE * sizeof(float));
        if (two_columns)
            TILE_LOAD(7, b1 + i * SIDE, SIDE * sizeof(float));
        if (two_rows)
            TILE_LOAD(5, a1 + i, a);
        prefetch(k->b + (i + 2 * DEPTH) * SIDE);
        TILE_MULTIPLY(0, 4, 6);
        if (two_columns) {
            prefetch(b1 + (i + 2 * DEPTH) * SIDE);
            TILE_MULTIPLY(1, 4, 7);
        }
        if (two_rows)
            TILE_MULTIPLY(2, 5, 6);
        if (two_rows && two_columns)
            TILE_MULTIPLY(3, 5, 7);
    }
    TILE_STORE(0, k->c, c);
    if (two_columns)
        TILE_STORE(1, k->c + k->c_next, c);
    if (two_rows)
        TILE_STORE(2, k->c + SIDE * k->c_stride, c);
    if (two_rows && two_columns)
        TILE_STORE(3, k->c + SIDE * k->c_stride + k->c_next, c);
}

static void amx_multiply(const struct block *k, bool two_rows, bool two_columns)
{
    if (two_rows && two_columns)
        amx_block(k, true, true);
    else if (two_rows)
        amx_block(k, true, false);
    else
        amx_block(k, false, two_columns);
}

/* Eight rows from row r on, V panels. */
enum { FEW = 8 };
INLINE_TARGET void avx512_rows(const struct block *k, size_t r, const int V)
{
    __m512 sum[FEW][2];
#pragma GCC unroll 8
    for (int m = 0; m < FEW; m++)
        for (int v = 0; v < V; v++)
            sum[m][v] = _mm512_loadu_ps(k->start + (r + (size_t)m) * k->start_stride + (size_t)v * k->start_next);
    for (size_t i = 0; i < k->depth; i += 2) {
        __m512bh b[2];
        for (int v = 0; v < V; v++)
            b[v] = (__m512bh)_mm512_loadu_si512(k->b + i * SIDE + (size_t)v * k->b_next);
#pragma GCC unroll 8
        for (int m = 0; m < FEW; m++) {
            int32_t pair;
            memcpy(&pair, k->a + (r + (size_t)m) * k->a_stride + i, sizeof pair);
            for (int v = 0; v < V; v++)
                sum[m][v] = _mm512_dpbf16_ps(sum[m][v], (__m512bh)_mm512_set1_epi32(pair), b[v]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < FEW; m++)
        for (int v = 0; v < V; v++)
            _mm512_storeu_ps(k->c + (r + (size_t)m) * k->c_stride + (size_t)v * k->c_next, sum[m][v]);
}

TARGET static void avx512_multiply(const struct block *k, bool two_rows, bool two_columns)
{
    for (size_t r = 0; r < (two_rows ? ROWS : SIDE); r += FEW)
        if (two_columns)
            avx512_rows(k, r, 2);
        else
            avx512_rows(k, r, 1);
}

/* What one call of gather_product or gather_outer multiplies with. */
typedef void multiply_block(const struct block *k, bool two_rows, bool two_columns);

static multiply_block *multiply_begin(void)
{
    if (kernels_chosen() != KERNELS_AMX)
        return avx512_multiply;
    tiles_begin();
    return amx_multiply;
}

static void multiply_end(void)
{
    if (kernels_chosen() == KERNELS_AMX)
        tiles_end();
}

/* ---- rounding and pairing ---- */

/* Which of 16 reals: the first n. */
INLINE_TARGET __mmask16 first_lanes(size_t n)
{
    return _cvtu32_mask16(n < SIDE ? (1u << n) - 1 : 0xffffu);
}

/* n reals, rounded. */
TARGET static void round_run(const float *from, size_t n, uint16_t *to)
{
    for (; n >= DEPTH; n -= DEPTH, from += DEPTH, to += DEPTH) {
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + SIDE), _mm512_loadu_ps(from));
        _mm512_storeu_si512(to, (__m512i)both);
    }
    if (n == 0)
        return;
    __m512 low = _mm512_maskz_loadu_ps(first_lanes(n), from);
    __m512 high = n > SIDE ? _mm512_maskz_loadu_ps(first_lanes(n - SIDE), from + SIDE) : _mm512_setzero_ps();
    _mm512_mask_storeu_epi16(to, (__mmask32)((1u << n) - 1), (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* 16 pairs: (low[0], high[0]), (low[1], high[1]), ... */
INLINE_TARGET __m512i pairs_of(__m512 low, __m512 high)
{
    static const uint16_t order[DEPTH] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* 16 x 16 words of 32 bits, in registers. */
INLINE_TARGET void transpose_words(__m512i row[SIDE])
{
    __m512i t[SIDE];
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < SIDE; i += 4) {
        row[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        row[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        row[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        row[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        row[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        row[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        row[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        row[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* ---- packing ---- */

size_t bf16_packed_size(size_t K, size_t columns)
{
    return (1 + round_up(K, DEPTH) / 2) * round_up(columns, SIDE);
}

size_t bf16_gradient_size(size_t K, size_t columns)
{
    return round_up(K, SIDE) * round_up(columns, SIDE);
}

void bf16_pack_bias(size_t columns, const float *bias, float *packed)
{
    memset(packed, 0, round_up(columns, SIDE) * sizeof *packed);
    if (bias)
        memcpy(packed, bias, columns * sizeof *bias);
}

/* Rows k0 and on of a panel from rows of B side by side: `columns` of them. */
TARGET static void pair_rows(const struct pack *p, const float *source, size_t columns, uint16_t *panel)
{
    const __mmask16 mask = first_lanes(columns);
    for (size_t i = 0; i < p->n; i += 2) {
        __m512 low = _mm512_maskz_loadu_ps(mask, source + i * p->row_stride), high = _mm512_setzero_ps();
        if (i + 1 < p->n)
            high = _mm512_maskz_loadu_ps(mask, source + (i + 1) * p->row_stride);
        _mm512_storeu_si512(panel + (p->k0 + i) * SIDE, pairs_of(low, high));
    }
}

/* The same where each column of B is contiguous. */
TARGET static void pair_columns(const struct pack *p, const float *source, size_t columns, uint16_t *panel)
{
    for (size_t i = 0; i < p->n; i += DEPTH) {
        size_t n = at_most(p->n - i, DEPTH);
        __m512i row[SIDE];
        for (size_t j = 0; j < SIDE; j++) {
            const float *at = source + j * p->column_stride + i;
            __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
            if (j < columns)
                low = _mm512_maskz_loadu_ps(first_lanes(n), at);
            if (j < columns && n > SIDE)
                high = _mm512_maskz_loadu_ps(first_lanes(n - SIDE), at + SIDE);
            row[j] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        }
        transpose_words(row);
        for (size_t pair = 0; pair < (n + 1) / 2; pair++)
            _mm512_storeu_si512(panel + (p->k0 + i + 2 * pair) * SIDE, row[pair]);
    }
}

/* One value at a time, for parts that begin within a pair or whose elements lie apart. */
TARGET static void pair_any(const struct pack *p, const float *source, size_t columns, uint16_t *panel)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < SIDE; j++) {
            float value = j < columns ? source[i * p->row_stride + j * p->column_stride] : 0;
            size_t k = p->k0 + i;
            round_run(&value, 1, panel + k / 2 * 2 * SIDE + 2 * j + k % 2);
        }
}

static void pack_panel(const struct pack *p, const float *source, size_t columns, uint16_t *panel)
{
    size_t end = p->k0 + p->n;
    if (end == p->K && end < round_up(end, DEPTH))
        memset(panel + end / 2 * 2 * SIDE, 0, (round_up(end, DEPTH) - end / 2 * 2) * SIDE * sizeof *panel);
    if (p->k0 % 2 != 0 || (p->column_stride != 1 && p->row_stride != 1))
        pair_any(p, source, columns, panel);
    else if (p->column_stride == 1)
        pair_rows(p, source, columns, panel);
    else
        pair_columns(p, source, columns, panel);
}

void bf16_pack(const struct pack *p, const float *source, float *packed)
{
    size_t columns = round_up(p->columns, SIDE);
    uint16_t *panel = (uint16_t *)(packed + columns);
    for (size_t j = 0; j < p->columns; j += SIDE, panel += round_up(p->K, DEPTH) * SIDE)
        pack_panel(p, source + j * p->column_stride, at_most(p->columns - j, SIDE), panel);
}

void bf16_pack_column(size_t K, size_t columns, size_t j, const float *source, float *packed)
{
    uint16_t rounded[DEPTH];
    uint16_t *panel = (uint16_t *)(packed + round_up(columns, SIDE)) + j / SIDE * SIDE * round_up(K, DEPTH);
    for (size_t k = 0; k < K; k += DEPTH) {
        size_t n = at_most(K - k, DEPTH);
        round_run(source + k, n, rounded);
        for (size_t i = 0; i < n; i++)
            panel[(k + i) / 2 * 2 * SIDE + 2 * (j % SIDE) + (k + i) % 2] = rounded[i];
    }
}

void bf16_unpack_gradient(const struct pack *p, const float *gradient, float *target)
{
    for (size_t j = 0; j < p->columns; j += SIDE, gradient += round_up(p->K, SIDE) * SIDE) {
        size_t columns = at_most(p->columns - j, SIDE);
        if (p->row_stride == 1) {
            transpose(gradient, SIDE, p->K, columns, target + j * p->column_stride, p->column_stride);
            continue;
        }
        for (size_t k = 0; k < p->K; k++)
            for (size_t i = 0; i < columns; i++)
                target[k * p->row_stride + (j + i) * p->column_stride] = gradient[k * SIDE + i];
    }
}

/* ---- C = bias + A B ---- */

/* Values `from` and on of a gathered row, to a multiple of DEPTH with zeros. */
TARGET static void gather_row(const struct gather *g, const float *row, size_t from, size_t n, uint16_t *to)
{
    size_t run = from > 0 ? from / g->run : 0, at = from - run * g->run, done = 0;
    for (size_t part; done < n; done += part, run++, at = 0) {
        part = at_most(n - done, g->run - at);
        round_run(row + run * g->stride + at, part, to + done);
    }
    if (n % DEPTH != 0)
        memset(to + n, 0, (round_up(n, DEPTH) - n) * sizeof *to);
}

struct product {
    const struct gather *g;
    const float *packed;
    float *c;
    uint16_t *a; /* (height, a_stride) */
    size_t a_stride, height;
    multiply_block *multiply;
};

/* Sums of up to ROWS rows and two panels in and out of C, where its rows are no block. */
static void take_sums(const struct product *p, size_t r, size_t rows, size_t j, size_t columns, float *sums)
{
    for (size_t m = 0; m < rows; m++)
        memcpy(sums + m * DEPTH, p->c + p->g->out[r + m] + j, columns * sizeof *sums);
}

TARGET static void put_sums(const struct product *p, size_t r, size_t rows, size_t j, size_t columns, const float *sums)
{
    const __mmask16 low = first_lanes(columns), high = columns > SIDE ? first_lanes(columns - SIDE) : 0;
    for (size_t m = 0; m < rows; m++, sums += DEPTH) {
        float *to = p->c + p->g->out[r + m] + j;
        _mm512_mask_storeu_ps(to, low, _mm512_loadu_ps(sums));
        _mm512_mask_storeu_ps(to + SIDE, high, _mm512_loadu_ps(sums + SIDE));
    }
}

/* How far apart in C the ROWS rows from r on are, when each is as far from the one before, and 0 when they are not. */
static size_t even_stride(const struct product *p, size_t r, size_t rows)
{
    const uint32_t *out = p->g->out + r, stride = rows == ROWS && out[1] > out[0] ? out[1] - out[0] : 0;
    for (size_t m = 2; m < rows && stride > 0; m++)
        if (out[m] - out[m - 1] != stride)
            return 0;
    return stride;
}

/* Rows r and on, whose values k and on are in p->a, times all columns, two panels at a time, which stay in cache. A
 * block of even rows goes straight to C. */
static void multiply_rows(const struct product *p, size_t r, size_t rows, size_t k, size_t depth)
{
    float sums[ROWS * DEPTH] __attribute__((aligned(64)));
    const size_t N = p->g->columns, panel = round_up((size_t)p->g->runs * p->g->run, DEPTH) * SIDE;
    struct block block = {.a_stride = p->a_stride,
                          .b = (const uint16_t *)(p->packed + round_up(N, SIDE)) + k * SIDE,
                          .b_next = panel,
                          .depth = round_up(depth, DEPTH),
                          .start_stride = k == 0 ? 0 : DEPTH,
                          .start_next = SIDE,
                          .c = sums,
                          .c_stride = DEPTH,
                          .c_next = SIDE};
    size_t stride[HEIGHT_MAX / ROWS];
    for (size_t m = 0; m < rows; m += ROWS)
        stride[m / ROWS] = k == 0 ? even_stride(p, r + m, at_most(rows - m, ROWS)) : 0;
    for (size_t j = 0; j < N; j += DEPTH, block.b += 2 * panel)
        for (size_t m = 0; m < rows; m += ROWS) {
            size_t height = at_most(rows - m, ROWS), columns = at_most(N - j, DEPTH);
            bool straight = stride[m / ROWS] > 0 && columns == DEPTH;
            block.a = p->a + m * p->a_stride;
            block.start = k == 0 ? p->packed + j : sums;
            block.c = straight ? p->c + p->g->out[r + m] + j : sums;
            block.c_stride = straight ? stride[m / ROWS] : DEPTH;
            if (k > 0)
                take_sums(p, r + m, height, j, columns, sums);
            p->multiply(&block, height > SIDE, columns > SIDE);
            if (!straight)
                put_sums(p, r + m, height, j, columns, sums);
        }
}

/* Rows of A that are brought into shape at a time. */
static size_t height_of(size_t a_stride)
{
    size_t height = at_most(HEIGHT_WORDS / a_stride / ROWS * ROWS, HEIGHT_MAX);
    return height > ROWS ? height : ROWS;
}

void bf16_gather_product(const struct gather *g, size_t rows, const float *a, const float *packed, float *c)
{
    uint16_t buffer[ROWS * (DEPTH_MAX + GAP)] __attribute__((aligned(64)));
    const size_t K = (size_t)g->runs * g->run;
    struct product p = {.g = g,
                        .packed = packed,
                        .c = c,
                        .a = buffer,
                        .a_stride = round_up(at_most(K, DEPTH_MAX), DEPTH) + GAP,
                        .multiply = multiply_begin()};
    p.height = height_of(p.a_stride);
    for (size_t r = 0; r < rows; r += p.height)
        for (size_t k = 0; k < K; k += DEPTH_MAX) {
            size_t height = at_most(rows - r, p.height), depth = at_most(K - k, DEPTH_MAX);
            for (size_t m = 0; m < height; m++)
                gather_row(g, a + g->in[r + m], k, depth, buffer + m * p.a_stride);
            multiply_rows(&p, r, height, k, depth);
        }
    multiply_end();
}

/* ---- G += A^T D ---- */

struct outer_points {
    const struct outer *o;
    const uint32_t *a, *d; /* offsets of the points */
    size_t points;         /* at most POINTS */
    size_t depth;          /* their number, to a multiple of DEPTH */
};

/* Columns j and on of D: panels of pairs of points. */
TARGET static void pair_points(const struct outer_points *q, const float *d, size_t columns, uint16_t *panel)
{
    for (size_t j = 0; j < columns; j += SIDE, panel += q->depth * SIDE) {
        const __mmask16 mask = first_lanes(columns - j);
        for (size_t i = 0; i < q->depth; i += 2) {
            __m512 low = _mm512_setzero_ps(), high = low;
            if (i < q->points)
                low = _mm512_maskz_loadu_ps(mask, d + q->d[i] + j);
            if (i + 1 < q->points)
                high = _mm512_maskz_loadu_ps(mask, d + q->d[i + 1] + j);
            _mm512_storeu_si512(panel + i * SIDE, pairs_of(low, high));
        }
    }
}

/* 16 operands of a point: those of rows k0 and on of G. */
INLINE_TARGET __m512 left_operands(const float *point, __m512i left, bool together, __mmask16 mask)
{
    if (together)
        return _mm512_maskz_loadu_ps(mask, point + (uint32_t)_mm_cvtsi128_si32(_mm512_castsi512_si128(left)));
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, left, point, sizeof(float));
}

/* Rows k0 and on of A^T: (SIDE, depth), `stride` apart. */
TARGET static void turn_points(const struct outer_points *q, size_t k0, const float *a, uint16_t *to, size_t stride)
{
    const uint32_t *offset = q->o->left + k0;
    const size_t n = at_most(q->o->left_count - k0, SIDE);
    const bool together = offset[n - 1] - offset[0] == n - 1;
    const __mmask16 mask = first_lanes(n);
    const __m512i left = _mm512_maskz_loadu_epi32(mask, offset);
    for (size_t i = 0; i < q->depth; i += DEPTH) {
        __m512i row[SIDE];
        for (size_t pair = 0; pair < SIDE; pair++) {
            __m512 low = _mm512_setzero_ps(), high = low;
            if (i + 2 * pair < q->points)
                low = left_operands(a + q->a[i + 2 * pair], left, together, mask);
            if (i + 2 * pair + 1 < q->points)
                high = left_operands(a + q->a[i + 2 * pair + 1], left, together, mask);
            row[pair] = pairs_of(low, high);
        }
        transpose_words(row);
        for (size_t m = 0; m < SIDE; m++)
            _mm512_storeu_si512(to + m * stride + i, row[m]);
    }
}

/* Columns of G against all of its rows; right: their D. */
static void outer_columns(const struct outer_points *q, const float *a, const uint16_t *right, size_t columns,
                          float *gradient, multiply_block *multiply)
{
    enum { STRIDE = POINTS + GAP };
    uint16_t left[ROWS * STRIDE] __attribute__((aligned(64)));
    const size_t K = q->o->left_count, panel = round_up(K, SIDE) * SIDE;
    for (size_t k = 0; k < K; k += ROWS) {
        bool two_rows = K - k > SIDE;
        turn_points(q, k, a, left, STRIDE);
        if (two_rows)
            turn_points(q, k + SIDE, a, left + SIDE * STRIDE, STRIDE);
        for (size_t j = 0; j < columns; j += DEPTH) {
            float *at = gradient + j / SIDE * panel + k * SIDE;
            struct block block = {.a = left,
                                  .a_stride = STRIDE,
                                  .b = right + j * q->depth,
                                  .b_next = q->depth * SIDE,
                                  .depth = q->depth,
                                  .start = at,
                                  .start_stride = SIDE,
                                  .start_next = panel,
                                  .c = at,
                                  .c_stride = SIDE,
                                  .c_next = panel};
            multiply(&block, two_rows, columns - j > SIDE);
        }
    }
}

void bf16_gather_outer(const struct outer *o, size_t points, const float *a, const float *d, float *gradient)
{
    uint16_t right[POINTS * OUTER_COLUMNS] __attribute__((aligned(64)));
    multiply_block *multiply = multiply_begin();
    for (size_t i = 0; i < points; i += POINTS) {
        struct outer_points q = {.o = o, .a = o->a + i, .d = o->d + i, .points = at_most(points - i, POINTS)};
        q.depth = round_up(q.points, DEPTH);
        for (size_t j = 0; j < o->columns; j += OUTER_COLUMNS) {
            size_t columns = at_most(o->columns - j, OUTER_COLUMNS);
            pair_points(&q, d + j, columns, right);
            outer_columns(&q, a, right, columns, gradient + round_up(o->left_count, SIDE) * j, multiply);
        }
    }
    multiply_end();
}

#endif
