/* Taking of configuration options. */
#include "cli/config_options.h"

#include <unistd.h>
#include "cli/command.h"

int config_option_take(const char *name, int option, const char *argument, struct config_options *out)
{
    switch (option) {
    case 'c':
        out->file = argument;
        return -1;
    case 's':
        if (out->set_count == CONFIG_SETS_MAX)
            return command_usage(name, "more than %d times --set", CONFIG_SETS_MAX);
        out->sets[out->set_count++] = argument;
        return -1;
    default:
        return 0;
    }
}

int config_options_load(const struct config_options *o, struct run_config *out, struct error *e)
{
    return run_config_load(out, o->file, environ, o->sets, o->set_count, e);
}
