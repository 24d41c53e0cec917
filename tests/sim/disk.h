/* The run's directory, shared by both servers: checkpoints by step, start counters. It survives crashes. Writing takes
 * time, and a file appears when its write ends or not at all; one write is under way in a server and one more may wait,
 * as in the servers' checkpoint_writer. */
#ifndef DECANT_TESTS_SIM_DISK_H
#define DECANT_TESTS_SIM_DISK_H

#include "proto/server.h"
#include "server/parameter/weights_file.h"
#include "server/prototype/mixture.h"

enum { DISK_STEPS = 256 /* more than any scenario's T */ };

struct disk_file {
    bool present, damaged; /* damaged: its checksum would not fit */
    uint64_t step, total_steps;
    struct encoder_state encoder; /* of the parameter server */
    struct mixture *mixture;      /* of the prototype server, and what it says beside */
    struct provenance provenance;
};

struct disk_writer {
    bool busy, waiting;
    struct disk_file current, next;
};

struct disk {
    bool joint;
    uint32_t keep;
    uint64_t generation[SERVERS];
    struct disk_file files[DISK_STEPS][SERVERS];
    struct disk_writer writers[SERVERS];
};

void disk_init(struct disk *d, bool joint, uint32_t keep);
void disk_fini(struct disk *d);

uint64_t disk_raise_generation(struct disk *d, enum server server);

/* Takes the snapshot over. True when its write begins now; else it waits (and replaces what waited). */
bool disk_submit(struct disk *d, enum server server, struct disk_file *f);
/* The write under way has ended: the file is there, old steps are pruned. True when another begins. *step: which. */
bool disk_written(struct disk *d, enum server server, uint64_t *step);
void disk_crash(struct disk *d, enum server server); /* what was being written is lost */

/* The newest step <= step_max whose files are all sound. False when there is none. */
bool disk_newest(const struct disk *d, enum server server, uint64_t step_max, uint64_t *step);
bool disk_present(const struct disk *d, uint64_t step);  /* all its files are there, sound or not */
bool disk_complete(const struct disk *d, uint64_t step); /* all its files are there and sound */
/* The server's own file of a complete step, as a private copy. */
struct encoder_state disk_load_encoder(const struct disk *d, uint64_t step);
struct mixture *disk_load_mixture(const struct disk *d, uint64_t step);
/* Damages the n-th (modulo how many there are) of the files of sound steps below step_end. False when that would leave
 * no sound one: a server then refuses to start, and a person decides. */
bool disk_damage(struct disk *d, uint64_t step_end, uint32_t n);

#endif
