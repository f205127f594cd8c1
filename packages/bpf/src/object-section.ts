/** What the name of a code section says of its programs: libbpf's table, and the freer spellings of older objects. */
import type { AttachHook } from './engine.ts';
import type { ProgramSpec, ProgramType } from './program.ts';

/** What a section's programs are. */
export interface SectionKind {
  readonly type: ProgramType;
  readonly frags: boolean;
  /** Where they run; undefined where the name leaves it open. */
  readonly hook?: AttachHook;
}

/** XDP programs for entries of devmaps and cpumaps have an attach type of their own. */
const ENTRY_PROGRAM = /^xdp(\.frags)?[/_](devmap|cpumap)\b/;

const KINDS: readonly (readonly [pattern: RegExp, kind: SectionKind])[] = [
  [/^xdp\.frags(\/|$)/, { type: 'xdp', frags: true, hook: 'xdp' }],
  [/^xdp([/_]|$)/, { type: 'xdp', frags: false, hook: 'xdp' }],
  [/^tcx?\/ingress$/, { type: 'schedCls', frags: false, hook: 'tcIngress' }],
  [/^tcx?\/egress$/, { type: 'schedCls', frags: false, hook: 'tcEgress' }],
  [/^(tc|classifier)([/_]|$)/, { type: 'schedCls', frags: false }],
  [/^socket([/_\d]|$)/, { type: 'socketFilter', frags: false }],
  [/^sk_skb(\/|$)/, { type: 'skSkb', frags: false }],
  [/^sk_msg(\/|$)/, { type: 'skMsg', frags: false }],
  [/^sockops(\/|$)/, { type: 'sockOps', frags: false }],
];

/** What programs of a section are; undefined where Tailrace runs no such programs. */
export function sectionKind(section: string): SectionKind | undefined {
  // libbpf: `?` before a name says not to load the program unless asked to.
  const name = section.replace(/^\?/, '');
  if (ENTRY_PROGRAM.test(name)) return undefined;
  return KINDS.find(([pattern]) => pattern.test(name))?.[1];
}

/** The section that libbpf finds such a program's kind in. */
export function sectionName({ type, frags }: Pick<ProgramSpec, 'type' | 'frags'>): string {
  const names: Readonly<Record<ProgramType, string>> = {
    xdp: frags ? 'xdp.frags' : 'xdp',
    schedCls: 'tc',
    socketFilter: 'socket',
    sockOps: 'sockops',
    skSkb: 'sk_skb',
    skMsg: 'sk_msg',
  };
  return names[type];
}
