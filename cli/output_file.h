/* Files that a command writes because it was told to: nothing that is already there is replaced unasked, and nothing is
 * there under the name before it is whole. */
#ifndef DECANT_CLI_OUTPUT_FILE_H
#define DECANT_CLI_OUTPUT_FILE_H

#include <stdbool.h>
#include <stdio.h>
#include "common/error.h"

/* Before hours of work: -1 when `path` may be written, else the exit code, having said why. name: of the command. */
int output_file_check(const char *name, const char *path, bool force);
/* The same of a --sheet, which is called FILE.png. */
int output_file_check_picture(const char *name, const char *path, bool force);

/* A file that is written bit by bit to PATH.inprogress. */
struct output_file {
    FILE *f;
    char path[1024], temporary[1040];
};
int output_file_open(const char *path, struct output_file *out, struct error *e);
/* Makes it durable and gives it its name, when rc is 0; else, and on an error, removes it. rc or the error's code. */
int output_file_close(struct output_file *out, int rc, struct error *e);

#endif
