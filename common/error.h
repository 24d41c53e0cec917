/* Error codes and the one error object. Library code returns a negative ERR_* and, where the caller needs more than the
 * code, fills a `struct error` with what failed, where, which value, and what to do next. Nothing here prints. */
#ifndef DECANT_COMMON_ERROR_H
#define DECANT_COMMON_ERROR_H

enum err_code {
    ERR_OK = 0,
    ERR_MEMORY = -1, /* allocation failed */
    ERR_IO = -2,     /* file or socket operation failed; text carries strerror */
    ERR_FORMAT = -3, /* bytes that are not what they claim to be */
    ERR_CONFIG = -4, /* configuration key or value; text carries file:line */
    ERR_RANGE = -5,  /* a value outside its documented limits */
    ERR_NOT_FOUND = -6,
    ERR_AGAIN = -7,  /* would block; try later */
    ERR_STATE = -8,  /* legal message or call at the wrong time */
    ERR_CLOSED = -9, /* peer or handle is gone */
};

struct error {
    int code;       /* ERR_*, or 0 */
    char text[512]; /* one line, no trailing newline */
};

/* Fills *e (when not NULL) and returns code, so that `return error_set(e, ERR_IO, "...")` reads naturally. */
int error_set(struct error *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Short name of a code ("io", "format" ...), for logs. Never NULL. */
const char *error_name(int code);

/* Programmer errors: kept in release builds, prints the expression and aborts. Never used on network or file bytes. */
#define ASSERT(expr) ((expr) ? (void)0 : assert_fail(#expr, __FILE__, __LINE__, __func__))
_Noreturn void assert_fail(const char *expr, const char *file, int line, const char *func);

#endif
