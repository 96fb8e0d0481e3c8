/* SPDX-License-Identifier: MIT */
/*
 * The facility as a library: contexts on the kernel's backend or on ours, with the same ABI, and
 * what the kernel cannot give: a handler that resolves a fault in the faulting thread.
 *
 * A *context* is one userfaultfd object, named by a file descriptor. Its ioctls, features and
 * messages are those of <userfault/abi.h>. The functions take contexts of both backends; where a
 * process runs under `userfault run`, they use the facility that is loaded already.
 *
 * A library does not see what the program asks of the kernel behind its back. On the user backend:
 *
 *  - what changes registered memory (munmap, mremap, madvise, mprotect, mlock, fork by number) or
 *    the descriptor (dup, fcntl) goes through uf_syscall(), or the memory is unregistered first;
 *    fork(3) is seen;
 *  - a thread that touches registered memory must not block SIGSEGV and SIGBUS, and the program's
 *    own handlers for them are installed before the first context, or by uf_sigaction();
 *  - a signal handler that interrupted a touch must return: it may leave by siglongjmp(3) only if
 *    it was installed by uf_sigaction();
 *  - a system call that is handed missing memory fails with EFAULT: touch it first, or make the
 *    call by uf_syscall(), which waits for the memory.
 *
 * Under `userfault run` none of this is necessary.
 *
 * Functions return -1 with errno on failure. All may be called from any thread at any time.
 * Since: 0.1
 */
#ifndef USERFAULT_USERFAULT_H
#define USERFAULT_USERFAULT_H

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/types.h>

#include <userfault/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sigaction; /* <signal.h> hides it from strict C */

/** uf_version() - the version of the library that is in use, as "0.1.0"; static */
const char *uf_version(void);

enum uf_backend {
    UF_BACKEND_AUTO = 0, /* the kernel's when it is permitted, else ours */
    UF_BACKEND_KERNEL = 1,
    UF_BACKEND_USER = 2,
};

/**
 * uf_context_open() - create a context, as userfaultfd(2)
 * @flags: O_CLOEXEC, O_NONBLOCK, UF_USER_MODE_ONLY, or'ed
 * @backend: whose. UF_BACKEND_AUTO honours the environment variable USERFAULT_BACKEND (auto,
 *      kernel, user); the other two do what they say whatever the environment
 *
 * The descriptor is the caller's, to be closed by uf_context_close(). Before anything else it must
 * shake hands by UF_IO_API. If the kernel's context then turns out to lack a feature that ours has,
 * UF_BACKEND_AUTO puts ours under the same number.
 *
 * The first context of the user backend takes over SIGSEGV and SIGBUS: the handlers that the
 * program had for them are called for its own faults as before.
 *
 * Differs: UF_BACKEND_USER needs no privilege (unless USERFAULT_POLICY=kernel), never reaches the
 *      kernel's userfaultfd(2), and works where a seccomp filter forbids it.
 * Context: any thread; not from a signal handler. Does not block.
 * Return: a descriptor, or -1: EINVAL unknown flag or backend; EPERM, ENOSYS the kernel's refusal
 *      (UF_BACKEND_KERNEL), EPERM also under USERFAULT_POLICY=kernel; EMFILE, ENFILE out of
 *      descriptors, or 65,534 contexts exist; ENOMEM.
 * Source: userfaultfd(2). Since: 0.1
 */
int uf_context_open(int flags, enum uf_backend backend);

/**
 * uf_context_backend() - which backend a context is of
 * @fd: a context
 *
 * After UF_IO_API the answer stays.
 * Context: any thread, signal handlers. Does not block.
 * Return: UF_BACKEND_KERNEL or UF_BACKEND_USER, or -1: EBADF @fd is not open; ENOTTY it is no
 *      context.
 * Since: 0.1
 */
int uf_context_backend(int fd);

