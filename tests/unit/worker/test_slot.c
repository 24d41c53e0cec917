/* A slot is a pure function: the same bytes whichever slot_workspace computes it, and whatever that computed before.
 * Also what each objective adds to the manifest, and the wall. */
#include "tests/unit/worker/slot_rig.h"
#include "common/blas.h"
#include "common/kernels.h"

#include <math.h>
#include "proto/stats.h"
#include "worker/data/augment.h"
#include "worker/model_spec.h"

static void assert_differ(const struct bench *t, const struct outcome *a, const struct outcome *b)
{
    assert_memory_not_equal(a->grad, b->grad, slot_manifest(t->shared)->parameter_floats * sizeof(float));
}

/* One worker computes many slots, for each another comes fresh; then the first again in another order. */
static void check_purity(const char *a, const char *b)
{
    struct bench t;
    open_bench(&t, a, b);
    struct slot_workspace *veteran = new_worker(&t);
    static const struct {
        uint64_t step;
        uint32_t slot;
    } tour[] = {{0, 0}, {0, 3}, {1, 2}, {0, 0}, {9, 1}, {1, 2}};
    for (size_t i = 0; i < sizeof tour / sizeof tour[0]; i++) {
        struct slot_workspace *fresh = new_worker(&t);
        struct outcome x, y;
        compute(&t, veteran, tour[i].step, tour[i].slot, &x);
        compute(&t, fresh, tour[i].step, tour[i].slot, &y);
        assert_same(&t, &x, &y);
        assert_true(isfinite(x.metrics[0]) && x.metrics[3] == B);
        assert_true(vec_all_finite(x.grad, slot_manifest(t.shared)->parameter_floats));
        assert_true(vec_sum_squares(x.grad, slot_manifest(t.shared)->parameter_floats) > 0);
        outcome_fini(&x);
        outcome_fini(&y);
        slot_workspace_free(&fresh);
        assert_null(fresh);
    }
    slot_workspace_free(&veteran);
    close_bench(&t);
}

static void test_purity_carp(void **state)
{
    (void)state;
    check_purity(NULL, NULL);
}

static void test_purity_dino(void **state)
{
    (void)state;
    check_purity("loss.objective=dino", NULL);
}

static void test_purity_swav(void **state)
{
    (void)state;
    check_purity("loss.objective=swav", NULL);
}

static void test_purity_joint(void **state)
{
    (void)state;
    check_purity("loss.objective=dino", "loss.prototypes=joint");
    check_purity("loss.koleo=0.5", "loss.prototypes=joint");
    check_purity("loss.prototype_loss=own", "loss.prototypes=joint");
}

/* With both terms, and their parts in the metrics; without, the parts are 0. */
static void test_purity_with_terms(void **state)
{
    (void)state;
    check_purity("loss.mean_entropy=2", "loss.coding_rate=1");
    struct bench t;
    struct outcome o;
    open_bench(&t, "loss.mean_entropy=2", "loss.coding_rate=1");
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, &o);
    assert_true(o.metrics[8] > 0 && o.metrics[9] > 0);
    assert_true(fabs(o.metrics[0] - (o.metrics[1] + 3 * o.metrics[2] - 2 * o.metrics[8] - o.metrics[9])) < 1e-9);
    outcome_fini(&o);
    slot_workspace_free(&w);
    close_bench(&t);
    open_bench(&t, NULL, NULL);
    w = new_worker(&t);
    compute(&t, w, 0, 0, &o);
    assert_true(o.metrics[8] == 0 && o.metrics[9] == 0);
    outcome_fini(&o);
    slot_workspace_free(&w);
    close_bench(&t);
}

