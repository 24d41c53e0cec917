/* npz by npz_write.h; npy and csv row by row, since a set of a million images would be in memory twice. */
#include "cli/embedding_write.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "cli/npz_write.h"
#include "cli/output_file.h"

enum { ESCAPED_BYTE = 0xDC00 }; /* U+DC80 to U+DCFF for bytes 0x80 to 0xFF that are no UTF-8 */

enum embedding_format embedding_format_named(const char *name)
{
    static const char *const names[] = {
        [EMBEDDING_UNKNOWN] = "", [EMBEDDING_NPZ] = "npz", [EMBEDDING_NPY] = "npy", [EMBEDDING_CSV] = "csv"};
    for (int f = EMBEDDING_NPZ; f <= EMBEDDING_CSV; f++)
        if (strcmp(name, names[f]) == 0)
            return (enum embedding_format)f;
    return EMBEDDING_UNKNOWN;
}

/* ---- names as NumPy keeps text: code points of one width ---- */

struct text_column {
    uint32_t *points; /* (rows, width), filled up with zeros */
    uint32_t width;
};

/* Code points of name into out, as far as it is not NULL; how many. */
static uint32_t decode_name(const char *name, uint32_t *out)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)name;
    uint32_t n = 0;
    for (; *at; n++) {
        utf8proc_int32_t point;
        utf8proc_ssize_t used = utf8proc_iterate(at, -1, &point);
        if (out != NULL)
            out[n] = used > 0 ? (uint32_t)point : (uint32_t)ESCAPED_BYTE + *at;
        at += used > 0 ? used : 1;
    }
    return n;
}

static int text_column_of(char *const *names, uint32_t rows, struct text_column *out, struct error *e)
{
    *out = (struct text_column){.width = 1};
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t n = decode_name(names[i], NULL);
        out->width = n > out->width ? n : out->width;
    }
    out->points = calloc((size_t)rows * out->width + 1, sizeof *out->points);
    if (out->points == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for the names of %u images", rows);
    for (uint32_t i = 0; i < rows; i++)
        decode_name(names[i], out->points + (size_t)i * out->width);
    return 0;
}

/* ---- npz ---- */

