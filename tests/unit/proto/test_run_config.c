/* The configuration of a run: the table, the cross-checks, and the hash by which processes agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <glob.h>
#include "proto/run_config.h"
#include "tests/unit/common/scratch.h"

static int load(struct run_config *c, const char *assignment, struct error *e)
{
    return run_config_load(c, NULL, NULL, &assignment, assignment ? 1 : 0, e);
}

static struct run_config loaded(const char *assignment)
{
    struct run_config c;
    struct error e = {0};
    if (load(&c, assignment, &e) != 0)
        fail_msg("%s", e.text);
    return c;
}

static void test_defaults_are_the_recipe(void **state)
{
    (void)state;
    struct run_config c = loaded(NULL);
    assert_string_equal(c.run.name, "default");
    assert_int_equal(c.run.slots * c.run.slot_size, 256);
    assert_int_equal(c.mixture.components, 1024);
    assert_int_equal(c.mixture.dimensions, 128);
    assert_int_equal(c.loss.objective, LOSS_CARP);
    assert_int_equal(c.loss.prototypes, PROTOTYPES_DECOUPLED);
    assert_int_equal(c.encoder.model, ENCODER_CONV);
    assert_true(c.optimiser.lr == 2e-3);
    assert_true(c.teacher.ema_end == 0.996);
    assert_false(c.redis.enabled);
}

/* Default < preset < file < environment < --set; what it stands for is written, and computes the same with or without
 * its name. */
static void test_a_preset_goes_under_what_is_given(void **state)
{
    (void)state;
    struct run_config c = loaded("augment.preset=photos"), d;
    struct error e = {0};
    assert_true(c.augment.area_min == 0.2 && c.augment.solarise == 0.1 && c.augment.flip == 0.5);
    assert_true(loaded("augment.preset=glyphs").augment.flip == 0);
    assert_true(loaded("augment.preset=drawings").augment.greyscale == 0.2);
    const char *both[] = {"augment.area_min=0.5", "augment.preset=photos", "run.seed=3"};
    assert_int_equal(run_config_load(&d, NULL, NULL, both, 3, &e), 0);
    assert_true(d.augment.area_min == 0.5 && d.augment.solarise == 0.1 && d.run.seed == 3);
    char *environment[] = {"DECANT_AUGMENT_PRESET=photos", "DECANT_AUGMENT_SOLARISE=0.3", NULL};
    assert_int_equal(run_config_load(&d, NULL, environment, NULL, 0, &e), 0);
    assert_true(d.augment.area_min == 0.2 && d.augment.solarise == 0.3);
    d = c;
    d.augment.preset = AUGMENT_CUSTOM;
    assert_true(run_config_hash(&c) == run_config_hash(&d));
    assert_true(run_config_hash(&c) != run_config_hash(&(struct run_config){0}));
    size_t size;
    char *record = run_config_record(&c, &size);
    assert_int_equal(run_config_from_record(&d, record, size, "record", &e), 0);
    assert_true(run_config_hash(&c) == run_config_hash(&d) && d.augment.preset == AUGMENT_CUSTOM);
    free(record);
}

static void test_presets_name_keys(void **state)
{
    (void)state;
    for (int preset = AUGMENT_CUSTOM + 1; preset <= AUGMENT_GLYPHS; preset++) {
        struct run_config c = loaded(NULL);
        struct error e = {0};
        assert_non_null(run_config_preset(preset)[0]);
        for (const char *const *p = run_config_preset(preset); *p; p++)
            assert_int_equal(config_assign(run_config_keys, run_config_key_count, &c, *p, "preset", &e), 0);
        assert_int_equal(run_config_check(&c, &e), 0);
    }
}

static void test_shipped_configurations_load(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob("deploy/configs/*.ini", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 7);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct run_config c;
        struct error e = {0};
        if (run_config_load(&c, found.gl_pathv[i], NULL, NULL, 0, &e) != 0)
            fail_msg("%s", e.text);
    }
    globfree(&found);
}

static void test_keys_are_distinct_and_do_not_overlap(void **state)
{
    (void)state;
    for (size_t i = 0; i < run_config_key_count; i++)
        for (size_t j = 0; j < i; j++) {
            const struct config_key *a = &run_config_keys[i], *b = &run_config_keys[j];
            assert_string_not_equal(a->name, b->name);
            assert_true(a->offset >= b->offset + b->size || b->offset >= a->offset + a->size);
        }
}

