/* decant doctor: everything that a run needs, looked at before it starts. */
#include <stdlib.h>
#include "cli/command.h"
#include "cli/config_options.h"
#include "cli/doctor.h"
#include "cli/json_print.h"

static const char help[] =
    "example: decant doctor --config deploy/configs/fashion-mnist.ini\n\n"
    "usage: decant doctor [--config FILE] [--set KEY=VALUE]... [--json]\n\n"
    "Looks at programs, configuration, images, directory and disk, endpoints (free, or who answers), Redis, clock,\n"
    "processor, memory and limits. One line each, ok, warn or fail, and for what is not well, what to do. Changes\n"
    "nothing.\n\n" CONFIG_OPTIONS_HELP "  --json            one JSON object on stdout\n\n"
    "Exit status: 0 nothing failed (there may be warnings), 1 something did, 2 wrong usage.\n";

static const struct option options[] = {
    CONFIG_OPTIONS,
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct doctor_line {
    struct config_options config;
    bool json;
};

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct doctor_line *line = arg;
    switch (option) {
    case 'j':
        line->json = true;
        return -1;
    }
    return config_option_take("doctor", option, optarg, &line->config);
}

static bool check_config(struct doctor_report *r, const struct doctor_line *line, struct run_config *c)
{
    struct error e = {0};
    const char *from = line->config.file ? line->config.file : "defaults";
    if (config_options_load(&line->config, c, &e) == 0) {
        doctor_find(r, FINDING_OK, "config", "%s: run '%s'", from, c->run.name);
        return true;
    }
    doctor_find(r, FINDING_FAIL, "config", "%.400s", e.text);
    doctor_advise(r,
                  "`decant config` lists every key with its range; what depends on the configuration is not checked");
    return false;
}

static void check_run(struct doctor_report *r, const struct run_config *c)
{
    struct dataset train;
    struct doctor_needs needs;
    doctor_check_keys(r, c);
    doctor_check_data(r, c, &train);
    bool known = doctor_check_model(r, c, &train, &needs);
    dataset_fini(&train);
    doctor_check_out(r, c, known ? &needs : NULL);
    doctor_check_memory(r, known ? &needs : NULL);
    doctor_check_endpoints(r, c);
    doctor_check_redis(r, c);
}

static int examine(const struct doctor_line *line)
{
    struct doctor_report *r = calloc(1, sizeof *r);
    struct run_config *c = calloc(1, sizeof *c);
    int code = COMMAND_FAILED;
    if (r && c) {
        doctor_check_programs(r);
        bool valid = check_config(r, line, c);
        doctor_check_clock(r);
        doctor_check_cpu(r, valid ? c : NULL);
        doctor_check_limits(r);
        if (valid)
            check_run(r, c);
        else
            doctor_check_memory(r, NULL);
        if (!line->json)
            doctor_print(r, command_colours(stdout), stdout);
        bool printed = !line->json || json_print(doctor_json(r), stdout) == 0;
        code = printed && !doctor_failed(r) ? COMMAND_DONE : COMMAND_FAILED;
    }
    free(r);
    free(c);
    return code;
}

static const struct command_options command = {.name = "doctor", .help = help, .options = options, .take = take_option};

int command_doctor(int argc, char **argv)
{
    struct doctor_line line = {0};
    int code = command_take_options(&command, argc, argv, &line);
    return code >= 0 ? code : examine(&line);
}
