#include "tests/sim/disk.h"

#include "common/error.h"

void disk_init(struct disk *d, bool joint, uint32_t keep)
{
    *d = (struct disk){.joint = joint, .keep = keep};
}

static void drop_file(struct disk_file *f)
{
    encoder_state_fini(&f->encoder);
    mixture_free(&f->mixture);
    *f = (struct disk_file){0};
}

void disk_fini(struct disk *d)
{
    for (enum server server = 0; server < SERVERS; server++) {
        disk_crash(d, server);
        for (uint64_t step = 0; step < DISK_STEPS; step++)
            drop_file(&d->files[step][server]);
    }
}

uint64_t disk_raise_generation(struct disk *d, enum server server)
{
    return ++d->generation[server];
}

/* ---- writing ---- */

bool disk_submit(struct disk *d, enum server server, struct disk_file *f)
{
    struct disk_writer *w = &d->writers[server];
    f->present = true;
    if (!w->busy) {
        w->current = *f;
        w->busy = true;
        return true;
    }
    drop_file(&w->next);
    w->next = *f;
    w->waiting = true;
    return false;
}

void disk_crash(struct disk *d, enum server server)
{
    struct disk_writer *w = &d->writers[server];
    drop_file(&w->current);
    drop_file(&w->next);
    w->busy = w->waiting = false;
}

/* By what is there, sound or not: nobody reads files to find out. */
bool disk_present(const struct disk *d, uint64_t step)
{
    const struct disk_file *f = d->files[step];
    return f[SERVER_PARAMETER].present && (d->joint || f[SERVER_PROTOTYPE].present);
}

/* Deletes what is older than the newest `keep` complete steps. */
static void prune(struct disk *d)
{
    uint32_t complete = 0;
    for (uint64_t step = DISK_STEPS; step-- > 0;) {
        if (complete >= d->keep)
            for (enum server server = 0; server < SERVERS; server++)
                drop_file(&d->files[step][server]);
        complete += disk_present(d, step);
    }
}

bool disk_written(struct disk *d, enum server server, uint64_t *step)
{
    struct disk_writer *w = &d->writers[server];
    ASSERT(w->busy && w->current.step < DISK_STEPS);
    *step = w->current.step;
    struct disk_file *f = &d->files[*step][server];
    drop_file(f);
    *f = w->current;
    w->current = w->next;
    w->next = (struct disk_file){0};
    w->busy = w->waiting;
    w->waiting = false;
    prune(d);
    return w->busy;
}

/* ---- reading ---- */

bool disk_complete(const struct disk *d, uint64_t step)
{
    const struct disk_file *f = d->files[step];
    return disk_present(d, step) && !f[SERVER_PARAMETER].damaged && (d->joint || !f[SERVER_PROTOTYPE].damaged);
}

bool disk_newest(const struct disk *d, enum server server, uint64_t step_max, uint64_t *step)
{
    (void)server; /* each must come to the same answer */
    uint64_t s = step_max < DISK_STEPS ? step_max + 1 : DISK_STEPS;
    while (s-- > 0)
        if (disk_complete(d, s)) {
            *step = s;
            return true;
        }
    return false;
}

static struct buf *copy_of(const struct buf *b)
{
    return b ? buf_copy(b->data, b->size) : NULL;
}

struct encoder_state disk_load_encoder(const struct disk *d, uint64_t step)
{
    const struct encoder_state *from = &d->files[step][SERVER_PARAMETER].encoder;
    struct encoder_state out = {.step = from->step, .total_steps = from->total_steps, .provenance = from->provenance};
    int rc = manifest_copy(&out.manifest, &from->manifest);
    ASSERT(rc == 0);
    out.vectors.student = copy_of(from->vectors.student);
    out.vectors.teacher = copy_of(from->vectors.teacher);
    out.vectors.buffers = copy_of(from->vectors.buffers);
    for (int i = 0; i < MOMENTS_MAX; i++)
        out.vectors.moments[i] = copy_of(from->vectors.moments[i]);
    return out;
}

struct mixture *disk_load_mixture(const struct disk *d, uint64_t step)
{
    const struct mixture *from = d->files[step][SERVER_PROTOTYPE].mixture;
    struct mixture *out = NULL;
    int rc = mixture_clone(from, &out);
    ASSERT(rc == 0);
    mixture_restore(out, from->view->version); /* as a file's reader does */
    return out;
}

bool disk_damage(struct disk *d, uint64_t step_end, uint32_t n)
{
    struct disk_file *found[DISK_STEPS * SERVERS];
    uint32_t count = 0, steps = 0;
    for (uint64_t step = 0; step < step_end && step < DISK_STEPS; step++) {
        if (!disk_complete(d, step))
            continue;
        steps++;
        for (enum server server = 0; server < SERVERS; server++)
            if (d->files[step][server].present)
                found[count++] = &d->files[step][server];
    }
    if (steps < 2)
        return false;
    found[n % count]->damaged = true;
    return true;
}
