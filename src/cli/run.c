/* SPDX-License-Identifier: MIT */
/* `userfault run`: options into environment variables, then the program. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "dispatch.h"
#include "launch.h"
#include "program.h"
#include "stats.h"

struct run {
    struct launch launch;
    bool stats;
    const char *stats_file; /* NULL: for people only; "-": standard output */
    FILE *stats_out;
};

enum key {
    KEY_BACKEND = 256,
    KEY_POLICY,
    KEY_DENY_KERNEL,
    KEY_STATS,
    KEY_LOG,
    KEY_VMA_BUDGET,
    KEY_FORCE,
    KEY_DEVICE,
    KEY_TRAP,
    KEY_DEAD_MANAGER,
    KEY_GONE,
};

static const struct argp_option options[] = {
    {"backend", KEY_BACKEND, "NAME", 0,
     "auto (default: the kernel's facility where it is permitted and has what the program asks "
     "for, else ours), kernel or user",
     0},
    {"policy", KEY_POLICY, "NAME", 0,
     "open (default: any user may trap anything) or kernel (the kernel's own rights)", 0},
    {"deny-kernel", KEY_DENY_KERNEL, NULL, 0,
     "Forbid the kernel's facility to the program by a seccomp filter, as containers do", 0},
    {"stats", KEY_STATS, "FILE", OPTION_ARG_OPTIONAL,
     "Print statistics to standard error at the end, and as JSON to FILE (-: standard output)", 0},
    {"log", KEY_LOG, "FILE", 0,
     "Append refusals and their reasons to FILE (-: standard error), one a line", 0},
    {"vma-budget", KEY_VMA_BUDGET, "N", 0,
     "Spell out at most N mappings (default: half of vm.max_map_count)", 0},
    {"force", KEY_FORCE, "LIST", 0,
     "For tests, do without: noguard, nomem, nocachestat, nospin, noscan, noprocmap, nomany, "
     "noadvice, nopatience, nostage, norewrite; "
     "or always: stage",
     0},
    {"trap", KEY_TRAP, "NAME", 0,
     "Which system calls are seen: libc (default: those of libc's functions) or all (also those "
     "that libc makes for itself and those made without it)",
     0},
    {"dead-manager", KEY_DEAD_MANAGER, "NAME", 0,
     "What becomes of those who wait for a manager in another process that dies: zero, sigbus or "
     "wait[:SECONDS] (for a successor, 60 by default, then sigbus)",
     0},
    {"gone", KEY_GONE, "NAME", 0,
     "What a manager is answered when the process of the memory is gone: esrch (default) or enospc "
     "(as before Linux 4.13)",
     0},
    {"device", KEY_DEVICE, "MODE:UID:GID", 0,
     "Mode, owner and group of /dev/userfaultfd (with --policy=kernel)", 0},
    {0},
};

static const char doc[] = "Run PROGRAM on userfaultfd in user space, or on the kernel's.\v"
                          "The exit status and the signal that ends PROGRAM are passed through. "
                          "125: this command failed; 126: PROGRAM cannot be run, or is static, "
                          "set-uid or foreign and is refused; 127: there is no PROGRAM.";

/* ------------------------------------------------------------------ option values */

static void set(const char *name, const char *value)
{
    if (setenv(name, value, 1) != 0) {
        cli_error("%s: %s", name, strerror(errno));
        exit(CLI_EXIT_FAILED);
    }
}

static bool listed(const char *word, size_t len, const char *const *words)
{
    for (; *words; words++)
        if (strlen(*words) == len && strncmp(*words, word, len) == 0)
            return true;
    return false;
}

static void set_one_of(struct argp_state *state, const char *option, const char *variable,
                       const char *const *words, const char *value)
{
    char names[64] = "";

    for (size_t i = 0; words[i]; i++) {
        strcat(names, i == 0 ? "" : words[i + 1] ? ", " : " or ");
        strcat(names, words[i]);
    }
    if (!listed(value, strlen(value), words))
        argp_error(state, "--%s=%s: not %s", option, value, names);
    set(variable, value);
}

static void set_force(struct argp_state *state, const char *list)
{
    static const char *const words[] = {
        "noguard",  "nomem",   "nocachestat", "nospin",     "noscan", "noprocmap", "nomany",
        "noadvice", "nostage", "norewrite",   "nopatience", "stage",  NULL};

    for (const char *word = list;; word++) {
        size_t len = strcspn(word, ",");

        if (!listed(word, len, words))
            argp_error(state, "--force=%s: `%.*s' is not one of the names that --help lists", list,
                       (int)len, word);
        word += len;
        if (*word == '\0')
            break;
    }
    set("USERFAULT_FORCE", list);
}

/* A whole number at the start of a text, at most max. */
static bool number(const char *text, int base, unsigned long max, unsigned long *ret_value,
                   char **ret_end)
{
    if (*text < '0' || *text > '9')
        return false; /* strtoul would take a sign and blanks */
    errno = 0;
    *ret_value = strtoul(text, ret_end, base);
    return errno == 0 && *ret_value <= max;
}

