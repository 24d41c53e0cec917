/* Rows are kept at least `spacing` apart; when the table is full every second goes and the spacing doubles. */
#include "cli/dashboard_history.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include "common/error.h"

const char *const history_of_parameter[] = {"loss",         "consistency", "entropy",   "mean_entropy", "coding_rate",
                                            "feature_rate", "lr",          "grad_norm", "images_per_s", "workers"};
const char *const history_of_prototype[] = {"unique_0025", "unique_01",        "unique_025",     "unique_05",
                                            "active",      "usage_perplexity", "effective_rank", "loglik",
                                            "beta",        "reseeded",         "seeding"};
const char *const history_of_evaluation[] = {"knn", "knn_projections", "best"};
_Static_assert(sizeof history_of_evaluation / sizeof history_of_evaluation[0] == HISTORY_EVALUATION_COLUMNS, "columns");
_Static_assert(sizeof history_of_parameter / sizeof history_of_parameter[0] == HISTORY_PARAMETER_COLUMNS, "columns");
_Static_assert(sizeof history_of_prototype / sizeof history_of_prototype[0] == HISTORY_PROTOTYPE_COLUMNS, "columns");
_Static_assert((int)HISTORY_PROTOTYPE_COLUMNS <= (int)HISTORY_COLUMNS_MAX, "a row holds every column");

void dashboard_history_init(struct dashboard_history *h, const char *const *columns, size_t column_count)
{
    ASSERT(column_count <= HISTORY_COLUMNS_MAX);
    *h = (struct dashboard_history){.columns = columns, .column_count = column_count};
}

void dashboard_history_blank(struct history_row *row)
{
    row->step = NAN;
    for (size_t i = 0; i < HISTORY_COLUMNS_MAX; i++)
        row->value[i] = NAN;
}

static void merge(struct history_row *into, const struct history_row *newer)
{
    into->step = newer->step;
    for (size_t i = 0; i < HISTORY_COLUMNS_MAX; i++)
        if (!isnan(newer->value[i]))
            into->value[i] = newer->value[i];
}

/* What came after that step was undone. */
static void go_back(struct dashboard_history *h, double step)
{
    if (h->count == 0 || h->rows[h->count - 1].step <= step)
        return;
    h->rewinds++;
    while (h->count > 0 && h->rows[h->count - 1].step >= step)
        h->count--;
}

static void thin(struct dashboard_history *h)
{
    for (size_t i = 0; 2 * i < h->count; i++)
        h->rows[i] = h->rows[2 * i];
    h->count = (h->count + 1) / 2;
    h->spacing = 2 * (h->rows[h->count - 1].step - h->rows[0].step) / (double)HISTORY_ROWS;
}

void dashboard_history_add(struct dashboard_history *h, const struct history_row *row)
{
    if (!isfinite(row->step))
        return;
    go_back(h, row->step);
    struct history_row *last = h->count > 0 ? &h->rows[h->count - 1] : NULL;
    if (last && (last->step == row->step || (h->count > 1 && row->step - last[-1].step < h->spacing))) {
        merge(last, row);
        return;
    }
    if (h->count == HISTORY_ROWS)
        thin(h);
    h->rows[h->count++] = *row;
}

void dashboard_history_rewinds(struct dashboard_history *h, double now)
{
    if (now > h->told_last)
        h->told += now - h->told_last;
    h->told_last = now >= 0 ? now : 0;
}

void dashboard_history_line(struct dashboard_history *h, const char *line, size_t length)
{
    struct history_row row;
    json_t *object = json_loadb(line, length, 0, NULL);
    json_t *step = json_object_get(object, "step"); /* NULL for what is no object */
    dashboard_history_blank(&row);
    if (json_is_number(step)) {
        row.step = json_number_value(step);
        for (size_t i = 0; i < h->column_count; i++) {
            json_t *value = json_object_get(object, h->columns[i]);
            if (json_is_number(value))
                row.value[i] = json_number_value(value);
        }
        dashboard_history_rewinds(h, json_number_value(json_object_get(object, "rewinds"))); /* 0 for what is none */
        dashboard_history_add(h, &row);
    }
    json_decref(object);
}

size_t dashboard_history_column(const struct dashboard_history *h, const char *name)
{
    size_t i = 0;
    while (i < h->column_count && strcmp(h->columns[i], name) != 0)
        i++;
    ASSERT(i < h->column_count);
    return i;
}

double dashboard_history_last(const struct dashboard_history *h, const char *name)
{
    size_t column = dashboard_history_column(h, name);
    for (size_t i = h->count; i > 0; i--)
        if (!isnan(h->rows[i - 1].value[column]))
            return h->rows[i - 1].value[column];
    return NAN;
}

double dashboard_history_max(const struct dashboard_history *h, const char *name)
{
    size_t column = dashboard_history_column(h, name);
    double max = NAN;
    for (size_t i = 0; i < h->count; i++)
        if (!(h->rows[i].value[column] <= max))
            max = isnan(h->rows[i].value[column]) ? max : h->rows[i].value[column];
    return max;
}

double dashboard_history_min(const struct dashboard_history *h, const char *name)
{
    size_t column = dashboard_history_column(h, name);
    double min = NAN;
    for (size_t i = 0; i < h->count; i++)
        min = fmin(min, h->rows[i].value[column]); /* of a number and a NaN the number */
    return min;
}
