/* Transforms of patches, outputs and weights, and the products between them; see winograd.h. */
#include "worker/nn/winograd.h"

#include <string.h>
#include "common/at_most.h"
#include "common/error.h"
#include "common/kernels.h"

enum {
    SIDE = 4,
    PLANES = SIDE * SIDE,
    TAPS = 9,
    CHANNELS_MIN = 16,
    BLOCK_BYTES = 256 * 1024, /* of both sides of the products */
    PATCHES_MIN = 64,         /* for each of which all weights are read from far away, where channels are many */
};

bool winograd_pays(uint32_t in, uint32_t out)
{
    return in >= CHANNELS_MIN && out >= CHANNELS_MIN;
}

static size_t patches(const struct winograd *w)
{
    return (size_t)w->block * w->columns;
}

static void carve_tables(struct winograd *w)
{
    size_t n = patches(w);
    w->forward.in = w->backward.out = w->weight.a = arena_strides(&w->tables, n, w->in);
    w->forward.out = w->backward.in = w->weight.d = arena_strides(&w->tables, n, w->out);
    w->weight.left = arena_strides(&w->tables, w->in, 1);
}

int winograd_init(struct winograd *w, uint32_t height, uint32_t width, uint32_t in, uint32_t out)
{
    *w = (struct winograd){.height = height,
                           .width = width,
                           .in = in,
                           .out = out,
                           .rows = (height + 1) / 2,
                           .columns = (width + 1) / 2,
                           .forward = {.runs = 1, .run = in, .columns = out},
                           .backward = {.runs = 1, .run = out, .columns = in},
                           .weight = {.columns = out, .left_count = in}};
    size_t fit = BLOCK_BYTES / (PLANES * sizeof(real) * ((size_t)in + out));
    fit = fit < PATCHES_MIN ? PATCHES_MIN : fit;
    w->block = (uint32_t)(fit < w->columns ? 1 : fit / w->columns);
    carve_tables(w);
    if (arena_allocate(&w->tables) != 0)
        return ERR_MEMORY;
    carve_tables(w);
    return 0;
}

void winograd_fini(struct winograd *w)
{
    arena_free(&w->tables);
}

uint32_t winograd_samples(const struct winograd *w)
{
    return (w->block + w->rows - 1) / w->rows;
}

size_t winograd_scratch_size(const struct winograd *w)
{
    size_t unused = w->in > w->out ? w->in : w->out; /* where outputs beyond the image go */
    return PLANES * patches(w) * ((size_t)w->in + w->out) + unused;
}

/* ---- weights ---- */

/* A plane of weights before it is packed, or of gradients after: (out, in), at the end of both. */
static size_t plane_size(const struct winograd *w)
{
    return (size_t)w->in * w->out;
}

static size_t forward_stride(const struct winograd *w)
{
    return tile_packed_size(w->in, w->out);
}

static size_t backward_stride(const struct winograd *w)
{
    return tile_packed_size(w->out, w->in);
}

static size_t gradient_stride(const struct winograd *w)
{
    return tile_gradient_size(w->in, w->out);
}

size_t winograd_packed_forward_size(const struct winograd *w)
{
    return PLANES * forward_stride(w) + plane_size(w);
}

size_t winograd_packed_backward_size(const struct winograd *w)
{
    return PLANES * backward_stride(w) + plane_size(w);
}

size_t winograd_gradient_size(const struct winograd *w)
{
    return PLANES * gradient_stride(w) + plane_size(w);
}

static const real G[SIDE][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};

static real factor(size_t plane, size_t tap)
{
    return G[plane / SIDE][tap / 3] * G[plane % SIDE][tap % 3];
}

/* y += a x */
STATIC_KERNEL(void, add_scaled, (real *restrict y, real a, const real *restrict x, size_t n), (y, a, x, n))
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* One plane of G g G', (out, in); turned: of weights turned by half a revolution. */
static void weight_plane(const struct winograd *w, size_t plane, bool turned, const real *weight, real *to)
{
    memset(to, 0, plane_size(w) * sizeof(real));
    for (size_t o = 0; o < w->out; o++)
        for (size_t tap = 0; tap < TAPS; tap++) {
            size_t at = turned ? TAPS - 1 - tap : tap;
            if (factor(plane, tap) != 0)
                add_scaled(to + o * w->in, factor(plane, tap), weight + (o * TAPS + at) * w->in, w->in);
        }
}

void winograd_pack_forward(const struct winograd *w, const real *weight, real *packed)
{
    const struct pack p = {.K = w->in, .columns = w->out, .n = w->in, .row_stride = 1, .column_stride = w->in};
    real *plane = packed + PLANES * forward_stride(w);
    for (size_t i = 0; i < PLANES; i++) {
        weight_plane(w, i, false, weight, plane);
        tile_pack(&p, plane, packed + i * forward_stride(w));
        tile_pack_bias(w->in, w->out, NULL, packed + i * forward_stride(w));
    }
}

void winograd_pack_backward(const struct winograd *w, const real *weight, real *packed)
{
    const struct pack p = {.K = w->out, .columns = w->in, .n = w->out, .row_stride = w->in, .column_stride = 1};
    real *plane = packed + PLANES * backward_stride(w);
    for (size_t i = 0; i < PLANES; i++) {
        weight_plane(w, i, true, weight, plane);
        tile_pack(&p, plane, packed + i * backward_stride(w));
        tile_pack_bias(w->out, w->in, NULL, packed + i * backward_stride(w));
    }
}

