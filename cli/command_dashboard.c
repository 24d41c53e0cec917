/* decant dashboard: a page that shows a run, or two, as they go on.
 *
 * The loop of this process looks at the runs and sets the topics; libmicrohttpd's thread serves them. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>
#include "cli/command.h"
#include "cli/dashboard_gallery.h"
#include "cli/dashboard_http.h"
#include "cli/dashboard_json.h"
#include "cli/source_options.h"
#include "common/blas.h"

static const char help[] =
    "example: decant dashboard fashion-mnist\n\n"
    "usage: decant dashboard [RUN | --run NAME | --out DIR] [--redis ADDRESS] [--compare RUN]\n"
    "                        [--listen HOST:PORT] [--host NAME]... [--interval SECONDS]\n\n"
    "Serves one page, for a browser, that shows a run as it goes on: the ring of its prototypes, how many are unique\n"
    "and active, loss, usage, closest pairs, workers, servers, events, and what all that means in words. Figures come\n"
    "from the Redis mirror while it is live and from the run's files. A prototype that is clicked shows the images\n"
    "nearest to it, where the run's images and checkpoints are on this machine. It only reads, also a run that has "
    "not\n"
    "begun. Ctrl-C ends.\n\n" SOURCE_OPTIONS_HELP
    "  --compare RUN      a second run beside it, on the same axis of steps\n"
    "  --listen ADDRESS   HOST:PORT to listen on (127.0.0.1:8420); port 0 takes any that is free. There is no\n"
    "                     password: from elsewhere rather use ssh -L 8420:127.0.0.1:8420 HOST\n"
    "  --host NAME        a further host name under which browsers may ask, at most 8\n"
    "  --interval S       seconds between two looks (1)\n";

static const struct option options[] = {
    SOURCE_OPTIONS,
    {"compare", required_argument, NULL, 'c'},
    {"listen", required_argument, NULL, 'l'},
    {"host", required_argument, NULL, 'H'},
    {"interval", required_argument, NULL, 'i'},
    {NULL, 0, NULL, 0},
};

enum topic { TOPIC_STATE, TOPIC_HISTORY, TOPIC_SHAPE, TOPICS_PER_RUN };
enum { RUNS_MAX = 2, SIGNALS = 3 };
static const char *const topics[RUNS_MAX * TOPICS_PER_RUN] = {"state-a", "history-a", "shape-a",
                                                              "state-b", "history-b", "shape-b"};

struct dashboard {
    struct source_options options[RUNS_MAX];
    size_t run_count;
    struct dashboard_run runs[RUNS_MAX];
    struct dashboard_gallery *galleries[RUNS_MAX];
    unsigned history_sent[RUNS_MAX], shape_sent[RUNS_MAX]; /* versions */
    struct dashboard_http_options http_options;
    struct dashboard_http *http;
    uint64_t interval_ms;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t signals[SIGNALS];
};

/* ---- looking ---- */

/* What did not fit into memory is shown at a later look. */
static void show_run(struct dashboard *d, size_t i, const struct words *compare)
{
    struct dashboard_run *r = &d->runs[i];
    size_t base = i * TOPICS_PER_RUN;
    dashboard_http_set(d->http, base + TOPIC_STATE, dashboard_state_json(r, compare));
    if (d->history_sent[i] != r->history_version &&
        dashboard_http_set(d->http, base + TOPIC_HISTORY, dashboard_history_json(r)) == 0)
        d->history_sent[i] = r->history_version;
    if (d->shape_sent[i] != r->shape_version &&
        dashboard_http_set(d->http, base + TOPIC_SHAPE, dashboard_shape_json(r)) == 0)
        d->shape_sent[i] = r->shape_version;
}

static void on_tick(uv_timer_t *timer)
{
    struct dashboard *d = timer->data;
    struct words compare = {.count = 0}, none = {.count = 0};
    for (size_t i = 0; i < d->run_count; i++)
        dashboard_run_look(&d->runs[i]);
    if (d->run_count == RUNS_MAX)
        dashboard_words_compare(d->runs[0].state.run, &d->runs[0].facts, d->runs[1].state.run, &d->runs[1].facts,
                                &compare);
    for (size_t i = 0; i < d->run_count; i++)
        show_run(d, i, i == 0 ? &compare : &none);
    dashboard_http_wake(d->http);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    (void)signum;
    uv_stop(handle->loop);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    uv_close(handle, NULL);
}

