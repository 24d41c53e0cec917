/* decant health: does a server answer. */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "cli/command.h"
#include "cli/config_options.h"
#include "cli/json_print.h"
#include "proto/keys.h"
#include "proto/probe.h"

static const char help[] =
    "example: decant health tcp://127.0.0.1:5701\n\n"
    "usage: decant health [--server parameter|prototype] [--timeout SECONDS] [--json] ENDPOINT\n"
    "       decant health [--server parameter|prototype] [--timeout SECONDS] [--json]\n"
    "                     [--config FILE] [--set KEY=VALUE]...\n\n"
    "Asks a server over its request endpoint (net.parameter, net.prototype) and prints `ok run=... generation=...\n"
    "step=...`. With a configuration both servers are asked, but only the parameter server of a joint run.\n\n"
    "  --server KIND     only this one; of an ENDPOINT: it must be of this kind\n"
    "  --timeout S       seconds to wait for the answer (3)\n" CONFIG_OPTIONS_HELP
    "  --json            one JSON object on stdout\n\n"
    "Exit status: 0 every server answered, 1 one did not, 2 wrong usage.\n";

static const struct option options[] = {
    {"server", required_argument, NULL, 'k'}, {"timeout", required_argument, NULL, 't'}, CONFIG_OPTIONS,
    {"json", no_argument, NULL, 'j'},         {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
};

enum { TARGETS_MAX = 2 };

struct health_line {
    enum server server; /* SERVER_UNKNOWN: not given */
    uint64_t timeout_ms;
    struct config_options config;
    bool json;
};

struct target {
    const char *endpoint;
    enum server expected; /* SERVER_UNKNOWN: whatever it is */
};

static int take_server(struct health_line *line)
{
    for (int s = SERVER_PARAMETER; s <= SERVER_PROTOTYPE; s++)
        if (strcmp(optarg, server_name((enum server)s)) == 0) {
            line->server = (enum server)s;
            return -1;
        }
    return command_usage("health", "--server %s: expected parameter or prototype", optarg);
}

static int take_timeout(struct health_line *line)
{
    double seconds;
    if (command_seconds(optarg, 0.01, 3600, &seconds) != 0)
        return command_usage("health", "--timeout %s: expected seconds in 0.01..3600", optarg);
    line->timeout_ms = (uint64_t)(seconds * 1000);
    return -1;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct health_line *line = arg;
    switch (option) {
    case 'k':
        return take_server(line);
    case 't':
        return take_timeout(line);
    case 'j':
        line->json = true;
        return -1;
    }
    return config_option_take("health", option, optarg, &line->config);
}

static size_t targets_of(const struct run_config *c, enum server only, struct target out[TARGETS_MAX])
{
    size_t n = 0;
    if (only != SERVER_PROTOTYPE)
        out[n++] = (struct target){c->net.parameter, SERVER_PARAMETER};
    if (only == SERVER_PROTOTYPE || (only == SERVER_UNKNOWN && c->loss.prototypes != PROTOTYPES_JOINT))
        out[n++] = (struct target){c->net.prototype, SERVER_PROTOTYPE};
    return n;
}

static int ask_with_keys(const struct target *t, enum msg_type question, uint64_t timeout_ms,
                         const struct run_config *c, struct probe_answer *out, struct error *e)
{
    struct net_curve keys = {0};
    int rc = 0;
    if (t->expected != SERVER_UNKNOWN)
        rc = keys_of_client(c, "viewer", t->expected, &keys, e);
    else if (c->keys.directory[0] != '\0')
        rc = error_set(e, ERR_CONFIG, "%s: whose key is expected there? give --server parameter or prototype",
                       t->endpoint);
    if (rc == 0)
        rc = probe_ask(t->endpoint, &keys, question, timeout_ms, out, e);
    keys_wipe(&keys);
    return rc;
}

static int ask(const struct target *t, uint64_t timeout_ms, const struct run_config *c, struct probe_answer *out,
               struct error *e)
{
    bool matters = t->expected != SERVER_UNKNOWN;
    int rc = ask_with_keys(t, matters ? MSG_HELLO : MSG_PING, timeout_ms, c, out, e);
    if (rc == 0 && matters && out->server != t->expected)
        rc = error_set(e, ERR_STATE, "%s: a %s server answers, not a %s server", t->endpoint, server_name(out->server),
                       server_name(t->expected));
    return rc;
}

static json_t *answer_json(const struct target *t, const struct probe_answer *a, const struct error *e)
{
    if (e->code != 0)
        return json_pack("{s:s, s:b, s:s}", "endpoint", t->endpoint, "ok", 0, "error", e->text);
    return json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:f}", "endpoint", t->endpoint, "ok", 1, "server",
                     server_name(a->server), "run", a->run, "generation", (json_int_t)a->generation, "step",
                     (json_int_t)a->step, "seconds", a->seconds);
}

/* 0 when all of them answered. */
static int ask_all(const struct target *targets, size_t n, const struct run_config *c, const struct health_line *line)
{
    json_t *list = json_array();
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        struct probe_answer a;
        struct error e = {0};
        char text[PROBE_LINE_MAX];
        int rc = ask(&targets[i], line->timeout_ms, c, &a, &e);
        failed |= rc;
        if (line->json)
            json_array_append_new(list, answer_json(&targets[i], &a, &e));
        else if (rc == 0)
            puts(probe_line(&a, text));
        else
            command_failed("health", &e);
    }
    if (line->json)
        failed |= json_print(json_pack("{s:b, s:O}", "ok", failed == 0, "servers", list), stdout);
    json_decref(list);
    return failed;
}

/* endpoint: the one given, or NULL for those of the configuration, which has the keys in any case. */
static int check(const struct health_line *line, const char *endpoint)
{
    struct run_config c;
    struct target targets[TARGETS_MAX] = {{endpoint, line->server}};
    struct error e = {0};
    if (config_options_load(&line->config, &c, &e) != 0)
        return command_failed("health", &e);
    size_t n = endpoint ? 1 : targets_of(&c, line->server, targets);
    return ask_all(targets, n, &c, line) == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

static const struct command_options command = {
    .name = "health", .help = help, .options = options, .take = take_option, .arguments_max = 1};

int command_health(int argc, char **argv)
{
    struct health_line line = {.server = SERVER_UNKNOWN, .timeout_ms = PROBE_TIMEOUT_MS};
    int code = command_take_options(&command, argc, argv, &line);
    if (code >= 0)
        return code;
    bool configured = line.config.file || line.config.set_count > 0;
    if ((argc - optind == 1) == configured)
        return command_usage("health", "give an ENDPOINT, or --config FILE");
    return check(&line, configured ? NULL : argv[optind]);
}
