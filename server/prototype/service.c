/* What the prototype server does that the parameter server does not: statistics in, mixture versions out, diagnostics
 * on the thread pool, the Redis mirror. */
#include "server/prototype/service.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "proto/checkpoint_path.h"
#include "proto/covariance.h"
#include "server/prototype/core_incarnation.h"
#include "server/prototype/diagnostics_runner.h"
#include "server/prototype/metrics_line.h"
#include "server/prototype/mirror.h"
#include "server/prototype/mixture_checkpoint.h"
#include "server/prototype/mixture_initial.h"
#include "server/prototype/prometheus.h"
#include "server/prototype/prototype_numerics.h"
#include "server/shell/metrics_file.h"
#include "server/shell/shell.h"

enum {
    TIMER_MS = 1000,
    TIMER_MIN_MS = 10,         /* of a stream: what a loop that has nothing to do should not be woken for more often */
    PUBLISH_HWM = 8,           /* mixtures are large and versioned: a slow subscriber asks for a snapshot instead */
    MESSAGE_SLACK = 1 << 20,   /* header, assignments, candidates of small runs */
    SUBSCRIPTION_BYTES = 1024, /* what a subscriber may send */
    LAST_PASS_MS = 20000,      /* for diagnostics of the last version: the launcher waits 30 s, */
    LAST_PASS_QUICK_MS = 3000, /* and containers that are told to end 10 s in all */
};

struct service {
    struct shell shell;
    struct prototype_incarnation lives;
    struct mixture *initial; /* of mixture.init; NULL until a run begins with it */
    uint64_t initial_fingerprint;
    struct metrics_file metrics;
    struct mirror *mirror; /* NULL when redis.enabled is false */
    struct diagnostics_runner runner;
    struct diagnostics *diagnostics; /* of the newest pass */
    uint64_t version_seen;           /* after the turn before */
    uint64_t generation_seen;        /* likewise: a new one means that the core has gone back */
    bool leaving;
};

/* A checkpoint on its way to the disk. */
struct snapshot {
    struct mixture *mixture;
    struct mixture_facts facts;
};

static uint64_t version_of(const struct service *s)
{
    return prototype_core_mixture(s->lives.core)->view->version;
}

/* ---- messages ---- */

/* What the core has measured goes to those who keep it. */
static void note_metrics(struct service *s)
{
    struct msg metrics;
    if (!prototype_core_take_metrics(s->lives.core, &metrics))
        return;
    char *line = metrics_line(&metrics, unix_time());
    metrics_file_append(&s->metrics, line);
    free(line);
    mirror_queue_metrics(mirror_queue(s->mirror), &metrics);
}

static int on_message(void *arg, uint64_t now, const struct peer *from, struct msg *m, struct outbox *out)
{
    return prototype_core_on_message(((struct service *)arg)->lives.core, now, from, m, out);
}

static int on_refused(void *arg, const struct peer *from, const struct msg *m, enum reason why, const char *detail,
                      struct outbox *out)
{
    return prototype_core_refuse(((struct service *)arg)->lives.core, from, m, why, detail, out);
}

static int on_timer(void *arg, uint64_t now, struct outbox *out)
{
    return prototype_core_on_timer(((struct service *)arg)->lives.core, now, out);
}

/* ---- checkpoints ---- */

static int write_mixture(const struct run_config *c, const void *snapshot, struct error *e)
{
    const struct snapshot *s = snapshot;
    return mixture_checkpoint_write(c, s->mixture, &s->facts, e);
}

static uint64_t mixture_bytes(const void *snapshot)
{
    const struct mixture *m = ((const struct snapshot *)snapshot)->mixture;
    uint64_t K = m->options.K, D = m->options.D, S = covariance_square_width(m->options.covariance, D);
    uint64_t V = covariance_width(m->options.covariance, D);
    uint64_t gathered = m->seeding ? m->seeding->gathered * (D + 1) : 0;
    return K * ((D + S) * sizeof *m->s1 + (D + V) * sizeof *m->view->mean + 5 * sizeof *m->mass) +
           gathered * sizeof *m->view->mean;
}

