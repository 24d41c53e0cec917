/* The table of keys, the hash, and numbers that follow. Keys that change the result are hashed in table order. */
#include "proto/run_config.h"

#include <stddef.h>
#include <string.h>
#include <xxhash.h>
#include "proto/redis_address.h"

enum { RESEED_COMPONENTS = 128 }; /* the help of mixture.reseed_max names it */

#define FIELD(f) offsetof(struct run_config, f), sizeof(((struct run_config *)0)->f)
#define KEY_INT(name, f, initial, min, max, help)                                                                      \
    {                                                                                                                  \
        name, CONFIG_INT, FIELD(f), initial, min, max, NULL, help                                                      \
    }
#define KEY_FLOAT(name, f, initial, min, max, help)                                                                    \
    {                                                                                                                  \
        name, CONFIG_FLOAT, FIELD(f), initial, min, max, NULL, help                                                    \
    }
#define KEY_FLOATS(name, f, initial, min, max, help)                                                                   \
    {                                                                                                                  \
        name, CONFIG_FLOATS, FIELD(f), initial, min, max, NULL, help                                                   \
    }
#define KEY_TEXT(name, f, initial, help)                                                                               \
    {                                                                                                                  \
        name, CONFIG_STRING, FIELD(f), initial, 0, 0, NULL, help                                                       \
    }
#define KEY_PATH(name, f, initial, help)                                                                               \
    {                                                                                                                  \
        name, CONFIG_PATH, FIELD(f), initial, 0, 0, NULL, help                                                         \
    }
#define KEY_PATH_OR(words, name, f, initial, help)                                                                     \
    {                                                                                                                  \
        name, CONFIG_PATH, FIELD(f), initial, 0, 0, words, help                                                        \
    }
#define KEY_PATHS(name, f, initial, help)                                                                              \
    {                                                                                                                  \
        name, CONFIG_PATHS, FIELD(f), initial, 0, 0, NULL, help                                                        \
    }
#define KEY_SECRET(name, f, help)                                                                                      \
    {                                                                                                                  \
        name, CONFIG_SECRET, FIELD(f), "", 0, 0, NULL, help                                                            \
    }
#define KEY_CHOICE(name, f, initial, choices, help)                                                                    \
    {                                                                                                                  \
        name, CONFIG_CHOICE, FIELD(f), initial, 0, 0, choices, help                                                    \
    }
#define KEY_BOOL(name, f, initial, help)                                                                               \
    {                                                                                                                  \
        name, CONFIG_BOOL, FIELD(f), initial, 0, 0, NULL, help                                                         \
    }

