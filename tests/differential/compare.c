/* SPDX-License-Identifier: MIT */
/*
 * Comparing two traces of one sequence.
 *
 * They must be equal line by line, but for the differences in the table of known ones. Each entry
 * there is a pair of shell patterns for a line of the kernel's trace and the line of ours that
 * stands in its place, and the reason why that is as it should be. From such a line on the two go
 * different ways; so the operation that it is about is left out, and both sides are run again:
 * see explain.c. Nothing that follows goes uncompared, and if that operation was not the reason,
 * the difference is found again.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "difftest.h"

/* Each is a row of userfault(7)'s table of differences. */
#define MERGING                                                                                    \
    "whether two mappings that are alike and touch are one to the kernel depends on history that " \
    "it shows nobody: which was faulted first, advice given before they were registered"
#define ZEROES                                                                                     \
    "of pages of zeroes that were provided and not touched, nothing is mapped: mincore says so "   \
    "once they are not registered any more"
#define FILTER                                                                                     \
    "the launcher's filter, which forbids the kernel's facility for this test, looks at the "      \
    "command before anybody looks at the descriptor"
static const struct known {
    const char *kernel, *ours, *reason;
} known[] = {
    {"*UFFDIO_COPY*ENOENT*", "*UFFDIO_COPY*", MERGING},
    {"*UFFDIO_COPY*", "*UFFDIO_COPY*ENOENT*", MERGING},
    {"*UFFDIO_ZEROPAGE*ENOENT*", "*UFFDIO_ZEROPAGE*", MERGING},
    {"*UFFDIO_ZEROPAGE*", "*UFFDIO_ZEROPAGE*ENOENT*", MERGING},
    {"*ioctl-pointer * 0xc02[08]aa0[34] * ENOENT", "*ioctl-pointer *", MERGING},
    {"*ioctl-pointer * 0xc02[08]aa0[34] *", "*ioctl-pointer * ENOENT", MERGING},
    {"*mremap: = EFAULT", "*mremap: = [@e]*", MERGING},
    {"*mremap: = [@e]*", "*mremap: = EFAULT", MERGING},
    {"*mremap: = EFAULT", "*mremap: = ENOMEM", MERGING}, /* the move itself is refused, too */
    {"*mremap: = ENOMEM", "*mremap: = EFAULT", MERGING},
    {"* mincore *", "* mincore *", ZEROES},
    {"*ioctl-unknown * 0xaa00 = EBADF", "*ioctl-unknown * 0xaa00 = EPERM", FILTER},
    {NULL, NULL, NULL},
};

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

/*
 * A difference that shows late: UFFDIO_ZEROPAGE on a private mapping of a file, which is not
 * registered any more when a hole is punched in the file. Return: the last such operation before
 * the line that differs, or -1.
 */
static int late_zeropage(const struct sequence *seq, size_t line)
{
    char *copy = strndup(seq->start, seq->len), *rest;
    bool private_file = false;
    int last = -1, found = -1;
    size_t n = 0;

    for (char *at = strtok_r(copy, "\n", &rest); at && n < line;
         at = strtok_r(NULL, "\n", &rest), n++) {
        private_file |= !fnmatch("*mmap memfd-private*= 0", at, 0);
        if (private_file && !fnmatch("* UFFDIO_ZEROPAGE*zeropage=[1-9]*", at, 0))
            last = atoi(at);
        if (last >= 0 &&
            (!fnmatch("* fallocate*= 0", at, 0) || !fnmatch("* ftruncate*= 0", at, 0) ||
             !fnmatch("* madvise*arg=9 *", at, 0)))
            found = last;
    }
    free(copy);
    return found;
}

/* "12 touch ..." and "    w2 finishes 12 touch: ...": 12. -1: a line that belongs to none. */
static int operation_of(const char *line)
{
    int op;

    if (sscanf(line, " w%*d finishes %d", &op) == 1 || sscanf(line, "%d ", &op) == 1)
        return op;
    return -1;
}

static enum comparison compare_lines(const char *a, const char *b, int *ret_op)
{
    if (a && b && !strcmp(a, b))
        return SAME;
    if (!a || !b || !lines_explained(a, b))
        return DIFFERENT;
    *ret_op = operation_of(a);
    return *ret_op >= 0 && *ret_op == operation_of(b) ? EXPLAINED : DIFFERENT;
}

enum comparison compare_sequences(const struct sequence *a, const struct sequence *b, int *ret_op)
{
    char *copy_a, *copy_b, *rest_a, *rest_b, *line_a, *line_b;
    enum comparison result = SAME;
    size_t line = 0;

    if (a->len == b->len && !memcmp(a->start, b->start, a->len))
        return SAME;
    copy_a = strndup(a->start, a->len);
    copy_b = strndup(b->start, b->len);
    line_a = strtok_r(copy_a, "\n", &rest_a);
    line_b = strtok_r(copy_b, "\n", &rest_b);
    while (result == SAME && (line_a || line_b)) {
        result = compare_lines(line_a, line_b, ret_op);
        line_a = strtok_r(NULL, "\n", &rest_a);
        line_b = strtok_r(NULL, "\n", &rest_b);
        line++;
    }
    if (result == DIFFERENT && (*ret_op = late_zeropage(a, line)) >= 0)
        result = EXPLAINED;
    free(copy_a);
    free(copy_b);
    return result;
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
