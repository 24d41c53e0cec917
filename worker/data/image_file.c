/* Formats by their names and first bytes, and which decoder. */
#include "worker/data/image_file.h"

#include <string.h>
#include <strings.h>
#include "worker/data/image_codec.h"

const char image_formats_read[] = "PNG, JPEG, WebP, TIFF or netpbm";

/* ---- by name ---- */

static bool is_among(const char *ending, const char *const *endings)
{
    for (; *endings; endings++)
        if (strcasecmp(ending, *endings) == 0)
            return true;
    return false;
}

enum image_name image_name_kind(const char *name)
{
    static const char *const read[] = {"png", "webp",  "tif",  "tiff", "jpg", "jpeg", "jpe", "jfif",
                                       "jif", "pjpeg", "pjpg", "ppm",  "pgm", "pbm",  "pnm", NULL};
    static const char *const unread[] = {
        "gif", "bmp", "dib", "avif", "avifs", "heic", "heif", "hif",  "jxl",  "jp2", "j2k", "jpf", "jpx", "jpm",
        "jxr", "ico", "cur", "tga",  "psd",   "psb",  "xcf",  "svg",  "svgz", "eps", "pam", "pfm", "qoi", "exr",
        "hdr", "dds", "pcx", "xpm",  "xbm",   "ras",  "sgi",  "fits", "dcm",  "nii", "raw", "cr2", "cr3", "nef",
        "arw", "dng", "orf", "rw2",  "raf",   "pef",  "srw",  "apng", "mng",  "jng", NULL};
    static const char *const text[] = {"txt",  "csv", "tsv", "json", "jsonl", "xml",
                                       "yaml", "yml", "md",  "html", "py",    NULL};
    const char *ending = strrchr(name, '.');
    if (!ending || ending == name || strchr(ending, '/'))
        return IMAGE_NAME_OTHER;
    return is_among(ending + 1, read)     ? IMAGE_NAME_READ
           : is_among(ending + 1, unread) ? IMAGE_NAME_UNREAD
           : is_among(ending + 1, text)   ? IMAGE_NAME_TEXT
                                          : IMAGE_NAME_OTHER;
}

/* ---- by content ---- */

enum decoder { DECODER_NONE, DECODER_PNG, DECODER_JPEG, DECODER_WEBP, DECODER_TIFF, DECODER_NETPBM };

/* Bytes at `at`; those of ISO media files stand behind a length. */
static const struct magic {
    const char *name, *bytes;
    uint8_t at, size;
    enum decoder decoder;
} magics[] = {
    {"PNG", "\x89PNG\r\n\x1a\n", 0, 8, DECODER_PNG},
    {"JPEG", "\xff\xd8\xff", 0, 3, DECODER_JPEG},
    {"WebP", "WEBP", 8, 4, DECODER_WEBP},
    {"TIFF", "II*\0", 0, 4, DECODER_TIFF},
    {"TIFF", "MM\0*", 0, 4, DECODER_TIFF},
    {"TIFF", "II+\0", 0, 4, DECODER_TIFF},
    {"TIFF", "MM\0+", 0, 4, DECODER_TIFF},
    {"GIF", "GIF8", 0, 4, DECODER_NONE},
    {"AVIF", "ftypavif", 4, 8, DECODER_NONE},
    {"AVIF", "ftypavis", 4, 8, DECODER_NONE},
    {"HEIC", "ftyphei", 4, 7, DECODER_NONE},
    {"HEIC", "ftyphev", 4, 7, DECODER_NONE},
    {"HEIC", "ftypmif1", 4, 8, DECODER_NONE},
    {"JPEG XL", "JXL \r\n\x87\n", 4, 8, DECODER_NONE},
    {"JPEG XL", "\xff\x0a", 0, 2, DECODER_NONE},
    {"JPEG 2000", "jP  \r\n\x87\n", 4, 8, DECODER_NONE},
    {"JPEG 2000", "\xff\x4f\xff\x51", 0, 4, DECODER_NONE},
    {"Photoshop", "8BPS", 0, 4, DECODER_NONE},
    {"QOI", "qoif", 0, 4, DECODER_NONE},
    {"OpenEXR", "v/1\x01", 0, 4, DECODER_NONE},
};

static bool is_netpbm(const uint8_t *b, size_t size)
{
    return size >= 3 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6' && strchr(" \t\r\n#", b[2]) && b[2] != '\0';
}

/* What a failed download leaves behind. */
static bool is_html(const uint8_t *b, size_t size)
{
    return (size >= 9 && strncasecmp((const char *)b, "<!doctype", 9) == 0) ||
           (size >= 5 && strncasecmp((const char *)b, "<html", 5) == 0);
}

/* A BMP's size stands in it, so that not every text that begins with BM is one. */
static bool is_bmp(const uint8_t *b, size_t size)
{
    return size >= IMAGE_MAGIC_MAX && b[0] == 'B' && b[1] == 'M' && memcmp(b + 6, "\0\0\0\0", 4) == 0;
}

static const char *look(const uint8_t *bytes, size_t size, enum decoder *decoder)
{
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        const struct magic *m = &magics[i];
        if (size >= (size_t)m->at + m->size && memcmp(bytes + m->at, m->bytes, m->size) == 0) {
            *decoder = m->decoder;
            return m->name;
        }
    }
    *decoder = is_netpbm(bytes, size) ? DECODER_NETPBM : DECODER_NONE;
    return *decoder == DECODER_NETPBM ? "netpbm" : is_bmp(bytes, size) ? "BMP" : is_html(bytes, size) ? "HTML" : NULL;
}

const char *image_format_of(const uint8_t *bytes, size_t size, bool *readable)
{
    enum decoder decoder;
    const char *name = look(bytes, size, &decoder);
    if (readable)
        *readable = decoder != DECODER_NONE;
    return name;
}

static int unreadable(const char *format, struct error *e)
{
    if (!format)
        return error_set(e, ERR_FORMAT, "not %s", image_formats_read);
    if (strcmp(format, "HTML") == 0)
        return error_set(e, ERR_FORMAT, "an HTML page, no image: the download failed; fetch it again");
    return error_set(e, ERR_FORMAT, "its content is %s, which is not read; convert it to PNG or JPEG", format);
}

int image_decode(const uint8_t *bytes, size_t size, uint32_t min_side, struct image *out, struct error *e)
{
    enum decoder decoder;
    *out = (struct image){0};
    if (size == 0)
        return error_set(e, ERR_FORMAT, "an empty file");
    const char *format = look(bytes, size, &decoder);
    int rc = ERR_FORMAT;
    switch (decoder) {
    case DECODER_PNG:
        rc = image_decode_png(bytes, size, out, e);
        break;
    case DECODER_JPEG:
        rc = image_decode_jpeg(bytes, size, min_side, out, e);
        break;
    case DECODER_WEBP:
        rc = image_decode_webp(bytes, size, out, e);
        break;
    case DECODER_TIFF:
        rc = image_decode_tiff(bytes, size, out, e);
        break;
    case DECODER_NETPBM:
        rc = image_decode_netpbm(bytes, size, out, e);
        break;
    case DECODER_NONE:
        rc = unreadable(format, e);
        break;
    }
    if (rc == 0 && out->file.height == 0)
        out->file = out->size;
    if (rc == 0)
        rc = image_turn(out, e);
    if (rc != 0)
        image_fini(out);
    return rc;
}
