/* The small files of a run's directory from foreign bytes: `latest`, a server's generation, the list of processes, a
 * key, a password, and the name of a step's directory. An input is these six, a frame each. */
#include <stdlib.h>
#include <sys/stat.h>
#include "cli/checkpoint.h"
#include "cli/pid_file.h"
#include "common/log.h"
#include "proto/keys.h"
#include "proto/redis_login.h"
#include "proto/run_dir.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

enum { STEP = 7 };

/* One sound step, so that `latest` has something to name. */
static const struct run_config *run(void)
{
    static struct run_config c;
    static const uint8_t empty[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    if (c.run.out[0] != '\0')
        return &c;
    config_defaults(run_config_keys, run_config_key_count, &c);
    log_init("fuzz", LOG_ERROR);
    ASSERT(mkdir(scratch_path("checkpoints"), 0700) == 0);
    ASSERT(mkdir(scratch_path("checkpoints/step-000007"), 0700) == 0);
    scratch_put("checkpoints/step-000007/" ENCODER_FILE, empty, sizeof empty);
    scratch_put("checkpoints/step-000007/" MIXTURE_FILE, empty, sizeof empty);
    strcpy(c.run.out, scratch_path(""));
    return &c;
}

static int take_any(void *arg, const char *path, uint64_t step, struct error *e)
{
    (void)path;
    (void)e;
    *(uint64_t *)arg = step;
    return 0;
}

/* Whatever it says, readers find the step and resuming puts it right. */
static void check_latest(const struct buf *b)
{
    char directory[CHECKPOINT_PATH_MAX];
    struct error e = {0};
    uint64_t step = 0;
    scratch_put("checkpoints/latest", b->data, b->size);
    if (checkpoint_find(run()->run.out, directory, &e) != 0)
        ASSERT(e.code != 0 && e.text[0] != '\0');
    ASSERT(run_dir_resume(run(), ENCODER_FILE, UINT64_MAX, take_any, &step, NULL) == 0 && step == STEP);
    ASSERT(checkpoint_find(run()->run.out, directory, NULL) == 0 && strstr(directory, "/step-000007") != NULL);
}

static void check_generation(const struct buf *b)
{
    uint64_t raised;
    struct error e = {0};
    scratch_put("generation-parameter", b->data, b->size);
    uint64_t before = run_dir_generation(run(), SERVER_PARAMETER);
    if (run_dir_raise_generation(run(), SERVER_PARAMETER, &raised, &e) == 0)
        ASSERT(raised == before + 1 && run_dir_generation(run(), SERVER_PARAMETER) == raised);
    else
        ASSERT((before == UINT64_MAX || before == UINT32_MAX - 1) && e.text[0] != '\0');
}

static void check_pids(const struct buf *b)
{
    struct error e = {0};
    scratch_put("pids", b->data, b->size);
    int rc = pid_file_check(run()->run.out, 0, &e);
    ASSERT((rc == 0) == (e.text[0] == '\0')); /* none of them can be at work here */
}

static void check_key(const struct buf *b)
{
    char key[NET_KEY_TEXT];
    struct error e = {0};
    if (keys_read_public(scratch_file(b->data, b->size), key, &e) == 0)
        ASSERT(strlen(key) == NET_KEY_TEXT - 1);
    else
        ASSERT(e.code == ERR_CONFIG && e.text[0] != '\0');
}

static void check_password(const struct buf *b)
{
    static struct run_config c;
    struct redis_login login;
    struct error e = {0};
    strcpy(c.redis.password_file, scratch_file(b->data, b->size));
    if (redis_login_read(&c, &login, &e) == 0)
        ASSERT(login.password[0] != '\0' && strlen(login.password) < sizeof login.password);
    else
        ASSERT(e.code == ERR_CONFIG && e.text[0] != '\0');
}

static void check_name(const struct buf *b)
{
    char *name = calloc(1, b->size + 1);
    uint64_t step;
    memcpy(name, b->data, b->size);
    if (run_dir_parse_step(name, &step))
        ASSERT(strncmp(name, "step-", 5) == 0 && strlen(name) > 5);
    free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(const struct buf *) = {check_latest, check_generation, check_pids,
                                                         check_key,    check_password,   check_name};
    struct buf *frames[FUZZ_FRAMES_MAX];
    size_t n = fuzz_frames(data, size, frames);
    (void)run();
    for (size_t i = 0; i < n && i < sizeof checks / sizeof checks[0]; i++)
        checks[i](frames[i]);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
    return 0;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static const char *const seeds[][6] = {
        {"step-000007\n", "12\n", "launcher 1\nworker-0 4194304\n", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7\n",
         "secret\nrest", "step-000007"},
        {"step-8", "4294967294", "", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLVFdTl", "p\r\n", "step-18446744073709551615"},
    };
    size_t size = 0;
    if (i >= sizeof seeds / sizeof seeds[0])
        return 0;
    for (size_t k = 0; k < 6; k++)
        size = fuzz_add_frame(out, size, room, seeds[i][k], strlen(seeds[i][k]));
    return size;
}
