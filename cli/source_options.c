/* Taking of source options. */
#include "cli/source_options.h"

#include <stdio.h>

void source_option_take(int option, char *argument, struct source_options *out)
{
    switch (option) {
    case 'n':
        out->run = argument;
        break;
    case 'R':
        /* An empty one is no address, but given; a cut one is longer than any address. */
        snprintf(out->redis, sizeof out->redis, "%s", argument[0] ? argument : " ");
        redis_address_hide(argument);
        break;
    case 'o':
        out->directory = argument;
        break;
    }
}
