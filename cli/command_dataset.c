/* decant dataset check: loads an image set as a worker would and says what it is. */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/dataset_report.h"
#include "cli/evaluation_meter.h"
#include "cli/image_set.h"

static const char help[] =
    "example: decant dataset check photos/ --set data.side=64\n\n"
    "usage: decant dataset check PATH [--json] [--config FILE] [--set data.KEY=VALUE]...\n\n"
    "Loads the images at PATH as training would (docs/DATA.md has the formats) and prints what they are: format,\n"
    "splits, sizes, images in each class, memory, and the [data] section to paste into a configuration. Files that\n"
    "cannot be used are named with the cause. Several sets become one with colons between them, PATH:PATH; a colon\n"
    "in a name is written \\:.\n\n"
    "  --json             one JSON object on stdout\n"
    "  --config FILE      take the data.* keys from this INI file\n"
    "  --set data.KEY=VALUE  one of these keys\n\n"
    "Exit status: 0 nothing is wrong, 1 there are problems or no images, 2 wrong usage.\n";

enum { ASSIGNMENTS_MAX = 64 };

struct dataset_line {
    bool json;
    const char *config, *assignments[ASSIGNMENTS_MAX];
    size_t count;
};

static const struct option options[] = {
    {"json", no_argument, NULL, 'j'},
    {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct dataset_line *line = arg;
    switch (option) {
    case 'j':
        line->json = true;
        return -1;
    case 'c':
        line->config = optarg;
        return -1;
    case 's':
        if (line->count == ASSIGNMENTS_MAX)
            return command_usage("dataset", "more than %d times --set", ASSIGNMENTS_MAX);
        line->assignments[line->count++] = optarg;
        return -1;
    }
    return -1;
}

/* One meter for all that is read, one after the other: training images, then test images. */
struct load_line {
    struct evaluation_meter meter;
    const char *path;
    uint64_t done, total;
};

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    struct load_line *line = context;
    char images[32];
    snprintf(images, sizeof images, "%" PRIu64 " images", total);
    if (done < line->done || total != line->total)
        evaluation_meter_stage(&line->meter, images, line->path);
    line->done = done;
    line->total = total;
    image_set_progress(&line->meter, done, total);
}

static const struct command_options command = {
    .name = "dataset", .help = help, .options = options, .take = take_option, .arguments_max = 2};

static int check(const struct dataset_line *line, const char *path)
{
    struct run_config c;
    struct dataset_report r;
    struct load_line load = {.path = path};
    struct error e = {0};
    if (run_config_load(&c, line->config, environ, line->assignments, line->count, &e) != 0)
        return command_failed("dataset", &e);
    struct dataset_options o = dataset_options_of(&c);
    o.path = path;
    evaluation_meter_init(&load.meter, "loading", stderr, isatty(STDERR_FILENO));
    o.progress = show_progress;
    o.progress_context = &load;
    int rc = dataset_report_make(&o, &r, &e);
    evaluation_meter_end(&load.meter);
    if (rc != 0)
        return command_failed("dataset", &e);
    int code = dataset_report_problems(&r) == 0 ? COMMAND_DONE : COMMAND_FAILED;
    if (!line->json)
        dataset_report_print(&r, stdout);
    else if (dataset_report_print_json(&r, stdout) != 0)
        code = COMMAND_FAILED;
    dataset_report_fini(&r);
    return code;
}

int command_dataset(int argc, char **argv)
{
    struct dataset_line line = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code >= 0)
        return code;
    if (optind == argc || strcmp(argv[optind], "check") != 0)
        return command_usage("dataset", "what to do? There is: check PATH");
    if (optind + 2 != argc)
        return command_usage("dataset", "check takes one PATH");
    return check(&line, argv[optind + 1]);
}
