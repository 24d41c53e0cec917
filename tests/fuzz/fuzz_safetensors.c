/* Safetensors files from foreign bytes, and the provenance in their metadata: what is handed out lies within the file
 * and tiles it. Each input is read as it is and, when it names a checksum, once more with the right one. */
#include <stdlib.h>
#include "common/safetensors.h"
#include "proto/provenance.h"
#include "tests/fuzz/checksum.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

static void check_tensor(const struct safetensors *s, const struct tensor_view *t)
{
    const uint8_t *bytes = t->data, *start = s->file->data;
    uint64_t elements = 1;
    for (uint32_t r = 0; r < t->rank; r++)
        elements *= t->shape[r];
    ASSERT(t->size == elements * dtype_size(t->dtype) && (uintptr_t)bytes % dtype_size(t->dtype) == 0);
    ASSERT(bytes >= start && t->size <= (size_t)(start + s->file->size - bytes));
    ASSERT(safetensors_find(s, t->name, t->dtype, t->rank, t->shape, NULL) == t);
}

static void check_provenance(const struct safetensors *s)
{
    struct provenance p;
    struct metadata_entry entries[PROVENANCE_ENTRIES_MAX];
    struct error e = {0};
    if (provenance_from_metadata(s, &p, &e) != 0) {
        ASSERT(e.code == ERR_FORMAT && e.text[0] != '\0');
        return;
    }
    ASSERT(p.data <= FINGERPRINT_MASK && p.numerics <= FINGERPRINT_MASK && p.server_other <= FINGERPRINT_MASK);
    ASSERT(provenance_to_metadata(&p, entries) <= PROVENANCE_ENTRIES_MAX);
}

static void read_file(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct error e = {0};
    size_t total = 0;
    if (safetensors_read(scratch_file(data, size), &s, &e) != 0) {
        ASSERT(e.code != 0 && e.text[0] != '\0' && s.file == NULL && s.tensors == NULL && s.metadata == NULL);
        return;
    }
    for (size_t i = 0; i < s.tensor_count; i++) {
        check_tensor(&s, &s.tensors[i]);
        total += s.tensors[i].size;
    }
    ASSERT(total < s.file->size);
    check_provenance(&s);
    safetensors_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file = malloc(size ? size : 1);
    memcpy(file, data, size);
    checksum_repair(file, size);
    read_file(data, size);
    if (memcmp(file, data, size) != 0)
        read_file(file, size);
    free(file);
    return 0;
}

static size_t seed_of_ours(uint8_t *out, size_t room)
{
    static const double numbers[3] = {1, 2, 3};
    static const uint8_t bytes[5] = "hello";
    const struct tensor_view tensors[] = {
        {.name = "a", .dtype = DTYPE_F64, .rank = 1, .shape = {3}, .data = numbers, .size = sizeof numbers},
        {.name = "b.c", .dtype = DTYPE_U8, .rank = 2, .shape = {1, 5}, .data = bytes, .size = sizeof bytes},
    };
    const struct provenance p = {.data = 5, .data_before = 6, .data_since = 7, .numerics = 8, .server_numerics = 9};
    struct metadata_entry entries[PROVENANCE_ENTRIES_MAX];
    size_t n = provenance_to_metadata(&p, entries);
    ASSERT(safetensors_write(scratch_path("seed"), tensors, 2, entries, n, NULL) == 0);
    return scratch_get("seed", out, room);
}

static size_t seed_of_others(const char *json, size_t bytes, uint8_t *out)
{
    uint64_t length = strlen(json);
    memcpy(out, &length, 8);
    memcpy(out + 8, json, length);
    memset(out + 8 + length, 7, bytes);
    return 8 + length + bytes;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    switch (i) {
    case 0:
        return seed_of_ours(out, room);
    case 1:
        return seed_of_others("{\"x\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"y\":{\"dtype\":\"U32\","
                              "\"shape\":[2,0],\"data_offsets\":[4,4]}}    ",
                              4, out);
    case 2:
        return seed_of_others("{\"__metadata__\":{\"data\":\"00000000000001\"}}", 0, out);
    default:
        return 0;
    }
}
