/* The bytes of a small model, field by field, against protobuf's own description. */
#include "cli/onnx_graph.h"
#include "tests/unit/cli/checkpoint_rig.h"

/* y = 2 x, of shape (N, 3), with one attribute of each kind. */
static void build(struct onnx_graph *g)
{
    onnx_graph_init(g);
    onnx_input(g, "x", 2, (const int64_t[]){ONNX_BATCH, 3});
    onnx_output(g, "y", 2, (const int64_t[]){ONNX_BATCH, 3});
    onnx_floats(g, "two", 1, (const int64_t[]){1}, (const float[]){2});
    onnx_integers(g, "n", 2, (const int64_t[]){0, -1});
    onnx_node(g, &(struct onnx_node){.op = "Mul",
                                     .in = {"x", "two"},
                                     .out = "y",
                                     .attributes = {{.name = "i", .number = 300},
                                                    {.name = "f", .is_float = true, .number = 0.5},
                                                    {.name = "v", .integers = (const int64_t[]){1, -2}, .n = 2}}});
}

static const struct onnx_model model = {
    .name = "g", .producer_version = "1", .description = "d", .keys = {"k"}, .values = {"v"}};

#define BYTES(...) ((const unsigned char[]){__VA_ARGS__}), sizeof((const unsigned char[]){__VA_ARGS__})

static void assert_next(const struct buf *b, size_t *at, const unsigned char *bytes, size_t size, const char *what)
{
    if (*at + size > b->size || memcmp(b->data + *at, bytes, size) != 0)
        fail_msg("%s at %zu", what, *at);
    *at += size;
}

static void test_bytes(void **state)
{
    struct rig *r = *state;
    struct onnx_graph g;
    struct buf *b;
    char path[160];
    size_t at = 0;
    build(&g);
    snprintf(path, sizeof path, "%s/m.onnx", r->root);
    assert_int_equal(onnx_graph_write(&g, path, &model, &r->e), 0);
    onnx_graph_fini(&g);
    assert_int_equal(file_read(path, 1 << 16, &b, &r->e), 0);
    assert_next(b, &at, BYTES(0x08, 7, 0x12, 6, 'd', 'e', 'c', 'a', 'n', 't', 0x1a, 1, '1', 0x32, 1, 'd'), "model");
    assert_next(b, &at, BYTES(0x3a, 0x9d, 0x01, 0x12, 1, 'g'), "graph, of 157 bytes");
    assert_next(b, &at, BYTES(0x0a, 64, 0x0a, 1, 'x', 0x0a, 3, 't', 'w', 'o', 0x12, 1, 'y', 0x1a, 1, 'y'), "node");
    assert_next(b, &at, BYTES(0x22, 3, 'M', 'u', 'l'), "operator");
    assert_next(b, &at, BYTES(0x2a, 9, 0x0a, 1, 'i', 0x18, 0xac, 0x02, 0xa0, 0x01, 2), "integer 300");
    assert_next(b, &at, BYTES(0x2a, 11, 0x0a, 1, 'f', 0x15, 0, 0, 0, 0x3f, 0xa0, 0x01, 1), "float 0.5");
    assert_next(b, &at, BYTES(0x2a, 19, 0x0a, 1, 'v', 0x40, 1, 0x40), "integers");
    assert_next(b, &at, BYTES(0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0xa0, 0x01, 7), "-2, in ten bytes");
    assert_next(b, &at, BYTES(0x2a, 15, 0x08, 1, 0x10, 1, 0x42, 3, 't', 'w', 'o', 0x4a, 4, 0, 0, 0, 0x40), "two");
    assert_next(b, &at, BYTES(0x2a, 25, 0x08, 2, 0x10, 7, 0x42, 1, 'n', 0x4a, 16), "n, int64 (2)");
    assert_next(b, &at, BYTES(0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255), "0 and -1");
    for (unsigned char name = 'x'; name <= 'y'; name++) {
        unsigned char field = name == 'x' ? 0x5a : 0x62;
        assert_next(b, &at, BYTES(field, 20, 0x0a, 1, name, 0x12, 15, 0x0a, 13, 0x08, 1, 0x12, 9), "a float tensor");
        assert_next(b, &at, BYTES(0x0a, 3, 0x12, 1, 'N', 0x0a, 2, 0x08, 3), "of N by 3");
    }
    assert_next(b, &at, BYTES(0x42, 2, 0x10, 13), "opset");
    assert_next(b, &at, BYTES(0x72, 6, 0x0a, 1, 'k', 0x12, 1, 'v'), "metadata");
    assert_int_equal(at, b->size);
    buf_unref(&b);
}

/* Another run of the same gives the same bytes; a place that is not there is said. */
static void test_again(void **state)
{
    struct rig *r = *state;
    char path[2][160];
    struct buf *b[2];
    for (int i = 0; i < 2; i++) {
        struct onnx_graph g;
        build(&g);
        snprintf(path[i], sizeof path[i], "%s/%d.onnx", r->root, i);
        assert_int_equal(onnx_graph_write(&g, path[i], &model, &r->e), 0);
        assert_int_equal(file_read(path[i], 1 << 16, &b[i], &r->e), 0);
        onnx_graph_fini(&g);
    }
    assert_int_equal(b[0]->size, b[1]->size);
    assert_memory_equal(b[0]->data, b[1]->data, b[0]->size);
    buf_unref(&b[0]);
    buf_unref(&b[1]);
    struct onnx_graph g;
    build(&g);
    assert_int_not_equal(onnx_graph_write(&g, "/absent/m.onnx", &model, &r->e), 0);
    g.nodes.failed = true;
    assert_int_equal(onnx_graph_write(&g, path[0], &model, &r->e), ERR_MEMORY);
    onnx_graph_fini(&g);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {CASE(test_bytes), CASE(test_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
