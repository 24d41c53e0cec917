/* When a new list of keys counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "server/shell/list_guard.h"

#define A "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define B "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLVFdTl"
#define BOTH "worker " A " a\nviewer " B " b\n"

struct fixture {
    struct list_guard guard;
    struct allow_list current;
};

static struct allow_list parse(const char *text)
{
    struct allow_list l;
    struct error e = {0};
    if (allow_list_parse(text, strlen(text), "test", &l, &e) != 0)
        fail_msg("%s", e.text);
    return l;
}

static void begin(struct fixture *f, const char *text)
{
    *f = (struct fixture){.current = parse(text)};
}

/* What becomes of it, and how many keys are in force then. */
static void offer(struct fixture *f, const char *text, uint64_t now, enum list_verdict wanted, size_t count)
{
    struct allow_list next = parse(text);
    assert_int_equal(list_guard_offer(&f->guard, &f->current, &next, now), wanted);
    assert_int_equal(f->current.count, count);
}

static void end(struct fixture *f)
{
    list_guard_forget(&f->guard);
    allow_list_fini(&f->current);
}

static void test_what_leaves_somebody_counts_at_once(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, "");
    offer(&f, "", 0, LIST_TAKEN, 0); /* nobody was lost */
    offer(&f, BOTH, 0, LIST_TAKEN, 2);
    offer(&f, "client " A " a\n", 0, LIST_TAKEN, 1);
    offer(&f, "worker " A " a\nworker " B " b\n", 0, LIST_TAKEN, 2);
    offer(&f, "worker " B " b\n", 0, LIST_TAKEN, 1);
    end(&f);
    begin(&f, "viewer " A " a\n");
    offer(&f, "", 0, LIST_TAKEN, 0); /* nobody worked */
    end(&f);
}

static void test_what_loses_everybody_needs_a_second_look(void **state)
{
    static const char *const lists[] = {"", "# nobody\n", "viewer " B " b\n", "viewer " A " a\n",
                                        "worker " B " other\n"};
    (void)state;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct fixture f;
        size_t count = strstr(lists[i], " ") && lists[i][0] != '#';
        begin(&f, BOTH);
        offer(&f, lists[i], 1000, LIST_WAITS, 2);
        offer(&f, lists[i], 1000 + LIST_CONFIRM_MS - 1, LIST_WAITED, 2);
        offer(&f, lists[i], 1000 + LIST_CONFIRM_MS, LIST_TAKEN, count);
        assert_false(f.guard.waits);
        end(&f);
    }
}

static void test_meanwhile(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, BOTH);
    offer(&f, "", 0, LIST_WAITS, 2);
    offer(&f, BOTH, 1000, LIST_TAKEN, 2);                                  /* mended */
    offer(&f, "", LIST_CONFIRM_MS, LIST_WAITS, 2);                         /* the first look counts no more */
    offer(&f, "viewer " B " b\n", LIST_CONFIRM_MS + 10000, LIST_WAITS, 2); /* another one begins anew */
    offer(&f, "viewer " B " b\n", 2 * LIST_CONFIRM_MS, LIST_WAITED, 2);
    list_guard_forget(&f.guard); /* unreadable for a moment */
    offer(&f, "viewer " B " b\n", 3 * LIST_CONFIRM_MS, LIST_WAITS, 2);
    offer(&f, "viewer " B " b\n" ALLOW_CONFIRMED "\n", 3 * LIST_CONFIRM_MS + 1, LIST_TAKEN, 1);
    end(&f);
}

static void test_only_the_last_line_confirms(void **state)
{
    static const char *const confirmed[] = {ALLOW_CONFIRMED, ALLOW_CONFIRMED "\n", ALLOW_CONFIRMED "\r\n\n \n"};
    static const char *const not [] = {ALLOW_CONFIRMED "\n# and more\n", ALLOW_CONFIRMED " really\n",
                                       " " ALLOW_CONFIRMED, ALLOW_CONFIRMED "\nviewer " B " b\n", "# confirmed"};
    (void)state;
    for (size_t i = 0; i < sizeof confirmed / sizeof confirmed[0]; i++) {
        struct fixture f;
        begin(&f, BOTH);
        offer(&f, confirmed[i], 0, LIST_TAKEN, 0);
        end(&f);
    }
    for (size_t i = 0; i < sizeof not / sizeof not [0]; i++) {
        struct fixture f;
        begin(&f, BOTH);
        offer(&f, not [i], 0, LIST_WAITS, 2);
        end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_leaves_somebody_counts_at_once),
        cmocka_unit_test(test_what_loses_everybody_needs_a_second_look),
        cmocka_unit_test(test_meanwhile),
        cmocka_unit_test(test_only_the_last_line_confirms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
