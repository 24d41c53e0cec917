/* decant eval: options of the evaluation; with --note, the short one of a run that goes on. */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "cli/checkpoint.h"
#include "cli/command.h"
#include "cli/evaluation.h"
#include "cli/evaluation_compare.h"
#include "cli/config_options.h"
#include "cli/evaluation_mirror.h"
#include "cli/evaluation_note.h"
#include "cli/evaluation_report.h"
#include "cli/run_argument.h"
#include "common/files.h"

static const char help[] =
    "example: decant eval runs/fashion-mnist\n\n"
    "usage: decant eval {RUN... | --checkpoint DIR} [--references] [--linear | --quick] [--json] [--data PATH] [--bank "
    "N] [--queries N]\n"
    "       decant eval {RUN | --checkpoint DIR} --note [--bank N] [--set redis.KEY=VALUE]...\n\n" RUN_ARGUMENT_HELP
    "                     several (8 at most): one table with a column for each, such as joint beside decoupled\n"
    "  --checkpoint DIR   a run's directory, its checkpoints directory, or one step's\n"
    "  --references       also raw pixels and an encoder with random weights\n"
    "  --linear           logistic regression whatever its size; without it where it takes less than about a minute\n"
    "  --quick            no logistic regression: ridge regression says about the same in seconds\n"
    "  --json             one JSON object on stdout instead of the table; of several runs an array\n"
    "  --data PATH        other images (docs/DATA.md), brought to the size of the run's own: what the encoder is "
    "worth\n"
    "                     elsewhere; without it those of the run's configuration\n"
    "  --bank N           training images for k-NN and the linear probe (the run's eval.bank)\n"
    "  --queries N        test images (the run's eval.queries)\n\n"
    "  --note             k-NN only, of --bank N images at most (the run's eval.images), at the lowest priority and on "
    "one\n"
    "                     thread: noted in the run's metrics-eval.jsonl, the best step kept as checkpoints/best, and\n"
    "                     shown in Redis where the run's configuration, the environment or --set name one. What\n"
    "                     eval.every does while the run goes on\n\n"
    "Figures: docs/OPERATIONS.md, How to read an evaluation. How far it is goes to stderr.\n";

struct eval_line {
    const char *checkpoint;
    bool json, note;
    struct evaluation_options options;
    struct config_options redis; /* with --note: keys of the Redis that shows it */
};

