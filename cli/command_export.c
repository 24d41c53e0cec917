/* decant export: the arrays of a checkpoint for a program of one's own. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/command.h"
#include "cli/export_set.h"
#include "cli/huggingface.h"
#include "cli/npz_write.h"
#include "cli/onnx_export.h"
#include "cli/onnx_graph.h"
#include "cli/output_file.h"
#include "cli/run_argument.h"
#include "cli/tensorboard_write.h"
#include "common/files.h"
#include "worker/data/limits.h"

static const char help[] =
    "example: decant export runs/fashion-mnist --out teacher.npz\n\n"
    "usage: decant export {RUN | --checkpoint DIR} --out FILE\n"
    "                     [--format safetensors|npz|onnx|huggingface|tensorboard]\n"
    "                     [--what teacher|student|encoder|prototypes|mixture] [--side N] "
    "[--force]\n\n" RUN_ARGUMENT_HELP
    "  --checkpoint DIR   a run's directory, its checkpoints directory, or one step's\n"
    "  --out FILE         where to; an existing file is not overwritten\n"
    "  --format FORMAT    safetensors, or npz for numpy.load; without it what FILE ends in\n"
    "                     onnx: the teacher as a graph (opset 13): images (N,C,H,W), 0..1, to features and\n"
    "                     projections; --what is not used\n"
    "                     huggingface: the teacher as a directory for transformers' ViTModel, FILE being its name;\n"
    "                     of a transformer with encoder.pool = cls\n"
    "                     tensorboard: every number of metrics-*.jsonl instead, FILE being a directory for\n"
    "                     tensorboard --logdir; the run's directory is what counts then, and --what is not used\n"
    "  --what WHAT        teacher: the weights to use, under the network's names, with running statistics (default)\n"
    "                     student: the same of the student\n"
    "                     encoder: both, as student.NAME, teacher.NAME and buffer.NAME\n"
    "                     prototypes: one array (K, D), rows of unit length\n"
    "                     mixture: mean, variance, weight, mass, usage and price (if there are any) of the components\n"
    "  --side N           onnx: side of the images that it is for (that of the run's own); conv takes any\n"
    "  --force            overwrite FILE if it is a regular file\n";

static const struct option options[] = {
    {"checkpoint", required_argument, NULL, 'c'},
    {"out", required_argument, NULL, 'o'},
    {"format", required_argument, NULL, 'f'},
    {"what", required_argument, NULL, 'w'},
    {"side", required_argument, NULL, 's'},
    {"force", no_argument, NULL, 'F'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

enum format { FORMAT_UNKNOWN, FORMAT_SAFETENSORS, FORMAT_NPZ, FORMAT_ONNX, FORMAT_HUGGINGFACE, FORMAT_TENSORBOARD };
static const char *const format_names[] = {[FORMAT_SAFETENSORS] = "safetensors",
                                           [FORMAT_NPZ] = "npz",
                                           [FORMAT_ONNX] = "onnx",
                                           [FORMAT_HUGGINGFACE] = "huggingface",
                                           [FORMAT_TENSORBOARD] = "tensorboard"};

struct export_line {
    const char *checkpoint, *out;
    char named[CHECKPOINT_PATH_MAX]; /* what checkpoint points to when the run was an argument */
    enum format format;
    enum export_what what;
    long long side; /* 0: not given */
    bool force;
};

static enum format format_named(const char *name)
{
    for (int f = FORMAT_SAFETENSORS; f <= FORMAT_TENSORBOARD; f++)
        if (strcmp(name, format_names[f]) == 0)
            return (enum format)f;
    return FORMAT_UNKNOWN;
}

static int take_format(struct export_line *line)
{
    line->format = format_named(optarg);
    if (line->format == FORMAT_UNKNOWN)
        return command_usage("export", "--format %s: expected safetensors, npz, onnx, huggingface or tensorboard",
                             optarg);
    return -1;
}

static int take_what(struct export_line *line)
{
    for (int what = 0; what < EXPORT_WHATS; what++)
        if (strcmp(optarg, export_names[what]) == 0) {
            line->what = (enum export_what)what;
            return -1;
        }
    return command_usage("export", "--what %s: expected teacher, student, encoder, prototypes or mixture", optarg);
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct export_line *line = arg;
    switch (option) {
    case 'c':
        line->checkpoint = optarg;
        return -1;
    case 'o':
        line->out = optarg;
        return -1;
    case 'f':
        return take_format(line);
    case 'w':
        return take_what(line);
    case 's':
        return command_number(optarg, 1, DATASET_SIDE_MAX, &line->side) == 0
                   ? -1
                   : command_usage("export", "--side %s: expected 1 to %d pixels", optarg, DATASET_SIDE_MAX);
    case 'F':
        line->force = true;
        return -1;
    }
    return -1;
}

