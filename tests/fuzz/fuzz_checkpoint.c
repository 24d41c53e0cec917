/* The files of a checkpoint, of a run and of a stream, from foreign bytes: a damaged one is refused with a text, and
 * what is taken is what the servers may go on from. An input is a byte that names the file's kind (0 mixture, 1
 * encoder, 2 mixture of a stream), then the file; its checksum is put right. */
#include <math.h>
#include <stdlib.h>
#include "common/vecmath.h"
#include "server/parameter/weights_file.h"
#include "server/prototype/mixture_file.h"
#include "tests/fuzz/checksum.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

enum { K = 4, D = 2, PARAMETERS = 6, BUFFERS = 3 };

static const struct run_config *config(void)
{
    static struct run_config c;
    if (c.mixture.components != K) {
        config_defaults(run_config_keys, run_config_key_count, &c);
        c.mixture.components = K;
        c.mixture.dimensions = D;
    }
    return &c;
}

static const struct run_config *stream_config(void)
{
    static struct run_config c;
    c = *config();
    c.run.mode = MODE_STREAM;
    return &c;
}

static struct mixture *new_mixture(void)
{
    struct mixture_options o = mixture_options_of(config());
    struct mixture *m;
    ASSERT(mixture_new(&o, &m) == 0);
    return m;
}

static void check_mixture(const char *path, const struct run_config *c)
{
    struct mixture *m = new_mixture();
    struct mixture_file_info expected = {.config = c};
    bool stream = c->run.mode == MODE_STREAM;
    struct mixture_facts facts = {0};
    struct error e = {0};
    if (mixture_file_read(path, &expected, m, &facts, &e) == 0) {
        ASSERT((stream ? m->view->version <= UINT32_MAX : m->view->version <= facts.total_steps) &&
               facts.total_steps <= UINT32_MAX);
        ASSERT(stream == (facts.ledger != NULL) && (!stream || facts.ledger->count <= LEDGER_CLIENTS_MAX));
        ASSERT(vec_all_finite(m->view->mean, K * D) && vec_all_finite(m->view->weight, K));
        for (size_t i = 0; i < K * D; i++)
            ASSERT(m->view->variance[i] > 0 && isfinite(m->view->variance[i]));
    } else {
        ASSERT(e.code != 0 && e.text[0] != '\0' && facts.ledger == NULL);
    }
    ledger_free(&facts.ledger);
    mixture_free(&m);
}

static void check_encoder(const char *path)
{
    struct encoder_state s;
    struct error e = {0};
    if (weights_file_read(path, config(), &s, &e) != 0) {
        ASSERT(e.code != 0 && e.text[0] != '\0' && s.vectors.student == NULL && s.manifest.parameters == NULL);
        return;
    }
    ASSERT(s.manifest.parameter_floats > 0 && weights_file_names_fit(&s.manifest));
    ASSERT(s.vectors.student->size == s.manifest.parameter_floats * sizeof(float));
    ASSERT(vec_all_finite((const float *)(const void *)s.vectors.teacher->data, s.manifest.parameter_floats));
    encoder_state_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *file = malloc(size);
    memcpy(file, data + 1, size - 1);
    checksum_repair(file, size - 1);
    const char *path = scratch_file(file, size - 1);
    if (data[0] % 2 == 0)
        check_mixture(path, data[0] & 2 ? stream_config() : config());
    else
        check_encoder(path);
    free(file);
    return 0;
}

static struct buf *floats(size_t n)
{
    struct buf *b = buf_new(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        ((float *)(void *)b->data)[i] = 0.25f * (float)i;
    return b;
}

static void write_encoder(const char *path)
{
    struct encoder_state s = {.step = 3, .total_steps = 9, .provenance = {.data = 5, .numerics = 6}};
    struct manifest_entry w = {.name = "w", .rank = 2, .shape = {2, 3}, .decay = true, .clip = true, .lr_scale = 1};
    struct manifest_entry m = {.name = "m", .rank = 1, .shape = {BUFFERS}, .momentum = 0.1};
    manifest_init(&s.manifest);
    ASSERT(manifest_add_parameter(&s.manifest, &w) == 0 && manifest_add_buffer(&s.manifest, &m) == 0);
    s.vectors.student = floats(PARAMETERS);
    s.vectors.teacher = floats(PARAMETERS);
    s.vectors.buffers = floats(BUFFERS);
    for (unsigned i = 0; i < optimiser_moments(config()->optimiser.name); i++)
        s.vectors.moments[i] = floats(PARAMETERS);
    ASSERT(weights_file_write(path, config(), &s, NULL) == 0);
    encoder_state_fini(&s);
}

static void write_mixture(const char *path)
{
    struct mixture *m = new_mixture();
    struct mixture_file_info info = {.config = config(), .facts = {.total_steps = 9, .provenance = {.data = 5}}};
    mixture_start(m, 1);
    ASSERT(mixture_file_write(path, m, &info, NULL) == 0);
    mixture_free(&m);
}

static void write_stream(const char *path)
{
    struct mixture *m = new_mixture();
    struct mixture_file_info info = {.config = stream_config()};
    struct peer nobody = {0};
    ASSERT(ledger_new(&info.facts.ledger) == 0);
    for (uint64_t name = 1; name < 4; name++)
        ledger_apply(info.facts.ledger, (struct ledger_id){ledger_name(info.facts.ledger, name), 0}, &nobody, 1);
    mixture_start(m, 1);
    ASSERT(mixture_file_write(path, m, &info, NULL) == 0);
    ledger_free(&info.facts.ledger);
    mixture_free(&m);
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    void (*const writers[])(const char *) = {write_mixture, write_encoder, write_stream};
    if (i >= sizeof writers / sizeof writers[0])
        return 0;
    out[0] = (uint8_t)i;
    writers[i](scratch_path("seed"));
    return 1 + scratch_get("seed", out + 1, room - 1);
}
