/* NumPy arrays. A .npy file is one array of images (unlabelled); an .npz archive, a zip file of NAME.npy entries, may
 * have labels and a test split under the names in `names` below. Images are uint8, (N,H,W) or (N,H,W,C); labels are
 * integers of any width, (N) or (N,1). npy_header.h has the bytes of an array; libzip reads the archive, compressed or
 * not, and verifies its checksums. An array's size must be what its header says before anything is taken for it. */
#include <errno.h>
#include <math.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>
#include "common/files.h"
#include "worker/data/npy_header.h"
#include "worker/data/npz_images.h"
#include "worker/data/raw_images.h"
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
    uint64_t index; /* of the entry in its archive */
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
    a->index = (uint64_t)index;
    a->bytes = st.size;
    return read_header(a, e);
}

/* What an array of images must become. The lines are Python on the array a; tests run each of them. */
static int not_uint8(const struct array *a, struct error *e)
{
    char type[16];
    npy_type_name(&a->header, type);
    if (a->header.width > 8) /* more than numpy.interp takes */
        return error_set(e, ERR_FORMAT,
                         "%.200s: images of type %s, expected uint8; first save a.astype('f8') of this array a",
                         a->where, type);
    return error_set(e, ERR_FORMAT,
                     "%.200s: images of type %s, expected uint8; for this array a, save "
                     "numpy.interp(a, (a.min(), a.max()), (0, 255)).astype('uint8'), with the same two bounds for "
                     "training and test images",
                     a->where, type);
}

static int not_images(const struct array *a, struct error *e)
{
    const struct npy_header *h = &a->header;
    unsigned long side = h->rank == 2 ? (unsigned long)lround(sqrt((double)h->dims[1])) : 0;
    if (side > 1 && side * side == h->dims[1])
        return error_set(e, ERR_FORMAT,
                         "%.200s: 2 dimensions, expected (N,H,W) or (N,H,W,C); if these are square grey images, save "
                         "a.reshape(-1, %lu, %lu) of this array a",
                         a->where, side, side);
    return error_set(e, ERR_FORMAT, "%s: %u dimensions, expected (N,H,W) or (N,H,W,C)", a->where, h->rank);
}

static int check_images(struct arrays *p, struct error *e)
{
    const struct npy_header *h = &p->images.header;
    const char *where = p->images.where;
    if (h->kind != 'u' || h->width != 1)
        return not_uint8(&p->images, e);
    if (h->rank != 3 && h->rank != 4)
        return not_images(&p->images, e);
    uint64_t channels = h->rank == 4 ? h->dims[3] : 1;
    if (channels > DATASET_CHANNELS_MAX && h->dims[1] - 1 < DATASET_CHANNELS_MAX)
        return error_set(e, ERR_FORMAT,
                         "%.300s: looks like (N,C,H,W); for this array a, save "
                         "numpy.ascontiguousarray(a.transpose(0, 2, 3, 1))",
                         where);
    p->size = (struct image_size){(uint32_t)h->dims[1], (uint32_t)h->dims[2], (uint32_t)channels};
    if (!image_size_is_sane(&p->size))
        return error_set(e, ERR_RANGE, "%s: images of %ux%ux%u, expected sides in 1..%d and channels in 1..%d", where,
                         p->size.height, p->size.width, p->size.channels, IMAGE_SIDE_FILE_MAX, DATASET_CHANNELS_MAX);
    return 0;
}

