/* Where `decant status` and `decant prototypes` read a run's state from: the Redis mirror while it is live, else the
 * newest checkpoint. In this order:
 *   1. --redis ADDRESS           that Redis (proto/redis_address.h)
 *   2. OUT/redis/address         the private Redis of a run that is going on in OUT
 *   3. OUT/checkpoints/latest    the checkpoint
 * where OUT is --out or --checkpoint, or runs/NAME of --run NAME. */
#ifndef DECANT_CLI_RUN_SOURCE_H
#define DECANT_CLI_RUN_SOURCE_H

#include <stdbool.h>
#include "cli/checkpoint.h"
#include "cli/redis_client.h"

enum { SOURCE_REDIS_MAX = 2048 };

struct source_options {
    const char *run, *directory;     /* NULL: not given */
    char redis[SOURCE_REDIS_MAX];    /* empty: not given; a copy, because the argument is blotted out */
    char named[CHECKPOINT_PATH_MAX]; /* what directory points to when the run was an argument */
};

struct run_source {
    struct redis_client *redis; /* NULL: the checkpoint below is open */
    struct checkpoint checkpoint;
    char run[64];                    /* name of the run */
    char where[CHECKPOINT_PATH_MAX]; /* address or directory, for people */
};

/* The checkpoint only (3 of the list above), whatever is live. */
int run_source_open_checkpoint(const struct source_options *o, struct run_source *out, struct error *e);
int run_source_open(const struct source_options *o, struct run_source *out, struct error *e);
/* A live mirror only (1 and 2 of the list above); ERR_NOT_FOUND when none is named. out->run is set in any case. */
int run_source_open_live(const struct source_options *o, struct run_source *out, struct error *e);
/* OUT of the list above. ERR_CONFIG when it is too long. */
int run_source_directory(const struct source_options *o, char directory[CHECKPOINT_PATH_MAX], struct error *e);
void run_source_close(struct run_source *s);

/* The connection only, whatever runs it may hold. */
int run_source_connect(const struct redis_address *address, struct run_source *s, struct error *e);
/* Begins another look at Redis: everything until the next one takes at most that long. Does nothing for a
 * checkpoint. */
void run_source_allow(struct run_source *s, int within_ms);

/* One command's reply, checked: ERR_IO when the connection failed, ERR_FORMAT when it is an error or not of that type.
 * Free it with freeReplyObject. */
int run_source_command(struct run_source *s, int type, redisReply **reply, struct error *e, const char *format, ...);

/* The next reply of commands that were appended with redis_client_append, checked alike. */
int run_source_reply(struct run_source *s, int type, redisReply **reply, struct error *e);

#endif
