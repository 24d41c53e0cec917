/* The thread makes a new set of projections beside the old one and puts it in its place under the lock; whoever asks
 * draws under the same lock, in some milliseconds. */
#include "cli/dashboard_gallery.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/checkpoint.h"
#include "cli/contact_sheet.h"
#include "cli/encoder_load.h"
#include "cli/evaluation_note.h"
#include "cli/nearest.h"
#include "cli/parallel.h"
#include "cli/prototype_scores.h"
#include "cli/prototype_set.h"
#include "common/vecmath.h"

enum { CHUNK_IMAGES = 256 /* projected between two looks at whether the dashboard ends */ };

/* What a checkpoint makes of the images. */
struct gallery_view {
    uint64_t step;
    struct dataset images;
    struct prototype_set prototypes;
    float *z;          /* (images, D) of unit length */
    uint32_t *nearest; /* (images) the prototype that each is nearest to */
};

struct dashboard_gallery {
    char directory[CHECKPOINT_PATH_MAX];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool asked, closing;
    struct gallery_view *view; /* NULL: none yet */
    struct error trouble;      /* of the newest attempt; code 0: none */
};

/* ---- the view ---- */

static void view_free(struct gallery_view **view)
{
    struct gallery_view *v = *view;
    *view = NULL;
    if (v == NULL)
        return;
    dataset_fini(&v->images);
    prototype_set_fini(&v->prototypes);
    free(v->z);
    free(v->nearest);
    free(v);
}

static bool is_closing(struct dashboard_gallery *g)
{
    pthread_mutex_lock(&g->lock);
    bool closing = g->closing;
    pthread_mutex_unlock(&g->lock);
    return closing;
}

static int load_images(const struct checkpoint *c, struct dataset *out, struct error *e)
{
    struct dataset_options o = dataset_options_of(&c->config);
    int64_t most = c->config.eval.images;
    o.cached = o.on_demand = false; /* few, and none of training's business */
    if (o.limit == 0 || most < (int64_t)o.limit)
        o.limit = most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
    return dataset_load(&o, DATASET_TRAIN, out, e);
}

/* Images first.. of v, count of them. */
static int project_chunk(const struct encoder *enc, struct gallery_view *v, uint32_t first, uint32_t count,
                         struct error *e)
{
    uint32_t picked[CHUNK_IMAGES];
    struct feature_set features;
    float *z = NULL;
    size_t D = v->prototypes.D;
    for (uint32_t i = 0; i < count; i++)
        picked[i] = first + i;
    int rc = encoder_features(enc, &v->images, picked, count, parallel_threads(), &features, &z, e);
    if (rc != 0)
        return rc;
    vec_normalise_rows(z, count, D, NULL);
    memcpy(v->z + first * D, z, count * D * sizeof *z);
    feature_set_fini(&features);
    free(z);
    return 0;
}

static int project(struct dashboard_gallery *g, const struct checkpoint *c, struct gallery_view *v, struct error *e)
{
    struct encoder enc;
    uint32_t n = v->images.count;
    v->z = malloc(sizeof *v->z * n * v->prototypes.D);
    v->nearest = malloc(sizeof *v->nearest * n);
    if (v->z == NULL || v->nearest == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for the projections of %u images", n);
    int rc = encoder_load(c, &v->images, &enc, e);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; rc == 0 && i < n && !is_closing(g); i += CHUNK_IMAGES)
        rc = project_chunk(&enc, v, i, n - i < CHUNK_IMAGES ? n - i : CHUNK_IMAGES, e);
    encoder_fini(&enc);
    if (rc != 0 || is_closing(g))
        return rc;
    rc =
        prototype_assign(v->prototypes.unit, v->prototypes.K, v->prototypes.D, v->z, n, parallel_threads(), v->nearest);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the nearest prototypes");
}