/* The term on features: in the loss, in the metrics, and in the encoder's gradient. */
static void test_feature_rate(void **state)
{
    (void)state;
    check_purity("loss.feature_rate=0.5", NULL);
    check_purity("loss.feature_rate=0.5", "loss.prototypes=joint");
    struct bench t;
    struct outcome o, with;
    open_bench(&t, NULL, NULL);
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, &o);
    assert_true(o.metrics[10] == 0);
    slot_workspace_free(&w);
    close_bench(&t);
    open_bench(&t, "loss.feature_rate=0.5", NULL);
    w = new_worker(&t);
    compute(&t, w, 0, 0, &with);
    assert_true(with.metrics[10] > 0);
    assert_true(fabs(with.metrics[0] - (o.metrics[0] - 0.5 * with.metrics[10])) < 1e-9);
    assert_memory_not_equal(with.grad, o.grad, slot_manifest(t.shared)->parameter_floats * sizeof(float));
    outcome_fini(&with);
    outcome_fini(&o);
    slot_workspace_free(&w);
    close_bench(&t);
}

/* In bf16, where the processor multiplies it; and refused, with what to do, by kernels that cannot. */
static void test_bf16(void **state)
{
    (void)state;
    enum kernels before = kernels_chosen();
    struct run_config c;
    struct slot_shared *shared;
    struct error e = {0};
    uint8_t pixels[IMAGES] = {0};
    struct dataset train = {.count = IMAGES, .height = 1, .width = 1, .channels = 1, .images = pixels};
    load_config(&c, "encoder.precision=bf16", NULL);
    assert_int_equal(kernels_choose("portable", NULL), 0);
    assert_int_equal(slot_shared_new(&c, &train, &shared, &e), ERR_CONFIG);
    assert_null(shared);
    assert_non_null(strstr(e.text, "encoder.precision = bf16"));
    assert_non_null(strstr(e.text, "encoder.precision = float32"));
    assert_int_equal(kernels_choose(kernels_name(before), NULL), 0);
    if (!kernels_multiply_bf16(before))
        skip();
    check_purity("encoder.precision=bf16", NULL);
    check_purity("encoder.precision=bf16", "encoder.model=resnet");
}

/* Small views beside the two: a slot stays a pure function, every objective takes them, and they reach the gradient. */
static void test_purity_with_local_views(void **state)
{
    (void)state;
    check_purity("augment.local_crops=3", NULL);
    check_purity("augment.local_crops=1", "loss.objective=dino");
    check_purity("augment.local_crops=2", "loss.objective=swav");
    check_purity("augment.local_crops=2", "loss.prototypes=joint");
}

static void test_purity_of_residual_encoders(void **state)
{
    (void)state;
    check_purity("encoder.model=resnet", NULL);
    check_purity("encoder.model=resnet", "encoder.norm=batch");
}

/* What goes into the running statistics of a slot: the teacher's, of the images that make the slot's mixture. */
static void check_statistics(const char *a, const char *b)
{
    struct outcome first, other_student, other_teacher;
    struct bench t;
    open_bench(&t, a, b);
    size_t P = slot_manifest(t.shared)->parameter_floats, Q = slot_manifest(t.shared)->buffer_floats;
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, &first);
    for (size_t i = 0; i < P; i++)
        t.student[i] *= 1.1f;
    compute(&t, w, 0, 0, &other_student);
    assert_memory_equal(other_student.buffers, first.buffers, Q * sizeof(float));
    for (size_t i = 0; i < P; i++)
        t.teacher[i] *= 1.1f;
    compute(&t, w, 0, 0, &other_teacher);
    assert_memory_not_equal(other_teacher.buffers, first.buffers, Q * sizeof(float));
    slot_workspace_free(&w);
    close_bench(&t);
    outcome_fini(&first);
    outcome_fini(&other_student);
    outcome_fini(&other_teacher);
}

static void test_statistics_are_the_teachers(void **state)
{
    (void)state;
    check_statistics(NULL, NULL);
    check_statistics("mixture.source=images", NULL);
    check_statistics("loss.prototypes=joint", NULL);
    check_statistics("encoder.model=resnet", "encoder.norm=batch");
}

/* Of images as they are, those that the model gives for these images, in the permutation of the first step; and a slot
 * whose statistics of the mixture are applied already, and so are not asked for, contributes the same. */
