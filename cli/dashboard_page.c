/* The assembler puts the file in. Its path is relative to the root of the tree, where make runs. */
#include "cli/dashboard_page.h"

#include <stdio.h>
#include <string.h>
#include <stdlib.h>

__asm__(".section .rodata\n"
        ".global dashboard_page_begin\n"
        "dashboard_page_begin:\n"
        ".incbin \"cli/page/page.html\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char dashboard_page_begin[]; /* ends with a NUL */

char *dashboard_page(const char *nonce, size_t *size)
{
    static const char mark[] = "@NONCE@";
    char *text = NULL;
    FILE *f = open_memstream(&text, size);
    if (f == NULL)
        return NULL;
    const char *at = dashboard_page_begin;
    for (const char *next; (next = strstr(at, mark)) != NULL; at = next + sizeof mark - 1) {
        fwrite(at, 1, (size_t)(next - at), f);
        fputs(nonce, f);
    }
    fputs(at, f);
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}
