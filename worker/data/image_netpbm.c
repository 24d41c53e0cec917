/* The netpbm formats, read here because the format is this comment:
 *     P1 P4  one bit a pixel (PBM; 1 is black)     P2 P5  grey (PGM)     P3 P6  red, green, blue (PPM)
 * A file is the two letters, then width, height and (but for PBM) the largest value, 1..65535, in decimal digits, each
 * behind blanks or comments (from '#' to the end of its line). P1 to P3 go on with values in digits (those of P1 may
 * stand without blanks between them). P4 to P6 go on with one blank and then bytes: a PBM's rows of bits, the first
 * pixel highest, each row padded to whole bytes; else one byte a value, or two, the higher first, when the largest
 * value is above 255. Values are scaled so that the largest is 255. Nothing but blanks may follow the image. */
#include "worker/data/image_codec.h"
#include "worker/data/limits.h"

enum { LARGEST_VALUE = 65535 };

struct netpbm {
    const uint8_t *at, *end;
    bool bits, plain; /* P1, P4; P1 to P3 */
    uint32_t largest;
    struct image *out;
};

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static bool skip_blanks(struct netpbm *n)
{
    const uint8_t *start = n->at;
    while (n->at < n->end && (is_blank(*n->at) || *n->at == '#')) {
        if (*n->at == '#')
            while (n->at < n->end && *n->at != '\n')
                n->at++;
        else
            n->at++;
    }
    return n->at > start;
}

/* -1 when there are none or they say more than most. */
static int64_t take_digits(struct netpbm *n, int64_t most)
{
    int64_t value = 0;
    if (n->at == n->end || *n->at < '0' || *n->at > '9')
        return -1;
    while (n->at < n->end && *n->at >= '0' && *n->at <= '9' && value <= most)
        value = 10 * value + (*n->at++ - '0');
    return value <= most ? value : -1;
}

static int64_t take_number(struct netpbm *n, int64_t most)
{
    return skip_blanks(n) ? take_digits(n, most) : -1;
}

static int read_header(struct netpbm *n, uint32_t channels, struct error *e)
{
    int64_t width = take_number(n, UINT32_MAX), height = take_number(n, UINT32_MAX),
            largest = n->bits ? 1 : take_number(n, LARGEST_VALUE);
    if (width < 0 || height < 0 || largest < 1)
        return error_set(e, ERR_FORMAT, "netpbm: no width, height and largest value (1..%d) at its start",
                         LARGEST_VALUE);
    n->largest = (uint32_t)largest;
    if (!n->plain && (n->at == n->end || !is_blank(*n->at++)))
        return error_set(e, ERR_FORMAT, "netpbm: no blank before the pixels");
    /* A value takes a byte, a PBM's an eighth of one: a file that is too short for what it claims costs no memory. */
    uint64_t bytes = n->bits && !n->plain ? ((uint64_t)width + 7) / 8 * (uint64_t)height
                                          : (uint64_t)width * channels * (uint64_t)height;
    if (width <= IMAGE_SIDE_FILE_MAX && height <= IMAGE_SIDE_FILE_MAX && bytes > (uint64_t)(n->end - n->at))
        return error_set(e, ERR_FORMAT, "netpbm: truncated");
    return image_claim(n->out, (uint64_t)height, (uint64_t)width, channels, e);
}

static bool next_bit(struct netpbm *n, uint32_t *value)
{
    if (*n->at != '0' && *n->at != '1')
        return false;
    *value = *n->at++ == '0';
    return true;
}

static bool next_packed(struct netpbm *n, uint32_t *value)
{
    *value = *n->at++;
    if (n->largest > 255)
        *value = *value << 8 | *n->at++;
    return *value <= n->largest;
}

static bool next_number(struct netpbm *n, uint32_t *value)
{
    int64_t number = take_digits(n, n->largest);
    *value = (uint32_t)number;
    return number >= 0;
}

static int read_values(struct netpbm *n, struct error *e)
{
    size_t values = image_bytes(&n->out->size), width = !n->plain && n->largest > 255 ? 2 : 1;
    uint32_t value = 0;
    for (size_t i = 0; i < values; i++) {
        if (n->plain && !skip_blanks(n) && !n->bits && n->at < n->end)
            return error_set(e, ERR_FORMAT, "netpbm: no blank before value %zu", i);
        if ((size_t)(n->end - n->at) < width)
            return error_set(e, ERR_FORMAT, "netpbm: truncated at value %zu of %zu", i, values);
        if (!(n->bits ? next_bit(n, &value) : n->plain ? next_number(n, &value) : next_packed(n, &value)))
            return error_set(e, ERR_FORMAT, "netpbm: value %zu is no number, or above the largest, %u", i, n->largest);
        n->out->pixels[i] = (uint8_t)((value * 255 + n->largest / 2) / n->largest);
    }
    return 0;
}

/* Their number of bytes was checked with the header. */
static void read_packed_bits(struct netpbm *n)
{
    uint32_t width = n->out->size.width, bytes = (width + 7) / 8;
    for (uint32_t y = 0; y < n->out->size.height; y++, n->at += bytes)
        for (uint32_t x = 0; x < width; x++)
            n->out->pixels[(size_t)y * width + x] = n->at[x / 8] >> (7 - x % 8) & 1 ? 0 : 255;
}

int image_decode_netpbm(const uint8_t *bytes, size_t size, struct image *out, struct error *e)
{
    struct netpbm n = {.at = bytes + 2, .end = bytes + size, .out = out};
    if (size < 2 || bytes[0] != 'P' || bytes[1] < '1' || bytes[1] > '6')
        return error_set(e, ERR_FORMAT, "netpbm: it does not begin with P1 to P6");
    n.bits = bytes[1] == '1' || bytes[1] == '4';
    n.plain = bytes[1] <= '3';
    int rc = read_header(&n, bytes[1] == '3' || bytes[1] == '6' ? 3 : 1, e);
    if (rc == 0 && n.bits && !n.plain)
        read_packed_bits(&n);
    else if (rc == 0)
        rc = read_values(&n, e);
    if (rc != 0)
        return rc;
    skip_blanks(&n);
    return n.at == n.end ? 0 : error_set(e, ERR_FORMAT, "netpbm: %zu bytes behind the image", (size_t)(n.end - n.at));
}
