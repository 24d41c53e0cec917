/* RESP arrays of bulk strings. The array header is only known at the end, so room for it is kept at the front. */
#include "server/prototype/redis_command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"

enum { HEADER_ROOM = 16 }; /* "*" + ten digits + "\r\n" fit */

void redis_command_init(struct redis_command *c)
{
    memset(c, 0, sizeof *c);
}

void redis_command_fini(struct redis_command *c)
{
    free(c->buffer);
    redis_command_init(c);
}

static bool reserve(struct redis_command *c, size_t more)
{
    if (c->out_of_memory || c->size + more <= c->room)
        return !c->out_of_memory;
    size_t room = 2 * (c->size + more);
    char *grown = realloc(c->buffer, room);
    c->out_of_memory = grown == NULL;
    if (grown == NULL)
        return false;
    c->buffer = grown;
    c->room = room;
    return true;
}

void redis_command_begin(struct redis_command *c, const char *name)
{
    c->size = HEADER_ROOM;
    c->arguments = 0;
    c->out_of_memory = false;
    redis_command_text(c, name);
}

void redis_command_bytes(struct redis_command *c, const void *data, size_t size)
{
    if (!reserve(c, size + 32))
        return;
    c->size += (size_t)sprintf(c->buffer + c->size, "$%zu\r\n", size);
    memcpy(c->buffer + c->size, data, size);
    memcpy(c->buffer + c->size + size, "\r\n", 2);
    c->size += size + 2;
    c->arguments++;
}

void redis_command_text(struct redis_command *c, const char *text)
{
    redis_command_bytes(c, text, strlen(text));
}

void redis_command_format(struct redis_command *c, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    redis_command_text(c, text);
}

void redis_command_append(struct redis_command *c, const struct redis_command *other)
{
    size_t size = other->size - HEADER_ROOM;
    c->out_of_memory |= other->out_of_memory;
    if (!reserve(c, size))
        return;
    memcpy(c->buffer + c->size, other->buffer + HEADER_ROOM, size);
    c->size += size;
    c->arguments += other->arguments;
}

int redis_command_end(struct redis_command *c)
{
    if (c->out_of_memory)
        return ERR_MEMORY;
    char header[HEADER_ROOM + 1];
    int n = snprintf(header, sizeof header, "*%u\r\n", c->arguments);
    ASSERT(n > 0 && n <= HEADER_ROOM);
    char *start = c->buffer + HEADER_ROOM - n;
    memcpy(start, header, (size_t)n);
    c->wire = start;
    c->wire_size = c->size - (size_t)(HEADER_ROOM - n);
    return 0;
}
