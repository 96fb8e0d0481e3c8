/* SPDX-License-Identifier: MIT */
/* libc's functions on sockets, pipes and queues; call_local.h says what a line means. */
#include "call_local.h"

/* Those in which descriptors travel: what arrives may be the first context of all. */
#define CALL_RIGHTS(name, nr_, ret_, argc)                                                         \
    PRELOAD_SITE_OF(site_##name, #name, nr_, ret_, argc);                                          \
    EXPORT long call_##name(long a, long b, long c, long d, long e) __asm__(#name);                \
    EXPORT long call_##name(long a, long b, long c, long d, long e)                                \
    {                                                                                              \
        const long args[6] = {a, b, c, (argc) > 3 ? d : 0, (argc) > 4 ? e : 0, 0};                 \
        preload_fn *fn = (preload_fn *)preload_real(&site_##name);                                 \
        long ret;                                                                                  \
                                                                                                   \
        if (!preload_bypass()) {                                                                   \
            return preload_made((void *)fn, nr_, PRELOAD_##ret_, args);                            \
        }                                                                                          \
        ret = fn(a, b, c, d, e, 0);                                                                \
        if ((int)ret >= 0 && (nr_ == SYS_recvmsg || nr_ == SYS_recvmmsg)) {                        \
            icall_rights_arrive(nr_, args, (int)ret);                                              \
        }                                                                                          \
        return ret;                                                                                \
    }

/* clang-format off */
CALL(recv, SYS_recvfrom, LONG, 4)
CALL(__recv_chk, ICALL_RECV_CHK, LONG, 5)
CALL(recvfrom, SYS_recvfrom, LONG, 6)
CALL_RIGHTS(recvmsg, SYS_recvmsg, LONG, 3)
CALL_RIGHTS(recvmmsg, SYS_recvmmsg, INT, 5)
CALL(send, SYS_sendto, LONG, 4)
CALL(__send, SYS_sendto, LONG, 4)
CALL(sendto, SYS_sendto, LONG, 6)
CALL_RIGHTS(sendmsg, SYS_sendmsg, LONG, 3)
CALL_RIGHTS(sendmmsg, SYS_sendmmsg, INT, 4)
CALL_RIGHTS(__sendmmsg, SYS_sendmmsg, INT, 4)
CALL(listen, SYS_listen, INT, 2)
CALL(shutdown, SYS_shutdown, INT, 2)
CALL(bind, SYS_bind, INT, 3)
CALL(connect, SYS_connect, INT, 3)
CALL(__connect, SYS_connect, INT, 3)
CALL(accept, SYS_accept, INT, 3)
CALL(accept4, SYS_accept4, INT, 4)
CALL(getsockname, SYS_getsockname, INT, 3)
CALL(getpeername, SYS_getpeername, INT, 3)
CALL(getsockopt, SYS_getsockopt, INT, 5)
CALL(setsockopt, SYS_setsockopt, INT, 5)
CALL(socketpair, SYS_socketpair, INT, 4)
CALL(pipe, ICALL_PIPE, INT, 1)
CALL(__pipe, ICALL_PIPE, INT, 1)
CALL(pipe2, SYS_pipe2, INT, 2)
CALL(epoll_wait, SYS_epoll_pwait, INT, 4)

CALL(semop, SYS_semop, INT, 3)
CALL(semtimedop, SYS_semtimedop, INT, 4)
CALL(semctl, SYS_semctl, INT, 4)
CALL(msgsnd, SYS_msgsnd, INT, 4)
CALL(msgrcv, SYS_msgrcv, LONG, 5)
CALL(msgctl, SYS_msgctl, INT, 3)
CALL(shmctl, SYS_shmctl, INT, 3)
CALL(mq_send, SYS_mq_timedsend, INT, 4)
CALL(mq_timedsend, SYS_mq_timedsend, INT, 5)
CALL(mq_receive, ICALL_MQ_RECEIVE, LONG, 4)
CALL(mq_timedreceive, SYS_mq_timedreceive, LONG, 5)
CALL(mq_open, SYS_mq_open, INT, 4)
CALL(mq_unlink, SYS_mq_unlink, INT, 1)
CALL(mq_getattr, ICALL_MQ_GETATTR, INT, 2)
CALL(mq_notify, SYS_mq_notify, INT, 2)
CALL(mq_setattr, SYS_mq_getsetattr, INT, 3)
/* clang-format on */

/* Seven arguments: the last is on the stack. */
long call_recvfrom_chk(int fd, void *buf, size_t len, size_t buf_len, int flags, void *addr,
                       void *addr_len) __asm__("__recvfrom_chk");
EXPORT long call_recvfrom_chk(int fd, void *buf, size_t len, size_t buf_len, int flags, void *addr,
                              void *addr_len)
{
    static __typeof__(&call_recvfrom_chk) real_fn;

    if (len > buf_len) {
        if (!real_fn) {
            real_fn = (__typeof__(real_fn))dlsym(RTLD_NEXT, "__recvfrom_chk");
        }
        return real_fn(fd, buf, len, buf_len, flags, addr, addr_len); /* aborts */
    }
    return call_recvfrom(fd, (long)buf, (long)len, flags, (long)addr, (long)addr_len);
}
