/* Where a Redis is and how to log in there, as people write it:
 *
 *   HOST  HOST:PORT  :PORT  [IPV6]:PORT  IPV6  /path/of/a/socket
 *   redis://[[USER]:PASSWORD@][HOST][:PORT][/DB][?db=N&username=U&password=P]
 *   unix://[[USER]:PASSWORD@]/path/of/a/socket[?...]
 *
 * Parts of a URL may be percent-encoded. rediss:// (TLS) is refused: hiredis of Debian 12 is built without. */
#ifndef DECANT_PROTO_REDIS_ADDRESS_H
#define DECANT_PROTO_REDIS_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include "common/error.h"
#include "proto/redis_login.h"

enum { REDIS_HOST_MAX = 256, REDIS_DB_MAX = 1000000 };

struct redis_address {
    char host[REDIS_HOST_MAX]; /* a name, an address (IPv6 without brackets), or the absolute path of a unix socket */
    int64_t port;              /* not of a socket */
    int64_t db;
    struct redis_login login;
};

/* Parts that the text does not name keep the values that *out has; a password replaces the user too. ERR_CONFIG, then
 * *out is unchanged. The error never quotes a URL. */
int redis_address_parse(const char *text, struct redis_address *out, struct error *e);
/* Of a run's configuration, with redis_login_read. */
int redis_address_configured(const struct run_config *c, struct redis_address *out, struct error *e);
void redis_address_wipe(struct redis_address *a);

/* "HOST:PORT", "[IPV6]:PORT" or the path, for people; no login. */
enum { REDIS_ADDRESS_TEXT_MAX = REDIS_HOST_MAX + 16 };
const char *redis_address_text(const struct redis_address *a, char out[REDIS_ADDRESS_TEXT_MAX]);

/* Blots out user, password and options of a URL in an argument of this process, which `ps` shows to everybody. */
void redis_address_hide(char *argument);

#endif
