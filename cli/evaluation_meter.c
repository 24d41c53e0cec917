/* The only part of an evaluation that looks at a clock. */
#include "cli/evaluation_meter.h"

#include <string.h>
#include <uv.h>
#include "cli/progress.h"

static const double terminal_every_s = 0.2, log_every_s = 10;
static const double estimate_after_s = 0.5; /* before that, what is left is a guess */

static double now(void)
{
    return 1e-9 * (double)uv_hrtime();
}

static bool silent(const struct evaluation_meter *m)
{
    return m == NULL || m->to == NULL;
}

void evaluation_meter_init(struct evaluation_meter *m, const char *doing, FILE *to, bool terminal)
{
    memset(m, 0, sizeof *m);
    m->doing = doing;
    m->to = to;
    m->terminal = terminal;
    m->started = m->shown = now();
}

void evaluation_meter_line(const char *doing, const char *stage, double fraction, double seconds, char *out,
                           size_t size)
{
    char left[32];
    int used = snprintf(out, size, "%s: %s", doing, stage);
    if (used < 0 || (size_t)used >= size || fraction <= 0 || fraction > 1)
        return;
    used += snprintf(out + used, size - (size_t)used, "  %.0f %%", 100 * fraction);
    if ((size_t)used >= size || seconds < estimate_after_s)
        return;
    progress_duration(seconds * (1 - fraction) / fraction, left, sizeof left);
    snprintf(out + used, size - (size_t)used, ", %s left", left);
}

static void show(struct evaluation_meter *m, double fraction, double at)
{
    char line[METER_STAGE_MAX + 64];
    evaluation_meter_line(m->doing, m->stage, fraction, at - m->started, line, sizeof line);
    fprintf(m->to, m->terminal ? "\r%s\033[K" : "%s\n", line);
    fflush(m->to);
    m->shown = at;
}

void evaluation_meter_stage(struct evaluation_meter *m, const char *who, const char *what)
{
    if (silent(m))
        return;
    snprintf(m->stage, sizeof m->stage, "%s: %s", who, what);
    m->started = now();
    if (m->terminal || m->started - m->shown >= log_every_s)
        show(m, 0, m->started);
}

void evaluation_meter_at(struct evaluation_meter *m, double fraction)
{
    if (silent(m))
        return;
    double at = now();
    if (at - m->shown >= (m->terminal ? terminal_every_s : log_every_s))
        show(m, fraction, at);
}

void evaluation_meter_end(struct evaluation_meter *m)
{
    if (silent(m) || !m->terminal)
        return;
    fputs("\r\033[K", m->to);
    fflush(m->to);
}
