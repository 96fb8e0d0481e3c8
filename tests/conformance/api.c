/* SPDX-License-Identifier: MIT */
/* UFFDIO_API: negotiation, and what a context answers before it. */
#include "harness.h"

#define GENERIC_IOCTLS ((1ull << UF_NR_API) | (1ull << UF_NR_REGISTER) | (1ull << UF_NR_UNREGISTER))

static int api_call(int uffd, struct uf_io_api *api)
{
    return ioctl(uffd, UF_IO_API, api) == 0 ? 0 : -errno;
}

static void check_zeroed(const struct uf_io_api *api)
{
    CHECK_EQ(api->api, 0);
    CHECK_EQ(api->features, 0);
    CHECK_EQ(api->ioctls, 0);
}

static void api_enable(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);
    struct uf_io_api api = {.api = UF_API, .ioctls = 0x1234};

    CHECK_EQ(api_call(uffd, &api), 0);
    CHECK_EQ(api.api, UF_API);
    CHECK_EQ(api.features, conf_env.features);
    CHECK_EQ(api.ioctls & GENERIC_IOCTLS, GENERIC_IOCTLS);
}

static void api_same_answer(enum mem_kind kind)
{
    int one = uffd_open_bare(0), two = uffd_open_bare(O_NONBLOCK);
    struct uf_io_api all = {.api = UF_API};
    struct uf_io_api some = {.api = UF_API, .features = UF_FEATURE_THREAD_ID};

    CHECK_EQ(api_call(one, &all), 0);
    CHECK_EQ(api_call(two, &some), 0);
    /* Available, not enabled, features are what is told. */
    CHECK_EQ(some.features, all.features);
    CHECK_EQ(some.ioctls, all.ioctls);
}

static void api_bad_version(enum mem_kind kind)
{
    const uint64_t versions[] = {0, 0xA9, 0xAB, 0x1AA, ~0ull, UF_API | 1ull << 32};
    int uffd = uffd_open_bare(0);

    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        struct uf_io_api api = {.api = versions[i], .ioctls = 7};
        CHECK_EQ(api_call(uffd, &api), -EINVAL);
        check_zeroed(&api);
    }
    CHECK_EQ(uffd_api(uffd, 0), 0); /* a refusal does not use the context up */
}

static void api_unknown_features(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);

    for (unsigned bit = 0; bit < 64; bit++) {
        struct uf_io_api api = {.api = UF_API, .features = 1ull << bit, .ioctls = 7};
        if (api.features & conf_env.features)
            continue;
        CHECK_EQ(api_call(uffd, &api), -EINVAL);
        check_zeroed(&api);
    }
    struct uf_io_api mixed = {.api = UF_API, .features = UF_FEATURE_THREAD_ID | 1ull << 63};
    CHECK_EQ(api_call(uffd, &mixed), -EINVAL);
    check_zeroed(&mixed);
    CHECK_EQ(uffd_api(uffd, 0), 0);
}

static void api_each_feature(enum mem_kind kind)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t feature = 1ull << bit;
        if (!(feature & conf_env.features))
            continue;
        /* RWP_ASYNC stands on RWP; EVENT_FORK is for the privileged. */
        if (feature == UF_FEATURE_RWP_ASYNC)
            feature |= UF_FEATURE_RWP;
        if (feature == UF_FEATURE_EVENT_FORK && !conf_env.full_mode)
            continue;
        int uffd = uffd_open_bare(0);
        CHECK_EQ(uffd_api(uffd, feature), 0);
        close(uffd);
    }
}

static void api_twice(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);
    struct uf_io_api again = {.api = UF_API};

    CHECK_EQ(uffd_api(uffd, 0), 0);
    CHECK_EQ(api_call(uffd, &again), -EINVAL);
    check_zeroed(&again);
    again = (struct uf_io_api){.api = UF_API, .features = UF_FEATURE_THREAD_ID};
    CHECK_EQ(api_call(uffd, &again), -EINVAL);
    check_zeroed(&again);
}

static void api_twice_with_features(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    int uffd = uffd_open_bare(O_NONBLOCK);

    CHECK_EQ(uffd_api(uffd, UF_FEATURE_THREAD_ID), 0);
    CHECK_EQ(uffd_api(uffd, UF_FEATURE_THREAD_ID), -EINVAL);
    CHECK_EQ(uffd_api(uffd, 0), -EINVAL);
    /* and the first one's features stay in force */
    struct touch touch = {0};
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    CHECK_EQ(uffd_next_fault(uffd, mem.addr, 0).arg.pagefault.feat.ptid, touch.tid);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    touch_join(&touch);
}

