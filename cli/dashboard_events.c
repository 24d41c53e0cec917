/* A short list, in order; the oldest goes. */
#include "cli/dashboard_events.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "cli/printable.h"
#include "common/error.h"

enum {
    LOG_LINE_MAX = 2048, /* common/log.h cuts there */
    SECOND_CHARS = 19,   /* 2026-01-01T10:00:00 */
};

/* Times of one form compare as text, up to the second. */
static void insert(struct dashboard_events *l, const struct dashboard_event *event)
{
    size_t at = l->count;
    while (at > 0 && strncmp(l->items[at - 1].time, event->time, SECOND_CHARS) > 0)
        at--;
    if (l->count == EVENTS_MAX) {
        if (at == 0)
            return;
        memmove(&l->items[0], &l->items[1], --at * sizeof l->items[0]);
    } else {
        memmove(&l->items[at + 1], &l->items[at], (l->count++ - at) * sizeof l->items[0]);
    }
    l->items[at] = *event;
}

void dashboard_events_add(struct dashboard_events *l, const char *level, const char *source, const char *format, ...)
{
    struct dashboard_event event;
    time_t now = time(NULL);
    struct tm utc;
    va_list args;
    strftime(event.time, sizeof event.time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    snprintf(event.level, sizeof event.level, "%s", level);
    snprintf(event.source, sizeof event.source, "%s", source);
    va_start(args, format);
    vsnprintf(event.text, sizeof event.text, format, args);
    va_end(args);
    printable(event.text);
    insert(l, &event);
}

void dashboard_events_log(struct dashboard_events *l, const char *line, size_t length)
{
    char text[LOG_LINE_MAX + 1];
    struct dashboard_event event;
    int at = 0;
    if (length > LOG_LINE_MAX)
        return;
    memcpy(text, line, length);
    text[length] = '\0';
    if (sscanf(text, "%27s %7s %11s event=%n", event.time, event.level, event.source, &at) != 3 || at == 0 ||
        event.time[0] != '2')
        return;
    if (strncmp(text + at, "step ", 5) == 0 || strncmp(text + at, "seeded ", 7) == 0 ||
        strcmp(event.level, "debug") == 0)
        return;
    snprintf(event.text, sizeof event.text, "%s", text + at);
    printable(event.time);
    printable(event.level);
    printable(event.source);
    printable(event.text);
    insert(l, &event);
}

const struct dashboard_event *dashboard_events_at(const struct dashboard_events *l, size_t i)
{
    ASSERT(i < l->count);
    return &l->items[l->count - 1 - i];
}
