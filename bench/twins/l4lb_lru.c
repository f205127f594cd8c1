/* SPDX-License-Identifier: MIT */
/*
 * An L4 load balancer as C authors build one: a hash of VIPs, a Maglev ring in an array, connections in an LRU hash,
 * reals in an array, per-CPU counters for each VIP and each real; IPIP out of the interface it came in on. One program.
 * The shape is that of Katran's public description; the code is this project's own.
 */
#include "packet.h"

#define RING_SIZE 65537
#define TCP_SYN 0x02
#define TCP_ACK 0x10

struct vip_key {
	u32 addr;
	u16 port;
	u8 protocol, padding;
};

struct vip {
	u32 index, flags;
};

struct flow_key {
	u32 saddr, daddr;
	u16 sport, dport;
	u8 protocol, padding[3];
};

struct connection {
	u32 real, padding;
	u64 last_seen;
};

/* `addr` 0: no such real. */
struct real {
	u32 addr;
	u8 mac[6], padding[2];
};

/* The balancer's own addresses. */
struct local {
	u32 addr;
	u8 mac[6], padding[2];
};

struct traffic {
	u64 packets, bytes;
};

extern struct map vips, rings, reals, conns, local, vip_traffic, real_traffic;

/* UDP flows that were silent for 30 s are picked anew: reals may have changed. */
#define UDP_TIMEOUT_NS 30000000000ULL

static always_inline u32 mix(u32 hash, u32 word)
{
	hash ^= word * 0xcc9e2d51;
	hash = (hash << 13) | (hash >> 19);
	return hash * 5 + 0xe6546b64;
}

static always_inline u32 flow_hash(struct flow_key *key)
{
	u32 hash = mix(mix(mix(key->protocol, key->saddr), key->daddr), (u32)key->sport << 16 | key->dport);
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	return hash ^ hash >> 13;
}

static always_inline void add(struct map *map, u32 index, u64 bytes)
{
	struct traffic *traffic = entry(map, index);
	if (!traffic)
		return;
	traffic->packets += 1;
	traffic->bytes += bytes;
}

/* The checksum of a header of 20 bytes whose own field is 0. */
static always_inline u16 header_checksum(struct ipv4 *ip)
{
	u16 *words = (u16 *)ip;
	u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static always_inline int encapsulate(struct xdp_md *ctx, struct real *real, u16 inner_length, u8 tos)
{
	struct local *own = entry(&local, 0);
	if (!own || adjust_head(ctx, -(int)sizeof(struct ipv4)))
		return XDP_DROP;
	struct ethernet *eth = packet_start(ctx);
	struct ipv4 *ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > packet_end(ctx))
		return XDP_DROP;
	__builtin_memcpy(eth->dst, real->mac, 6);
	__builtin_memcpy(eth->src, own->mac, 6);
	eth->type = BE16(ETHERTYPE_IPV4);
	ip->version_ihl = 0x45;
	ip->tos = tos;
	ip->total_length = be16(inner_length + sizeof(struct ipv4));
	ip->id = 0;
	ip->flags_fragment = 0;
	ip->ttl = 64;
	ip->protocol = PROTOCOL_IPIP;
	ip->checksum = 0;
	ip->saddr = own->addr;
	ip->daddr = real->addr;
	ip->checksum = header_checksum(ip);
	return XDP_TX;
}

SECTION("xdp/l4lb") int l4lb(struct xdp_md *ctx)
{
	struct ipv4 *ip;
	struct ports *ports;
	if (!find_ipv4(ctx, &ip) || !find_ports(ctx, ip, &ports))
		return XDP_PASS;
	struct vip_key vip_key = {};
	vip_key.addr = ip->daddr;
	vip_key.port = ports->dport;
	vip_key.protocol = ip->protocol;
	struct vip *vip = map_lookup(&vips, &vip_key);
	if (!vip)
		return XDP_PASS;

	int is_tcp = ip->protocol == PROTOCOL_TCP, is_syn = 0;
	if (is_tcp) {
		struct tcp *tcp = (void *)ports;
		if ((void *)(tcp + 1) > packet_end(ctx))
			return XDP_DROP;
		is_syn = (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	}
	struct flow_key key = {};
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.sport = ports->sport;
	key.dport = ports->dport;
	key.protocol = ip->protocol;
	u16 inner_length = be16(ip->total_length);
	u64 bytes = (void *)(long)ctx->data_end - (void *)(long)ctx->data;
	u8 tos = ip->tos;

	struct real *real = 0;
	u32 real_index = 0;
	if (!is_syn) {
		struct connection *connection = map_lookup(&conns, &key);
		if (connection) {
			real_index = connection->real;
			real = entry(&reals, real_index);
			if (!is_tcp) {
				u64 now = ktime_get_ns();
				if (now - connection->last_seen > UDP_TIMEOUT_NS)
					real = 0;
				connection->last_seen = now;
			}
			if (real && !real->addr)
				real = 0;
		}
	}
	if (!real) {
		u32 *slot = entry(&rings, vip->index * RING_SIZE + flow_hash(&key) % RING_SIZE);
		if (!slot)
			return XDP_DROP;
		real_index = *slot;
		real = entry(&reals, real_index);
		if (!real || !real->addr)
			return XDP_DROP;
		struct connection fresh = { .real = real_index };
		if (!is_tcp)
			fresh.last_seen = ktime_get_ns();
		map_update(&conns, &key, &fresh, BPF_ANY);
	}
	add(&vip_traffic, vip->index, bytes);
	add(&real_traffic, real_index, bytes);
	return encapsulate(ctx, real, inner_length, tos);
}
