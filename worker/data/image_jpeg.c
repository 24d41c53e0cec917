/* JPEG by libjpeg-turbo: grey stays grey, everything else becomes RGB; CMYK is refused, since what its values mean is
 * not in the file. Colour profiles are ignored. libjpeg pads what is damaged or missing and only
 * warns; here that is an error, except for what leaves the pixels alone. libjpeg leaves by longjmp: see image_png.c. */
#include <setjmp.h>
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
#include <string.h>
#include "worker/data/exif.h"
#include "worker/data/image_codec.h"
#include "worker/data/limits.h"

enum { EXIF_BYTES_MAX = 65533 }; /* of a segment: what its length can say */

struct jpeg_reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf leave;
    struct image *out;
    struct error *error;
    int rc;
};

_Noreturn static void leave(struct jpeg_reader *r)
{
    longjmp(r->leave, 1);
}

static void on_error(j_common_ptr jpeg)
{
    struct jpeg_reader *r = jpeg->client_data;
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    r->rc = error_set(r->error, jpeg->err->msg_code == JERR_OUT_OF_MEMORY ? ERR_MEMORY : ERR_FORMAT, "JPEG: %s", text);
    leave(r);
}

/* level -1: a warning that the data are damaged; 0 and more: traces. */
static void on_message(j_common_ptr jpeg, int level)
{
    int code = jpeg->err->msg_code;
    bool harmless =
        code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR || code == JWRN_BOGUS_ICC;
    if (level < 0 && !harmless)
        on_error(jpeg);
}

static void on_progress(j_common_ptr jpeg)
{
    struct jpeg_reader *r = jpeg->client_data;
    if (r->jpeg.input_scan_number <= JPEG_SCANS_MAX)
        return;
    r->rc = error_set(r->error, ERR_RANGE, "JPEG: more than %d scans", JPEG_SCANS_MAX);
    leave(r);
}

/* The smallest of 1/8, 1/4, 1/2, 1 that keeps both sides at min_side. */
static unsigned denominator(const struct jpeg_decompress_struct *j, uint32_t min_side)
{
    uint32_t side = j->image_width < j->image_height ? j->image_width : j->image_height;
    unsigned d = 8;
    while (d > 1 && (min_side == 0 || side / d < min_side))
        d /= 2;
    return d;
}

static void check_claims(struct jpeg_reader *r)
{
    const struct jpeg_decompress_struct *j = &r->jpeg;
    if (j->image_height > IMAGE_SIDE_FILE_MAX || j->image_width > IMAGE_SIDE_FILE_MAX ||
        (uint64_t)j->image_height * j->image_width > IMAGE_PIXELS_FILE_MAX)
        r->rc = error_set(r->error, ERR_RANGE, "%ux%u pixels, at most %d a side and %d in all", j->image_height,
                          j->image_width, IMAGE_SIDE_FILE_MAX, IMAGE_PIXELS_FILE_MAX);
    else if (j->jpeg_color_space == JCS_CMYK || j->jpeg_color_space == JCS_YCCK)
        r->rc = error_set(r->error, ERR_FORMAT, "JPEG: CMYK; convert it to RGB");
    if (r->rc != 0)
        leave(r);
}

static void take_memory(struct jpeg_reader *r)
{
    r->rc =
        image_claim(r->out, r->jpeg.output_height, r->jpeg.output_width, (uint32_t)r->jpeg.output_components, r->error);
    if (r->rc != 0)
        leave(r);
    r->out->file = (struct image_size){r->jpeg.image_height, r->jpeg.image_width, r->out->size.channels};
}

/* EXIF data stand in the first segment of kind APP1 that begins with their name. */
static void read_orientation(struct jpeg_reader *r)
{
    static const char name[] = "Exif\0";
    for (jpeg_saved_marker_ptr m = r->jpeg.marker_list; m; m = m->next)
        if (m->data_length > sizeof name && memcmp(m->data, name, sizeof name) == 0) {
            r->out->orientation = exif_orientation(m->data + sizeof name, m->data_length - sizeof name);
            return;
        }
}

/* The frame that leave() returns to. */
static void read_all(struct jpeg_reader *r, const uint8_t *bytes, size_t size, uint32_t min_side)
{
    struct jpeg_decompress_struct *j = &r->jpeg;
    if (setjmp(r->leave))
        return;
    jpeg_create_decompress(j);
    j->progress = &r->progress;
    jpeg_mem_src(j, bytes, size);
    jpeg_save_markers(j, JPEG_APP0 + 1, EXIF_BYTES_MAX);
    jpeg_read_header(j, TRUE);
    check_claims(r);
    j->out_color_space = j->jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
    j->dct_method = JDCT_ISLOW; /* the one whose vector code gives the same bytes as the plain one */
    j->scale_num = 1;
    j->scale_denom = denominator(j, min_side);
    jpeg_start_decompress(j);
    take_memory(r);
    while (j->output_scanline < j->output_height) {
        JSAMPROW row = r->out->pixels + (size_t)j->output_scanline * r->out->size.width * r->out->size.channels;
        jpeg_read_scanlines(j, &row, 1);
    }
    read_orientation(r); /* before libjpeg drops the segments */
    jpeg_finish_decompress(j);
}

int image_decode_jpeg(const uint8_t *bytes, size_t size, uint32_t min_side, struct image *out, struct error *e)
{
    struct jpeg_reader r = {.out = out, .error = e};
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.jpeg.client_data = &r; /* jpeg_create_decompress keeps both */
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.progress.progress_monitor = on_progress;
    read_all(&r, bytes, size, min_side);
    jpeg_destroy_decompress(&r.jpeg);
    return r.rc;
}
