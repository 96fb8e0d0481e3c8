/* SPDX-License-Identifier: MIT */
/*
 * The runner: expands the tables by kind of memory, runs each case in a child under a watchdog,
 * and prints TAP.
 */
#include <dirent.h>
#include <fnmatch.h>
#include <getopt.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "harness.h"
#include "raw.h"

#define WATCHDOG_SECONDS 10  /* times --patience */
#define LARGE_SECONDS    100 /* where huge pages are large, of which each is filled by the host */
#define EXIT_SKIP        77

struct conf_env conf_env = {.patience = 1};
static char *skip_reason; /* shared with the children */

#define REASON_BYTES 256

#ifndef __x86_64__
const struct conf_case raw_cases[] = {{.id = NULL}}; /* raw.c is for x86-64 */
#endif

static const struct conf_case *const tables[] = {
    create_cases,        api_cases,         register_cases,   unregister_cases,  resolve_cases,
    copy_errors_cases,   feature_cases,     syscall_cases,    read_cases,        poll_cases,
    descriptor_cases,    madvise_cases,     populate_cases,   border_cases,      mapping_cases,
    remap_cases,         file_cases,        signal_cases,     signal_wait_cases, sigmask_cases,
    fork_cases,          clone_cases,       bad_input_cases,  bad_waits_cases,   bulk_cases,
    stress_cases,        wp_cases,          minor_cases,      poison_cases,      mapped_cases,
    async_cases,         call_data_cases,   call_file_cases,  call_system_cases, raw_cases,
    sigsys_cases,        rwp_cases,         accessed_cases,   fdinfo_cases,      call_kernel_cases,
    call_newer_cases,    call_ioctl_cases,  call_futex_cases, call_space_cases,  call_answers_cases,
    call_unmapped_cases, move_cases,        move_bulk_cases,  huge_cases,        huge_parts_cases,
    asynchronous_cases,  frames_cases,      thp_cases,        thp_file_cases,    collapse_cases,
    remote_cases,        remote_edge_cases, events_cases,     event_wait_cases,  event_remap_cases,
    event_random_cases,  acked_cases,       death_cases,      nested_cases,      fork_event_cases,
    fork_wait_cases,     fork_remote_cases, scan_cases,       call_rest_cases,   fork_ours_cases,
    watched_cases,       remote_gone_cases, crowd_cases,      copied_cases,      rows_cases,
    remote_pidns_cases,  stopped_cases,     stream_cases,     polled_cases,      frozen_cases,
};

void case_fail(const char *file, int line, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    const char *base = strrchr(file, '/');
    dprintf(STDOUT_FILENO, "# %s:%d: %s\n", base ? base + 1 : file, line, text);
    _exit(1);
}

void case_skip(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(skip_reason, REASON_BYTES, format, args);
    va_end(args);
    _exit(EXIT_SKIP);
}

/* ------------------------------------------------------------------ one case */

static bool forced_off(const char *name)
{
    const char *forced = getenv("USERFAULT_FORCE");

    return conf_env.user_backend && forced && strstr(forced, name);
}

/* Whether our facility may use it: the kernel has it, and it was not forced off. */
static bool cachestat_works(void)
{
    return !forced_off("nocachestat") &&
           (syscall(451 /* SYS_cachestat */, -1, NULL, NULL, 0) != -1 || errno != ENOSYS);
}

/* The kernel itself is asked: what ours makes of the call is what the cases are for. */
static bool populate_works(void)
{
    return !forced_off("noadvice") && RAW(SYS_madvise, 0, 0, 22 /* MADV_POPULATE_READ */) == 0;
}

bool conf_trapped(void)
{
    const char *trap = getenv("USERFAULT_TRAP");

    return trap && strcmp(trap, "all") == 0;
}

