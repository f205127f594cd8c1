import { kernel } from '@tailrace/kernel';
import { reasonSuite } from './reason.suite.ts';

reasonSuite(kernel({ interfaces: [] }));
