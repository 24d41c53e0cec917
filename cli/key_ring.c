/* Checks come before the first write, so that a refused command leaves nothing behind. */
#include "cli/key_ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "proto/keys.h"

static const char header[] = "# ROLE PUBLICKEY NAME; roles: worker, client, viewer. Servers follow changes of this "
                             "file while they run.\n";

int key_owner_parse(const char *text, struct key_owner *out, struct error *e)
{
    char role[16];
    size_t length = strcspn(text, ":");
    bool named = text[length] == ':';
    *out = (struct key_owner){.role = ROLE_NONE};
    snprintf(role, sizeof role, "%.*s", (int)length, text);
    bool server = strcmp(role, server_name(SERVER_PARAMETER)) == 0 || strcmp(role, server_name(SERVER_PROTOTYPE)) == 0;
    if (!server)
        out->role = role_parse(role);
    if (server ? named : out->role == ROLE_NONE)
        return error_set(e, ERR_CONFIG,
                         "'%.80s': expected parameter, prototype, or ROLE[:NAME] with ROLE worker, client or viewer",
                         text);
    int rc = named ? path_format(out->name, sizeof out->name, "%s-%s", role, text + length + 1)
                   : path_format(out->name, sizeof out->name, "%s", role);
    if (rc != 0 || (named && !allow_name_ok(text + length + 1)))
        return error_set(e, ERR_CONFIG, "'%.80s': a name has to be up to about 50 letters, digits, '-', '_' and '.'",
                         text);
    return 0;
}

/* ---- the list as text ---- */

static int list_path(const char *directory, char path[KEY_PATH_MAX], struct error *e)
{
    return path_format(path, KEY_PATH_MAX, "%s/allowed", directory) == 0 ? 0
                                                                         : error_set(e, ERR_CONFIG, "path too long");
}

/* The text, checked; a list that is not there yet is the header alone. */
static int read_list(const char *path, char **text, size_t *size, struct allow_list *list, struct error *e)
{
    struct buf *b = NULL;
    int rc = file_read(path, ALLOW_FILE_MAX, &b, e);
    if (rc == ERR_NOT_FOUND)
        rc = (b = buf_copy(header, sizeof header - 1)) ? 0 : ERR_MEMORY;
    if (rc != 0)
        return rc;
    *size = b->size;
    *text = malloc(b->size + 1);
    if (*text)
        memcpy(*text, b->data, b->size);
    buf_unref(&b);
    if (!*text)
        return error_set(e, ERR_MEMORY, "%s: out of memory", path);
    rc = allow_list_parse(*text, *size, path, list, e);
    if (rc != 0)
        free(*text);
    return rc;
}

static const struct allow_entry *find_name(const struct allow_list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->entries[i].name, name) == 0)
            return &l->entries[i];
    return NULL;
}

static int write_list(const char *path, const char *text, size_t size, const char *added, struct error *e)
{
    bool open_end = size > 0 && text[size - 1] != '\n';
    struct file_part parts[] = {{text, size}, {"\n", open_end ? 1 : 0}, {added, strlen(added)}};
    return file_write_atomic(path, parts, 3, e);
}

static int append(const char *directory, const char *lines, struct error *e)
{
    char path[KEY_PATH_MAX], *text;
    size_t size;
    struct allow_list list;
    int rc = list_path(directory, path, e);
    if (rc == 0)
        rc = read_list(path, &text, &size, &list, e);
    if (rc != 0)
        return rc;
    rc = write_list(path, text, size, lines, e);
    allow_list_fini(&list);
    free(text);
    return rc;
}

int key_ring_read(const char *directory, struct allow_list *out, struct error *e)
{
    char path[KEY_PATH_MAX];
    int rc = list_path(directory, path, e);
    return rc == 0 ? allow_list_read(path, out, e) : rc;
}

/* ---- making ---- */

static int check_file_absent(const char *directory, const char *name, const char *kind, struct error *e)
{
    char path[KEY_PATH_MAX];
    if (path_format(path, sizeof path, "%s/%s.%s", directory, name, kind) != 0)
        return error_set(e, ERR_CONFIG, "%s: the path is too long", directory);
    if (access(path, F_OK) != 0)
        return 0;
    return error_set(e, ERR_STATE, "%s exists and is not overwritten; remove it first if nobody uses it any more",
                     path);
}

static int check_absent(const char *directory, const struct key_owner *owner, struct error *e)
{
    struct allow_list list;
    struct error none;
    int rc = check_file_absent(directory, owner->name, "key", e);
    if (rc == 0)
        rc = check_file_absent(directory, owner->name, "pub", e);
    if (rc != 0 || owner->role == ROLE_NONE || key_ring_read(directory, &list, &none) != 0)
        return rc;
    if (find_name(&list, owner->name))
        rc = error_set(e, ERR_STATE, "%s is listed already in %s/allowed; --revoke it first", owner->name, directory);
    allow_list_fini(&list);
    return rc;
}

