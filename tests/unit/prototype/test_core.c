/* The core through messages: the wall, refusals that change nothing, duplicates, the order of arrival, resuming. */
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
#include "common/version.h"
#include "proto/config_wire.h"
#include "server/prototype/core.h"
#include "server/prototype/mixture_file.h"

enum { K = 8, D = 4, SLOTS = 4, SLOT_SIZE = 3, ROWS = 2 * SLOT_SIZE, STEPS = 6 };

static const struct peer anyone = {.size = 1, .id = {7}};

static void config_with(struct run_config *c, const char *const *extra, size_t n)
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

static void config_of(struct run_config *c, const char *extra)
{
    config_with(c, &extra, extra ? 1 : 0);
}

static struct prototype_core *core_of(const struct run_config *c)
{
    struct prototype_core *core;
    struct error e = {0};
    struct prototype_core_options o = {.config = c, .generation = 3};
    assert_int_equal(prototype_core_new(&o, &core, &e), 0);
    return core;
}

static struct prototype_core *six_step_core(void)
{
    struct run_config c;
    config_of(&c, "run.steps=6");
    return core_of(&c);
}

/* The statistics of (step, slot): embeddings and responsibilities drawn from a stream of that name. */
static void sampled_message(uint64_t step, uint32_t slot, enum stats_encoding encoding, uint32_t S, struct msg *m)
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

static void stats_message(uint64_t step, uint32_t slot, enum stats_encoding encoding, struct msg *m)
{
    sampled_message(step, slot, encoding, 0, m);
}

/* Sends m (and drops it); returns the type of the reply and, through code, its code. */
static enum msg_type send(struct prototype_core *core, struct msg *m, uint32_t *code)
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

static void expect(struct prototype_core *core, struct msg *m, enum msg_type type, uint32_t code)
{
    uint32_t got;
    assert_int_equal(send(core, m, &got), type);
    assert_int_equal(got, code);
}

/* A refused configuration comes with the server's, so that the keys can be named. */
static void expect_keys(struct prototype_core *core)
{
    struct outbox out = {0};
    struct run_config own;
    char keys[200];
    struct msg m;
    msg_init(&m, MSG_HELLO, "unit");
    m.config = 1;
    config_of(&own, "run.steps=6");
    own.mixture.components *= 2;
    assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
    assert_int_equal(config_wire_differences(&out.items[0].msg, &own, keys, sizeof keys), 1);
    assert_non_null(strstr(keys, "mixture.components"));
    outbox_fini(&out);
}

static void apply(struct prototype_core *core, uint64_t step, uint32_t slot, enum stats_encoding encoding)
{
    struct msg m;
    stats_message(step, slot, encoding, &m);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
}

static uint64_t version_of(const struct prototype_core *core)
{
    return prototype_core_mixture(core)->view->version;
}

/* The whole state as the bytes of its checkpoint. */
static struct buf *state_bytes(const struct prototype_core *core)
{
    char path[64];
    struct error e = {0};
    struct buf *b = NULL;
    struct run_config c;
    config_of(&c, NULL);
    struct mixture_file_info info = {.config = &c, .facts.total_steps = STEPS};
    snprintf(path, sizeof path, "/tmp/test_core.%d", (int)getpid());
    assert_int_equal(mixture_file_write(path, prototype_core_mixture(core), &info, &e), 0);
    assert_int_equal(file_read(path, 1 << 20, &b, &e), 0);
    unlink(path);
    return b;
}

static void assert_same_state(const struct prototype_core *a, const struct prototype_core *b)
{
    struct buf *x = state_bytes(a), *y = state_bytes(b);
    assert_int_equal(x->size, y->size);
    assert_memory_equal(x->data, y->data, x->size);
    buf_unref(&x);
    buf_unref(&y);
}

/* ---- doors and envelopes ---- */

static void test_wall_refuses_every_other_type(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    for (int type = MSG_HELLO; type < MSG_TYPE_END; type++) {
        struct msg m;
        if (type == MSG_HELLO || type == MSG_STATS || type == MSG_MIXTURE_GET || type == MSG_PING || type == MSG_REWIND)
            continue;
        msg_init(&m, (enum msg_type)type, "unit");
        expect(core, &m, MSG_ERROR, REASON_WRONG_DOOR);
    }
    assert_int_equal(prototype_core_counters(core)->refused[REASON_WRONG_DOOR], MSG_TYPE_END - 1 - 5);
    assert_int_equal(version_of(core), 0);
    prototype_core_free(&core);
}

