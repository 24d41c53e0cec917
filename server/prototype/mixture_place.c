/* Components that begin anew. */
#include "server/prototype/mixture_place.h"

#include "proto/covariance.h"
#include "server/prototype/tied.h"

static size_t square_width(const struct mixture *m)
{
    return covariance_square_width(m->options.covariance, m->options.D);
}

/* S2 = n0 (mu^2 + s0), or n0 (mu mu^T + s0 I). */
static void place_squares(struct mixture *m, uint32_t k, const double *mu)
{
    size_t D = m->options.D;
    double n0 = m->options.initial_mass, s0 = 1.0 / (double)D, *s2 = m->s2 + k * square_width(m);
    if (m->options.covariance != COVARIANCE_FULL) {
        for (size_t d = 0; d < D; d++)
            s2[d] = n0 * (mu[d] * mu[d] + s0);
        return;
    }
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < D; j++)
            s2[i * D + j] = n0 * (mu[i] * mu[j] + (i == j ? s0 : 0));
}

void mixture_place(struct mixture *m, uint32_t k, const double *mu)
{
    size_t D = m->options.D;
    double n0 = m->options.initial_mass;
    m->mass[k] = n0;
    m->usage[k] = 1.0 / m->options.K;
    m->price[k] = 0; /* neither wanted nor unwanted */
    for (size_t d = 0; d < D; d++)
        m->s1[k * D + d] = n0 * mu[d] * m->fresh_length;
    if (square_width(m) > 0)
        place_squares(m, k, mu);
}

void mixture_place_shared(struct mixture *m)
{
    size_t D = m->options.D, S = covariance_shared_width(m->options.covariance, D);
    for (size_t i = 0; i < S; i++)
        m->s2[i] = i % (D + 1) == 0 ? m->options.K * m->options.initial_mass / (double)D : 0;
}

double mixture_total_mass(const struct mixture *m)
{
    double total = 0;
    for (uint32_t k = 0; k < m->options.K; k++)
        total += m->mass[k];
    return total;
}

void mixture_place_at(struct mixture *m, uint32_t k, const float *h, uint32_t version)
{
    for (uint32_t d = 0; d < m->options.D; d++)
        m->scratch[d] = (double)h[d];
    mixture_place(m, k, m->scratch);
    m->updated_step[k] = version;
}

void mixture_move(struct mixture *m, uint32_t k, const float *h, uint32_t version)
{
    size_t D = m->options.D;
    if (m->options.covariance == COVARIANCE_TIED)
        tied_replace(m->s2, D, m->mass[k], mixture_total_mass(m), m->options.initial_mass, 1.0 / (double)D);
    mixture_place_at(m, k, h, version);
}
