/* decant verify: two runs against each other, or one against its own promises. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "cli/command.h"
#include "cli/json_print.h"
#include "cli/run_argument.h"
#include "cli/verify_report.h"
#include "cli/step_file.h"

static const char help[] =
    "example: decant verify runs/two-workers runs/seven-workers\n\n"
    "usage: decant verify RUN_A RUN_B [--step N] [--json]\n"
    "       decant verify RUN [--step N] [--json]\n\n"
    "Two runs: are they the same bytes? Compares the newest step that both have complete, and where they are not,\n"
    "says where they first part: a configuration key, the step, or an element of a tensor, with its distance in ULP.\n"
    "One run: is every checkpoint sound? Files there and undamaged, of the same step and run, numbers finite.\n"
    "A RUN is its directory, its name below runs/, its checkpoints directory, or one step's.\n\n"
    "  --step N   this step only\n"
    "  --json     one JSON object on stdout\n\n"
    "Exit status: 0 identical (or all sound), 1 different, damaged or missing, 2 wrong usage.\n";

static const struct option options[] = {
    {"step", required_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct verify_line {
    char directories[2][CHECKPOINT_PATH_MAX];
    int count; /* of directories */
    bool json;
    long long step; /* negative: not given */
};

/* ---- one directory ---- */

static int check_steps(const struct step_list *l, const struct verify_line *line, struct error *e)
{
    json_t *list = json_array();
    size_t checked = 0, unsound = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct step_check c;
        if (line->step >= 0 && l->items[i].step != (uint64_t)line->step)
            continue;
        step_check(&l->items[i], &c);
        checked++;
        unsound += c.problem_count > 0;
        if (line->json)
            json_array_append_new(list, verify_check_json(&l->items[i], &c));
        else
            verify_print_check(&l->items[i], &c, stdout);
    }
    int rc = 0;
    if (checked == 0)
        rc = error_set(e, ERR_NOT_FOUND, "%s has no step %lld", line->directories[0], line->step);
    else if (line->json)
        rc = json_print(json_pack("{s:b, s:O}", "sound", unsound == 0, "steps", list), stdout);
    else
        printf("%zu of %zu checkpoints sound\n", checked - unsound, checked);
    json_decref(list);
    return rc == 0 && unsound > 0 ? ERR_FORMAT : rc;
}

static int verify_one(const struct verify_line *line, struct error *e)
{
    struct step_list l;
    int rc = step_list_read(line->directories[0], &l, e);
    if (rc != 0)
        return rc;
    rc = check_steps(&l, line, e);
    step_list_fini(&l);
    return rc;
}

/* ---- two directories ---- */

/* The step that a side must have: given, or that of a directory which is a step's. STEP_UNKNOWN: any. */
static uint64_t wanted_step(const struct step_list lists[2], const struct verify_line *line)
{
    if (line->step >= 0)
        return (uint64_t)line->step;
    for (unsigned side = 0; side < 2; side++)
        if (lists[side].direct && lists[side].items[0].step != STEP_UNKNOWN)
            return lists[side].items[0].step;
    return STEP_UNKNOWN;
}

static int pick_given(const struct step_list lists[2], const struct verify_line *line, uint64_t step,
                      const struct step_entry *out[2], struct error *e)
{
    for (unsigned side = 0; side < 2; side++) {
        out[side] = step_list_find(&lists[side], step);
        if (!out[side])
            return error_set(e, ERR_NOT_FOUND, "%s has no step %" PRIu64, line->directories[side], step);
    }
    return 0;
}

static int pick_newest(const struct step_list lists[2], const struct verify_line *line, const struct step_entry *out[2],
                       struct error *e)
{
    for (size_t i = lists[0].count; i-- > 0;) {
        out[0] = &lists[0].items[i];
        out[1] = step_list_find(&lists[1], out[0]->step);
        if (out[1] && step_entry_complete(out[0]) && step_entry_complete(out[1]))
            return 0;
    }
    return error_set(e, ERR_NOT_FOUND, "%s and %s have no complete step in common; `decant verify DIR` lists each",
                     line->directories[0], line->directories[1]);
}

/* Two steps' own directories are compared whatever their names are. */
static int pick(const struct step_list lists[2], const struct verify_line *line, const struct step_entry *out[2],
                struct error *e)
{
    if (lists[0].direct && lists[1].direct && line->step < 0) {
        out[0] = &lists[0].items[0];
        out[1] = &lists[1].items[0];
        return 0;
    }
    uint64_t step = wanted_step(lists, line);
    return step == STEP_UNKNOWN ? pick_newest(lists, line, out, e) : pick_given(lists, line, step, out, e);
}

static int compare(const struct step_entry *const steps[2], bool json, struct error *e)
{
    struct step_comparison *c = malloc(sizeof *c);
    if (!c)
        return error_set(e, ERR_MEMORY, "out of memory");
    int rc = step_compare(steps[0]->directory, steps[1]->directory, c, e);
    if (rc == 0 && json)
        rc = json_print(verify_comparison_json(c), stdout);
    else if (rc == 0)
        verify_print_comparison(c, stdout);
    if (rc == 0 && !c->identical) {
        rc = ERR_FORMAT;
        *e = (struct error){0}; /* it has been said; what is left in e is of a file that may be absent */
    }
    free(c);
    return rc;
}

static int verify_two(const struct verify_line *line, struct error *e)
{
    struct step_list lists[2] = {{0}, {0}};
    const struct step_entry *steps[2] = {NULL, NULL};
    int rc = step_list_read(line->directories[0], &lists[0], e);
    if (rc == 0)
        rc = step_list_read(line->directories[1], &lists[1], e);
    if (rc == 0)
        rc = pick(lists, line, steps, e);
    if (rc == 0)
        rc = compare(steps, line->json, e);
    step_list_fini(&lists[0]);
    step_list_fini(&lists[1]);
    return rc;
}

/* ---- command line ---- */

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct verify_line *line = arg;
    switch (option) {
    case 's':
        if (command_number(optarg, 0, INT64_MAX, &line->step) != 0)
            return command_usage("verify", "--step %s: expected a number", optarg);
        return -1;
    case 'j':
        line->json = true;
        return -1;
    }
    return -1;
}

static const struct command_options command = {
    .name = "verify", .help = help, .options = options, .take = take_option, .arguments_max = 2};

int command_verify(int argc, char **argv)
{
    struct verify_line line = {.step = -1};
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code >= 0)
        return code;
    line.count = argc - optind;
    if (line.count < 1)
        return command_usage("verify", "one run or two are needed");
    for (int i = 0; i < line.count; i++)
        if (run_argument_directory(argv[optind + i], line.directories[i]) != 0)
            return command_usage("verify", "'%.80s...' is too long", argv[optind + i]);
    int rc = line.count == 1 ? verify_one(&line, &e) : verify_two(&line, &e);
    if (rc != 0 && e.text[0])
        command_failed("verify", &e);
    return rc == 0 ? COMMAND_DONE : COMMAND_FAILED;
}
