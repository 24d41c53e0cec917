/* Safetensors: the bytes of a file, round trips, and hostile files, each of which must be refused with a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <stdbool.h>
#include "common/files.h"
#include "common/safetensors.h"
#include "tests/unit/common/scratch.h"

static const float weight[6] = {1, 2, 3, -4, 5.5f, 0};
static const uint8_t mask[3] = {1, 0, 255};
static const uint64_t step = 120;

static const struct tensor_view tensors[] = {
    {.name = "step", .dtype = DTYPE_U64, .rank = 0, .data = &step, .size = 8},
    {.name = "conv.weight", .dtype = DTYPE_F32, .rank = 2, .shape = {2, 3}, .data = weight, .size = 24},
    {.name = "none", .dtype = DTYPE_F64, .rank = 1, .shape = {0}, .data = NULL, .size = 0},
    {.name = "mask", .dtype = DTYPE_U8, .rank = 1, .shape = {3}, .data = mask, .size = 3},
};
static const struct metadata_entry metadata[] = {{"run", "fashion \"mnist\""}, {"step", "120"}};

static void write_sample(void **state, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", (const char *)*state, name);
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, 2, NULL), 0);
}

static void test_an_empty_file_is_valid(void **state)
{
    char path[512];
    struct safetensors s;
    struct error e;
    snprintf(path, sizeof path, "%s/f", (const char *)*state);
    assert_int_equal(safetensors_write(path, NULL, 0, NULL, 0, &e), 0);
    assert_int_equal(safetensors_read(path, &s, &e), 0);
    assert_int_equal(s.tensor_count, 0);
    assert_int_equal(s.metadata_count, 1);
    safetensors_fini(&s);
    safetensors_fini(&s);
}

/* Byte by byte what the format's description says, without our reader. */
static void test_bytes_are_as_described(void **state)
{
    char path[512], header[512];
    struct buf *b;
    write_sample(state, "f", path);
    assert_int_equal(file_read(path, 10000, &b, NULL), 0);
    uint64_t length = b->data[0] | (uint64_t)b->data[1] << 8;
    for (int i = 2; i < 8; i++)
        assert_int_equal(b->data[i], 0);
    assert_int_equal(length % 8, 0);
    assert_int_equal(b->size, 8 + length + 8 + 24 + 3);
    memcpy(header, b->data + 8, length);
    header[length] = '\0';
    const char *lead = "{\"__metadata__\":{\"checksum\":\"";
    assert_memory_equal(header, lead, strlen(lead));
    char *digits = header + strlen(lead);
    assert_int_equal(strspn(digits, "0123456789abcdef"), 16);
    assert_memory_equal(digits + 16,
                        "\",\"run\":\"fashion \\\"mnist\\\"\",\"step\":\"120\"},"
                        "\"step\":{\"dtype\":\"U64\",\"shape\":[],\"data_offsets\":[0,8]},"
                        "\"conv.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
                        "\"none\":{\"dtype\":\"F64\",\"shape\":[0],\"data_offsets\":[32,32]},"
                        "\"mask\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[32,35]}}",
                        253);
    assert_memory_equal(b->data + 8 + length, "\x78\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40", 16);
    assert_memory_equal(b->data + b->size - 3, mask, 3);
    buf_unref(&b);
}

static void test_same_content_same_bytes(void **state)
{
    char path[512], again[512];
    struct buf *a, *b;
    write_sample(state, "a", path);
    write_sample(state, "b", again);
    assert_int_equal(file_read(path, 10000, &a, NULL), 0);
    assert_int_equal(file_read(again, 10000, &b, NULL), 0);
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
    buf_unref(&a);
    buf_unref(&b);
}

enum { MANY = 70001, WIDE = 300000 }; /* neither a multiple of a piece, and a row longer than one */

static float number(uint64_t row, uint64_t column)
{
    return (float)(row % 1013) - 0.5f * (float)(column % 977);
}

static void make_narrow(const void *data, uint64_t first, uint64_t n, void *to)
{
    assert_ptr_equal(data, metadata); /* what the tensor has */
    for (uint64_t i = 0; i < 5 * n; i++)
        ((float *)to)[i] = number(first + i / 5, i % 5);
}

static void make_wide(const void *data, uint64_t first, uint64_t n, void *to)
{
    (void)data;
    for (uint64_t i = 0; i < WIDE * n; i++)
        ((float *)to)[i] = number(first + i / WIDE, i % WIDE);
}

