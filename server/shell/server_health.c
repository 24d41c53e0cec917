/* One question, one line. */
#include "server/shell/server_health.h"

#include <stdio.h>
#include <string.h>
#include "proto/keys.h"
#include "proto/probe.h"

int server_health_check(const struct process_options *o, enum server which)
{
    const char *endpoint = which == SERVER_PARAMETER ? o->config.net.parameter : o->config.net.prototype;
    struct net_curve keys;
    struct probe_answer answer;
    struct error e = {0};
    char line[PROBE_LINE_MAX];
    int rc = keys_of_self(&o->config, which, &keys, &e);
    if (rc == 0)
        rc = probe_ask(endpoint, &keys, MSG_PING, PROBE_TIMEOUT_MS, &answer, &e);
    keys_wipe(&keys);
    if (rc == 0 && strcmp(answer.run, o->config.run.name) != 0)
        rc = error_set(&e, ERR_STATE, "%s: serves run %s, not %s", endpoint, answer.run, o->config.run.name);
    if (rc == 0)
        puts(probe_line(&answer, line));
    else
        fprintf(stderr, "%s: %s\n", o->program, e.text);
    return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}
