/* IDX: two zero bytes, type code (8 = unsigned byte), number of dimensions, each dimension as a big-endian u32, then
 * the values, last dimension fastest. Images have three dimensions (N,H,W) or four (N,H,W,C), labels one. zlib's reader
 * takes gzipped and plain files alike, so that the suffix only decides which name is tried first. Everything in a file
 * is checked: a count that the bytes behind it do not bear out is an error, never a short set. */
#include "worker/data/dataset.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "common/files.h"

enum { IDX_UNSIGNED_BYTE = 8, IDX_RANK_MAX = 4, FILE_NAME_MAX = 1200, READ_CHUNK = 1 << 24 };

#define IMAGE_BYTES_MAX (UINT64_C(1) << 32) /* larger sets do not belong in memory */

static const char *const image_files[] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"};
static const char *const label_files[] = {"train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"};

struct idx {
    char name[FILE_NAME_MAX];
    gzFile file;
    uint32_t rank, dims[IDX_RANK_MAX];
};

static uint32_t big_endian(const uint8_t b[4])
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Why zlib stopped early: a damaged stream has its own text, otherwise the file just ends. */
static int read_failed(const struct idx *x, struct error *e)
{
    int code;
    const char *text = gzerror(x->file, &code);
    if (code == Z_ERRNO)
        return error_set(e, ERR_IO, "%s: %s", x->name, strerror(errno));
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
        return error_set(e, ERR_FORMAT, "%s: damaged (%s); fetch it again", x->name, text);
    return error_set(e, ERR_FORMAT, "%s: truncated; fetch it again", x->name);
}

static int read_exactly(const struct idx *x, uint8_t *out, uint64_t size, struct error *e)
{
    while (size > 0) {
        unsigned chunk = size < READ_CHUNK ? (unsigned)size : READ_CHUNK;
        int got = gzread(x->file, out, chunk);
        if (got <= 0)
            return read_failed(x, e);
        out += got;
        size -= (uint64_t)got;
    }
    return 0;
}

/* Opens path/name, else path/name.gz. ERR_NOT_FOUND when there is neither. */
static int open_either(const char *path, const char *name, struct idx *x, struct error *e)
{
    static const char *const suffixes[] = {"", ".gz"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (path_format(x->name, sizeof x->name, "%s/%s%s", path, name, suffixes[i]) != 0)
            return error_set(e, ERR_RANGE, "data.path is longer than %d bytes", FILE_NAME_MAX - 64);
        if (access(x->name, F_OK) != 0)
            continue;
        x->file = gzopen(x->name, "rb");
        return x->file ? 0 : error_set(e, ERR_IO, "%s: %s", x->name, strerror(errno));
    }
    return error_set(e, ERR_NOT_FOUND, "%s/%s[.gz]: not found; set data.path to a directory of IDX files", path, name);
}

static int read_header(struct idx *x, struct error *e)
{
    uint8_t magic[4], dim[4];
    int rc = read_exactly(x, magic, sizeof magic, e);
    if (rc != 0)
        return rc;
    if (magic[0] != 0 || magic[1] != 0 || magic[2] != IDX_UNSIGNED_BYTE || magic[3] < 1 || magic[3] > IDX_RANK_MAX)
        return error_set(e, ERR_FORMAT, "%s: starts with %02x%02x%02x%02x, which is no IDX file of unsigned bytes",
                         x->name, magic[0], magic[1], magic[2], magic[3]);
    x->rank = magic[3];
    for (uint32_t i = 0; i < x->rank; i++) {
        if ((rc = read_exactly(x, dim, sizeof dim, e)) != 0)
            return rc;
        x->dims[i] = big_endian(dim);
    }
    return 0;
}

static int idx_open(const char *path, const char *name, struct idx *x, struct error *e)
{
    memset(x, 0, sizeof *x);
    int rc = open_either(path, name, x, e);
    return rc == 0 ? read_header(x, e) : rc;
}

static void idx_close(struct idx *x)
{
    if (x->file)
        gzclose(x->file);
    x->file = NULL;
}

/* Nothing may follow the values; reading on also verifies gzip's checksum. */
static int expect_end(const struct idx *x, struct error *e)
{
    uint8_t more;
    int got = gzread(x->file, &more, 1);
    if (got < 0)
        return read_failed(x, e);
    return got == 0 ? 0 : error_set(e, ERR_FORMAT, "%s: longer than its header says", x->name);
}

