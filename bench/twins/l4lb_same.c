/* SPDX-License-Identifier: MIT */
/*
 * The L4 balancer of functions/l4lb over IPv4, stage by stage: the same structures in the same maps, the same tests in the
 * same order, the same counters, chained by constant slots. IPv6, ICMP and VLAN tags pass.
 */
#include "balancer.h"

extern struct map vips, vip_traffic, ring, conns_near, conns_far, reals, real_traffic, state, chain;

struct state {
	u64 length, misses;
	u64 flow;
	u16 real;
	u8 fresh, padding[5];
	struct counters vip;
	u64 vip_fragment, vip_malformed, vip_not_vip;
	struct counters pick;
	u64 pick_no_real;
	struct counters encap;
	u64 encap_over6, encap_too_big;
};

enum { SLOT_VIP, SLOT_PICK, SLOT_ENCAP };

#define COUNT(s, stage, outcome)                                                                   \
	({                                                                                         \
		(s)->stage.bytes += (s)->length;                                                   \
		(s)->outcome += 1;                                                                 \
	})

static always_inline int miss(u64 offset)
{
	struct state *s = entry(&state, 0);
	if (s)
		*(u64 *)((void *)s + offset) += 1;
	return XDP_PASS;
}

#define MISS(counter) miss((u64)&((struct state *)0)->counter)

PROGRAM(root)
{
	struct state *s = entry(&state, 0);
	if (!s)
		return XDP_PASS;
	s->length = buffer_length(ctx);
	tail_call(ctx, &chain, SLOT_VIP);
	return MISS(misses);
}

/* A bucket of the table of vips or of the flow cache: words that hold a mixed key's rest and a value. */
#define WAYS 8

struct bucket {
	u64 word[WAYS];
};

static always_inline u64 mix(u64 key)
{
	u64 half = key * 0x9e3779b97f4a7c15ULL;
	return (half ^ half >> 32) * 0xd6e8feb86659fd93ULL;
}

/* The table of vips: a search ends at the first empty word. */
#define VIP_BITS 9
#define VIP_LIMIT (1ULL << VIP_BITS)

static always_inline u32 find_vip(u64 key)
{
	u64 mixed = mix(key), rest = mixed << VIP_BITS;
	struct bucket *bucket = entry(&vips, mixed >> (64 - VIP_BITS));
	if (!bucket)
		return 0;
#pragma unroll
	for (int way = 0; way < WAYS; way++) {
		u64 word = bucket->word[way], value = word ^ rest;
		if (value < VIP_LIMIT)
			return value;
		if (!word)
			return 0;
	}
	return 0;
}

