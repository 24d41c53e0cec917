/* The loss fixtures once more with double reals: see the file this includes. */
#include "tests/unit/worker/test_loss.c"
