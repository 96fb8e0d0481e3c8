/* SPDX-License-Identifier: MIT */
/*
 * library [user|kernel] [NAME]: runs the cases, or those whose name begins with NAME, and prints
 * TAP. Under the preload library the same cases must pass: the program's calls then reach that.
 */
#include <sys/wait.h>

#include "harness.h"

enum uf_backend test_backend = UF_BACKEND_USER;

static unsigned points, failures;

static bool ended_well(const struct test_case *test)
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm(30); /* a case that hangs ends */
        test->run();
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return false;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) != test->signal) {
        printf("# ended by signal %d\n", WTERMSIG(status));
    }
    return test->signal ? WIFSIGNALED(status) && WTERMSIG(status) == test->signal
                        : WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void run_all(const struct test_case *tests, const char *only)
{
    for (; tests->name; tests++) {
        bool good;

        if (only && strncmp(tests->name, only, strlen(only)) != 0) {
            continue;
        }
        good = ended_well(tests);
        points++;
        failures += !good;
        printf("%sok %u - %s\n", good ? "" : "not ", points, tests->name);
    }
}

/* Asked in a child, so that this process never begins the facility itself. */
static bool kernel_allows(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        _exit(uf_context_open(0, UF_BACKEND_KERNEL) < 0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

int main(int argc, char **argv)
{
    const char *only = argc > 2 ? argv[2] : NULL;

    if (argc > 1 && strcmp(argv[1], "kernel") == 0) {
        test_backend = UF_BACKEND_KERNEL;
        if (!kernel_allows()) {
            printf("1..0 # SKIP the kernel's userfaultfd is not permitted here\n");
            return 0;
        }
    }
    run_all(context_cases, only);
    if (test_backend == UF_BACKEND_USER) {
        run_all(handler_cases, only);
        run_all(handler_kinds_cases, only);
        run_all(linked_cases, only);
        if (getenv("LD_PRELOAD")) {
            run_all(preload_cases, only);
        }
    }
    printf("1..%u\n", points);
    return failures != 0;
}
