/* decant resume: `decant train --resume` for a directory, with the configuration that it holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/command.h"
#include "cli/run_argument.h"
#include "common/files.h"

static const char help[] =
    "example: decant resume runs/fashion-mnist\n\n"
    "usage: decant resume RUN [OPTION]...\n\n"
    "Goes on with a run from its newest sound checkpoint, with the configuration in its directory's config.ini. The "
    "same as\n"
    "`decant train --out DIR --resume`; further options are that command's (--workers, --redis, --no-eval,\n"
    "--accept-data, --detach ...). When the checkpoints are gone it refuses, unless --from-start lets the run begin\n"
    "again.\n\n" RUN_ARGUMENT_HELP;

enum { ADDED_ARGUMENTS = 4 }; /* resume --out DIR --resume: the first is the name in messages */

/* A typing error must not start a run from the beginning in a new directory. */
static int check_directory(const char *directory)
{
    char path[1280];
    struct error e = {0};
    int rc = path_format(path, sizeof path, "%s/config.ini", directory) == 0 ? file_probe(path, &e) : ERR_NOT_FOUND;
    if (rc == 0)
        return -1;
    if (rc == ERR_NOT_FOUND)
        error_set(&e, rc, "%.300s: no run to resume here (no config.ini); name a run's directory", directory);
    return command_failed("resume", &e);
}

static int train(int argc, char **argv, char *directory)
{
    char **line = calloc((size_t)argc + ADDED_ARGUMENTS, sizeof *line);
    char name[] = "resume", out[] = "--out", resume[] = "--resume";
    if (!line)
        return COMMAND_FAILED;
    char *const added[ADDED_ARGUMENTS] = {name, out, directory, resume};
    memcpy(line, added, sizeof added);
    memcpy(line + ADDED_ARGUMENTS, argv + 2, (size_t)(argc - 2) * sizeof *line); /* calloc has ended the list */
    optind = 1;
    int code = command_train(argc - 2 + ADDED_ARGUMENTS, line);
    free(line);
    return code;
}

int command_resume(int argc, char **argv)
{
    char directory[CHECKPOINT_PATH_MAX];
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return COMMAND_DONE;
    }
    if (argc < 2 || argv[1][0] == '-')
        return command_usage("resume", "RUN comes first: the run's directory, or its name below runs/");
    if (run_argument_directory(argv[1], directory) != 0)
        return command_usage("resume", "RUN is too long");
    int code = check_directory(directory);
    return code >= 0 ? code : train(argc, argv, directory);
}
