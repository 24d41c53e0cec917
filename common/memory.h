/* The C library's heap, told what these processes do: each step allocates and frees the same messages. */
#ifndef DECANT_COMMON_MEMORY_H
#define DECANT_COMMON_MEMORY_H

/* For processes that take part in steps, before they work. Freed memory of up to MEMORY_KEPT_BYTES at the end of each
 * heap stays with the process, and so does what is freed in pieces below MEMORY_PIECE_BYTES. Left alone the library
 * gives it back to the system after every message and faults it in again with the next, which was two thirds of the
 * prototype server's loop at K = 1024, D = 128. Does nothing where the C library is not glibc, or where the environment
 * says what to do (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES). */
void memory_keep(void);

enum {
    MEMORY_KEPT_BYTES = 64 << 20,
    MEMORY_PIECE_BYTES = 32 << 20 /* the most that glibc takes */
};

#endif
