/* Paths, the search for a step to resume from, and start counters. `latest` is written last: it never names a step
 * that is not complete. Runs at start, and on a thread of libuv's pool while training. */
#include "proto/run_dir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "common/log.h"
#include "common/safetensors.h"

enum { GENERATION_BYTES_MAX = 64, POINTER_MAX = 128 /* bytes of latest, best and candidate */ };
static const uint64_t GENERATION_MAX = UINT32_MAX - 1;

static int too_long(const struct run_config *c, struct error *e)
{
    return error_set(e, ERR_RANGE, "run.out = %s: the path is too long", c->run.out);
}

int run_dir_step_path(char path[RUN_PATH_MAX], const struct run_config *c, uint64_t step, const char *file,
                      struct error *e)
{
    int rc = path_format(path, RUN_PATH_MAX, "%s/checkpoints/step-%06" PRIu64 "%s%s", c->run.out, step, file ? "/" : "",
                         file ? file : "");
    return rc != 0 ? too_long(c, e) : 0;
}

int run_dir_prepare_step(char path[RUN_PATH_MAX], const struct run_config *c, uint64_t step, const char *file,
                         struct error *e)
{
    int rc = run_dir_step_path(path, c, step, NULL, e);
    if (rc == 0)
        rc = dir_make(path, e);
    return rc == 0 ? run_dir_step_path(path, c, step, file, e) : rc;
}

/* ---- which steps there are ---- */

/* Other ways to write the number would name a directory that run_dir_step_path does not. */
bool run_dir_parse_step(const char *name, uint64_t *step)
{
    char canonical[32];
    if (sscanf(name, "step-%" SCNu64, step) != 1)
        return false;
    snprintf(canonical, sizeof canonical, "step-%06" PRIu64, *step);
    return strcmp(name, canonical) == 0;
}

/* The largest step below *step that has a directory. */
static bool find_below(const char *dir, uint64_t *step)
{
    DIR *d = opendir(dir);
    bool found = false;
    uint64_t best = 0, candidate;
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        if (run_dir_parse_step(entry->d_name, &candidate) && candidate < *step && (!found || candidate > best)) {
            best = candidate;
            found = true;
        }
    if (d != NULL)
        closedir(d);
    if (found)
        *step = best;
    return found;
}

/* ---- which files a step has ---- */

/* Which of them: a joint run has no prototype server, a stream no parameter server. */
struct step_files {
    const char *const *names;
    size_t count;
};

static struct step_files step_files_of(const struct run_config *c)
{
    static const char *const files[] = {ENCODER_FILE, MIXTURE_FILE};
    if (c->run.mode == MODE_STREAM)
        return (struct step_files){&files[1], 1};
    return (struct step_files){files, c->loss.prototypes == PROTOTYPES_JOINT ? 1 : 2};
}

bool run_dir_step_complete(const struct run_config *c, uint64_t step)
{
    const struct step_files files = step_files_of(c);
    char path[RUN_PATH_MAX];
    for (size_t i = 0; i < files.count; i++)
        if (run_dir_step_path(path, c, step, files.names[i], NULL) != 0 || access(path, R_OK) != 0)
            return false;
    return true;
}

bool run_dir_newest(const struct run_config *c, uint64_t *step)
{
    char dir[RUN_PATH_MAX];
    if (path_format(dir, sizeof dir, "%s/checkpoints", c->run.out) != 0)
        return false;
    for (*step = UINT64_MAX; find_below(dir, step);)
        if (run_dir_step_complete(c, *step))
            return true;
    return false;
}

/* Present, though perhaps not to be read by us. */
static bool step_files_exist(const struct run_config *c, uint64_t step)
{
    const struct step_files files = step_files_of(c);
    char path[RUN_PATH_MAX];
    for (size_t i = 0; i < files.count; i++)
        if (run_dir_step_path(path, c, step, files.names[i], NULL) != 0 ||
            (access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)))
            return false;
    return true;
}

/* ---- whether there ever was one ---- */

static int checkpointed_path(char path[RUN_PATH_MAX], const struct run_config *c, struct error *e)
{
    return path_format(path, RUN_PATH_MAX, "%s/checkpointed", c->run.out) == 0 ? 0 : too_long(c, e);
}

