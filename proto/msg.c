/* The in-memory message: building it, finding what is in it, the names of types and reasons, and the table of header
 * keys. The wire form is written in msg_encode.c and read in msg_decode.c. */
#include "proto/msg.h"

#include <stdio.h>
#include <string.h>
#include "common/vecmath.h"
#include "proto/msg_wire.h"

#define NUMBER(field, kind, max)                                                                                       \
    {                                                                                                                  \
#field, kind, offsetof(struct msg, field), max                                                                 \
    }
#define TEXT(field)                                                                                                    \
    {                                                                                                                  \
#field, FIELD_TEXT, offsetof(struct msg, field), sizeof((struct msg *)0)->field                                \
    }

/* In the order in which they are written. */
const struct msg_field msg_fields[] = {
    {"version", FIELD_VERSION, 0, UINT32_MAX},
    NUMBER(type, FIELD_U32, UINT32_MAX), /* the range of types is checked by name: bad_type */
    NUMBER(shard, FIELD_U32, UINT32_MAX),
    TEXT(run),
    NUMBER(config, FIELD_U64, UINT64_MAX),
    NUMBER(generation, FIELD_U64, UINT64_MAX),
    NUMBER(worker, FIELD_U64, UINT64_MAX),
    NUMBER(step, FIELD_U64, MSG_COUNTER_MAX),
    NUMBER(slot, FIELD_U32, INT32_MAX), /* slot + slots never wraps */
    NUMBER(slots, FIELD_U32, INT32_MAX),
    NUMBER(seq, FIELD_U64, MSG_COUNTER_MAX),
    NUMBER(code, FIELD_U32, UINT32_MAX),
    NUMBER(want, FIELD_U32, UINT32_MAX),
    NUMBER(encoding, FIELD_U32, UINT32_MAX),
    TEXT(text),
    {"scalars", FIELD_SCALARS, 0, MSG_SCALARS_MAX},
    {"tensors", FIELD_TENSORS, 0, MSG_TENSORS_MAX},
};
const size_t msg_field_count = sizeof msg_fields / sizeof msg_fields[0];
_Static_assert(sizeof(enum msg_type) == sizeof(uint32_t), "type is read and written as a FIELD_U32");

const char *msg_type_name(enum msg_type t)
{
    static const char *const names[MSG_TYPE_END] = {
        [MSG_HELLO] = "hello",     [MSG_WELCOME] = "welcome",
        [MSG_INIT] = "init",       [MSG_LEASE_REQUEST] = "lease_request",
        [MSG_LEASE] = "lease",     [MSG_GRADIENT] = "gradient",
        [MSG_STATS] = "stats",     [MSG_ACK] = "ack",
        [MSG_ERROR] = "error",     [MSG_WEIGHTS_GET] = "weights_get",
        [MSG_WEIGHTS] = "weights", [MSG_MIXTURE_GET] = "mixture_get",
        [MSG_MIXTURE] = "mixture", [MSG_PING] = "ping",
        [MSG_PONG] = "pong",       [MSG_METRICS] = "metrics",
        [MSG_STOP] = "stop",       [MSG_REWIND] = "rewind",
    };
    return (unsigned)t < MSG_TYPE_END && names[t] ? names[t] : "unknown";
}

const char *reason_name(enum reason r)
{
    static const char *const names[REASON_END] = {
        [REASON_BAD_HEADER] = "bad_header",
        [REASON_BAD_VERSION] = "bad_version",
        [REASON_BAD_TYPE] = "bad_type",
        [REASON_WRONG_DOOR] = "wrong_door",
        [REASON_WRONG_RUN] = "wrong_run",
        [REASON_WRONG_CONFIG] = "wrong_config",
        [REASON_WRONG_SHARD] = "wrong_shard",
        [REASON_WRONG_GENERATION] = "wrong_generation",
        [REASON_BAD_FIELD] = "bad_field",
        [REASON_BAD_SHAPE] = "bad_shape",
        [REASON_BAD_DTYPE] = "bad_dtype",
        [REASON_BAD_ENCODING] = "bad_encoding",
        [REASON_BAD_VALUE] = "bad_value",
        [REASON_NON_FINITE] = "non_finite",
        [REASON_OUT_OF_RANGE] = "out_of_range",
        [REASON_TOO_LARGE] = "too_large",
        [REASON_FUTURE_STEP] = "future_step",
        [REASON_NOT_READY] = "not_ready",
        [REASON_UNKNOWN_VERSION] = "unknown_version",
        [REASON_OVERLAP] = "overlap",
        [REASON_STOPPING] = "stopping",
        [REASON_FORBIDDEN] = "forbidden",
        [REASON_EXPIRED] = "expired",
    };
    return (unsigned)r < REASON_END && names[r] ? names[r] : "unknown";
}

