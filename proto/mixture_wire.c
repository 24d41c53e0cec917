/* A mixture version as a message and back. A full message and a delta carry the same tensors; a delta's have one row
 * for each changed component, and name the components in `rows`. The reader checks all of a message before it changes
 * the view, so that a refused message leaves a usable version behind. */
#include "proto/mixture_wire.h"
#include "proto/covariance.h"

#include <stdlib.h>
#include <string.h>

static size_t variance_width(const struct mixture_view *v)
{
    return covariance_width(v->covariance, v->D);
}

/* Floats of v->variance: of all components, and shared. */
static size_t variance_floats(const struct mixture_view *v)
{
    return v->K * variance_width(v) + covariance_shared_width(v->covariance, v->D);
}

/* The same as tensors are described here: 0 when they have rank 1. */
static size_t variance_rank_width(const struct mixture_view *v)
{
    return covariance_is_scalar(v->covariance) ? 0 : variance_width(v);
}

int mixture_view_new(uint32_t K, uint32_t D, enum covariance c, struct mixture_view **out)
{
    ASSERT(K > 0 && D > 0);
    struct mixture_view *v = calloc(1, sizeof *v);
    *out = v;
    if (!v)
        return ERR_MEMORY;
    v->K = K;
    v->D = D;
    v->covariance = c;
    v->mean = calloc((size_t)K * D, sizeof *v->mean);
    v->variance = calloc(variance_floats(v), sizeof *v->variance);
    v->weight = calloc(K, sizeof *v->weight);
    v->log_const = calloc(K, sizeof *v->log_const);
    v->price = calloc(K, sizeof *v->price);
    if (v->mean && v->variance && v->weight && v->log_const && v->price)
        return 0;
    mixture_view_free(out);
    return ERR_MEMORY;
}

void mixture_view_free(struct mixture_view **v)
{
    if (!*v)
        return;
    free((*v)->mean);
    free((*v)->variance);
    free((*v)->weight);
    free((*v)->log_const);
    free((*v)->price);
    free((*v)->moved);
    free(*v);
    *v = NULL;
}

int mixture_view_copy(struct mixture_view *to, const struct mixture_view *from)
{
    if (to->K != from->K || to->D != from->D || to->covariance != from->covariance)
        return ERR_RANGE;
    to->version = from->version;
    to->beta = from->beta;
    memcpy(to->mean, from->mean, (size_t)from->K * from->D * sizeof(float));
    memcpy(to->variance, from->variance, variance_floats(from) * sizeof(float));
    memcpy(to->weight, from->weight, from->K * sizeof(float));
    memcpy(to->log_const, from->log_const, from->K * sizeof(float));
    to->priced = from->priced;
    memcpy(to->price, from->price, from->K * sizeof(float));
    if (to->moved && from->moved)
        memcpy(to->moved, from->moved, from->K * sizeof *to->moved);
    return 0;
}

int mixture_view_keep_moved(struct mixture_view *v)
{
    v->moved = calloc(v->K, sizeof *v->moved);
    return v->moved ? 0 : ERR_MEMORY;
}

static void follow_row(struct mixture_view *to, const struct mixture_view *from, size_t k)
{
    size_t D = from->D, V = variance_width(from);
    memcpy(to->mean + k * D, from->mean + k * D, D * sizeof(float));
    memcpy(to->variance + k * V, from->variance + k * V, V * sizeof(float));
    to->weight[k] = from->weight[k];
    to->log_const[k] = from->log_const[k];
    to->moved[k] = from->moved[k];
}

void mixture_view_follow(struct mixture_view *to, const struct mixture_view *from)
{
    size_t shared = from->K * variance_width(from);
    ASSERT(to->K == from->K && to->D == from->D && to->covariance == from->covariance);
    ASSERT(to->moved && from->moved && to->version <= from->version);
    for (size_t k = 0; k < from->K; k++)
        if (from->moved[k] > to->version)
            follow_row(to, from, k);
    memcpy(to->variance + shared, from->variance + shared, (variance_floats(from) - shared) * sizeof(float));
    to->priced = from->priced;
    memcpy(to->price, from->price, from->K * sizeof(float));
    to->version = from->version;
    to->beta = from->beta;
}

