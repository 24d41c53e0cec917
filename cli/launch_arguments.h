/* Argument vectors and environments of the launcher's children. */
#ifndef DECANT_CLI_LAUNCH_ARGUMENTS_H
#define DECANT_CLI_LAUNCH_ARGUMENTS_H

#include <stdbool.h>
#include "cli/launch_plan.h"

enum { ARGUMENTS_MAX = 40, ARGUMENT_BYTES = 1400 };

struct launch_arguments {
    char text[ARGUMENTS_MAX][ARGUMENT_BYTES];
    char *argv[ARGUMENTS_MAX + 1]; /* NULL-terminated, into text */
    int count;
};

/* All begin with the guard that binds the child to this process (child_guard.h). A worker gets the endpoints that
 * clients connect to, a server those that it binds.
 *
 * PROGRAMS/decant-`program` --config OUT/config.ini --set ... ; resume adds --resume. */
void launch_arguments_decant(struct launch_arguments *a, const struct launch_plan *p, const char *program, bool resume);
/* PROGRAMS/decant eval --note --checkpoint STEP --bank N; STEP is a step's directory. */
void launch_arguments_eval(struct launch_arguments *a, const struct launch_plan *p, const char *step);
/* redis-server on the plan's loopback port, in the plan's directory. Writes its dump when it is told to end. */
void launch_arguments_redis(struct launch_arguments *a, const struct launch_plan *p);

/* environment without DECANT_*: config.ini has them resolved, and they must not win over --set again. Only the Redis
 * password, which no file of ours has, travels in it. Free with free(). */
char **launch_environment(char **environment, const struct run_config *c);

#endif
