/* Resolution of a run's configuration and places. */
#include "cli/launch_plan.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "cli/config_file.h"
#include "cli/launch_check.h"
#include "cli/pid_file.h"
#include "cli/shell_quote.h"
#include "common/files.h"
#include "proto/probe.h"
#include "proto/redis_login.h"
#include "proto/run_dir.h"

enum {
    SOCKET_DIRECTORY_MAX = 60, /* a socket's path has to fit into 107 bytes */
    ORPHANS_MS = 30000,        /* what a killed launcher leaves ends within this: a drain takes 20 s at most */
};

/* ---- configuration ---- */

/* A resumed run goes on with the configuration it was started with, unless another file is named. *file: NULL for none;
 * path has room for it. */
static int base_config(const struct launch_options *o, char path[PLAN_PATH_MAX], const char **file, struct error *e)
{
    *file = o->config;
    if (o->config || !o->resume || (!o->out && !o->run))
        return 0;
    int rc =
        path_format(path, PLAN_PATH_MAX, o->out ? "%s/config.ini" : "runs/%s/config.ini", o->out ? o->out : o->run);
    if (rc != 0)
        return error_set(e, ERR_CONFIG, "--out or --run is too long");
    rc = file_probe(path, e);
    *file = rc == 0 ? path : NULL;
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int set_text(struct run_config *c, const char *key, const char *value, const char *origin, struct error *e)
{
    char assignment[PLAN_PATH_MAX + 32];
    if (path_format(assignment, sizeof assignment, "%s=%s", key, value) != 0)
        return error_set(e, ERR_CONFIG, "%s: value too long", origin);
    return config_assign(run_config_keys, run_config_key_count, c, assignment, origin, e);
}

static int resolve_out(const struct launch_options *o, struct run_config *c, struct error *e)
{
    char derived[PLAN_PATH_MAX];
    if (o->out)
        return set_text(c, "run.out", o->out, "--out", e);
    if (!o->run && strcmp(c->run.out, "runs/default") != 0)
        return 0;
    if (path_format(derived, sizeof derived, "runs/%s", c->run.name) != 0)
        return error_set(e, ERR_CONFIG, "run.name is too long");
    return set_text(c, "run.out", derived, "--run", e);
}

/* Better now than in the log of a server that does not start. */
static int check_redis_login(const struct run_config *c, struct error *e)
{
    struct redis_login login;
    int rc = c->redis.enabled ? redis_login_read(c, &login, e) : 0;
    redis_login_wipe(&login);
    return rc;
}

static int resolve_redis(const struct launch_options *o, struct launch_plan *p, struct error *e)
{
    struct run_config *c = &p->config;
    if (o->redis == REDIS_GIVEN) {
        c->redis.enabled = true;
        int rc = run_config_set_redis(c, o->redis_address, "--redis", e);
        return rc == 0 ? check_redis_login(c, e) : rc;
    }
    if (o->redis == REDIS_OFF)
        c->redis.enabled = false;
    p->redis_private = o->redis == REDIS_AUTOMATIC && !c->redis.enabled && !p->joint;
    return check_redis_login(c, e);
}

static int resolve_config(const struct launch_options *o, char **environment, struct launch_plan *p, struct error *e)
{
    char path[PLAN_PATH_MAX];
    const char *file;
    int rc = base_config(o, path, &file, e);
    if (rc == 0)
        rc = run_config_load(&p->config, file, environment, o->sets, o->set_count, e);
    if (rc == 0 && o->run)
        rc = set_text(&p->config, "run.name", o->run, "--run", e);
    if (rc == 0)
        rc = resolve_out(o, &p->config, e);
    if (rc == 0)
        rc = run_config_check(&p->config, e);
    if (rc == 0)
        rc = run_config_check_trains(&p->config, e);
    p->joint = p->config.loss.prototypes == PROTOTYPES_JOINT;
    p->resume = o->resume;
    p->from_start = o->from_start;
    p->workers = o->workers;
    return rc == 0 ? resolve_redis(o, p, e) : rc;
}

/* ---- may it start here? ---- */

/* Nothing but "." and "..", or no directory at all. What may not be listed is not empty. */
static int directory_is_empty(const char *path, bool *empty, struct error *e)
{
    DIR *d = opendir(path);
    *empty = true;
    if (!d)
        return errno == ENOENT ? 0 : error_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    for (struct dirent *entry; *empty && (entry = readdir(d)) != NULL;)
        *empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(d);
    return 0;
}

/* Refuses to resume with a configuration that would compute something else than the checkpoints' run, or under another
 * name: its checkpoints carry the old one. */
static int check_same_config(const struct launch_plan *p, struct error *e)
{
    struct run_config was;
    char keys[400], quoted[SHELL_QUOTE_MAX];
    int rc = run_config_load(&was, p->config_path, NULL, NULL, 0, e);
    if (rc != 0)
        return rc;
    if (strcmp(was.run.name, p->config.run.name) != 0)
        return error_set(
            e, ERR_STATE, "%s holds run '%s', not '%s'; give --run %s to resume it, or choose another --out",
            p->config.run.out, was.run.name, p->config.run.name, shell_quote(was.run.name, quoted, sizeof quoted));
    if (run_config_differences(&was, &p->config, keys, sizeof keys) == 0)
        return 0;
    return error_set(e, ERR_STATE, "%s holds a run with %s; resume without changing that, or choose another --out",
                     p->config.run.out, keys);
}

/* A run that is resumed goes on from a step, or begins because it has not come to one yet. */
static int check_resume(struct launch_plan *p, struct error *e)
{
    bool any;
    struct error why = {0};
    int rc = run_dir_check_resume(&p->config, &any, &why);
    p->begins = !any;
    if (rc == ERR_STATE && p->from_start)
        rc = run_dir_start_over(&p->config, &why);
    if (rc != 0)
        return error_set(e, rc, "%s", why.text);
    if (p->begins)
        return 0; /* with whichever configuration */
    rc = file_probe(p->config_path, e);
    return rc == 0 ? check_same_config(p, e) : rc == ERR_NOT_FOUND ? 0 : rc;
}

/* A new run begins where there is none, and none has been: lost checkpoints are found before they are written over. */
static int check_new(struct launch_plan *p, struct error *e)
{
    const char *out = p->config.run.out;
    char path[PLAN_PATH_MAX];
    bool any, empty = true;
    int rc = run_dir_check_resume(&p->config, &any, e);
    if (rc != 0)
        return rc;
    if (path_format(path, sizeof path, "%s/checkpoints", out) != 0)
        return error_set(e, ERR_CONFIG, "run.out is too long: %s", out);
    rc = directory_is_empty(path, &empty, e);
    if (rc != 0 || empty)
        return rc;
    return error_set(e, ERR_STATE,
                     "%s is not empty; add --resume to go on from its newest checkpoint, or choose another --run or "
                     "--out",
                     path);
}

static int check_start(struct launch_plan *p, struct error *e)
{
    int rc = pid_file_check(p->config.run.out, ORPHANS_MS, e);
    if (rc != 0)
        return rc;
    return p->resume ? check_resume(p, e) : check_new(p, e);
}

/* ---- places ---- */

static int name_places(struct launch_plan *p, struct error *e)
{
    const char *out = p->config.run.out;
    if (path_format(p->config_path, PLAN_PATH_MAX, "%s/config.ini", out) != 0 ||
        path_format(p->logs, PLAN_PATH_MAX, "%s/logs", out) != 0 ||
        path_format(p->redis_directory, PLAN_PATH_MAX, "%s/redis", out) != 0)
        return error_set(e, ERR_CONFIG, "run.out is too long: %s", out);
    size_t size = sizeof p->programs;
    if (uv_exepath(p->programs, &size) != 0 || strrchr(p->programs, '/') == NULL)
        return error_set(e, ERR_IO, "cannot find the directory of this program");
    *strrchr(p->programs, '/') = '\0';
    return 0;
}

static bool has_default_endpoints(const struct run_config *c)
{
    struct run_config initial;
    config_defaults(run_config_keys, run_config_key_count, &initial);
    return strcmp(c->net.parameter, initial.net.parameter) == 0 &&
           strcmp(c->net.parameter_publish, initial.net.parameter_publish) == 0 &&
           strcmp(c->net.prototype, initial.net.prototype) == 0 &&
           strcmp(c->net.prototype_publish, initial.net.prototype_publish) == 0;
}

/* Where workers and the launcher itself find the servers: "*" and interfaces are for servers to listen on. */
static int name_clients(struct launch_plan *p, struct error *e)
{
    char *const keys[] = {p->clients.net.parameter, p->clients.net.parameter_publish, p->clients.net.prototype,
                          p->clients.net.prototype_publish};
    const char *const values[] = {p->config.net.parameter, p->config.net.parameter_publish, p->config.net.prototype,
                                  p->config.net.prototype_publish};
    p->clients = p->config;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (probe_endpoint(values[i], keys[i]) != 0)
            return error_set(e, ERR_CONFIG, "%.200s: the endpoint is too long", values[i]);
    return 0;
}

/* Sockets that only this user can reach, and no port that another run could hold. */
static int make_sockets(struct launch_plan *p, struct error *e)
{
    const char *base = getenv("TMPDIR");
    if (!base || base[0] != '/' || strlen(base) > SOCKET_DIRECTORY_MAX - sizeof "/decant-XXXXXX")
        base = "/tmp";
    char path[SOCKET_DIRECTORY_MAX];
    if (path_format(path, sizeof path, "%s/decant-XXXXXX", base) != 0 || mkdtemp(path) == NULL)
        return error_set(e, ERR_IO, "%s/decant-XXXXXX: cannot create a directory: %s", base, strerror(errno));
    snprintf(p->sockets, sizeof p->sockets, "%s", path);
    struct run_config *c = &p->config;
    snprintf(c->net.parameter, sizeof c->net.parameter, "ipc://%s/parameter", path);
    snprintf(c->net.parameter_publish, sizeof c->net.parameter_publish, "ipc://%s/parameter-publish", path);
    snprintf(c->net.prototype, sizeof c->net.prototype, "ipc://%s/prototype", path);
    snprintf(c->net.prototype_publish, sizeof c->net.prototype_publish, "ipc://%s/prototype-publish", path);
    return 0;
}

/* Who is in the way is told how to be got out of it. */
static int lock(struct launch_plan *p, struct error *e)
{
    struct error why = {0};
    char quoted[SHELL_QUOTE_MAX];
    int rc = run_dir_lock(&p->config, "launcher", &p->lock, &why);
    if (rc == ERR_STATE)
        return error_set(e, rc, "%.300s: decant stop --out %.150s", why.text,
                         shell_quote(p->config.run.out, quoted, sizeof quoted));
    return rc == 0 ? 0 : error_set(e, rc, "%s", why.text);
}

int launch_plan_make(const struct launch_options *o, char **environment, struct launch_plan *out, struct error *e)
{
    memset(out, 0, sizeof *out);
    out->lock = -1;
    int rc = resolve_config(o, environment, out, e);
    if (rc == 0)
        rc = launch_check_limits(e);
    if (rc == 0)
        rc = launch_check_work(&out->config, e); /* what is wrong leaves no directory behind */
    if (rc == 0 && !o->resume)                   /* later nobody reads them */
        rc = launch_check_given(&out->config, e);
    if (rc == 0)
        rc = name_places(out, e);
    if (rc == 0)
        rc = lock(out, e);
    if (rc == 0)
        rc = check_start(out, e);
    bool private = rc == 0 && has_default_endpoints(&out->config);
    if (rc == 0)
        rc = launch_check_endpoints(&out->config, private, e);
    if (rc == 0)
        rc = dir_make(out->logs, e);
    if (rc == 0)
        rc = config_file_write(&out->config, out->config_path,
                               e); /* with the configured endpoints: the private ones die with this process */
    if (rc == 0 && private)
        rc = make_sockets(out, e);
    return rc == 0 ? name_clients(out, e) : rc;
}

void launch_plan_fini(struct launch_plan *p)
{
    if (p->lock >= 0)
        close(p->lock);
    p->lock = -1;
    DIR *d = p->sockets[0] ? opendir(p->sockets) : NULL;
    if (!d)
        return;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
    rmdir(p->sockets);
    p->sockets[0] = '\0';
}
