/* One pass over the bytes. In UTF-8 the second block of control characters is 0xc2 and a byte below 0xa0. */
#include "cli/printable.h"

#include <stdbool.h>

static bool is_c1(const unsigned char *p)
{
    return p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
}

char *printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++) {
        if (is_c1(p))
            p[0] = p[1] = '?';
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    return text;
}

int printable_width(const char *text, int columns)
{
    for (const char *p = text; *p; p++)
        columns += ((unsigned char)*p & 0xC0) == 0x80; /* printf counts bytes */
    return columns;
}
