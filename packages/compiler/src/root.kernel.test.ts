import { kernel } from '@tailrace/kernel';
import { rootSuite } from './root.suite.ts';

rootSuite(kernel({ interfaces: [] }));
