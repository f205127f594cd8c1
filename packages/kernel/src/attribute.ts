/**
 * The attributes of bpf(2) as tables: for each command its number, and for each field of its part of `union bpf_attr`
 * the byte offset and size (include/uapi/linux/bpf.h). Only what this package sends or reads is listed.
 */
import { ArgumentError } from '@tailrace/bpf';
import { alignTo8, allocate, type Memory } from './memory.ts';

type Field = readonly [offset: number, size: 4 | 8 | 16];

const batch = {
  in_batch: [0, 8],
  out_batch: [8, 8],
  keys: [16, 8],
  values: [24, 8],
  count: [32, 4],
  map_fd: [36, 4],
  elem_flags: [40, 8],
} as const;

const element = { map_fd: [0, 4], key: [8, 8], value: [16, 8], flags: [24, 8] } as const;

/** The commands of bpf(2) that this package uses. */
export const commands = {
  BPF_MAP_CREATE: {
    number: 0,
    fields: {
      map_type: [0, 4],
      key_size: [4, 4],
      value_size: [8, 4],
      max_entries: [12, 4],
      map_flags: [16, 4],
      inner_map_fd: [20, 4],
      map_name: [28, 16],
      btf_fd: [48, 4],
      btf_key_type_id: [52, 4],
      btf_value_type_id: [56, 4],
      map_extra: [64, 8],
    },
  },
  BPF_MAP_LOOKUP_ELEM: { number: 1, fields: element },
  BPF_MAP_UPDATE_ELEM: { number: 2, fields: element },
  BPF_MAP_DELETE_ELEM: { number: 3, fields: element },
  BPF_MAP_GET_NEXT_KEY: { number: 4, fields: { map_fd: [0, 4], key: [8, 8], next_key: [16, 8] } },
  BPF_PROG_LOAD: {
    number: 5,
    fields: {
      prog_type: [0, 4],
      insn_cnt: [4, 4],
      insns: [8, 8],
      license: [16, 8],
      log_level: [24, 4],
      log_size: [28, 4],
      log_buf: [32, 8],
      prog_flags: [44, 4],
      prog_name: [48, 16],
      expected_attach_type: [68, 4],
      prog_btf_fd: [72, 4],
      func_info_rec_size: [76, 4],
      func_info: [80, 8],
      func_info_cnt: [88, 4],
      line_info_rec_size: [92, 4],
      line_info: [96, 8],
      line_info_cnt: [104, 4],
    },
  },
  BPF_OBJ_PIN: { number: 6, fields: { pathname: [0, 8], bpf_fd: [8, 4] } },
  BPF_OBJ_GET: { number: 7, fields: { pathname: [0, 8] } },
  BPF_PROG_ATTACH: { number: 8, fields: { target_fd: [0, 4], attach_bpf_fd: [4, 4], attach_type: [8, 4], attach_flags: [12, 4] } },
  BPF_PROG_DETACH: { number: 9, fields: { target_fd: [0, 4], attach_bpf_fd: [4, 4], attach_type: [8, 4] } },
  BPF_PROG_TEST_RUN: {
    number: 10,
    fields: {
      prog_fd: [0, 4],
      retval: [4, 4],
      data_size_in: [8, 4],
      data_size_out: [12, 4],
      data_in: [16, 8],
      data_out: [24, 8],
      repeat: [32, 4],
      duration: [36, 4],
      ctx_size_in: [40, 4],
      ctx_size_out: [44, 4],
      ctx_in: [48, 8],
      ctx_out: [56, 8],
      flags: [64, 4],
    },
  },
  BPF_PROG_GET_NEXT_ID: { number: 11, fields: { start_id: [0, 4], next_id: [4, 4] } },
  BPF_PROG_GET_FD_BY_ID: { number: 13, fields: { prog_id: [0, 4] } },
  BPF_OBJ_GET_INFO_BY_FD: { number: 15, fields: { bpf_fd: [0, 4], info_len: [4, 4], info: [8, 8] } },
  BPF_PROG_QUERY: {
    number: 16,
    // The kernel writes count and revision whatever the size of the block is, so the last field has to be here.
    fields: { target_ifindex: [0, 4], attach_type: [4, 4], prog_ids: [16, 8], count: [24, 4], revision: [56, 8] },
  },
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: { number: 21, fields: element },
  BPF_BTF_LOAD: {
    number: 18,
    fields: { btf: [0, 8], btf_log_buf: [8, 8], btf_size: [16, 4], btf_log_size: [20, 4], btf_log_level: [24, 4] },
  },
  BPF_MAP_FREEZE: { number: 22, fields: { map_fd: [0, 4] } },
  BPF_MAP_LOOKUP_BATCH: { number: 24, fields: batch },
  BPF_MAP_UPDATE_BATCH: { number: 26, fields: batch },
  BPF_MAP_DELETE_BATCH: { number: 27, fields: batch },
  BPF_LINK_CREATE: {
    number: 28,
    fields: { prog_fd: [0, 4], target_ifindex: [4, 4], attach_type: [8, 4], flags: [12, 4], relative_id: [16, 4] },
  },
  BPF_LINK_UPDATE: { number: 29, fields: { link_fd: [0, 4], new_prog_fd: [4, 4], flags: [8, 4] } },
  BPF_LINK_DETACH: { number: 34, fields: { link_fd: [0, 4] } },
  BPF_PROG_BIND_MAP: { number: 35, fields: { prog_fd: [0, 4], map_fd: [4, 4] } },
} as const satisfies Readonly<Record<string, { readonly number: number; readonly fields: Readonly<Record<string, Field>> }>>;

