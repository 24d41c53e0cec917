/* A fuzzing harness is LLVMFuzzerTestOneInput, as libFuzzer wants it, plus valid inputs for the driver in fuzz_main.c,
 * so that any compiler can run it. Both treat an input as frames: each a length (4 bytes, little-endian) and its bytes.
 */
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

/* A message as an input; takes it over. */
static inline size_t fuzz_input(struct msg *m, uint8_t *out, size_t room)
{
    struct buf *frames[1 + MSG_TENSORS_MAX];
    size_t n, size = 0;
    ASSERT(msg_encode(m, frames, &n) == 0);
    msg_fini(m);
    for (size_t i = 0; i < n; i++) {
        uint32_t length = (uint32_t)frames[i]->size;
        ASSERT(size + 4 + length <= room);
        memcpy(out + size, &length, 4);
        memcpy(out + size + 4, frames[i]->data, length);
        size += 4 + length;
        buf_unref(&frames[i]);
    }
    return size;
}

#endif