static int note_checkpointed(const struct run_config *c, struct error *e)
{
    static const char text[] = "this run has had a checkpoint; without one, resuming it would begin again\n";
    char path[RUN_PATH_MAX];
    int rc = checkpointed_path(path, c, e);
    if (rc != 0 || access(path, F_OK) == 0)
        return rc;
    return file_write_atomic(path, &(struct file_part){text, sizeof text - 1}, 1, e);
}

int run_dir_start_over(const struct run_config *c, struct error *e)
{
    char path[RUN_PATH_MAX];
    int rc = checkpointed_path(path, c, e);
    if (rc == 0 && unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR)
        rc = error_set(e, ERR_IO, "remove %s: %s", path, strerror(errno));
    return rc;
}

/* Nothing was found there: was there ever anything? */
static int check_never_checkpointed(const struct run_config *c, const char *dir, struct error *e)
{
    char path[RUN_PATH_MAX];
    int rc = checkpointed_path(path, c, e);
    if (rc != 0 || access(path, F_OK) != 0)
        return rc;
    return error_set(e, ERR_STATE,
                     "%s holds no complete checkpoint, but the run has had one (%s): put it back, or let the run begin "
                     "again with decant train --from-start, or by removing that file",
                     dir, path);
}

/* A directory that may be read, or nothing at all. */
static int check_directory(const char *dir, struct error *e)
{
    DIR *d = opendir(dir);
    if (d != NULL) {
        closedir(d);
        return 0;
    }
    if (errno == ENOENT)
        return 0;
    return error_set(e, ERR_IO, "%s: %s; checkpoints are read and written there", dir, strerror(errno));
}

int run_dir_check_resume(const struct run_config *c, bool *any, struct error *e)
{
    char dir[RUN_PATH_MAX];
    *any = false;
    if (path_format(dir, sizeof dir, "%s/checkpoints", c->run.out) != 0)
        return too_long(c, e);
    int rc = check_directory(dir, e);
    if (rc != 0)
        return rc;
    for (uint64_t step = UINT64_MAX; !*any && find_below(dir, &step);)
        *any = step_files_exist(c, step);
    return *any ? 0 : check_never_checkpointed(c, dir, e);
}

static int point_latest(const struct run_config *c, uint64_t step, struct error *e)
{
    char path[RUN_PATH_MAX], text[32];
    if (path_format(path, sizeof path, "%s/checkpoints/latest", c->run.out) != 0)
        return too_long(c, e);
    int length = snprintf(text, sizeof text, "step-%06" PRIu64 "\n", step);
    return file_write_atomic(path, &(struct file_part){text, (size_t)length}, 1, e);
}

int run_dir_read_pointer(const char *path, uint64_t *step, struct error *e)
{
    char name[POINTER_MAX + 1] = "";
    struct buf *text = NULL;
    int rc = file_read(path, POINTER_MAX, &text, e);
    if (rc != 0)
        return rc;
    memcpy(name, text->data, text->size);
    buf_unref(&text);
    name[strcspn(name, " \r\n")] = '\0';
    return run_dir_parse_step(name, step) ? 0 : error_set(e, ERR_FORMAT, "%s: expected step-NNNNNN", path);
}

static bool latest_is_sound(const struct run_config *c)
{
    char path[RUN_PATH_MAX];
    uint64_t step;
    return path_format(path, sizeof path, "%s/checkpoints/latest", c->run.out) == 0 &&
           run_dir_read_pointer(path, &step, NULL) == 0 && run_dir_step_complete(c, step);
}

/* `latest` is for readers. Resuming does not need it, but corrects it. */
static void repair_latest(const struct run_config *c, uint64_t step)
{
    struct error why = {0};
    if (!latest_is_sound(c) && point_latest(c, step, &why) != 0)
        log_warn("event=latest_not_repaired cause=\"%s\"", why.text);
}

static bool is_kept_for_good(const struct run_config *c, uint64_t step)
{
    return c->run.checkpoint_keep_every > 0 && step % (uint64_t)c->run.checkpoint_keep_every == 0;
}

