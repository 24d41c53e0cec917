/* Messages: what is written reads back; what is foreign is refused with the right reason and leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>
#include "proto/msg.h"

/* ---- helpers: headers written by hand ---- */

struct wire {
    msgpack_sbuffer bytes;
    msgpack_packer p;
};

static void wire_init(struct wire *w, size_t pairs)
{
    msgpack_sbuffer_init(&w->bytes);
    msgpack_packer_init(&w->p, &w->bytes, msgpack_sbuffer_write);
    msgpack_pack_map(&w->p, pairs);
}

static void put_string(struct wire *w, const char *text)
{
    msgpack_pack_str(&w->p, strlen(text));
    msgpack_pack_str_body(&w->p, text, strlen(text));
}

static void put_number(struct wire *w, const char *key, uint64_t value)
{
    put_string(w, key);
    msgpack_pack_uint64(&w->p, value);
}

/* A header with version and type, to which `more` pairs will be added. */
static void wire_begin(struct wire *w, size_t more)
{
    wire_init(w, 2 + more);
    put_number(w, "version", PROTO_VERSION);
    put_number(w, "type", MSG_STATS);
}

/* Decodes header + frames (taken over) and expects that reason, 0 for acceptance. Returns the decoded type. */
static enum msg_type expect_bytes(const void *header, size_t size, struct buf **frames, size_t n, enum reason reason)
{
    struct buf *all[16] = {buf_copy(header, size)};
    struct msg m;
    enum reason why = 0;
    struct error e = {0};
    for (size_t i = 0; i < n; i++)
        all[1 + i] = frames[i];
    int rc = msg_decode(all, 1 + n, &m, &why, &e);
    assert_string_equal(reason_name(why), reason_name(reason));
    assert_int_equal(rc, reason ? ERR_FORMAT : 0);
    if (reason) {
        assert_int_equal(m.tensor_count, 0);
        assert_int_equal(m.scalar_count, 0);
        assert_true(strlen(e.text) > 0);
    }
    enum msg_type type = m.type;
    msg_fini(&m);
    for (size_t i = 0; i <= n; i++)
        buf_unref(&all[i]);
    return type;
}

static void expect(struct wire *w, enum reason reason)
{
    expect_bytes(w->bytes.data, w->bytes.size, NULL, 0, reason);
    msgpack_sbuffer_destroy(&w->bytes);
}

/* ---- what is written reads back ---- */

static void decode_again(const struct msg *m, struct msg *out)
{
    struct buf *frames[1 + MSG_TENSORS_MAX];
    size_t n;
    enum reason why = 0;
    struct error e = {0};
    assert_int_equal(msg_encode(m, frames, &n), 0);
    assert_int_equal(n, 1 + m->tensor_count);
    assert_true(frames[0]->size <= MSG_HEADER_MAX);
    if (msg_decode(frames, n, out, &why, &e))
        fail_msg("%s", e.text);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
}

static void test_empty_message_is_version_and_type(void **state)
{
    (void)state;
    struct msg m, back;
    struct buf *frames[1 + MSG_TENSORS_MAX];
    size_t n;
    msg_init(&m, MSG_PING, "");
    assert_int_equal(msg_encode(&m, frames, &n), 0);
    const uint8_t bytes[] = "\x82\xa7version\x01\xa4type\x0e";
    assert_int_equal(frames[0]->size, sizeof bytes - 1);
    assert_memory_equal(frames[0]->data, bytes, sizeof bytes - 1);
    buf_unref(&frames[0]);
    decode_again(&m, &back);
    assert_memory_equal(&back, &m, sizeof m);
}

