/* decant embed: what a checkpoint makes of images, as a file. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/embedding_write.h"
#include "cli/image_set.h"
#include "cli/output_file.h"
#include "cli/run_argument.h"

enum { PATHS_MAX = 4096 };

static const char help[] =
    "example: decant embed --checkpoint runs/mine photos/ --out photos.npz\n\n"
    "usage: decant embed --checkpoint DIR PATH... --out FILE [--format npz|npy|csv] [--split train|test] [--force]\n\n"
    "  PATH               an image file, or an image set (docs/DATA.md); brought to the size of the run's images\n"
    "  --checkpoint DIR   a run's directory, or its name below runs/, its checkpoints directory, or one step's\n"
    "  --out FILE         where to; an existing file is not overwritten\n"
    "  --format FORMAT    npz: names, labels where there are any, prototypes, cosines, features, projections\n"
    "                     npy: the same as one array of records, numpy.load(FILE)['features']\n"
    "                     csv: name,label,prototype,cosine,f0..,z0.. ; without it what FILE ends in\n"
    "  --split SPLIT      of a set: train (default; all of it when it has no test images) or test\n"
    "  --force            overwrite FILE if it is a regular file\n\n"
    "Features are the backbone's, of the teacher; projections have unit length; a prototype is the one of the largest\n"
    "cosine to the projection. Names are PATH/FILE, or PATH#I where images are no files. How far it is goes to "
    "stderr.\n";

static const struct option options[] = {
    {"checkpoint", required_argument, NULL, 'c'},
    {"out", required_argument, NULL, 'o'},
    {"format", required_argument, NULL, 'f'},
    {"split", required_argument, NULL, 's'},
    {"force", no_argument, NULL, 'F'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct embed_line {
    const char *checkpoint, *out;
    enum embedding_format format;
    enum dataset_split split;
    bool force;
};

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct embed_line *line = arg;
    switch (option) {
    case 'c':
        line->checkpoint = optarg;
        return -1;
    case 'o':
        line->out = optarg;
        return -1;
    case 'f':
        line->format = embedding_format_named(optarg);
        return line->format != EMBEDDING_UNKNOWN
                   ? -1
                   : command_usage("embed", "--format %s: expected npz, npy or csv", optarg);
    case 's':
        return image_set_split("embed", optarg, &line->split);
    case 'F':
        line->force = true;
        return -1;
    }
    return -1;
}

static int check_line(struct embed_line *line, int paths)
{
    if (line->checkpoint == NULL || line->out == NULL || paths == 0)
        return command_usage("embed", "--checkpoint DIR, a PATH with images and --out FILE are needed");
    const char *ending = strrchr(line->out, '.');
    if (line->format == EMBEDDING_UNKNOWN && ending != NULL)
        line->format = embedding_format_named(ending + 1);
    if (line->format == EMBEDDING_UNKNOWN)
        return command_usage("embed", "--out %s ends in none of .npz, .npy and .csv: give --format", line->out);
    return output_file_check("embed", line->out, line->force);
}

static int embed_images(const struct checkpoint *c, const struct dataset *d, const struct embed_line *line,
                        struct evaluation_meter *meter, struct error *e)
{
    struct embedding x;
    int rc = embedding_make_all(c, d, meter, &x, e);
    evaluation_meter_end(meter);
    if (rc != 0)
        return rc;
    rc = embedding_write(&x, d->names, line->format, line->out, e);
    if (rc == 0)
        printf("%s: %u images by step %" PRIu64 ": %u features, %u projections\n", line->out, x.features.rows, c->step,
               x.features.width, x.D);
    embedding_fini(&x);
    return rc;
}

static int embed(const struct embed_line *line, const char *const *paths, size_t n, struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX];
    struct checkpoint c;
    struct dataset d;
    struct evaluation_meter meter;
    evaluation_meter_init(&meter, "embedding", stderr, isatty(STDERR_FILENO));
    if (run_argument_checkpoint(line->checkpoint, directory) != 0)
        return error_set(e, ERR_RANGE, "--checkpoint is too long");
    int rc = checkpoint_open(directory, &c, e);
    if (rc != 0)
        return rc;
    rc = image_set_load(&c.config, paths, n, line->split, &meter, &d, e);
    if (rc == 0) {
        image_set_warn(&d, &meter);
        rc = embed_images(&c, &d, line, &meter, e);
        dataset_fini(&d);
    }
    checkpoint_close(&c);
    return rc;
}

static const struct command_options command = {
    .name = "embed", .help = help, .options = options, .take = take_option, .arguments_max = PATHS_MAX};

int command_embed(int argc, char **argv)
{
    struct embed_line line = {.split = DATASET_TRAIN};
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0)
        code = check_line(&line, argc - optind);
    if (code >= 0)
        return code;
    int rc = embed(&line, (const char *const *)argv + optind, (size_t)(argc - optind), &e);
    return rc == 0 ? COMMAND_DONE : command_failed("embed", &e);
}
