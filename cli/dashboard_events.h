/* The newest things that happened to a run, for people: what its servers logged, and what changed between two looks. */
#ifndef DECANT_CLI_DASHBOARD_EVENTS_H
#define DECANT_CLI_DASHBOARD_EVENTS_H

#include <stddef.h>

enum { EVENTS_MAX = 48, EVENT_TEXT_MAX = 200 };

struct dashboard_event {
    char time[28];   /* ISO 8601, UTC */
    char level[8];   /* "info", "warn", "error" */
    char source[12]; /* "parameter", "prototype", "mirror" ... */
    char text[EVENT_TEXT_MAX];
};

struct dashboard_events {
    struct dashboard_event items[EVENTS_MAX]; /* by time, the newest last: two logs do not come in one order */
    size_t count;
};

/* Now, from what this process saw. */
void dashboard_events_add(struct dashboard_events *l, const char *level, const char *source, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A line of common/log.h; what is none, or only says that a step was done, is passed over. */
void dashboard_events_log(struct dashboard_events *l, const char *line, size_t length);
/* i = 0 is the newest. */
const struct dashboard_event *dashboard_events_at(const struct dashboard_events *l, size_t i);

#endif
