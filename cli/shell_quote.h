/* Text that is pasted into a shell. Every command that Decant prints goes through here. */
#ifndef DECANT_CLI_SHELL_QUOTE_H
#define DECANT_CLI_SHELL_QUOTE_H

#include <stddef.h>

enum { SHELL_QUOTE_MAX = 4 * 1280 + 3 }; /* of a path of 1280 bytes, each of them a quote */

/* One word of a POSIX shell that stands for `text`: itself when it needs no quotes, else in single quotes. Returns out;
 * what does not fit is cut, which leaves the quotes closed. */
const char *shell_quote(const char *text, char *out, size_t size);

#endif