static void check_needs(const struct conf_case *c, enum mem_kind kind)
{
    if ((c->needs & NEED_ROOT) && geteuid() != 0)
        case_skip("needs root");
    if ((c->needs & NEED_FULL) && !conf_env.full_mode)
        case_skip("needs vm.unprivileged_userfaultfd=1 or CAP_SYS_PTRACE");
    if ((c->needs & NEED_KERNEL) && conf_env.user_backend)
        case_skip("states what only the kernel's facility does");
    if ((c->needs & NEED_OURS) && !conf_env.user_backend)
        case_skip("states what the kernel's facility does not always do");
    if ((c->needs & NEED_CACHESTAT) && conf_env.user_backend && !cachestat_works())
        case_skip("needs cachestat to know what a file holds, see userfault(7)");
    if ((c->needs & NEED_POPULATE) && !populate_works())
        case_skip("needs MADV_POPULATE_READ and _WRITE, of Linux 5.14");
    if ((c->needs & NEED_ALL_CALLS) && conf_env.user_backend && !conf_trapped())
        case_skip("needs --trap=all");
    if ((c->needs & NEED_HASTE) && conf_env.user_backend && !forced_off("nopatience"))
        case_skip("needs USERFAULT_FORCE=nopatience, or waits for ten seconds");
    if ((c->features & conf_env.features) != c->features)
        case_skip("needs features 0x%llx, 0x%llx are announced", (unsigned long long)c->features,
                  (unsigned long long)conf_env.features);
    if (mem_kind_huge(kind) && !(conf_env.features & UF_FEATURE_MISSING_HUGETLBFS))
        case_skip("huge pages are not announced");
    if (c->needs & NEED_DEVICE) {
        int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        /* The kernel may lack the device or keep it to itself; ours is always there. */
        if (fd == -1 && (errno != ENOENT || !conf_env.user_backend))
            case_skip("/dev/userfaultfd: %s", strerror(errno));
        close(fd);
    }
}

_Noreturn static void run_case(const struct conf_case *c, enum mem_kind kind)
{
    struct rlimit no_core = {0, 0};

    setpgid(0, 0);
    pool_forget();
    setrlimit(RLIMIT_CORE, &no_core);
    check_needs(c, kind);
    if (mem_kind_huge(kind))
        page_size = conf_env.huge_page;
    c->run(kind);
    _exit(0);
}

static void print_threads(pid_t pid);

/* A file of a thread's, as one line. */
static void read_line(pid_t pid, const char *tid, const char *name, char *ret, size_t room)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task/%.12s/%s", pid, tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, ret, room - 1);
    close(fd);
    ret[n > 0 ? n : 0] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
}

static void print_thread(pid_t pid, const char *tid)
{
    char line[256], *at = line, *end;

    read_line(pid, tid, "syscall", line, sizeof(line));
    dprintf(STDOUT_FILENO, "#   thread %s of %d: system call %s\n", tid, pid, line);
    read_line(pid, tid, "children", line, sizeof(line));
    for (long child; (child = strtol(at, &end, 10)) > 0; at = end)
        print_threads((pid_t)child);
}

/* Where every thread of a case that hangs stands, and of its children. */
static void print_threads(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] != '.')
            print_thread(pid, entry->d_name);
    }
    if (dir)
        closedir(dir);
}

/* Returns the wait status; *ret_hung tells of a case that the watchdog ended. */
static int await_case(pid_t pid, unsigned seconds, bool *ret_hung)
{
    int status = 0, pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    int ready = 1;

    if (pidfd != -1) {
        do {
            ready = poll(&poll_fd, 1, (int)seconds * 1000);
        } while (ready == -1 && errno == EINTR);
        close(pidfd);
    }
    *ret_hung = ready == 0;
    if (*ret_hung)
        print_threads(pid);
    kill(-pid, SIGKILL); /* also what the case has left behind */
    kill(pid, *ret_hung ? SIGKILL : 0);
    while (waitpid(pid, &status, 0) == -1 && errno == EINTR) {
    }
    return status;
}

enum verdict { PASS, FAIL, SKIP, VERDICTS };

/* A known difference fails when it is none any more. */
static enum verdict verdict_of(bool passed, bool skipped, bool differs)
{
    return skipped ? SKIP : passed != differs ? PASS : FAIL;
}

/* Until all that has the other end of the pipe has given its memory back, as it ends. */
static void await_gone(int fd)
{
    struct pollfd poll_fd = {.fd = fd};

    if (fd != -1)
        poll(&poll_fd, 1, WATCHDOG_SECONDS * 1000);
    close(fd);
}

/* Returns the wait status. */
static int run_once(const struct conf_case *c, enum mem_kind kind)
{
    const bool large = mem_kind_huge(kind) && mem_huge_size();
    const unsigned usual = large ? LARGE_SECONDS : WATCHDOG_SECONDS;
    const unsigned seconds = (c->seconds > usual ? c->seconds : usual) * conf_env.patience;
    int gone[2] = {-1, -1};
    bool hung;

    skip_reason[0] = '\0';
    /* Large pages are few: the next case needs what children of this one have. */
    if (large && pipe2(gone, O_CLOEXEC) != 0)
        gone[0] = gone[1] = -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(gone[0]);
        run_case(c, kind);
    }
    close(gone[1]);
    if (pid > 0)
        setpgid(pid, pid); /* whoever comes first: a hang must be killable at once */
    int status = await_case(pid, seconds, &hung);

    await_gone(gone[0]);
    if (hung)
        printf("# hung for %u s\n", seconds);
    else if (WIFSIGNALED(status))
        printf("# killed by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    return hung ? SIGKILL : status;
}

