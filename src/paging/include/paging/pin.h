/* SPDX-License-Identifier: MIT */
/*
 * Pages that a running system call needs: they are not taken back before it returns.
 *
 * A pin belongs to a thread and holds up to four intervals. Adding one and taking back are two
 * stores and two looks: who pins writes the interval and then looks whether anybody takes back;
 * who takes back says so and then looks at the pins. One sees the other.
 *
 * A thread that is killed in a call, or jumps out of it, leaves its pin. It costs budget only, and
 * is found when a place is needed: by the thread's death, or by a frame deeper than the one that
 * asks.
 */
#ifndef PAGING_PIN_H
#define PAGING_PIN_H

#include <stdbool.h>
#include <stdint.h>

struct paging_pin;

/**
 * paging_pin_get() - a pin of the calling thread, empty
 * @frame: an address in the frame of the call
 *
 * Context: any, no lock.
 * Return: NULL when there is no place; the call is then made unpinned.
 */
struct paging_pin *paging_pin_get(int tid, uintptr_t frame);
void paging_pin_put(struct paging_pin *pin);

/**
 * paging_pin_add() - from now on, pages of [start, end) that are open stay open
 *
 * Return: whether somebody is taking pages back now: lock the stripes of the interval once before
 * believing that a page is open.
 */
bool paging_pin_add(struct paging_pin *pin, uintptr_t start, uintptr_t end);

/*
 * For the pins of quick.h, at the start: in a process that has threads already the kernel takes
 * milliseconds for it.
 */
void paging_lanes_begin(void);

/* Around taking pages back; and whether any of [start, end) is pinned, asked in between. */
void paging_take_begin(void);
void paging_take_end(void);
bool paging_pinned(uintptr_t start, uintptr_t end);

/* After fork, in the child: the threads that pinned do not exist. */
void paging_pins_reset(void);

#endif
