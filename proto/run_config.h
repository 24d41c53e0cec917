/* The configuration of a run: every key that any process reads, in one table, and the hash by which processes know that
 * they agree. docs/OPERATIONS.md lists the keys; `decant config` prints them. */
#ifndef DECANT_PROTO_RUN_CONFIG_H
#define DECANT_PROTO_RUN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "common/config.h"
#include "common/error.h"
#include "proto/choices.h"

#define RUN_CONFIG_KMEANS "kmeans++" /* mixture.init: no path */

struct run_config {
    struct {
        char name[64], out[1024];
        int64_t seed, epochs, steps, slots, slot_size, checkpoint_every, checkpoint_keep, checkpoint_keep_every,
            log_every;
        enum run_mode mode;
        bool accept_data;
        enum run_numerics numerics;
    } run;
    struct {
        char path[4000]; /* a list: common/path_list.h */
        int64_t limit, side, channels, holdout;
        double memory;
        struct config_floats mean, deviation;
        enum data_background background;
        enum data_cache cache;
        char cache_directory[1024];
    } data;
    struct {
        enum augment_preset preset;
        double area_min, area_max, aspect, flip, jitter, brightness, contrast, saturation, hue, greyscale, blur,
            blur_sigma, solarise, rotation, shear, erase, erase_area;
        int64_t local_crops, local_side;
        double local_area_min, local_area_max;
    } augment;
    struct {
        enum encoder_model model;
        char widths[128];
        int64_t groups, patch, dim, depth, heads, mlp;
        enum vit_pool pool;
        enum resnet_layers layers;
        int64_t width;
        enum encoder_norm norm;
        enum encoder_precision precision;
        char init[1024], init_map[1024];
        int64_t freeze;
    } encoder;
    struct {
        int64_t hidden;
    } head;
    struct {
        int64_t components, dimensions;
        enum covariance covariance;
        double forgetting;
        enum forgetting_form forgetting_form;
        double beta_start, beta_end, beta_fraction;
        enum weight_prior prior;
        double variance_floor, initial_mass;
        int64_t top;
        double drop, usage_momentum, reseed_usage, reseed_distance;
        int64_t reseed_max, prototype_lag;
        double merge_distance;
        char init[1024];
        int64_t init_embeddings;
        double balance, balance_clip, balance_power;
        enum reseed_choice reseed_choice;
        enum mixture_source source;
    } mixture;
    struct {
        int64_t contributions, version_ms, rows_max, window, keep, checkpoint_ms;
    } stream;
    struct {
        enum loss_objective objective;
        enum loss_prototypes prototypes;
        double temperature_student, temperature_teacher, temperature_teacher_start;
        int64_t block;
        double entropy_weight, center_momentum, sinkhorn_epsilon;
        int64_t sinkhorn_iterations;
        double mean_entropy, coding_rate, coding_rate_epsilon, feature_rate, balance, koleo;
        enum prototype_loss prototype_loss;
    } loss;
    struct {
        enum optimiser_name name;
        double lr, lr_end;
        int64_t warmup;
        double beta1, beta2, epsilon, momentum, decay, clip, prototype_lr;
    } optimiser;
    struct {
        double ema_start, ema_end;
    } teacher;
    struct {
        int64_t threads, ahead;
        char heartbeat[1024];
    } worker;
    struct {
        char parameter[256], parameter_publish[256], prototype[256], prototype_publish[256];
        int64_t lease_ms;
        bool insecure;
    } net;
    struct {
        char directory[1024], name[64];
    } keys;
    struct {
        bool enabled;
        char url[2048]; /* taken apart into the next ones by run_config_load, and then empty */
        char host[256];
        int64_t port, db;
        char user[128], password[256], password_file[1024];
        double interval;
    } redis;
    struct {
        char parameter[256], prototype[256];
    } metrics;
    struct {
        int64_t bank, queries, neighbours;
        double temperature;
        int64_t every, images;
    } eval;
};

/* To be raised when the meaning of a key changes: it is hashed, so that processes of versions that mean different
 * things by the same key do not agree by accident. */
enum { PROTO_RUN_CONFIG_FORMAT = 1 };

extern const struct config_key run_config_keys[];
extern const size_t run_config_key_count;

