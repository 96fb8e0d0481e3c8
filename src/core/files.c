/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of the files behind shared mappings: how bytes get in without touching a mapping.
 *
 * The program may have closed its own long ago. /proc/self/map_files gives one to the privileged;
 * for others a look through the open descriptors finds it, or there is none and the area gets an
 * alias mapping instead.
 */
#include <errno.h>

#include "base/fds.h"
#include "base/text.h"
#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"

#define FILES_MAX 256

struct file {
    uint64_t dev, ino;
    int fd; /* 0: free */
    struct paging_file paging;
};

static struct file files[FILES_MAX]; /* under the edit lock */

int files_next_hidden(int fd)
{
    int next = -1;

    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].fd > 0 && files[i].fd >= fd && (next < 0 || files[i].fd < next)) {
            next = files[i].fd;
        }
    }
    return next;
}

static bool is_file(int fd, const struct vma *vma)
{
    struct stat st;
    long flags = sys_fcntl(fd, F_GETFL, 0);

    return !sys_failed(flags) && (flags & O_ACCMODE) == O_RDWR && !(flags & O_PATH) &&
           sys_fstat(fd, &st) == 0 && st.st_dev == vma->dev && st.st_ino == vma->ino;
}

static int open_map_file(const struct vma *vma)
{
    char path[64];
    struct base_text text = base_text_on(path, sizeof path);
    long fd;

    base_text_str(&text, "/proc/self/map_files/");
    base_text_hex(&text, vma->start);
    base_text_str(&text, "-");
    base_text_hex(&text, vma->end);
    fd = sys_open(path, O_RDWR);
    return paging_exhausted(fd) ? -ENOMEM : sys_failed(fd) ? -1 : (int)fd;
}

struct search {
    const struct vma *vma;
    long fd; /* -1: not found yet */
};

static long duplicate_if(int fd, void *arg)
{
    struct search *search = arg;

    if (!is_file(fd, search->vma)) {
        return 0;
    }
    search->fd = sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return 1;
}

/* Look through the program's descriptors for one of the file; the caller gets a duplicate. */
static int find_open(const struct vma *vma)
{
    struct search search = {vma, -1};
    long ret = base_each_fd(duplicate_if, &search);

    if (ret < 0) {
        return paging_exhausted(ret) ? -ENOMEM : -1;
    }
    return search.fd < -1 ? -ENOMEM : (int)search.fd;
}

int files_fd_for(const struct vma *vma, struct paging_file **ret_file)
{
    struct file *slot = NULL;
    int fd;

    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].fd && files[i].dev == vma->dev && files[i].ino == vma->ino) {
            *ret_file = &files[i].paging;
            return files[i].fd;
        }
        if (!files[i].fd && !slot) {
            slot = &files[i];
        }
    }
    if (!slot) {
        return -1;
    }
    fd = open_map_file(vma);
    if (fd == -1) {
        fd = find_open(vma);
    }
    if (fd < 0) {
        return fd;
    }
    paging_file_changed(&slot->paging);
    slot->dev = vma->dev;
    slot->ino = vma->ino;
    slot->fd = paging_keep_fd(fd);
    *ret_file = &slot->paging;
    return slot->fd;
}

void files_changed(uint64_t dev, uint64_t ino)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].fd && files[i].dev == dev && files[i].ino == ino) {
            paging_file_changed(&files[i].paging);
        }
    }
}

int files_evict(int fd)
{
    struct core_guard guard;
    struct range range;
    int moved = -1, ret = 0;

    core_enter(&guard);
    core_edit_lock(guard.tid);
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].fd == fd && fd > 0) {
            moved = paging_move_fd(fd);
            ret = moved < 0 ? moved : 0;
            files[i].fd = moved < 0 ? fd : moved;
        }
    }
    for (uintptr_t at = 0; moved >= 0 && ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        if (range.area.kind != PAGING_ANON && range.area.fd == fd) {
            range.area.fd = moved;
            ranges_replace(range.area.start, range.area.end, &range);
        }
    }
    core_edit_unlock();
    core_leave(&guard);
    return ret;
}

static bool in_use(int fd)
{
    struct range range;

    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        if (range.area.kind != PAGING_ANON && range.area.fd == fd) {
            return true;
        }
    }
    return false;
}

void files_trim(void)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].fd && !in_use(files[i].fd)) {
            sys_close(files[i].fd);
            files[i].fd = 0;
        }
    }
}

void files_fork_child(void)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].fd) {
            sys_close(files[i].fd);
            files[i].fd = 0;
        }
    }
}
