/* SPDX-License-Identifier: MIT */
/* What was kept, run once more: for compilers without libFuzzer. Arguments: files and folders. */
#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "fuzz.h"

#define SIZE_MAX_ 65536

static unsigned count;
static bool again; /* there are inputs that are to come to another connection */

static void run_file(const char *path)
{
    static uint8_t data[SIZE_MAX_];
    FILE *file = fopen(path, "rb");
    size_t size;

    MUST(file);
    size = fread(data, 1, sizeof data, file);
    fclose(file);
    fprintf(stderr, "%s\n", path); /* whose fault it is, if it crashes */
    LLVMFuzzerTestOneInput(data, size);
    printf("ok %u - %s\n", ++count, path);
    fflush(stdout);
}

static void run(const char *path)
{
    struct dirent **entries;
    struct stat st;
    int n;

    MUST(stat(path, &st) == 0);
    if (!S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    n = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char name[4096];

        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            run_file(name);
        again |= !strncmp(entries[i]->d_name, "again-", 6);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    /* Inputs decay when the order of messages changes: what is behind that order is not seen then.
     */
    if (again && !fuzz_recovered) {
        printf("not ok %u - an input comes to another connection\n", ++count);
        count = 0;
    }
    printf("1..%u\n", count);
    return count == 0;
}
