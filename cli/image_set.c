/* Every path becomes a set of its own, which is then appended to those before it. */
#include "cli/image_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/printable.h"
#include "common/files.h"
#include "common/path_list.h"
#include "worker/data/ground.h"
#include "worker/data/image_file.h"

enum { WARNINGS_MAX = 5 };

void image_set_fit(const struct run_config *config, const char *path, struct dataset_options *o)
{
    struct dataset_options own = dataset_options_of(config);
    struct dataset first;
    struct error ignored;
    own.limit = 1;
    own.cached = own.on_demand = false;
    if (strcmp(path, own.path) == 0 || (own.side > 0 && own.channels > 0) ||
        dataset_load(&own, DATASET_TRAIN, &first, &ignored) != 0)
        return;
    o->side = first.height == first.width ? first.height : o->side;
    o->channels = first.channels;
    dataset_fini(&first);
}

void image_set_progress(void *meter, uint64_t done, uint64_t total)
{
    if (total > 0)
        evaluation_meter_at(meter, (double)done / (double)total);
}

/* ---- one image file ---- */

/* A file that says by its first bytes that it is an image: what else a regular file may be is a set. */
static bool is_image_file(const char *path)
{
    uint8_t start[IMAGE_MAGIC_MAX];
    struct stat st;
    bool readable = false;
    FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    if (f == NULL)
        return false;
    size_t size = fread(start, 1, sizeof start, f);
    fclose(f);
    return image_format_of(start, size, &readable) != NULL && readable;
}

/* auto: the image decides for itself, having no others beside it. */
static uint8_t ground_of(enum data_background background, const struct image *image)
{
    struct ground votes = {0};
    if (background == BACKGROUND_WHITE)
        return GROUND_WHITE;
    if (background == BACKGROUND_GREY)
        return GROUND_GREY;
    if (background == BACKGROUND_AUTO && image->size.channels % 2 == 0)
        ground_vote(&votes, image->pixels, &image->size);
    return ground_choice(&votes);
}

static int fit_image(const struct dataset_options *o, const struct image *image, struct dataset *out, struct error *e)
{
    const struct image_size to = {o->side, o->side, o->channels};
    *out = (struct dataset){.count = 1, .height = to.height, .width = to.width, .channels = to.channels};
    out->images = malloc(image_bytes(&to));
    out->names = calloc(1, sizeof *out->names);
    if (out->images == NULL || out->names == NULL ||
        image_fit(image->pixels, &image->size, out->images, &to, ground_of(o->background, image)) != 0)
        return error_set(e, ERR_MEMORY, "%s: no memory for the image", o->path);
    return 0;
}

static int decode(const char *path, uint32_t side, struct image *out, struct error *e)
{
    struct buf *bytes = NULL;
    struct error why = {0};
    *out = (struct image){0};
    int rc = file_read(path, IMAGE_BYTES_FILE_MAX, &bytes, e);
    if (rc != 0)
        return rc;
    rc = image_decode(bytes->data, bytes->size, 2 * side, out, &why);
    buf_unref(&bytes);
    return rc == 0 ? 0 : error_set(e, rc, "%.200s: %.300s", path, why.text);
}

static int load_file(const struct dataset_options *o, const char *path, struct dataset *out, struct error *e)
{
    struct image image;
    *out = (struct dataset){0};
    if (o->side == 0 || o->channels == 0)
        return error_set(e, ERR_NOT_FOUND,
                         "%.200s: the run took the size of its own images (data.side, data.channels = 0), and they are "
                         "not where data.path says, so that the size for this one is not known; bring them back, or "
                         "name a whole image set of their size",
                         path);
    int rc = decode(path, o->side, &image, e);
    if (rc == 0)
        rc = fit_image(o, &image, out, e);
    image_fini(&image);
    return rc;
}

/* ---- one path ---- */

