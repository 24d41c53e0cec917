/* What the parameter server does that the prototype server does not: gradients in, weights out, a report of each
 * step. */
#include "server/parameter/service.h"

#include <inttypes.h>
#include <stdlib.h>
#include "common/log.h"
#include "server/parameter/core_incarnation.h"
#include "server/parameter/encoder_checkpoint.h"
#include "server/parameter/parameter_numerics.h"
#include "server/parameter/prometheus.h"
#include "server/shell/metrics_file.h"
#include "server/shell/shell.h"

#define MESSAGE_BYTES_MAX (INT64_C(1) << 30) /* largest frame taken: 256 million parameters */
enum { PUBLISH_HWM = 4 /* messages queued for a slow subscriber; each may hold the whole model, and it can ask */ };

struct service {
    struct shell shell;
    struct parameter_incarnation lives;
    struct metrics_file metrics;
    struct initial_weights *initial; /* NULL until a run begins with given ones */
};

/* ---- messages ---- */

static int on_message(void *arg, uint64_t now, const struct peer *from, struct msg *m, struct outbox *out)
{
    struct service *s = arg;
    int rc = parameter_core_on_message(s->lives.core, now, from, m, out);
    if (rc == ERR_CONFIG)
        incarnation_fail(&s->shell.incarnation, rc, "encoder.init does not fit, see event=init_failed above");
    return rc;
}

static int on_refused(void *arg, const struct peer *from, const struct msg *m, enum reason why, const char *detail,
                      struct outbox *out)
{
    return parameter_core_on_undecodable(((struct service *)arg)->lives.core, from, m, why, detail, out);
}

static int on_timer(void *arg, uint64_t now, struct outbox *out)
{
    return parameter_core_on_timer(((struct service *)arg)->lives.core, now, out);
}

static void on_undelivered(void *arg, const struct outbox_item *item)
{
    parameter_core_on_undelivered(((struct service *)arg)->lives.core, item);
}

/* ---- checkpoints ---- */

static int write_encoder(const struct run_config *c, const void *snapshot, struct error *e)
{
    return encoder_checkpoint_write(c, snapshot, e);
}

static uint64_t encoder_bytes(const void *snapshot)
{
    const struct encoder_state *s = snapshot;
    uint64_t bytes = 0;
    const struct buf *const vectors[] = {s->vectors.student, s->vectors.teacher, s->vectors.buffers};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        bytes += vectors[i] ? vectors[i]->size : 0;
    for (int i = 0; i < MOMENTS_MAX; i++)
        bytes += s->vectors.moments[i] ? s->vectors.moments[i]->size : 0;
    return bytes;
}

static void drop_encoder(void *snapshot)
{
    encoder_state_fini(snapshot);
    free(snapshot);
}

static const struct checkpoint_kind encoder_checkpoints = {
    .server = SERVER_PARAMETER, .write = write_encoder, .bytes = encoder_bytes, .drop = drop_encoder};

static int find(void *arg, uint64_t step_max, struct encoder_state *out, struct error *e)
{
    return encoder_checkpoint_resume(((struct service *)arg)->shell.config, step_max, out, e);
}

/* A run that begins: what it begins with. Kept while the process lives, since it may go back to the start. */
static int begin(void *arg, struct parameter_core *core, struct error *e)
{
    struct service *s = arg;
    int rc = s->initial ? 0 : initial_weights_open(s->shell.config, &s->initial, e);
    if (rc == 0)
        parameter_core_set_initial(core, s->initial);
    return rc;
}

static void submit(void *arg, struct encoder_state *state)
{
    struct service *s = arg;
    struct encoder_state *snapshot = malloc(sizeof *snapshot);
    if (snapshot == NULL) {
        incarnation_fail(&s->shell.incarnation, ERR_MEMORY, "out of memory for a checkpoint");
        encoder_state_fini(state);
        return;
    }
    *snapshot = *state;
    checkpoint_writer_submit(&s->shell.writer, state->step, snapshot);
}

/* ---- for those who watch ---- */

static void write_report(struct service *s, const struct step_report *r)
{
    char *line = step_report_to_json(r);
    metrics_file_append(&s->metrics, line);
    free(line);
    log_info("event=step step=%" PRIu64 " loss=%.5g grad_norm=%.4g lr=%.4g step_ms=%.4g images_per_s=%.4g workers=%.0f",
             r->step, r->loss, r->grad_norm, r->lr, r->step_ms, r->images_per_s, r->workers);
}

static void after_turn(void *arg, uint64_t now)
{
    struct service *s = arg;
    struct step_report report;
    (void)now;
    if (parameter_core_take_report(s->lives.core, &report))
        write_report(s, &report);
}

static void figures(const void *arg, struct server_figures *f)
{
    const struct step_report_counters *c = parameter_core_counters(((const struct service *)arg)->lives.core);
    f->applied = c->applied;
    f->duplicates = c->duplicates;
    f->stale = c->stale;
    f->rewinds = c->rewinds;
    f->refused = c->refused;
    f->metrics_lost = ((const struct service *)arg)->metrics.lost;
}

static void write_metrics(const void *arg, struct exposition *x)
{
    const struct service *s = arg;
    parameter_metrics_write(s->lives.core, s->shell.config, x);
}

/* A fresh run starts a fresh file; a resumed one goes on in the old, where the last line of a step counts. */
static int open_metrics(void *arg, bool resume, struct error *e)
{
    struct service *s = arg;
    return metrics_file_open(&s->metrics, s->shell.config->run.out, SERVER_PARAMETER, !resume, e);
}

/* ---- life ---- */

int parameter_service_run(const struct run_config *config, bool resume, struct error *e)
{
    const struct shell_service service = {
        .server = SERVER_PARAMETER,
        .timer_ms = PARAMETER_TIMER_MS,
        .request_bytes_max = MESSAGE_BYTES_MAX,
        .publish_hwm = PUBLISH_HWM,
        .subscription_bytes_max = MSG_HEADER_MAX,
        .core = &parameter_incarnation_core,
        .patience = parameter_incarnation_patience,
        .checkpoints = &encoder_checkpoints,
        .open = open_metrics,
        .on_message = on_message,
        .on_refused = on_refused,
        .on_timer = on_timer,
        .on_undelivered = on_undelivered,
        .after_turn = after_turn,
        .figures = figures,
        .write_metrics = write_metrics,
    };
    struct service s = {.metrics = METRICS_FILE_CLOSED};
    s.lives = (struct parameter_incarnation){
        .config = config, .out = &s.shell.outbox, .find = find, .submit = submit, .begin = begin, .arg = &s};
    if (parameter_numerics(&s.lives.numerics) != 0)
        return error_set(e, ERR_MEMORY, "out of memory");
    int rc = shell_init(&s.shell, &service, &s, config, e);
    if (rc != 0)
        return rc;
    rc = shell_run(&s.shell, &s.lives, resume, e);
    metrics_file_close(&s.metrics);
    parameter_core_free(&s.lives.core);
    initial_weights_free(&s.initial);
    shell_fini(&s.shell);
    return rc;
}
