/* One list of pairs, walked in both directions. */
#include "cli/huggingface.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/export_set.h"
#include "common/files.h"

enum { DEPTH_MAX = 64, PAIRS_MAX = 8 + 16 * DEPTH_MAX, PARTS = 3, SIZE_MAX_FLOATS = 1 << 30 };
static const double layer_norm_epsilon = 1e-5; /* as ours (worker/nn/layernorm.h); theirs has 1e-12 unless told */

enum turn {
    TURN_NONE,
    TURN_CLS,       /* (dim) and (1,1,dim) */
    TURN_POSITIONS, /* (T,dim) and (1,T,dim) */
    TURN_PATCHES,   /* (dim, P P C), pixels in rows, and (dim,C,P,P) */
};

struct pair {
    char ours[TENSOR_NAME_MAX], theirs[TENSOR_NAME_MAX];
    enum turn turn;
    uint32_t part, parts; /* theirs is that one of so many equal runs of rows of ours */
};

struct pairs {
    struct pair *items; /* (PAIRS_MAX) */
    size_t count;
};

/* ---- the list ---- */

static void add(struct pairs *p, const char *ours, const char *theirs, enum turn turn)
{
    struct pair *pair = &p->items[p->count++];
    *pair = (struct pair){.turn = turn, .parts = 1};
    snprintf(pair->ours, sizeof pair->ours, "%s", ours);
    snprintf(pair->theirs, sizeof pair->theirs, "%s", theirs);
}

/* .weight and .bias of a layer of block n, counted from 0. */
static void add_layer(struct pairs *p, uint32_t n, const char *ours, const char *theirs, uint32_t part, uint32_t parts)
{
    static const char *const kinds[] = {"weight", "bias"};
    for (int i = 0; i < 2; i++) {
        struct pair *pair = &p->items[p->count++];
        *pair = (struct pair){.part = part, .parts = parts};
        snprintf(pair->ours, sizeof pair->ours, "block%u.%s.%s", n + 1, ours, kinds[i]);
        snprintf(pair->theirs, sizeof pair->theirs, "encoder.layer.%u.%s.%s", n, theirs, kinds[i]);
    }
}

