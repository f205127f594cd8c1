/* SPDX-License-Identifier: MIT */
/*
 * Tells of each packet by a record in a ring buffer, and counts those that found no place. Twin of suites/event.ts. SILENT:
 * the same without a word.
 */
#include "packet.h"

struct seen {
	u64 number;
	u32 source, destination;
	u16 length;
	u8 protocol, padding[5];
};

extern struct map ring __asm__("seen");
extern struct map losses __asm__("seen.losses");

PROGRAM(event)
{
	struct ipv4 *ip;
	if (!find_ipv4(ctx, &ip) || ip->ttl == 0)
		return DROP;
#ifndef SILENT
	struct seen *seen = ringbuf_reserve(&ring, sizeof(*seen), 0);
	if (!seen) {
		u64 *lost = entry(&losses, 0);
		if (lost)
			*lost += 1;
		return DROP;
	}
	seen->number = 7;
	seen->source = be32(ip->saddr);
	seen->destination = be32(ip->daddr);
	seen->length = be16(ip->total_length);
	seen->protocol = ip->protocol;
	__builtin_memset(seen->padding, 0, sizeof(seen->padding));
	ringbuf_submit(seen, 0);
#endif
	return PASS;
}