static int check_image_dims(const struct idx *x, struct error *e)
{
    if (x->rank != 3 && x->rank != 4)
        return error_set(e, ERR_FORMAT, "%s: %u dimensions, expected 3 or 4", x->name, x->rank);
    uint32_t channels = x->rank == 4 ? x->dims[3] : 1;
    if (x->dims[0] == 0)
        return error_set(e, ERR_FORMAT, "%s: holds no images", x->name);
    if (x->dims[1] - 1 >= DATASET_SIDE_MAX || x->dims[2] - 1 >= DATASET_SIDE_MAX ||
        channels - 1 >= DATASET_CHANNELS_MAX)
        return error_set(e, ERR_RANGE, "%s: images of %ux%ux%u, expected sides in 1..%d and channels in 1..%d", x->name,
                         x->dims[1], x->dims[2], channels, DATASET_SIDE_MAX, DATASET_CHANNELS_MAX);
    return 0;
}

/* `size` bytes of values, from a file of `whole` bytes of values. */
static int read_values(const struct idx *x, uint64_t size, uint64_t whole, uint8_t **out, struct error *e)
{
    *out = malloc(size);
    if (*out == NULL)
        return error_set(e, ERR_MEMORY, "%s: no memory for %llu bytes", x->name, (unsigned long long)size);
    int rc = read_exactly(x, *out, size, e);
    return rc == 0 && size == whole ? expect_end(x, e) : rc;
}

static int load_images(const char *path, const char *name, uint32_t limit, struct dataset *d, struct error *e)
{
    struct idx x;
    int rc = idx_open(path, name, &x, e);
    if (rc == 0)
        rc = check_image_dims(&x, e);
    if (rc == 0) {
        d->count = limit > 0 && limit < x.dims[0] ? limit : x.dims[0];
        d->height = x.dims[1];
        d->width = x.dims[2];
        d->channels = x.rank == 4 ? x.dims[3] : 1;
        uint64_t image = (uint64_t)d->height * d->width * d->channels;
        if (image * d->count > IMAGE_BYTES_MAX)
            rc = error_set(e, ERR_RANGE, "%s: %u images of %llu bytes are more than 4 GiB; set data.limit", x.name,
                           d->count, (unsigned long long)image);
        else
            rc = read_values(&x, image * d->count, image * x.dims[0], &d->images, e);
    }
    idx_close(&x);
    return rc;
}

static int count_classes(const struct idx *x, struct dataset *d, struct error *e)
{
    d->classes = 0;
    for (uint32_t i = 0; i < d->count; i++) {
        if (d->labels[i] >= DATASET_CLASSES_MAX)
            return error_set(e, ERR_FORMAT, "%s: label %u of image %u, expected 0..%d", x->name, d->labels[i], i,
                             DATASET_CLASSES_MAX - 1);
        if (d->labels[i] >= d->classes)
            d->classes = d->labels[i] + 1u;
    }
    return 0;
}

/* With a limit the label file may hold more than the set; otherwise the counts agree. */
static int read_labels(const struct idx *x, uint32_t limit, struct dataset *d, struct error *e)
{
    if (x->rank != 1)
        return error_set(e, ERR_FORMAT, "%s: %u dimensions, expected 1", x->name, x->rank);
    bool whole = limit == 0 || d->count < limit; /* the set is every image of its file */
    if (x->dims[0] < d->count || (whole && x->dims[0] != d->count))
        return error_set(e, ERR_FORMAT, "%s: %u labels for %u images", x->name, x->dims[0], d->count);
    int rc = read_values(x, d->count, x->dims[0], &d->labels, e);
    return rc == 0 ? count_classes(x, d, e) : rc;
}

static int load_labels(const char *path, const char *name, uint32_t limit, struct dataset *d, struct error *e)
{
    struct idx x;
    int rc = idx_open(path, name, &x, e);
    if (rc == ERR_NOT_FOUND) {
        *e = (struct error){0};
        return 0;
    }
    if (rc == 0)
        rc = read_labels(&x, limit, d, e);
    idx_close(&x);
    return rc;
}

int dataset_load(const char *path, enum dataset_split split, uint32_t limit, struct dataset *out, struct error *e)
{
    struct error local;
    if (e == NULL)
        e = &local;
    memset(out, 0, sizeof *out);
    int rc = load_images(path, image_files[split], limit, out, e);
    if (rc == 0)
        rc = load_labels(path, label_files[split], limit, out, e);
    if (rc != 0)
        dataset_fini(out);
    return rc;
}

void dataset_fini(struct dataset *d)
{
    free(d->images);
    free(d->labels);
    memset(d, 0, sizeof *d);
}
