/* Two sorted arrays. */
#include "worker/data/class_index.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "common/error.h"

/* NULL when out of memory. */
static char *composed(const char *name)
{
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t size =
        utf8proc_map((const utf8proc_uint8_t *)name, 0, &out, UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (size >= 0)
        return (char *)out;
    return size == UTF8PROC_ERROR_NOMEM ? NULL : strdup(name);
}

static int by_text_and_class(const void *a, const void *b)
{
    const struct class_form *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : x->class < y->class ? -1 : x->class > y->class;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int class_index_init(struct class_index *x, char *const *names, uint32_t count)
{
    *x = (struct class_index){.names = names, .forms = calloc(count + 1, sizeof *x->forms)};
    for (; x->forms && x->count < count; x->count++) {
        struct class_form *form = &x->forms[x->count];
        *form = (struct class_form){composed(names[x->count]), x->count};
        if (!form->text)
            break;
    }
    if (!x->forms || x->count < count) {
        class_index_fini(x);
        return ERR_MEMORY;
    }
    qsort(x->forms, count, sizeof *x->forms, by_text_and_class);
    return 0;
}

void class_index_fini(struct class_index *x)
{
    for (uint32_t i = 0; i < x->count; i++)
        free(x->forms[i].text);
    free(x->forms);
    *x = (struct class_index){0};
}

uint32_t class_index_find(const struct class_index *x, const char *name)
{
    char *const *exact = bsearch(&name, x->names, x->count, sizeof *x->names, by_bytes);
    if (exact)
        return (uint32_t)(exact - x->names);
    char *text = composed(name);
    uint32_t low = 0, high = x->count; /* the first form that is not below text */
    while (text && low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (strcmp(x->forms[middle].text, text) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    bool same = text && low < x->count && strcmp(x->forms[low].text, text) == 0;
    free(text);
    return same ? x->forms[low].class : UINT32_MAX;
}

uint32_t class_index_twins(const struct class_index *x, uint32_t i, uint32_t *a, uint32_t *b)
{
    for (i++; i < x->count; i++)
        if (strcmp(x->forms[i - 1].text, x->forms[i].text) == 0) {
            *a = x->forms[i - 1].class;
            *b = x->forms[i].class;
            return i;
        }
    return 0;
}
