import { kernel } from '@tailrace/kernel';
import { pipelineEventsSuite } from './pipeline-events.suite.ts';

pipelineEventsSuite(kernel({ interfaces: [] }));
