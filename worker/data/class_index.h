/* Finds classes by their names. File systems spell the same name in different Unicode forms (an accent as part of its
 * letter, or behind it): a name is looked for byte by byte first, then in its composed form (NFC). */
#ifndef DECANT_WORKER_DATA_CLASS_INDEX_H
#define DECANT_WORKER_DATA_CLASS_INDEX_H

#include <stdint.h>

struct class_index {
    char *const *names; /* (count), the caller's, sorted by their bytes */
    uint32_t count;
    struct class_form {
        char *text; /* NFC; the name itself when it is no UTF-8 */
        uint32_t class;
    } * forms; /* (count) sorted by text, then class */
};

/* names must outlive the index. ERR_MEMORY. */
int class_index_init(struct class_index *x, char *const *names, uint32_t count);
void class_index_fini(struct class_index *x);
/* UINT32_MAX when there is none. The lowest class, when several differ by their form only. */
uint32_t class_index_find(const struct class_index *x, const char *name);
/* The next pair of classes, from the i-th place on, that differ by their form only; returns the place after it, 0 when
 * there is none. Start with i = 0. */
uint32_t class_index_twins(const struct class_index *x, uint32_t i, uint32_t *a, uint32_t *b);

#endif
