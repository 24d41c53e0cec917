/* Line by line; the list is short enough to be looked through for every tensor. */
#include "server/parameter/name_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The word at *at, up to blank, '=' or the end of the line, into a name; *at moves behind it and the blanks that
 * follow. */
static int take_word(const char **at, const char *end, char out[TENSOR_NAME_MAX])
{
    size_t n = 0;
    while (*at < end && **at != ' ' && **at != '\t' && **at != '=' && **at != '\0') {
        if (n == TENSOR_NAME_MAX - 1)
            return ERR_RANGE;
        out[n++] = *(*at)++;
    }
    out[n] = '\0';
    while (*at < end && (**at == ' ' || **at == '\t'))
        (*at)++;
    return n > 0 ? 0 : ERR_FORMAT;
}

/* Takes the star off the end of name. */
static bool take_star(char *name)
{
    size_t n = strlen(name);
    bool star = n > 0 && name[n - 1] == '*';
    if (star)
        name[n - 1] = '\0';
    return star;
}

/* "ours = theirs" between at and end. */
static int parse_line(const char *at, const char *end, struct name_map_line *out)
{
    int rc = take_word(&at, end, out->ours);
    if (rc == 0)
        rc = at < end && *at++ == '=' ? 0 : ERR_FORMAT;
    while (rc == 0 && at < end && (*at == ' ' || *at == '\t'))
        at++;
    if (rc == 0)
        rc = take_word(&at, end, out->theirs);
    if (rc != 0 || at != end)
        return ERR_FORMAT;
    out->skip = strcmp(out->theirs, "-") == 0;
    out->prefix = take_star(out->ours);
    return out->skip || take_star(out->theirs) == out->prefix ? 0 : ERR_FORMAT;
}

/* Where the line that begins at `at` ends, without a comment and blanks before it. */
static const char *line_end(const char *at, const char *next)
{
    const char *comment = memchr(at, '#', (size_t)(next - at));
    const char *end = comment ? comment : next;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        end--;
    return end;
}

static int add_line(struct name_map *m, const struct name_map_line *line, size_t *room)
{
    if (m->count == *room) {
        size_t more = *room ? 2 * *room : 64;
        struct name_map_line *bigger = realloc(m->lines, more * sizeof *bigger);
        if (bigger == NULL)
            return ERR_MEMORY;
        m->lines = bigger;
        *room = more;
    }
    m->lines[m->count++] = *line;
    return 0;
}

int name_map_parse(const char *text, size_t size, struct name_map *out, struct error *e)
{
    size_t room = 0, number = 0;
    int rc = 0;
    *out = (struct name_map){0};
    for (const char *at = text, *next; rc == 0 && at < text + size; at = next + 1) {
        struct name_map_line line = {0};
        const char *newline = memchr(at, '\n', (size_t)(text + size - at));
        next = newline ? newline : text + size;
        number++;
        while (at < next && (*at == ' ' || *at == '\t'))
            at++;
        const char *end = line_end(at, next);
        if (end == at)
            continue;
        if (parse_line(at, end, &line) != 0)
            rc = error_set(e, ERR_CONFIG,
                           "line %zu, '%.*s': expected OURS = THEIRS, both or none with a star at the end", number,
                           (int)(end - at < 100 ? end - at : 100), at);
        else if (out->count == NAME_MAP_LINES_MAX)
            rc = error_set(e, ERR_RANGE, "line %zu: more than %d lines", number, NAME_MAP_LINES_MAX);
        else if (add_line(out, &line, &room) != 0)
            rc = error_set(e, ERR_MEMORY, "out of memory for a map of names");
    }
    if (rc != 0)
        name_map_fini(out);
    return rc;
}

void name_map_fini(struct name_map *m)
{
    free(m->lines);
    *m = (struct name_map){0};
}

static bool fits(const struct name_map_line *line, const char *ours)
{
    return line->prefix ? strncmp(ours, line->ours, strlen(line->ours)) == 0 : strcmp(ours, line->ours) == 0;
}

bool name_map_find(const struct name_map *m, const char *ours, char out[TENSOR_NAME_MAX], bool *mapped)
{
    *mapped = false;
    snprintf(out, TENSOR_NAME_MAX, "%s", ours);
    for (size_t i = 0; i < m->count; i++) {
        const struct name_map_line *line = &m->lines[i];
        if (!fits(line, ours))
            continue;
        *mapped = true;
        if (line->skip)
            return false;
        const char *rest = line->prefix ? ours + strlen(line->ours) : "";
        return snprintf(out, TENSOR_NAME_MAX, "%s%s", line->theirs, rest) < TENSOR_NAME_MAX;
    }
    return true;
}