static const struct option options[] = {
    {"checkpoint", required_argument, NULL, 'c'},
    {"references", no_argument, NULL, 'r'},
    {"linear", no_argument, NULL, 'l'},
    {"quick", no_argument, NULL, 'u'},
    {"json", no_argument, NULL, 'j'},
    {"data", required_argument, NULL, 'd'},
    {"note", no_argument, NULL, 'n'},
    {"bank", required_argument, NULL, 'b'},
    {"queries", required_argument, NULL, 'q'},
    {"set", required_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int take_count(const char *option, int64_t *out)
{
    long long value;
    if (command_number(optarg, 1, UINT32_MAX, &value) != 0)
        return command_usage("eval", "%s %s: expected a number of images", option, optarg);
    *out = value;
    return -1;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct eval_line *line = arg;
    switch (option) {
    case 'c':
        line->checkpoint = optarg;
        return -1;
    case 'r':
        line->options.references = true;
        return -1;
    case 'l':
        line->options.linear = EVALUATION_LINEAR_ALWAYS;
        return -1;
    case 'u':
        line->options.linear = EVALUATION_LINEAR_NEVER;
        return -1;
    case 'j':
        line->json = true;
        return -1;
    case 'n':
        line->note = true;
        return -1;
    case 's':
        return strncmp(optarg, "redis.", 6) == 0
                   ? config_option_take("eval", option, optarg, &line->redis)
                   : command_usage("eval", "--set %s: only keys of [redis], for --note", optarg);
    case 'd':
        line->options.data = optarg;
        return -1;
    case 'b':
        return take_count("--bank", &line->options.bank);
    case 'q':
        return take_count("--queries", &line->options.queries);
    }
    return -1;
}

static const struct command_options command = {
    .name = "eval", .help = help, .options = options, .take = take_option, .arguments_max = EVALUATION_RUNS_MAX};

/* Best effort: what is noted stays noted. */
static void mirror(struct config_options sets, const struct evaluation_note *n)
{
    struct run_config c;
    struct error e = {0};
    sets.file = file_probe(n->config, NULL) == 0 ? n->config : NULL;
    int rc = config_options_load(&sets, &c, &e);
    if (rc == 0)
        rc = evaluation_mirror_write(&c, n, &e);
    explicit_bzero(c.redis.password, sizeof c.redis.password);
    if (rc != 0)
        fprintf(stderr, "decant eval: noted, but not shown in Redis: %s\n", e.text);
}

/* Of the other options only --bank and --set say something about it. */
static int note(const struct eval_line *line)
{
    const struct evaluation_options *o = &line->options;
    struct evaluation_note n;
    struct error e = {0};
    if (o->references || o->linear != EVALUATION_LINEAR_SHORT || o->data || o->queries > 0 || line->json)
        return command_usage("eval", "--note goes with --checkpoint, --bank and --set only");
    evaluation_note_give_way();
    if (evaluation_note(line->checkpoint, o->bank, &n, &e) != 0)
        return command_failed("eval", &e);
    mirror(line->redis, &n);
    printf("step %" PRIu64 ": k-NN %.2f %%, of projections %.2f %% (%u images, %u queries); best: step %" PRIu64
           " with %.2f %%\n",
           n.step, n.knn, n.knn_projections, n.bank, n.queries, n.best_step, n.best);
    return COMMAND_DONE;
}

static int evaluate_one(const struct eval_line *line)
{
    struct evaluation result;
    struct error e = {0};
    if (evaluate_checkpoint(line->checkpoint, &line->options, &result, &e) != 0)
        return command_failed("eval", &e);
    if (!line->json)
        evaluation_print(&result, stdout);
    else if (evaluation_print_json(&result, stdout) != 0)
        return COMMAND_FAILED;
    return COMMAND_DONE;
}

/* Directories of all runs, each with a checkpoint: a name that is wrong is said before minutes go into the others. -1
 * to go on, else the exit code. */
static int find_runs(char **argv, size_t count, char directories[][CHECKPOINT_PATH_MAX])
{
    struct error e = {0};
    for (size_t i = 0; i < count; i++) {
        char step[CHECKPOINT_PATH_MAX];
        int code = run_argument_at("eval", argv, (int)i, directories[i]);
        if (code >= 0)
            return code;
        if (checkpoint_find(directories[i], step, &e) != 0)
            return command_failed("eval", &e);
    }
    return -1;
}

/* References hang on the images, not on the run: the first one's stand for all. */
static int evaluate_several(struct eval_line *line, char **argv, size_t count)
{
    struct evaluation results[EVALUATION_RUNS_MAX];
    char directories[EVALUATION_RUNS_MAX][CHECKPOINT_PATH_MAX];
    struct error e = {0};
    int code = find_runs(argv, count, directories);
    if (code >= 0)
        return code;
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "%zu of %zu: %s\n", i + 1, count, directories[i]);
        if (evaluate_checkpoint(directories[i], &line->options, &results[i], &e) != 0)
            return command_failed("eval", &e);
        line->options.references = false;
    }
    if (!line->json)
        evaluation_print_beside(results, count, stdout);
    else if (evaluations_print_json(results, count, stdout) != 0)
        return COMMAND_FAILED;
    return COMMAND_DONE;
}

int command_eval(int argc, char **argv)
{
    struct eval_line line = {.options.progress = stderr};
    char named[CHECKPOINT_PATH_MAX];
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0)
        code = run_argument_take("eval", argc, argv, line.checkpoint != NULL, named);
    if (code >= 0)
        return code;
    if (named[0] != '\0')
        line.checkpoint = named;
    if (!line.checkpoint)
        return command_usage("eval", "name a RUN, or a checkpoint with --checkpoint DIR");
    bool several = argc - optind > 1;
    if (line.note)
        return several ? command_usage("eval", "--note takes one run") : note(&line);
    if (line.redis.set_count > 0)
        return command_usage("eval", "--set goes with --note");
    return several ? evaluate_several(&line, argv, (size_t)(argc - optind)) : evaluate_one(&line);
}
