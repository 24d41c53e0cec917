/* Figures of a run over its steps, in bounded memory: the lines of a metrics file, thinned by halves as they become
 * more than a picture can show. A step that comes again (a run that went back) takes the place of what was undone. */
#ifndef DECANT_CLI_DASHBOARD_HISTORY_H
#define DECANT_CLI_DASHBOARD_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

enum { HISTORY_ROWS = 512, HISTORY_COLUMNS_MAX = 12 };

struct history_row {
    double step;
    double value[HISTORY_COLUMNS_MAX]; /* NaN: not told */
};

struct dashboard_history {
    const char *const *columns; /* names, as in the metrics file */
    size_t column_count;
    struct history_row rows[HISTORY_ROWS]; /* by rising step */
    size_t count;
    double spacing;   /* steps between two rows that are kept, at least; the newest row is always there */
    unsigned rewinds; /* how often the steps went back, as far as the lines show: not when it was past the newest one */
    double told;      /* how often the server said that it had gone back, over all its starts */
    double told_last; /* the counter as of the newest line; it begins at 0 with every start */
};

extern const char *const history_of_parameter[];  /* loss and its parts, pace: metrics-parameter.jsonl */
extern const char *const history_of_prototype[];  /* metrics-prototype.jsonl, and the mirror's stream */
extern const char *const history_of_evaluation[]; /* metrics-eval.jsonl */
enum { HISTORY_EVALUATION_COLUMNS = 3 };
enum { HISTORY_PARAMETER_COLUMNS = 10, HISTORY_PROTOTYPE_COLUMNS = 11 };

void dashboard_history_init(struct dashboard_history *h, const char *const *columns, size_t column_count);
void dashboard_history_blank(struct history_row *row); /* all NaN */
/* Rows without a step are passed over. Lines of the same step are merged. */
void dashboard_history_add(struct dashboard_history *h, const struct history_row *row);
/* The server's counter of that as of the newest row; rows that do not have it stand for 0. */
void dashboard_history_rewinds(struct dashboard_history *h, double now);
void dashboard_history_line(struct dashboard_history *h, const char *line, size_t length); /* one JSON object */
/* Index of a column; the name must be one of them. */
size_t dashboard_history_column(const struct dashboard_history *h, const char *name);
/* The newest value of a column, the largest and the smallest that are kept; NaN when there is none. */
double dashboard_history_last(const struct dashboard_history *h, const char *name);
double dashboard_history_max(const struct dashboard_history *h, const char *name);
double dashboard_history_min(const struct dashboard_history *h, const char *name);

#endif
