/* What the policy's adapter adds to the core: a process resumes only what its own arithmetic can go on with. */
#include "server/parameter/core_incarnation.h"
#include "tests/unit/parameter/core_rig.h"

/* The state after two steps, written by a server with that fingerprint; 0: by one that did not note it. */
struct checkpoint {
    uint64_t server_numerics;
};

static int find(void *arg, uint64_t step_max, struct encoder_state *out, struct error *e)
{
    const struct checkpoint *c = arg;
    struct rig r = rig_new(NULL);
    (void)step_max, (void)e;
    parameter_core_set_numerics(r.core, c->server_numerics);
    rig_init(&r);
    rig_run_to(&r, 2);
    assert_true(parameter_core_take_checkpoint(r.core, out));
    rig_free(&r);
    return 0;
}

/* 0 or the error of a process with fingerprint `own` that resumes; *kept: what its own checkpoints will say. */
static int start(uint64_t before, uint64_t own, const char *assignment, struct provenance *kept, struct error *e)
{
    struct rig r = {0};
    struct checkpoint c = {before};
    rig_configure(&r, assignment, NULL);
    struct parameter_incarnation p = {.config = &r.config, .out = &r.out, .numerics = own, .find = find, .arg = &c};
    int rc = parameter_incarnation_core.create(&p, 9, true, e);
    if (rc == 0) {
        struct encoder_state s;
        assert_int_equal(parameter_core_step(p.core), 2);
        assert_int_equal(parameter_core_stop(p.core, 1000, &r.out), 0);
        assert_true(parameter_core_take_checkpoint(p.core, &s));
        *kept = s.provenance;
        encoder_state_fini(&s);
    }
    parameter_core_free(&p.core);
    outbox_fini(&r.out);
    return rc;
}

static void test_a_server_that_rounds_otherwise_does_not_go_on(void **state)
{
    (void)state;
    struct provenance kept;
    struct error e = {0};
    assert_int_equal(start(5, 5, NULL, &kept, &e), 0);
    assert_true(kept.server_numerics == 5 && kept.server_other == 0);
    assert_int_equal(start(5, 6, NULL, &kept, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "run.numerics = any"));
    assert_int_equal(start(5, 6, "run.numerics=any", &kept, &e), 0);
    assert_true(kept.server_numerics == 6 && kept.server_other == 5);
    assert_int_equal(start(0, 6, NULL, &kept, &e), 0); /* a checkpoint that does not say */
    assert_true(kept.server_numerics == 6 && kept.server_other == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_server_that_rounds_otherwise_does_not_go_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
