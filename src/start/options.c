/* SPDX-License-Identifier: MIT */
/*
 * The environment's options. A program that runs with more rights than its caller (set-uid) may
 * have linked the library: of the caller's environment it must not even open a log.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/stats.h"
#include "base/text.h"
#include "options.h"
#include "paging/area.h"
#include "start/start.h"
#include "sys/file.h"
#include "sys/mem.h"

/* What is set to nothing is not set. */
static const char *variable(const char *name)
{
    const char *value = secure_getenv(name);

    return value && *value ? value : NULL;
}

static bool is(const char *value, const char *word)
{
    return value && strcmp(value, word) == 0;
}

enum core_backend start_backend(void)
{
    const char *value = variable("USERFAULT_BACKEND");

    return is(value, "kernel") ? CORE_KERNEL : is(value, "user") ? CORE_USER : CORE_AUTO;
}

bool start_trap(void)
{
    return is(variable("USERFAULT_TRAP"), "all");
}

/* Whether a comma-separated list holds the word. */
static bool in_list(const char *list, const char *word)
{
    size_t len = strlen(word);

    while (list && *list) {
        if (strncmp(list, word, len) == 0 && (list[len] == ',' || list[len] == '\0')) {
            return true;
        }
        list = strchr(list, ',');
        list = list ? list + 1 : NULL;
    }
    return false;
}

static struct uf_stats *map_stats(void)
{
    const char *path = secure_getenv("USERFAULT_STATS");
    struct uf_stats *stats;
    long fd, map;

