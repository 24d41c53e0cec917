/* One line, one write(2): lines of several threads or processes that share a terminal never interleave, and nothing is
 * lost in a buffer when a process is killed. Repeats are limited by the caller, who knows what repeats. */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/error.h"

enum { LOG_LINE_MAX = 2048 }; /* fairly arbitrary; longer lines are cut and marked with "..." */

static struct {
    const char *process;
    enum log_level level;
} logger = {"decant", LOG_INFO};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_init(const char *process, enum log_level level)
{
    logger.process = process;
    logger.level = level;
}

int log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    return ERR_RANGE;
}

/* "2026-11-23T22:10:05.123Z info parameter " */
static size_t write_prefix(char *line, size_t size, enum log_level level)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &utc);
    int rest = snprintf(line + length, size - length, ".%03ldZ %s %s ", now.tv_nsec / 1000000, level_names[level],
                        logger.process);
    ASSERT(rest > 0 && (size_t)rest < size - length);
    return length + (size_t)rest;
}

/* A newline or an escape sequence in a value must not forge a line or drive a terminal. */
static void blank_control_characters(char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = ' ';
}

void log_line(enum log_level level, const char *format, ...)
{
    if (level > logger.level)
        return;
    char line[LOG_LINE_MAX];
    size_t room = sizeof line - 1; /* the newline has its place */
    size_t length = write_prefix(line, room, level);
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(line + length, room - length, format, args);
    va_end(args);
    if (wanted < 0)
        return;
    if ((size_t)wanted >= room - length) {
        length = room - 1;
        memcpy(line + length - 3, "...", 3);
    } else {
        length += (size_t)wanted;
    }
    blank_control_characters(line, length);
    line[length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written; /* logs are observers: a closed stderr must not stop the run */
}

bool log_due(struct log_pace *p, uint64_t now_ms, uint64_t every_ms)
{
    if (now_ms < p->next_ms)
        return false;
    p->next_ms = now_ms + every_ms;
    return true;
}
