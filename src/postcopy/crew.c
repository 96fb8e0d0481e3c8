/* SPDX-License-Identifier: MIT */
#include "crew.h"

void crew_init(struct crew *crew)
{
    pthread_mutex_init(&crew->lock, NULL);
    for (unsigned i = 0; i < CREW_SEATS; i++)
        crew->seats[i] = (struct crew_seat){.crew = crew};
}

/* What is asked for, until nothing will be. */
static void *sit(void *arg)
{
    struct crew_seat *seat = arg;
    struct crew *crew = seat->crew;

    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (!seat->run && !crew->over)
            pthread_cond_wait(&seat->changed, &crew->lock);
        if (!seat->run)
            break;
        pthread_mutex_unlock(&crew->lock);
        seat->run(seat->arg);
        pthread_mutex_lock(&crew->lock);
        seat->run = NULL;
        pthread_cond_broadcast(&seat->changed);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

int crew_take(struct crew *crew, unsigned number)
{
    struct crew_seat *seat = &crew->seats[number];
    int ret;

    if (seat->taken)
        return 0;
    pthread_cond_init(&seat->changed, NULL);
    ret = peer_thread(&seat->thread, sit, seat);
    if (ret)
        pthread_cond_destroy(&seat->changed);
    seat->taken = ret == 0;
    return ret;
}

int crew_take_links(struct crew *crew, struct peer *peer)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        if (peer_link(peer, i))
            ret = crew_take(crew, i);
    }
    return ret;
}

void crew_start(struct crew *crew, unsigned number, void *(*run)(void *arg), void *arg)
{
    struct crew_seat *seat = &crew->seats[number];

    pthread_mutex_lock(&crew->lock);
    seat->arg = arg;
    seat->run = run;
    pthread_cond_broadcast(&seat->changed);
    pthread_mutex_unlock(&crew->lock);
}

void crew_await(struct crew *crew, unsigned number)
{
    struct crew_seat *seat = &crew->seats[number];

    pthread_mutex_lock(&crew->lock);
    while (seat->run)
        pthread_cond_wait(&seat->changed, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
}

void crew_fini(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->over = true;
    for (unsigned i = 0; i < CREW_SEATS; i++) {
        if (crew->seats[i].taken)
            pthread_cond_broadcast(&crew->seats[i].changed);
    }
    pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < CREW_SEATS; i++) {
        if (!crew->seats[i].taken)
            continue;
        pthread_join(crew->seats[i].thread, NULL);
        pthread_cond_destroy(&crew->seats[i].changed);
    }
    pthread_mutex_destroy(&crew->lock);
}