/* A key whose type is not its field's would write beside it. */
static void test_field_sizes_match_types(void **state)
{
    (void)state;
    static const size_t sizes[] = {[CONFIG_INT] = sizeof(int64_t),
                                   [CONFIG_FLOAT] = sizeof(double),
                                   [CONFIG_FLOATS] = sizeof(struct config_floats),
                                   [CONFIG_BOOL] = sizeof(bool),
                                   [CONFIG_CHOICE] = sizeof(int)};
    for (size_t i = 0; i < run_config_key_count; i++) {
        const struct config_key *key = &run_config_keys[i];
        assert_true(key->offset + key->size <= sizeof(struct run_config));
        assert_true(strlen(key->help) > 3);
        if (key->type != CONFIG_STRING && key->type != CONFIG_SECRET && key->type != CONFIG_PATH &&
            key->type != CONFIG_PATHS)
            assert_int_equal(key->size, sizes[key->type]);
    }
}

/* Every word of every choice, as users write it, and the enumerator that the code compares with. */
static const struct {
    const char *key, *word;
    int value;
} choice_table[] = {
    {"augment.preset", "custom", AUGMENT_CUSTOM},
    {"augment.preset", "objects", AUGMENT_OBJECTS},
    {"augment.preset", "photos", AUGMENT_PHOTOS},
    {"augment.preset", "drawings", AUGMENT_DRAWINGS},
    {"augment.preset", "glyphs", AUGMENT_GLYPHS},
    {"data.cache", "memory", DATA_CACHE_MEMORY},
    {"data.cache", "file", DATA_CACHE_FILE},
    {"data.cache", "none", DATA_CACHE_NONE},
    {"data.background", "auto", BACKGROUND_AUTO},
    {"data.background", "black", BACKGROUND_BLACK},
    {"data.background", "grey", BACKGROUND_GREY},
    {"data.background", "white", BACKGROUND_WHITE},
    {"encoder.model", "conv", ENCODER_CONV},
    {"encoder.model", "vit", ENCODER_VIT},
    {"encoder.model", "resnet", ENCODER_RESNET},
    {"encoder.layers", "10", RESNET_10},
    {"encoder.layers", "18", RESNET_18},
    {"encoder.layers", "34", RESNET_34},
    {"encoder.norm", "group", ENCODER_NORM_GROUP},
    {"encoder.norm", "batch", ENCODER_NORM_BATCH},
    {"encoder.precision", "float32", PRECISION_FLOAT32},
    {"encoder.precision", "bf16", PRECISION_BF16},
    {"encoder.pool", "cls", VIT_POOL_CLS},
    {"encoder.pool", "mean", VIT_POOL_MEAN},
    {"mixture.covariance", "spherical", COVARIANCE_SPHERICAL},
    {"mixture.covariance", "diag", COVARIANCE_DIAGONAL},
    {"mixture.covariance", "vmf", COVARIANCE_VMF},
    {"mixture.covariance", "full", COVARIANCE_FULL},
    {"mixture.covariance", "tied", COVARIANCE_TIED},
    {"mixture.prior", "uniform", PRIOR_UNIFORM},
    {"mixture.prior", "count", PRIOR_COUNT},
    {"mixture.forgetting_form", "mass", FORGETTING_MASS},
    {"mixture.forgetting_form", "convex", FORGETTING_CONVEX},
    {"mixture.reseed_choice", "farthest", RESEED_FARTHEST},
    {"mixture.reseed_choice", "random", RESEED_RANDOM},
    {"mixture.source", "views", MIXTURE_OF_VIEWS},
    {"mixture.source", "images", MIXTURE_OF_IMAGES},
    {"run.mode", "lockstep", MODE_LOCKSTEP},
    {"run.mode", "stream", MODE_STREAM},
    {"run.numerics", "same", NUMERICS_SAME},
    {"run.numerics", "any", NUMERICS_ANY},
    {"loss.objective", "carp", LOSS_CARP},
    {"loss.objective", "dino", LOSS_DINO},
    {"loss.objective", "swav", LOSS_SWAV},
    {"loss.prototypes", "decoupled", PROTOTYPES_DECOUPLED},
    {"loss.prototypes", "joint", PROTOTYPES_JOINT},
    {"loss.prototype_loss", "shared", PROTOTYPE_LOSS_SHARED},
    {"loss.prototype_loss", "own", PROTOTYPE_LOSS_OWN},
    {"optimiser.name", "adamw", OPTIMISER_ADAMW},
    {"optimiser.name", "sgd", OPTIMISER_SGD},
};
enum { CHOICES = sizeof choice_table / sizeof choice_table[0] };

