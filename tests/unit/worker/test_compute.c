/* The compute threads: every part is reported once, on the loop's thread, with the bytes that one thread alone
 * gives; what is still queued at the end is dropped without a report. */
#include "tests/unit/worker/slot_rig.h"

#include "common/blas.h"
#include "worker/compute.h"

enum { JOBS = 6, REPORTS_MAX = 2 * JOBS };

struct place {
    struct bench bench;
    uv_loop_t loop;
    struct compute *compute;
    struct slot_job jobs[JOBS];
    struct msg stats[JOBS];
    struct buf *student, *teacher, *buffers;
    uv_thread_t thread; /* of the loop */
    struct report {
        uint32_t index;
        unsigned part;
    } reports[REPORTS_MAX];
    size_t count, wanted; /* the loop is stopped at so many reports */
};

static void on_part(void *arg, struct slot_job *job, unsigned part)
{
    struct place *p = arg;
    uv_thread_t self = uv_thread_self();
    assert_true(uv_thread_equal(&self, &p->thread));
    assert_true(p->count < REPORTS_MAX);
    p->reports[p->count++] = (struct report){job->index, part};
    if (p->count == p->wanted)
        uv_stop(&p->loop);
}

static struct buf *copy_of(const float *values, uint64_t n)
{
    struct buf *b = buf_new(n * sizeof(float));
    assert_non_null(b);
    memcpy(b->data, values, n * sizeof(float));
    return b;
}

static void open_place(struct place *p, uint32_t threads)
{
    struct error e = {0};
    memset(p, 0, sizeof *p);
    open_bench(&p->bench, NULL, NULL);
    const struct manifest *m = slot_manifest(p->bench.shared);
    p->student = copy_of(p->bench.student, m->parameter_floats);
    p->teacher = copy_of(p->bench.teacher, m->parameter_floats);
    p->buffers = copy_of(p->bench.buffers, m->buffer_floats);
    p->thread = uv_thread_self();
    assert_int_equal(uv_loop_init(&p->loop), 0);
    struct compute_options o = {
        .shared = p->bench.shared, .threads = threads, .jobs_max = JOBS, .on_part = on_part, .arg = p};
    assert_int_equal(compute_new(&p->loop, &o, &p->compute, &e), 0);
}

static struct slot_job *job_of(struct place *p, uint32_t index, uint32_t slot, unsigned parts)
{
    struct slot_job *job = &p->jobs[index];
    *job = (struct slot_job){.index = index,
                             .step = 3,
                             .slot = slot,
                             .parts = parts,
                             .student = p->student,
                             .teacher = p->teacher,
                             .buffers = p->buffers,
                             .mixture_a = p->bench.mixture,
                             .mixture_b = p->bench.mixture,
                             .stats = &p->stats[index]};
    msg_init(job->stats, MSG_STATS, "r");
    return job;
}

/* Until so many parts in all have been reported. */
static void run_until(struct place *p, size_t reports)
{
    p->wanted = reports;
    if (p->count < reports)
        uv_run(&p->loop, UV_RUN_DEFAULT);
    assert_int_equal(p->count, reports);
}

static void close_place(struct place *p)
{
    compute_close(&p->compute);
    assert_null(p->compute);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&p->loop), 0); /* no handle is left open */
    for (uint32_t i = 0; i < JOBS; i++) {
        msg_fini(&p->stats[i]);
        buf_unref(&p->jobs[i].gradient);
        buf_unref(&p->jobs[i].new_buffers);
        buf_unref(&p->jobs[i].metrics);
    }
    buf_unref(&p->student);
    buf_unref(&p->teacher);
    buf_unref(&p->buffers);
    close_bench(&p->bench);
}

/* Where a part was reported; fails unless it was exactly once. */
static size_t report_of(const struct place *p, uint32_t index, unsigned part)
{
    size_t at = 0, found = 0;
    for (size_t i = 0; i < p->count; i++)
        if (p->reports[i].index == index && p->reports[i].part == part) {
            at = i;
            found++;
        }
    assert_int_equal(found, 1);
    return at;
}

static void assert_computed(const struct place *p, struct slot_workspace *reference, const struct slot_job *job)
{
    const struct manifest *m = slot_manifest(p->bench.shared);
    struct outcome alone, here = {.stats = p->stats[job->index],
                                  .grad = (float *)(void *)job->gradient->data,
                                  .buffers = (float *)(void *)job->new_buffers->data};
    assert_int_equal(job->rc_a, 0);
    assert_int_equal(job->rc_b, 0);
    assert_int_equal(job->metric_count, SLOT_METRICS);
    assert_int_equal(job->gradient->size, m->parameter_floats * sizeof(float));
    assert_int_equal(job->new_buffers->size, m->buffer_floats * sizeof(float));
    memcpy(here.metrics, job->metrics->data, sizeof here.metrics);
    compute(&p->bench, reference, job->step, job->slot, &alone);
    assert_same(&p->bench, &alone, &here);
    outcome_fini(&alone);
}