static void test_hello_and_ping(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct msg m;
    struct outbox out = {0};
    msg_init(&m, MSG_HELLO, "");
    assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
    const struct msg *w = &out.items[0].msg;
    assert_int_equal(w->type, MSG_WELCOME);
    assert_int_equal(w->generation, 3);
    assert_string_equal(w->text, DECANT_VERSION);
    assert_true(w->config != 0 && strcmp(w->run, "unit") == 0);
    assert_true(msg_scalar(w, "components", 0) == K && msg_scalar(w, "dimensions", 0) == D);
    assert_true(msg_scalar(w, "covariance", 9) == COVARIANCE_DIAGONAL && msg_scalar(w, "slots", 0) == SLOTS);
    assert_true(msg_scalar(w, "slot_size", 0) == SLOT_SIZE && msg_scalar(w, "rows_max", 0) == ROWS);
    assert_true(msg_scalar(w, "total_steps", 0) == STEPS && msg_scalar(w, "beta", 0) == 0.5);
    outbox_fini(&out);
    msg_init(&m, MSG_PING, "");
    expect(core, &m, MSG_PONG, 0);
    msg_init(&m, MSG_HELLO, "other");
    expect(core, &m, MSG_ERROR, REASON_WRONG_RUN);
    msg_init(&m, MSG_HELLO, "unit");
    m.config = 1;
    expect(core, &m, MSG_ERROR, REASON_WRONG_CONFIG);
    expect_keys(core);
    prototype_core_free(&core);
}

static void test_total_steps_come_from_the_first_worker(void **state)
{
    (void)state;
    static const double impossible[] = {-1, 0.5, 2e9, 1e300};
    struct run_config c;
    config_of(&c, NULL);
    struct prototype_core *core = core_of(&c);
    struct msg m;
    stats_message(0, 0, STATS_DENSE, &m);
    expect(core, &m, MSG_ERROR, REASON_NOT_READY);
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
        msg_init(&m, MSG_HELLO, "unit");
        msg_add_scalar(&m, "total_steps", impossible[i]);
        expect(core, &m, MSG_ERROR, REASON_OUT_OF_RANGE);
    }
    msg_init(&m, MSG_HELLO, "unit");
    msg_add_scalar(&m, "total_steps", 40);
    expect(core, &m, MSG_WELCOME, 0);
    assert_int_equal(prototype_core_total_steps(core), 40);
    msg_init(&m, MSG_HELLO, "unit");
    msg_add_scalar(&m, "total_steps", 41);
    expect(core, &m, MSG_ERROR, REASON_WRONG_CONFIG);
    apply(core, 0, 0, STATS_DENSE);
    prototype_core_free(&core);
}

static void say_hello(struct prototype_core *core, double data, double numerics, enum msg_type answer, uint32_t code)
{
    struct msg m;
    msg_init(&m, MSG_HELLO, "unit");
    m.worker = 5;
    msg_add_scalar(&m, "data", data);
    msg_add_scalar(&m, "numerics", numerics);
    expect(core, &m, answer, code);
}

/* The parameter server admits workers; this one writes down what they tell, until the run begins anew. */
static void test_images_and_arithmetic_are_noted(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct outbox out = {0};
    const struct provenance *p = prototype_core_provenance(core);
    say_hello(core, 0.5, 88, MSG_ERROR, REASON_BAD_VALUE);
    say_hello(core, 77, -1, MSG_ERROR, REASON_BAD_VALUE);
    assert_true(p->data == 0 && p->numerics == 0);
    say_hello(core, 77, 88, MSG_WELCOME, 0);
    assert_true(p->data == 77 && p->numerics == 88 && p->data_before == 0 && p->numerics_other == 0);
    say_hello(core, 78, 89, MSG_WELCOME, 0);
    assert_true(p->data == 78 && p->data_before == 77 && p->numerics == 88 && p->numerics_other == 89);
    assert_int_equal(prototype_core_rewind(core, 4, NULL, &out), 0);
    assert_true(p->data == 0 && p->data_before == 0 && p->numerics == 0 && p->numerics_other == 0);
    outbox_fini(&out);
    prototype_core_free(&core);
}

/* ---- statistics ---- */

struct hostile {
    const char *what;
    void (*spoil)(struct msg *m);
    enum reason why;
};

