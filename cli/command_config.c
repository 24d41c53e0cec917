/* decant config: every key with its meaning, range and default, as an INI file that `--config` reads back. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "cli/command.h"
#include "proto/run_config.h"

static const char help[] =
    "example: decant config > my.ini; decant train --config my.ini --run mine\n\n"
    "usage: decant config\n\n"
    "Prints the default configuration, each key with a comment: its meaning, its range, its default. Sources in\n"
    "rising order: the file given with --config, the environment (DECANT_SECTION_KEY), --set section.key=value.\n";

static void print_range(const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_INT:
    case CONFIG_FLOAT:
    case CONFIG_FLOATS:
        printf(" (%.9g .. %.9g)", key->min, key->max);
        break;
    case CONFIG_BOOL:
        fputs(" (true | false)", stdout);
        break;
    case CONFIG_CHOICE:
        printf(" (%s)", key->choices);
        break;
    case CONFIG_STRING:
    case CONFIG_PATH:
    case CONFIG_PATHS:
    case CONFIG_SECRET:
        break;
    }
}

/* What each choice of augment.preset sets, under the key itself. */
static void print_presets(const struct config_key *key)
{
    char name[32];
    for (int preset = AUGMENT_CUSTOM + 1; preset <= AUGMENT_GLYPHS; preset++) {
        struct run_config c = {.augment.preset = preset};
        config_value(key, &c, name, sizeof name);
        printf("#   %s:", name);
        for (const char *const *p = run_config_preset(preset); *p; p++)
            printf("%s %s", p == run_config_preset(preset) ? "" : ",", strchr(*p, '.') + 1);
        printf("\n");
    }
    printf("# Keys below are commented out with ';': those that are given win over the preset.\n");
}

static void print_all(void)
{
    struct run_config c;
    char section[64] = "", value[1200];
    memset(&c, 0, sizeof c);
    config_defaults(run_config_keys, run_config_key_count, &c);
    for (size_t i = 0; i < run_config_key_count; i++) {
        const struct config_key *key = &run_config_keys[i];
        int length = (int)strcspn(key->name, ".");
        if (strncmp(section, key->name, (size_t)length) != 0 || section[length] != '\0') {
            snprintf(section, sizeof section, "%.*s", length, key->name);
            printf("%s[%s]\n", i ? "\n" : "", section);
        }
        config_value(key, &c, value, sizeof value);
        bool preset = strcmp(key->name, "augment.preset") == 0, under_it = !preset && strcmp(section, "augment") == 0;
        printf("# %s", key->help);
        print_range(key);
        printf("\n");
        if (preset)
            print_presets(key);
        printf("%s%s = %s\n", under_it ? ";" : "", key->name + length + 1, value);
    }
}

static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
static const struct command_options command = {.name = "config", .help = help, .options = options};

int command_config(int argc, char **argv)
{
    int code = command_take_options(&command, argc, argv, NULL);
    if (code < 0)
        print_all();
    return code < 0 ? COMMAND_DONE : code;
}
