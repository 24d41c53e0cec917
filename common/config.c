/* The table of keys, and values as text: lookup, parsing with ranges, printing. config_sources.c reads files and the
 * environment. */
#include "common/config.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "common/at_most.h"
#include "common/config_internal.h"
#include "common/path_list.h"

enum { NAME_MAX_BYTES = 128 }; /* "section.key"; longer names in a table are a programmer error */

/* Levenshtein distance of two words, one row at a time; case does not count. */
static size_t edit_distance(const char *a, size_t length, const char *b, size_t n)
{
    size_t row[NAME_MAX_BYTES + 1];
    ASSERT(n <= NAME_MAX_BYTES);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t substituted = diagonal + !same;
            diagonal = row[j];
            row[j] = at_most(substituted, at_most(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

static const char *key_part(const char *name)
{
    const char *dot = strchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

enum { FAR = 1000 };

/* How far a known name is from what was typed; FAR when it is not what was meant. A right key in a wrong section, or in
 * none, is as likely a slip as wrong letters; a similar key is one only in the section that was meant; and a key may be
 * cut short. */
static size_t name_distance(const char *typed, const char *known)
{
    const char *key = key_part(typed), *known_key = key_part(known);
    size_t length = strlen(key), known_length = strlen(known_key), section_length = (size_t)(key - typed),
           section = edit_distance(typed, section_length, known, (size_t)(known_key - known)),
           letters = edit_distance(key, length, known_key, known_length);
    if (letters == 0)
        return 1 + section;
    bool same_section = section_length > 0 && section <= 2;
    if (same_section && letters <= at_most(length, known_length) / 3)
        return section + letters;
    bool cut_short = length >= 3 && length < known_length && strncasecmp(key, known_key, length) == 0;
    return same_section && cut_short ? section + 3 : FAR;
}

/* NULL when no name is near enough to be what was meant. */
static const char *nearest_name(const struct config_key *keys, size_t n, const char *typed)
{
    size_t best = n, distance = FAR;
    for (size_t i = 0; i < n; i++) {
        size_t d = name_distance(typed, keys[i].name);
        if (d < distance) {
            best = i;
            distance = d;
        }
    }
    return best < n ? keys[best].name : NULL;
}

int config_find(const struct config_key *keys, size_t n, const char *name, const char *origin, size_t *out,
                struct error *e)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i].name, name) == 0) {
            *out = i;
            return 0;
        }
    const char *near = nearest_name(keys, n, name);
    if (near == NULL)
        return error_set(e, ERR_CONFIG, "%s: unknown key '%.100s'; keys are SECTION.KEY, see decant config", origin,
                         name);
    return error_set(e, ERR_CONFIG, "%s: unknown key '%.100s'; did you mean %s?", origin, name, near);
}

static void *field_of(const struct config_key *key, void *target)
{
    return (char *)target + key->offset;
}

static int out_of_range(const struct config_key *key, const char *text, const char *origin, struct error *e)
{
    return error_set(e, ERR_CONFIG, "%s: %s = %s is out of range, %.15g to %.15g is allowed", origin, key->name, text,
                     key->min, key->max);
}

static int parse_int(const struct config_key *key, int64_t *out, const char *text, const char *origin, struct error *e)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (text[0] == '\0' || isspace((unsigned char)text[0]) || *end != '\0')
        return error_set(e, ERR_CONFIG, "%s: %s = '%.100s' is not an integer (%.15g to %.15g)", origin, key->name, text,
                         key->min, key->max);
    if (errno == ERANGE || (double)v < key->min || (double)v > key->max)
        return out_of_range(key, text, origin, e);
    *out = v;
    return 0;
}

static int parse_float(const struct config_key *key, double *out, const char *text, const char *origin, struct error *e)
{
    char *end;
    double v = strtod(text, &end);
    if (text[0] == '\0' || isspace((unsigned char)text[0]) || *end != '\0' || isnan(v))
        return error_set(e, ERR_CONFIG, "%s: %s = '%.100s' is not a number (%.15g to %.15g)", origin, key->name, text,
                         key->min, key->max);
    if (v < key->min || v > key->max)
        return out_of_range(key, text, origin, e);
    *out = v;
    return 0;
}

static int parse_floats(const struct config_key *key, struct config_floats *out, const char *text, const char *origin,
                        struct error *e)
{
    struct config_floats list = {0};
    int rc = 0;
    for (const char *p = text; rc == 0; p += strcspn(p, ",") + 1) {
        char one[64];
        size_t length = strcspn(p, ",");
        if (length >= sizeof one || list.count == CONFIG_FLOATS_MAX)
            return error_set(e, ERR_CONFIG, "%s: %s = '%.100s' is not one to %d numbers with commas between them",
                             origin, key->name, text, CONFIG_FLOATS_MAX);
        memcpy(one, p, length);
        one[length] = '\0';
        rc = parse_float(key, &list.values[list.count++], one, origin, e);
        if (p[length] == '\0')
            break;
    }
    if (rc == 0)
        *out = list;
    return rc;
}

