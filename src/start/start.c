/* SPDX-License-Identifier: MIT */
/* Options, then the handlers, then the facility, then fork. */
#include <errno.h>
#include <pthread.h>

#include "channel/channel.h"
#include "fault/signal.h"
#include "intercept/calls.h"
#include "intercept/signal.h"
#include "options.h"
#include "start/start.h"
#include "tid.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_preloaded;
static int result;

/* What is trapped is the call itself. */
static void fork_prepare(void)
{
    if (!icall_trapping) {
        core_fork_prepare();
    }
}

static void fork_parent(void)
{
    if (!icall_trapping) {
        core_fork_parent();
    }
}

static void fork_child(void)
{
    if (!icall_trapping) {
        core_forked();
    }
}

static void start(void)
{
    struct core_options options;

    options_read(&options);
    options.preloaded = is_preloaded;
    options.thread_id = is_preloaded ? tid_hook() : NULL; /* linked: clone() is not seen */
    isig_init();
    result = core_init(&options);
    channel_init();
    if (result == 0 && !fault_ready()) {
        result = -ENOMEM;
    }
    if (result == 0 && is_preloaded) {
        icall_inherited();
    }
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

int start_facility(bool preloaded)
{
    is_preloaded = preloaded;
    pthread_once(&once, start);
    return result;
}
