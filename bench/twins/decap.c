/* SPDX-License-Identifier: MIT */
/*
 * Takes the outer header of IP in IP off, of either family in either. Twin of functions/decap, alone: every exit passes.
 * Frames with VLAN tags pass.
 */
#include "packet.h"

struct tunnel {
	u32 address, source;
};

struct tunnel6 {
	u8 address[16], source[16];
};

struct unpacked {
	u64 packets, bytes;
};

extern struct map tunnels, tunnels6, unpacked;

#define ECN 3
#define PROTOCOL_IPV6 41

/* RFC 1624, equation 3, over 16 bits in the host's order. */
static always_inline u16 checksum_replace(u16 check, u16 from, u16 to)
{
	u32 sum = (u16)~check + (u16)~from + to;
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

PROGRAM(decap)
{
	struct ipv4 *ip;
	struct ipv6 *ip6;
	struct ethernet *eth;
	u32 header = sizeof(*ip6), room;
	u8 protocol;
	int marked;
	if (find_ipv4(ctx, &ip)) {
		protocol = ip->protocol;
		if (protocol != PROTOCOL_IPIP && protocol != PROTOCOL_IPV6)
			return XDP_PASS;
		struct tunnel key = { .address = ip->daddr };
		if (!map_lookup(&tunnels, &key) || (ip->flags_fragment & BE16(0x3fff)))
			return XDP_PASS;
		header = (ip->version_ihl & 15) << 2;
		room = be16(ip->total_length);
		marked = (ip->tos & ECN) == ECN;
		eth = (struct ethernet *)ip - 1;
	} else {
		if (!find_ipv6(ctx, &ip6))
			return XDP_PASS;
		protocol = ip6->next_header;
		if (protocol != PROTOCOL_IPIP && protocol != PROTOCOL_IPV6)
			return XDP_PASS;
		struct tunnel6 key = {};
		__builtin_memcpy(key.address, ip6->daddr, sizeof(key.address));
		if (!map_lookup(&tunnels6, &key))
			return XDP_PASS;
		room = be16(ip6->payload_length) + sizeof(*ip6);
		marked = (be32(ip6->version_class_flow) >> 20 & ECN) == ECN;
		eth = (struct ethernet *)ip6 - 1;
	}
	u64 length = buffer_length(ctx);
	if (room + sizeof(struct ethernet) > length)
		return XDP_PASS;
	struct unpacked *count = entry(&unpacked, 0);
	if (count) {
		count->packets += 1;
		count->bytes += length;
	}
	struct mac to = eth->dst, from = eth->src;
	if (adjust_head(ctx, header))
		return XDP_PASS;
	if (!find_ethernet(ctx, &eth))
		return XDP_PASS;
	eth->dst = to;
	eth->src = from;
	if (protocol == PROTOCOL_IPV6) {
		eth->type = BE16(ETHERTYPE_IPV6);
		if (!find_ipv6(ctx, &ip6) || be16(ip6->payload_length) + sizeof(*ip6) + header > room)
			return XDP_PASS;
		u32 first = be32(ip6->version_class_flow);
		if (marked && (first >> 20 & ECN))
			ip6->version_class_flow = be32(first | ECN << 20);
		return XDP_PASS;
	}
	eth->type = BE16(ETHERTYPE_IPV4);
	if (!find_ipv4(ctx, &ip) || be16(ip->total_length) + header > room)
		return XDP_PASS;
	if (marked) {
		u8 tos = ip->tos;
		if (!(tos & ECN))
			return XDP_PASS;
		u16 word = ip->version_ihl << 8 | tos;
		ip->tos = tos | ECN;
		ip->checksum = be16(checksum_replace(be16(ip->checksum), word, word | ECN));
	}
	return XDP_PASS;
}