const struct config_key run_config_keys[] = {
    KEY_TEXT("run.name", run.name, "default", "name of the run: in messages, Redis keys and directories"),
    KEY_PATH("run.out", run.out, "runs/default", "directory of checkpoints and metrics"),
    KEY_CHOICE("run.mode", run.mode, "lockstep", CHOICE_WORDS(RUN_MODES),
               "lockstep: steps, for our workers; stream: the prototype server alone, for training loops of any kind"),
    KEY_INT("run.seed", run.seed, "1", 0, 9e15, "seed of everything random"),
    KEY_INT("run.epochs", run.epochs, "10", 1, 1e6, "passes over the training images"),
    KEY_INT("run.steps", run.steps, "0", 0, 1e9, "optimiser steps; 0 takes them from run.epochs"),
    KEY_INT("run.slots", run.slots, "4", 1, 1024, "slots (micro-batches) in a step"),
    KEY_INT("run.slot_size", run.slot_size, "64", 2, 65536,
            "images in a slot, the rows of its normalisation being twice that"),
    KEY_INT("run.checkpoint_every", run.checkpoint_every, "500", 0, 1e9,
            "steps between checkpoints; 0 only at the end"),
    KEY_INT("run.checkpoint_keep", run.checkpoint_keep, "3", 0, 1e9,
            "newest complete checkpoints that are kept; 0 keeps all"),
    KEY_INT("run.checkpoint_keep_every", run.checkpoint_keep_every, "0", 0, 1e9,
            "checkpoints of steps that are multiples of this are kept for good; 0 keeps none"),
    KEY_INT("run.log_every", run.log_every, "10", 1, 1e6, "steps between metric lines"),
    KEY_BOOL("run.accept_data", run.accept_data, "false",
             "a resumed run goes on although the images are not those it was trained on; noted in its checkpoints"),
    KEY_CHOICE("run.numerics", run.numerics, "same", CHOICE_WORDS(RUN_NUMERICS),
               "same: processes whose arithmetic rounds otherwise than the run's first are refused; any: admitted, and "
               "noted"),
    KEY_PATHS(
        "data.path", data.path, "/usr/share/datasets/fashion-mnist",
        "images: a directory of image files, tar shards, IDX or CIFAR files, or an .npy or .npz file; or several, "
        "with colons between them"),
    KEY_INT("data.limit", data.limit, "0", 0, 4e9, "training uses only the first images; 0 uses all"),
    KEY_INT("data.side", data.side, "0", 0, 512,
            "images become squares of this side, pixels; 0: the size of the first image"),
    KEY_INT("data.channels", data.channels, "0", 0, 3, "1 grey, 3 colour, 0: as the first image"),
    KEY_CHOICE("data.background", data.background, "auto", CHOICE_WORDS(DATA_BACKGROUNDS),
               "what transparency is composited on; auto: white where dark drawings would vanish on black"),
    KEY_INT("data.holdout", data.holdout, "10", 0, 1e6,
            "without test images every n-th labelled image is one; 0 holds none out"),
    KEY_FLOAT("data.memory", data.memory, "4", 0.001, 4096, "GiB that the images of a split may take in each worker"),
    KEY_CHOICE(
        "data.cache", data.cache, "memory", CHOICE_WORDS(DATA_CACHES),
        "memory: each worker decodes and holds the images; file: the first one decodes them into a file that all "
        "of a machine share; none: they are read when they are wanted, a little ahead. data.memory is a limit for "
        "memory only"),
    KEY_PATH("data.cache_directory", data.cache_directory, "",
             "of that file; empty: decant in $XDG_CACHE_HOME or ~/.cache"),
    KEY_FLOATS("data.mean", data.mean, "0.2860", 0, 1,
               "mean pixel, subtracted (pixels in 0..1): one value, or one for each channel with commas between them"),
    KEY_FLOATS("data.deviation", data.deviation, "0.3530", 1e-6, 10,
               "standard deviation of pixels, divided by; likewise"),
    KEY_CHOICE("augment.preset", augment.preset, "custom", CHOICE_WORDS(AUGMENT_PRESETS),
               "values for the keys below that are not given: for centred things, photographs, drawings, letters"),
    KEY_FLOAT("augment.area_min", augment.area_min, "0.7", 0.01, 1, "smallest crop, as a share of the image's area"),
    KEY_FLOAT("augment.area_max", augment.area_max, "1", 0.01, 1, "largest crop"),
    KEY_FLOAT("augment.aspect", augment.aspect, "1.3333333333", 1, 4, "crops have aspect ratios from 1/this to this"),
    KEY_FLOAT("augment.flip", augment.flip, "0.5", 0, 1, "probability of a horizontal flip"),
    KEY_FLOAT("augment.jitter", augment.jitter, "0.8", 0, 1,
              "probability of jitter: brightness, contrast, and of colour images saturation and hue"),
    KEY_FLOAT("augment.brightness", augment.brightness, "0.4", 0, 1, "brightness factor is 1 +- this"),
    KEY_FLOAT("augment.contrast", augment.contrast, "0.4", 0, 1, "contrast factor is 1 +- this"),
    KEY_FLOAT("augment.saturation", augment.saturation, "0", 0, 1, "saturation factor is 1 +- this"),
    KEY_FLOAT("augment.hue", augment.hue, "0", 0, 0.5, "hue is turned by +- this; 1 is once around"),
    KEY_FLOAT("augment.greyscale", augment.greyscale, "0", 0, 1, "probability that a colour image becomes grey"),
    KEY_FLOAT("augment.blur", augment.blur, "0", 0, 1, "probability of a Gaussian blur"),
    KEY_FLOAT("augment.blur_sigma", augment.blur_sigma, "1", 0.1, 5, "its largest sigma, pixels; the smallest is 0.1"),
    KEY_FLOAT("augment.solarise", augment.solarise, "0", 0, 1, "probability that pixels from 0.5 on are inverted"),
    KEY_FLOAT("augment.rotation", augment.rotation, "0", 0, 180, "turned by +- this, degrees"),
    KEY_FLOAT("augment.shear", augment.shear, "0", 0, 60, "sheared by +- this, degrees"),
    KEY_FLOAT("augment.erase", augment.erase, "0", 0, 1, "probability that a box becomes the mean pixel"),
    KEY_FLOAT("augment.erase_area", augment.erase_area, "0.2", 0.02, 1,
              "its largest area, as a share of the view's; the smallest is 0.02"),
    KEY_INT("augment.local_crops", augment.local_crops, "0", 0, 16,
            "small views of each image that the student sees beside the two, compared with both of the teacher's; "
            "conv, resnet"),
    KEY_INT("augment.local_side", augment.local_side, "0", 0, 512, "their side, pixels; 0: half of the images'"),
    KEY_FLOAT("augment.local_area_min", augment.local_area_min, "0.1", 0.01, 1, "their smallest crop"),
    KEY_FLOAT("augment.local_area_max", augment.local_area_max, "0.4", 0.01, 1, "their largest crop"),
    KEY_CHOICE(
        "encoder.model", encoder.model, "conv", CHOICE_WORDS(ENCODER_MODELS),
        "the network: conv, a convolutional net for small images; vit, a vision transformer; resnet, a residual net"),
    KEY_TEXT("encoder.widths", encoder.widths, "24,48,96,192", "conv: channels of each stride-2 stage"),
    KEY_INT("encoder.groups", encoder.groups, "8", 1, 1024,
            "conv, resnet: groups of channels that GroupNorm normalises together; divides every width"),
    KEY_INT("encoder.patch", encoder.patch, "4", 1, 256, "vit: the image is cut into patches of this side, pixels"),
    KEY_INT("encoder.dim", encoder.dim, "128", 8, 4096, "vit: numbers that describe a patch, the width of every block"),
    KEY_INT("encoder.depth", encoder.depth, "4", 1, 64, "vit: blocks one after the other"),
    KEY_INT("encoder.heads", encoder.heads, "4", 1, 64, "vit: attention heads of a block; divides encoder.dim"),
    KEY_INT("encoder.mlp", encoder.mlp, "2", 1, 16,
            "vit: how many times wider than encoder.dim the MLP of a block is inside"),
    KEY_CHOICE("encoder.pool", encoder.pool, "mean", CHOICE_WORDS(VIT_POOLS),
               "vit: what becomes the image's feature: the class token (cls), or the mean of the patches"),
    KEY_CHOICE("encoder.layers", encoder.layers, "18", CHOICE_WORDS(RESNET_LAYERS),
               "resnet: depth (1, 2 or 3 to 6 blocks in each of four stages)"),
    KEY_INT("encoder.width", encoder.width, "32", 1, 4096,
            "resnet: channels of the first of its four stages; each next one has twice as many"),
    KEY_CHOICE("encoder.norm", encoder.norm, "group", CHOICE_WORDS(ENCODER_NORMS),
               "resnet: GroupNorm, or BatchNorm over both views of a slot"),
    KEY_CHOICE("encoder.precision", encoder.precision, "float32", CHOICE_WORDS(ENCODER_PRECISIONS),
               "in which workers multiply in training: bf16 is faster, needs a processor with AVX512_BF16 or AMX, and "
               "keeps sums and weights in float32"),
    KEY_PATH("encoder.init", encoder.init, "",
             "weights to begin with: a run's directory, a checkpoint's, or a safetensors file; read by the parameter "
             "server before step 0 only; empty: random ones"),
    KEY_PATH("encoder.init_map", encoder.init_map, "",
             "what tensors are called in that file: lines OURS = THEIRS, - takes none; empty: as here"),
    KEY_INT("encoder.freeze", encoder.freeze, "0", -1, 64,
            "first stages (conv) or blocks (vit, with the embedding) that training leaves as they are; -1: the whole "
            "encoder but the head"),
    KEY_INT("head.hidden", head.hidden, "256", 8, 65536, "width of the two hidden layers of the projection head"),
    KEY_INT("mixture.components", mixture.components, "1024", 2, 1048576, "number of prototypes (K)"),
    KEY_INT("mixture.dimensions", mixture.dimensions, "128", 2, 4096, "numbers in an embedding and in a prototype (D)"),
    KEY_CHOICE("mixture.covariance", mixture.covariance, "diag", CHOICE_WORDS(COVARIANCES),
               "shape of the components: one variance each (spherical), one for each dimension (diag), a direction and "
               "its concentration (vmf), a matrix each (full), one matrix for all (tied)"),
    KEY_FLOAT("mixture.forgetting", mixture.forgetting, "0.99", 0.01, 1,
              "how slowly prototypes forget: what a component has is multiplied by this once for every embedding that "
              "it receives (eta); 1 forgets nothing"),
    KEY_CHOICE("mixture.forgetting_form", mixture.forgetting_form, "mass", CHOICE_WORDS(FORGETTING_FORMS),
               "mass: a component remembers 1 / -log eta embeddings of its own; convex: S = l S + (1 - l) s with "
               "l = eta^(n_k/N), N / -log eta of its own at N a step"),
    KEY_FLOAT(
        "mixture.beta_start", mixture.beta_start, "0.5", 1e-3, 1,
        "at the start of the run responsibilities are softened by this exponent, 1 being the plain ones; keep >= 0.5"),
    KEY_FLOAT("mixture.beta_end", mixture.beta_end, "1", 1e-3, 1, "the same exponent at the end"),
    KEY_FLOAT("mixture.beta_fraction", mixture.beta_fraction, "0.5", 1e-6, 1,
              "share of the run over which that exponent moves from the one to the other"),
    KEY_CHOICE(
        "mixture.prior", mixture.prior, "uniform", CHOICE_WORDS(WEIGHT_PRIORS),
        "weights of the components in the E-step: all alike (uniform), or by how much each has received (count)"),
    KEY_FLOAT("mixture.variance_floor", mixture.variance_floor, "1e-3", 1e-9, 1,
              "smallest variance that a component can have"),
    KEY_FLOAT("mixture.initial_mass", mixture.initial_mass, "1", 1e-6, 1e6,
              "what a fresh component counts as having received, in embeddings: more makes it slower to move"),
    KEY_INT("mixture.top", mixture.top, "0", 0, 1048576,
            "only so many of an embedding's largest responsibilities count; 0: all"),
    KEY_FLOAT("mixture.drop", mixture.drop, "1e-6", 0, 0.5,
              "responsibilities under this are dropped, the rest renormalised"),
    KEY_FLOAT("mixture.usage_momentum", mixture.usage_momentum, "0.97", 0, 1,
              "how slowly the average of each component's share of the embeddings follows: what it keeps of itself at "
              "a step"),
    KEY_FLOAT("mixture.reseed_usage", mixture.reseed_usage, "0.2", 0, 1,
              "components are moved elsewhere when that average is less than this, 1 being an even share, or that of "
              "the last "
              "rank (mixture.balance_power); 0 never"),
    KEY_FLOAT("mixture.reseed_distance", mixture.reseed_distance, "0.1", 0, 2,
              "they are moved to embeddings at least so far (cosine distance) from every prototype"),
    KEY_INT("mixture.reseed_max", mixture.reseed_max, "0", 0, 1024,
            "so many are moved in a step at most; 0 takes K/128, at least 1"),
    KEY_INT("mixture.prototype_lag", mixture.prototype_lag, "1", 0, 1,
            "1: the loss of a step sees the prototypes from before it; 0: those that already know its images, which "
            "costs a round trip"),
    KEY_FLOAT("mixture.merge_distance", mixture.merge_distance, "0", 0, 2,
              "eps: two prototypes nearer than this, in 1 - cosine, merge, and the freed one takes half of the "
              "heaviest wide one, a pair a step at most; 0 never"),
    KEY_PATH_OR(RUN_CONFIG_KMEANS, "mixture.init", mixture.init, "",
                "mixture to begin with: a run's directory, a checkpoint's, or a safetensors file, of the same "
                "mixture.dimensions, read by the prototype server before step 0 only; or kmeans++: prototypes move to "
                "embeddings of the first steps that k-means++ chooses; empty: random prototypes"),
    KEY_INT("mixture.init_embeddings", mixture.init_embeddings, "0", 0, 16777216,
            "kmeans++: it chooses among so many embeddings, those that come first; 0: four for each prototype"),
    KEY_FLOAT("mixture.balance", mixture.balance, "0.1", 0, 10,
              "a: a component's price in the E-step, nats, moves by a log(1 / (K usage)) a step; 0: no prices"),
    KEY_FLOAT("mixture.balance_clip", mixture.balance_clip, "1", 1e-3, 100,
              "c: that logarithm is cut to -c..c, so that a price moves by a c a step at most"),
    KEY_FLOAT("mixture.balance_power", mixture.balance_power, "0", 0, 4,
              "prices lead to a power law of usage: a share in proportion to rank^-this, rank 1 being the most used "
              "component; 0: all alike"),
    KEY_CHOICE(
        "mixture.reseed_choice", mixture.reseed_choice, "random", CHOICE_WORDS(RESEED_CHOICES),
        "of the embeddings that are so far: the farthest from every prototype, or those that come first, samples "
        "being in random order, so that prototypes go where images are"),
    KEY_CHOICE("mixture.source", mixture.source, "images", CHOICE_WORDS(MIXTURE_SOURCES),
               "what prototypes are means of: embeddings of the two augmented views (views), or of the images as they "
               "are (images), for another pass of the teacher"),
    KEY_INT("stream.contributions", stream.contributions, "8", 1, 1e6,
            "contributions that make a version of the mixture"),
    KEY_INT("stream.version_ms", stream.version_ms, "200", 1, 3.6e6,
            "a version is made so long after the first contribution in it at the latest, ms"),
    KEY_INT("stream.rows_max", stream.rows_max, "4096", 1, 65536, "embeddings in a contribution at most"),
    KEY_INT("stream.window", stream.window, "32", 1, 48, "contributions that a client may have on their way"),
    KEY_INT("stream.keep", stream.keep, "1024", 2, 1e6,
            "contributions of a client that may be in no checkpoint yet; it keeps them"),
    KEY_INT("stream.checkpoint_ms", stream.checkpoint_ms, "10000", 10, 3.6e6,
            "a checkpoint is made so long after the last one, if there is anything new, ms"),
    KEY_CHOICE("loss.objective", loss.objective, "carp", CHOICE_WORDS(LOSS_OBJECTIVES),
               "what the encoder learns from: carp, dino or swav (their papers' losses)"),
    KEY_CHOICE("loss.prototypes", loss.prototypes, "decoupled", CHOICE_WORDS(LOSS_PROTOTYPES),
               "decoupled: the prototypes are constants from the prototype server; joint: parameters that the loss "
               "trains, the baseline"),
    KEY_FLOAT("loss.temperature_student", loss.temperature_student, "0.1", 1e-3, 10,
              "the student's similarities to the prototypes are divided by this before the softmax: smaller makes its "
              "assignments sharper (tau_s)"),
    KEY_FLOAT("loss.temperature_teacher", loss.temperature_teacher, "0.1", 1e-3, 10,
              "the same of the teacher, whose assignments are the target (tau_t); dino: what it ends with"),
    KEY_FLOAT("loss.temperature_teacher_start", loss.temperature_teacher_start, "0.04", 1e-3, 10,
              "dino: what the teacher's begins with; it moves over the first 30 % of the run"),
    KEY_INT("loss.block", loss.block, "256", 2, 1048576,
            "carp: assignments are compared within random groups of so many prototypes; divides mixture.components"),
    KEY_FLOAT("loss.entropy_weight", loss.entropy_weight, "3", 0, 1000,
              "carp: how strongly an even use of the prototypes counts beside the agreement of the views (w_H)"),
    KEY_FLOAT("loss.center_momentum", loss.center_momentum, "0.9", 0, 1,
              "dino: how slowly the centre, which is taken off the teacher's outputs, follows: what it keeps of itself "
              "at a step"),
    KEY_FLOAT("loss.sinkhorn_epsilon", loss.sinkhorn_epsilon, "0.05", 1e-3, 10,
              "swav: smoothness of the evened-out assignments; smaller makes them sharper"),
    KEY_INT("loss.sinkhorn_iterations", loss.sinkhorn_iterations, "3", 1, 100,
            "swav: rounds by which assignments are evened out over the prototypes (Sinkhorn-Knopp)"),
    KEY_FLOAT("loss.mean_entropy", loss.mean_entropy, "-1", -1, 1000,
              "w: rewards an even use of prototypes by the student, loss - w H(mean softmax of a slot); 0: no such "
              "term; -1: 2 with dino, 1 with swav, none with carp, which has one of its own"),
    KEY_FLOAT("loss.coding_rate", loss.coding_rate, "1", 0, 1000,
              "lambda: rewards embeddings that spread, loss - lambda R(a slot's embeddings); 0: no such term"),
    KEY_FLOAT(
        "loss.coding_rate_epsilon", loss.coding_rate_epsilon, "0.5", 1e-3, 100,
        "precision of both rates: a direction with less than about this x 1/D of the embeddings' energy, or 1/F of "
        "the features', counts little"),
    KEY_FLOAT("loss.feature_rate", loss.feature_rate, "0", 0, 1000,
              "lambda: rewards features of the encoder, before the projection head, that spread, loss - lambda R(a "
              "slot's features); 0: no such term"),
    KEY_CHOICE("loss.prototype_loss", loss.prototype_loss, "shared", CHOICE_WORDS(PROTOTYPE_LOSSES),
               "joint: prototypes follow the encoder's loss, or one of their own on the teacher's embeddings "
               "(half-decoupled, as in CAPI; its targets are loss.sinkhorn_*)"),
    KEY_FLOAT("loss.koleo", loss.koleo, "0", 0, 1000,
              "joint: w of KoLeo, which pushes each prototype from its nearest; 0: no such term"),
    KEY_FLOAT("loss.balance", loss.balance, "0", 0, 1000,
              "w: w x price is added to the teacher's logits over tau_t, as a prior of its targets; 0: none. Needs "
              "mixture.balance; not swav, whose targets are even by themselves"),
    KEY_CHOICE("optimiser.name", optimiser.name, "adamw", CHOICE_WORDS(OPTIMISER_NAMES),
               "how gradients become steps: adamw, or sgd with momentum"),
    KEY_FLOAT("optimiser.lr", optimiser.lr, "2e-3", 0, 100, "peak learning rate"),
    KEY_FLOAT("optimiser.lr_end", optimiser.lr_end, "0.01", 0, 1,
              "final learning rate as a share of the peak (cosine)"),
    KEY_INT("optimiser.warmup", optimiser.warmup, "50", 0, 1e9, "steps of linear warm-up"),
    KEY_FLOAT("optimiser.beta1", optimiser.beta1, "0.9", 0, 0.99999,
              "adamw: what the average of gradients keeps of itself at a step"),
    KEY_FLOAT("optimiser.beta2", optimiser.beta2, "0.99", 0, 0.999999,
              "adamw: what the average of squared gradients keeps of itself at a step"),
    KEY_FLOAT("optimiser.epsilon", optimiser.epsilon, "1e-8", 1e-16, 1,
              "adamw: added to the root of that, so that nothing is divided by zero"),
    KEY_FLOAT("optimiser.momentum", optimiser.momentum, "0.9", 0, 0.99999,
              "sgd: what the velocity keeps of itself at a step"),
    KEY_FLOAT("optimiser.decay", optimiser.decay, "1e-4", 0, 10,
              "weight decay, apart from the gradient; matrices only"),
    KEY_FLOAT("optimiser.clip", optimiser.clip, "3", 0, 1e9,
              "a step's gradient is scaled down to at most this norm; 0 does not"),
    KEY_FLOAT("optimiser.prototype_lr", optimiser.prototype_lr, "1", 0, 1e6,
              "joint: learning rate of the prototypes, as a multiple of the encoder's"),
    KEY_FLOAT(
        "teacher.ema_start", teacher.ema_start, "0.99", 0, 1,
        "how slowly the teacher follows the student: what its weights keep of themselves at a step, at the start"),
    KEY_FLOAT("teacher.ema_end", teacher.ema_end, "0.996", 0, 1, "the same at the end (along a cosine)"),
    KEY_INT("worker.threads", worker.threads, "1", 1, 256, "slots that a worker computes at once"),
    KEY_INT("worker.ahead", worker.ahead, "1", 0, 1024,
            "slots that a worker leases beyond those it computes; more hide a slow network"),
    KEY_PATH("worker.heartbeat", worker.heartbeat, "",
             "file that shows that a worker lives; empty: decant-worker.alive in $XDG_RUNTIME_DIR or /tmp"),
    KEY_TEXT("net.parameter", net.parameter, "tcp://127.0.0.1:5701", "requests to the parameter server"),
    KEY_TEXT("net.parameter_publish", net.parameter_publish, "tcp://127.0.0.1:5702", "its publications"),
    KEY_TEXT("net.prototype", net.prototype, "tcp://127.0.0.1:5711", "requests to the prototype server"),
    KEY_TEXT("net.prototype_publish", net.prototype_publish, "tcp://127.0.0.1:5712", "its publications"),
    KEY_INT("net.lease_ms", net.lease_ms, "30000", 100, 3.6e6,
            "longest lease, ms; it adapts to about twice a worker's time for a slot"),
    KEY_BOOL("net.insecure", net.insecure, "false",
             "servers may listen beyond this machine without keys: anybody who reaches them can change the run"),
    KEY_PATH("keys.directory", keys.directory, "", "directory of CURVE keys, see `decant keygen`; empty: no keys"),
    KEY_TEXT("keys.name", keys.name, "",
             "which key there is ours; empty: worker, or viewer for commands. Servers have theirs by their kind"),
    KEY_BOOL("redis.enabled", redis.enabled, "false",
             "mirror the state to Redis; true by itself where redis.url, redis.host or redis.port is given"),
    KEY_SECRET("redis.url", redis.url,
               "redis://USER:PASSWORD@HOST:PORT/DB or unix://PATH: sets the next ones; never written or printed"),
    KEY_TEXT("redis.host", redis.host, "127.0.0.1", "Redis host, or the path of a unix socket"),
    KEY_INT("redis.port", redis.port, "6379", 1, 65535, "Redis port"),
    KEY_INT("redis.db", redis.db, "0", 0, REDIS_DB_MAX, "number of the Redis database"),
    KEY_TEXT("redis.user", redis.user, "", "Redis ACL user; empty: the default user"),
    KEY_SECRET("redis.password", redis.password, "Redis password; never written or printed"),
    KEY_PATH("redis.password_file", redis.password_file, "", "a file with that password, instead of redis.password"),
    KEY_FLOAT("redis.interval", redis.interval, "1", 0.05, 3600, "seconds between mirror updates"),
    KEY_TEXT("metrics.parameter", metrics.parameter, "",
             "HOST:PORT for /metrics and /healthz of the parameter server; empty = off"),
    KEY_TEXT("metrics.prototype", metrics.prototype, "", "the same of the prototype server"),
    KEY_INT("eval.bank", eval.bank, "20000", 1, 4e9,
            "training images in the k-NN bank and the linear probe's training set"),
    KEY_INT("eval.queries", eval.queries, "10000", 1, 4e9, "test images"),
    KEY_INT("eval.neighbours", eval.neighbours, "20", 1, 1000, "k of k-NN"),
    KEY_FLOAT("eval.temperature", eval.temperature, "0.07", 1e-3, 10, "k-NN votes weigh exp(cos / this)"),
    KEY_INT(
        "eval.every", eval.every, "0", 0, 1e9,
        "steps between evaluations while training: k-NN of the next checkpoint by a process in the background, which "
        "keeps the best; 0: none"),
    KEY_INT("eval.images", eval.images, "5000", 1, 4e9, "images in its bank, and queries, at most"),
};
const size_t run_config_key_count = sizeof run_config_keys / sizeof run_config_keys[0];

