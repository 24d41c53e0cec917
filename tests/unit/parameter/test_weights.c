/* The update against a plain double-precision reference, over several steps, for each optimiser and each flag that an
 * entry of the manifest can have. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "common/error.h"
#include "common/rng.h"
#include "server/parameter/weights.h"

enum { MATRIX = 67 * 71, BIAS = 5, ROWS = 3, WIDTH = 2500, PROTOTYPES = ROWS * WIDTH, P = MATRIX + BIAS + PROTOTYPES };
enum { Q = 9, STEPS = 6, SLOTS = 3 };

static struct manifest_entry entry(const char *name, uint64_t rows, uint64_t columns)
{
    struct manifest_entry e = {.rank = 2, .shape = {rows, columns}, .clip = true, .lr_scale = 1.0};
    snprintf(e.name, sizeof e.name, "%s", name);
    return e;
}

/* A decaying matrix longer than a block, a small bias, and rows of unit length wider than a block, with own rate. */
static void make_manifest(struct manifest *m)
{
    manifest_init(m);
    struct manifest_entry matrix = entry("matrix", 67, 71), bias = entry("bias", 1, BIAS);
    struct manifest_entry prototypes = entry("prototypes", ROWS, WIDTH), running = entry("running", 1, Q);
    matrix.decay = true;
    prototypes.clip = false;
    prototypes.unit_rows = true;
    prototypes.lr_scale = 20.0;
    running.momentum = 0.1;
    assert_int_equal(manifest_add_parameter(m, &matrix), 0);
    assert_int_equal(manifest_add_parameter(m, &bias), 0);
    assert_int_equal(manifest_add_parameter(m, &prototypes), 0);
    assert_int_equal(manifest_add_buffer(m, &running), 0);
    assert_int_equal(m->parameter_floats, P);
}

static void fill(float *x, size_t n, uint64_t name, double scale)
{
    struct rng r;
    rng_open(&r, 5, RNG_INIT, name, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * rng_normal(&r));
}

static struct buf *random_vector(size_t n, uint64_t name)
{
    struct buf *b = buf_new(n * sizeof(float));
    assert_non_null(b);
    fill((float *)(void *)b->data, n, name, 0.5);
    return b;
}

/* ---- the reference: everything in double, one formula after the other ---- */

struct reference {
    double student[P], teacher[P], m[P], v[P], buffers[Q];
};
static struct reference ref;
static float gradient[P], statistics[Q];

static void reference_start(const struct weights *w)
{
    memset(&ref, 0, sizeof ref);
    for (size_t i = 0; i < P; i++)
        ref.student[i] = ref.teacher[i] = ((const float *)(const void *)w->vectors.student->data)[i];
    for (size_t i = 0; i < Q; i++)
        ref.buffers[i] = ((const float *)(const void *)w->vectors.buffers->data)[i];
}

static double reference_norm(const struct manifest *m)
{
    double squares = 0.0;
    for (size_t k = 0; k < m->parameter_count; k++)
        for (size_t i = 0; m->parameters[k].clip && i < m->parameters[k].count; i++)
            squares += pow(gradient[m->parameters[k].offset + i] / (double)SLOTS, 2);
    return sqrt(squares);
}

static void reference_element(const struct optimiser *o, const struct manifest_entry *e, size_t i, double factor,
                              const struct weights_step *s)
{
    double g = gradient[i] / (double)SLOTS * (e->clip ? factor : 1.0), a = s->lr * e->lr_scale, n = (double)s->step + 1;
    double p = ref.student[i] - (e->decay ? a * o->decay * ref.student[i] : 0.0);
    if (o->name == OPTIMISER_ADAMW) {
        ref.m[i] = o->beta1 * ref.m[i] + (1 - o->beta1) * g;
        ref.v[i] = o->beta2 * ref.v[i] + (1 - o->beta2) * g * g;
        double m_hat = ref.m[i] / (1 - pow(o->beta1, n)), v_hat = ref.v[i] / (1 - pow(o->beta2, n));
        ref.student[i] = p - a * m_hat / (sqrt(v_hat) + o->epsilon);
    } else {
        ref.m[i] = o->momentum * ref.m[i] + g;
        ref.student[i] = p - a * ref.m[i];
    }
}

static void reference_unit_rows(const struct manifest_entry *e)
{
    for (size_t r = 0; e->unit_rows && r < ROWS; r++) {
        double *row = ref.student + e->offset + r * WIDTH, squares = 0.0;
        for (size_t d = 0; d < WIDTH; d++)
            squares += row[d] * row[d];
        for (size_t d = 0; d < WIDTH; d++)
            row[d] /= sqrt(squares);
    }
}