/**
 * uf_context_ioctl() - ioctl(2) on a context
 * @fd: a context, also one that came from another process
 * @req: UF_IO_API, UF_IO_REGISTER, UF_IO_COPY, ...
 * @arg: the structure that <userfault/abi.h> names for @req; the caller's, read and written during
 *      the call only
 *
 * Context: any thread, also a handler of uf_set_handler() or of SIGBUS. UF_IO_COPY from a source
 *      that is itself missing waits for whoever resolves that; nothing else blocks for long.
 * Return: 0, or -1 with the errno of the kernel's facility; see ioctl_userfaultfd(2). ENOTTY: @fd
 *      is no context. EBADF. A context of another process: ESRCH, ENOMEM when that has ended.
 * Source: ioctl_userfaultfd(2). Since: 0.1
 */
int uf_context_ioctl(int fd, unsigned long req, void *arg);

/**
 * uf_context_read() - read messages, as read(2) on a context
 * @fd: a context
 * @msgs: where to put them; the caller's
 * @len_bytes: its size, at least sizeof(struct uf_msg); as many whole messages as are pending and
 *      fit are returned, at least one
 *
 * Waits for the first message unless the context is non-blocking. A fault that was resolved before
 * it was read is not reported.
 *
 * Context: any thread, several at once; a cancellation point. Blocks until an access is a fault
 *      of the context. A signal handler without SA_RESTART interrupts it.
 * Return: bytes, a multiple of sizeof(struct uf_msg), or -1: EAGAIN nothing pending and
 *      non-blocking; EINVAL @len_bytes too small, or before UF_IO_API; EINTR; EFAULT; EBADF.
 * Source: userfaultfd(2). Since: 0.1
 */
ssize_t uf_context_read(int fd, struct uf_msg *msgs, size_t len_bytes);

/**
 * uf_poll() - poll(2) on descriptors of which some may be contexts
 * @fds: as for poll(2): contexts of both backends and whatever else
 * @count: how many
 * @timeout_ms: -1 waits for ever
 *
 * poll(2), select(2) and epoll(7) themselves work as doorbells: a message pending makes the
 * descriptor readable. They may also ring when there is none (read then says EAGAIN), and know
 * neither POLLERR of a blocking context nor that a context is never writable.
 *
 * Context: any thread; a cancellation point. Blocks until an event or the timeout.
 * Return: how many have events, 0 at the timeout, or -1: EINTR, EINVAL, EFAULT, ENOMEM.
 * Source: poll(2), userfaultfd(2). Since: 0.1
 */
int uf_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

/**
 * uf_context_close() - close a descriptor of a context
 * @fd: a context, or any descriptor
 *
 * The last close, of all duplicates, releases the context: its ranges are unregistered, and waiting
 * threads retry and go on as if they had never been registered.
 *
 * Differs: on the user backend close(2) itself leaves the number marked as a context.
 * Context: any thread, also while others wait in the context. Does not block.
 * Return: 0, or -1: EBADF.
 * Source: close(2). Since: 0.1
 */
int uf_context_close(int fd);

#define UF_HANDLER_RETRY 0 /* resolved, or to be tried again */
#define UF_HANDLER_QUEUE 1 /* not mine: let a reader of the context have it */
#define UF_HANDLER_WAIT  2 /* it will be resolved */

