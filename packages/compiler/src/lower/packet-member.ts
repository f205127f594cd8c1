/** Members of `ctx` that are told of the frame as a whole: protocol, fragments, tags, and headers of tunnels. */
import type { Members } from './context-member.ts';
import { isFragment, protocolNumber, tunnel } from './header.ts';
import { TUNNEL_NAMES } from './transport-header.ts';
import { updateChecksum } from './update-checksum.ts';
import { popVlan, pushVlan, vlanTags } from './vlan.ts';

const TUNNELS: Members = Object.fromEntries(
  TUNNEL_NAMES.map((name) => [name, { call: ({ lowering }, node, [port]) => tunnel(lowering, node, name, port) }]),
) satisfies Members;

export const PACKET_MEMBERS: Members = {
  ...TUNNELS,
  protocol: { get: ({ lowering }) => protocolNumber(lowering) },
  fragment: { get: ({ lowering }) => isFragment(lowering) },
  vlanTags: { get: ({ lowering }) => vlanTags(lowering).count },
  vlanTci: { get: ({ lowering }) => vlanTags(lowering).outer },
  innerVlanTci: { get: ({ lowering }) => vlanTags(lowering).inner },
  pushVlan: { call: pushVlan },
  popVlan: { call: popVlan },
  updateChecksum: { call: updateChecksum },
};