static void other_run(struct msg *m)
{
    strcpy(m->run, "other");
}
static void no_run(struct msg *m)
{
    m->run[0] = '\0';
}
static void other_shard(struct msg *m)
{
    m->shard = 1;
}
static void other_generation(struct msg *m)
{
    m->generation = 2;
}
static void no_slots(struct msg *m)
{
    m->slots = 0;
}
static void slot_beyond(struct msg *m)
{
    m->slot = SLOTS;
}
static void slots_wrap(struct msg *m)
{
    m->slot = 2;
    m->slots = UINT32_MAX;
}
static void not_a_subtree(struct msg *m)
{
    m->slot = 1;
    m->slots = 2;
}
static void future(struct msg *m)
{
    m->step = 1;
}
static void after_the_end(struct msg *m)
{
    m->step = STEPS;
}
static void no_encoding(struct msg *m)
{
    m->encoding = 77;
}
static void not_finite(struct msg *m)
{
    float nan = __builtin_nanf("");
    memcpy(m->tensors[0].data->data, &nan, sizeof nan);
}
static void negative_mass(struct msg *m)
{
    float bad = -1;
    memcpy(m->tensors[0].data->data, &bad, sizeof bad);
}
static void absurd_loglik(struct msg *m)
{
    for (uint32_t i = 0; i < m->scalar_count; i++)
        if (strcmp(m->scalars[i].name, "loglik") == 0)
            m->scalars[i].value = 1e308;
}
static void too_few_tensors(struct msg *m)
{
    buf_unref(&m->tensors[--m->tensor_count].data);
    buf_unref(&m->tensors[0].data);
    m->tensors[0] = m->tensors[--m->tensor_count];
}
static void wrong_shape(struct msg *m)
{
    m->tensors[1].shape[0]--;
    m->tensors[1].data->size -= D * sizeof(float);
}

static const struct hostile hostiles[] = {
    {"other run", other_run, REASON_WRONG_RUN},
    {"no run", no_run, REASON_WRONG_RUN},
    {"other shard", other_shard, REASON_WRONG_SHARD},
    {"other generation", other_generation, REASON_WRONG_GENERATION},
    {"no slots", no_slots, REASON_OUT_OF_RANGE},
    {"slot beyond", slot_beyond, REASON_OUT_OF_RANGE},
    {"slots wrap", slots_wrap, REASON_OUT_OF_RANGE},
    {"not a subtree", not_a_subtree, REASON_OUT_OF_RANGE},
    {"future step", future, REASON_FUTURE_STEP},
    {"after the end", after_the_end, REASON_OUT_OF_RANGE},
    {"unknown encoding", no_encoding, REASON_BAD_ENCODING},
    {"not finite", not_finite, REASON_NON_FINITE},
    {"negative mass", negative_mass, REASON_BAD_VALUE},
    {"log-likelihood whose sum overflows", absurd_loglik, REASON_BAD_VALUE},
    {"missing tensor", too_few_tensors, REASON_BAD_FIELD},
    {"wrong shape", wrong_shape, REASON_BAD_SHAPE},
};

static void test_refusals_change_nothing(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core(), *untouched = six_step_core();
    for (size_t i = 0; i < sizeof hostiles / sizeof hostiles[0]; i++) {
        struct msg m;
        uint32_t code;
        uint64_t before = prototype_core_counters(core)->refused[hostiles[i].why];
        stats_message(0, 0, STATS_DENSE, &m);
        hostiles[i].spoil(&m);
        if (send(core, &m, &code) != MSG_ERROR || code != hostiles[i].why)
            fail_msg("%s: code %u (%s)", hostiles[i].what, code, reason_name((enum reason)code));
        assert_int_equal(prototype_core_counters(core)->refused[hostiles[i].why], before + 1);
    }
    assert_same_state(core, untouched);
    for (uint32_t slot = 0; slot < SLOTS; slot++) { /* no refused slot counts as held */
        apply(core, 0, slot, STATS_DENSE);
        apply(untouched, 0, slot, STATS_DENSE);
    }
    assert_int_equal(version_of(core), 1);
    assert_same_state(core, untouched);
    prototype_core_free(&core);
    prototype_core_free(&untouched);
}

static void test_duplicates_and_stale_are_acknowledged(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core(), *once = six_step_core();
    struct msg m;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        apply(once, 0, slot, STATS_DENSE);
        apply(core, 0, slot, STATS_DENSE);
        stats_message(0, slot, STATS_FACTORED, &m);
        expect(core, &m, MSG_ACK, slot < SLOTS - 1 ? ACK_DUPLICATE : ACK_STALE);
    }
    stats_message(0, 1, STATS_ROWS, &m);
    expect(core, &m, MSG_ACK, ACK_STALE);
    assert_int_equal(prototype_core_counters(core)->duplicates, SLOTS - 1);
    assert_int_equal(prototype_core_counters(core)->stale, 2);
    assert_same_state(core, once);
    prototype_core_free(&core);
    prototype_core_free(&once);
}

