/* Buffers: alignment, reference counts, release of foreign memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include "common/buf.h"

static void test_empty_buffer_is_a_buffer(void **state)
{
    (void)state;
    struct buf *b = buf_new(0);
    assert_non_null(b);
    assert_int_equal(b->size, 0);
    buf_unref(&b);
    assert_null(b);
    b = buf_copy(NULL, 0);
    assert_non_null(b);
    buf_unref(&b);
}

static void test_null_is_safe(void **state)
{
    (void)state;
    struct buf *none = NULL;
    assert_null(buf_ref(NULL));
    buf_unref(&none);
}

static void test_impossible_size_is_refused(void **state)
{
    (void)state;
    assert_null(buf_new(SIZE_MAX));
    assert_null(buf_new(SIZE_MAX / 2 + 1));
}

static void test_data_is_aligned_and_writable(void **state)
{
    (void)state;
    for (size_t size = 1; size < 300; size += 37) {
        struct buf *b = buf_new(size);
        assert_int_equal((uintptr_t)b->data % 64, 0);
        memset(b->data, 0x5a, size);
        buf_unref(&b);
    }
}

static void test_copies(void **state)
{
    (void)state;
    char text[] = "slot";
    struct buf *b = buf_copy(text, sizeof text);
    text[0] = 'b';
    assert_string_equal((char *)b->data, "slot");
    buf_unref(&b);
}

static void count_release(void *data, void *hint)
{
    (void)data;
    ++*(int *)hint;
}

static void test_releases_once_with_the_last_reference(void **state)
{
    (void)state;
    int released = 0;
    char memory[8];
    struct buf *b = buf_wrap(memory, sizeof memory, count_release, &released), *second = buf_ref(b);
    assert_ptr_equal(second, b);
    assert_ptr_equal(b->data, memory);
    buf_unref(&b);
    assert_int_equal(released, 0);
    buf_unref(&second);
    assert_int_equal(released, 1);
}

static void *ref_and_unref(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        struct buf *mine = buf_ref(arg);
        buf_unref(&mine);
    }
    return NULL;
}

static void test_count_is_atomic(void **state)
{
    (void)state;
    int released = 0;
    pthread_t threads[4];
    struct buf *b = buf_wrap(NULL, 0, count_release, &released);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, b), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(b->refs, 1);
    assert_int_equal(released, 0);
    buf_unref(&b);
    assert_int_equal(released, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_buffer_is_a_buffer),
        cmocka_unit_test(test_null_is_safe),
        cmocka_unit_test(test_impossible_size_is_refused),
        cmocka_unit_test(test_data_is_aligned_and_writable),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_releases_once_with_the_last_reference),
        cmocka_unit_test(test_count_is_atomic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
