/* A tile of the operand is W^T of some components side by side, (D, components x D), with -W mu as its bias row. */
#include "worker/whitened.h"

#include <stdlib.h>
#include "common/vecmath.h"
#include "worker/nn/tiles.h"

enum { TILE_COLUMNS = 1024 }; /* so that a tile's products of a block of 256 rows take 1 MiB */

struct whitened {
    uint32_t K, D, block_rows;
    uint32_t tile;    /* components in a tile */
    size_t tile_size; /* floats of a packed tile */
    float *packed;    /* (tiles) */
    float *bias;      /* (K) log_const + price */
    float *shift;     /* (tile D) -W mu of the tile being packed */
    float *products;  /* (block,tile D) */
    uint32_t *in, *out;
};

static void *floats(size_t n)
{
    void *p = NULL;
    return posix_memalign(&p, 64, n * sizeof(float)) == 0 ? p : NULL;
}

int whitened_new(uint32_t block_rows, uint32_t K, uint32_t D, struct whitened **out)
{
    struct whitened *w = calloc(1, sizeof *w);
    *out = w;
    if (w == NULL)
        return ERR_MEMORY;
    uint32_t tile = D < TILE_COLUMNS ? TILE_COLUMNS / D : 1;
    w->K = K;
    w->D = D;
    w->block_rows = block_rows;
    w->tile = tile < K ? tile : K;
    size_t columns = (size_t)w->tile * D, tiles = (K + w->tile - 1) / w->tile;
    w->tile_size = tile_packed_size(D, columns);
    w->packed = floats(tiles * w->tile_size);
    w->bias = floats(K);
    w->shift = floats(columns);
    w->products = floats(block_rows * columns);
    w->in = calloc(block_rows, sizeof *w->in);
    w->out = calloc(block_rows, sizeof *w->out);
    if (!w->packed || !w->bias || !w->shift || !w->products || !w->in || !w->out) {
        whitened_free(out);
        return ERR_MEMORY;
    }
    for (uint32_t i = 0; i < block_rows; i++) {
        w->in[i] = i * D;
        w->out[i] = i * (uint32_t)columns;
    }
    return 0;
}

void whitened_free(struct whitened **w)
{
    if (*w == NULL)
        return;
    free((*w)->packed);
    free((*w)->bias);
    free((*w)->shift);
    free((*w)->products);
    free((*w)->in);
    free((*w)->out);
    free(*w);
    *w = NULL;
}

static uint32_t tile_at(const struct whitened *w, uint32_t k)
{
    return w->K - k < w->tile ? w->K - k : w->tile;
}

/* The tile of n components from k on. */
static void pack_tile(struct whitened *w, const struct mixture_view *v, uint32_t k, uint32_t n)
{
    size_t D = w->D, columns = n * D;
    const float *W = v->variance + k * D * D;
    float *packed = w->packed + k / w->tile * w->tile_size;
    struct pack p = {.K = w->D, .columns = columns, .n = D, .row_stride = 1, .column_stride = D};
    for (size_t c = 0; c < columns; c++)
        w->shift[c] = -vec_dot(W + c * D, v->mean + (k + c / D) * D, D);
    tile_pack(&p, W, packed);
    tile_pack_bias(D, columns, w->shift, packed);
}

void whitened_use(struct whitened *w, const struct mixture_view *v)
{
    for (uint32_t k = 0; k < w->K; k++)
        w->bias[k] = v->log_const[k] + v->price[k];
    for (uint32_t k = 0; k < w->K; k += w->tile)
        pack_tile(w, v, k, tile_at(w, k));
}

void whitened_logits(struct whitened *w, const float *h, size_t rows, float *logits)
{
    size_t D = w->D, stride = (size_t)w->tile * D;
    ASSERT(rows <= w->block_rows);
    for (uint32_t k = 0; k < w->K; k += w->tile) {
        uint32_t n = tile_at(w, k);
        struct gather g = {.runs = 1, .run = D, .stride = D, .columns = (uint32_t)(n * D), .in = w->in, .out = w->out};
        gather_product(&g, rows, h, w->packed + k / w->tile * w->tile_size, w->products);
        for (size_t i = 0; i < rows; i++)
            for (size_t c = 0; c < n; c++) {
                const float *y = w->products + i * stride + c * D;
                logits[i * w->K + k + c] = w->bias[k + c] - 0.5f * vec_dot(y, y, D);
            }
    }
}
