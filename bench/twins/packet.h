/* SPDX-License-Identifier: MIT */
/*
 * Packets as `ctx.ipv4()`, `ctx.ports()` and their kin find headers: the same tests in the same order. Each says
 * whether the header is there, and then where, so that no pointer has to be tested twice. At TC the kernel is asked to
 * pull bytes together that a program cannot reach, which moves the packet.
 */
#pragma once
#include "bpf.h"

#ifdef TC
/*
 * The packet may have moved since it was last asked for. Where two such loads meet, clang widens what it has, and the
 * verifier knows no pointer any more: so they are out of its sight, as Cilium has them.
 */
#define PACKET_POINTER(ctx, field)                                                                 \
	({                                                                                         \
		void *pointer;                                                                     \
		asm volatile("%[pointer] = *(u32 *)(%[from] + %[offset])"                          \
			     : [pointer] "=r"(pointer)                                             \
			     : [from] "r"(ctx), [offset] "i"(__builtin_offsetof(struct context, field))); \
		pointer;                                                                           \
	})
#else
#define PACKET_POINTER(ctx, field) ((void *)(long)(ctx)->field)
#endif

static always_inline void *packet_start(struct context *ctx)
{
	return PACKET_POINTER(ctx, data);
}

static always_inline void *packet_end(struct context *ctx)
{
	return PACKET_POINTER(ctx, data_end);
}

/* The whole packet's length. */
static always_inline u64 packet_length(struct context *ctx)
{
#ifdef TC
	return ctx->len;
#else
	return buffer_length(ctx);
#endif
}

/* Packets on the wire that this one stands for. */
static always_inline u64 segments(struct context *ctx)
{
#ifdef TC
	u32 segments = ctx->gso_segs;
	return segments ? segments : 1;
#else
	return 1;
#endif
}

/*
 * The packet's start, with that many bytes from there on. At XDP what lies in fragments is not there; at TC it is pulled to
 * the front, where the packet has that many bytes.
 */
static always_inline int reach(struct context *ctx, u32 bytes, void **start)
{
	*start = packet_start(ctx);
#ifdef TC
	if (__builtin_expect(*start + bytes <= packet_end(ctx), 1))
		return 1;
	if (ctx->len < bytes || skb_pull_data(ctx, bytes))
		return 0;
	*start = packet_start(ctx);
#endif
	return *start + bytes <= packet_end(ctx);
}

static always_inline int find_ethernet(struct context *ctx, struct ethernet **eth)
{
	return reach(ctx, sizeof(**eth), (void **)eth);
}

static always_inline int find_ipv4(struct context *ctx, struct ipv4 **ip)
{
	struct ethernet *eth;
	int there = reach(ctx, sizeof(*eth) + sizeof(**ip), (void **)&eth);
	*ip = (void *)(eth + 1);
	if (!there || eth->type != BE16(ETHERTYPE_IPV4))
		return 0;
	/* version 4 and at least 5 words */
	return (u32)((*ip)->version_ihl - 0x45) <= 0x4f - 0x45;
}

static always_inline int find_ipv6(struct context *ctx, struct ipv6 **ip)
{
	struct ethernet *eth;
	int there = reach(ctx, sizeof(*eth) + sizeof(**ip), (void **)&eth);
	*ip = (void *)(eth + 1);
	if (!there || eth->type != BE16(ETHERTYPE_IPV6))
		return 0;
	return *(u8 *)*ip >> 4 == 6;
}

/*
 * Behind an IPv4 header of any length: `size` bytes that packet and datagram both hold, on first fragments only. `where`
 * is that header, found anew where the packet moves.
 */
static always_inline int find_layer4(struct context *ctx, struct ipv4 **where, u32 size, void **layer4)
{
	struct ipv4 *ip = *where;
	if (ip->flags_fragment & BE16(0x1fff))
		return 0;
	u64 header = (ip->version_ihl & 15) << 2;
	if (be16(ip->total_length) < header + size)
		return 0;
	*layer4 = (void *)ip + header;
#ifdef TC
	if (__builtin_expect(*layer4 + size <= packet_end(ctx), 1))
		return 1;
	u32 bytes = sizeof(struct ethernet) + header + size;
	if (ctx->len < bytes || skb_pull_data(ctx, bytes))
		return 0;
	*where = ip = packet_start(ctx) + sizeof(struct ethernet);
	*layer4 = (void *)ip + header;
	if ((void *)(ip + 1) > packet_end(ctx))
		return 0;
#endif
	return *layer4 + size <= packet_end(ctx);
}

struct ports {
	u16 sport, dport;
};

static always_inline int find_ports(struct context *ctx, struct ipv4 **where, struct ports **ports)
{
	u8 protocol = (*where)->protocol;
	if (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP)
		return 0;
	return find_layer4(ctx, where, sizeof(struct ports), (void **)ports);
}
