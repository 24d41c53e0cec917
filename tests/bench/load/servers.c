#include "tests/bench/load/servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { ENDPOINTS = 4, POLL_MS = 20 };

/* All four are bound at once, so that they differ. */
static int choose_ports(char *endpoints[ENDPOINTS], size_t room, struct error *e)
{
    int sockets[ENDPOINTS], good = 0;
    for (int i = 0; i < ENDPOINTS; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof a;
        sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(sockets[i], (struct sockaddr *)&a, sizeof a) == 0 &&
            getsockname(sockets[i], (struct sockaddr *)&a, &size) == 0)
            good++;
        snprintf(endpoints[i], room, "tcp://127.0.0.1:%d", ntohs(a.sin_port));
    }
    for (int i = 0; i < ENDPOINTS; i++)
        close(sockets[i]);
    return good == ENDPOINTS ? 0 : error_set(e, ERR_IO, "no free ports: %s", strerror(errno));
}

static int write_config(const struct run_config *c, const char *path, struct error *e)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return error_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    config_write(run_config_keys, run_config_key_count, c, f);
    return fclose(f) == 0 ? 0 : error_set(e, ERR_IO, "%s: %s", path, strerror(errno));
}

static int start(const char *programs, const char *name, const char *directory, pid_t *pid, struct error *e)
{
    char program[512], config[128], log[128];
    snprintf(program, sizeof program, "%s/decant-%s", programs, name);
    snprintf(config, sizeof config, "%s/config.ini", directory);
    snprintf(log, sizeof log, "%s/%s.log", directory, name);
    char *argv[] = {program, "--config", config, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int rc = posix_spawn(pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc == 0)
        return 0;
    *pid = 0;
    return error_set(e, ERR_IO, "%s: %s", program, strerror(rc));
}

int servers_start(struct servers *s, const char *programs, struct run_config *c, struct error *e)
{
    char config[128];
    char *endpoints[ENDPOINTS] = {c->net.parameter, c->net.parameter_publish, c->net.prototype,
                                  c->net.prototype_publish};
    *s = (struct servers){.directory = "/tmp/decant-load-XXXXXX"};
    if (mkdtemp(s->directory) == NULL)
        return error_set(e, ERR_IO, "%s: %s", s->directory, strerror(errno));
    snprintf(c->run.out, sizeof c->run.out, "%s/run", s->directory);
    snprintf(config, sizeof config, "%s/config.ini", s->directory);
    int rc = choose_ports(endpoints, sizeof c->net.parameter, e);
    if (rc == 0)
        rc = write_config(c, config, e);
    if (rc == 0)
        rc = start(programs, "prototype", s->directory, &s->prototype, e);
    return rc == 0 ? start(programs, "parameter", s->directory, &s->parameter, e) : rc;
}

/* True when it is over; then *pid is 0 and *good says whether it was a success. */
static bool reap(pid_t *pid, bool *good)
{
    int status;
    if (*pid == 0)
        return true;
    if (waitpid(*pid, &status, WNOHANG) != *pid)
        return false;
    *good = *good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    *pid = 0;
    return true;
}

bool servers_ended_well(struct servers *s, unsigned timeout_ms)
{
    bool good = s->parameter != 0 && s->prototype != 0;
    for (unsigned waited = 0; waited < timeout_ms; waited += POLL_MS) {
        bool parameter = reap(&s->parameter, &good), prototype = reap(&s->prototype, &good);
        if (parameter && prototype)
            return good;
        usleep(POLL_MS * 1000);
    }
    return false;
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *place)
{
    (void)stat;
    (void)type;
    (void)place;
    return remove(path);
}

static void finish(pid_t *pid)
{
    if (*pid == 0)
        return;
    kill(*pid, SIGKILL);
    waitpid(*pid, NULL, 0);
    *pid = 0;
}

void servers_end(struct servers *s, bool keep)
{
    finish(&s->parameter);
    finish(&s->prototype);
    if (keep)
        fprintf(stderr, "kept for a look: %s\n", s->directory);
    else
        nftw(s->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
