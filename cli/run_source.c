/* Opening of sources; every wait on Redis is bounded. */
#include "cli/run_source.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include "cli/printable.h"
#include "cli/private_redis.h"
#include "cli/shell_quote.h"
#include "common/files.h"
#include "proto/redis_info.h"

enum { REDIS_MS = 3000 /* for connecting and the first questions */ };

static int check_reply(const struct run_source *s, redisReply *reply, int type, struct error *e)
{
    if (reply->type == type)
        return 0;
    int rc = reply->type == REDIS_REPLY_ERROR
                 ? error_set(e, ERR_FORMAT, "%s: %.160s; %s", s->where, printable(reply->str),
                             redis_error_advice(reply->str))
                 : error_set(e, ERR_FORMAT, "%s: an unexpected kind of reply; is it a Redis?", s->where);
    freeReplyObject(reply);
    return rc;
}

int run_source_connect(const struct redis_address *address, struct run_source *s, struct error *e)
{
    char text[REDIS_ADDRESS_TEXT_MAX];
    snprintf(s->where, sizeof s->where, "Redis at %s", redis_address_text(address, text));
    return redis_client_open(address, REDIS_MS, &s->redis, e);
}

void run_source_allow(struct run_source *s, int within_ms)
{
    if (s->redis != NULL)
        redis_client_allow(s->redis, within_ms);
}

int run_source_command(struct run_source *s, int type, redisReply **reply, struct error *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int rc = redis_client_vappend(s->redis, format, args);
    va_end(args);
    return rc == 0 ? run_source_reply(s, type, reply, e) : error_set(e, rc, "out of memory");
}

int run_source_reply(struct run_source *s, int type, redisReply **reply, struct error *e)
{
    int rc = redis_client_reply(s->redis, reply, e);
    return rc == 0 ? check_reply(s, *reply, type, e) : rc;
}

/* The mirror has something about this run. */
static int check_known(struct run_source *s, struct error *e)
{
    redisReply *reply;
    int rc = run_source_command(s, REDIS_REPLY_INTEGER, &reply, e, "EXISTS decant:%s", s->run);
    if (rc != 0)
        return rc;
    bool known = reply->integer == 1;
    freeReplyObject(reply);
    if (!known)
        rc = error_set(e, ERR_NOT_FOUND, "%s knows no run '%s'; its runs: redis-cli smembers decant:runs", s->where,
                       s->run);
    return rc;
}

static int open_redis(const struct redis_address *address, struct run_source *s, struct error *e)
{
    int rc = run_source_connect(address, s, e);
    if (rc == 0 && (rc = check_known(s, e)) != 0)
        run_source_close(s);
    return rc;
}

/* A run that has only begun is told from a wrong name. */
static int nothing_yet(const char *directory, const struct error *why, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX], quoted[SHELL_QUOTE_MAX];
    if (path_format(path, sizeof path, "%s/config.ini", directory) != 0 || file_probe(path, NULL) != 0)
        return error_set(e, ERR_NOT_FOUND, "%s", why->text);
    return error_set(e, ERR_NOT_FOUND,
                     "%.150s: this run has no checkpoint yet, and no Redis mirror of it is noted there; how far it is: "
                     "decant top --out %.150s",
                     directory, shell_quote(directory, quoted, sizeof quoted));
}

static int open_checkpoint(const char *directory, struct run_source *s, struct error *e)
{
    struct error why = {0};
    int rc = checkpoint_open(directory, &s->checkpoint, &why);
    if (rc == ERR_NOT_FOUND)
        return nothing_yet(directory, &why, e);
    if (rc != 0)
        return error_set(e, rc, "%s", why.text);
    snprintf(s->run, sizeof s->run, "%s", s->checkpoint.config.run.name);
    snprintf(s->where, sizeof s->where, "%s", s->checkpoint.directory);
    return 0;
}

/* The Redis that --redis names. What that leaves out, such as the login, is from the run's configuration, if it is
 * here, and the environment. */
