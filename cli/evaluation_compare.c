/* A figure is a row. References have no prototypes, so only some rows have columns for them. */
#include "cli/evaluation_compare.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* What a run must have for a figure to mean something. */
enum figure_needs { NEEDS_NOTHING, NEEDS_LABELS, NEEDS_QUERIES };

struct figure {
    const char *name;
    int decimals;
    enum figure_needs needs;
    size_t at;        /* its double in struct evaluation */
    size_t reference; /* and in struct probe_scores; NO_REFERENCE: references have none */
};

#define OF(member) offsetof(struct evaluation, member)
#define OF_PROBE(member) OF(encoder.features.member), offsetof(struct probe_scores, member)
#define NO_REFERENCE SIZE_MAX

_Static_assert(SCORE_EPS == 4 && FEW_SHOTS == 2, "the rows below name them");
static const struct figure figures[] = {
    {"k-NN %", 2, NEEDS_QUERIES, OF_PROBE(knn.percent)},
    {"linear %", 2, NEEDS_QUERIES, OF_PROBE(linear.percent)},
    {"ridge %", 2, NEEDS_QUERIES, OF_PROBE(ridge.percent)},
    {"ridge %, 10 % of labels", 2, NEEDS_QUERIES, OF(encoder.few[1].percent), NO_REFERENCE},
    {"k-NN % on projections", 2, NEEDS_QUERIES, OF(encoder.knn_projections.percent), NO_REFERENCE},
    {"prototype classifier %", 2, NEEDS_QUERIES, OF(encoder.prototype_classifier.percent), NO_REFERENCE},
    {"NMI of prototypes", 3, NEEDS_LABELS, OF(encoder.nmi), NO_REFERENCE},
    {"active %", 1, NEEDS_NOTHING, OF(prototypes.active), NO_REFERENCE},
    {"unique %, eps 0.1", 1, NEEDS_NOTHING, OF(prototypes.unique[1]), NO_REFERENCE},
    {"active, unique %, 0.025", 1, NEEDS_NOTHING, OF(prototypes.active_unique[0]), NO_REFERENCE},
    {"                  0.1", 1, NEEDS_NOTHING, OF(prototypes.active_unique[1]), NO_REFERENCE},
    {"                  0.25", 1, NEEDS_NOTHING, OF(prototypes.active_unique[2]), NO_REFERENCE},
    {"                  0.5", 1, NEEDS_NOTHING, OF(prototypes.active_unique[3]), NO_REFERENCE},
    {"rank of features", 1, NEEDS_NOTHING, OF(encoder.rank_features), NO_REFERENCE},
};
enum { FIGURES = sizeof figures / sizeof figures[0] };

bool evaluation_comparable(const struct evaluation *a, const struct evaluation *b)
{
    return a->data == b->data && a->bank == b->bank && a->queries == b->queries;
}

static double value_at(const void *object, size_t at)
{
    double x;
    memcpy(&x, (const char *)object + at, sizeof x);
    return x;
}

static bool has_figure(const struct evaluation *v, enum figure_needs needs)
{
    return needs == NEEDS_NOTHING || (needs == NEEDS_LABELS ? v->labelled : v->probes_missing[0] == '\0');
}

/* ---- the table ---- */

static void print_value(FILE *f, int decimals, double x)
{
    if (isnan(x))
        fprintf(f, " %10s", "-");
    else
        fprintf(f, " %10.*f", decimals, x);
}

static void print_figure(const struct figure *g, const struct evaluation *v, size_t count, FILE *f)
{
    fprintf(f, "  %-24s", g->name);
    for (size_t i = 0; i < count; i++)
        print_value(f, g->decimals, has_figure(&v[i], g->needs) ? value_at(&v[i], g->at) : NAN);
    if (v[0].references && g->reference != NO_REFERENCE) {
        print_value(f, g->decimals, value_at(&v[0].pixels, g->reference));
        print_value(f, g->decimals, value_at(&v[0].random, g->reference));
    }
    fputc('\n', f);
}

static void print_runs(const struct evaluation *v, size_t count, FILE *f)
{
    for (size_t i = 0; i < count; i++) {
        fprintf(f, "  %c  %s: step %" PRIu64 ", %" PRIu32 " %s prototypes", (char)('A' + i), v[i].run, v[i].step,
                v[i].K, v[i].joint ? "joint" : "decoupled");
        if (v[i].probes_missing[0] != '\0')
            fprintf(f, "; no probes: %s", v[i].probes_missing);
        fprintf(f, "%s\n", evaluation_comparable(&v[0], &v[i]) ? "" : "; OTHER IMAGES than A, not to be compared");
    }
}

void evaluation_print_beside(const struct evaluation *v, size_t count, FILE *f)
{
    fprintf(f, "%zu runs on %" PRIu32 " images of a bank and %" PRIu32 " %s images", count, v->bank, v->queries,
            v->held_out ? "held-out" : "test");
    if (v->labelled)
        fprintf(f, ", %" PRIu32 " classes", v->classes);
    fputc('\n', f);
    print_runs(v, count, f);
    fprintf(f, "  %-24s", "");
    for (size_t i = 0; i < count; i++)
        fprintf(f, " %10c", (char)('A' + i));
    fprintf(f, "%s\n", v[0].references ? "     pixels     random" : "");
    for (size_t i = 0; i < FIGURES; i++)
        print_figure(&figures[i], v, count, f);
}
