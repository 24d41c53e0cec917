/* A core with a small model and workers that are numbers: what the tests of core and checkpoints share. Contributions
 * are pure functions of (step, slot), like those of real workers. */
#ifndef DECANT_TESTS_UNIT_PARAMETER_CORE_RIG_H
#define DECANT_TESTS_UNIT_PARAMETER_CORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "common/log.h"
#include "common/rng.h"
#include "server/parameter/core.h"

enum { RIG_SLOTS = 4, RIG_STEPS = 6, RIG_P = 7 * 3 + 3, RIG_Q = 4, RIG_GENERATION = 3, RIG_ALICE = 101, RIG_BOB = 202 };

struct rig {
    struct run_config config;
    struct parameter_core *core;
    struct outbox out;
    uint64_t now; /* ms */
};

/* Assignments beyond the rig's own, or NULL. */
static inline void rig_configure(struct rig *r, const char *extra, const char *more)
{
    const char *const own[] = {
        "run.name=rig",    "run.slots=4",           "run.slot_size=2",    "run.steps=6", "run.checkpoint_every=2",
        "run.log_every=3", "loss.prototypes=joint", "optimiser.warmup=2", extra,         more};
    struct error e = {0};
    size_t n = sizeof own / sizeof own[0] - (more ? 0 : 1) - (extra ? 0 : 1);
    if (run_config_load(&r->config, NULL, NULL, own, n, &e) != 0)
        fail_msg("%s", e.text);
}

static inline void rig_start(struct rig *r)
{
    log_init("test", LOG_ERROR);
    r->now = 1000;
    assert_int_equal(parameter_core_new(&r->config, RIG_GENERATION, &r->core), 0);
}

static inline struct rig rig_new(const char *extra)
{
    struct rig r = {0};
    rig_configure(&r, extra, NULL);
    rig_start(&r);
    return r;
}

static inline void rig_free(struct rig *r)
{
    parameter_core_free(&r->core);
    assert_null(r->core);
    outbox_fini(&r->out);
}

/* ---- messages ---- */

static inline struct msg rig_msg(enum msg_type type, uint64_t worker)
{
    struct msg m;
    msg_init(&m, type, "rig");
    m.worker = worker;
    return m;
}

static inline struct peer rig_peer(uint64_t worker)
{
    struct peer p = {.size = 5};
    memcpy(p.id, &worker, 5);
    return p;
}

/* The outbox then holds what this message alone led to. */
static inline void rig_send(struct rig *r, struct msg *m)
{
    struct peer from = rig_peer(m->worker);
    outbox_clear(&r->out);
    assert_int_equal(parameter_core_on_message(r->core, r->now, &from, m, &r->out), 0);
    msg_fini(m);
}

static inline void rig_tick(struct rig *r, uint64_t ms)
{
    r->now += ms;
    outbox_clear(&r->out);
    assert_int_equal(parameter_core_on_timer(r->core, r->now, &r->out), 0);
}

static inline size_t rig_count(const struct rig *r, enum msg_type type)
{
    size_t n = 0;
    for (size_t i = 0; i < r->out.count; i++)
        n += r->out.items[i].msg.type == type;
    return n;
}

/* Slots leased by what is in the outbox. */
static inline size_t rig_leased(const struct rig *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->out.count; i++)
        n += r->out.items[i].msg.type == MSG_LEASE ? r->out.items[i].msg.slots : 0;
    return n;
}

/* Index in the outbox of the first message of that type; fails when there is none. */
static inline size_t rig_index(const struct rig *r, enum msg_type type)
{
    for (size_t i = 0; i < r->out.count; i++)
        if (r->out.items[i].msg.type == type)
            return i;
    fail_msg("no %s among %zu messages", msg_type_name(type), r->out.count);
    return 0;
}

static inline const struct msg *rig_find(const struct rig *r, enum msg_type type)
{
    return &r->out.items[rig_index(r, type)].msg;
}

static inline void rig_expect_refused(const struct rig *r, enum reason why)
{
    const struct msg *m = rig_find(r, MSG_ERROR);
    if (m->code != (uint32_t)why)
        fail_msg("refused as %s (%s), expected %s", reason_name((enum reason)m->code), m->text, reason_name(why));
}

static inline void rig_expect_ack(const struct rig *r, enum ack_code code)
{
    assert_int_equal(rig_find(r, MSG_ACK)->code, code);
}

static inline void rig_add_floats(struct msg *m, const char *name, const float *x, uint64_t n)
{
    assert_int_equal(msg_add_tensor(m, name, DTYPE_F32, 1, &n, buf_copy(x, n * sizeof *x)), 0);
}

static inline void rig_fill(float *x, size_t n, uint64_t a, uint64_t b)
{
    struct rng r;
    rng_open(&r, 9, RNG_INIT, a, b, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r);
}

