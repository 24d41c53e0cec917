/* decant plot: the dashboard's pictures as files, without a browser. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/command.h"
#include "cli/plot_charts.h"
#include "cli/plot_png.h"
#include "cli/run_argument.h"
#include "cli/svg_write.h"
#include "common/blas.h"
#include "common/files.h"

enum { PNG_SCALE = 2 };

static const char help[] =
    "example: decant plot fashion-mnist --out pictures\n\n"
    "usage: decant plot [RUN | --run NAME | --checkpoint DIR] --out DIR\n\n"
    "Draws a run, going on or ended, into DIR as SVG and as PNG: ring (prototypes on their two principal directions,\n"
    "and their density by angle), unique, loss, perplexity, usage. What a run does not tell is left out, and "
    "said.\n\n" RUN_ARGUMENT_HELP "  --run NAME         its name (default)\n"
    "  --checkpoint DIR   a run's directory, or a checkpoints or step directory, whose prototypes are then drawn\n"
    "  --out DIR          where the files go; made when it is missing\n";

static const struct option options[] = {
    {"run", required_argument, NULL, 'n'},
    {"checkpoint", required_argument, NULL, 'c'},
    {"out", required_argument, NULL, 'o'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct plot_line {
    struct source_options source;
    const char *checkpoint, *out;
};

/* ---- reading ---- */

/* ROOT of ROOT/checkpoints/step-N, in place. */
static void root_of(char *step_directory)
{
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(step_directory, '/');
        if (slash == NULL) {
            strcpy(step_directory, i == 0 ? ".." : "."); /* relative: step-N, or checkpoints/step-N */
            return;
        }
        *slash = '\0';
    }
}

static int take_checkpoint(const char *directory, struct dashboard_run *r, struct error *e)
{
    struct checkpoint c;
    struct prototype_set set;
    int rc = checkpoint_open(directory, &c, e);
    if (rc != 0)
        return rc;
    rc = prototype_set_load(&c, &set, e);
    if (rc == 0) {
        rc = dashboard_shape_of(&set, &r->shape, e);
        prototype_set_fini(&set);
    }
    checkpoint_close(&c);
    return rc;
}

static int read_run(struct plot_line *line, struct dashboard_run *r, struct error *e)
{
    char root[CHECKPOINT_PATH_MAX];
    if (line->checkpoint) {
        int rc = checkpoint_find(line->checkpoint, root, e);
        if (rc != 0)
            return rc;
        root_of(root);
        line->source.directory = root;
    }
    int rc = dashboard_run_open(&line->source, r, e);
    if (rc == 0) {
        dashboard_run_catch_up(r);
        if (!r->facts.begun && r->state.trouble[0] != '\0')
            rc = error_set(e, ERR_IO, "%s", r->state.trouble);
        else if (!r->facts.begun)
            rc = error_set(e, ERR_NOT_FOUND, "%s: no run here; name one with --run or --checkpoint",
                           r->source.directory);
    }
    if (rc == 0 && line->checkpoint)
        rc = take_checkpoint(line->checkpoint, r, e);
    return rc;
}

/* ---- writing ---- */

static int write_file(const char *out, const char *name, const char *ending, const char *bytes, size_t size,
                      struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    if (path_format(path, sizeof path, "%s/%s.%s", out, name, ending) != 0)
        return error_set(e, ERR_CONFIG, "--out %.80s: too long", out);
    int rc = file_write_atomic(path, &(struct file_part){bytes, size}, 1, e);
    if (rc == 0)
        printf("%s\n", path);
    return rc;
}

static int write_chart(const struct plot_chart *chart, const struct plot_canvas *c, const char *out, struct error *e)
{
    char *svg = NULL, *png = NULL;
    size_t svg_size = 0, png_size = 0;
    int rc = svg_write(c, chart->title, &svg, &svg_size, e);
    if (rc == 0)
        rc = plot_png(c, PNG_SCALE, &png, &png_size, e);
    if (rc == 0)
        rc = write_file(out, chart->name, "svg", svg, svg_size, e);
    if (rc == 0)
        rc = write_file(out, chart->name, "png", png, png_size, e);
    free(svg);
    free(png);
    return rc;
}

static int write_all(const struct dashboard_run *r, const char *out, struct error *e)
{
    int rc = dir_make(out, e);
    for (int i = 0; rc == 0 && i < PLOT_CHARTS; i++) {
        struct plot_canvas c;
        if (plot_charts[i].draw(&plot_charts[i], r, &c))
            rc = write_chart(&plot_charts[i], &c, out, e);
        else
            fprintf(stderr, "decant plot: no %s: the run has no figures for it%s\n", plot_charts[i].name,
                    strcmp(plot_charts[i].name, "knn") == 0 ? " (eval.every makes them)" : "");
        plot_canvas_fini(&c);
    }
    return rc;
}

/* ---- command line ---- */

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct plot_line *line = arg;
    switch (option) {
    case 'n':
        line->source.run = optarg;
        return -1;
    case 'c':
        line->checkpoint = optarg;
        return -1;
    case 'o':
        line->out = optarg;
        return -1;
    }
    return -1;
}

static const struct command_options command = {
    .name = "plot", .help = help, .options = options, .take = take_option, .arguments_max = 1};

static int run(struct plot_line *line)
{
    struct error e = {0};
    struct dashboard_run *r = calloc(1, sizeof *r); /* large */
    if (!r)
        return COMMAND_FAILED;
    blas_single_threaded();
    int rc = read_run(line, r, &e);
    if (rc == 0)
        rc = write_all(r, line->out, &e);
    dashboard_run_close(r);
    free(r);
    return rc == 0 ? COMMAND_DONE : command_failed("plot", &e);
}

int command_plot(int argc, char **argv)
{
    struct plot_line line = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0)
        code = run_argument_take("plot", argc, argv, line.source.run || line.checkpoint, line.source.named);
    if (code < 0 && line.source.named[0] != '\0')
        line.source.directory = line.source.named;
    if (code < 0 && !line.out)
        code = command_usage("plot", "--out DIR is missing: where the pictures go");
    return code < 0 ? run(&line) : code;
}
