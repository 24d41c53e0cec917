/* Findings and how they are told; endpoints that are free, taken, wrong; directories; estimates. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "cli/doctor.h"
#include "common/blas.h"
#include "common/kernels.h"
#include "tests/unit/cli/checkpoint_rig.h"

static struct doctor_report *new_report(void)
{
    struct doctor_report *r = calloc(1, sizeof *r);
    assert_non_null(r);
    return r;
}

/* The finding about `name` whose text has `what`. */
static const struct finding *find(const struct doctor_report *r, const char *name, const char *what)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->items[i].name, name) == 0 && strstr(r->items[i].text, what))
            return &r->items[i];
    for (size_t i = 0; i < r->count; i++)
        print_error("%s: %s\n", r->items[i].name, r->items[i].text);
    fail_msg("no finding about %s says '%s'", name, what);
    return NULL;
}

static void load(struct run_config *c, const char *const *sets, size_t n)
{
    struct error e = {0};
    if (run_config_load(c, NULL, NULL, sets, n, &e) != 0)
        fail_msg("%s", e.text);
}

static void test_report(void **state)
{
    (void)state;
    struct doctor_report *r = new_report();
    char text[1024] = "";
    assert_false(doctor_failed(r));
    doctor_find(r, FINDING_OK, "config", "fine");
    doctor_find(r, FINDING_WARN, "disk", "%d left", 3);
    doctor_advise(r, "delete %s", "something");
    assert_false(doctor_failed(r));
    FILE *f = fmemopen(text, sizeof text, "w");
    doctor_print(r, false, f);
    fclose(f);
    assert_non_null(strstr(text, "ok    config                fine\nwarn  disk                  3 left\n"));
    assert_non_null(strstr(text, "-> delete something\n1 ok, 1 warning, 0 failed\n"));
    doctor_find(r, FINDING_FAIL, "out", "no");
    assert_true(doctor_failed(r));
    json_t *o = doctor_json(r);
    assert_false(json_boolean_value(json_object_get(o, "ok")));
    assert_int_equal(json_array_size(json_object_get(o, "findings")), 3);
    json_decref(o);
    free(r);
}

static void test_bytes(void **state)
{
    (void)state;
    char out[32];
    assert_string_equal(doctor_bytes(0, out), "0 B");
    assert_string_equal(doctor_bytes(999, out), "999 B");
    assert_string_equal(doctor_bytes(1234567, out), "1.2 MB");
    assert_string_equal(doctor_bytes(123456789, out), "123 MB");
    doctor_bytes(UINT64_MAX, out);
}

static void test_endpoints(void **state)
{
    struct rig *rig = *state;
    struct run_config c;
    char parameter[128], publish[128], prototype[128];
    struct doctor_report *r = new_report();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/taken", rig->root);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 4), 0);
    snprintf(parameter, sizeof parameter, "net.parameter=ipc://%s/free", rig->root);
    snprintf(publish, sizeof publish, "net.parameter_publish=ipc://%s/taken", rig->root);
    snprintf(prototype, sizeof prototype, "net.prototype=ipc://%s/absent/x", rig->root);
    load(&c, (const char *[]){parameter, publish, prototype, "net.prototype_publish=carrier-pigeon"}, 4);
    doctor_check_endpoints(r, &c);
    assert_int_equal(find(r, "net.parameter", ": free")->state, FINDING_OK);
    assert_int_equal(find(r, "net.parameter_publish", "somebody publishes there")->state, FINDING_OK);
    assert_int_equal(find(r, "net.prototype", "No such file or directory")->state, FINDING_FAIL);
    assert_int_equal(find(r, "net.prototype_publish", "expected tcp:// or ipc://")->state, FINDING_FAIL);
    close(fd);
    free(r);
}

