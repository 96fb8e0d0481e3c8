/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <userfault/userfault.h>
int main(void)
{
    int fd = uf_context_open(0, UF_BACKEND_USER);
    return printf("userfault %s: descriptor %d\n", uf_version(), fd) < 0 || fd < 0;
}
