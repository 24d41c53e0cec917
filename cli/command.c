/* What the subcommands share in reporting. */
#include "cli/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int command_usage(const char *name, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "decant %s: ", name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nTry: decant %s --help\n", name);
    return COMMAND_USAGE;
}

int command_failed(const char *name, const struct error *e)
{
    fprintf(stderr, "decant %s: %s\n", name, e->text);
    return e->code == ERR_CONFIG ? COMMAND_USAGE : COMMAND_FAILED;
}

int command_number(const char *text, long long min, long long max, long long *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *out >= min && *out <= max ? 0 : ERR_RANGE;
}
