/* What the subcommands share in reporting. */
#include "cli/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/printable.h"
#include "cli/suggest.h"

enum { OPTIONS_MAX = 32 }; /* of one subcommand */

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

/* The known option nearest to what was typed, without its "=value"; NULL when nothing is near. */
static const char *nearest_option(const struct option *options, const char *typed)
{
    char name[64];
    const char *names[OPTIONS_MAX];
    size_t n = 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(typed, "="), typed);
    while (n < OPTIONS_MAX && options[n].name) {
        names[n] = options[n].name;
        n++;
    }
    return suggest(name, names, n);
}

/* What getopt_long refused, given the ":h" that makes it tell the two cases apart and print nothing. */
static int bad_option(const struct command_options *o, int refused, char *const *argv)
{
    const char *typed = argv[optind - 1], *name = o->name;
    if (refused == ':')
        return command_usage(name, "%s lacks its value", typed);
    if (strncmp(typed, "--", 2) != 0)
        return command_usage(name, "there is no option -%c", optopt);
    const char *near = nearest_option(o->options, typed + 2);
    if (near && strchr(typed, '=') && strncmp(typed + 2, near, strlen(near)) == 0)
        return command_usage(name, "--%s takes no value", near);
    if (near)
        return command_usage(name, "there is no option %s; did you mean --%s?", typed, near);
    return command_usage(name, "there is no option %s", typed);
}

/* The value that was forgotten, so that the next option stands in its place. No value of ours begins with a dash; a
 * file that does can be called ./-x. */
static int bad_value(const struct command_options *o, int index, const char *value)
{
    return command_usage(o->name, "--%s lacks its value: '%s' looks like an option%s", o->options[index].name, value,
                         value[1] == '-' ? "" : " (a file of that name is ./-...)");
}

int command_take_options(const struct command_options *o, int argc, char **argv, void *line)
{
    int option, index = 0, code = -1;
    while (code < 0 && (option = getopt_long(argc, argv, ":h", o->options, &index)) != -1) {
        if (option == ':' || option == '?')
            return bad_option(o, option, argv);
        if (option == 'h') {
            fputs(o->help, stdout);
            return COMMAND_DONE;
        }
        code = optarg && optarg[0] == '-' ? bad_value(o, index, optarg) : o->take(option, line);
    }
    if (code < 0 && argc - optind > o->arguments_max)
        code = command_usage(o->name, "unexpected argument '%s'", argv[optind + o->arguments_max]);
    return code;
}

int command_failed(const char *name, const struct error *e)
{
    char text[sizeof e->text];
    snprintf(text, sizeof text, "%s", e->text);
    fprintf(stderr, "decant %s: %s\n", name, printable(text));
    return e->code == ERR_CONFIG ? COMMAND_USAGE : COMMAND_FAILED;
}

int command_number(const char *text, long long min, long long max, long long *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *out >= min && *out <= max ? 0 : ERR_RANGE;
}

int command_seconds(const char *text, double min, double max, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= min && *out <= max ? 0 : ERR_RANGE;
}

bool command_colours(FILE *f)
{
    const char *refused = getenv("NO_COLOR");
    return isatty(fileno(f)) && !(refused && refused[0]);
}