static const struct config_key *key_named(const char *name)
{
    for (size_t i = 0; i < run_config_key_count; i++)
        if (strcmp(run_config_keys[i].name, name) == 0)
            return &run_config_keys[i];
    fail_msg("no key %s", name);
    return NULL;
}

static void test_choices_are_the_enums(void **state)
{
    size_t words = 0;
    (void)state;
    for (size_t i = 0; i < CHOICES; i++) {
        char assignment[64], back[64];
        const struct config_key *key = key_named(choice_table[i].key);
        snprintf(assignment, sizeof assignment, "%s=%s", choice_table[i].key, choice_table[i].word);
        struct run_config c;
        struct error e;
        /* Some words are for joint runs only. */
        const char *const assignments[] = {"loss.prototypes=joint", assignment};
        assert_int_equal(run_config_load(&c, NULL, NULL, assignments, 2, &e), 0);
        assert_int_equal(*(const int *)(const void *)((const char *)&c + key->offset), choice_table[i].value);
        config_value(key, &c, back, sizeof back);
        assert_string_equal(back, choice_table[i].word);
    }
    for (size_t i = 0; i < run_config_key_count; i++)
        if (run_config_keys[i].type == CONFIG_CHOICE)
            for (const char *p = run_config_keys[i].choices; p != NULL; p = strchr(p + 1, '|'))
                words++;
    assert_int_equal(words, CHOICES); /* a new word has its line above */
}

static void test_words_without_a_configuration(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHOICES; i++) {
        const char *key = choice_table[i].key, *word = choice_table[i].word;
        int value = choice_table[i].value;
        if (strcmp(key, "mixture.covariance") == 0)
            assert_string_equal(word_of_covariance((enum covariance)value), word);
        if (strcmp(key, "loss.prototypes") == 0)
            assert_string_equal(word_of_loss_prototypes((enum loss_prototypes)value), word);
        if (strcmp(key, "optimiser.name") == 0)
            assert_string_equal(word_of_optimiser((enum optimiser_name)value), word);
    }
    assert_string_equal(word_of_optimiser((enum optimiser_name)7), "?");
}

static void test_derived_numbers(void **state)
{
    (void)state;
    struct run_config c = loaded("mixture.components=1024");
    assert_int_equal(run_config_slot_rows(&c), c.run.slot_size);
    c.mixture.source = MIXTURE_OF_VIEWS;
    assert_int_equal(run_config_slot_rows(&c), 2 * c.run.slot_size);
    assert_true(run_config_mean_entropy(&c) == 0);
    c.loss.objective = LOSS_DINO;
    assert_true(run_config_mean_entropy(&c) == 2);
    c.loss.objective = LOSS_SWAV;
    assert_true(run_config_mean_entropy(&c) == 1);
    c.loss.mean_entropy = 0.5;
    assert_true(run_config_mean_entropy(&c) == 0.5);
    c.loss.mean_entropy = 0;
    assert_true(run_config_mean_entropy(&c) == 0);
    assert_int_equal(run_config_reseed_max(&c), 8);
    c.mixture.components = 100;
    assert_int_equal(run_config_reseed_max(&c), 1);
    c.mixture.reseed_max = 3;
    assert_int_equal(run_config_reseed_max(&c), 3);
}

static void test_later_sources_win(void **state)
{
    char path[512];
    struct run_config c;
    struct error e;
    static const char text[] = "[run]\nslots = 2\nseed = 2\nepochs = 2\n";
    char *environment[] = {"DECANT_RUN_SEED=3", "DECANT_RUN_EPOCHS=3", NULL};
    const char *flags[] = {"run.epochs=4", "run.slot_size=32"};
    scratch_write(state, "c.ini", text, sizeof text - 1, path);
    assert_int_equal(run_config_load(&c, path, environment, flags, 2, &e), 0);
    assert_int_equal(c.run.slots, 2);
    assert_int_equal(c.run.seed, 3);
    assert_int_equal(c.run.epochs, 4);
    assert_int_equal(c.run.slot_size, 32);
}