/* Keys that say where, how often to report, or how many threads, but never what comes out. */
bool run_config_shapes_result(const char *name)
{
    static const char *const without[] = {"run.name",
                                          "run.out",
                                          "run.checkpoint_",
                                          "run.log_every",
                                          "run.accept_data",
                                          "run.numerics",
                                          "data.path",
                                          "data.memory",
                                          "data.cache",
                                          "augment.preset",
                                          "stream.",
                                          "worker.",
                                          "net.",
                                          "keys.",
                                          "redis.",
                                          "metrics.",
                                          "eval."};
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++)
        if (strncmp(name, without[i], strlen(without[i])) == 0)
            return false;
    return true;
}

uint64_t run_config_hash(const struct run_config *c)
{
    XXH64_state_t *state = XXH64_createState();
    ASSERT(state != NULL);
    XXH64_reset(state, PROTO_RUN_CONFIG_FORMAT);
    for (size_t i = 0; i < run_config_key_count; i++) {
        const struct config_key *key = &run_config_keys[i];
        if (!run_config_shapes_result(key->name))
            continue;
        char value[1200];
        config_value(key, c, value, sizeof value);
        XXH64_update(state, key->name, strlen(key->name) + 1);
        XXH64_update(state, value, strlen(value) + 1);
    }
    uint64_t hash = XXH64_digest(state);
    XXH64_freeState(state);
    return hash;
}

