/* Virtual time: a heap of what is to happen, in order of time and, at the same time, in the order of scheduling. */
#ifndef DECANT_TESTS_SIM_EVENTS_H
#define DECANT_TESTS_SIM_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/msg.h"

enum event_kind {
    EVENT_TO_SERVER,     /* msg from peer arrives at a server */
    EVENT_TO_WORKER,     /* msg arrives at the worker of a seat */
    EVENT_SERVER_SIGNAL, /* SIGTERM */
    EVENT_SERVER_TIMER,  /* of one process */
    EVENT_WORKER_TIMER,
    EVENT_PART,    /* an executor has finished a part of a job */
    EVENT_WRITTEN, /* a checkpoint is on disk */
    EVENT_RESTART, /* of a server */
    EVENT_SEAT,    /* a worker starts in an empty seat */
    EVENT_FAULT    /* the next one */
};

struct slot_job;

struct event {
    uint64_t at_us, sequence;
    enum event_kind kind;
    uint32_t server, seat;
    uint64_t process;     /* of the node that it is for; an event of an earlier one is dropped */
    struct peer peer;     /* messages: the worker's routing id */
    struct slot_job *job; /* of EVENT_PART */
    unsigned part;
    struct msg msg; /* of EVENT_TO_*, owned */
};

struct events {
    struct event **heap;
    size_t count, room;
    uint64_t now_us, sequence;
};

void events_init(struct events *q);
void events_fini(struct events *q); /* drops what is left */
/* A cleared event, to be filled in and added. msg is not cleared: its kind says whether there is one. */
struct event *event_new(enum event_kind kind);
void event_free(struct event **e);
/* Takes the event over. at_us: not in the past. An event that is added again keeps its place in the order. */
void events_add(struct events *q, uint64_t at_us, struct event *e);
/* The next event, and time moves on to it; the caller frees it. NULL when there is none. */
struct event *events_take(struct events *q);

#endif
