/* Planted: now and then a gradient is added twice. */
#include <stddef.h>

void __real_vec_add(float *restrict y, const float *restrict x, size_t n);
void __wrap_vec_add(float *restrict y, const float *restrict x, size_t n);

void __wrap_vec_add(float *restrict y, const float *restrict x, size_t n)
{
    static unsigned calls;
    __real_vec_add(y, x, n);
    if (++calls % 97 == 0)
        __real_vec_add(y, x, n);
}
