/* Messages are built from the inside out: each in a buffer of its own, then as a field of the one around it. */
#include "cli/onnx_graph.h"

#include <stdlib.h>
#include <string.h>
#include "common/files.h"

enum wire { WIRE_VARINT = 0, WIRE_BYTES = 2, WIRE_32 = 5 };

/* Field numbers of onnx.proto. */
enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER_NAME = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_DOC_STRING = 6,
    MODEL_GRAPH = 7,
    MODEL_OPSET_IMPORT = 8,
    MODEL_METADATA_PROPS = 14,
    OPSET_VERSION = 2,
    ENTRY_KEY = 1,
    ENTRY_VALUE = 2,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_OP_TYPE = 4,
    NODE_ATTRIBUTE = 5,
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_F = 2,
    ATTRIBUTE_I = 3,
    ATTRIBUTE_INTS = 8,
    ATTRIBUTE_TYPE = 20,
    TENSOR_DIMS = 1,
    TENSOR_DATA_TYPE = 2,
    TENSOR_NAME = 8,
    TENSOR_RAW_DATA = 9,
    VALUE_NAME = 1,
    VALUE_TYPE = 2,
    TYPE_TENSOR = 1,
    TENSOR_TYPE_ELEM = 1,
    TENSOR_TYPE_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_PARAM = 2,
};
/* Values of its enumerations. */
enum { ATTRIBUTE_IS_FLOAT = 1, ATTRIBUTE_IS_INT = 2, ATTRIBUTE_IS_INTS = 7, DATA_FLOAT = 1, DATA_INT64 = 7 };

/* ---- protobuf ---- */

