/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli.h"
#include "program.h"

#define SCRIPT_DEPTH 5   /* as many interpreters of interpreters as the kernel follows */
#define HEAD_SIZE    256 /* of a script, what the kernel looks at */

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#elif defined(__riscv)
#define MACHINE EM_RISCV
#else
#define MACHINE EM_NONE
#endif

/* ------------------------------------------------------------------ PATH */

static int program_try(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!S_ISREG(st.st_mode) || access(path, X_OK) != 0)
        return -EACCES;
    return 0;
}

static int program_search(const char *name, char *folders, char **ret_path)
{
    int result = -ENOENT;
    char *folder;

    while ((folder = strsep(&folders, ":"))) {
        char *path;

        /* An empty entry is the current folder. */
        if (asprintf(&path, "%s/%s", *folder ? folder : ".", name) < 0)
            return -ENOMEM;
        int err = program_try(path);
        if (err == 0) {
            *ret_path = path;
            return 0;
        }
        free(path);
        if (err == -EACCES || err == -EISDIR)
            result = -EACCES; /* as execvp(3) */
    }
    return result;
}

int program_find(const char *name, char **ret_path)
{
    const char *env = getenv("PATH");
    char *folders;
    int err;

    if (*name == '\0')
        return -ENOENT;
    if (strchr(name, '/')) {
        err = program_try(name);
        if (err != 0)
            return err;
        *ret_path = strdup(name);
        return *ret_path ? 0 : -ENOMEM;
    }
    folders = strdup(env ? env : "/bin:/usr/bin");
    if (!folders)
        return -ENOMEM;
    err = program_search(name, folders, ret_path);
    free(folders);
    return err;
}

/* ------------------------------------------------------------------ ELF */

static int find_own_loader(struct dl_phdr_info *info, size_t size, void *data)
{
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_INTERP)
            *(const char **)data = (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    return 1; /* the first object is the executable itself */
}

/* The loader of this very executable: the one that a program must have for the library, which was
 * built with it, to fit in. */
static const char *own_loader(void)
{
    static const char *loader; /* static only because gcc 12 sees a dangling pointer else */

    dl_iterate_phdr(find_own_loader, &loader);
    return loader;
}

static bool same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

/* Loaders are told apart by their file name: each C library and architecture has its own. */
static bool same_loader(const char *a, const char *b)
{
    const char *name_a = strrchr(a, '/'), *name_b = strrchr(b, '/');

    return strcmp(name_a ? name_a + 1 : a, name_b ? name_b + 1 : b) == 0;
}

/* The program's own loader; empty if it has none. -1: unreadable. */
static int elf_loader(int fd, const Elf64_Ehdr *header, char *loader, size_t size)
{
    loader[0] = '\0';
    for (unsigned i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        off_t at = (off_t)(header->e_phoff + (uint64_t)i * header->e_phentsize);

        if (pread(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment))
            return -1;
        if (segment.p_type != PT_INTERP)
            continue;
        size_t len = segment.p_filesz < size - 1 ? segment.p_filesz : size - 1;
        if (pread(fd, loader, len, (off_t)segment.p_offset) != (ssize_t)len)
            return -1;
        loader[len] = '\0';
        return 0;
    }
    return 0;
}

static int elf_refusal(const char *path, int fd, const Elf64_Ehdr *header, char *text, size_t size)
{
    char loader[256];
    const char *own = own_loader();

    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != MACHINE) {
        snprintf(text, size,
                 "%s is built for another architecture than this userfault: "
                 "use a userfault built for it",
                 path);
        return CLI_EXIT_NO_EXEC;
    }
    if (elf_loader(fd, header, loader, sizeof(loader)) != 0)
        return 0;
    if (loader[0] == '\0') {
        if (own && same_file(path, own))
            return 0; /* the loader itself, started by hand, does preload */
        snprintf(text, size,
                 "%s is statically linked, so no library can be preloaded into it: "
                 "link it dynamically, or link it with libuserfault",
                 path);
        return CLI_EXIT_NO_EXEC;
    }
    if (own && !same_loader(loader, own)) {
        snprintf(text, size,
                 "%s is loaded by %s, the library to preload by %s: "
                 "use a userfault built for that C library",
                 path, loader, own);
        return CLI_EXIT_NO_EXEC;
    }
    return 0;
}

/* The loader ignores LD_PRELOAD in a program that gains rights. When root starts it none are
 * gained, but the answer shall not depend on who asks. */
