/* SPDX-License-Identifier: MIT */
/* Counts packets and bytes for each five-tuple of TCP and UDP over IPv4. Twin of the stage in suites/count.ts. */
#include "bpf.h"

struct flow_key {
	u32 saddr, daddr;
	u16 sport, dport;
	u8 protocol, padding[3];
};

struct flow {
	u64 packets, bytes;
};

extern struct map flows;

SECTION("xdp/count") int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethernet *eth = data;
	struct ipv4 *ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > end || eth->type != BE16(ETHERTYPE_IPV4))
		return XDP_PASS;
	if (ip->version_ihl != 0x45 || (ip->flags_fragment & BE16(0x1fff)))
		return XDP_PASS;
	if (ip->protocol != PROTOCOL_TCP && ip->protocol != PROTOCOL_UDP)
		return XDP_PASS;
	struct udp *ports = (void *)(ip + 1);
	if ((void *)(ports + 1) > end)
		return XDP_PASS;
	struct flow_key key = {
		.saddr = ip->saddr,
		.daddr = ip->daddr,
		.sport = ports->sport,
		.dport = ports->dport,
		.protocol = ip->protocol,
	};
	u64 bytes = be16(ip->total_length);
	struct flow *flow = map_lookup(&flows, &key);
	if (flow) {
		__sync_fetch_and_add(&flow->packets, 1);
		__sync_fetch_and_add(&flow->bytes, bytes);
		return XDP_PASS;
	}
	struct flow first = { .packets = 1, .bytes = bytes };
	map_update(&flows, &key, &first, BPF_NOEXIST);
	return XDP_PASS;
}