static void test_statistics_of_images_as_they_are(void **state)
{
    (void)state;
    struct bench t;
    struct model_spec spec;
    struct model *model;
    struct model_workspace *ws;
    struct pixel_scale scale;
    struct error e = {0};
    struct outcome asked, unasked = {0};
    open_bench(&t, "mixture.source=images", NULL);
    size_t Q = slot_manifest(t.shared)->buffer_floats, pixels = (size_t)SIDE * SIDE;
    float *images = calloc(B * pixels, sizeof *images), *z = calloc(B * D, sizeof *z), *wanted = calloc(Q, sizeof *z);
    assert_int_equal(pixel_scale_of(&t.config, 1, &scale, &e), 0);
    assert_int_equal(model_spec_of(&t.config, &t.train, &spec, &e), 0);
    assert_int_equal(model_new(&spec, &model, &e), 0);
    assert_int_equal(model_workspace_new(model, B, &ws), 0);
    for (uint32_t i = 0; i < B; i++)
        augment_standardise(&scale, 1, t.train.images + pixels * permute((uint64_t)t.config.run.seed, 0, i, IMAGES),
                            pixels, images + i * pixels);
    model_forward(model, MODEL_TEACHER, t.teacher, t.buffers, images, B, ws, NULL, z);
    model_buffer_contribution(model, ws, wanted);
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, &asked);
    assert_memory_equal(asked.buffers, wanted, Q * sizeof *wanted);
    struct slot_state *st = new_state(&t);
    struct slot_weights x = weights(&t);
    assert_int_equal(slot_part_a(w, 0, 0, &x, NULL, st, NULL), 0);
    part_b(&t, w, st, &unasked);
    assert_memory_equal(unasked.buffers, wanted, Q * sizeof *wanted);
    slot_state_free(&st);
    slot_workspace_free(&w);
    model_workspace_free(&ws);
    model_free(&model);
    outcome_fini(&asked);
    outcome_fini(&unasked);
    close_bench(&t);
    free(images);
    free(z);
    free(wanted);
}

static void test_local_views_count(void **state)
{
    (void)state;
    struct outcome with, other, without;
    struct bench t;
    open_bench_of(&t, SIDE, 3, "augment.local_crops=2", "augment.local_side=9");
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, &with);
    assert_true(vec_all_finite(with.grad, slot_manifest(t.shared)->parameter_floats));
    slot_workspace_free(&w);
    struct bench small;
    open_bench_of(&small, SIDE, 3, "augment.local_crops=2", "augment.local_side=5");
    w = new_worker(&small);
    compute(&small, w, 0, 0, &other);
    assert_differ(&t, &with, &other);
    slot_workspace_free(&w);
    close_bench(&small);
    open_bench_of(&small, SIDE, 3, NULL, NULL);
    w = new_worker(&small);
    compute(&small, w, 0, 0, &without);
    assert_differ(&t, &with, &without);
    assert_memory_equal(with.buffers, without.buffers, slot_manifest(t.shared)->buffer_floats * sizeof(float));
    slot_workspace_free(&w);
    close_bench(&small);
    close_bench(&t);
    outcome_fini(&with);
    outcome_fini(&other);
    outcome_fini(&without);
}

/* Both encoders take colour images of the usual sizes; the gradient uses all of them. */
static void test_colour_of_several_sizes(void **state)
{
    (void)state;
    static const uint32_t sides[] = {32, 64, 96};
    for (size_t i = 0; i < 6; i++) {
        struct bench t;
        struct outcome o;
        open_bench_of(&t, sides[i % 3], 3, "encoder.patch=16", i < 3 ? "encoder.model=conv" : "encoder.model=vit");
        struct slot_workspace *w = new_worker(&t);
        compute(&t, w, 0, 0, &o);
        assert_true(isfinite(o.metrics[0]) && o.metrics[3] == B);
        const struct manifest *m = slot_manifest(t.shared);
        assert_true(vec_all_finite(o.grad, m->parameter_floats));
        const struct manifest_entry *first = &m->parameters[0]; /* what the pixels go through */
        assert_true(vec_sum_squares(o.grad + first->offset, first->count) > 0);
        assert_int_equal(first->count % 3, 0);
        outcome_fini(&o);
        slot_workspace_free(&w);
        close_bench(&t);
    }
}

