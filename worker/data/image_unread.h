/* Files that are images by their name or content and are not read: counted by kind, so that a folder of a million of
 * them is one problem and not a million. */
#ifndef DECANT_WORKER_DATA_IMAGE_UNREAD_H
#define DECANT_WORKER_DATA_IMAGE_UNREAD_H

#include "worker/data/image_sink.h"

enum {
    UNREAD_KINDS_MAX = 24,  /* all that come later are counted as one */
    UNREAD_ENDING_MAX = 12, /* bytes of an ending that tell kinds apart */
    UNREAD_FIRST_MAX = 160, /* bytes of the first file's name that are shown */
};

struct image_unread {
    uint32_t count;
    struct {
        char ending[UNREAD_ENDING_MAX], first[UNREAD_FIRST_MAX];
        const char *format; /* static; NULL: known by its ending alone */
        bool readable;      /* the format is, only the name is not */
        uint64_t files;
    } kinds[UNREAD_KINDS_MAX];
};

/* A file whose name does not say that it can be read: whether it is an image to read all the same, by its content (its
 * name at least says that it is an image). If it is an image that is not read, it is counted. full: its path; relative:
 * the name to show. */
bool image_unread_look(struct image_unread *u, const char *full, const char *relative);
/* A problem for each kind; the files count as left out. */
void image_unread_report(const struct image_unread *u, const char *root, struct image_sink *sink);

#endif
