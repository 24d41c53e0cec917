/* Within single quotes a shell takes everything literally but the single quote itself, written '\''. */
#include "cli/shell_quote.h"

#include <stdbool.h>
#include <string.h>

static bool plain(const char *text)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,";
    return text[0] != '\0' && text[strspn(text, safe)] == '\0';
}

const char *shell_quote(const char *text, char *out, size_t size)
{
    static const char quote[] = "'\\''";
    size_t n = 0;
    if (plain(text) && strlen(text) < size) {
        memcpy(out, text, strlen(text) + 1);
        return out;
    }
    out[n++] = '\'';
    for (; *text != '\0'; text++) {
        size_t length = *text == '\'' ? sizeof quote - 1 : 1;
        if (n + length + 2 > size)
            break;
        memcpy(out + n, *text == '\'' ? quote : text, length);
        n += length;
    }
    out[n++] = '\'';
    out[n] = '\0';
    return out;
}
