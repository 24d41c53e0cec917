/* Enumerators back to words. "?" is for a number that no list has, which only a mistake of ours makes. */
#include "proto/choices.h"

const char *word_of_loss_prototypes(enum loss_prototypes p)
{
    switch (p) {
        LOSS_PROTOTYPES(CHOICE_CASE)
    }
    return "?";
}

const char *word_of_optimiser(enum optimiser_name name)
{
    switch (name) {
        OPTIMISER_NAMES(CHOICE_CASE)
    }
    return "?";
}

const char *word_of_covariance(enum covariance c)
{
    switch (c) {
        COVARIANCES(CHOICE_CASE)
    }
    return "?";
}
