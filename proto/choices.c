/* Enumerators back to words. "?" is for a number that no list has, which only a mistake of ours makes. */
#include "proto/choices.h"

const char *loss_prototypes_word(enum loss_prototypes p)
{
    switch (p) {
        LOSS_PROTOTYPES(CHOICE_CASE)
    }
    return "?";
}

const char *optimiser_word(enum optimiser_name name)
{
    switch (name) {
        OPTIMISER_NAMES(CHOICE_CASE)
    }
    return "?";
}

const char *covariance_word(enum covariance c)
{
    switch (c) {
        COVARIANCES(CHOICE_CASE)
    }
    return "?";
}
