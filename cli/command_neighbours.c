/* decant neighbours: the images of a set that are nearest to given ones, as a table and as a picture. */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/contact_sheet.h"
#include "cli/embedding.h"
#include "cli/image_set.h"
#include "cli/json_print.h"
#include "cli/nearest.h"
#include "cli/output_file.h"
#include "cli/run_argument.h"
#include "cli/parallel.h"
#include "cli/printable.h"
#include "common/vecmath.h"

enum { PATHS_MAX = 4096, COUNT_DEFAULT = 9, COUNT_MAX = SHEET_COLUMNS_MAX - 1 };

static const char help[] =
    "example: decant neighbours --checkpoint runs/mine cat.jpg --in photos/ --sheet near.png\n\n"
    "usage: decant neighbours --checkpoint DIR QUERY... [--in PATH] [--count N] [--by features|projections]\n"
    "                         [--split train|test] [--json] [--sheet FILE.png [--force]]\n\n"
    "  QUERY              an image file, or an image set (docs/DATA.md): each of its images is a query\n"
    "  --checkpoint DIR   a run's directory, or its name below runs/, its checkpoints directory, or one step's\n"
    "  --in PATH          where to look: an image set; without it the run's own images (data.path)\n"
    "  --count N          neighbours of each query (9), at most 31\n"
    "  --by WHAT          features: of the backbone (default); projections: what the prototypes see\n"
    "  --split SPLIT      of the set that is looked in: train (default) or test\n"
    "  --json             {\"by\", \"queries\": [{\"name\", \"neighbours\": [{\"name\", \"cosine\", \"label\"}]}]}\n"
    "  --sheet FILE.png   a picture: a row for each query, itself first; of the first 256 queries\n"
    "  --force            overwrite FILE.png if it is a regular file\n\n"
    "Exact, by cosine. A query that is in the set is its own first neighbour. How far it is goes to stderr.\n";

static const struct option options[] = {
    {"checkpoint", required_argument, NULL, 'c'},
    {"in", required_argument, NULL, 'i'},
    {"count", required_argument, NULL, 'n'},
    {"by", required_argument, NULL, 'b'},
    {"split", required_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},
    {"sheet", required_argument, NULL, 'S'},
    {"force", no_argument, NULL, 'F'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct neighbours_line {
    const char *checkpoint, *in, *sheet;
    long long count;
    bool projections, json, force;
    enum dataset_split split;
};

/* One side of the search, with its vectors as unit rows. */
struct side {
    struct dataset images;
    struct embedding embedding;
    float *unit; /* (rows, width): into embedding */
    uint32_t width;
};

struct search {
    struct side bank, queries;
    struct nearest_hit *hits; /* (queries, k) */
    uint32_t k;
};

static int take_by(struct neighbours_line *line)
{
    line->projections = strcmp(optarg, "projections") == 0;
    if (!line->projections && strcmp(optarg, "features") != 0)
        return command_usage("neighbours", "--by %s: expected features or projections", optarg);
    return -1;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct neighbours_line *line = arg;
    switch (option) {
    case 'c':
        line->checkpoint = optarg;
        return -1;
    case 'i':
        line->in = optarg;
        return -1;
    case 'n':
        return command_number(optarg, 1, COUNT_MAX, &line->count) == 0
                   ? -1
                   : command_usage("neighbours", "--count %s: expected 1 to %d", optarg, COUNT_MAX);
    case 'b':
        return take_by(line);
    case 's':
        return image_set_split("neighbours", optarg, &line->split);
    case 'j':
        line->json = true;
        return -1;
    case 'S':
        line->sheet = optarg;
        return -1;
    case 'F':
        line->force = true;
        return -1;
    }
    return -1;
}

/* ---- the search ---- */

static void side_fini(struct side *s)
{
    embedding_fini(&s->embedding);
    dataset_fini(&s->images);
}

static int side_embed(const struct checkpoint *c, bool projections, struct evaluation_meter *meter, struct side *s,
                      struct error *e)
{
    struct embedding *x = &s->embedding;
    int rc = embedding_make_all(c, &s->images, meter, x, e);
    if (rc != 0)
        return rc;
    s->unit = projections ? x->z : x->features.x;
    s->width = projections ? x->D : x->features.width;
    vec_normalise_rows(s->unit, s->images.count, s->width, NULL);
    return 0;
}

static int find(struct search *s, long long count, struct evaluation_meter *meter, struct error *e)
{
    s->k = count < s->bank.images.count ? (uint32_t)count : s->bank.images.count;
    s->hits = malloc(sizeof *s->hits * s->queries.images.count * s->k);
    const struct nearest_search n = {.bank = s->bank.unit,
                                     .queries = s->queries.unit,
                                     .bank_rows = s->bank.images.count,
                                     .query_rows = s->queries.images.count,
                                     .width = s->bank.width,
                                     .k = s->k,
                                     .threads = parallel_threads(),
                                     .meter = meter};
    evaluation_meter_stage(meter, "neighbours", "search");
    if (s->hits == NULL || nearest_find(&n, s->hits) != 0)
        return error_set(e, ERR_MEMORY, "out of memory for the neighbours of %u images", n.query_rows);
    return 0;
}

static void search_fini(struct search *s)
{
    side_fini(&s->bank);
    side_fini(&s->queries);
    free(s->hits);
}

static int search(const struct neighbours_line *line, const char *const *queries, size_t n, struct search *out,
                  struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX];
    struct checkpoint c;
    struct evaluation_meter meter;
    *out = (struct search){0};
    evaluation_meter_init(&meter, "searching", stderr, isatty(STDERR_FILENO));
    if (run_argument_checkpoint(line->checkpoint, directory) != 0)
        return error_set(e, ERR_RANGE, "--checkpoint is too long");
    int rc = checkpoint_open(directory, &c, e);
    if (rc != 0)
        return rc;
    const char *in = line->in ? line->in : c.config.data.path;
    rc = image_set_load(&c.config, queries, n, DATASET_TRAIN, &meter, &out->queries.images, e);
    if (rc == 0)
        rc = image_set_load(&c.config, &in, 1, line->split, &meter, &out->bank.images, e);
    if (rc != 0 && out->queries.images.count > 0 && line->in == NULL)
        rc = image_set_own_failed(rc, "--in", e);
    if (rc == 0) {
        image_set_warn(&out->queries.images, &meter);
        image_set_warn(&out->bank.images, &meter);
        rc = side_embed(&c, line->projections, &meter, &out->queries, e);
    }
    if (rc == 0)
        rc = side_embed(&c, line->projections, &meter, &out->bank, e);
    if (rc == 0)
        rc = find(out, line->count, &meter, e);
    evaluation_meter_end(&meter);
    checkpoint_close(&c);
    if (rc != 0)
        search_fini(out);
    return rc;
}

/* ---- what comes of it ---- */

static const char *class_of(const struct dataset *d, uint32_t row, char number[16])
{
    if (d->labels == NULL)
        return "-";
    snprintf(number, 16, "%u", d->labels[row]);
    return d->class_names ? d->class_names[d->labels[row]] : number;
}

static void print_name(const char *name, int columns, const char *end)
{
    char copy[1200];
    snprintf(copy, sizeof copy, "%s", name);
    printable(copy);
    printf("%-*s%s", printable_width(copy, columns), copy, end);
}

static void print_table(const struct search *s)
{
    char number[16];
    for (uint32_t i = 0; i < s->queries.images.count; i++) {
        print_name(s->queries.images.names[i], 0, "\n");
        for (uint32_t j = 0; j < s->k; j++) {
            const struct nearest_hit *hit = &s->hits[(size_t)i * s->k + j];
            printf("%4u  %9.6f  ", j + 1, hit->cosine);
            print_name(class_of(&s->bank.images, hit->row, number), 16, "  ");
            print_name(s->bank.images.names[hit->row], 0, "\n");
        }
    }
}

static json_t *hits_json(const struct search *s, uint32_t query)
{
    const struct dataset *d = &s->bank.images;
    json_t *list = json_array();
    for (uint32_t j = 0; j < s->k; j++) {
        const struct nearest_hit *hit = &s->hits[(size_t)query * s->k + j];
        json_t *one = json_pack("{s:o, s:f}", "name", json_print_text(d->names[hit->row]), "cosine", hit->cosine);
        json_object_set_new(one, "label", d->labels ? json_integer(d->labels[hit->row]) : json_null());
        json_array_append_new(list, one);
    }
    return list;
}

static int print_json(const struct search *s, bool projections)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < s->queries.images.count; i++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "name", json_print_text(s->queries.images.names[i]),
                                              "neighbours", hits_json(s, i)));
    return json_print(json_pack("{s:s, s:o}", "by", projections ? "projections" : "features", "queries", list), stdout);
}

