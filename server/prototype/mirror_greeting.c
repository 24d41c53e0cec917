/* One stage for each command; what is not configured is left out. */
#include "server/prototype/mirror_greeting.h"

#include <stdio.h>
#include <string.h>

enum { STAGE_AUTH, STAGE_SELECT, STAGE_INFO, STAGE_END };

void mirror_greeting_begin(struct mirror_greeting *g, const struct redis_address *address, uint64_t needed)
{
    memset(g, 0, sizeof *g);
    g->address = address;
    g->needed = needed;
}

static void auth(const struct redis_login *login, struct redis_command *c)
{
    const char *arguments[2];
    int n = redis_login_arguments(login, arguments);
    redis_command_begin(c, "AUTH");
    for (int i = 0; i < n; i++)
        redis_command_text(c, arguments[i]);
}

bool mirror_greeting_next(struct mirror_greeting *g, struct redis_command *c)
{
    if (g->stage == STAGE_AUTH && g->address->login.password[0] == '\0')
        g->stage++;
    if (g->stage == STAGE_SELECT && g->address->db == 0)
        g->stage++;
    switch (g->stage) {
    case STAGE_AUTH:
        auth(&g->address->login, c);
        return true;
    case STAGE_SELECT:
        redis_command_begin(c, "SELECT");
        redis_command_format(c, "%d", (int)g->address->db);
        return true;
    case STAGE_INFO:
        redis_command_begin(c, "INFO");
        return true;
    }
    return false;
}

static enum greeting_verdict bad(struct mirror_greeting *g, enum greeting_verdict verdict, const char *kind,
                                 const char *text, const char *advice)
{
    g->kind = kind;
    snprintf(g->text, sizeof g->text, "%s", text);
    snprintf(g->advice, sizeof g->advice, "%s", advice);
    return verdict;
}

static enum greeting_verdict take_info(struct mirror_greeting *g, const redisReply *reply)
{
    redis_judge(reply->str, reply->len, g->needed, &g->judgement);
    if (g->judgement.fitness == REDIS_UNFIT)
        return bad(g, GREETING_UNFIT, "unfit", g->judgement.text, g->judgement.advice);
    return GREETING_FINE;
}

enum greeting_verdict mirror_greeting_take(struct mirror_greeting *g, const redisReply *reply)
{
    bool info = g->stage == STAGE_INFO;
    g->stage++;
    if (reply->type == REDIS_REPLY_ERROR && info && strncmp(reply->str, "NOPERM", 6) == 0) {
        g->unjudged = true;
        return GREETING_FINE;
    }
    if (reply->type == REDIS_REPLY_ERROR) /* "WRONGPASS ...": it does not repeat what we sent */
        return bad(g, GREETING_REFUSED, "login", reply->str, redis_error_advice(reply->str));
    if (reply->type != (info ? REDIS_REPLY_STRING : REDIS_REPLY_STATUS))
        return bad(g, GREETING_REFUSED, "stranger", "it does not answer as a Redis does", "correct the address");
    return info ? take_info(g, reply) : GREETING_FINE;
}
