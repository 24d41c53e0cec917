/* decant top: a run as it goes on, on one screen that is drawn again every second.
 *
 * On a terminal one libuv loop reads keys, hears of resizes and signals, and ticks; the alternate screen and raw mode
 * are entered before it and left after it, whatever ended it. Elsewhere plain snapshots are printed. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "cli/command.h"
#include "cli/source_options.h"
#include "cli/top_screen.h"

static const char help[] =
    "example: decant top fashion-mnist\n\n"
    "usage: decant top [RUN | --run NAME | --out DIR] [--redis ADDRESS] [--interval SECONDS] [--once]\n\n"
    "Step, loss, prototypes, workers and how long ago each process was heard, drawn again every second. q or Ctrl-C\n"
    "ends. When stdout is no terminal, plain snapshots are printed one after the other. NO_COLOR switches colours "
    "off.\n"
    "Figures come from the Redis mirror while it is live, and from the metrics files in the run's "
    "directory.\n\n" SOURCE_OPTIONS_HELP "  --interval S       seconds between two looks (1)\n"
    "  --once             one plain snapshot\n";

static const struct option options[] = {
    SOURCE_OPTIONS,
    {"interval", required_argument, NULL, 'i'},
    {"once", no_argument, NULL, '1'},
    {NULL, 0, NULL, 0},
};

struct top {
    struct source_options options;
    uint64_t interval_ms;
    bool once, terminal;
    struct top_source source;
    struct top_state state;
    struct top_screen screen;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t signals[4];
    uv_tty_t in, out;
    bool keys; /* stdin is a terminal too */
};

/* ---- drawing ---- */

static void print_lines(const struct top_screen *s, const char *ending)
{
    for (int i = 0; i < s->count; i++)
        printf("%s%s", s->lines[i], i + 1 < s->count || ending[0] == '\n' ? ending : "\033[K");
}

static void look(struct top *t)
{
    top_source_read(&t->source, &t->state);
    top_screen_draw(&t->screen, &t->state);
}

static void draw(struct top *t)
{
    if (uv_tty_get_winsize(&t->out, &t->screen.width, &t->screen.height) != 0)
        t->screen.width = t->screen.height = 0;
    top_screen_draw(&t->screen, &t->state);
    fputs("\033[H", stdout);
    print_lines(&t->screen, "\033[K\n");
    fputs("\033[J", stdout);
    fflush(stdout);
}

/* False when nobody reads any more. */
static bool print_snapshot(struct top *t)
{
    look(t);
    print_lines(&t->screen, "\n");
    return fflush(stdout) == 0;
}

/* ---- the loop ---- */

static void on_tick(uv_timer_t *timer)
{
    struct top *t = timer->data;
    if (t->terminal) {
        top_source_read(&t->source, &t->state);
        draw(t);
    } else {
        putchar('\n');
        if (!print_snapshot(t))
            uv_stop(&t->loop);
    }
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct top *t = handle->data;
    if (signum != SIGWINCH)
        uv_stop(&t->loop);
    else if (t->terminal)
        draw(t);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char keys[64]; /* typed; one loop, one reader */
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(keys, sizeof keys);
}

/* Raw mode: Ctrl-C is a byte. */
static void on_keys(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct top *t = stream->data;
    bool ends = n < 0 && n != UV_EAGAIN;
    for (ssize_t i = 0; i < n; i++)
        ends |= buf->base[i] == 'q' || buf->base[i] == 'Q' || buf->base[i] == 3 || buf->base[i] == 4;
    if (ends)
        uv_stop(&t->loop);
}

static void watch_signals(struct top *t)
{
    static const int signums[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    for (size_t i = 0; i < sizeof signums / sizeof signums[0]; i++) {
        uv_signal_init(&t->loop, &t->signals[i]);
        t->signals[i].data = t;
        uv_signal_start(&t->signals[i], on_signal, signums[i]);
    }
}

static void open_terminal(struct top *t)
{
    t->terminal = uv_tty_init(&t->loop, &t->out, STDOUT_FILENO, 0) == 0;
    t->keys = t->terminal && isatty(STDIN_FILENO) && uv_tty_init(&t->loop, &t->in, STDIN_FILENO, 1) == 0;
    if (t->keys) {
        t->in.data = t;
        uv_tty_set_mode(&t->in, UV_TTY_MODE_RAW);
        uv_read_start((uv_stream_t *)&t->in, on_room, on_keys);
    }
    fputs("\033[?1049h\033[?25l", stdout); /* alternate screen, no cursor */
}

static void close_terminal(void)
{
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    uv_tty_reset_mode();
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* A terminal that can move its cursor. */
static bool has_screen(void)
{
    const char *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

static void watch(struct top *t)
{
    bool screen = has_screen();
    uv_timer_init(&t->loop, &t->timer);
    t->timer.data = t;
    watch_signals(t);
    if (screen) {
        t->screen.colour = command_colours(stdout);
        open_terminal(t);
        on_tick(&t->timer);
    } else {
        print_snapshot(t);
    }
    uv_timer_start(&t->timer, on_tick, t->interval_ms, t->interval_ms);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    if (screen)
        close_terminal();
    uv_walk(&t->loop, close_handle, NULL);
    uv_run(&t->loop, UV_RUN_DEFAULT);
}

/* ---- command line ---- */

static int take_interval(struct top *t)
{
    double seconds;
    if (command_seconds(optarg, 0.1, 3600, &seconds) != 0)
        return command_usage("top", "--interval %s: expected seconds in 0.1..3600", optarg);
    t->interval_ms = (uint64_t)(seconds * 1000);
    return -1;
}

static int take_option(int option, void *arg)
{
    struct top *t = arg;
    if (option == 'i')
        return take_interval(t);
    if (option == '1')
        t->once = true;
    else
        source_option_take(option, optarg, &t->options);
    return -1;
}

static int run(struct top *t)
{
    struct error e = {0};
    int rc = top_source_open(&t->options, &t->source, &e);
    if (rc != 0)
        return command_failed("top", &e);
    if (t->once) {
        rc = print_snapshot(t) ? 0 : ERR_IO;
    } else if ((rc = uv_loop_init(&t->loop)) == 0) {
        watch(t);
        uv_loop_close(&t->loop);
    }
    top_source_close(&t->source);
    return rc == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

static const struct command_options command = {
    .name = "top", .help = help, .options = options, .take = take_option, .arguments_max = 1};

int command_top(int argc, char **argv)
{
    struct top *t = calloc(1, sizeof *t); /* the screen and the state are large */
    if (!t)
        return COMMAND_FAILED;
    t->interval_ms = 1000;
    int code = command_take_options(&command, argc, argv, t);
    if (code < 0)
        code = source_argument_take("top", argc, argv, &t->options);
    if (code < 0)
        code = run(t);
    free(t);
    return code;
}
