/* SPDX-License-Identifier: MIT */
#include <userfault/userfault.h>

int main(void)
{
    int fd = uf_context_open(0, UF_BACKEND_USER);
    return fd < 0 || uf_context_close(fd) < 0;
}