static bool is_named(const char *checkpoints, const char *pointer, uint64_t step)
{
    char path[RUN_PATH_MAX];
    uint64_t named;
    return path_format(path, sizeof path, "%s/%s", checkpoints, pointer) == 0 &&
           run_dir_read_pointer(path, &named, NULL) == 0 && named == step;
}

static void remove_file(const struct run_config *c, uint64_t step, const char *file)
{
    char path[RUN_PATH_MAX];
    if (run_dir_step_path(path, c, step, file, NULL) == 0)
        unlink(path);
}

/* Deletes only the files that belong there: if somebody keeps more in the directory, it stays. */
static void remove_step(const struct run_config *c, uint64_t step)
{
    const struct step_files files = step_files_of(c);
    char path[RUN_PATH_MAX];
    for (size_t i = 0; i < files.count; i++)
        remove_file(c, step, files.names[i]);
    if (run_dir_step_path(path, c, step, NULL, NULL) == 0)
        rmdir(path);
}

/* With what a process that was killed left half written; nobody may be writing there. */
static void remove_old_step(const struct run_config *c, uint64_t step)
{
    remove_file(c, step, ENCODER_FILE ".inprogress");
    remove_file(c, step, MIXTURE_FILE ".inprogress");
    remove_step(c, step);
}

static int prune(const struct run_config *c, struct error *e)
{
    char dir[RUN_PATH_MAX];
    int64_t complete = 0, keep = c->run.checkpoint_keep > 0 ? c->run.checkpoint_keep : INT64_MAX;
    if (path_format(dir, sizeof dir, "%s/checkpoints", c->run.out) != 0)
        return too_long(c, e);
    for (uint64_t step = UINT64_MAX; find_below(dir, &step);) {
        bool whole = step_files_exist(c, step);
        bool kept = is_kept_for_good(c, step) || is_named(dir, "best", step) || is_named(dir, "candidate", step);
        if (whole ? complete >= keep && !kept : complete > 0)
            remove_old_step(c, step);
        else
            complete += whole;
    }
    return 0;
}

void run_dir_step_abandoned(const struct run_config *c, uint64_t step)
{
    if (!step_files_exist(c, step))
        remove_step(c, step);
}

int run_dir_step_written(const struct run_config *c, uint64_t step, struct error *e)
{
    if (!run_dir_step_complete(c, step))
        return 0; /* the other server will finish the step */
    int rc = point_latest(c, step, e);
    if (rc == 0)
        rc = note_checkpointed(c, e);
    return rc == 0 ? prune(c, e) : rc;
}

static int check_step(const struct run_config *c, uint64_t step, struct error *e)
{
    const struct step_files files = step_files_of(c);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < files.count; i++) {
        char path[RUN_PATH_MAX];
        struct safetensors file;
        rc = run_dir_step_path(path, c, step, files.names[i], e);
        if (rc == 0)
            rc = safetensors_read(path, &file, e);
        if (rc == 0)
            safetensors_fini(&file);
    }
    return rc;
}

/* ---- resuming ---- */

static bool worth_an_older_step(int rc)
{
    return rc == ERR_FORMAT || rc == ERR_IO || rc == ERR_NOT_FOUND || rc == ERR_RANGE;
}

int run_dir_resume(const struct run_config *c, const char *file, uint64_t step_max, run_dir_load *load, void *arg,
                   struct error *e)
{
    char dir[RUN_PATH_MAX], path[RUN_PATH_MAX];
    bool damaged = false;
    if (path_format(dir, sizeof dir, "%s/checkpoints", c->run.out) != 0)
        return too_long(c, e);
    int listable = check_directory(dir, e);
    if (listable != 0)
        return listable;
    for (uint64_t step = step_max < UINT64_MAX ? step_max + 1 : step_max; find_below(dir, &step);) {
        struct error why = {0};
        int rc = run_dir_step_path(path, c, step, file, &why);
        if (rc == 0)
            rc = check_step(c, step, &why);
        if (rc == 0)
            rc = load(arg, path, step, &why);
        if (rc == 0) {
            repair_latest(c, step);
            return 0;
        }
        if (!worth_an_older_step(rc))
            return error_set(e, rc, "%s", why.text);
        damaged = damaged || step_files_exist(c, step);
        log_warn("event=checkpoint_passed_over step=%" PRIu64 " cause=\"%s\"", step, why.text);
    }
    if (damaged)
        return error_set(e, ERR_FORMAT,
                         "%s: every complete checkpoint is damaged or may not be read; restore one, or remove the "
                         "directory to start over",
                         dir);
    if (step_max == UINT64_MAX) {
        int rc = check_never_checkpointed(c, dir, e);
        if (rc != 0)
            return rc;
    }
    return error_set(e, ERR_NOT_FOUND, "%s: no complete checkpoint", dir);
}