PROGRAM(vip)
{
	struct state *s = entry(&state, 0);
	if (!s)
		return XDP_ABORTED;
	u64 length = s->length;
	struct ipv4 *ip;
	if (!find_ipv4(ctx, &ip))
		goto not_vip;
	u64 address = (u64)be32(ip->daddr) << 32;
	if (ip->flags_fragment & BE16(0x3fff)) {
		if (!find_vip(address))
			goto not_vip;
		COUNT(s, vip, vip_fragment);
		return XDP_DROP;
	}
	s->fresh = 0;
	u8 cut_short = 0;
	u16 sport;
	u64 key = address;
	struct tcp *tcp;
	if (ip->protocol == PROTOCOL_TCP && find_layer4(ctx, &ip, sizeof(*tcp), (void **)&tcp)) {
		sport = be16(tcp->sport);
		key |= (u64)be16(tcp->dport) << 16 | PROTOCOL_TCP;
		if ((tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
			s->fresh = 1;
	} else {
		struct ports *ports;
		if (!find_ports(ctx, &ip, &ports))
			goto not_vip;
		sport = be16(ports->sport);
		key |= (u64)be16(ports->dport) << 16 | ip->protocol;
		cut_short = ip->protocol == PROTOCOL_TCP;
	}
	if (cut_short || be16(ip->total_length) + sizeof(struct ethernet) > length) {
		if (!find_vip(key))
			goto not_vip;
		COUNT(s, vip, vip_malformed);
		return XDP_DROP;
	}
	u64 client = (u64)be32(ip->saddr) << 32 | (u64)sport << 16;
	u32 found = find_vip(key);
	if (!found)
		goto not_vip;
	u32 index = found - 1;
	count_traffic(&vip_traffic, index, length);
	s->flow = client | index;
	COUNT(s, vip, vip.next);
	tail_call(ctx, &chain, SLOT_PICK);
	return MISS(vip.misses);
not_vip:
	COUNT(s, vip, vip_not_vip);
	return XDP_PASS;
}

/* The flow cache: buckets newest first. */
#define NEAR_BITS 14
#define FAR_BITS 16
#define SHARDS 16
#define LIMIT (1ULL << NEAR_BITS)

static always_inline u32 scan(struct bucket *bucket, u64 rest)
{
#pragma unroll
	for (int way = 0; way < WAYS; way++) {
		u64 value = bucket->word[way] ^ rest;
		if (value < LIMIT)
			return value;
	}
	return 0;
}

/* As scan, and an entry of the older half changes places with one of the younger. */
static always_inline u32 recall(struct bucket *bucket, u64 rest)
{
#pragma unroll
	for (int way = 0; way < WAYS; way++) {
		u64 value = bucket->word[way] ^ rest;
		if (value >= LIMIT)
			continue;
		if (way >= WAYS / 2) {
			if (!value)
				return 0;
			bucket->word[way] = bucket->word[way - WAYS / 2];
			bucket->word[way - WAYS / 2] = value ^ rest;
		}
		return value;
	}
	return 0;
}

static always_inline void put(struct bucket *bucket, u64 rest, u64 word)
{
#pragma unroll
	for (int way = 0; way < WAYS - 1; way++) {
		u64 old = bucket->word[way];
		bucket->word[way] = word;
		if (!old || (old ^ rest) < LIMIT)
			return;
		word = old;
	}
	bucket->word[WAYS - 1] = word;
}

static always_inline struct bucket *near_bucket(u64 mixed, u32 cpu)
{
	return entry(&conns_near, (cpu & (SHARDS - 1)) * (1 << NEAR_BITS) + (mixed >> (64 - NEAR_BITS)));
}

static always_inline u32 find_flow(u64 flow, u32 cpu)
{
	u64 mixed = mix(flow), rest = mixed << NEAR_BITS;
	struct bucket *near = near_bucket(mixed, cpu);
	if (!near)
		return 0;
	u32 known = recall(near, rest);
	if (known)
		return known;
	struct bucket *far = entry(&conns_far, mixed >> (64 - FAR_BITS));
	if (!far)
		return 0;
	u32 learnt = scan(far, rest);
	if (learnt)
		put(near, rest, rest | learnt);
	return learnt;
}

static always_inline void insert_flow(u64 flow, u32 value, u32 cpu)
{
	if (!value || value >= LIMIT)
		return;
	u64 mixed = mix(flow), rest = mixed << NEAR_BITS;
	struct bucket *near = near_bucket(mixed, cpu);
	if (near)
		put(near, rest, rest | value);
	struct bucket *far = entry(&conns_far, mixed >> (64 - FAR_BITS));
	if (far)
		put(far, rest, rest | value);
}

/* The Maglev ring: lines of 32 slots. */
#define RING_SIZE 65537
#define LINE 32
#define RING_LINES ((RING_SIZE + LINE - 1) / LINE)

static always_inline u32 ring_at(u32 vip, u32 hash)
{
	u32 slot = (u64)hash * RING_SIZE >> 32;
	u16 *line = entry(&ring, vip * RING_LINES + slot / LINE);
	return line ? line[slot % LINE] : 0;
}

PROGRAM(pick)
{
	struct state *s = entry(&state, 0);
	if (!s)
		return XDP_ABORTED;
	u64 flow = s->flow;
	u32 cpu = smp_processor_id();
	if (!s->fresh) {
		u32 known = find_flow(flow, cpu);
		struct real *real = entry(&reals, known);
		if (real && real->state == REAL_UP) {
			s->real = known;
			goto next;
		}
	}
	u32 chosen = ring_at(flow & 0xffff, mix(flow >> 16) >> 32);
	if (!chosen) {
		COUNT(s, pick, pick_no_real);
		return XDP_DROP;
	}
	insert_flow(flow, chosen, cpu);
	s->real = chosen;
next:
	COUNT(s, pick, pick.next);
	tail_call(ctx, &chain, SLOT_ENCAP);
	return MISS(pick.misses);
}

PROGRAM(encap)
{
	struct state *s = entry(&state, 0);
	if (!s)
		return XDP_ABORTED;
	struct ipv4 *ip;
	if (!find_ipv4(ctx, &ip))
		goto drop;
	u32 place = s->real;
	struct real *real = entry(&reals, place);
	if (!real)
		goto drop;
	u16 fits = real->fits;
	if (be16(ip->total_length) > fits) {
		if (fits)
			COUNT(s, encap, encap_too_big);
		else
			COUNT(s, encap, encap_over6);
		return XDP_DROP;
	}
	count_traffic(&real_traffic, place, s->length);
	if (adjust_head(ctx, -(int)sizeof(struct ipv4)))
		goto drop;
	s->length += sizeof(struct ipv4);
	struct ethernet *eth = packet_start(ctx);
	ip = (void *)(eth + 1);
	struct ethernet *old = (void *)eth + sizeof(struct ipv4);
	struct ipv4 *inner = (void *)(old + 1);
	if ((void *)(inner + 1) > packet_end(ctx))
		goto drop;
	struct mac received = old->dst;
	u32 ifindex = real->ifindex;
	eth->dst = real->hop;
	eth->src = received;
	if (ifindex)
		eth->src = real->own;
	eth->type = BE16(ETHERTYPE_IPV4);
	u8 tos = inner->tos;
	u32 length = be16(inner->total_length) + sizeof(struct ipv4);
	write_outer(ip, real, length, tos);
	u32 sum = real->seed + tos + length;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->checksum = be16(sum ^ 0xffff);
	if (!ifindex) {
		COUNT(s, encap, encap.tx);
		return XDP_TX;
	}
	int verdict = redirect(ifindex, 0);
	if (verdict == XDP_REDIRECT)
		COUNT(s, encap, encap.redirect);
	else
		COUNT(s, encap, encap.abort);
	return verdict;
drop:
	COUNT(s, encap, encap.drop);
	return XDP_DROP;
}