static void drop_mixture(void *snapshot)
{
    struct snapshot *s = snapshot;
    mixture_free(&s->mixture);
    ledger_free(&s->facts.ledger);
    free(s);
}

static const struct checkpoint_kind mixture_checkpoints = {
    .server = SERVER_PROTOTYPE, .write = write_mixture, .bytes = mixture_bytes, .drop = drop_mixture};

static int find(void *arg, uint64_t step_max, struct mixture **out, struct mixture_facts *facts, struct error *e)
{
    const struct run_config *c = ((struct service *)arg)->shell.config;
    struct mixture_options options = mixture_options_of(c);
    *out = NULL;
    if (mixture_new(&options, out) != 0)
        return mixture_no_memory(&options, e);
    int rc = mixture_checkpoint_resume(c, step_max, *out, facts, e);
    if (rc != 0)
        mixture_free(out);
    return rc;
}

static int read_initial(const struct run_config *c, struct mixture *m, uint64_t *fingerprint, struct error *e)
{
    char path[RUN_PATH_MAX];
    struct error why = {0};
    uint32_t taken;
    int rc = checkpoint_path_find(c->mixture.init, MIXTURE_FILE, path, &why);
    if (rc == 0)
        rc = mixture_initial_read(path, (uint64_t)c->run.seed, m, &taken, fingerprint, &why);
    if (rc != 0) /* whoever starts again would meet the same file */
        return error_set(e, ERR_CONFIG, "mixture.init = %.150s: %.330s", c->mixture.init, why.text);
    log_info("event=init path=\"%s\" fingerprint=%014" PRIx64 " components=%u of=%u", path, *fingerprint, taken,
             m->options.K);
    return 0;
}

/* Kept while the process lives, since it may go back to the start. */
static int begin(void *arg, const struct mixture **out, uint64_t *fingerprint, struct error *e)
{
    struct service *s = arg;
    const struct run_config *c = s->shell.config;
    struct mixture_options options = mixture_options_of(c);
    *out = NULL;
    *fingerprint = 0;
    if (c->mixture.init[0] == '\0' || run_config_init_embeddings(c) > 0)
        return 0;
    if (s->initial == NULL) {
        int rc = mixture_new(&options, &s->initial);
        rc = rc == 0 ? read_initial(c, s->initial, &s->initial_fingerprint, e) : error_set(e, rc, "out of memory");
        if (rc != 0) {
            mixture_free(&s->initial);
            return rc;
        }
    }
    *out = s->initial;
    *fingerprint = s->initial_fingerprint;
    return 0;
}

static void submit(void *arg, struct mixture *mixture, const struct mixture_facts *facts)
{
    struct service *s = arg;
    struct snapshot *snapshot = malloc(sizeof *snapshot);
    if (snapshot == NULL) {
        incarnation_fail(&s->shell.incarnation, ERR_MEMORY, "out of memory for a checkpoint");
        mixture_free(&mixture);
        ledger_free(&(struct ledger *){facts->ledger});
        return;
    }
    *snapshot = (struct snapshot){mixture, *facts};
    checkpoint_writer_submit(&s->shell.writer, mixture->view->version, snapshot);
}

static void on_written(void *arg, uint64_t step, const struct error *result)
{
    struct service *s = arg;
    if (result->code == 0 && prototype_core_on_written(s->lives.core, &s->shell.outbox) != 0)
        incarnation_fail(&s->shell.incarnation, ERR_MEMORY, "out of memory");
    if (!s->leaving)
        mirror_event_checkpoint(mirror_queue(s->mirror), step, result->code == 0);
}

/* ---- for those who watch ---- */

static void poll_diagnostics(struct service *s)
{
    int rc = diagnostics_runner_poll(&s->runner, prototype_core_mixture(s->lives.core),
                                     prototype_core_active_window(s->lives.core));
    if (rc != 0)
        log_warn("event=diagnostics_failed reason=%s", error_name(rc));
}

static bool is_due(uint64_t version, int64_t every, uint64_t total)
{
    return version == total || (every > 0 && version % (uint64_t)every == 0);
}