static void set_budget(struct argp_state *state, const char *text)
{
    unsigned long value;
    char *end;

    if (!number(text, 10, INT32_MAX, &value, &end) || *end || value == 0)
        argp_error(state, "--vma-budget=%s: not a number of mappings", text);
    set("USERFAULT_VMA_BUDGET", text);
}

static bool parse_owner(const char *text, unsigned long *ret_uid)
{
    char *end;

    if (number(text, 10, UINT32_MAX - 1, ret_uid, &end) && *end == '\0')
        return true;
    const struct passwd *entry = getpwnam(text);
    if (entry)
        *ret_uid = entry->pw_uid;
    return entry != NULL;
}

static bool parse_group(const char *text, unsigned long *ret_gid)
{
    char *end;

    if (number(text, 10, UINT32_MAX - 1, ret_gid, &end) && *end == '\0')
        return true;
    const struct group *entry = getgrnam(text);
    if (entry)
        *ret_gid = entry->gr_gid;
    return entry != NULL;
}

static void set_device(struct argp_state *state, const char *text)
{
    unsigned long mode = 0, uid = 0, gid = 0;
    char value[64], *end, *copy = strdup(text);
    char *rest = copy, *mode_text = strsep(&rest, ":");
    char *uid_text = strsep(&rest, ":"), *gid_text = rest;

    if (!gid_text || !number(mode_text, 8, 0777, &mode, &end) || *end)
        argp_error(state, "--device=%s: not an octal mode, a user and a group with colons between",
                   text);
    else if (!parse_owner(uid_text, &uid))
        argp_error(state, "--device=%s: there is no user `%s'", text, uid_text);
    else if (!parse_group(gid_text, &gid))
        argp_error(state, "--device=%s: there is no group `%s'", text, gid_text);
    free(copy);
    snprintf(value, sizeof(value), "%04lo:%lu:%lu", mode, uid, gid);
    set("USERFAULT_DEVICE", value);
}

/* The program may be in another folder when one of its processes opens the file, so the path is
 * made absolute; and a file that cannot be written is better known now than never. */
static void set_log(struct argp_state *state, const char *file)
{
    char *path;

    if (strcmp(file, "-") == 0) {
        set("USERFAULT_LOG", file);
        return;
    }
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        argp_failure(state, CLI_EXIT_FAILED, errno, "%s", file);
    close(fd);
    path = realpath(file, NULL);
    if (!path) {
        argp_failure(state, CLI_EXIT_FAILED, errno, "%s", file);
        return;
    }
    set("USERFAULT_LOG", path);
    free(path);
}

static void check_device(struct argp_state *state, const char *device)
{
    const char *policy = getenv("USERFAULT_POLICY");

    if (device && (!policy || strcmp(policy, "kernel") != 0))
        argp_error(state, "--device has a meaning with --policy=kernel only");
}

static void set_trap(struct argp_state *state, const char *name)
{
    static const char *const words[] = {"libc", "all", NULL};

    set_one_of(state, "trap", "USERFAULT_TRAP", words, name);
    if (strcmp(name, "all") == 0 && !DISPATCH_MACHINE)
        argp_failure(state, CLI_EXIT_FAILED, 0, "--trap=all: only x86-64 traps system calls");
    if (strcmp(name, "all") == 0 && !dispatch_works())
        argp_failure(state, CLI_EXIT_FAILED, 0,
                     "--trap=all: the kernel has no syscall user dispatch, which came with "
                     "Linux 5.11 for x86");
}

