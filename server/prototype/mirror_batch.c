/* The script and its arguments: ARGV = generation, started, then for each command its length and its words. */
#include "server/prototype/mirror_batch.h"

#include <inttypes.h>
#include <string.h>

#define SUPERSEDED "SUPERSEDED"

static const char script[] =
    "local held = redis.call('HMGET', KEYS[1], 'generation', 'started')\n"
    "local generation, started = tonumber(held[1] or 0) or 0, held[2] or ''\n"
    "if generation >= tonumber(ARGV[1]) and started > ARGV[2] and redis.call('EXISTS', KEYS[2]) == 1 then\n"
    "  return redis.error_reply('" SUPERSEDED " ' .. generation)\n"
    "end\n"
    "local at = 3\n"
    "while at <= #ARGV do\n"
    "  local words = tonumber(ARGV[at])\n"
    "  redis.call(unpack(ARGV, at + 1, at + words))\n"
    "  at = at + words + 1\n"
    "end\n"
    "return 'OK'\n";

void mirror_batch_begin(struct redis_command *batch, const char *run, uint64_t generation, const char *started)
{
    redis_command_begin(batch, "EVAL");
    redis_command_text(batch, script);
    redis_command_text(batch, "2");
    redis_command_format(batch, "decant:%s", run);
    redis_command_format(batch, "decant:%s:live", run);
    redis_command_format(batch, "%" PRIu64, generation);
    redis_command_text(batch, started);
}

void mirror_batch_add(struct redis_command *batch, const struct redis_command *command)
{
    redis_command_format(batch, "%u", command->arguments);
    redis_command_append(batch, command);
}

bool mirror_batch_superseded(const char *reply)
{
    return strncmp(reply, SUPERSEDED, strlen(SUPERSEDED)) == 0;
}
