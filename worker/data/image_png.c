/* PNG by libpng: palettes expanded, 16 bits scaled to 8, transparency kept as alpha; gamma and colour profiles are
 * ignored. libpng leaves by longjmp: what has to be freed lives in a struct outside the frame that calls setjmp, and
 * that frame calls nothing else that changes its own variables. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include "worker/data/exif.h"
#include "worker/data/image_codec.h"
#include "worker/data/limits.h"

struct png_reader {
    const uint8_t *at;
    size_t left;
    png_structp png;
    png_infop info;
    png_bytep *rows; /* (H) into the pixels */
    struct image *out;
    struct error *error;
    int rc;
};

static void on_error(png_structp png, png_const_charp text)
{
    struct png_reader *r = png_get_error_ptr(png);
    if (r->rc == 0)
        r->rc = error_set(r->error, ERR_FORMAT, "PNG: %s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text; /* of ancillary chunks: the pixels are not affected */
}

static void on_read(png_structp png, png_bytep out, size_t size)
{
    struct png_reader *r = png_get_io_ptr(png);
    if (size > r->left)
        png_error(png, "truncated");
    memcpy(out, r->at, size);
    r->at += size;
    r->left -= size;
}

static void set_limits(png_structp png)
{
    png_set_user_limits(png, IMAGE_SIDE_FILE_MAX, IMAGE_SIDE_FILE_MAX);
    png_set_chunk_cache_max(png, PNG_CHUNKS_MAX);
    png_set_chunk_malloc_max(png, PNG_CHUNK_BYTES_MAX);
}

static void set_transforms(struct png_reader *r)
{
    png_set_expand(r->png); /* palettes, 1 to 4 bits, transparent colours */
    png_set_scale_16(r->png);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
}

/* Leaves by longjmp when memory lacks or the size is beyond the limits. */
static void take_memory(struct png_reader *r)
{
    uint32_t height = png_get_image_height(r->png, r->info), channels = png_get_channels(r->png, r->info);
    r->rc = image_claim(r->out, height, png_get_image_width(r->png, r->info), channels, r->error);
    if (r->rc == 0) {
        r->rows = malloc(height * sizeof *r->rows);
        if (!r->rows)
            r->rc = error_set(r->error, ERR_MEMORY, "no memory for a PNG's rows");
    }
    size_t row = (size_t)r->out->size.width * channels;
    if (r->rc != 0 || png_get_rowbytes(r->png, r->info) != row)
        png_error(r->png, "rows of another size than announced");
    for (uint32_t y = 0; y < height; y++)
        r->rows[y] = r->out->pixels + y * row;
}

static void read_orientation(struct png_reader *r)
{
    png_uint_32 size;
    png_bytep exif;
    if (png_get_eXIf_1(r->png, r->info, &size, &exif))
        r->out->orientation = exif_orientation(exif, size);
}

/* The frame that libpng's longjmp returns to. */
static void read_all(struct png_reader *r)
{
    if (setjmp(png_jmpbuf(r->png)))
        return;
    set_limits(r->png);
    png_set_read_fn(r->png, r, on_read);
    png_read_info(r->png, r->info);
    set_transforms(r);
    take_memory(r);
    png_read_image(r->png, r->rows);
    png_read_end(r->png, r->info);
    read_orientation(r);
}

int image_decode_png(const uint8_t *bytes, size_t size, struct image *out, struct error *e)
{
    struct png_reader r = {.at = bytes, .left = size, .out = out, .error = e};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    if (r.png)
        r.info = png_create_info_struct(r.png);
    if (r.info)
        read_all(&r);
    else
        r.rc = error_set(e, ERR_MEMORY, "no memory for libpng");
    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.rows);
    return r.rc;
}
