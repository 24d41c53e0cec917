/* decant import: weights of another program in a form that encoder.init reads. */
#include <stdbool.h>
#include <stdio.h>
#include "cli/command.h"
#include "cli/huggingface.h"
#include "cli/output_file.h"

static const char help[] =
    "example: decant import dino-vits16/ --out dino.safetensors\n\n"
    "usage: decant import PATH --out FILE.safetensors [--force]\n\n"
    "  PATH               a vision transformer of Hugging Face's transformers (ViTModel, F32): its directory with\n"
    "                     model.safetensors and config.json, or the safetensors file\n"
    "  --out FILE         where to; an existing file is not overwritten\n"
    "  --force            overwrite FILE if it is a regular file\n\n"
    "Prints the configuration that the weights are for; encoder.init = FILE begins a run with them. The other way:\n"
    "decant export --format huggingface.\n";

static const struct option options[] = {
    {"out", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, 'F'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct import_line {
    const char *out;
    bool force;
};

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct import_line *line = arg;
    if (option == 'o')
        line->out = optarg;
    else
        line->force = true;
    return -1;
}

static void print_configuration(const struct huggingface_shape *s, const char *out)
{
    printf("[encoder]\ninit = %s\nmodel = vit\npool = cls\npatch = %u\ndim = %u\ndepth = %u\nmlp = %u\n", out, s->patch,
           s->dim, s->depth, s->mlp);
    if (s->heads > 0)
        printf("heads = %u\n", s->heads);
    else
        printf("# heads: num_attention_heads of its config.json\n");
    printf("[data]\nchannels = %u\n# side: %u patches of %u pixels\n", s->channels, s->tokens - 1, s->patch);
}

static const struct command_options command = {
    .name = "import", .help = help, .options = options, .take = take_option, .arguments_max = 1};

int command_import(int argc, char **argv)
{
    struct import_line line = {0};
    struct huggingface_shape shape;
    struct error e = {0};
    int code = command_take_options(&command, argc, argv, &line);
    if (code < 0 && (line.out == NULL || optind == argc))
        code = command_usage("import", "PATH and --out FILE are needed");
    if (code < 0)
        code = output_file_check("import", line.out, line.force);
    if (code >= 0)
        return code;
    if (huggingface_import(argv[optind], line.out, &shape, &e) != 0)
        return command_failed("import", &e);
    print_configuration(&shape, line.out);
    return COMMAND_DONE;
}
