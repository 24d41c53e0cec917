/* The driver for where there is no libFuzzer. It runs a harness on its valid inputs and on what is kept in
 * tests/fuzz/corpus/NAME, and then on seeded mutations of them:
 *
 *   fuzz_X                       as `make test` does: half a second of processor time at most
 *   fuzz_X INPUTS [SEED]         so many mutations; number i is the same for the same seed and inputs
 *   fuzz_X --replay FILE...      these files as they are
 *   fuzz_X --write DIRECTORY     writes the valid inputs there, for libFuzzer to start from
 *
 * A crash, a failed ASSERT or a sanitizer's report ends the program and is the failure; the same INPUTS and SEED,
 * also in a build with sanitizers, come to it again. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "common/rng.h"
#include "tests/fuzz/fuzz.h"

enum { INPUTS_MAX = 4096, MUTATIONS = 50000 };
static const double SECONDS = 0.5; /* there are some twenty harnesses, run twice by `make test` */

struct inputs {
    struct input {
        uint8_t *data;
        size_t size;
    } items[INPUTS_MAX];
    size_t count;
};

/* ---- mutation ---- */

static void overwrite(struct rng *r, uint8_t *data, size_t size)
{
    static const uint32_t telling[] = {0,          1,          0x7f,       0x80,       0xff,       0x7fffffff,
                                       0x80000000, 0xffffffff, 0x7f800000, 0x7fc00000, 0xff800000, 0x00000100};
    uint32_t value = telling[rng_below(r, sizeof telling / sizeof telling[0])];
    size_t at = rng_below(r, (uint32_t)size), width = size - at < 4 ? size - at : 1 + rng_below(r, 4);
    memcpy(data + at, &value, width);
}

/* Removes bytes at `at`, or repeats them. */
static size_t resize(struct rng *r, uint8_t *data, size_t size)
{
    size_t at = rng_below(r, (uint32_t)size), length = 1 + rng_below(r, 16);
    if (length > size - at)
        length = size - at;
    if (rng_below(r, 2) == 0 || size + length > FUZZ_INPUT_MAX) {
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    }
    memmove(data + at + length, data + at, size - at);
    return size + length;
}

static size_t mutate(struct rng *r, uint8_t *data, size_t size)
{
    uint32_t times = 1 + rng_below(r, 3);
    for (uint32_t i = 0; i < times && size > 0; i++) {
        switch (rng_below(r, 5)) {
        case 0:
            data[rng_below(r, (uint32_t)size)] ^= (uint8_t)(1u << rng_below(r, 8));
            break;
        case 1:
            data[rng_below(r, (uint32_t)size)] = (uint8_t)rng_u32(r);
            break;
        case 2:
            size = resize(r, data, size);
            break;
        case 3: /* the first bytes are a header's: half of all damage should be there */
            data[rng_below(r, size < 300 ? (uint32_t)size : 300)] = (uint8_t)rng_u32(r);
            break;
        default:
            overwrite(r, data, size);
        }
    }
    return size;
}

/* ---- inputs ---- */

static void add_input(struct inputs *in, const uint8_t *data, size_t size)
{
    ASSERT(in->count < INPUTS_MAX);
    struct input *input = &in->items[in->count++];
    input->data = malloc(size ? size : 1);
    memcpy(input->data, data, size);
    input->size = size;
}

static void add_seeds(struct inputs *in)
{
    static uint8_t data[FUZZ_INPUT_MAX];
    for (size_t i = 0, size; (size = fuzz_seed(i, data, sizeof data)) > 0; i++)
        add_input(in, data, size);
}

static int add_file(struct inputs *in, const char *path)
{
    static uint8_t data[FUZZ_INPUT_MAX];
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return -1;
    add_input(in, data, fread(data, 1, sizeof data, f));
    fclose(f);
    return 0;
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* In the order of names, so that numbers mean the same everywhere. None, where the tree is not at hand. */
static void add_corpus(struct inputs *in, const char *program)
{
    const char *name = strrchr(program, '/');
    char directory[256], path[600];
    struct dirent **entries;
    snprintf(directory, sizeof directory, "tests/fuzz/corpus/%s", name ? name + 1 + strlen("fuzz_") : program);
    int n = scandir(directory, &entries, not_hidden, alphasort);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        ASSERT(add_file(in, path) == 0);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

static void free_inputs(struct inputs *in)
{
    while (in->count > 0)
        free(in->items[--in->count].data);
}

/* ---- running ---- */

static void run_all(const struct inputs *in)
{
    for (size_t i = 0; i < in->count; i++)
        LLVMFuzzerTestOneInput(in->items[i].data, in->items[i].size);
}

static void run_mutation(const struct inputs *in, unsigned long seed, unsigned long i)
{
    static uint8_t data[FUZZ_INPUT_MAX];
    const struct input *input = &in->items[i % in->count];
    struct rng r;
    rng_open(&r, seed, RNG_JITTER, i, 0, 0);
    memcpy(data, input->data, input->size);
    size_t size = mutate(&r, data, input->size);
    uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees the first byte too far */
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int write_seeds(const struct inputs *in, const char *directory)
{
    for (size_t i = 0; i < in->count; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/seed-%02zu", directory, i);
        FILE *f = fopen(path, "wb");
        if (f == NULL || fwrite(in->items[i].data, 1, in->items[i].size, f) != in->items[i].size || fclose(f) != 0) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

static int replay(struct inputs *in, char **paths)
{
    for (; *paths != NULL; paths++)
        if (add_file(in, *paths) != 0) {
            perror(*paths);
            return 1;
        }
    run_all(in);
    return 0;
}

static void mutate_all(struct inputs *in, int argc, char **argv)
{
    unsigned long limit = argc > 1 ? strtoul(argv[1], NULL, 10) : MUTATIONS;
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1, done = 0;
    add_seeds(in);
    add_corpus(in, argv[0]);
    printf("%s: up to %lu mutations of %zu inputs, seed %lu\n", argv[0], limit, in->count, seed);
    fflush(stdout);
    run_all(in);
    clock_t start = clock();
    while (done < limit && (argc > 1 || (double)(clock() - start) < SECONDS * CLOCKS_PER_SEC))
        run_mutation(in, seed, done++);
    printf("%s: %lu mutations done; again: %s %lu %lu\n", argv[0], done, argv[0], done, seed);
    printf("1 passed, 0 failed\n");
}

int main(int argc, char **argv)
{
    static struct inputs in;
    int rc = 0;
    if (argc > 2 && strcmp(argv[1], "--replay") == 0) {
        rc = replay(&in, argv + 2);
    } else if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        add_seeds(&in);
        rc = write_seeds(&in, argv[2]);
    } else {
        mutate_all(&in, argc, argv);
    }
    free_inputs(&in);
    return rc;
}
