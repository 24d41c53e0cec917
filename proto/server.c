/* Names of the servers. */
#include "proto/server.h"

const char *server_name(enum server s)
{
    static const char *const names[] = {
        [SERVER_PARAMETER] = "parameter", [SERVER_PROTOTYPE] = "prototype", [SERVER_UNKNOWN] = "unknown"};
    return names[s];
}

enum server server_other(enum server s)
{
    return s == SERVER_PARAMETER ? SERVER_PROTOTYPE : SERVER_PARAMETER;
}
