/* SPDX-License-Identifier: MIT */
/* The program moves away: a thread takes requests of `lua-live send`, and runs the migration. */
#ifndef LEAVE_H
#define LEAVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <userfault/postcopy.h>

#include "interpreter.h"

/* How a process ends whose program runs elsewhere, or nowhere any more. */
#define EXIT_MOVED 10
#define EXIT_LOST  11

struct leave_request {
    char to[256], key_file[256];
    uint64_t bandwidth_bytes;
    uint32_t rounds, downtime_ms, patience_s, verify;
};

struct leave_reply {
    int32_t status; /* of send's exit: 0 moved, 1 it goes on as before, EXIT_LOST */
    char text[508];
};

/* Where requests for a process are taken: a descriptor; -errno. */
int leave_listen(pid_t pid);
int leave_connect(pid_t pid);
/* Takes requests, for ever; to be called by a thread of its own. */
void leave_serve(int listener, enum uf_backend backend, struct program *program,
                 const char *queries);

/* For interpreter_run(). */
bool leave_wanted(void);
void leave_park(void);

#endif