/* Somebody's own model may lie there: -1, or the exit code. */
static int check_directory(const struct export_line *line)
{
    char path[CHECKPOINT_PATH_MAX];
    struct stat st;
    if (path_format(path, sizeof path, "%s/model.safetensors", line->out) != 0)
        return command_usage("export", "--out is too long");
    if (!line->force && lstat(path, &st) == 0)
        return command_usage("export", "%s exists; choose another directory, or add --force", path);
    return -1;
}

/* -1 when the line is complete, else the exit code. */
static int check_line(struct export_line *line)
{
    if (!line->checkpoint || !line->out)
        return command_usage("export", "a RUN (or --checkpoint DIR) and --out FILE are needed");
    const char *ending = strrchr(line->out, '.');
    if (line->format == FORMAT_UNKNOWN && ending)
        line->format = format_named(ending + 1);
    if (line->format == FORMAT_UNKNOWN)
        return command_usage("export", "--out %s ends in none of .safetensors, .npz and .onnx: give --format",
                             line->out);
    if (line->side > 0 && line->format != FORMAT_ONNX)
        return command_usage("export", "--side is for --format onnx");
    if (line->format == FORMAT_TENSORBOARD)
        return -1; /* a directory, in which only files of our own names are replaced */
    if (line->format == FORMAT_HUGGINGFACE)
        return check_directory(line);
    return output_file_check("export", line->out, line->force);
}

static int write_safetensors(const struct checkpoint *c, const struct export_line *line, const struct export_set *set,
                             struct error *e)
{
    struct metadata_entry meta[] = {
        {.key = "format", .value = "decant-export-1"}, {.key = "what"}, {.key = "run"}, {.key = "step"}};
    snprintf(meta[1].value, sizeof meta[1].value, "%s", export_names[line->what]);
    snprintf(meta[2].value, sizeof meta[2].value, "%s", c->config.run.name);
    snprintf(meta[3].value, sizeof meta[3].value, "%" PRIu64, c->step);
    return safetensors_write(line->out, set->tensors, set->count, meta, sizeof meta / sizeof meta[0], e);
}

static int export(const struct export_line *line, struct error *e)
{
    struct checkpoint c;
    struct export_set set;
    int rc = checkpoint_open(line->checkpoint, &c, e);
    if (rc != 0)
        return rc;
    rc = export_set_make(&c, line->what, &set, e);
    if (rc == 0) {
        rc = line->format == FORMAT_NPZ ? npz_write(line->out, set.tensors, set.count, 0, e)
                                        : write_safetensors(&c, line, &set, e);
        if (rc == 0)
            printf("%s: %zu array%s of step %" PRIu64 "\n", line->out, set.count, set.count == 1 ? "" : "s", c.step);
        export_set_fini(&set);
    }
    checkpoint_close(&c);
    return rc;
}

static int export_graph(const struct export_line *line, struct error *e)
{
    struct checkpoint c;
    struct onnx_summary s;
    int rc = checkpoint_open(line->checkpoint, &c, e);
    if (rc != 0)
        return rc;
    rc = onnx_export(&c, (uint32_t)line->side, line->out, &s, e);
    if (rc == 0)
        printf("%s: step %" PRIu64 ", images (N,%u,%u,%u) to %u features and %u projections, opset %d\n", line->out,
               c.step, s.channels, s.height, s.width, s.features, s.projections, ONNX_OPSET);
    checkpoint_close(&c);
    return rc;
}

static int export_directory(const struct export_line *line, struct error *e)
{
    struct checkpoint c;
    struct huggingface_shape s;
    int rc = checkpoint_open(line->checkpoint, &c, e);
    if (rc != 0)
        return rc;
    rc = huggingface_export(&c, line->out, &s, e);
    if (rc == 0)
        printf("%s: step %" PRIu64 ", ViTModel of %u blocks, %u dimensions, %u tokens\n", line->out, c.step, s.depth,
               s.dim, s.tokens);
    checkpoint_close(&c);
    return rc;
}

static int export_metrics(const struct export_line *line, struct error *e)
{
    size_t scalars;
    int rc = tensorboard_export(line->checkpoint, line->out, &scalars, e);
    if (rc == 0)
        printf("%s: %zu scalars\n", line->out, scalars);
    return rc;
}

static const struct command_options command = {
    .name = "export", .help = help, .options = options, .take = take_option, .arguments_max = 1};

int command_export(int argc, char **argv)
{
    struct export_line line = {.what = EXPORT_TEACHER};
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0)
        code = run_argument_take("export", argc, argv, line.checkpoint != NULL, line.named);
    if (code < 0 && line.named[0] != '\0')
        line.checkpoint = line.named;
    if (code < 0)
        code = check_line(&line);
    if (code >= 0)
        return code;
    static int (*const exports[])(const struct export_line *line, struct error *e) = {
        [FORMAT_SAFETENSORS] = export,         [FORMAT_NPZ] = export,
        [FORMAT_ONNX] = export_graph,          [FORMAT_HUGGINGFACE] = export_directory,
        [FORMAT_TENSORBOARD] = export_metrics,
    };
    int rc = exports[line.format](&line, &e);
    return rc == 0 ? COMMAND_DONE : command_failed("export", &e);
}
