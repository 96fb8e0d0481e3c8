/* SPDX-License-Identifier: MIT */
/*
 * A source and a hostile sink: whatever it says, the source changes nothing of its memory, sends
 * nothing but its regions and no page twice, comes to an end with words, and leaves nothing behind.
 */
#include "played.h"

#include <errno.h>
#include <pthread.h>

/* As userfault-postcopy(7) states it: a message a link, and where it packs one that is packed (what
 * zstd has for itself is not counted here: parts.c); four bits a page, and what is small. */
#define BOUND(links, packs) ((links)*HUGE * ((packs) ? 2 : 1) + 131072)
#define LIMIT               ((uint64_t)64 << 20) /* bytes a second: some ms are waited for it */

static struct hostile hostile;
static struct script input;
static struct uf_postcopy_links links; /* the engine's ends */
static struct uf_source *source;
static int stop_error;
static uint16_t cancel_at; /* it is canceled when it says this; 0: never */
static bool with_rounds;
static uint64_t sent[REGIONS]; /* a bit a page: sent behind the switch */

static int stop(void *arg, const void **ret_blob, size_t *ret_len_bytes)
{
    static const char blob[3000] = "state";

    *ret_blob = blob;
    *ret_len_bytes = sizeof(blob);
    return stop_error;
}

static int reconnect(void *arg, int error, struct uf_postcopy_links *ret)
{
    int ret_error;

    MUST(error < 0);
    hostile_end(&hostile, &links);
    links.control.in = -1;
    memset(sent, 0, sizeof(sent)); /* what is lost goes again */
    ret_error = hostile_again(&hostile, &input, &links);
    *ret = links;
    return ret_error;
}

static void said(const struct wire_header *header, unsigned link)
{
    const struct played_region *region;

    MUST(link < hostile.count);
    if (header->type == cancel_at)
        uf_source_cancel(source);
    if (header->type != WIRE_PAGES && header->type != WIRE_ZERO && header->type != WIRE_PACKED)
        return;
    MUST(header->region < hostile.regions);
    region = &played_regions[header->region];
    MUST(header->offset < region->len && header->length > 0 &&
         header->length <= region->len - header->offset &&
         (header->offset | header->length) % region->page == 0);
    if (header->type == WIRE_PACKED)
        MUST(header->payload > 0 && header->payload < header->length);
    else
        MUST(header->payload == (header->type == WIRE_PAGES ? header->length : 0));
    for (uint64_t at = header->offset; !with_rounds && at < header->offset + header->length;
         at += region->page) {
        uint64_t bit = (uint64_t)1 << at / region->page;

        MUST(!(sent[header->region] & bit));
        sent[header->region] |= bit;
    }
}

static void read_facility(struct script *script, struct uf_source_options *options)
{
    static const int errors[] = {EAGAIN, EEXIST, ENOMEM, EINVAL, ENOENT, EFAULT};
    uint8_t kind = script_byte(script), faults = script_byte(script);
    const bool holes = faults & 128 && !(kind & 8); /* where they cannot be known, they are read */
    struct facility how = {.holes = holes, .kernel = holes, .no_unpopulated = kind & 1 && !holes};

    if (kind & 8) {
        how.fail_at = 1 + script_byte(script) % 16;
        how.fail_errno = errors[kind / 16 % 6];
    }
    for (unsigned i = 0; i < faults % 4; i++) /* written during precopy */
        how.faults[i] = (uintptr_t)played_regions[i % 2].start + faults * 977u % (4 * PAGE);
    options->bandwidth_bytes = kind & 2 ? LIMIT : 0;
    cancel_at = kind & 4 ? 1 + kind / 16 : 0;
    facility_reset(&how);
    memory_shut_holes(how.holes);
}

static void check_end(int ret)
{
    struct uf_postcopy_stats stats;

    uf_source_stats(source, &stats);
    fuzz_recovered += stats.recoveries > 0;
    if (getenv("FUZZ_SAYS"))
        fprintf(stderr, "%d %s\n", ret, uf_source_error(source));
    memory_check();
    memory_shut_holes(false);
    MUST(memory_unchanged());
    MUST(ret <= 0 && (ret == 0 || ret == stop_error || uf_source_error(source)[0]));
    if (ret == 0) {
        MUST(uf_source_switched(source));
        for (unsigned i = 0; !with_rounds && !hostile.connection && i < hostile.regions; i++)
            /* all, and each once */
            MUST(sent[i] == ((uint64_t)1 << played_regions[i].len / played_regions[i].page) - 1);
    }
    uf_source_free(source);
    MUST(facility_closed());
    MUST(alloc_live() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct uf_source_options options = {.stop = stop};
    uint8_t shape;
    int ret;

    input = (struct script){data, data + size};
    shape = script_byte(&input);
    hostile.regions = shape & 1 ? 3 : 2;
    hostile.gate = WIRE_DONE;
    hostile.said = said;
    hostile.connection = 0;
    if (shape & 16)
        options.reconnect = reconnect;
    options.handshake_ms = HANDSHAKE_MS;
    stop_error = shape & 2 ? -EIO : 0;
    options.rounds_max = shape / 4 % 3;
    options.verify = shape & 64;
    hostile.offer = options.verify ? WIRE_OFFER_DIGEST : 0;
    options.compression = shape & 128 ? UF_POSTCOPY_COMPRESS_AUTO : UF_POSTCOPY_COMPRESS_OFF;
    if (options.compression)
        hostile.offer |= WIRE_OFFER_PACKED;
    with_rounds = options.rounds_max > 0;
    memset(sent, 0, sizeof(sent));
    memory_reset(hostile.regions, true);
    read_facility(&input, &options);
    hostile_read(&hostile, &input, &links);
    alloc_bound(BOUND(options.reconnect ? LINKS_MAX : hostile.count, options.compression));
    MUST(uf_source_new(&source, &options) == 0);
    for (unsigned i = 0; i < hostile.regions; i++)
        MUST(uf_source_region(source, played_regions[i].start, played_regions[i].len,
                              played_regions[i].page) == 0);
    hostile_start(&hostile);
    ret = uf_source_run(source, &links);
    hostile_end(&hostile, &links);
    check_end(ret);
    return 0;
}
