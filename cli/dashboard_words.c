/* One function a subject, each with its thresholds; then the gravest first. */
#include "cli/dashboard_words.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static void __attribute__((format(printf, 3, 4))) say(struct words *w, enum words_level level, const char *format, ...)
{
    if (w->count == WORDS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(w->items[w->count].text, sizeof w->items[0].text, format, args);
    va_end(args);
    w->items[w->count++].level = level;
}

/* "half of", "a third of": the nearest plain fraction of a share in percent. */
static const char *fraction(double percent)
{
    static const struct {
        double percent;
        const char *text;
    } names[] = {{10, "A tenth of"},        {20, "A fifth of"},     {25, "A quarter of"},
                 {33.3, "A third of"},      {50, "Half of"},        {66.7, "Two thirds of"},
                 {75, "Three quarters of"}, {90, "Nine tenths of"}, {100, "Practically all of"}};
    size_t best = 0;
    for (size_t i = 1; i < sizeof names / sizeof names[0]; i++)
        if (fabs(percent - names[i].percent) < fabs(percent - names[best].percent))
            best = i;
    return names[best].text;
}

static bool at_end(const struct run_facts *f)
{
    return f->total > 0 && f->step >= f->total;
}

/* ---- subjects ---- */

static void say_mirror(const struct run_facts *f, struct words *w)
{
    if (f->mirror_lost)
        say(w, WORDS_WARN,
            "Redis no longer answers: the figures now come from the run's files, workers are not shown.");
    else if (f->mirror_named && !f->live)
        say(w, WORDS_WARN,
            "The Redis that --redis names does not answer, or does not know this run: decant status "
            "--redis tells which.");
}

static bool is_troubled(const struct run_facts *f)
{
    return f->trouble != NULL && f->trouble[0] != '\0';
}

static void say_trouble(const struct run_facts *f, struct words *w)
{
    if (is_troubled(f))
        say(w, WORDS_WARN, "Not everything that is here can be read: %.170s", f->trouble);
}

static void say_state(const struct run_facts *f, struct words *w)
{
    if (at_end(f))
        say(w, WORDS_NOTE, "The run is complete: %.0f steps.", f->step);
    else if (f->quiet_s >= WORDS_STALLED_S)
        say(w, WORDS_WARN, "Nothing has moved for %.0f s: the run was stopped, or waits for workers or a server.",
            f->quiet_s);
    if (f->rewinds >= 1)
        say(w, WORDS_NOTE, "The run went back to a checkpoint %.0f time%s; what was undone is not drawn.", f->rewinds,
            f->rewinds >= 2 ? "s" : "");
}

static void say_copies(const struct run_facts *f, struct words *w)
{
    double copies = 100 - f->unique_01;
    if (copies >= WORDS_COPIES_BAD)
        say(w, WORDS_BAD, "%s the prototypes are copies of another (%.0f %% within cosine distance 0.1): collapse.",
            fraction(copies), copies);
    else if (copies >= WORDS_COPIES_SOME)
        say(w, WORDS_WARN, "%s the prototypes are copies of another (%.0f %% within cosine distance 0.1).",
            fraction(copies), copies);
    else if (copies < WORDS_COPIES_FEW)
        say(w, WORDS_GOOD, "Nearly all prototypes differ: %.0f %% are unique at cosine distance 0.1.", f->unique_01);
    else if (copies >= WORDS_COPIES_FEW)
        say(w, WORDS_NOTE, "Most prototypes differ: %.0f %% are unique at cosine distance 0.1.", f->unique_01);
    if (f->unique_01_max - f->unique_01 >= WORDS_FALL)
        say(w, WORDS_WARN, "Unique prototypes have fallen from %.0f to %.0f %%.", f->unique_01_max, f->unique_01);
}

static void say_use(const struct run_facts *f, struct words *w)
{
    double evenness = f->perplexity / f->K;
    if (f->active < WORDS_ACTIVE_LOW)
        say(w, WORDS_WARN,
            "Only %.0f %% of the prototypes are nearest to any recent image: the others count as unique because "
            "nothing "
            "uses them.",
            f->active);
    else if (f->active >= WORDS_ACTIVE_GOOD)
        say(w, WORDS_GOOD, "Nearly all prototypes are in use: %.0f %% are active.", f->active);
    if (evenness < WORDS_UNEVEN_USE)
        say(w, WORDS_WARN, "A few prototypes carry nearly all images: usage is as if only %.0f of %.0f were there.",
            f->perplexity, f->K);
    else if (evenness >= WORDS_EVEN_USE)
        say(w, WORDS_GOOD, "Usage is even: as if %.0f of %.0f prototypes took equal shares.", f->perplexity, f->K);
}

static void say_ring(const struct run_facts *f, struct words *w)
{
    if (f->spike >= WORDS_SPIKE)
        say(w, WORDS_WARN, "The ring has a spike: %.0f %% of the prototypes lie in one eighth of it (13 %% when even).",
            100 * f->spike);
}

static void say_loss(const struct run_facts *f, struct words *w)
{
    double chance = log(f->K);
    if (f->step >= WORDS_CHANCE_STEPS && f->K > 1 && f->loss >= WORDS_CHANCE * chance)
        say(w, WORDS_WARN, "The loss, %.2f, is at ln K = %.2f: assignments are no better than chance.", f->loss,
            chance);
}

static void say_workers(const struct run_facts *f, struct words *w)
{
    if (f->live && f->workers == 0 && !at_end(f))
        say(w, WORDS_WARN, "No worker is connected: the run waits.");
    if (f->silent_workers >= 1)
        say(w, WORDS_WARN, "%.0f of %.0f workers are silent for %.0f s or longer; their slots go to others.",
            f->silent_workers, f->workers, WORDS_SILENT_S);
}

/* ---- the whole ---- */

/* Insertion, which keeps the order of equals. */
static void gravest_first(struct words *w)
{
    for (size_t i = 1; i < w->count; i++)
        for (size_t at = i; at > 0 && w->items[at].level > w->items[at - 1].level; at--) {
            __typeof__(w->items[0]) swapped = w->items[at];
            w->items[at] = w->items[at - 1];
            w->items[at - 1] = swapped;
        }
}

void dashboard_words(const struct run_facts *f, struct words *out)
{
    out->count = 0;
    if (!f->begun) {
        say_mirror(f, out);
        if (is_troubled(f))
            say_trouble(f, out);
        else
            say(out, WORDS_NOTE, "The run has not begun: nothing is here yet. This page waits for it.");
        return;
    }
    say_mirror(f, out);
    say_trouble(f, out);
    say_state(f, out);
    say_copies(f, out);
    say_use(f, out);
    say_ring(f, out);
    say_loss(f, out);
    say_workers(f, out);
    if (out->count == 0)
        say(out, WORDS_NOTE, "The first figures of the prototypes are not there yet.");
    gravest_first(out);
}

void dashboard_words_compare(const char *name_a, const struct run_facts *a, const char *name_b,
                             const struct run_facts *b, struct words *out)
{
    double apart = a->unique_01 - b->unique_01;
    bool same_age = fabs(a->step - b->step) <= WORDS_COMPARE_SPAN * fmax(a->step, b->step);
    const struct run_facts *more = apart >= 0 ? a : b, *fewer = apart >= 0 ? b : a;
    if (!(fabs(apart) >= WORDS_RUNS_APART))
        return;
    say(out, WORDS_NOTE, "%.60s keeps %.0f %% of its prototypes apart, %.60s %.0f %%%s.", more == a ? name_a : name_b,
        more->unique_01, fewer == a ? name_a : name_b, fewer->unique_01,
        same_age ? "" : ", though they are not at the same step");
}

const char *words_level_name(enum words_level level)
{
    static const char *const names[] = {
        [WORDS_GOOD] = "good", [WORDS_NOTE] = "note", [WORDS_WARN] = "warn", [WORDS_BAD] = "bad"};
    return names[level];
}
