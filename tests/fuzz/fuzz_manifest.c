/* Parameter manifests from foreign bytes: what is taken keeps the limits and survives being written and read again. */
#include "proto/manifest.h"
#include "tests/fuzz/fuzz.h"

static void check_entries(const struct manifest_entry *entries, size_t n, size_t floats)
{
    size_t next = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t count = 1;
        ASSERT(entries[i].name[0] != '\0' && memchr(entries[i].name, '\0', sizeof entries[i].name) != NULL);
        ASSERT(strstr(entries[i].name, "..") == NULL && strchr(entries[i].name, '/') == NULL);
        ASSERT(entries[i].rank <= TENSOR_RANK_MAX && entries[i].offset == next);
        for (uint32_t r = 0; r < entries[i].rank; r++)
            count *= entries[i].shape[r];
        ASSERT(count > 0 && count == entries[i].count);
        next += entries[i].count;
    }
    ASSERT(n <= MANIFEST_ENTRIES_MAX && next == floats);
}

static void check_round_trip(const struct manifest *m)
{
    struct manifest again;
    struct buf *json = NULL;
    ASSERT(manifest_to_json(m, &json) == 0);
    ASSERT(manifest_from_json(json->data, json->size, &again, NULL) == 0);
    ASSERT(manifest_equal(m, &again));
    buf_unref(&json);
    manifest_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest m;
    struct error e = {0};
    if (manifest_from_json(data, size, &m, &e) != 0) {
        ASSERT(e.code != 0 && e.text[0] != '\0' && m.parameters == NULL && m.buffers == NULL);
        return 0;
    }
    check_entries(m.parameters, m.parameter_count, m.parameter_floats);
    check_entries(m.buffers, m.buffer_count, m.buffer_floats);
    check_round_trip(&m);
    manifest_fini(&m);
    return 0;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static const char *const seeds[] = {
        "{\"parameters\":[{\"name\":\"w\",\"shape\":[2,3],\"decay\":true,\"clip\":true,\"unit_rows\":false,"
        "\"lr_scale\":1.0},{\"name\":\"a.b-1\",\"shape\":[3],\"decay\":false,\"clip\":true,\"unit_rows\":true,"
        "\"lr_scale\":0.5}],\"buffers\":[{\"name\":\"m\",\"shape\":[3],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[]}",
    };
    return fuzz_text(seeds, sizeof seeds / sizeof seeds[0], i, out, room);
}
