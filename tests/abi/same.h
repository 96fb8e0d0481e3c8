/* SPDX-License-Identifier: MIT */
/*
 * The system's own header against ours, number by number and struct by struct. Included by one file
 * for each order of the two headers; nothing here runs, a difference does not compile.
 *
 * What Linux 6.1 had (the oldest header that the project builds with) is compared always, what came
 * later where the system's header has it.
 */
#ifndef TESTS_ABI_SAME_H
#define TESTS_ABI_SAME_H

#include <stddef.h>

#define SAME(theirs, ours) _Static_assert((theirs) == (ours), #theirs " differs from " #ours)
#define SAME_FIELD(theirs, ours, field)                                                            \
    SAME(offsetof(struct theirs, field), offsetof(struct ours, field));                            \
    SAME(sizeof(((struct theirs *)0)->field), sizeof(((struct ours *)0)->field))

/* ioctl numbers */
SAME(UFFDIO_API, UF_IO_API);
SAME(UFFDIO_REGISTER, UF_IO_REGISTER);
SAME(UFFDIO_UNREGISTER, UF_IO_UNREGISTER);
SAME(UFFDIO_WAKE, UF_IO_WAKE);
SAME(UFFDIO_COPY, UF_IO_COPY);
SAME(UFFDIO_ZEROPAGE, UF_IO_ZEROPAGE);
SAME(UFFDIO_WRITEPROTECT, UF_IO_WRITEPROTECT);
SAME(UFFDIO_CONTINUE, UF_IO_CONTINUE);
SAME(USERFAULTFD_IOC_NEW, UF_IOC_NEW);

/* bits of the ioctls masks */
SAME(_UFFDIO_REGISTER, UF_NR_REGISTER);
SAME(_UFFDIO_UNREGISTER, UF_NR_UNREGISTER);
SAME(_UFFDIO_WAKE, UF_NR_WAKE);
SAME(_UFFDIO_COPY, UF_NR_COPY);
SAME(_UFFDIO_ZEROPAGE, UF_NR_ZEROPAGE);
SAME(_UFFDIO_WRITEPROTECT, UF_NR_WRITEPROTECT);
SAME(_UFFDIO_CONTINUE, UF_NR_CONTINUE);
SAME(_UFFDIO_API, UF_NR_API);

/* creation and negotiation */
SAME(UFFD_API, UF_API);
SAME(UFFD_USER_MODE_ONLY, UF_USER_MODE_ONLY);

/* features */
SAME(UFFD_FEATURE_PAGEFAULT_FLAG_WP, UF_FEATURE_PAGEFAULT_FLAG_WP);
SAME(UFFD_FEATURE_EVENT_FORK, UF_FEATURE_EVENT_FORK);
SAME(UFFD_FEATURE_EVENT_REMAP, UF_FEATURE_EVENT_REMAP);
SAME(UFFD_FEATURE_EVENT_REMOVE, UF_FEATURE_EVENT_REMOVE);
SAME(UFFD_FEATURE_MISSING_HUGETLBFS, UF_FEATURE_MISSING_HUGETLBFS);
SAME(UFFD_FEATURE_MISSING_SHMEM, UF_FEATURE_MISSING_SHMEM);
SAME(UFFD_FEATURE_EVENT_UNMAP, UF_FEATURE_EVENT_UNMAP);
SAME(UFFD_FEATURE_SIGBUS, UF_FEATURE_SIGBUS);
SAME(UFFD_FEATURE_THREAD_ID, UF_FEATURE_THREAD_ID);
SAME(UFFD_FEATURE_MINOR_HUGETLBFS, UF_FEATURE_MINOR_HUGETLBFS);
SAME(UFFD_FEATURE_MINOR_SHMEM, UF_FEATURE_MINOR_SHMEM);
SAME(UFFD_FEATURE_EXACT_ADDRESS, UF_FEATURE_EXACT_ADDRESS);
SAME(UFFD_FEATURE_WP_HUGETLBFS_SHMEM, UF_FEATURE_WP_HUGETLBFS_SHMEM);

