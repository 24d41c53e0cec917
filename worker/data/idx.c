/* IDX, the format of the MNIST family: a directory with
 *     train-images-idx3-ubyte   train-labels-idx1-ubyte    t10k-images-idx3-ubyte   t10k-labels-idx1-ubyte
 * each of which may end in .gz; a split without its labels file is unlabelled. A file is two zero bytes, a type code
 * (8 = unsigned byte), the number of dimensions, each dimension as a big-endian u32, then the values, last dimension
 * fastest. Images have three dimensions (N,H,W) or four (N,H,W,C), labels one. zlib's reader takes gzipped and plain
 * files alike, so that the suffix only decides which name is tried first. Everything in a file is checked: a count that
 * the bytes behind it do not bear out is an error, never a short set. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "common/files.h"
#include "worker/data/idx_names.h"
#include "worker/data/raw_images.h"
#include "worker/data/reader.h"

enum { IDX_UNSIGNED_BYTE = 8, IDX_RANK_MAX = 4, READ_CHUNK = 1 << 24 };

static const char *const image_files[] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"};
static const char *const label_files[] = {"train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"};

struct idx {
    char name[DATASET_PATH_MAX];
    gzFile file;
    uint32_t rank, dims[IDX_RANK_MAX];
};

struct idx_pair {
    struct idx images, labels; /* labels.file is NULL when there are none */
    struct image_size size;
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
            return error_set(e, ERR_RANGE, "data.path is longer than %d bytes", DATASET_PATH_MAX - 64);
        if (access(x->name, F_OK) != 0)
            continue;
        int fd, rc = file_open(x->name, O_RDONLY, &fd, e);
        if (rc != 0)
            return rc;
        x->file = gzdopen(fd, "rb");
        if (x->file)
            return 0;
        close(fd);
        return error_set(e, ERR_MEMORY, "%s: no memory to read it", x->name);
    }
    return error_set(e, ERR_NOT_FOUND, "%s/%s[.gz]: not found", path, name);
}

static int no_idx(const struct idx *x, const uint8_t magic[4], struct error *e)
{
    bool markup = magic[0] == '<';
    return error_set(e, ERR_FORMAT, "%s: starts with %02x%02x%02x%02x, which is no IDX file of unsigned bytes%s",
                     x->name, magic[0], magic[1], magic[2], magic[3],
                     markup ? " but a page of a web site: the download failed; fetch it again" : "");
}

