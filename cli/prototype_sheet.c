/* Prototypes are the queries of a search among projections. */
#include "cli/prototype_sheet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/contact_sheet.h"
#include "cli/embedding.h"
#include "cli/image_set.h"
#include "cli/nearest.h"
#include "cli/parallel.h"

struct sheet_data {
    struct dataset images;
    uint32_t *picked; /* (embedding.features.rows) image numbers */
    struct embedding embedding;
};

static void sheet_data_fini(struct sheet_data *s)
{
    dataset_fini(&s->images);
    embedding_fini(&s->embedding);
    free(s->picked);
}

static int load(const struct checkpoint *c, const struct prototype_sheet_options *o, struct evaluation_meter *meter,
                struct sheet_data *out, struct error *e)
{
    const char *path = o->data ? o->data : c->config.data.path;
    int64_t most = o->images > 0 ? o->images : c->config.eval.bank;
    *out = (struct sheet_data){0};
    int rc = image_set_load(&c->config, &path, 1, DATASET_TRAIN, meter, &out->images, e);
    if (rc != 0) /* of a dashboard there is no option */
        return o->data || o->progress == NULL ? rc : image_set_own_failed(rc, "--data", e);
    image_set_warn(&out->images, meter);
    uint32_t rows = most < out->images.count ? (uint32_t)most : out->images.count;
    out->picked = feature_set_pick(out->images.count, rows);
    rc = out->picked ? embedding_make(c, &out->images, out->picked, rows, meter, &out->embedding, e)
                     : error_set(e, ERR_MEMORY, "out of memory for the choice of images");
    if (rc != 0)
        sheet_data_fini(out);
    return rc;
}

/* hits (count, k). */
static int find(const struct embedding *x, const struct prototype_row *rows, uint32_t count, uint32_t k,
                struct nearest_hit *hits)
{
    float *queries = malloc(sizeof *queries * count * x->D);
    if (queries == NULL)
        return ERR_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        memcpy(queries + (size_t)i * x->D, x->prototypes.unit + (size_t)rows[i].index * x->D, x->D * sizeof *queries);
    const struct nearest_search n = {.bank = x->z,
                                     .queries = queries,
                                     .bank_rows = x->features.rows,
                                     .query_rows = count,
                                     .width = x->D,
                                     .k = k,
                                     .threads = parallel_threads()};
    int rc = nearest_find(&n, hits);
    free(queries);
    return rc;
}

static void write_title(const struct embedding *x, const struct prototype_row *row, char title[SHEET_TEXT_MAX])
{
    uint32_t images = 0;
    char weight[32] = "";
    for (uint32_t i = 0; i < x->features.rows; i++)
        images += x->nearest[i] == row->index;
    if (!isnan(row->weight))
        snprintf(weight, sizeof weight, "weight %.3g %%, ", 100 * row->weight);
    snprintf(title, SHEET_TEXT_MAX, "prototype %u: %snearest to %u of %u images", row->index, weight, images,
             x->features.rows);
}

static void fill(const struct sheet_data *s, const struct prototype_row *rows, const struct nearest_hit *hits,
                 struct contact_sheet *sheet)
{
    const struct dataset *d = &s->images;
    size_t image = (size_t)d->height * d->width * d->channels;
    for (uint32_t i = 0; i < sheet->rows; i++) {
        write_title(&s->embedding, &rows[i], sheet->titles[i]);
        for (uint32_t j = 0; j < sheet->columns; j++) {
            struct sheet_cell *cell = &sheet->cells[(size_t)i * sheet->columns + j];
            const struct nearest_hit *hit = &hits[(size_t)i * sheet->columns + j];
            cell->pixels = d->images + s->picked[hit->row] * image;
            snprintf(cell->caption, SHEET_TEXT_MAX, "%.3f", hit->cosine);
        }
    }
}

static int draw(const struct sheet_data *s, const struct prototype_row *rows, uint32_t count, const char *path,
                struct error *e)
{
    struct contact_sheet sheet;
    uint32_t images = s->embedding.features.rows, k = images < PROTOTYPE_SHEET_IMAGES ? images : PROTOTYPE_SHEET_IMAGES;
    struct nearest_hit *hits = malloc(sizeof *hits * count * k);
    if (hits == NULL || find(&s->embedding, rows, count, k, hits) != 0) {
        free(hits);
        return error_set(e, ERR_MEMORY, "out of memory for the nearest images");
    }
    int rc = contact_sheet_init(&s->images, count, k, &sheet, e);
    if (rc == 0) {
        fill(s, rows, hits, &sheet);
        rc = contact_sheet_write(&sheet, path, e);
        contact_sheet_fini(&sheet);
    }
    free(hits);
    return rc;
}

int prototype_sheet_write(const struct checkpoint *c, const struct prototype_row *rows, uint32_t count,
                          const struct prototype_sheet_options *o, struct error *e)
{
    struct sheet_data s;
    struct evaluation_meter meter;
    evaluation_meter_init(&meter, "drawing", o->progress, o->progress && isatty(fileno(o->progress)));
    int rc = load(c, o, &meter, &s, e);
    evaluation_meter_end(&meter);
    if (rc != 0)
        return rc;
    rc = draw(&s, rows, count, o->out, e);
    sheet_data_fini(&s);
    return rc;
}