/* modes */
SAME(UFFDIO_REGISTER_MODE_MISSING, UF_REGISTER_MODE_MISSING);
SAME(UFFDIO_REGISTER_MODE_WP, UF_REGISTER_MODE_WP);
SAME(UFFDIO_REGISTER_MODE_MINOR, UF_REGISTER_MODE_MINOR);
SAME(UFFDIO_COPY_MODE_DONTWAKE, UF_COPY_MODE_DONTWAKE);
SAME(UFFDIO_COPY_MODE_WP, UF_COPY_MODE_WP);
SAME(UFFDIO_ZEROPAGE_MODE_DONTWAKE, UF_ZEROPAGE_MODE_DONTWAKE);
SAME(UFFDIO_WRITEPROTECT_MODE_WP, UF_WRITEPROTECT_MODE_WP);
SAME(UFFDIO_WRITEPROTECT_MODE_DONTWAKE, UF_WRITEPROTECT_MODE_DONTWAKE);
SAME(UFFDIO_CONTINUE_MODE_DONTWAKE, UF_CONTINUE_MODE_DONTWAKE);

/* messages */
SAME(UFFD_EVENT_PAGEFAULT, UF_EVENT_PAGEFAULT);
SAME(UFFD_EVENT_FORK, UF_EVENT_FORK);
SAME(UFFD_EVENT_REMAP, UF_EVENT_REMAP);
SAME(UFFD_EVENT_REMOVE, UF_EVENT_REMOVE);
SAME(UFFD_EVENT_UNMAP, UF_EVENT_UNMAP);
SAME(UFFD_PAGEFAULT_FLAG_WRITE, UF_PAGEFAULT_FLAG_WRITE);
SAME(UFFD_PAGEFAULT_FLAG_WP, UF_PAGEFAULT_FLAG_WP);
SAME(UFFD_PAGEFAULT_FLAG_MINOR, UF_PAGEFAULT_FLAG_MINOR);

/* ioctl arguments */
SAME(sizeof(struct uffdio_api), sizeof(struct uf_io_api));
SAME_FIELD(uffdio_api, uf_io_api, api);
SAME_FIELD(uffdio_api, uf_io_api, features);
SAME_FIELD(uffdio_api, uf_io_api, ioctls);
SAME(sizeof(struct uffdio_range), sizeof(struct uf_io_range));
SAME_FIELD(uffdio_range, uf_io_range, start);
SAME_FIELD(uffdio_range, uf_io_range, len);
SAME(sizeof(struct uffdio_register), sizeof(struct uf_io_register));
SAME_FIELD(uffdio_register, uf_io_register, range);
SAME_FIELD(uffdio_register, uf_io_register, mode);
SAME_FIELD(uffdio_register, uf_io_register, ioctls);
SAME(sizeof(struct uffdio_copy), sizeof(struct uf_io_copy));
SAME_FIELD(uffdio_copy, uf_io_copy, dst);
SAME_FIELD(uffdio_copy, uf_io_copy, src);
SAME_FIELD(uffdio_copy, uf_io_copy, len);
SAME_FIELD(uffdio_copy, uf_io_copy, mode);
SAME_FIELD(uffdio_copy, uf_io_copy, copy);
SAME(sizeof(struct uffdio_zeropage), sizeof(struct uf_io_zeropage));
SAME_FIELD(uffdio_zeropage, uf_io_zeropage, range);
SAME_FIELD(uffdio_zeropage, uf_io_zeropage, mode);
SAME_FIELD(uffdio_zeropage, uf_io_zeropage, zeropage);
SAME(sizeof(struct uffdio_writeprotect), sizeof(struct uf_io_writeprotect));
SAME_FIELD(uffdio_writeprotect, uf_io_writeprotect, range);
SAME_FIELD(uffdio_writeprotect, uf_io_writeprotect, mode);
SAME(sizeof(struct uffdio_continue), sizeof(struct uf_io_continue));
SAME_FIELD(uffdio_continue, uf_io_continue, range);
SAME_FIELD(uffdio_continue, uf_io_continue, mode);
SAME_FIELD(uffdio_continue, uf_io_continue, mapped);

/* the message */
SAME(sizeof(struct uffd_msg), sizeof(struct uf_msg));
SAME_FIELD(uffd_msg, uf_msg, event);
SAME_FIELD(uffd_msg, uf_msg, arg.pagefault.flags);
SAME_FIELD(uffd_msg, uf_msg, arg.pagefault.address);
SAME_FIELD(uffd_msg, uf_msg, arg.pagefault.feat.ptid);
SAME_FIELD(uffd_msg, uf_msg, arg.fork.ufd);
SAME_FIELD(uffd_msg, uf_msg, arg.remap.from);
SAME_FIELD(uffd_msg, uf_msg, arg.remap.to);
SAME_FIELD(uffd_msg, uf_msg, arg.remap.len);
SAME_FIELD(uffd_msg, uf_msg, arg.remove.start);
SAME_FIELD(uffd_msg, uf_msg, arg.remove.end);

