/* How OpenBLAS is set up: its threads, and the kernels that it runs. */
#ifndef DECANT_COMMON_BLAS_H
#define DECANT_COMMON_BLAS_H

#include "common/kernels.h"

#define BLAS_VARIABLE "OPENBLAS_CORETYPE"

/* Call once per process before the first BLAS call: one BLAS thread; parallelism is over slots, so that results do not
 * depend on the number of threads. */
void blas_single_threaded(void);
/* Which processor's kernels OpenBLAS runs, for instance "SkylakeX". */
const char *blas_kernels(void);
/* The kernels that OpenBLAS should run where our own are `ours`, when those that it runs, `theirs`, leave the
 * processor's vectors unused; else NULL. */
const char *blas_better_kernels(const char *theirs, enum kernels ours);
/* OpenBLAS knows processors by their number, and on one that is newer than itself may run kernels for the first 64-bit
 * processors there were, several times slower. It reads OPENBLAS_CORETYPE while it is loaded, so this starts the
 * program anew with it, once: call it before anything is open. Returns when there is nothing to mend, when the variable
 * is set already, or when the program cannot be started anew; it then goes on as it is. The children inherit the
 * variable. */
void blas_restart_if_behind(char **argv);

#endif
