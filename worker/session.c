/* The public interface: messages, timers, weights and mixture. Slots in hand are in session_slots.c, the two servers in
 * session_links.c. Every call ends in settle(), so that whatever an event makes possible happens in the same turn. */
#include "worker/session_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "proto/teacher.h"

int session_new(const struct session_options *o, struct session **out)
{
    ASSERT(o->threads > 0 && o->slots > 0 && o->worker != 0);
    struct session *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL)
        return ERR_MEMORY;
    s->options = *o;
    s->slots_max = 2 * o->slots + o->threads;
    s->slots = calloc(s->slots_max, sizeof *s->slots);
    if (s->slots == NULL) {
        free(s);
        return ERR_MEMORY;
    }
    for (uint32_t i = 0; i < s->slots_max; i++)
        s->slots[i].job.index = i;
    link_init(&s->parameter, SERVER_PARAMETER, true);
    link_init(&s->prototype, SERVER_PROTOTYPE, !o->joint);
    mixture_cache_init(&s->mixtures, o->K, o->D, o->covariance);
    int rc = float_pool_new(o->manifest->parameter_floats, &s->teachers);
    if (rc != 0)
        session_free(&s);
    *out = s;
    return rc;
}

void session_free(struct session **session)
{
    struct session *s = *session;
    if (s == NULL)
        return;
    slots_free(s);
    contribution_drop(&s->init);
    mixture_cache_fini(&s->mixtures);
    buf_unref(&s->student);
    buf_unref(&s->teacher);
    buf_unref(&s->buffers);
    float_pool_free(&s->teachers);
    outbox_fini(&s->outbox);
    free(s->slots);
    free(s);
    *session = NULL;
}

struct outbox *session_outbox(struct session *s)
{
    return &s->outbox;
}

bool session_diverged(const struct session *s)
{
    return s->diverged;
}

bool session_rejected(const struct session *s)
{
    return s->rejected;
}

enum session_status session_status(const struct session *s)
{
    return s->status;
}

uint64_t session_slots_done(const struct session *s)
{
    return s->slots_done;
}

/* ---- events ---- */

static void add_event(struct session *s, enum log_level level, const char *format, va_list args)
{
    if (s->event_count == SESSION_EVENTS_MAX) { /* the oldest goes: the latest explains the end */
        s->event_first = (s->event_first + 1) % SESSION_EVENTS_MAX;
        s->event_count--;
    }
    struct session_event *e = &s->events[(s->event_first + s->event_count++) % SESSION_EVENTS_MAX];
    e->level = level;
    log_format(e->text, sizeof e->text, format, args); /* some of it comes from the servers */
}

void session_event(struct session *s, enum log_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_event(s, level, format, args);
    va_end(args);
}

void session_fail(struct session *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (s->status != SESSION_FAILED)
        add_event(s, LOG_ERROR, format, args);
    va_end(args);
    s->status = SESSION_FAILED;
}

bool session_next_event(struct session *s, struct session_event *out)
{
    if (s->event_count == 0)
        return false;
    *out = s->events[s->event_first];
    s->event_first = (s->event_first + 1) % SESSION_EVENTS_MAX;
    s->event_count--;
    return true;
}

/* ---- sending ---- */

struct link *session_link(struct session *s, enum server server)
{
    return server == SERVER_PROTOTYPE ? &s->prototype : &s->parameter;
}

void session_msg(struct session *s, struct msg *m, enum msg_type type, const struct link *to)
{
    msg_init(m, type, s->options.run);
    m->config = s->options.config;
    m->worker = s->options.worker;
    m->generation = to->generation;
}

int session_add_lineage(const struct session *s, struct msg *m)
{
    uint64_t lineage = s->prototype.generation;
    return lineage == 0 ? 0 : msg_add_scalar(m, "lineage", (double)lineage);
}

int session_send(struct session *s, enum server to, struct msg *m)
{
    return outbox_to_server(&s->outbox, to, m);
}

int session_contribute(struct session *s, struct link *to, struct contribution *c, uint64_t now)
{
    struct msg copy;
    if (!link_answers(to, now) || !contribution_due(c, now))
        return 0;
    contribution_copy(c, to->generation, now, &copy);
    return session_send(s, to->server, &copy);
}

/* ---- weights ---- */

