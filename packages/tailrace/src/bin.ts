#!/usr/bin/env node
/** The `tailrace` command. */
import { main } from './command/main.ts';

// A user's module may leave something running that would keep the process.
process.exit(await main(process.argv.slice(2)));
