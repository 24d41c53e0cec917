/* ONNX files, as far as our encoders need them: one graph of nodes on float tensors, written as the protobuf messages
 * of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (ModelProto and what it holds; field numbers are in the
 * .c file).
 *
 *   struct onnx_graph g;
 *   onnx_graph_init(&g);
 *   onnx_input(&g, "x", 2, (const int64_t[]){ONNX_BATCH, 3});
 *   onnx_floats(&g, "two", 1, (const int64_t[]){1}, (const float[]){2});
 *   onnx_node(&g, &(struct onnx_node){.op = "Mul", .in = {"x", "two"}, .out = "y"});
 *   onnx_output(&g, "y", 2, (const int64_t[]){ONNX_BATCH, 3});
 *   rc = onnx_graph_write(&g, path, &model, &e);
 *   onnx_graph_fini(&g);
 *
 * Lack of memory is remembered and reported by onnx_graph_write. Names are copied. */
#ifndef DECANT_CLI_ONNX_GRAPH_H
#define DECANT_CLI_ONNX_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/error.h"

enum {
    ONNX_OPSET = 13, /* of the default domain: since ONNX 1.8 (2020), and read by everything that is newer */
    ONNX_IR = 7,     /* version of the format that goes with it */
    ONNX_BATCH = -1, /* a dimension that the caller chooses: "N" */
    ONNX_INPUTS_MAX = 4,
    ONNX_ATTRIBUTES_MAX = 5,
};

struct onnx_bytes {
    unsigned char *data;
    size_t size, room;
    bool failed; /* out of memory: what followed is lost */
};

struct onnx_graph {
    struct onnx_bytes nodes, initializers, inputs, outputs;
};

/* name NULL: none. Several integers when n > 0, else one float or integer. */
struct onnx_attribute {
    const char *name;
    const int64_t *integers;
    size_t n;
    bool is_float;
    double number;
};

struct onnx_node {
    const char *op;
    const char *in[ONNX_INPUTS_MAX]; /* up to the first NULL */
    const char *out;                 /* also the node's name */
    struct onnx_attribute attributes[ONNX_ATTRIBUTES_MAX];
};

/* Of the file, for whoever opens it. */
struct onnx_model {
    const char *name, *producer_version, *description;
    const char *keys[4], *values[4]; /* metadata; up to the first NULL key */
};

void onnx_graph_init(struct onnx_graph *g);
void onnx_graph_fini(struct onnx_graph *g);

void onnx_input(struct onnx_graph *g, const char *name, size_t rank, const int64_t *shape);
void onnx_output(struct onnx_graph *g, const char *name, size_t rank, const int64_t *shape);
/* A constant; rank 0 is a scalar. */
void onnx_floats(struct onnx_graph *g, const char *name, size_t rank, const int64_t *shape, const float *data);
void onnx_integers(struct onnx_graph *g, const char *name, size_t n, const int64_t *data); /* a vector */
/* Nodes are to be added in an order in which every input is there before it is used. */
void onnx_node(struct onnx_graph *g, const struct onnx_node *node);

/* Atomic; the same graph gives the same bytes. ERR_MEMORY; ERR_RANGE over 2 GiB, which protobuf does not hold;
 * ERR_IO. */
int onnx_graph_write(const struct onnx_graph *g, const char *path, const struct onnx_model *model, struct error *e);

#endif
