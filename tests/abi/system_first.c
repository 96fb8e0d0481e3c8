/* SPDX-License-Identifier: MIT */
#include <sys/ioctl.h>
#include <linux/userfaultfd.h>

#include "userfault/abi.h"

#include "same.h"
