/* SPDX-License-Identifier: MIT */
/* Bytes as a header: what is taken keeps to the limits, and is written as it was read. */
#include "played.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[WIRE_HEADER] = {0}, again[WIRE_HEADER];
    struct wire_header header;
    struct wire_run run;
    int ret;

    memcpy(bytes, data, size < sizeof(bytes) ? size : sizeof(bytes));
    wire_get_run(bytes, &run);
    wire_put_run(again, &run);
    MUST(!memcmp(bytes, again, WIRE_RUN));
    ret = wire_decode(bytes, &header);
    MUST(ret == 0 || ret == -EPROTO);
    if (ret)
        return 0;
    MUST(header.type > 0 && header.type < WIRE_TYPES && header.payload <= WIRE_PAYLOAD_MAX);
    if (strchr("\x05\x08\x09\x0a\x0c\x0d\x0e\x10\x13\x14", header.type)) /* words alone */
        MUST(!header.payload && !header.region && !header.offset && !header.length);
    size -= WIRE_HEADER < size ? WIRE_HEADER : size;
    if (header.payload <= size) {
        const uint8_t *payload = data + WIRE_HEADER;

        ret = wire_check(&header, payload);
        MUST(ret == 0 || ret == -EBADMSG);
        wire_encode(again, &header, payload);
        MUST((memcmp(bytes, again, WIRE_HEADER) == 0) == (ret == 0));
        MUST(wire_check(&header, payload) == 0);
    }
    return 0;
}
