/* A line of metrics becomes one event for each of its numbers. */
#include "cli/tensorboard_write.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/dashboard_lines.h"
#include "common/files.h"
#include "cli/step_list.h"

enum { EVENT_MAX = 3 * TENSORBOARD_TAG_MAX };

/* ---- bytes ---- */

/* Castagnoli, reflected, bit by bit: files are small. */
uint32_t crc32c(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
    }
    return ~crc;
}

static void write_masked(FILE *f, const void *data, size_t size)
{
    uint32_t crc = crc32c(data, size), masked = (crc >> 15 | crc << 17) + 0xa282ead8U;
    fwrite(&masked, sizeof masked, 1, f); /* little-endian, like everything this is built for */
}

static void write_record(FILE *f, const void *data, size_t size)
{
    uint64_t length = size;
    fwrite(&length, sizeof length, 1, f);
    write_masked(f, &length, sizeof length);
    fwrite(data, 1, size, f);
    write_masked(f, data, size);
}

struct message {
    unsigned char bytes[EVENT_MAX];
    size_t size;
};

static void put(struct message *m, const void *data, size_t size)
{
    ASSERT(size <= sizeof m->bytes - m->size);
    memcpy(m->bytes + m->size, data, size);
    m->size += size;
}

static void put_varint(struct message *m, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        put(m, &(unsigned char){(unsigned char)(value | 0x80)}, 1);
    put(m, &(unsigned char){(unsigned char)value}, 1);
}

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_key(struct message *m, unsigned field, enum wire wire)
{
    put_varint(m, field << 3 | wire);
}

static void put_bytes(struct message *m, unsigned field, const void *data, size_t size)
{
    put_key(m, field, WIRE_BYTES);
    put_varint(m, size);
    put(m, data, size);
}

void tensorboard_begin(FILE *f, double wall_time)
{
    static const char version[] = "brain.Event:2";
    struct message event = {.size = 0};
    put_key(&event, 1, WIRE_64);
    put(&event, &wall_time, sizeof wall_time);
    put_bytes(&event, 3, version, sizeof version - 1);
    write_record(f, event.bytes, event.size);
}

void tensorboard_scalar(FILE *f, double wall_time, int64_t step, const char *tag, float value)
{
    struct message event = {.size = 0}, summary = {.size = 0}, scalar = {.size = 0};
    put_bytes(&scalar, 1, tag, strnlen(tag, TENSORBOARD_TAG_MAX));
    put_key(&scalar, 2, WIRE_32);
    put(&scalar, &value, sizeof value);
    put_bytes(&summary, 1, scalar.bytes, scalar.size);
    put_key(&event, 1, WIRE_64);
    put(&event, &wall_time, sizeof wall_time);
    put_key(&event, 2, WIRE_VARINT);
    put_varint(&event, (uint64_t)step);
    put_bytes(&event, 5, summary.bytes, summary.size);
    write_record(f, event.bytes, event.size);
}

/* ---- a run ---- */

struct conversion {
    FILE *f;
    double file_time; /* seconds since 1970 */
    size_t scalars;
};

static void take_line(void *arg, const char *line, size_t length)
{
    struct conversion *c = arg;
    const char *name;
    json_t *value, *object = json_loadb(line, length, 0, NULL), *step = json_object_get(object, "step");
    json_t *time = json_object_get(object, "time");
    double wall_time = json_is_number(time) ? json_number_value(time) : c->file_time;
    json_object_foreach(object, name, value)
    {
        if (!json_is_integer(step) || !json_is_number(value) || strcmp(name, "step") == 0 || strcmp(name, "time") == 0)
            continue;
        tensorboard_scalar(c->f, wall_time, json_integer_value(step), name, (float)json_number_value(value));
        c->scalars++;
    }
    json_decref(object);
}

/* Written beside, and put in its place when it is whole. */
static int convert(const char *path, const struct stat *st, const char *directory, size_t *scalars, struct error *e)
{
    char final[CHECKPOINT_PATH_MAX], part[CHECKPOINT_PATH_MAX];
    struct dashboard_lines lines = {0};
    struct conversion c = {.file_time = (double)st->st_mtim.tv_sec};
    if (path_format(final, sizeof final, "%s/events.out.tfevents.0.decant", directory) != 0 ||
        path_format(part, sizeof part, "%s/inprogress", directory) != 0)
        return error_set(e, ERR_CONFIG, "%.80s: the name is too long", directory);
    int rc = dir_make(directory, e);
    if (rc != 0)
        return rc;
    if ((c.f = fopen(part, "we")) == NULL)
        return error_set(e, ERR_IO, "%s: %s", part, strerror(errno));
    tensorboard_begin(c.f, c.file_time);
    while (dashboard_lines_read(&lines, path, 0, take_line, &c) > 0)
        ;
    bool whole = ferror(c.f) == 0;
    if (fclose(c.f) != 0 || !whole || rename(part, final) != 0) {
        rc = error_set(e, ERR_IO, "%s: %s", final, strerror(errno));
        unlink(part);
    }
    *scalars += c.scalars;
    return rc;
}

int tensorboard_export(const char *run_directory, const char *out, size_t *scalars, struct error *e)
{
    static const char *const writers[] = {"parameter", "prototype", "eval"};
    char path[CHECKPOINT_PATH_MAX], directory[CHECKPOINT_PATH_MAX];
    struct stat st;
    int found = 0, rc = 0;
    *scalars = 0;
    for (int i = 0; rc == 0 && i < 3; i++) {
        if (path_format(path, sizeof path, "%s/metrics-%s.jsonl", run_directory, writers[i]) != 0 ||
            path_format(directory, sizeof directory, "%s/%s", out, writers[i]) != 0)
            return error_set(e, ERR_CONFIG, "--checkpoint or --out is too long: %.80s", run_directory);
        if (stat(path, &st) != 0)
            continue;
        found++;
        rc = convert(path, &st, directory, scalars, e);
    }
    if (rc == 0 && found == 0)
        rc = error_set(e, ERR_NOT_FOUND, "%s: no metrics-*.jsonl here; --checkpoint is the run's directory",
                       run_directory);
    return rc;
}
