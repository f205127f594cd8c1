import { kernel } from '@tailrace/kernel';
import { observeSuite } from './observe.suite.ts';

observeSuite(kernel({ interfaces: [] }));
