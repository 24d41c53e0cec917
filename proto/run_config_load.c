/* A configuration from its sources: defaults and presets, file, environment, flags; addresses and paths made whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "proto/redis_address.h"
#include "proto/run_config.h"

/* ---- paths ---- */

/* "ipc://PATH" of a relative path; "ipc://@NAME" is an abstract name. */
static int resolve_endpoint(char *endpoint, size_t size, const char *directory, const char *name, struct error *e)
{
    static const char scheme[] = "ipc://";
    const char *path = endpoint + sizeof scheme - 1;
    char absolute[2048];
    if (strncmp(endpoint, scheme, sizeof scheme - 1) != 0 || *path == '/' || *path == '@' || *path == '\0')
        return 0;
    int length = snprintf(absolute, sizeof absolute, "%s%s/%s", scheme, directory, path);
    if (length < 0 || (size_t)length >= size)
        return error_set(e, ERR_CONFIG, "%s = %.200s: as an absolute path it is too long", name, endpoint);
    memcpy(endpoint, absolute, (size_t)length + 1);
    return 0;
}

int run_config_resolve_paths(struct run_config *c, struct error *e)
{
    char *directory = getcwd(NULL, 0);
    if (directory == NULL)
        return error_set(e, ERR_IO, "the working directory: %s", strerror(errno));
    int rc = config_resolve_paths(run_config_keys, run_config_key_count, c, directory, e);
    if (rc == 0)
        rc = resolve_endpoint(c->net.parameter, sizeof c->net.parameter, directory, "net.parameter", e);
    if (rc == 0)
        rc = resolve_endpoint(c->net.parameter_publish, sizeof c->net.parameter_publish, directory,
                              "net.parameter_publish", e);
    if (rc == 0)
        rc = resolve_endpoint(c->net.prototype, sizeof c->net.prototype, directory, "net.prototype", e);
    if (rc == 0)
        rc = resolve_endpoint(c->net.prototype_publish, sizeof c->net.prototype_publish, directory,
                              "net.prototype_publish", e);
    free(directory);
    return rc;
}

/* ---- Redis ---- */

static int assign(struct run_config *c, const char *key, const char *value, const char *origin, struct error *e)
{
    char assignment[REDIS_HOST_MAX + 32];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    int rc = config_assign(run_config_keys, run_config_key_count, c, assignment, origin, e);
    explicit_bzero(assignment, sizeof assignment);
    return rc;
}

/* Through the table of keys, so that what is accepted here can be handed to other processes as any other value. */
static int assign_redis(struct run_config *c, const struct redis_address *a, const char *origin, struct error *e)
{
    int rc = assign(c, "redis.host", a->host, origin, e);
    if (rc == 0)
        rc = assign(c, "redis.user", a->login.user, origin, e);
    if (rc == 0)
        rc = assign(c, "redis.password", a->login.password, origin, e);
    c->redis.port = a->port;
    c->redis.db = a->db;
    return rc;
}

int run_config_set_redis(struct run_config *c, const char *address, const char *origin, struct error *e)
{
    struct redis_address a = {.port = c->redis.port, .db = c->redis.db};
    struct error cause = {0};
    memcpy(a.host, c->redis.host, sizeof a.host);
    memcpy(a.login.user, c->redis.user, sizeof a.login.user);
    memcpy(a.login.password, c->redis.password, sizeof a.login.password);
    if (redis_address_parse(address, &a, &cause) != 0)
        return error_set(e, ERR_CONFIG, "%s: %s", origin, cause.text);
    if (strcmp(a.login.password, c->redis.password) != 0)
        c->redis.password_file[0] = '\0'; /* that was another one's */
    int rc = assign_redis(c, &a, origin, e);
    redis_address_wipe(&a);
    return rc;
}

static int take_redis_url(struct run_config *c, struct error *e)
{
    if (c->redis.url[0] == '\0')
        return 0;
    int rc = run_config_set_redis(c, c->redis.url, "redis.url", e);
    explicit_bzero(c->redis.url, sizeof c->redis.url);
    return rc;
}

/* ---- sources ---- */

