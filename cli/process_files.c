/* By device and inode of what /proc/PID/fd names: a copy of a file is another one, a renamed file is the same. */
#include "cli/process_files.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

bool process_has_open(pid_t pid, const char *path)
{
    char directory[64];
    struct stat wanted, open;
    bool found = false;
    snprintf(directory, sizeof directory, "/proc/%d/fd", (int)pid);
    DIR *d = stat(path, &wanted) == 0 ? opendir(directory) : NULL;
    if (!d)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(d)) != NULL;)
        found = fstatat(dirfd(d), entry->d_name, &open, 0) == 0 && open.st_dev == wanted.st_dev &&
                open.st_ino == wanted.st_ino;
    closedir(d);
    return found;
}