static void on_version(struct service *s)
{
    const struct mixture *m = prototype_core_mixture(s->lives.core);
    uint64_t version = version_of(s), total = prototype_core_total_steps(s->lives.core);
    if (m->reseed_count > 0)
        mirror_event_reseed(mirror_queue(s->mirror), version, m->reseed_count, m->reseeds[0].component);
    if (m->seeded > 0)
        mirror_event_seed(mirror_queue(s->mirror), version, m->seeded, m->options.K, m->options.seeding.N);
    if (m->split.made)
        mirror_event_split(mirror_queue(s->mirror), version, m->split.kept, m->split.freed, m->split.halved);
    if (is_due(version, s->shell.config->run.log_every, total))
        s->runner.wanted = true;
    if (version == total)
        log_info("event=run_complete step=%" PRIu64 " reseeded=%" PRIu64, version, m->reseeded);
}

static void on_gone_back(struct service *s)
{
    mirror_event_rewind(mirror_queue(s->mirror), version_of(s), s->generation_seen);
    diagnostics_runner_rewound(&s->runner);
    if (s->mirror != NULL)
        mirror_rewound(s->mirror);
}

/* A core that went back stands at a version that was seen before. */
static void after_turn(void *arg, uint64_t now)
{
    struct service *s = arg;
    bool went_back = s->generation_seen != s->shell.incarnation.generation;
    bool moved = s->version_seen != version_of(s);
    (void)now;
    s->generation_seen = s->shell.incarnation.generation;
    s->version_seen = version_of(s);
    note_metrics(s);
    if (went_back)
        on_gone_back(s);
    else if (moved)
        on_version(s);
    if (!s->leaving)
        poll_diagnostics(s);
}

static void on_mirror_stopped(void *arg)
{
    (void)arg; /* the loop ends by itself when the rest is too */
}

/* The mirror's last sync carries the last version's diagnostics: a pass of its own if there is none yet. */
static void end_mirror(struct service *s)
{
    if (s->diagnostics == NULL || s->diagnostics->version != version_of(s)) {
        s->runner.wanted = true;
        s->runner.rest_until_ms = 0;
        poll_diagnostics(s);
        if (s->runner.busy)
            return; /* on_diagnostics comes back here */
    }
    mirror_stop(s->mirror, on_mirror_stopped, s);
}

static void on_diagnostics(void *arg, struct diagnostics *d)
{
    struct service *s = arg;
    if (d != NULL) {
        diagnostics_free(&s->diagnostics);
        s->diagnostics = d;
        if (s->mirror != NULL)
            mirror_set_diagnostics(s->mirror, d);
        if (prototype_core_on_diagnostics(s->lives.core, d, &s->shell.outbox) != 0)
            log_warn("event=diagnostics_failed reason=memory");
        note_metrics(s);
        shell_send(&s->shell);
    }
    if (!s->leaving)
        poll_diagnostics(s);
    else if (s->mirror != NULL && d != NULL)
        end_mirror(s);
    else if (s->mirror != NULL)
        mirror_stop(s->mirror, on_mirror_stopped, s);
}

/* After a failed start there may be no core, and nothing that Redis should hear of. */
static void on_leaving(void *arg, const char *reason)
{
    struct service *s = arg;
    s->leaving = true;
    diagnostics_runner_end(&s->runner, strcmp(reason, "complete") == 0 ? LAST_PASS_MS : LAST_PASS_QUICK_MS);
    if (s->mirror == NULL)
        return;
    mirror_event_stop(mirror_queue(s->mirror), version_of(s), reason);
    end_mirror(s);
}

static void on_diagnostics_again(void *arg)
{
    struct service *s = arg;
    if (!s->leaving)
        poll_diagnostics(s);
}

static void figures(const void *arg, struct server_figures *f)
{
    const struct prototype_counters *c = prototype_core_counters(((const struct service *)arg)->lives.core);
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
    prototype_metrics_write(s->lives.core, s->diagnostics, s->mirror, x);
}

/* ---- life ---- */

