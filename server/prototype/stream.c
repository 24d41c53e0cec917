#include "server/prototype/stream.h"

#include <stdlib.h>

int stream_new(const struct run_config *c, struct ledger *ledger, struct stream **out)
{
    struct stream *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL || (ledger == NULL && ledger_new(&s->ledger) != 0)) {
        free(s);
        return ERR_MEMORY;
    }
    if (ledger != NULL)
        s->ledger = ledger;
    s->limits = (struct ledger_limits){.window = (uint64_t)c->stream.window, .keep = (uint64_t)c->stream.keep};
    s->contributions_max = (uint64_t)c->stream.contributions;
    s->version_ms = (uint64_t)c->stream.version_ms;
    s->checkpoint_ms = (uint64_t)c->stream.checkpoint_ms;
    stats_rows_init(&s->sum);
    *out = s;
    return 0;
}

void stream_free(struct stream **s)
{
    if (*s == NULL)
        return;
    ledger_free(&(*s)->ledger);
    stats_rows_fini(&(*s)->sum);
    free(*s);
    *s = NULL;
}

/* ---- versions ---- */

int stream_add(struct stream *s, struct stats_rows *rows, uint64_t now_ms)
{
    int rc = 0;
    if (s->pending == 0) {
        s->sum = *rows;
        stats_rows_init(rows);
        s->pending_ms = now_ms;
    } else {
        rc = stats_rows_add(&s->sum, rows);
    }
    stats_rows_fini(rows);
    s->pending++;
    return rc;
}

bool stream_version_due(const struct stream *s, uint64_t now_ms)
{
    if (s->pending == 0)
        return false;
    return s->pending >= s->contributions_max || now_ms >= s->pending_ms + s->version_ms;
}

void stream_folded(struct stream *s)
{
    s->folds++;
    s->embeddings += s->sum.count;
    stats_rows_fini(&s->sum);
    stats_rows_init(&s->sum);
    s->pending = 0;
}

double stream_embeddings(const struct stream *s)
{
    return s->folds > 0 ? s->embeddings / (double)s->folds : 0;
}

/* ---- checkpoints ---- */

void stream_press(struct stream *s, const struct ledger_client *client)
{
    if (client->applied - client->durable >= (s->limits.keep + 1) / 2)
        s->pressed = true;
}

bool stream_checkpoint_due(struct stream *s, uint64_t now_ms)
{
    if (s->writing)
        return false; /* what is pressed stays so */
    if (s->saved_ms == 0)
        s->saved_ms = now_ms; /* the first one waits its time as well */
    return s->pressed || now_ms >= s->saved_ms + s->checkpoint_ms;
}

bool stream_may_snapshot(const struct stream *s)
{
    return s->pending == 0 && !s->writing;
}

/* The moment of taking is not known here: the next time that somebody asks whether one is due comes soon enough. */
int stream_snapshot(struct stream *s, struct ledger **ledger)
{
    int rc = ledger_clone(s->ledger, ledger);
    if (rc != 0)
        return rc;
    ledger_snapshot(s->ledger);
    s->writing = true;
    s->pressed = false;
    s->saved_ms = 0;
    return 0;
}

void stream_written(struct stream *s)
{
    s->writing = false;
    ledger_written(s->ledger);
}
