/* NumPy arrays. A .npy file is one array of images (unlabelled); an .npz archive, a zip file of NAME.npy entries, may
 * have labels and a test split under the names in `names` below. Images are uint8, (N,H,W) or (N,H,W,C); labels are
 * integers of any width, (N) or (N,1). npy_header.h has the bytes of an array; libzip reads the archive, compressed or
 * not, and verifies its checksums. An array's size must be what its header says before anything is taken for it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>
#include "common/files.h"
#include "worker/data/npy_header.h"
#include "worker/data/reader.h"

static const struct {
    const char *images, *labels;
} names[2][6] = {
    {{"images", "labels"}, {"x_train", "y_train"}, {"X_train", "y_train"}, {"train_images", "train_labels"}},
    {{"images_test", "labels_test"},
     {"x_test", "y_test"},
     {"X_test", "y_test"},
     {"test_images", "test_labels"},
     {"x_val", "y_val"},
     {"val_images", "val_labels"}},
};
enum { NAMES = sizeof names[0] / sizeof names[0][0] };

struct array {
    char where[DATASET_PATH_MAX];
    FILE *file; /* one of the two is open */
    zip_file_t *entry;
    uint64_t bytes; /* of the file or entry */
    struct npy_header header;
};

/* The images and labels of a split. */
struct arrays {
    struct array images, labels;
    bool labelled;
    struct image_size size;
};

static int read_exactly(const struct array *a, void *out, size_t size, struct error *e)
{
    for (uint8_t *p = out; size > 0;) {
        zip_int64_t got = a->file ? (zip_int64_t)fread(p, 1, size, a->file) : zip_fread(a->entry, p, size);
        if (got < 0)
            return error_set(e, ERR_FORMAT, "%s: %s", a->where, zip_error_strerror(zip_file_get_error(a->entry)));
        if (got == 0 && a->file && ferror(a->file))
            return error_set(e, ERR_IO, "%s: %s", a->where, strerror(errno));
        if (got == 0)
            return error_set(e, ERR_FORMAT, "%s: truncated", a->where);
        p += got;
        size -= (size_t)got;
    }
    return 0;
}

/* Reading on also verifies the archive's checksum. */
static int expect_end(const struct array *a, struct error *e)
{
    uint8_t more;
    if (!a->entry)
        return 0; /* the size was checked */
    if (zip_fread(a->entry, &more, 1) != 0)
        return error_set(e, ERR_FORMAT, "%s: damaged (%s); save it again", a->where,
                         zip_error_strerror(zip_file_get_error(a->entry)));
    return 0;
}

static void array_close(struct array *a)
{
    if (a->file)
        fclose(a->file);
    if (a->entry)
        zip_fclose(a->entry);
    a->file = NULL;
    a->entry = NULL;
}

/* The values' bytes, or UINT64_MAX when they overflow. */
static uint64_t value_bytes(const struct npy_header *h)
{
    uint64_t bytes = h->width;
    for (uint32_t i = 0; i < h->rank; i++)
        if (__builtin_mul_overflow(bytes, h->dims[i], &bytes))
            return UINT64_MAX;
    return bytes;
}

static int read_header(struct array *a, struct error *e)
{
    uint8_t start[NPY_PREAMBLE_MAX];
    char text[NPY_HEADER_MAX + 1];
    size_t preamble, length;
    struct error why;
    int rc = read_exactly(a, start, sizeof start, e);
    if (rc != 0)
        return rc;
    if ((rc = npy_preamble(start, &preamble, &length, &why)) != 0)
        return error_set(e, rc, "%s: %.200s", a->where, why.text);
    size_t early = sizeof start - preamble; /* bytes of the text that came with the preamble */
    if (length < early)
        return error_set(e, ERR_FORMAT, "%s: a damaged .npy header", a->where);
    memcpy(text, start + preamble, early);
    if ((rc = read_exactly(a, text + early, length - early, e)) != 0)
        return rc;
    if ((rc = npy_header_parse(text, length, a->where, &a->header, e)) != 0)
        return rc;
    uint64_t values = value_bytes(&a->header), there = a->bytes - preamble - length;
    if (values != there)
        return error_set(e, ERR_FORMAT, "%s: %llu bytes of values, its header says %llu; save it again", a->where,
                         (unsigned long long)there, (unsigned long long)values);
    return 0;
}

