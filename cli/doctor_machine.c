/* What does not depend on where the run goes: programs, clock, processor, memory, limits. */
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>
#include "cli/doctor.h"
#include "common/blas.h"
#include "common/files.h"
#include "common/kernels.h"
#include "worker/model_spec.h"

enum { PATH_BYTES = 1280, VERSION_MAX = 128, FILES_WANTED = 1024 /* sockets of some hundred workers; arbitrary */ };

const char *doctor_bytes(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    snprintf(out, 32, "%.*f %s", unit > 0 && value < 100, value, units[unit]);
    return out;
}

/* ---- programs ---- */

static size_t read_some(int fd, char *out, size_t size)
{
    size_t used = 0;
    for (ssize_t n; used < size && (n = read(fd, out + used, size - used)) != 0;) {
        if (n < 0 && errno != EINTR)
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    return used;
}

/* Starts `path --version` with its stdout on fd. */
static int spawn_version(const char *path, int fd, pid_t *pid)
{
    char version[] = "--version", *argv[] = {(char *)path, version, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    int failed = posix_spawn(pid, path, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* What `path --version` says after its name: "protocol 1". Empty when it cannot be had. */
static void read_version(const char *path, char out[VERSION_MAX])
{
    char text[VERSION_MAX] = "";
    int ends[2], status;
    pid_t pid;
    out[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    int failed = spawn_version(path, ends[1], &pid);
    close(ends[1]);
    if (failed == 0) {
        text[read_some(ends[0], text, sizeof text - 1)] = '\0';
        waitpid(pid, &status, 0);
        text[strcspn(text, "\n")] = '\0';
        const char *comma = strstr(text, ", ");
        snprintf(out, VERSION_MAX, "%s", comma ? comma + 2 : "");
    }
    close(ends[0]);
}

static void check_program(struct doctor_report *r, const char *directory, const char *name, const char *ours)
{
    char path[PATH_BYTES], version[VERSION_MAX];
    if (path_format(path, sizeof path, "%s/%s", directory, name) != 0 || access(path, X_OK) != 0) {
        doctor_find(r, FINDING_FAIL, "programs", "%s is not in %s", name, directory);
        doctor_advise(r, "`decant train` starts the programs that lie beside it: build or install all four together");
        return;
    }
    read_version(path, version);
    if (strcmp(version, ours) == 0) {
        doctor_find(r, FINDING_OK, "programs", "%s, %s", name, version);
        return;
    }
    doctor_find(r, FINDING_FAIL, "programs", "%s says '%s', this program '%s'", path, version, ours);
    doctor_advise(r, "build or install all four together");
}

void doctor_check_programs(struct doctor_report *r)
{
    static const char *const names[] = {"decant-parameter", "decant-prototype", "decant-worker"};
    char self[PATH_BYTES], ours[VERSION_MAX];
    size_t size = sizeof self;
    char *slash = uv_exepath(self, &size) == 0 ? strrchr(self, '/') : NULL;
    if (!slash) {
        doctor_find(r, FINDING_FAIL, "programs", "cannot find the directory of this program");
        return;
    }
    read_version(self, ours);
    *slash = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_program(r, self, names[i], ours);
}

/* ---- clock ---- */

/* A clock behind the build of this program cannot be right. */
void doctor_check_clock(struct doctor_report *r)
{
    struct stat st;
    char text[32];
    time_t now = time(NULL);
    struct tm t;
    gmtime_r(&now, &t);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &t);
    bool behind = stat("/proc/self/exe", &st) == 0 && now + 60 < st.st_mtim.tv_sec;
    doctor_find(r, behind ? FINDING_WARN : FINDING_OK, "clock", "%s%s", text,
                behind ? ", which is before this program was built" : "");
    if (behind)
        doctor_advise(r, "set the clock (timedatectl set-ntp true); ages in logs, metrics and the mirror are wrong");
}

/* ---- processor ---- */

/* The program was started anew when OpenBLAS chose badly (common/blas.h): what is left is a choice of the user's, or a
 * program that could not be started anew. */
static void check_blas(struct doctor_report *r)
{
    const char *better = blas_better_kernels(blas_kernels(), kernels_chosen());
    doctor_find(r, better ? FINDING_WARN : FINDING_OK, "blas", "OpenBLAS runs its %s kernels", blas_kernels());
    if (better)
        doctor_advise(r, "diagnostics and evaluation take several times as long: %s %s=%s",
                      getenv(BLAS_VARIABLE) ? "unset it, or set" : "set", BLAS_VARIABLE, better);
}

static void check_kernels(struct doctor_report *r, const struct run_config *c)
{
    struct error e = {0};
    if (kernels_from_environment(&e) != 0) {
        doctor_find(r, FINDING_FAIL, "cpu", "%s", e.text);
        doctor_advise(r, "runs that must have the same bytes need the same choice on every machine: take a common one");
        return;
    }
    if (c && model_precision_check(c, &e) != 0) {
        doctor_find(r, FINDING_FAIL, "cpu", "%s", e.text);
        return;
    }
    bool slow = kernels_chosen() == KERNELS_PORTABLE;
    doctor_find(r, slow ? FINDING_WARN : FINDING_OK, "cpu", "AVX2 %s, AVX-512 %s, AMX %s; kernels %s, bf16 %s",
                kernels_possible(KERNELS_AVX2) ? "yes" : "no", kernels_possible(KERNELS_AVX512) ? "yes" : "no",
                kernels_possible(KERNELS_AMX) ? "yes" : "no", kernels_name(kernels_chosen()),
                kernels_multiply_bf16(kernels_chosen()) ? "yes" : "no");
    if (slow)
        doctor_advise(r, "the portable kernels take several times as long: %s",
                      kernels_possible(KERNELS_AVX2) ? "unset " KERNELS_VARIABLE : "another machine will be faster");
}

void doctor_check_cpu(struct doctor_report *r, const struct run_config *c)
{
    unsigned cores = uv_available_parallelism();
    check_kernels(r, c);
    check_blas(r);
    if (!c || c->worker.threads <= (int64_t)cores) {
        doctor_find(r, FINDING_OK, "cores", "%u usable", cores);
        return;
    }
    doctor_find(r, FINDING_WARN, "cores", "%u usable, worker.threads = %lld", cores, (long long)c->worker.threads);
    doctor_advise(r, "set worker.threads so that workers times threads is at most %u", cores);
}

/* ---- memory and limits ---- */

/* MemAvailable counts what the system could free; 0 when it is not told. */
static uint64_t available_memory(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && kib == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, "MemAvailable:", 13) == 0)
            kib = strtoull(line + 13, NULL, 10);
    if (f)
        fclose(f);
    uint64_t limit = uv_get_constrained_memory(); /* of a container */
    return limit > 0 && limit < kib * 1024 ? limit : kib * 1024;
}

void doctor_check_memory(struct doctor_report *r, const struct doctor_needs *needs)
{
    char have[32], need[32];
    uint64_t available = available_memory();
    if (available == 0)
        return;
    doctor_bytes(available, have);
    if (!needs) {
        doctor_find(r, FINDING_OK, "memory", "%s available", have);
        return;
    }
    bool enough = available > needs->memory_bytes;
    doctor_find(r, enough ? FINDING_OK : FINDING_WARN, "memory",
                "%s available; both servers and one worker hold about %s, besides activations", have,
                doctor_bytes(needs->memory_bytes, need));
    if (!enough)
        doctor_advise(r, "free memory, or spread the processes over machines; data.limit and mixture.components count");
}

void doctor_check_limits(struct doctor_report *r)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    bool enough = files.rlim_cur >= FILES_WANTED;
    doctor_find(r, enough ? FINDING_OK : FINDING_WARN, "limits", "%llu open files", (unsigned long long)files.rlim_cur);
    if (!enough)
        doctor_advise(r, "a server holds a socket for each worker: ulimit -n %d before it starts", FILES_WANTED);
}
