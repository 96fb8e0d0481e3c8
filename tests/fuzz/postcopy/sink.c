/* SPDX-License-Identifier: MIT */
/*
 * A sink and a hostile source: whatever it says, the sink writes nowhere but into its regions,
 * comes to an end with words, leaves nothing behind, and allocates no more than it states.
 */
#include "played.h"

#include <errno.h>

/* As userfault-postcopy(7) states it: a message a link, and the state (what zstd has for itself is
 * not counted here: parts.c); and what is small. */
#define BOUND(links) ((links) * (size_t)WIRE_PAYLOAD_MAX + UF_POSTCOPY_BLOB_MAX + 65536)

static struct hostile hostile;
static struct script input;
static struct uf_postcopy_links links; /* the engine's ends */
static int resumes, resume_error;
static bool reconnects;

static int resume(void *arg, const void *blob, size_t len_bytes)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len_bytes; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)blob)[i]);
    resumes++;
    MUST(len_bytes <= UF_POSTCOPY_BLOB_MAX && (len_bytes > 0 || sum == 0));
    return resume_error;
}

static int reconnect(void *arg, int error, struct uf_postcopy_links *ret)
{
    int ret_error;

    MUST(error < 0);
    ret_error = hostile_again(&hostile, &input, &links);
    *ret = links;
    return ret_error;
}

/* The sink's requests are for pages of its regions. */
static void said(const struct wire_header *header, unsigned link)
{
    const struct played_region *region;

    MUST(link < hostile.count);
    if (header->type != WIRE_REQUEST)
        return;
    MUST(header->region < hostile.regions);
    region = &played_regions[header->region];
    MUST(header->length == region->page && header->offset < region->len &&
         header->offset % region->page == 0 && header->payload == 0);
}

static void read_facility(struct script *script, bool kernel)
{
    static const int errors[] = {EAGAIN, EEXIST, ENOMEM, EINVAL, ENOENT, EFAULT};
    uint8_t kind = script_byte(script), faults = script_byte(script);
    struct facility how = {.kernel = kernel,
                           .no_poison = kind & 1,
                           .keeps_shared = kind & 2,
                           .short_copies = kind & 4};

    if (kind & 8) {
        how.fail_at = 1 + script_byte(script) % 16;
        how.fail_errno = errors[kind / 16 % 6];
    }
    for (unsigned i = 0; i < faults % 4; i++) {
        const struct played_region *region = &played_regions[(faults / 4 + i) % hostile.regions];

        how.faults[i] = (uintptr_t)region->start + faults * 977u % region->len;
    }
    facility_reset(&how);
}

static void check_end(struct uf_sink *sink, int ret)
{
    struct uf_postcopy_stats stats;

    uf_sink_stats(sink, &stats);
    fuzz_recovered += stats.recoveries > 0;
    if (getenv("FUZZ_SAYS"))
        fprintf(stderr, "%d %s\n", ret, uf_sink_error(sink));
    memory_check();
    MUST(resumes <= 1 && (!resumes || uf_sink_switched(sink)));
    MUST(ret == 0 || (ret < 0 && uf_sink_error(sink)[0]));
    if (ret == 0 && uf_sink_error(sink)[0]) /* all is here, and nonsense came in BYE's place */
        MUST(reconnects);
    if (ret == 0)
        MUST(resumes == 1);
    uf_sink_free(sink);
    MUST(facility_closed());
    MUST(alloc_live() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct uf_sink_options options = {.resume = resume};
    struct uf_sink *sink;
    uint8_t shape;
    int ret;

    input = (struct script){data, data + size};
    shape = script_byte(&input);
    hostile.regions = shape & 1 ? 3 : 2;
    hostile.to_sink = true;
    hostile.offer = (shape & 4 ? WIRE_OFFER_DIGEST : 0) | (shape & 8 ? WIRE_OFFER_PACKED : 0);
    hostile.gate = WIRE_READY;
    hostile.said = said;
    hostile.connection = 0;
    reconnects = shape & 16;
    if (reconnects)
        options.reconnect = reconnect;
    options.handshake_ms = HANDSHAKE_MS;
    resumes = 0;
    resume_error = shape & 2 ? -EIO : 0;
    memory_reset(hostile.regions, false);
    read_facility(&input, !(shape & 32));
    hostile_read(&hostile, &input, &links);
    alloc_bound(BOUND(options.reconnect ? LINKS_MAX : hostile.count));
    MUST(uf_sink_new(&sink, &options) == 0);
    for (unsigned i = 0; i < hostile.regions; i++)
        MUST(uf_sink_region(sink, played_regions[i].start, played_regions[i].len,
                            played_regions[i].page) == 0);
    hostile_start(&hostile);
    ret = uf_sink_run(sink, &links);
    hostile_end(&hostile, &links);
    check_end(sink, ret);
    return 0;
}
