/* When a server believes that it must go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/shell/pairing.h"

enum { PROOF = PAIRING_PROOF_STEPS, PATIENCE = PAIRING_PATIENCE_MS };

/* A pair that began at step 40 with generation 3 of the other server, and has made `steps` steps of 10 ms since. */
static struct pairing pair_after(uint64_t steps)
{
    struct pairing p;
    pairing_init(&p);
    pairing_begin(&p, 3, 40);
    for (uint64_t i = 0; i <= steps; i++) {
        pairing_moved(&p, 40 + i, 1000 + 10 * i);
        if (pairing_due(&p, 40 + i))
            pairing_note(&p, 3, 40 + i);
    }
    return p;
}

static void test_before_enough_steps_together_a_few_times(void **state)
{
    struct pairing p = pair_after(0);
    (void)state;
    for (int i = 0; i < PAIRING_TRUST; i++) {
        assert_int_equal(pairing_judge(&p, 3, 2000), PAIRING_GO_BACK);
        pairing_begin(&p, 3, 40);
    }
    assert_int_equal(pairing_judge(&p, 3, 2000), PAIRING_REFUSE);
    assert_int_equal(pairing_judge(&p, 4, 2000), PAIRING_GO_BACK);
}

static void test_trust_comes_back_with_steps(void **state)
{
    struct pairing p = pair_after(0);
    (void)state;
    for (int i = 0; i < PAIRING_TRUST; i++)
        pairing_judge(&p, 3, 2000);
    pairing_note(&p, 3, 40 + PROOF);
    pairing_begin(&p, 3, 40);
    assert_int_equal(pairing_judge(&p, 3, 2000), PAIRING_GO_BACK);
}

static void test_afterwards_only_when_the_other_restarted(void **state)
{
    struct pairing p = pair_after(PROOF);
    (void)state;
    assert_false(pairing_due(&p, 40 + PROOF));
    assert_int_equal(pairing_judge(&p, 3, 2000), PAIRING_REFUSE);
    assert_int_equal(pairing_judge(&p, 4, 2000), PAIRING_GO_BACK);
    pairing_begin(&p, 4, 30); /* it went back */
    assert_int_equal(pairing_judge(&p, 4, 2000), PAIRING_GO_BACK);
}

/* Started together: the other's first generation is seen late. Or it was restarted without a loss. */
static void test_a_newer_generation_has_to_prove_itself(void **state)
{
    struct pairing p;
    (void)state;
    pairing_init(&p);
    pairing_begin(&p, 0, 0);
    pairing_note(&p, 1, PROOF);
    assert_int_equal(pairing_judge(&p, 1, 0), PAIRING_GO_BACK); /* read just now: who knows what it stands behind */
    pairing_note(&p, 1, 2 * PROOF);
    assert_int_equal(pairing_judge(&p, 1, 0), PAIRING_REFUSE);
}

static void test_a_pair_that_is_stuck_goes_back_in_the_end(void **state)
{
    struct pairing p = pair_after(PROOF);
    (void)state;
    assert_int_equal(pairing_judge(&p, 3, 10000), PAIRING_REFUSE);
    assert_int_equal(pairing_judge(&p, 3, 10000 + PATIENCE - 1), PAIRING_REFUSE);
    assert_int_equal(pairing_judge(&p, 3, 10000 + PATIENCE), PAIRING_GO_NEWEST);
    assert_int_equal(pairing_judge(&p, 3, 50000), PAIRING_REFUSE);
    assert_int_equal(pairing_judge(&p, 3, 50000 + PATIENCE), PAIRING_REFUSE); /* twice as long from now on */
    assert_int_equal(pairing_judge(&p, 3, 50000 + 2 * PATIENCE), PAIRING_GO_NEWEST);
}

static void test_a_step_in_between_shows_that_it_is_not_stuck(void **state)
{
    struct pairing p = pair_after(PROOF);
    (void)state;
    assert_int_equal(pairing_judge(&p, 3, 10000), PAIRING_REFUSE);
    pairing_moved(&p, 41 + PROOF, 10000 + PATIENCE - 1);
    assert_int_equal(pairing_judge(&p, 3, 10000 + PATIENCE), PAIRING_REFUSE);
}

static void test_patience_grows_with_the_steps(void **state)
{
    struct pairing p = pair_after(PROOF);
    uint64_t slow = 60000, now = 1000 + 10 * PROOF + slow;
    (void)state;
    pairing_moved(&p, 41 + PROOF, now);
    assert_int_equal(pairing_judge(&p, 3, now), PAIRING_REFUSE);
    assert_int_equal(pairing_judge(&p, 3, now + 4 * slow - 1), PAIRING_REFUSE);
    assert_int_equal(pairing_judge(&p, 3, now + 4 * slow), PAIRING_GO_NEWEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_enough_steps_together_a_few_times),
        cmocka_unit_test(test_trust_comes_back_with_steps),
        cmocka_unit_test(test_afterwards_only_when_the_other_restarted),
        cmocka_unit_test(test_a_newer_generation_has_to_prove_itself),
        cmocka_unit_test(test_a_pair_that_is_stuck_goes_back_in_the_end),
        cmocka_unit_test(test_a_step_in_between_shows_that_it_is_not_stuck),
        cmocka_unit_test(test_patience_grows_with_the_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
