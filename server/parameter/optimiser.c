/* Kernels in float with coefficients prepared in double. Equal inputs give equal bytes with one choice of kernels:
 * every element is computed on its own, and the norm is added in a fixed order. */
#include "server/parameter/optimiser.h"

#include <math.h>
#include "common/error.h"
#include "common/kernels.h"
#include "common/vecmath.h"

struct optimiser optimiser_from_config(const struct run_config *c)
{
    return (struct optimiser){
        .name = c->optimiser.name,
        .beta1 = c->optimiser.beta1,
        .beta2 = c->optimiser.beta2,
        .epsilon = c->optimiser.epsilon,
        .momentum = c->optimiser.momentum,
        .decay = c->optimiser.decay,
        .clip = c->optimiser.clip,
    };
}

unsigned optimiser_moments(enum optimiser_name name)
{
    return name == OPTIMISER_ADAMW ? 2 : 1;
}

const char *optimiser_moment_name(enum optimiser_name name, unsigned moment)
{
    ASSERT(moment < optimiser_moments(name));
    if (name == OPTIMISER_SGD)
        return "sgd_v";
    return moment == 0 ? "adam_m" : "adam_v";
}

double optimiser_gradient_norm(const struct manifest *m, const float *sum, double slots)
{
    double clipped = 0.0, free_running = 0.0;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct manifest_entry *entry = &m->parameters[i];
        *(entry->clip ? &clipped : &free_running) += vec_sum_squares(sum + entry->offset, entry->count);
    }
    /* A float's square never overflows a double, so an infinite sum means an infinite element. */
    if (!isfinite(free_running))
        return free_running;
    return sqrt(clipped) / slots;
}

double optimiser_clip_factor(const struct optimiser *o, double norm)
{
    return o->clip > 0.0 && norm > o->clip ? o->clip / norm : 1.0;
}

struct adamw_coefficients {
    float scale, keep;                /* of the gradient; 1 - a decay */
    float beta1, rest1, beta2, rest2; /* rest = 1 - beta */
    float rate, root, epsilon;        /* a / (1 - b1^n); 1 / sqrt(1 - b2^n) */
};

static struct adamw_coefficients adamw_prepare(const struct optimiser *o, const struct optimiser_rate *r)
{
    double n = (double)r->step + 1.0;
    return (struct adamw_coefficients){
        .scale = (float)r->scale,
        .keep = (float)(1.0 - r->lr * r->decay),
        .beta1 = (float)o->beta1,
        .rest1 = (float)(1.0 - o->beta1),
        .beta2 = (float)o->beta2,
        .rest2 = (float)(1.0 - o->beta2),
        .rate = (float)(r->lr / (1.0 - pow(o->beta1, n))),
        .root = (float)(1.0 / sqrt(1.0 - pow(o->beta2, n))),
        .epsilon = (float)o->epsilon,
    };
}

/* ivdep: a destination equals its source or does not touch it, so iterations are independent. */
STATIC_KERNEL(void, adamw_kernel, (const struct adamw_coefficients *coefficients, const struct optimiser_span *s),
              (coefficients, s))
{
    const struct adamw_coefficients c = *coefficients;
    const float *sum = s->sum, *from = s->from, *m = s->moments[0], *v = s->moments[1];
    float *to = s->to, *m_to = s->moments_to[0], *v_to = s->moments_to[1];
#pragma GCC ivdep
    for (size_t i = 0; i < s->n; i++) {
        float g = c.scale * sum[i];
        float mean = c.beta1 * m[i] + c.rest1 * g;
        float square = c.beta2 * v[i] + c.rest2 * g * g;
        m_to[i] = mean;
        v_to[i] = square;
        to[i] = c.keep * from[i] - c.rate * mean / (sqrtf(square) * c.root + c.epsilon);
    }
}

struct sgd_coefficients {
    float scale, keep, momentum, rate;
};

STATIC_KERNEL(void, sgd_kernel, (const struct sgd_coefficients *coefficients, const struct optimiser_span *s),
              (coefficients, s))
{
    const struct sgd_coefficients c = *coefficients;
    const float *sum = s->sum, *from = s->from, *u = s->moments[0];
    float *to = s->to, *u_to = s->moments_to[0];
#pragma GCC ivdep
    for (size_t i = 0; i < s->n; i++) {
        float velocity = c.momentum * u[i] + c.scale * sum[i];
        u_to[i] = velocity;
        to[i] = c.keep * from[i] - c.rate * velocity;
    }
}

void optimiser_apply(const struct optimiser *o, const struct optimiser_rate *rate, const struct optimiser_span *s)
{
    if (o->name == OPTIMISER_ADAMW) {
        struct adamw_coefficients c = adamw_prepare(o, rate);
        adamw_kernel(&c, s);
        return;
    }
    struct sgd_coefficients c = {
        .scale = (float)rate->scale,
        .keep = (float)(1.0 - rate->lr * rate->decay),
        .momentum = (float)o->momentum,
        .rate = (float)rate->lr,
    };
    sgd_kernel(&c, s);
}
