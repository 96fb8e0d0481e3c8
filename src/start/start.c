/* SPDX-License-Identifier: MIT */
/* Options, then the handlers, then the facility, then fork. */
#include <errno.h>
#include <pthread.h>

#include "fault/signal.h"
#include "intercept/signal.h"
#include "options.h"
#include "start/start.h"
#include "tid.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_preloaded;
static int result;

static void start(void)
{
    struct core_options options;

    options_read(&options);
    options.preloaded = is_preloaded;
    options.thread_id = is_preloaded ? tid_hook() : NULL; /* linked: clone() is not seen */
    isig_init();
    result = core_init(&options);
    if (result == 0 && !fault_ready()) {
        result = -ENOMEM;
    }
    pthread_atfork(core_fork_prepare, core_fork_parent, core_forked);
}

int start_facility(bool preloaded)
{
    is_preloaded = preloaded;
    pthread_once(&once, start);
    return result;
}
