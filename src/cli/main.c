/* SPDX-License-Identifier: MIT */
/* The command `userfault`: finds the subcommand and hands it the rest of the line. */
#include <argp.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const struct command {
    const char *name;
    int (*main)(int argc, char **argv);
    char *argv0; /* what argp calls the subcommand in its messages */
} commands[] = {
    {"run", cli_run, "userfault run"},
    {"check", cli_check, "userfault check"},
    {"memcp", cli_memcp, "userfault memcp"},
};

struct choice {
    const struct command *command;
    int first; /* index of the subcommand's name in argv */
};

const char *argp_program_version = "userfault " USERFAULT_VERSION;

static const char doc[] =
    "The kernel's userfaultfd in user space, under unmodified programs.\v"
    "Commands:\n"
    "  run    run a program on the facility\n"
    "  check  say what this host allows, and which backend results\n"
    "  memcp  move memory to another process or machine while it is used\n"
    "\n"
    "`userfault COMMAND --help' lists the options of a command; userfault(1) and\n"
    "userfault(7) describe them and the facility.";

void cli_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("userfault: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct choice *choice = state->input;

    switch (key) {
    case ARGP_KEY_ARG:
        choice->command = command_find(arg);
        if (!choice->command)
            argp_error(state, "no such command: %s", arg);
        choice->first = state->next - 1;
        state->next = state->argc; /* the rest is the subcommand's */
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which command?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Whoever closed a standard descriptor must not find one of our files under its number, nor our
 * messages in that file. Closed on exec, so the program gets what we were given. */
static void fill_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    const struct argp argp = {.parser = parse, .args_doc = "COMMAND [ARGUMENT...]", .doc = doc};
    struct choice choice = {0};

    fill_standard_descriptors();
    argp_err_exit_status = CLI_EXIT_FAILED;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &choice) != 0)
        return CLI_EXIT_FAILED;
    argv[choice.first] = choice.command->argv0;
    return choice.command->main(argc - choice.first, argv + choice.first);
}
