/* Configuration files from foreign bytes: what is taken satisfies its key, and what is written of it reads back to the
 * same values. */
#include <stdio.h>
#include <stdlib.h>
#include "proto/run_config.h"
#include "tests/fuzz/fuzz.h"

static void check_written(const struct run_config *c)
{
    static struct run_config back;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    struct error e;
    ASSERT(f != NULL);
    config_write(run_config_keys, run_config_key_count, c, f);
    ASSERT(fclose(f) == 0);
    memset(&back, 0, sizeof back);
    config_defaults(run_config_keys, run_config_key_count, &back);
    ASSERT(config_memory(run_config_keys, run_config_key_count, &back, text, size, "written", &e) == 0);
    for (size_t i = 0; i < run_config_key_count; i++) {
        char before[1200], after[1200];
        config_value(&run_config_keys[i], c, before, sizeof before);
        config_value(&run_config_keys[i], &back, after, sizeof after);
        ASSERT(strcmp(before, after) == 0);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run_config c;
    struct error e = {0};
    char *text = malloc(size + 1); /* one more, for size 0; what is read beyond size is seen by the sanitizer */
    memset(&c, 0, sizeof c);
    config_defaults(run_config_keys, run_config_key_count, &c);
    if (size > 0)
        memcpy(text, data, size);
    text = realloc(text, size > 0 ? size : 1);
    int rc = config_memory(run_config_keys, run_config_key_count, &c, text, size, "fuzz", &e);
    ASSERT(rc == 0 || (rc == ERR_CONFIG && e.text[0] != '\0'));
    if (rc == 0)
        check_written(&c);
    free(text);
    return 0;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static const char *const seeds[] = {
        "\xef\xbb\xbf[run]\r\nname = a\r\nslots = 8 ; eight\r\n\t# comment\r\n[data]\r\npath:\t/x/y z;w#v\r\n",
        "[loss]\nobjective = swav\nprototypes=joint\n[optimiser]\nlr = 2e-3 # peak\n[ redis ]\nenabled = yes\npassword "
        "= x\n",
        "[encoder]\nwidths = 8,16\nmodel = vit\n\n[augment]\nflip = 0.5",
    };
    return fuzz_text(seeds, sizeof seeds / sizeof seeds[0], i, out, room);
}
