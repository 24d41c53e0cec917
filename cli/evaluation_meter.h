/* Tells how far an evaluation is: on a terminal one line that is drawn again, elsewhere a line now and then, so that
 * nobody waits for minutes without a word. */
#ifndef DECANT_CLI_EVALUATION_METER_H
#define DECANT_CLI_EVALUATION_METER_H

#include <stdbool.h>
#include <stdio.h>

enum { METER_STAGE_MAX = 96 };

struct evaluation_meter {
    FILE *to;          /* NULL: silent */
    const char *doing; /* what is in progress: "evaluating" */
    bool terminal;
    double started, shown; /* seconds: when the stage began, when the newest line was written */
    char stage[METER_STAGE_MAX];
};

/* All of them take NULL for a meter that nobody reads. Called by one thread. doing: a word that lasts. */
void evaluation_meter_init(struct evaluation_meter *m, const char *doing, FILE *to, bool terminal);
/* A stage begins: "trained encoder: k-NN". */
void evaluation_meter_stage(struct evaluation_meter *m, const char *who, const char *what);
/* This share of it is done; seldom enough that calling it often costs nothing. */
void evaluation_meter_at(struct evaluation_meter *m, double fraction);
/* Leaves the terminal's line empty. */
void evaluation_meter_end(struct evaluation_meter *m);

/* "evaluating: STAGE  43 %, 12s left", for a share done after so many seconds. */
void evaluation_meter_line(const char *doing, const char *stage, double fraction, double seconds, char *out,
                           size_t size);

#endif
