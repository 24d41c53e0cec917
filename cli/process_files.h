/* Does a process have a file open? A number in a file may be of another run, another machine or long gone; what a
 * process holds open tells whose it is. */
#ifndef DECANT_CLI_PROCESS_FILES_H
#define DECANT_CLI_PROCESS_FILES_H

#include <stdbool.h>
#include <sys/types.h>

/* False also when the process is not there, or is another user's. */
bool process_has_open(pid_t pid, const char *path);

#endif
