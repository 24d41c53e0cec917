/* A prototype server's core with a small mixture, and the messages that a worker would send it. */
#ifndef DECANT_TESTS_UNIT_PROTOTYPE_CORE_RIG_H
#define DECANT_TESTS_UNIT_PROTOTYPE_CORE_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/buf.h"
#include "common/files.h"
#include "common/rng.h"
#include "common/vecmath.h"
#include "server/prototype/core.h"
#include "server/prototype/mixture_file.h"

enum { K = 8, D = 4, SLOTS = 4, SLOT_SIZE = 3, ROWS = 2 * SLOT_SIZE, STEPS = 6 };

static const struct peer anyone = {.size = 1, .id = {7}};

static inline void config_with(struct run_config *c, const char *const *extra, size_t n)
{
    const char *set[20] = {"run.name=unit",          "run.slots=4",
                           "run.slot_size=3",        "mixture.components=8",
                           "mixture.dimensions=4",   "loss.block=4",
                           "mixture.reseed_max=2",   "run.log_every=2",
                           "mixture.reseed_usage=1", "mixture.usage_momentum=0.5",
                           "mixture.source=views",   "mixture.balance=0"};
    struct error e = {0};
    for (size_t i = 0; i < n; i++)
        set[12 + i] = extra[i];
    if (run_config_load(c, NULL, NULL, set, 12 + n, &e) != 0)
        fail_msg("%s", e.text);
}

static inline void config_of(struct run_config *c, const char *extra)
{
    config_with(c, &extra, extra ? 1 : 0);
}

static inline struct prototype_core *core_of(const struct run_config *c)
{
    struct prototype_core *core;
    struct error e = {0};
    struct prototype_core_options o = {.config = c, .generation = 3};
    assert_int_equal(prototype_core_new(&o, &core, &e), 0);
    return core;
}

static inline struct prototype_core *six_step_core(void)
{
    struct run_config c;
    config_of(&c, "run.steps=6");
    return core_of(&c);
}

/* The statistics of (step, slot): embeddings and responsibilities drawn from a stream of that name. */
static inline void sampled_message(uint64_t step, uint32_t slot, enum stats_encoding encoding, uint32_t S,
                                   struct msg *m)
{
    float h[ROWS * D], gamma[ROWS * 2], distance[2] = {0.9f, 0.4f};
    uint32_t start[ROWS + 1] = {0}, index[ROWS * 2], assigned[ROWS];
    struct rng r;
    rng_open(&r, 99, RNG_AUGMENT, step, slot, 0);
    for (int i = 0; i < ROWS * D; i++)
        h[i] = (float)rng_normal(&r);
    vec_normalise_rows(h, ROWS, D, NULL);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t first = rng_below(&r, 4), second = 4 + rng_below(&r, 4);
        gamma[2 * i] = rng_uniform(&r);
        gamma[2 * i + 1] = 1 - gamma[2 * i];
        index[2 * i] = first;
        index[2 * i + 1] = second;
        assigned[i] = gamma[2 * i] > 0.5f ? first : second;
        start[i + 1] = 2 * i + 2;
    }
    struct responsibilities g = {.N = ROWS, .start = start, .index = index, .gamma = gamma};
    struct stats_extra x = {.V = 2, .novel = h, .novel_distance = distance, .assigned = assigned, .loglik = -3, .S = S};
    msg_init(m, MSG_STATS, "unit");
    m->worker = 5;
    m->step = step;
    m->slot = slot;
    m->slots = 1;
    assert_int_equal(stats_encode_as(encoding, h, &g, K, D, COVARIANCE_DIAGONAL, &x, m), 0);
}

static inline void stats_message(uint64_t step, uint32_t slot, enum stats_encoding encoding, struct msg *m)
{
    sampled_message(step, slot, encoding, 0, m);
}

/* Sends m (and drops it); returns the type of the reply and, through code, its code. */
static inline enum msg_type send(struct prototype_core *core, struct msg *m, uint32_t *code)
{
    struct outbox out = {0};
    assert_int_equal(prototype_core_on_message(core, 1000, &anyone, m, &out), 0);
    msg_fini(m);
    assert_true(out.count >= 1);
    assert_int_equal(out.items[0].kind, OUT_PEER);
    assert_true(peer_equal(&out.items[0].peer, &anyone));
    enum msg_type type = out.items[0].msg.type;
    *code = out.items[0].msg.code;
    outbox_fini(&out);
    return type;
}

static inline void expect(struct prototype_core *core, struct msg *m, enum msg_type type, uint32_t code)
{
    uint32_t got;
    assert_int_equal(send(core, m, &got), type);
    assert_int_equal(got, code);
}

static inline void apply(struct prototype_core *core, uint64_t step, uint32_t slot, enum stats_encoding encoding)
{
    struct msg m;
    stats_message(step, slot, encoding, &m);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
}

static inline uint64_t version_of(const struct prototype_core *core)
{
    return prototype_core_mixture(core)->view->version;
}

/* The whole state as the bytes of its checkpoint. */
static inline struct buf *state_bytes(const struct prototype_core *core)
{
    char path[64];
    struct error e = {0};
    struct buf *b = NULL;
    struct run_config c;
    config_of(&c, NULL);
    struct mixture_file_info info = {.config = &c, .facts.total_steps = STEPS};
    snprintf(path, sizeof path, "/tmp/prototype_core.%d", (int)getpid());
    assert_int_equal(mixture_file_write(path, prototype_core_mixture(core), &info, &e), 0);
    assert_int_equal(file_read(path, 1 << 20, &b, &e), 0);
    unlink(path);
    return b;
}

static inline void assert_same_state(const struct prototype_core *a, const struct prototype_core *b)
{
    struct buf *x = state_bytes(a), *y = state_bytes(b);
    assert_int_equal(x->size, y->size);
    assert_memory_equal(x->data, y->data, x->size);
    buf_unref(&x);
    buf_unref(&y);
}

#endif
