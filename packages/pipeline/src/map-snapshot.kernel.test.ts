import { spawnSync } from 'node:child_process';
import { kernel } from '@tailrace/kernel';
import { expect, test } from 'vitest';
import { mapSnapshotSuite } from './map-snapshot.suite.ts';

mapSnapshotSuite(kernel({ interfaces: [] }));

test('a full disk loses nothing', () => {
  const at = (file: string): string => JSON.stringify(import.meta.resolve(file));
  const script = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { userspace } from ${at('@tailrace/userspace')};
    import { hash, u32, u64 } from ${at('@tailrace/stage')};
    import { EngineMapRegistry } from ${at('./registry.ts')};
    const map = hash({ name: 'm', key: u32, value: u64, maxEntries: 50_000 });
    const registry = new EngineMapRegistry(await userspace().open());
    registry.hold([{ map, scope: 'edge', user: 'test' }]);
    const handle = registry.handle(map);
    handle.set(1, 2n);
    await handle.save('/mnt/saved');
    const before = readFileSync('/mnt/saved');
    handle.setMany(Array.from({ length: 50_000 }, (_, key) => [key, 0n]));
    const error = await handle.save('/mnt/saved').catch((caught) => caught);
    console.log(error.code, error.message, readdirSync('/mnt').join(), before.equals(readFileSync('/mnt/saved')));
    console.log(await handle.restore('/mnt/saved'), handle.get(1));`;
  const command = 'mount -t tmpfs -o size=64k none /mnt && exec "$0" --input-type=module --eval "$1"';
  const ran = spawnSync('unshare', ['--mount', 'sh', '-c', command, process.execPath, script], { encoding: 'utf8' });
  expect({ out: ran.stdout, error: ran.stderr }).toEqual({
    out: 'snapshot snapshot /mnt/saved: cannot be written: ENOSPC saved true\n1 2n\n',
    error: '',
  });
});
