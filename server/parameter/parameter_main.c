/* decant-parameter: the command line of the parameter server. */
#include "common/vecmath.h"
#include "common/blas.h"
#include "common/memory.h"
#include "proto/process_options.h"
#include "server/shell/server_health.h"
#include "server/parameter/service.h"

int main(int argc, char **argv)
{
    static struct process_options o = {
        /* static: the configuration is several KiB */
        .program = "decant-parameter",
        .purpose = "Owns the encoder's weights: leases slots to workers, adds their gradients, updates, publishes.",
        .signals =
            "SIGTERM and SIGINT finish the current step, write a checkpoint and exit; a second one does not wait.",
        .can_resume = true,
        .listens = true,
        .trains = true,
    };
    struct error e = {0};
    int code = process_options_parse(&o, argc, argv);
    if (code >= 0)
        return code;
    if (o.health)
        return server_health_check(&o, SERVER_PARAMETER);
    log_init("parameter", o.level);
    memory_keep();
    compute_thread_init();
    blas_single_threaded();
    if (parameter_service_run(&o.config, o.resume, &e) == 0)
        return EXIT_DONE;
    log_error("event=failed error=%s cause=\"%s\"", error_name(e.code), e.text);
    bool lasting = e.code == ERR_CONFIG || e.code == ERR_FORMAT; /* a new start would end the same way */
    return lasting ? EXIT_USAGE : EXIT_FAILED;
}