static void watch(struct dashboard *d)
{
    static const int signums[SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
    uv_timer_init(&d->loop, &d->timer);
    d->timer.data = d;
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        uv_signal_start(&d->signals[i], on_signal, signums[i]);
    }
    uv_timer_start(&d->timer, on_tick, 0, d->interval_ms);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    uv_walk(&d->loop, close_handle, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
}

/* ---- command line ---- */

/* A directory that exists, or else a run's name. */
static void take_compare(struct dashboard *d)
{
    struct stat st;
    bool directory = stat(optarg, &st) == 0 && S_ISDIR(st.st_mode);
    d->run_count = RUNS_MAX;
    d->options[1].directory = directory || strchr(optarg, '/') ? optarg : NULL;
    d->options[1].run = d->options[1].directory ? NULL : optarg;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct dashboard *d = arg;
    struct dashboard_gate *gate = &d->http_options.gate;
    double seconds;
    switch (option) {
    case 'c':
        take_compare(d);
        return -1;
    case 'l':
        d->http_options.address = optarg;
        return -1;
    case 'H':
        if (gate->name_count == GATE_NAMES_MAX)
            return command_usage("dashboard", "--host: at most %d names", GATE_NAMES_MAX);
        gate->names[gate->name_count++] = optarg;
        return -1;
    case 'i':
        if (command_seconds(optarg, 0.1, 3600, &seconds) != 0)
            return command_usage("dashboard", "--interval %s: expected seconds in 0.1..3600", optarg);
        d->interval_ms = (uint64_t)(seconds * 1000);
        return -1;
    }
    source_option_take(option, optarg, &d->options[0]);
    return -1;
}

static const struct command_options command = {
    .name = "dashboard", .help = help, .options = options, .take = take_option, .arguments_max = 1};

static void print_address(const struct dashboard *d)
{
    const char *address = d->http_options.address;
    printf("dashboard: http://%.*s:%u/\n", (int)(strrchr(address, ':') - address), address,
           dashboard_http_port(d->http));
    fflush(stdout);
}

/* ---- nearest images ---- */

/* "/nearest/a/12.png" or "/nearest/b/12.png", and nothing that is only like it. */
static bool parse_nearest(const struct dashboard *d, const char *path, size_t *run, uint32_t *prototype)
{
    char name, expected[64];
    if (sscanf(path, "/nearest/%c/%" SCNu32, &name, prototype) != 2)
        return false;
    *run = (size_t)(name - 'a');
    snprintf(expected, sizeof expected, "/nearest/%c/%" PRIu32 ".png", name, *prototype);
    return name >= 'a' && *run < d->run_count && strcmp(path, expected) == 0;
}

static void answer_line(struct dashboard_answer *out, unsigned status, const char *line)
{
    out->status = status;
    out->type = "text/plain; charset=utf-8";
    out->body = strdup(line);
    out->size = out->body ? strlen(out->body) : 0;
}

static void answer_nearest(void *arg, const char *path, struct dashboard_answer *out)
{
    struct dashboard *d = arg;
    struct error e;
    size_t run;
    uint32_t prototype;
    char *png;
    if (!parse_nearest(d, path, &run, &prototype))
        return;
    out->type = "image/png";
    switch (dashboard_gallery_picture(d->galleries[run], prototype, &png, &out->size, &e)) {
    case GALLERY_PICTURE:
        out->status = 200;
        out->body = png;
        return;
    case GALLERY_BUSY:
        answer_line(out, 202, "the newest checkpoint is looking at the images\n");
        return;
    case GALLERY_UNKNOWN:
        answer_line(out, 404, "there is no such prototype\n");
        return;
    case GALLERY_FAILED:
        answer_line(out, 503, e.text);
        return;
    }
}

static int serve(struct dashboard *d, struct error *e)
{
    d->http_options.more = answer_nearest;
    d->http_options.more_arg = d;
    d->http_options.gate.loopback = dashboard_gate_loopback(d->http_options.address);
    d->http_options.topics = topics;
    d->http_options.topic_count = d->run_count * TOPICS_PER_RUN;
    int rc = dashboard_http_open(&d->http_options, &d->http, e);
    if (rc == 0 && uv_loop_init(&d->loop) != 0)
        rc = error_set(e, ERR_IO, "cannot make an event loop");
    if (rc == 0) {
        print_address(d);
        watch(d);
        uv_loop_close(&d->loop);
    }
    dashboard_http_close(&d->http);
    return rc;
}

static int run(struct dashboard *d)
{
    struct error e = {0};
    int rc = 0;
    blas_single_threaded();
    for (size_t i = 0; rc == 0 && i < d->run_count; i++) {
        rc = dashboard_run_open(&d->options[i], &d->runs[i], &e);
        if (rc == 0)
            rc = dashboard_gallery_open(d->runs[i].source.directory, &d->galleries[i], &e);
    }
    if (rc == 0)
        rc = serve(d, &e);
    for (size_t i = 0; i < d->run_count; i++) {
        dashboard_gallery_close(&d->galleries[i]);
        dashboard_run_close(&d->runs[i]);
    }
    return rc == 0 ? COMMAND_DONE : command_failed("dashboard", &e);
}

int command_dashboard(int argc, char **argv)
{
    struct dashboard *d = calloc(1, sizeof *d);
    if (!d)
        return COMMAND_FAILED;
    d->interval_ms = 1000;
    d->run_count = 1;
    d->http_options.address = "127.0.0.1:8420";
    int code = command_take_options(&command, argc, argv, d);
    if (code < 0)
        code = source_argument_take("dashboard", argc, argv, &d->options[0]);
    if (code < 0)
        code = run(d);
    free(d);
    return code;
}