    if (!path) {
        return NULL;
    }
    fd = sys_open(path, O_RDWR);
    if (sys_failed(fd)) {
        return NULL;
    }
    map = sys_mmap(0, sizeof *stats, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    sys_close((int)fd);
    stats = (struct uf_stats *)map;
    return sys_failed(map) || stats->magic != UF_STATS_MAGIC ? NULL : stats;
}

static int open_log(void)
{
    const char *path = secure_getenv("USERFAULT_LOG");
    long fd;

    if (!path) {
        return -1;
    }
    fd = strcmp(path, "-") == 0 ? sys_fcntl(2, F_DUPFD_CLOEXEC, 3)
                                : sys_call(SYS_openat, AT_FDCWD, path,
                                           O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return sys_failed(fd) ? -1 : paging_keep_fd((int)fd);
}

/* A number without a sign or blanks, and the text behind it. */
static bool number_at(const char **at, int base, unsigned long max, uint32_t *ret)
{
    unsigned long value;
    char *end;

    if (**at < '0' || **at > '9') {
        return false;
    }
    value = strtoul(*at, &end, base);
    *at = end;
    *ret = (uint32_t)value;
    return value <= max;
}

static bool colon_at(const char **at)
{
    return *(*at)++ == ':';
}

/* zero, sigbus or wait[:SECONDS]. */
static bool death_option(struct core_options *options)
{
    const char *at = variable("USERFAULT_DEAD_MANAGER");
    uint32_t seconds = 60;
    bool waits = at && strncmp(at, "wait", 4) == 0;

    if (!at) {
        return true;
    }
    if (waits && at[4] == ':') {
        at += 5;
        waits = number_at(&at, 10, 1000000, &seconds) && !*at;
    } else {
        waits = waits && !at[4];
    }
    if (!waits && !is(at, "zero") && !is(at, "sigbus")) {
        return false;
    }
    options->death_mode = is(at, "zero") ? UF_DEATH_MODE_ZERO : UF_DEATH_MODE_SIGBUS;
    options->death_timeout_ms = waits ? seconds * 1000 : 0;
    return true;
}

/* MODE:UID:GID. What cannot be read permits nobody. */
static bool device_option(struct core_options *options)
{
    const char *at = variable("USERFAULT_DEVICE");

    options->device_mode = 0600;
    if (!at || (number_at(&at, 8, 0777, &options->device_mode) && colon_at(&at) &&
                number_at(&at, 10, UINT32_MAX - 1, &options->device_uid) && colon_at(&at) &&
                number_at(&at, 10, UINT32_MAX - 1, &options->device_gid) && !*at)) {
        return true;
    }
    options->device_mode = options->device_uid = options->device_gid = 0;
    return false;
}

/* ---- values that the launcher would have refused */

/* On standard error and in the log. Whoever runs the program has written it by hand. */
static void complain(int log_fd, const char *name, const char *instead)
{
    char line[512];
    struct base_text text = base_text_on(line, sizeof line);

    base_text_str(&text, "userfault: ");
    base_text_str(&text, name);
    base_text_str(&text, "=");
    base_text_str(&text, secure_getenv(name));
    base_text_str(&text, ": ");
    base_text_str(&text, instead);
    base_text_str(&text, "\n");
    sys_write(2, line, text.len);
    if (log_fd >= 0 && !is(secure_getenv("USERFAULT_LOG"), "-")) {
        sys_write(log_fd, line, text.len);
    }
}

static bool one_of(const char *value, const char *a, const char *b, const char *c)
{
    return !value || is(value, a) || is(value, b) || is(value, c);
}

static bool budget_readable(const char *value)
{
    uint32_t number = 0;

    return !value || (number_at(&value, 10, INT32_MAX, &number) && !*value && number);
}

static void check_values(const struct core_options *options, bool device, bool death)
{
    int log = options->log_fd;

    if (!one_of(variable("USERFAULT_BACKEND"), "auto", "kernel", "user")) {
        complain(log, "USERFAULT_BACKEND", "not auto, kernel or user; taken for auto");
    }
    if (!one_of(variable("USERFAULT_POLICY"), "open", "kernel", "kernel")) {
        complain(log, "USERFAULT_POLICY", "not open or kernel; taken for kernel");
    }
    if (!one_of(variable("USERFAULT_TRAP"), "libc", "all", "all")) {
        complain(log, "USERFAULT_TRAP", "not libc or all; taken for libc");
    }
    if (!budget_readable(variable("USERFAULT_VMA_BUDGET"))) {
        complain(log, "USERFAULT_VMA_BUDGET", "not a number of mappings; left aside");
    }
    if (!death) {
        complain(log, "USERFAULT_DEAD_MANAGER", "not zero, sigbus or wait[:SECONDS]; left aside");
    }
    if (!one_of(variable("USERFAULT_GONE"), "esrch", "enospc", "enospc")) {
        complain(log, "USERFAULT_GONE", "not esrch or enospc; taken for esrch");
    }
    if (!device) {
        complain(log, "USERFAULT_DEVICE", "not MODE:UID:GID in numbers; taken for 0000:0:0");
    }
}

bool start_trap_rewrites(void)
{
    return !in_list(secure_getenv("USERFAULT_FORCE"), "norewrite");
}

void options_read(struct core_options *ret)
{
    const char *force = secure_getenv("USERFAULT_FORCE");
    const char *policy = variable("USERFAULT_POLICY");
    const char *budget = variable("USERFAULT_VMA_BUDGET");
    bool device;

    *ret = (struct core_options){
        .backend = start_backend(),
        .policy_kernel = policy && !is(policy, "open"),
        .nospin = in_list(force, "nospin"),
        .nopatience = in_list(force, "nopatience"),
        .noguard = in_list(force, "noguard"),
        .nomem = in_list(force, "nomem"),
        .nocachestat = in_list(force, "nocachestat"),
        .noscan = in_list(force, "noscan"),
        .noprocmap = in_list(force, "noprocmap"),
        .nomany = in_list(force, "nomany"),
        .noadvice = in_list(force, "noadvice"),
        .stage = in_list(force, "stage"),
        .nostage = in_list(force, "nostage"),
        .page_bytes = sysconf(_SC_PAGESIZE),
        .budget = budget && budget_readable(budget) ? strtol(budget, NULL, 10) : 0,
        .gone_nospace = is(variable("USERFAULT_GONE"), "enospc"),
        .log_fd = open_log(),
        .stats = map_stats(),
    };
    device = device_option(ret);
    check_values(ret, device, death_option(ret));
}
