/* Metrics files from foreign bytes, as `top` and the dashboard read them: figures are bounded
 * texts, a history stays in its memory and in order. */
#include <math.h>
#include "cli/dashboard_history.h"
#include "cli/metrics_tail.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

static void check_tail(const uint8_t *data, size_t size)
{
    struct run_figures f;
    double age_s;
    int rc = metrics_tail_read(scratch_file(data, size), &f, &age_s, NULL);
    ASSERT(rc == 0 || (rc == ERR_FORMAT && f.count == 0));
    ASSERT(f.count <= FIGURES_MAX && isfinite(age_s));
    for (size_t i = 0; i < f.count; i++) {
        ASSERT(memchr(f.items[i].name, '\0', sizeof f.items[i].name) != NULL);
        ASSERT(memchr(f.items[i].value, '\0', sizeof f.items[i].value) != NULL);
        ASSERT(isfinite(run_figures_number(&f, f.items[i].name)));
    }
}

static void check_history(const uint8_t *data, size_t size)
{
    static struct dashboard_history h;
    const char *end = (const char *)data + size;
    dashboard_history_init(&h, history_of_parameter, HISTORY_PARAMETER_COLUMNS);
    for (const char *line = (const char *)data, *stop; line < end; line = stop + 1) {
        stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        dashboard_history_line(&h, line, (size_t)(stop - line));
    }
    ASSERT(h.count <= HISTORY_ROWS);
    for (size_t i = 0; i < h.count; i++)
        ASSERT(isfinite(h.rows[i].step) && (i == 0 || h.rows[i - 1].step < h.rows[i].step));
    (void)dashboard_history_last(&h, "loss");
    (void)dashboard_history_max(&h, "loss");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_tail(data, size);
    check_history(data, size);
    return 0;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static const char *const seeds[] = {
        "{\"time\":1764000000.25,\"step\":1,\"loss\":5.5,\"lr\":1e-3,\"workers\":2,\"images_per_s\":812.5}\n"
        "{\"step\":2,\"loss\":5.25,\"grad_norm\":0.5}\n{\"step\":2,\"consistency\":1}\n{\"step\":1,\"loss\":6}\n",
        "{\"step\":3,\"active\":97.5,\"name\":\"text\",\"list\":[1,2]}\n{\"step\":4",
    };
    return fuzz_text(seeds, sizeof seeds / sizeof seeds[0], i, out, room);
}
