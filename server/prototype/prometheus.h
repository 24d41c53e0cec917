/* What the prototype server shows under /metrics, beside what both servers show. */
#ifndef DECANT_SERVER_PROTOTYPE_PROMETHEUS_H
#define DECANT_SERVER_PROTOTYPE_PROMETHEUS_H

#include "common/exposition.h"
#include "server/prototype/core.h"
#include "server/prototype/mirror.h"

/* d: the newest diagnostics, or NULL before the first. mirror: NULL when there is none. */
void prototype_metrics_write(const struct prototype_core *core, const struct diagnostics *d,
                             const struct mirror *mirror, struct exposition *x);

#endif