static struct buf *take_floats(const struct msg *m, const char *name, uint64_t count, enum reason *why)
{
    const struct msg_tensor *t = msg_tensor_checked(m, name, DTYPE_F32, 1, &count, why);
    return t ? buf_ref(t->data) : NULL;
}

static void replace(struct buf **held, struct buf *with)
{
    buf_unref(held);
    *held = with;
}

/* m(t-1) of weights t that come without their teacher; NAN when it came. */
static double teacher_momentum(const struct msg *m)
{
    enum reason why = 0;
    return msg_tensor(m, "teacher", DTYPE_F32, &why) ? NAN : msg_scalar(m, "ema", NAN);
}

/* Cannot happen between equal builds that see the same weights; so say that they do not. */
static void note_wrong_teacher(struct session *s, uint64_t step)
{
    uint64_t count = ++s->teachers_wrong;
    if ((count & (count - 1)) == 0)
        session_event(
            s, LOG_WARN,
            "event=teacher_differs step=%" PRIu64 " count=%" PRIu64
            " hint=\"the server's is asked for; are both of one build, and was the run's directory emptied?\"",
            step, count);
}

/* The teacher that goes with `student`: the one held, moved on, or NULL where it is not the server's. */
static int teacher_next(struct session *s, const struct msg *m, const struct buf *student, struct buf **out)
{
    const struct manifest *manifest = s->options.manifest;
    *out = float_pool_take(s->teachers);
    if (*out == NULL)
        return ERR_MEMORY;
    float *teacher = (float *)(void *)(*out)->data;
    teacher_follow(manifest, (float)msg_scalar(m, "ema", NAN), (const float *)(const void *)s->teacher->data,
                   (const float *)(const void *)student->data, teacher);
    if (teacher_check(teacher, manifest->parameter_floats) == msg_scalar(m, "check", NAN))
        return 0;
    buf_unref(out);
    note_wrong_teacher(s, m->step);
    return 0;
}

static void note_gap(struct session *s, uint64_t step)
{
    s->weights_seen = step > s->weights_seen ? step : s->weights_seen;
}

struct weights_taken {
    struct buf *student, *buffers;
    struct buf *teacher; /* NULL where any of the three is not to be had */
};

static void hold_weights(struct session *s, uint64_t step, const struct weights_taken *w)
{
    replace(&s->student, w->student);
    replace(&s->teacher, w->teacher);
    replace(&s->buffers, w->buffers);
    s->weights_held = true;
    s->weights_step = step;
    s->weights_missing = (struct missing){0}; /* whatever is missing now is another version */
    contribution_drop(&s->init);              /* there are initial weights now, ours or another worker's */
    slots_purge(s);
}

/* The teacher is the one that m brings, or the one that follows. */
static int take_weights(struct session *s, const struct msg *m, bool follows, struct weights_taken *w, enum reason *why)
{
    uint64_t P = s->options.manifest->parameter_floats, Q = s->options.manifest->buffer_floats;
    w->student = take_floats(m, "student", P, why);
    w->buffers = w->student && Q > 0 ? take_floats(m, "buffers", Q, why) : NULL;
    if (w->student == NULL || (Q > 0 && w->buffers == NULL))
        return 0;
    if (follows)
        return teacher_next(s, m, w->student, &w->teacher);
    w->teacher = take_floats(m, "teacher", P, why);
    return 0;
}

static int on_weights(struct session *s, const struct msg *m)
{
    enum reason why = 0;
    struct weights_taken w = {NULL};
    double ema = teacher_momentum(m);
    bool follows = ema >= 0 && ema <= 1;
    if (s->weights_held && m->step <= s->weights_step)
        return 0;
    if (follows && !(s->weights_held && m->step == s->weights_step + 1)) {
        note_gap(s, m->step);
        return 0;
    }
    int rc = take_weights(s, m, follows, &w, &why);
    if (w.teacher != NULL) {
        hold_weights(s, m->step, &w);
        return 0;
    }
    if (why != 0)
        session_event(s, LOG_WARN, "event=bad_weights step=%" PRIu64 " reason=%s", m->step, reason_name(why));
    else
        note_gap(s, m->step);
    buf_unref(&w.student);
    buf_unref(&w.buffers);
    return rc;
}

/* ---- mixture ---- */

