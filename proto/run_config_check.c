/* What keys say of each other: values that are right alone and wrong together. */
#include <string.h>
#include "proto/covariance.h"
#include "proto/run_config.h"

/* It becomes a directory below runs/, and an argument of commands. */
static bool run_name_ok(const char *name)
{
    if (name[0] == '\0' || name[0] == '-' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (const char *p = name; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' ||
              *p == '_' || *p == '.'))
            return false;
    return true;
}

static int check_data(const struct run_config *c, struct error *e)
{
    if (c->data.channels == 2)
        return error_set(e, ERR_CONFIG, "data.channels = 2: use 1 (grey), 3 (colour) or 0 (as in the data)");
    if (c->data.channels > 0 && c->data.mean.count > 1 && c->data.mean.count != (size_t)c->data.channels)
        return error_set(e, ERR_CONFIG, "data.mean has %zu values for data.channels = %lld: give one, or one for each",
                         c->data.mean.count, (long long)c->data.channels);
    if (c->data.channels > 0 && c->data.deviation.count > 1 && c->data.deviation.count != (size_t)c->data.channels)
        return error_set(e, ERR_CONFIG,
                         "data.deviation has %zu values for data.channels = %lld: give one, or one for each",
                         c->data.deviation.count, (long long)c->data.channels);
    if (c->data.holdout == 1)
        return error_set(e, ERR_CONFIG, "data.holdout = 1 leaves nothing to train on: use 2 or more, or 0");
    return 0;
}

static int check_encoder(const struct run_config *c, struct error *e)
{
    if (c->encoder.model == ENCODER_VIT && c->encoder.dim % c->encoder.heads != 0)
        return error_set(e, ERR_CONFIG, "encoder.heads = %lld does not divide encoder.dim = %lld",
                         (long long)c->encoder.heads, (long long)c->encoder.dim);
    if (c->encoder.model == ENCODER_RESNET && c->encoder.norm == ENCODER_NORM_GROUP &&
        c->encoder.width % c->encoder.groups != 0)
        return error_set(e, ERR_CONFIG, "encoder.groups = %lld does not divide encoder.width = %lld",
                         (long long)c->encoder.groups, (long long)c->encoder.width);
    return 0;
}

/* Matrices are large, and one that is shared says nothing of a single component. */
static int check_covariance(const struct run_config *c, struct error *e)
{
    int64_t matrices = c->mixture.components * c->mixture.dimensions * c->mixture.dimensions;
    if (c->mixture.covariance == COVARIANCE_FULL && matrices > COVARIANCE_MATRIX_FLOATS_MAX)
        return error_set(
            e, ERR_CONFIG,
            "mixture.covariance = full: components x dimensions^2 = %lld, at most %d: use fewer components, "
            "fewer dimensions, or diag",
            (long long)matrices, COVARIANCE_MATRIX_FLOATS_MAX);
    if (c->mixture.covariance != COVARIANCE_TIED)
        return 0;
    if (c->mixture.dimensions > COVARIANCE_TIED_DIMENSIONS_MAX)
        return error_set(e, ERR_CONFIG, "mixture.covariance = tied: mixture.dimensions = %lld, at most %d",
                         (long long)c->mixture.dimensions, COVARIANCE_TIED_DIMENSIONS_MAX);
    if (c->mixture.forgetting_form == FORGETTING_CONVEX || c->mixture.merge_distance > 0)
        return error_set(e, ERR_CONFIG,
                         "mixture.covariance = tied keeps no squares of a single component: use "
                         "mixture.forgetting_form = mass and mixture.merge_distance = 0");
    return 0;
}

/* What a run begins with. */
static int check_init(const struct run_config *c, struct error *e)
{
    if (c->encoder.init_map[0] != '\0' && c->encoder.init[0] == '\0')
        return error_set(e, ERR_CONFIG, "encoder.init_map is for the names of encoder.init, which is empty");
    if (c->mixture.init[0] != '\0' && c->loss.prototypes == PROTOTYPES_JOINT)
        return error_set(e, ERR_CONFIG,
                         "mixture.init with loss.prototypes = joint: those prototypes are parameters, which "
                         "encoder.init takes");
    return run_config_check_kmeans(c, e);
}

