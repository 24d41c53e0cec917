/* A run's directory with small checkpoints, made and removed by each test that looks at files. */
#ifndef DECANT_TESTS_UNIT_CLI_CHECKPOINT_RIG_H
#define DECANT_TESTS_UNIT_CLI_CHECKPOINT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/files.h"
#include "common/safetensors.h"

enum { RIG_K = 4, RIG_D = 2 };
#define RIG_INI "[run]\nname = rig\n[mixture]\ncomponents = 4\ndimensions = 2\n[loss]\nblock = 2\n"
#define RIG_INI_JOINT RIG_INI "prototypes = joint\n"

struct rig {
    char root[64];
    struct error e;
};

static inline struct tensor_view rig_view(const char *name, enum dtype t, uint32_t rank, uint64_t a, uint64_t b,
                                          const void *data)
{
    struct tensor_view v = {.dtype = t, .rank = rank, .shape = {a, b}, .data = data};
    v.size = a * (rank == 2 ? b : 1) * dtype_size(t);
    snprintf(v.name, sizeof v.name, "%s", name);
    return v;
}

/* ROOT/RUN/checkpoints/step-NNNNNN, made. */
static inline void rig_step(const struct rig *r, const char *run, int step, char out[160])
{
    snprintf(out, 160, "%s/%s/checkpoints/step-%06d", r->root, run, step);
    assert_int_equal(dir_make(out, NULL), 0);
}

/* As the servers write them, of run "rig" and one configuration; every file claims another writer's version, which no
 * comparison may mind. */
static inline void rig_write(const char *directory, const char *file, const struct tensor_view *tensors, size_t n,
                             int step)
{
    static unsigned written;
    char path[256];
    struct metadata_entry meta[] = {{.key = "step"},
                                    {.key = "run", .value = "rig"},
                                    {.key = "config", .value = "00000000000c0f19"},
                                    {.key = "version"}};
    snprintf(meta[3].value, sizeof meta[3].value, "0.0.%u", written++);
    snprintf(meta[0].value, sizeof meta[0].value, "%d", step);
    snprintf(path, sizeof path, "%s/%s", directory, file);
    assert_int_equal(safetensors_write(path, tensors, n, meta, 4, NULL), 0);
}

/* An encoder of one matrix (2,2), the student's being that of the teacher, with that element [1,0]. */
static inline void rig_encoder(const struct rig *r, const char *run, int step, const char *ini, float element)
{
    const float weight[4] = {1, 2, element, 4}, bias[2] = {5, 6}, prototypes[RIG_K * RIG_D] = {2, 0, 0, 3, -1, 0, 3, 4};
    const struct tensor_view tensors[] = {
        rig_view("student.a.weight", DTYPE_F32, 2, 2, 2, weight),
        rig_view("teacher.a.weight", DTYPE_F32, 2, 2, 2, weight),
        rig_view("teacher.prototypes", DTYPE_F32, 2, RIG_K, RIG_D, prototypes),
        rig_view("buffer.a.mean", DTYPE_F32, 1, 2, 0, bias),
        rig_view("m.a.weight", DTYPE_F32, 2, 2, 2, weight),
        rig_view("config_ini", DTYPE_U8, 1, strlen(ini), 0, ini),
    };
    char directory[160];
    rig_step(r, run, step, directory);
    rig_write(directory, "encoder.safetensors", tensors, sizeof tensors / sizeof tensors[0], step);
}

static inline void rig_mixture(const struct rig *r, const char *run, int step, double mass)
{
    static const float mean[RIG_K * RIG_D] = {2, 0, 0, 3, -1, 0, 3, 4}, weight[RIG_K] = {0.25F, 0.25F, 0.25F, 0.25F};
    static const double usage[RIG_K] = {0.5, 0.25, 0.25, 0};
    const double masses[RIG_K] = {1, 2, mass, 1};
    const struct tensor_view tensors[] = {
        rig_view("mass", DTYPE_F64, 1, RIG_K, 0, masses),   rig_view("usage", DTYPE_F64, 1, RIG_K, 0, usage),
        rig_view("mean", DTYPE_F32, 2, RIG_K, RIG_D, mean), rig_view("variance", DTYPE_F32, 2, RIG_K, RIG_D, mean),
        rig_view("weight", DTYPE_F32, 1, RIG_K, 0, weight),
    };
    char directory[160];
    rig_step(r, run, step, directory);
    rig_write(directory, "mixture.safetensors", tensors, sizeof tensors / sizeof tensors[0], step);
}

/* Flips one bit near the end of a file of that step. */
static inline void rig_damage(const struct rig *r, const char *run, int step, const char *file)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/checkpoints/step-%06d/%s", r->root, run, step, file);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -3, SEEK_END), 0);
    int byte = fgetc(f);
    assert_int_equal(fseek(f, -3, SEEK_END), 0);
    fputc(byte ^ 1, f);
    assert_int_equal(fclose(f), 0);
}

static inline int rig_setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    *state = r;
    if (!r)
        return -1;
    snprintf(r->root, sizeof r->root, "/tmp/decant-test-XXXXXX");
    return mkdtemp(r->root) ? 0 : -1;
}

static inline int rig_teardown(void **state)
{
    struct rig *r = *state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", r->root);
    int rc = system(command);
    free(r);
    return rc;
}

#endif
