/* Taking of source options. */
#include "cli/source_options.h"

bool source_option_take(int option, const char *argument, struct source_options *out)
{
    switch (option) {
    case 'n':
        out->run = argument;
        return true;
    case 'R':
        out->redis = argument;
        return true;
    case 'o':
        out->directory = argument;
        return true;
    default:
        return false;
    }
}