static void test_errors_of_every_source_stop_the_load(void **state)
{
    char path[512];
    struct run_config c;
    struct error e;
    char *bad_environment[] = {"DECANT_RUN_SLOTS=0", NULL};
    const char *bad_flag = "run.slotz=1";
    scratch_write(state, "c.ini", "[run]\nslots = 1025\n", 19, path);
    assert_int_equal(run_config_load(&c, path, NULL, NULL, 0, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "c.ini:2: run.slots = 1025"));
    assert_int_equal(run_config_load(&c, NULL, bad_environment, NULL, 0, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "DECANT_RUN_SLOTS"));
    assert_int_equal(run_config_load(&c, NULL, NULL, &bad_flag, 1, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "did you mean run.slots?"));
    assert_int_equal(run_config_load(&c, "/nonexistent.ini", NULL, NULL, 0, &e), ERR_CONFIG);
}

static void test_cross_checks(void **state)
{
    (void)state;
    struct run_config c;
    struct error e;
    static const char *const bad[] = {"run.name=",          "run.name=a/b",         "run.name=a b",
                                      "loss.block=300",     "augment.area_max=0.5", "mixture.top=1025",
                                      "mixture.top=5000000"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (load(&c, bad[i], &e) != ERR_CONFIG)
            fail_msg("'%s' was accepted", bad[i]);
    const char *const heads[] = {"encoder.model=vit", "encoder.heads=3"};
    assert_int_equal(run_config_load(&c, NULL, NULL, heads, 2, &e), ERR_CONFIG);
    assert_int_equal(load(&c, "encoder.heads=3", &e), 0); /* a convolution has none */
    const char *const grey[] = {"data.channels=1", "data.mean=0.1,0.2,0.3"};
    assert_int_equal(run_config_load(&c, NULL, NULL, grey, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "data.mean"));
    const char *const colour[] = {"data.channels=3", "data.mean=0.1,0.2,0.3", "data.deviation=0.25"};
    assert_int_equal(run_config_load(&c, NULL, NULL, colour, 3, &e), 0);
    assert_int_equal(load(&c, "data.deviation=0.1,0", &e), ERR_CONFIG);
    const char *const width[] = {"encoder.model=resnet", "encoder.width=12", "encoder.norm=batch"};
    assert_int_equal(run_config_load(&c, NULL, NULL, width, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "encoder.width"));
    assert_int_equal(run_config_load(&c, NULL, NULL, width, 3, &e), 0); /* BatchNorm has no groups */
    const char *const local[] = {"encoder.model=vit", "augment.local_crops=1"};
    assert_int_equal(run_config_load(&c, NULL, NULL, local, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "augment.local_crops"));
    assert_int_equal(load(&c, "augment.local_area_min=0.5", &e), ERR_CONFIG);
    assert_int_equal(load(&c, "encoder.init_map=/a", &e), ERR_CONFIG);
    const char *const mixture_of_joint[] = {"loss.prototypes=joint", "mixture.init=/a"};
    assert_int_equal(run_config_load(&c, NULL, NULL, mixture_of_joint, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "encoder.init"));
    const char *const kmeans_of_joint[] = {"loss.prototypes=joint", "mixture.init=kmeans++"};
    assert_int_equal(run_config_load(&c, NULL, NULL, kmeans_of_joint, 2, &e), ERR_CONFIG);
    assert_int_equal(load(&c, "loss.mean_entropy=-0.5", &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "-1 for what goes with the objective"));
    assert_int_equal(load(&c, "loss.mean_entropy=-1", &e), 0);
    static const char *const prices[][3] = {{"loss.balance=1", "mixture.balance=0", ""},
                                            {"loss.balance=1", "mixture.balance=0.1", "loss.prototypes=joint"},
                                            {"loss.balance=1", "mixture.balance=0.1", "loss.objective=swav"}};
    for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++) {
        assert_int_equal(run_config_load(&c, NULL, NULL, prices[i], i > 0 ? 3 : 2, &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, "loss.balance"));
    }
    assert_int_equal(run_config_load(&c, NULL, NULL, prices[1], 2, &e), 0);
    const char *const power[] = {"mixture.balance_power=1", "mixture.balance=0"};
    assert_int_equal(run_config_load(&c, NULL, NULL, power, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "mixture.balance_power"));
    assert_int_equal(run_config_load(&c, NULL, NULL, power, 1, &e), 0);
    const char *const still[] = {"mixture.forgetting_form=convex", "mixture.forgetting=1"};
    assert_int_equal(run_config_load(&c, NULL, NULL, still, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "learns nothing"));
    assert_int_equal(run_config_load(&c, NULL, NULL, still + 1, 1, &e), 0);
    const char *const matrices[] = {"mixture.covariance=full", "mixture.dimensions=129"};
    assert_int_equal(run_config_load(&c, NULL, NULL, matrices, 1, &e), 0);
    assert_int_equal(run_config_load(&c, NULL, NULL, matrices, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "17040384, at most 16777216"));
    const char *const tied[][3] = {{"mixture.covariance=tied", "mixture.dimensions=1025", "loss.block=2"},
                                   {"mixture.covariance=tied", "mixture.forgetting_form=convex", "loss.block=2"},
                                   {"mixture.covariance=tied", "mixture.merge_distance=0.1", "loss.block=2"}};
    for (size_t i = 0; i < sizeof tied / sizeof tied[0]; i++) {
        assert_int_equal(run_config_load(&c, NULL, NULL, tied[i], 3, &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, "tied"));
    }
    assert_int_equal(run_config_load(&c, NULL, NULL, tied[0], 1, &e), 0);
    const char *const dino[] = {"loss.objective=dino", "loss.block=300"};
    assert_int_equal(run_config_load(&c, NULL, NULL, dino, 2, &e), 0);
    static const char *const parameters[] = {"loss.koleo=0.1", "loss.prototype_loss=own"};
    for (size_t i = 0; i < 2; i++) {
        const char *const joint[] = {parameters[i], "loss.prototypes=joint"};
        assert_int_equal(load(&c, parameters[i], &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, "loss.prototypes = joint"));
        assert_int_equal(run_config_load(&c, NULL, NULL, joint, 2, &e), 0);
    }
}

