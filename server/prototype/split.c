/* Rows of unit length are made on the way, so that the search reads S1 once whatever the number of components looked
 * at. */
#include "server/prototype/split.h"

#include <math.h>
#include <string.h>
#include "common/vecmath.h"
#include "proto/covariance.h"
#include "server/prototype/vmf.h"

struct pair {
    uint32_t a, b;
    float cosine;
};

/* What can be split: a component, along which dimension, and its variance there. */
struct width {
    uint32_t k;
    size_t d;
    double variance, score; /* score: N v */
};

/* out (D) = s1/|s1|; zeros where there is no direction. */
static void unit_row(const double *s1, size_t D, float *out)
{
    double squares = 0;
    for (size_t d = 0; d < D; d++)
        squares += s1[d] * s1[d];
    double scale = squares > 0 ? 1 / sqrt(squares) : 0;
    for (size_t d = 0; d < D; d++)
        out[d] = (float)(s1[d] * scale);
}

/* The nearest pair of which one is among the components that this version looks at; of equals the first. */
static struct pair nearest_pair(struct mixture *m, uint32_t version)
{
    uint32_t K = m->options.K, looked = K < SPLIT_LOOKED ? K : SPLIT_LOOKED;
    uint32_t first = (uint32_t)((uint64_t)version * SPLIT_LOOKED % K);
    size_t D = m->options.D;
    float *row = m->looked + SPLIT_LOOKED * D;
    struct pair best = {.cosine = -2};
    for (uint32_t j = 0; j < looked; j++)
        unit_row(m->s1 + (size_t)((first + j) % K) * D, D, m->looked + j * D);
    for (uint32_t k = 0; k < K; k++) {
        unit_row(m->s1 + k * D, D, row);
        for (uint32_t j = 0; j < looked; j++) {
            uint32_t i = (first + j) % K;
            float cosine = i == k ? -2 : vec_dot(m->looked + j * D, row, D);
            if (cosine > best.cosine)
                best = (struct pair){i < k ? i : k, i < k ? k : i, cosine};
        }
    }
    return best;
}

/* The widest dimension of component k. */
static struct width width_of(const struct mixture *m, uint32_t k)
{
    size_t D = m->options.D;
    double n = m->mass[k];
    struct width w = {.k = k, .variance = -1};
    size_t S = covariance_square_width(m->options.covariance, D), step = S / D + (S > D); /* along the diagonal */
    const double *s1 = m->s1 + k * D, *s2 = m->s2 + k * S;
    for (size_t d = 0; d < D; d++) {
        double mu = s1[d] / n, v = s2[d * step] / n - mu * mu;
        if (v > w.variance) {
            w.variance = v;
            w.d = d;
        }
    }
    w.score = n * w.variance;
    return w;
}

/* The same of a von Mises-Fisher component: 1/kappa, in the dimension that is most nearly tangential to its mean. */
static struct width tangent_of(const struct mixture *m, uint32_t k)
{
    size_t D = m->options.D;
    struct width w = {.k = k};
    const double *s1 = m->s1 + k * D;
    double squares = 0;
    for (size_t d = 0; d < D; d++) {
        squares += s1[d] * s1[d];
        if (fabs(s1[d]) < fabs(s1[w.d]))
            w.d = d;
    }
    double kappa = vmf_concentration((uint32_t)D, sqrt(squares) / m->mass[k]);
    w.variance = kappa > 1 ? 1 / kappa : 1; /* further out than a radian there is nothing */
    w.score = m->mass[k] * w.variance;
    return w;
}

/* The component with the largest score but for the pair. false when there is none. */
static bool find_widest(const struct mixture *m, struct pair p, struct width *out)
{
    *out = (struct width){.score = 0};
    for (uint32_t k = 0; k < m->options.K; k++) {
        if (k == p.a || k == p.b)
            continue;
        struct width w = m->s2 ? width_of(m, k) : tangent_of(m, k);
        if (w.score > out->score)
            *out = w;
    }
    return out->score > 0;
}