static int make_view(struct dashboard_gallery *g, const struct checkpoint *c, struct gallery_view **out,
                     struct error *e)
{
    struct gallery_view *v = calloc(1, sizeof *v);
    *out = v;
    if (v == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for the nearest images");
    v->step = c->step;
    int rc = prototype_set_load(c, &v->prototypes, e);
    if (rc == 0)
        rc = load_images(c, &v->images, e);
    if (rc == 0)
        rc = project(g, c, v, e);
    if (rc != 0)
        view_free(out);
    return rc;
}

/* ---- the thread ---- */

/* Does nothing when the newest checkpoint is the one of the view. */
static void refresh(struct dashboard_gallery *g)
{
    struct checkpoint c;
    struct gallery_view *fresh = NULL;
    struct error e = {0};
    int rc = checkpoint_open(g->directory, &c, &e);
    bool newer = rc == 0 && (g->view == NULL || g->view->step != c.step); /* only this thread changes it */
    if (newer)
        rc = make_view(g, &c, &fresh, &e);
    if (newer || rc == 0)
        checkpoint_close(&c);
    pthread_mutex_lock(&g->lock);
    g->trouble = e;
    g->trouble.code = rc;
    if (fresh) {
        struct gallery_view *old = g->view;
        g->view = fresh;
        fresh = old;
    }
    pthread_mutex_unlock(&g->lock);
    view_free(&fresh);
}

static void *serve(void *arg)
{
    struct dashboard_gallery *g = arg;
    evaluation_note_give_way(); /* this thread, and those that it starts */
    pthread_mutex_lock(&g->lock);
    while (!g->closing) {
        if (g->asked) {
            pthread_mutex_unlock(&g->lock);
            refresh(g);
            pthread_mutex_lock(&g->lock);
            g->asked = false;
        } else
            pthread_cond_wait(&g->wake, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

int dashboard_gallery_open(const char *directory, struct dashboard_gallery **out, struct error *e)
{
    struct dashboard_gallery *g = calloc(1, sizeof *g);
    *out = NULL;
    if (g == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for the nearest images");
    snprintf(g->directory, sizeof g->directory, "%s", directory);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->wake, NULL);
    if (pthread_create(&g->thread, NULL, serve, g) == 0) {
        *out = g;
        return 0;
    }
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->lock);
    free(g);
    return error_set(e, ERR_IO, "no thread for the nearest images");
}

void dashboard_gallery_close(struct dashboard_gallery **gallery)
{
    struct dashboard_gallery *g = *gallery;
    *gallery = NULL;
    if (g == NULL)
        return;
    pthread_mutex_lock(&g->lock);
    g->closing = true;
    pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    view_free(&g->view);
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* ---- pictures; under the lock ---- */

static void write_title(const struct gallery_view *v, uint32_t prototype, char title[SHEET_TEXT_MAX])
{
    uint32_t own = 0;
    for (uint32_t i = 0; i < v->images.count; i++)
        own += v->nearest[i] == prototype;
    snprintf(title, SHEET_TEXT_MAX, "prototype %u, step %llu: nearest to %u of %u images", prototype,
             (unsigned long long)v->step, own, v->images.count);
}

static int draw(const struct gallery_view *v, uint32_t prototype, char **png, size_t *size, struct error *e)
{
    uint32_t k = v->images.count < GALLERY_IMAGES ? v->images.count : GALLERY_IMAGES;
    struct nearest_hit hits[GALLERY_IMAGES];
    struct contact_sheet sheet;
    const struct nearest_search n = {.bank = v->z,
                                     .queries = v->prototypes.unit + (size_t)prototype * v->prototypes.D,
                                     .bank_rows = v->images.count,
                                     .query_rows = 1,
                                     .width = v->prototypes.D,
                                     .k = k,
                                     .threads = 1};
    int rc = nearest_find(&n, hits);
    if (rc != 0)
        return error_set(e, rc, "out of memory for the nearest images");
    rc = contact_sheet_init(&v->images, 1, k, &sheet, e);
    if (rc != 0)
        return rc;
    write_title(v, prototype, sheet.titles[0]);
    for (uint32_t i = 0; i < k; i++) {
        sheet.cells[i].pixels = v->images.images + hits[i].row * dataset_image_bytes(&v->images);
        snprintf(sheet.cells[i].caption, SHEET_TEXT_MAX, "%.3f", (double)hits[i].cosine);
    }
    rc = contact_sheet_png(&sheet, png, size, e);
    contact_sheet_fini(&sheet);
    return rc;
}

enum gallery_answer dashboard_gallery_picture(struct dashboard_gallery *g, uint32_t prototype, char **png, size_t *size,
                                              struct error *e)
{
    enum gallery_answer answer = GALLERY_BUSY;
    *e = (struct error){0};
    pthread_mutex_lock(&g->lock);
    if (g->view && prototype >= g->view->prototypes.K)
        answer = GALLERY_UNKNOWN;
    else if (g->view)
        answer = draw(g->view, prototype, png, size, e) == 0 ? GALLERY_PICTURE : GALLERY_FAILED;
    else if (g->trouble.code != 0) {
        *e = g->trouble;
        answer = GALLERY_FAILED;
    }
    g->asked = true;
    pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->lock);
    return answer;
}