int key_directory_make(const char *directory, struct error *e)
{
    if (access(directory, F_OK) == 0)
        return 0; /* somebody else's choice of mode */
    int rc = dir_make(directory, e);
    if (rc != 0)
        return rc;
    return chmod(directory, 0700) == 0 ? 0 : error_set(e, ERR_IO, "chmod %s: %s", directory, strerror(errno));
}

static int generate_one(const char *directory, const struct key_owner *owner, struct error *e)
{
    char key[NET_KEY_TEXT], line[256];
    int rc = keys_create(directory, owner->name, key, e);
    if (rc != 0)
        return rc;
    snprintf(line, sizeof line, "%s %s %s\n", role_name(owner->role), key, owner->name);
    return append(directory, owner->role == ROLE_NONE ? "" : line, e);
}

int key_ring_generate(const char *directory, const struct key_owner *owners, size_t n, struct error *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = check_absent(directory, &owners[i], e);
    if (rc == 0)
        rc = key_directory_make(directory, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = generate_one(directory, &owners[i], e);
    return rc;
}

bool key_ring_has(const char *directory, const struct key_owner *owner)
{
    char path[KEY_PATH_MAX];
    return path_format(path, sizeof path, "%s/%s.key", directory, owner->name) == 0 && access(path, F_OK) == 0;
}

int key_ring_add(const char *directory, const char *public_path, const struct key_owner *owner, struct error *e)
{
    char key[NET_KEY_TEXT], line[256];
    struct allow_list list;
    size_t length = strlen(public_path), ending = sizeof ".key" - 1;
    if (length >= ending && strcmp(public_path + length - ending, ".key") == 0)
        return error_set(e, ERR_CONFIG,
                         "%s: a secret key, which no list may hold; give the file beside it that ends in .pub",
                         public_path);
    int rc = keys_read_public(public_path, key, e);
    if (rc == 0)
        rc = key_ring_read(directory, &list, e);
    if (rc != 0)
        return rc;
    const struct allow_entry *same = allow_list_find(&list, key);
    if (same)
        rc = error_set(e, ERR_STATE, "%s: that key is listed already, as %s", public_path, same->name);
    else if (find_name(&list, owner->name))
        rc = error_set(e, ERR_STATE, "%s is listed already in %s/allowed; --revoke it first", owner->name, directory);
    allow_list_fini(&list);
    snprintf(line, sizeof line, "%s %s %s\n", role_name(owner->role), key, owner->name);
    return rc == 0 ? append(directory, line, e) : rc;
}

/* ---- revoking ---- */

/* Whether the line's third word is name. */
static bool line_names(const char *line, size_t length, const char *name)
{
    char copy[256], *rest = NULL;
    if (length >= sizeof copy)
        return false;
    memcpy(copy, line, length);
    copy[length] = '\0';
    const char *role = strtok_r(copy, " \t\r\n", &rest);
    const char *third =
        role && role[0] != '#' && strtok_r(NULL, " \t\r\n", &rest) ? strtok_r(NULL, " \t\r\n", &rest) : NULL;
    return third && strcmp(third, name) == 0;
}

/* Drops the lines of that name in place. */
static void drop_lines(char *text, size_t *size, const char *name)
{
    size_t kept = 0;
    for (size_t at = 0; at < *size;) {
        const char *stop = memchr(text + at, '\n', *size - at);
        size_t length = stop ? (size_t)(stop - text) + 1 - at : *size - at;
        if (!line_names(text + at, length, name)) {
            memmove(text + kept, text + at, length);
            kept += length;
        }
        at += length;
    }
    *size = kept;
}

/* Nobody is left who works: said so that servers need not wonder whether the file was damaged. */
static const char *confirmation(const char *text, size_t size)
{
    struct allow_list left;
    bool anybody = false;
    if (allow_list_parse(text, size, "the list", &left, NULL) != 0)
        return "";
    for (size_t i = 0; i < left.count; i++)
        anybody = anybody || left.entries[i].role == ROLE_WORKER || left.entries[i].role == ROLE_CLIENT;
    bool said = left.confirmed;
    allow_list_fini(&left);
    return anybody || said ? "" : ALLOW_CONFIRMED "\n";
}

int key_ring_revoke(const char *directory, const char *name, struct error *e)
{
    char path[KEY_PATH_MAX], *text;
    size_t size;
    struct allow_list list;
    int rc = list_path(directory, path, e);
    if (rc == 0)
        rc = read_list(path, &text, &size, &list, e);
    if (rc != 0)
        return rc;
    if (!find_name(&list, name))
        rc = error_set(e, ERR_NOT_FOUND, "%s lists no '%.64s'; see decant keygen --list", path, name);
    drop_lines(text, &size, name);
    if (rc == 0)
        rc = write_list(path, text, size, confirmation(text, size), e);
    allow_list_fini(&list);
    free(text);
    return rc;
}