/* Every field at its largest value, every list full: it fits a header. */
static void fill(struct msg *m)
{
    memset(m, 0, sizeof *m);
    m->type = MSG_STOP;
    memset(m->run, 'r', sizeof m->run - 1);
    memset(m->text, 't', sizeof m->text - 1);
    m->shard = m->code = m->want = m->encoding = UINT32_MAX;
    m->slot = m->slots = INT32_MAX;
    m->config = m->generation = m->worker = UINT64_MAX;
    m->step = m->seq = (UINT64_C(1) << 53) - 1;
    char name[24] = "aaaaaaaaaaaaaaaaaaaaa_0";
    for (int i = 0; i < MSG_SCALARS_MAX; i++) {
        name[22] = (char)('a' + i);
        assert_int_equal(msg_add_scalar(m, name, -1e300 - i), 0);
    }
    for (int i = 0; i < MSG_TENSORS_MAX; i++) {
        name[22] = (char)('0' + i);
        uint64_t shape[4] = {1, 2, 1, (uint64_t)i};
        struct buf *b = buf_new(2 * (size_t)i * 8);
        memset(b->data, i, b->size);
        assert_int_equal(msg_add_tensor(m, name, DTYPE_F64, 4, shape, b), 0);
    }
}

static void test_full_message_reads_back(void **state)
{
    (void)state;
    struct msg m, back;
    fill(&m);
    decode_again(&m, &back);
    for (uint32_t i = 0; i < m.tensor_count; i++) {
        assert_string_equal(back.tensors[i].name, m.tensors[i].name);
        assert_memory_equal(back.tensors[i].shape, m.tensors[i].shape, sizeof m.tensors[i].shape);
        assert_ptr_equal(back.tensors[i].data, m.tensors[i].data); /* the same memory, not a copy */
    }
    assert_memory_equal(&back, &m, offsetof(struct msg, tensors));
    msg_fini(&m);
    msg_fini(&back);
}

static void test_limits_of_lists(void **state)
{
    (void)state;
    struct msg m;
    fill(&m);
    assert_int_equal(msg_add_scalar(&m, "x", 1), ERR_RANGE);
    assert_int_equal(msg_add_tensor(&m, "x", DTYPE_U8, 1, (uint64_t[]){1}, buf_new(1)), ERR_RANGE);
    msg_fini(&m);
    msg_init(&m, MSG_STATS, "r");
    assert_int_equal(msg_add_scalar(&m, "Name", 1), ERR_RANGE);
    assert_int_equal(msg_add_tensor(&m, "", DTYPE_U8, 1, (uint64_t[]){1}, buf_new(1)), ERR_RANGE);
    assert_int_equal(msg_add_tensor(&m, "x", DTYPE_F32, 1, (uint64_t[]){2}, buf_new(7)), ERR_RANGE);
    assert_int_equal(msg_add_tensor(&m, "x", DTYPE_F32, 1, (uint64_t[]){2}, NULL), ERR_MEMORY);
    assert_int_equal(m.tensor_count, 0);
}

/* A frame that lies at an odd address is copied to where its type may lie. */
static void test_misaligned_frame_is_copied(void **state)
{
    (void)state;
    struct msg m, back;
    struct buf *frames[1 + MSG_TENSORS_MAX];
    size_t n;
    enum reason why;
    double memory[3] = {0}, value = 2.5;
    memcpy((uint8_t *)memory + 1, &value, sizeof value);
    msg_init(&m, MSG_STATS, "");
    assert_int_equal(msg_add_tensor(&m, "x", DTYPE_F64, 0, NULL, buf_wrap((uint8_t *)memory + 1, 8, NULL, NULL)), 0);
    assert_int_equal(msg_encode(&m, frames, &n), 0);
    assert_int_equal(msg_decode(frames, n, &back, &why, NULL), 0);
    assert_int_equal((uintptr_t)back.tensors[0].data->data % 8, 0);
    assert_memory_equal(back.tensors[0].data->data, &value, sizeof value);
    msg_fini(&back);
    msg_fini(&m);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
}

static void test_writer_refuses_what_no_reader_takes(void **state)
{
    (void)state;
    struct msg m;
    struct buf *frames[1 + MSG_TENSORS_MAX];
    size_t n;
    msg_init(&m, MSG_ACK, "r");
    msg_add_scalar(&m, "x", NAN);
    assert_int_equal(msg_encode(&m, frames, &n), ERR_RANGE);
    msg_init(&m, MSG_ACK, "r");
    m.step = UINT64_C(1) << 53;
    assert_int_equal(msg_encode(&m, frames, &n), ERR_RANGE);
    assert_int_equal(n, 0);
}

