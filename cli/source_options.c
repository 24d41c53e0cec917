/* Taking of source options. */
#include "cli/source_options.h"

#include <stdio.h>
#include <string.h>
#include "common/files.h"

/* A run's directory tells its name. */
static bool has_config(const char *directory)
{
    char path[CHECKPOINT_PATH_MAX];
    return path_format(path, sizeof path, "%s/config.ini", directory) == 0 && file_probe(path, NULL) == 0;
}

int source_argument_take(const char *command, int argc, char **argv, struct source_options *out)
{
    int code = run_argument_take(command, argc, argv, out->run || out->directory, out->named);
    if (code >= 0 || out->named[0] == '\0')
        return code;
    out->directory = out->named;
    if (strchr(argv[optind], '/') == NULL && !has_config(out->named))
        out->run = argv[optind]; /* on another machine, where only Redis knows it */
    return -1;
}

void source_option_take(int option, char *argument, struct source_options *out)
{
    switch (option) {
    case 'n':
        out->run = argument;
        break;
    case 'R':
        /* An empty one is no address, but given; a cut one is longer than any address. */
        snprintf(out->redis, sizeof out->redis, "%s", argument[0] ? argument : " ");
        redis_address_hide(argument);
        break;
    case 'o':
        out->directory = argument;
        break;
    }
}
