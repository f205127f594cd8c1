/* SPDX-License-Identifier: MIT */
/*
 * An L4 balancer as C authors build one: one program, VIPs in a hash, a Maglev ring in an array, connections in an LRU
 * hash, reals in an array, per-CPU counters for each VIP, each real and the verdict. The shape is that of Katran's
 * public description; the code is this project's own.
 */
#include "balancer.h"

struct flow_key {
	u32 saddr, daddr;
	u16 sport, dport;
	u8 protocol, padding[3];
};

struct connection {
	u32 real, padding;
	u64 last_seen;
};

extern struct map vips, rings, conns, reals, vip_traffic, real_traffic, state;

struct state {
	struct counters l4lb;
};

#define RING_SIZE 65537
/* UDP flows that were silent for 30 s are picked anew. */
#define UDP_TIMEOUT_NS 30000000000ULL

static always_inline u32 rotate(u32 word, u32 bits)
{
	return word << bits | word >> (32 - bits);
}

/* MurmurHash3 over three words: what the client's side of a flow says. */
static always_inline u32 client_hash(u32 saddr, u32 sport, u32 seed)
{
	u32 hash = seed, words[2] = { saddr, sport };
#pragma unroll
	for (int i = 0; i < 2; i++) {
		hash ^= rotate(words[i] * 0xcc9e2d51, 15) * 0x1b873593;
		hash = rotate(hash, 13) * 5 + 0xe6546b64;
	}
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* Over a header whose own field is 0. */
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

static always_inline int encapsulate(struct context *ctx, struct real *real, u32 length, u8 tos)
{
	struct ethernet *eth = packet_start(ctx);
	if ((void *)(eth + 1) > packet_end(ctx))
		return XDP_DROP;
	struct mac own = eth->dst;
	if (adjust_head(ctx, -(int)sizeof(struct ipv4)))
		return XDP_DROP;
	eth = packet_start(ctx);
	struct ipv4 *ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > packet_end(ctx))
		return XDP_DROP;
	eth->dst = real->hop;
	eth->src = own;
	eth->type = BE16(ETHERTYPE_IPV4);
	write_outer(ip, real, length, tos);
	ip->checksum = 0;
	ip->checksum = header_checksum(ip);
	return XDP_TX;
}

static always_inline int balance(struct context *ctx)
{
	struct ipv4 *ip;
	struct ports *ports;
	if (!find_ipv4(ctx, &ip) || !find_ports(ctx, &ip, &ports))
		return XDP_PASS;
	struct vip_key vip_key = {};
	vip_key.addr = ip->daddr;
	vip_key.port = ports->dport;
	vip_key.protocol = ip->protocol;
	u32 *found = map_lookup(&vips, &vip_key);
	if (!found)
		return XDP_PASS;
	u32 vip = *found, is_tcp = ip->protocol == PROTOCOL_TCP, is_syn = 0;
	if (is_tcp) {
		struct tcp *tcp = (void *)ports;
		if ((void *)(tcp + 1) > packet_end(ctx))
			return XDP_DROP;
		is_syn = (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	}
	u32 length = be16(ip->total_length) + sizeof(struct ipv4);
	if (length > MTU)
		return XDP_DROP;
	struct flow_key key = {};
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.sport = ports->sport;
	key.dport = ports->dport;
	key.protocol = ip->protocol;
	u64 bytes = (void *)(long)ctx->data_end - (void *)(long)ctx->data;
	u8 tos = ip->tos;

	struct real *real = 0;
	u32 place = 0;
	if (!is_syn) {
		struct connection *connection = map_lookup(&conns, &key);
		if (connection) {
			place = connection->real;
			real = entry(&reals, place);
			if (!is_tcp) {
				u64 now = ktime_get_ns();
				if (now - connection->last_seen > UDP_TIMEOUT_NS)
					real = 0;
				connection->last_seen = now;
			}
			if (real && real->state != REAL_UP)
				real = 0;
		}
	}
	if (!real) {
		u32 *slot = entry(&rings, vip * RING_SIZE + client_hash(key.saddr, key.sport, vip) % RING_SIZE);
		if (!slot)
			return XDP_DROP;
		place = *slot;
		real = entry(&reals, place);
		if (!real || real->state != REAL_UP)
			return XDP_DROP;
		struct connection fresh = { .real = place };
		if (!is_tcp)
			fresh.last_seen = ktime_get_ns();
		map_update(&conns, &key, &fresh, BPF_ANY);
	}
	count_traffic(&vip_traffic, vip, bytes);
	count_traffic(&real_traffic, place, bytes);
	return encapsulate(ctx, real, length, tos);
}

PROGRAM(l4lb)
{
	u64 length = buffer_length(ctx);
	u32 verdict = balance(ctx);
	struct state *s = entry(&state, 0);
	if (s && verdict <= XDP_REDIRECT) {
		s->l4lb.bytes += length;
		(&s->l4lb.abort)[verdict] += 1;
	}
	return verdict;
}