/*
 * Huge pages are the system's: taken for the time of a case. Large ones are for the time of the
 * run, since a host that has taken back what was free needs seconds to bring in one of them.
 */
static long large_pages = 3;

static const char *take_huge_pages(void)
{
    static const char *refused = "";

    if (!mem_huge_size())
        return pool_take(conf_env.huge_page, POOL_PAGES, true);
    if (refused && !*refused)
        refused = pool_take(conf_env.huge_page, large_pages, true);
    return refused;
}

static int run_times(const struct conf_case *c, enum mem_kind kind, unsigned times)
{
    const char *refused = mem_kind_huge(kind) ? take_huge_pages() : NULL;
    int status = 0;

    if (refused) {
        snprintf(skip_reason, REASON_BYTES, "%s", refused);
        return EXIT_SKIP << 8;
    }
    for (unsigned i = 0; i < times && status == 0; i++) {
        status = run_once(c, kind);
        if (status != 0 && i > 0)
            printf("# in round %u of %u\n", i + 1, times);
    }
    if (mem_kind_huge(kind) && !mem_huge_size())
        pool_give_back();
    return status;
}

static enum verdict run_and_report(const struct conf_case *c, enum mem_kind kind, const char *id,
                                   unsigned number, unsigned times)
{
    int status = run_times(c, kind, times);
    bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP;
    bool passed = skipped || status == 0;
    bool differs = c->differs && conf_env.user_backend;
    printf("%s %u - %s (%s)", passed ? "ok" : "not ok", number, id, c->source);
    if (skipped)
        printf(" # SKIP %s", skip_reason);
    else if (differs)
        printf(" # TODO known difference: %s", c->differs);
    printf("\n");
    fflush(stdout);
    return verdict_of(passed, skipped, differs);
}

/* ------------------------------------------------------------------ all cases */

struct plan {
    const char *glob;
    const char *named; /* ids, one a line; NULL: all */
    bool list;
    unsigned times; /* each of them so often, until it fails */
    unsigned count; /* cases that match */
    unsigned verdicts[VERDICTS];
};

static const char *read_named(const char *path)
{
    char *text = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "re");

    if (!file || getdelim(&text, &room, '\0', file) == -1) {
        perror(path);
        exit(2);
    }
    fclose(file);
    return text;
}

static bool is_named(const char *text, const char *id)
{
    char line[132];
    int len = snprintf(line, sizeof(line), "\n%s\n", id) - 1;

    return strstr(text, line) || strncmp(text, line + 1, (size_t)len) == 0;
}

static void visit(const struct conf_case *c, enum mem_kind kind, struct plan *plan, bool run)
{
    char id[128];

    snprintf(id, sizeof(id), kind == MEM_NONE ? "%s" : "%s:%s", c->id, mem_kind_name(kind));
    if (plan->glob && fnmatch(plan->glob, id, 0) != 0)
        return;
    if (plan->named && !is_named(plan->named, id))
        return;
    plan->count++;
    if (plan->list)
        printf("%-48s %s\n", id, c->source);
    else if (run)
        plan->verdicts[run_and_report(c, kind, id, plan->count, plan->times)]++;
}

static void visit_all(struct plan *plan, bool run)
{
    plan->count = 0;
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
        for (const struct conf_case *c = tables[t]; c->id; c++) {
            if (c->kinds == 0)
                visit(c, MEM_NONE, plan, run);
            for (int kind = MEM_ANON; kind < MEM_KINDS; kind++)
                if (c->kinds & KIND(kind))
                    visit(c, (enum mem_kind)kind, plan, run);
        }
}

/* In a child, since a context in this process would be inherited by every case. */
static void probe_env(void)
{
    struct conf_env *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();

    if (pid == 0) {
        char path[64], link[64] = "";
        int fd = uffd_create(O_CLOEXEC);
        shared->full_mode = fd != -1;
        if (fd == -1)
            fd = uffd_create(O_CLOEXEC | UF_USER_MODE_ONLY);
        if (fd == -1)
            _exit(errno);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, link, sizeof(link) - 1);
        shared->user_backend = n <= 0 || strcmp(link, "anon_inode:[userfaultfd]") != 0;
        struct uf_io_api api = {.api = UF_API};
        if (ioctl(fd, UF_IO_API, &api) == 0)
            shared->features = api.features;
        _exit(0);
    }
    int status = child_wait(pid);
    shared->self = conf_env.self;
    shared->huge_page = conf_env.huge_page;
    shared->patience = conf_env.patience;
    conf_env = *shared;
    munmap(shared, sizeof(*shared));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (WIFSIGNALED(status))
        printf("Bail out! creating a context died with signal %d\n", WTERMSIG(status));
    else
        printf("1..0 # SKIP no userfaultfd here: %s\n", strerror(WEXITSTATUS(status)));
    exit(WIFSIGNALED(status) ? 1 : 0);
}

