/* SPDX-License-Identifier: MIT */
/*
 * Data of regular files, moved as the kernel does it: up to the first page that is not there, then
 * on from it. What it has moved by then is moved, whatever becomes of the memory while the call
 * waits.
 *
 *     make ── all? ── done
 *          ── short, and the next byte lies on a closed page? ── make the rest
 *          ── EFAULT, and a closed page ahead? ── bring it in ── make the rest
 *
 * The rest is tried before its page is brought in: at the end of the file nothing is touched.
 */
#include <errno.h>
#include <sys/uio.h>

#include "core/core.h"
#include "walk.h"

#define STEP_VECTORS 32 /* of a call at most; those after them are the next step's */

struct step {
    long args[6];
    struct iovec iov[STEP_VECTORS];
    size_t want;   /* bytes of this step */
    uintptr_t at;  /* of its first byte; 0: nothing is left */
    bool readable; /* the vectors could be read */
};

static bool in_vectors(const struct walk *walk)
{
    return walk->shape->arg[1].how == ARG_IOV_IN || walk->shape->arg[1].how == ARG_IOV_OUT;
}

static enum arch_access access_of(const struct walk *walk)
{
    return walk->shape->mode == CALL_RECV ? ARCH_WRITE : ARCH_READ;
}

/* The vectors from byte `done` on. */
static void take_vectors(const struct walk *walk, size_t done, struct step *step)
{
    const struct iovec *from = (const struct iovec *)walk->args[1];
    long left = walk->args[2];
    int n = 0;

    for (; left > 0 && n < STEP_VECTORS; left--, from++) {
        struct iovec *to = &step->iov[n];

        if (core_copy_in(to, from, sizeof *to)) {
            step->readable = false;
            return;
        }
        if (to->iov_len <= done) {
            done -= to->iov_len;
            continue;
        }
        to->iov_base = (char *)to->iov_base + done;
        to->iov_len -= done;
        done = 0;
        step->want += to->iov_len;
        n++;
    }
    step->at = n ? (uintptr_t)step->iov[0].iov_base : 0;
    step->args[1] = (long)step->iov;
    step->args[2] = n;
}

static void step_begin(const struct walk *walk, size_t done, struct step *step)
{
    size_t off = walk->shape->off;

    step->readable = true;
    step->want = 0;
    for (int i = 0; i < 6; i++) {
        step->args[i] = walk->args[i];
    }
    if (off && step->args[off - 1] >= 0) {
        step->args[off - 1] += (long)done;
    }
    if (in_vectors(walk)) {
        take_vectors(walk, done, step);
        return;
    }
    step->args[1] += (long)done;
    step->args[2] -= (long)done;
    step->want = (size_t)step->args[2];
    step->at = step->want ? (uintptr_t)step->args[1] : 0;
}

#define AHEAD 4096

/*
 * Brings in the first closed page of the step's next bytes: before Linux 5.16 a write to a file
 * reads all that go to one of its pages, of however many vectors, before it takes any, and has done
 * nothing where one of them is not there. Return: whether there was one, or -EFAULT.
 */
static long step_ready(struct walk *walk, const struct step *step)
{
    const struct iovec whole = {(void *)step->at, step->want};
    const struct iovec *iov = in_vectors(walk) ? step->iov : &whole;
    const long count = in_vectors(walk) ? step->args[2] : 1;
    size_t left = AHEAD;
    long opened = 0;

    for (long i = 0; i < count && left && !opened; i++) {
        size_t len = iov[i].iov_len < left ? iov[i].iov_len : left;
        uintptr_t addr = (uintptr_t)iov[i].iov_base;

        if (!core_touches(addr, len) && !core_call_passes(addr, len, access_of(walk))) {
            return -EFAULT; /* there it ends: nobody is asked for what comes after */
        }
        opened = core_call_ready(&walk->call, addr, len, access_of(walk), true);
        left -= len;
    }
    return opened;
}

/* Whether the call was ended by what is brought in now, or may have been. */
static bool step_mended(struct walk *walk, const struct step *step, int *clean)
{
    long opened = step_ready(walk, step);

    if (opened > 0) {
        *clean = 0;
    }
    return opened > 0 || (opened == 0 && core_touches(step->at, 1) && (*clean)++ == 0);
}

long walk_steps(struct walk *walk, icall_make *make, void *cookie)
{
    struct step step;
    size_t done = 0;
    long ret;
    int clean = 0;

    for (;;) {
        step_begin(walk, done, &step);
        if (!step.readable || (done && !step.at)) {
            return done ? (long)done : make(cookie, walk->args);
        }
        ret = make(cookie, done ? step.args : walk->args);
        if (ret == -EFAULT && step.at && step_mended(walk, &step, &clean)) {
            continue;
        }
        if (ret <= 0) {
            return done ? (long)done : ret;
        }
        done += (size_t)ret;
        if ((size_t)ret < step.want) {
            step_begin(walk, done, &step);
            if (!step.at || core_call_look(NULL, step.at, 1, access_of(walk)) != CORE_CLOSED) {
                return (long)done;
            }
        }
    }
}
