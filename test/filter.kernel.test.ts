/** The filter in front of the balancer: who is blocked cannot connect, is counted, and can again once unblocked. */
import { acl } from '@tailrace/functions/acl';
import { l4lb } from '@tailrace/functions/l4lb';
import { pipeline } from 'tailrace';
import { expect, test } from 'vitest';
import { balancedNetwork, REALS, SOURCE, slotsAt, ToldHealth, UDP_PORT, VIP, vipsOf } from './balanced-network.ts';

test('blocked prefixes of both families are stopped and counted, everybody else gets through', async () => {
  await using network = await balancedNetwork();
  const { client, lb } = network.hosts;
  await lb.http({ port: 8080, address: '::' });
  const balancer = l4lb({ source: SOURCE, vips: vipsOf(...REALS) }).on({ notVip: 'next' });
  const filter = acl({ blocked: ['10.0.0.64/26'] });
  await using running = await pipeline('edge', { xdp: [filter, balancer] }).run(network.engine(), {
    services: [new ToldHealth().service, network.nextHops],
  });
  await slotsAt(running.controller(balancer), ...REALS);
  const control = running.controller(filter);
  const get = (url: string, localAddress: string, timeoutMs = 3_000) => client.request(url, { localAddress, timeoutMs });
  const blocked = { code: 'syscall', errno: 110 };
  const hits = (prefix: string): number => Number(control.hits().find((entry) => entry.prefix === prefix)?.packets ?? -1n);
  const toVip = `http://${VIP}/`;
  const toLb6 = 'http://[fd00::1]:8080/';
  const toLb6Bad = 'http://[fd00:bad::1]:8080/';

  expect(REALS).toContain((await get(toVip, '10.0.0.2')).name);
  expect((await get(toLb6, 'fd00::2')).name).toBe('lb');
  expect((await get(toLb6Bad, 'fd00:bad::2')).name).toBe('lb');
  expect(control.block('fd00:bad::/32')).toBe(true);
  expect([hits('10.0.0.64/26'), hits('fd00:bad::/32')]).toEqual([0, 0]);

  await expect(get(toVip, '10.0.0.66', 200)).rejects.toMatchObject(blocked);
  expect(hits('10.0.0.64/26')).toBe(1);
  await using socket = await client.udp({ address: '10.0.0.66' });
  for (let i = 0; i < 3; i++) await socket.send('who?', VIP, UDP_PORT);
  await expect(get(toVip, '10.0.0.66', 200)).rejects.toMatchObject(blocked);
  expect(hits('10.0.0.64/26')).toBe(5);
  expect(socket.received).toBe(0);
  expect(REALS).toContain((await get(toVip, '10.0.0.2')).name);

  await expect(get(toLb6Bad, 'fd00:bad::2', 200)).rejects.toMatchObject(blocked);
  expect(hits('fd00:bad::/32')).toBeGreaterThan(0);
  expect((await get(toLb6, 'fd00::2')).name).toBe('lb');

  expect([control.unblock('10.0.0.64/26'), control.unblock('fd00:bad::/32')]).toEqual([true, true]);
  expect(REALS).toContain((await get(toVip, '10.0.0.66')).name);
  expect((await get(toLb6Bad, 'fd00:bad::2')).name).toBe('lb');
  expect(control.blocked).toEqual([]);

  // A longer prefix within, and again at runtime.
  expect(control.block('10.0.0.66/32')).toBe(true);
  await expect(get(toVip, '10.0.0.66', 200)).rejects.toMatchObject(blocked);
  expect(control.hits()).toMatchObject([{ prefix: '10.0.0.66/32', packets: 1n }]);
  const { xdp } = running.stats();
  expect(xdp['acl.acl'].verdicts.drop).toBe(xdp['acl.acl'].packets - xdp['acl.acl'].next);
  expect(xdp['l4lb.vip'].packets).toBe(xdp['acl.acl'].next);
});
