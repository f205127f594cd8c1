/* SPDX-License-Identifier: MIT */
/*
 * Packets as `ctx.ipv4()`, `ctx.ports()` and their kin find headers: the same tests in the same order. Each says
 * whether the header is there, and then where, so that no pointer has to be tested twice.
 */
#pragma once
#include "bpf.h"

static always_inline void *packet_start(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static always_inline void *packet_end(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

static always_inline int find_ethernet(struct xdp_md *ctx, struct ethernet **eth)
{
	*eth = packet_start(ctx);
	return (void *)(*eth + 1) <= packet_end(ctx);
}

static always_inline int find_ipv4(struct xdp_md *ctx, struct ipv4 **ip)
{
	struct ethernet *eth = packet_start(ctx);
	*ip = (void *)(eth + 1);
	if ((void *)(*ip + 1) > packet_end(ctx) || eth->type != BE16(ETHERTYPE_IPV4))
		return 0;
	/* version 4 and at least 5 words */
	return (u32)((*ip)->version_ihl - 0x45) <= 0x4f - 0x45;
}

static always_inline int find_ipv6(struct xdp_md *ctx, struct ipv6 **ip)
{
	struct ethernet *eth = packet_start(ctx);
	*ip = (void *)(eth + 1);
	if ((void *)(*ip + 1) > packet_end(ctx) || eth->type != BE16(ETHERTYPE_IPV6))
		return 0;
	return *(u8 *)*ip >> 4 == 6;
}

/* Behind an IPv4 header of any length: `size` bytes that packet and datagram both hold, on first fragments only. */
static always_inline int find_layer4(struct xdp_md *ctx, struct ipv4 *ip, u32 size, void **layer4)
{
	if (ip->flags_fragment & BE16(0x1fff))
		return 0;
	u64 header = (ip->version_ihl & 15) << 2;
	if (be16(ip->total_length) < header + size)
		return 0;
	*layer4 = (void *)ip + header;
	return *layer4 + size <= packet_end(ctx);
}

struct ports {
	u16 sport, dport;
};

static always_inline int find_ports(struct xdp_md *ctx, struct ipv4 *ip, struct ports **ports)
{
	if (ip->protocol != PROTOCOL_TCP && ip->protocol != PROTOCOL_UDP)
		return 0;
	return find_layer4(ctx, ip, sizeof(struct ports), (void **)ports);
}