/* Rows that are made while they are written give the file of the same rows in memory, to the byte. */
static void test_rows_may_be_made_while_they_are_written(void **state)
{
    char path[512], again[512];
    struct buf *a, *b;
    struct error e = {0};
    float *narrow = malloc(MANY * 5 * sizeof *narrow), *wide = malloc(3 * WIDE * sizeof *wide);
    assert_true(narrow && wide);
    make_narrow(metadata, 0, MANY, narrow);
    make_wide(NULL, 0, 3, wide);
    struct tensor_view t[] = {
        {.name = "n", .dtype = DTYPE_F32, .rank = 2, .shape = {MANY, 5}, .data = narrow, .size = MANY * 20},
        tensors[1],
        {.name = "w", .dtype = DTYPE_F32, .rank = 2, .shape = {3, WIDE}, .data = wide, .size = 3 * WIDE * 4},
        {.name = "none", .dtype = DTYPE_F32, .rank = 1, .shape = {0}},
    };
    snprintf(path, sizeof path, "%s/whole", (const char *)*state);
    snprintf(again, sizeof again, "%s/made", (const char *)*state);
    if (safetensors_write(path, t, 4, metadata, 2, &e) != 0)
        fail_msg("%s", e.text);
    t[0].data = metadata;
    t[0].rows = make_narrow;
    t[2].data = NULL;
    t[2].rows = t[3].rows = make_wide;
    assert_int_equal(safetensors_write(again, t, 4, metadata, 2, NULL), 0);
    assert_int_equal(file_read(path, 16 << 20, &a, NULL), 0);
    assert_int_equal(file_read(again, 16 << 20, &b, NULL), 0);
    assert_int_equal(a->size, b->size);
    assert_true(memcmp(a->data, b->data, a->size) == 0);
    buf_unref(&a);
    buf_unref(&b);
    free(narrow);
    free(wide);
}

static void test_round_trip(void **state)
{
    char path[512];
    struct safetensors s;
    struct error e;
    write_sample(state, "f", path);
    assert_int_equal(safetensors_read(path, &s, &e), 0);
    assert_int_equal(s.tensor_count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct tensor_view *t = &tensors[i];
        const struct tensor_view *found = safetensors_find(&s, t->name, t->dtype, t->rank, t->shape, &e);
        assert_ptr_equal(found, &s.tensors[i]); /* in the order given */
        assert_int_equal(found->size, t->size);
        if (t->size > 0)
            assert_memory_equal(found->data, t->data, t->size);
        assert_int_equal((uintptr_t)found->data % dtype_size(t->dtype), 0);
    }
    assert_string_equal(safetensors_meta(&s, "run"), "fashion \"mnist\"");
    assert_string_equal(safetensors_meta(&s, "step"), "120");
    assert_null(safetensors_meta(&s, "absent"));
    safetensors_fini(&s);
}

