/* One line, one write(2): lines of several threads or processes that share a terminal never interleave, and nothing
 * is lost in a buffer when a process is killed. Repeats are limited by the caller, who knows what repeats.
 *
 * The format is taken apart here, because texts from outside (error messages, paths, names) would break logfmt
 * otherwise: a quote in one would end its value, and what follows could pose as further keys. Literal parts are the
 * program's own and stay; of a %s what is special is escaped, and one that stands outside quotes gets quotes when it
 * needs them. */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

/* A line in the making; what does not fit is dropped and marked at the end. */
struct line {
    char text[LOG_LINE_MAX];
    size_t length, room;
    bool cut;
};

static void put(struct line *l, const char *text, size_t n)
{
    size_t left = l->room - l->length;
    l->cut = l->cut || n > left;
    n = n < left ? n : left;
    memcpy(l->text + l->length, text, n);
    l->length += n;
}

static bool needs_quotes(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || strchr("\"=\\", text[i]))
            return true;
    return n == 0;
}

static void put_text(struct line *l, const char *text, size_t n, bool in_quotes)
{
    bool quotes = !in_quotes && needs_quotes(text, n);
    if (quotes)
        put(l, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        if ((in_quotes || quotes) && (text[i] == '"' || text[i] == '\\'))
            put(l, "\\", 1);
        put(l, &text[i], 1);
    }
    if (quotes)
        put(l, "\"", 1);
}

enum { SPEC_MAX = 32 };

/* One conversion of printf: "%-8.*llu" and the like. */
struct spec {
    char text[SPEC_MAX]; /* with its type, as printf takes it */
    size_t length;
    bool width, precision; /* given by an argument */
    bool has_precision;
    char type;
    unsigned longs; /* 0 int, 1 long, 2 long long; size_t and ptrdiff_t are long here */
};

_Static_assert(sizeof(size_t) == sizeof(long), "%zu is read as %lu");

/* format stands behind the '%'. Returns what follows the conversion. */
static const char *read_spec(const char *format, struct spec *out)
{
    const char *at = format + strspn(format, "-+ #0");
    *out = (struct spec){.text = "%"};
    out->width = *at == '*';
    at += out->width ? 1 : strspn(at, "0123456789");
    if (*at == '.') {
        out->has_precision = true;
        out->precision = at[1] == '*';
        at += 1 + (out->precision ? 1 : strspn(at + 1, "0123456789"));
    }
    for (; *at && strchr("hlzjt", *at); at++)
        out->longs += *at != 'h';
    out->type = *at;
    out->length = (size_t)(at - format) + 1;
    ASSERT(*at && out->length < SPEC_MAX - 1); /* the compiler has checked the rest */
    memcpy(out->text + 1, format, out->length);
    out->text[1 + out->length] = '\0';
    return at + 1;
}

static void put_string(struct line *l, const struct spec *s, int precision, const char *text, bool in_quotes)
{
    const char *dot = strchr(s->text, '.');
    size_t most = SIZE_MAX;
    if (s->precision)
        most = precision < 0 ? SIZE_MAX : (size_t)precision;
    else if (s->has_precision)
        most = (size_t)strtoul(dot + 1, NULL, 10);
    text = text ? text : "(null)";
    put_text(l, text, strnlen(text, most), in_quotes);
}

#define PUT_NUMBER(value)                                                                                              \
    (s->width && s->precision ? snprintf(out, sizeof out, s->text, width, precision, value)                            \
     : s->width               ? snprintf(out, sizeof out, s->text, width, value)                                       \
     : s->precision           ? snprintf(out, sizeof out, s->text, precision, value)                                   \
                              : snprintf(out, sizeof out, s->text, value))

/* Takes the conversion's arguments. */
static void put_conversion(struct line *l, const struct spec *s, va_list *args, bool in_quotes)
{
    char out[512];
    int length, width = s->width ? va_arg(*args, int) : 0, precision = s->precision ? va_arg(*args, int) : 0;
    if (s->type == 's') {
        put_string(l, s, precision, va_arg(*args, const char *), in_quotes);
        return;
    }
    if (s->type == '%') {
        put(l, "%", 1);
        return;
    }
    /* NOLINTBEGIN(bugprone-branch-clone): the branches differ in the type that va_arg takes */
    if (strchr("aAeEfFgG", s->type))
        length = PUT_NUMBER(va_arg(*args, double));
    else if (s->type == 'p')
        length = PUT_NUMBER(va_arg(*args, void *));
    else if (s->longs == 0)
        length = PUT_NUMBER(va_arg(*args, int));
    else if (s->longs == 1)
        length = PUT_NUMBER(va_arg(*args, long));
    else
        length = PUT_NUMBER(va_arg(*args, long long));
    /* NOLINTEND(bugprone-branch-clone) */
    if (length > 0)
        put(l, out, (size_t)length < sizeof out ? (size_t)length : sizeof out - 1);
}

static void put_format(struct line *l, const char *format, va_list *args)
{
    bool in_quotes = false;
    while (*format) {
        struct spec s;
        size_t literal = strcspn(format, "%");
        for (size_t i = 0; i < literal; i++)
            in_quotes ^= format[i] == '"';
        put(l, format, literal);
        format += literal;
        if (*format != '%')
            break;
        format = read_spec(format + 1, &s);
        put_conversion(l, &s, args, in_quotes);
    }
}

/* Room for one more line that is to be written. */
static void begin(struct line *l, enum log_level level)
{
    l->room = LOG_LINE_MAX - 1; /* the newline has its place */
    l->length = write_prefix(l->text, l->room, level);
    l->cut = false;
}

static void mark_cut(struct line *l)
{
    if (l->cut && l->length >= 3)
        memcpy(l->text + l->length - 3, "...", 3);
}

static void finish(struct line *l)
{
    mark_cut(l);
    blank_control_characters(l->text, l->length);
    l->text[l->length++] = '\n';
    ssize_t written = write(STDERR_FILENO, l->text, l->length);
    (void)written; /* logs are observers: a closed stderr must not stop the run */
}

void log_line(enum log_level level, const char *format, ...)
{
    if (level > logger.level)
        return;
    struct line l;
    begin(&l, level);
    va_list args;
    va_start(args, format);
    put_format(&l, format, &args);
    va_end(args);
    finish(&l);
}

void log_ready(enum log_level level, const char *text)
{
    if (level > logger.level)
        return;
    struct line l;
    begin(&l, level);
    put(&l, text, strlen(text));
    finish(&l);
}

void log_format(char *out, size_t size, const char *format, va_list args)
{
    struct line l = {.room = size - 1 < LOG_LINE_MAX ? size - 1 : LOG_LINE_MAX};
    va_list copy;
    va_copy(copy, args);
    put_format(&l, format, &copy);
    va_end(copy);
    mark_cut(&l);
    memcpy(out, l.text, l.length);
    out[l.length] = '\0';
}

bool log_due(struct log_pace *p, uint64_t now_ms, uint64_t every_ms)
{
    if (now_ms < p->next_ms)
        return false;
    p->next_ms = now_ms + every_ms;
    return true;
}
