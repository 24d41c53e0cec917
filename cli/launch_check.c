/* Each check does what the process would do that is to start: look an address up and bind it, read keys, load images,
 * build the network. */
#include "cli/launch_check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/presence.h"
#include "common/net_address.h"
#include "common/safetensors.h"
#include "proto/checkpoint_path.h"
#include "proto/keys.h"
#include "proto/process_options.h"
#include "worker/data/dataset.h"
#include "worker/data/image_cache.h"
#include "worker/slot.h"

/* ---- endpoints ---- */

struct place {
    const char *key, *value;
    bool http; /* HOST:PORT without tcp:// */
};
enum { PLACES = 6, ENDPOINT_MAX = 300, SAMPLE_STEPS = 2 };

static bool is_joint(const struct run_config *c)
{
    return c->loss.prototypes == PROTOTYPES_JOINT;
}

/* Those that will be bound. */
static size_t list_places(const struct run_config *c, bool private, struct place out[PLACES])
{
    const struct place all[PLACES] = {{"net.parameter", c->net.parameter, false},
                                      {"net.parameter_publish", c->net.parameter_publish, false},
                                      {"metrics.parameter", c->metrics.parameter, true},
                                      {"net.prototype", c->net.prototype, false},
                                      {"net.prototype_publish", c->net.prototype_publish, false},
                                      {"metrics.prototype", c->metrics.prototype, true}};
    size_t n = 0;
    for (size_t i = 0; i < (is_joint(c) ? PLACES / 2 : PLACES); i++)
        if (all[i].http ? all[i].value[0] != '\0' : !private)
            out[n++] = all[i];
    return n;
}

/* Servers of another run at our addresses would be told apart, but ours could not start. */
static int check_free(const struct place *p, struct error *e)
{
    char endpoint[ENDPOINT_MAX];
    struct error why = {0};
    snprintf(endpoint, sizeof endpoint, "%s%s", p->http ? "tcp://" : "", p->value);
    switch (presence_to_bind(endpoint, &why)) {
    case FREE:
        return 0;
    case LISTENING:
        return error_set(e, ERR_STATE,
                         "%s = %s: %s, another process listens there (decant health asks who it is); give this run "
                         "another address, or stop that one",
                         p->key, p->value, strerror(EADDRINUSE));
    case ELSEWHERE:
        return error_set(e, ERR_CONFIG,
                         "%s = %s: not an address of this machine, and decant train starts the servers on this one",
                         p->key, p->value);
    case UNREACHABLE:
    case UNUSABLE:
        break;
    }
    return error_set(e, ERR_CONFIG, "%s = %s: %.300s", p->key, p->value, why.text);
}

/* Those who connect have to know the port, and without keys nobody from outside may. */
static int check_meaning(const struct run_config *c, const struct place *p, struct error *e)
{
    struct net_addresses found;
    if (p->http || strncmp(p->value, "tcp://", 6) != 0 || net_resolve(p->value + 6, NET_TO_BIND, &found, NULL) != 0)
        return 0;
    if (net_address_port(&found.at[0]) == 0)
        return error_set(e, ERR_CONFIG, "%s = %s: workers have to know the port, so choose one", p->key, p->value);
    for (size_t i = 0; i < found.count; i++)
        if (!net_address_is_loopback(&found.at[i]) && c->keys.directory[0] == '\0' && !c->net.insecure)
            return error_set(e, ERR_CONFIG,
                             "%s = %s is open to other machines and there are no keys, so anybody could change the "
                             "run; make keys with `decant keygen` and set keys.directory, or set net.insecure = true "
                             "if this network is closed to others",
                             p->key, p->value);
    return 0;
}

static int check_distinct(const struct place *places, size_t i, struct error *e)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(places[k].value, places[i].value) == 0)
            return error_set(e, ERR_CONFIG, "%s = %s is that of %s, too; each needs an address of its own",
                             places[i].key, places[i].value, places[k].key);
    return 0;
}

/* Of the two servers, and of those who connect to them. */
static int check_keys(const struct run_config *c, struct error *e)
{
    struct net_curve keys;
    int rc = 0;
    for (int i = 0; rc == 0 && i < (is_joint(c) ? 1 : 2); i++) {
        enum server server = i == 0 ? SERVER_PARAMETER : SERVER_PROTOTYPE;
        rc = keys_of_self(c, server, &keys, e);
        if (rc == 0)
            rc = keys_of_client(c, "worker", server, &keys, e);
        if (rc == 0)
            rc = keys_of_client(c, "viewer", server, &keys, e);
    }
    keys_wipe(&keys);
    return rc;
}