static int on_mixture(struct session *s, const struct msg *m)
{
    enum reason why = 0;
    int rc = mixture_cache_apply(&s->mixtures, m, &why);
    if (rc == ERR_MEMORY)
        return rc;
    if (rc == ERR_FORMAT)
        session_event(s, LOG_WARN, "event=bad_mixture version=%" PRIu64 " reason=%s", m->step, reason_name(why));
    s->mixture_gap = rc == ERR_STATE;
    if (rc == 0)
        slots_purge(s);
    return 0;
}

/* ---- what is missing ---- */

/* True when it is time to ask for something missing. A publication usually brings it by itself, so the first
 * question waits a little, unless it is urgent: nothing is held at all, or it is known that a publication was lost. */
static bool time_to_ask(struct missing *m, bool missing, bool urgent, uint64_t now)
{
    if (!missing) {
        *m = (struct missing){0};
        return false;
    }
    if (m->since == 0)
        *m = (struct missing){.since = now, .wait = MISSING_US};
    if (m->asked_at == 0 ? !urgent && now - m->since < m->wait : now - m->asked_at < m->wait)
        return false;
    if (m->asked_at != 0)
        m->wait = 2 * m->wait < MISSING_MAX_US ? 2 * m->wait : MISSING_MAX_US;
    m->asked_at = now;
    return true;
}

static int ask_for_weights(struct session *s, uint64_t now)
{
    bool gap = !s->weights_held || s->weights_seen > s->weights_step;
    bool unknown = gap && !s->stopping, up = s->parameter.up && !s->init.held;
    struct msg m;
    if (!time_to_ask(&s->weights_missing, up && (unknown || slots_missing_weights(s)), unknown, now))
        return 0;
    session_msg(s, &m, MSG_WEIGHTS_GET, &s->parameter);
    return session_send(s, SERVER_PARAMETER, &m);
}

static int ask_for_mixture(struct session *s, uint64_t now)
{
    uint64_t version = 0, newest;
    bool awaited = slots_missing_mixture(s, &version), none = !mixture_cache_newest(&s->mixtures, &newest);
    bool unknown = (none || s->mixture_gap) && !s->stopping;
    struct msg m;
    if (!time_to_ask(&s->mixture_missing, s->prototype.up && (awaited || unknown), unknown, now))
        return 0;
    session_msg(s, &m, MSG_MIXTURE_GET, &s->prototype);
    m.step = awaited ? version : 0;
    m.seq = awaited ? 0 : 1;
    return session_send(s, SERVER_PROTOTYPE, &m);
}

int session_goodbye(struct session *s)
{
    int rc = link_goodbye(s, &s->parameter);
    return rc == 0 ? link_goodbye(s, &s->prototype) : rc;
}

/* Ends every turn: asks for what is missing, sends what is due, ends when nothing is left. Questions go first, since
 * their answers take longest; INIT goes before anything that the parameter server would refuse without it; goodbyes
 * go last, so that they cannot overtake a contribution on the same socket. */
static int settle(struct session *s, uint64_t now)
{
    int rc = ask_for_weights(s, now);
    if (rc == 0)
        rc = ask_for_mixture(s, now);
    if (rc == 0)
        rc = session_contribute(s, &s->parameter, &s->init, now);
    if (rc == 0)
        rc = slots_send(s, now);
    if (rc == 0 && s->stopping && s->status == SESSION_RUNNING && (slots_idle(s) || now - s->stop_at >= STOP_US)) {
        s->status = SESSION_DONE;
        rc = session_goodbye(s);
    }
    return rc;
}

/* ---- messages ---- */

static void begin_stop(struct session *s, uint64_t now)
{
    if (!s->stopping)
        s->stop_at = now;
    s->stopping = true;
}

static void on_stop(struct session *s, const struct msg *m, uint64_t now)
{
    if (!s->stopping)
        session_event(s, LOG_INFO, "event=stop step=%" PRIu64 " code=%u", m->step, m->code);
    begin_stop(s, now);
    slots_end(s);
}

static bool is_fatal(enum reason r)
{
    return r == REASON_WRONG_CONFIG || r == REASON_WRONG_RUN || r == REASON_WRONG_DOOR || r == REASON_BAD_VERSION ||
           r == REASON_WRONG_SHARD || r == REASON_FORBIDDEN;
}

