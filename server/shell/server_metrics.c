/* One function per group of families. */
#include "server/shell/server_metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stddef.h>
#include "common/version.h"
#include "proto/msg.h"

/* ---- records ---- */

void step_clock_start(struct step_clock *c, uint64_t step, uint64_t now_ms)
{
    *c = (struct step_clock){.step = step, .at_ms = now_ms};
}

void step_clock_note(struct step_clock *c, uint64_t step, uint64_t now_ms)
{
    if (step == c->step)
        return;
    if (step > c->step) {
        c->steps += step - c->step;
        histogram_add(&c->seconds, (double)(now_ms - c->at_ms) / 1000);
    }
    c->step = step;
    c->at_ms = now_ms;
}

void checkpoint_record_start(struct checkpoint_record *r, uint64_t step, uint64_t now_ms)
{
    *r = (struct checkpoint_record){.step = step, .at_ms = now_ms};
}

void checkpoint_record_note(struct checkpoint_record *r, uint64_t step, const struct error *result, uint64_t now_ms)
{
    r->failing = result->code != 0;
    if (r->failing) {
        r->failures++;
        snprintf(r->cause, sizeof r->cause, "checkpoint of step %" PRIu64 ": %.200s", step, result->text);
        return;
    }
    r->step = step;
    r->at_ms = now_ms;
}

/* ---- /metrics ---- */

static void write_identity(const struct server_figures *f, struct exposition *x)
{
    exposition_family(x, "decant_build_info", "gauge", "1; what runs here.");
    exposition_value(x, 1, "server=\"%s\",version=\"" DECANT_VERSION "\",protocol=\"%d\",compiler=\"%d.%d\"",
                     server_name(f->server), PROTO_VERSION, __GNUC__, __GNUC_MINOR__);
    exposition_family(x, "decant_run_info", "gauge", "1; the run that is served, and the hash of its configuration.");
    exposition_value(x, 1, "run=\"%s\",config=\"%016" PRIx64 "\"", f->config->run.name, run_config_hash(f->config));
    exposition_single(x, "decant_generation", "gauge",
                      "How often the server has started, or gone back, in its run.out.", (double)f->generation);
}

static void write_steps(const struct server_figures *f, struct exposition *x)
{
    exposition_single(x, "decant_step", "gauge",
                      "Steps that the state has behind it (prototype: the mixture's version).", (double)f->clock->step);
    exposition_single(x, "decant_steps_planned", "gauge", "Length of the run in steps; 0 while it is not known.",
                      (double)f->total_steps);
    exposition_single(x, "decant_steps_total", "counter", "Steps completed by this process, repeated ones too.",
                      (double)f->clock->steps);
    exposition_histogram(x, "decant_step_seconds", "Time from one step's end to the next one's.", &f->clock->seconds);
}

static void write_contributions(const struct server_figures *f, struct exposition *x)
{
    exposition_single(x, "decant_workers", "gauge", "Workers heard within 10 s.", (double)f->workers);
    exposition_family(x, "decant_contributions_total", "counter",
                      "Gradients (parameter) or statistics (prototype) that arrived sound, by what became of them.");
    exposition_value(x, (double)f->applied, "result=\"applied\"");
    exposition_value(x, (double)f->duplicates, "result=\"duplicate\"");
    exposition_value(x, (double)f->stale, "result=\"stale\"");
    exposition_single(x, "decant_rewinds_total", "counter",
                      "Times that the server went back because the other one had lost what it builds upon.",
                      (double)f->rewinds);
    exposition_family(x, "decant_refused_total", "counter", "Messages answered with ERROR, by reason.");
    for (int why = 1; why < REASON_END; why++)
        exposition_value(x, (double)f->refused[why], "reason=\"%s\"", reason_name((enum reason)why));
}

static void write_door(const struct server_figures *f, struct exposition *x)
{
    exposition_family(x, "decant_handshakes_failed_total", "counter",
                      "Connections that did not come about: a key that is not on the list, or no sound handshake.");
    exposition_value(x, (double)f->door->counters.keys_refused, "cause=\"key\"");
    exposition_value(x, (double)f->door->counters.handshakes_failed, "cause=\"handshake\"");
    exposition_single(x, "decant_subscriptions_cut_total", "counter",
                      "Subscriptions ended because their key was revoked.", (double)f->door->counters.cut_off);
    const struct guests *const sides[] = {&f->door->requests.guests, &f->door->publications.guests};
    const char *const names[] = {"requests", "publications"};
    exposition_family(x, "decant_connections", "gauge", "Open connections by socket.");
    for (int i = 0; i < 2; i++)
        exposition_value(x, (double)sides[i]->count, "socket=\"%s\"", names[i]);
    exposition_family(x, "decant_connections_cut_total", "counter",
                      "Connections ended here: one too many, silent, not reading, or not allowed by its role.");
    for (int why = 0; why < GUEST_CUTS; why++)
        exposition_value(x, (double)(sides[0]->cut[why] + sides[1]->cut[why]), "cause=\"%s\"",
                         guest_cut_name((enum guest_cut)why));
}

