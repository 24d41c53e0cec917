/* WebP by libwebp: colour, with alpha when the file has it. An animation is refused, since none of its pictures is the
 * image. Colour profiles are ignored. EXIF data are looked for here, among the chunks of the RIFF file: a name of four
 * letters, a length (u32, little-endian), that many bytes, padded to an even number. */
#include <string.h>
#include <webp/decode.h>
#include "worker/data/exif.h"
#include "worker/data/image_codec.h"

enum { RIFF_HEADER = 12, CHUNK_HEADER = 8 };

static uint8_t find_orientation(const uint8_t *bytes, size_t size)
{
    for (size_t at = RIFF_HEADER; at <= size && size - at >= CHUNK_HEADER;) {
        const uint8_t *chunk = bytes + at;
        uint32_t length = chunk[4] | (uint32_t)chunk[5] << 8 | (uint32_t)chunk[6] << 16 | (uint32_t)chunk[7] << 24;
        at += CHUNK_HEADER;
        if (length > size - at)
            return 1;
        if (memcmp(chunk, "EXIF", 4) == 0) {
            bool named = length >= 6 && memcmp(bytes + at, "Exif\0\0", 6) == 0; /* as some programs leave it */
            return exif_orientation(bytes + at + (named ? 6 : 0), length - (named ? 6 : 0));
        }
        at += (size_t)length + (length & 1);
    }
    return 1;
}

static const char *reason(VP8StatusCode status)
{
    return status == VP8_STATUS_NOT_ENOUGH_DATA       ? "truncated"
           : status == VP8_STATUS_OUT_OF_MEMORY       ? "no memory"
           : status == VP8_STATUS_UNSUPPORTED_FEATURE ? "of a kind that libwebp does not read"
                                                      : "damaged";
}

int image_decode_webp(const uint8_t *bytes, size_t size, struct image *out, struct error *e)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return error_set(e, ERR_FORMAT, "WebP: libwebp is of another version");
    VP8StatusCode status = WebPGetFeatures(bytes, size, &config.input);
    if (status != VP8_STATUS_OK)
        return error_set(e, ERR_FORMAT, "WebP: %s", reason(status));
    if (config.input.has_animation)
        return error_set(e, ERR_FORMAT, "WebP: an animation; save one of its pictures");
    uint32_t channels = config.input.has_alpha ? 4 : 3;
    int rc = image_claim(out, (uint64_t)config.input.height, (uint64_t)config.input.width, channels, e);
    if (rc != 0)
        return rc;
    config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = out->pixels;
    config.output.u.RGBA.stride = (int)(out->size.width * channels);
    config.output.u.RGBA.size = image_bytes(&out->size);
    status = WebPDecode(bytes, size, &config);
    WebPFreeDecBuffer(&config.output);
    if (status != VP8_STATUS_OK)
        return error_set(e, status == VP8_STATUS_OUT_OF_MEMORY ? ERR_MEMORY : ERR_FORMAT, "WebP: %s", reason(status));
    out->orientation = find_orientation(bytes, size);
    return 0;
}
