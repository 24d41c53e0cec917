/* Opening of sources; every wait on Redis is bounded. */
#include "cli/run_source.h"

#include <stdarg.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "cli/address.h"
#include "cli/private_redis.h"
#include "common/files.h"
#include "proto/redis_login.h"

enum { REDIS_TIMEOUT_S = 3 };

static int check_reply(struct run_source *s, redisReply *reply, int type, struct error *e)
{
    if (!reply)
        return error_set(e, ERR_IO, "%s: %s", s->where, s->redis->errstr);
    if (reply->type == type)
        return 0;
    int rc = error_set(e, ERR_FORMAT, "%s: %s", s->where,
                       reply->type == REDIS_REPLY_ERROR ? reply->str : "an unexpected kind of reply");
    freeReplyObject(reply);
    return rc;
}

/* Not through redisCommand's format: a password may hold anything. */
static int log_in(const struct redis_login *login, struct run_source *s, struct error *e)
{
    const char *argv[3] = {"AUTH"};
    int n = login ? redis_login_arguments(login, argv + 1) : 0;
    if (n == 0)
        return 0;
    redisReply *reply = redisCommandArgv(s->redis, n + 1, argv, NULL);
    int rc = check_reply(s, reply, REDIS_REPLY_STATUS, e);
    if (rc == 0)
        freeReplyObject(reply);
    return rc;
}

int run_source_connect(const char *address, const struct redis_login *login, struct run_source *s, struct error *e)
{
    char host[256];
    int64_t port = 6379;
    struct timeval timeout = {.tv_sec = REDIS_TIMEOUT_S};
    int rc = address_parse(address, host, sizeof host, &port, e);
    if (rc != 0)
        return rc;
    s->redis =
        host[0] == '/' ? redisConnectUnixWithTimeout(host, timeout) : redisConnectWithTimeout(host, (int)port, timeout);
    if (!s->redis || s->redis->err) {
        rc = error_set(e, ERR_IO, "Redis at %s: %s", address, s->redis ? s->redis->errstr : "out of memory");
        run_source_close(s);
        return rc;
    }
    redisSetTimeout(s->redis, timeout);
    snprintf(s->where, sizeof s->where, "Redis at %s", address);
    rc = log_in(login, s, e);
    if (rc != 0)
        run_source_close(s);
    return rc;
}

int run_source_command(struct run_source *s, int type, redisReply **reply, struct error *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    *reply = redisvCommand(s->redis, format, args);
    va_end(args);
    return check_reply(s, *reply, type, e);
}

int run_source_reply(struct run_source *s, int type, redisReply **reply, struct error *e)
{
    void *next = NULL;
    if (redisGetReply(s->redis, &next) != REDIS_OK)
        next = NULL;
    *reply = next;
    return check_reply(s, *reply, type, e);
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

static int open_redis(const char *address, const struct redis_login *login, struct run_source *s, struct error *e)
{
    int rc = run_source_connect(address, login, s, e);
    if (rc == 0 && (rc = check_known(s, e)) != 0)
        run_source_close(s);
    return rc;
}

static int open_checkpoint(const char *directory, struct run_source *s, struct error *e)
{
    int rc = checkpoint_open(directory, &s->checkpoint, e);
    if (rc != 0)
        return rc;
    snprintf(s->run, sizeof s->run, "%s", s->checkpoint.config.run.name);
    snprintf(s->where, sizeof s->where, "%s", s->checkpoint.directory);
    return 0;
}

/* The login of the Redis that --redis names: from the run's configuration, if it is here, and the environment. */
static int open_given_redis(const struct source_options *o, const char *directory, struct run_source *out,
                            struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    struct run_config c;
    struct redis_login login;
    int rc = path_format(path, sizeof path, "%s/config.ini", directory) == 0 ? file_probe(path, e) : ERR_NOT_FOUND;
    if (rc == 0 || rc == ERR_NOT_FOUND)
        rc = run_config_load(&c, rc == 0 ? path : NULL, environ, NULL, 0, e);
    if (rc == 0)
        rc = redis_login_read(&c, &login, e);
    if (rc != 0)
        return rc;
    rc = open_redis(o->redis, &login, out, e);
    redis_login_wipe(&login);
    explicit_bzero(c.redis.password, sizeof c.redis.password);
    return rc;
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
    if (!o->run && (o->directory || !o->redis))
        name_of_directory(directory, out);
    return 0;
}

int run_source_open_live(const struct source_options *o, struct run_source *out, struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX], address[128];
    int rc = name_source(o, out, directory, e);
    if (rc != 0)
        return rc;
    if (o->redis)
        return open_given_redis(o, directory, out, e);
    if (private_redis_address(directory, address, sizeof address, NULL) == 0)
        return open_redis(address, NULL, out, e);
    return error_set(e, ERR_NOT_FOUND, "%s/redis/address: no mirror is noted there", directory);
}

int run_source_open(const struct source_options *o, struct run_source *out, struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX], address[128];
    int rc = run_source_open_live(o, out, e);
    if (rc == 0 || o->redis)
        return rc;
    if (run_source_directory(o, directory, e) == 0 &&
        private_redis_address(directory, address, sizeof address, e) == ERR_IO)
        return ERR_IO;                      /* the run may be live, and this user may not see it */
    rc = name_source(o, out, directory, e); /* whatever became of a private mirror, the checkpoint counts now */
    return rc == 0 ? open_checkpoint(directory, out, e) : rc;
}

void run_source_close(struct run_source *s)
{
    if (s->redis)
        redisFree(s->redis);
    s->redis = NULL;
    checkpoint_close(&s->checkpoint);
}