void winograd_unpack_gradient(const struct winograd *w, real *gradient, real *weight_gradient)
{
    const struct pack p = {.K = w->in, .columns = w->out, .n = w->in, .row_stride = 1, .column_stride = w->in};
    real *plane = gradient + PLANES * gradient_stride(w);
    memset(weight_gradient, 0, TAPS * plane_size(w) * sizeof(real));
    for (size_t i = 0; i < PLANES; i++) {
        tile_unpack_gradient(&p, gradient + i * gradient_stride(w), plane);
        for (size_t o = 0; o < w->out; o++)
            for (size_t tap = 0; tap < TAPS; tap++)
                if (factor(i, tap) != 0)
                    add_scaled(weight_gradient + (o * TAPS + tap) * w->in, factor(i, tap), plane + o * w->in, w->in);
    }
}

/* ---- patches and outputs ---- */

/* A row of patches: pixel row i begins at row[i]. The last `beyond` columns of the last patch are no part of the frame;
 * its last column stands for them. */
struct patch_row {
    const real *row[SIDE];
    size_t columns, beyond, channels;
};

/* Two rows of outputs. What lies beyond the image goes to `unused`, (channels). */
struct output_row {
    real *row[2], *unused;
    size_t columns, beyond, channels;
    bool below; /* whether the second row lies beyond */
};

#define TEMPLATE "worker/nn/winograd_template.h"
#include "worker/nn/each_choice_template.h"

/* Row y of a framed image; what lies beyond the frame is its last row. */
static const real *framed_row(const struct winograd *w, const real *images, size_t channels, size_t image, size_t y)
{
    size_t height = w->height + 2, row = at_most(y, height - 1);
    return images + (image * height + row) * (w->width + 2) * channels;
}

/* The patches of rows first, first + 1, ... of n images, n * rows of them in all, into v. */
static void spread_rows(const struct winograd *w, size_t first, size_t count, const real *images, size_t channels,
                        real *v)
{
    for (size_t r = first; r < first + count; r++, v += w->columns * channels) {
        struct patch_row p = {.columns = w->columns, .beyond = w->width % 2, .channels = channels};
        for (size_t i = 0; i < SIDE; i++)
            p.row[i] = framed_row(w, images, channels, r / w->rows, r % w->rows * 2 + i);
        CHOSEN(spread_row)(&p, patches(w) * channels, v);
    }
}

static void spread_delta_rows(const struct winograd *w, size_t first, size_t count, const real *delta, real *m)
{
    for (size_t r = first; r < first + count; r++, m += w->columns * w->out) {
        struct patch_row p = {.columns = w->columns, .channels = w->out};
        for (size_t i = 0; i < 2; i++)
            p.row[i] = framed_row(w, delta, w->out, r / w->rows, r % w->rows * 2 + 1 + i) + w->out;
        CHOSEN(spread_delta_row)(&p, patches(w) * w->out, m);
    }
}

static void collect_rows(const struct winograd *w, size_t first, size_t count, const real *m, size_t channels,
                         real *images, real *unused)
{
    size_t line = (size_t)w->width * channels;
    for (size_t r = first; r < first + count; r++, m += w->columns * channels) {
        size_t y = r % w->rows * 2;
        real *above = images + (r / w->rows * w->height + y) * line;
        const struct output_row p = {.row = {above, above + line},
                                     .unused = unused,
                                     .columns = w->columns,
                                     .beyond = w->width % 2,
                                     .channels = channels,
                                     .below = y + 1 == w->height};
        CHOSEN(collect_row)(&p, patches(w) * channels, m);
    }
}

/* ---- the three products ---- */

/* Framed images of g->run channels to images of g->columns. */
static void convolve(const struct winograd *w, const struct gather *g, size_t n, const real *images, const real *packed,
                     size_t packed_stride, real *scratch, real *output)
{
    size_t from_stride = patches(w) * g->run, to_stride = patches(w) * g->columns;
    real *v = scratch, *m = v + PLANES * from_stride, *unused = m + PLANES * to_stride;
    for (size_t row = 0, count; row < n * w->rows; row += count) {
        count = at_most(n * w->rows - row, w->block);
        spread_rows(w, row, count, images, g->run, v);
        for (size_t i = 0; i < PLANES; i++)
            gather_product(g, count * w->columns, v + i * from_stride, packed + i * packed_stride, m + i * to_stride);
        collect_rows(w, row, count, m, g->columns, output, unused);
    }
}

void winograd_forward(const struct winograd *w, size_t n, const real *input, const real *packed, real *scratch,
                      real *output)
{
    convolve(w, &w->forward, n, input, packed, forward_stride(w), scratch, output);
}

void winograd_backward_input(const struct winograd *w, size_t n, const real *delta, const real *packed, real *scratch,
                             real *d_input)
{
    convolve(w, &w->backward, n, delta, packed, backward_stride(w), scratch, d_input);
}

void winograd_backward_weight(const struct winograd *w, size_t n, const real *input, const real *delta, real *scratch,
                              real *gradient)
{
    size_t left = patches(w) * w->in, right = patches(w) * w->out;
    real *v = scratch, *m = v + PLANES * left;
    for (size_t row = 0, count; row < n * w->rows; row += count) {
        count = at_most(n * w->rows - row, w->block);
        spread_rows(w, row, count, input, w->in, v);
        spread_delta_rows(w, row, count, delta, m);
        for (size_t i = 0; i < PLANES; i++)
            gather_outer(&w->weight, count * w->columns, v + i * left, m + i * right,
                         gradient + i * gradient_stride(w));
    }
}
