/* SPDX-License-Identifier: MIT */
/*
 * A chain of light stages: each checks that an Ethernet header is there, drops LLDP, counts and calls the next one.
 * Twin of the stages in light-chain.ts. STAGES: the length of the chain; END: the verdict that its last stage ends in.
 * FUSED: all stages are inlined into the first program. CALLS: it calls each as a function. VARIABLE: the next slot is not known
 * before the packet is there. UNCOUNTED: nothing is counted. METADATA: every stage takes a sum that travels with the packet further. CROSSING: the
 * sum is put in front of packets that leave the chain at XDP.
 */
#include "packet.h"

#define MAX_STAGES 32
#define CROSSING_TAG 0x6c696768
#define SUM 0x0803

/* At XDP the sum lies here, at TC in the packet's control block. */
struct state {
	u64 length, misses;
	u32 sum, skew; /* skew is 0, which only the running program sees */
	struct counters stage[MAX_STAGES];
};

extern struct map state, chain;

#define MISSES(member) ((u64)&((struct state *)0)->member)

#ifdef TC
#define LENGTH(ctx, s) packet_length(ctx)
#define META(ctx, s) ((ctx)->cb[0])
#else
#define LENGTH(ctx, s) ((s)->length)
#define META(ctx, s) ((s)->sum)
#endif

static always_inline void cross(struct context *ctx, struct state *s)
{
#ifdef CROSSING
	if (adjust_meta(ctx, -8))
		return;
	u32 *meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 2) > packet_start(ctx))
		return;
	meta[0] = CROSSING_TAG;
	meta[1] = META(ctx, s);
#endif
}

/* A tail call came back: the packet passes. */
static always_inline int miss(struct context *ctx, u64 counter)
{
#ifndef UNCOUNTED
	struct state *s = entry(&state, 0);
	if (!s)
		return LOST;
	*(u64 *)((void *)s + counter) += 1;
	cross(ctx, s);
#endif
	return PASS;
}

/* No verdict: the packet goes on. */
#define NEXT 0x100

static always_inline int body(struct context *ctx, struct state *s, const u32 index)
{
#ifndef UNCOUNTED
	struct counters *counters = &s->stage[index];
	counters->bytes += LENGTH(ctx, s);
#define COUNT(outcome) (counters->outcome += segments(ctx))
#else
#define COUNT(outcome)
#endif
	struct ethernet *eth;
	if (!find_ethernet(ctx, &eth) || eth->type == BE16(0x88cc)) {
		COUNT(drop);
		return DROP;
	}
#ifdef METADATA
	if (index == 0)
		META(ctx, s) = be16(eth->type);
	else
		META(ctx, s) += 1;
	if (index + 1 == STAGES && META(ctx, s) != SUM) {
		COUNT(drop);
		return DROP;
	}
#endif
	COUNT(next);
	return NEXT;
}

#ifndef UNCOUNTED
#define STATE entry(&state, 0)
#define IS_LOST(s) (!(s))
#else
#define STATE 0
#define IS_LOST(s) 0
#endif

#ifdef FUSED
PROGRAM(stage0)
{
	struct state *s = STATE;
	if (IS_LOST(s))
		return LOST;
#pragma unroll
	for (u32 index = 0; index < STAGES; index++) {
		int verdict = body(ctx, s, index);
		if (verdict != NEXT)
			return verdict;
	}
	cross(ctx, s);
	return END;
}
#elif defined(CALLS)
#define STAGES_OF_ALL(EACH)                                                                        \
	EACH(0) EACH(1) EACH(2) EACH(3) EACH(4) EACH(5) EACH(6) EACH(7)                            \
	EACH(8) EACH(9) EACH(10) EACH(11) EACH(12) EACH(13) EACH(14) EACH(15)                      \
	EACH(16) EACH(17) EACH(18) EACH(19) EACH(20) EACH(21) EACH(22) EACH(23)                    \
	EACH(24) EACH(25) EACH(26) EACH(27) EACH(28) EACH(29) EACH(30) EACH(31)

#define FUNCTION(index)                                                                            \
	static __attribute__((noinline)) int call##index(struct context *ctx, struct state *s)     \
	{                                                                                          \
		return body(ctx, s, index);                                                        \
	}
STAGES_OF_ALL(FUNCTION)

PROGRAM(stage0)
{
	struct state *s = STATE;
	int verdict;
	if (IS_LOST(s))
		return LOST;
#define CALL(index)                                                                                \
	if (index < STAGES && (verdict = call##index(ctx, s)) != NEXT)                             \
		return verdict;
	STAGES_OF_ALL(CALL)
	return END;
}
#else
static always_inline int light(struct context *ctx, const u32 index)
{
	struct state *s = STATE;
	if (IS_LOST(s))
		return LOST;
	int verdict = body(ctx, s, index);
	if (verdict != NEXT)
		return verdict;
	if (index + 1 < STAGES) {
#ifdef VARIABLE
		tail_call_at(ctx, &chain, index + 1 + s->skew);
#else
		tail_call(ctx, &chain, index + 1);
#endif
		return miss(ctx, MISSES(stage[index].misses));
	}
	cross(ctx, s);
	return END;
}

#define STAGE(index)                                                                               \
	PROGRAM(stage##index)                                                                      \
	{                                                                                          \
		return light(ctx, index);                                                          \
	}

STAGE(0) STAGE(1) STAGE(2) STAGE(3) STAGE(4) STAGE(5) STAGE(6) STAGE(7)
STAGE(8) STAGE(9) STAGE(10) STAGE(11) STAGE(12) STAGE(13) STAGE(14) STAGE(15)
STAGE(16) STAGE(17) STAGE(18) STAGE(19) STAGE(20) STAGE(21) STAGE(22) STAGE(23)
STAGE(24) STAGE(25) STAGE(26) STAGE(27) STAGE(28) STAGE(29) STAGE(30) STAGE(31)
#endif

PROGRAM(root)
{
#if !defined(TC) && !defined(UNCOUNTED)
	struct state *s = entry(&state, 0);
	if (!s)
		return LOST;
	s->length = packet_length(ctx);
#endif
	tail_call(ctx, &chain, 0);
	return miss(ctx, MISSES(misses));
}
