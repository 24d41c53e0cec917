/* A binary heap in a plain array, the element that goes before all others at [0]. The caller owns the array and the
 * count.
 *
 *   static bool before(struct item a, struct item b) { return a.key < b.key; }
 *   HEAP_DEFINE(items, struct item, before)
 *
 *   heap[n] = x, items_rise(heap, n++);                       // add
 *   first = heap[0], heap[0] = heap[--n], items_sink(heap, n, 0);  // take
 *   heap[0] = x, items_sink(heap, n, 0);                      // replace the first
 *   for (size_t i = n / 2; i-- > 0;) items_sink(heap, n, i);  // make one of n elements in any order
 *
 * Elements that neither go before the other are never swapped, and of two such children the left one rises: where
 * the order is not total, what comes out still depends on nothing but the sequence of calls, so results repeat bit
 * by bit. A template instead of callbacks because two of its users stand in inner loops. */
#ifndef DECANT_COMMON_HEAP_H
#define DECANT_COMMON_HEAP_H

#include <stddef.h>

#define HEAP_DEFINE(name, type, before)                                                                                \
    typedef type name##_item;                                                                                          \
    /* heap[i] moves up to its place; all others are in order. */                                                      \
    static inline void name##_rise(name##_item *heap, size_t i)                                                        \
    {                                                                                                                  \
        name##_item x = heap[i];                                                                                       \
        for (; i > 0 && before(x, heap[(i - 1) / 2]); i = (i - 1) / 2)                                                 \
            heap[i] = heap[(i - 1) / 2];                                                                               \
        heap[i] = x;                                                                                                   \
    }                                                                                                                  \
    /* heap[i] moves down to its place among the first n; both its subtrees are in order. n = 0 is fine. */            \
    static inline void name##_sink(name##_item *heap, size_t n, size_t i)                                              \
    {                                                                                                                  \
        if (i >= n)                                                                                                    \
            return;                                                                                                    \
        name##_item x = heap[i];                                                                                       \
        for (size_t child; (child = 2 * i + 1) < n; i = child) {                                                       \
            if (child + 1 < n && before(heap[child + 1], heap[child]))                                                 \
                child++;                                                                                               \
            if (!before(heap[child], x))                                                                               \
                break;                                                                                                 \
            heap[i] = heap[child];                                                                                     \
        }                                                                                                              \
        heap[i] = x;                                                                                                   \
    }

#endif