uint32_t run_config_slot_rows(const struct run_config *c)
{
    uint32_t b = (uint32_t)c->run.slot_size;
    return c->mixture.source == MIXTURE_OF_IMAGES ? b : 2 * b;
}

double run_config_mean_entropy(const struct run_config *c)
{
    static const double of_objective[] = {[LOSS_CARP] = 0, [LOSS_DINO] = 2, [LOSS_SWAV] = 1};
    return c->loss.mean_entropy < 0 ? of_objective[c->loss.objective] : c->loss.mean_entropy;
}

uint32_t run_config_reseed_max(const struct run_config *c)
{
    uint32_t share = (uint32_t)c->mixture.components / RESEED_COMPONENTS;
    return c->mixture.reseed_max > 0 ? (uint32_t)c->mixture.reseed_max : share > 1 ? share : 1;
}

uint64_t run_config_steps_per_epoch(const struct run_config *c, uint64_t samples)
{
    if (c->data.limit > 0 && samples > (uint64_t)c->data.limit)
        samples = (uint64_t)c->data.limit;
    return samples / (uint64_t)(c->run.slots * c->run.slot_size);
}

uint64_t run_config_steps(const struct run_config *c, uint64_t samples)
{
    if (c->run.steps > 0)
        return (uint64_t)c->run.steps;
    return (uint64_t)c->run.epochs * run_config_steps_per_epoch(c, samples);
}
