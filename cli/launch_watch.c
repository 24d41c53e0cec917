/* Subscriptions and drawing. What cannot be decoded is ignored: an observer never stops a run. */
#include "cli/launch_watch.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "proto/keys.h"
#include "proto/run_dir.h"

enum {
    METRICS_BYTES_MAX = 65536,
    LINE_EVERY_MS = 10000, /* where lines pile up */
    DRAW_EVERY_MS = 200,   /* where one line is drawn over itself */
    COLUMNS_DEFAULT = 100,
};

/* Another run's server may hold the address: whoever speaks must have this run's name, configuration, and the
 * generation that this directory knows. */
static bool is_ours(struct launch_source *s, const struct msg *m)
{
    const struct run_config *c = s->watch->config;
    if (strcmp(m->run, c->run.name) != 0 || m->config != run_config_hash(c))
        return false;
    if (m->generation != s->generation)
        s->generation = run_dir_generation(c, s->server);
    return m->generation == s->generation;
}

static void on_metrics(void *arg, struct buf **frames, size_t n)
{
    struct launch_source *s = arg;
    struct launch_watch *w = s->watch;
    struct msg m;
    enum reason why;
    struct error e;
    if (n < 2)
        return;
    if (msg_decode(frames + 1, n - 1, &m, &why, &e) == 0 && is_ours(s, &m)) /* frame 0 is the topic */
        progress_on_metrics(&w->progress, &m, uv_now(w->loop));
    msg_fini(&m);
}

/* Once is enough: the children's own logs go on about it. */
static void on_event(void *arg, const struct net_event *event)
{
    struct launch_watch *w = arg;
    if (w->refused || event->kind == NET_HANDSHAKE_DONE || event->kind == NET_DISCONNECTED)
        return;
    w->refused = true;
    launch_watch_clear(w);
    fprintf(w->log, "no progress from %s: %s\n", event->endpoint,
            keys_hint(event, w->config->keys.directory[0] != '\0'));
}

static int subscribe(struct launch_watch *w, struct launch_source *s, enum server server, const char *endpoint,
                     struct error *e)
{
    struct net_curve curve;
    struct net_options o = {.role = NET_SUB,
                            .endpoint = endpoint,
                            .message_bytes_max = METRICS_BYTES_MAX,
                            .curve = &curve,
                            .on_event = on_event,
                            .event_arg = w};
    s->watch = w;
    s->server = server;
    int rc = keys_of_client(w->config, "viewer", server, &curve, e);
    if (rc == 0)
        rc = net_open(w->net, w->loop, &o, on_metrics, s, &s->socket, e);
    keys_wipe(&curve);
    return rc == 0 ? net_subscribe(s->socket, "metrics", e) : rc;
}

int launch_watch_open(struct launch_watch *w, uv_loop_t *loop, const struct run_config *config, bool joint, FILE *log,
                      struct error *e)
{
    memset(w, 0, sizeof *w);
    progress_init(&w->progress, config);
    w->loop = loop;
    w->config = config;
    w->log = log;
    w->terminal = isatty(fileno(log)) == 1;
    w->shown_ms = w->opened_ms = uv_now(loop);
    int rc = net_new(&w->net, e);
    if (rc == 0)
        rc = subscribe(w, &w->parameter, SERVER_PARAMETER, config->net.parameter_publish, e);
    if (rc == 0 && !joint)
        rc = subscribe(w, &w->prototype, SERVER_PROTOTYPE, config->net.prototype_publish, e);
    return rc;
}

/* Cut to the terminal's width: a line that wraps cannot be drawn over. */
static void draw(struct launch_watch *w, const char *line)
{
    struct winsize size = {0};
    int columns = ioctl(fileno(w->log), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : COLUMNS_DEFAULT;
    fprintf(w->log, "\r\033[K%.*s", columns, line);
    fflush(w->log);
    w->drawn = true;
}

static void show(struct launch_watch *w, const char *line, uint64_t now)
{
    w->shown_ms = now;
    if (w->terminal)
        draw(w, line);
    else
        fprintf(w->log, "%s\n", line);
}

void launch_watch_loading(struct launch_watch *w, uint64_t done, uint64_t total)
{
    char line[PROGRESS_LINE_MAX], left[32] = "";
    uint64_t now = uv_now(w->loop), every = w->terminal ? DRAW_EVERY_MS : LINE_EVERY_MS;
    if (w->progress.step > 0 || done > total || total == 0 || now - w->shown_ms < every)
        return;
    if (done > 0)
        progress_duration(1e-3 * (double)(now - w->opened_ms) * (double)(total - done) / (double)done, left,
                          sizeof left);
    snprintf(line, sizeof line, "loading images: %.0f %% of %" PRIu64 "%s%s%s", 100 * (double)done / (double)total,
             total, done > 0 ? ", " : "", left, done > 0 ? " left" : "");
    show(w, line, now);
}

void launch_watch_tick(struct launch_watch *w)
{
    char line[PROGRESS_LINE_MAX];
    uint64_t now = uv_now(w->loop), every = w->terminal ? DRAW_EVERY_MS : LINE_EVERY_MS;
    if (now - w->shown_ms < every || w->progress.step == w->shown_step || !progress_line(&w->progress, line))
        return;
    w->shown_step = w->progress.step;
    show(w, line, now);
}

void launch_watch_clear(struct launch_watch *w)
{
    if (!w->drawn)
        return;
    fputc('\n', w->log); /* keeps the last state readable */
    w->drawn = false;
}

/* The last state is always worth a line, also of a run too short for any. */
static void show_last(struct launch_watch *w)
{
    char line[PROGRESS_LINE_MAX];
    if (w->progress.step == w->shown_step || !progress_line(&w->progress, line))
        return;
    show(w, line, uv_now(w->loop));
}

void launch_watch_close(struct launch_watch *w)
{
    show_last(w);
    launch_watch_clear(w);
    if (w->parameter.socket)
        net_close(&w->parameter.socket);
    if (w->prototype.socket)
        net_close(&w->prototype.socket);
}

void launch_watch_fini(struct launch_watch *w)
{
    net_free(&w->net);
}
