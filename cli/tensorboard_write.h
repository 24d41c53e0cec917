/* Event files of TensorBoard: scalars over steps. The file is a sequence of TFRecords,
 *
 *   u64 length, u32 masked crc32c of these 8 bytes, data, u32 masked crc32c of the data      (little-endian)
 *   masked: rotated right by 15 bits, plus 0xa282ead8
 *
 * each of which is one protobuf message Event:
 *
 *   1 double wall_time   2 int64 step   3 string file_version ("brain.Event:2", the first record only)
 *   5 Summary { 1 Value { 1 string tag   2 float simple_value } } */
#ifndef DECANT_CLI_TENSORBOARD_WRITE_H
#define DECANT_CLI_TENSORBOARD_WRITE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "common/error.h"

enum { TENSORBOARD_TAG_MAX = 96 };

uint32_t crc32c(const void *data, size_t size);

/* Trouble shows in ferror(f). A longer tag is cut. */
void tensorboard_begin(FILE *f, double wall_time);
void tensorboard_scalar(FILE *f, double wall_time, int64_t step, const char *tag, float value);

/* All numbers of a run's metrics-*.jsonl into DIR/parameter and DIR/prototype, a file each with "tfevents" in its name,
 * as TensorBoard wants it. A line without a `time` gets that of the file. *scalars: how many were written.
 * ERR_NOT_FOUND when the run has neither file, ERR_IO. */
int tensorboard_export(const char *run_directory, const char *out, size_t *scalars, struct error *e);

#endif
