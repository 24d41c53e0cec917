/* Which components move, and where to. */
#include "server/prototype/mixture_reseed.h"

#include "common/vecmath.h"
#include "server/prototype/mixture_place.h"
#include "server/prototype/ranks.h"

/* Order of re-seeding: ascending (usage, k). */
static bool used_less(const struct mixture *m, uint32_t a, uint32_t b)
{
    if (m->usage[a] != m->usage[b])
        return m->usage[a] < m->usage[b];
    return a < b;
}

static void swap(uint32_t *a, uint32_t *b)
{
    uint32_t t = *a;
    *a = *b;
    *b = t;
}

/* Max-heap by used_less: moves element i down to its place among the first n. */
static void sift_down(const struct mixture *m, uint32_t *heap, uint32_t i, uint32_t n)
{
    for (;;) {
        uint32_t top = i, left = 2 * i + 1, right = left + 1;
        if (left < n && used_less(m, heap[top], heap[left]))
            top = left;
        if (right < n && used_less(m, heap[top], heap[right]))
            top = right;
        if (top == i)
            return;
        swap(&heap[i], &heap[top]);
        i = top;
    }
}

static void sift_up(const struct mixture *m, uint32_t *heap, uint32_t i)
{
    while (i > 0 && used_less(m, heap[(i - 1) / 2], heap[i])) {
        swap(&heap[(i - 1) / 2], &heap[i]);
        i = (i - 1) / 2;
    }
}

/* Nothing is re-seeded for being used as little as a power law wants it to be. */
static double idle_below(const struct mixture *m)
{
    return m->ranks ? m->options.reseed_usage * ranks_least(m->ranks) : m->options.reseed_usage / m->options.K;
}

/* The reseed_max least used components below the threshold, in ascending (usage, k): a bounded heap over one pass,
 * then heap sort. Returns how many. */
static uint32_t least_used(struct mixture *m)
{
    uint32_t *heap = m->candidates, count = 0;
    double limit = idle_below(m);
    for (uint32_t k = 0; k < m->options.K; k++) {
        if (!(m->usage[k] < limit))
            continue;
        if (count < m->options.reseed_max) {
            heap[count] = k;
            sift_up(m, heap, count++);
        } else if (used_less(m, k, heap[0])) {
            heap[0] = k;
            sift_down(m, heap, 0, count);
        }
    }
    for (uint32_t n = count; n > 1; n--) {
        swap(&heap[0], &heap[n - 1]);
        sift_down(m, heap, 0, n - 1);
    }
    return count;
}

static uint32_t farthest(const float *distance, uint32_t V)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < V; i++)
        if (distance[i] > distance[best])
            best = i;
    return best;
}

/* The candidate of V >= 1 that a component moves to, or V when none is far enough from every prototype. */
static uint32_t choose_candidate(const struct mixture *m, const float *distance, uint32_t V)
{
    uint32_t i = 0;
    if (m->options.reseed_choice == RESEED_FARTHEST)
        i = farthest(distance, V);
    else
        while (i + 1 < V && (double)distance[i] < m->options.reseed_distance)
            i++;
    return (double)distance[i] < m->options.reseed_distance ? V : i;
}

/* distance_i = min(distance_i, 1 - h_i.h_j): embedding j has become a prototype. */
static void cover_candidate(const struct stats_rows *s, uint32_t j, float *distance)
{
    size_t D = s->D;
    for (uint32_t i = 0; i < s->V; i++) {
        float d = 1.0f - vec_dot(s->novel + i * D, s->novel + j * D, D);
        if (d < distance[i])
            distance[i] = d;
    }
}

void mixture_reseed(struct mixture *m, const struct stats_rows *s, float *distance, uint32_t version)
{
    uint32_t wanted = m->options.reseed_usage > 0 && s->V > 0 ? least_used(m) : 0;
    m->reseed_count = 0;
    for (uint32_t c = 0; c < wanted; c++) {
        uint32_t j = choose_candidate(m, distance, s->V);
        if (j == s->V)
            break;
        mixture_move(m, m->candidates[c], s->novel + (size_t)j * s->D, version);
        m->reseeds[m->reseed_count++] = (struct mixture_reseed){m->candidates[c], j};
        cover_candidate(s, j, distance);
    }
    m->reseeded += m->reseed_count;
}