/* By what an address means, not by how it looks. */
static void test_tcp_endpoints(void **state)
{
    struct sockaddr_in taken = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof taken;
    char publish[64];
    struct run_config c;
    struct doctor_report *r = new_report();
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&taken, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&taken, &size), 0);
    snprintf(publish, sizeof publish, "net.parameter_publish=tcp://lo:%u", ntohs(taken.sin_port));
    load(&c,
         (const char *[]){"net.parameter=tcp://localhost:0", publish, "net.prototype=tcp://::1:5711",
                          "net.prototype_publish=tcp://lo:0"},
         4);
    doctor_check_endpoints(r, &c);
    assert_int_equal(find(r, "net.parameter", "tcp://localhost:0: free")->state, FINDING_OK);
    assert_int_equal(find(r, "net.parameter_publish", "in use")->state, FINDING_FAIL);
    assert_int_equal(find(r, "net.prototype", "an IPv6 address has brackets")->state, FINDING_FAIL);
    assert_int_equal(find(r, "net.prototype_publish", "workers cannot connect to an interface")->state, FINDING_WARN);
    close(fd);
    load(&c,
         (const char *[]){"net.parameter=tcp://192.0.2.1:70000", "net.parameter_publish=tcp://*:0",
                          "loss.prototypes=joint"},
         3);
    r->count = 0;
    doctor_check_endpoints(r, &c);
    assert_int_equal(find(r, "net.parameter", "is not HOST:PORT")->state, FINDING_FAIL);
    assert_int_equal(find(r, "net.parameter_publish", ": free")->state, FINDING_OK);
    free(r);
}

/* Something listens that is no ZeroMQ: an HTTP port, say. Being silent or talking otherwise is the same. */
static void test_a_port_that_is_no_server_s(void **state)
{
    struct sockaddr_in taken = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof taken;
    char publish[64], metrics[64];
    struct run_config c;
    struct doctor_report *r = new_report();
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&taken, size), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&taken, &size), 0);
    snprintf(publish, sizeof publish, "net.parameter_publish=tcp://127.0.0.1:%u", ntohs(taken.sin_port));
    snprintf(metrics, sizeof metrics, "metrics.parameter=127.0.0.1:%u", ntohs(taken.sin_port));
    load(&c,
         (const char *[]){publish, metrics, "metrics.prototype=nonsense", "net.parameter=tcp://lo:0",
                          "net.prototype=tcp://lo:0", "net.prototype_publish=tcp://lo:0"},
         6);
    doctor_check_endpoints(r, &c);
    assert_int_equal(find(r, "net.parameter_publish", "does not speak ZeroMQ")->state, FINDING_FAIL);
    assert_int_equal(find(r, "metrics.parameter", "somebody listens there")->state, FINDING_WARN);
    assert_int_equal(find(r, "metrics.prototype", "is not HOST:PORT")->state, FINDING_FAIL);
    close(fd);
    free(r);
}

static void test_joint_has_two_endpoints(void **state)
{
    struct rig *rig = *state;
    struct run_config c;
    char both[2][128];
    struct doctor_report *r = new_report();
    snprintf(both[0], sizeof both[0], "net.parameter=ipc://%s/same", rig->root);
    snprintf(both[1], sizeof both[1], "net.parameter_publish=ipc://%s/same", rig->root);
    load(&c, (const char *[]){both[0], both[1], "loss.prototypes=joint"}, 3);
    doctor_check_endpoints(r, &c);
    assert_int_equal(r->count, 3);
    assert_int_equal(find(r, "net.parameter_publish", "is that of net.parameter too")->state, FINDING_FAIL);
    free(r);
}