static void test_partly_held_subtree_overlaps(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct msg m;
    apply(core, 0, 0, STATS_DENSE);
    stats_message(0, 0, STATS_DENSE, &m);
    m.slots = 2;
    expect(core, &m, MSG_ERROR, REASON_OVERLAP);
    prototype_core_free(&core);
}

/* Any order of slots, any encoding, with duplicates in between: the same bytes. */
static void test_arrival_order_does_not_change_a_byte(void **state)
{
    (void)state;
    static const uint32_t orders[][SLOTS] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}};
    struct prototype_core *cores[3];
    for (int o = 0; o < 3; o++) {
        cores[o] = six_step_core();
        for (uint64_t step = 0; step < STEPS; step++)
            for (int i = 0; i < SLOTS; i++)
                apply(cores[o], step, orders[(o + (int)step) % 3][i], (enum stats_encoding)(1 + (o + i) % 3));
        assert_int_equal(version_of(cores[o]), STEPS);
    }
    assert_true(prototype_core_mixture(cores[0])->reseeded > 0);
    assert_same_state(cores[0], cores[1]);
    assert_same_state(cores[0], cores[2]);
    struct msg m;
    stats_message(STEPS, 0, STATS_DENSE, &m);
    expect(cores[0], &m, MSG_ERROR, REASON_OUT_OF_RANGE); /* the run is over */
    for (int o = 0; o < 3; o++)
        prototype_core_free(&cores[o]);
}

/* ---- k-means++ ---- */

/* 32 embeddings: the 24 of step 0, and of step 1 the six of slot 0 and the first two of slot 1. */
static void seeded_config(struct run_config *c)
{
    static const char *const keys[] = {"run.steps=6", "mixture.init=kmeans++"};
    config_with(c, keys, 2);
}

static struct prototype_core *seeded_core(void)
{
    struct run_config c;
    seeded_config(&c);
    assert_int_equal(run_config_init_steps(&c), 2);
    return core_of(&c);
}

static uint32_t sample_of(uint64_t step, uint32_t slot)
{
    return step == 0 ? ROWS : step == 1 && slot == 0 ? ROWS : step == 1 && slot == 1 ? 2 : 0;
}

static void apply_sampled(struct prototype_core *core, uint64_t step, uint32_t slot, enum stats_encoding encoding)
{
    struct msg m;
    sampled_message(step, slot, encoding, sample_of(step, slot), &m);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
}

/* Whoever sums a subtree concatenates embeddings. */
static void apply_pair(struct prototype_core *core, uint64_t step, uint32_t slot)
{
    struct stats_rows a, b;
    struct msg left, right, m;
    enum reason why;
    sampled_message(step, slot, STATS_ROWS, sample_of(step, slot), &left);
    sampled_message(step, slot + 1, STATS_ROWS, sample_of(step, slot + 1), &right);
    assert_int_equal(stats_decode(&left, K, D, COVARIANCE_DIAGONAL, ROWS, &a, &why, NULL), 0);
    assert_int_equal(stats_decode(&right, K, D, COVARIANCE_DIAGONAL, ROWS, &b, &why, NULL), 0);
    assert_int_equal(stats_rows_add(&a, &b), 0);
    msg_fini(&left);
    msg_fini(&right);
    msg_init(&m, MSG_STATS, "unit");
    m.step = step;
    m.slot = slot;
    m.slots = 2;
    m.encoding = STATS_ROWS;
    const struct {
        const char *name;
        enum dtype dtype;
        uint64_t rows, width;
        const void *data;
    } tensors[] = {{"index", DTYPE_U32, a.R, 0, a.index},
                   {"n", DTYPE_F32, a.R, 0, a.n},
                   {"s1", DTYPE_F32, a.R, D, a.s1},
                   {"s2", DTYPE_F32, a.R, D, a.s2},
                   {"novel", DTYPE_F32, a.V, D, a.novel},
                   {"novel_distance", DTYPE_F32, a.V, 0, a.novel_distance},
                   {"assigned", DTYPE_U32, a.A, 0, a.assigned},
                   {"sample", DTYPE_F32, a.S, D, a.sample}};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        uint64_t width = tensors[i].width, shape[2] = {tensors[i].rows, width};
        size_t bytes = tensors[i].rows * (width ? width : 1) * 4;
        if (bytes > 0)
            assert_int_equal(msg_add_tensor(&m, tensors[i].name, tensors[i].dtype, width ? 2 : 1, shape,
                                            buf_copy(tensors[i].data, bytes)),
                             0);
    }
    assert_int_equal(msg_add_scalar(&m, "count", a.count) | msg_add_scalar(&m, "loglik", a.loglik), 0);
    stats_rows_fini(&a);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
}

