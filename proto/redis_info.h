/* Is a Redis fit to hold the mirror? Said from its answer to INFO, alike by `decant doctor` and by the mirror. */
#ifndef DECANT_PROTO_REDIS_INFO_H
#define DECANT_PROTO_REDIS_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum redis_fitness {
    REDIS_FIT,
    REDIS_TIGHT, /* the mirror may be refused for want of memory */
    REDIS_UNFIT, /* no update would ever be taken */
};

struct redis_judgement {
    enum redis_fitness fitness;
    char version[32]; /* "7.0.15"; empty when it does not say */
    char text[160];   /* why it is not fit; printable, without quotes */
    char advice[192]; /* what to do then */
};

/* info need not end with a NUL. needed: bytes that the mirror may take, redis_bytes_needed. */
void redis_judge(const char *info, size_t size, uint64_t needed, struct redis_judgement *out);
/* Memory of Redis for the mirror of K prototypes of D dimensions and so many variances each, about. */
uint64_t redis_bytes_needed(uint64_t K, uint64_t D, uint64_t variances);
/* What to do about an error reply ("NOAUTH Authentication required."); never NULL. */
const char *redis_error_advice(const char *reply);

#endif