/* Parts of one tensor of ours follow one another. */
static int list_pairs(uint32_t depth, struct pairs *p, struct error *e)
{
    *p = (struct pairs){.items = calloc(PAIRS_MAX, sizeof *p->items)};
    if (p->items == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for a list of tensors");
    add(p, "embed.cls", "embeddings.cls_token", TURN_CLS);
    add(p, "embed.positions", "embeddings.position_embeddings", TURN_POSITIONS);
    add(p, "embed.weight", "embeddings.patch_embeddings.projection.weight", TURN_PATCHES);
    add(p, "embed.bias", "embeddings.patch_embeddings.projection.bias", TURN_NONE);
    add(p, "norm.weight", "layernorm.weight", TURN_NONE);
    add(p, "norm.bias", "layernorm.bias", TURN_NONE);
    for (uint32_t n = 0; n < depth; n++) {
        add_layer(p, n, "norm1", "layernorm_before", 0, 1);
        add_layer(p, n, "norm2", "layernorm_after", 0, 1);
        for (uint32_t i = 0; i < PARTS; i++)
            add_layer(p, n, "qkv",
                      (const char *const[]){"attention.attention.query", "attention.attention.key",
                                            "attention.attention.value"}[i],
                      i, PARTS);
        add_layer(p, n, "out", "attention.output.dense", 0, 1);
        add_layer(p, n, "mlp1", "intermediate.dense", 0, 1);
        add_layer(p, n, "mlp2", "output.dense", 0, 1);
    }
    return 0;
}

/* ---- shapes ---- */

static struct tensor_view shaped(const char *name, uint32_t rank, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct tensor_view t = {.dtype = DTYPE_F32, .rank = rank, .shape = {a, b, c, d}};
    t.size = sizeof(float);
    for (uint32_t i = 0; i < rank; i++)
        t.size *= t.shape[i];
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

static bool ends(const char *name, const char *with)
{
    size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

/* What the whole tensor of ours has for a shape. */
static struct tensor_view shape_ours(const struct pair *p, const struct huggingface_shape *s)
{
    uint64_t dim = s->dim, hidden = dim * s->mlp;
    uint64_t rows = strstr(p->ours, ".qkv.") ? PARTS * dim : strstr(p->ours, ".mlp1.") ? hidden : dim;
    if (p->turn == TURN_POSITIONS)
        return shaped(p->ours, 2, s->tokens, dim, 0, 0);
    if (p->turn == TURN_PATCHES)
        return shaped(p->ours, 2, dim, (uint64_t)s->patch * s->patch * s->channels, 0, 0);
    if (ends(p->ours, ".weight") && strstr(p->ours, "norm") == NULL)
        return shaped(p->ours, 2, rows, strstr(p->ours, ".mlp2.") ? hidden : dim, 0, 0);
    return shaped(p->ours, 1, rows, 0, 0, 0);
}

static struct tensor_view shape_theirs(const struct pair *p, const struct huggingface_shape *s)
{
    struct tensor_view t = shape_ours(p, s);
    if (p->turn == TURN_CLS)
        return shaped(p->theirs, 3, 1, 1, s->dim, 0);
    if (p->turn == TURN_POSITIONS)
        return shaped(p->theirs, 3, 1, s->tokens, s->dim, 0);
    if (p->turn == TURN_PATCHES)
        return shaped(p->theirs, 4, s->dim, s->channels, s->patch, s->patch);
    return shaped(p->theirs, t.rank, t.shape[0] / p->parts, t.shape[1], 0, 0);
}

/* (dim, taps, channels) to (dim, channels, taps), or back. */
static void swap_pixels(const struct huggingface_shape *s, bool back, const float *from, float *to)
{
    size_t taps = (size_t)s->patch * s->patch, outer = back ? s->channels : taps, inner = back ? taps : s->channels;
    for (size_t o = 0; o < s->dim; o++, from += taps * s->channels, to += taps * s->channels)
        for (size_t i = 0; i < outer; i++)
            for (size_t j = 0; j < inner; j++)
                to[j * outer + i] = from[i * inner + j];
}

/* ---- copies ---- */

/* Tensors that are made here, one after the other in one allocation. */
struct made {
    struct tensor_view *tensors;
    size_t count, used;
    float *floats;
};

static int made_init(struct made *m, size_t tensors, size_t floats, struct error *e)
{
    *m = (struct made){.tensors = calloc(tensors, sizeof *m->tensors), .floats = malloc(sizeof(float) * floats)};
    return m->tensors && m->floats ? 0 : error_set(e, ERR_MEMORY, "out of memory for %zu floats", floats);
}

static void made_fini(struct made *m)
{
    free(m->tensors);
    free(m->floats);
}

static float *made_add(struct made *m, const struct tensor_view *shape)
{
    struct tensor_view *t = &m->tensors[m->count++];
    float *to = m->floats + m->used;
    *t = *shape;
    t->data = to;
    m->used += shape->size / sizeof(float);
    return to;
}

static size_t floats_of(const struct pairs *p, const struct huggingface_shape *s)
{
    size_t floats = 0;
    for (size_t i = 0; i < p->count; i++)
        floats += shape_theirs(&p->items[i], s).size / sizeof(float);
    return floats;
}

static const struct tensor_view *find(const struct tensor_view *tensors, size_t n, const struct tensor_view *wanted,
                                      const char *prefix, struct error *e)
{
    char name[2 * TENSOR_NAME_MAX];
    snprintf(name, sizeof name, "%s%s", prefix, wanted->name);
    for (size_t i = 0; i < n; i++) {
        const struct tensor_view *t = &tensors[i];
        if (strcmp(t->name, name) != 0)
            continue;
        if (t->dtype == DTYPE_F32 && t->rank == wanted->rank && memcmp(t->shape, wanted->shape, sizeof t->shape) == 0)
            return t;
        error_set(e, ERR_FORMAT, "%s: %s of %u dimensions, expected F32 of another shape", name, dtype_name(t->dtype),
                  t->rank);
        return NULL;
    }
    error_set(e, ERR_FORMAT, "there is no tensor %s", name);
    return NULL;
}

/* ---- out ---- */

static uint32_t side_of(uint32_t patches)
{
    uint32_t side = (uint32_t)lround(sqrt((double)patches));
    return side * side == patches ? side : 0;
}

static int shape_of_checkpoint(const struct checkpoint *c, const struct export_set *set, struct huggingface_shape *out,
                               struct error *e)
{
    const struct run_config *config = &c->config;
    uint64_t columns = 0, tokens = 0;
    if (config->encoder.model != ENCODER_VIT || config->encoder.pool != VIT_POOL_CLS)
        return error_set(e, ERR_CONFIG,
                         "this form is for encoder.model = vit with encoder.pool = cls; take --format onnx");
    for (size_t i = 0; i < set->count; i++) {
        columns = strcmp(set->tensors[i].name, "embed.weight") == 0 ? set->tensors[i].shape[1] : columns;
        tokens = strcmp(set->tensors[i].name, "embed.positions") == 0 ? set->tensors[i].shape[0] : tokens;
    }
    uint32_t patch = (uint32_t)config->encoder.patch;
    *out = (struct huggingface_shape){.dim = (uint32_t)config->encoder.dim,
                                      .depth = (uint32_t)config->encoder.depth,
                                      .mlp = (uint32_t)config->encoder.mlp,
                                      .heads = (uint32_t)config->encoder.heads,
                                      .patch = patch,
                                      .channels = (uint32_t)(columns / ((uint64_t)patch * patch)),
                                      .tokens = (uint32_t)tokens};
    if (tokens < 2 || side_of(out->tokens - 1) == 0)
        return error_set(e, ERR_CONFIG, "%u patches make no square image, as ViTModel wants", out->tokens - 1);
    return 0;
}

/* Every tensor of theirs from ours. */
static int turn_out(const struct pairs *p, const struct huggingface_shape *s, const struct export_set *set,
                    struct made *out, struct error *e)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct pair *pair = &p->items[i];
        struct tensor_view ours = shape_ours(pair, s), theirs = shape_theirs(pair, s);
        const struct tensor_view *from = find(set->tensors, set->count, &ours, "", e);
        if (from == NULL)
            return ERR_FORMAT;
        float *to = made_add(out, &theirs);
        const char *data = (const char *)from->data + pair->part * theirs.size;
        if (pair->turn == TURN_PATCHES)
            swap_pixels(s, false, from->data, to);
        else
            memcpy(to, data, theirs.size);
    }
    return 0;
}

static int write_json(const char *directory, const char *name, json_t *object, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    json_decref(object);
    if (text == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for %s", name);
    int rc = path_format(path, sizeof path, "%s/%s", directory, name) == 0
                 ? file_write_atomic(path, (struct file_part[]){{text, strlen(text)}, {"\n", 1}}, 2, e)
                 : error_set(e, ERR_RANGE, "path too long: %.200s", directory);
    free(text);
    return rc;
}

/* One value for all channels, or one for each. */
static json_t *repeated(const struct config_floats *values, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values->values[i < values->count ? i : 0]));
    return list;
}