static void expect_kmeans(const char *const *keys, size_t n, const char *complaint)
{
    struct run_config c;
    struct error e = {0};
    const char *set[6] = {"mixture.init=kmeans++"};
    memcpy(set + 1, keys, n * sizeof *keys);
    int rc = run_config_load(&c, NULL, NULL, set, n + 1, &e);
    if ((rc == 0) != (complaint == NULL) || (complaint && strstr(e.text, complaint) == NULL))
        fail_msg("%s: %s", keys[0], e.text);
}

static void test_kmeans(void **state)
{
    (void)state;
    struct error e = {0};
    struct run_config c = loaded("mixture.init=kmeans++");
    assert_int_equal(run_config_init_embeddings(&c), 4096);
    assert_int_equal(run_config_init_rounds(&c), 1024); /* of 4096 x 128 multiply-adds each */
    assert_int_equal(run_config_init_steps(&c), 16);    /* of 4 x 64 images */
    assert_int_equal(run_config_check_init(&c, 17, &e), 0);
    assert_int_equal(run_config_check_init(&c, 16, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "takes 16 steps, and the run has 16"));
    c.mixture.init_embeddings = 1100;
    assert_int_equal(run_config_init_rows(&c, 0, 0, 1), 64);
    assert_int_equal(run_config_init_rows(&c, 3, 2, 2), 128);
    assert_int_equal(run_config_init_rows(&c, 4, 0, 1), 64);
    assert_int_equal(run_config_init_rows(&c, 4, 1, 1), 12);
    assert_int_equal(run_config_init_rows(&c, 4, 0, 4), 76);
    assert_int_equal(run_config_init_rows(&c, 4, 2, 1), 0);
    assert_int_equal(run_config_init_rows(&c, 1000000000, 3, 1), 0);
    c.mixture.components = 65536;
    c.mixture.init_embeddings = 131072;
    assert_int_equal(run_config_init_rounds(&c), 32);
    assert_int_equal(run_config_init_steps(&c),
                     512 + 2048 - 1); /* the first 512 gather, the last of them chooses too */
    c = loaded(NULL);
    assert_int_equal(run_config_init_embeddings(&c), 0);
    assert_int_equal(run_config_init_rows(&c, 0, 0, 4), 0);
    assert_int_equal(run_config_init_steps(&c), 0);
    assert_int_equal(run_config_check_init(&c, 0, &e), 0);
    expect_kmeans((const char *const[]){"mixture.init_embeddings=1024"}, 1, NULL);
    expect_kmeans((const char *const[]){"mixture.init_embeddings=1023"}, 1, "less than mixture.components = 1024");
    expect_kmeans((const char *const[]){"run.steps=17"}, 1, NULL);
    expect_kmeans((const char *const[]){"run.steps=16"}, 1, "mixture.init_embeddings");
    expect_kmeans((const char *const[]){"run.mode=stream"}, 1, "run.mode = stream");
    expect_kmeans((const char *const[]){"mixture.init_embeddings=524288"}, 1, NULL); /* 2^26 numbers */
    expect_kmeans((const char *const[]){"mixture.init_embeddings=524289"}, 1, "at most 524288 are possible");
    expect_kmeans((const char *const[]){"mixture.components=65536", "mixture.dimensions=256"}, 2,
                  "262144 embeddings of 256 dimensions, for 65536 components, at most 131072 are possible");
    assert_int_equal(load(&c, "mixture.init_embeddings=1", &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "kmeans++"));
}

