/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

int probe_try(probe_fn *fn, uint64_t *ret_value, int *ret_signal)
{
    uint64_t *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* One byte: too little for a file, and the kernel's sign not to start a core handler. Making
     * the child undumpable would take its own /proc files away from it. */
    const struct rlimit no_core = {1, 1};
    int status, err;

    if (shared == MAP_FAILED)
        return errno;
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        _exit(fn(shared));
    }
    err = child < 0 ? errno : 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (child > 0)
        err = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    if (ret_signal)
        *ret_signal = child > 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (ret_value)
        *ret_value = *shared;
    munmap(shared, sizeof(*shared));
    return err;
}
