/* Files: opening, whole reads and atomic writes. An atomic write goes to PATH.inprogress, is fsynced, renamed over
 * PATH, and the directory is fsynced; a crash leaves the old file or the new one, never a torn one. */
#ifndef DECANT_COMMON_FILES_H
#define DECANT_COMMON_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "common/buf.h"
#include "common/error.h"

/* Opens a regular file; every file that somebody else could have put there is opened by this or by what builds upon
 * it. flags of open(2), O_CREAT with mode 0644; O_CLOEXEC and what keeps open() from waiting are added. ERR_NOT_FOUND
 * when there is none of that name; ERR_IO, with what it is, for a directory, FIFO, socket or device, and for
 * everything else. *fd is -1 then. */
int file_open(const char *path, int flags, int *fd, struct error *e);
int file_open_stream(const char *path, FILE **out, struct error *e); /* the same for reading; NULL on an error */
/* A regular file. ERR_NOT_FOUND when there is none of that name, ERR_RANGE when it has more than limit bytes. */
int file_read(const char *path, size_t limit, struct buf **out, struct error *e);

/* Whether PATH is there and may be read: 0; ERR_NOT_FOUND when nothing of that name is there; ERR_IO, with the reason,
 * when it may not be read or cannot be told, which must not pass for "not there". */
int file_probe(const char *path, struct error *e);

struct file_part {
    const void *data;
    size_t size;
};
/* Writes the parts one after the other. Two processes may write the same path at once: the file is then the whole of
 * one of the two. */
int file_write_atomic(const char *path, const struct file_part *parts, size_t n, struct error *e);
/* The same of parts that `next` gives one after the other, and false when there are no more. Each need be there only
 * until the next is asked for. */
typedef bool file_source(void *context, struct file_part *part);
int file_write_atomic_from(const char *path, file_source *next, void *context, struct error *e);
/* Takes the lock file PATH for as long as *fd stays open; if the process dies the kernel releases it. The file then
 * holds "HOST:PID". ERR_STATE when another process has it; the text names that one. */
int file_lock(const char *path, int *fd, struct error *e);
int dir_make(const char *path, struct error *e); /* mkdir -p; an existing directory is fine */
/* path = printf(format, ...) into out (size n); ERR_RANGE when it does not fit. */
int path_format(char *out, size_t n, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