/* Drawings' values were tried on emoji; the others are the usual ones of their kind (docs/DATA.md). */
const char *const *run_config_preset(enum augment_preset preset)
{
    static const char *const presets[][16] = {
        [AUGMENT_CUSTOM] = {NULL},
        [AUGMENT_OBJECTS] = {"augment.area_min=0.7", "augment.saturation=0.4", "augment.hue=0.1",
                             "augment.greyscale=0.2", NULL},
        [AUGMENT_PHOTOS] = {"augment.area_min=0.2", "augment.saturation=0.2", "augment.hue=0.1",
                            "augment.greyscale=0.2", "augment.blur=0.5", "augment.solarise=0.1", NULL},
        [AUGMENT_DRAWINGS] = {"augment.area_min=0.35", "augment.saturation=0.4", "augment.hue=0.1",
                              "augment.greyscale=0.2", NULL},
        [AUGMENT_GLYPHS] = {"augment.area_min=0.6", "augment.flip=0", "augment.rotation=10", "augment.shear=10",
                            "augment.blur=0.3", "augment.erase=0.2", NULL},
    };
    ASSERT((size_t)preset < sizeof presets / sizeof presets[0]);
    return presets[preset];
}

static int load_defaults(struct run_config *c, enum augment_preset preset, struct error *e)
{
    int rc = 0;
    memset(c, 0, sizeof *c);
    config_defaults(run_config_keys, run_config_key_count, c);
    for (const char *const *p = run_config_preset(preset); rc == 0 && *p; p++)
        rc = config_assign(run_config_keys, run_config_key_count, c, *p, "augment.preset", e);
    return rc;
}

/* Whoever named a file that cannot be read has given a wrong configuration. */
static int load_file(struct run_config *c, const char *path, struct error *e)
{
    struct error why = {0};
    int rc = config_file(run_config_keys, run_config_key_count, c, path, &why);
    return rc == 0 ? 0 : error_set(e, rc == ERR_MEMORY ? rc : ERR_CONFIG, "%s", why.text);
}

struct source { /* one of them */
    const char *path;
    char **environ;
    const char *const *assignments;
    size_t count;
};

static int read_source(const struct source *s, struct run_config *c, struct error *e)
{
    int rc = s->path ? load_file(c, s->path, e) : 0;
    if (rc == 0 && s->environ)
        rc = config_environment(run_config_keys, run_config_key_count, c, s->environ, e);
    for (size_t i = 0; rc == 0 && i < s->count; i++)
        rc = config_assign(run_config_keys, run_config_key_count, c, s->assignments[i], "--set", e);
    return rc;
}

static bool names_redis(const struct run_config *before, const struct run_config *now)
{
    return strcmp(before->redis.url, now->redis.url) != 0 || strcmp(before->redis.host, now->redis.host) != 0 ||
           before->redis.port != now->redis.port;
}

/* Who names a Redis wants it to be used: then the source is read once more, with redis.enabled = true under it, so that
 * it can still say false. */
static int load_source(const struct source *s, struct run_config *c, struct error *e)
{
    struct run_config before = *c;
    int rc = read_source(s, c, e);
    if (rc == 0 && names_redis(&before, c)) {
        *c = before;
        c->redis.enabled = true;
        rc = read_source(s, c, e);
    }
    explicit_bzero(&before, sizeof before);
    return rc;
}

static int load_sources(struct run_config *c, const char *path, char **environ, const char *const *assignments,
                        size_t n, struct error *e)
{
    const struct source sources[] = {{.path = path}, {.environ = environ}, {.assignments = assignments, .count = n}};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof sources / sizeof sources[0]; i++)
        rc = load_source(&sources[i], c, e);
    return rc == 0 ? take_redis_url(c, e) : rc;
}

/* Sources are read twice when they name a preset: its values go under theirs. */
int run_config_load(struct run_config *c, const char *path, char **environ, const char *const *assignments, size_t n,
                    struct error *e)
{
    int rc = load_defaults(c, AUGMENT_CUSTOM, e);
    if (rc == 0)
        rc = load_sources(c, path, environ, assignments, n, e);
    enum augment_preset preset = c->augment.preset;
    if (rc == 0 && preset != AUGMENT_CUSTOM)
        rc = load_defaults(c, preset, e);
    if (rc == 0 && preset != AUGMENT_CUSTOM)
        rc = load_sources(c, path, environ, assignments, n, e);
    return rc == 0 ? run_config_check(c, e) : rc;
}