int launch_check_endpoints(const struct run_config *c, bool private, struct error *e)
{
    struct place places[PLACES];
    size_t n = list_places(c, private, places);
    int rc = private ? 0 : check_keys(c, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = check_distinct(places, i, e);
        if (rc == 0)
            rc = check_meaning(c, &places[i], e);
        if (rc == 0)
            rc = check_free(&places[i], e);
    }
    return rc;
}

/* ---- limits ---- */

int launch_check_limits(struct error *e)
{
    struct error why = {0};
    int rc = process_limits(true, &why); /* a server needs most */
    return rc == 0 ? 0 : error_set(e, rc, "the servers could not start: %.400s", why.text);
}

/* ---- images and network ---- */

static int build(const struct run_config *c, const struct dataset *images, struct error *e)
{
    struct slot_shared *shared;
    struct error why = {0};
    int rc = slot_shared_new(c, images, &shared, &why);
    slot_shared_free(&shared);
    if (rc == 0 || rc == ERR_MEMORY || rc == ERR_CONFIG)
        return rc == 0 ? 0 : error_set(e, rc, "%s", why.text);
    return error_set(e, ERR_CONFIG, "the encoder.* and head.* keys do not fit the images: %.400s", why.text);
}

static int load(const struct run_config *c, uint64_t limit, struct dataset *images, struct error *e)
{
    struct dataset_options o = dataset_options_of(c);
    struct error why = {0};
    char place[IMAGE_CACHE_DIRECTORY_MAX];
    bool fewer = limit < UINT32_MAX && (o.limit == 0 || limit < o.limit);
    o.limit = fewer ? (uint32_t)limit : o.limit;
    if (o.cached && image_cache_place(&o, place, e) != 0)
        return e->code;
    o.cached = o.cached && !fewer; /* a file of a few images would serve nobody again */
    int rc = dataset_load(&o, DATASET_TRAIN, images, &why);
    if (rc == 0)
        return 0;
    return error_set(e, rc == ERR_MEMORY ? rc : ERR_CONFIG, "%s%.480s",
                     strstr(why.text, "data.") ? "" : "data.path: ", why.text);
}

/* A few steps' worth tells their size and whether there are enough, and takes no time. Only if too few of these can be
 * read, or are not held out, are all looked at. */
int launch_check_work(const struct run_config *c, struct error *e)
{
    uint64_t step = (uint64_t)(c->run.slots * c->run.slot_size);
    struct dataset images;
    if (c->data.limit > 0 && (uint64_t)c->data.limit < step)
        return error_set(e, ERR_CONFIG,
                         "data.limit = %lld: fewer images than a step takes, run.slots x run.slot_size = %llu",
                         (long long)c->data.limit, (unsigned long long)step);
    int rc = load(c, SAMPLE_STEPS * step, &images, e);
    if (rc == 0 && images.count < step) {
        dataset_fini(&images);
        rc = load(c, UINT64_MAX, &images, e);
    }
    if (rc != 0)
        return rc;
    rc = build(c, &images, e);
    dataset_fini(&images);
    return rc;
}

static int check_weights(const char *key, const char *path, const char *file, struct error *e)
{
    char found[RUN_PATH_MAX];
    struct safetensors f;
    struct error why = {0};
    int rc = checkpoint_path_find(path, file, found, &why);
    if (rc == 0)
        rc = safetensors_read(found, &f, &why);
    if (rc != 0)
        return error_set(e, rc == ERR_MEMORY ? rc : ERR_CONFIG, "%s = %.150s: %.330s", key, path, why.text);
    safetensors_fini(&f);
    return 0;
}

int launch_check_given(const struct run_config *c, struct error *e)
{
    int rc = c->encoder.init[0] ? check_weights("encoder.init", c->encoder.init, ENCODER_FILE, e) : 0;
    if (rc == 0 && c->mixture.init[0] && strcmp(c->mixture.init, RUN_CONFIG_KMEANS) != 0)
        rc = check_weights("mixture.init", c->mixture.init, MIXTURE_FILE, e);
    if (rc == 0 && c->encoder.init_map[0] && access(c->encoder.init_map, R_OK) != 0)
        rc = error_set(e, ERR_CONFIG, "encoder.init_map = %.300s: %s", c->encoder.init_map, strerror(errno));
    return rc;
}
