#include "tests/sim/checker.h"

#include <inttypes.h>
#include <xxhash.h>
#include "proto/covariance.h"
#include "tests/sim/sim.h"

static const char *const vector_names[SERVERS][CHECKER_VECTORS] = {
    {"student", "teacher", "buffers", "moments 0", "moments 1"},
    {"mass", "s1", "s2", "usage", "last_assigned", "updated_step", "reseeded", "mean", "variance", "weight",
     "log_const", "beta", "price", "splits", "seeding"}};

/* ---- states ---- */

static void compare(struct cluster *c, enum server server, uint64_t step, const struct state_hash *now)
{
    ASSERT(step < DISK_STEPS);
    struct state_hash *known = &c->reference->states[server][step];
    if (c->scenario->undisturbed && !known->known)
        *known = *now;
    if (!known->known)
        return;
    for (int i = 0; i < CHECKER_VECTORS; i++)
        if (now->vectors[i] != known->vectors[i]) {
            sim_fail(c, "wrong bytes: %s of the %s server at step %" PRIu64 " differs from the undisturbed run",
                     vector_names[server][i], server_name(server), step);
            return;
        }
}

static uint64_t hash_buf(const struct buf *b)
{
    return b ? XXH3_64bits(b->data, b->size) : 0;
}

void checker_encoder(struct cluster *c, const struct encoder_state *s)
{
    struct state_hash h = {.known = true};
    h.vectors[0] = hash_buf(s->vectors.student);
    h.vectors[1] = hash_buf(s->vectors.teacher);
    h.vectors[2] = hash_buf(s->vectors.buffers);
    for (int i = 0; i < MOMENTS_MAX; i++)
        h.vectors[3 + i] = hash_buf(s->vectors.moments[i]);
    if (s->total_steps != c->scenario->steps)
        sim_fail(c, "a checkpoint says %" PRIu64 " steps in total", s->total_steps);
    compare(c, SERVER_PARAMETER, s->step, &h);
}

/* What k-means++ has so far. */
static uint64_t hash_seeding(const struct seeding *s)
{
    if (s == NULL)
        return 0;
    uint64_t h = XXH3_64bits(s->rows, (size_t)s->gathered * s->D * sizeof *s->rows);
    h = XXH3_64bits_withSeed(s->distance, s->options.N * sizeof *s->distance, h);
    return XXH3_64bits_withSeed(s->seeds, s->chosen * sizeof *s->seeds, h);
}

void checker_mixture(struct cluster *c, const struct mixture *m)
{
    const struct mixture_view *v = m->view;
    size_t K = m->options.K, D = m->options.D, V = covariance_width(m->options.covariance, D),
           S = covariance_square_width(m->options.covariance, D),
           shared = covariance_shared_width(m->options.covariance, D);
    struct state_hash h = {
        .known = true,
        .vectors = {XXH3_64bits(m->mass, K * sizeof *m->mass), XXH3_64bits(m->s1, K * D * sizeof *m->s1),
                    XXH3_64bits(m->s2, (K * S + shared) * sizeof *m->s2), XXH3_64bits(m->usage, K * sizeof *m->usage),
                    XXH3_64bits(m->last_assigned, K * sizeof *m->last_assigned),
                    XXH3_64bits(m->updated_step, K * sizeof *m->updated_step), m->reseeded,
                    XXH3_64bits(v->mean, K * D * sizeof *v->mean),
                    XXH3_64bits(v->variance, (K * V + shared) * sizeof *v->variance),
                    XXH3_64bits(v->weight, K * sizeof *v->weight), XXH3_64bits(v->log_const, K * sizeof *v->log_const),
                    XXH3_64bits(&v->beta, sizeof v->beta), XXH3_64bits(m->price, K * sizeof *m->price), m->splits,
                    hash_seeding(m->seeding)}};
    c->checker.reseeded = m->reseeded;
    compare(c, SERVER_PROTOTYPE, v->version, &h);
}

/* ---- answers ---- */

/* The type that answers m; 0 when the answer may come later, or never. */
static enum msg_type answer_to(enum msg_type t)
{
    static const enum msg_type answers[MSG_TYPE_END] = {
        [MSG_HELLO] = MSG_WELCOME,       [MSG_INIT] = MSG_ACK,
        [MSG_GRADIENT] = MSG_ACK,        [MSG_STATS] = MSG_ACK,
        [MSG_WEIGHTS_GET] = MSG_WEIGHTS, [MSG_MIXTURE_GET] = MSG_MIXTURE,
        [MSG_PING] = MSG_PONG,           [MSG_REWIND] = MSG_ACK};
    return answers[t];
}

/* Refusals that a run may see: those of a healthy one, and those that follow the restart of a server. */
static bool is_expected(const struct cluster *c, enum reason why)
{
    if (reason_is_passing(why))
        return true;
    return c->checker.crashes > 0 && (why == REASON_WRONG_GENERATION || why == REASON_FUTURE_STEP);
}