static void test_text_becomes_one_printable_line(void **state)
{
    (void)state;
    struct msg m, back;
    msg_init(&m, MSG_ERROR, "r");
    strcpy(m.text, "a\nb\xc3\xa9");
    decode_again(&m, &back);
    assert_string_equal(back.text, "a?b??");
}

/* ---- headers that are refused ---- */

static void test_no_frame_and_no_bytes(void **state)
{
    (void)state;
    struct msg m;
    enum reason why = 0;
    assert_int_equal(msg_decode(NULL, 0, &m, &why, NULL), ERR_FORMAT);
    assert_int_equal(why, REASON_BAD_HEADER);
    expect_bytes("", 0, NULL, 0, REASON_BAD_HEADER);
}

static void test_malformed_msgpack(void **state)
{
    (void)state;
    expect_bytes("\x90", 1, NULL, 0, REASON_BAD_HEADER);                          /* a list */
    expect_bytes("\x80", 1, NULL, 0, REASON_BAD_HEADER);                          /* no version */
    expect_bytes("\xc1", 1, NULL, 0, REASON_BAD_HEADER);                          /* never used */
    expect_bytes("\x80\x80", 2, NULL, 0, REASON_BAD_HEADER);                      /* two objects */
    expect_bytes("\x82\xa7version\x01", 10, NULL, 0, REASON_BAD_HEADER);          /* ends early */
    expect_bytes("\x81\xdb\xff\xff\xff\xff", 6, NULL, 0, REASON_BAD_HEADER);      /* a string of 4 GiB */
    expect_bytes("\xdf\x80\x00\x00\x00", 5, NULL, 0, REASON_BAD_HEADER);          /* 2^31 pairs */
    expect_bytes("\xdd\xff\xff\xff\xff", 5, NULL, 0, REASON_BAD_HEADER);          /* 2^32 - 1 items */
    expect_bytes("\x81\x01\x01", 3, NULL, 0, REASON_BAD_HEADER);                  /* a key that is a number */
    expect_bytes("\x81\xa1x\x91\x91\x91\x91\x01", 8, NULL, 0, REASON_BAD_HEADER); /* depth 5 */
}

static void test_header_over_the_limit(void **state)
{
    (void)state;
    struct wire w;
    char *pad = calloc(1, MSG_HEADER_MAX + 1);
    memset(pad, 'x', MSG_HEADER_MAX);
    wire_begin(&w, 1);
    put_string(&w, "unknown");
    put_string(&w, pad);
    expect(&w, REASON_TOO_LARGE);
    free(pad);
}

static void test_version_and_type(void **state)
{
    (void)state;
    struct wire w;
    wire_init(&w, 1);
    put_number(&w, "version", PROTO_VERSION + 1);
    expect(&w, REASON_BAD_VERSION);
    wire_init(&w, 1);
    put_number(&w, "version", PROTO_VERSION);
    expect(&w, REASON_BAD_TYPE);
    wire_init(&w, 2);
    put_number(&w, "version", PROTO_VERSION);
    put_number(&w, "type", MSG_TYPE_END);
    expect(&w, REASON_BAD_TYPE);
}

static void test_unknown_keys_are_skipped_and_double_keys_refused(void **state)
{
    (void)state;
    struct wire w;
    wire_begin(&w, 2);
    put_number(&w, "of_the_future", 1);
    put_string(&w, "nested");
    msgpack_pack_array(&w.p, 1);
    msgpack_pack_nil(&w.p);
    expect(&w, 0);
    wire_begin(&w, 2);
    put_number(&w, "slot", 1);
    put_number(&w, "slot", 1);
    expect(&w, REASON_BAD_HEADER);
}

