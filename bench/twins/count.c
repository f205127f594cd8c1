/* SPDX-License-Identifier: MIT */
/* Counts packets and bytes for each five-tuple of TCP and UDP over IPv4. Twin of the stage in suites/count.ts. */
#include "packet.h"

struct flow_key {
	u32 saddr, daddr;
	u16 sport, dport;
	u8 protocol, padding[3];
};

struct flow {
	u64 packets, bytes;
};

extern struct map flows;

PROGRAM(count)
{
	struct ipv4 *ip;
	struct ports *ports;
	if (!find_ipv4(ctx, &ip) || !find_ports(ctx, &ip, &ports))
		return PASS;
	struct flow_key key = {};
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.sport = ports->sport;
	key.dport = ports->dport;
	key.protocol = ip->protocol;
	u64 bytes = be16(ip->total_length);
	struct flow *flow = map_lookup(&flows, &key);
	if (flow) {
		__sync_fetch_and_add(&flow->packets, 1);
		__sync_fetch_and_add(&flow->bytes, bytes);
		return PASS;
	}
	struct flow first = { .packets = 1, .bytes = bytes };
	map_update(&flows, &key, &first, BPF_NOEXIST);
	return PASS;
}
