/* A short table; a stranger that invents kinds fills it, and then shares one count. */
#include "server/prototype/mirror_trouble.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

uint64_t mirror_trouble_note(struct mirror_trouble *t, const char *kind)
{
    size_t i = 0;
    while (i + 1 < TROUBLE_KINDS && t->kinds[i].count > 0 && strcmp(t->kinds[i].name, kind) != 0)
        i++;
    if (t->kinds[i].count == 0)
        snprintf(t->kinds[i].name, sizeof t->kinds[i].name, "%s", kind);
    uint64_t count = ++t->kinds[i].count;
    return (count & (count - 1)) == 0 ? count : 0;
}

void mirror_trouble_kind(const char *reply, char out[TROUBLE_KIND_MAX])
{
    size_t n = strspn(reply, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    bool word = n > 0 && n < TROUBLE_KIND_MAX && (reply[n] == ' ' || reply[n] == '\0');
    snprintf(out, TROUBLE_KIND_MAX, "%.*s", word ? (int)n : 3, word ? reply : "ERR");
}

const char *mirror_trouble_text(const char *foreign, char out[TROUBLE_TEXT_MAX])
{
    size_t n = 0;
    for (; foreign[n] != '\0' && n + 1 < TROUBLE_TEXT_MAX; n++) {
        unsigned char c = (unsigned char)foreign[n];
        out[n] = c == '"' || c == '\\' ? '\'' : c >= 0x80 || !isprint(c) ? '?' : (char)c;
    }
    out[n] = '\0';
    return out;
}