static void set_dead_manager(struct argp_state *state, const char *text)
{
    unsigned long seconds;
    char *end;

    if (strcmp(text, "zero") != 0 && strcmp(text, "sigbus") != 0 && strcmp(text, "wait") != 0 &&
        (strncmp(text, "wait:", 5) != 0 || !number(text + 5, 10, 1000000, &seconds, &end) || *end))
        argp_error(state, "--dead-manager=%s: not zero, sigbus or wait[:SECONDS]", text);
    set("USERFAULT_DEAD_MANAGER", text);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const backends[] = {"auto", "kernel", "user", NULL};
    static const char *const policies[] = {"open", "kernel", NULL};
    static const char *const gone[] = {"esrch", "enospc", NULL};
    static const char *device;
    struct run *run = state->input;

    switch (key) {
    case KEY_BACKEND:
        set_one_of(state, "backend", "USERFAULT_BACKEND", backends, arg);
        if (strcmp(arg, "user") == 0 && sysconf(_SC_PAGESIZE) != 4096)
            argp_failure(state, CLI_EXIT_FAILED, 0,
                         "--backend=user: ours is for pages of 4096 bytes, here they have %ld",
                         sysconf(_SC_PAGESIZE));
        return 0;
    case KEY_POLICY:
        set_one_of(state, "policy", "USERFAULT_POLICY", policies, arg);
        return 0;
    case KEY_DEAD_MANAGER:
        set_dead_manager(state, arg);
        return 0;
    case KEY_GONE:
        set_one_of(state, "gone", "USERFAULT_GONE", gone, arg);
        return 0;
    case KEY_DENY_KERNEL:
        if (!USERFAULT_SECCOMP)
            argp_failure(state, CLI_EXIT_FAILED, 0, "--deny-kernel: built without libseccomp");
        run->launch.deny_kernel = true;
        return 0;
    case KEY_STATS:
        if (arg && !USERFAULT_JSON)
            argp_failure(state, CLI_EXIT_FAILED, 0, "--stats=FILE: built without jansson");
        if (arg && !*arg)
            argp_error(state, "--stats=: which file?");
        run->stats = true;
        run->stats_file = arg ? arg : run->stats_file;
        return 0;
    case KEY_LOG:
        set_log(state, arg);
        return 0;
    case KEY_VMA_BUDGET:
        set_budget(state, arg);
        return 0;
    case KEY_FORCE:
        set_force(state, arg);
        return 0;
    case KEY_DEVICE:
        device = arg;
        set_device(state, arg);
        return 0;
    case KEY_TRAP:
        set_trap(state, arg);
        return 0;
    case ARGP_KEY_ARG:
        run->launch.argv = state->argv + state->next - 1;
        state->next = state->argc;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which program?");
        return 0;
    case ARGP_KEY_SUCCESS:
        check_device(state, device);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ------------------------------------------------------------------ the program */

/* 0 or the exit status. */
static int find_program(struct run *run)
{
    const char *name = run->launch.argv[0];
    char why[1024];
    char *path;
    int err = program_find(name, &path), refused;

    if (err == -ENOENT || err == -ENOTDIR) {
        cli_error("%s: there is no such program", name);
        return CLI_EXIT_NO_PROGRAM;
    }
    if (err == -EISDIR) {
        cli_error("%s: it is a folder, not a program", name);
        return CLI_EXIT_NO_EXEC;
    }
    if (err != 0) {
        cli_error("%s: %s", name, strerror(-err));
        return CLI_EXIT_NO_EXEC;
    }
    refused = program_refusal(path, why, sizeof(why));
    if (refused) {
        cli_error("%s", why);
        free(path);
        return refused;
    }
    run->launch.path = path;
    return 0;
}

static int set_preload(void)
{
    const char *before = getenv("LD_PRELOAD");
    char *library = NULL, *value;
    int err = preload_find(&library);

    if (err == -EINVAL) {
        cli_error("%s: LD_PRELOAD cannot carry a path with a space or a colon; move it", library);
        return CLI_EXIT_FAILED;
    }
    if (err != 0) {
        cli_error("libuserfault-preload.so is not to be found; set USERFAULT_PRELOAD to its path");
        if (access("/proc/self/exe", F_OK) != 0)
            cli_error("without /proc it is looked for only beside the name this was started by");
        return CLI_EXIT_FAILED;
    }
    size_t len = strlen(library);
    /* Once is enough when a run is started under another. */
    if (before && strncmp(before, library, len) == 0 && strchr(": ", before[len]))
        return 0;
    if (asprintf(&value, "%s%s%s", library, before && *before ? ":" : "", before ? before : "") < 0)
        return CLI_EXIT_FAILED;
    set("LD_PRELOAD", value);
    free(value);
    free(library);
    return 0;
}

static int open_stats_file(struct run *run)
{
    if (!run->stats_file)
        return 0;
    if (strcmp(run->stats_file, "-") == 0) {
        run->stats_out = stdout;
        return 0;
    }
    run->stats_out = fopen(run->stats_file, "we");
    if (run->stats_out)
        return 0;
    cli_error("%s: %s", run->stats_file, strerror(errno));
    return CLI_EXIT_FAILED;
}

static void report(const struct run *run, const struct uf_stats *stats, int status)
{
    int err;

    stats_print(stats, stderr);
    if (!run->stats_out)
        return;
    err = stats_print_json(stats, run->launch.argv, status, run->stats_out);
    if (err != 0)
        cli_error("%s: %s", run->stats_file, strerror(-err));
}

static int run_with_stats(struct run *run)
{
    struct uf_stats *stats;
    char *path;
    int status, failed = open_stats_file(run);

    if (failed != 0)
        return failed;
    int err = stats_create(&stats, &path);
    if (err != 0) {
        cli_error("cannot make the file of statistics: %s", strerror(-err));
        return CLI_EXIT_FAILED;
    }
    set("USERFAULT_STATS", path);
    free(path);
    failed = launch_watch(&run->launch, &status);
    if (failed != 0)
        return failed;
    report(run, stats, status);
    launch_end_as(status);
}

int cli_run(int argc, char **argv)
{
    const struct argp argp = {
        .options = options, .parser = parse, .args_doc = "[--] PROGRAM [ARGUMENT...]", .doc = doc};
    struct run run = {0};

    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &run) != 0)
        return CLI_EXIT_FAILED;
    int failed = find_program(&run);
    if (failed == 0)
        failed = set_preload();
    if (failed != 0)
        return failed;
    return run.stats ? run_with_stats(&run) : launch_exec(&run.launch);
}