/* Defaults, then the values of augment.preset, then path (when not NULL), then environ, then assignments; then
 * cross-checks (divisibility, limits). A source that names a Redis switches the mirror on, unless it says
 * redis.enabled = false. ERR_CONFIG, also for a file that is not there or cannot be read; ERR_MEMORY. */
int run_config_load(struct run_config *c, const char *path, char **environ, const char *const *assignments, size_t n,
                    struct error *e);
int run_config_check(const struct run_config *c, struct error *e);
/* Takes redis.host, port, db, user and password from an address or URL (proto/redis_address.h); what that does not name
 * stays. origin names the text in messages, which never quote a URL. */
int run_config_set_redis(struct run_config *c, const char *address, const char *origin, struct error *e);
/* Makes every path absolute: relative ones are relative to the working directory of the process to which they were
 * given. Programs call it before they hand the configuration on or keep it. ERR_CONFIG when a key is then too long. */
int run_config_resolve_paths(struct run_config *c, struct error *e);
/* Hash of the keys that the result depends on (not: run.name, run.out, run.checkpoint_*, run.log_every,
 * run.accept_data, run.numerics, data.path, data.memory, data.cache, data.cache_directory, augment.preset, stream.*,
 * net.*, keys.*, redis.*, metrics.*, worker.*, eval.*). */
uint64_t run_config_hash(const struct run_config *c);
/* The keys that shape the result and differ, as "KEY = was, not is; ..." cut to size; how many there are. */
size_t run_config_differences(const struct run_config *was, const struct run_config *is, char *text, size_t size);
/* What a checkpoint keeps: the configuration as an INI file without where and how the run went, so that the bytes
 * depend on what was computed only. free() it; NULL when out of memory. */
char *run_config_record(const struct run_config *c, size_t *size);
int run_config_from_record(struct run_config *c, const void *text, size_t size, const char *origin, struct error *e);
/* ERR_CONFIG naming the keys when the record is of a configuration that computes something else than c; also when it
 * does not say so. For use when the hashes differ. */
int run_config_explain_difference(const void *record, size_t size, const struct run_config *c, const char *origin,
                                  struct error *e);
/* Whether the result depends on that key, so that it is hashed. */
bool run_config_shapes_result(const char *name);
/* ERR_CONFIG when this is no configuration to train with: run.mode = stream serves training loops that are not ours. */
int run_config_check_trains(const struct run_config *c, struct error *e);
/* Embeddings of a slot that the mixture learns from: of both views of each image, or of each image as it is. */
uint32_t run_config_slot_rows(const struct run_config *c);
/* loss.mean_entropy, or what goes with the objective. */
double run_config_mean_entropy(const struct run_config *c);
/* mixture.init = kmeans++: N, the embeddings that it chooses among; 0 without. */
int64_t run_config_init_embeddings(const struct run_config *c);
/* Prototypes that it chooses between two versions at most. */
uint32_t run_config_init_rounds(const struct run_config *c);
/* The first N embeddings of a run, in the order of (step, slot, row), are in the statistics themselves: how many are of
 * these slots of that step. step < 2^40. */
uint64_t run_config_init_rows(const struct run_config *c, uint64_t step, uint64_t slot, uint64_t slots);
/* Steps after which it is done; 0 without. */
uint64_t run_config_init_steps(const struct run_config *c);
/* ERR_CONFIG when the run is over before that. */
int run_config_check_init(const struct run_config *c, uint64_t total_steps, struct error *e);
/* What of it does not hang on the length of the run: part of run_config_check. */
int run_config_check_kmeans(const struct run_config *c, struct error *e);
/* mixture.reseed_max, or one for every 128 components (fairly arbitrary; at least one). */
uint32_t run_config_reseed_max(const struct run_config *c);
/* What a choice of augment.preset stands for: "augment.KEY=VALUE" ..., then NULL; keys given anywhere win over it. */
const char *const *run_config_preset(enum augment_preset preset);
/* Steps of the run: run.steps when > 0, else epochs * steps per epoch, for `samples` training images. */
uint64_t run_config_steps(const struct run_config *c, uint64_t samples);
uint64_t run_config_steps_per_epoch(const struct run_config *c,
                                    uint64_t samples); /* floor(samples / (slots*slot_size)) */

#endif
