/* SPDX-License-Identifier: MIT */
/*
 * What the engine has counted, sampled over time; and progress, told by the same thread. When there
 * is no more room, every second sample goes and the interval doubles: there are always enough for
 * a picture, however long it takes.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "memcp.h"

#define INTERVAL_NS ((uint64_t)2000000)
#define TELL_NS     ((uint64_t)250000000)

/* All samples between count what is past of it, those behind it the whole. */
static void put(struct series *series, uint64_t from_ns, uint64_t to_ns)
{
    for (size_t i = series->count; i-- > 0 && series->samples[i].at_ns > from_ns;) {
        const uint64_t at_ns = series->samples[i].at_ns;

        series->samples[i].blocked_ns += (at_ns < to_ns ? at_ns : to_ns) - from_ns;
    }
}

/*
 * Waits are counted when they are over, and were before: they are put there, as far back as they
 * are long. A thread waits for one page at a time: where the wait before has its place, longer
 * ones go in front of that.
 */
static void spread(struct series *series, struct wait *last, uint64_t now, uint64_t wait_ns)
{
    const uint64_t room_ns = now - last->end_ns;

    if (!wait_ns)
        return;
    if (wait_ns < room_ns) {
        *last = (struct wait){now - wait_ns, now};
        put(series, last->start_ns, now);
        return;
    }
    put(series, last->end_ns, now);
    wait_ns = wait_ns - room_ns < last->start_ns ? wait_ns - room_ns : last->start_ns;
    put(series, last->start_ns - wait_ns, last->start_ns);
    *last = (struct wait){last->start_ns - wait_ns, now};
}

/* Return: of all threads so far. */
static uint64_t take_waits(struct series *series, uint64_t *ret_now)
{
    struct uf_postcopy_thread threads[THREADS_MAX];
    unsigned count = series->threads ? series->threads(series->side, threads, THREADS_MAX) : 0;
    uint64_t all = 0;

    *ret_now = now_ns() - series->start_ns; /* none of these waits ended later */
    for (unsigned i = 0; i < count && i < THREADS_MAX; i++) {
        spread(series, &series->waits[i], *ret_now, threads[i].blocked_ns - series->blocked_ns[i]);
        series->blocked_ns[i] = threads[i].blocked_ns;
        all += threads[i].blocked_ns;
    }
    return all;
}

static void take(struct series *series, struct sample *ret)
{
    struct uf_postcopy_stats stats;
    uint64_t now, blocked_ns = take_waits(series, &now);

    series->stats(series->side, &stats);
    series->discarded = stats.pages_discarded;
    *ret = (struct sample){.at_ns = now,
                           .rounds = stats.rounds,
                           .precopy = stats.pages_precopy,
                           .background = stats.pages_background,
                           .urgent = stats.pages_urgent,
                           .zero = stats.pages_zero,
                           .bytes = stats.bytes,
                           .blocked_ns = blocked_ns};
}

static void keep(struct series *series, const struct sample *sample)
{
    if (series->count == SAMPLES_MAX) {
        for (size_t i = 0; i < SAMPLES_MAX / 2; i++)
            series->samples[i] = series->samples[2 * i + 1];
        series->count = SAMPLES_MAX / 2;
        series->interval_ns *= 2;
    }
    series->samples[series->count++] = *sample;
}

/* ---- progress */

/*
 * Of a whole that is sent once, and again in part as it is written to: an estimate, and an
 * optimistic one while rounds are run. At the switch it is known what of that was in vain.
 */
static double share_done(const struct series *series, const struct sample *now)
{
    double pages = (double)series->plan->size / (double)series->plan->page_bytes;
    double sent = (double)now->precopy < pages ? (double)now->precopy : pages;
    double late = (double)(now->background + now->urgent + now->zero);
    double share = (sent - (double)series->discarded + late) / pages;

    return share > 1 ? 1 : share < 0 ? 0 : share;
}

static void tell(struct series *series, const struct sample *now)
{
    double seconds = (double)(now->at_ns - series->told_ns) / 1e9;
    double rate = seconds > 0 ? (double)(now->bytes - series->told_bytes) / seconds : 0;
    double share = share_done(series, now);
    double left = share == 1 ? 0 : rate > 0 ? (double)series->plan->size * (1 - share) / rate : -1;
    bool switched = atomic_load(series->switch_ns) != 0;
    char text[32];

    series->told_ns = now->at_ns;
    series->told_bytes = now->bytes;
    if (series->progress_json) {
        fprintf(series->progress,
                "{\"side\": \"%s\", \"seconds\": %.3f, \"phase\": \"%s\", \"round\": %llu, "
                "\"share\": %.4f, \"bytes\": %llu, \"bytes_a_second\": %.0f, "
                "\"seconds_left\": %.1f}\n",
                series->who, (double)now->at_ns / 1e9, switched ? "postcopy" : "precopy",
                (unsigned long long)now->rounds, share, (unsigned long long)now->bytes, rate, left);
    } else {
        fprintf(series->progress, "\r\033[K%s: ", series->who);
        if (switched)
            fputs("postcopy", series->progress);
        else
            fprintf(series->progress, "precopy, round %llu", (unsigned long long)now->rounds + 1);
        fprintf(series->progress, ", %.0f %%, %s/s", 100 * share,
                size_text(rate, text, sizeof(text)));
        if (left >= 0 && share < 1)
            fprintf(series->progress, ", about %.0f s left", left);
    }
    fflush(series->progress);
    series->told = true;
}

static void *watch(void *arg)
{
    struct series *series = arg;
    struct pollfd stop = {.fd = series->stop_fd, .events = POLLIN};
    struct sample now;

    for (;;) {
        struct timespec wait = {.tv_sec = (time_t)(series->interval_ns / 1000000000),
                                .tv_nsec = (long)(series->interval_ns % 1000000000)};

        if (ppoll(&stop, 1, &wait, NULL) > 0)
            break;
        take(series, &now);
        keep(series, &now);
        if (series->progress && now.at_ns >= series->told_ns + TELL_NS)
            tell(series, &now);
    }
    return NULL;
}

int series_start(struct series *series)
{
    int ret;

    series->start_ns = now_ns();
    series->interval_ns = INTERVAL_NS;
    series->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (series->stop_fd < 0)
        return -errno;
    ret = -pthread_create(&series->thread, NULL, watch, series);
    if (ret)
        close(series->stop_fd);
    return ret;
}

void series_stop(struct series *series)
{
    struct sample last;

    if (write(series->stop_fd, &(uint64_t){1}, 8) == 8)
        pthread_join(series->thread, NULL);
    close(series->stop_fd);
    take(series, &last);
    keep(series, &last);
    if (series->progress && series->progress_json)
        tell(series, &last);
    else if (series->progress && series->told)
        fputs("\r\033[K", series->progress);
}
