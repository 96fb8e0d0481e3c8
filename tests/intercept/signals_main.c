/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>

#include "signals.h"

const char *sig_program;

static char scratch[] = "/tmp/uf-signals-XXXXXX"; /* where cores go */

static void scratch_remove(void)
{
    DIR *dir = opendir(scratch);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir) {
        closedir(dir);
    }
    rmdir(scratch);
}

/* Whether a process here leaves a core file when it asks to: a pattern with a pipe may not say. */
static bool cores_work(void)
{
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
    char first = '|';
    struct rlimit limit;

    if (fd >= 0) {
        (void)!read(fd, &first, 1);
        close(fd);
    }
    return first != '|' && first != '/' && getrlimit(RLIMIT_CORE, &limit) == 0 &&
           limit.rlim_max != 0;
}

static void child(const struct sig_case *one)
{
    struct rlimit limit = {0};

    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_cur = one->want & 0x80 ? limit.rlim_max : 0;
    setrlimit(RLIMIT_CORE, &limit);
    signal(SIGINT, SIG_DFL); /* a shell's background job begins with both ignored */
    signal(SIGQUIT, SIG_DFL);
    alarm(60); /* a case that hangs is killed by it */
    one->run();
    _exit(0);
}

static int run_one(const struct sig_case *one, int number)
{
    int status;
    pid_t pid;

    if ((one->want & 0x80) && !cores_work()) {
        printf("ok %d - %s # SKIP no core files here\n", number, one->name);
        return 0;
    }
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        child(one);
    }
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        printf("ok %d - %s # SKIP\n", number, one->name);
        return 0;
    }
    printf("%sok %d - %s\n", status == (int)one->want ? "" : "not ", number, one->name);
    if (status != (int)one->want) {
        printf("# wait status %#x, expected %#x\n", (unsigned)status, one->want);
    }
    return status != (int)one->want;
}

bool sig_call_covered(const char *name)
{
    Dl_info info;
    void *at = dlsym(RTLD_DEFAULT, name);

    return !getenv("LD_PRELOAD") ||
           (at && dladdr(at, &info) && strstr(info.dli_fname, "userfault"));
}

int main(int argc, char **argv)
{
    static const struct sig_case *const groups[] = {cases_fault, cases_handler, cases_mask,
                                                    cases_sent,  cases_process, cases_wait};
    static char self[PATH_MAX];
    int number = 0, failed = 0;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    sig_program = len > 0 ? self : argv[0];
    if (argc == 2 && strcmp(argv[1], "--state") == 0) {
        return sig_print_state();
    }
    signal(SIGHUP, SIG_DFL); /* nohup(1) has it ignored */
    if (!mkdtemp(scratch) || chdir(scratch)) {
        printf("1..0 # SKIP no scratch folder\n");
        return 77;
    }
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        for (const struct sig_case *one = groups[g]; one->name; one++) {
            if (argc < 2 || strstr(one->name, argv[1])) {
                failed += run_one(one, ++number);
            }
        }
    }
    printf("1..%d\n", number);
    scratch_remove();
    return failed ? 1 : 0;
}
