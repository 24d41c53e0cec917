/* Whom the dashboard answers. A page of a stranger may make a browser on this machine ask the loopback, under a name of
 * the stranger's that has come to mean 127.0.0.1 (DNS rebinding): so the Host header must be a name that only the owner
 * of this machine gives it, and a request that says where it comes from must come from this very page. */
#ifndef DECANT_CLI_DASHBOARD_GATE_H
#define DECANT_CLI_DASHBOARD_GATE_H

#include <stdbool.h>
#include <stddef.h>

enum { GATE_NAMES_MAX = 8 };

struct dashboard_gate {
    bool loopback;                     /* listens on this machine only: then any other address is a stranger's too */
    const char *names[GATE_NAMES_MAX]; /* further host names that are allowed: --host */
    size_t name_count;
};

/* host: the Host header or NULL; "NAME", "NAME:PORT", "[V6]:PORT". Allowed: localhost, the loopback's addresses, the
 * gate's names and, unless loopback, every numeric address: nobody can make a number mean another machine. The port is
 * not looked at, so that a tunnel may have another. */
bool dashboard_gate_host(const struct dashboard_gate *g, const char *host);
/* origin: the Origin header or NULL, which is fine: it must be http://HOST of the Host header, letter for letter. */
bool dashboard_gate_origin(const char *origin, const char *host);

/* "HOST:PORT", as of --listen: is HOST of the loopback? */
bool dashboard_gate_loopback(const char *address);

#endif
