/* Formatting only. */
#include "cli/evaluation_report.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include "cli/json_print.h"

/* ---- for people ---- */

static const char *const third_names[THIRDS] = {"head", "medium", "tail"};

static void print_percent(FILE *f, double percent)
{
    if (isnan(percent))
        fprintf(f, " %8s", "-");
    else
        fprintf(f, " %8.2f", percent);
}

static void print_probe(FILE *f, const char *name, const struct probe_scores *s)
{
    fprintf(f, "  %-22s", name);
    print_percent(f, s->knn.percent);
    print_percent(f, s->linear.percent);
    print_percent(f, s->ridge.percent);
    fputc('\n', f);
}

static void print_macro(FILE *f, const struct probe_scores *s)
{
    fprintf(f, "  %-22s", "  mean over classes");
    print_percent(f, s->knn.macro);
    print_percent(f, s->linear.macro);
    print_percent(f, s->ridge.macro);
    fputc('\n', f);
}

/* Classes of about equal size have no tail to speak of. */
static bool has_tail(const struct evaluation *v)
{
    const uint32_t *images = v->third_images, *classes = v->third_classes;
    return classes[THIRD_TAIL] > 0 &&
           (double)images[THIRD_HEAD] / classes[THIRD_HEAD] > 2.0 * images[THIRD_TAIL] / classes[THIRD_TAIL];
}

static void print_thirds(FILE *f, const struct evaluation *v)
{
    const struct probe_scores *s = &v->encoder.features;
    for (int i = 0; has_tail(v) && i < THIRDS; i++) {
        char name[64];
        snprintf(name, sizeof name, "    %s, %" PRIu32, third_names[i], v->third_classes[i]);
        fprintf(f, "  %-22s", name);
        print_percent(f, s->knn.third[i]);
        print_percent(f, s->linear.third[i]);
        print_percent(f, s->ridge.third[i]);
        fputc('\n', f);
    }
}

static void print_probes(const struct evaluation *v, FILE *f)
{
    const struct encoder_scores *s = &v->encoder;
    fprintf(f, "  %-22s %8s %8s %8s\n", "features", "k-NN %", "linear %", "ridge %");
    print_probe(f, "trained encoder", &s->features);
    print_macro(f, &s->features);
    print_thirds(f, v);
    if (v->references) {
        print_probe(f, "raw pixels", &v->pixels);
        print_probe(f, "random encoder", &v->random);
    }
    if (v->linear_left_out)
        fprintf(f, "  logistic regression takes minutes at this size and was left out: --linear computes it\n");
    fprintf(f, "  %-22s %8.2f\n", "projections", s->knn_projections.percent);
    fprintf(f, "  few-shot, ridge       ");
    for (int i = 0; i < FEW_SHOTS; i++)
        fprintf(f, "%s%g %% of labels (%" PRIu32 " images): %.2f +- %.2f", i ? "; " : " ", 100 * few_shot_share[i],
                s->few[i].rows, s->few[i].percent, s->few[i].deviation);
    fprintf(f, "   (%d draws)\n", FEW_SHOT_DRAWS);
    fprintf(f, "  %-22s %8.2f   mean over classes %.2f\n", "prototype classifier", s->prototype_classifier.percent,
            s->prototype_classifier.macro);
}

static void print_row(FILE *f, const char *name, const double percent[SCORE_EPS])
{
    fprintf(f, "  %-22s", name);
    for (int i = 0; i < SCORE_EPS; i++)
        fprintf(f, " %8.1f", percent[i]);
    fputc('\n', f);
}

