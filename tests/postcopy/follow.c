/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

#include "follow.h"

static size_t ip_len(const uint8_t *packet)
{
    return (size_t)(packet[0] & 15) * 4;
}

bool follow_is_tcp(const uint8_t *packet, size_t len)
{
    return len >= sizeof(struct iphdr) && packet[0] >> 4 == 4 && packet[9] == IPPROTO_TCP &&
           len >= ip_len(packet) + sizeof(struct tcphdr);
}

struct follow_place follow_place(const uint8_t *packet)
{
    struct tcphdr tcp;

    memcpy(&tcp, packet + ip_len(packet), sizeof(tcp));
    return (struct follow_place){ntohs(tcp.source), ntohs(tcp.dest), ntohl(tcp.seq)};
}

/* A SYN begins a stream anew, in place of the oldest if there are too many. */
static struct follow_stream *stream_of(struct follow *follow, const struct tcphdr *tcp)
{
    uint16_t from = ntohs(tcp->source), to = ntohs(tcp->dest);
    struct follow_stream *stream;

    for (unsigned i = 0; !tcp->syn && i < FOLLOW_STREAMS; i++) {
        stream = &follow->streams[i];
        if (stream->used && stream->from == from && stream->to == to)
            return stream;
    }
    if (!tcp->syn)
        return NULL;
    stream = &follow->streams[follow->newest++ % FOLLOW_STREAMS];
    *stream =
        (struct follow_stream){.from = from, .to = to, .used = true, .next = ntohl(tcp->seq) + 1};
    return stream;
}

static void take(struct follow_stream *stream, const uint8_t *bytes, size_t len,
                 follow_message *tell, void *arg)
{
    while (len > 0 && !stream->lost) {
        size_t n = stream->skip ? stream->skip : WIRE_HEADER - stream->have;
        struct wire_header header = {0};

        n = n < len ? n : len;
        if (stream->skip) {
            stream->skip -= n;
        } else {
            memcpy(stream->header + stream->have, bytes, n);
            stream->have += n;
        }
        bytes += n;
        len -= n;
        if (stream->have < WIRE_HEADER)
            continue;
        stream->have = 0;
        stream->lost = wire_decode(stream->header, &header) != 0;
        stream->skip = header.payload;
        if (!stream->lost)
            tell(arg, stream->from, stream->to, &header);
    }
}

void follow_packet(struct follow *follow, const uint8_t *packet, size_t len, follow_message *tell,
                   void *arg)
{
    struct iphdr ip;
    struct tcphdr tcp;
    struct follow_stream *stream;
    size_t head, end, old;

    memcpy(&ip, packet, sizeof(ip));
    memcpy(&tcp, packet + ip_len(packet), sizeof(tcp));
    head = ip_len(packet) + (size_t)tcp.doff * 4;
    end = ntohs(ip.tot_len) < len ? ntohs(ip.tot_len) : len;
    stream = stream_of(follow, &tcp);
    if (!stream || stream->lost || tcp.syn || head >= end)
        return;
    old = stream->next - ntohl(tcp.seq); /* bytes that came before; wraps round if there is a gap */
    if ((int32_t)(uint32_t)old < 0) {
        stream->lost = true;
        return;
    }
    old = (uint32_t)old;
    if (old >= end - head)
        return;
    stream->next += (uint32_t)(end - head - old);
    take(stream, packet + head + old, end - head - old, tell, arg);
}