/* newer than Linux 6.1 */
#ifdef UFFD_FEATURE_WP_UNPOPULATED
SAME(UFFD_FEATURE_WP_UNPOPULATED, UF_FEATURE_WP_UNPOPULATED);
#endif
#ifdef UFFDIO_CONTINUE_MODE_WP
SAME(UFFDIO_CONTINUE_MODE_WP, UF_CONTINUE_MODE_WP);
#endif
#ifdef UFFD_FEATURE_POISON
SAME(UFFD_FEATURE_POISON, UF_FEATURE_POISON);
#endif
#ifdef UFFDIO_POISON
SAME(UFFDIO_POISON, UF_IO_POISON);
#endif
#ifdef UFFDIO_POISON_MODE_DONTWAKE
SAME(UFFDIO_POISON_MODE_DONTWAKE, UF_POISON_MODE_DONTWAKE);
#endif
#ifdef UFFD_FEATURE_WP_ASYNC
SAME(UFFD_FEATURE_WP_ASYNC, UF_FEATURE_WP_ASYNC);
#endif
#ifdef UFFD_FEATURE_MOVE
SAME(UFFD_FEATURE_MOVE, UF_FEATURE_MOVE);
#endif
#ifdef UFFDIO_MOVE
SAME(UFFDIO_MOVE, UF_IO_MOVE);
#endif
#ifdef UFFDIO_MOVE_MODE_DONTWAKE
SAME(UFFDIO_MOVE_MODE_DONTWAKE, UF_MOVE_MODE_DONTWAKE);
#endif
#ifdef UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES
SAME(UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES, UF_MOVE_MODE_ALLOW_SRC_HOLES);
#endif
#ifdef UFFD_FEATURE_RWP
SAME(UFFD_FEATURE_RWP, UF_FEATURE_RWP);
#endif
#ifdef UFFD_FEATURE_RWP_ASYNC
SAME(UFFD_FEATURE_RWP_ASYNC, UF_FEATURE_RWP_ASYNC);
#endif
#ifdef UFFDIO_REGISTER_MODE_RWP
SAME(UFFDIO_REGISTER_MODE_RWP, UF_REGISTER_MODE_RWP);
#endif
#ifdef UFFD_PAGEFAULT_FLAG_RWP
SAME(UFFD_PAGEFAULT_FLAG_RWP, UF_PAGEFAULT_FLAG_RWP);
#endif
#ifdef UFFDIO_RWPROTECT
SAME(UFFDIO_RWPROTECT, UF_IO_RWPROTECT);
#endif
#ifdef UFFDIO_SET_MODE
SAME(UFFDIO_SET_MODE, UF_IO_SET_MODE);
#endif
#ifdef UFFDIO_POISON
SAME(sizeof(struct uffdio_poison), sizeof(struct uf_io_poison));
SAME_FIELD(uffdio_poison, uf_io_poison, range);
SAME_FIELD(uffdio_poison, uf_io_poison, mode);
SAME_FIELD(uffdio_poison, uf_io_poison, updated);
#endif
#ifdef UFFDIO_MOVE
SAME(sizeof(struct uffdio_move), sizeof(struct uf_io_move));
SAME_FIELD(uffdio_move, uf_io_move, dst);
SAME_FIELD(uffdio_move, uf_io_move, src);
SAME_FIELD(uffdio_move, uf_io_move, len);
SAME_FIELD(uffdio_move, uf_io_move, mode);
SAME_FIELD(uffdio_move, uf_io_move, move);
#endif
#ifdef UFFDIO_RWPROTECT
SAME(sizeof(struct uffdio_rwprotect), sizeof(struct uf_io_rwprotect));
SAME_FIELD(uffdio_rwprotect, uf_io_rwprotect, range);
SAME_FIELD(uffdio_rwprotect, uf_io_rwprotect, mode);
#endif
#ifdef UFFDIO_SET_MODE
SAME(sizeof(struct uffdio_set_mode), sizeof(struct uf_io_set_mode));
SAME_FIELD(uffdio_set_mode, uf_io_set_mode, enable);
SAME_FIELD(uffdio_set_mode, uf_io_set_mode, disable);
#endif

#endif
