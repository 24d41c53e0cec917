/* When a checkpoint is on disk, what was applied since it was taken is called durable as well. */
#include "server/prototype/ledger.h"

void __real_ledger_written(struct ledger *l);
void __wrap_ledger_written(struct ledger *l);
void __wrap_ledger_written(struct ledger *l)
{
    ledger_snapshot(l);
    __real_ledger_written(l);
}
