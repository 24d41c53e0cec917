/* The checkpoint of a mixture: one safetensors file with the whole state, so that resuming gives the same bytes as
 * never having stopped, and that Python reads without us.
 *
 *   mass F64 (K)  s1 F64 (K,D)  s2 F64 (K,D), vmf: none, full: (K,D*D), tied: (D,D)  usage F64 (K)
 *   last_assigned U32 (K)  updated_step U32 (K)
 *   mean F32 (K,D)  variance F32 (K,D), or (K) when spherical or vmf; full, tied: whitening F32 (K,D*D), (D,D)
 *   weight F32 (K)                                    what was published, for readers
 *   price F64 (K)                                     when mixture.balance > 0
 *   init_rows F32 (n,D)  init_distance F32 (n)  init_seeds U32 (c)
 *                                                     until mixture.init = kmeans++ is done: seeding_file.h
 *   ledger U64 (1+C,3)                                of a stream only: server/prototype/ledger_file.h
 *   config_ini U8 (n)                                 the configuration (run_config_record), to say what differs
 *   __metadata__: format = decant-mixture-1, kind = mixture, run, step, config (16 hex digits), total_steps (0 when not
 *   known yet), covariance, beta, reseeded, splits (when mixture.merge_distance > 0), and what proto/provenance.h lists
 *
 * mean, variance and weight follow from the first four tensors and are recomputed on reading. A file is valid when
 * its checksum, shapes and values hold; it is written atomically, so a crash leaves the old file or none. */
#ifndef DECANT_SERVER_PROTOTYPE_MIXTURE_FILE_H
#define DECANT_SERVER_PROTOTYPE_MIXTURE_FILE_H

#include "common/error.h"
#include "proto/provenance.h"
#include "server/prototype/ledger.h"
#include "server/prototype/mixture.h"

/* What a file says beside the mixture itself. */
struct mixture_facts {
    uint64_t total_steps; /* 0: not known yet */
    struct provenance provenance;
    struct ledger *ledger; /* of a stream: who sent what is in the mixture; else NULL */
};

struct mixture_file_info {
    const struct run_config *config; /* of the run */
    struct mixture_facts facts;      /* of writing */
};

int mixture_file_write(const char *path, const struct mixture *m, const struct mixture_file_info *info,
                       struct error *e);
/* Whether the state is one that the update can go on from, and its view one that workers take: ERR_FORMAT names the
 * component. */
int mixture_file_check(const struct mixture *m, struct error *e);
/* m: a new mixture of the expected options; on success it holds the file's version. ERR_FORMAT on any damage,
 * ERR_CONFIG when the file is of another run or configuration than *expected; *facts is what the file says, its ledger
 * the caller's to free. */
int mixture_file_read(const char *path, const struct mixture_file_info *expected, struct mixture *m,
                      struct mixture_facts *facts, struct error *e);

#endif