/* Prototypes move when the last embedding is there, to the same ones whatever the order of slots, whoever adds them,
 * and when the server is resumed from a checkpoint in between. */
static void test_seeding_depends_on_the_steps_alone(void **state)
{
    (void)state;
    struct prototype_core *forth = seeded_core(), *back = seeded_core(), *resumed;
    struct prototype_core *pairs = seeded_core();
    struct run_config c;
    struct error e = {0};
    seeded_config(&c);
    for (uint64_t step = 0; step < 4; step++) {
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            apply_sampled(forth, step, slot, STATS_FACTORED);
        for (uint32_t slot = SLOTS; slot-- > 0;)
            apply_sampled(back, step, slot, STATS_DENSE);
        apply_pair(pairs, step, 2);
        apply_pair(pairs, step, 0);
        assert_same_state(forth, back);
        assert_same_state(forth, pairs);
        const struct mixture *m = prototype_core_mixture(forth);
        assert_int_equal(m->seeded, step == 1 ? K : 0);
        assert_true((m->seeding != NULL) == (step == 0));
        struct prototype_core_options o = {.config = &c, .generation = 4};
        assert_int_equal(mixture_clone(m, &o.resumed), 0);
        assert_int_equal(prototype_core_new(&o, &resumed, &e), 0);
        prototype_core_free(&back);
        back = resumed;
    }
    prototype_core_free(&forth);
    prototype_core_free(&back);
    prototype_core_free(&pairs);
}

static void test_seeding_takes_its_embeddings_and_no_others(void **state)
{
    (void)state;
    static const uint32_t counts[2][SLOTS] = {{ROWS, ROWS, ROWS, ROWS}, {ROWS, 2, 0, 0}};
    struct prototype_core *core = seeded_core(), *untouched = seeded_core(), *plain = six_step_core();
    struct msg m;
    for (uint64_t step = 0; step < 2; step++)
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            for (uint32_t S = 0; S <= ROWS; S++) {
                if (S == counts[step][slot])
                    continue;
                sampled_message(step, slot, STATS_DENSE, S, &m);
                expect(core, &m, MSG_ERROR, REASON_BAD_SHAPE);
            }
            assert_same_state(core, untouched);
            apply_sampled(core, step, slot, STATS_DENSE);
            apply_sampled(untouched, step, slot, STATS_DENSE);
        }
    sampled_message(0, 0, STATS_DENSE, 1, &m);
    expect(plain, &m, MSG_ERROR, REASON_BAD_SHAPE); /* a run without it wants none */
    prototype_core_free(&core);
    prototype_core_free(&untouched);
    prototype_core_free(&plain);
}

/* From a checkpoint in between, and from the start, where nothing is left of what was gathered. */
static void test_seeding_survives_going_back(void **state)
{
    (void)state;
    struct prototype_core *core = seeded_core(), *straight = seeded_core();
    struct outbox out = {0};
    struct mixture *at_one = NULL;
    for (uint64_t step = 0; step < 3; step++)
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            apply_sampled(straight, step, slot, STATS_DENSE);
    for (int round = 0; round < 3; round++) { /* from the start, from step 1, from the start again */
        for (uint64_t step = version_of(core); step < 3; step++) {
            for (uint32_t slot = 0; slot < SLOTS; slot++)
                apply_sampled(core, step, slot, STATS_DENSE);
            if (step == 0 && at_one == NULL)
                assert_int_equal(mixture_clone(prototype_core_mixture(core), &at_one), 0);
        }
        assert_same_state(core, straight);
        assert_int_equal(prototype_core_rewind(core, 10 + (uint64_t)round, round == 0 ? at_one : NULL, &out), 0);
        assert_true(prototype_core_mixture(core)->seeding->gathered == (round == 0 ? 24 : 0));
        outbox_fini(&out);
    }
    prototype_core_free(&core);
    prototype_core_free(&straight);
}

/* ---- versions ---- */

static uint64_t tensor_bytes(const struct msg *m)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++)
        bytes += m->tensors[i].data->size;
    return bytes;
}

