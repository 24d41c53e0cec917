/* The choice of kernels; see kernels.h. */
#include "common/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

_Atomic int kernels_choice;

static const char *const names[KERNELS_COUNT] = {"portable", "avx2", "avx512", "amx"};

const char *kernels_name(enum kernels k)
{
    return names[k];
}

#if KERNELS_X86
/* Tiles are 8 KiB more to save of each thread that uses them, so Linux gives them to who asks (arch_prctl(2); the names
 * are in newer headers only). */
static bool amx_is_ours(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

bool kernels_possible(enum kernels k)
{
#if KERNELS_X86
    if (k == KERNELS_AMX)
        return __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16") &&
               __builtin_cpu_supports("amx-bf16") && amx_is_ours();
    if (k == KERNELS_AVX512)
        return __builtin_cpu_supports("x86-64-v4");
    if (k == KERNELS_AVX2)
        return __builtin_cpu_supports("x86-64-v3");
#endif
    return k == KERNELS_PORTABLE;
}

bool kernels_multiply_bf16(enum kernels k)
{
#if KERNELS_X86
    return k >= KERNELS_AVX512 && kernels_possible(k) && __builtin_cpu_supports("avx512bf16");
#else
    (void)k;
    return false;
#endif
}

static enum kernels best(void)
{
    int k = KERNELS_COUNT - 1;
    while (!kernels_possible((enum kernels)k))
        k--;
    return (enum kernels)k;
}

static void choose(enum kernels k)
{
    atomic_store_explicit(&kernels_choice, 1 + (int)k, memory_order_relaxed);
}

/* "portable, avx2": what this machine can run. */
static void list_possible(char *text, size_t size)
{
    size_t used = 0;
    for (int k = 0; k < KERNELS_COUNT; k++)
        if (kernels_possible((enum kernels)k) && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s", k > 0 ? ", " : "", names[k]);
}

int kernels_choose(const char *name, struct error *e)
{
    char possible[64];
    if (name == NULL || name[0] == '\0') {
        choose(best());
        return 0;
    }
    for (int k = 0; k < KERNELS_COUNT; k++)
        if (strcmp(name, names[k]) == 0 && kernels_possible((enum kernels)k)) {
            choose((enum kernels)k);
            return 0;
        }
    list_possible(possible, sizeof possible);
    return error_set(e, ERR_CONFIG, KERNELS_VARIABLE "=%.32s: this machine can use %s; unset it to take the best", name,
                     possible);
}

int kernels_from_environment(struct error *e)
{
    return kernels_choose(getenv(KERNELS_VARIABLE), e);
}

enum kernels kernels_first_use(void)
{
    if (kernels_from_environment(NULL) != 0)
        choose(best());
    return (enum kernels)(atomic_load_explicit(&kernels_choice, memory_order_relaxed) - 1);
}
