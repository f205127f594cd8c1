import { kernel } from '@tailrace/kernel';
import { lengthSuite } from './length.suite.ts';

lengthSuite(kernel({ interfaces: [] }));
