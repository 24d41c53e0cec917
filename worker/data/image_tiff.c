/* TIFF by libtiff: grey, colour, palettes, with alpha, 1 to 16 bits a sample, whatever the compression; libtiff brings
 * them to 8 bits. One image a file: pages beyond the first are refused, unless they are smaller versions of it. CMYK is
 * refused as in JPEG files, floating point and more than four channels because they do not say what is black or
 * white. Colour profiles are ignored. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>
#include "worker/data/image_codec.h"
#include "worker/data/limits.h"

struct tiff_reader {
    const uint8_t *bytes;
    uint64_t size, at;
    TIFF *tiff;
    uint32_t *raster; /* (H,W) red in the lowest byte, then green, blue, alpha; colours multiplied by it */
    struct image *out;
    struct error *error;
    int rc; /* the first error that libtiff told */
};

/* ---- a file in memory ---- */

static tmsize_t on_read(thandle_t handle, void *out, tmsize_t wanted)
{
    struct tiff_reader *r = handle;
    uint64_t left = r->at < r->size ? r->size - r->at : 0, n = wanted < 0 ? 0 : (uint64_t)wanted;
    n = n < left ? n : left;
    memcpy(out, r->bytes + (r->size - left), n);
    r->at += n;
    return (tmsize_t)n;
}

static tmsize_t on_write(thandle_t handle, void *in, tmsize_t size)
{
    (void)handle;
    (void)in;
    (void)size;
    return -1;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence)
{
    struct tiff_reader *r = handle;
    r->at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? r->at + offset : r->size + offset;
    return r->at;
}

static int on_close(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t on_size(thandle_t handle)
{
    return ((struct tiff_reader *)handle)->size;
}

/* ---- messages ---- */

static int on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list args)
{
    struct tiff_reader *r = user;
    char text[200];
    (void)tiff;
    (void)module;
    if (r->rc != 0)
        return 1;
    vsnprintf(text, sizeof text, format, args);
    r->rc = error_set(r->error, ERR_FORMAT, "TIFF: %s", text);
    return 1;
}

static int on_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list args)
{
    (void)tiff;
    (void)user;
    (void)module;
    (void)format;
    (void)args; /* of unknown tags: the pixels are not affected */
    return 1;
}

static int failed(struct tiff_reader *r, const char *text)
{
    if (r->rc == 0)
        r->rc = error_set(r->error, ERR_FORMAT, "TIFF: %s", text);
    return r->rc;
}

/* ---- reading ---- */

static int open_tiff(struct tiff_reader *r)
{
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (!options)
        return r->rc = error_set(r->error, ERR_MEMORY, "no memory for libtiff");
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, IMAGE_BYTES_FILE_MAX);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, r);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, r);
    /* m: no memory map; there is no file */
    r->tiff = TIFFClientOpenExt("", "rm", r, on_read, on_write, on_seek, on_close, on_size, NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    return r->tiff ? 0 : failed(r, "damaged");
}

/* Thumbnails may follow the image; a second page may not. */
static int check_pages(struct tiff_reader *r)
{
    uint32_t kind = 0;
    if (TIFFLastDirectory(r->tiff))
        return 0;
    if (!TIFFReadDirectory(r->tiff))
        return failed(r, "its second page is damaged");
    TIFFGetFieldDefaulted(r->tiff, TIFFTAG_SUBFILETYPE, &kind);
    if (!(kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)))
        return failed(r, "several pages; save each as a file");
    return TIFFSetDirectory(r->tiff, 0) ? 0 : failed(r, "damaged");
}

/* Channels of the image; 0 with an error. */
static uint32_t channels_of(struct tiff_reader *r, const TIFFRGBAImage *image)
{
    uint16_t format = SAMPLEFORMAT_UINT;
    TIFFGetFieldDefaulted(r->tiff, TIFFTAG_SAMPLEFORMAT, &format);
    if (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID)
        failed(r, "samples that are no unsigned integers; convert it to 8 or 16 bits");
    else if (image->photometric == PHOTOMETRIC_SEPARATED)
        failed(r, "CMYK; convert it to RGB");
    else if (image->samplesperpixel > DATASET_CHANNELS_MAX)
        failed(r, "more than four channels");
    if (r->rc != 0)
        return 0;
    bool grey = image->photometric == PHOTOMETRIC_MINISBLACK || image->photometric == PHOTOMETRIC_MINISWHITE;
    return (grey ? 1 : 3) + (image->alpha != 0);
}

/* libtiff multiplies colours by alpha, or finds them so. */
static uint8_t undo_alpha(uint32_t value, uint32_t alpha)
{
    uint32_t whole = alpha ? (value * 255 + alpha / 2) / alpha : 0;
    return (uint8_t)(whole < 255 ? whole : 255);
}

static void take_pixels(const struct tiff_reader *r)
{
    uint32_t C = r->out->size.channels;
    size_t n = (size_t)r->out->size.height * r->out->size.width;
    uint8_t *out = r->out->pixels;
    for (size_t i = 0; i < n; i++, out += C) {
        uint32_t pixel = r->raster[i], alpha = C == 2 || C == 4 ? TIFFGetA(pixel) : 255;
        const uint32_t rgb[3] = {TIFFGetR(pixel), TIFFGetG(pixel), TIFFGetB(pixel)};
        for (uint32_t c = 0; c < (C < 3 ? 1 : 3); c++)
            out[c] = undo_alpha(rgb[c], alpha);
        if (C == 2 || C == 4)
            out[C - 1] = (uint8_t)alpha;
    }
}

static int read_image(struct tiff_reader *r, TIFFRGBAImage *image)
{
    uint32_t channels = channels_of(r, image);
    if (channels == 0)
        return r->rc;
    if ((r->rc = image_claim(r->out, image->height, image->width, channels, r->error)) != 0)
        return r->rc;
    r->out->orientation = (uint8_t)image->orientation;
    image->orientation = image->req_orientation = ORIENTATION_TOPLEFT; /* as stored: it is turned later */
    r->raster = malloc((size_t)image->width * image->height * sizeof *r->raster);
    if (!r->raster)
        return r->rc = error_set(r->error, ERR_MEMORY, "no memory for a TIFF's pixels");
    if (!TIFFRGBAImageGet(image, r->raster, image->width, image->height) || r->rc != 0)
        return failed(r, "damaged");
    take_pixels(r);
    return 0;
}

static int read_all(struct tiff_reader *r)
{
    char text[1024] = "";
    TIFFRGBAImage image;
    if (open_tiff(r) != 0 || check_pages(r) != 0)
        return r->rc;
    if (!TIFFRGBAImageOK(r->tiff, text) || !TIFFRGBAImageBegin(&image, r->tiff, 1, text)) {
        text[200] = '\0';
        return failed(r, *text ? text : "damaged");
    }
    read_image(r, &image);
    TIFFRGBAImageEnd(&image);
    return r->rc;
}

int image_decode_tiff(const uint8_t *bytes, size_t size, struct image *out, struct error *e)
{
    struct tiff_reader r = {.bytes = bytes, .size = size, .out = out, .error = e};
    read_all(&r);
    if (r.tiff)
        TIFFClose(r.tiff);
    free(r.raster);
    return r.rc;
}
