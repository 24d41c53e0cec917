/* Two steps held against each other: are their files the same bytes, and if not, where they first differ. Looked at
 * in the order in which a cause shows: the configurations, the step, then tensor by tensor in the order of the file. */
#ifndef DECANT_CLI_STEP_COMPARE_H
#define DECANT_CLI_STEP_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cli/tensor_compare.h"
#include "common/error.h"
#include "proto/provenance.h"

enum { COMPARED_FILES = 2, KEY_VALUE_MAX = 128, KEYS_DIFFERING_MAX = 128, SHAPE_TEXT_MAX = 112 };

struct key_difference {
    const char *name;
    bool shapes_result;           /* false: where and how the run went, which no number depends on */
    char value[2][KEY_VALUE_MAX]; /* cut when longer */
};

enum file_state { FILE_ABSENT, FILE_DAMAGED, FILE_SOUND };
enum tensor_parting {
    TENSORS_EQUAL,
    TENSOR_ONLY_IN_A,
    TENSOR_ONLY_IN_B,
    TENSOR_SHAPES_DIFFER, /* or types */
    TENSOR_VALUES_DIFFER,
};

struct file_comparison {
    const char *name;         /* "encoder.safetensors" */
    enum file_state state[2]; /* in A and in B */
    struct error damage[2];
    bool identical;                  /* but for the writer's version; also when neither has it and neither should */
    size_t tensors, differing;       /* of A, and how many of them are not the same in B, plus those only in B */
    enum tensor_parting parting;     /* of the first that differs */
    char first[TENSOR_NAME_MAX];     /* its name */
    uint32_t rank;                   /* and rank, of TENSOR_VALUES_DIFFER */
    char shape[2][SHAPE_TEXT_MAX];   /* "F32 [2, 3]", of TENSOR_SHAPES_DIFFER */
    struct tensor_difference values; /* of TENSOR_VALUES_DIFFER */
    char metadata[48];               /* first key of the file's metadata whose value differs, or empty */
    struct provenance provenance[2]; /* of sound files, all 0 where they do not say */
};

struct step_comparison {
    const char *directory[2];         /* the caller's */
    uint64_t step[2];                 /* as the encoder says; STEP_UNKNOWN when it cannot be read */
    struct error configuration_error; /* why the keys could not be compared; code 0 otherwise */
    size_t key_count;
    struct key_difference keys[KEYS_DIFFERING_MAX]; /* those that shape the result first */
    struct file_comparison files[COMPARED_FILES];
    bool identical;
};

/* Fills *out, whatever the state of the files; large, so keep it on the heap. ERR_RANGE when a path is too long. */
int step_compare(const char *a, const char *b, struct step_comparison *out, struct error *e);

#endif