static const uint8_t *image_of(const struct dataset *d, uint32_t row)
{
    return d->images + (size_t)row * d->height * d->width * d->channels;
}

static void fill_row(const struct search *s, uint32_t query, struct contact_sheet *sheet)
{
    const struct dataset *d = &s->bank.images;
    struct sheet_cell *cells = sheet->cells + (size_t)query * sheet->columns;
    contact_sheet_text(s->queries.images.names[query], sheet->titles[query]);
    cells[0].pixels = image_of(&s->queries.images, query);
    contact_sheet_text("query", cells[0].caption);
    for (uint32_t j = 0; j < s->k; j++) {
        const struct nearest_hit *hit = &s->hits[(size_t)query * s->k + j];
        cells[j + 1].pixels = image_of(d, hit->row);
        snprintf(cells[j + 1].caption, SHEET_TEXT_MAX, "%.3f", hit->cosine);
    }
}

static int write_sheet(const struct search *s, const char *path, struct error *e)
{
    struct contact_sheet sheet;
    uint32_t queries = s->queries.images.count;
    int rc =
        contact_sheet_init(&s->bank.images, queries < SHEET_ROWS_MAX ? queries : SHEET_ROWS_MAX, s->k + 1, &sheet, e);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < sheet.rows; i++)
        fill_row(s, i, &sheet);
    rc = contact_sheet_write(&sheet, path, e);
    contact_sheet_fini(&sheet);
    return rc;
}

static int show(const struct neighbours_line *line, const struct search *s, struct error *e)
{
    int rc = line->sheet ? write_sheet(s, line->sheet, e) : 0;
    if (rc != 0)
        return rc;
    if (!line->json)
        print_table(s);
    else if (print_json(s, line->projections) != 0)
        return error_set(e, ERR_MEMORY, "cannot write the neighbours");
    return 0;
}

static const struct command_options command = {
    .name = "neighbours", .help = help, .options = options, .take = take_option, .arguments_max = PATHS_MAX};

int command_neighbours(int argc, char **argv)
{
    struct neighbours_line line = {.count = COUNT_DEFAULT};
    struct search s;
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0 && (line.checkpoint == NULL || optind == argc))
        code = command_usage("neighbours", "--checkpoint DIR and a QUERY, an image or a set, are needed");
    if (code < 0 && line.sheet)
        code = output_file_check_picture("neighbours", line.sheet, line.force);
    if (code >= 0)
        return code;
    int rc = search(&line, (const char *const *)argv + optind, (size_t)(argc - optind), &s, &e);
    if (rc == 0) {
        rc = show(&line, &s, &e);
        search_fini(&s);
    }
    return rc == 0 ? COMMAND_DONE : command_failed("neighbours", &e);
}