static int open_given_redis(const struct source_options *o, const char *directory, struct run_source *out,
                            struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    struct run_config c;
    struct redis_address address = {0};
    int rc = path_format(path, sizeof path, "%s/config.ini", directory) == 0 ? file_probe(path, e) : ERR_NOT_FOUND;
    if (rc == 0 || rc == ERR_NOT_FOUND)
        rc = run_config_load(&c, rc == 0 ? path : NULL, environ, NULL, 0, e);
    if (rc == 0)
        rc = run_config_set_redis(&c, o->redis, "--redis", e);
    if (rc == 0)
        rc = redis_address_configured(&c, &address, e);
    explicit_bzero(c.redis.password, sizeof c.redis.password);
    if (rc == 0)
        rc = open_redis(&address, out, e);
    redis_address_wipe(&address);
    return rc;
}

static int open_private_redis(const char *text, struct run_source *out, struct error *e)
{
    struct redis_address address = {0};
    int rc = redis_address_parse(text, &address, e);
    return rc == 0 ? open_redis(&address, out, e) : rc;
}

/* A run in progress knows its own name; --run may differ from it when --out names the directory. */
static void name_of_directory(const char *directory, struct run_source *s)
{
    char path[CHECKPOINT_PATH_MAX];
    struct run_config c;
    if (path_format(path, sizeof path, "%s/config.ini", directory) == 0 &&
        run_config_load(&c, path, NULL, NULL, 0, NULL) == 0)
        snprintf(s->run, sizeof s->run, "%s", c.run.name);
}

int run_source_directory(const struct source_options *o, char directory[CHECKPOINT_PATH_MAX], struct error *e)
{
    const char *run = o->run ? o->run : "default";
    int rc = o->directory ? path_format(directory, CHECKPOINT_PATH_MAX, "%s", o->directory)
                          : path_format(directory, CHECKPOINT_PATH_MAX, "runs/%s", run);
    if (rc != 0 || strlen(run) >= sizeof((struct run_source *)0)->run)
        return error_set(e, ERR_CONFIG, "--run or --out is too long: %.80s", o->directory ? o->directory : run);
    return 0;
}

static int name_source(const struct source_options *o, struct run_source *out, char directory[CHECKPOINT_PATH_MAX],
                       struct error *e)
{
    memset(out, 0, sizeof *out);
    int rc = run_source_directory(o, directory, e);
    if (rc != 0)
        return rc;
    snprintf(out->run, sizeof out->run, "%s", o->run ? o->run : "default");
    if (!o->run && (o->directory || o->redis[0] == '\0'))
        name_of_directory(directory, out);
    return 0;
}

int run_source_open_live(const struct source_options *o, struct run_source *out, struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX], address[128];
    int rc = name_source(o, out, directory, e);
    if (rc != 0)
        return rc;
    if (o->redis[0] != '\0')
        return open_given_redis(o, directory, out, e);
    if (private_redis_address(directory, address, sizeof address, NULL) == 0)
        return open_private_redis(address, out, e);
    return error_set(e, ERR_NOT_FOUND, "%s/redis/address: no mirror is noted there", directory);
}

int run_source_open(const struct source_options *o, struct run_source *out, struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX], address[128];
    int rc = run_source_open_live(o, out, e);
    if (rc == 0 || o->redis[0] != '\0')
        return rc;
    if (run_source_directory(o, directory, e) == 0 &&
        private_redis_address(directory, address, sizeof address, e) == ERR_IO)
        return ERR_IO;                      /* the run may be live, and this user may not see it */
    rc = name_source(o, out, directory, e); /* whatever became of a private mirror, the checkpoint counts now */
    return rc == 0 ? open_checkpoint(directory, out, e) : rc;
}

int run_source_open_checkpoint(const struct source_options *o, struct run_source *out, struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX];
    int rc = name_source(o, out, directory, e);
    return rc == 0 ? open_checkpoint(directory, out, e) : rc;
}

void run_source_close(struct run_source *s)
{
    redis_client_close(&s->redis);
    checkpoint_close(&s->checkpoint);
}
