/* Keeps a log readable while the same things go wrong again and again: each kind is logged the first time, and then
 * whenever its count has doubled. */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_TROUBLE_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_TROUBLE_H

#include <stddef.h>
#include <stdint.h>

enum { TROUBLE_KINDS = 16, TROUBLE_KIND_MAX = 24, TROUBLE_TEXT_MAX = 200 };

/* Starts as zeros. */
struct mirror_trouble {
    struct {
        char name[TROUBLE_KIND_MAX];
        uint64_t count;
    } kinds[TROUBLE_KINDS]; /* the last one is for whatever there is no room for */
};

/* How often this kind has happened by now, when that is to be logged; else 0. */
uint64_t mirror_trouble_note(struct mirror_trouble *t, const char *kind);
/* The kind of an error reply: its first word in capitals ("OOM"), else "ERR". */
void mirror_trouble_kind(const char *reply, char out[TROUBLE_KIND_MAX]);
/* Foreign text as a value between quotes of a log line: cut, one line, no quote and no backslash. */
const char *mirror_trouble_text(const char *foreign, char out[TROUBLE_TEXT_MAX]);

#endif