bool reason_is_passing(enum reason r)
{
    return r == REASON_NOT_READY || r == REASON_UNKNOWN_VERSION || r == REASON_STOPPING || r == REASON_OVERLAP;
}

bool msg_name_valid(const char *name, size_t length)
{
    if (length == 0 || length >= sizeof((struct msg_tensor *)0)->name)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '.')
            return false;
    }
    return true;
}

bool msg_tensor_bytes(enum dtype dtype, uint32_t rank, const uint64_t *shape, size_t *bytes)
{
    *bytes = dtype_size(dtype);
    if (*bytes == 0 || rank > TENSOR_RANK_MAX)
        return false;
    for (uint32_t i = 0; i < rank; i++)
        if (shape[i] > MSG_DIMENSION_MAX || __builtin_mul_overflow(*bytes, shape[i], bytes))
            return false;
    return true;
}

void msg_init(struct msg *m, enum msg_type type, const char *run)
{
    memset(m, 0, sizeof *m);
    m->type = type;
    snprintf(m->run, sizeof m->run, "%s", run);
}

void msg_fini(struct msg *m)
{
    for (uint32_t i = 0; i < m->tensor_count; i++)
        buf_unref(&m->tensors[i].data);
    m->tensor_count = 0;
}

int msg_add_tensor(struct msg *m, const char *name, enum dtype dtype, uint32_t rank, const uint64_t *shape,
                   struct buf *data)
{
    size_t bytes;
    if (!data)
        return ERR_MEMORY;
    if (m->tensor_count == MSG_TENSORS_MAX || !msg_name_valid(name, strlen(name)) ||
        !msg_tensor_bytes(dtype, rank, shape, &bytes) || bytes != data->size) {
        buf_unref(&data);
        return ERR_RANGE;
    }
    struct msg_tensor *t = &m->tensors[m->tensor_count++];
    *t = (struct msg_tensor){.dtype = dtype, .rank = rank, .data = data};
    snprintf(t->name, sizeof t->name, "%s", name);
    for (uint32_t i = 0; i < rank; i++)
        t->shape[i] = shape[i];
    return 0;
}

int msg_add_scalar(struct msg *m, const char *name, double value)
{
    if (m->scalar_count == MSG_SCALARS_MAX || !msg_name_valid(name, strlen(name)))
        return ERR_RANGE;
    struct msg_scalar *s = &m->scalars[m->scalar_count++];
    snprintf(s->name, sizeof s->name, "%s", name);
    s->value = value;
    return 0;
}

static const struct msg_tensor *refuse(enum reason *why, enum reason reason)
{
    if (why)
        *why = reason;
    return NULL;
}

const struct msg_tensor *msg_tensor(const struct msg *m, const char *name, enum dtype dtype, enum reason *why)
{
    for (uint32_t i = 0; i < m->tensor_count; i++)
        if (strcmp(m->tensors[i].name, name) == 0)
            return m->tensors[i].dtype == dtype ? &m->tensors[i] : refuse(why, REASON_BAD_DTYPE);
    return refuse(why, REASON_BAD_FIELD);
}

static bool all_finite(const struct msg_tensor *t)
{
    if (t->dtype == DTYPE_F32)
        return vec_all_finite((const float *)(const void *)t->data->data, t->data->size / sizeof(float));
    if (t->dtype == DTYPE_F64)
        return vec_all_finite_f64((const double *)(const void *)t->data->data, t->data->size / sizeof(double));
    return true;
}

const struct msg_tensor *msg_tensor_checked(const struct msg *m, const char *name, enum dtype dtype, uint32_t rank,
                                            const uint64_t *shape, enum reason *why)
{
    const struct msg_tensor *t = msg_tensor(m, name, dtype, why);
    if (!t)
        return NULL;
    if (t->rank != rank)
        return refuse(why, REASON_BAD_SHAPE);
    for (uint32_t i = 0; i < rank; i++)
        if (t->shape[i] != shape[i])
            return refuse(why, REASON_BAD_SHAPE);
    return all_finite(t) ? t : refuse(why, REASON_NON_FINITE);
}

double msg_scalar(const struct msg *m, const char *name, double otherwise)
{
    for (uint32_t i = 0; i < m->scalar_count; i++)
        if (strcmp(m->scalars[i].name, name) == 0)
            return m->scalars[i].value;
    return otherwise;
}
