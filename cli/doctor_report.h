/* What `decant doctor` found: one line a finding, and for each that is not well, what to do. */
#ifndef DECANT_CLI_DOCTOR_REPORT_H
#define DECANT_CLI_DOCTOR_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { FINDINGS_MAX = 48, FINDING_TEXT_MAX = 512 };

enum finding_state { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct finding {
    enum finding_state state;
    const char *name; /* what was looked at: "config", "data" ...; a literal */
    char text[FINDING_TEXT_MAX], advice[FINDING_TEXT_MAX];
};

struct doctor_report {
    size_t count;
    struct finding items[FINDINGS_MAX];
};

/* Adds a finding. More than FINDINGS_MAX are a programmer error. */
void doctor_find(struct doctor_report *r, enum finding_state state, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What to do about the newest finding. */
void doctor_advise(struct doctor_report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool doctor_failed(const struct doctor_report *r); /* anything did */
void doctor_print(const struct doctor_report *r, bool colour, FILE *f);
json_t *doctor_json(const struct doctor_report *r);

#endif
