/* Generic configuration reader: INI file < environment (DECANT_SECTION_KEY) < flags (--set section.key=value), against
 * a table of known keys. Unknown keys, bad values and duplicates are errors that name file:line (or the variable, or
 * the flag), the value, the allowed range, and for unknown keys the nearest known one. */
#ifndef DECANT_COMMON_CONFIG_H
#define DECANT_COMMON_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "common/error.h"

/* SECRET is a STRING that is never shown: messages do not quote it, and as a value it reads as empty, so that no file
 * that we write has it. For the same reason no other key takes a URL with a password. PATH is a STRING that names a
 * file or directory, PATHS one that names one or more (common/path_list.h). FLOATS is a list of one to
 * CONFIG_FLOATS_MAX numbers with commas between them. */
enum config_type {
    CONFIG_INT,
    CONFIG_FLOAT,
    CONFIG_BOOL,
    CONFIG_STRING,
    CONFIG_CHOICE,
    CONFIG_SECRET,
    CONFIG_PATH,
    CONFIG_PATHS,
    CONFIG_FLOATS
};

enum { CONFIG_FLOATS_MAX = 4 /* one for each channel of an image */ };

struct config_floats {
    size_t count;
    double values[CONFIG_FLOATS_MAX]; /* those from count on are 0 */
};

enum { CONFIG_FILE_MAX = 1 << 20 /* bytes of a configuration file, comments included */ };

struct config_key {
    const char *name; /* "section.key" */
    enum config_type type;
    size_t offset;       /* of the field in the target struct: int64_t, double, bool, char[size], int (choice index),
                          * struct config_floats */
    size_t size;         /* of a string, secret or path field, with its NUL */
    const char *initial; /* default, as text */
    double min, max;     /* of INT, FLOAT, and each of FLOATS */
    const char *choices; /* "a|b|c" of CHOICE; of a PATH: words that name no file, or NULL */
    const char *help;    /* one sentence with unit */
};

/* Applies defaults to target. Aborts on a table that is wrong (programmer error). */
void config_defaults(const struct config_key *keys, size_t n, void *target);
/* The grammar is in config_sources.c. ERR_NOT_FOUND, ERR_IO, ERR_CONFIG; ERR_RANGE beyond CONFIG_FILE_MAX. */
int config_file(const struct config_key *keys, size_t n, void *target, const char *path, struct error *e);
/* The same from memory; origin stands for the path in messages. */
int config_memory(const struct config_key *keys, size_t n, void *target, const void *text, size_t size,
                  const char *origin, struct error *e);
/* A variable whose SECTION is not in the table is someone else's and ignored; an unknown KEY of a known one is an
 * error. */
int config_environment(const struct config_key *keys, size_t n, void *target, char **environ, struct error *e);
/* One assignment "section.key=value"; origin names it in messages ("--set"). */
int config_assign(const struct config_key *keys, size_t n, void *target, const char *assignment, const char *origin,
                  struct error *e);
/* The value of a key as canonical text (floats with the fewest digits, at least nine, that read back the same). Writes
 * at most size bytes. Of a secret: nothing. */
void config_value(const struct config_key *key, const void *target, char *out, size_t size);
/* Gives every PATH, and each of PATHS, that is relative, neither empty nor one of the choices, the directory that it is
 * relative to (absolute itself). ERR_CONFIG when it does not fit then. */
int config_resolve_paths(const struct config_key *keys, size_t n, void *target, const char *directory, struct error *e);
/* Every key, grouped by section, as an INI file that reads back to the same values, but for secrets. */
void config_write(const struct config_key *keys, size_t n, const void *target, FILE *f);

#endif
