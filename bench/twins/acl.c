/* SPDX-License-Identifier: MIT */
/* Drops packets from blocked IPv4 prefixes and counts the hits of each. */
#include "bpf.h"

struct prefix {
	u32 prefix_len, addr;
};

extern struct map blocked;

SECTION("xdp/acl") int acl(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethernet *eth = data;
	struct ipv4 *ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > end || eth->type != BE16(ETHERTYPE_IPV4))
		return XDP_PASS;
	struct prefix key = { .prefix_len = 32, .addr = ip->saddr };
	u64 *hits = map_lookup(&blocked, &key);
	if (!hits)
		return XDP_PASS;
	__sync_fetch_and_add(hits, 1);
	return XDP_DROP;
}
