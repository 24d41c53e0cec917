/* The list of keys: what it takes, and that a hostile or half-written file is refused whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <zmq.h>
#include "proto/allow_list.h"
#include "tests/unit/common/scratch.h"

#define KEY_A "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7" /* of ZeroMQ's CURVE manual page */
#define KEY_B "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLVFdTl" /* hypothetical, valid Z85 */

static int parse(const char *text, struct allow_list *l, struct error *e)
{
    return allow_list_parse(text, strlen(text), "allowed", l, e);
}

static void refuse(const char *text, const char *told)
{
    struct allow_list l;
    struct error e = {0};
    assert_int_equal(parse(text, &l, &e), ERR_FORMAT);
    assert_null(l.entries);
    assert_int_equal(l.count, 0);
    if (!strstr(e.text, told))
        fail_msg("'%s' does not say '%s'", e.text, told);
}

static void test_empty_lists_let_nobody_in(void **state)
{
    static const char *const texts[] = {"", "\n", "# comment", "  \t\n# a\n\n   # b\r\n\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct allow_list l;
        assert_int_equal(parse(texts[i], &l, NULL), 0);
        assert_int_equal(l.count, 0);
        assert_null(allow_list_find(&l, KEY_A));
        assert_null(allow_list_find(&l, ""));
        allow_list_fini(&l);
    }
}

static void test_entries_are_found_by_key(void **state)
{
    (void)state;
    struct allow_list l;
    assert_int_equal(parse("worker " KEY_A " gpu-7\r\n#x\n\tviewer\t" KEY_B "   alice.b_2", &l, NULL), 0);
    assert_int_equal(l.count, 2);
    assert_string_equal(allow_list_find(&l, KEY_A)->name, "gpu-7");
    assert_int_equal(allow_list_find(&l, KEY_A)->role, ROLE_WORKER);
    assert_int_equal(allow_list_find(&l, KEY_B)->role, ROLE_VIEWER);
    assert_string_equal(allow_list_find(&l, KEY_B)->name, "alice.b_2");
    assert_null(allow_list_find(&l, ""));
    assert_null(allow_list_find(&l, KEY_A "x"));
    allow_list_fini(&l);
    assert_null(l.entries);
}

static void test_anything_else_is_refused_with_its_line(void **state)
{
    (void)state;
    refuse("worker " KEY_A " a\nworker\n", "allowed:2: not three words");
    refuse("worker " KEY_A, "allowed:1: not three words");
    refuse("worker " KEY_A " a b", "not three words");
    refuse("root " KEY_A " a", "the role");
    refuse("none " KEY_A " a", "the role"); /* the role of those who are not listed */
    refuse("Worker " KEY_A " a", "the role");
    refuse("worker short a", "Z85");
    refuse("worker " KEY_A "00000 a", "Z85");
    refuse("worker ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~ a", "Z85");
    refuse("worker ######################################## a", "Z85"); /* a group above 2^32 */
    refuse("worker " KEY_A " ../a", "the name");
    refuse("worker " KEY_A " .a", "the name");
    refuse("worker " KEY_A " a\"b", "the name");
    refuse("worker " KEY_A " \x1b[2J", "the name");
    refuse("worker " KEY_A " \xc3\xa4", "the name");
    refuse("worker " KEY_A " a\nviewer " KEY_A " b\n", "same key");
}

static void test_long_lines_and_nul_bytes_are_refused(void **state)
{
    (void)state;
    struct allow_list l;
    char line[600] = "worker " KEY_A " ";
    memset(line + strlen(line), 'x', 64);
    refuse(line, "the name");
    memset(line, '#', sizeof line - 1); /* also as a comment */
    refuse(line, "too long");
    static const char nul[] = "worker " KEY_A " a\n#\0\n";
    assert_int_equal(allow_list_parse(nul, sizeof nul - 1, "allowed", &l, NULL), ERR_FORMAT);
}

static void test_lists_have_a_largest_size(void **state)
{
    (void)state;
    char *text = malloc((ALLOW_ENTRIES_MAX + 1) * 64), *at = text;
    struct allow_list l;
    for (uint32_t i = 0; i <= ALLOW_ENTRIES_MAX; i++) {
        uint8_t key[32] = {(uint8_t)i, (uint8_t)(i >> 8)};
        char z85[41];
        at += sprintf(at, "worker %s n%u\n", zmq_z85_encode(z85, key, sizeof key), i);
        if (i + 1 == ALLOW_ENTRIES_MAX) {
            assert_int_equal(allow_list_parse(text, (size_t)(at - text), "allowed", &l, NULL), 0);
            assert_int_equal(l.count, ALLOW_ENTRIES_MAX);
            assert_non_null(allow_list_find(&l, z85));
            allow_list_fini(&l);
        }
    }
    assert_int_equal(allow_list_parse(text, (size_t)(at - text), "allowed", &l, NULL), ERR_RANGE);
    assert_null(l.entries);
    free(text);
}

static void test_files_are_read_whole_or_not(void **state)
{
    char path[512];
    struct allow_list l;
    struct error e = {0};
    scratch_write(state, "allowed", "client " KEY_B " c\n", strlen("client " KEY_B " c\n"), path);
    assert_int_equal(allow_list_read(path, &l, &e), 0);
    assert_int_equal(allow_list_find(&l, KEY_B)->role, ROLE_CLIENT);
    allow_list_fini(&l);
    strcat(path, "-not");
    assert_int_equal(allow_list_read(path, &l, &e), ERR_NOT_FOUND);
    assert_null(l.entries);
    void *large = calloc(1, ALLOW_FILE_MAX + 1);
    scratch_write(state, "large", large, ALLOW_FILE_MAX + 1, path);
    assert_int_equal(allow_list_read(path, &l, &e), ERR_RANGE);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_lists_let_nobody_in),
        cmocka_unit_test(test_entries_are_found_by_key),
        cmocka_unit_test(test_anything_else_is_refused_with_its_line),
        cmocka_unit_test(test_long_lines_and_nul_bytes_are_refused),
        cmocka_unit_test(test_lists_have_a_largest_size),
        scratch_test(test_files_are_read_whole_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
