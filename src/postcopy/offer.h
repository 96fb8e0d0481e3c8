/* SPDX-License-Identifier: MIT */
/* What the source may ask of the sink, and what comes of it: offer.c, verify.c. */
#ifndef POSTCOPY_OFFER_H
#define POSTCOPY_OFFER_H

#include "sink.h"
#include "source.h"

/* The two agree on what is more than moving pages. Return: 0; -errno, told. */
int offer_make(struct uf_source *source);
int offer_take(struct uf_sink *sink);

/* Behind the last page: a checksum of each region, if that was agreed on. Return: 0; -errno, told.
 */
int verify_send(struct uf_source *source);
int verify_receive(struct uf_sink *sink, const struct wire_header *header);
/* Every page is there: whether it is what it was. Return: 0; -errno, told. */
int verify_end(struct uf_sink *sink);

#endif
