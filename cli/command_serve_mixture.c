/* decant serve-mixture: the prototype server in stream mode. This process makes the run's directory and becomes the
 * server, so that Ctrl-C and the exit code are the server's own. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/launch_arguments.h"
#include "cli/shell_quote.h"
#include "common/files.h"
#include "proto/run_dir.h"

enum { SETS_MAX = 64, OWN_SETS = 10, SET_BYTES = 1400, PORT_MAX = 65534 };

static const char help[] =
    "example: decant serve-mixture --components 4096 --dimensions 128 --run proto\n\n"
    "usage: decant serve-mixture [--components K] [--dimensions D] [--covariance FORM] [--run NAME] [--out DIR]\n"
    "                            [--port P] [--config FILE] [--set section.key=value]...\n\n"
    "Serves a Gaussian mixture to training loops that are not ours: they send statistics of their embeddings, it sends "
    "the\n"
    "prototypes back. client/python has the client and a PyTorch module; docs/PROTOCOL.md, section 12, is the "
    "protocol.\n"
    "Goes on from the newest checkpoint in the directory, if there is one, with the configuration of before. Ctrl-C "
    "writes\n"
    "a checkpoint and ends; clients keep what is not in one, and send it again after the next start.\n\n"
    "  --components K    prototypes (1024)\n"
    "  --dimensions D    of an embedding (128)\n"
    "  --covariance spherical|diag|vmf|full|tied\n"
    "                    shape of the components (diag): mixture.covariance\n"
    "  --run NAME        name of the run (mixture); its directory is runs/NAME\n"
    "  --out DIR         another directory\n"
    "  --port P          requests on tcp://127.0.0.1:P (5711), publications on the next port\n"
    "  --config FILE     configuration (INI) instead of the one in the directory; see `decant config`, [mixture] and "
    "[stream]\n"
    "  --set KEY=VALUE   one configuration key, over file and environment; may be repeated. Beyond this machine:\n"
    "                    net.prototype, net.prototype_publish and keys.directory\n";

static const struct option options[] = {
    {"components", required_argument, NULL, 'k'},
    {"dimensions", required_argument, NULL, 'd'},
    {"covariance", required_argument, NULL, 'v'},
    {"run", required_argument, NULL, 'n'},
    {"out", required_argument, NULL, 'o'},
    {"port", required_argument, NULL, 'p'},
    {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct serve_line {
    const char *config, *run, *out; /* NULL: not given */
    const char *sets[SETS_MAX];     /* in rising order: --set, then what other options stand for */
    char own[OWN_SETS][SET_BYTES];  /* of the latter */
    size_t set_count, own_count;
};

struct serve_plan {
    struct run_config config;
    char config_path[RUN_PATH_MAX];
    bool known;  /* the directory has a configuration */
    bool resume; /* and a checkpoint */
};

/* ---- options ---- */

static int take_set(struct serve_line *line, const char *assignment)
{
    if (line->set_count == SETS_MAX - OWN_SETS)
        return command_usage("serve-mixture", "more than %d times --set", SETS_MAX - OWN_SETS);
    line->sets[line->set_count++] = assignment;
    return -1;
}

static int take_own(struct serve_line *line, const char *format, const char *value)
{
    if (line->own_count == OWN_SETS)
        return command_usage("serve-mixture", "an option is given too often");
    if (strlen(format) + strlen(value) >= SET_BYTES)
        return command_usage("serve-mixture", "a value is too long");
    char *text = line->own[line->own_count++];
    int length = snprintf(text, SET_BYTES, "%s=%s", format, value);
    return length > 0 && length < SET_BYTES ? -1 : command_usage("serve-mixture", "a value is too long");
}

static int take_port(struct serve_line *line)
{
    long long port;
    char endpoint[64];
    if (command_number(optarg, 1, PORT_MAX, &port) != 0)
        return command_usage("serve-mixture", "--port %s: expected a number in 1..%d", optarg, PORT_MAX);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%lld", port);
    int code = take_own(line, "net.prototype", endpoint);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%lld", port + 1);
    return code < 0 ? take_own(line, "net.prototype_publish", endpoint) : code;
}

static int take_option(int option, void *arg)
{
    struct serve_line *line = arg;
    switch (option) {
    case 'k':
        return take_own(line, "mixture.components", optarg);
    case 'd':
        return take_own(line, "mixture.dimensions", optarg);
    case 'v':
        return take_own(line, "mixture.covariance", optarg);
    case 'n':
        line->run = optarg;
        return -1;
    case 'o':
        line->out = optarg;
        return -1;
    case 'p':
        return take_port(line);
    case 'c':
        line->config = optarg;
        return -1;
    case 's':
        return take_set(line, optarg);
    }
    return -1;
}

/* ---- configuration ---- */

