/* The training step of one worker thread: teacher forward on 2 views, student forward, CARP with K = 1024, backward;
 * images per second for each slot size, the best time of each part, which share of the core's peak the step's products
 * are (tests/bench/peak.h; counted as plain sums, whatever is saved), and what each convolution achieves. The network
 * matches tests/bench/bench_torch.py; tests/bench/compare.sh runs both. Times are the thread's CPU clock. Usage:
 * bench_model [conv|vit|resnet|resnet-batch, -w32: so wide, -bf16 at the end: in that precision] [slot sizes]. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "proto/run_config.h"
#include "tests/bench/peak.h"
#include "worker/loss/loss.h"
#include "worker/nn/conv.h"
#include "worker/nn/model.h"

enum { K = 1024, BLOCK = 256, PARTS = 4, WARM_STEPS = 2, SIDE = 28 };
static const double SECONDS = 2.5; /* measured per slot size */

struct bench {
    struct model *model;
    struct model_workspace *ws;
    struct loss_workspace *loss;
    struct loss_options options;
    uint32_t b;
    real *student, *teacher, *buffers, *images, *zs, *zt, *dz, *grad, *prototypes;
    uint32_t order[K];
    double part[PARTS]; /* least seconds in teacher forward, student forward, loss, backward */
};

/* The thread's CPU clock, so that other programs cost little. */
static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t n)
{
    void *p = calloc(n, sizeof(real));
    if (!p)
        abort();
    return p;
}

static struct model_spec spec_of(const char *name)
{
    struct model_spec spec = {.height = SIDE,
                              .width = SIDE,
                              .channels = 1,
                              .stages = 4,
                              .widths = {24, 48, 96, 192},
                              .groups = 8,
                              .patch = 4,
                              .dim = 128,
                              .depth = 4,
                              .heads = 4,
                              .mlp = 2,
                              .pool = VIT_POOL_CLS,
                              .hidden = 256,
                              .projection = 128,
                              .layers = RESNET_18,
                              .base = 16};
    spec.family = strncmp(name, "vit", 3) == 0      ? ENCODER_VIT
                  : strncmp(name, "resnet", 6) == 0 ? ENCODER_RESNET
                                                    : ENCODER_CONV;
    spec.precision = strstr(name, "-bf16") ? PRECISION_BF16 : PRECISION_FLOAT32;
    const char *wide = strstr(name, "-w");
    if (wide)
        spec.base = (uint32_t)strtoul(wide + 2, NULL, 10);
    spec.norm = strncmp(name, "resnet-batch", 12) == 0 ? ENCODER_NORM_BATCH : ENCODER_NORM_GROUP;
    return spec;
}

static void fill_inputs(struct bench *t, size_t pixels, size_t width)
{
    struct rng r;
    rng_open(&r, 1, RNG_INIT, 1000, 0, 0);
    for (size_t i = 0; i < pixels; i++)
        t->images[i] = (real)rng_normal(&r);
    for (size_t i = 0; i < K * width; i++)
        t->prototypes[i] = (real)rng_normal(&r);
    vec_normalise_rows(t->prototypes, K, width, NULL);
    for (uint32_t k = 0; k < K; k++)
        t->order[k] = k;
    rng_shuffle(&r, t->order, K);
}

static void bench_open(struct bench *t, const struct model_spec *spec, uint32_t b)
{
    struct error e;
    memset(t, 0, sizeof *t);
    if (model_new(spec, &t->model, &e) != 0 || model_workspace_new(t->model, 2 * b, &t->ws) != 0)
        abort();
    const struct manifest *m = model_manifest(t->model);
    size_t pixels = (size_t)2 * b * SIDE * SIDE, outputs = (size_t)2 * b * spec->projection;
    t->b = b;
    t->options = (struct loss_options){.objective = LOSS_CARP,
                                       .b = b,
                                       .K = K,
                                       .D = spec->projection,
                                       .block = BLOCK,
                                       .tau_s = 0.1f,
                                       .tau_t = 0.1f,
                                       .entropy_weight = 3,
                                       .normalise = 1};
    if (loss_workspace_new(&t->options, &t->loss) != 0)
        abort();
    t->student = take(m->parameter_floats);
    t->teacher = take(m->parameter_floats);
    t->grad = take(m->parameter_floats);
    t->buffers = take(m->buffer_floats);
    t->images = take(pixels);
    t->zs = take(outputs);
    t->zt = take(outputs);
    t->dz = take(outputs);
    t->prototypes = take((size_t)K * spec->projection);
    model_init(t->model, 1, t->student, t->buffers);
    model_init(t->model, 2, t->teacher, t->buffers);
    fill_inputs(t, pixels, spec->projection);
}

