/* Error texts, error names, and the assertion that stays in release builds. */
#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int error_set(struct error *e, int code, const char *format, ...)
{
    if (e == NULL)
        return code;
    e->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return code;
}

const char *error_name(int code)
{
    switch (code) {
    case ERR_OK:
        return "ok";
    case ERR_MEMORY:
        return "memory";
    case ERR_IO:
        return "io";
    case ERR_FORMAT:
        return "format";
    case ERR_CONFIG:
        return "config";
    case ERR_RANGE:
        return "range";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_AGAIN:
        return "again";
    case ERR_STATE:
        return "state";
    case ERR_CLOSED:
        return "closed";
    default:
        return "unknown";
    }
}

void assert_fail(const char *expr, const char *file, int line, const char *func)
{
    fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, func, expr);
    abort();
}