static void api_two_step(enum mem_kind kind)
{
    int probe = uffd_open_bare(0);
    struct uf_io_api api = {.api = UF_API};

    CHECK_EQ(api_call(probe, &api), 0);
    close(probe);
    api.features &= UF_FEATURE_THREAD_ID | UF_FEATURE_EXACT_ADDRESS;
    int uffd = uffd_open_bare(0);
    CHECK_EQ(api_call(uffd, &api), 0);
    CHECK_EQ(api.features, conf_env.features);
}

static void api_fault(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);
    struct uf_io_api *api = (struct uf_io_api *)mem_map(MEM_ANON, 1).addr;

    CHECK_ERRNO(ioctl(uffd, UF_IO_API, NULL), EFAULT);
    api->api = UF_API;
    CHECK_EQ(mprotect(api, page_size, PROT_READ), 0);
    CHECK_ERRNO(ioctl(uffd, UF_IO_API, api), EFAULT);
    CHECK_EQ(mprotect(api, page_size, PROT_NONE), 0);
    CHECK_ERRNO(ioctl(uffd, UF_IO_API, api), EFAULT);
    CHECK_EQ(uffd_api(uffd, 0), 0); /* none of them enabled it */
}

static void api_read_only_refusal(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);
    struct uf_io_api *api = (struct uf_io_api *)mem_map(MEM_ANON, 1).addr;

    api->api = UF_API + 1;
    CHECK_EQ(mprotect(api, page_size, PROT_READ), 0);
    /* The zeroed struct cannot be written: that is the error told. */
    CHECK_ERRNO(ioctl(uffd, UF_IO_API, api), EFAULT);
}

static void api_before(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    char *source = source_new(1, 0);
    int uffd = uffd_open_bare(O_NONBLOCK);
    char message[64];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), -EINVAL);
    CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), -EINVAL);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), -EINVAL);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), -EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_REGISTER, NULL), EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_COPY, NULL), EINVAL);
    CHECK_ERRNO(read(uffd, message, sizeof(message)), EINVAL);
    CHECK_ERRNO(read(uffd, message, 1), EINVAL);
    struct pollfd fd = {.fd = uffd, .events = POLLIN};
    CHECK_EQ(poll(&fd, 1, -1), 1);
    CHECK_EQ(fd.revents, POLLERR);
    CHECK_EQ(*mem.addr, 0); /* nothing was registered */
}

static void api_read_before_blocking(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);
    char message[64];

    CHECK_ERRNO(read(uffd, message, sizeof(message)), EINVAL);
}

static void api_event_fork_permission(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);
    struct uf_io_api api = {.api = UF_API, .features = UF_FEATURE_EVENT_FORK, .ioctls = 7};

    if (geteuid() == 0)
        case_skip("needs an ordinary user");
    if (conf_env.user_backend)
        case_skip("policy open permits everybody");
    CHECK_EQ(api_call(uffd, &api), -EPERM);
    check_zeroed(&api);
    CHECK_EQ(uffd_api(uffd, 0), 0);
}

static void *race_main(void *arg)
{
    int *uffd_and_ret = arg;

    uffd_and_ret[1] = uffd_api(uffd_and_ret[0], 0);
    return NULL;
}

static void api_race(enum mem_kind kind)
{
    for (int round = 0; round < 200; round++) {
        int uffd = uffd_open_bare(0), args[4][2], won = 0;
        pthread_t threads[4];

        for (int i = 0; i < 4; i++) {
            args[i][0] = uffd;
            CHECK_EQ(pthread_create(&threads[i], NULL, race_main, args[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            CHECK(args[i][1] == 0 || args[i][1] == -EINVAL);
            won += args[i][1] == 0;
        }
        CHECK_EQ(won, 1);
        close(uffd);
    }
}

#define RST_API "rst: Initializing a userfaultfd"
#define MAN_API "ioctl_userfaultfd(2): UFFDIO_API"

const struct conf_case api_cases[] = {
    {"api/enable", RST_API, .run = api_enable},
    {"api/same-answer", MAN_API, .features = UF_FEATURE_THREAD_ID, .run = api_same_answer},
    {"api/bad-version", RST_API, .run = api_bad_version},
    {"api/unknown-features", MAN_API, .run = api_unknown_features},
    {"api/each-feature", RST_API, .run = api_each_feature},
    {"api/twice", MAN_API, .run = api_twice},
    {"api/twice-with-features", MAN_API, .features = UF_FEATURE_THREAD_ID,
     .run = api_twice_with_features},
    {"api/two-step", MAN_API, .run = api_two_step},
    {"api/efault", MAN_API, .run = api_fault},
    {"api/refusal-into-read-only", MAN_API, .run = api_read_only_refusal},
    {"api/nothing-before-it", RST_API, .run = api_before},
    {"api/read-before-it", "userfaultfd(2): Reading", .run = api_read_before_blocking},
    {"api/event-fork-permission", MAN_API, .features = UF_FEATURE_EVENT_FORK,
     .run = api_event_fork_permission},
    {"api/race", MAN_API, .run = api_race},
    {.id = NULL},
};