static void write_checkpoints(const struct server_figures *f, struct exposition *x)
{
    const struct checkpoint_record *r = f->checkpoint;
    exposition_single(x, "decant_checkpoint_step", "gauge", "Step of the newest checkpoint written or resumed from.",
                      (double)r->step);
    exposition_single(x, "decant_checkpoint_age_seconds", "gauge",
                      "Since the newest checkpoint was written, or since the start before the first.",
                      (double)(f->now_ms - r->at_ms) / 1000);
    exposition_single(x, "decant_checkpoint_failures_total", "counter", "Checkpoints that could not be written.",
                      (double)r->failures);
    exposition_single(x, "decant_metrics_lines_lost_total", "counter",
                      "Lines of the metrics file that could not be written.", (double)f->metrics_lost);
}

/* A family of all sockets: one sample per socket, or two with a direction. */
struct socket_family {
    const char *name, *help;
    size_t in, out; /* of a uint64_t in struct net_counters */
    bool directed;
};

static double counter_at(const struct net_counters *c, size_t offset)
{
    return (double)*(const uint64_t *)(const void *)((const char *)c + offset);
}

static void write_socket_family(const struct server_figures *f, struct exposition *x,
                                const struct socket_family *family)
{
    const char *const names[] = {"requests", "publications"};
    const struct net_socket *const sockets[] = {f->requests, f->publications};
    exposition_family(x, family->name, "counter", family->help);
    for (size_t i = 0; i < 2; i++) {
        if (!sockets[i])
            continue; /* closed already */
        const struct net_counters *c = net_socket_counters(sockets[i]);
        exposition_value(x, counter_at(c, family->in), "socket=\"%s\"%s", names[i],
                         family->directed ? ",direction=\"in\"" : "");
        if (family->directed)
            exposition_value(x, counter_at(c, family->out), "socket=\"%s\",direction=\"out\"", names[i]);
    }
}

static void write_sockets(const struct server_figures *f, struct exposition *x)
{
    static const struct socket_family families[] = {
        {"decant_messages_total", "Messages by socket and direction.", offsetof(struct net_counters, received),
         offsetof(struct net_counters, sent), true},
        {"decant_bytes_total", "Bytes of messages by socket and direction.", offsetof(struct net_counters, bytes_in),
         offsetof(struct net_counters, bytes_out), true},
        {"decant_messages_dropped_total", "Messages not sent: a full queue, or a peer that is gone.",
         offsetof(struct net_counters, dropped), 0, false},
        {"decant_messages_unqueued_total",
         "Of those not sent: large ones, because what waits for peers that do not read has reached its limit.",
         offsetof(struct net_counters, unqueued), 0, false},
        {"decant_messages_oversized_total", "Messages not taken: too large, too many frames, or no memory.",
         offsetof(struct net_counters, oversized), 0, false},
    };
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        write_socket_family(f, x, &families[i]);
}

void server_metrics_write(const struct server_figures *f, struct exposition *x)
{
    write_identity(f, x);
    write_steps(f, x);
    write_contributions(f, x);
    write_door(f, x);
    write_checkpoints(f, x);
    write_sockets(f, x);
}

/* ---- /healthz ---- */

json_t *server_health(const struct server_figures *f, const char *reason, bool *ok)
{
    if (reason == NULL && f->checkpoint->failing)
        reason = f->checkpoint->cause;
    *ok = reason == NULL;
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:I}", "status", *ok ? "ok" : "failing", "server",
                  server_name(f->server), "run", f->config->run.name, "generation", (json_int_t)f->generation, "step",
                  (json_int_t)f->clock->step, "total_steps", (json_int_t)f->total_steps, "workers", (int)f->workers,
                  "checkpoint_step", (json_int_t)f->checkpoint->step);
    if (object != NULL && reason != NULL)
        json_object_set_new(object, "reason", json_string(reason));
    return object;
}
