/* A message that is held until it is acknowledged: when it is due, what each copy shares, who releases what. */
#include "worker/contribution.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define START UINT64_C(5000000)

static struct contribution made(void)
{
    struct contribution c = {0};
    uint64_t n = 2;
    msg_init(&c.msg, MSG_STATS, "run");
    struct buf *values = buf_new(n * sizeof(float));
    assert_non_null(values);
    assert_int_equal(msg_add_tensor(&c.msg, "n", DTYPE_F32, 1, &n, values), 0);
    contribution_hold(&c);
    return c;
}

static void test_nothing_held_is_never_due(void **state)
{
    struct contribution c = {0};
    (void)state;
    assert_false(contribution_due(&c, START));
    contribution_hurry(&c);
    assert_false(contribution_due(&c, START));
    contribution_drop(&c); /* and there is nothing to release */
}

static void test_due_at_first_after_a_while_and_when_hurried(void **state)
{
    struct contribution c = made();
    struct msg copy;
    (void)state;
    assert_true(contribution_due(&c, START));
    contribution_copy(&c, 1, START, &copy);
    msg_fini(&copy);
    assert_false(contribution_due(&c, START + CONTRIBUTION_RESEND_US - 1));
    assert_true(contribution_due(&c, START + CONTRIBUTION_RESEND_US));
    contribution_hurry(&c);
    assert_true(contribution_due(&c, START + 1));
    assert_true(c.sent);
    contribution_drop(&c);
    assert_false(c.held || c.sent);
}

static void test_a_copy_shares_the_tensors_and_names_its_own_generation(void **state)
{
    struct contribution c = made();
    struct msg first, second;
    (void)state;
    c.msg.generation = 3;
    assert_false(c.sent);
    contribution_copy(&c, 7, START, &first);
    contribution_copy(&c, 8, START, &second);
    assert_true(c.sent);
    assert_int_equal(first.generation, 7);
    assert_int_equal(second.generation, 8);
    assert_int_equal(c.msg.generation, 3);
    assert_ptr_equal(first.tensors[0].data, c.msg.tensors[0].data);
    contribution_drop(&c); /* the copies live on */
    assert_int_equal(first.tensors[0].data->size, 2 * sizeof(float));
    msg_fini(&first);
    msg_fini(&second);
}

static void test_holding_a_new_message_starts_afresh(void **state)
{
    struct contribution c = made();
    struct msg copy;
    (void)state;
    contribution_copy(&c, 1, START, &copy);
    msg_fini(&copy);
    contribution_drop(&c);
    c = made();
    assert_true(contribution_due(&c, START));
    assert_false(c.sent);
    contribution_drop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_held_is_never_due),
        cmocka_unit_test(test_due_at_first_after_a_while_and_when_hurried),
        cmocka_unit_test(test_a_copy_shares_the_tensors_and_names_its_own_generation),
        cmocka_unit_test(test_holding_a_new_message_starts_afresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
