/* The mixture that this server owns: its sufficient statistics, the online EM update of one step, and the view that is
 * published. Formulas: online EM with responsibility-based forgetting ("Why Prototypes Collapse", arXiv 2510.20108),
 * with re-seeding by novelty; the numbers in the comments of mixture.c count the steps of the update.
 *
 *   mixture_new(&options, &m);
 *   mixture_start(m, seed);                       // version 0
 *   mixture_em_step(m, &sum_of_all_slots, beta);     // version 1: statistics of step 0 are in
 *
 * The state is kept in double and is all that a checkpoint needs; mean, variance, weight and log_const of the view
 * are a pure function of it. One thread at a time. */
#ifndef DECANT_SERVER_PROTOTYPE_MIXTURE_H
#define DECANT_SERVER_PROTOTYPE_MIXTURE_H

#include <stddef.h>
#include <stdint.h>
#include "proto/mixture_wire.h"
#include "proto/run_config.h"
#include "proto/stats.h"
#include "server/prototype/seeding.h"

struct mixture_options {
    uint32_t K, D;
    enum covariance covariance;
    enum weight_prior prior;
    double forgetting; /* eta: how much of S_k is left says forgetting_form, see mixture_em_step */
    enum forgetting_form form;
    double variance_floor;            /* smallest variance, or 1/kappa */
    double initial_mass;              /* n0 of a fresh component */
    double usage_momentum;            /* r of the usage average */
    double reseed_usage;              /* re-seed components used less than this / K, with a power law this times the
                                       * share of the last rank; 0 never */
    double reseed_distance;           /* rho: 1 - cosine to every prototype that an embedding needs at least */
    uint32_t reseed_max;              /* re-seeds in a step at most */
    enum reseed_choice reseed_choice; /* which of the embeddings that are so far */
    double merge_distance;            /* eps of split.h; 0 never */
    double balance;                   /* a of the prices (prices.h); 0: none */
    double balance_clip;              /* c */
    struct seeding_options seeding;   /* of mixture.init = kmeans++ */
    double balance_power;             /* of the shares that prices lead to (ranks.h); 0: even ones */
};

/* The mixture's part of a run's configuration; see run_config_reseed_max. */
struct mixture_options mixture_options_of(const struct run_config *c);

struct mixture_reseed {
    uint32_t component;
    uint32_t candidate; /* index into the step's novelty candidates */
};

/* A merge and the split that follows it. */
struct mixture_split {
    bool made;
    uint32_t kept, freed, halved; /* freed joined kept, and has half of halved now */
};

struct mixture {
    struct mixture_options options;
    double *mass;        /* (K)   N_k */
    double *s1;          /* (K,D) */
    double *s2;          /* (K,covariance_square_width), or (covariance_shared_width): tied.h; NULL without either */
    double *usage;       /* (K)   average share of the embeddings, sums to 1 before re-seeds */
    double *price;       /* (K)   b_k of the balanced E-step, nats; zeros without */
    struct ranks *ranks; /* of the power law; NULL without */
    uint32_t *last_assigned;   /* (K)   newest version whose statistics had k as an argmax; 0 = none yet */
    uint32_t *updated_step;    /* (K)   version in which k's row last changed */
    struct mixture_view *view; /* what is published; view->version is the mixture's version */
    double *quadratic;   /* (K)   log pi - log_const: 1/2 sum_d (log v + mu^2/v), -log C_D(kappa), or -log det W */
    double fresh_length; /* |S1|/N of a fresh component: 1, or what 1/kappa = 1/D has */
    uint32_t *changed;   /* (K)   rows that differ from version - 1, ascending */
    uint32_t changed_count;
    struct mixture_reseed *reseeds; /* (reseed_max) of the newest fold, in the order they were made */
    uint32_t reseed_count;
    uint64_t reseeded;          /* re-seeds since the start */
    struct mixture_split split; /* of the newest fold */
    struct seeding *seeding;    /* until its components are placed; NULL: they are, or there is none */
    uint32_t seeded;            /* components that it placed in the newest fold */
    uint64_t splits;            /* since the start */
    float *looked;              /* (SPLIT_LOOKED+1,D) scratch of split.c; NULL when merge_distance is 0 */
    double *scratch;            /* (D)   centre of a component being placed; full: (D,D), a covariance */
    uint32_t *candidates;       /* (reseed_max) heap of the least used components */
};

int mixture_new(const struct mixture_options *o,
                struct mixture **out); /* 0 or ERR_MEMORY; state undefined until started */
void mixture_free(struct mixture **out);
/* What to say when there is no memory for one. */
int mixture_no_memory(const struct mixture_options *o, struct error *e); /* ERR_MEMORY */
int mixture_clone(const struct mixture *m, struct mixture **out); /* of a whole one, or of a snapshot: a whole one */
/* What another thread may write a checkpoint from. Means and variances that follow from the sums row by row
 * (mixture_rows.h) are not in its view, whose `mean` and `variance` are NULL then: in a large mixture they take half
 * as much memory again as the sums. */
int mixture_snapshot(const struct mixture *m, struct mixture **out);

/* All three below leave view->beta at 1: the schedule belongs to the run. */

/* Version 0 around random unit vectors: mu_k = g/|g|, g from the stream (seed, RNG_MIXTURE, k). */
void mixture_start(struct mixture *m, uint64_t seed);
/* Version 0 around given centres (K,D). */
void mixture_start_from(struct mixture *m, const double *means);
/* After the state has been read back from a file: recomputes every row of the view and names its version. */
void mixture_restore(struct mixture *m, uint64_t version);

/* What is left of a component's statistics S_k when n_k of the step's N embeddings arrive, as s_k, is lambda S_k, and
 *
 *   mass    S_k <- lambda S_k + s_k,               lambda = eta^n_k
 *   convex  S_k <- lambda S_k + (1 - lambda) s_k,  lambda = eta^(n_k/N)
 *
 * with S_k in turn N_k, S1_k and S2_k; one that receives nothing forgets nothing.
 *
 * Folds the statistics of one whole step (all slots, already summed) and moves to version + 1, whose annealing
 * exponent is beta. s->K and s->D equal the mixture's; every index is below K; s->sample are the rows that m->seeding
 * lacks, of this step. When all seeds are chosen, components become fresh ones around them, whatever they were. 0, or
 * ERR_MEMORY with the mixture unchanged. */
int mixture_em_step(struct mixture *m, const struct stats_rows *s, double beta);

/* beta(v) = b0 (b1/b0)^min(1, v / (fraction T)) of version v in a run of T steps. */
double mixture_beta(const struct run_config *c, uint64_t version, uint64_t total_steps);
/* exp of the entropy of usage: how many components are used evenly, 1..K. */
double mixture_usage_perplexity(const double *usage, uint32_t K);
/* Percentage of components that were some embedding's argmax within the last `window` versions. */
double mixture_active_percent(const struct mixture *m, uint32_t window);

#endif
