#include "cli/config_file.h"

#include <stdio.h>
#include <stdlib.h>
#include "common/files.h"

int config_file_write(const struct run_config *c, const char *path, struct error *e)
{
    struct run_config kept = *c;
    char *text = NULL;
    size_t size = 0;
    kept.run.accept_data = false;
    int rc = run_config_resolve_paths(&kept, e);
    FILE *f = rc == 0 ? open_memstream(&text, &size) : NULL;
    if (!f)
        return rc != 0 ? rc : error_set(e, ERR_MEMORY, "out of memory for the configuration's text");
    config_write(run_config_keys, run_config_key_count, &kept, f);
    rc = fclose(f) == 0 ? 0 : error_set(e, ERR_MEMORY, "out of memory for the configuration's text");
    struct file_part part = {text, size};
    if (rc == 0)
        rc = file_write_atomic(path, &part, 1, e);
    free(text);
    return rc;
}