/**
 * uf_handler - called in the thread whose access is a fault of a context
 * @fd: the context, by the number that uf_set_handler() was given
 * @msg: the fault, as a reader would get it; valid during the call
 * @arg: as given to uf_set_handler()
 *
 * The handler gets every kind of fault that the range is registered for. It resolves it by
 * uf_context_ioctl() with what goes with msg->arg.pagefault.flags, and returns:
 *
 *      UF_PAGEFAULT_FLAG_MINOR  UF_IO_CONTINUE: the file has the page
 *      UF_PAGEFAULT_FLAG_WP     UF_IO_WRITEPROTECT, mode 0: the page is there, and protected
 *      UF_PAGEFAULT_FLAG_RWP    UF_IO_RWPROTECT, mode 0: the same, where reads are reported, too
 *      none of these            UF_IO_COPY or UF_IO_ZEROPAGE: the page is missing
 *
 * UF_PAGEFAULT_FLAG_WRITE may be set beside each and only says that the access writes. EEXIST of
 * the ioctls that provide a page means that another thread was faster (those that touch a page at
 * once each call the handler), and is no failure. But it is also what they answer to a page that is
 * only protected: after UF_HANDLER_RETRY the access is made again, and if it is still a fault the
 * handler is called again, for ever if it never does what the fault needs.
 *
 * Context: the touching thread, in a signal handler: on its stack (about 4 KiB of it are used
 *      before the handler begins) or, if SIGSEGV asks for that, on its alternate stack. All signals
 *      but SIGSEGV and SIGBUS are blocked. errno is restored after it. What it may call depends on
 *      where the program touches registered memory: only what is async-signal-safe if libc may do
 *      so (a heap, a buffer handed to printf), anything if only code of the program's own does,
 *      with no lock held that the handler takes. It may touch missing memory of a registered
 *      range, except the page that it is called for: its handler is called, nested. It may block.
 *      It may leave by siglongjmp(3) to a place that saved the mask.
 * Return: UF_HANDLER_RETRY; UF_HANDLER_QUEUE; UF_HANDLER_WAIT: the handler has seen to it that the
 *      fault will be resolved, so the thread waits as for a reader, and none is told (a wake that
 *      comes before it waits is not lost: the access is made again then); or a negative errno: the
 *      thread gets SIGBUS at the address, or EFAULT if the touch was for a system call of the
 *      facility.
 * Since: 0.1
 */
typedef int uf_handler(int fd, const struct uf_msg *msg, void *arg);

/**
 * uf_set_handler() - let the threads that touch registered pages resolve their faults
 * @fd: a context of the user backend; to be kept open under this number while the handler is set
 * @handler: what to call; NULL: none, faults become messages again
 * @arg: handed to it; must stay valid until no call of it can be running
 *
 * From now on a fault of the context is not reported to its readers but handed to @handler. It
 * comes before UF_FEATURE_SIGBUS. Threads that wait already keep waiting for a reader. A call that
 * is running is not waited for.
 *
 * Differs: the kernel has no such thing.
 * Context: any thread. Does not block.
 * Return: 0, or -1: ENOTSUP a context of the kernel's backend; ENOTTY no context, or one of another
 *      process; EBADF.
 * Since: 0.1
 */
int uf_set_handler(int fd, uf_handler *handler, void *arg);

/**
 * uf_syscall() - a system call that the facility sees
 * @nr: SYS_munmap, SYS_mremap, SYS_madvise, SYS_mprotect, SYS_mlock, SYS_shmdt, SYS_ftruncate,
 *      SYS_fallocate, SYS_dup, SYS_fcntl, SYS_ppoll, ... or any other
 *
 * As syscall(2), with the calls that concern registered memory and contexts answered as if the
 * facility were the kernel's. A call that concerns neither is made as it is.
 *
 * Context: any thread. Blocks as the call does; no cancellation point, but for reading and polling.
 * Return: what the system call returns, or -1 with its errno; ENOSYS: vfork and clone with
 * CLONE_VM, which no function can return from twice. Source: syscall(2). Since: 0.1
 */
long uf_syscall(long nr, ...);

/**
 * uf_sigaction() - sigaction(2) beside the facility
 * @sig: a signal, @act: its new action or NULL, @old: where to put the previous one, or NULL
 *
 * For SIGSEGV and SIGBUS: the program's handler gets what is not the facility's, exactly as the
 * kernel would deliver it. For other signals: a touch that the handler interrupts is begun anew
 * after it, its message withdrawn if nobody read it, and the handler may leave by siglongjmp(3).
 *
 * Differs: sigaction(2) itself would put the facility's handlers out.
 * Context: any thread, signal handlers. Does not block.
 * Return: 0, or -1: EINVAL no such signal, or one that cannot be caught.
 * Source: sigaction(2). Since: 0.1
 */
int uf_sigaction(int sig, const struct sigaction *act, struct sigaction *old);

#ifdef __cplusplus
}
#endif

#endif
