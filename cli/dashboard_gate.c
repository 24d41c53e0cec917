/* Numeric addresses are recognised by inet_pton alone, which takes no names and no odd spellings. */
#include "cli/dashboard_gate.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 256 };

/* The host without port and brackets; false when it is malformed. */
static bool split(const char *text, char host[HOST_MAX])
{
    size_t length = strlen(text);
    const char *end;
    if (text[0] == '[') {
        end = strchr(text, ']');
        text++;
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
    } else {
        end = text + strcspn(text, ":");
        if (*end != '\0' && strchr(end + 1, ':') != NULL)
            return false;
    }
    const char *port = strchr(end, ':');
    if (port != NULL && (port[1] == '\0' || strspn(port + 1, "0123456789") != strlen(port + 1)))
        return false;
    if (length >= HOST_MAX || end == text)
        return false;
    snprintf(host, HOST_MAX, "%.*s", (int)(end - text), text);
    return true;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool is_number(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

bool dashboard_gate_host(const struct dashboard_gate *g, const char *text)
{
    char host[HOST_MAX];
    if (text == NULL || !split(text, host))
        return false;
    if (is_loopback(host) || (!g->loopback && is_number(host)))
        return true;
    for (size_t i = 0; i < g->name_count; i++)
        if (strcasecmp(host, g->names[i]) == 0)
            return true;
    return false;
}

bool dashboard_gate_origin(const char *origin, const char *host)
{
    static const char scheme[] = "http://";
    if (origin == NULL)
        return true;
    return host != NULL && strncmp(origin, scheme, sizeof scheme - 1) == 0 &&
           strcasecmp(origin + sizeof scheme - 1, host) == 0;
}

bool dashboard_gate_loopback(const char *address)
{
    char host[HOST_MAX];
    return split(address, host) && is_loopback(host);
}