static void check_threads(uint32_t threads)
{
    struct place p;
    open_place(&p, threads);
    struct slot_workspace *reference = new_worker(&p.bench);
    for (uint32_t i = 0; i < JOBS; i++)
        compute_submit(p.compute, job_of(&p, i, i % SLOTS, SLOT_PART_A | SLOT_PART_B));
    run_until(&p, (size_t)2 * JOBS);
    for (uint32_t i = 0; i < JOBS; i++) {
        assert_true(report_of(&p, i, SLOT_PART_A) < report_of(&p, i, SLOT_PART_B));
        assert_computed(&p, reference, &p.jobs[i]);
    }
    slot_workspace_free(&reference);
    close_place(&p);
}

static void test_one_thread(void **state)
{
    (void)state;
    check_threads(1);
}

static void test_three_threads(void **state)
{
    (void)state;
    check_threads(3);
}

/* prototype_lag = 0: B comes much later, on whichever thread, and finds what A left under the job's index. */
static void test_parts_apart(void **state)
{
    struct place p;
    (void)state;
    open_place(&p, 2);
    struct slot_workspace *reference = new_worker(&p.bench);
    for (uint32_t i = 0; i < 3; i++)
        compute_submit(p.compute, job_of(&p, i, i, SLOT_PART_A));
    run_until(&p, 3);
    for (uint32_t i = 0; i < 3; i++) {
        report_of(&p, i, SLOT_PART_A);
        assert_null(p.jobs[i].gradient);
    }
    for (uint32_t i = 3; i-- > 0;) {
        p.jobs[i].parts = SLOT_PART_B;
        compute_submit(p.compute, &p.jobs[i]);
    }
    run_until(&p, 6);
    for (uint32_t i = 0; i < 3; i++) {
        report_of(&p, i, SLOT_PART_B);
        assert_computed(&p, reference, &p.jobs[i]);
    }
    slot_workspace_free(&reference);
    close_place(&p);
}

/* One try: are the views of a slot drawn within the time? If so, blank images come too late. */
static bool drawn_within(struct place *p, uint32_t try, struct slot_workspace *reference)
{
    const struct manifest *m = slot_manifest(p->bench.shared);
    size_t bytes = (size_t)IMAGES * SIDE * SIDE;
    uint8_t *images = p->bench.train.images, *kept = malloc(bytes);
    struct slot_job *job = job_of(p, try, 2, SLOT_PART_A | SLOT_PART_B);
    struct outcome alone;
    job->step = 3 + try;
    compute(&p->bench, reference, job->step, 2, &alone);
    compute_expect(p->compute, job->step, 2);
    compute_expect(p->compute, job->step, 2);
    uv_sleep(10U << try);
    memcpy(kept, images, bytes);
    memset(images, 0, bytes);
    compute_submit(p->compute, job);
    run_until(p, (size_t)2 * (try + 1));
    memcpy(images, kept, bytes);
    bool same = memcmp(job->gradient->data, alone.grad, m->parameter_floats * sizeof(float)) == 0;
    outcome_fini(&alone);
    free(kept);
    return same;
}

/* A thread without a job draws the views of the one that is expected. */
static void test_expected_views(void **state)
{
    struct place p;
    uint32_t try = 0;
    (void)state;
    open_place(&p, 1);
    struct slot_workspace *reference = new_worker(&p.bench);
    while (try < JOBS && !drawn_within(&p, try, reference))
        try++;
    assert_true(try < JOBS);
    slot_workspace_free(&reference);
    close_place(&p);
}

/* Nothing is reported after close, and nothing is lost by it: queued jobs keep their inputs, threads end. */
static void test_close_drops_what_waits(void **state)
{
    struct place p;
    (void)state;
    open_place(&p, 1);
    for (uint32_t i = 0; i < JOBS; i++)
        compute_submit(p.compute, job_of(&p, i, i % SLOTS, SLOT_PART_A | SLOT_PART_B));
    close_place(&p);
    assert_int_equal(p.count, 0); /* the loop did not run before close */
}

static void test_close_of_idle_threads_and_of_none(void **state)
{
    struct place p;
    struct compute *none = NULL;
    (void)state;
    open_place(&p, 4);
    close_place(&p);
    compute_close(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread),
        cmocka_unit_test(test_three_threads),
        cmocka_unit_test(test_parts_apart),
        cmocka_unit_test(test_expected_views),
        cmocka_unit_test(test_close_drops_what_waits),
        cmocka_unit_test(test_close_of_idle_threads_and_of_none),
    };
    compute_thread_init();
    blas_single_threaded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
