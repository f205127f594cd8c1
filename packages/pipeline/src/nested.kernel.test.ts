import { kernel } from '@tailrace/kernel';
import { nestedSuite } from './nested.suite.ts';

nestedSuite(kernel({ interfaces: [] }));