static int write_configs(const struct checkpoint *c, const struct huggingface_shape *s, const char *out,
                         struct error *e)
{
    int dim = (int)s->dim, side = (int)(side_of(s->tokens - 1) * s->patch);
    json_t *model = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:s, s:f, s:i, s:i, s:i, s:b, s:f, s:f, s:s}", "architectures", "ViTModel",
        "model_type", "vit", "hidden_size", dim, "num_hidden_layers", (int)s->depth, "num_attention_heads",
        (int)s->heads, "intermediate_size", (int)(s->mlp * s->dim), "hidden_act", "gelu", "layer_norm_eps",
        layer_norm_epsilon, "image_size", side, "patch_size", (int)s->patch, "num_channels", (int)s->channels,
        "qkv_bias", 1, "hidden_dropout_prob", 0.0, "attention_probs_dropout_prob", 0.0, "torch_dtype", "float32");
    json_t *images =
        json_pack("{s:s, s:b, s:{s:i, s:i}, s:b, s:f, s:b, s:o, s:o}", "image_processor_type", "ViTImageProcessor",
                  "do_resize", 1, "size", "height", side, "width", side, "do_rescale", 1, "rescale_factor", 1.0 / 255,
                  "do_normalize", 1, "image_mean", repeated(&c->config.data.mean, s->channels), "image_std",
                  repeated(&c->config.data.deviation, s->channels));
    int rc = write_json(out, "config.json", model, e);
    if (rc == 0)
        return write_json(out, "preprocessor_config.json", images, e);
    json_decref(images);
    return rc;
}

