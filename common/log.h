/* Logger: one logfmt line per event to stderr, e.g.
 *   2026-11-23T22:10:05.123Z info parameter event=step_done step=120 loss=3.1
 * The only global state of the project: level, process name. Thread-safe (one write(2) per line) once log_init, if
 * called, has returned. Control characters in the text become blanks; lines over 2 KiB are cut. A %s is a value, or
 * part of a quoted one, and never breaks the line whatever is in it: quotes and backslashes are escaped, and outside
 * quotes it is quoted when it needs to be. So keys stand in the format only. No positional arguments, no %n, no long
 * double. */
#ifndef DECANT_COMMON_LOG_H
#define DECANT_COMMON_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(const char *process, enum log_level level);   /* process: static string, e.g. "prototype" */
int log_level_parse(const char *text, enum log_level *out); /* 0 or ERR_RANGE */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For lines that are made in one place and written in another: log_format makes what log_line would write, without its
 * prefix, in at most size > 0 bytes with the NUL; log_ready writes it. */
void log_format(char *out, size_t size, const char *format, va_list args) __attribute__((format(printf, 3, 0)));
void log_ready(enum log_level level, const char *text);

/* Limits the rate of one event: true when it last said true at least every_ms ago. p starts as zeros. */
struct log_pace {
    uint64_t next_ms;
};
bool log_due(struct log_pace *p, uint64_t now_ms, uint64_t every_ms);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