static int array_open_file(struct array *a, const char *path, struct error *e)
{
    struct stat st;
    snprintf(a->where, sizeof a->where, "%s", path);
    int rc = file_open_stream(path, &a->file, e);
    if (rc != 0)
        return rc;
    if (fstat(fileno(a->file), &st) != 0)
        return error_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    a->bytes = (uint64_t)st.st_size;
    return read_header(a, e);
}

static zip_int64_t locate(zip_t *z, const char *name)
{
    char entry[64];
    snprintf(entry, sizeof entry, "%s.npy", name);
    return zip_name_locate(z, entry, 0);
}

static int array_open_entry(struct array *a, zip_t *z, const char *path, const char *name, struct error *e)
{
    zip_stat_t st;
    zip_int64_t index = locate(z, name);
    snprintf(a->where, sizeof a->where, "%.1100s: %s", path, name);
    if (index < 0 || zip_stat_index(z, (zip_uint64_t)index, 0, &st) != 0 || !(st.valid & ZIP_STAT_SIZE))
        return error_set(e, ERR_FORMAT, "%s: %s", a->where, zip_strerror(z));
    a->entry = zip_fopen_index(z, (zip_uint64_t)index, 0);
    if (!a->entry)
        return error_set(e, ERR_FORMAT, "%s: %s", a->where, zip_strerror(z));
    a->bytes = st.size;
    return read_header(a, e);
}

static int check_images(struct arrays *p, struct error *e)
{
    const struct npy_header *h = &p->images.header;
    const char *where = p->images.where;
    if (h->kind != 'u' || h->width != 1)
        return error_set(e, ERR_FORMAT, "%s: images are not uint8; convert them with astype('uint8')", where);
    if (h->rank != 3 && h->rank != 4)
        return error_set(e, ERR_FORMAT, "%s: %u dimensions, expected (N,H,W) or (N,H,W,C)", where, h->rank);
    uint64_t channels = h->rank == 4 ? h->dims[3] : 1;
    if (channels > DATASET_CHANNELS_MAX && h->dims[1] - 1 < DATASET_CHANNELS_MAX)
        return error_set(e, ERR_FORMAT, "%s: looks like (N,C,H,W); save transpose(0, 2, 3, 1) of it", where);
    p->size = (struct image_size){(uint32_t)h->dims[1], (uint32_t)h->dims[2], (uint32_t)channels};
    if (!image_size_is_sane(&p->size))
        return error_set(e, ERR_RANGE, "%s: images of %ux%ux%u, expected sides in 1..%d and channels in 1..%d", where,
                         p->size.height, p->size.width, p->size.channels, IMAGE_SIDE_FILE_MAX, DATASET_CHANNELS_MAX);
    return 0;
}

static int check_labels(const struct arrays *p, struct error *e)
{
    const struct npy_header *h = &p->labels.header;
    if (h->rank != 1 && !(h->rank == 2 && h->dims[1] == 1))
        return error_set(e, ERR_FORMAT, "%s: labels are not of shape (N) or (N,1)", p->labels.where);
    if (h->dims[0] != p->images.header.dims[0])
        return error_set(e, ERR_FORMAT, "%s: %llu labels for %llu images", p->labels.where,
                         (unsigned long long)h->dims[0], (unsigned long long)p->images.header.dims[0]);
    return 0;
}

/* Two's complement of `width` bytes; an unsigned value beyond int64 comes out negative, which is no label either. */
static int64_t integer_of(const struct npy_header *h, const uint8_t *b)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < h->width; i++)
        value = value << 8 | b[h->big_endian ? i : h->width - 1 - i];
    uint32_t unused = 64 - 8 * h->width;
    return h->kind == 'i' ? (int64_t)(value << unused) >> unused : (int64_t)value;
}

static int next_image(void *arg, uint8_t *pixels, int64_t *label, struct error *e)
{
    const struct arrays *p = arg;
    uint8_t bytes[8];
    int rc = read_exactly(&p->images, pixels, image_bytes(&p->size), e);
    if (rc == 0 && p->labelled) {
        rc = read_exactly(&p->labels, bytes, p->labels.header.width, e);
        *label = rc == 0 ? integer_of(&p->labels.header, bytes) : 0;
    }
    return rc;
}