static void bench_close(struct bench *t)
{
    real *all[] = {t->student, t->teacher, t->grad, t->buffers, t->images, t->zs, t->zt, t->dz, t->prototypes};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    loss_workspace_free(&t->loss);
    model_workspace_free(&t->ws);
    model_free(&t->model);
}

static void step(struct bench *t)
{
    uint32_t rows = 2 * t->b;
    struct loss_result result;
    double at[PARTS + 1];
    at[0] = cpu_now();
    model_forward(t->model, MODEL_TEACHER, t->teacher, t->buffers, t->images, rows, t->ws, NULL, t->zt);
    at[1] = cpu_now();
    model_forward(t->model, MODEL_TRAIN, t->student, t->buffers, t->images, rows, t->ws, NULL, t->zs);
    at[2] = cpu_now();
    loss_decoupled(&t->options, t->zs, t->zt, t->prototypes, t->order, NULL, t->loss, &result, t->dz);
    at[3] = cpu_now();
    model_backward(t->model, t->student, t->dz, NULL, t->ws, t->grad);
    at[4] = cpu_now();
    for (int i = 0; i < PARTS; i++)
        t->part[i] = at[i + 1] - at[i] < t->part[i] ? at[i + 1] - at[i] : t->part[i];
}

/* Multiply-adds of a view's step: forward twice, backward once; *width becomes the features'. The first convolution has
 * no input gradient. */
static double conv_products(const struct model_spec *s, uint32_t *width)
{
    uint32_t side = s->height, in = s->channels;
    double sum = 0;
    for (uint32_t i = 0; i < s->stages; i++) {
        side = (side + 1) / 2;
        sum += (i == 0 ? 3 : 4) * 9.0 * side * side * in * s->widths[i];
        in = s->widths[i];
    }
    *width = in;
    return sum;
}

/* ResNet-18: a stem, four stages of two blocks. */
static double resnet_products(const struct model_spec *s, uint32_t *width)
{
    uint32_t side = s->height, in = s->base;
    double sum = 3 * 9.0 * side * side * s->channels * in;
    for (uint32_t stage = 0; stage < 4; stage++) {
        uint32_t out = s->base << stage;
        side = stage > 0 ? (side + 1) / 2 : side;
        sum += 4 * 9.0 * side * side * out * (in + 3.0 * out) + (stage > 0 ? 4.0 * side * side * in * out : 0);
        in = out;
    }
    *width = in;
    return sum;
}

/* A vision transformer with a CLS token: patches, blocks, and the last block for that token alone (cls_attention.h). */
static double vit_products(const struct model_spec *s, uint32_t *width)
{
    double patches = (double)s->height / s->patch * s->width / s->patch, tokens = patches + 1, dim = s->dim;
    double rest = dim * dim + 2 * dim * s->mlp * dim; /* of a block, a token: after attention */
    double block = tokens * (3 * dim * dim + 2 * tokens * dim + rest);
    double last = 3 * dim * dim + 2 * tokens * s->heads * dim + rest;
    *width = s->dim;
    return 3 * patches * s->patch * s->patch * s->channels * dim + 4 * ((s->depth - 1) * block + last);
}

/* Operations of the products of one image's step. */
static double step_flops(const struct model_spec *s)
{
    uint32_t in;
    double encoder = s->family == ENCODER_CONV     ? conv_products(s, &in)
                     : s->family == ENCODER_RESNET ? resnet_products(s, &in)
                                                   : vit_products(s, &in);
    double hidden = s->hidden, head = 4 * (in * hidden + hidden * hidden + hidden * s->projection);
    return 2 * 2 * (encoder + head + 3.0 * K * s->projection);
}

