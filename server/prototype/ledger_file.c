#include "server/prototype/ledger_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 3 };

static const char tensor_name[] = "ledger";

int ledger_to_tensor(const struct ledger *l, uint64_t **rows, struct tensor_view *out)
{
    uint64_t *r = calloc((size_t)(l->count + 1) * COLUMNS, sizeof *r);
    *rows = r;
    if (r == NULL)
        return ERR_MEMORY;
    *out = (struct tensor_view){.dtype = DTYPE_U64, .rank = 2, .shape = {l->count + 1, COLUMNS}, .data = r};
    out->size = (size_t)(l->count + 1) * COLUMNS * sizeof *r;
    snprintf(out->name, sizeof out->name, "%s", tensor_name);
    memcpy(r, (const uint64_t[COLUMNS]){l->forgotten, l->contributions, l->lost}, COLUMNS * sizeof *r);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct ledger_client *k = &l->clients[i];
        const uint64_t row[COLUMNS] = {k->id.name, k->id.owner, k->applied};
        memcpy(r + (size_t)(i + 1) * COLUMNS, row, sizeof row);
    }
    return 0;
}

static const struct tensor_view *find(const struct safetensors *f)
{
    for (size_t i = 0; i < f->tensor_count; i++)
        if (strcmp(f->tensors[i].name, tensor_name) == 0)
            return &f->tensors[i];
    return NULL;
}

static int read_rows(struct ledger *l, const unsigned char *data, uint64_t rows, struct error *e)
{
    uint64_t row[COLUMNS];
    memcpy(row, data, sizeof row);
    l->forgotten = row[0];
    l->contributions = row[1];
    l->lost = row[2];
    for (uint64_t i = 1; i < rows; i++) {
        memcpy(row, data + i * sizeof row, sizeof row);
        struct ledger_id id = {row[0], row[1]};
        if (id.name == 0 || row[2] == 0 || row[2] > INT64_MAX || ledger_find(l, id) != NULL)
            return error_set(e, ERR_FORMAT, "row %" PRIu64 " of the ledger names no client, or one twice", i);
        l->clients[l->count++] = (struct ledger_client){.id = id, .applied = row[2]};
    }
    return 0;
}

int ledger_from_file(const struct safetensors *f, struct ledger **out, struct error *e)
{
    const struct tensor_view *t = find(f);
    *out = NULL;
    if (t == NULL || t->dtype != DTYPE_U64 || t->rank != 2 || t->shape[1] != COLUMNS || t->shape[0] < 1 ||
        t->shape[0] > LEDGER_CLIENTS_MAX + 1)
        return error_set(e, ERR_FORMAT, "no ledger of clients: not a checkpoint of a stream");
    if (ledger_new(out) != 0)
        return error_set(e, ERR_MEMORY, "out of memory for the ledger");
    int rc = read_rows(*out, t->data, t->shape[0], e);
    if (rc != 0)
        ledger_free(out);
    else
        ledger_resumed(*out);
    return rc;
}
