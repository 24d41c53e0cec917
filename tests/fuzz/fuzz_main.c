/* Runs a harness on seeded mutations of its valid inputs: fuzz_X [inputs [seed]]. A crash, a failed ASSERT or a
 * sanitizer's report ends the program and is the failure; the input is then seed and number, printed with the command
 * to replay it. */
#include <stdio.h>
#include <stdlib.h>
#include "common/rng.h"
#include "tests/fuzz/fuzz.h"

enum { INPUTS = 100000 };

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
    uint32_t times = rng_below(r, 4); /* none at all is a case too */
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

int main(int argc, char **argv)
{
    static uint8_t data[FUZZ_INPUT_MAX];
    unsigned long inputs = argc > 1 ? strtoul(argv[1], NULL, 10) : INPUTS;
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    size_t seeds = 0;
    while (fuzz_seed(seeds, data, sizeof data) > 0)
        seeds++;
    printf("%s: %lu mutations of %zu inputs, seed %lu; replay: %s %lu %lu\n", argv[0], inputs, seeds, seed, argv[0],
           inputs, seed);
    fflush(stdout);
    for (unsigned long i = 0; i < inputs; i++) {
        struct rng r;
        rng_open(&r, seed, RNG_JITTER, i, 0, 0);
        size_t size = fuzz_seed(i % seeds, data, sizeof data);
        size = mutate(&r, data, size);
        uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees the first byte too far */
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("1 passed, 0 failed\n");
    return 0;
}