/* 1 - cosine of the halves: means mu + delta e_d and mu - delta e_d. */
static double distance_of_halves(const struct mixture *m, const struct width *w)
{
    size_t D = m->options.D;
    const double *s1 = m->s1 + w->k * D;
    double n = m->mass[w->k], squares = 0, length = 0;
    for (size_t d = 0; d < D; d++)
        squares += s1[d] * s1[d];
    length = m->s2 ? sqrt(squares) / n : 1; /* directions are moved as such */
    if (squares == 0)
        return 0;
    double mu = s1[w->d] / sqrt(squares) * length, v = w->variance, common = length * length + v;
    double other = 2 * mu * sqrt(v);
    return 1 - (length * length - v) / sqrt((common + other) * (common - other));
}

/* b joins a: sums, and weights exp(price). */
static void merge(struct mixture *m, uint32_t a, uint32_t b)
{
    size_t D = m->options.D;
    m->mass[a] += m->mass[b];
    m->usage[a] += m->usage[b];
    size_t S = covariance_square_width(m->options.covariance, D);
    for (size_t d = 0; d < D; d++)
        m->s1[a * D + d] += m->s1[b * D + d];
    for (size_t i = 0; i < S; i++)
        m->s2[a * S + i] += m->s2[b * S + i];
    if (m->options.balance > 0)
        m->price[a] = log(exp(m->price[a]) + exp(m->price[b]));
    if (m->last_assigned[b] > m->last_assigned[a])
        m->last_assigned[a] = m->last_assigned[b];
}

/* s1 (D) and s2 (S: D, or D*D) of half a component of mass n, whose own they are, moved by delta along dimension at. */
static void move_half(double *s1, double *s2, size_t S, double n, size_t at, double delta, size_t D)
{
    for (size_t d = 0; d < D; d++)
        s1[d] /= 2;
    for (size_t i = 0; i < S; i++)
        s2[i] /= 2;
    double half = n / 2, before = s1[at] / half, after = before + delta;
    s2[S == D ? at : at * D + at] += half * (after * after - before * before);
    for (size_t d = 0; d < D && S > D; d++)
        if (d != at) { /* mu_d mu_at in the other elements of that row and column */
            s2[at * D + d] += delta * s1[d];
            s2[d * D + at] += delta * s1[d];
        }
    s1[at] = half * after;
}

/* The same of a direction: it keeps half the length, and so its kappa. */
static void turn_half(double *s1, size_t at, double delta, size_t D)
{
    double before = 0, after = 0;
    for (size_t d = 0; d < D; d++)
        before += s1[d] * s1[d];
    s1[at] += delta * sqrt(before);
    for (size_t d = 0; d < D; d++)
        after += s1[d] * s1[d];
    for (size_t d = 0; d < D; d++)
        s1[d] *= 0.5 * sqrt(before / after);
}

/* Component `to` becomes one half of w->k. */
static void halve(struct mixture *m, const struct width *w, uint32_t to)
{
    size_t D = m->options.D;
    uint32_t halves[2] = {w->k, to};
    double n = m->mass[w->k], delta = sqrt(w->variance);
    size_t S = covariance_square_width(m->options.covariance, D);
    memcpy(m->s1 + to * D, m->s1 + w->k * D, D * sizeof *m->s1);
    if (m->s2)
        memcpy(m->s2 + to * S, m->s2 + w->k * S, S * sizeof *m->s2);
    m->usage[w->k] /= 2;
    if (m->options.balance > 0)
        m->price[w->k] -= log(2);
    for (int i = 0; i < 2; i++) {
        double move = i == 0 ? delta : -delta;
        uint32_t k = halves[i];
        if (m->s2)
            move_half(m->s1 + k * D, m->s2 + k * S, S, n, w->d, move, D);
        else
            turn_half(m->s1 + k * D, w->d, move, D);
        m->mass[k] = n / 2;
    }
    m->usage[to] = m->usage[w->k];
    m->price[to] = m->price[w->k];
    m->last_assigned[to] = m->last_assigned[w->k];
}

void split_nearest(struct mixture *m, uint32_t version)
{
    struct pair p = nearest_pair(m, version);
    struct width w;
    m->split.made = false;
    if (!(1 - (double)p.cosine < m->options.merge_distance) || !find_widest(m, p, &w) ||
        distance_of_halves(m, &w) < m->options.merge_distance)
        return;
    merge(m, p.a, p.b);
    halve(m, &w, p.b);
    m->updated_step[p.a] = m->updated_step[p.b] = m->updated_step[w.k] = version;
    m->split = (struct mixture_split){true, p.a, p.b, w.k};
    m->splits++;
}
