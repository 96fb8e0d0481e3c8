/* SPDX-License-Identifier: MIT */
/* What is measured, and the goals. A goal that is met on one machine may be missed on another. */
#include "runner.h"

#define FAULT     "fault: a handler thread polls, reads, copies; us a page"
#define SPIN      "fault: the handler thread spins on read; us a page"
#define DIRECT    "fault: resolved in the faulting thread; us a page"
#define SIGSEGV   "fault: ours against GNU libsigsegv (mprotect and copy in its handler); us a page"
#define WP        "wp: a write to a protected page; us a page"
#define MINOR     "minor: a page of shared memory that its file has; us a page"
#define PROTECT   "protect: 1 GiB in one call, protected and unprotected in turn; us a call"
#define WRITE     "write: UFFD_FEATURE_WP_ASYNC, the first write to a page; us a page"
#define SCAN      "scan: PAGEMAP_SCAN of 1 GiB, of which 1 % was written; us a call"
#define COPY      "copy: pages that nobody waits for; us a page"
#define MOVE      "move: pages that nobody waits for; us a page"
#define FORK      "fork: of a process with 1 GiB registered and there, whose manager is told; us"
#define OTHER     "other: the manager is another process; us a page"
#define MANY      "other: one manager of 64 processes, each of which touches pages; us a page of all"
#define TOUCH     "touch: memory that has been published; us a word"
#define PLAIN     "plain: a program that has no context; us a call"
#define PUBLISHED "published: a system call on memory that has been published; us a call"
#define TRAP      "trap: --trap=all against no library, a program that has no context; us a call"
#define TRAP_PUBLISHED                                                                             \
    "trap: --trap=all, one byte read into memory that has been published; us a call"
#define THREADS "threads: several touch pages of one context; us a page of all"
#define STRESS  "stress-ng --userfaultfd N; operations a second"
#define QEMU    "qemu: postcopy of 512 MiB over a unix socket; us: a wait for a page, and of the whole"
#define SIZE    "size: registration of 1 TiB; us"
#define LONG    "long: us a page"

#define URGENT                                                                                     \
    "postcopy: a touch of a missing page, the link idle, all on one CPU; us, against a local "     \
    "fault and a round trip"
#define BUSY "postcopy: 99 % of these while 1 Gbit/s is full, against 50 % of idle ones; us"
#define PUSH                                                                                       \
    "postcopy: pages that nobody waits for, against a plain copy through a socket; us a page"
#define DOWNTIME                                                                                   \
    "postcopy: downtime, 1 GiB with a hot set of 200 MiB; us, against a switch without precopy"
#define TOTAL "postcopy: 512 MiB that nobody touches, by postcopy alone, against QEMU's; us"
#define TRACKING                                                                                   \
    "postcopy: a program that writes to 10 % of its pages a second, in precopy; us a page"
#define BEYOND                                                                                     \
    "postcopy: KiB beyond a region of 1 GiB, either side, against 16 MiB and a bit a page"

#define POSTCOPY(reference, mine) .command = reference, .ours = mine, .is_alone = true
#define CALLBACK(order)           .command = "measure fault --order=" order, .ours = "callback " order

