import { kernel } from '@tailrace/kernel';
import { objectStageSuite } from './object-stage.suite.ts';

objectStageSuite(kernel({ interfaces: [] }));