static void put(struct onnx_bytes *b, const void *data, size_t size)
{
    if (b->failed || size == 0)
        return;
    if (size > b->room - b->size) {
        size_t room = b->room ? 2 * b->room : 256;
        while (room < b->size + size)
            room *= 2;
        unsigned char *bigger = realloc(b->data, room);
        if (bigger == NULL) {
            b->failed = true;
            return;
        }
        b->data = bigger;
        b->room = room;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_varint(struct onnx_bytes *b, uint64_t value)
{
    unsigned char bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (unsigned char)(value | 0x80);
    bytes[n++] = (unsigned char)value;
    put(b, bytes, n);
}

static void put_key(struct onnx_bytes *b, unsigned field, enum wire wire)
{
    put_varint(b, (uint64_t)field << 3 | wire);
}

static void put_integer(struct onnx_bytes *b, unsigned field, int64_t value)
{
    put_key(b, field, WIRE_VARINT);
    put_varint(b, (uint64_t)value);
}

static void put_bytes(struct onnx_bytes *b, unsigned field, const void *data, size_t size)
{
    put_key(b, field, WIRE_BYTES);
    put_varint(b, size);
    put(b, data, size);
}

static void put_text(struct onnx_bytes *b, unsigned field, const char *text)
{
    put_bytes(b, field, text, strlen(text));
}

/* message becomes a field of b, and is freed. */
static void put_message(struct onnx_bytes *b, unsigned field, struct onnx_bytes *message)
{
    b->failed = b->failed || message->failed;
    put_bytes(b, field, message->data, message->size);
    free(message->data);
    *message = (struct onnx_bytes){0};
}

/* ---- the graph ---- */

void onnx_graph_init(struct onnx_graph *g)
{
    *g = (struct onnx_graph){0};
}

void onnx_graph_fini(struct onnx_graph *g)
{
    free(g->nodes.data);
    free(g->initializers.data);
    free(g->inputs.data);
    free(g->outputs.data);
    onnx_graph_init(g);
}

static void put_value(struct onnx_bytes *to, unsigned field, const char *name, size_t rank, const int64_t *shape)
{
    struct onnx_bytes value = {0}, type = {0}, tensor = {0}, dims = {0};
    for (size_t i = 0; i < rank; i++) {
        struct onnx_bytes dim = {0};
        if (shape[i] == ONNX_BATCH)
            put_text(&dim, DIM_PARAM, "N");
        else
            put_integer(&dim, DIM_VALUE, shape[i]);
        put_message(&dims, SHAPE_DIM, &dim);
    }
    put_integer(&tensor, TENSOR_TYPE_ELEM, DATA_FLOAT);
    put_message(&tensor, TENSOR_TYPE_SHAPE, &dims);
    put_message(&type, TYPE_TENSOR, &tensor);
    put_text(&value, VALUE_NAME, name);
    put_message(&value, VALUE_TYPE, &type);
    put_message(to, field, &value);
}

void onnx_input(struct onnx_graph *g, const char *name, size_t rank, const int64_t *shape)
{
    put_value(&g->inputs, GRAPH_INPUT, name, rank, shape);
}

void onnx_output(struct onnx_graph *g, const char *name, size_t rank, const int64_t *shape)
{
    put_value(&g->outputs, GRAPH_OUTPUT, name, rank, shape);
}

/* raw_data is little-endian, like everything this is built for. */
static void put_tensor(struct onnx_graph *g, const char *name, size_t rank, const int64_t *shape, int type,
                       const void *data, size_t item)
{
    struct onnx_bytes tensor = {0};
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) {
        put_integer(&tensor, TENSOR_DIMS, shape[i]);
        count *= (size_t)shape[i];
    }
    put_integer(&tensor, TENSOR_DATA_TYPE, type);
    put_text(&tensor, TENSOR_NAME, name);
    put_bytes(&tensor, TENSOR_RAW_DATA, data, count * item);
    put_message(&g->initializers, GRAPH_INITIALIZER, &tensor);
}

void onnx_floats(struct onnx_graph *g, const char *name, size_t rank, const int64_t *shape, const float *data)
{
    put_tensor(g, name, rank, shape, DATA_FLOAT, data, sizeof *data);
}

void onnx_integers(struct onnx_graph *g, const char *name, size_t n, const int64_t *data)
{
    const int64_t shape = (int64_t)n;
    put_tensor(g, name, 1, &shape, DATA_INT64, data, sizeof *data);
}

static void put_attribute(struct onnx_bytes *to, const struct onnx_attribute *a)
{
    struct onnx_bytes attribute = {0};
    put_text(&attribute, ATTRIBUTE_NAME, a->name);
    if (a->n > 0) {
        for (size_t i = 0; i < a->n; i++)
            put_integer(&attribute, ATTRIBUTE_INTS, a->integers[i]);
        put_integer(&attribute, ATTRIBUTE_TYPE, ATTRIBUTE_IS_INTS);
    } else if (a->is_float) {
        float value = (float)a->number;
        put_key(&attribute, ATTRIBUTE_F, WIRE_32);
        put(&attribute, &value, sizeof value);
        put_integer(&attribute, ATTRIBUTE_TYPE, ATTRIBUTE_IS_FLOAT);
    } else {
        put_integer(&attribute, ATTRIBUTE_I, (int64_t)a->number);
        put_integer(&attribute, ATTRIBUTE_TYPE, ATTRIBUTE_IS_INT);
    }
    put_message(to, NODE_ATTRIBUTE, &attribute);
}

void onnx_node(struct onnx_graph *g, const struct onnx_node *node)
{
    struct onnx_bytes n = {0};
    for (size_t i = 0; i < ONNX_INPUTS_MAX && node->in[i]; i++)
        put_text(&n, NODE_INPUT, node->in[i]);
    put_text(&n, NODE_OUTPUT, node->out);
    put_text(&n, NODE_NAME, node->out);
    put_text(&n, NODE_OP_TYPE, node->op);
    for (size_t i = 0; i < ONNX_ATTRIBUTES_MAX && node->attributes[i].name; i++)
        put_attribute(&n, &node->attributes[i]);
    put_message(&g->nodes, GRAPH_NODE, &n);
}

/* ---- the file ---- */

/* Everything before the graph's nodes, and what comes after it. The graph itself is not copied once more. */
static void put_model(const struct onnx_model *model, struct onnx_bytes *head, struct onnx_bytes *tail)
{
    struct onnx_bytes opset = {0};
    put_integer(head, MODEL_IR_VERSION, ONNX_IR);
    put_text(head, MODEL_PRODUCER_NAME, "decant");
    put_text(head, MODEL_PRODUCER_VERSION, model->producer_version);
    put_text(head, MODEL_DOC_STRING, model->description);
    put_integer(&opset, OPSET_VERSION, ONNX_OPSET);
    put_message(tail, MODEL_OPSET_IMPORT, &opset);
    for (size_t i = 0; i < sizeof model->keys / sizeof model->keys[0] && model->keys[i]; i++) {
        struct onnx_bytes entry = {0};
        put_text(&entry, ENTRY_KEY, model->keys[i]);
        put_text(&entry, ENTRY_VALUE, model->values[i]);
        put_message(tail, MODEL_METADATA_PROPS, &entry);
    }
}

int onnx_graph_write(const struct onnx_graph *g, const char *path, const struct onnx_model *model, struct error *e)
{
    struct onnx_bytes head = {0}, tail = {0}, name = {0};
    put_text(&name, GRAPH_NAME, model->name);
    put_model(model, &head, &tail);
    const struct onnx_bytes *const parts[] = {&name, &g->nodes, &g->initializers, &g->inputs, &g->outputs};
    struct file_part file[7];
    size_t graph = 0;
    bool failed = head.failed || tail.failed;
    for (size_t i = 0; i < 5; i++) {
        graph += parts[i]->size;
        failed = failed || parts[i]->failed;
        file[i + 1] = (struct file_part){parts[i]->data, parts[i]->size};
    }
    put_key(&head, MODEL_GRAPH, WIRE_BYTES);
    put_varint(&head, graph);
    failed = failed || head.failed;
    file[0] = (struct file_part){head.data, head.size};
    file[6] = (struct file_part){tail.data, tail.size};
    int rc = failed ? error_set(e, ERR_MEMORY, "%s: out of memory", path) : 0;
    if (rc == 0 && head.size + graph + tail.size > INT32_MAX)
        rc = error_set(e, ERR_RANGE, "%s: %zu bytes, and an ONNX file holds 2 GiB at most", path, graph);
    if (rc == 0)
        rc = file_write_atomic(path, file, 7, e);
    free(head.data);
    free(tail.data);
    free(name.data);
    return rc;
}
