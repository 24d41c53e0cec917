/* Reading and creating key files. */
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>
#include "common/files.h"
#include "common/log.h"

enum { KEY_FILE_MAX = 64, KEY_BYTES = 32 };

void keys_wipe(struct net_curve *k)
{
    explicit_bzero(k, sizeof *k);
}

static bool is_key(const char *text)
{
    uint8_t bytes[KEY_BYTES];
    bool valid = zmq_z85_decode(bytes, text) != NULL;
    explicit_bzero(bytes, sizeof bytes);
    return valid;
}

static int take_key(const struct buf *b, const char *path, char out[NET_KEY_TEXT], struct error *e)
{
    size_t length = b->size;
    while (length > 0 && (b->data[length - 1] == '\n' || b->data[length - 1] == '\r'))
        length--;
    if (length == NET_KEY_TEXT - 1 && memchr(b->data, '\0', length) == NULL) {
        memcpy(out, b->data, length);
        out[length] = '\0';
        if (is_key(out))
            return 0;
    }
    explicit_bzero(out, NET_KEY_TEXT);
    return error_set(e, ERR_CONFIG,
                     "%s: not a key; a key is 40 characters of Z85 on one line, as `decant keygen` writes", path);
}

static int read_key(const char *path, char out[NET_KEY_TEXT], struct error *e)
{
    struct buf *b;
    struct error cause = {0};
    if (file_read(path, KEY_FILE_MAX, &b, &cause) != 0)
        return error_set(e, ERR_CONFIG, "%s; `decant keygen` makes keys, keys.directory says where they are",
                         cause.text);
    int rc = take_key(b, path, out, e);
    explicit_bzero(b->data, b->size);
    buf_unref(&b);
    return rc;
}

int keys_read_public(const char *path, char out[NET_KEY_TEXT], struct error *e)
{
    return read_key(path, out, e);
}

/* A group may read what belongs to somebody else: that is how Kubernetes hands out secrets. */
static void warn_if_open(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return;
    mode_t closed = S_IRWXO | S_IWGRP | (st.st_uid == geteuid() ? S_IRWXG : 0);
    if ((st.st_mode & closed) != 0)
        log_warn("event=secret_readable path=%s mode=%04o hint=\"others on this machine can read it: chmod 600\"", path,
                 (unsigned)(st.st_mode & 07777));
}

static int name_path(char out[KEY_PATH_MAX], const char *directory, const char *name, const char *kind, struct error *e)
{
    if (path_format(out, KEY_PATH_MAX, "%s/%s.%s", directory, name, kind) == 0)
        return 0;
    return error_set(e, ERR_CONFIG, "keys.directory: the path is too long");
}

static int read_pair(const char *directory, const char *name, struct net_curve *out, struct error *e)
{
    char path[KEY_PATH_MAX];
    int rc = name_path(path, directory, name, "key", e);
    if (rc == 0)
        rc = read_key(path, out->secret_key, e);
    if (rc != 0)
        return rc;
    warn_if_open(path);
    if (zmq_curve_public(out->public_key, out->secret_key) == 0)
        return 0;
    return error_set(e, ERR_STATE, "this ZeroMQ has no CURVE: %s", zmq_strerror(errno));
}

int keys_of_server(const char *directory, enum server which, struct net_curve *out, struct error *e)
{
    *out = (struct net_curve){0};
    int rc = read_pair(directory, server_name(which), out, e);
    if (rc != 0)
        keys_wipe(out);
    return rc;
}

/* Both endpoints of a server use the same keys, each of them if it is tcp. */
static bool is_reached_by_tcp(const struct run_config *c, enum server to)
{
    bool parameter = to == SERVER_PARAMETER;
    const char *requests = parameter ? c->net.parameter : c->net.prototype;
    const char *publications = parameter ? c->net.parameter_publish : c->net.prototype_publish;
    return strncmp(requests, "tcp://", 6) == 0 || strncmp(publications, "tcp://", 6) == 0;
}

int keys_of_client(const struct run_config *c, const char *name, enum server to, struct net_curve *out, struct error *e)
{
    const char *directory = c->keys.directory;
    char path[KEY_PATH_MAX];
    *out = (struct net_curve){0};
    if (directory[0] == '\0' || !is_reached_by_tcp(c, to))
        return 0;
    int rc = name_path(path, directory, server_name(to), "pub", e);
    if (rc == 0)
        rc = read_key(path, out->server_key, e);
    if (rc == 0)
        rc = read_pair(directory, c->keys.name[0] ? c->keys.name : name, out, e);
    if (rc != 0)
        keys_wipe(out);
    return rc;
}

int keys_of_self(const struct run_config *c, enum server which, struct net_curve *out, struct error *e)
{
    *out = (struct net_curve){0};
    if (c->keys.directory[0] == '\0' || !is_reached_by_tcp(c, which))
        return 0;
    int rc = keys_of_server(c->keys.directory, which, out, e);
    memcpy(out->server_key, out->public_key, sizeof out->server_key);
    return rc;
}

/* ---- creating ---- */

static int write_fresh(const char *path, const char *key, mode_t mode, struct error *e)
{
    char line[NET_KEY_TEXT + 1];
    size_t length = NET_KEY_TEXT;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return error_set(e, errno == EEXIST ? ERR_STATE : ERR_IO, "create %s: %s", path, strerror(errno));
    memcpy(line, key, length - 1);
    line[length - 1] = '\n';
    bool written = write(fd, line, length) == (ssize_t)length && fsync(fd) == 0;
    explicit_bzero(line, sizeof line);
    close(fd);
    if (written)
        return 0;
    unlink(path);
    return error_set(e, ERR_IO, "write %s: %s", path, strerror(errno));
}

int keys_create(const char *directory, const char *name, char public_key[NET_KEY_TEXT], struct error *e)
{
    char secret[NET_KEY_TEXT], secret_path[KEY_PATH_MAX], public_path[KEY_PATH_MAX];
    int rc = name_path(secret_path, directory, name, "key", e);
    if (rc == 0)
        rc = name_path(public_path, directory, name, "pub", e);
    if (rc == 0 && zmq_curve_keypair(public_key, secret) != 0)
        rc = error_set(e, ERR_STATE, "this ZeroMQ has no CURVE: %s", zmq_strerror(errno));
    if (rc == 0)
        rc = write_fresh(secret_path, secret, 0600, e);
    explicit_bzero(secret, sizeof secret);
    if (rc == 0 && (rc = write_fresh(public_path, public_key, 0644, e)) != 0)
        unlink(secret_path);
    return rc;
}

/* ---- after a failure ---- */

bool keys_hopeless(const struct net_event *event)
{
    return event->kind == NET_KEY_REFUSED || event->kind == NET_HANDSHAKE_INVALID;
}

const char *keys_hint(const struct net_event *event, bool with_keys)
{
    if (event->kind == NET_KEY_REFUSED)
        return "the server refused our key, which is not on its list: it is new or was revoked; decant keygen --add "
               "puts it "
               "there";
    if (event->kind == NET_HANDSHAKE_CUT && !with_keys)
        return "the server hung up or does not answer: it may be starting, frozen or overloaded; if it wants keys, set "
               "keys.directory";
    if (!with_keys)
        return "the server may want keys: set keys.directory";
    return "the server has no keys, or another one than its .pub file in keys.directory says";
}
