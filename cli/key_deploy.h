/* One directory a process, made from a directory of keys (cli/key_ring.h), with what that process needs and no more:
 *
 *   TARGET/parameter/     parameter.key, allowed
 *   TARGET/prototype/     prototype.key, allowed
 *   TARGET/NAME/          NAME.key, parameter.pub, prototype.pub        for everybody else
 *
 * Each can be mounted into a container of its own, or copied to another machine, and be keys.directory there. */
#ifndef DECANT_CLI_KEY_DEPLOY_H
#define DECANT_CLI_KEY_DEPLOY_H

#include "common/error.h"

/* For each NAME.key in directory. target may be the same directory. Directories are created with mode 0700, secrets
 * with 0600; files are replaced as a whole, and those that are right already are left alone. */
int key_deploy(const char *directory, const char *target, struct error *e);

#endif
