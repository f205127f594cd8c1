/** What programs may do with the values that they get pointers to. */
import { MapFlag, type MapSpec, type MapType } from '@tailrace/bpf';

const ACCESS: Partial<Readonly<Record<MapType, 'read' | 'write'>>> = {
  array: 'write',
  hash: 'write',
  perCpuArray: 'write',
  perCpuHash: 'write',
  lruHash: 'write',
  lruPerCpuHash: 'write',
  lpmTrie: 'write',
  devmap: 'read',
  devmapHash: 'read',
};

/** Whether programs may read values of a map, or write them too; undefined where they get no pointers to them. */
export function valueAccess({ type, flags }: MapSpec): 'read' | 'write' | undefined {
  const access = ACCESS[type];
  return access === 'write' && (flags & MapFlag.readOnlyProgram) !== 0 ? 'read' : access;
}
