/* The Redis server that a run on one machine brings along, so that `redis-cli` can look inside without any setup. */
#ifndef DECANT_CLI_PRIVATE_REDIS_H
#define DECANT_CLI_PRIVATE_REDIS_H

#include <stdbool.h>
#include "cli/launch_plan.h"

/* redis-server is on the PATH. */
bool private_redis_installed(void);
/* Chooses a free loopback port, points the plan's configuration at it, makes OUT/redis and writes OUT/redis/address
 * ("HOST:PORT"), by which `decant status` finds it. */
int private_redis_prepare(struct launch_plan *p, struct error *e);
/* Forgets the address once the server has ended. */
void private_redis_forget(const struct launch_plan *p);
/* The address of the private server of the run that is at work in `out`: what an earlier one left, or what came with a
 * copied directory, is another run's. ERR_NOT_FOUND when none is noted,
 * ERR_IO when that cannot be told. */
int private_redis_address(const char *out, char *address, size_t size, struct error *e);

#endif
