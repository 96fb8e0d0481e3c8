/* SPDX-License-Identifier: MIT */
/*
 * Processes that are killed, or stopped, at each step: what the files of the test share.
 *
 *     points.c    for each scenario, either side and each number: kills there, and looks what is
 * left sides.c     the monitored process and its manager, and what the one that is left must see
 *     scenarios.c what they do
 *     point.c     in the library: counts
 */
#ifndef POINTS_H
#define POINTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Shared by the images of one process, and by it and the server that it has. */
struct points {
    _Atomic uint32_t left; /* so many are passed before the process is killed; 0: never */
    int pid;
    bool stops;            /* it is not killed, but stopped */
    _Atomic uint32_t held; /* the server comes no further: it is to be stopped as well */
    /* Of the other side: it waits for the process; so often it was told to try again. */
    _Atomic uint32_t waits, told;
};

#define POINTS_PAGE  4096ul
#define POINTS_PAGES 8ul
#define POINTS_BYTE  0x5a /* of what a manager copies */

enum victim { VICTIM_MONITORED, VICTIM_MANAGER, VICTIM_STOPPED };

/* One side of a run. */
struct side {
    const struct scenario *scenario;
    int sock;    /* to the other side */
    int control; /* the manager's, from the test: what has become of the monitored process */
    int counter; /* a file of struct points */
    bool is_victim;
    bool stops;            /* the monitored process is stopped for a while, and nobody is killed */
    struct points *points; /* of the manager then, else NULL */
    uint32_t number;       /* of the point at which the victim is killed */
    int uffd;
    char *mem; /* in the monitored process */
    size_t len;
};

struct scenario {
    const char *name;
    uint64_t features, mode; /* registered by the monitored process; mode 0: not */
    bool shared;             /* memory of a file, of which the pages are there */
    bool poisons;            /* its pages cannot be looked at */
    bool closes;             /* the monitored process keeps no descriptor */
    bool handover; /* counted from the hand-over on, else when the manager has said hello */
    size_t len;    /* 0: POINTS_PAGES */
    /* Any may be NULL. The monitored process's returns when what it does is done. */
    void (*monitored)(struct side *side);
    void (*manager)(struct side *side);
};

extern const struct scenario points_scenarios[];
extern const size_t points_scenario_count;

/* ---- sides.c: they do not return; 0: all was as it should be */

_Noreturn void side_monitored(struct side *side);
_Noreturn void side_manager(struct side *side);
/* In the image that exec began: the rest of what the manager does. */
_Noreturn void side_manager_again(char **argv);

/* ---- for scenarios */

_Noreturn void side_fail(const char *file, int line, const char *what, long got);
#define MUST(cond) ((cond) ? (void)0 : side_fail(__FILE__, __LINE__, #cond, 0))
#define MUST_BE(got, cond)                                                                         \
    do {                                                                                           \
        long got_ = (got);                                                                         \
        if (!(cond))                                                                               \
            side_fail(__FILE__, __LINE__, #got ": " #cond, got_);                                  \
    } while (0)

/* Return: 0 or -errno, by libc's functions. */
long side_ioctl(const struct side *side, unsigned long request, void *arg);
/* Ends in side_manager_again() of another image. */
void side_manager_exec(const struct side *side);
/* One that a dead process may have answered as well: 0, or `gone`. Return: whether it was 0. */
bool side_ioctl_or(const struct side *side, unsigned long request, void *arg, long gone);
bool side_next_fork(const struct side *side, int *ret_uffd);
/* Whether there is such a feature here. */
bool side_has(uint64_t features);
/* The next message. False: the monitored process is gone, or will cause none. */
bool side_next(const struct side *side, unsigned event);
bool side_copy(const struct side *side, size_t page, size_t count);
/* From now on points count, if this side is to be killed. */
void side_arm(const struct side *side);

#endif
