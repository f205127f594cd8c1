/* SPDX-License-Identifier: MIT */
/* Drops packets from blocked prefixes of both families and counts the hits of each. Twin of functions/acl. */
#include "packet.h"

struct prefix4 {
	u32 length, addr;
};

struct prefix6 {
	u32 length;
	u32 addr[4];
};

struct hits {
	u64 packets, bytes;
};

extern struct map blocked4, blocked6, hits;

static always_inline void count_hit(u32 index, u64 length)
{
	struct hits *hit = entry(&hits, index);
	if (!hit)
		return;
	hit->packets += 1;
	hit->bytes += length;
}

PROGRAM(acl)
{
	u32 *index;
	struct ipv4 *ip;
	struct ipv6 *ip6;
	if (find_ipv4(ctx, &ip)) {
		struct prefix4 key = { .length = 32, .addr = ip->saddr };
		index = map_lookup(&blocked4, &key);
	} else if (find_ipv6(ctx, &ip6)) {
		struct prefix6 key = { .length = 128 };
		__builtin_memcpy(key.addr, ip6->saddr, 16);
		index = map_lookup(&blocked6, &key);
	} else {
		return PASS;
	}
	if (!index)
		return PASS;
	count_hit(*index, packet_length(ctx));
	return DROP;
}
