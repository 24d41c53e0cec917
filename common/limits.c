/* setrlimit, and one mapping that is given back at once.
 *
 * OpenBLAS starts its threads and takes its buffers when it is loaded, before main: one of each for every core,
 * though everything here uses one, and where memory cannot be had it tries again for ever. So before any library is
 * initialised it is told to start none, and a limit that it cannot start with ends the process. */
#include "common/limits.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define ONE_THREAD "OPENBLAS_NUM_THREADS=1"
#define LOADED_BYTES (UINT64_C(96) << 20) /* 60 are enough for the largest of our programs */
enum { VARIABLES_MAX = 4096 /* of the environment; with more nothing is done */ };

static bool is_set(char *const *environment)
{
    for (; *environment; environment++)
        if (strcmp(*environment, ONE_THREAD) == 0)
            return true;
    return false;
}

/* The same program once more, with the variable. Its own copy of the environment counts only from main on, so it
 * cannot be set for libraries otherwise. Comes back when that is not possible; then OpenBLAS has its threads. */
static void start_again(char **argv, char **environment)
{
    char path[PATH_MAX], *with[VARIABLES_MAX + 2];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    size_t n = 0;
    for (; *environment && n < VARIABLES_MAX; environment++)
        if (strncmp(*environment, ONE_THREAD, sizeof ONE_THREAD - 2) !=
            0) /* "OPENBLAS_NUM_THREADS=" of another value */
            with[n++] = *environment;
    if (length <= 0 || *environment)
        return;
    path[length] = '\0';
    with[n] = ONE_THREAD;
    with[n + 1] = NULL;
    execve(path, argv, with);
}

/* Runs first of all: it may make system calls, and use nothing that has to be initialised. */
static void before_libraries(int argc, char **argv, char **environment)
{
    static const char text[] = "the limit of address space (ulimit -v) is too low even to load the libraries: raise it "
                               "to 1 GiB or more, or set "
                               "none\n";
    struct rlimit limit;
    (void)argc;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur < LOADED_BYTES) {
        ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
        _exit(written < 0 ? EXIT_FAILURE : 2);
    }
    if (!is_set(environment))
        start_again(argv, environment);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) = before_libraries;

size_t limits_descriptors(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < DESCRIPTORS_MAX ? limit.rlim_cur : DESCRIPTORS_MAX;
}

static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    rlim_t wanted = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
    if (limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* what is there is looked at next */
}

struct room {
    const char *what, *how; /* in words; the shell's command */
    __rlimit_resource_t resource;
    int protection; /* of a mapping that counts */
};

/* Threads' stacks, arenas and thread-local memory are mapped as the process goes on; what of that fails ends
 * libraries, or keeps OpenBLAS, whose buffer has 128 MiB, busy for ever. */
static int check_room(const struct room *r, uint64_t bytes, struct error *e)
{
    struct rlimit limit;
    void *p = bytes > 0 ? mmap(NULL, bytes, r->protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : NULL;
    if (p != MAP_FAILED) {
        if (p != NULL)
            munmap(p, bytes);
        return 0;
    }
    int reason = errno;
    if (getrlimit(r->resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return error_set(e, ERR_CONFIG, "%llu MiB of %s cannot be had: %s", (unsigned long long)bytes >> 20, r->what,
                         strerror(reason));
    return error_set(e, ERR_CONFIG,
                     "the limit of %s (%s) is %llu MiB, which leaves less than the %llu MiB that are needed; raise it, "
                     "or set none",
                     r->what, r->how, (unsigned long long)limit.rlim_cur >> 20, (unsigned long long)bytes >> 20);
}

int limits_prepare(size_t descriptors, uint64_t address_space, uint64_t data, struct error *e)
{
    static const struct room space = {"address space", "ulimit -v", RLIMIT_AS, PROT_NONE},
                             own = {"a process's own memory", "ulimit -d", RLIMIT_DATA, PROT_READ | PROT_WRITE};
    raise_descriptors();
    if (limits_descriptors() < descriptors)
        return error_set(e, ERR_CONFIG, "the limit of open files (ulimit -n) is %zu, at least %zu are needed; raise it",
                         limits_descriptors(), descriptors);
    int rc = check_room(&space, address_space, e);
    return rc == 0 ? check_room(&own, data, e) : rc;
}
