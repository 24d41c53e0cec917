/* Comparing, keeping and telling. */
#include "proto/provenance.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"

uint64_t fingerprint_of(uint64_t hash)
{
    uint64_t f = hash & FINGERPRINT_MASK;
    return f != 0 ? f : 1;
}

/* ---- what a worker tells ---- */

/* False when the scalar is there and is no fingerprint. Only a worker is believed: whoever merely asks tells
 * nothing. */
static bool told(const struct msg *hello, const char *name, uint64_t *out)
{
    double value = hello->worker != 0 ? msg_scalar(hello, name, 0.0) : 0.0;
    bool whole = value >= 0.0 && value <= (double)FINGERPRINT_MASK && value == floor(value);
    *out = whole ? (uint64_t)value : 0;
    return whole;
}

bool provenance_is_told_right(const struct msg *hello)
{
    uint64_t ignored;
    return told(hello, "data", &ignored) && told(hello, "numerics", &ignored);
}

enum reason provenance_check(const struct provenance *p, const struct run_config *c, const struct msg *hello,
                             const char **text)
{
    uint64_t data, numerics;
    *text = PROVENANCE_FORM;
    if (!told(hello, "data", &data) || !told(hello, "numerics", &numerics))
        return REASON_BAD_VALUE;
    bool acceptable = c->run.accept_data && !p->data_told;
    *text =
        "these are not the images of this run (compare data= in the workers' logs): bring those back, choose another "
        "run.out, or accept them with run.accept_data = true, decant resume DIR --accept-data";
    if (data != 0 && p->data != 0 && data != p->data && !acceptable)
        return REASON_WRONG_CONFIG;
    *text = "this worker's arithmetic rounds otherwise than the run's first (compare numerics=, kernels= and "
            "blas= in the workers' logs, the former ones, too): set DECANT_KERNELS and OPENBLAS_CORETYPE alike on all "
            "machines, or admit it with run.numerics = any";
    if (numerics != 0 && p->numerics != 0 && numerics != p->numerics && c->run.numerics != NUMERICS_ANY)
        return REASON_WRONG_CONFIG;
    *text = "";
    return 0;
}

static void take_data(struct provenance *p, uint64_t data, uint64_t step)
{
    if (p->data != 0 && p->data != data) {
        log_warn("event=data_changed step=%" PRIu64 " before=%014" PRIx64 " data=%014" PRIx64
                 " cause=\"run.accept_data\"",
                 step, p->data, data);
        p->data_before = p->data;
        p->data_since = step;
    }
    p->data = data;
    p->data_told = true;
}

static void take_numerics(struct provenance *p, uint64_t numerics, uint64_t worker)
{
    if (p->numerics == 0)
        p->numerics = numerics;
    if (numerics == p->numerics || numerics == p->numerics_other)
        return;
    log_warn("event=numerics_mixed worker=%016" PRIx64 " first=%014" PRIx64 " numerics=%014" PRIx64
             " cause=\"run.numerics = any\" hint=\"the bytes now depend on which worker computed what\"",
             worker, p->numerics, numerics);
    p->numerics_other = numerics;
}

void provenance_take(struct provenance *p, const struct msg *hello, uint64_t step)
{
    uint64_t data, numerics;
    if (told(hello, "data", &data) && data != 0)
        take_data(p, data, step);
    if (told(hello, "numerics", &numerics) && numerics != 0)
        take_numerics(p, numerics, hello->worker);
}

/* ---- what a checkpoint says ---- */

void provenance_forget(struct provenance *p)
{
    *p = (struct provenance){.server_numerics = p->server_numerics, .server_other = p->server_other, .init = p->init};
}

