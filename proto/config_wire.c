/* What a checkpoint keeps of a configuration, without the place of the images. */
#include "proto/config_wire.h"

#include <stdlib.h>

static void release(void *data, void *hint)
{
    (void)hint;
    free(data);
}

int config_wire_add(const struct run_config *c, struct msg *m)
{
    struct run_config told = *c;
    size_t size = 0;
    told.data.path[0] = '\0';
    char *text = run_config_record(&told, &size);
    struct buf *data = text ? buf_wrap(text, size, release, NULL) : NULL;
    if (!data) {
        free(text);
        return ERR_MEMORY;
    }
    return msg_add_tensor(m, "config", DTYPE_U8, 1, &(uint64_t){size}, data);
}

size_t config_wire_differences(const struct msg *m, const struct run_config *own, char *text, size_t size)
{
    struct run_config theirs;
    enum reason why = 0;
    const struct msg_tensor *t = msg_tensor(m, "config", DTYPE_U8, &why);
    text[0] = '\0';
    if (!t || run_config_from_record(&theirs, t->data->data, t->data->size, "the server's configuration", NULL) != 0)
        return 0;
    return run_config_differences(&theirs, own, text, size);
}
