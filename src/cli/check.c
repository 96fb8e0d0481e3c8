/* SPDX-License-Identifier: MIT */
/* `userfault check`: gathers the facts and prints them, for people or as JSON. */
#include <argp.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "cli.h"
#include "features.h"

enum {
    KEY_JSON = 256,
};

static const struct argp_option options[] = {
    {"json", KEY_JSON, NULL, 0, "Print one JSON object instead of lines", 0},
    {0},
};

static const char doc[] =
    "Say what this host allows and why, which backend `userfault run' takes, and what would give "
    "more.\vEverything is found by trying, and nothing is changed. The exit status is 0 if a "
    "backend is possible, 1 if none is.";

/* ------------------------------------------------------------------ gathering */

void check_fact(struct check *check, const char *group, const char *id, const char *label,
                enum verdict verdict, const char *format, ...)
{
    va_list args;

    if (check->fact_count == CHECK_FACTS)
        return;
    struct fact *fact = &check->facts[check->fact_count++];
    fact->group = group;
    fact->id = id;
    fact->label = label;
    fact->verdict = verdict;
    va_start(args, format);
    vsnprintf(fact->text, sizeof(fact->text), format, args);
    va_end(args);
}

void check_advice(struct check *check, const char *format, ...)
{
    va_list args;

    if (check->advice_count == CHECK_ADVICE)
        return;
    va_start(args, format);
    vsnprintf(check->advice[check->advice_count++], CHECK_LINE, format, args);
    va_end(args);
}

/* ------------------------------------------------------------------ for people */

static const char *paint(bool colour, const char *sequence)
{
    return colour ? sequence : "";
}

static void print_facts(const struct check *check, bool colour)
{
    static const char *const words[] = {"no", "yes", ""};
    static const char *const colours[] = {"\033[31m", "\033[32m", ""};
    const char *group = "";

    for (size_t i = 0; i < check->fact_count; i++) {
        const struct fact *fact = &check->facts[i];

        if (strcmp(fact->group, group) != 0) {
            printf("%s%s%s\n", paint(colour, "\033[1m"), fact->group, paint(colour, "\033[0m"));
            group = fact->group;
        }
        printf("  %-22s %s%-3s%s %s\n", fact->label, paint(colour, colours[fact->verdict]),
               words[fact->verdict], paint(colour, "\033[0m"), fact->text);
    }
}

static const char *yes_no(uint64_t mask, unsigned bit)
{
    return (mask >> bit) & 1 ? "yes" : "-";
}

uint64_t check_user_features(const struct check *check)
{
    if (!check_user_possible(check))
        return 0;
    return check->mem_writes ? FEATURES_USER : FEATURES_USER & ~FEATURES_USER_HUGE;
}

static void print_features(const struct check *check, bool colour)
{
    const uint64_t ours = check_user_features(check);
    const char *name;

    printf("%sFeatures%s\n  %-22s %-8s %s\n", paint(colour, "\033[1m"), paint(colour, "\033[0m"),
           "", "kernel's", "ours");
    for (unsigned bit = 0; (name = feature_name(bit)); bit++)
        printf("  %-22s %-8s %s\n", name, yes_no(check->kernel_features, bit), yes_no(ours, bit));
}

static int print_lines(const struct check *check)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    const bool colour =
        isatty(STDOUT_FILENO) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;

    print_facts(check, colour);
    print_features(check, colour);
    if (check->advice_count)
        printf("%sFor more%s\n", paint(colour, "\033[1m"), paint(colour, "\033[0m"));
    for (size_t i = 0; i < check->advice_count; i++)
        printf("  %s\n", check->advice[i]);
    return ferror(stdout);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    bool *json = state->input;

    switch (key) {
    case KEY_JSON:
        if (!USERFAULT_JSON)
            argp_failure(state, CLI_EXIT_FAILED, 0, "--json: built without jansson");
        *json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "`%s' is one argument too many", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int cli_check(int argc, char **argv)
{
    const struct argp argp = {.options = options, .parser = parse, .doc = doc};
    struct check check = {0};
    bool json = false;

    if (argp_parse(&argp, argc, argv, 0, NULL, &json) != 0)
        return CLI_EXIT_FAILED;
    check_kernel(&check);
    check_memory(&check);
    check_host(&check);
    check_result(&check);
    int err = json ? check_print_json(&check) : print_lines(&check);
    if (err != 0 || fflush(stdout) != 0) {
        cli_error("cannot write what was found out");
        return CLI_EXIT_FAILED;
    }
    return check.kernel_err == 0 || check_user_possible(&check) ? 0 : 1;
}
