/* One Redis command in the wire form of RESP ("*2\r\n$4\r\nPING\r\n..."), built in a buffer that is used again for the
 * next one. Values are binary-safe. Sending is somebody else's business.
 *
 *   redis_command_begin(&c, "HSET");
 *   redis_command_text(&c, "decant:run");
 *   redis_command_format(&c, "%s", "step");  redis_command_format(&c, "%d", 7);
 *   if (redis_command_end(&c) == 0) send(c.wire, c.wire_size); */
#ifndef DECANT_SERVER_PROTOTYPE_REDIS_COMMAND_H
#define DECANT_SERVER_PROTOTYPE_REDIS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redis_command {
    char *buffer;      /* room for the array header, then the arguments */
    size_t size, room; /* bytes */
    uint32_t arguments;
    bool out_of_memory;
    const char *wire; /* after _end: the command */
    size_t wire_size;
};

void redis_command_init(struct redis_command *c);
void redis_command_fini(struct redis_command *c);

void redis_command_begin(struct redis_command *c, const char *name);
void redis_command_bytes(struct redis_command *c, const void *data, size_t size);
void redis_command_text(struct redis_command *c, const char *text);
/* One argument of at most 511 characters; longer ones are cut. */
void redis_command_format(struct redis_command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* All arguments of another command, which need not be ended. */
void redis_command_append(struct redis_command *c, const struct redis_command *other);
int redis_command_end(struct redis_command *c); /* 0 or ERR_MEMORY */

#endif