static void check_backend(const char *expected)
{
    const char *found = conf_env.user_backend ? "user" : "kernel";

    printf("# backend %s, features 0x%llx, %s\n", found, (unsigned long long)conf_env.features,
           conf_env.full_mode ? "full mode permitted" : "USER_MODE_ONLY");
    if (expected && strcmp(expected, found) != 0) {
        printf("Bail out! the %s backend was expected\n", expected);
        exit(1);
    }
}

static const struct option options[] = {
    {"list", no_argument, NULL, 'l'},
    {"filter", required_argument, NULL, 'f'},
    {"named", required_argument, NULL, 'n'},
    {"repeat", required_argument, NULL, 'r'},
    {"expect-backend", required_argument, NULL, 'b'},
    {"huge-page", required_argument, NULL, 'p'},
    {"patience", required_argument, NULL, 't'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void usage(FILE *to)
{
    fputs("usage: conformance [-l] [-f GLOB] [-n FILE] [-r N] [--huge-page=BYTES[:N]]\n"
          "                   [--expect-backend=user|kernel] [--patience=N]\n"
          "  -l, --list            print the cases and where each statement comes from\n"
          "  -f, --filter=GLOB     only the cases whose id matches\n"
          "  -n, --named=FILE      only the cases whose ids stand in it, one a line\n"
          "  -r, --repeat=N        each case N times, until it fails\n"
          "      --huge-page=BYTES[:N]  cases of huge pages run with N pages of this size\n"
          "      --expect-backend  fail unless this facility answers\n"
          "      --patience=N      N times as long before a case counts as hung; for an emulator\n",
          to);
}

/* BYTES[:COUNT] */
static void parse_huge_page(const char *text)
{
    char *rest;

    conf_env.huge_page = strtoul(text, &rest, 0);
    if (*rest == ':')
        large_pages = strtol(rest + 1, NULL, 0);
}

/*
 * Where every mapping may have transparent huge pages, a touch brings in what its neighbours expect
 * to be missing: cases of such pages ask for them.
 */
static void keep_pages_small(void)
{
    char modes[64] = "";
    int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);

    if (fd != -1 && read(fd, modes, sizeof(modes) - 1) > 0 && strstr(modes, "[always]"))
        prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    close(fd);
}

int main(int argc, char **argv)
{
    struct plan plan = {.times = 1};
    const char *expected = NULL;
    int opt;

    page_size = small_page();
    conf_env.huge_page = pool_page_size();
    if (argc > 2 && strcmp(argv[1], "--helper") == 0)
        return helper_main(argv[2], argc - 3, argv + 3);
    while ((opt = getopt_long(argc, argv, "lf:n:r:h", options, NULL)) != -1) {
        if (opt == 'l')
            plan.list = true;
        else if (opt == 'f')
            plan.glob = optarg;
        else if (opt == 'n')
            plan.named = read_named(optarg);
        else if (opt == 'r')
            plan.times = (unsigned)strtoul(optarg, NULL, 10);
        else if (opt == 'b')
            expected = optarg;
        else if (opt == 'p')
            parse_huge_page(optarg);
        else if (opt == 't' && atoi(optarg) > 0)
            conf_env.patience = (unsigned)atoi(optarg);
        else {
            usage(opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
    }
    if (plan.list) {
        visit_all(&plan, false);
        return 0;
    }
    conf_env.self = realpath("/proc/self/exe", NULL);
    skip_reason =
        mmap(NULL, REASON_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    keep_pages_small();
    probe_env();
    check_backend(expected);
    visit_all(&plan, false);
    printf("1..%u\n", plan.count);
    fflush(stdout);
    visit_all(&plan, true);
    pool_give_back();
    printf("# %u passed, %u failed, %u skipped\n", plan.verdicts[PASS], plan.verdicts[FAIL],
           plan.verdicts[SKIP]);
    return plan.verdicts[FAIL] ? 1 : 0;
}