static void test_numbers_have_types_and_ranges(void **state)
{
    (void)state;
    struct wire w;
    wire_begin(&w, 1);
    put_string(&w, "step");
    msgpack_pack_int64(&w.p, -1);
    expect(&w, REASON_BAD_FIELD);
    wire_begin(&w, 1);
    put_string(&w, "step");
    msgpack_pack_double(&w.p, 1);
    expect(&w, REASON_BAD_FIELD);
    wire_begin(&w, 1);
    put_number(&w, "step", UINT64_C(1) << 53);
    expect(&w, REASON_OUT_OF_RANGE);
    wire_begin(&w, 1);
    put_number(&w, "slot", UINT64_C(1) << 32);
    expect(&w, REASON_OUT_OF_RANGE);
    wire_begin(&w, 1);
    put_number(&w, "worker", UINT64_MAX);
    expect(&w, 0);
}

static void test_texts_have_limits(void **state)
{
    (void)state;
    struct wire w;
    char run[MSG_RUN_MAX + 1] = "";
    memset(run, 'r', MSG_RUN_MAX);
    wire_begin(&w, 1);
    put_string(&w, "run");
    put_string(&w, run);
    expect(&w, REASON_BAD_FIELD);
    wire_begin(&w, 1);
    put_string(&w, "run");
    put_string(&w, "two\nlines");
    expect(&w, REASON_BAD_FIELD);
    wire_begin(&w, 1);
    put_string(&w, "text");
    msgpack_pack_nil(&w.p);
    expect(&w, REASON_BAD_FIELD);
}

static void put_scalar(struct wire *w, const char *name, double value)
{
    wire_begin(w, 1);
    put_string(w, "scalars");
    msgpack_pack_map(&w->p, 1);
    put_string(w, name);
    msgpack_pack_double(&w->p, value);
}

static void test_scalars(void **state)
{
    (void)state;
    struct wire w;
    put_scalar(&w, "loglik", -2);
    expect(&w, 0);
    put_scalar(&w, "loglik", INFINITY);
    expect(&w, REASON_NON_FINITE);
    put_scalar(&w, "LogLik", 1);
    expect(&w, REASON_BAD_FIELD);
    put_scalar(&w, "a_name_of_24_characters_", 1);
    expect(&w, REASON_BAD_FIELD);
    wire_begin(&w, 1);
    put_string(&w, "scalars");
    msgpack_pack_map(&w.p, MSG_SCALARS_MAX + 1);
    for (int i = 0; i <= MSG_SCALARS_MAX; i++)
        put_number(&w, (char[]){(char)('a' + i), 0}, 1);
    expect(&w, REASON_TOO_LARGE);
}

/* ---- tensors ---- */

/* One declared tensor against frames of the given sizes. */
static void expect_tensor(const char *name, const char *dtype, size_t rank, const uint64_t *shape, size_t frame_bytes,
                          enum reason reason)
{
    struct wire w;
    wire_begin(&w, 1);
    put_string(&w, "tensors");
    msgpack_pack_array(&w.p, 1);
    msgpack_pack_array(&w.p, 3);
    put_string(&w, name);
    put_string(&w, dtype);
    msgpack_pack_array(&w.p, rank);
    for (size_t i = 0; i < rank; i++)
        msgpack_pack_uint64(&w.p, shape[i]);
    struct buf *frame = buf_new(frame_bytes);
    memset(frame->data, 0, frame->size);
    expect_bytes(w.bytes.data, w.bytes.size, &frame, 1, reason);
    msgpack_sbuffer_destroy(&w.bytes);
}

static void test_tensors_must_match_their_frames(void **state)
{
    (void)state;
    const uint64_t good[] = {2, 3}, huge[] = {UINT64_C(1) << 40, UINT64_C(1) << 40}, wrap[] = {UINT64_C(1) << 62, 4};
    const uint64_t empty[] = {0, 5}, deep[] = {1, 1, 1, 1, 1};
    expect_tensor("h", "F32", 2, good, 24, 0);
    expect_tensor("h", "F32", 2, empty, 0, 0);
    expect_tensor("h", "F32", 0, NULL, 4, 0);
    expect_tensor("h", "F32", 2, good, 23, REASON_BAD_SHAPE);
    expect_tensor("h", "F64", 2, good, 24, REASON_BAD_SHAPE);
    expect_tensor("h", "F32", 2, huge, 24, REASON_BAD_SHAPE);
    expect_tensor("h", "F32", 2, wrap, 0, REASON_BAD_SHAPE);
    expect_tensor("h", "F32", 5, deep, 4, REASON_BAD_SHAPE);
    expect_tensor("h", "F16", 2, good, 24, REASON_BAD_DTYPE);
    expect_tensor("h/..", "F32", 2, good, 24, REASON_BAD_FIELD);
}

