/* SPDX-License-Identifier: MIT */
/*
 * The launcher's side of the counters in base/stats.h: making the shared file, and printing it.
 */
#ifndef CLI_STATS_H
#define CLI_STATS_H

#include <base/stats.h>
#include <stdio.h>

/**
 * stats_create() - a shared file of counters, all zero.
 * @ret_stats: receives its mapping, for the life of the process
 * @ret_path: receives an allocated path under which other processes of the same user open it
 *
 * The file has no name and a fixed size: nothing is left behind, and nobody can take the pages
 * away under us.
 *
 * Return: 0 or -errno.
 */
int stats_create(struct uf_stats **ret_stats, char **ret_path);

/* Prints the counters for people, about a dozen lines of at most 80 columns. */
void stats_print(const struct uf_stats *stats, FILE *out);

/**
 * stats_print_json() - the counters, the program and how it ended as one JSON object.
 * @status: from waitpid(2)
 *
 * Return: 0 or -errno; the caller closes @out.
 */
int stats_print_json(const struct uf_stats *stats, char **argv, int status, FILE *out);

#endif
