import { kernel } from '@tailrace/kernel';
import { updateSuite } from './update.suite.ts';

updateSuite(kernel({ interfaces: [] }));
