/* Whom a server lets in: a text file, one line for each key,
 *
 *   # ROLE PUBLICKEY NAME
 *   worker 0(5k#Y1Ne0?.dPnj?q1AAm#&sL#!EFzB&TmqvXdg gpu-7
 *   viewer ...                                      alice
 *
 * with ROLE worker, client or viewer, PUBLICKEY the 40 characters of Z85, and NAME for people and logs. Blank lines and
 * lines that begin with '#' are skipped, but for ALLOW_CONFIRMED as the last one. A file with any other line is refused
 * whole: half a list lets in the wrong people. */
#ifndef DECANT_PROTO_ALLOW_LIST_H
#define DECANT_PROTO_ALLOW_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include "common/error.h"
#include "common/net.h"
#include "proto/roles.h"

enum {
    ALLOW_NAME_MAX = 64,      /* bytes of a name with its NUL */
    ALLOW_ENTRIES_MAX = 4096, /* four times the workers that a parameter server takes */
    ALLOW_FILE_MAX = 1 << 20
};

/* As the last line: whoever wrote this list meant it, though nobody is left on it who works. A file that lost its end
 * has lost this too. */
#define ALLOW_CONFIRMED "# confirmed: no workers"

struct allow_entry {
    char key[NET_KEY_TEXT];
    enum role role;
    char name[ALLOW_NAME_MAX];
};

struct allow_list {
    struct allow_entry *entries; /* ascending by key */
    size_t count;
    bool confirmed; /* the last line says so */
};

/* Fills out, which may be uninitialised; ERR_FORMAT names origin and line. Left empty on an error. */
int allow_list_parse(const char *text, size_t size, const char *origin, struct allow_list *out, struct error *e);
int allow_list_read(const char *path, struct allow_list *out, struct error *e);
void allow_list_fini(struct allow_list *l);
const struct allow_entry *allow_list_find(const struct allow_list *l, const char *key); /* NULL: not listed */
/* 1 to 63 letters, digits, '-', '_' and '.', not beginning with '.': safe in files, logs and as a file's name. */
bool allow_name_ok(const char *name);

#endif