static int write_tensors(const struct export_set *set, const struct huggingface_shape *s, const char *path,
                         struct error *e)
{
    const struct metadata_entry meta = {.key = "format", .value = "pt"}; /* transformers insists on it */
    struct pairs pairs;
    struct made made = {0};
    int rc = list_pairs(s->depth, &pairs, e);
    if (rc == 0)
        rc = made_init(&made, pairs.count, floats_of(&pairs, s), e);
    if (rc == 0)
        rc = turn_out(&pairs, s, set, &made, e);
    if (rc == 0)
        rc = safetensors_write(path, made.tensors, made.count, &meta, 1, e);
    made_fini(&made);
    free(pairs.items);
    return rc;
}

int huggingface_export(const struct checkpoint *c, const char *out, struct huggingface_shape *shape, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    struct export_set set;
    if (path_format(path, sizeof path, "%s/model.safetensors", out) != 0)
        return error_set(e, ERR_RANGE, "path too long: %.200s", out);
    int rc = export_set_make(c, EXPORT_TEACHER, &set, e);
    if (rc != 0)
        return rc;
    rc = shape_of_checkpoint(c, &set, shape, e);
    if (rc == 0)
        rc = dir_make(out, e);
    if (rc == 0)
        rc = write_tensors(&set, shape, path, e);
    if (rc == 0)
        rc = write_configs(c, shape, out, e);
    export_set_fini(&set);
    return rc;
}

/* ---- in ---- */

static const char patches_name[] = "embeddings.patch_embeddings.projection.weight";

/* What the names begin with, and the sizes, from the embedding of patches and the layers that are there. */
static int shape_of_file(const struct safetensors *f, char prefix[TENSOR_NAME_MAX], struct huggingface_shape *out,
                         struct error *e)
{
    const struct tensor_view *patches = NULL, *positions = NULL, *hidden = NULL;
    *out = (struct huggingface_shape){0};
    for (size_t i = 0; i < f->tensor_count; i++) {
        const struct tensor_view *t = &f->tensors[i];
        const char *layer = strstr(t->name, "encoder.layer.");
        uint32_t n = layer ? (uint32_t)strtoul(layer + strlen("encoder.layer."), NULL, 10) : 0;
        patches = ends(t->name, patches_name) && t->rank == 4 ? t : patches;
        positions = ends(t->name, "embeddings.position_embeddings") && t->rank == 3 ? t : positions;
        hidden = ends(t->name, "encoder.layer.0.intermediate.dense.weight") && t->rank == 2 ? t : hidden;
        out->depth = layer && n < DEPTH_MAX && n + 1 > out->depth ? n + 1 : out->depth;
    }
    if (patches == NULL || positions == NULL || hidden == NULL)
        return error_set(e, ERR_FORMAT, "no ViTModel: %s, embeddings.position_embeddings or encoder.layer.0 is missing",
                         patches_name);
    for (uint32_t i = 0; i < 4; i++)
        if (patches->shape[i] == 0 || patches->shape[i] > UINT16_MAX || patches->shape[2] != patches->shape[3])
            return error_set(e, ERR_FORMAT, "%s has a dimension of %llu, or patches that are no squares", patches->name,
                             (unsigned long long)patches->shape[i]);
    out->dim = (uint32_t)patches->shape[0];
    out->channels = (uint32_t)patches->shape[1];
    out->patch = (uint32_t)patches->shape[2];
    out->tokens = positions->shape[1] < SIZE_MAX_FLOATS ? (uint32_t)positions->shape[1] : 0;
    out->mlp = (uint32_t)(hidden->shape[0] / out->dim);
    snprintf(prefix, TENSOR_NAME_MAX, "%.*s", (int)(strlen(patches->name) - strlen(patches_name)), patches->name);
    return out->mlp > 0 && out->tokens > 0
               ? 0
               : error_set(e, ERR_FORMAT, "no ViTModel of ours: hidden width %llu for %u dimensions",
                           (unsigned long long)hidden->shape[0], out->dim);
}