static int parse_bool(const struct config_key *key, bool *out, const char *text, const char *origin, struct error *e)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return 0;
        }
    return error_set(e, ERR_CONFIG, "%s: %s = '%.100s' is neither true nor false", origin, key->name, text);
}

/* What an INI line could not give back is refused, so that every configuration can be written and read again. */
static bool text_survives_ini(const char *text)
{
    bool blank_before = true;
    for (const char *p = text; *p != '\0'; p++) {
        if (iscntrl((unsigned char)*p) || (blank_before && (*p == ';' || *p == '#')))
            return false;
        blank_before = *p == ' ';
    }
    return text[0] == '\0' || (text[0] != ' ' && !blank_before);
}

/* "scheme://user:password@host": a value that would be written to files and shown. */
static bool has_password(const char *text)
{
    const char *login = strstr(text, "://"), *end = login ? strrchr(login, '@') : NULL;
    return end != NULL && memchr(login + 3, ':', (size_t)(end - login - 3)) != NULL;
}

static int parse_string(const struct config_key *key, char *out, const char *text, const char *origin, struct error *e)
{
    size_t length = strlen(text);
    if (length >= key->size)
        return error_set(e, ERR_CONFIG, "%s: %s has %zu bytes, at most %zu are allowed", origin, key->name, length,
                         key->size - 1);
    if (key->type != CONFIG_SECRET && has_password(text))
        return error_set(e, ERR_CONFIG,
                         "%s: %s has a password in it, which would be written to files; give it in the key that is "
                         "for it",
                         origin, key->name);
    if (!text_survives_ini(text))
        return error_set(e, ERR_CONFIG,
                         "%s: %s = '%.100s' has blanks at an end, control characters, or a comment sign after a blank",
                         origin, key->name, key->type == CONFIG_SECRET ? "..." : text);
    memcpy(out, text, length + 1);
    return 0;
}

static int parse_paths(const struct config_key *key, char *out, const char *text, const char *origin, struct error *e)
{
    char one[2];
    for (const char *rest = text; rest != NULL && !path_list_is_one(text);) {
        rest = path_list_next(rest, one, sizeof one);
        if (one[0] == '\0')
            return error_set(e, ERR_CONFIG,
                             "%s: %s = '%.100s' has an empty path: a colon separates two, and \\: is one in a name",
                             origin, key->name, text);
    }
    return parse_string(key, out, text, origin, e);
}

/* Start and length of the choice of that index; NULL past the last. */
static const char *choice_at(const char *choices, int index, size_t *length)
{
    for (; index > 0; index--) {
        choices = strchr(choices, '|');
        if (choices == NULL)
            return NULL;
        choices++;
    }
    *length = strcspn(choices, "|");
    return choices;
}

static int parse_choice(const struct config_key *key, int *out, const char *text, const char *origin, struct error *e)
{
    const char *choice;
    size_t length;
    for (int i = 0; (choice = choice_at(key->choices, i, &length)) != NULL; i++)
        if (strlen(text) == length && memcmp(text, choice, length) == 0) {
            *out = i;
            return 0;
        }
    return error_set(e, ERR_CONFIG, "%s: %s = '%.100s' is not one of %s", origin, key->name, text, key->choices);
}

int config_parse(const struct config_key *key, void *target, const char *text, const char *origin, struct error *e)
{
    void *field = field_of(key, target);
    switch (key->type) {
    case CONFIG_INT:
        return parse_int(key, field, text, origin, e);
    case CONFIG_FLOAT:
        return parse_float(key, field, text, origin, e);
    case CONFIG_FLOATS:
        return parse_floats(key, field, text, origin, e);
    case CONFIG_BOOL:
        return parse_bool(key, field, text, origin, e);
    case CONFIG_STRING:
    case CONFIG_PATH:
    case CONFIG_SECRET:
        return parse_string(key, field, text, origin, e);
    case CONFIG_PATHS:
        return parse_paths(key, field, text, origin, e);
    case CONFIG_CHOICE:
        return parse_choice(key, field, text, origin, e);
    }
    ASSERT(!"a config_type");
    return ERR_CONFIG;
}

void config_defaults(const struct config_key *keys, size_t n, void *target)
{
    for (size_t i = 0; i < n; i++) {
        const char *dot = strchr(keys[i].name, '.');
        ASSERT(dot != NULL && dot != keys[i].name && dot[1] != '\0' && strlen(keys[i].name) <= NAME_MAX_BYTES);
        ASSERT(memchr(keys[i].name, '_', dot - keys[i].name) == NULL); /* DECANT_SECTION_KEY must split one way */
        ASSERT(config_parse(&keys[i], target, keys[i].initial, "default", NULL) == 0);
    }
}

/* The fewest digits, at least nine, that read back to the same double. */
static void print_float(double v, char *out, size_t size)
{
    for (int digits = 9; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            return;
    }
}

static void print_floats(const struct config_floats *list, char *out, size_t size)
{
    char one[64];
    size_t used = 0;
    for (size_t i = 0; i < list->count && used < size; i++) {
        print_float(list->values[i], one, sizeof one);
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? "," : "", one);
    }
}

