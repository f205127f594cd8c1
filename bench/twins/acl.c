/* SPDX-License-Identifier: MIT */
/* Drops packets from blocked IPv4 prefixes and counts the hits of each. */
#include "packet.h"

struct prefix {
	u32 prefix_len, addr;
};

extern struct map blocked;

SECTION("xdp/acl") int acl(struct xdp_md *ctx)
{
	struct ipv4 *ip;
	if (!find_ipv4(ctx, &ip))
		return XDP_PASS;
	struct prefix key = { .prefix_len = 32, .addr = ip->saddr };
	u64 *hits = map_lookup(&blocked, &key);
	if (!hits)
		return XDP_PASS;
	__sync_fetch_and_add(hits, 1);
	return XDP_DROP;
}
