/* Collecting and printing of findings. */
#include "cli/doctor_report.h"

#include <stdarg.h>
#include "common/error.h"

static const char *const state_names[] = {[FINDING_OK] = "ok", [FINDING_WARN] = "warn", [FINDING_FAIL] = "fail"};

void doctor_find(struct doctor_report *r, enum finding_state state, const char *name, const char *format, ...)
{
    ASSERT(r->count < FINDINGS_MAX);
    struct finding *f = &r->items[r->count++];
    va_list args;
    *f = (struct finding){.state = state, .name = name};
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
}

void doctor_advise(struct doctor_report *r, const char *format, ...)
{
    ASSERT(r->count > 0);
    struct finding *f = &r->items[r->count - 1];
    va_list args;
    va_start(args, format);
    vsnprintf(f->advice, sizeof f->advice, format, args);
    va_end(args);
}

static size_t count_of(const struct doctor_report *r, enum finding_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++)
        n += r->items[i].state == state;
    return n;
}

bool doctor_failed(const struct doctor_report *r)
{
    return count_of(r, FINDING_FAIL) > 0;
}

void doctor_print(const struct doctor_report *r, bool colour, FILE *f)
{
    static const char *const paints[] = {
        [FINDING_OK] = "\033[32m", [FINDING_WARN] = "\033[33m", [FINDING_FAIL] = "\033[31m"};
    for (size_t i = 0; i < r->count; i++) {
        const struct finding *item = &r->items[i];
        fprintf(f, "%s%-4s%s  %-21s %s\n", colour ? paints[item->state] : "", state_names[item->state],
                colour ? "\033[0m" : "", item->name, item->text);
        if (item->advice[0])
            fprintf(f, "%28s-> %s\n", "", item->advice);
    }
    size_t warnings = count_of(r, FINDING_WARN);
    fprintf(f, "%zu ok, %zu warning%s, %zu failed\n", count_of(r, FINDING_OK), warnings, warnings == 1 ? "" : "s",
            count_of(r, FINDING_FAIL));
}

json_t *doctor_json(const struct doctor_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->count; i++) {
        const struct finding *f = &r->items[i];
        json_t *o = json_pack("{s:s, s:s, s:s}", "state", state_names[f->state], "check", f->name, "text", f->text);
        if (f->advice[0])
            json_object_set_new(o, "advice", json_string(f->advice));
        json_array_append_new(list, o);
    }
    return json_pack("{s:b, s:o}", "ok", !doctor_failed(r), "findings", list);
}