static void test_find_tells_absent_from_different(void **state)
{
    char path[512];
    struct safetensors s;
    struct error e;
    write_sample(state, "f", path);
    assert_int_equal(safetensors_read(path, &s, &e), 0);
    assert_null(safetensors_find(&s, "bias", DTYPE_F32, 1, (uint64_t[]){3}, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_null(safetensors_find(&s, "conv.weight", DTYPE_F32, 2, (uint64_t[]){3, 2}, &e));
    assert_int_equal(e.code, ERR_FORMAT);
    assert_null(safetensors_find(&s, "conv.weight", DTYPE_U32, 2, (uint64_t[]){2, 3}, &e));
    assert_null(safetensors_find(&s, "conv.weight", DTYPE_F32, 1, (uint64_t[]){6}, &e));
    assert_non_null(strstr(e.text, "conv.weight"));
    safetensors_fini(&s);
}

static void test_the_writer_refuses_what_the_reader_would(void **state)
{
    char path[512];
    struct error e;
    snprintf(path, sizeof path, "%s/f", (const char *)*state);
    struct tensor_view pair[2] = {tensors[1], tensors[1]};
    assert_int_equal(safetensors_write(path, pair, 2, NULL, 0, &e), ERR_RANGE); /* the same name twice */
    pair[0] = tensors[1];
    pair[0].size = 20;
    assert_int_equal(safetensors_write(path, pair, 1, NULL, 0, &e), ERR_RANGE);
    pair[0] = tensors[3];
    assert_int_equal(safetensors_write(path, pair, 2, NULL, 0, &e), ERR_RANGE); /* three bytes, then floats */
    assert_non_null(strstr(e.text, "misaligned"));
    pair[0] = tensors[1];
    strcpy(pair[0].name, "__metadata__");
    assert_int_equal(safetensors_write(path, pair, 1, NULL, 0, &e), ERR_RANGE);
    strcpy(pair[0].name, "");
    assert_int_equal(safetensors_write(path, pair, 1, NULL, 0, &e), ERR_RANGE);
    strcpy(pair[0].name, "\xff");
    assert_int_equal(safetensors_write(path, pair, 1, NULL, 0, &e), ERR_RANGE);
    const struct metadata_entry reserved = {"checksum", "x"};
    assert_int_equal(safetensors_write(path, NULL, 0, &reserved, 1, &e), ERR_RANGE);
    struct buf *b;
    assert_int_equal(file_read(path, 1000, &b, NULL), ERR_NOT_FOUND);
}

/* A file with that header and n bytes of zeros as data. */
static int read_crafted(void **state, const char *json, size_t n, struct safetensors *s, struct error *e)
{
    char path[512];
    static uint8_t bytes[8192];
    memset(bytes, 0, sizeof bytes);
    size_t length = strlen(json), padded = (length + 7) / 8 * 8;
    bytes[0] = (uint8_t)padded;
    bytes[1] = (uint8_t)(padded >> 8);
    memset(bytes + 8, ' ', padded);
    memcpy(bytes + 8, json, length);
    scratch_write(state, "crafted", bytes, 8 + padded + n, path);
    return safetensors_read(path, s, e);
}

static void test_files_of_other_writers_are_read(void **state)
{
    struct safetensors s;
    struct error e;
    assert_int_equal(read_crafted(state,
                                  "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[8,10]},"
                                  "\"a\":{\"data_offsets\":[0,8],\"shape\":[1,2,1,1],\"dtype\":\"F32\"}}",
                                  10, &s, &e),
                     0);
    assert_int_equal(s.tensor_count, 2);
    assert_string_equal(s.tensors[0].name, "a"); /* by place */
    assert_null(safetensors_meta(&s, "checksum"));
    safetensors_fini(&s);
}

#define TENSOR(name, dtype, shape, begin, end)                                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void test_hostile_headers(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{} x",
        "{\"a\":1}",
        "{\"a\":{}}",
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":{\"k\":1}}",
        "{" TENSOR("a", "F32", "4", "0", "16") "," TENSOR("a", "F32", "4", "0", "16") "}",
        "{" TENSOR("a", "F32", "4", "0", "16") "," TENSOR("b", "F32", "4", "0", "16") "}",
        "{" TENSOR("a", "F32", "3", "0", "12") "," TENSOR("b", "F32", "2", "8", "16") "}",
        "{" TENSOR("a", "F32", "1", "0", "4") "," TENSOR("b", "F32", "2", "8", "16") "}",
        "{" TENSOR("a", "F32", "3", "0", "12") "}",
        "{" TENSOR("a", "F32", "3", "4", "16") "}",
        "{" TENSOR("a", "F32", "4", "0", "20") "}",
        "{" TENSOR("a", "F32", "4", "16", "0") "}",
        "{" TENSOR("a", "F32", "4", "-16", "0") "}",
        "{" TENSOR("a", "F32", "5", "0", "16") "}",
        "{" TENSOR("a", "F32", "-4", "0", "16") "}",
        "{" TENSOR("a", "F32", "4.0", "0", "16") "}",
        "{" TENSOR("a", "F32", "4611686018427387904,4", "0", "16") "}",
        "{" TENSOR("a", "F32", "4294967296,4294967296,1", "0", "0") "}",
        "{" TENSOR("a", "U8", "9223372036854775807", "0", "9223372036854775807") "}",
        "{" TENSOR("a", "U8", "99999999999999999999", "0", "16") "}",
        "{" TENSOR("a", "F32", "1,1,1,1,4", "0", "16") "}",
        "{" TENSOR("a", "F16", "8", "0", "16") "}",
        "{" TENSOR("a", "f32", "4", "0", "16") "}",
        "{" TENSOR("", "F32", "4", "0", "16") "}",
        "{" TENSOR("a\\u0000b", "F32", "4", "0", "16") "}",
        "{" TENSOR("a", "U8", "2", "0", "2") "," TENSOR("b", "F32", "3", "2", "14") "," TENSOR("c", "U8", "2", "14",
                                                                                               "16") "}",
        "{" TENSOR("0123456789012345678901234567890123456789012345678901234567890123", "F32", "4", "0", "16") "}",
        "{\"__metadata__\":{\"checksum\":\"0\"}," TENSOR("a", "F32", "4", "0", "16") "}",
        "{\"__metadata__\":{\"checksum\":\"0123456789abcdef\"}," TENSOR("a", "F32", "4", "0", "16") "}",
        "{\"__metadata__\":{\"checksum\":\"\"}," TENSOR("a", "F32", "4", "0", "16") "}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct safetensors s;
        struct error e = {0};
        if (read_crafted(state, bad[i], 16, &s, &e) != ERR_FORMAT)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(e.text, "crafted: "));
        assert_null(s.file);
        assert_int_equal(s.tensor_count, 0);
    }
}