/** The name of a bpf(2) command, in the kernel's spelling. */
export type BpfCommand = keyof typeof commands;

/** The fields of a command: unsigned numbers and addresses, or text for a name of at most 15 bytes. */
export type Attributes<C extends BpfCommand> = {
  readonly [F in keyof (typeof commands)[C]['fields']]?: (typeof commands)[C]['fields'][F] extends readonly [number, 16] ? string : number;
};

/** Bytes that a command's attributes take: the end of its last field. */
export function attributeSize(command: BpfCommand): number {
  let end = 0;
  for (const [offset, size] of Object.values<Field>(commands[command].fields)) end = Math.max(end, offset + size);
  return alignTo8(end);
}

/** Writes a command's attributes into fresh memory; fields that are not given are zero. Throws ArgumentError. */
export function encodeAttributes<C extends BpfCommand>(command: C, attributes: Attributes<C>): Memory {
  const memory = allocate(attributeSize(command));
  const fields: Readonly<Record<string, Field>> = commands[command].fields;
  for (const [name, value] of Object.entries<string | number | undefined>(attributes)) {
    const field = fields[name];
    if (!field) throw new ArgumentError(`${command} has no attribute ${name}`);
    if (value !== undefined) writeField(memory, field, value, `${command} ${name}`);
  }
  return memory;
}

/** Reads a 4-byte field that the kernel wrote. */
export function readAttribute<C extends BpfCommand>(
  command: C,
  memory: Memory,
  field: keyof (typeof commands)[C]['fields'] & string,
): number {
  const fields: Readonly<Record<string, Field>> = commands[command].fields;
  const place = fields[field];
  if (place?.[1] !== 4) throw new ArgumentError(`${command} ${field} is not a 4-byte attribute`);
  return memory.view.getUint32(place[0], true);
}

function writeField(memory: Memory, [offset, size]: Field, value: string | number, what: string): void {
  if (typeof value === 'string') {
    const text = new TextEncoder().encode(value);
    if (text.length >= size) throw new ArgumentError(`${what} takes at most ${size - 1} bytes, got ${text.length}`);
    memory.bytes.set(text, offset);
    return;
  }
  const limit = size === 4 ? 0xffff_ffff : Number.MAX_SAFE_INTEGER;
  if (!Number.isInteger(value) || value < 0 || value > limit) {
    throw new ArgumentError(`${what} must be an unsigned integer of ${size} bytes, got ${value}`);
  }
  if (size === 4) memory.view.setUint32(offset, value, true);
  else memory.view.setBigUint64(offset, BigInt(value), true);
}
