/* Parsing of addresses. */
#include "cli/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int address_parse(const char *text, char *host, size_t host_size, int64_t *port, struct error *e)
{
    const char *colon = text[0] == '/' ? NULL : strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    const char *name = length > 0 ? text : "127.0.0.1";
    length = length > 0 ? length : strlen(name);
    if (text[0] == '\0' || length >= host_size)
        return error_set(e, ERR_CONFIG, "'%.80s': expected HOST:PORT or the path of a unix socket", text);
    if (colon) {
        char *end;
        long value = strtol(colon + 1, &end, 10);
        if (end == colon + 1 || *end != '\0' || value < 1 || value > 65535)
            return error_set(e, ERR_CONFIG, "'%.80s': the port has to be a number in 1..65535", text);
        *port = value;
    }
    snprintf(host, host_size, "%.*s", (int)length, name);
    return 0;
}
