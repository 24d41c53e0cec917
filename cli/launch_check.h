/* What would stop a run in its first moments, found before its first process starts: then the command itself says it,
 * with the key's name, instead of a log that has to be looked up. */
#ifndef DECANT_CLI_LAUNCH_CHECK_H
#define DECANT_CLI_LAUNCH_CHECK_H

#include <stdbool.h>
#include "common/error.h"
#include "proto/run_config.h"

/* Can servers of this machine listen at metrics.* and, unless they talk over private sockets, at net.*, can others
 * reach them, and are the keys there: ERR_CONFIG names the key. ERR_STATE when another process listens there. */
int launch_check_endpoints(const struct run_config *c, bool private, struct error *e);
/* Do the limits of this process, which those that it starts inherit, suffice for them: ERR_CONFIG names the limit. */
int launch_check_limits(struct error *e);
/* Are there images, enough for a step, and does the network fit them: ERR_CONFIG names the key. Reads as many images as
 * two steps take, or all when that is not enough to tell. */
int launch_check_work(const struct run_config *c, struct error *e);

/* Of a run that begins: are encoder.init, its map and mixture.init files that can be read: ERR_CONFIG names the key. */
int launch_check_given(const struct run_config *c, struct error *e);

#endif
