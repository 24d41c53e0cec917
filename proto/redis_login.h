/* How to log in to the Redis of a run: the ACL user and password of its configuration. */
#ifndef DECANT_PROTO_REDIS_LOGIN_H
#define DECANT_PROTO_REDIS_LOGIN_H

#include "common/error.h"

struct run_config;

struct redis_login {
    char user[128];     /* empty: the default user */
    char password[256]; /* empty: no AUTH at all */
};

/* redis.password, or the first line of redis.password_file. ERR_CONFIG when both are given, when a user lacks a
 * password, or when the file cannot be read. */
int redis_login_read(const struct run_config *c, struct redis_login *out, struct error *e);
void redis_login_wipe(struct redis_login *l);
/* The arguments of AUTH after its name, as pointers into l: 1 or 2 of them, 0 when there is nothing to send. */
int redis_login_arguments(const struct redis_login *l, const char *arguments[2]);

#endif
