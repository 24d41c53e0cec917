/* The same tests with double reals and double's tolerance: see the file this includes. */
#include "tests/unit/worker/test_nn_conv.c"