/* A slot is a pure function: nobody's next attempt would be finite. */
static void fail_diverged(struct session *s, const struct link *l, const struct msg *m)
{
    s->diverged = true;
    session_fail(s,
                 "event=diverged server=%s step=%" PRIu64 " slot=%u hint=\"start again with a smaller optimiser.lr\"",
                 l->name, m->step, m->slot);
}

static void on_error(struct session *s, struct link *l, const struct msg *m)
{
    /* Lists of keys change while servers run: a key that may not is told from a configuration that does not fit. */
    s->rejected = s->rejected || (is_fatal(m->code) && m->code != REASON_FORBIDDEN);
    if (is_fatal(m->code))
        session_fail(s, "event=rejected server=%s reason=%s text=\"%s\"", l->name, reason_name(m->code), m->text);
    else if (m->code == REASON_NON_FINITE)
        fail_diverged(s, l, m);
    else if (m->code == REASON_WRONG_GENERATION) {
        if (m->generation != l->generation) /* otherwise it answers something that was sent before WELCOME */
            link_down(l);
    } else if (m->code == REASON_NOT_READY || m->code == REASON_UNKNOWN_VERSION || m->code == REASON_STOPPING)
        return; /* what was asked for is asked for again by its timer */
    else if (l->server == SERVER_PARAMETER && s->init.held)
        session_fail(s, "event=init_refused reason=%s text=\"%s\"", reason_name(m->code), m->text);
    else
        slots_on_refusal(s, l->server, m);
}

static void on_ack(struct session *s, enum server from, const struct msg *m)
{
    if (from == SERVER_PARAMETER && s->init.held)
        contribution_drop(&s->init);
    else
        slots_on_ack(s, from, m);
}

/* STOP, LEASE and WEIGHTS count only from the parameter server and MIXTURE only from the prototype server: what
 * arrives on the wrong socket is a mistake of its sender and is ignored, like a message of an unknown type. */
static int dispatch(struct session *s, struct link *l, const struct msg *m, uint64_t now)
{
    bool parameter = l->server == SERVER_PARAMETER;
    switch ((int)m->type) {
    case MSG_WELCOME:
        return link_on_welcome(s, l, m);
    case MSG_ERROR:
        on_error(s, l, m);
        break;
    case MSG_ACK:
        on_ack(s, l->server, m);
        break;
    case MSG_STOP:
        if (parameter)
            on_stop(s, m, now);
        break;
    case MSG_LEASE:
        if (parameter)
            slots_on_lease(s, m);
        break;
    case MSG_PONG:
        return link_on_pong(s, l, m, now);
    case MSG_WEIGHTS:
        return parameter ? on_weights(s, m) : 0;
    case MSG_MIXTURE:
        return parameter ? 0 : on_mixture(s, m);
    default: /* METRICS are for those who watch the run */
        break;
    }
    return 0;
}

/* Ours may come up in its place yet, so that this is not the end. */
static void note_foreign(struct session *s, struct link *l, const struct msg *m)
{
    if (m->type == MSG_ERROR && m->code == REASON_WRONG_RUN && !l->foreign) {
        l->foreign = true;
        session_event(s, LOG_WARN,
                      "event=other_run server=%s run=\"%s\" own=\"%s\" hint=\"net.* names a server of that run; set "
                      "run.name or net.*\"",
                      l->name, m->run, s->options.run);
    }
}

int session_on_message(struct session *s, enum server from, const struct msg *m, uint64_t now)
{
    struct link *l = session_link(s, from);
    if (!l->used)
        return 0;
    if (strcmp(m->run, s->options.run) != 0) {
        note_foreign(s, l, m);
        return 0;
    }
    int rc = link_heard(s, l, m, now) ? dispatch(s, l, m, now) : 0;
    return rc == 0 ? settle(s, now) : rc;
}

int session_on_timer(struct session *s, uint64_t now)
{
    int rc = link_on_timer(s, &s->parameter, now);
    if (rc == 0)
        rc = link_on_timer(s, &s->prototype, now);
    return rc == 0 ? settle(s, now) : rc;
}

int session_stop(struct session *s, uint64_t now)
{
    begin_stop(s, now);
    return settle(s, now);
}

void session_look(const struct session *s, uint64_t now, struct session_view *out)
{
    *out = (struct session_view){
        .parameter_up = link_answers(&s->parameter, now),
        .prototype_up = link_answers(&s->prototype, now),
        .joint = s->options.joint,
        .step = s->weights_held ? s->weights_step : 0,
    };
}
