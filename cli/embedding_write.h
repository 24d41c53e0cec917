/* An embedding as a file, names of images kept.
 *
 *   npz   names <U (n), labels <u4 (n) where there are any, prototypes <u4 (n), cosines <f4 (n), features <f4 (n,F),
 *         projections <f4 (n,D)
 *   npy   one structured array of n records: name, label, prototype, cosine, features (F), projection (D)
 *   csv   a line of headings: name,label,prototype,cosine,f0..,z0..; nine significant digits, which give back the float
 *
 * Names are UTF-8; a byte that is not becomes U+DC00 plus itself in npz and npy, as Python's os.fsdecode has it, and
 * stays itself in csv. */
#ifndef DECANT_CLI_EMBEDDING_WRITE_H
#define DECANT_CLI_EMBEDDING_WRITE_H

#include "cli/embedding.h"

enum embedding_format { EMBEDDING_UNKNOWN, EMBEDDING_NPZ, EMBEDDING_NPY, EMBEDDING_CSV };

/* EMBEDDING_UNKNOWN for another name. */
enum embedding_format embedding_format_named(const char *name);
/* names (rows). The same embedding gives the same bytes. ERR_* with a text. */
int embedding_write(const struct embedding *x, char *const *names, enum embedding_format format, const char *path,
                    struct error *e);

#endif
