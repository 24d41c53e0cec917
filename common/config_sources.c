/* Where assignments come from: INI files, the environment, the command line.
 *
 * The grammar, line by line; blanks around every part do not count:
 *
 *   [section]          what follows belongs to it
 *   key = value        or "key: value"; the value may be empty
 *   ; text  # text     a comment, at the start of a line or after a blank
 *
 * A file is UTF-8, with or without a byte order mark, its lines end in LF or CRLF, and it has at most CONFIG_FILE_MAX
 * bytes. A line may be as long as the file, so every value that a key can hold can be written and read again. The
 * parser is ours because inih, as Debian builds it, takes lines of 200 bytes and cannot be told otherwise. */
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "common/config_internal.h"
#include "common/files.h"

#define KEY_LETTERS "abcdefghijklmnopqrstuvwxyz0123456789_."

enum { NAME_MAX_BYTES = 256, ORIGIN_MAX_BYTES = 256, PATH_SHOWN = 200 /* bytes of a path in a message */ };

struct ini_file {
    const struct config_key *keys;
    size_t n;
    void *target;
    const char *path;
    int line;                     /* of the line being parsed, from 1 */
    char section[NAME_MAX_BYTES]; /* cut when longer: such a section is not known */
    int *first_line;              /* (n) line of a key's assignment, 0 before it */
    struct error *e;
};

/* Of a long path the end, so that the message has room for what is wrong. */
static void format_origin(const struct ini_file *file, char *out, size_t size)
{
    size_t length = strlen(file->path);
    bool cut = length > PATH_SHOWN;
    snprintf(out, size, "%s%s:%d", cut ? "..." : "", cut ? file->path + length - PATH_SHOWN : file->path, file->line);
}

static int line_error(const struct ini_file *file, const char *what)
{
    char origin[ORIGIN_MAX_BYTES];
    format_origin(file, origin, sizeof origin);
    return error_set(file->e, ERR_CONFIG, "%s: %s", origin, what);
}

static bool is_blank(char c)
{
    return isspace((unsigned char)c);
}

