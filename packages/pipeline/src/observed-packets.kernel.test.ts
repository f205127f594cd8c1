import { kernel } from '@tailrace/kernel';
import { observedPacketsSuite } from './observed-packets.suite.ts';

observedPacketsSuite(kernel({ interfaces: [] }));