/* Where tensor `ours` is being put together, begun with its first part; of the newest two, since the weights and biases
 * of query, key and value take turns. */
static float *part_place(struct made *out, const struct tensor_view *ours)
{
    for (size_t i = out->count; i > 0 && i + 2 > out->count; i--)
        if (strcmp(out->tensors[i - 1].name, ours->name) == 0)
            return out->floats + ((const float *)out->tensors[i - 1].data - out->floats);
    return made_add(out, ours);
}

static int turn_in(const struct pairs *p, const struct huggingface_shape *s, const struct safetensors *f,
                   const char *prefix, struct made *out, struct error *e)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct pair *pair = &p->items[i];
        struct tensor_view ours = shape_ours(pair, s), theirs = shape_theirs(pair, s);
        const struct tensor_view *from = find(f->tensors, f->tensor_count, &theirs, prefix, e);
        if (from == NULL)
            return ERR_FORMAT;
        if (pair->turn == TURN_PATCHES)
            swap_pixels(s, true, from->data, made_add(out, &ours));
        else if (pair->parts == 1)
            memcpy(made_add(out, &ours), from->data, from->size);
        else
            memcpy((char *)part_place(out, &ours) + pair->part * theirs.size, from->data, from->size);
    }
    return 0;
}

static int import_file(const struct safetensors *f, const char *out, struct huggingface_shape *s, struct error *e)
{
    const struct metadata_entry meta = {.key = "format", .value = "decant-import-1"};
    char prefix[TENSOR_NAME_MAX];
    struct pairs pairs = {0};
    struct made made = {0};
    int rc = shape_of_file(f, prefix, s, e);
    if (rc == 0)
        rc = list_pairs(s->depth, &pairs, e);
    if (rc == 0)
        rc = made_init(&made, pairs.count, floats_of(&pairs, s), e);
    if (rc == 0)
        rc = turn_in(&pairs, s, f, prefix, &made, e);
    if (rc == 0)
        rc = safetensors_write(out, made.tensors, made.count, &meta, 1, e);
    made_fini(&made);
    free(pairs.items);
    return rc;
}

/* num_attention_heads of DIRECTORY/config.json; 0 when it does not say. */
static uint32_t heads_of(const char *directory)
{
    char path[CHECKPOINT_PATH_MAX];
    json_t *config =
        path_format(path, sizeof path, "%s/config.json", directory) == 0 ? json_load_file(path, 0, NULL) : NULL;
    json_int_t heads = json_integer_value(json_object_get(config, "num_attention_heads"));
    json_decref(config);
    return heads > 0 && heads <= UINT16_MAX ? (uint32_t)heads : 0;
}

int huggingface_import(const char *path, const char *out, struct huggingface_shape *shape, struct error *e)
{
    char file[CHECKPOINT_PATH_MAX];
    struct safetensors f;
    struct error why = {0};
    struct stat st;
    bool directory = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    if (path_format(file, sizeof file, directory ? "%s/model.safetensors" : "%s", path) != 0)
        return error_set(e, ERR_RANGE, "path too long: %.200s", path);
    if (directory && access(file, F_OK) != 0 && errno == ENOENT)
        return error_set(
            e, ERR_NOT_FOUND,
            "%.200s: no model.safetensors in it, which a ViTModel's directory has; a run or a checkpoint of "
            "Decant needs no import: encoder.init takes it as it is",
            path);
    int rc = safetensors_read(file, &f, e);
    if (rc != 0)
        return rc;
    rc = import_file(&f, out, shape, &why);
    safetensors_fini(&f);
    if (rc != 0)
        return error_set(e, rc, "%.200s: %.300s", file, why.text);
    shape->heads = directory ? heads_of(path) : 0;
    return 0;
}
