/* SPDX-License-Identifier: MIT */
/* What both C balancers share: keys, traffic counters and the outer header. Layouts are those of functions/l4lb. */
#pragma once
#include "packet.h"

#define MTU 1500
#define TCP_SYN 0x02
#define TCP_ACK 0x10

/* Layout of the LRU twin's map of vips, in network order. */
struct vip_key {
	u32 addr;
	u16 port;
	u8 protocol, padding;
};

struct traffic {
	u64 packets, bytes;
};

/*
 * Addresses are in network order, `state`, `seed` and `fits` in the host's. Place 0 stands for nobody. `fits` is 0 where
 * the real has an IPv6 address, which neither twin knows.
 */
struct real {
	u32 address, source;
	struct mac hop, own;
	u16 state, seed;
	u32 ifindex;
	u16 fits, padding;
};

enum { REAL_DOWN, REAL_UP };

static always_inline void count_traffic(struct map *map, u32 index, u64 bytes)
{
	struct traffic *traffic = entry(map, index);
	if (!traffic)
		return;
	traffic->packets += 1;
	traffic->bytes += bytes;
}

/* All of an outer IPv4 header but its checksum. `length` is the whole packet's without the frame's header. */
static always_inline void write_outer(struct ipv4 *ip, struct real *real, u32 length, u8 tos)
{
	ip->version_ihl = 0x45;
	ip->tos = tos;
	ip->total_length = be16(length);
	ip->id = 0;
	ip->flags_fragment = BE16(0x4000);
	ip->ttl = 64;
	ip->protocol = PROTOCOL_IPIP;
	ip->saddr = real->source;
	ip->daddr = real->address;
}
