/* Headers of ours, the archive by libzip. Written to PATH.inprogress and renamed. */
#include "cli/npz_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
#include <zip.h>
#include "common/files.h"

enum {
    SHAPE_MAX = 128,    /* four numbers of 20 digits */
    HEADER_PREFIX = 10, /* bytes before the dictionary */
    ALIGNMENT = 64,
    MEMBER_NAME_MAX = TENSOR_NAME_MAX + 8,
    DATE_1980 = (1 << 5) | 1 /* 1 January 1980, where DOS begins: no clock in the bytes */
};

static const char *numpy_type(enum dtype t)
{
    static const char *const names[] = {
        [DTYPE_F32] = "<f4", [DTYPE_F64] = "<f8", [DTYPE_U32] = "<u4", [DTYPE_U64] = "<u8", [DTYPE_U8] = "|u1"};
    return names[t];
}

/* (2, 3) and (2,) and (). */
static void write_shape(const struct tensor_view *t, char *out, size_t size)
{
    int used = snprintf(out, size, "(");
    for (uint32_t d = 0; d < t->rank; d++)
        used += snprintf(out + used, size - (size_t)used, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
    snprintf(out + used, size - (size_t)used, t->rank == 1 ? ",)" : ")");
}

size_t npy_header_write(const char *type, const char *shape, char out[NPY_HEADER_BYTES])
{
    char *dictionary = out + HEADER_PREFIX;
    int used = snprintf(dictionary, NPY_HEADER_BYTES - HEADER_PREFIX,
                        "{'descr': %s, 'fortran_order': False, 'shape': %s, }", type, shape);
    size_t size = HEADER_PREFIX + (size_t)used + 1, padded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    ASSERT(padded <= NPY_HEADER_BYTES);
    memset(dictionary + used, ' ', padded - size);
    out[padded - 1] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((padded - HEADER_PREFIX) & 0xff);
    out[9] = (char)((padded - HEADER_PREFIX) >> 8);
    return padded;
}

/* Ranks are at most 4, so that it fits. */
static size_t npy_header(const struct tensor_view *t, bool text, char out[NPY_HEADER_BYTES])
{
    char type[32], shape[SHAPE_MAX];
    if (text) {
        snprintf(type, sizeof type, "'<U%" PRIu64 "'", t->shape[1]);
        snprintf(shape, sizeof shape, "(%" PRIu64 ",)", t->shape[0]);
    } else {
        snprintf(type, sizeof type, "'%s'", numpy_type(t->dtype));
        write_shape(t, shape, sizeof shape);
    }
    return npy_header_write(type, shape, out);
}

/* header: memory that lives until the archive is closed, like the tensor's. 0 or -1. */
static int add_member(zip_t *zip, const struct tensor_view *t, bool text, char header[NPY_HEADER_BYTES])
{
    char name[MEMBER_NAME_MAX];
    const zip_buffer_fragment_t parts[2] = {
        {.data = (zip_uint8_t *)header, .length = npy_header(t, text, header)},
        {.data = (zip_uint8_t *)t->data, .length = t->size}, /* read only */
    };
    snprintf(name, sizeof name, "%s.npy", t->name);
    zip_source_t *source = zip_source_buffer_fragment(zip, parts, t->size > 0 ? 2 : 1, 0);
    if (!source)
        return -1;
    zip_int64_t index = zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
        zip_source_free(source);
        return -1;
    }
    if (zip_set_file_compression(zip, (zip_uint64_t)index, ZIP_CM_STORE, 0) != 0)
        return -1;
    return zip_file_set_dostime(zip, (zip_uint64_t)index, 0, DATE_1980, 0);
}

static int fill_archive(zip_t *zip, const char *path, const struct tensor_view *tensors, size_t n, size_t texts,
                        struct error *e)
{
    char(*headers)[NPY_HEADER_BYTES] = calloc(n + 1, sizeof *headers);
    int failed = headers ? 0 : -1;
    for (size_t i = 0; failed == 0 && i < n; i++)
        failed = add_member(zip, &tensors[i], i + texts >= n, headers[i]);
    if (failed == 0)
        failed = zip_close(zip);
    if (failed != 0) {
        error_set(e, ERR_IO, "write %s: %s", path, headers ? zip_strerror(zip) : "out of memory");
        zip_discard(zip);
    }
    free(headers);
    return failed == 0 ? 0 : ERR_IO;
}

static int write_archive(const char *path, const struct tensor_view *tensors, size_t n, size_t texts, struct error *e)
{
    int code;
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (zip)
        return fill_archive(zip, path, tensors, n, texts, e);
    zip_error_t why;
    zip_error_init_with_code(&why, code);
    error_set(e, ERR_IO, "create %s: %s", path, zip_error_strerror(&why));
    zip_error_fini(&why);
    return ERR_IO;
}

static int make_durable(const char *path, struct error *e)
{
    int fd, rc = file_open(path, O_RDONLY, &fd, e);
    if (rc == 0 && fsync(fd) != 0)
        rc = error_set(e, ERR_IO, "fsync %s: %s", path, strerror(errno));
    if (rc == 0)
        close(fd);
    return rc;
}

int npz_write(const char *path, const struct tensor_view *tensors, size_t n, size_t texts, struct error *e)
{
    char temporary[PATH_MAX];
    if (path_format(temporary, sizeof temporary, "%s.inprogress", path) != 0)
        return error_set(e, ERR_RANGE, "path too long: %.200s", path);
    int rc = write_archive(temporary, tensors, n, texts, e);
    if (rc == 0)
        rc = make_durable(temporary, e);
    if (rc == 0 && rename(temporary, path) != 0)
        rc = error_set(e, ERR_IO, "rename %s: %s", temporary, strerror(errno));
    if (rc != 0)
        unlink(temporary);
    return rc;
}