static int take_arrays(struct arrays *p, struct intake *t, struct error *e)
{
    int rc = check_images(p, e);
    if (rc == 0 && p->labelled)
        rc = check_labels(p, e);
    if (rc != 0)
        return rc;
    struct intake_stream s = {
        .where = p->images.where,
        .count = p->images.header.dims[0],
        .size = p->size,
        .labelled = p->labelled,
        .next = next_image,
        .arg = p,
    };
    bool whole = false;
    rc = intake_from_stream(t, &s, &whole, e);
    if (rc == 0 && whole)
        rc = expect_end(&p->images, e);
    return rc == 0 && whole && p->labelled ? expect_end(&p->labels, e) : rc;
}

static void arrays_close(struct arrays *p)
{
    array_close(&p->images);
    array_close(&p->labels);
}

/* ---- .npy ---- */

static bool starts_with(const char *path, const char *magic, size_t size)
{
    char start[8] = {0};
    FILE *f;
    bool same =
        file_open_stream(path, &f, NULL) == 0 && fread(start, 1, size, f) == size && memcmp(start, magic, size) == 0;
    if (f)
        fclose(f);
    return same;
}

static bool npy_recognises(const char *path)
{
    return starts_with(path, "\x93NUMPY", 6);
}

static bool npy_has_test(const char *path)
{
    (void)path;
    return false;
}

static int npy_read(const char *path, struct intake *t, struct error *e)
{
    struct arrays p = {0};
    int rc = array_open_file(&p.images, path, e);
    if (rc == 0)
        rc = take_arrays(&p, t, e);
    arrays_close(&p);
    return rc;
}

const struct dataset_reader npy_reader = {"NumPy array", npy_recognises, npy_has_test, npy_read};

/* ---- .npz ---- */

static bool npz_recognises(const char *path)
{
    return starts_with(path, "PK\x03\x04", 4);
}

static zip_t *open_archive(const char *path, struct error *e)
{
    int code = 0, fd;
    if (file_open(path, O_RDONLY, &fd, e) != 0)
        return NULL;
    zip_t *z = zip_fdopen(fd, 0, &code);
    if (!z) {
        close(fd);
        zip_error_t why;
        zip_error_init_with_code(&why, code);
        error_set(e, ERR_FORMAT, "%s: %s", path, zip_error_strerror(&why));
        zip_error_fini(&why);
        return NULL;
    }
    if (zip_get_num_entries(z, 0) <= ZIP_ENTRIES_MAX)
        return z;
    error_set(e, ERR_RANGE, "%s: more than %d entries", path, ZIP_ENTRIES_MAX);
    zip_discard(z);
    return NULL;
}

/* Index into names[split], or -1. */
static int find_images(zip_t *z, enum dataset_split split)
{
    for (int i = 0; i < NAMES && names[split][i].images; i++)
        if (locate(z, names[split][i].images) >= 0)
            return i;
    return -1;
}

static bool npz_has_test(const char *path)
{
    struct error unused;
    zip_t *z = open_archive(path, &unused);
    bool has = z && find_images(z, DATASET_TEST) >= 0;
    if (z)
        zip_discard(z);
    return has;
}

static int no_images(zip_t *z, const char *path, struct error *e)
{
    char held[200] = "";
    size_t length = 0;
    for (zip_int64_t i = 0; i < zip_get_num_entries(z, 0) && length < sizeof held - 1; i++) {
        const char *name = zip_get_name(z, (zip_uint64_t)i, 0);
        length += (size_t)snprintf(held + length, sizeof held - length, " %s", name ? name : "?");
    }
    return error_set(e, ERR_FORMAT, "%.200s: none of the arrays images, x_train, X_train, train_images; it has%s", path,
                     held);
}

static int npz_read_split(zip_t *z, const char *path, struct intake *t, struct error *e)
{
    enum dataset_split split = t->test && !t->may_hold_out ? DATASET_TEST : DATASET_TRAIN;
    struct arrays p = {0};
    int found = find_images(z, split);
    if (found < 0)
        return no_images(z, path, e);
    p.labelled = locate(z, names[split][found].labels) >= 0;
    int rc = array_open_entry(&p.images, z, path, names[split][found].images, e);
    if (rc == 0 && p.labelled)
        rc = array_open_entry(&p.labels, z, path, names[split][found].labels, e);
    if (rc == 0)
        rc = take_arrays(&p, t, e);
    arrays_close(&p);
    return rc;
}

static int npz_read(const char *path, struct intake *t, struct error *e)
{
    zip_t *z = open_archive(path, e);
    if (!z)
        return e->code;
    int rc = npz_read_split(z, path, t, e);
    zip_discard(z);
    return rc;
}

const struct dataset_reader npz_reader = {"NumPy archive", npz_recognises, npz_has_test, npz_read};
