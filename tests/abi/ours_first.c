/* SPDX-License-Identifier: MIT */
#include "userfault/abi.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "same.h"

/* Again, after everything: a second inclusion must be harmless. */
#include "userfault/abi.h"

int main(void)
{
    return 0;
}
