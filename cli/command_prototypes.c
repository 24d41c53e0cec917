/* decant prototypes: a table of them, and a picture of the images nearest to each. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/command.h"
#include "cli/contact_sheet.h"
#include "cli/json_print.h"
#include "cli/output_file.h"
#include "cli/prototype_sheet.h"
#include "cli/prototype_table.h"
#include "cli/source_options.h"

enum { LIMIT_DEFAULT = 20 };

static const char help[] =
    "example: decant prototypes fashion-mnist --sort nearest --limit 10\n\n"
    "usage: decant prototypes [--sort weight|nearest|index] [--limit N] [--json]\n"
    "                         [RUN | --run NAME | --out DIR | --checkpoint DIR] [--redis ADDRESS]\n"
    "                         [--sheet FILE.png [--data PATH] [--images N] [--force]]\n\n"
    "  --sort ORDER       weight: heaviest first (default); nearest: most similar pairs first; index\n"
    "  --limit N          rows (20); 0 shows all\n"
    "  --json             {\"run\", \"prototypes\": [{\"index\", \"weight\", \"mass\", \"usage\", \"nearest\", "
    "\"cosine\"}]}\n"
    "  --sheet FILE.png   a picture instead: for each of these prototypes its nine nearest images; at most 256 rows.\n"
    "                     It takes the encoder, hence the newest checkpoint, however live the run is\n"
    "  --data PATH        images to look in (docs/DATA.md); without it the run's own (data.path)\n"
    "  --images N         at most so many of them, a fixed choice (the run's eval.bank)\n"
    "  --force            overwrite FILE.png if it is a regular file\n" SOURCE_OPTIONS_HELP;

static const struct option options[] = {SOURCE_OPTIONS,
                                        {"sort", required_argument, NULL, 's'},
                                        {"limit", required_argument, NULL, 'l'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"sheet", required_argument, NULL, 'S'},
                                        {"data", required_argument, NULL, 'd'},
                                        {"images", required_argument, NULL, 'i'},
                                        {"force", no_argument, NULL, 'F'},
                                        {NULL, 0, NULL, 0}};

struct prototypes_line {
    struct source_options source;
    enum prototype_order order;
    struct prototype_sheet_options sheet; /* out NULL: the table */
    long long limit;
    bool json, force;
};

static int take_order(struct prototypes_line *line)
{
    static const char *const names[] = {
        [ORDER_INDEX] = "index", [ORDER_WEIGHT] = "weight", [ORDER_NEAREST] = "nearest"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(optarg, names[i]) == 0) {
            line->order = (enum prototype_order)i;
            return -1;
        }
    return command_usage("prototypes", "--sort %s: expected weight, nearest or index", optarg);
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct prototypes_line *line = arg;
    switch (option) {
    case 's':
        return take_order(line);
    case 'l':
        if (command_number(optarg, 0, UINT32_MAX, &line->limit) != 0)
            return command_usage("prototypes", "--limit %s: expected a number of rows", optarg);
        return -1;
    case 'j':
        line->json = true;
        return -1;
    case 'S':
        line->sheet.out = optarg;
        return -1;
    case 'd':
        line->sheet.data = optarg;
        return -1;
    case 'i':
        if (command_number(optarg, 1, UINT32_MAX, &line->sheet.images) != 0)
            return command_usage("prototypes", "--images %s: expected a number of images", optarg);
        return -1;
    case 'F':
        line->force = true;
        return -1;
    default:
        source_option_take(option, optarg, &line->source);
        return -1;
    }
}

static void print_value(const char *format, double value)
{
    if (isnan(value))
        printf(" %12s", "-");
    else
        printf(format, value);
}

