/* SPDX-License-Identifier: MIT */
/*
 * Sends on what comes in at a socket, and nothing else: no limit, no bytes that a process writes in between, no counters. It is
 * the least that a program on sockets costs, beside the stage of functions/splice.
 */
#include "bpf.h"

struct ends {
	u32 local_port, remote_port;
};

extern struct map peers, flows;

static long (*sk_redirect_map)(struct context *skb, struct map *map, u32 key, u64 flags) = (void *)52;

/* enum sk_action */
enum { SK_DROP, SK_PASS };

PROGRAM(carry)
{
	struct ends ends = { ctx->local_port, ctx->remote_port };
	u32 *to = map_lookup(&flows, &ends);
	/* a FIN comes as data of no length */
	if (!to || ctx->len == 0)
		return SK_DROP;
	return sk_redirect_map(ctx, &peers, *to, 0);
}