static int check_prices(const struct run_config *c, struct error *e)
{
    if (c->mixture.balance_power > 0 && c->mixture.balance == 0)
        return error_set(e, ERR_CONFIG, "mixture.balance_power = %g without prices: set mixture.balance > 0",
                         c->mixture.balance_power);
    if (c->loss.balance > 0 && (c->mixture.balance == 0 || c->loss.prototypes == PROTOTYPES_JOINT))
        return error_set(e, ERR_CONFIG,
                         "loss.balance = %g without prices: set mixture.balance > 0 and loss.prototypes = decoupled",
                         c->loss.balance);
    if (c->loss.balance > 0 && c->loss.objective == LOSS_SWAV)
        return error_set(
            e, ERR_CONFIG,
            "loss.balance = %g has no effect on loss.objective = swav, which evens its targets out itself: "
            "set it to 0",
            c->loss.balance);
    return 0;
}

static int check_loss(const struct run_config *c, struct error *e)
{
    bool has_loss = c->run.mode != MODE_STREAM;
    if (has_loss && c->loss.objective == LOSS_CARP && c->mixture.components % c->loss.block != 0)
        return error_set(e, ERR_CONFIG, "loss.block = %lld does not divide mixture.components = %lld",
                         (long long)c->loss.block, (long long)c->mixture.components);
    if (c->loss.prototypes != PROTOTYPES_JOINT &&
        (c->loss.prototype_loss != PROTOTYPE_LOSS_SHARED || c->loss.koleo != 0))
        return error_set(e, ERR_CONFIG,
                         "loss.%s is of prototypes that are parameters: use it with loss.prototypes = joint",
                         c->loss.koleo != 0 ? "koleo" : "prototype_loss = own");
    if (c->loss.mean_entropy > -1 && c->loss.mean_entropy < 0)
        return error_set(e, ERR_CONFIG,
                         "loss.mean_entropy = %g: use a weight of 0 or more, or -1 for what goes with the objective",
                         c->loss.mean_entropy);
    return check_prices(c, e);
}

static int check_augment(const struct run_config *c, struct error *e)
{
    if (c->augment.area_min > c->augment.area_max)
        return error_set(e, ERR_CONFIG, "augment.area_min = %g is larger than augment.area_max = %g",
                         c->augment.area_min, c->augment.area_max);
    if (c->augment.local_area_min > c->augment.local_area_max)
        return error_set(e, ERR_CONFIG, "augment.local_area_min = %g is larger than augment.local_area_max = %g",
                         c->augment.local_area_min, c->augment.local_area_max);
    if (c->augment.local_crops > 0 && c->encoder.model == ENCODER_VIT)
        return error_set(
            e, ERR_CONFIG,
            "augment.local_crops = %lld: encoder.model = vit takes images of one size only; use conv or resnet, or 0",
            (long long)c->augment.local_crops);
    return 0;
}

int run_config_check(const struct run_config *c, struct error *e)
{
    if (!run_name_ok(c->run.name))
        return error_set(e, ERR_CONFIG,
                         "run.name = '%s': use letters, digits, '-', '_' and '.', not '-' first, and not "
                         "'.' or '..' alone",
                         c->run.name);
    if (strstr(c->redis.host, "://") != NULL)
        return error_set(e, ERR_CONFIG, "redis.host is a URL: give it as redis.url, which is never written to a file");
    if (c->run.mode == MODE_STREAM && c->stream.window > c->stream.keep)
        return error_set(e, ERR_CONFIG, "stream.window = %lld is larger than stream.keep = %lld",
                         (long long)c->stream.window, (long long)c->stream.keep);
    if (check_loss(c, e) != 0 || check_augment(c, e) != 0 || check_init(c, e) != 0)
        return ERR_CONFIG;
    if (c->mixture.forgetting_form == FORGETTING_CONVEX && c->mixture.forgetting >= 1)
        return error_set(
            e, ERR_CONFIG,
            "mixture.forgetting = 1 learns nothing with mixture.forgetting_form = convex: use less than 1");
    if (check_covariance(c, e) != 0)
        return ERR_CONFIG;
    if (c->mixture.top > c->mixture.components)
        return error_set(e, ERR_CONFIG, "mixture.top = %lld is larger than mixture.components = %lld",
                         (long long)c->mixture.top, (long long)c->mixture.components);
    int rc = check_data(c, e);
    return rc == 0 ? check_encoder(c, e) : rc;
}

int run_config_check_trains(const struct run_config *c, struct error *e)
{
    if (c->run.mode != MODE_STREAM)
        return 0;
    return error_set(e, ERR_CONFIG,
                     "run.mode = stream: its server stands alone, for training loops of your own; start it with decant "
                     "serve-mixture, or train with run.mode = lockstep");
}