static void measure(const char *name, const struct model_spec *spec, uint32_t b, double peak)
{
    struct bench t;
    bench_open(&t, spec, b);
    for (int i = 0; i < WARM_STEPS; i++)
        step(&t);
    for (int i = 0; i < PARTS; i++)
        t.part[i] = 1e9;
    double begin = cpu_now(), end = begin, best = 1e9;
    int steps = 0;
    for (; end - begin < SECONDS; steps++) {
        double from = end;
        step(&t);
        end = cpu_now();
        best = end - from < best ? end - from : best;
    }
    double scale = 1e6 / b;
    printf("bench=step model=%s b=%u kernels=%s images_per_s=%.0f best_images_per_s=%.0f teacher_us=%.1f "
           "student_us=%.1f loss_us=%.1f backward_us=%.1f",
           name, b, kernels_name(kernels_chosen()), (double)b * steps / (end - begin), b / best, t.part[0] * scale,
           t.part[1] * scale, t.part[2] * scale, t.part[3] * scale);
    printf(" mflop_per_image=%.1f peak_gflops=%.1f peak_share=%.2f\n", step_flops(spec) / 1e6, peak,
           step_flops(spec) * b / best / peak / 1e9);
    fflush(stdout);
    bench_close(&t);
}

enum product { FORWARD, INPUT, WEIGHT };

/* Best of a few runs over one block of samples, in GFLOP/s. */
static double conv_rate(const struct conv *c, enum product which, const real *x, const real *packed, real *y, real *d)
{
    double products = 9.0 * c->out_height * c->out_width, best = 1e9;
    if (which == INPUT)
        products = (double)c->input_rows[0] + 2.0 * (double)(c->input_rows[1] + c->input_rows[2]) +
                   4.0 * (double)c->input_rows[3];
    double flops = 2 * products * c->shape.in * c->shape.out * c->block;
    for (int run = 0; run < 400; run++) {
        double from = cpu_now();
        if (which == FORWARD)
            conv_forward(c, c->block, x, packed, NULL, y);
        else if (which == INPUT)
            conv_backward_input(c, c->block, y, packed, NULL, d);
        else
            conv_backward_weight(c, c->block, x, y, NULL, d);
        double took = cpu_now() - from;
        best = took < best ? took : best;
    }
    return flops / best / 1e9;
}

static void measure_layers(const struct model_spec *spec)
{
    uint32_t side = spec->height, in = spec->channels;
    for (uint32_t i = 0; i < spec->stages; i++) {
        struct conv c;
        if (conv_init(&c, (struct conv_shape){side, side, in, spec->widths[i], 2},
                      i > 0 ? spec->precision : PRECISION_FLOAT32) != 0)
            abort();
        size_t packed_size = conv_packed_forward_size(&c) + conv_packed_backward_size(&c);
        real *x = take(c.block * conv_padded_size(&c)), *y = take(c.block * conv_delta_size(&c));
        real *packed = take(packed_size), *d = take(c.block * conv_padded_size(&c) + conv_gradient_size(&c));
        double rate[3];
        for (int which = FORWARD; which <= WEIGHT; which++)
            rate[which] = conv_rate(&c, which, x, packed, y, d);
        printf("bench=conv layer=%u block=%u forward_gflops=%.1f input_gflops=%.1f weight_gflops=%.1f\n", i + 1,
               c.block, rate[FORWARD], rate[INPUT], rate[WEIGHT]);
        side = c.out_height;
        in = c.shape.out;
        free(x);
        free(y);
        free(packed);
        free(d);
        conv_fini(&c);
    }
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "conv";
    static const uint32_t sizes[] = {64, 128, 256};
    struct model_spec spec = spec_of(name);
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    if (spec.precision == PRECISION_BF16 && !kernels_multiply_bf16(kernels_chosen())) {
        fprintf(stderr, "bench_model: this processor, or DECANT_KERNELS, does not multiply bf16\n");
        return 1;
    }
    double peak = peak_gflops(kernels_chosen());
    if (argc > 2)
        for (int i = 2; i < argc; i++)
            measure(name, &spec, (uint32_t)strtoul(argv[i], NULL, 10), peak);
    else
        for (int i = 0; i < 3; i++)
            measure(name, &spec, sizes[i], peak);
    if (spec.family == ENCODER_CONV)
        measure_layers(&spec);
    return 0;
}
