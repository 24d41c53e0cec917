/* A checkpoint is taken while contributions are in the ledger and not yet in the mixture. */
#include "server/prototype/stream.h"

bool __wrap_stream_may_snapshot(const struct stream *s);
bool __wrap_stream_may_snapshot(const struct stream *s)
{
    return !s->writing;
}
