/* Reading and ordering of rows. From Redis in pipelines: one round trip per command would be fifty times slower. */
#include "cli/prototype_table.h"

#include <math.h>
#include <stdlib.h>
#include "cli/prototype_set.h"
#include "common/cosine.h"

enum {
    PIPELINE = 512,
    COMPONENTS_MAX = 1048576,
    TABLE_MS = 120000, /* for all of them; a million take some 20 s */
};

/* ---- from Redis ---- */

static double number(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING ? strtod(r->str, NULL) : NAN;
}

static int read_row(struct run_source *s, struct prototype_row *row, struct error *e)
{
    redisReply *reply;
    int rc = run_source_reply(s, REDIS_REPLY_ARRAY, &reply, e);
    if (rc != 0)
        return rc;
    if (reply->elements != 5) {
        freeReplyObject(reply);
        return error_set(e, ERR_FORMAT, "%s: HMGET answered with another number of fields", s->where);
    }
    double nearest = number(reply->element[3]);
    row->weight = number(reply->element[0]);
    row->mass = number(reply->element[1]);
    row->usage = number(reply->element[2]);
    row->nearest = nearest >= 0 && nearest < COMPONENTS_MAX ? (uint32_t)nearest : UINT32_MAX;
    row->cosine = number(reply->element[4]);
    freeReplyObject(reply);
    return 0;
}

static int read_rows(struct run_source *s, struct prototype_row *rows, uint32_t count, struct error *e)
{
    int rc = 0;
    for (uint32_t from = 0; rc == 0 && from < count; from += PIPELINE) {
        uint32_t to = count - from < PIPELINE ? count : from + PIPELINE;
        for (uint32_t k = from; rc == 0 && k < to; k++)
            rc = redis_client_append(s->redis, "HMGET decant:%s:prototype:%u weight mass usage nearest nearest_cosine",
                                     s->run, k);
        for (uint32_t k = from; rc == 0 && k < to; k++) {
            rows[k].index = k;
            rc = read_row(s, &rows[k], e);
        }
    }
    return rc;
}

static int read_count(struct run_source *s, uint32_t *count, struct error *e)
{
    redisReply *reply;
    int rc = run_source_command(s, REDIS_REPLY_STRING, &reply, e, "HGET decant:%s K", s->run);
    if (rc != 0)
        return rc;
    unsigned long K = strtoul(reply->str, NULL, 10);
    freeReplyObject(reply);
    if (K < 1 || K > COMPONENTS_MAX)
        return error_set(e, ERR_FORMAT, "%s: K = %lu is out of range", s->where, K);
    *count = (uint32_t)K;
    return 0;
}

static int read_redis(struct run_source *s, struct prototype_row **rows, uint32_t *count, struct error *e)
{
    run_source_allow(s, TABLE_MS);
    int rc = read_count(s, count, e);
    if (rc != 0)
        return rc;
    *rows = calloc(*count, sizeof **rows);
    return *rows ? read_rows(s, *rows, *count, e) : error_set(e, ERR_MEMORY, "out of memory for %u rows", *count);
}

/* ---- from a checkpoint ---- */

static int fill_rows(const struct prototype_set *set, struct prototype_row *rows)
{
    uint32_t *nearest = malloc(set->K * sizeof *nearest);
    float *cosine = malloc(set->K * sizeof *cosine);
    int rc = nearest && cosine ? cosine_nearest(set->unit, set->K, set->D, nearest, cosine) : ERR_MEMORY;
    double total = 0;
    for (uint32_t k = 0; set->mass && k < set->K; k++)
        total += set->mass[k];
    for (uint32_t k = 0; rc == 0 && k < set->K; k++)
        rows[k] = (struct prototype_row){.index = k,
                                         .weight = set->mass ? set->mass[k] / total : NAN,
                                         .mass = set->mass ? set->mass[k] : NAN,
                                         .usage = set->usage ? set->usage[k] : NAN,
                                         .nearest = nearest[k],
                                         .cosine = (double)cosine[k]};
    free(nearest);
    free(cosine);
    return rc;
}

static int read_checkpoint(const struct checkpoint *c, struct prototype_row **rows, uint32_t *count, struct error *e)
{
    struct prototype_set set;
    int rc = prototype_set_load(c, &set, e);
    if (rc != 0)
        return rc;
    *count = set.K;
    *rows = calloc(set.K, sizeof **rows);
    rc = *rows ? fill_rows(&set, *rows) : ERR_MEMORY;
    prototype_set_fini(&set);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for %u rows", *count);
}

int prototype_table_read(struct run_source *s, struct prototype_row **rows, uint32_t *count, struct error *e)
{
    *rows = NULL;
    *count = 0;
    int rc = s->redis ? read_redis(s, rows, count, e) : read_checkpoint(&s->checkpoint, rows, count, e);
    if (rc != 0) {
        free(*rows);
        *rows = NULL;
    }
    return rc;
}

/* ---- order ---- */

/* Largest first, absent values last, ties by index. */
static int compare(double a, double b, const struct prototype_row *x, const struct prototype_row *y)
{
    if (isnan(a) != isnan(b))
        return isnan(a) ? 1 : -1;
    if (a != b && !isnan(a))
        return a > b ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static int by_weight(const void *a, const void *b)
{
    const struct prototype_row *x = a, *y = b;
    return compare(x->weight, y->weight, x, y);
}

static int by_nearest(const void *a, const void *b)
{
    const struct prototype_row *x = a, *y = b;
    return compare(x->cosine, y->cosine, x, y);
}

void prototype_table_sort(struct prototype_row *rows, uint32_t count, enum prototype_order order)
{
    if (order != ORDER_INDEX)
        qsort(rows, count, sizeof *rows, order == ORDER_WEIGHT ? by_weight : by_nearest);
}