static int check_labels(const struct arrays *p, struct error *e)
{
    const struct npy_header *h = &p->labels.header;
    char type[16];
    npy_type_name(h, type);
    if (h->rank == 2 && h->dims[1] > 1)
        return error_set(e, ERR_FORMAT,
                         "%.300s: labels are not of shape (N) or (N,1); if it has a column for each class, save "
                         "a.argmax(axis=1) of this array a",
                         p->labels.where);
    if (h->rank != 1 && h->rank != 2)
        return error_set(e, ERR_FORMAT, "%s: labels are not of shape (N) or (N,1)", p->labels.where);
    if ((h->kind != 'u' && h->kind != 'i') || h->width > 8)
        return error_set(e, ERR_FORMAT,
                         "%.300s: labels of type %s, expected integers; for this array a, save "
                         "numpy.rint(a).astype('int64')",
                         p->labels.where, type);
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

static int take_arrays(struct arrays *p, struct image_sink *sink, struct error *e)
{
    int rc = check_images(p, e);
    if (rc == 0 && p->labelled)
        rc = check_labels(p, e);
    if (rc != 0)
        return rc;
    struct image_sink_stream s = {
        .where = p->images.where,
        .count = p->images.header.dims[0],
        .size = p->size,
        .labelled = p->labelled,
        .next = next_image,
        .arg = p,
    };
    bool whole = false;
    rc = image_sink_from_stream(sink, &s, &whole, e);
    if (rc == 0 && whole)
        rc = expect_end(&p->images, e);
    return rc == 0 && whole && p->labelled ? expect_end(&p->labels, e) : rc;
}

static void arrays_close(struct arrays *p)
{
    array_close(&p->images);
    array_close(&p->labels);
}

/* Lets the images of an opened training array vote, when they may; it is used up. An array with errors has no vote:
 * they are told when it is read. */
static int judge(struct arrays *p, struct image_sink *sink, struct error *e)
{
    if (check_images(p, NULL) != 0 || !image_sink_wants_votes(sink, p->size.channels))
        return 0;
    struct image_sink_stream s = {
        .where = p->images.where, .count = p->images.header.dims[0], .size = p->size, .next = next_image, .arg = p};
    return image_sink_judge_stream(sink, &s, e);
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

static int npy_lend(const struct array *a, const char *path, const struct image_size *size, struct image_sink *sink,
                    struct error *e)
{
    const struct raw_layout layout = {.size = *size};
    struct image_access access;
    if (raw_images_new(&layout, &access) != 0)
        return error_set(e, ERR_MEMORY, "%s: no memory to read it again", path);
    int rc = raw_images_add(&access, path, a->bytes - value_bytes(&a->header), a->header.dims[0], e);
    if (rc == 0)
        image_sink_lend(sink, &access);
    image_access_free(&access);
    return rc;
}

static int npy_read(const char *path, struct image_sink *sink, struct error *e)
{
    struct arrays p = {0};
    int rc = array_open_file(&p.images, path, e);
    if (rc == 0)
        rc = judge(&p, sink, e);
    arrays_close(&p);
    if (rc == 0)
        rc = array_open_file(&p.images, path, e);
    if (rc == 0)
        rc = take_arrays(&p, sink, e);
    if (rc == 0 && sink->options->on_demand)
        rc = npy_lend(&p.images, path, &p.size, sink, e);
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
    bool arrays = false;
    for (zip_int64_t i = 0; i < zip_get_num_entries(z, 0); i++) {
        const char *name = zip_get_name(z, (zip_uint64_t)i, 0);
        arrays = arrays || (name && strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".npy") == 0);
        if (length < sizeof held - 1)
            length += (size_t)snprintf(held + length, sizeof held - length, " %s", name ? name : "?");
    }
    if (!arrays)
        return error_set(e, ERR_FORMAT,
                         "%.250s: a zip archive without NumPy arrays; unpack it, and name what comes out", path);
    return error_set(e, ERR_FORMAT,
                     "%.150s: none of the arrays images, x_train, X_train, train_images; it has%s; save them under "
                     "these names",
                     path, held);
}

/* Whether an array of that name (without .npy) is read, in any split. */
static bool is_read(const char *name)
{
    for (int split = 0; split < 2; split++)
        for (int i = 0; i < NAMES && names[split][i].images; i++)
            if (strcmp(name, names[split][i].images) == 0 || strcmp(name, names[split][i].labels) == 0)
                return true;
    return false;
}

static bool sounds_like(const char *name, bool labels)
{
    if (labels)
        return strcasestr(name, "label") || strcasestr(name, "target") || strcasestr(name, "class") || name[0] == 'y' ||
               name[0] == 'Y';
    return strcasestr(name, "test") || strcasestr(name, "val");
}

/* Labels or test images under a name that is not read would be missed in silence. */
static void note_unread(zip_t *z, const char *path, bool labelled, struct image_sink *sink)
{
    for (zip_int64_t i = 0; i < zip_get_num_entries(z, 0); i++) {
        const char *entry = zip_get_name(z, (zip_uint64_t)i, 0);
        char name[64];
        if (!entry || strlen(entry) < 5 || strcmp(entry + strlen(entry) - 4, ".npy") != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)strlen(entry) - 4, entry);
        bool test = sink->may_hold_out && sounds_like(name, false);
        if (!is_read(name) && (test || (!labelled && sounds_like(name, true))))
            image_sink_problem(sink, "%.200s: the array %s is not read; docs/DATA.md has the names of %s", path, name,
                               test ? "test images and their labels" : "labels");
    }
}

static int open_arrays(zip_t *z, const char *path, enum dataset_split split, struct arrays *p, struct error *e)
{
    int found = find_images(z, split);
    if (found < 0)
        return no_images(z, path, e);
    p->labelled = locate(z, names[split][found].labels) >= 0;
    int rc = array_open_entry(&p->images, z, path, names[split][found].images, e);
    if (rc == 0 && p->labelled)
        rc = array_open_entry(&p->labels, z, path, names[split][found].labels, e);
    return rc;
}

static int npz_lend(const struct npz_images *images, const char *path, struct image_sink *sink, struct error *e)
{
    struct image_access access = {0};
    zip_t *z = open_archive(path, e);
    int rc = z ? npz_images_new(z, images, &access, e) : e->code;
    if (rc == 0)
        image_sink_lend(sink, &access);
    return rc;
}

static int npz_read_split(zip_t *z, const char *path, struct image_sink *sink, struct error *e)
{
    enum dataset_split split = sink->test && !sink->may_hold_out ? DATASET_TEST : DATASET_TRAIN;
    struct arrays p = {0};
    int rc = open_arrays(z, path, DATASET_TRAIN, &p, NULL) == 0 ? judge(&p, sink, e) : 0;
    arrays_close(&p);
    if (rc == 0)
        rc = open_arrays(z, path, split, &p, e);
    struct npz_images again = {.index = p.images.index, .where = p.images.where};
    if (rc == 0 && sink->options->on_demand && !npz_images_possible(z, again.index))
        rc = error_set(e, ERR_CONFIG, IMAGE_SINK_COMPRESSED "save it with numpy.savez", p.images.where);
    if (rc == 0)
        rc = take_arrays(&p, sink, e);
    if (rc == 0 && sink->options->on_demand) {
        again.offset = p.images.bytes - value_bytes(&p.images.header);
        again.size = p.size;
        rc = npz_lend(&again, path, sink, e);
    }
    arrays_close(&p);
    if (rc == 0 && !sink->test)
        note_unread(z, path, p.labelled, sink);
    return rc;
}

static int npz_read(const char *path, struct image_sink *sink, struct error *e)
{
    zip_t *z = open_archive(path, e);
    if (!z)
        return e->code;
    int rc = npz_read_split(z, path, sink, e);
    zip_discard(z);
    return rc;
}

const struct dataset_reader npz_reader = {"NumPy archive", npz_recognises, npz_has_test, npz_read};