/* clang-format off */
const struct bench_row bench_rows[] = {
    {"fault.private.seq", FAULT, "measure fault", .goal = 0.70, .has_pages = true},
    {"fault.private.rand", FAULT, "measure fault --order=rand", .goal = 0.80, .has_pages = true},
    {"fault.shared.seq", FAULT, "measure fault --memory=shared", .goal = 0.80, .has_pages = true},
    {"fault.shared.rand", FAULT, "measure fault --memory=shared --order=rand", .goal = 0.90,
     .has_pages = true},
    {"fault.apart.seq", FAULT, "measure fault --apart", .has_pages = true},
    {"fault.apart.rand", FAULT, "measure fault --apart --order=rand", .has_pages = true},
    {"fault.together.seq", FAULT, "measure fault", .has_pages = true, .one_cpu = true},
    {"fault.together.rand", FAULT, "measure fault --order=rand", .has_pages = true,
     .one_cpu = true},
    {"fault.timed.seq", FAULT, "measure fault --handler=poll-timed", .has_pages = true},
    {"fault.store.seq", FAULT, "measure fault --access=store", .has_pages = true},
    {"fault.syscall.seq", FAULT, "measure fault --access=syscall", .has_pages = true},
    {"fault.spin.seq", SPIN, "measure fault --handler=spin", .goal = 0.95, .has_pages = true},
    {"fault.spin.rand", SPIN, "measure fault --handler=spin --order=rand", .goal = 0.95,
     .has_pages = true},
    {"fault.sigbus.seq", DIRECT, "measure fault --handler=sigbus",
     .bare = "measure bare --op=fault", .goal = 1.05,
     .has_pages = true},
    {"fault.sigbus.rand", DIRECT, "measure fault --handler=sigbus --order=rand",
     .bare = "measure bare --op=fault --order=rand", .goal = 1.25,
     .has_pages = true},
    {"fault.sigbus.shared", DIRECT, "measure fault --handler=sigbus --memory=shared",
     .has_pages = true},
    {"callback.seq", "fault: callback in the faulting thread, against the kernel's poll path; us a page",
     CALLBACK("seq"), .goal = 0.60, .has_pages = true},
    {"callback.rand", "fault: callback in the faulting thread, against the kernel's poll path; us a page",
     CALLBACK("rand"), .goal = 0.75, .has_pages = true},
    {"libsigsegv.sigbus.seq", SIGSEGV, "sigsegv seq", .ours = "measure fault --handler=sigbus",
     .goal = 1.00},
    {"libsigsegv.sigbus.rand", SIGSEGV, "sigsegv rand",
     .ours = "measure fault --handler=sigbus --order=rand", .goal = 1.00},
    {"libsigsegv.callback.seq", SIGSEGV, "sigsegv seq", .ours = "callback seq", .goal = 1.00},
    {"libsigsegv.callback.rand", SIGSEGV, "sigsegv rand", .ours = "callback rand", .goal = 1.00},
    {"wp.poll.seq", WP, "measure fault --cause=wp --access=store", .goal = 0.95,
     .has_pages = true},
    {"wp.poll.rand", WP, "measure fault --cause=wp --access=store --order=rand", .goal = 0.95,
     .has_pages = true},
    {"wp.poll.shared", WP, "measure fault --cause=wp --access=store --memory=shared",
     .has_pages = true},
    {"wp.apart.seq", WP, "measure fault --cause=wp --access=store --apart", .has_pages = true},
    {"wp.sigbus.seq", WP, "measure fault --cause=wp --access=store --handler=sigbus",
     .bare = "measure bare --op=write", .goal = 1.05,
     .has_pages = true},
    {"wp.sigbus.rand", WP,
     "measure fault --cause=wp --access=store --handler=sigbus --order=rand",
     .bare = "measure bare --op=write --order=rand", .goal = 1.25,
     .has_pages = true},
    {"minor.poll.seq", MINOR, "measure fault --cause=minor --memory=shared", .goal = 0.90,
     .has_pages = true},
    {"minor.poll.rand", MINOR, "measure fault --cause=minor --memory=shared --order=rand",
     .goal = 0.90, .has_pages = true},
    {"minor.apart.seq", MINOR, "measure fault --cause=minor --memory=shared --apart",
     .has_pages = true},
    {"protect.1g", PROTECT, "measure protect --pages=262144",
     .bare = "measure bare --op=protect --pages=262144", .goal = 1.10},
    {"protect.1g.cut", PROTECT, "measure protect --pages=262144 --sparse",
     .bare = "measure bare --op=protect --pages=262144 --sparse", .goal = 3.00},
    {"write.private.seq", WRITE, "measure write",
     .bare = "measure bare --op=write", .goal = 1.50, .has_pages = true},
    {"write.private.rand", WRITE, "measure write --order=rand",
     .bare = "measure bare --op=write --order=rand", .goal = 1.50, .has_pages = true},
    {"write.shared.seq", WRITE, "measure write --memory=shared",
     .bare = "measure bare --op=write --memory=shared", .goal = 1.50, .has_pages = true},
    {"write.shared.rand", WRITE, "measure write --memory=shared --order=rand",
     .bare = "measure bare --op=write --memory=shared --order=rand", .goal = 1.50,
     .has_pages = true},
    {"scan.private", SCAN, "measure scan --pages=262144",
     .bare = "measure bare --op=scan --pages=262144", .goal = 1.50},
    {"scan.shared", SCAN, "measure scan --pages=262144 --memory=shared",
     .bare = "measure bare --op=scan --pages=262144 --memory=shared", .goal = 1.50},
    {"scan.look.private", SCAN, "measure scan --pages=262144 --op=look", .goal = 1.50},
    {"scan.look.shared", SCAN, "measure scan --pages=262144 --memory=shared --op=look",
     .goal = 1.50},
    {"copy.private.2m", COPY, "measure copy",
     .bare = "measure bare --op=copy", .goal = 1.40, .has_pages = true},
    {"copy.private.64k", COPY, "measure copy --chunk-kib=64",
     .bare = "measure bare --op=copy --chunk-kib=64", .goal = 1.40, .has_pages = true},
    {"copy.private.4k", COPY, "measure copy --chunk-kib=4",
     .bare = "measure bare --op=copy --chunk-kib=4", .has_pages = true},
    {"copy.private.stream", COPY, "measure stream",
     .bare = "measure bare --op=stream", .has_pages = true},
    {"copy.shared.2m", COPY, "measure copy --memory=shared", .goal = 1.15, .has_pages = true},
    {"copy.shared.64k", COPY, "measure copy --memory=shared --chunk-kib=64", .has_pages = true},
    {"move.2m", MOVE, "measure move",
     .bare = "measure bare --op=move", .goal = 1.25, .has_pages = true},
    {"move.4k", MOVE, "measure move --chunk-kib=4",
     .bare = "measure bare --op=move --chunk-kib=4", .goal = 1.25, .has_pages = true},
    {"other.fault.seq", OTHER, "measure fault --other", .goal = 0.90, .has_pages = true},
    {"other.fault.rand", OTHER, "measure fault --other --order=rand", .goal = 0.90,
     .has_pages = true},
    {"other.copy.2m", OTHER, "measure copy --other", .goal = 2.00, .has_pages = true},
    {"other.copy.shared.2m", OTHER, "measure copy --other --memory=shared", .goal = 2.00,
     .has_pages = true},
    {"other.many.poll", MANY, "measure many --threads=64",
     .bare = "measure bare --op=many --threads=64", .goal = 1.00, .has_pages = true},
    {"other.many.epoll", MANY, "measure many --threads=64 --op=epoll",
     .bare = "measure bare --op=many --threads=64", .goal = 1.00,
     .has_pages = true},
    {"fork.1g", FORK, "measure fork --pages=262144", .goal = 1.50},
    {"touch.all", TOUCH, "measure touch", .goal = 1.00, .headroom = 3},
    {"touch.sparse", TOUCH, "measure touch --sparse", .goal = 1.00, .headroom = 3},
    {"plain.getppid", PLAIN, "measure plain --op=getppid", .goal = 1.00, .headroom = 3,
     .is_quiet = true},
    {"plain.syscall", PLAIN, "measure plain --op=syscall", .goal = 1.00, .headroom = 3,
     .is_quiet = true},
    {"plain.read", PLAIN, "measure plain --op=read", .goal = 1.00, .headroom = 3,
     .is_quiet = true},
    {"plain.poll", PLAIN, "measure plain --op=poll", .goal = 1.00, .headroom = 3,
     .is_quiet = true},
    {"plain.ioctl", PLAIN, "measure plain --op=ioctl", .goal = 1.00, .headroom = 3,
     .is_quiet = true},
    {"plain.mmap", PLAIN, "measure plain --op=mmap", .goal = 1.00, .headroom = 3,
     .is_quiet = true},
    {"plain.sigmask", PLAIN, "measure plain --op=sigmask", .is_quiet = true},
    {"plain.thread", PLAIN, "measure plain --op=thread", .is_quiet = true},
    {"plain.fork", PLAIN, "measure plain --op=fork", .is_quiet = true},
    {"published.read", PUBLISHED, "measure published --op=read", .goal = 1.05},
    {"published.pread", PUBLISHED, "measure published --op=pread", .goal = 1.05},
    {"published.write", PUBLISHED, "measure published --op=write", .goal = 1.05},
    {"published.fstat", PUBLISHED, "measure published --op=fstat", .goal = 1.05},
    {"published.poll", PUBLISHED, "measure published --op=poll", .goal = 1.05},
    {"published.getppid", PUBLISHED, "measure published --op=getppid"},
    {"trap.libc", TRAP, "measure plain --op=raw", .is_quiet = true},
    {"trap.sigsys", TRAP, "measure plain --op=raw", .is_quiet = true,
     .launch = "--trap=all --force=norewrite"},
    {"trap.rewritten", TRAP, "measure plain --op=raw", .goal = 1.50, .is_quiet = true,
     .launch = "--trap=all"},
    {"trap.rewritten.read", TRAP, "measure plain --op=read", .goal = 1.50, .is_quiet = true,
     .launch = "--trap=all"},
    {"trap.published.sigsys", TRAP_PUBLISHED, "measure published --op=raw-read",
     .launch = "--trap=all --force=norewrite"},
    {"trap.published.rewritten", TRAP_PUBLISHED, "measure published --op=raw-read", .goal = 1.50,
     .launch = "--trap=all"},
    {"threads.1", THREADS, "measure fault --threads=1", .has_pages = true},
    {"threads.16", THREADS, "measure fault --threads=16", .has_pages = true},
    {"threads.16.batch", THREADS, "measure fault --threads=16 --batch=16", .has_pages = true},
    {"threads.scale", "threads: 16 against 1, pages a second; on the kernel, and on ours", NULL,
     .kind = BENCH_SCALE, .goal = 1.00, .headroom = 0, .of = {"threads.1", "threads.16"}},
    {"stress-ng.1", STRESS, "stress-ng 1", .kind = BENCH_RATE, .goal = 1.50, .is_quiet = true},
    {"stress-ng.2", STRESS, "stress-ng 2", .kind = BENCH_RATE, .goal = 1.50, .is_quiet = true},
    {"stress-ng.2.denied", STRESS, "stress-ng 2", .kind = BENCH_RATE, .is_quiet = true,
     .launch = "--deny-kernel"},
    {"qemu.fault", QEMU, "qemu", .bare = "qemu bare", .goal = 1.10},
    {"qemu.fault.p99", QEMU, .kind = BENCH_PART, .goal = 1.10, .of = {"qemu.fault"},
     .part = offsetof(struct bench_sample, p99_ns)},
    {"qemu.downtime", QEMU, .kind = BENCH_PART, .goal = 1.10, .of = {"qemu.fault"},
     .part = offsetof(struct bench_sample, down_ns)},
    {"qemu.total", QEMU, .kind = BENCH_PART, .goal = 1.10, .of = {"qemu.fault"},
     .part = offsetof(struct bench_sample, total_ns)},
    {"postcopy.urgent.unix", URGENT, POSTCOPY("wire fault unix kernel", "memcp urgent unix kernel"),
     .bare = "wire page unix kernel", .goal = 1.30, .one_cpu = true},
    {"postcopy.urgent.tcp", URGENT, POSTCOPY("wire fault tcp kernel", "memcp urgent tcp kernel"),
     .bare = "wire page tcp kernel", .goal = 1.30, .one_cpu = true},
    {"postcopy.urgent.user", URGENT, POSTCOPY("wire fault unix user", "memcp urgent unix user"),
     .bare = "wire page unix user", .goal = 1.30, .one_cpu = true},
    {"postcopy.busy", BUSY, POSTCOPY("memcp urgent tcp kernel", "memcp busy tcp kernel"),
     .goal = 3.00},
    {"postcopy.busy.user", BUSY, POSTCOPY("memcp urgent tcp user", "memcp busy tcp user"),
     .goal = 3.00},
    {"postcopy.busy.one", BUSY, POSTCOPY("memcp urgent tcp kernel", "memcp one tcp kernel")},
    {"postcopy.push.unix", PUSH, POSTCOPY("wire copy unix 256", "memcp push unix kernel"),
     .goal = 1.43},
    {"postcopy.push.tcp", PUSH, POSTCOPY("wire copy tcp 256", "memcp push tcp kernel"),
     .goal = 1.43},
    {"postcopy.push.user", PUSH, POSTCOPY("wire copy unix 256", "memcp push unix user"),
     .goal = 1.43},
    {"postcopy.downtime", DOWNTIME,
     POSTCOPY("memcp pause unix kernel", "memcp downtime unix kernel"), .kind = BENCH_LIMIT,
     .goal = 5},
    {"postcopy.downtime.user", DOWNTIME,
     POSTCOPY("memcp pause unix user", "memcp downtime unix user"), .kind = BENCH_LIMIT, .goal = 5},
    {"postcopy.total", TOTAL, POSTCOPY("qemu idle", "memcp total unix kernel"), .goal = 0.70},
    {"postcopy.total.user", TOTAL, POSTCOPY("qemu idle", "memcp total unix user"), .goal = 0.70},
    {"postcopy.tracking", TRACKING, POSTCOPY("tracking off", "tracking kernel"), .goal = 1.10},
    {"postcopy.tracking.user", TRACKING, POSTCOPY("tracking off", "tracking user"), .goal = 1.10},
    {"postcopy.memory", BEYOND, POSTCOPY("memcp limit unix kernel", "memcp memory unix kernel"),
     .goal = 1.00},
    {"postcopy.memory.user", BEYOND, POSTCOPY("memcp limit unix user", "memcp memory unix user"),
     .goal = 1.00},
    {"register.1t", SIZE, "measure register --pages=268435456", .kind = BENCH_LIMIT, .goal = 10},
    {"long.rand", LONG, "measure fault --order=rand --pages=1048576", .is_long = true},
    {"long.spread", LONG, "measure fault --order=rand --pages=262144 --stride=1024",
     .is_long = true},
};
/* clang-format on */

const size_t bench_row_count = sizeof(bench_rows) / sizeof(bench_rows[0]);
