/* SPDX-License-Identifier: MIT */
/*
 * What the C twins need of the kernel's interface, written out so that clang needs no header files: integer types, the
 * context, helpers by id (enum bpf_func_id), packet headers. Maps are extern symbols: the bench makes them from the same
 * specs as the TypeScript side and fills in their descriptors.
 *
 * A twin is compiled for XDP, or with -DTC for TC: `struct context` and the verdicts are those of the hook then.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef TC
/* struct __sk_buff up to gso_size, and enum tcx_action_base (include/uapi/linux/bpf.h) */
struct context {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority;
	u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id, family;
	u32 remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};
enum { PASS = -1, DROP = 2 };
/* What a program returns that finds its chain's state gone. */
#define LOST DROP
#define HOOK "tc"
#else
/* struct xdp_md and enum xdp_action (include/uapi/linux/bpf.h) */
struct context {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};
enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
enum { PASS = XDP_PASS, DROP = XDP_DROP };
#define LOST XDP_ABORTED
#define HOOK "xdp"
#endif

/* A map of any kind: only its address is ever used. */
struct map;

/* A program of that name, in a section of its own. */
#define PROGRAM(name) __attribute__((section(HOOK "/" #name), used)) int name(struct context *ctx)
#define always_inline inline __attribute__((always_inline))

static void *(*map_lookup)(struct map *map, const void *key) = (void *)1;
static long (*map_update)(struct map *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*ktime_get_ns)(void) = (void *)5;
static long (*redirect)(u32 ifindex, u64 flags) = (void *)23;
static u32 (*smp_processor_id)(void) = (void *)8;
static void *(*ringbuf_reserve)(struct map *ring, u64 size, u64 flags) = (void *)131;
static void (*ringbuf_submit)(void *record, u64 flags) = (void *)132;
#ifdef TC
static long (*skb_pull_data)(struct context *ctx, u32 length) = (void *)39;
#else
static long (*adjust_head)(struct context *ctx, int delta) = (void *)44;
static long (*adjust_meta)(struct context *ctx, int delta) = (void *)54;
static u64 (*buffer_length)(struct context *ctx) = (void *)188;
#endif

enum { BPF_ANY, BPF_NOEXIST };

/*
 * A tail call whose map and slot the compiler cannot move into a variable: the verifier then sees constants on every
 * path and the JIT makes a direct jump of it (helper 12).
 */
static always_inline void tail_call(struct context *ctx, const struct map *array, const u32 slot)
{
	asm volatile("r1 = %[ctx]\n\t"
		     "r2 = %[array]\n\t"
		     "r3 = %[slot]\n\t"
		     "call 12"
		     :
		     : [ctx] "r"(ctx), [array] "r"(array), [slot] "i"(slot)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
}

/* A tail call to a slot that is known once it is made. */
static void (*tail_call_at)(struct context *ctx, const struct map *array, u32 slot) = (void *)12;

/* Byte order: every host here is little endian. */
#define be16(x) __builtin_bswap16(x)
#define be32(x) __builtin_bswap32(x)
/* A constant in network order, to compare with what the packet has. */
#define BE16(x) ((u16)((((x) & 0xff) << 8) | (((x) >> 8) & 0xff)))

/* MAC addresses as words of 2 bytes: clang copies arrays of bytes byte by byte. */
struct mac {
	u16 word[3];
};

struct ethernet {
	struct mac dst, src;
	u16 type;
};

struct ipv4 {
	u8 version_ihl, tos;
	u16 total_length, id, flags_fragment;
	u8 ttl, protocol;
	u16 checksum;
	u32 saddr, daddr;
};

struct ipv6 {
	u32 version_class_flow;
	u16 payload_length;
	u8 next_header, hop_limit;
	u8 saddr[16], daddr[16];
};

struct tcp {
	u16 sport, dport;
	u32 seq, ack_seq;
	u8 data_offset, flags;
	u16 window, checksum, urgent;
};

enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, PROTOCOL_IPIP = 4, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

/* A map's entry by index: arrays of all kinds. */
static always_inline void *entry(struct map *map, u32 index)
{
	return map_lookup(map, &index);
}

/*
 * The counters of one stage in a chain's state, in the order of `counterNames`; exits, where a stage has any, follow.
 * A chain's state is one per-CPU array entry: at XDP the packet's length and its metadata, then the counters of each stage.
 */
struct counters {
#ifdef TC
	u64 bytes, misses, pass, drop, redirect, next;
#else
	u64 bytes, misses, abort, drop, pass, tx, redirect, next;
#endif
};
