/* Everything that a training run needs to know before the first process starts: the resolved configuration, the
 * directories, who listens where, and whether this run may start here at all.
 *
 *   OUT/config.ini                       the resolved configuration
 *   OUT/pids                             the processes of a run in progress
 *   OUT/logs/PROCESS.log                 their output
 *   OUT/redis/                           the private Redis server's directory; `address` while it runs
 *   PRIVATE (mkdtemp, mode 0700)         sockets of a run on one machine; removed at the end */
#ifndef DECANT_CLI_LAUNCH_PLAN_H
#define DECANT_CLI_LAUNCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include "common/error.h"
#include "proto/run_config.h"

enum { PLAN_PATH_MAX = 1280, PLAN_SETS_MAX = 64, PLAN_WORKERS_MAX = 256 };

enum redis_choice { REDIS_AUTOMATIC, REDIS_GIVEN, REDIS_OFF };

struct launch_options {
    const char *config, *run, *out; /* NULL: not given */
    const char *sets[PLAN_SETS_MAX];
    size_t set_count;
    unsigned workers;
    bool resume;
    bool from_start; /* of resume: checkpoints that are gone are no reason not to begin again */
    enum redis_choice redis;
    const char *redis_address; /* of REDIS_GIVEN: see proto/redis_address.h */
};

struct launch_plan {
    struct run_config config;
    struct run_config clients; /* the same, net.* as those who connect write it */
    bool joint, resume, from_start;
    bool begins; /* of resume: there is no step yet, so that it starts at the beginning */
    unsigned workers;
    bool redis_private;           /* a server of our own is started */
    char programs[PLAN_PATH_MAX]; /* directory of our executables */
    char config_path[PLAN_PATH_MAX], logs[PLAN_PATH_MAX], redis_directory[PLAN_PATH_MAX];
    char sockets[64]; /* the private directory, empty when endpoints are configured */
    int lock;         /* keeps a second launcher out of OUT; -1 before it is held */
};

/* Resolves, checks and creates the directories and files above. ERR_STATE when OUT holds another run's work, or one
 * that is still running; ERR_CONFIG for configuration. */
int launch_plan_make(const struct launch_options *o, char **environment, struct launch_plan *out, struct error *e);
/* Removes the private directory and lets go of OUT. */
void launch_plan_fini(struct launch_plan *p);

#endif
