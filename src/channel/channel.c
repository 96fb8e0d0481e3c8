/* SPDX-License-Identifier: MIT */
#include "channel/channel.h"
#include "client.h"
#include "core/remote.h"
#include "lanes.h"
#include "local.h"
#include "served.h"

static void fork_child(void)
{
    server_fork_child();
    client_fork_child();
}

static const struct core_remote remote = {
    .recognise = client_recognise,
    .ioctl = client_ioctl,
    .read = client_read,
    .poll = client_poll,
    .spin = client_spin,
    .look = client_look,
    .attend = client_attend,
    .in_epoll = client_in_epoll,
    .drain = client_drain,
    .tells = client_enabled,
    .set_flags = client_forget,
    .closed = client_closed,
    .offered = served_offered,
    .given = served_given,
    .gave = served_gave,
    .settle = lanes_settle,
    .leaves = server_start,
    .moved = served_moved,
    .exec_prepare = server_exec_prepare,
    .exec_failed = server_exec_failed,
    .fork_child = fork_child,
};

void channel_init(void)
{
    core_remote = &remote;
}
