/* What the parameter server shows under /metrics, beside what both servers show. */
#ifndef DECANT_SERVER_PARAMETER_PROMETHEUS_H
#define DECANT_SERVER_PARAMETER_PROMETHEUS_H

#include "common/exposition.h"
#include "server/parameter/core.h"

void parameter_metrics_write(const struct parameter_core *core, const struct run_config *config, struct exposition *x);

#endif
