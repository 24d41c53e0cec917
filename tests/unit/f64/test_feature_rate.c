/* The coding rate of features once more with double reals: see the file this includes. */
#include "tests/unit/worker/test_feature_rate.c"
