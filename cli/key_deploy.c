/* Scanning the directory of keys and copying. */
#include "cli/key_deploy.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/key_ring.h"
#include "common/files.h"
#include "proto/keys.h"

static bool holds(const char *path, const struct buf *wanted)
{
    struct buf *present;
    struct error absent = {0};
    if (file_read(path, ALLOW_FILE_MAX, &present, &absent) != 0)
        return false;
    bool same = present->size == wanted->size && memcmp(present->data, wanted->data, wanted->size) == 0;
    explicit_bzero(present->data, present->size);
    buf_unref(&present);
    return same;
}

/* FROM/FILE to TO/FILE, which only its owner may read. */
static int copy(const char *from, const char *to, const char *file, struct error *e)
{
    char source[KEY_PATH_MAX], path[KEY_PATH_MAX];
    struct buf *b;
    if (path_format(source, sizeof source, "%s/%s", from, file) != 0 ||
        path_format(path, sizeof path, "%s/%s", to, file) != 0)
        return error_set(e, ERR_CONFIG, "%s/%s: the path is too long", to, file);
    int rc = file_read(source, ALLOW_FILE_MAX, &b, e);
    if (rc != 0)
        return rc;
    mode_t mask = umask(S_IRWXG | S_IRWXO);
    struct file_part whole = {b->data, b->size};
    if (!holds(path, b))
        rc = file_write_atomic(path, &whole, 1, e);
    umask(mask);
    explicit_bzero(b->data, b->size);
    buf_unref(&b);
    return rc;
}

static bool is_server(const char *name)
{
    return strcmp(name, server_name(SERVER_PARAMETER)) == 0 || strcmp(name, server_name(SERVER_PROTOTYPE)) == 0;
}

static int deploy_one(const char *directory, const char *target, const char *name, struct error *e)
{
    char to[KEY_PATH_MAX], secret[ALLOW_NAME_MAX + 8];
    if (path_format(to, sizeof to, "%s/%s", target, name) != 0 ||
        path_format(secret, sizeof secret, "%s.key", name) != 0)
        return error_set(e, ERR_CONFIG, "%s/%s: the path is too long", target, name);
    int rc = key_directory_make(to, e);
    if (rc == 0)
        rc = copy(directory, to, secret, e);
    if (rc == 0 && is_server(name))
        return copy(directory, to, "allowed", e);
    if (rc == 0)
        rc = copy(directory, to, "parameter.pub", e);
    return rc == 0 ? copy(directory, to, "prototype.pub", e) : rc;
}

/* NAME of NAME.key; false for other files. */
static bool owner_of(const char *file, char name[ALLOW_NAME_MAX])
{
    size_t length = strlen(file);
    if (length <= 4 || strcmp(file + length - 4, ".key") != 0)
        return false;
    return path_format(name, ALLOW_NAME_MAX, "%.*s", (int)(length - 4), file) == 0;
}

int key_deploy(const char *directory, const char *target, struct error *e)
{
    char name[ALLOW_NAME_MAX];
    int rc = 0;
    DIR *d = opendir(directory);
    if (!d)
        return error_set(e, ERR_IO, "open %s: %s", directory, strerror(errno));
    for (struct dirent *entry; rc == 0 && (entry = readdir(d)) != NULL;)
        if (owner_of(entry->d_name, name))
            rc = deploy_one(directory, target, name, e);
    closedir(d);
    return rc;
}