/* ---- one process at a time ---- */

int run_dir_lock(const struct run_config *c, const char *holder, int *fd, struct error *e)
{
    char path[RUN_PATH_MAX];
    struct error why = {0};
    if (path_format(path, sizeof path, "%s/lock-%s", c->run.out, holder) != 0)
        return too_long(c, e);
    int rc = dir_make(c->run.out, e);
    if (rc != 0 || (rc = file_lock(path, fd, &why)) == 0)
        return rc;
    return error_set(e, rc, "%s%s", why.text,
                     rc == ERR_STATE ? "; only one may work in a directory, stop it first" : "");
}

/* Errors other than "not there" may be transient; if not, the write that follows reports them. */
int run_dir_lock_held(const struct run_config *c, const char *holder, int fd, struct error *e)
{
    char path[RUN_PATH_MAX];
    struct stat held, there;
    if (path_format(path, sizeof path, "%s/lock-%s", c->run.out, holder) != 0)
        return too_long(c, e);
    bool gone = stat(path, &there) != 0;
    if (gone ? errno != ENOENT && errno != ENOTDIR : fstat(fd, &held) != 0)
        return 0;
    if (!gone && held.st_dev == there.st_dev && held.st_ino == there.st_ino)
        return 0;
    return error_set(e, ERR_STATE,
                     "%s was removed or replaced while this process was at work in the directory; it writes nothing "
                     "more there, because another process may",
                     path);
}

/* ---- generation ---- */

static int read_generation(const char *path, uint64_t *generation, struct error *e)
{
    struct buf *text = NULL;
    char digits[GENERATION_BYTES_MAX + 1] = "", *end;
    int rc = file_read(path, GENERATION_BYTES_MAX, &text, e);
    if (rc != 0)
        return rc;
    memcpy(digits, text->data, text->size);
    buf_unref(&text);
    errno = 0;
    *generation = strtoull(digits, &end, 10);
    bool number = isdigit((unsigned char)digits[0]) && errno == 0; /* strtoull takes blanks and a minus, too */
    if (!number || (*end != '\n' && *end != '\0') || *generation > GENERATION_MAX)
        return error_set(e, ERR_FORMAT, "%s: '%s' is not a generation; remove the file when no worker is running", path,
                         digits);
    return 0;
}

uint64_t run_dir_generation(const struct run_config *c, enum server server)
{
    char path[RUN_PATH_MAX];
    uint64_t generation = 0;
    int rc = path_format(path, sizeof path, "%s/generation-%s", c->run.out, server_name(server));
    if (rc == 0)
        rc = read_generation(path, &generation, NULL);
    return rc == 0 || rc == ERR_NOT_FOUND ? generation : UINT64_MAX;
}

int run_dir_raise_generation(const struct run_config *c, enum server server, uint64_t *generation, struct error *e)
{
    char path[RUN_PATH_MAX], text[32];
    if (path_format(path, sizeof path, "%s/generation-%s", c->run.out, server_name(server)) != 0)
        return too_long(c, e);
    *generation = 0;
    int rc = read_generation(path, generation, e);
    if (rc != 0 && rc != ERR_NOT_FOUND)
        return rc;
    if (*generation == GENERATION_MAX)
        return error_set(e, ERR_FORMAT,
                         "%s: %" PRIu64 " is the last generation; remove the file when no worker is running", path,
                         *generation);
    int length = snprintf(text, sizeof text, "%" PRIu64 "\n", ++*generation);
    return file_write_atomic(path, &(struct file_part){text, (size_t)length}, 1, e);
}
