/* Text from elsewhere (Redis, files) on its way to a terminal. */
#ifndef DECANT_CLI_PRINTABLE_H
#define DECANT_CLI_PRINTABLE_H

/* Puts '?' in the place of every control character, those of UTF-8 (U+0080 to U+009F) included, so that nothing in the
 * text can steer the terminal. In place; returns text. */
char *printable(char *text);
/* The width to give to "%-*s" for a field of so many columns, a character of UTF-8 taking one. */
int printable_width(const char *text, int columns);

#endif