static void note_refusal(struct cluster *c, enum server server, const struct msg *m, const struct msg *error)
{
    if (!is_expected(c, (enum reason)error->code))
        sim_fail(c, "unexpected refusal: %s server, %s of step %" PRIu64 " slot %u: %s, \"%s\"", server_name(server),
                 msg_type_name(m->type), m->step, m->slot, reason_name((enum reason)error->code), error->text);
}

static uint64_t all_slots(const struct cluster *c)
{
    return (UINT64_C(1) << c->scenario->config.run.slots) - 1;
}

/* A larger lineage than before makes the parameter server drop what its step has so far: see its core.h. */
static void note_lineage(struct cluster *c, const struct msg *m, uint64_t step)
{
    uint64_t lineage = (uint64_t)msg_scalar(m, "lineage", 0);
    bool invented = lineage > c->disk.generation[SERVER_PROTOTYPE];
    if (lineage <= c->checker.lineage || invented || step >= DISK_STEPS)
        return;
    c->checker.lineage = lineage;
    c->checker.applied[SERVER_PARAMETER][step] = 0;
}

static void note_ack(struct cluster *c, enum server server, const struct msg *m, const struct msg *ack)
{
    if (m->type != MSG_GRADIENT && m->type != MSG_STATS)
        return;
    c->checker.duplicates += ack->code == ACK_DUPLICATE;
    if (ack->step != m->step || ack->slot != m->slot || ack->slots != m->slots)
        sim_fail(c, "an acknowledgement of another slot than was sent");
    if (m->type == MSG_GRADIENT && ack->code != ACK_STALE)
        note_lineage(c, m, m->step);
    if (ack->code != ACK_APPLIED || m->step >= DISK_STEPS)
        return;
    uint64_t slots = ((UINT64_C(1) << m->slots) - 1) << m->slot, *applied = &c->checker.applied[server][m->step];
    if (*applied & slots)
        sim_fail(c, "%s of step %" PRIu64 " slot %u applied twice", msg_type_name(m->type), m->step, m->slot);
    *applied |= slots;
    if (server_step(c, server) > m->step && *applied != all_slots(c))
        sim_fail(c, "%s server went beyond step %" PRIu64 " with slots %#" PRIx64 " of %#" PRIx64, server_name(server),
                 m->step, *applied, all_slots(c));
}

void checker_answer(struct cluster *c, enum server server, const struct msg *m, const struct event *e,
                    const struct outbox *out)
{
    bool honest = !rogue_acts(c, e->seat);
    enum msg_type type = answer_to(m->type);
    uint32_t answers = 0;
    for (size_t i = 0; i < out->count; i++) {
        const struct outbox_item *item = &out->items[i];
        if (item->kind != OUT_PEER || !peer_equal(&item->peer, &e->peer))
            continue;
        answers += item->msg.type == type || item->msg.type == MSG_ERROR;
        if (item->msg.type == MSG_ERROR && honest)
            note_refusal(c, server, m, &item->msg);
        else if (item->msg.type == MSG_ACK)
            note_ack(c, server, m, &item->msg);
        else if (item->msg.type == MSG_PONG && server == SERVER_PARAMETER)
            note_lineage(c, m, item->msg.step);
    }
    if (type != 0 && answers != 1)
        sim_fail(c, "%s server answered %s of step %" PRIu64 " slot %u %u times", server_name(server),
                 msg_type_name(m->type), m->step, m->slot, answers);
}

/* ---- going back ---- */

void checker_resumed(struct cluster *c, enum server server, bool from_disk, uint64_t step)
{
    if (from_disk && !disk_complete(&c->disk, step))
        sim_fail(c, "%s server resumed from step %" PRIu64 ", which is not whole on disk", server_name(server), step);
    for (uint64_t t = step; t < DISK_STEPS; t++)
        c->checker.applied[server][t] = 0;
}

void checker_rewind(struct cluster *c, enum server server)
{
    c->checker.rewinds++;
    if (c->checker.crashes == 0)
        sim_fail(c, "%s server goes back without a crash", server_name(server));
}

void checker_pair(struct cluster *c)
{
    if (c->scenario->joint || c->checker.crashes > 0 || !c->servers[SERVER_PARAMETER].alive ||
        !c->servers[SERVER_PROTOTYPE].alive)
        return;
    uint64_t t = server_step(c, SERVER_PARAMETER), v = server_step(c, SERVER_PROTOTYPE);
    if (t > v || v > t + 1)
        sim_fail(c, "the pair is apart without a crash: weights of step %" PRIu64 ", mixture version %" PRIu64, t, v);
}

void checker_left(struct cluster *c, enum server server, bool settled)
{
    uint64_t step = server_step(c, server);
    if (settled && (step != c->scenario->steps || !disk_present(&c->disk, step)))
        sim_fail(c, "%s server leaves as if the run were over, at step %" PRIu64, server_name(server), step);
    uint64_t newest =
        0; /* a server that was lied to may stand before what is whole on disk, and its own step be pruned */
    bool beyond = disk_newest(&c->disk, server, UINT64_MAX, &newest) && newest >= step;
    if (step > 0 && !c->disk.files[step][server].present && !beyond)
        sim_fail(c, "%s server leaves without a checkpoint of its step %" PRIu64, server_name(server), step);
}
