/* SPDX-License-Identifier: MIT */
/* Takes the outer header of IP in IP off. Twin of functions/decap, alone: every exit passes. */
#include "packet.h"

struct tunnel {
	u32 address, source;
};

struct unpacked {
	u64 packets, bytes;
};

extern struct map tunnels, unpacked;

#define ECN 3

/* RFC 1624, equation 3, over 16 bits in the host's order. */
static always_inline u16 checksum_replace(u16 check, u16 from, u16 to)
{
	u32 sum = (u16)~check + (u16)~from + to;
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

SECTION("xdp/decap") int decap(struct xdp_md *ctx)
{
	struct ipv4 *ip;
	if (!find_ipv4(ctx, &ip) || ip->protocol != PROTOCOL_IPIP)
		return XDP_PASS;
	struct tunnel key = { .address = ip->daddr };
	if (!map_lookup(&tunnels, &key) || (ip->flags_fragment & BE16(0x3fff)))
		return XDP_PASS;
	u64 length = buffer_length(ctx);
	u32 room = be16(ip->total_length);
	if (room + sizeof(struct ethernet) > length)
		return XDP_PASS;
	struct unpacked *count = entry(&unpacked, 0);
	if (count) {
		count->packets += 1;
		count->bytes += length;
	}
	u32 header = (ip->version_ihl & 15) << 2;
	int marked = (ip->tos & ECN) == ECN;
	struct ethernet *eth = (struct ethernet *)ip - 1;
	struct mac to = eth->dst, from = eth->src;
	if (adjust_head(ctx, header))
		return XDP_PASS;
	if (!find_ethernet(ctx, &eth))
		return XDP_PASS;
	eth->dst = to;
	eth->src = from;
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
