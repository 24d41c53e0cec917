/* A text file that grows, read line by line as it does: metrics and logs of a run. The file may be absent at first, be
 * replaced or cut (then it is read from its beginning again), and hold anything. */
#ifndef DECANT_CLI_DASHBOARD_LINES_H
#define DECANT_CLI_DASHBOARD_LINES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    LINES_BYTES = 1 << 16,      /* a longer line is passed over */
    LINES_LOOK_BYTES = 8 << 20, /* what one look reads at most, so that a long file does not hold everything up */
};

struct dashboard_lines { /* zeros: nothing read yet */
    off_t offset;        /* of the first byte that was not handed out */
    uint64_t device, inode;
    uint32_t restarts; /* how often another file, or a shorter one, was found in its place */
};

/* Hands every whole line since the last look to take, without its end. from_end: at the first look, bytes of the file's
 * end that are enough; 0 reads all. Returns how many lines there were; a file that cannot be read has none. */
size_t dashboard_lines_read(struct dashboard_lines *l, const char *path, off_t from_end,
                            void (*take)(void *arg, const char *line, size_t length), void *arg);

#endif