/* prototype_lag = 0: parts A of several slots, then their parts B, on two workers. */
static void test_parts_may_be_interleaved(void **state)
{
    (void)state;
    struct bench t;
    open_bench(&t, NULL, NULL);
    struct slot_workspace *one = new_worker(&t), *other = new_worker(&t), *alone = new_worker(&t);
    struct slot_state *states[SLOTS];
    struct outcome split[SLOTS], whole;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        states[slot] = new_state(&t);
        part_a(&t, one, 2, slot, states[slot], &split[slot]);
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        part_b(&t, slot % 2 ? one : other, states[slot], &split[slot]);
        compute(&t, alone, 2, slot, &whole);
        assert_same(&t, &split[slot], &whole);
        outcome_fini(&split[slot]);
        outcome_fini(&whole);
        slot_state_free(&states[slot]);
    }
    slot_workspace_free(&one);
    slot_workspace_free(&other);
    slot_workspace_free(&alone);
    close_bench(&t);
}

/* Views that were drawn before the weights came, of that slot or in vain of another, change no byte. */
static void test_views_drawn_ahead(void **state)
{
    (void)state;
    struct bench t;
    open_bench(&t, NULL, NULL);
    struct slot_workspace *early = new_worker(&t), *alone = new_worker(&t);
    for (uint32_t slot = 1; slot < SLOTS; slot++) {
        struct outcome x, y;
        slot_draw_ahead(early, 2, slot / 2 * 2);
        assert_true(slot_drawn(early, 2, slot / 2 * 2) && !slot_drawn(early, 1, slot / 2 * 2));
        compute(&t, early, 2, slot, &x);
        assert_true(slot_drawn(early, 2, slot));
        compute(&t, alone, 2, slot, &y);
        assert_same(&t, &x, &y);
        assert_true(x.metrics[4] > 0);
        outcome_fini(&x);
        outcome_fini(&y);
    }
    slot_workspace_free(&early);
    slot_workspace_free(&alone);
    close_bench(&t);
}

static void test_what_a_slot_depends_on(void **state)
{
    (void)state;
    struct bench t;
    open_bench(&t, NULL, NULL);
    struct slot_workspace *w = new_worker(&t);
    struct outcome base, other;
    compute(&t, w, 0, 0, &base);
    compute(&t, w, 0, 1, &other);
    assert_differ(&t, &base, &other);
    outcome_fini(&other);
    compute(&t, w, 1, 0, &other);
    assert_differ(&t, &base, &other);
    outcome_fini(&other);
    make_mixture(&t, 1);
    compute(&t, w, 0, 0, &other);
    assert_differ(&t, &base, &other);
    outcome_fini(&other);
    outcome_fini(&base);
    slot_workspace_free(&w);
    close_bench(&t);
}

static void test_statistics(void **state)
{
    (void)state;
    struct bench t;
    struct outcome o;
    struct stats_rows rows;
    enum reason why = 0;
    open_bench(&t, NULL, NULL);
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, &o);
    stats_rows_init(&rows);
    assert_int_equal(stats_decode(&o.stats, K, D, COVARIANCE_DIAGONAL, 2 * B, &rows, &why, NULL), 0);
    double mass = 0;
    for (uint32_t i = 0; i < rows.R; i++)
        mass += rows.n[i];
    assert_true(fabs(mass - 2 * B) < 1e-4);
    assert_int_equal(rows.A, 2 * B);
    assert_int_equal(rows.V, 4); /* four for the one re-seed that K = 16 allows */
    stats_rows_fini(&rows);
    outcome_fini(&o);
    slot_workspace_free(&w);
    close_bench(&t);
}

