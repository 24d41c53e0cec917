/* Resolving the login; hiredis is left to those who have it. */
#include "proto/redis_login.h"

#include <stdbool.h>
#include <string.h>
#include "common/files.h"
#include "proto/run_config.h"

enum { FILE_MAX = 4096 };

void redis_login_wipe(struct redis_login *l)
{
    explicit_bzero(l, sizeof *l);
}

static int read_password(const char *path, char *out, size_t size, struct error *e)
{
    struct buf *b;
    struct error cause = {0};
    if (file_read(path, FILE_MAX, &b, &cause) != 0)
        return error_set(e, ERR_CONFIG, "redis.password_file: %s", cause.text);
    size_t length = 0;
    while (length < b->size && b->data[length] != '\n' && b->data[length] != '\r' && b->data[length] != '\0')
        length++;
    bool fits = length > 0 && length < size;
    if (fits) {
        memcpy(out, b->data, length);
        out[length] = '\0';
    }
    explicit_bzero(b->data, b->size);
    buf_unref(&b);
    return fits ? 0
                : error_set(e, ERR_CONFIG, "redis.password_file: the first line of %s has to have 1 to %zu bytes", path,
                            size - 1);
}

int redis_login_read(const struct run_config *c, struct redis_login *out, struct error *e)
{
    *out = (struct redis_login){0};
    bool from_file = c->redis.password_file[0] != '\0';
    if (from_file && c->redis.password[0] != '\0')
        return error_set(e, ERR_CONFIG, "redis.password and redis.password_file: give one of them");
    if (c->redis.user[0] != '\0' && c->redis.password[0] == '\0' && !from_file)
        return error_set(e, ERR_CONFIG,
                         "redis.user = %s needs a password: set DECANT_REDIS_PASSWORD, or redis.password_file",
                         c->redis.user);
    memcpy(out->user, c->redis.user, sizeof out->user);
    memcpy(out->password, c->redis.password, sizeof out->password);
    return from_file ? read_password(c->redis.password_file, out->password, sizeof out->password, e) : 0;
}

int redis_login_arguments(const struct redis_login *l, const char *arguments[2])
{
    int n = 0;
    if (l->password[0] == '\0')
        return 0;
    if (l->user[0] != '\0')
        arguments[n++] = l->user;
    arguments[n++] = l->password;
    return n;
}