/* One slot a step, whose embeddings touch components 1 and 3. */
static void two_rows_message(uint64_t step, uint32_t components, struct msg *m)
{
    float h[ROWS * D] = {0}, gamma[ROWS];
    uint32_t start[ROWS + 1] = {0}, index[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        h[i * D + i % D] = 1;
        gamma[i] = 1;
        index[i] = 1 + 2 * (i % 2);
        start[i + 1] = i + 1;
    }
    struct responsibilities g = {.N = ROWS, .start = start, .index = index, .gamma = gamma};
    struct stats_extra x = {.loglik = -3};
    msg_init(m, MSG_STATS, "unit");
    m->worker = 5;
    m->step = step;
    m->slots = 1;
    assert_int_equal(stats_encode(h, &g, components, D, COVARIANCE_DIAGONAL, &x, m), 0);
}

/* What is published of versions that touch two rows each, over more than two periods: tensors of two rows always when
 * there are many components; when there are few, a full message now and then, which the deltas outweigh. */
static void check_published(const char *components, uint32_t count, uint32_t fulls_wanted)
{
    enum { VERSIONS = 2 * MIXTURE_FULL_EVERY + 2, DELTA_BYTES = 2 * 4 * (2 * D + 3) };
    const char *const set[] = {"run.name=unit",  "run.slots=1",          "run.slot_size=3",
                               components,       "mixture.dimensions=4", "loss.block=4",
                               "run.steps=1000", "mixture.source=views", "mixture.balance=0"};
    struct run_config c;
    struct error e = {0};
    assert_int_equal(run_config_load(&c, NULL, NULL, set, sizeof set / sizeof set[0], &e), 0);
    struct prototype_core *core = core_of(&c);
    uint32_t fulls = 0;
    for (uint64_t step = 0; step < VERSIONS; step++) {
        struct outbox out = {0};
        struct msg m;
        two_rows_message(step, count, &m);
        assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
        msg_fini(&m);
        for (size_t i = 0; i < out.count; i++) {
            const struct outbox_item *item = &out.items[i];
            if (item->kind != OUT_PUBLISH || item->msg.type != MSG_MIXTURE)
                continue;
            bool full = item->msg.encoding == MIXTURE_FULL;
            fulls += full;
            assert_int_equal(tensor_bytes(&item->msg), full ? count * 4 * (2 * D + 2) : DELTA_BYTES);
            assert_true(!full || item->msg.step % MIXTURE_FULL_EVERY == 0);
        }
        outbox_fini(&out);
    }
    assert_int_equal(fulls, fulls_wanted);
    prototype_core_free(&core);
}

static void test_deltas_of_few_rows_stay_deltas(void **state)
{
    (void)state;
    check_published("mixture.components=12", 12, 2);
    check_published("mixture.components=1000", 1000, 0);
}

/* A subscriber that applies every publication holds what MIXTURE_GET says, for the newest and the version before. */
static void test_publications_and_snapshots_agree(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct mixture_view *follower, *asked;
    enum reason why;
    assert_int_equal(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &follower), 0);
    assert_int_equal(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &asked), 0);
    mixture_view_copy(follower, prototype_core_mixture(core)->view);
    for (uint64_t step = 0; step < STEPS; step++) {
        struct outbox out = {0};
        struct msg m;
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            stats_message(step, slot, STATS_ROWS, &m);
            assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
            msg_fini(&m);
        }
        bool published = false, metrics = false;
        for (size_t i = 0; i < out.count; i++) {
            const struct outbox_item *item = &out.items[i];
            if (item->kind == OUT_PUBLISH && item->msg.type == MSG_MIXTURE) {
                assert_string_equal(item->topic, "mixture");
                assert_int_equal(mixture_apply(follower, &item->msg, &why), 0);
                published = true;
            }
            metrics |= item->kind == OUT_PUBLISH && item->msg.type == MSG_METRICS;
        }
        assert_true(published);
        assert_int_equal(metrics, (step + 1) % 2 == 0);
        assert_int_equal(prototype_core_take_metrics(core, &m), metrics); /* handed over beside the publication, */
        if (metrics) {
            assert_int_equal(m.step, step + 1);
            assert_true(msg_scalar(&m, "version", 0) == (double)(step + 1));
            assert_int_equal(m.tensor_count, 0);
        }
        assert_false(prototype_core_take_metrics(core, &m)); /* and once */
        outbox_fini(&out);
        for (uint64_t back = 0; back < 2; back++) {
            msg_init(&m, MSG_MIXTURE_GET, "unit");
            m.step = step + 1 - back;
            assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
            assert_int_equal(out.items[0].msg.type, MSG_MIXTURE);
            assert_int_equal(out.items[0].msg.encoding, MIXTURE_FULL);
            assert_int_equal(mixture_apply(asked, &out.items[0].msg, &why), 0);
            assert_int_equal(asked->version, step + 1 - back);
            if (back == 0) {
                assert_memory_equal(asked->mean, follower->mean, K * D * sizeof(float));
                assert_memory_equal(asked->variance, follower->variance, K * D * sizeof(float));
                assert_memory_equal(asked->log_const, follower->log_const, K * sizeof(float));
            }
            outbox_fini(&out);
            out = (struct outbox){0};
        }
    }
    struct msg m;
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.step = STEPS + 1;
    expect(core, &m, MSG_ERROR, REASON_UNKNOWN_VERSION);
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.step = STEPS - 2;
    expect(core, &m, MSG_ERROR, REASON_UNKNOWN_VERSION);
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.seq = 1;
    expect(core, &m, MSG_MIXTURE, 0);
    mixture_view_free(&follower);
    mixture_view_free(&asked);
    prototype_core_free(&core);
}

