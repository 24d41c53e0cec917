/* Whether a new list of keys is taken at once. A file that was emptied by mistake, cut short by a full disk or copied
 * half would revoke everybody who works, and the run with them. So a list on which nobody is left who works (worker or
 * client, of those that were listed before) waits:
 *
 *   - its last line is ALLOW_CONFIRMED                       -> in force at once (decant keygen --revoke writes it)
 *   - it is still the same after LIST_CONFIRM_MS             -> in force then
 *   - another list comes meanwhile that leaves somebody      -> that one, and the empty one is forgotten
 *
 * Every other list is in force at once. No file and no clock in here. */
#ifndef DECANT_SERVER_SHELL_LIST_GUARD_H
#define DECANT_SERVER_SHELL_LIST_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/allow_list.h"

enum { LIST_CONFIRM_MS = 30000 /* for a person or a copying program to mend a mistake; revoking waits no longer */ };

/* Starts as zeros. */
struct list_guard {
    struct allow_list waiting; /* what was offered */
    uint64_t since_ms;
    bool waits;
};

enum list_verdict {
    LIST_TAKEN,  /* *current is the new one */
    LIST_WAITS,  /* offer what the file holds again after LIST_CONFIRM_MS */
    LIST_WAITED, /* likewise; it was offered before */
};

/* Takes `next` over in every case. */
enum list_verdict list_guard_offer(struct list_guard *g, struct allow_list *current, struct allow_list *next,
                                   uint64_t now_ms);
/* The file cannot be read any more: what waits is forgotten. */
void list_guard_forget(struct list_guard *g);

#endif
