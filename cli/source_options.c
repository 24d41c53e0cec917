/* Taking of source options. */
#include "cli/source_options.h"

void source_option_take(int option, const char *argument, struct source_options *out)
{
    switch (option) {
    case 'n':
        out->run = argument;
        break;
    case 'R':
        out->redis = argument;
        break;
    case 'o':
        out->directory = argument;
        break;
    }
}