static void test_stopping_refuses_statistics_only(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct msg m;
    prototype_core_stop(core);
    stats_message(0, 0, STATS_DENSE, &m);
    expect(core, &m, MSG_ERROR, REASON_STOPPING);
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.seq = 1;
    expect(core, &m, MSG_MIXTURE, 0);
    prototype_core_free(&core);
}

static void test_silent_workers_are_forgotten(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct outbox out = {0};
    apply(core, 0, 0, STATS_DENSE); /* worker 5 at 1000 ms */
    assert_int_equal(prototype_core_workers(core)->count, 1);
    assert_int_equal(prototype_core_workers(core)->workers[0].slots_done, 1);
    prototype_core_on_timer(core, 1000 + WORKERS_SILENCE_MS - 1, &out);
    assert_int_equal(prototype_core_workers(core)->count, 1);
    prototype_core_on_timer(core, 1000 + WORKERS_SILENCE_MS, &out);
    assert_int_equal(prototype_core_workers(core)->count, 0);
    outbox_fini(&out);
    prototype_core_free(&core);
}

/* The parameter server finishes its step when both are told to end, so its statistics are still wanted. */
static void test_draining_lasts_until_the_workers_leave(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct outbox out = {0};
    struct msg goodbye;
    apply(core, 0, 0, STATS_DENSE);
    prototype_core_drain(core, 1000);
    apply(core, 0, 1, STATS_DENSE);
    assert_false(prototype_core_stopped(core));
    msg_init(&goodbye, MSG_PING, "unit");
    goodbye.worker = 5;
    goodbye.code = 1;
    expect(core, &goodbye, MSG_PONG, 0);
    assert_true(prototype_core_stopped(core));
    prototype_core_free(&core);
    core = six_step_core();
    apply(core, 0, 0, STATS_DENSE);
    prototype_core_drain(core, 1000);
    prototype_core_on_timer(core, 1000 + PROTOTYPE_DRAIN_MS - 1, &out);
    assert_false(prototype_core_stopped(core));
    prototype_core_on_timer(core, 1000 + PROTOTYPE_DRAIN_MS, &out);
    assert_true(prototype_core_stopped(core));
    outbox_fini(&out);
    prototype_core_free(&core);
}

static void run_to(struct prototype_core *core, uint64_t version)
{
    for (uint64_t t = version_of(core); t < version; t++)
        for (uint32_t slot = 0; slot < 4; slot++)
            apply(core, t, slot, STATS_FACTORED);
}

static struct msg rewind_message(uint64_t generation, uint64_t step)
{
    struct msg m;
    msg_init(&m, MSG_REWIND, "unit");
    m.worker = 5;
    m.generation = generation;
    m.step = step;
    return m;
}

/* Only who is more than a version ahead goes back, only when asked by generation, and only from a worker. */
static void test_rewind_is_taken_when_the_pair_is_apart(void **state)
{
    (void)state;
    uint64_t step_max = 0;
    struct prototype_core *core = six_step_core();
    run_to(core, 4);
    struct msg m = rewind_message(3, 3);
    expect(core, &m, MSG_ACK, ACK_STALE);
    m = rewind_message(2, 1);
    expect(core, &m, MSG_ERROR, REASON_WRONG_GENERATION);
    m = rewind_message(0, 1);
    expect(core, &m, MSG_ERROR, REASON_BAD_FIELD);
    m = rewind_message(3, 1);
    m.worker = 0;
    expect(core, &m, MSG_ERROR, REASON_BAD_FIELD);
    assert_false(prototype_core_take_rewind(core, &step_max));
    m = rewind_message(3, 1);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
    assert_true(prototype_core_take_rewind(core, &step_max));
    assert_int_equal(step_max, 1);
    assert_false(prototype_core_take_rewind(core, &step_max));
    prototype_core_free(&core);
}