void provenance_adopt(struct provenance *p, const struct provenance *kept)
{
    if (p->data == 0) {
        p->data = kept->data;
        p->data_before = kept->data_before;
        p->data_since = kept->data_since;
    }
    if (p->numerics == 0)
        p->numerics = kept->numerics;
    if (p->numerics_other == 0)
        p->numerics_other = kept->numerics_other;
    if (p->server_numerics == 0)
        p->server_numerics = kept->server_numerics;
    if (p->server_other == 0)
        p->server_other = kept->server_other;
    if (p->init == 0)
        p->init = kept->init;
}

int provenance_take_server(struct provenance *p, const struct run_config *c, uint64_t own, struct error *e)
{
    uint64_t before = p->server_numerics;
    bool other = own != 0 && before != 0 && own != before;
    if (p->data == 0 || p->numerics == 0)
        log_warn("event=provenance_unknown hint=\"the checkpoint does not say which images and which arithmetic it was "
                 "computed with, as those of earlier versions do; the next worker's are believed\"");
    if (other && c->run.numerics != NUMERICS_ANY)
        return error_set(
            e, ERR_CONFIG,
            "the checkpoint was written by a server whose arithmetic rounds otherwise (numerics %014" PRIx64
            ", here %014" PRIx64 "): set DECANT_KERNELS and OPENBLAS_CORETYPE to the kernels= and blas= "
            "of its workers' logs, or admit it with run.numerics = any",
            before, own);
    if (other) {
        log_warn("event=numerics_mixed server_before=%014" PRIx64 " server=%014" PRIx64 " cause=\"run.numerics = any\"",
                 before, own);
        p->server_other = before;
    }
    if (own != 0)
        p->server_numerics = own;
    return 0;
}

/* ---- metadata ---- */

struct entry {
    const char *key;
    size_t offset; /* of the uint64_t in struct provenance */
    bool decimal;
};

static const struct entry entries[PROVENANCE_ENTRIES_MAX] = {
    {"data", offsetof(struct provenance, data), false},
    {"data_before", offsetof(struct provenance, data_before), false},
    {"data_since", offsetof(struct provenance, data_since), true},
    {"numerics", offsetof(struct provenance, numerics), false},
    {"numerics_other", offsetof(struct provenance, numerics_other), false},
    {"server_numerics", offsetof(struct provenance, server_numerics), false},
    {"server_other", offsetof(struct provenance, server_other), false},
    {"init", offsetof(struct provenance, init), false},
};

size_t provenance_to_metadata(const struct provenance *p, struct metadata_entry out[PROVENANCE_ENTRIES_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < PROVENANCE_ENTRIES_MAX; i++) {
        const struct entry *entry = &entries[i];
        uint64_t value;
        memcpy(&value, (const char *)p + entry->offset, sizeof value);
        bool there = entry->decimal ? p->data_before != 0 : value != 0;
        if (!there)
            continue;
        snprintf(out[n].key, sizeof out[n].key, "%s", entry->key);
        snprintf(out[n].value, sizeof out[n].value, entry->decimal ? "%" PRIu64 : "%014" PRIx64, value);
        n++;
    }
    return n;
}

static bool parse(const char *text, const struct entry *entry, uint64_t *out)
{
    size_t length = strlen(text), digits = strspn(text, entry->decimal ? "0123456789" : "0123456789abcdef");
    if (digits != length || length == 0 || length > 14)
        return false;
    *out = strtoull(text, NULL, entry->decimal ? 10 : 16);
    return entry->decimal || (*out > 0 && *out <= FINGERPRINT_MASK);
}

int provenance_from_metadata(const struct safetensors *f, struct provenance *out, struct error *e)
{
    *out = (struct provenance){0};
    for (size_t i = 0; i < PROVENANCE_ENTRIES_MAX; i++) {
        const char *text = safetensors_meta(f, entries[i].key);
        uint64_t value = 0;
        if (text != NULL && !parse(text, &entries[i], &value))
            return error_set(e, ERR_FORMAT, "metadata '%s' = '%.40s' is not a fingerprint", entries[i].key, text);
        memcpy((char *)out + entries[i].offset, &value, sizeof value);
    }
    return 0;
}