static void test_hostile_lengths(void **state)
{
    char path[512];
    struct safetensors s;
    struct error e;
    static const uint8_t lengths[][8] = {
        {9}, {0, 0, 0, 2}, {255, 255, 255, 255, 255, 255, 255, 255}, {0, 0, 0, 0, 0, 0, 0, 128}};
    for (size_t n = 0; n < 8; n++) {
        scratch_write(state, "f", lengths[0], n, path);
        assert_int_equal(safetensors_read(path, &s, &e), ERR_FORMAT);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t bytes[16] = {0};
        memcpy(bytes, lengths[i], 8);
        memcpy(bytes + 8, "{}      ", 8);
        scratch_write(state, "f", bytes, sizeof bytes, path);
        assert_int_equal(safetensors_read(path, &s, &e), ERR_FORMAT);
    }
    snprintf(path, sizeof path, "%s/absent", (const char *)*state);
    assert_int_equal(safetensors_read(path, &s, &e), ERR_NOT_FOUND);
}

static void test_every_truncation_is_found(void **state)
{
    char path[512], cut[512];
    struct buf *b;
    struct error e;
    write_sample(state, "f", path);
    assert_int_equal(file_read(path, 10000, &b, NULL), 0);
    for (size_t n = 0; n < b->size; n++) {
        struct safetensors s;
        scratch_write(state, "cut", b->data, n, cut);
        assert_int_equal(safetensors_read(cut, &s, &e), ERR_FORMAT);
    }
    buf_unref(&b);
}

/* All but the bits of the words "__metadata__" and "checksum": without them it is a file of another writer. */
static void test_flipped_bits_are_found_everywhere(void **state)
{
    char path[512], flipped[512];
    struct buf *b;
    write_sample(state, "f", path);
    assert_int_equal(file_read(path, 10000, &b, NULL), 0);
    for (size_t at = 0; at < b->size; at++) {
        if (at >= 8 && at < 8 + strlen("{\"__metadata__\":{\"checksum\""))
            continue;
        for (int bit = (int)(at % 4); bit < 8; bit += 4) { /* two of each byte, to be quick */
            struct safetensors s;
            struct error e = {0};
            b->data[at] ^= (uint8_t)(1 << bit);
            scratch_write(state, "flipped", b->data, b->size, flipped);
            if (safetensors_read(flipped, &s, &e) != ERR_FORMAT)
                fail_msg("bit %d of byte %zu", bit, at);
            assert_true(strlen(e.text) > strlen(flipped) + 5);
            b->data[at] ^= (uint8_t)(1 << bit);
        }
    }
    buf_unref(&b);
}

static void test_dtypes(void **state)
{
    (void)state;
    enum dtype t;
    for (enum dtype d = DTYPE_F32; d <= DTYPE_U8; d++) {
        assert_int_equal(dtype_parse(dtype_name(d), &t), 0);
        assert_int_equal(t, d);
    }
    assert_int_equal(dtype_size(DTYPE_F64), 8);
    assert_int_equal(dtype_size(DTYPE_U8), 1);
    assert_int_equal(dtype_size((enum dtype)0), 0);
    assert_int_equal(dtype_size((enum dtype)6), 0);
    assert_string_equal(dtype_name((enum dtype)99), "unknown");
    assert_int_equal(dtype_parse("unknown", &t), ERR_RANGE);
    assert_int_equal(dtype_parse("", &t), ERR_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_an_empty_file_is_valid),
        scratch_test(test_bytes_are_as_described),
        scratch_test(test_same_content_same_bytes),
        scratch_test(test_round_trip),
        scratch_test(test_rows_may_be_made_while_they_are_written),
        scratch_test(test_find_tells_absent_from_different),
        scratch_test(test_the_writer_refuses_what_the_reader_would),
        scratch_test(test_files_of_other_writers_are_read),
        scratch_test(test_hostile_headers),
        scratch_test(test_hostile_lengths),
        scratch_test(test_every_truncation_is_found),
        scratch_test(test_flipped_bits_are_found_everywhere),
        cmocka_unit_test(test_dtypes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
