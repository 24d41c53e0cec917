/* Looks at what there is, so that a name is not mistaken. */
#include "cli/run_argument.h"

#include <getopt.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/command.h"
#include "common/files.h"

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int run_argument_directory(const char *text, char out[CHECKPOINT_PATH_MAX])
{
    bool plain = strchr(text, '/') == NULL && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
    int rc = path_format(out, CHECKPOINT_PATH_MAX, plain ? "runs/%s" : "%s", text);
    if (rc == 0 && plain && !is_directory(out) && is_directory(text))
        rc = path_format(out, CHECKPOINT_PATH_MAX, "%s", text);
    return rc;
}

int run_argument_checkpoint(const char *text, char out[CHECKPOINT_PATH_MAX])
{
    return is_directory(text) ? path_format(out, CHECKPOINT_PATH_MAX, "%s", text) : run_argument_directory(text, out);
}

int run_argument_at(const char *command, char **argv, int i, char out[CHECKPOINT_PATH_MAX])
{
    if (argv[optind + i][0] == '\0' || run_argument_directory(argv[optind + i], out) != 0)
        return command_usage(command, "RUN is empty or too long");
    return -1;
}

int run_argument_take(const char *command, int argc, char **argv, bool named, char out[CHECKPOINT_PATH_MAX])
{
    out[0] = '\0';
    if (argc == optind)
        return -1;
    if (named)
        return command_usage(command, "'%s': the run is named by an option already", argv[optind]);
    return run_argument_at(command, argv, 0, out);
}
