/* Building of argument vectors. */
#include "cli/launch_arguments.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/child_guard.h"
#include "common/kernels.h"

static void push(struct launch_arguments *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void push(struct launch_arguments *a, const char *format, ...)
{
    ASSERT(a->count < ARGUMENTS_MAX);
    va_list args;
    va_start(args, format);
    int length = vsnprintf(a->text[a->count], ARGUMENT_BYTES, format, args);
    va_end(args);
    ASSERT(length >= 0 && length < ARGUMENT_BYTES); /* paths were checked against PLAN_PATH_MAX */
    a->argv[a->count] = a->text[a->count];
    a->argv[++a->count] = NULL;
}

static void push_key(struct launch_arguments *a, const char *key, const char *value)
{
    push(a, "--set");
    push(a, "%s=%s", key, value);
}

static void push_redis(struct launch_arguments *a, const struct run_config *c)
{
    push_key(a, "redis.host", c->redis.host);
    push_key(a, "redis.user", c->redis.user);
    push_key(a, "redis.password_file", c->redis.password_file);
    push(a, "--set");
    push(a, "redis.port=%" PRId64, c->redis.port);
    push(a, "--set");
    push(a, "redis.db=%" PRId64, c->redis.db);
    push_key(a, "redis.enabled", c->redis.enabled ? "true" : "false");
}

/* What the private directory and the private Redis decided after config.ini was written. */
static void push_places(struct launch_arguments *a, const struct run_config *c)
{
    push_key(a, "net.parameter", c->net.parameter);
    push_key(a, "net.parameter_publish", c->net.parameter_publish);
    push_key(a, "net.prototype", c->net.prototype);
    push_key(a, "net.prototype_publish", c->net.prototype_publish);
    push_redis(a, c);
    if (c->run.accept_data) { /* of this start only: config.ini does not have it */
        push(a, "--set");
        push(a, "run.accept_data=true");
    }
}

/* Whatever follows ends with this process. */
static void push_guard(struct launch_arguments *a, const struct launch_plan *p)
{
    a->count = 0;
    push(a, "%s/decant", p->programs);
    push(a, CHILD_GUARD);
    push(a, "%d", (int)getpid());
}

void launch_arguments_decant(struct launch_arguments *a, const struct launch_plan *p, const char *program, bool resume)
{
    push_guard(a, p);
    push(a, "%s/decant-%s", p->programs, program);
    push(a, "--config");
    push(a, "%s", p->config_path);
    push_places(a, strcmp(program, "worker") == 0 ? &p->clients : &p->config);
    if (resume)
        push(a, "--resume");
}

void launch_arguments_eval(struct launch_arguments *a, const struct launch_plan *p, const char *step)
{
    push_guard(a, p);
    push(a, "%s/decant", p->programs);
    push(a, "eval");
    push(a, "--note");
    push(a, "--checkpoint");
    push(a, "%s", step);
    push(a, "--bank");
    push(a, "%" PRId64, p->config.eval.images);
    push_redis(a, &p->config);
}

void launch_arguments_redis(struct launch_arguments *a, const struct launch_plan *p)
{
    push_guard(a, p);
    push(a, "redis-server");
    push(a, "--bind");
    push(a, "127.0.0.1");
    push(a, "--port");
    push(a, "%" PRId64, p->config.redis.port);
    push(a, "--dir");
    push(a, "%s", p->redis_directory);
    /* A save rule makes SIGTERM write the dump; its interval is longer than runs, so that nothing is written meanwhile.
     */
    push(a, "--save");
    push(a, "2000000 1");
    push(a, "--appendonly");
    push(a, "no");
    push(a, "--daemonize");
    push(a, "no");
}

char **launch_environment(char **environment, const struct run_config *c)
{
    static const char name[] = "DECANT_REDIS_PASSWORD=", kernels[] = KERNELS_VARIABLE "=";
    size_t text_bytes = sizeof name + strlen(c->redis.password);
    size_t n = 0, kept = 0;
    while (environment[n])
        n++;
    char **out = malloc((n + 2) * sizeof *out + text_bytes);
    if (!out)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environment[i], "DECANT_", 7) != 0 || strncmp(environment[i], kernels, sizeof kernels - 1) == 0)
            out[kept++] = environment[i];
    char *text = (char *)(out + n + 2);
    snprintf(text, text_bytes, "%s%s", name, c->redis.password);
    if (c->redis.password[0] != '\0')
        out[kept++] = text;
    out[kept] = NULL;
    return out;
}
