/* SPDX-License-Identifier: MIT */
/*
 * A chain of light stages: each checks that an Ethernet header is there, drops LLDP, counts and calls the next one.
 * Twin of the stages in suites/chain.ts. STAGES: the length of the chain, whose last stage passes.
 */
#include "packet.h"

#define MAX_STAGES 32

struct state {
	u64 length, misses;
	struct counters stage[MAX_STAGES];
};

extern struct map state, chain;

static always_inline int light(struct xdp_md *ctx, const u32 index)
{
	struct state *s = entry(&state, 0);
	if (!s)
		return XDP_ABORTED;
	struct counters *counters = &s->stage[index];
	counters->bytes += s->length;
	struct ethernet *eth;
	if (!find_ethernet(ctx, &eth) || eth->type == BE16(0x88cc)) {
		counters->drop += 1;
		return XDP_DROP;
	}
	counters->next += 1;
	if (index + 1 >= STAGES)
		return XDP_PASS;
	tail_call(ctx, &chain, index + 1);
	s = entry(&state, 0);
	if (s)
		s->stage[index].misses += 1;
	return XDP_PASS;
}

#define STAGE(index)                                                                               \
	SECTION("xdp/stage" #index) int stage##index(struct xdp_md *ctx)                                \
	{                                                                                          \
		return light(ctx, index);                                                          \
	}

STAGE(0) STAGE(1) STAGE(2) STAGE(3) STAGE(4) STAGE(5) STAGE(6) STAGE(7)
STAGE(8) STAGE(9) STAGE(10) STAGE(11) STAGE(12) STAGE(13) STAGE(14) STAGE(15)
STAGE(16) STAGE(17) STAGE(18) STAGE(19) STAGE(20) STAGE(21) STAGE(22) STAGE(23)
STAGE(24) STAGE(25) STAGE(26) STAGE(27) STAGE(28) STAGE(29) STAGE(30) STAGE(31)

SECTION("xdp/root") int root(struct xdp_md *ctx)
{
	struct state *s = entry(&state, 0);
	if (!s)
		return XDP_ABORTED;
	s->length = buffer_length(ctx);
	tail_call(ctx, &chain, 0);
	s = entry(&state, 0);
	if (s)
		s->misses += 1;
	return XDP_PASS;
}
