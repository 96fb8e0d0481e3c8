/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <userfault/abi.h>
int main(void)
{
    struct uf_io_api api = {.api = UF_API};
    return printf("api %#llx\n", (unsigned long long)api.api) < 0;
}