static void print_prototypes(const struct evaluation *v, FILE *f)
{
    const struct prototype_scores *p = &v->prototypes;
    fprintf(f, "  %-22s", "prototypes, eps");
    for (int i = 0; i < SCORE_EPS; i++)
        fprintf(f, " %8g", score_eps[i]);
    fputc('\n', f);
    print_row(f, "unique %", p->unique);
    print_row(f, "active and unique %", p->active_unique);
    fprintf(f, "  %-22s", "directions of features");
    for (int i = 0; i < SCORE_EPS; i++)
        fprintf(f, " %8" PRIu32, p->feature_cover[i]);
    fprintf(f, "   (of %" PRIu32 " projections)\n", p->cover_rows);
    fprintf(f, "  active in the bank %.1f %%, assignment perplexity %.1f of %" PRIu32, p->active, p->perplexity, v->K);
    if (!isnan(v->encoder.usage_perplexity))
        fprintf(f, ", usage perplexity %.1f", v->encoder.usage_perplexity);
    fprintf(f, "\n  effective rank of features %.1f, of projections %.1f", v->encoder.rank_features,
            v->encoder.rank_projections);
    if (v->labelled)
        fprintf(f, "; purity %.3f, NMI %.3f", v->encoder.purity, v->encoder.nmi);
    fputc('\n', f);
}

static void print_images(const struct evaluation *v, FILE *f)
{
    if (v->data_trained == 0)
        fprintf(f, "  images %014" PRIx64 "; the checkpoint does not say which it was trained on\n", v->data);
    else if (v->data != v->data_trained)
        fprintf(f, "  other images than it was trained on: %014" PRIx64 ", trained on %014" PRIx64 "\n", v->data,
                v->data_trained);
    else
        fprintf(f, "  images %014" PRIx64 ", those it was trained on\n", v->data);
}

void evaluation_print(const struct evaluation *v, FILE *f)
{
    fprintf(f, "evaluation of run '%s', step %" PRIu64 ", %s prototypes (%" PRIu32 " bank, %" PRIu32 " %s images",
            v->run, v->step, v->joint ? "joint" : "decoupled", v->bank, v->queries, v->held_out ? "held-out" : "test");
    if (v->labelled)
        fprintf(f, ", %" PRIu32 " classes", v->classes);
    fprintf(f, ")\n");
    if (v->probes_missing[0])
        fprintf(f, "  no k-NN and no linear probe: %s\n", v->probes_missing);
    else
        print_probes(v, f);
    print_prototypes(v, f);
    print_images(v, f);
}

static json_t *fingerprint_json(uint64_t fingerprint)
{
    char text[24];
    snprintf(text, sizeof text, "%014" PRIx64, fingerprint);
    return fingerprint != 0 ? json_string(text) : json_null();
}

/* ---- for programs ---- */

static json_t *number_json(double x)
{
    return isnan(x) ? json_null() : json_real(x);
}

static json_t *by_eps(const double percent[SCORE_EPS])
{
    json_t *object = json_object();
    for (int i = 0; i < SCORE_EPS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%g", score_eps[i]);
        json_object_set_new(object, name, json_real(percent[i]));
    }
    return object;
}

/* knn, linear, ridge; and macro with the same. */
static json_t *probe_json(const struct probe_scores *s)
{
    return json_pack("{s:o, s:o, s:o, s:{s:o, s:o, s:o}}", "knn", number_json(s->knn.percent), "linear",
                     number_json(s->linear.percent), "ridge", number_json(s->ridge.percent), "macro", "knn",
                     number_json(s->knn.macro), "linear", number_json(s->linear.macro), "ridge",
                     number_json(s->ridge.macro));
}

static json_t *cover_json(const struct prototype_scores *p)
{
    json_t *object = json_object();
    for (int i = 0; i < SCORE_EPS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%g", score_eps[i]);
        json_object_set_new(object, name, json_integer(p->feature_cover[i]));
    }
    json_object_set_new(object, "projections", json_integer(p->cover_rows));
    return object;
}

static json_t *few_json(const struct few_shot few[FEW_SHOTS])
{
    json_t *object = json_object();
    for (int i = 0; i < FEW_SHOTS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%g", few_shot_share[i]);
        json_object_set_new(object, name,
                            json_pack("{s:f, s:f, s:i, s:I}", "mean", few[i].percent, "deviation", few[i].deviation,
                                      "draws", FEW_SHOT_DRAWS, "images", (json_int_t)few[i].rows));
    }
    return object;
}

static json_t *third_json(const struct accuracy *a)
{
    return json_pack("[o, o, o]", number_json(a->third[THIRD_HEAD]), number_json(a->third[THIRD_MEDIUM]),
                     number_json(a->third[THIRD_TAIL]));
}

