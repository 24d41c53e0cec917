/* The two servers of a session. A server is usable from WELCOME on; a message of another generation than the one that
 * welcomed us means that it was restarted or went back; we then say HELLO again. */
#include "worker/session_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "common/version.h"

void link_init(struct link *l, enum server server, bool used)
{
    *l = (struct link){.server = server, .name = server_name(server), .used = used};
}

void link_down(struct link *l)
{
    l->up = false;
    l->hello_at = 0;
}

/* What was learnt from the earlier generation is void: the server may have gone back to a checkpoint. The two
 * servers mean different work. Without its prototype server a slot has lost its statistics, but its lease still
 * stands: it is computed again. Without its parameter server the lease itself is gone, and so are the weights. */
static void forget_incarnation(struct session *s, struct link *l)
{
    session_event(s, LOG_WARN, "event=server_restarted server=%s generation=%" PRIu64, l->name, l->generation);
    l->step = 0;
    if (l->server == SERVER_PROTOTYPE) {
        mixture_cache_clear(&s->mixtures);
        s->mixture_gap = false;
        slots_redo(s);
        return;
    }
    slots_forget_leases(s);
    s->weights_held = false;
    s->weights_seen = 0;
    buf_unref(&s->student);
    buf_unref(&s->teacher);
    buf_unref(&s->buffers);
}

static int add_floats(struct msg *m, const char *name, struct buf *data, uint64_t count)
{
    return msg_add_tensor(m, name, DTYPE_F32, 1, &count, data);
}

/* The initial weights as a message that is sent until acknowledged. */
static int prepare_init(struct session *s)
{
    const struct manifest *manifest = s->options.manifest;
    struct buf *json = NULL, *params = buf_new(manifest->parameter_floats * sizeof(float)),
               *buffers = buf_new(manifest->buffer_floats * sizeof(float));
    if (params == NULL || buffers == NULL || manifest_to_json(manifest, &json) != 0) {
        buf_unref(&params);
        buf_unref(&buffers);
        return ERR_MEMORY;
    }
    s->options.initial(s->options.context, (float *)params->data, (float *)buffers->data);
    session_msg(s, &s->init.msg, MSG_INIT, &s->parameter);
    contribution_hold(&s->init);
    uint64_t size = json->size;
    int rc = msg_add_tensor(&s->init.msg, "manifest", DTYPE_U8, 1, &size, json);
    if (rc == 0)
        rc = add_floats(&s->init.msg, "params", params, manifest->parameter_floats);
    else
        buf_unref(&params);
    if (rc == 0 && manifest->buffer_floats > 0)
        rc = add_floats(&s->init.msg, "buffers", buffers, manifest->buffer_floats);
    else
        buf_unref(&buffers);
    return rc;
}

/* Only these types name the server's own step. They may arrive in any order, so only a larger one counts. */
static void note_step(struct link *l, const struct msg *m)
{
    bool own = m->type == MSG_WELCOME || m->type == MSG_PONG || m->type == MSG_WEIGHTS || m->type == MSG_MIXTURE;
    if (own && m->step > l->step)
        l->step = m->step;
}

/* Another version may round differently, so that the run's bytes depend on who computed what. It is not refused: an
 * upgrade may be rolled out process by process. */
static void compare_versions(struct session *s, const struct link *l, const struct msg *welcome)
{
    if (welcome->text[0] != '\0' && strcmp(welcome->text, DECANT_VERSION) != 0)
        session_event(s, LOG_WARN, "event=other_version server=%s version=\"%s\" own=" DECANT_VERSION, l->name,
                      welcome->text);
}