void config_value(const struct config_key *key, const void *target, char *out, size_t size)
{
    const void *field = (const char *)target + key->offset;
    const char *choice;
    size_t length;
    switch (key->type) {
    case CONFIG_INT:
        snprintf(out, size, "%lld", (long long)*(const int64_t *)field);
        return;
    case CONFIG_FLOAT:
        print_float(*(const double *)field, out, size);
        return;
    case CONFIG_FLOATS:
        print_floats(field, out, size);
        return;
    case CONFIG_BOOL:
        snprintf(out, size, "%s", *(const bool *)field ? "true" : "false");
        return;
    case CONFIG_STRING:
    case CONFIG_PATH:
    case CONFIG_PATHS:
        snprintf(out, size, "%s", (const char *)field);
        return;
    case CONFIG_SECRET:
        snprintf(out, size, "%s", "");
        return;
    case CONFIG_CHOICE:
        choice = choice_at(key->choices, *(const int *)field, &length);
        ASSERT(choice != NULL);
        snprintf(out, size, "%.*s", (int)length, choice);
        return;
    }
    ASSERT(!"a config_type");
}

/* path, made absolute, in size bytes. The length that it has then, which may be size or more. */
static size_t absolute_path(const char *path, const char *directory, char *out, size_t size)
{
    const char *relative = path;
    if (path[0] == '\0' || path[0] == '/')
        return (size_t)snprintf(out, size, "%s", path);
    while (strncmp(relative, "./", 2) == 0)
        relative += 2;
    bool itself = strcmp(relative, ".") == 0 || relative[0] == '\0';
    return (size_t)snprintf(out, size, "%s%s%s", directory, itself || strcmp(directory, "/") == 0 ? "" : "/",
                            itself ? "" : relative);
}

static bool is_choice(const struct config_key *key, const char *text)
{
    size_t length;
    const char *choice;
    for (int i = 0; key->choices && (choice = choice_at(key->choices, i, &length)) != NULL; i++)
        if (strlen(text) == length && memcmp(text, choice, length) == 0)
            return true;
    return false;
}

static int resolve_path(const struct config_key *key, char *path, const char *directory, struct error *e)
{
    char absolute[CONFIG_VALUE_MAX];
    if (is_choice(key, path))
        return 0;
    size_t length = absolute_path(path, directory, absolute, sizeof absolute);
    if (length >= sizeof absolute || length >= key->size)
        return error_set(e, ERR_CONFIG, "%s = %.200s: as an absolute path it has %zu bytes, at most %zu are allowed",
                         key->name, path, length, key->size - 1);
    return parse_string(key, path, absolute, "the working directory", e);
}

static int resolve_paths(const struct config_key *key, char *list, const char *directory, struct error *e)
{
    char absolute[CONFIG_VALUE_MAX] = "", one[CONFIG_VALUE_MAX], whole[CONFIG_VALUE_MAX];
    for (const char *rest = list; rest != NULL;) {
        rest = path_list_next(rest, one, sizeof one);
        if (absolute_path(one, directory, whole, sizeof whole) >= sizeof whole ||
            !path_list_append(absolute, sizeof absolute < key->size ? sizeof absolute : key->size, whole))
            return error_set(e, ERR_CONFIG, "%s = %.200s: as absolute paths it has more than the %zu bytes allowed",
                             key->name, list, key->size - 1);
    }
    return parse_string(key, list, absolute, "the working directory", e);
}

int config_resolve_paths(const struct config_key *keys, size_t n, void *target, const char *directory, struct error *e)
{
    int rc = 0;
    ASSERT(directory[0] == '/');
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (keys[i].type == CONFIG_PATH)
            rc = resolve_path(&keys[i], field_of(&keys[i], target), directory, e);
        else if (keys[i].type == CONFIG_PATHS)
            rc = resolve_paths(&keys[i], field_of(&keys[i], target), directory, e);
    return rc;
}

static bool same_section(const struct config_key *a, const struct config_key *b)
{
    size_t length = strcspn(a->name, ".");
    return strcspn(b->name, ".") == length && memcmp(a->name, b->name, length) == 0;
}

static bool opens_section(const struct config_key *keys, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (same_section(&keys[j], &keys[i]))
            return false;
    return true;
}

static void write_section(const struct config_key *keys, size_t n, size_t first, const void *target, FILE *f)
{
    fprintf(f, "%s[%.*s]\n", first > 0 ? "\n" : "", (int)strcspn(keys[first].name, "."), keys[first].name);
    for (size_t i = first; i < n; i++) {
        char value[CONFIG_VALUE_MAX];
        if (!same_section(&keys[first], &keys[i]))
            continue;
        config_value(&keys[i], target, value, sizeof value);
        fprintf(f, "%s = %s\n", key_part(keys[i].name), value);
    }
}

void config_write(const struct config_key *keys, size_t n, const void *target, FILE *f)
{
    for (size_t i = 0; i < n; i++)
        if (opens_section(keys, i))
            write_section(keys, n, i, target, f);
}
