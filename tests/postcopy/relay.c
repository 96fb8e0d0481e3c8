/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

static bool read_all(int fd, void *to, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)to + done, len - done);

        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool send_all(int fd, const void *from, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, (const char *)from + done, len - done, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* A side has closed its end, or is gone: the other sees the same. */
static void end_link(struct relay *relay, int side, unsigned link)
{
    close(relay->ends[side][link]);
    relay->ends[side][link] = -1;
    if (relay->ends[!side][link] >= 0)
        shutdown(relay->ends[!side][link], SHUT_RDWR); /* nobody takes what it writes, either */
}

static void note_pages(struct relay *relay, const struct wire_header *header)
{
    const struct sides_how *how = relay->how;
    size_t first = (header->region ? how->pages[0] : 0) + header->offset / how->page;

    for (size_t i = first; i < first + header->length / how->page && i < RELAY_PAGES; i++) {
        relay->again += relay->sent[i];
        relay->sent[i] = true;
    }
}

static bool is_here(struct relay *relay, const struct wire_header *header, long cut)
{
    bool last = header->type != WIRE_REQUEST || header->region == SIDES_REGIONS - 1;

    if (!relay->at)
        return relay->counting && relay->count == cut;
    if (header->type != relay->at || !last)
        return false;
    relay->at_again |= relay->at_met && relay->at_offset == header->offset;
    if (relay->at_met)
        return false;
    relay->at_met = true;
    relay->at_offset = header->offset;
    return true;
}

/* What cannot be understood: what is read at once counts as a message. */
static bool pass_on_bytes(struct relay *relay, int side, unsigned link, long cut,
                          enum relay_where where)
{
    uint8_t bytes[16384];
    ssize_t len = read(relay->ends[side][link], bytes, sizeof(bytes));
    bool here = relay->count == cut;

    if (len <= 0) {
        end_link(relay, side, link);
        return false;
    }
    relay->count++;
    if (here && where != BEHIND)
        len = where == BEFORE ? 0 : len / 2;
    if (relay->ends[!side][link] < 0 || !send_all(relay->ends[!side][link], bytes, (size_t)len))
        end_link(relay, side, link);
    return here;
}

/* Return: whether the cut is here. */
static bool pass_on(struct relay *relay, int side, unsigned link, long cut, enum relay_where where)
{
    static uint8_t bytes[WIRE_HEADER + WIRE_PAYLOAD_MAX];
    struct wire_header header;
    size_t len;
    bool here;

    if (relay->how->psk_file)
        return pass_on_bytes(relay, side, link, cut, where);
    if (!read_all(relay->ends[side][link], bytes, WIRE_HEADER) || wire_decode(bytes, &header) ||
        !read_all(relay->ends[side][link], bytes + WIRE_HEADER, header.payload)) {
        end_link(relay, side, link);
        return false;
    }
    relay->session = header.type == WIRE_HELLO ? header.offset : relay->session;
    relay->counting |= header.type == WIRE_PREPARE;
    relay->switched |= header.type == WIRE_READY;
    here = is_here(relay, &header, cut);
    if (relay->forget && header.type == WIRE_MISSING) {
        memset(bytes + WIRE_HEADER, 0xff, header.payload);
        wire_encode(bytes, &header, bytes + WIRE_HEADER);
    }
    relay->count += relay->counting;
    len = WIRE_HEADER + header.payload;
    if (here && where != BEHIND)
        len = where == BEFORE ? 0 : len / 2;
    else if (relay->switched && (header.type == WIRE_PAGES || header.type == WIRE_ZERO))
        note_pages(relay, &header);
    if (relay->ends[!side][link] < 0 || !send_all(relay->ends[!side][link], bytes, len))
        end_link(relay, side, link);
    return here;
}

/*
 * A process that ends closes its line before its links, or behind them: the other side waits for
 * ever if it does not see the latter.
 */
static bool ends_yet(const struct relay *relay, const struct pollfd *line, int side)
{
    bool open = false;

    for (unsigned i = 0; i < sides_links(relay->how); i++)
        open |= relay->ends[side][i] >= 0;
    return line->revents & POLLHUP && open;
}

bool relay_run(struct relay *relay, const struct sides *sides, long cut, enum relay_where where)
{
    unsigned links = sides_links(relay->how);

    for (;;) {
        struct pollfd fds[2 + 2 * RELAY_LINKS];
        bool any = false;

        fds[0] = (struct pollfd){.fd = sides->line[0], .events = POLLIN};
        fds[1] = (struct pollfd){.fd = sides->line[1], .events = POLLIN};
        for (unsigned i = 0; i < 2 * links; i++)
            fds[2 + i] = (struct pollfd){.fd = relay->ends[i / links][i % links], .events = POLLIN};
        if (poll(fds, 2 + 2 * links, SIDES_PATIENCE * 1000) <= 0)
            return false;
        for (unsigned i = 0; i < 2 * links; i++) {
            if (!fds[2 + i].revents || relay->ends[i / links][i % links] < 0)
                continue;
            any = true;
            if (pass_on(relay, (int)(i / links), i % links, cut, where))
                return true;
        }
        if (!any && ((fds[0].revents && !ends_yet(relay, &fds[0], 0)) ||
                     (fds[1].revents && !ends_yet(relay, &fds[1], 1))))
            return false;
    }
}

void relay_drain(const struct relay *relay)
{
    for (unsigned i = 0; i < sides_links(relay->how); i++) {
        int left = 0;

        while (relay->ends[1][i] >= 0 && ioctl(relay->ends[1][i], SIOCOUTQ, &left) == 0 && left > 0)
            sched_yield();
    }
}

void relay_cut(struct relay *relay, int link)
{
    for (int side = 0; side < 2; side++) {
        for (unsigned i = 0; i < sides_links(relay->how); i++) {
            if (relay->ends[side][i] >= 0 && (link < 0 || (unsigned)link == i))
                shutdown(relay->ends[side][i], SHUT_RDWR);
        }
    }
}

void relay_close(struct relay *relay)
{
    for (int side = 0; side < 2; side++) {
        for (unsigned i = 0; i < sides_links(relay->how); i++) {
            if (relay->ends[side][i] >= 0)
                close(relay->ends[side][i]);
            relay->ends[side][i] = -1;
        }
    }
}
