/* What a configuration can choose between. Each list gives an enum and, in the same order, the words that stand for
 * it in configurations, checkpoints and reports: the two cannot drift apart. A new choice goes to the end of its
 * list. */
#ifndef DECANT_PROTO_CHOICES_H
#define DECANT_PROTO_CHOICES_H

#define AUGMENT_PRESETS(CHOICE)                                                                                        \
    CHOICE(AUGMENT_CUSTOM, "custom")                                                                                   \
    CHOICE(AUGMENT_OBJECTS, "objects")                                                                                 \
    CHOICE(AUGMENT_PHOTOS, "photos") CHOICE(AUGMENT_DRAWINGS, "drawings") CHOICE(AUGMENT_GLYPHS, "glyphs")
#define DATA_CACHES(CHOICE)                                                                                            \
    CHOICE(DATA_CACHE_MEMORY, "memory") CHOICE(DATA_CACHE_FILE, "file") CHOICE(DATA_CACHE_NONE, "none")
#define DATA_BACKGROUNDS(CHOICE)                                                                                       \
    CHOICE(BACKGROUND_AUTO, "auto")                                                                                    \
    CHOICE(BACKGROUND_BLACK, "black") CHOICE(BACKGROUND_GREY, "grey") CHOICE(BACKGROUND_WHITE, "white")
#define ENCODER_MODELS(CHOICE) CHOICE(ENCODER_CONV, "conv") CHOICE(ENCODER_VIT, "vit") CHOICE(ENCODER_RESNET, "resnet")
#define RESNET_LAYERS(CHOICE) CHOICE(RESNET_10, "10") CHOICE(RESNET_18, "18") CHOICE(RESNET_34, "34")
#define ENCODER_NORMS(CHOICE) CHOICE(ENCODER_NORM_GROUP, "group") CHOICE(ENCODER_NORM_BATCH, "batch")
#define ENCODER_PRECISIONS(CHOICE) CHOICE(PRECISION_FLOAT32, "float32") CHOICE(PRECISION_BF16, "bf16")
#define VIT_POOLS(CHOICE) CHOICE(VIT_POOL_CLS, "cls") CHOICE(VIT_POOL_MEAN, "mean")
#define LOSS_OBJECTIVES(CHOICE) CHOICE(LOSS_CARP, "carp") CHOICE(LOSS_DINO, "dino") CHOICE(LOSS_SWAV, "swav")
#define LOSS_PROTOTYPES(CHOICE) CHOICE(PROTOTYPES_DECOUPLED, "decoupled") CHOICE(PROTOTYPES_JOINT, "joint")
#define PROTOTYPE_LOSSES(CHOICE) CHOICE(PROTOTYPE_LOSS_SHARED, "shared") CHOICE(PROTOTYPE_LOSS_OWN, "own")
#define OPTIMISER_NAMES(CHOICE) CHOICE(OPTIMISER_ADAMW, "adamw") CHOICE(OPTIMISER_SGD, "sgd")
#define RUN_MODES(CHOICE) CHOICE(MODE_LOCKSTEP, "lockstep") CHOICE(MODE_STREAM, "stream")
#define RUN_NUMERICS(CHOICE) CHOICE(NUMERICS_SAME, "same") CHOICE(NUMERICS_ANY, "any")
#define WEIGHT_PRIORS(CHOICE) CHOICE(PRIOR_UNIFORM, "uniform") CHOICE(PRIOR_COUNT, "count")
#define RESEED_CHOICES(CHOICE) CHOICE(RESEED_FARTHEST, "farthest") CHOICE(RESEED_RANDOM, "random")
#define MIXTURE_SOURCES(CHOICE) CHOICE(MIXTURE_OF_VIEWS, "views") CHOICE(MIXTURE_OF_IMAGES, "images")
#define FORGETTING_FORMS(CHOICE) CHOICE(FORGETTING_MASS, "mass") CHOICE(FORGETTING_CONVEX, "convex")
#define COVARIANCES(CHOICE)                                                                                            \
    CHOICE(COVARIANCE_SPHERICAL, "spherical")                                                                          \
    CHOICE(COVARIANCE_DIAGONAL, "diag")                                                                                \
    CHOICE(COVARIANCE_VMF, "vmf") CHOICE(COVARIANCE_FULL, "full") CHOICE(COVARIANCE_TIED, "tied")

#define CHOICE_ENUMERATOR(name, word) name,
#define CHOICE_WORD(name, word) "|" word
#define CHOICE_CASE(name, word)                                                                                        \
    case name:                                                                                                         \
        return word;
/* "a|b|c", as struct config_key wants it. */
#define CHOICE_WORDS(list) (&list(CHOICE_WORD)[1])

enum augment_preset { AUGMENT_PRESETS(CHOICE_ENUMERATOR) };
enum data_cache { DATA_CACHES(CHOICE_ENUMERATOR) };
enum data_background { DATA_BACKGROUNDS(CHOICE_ENUMERATOR) };
enum encoder_model { ENCODER_MODELS(CHOICE_ENUMERATOR) };
enum resnet_layers { RESNET_LAYERS(CHOICE_ENUMERATOR) };
enum encoder_norm { ENCODER_NORMS(CHOICE_ENUMERATOR) };
enum encoder_precision { ENCODER_PRECISIONS(CHOICE_ENUMERATOR) };
enum vit_pool { VIT_POOLS(CHOICE_ENUMERATOR) };
enum loss_objective { LOSS_OBJECTIVES(CHOICE_ENUMERATOR) };
enum loss_prototypes { LOSS_PROTOTYPES(CHOICE_ENUMERATOR) };
enum prototype_loss { PROTOTYPE_LOSSES(CHOICE_ENUMERATOR) };
enum optimiser_name { OPTIMISER_NAMES(CHOICE_ENUMERATOR) };
enum run_mode { RUN_MODES(CHOICE_ENUMERATOR) };
enum run_numerics { RUN_NUMERICS(CHOICE_ENUMERATOR) };
enum reseed_choice { RESEED_CHOICES(CHOICE_ENUMERATOR) };
enum mixture_source { MIXTURE_SOURCES(CHOICE_ENUMERATOR) };
enum forgetting_form { FORGETTING_FORMS(CHOICE_ENUMERATOR) };
enum weight_prior { WEIGHT_PRIORS(CHOICE_ENUMERATOR) };
enum covariance { COVARIANCES(CHOICE_ENUMERATOR) };

/* The words where something else than a configuration says them. */
const char *word_of_loss_prototypes(enum loss_prototypes p);
const char *word_of_optimiser(enum optimiser_name name);
const char *word_of_covariance(enum covariance c);

#endif
