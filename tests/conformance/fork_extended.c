/* SPDX-License-Identifier: MIT */
/* EVENT_FORK with extensions of ours: acknowledged events, nested contexts. No kernel has them. */
#include "acked.h"
#include "forking.h"

static void extended_new(struct family *f, enum mem_kind kind, uint64_t extensions)
{
    *f = (struct family){.mem = mem_map(kind, FAMILY_PAGES), .source = source_new(2, 1)};
    f->uffd = uffd_open_extended(extensions, EVENT_FORK);
    CHECK_EQ(uffd_register(f->uffd, f->mem.addr, f->mem.len), 0);
}

/* Read, it is not over; and the child has not begun. */
static void acked(enum mem_kind kind)
{
    struct family f;

    extended_new(&f, kind, UF_EXTENSION_EVENT_ACK);
    forking_start(&f.forking, family_reads, &f);
    uffd_await(f.uffd);
    family_fill(&f, f.uffd, 0); /* in the parent, and not refused */
    struct uf_msg msg = event_next(f.uffd);
    int child = (int)msg.arg.fork.ufd;
    CHECK_EQ(msg.event, UF_EVENT_FORK);
    CHECK(msg.reserved3 != 0);
    cause_check_waits(&f.forking.cause);
    uffd_check_silent(child);
    CHECK_EQ(uffd_ack(f.uffd, msg.reserved3), 0);
    family_serve(&f, child, 0);
    family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    CHECK_EQ(uffd_ack(f.uffd, msg.reserved3), -ENOENT);
}

/* Both go on: the inner one is asked, there too. */
static void nested(enum mem_kind kind)
{
    struct family f;

    extended_new(&f, kind, UF_EXTENSION_NESTED);
    int inner = uffd_open(EVENT_FORK);
    CHECK_EQ(uffd_register(inner, f.mem.addr, f.mem.len), 0);
    forking_start(&f.forking, family_reads, &f);
    int inner_child = next_fork(inner), outer_child = next_fork(f.uffd);
    family_serve(&f, inner_child, 0);
    uffd_next_fault(inner_child, mem_page(&f.mem, 1), 0);
    uffd_check_silent(outer_child);
    family_fill(&f, outer_child, 1);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    check_traps(inner, mem_page(&f.mem, 1));
}

/* One that did not ask is the parent's alone: what it covered is the other one's. */
static void nested_in(enum mem_kind kind, bool inner_goes)
{
    struct family f;
    pid_t pid;

    extended_new(&f, kind, UF_EXTENSION_NESTED);
    int outer = f.uffd, inner = uffd_open(inner_goes ? EVENT_FORK : 0);
    if (inner_goes) {
        outer = uffd_open_extended(UF_EXTENSION_NESTED, 0);
        CHECK_EQ(uffd_unregister(f.uffd, f.mem.addr, f.mem.len), 0);
        CHECK_EQ(uffd_register(outer, f.mem.addr, f.mem.len), 0);
        f.uffd = inner;
    }
    CHECK_EQ(uffd_register(inner, f.mem.addr, f.mem.len), 0);
    int child = family_fork(&f, family_reads, &pid);
    family_serve(&f, child, 0);
    family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(pid), 0);
    uffd_check_silent(inner);
    uffd_check_silent(outer);
    check_traps(inner, mem_page(&f.mem, 1));
}

static void nested_inner(enum mem_kind kind)
{
    nested_in(kind, true);
}

static void nested_outer(enum mem_kind kind)
{
    nested_in(kind, false);
}

#define MAN_OURS "userfault(7)"

const struct conf_case fork_ours_cases[] = {
    {"events/fork-acked", MAN_OURS, KIND(MEM_ANON), NEED_OURS, EVENT_FORK, .run = acked},
    {"events/fork-nested-contexts", MAN_OURS, KIND(MEM_ANON), NEED_OURS, EVENT_FORK, .run = nested},
    {"events/fork-nested-inner", MAN_OURS, KIND(MEM_ANON), NEED_OURS, EVENT_FORK,
     .run = nested_inner},
    {"events/fork-nested-outer", MAN_OURS, KIND(MEM_ANON), NEED_OURS, EVENT_FORK,
     .run = nested_outer},
    {.id = NULL},
};