/* width 0: a vector. */
static struct tensor_view column(const char *name, enum dtype type, uint32_t rows, uint32_t width, const void *data)
{
    struct tensor_view t = {.dtype = type, .rank = width > 0 ? 2 : 1, .shape = {rows, width}, .data = data};
    t.size = dtype_size(type) * rows * (width > 0 ? width : 1);
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

/* The set's labels, widened; none without labels. */
static uint32_t *wide_labels(const struct feature_set *s)
{
    uint32_t *labels = malloc(sizeof *labels * s->rows);
    for (uint32_t i = 0; labels != NULL && s->labels != NULL && i < s->rows; i++)
        labels[i] = s->labels[i];
    return labels;
}

static int write_npz(const struct embedding *x, const struct text_column *names, const char *path, struct error *e)
{
    uint32_t rows = x->features.rows, *labels = wide_labels(&x->features);
    size_t n = 0;
    struct tensor_view arrays[6];
    if (labels == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for labels");
    if (x->features.labels != NULL)
        arrays[n++] = column("labels", DTYPE_U32, rows, 0, labels);
    arrays[n++] = column("prototypes", DTYPE_U32, rows, 0, x->nearest);
    arrays[n++] = column("cosines", DTYPE_F32, rows, 0, x->cosine);
    arrays[n++] = column("features", DTYPE_F32, rows, x->features.width, x->features.x);
    arrays[n++] = column("projections", DTYPE_F32, rows, x->D, x->z);
    arrays[n++] = column("names", DTYPE_U32, rows, names->width, names->points);
    int rc = npz_write(path, arrays, n, 1, e);
    free(labels);
    return rc;
}

/* ---- npy ---- */

static int write_npy_rows(const struct embedding *x, const struct text_column *names, FILE *f)
{
    const struct feature_set *s = &x->features;
    for (uint32_t i = 0; i < s->rows; i++) {
        uint32_t label = s->labels ? s->labels[i] : 0;
        fwrite(names->points + (size_t)i * names->width, sizeof *names->points, names->width, f);
        if (s->labels != NULL)
            fwrite(&label, sizeof label, 1, f);
        fwrite(&x->nearest[i], sizeof x->nearest[i], 1, f);
        fwrite(&x->cosine[i], sizeof x->cosine[i], 1, f);
        fwrite(s->x + (size_t)i * s->width, sizeof *s->x, s->width, f);
        fwrite(x->z + (size_t)i * x->D, sizeof *x->z, x->D, f);
    }
    return ferror(f) ? ERR_IO : 0;
}

static void write_npy_header(const struct embedding *x, const struct text_column *names, FILE *f)
{
    char type[256], header[NPY_HEADER_BYTES];
    snprintf(type, sizeof type,
             "[('name', '<U%u'), %s('prototype', '<u4'), ('cosine', '<f4'), ('features', '<f4', (%u,)), "
             "('projection', '<f4', (%u,))]",
             names->width, x->features.labels ? "('label', '<u4'), " : "", x->features.width, x->D);
    char shape[32];
    snprintf(shape, sizeof shape, "(%u,)", x->features.rows);
    size_t size = npy_header_write(type, shape, header);
    fwrite(header, 1, size, f);
}

/* ---- csv ---- */

/* RFC 4180: in quotes when it needs them, quotes doubled. */
static void write_csv_name(const char *name, FILE *f)
{
    if (name[strcspn(name, "\",\r\n")] == '\0') {
        fputs(name, f);
        return;
    }
    fputc('"', f);
    for (; *name; name++) {
        if (*name == '"')
            fputc('"', f);
        fputc(*name, f);
    }
    fputc('"', f);
}

static void write_csv_heading(const struct embedding *x, FILE *f)
{
    fprintf(f, "name%s,prototype,cosine", x->features.labels ? ",label" : "");
    for (uint32_t i = 0; i < x->features.width; i++)
        fprintf(f, ",f%u", i);
    for (uint32_t i = 0; i < x->D; i++)
        fprintf(f, ",z%u", i);
    fputc('\n', f);
}

static void write_csv_floats(const float *x, uint32_t n, FILE *f)
{
    for (uint32_t i = 0; i < n; i++)
        fprintf(f, ",%.9g", x[i]);
}

static int write_csv_rows(const struct embedding *x, char *const *names, FILE *f)
{
    const struct feature_set *s = &x->features;
    write_csv_heading(x, f);
    for (uint32_t i = 0; i < s->rows; i++) {
        write_csv_name(names[i], f);
        if (s->labels != NULL)
            fprintf(f, ",%u", s->labels[i]);
        fprintf(f, ",%u", x->nearest[i]);
        write_csv_floats(&x->cosine[i], 1, f);
        write_csv_floats(s->x + (size_t)i * s->width, s->width, f);
        write_csv_floats(x->z + (size_t)i * x->D, x->D, f);
        fputc('\n', f);
    }
    return ferror(f) ? ERR_IO : 0;
}

int embedding_write(const struct embedding *x, char *const *names, enum embedding_format format, const char *path,
                    struct error *e)
{
    struct text_column text;
    struct output_file out;
    int rc = text_column_of(names, x->features.rows, &text, e);
    if (rc == 0 && format == EMBEDDING_NPZ) {
        rc = write_npz(x, &text, path, e);
    } else if (rc == 0 && (rc = output_file_open(path, &out, e)) == 0) {
        if (format == EMBEDDING_NPY)
            write_npy_header(x, &text, out.f);
        rc = format == EMBEDDING_NPY ? write_npy_rows(x, &text, out.f) : write_csv_rows(x, names, out.f);
        if (rc != 0)
            error_set(e, rc, "write %s: a write failed; is the disk full?", path);
        rc = output_file_close(&out, rc, e);
    }
    free(text.points);
    return rc;
}
