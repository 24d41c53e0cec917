/* A scratch directory for tests of image sets, and writers of the files in it. */
#ifndef DECANT_TESTS_UNIT_WORKER_DATA_PLACE_H
#define DECANT_TESTS_UNIT_WORKER_DATA_PLACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ftw.h>
#include <sys/stat.h>
#include <cmocka.h>
#include <png.h>
#include <jpeglib.h>
#include "worker/data/dataset.h"

struct place {
    char dir[64];
};

static inline int place_setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    strcpy(p->dir, "/tmp/decant-dataset-XXXXXX");
    *state = p;
    return mkdtemp(p->dir) ? 0 : -1;
}

static inline int place_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int place_teardown(void **state)
{
    struct place *p = *state;
    nftw(p->dir, place_remove, 16, FTW_DEPTH | FTW_PHYS);
    free(p);
    return 0;
}

#define PLACE_CASE(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown)

/* DIR/name, its directories made. In a static buffer: use before the next call. */
static inline const char *place_path(const struct place *p, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    for (char *slash = strchr(path + strlen(p->dir) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    return path;
}

static inline void place_put(const struct place *p, const char *name, const void *bytes, size_t size)
{
    FILE *f = fopen(place_path(p, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

/* A PNG of H x W x C bytes, 8 bits each. */
static inline void place_png(const struct place *p, const char *name, const uint8_t *pixels, uint32_t H, uint32_t W,
                             uint32_t C)
{
    static const uint32_t formats[] = {0, PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};
    png_image image = {.version = PNG_IMAGE_VERSION, .width = W, .height = H, .format = formats[C]};
    assert_true(png_image_write_to_file(&image, place_path(p, name), 0, pixels, 0, NULL));
}

/* A PNG of one colour. */
static inline void place_flat_png(const struct place *p, const char *name, uint32_t H, uint32_t W, uint8_t r, uint8_t g,
                                  uint8_t b)
{
    uint8_t *pixels = malloc((size_t)H * W * 3);
    for (size_t i = 0; i < (size_t)H * W; i++) {
        pixels[3 * i] = r;
        pixels[3 * i + 1] = g;
        pixels[3 * i + 2] = b;
    }
    place_png(p, name, pixels, H, W, 3);
    free(pixels);
}

enum jpeg_script { JPEG_BASELINE, JPEG_PROGRESSIVE, JPEG_SEPARATE /* a scan for each of three channels */ };

/* A JPEG of H x W x C bytes (C 1 or 3, 4 for CMYK) in memory; free it with free(). */
static inline uint8_t *jpeg_bytes(const uint8_t *pixels, uint32_t H, uint32_t W, uint32_t C, enum jpeg_script script,
                                  unsigned long *size)
{
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    uint8_t *out = NULL;
    *size = 0;
    j.err = jpeg_std_error(&errors);
    jpeg_create_compress(&j);
    jpeg_mem_dest(&j, &out, size);
    j.image_height = H;
    j.image_width = W;
    j.input_components = (int)C;
    j.in_color_space = C == 1 ? JCS_GRAYSCALE : C == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&j);
    jpeg_set_quality(&j, 95, TRUE);
    static const jpeg_scan_info separate[3] = {{1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    if (script == JPEG_PROGRESSIVE)
        jpeg_simple_progression(&j);
    if (script == JPEG_SEPARATE) {
        j.scan_info = separate;
        j.num_scans = 3;
    }
    jpeg_start_compress(&j, TRUE);
    while (j.next_scanline < H) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)j.next_scanline * W * C);
        jpeg_write_scanlines(&j, &row, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    return out;
}

static inline int place_load(const struct dataset_options *o, enum dataset_split split, struct dataset *d)
{
    struct error e = {0};
    int rc = dataset_load(o, split, d, &e);
    if (rc != 0)
        print_message("%s\n", e.text);
    return rc;
}

/* The load fails with this code, leaves nothing behind, and says `word`. */
static inline void expect_failure_of(const struct dataset_options *o, enum dataset_split split, int code,
                                     const char *word)
{
    struct dataset d;
    struct error e = {0};
    assert_int_equal(dataset_load(o, split, &d, &e), code);
    assert_null(d.images);
    assert_null(d.labels);
    assert_null(d.class_names);
    if (strstr(e.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", e.text, word);
}

/* One of the problems says `word`. */
static inline void expect_problem(const struct dataset *d, const char *word)
{
    for (uint32_t i = 0; i < d->problem_count && i < DATASET_PROBLEMS_MAX; i++)
        if (strstr(d->problems[i], word))
            return;
    for (uint32_t i = 0; i < d->problem_count && i < DATASET_PROBLEMS_MAX; i++)
        print_message("%s\n", d->problems[i]);
    fail_msg("no problem says '%s'", word);
}

#endif
