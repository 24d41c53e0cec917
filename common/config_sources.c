/* Where assignments come from: INI files, the environment, the command line.
 *
 * inih parses; its line reader is ours, because only there are line numbers known, too long lines seen as such, and
 * '#' comments after a value possible. Indented lines lose their indent, so that none is taken for a continuation. */
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "common/config_internal.h"
#include "common/files.h"

enum { NAME_MAX_BYTES = 256, ORIGIN_MAX_BYTES = 512 };

struct ini_file {
    const struct config_key *keys;
    size_t n;
    void *target;
    const char *path;
    FILE *stream;
    int line;        /* of the line being parsed, from 1 */
    int *first_line; /* (n) line of a key's assignment, 0 before it */
    int rc;          /* the first error; parsing goes on but changes nothing more */
    struct error *e;
};

static void format_origin(const struct ini_file *file, char *out, size_t size)
{
    snprintf(out, size, "%s:%d", file->path, file->line);
}

static int line_error(struct ini_file *file, const char *what)
{
    char origin[ORIGIN_MAX_BYTES];
    format_origin(file, origin, sizeof origin);
    return error_set(file->e, ERR_CONFIG, "%s: %s", origin, what);
}

static void cut_hash_comment(char *line)
{
    for (char *p = line; *p != '\0'; p++)
        if (*p == '#' && p > line && isspace((unsigned char)p[-1])) {
            *p = '\0';
            return;
        }
}

/* ini_reader: one line into buffer, NULL at the end or after an error. */
static char *read_line(char *buffer, int size, void *stream)
{
    struct ini_file *file = stream;
    if (file->rc != 0 || fgets(buffer, size, file->stream) == NULL)
        return NULL;
    file->line++;
    size_t length = strlen(buffer);
    bool whole = length > 0 && buffer[length - 1] == '\n';
    if (!whole && !feof(file->stream)) {
        file->rc = length + 1 < (size_t)size
                       ? line_error(file, "a NUL byte; this is not a text file")
                       : line_error(file, "line too long; give long values with --set or the environment");
        return NULL;
    }
    size_t indent = strspn(buffer, " \t");
    memmove(buffer, buffer + indent, length - indent + 1);
    cut_hash_comment(buffer);
    return buffer;
}

static int assign_from_file(struct ini_file *file, const char *section, const char *name, const char *value)
{
    char full[NAME_MAX_BYTES], origin[ORIGIN_MAX_BYTES];
    size_t i;
    format_origin(file, origin, sizeof origin);
    snprintf(full, sizeof full, "%s.%s", section, name);
    int rc = config_find(file->keys, file->n, full, origin, &i, file->e);
    if (rc != 0)
        return rc;
    if (file->first_line[i] != 0)
        return error_set(file->e, ERR_CONFIG, "%s: %s is given twice, first in line %d", origin, full,
                         file->first_line[i]);
    file->first_line[i] = file->line;
    return config_parse(&file->keys[i], file->target, value, origin, file->e);
}

/* ini_handler: 1 when the line was fine. */
static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    struct ini_file *file = user;
    if (file->rc == 0)
        file->rc = assign_from_file(file, section, name, value);
    return file->rc == 0;
}

static int parse_stream(struct ini_file *file)
{
    int bad_line = ini_parse_stream(read_line, file, on_pair, file);
    if (ferror(file->stream))
        return error_set(file->e, ERR_IO, "read %s: %s", file->path, strerror(errno));
    /* A line that inih itself refuses comes before any error of ours: after ours nothing more is read. */
    if (bad_line > 0 && (file->rc == 0 || bad_line < file->line)) {
        file->line = bad_line;
        return line_error(file, "neither '[section]' nor 'key = value'");
    }
    return bad_line < 0 ? error_set(file->e, ERR_MEMORY, "read %s: no memory", file->path) : file->rc;
}

/* Parses file->stream to its end and closes it. */
static int parse_and_close(struct ini_file *file)
{
    file->first_line = calloc(file->n + 1, sizeof *file->first_line);
    int rc = file->first_line != NULL ? parse_stream(file)
                                      : error_set(file->e, ERR_MEMORY, "read %s: no memory", file->path);
    free(file->first_line);
    fclose(file->stream);
    return rc;
}

int config_file(const struct config_key *keys, size_t n, void *target, const char *path, struct error *e)
{
    struct ini_file file = {.keys = keys, .n = n, .target = target, .path = path, .e = e};
    int rc = file_open_stream(path, &file.stream, e);
    return rc == 0 ? parse_and_close(&file) : rc;
}

int config_memory(const struct config_key *keys, size_t n, void *target, const void *text, size_t size,
                  const char *origin, struct error *e)
{
    struct ini_file file = {.keys = keys, .n = n, .target = target, .path = origin, .e = e};
    if (size == 0)
        return 0;
    file.stream = fmemopen((void *)text, size, "r"); /* read only: the text stays as it is */
    if (file.stream == NULL)
        return error_set(e, ERR_MEMORY, "read %s: %s", origin, strerror(errno));
    return parse_and_close(&file);
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
        return error_set(e, ERR_CONFIG, "%s: '%.100s' is not of the form section.key=value", origin, assignment);
    memcpy(name, assignment, length);
    name[length] = '\0';
    int rc = config_find(keys, n, name, origin, &i, e);
    return rc == 0 ? config_parse(&keys[i], target, assignment + length + 1, origin, e) : rc;
}