/* The directory is known before the configuration, which may be in it. */
static int find_config(const struct serve_line *line, struct serve_plan *p, char out[RUN_PATH_MAX], struct error *e)
{
    const char *run = line->run ? line->run : "mixture";
    if (path_format(out, RUN_PATH_MAX, line->out ? "%s" : "runs/%s", line->out ? line->out : run) != 0 ||
        path_format(p->config_path, RUN_PATH_MAX, "%s/config.ini", out) != 0)
        return error_set(e, ERR_CONFIG, "--out or --run is too long");
    int rc = file_probe(p->config_path, e);
    p->known = rc == 0;
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int load_config(struct serve_line *line, const char *out, struct serve_plan *p, struct error *e)
{
    const char *file = line->config ? line->config : p->known ? p->config_path : NULL;
    bool fresh = file == NULL;
    if (take_own(line, "run.mode", "stream") >= 0 || take_own(line, "run.out", out) >= 0 ||
        ((line->run || fresh) && take_own(line, "run.name", line->run ? line->run : "mixture") >= 0))
        return error_set(e, ERR_CONFIG, "too many options");
    for (size_t i = 0; i < line->own_count; i++)
        line->sets[line->set_count++] = line->own[i];
    int rc = run_config_load(&p->config, file, environ, line->sets, line->set_count, e);
    return rc == 0 ? run_config_resolve_paths(&p->config, e) : rc;
}

/* Whoever resumes with another K, or in the directory of a training run, should hear it before the configuration
 * there is written over. */
static int check_same(const struct serve_plan *p, struct error *e)
{
    struct run_config was;
    char keys[400];
    const char *out = p->config.run.out;
    if (!p->known)
        return 0;
    int rc = run_config_load(&was, p->config_path, NULL, NULL, 0, e);
    if (rc != 0)
        return rc;
    if (was.run.mode != MODE_STREAM)
        return error_set(e, ERR_STATE, "%s is the directory of a training run: choose another --out", out);
    if (!p->resume)
        return 0;
    if (strcmp(was.run.name, p->config.run.name) != 0)
        return error_set(e, ERR_STATE, "%s holds run '%s', not '%s': choose another --out", out, was.run.name,
                         p->config.run.name);
    if (run_config_differences(&was, &p->config, keys, sizeof keys) == 0)
        return 0;
    return error_set(e, ERR_STATE,
                     "%s holds a mixture with %s; serve it without changing that, or choose another --out", out, keys);
}

static int make_plan(struct serve_line *line, struct serve_plan *p, struct error *e)
{
    char out[RUN_PATH_MAX];
    int rc = find_config(line, p, out, e);
    if (rc == 0)
        rc = load_config(line, out, p, e);
    if (rc == 0)
        rc = run_dir_check_resume(&p->config, &p->resume, e);
    if (rc == 0)
        rc = check_same(p, e);
    if (rc == 0)
        rc = dir_make(p->config.run.out, e);
    return rc == 0 ? config_file_write(&p->config, p->config_path, e) : rc;
}

/* ---- becoming the server ---- */

static void print_start(const struct serve_plan *p)
{
    const struct run_config *c = &p->config;
    char out[SHELL_QUOTE_MAX];
    fprintf(stderr,
            "mixture '%s' in %s: %lld components of %lld dimensions, %s\n"
            "clients: PrototypeClient(\"%s\", \"%s\"); Ctrl-C writes a checkpoint and ends\n",
            c->run.name, shell_quote(c->run.out, out, sizeof out), (long long)c->mixture.components,
            (long long)c->mixture.dimensions, p->resume ? "from the newest checkpoint" : "from the start",
            c->net.prototype, c->run.name);
}

static int become_server(const struct serve_plan *p)
{
    char program[RUN_PATH_MAX] = "";
    size_t size = sizeof program - sizeof "/decant-prototype";
    struct error e = {0};
    char **environment = launch_environment(environ, &p->config);
    if (environment == NULL || uv_exepath(program, &size) != 0 || strrchr(program, '/') == NULL) {
        free(environment);
        error_set(&e, ERR_IO, "cannot find the directory of this program");
        return command_failed("serve-mixture", &e);
    }
    strcpy(strrchr(program, '/'), "/decant-prototype");
    char config[] = "--config", resume[] = "--resume";
    char *const arguments[] = {program, config, (char *)p->config_path, p->resume ? resume : NULL, NULL};
    execve(program, arguments, environment);
    error_set(&e, ERR_IO, "%s: %s", program, strerror(errno));
    free(environment);
    return command_failed("serve-mixture", &e);
}

int command_serve_mixture(int argc, char **argv)
{
    static struct serve_line line; /* static: several KiB, and texts of it are pointed to */
    static struct serve_plan plan;
    const struct command_options command = {
        .name = "serve-mixture", .help = help, .options = options, .take = take_option};
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code >= 0)
        return code;
    if (make_plan(&line, &plan, &e) != 0)
        return command_failed("serve-mixture", &e);
    print_start(&plan);
    return become_server(&plan);
}