int link_on_welcome(struct session *s, struct link *l, const struct msg *m)
{
    if (m->config != 0 && m->config != s->options.config) {
        s->rejected = true;
        session_fail(s, "event=wrong_config server=%s hint=\"start every process with the same configuration\"",
                     l->name);
        return 0;
    }
    if (l->generation != 0 && l->generation != m->generation)
        forget_incarnation(s, l);
    note_step(l, m);
    if (!l->up) {
        session_event(s, LOG_INFO, "event=welcome server=%s step=%" PRIu64, l->name, m->step);
        compare_versions(s, l, m);
    }
    l->up = true;
    l->generation = m->generation;
    slots_resend(s, l->server);
    if (l->server == SERVER_PROTOTYPE)
        return 0;
    s->requested = 0;
    contribution_hurry(&s->init);
    return m->code == 1 && !s->init.held ? prepare_init(s) : 0;
}

/* A message that took long to arrive, or one from a second copy of the server that should not be running. Neither
 * may make us forget what the newer generation told. */
static bool is_outdated(struct session *s, struct link *l, const struct msg *m)
{
    if (m->generation == 0 || m->generation >= l->generation)
        return false;
    if (!l->outdated)
        session_event(s, LOG_WARN,
                      "event=older_generation server=%s generation=%" PRIu64 " known=%" PRIu64
                      " hint=\"was its directory emptied, or does a second one run? then restart the workers\"",
                      l->name, m->generation, l->generation);
    l->outdated = true;
    return true;
}

bool link_heard(struct session *s, struct link *l, const struct msg *m, uint64_t now)
{
    if (is_outdated(s, l, m))
        return false;
    l->heard_at = now;
    if (l->warned)
        session_event(s, LOG_INFO, "event=server_back server=%s", l->name);
    l->warned = false;
    if (m->type == MSG_WELCOME || m->type == MSG_ERROR)
        return true;
    if (l->up && m->generation != 0 && m->generation != l->generation)
        link_down(l);
    if (l->up)
        note_step(l, m);
    return l->up || m->type == MSG_STOP;
}

/* ---- is the pair healthy? ---- */

/* What a PING to l says of the other server, and PONG repeats: low bits of its generation, and its step. 0: nothing. */
static uint64_t claim_about(const struct link *other)
{
    return other->up ? (other->generation & 0xfffff) << 32 | (other->step & UINT32_MAX) : 0;
}

/* Slots of the parameter server's current step wait for a mixture that was asked for and has not come. */
static bool lacks_mixture(const struct session *s, uint64_t step)
{
    uint64_t version;
    return s->mixture_missing.asked_at != 0 && slots_missing_mixture(s, &version) && version == step;
}

/* l answered a PING that was sent when `other` had already shown claimed_step. Because the claim travelled through
 * l, it is older than the answer's own step: comparing the two can only understate how far they are apart, so a
 * healthy pair is never accused, whatever the order in which messages arrive. */
static int judge_pair(struct session *s, const struct link *l, struct link *other, const struct msg *pong, uint64_t now)
{
    bool same = pong->seq != 0 && other->up && pong->seq >> 32 == (other->generation & 0xfffff);
    uint64_t claimed_step = pong->seq & UINT32_MAX, allowed = pong->step + (l->server == SERVER_PARAMETER ? 1 : 0);
    bool unheld = l->server == SERVER_PARAMETER && claimed_step == allowed && lacks_mixture(s, pong->step);
    if (!same || (claimed_step <= allowed && !unheld) || (other->rewind_at != 0 && now - other->rewind_at < REWIND_US))
        return 0;
    session_event(s, unheld ? LOG_INFO : LOG_WARN,
                  "event=pair_apart server=%s step=%" PRIu64 " other=%s other_step=%" PRIu64, l->name, pong->step,
                  other->name, claimed_step);
    struct msg m;
    session_msg(s, &m, MSG_REWIND, other);
    m.step = pong->step;
    m.code = unheld ? REWIND_UNHELD : REWIND_APART;
    other->rewind_at = now;
    return session_send(s, other->server, &m);
}

static struct link *other_link(struct session *s, const struct link *l)
{
    return session_link(s, server_other(l->server));
}

