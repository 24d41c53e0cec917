/* The directory of keys as `decant keygen` keeps it: NAME.key, NAME.pub (proto/keys.h) and the list `allowed`
 * (proto/allow_list.h), which is edited as text so that a person's comments stay. Writes of the list are atomic, and
 * servers take them up by themselves. */
#ifndef DECANT_CLI_KEY_RING_H
#define DECANT_CLI_KEY_RING_H

#include "proto/allow_list.h"

/* Whose key: of a server, which is not listed, or of a role. */
struct key_owner {
    enum role role;            /* ROLE_NONE: a server */
    char name[ALLOW_NAME_MAX]; /* of the files, and on the list: "parameter", "worker", "worker-gpu7" */
};

/* "ROLE[:NAME]", or "parameter" or "prototype". ERR_CONFIG. */
int key_owner_parse(const char *text, struct key_owner *out, struct error *e);

/* Makes a pair for each owner and lists those with a role. Nothing is made when one of the files or listed names exists
 * already (ERR_STATE). The directory is created with mode 0700. */
int key_ring_generate(const char *directory, const struct key_owner *owners, size_t n, struct error *e);
/* Whether the owner's secret is there. */
bool key_ring_has(const char *directory, const struct key_owner *owner);
/* Lists the public key of somebody who made the pair elsewhere. */
int key_ring_add(const char *directory, const char *public_path, const struct key_owner *owner, struct error *e);
/* Takes the name off the list; with ALLOW_CONFIRMED at its end when nobody is left who works. ERR_NOT_FOUND. */
int key_ring_revoke(const char *directory, const char *name, struct error *e);
int key_ring_read(const char *directory, struct allow_list *out, struct error *e);
/* With mode 0700; one that is there stays as it is. */
int key_directory_make(const char *directory, struct error *e);

#endif