static int open_mirror(struct service *s, struct error *e)
{
    const struct run_config *c = s->shell.config;
    if (!c->redis.enabled)
        return 0;
    struct mirror_options o = {.run = c->run.name, .interval_s = c->redis.interval, .core = s->lives.core};
    int rc = redis_address_configured(c, &o.address, e);
    if (rc == 0)
        rc = mirror_new(&s->shell.loop, &o, &s->mirror, e);
    redis_address_wipe(&o.address);
    mirror_event_start(mirror_queue(s->mirror), version_of(s), s->shell.incarnation.generation);
    return rc;
}

static int open_observers(void *arg, bool resume, struct error *e)
{
    struct service *s = arg;
    s->version_seen = version_of(s);
    s->generation_seen = s->shell.incarnation.generation;
    int rc = metrics_file_open(&s->metrics, s->shell.config->run.out, SERVER_PROTOTYPE, !resume, e);
    return rc == 0 ? open_mirror(s, e) : rc;
}

/* The largest frame of a step's statistics: s1 or s2 of the dense encoding, or the embeddings of the factored one. */
static int64_t frame_bytes_max(const struct run_config *c)
{
    bool stream = c->run.mode == MODE_STREAM;
    int64_t rows = stream ? c->stream.rows_max : c->run.slots * run_config_slot_rows(c), K = c->mixture.components;
    int64_t widest = K > rows ? K : rows, D = c->mixture.dimensions;
    int64_t sums = 4 * (widest > 4096 ? widest : 4096) * D;
    int64_t squares = 4 * K * (int64_t)covariance_square_width(c->mixture.covariance, (size_t)D);
    return MESSAGE_SLACK + (sums > squares ? sums : squares);
}

/* Versions of a stream are made by time, too: at most half of stream.version_ms late. */
static uint64_t timer_ms(const struct run_config *c)
{
    uint64_t half = (uint64_t)c->stream.version_ms / 2;
    if (c->run.mode != MODE_STREAM || half > TIMER_MS)
        return TIMER_MS;
    return half > TIMER_MIN_MS ? half : TIMER_MIN_MS;
}

static struct shell_service service_of(const struct run_config *c)
{
    return (struct shell_service){
        .server = SERVER_PROTOTYPE,
        .timer_ms = timer_ms(c),
        .request_bytes_max = frame_bytes_max(c),
        .publish_hwm = PUBLISH_HWM,
        .subscription_bytes_max = SUBSCRIPTION_BYTES,
        .core = &prototype_incarnation_core,
        .checkpoints = &mixture_checkpoints,
        .open = open_observers,
        .on_message = on_message,
        .on_refused = on_refused,
        .on_timer = on_timer,
        .after_turn = after_turn,
        .on_written = on_written,
        .on_leaving = on_leaving,
        .figures = figures,
        .write_metrics = write_metrics,
    };
}

static void release(struct service *s)
{
    mirror_free(&s->mirror);
    prototype_core_free(&s->lives.core);
    mixture_free(&s->initial);
    diagnostics_free(&s->diagnostics);
    diagnostics_runner_fini(&s->runner);
    metrics_file_close(&s->metrics);
    shell_fini(&s->shell);
}

int prototype_service_run(const struct run_config *config, bool resume, struct error *e)
{
    const struct shell_service service = service_of(config);
    struct service s = {.metrics = METRICS_FILE_CLOSED};
    s.lives = (struct prototype_incarnation){
        .config = config, .out = &s.shell.outbox, .find = find, .submit = submit, .begin = begin, .arg = &s};
    if (prototype_numerics(config->mixture.covariance, &s.lives.numerics) != 0)
        return error_set(e, ERR_MEMORY, "out of memory");
    int rc = shell_init(&s.shell, &service, &s, config, e);
    if (rc != 0)
        return rc;
    s.runner = (struct diagnostics_runner){
        .loop = &s.shell.loop, .wanted = true, .on_result = on_diagnostics, .again = on_diagnostics_again, .arg = &s};
    rc = shell_run(&s.shell, &s.lives, resume, e);
    release(&s);
    return rc;
}