/* Images of one colour have a projection of 0 before the first step; their statistics are of unit vectors all the
 * same. */
static void test_blank_images(void **state)
{
    (void)state;
    static const char *const sources[] = {"mixture.source=views", "mixture.source=images"};
    for (int i = 0; i < 2; i++) {
        struct bench t;
        struct outcome o;
        struct stats_rows rows;
        struct error e = {0};
        enum reason why = 0;
        open_bench(&t, sources[i], NULL);
        memset(t.train.images, 0, (size_t)IMAGES * SIDE * SIDE);
        struct slot_workspace *w = new_worker(&t);
        compute(&t, w, 0, 0, &o);
        if (stats_decode(&o.stats, K, D, COVARIANCE_DIAGONAL, 2 * B, &rows, &why, &e) != 0)
            fail_msg("%s", e.text);
        stats_rows_fini(&rows);
        outcome_fini(&o);
        slot_workspace_free(&w);
        close_bench(&t);
    }
}

/* Of the slot's embeddings, eight, the first S are in its statistics: all of step 0, four of slot 0 of step 1, no
 * more. */
static void test_first_steps_send_their_embeddings(void **state)
{
    (void)state;
    static const struct {
        uint64_t step;
        uint32_t slot, S;
    } cases[] = {{0, 0, 2 * B}, {0, 3, 2 * B}, {1, 0, 4}, {1, 1, 0}, {2, 0, 0}};
    struct bench t, plain;
    open_bench(&t, "mixture.init=kmeans++", "mixture.init_embeddings=36");
    open_bench(&plain, NULL, NULL);
    struct slot_workspace *w = new_worker(&t), *v = new_worker(&plain);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct outcome o, p;
        struct stats_rows rows;
        enum reason why = 0;
        compute(&t, w, cases[i].step, cases[i].slot, &o);
        compute(&plain, v, cases[i].step, cases[i].slot, &p);
        assert_memory_equal(o.grad, p.grad, slot_manifest(t.shared)->parameter_floats * sizeof(float));
        assert_int_equal(stats_decode(&o.stats, K, D, COVARIANCE_DIAGONAL, 2 * B, &rows, &why, NULL), 0);
        assert_int_equal(rows.S, cases[i].S);
        for (uint32_t d = 0; d < D && rows.S == 2 * B; d++) { /* they add up to what components received */
            double sum = 0;
            for (uint32_t r = 0; r < rows.R; r++)
                sum += rows.s1[r * D + d];
            for (uint32_t s = 0; s < rows.S; s++)
                sum -= rows.sample[s * D + d];
            assert_true(fabs(sum) < 1e-4);
        }
        stats_rows_fini(&rows);
        outcome_fini(&o);
        outcome_fini(&p);
    }
    slot_workspace_free(&w);
    slot_workspace_free(&v);
    close_bench(&t);
    close_bench(&plain);
}

/* Statistics of the first slot under keys, and its gradient. */
static void statistics_under(const char *const *keys, size_t n, struct stats_rows *rows, struct outcome *o)
{
    struct bench t = {0};
    enum reason why = 0;
    load_keys(&t.config, keys, n);
    open_loaded(&t, SIDE, 1);
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, o);
    stats_rows_init(rows);
    assert_int_equal(stats_decode(&o->stats, K, D, COVARIANCE_DIAGONAL, 2 * B, rows, &why, NULL), 0);
    slot_workspace_free(&w);
    close_bench(&t);
}

/* A mixture of views sees each image twice, one of images once. Where nothing is done to a view the sums are the double
 * of each other; where something is, they differ. The gradient has no part in it. */