static int rights_refusal(const char *path, int fd, char *text, size_t size)
{
    const char *kind = NULL;
    struct stat st;

    if (fstat(fd, &st) != 0)
        return 0;
    if (st.st_mode & S_ISUID)
        kind = "set-uid";
    else if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP))
        kind = "set-gid";
    else if (fgetxattr(fd, "security.capability", NULL, 0) > 0)
        kind = "given file capabilities";
    if (!kind)
        return 0;
    snprintf(text, size,
             "%s is %s, and the loader preloads no library into a program that gains rights: "
             "run a plain copy of it with the rights it needs",
             path, kind);
    return CLI_EXIT_NO_EXEC;
}

/* ------------------------------------------------------------------ scripts */

/* Cuts the interpreter out of a script's first line; NULL when there is none. */
static char *script_interpreter(char *head)
{
    char *start = head + 2 + strspn(head + 2, " \t");

    start[strcspn(start, " \t\r\n")] = '\0';
    return *start ? start : NULL;
}

static int refusal_at(const char *path, int depth, char *text, size_t size);

static int interpreter_refusal(const char *script, const char *interpreter, int depth, char *text,
                               size_t size)
{
    int used;

    if (access(interpreter, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        snprintf(text, size, "%s is a script, and there is no interpreter %s", script, interpreter);
        return CLI_EXIT_NO_PROGRAM;
    }
    used = snprintf(text, size, "%s is a script, and its interpreter ", script);
    if (used < 0 || (size_t)used >= size)
        used = 0;
    return refusal_at(interpreter, depth + 1, text + used, size - (size_t)used);
}

static int refusal_at(const char *path, int depth, char *text, size_t size)
{
    union {
        char text[HEAD_SIZE + 1];
        Elf64_Ehdr elf;
    } head;
    int refused = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    memset(&head, 0, sizeof(head));
    ssize_t got = pread(fd, head.text, HEAD_SIZE, 0);
    if (got >= (ssize_t)sizeof(Elf64_Ehdr) && memcmp(head.text, ELFMAG, SELFMAG) == 0) {
        refused = rights_refusal(path, fd, text, size);
        if (!refused)
            refused = elf_refusal(path, fd, &head.elf, text, size);
    } else if (got > 2 && memcmp(head.text, "#!", 2) == 0 && depth < SCRIPT_DEPTH) {
        const char *interpreter = script_interpreter(head.text);

        if (interpreter)
            refused = interpreter_refusal(path, interpreter, depth, text, size);
    }
    close(fd);
    return refused;
}

int program_refusal(const char *path, char *text, size_t text_size)
{
    return refusal_at(path, 0, text, text_size);
}

/* ------------------------------------------------------------------ the library */

/* Absolute, since the program may change its folder before it starts another. */
static int preload_try(const char *format, const char *folder, char **ret_path)
{
    char *path = NULL;

    if (asprintf(&path, format, folder) < 0)
        return -ENOMEM;
    char *absolute = access(path, R_OK) == 0 ? realpath(path, NULL) : NULL;
    free(path);
    if (!absolute)
        return -ENOENT;
    *ret_path = absolute;
    return strpbrk(absolute, " :") ? -EINVAL : 0;
}

char *program_own_folder(void)
{
    char exe[4096];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *path;

    if (len > 0) {
        exe[len] = '\0';
        path = strdup(exe);
    } else {
        path = realpath((const char *)getauxval(AT_EXECFN), NULL);
    }
    char *slash = path ? strrchr(path, '/') : NULL;
    if (slash)
        *slash = '\0';
    return path;
}

int preload_find(char **ret_path)
{
    static const char *const places[] = {
        "%s/libuserfault-preload.so",
        "%s/src/preload/libuserfault-preload.so",
        "%s/src/libuserfault-preload.so",
        "%s/../" USERFAULT_LIBDIR "/libuserfault-preload.so",
    };
    const char *env = getenv("USERFAULT_PRELOAD");
    char *folder;
    int err = -ENOENT;

    if (env && *env)
        return preload_try("%s", env, ret_path);
    folder = program_own_folder();
    for (size_t i = 0; folder && err == -ENOENT && i < sizeof(places) / sizeof(places[0]); i++)
        err = preload_try(places[i], folder, ret_path);
    free(folder);
    return err == -ENOENT
               ? preload_try("%s/libuserfault-preload.so", USERFAULT_LIBRARY_FOLDER, ret_path)
               : err;
}
