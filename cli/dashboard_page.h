/* The page of `decant dashboard`, cli/page/page.html, as it lies in the binary. */
#ifndef DECANT_CLI_DASHBOARD_PAGE_H
#define DECANT_CLI_DASHBOARD_PAGE_H

#include <stddef.h>

/* The page with every @NONCE@ in it replaced; free() it. NULL when memory ran out. nonce: of the place-holder's length
 * or any other. */
char *dashboard_page(const char *nonce, size_t *size);

#endif