/* name: of the first parameter. */
static inline struct msg rig_init_message(const char *name)
{
    char json[512];
    float params[RIG_P], buffers[RIG_Q];
    int n = snprintf(json, sizeof json,
                     "{\"parameters\":[{\"name\":\"%s\",\"shape\":[7,3],\"decay\":true,\"clip\":true,"
                     "\"unit_rows\":false,\"lr_scale\":1},{\"name\":\"bias\",\"shape\":[3],\"decay\":false,"
                     "\"clip\":true,\"unit_rows\":false,\"lr_scale\":1}],\"buffers\":[{\"name\":\"mean\","
                     "\"shape\":[4],\"momentum\":0.1}]}",
                     name);
    uint64_t size = (uint64_t)n;
    struct msg m = rig_msg(MSG_INIT, RIG_ALICE);
    assert_int_equal(msg_add_tensor(&m, "manifest", DTYPE_U8, 1, &size, buf_copy(json, size)), 0);
    rig_fill(params, RIG_P, 1, 1);
    rig_fill(buffers, RIG_Q, 1, 2);
    rig_add_floats(&m, "params", params, RIG_P);
    rig_add_floats(&m, "buffers", buffers, RIG_Q);
    return m;
}

static inline void rig_init(struct rig *r)
{
    struct msg m = rig_init_message("weight");
    rig_send(r, &m);
    rig_expect_ack(r, ACK_APPLIED);
}

/* One that has its weights. */
static inline struct rig rig_begun(void)
{
    struct rig r = rig_new(NULL);
    rig_init(&r);
    return r;
}

/* What the subtree [slot, slot+slots) contributes: sums in the tree's own order. */
static inline void rig_contribution(uint64_t step, uint32_t slot, uint32_t slots, float grad[RIG_P],
                                    float buffers[RIG_Q])
{
    if (slots == 1) {
        rig_fill(grad, RIG_P, 1000 + step, slot);
        rig_fill(buffers, RIG_Q, 2000 + step, slot);
        return;
    }
    float right[RIG_P], right_buffers[RIG_Q];
    rig_contribution(step, slot, slots / 2, grad, buffers);
    rig_contribution(step, slot + slots / 2, slots / 2, right, right_buffers);
    for (size_t i = 0; i < RIG_P; i++)
        grad[i] += right[i];
    for (size_t i = 0; i < RIG_Q; i++)
        buffers[i] += right_buffers[i];
}

static inline struct msg rig_gradient(uint64_t worker, uint64_t step, uint32_t slot, uint32_t slots)
{
    float grad[RIG_P], buffers[RIG_Q];
    double metrics[8] = {3.0 * slots, 2.0 * slots, 1.0 * slots, 2.0 * slots, 1, 2, 4, 1};
    uint64_t n = 8;
    struct msg m = rig_msg(MSG_GRADIENT, worker);
    m.step = step;
    m.slot = slot;
    m.slots = slots;
    rig_contribution(step, slot, slots, grad, buffers);
    rig_add_floats(&m, "grad", grad, RIG_P);
    rig_add_floats(&m, "buffers", buffers, RIG_Q);
    assert_int_equal(msg_add_tensor(&m, "metrics", DTYPE_F64, 1, &n, buf_copy(metrics, sizeof metrics)), 0);
    return m;
}

static inline void rig_contribute(struct rig *r, uint64_t step, uint32_t slot, uint32_t slots)
{
    struct msg m = rig_gradient(RIG_ALICE, step, slot, slots);
    rig_send(r, &m);
}

static inline void rig_request(struct rig *r, uint64_t worker, uint32_t want)
{
    struct msg m = rig_msg(MSG_LEASE_REQUEST, worker);
    m.want = want;
    rig_send(r, &m);
}

/* Every slot of every step up to `end`, in ascending order. */
static inline void rig_run_to(struct rig *r, uint64_t end)
{
    for (uint64_t t = parameter_core_step(r->core); t < end; t++)
        for (uint32_t slot = 0; slot < RIG_SLOTS; slot++)
            rig_contribute(r, t, slot, 1);
}

/* Every file of step T is on disk. */
static inline void rig_durable(struct rig *r)
{
    assert_true(parameter_core_awaits_durable(r->core));
    outbox_clear(&r->out);
    assert_int_equal(parameter_core_on_durable(r->core, r->now, &r->out), 0);
    assert_false(parameter_core_awaits_durable(r->core));
}

/* The newest weights as one vector: student, teacher, buffers. */
static inline void rig_weights(struct rig *r, float out[2 * RIG_P + RIG_Q])
{
    struct msg get = rig_msg(MSG_WEIGHTS_GET, RIG_BOB);
    rig_send(r, &get);
    const struct msg *m = rig_find(r, MSG_WEIGHTS);
    assert_int_equal(m->step, parameter_core_step(r->core));
    memcpy(out, msg_tensor(m, "student", DTYPE_F32, NULL)->data->data, RIG_P * sizeof(float));
    memcpy(out + RIG_P, msg_tensor(m, "teacher", DTYPE_F32, NULL)->data->data, RIG_P * sizeof(float));
    memcpy(out + 2 * RIG_P, msg_tensor(m, "buffers", DTYPE_F32, NULL)->data->data, RIG_Q * sizeof(float));
}

/* Weights after the whole run, contributed slot by slot in ascending order. */
static inline void rig_undisturbed(float out[2 * RIG_P + RIG_Q])
{
    struct rig r = rig_new(NULL);
    rig_init(&r);
    rig_run_to(&r, RIG_STEPS);
    rig_weights(&r, out);
    rig_free(&r);
}

static inline void rig_assert_undisturbed(struct rig *r)
{
    float expected[2 * RIG_P + RIG_Q], got[2 * RIG_P + RIG_Q];
    rig_run_to(r, RIG_STEPS);
    rig_undisturbed(expected);
    rig_weights(r, got);
    assert_memory_equal(got, expected, sizeof got);
}

#endif