static double reference_step(const struct weights *w, const struct weights_step *s)
{
    double norm = reference_norm(&w->manifest), clip = w->optimiser.clip;
    double factor = clip > 0 && norm > clip ? clip / norm : 1.0;
    for (size_t k = 0; k < w->manifest.parameter_count; k++) {
        const struct manifest_entry *e = &w->manifest.parameters[k];
        for (size_t i = e->offset; i < e->offset + e->count; i++)
            reference_element(&w->optimiser, e, i, factor, s);
        reference_unit_rows(e);
    }
    for (size_t i = 0; i < P; i++)
        ref.teacher[i] = s->ema * ref.teacher[i] + (1 - s->ema) * ref.student[i];
    for (size_t i = 0; i < Q; i++)
        ref.buffers[i] = 0.9 * ref.buffers[i] + 0.1 * statistics[i] / SLOTS;
    return norm;
}

/* Floats carry about 1e-7 of each operand; a few steps add a handful of such errors, at the scale of the values. */
static void assert_close(const struct buf *got, const double *expected, size_t n, const char *what)
{
    const float *x = (const float *)(const void *)got->data;
    for (size_t i = 0; i < n; i++)
        if (!(fabs(x[i] - expected[i]) <= 3e-6 * (1.0 + fabs(expected[i]))))
            fail_msg("%s[%zu] = %.9g, expected %.9g", what, i, x[i], expected[i]);
}

static void make_weights(struct weights *w, struct optimiser o)
{
    struct manifest m;
    make_manifest(&m);
    struct weight_vectors v = {.student = random_vector(P, 1), .buffers = random_vector(Q, 2)};
    assert_int_equal(weights_init(w, &m, o, &v), 0);
    assert_null(v.student);
}

static struct weights_step make_step(uint64_t t)
{
    fill(gradient, P, 100 + t, 0.3);
    fill(statistics, Q, 200 + t, 1.0);
    return (struct weights_step){.gradient = gradient,
                                 .buffers = statistics,
                                 .slots = SLOTS,
                                 .step = t,
                                 .lr = 1e-2 / (double)(t + 1),
                                 .ema = 0.9 + 0.01 * (double)t};
}

static void run_against_reference(struct optimiser o)
{
    struct weights w;
    make_weights(&w, o);
    reference_start(&w);
    for (uint64_t t = 0; t < STEPS; t++) {
        struct weights_step s = make_step(t);
        double norm = 0.0, expected = reference_step(&w, &s);
        assert_int_equal(weights_update(&w, &s, &norm), 0);
        assert_true(fabs(norm - expected) <= 1e-6 * expected);
        assert_close(w.vectors.student, ref.student, P, "student");
        assert_close(w.vectors.teacher, ref.teacher, P, "teacher");
        assert_close(w.vectors.buffers, ref.buffers, Q, "buffers");
        assert_close(w.vectors.moments[0], ref.m, P, "first moment");
        if (o.name == OPTIMISER_ADAMW)
            assert_close(w.vectors.moments[1], ref.v, P, "second moment");
        else
            assert_null(w.vectors.moments[1]);
    }
    weights_fini(&w);
}

static const struct optimiser adamw = {
    .name = OPTIMISER_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 0.05, .clip = 3.0};
static const struct optimiser sgd = {.name = OPTIMISER_SGD, .momentum = 0.9, .decay = 0.05, .clip = 3.0};

static void test_adamw_follows_the_reference(void **state)
{
    (void)state;
    run_against_reference(adamw);
}

static void test_adamw_follows_the_reference_without_clipping(void **state)
{
    (void)state;
    struct optimiser o = adamw;
    o.clip = 0.0;
    run_against_reference(o);
}

static void test_sgd_follows_the_reference(void **state)
{
    (void)state;
    run_against_reference(sgd);
}

static void test_sgd_follows_the_reference_under_a_high_clip(void **state)
{
    (void)state;
    struct optimiser o = sgd;
    o.clip = 1e9;
    run_against_reference(o);
}

static void test_clipping_caps_the_norm_and_spares_the_small(void **state)
{
    (void)state;
    struct optimiser o = {.clip = 3.0};
    assert_true(optimiser_clip_factor(&o, 0.0) == 1.0);
    assert_true(optimiser_clip_factor(&o, 3.0) == 1.0);
    assert_true(optimiser_clip_factor(&o, 6.0) == 0.5);
    o.clip = 0.0;
    assert_true(optimiser_clip_factor(&o, 1e30) == 1.0);
}