static void test_a_stream_has_no_loss_and_trains_nothing(void **state)
{
    (void)state;
    struct run_config c;
    struct error e;
    const char *const block[] = {"run.mode=stream", "mixture.components=10"};
    assert_int_equal(load(&c, block[1], &e), ERR_CONFIG); /* of loss.block */
    assert_int_equal(run_config_load(&c, NULL, NULL, block, 2, &e), 0);
    assert_int_equal(run_config_check_trains(&c, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "serve-mixture"));
    c = loaded(NULL);
    assert_int_equal(run_config_check_trains(&c, &e), 0);
    const char *const window[] = {"run.mode=stream", "stream.window=4", "stream.keep=3"};
    assert_int_equal(run_config_load(&c, NULL, NULL, window, 3, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "stream.keep"));
}

static void test_hash_follows_what_shapes_the_result(void **state)
{
    (void)state;
    static const char *const shaping[] = {"run.seed=2",        "run.slots=8",          "data.limit=100",
                                          "augment.flip=0.25", "head.hidden=128",      "data.background=white",
                                          "mixture.top=8",     "loss.block=128",       "optimiser.lr=0.00200001",
                                          "run.epochs=11",     "teacher.ema_end=1",    "encoder.groups=4",
                                          "run.mode=stream",   "encoder.init=/a",      "encoder.freeze=1",
                                          "mixture.init=/a",   "mixture.init=kmeans++"};
    static const char *const neutral[] = {"run.name=x",
                                          "run.out=/y",
                                          "run.checkpoint_every=1",
                                          "run.log_every=1",
                                          "data.path=/z",
                                          "worker.threads=2",
                                          "net.lease_ms=500",
                                          "redis.port=1",
                                          "eval.neighbours=5",
                                          "run.accept_data=true",
                                          "run.numerics=any",
                                          "data.cache=file",
                                          "data.cache_directory=/c",
                                          "stream.window=4"};
    const struct run_config base = loaded(NULL);
    uint64_t hash = run_config_hash(&base);
    for (size_t i = 0; i < sizeof shaping / sizeof shaping[0]; i++) {
        struct run_config c = loaded(shaping[i]);
        if (run_config_hash(&c) == hash)
            fail_msg("%s does not change the hash", shaping[i]);
    }
    for (size_t i = 0; i < sizeof neutral / sizeof neutral[0]; i++) {
        struct run_config c = loaded(neutral[i]);
        if (run_config_hash(&c) != hash)
            fail_msg("%s changes the hash", neutral[i]);
    }
}

static void test_written_configurations_have_the_same_hash(void **state)
{
    char path[512];
    struct run_config c = loaded("augment.aspect=1.23456789012345"), back;
    struct error e;
    scratch_write(state, "out.ini", "", 0, path);
    FILE *f = fopen(path, "we");
    config_write(run_config_keys, run_config_key_count, &c, f);
    fclose(f);
    assert_int_equal(run_config_load(&back, path, NULL, NULL, 0, &e), 0);
    assert_true(run_config_hash(&back) == run_config_hash(&c));
    assert_true(back.augment.aspect == 1.23456789012345);
}