int link_on_pong(struct session *s, struct link *l, const struct msg *m, uint64_t now)
{
    return judge_pair(s, l, other_link(s, l), m, now);
}

/* ---- time ---- */

static int say_hello(struct session *s, struct link *l)
{
    struct msg m;
    session_msg(s, &m, MSG_HELLO, l);
    snprintf(m.text, sizeof m.text, "%s", s->options.host);
    int rc = msg_add_scalar(&m, "total_steps", (double)s->options.total_steps);
    if (rc == 0 && s->options.data != 0)
        rc = msg_add_scalar(&m, "data", (double)s->options.data);
    if (rc == 0 && s->options.numerics != 0)
        rc = msg_add_scalar(&m, "numerics", (double)s->options.numerics);
    return rc == 0 ? session_send(s, l->server, &m) : rc;
}

/* Over the present window, which say_ping moves on every five seconds. */
static double images_per_second(const struct session *s, uint64_t now)
{
    double seconds = (double)(now - s->rate_at) / (double)SECOND;
    double images = (double)(s->slots_done - s->rate_slots) * s->options.slot_size;
    return seconds > 0 ? images / seconds : 0;
}

static int say_ping(struct session *s, struct link *l, uint64_t now)
{
    struct msg m;
    session_msg(s, &m, MSG_PING, l);
    m.step = s->weights_step;
    m.seq = claim_about(other_link(s, l));
    int rc = msg_add_scalar(&m, "images_per_s", images_per_second(s, now));
    if (rc == 0)
        rc = msg_add_scalar(&m, "slots_done", (double)s->slots_done);
    if (rc == 0 && l->server == SERVER_PARAMETER)
        rc = session_add_lineage(s, &m);
    if (now - s->rate_at >= 5 * SECOND) {
        s->rate_at = now;
        s->rate_slots = s->slots_done;
    }
    return rc == 0 ? session_send(s, l->server, &m) : rc;
}

int link_goodbye(struct session *s, struct link *l)
{
    struct msg m;
    if (!l->up)
        return 0;
    session_msg(s, &m, MSG_PING, l);
    m.code = 1;
    return session_send(s, l->server, &m);
}

bool link_answers(const struct link *l, uint64_t now)
{
    return l->up && now - l->heard_at < QUIET_US;
}

static void check_silence(struct session *s, struct link *l, uint64_t now)
{
    uint64_t silence = now - l->heard_at;
    if (silence >= SILENCE_FAIL_US)
        session_fail(s, "event=server_lost server=%s silent_s=%" PRIu64, l->name, silence / SECOND);
    else if (silence >= SILENCE_WARN_US && !l->warned) {
        session_event(s, LOG_WARN,
                      "event=server_silent server=%s silent_s=%" PRIu64
                      " hint=\"is it running, and is net.%s its endpoint?\"",
                      l->name, silence / SECOND, l->name);
        l->warned = true;
    }
}

/* The parameter server decides who takes part; a worker that it refuses must not have told the other one anything. */
static bool awaits_admission(const struct session *s, const struct link *l)
{
    return l->server == SERVER_PROTOTYPE && s->parameter.generation == 0;
}

int link_on_timer(struct session *s, struct link *l, uint64_t now)
{
    if (!l->used)
        return 0;
    if (l->heard_at == 0 || awaits_admission(s, l))
        l->heard_at = now;
    if (awaits_admission(s, l))
        return 0;
    check_silence(s, l, now);
    uint64_t *last = l->up ? &l->ping_at : &l->hello_at;
    bool hurry = s->weights_missing.asked_at != 0 || s->mixture_missing.asked_at != 0 || !link_answers(l, now);
    uint64_t every = l->up ? (hurry ? PING_HURRY_US : PING_US) : RESEND_US;
    if (*last != 0 && now - *last < every)
        return 0;
    *last = now;
    return l->up ? say_ping(s, l, now) : say_hello(s, l);
}
