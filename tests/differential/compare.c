/* SPDX-License-Identifier: MIT */
/*
 * Comparing two traces of one sequence.
 *
 * They must be equal line by line, but for known differences (known.c). From such a line on the two
 * go different ways; so the operation that it is about is left out, and both sides are run again:
 * see explain.c. Nothing that follows goes uncompared, and if that operation was not the reason,
 * the difference is found again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "difftest.h"
#include "known.h"

bool find_sequence(const struct output *out, uint64_t seed, struct sequence *ret)
{
    char head[48];
    const char *start, *end;

    snprintf(head, sizeof(head), "sequence %llu\n", (unsigned long long)seed);
    for (start = out->text; start; start = strstr(start + 1, head)) {
        if (!strncmp(start, head, strlen(head)) && (start == out->text || start[-1] == '\n'))
            break;
    }
    if (!start)
        return false;
    end = strstr(start, "\nend\n");
    ret->start = start;
    ret->complete = end != NULL;
    ret->len = end ? (size_t)(end + 5 - start) : strlen(start);
    return true;
}

static int split(char *text, char **ret_lines, int max)
{
    char *rest;
    int n = 0;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (n < max)
            ret_lines[n++] = line;
    }
    return n;
}

enum comparison compare_sequences(const struct sequence *a, const struct sequence *b,
                                  struct known *ret)
{
    static char *lines[2][MAX_LINES];
    char *text[2];
    int count[2], n = 0;

    if (a->len == b->len && !memcmp(a->start, b->start, a->len))
        return SAME;
    text[0] = strndup(a->start, a->len);
    text[1] = strndup(b->start, b->len);
    for (int i = 0; i < 2; i++)
        count[i] = split(text[i], lines[i], MAX_LINES);
    while (n < count[0] && n < count[1] && !strcmp(lines[0][n], lines[1][n]))
        n++;
    ret->reason =
        known_reason((const char *const *)lines[0], (size_t)n, n < count[0] ? lines[0][n] : NULL,
                     n < count[1] ? lines[1][n] : NULL, &ret->op);
    free(text[0]);
    free(text[1]);
    return ret->reason ? EXPLAINED : DIFFERENT;
}

/* The words of a line that say what happened: no number of an operation, no address. */
static void kind_of_line(const char *line, char *buf, size_t size)
{
    const char *word = strstr(line, " finishes "), *result = strstr(line, " = ");
    size_t used = 0;

    word = word ? word + strlen(" finishes ") : line;
    while (*word && strchr("0123456789 ", *word))
        word++;
    result = result ? result + 3 : strchr(word, ' ');
    while (*word && !strchr(" @:", *word) && used < size / 2)
        buf[used++] = *word++;
    if (used < size - 1)
        buf[used++] = ' ';
    for (; result && *result && *result != ' ' && used < size - 1; result++)
        if (*result < '0' || *result > '9')
            buf[used++] = *result;
    buf[used] = '\0';
}

/* What kind of difference it is, judged by the first line that differs. */
void difference_kind(const struct sequence *a, const struct sequence *b, char *buf, size_t size)
{
    const char *p = a->start, *q = b->start, *line_p = p, *line_q = q;
    char line[2][160], kind[2][64];

    while (p < a->start + a->len && q < b->start + b->len && *p == *q) {
        if (*p == '\n') {
            line_p = p + 1;
            line_q = q + 1;
        }
        p++;
        q++;
    }
    snprintf(line[0], sizeof(line[0]), "%.*s", (int)strcspn(line_p, "\n"), line_p);
    snprintf(line[1], sizeof(line[1]), "%.*s", (int)strcspn(line_q, "\n"), line_q);
    for (int i = 0; i < 2; i++)
        kind_of_line(line[i], kind[i], sizeof(kind[i]));
    /* Where only one of them finishes a job here, the other line says nothing. */
    for (int i = 0; i < 2; i++) {
        if (strstr(line[i], " finishes ") && !strstr(line[!i], " finishes ")) {
            snprintf(buf, size, "only the %s side finishes %s here", i ? "second" : "first",
                     kind[i]);
            return;
        }
    }
    snprintf(buf, size, "%s against %s", kind[0], kind[1]);
}

/* Both traces as one, like diff: lines of the first side only with '-', of the second with '+'. */
static void print_merged(char **a, int na, char **b, int nb)
{
    static short longest[MAX_LINES + 1][MAX_LINES + 1];
    int i, j;

    for (i = na; i >= 0; i--) {
        for (j = nb; j >= 0; j--) {
            if (i == na || j == nb)
                longest[i][j] = 0;
            else if (!strcmp(a[i], b[j]))
                longest[i][j] = (short)(longest[i + 1][j + 1] + 1);
            else
                longest[i][j] =
                    longest[i + 1][j] > longest[i][j + 1] ? longest[i + 1][j] : longest[i][j + 1];
        }
    }
    for (i = j = 0; i < na || j < nb;) {
        if (i < na && j < nb && !strcmp(a[i], b[j])) {
            printf("      %s\n", a[i++]);
            j++;
        } else if (j == nb || (i < na && longest[i + 1][j] >= longest[i][j + 1])) {
            printf("    - %s\n", a[i++]);
        } else {
            printf("    + %s\n", b[j++]);
        }
    }
}

void print_pair(const struct setup *setup, const struct output out[2], uint64_t seed)
{
    char *text[2], *lines[2][MAX_LINES];
    int count[2];

    printf("    (-: %s, +: %s)\n", setup->side[0].name, setup->side[1].name);
    for (int i = 0; i < 2; i++) {
        struct sequence seq = {.start = ""};

        find_sequence(&out[i], seed, &seq);
        text[i] = strndup(seq.start, seq.len);
        count[i] = split(text[i], lines[i], MAX_LINES);
    }
    print_merged(lines[0], count[0], lines[1], count[1]);
    for (int i = 0; i < 2; i++) {
        free(text[i]);
        if (out[i].end[0])
            printf("    %s: %s\n", setup->side[i].name, out[i].end);
    }
}
