/* SPDX-License-Identifier: MIT */
/* What this binary does when a case has executed it anew: look at what survived, exit 0 if right.
 */
#include "harness.h"

/* argv: a descriptor that must be open, one that must not. */
static int helper_descriptors(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    if (fcntl(atoi(argv[0]), F_GETFD) == -1)
        return 3;
    if (fcntl(atoi(argv[1]), F_GETFD) != -1)
        return 4;
    return 0;
}

static bool is_blocked(int sig)
{
    sigset_t set;

    return sigprocmask(SIG_SETMASK, NULL, &set) == 0 && sigismember(&set, sig) == 1;
}

/* argv: "blocked" or "open", "ignored" or "default": what SIGSEGV must be. */
static int helper_signals(int argc, char **argv)
{
    struct sigaction action;

    if (argc != 2 || sigaction(SIGSEGV, NULL, &action) != 0)
        return 2;
    if (is_blocked(SIGSEGV) != (strcmp(argv[0], "blocked") == 0))
        return 3;
    if (action.sa_handler != (strcmp(argv[1], "ignored") == 0 ? SIG_IGN : SIG_DFL))
        return 4;
    return 0;
}

int helper_main(const char *name, int argc, char **argv)
{
    if (strcmp(name, "descriptors") == 0)
        return helper_descriptors(argc, argv);
    if (strcmp(name, "signals") == 0)
        return helper_signals(argc, argv);
#ifdef __x86_64__
    if (strcmp(name, "raw") == 0)
        return raw_helper();
#endif
    return 2;
}
