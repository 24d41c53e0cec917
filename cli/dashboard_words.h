/* What a run's figures mean, in sentences. Pure: the same facts give the same words, so every threshold is tested. */
#ifndef DECANT_CLI_DASHBOARD_WORDS_H
#define DECANT_CLI_DASHBOARD_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* The thresholds. They are coarse on purpose: a sentence should not come and go with noise. */
#define WORDS_COPIES_BAD 50.0    /* percent of prototypes that are copies at eps 0.1, from here: collapse */
#define WORDS_COPIES_SOME 20.0   /* ... from here: many */
#define WORDS_COPIES_FEW 10.0    /* ... below: nearly all differ */
#define WORDS_FALL 20.0          /* points that unique at 0.1 lies under its highest, from here: falling */
#define WORDS_ACTIVE_LOW 50.0    /* percent active, below: most are unused */
#define WORDS_ACTIVE_GOOD 90.0   /* percent active, from here: nearly all used */
#define WORDS_SPIKE 0.375        /* share of the densest eighth of the ring, from here (three times even): a spike */
#define WORDS_EVEN_USE 0.5       /* perplexity over K, from here: evenly used */
#define WORDS_UNEVEN_USE 0.1     /* ... below: a few carry nearly all */
#define WORDS_CHANCE 0.98        /* loss over ln K, from here: no better than chance; only after WORDS_CHANCE_STEPS */
#define WORDS_CHANCE_STEPS 100.0 /* steps that a run may take to leave chance */
#define WORDS_STALLED_S 60.0     /* seconds without a metrics line, from here: nothing moves */
#define WORDS_SILENT_S 10.0      /* seconds without a message of a worker, from here: silent; the servers' own limit */
#define WORDS_RUNS_APART 10.0    /* points between two runs' unique at 0.1, from here: worth a sentence */
#define WORDS_COMPARE_SPAN 0.1   /* how far two runs' steps may lie apart, relative, to be compared */

enum words_level { WORDS_GOOD, WORDS_NOTE, WORDS_WARN, WORDS_BAD };
enum { WORDS_MAX = 16, WORDS_TEXT_MAX = 240 };

/* Everything is NaN when unknown. */
struct run_facts {
    bool begun;         /* anything is known of the run at all */
    bool live;          /* the mirror answers */
    bool mirror_named;  /* by --redis */
    bool mirror_lost;   /* it did before, and the run is not at its end */
    bool joint;         /* prototypes are parameters */
    double step, total; /* total: 0 when unknown */
    double K, D;
    double unique_01, unique_01_max; /* percent of the prototypes; its highest so far */
    double active;                   /* percent */
    double perplexity;               /* 1..K */
    double spike;                    /* dashboard_shape_spike */
    double loss;
    double workers, silent_workers; /* in the table; of these, silent for WORDS_SILENT_S */
    double quiet_s;                 /* since the newest line of metrics */
    double rewinds;                 /* how often the run went back */
    const char *trouble;            /* why something of it cannot be read; NULL or empty: nothing is wrong */
};

struct words {
    struct {
        enum words_level level;
        char text[WORDS_TEXT_MAX];
    } items[WORDS_MAX];
    size_t count;
};

/* The gravest come first; equal ones in the order of this list: state of the run, prototypes, loss, workers. Never
 * empty. */
void dashboard_words(const struct run_facts *f, struct words *out);
/* Adds what sets two runs apart, if both are known. Names are for people and may hold anything printable. */
void dashboard_words_compare(const char *name_a, const struct run_facts *a, const char *name_b,
                             const struct run_facts *b, struct words *out);
const char *words_level_name(enum words_level level); /* "good", "note", "warn", "bad" */

#endif
