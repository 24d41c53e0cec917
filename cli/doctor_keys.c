/* Keys that are set and do nothing, because another key decides that nobody reads them. */
#include <stdio.h>
#include <string.h>
#include "cli/doctor.h"

enum { IDLE_MAX = 24, VALUE_MAX = 512, NAMES_MAX = 400 /* of names in a finding */ };

/* names: of keys, or of a section as "mixture."; those in `but` are read all the same. */
struct idle_rule {
    bool (*holds)(const struct run_config *c);
    const char *why;
    const char *names[IDLE_MAX], *but[IDLE_MAX];
};

static bool joint(const struct run_config *c)
{
    return c->loss.prototypes == PROTOTYPES_JOINT;
}

static bool decoupled(const struct run_config *c)
{
    return !joint(c);
}

static bool not_carp(const struct run_config *c)
{
    return c->loss.objective != LOSS_CARP;
}

static bool not_dino(const struct run_config *c)
{
    return c->loss.objective != LOSS_DINO;
}

static bool swav(const struct run_config *c)
{
    return c->loss.objective == LOSS_SWAV;
}

/* A loss of the prototypes' own evens its targets out as well. */
static bool nothing_evened_out(const struct run_config *c)
{
    return !swav(c) && !(joint(c) && c->loss.prototype_loss == PROTOTYPE_LOSS_OWN);
}

static bool no_rates(const struct run_config *c)
{
    return c->loss.coding_rate == 0 && c->loss.feature_rate == 0;
}

static bool no_local_views(const struct run_config *c)
{
    return c->augment.local_crops == 0;
}

static bool no_reseeding(const struct run_config *c)
{
    return !joint(c) && c->mixture.reseed_usage == 0;
}

static bool no_prices(const struct run_config *c)
{
    return !joint(c) && c->mixture.balance == 0;
}

static bool adamw(const struct run_config *c)
{
    return c->optimiser.name == OPTIMISER_ADAMW;
}

static bool sgd(const struct run_config *c)
{
    return c->optimiser.name == OPTIMISER_SGD;
}

static bool conv(const struct run_config *c)
{
    return c->encoder.model == ENCODER_CONV;
}

static bool vit(const struct run_config *c)
{
    return c->encoder.model == ENCODER_VIT;
}

static bool resnet(const struct run_config *c)
{
    return c->encoder.model == ENCODER_RESNET;
}

#define OF_VIT "encoder.patch", "encoder.dim", "encoder.depth", "encoder.heads", "encoder.mlp", "encoder.pool"
#define OF_RESNET "encoder.layers", "encoder.width", "encoder.norm"

static const struct idle_rule rules[] = {
    {joint, "loss.prototypes = joint", {"mixture."}, {"mixture.components", "mixture.dimensions"}},
    {decoupled, "loss.prototypes = decoupled", {"optimiser.prototype_lr"}, {0}},
    {not_carp, "an objective that is not carp", {"loss.block", "loss.entropy_weight"}, {0}},
    {not_dino, "an objective that is not dino", {"loss.center_momentum", "loss.temperature_teacher_start"}, {0}},
    {swav, "loss.objective = swav", {"loss.temperature_teacher"}, {0}},
    {nothing_evened_out, "targets that nothing evens out", {"loss.sinkhorn_epsilon", "loss.sinkhorn_iterations"}, {0}},
    {no_rates, "loss.coding_rate = 0 and loss.feature_rate = 0", {"loss.coding_rate_epsilon"}, {0}},
    {no_local_views,
     "augment.local_crops = 0",
     {"augment.local_side", "augment.local_area_min", "augment.local_area_max"},
     {0}},
    {no_reseeding,
     "mixture.reseed_usage = 0",
     {"mixture.reseed_distance", "mixture.reseed_max", "mixture.reseed_choice"},
     {0}},
    {no_prices, "mixture.balance = 0", {"mixture.balance_clip"}, {0}},
    {conv, "encoder.model = conv", {OF_VIT, OF_RESNET}, {0}},
    {vit, "encoder.model = vit", {"encoder.widths", "encoder.groups", OF_RESNET}, {0}},
    {resnet, "encoder.model = resnet", {"encoder.widths", OF_VIT}, {0}},
    {adamw, "optimiser.name = adamw", {"optimiser.momentum"}, {0}},
    {sgd, "optimiser.name = sgd", {"optimiser.beta1", "optimiser.beta2", "optimiser.epsilon"}, {0}},
};

static bool among(const char *name, const char *const names[IDLE_MAX])
{
    for (size_t i = 0; i < IDLE_MAX && names[i]; i++) {
        size_t length = strlen(names[i]);
        bool section = names[i][length - 1] == '.';
        if (section ? strncmp(name, names[i], length) == 0 : strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static bool is_set(const struct config_key *key, const struct run_config *c, const struct run_config *initial)
{
    char value[VALUE_MAX], usual[VALUE_MAX];
    config_value(key, c, value, sizeof value);
    config_value(key, initial, usual, sizeof usual);
    return strcmp(value, usual) != 0;
}

/* "a, b, c": the keys that the rule makes idle and that are not what they are by themselves. */
static size_t list_idle(const struct idle_rule *rule, const struct run_config *c, const struct run_config *initial,
                        char names[NAMES_MAX])
{
    size_t found = 0, used = 0;
    for (size_t i = 0; i < run_config_key_count; i++) {
        const struct config_key *key = &run_config_keys[i];
        if (!among(key->name, rule->names) || among(key->name, rule->but) || !is_set(key, c, initial))
            continue;
        found++;
        if (used < NAMES_MAX)
            used += (size_t)snprintf(names + used, NAMES_MAX - used, "%s%s", found > 1 ? ", " : "", key->name);
    }
    return found;
}

void doctor_check_keys(struct doctor_report *r, const struct run_config *c)
{
    struct run_config initial;
    config_defaults(run_config_keys, run_config_key_count, &initial);
    for (size_t i = 0; c->run.mode != MODE_STREAM && i < sizeof rules / sizeof rules[0]; i++) {
        char names[NAMES_MAX];
        size_t found = rules[i].holds(c) ? list_idle(&rules[i], c, &initial, names) : 0;
        if (found == 0)
            continue;
        doctor_find(r, FINDING_WARN, "keys", "%s %s nothing with %s", names, found > 1 ? "do" : "does", rules[i].why);
        doctor_advise(r, "leave %s out, unless it is meant for other runs of the same file", found > 1 ? "them" : "it");
    }
}
