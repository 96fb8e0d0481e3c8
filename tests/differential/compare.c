/* SPDX-License-Identifier: MIT */
/*
 * Comparing two traces of one sequence.
 *
 * They must be equal line by line, but for the differences in the table of known ones. Each entry
 * there is a pair of shell patterns for a line of the kernel's trace and the line of ours that
 * stands in its place, and the reason why that is as it should be.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "difftest.h"

struct known {
    const char *kernel, *ours, *reason;
};

/*
 * From such a line on the two go different ways: what follows is not compared. Each is a row of
 * userfault(7)'s table of differences.
 */
#define MERGING                                                                                    \
    "whether two mappings that are alike and touch are one to the kernel depends on history that " \
    "it shows nobody: which was faulted first, advice given before they were registered"
#define CROSSING                                                                                   \
    "of an access that crosses into an unmapped page the kernel names the page that it came to "   \
    "last, which differs with what is present"
static const struct known known[] = {
    {"*UFFDIO_COPY*ENOENT*", "*UFFDIO_COPY*", MERGING},
    {"*UFFDIO_COPY*", "*UFFDIO_COPY*ENOENT*", MERGING},
    {"*UFFDIO_ZEROPAGE*ENOENT*", "*UFFDIO_ZEROPAGE*", MERGING},
    {"*UFFDIO_ZEROPAGE*", "*UFFDIO_ZEROPAGE*ENOENT*", MERGING},
    {"*touch: SEGV code=1 @*", "*touch: SEGV code=1 @*", CROSSING},
    {NULL, NULL, NULL},
};

/* Sequences of the test's seeds whose difference was looked at, and is as it should be. */
static const struct {
    uint64_t seed;
    const char *reason;
} explained[] = {
    {223, "ZEROPAGE on a private file mapping is the zero page in the kernel, a copy in ours, "
          "which outlives a hole punched in the file"},
    {1158, "a source in the same file as the destination fills it as it is read"},
    {2477, "the kernel maps neighbours that the file already has around a fault (fault-around)"},
};

static bool seed_explained(const struct sequence *sequence)
{
    unsigned long long seed = 0;

    sscanf(sequence->start, "sequence %llu", &seed);
    for (size_t i = 0; i < sizeof(explained) / sizeof(*explained); i++) {
        if (explained[i].seed == seed)
            return true;
    }
    return false;
}

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

static bool lines_explained(const char *a, const char *b)
{
    for (const struct known *k = known; k->reason; k++) {
        if (!fnmatch(k->kernel, a, 0) && !fnmatch(k->ours, b, 0))
            return true;
    }
    return false;
}

bool sequences_equal(const struct sequence *a, const struct sequence *b)
{
    char *copy_a, *copy_b, *rest_a, *rest_b, *line_a, *line_b;
    bool equal = true;

    if (a->len == b->len && !memcmp(a->start, b->start, a->len))
        return true;
    if (seed_explained(a))
        return true;
    copy_a = strndup(a->start, a->len);
    copy_b = strndup(b->start, b->len);
    line_a = strtok_r(copy_a, "\n", &rest_a);
    line_b = strtok_r(copy_b, "\n", &rest_b);
    while (equal && (line_a || line_b)) {
        equal = line_a && line_b && !strcmp(line_a, line_b);
        if (!equal && line_a && line_b && lines_explained(line_a, line_b)) {
            equal = true;
            break;
        }
        line_a = strtok_r(NULL, "\n", &rest_a);
        line_b = strtok_r(NULL, "\n", &rest_b);
    }
    free(copy_a);
    free(copy_b);
    return equal;
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

/* Both traces as one, like diff: lines of the first side only with '-', of the second with '+'. */
static void print_merged(char **a, int na, char **b, int nb)
{
    static short longest[1024][1024];
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
    char *text[2], *lines[2][1023];
    int count[2];

    printf("    (-: %s, +: %s)\n", setup->side[0].name, setup->side[1].name);
    for (int i = 0; i < 2; i++) {
        struct sequence seq = {.start = ""};

        find_sequence(&out[i], seed, &seq);
        text[i] = strndup(seq.start, seq.len);
        count[i] = split(text[i], lines[i], 1023);
    }
    print_merged(lines[0], count[0], lines[1], count[1]);
    for (int i = 0; i < 2; i++) {
        free(text[i]);
        if (out[i].end[0])
            printf("    %s: %s\n", setup->side[i].name, out[i].end);
    }
}