/* Whoever takes the configuration up elsewhere finds the same files. */
static void test_paths_are_resolved_where_they_were_given(void **state)
{
    char wanted[512];
    struct error e = {0};
    struct run_config c;
    const char *const given[] = {"data.path=set.npz",
                                 "run.out=runs/x",
                                 "keys.directory=keys",
                                 "worker.heartbeat=alive",
                                 "redis.password_file=secret",
                                 "net.parameter=ipc://p",
                                 "net.prototype=ipc://@abstract",
                                 "net.prototype_publish=tcp://127.0.0.1:1",
                                 "redis.host=redis",
                                 "mixture.init=kmeans++"};
    assert_int_equal(run_config_load(&c, NULL, NULL, given, sizeof given / sizeof given[0], &e), 0);
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(run_config_resolve_paths(&c, &e), 0);
    assert_int_equal(chdir("/"), 0);
    const char *const texts[] = {c.data.path,           c.run.out,
                                 c.keys.directory,      c.worker.heartbeat,
                                 c.redis.password_file, strstr(c.net.parameter, "://") + 3};
    const char *const names[] = {"set.npz", "runs/x", "keys", "alive", "secret", "p"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(wanted, sizeof wanted, "%s/%s", (const char *)*state, names[i]);
        assert_string_equal(texts[i], wanted);
    }
    assert_string_equal(c.net.prototype, "ipc://@abstract");
    assert_string_equal(c.net.prototype_publish, "tcp://127.0.0.1:1");
    assert_string_equal(c.redis.host, "redis");
    assert_string_equal(c.mixture.init, "kmeans++"); /* a word, unlike */
    strcpy(c.mixture.init, "./kmeans++");
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(run_config_resolve_paths(&c, &e), 0);
    assert_int_equal(chdir("/"), 0);
    snprintf(wanted, sizeof wanted, "%s/kmeans++", (const char *)*state);
    assert_string_equal(c.mixture.init, wanted);
    assert_int_equal(run_config_init_embeddings(&c), 0);
    memset(c.net.parameter, 'x', sizeof c.net.parameter - 1);
    memcpy(c.net.parameter, "ipc://", 6);
    assert_int_equal(run_config_resolve_paths(&c, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "net.parameter"));
}

/* What a checkpoint keeps depends on what was computed, not on how the processes were started. */
static void test_records_leave_circumstances_out(void **state)
{
    (void)state;
    struct run_config plain = loaded(NULL), told = loaded("run.accept_data=true");
    size_t sizes[2];
    told.run.numerics = NUMERICS_ANY;
    char *records[2] = {run_config_record(&plain, &sizes[0]), run_config_record(&told, &sizes[1])};
    assert_non_null(records[0]);
    assert_string_equal(records[0], records[1]);
    free(records[0]);
    free(records[1]);
}

static void test_counts_steps(void **state)
{
    (void)state;
    struct run_config c = loaded(NULL);
    assert_int_equal(run_config_steps_per_epoch(&c, 60000), 234);
    assert_int_equal(run_config_steps(&c, 60000), 2340);
    assert_int_equal(run_config_steps(&c, 255), 0);
    c.data.limit = 1000;
    assert_int_equal(run_config_steps_per_epoch(&c, 60000), 3);
    assert_int_equal(run_config_steps_per_epoch(&c, 512), 2);
    c.run.steps = 17;
    assert_int_equal(run_config_steps(&c, 60000), 17);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_the_recipe),
        cmocka_unit_test(test_a_preset_goes_under_what_is_given),
        cmocka_unit_test(test_presets_name_keys),
        cmocka_unit_test(test_shipped_configurations_load),
        cmocka_unit_test(test_keys_are_distinct_and_do_not_overlap),
        cmocka_unit_test(test_field_sizes_match_types),
        cmocka_unit_test(test_choices_are_the_enums),
        cmocka_unit_test(test_words_without_a_configuration),
        cmocka_unit_test(test_derived_numbers),
        scratch_test(test_later_sources_win),
        scratch_test(test_errors_of_every_source_stop_the_load),
        cmocka_unit_test(test_cross_checks),
        cmocka_unit_test(test_kmeans),
        cmocka_unit_test(test_a_stream_has_no_loss_and_trains_nothing),
        cmocka_unit_test(test_hash_follows_what_shapes_the_result),
        scratch_test(test_written_configurations_have_the_same_hash),
        scratch_test(test_paths_are_resolved_where_they_were_given),
        cmocka_unit_test(test_records_leave_circumstances_out),
        cmocka_unit_test(test_counts_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