static void check_sources(const char *const *augment, size_t n, bool alike)
{
    const char *keys[MORE_KEYS];
    struct stats_rows rows[2];
    struct outcome o[2];
    for (size_t i = 0; i < n; i++)
        keys[i] = augment[i];
    for (int i = 0; i < 2; i++) {
        keys[n] = i == 0 ? "mixture.source=views" : "mixture.source=images";
        statistics_under(keys, n + 1, &rows[i], &o[i]);
        assert_int_equal(rows[i].count, i == 0 ? 2 * B : B);
        assert_int_equal(rows[i].A, i == 0 ? 2 * B : B);
    }
    float largest = 0;
    for (uint32_t r = 0; r < rows[0].R && r < rows[1].R; r++) {
        assert_true(!alike || rows[0].index[r] == rows[1].index[r]);
        for (uint32_t d = 0; d < D; d++)
            largest = fmaxf(largest, fabsf(rows[0].s1[r * D + d] - 2 * rows[1].s1[r * D + d]));
    }
    assert_true(alike ? rows[0].R == rows[1].R && largest < 1e-4f : largest > 1e-3f);
    assert_memory_equal(o[0].metrics, o[1].metrics, 3 * sizeof(double));
    for (int i = 0; i < 2; i++) {
        stats_rows_fini(&rows[i]);
        outcome_fini(&o[i]);
    }
}

static void test_statistics_of_images(void **state)
{
    (void)state;
    static const char *const nothing[] = {"augment.area_min=1", "augment.aspect=1", "augment.flip=0",
                                          "augment.jitter=0"};
    check_sources(nothing, 4, true);
    check_sources(NULL, 0, false);
    check_purity("mixture.source=images", "mixture.reseed_choice=random");
}

static void test_statistics_may_be_skipped(void **state)
{
    (void)state;
    struct bench t;
    struct outcome with, without = {0};
    open_bench(&t, NULL, NULL);
    struct slot_workspace *w = new_worker(&t), *v = new_worker(&t);
    struct slot_state *st = new_state(&t);
    struct slot_weights x = weights(&t);
    compute(&t, w, 3, 1, &with);
    assert_int_equal(slot_part_a(v, 3, 1, &x, NULL, st, NULL), 0);
    part_b(&t, v, st, &without);
    assert_memory_equal(with.grad, without.grad, slot_manifest(t.shared)->parameter_floats * sizeof(float));
    outcome_fini(&with);
    outcome_fini(&without);
    slot_state_free(&st);
    slot_workspace_free(&w);
    slot_workspace_free(&v);
    close_bench(&t);
}

