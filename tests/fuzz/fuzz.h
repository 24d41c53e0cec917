/* A fuzzing harness is LLVMFuzzerTestOneInput, as libFuzzer wants it, plus valid inputs made by the code that writes
 * what it reads. Two drivers run it: fuzz_main.c, which any compiler builds, and libFuzzer (tests/fuzz/guided). Where
 * a reader takes several pieces, an input is frames: each a length (4 bytes, little-endian) and its bytes. */
#ifndef DECANT_TESTS_FUZZ_FUZZ_H
#define DECANT_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "proto/msg.h"

enum { FUZZ_FRAMES_MAX = 10, FUZZ_INPUT_MAX = 1 << 14 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Writes the i-th valid input and returns its size; 0 when there is none. */
size_t fuzz_seed(size_t i, uint8_t *out, size_t room);

/* Cuts an input into frames; a length beyond the end means "the rest". Returns how many. */
static inline size_t fuzz_frames(const uint8_t *data, size_t size, struct buf **frames)
{
    size_t n = 0;
    while (size >= 4 && n < FUZZ_FRAMES_MAX) {
        uint32_t length;
        memcpy(&length, data, 4);
        data += 4;
        size -= 4;
        if (length > size)
            length = (uint32_t)size;
        frames[n++] = buf_copy(data, length);
        data += length;
        size -= length;
    }
    return n;
}

/* Appends a frame to an input of `used` bytes; returns the new size. */
static inline size_t fuzz_add_frame(uint8_t *out, size_t used, size_t room, const void *bytes, size_t size)
{
    uint32_t length = (uint32_t)size;
    ASSERT(used + 4 + size <= room);
    memcpy(out + used, &length, 4);
    memcpy(out + used + 4, bytes, size);
    return used + 4 + size;
}

/* The i-th of n texts as an input. */
static inline size_t fuzz_text(const char *const *texts, size_t n, size_t i, uint8_t *out, size_t room)
{
    if (i >= n)
        return 0;
    size_t size = strlen(texts[i]);
    ASSERT(size <= room);
    memcpy(out, texts[i], size);
    return size;
}

/* A message as an input; takes it over. */
static inline size_t fuzz_input(struct msg *m, uint8_t *out, size_t room)
{
    struct buf *frames[1 + MSG_TENSORS_MAX];
    size_t n, size = 0;
    ASSERT(msg_encode(m, frames, &n) == 0);
    msg_fini(m);
    for (size_t i = 0; i < n; i++) {
        size = fuzz_add_frame(out, size, room, frames[i]->data, frames[i]->size);
        buf_unref(&frames[i]);
    }
    return size;
}

#endif
