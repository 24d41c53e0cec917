/* A cursor over the text; every step either takes what it expects or fails, nothing is skipped but blanks. */
#include "worker/data/npy_header.h"

#include <stdio.h>
#include <string.h>
#include "worker/data/limits.h"

struct cursor {
    const char *at, *end;
};

int npy_preamble(const uint8_t b[NPY_PREAMBLE_MAX], size_t *preamble, size_t *length, struct error *e)
{
    if (memcmp(b, "\x93NUMPY", 6) != 0)
        return error_set(e, ERR_FORMAT, "no .npy array");
    if (b[6] < 1 || b[6] > 3)
        return error_set(e, ERR_FORMAT, ".npy version %u.%u, expected 1 to 3", b[6], b[7]);
    *preamble = b[6] == 1 ? NPY_PREAMBLE + 2 : NPY_PREAMBLE + 4;
    *length = (size_t)b[8] | (size_t)b[9] << 8;
    if (b[6] > 1)
        *length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (*length > NPY_HEADER_MAX)
        return error_set(e, ERR_RANGE, "a .npy header of %zu bytes, at most %d", *length, NPY_HEADER_MAX);
    return 0;
}

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t'))
        c->at++;
}

static bool take(struct cursor *c, char wanted)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    skip_blanks(c);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0)
        return false;
    c->at += n;
    return true;
}

/* A quoted string without escapes. */
static bool take_string(struct cursor *c, char *out, size_t size)
{
    skip_blanks(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    char quote = *c->at++;
    size_t n = 0;
    while (c->at < c->end && *c->at != quote && n + 1 < size)
        out[n++] = *c->at++;
    out[n] = '\0';
    return take(c, quote);
}

static bool take_number(struct cursor *c, uint64_t *out)
{
    skip_blanks(c);
    const char *start = c->at;
    *out = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && *out <= UINT32_MAX)
        *out = *out * 10 + (uint64_t)(*c->at++ - '0');
    return c->at > start && *out <= UINT32_MAX;
}

static bool take_shape(struct cursor *c, struct npy_header *h)
{
    if (!take(c, '('))
        return false;
    while (!take(c, ')')) {
        if (h->rank == NPY_RANK_MAX || !take_number(c, &h->dims[h->rank]))
            return false;
        h->rank++;
        if (!take(c, ','))
            return take(c, ')');
    }
    return true;
}

void npy_type_name(const struct npy_header *h, char out[16])
{
    const char *name = h->kind == 'u' ? "uint" : h->kind == 'i' ? "int" : h->kind == 'f' ? "float" : "bool";
    if (h->kind == 'b')
        snprintf(out, 16, "%s", name);
    else
        snprintf(out, 16, "%s%u", name, 8 * h->width);
}

static bool take_type(const char *descr, struct npy_header *h)
{
    static const char *const widths[] = {"1", "2", "4", "8", "16"};
    if (strlen(descr) < 3 || strchr("|<>", descr[0]) == NULL || strchr("buif", descr[1]) == NULL)
        return false;
    h->big_endian = descr[0] == '>';
    h->kind = descr[1];
    for (uint32_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        if (strcmp(descr + 2, widths[i]) == 0)
            h->width = 1u << i;
    return h->width > 0;
}

/* One value by its key; bits of *seen say which keys there were. */
static int take_item(struct cursor *c, const char *key, unsigned *seen, const char *where, struct npy_header *h,
                     struct error *e)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    char descr[32];
    unsigned which = 0;
    while (which < 3 && strcmp(key, keys[which]) != 0)
        which++;
    if (which == 3 || (*seen & 1u << which))
        return error_set(e, ERR_FORMAT, "%s: key '%s' in its .npy header is unknown or there twice", where, key);
    *seen |= 1u << which;
    if (which == 0) {
        if (!take_string(c, descr, sizeof descr))
            return error_set(e, ERR_FORMAT, "%s: not a plain array; save a uint8 array without fields", where);
        if (strchr(descr, 'O'))
            return error_set(e, ERR_FORMAT,
                             "%.250s: Python objects (pickles, which are programs and never loaded); save an array of "
                             "numbers",
                             where);
        if (!take_type(descr, h))
            return error_set(e, ERR_FORMAT,
                             "%.200s: values of type '%s' are no numbers; for labels a, save "
                             "numpy.unique(a, return_inverse=True)[1]",
                             where, descr);
    } else if (which == 1) {
        if (!take_word(c, "False"))
            return error_set(e, ERR_FORMAT,
                             "%.300s: in Fortran order; for this array a, save numpy.ascontiguousarray(a)", where);
    } else if (!take_shape(c, h)) {
        return error_set(e, ERR_FORMAT, "%s: its shape is no list of at most %d sizes below 2^32", where, NPY_RANK_MAX);
    }
    return 0;
}

int npy_header_parse(const char *text, size_t length, const char *where, struct npy_header *out, struct error *e)
{
    struct cursor c = {text, text + length};
    unsigned seen = 0;
    *out = (struct npy_header){0};
    if (!take(&c, '{'))
        return error_set(e, ERR_FORMAT, "%s: a damaged .npy header", where);
    while (!take(&c, '}')) {
        char key[32];
        if (!take_string(&c, key, sizeof key) || !take(&c, ':'))
            return error_set(e, ERR_FORMAT, "%s: a damaged .npy header", where);
        int rc = take_item(&c, key, &seen, where, out, e);
        if (rc != 0)
            return rc;
        take(&c, ',');
    }
    skip_blanks(&c);
    if (seen != 7 || c.at != c.end)
        return error_set(e, ERR_FORMAT, "%s: a damaged .npy header", where);
    return 0;
}
