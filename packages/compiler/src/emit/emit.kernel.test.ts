import { kernel } from '@tailrace/kernel';
import { emitSuite } from './emit.suite.ts';

emitSuite(kernel({ interfaces: [] }));