static const struct manifest_entry *entry(const struct manifest_entry *entries, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

static void test_wall(void **state)
{
    (void)state;
    struct bench t;
    open_bench(&t, "loss.objective=dino", NULL);
    const struct manifest *m = slot_manifest(t.shared);
    for (size_t i = 0; i < m->parameter_count; i++)
        assert_null(strstr(m->parameters[i].name, "prototype"));
    const struct manifest_entry *center = entry(m->buffers, m->buffer_count, "loss.center");
    assert_non_null(center);
    assert_true(center->count == K && fabs(center->momentum - 0.1) < 1e-12);
    close_bench(&t);
    open_bench(&t, NULL, NULL);
    m = slot_manifest(t.shared);
    assert_null(entry(m->buffers, m->buffer_count, "loss.center"));
    close_bench(&t);
}

static void test_joint_prototypes(void **state)
{
    (void)state;
    struct bench t;
    struct outcome o;
    open_bench(&t, "loss.prototypes=joint", "optimiser.prototype_lr=7");
    const struct manifest *m = slot_manifest(t.shared);
    const struct manifest_entry *p = entry(m->parameters, m->parameter_count, "prototypes");
    assert_non_null(p);
    assert_true(p->unit_rows && !p->decay && !p->clip && p->lr_scale == 7 && p->count == K * D);
    assert_int_equal(p->offset + p->count, m->parameter_floats);
    struct slot_workspace *w = new_worker(&t);
    compute(&t, w, 0, 0, &o);
    assert_int_equal(o.stats.tensor_count, 0);
    double largest = 0;
    for (size_t k = 0; k < K; k++) {
        const float *c = t.student + p->offset + k * D, *d = o.grad + p->offset + k * D;
        assert_true(fabs(vec_sum_squares(c, D) - 1) < 1e-5);
        assert_true(fabs(vec_dot(c, d, D)) < 1e-6); /* no gradient along the length */
        largest = fmax(largest, vec_sum_squares(d, D));
    }
    assert_true(largest > 0);
    outcome_fini(&o);
    slot_workspace_free(&w);
    close_bench(&t);
}

static void test_initial_is_a_function_of_the_seed(void **state)
{
    (void)state;
    struct bench a, b, c;
    open_bench(&a, "loss.prototypes=joint", "run.seed=4");
    open_bench(&b, "loss.prototypes=joint", "run.seed=4");
    open_bench(&c, "loss.prototypes=joint", "run.seed=5");
    size_t size = slot_manifest(a.shared)->parameter_floats * sizeof(float);
    assert_memory_equal(a.student, b.student, size);
    assert_memory_not_equal(a.student, c.student, size);
    assert_memory_not_equal(a.student + size / 4 - K * D, c.student + size / 4 - K * D, K * D * sizeof(float));
    close_bench(&a);
    close_bench(&b);
    close_bench(&c);
}

static void test_too_few_images(void **state)
{
    (void)state;
    struct run_config c;
    struct slot_shared *shared;
    struct error e = {0};
    uint8_t pixels[4] = {0};
    struct dataset train = {.count = 4, .height = 1, .width = 1, .channels = 1, .images = pixels};
    load_config(&c, NULL, NULL);
    assert_int_equal(slot_shared_new(&c, &train, &shared, &e), ERR_CONFIG);
    assert_null(shared);
    assert_non_null(strstr(e.text, "run.slot_size"));
}

/* Three means for grey images, or two deviations for colour. */
static void test_scale_that_does_not_fit(void **state)
{
    (void)state;
    static const char *const keys[] = {"data.mean=0.1,0.2,0.3", "data.deviation=0.1,0.2"};
    for (size_t i = 0; i < 2; i++) {
        struct run_config c;
        struct slot_shared *shared;
        struct error e = {0};
        uint8_t pixels[IMAGES * 3] = {0};
        struct dataset train = {.count = IMAGES, .height = 1, .width = 1, .channels = i == 0 ? 1 : 3, .images = pixels};
        load_config(&c, keys[i], NULL);
        assert_int_equal(slot_shared_new(&c, &train, &shared, &e), ERR_CONFIG);
        assert_null(shared);
        assert_non_null(strstr(e.text, i == 0 ? "data.mean has 3 values" : "data.deviation has 2 values"));
    }
}

int main(void)
{
    compute_thread_init();
    blas_single_threaded();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_few_images),
        cmocka_unit_test(test_scale_that_does_not_fit),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_purity_carp),
        cmocka_unit_test(test_purity_dino),
        cmocka_unit_test(test_purity_swav),
        cmocka_unit_test(test_purity_joint),
        cmocka_unit_test(test_purity_with_terms),
        cmocka_unit_test(test_feature_rate),
        cmocka_unit_test(test_purity_with_local_views),
        cmocka_unit_test(test_local_views_count),
        cmocka_unit_test(test_purity_of_residual_encoders),
        cmocka_unit_test(test_statistics_are_the_teachers),
        cmocka_unit_test(test_statistics_of_images_as_they_are),
        cmocka_unit_test(test_colour_of_several_sizes),
        cmocka_unit_test(test_views_drawn_ahead),
        cmocka_unit_test(test_parts_may_be_interleaved),
        cmocka_unit_test(test_what_a_slot_depends_on),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_blank_images),
        cmocka_unit_test(test_first_steps_send_their_embeddings),
        cmocka_unit_test(test_statistics_of_images),
        cmocka_unit_test(test_statistics_may_be_skipped),
        cmocka_unit_test(test_wall),
        cmocka_unit_test(test_joint_prototypes),
        cmocka_unit_test(test_initial_is_a_function_of_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
