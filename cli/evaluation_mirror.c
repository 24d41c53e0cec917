/* One connection for one note: they are minutes apart. */
#include "cli/evaluation_mirror.h"

#include "cli/printable.h"
#include "cli/redis_client.h"
#include "common/clock.h"
#include "proto/redis_info.h"

enum { WITHIN_MS = 3000, ENTRIES_MAX = 10000 /* as of the mirror's metrics */, NUMBER_TEXT = 32 };

static int take_reply(struct redis_client *r, struct error *e)
{
    redisReply *reply;
    int rc = redis_client_reply(r, &reply, e);
    if (rc != 0)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR)
        rc = error_set(e, ERR_FORMAT, "%.200s; %s", printable(reply->str), redis_error_advice(reply->str));
    freeReplyObject(reply);
    return rc;
}

static int append(struct redis_client *r, const char *run, const struct evaluation_note *n)
{
    char time[NUMBER_TEXT], knn[NUMBER_TEXT], projections[NUMBER_TEXT], best[NUMBER_TEXT];
    snprintf(time, sizeof time, "%.3f", unix_time());
    snprintf(knn, sizeof knn, "%.4f", n->knn);
    snprintf(projections, sizeof projections, "%.4f", n->knn_projections);
    snprintf(best, sizeof best, "%.4f", n->best);
    return redis_client_append(
        r,
        "XADD decant:%s:evaluation MAXLEN ~ %d * step %llu time %s knn %s knn_projections %s bank "
        "%u queries %u best_step %llu best %s",
        run, ENTRIES_MAX, (unsigned long long)n->step, time, knn, projections, n->bank, n->queries,
        (unsigned long long)n->best_step, best);
}

static int write_note(struct redis_client *r, const char *run, const struct evaluation_note *n, struct error *e)
{
    int rc = n->first ? redis_client_append(r, "DEL decant:%s:evaluation", run) : 0;
    if (rc == 0)
        rc = append(r, run, n);
    if (rc != 0)
        return error_set(e, rc, "out of memory");
    if (n->first)
        rc = take_reply(r, e);
    return rc == 0 ? take_reply(r, e) : rc;
}

int evaluation_mirror_write(const struct run_config *c, const struct evaluation_note *n, struct error *e)
{
    struct redis_address address = {0};
    struct redis_client *r = NULL;
    if (!c->redis.enabled)
        return 0;
    int rc = redis_address_configured(c, &address, e);
    if (rc == 0)
        rc = redis_client_open(&address, WITHIN_MS, &r, e);
    redis_address_wipe(&address);
    if (rc == 0)
        rc = write_note(r, n->run, n, e);
    redis_client_close(&r);
    return rc;
}

static bool is_text(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING;
}

void evaluation_mirror_read(struct run_source *s, struct run_figures *out)
{
    redisReply *list;
    out->count = 0;
    if (run_source_command(s, REDIS_REPLY_ARRAY, &list, NULL, "XREVRANGE decant:%s:evaluation + - COUNT 1", s->run) !=
        0)
        return;
    const redisReply *entry = list->elements == 1 ? list->element[0] : NULL;
    const redisReply *fields =
        entry && entry->type == REDIS_REPLY_ARRAY && entry->elements == 2 ? entry->element[1] : NULL;
    for (size_t i = 0; fields && fields->type == REDIS_REPLY_ARRAY && i + 1 < fields->elements; i += 2)
        if (is_text(fields->element[i]) && is_text(fields->element[i + 1]))
            run_figures_set(out, fields->element[i]->str, "%s", fields->element[i + 1]->str);
    freeReplyObject(list);
}
