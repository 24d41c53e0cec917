/* Metrics in, a line of text out; no clock and no terminal. */
#include "cli/progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void progress_init(struct progress *p, const struct run_config *config)
{
    memset(p, 0, sizeof *p);
    p->config = config;
    p->epoch = -1;
}

static void take_training(struct progress *p, const struct msg *m, uint64_t now_ms)
{
    if (!p->trained) {
        p->first_step = m->step;
        p->first_ms = now_ms;
    }
    p->trained = true;
    p->step = m->step;
    p->step_ms = now_ms;
    p->epoch = msg_scalar(m, "epoch", -1);
    p->loss = msg_scalar(m, "loss", NAN);
    p->consistency = msg_scalar(m, "consistency", NAN);
    p->entropy = msg_scalar(m, "entropy", NAN);
    p->mean_entropy = msg_scalar(m, "mean_entropy", 0);
    p->coding_rate = msg_scalar(m, "coding_rate", 0);
    p->feature_rate = msg_scalar(m, "feature_rate", 0);
    p->images_per_s = msg_scalar(m, "images_per_s", 0);
    p->workers = msg_scalar(m, "workers", 0);
}

static void take_diagnostics(struct progress *p, const struct msg *m)
{
    p->measured = true;
    p->unique_0025 = msg_scalar(m, "unique_0025", NAN);
    p->unique_01 = msg_scalar(m, "unique_01", NAN);
    p->active = msg_scalar(m, "active", NAN);
}

void progress_on_metrics(struct progress *p, const struct msg *m, uint64_t now_ms)
{
    if (m->type != MSG_METRICS)
        return;
    if (!isnan(msg_scalar(m, "loss", NAN)))
        take_training(p, m, now_ms);
    if (!isnan(msg_scalar(m, "unique_0025", NAN)))
        take_diagnostics(p, m);
}

/* Without run.steps the total follows from how far the steps so far have come in epochs. */
uint64_t progress_total(const struct progress *p)
{
    if (p->config->run.steps > 0)
        return (uint64_t)p->config->run.steps;
    if (!p->trained || p->epoch <= 0 || p->step == 0)
        return 0;
    double steps_per_epoch = round((double)p->step / p->epoch);
    return (uint64_t)(steps_per_epoch * (double)p->config->run.epochs);
}

bool progress_is_over(const struct progress *p)
{
    uint64_t total = progress_total(p);
    return p->trained && total > 0 && p->step >= total;
}

void progress_duration(double seconds, char *out, size_t size)
{
    uint64_t s = seconds > 0 ? (uint64_t)(seconds + 0.5) : 0;
    if (s < 60)
        snprintf(out, size, "%" PRIu64 "s", s);
    else if (s < 3600)
        snprintf(out, size, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else
        snprintf(out, size, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
}

/* Appends, staying within the line. */
static void add(char out[PROGRESS_LINE_MAX], const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(char out[PROGRESS_LINE_MAX], const char *format, ...)
{
    size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, PROGRESS_LINE_MAX - used, format, args);
    va_end(args);
}

static void add_position(const struct progress *p, char out[PROGRESS_LINE_MAX])
{
    uint64_t total = progress_total(p);
    if (p->epoch >= 0)
        add(out, "epoch %.1f", p->epoch);
    if (p->epoch >= 0 && p->config->run.steps == 0)
        add(out, "/%" PRId64, p->config->run.epochs);
    add(out, "%sstep %" PRIu64, out[0] ? "  " : "", p->step);
    if (total > 0)
        add(out, "/%" PRIu64, total);
}

static void add_time_left(const struct progress *p, char out[PROGRESS_LINE_MAX])
{
    uint64_t total = progress_total(p);
    if (total <= p->step || p->step <= p->first_step || p->step_ms <= p->first_ms)
        return;
    double per_step = (double)(p->step_ms - p->first_ms) / 1000.0 / (double)(p->step - p->first_step);
    char left[32];
    progress_duration(per_step * (double)(total - p->step), left, sizeof left);
    add(out, "  %s left", left);
}

/* The parts only where there are several. */
static void add_loss(const struct progress *p, char out[PROGRESS_LINE_MAX])
{
    const struct run_config *c = p->config;
    bool carp = c->loss.objective == LOSS_CARP;
    add(out, "  loss %.3f (", p->loss);
    if (carp || run_config_mean_entropy(c) > 0 || c->loss.coding_rate > 0 || c->loss.feature_rate > 0)
        add(out, "consistency %.3f", p->consistency);
    if (carp)
        add(out, ", entropy %.3f", p->entropy);
    if (run_config_mean_entropy(c) > 0)
        add(out, ", mean entropy %.3f", p->mean_entropy);
    if (c->loss.coding_rate > 0)
        add(out, ", coding rate %.3f", p->coding_rate);
    if (c->loss.feature_rate > 0)
        add(out, ", feature rate %.3f", p->feature_rate);
    bool parts = out[strlen(out) - 1] != '(';
    add(out, "%sln K %.2f)", parts ? "; " : "", log((double)c->mixture.components));
}

bool progress_line(const struct progress *p, char out[PROGRESS_LINE_MAX])
{
    out[0] = '\0';
    if (!p->trained)
        return false;
    add_position(p, out);
    add_time_left(p, out);
    add_loss(p, out);
    if (p->measured)
        add(out, "  unique %.1f/%.1f %%  active lately %.1f %%", p->unique_0025, p->unique_01, p->active);
    add(out, "  %.0f images/s  %.0f worker%s", p->images_per_s, p->workers, p->workers == 1 ? "" : "s");
    return true;
}
