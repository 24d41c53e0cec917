/* decant status: one screen about a run. */
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/command.h"
#include "cli/json_print.h"
#include "cli/printable.h"
#include "cli/run_figures.h"
#include "cli/run_source.h"
#include "cli/source_options.h"

static const char help[] = "example: decant status fashion-mnist\n\n"
                           "usage: decant status [RUN | --run NAME | --out DIR | --checkpoint DIR] [--redis ADDRESS] "
                           "[--json]\n\n" SOURCE_OPTIONS_HELP "  --json             one JSON object on stdout\n";

/* How the screen names figures; those not listed are left to --json and redis-cli. */
static const struct {
    const char *name, *label;
} screen[] = {
    {"unique_0025", "unique %, eps 0.025"},
    {"unique_01", "unique %, eps 0.1"},
    {"unique_025", "unique %, eps 0.25"},
    {"unique_05", "unique %, eps 0.5"},
    {"active", "active lately, %"},
    {"perplexity", "usage perplexity"},
    {"effective_rank", "effective rank"},
    {"loglik", "log-likelihood"},
    {"beta", "annealing exponent"},
    {"reseeded", "re-seeded so far"},
    {"workers", "workers"},
    {"stats_per_s", "statistics/s"},
    {"mirror_lag_ms", "mirror lag, ms"},
    {"updated", "updated"},
};

static const char *or_dash(const char *text)
{
    return text ? text : "-";
}

static void print_screen(struct run_source *s, struct run_figures *f)
{
    printable(s->run);
    printable(s->where);
    for (size_t i = 0; i < f->count; i++)
        printable(f->items[i].value);
    const char *total = run_figures_find(f, "total_steps");
    printf("run '%s' (%s)\n", s->run, s->where);
    printf("  %-22s %s", "step", or_dash(run_figures_find(f, "step")));
    if (total && strcmp(total, "0") != 0)
        printf(" of %s", total);
    printf("\n  %-22s K = %s, D = %s\n", "prototypes", or_dash(run_figures_find(f, "K")),
           or_dash(run_figures_find(f, "D")));
    for (size_t i = 0; i < sizeof screen / sizeof screen[0]; i++) {
        const char *value = run_figures_find(f, screen[i].name);
        if (value)
            printf("  %-22s %s\n", screen[i].label, value);
    }
}

/* Whole numbers as integers: a step is not 60.0. */
static json_t *number_json(double number)
{
    bool whole = number == floor(number) && fabs(number) < 1e15;
    return whole ? json_integer((json_int_t)number) : json_real(number);
}

static int print_json(const struct run_source *s, const struct run_figures *f)
{
    json_t *o = json_pack("{s:s, s:s}", "run", s->run, "source", s->where);
    for (size_t i = 0; i < f->count; i++) {
        char *end;
        double number = strtod(f->items[i].value, &end);
        bool numeric = end != f->items[i].value && *end == '\0' && strcmp(f->items[i].name, "config") != 0;
        json_t *value = numeric ? number_json(number) : json_string(f->items[i].value);
        json_object_set_new(o, f->items[i].name, value);
    }
    return json_print(o, stdout);
}

struct status_line {
    struct source_options source;
    bool json;
};

static const struct option options[] = {SOURCE_OPTIONS, {"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};

static int take_option(int option, void *arg)
{
    struct status_line *line = arg;
    if (option == 'j')
        line->json = true;
    else
        source_option_take(option, optarg, &line->source);
    return -1;
}

static const struct command_options command = {
    .name = "status", .help = help, .options = options, .take = take_option, .arguments_max = 1};

int command_status(int argc, char **argv)
{
    struct status_line line = {0};
    struct run_source s;
    struct run_figures figures;
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0)
        code = source_argument_take("status", argc, argv, &line.source);
    if (code >= 0)
        return code;
    if (run_source_open(&line.source, &s, &e) != 0)
        return command_failed("status", &e);
    int rc = run_figures_read(&s, &figures, &e);
    if (rc != 0)
        command_failed("status", &e);
    else if (line.json)
        rc = print_json(&s, &figures);
    else
        print_screen(&s, &figures);
    run_source_close(&s);
    return rc == 0 ? COMMAND_DONE : COMMAND_FAILED;
}
