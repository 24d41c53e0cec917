/* Messages and manifests from foreign bytes. What is refused leaves nothing behind; what is taken survives being
 * written and read again. */
#include <math.h>
#include "proto/manifest.h"
#include "tests/fuzz/fuzz.h"

static void check_manifest(const struct msg_tensor *t)
{
    struct manifest m, again;
    struct buf *json = NULL;
    if (manifest_from_json(t->data->data, t->data->size, &m, NULL))
        return;
    ASSERT(manifest_to_json(&m, &json) == 0);
    ASSERT(manifest_from_json(json->data, json->size, &again, NULL) == 0);
    ASSERT(manifest_equal(&m, &again));
    buf_unref(&json);
    manifest_fini(&m);
    manifest_fini(&again);
}

static void check_tensors(const struct msg *m, const struct msg *again)
{
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const struct msg_tensor *t = &m->tensors[i];
        uint64_t elements = 1;
        for (uint32_t r = 0; r < t->rank; r++)
            elements *= t->shape[r];
        ASSERT(t->data->size == elements * dtype_size(t->dtype));
        ASSERT((uintptr_t)t->data->data % dtype_size(t->dtype) == 0);
        ASSERT(strcmp(t->name, again->tensors[i].name) == 0 && t->data->size == again->tensors[i].data->size);
    }
}

static void check_taken(const struct msg *m)
{
    struct buf *frames[1 + MSG_TENSORS_MAX];
    struct msg again;
    size_t n;
    enum reason why;
    ASSERT(m->type > 0 && m->type < MSG_TYPE_END);
    for (uint32_t i = 0; i < m->scalar_count; i++)
        ASSERT(isfinite(m->scalars[i].value));
    ASSERT(msg_encode(m, frames, &n) == 0);
    ASSERT(msg_decode(frames, n, &again, &why, NULL) == 0);
    ASSERT(memcmp(m, &again, offsetof(struct msg, scalars)) == 0);
    ASSERT(m->scalar_count == again.scalar_count && m->tensor_count == again.tensor_count);
    check_tensors(m, &again);
    msg_fini(&again);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf *frames[FUZZ_FRAMES_MAX] = {NULL};
    size_t n = fuzz_frames(data, size, frames);
    struct msg m;
    enum reason why = (enum reason)0, unused;
    if (msg_decode(frames, n, &m, &why, NULL) == 0) {
        check_taken(&m);
        const struct msg_tensor *manifest = msg_tensor(&m, "manifest", DTYPE_U8, &unused);
        if (manifest)
            check_manifest(manifest);
    } else {
        ASSERT(why > 0 && why < REASON_END);
        ASSERT(m.tensor_count == 0 && m.scalar_count == 0);
    }
    msg_fini(&m);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
    return 0;
}

static const char manifest[] =
    "{\"parameters\":[{\"name\":\"w\",\"shape\":[2,3],\"decay\":true,\"clip\":true,\"unit_rows\":false,\"lr_scale\":1."
    "0},"
    "{\"name\":\"b\",\"shape\":[3],\"decay\":false,\"clip\":true,\"unit_rows\":false,\"lr_scale\":0.5}],"
    "\"buffers\":[{\"name\":\"m\",\"shape\":[3],\"momentum\":0.1}]}";

static void seed_hello(struct msg *m)
{
    msg_init(m, MSG_HELLO, "run");
    m->worker = UINT64_MAX;
    m->config = 77;
    strcpy(m->text, "host:1");
    msg_add_scalar(m, "total_steps", 100);
}

static void seed_gradient(struct msg *m)
{
    static const float grad[6] = {1, 2, 3};
    static const double metrics[2] = {0.5, 1};
    msg_init(m, MSG_GRADIENT, "run");
    m->step = 7;
    m->slot = 2;
    m->slots = 1;
    msg_add_tensor(m, "grad", DTYPE_F32, 2, (uint64_t[]){2, 3}, buf_copy(grad, sizeof grad));
    msg_add_tensor(m, "metrics", DTYPE_F64, 1, (uint64_t[]){2}, buf_copy(metrics, sizeof metrics));
}

static void seed_init(struct msg *m)
{
    msg_init(m, MSG_INIT, "run");
    msg_add_tensor(m, "manifest", DTYPE_U8, 1, (uint64_t[]){sizeof manifest - 1},
                   buf_copy(manifest, sizeof manifest - 1));
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static void (*const seeds[])(struct msg *) = {seed_hello, seed_gradient, seed_init};
    struct msg m;
    if (i >= sizeof seeds / sizeof seeds[0])
        return 0;
    seeds[i](&m);
    return fuzz_input(&m, out, room);
}