/* Without the blanks at both ends; in place. */
static char *trim(char *text)
{
    while (is_blank(*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && is_blank(text[length - 1]))
        length--;
    text[length] = '\0';
    return text;
}

static void cut_comment(char *line)
{
    for (char *p = line; *p != '\0'; p++)
        if ((*p == ';' || *p == '#') && (p == line || is_blank(p[-1]))) {
            *p = '\0';
            return;
        }
}

static int assign_from_file(struct ini_file *file, const char *name, const char *value)
{
    char full[2 * NAME_MAX_BYTES + 2], origin[ORIGIN_MAX_BYTES];
    size_t i;
    format_origin(file, origin, sizeof origin);
    snprintf(full, sizeof full, "%s.%.*s", file->section, NAME_MAX_BYTES, name);
    int rc = config_find(file->keys, file->n, full, origin, &i, file->e);
    if (rc != 0)
        return rc;
    if (file->first_line[i] != 0)
        return error_set(file->e, ERR_CONFIG, "%s: %s is given twice, first in line %d", origin, full,
                         file->first_line[i]);
    file->first_line[i] = file->line;
    return config_parse(&file->keys[i], file->target, value, origin, file->e);
}

/* A line without its end; changed on the way. */
static int parse_line(struct ini_file *file, char *line)
{
    cut_comment(line);
    line = trim(line);
    size_t length = strlen(line);
    if (length == 0)
        return 0;
    if (line[0] == '[' && line[length - 1] == ']') {
        line[length - 1] = '\0';
        snprintf(file->section, sizeof file->section, "%s", trim(line + 1));
        return 0;
    }
    char *separator = line + strcspn(line, "=:");
    if (line[0] == '[' || *separator == '\0')
        return line_error(file, "neither '[section]' nor 'key = value'");
    *separator = '\0';
    return assign_from_file(file, trim(line), trim(separator + 1));
}

/* text: NUL-terminated behind its size bytes; changed on the way. */
static int parse_lines(struct ini_file *file, char *text, size_t size)
{
    static const char mark[] = "\xef\xbb\xbf";
    char *line = size >= 3 && memcmp(text, mark, 3) == 0 ? text + 3 : text, *end = text + size;
    int rc = 0;
    while (rc == 0 && line < end) {
        char *next = memchr(line, '\n', (size_t)(end - line));
        next = next ? next : end;
        *next = '\0';
        file->line++;
        rc = strlen(line) == (size_t)(next - line) ? parse_line(file, line)
                                                   : line_error(file, "a NUL byte; this is not a text file");
        line = next + 1;
    }
    return rc;
}

int config_memory(const struct config_key *keys, size_t n, void *target, const void *text, size_t size,
                  const char *origin, struct error *e)
{
    struct ini_file file = {.keys = keys, .n = n, .target = target, .path = origin, .e = e};
    if (size == 0)
        return 0;
    file.first_line = calloc(n + 1, sizeof *file.first_line);
    char *copy = malloc(size + 1);
    int rc = ERR_MEMORY;
    if (copy != NULL && file.first_line != NULL) {
        memcpy(copy, text, size);
        copy[size] = '\0';
        rc = parse_lines(&file, copy, size);
        explicit_bzero(copy, size); /* it may have held a password */
    } else {
        error_set(e, rc, "read %s: no memory", origin);
    }
    free(copy);
    free(file.first_line);
    return rc;
}

int config_file(const struct config_key *keys, size_t n, void *target, const char *path, struct error *e)
{
    struct buf *text = NULL;
    int rc = file_read(path, CONFIG_FILE_MAX, &text, e);
    if (rc != 0)
        return rc;
    rc = config_memory(keys, n, target, text->data, text->size, path, e);
    explicit_bzero(text->data, text->size);
    buf_unref(&text);
    return rc;
}

/* "SECTION_KEY" of a variable as "section.key"; false when it does not fit or has no '_' inside. */
static bool variable_to_name(const char *variable, size_t length, char *out, size_t size)
{
    const char *split = memchr(variable, '_', length);
    if (split == NULL || length >= size)
        return false;
    for (size_t i = 0; i < length; i++)
        out[i] = (char)tolower((unsigned char)variable[i]);
    out[split - variable] = '.';
    out[length] = '\0';
    return true;
}

static bool section_known(const struct config_key *keys, size_t n, const char *name)
{
    size_t length = strcspn(name, ".") + 1; /* with the dot */
    for (size_t i = 0; i < n; i++)
        if (strncmp(keys[i].name, name, length) == 0)
            return true;
    return false;
}

static int assign_variable(const struct config_key *keys, size_t n, void *target, const char *variable, struct error *e)
{
    static const char prefix[] = "DECANT_";
    const size_t skip = sizeof prefix - 1;
    size_t length = strcspn(variable, "="), i;
    char name[NAME_MAX_BYTES], origin[ORIGIN_MAX_BYTES];
    if (strncmp(variable, prefix, skip) != 0 || variable[length] != '=' ||
        !variable_to_name(variable + skip, length - skip, name, sizeof name) || !section_known(keys, n, name))
        return 0; /* someone else's */
    snprintf(origin, sizeof origin, "environment variable %.*s", (int)length, variable);
    int rc = config_find(keys, n, name, origin, &i, e);
    return rc == 0 ? config_parse(&keys[i], target, variable + length + 1, origin, e) : rc;
}

int config_environment(const struct config_key *keys, size_t n, void *target, char **environ, struct error *e)
{
    for (; *environ != NULL; environ++) {
        int rc = assign_variable(keys, n, target, *environ, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int config_assign(const struct config_key *keys, size_t n, void *target, const char *assignment, const char *origin,
                  struct error *e)
{
    char name[NAME_MAX_BYTES];
    size_t length = strcspn(assignment, "="), i;
    if (assignment[length] != '=' || length == 0 || length >= sizeof name)
        return error_set(e, ERR_CONFIG, "%s: '%.*s...' is not of the form section.key=value", origin,
                         (int)strspn(assignment, KEY_LETTERS), assignment); /* what follows could be a secret */
    memcpy(name, assignment, length);
    name[length] = '\0';
    int rc = config_find(keys, n, name, origin, &i, e);
    return rc == 0 ? config_parse(&keys[i], target, assignment + length + 1, origin, e) : rc;
}