/* Gone back to a checkpoint or to the start, and on again: the same bytes as never having been elsewhere. */
/* Resumed at version 2, it lacks version 1, which slots of step 1 need. */
static void test_rewind_is_taken_when_a_version_is_not_held(void **state)
{
    (void)state;
    uint64_t step_max = 0;
    struct outbox out = {0};
    struct mixture *at_two = NULL;
    struct prototype_core *core = six_step_core();
    run_to(core, 2);
    struct msg m = rewind_message(3, 1);
    m.code = REWIND_UNHELD;
    expect(core, &m, MSG_ACK, ACK_STALE); /* it holds both */
    assert_int_equal(mixture_clone(prototype_core_mixture(core), &at_two), 0);
    assert_int_equal(prototype_core_rewind(core, 4, at_two, &out), 0);
    m = rewind_message(4, 1);
    expect(core, &m, MSG_ACK, ACK_STALE);
    m = rewind_message(4, 0);
    m.code = REWIND_UNHELD;
    expect(core, &m, MSG_ACK, ACK_STALE); /* was long under way: not what it says any more */
    m = rewind_message(4, 1);
    m.code = REWIND_UNHELD;
    expect(core, &m, MSG_ACK, ACK_APPLIED);
    assert_true(prototype_core_take_rewind(core, &step_max));
    assert_int_equal(step_max, 1);
    outbox_fini(&out);
    prototype_core_free(&core);
}

static void test_rewind_leads_to_the_same_bytes(void **state)
{
    (void)state;
    struct outbox out = {0};
    struct mixture *at_two = NULL;
    struct prototype_core *core = six_step_core(), *undisturbed = six_step_core();
    run_to(undisturbed, 5);
    run_to(core, 2);
    assert_int_equal(mixture_clone(prototype_core_mixture(core), &at_two), 0);
    run_to(core, 5);
    apply(core, 5, 1, STATS_FACTORED); /* a partial step is dropped */
    assert_int_equal(prototype_core_rewind(core, 4, at_two, &out), 0);
    assert_int_equal(version_of(core), 2);
    assert_int_equal(out.items[0].msg.type, MSG_MIXTURE); /* who listens learns of the new generation */
    assert_int_equal(out.items[0].msg.generation, 4);
    run_to(core, 5);
    assert_same_state(core, undisturbed);
    outbox_clear(&out);
    assert_int_equal(prototype_core_rewind(core, 5, NULL, &out), 0);
    assert_int_equal(version_of(core), 0);
    run_to(core, 5);
    assert_same_state(core, undisturbed);
    outbox_fini(&out);
    prototype_core_free(&core);
    prototype_core_free(&undisturbed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wall_refuses_every_other_type),
        cmocka_unit_test(test_hello_and_ping),
        cmocka_unit_test(test_total_steps_come_from_the_first_worker),
        cmocka_unit_test(test_images_and_arithmetic_are_noted),
        cmocka_unit_test(test_refusals_change_nothing),
        cmocka_unit_test(test_duplicates_and_stale_are_acknowledged),
        cmocka_unit_test(test_partly_held_subtree_overlaps),
        cmocka_unit_test(test_arrival_order_does_not_change_a_byte),
        cmocka_unit_test(test_seeding_depends_on_the_steps_alone),
        cmocka_unit_test(test_seeding_takes_its_embeddings_and_no_others),
        cmocka_unit_test(test_seeding_survives_going_back),
        cmocka_unit_test(test_deltas_of_few_rows_stay_deltas),
        cmocka_unit_test(test_publications_and_snapshots_agree),
        cmocka_unit_test(test_stopping_refuses_statistics_only),
        cmocka_unit_test(test_silent_workers_are_forgotten),
        cmocka_unit_test(test_draining_lasts_until_the_workers_leave),
        cmocka_unit_test(test_rewind_is_taken_when_the_pair_is_apart),
        cmocka_unit_test(test_rewind_is_taken_when_a_version_is_not_held),
        cmocka_unit_test(test_rewind_leads_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
