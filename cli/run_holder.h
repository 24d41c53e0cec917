/* Which launcher is at work in a run's directory: the one that holds OUT/lock-launcher. */
#ifndef DECANT_CLI_RUN_HOLDER_H
#define DECANT_CLI_RUN_HOLDER_H

#include <stdbool.h>
#include <sys/types.h>
#include "common/error.h"

struct run_holder {
    bool held;
    char name[96]; /* what it calls itself: HOST:PID */
    pid_t pid;     /* 0 when it is not a process of this machine, or not of this user */
};

/* ERR_NOT_FOUND when no launcher was ever here, ERR_IO when that cannot be read. */
int run_holder_find(const char *out, struct run_holder *h, struct error *e);

#endif
