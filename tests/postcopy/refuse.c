/* SPDX-License-Identifier: MIT */
/*
 * To be preloaded: a program that migrates stops as it is told, and then its stop() fails, once.
 * What was before has to be again.
 */
#include <dlfcn.h>
#include <errno.h>

#include <userfault/postcopy.h>

static struct uf_source_options real;
static int refused;

static int stop(void *arg, const void **ret_blob, size_t *ret_len_bytes)
{
    int ret = real.stop(arg, ret_blob, ret_len_bytes);

    return ret == 0 && !refused++ ? -EOWNERDEAD : ret;
}

int uf_source_new(struct uf_source **ret, const struct uf_source_options *options)
{
    int (*next)(struct uf_source **, const struct uf_source_options *) =
        (int (*)(struct uf_source **, const struct uf_source_options *))dlsym(RTLD_NEXT,
                                                                              "uf_source_new");
    struct uf_source_options ours = *options;

    real = *options;
    ours.stop = stop;
    return next(ret, &ours);
}
