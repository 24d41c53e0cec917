/* CURVE keys as files. A key pair NAME is two files of one directory, each with the 40 characters of Z85 and a newline:
 *
 *   NAME.key   secret, mode 0600; whoever has it is NAME
 *   NAME.pub   public, to be copied to those who talk with NAME
 *
 * Servers are called "parameter" and "prototype". keys.directory of the configuration names the directory; without one
 * nothing here reads a file, and connections are in the clear. Secrets are wiped from memory as soon as ZeroMQ has its
 * copy. */
#ifndef DECANT_PROTO_KEYS_H
#define DECANT_PROTO_KEYS_H

#include "common/net.h"
#include "proto/run_config.h"
#include "proto/server.h"

enum { KEY_PATH_MAX = 1200 };

/* The pair a server presents itself with. ERR_CONFIG says which file is missing or malformed. */
int keys_of_server(const char *directory, enum server which, struct net_curve *out, struct error *e);
/* What a client of that server needs: its own pair (keys.name, or `name` when that is empty) and the server's public
 * key. An empty out without keys.directory, and for a server that is not reached by tcp://. */
int keys_of_client(const struct run_config *c, const char *name, enum server to, struct net_curve *out,
                   struct error *e);
/* For a server's own command line to ask the server itself: the server's pair, expecting itself. Empty as above. */
int keys_of_self(const struct run_config *c, enum server which, struct net_curve *out, struct error *e);
void keys_wipe(struct net_curve *k);

/* A new pair into two files that must not exist yet. */
int keys_create(const char *directory, const char *name, char public_key[NET_KEY_TEXT], struct error *e);
int keys_read_public(const char *path, char out[NET_KEY_TEXT], struct error *e);

/* What a person should look at after a failed handshake, seen from a client; with_keys: it has some. */
const char *keys_hint(const struct net_event *event, bool with_keys);
/* Whether the client's socket is dead after it: ZeroMQ does not try again. */
bool keys_hopeless(const struct net_event *event);

#endif
