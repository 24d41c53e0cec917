/* The list of keys from foreign bytes: what is let through is sorted, unique, and safe to print. */
#include "proto/allow_list.h"
#include <stdlib.h>
#include "tests/fuzz/fuzz.h"

static void check(const struct allow_list *l)
{
    ASSERT(l->count <= ALLOW_ENTRIES_MAX);
    for (size_t i = 0; i < l->count; i++) {
        const struct allow_entry *entry = &l->entries[i];
        ASSERT(entry->role > ROLE_NONE && entry->role < ROLE_END);
        ASSERT(strlen(entry->key) == NET_KEY_TEXT - 1 && allow_name_ok(entry->name));
        ASSERT(i == 0 || strcmp(l->entries[i - 1].key, entry->key) < 0);
        ASSERT(allow_list_find(l, entry->key) == entry);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct allow_list l;
    struct error e;
    char *text = malloc(size); /* of exactly that size, so that a read beyond it is seen */
    if (size > 0)
        memcpy(text, data, size);
    if (allow_list_parse(text, size, "fuzz", &l, &e) == 0)
        check(&l);
    else
        ASSERT(l.count == 0 && l.entries == NULL);
    allow_list_fini(&l);
    free(text);
    return 0;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static const char *const seeds[] = {
        "# people\nworker rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7 gpu-7\n",
        "viewer Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLVFdTl alice\r\nclient rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7 "
        "torch",
    };
    return fuzz_text(seeds, sizeof seeds / sizeof seeds[0], i, out, room);
}
