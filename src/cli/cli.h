/* SPDX-License-Identifier: MIT */
/*
 * What the files of the command share: its subcommands, its exit statuses and its voice.
 *
 * A subcommand is a function with the arguments of main(), called with argv[0] being
 * "userfault NAME"; what it returns is the exit status.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/* Those of env(1), nohup(1) and timeout(1), so that a caller can tell the launcher's own failures
 * from the program's. */
#define CLI_EXIT_FAILED     125 /* the launcher failed before it came to the program */
#define CLI_EXIT_NO_EXEC    126 /* the program was found but cannot be run, or is refused */
#define CLI_EXIT_NO_PROGRAM 127 /* there is no such program */

int cli_run(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_memcp(int argc, char **argv);

/* One line on stderr, "userfault: " before it and a newline after it. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