static void test_frames_must_match_the_list(void **state)
{
    (void)state;
    struct wire w;
    struct buf *frame = buf_copy("x", 1);
    wire_begin(&w, 0);
    expect_bytes(w.bytes.data, w.bytes.size, &frame, 1, REASON_BAD_SHAPE);
    msgpack_sbuffer_destroy(&w.bytes);
    wire_begin(&w, 1);
    put_string(&w, "tensors");
    msgpack_pack_array(&w.p, 1);
    msgpack_pack_nil(&w.p);
    expect(&w, REASON_BAD_SHAPE); /* one declared, none came */
}

static void test_two_tensors_of_one_name(void **state)
{
    (void)state;
    struct msg m;
    struct buf *frames[1 + MSG_TENSORS_MAX];
    size_t n;
    enum reason why = 0;
    msg_init(&m, MSG_STATS, "");
    for (int i = 0; i < 2; i++)
        assert_int_equal(msg_add_tensor(&m, "x", DTYPE_U8, 1, (uint64_t[]){1}, buf_copy("x", 1)), 0);
    assert_int_equal(msg_encode(&m, frames, &n), 0);
    msg_fini(&m);
    assert_int_equal(msg_decode(frames, n, &m, &why, NULL), ERR_FORMAT);
    assert_int_equal(why, REASON_BAD_FIELD);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
}

/* The answer to a refused message should name it. */
static void test_refused_message_keeps_its_name(void **state)
{
    (void)state;
    struct wire w;
    struct msg m;
    enum reason why = 0;
    wire_begin(&w, 3);
    put_number(&w, "text", 5); /* wrong, and written before what is still wanted */
    put_number(&w, "step", 7);
    put_number(&w, "slot", 2);
    struct buf *header = buf_copy(w.bytes.data, w.bytes.size);
    assert_int_equal(msg_decode(&header, 1, &m, &why, NULL), ERR_FORMAT);
    assert_int_equal(m.type, MSG_STATS);
    assert_int_equal(m.step, 7);
    assert_int_equal(m.slot, 2);
    buf_unref(&header);
    msgpack_sbuffer_destroy(&w.bytes);
}

static void test_lookup_of_tensors_and_scalars(void **state)
{
    (void)state;
    struct msg m;
    enum reason why = 0;
    float values[2] = {1, 2};
    msg_init(&m, MSG_STATS, "");
    assert_int_equal(msg_add_tensor(&m, "h", DTYPE_F32, 1, (uint64_t[]){2}, buf_copy(values, sizeof values)), 0);
    assert_non_null(msg_tensor(&m, "h", DTYPE_F32, &why));
    assert_null(msg_tensor(&m, "g", DTYPE_F32, &why));
    assert_int_equal(why, REASON_BAD_FIELD);
    assert_null(msg_tensor(&m, "h", DTYPE_U32, &why));
    assert_int_equal(why, REASON_BAD_DTYPE);
    assert_null(msg_tensor_checked(&m, "h", DTYPE_F32, 1, (uint64_t[]){3}, &why));
    assert_int_equal(why, REASON_BAD_SHAPE);
    assert_null(msg_tensor_checked(&m, "h", DTYPE_F32, 2, (uint64_t[]){2, 1}, &why));
    assert_int_equal(why, REASON_BAD_SHAPE);
    assert_non_null(msg_tensor_checked(&m, "h", DTYPE_F32, 1, (uint64_t[]){2}, &why));
    ((float *)(void *)m.tensors[0].data->data)[1] = NAN;
    assert_null(msg_tensor_checked(&m, "h", DTYPE_F32, 1, (uint64_t[]){2}, &why));
    assert_int_equal(why, REASON_NON_FINITE);
    assert_true(msg_scalar(&m, "x", -3) == -3);
    assert_int_equal(msg_add_scalar(&m, "x", 4), 0);
    assert_true(msg_scalar(&m, "x", -3) == 4);
    msg_fini(&m);
}

