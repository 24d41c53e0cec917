/* decant-worker: the command line of the worker. */
#include <stdio.h>
#include "common/vecmath.h"
#include "common/blas.h"
#include "common/memory.h"
#include "proto/process_options.h"
#include "worker/heartbeat.h"
#include "worker/service.h"

/* Does a worker with this configuration live on this machine? */
static int check_health(const struct process_options *o)
{
    struct error e = {0};
    char path[HEARTBEAT_PATH_MAX], line[HEARTBEAT_LINE_MAX];
    int rc = heartbeat_path(&o->config, path);
    rc = rc == 0 ? heartbeat_read(path, line, &e) : error_set(&e, rc, "worker.heartbeat: the path is too long");
    if (rc == 0)
        printf("ok %s\n", line);
    else
        fprintf(stderr, "%s: %s\n", o->program, e.text);
    return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    static struct process_options o = {
        /* static: the configuration is several KiB */
        .program = "decant-worker",
        .purpose =
            "Computes slots that the parameter server leases: statistics to the prototype server, gradients back.",
        .signals = "SIGTERM and SIGINT finish the slots in hand and exit; a second one does not wait.",
        .can_resume = false,
        .trains = true,
    };
    struct error e = {0};
    int code = process_options_parse(&o, argc, argv);
    if (code >= 0)
        return code;
    if (o.health)
        return check_health(&o);
    log_init("worker", o.level);
    memory_keep();
    compute_thread_init();
    blas_single_threaded();
    bool diverged;
    if (worker_service_run(&o.config, &diverged, &e) == 0)
        return EXIT_DONE;
    log_error("event=failed error=%s cause=\"%s\"", error_name(e.code), e.text);
    if (diverged)
        return EXIT_DIVERGED;
    /* A key, or images that are not there or not what they should be: a new start would end the same way. */
    bool lasting = e.code == ERR_CONFIG || e.code == ERR_FORMAT || e.code == ERR_NOT_FOUND;
    return lasting ? EXIT_USAGE : EXIT_FAILED;
}