static void print_table(const struct prototype_row *rows, uint32_t count)
{
    printf("%7s %12s %12s %12s %8s %12s\n", "index", "weight", "mass", "usage", "nearest", "cosine");
    for (uint32_t i = 0; i < count; i++) {
        printf("%7u", rows[i].index);
        print_value(" %12.6f", rows[i].weight);
        print_value(" %12.3f", rows[i].mass);
        print_value(" %12.6f", rows[i].usage);
        if (rows[i].nearest == UINT32_MAX)
            printf(" %8s", "-");
        else
            printf(" %8u", rows[i].nearest);
        print_value(" %12.6f", rows[i].cosine);
        putchar('\n');
    }
}

static json_t *value_json(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static int print_json(const struct run_source *s, const struct prototype_row *rows, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++) {
        const struct prototype_row *r = &rows[i];
        json_t *nearest = r->nearest == UINT32_MAX ? json_null() : json_integer(r->nearest);
        json_array_append_new(list,
                              json_pack("{s:i, s:o, s:o, s:o, s:o, s:o}", "index", (int)r->index, "weight",
                                        value_json(r->weight), "mass", value_json(r->mass), "usage",
                                        value_json(r->usage), "nearest", nearest, "cosine", value_json(r->cosine)));
    }
    return json_print(json_pack("{s:s, s:s, s:o}", "run", s->run, "source", s->where, "prototypes", list), stdout);
}

static int write_sheet(const struct run_source *s, const struct prototype_row *rows, uint32_t count,
                       const struct prototypes_line *line, struct error *e)
{
    if (count > SHEET_ROWS_MAX)
        return error_set(e, ERR_RANGE, "%u prototypes: a picture has at most %d rows; add --limit %d", count,
                         SHEET_ROWS_MAX, SHEET_ROWS_MAX);
    int rc = prototype_sheet_write(&s->checkpoint, rows, count, &line->sheet, e);
    if (rc == 0)
        printf("%s: %u prototypes of step %" PRIu64 "\n", line->sheet.out, count, s->checkpoint.step);
    return rc;
}

static int show(struct run_source *s, const struct prototypes_line *line, struct error *e)
{
    struct prototype_row *rows;
    uint32_t count;
    int rc = prototype_table_read(s, &rows, &count, e);
    if (rc != 0)
        return rc;
    prototype_table_sort(rows, count, line->order);
    uint32_t shown = line->limit > 0 && line->limit < count ? (uint32_t)line->limit : count;
    if (line->sheet.out)
        rc = write_sheet(s, rows, shown, line, e);
    else if (line->json)
        rc = print_json(s, rows, shown) == 0 ? 0 : error_set(e, ERR_IO, "cannot write the table");
    else
        print_table(rows, shown);
    free(rows);
    return rc;
}

/* What --sheet goes with: -1, or the exit code. */
static int check_line(const struct prototypes_line *line)
{
    if (line->sheet.out == NULL)
        return line->sheet.data || line->sheet.images > 0 || line->force
                   ? command_usage("prototypes", "--data, --images and --force are for a picture: add --sheet FILE.png")
                   : -1;
    if (line->json || line->source.redis[0] != '\0')
        return command_usage("prototypes", "--sheet is a picture from a checkpoint: leave %s away",
                             line->json ? "--json" : "--redis");
    return output_file_check_picture("prototypes", line->sheet.out, line->force);
}

static const struct command_options command = {
    .name = "prototypes", .help = help, .options = options, .take = take_option, .arguments_max = 1};

int command_prototypes(int argc, char **argv)
{
    struct prototypes_line line = {.order = ORDER_WEIGHT, .limit = LIMIT_DEFAULT, .sheet.progress = stderr};
    struct run_source s;
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0)
        code = source_argument_take("prototypes", argc, argv, &line.source);
    if (code < 0)
        code = check_line(&line);
    if (code >= 0)
        return code;
    int opened =
        line.sheet.out ? run_source_open_checkpoint(&line.source, &s, &e) : run_source_open(&line.source, &s, &e);
    if (opened != 0)
        return command_failed("prototypes", &e);
    int rc = show(&s, &line, &e);
    run_source_close(&s);
    return rc == 0 ? COMMAND_DONE : command_failed("prototypes", &e);
}
