/* Port and address of the private Redis. */
#include "cli/private_redis.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "cli/run_holder.h"
#include "common/files.h"

bool private_redis_installed(void)
{
    const char *path = getenv("PATH");
    char candidate[PLAN_PATH_MAX];
    while (path && *path) {
        size_t length = strcspn(path, ":");
        if (path_format(candidate, sizeof candidate, "%.*s/redis-server", (int)length, path) == 0 &&
            access(candidate, X_OK) == 0)
            return true;
        path += length + (path[length] == ':');
    }
    return false;
}

/* The system picks one; somebody else could take it before Redis does, which Redis then says in its log. */
static int free_port(int64_t *port, struct error *e)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &size) == 0;
    int reason = errno;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return error_set(e, ERR_IO, "no free port for the private Redis: %s", strerror(reason));
    *port = ntohs(address.sin_port);
    return 0;
}

static int address_path(const char *out, char path[PLAN_PATH_MAX])
{
    return path_format(path, PLAN_PATH_MAX, "%s/redis/address", out);
}

int private_redis_prepare(struct launch_plan *p, struct error *e)
{
    struct run_config *c = &p->config;
    char path[PLAN_PATH_MAX], text[64];
    int rc = dir_make(p->redis_directory, e);
    if (rc == 0)
        rc = free_port(&c->redis.port, e);
    if (rc != 0)
        return rc;
    c->redis.enabled = true;
    c->redis.db = 0;
    c->redis.user[0] = c->redis.password[0] = c->redis.password_file[0] = '\0'; /* of another Redis */
    snprintf(c->redis.host, sizeof c->redis.host, "127.0.0.1");
    struct file_part part = {text, (size_t)snprintf(text, sizeof text, "127.0.0.1:%d\n", (int)c->redis.port)};
    if (address_path(c->run.out, path) != 0)
        return error_set(e, ERR_CONFIG, "run.out is too long: %s", c->run.out);
    return file_write_atomic(path, &part, 1, e);
}

void private_redis_forget(const struct launch_plan *p)
{
    char path[PLAN_PATH_MAX];
    if (address_path(p->config.run.out, path) == 0)
        unlink(path);
}

int private_redis_address(const char *out, char *address, size_t size, struct error *e)
{
    char path[PLAN_PATH_MAX];
    struct run_holder holder;
    struct buf *text;
    if (address_path(out, path) != 0)
        return error_set(e, ERR_NOT_FOUND, "%s: the path is too long to hold an address", out);
    int rc = file_probe(path, e);
    if (rc == 0)
        rc = run_holder_find(out, &holder, e);
    if (rc == 0 && !holder.held)
        rc = error_set(e, ERR_NOT_FOUND, "%s is of a run that is not at work here", path);
    if (rc == 0)
        rc = file_read(path, size - 1, &text, e);
    if (rc != 0)
        return rc;
    memcpy(address, text->data, text->size);
    address[text->size] = '\0';
    address[strcspn(address, "\r\n")] = '\0';
    buf_unref(&text);
    return 0;
}
