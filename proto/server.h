/* Which of the two servers: the one enumeration and the one set of names for it, in code, files, logs and metrics. */
#ifndef DECANT_PROTO_SERVER_H
#define DECANT_PROTO_SERVER_H

enum server { SERVER_PARAMETER, SERVER_PROTOTYPE, SERVERS, SERVER_UNKNOWN = SERVERS };

/* "parameter", "prototype" or "unknown": also the names of their key files, locks and logs. */
const char *server_name(enum server s);
enum server server_other(enum server s);

#endif