static void test_a_fresh_teacher_is_the_student(void **state)
{
    (void)state;
    struct weights w;
    make_weights(&w, adamw);
    assert_ptr_equal(w.vectors.student, w.vectors.teacher);
    weights_fini(&w);
}

static void test_an_overflowed_sum_changes_nothing(void **state)
{
    (void)state;
    static const size_t places[] = {0, MATRIX, P - 1}; /* the last one does not take part in clipping */
    for (size_t i = 0; i < 3; i++) {
        struct weights w;
        make_weights(&w, adamw);
        struct weights_step s = make_step(0);
        gradient[places[i]] = INFINITY;
        struct weight_vectors before = weight_vectors_ref(&w.vectors);
        double norm;
        assert_int_equal(weights_update(&w, &s, &norm), ERR_RANGE);
        assert_memory_equal(&before, &w.vectors, sizeof before);
        weight_vectors_fini(&before);
        weights_fini(&w);
    }
}

static void test_vectors_that_others_hold_are_not_written(void **state)
{
    (void)state;
    struct weights w;
    double norm;
    make_weights(&w, adamw);
    struct weights_step s = make_step(0);
    assert_int_equal(weights_update(&w, &s, &norm), 0);
    struct weight_vectors held = weight_vectors_ref(&w.vectors);
    static float copy[4][P];
    const struct buf *watched[4] = {held.student, held.teacher, held.moments[0], held.moments[1]};
    for (int i = 0; i < 4; i++)
        memcpy(copy[i], watched[i]->data, sizeof copy[i]);
    s = make_step(1);
    assert_int_equal(weights_update(&w, &s, &norm), 0);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(copy[i], watched[i]->data, sizeof copy[i]);
    assert_memory_not_equal(copy[0], w.vectors.student->data, sizeof copy[0]);
    weight_vectors_fini(&held);
    weights_fini(&w);
}

static void test_holding_the_moments_changes_no_byte_of_the_result(void **state)
{
    (void)state;
    struct weights shared, alone;
    double norm;
    make_weights(&shared, adamw);
    make_weights(&alone, adamw);
    for (uint64_t t = 0; t < 3; t++) {
        struct weights_step s = make_step(t);
        struct weight_vectors held = weight_vectors_ref(&shared.vectors);
        assert_int_equal(weights_update(&shared, &s, &norm), 0);
        assert_int_equal(weights_update(&alone, &s, &norm), 0);
        weight_vectors_fini(&held);
    }
    assert_memory_equal(shared.vectors.student->data, alone.vectors.student->data, P * sizeof(float));
    assert_memory_equal(shared.vectors.moments[1]->data, alone.vectors.moments[1]->data, P * sizeof(float));
    weights_fini(&shared);
    weights_fini(&alone);
}

/* To the bit, the teacher too, although a checkpoint holds the vectors that the update may then not write. */
static void test_a_rate_of_zero_freezes(void **state)
{
    struct weights w;
    double norm;
    (void)state;
    make_weights(&w, adamw);
    w.manifest.parameters[0].lr_scale = 0;
    w.manifest.parameters[0].clip = false;
    struct weight_vectors before = weight_vectors_ref(&w.vectors);
    for (uint64_t t = 0; t < STEPS; t++) {
        struct weights_step s = make_step(t);
        assert_int_equal(weights_update(&w, &s, &norm), 0);
    }
    assert_memory_equal(w.vectors.student->data, before.student->data, MATRIX * sizeof(float));
    assert_memory_equal(w.vectors.teacher->data, before.student->data, MATRIX * sizeof(float));
    assert_memory_equal(w.vectors.moments[0]->data, before.moments[0]->data, MATRIX * sizeof(float));
    assert_memory_not_equal((float *)(void *)w.vectors.student->data + MATRIX,
                            (float *)(void *)before.student->data + MATRIX, BIAS * sizeof(float));
    weight_vectors_fini(&before);
    weights_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw_follows_the_reference),
        cmocka_unit_test(test_adamw_follows_the_reference_without_clipping),
        cmocka_unit_test(test_sgd_follows_the_reference),
        cmocka_unit_test(test_a_rate_of_zero_freezes),
        cmocka_unit_test(test_sgd_follows_the_reference_under_a_high_clip),
        cmocka_unit_test(test_clipping_caps_the_norm_and_spares_the_small),
        cmocka_unit_test(test_a_fresh_teacher_is_the_student),
        cmocka_unit_test(test_an_overflowed_sum_changes_nothing),
        cmocka_unit_test(test_vectors_that_others_hold_are_not_written),
        cmocka_unit_test(test_holding_the_moments_changes_no_byte_of_the_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
