/* The training images nearest to a prototype, for the dashboard: of a run whose images this process can read, by its
 * newest checkpoint. What that takes, loading images and projecting them, is done when somebody first asks, by a
 * thread at the lowest priority, and again when somebody asks after a newer checkpoint; until then pictures are of
 * the older one.
 *
 * It looks at the first eval.images training images, in memory. */
#ifndef DECANT_CLI_DASHBOARD_GALLERY_H
#define DECANT_CLI_DASHBOARD_GALLERY_H

#include <stddef.h>
#include <stdint.h>
#include "common/error.h"

enum { GALLERY_IMAGES = 9 };

enum gallery_answer {
    GALLERY_PICTURE, /* here it is */
    GALLERY_BUSY,    /* ask again in a second */
    GALLERY_UNKNOWN, /* there is no such prototype */
    GALLERY_FAILED   /* there cannot be one; the error says why. Asking again tries again */
};

struct dashboard_gallery;
/* directory: the run's; copied. ERR_MEMORY, ERR_IO (no thread). */
int dashboard_gallery_open(const char *directory, struct dashboard_gallery **out, struct error *e);
/* Waits for what the thread has in hand: a few images. NULL-safe. */
void dashboard_gallery_close(struct dashboard_gallery **g);
/* From any thread. png: malloc'd. */
enum gallery_answer dashboard_gallery_picture(struct dashboard_gallery *g, uint32_t prototype, char **png, size_t *size,
                                              struct error *e);

#endif
