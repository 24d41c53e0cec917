/* Who is known, who is forgotten and when, what is refused for good, and the ledger's place in a checkpoint. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include "server/prototype/ledger_file.h"

enum { LIFE = 3, NOW = 1000 };

static const struct ledger_limits limits = {.window = 4, .keep = 6};
static const struct peer anyone = {.size = 1, .id = {7}};

static struct ledger *new_ledger(void)
{
    struct ledger *l;
    assert_int_equal(ledger_new(&l), 0);
    ledger_begin(l, NOW);
    return l;
}

static struct ledger_id new_client(struct ledger *l)
{
    return (struct ledger_id){ledger_name(l, LIFE), 0};
}

static struct ledger_client *contribute(struct ledger *l, struct ledger_id id, uint64_t seq, uint64_t now)
{
    assert_int_equal(ledger_judge(l, id, seq, &limits, now), LEDGER_APPLY);
    return ledger_apply(l, id, &anyone, now);
}

static void make_durable(struct ledger *l)
{
    ledger_snapshot(l);
    ledger_written(l);
}

static void test_sequences(void **state)
{
    (void)state;
    struct ledger *l = new_ledger();
    struct ledger_id id = new_client(l);
    assert_null(ledger_find(l, id));
    assert_int_equal(ledger_judge(l, id, 2, &limits, NOW), LEDGER_GAP);
    assert_int_equal(contribute(l, id, 1, NOW)->applied, 1);
    assert_int_equal(ledger_judge(l, id, 1, &limits, NOW), LEDGER_DUPLICATE);
    assert_int_equal(ledger_judge(l, id, 3, &limits, NOW), LEDGER_GAP);
    assert_int_equal(ledger_judge(l, (struct ledger_id){id.name, 9}, 1, &limits, NOW), LEDGER_APPLY); /* another key */
    assert_int_equal(l->contributions, 1);
    ledger_free(&l);
}

static void test_credit_ends_with_what_is_not_durable(void **state)
{
    (void)state;
    struct ledger *l = new_ledger();
    struct ledger_id id = new_client(l);
    assert_int_equal(ledger_credit(NULL, &limits), 4);
    for (uint64_t seq = 1; seq <= 6; seq++)
        contribute(l, id, seq, NOW);
    assert_int_equal(ledger_credit(ledger_find(l, id), &limits), 6);
    assert_int_equal(ledger_judge(l, id, 7, &limits, NOW), LEDGER_NO_CREDIT);
    make_durable(l);
    assert_int_equal(ledger_credit(ledger_find(l, id), &limits), 10);
    contribute(l, id, 7, NOW);
    ledger_free(&l);
}

static void test_durable_is_what_the_snapshot_had(void **state)
{
    (void)state;
    struct ledger *l = new_ledger();
    struct ledger_id id = new_client(l), late = new_client(l);
    contribute(l, id, 1, NOW);
    ledger_snapshot(l);
    contribute(l, id, 2, NOW);
    contribute(l, late, 1, NOW);
    assert_null(ledger_next_news(l));
    ledger_written(l);
    struct ledger_client *told = ledger_next_news(l);
    assert_non_null(told);
    assert_int_equal(told->id.name, id.name);
    assert_int_equal(told->durable, 1);
    assert_null(ledger_next_news(l));
    assert_int_equal(ledger_find(l, late)->durable, 0);
    ledger_free(&l);
}