/* ---- writing ---- */

/* Rows of x (K,width), all of them or those listed, as a tensor of rank 2, or 1 when width is 0 (one float a row). */
static int add_rows(struct msg *m, const char *name, const float *x, size_t width, const uint32_t *rows, uint32_t R)
{
    size_t row_floats = width ? width : 1;
    struct buf *data = buf_new(R * row_floats * sizeof(float));
    if (!data)
        return ERR_MEMORY;
    if (!rows)
        memcpy(data->data, x, data->size);
    for (uint32_t r = 0; rows && r < R; r++)
        memcpy(data->data + r * row_floats * sizeof(float), x + rows[r] * row_floats, row_floats * sizeof(float));
    return msg_add_tensor(m, name, DTYPE_F32, width ? 2 : 1, (uint64_t[]){R, width}, data);
}

/* Spreads of the rows; a shared one, which every version changes, as a whole. */
static int add_spread(struct msg *m, const struct mixture_view *v, const uint32_t *rows, uint32_t R)
{
    bool shared = covariance_shared_width(v->covariance, v->D) > 0;
    return shared ? add_rows(m, covariance_tensor(v->covariance), v->variance, v->D, NULL, v->D)
                  : add_rows(m, covariance_tensor(v->covariance), v->variance, variance_rank_width(v), rows, R);
}

int mixture_encode(const struct mixture_view *v, const uint32_t *rows, uint32_t R, struct msg *m)
{
    ASSERT(rows == NULL || v->version > 0);
    uint32_t count = rows ? R : v->K;
    int rc = 0;
    m->step = v->version;
    m->encoding = rows ? MIXTURE_DELTA : MIXTURE_FULL;
    m->seq = rows ? v->version - 1 : 0;
    if (rows)
        rc = msg_add_tensor(m, "rows", DTYPE_U32, 1, (uint64_t[]){R}, buf_copy(rows, R * sizeof *rows));
    rc = rc ? rc : add_rows(m, "mean", v->mean, v->D, rows, count);
    rc = rc ? rc : add_spread(m, v, rows, count);
    rc = rc ? rc : add_rows(m, "weight", v->weight, 0, rows, count);
    rc = rc ? rc : add_rows(m, "log_const", v->log_const, 0, rows, count);
    if (v->priced)
        rc = rc ? rc : add_rows(m, "price", v->price, 0, NULL, v->K);
    return rc ? rc : msg_add_scalar(m, "beta", v->beta);
}

/* ---- reading ---- */

struct update {
    const uint32_t *rows; /* (R), NULL when full */
    uint32_t R;
    const float *mean, *variance, *weight, *log_const;
    const float *price; /* (K), NULL when there are none */
};

static int refuse(enum reason *why, enum reason reason)
{
    *why = reason;
    return ERR_FORMAT;
}

static const float *float_tensor(const struct msg *m, const char *name, uint32_t R, uint32_t width, enum reason *why)
{
    const struct msg_tensor *t = msg_tensor_checked(m, name, DTYPE_F32, width ? 2 : 1, (uint64_t[]){R, width}, why);
    return t ? (const float *)(const void *)t->data->data : NULL;
}

static int read_row_list(const struct mixture_view *v, const struct msg *m, struct update *u, enum reason *why)
{
    const struct msg_tensor *t = msg_tensor(m, "rows", DTYPE_U32, why);
    if (!t)
        return ERR_FORMAT;
    if (t->rank != 1 || t->shape[0] > v->K)
        return refuse(why, REASON_BAD_SHAPE);
    u->rows = (const uint32_t *)(const void *)t->data->data;
    u->R = (uint32_t)t->shape[0];
    for (uint32_t r = 0; r < u->R; r++)
        if (u->rows[r] >= v->K || (r > 0 && u->rows[r] <= u->rows[r - 1]))
            return refuse(why, REASON_BAD_VALUE);
    return 0;
}

