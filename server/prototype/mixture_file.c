/* Writing and reading of mixture checkpoints. */
#include "server/prototype/mixture_file.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/safetensors.h"
#include "common/vecmath.h"
#include "common/version.h"
#include "proto/covariance.h"
#include "server/prototype/ledger_file.h"
#include "server/prototype/mixture_rows.h"
#include "server/prototype/seeding_file.h"

enum {
    METADATA = 11, /* entries beside those of the provenance */
    TENSORS_MAX = 16,
    DIMENSIONS_MAX = 4096, /* of mixture.dimensions */
};

static const char mixture_format[] = "decant-mixture-1";
static const double price_max = 1e12; /* far beyond what a run can reach, and finite as a float */

static struct tensor_view tensor_of(const char *name, enum dtype dtype, uint32_t rank, uint64_t K, uint64_t D,
                                    const void *data)
{
    struct tensor_view t = {.dtype = dtype, .rank = rank, .shape = {K, rank == 2 ? D : 0}, .data = data};
    snprintf(t.name, sizeof t.name, "%s", name);
    t.size = K * (rank == 2 ? D : 1) * dtype_size(dtype);
    return t;
}

static void entry_set(struct metadata_entry *entry, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void entry_set(struct metadata_entry *entry, const char *key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    snprintf(entry->key, sizeof entry->key, "%s", key);
    vsnprintf(entry->value, sizeof entry->value, format, args);
    va_end(args);
}

/* Rows of a snapshot (mixture_snapshot), which has none in its view: of means, of variances. Scratch is for families
 * that a snapshot has whole. */
static void make_means(const void *mixture, uint64_t first, uint64_t n, void *to)
{
    const struct mixture *m = mixture;
    float variance[DIMENSIONS_MAX], *mean = to;
    for (uint64_t i = 0; i < n; i++, mean += m->options.D)
        mixture_row(m, (uint32_t)(first + i), NULL, mean, variance);
}

static void make_variances(const void *mixture, uint64_t first, uint64_t n, void *to)
{
    const struct mixture *m = mixture;
    float mean[DIMENSIONS_MAX], *variance = to;
    for (uint64_t i = 0; i < n; i++, variance += covariance_width(m->options.covariance, m->options.D))
        mixture_row(m, (uint32_t)(first + i), NULL, mean, variance);
}

/* A tensor of the view, or one that is made from the sums. */
static struct tensor_view tensor_made(struct tensor_view t, const struct mixture *m,
                                      void (*rows)(const void *mixture, uint64_t first, uint64_t n, void *to))
{
    if (t.data == NULL) {
        t.data = m;
        t.rows = rows;
    }
    return t;
}

/* Those of wide elements first, as the file wants them. ledger: its tensor, or NULL. */
static size_t list_tensors(const struct mixture *m, const char *record, size_t record_size,
                           const struct tensor_view *ledger, struct tensor_view *out)
{
    uint64_t K = m->options.K, D = m->options.D;
    bool scalar = covariance_is_scalar(m->options.covariance);
    size_t n = 0;
    out[n++] = tensor_of("mass", DTYPE_F64, 1, K, D, m->mass);
    out[n++] = tensor_of("s1", DTYPE_F64, 2, K, D, m->s1);
    bool shared = covariance_shared_width(m->options.covariance, D) > 0;
    if (m->s2)
        out[n++] = tensor_of("s2", DTYPE_F64, 2, shared ? D : K,
                             shared ? D : covariance_square_width(m->options.covariance, D), m->s2);
    out[n++] = tensor_of("usage", DTYPE_F64, 1, K, D, m->usage);
    if (ledger != NULL)
        out[n++] = *ledger;
    if (m->options.balance > 0)
        out[n++] = tensor_of("price", DTYPE_F64, 1, K, D, m->price);
    out[n++] = tensor_of("last_assigned", DTYPE_U32, 1, K, D, m->last_assigned);
    out[n++] = tensor_of("updated_step", DTYPE_U32, 1, K, D, m->updated_step);
    out[n++] = tensor_made(tensor_of("mean", DTYPE_F32, 2, K, D, m->view->mean), m, make_means);
    out[n++] =
        tensor_made(tensor_of(covariance_tensor(m->options.covariance), DTYPE_F32, scalar ? 1 : 2, shared ? D : K,
                              shared ? D : covariance_width(m->options.covariance, D), m->view->variance),
                    m, make_variances);
    out[n++] = tensor_of("weight", DTYPE_F32, 1, K, D, m->view->weight);
    if (m->seeding != NULL)
        n += seeding_to_tensors(m->seeding, out + n);
    out[n++] = tensor_of("config_ini", DTYPE_U8, 1, record_size, 0, record);
    ASSERT(n <= TENSORS_MAX);
    return n;
}

static int write_with(const char *path, const struct mixture *m, const struct mixture_file_info *info,
                      const char *record, size_t record_size, const struct tensor_view *ledger, struct error *e)
{
    struct tensor_view tensors[TENSORS_MAX];
    size_t count = list_tensors(m, record, record_size, ledger, tensors);
    struct metadata_entry meta[METADATA + PROVENANCE_ENTRIES_MAX];
    entry_set(&meta[0], "format", "%s", mixture_format);
    entry_set(&meta[1], "kind", "mixture");
    entry_set(&meta[2], "run", "%s", info->config->run.name);
    entry_set(&meta[3], "step", "%" PRIu64, m->view->version);
    entry_set(&meta[4], "config", "%016" PRIx64, run_config_hash(info->config));
    entry_set(&meta[5], "total_steps", "%" PRIu64, info->facts.total_steps);
    entry_set(&meta[6], "covariance", "%s", word_of_covariance(m->options.covariance));
    entry_set(&meta[7], "beta", "%.17g", m->view->beta);
    entry_set(&meta[8], "reseeded", "%" PRIu64, m->reseeded);
    entry_set(&meta[9], "version", DECANT_VERSION);
    size_t entries = METADATA - 1;
    if (m->options.merge_distance > 0)
        entry_set(&meta[entries++], "splits", "%" PRIu64, m->splits);
    entries += provenance_to_metadata(&info->facts.provenance, meta + entries);
    return safetensors_write(path, tensors, count, meta, entries, e);
}

int mixture_file_write(const char *path, const struct mixture *m, const struct mixture_file_info *info, struct error *e)
{
    size_t size = 0;
    uint64_t *rows = NULL;
    struct tensor_view view;
    const struct ledger *ledger = info->facts.ledger;
    char *record = run_config_record(info->config, &size);
    int rc = record ? 0 : ERR_MEMORY;
    if (rc == 0 && ledger != NULL)
        rc = ledger_to_tensor(ledger, &rows, &view);
    if (rc != 0)
        error_set(e, rc, "%s: out of memory", path);
    else
        rc = write_with(path, m, info, record, size, ledger ? &view : NULL, e);
    free(rows);
    free(record);
    return rc;
}

/* ---- reading ---- */

static int meta_u64(const struct safetensors *f, const char *key, int base, uint64_t *out, struct error *e)
{
    const char *text = safetensors_meta(f, key);
    char *end = NULL;
    if (text == NULL || *text == '\0' || *text == '-')
        return error_set(e, ERR_FORMAT, "metadata '%s' is missing", key);
    errno = 0;
    *out = strtoull(text, &end, base);
    if (errno != 0 || *end != '\0')
        return error_set(e, ERR_FORMAT, "metadata '%s' = '%s' is not a number", key, text);
    return 0;
}

static int check_identity(const struct safetensors *f, const struct mixture_file_info *expected, struct error *e)
{
    const char *format = safetensors_meta(f, "format"), *run = safetensors_meta(f, "run");
    uint64_t config = 0;
    if (format == NULL || strcmp(format, mixture_format) != 0)
        return error_set(e, ERR_FORMAT, "format is '%s', expected '%s'", format ? format : "absent", mixture_format);
    int rc = meta_u64(f, "config", 16, &config, e);
    if (rc != 0)
        return rc;
    if (run == NULL || strcmp(run, expected->config->run.name) != 0)
        return error_set(e, ERR_CONFIG, "it belongs to run '%s', not '%s'; choose another run.out", run ? run : "",
                         expected->config->run.name);
    if (config == run_config_hash(expected->config))
        return 0;
    const struct tensor_view *record = safetensors_bytes(f, "config_ini");
    return run_config_explain_difference(record ? record->data : NULL, record ? record->size : 0, expected->config,
                                         "it", e);
}

/* Copies a tensor of `rows` rows of that width, 0 for rank 1, into `to`. */
static int load_rows(const struct safetensors *f, const char *name, enum dtype dtype, size_t rows, size_t width,
                     void *to, struct error *e)
{
    uint64_t shape[2] = {rows, width};
    const struct tensor_view *t = safetensors_find(f, name, dtype, width > 0 ? 2 : 1, shape, e);
    if (t == NULL)
        return ERR_FORMAT;
    memcpy(to, t->data, t->size);
    return 0;
}

/* The same of every component. */
static int load(const struct safetensors *f, const char *name, enum dtype dtype, size_t width, const struct mixture *m,
                void *to, struct error *e)
{
    return load_rows(f, name, dtype, m->options.K, width, to, e);
}

static int load_squares(const struct safetensors *f, const struct mixture *m, struct error *e)
{
    size_t D = m->options.D;
    if (covariance_shared_width(m->options.covariance, D) > 0)
        return load_rows(f, "s2", DTYPE_F64, D, D, m->s2, e);
    return load(f, "s2", DTYPE_F64, covariance_square_width(m->options.covariance, D), m, m->s2, e);
}

static int load_state(const struct safetensors *f, struct mixture *m, struct error *e)
{
    int rc = load(f, "mass", DTYPE_F64, 0, m, m->mass, e);
    if (rc == 0)
        rc = load(f, "s1", DTYPE_F64, m->options.D, m, m->s1, e);
    if (rc == 0 && m->s2)
        rc = load_squares(f, m, e);
    if (rc == 0)
        rc = load(f, "usage", DTYPE_F64, 0, m, m->usage, e);
    if (rc == 0)
        rc = load(f, "last_assigned", DTYPE_U32, 0, m, m->last_assigned, e);
    if (rc == 0)
        rc = load(f, "updated_step", DTYPE_U32, 0, m, m->updated_step, e);
    if (rc == 0 && m->options.balance > 0)
        rc = load(f, "price", DTYPE_F64, 0, m, m->price, e);
    return rc;
}

/* x (K,width) */
static int check_finite(const double *x, size_t K, size_t width, struct error *e)
{
    for (size_t i = 0; i < K * width; i++)
        if (!isfinite(x[i]))
            return error_set(e, ERR_FORMAT, "component %zu has statistics that are not finite", i / width);
    return 0;
}

static int check_sums(const struct mixture *m, struct error *e)
{
    size_t K = m->options.K, D = m->options.D, S = covariance_square_width(m->options.covariance, D);
    int rc = check_finite(m->s1, K, D, e);
    if (rc == 0 && S > 0)
        rc = check_finite(m->s2, K, S, e);
    size_t shared = covariance_shared_width(m->options.covariance, D);
    for (size_t i = 0; rc == 0 && i < shared; i++)
        if (!isfinite(m->s2[i]))
            rc = error_set(e, ERR_FORMAT, "s2 is not finite");
    return rc;
}

/* The values that the update divides by and takes logarithms of. */
static int check_values(const struct mixture *m, struct error *e)
{
    for (uint32_t k = 0; k < m->options.K; k++)
        if (!(m->mass[k] > 0) || !isfinite(m->mass[k]) || !(m->usage[k] >= 0) || !isfinite(m->usage[k]))
            return error_set(e, ERR_FORMAT, "component %u has mass %g and usage %g", k, m->mass[k], m->usage[k]);
    for (uint32_t k = 0; k < m->options.K; k++)
        if (!(fabs(m->price[k]) < price_max))
            return error_set(e, ERR_FORMAT, "component %u has price %g", k, m->price[k]);
    return check_sums(m, e);
}

/* What follows from finite statistics can still be beyond a float, and workers refuse such a mixture. */
static int check_view(const struct mixture *m, struct error *e)
{
    const struct mixture_view *v = m->view;
    size_t K = v->K, D = v->D;
    if (!vec_all_finite(v->variance, covariance_shared_width(v->covariance, D)))
        return error_set(e, ERR_FORMAT, "the shared covariance is out of range");
    for (size_t k = 0; k < K; k++) {
        size_t width = covariance_width(v->covariance, D);
        if (!vec_all_finite(v->mean + k * D, D) || !vec_all_finite(v->variance + k * width, width) ||
            !isfinite(v->weight[k]) || !isfinite(v->log_const[k]))
            return error_set(e, ERR_FORMAT, "component %zu has statistics whose mean or variance is out of range", k);
    }
    return 0;
}

/* A stream has no end, so its checkpoints do not know one. */
static int check_step(const struct mixture_file_info *expected, uint64_t step, const struct mixture_facts *facts,
                      struct error *e)
{
    bool endless = expected->config->run.mode == MODE_STREAM && step <= UINT32_MAX;
    if (facts->total_steps <= UINT32_MAX && (step <= facts->total_steps || endless))
        return 0;
    return error_set(e, ERR_FORMAT, "step %" PRIu64 " of %" PRIu64 " is out of range", step, facts->total_steps);
}

int mixture_file_check(const struct mixture *m, struct error *e)
{
    int rc = check_values(m, e);
    return rc == 0 ? check_view(m, e) : rc;
}

/* In the steps before this one. A step that is out of range is refused elsewhere. */
static uint64_t rows_gathered(const struct run_config *c, uint64_t step)
{
    return step <= UINT32_MAX ? run_config_init_rows(c, 0, 0, step * (uint64_t)c->run.slots) : 0;
}

static int load_all(const struct safetensors *f, const struct mixture_file_info *expected, struct mixture *m,
                    struct mixture_facts *facts, struct error *e)
{
    uint64_t step = 0;
    int rc = check_identity(f, expected, e);
    if (rc == 0)
        rc = meta_u64(f, "step", 10, &step, e);
    if (rc == 0)
        rc = meta_u64(f, "total_steps", 10, &facts->total_steps, e);
    if (rc == 0)
        rc = provenance_from_metadata(f, &facts->provenance, e);
    if (rc == 0)
        rc = meta_u64(f, "reseeded", 10, &m->reseeded, e);
    if (rc == 0 && m->options.merge_distance > 0)
        rc = meta_u64(f, "splits", 10, &m->splits, e);
    if (rc == 0)
        rc = load_state(f, m, e);
    if (rc == 0 && m->seeding != NULL)
        rc = seeding_from_file(f, rows_gathered(expected->config, step), &m->seeding, e);
    if (rc == 0)
        rc = check_values(m, e);
    if (rc == 0)
        rc = check_step(expected, step, facts, e);
    if (rc != 0)
        return rc;
    mixture_restore(m, step);
    rc = check_view(m, e);
    return rc == 0 && expected->config->run.mode == MODE_STREAM ? ledger_from_file(f, &facts->ledger, e) : rc;
}

int mixture_file_read(const char *path, const struct mixture_file_info *expected, struct mixture *m,
                      struct mixture_facts *facts, struct error *e)
{
    struct safetensors f;
    struct error why = {0};
    int rc = safetensors_read(path, &f, e);
    if (rc != 0)
        return rc;
    facts->ledger = NULL;
    rc = load_all(&f, expected, m, facts, &why);
    safetensors_fini(&f);
    return rc != 0 ? error_set(e, rc, "%s: %s", path, why.text) : 0;
}
