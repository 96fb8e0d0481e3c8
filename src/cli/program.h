/* SPDX-License-Identifier: MIT */
/*
 * Finding the program, and saying beforehand whether a preloaded library would reach it.
 *
 * The dynamic loader leaves LD_PRELOAD aside without a word where it may not honour it, and a
 * static program has no loader at all: such a program would run on the kernel's facility, or on
 * none, while everybody believes it runs on ours.
 */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

#include <stddef.h>

/**
 * program_find() - what execvp(3) would run for a name.
 * @name: with a slash a path, else looked up in PATH
 * @ret_path: receives an allocated path
 *
 * Return: 0; -ENOENT, or -EACCES when only files were found that may not be executed; -EISDIR when
 * the path is a folder.
 */
int program_find(const char *name, char **ret_path);

/**
 * program_refusal() - why the facility cannot reach a program, or who should read a script.
 * @path: what program_find() gave
 * @text: receives one sentence saying why and what to do
 *
 * What cannot be read or judged (a format of binfmt_misc) is given the benefit of the doubt.
 *
 * Return: 0; the exit status to leave with, and @text set, when the program is to be refused.
 */
int program_refusal(const char *path, char *text, size_t text_size);

/**
 * preload_find() - the library to preload.
 * @ret_path: receives an allocated absolute path
 *
 * In this order: USERFAULT_PRELOAD; the build tree around this executable; the library folder it
 * was installed with, moved along with it or not.
 *
 * Return: 0; -ENOENT; -EINVAL when the path has a space or a colon, which LD_PRELOAD cannot carry
 * (@ret_path is set then).
 */
int preload_find(char **ret_path);

/* The folder of this executable, as the kernel knows it, or without /proc as it was started.
 * Allocated; NULL: not to be found. */
char *program_own_folder(void);

#endif
