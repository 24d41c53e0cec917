/* What the launcher says: on its stderr and, so that it can be read when nobody was looking, in OUT/logs/launcher.log.
 * Progress lines go to stderr only. A launcher in the background has the file as its stderr and writes it once. */
#ifndef DECANT_CLI_LAUNCH_LOG_H
#define DECANT_CLI_LAUNCH_LOG_H

#include <stdbool.h>
#include <stdio.h>

struct launch_log {
    FILE *out;  /* stderr */
    FILE *file; /* NULL when stderr is it, or when it cannot be written: it is a copy */
};

/* directory: OUT/logs. */
void launch_log_open(struct launch_log *l, FILE *out, const char *directory);
void launch_log_close(struct launch_log *l);
void launch_log_say(struct launch_log *l, const char *text);

/* True when `out` is a pipe or socket that nobody reads any more (`| head` that has enough, `| tee` that Ctrl-C ended).
 * Writing would tell, too, but only at the next line. A terminal that is gone is no such case: SIGHUP tells of it to
 * everybody who wants to hear. */
bool launch_log_unread(const struct launch_log *l);

#endif