static int read_base(const struct mixture_view *v, const struct msg *m, enum reason *why)
{
    if (m->seq + 1 != m->step)
        return refuse(why, REASON_BAD_FIELD);
    if (m->seq != v->version) {
        *why = REASON_UNKNOWN_VERSION;
        return ERR_STATE;
    }
    return 0;
}

static int read_rows(const struct mixture_view *v, const struct msg *m, struct update *u, enum reason *why)
{
    int rc;
    switch (m->encoding) {
    case MIXTURE_FULL:
        *u = (struct update){.R = v->K};
        return 0;
    case MIXTURE_DELTA:
        rc = read_base(v, m, why);
        return rc ? rc : read_row_list(v, m, u, why);
    default:
        return refuse(why, REASON_BAD_ENCODING);
    }
}

static bool none_below_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] < 0)
            return false;
    return true;
}

/* Prices are optional, and always all there. */
static int read_prices(const struct mixture_view *v, const struct msg *m, struct update *u, enum reason *why)
{
    bool told = false;
    for (uint32_t i = 0; i < m->tensor_count; i++)
        told = told || strcmp(m->tensors[i].name, "price") == 0;
    u->price = told ? float_tensor(m, "price", v->K, 0, why) : NULL;
    return told && !u->price ? ERR_FORMAT : 0;
}

static const float *spread_tensor(const struct mixture_view *v, const struct msg *m, uint32_t R, enum reason *why)
{
    const char *name = covariance_tensor(v->covariance);
    bool shared = covariance_shared_width(v->covariance, v->D) > 0;
    return shared ? float_tensor(m, name, v->D, v->D, why)
                  : float_tensor(m, name, R, (uint32_t)variance_rank_width(v), why);
}

static int read_values(const struct mixture_view *v, const struct msg *m, struct update *u, enum reason *why)
{
    u->mean = float_tensor(m, "mean", u->R, v->D, why);
    u->variance = u->mean ? spread_tensor(v, m, u->R, why) : NULL;
    u->weight = u->variance ? float_tensor(m, "weight", u->R, 0, why) : NULL;
    u->log_const = u->weight ? float_tensor(m, "log_const", u->R, 0, why) : NULL;
    if (!u->log_const)
        return ERR_FORMAT;
    uint32_t spreads = covariance_shared_width(v->covariance, v->D) > 0 ? 1 : u->R;
    bool valid = covariance_possible(v->covariance, v->D, u->variance, spreads) && none_below_zero(u->weight, u->R) &&
                 msg_scalar(m, "beta", 0) > 0;
    return valid ? read_prices(v, m, u, why) : refuse(why, REASON_BAD_VALUE);
}

static void write_prices(struct mixture_view *v, const float *price)
{
    v->priced = price != NULL;
    if (price)
        memcpy(v->price, price, v->K * sizeof *price);
    else
        memset(v->price, 0, v->K * sizeof *v->price);
}

static void write_rows(float *to, const float *from, size_t width, const struct update *u)
{
    if (!u->rows)
        memcpy(to, from, u->R * width * sizeof(float));
    for (uint32_t r = 0; u->rows && r < u->R; r++)
        memcpy(to + u->rows[r] * width, from + r * width, width * sizeof(float));
}

static void note_moved(struct mixture_view *v, const struct update *u, uint64_t version)
{
    for (uint32_t r = 0; v->moved && r < u->R; r++)
        v->moved[u->rows ? u->rows[r] : r] = version;
}

int mixture_apply(struct mixture_view *v, const struct msg *m, enum reason *why)
{
    struct update u;
    int rc = read_rows(v, m, &u, why);
    rc = rc ? rc : read_values(v, m, &u, why);
    if (rc)
        return rc;
    write_rows(v->mean, u.mean, v->D, &u);
    if (variance_width(v) > 0)
        write_rows(v->variance, u.variance, variance_width(v), &u);
    else
        memcpy(v->variance, u.variance, variance_floats(v) * sizeof(float));
    write_rows(v->weight, u.weight, 1, &u);
    write_rows(v->log_const, u.log_const, 1, &u);
    write_prices(v, u.price);
    note_moved(v, &u, m->step);
    v->version = m->step;
    v->beta = msg_scalar(m, "beta", 0);
    return 0;
}
