/* Formatting only. */
#include "cli/evaluation_report.h"

#include <inttypes.h>
#include <jansson.h>
#include "cli/json_print.h"

static void print_probes(const struct evaluation *v, FILE *f)
{
    fprintf(f, "  %-22s %8s %8s\n", "features", "k-NN %", "linear %");
    fprintf(f, "  %-22s %8.2f %8.2f\n", "trained encoder", v->encoder.knn, v->encoder.linear);
    if (!v->references)
        return;
    fprintf(f, "  %-22s %8.2f %8.2f\n", "raw pixels", v->pixels.knn, v->pixels.linear);
    fprintf(f, "  %-22s %8.2f %8.2f\n", "random encoder", v->random.knn, v->random.linear);
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
    fprintf(f, "  active %.1f %%, assignment perplexity %.1f of %" PRIu32 "\n", p->active, p->perplexity, v->K);
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
    fprintf(f, "evaluation of run '%s', step %" PRIu64 ", %s prototypes (%" PRIu32 " bank, %" PRIu32 " %s images)\n",
            v->run, v->step, v->joint ? "joint" : "decoupled", v->bank, v->queries, v->held_out ? "held-out" : "test");
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

static json_t *probe_json(const struct probe_scores *s)
{
    return json_pack("{s:f, s:f}", "knn", s->knn, "linear", s->linear);
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

int evaluation_print_json(const struct evaluation *v, FILE *f)
{
    const struct prototype_scores *p = &v->prototypes;
    json_t *o = json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:f, s:f}", "run", v->run, "step", (json_int_t)v->step,
                          "checkpoint", v->directory, "mode", v->joint ? "joint" : "decoupled", "components",
                          (json_int_t)v->K, "bank", (json_int_t)v->bank, "queries", (json_int_t)v->queries, "active",
                          p->active, "perplexity", p->perplexity);
    bool probes = v->probes_missing[0] == '\0';
    json_object_set_new(o, "knn", probes ? json_real(v->encoder.knn) : json_null());
    json_object_set_new(o, "linear", probes ? json_real(v->encoder.linear) : json_null());
    json_object_set_new(o, "held_out", json_boolean(v->held_out));
    json_object_set_new(o, "data", fingerprint_json(v->data));
    json_object_set_new(o, "data_trained", fingerprint_json(v->data_trained));
    if (!probes)
        json_object_set_new(o, "probes_missing", json_print_text(v->probes_missing));
    json_object_set_new(o, "unique", by_eps(p->unique));
    json_object_set_new(o, "active_unique", by_eps(p->active_unique));
    json_object_set_new(o, "feature_cover", cover_json(p));
    if (v->references)
        json_object_set_new(
            o, "references",
            json_pack("{s:o, s:o}", "pixels", probe_json(&v->pixels), "random", probe_json(&v->random)));
    return json_print(o, f);
}
