/* The server does not know what it has applied already. */
#include "server/prototype/ledger.h"

enum ledger_verdict __real_ledger_judge(struct ledger *l, struct ledger_id id, uint64_t seq,
                                        const struct ledger_limits *limits, uint64_t now_ms);
enum ledger_verdict __wrap_ledger_judge(struct ledger *l, struct ledger_id id, uint64_t seq,
                                        const struct ledger_limits *limits, uint64_t now_ms);
enum ledger_verdict __wrap_ledger_judge(struct ledger *l, struct ledger_id id, uint64_t seq,
                                        const struct ledger_limits *limits, uint64_t now_ms)
{
    enum ledger_verdict v = __real_ledger_judge(l, id, seq, limits, now_ms);
    return v == LEDGER_DUPLICATE ? LEDGER_APPLY : v;
}
