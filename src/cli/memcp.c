/* SPDX-License-Identifier: MIT */
/* `userfault memcp` is a program of its own beside this one: what it needs, no other command loads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "program.h"

int cli_memcp(int argc, char **argv)
{
    char *folder = program_own_folder(), *path = NULL;

    if (!folder || asprintf(&path, "%s/userfault-memcp", folder) < 0) {
        cli_error("memcp: the folder of this program is not to be found");
        return CLI_EXIT_FAILED;
    }
    execv(path, argv);
    if (errno == ENOENT)
        cli_error("memcp: there is no %s: it is built where libxxhash was found", path);
    else
        cli_error("%s: %s", path, strerror(errno));
    free(folder);
    free(path);
    return CLI_EXIT_FAILED;
}