/* Full names for all: "PATH/FILE", "PATH#17", or "PATH". */
static int name_all(const char *path, bool file, struct dataset *d)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (d->names == NULL)
        d->names = calloc(d->count, sizeof *d->names);
    for (uint32_t i = 0; d->names != NULL && i < d->count; i++) {
        char *name, *below = d->names[i];
        int n = file    ? asprintf(&name, "%s", path)
                : below ? asprintf(&name, "%.*s/%s", (int)length, path, below)
                        : asprintf(&name, "%.*s#%u", (int)length, path, i);
        if (n < 0)
            return ERR_MEMORY;
        free(below);
        d->names[i] = name;
    }
    return d->names != NULL ? 0 : ERR_MEMORY;
}

static int load_path(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
{
    char path[DATASET_PATH_MAX];
    bool one = path_list_next(o->path, path, sizeof path) == NULL, file = one && is_image_file(path);
    int rc = file ? load_file(o, path, out, e) : dataset_load(o, split, out, e);
    if (rc == 0 && one && name_all(path, file, out) != 0) /* those of several sets have their names */
        rc = error_set(e, ERR_MEMORY, "%s: no memory for the names of %u images", o->path, out->count);
    if (rc != 0)
        dataset_fini(out);
    return rc;
}

/* ---- several ---- */

static bool same_shape(const struct dataset *a, const struct dataset *b)
{
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

static int no_room(const char *path, struct error *e)
{
    return error_set(e, ERR_MEMORY, "%s: no memory to put its images behind the others", path);
}

/* Behind those of out, as far as there is room for words; the rest is counted. */
static void move_problems(struct dataset *out, struct dataset *more)
{
    for (uint32_t i = 0; i < more->problem_count; i++) {
        char **from = i < DATASET_PROBLEMS_MAX ? &more->problems[i] : NULL;
        if (from && out->problem_count < DATASET_PROBLEMS_MAX) {
            out->problems[out->problem_count] = *from;
            *from = NULL;
        }
        out->problem_count++;
    }
    out->skipped += more->skipped;
}

/* Moves what more holds behind what out holds; both stay sound on an error. */
static int append(struct dataset *out, struct dataset *more, const char *path, struct error *e)
{
    size_t image = (size_t)out->height * out->width * out->channels, count = (size_t)out->count + more->count;
    if (!same_shape(out, more))
        return error_set(e, ERR_FORMAT,
                         "%s: images of %ux%ux%u beside others of %ux%ux%u; name them in two commands, or one path",
                         path, more->height, more->width, more->channels, out->height, out->width, out->channels);
    if (count > DATASET_IMAGES_MAX)
        return error_set(e, ERR_RANGE, "%s: more than %d images in all", path, DATASET_IMAGES_MAX);
    uint8_t *images = realloc(out->images, count * image);
    if (images == NULL)
        return no_room(path, e);
    out->images = images;
    char **names = realloc(out->names, count * sizeof *names);
    if (names == NULL)
        return no_room(path, e);
    out->names = names;
    memcpy(images + out->count * image, more->images, more->count * image);
    memcpy(names + out->count, more->names, more->count * sizeof *names);
    free(more->names);
    more->names = NULL;
    out->count = (uint32_t)count;
    move_problems(out, more);
    return 0;
}

/* Labels of one set mean nothing beside those of another. */
static void drop_labels(struct dataset *d)
{
    for (char **name = d->class_names; name && *name; name++)
        free(*name);
    free(d->class_names);
    free(d->labels);
    d->class_names = NULL;
    d->labels = NULL;
    d->classes = 0;
}

/* What is there under that very name is one path, whatever colons it has. */
static const char *as_list(const char *path, char list[DATASET_PATH_MAX])
{
    list[0] = '\0';
    return access(path, F_OK) == 0 && path_list_append(list, DATASET_PATH_MAX, path) ? list : path;
}

static struct dataset_options options_for(const struct run_config *config, const char *path, enum dataset_split split,
                                          struct evaluation_meter *meter)
{
    struct dataset_options o = dataset_options_of(config);
    image_set_fit(config, path, &o);
    o.path = path;
    o.limit = 0;
    o.names = true;
    o.loose = strcmp(path, config->data.path) != 0; /* of the run's own, what it was trained on */
    o.on_demand = false;                            /* sheets show them */
    o.progress = image_set_progress;
    o.progress_context = meter;
    o.holdout = split == DATASET_TRAIN ? 0 : o.holdout;
    return o;
}

/* A regular file whose name or first bytes are those of an image. */
static bool is_meant_as_image(const char *path)
{
    struct stat st;
    enum image_name kind = image_name_kind(path);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (kind == IMAGE_NAME_READ || kind == IMAGE_NAME_UNREAD || is_image_file(path));
}

/* As image_set_load says, an image that is one of several; -1: not such a one. */
static int leave_out(const char *list, const struct error *why, struct dataset *more)
{
    char path[DATASET_PATH_MAX];
    (void)path_list_next(list, path, sizeof path);
    if ((why->code != ERR_FORMAT && why->code != ERR_RANGE && why->code != ERR_IO) || !is_meant_as_image(path))
        return -1;
    *more = (struct dataset){.problem_count = 1, .skipped = 1};
    more->problems[0] = strdup(why->text);
    return 0;
}

/* Behind those of the paths before it. */
static int add_path(const struct dataset_options *o, enum dataset_split split, bool alone, struct dataset *out,
                    struct error *e)
{
    struct dataset more;
    int rc = load_path(o, split, &more, e);
    if (rc != 0 && !alone)
        rc = leave_out(o->path, e, &more) == 0 ? 0 : rc;
    if (rc != 0)
        return rc;
    if (more.count == 0) {
        move_problems(out, &more);
    } else if (out->count == 0) { /* the first that holds any */
        struct dataset before = *out;
        *out = more;
        more = (struct dataset){0};
        move_problems(out, &before);
        dataset_fini(&before);
    } else {
        rc = append(out, &more, o->path, e);
    }
    dataset_fini(&more);
    return rc;
}

int image_set_load(const struct run_config *config, const char *const *paths, size_t n, enum dataset_split split,
                   struct evaluation_meter *meter, struct dataset *out, struct error *e)
{
    char list[DATASET_PATH_MAX];
    int rc = 0;
    *out = (struct dataset){0};
    for (size_t i = 0; rc == 0 && i < n; i++) {
        evaluation_meter_stage(meter, "images", paths[i]);
        bool own = strcmp(paths[i], config->data.path) == 0;
        struct dataset_options o = options_for(config, own ? paths[i] : as_list(paths[i], list), split, meter);
        o.cached = o.cached && n == 1; /* what is mapped cannot grow */
        rc = add_path(&o, split, n == 1, out, e);
    }
    if (rc == 0 && out->count == 0)
        rc = error_set(e, ERR_FORMAT, "none of %zu images can be read: %.400s", n,
                       out->problems[0] ? out->problems[0] : "no memory");
    if (rc != 0)
        dataset_fini(out);
    else if (n > 1)
        drop_labels(out);
    return rc;
}

int image_set_own_failed(int rc, const char *option, struct error *e)
{
    struct error why = *e;
    return error_set(e, rc, "the run's own images: %.430s; %s names others", why.text, option);
}

void image_set_warn(const struct dataset *d, struct evaluation_meter *meter)
{
    uint32_t shown = d->problem_count < WARNINGS_MAX ? d->problem_count : WARNINGS_MAX, more = d->problem_count - shown;
    if (meter->to == NULL || d->problem_count == 0)
        return;
    evaluation_meter_end(meter);
    for (uint32_t i = 0; i < shown; i++)
        if (d->problems[i])
            fprintf(meter->to, "%s: %s\n", d->skipped > 0 ? "left out" : "problem", printable(d->problems[i]));
    if (more > 0)
        fprintf(meter->to, "%u more problem%s: `decant dataset check` lists them\n", more, more == 1 ? "" : "s");
}

int image_set_split(const char *command, const char *name, enum dataset_split *out)
{
    *out = strcmp(name, "test") == 0 ? DATASET_TEST : DATASET_TRAIN;
    if (*out == DATASET_TRAIN && strcmp(name, "train") != 0)
        return command_usage(command, "--split %s: expected train or test", name);
    return -1;
}