static void test_names_of_types_and_reasons(void **state)
{
    (void)state;
    for (int i = 1; i < MSG_TYPE_END; i++)
        assert_string_not_equal(msg_type_name(i), "unknown");
    for (int i = 1; i < REASON_END; i++)
        assert_string_not_equal(reason_name(i), "unknown");
    assert_string_equal(msg_type_name(MSG_TYPE_END), "unknown");
    assert_string_equal(reason_name((enum reason) - 1), "unknown");
}

static void test_what_a_hostile_sender_provokes_is_not_passing(void **state)
{
    (void)state;
    unsigned passing = 0;
    for (enum reason why = 0; why <= REASON_END; why++)
        passing += reason_is_passing(why);
    assert_int_equal(passing, 4);
    assert_true(reason_is_passing(REASON_OVERLAP) && reason_is_passing(REASON_UNKNOWN_VERSION));
    assert_false(reason_is_passing(REASON_BAD_VALUE) || reason_is_passing(REASON_FUTURE_STEP));
}

/* ---- the outbox ---- */

static void test_outbox_takes_messages_over(void **state)
{
    (void)state;
    struct outbox o = {0};
    struct peer p = {.size = 2, .id = "ab"}, q = {.size = 2, .id = "ac"};
    assert_true(peer_equal(&p, &p));
    assert_false(peer_equal(&p, &q));
    for (uint32_t i = 0; i < 40; i++) {
        struct msg m;
        msg_init(&m, MSG_ACK, "r");
        m.slot = i;
        assert_int_equal(msg_add_tensor(&m, "x", DTYPE_U8, 1, (uint64_t[]){1}, buf_copy("x", 1)), 0);
        int rc = i == 0 ? outbox_publish(&o, "mixture", &m)
                        : (i == 1 ? outbox_to_server(&o, SERVER_PROTOTYPE, &m) : outbox_to_peer(&o, &p, &m));
        assert_int_equal(rc, 0);
        assert_int_equal(m.tensor_count, 0);
    }
    assert_int_equal(o.count, 40);
    assert_string_equal(o.items[0].topic, "mixture");
    assert_int_equal(o.items[1].kind, OUT_SERVER);
    assert_int_equal(o.items[1].server, SERVER_PROTOTYPE);
    assert_true(peer_equal(&o.items[39].peer, &p));
    assert_int_equal(o.items[39].msg.slot, 39);
    outbox_clear(&o);
    assert_int_equal(o.count, 0);
    assert_true(o.room >= 40);
    outbox_fini(&o);
    assert_null(o.items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_message_is_version_and_type),
        cmocka_unit_test(test_full_message_reads_back),
        cmocka_unit_test(test_limits_of_lists),
        cmocka_unit_test(test_misaligned_frame_is_copied),
        cmocka_unit_test(test_writer_refuses_what_no_reader_takes),
        cmocka_unit_test(test_text_becomes_one_printable_line),
        cmocka_unit_test(test_no_frame_and_no_bytes),
        cmocka_unit_test(test_malformed_msgpack),
        cmocka_unit_test(test_header_over_the_limit),
        cmocka_unit_test(test_version_and_type),
        cmocka_unit_test(test_unknown_keys_are_skipped_and_double_keys_refused),
        cmocka_unit_test(test_numbers_have_types_and_ranges),
        cmocka_unit_test(test_texts_have_limits),
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_tensors_must_match_their_frames),
        cmocka_unit_test(test_frames_must_match_the_list),
        cmocka_unit_test(test_two_tensors_of_one_name),
        cmocka_unit_test(test_refused_message_keeps_its_name),
        cmocka_unit_test(test_lookup_of_tensors_and_scalars),
        cmocka_unit_test(test_names_of_types_and_reasons),
        cmocka_unit_test(test_what_a_hostile_sender_provokes_is_not_passing),
        cmocka_unit_test(test_outbox_takes_messages_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