/* What another key makes idle is named; what is read, or what nobody set, is not. */
static void test_idle_keys(void **state)
{
    static const struct {
        const char *sets[3], *says;
    } cases[] = {
        {{"loss.prototypes=joint", "mixture.balance=0.2", "mixture.source=views"},
         "mixture.balance, mixture.source do"},
        {{"loss.prototypes=joint", "mixture.dimensions=64", "mixture.components=256"}, NULL},
        {{"optimiser.prototype_lr=5"}, "optimiser.prototype_lr does nothing with loss.prototypes = decoupled"},
        {{"loss.objective=dino", "loss.entropy_weight=2", "loss.center_momentum=0.5"}, "loss.entropy_weight does"},
        {{"loss.entropy_weight=2", "loss.block=64"}, NULL},
        {{"loss.sinkhorn_epsilon=0.1"}, "loss.sinkhorn_epsilon"},
        {{"loss.sinkhorn_epsilon=0.1", "loss.prototypes=joint", "loss.prototype_loss=own"}, NULL},
        {{"loss.coding_rate_epsilon=1", "loss.coding_rate=0"}, "loss.coding_rate_epsilon"},
        {{"loss.coding_rate_epsilon=1", "loss.coding_rate=0", "loss.feature_rate=1"}, NULL},
        {{"encoder.heads=8"}, "encoder.heads does nothing with encoder.model = conv"},
        {{"encoder.heads=8", "encoder.model=vit"}, NULL},
        {{"mixture.reseed_usage=0", "mixture.reseed_max=4"}, "mixture.reseed_max"},
        {{"run.slots=2"}, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run_config c;
        struct doctor_report *r = new_report();
        size_t n = 0;
        while (n < 3 && cases[i].sets[n])
            n++;
        load(&c, cases[i].sets, n);
        doctor_check_keys(r, &c);
        if (!cases[i].says)
            assert_int_equal(r->count, 0);
        else
            assert_int_equal(find(r, "keys", cases[i].says)->state, FINDING_WARN);
        free(r);
    }
}

static void test_data_is_missing(void **state)
{
    (void)state;
    struct run_config c;
    struct dataset train;
    struct doctor_needs needs;
    struct doctor_report *r = new_report();
    load(&c, (const char *[]){"data.path=/nonexistent"}, 1);
    doctor_check_data(r, &c, &train);
    assert_int_equal(find(r, "data", "/nonexistent")->state, FINDING_FAIL);
    assert_false(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(r->count, 1); /* a consequence is not a second finding */
    free(r);
}

static void test_recipe(void **state)
{
    (void)state;
    struct run_config c;
    struct dataset train = {.count = 1000, .height = 28, .width = 28, .channels = 1};
    struct doctor_needs needs;
    struct doctor_report *r = new_report();
    const char *sets[] = {"loss.coding_rate=1", "run.slot_size=64", "augment.preset=photos"};
    load(&c, sets, 2);
    assert_true(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(r->count, 1); /* 128 rows of 128 dimensions, grey */
    sets[1] = "run.slot_size=32";
    train.channels = 3;
    load(&c, sets, 2);
    assert_true(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(find(r, "loss", "the 64 rows of a slot")->state, FINDING_WARN);
    assert_int_equal(find(r, "views", "share their palette")->state, FINDING_WARN);
    r->count = 0;
    load(&c, sets, 3);
    assert_true(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(r->count, 2);
    free(r);
}

static void test_needs(void **state)
{
    (void)state;
    struct run_config c;
    struct dataset train = {.count = 1000, .height = 28, .width = 28, .channels = 1};
    struct doctor_needs needs, joint;
    struct doctor_report *r = new_report();
    const char *sets[] = {"run.slots=1",
                          "run.slot_size=100",
                          "run.epochs=2",
                          "run.checkpoint_every=8",
                          "loss.prototypes=decoupled",
                          "run.checkpoint_keep=1"};
    load(&c, sets, 6);
    assert_true(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(needs.checkpoints, 2); /* one is kept, one written */
    load(&c, sets, 5);
    assert_true(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(needs.checkpoints, 3); /* 8, 16, 20 */
    uint64_t mixture = 1024 * (128 * (8 + 8 + 4 + 4) + 8 + 8 + 4 + 4 + 4);
    assert_in_range(needs.checkpoint_bytes, 16 * needs.parameters + mixture, 17 * needs.parameters + mixture);
    sets[4] = "loss.prototypes=joint";
    load(&c, sets, 5);
    assert_true(doctor_check_model(r, &c, &train, &joint));
    assert_int_equal(joint.parameters, needs.parameters + 1024 * 128);
    sets[4] = "encoder.widths=0";
    load(&c, sets, 5);
    assert_false(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(find(r, "model", "encoder.widths")->state, FINDING_FAIL);
    sets[4] = "encoder.freeze=9";
    load(&c, sets, 5);
    assert_false(doctor_check_model(r, &c, &train, &needs));
    assert_int_equal(find(r, "model", "encoder.freeze = 9")->state, FINDING_FAIL);
    free(r);
}

static void test_out(void **state)
{
    struct rig *rig = *state;
    struct run_config c;
    char out[128];
    struct doctor_report *r = new_report();
    const struct doctor_needs modest = {.checkpoint_bytes = 1, .checkpoints = 1},
                              vast = {.checkpoint_bytes = 1ULL << 60, .checkpoints = 2};
    snprintf(out, sizeof out, "run.out=%s/new/run", rig->root);
    load(&c, (const char *[]){out}, 1);
    doctor_check_out(r, &c, &modest);
    assert_int_equal(find(r, "out", "can be made")->state, FINDING_OK);
    assert_int_equal(find(r, "disk", "1 checkpoints")->state, FINDING_OK);
    r->count = 0;
    doctor_check_out(r, &c, &vast);
    assert_int_equal(find(r, "disk", "2 checkpoints")->state, FINDING_FAIL);
    r->count = 0;
    load(&c, (const char *[]){"run.out=/proc/new"}, 1);
    doctor_check_out(r, &c, NULL);
    assert_int_equal(find(r, "out", "cannot write to /proc")->state, FINDING_FAIL);
    r->count = 0;
    rig_encoder(rig, "held", 8, RIG_INI_JOINT, 1);
    snprintf(out, sizeof out, "%s/held/checkpoints/latest", rig->root);
    assert_int_equal(file_write_atomic(out, &(struct file_part){"step-000008\n", 12}, 1, NULL), 0);
    snprintf(out, sizeof out, "run.out=%s/held", rig->root);
    load(&c, (const char *[]){out}, 1);
    doctor_check_out(r, &c, NULL);
    find(r, "out", "newest checkpoint step-000008");
    free(r);
}

static void test_machine(void **state)
{
    (void)state;
    struct run_config c;
    struct doctor_report *r = new_report();
    const struct doctor_needs vast = {.memory_bytes = UINT64_MAX};
    load(&c, (const char *[]){"worker.threads=256"}, 1);
    doctor_check_clock(r);
    doctor_check_limits(r);
    doctor_check_cpu(r, NULL);
    doctor_check_memory(r, NULL);
    find(r, "cores", "usable");
    find(r, "cpu", kernels_name(kernels_chosen()));
    find(r, "blas", blas_kernels());
    assert_false(doctor_failed(r));
    doctor_check_memory(r, &vast);
    assert_int_equal(find(r, "memory", "hold about")->state, FINDING_WARN);
    free(r);
}

static void test_kernels(void **state)
{
    (void)state;
    struct doctor_report *r = new_report();
    setenv(KERNELS_VARIABLE, "portable", 1);
    doctor_check_cpu(r, NULL);
    assert_int_equal(find(r, "cpu", "kernels portable")->state, FINDING_WARN);
    setenv(KERNELS_VARIABLE, "sse9", 1);
    doctor_check_cpu(r, NULL);
    assert_int_equal(find(r, "cpu", "DECANT_KERNELS=sse9: this machine can use portable")->state, FINDING_FAIL);
    unsetenv(KERNELS_VARIABLE);
    assert_int_equal(kernels_from_environment(NULL), 0);
    free(r);
}

/* What a run in bf16 needs, and what to do without: with the portable kernels nobody has it. */
static void test_precision(void **state)
{
    (void)state;
    struct run_config c;
    struct doctor_report *r = new_report();
    load(&c, (const char *[]){"encoder.precision=bf16"}, 1);
    setenv(KERNELS_VARIABLE, "portable", 1);
    doctor_check_cpu(r, &c);
    const struct finding *f = find(r, "cpu", "encoder.precision = bf16");
    assert_int_equal(f->state, FINDING_FAIL);
    assert_non_null(strstr(f->text, "set encoder.precision = float32"));
    free(r);
    r = new_report();
    unsetenv(KERNELS_VARIABLE);
    doctor_check_cpu(r, &c);
    bool can = kernels_multiply_bf16(kernels_chosen());
    assert_int_equal(find(r, "cpu", can ? "bf16 yes" : "has neither AVX512_BF16 nor AMX")->state,
                     can ? FINDING_OK : FINDING_FAIL);
    free(r);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_report),          CASE(test_bytes),
        CASE(test_endpoints),       CASE(test_joint_has_two_endpoints),
        CASE(test_tcp_endpoints),   CASE(test_a_port_that_is_no_server_s),
        CASE(test_recipe),          CASE(test_needs),
        CASE(test_machine),         CASE(test_kernels),
        CASE(test_precision),       CASE(test_out),
        CASE(test_data_is_missing), CASE(test_idle_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
