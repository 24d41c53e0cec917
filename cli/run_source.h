/* Where `decant status` and `decant prototypes` read a run's state from: the Redis mirror while it is live, else the
 * newest checkpoint. In this order:
 *   1. --redis HOST:PORT         that Redis
 *   2. OUT/redis/address         the private Redis of a run that is going on in OUT
 *   3. OUT/checkpoints/latest    the checkpoint
 * where OUT is --out or --checkpoint, or runs/NAME of --run NAME. */
#ifndef DECANT_CLI_RUN_SOURCE_H
#define DECANT_CLI_RUN_SOURCE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include "cli/checkpoint.h"
#include "proto/redis_login.h"

struct source_options {
    const char *run, *redis, *directory; /* NULL: not given */
};

struct run_source {
    redisContext *redis; /* NULL: the checkpoint below is open */
    struct checkpoint checkpoint;
    char run[64];                    /* name of the run */
    char where[CHECKPOINT_PATH_MAX]; /* address or directory, for people */
};

int run_source_open(const struct source_options *o, struct run_source *out, struct error *e);
/* A live mirror only (1 and 2 of the list above); ERR_NOT_FOUND when none is named. out->run is set in any case. */
int run_source_open_live(const struct source_options *o, struct run_source *out, struct error *e);
/* OUT of the list above. ERR_CONFIG when it is too long. */
int run_source_directory(const struct source_options *o, char directory[CHECKPOINT_PATH_MAX], struct error *e);
void run_source_close(struct run_source *s);

/* The connection only, whatever runs it may hold. address: HOST:PORT or a socket's path. login: NULL for none. */
int run_source_connect(const char *address, const struct redis_login *login, struct run_source *s, struct error *e);

/* One command's reply, checked: ERR_IO when the connection failed, ERR_FORMAT when it is an error or not of that type.
 * Free it with freeReplyObject. */
int run_source_command(struct run_source *s, int type, redisReply **reply, struct error *e, const char *format, ...);

/* The next reply of commands appended to s->redis, checked alike. */
int run_source_reply(struct run_source *s, int type, redisReply **reply, struct error *e);

#endif
