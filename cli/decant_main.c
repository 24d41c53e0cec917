/* decant: the command line. Finds the subcommand and hands over. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/child_guard.h"
#include "cli/command.h"
#include "cli/completion.h"
#include "cli/suggest.h"
#include "common/blas.h"
#include "common/kernels.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/version.h"
#include "proto/msg.h"

enum {
    DESCRIPTORS = 64,         /* its own; children have theirs */
    ADDRESS_BYTES = 256 << 20 /* beside what is mapped at the start: stacks and arenas of a handful of threads */
};

struct subcommand {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
    bool computes; /* runs kernels, or starts what does: DECANT_KERNELS is checked first */
};

static int print_help(int argc, char **argv);
static int print_completion(int argc, char **argv);
static int print_version(int argc, char **argv);

static const struct subcommand subcommands[] = {
    {"train", "train an encoder: starts the servers and workers, watches over them, evaluates", command_train, true},
    {"resume", "go on with a run from its newest checkpoint", command_resume, true},
    {"serve-mixture", "the prototype server alone, for a training loop of your own (PyTorch, JAX ...)",
     command_serve_mixture, true},
    {"stop", "end a run that is at work: finish the step, write a checkpoint", command_stop, false},
    {"eval", "k-NN, linear probe and prototype health of a checkpoint", command_eval, true},
    {"status", "one screen about a run, live from Redis or from its checkpoint", command_status, false},
    {"top", "a run as it goes on: progress, prototypes, workers, on a screen drawn every second", command_top, false},
    {"dashboard", "a page for the browser that shows a run, or two, as they go on", command_dashboard, false},
    {"plot", "pictures of a run as SVG and PNG files", command_plot, false},
    {"prototypes", "table of prototypes, and a picture of the images nearest to each", command_prototypes, true},
    {"import", "weights of another program for a run to begin with (encoder.init)", command_import, false},
    {"embed", "features, projections and nearest prototypes of images, for NumPy or as CSV", command_embed, true},
    {"neighbours", "the images of a set that are nearest to given ones, as a table and a picture", command_neighbours,
     true},
    {"dataset", "check an image set: what it holds, what is wrong with it", command_dataset, false},
    {"verify", "are two runs the same bytes, or one run's checkpoints sound", command_verify, false},
    {"export", "weights or prototypes of a checkpoint for NumPy, PyTorch and other engines", command_export, true},
    {"doctor", "is this machine, configuration and surroundings fit for a run, and what to do if not", command_doctor,
     false},
    {"health", "does a server answer", command_health, false},
    {"config", "print the configuration with every key explained", command_config, false},
    {"completion", "print the completion script of bash or zsh", print_completion, false},
    {"keygen", "make, list, add and revoke keys for a run over the network", command_keygen, false},
    {"version", "print the version", print_version, false},
    {"help", "this text", print_help, false},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

static void write_help(FILE *f)
{
    fputs("example: decant train --config deploy/configs/fashion-mnist.ini --run first --workers 2\n\n"
          "usage: decant COMMAND [OPTION]...\n\n",
          f);
    for (int i = 0; i < SUBCOMMANDS; i++)
        fprintf(f, "  %-13s %s\n", subcommands[i].name, subcommands[i].summary);
    fputs(
        "\n`decant COMMAND --help` explains a command. Exit status: 0 done, 1 failed, 2 wrong usage or configuration,\n"
        "3 the run has diverged, 130 stopped by Ctrl-C or another signal.\n",
        f);
}

static int print_help(int argc, char **argv)
{
    for (int i = 0; argc > 1 && i < SUBCOMMANDS; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0 && subcommands[i].run != print_help) {
            char *help[] = {argv[1], "--help", NULL};
            return subcommands[i].run(2, help);
        }
    write_help(stdout);
    return COMMAND_DONE;
}

static int print_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("decant " DECANT_VERSION ", protocol %d\n", PROTO_VERSION);
    return COMMAND_DONE;
}

static int print_completion(int argc, char **argv)
{
    static const char usage[] = "example: eval \"$(decant completion bash)\"\n\n"
                                "usage: decant completion bash|zsh\n\n"
                                "Prints a script for the shell's startup file that completes commands, options, their\n"
                                "choices and configuration keys.\n";
    struct completion_command commands[SUBCOMMANDS];
    const char *shell = argc == 2 ? argv[1] : "";
    for (int i = 0; i < SUBCOMMANDS; i++)
        commands[i] = (struct completion_command){subcommands[i].name, subcommands[i].summary};
    if (strcmp(shell, "bash") == 0)
        completion_bash(commands, SUBCOMMANDS, stdout);
    else if (strcmp(shell, "zsh") == 0)
        completion_zsh(commands, SUBCOMMANDS, stdout);
    else if (strcmp(shell, "--help") == 0 || strcmp(shell, "-h") == 0)
        fputs(usage, stdout);
    else
        return command_usage("completion", "expected bash or zsh");
    return COMMAND_DONE;
}

static int unknown(const char *name)
{
    const char *names[SUBCOMMANDS];
    for (int i = 0; i < SUBCOMMANDS; i++)
        names[i] = subcommands[i].name;
    const char *near = suggest(name, names, SUBCOMMANDS);
    fprintf(stderr, "decant: there is no command '%s'", name);
    if (near)
        fprintf(stderr, "; did you mean '%s'?", near);
    fputs("\nTry: decant help\n", stderr);
    return COMMAND_USAGE;
}

/* argv begins with the program's name, the command's is next. The doctor, who says himself what is wrong with
 * DECANT_KERNELS, looks at what the others would run. */
static int run_subcommand(const struct subcommand *command, int argc, char **argv)
{
    struct error e = {0};
    if (command->computes && kernels_from_environment(&e) != 0) {
        fprintf(stderr, "decant: %s\n", e.text);
        return COMMAND_USAGE;
    }
    if (command->computes || command->run == command_doctor)
        blas_restart_if_behind(argv);
    return command->run(argc - 1, argv + 1);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        write_help(stderr);
        return COMMAND_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, CHILD_GUARD) == 0)
        return child_guard(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (strcmp(name, subcommands[i].name) == 0)
            return run_subcommand(&subcommands[i], argc, argv);
    return unknown(name);
}

/* What stdout still holds must be out before success is claimed. A reader that has enough is not worth a word. */
static int finish_output(int code)
{
    bool earlier = ferror(stdout) != 0;
    if (fflush(stdout) == 0 && !earlier)
        return code;
    if (earlier || errno != EPIPE)
        fprintf(stderr, "decant: the output is not complete: %s\n", earlier ? "a write failed" : strerror(errno));
    return code == COMMAND_DONE ? COMMAND_FAILED : code;
}

/* A file opened under the number of a closed stream would be written to by whoever prints. */
static void fill_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", O_RDWR); /* takes the lowest free number: fd */
}

int main(int argc, char **argv)
{
    struct error e = {0};
    fill_streams();
    log_init("decant", LOG_WARN);
    if (limits_prepare(DESCRIPTORS, ADDRESS_BYTES, 0, &e) != 0) {
        fprintf(stderr, "decant: %s\n", e.text);
        return COMMAND_USAGE;
    }
    return finish_output(run(argc, argv));
}