static void test_names_are_given_once(void **state)
{
    (void)state;
    struct ledger *l = new_ledger();
    struct ledger_id id = new_client(l);
    assert_true(new_client(l).name > id.name);
    assert_true(ledger_name(l, LIFE + 1) >> LEDGER_GENERATION_SHIFT == LIFE + 1);
    assert_int_equal(ledger_judge_name(l, id, LIFE), LEDGER_APPLY);
    const uint64_t wrong[] = {0,
                              5,
                              id.name + 3,
                              (uint64_t)LIFE << LEDGER_GENERATION_SHIFT,
                              (uint64_t)(LIFE + 1) << LEDGER_GENERATION_SHIFT | 1,
                              UINT64_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(ledger_judge_name(l, (struct ledger_id){wrong[i], 0}, LIFE), LEDGER_UNKNOWN);
    struct ledger_id earlier = {(uint64_t)(LIFE - 1) << LEDGER_GENERATION_SHIFT | 1000000, 0};
    assert_int_equal(ledger_judge_name(l, earlier, LIFE), LEDGER_APPLY); /* perhaps given, in a life that was lost */
    l->names = UINT32_MAX;
    assert_int_equal(ledger_name(l, LIFE), 0);
    ledger_free(&l);
}

static struct ledger *full_ledger(struct ledger_id ids[LEDGER_CLIENTS_MAX])
{
    struct ledger *l = new_ledger();
    for (uint32_t i = 0; i < LEDGER_CLIENTS_MAX; i++) {
        ids[i] = new_client(l);
        contribute(l, ids[i], 1, NOW + i);
    }
    return l;
}

static void test_a_full_ledger_forgets_the_silent_if_durable(void **state)
{
    (void)state;
    static struct ledger_id ids[LEDGER_CLIENTS_MAX];
    struct ledger *l = full_ledger(ids);
    struct ledger_id newcomer = new_client(l);
    uint64_t later = NOW + LEDGER_SILENCE_MS + 2;
    assert_int_equal(ledger_judge(l, newcomer, 1, &limits, later), LEDGER_FULL); /* nothing is durable */
    make_durable(l);
    assert_int_equal(ledger_judge(l, newcomer, 1, &limits, NOW + LEDGER_SILENCE_MS - 1), LEDGER_FULL);
    assert_int_equal(ledger_judge(l, ids[5], 1, &limits, later), LEDGER_DUPLICATE);
    contribute(l, newcomer, 1, later);
    assert_int_equal(l->count, LEDGER_CLIENTS_MAX);
    assert_null(ledger_find(l, ids[0])); /* silent longest */
    assert_int_equal(l->forgotten, ids[0].name);
    assert_int_equal(ledger_judge_name(l, ids[0], LIFE), LEDGER_EXPIRED);
    assert_int_equal(ledger_judge_name(l, ids[1], LIFE), LEDGER_APPLY);
    ledger_free(&l);
}

static void test_who_said_goodbye_is_forgotten_first(void **state)
{
    (void)state;
    static struct ledger_id ids[LEDGER_CLIENTS_MAX];
    struct ledger *l = full_ledger(ids);
    make_durable(l);
    ledger_note(ledger_find(l, ids[9]), &anyone, true, NOW + 5000);
    ledger_note(ledger_find(l, ids[8]), &anyone, true, NOW + 5000);
    ledger_note(ledger_find(l, ids[8]), &anyone, false, NOW + 5001); /* it is back */
    contribute(l, new_client(l), 1, NOW + LEDGER_SILENCE_MS + 2);
    assert_null(ledger_find(l, ids[9]));
    assert_non_null(ledger_find(l, ids[8]));
    assert_non_null(ledger_find(l, ids[0]));
    assert_int_equal(ledger_judge_name(l, ids[9], LIFE), LEDGER_EXPIRED);
    struct ledger_id never = {ids[9].name, 4}; /* below what was forgotten: it might have been */
    assert_int_equal(ledger_judge_name(l, never, LIFE), LEDGER_EXPIRED);
    ledger_free(&l);
}

static void test_silence_begins_with_this_life(void **state)
{
    (void)state;
    static struct ledger_id ids[LEDGER_CLIENTS_MAX];
    struct ledger *l = full_ledger(ids);
    uint64_t start = 50 * (uint64_t)LEDGER_SILENCE_MS;
    ledger_resumed(l);
    l->began_ms = 0;
    ledger_begin(l, start);
    struct ledger_id newcomer = {ledger_name(l, LIFE + 1), 0};
    assert_int_equal(ledger_judge(l, newcomer, 1, &limits, start + 1), LEDGER_FULL);
    assert_int_equal(ledger_judge(l, newcomer, 1, &limits, start + LEDGER_SILENCE_MS), LEDGER_APPLY);
    ledger_free(&l);
}

static void test_what_nobody_has_is_passed_over(void **state)
{
    (void)state;
    struct ledger *l = new_ledger();
    struct ledger_id id = new_client(l), unknown = new_client(l);
    contribute(l, id, 1, NOW);
    assert_int_equal(ledger_pass_over(l, id, 1, &anyone, NOW), 0);
    assert_int_equal(ledger_pass_over(l, id, 5, &anyone, NOW), 4);
    assert_int_equal(ledger_pass_over(l, unknown, 0, &anyone, NOW), 0);
    assert_null(ledger_find(l, unknown));
    assert_int_equal(ledger_pass_over(l, unknown, 2, &anyone, NOW), 2);
    contribute(l, id, 6, NOW);
    contribute(l, unknown, 3, NOW);
    assert_int_equal(l->lost, 6);
    assert_int_equal(l->contributions, 3);
    make_durable(l);
    assert_int_equal(ledger_find(l, id)->durable, 6);
    ledger_free(&l);
}

/* ---- in a file ---- */

static int read_back(uint64_t *rows, const struct tensor_view *t, struct ledger **out)
{
    struct tensor_view copy = *t;
    copy.data = rows;
    struct safetensors f = {.tensors = &copy, .tensor_count = 1};
    struct error e;
    return ledger_from_file(&f, out, &e);
}

static void test_a_checkpoint_keeps_it(void **state)
{
    (void)state;
    struct ledger *l = new_ledger(), *back;
    struct ledger_id id = new_client(l), other = {new_client(l).name, 77};
    uint64_t *rows;
    struct tensor_view t;
    contribute(l, id, 1, NOW);
    contribute(l, id, 2, NOW);
    contribute(l, other, 1, NOW);
    l->forgotten = 12;
    l->lost = 5;
    assert_int_equal(ledger_to_tensor(l, &rows, &t), 0);
    assert_int_equal(t.size, 3 * 3 * sizeof *rows);
    assert_int_equal(read_back(rows, &t, &back), 0);
    assert_int_equal(back->count, 2);
    assert_int_equal(back->forgotten, 12);
    assert_int_equal(back->contributions, 3);
    assert_int_equal(back->lost, 5);
    assert_int_equal(ledger_find(back, id)->applied, 2);
    assert_int_equal(ledger_find(back, id)->durable, 2);
    assert_int_equal(ledger_find(back, other)->applied, 1);
    assert_int_equal(back->names, 0);
    ledger_free(&back);
    ledger_free(&l);
    free(rows);
}

static void test_damage_is_refused(void **state)
{
    (void)state;
    struct ledger *l = new_ledger(), *back = NULL;
    uint64_t *rows;
    struct tensor_view t;
    contribute(l, new_client(l), 1, NOW);
    contribute(l, new_client(l), 1, NOW);
    assert_int_equal(ledger_to_tensor(l, &rows, &t), 0);
    struct safetensors none = {0};
    struct error e;
    assert_int_equal(ledger_from_file(&none, &back, &e), ERR_FORMAT);
    struct tensor_view wrong = t;
    wrong.dtype = DTYPE_F64;
    assert_int_equal(read_back(rows, &wrong, &back), ERR_FORMAT);
    wrong = t;
    wrong.shape[1] = 2;
    assert_int_equal(read_back(rows, &wrong, &back), ERR_FORMAT);
    wrong = t;
    wrong.shape[0] = LEDGER_CLIENTS_MAX + 2;
    assert_int_equal(read_back(rows, &wrong, &back), ERR_FORMAT);
    const struct {
        size_t at;
        uint64_t value;
    } cases[] = {{3, 0}, {5, 0}, {5, UINT64_MAX}, {6, rows[3]}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t was = rows[cases[i].at];
        rows[cases[i].at] = cases[i].value;
        assert_int_equal(read_back(rows, &t, &back), ERR_FORMAT);
        assert_null(back);
        rows[cases[i].at] = was;
    }
    ledger_free(&l);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_credit_ends_with_what_is_not_durable),
        cmocka_unit_test(test_durable_is_what_the_snapshot_had),
        cmocka_unit_test(test_names_are_given_once),
        cmocka_unit_test(test_a_full_ledger_forgets_the_silent_if_durable),
        cmocka_unit_test(test_who_said_goodbye_is_forgotten_first),
        cmocka_unit_test(test_silence_begins_with_this_life),
        cmocka_unit_test(test_what_nobody_has_is_passed_over),
        cmocka_unit_test(test_a_checkpoint_keeps_it),
        cmocka_unit_test(test_damage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