static int read_header(struct idx *x, struct error *e)
{
    uint8_t magic[4], dim[4];
    int rc = read_exactly(x, magic, sizeof magic, e);
    if (rc != 0)
        return rc;
    if (magic[0] != 0 || magic[1] != 0 || magic[2] != IDX_UNSIGNED_BYTE || magic[3] < 1 || magic[3] > IDX_RANK_MAX)
        return no_idx(x, magic, e);
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

static int open_images(const char *path, const char *name, struct idx_pair *p, struct error *e)
{
    struct idx *x = &p->images;
    int rc = idx_open(path, name, x, e);
    if (rc != 0)
        return rc;
    if (x->rank != 3 && x->rank != 4)
        return error_set(e, ERR_FORMAT, "%s: %u dimensions, expected 3 or 4", x->name, x->rank);
    p->size = (struct image_size){x->dims[1], x->dims[2], x->rank == 4 ? x->dims[3] : 1};
    if (image_size_is_sane(&p->size))
        return 0;
    return error_set(e, ERR_RANGE, "%s: images of %ux%ux%u, expected sides in 1..%d and channels in 1..%d", x->name,
                     p->size.height, p->size.width, p->size.channels, IMAGE_SIDE_FILE_MAX, DATASET_CHANNELS_MAX);
}

static int open_labels(const char *path, const char *name, struct idx_pair *p, struct image_sink *sink, struct error *e)
{
    char near[256];
    struct idx *x = &p->labels;
    int rc = idx_open(path, name, x, e);
    if (rc == ERR_NOT_FOUND) {
        *e = (struct error){0};
        if (idx_near_name(path, name, near))
            image_sink_problem(sink, "%.200s/%.80s is not read: labels are read under the name %s; rename it", path,
                               near, name);
        return 0;
    }
    if (rc == 0 && x->rank != 1)
        return error_set(e, ERR_FORMAT, "%s: %u dimensions, expected 1", x->name, x->rank);
    if (rc == 0 && x->dims[0] != p->images.dims[0])
        return error_set(e, ERR_FORMAT, "%s: %u labels for %u images", x->name, x->dims[0], p->images.dims[0]);
    return rc;
}

static int next_image(void *arg, uint8_t *pixels, int64_t *label, struct error *e)
{
    struct idx_pair *p = arg;
    uint8_t byte = 0;
    int rc = read_exactly(&p->images, pixels, image_bytes(&p->size), e);
    if (rc == 0 && p->labels.file)
        rc = read_exactly(&p->labels, &byte, 1, e);
    *label = byte;
    return rc;
}

/* The images are read again where they are: behind the header, unless the file is compressed. */
static int lend(const struct idx_pair *p, struct image_sink *sink, struct error *e)
{
    const struct idx *x = &p->images;
    const struct raw_layout layout = {.size = p->size};
    struct image_access access;
    if (raw_images_new(&layout, &access) != 0)
        return error_set(e, ERR_MEMORY, "%s: no memory to read it again", x->name);
    int rc = raw_images_add(&access, x->name, 4 + 4 * x->rank, x->dims[0], e);
    if (rc == 0)
        image_sink_lend(sink, &access);
    image_access_free(&access);
    return rc;
}

static int take_pair(struct idx_pair *p, struct image_sink *sink, struct error *e)
{
    struct image_sink_stream s = {
        .where = p->images.name,
        .count = p->images.dims[0],
        .size = p->size,
        .labelled = p->labels.file != NULL,
        .next = next_image,
        .arg = p,
    };
    bool whole = false;
    if (sink->options->on_demand && !gzdirect(p->images.file))
        return error_set(e, ERR_CONFIG, IMAGE_SINK_COMPRESSED "gunzip it", p->images.name);
    int rc = image_sink_from_stream(sink, &s, &whole, e);
    if (rc == 0 && whole)
        rc = expect_end(&p->images, e);
    if (rc == 0 && sink->options->on_demand)
        rc = lend(p, sink, e);
    return rc == 0 && whole && p->labels.file ? expect_end(&p->labels, e) : rc;
}

static bool has_images(const char *path, enum dataset_split split)
{
    struct idx x = {0};
    struct error unused;
    int rc = open_either(path, image_files[split], &x, &unused);
    idx_close(&x);
    return rc != ERR_NOT_FOUND;
}

static bool recognises(const char *path)
{
    return has_images(path, DATASET_TRAIN) || has_images(path, DATASET_TEST);
}

static bool has_test(const char *path)
{
    return has_images(path, DATASET_TEST);
}

static void close_pair(struct idx_pair *p)
{
    idx_close(&p->images);
    idx_close(&p->labels);
}

/* Lets the training images vote, when there are such as may. */
static int judge(const char *path, struct image_sink *sink, struct error *e)
{
    struct idx_pair p = {0};
    int rc = 0;
    if (open_images(path, image_files[DATASET_TRAIN], &p, NULL) == 0 && image_sink_wants_votes(sink, p.size.channels)) {
        struct image_sink_stream s = {
            .where = p.images.name, .count = p.images.dims[0], .size = p.size, .next = next_image, .arg = &p};
        rc = image_sink_judge_stream(sink, &s, e);
    }
    close_pair(&p);
    return rc;
}

/* Test images under a near name would be missed in silence. */
static void note_test_images(const char *path, struct image_sink *sink)
{
    char near[256];
    if (sink->may_hold_out && !sink->test && idx_near_name(path, image_files[DATASET_TEST], near))
        image_sink_problem(sink, "%.200s/%.80s is not read: test images are read under the name %s; rename it", path,
                           near, image_files[DATASET_TEST]);
}

static int read_split(const char *path, struct image_sink *sink, struct error *e)
{
    enum dataset_split split = sink->test && !sink->may_hold_out ? DATASET_TEST : DATASET_TRAIN;
    struct idx_pair p = {0};
    int rc = judge(path, sink, e);
    if (rc == 0)
        rc = open_images(path, image_files[split], &p, e);
    if (rc == 0)
        rc = open_labels(path, label_files[split], &p, sink, e);
    if (rc == 0)
        rc = take_pair(&p, sink, e);
    close_pair(&p);
    if (rc == 0)
        note_test_images(path, sink);
    return rc;
}

const struct dataset_reader idx_reader = {"IDX", recognises, has_test, read_split};