/* Head, medium and tail of every accuracy, and how many classes and training images each third has. */
static json_t *thirds_json(const struct evaluation *v)
{
    const struct encoder_scores *s = &v->encoder;
    json_t *classes = json_array(), *images = json_array();
    for (int i = 0; i < THIRDS; i++) {
        json_array_append_new(classes, json_integer(v->third_classes[i]));
        json_array_append_new(images, json_integer(v->third_images[i]));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "classes", classes, "images", images, "knn",
                     third_json(&s->features.knn), "linear", third_json(&s->features.linear), "ridge",
                     third_json(&s->features.ridge), "knn_projections", third_json(&s->knn_projections),
                     "prototype_classifier", third_json(&s->prototype_classifier));
}

/* What the queries say; every key is there, null without queries. */
static void add_probes(json_t *o, const struct evaluation *v)
{
    const struct encoder_scores *s = &v->encoder;
    bool probes = v->probes_missing[0] == '\0';
    const double projections = probes ? s->knn_projections.percent : NAN;
    const double classifier = probes ? s->prototype_classifier.percent : NAN;
    json_object_set_new(o, "knn_projections", number_json(projections));
    json_object_set_new(o, "prototype_classifier", number_json(classifier));
    json_object_set_new(o, "few_shot", probes ? few_json(s->few) : json_null());
    json_object_set_new(o, "thirds", probes ? thirds_json(v) : json_null());
    if (!probes) {
        const struct accuracy none = accuracy_none();
        json_t *nothing = probe_json(&(struct probe_scores){none, none, none});
        json_object_update(o, nothing);
        json_decref(nothing);
        json_object_set_new(o, "probes_missing", json_print_text(v->probes_missing));
        return;
    }
    json_t *features = probe_json(&s->features);
    json_object_update(o, features);
    json_decref(features);
    json_t *macro = json_object_get(o, "macro");
    json_object_set_new(macro, "knn_projections", number_json(s->knn_projections.macro));
    json_object_set_new(macro, "prototype_classifier", number_json(s->prototype_classifier.macro));
}

static json_t *evaluation_json(const struct evaluation *v)
{
    const struct prototype_scores *p = &v->prototypes;
    json_t *o =
        json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f}", "run", v->run, "step", (json_int_t)v->step,
                  "checkpoint", v->directory, "mode", v->joint ? "joint" : "decoupled", "components", (json_int_t)v->K,
                  "classes", (json_int_t)v->classes, "bank", (json_int_t)v->bank, "queries", (json_int_t)v->queries,
                  "active", p->active, "perplexity", p->perplexity);
    add_probes(o, v);
    json_object_set_new(o, "held_out", json_boolean(v->held_out));
    json_object_set_new(o, "data", fingerprint_json(v->data));
    json_object_set_new(o, "data_trained", fingerprint_json(v->data_trained));
    json_object_set_new(o, "purity", number_json(v->labelled ? v->encoder.purity : NAN));
    json_object_set_new(o, "nmi", number_json(v->labelled ? v->encoder.nmi : NAN));
    json_object_set_new(o, "usage_perplexity", number_json(v->encoder.usage_perplexity));
    json_object_set_new(
        o, "effective_rank",
        json_pack("{s:f, s:f}", "features", v->encoder.rank_features, "projections", v->encoder.rank_projections));
    json_object_set_new(o, "unique", by_eps(p->unique));
    json_object_set_new(o, "active_unique", by_eps(p->active_unique));
    json_object_set_new(o, "feature_cover", cover_json(p));
    if (v->references)
        json_object_set_new(
            o, "references",
            json_pack("{s:o, s:o}", "pixels", probe_json(&v->pixels), "random", probe_json(&v->random)));
    return o;
}

int evaluation_print_json(const struct evaluation *v, FILE *f)
{
    return json_print(evaluation_json(v), f);
}

int evaluations_print_json(const struct evaluation *v, size_t count, FILE *f)
{
    json_t *all = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(all, evaluation_json(&v[i]));
    return json_print(all, f);
}
