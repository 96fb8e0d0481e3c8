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
#include "options.h"
#include "paging/area.h"
#include "start/start.h"
#include "sys/file.h"
#include "sys/mem.h"

enum core_backend start_backend(void)
{
    const char *value = secure_getenv("USERFAULT_BACKEND");

    if (value && strcmp(value, "kernel") == 0) {
        return CORE_KERNEL;
    }
    return value && strcmp(value, "user") == 0 ? CORE_USER : CORE_AUTO;
}

bool start_trap(void)
{
    const char *value = secure_getenv("USERFAULT_TRAP");

    return value && strcmp(value, "all") == 0;
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

static void device_option(struct core_options *options)
{
    const char *value = secure_getenv("USERFAULT_DEVICE");
    char *at;

    options->device_mode = 0600;
    if (value) {
        options->device_mode = (uint32_t)strtoul(value, &at, 8);
        options->device_uid = *at ? (uint32_t)strtoul(at + 1, &at, 10) : 0;
        options->device_gid = *at ? (uint32_t)strtoul(at + 1, &at, 10) : 0;
    }
}

bool start_trap_rewrites(void)
{
    return !in_list(secure_getenv("USERFAULT_FORCE"), "norewrite");
}

void options_read(struct core_options *ret)
{
    const char *force = secure_getenv("USERFAULT_FORCE");
    const char *policy = secure_getenv("USERFAULT_POLICY");
    const char *budget = secure_getenv("USERFAULT_VMA_BUDGET");

    *ret = (struct core_options){
        .backend = start_backend(),
        .policy_kernel = policy && strcmp(policy, "kernel") == 0,
        .nospin = in_list(force, "nospin"),
        .noguard = in_list(force, "noguard"),
        .nomem = in_list(force, "nomem"),
        .nocachestat = in_list(force, "nocachestat"),
        .noscan = in_list(force, "noscan"),
        .noprocmap = in_list(force, "noprocmap"),
        .stage = in_list(force, "stage"),
        .nostage = in_list(force, "nostage"),
        .page_bytes = sysconf(_SC_PAGESIZE),
        .budget = budget ? strtol(budget, NULL, 10) : 0,
        .log_fd = open_log(),
        .stats = map_stats(),
    };

    device_option(ret);
}
