/* When a server may be told to go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/shell/pairing.h"

enum { PROOF = PAIRING_PROOF_STEPS };

static void test_before_enough_steps_together_always(void **state)
{
    (void)state;
    struct pairing p;
    pairing_begin(&p, 3, 40);
    assert_true(pairing_may_go_back(&p, 3));
    assert_false(pairing_due(&p, 40 + PROOF - 1));
    assert_true(pairing_due(&p, 40 + PROOF));
}

static void test_afterwards_only_when_the_other_was_restarted(void **state)
{
    (void)state;
    struct pairing p;
    pairing_begin(&p, 3, 40);
    pairing_note(&p, 3, 40 + PROOF);
    assert_false(pairing_due(&p, 40 + PROOF));
    assert_false(pairing_may_go_back(&p, 3));
    assert_true(pairing_may_go_back(&p, 4));
    pairing_begin(&p, 4, 30); /* went back */
    assert_true(pairing_may_go_back(&p, 4));
}

/* Started together: the other's first generation is seen late. Or it was restarted without a loss. */
static void test_a_newer_generation_has_to_prove_itself(void **state)
{
    (void)state;
    struct pairing p;
    pairing_begin(&p, 0, 0);
    pairing_note(&p, 1, PROOF);
    assert_true(pairing_may_go_back(&p, 1)); /* read just now: who knows what it stands behind */
    pairing_note(&p, 1, 2 * PROOF);
    assert_false(pairing_may_go_back(&p, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_enough_steps_together_always),
        cmocka_unit_test(test_afterwards_only_when_the_other_was_restarted),
        cmocka_unit_test(test_a_newer_generation_has_to_prove_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
