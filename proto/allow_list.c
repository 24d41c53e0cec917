/* Parsing line by line; a sorted array to look up in. */
#include "proto/allow_list.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
#include "common/files.h"

enum { LINE_MAX_BYTES = 256, KEY_BYTES = 32 };

bool allow_name_ok(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length >= ALLOW_NAME_MAX || name[0] == '.')
        return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && strchr("-_.", *p) == NULL)
            return false;
    return true;
}

static bool key_ok(const char *key)
{
    uint8_t bytes[KEY_BYTES];
    return strlen(key) == NET_KEY_TEXT - 1 && zmq_z85_decode(bytes, key) != NULL;
}

static int line_error(struct error *e, const char *origin, size_t line, const char *what)
{
    return error_set(e, ERR_FORMAT, "%s:%zu: %s; expected: ROLE PUBLICKEY NAME", origin, line, what);
}

static int parse_line(char *line, const char *origin, size_t number, struct allow_entry *out, struct error *e)
{
    char *rest = NULL;
    const char *role = strtok_r(line, " \t", &rest), *key = strtok_r(NULL, " \t", &rest);
    const char *name = strtok_r(NULL, " \t", &rest);
    if (!role || !key || !name || strtok_r(NULL, " \t", &rest))
        return line_error(e, origin, number, "not three words");
    out->role = role_parse(role);
    if (out->role == ROLE_NONE)
        return line_error(e, origin, number, "the role is not worker, client or viewer");
    if (!key_ok(key))
        return line_error(e, origin, number, "the key is not 40 characters of Z85");
    if (!allow_name_ok(name))
        return line_error(e, origin, number, "the name has to be 1 to 63 letters, digits, '-', '_' and '.'");
    memcpy(out->key, key, sizeof out->key);
    snprintf(out->name, sizeof out->name, "%s", name);
    return 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct allow_entry *)a)->key, ((const struct allow_entry *)b)->key);
}

static int compare_key(const void *key, const void *entry)
{
    return strcmp(key, ((const struct allow_entry *)entry)->key);
}

static bool is_comment(const char *line)
{
    line += strspn(line, " \t");
    return *line == '\0' || *line == '#';
}

/* Takes one line out of the text, without its end; false at the end of the text. */
static bool next_line(const char **text, const char *end, char line[LINE_MAX_BYTES], bool *fits)
{
    if (*text == end)
        return false;
    const char *stop = memchr(*text, '\n', (size_t)(end - *text));
    size_t length = (size_t)((stop ? stop : end) - *text);
    *fits = length < LINE_MAX_BYTES && memchr(*text, '\0', length) == NULL;
    size_t kept = *fits ? length : 0;
    memcpy(line, *text, kept);
    if (kept > 0 && line[kept - 1] == '\r')
        kept--;
    line[kept] = '\0';
    *text += length + (stop != NULL);
    return true;
}

static int append(struct allow_list *l, const struct allow_entry *entry, struct error *e)
{
    if (l->count == ALLOW_ENTRIES_MAX)
        return error_set(e, ERR_RANGE, "more than %d keys", ALLOW_ENTRIES_MAX);
    if ((l->count & (l->count - 1)) == 0) { /* full at powers of two */
        struct allow_entry *grown = realloc(l->entries, (l->count ? 2 * l->count : 1) * sizeof *grown);
        if (!grown)
            return error_set(e, ERR_MEMORY, "out of memory for the list of keys");
        l->entries = grown;
    }
    l->entries[l->count++] = *entry;
    return 0;
}

static int parse_all(const char *text, size_t size, const char *origin, struct allow_list *l, struct error *e)
{
    char line[LINE_MAX_BYTES];
    const char *end = text + size;
    bool fits;
    for (size_t number = 1; next_line(&text, end, line, &fits); number++) {
        struct allow_entry entry = {0};
        if (!fits)
            return line_error(e, origin, number, "the line is too long, or no text");
        if (line[strspn(line, " \t")] != '\0')
            l->confirmed = strcmp(line, ALLOW_CONFIRMED) == 0;
        if (is_comment(line))
            continue;
        int rc = parse_line(line, origin, number, &entry, e);
        if (rc == 0)
            rc = append(l, &entry, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* One key has one role. */
static int check_unique(const struct allow_list *l, const char *origin, struct error *e)
{
    for (size_t i = 1; i < l->count; i++)
        if (strcmp(l->entries[i - 1].key, l->entries[i].key) == 0)
            return error_set(e, ERR_FORMAT, "%s: %s and %s have the same key %s", origin, l->entries[i - 1].name,
                             l->entries[i].name, l->entries[i].key);
    return 0;
}

int allow_list_parse(const char *text, size_t size, const char *origin, struct allow_list *out, struct error *e)
{
    *out = (struct allow_list){0};
    int rc = parse_all(text, size, origin, out, e);
    if (rc == 0 && out->count > 1)
        qsort(out->entries, out->count, sizeof *out->entries, compare);
    if (rc == 0)
        rc = check_unique(out, origin, e);
    if (rc != 0)
        allow_list_fini(out);
    return rc;
}

int allow_list_read(const char *path, struct allow_list *out, struct error *e)
{
    struct buf *b;
    *out = (struct allow_list){0};
    int rc = file_read(path, ALLOW_FILE_MAX, &b, e);
    if (rc != 0)
        return rc;
    rc = allow_list_parse((const char *)b->data, b->size, path, out, e);
    buf_unref(&b);
    return rc;
}

void allow_list_fini(struct allow_list *l)
{
    free(l->entries);
    *l = (struct allow_list){0};
}

const struct allow_entry *allow_list_find(const struct allow_list *l, const char *key)
{
    return l->count > 0 ? bsearch(key, l->entries, l->count, sizeof *l->entries, compare_key) : NULL;
}
