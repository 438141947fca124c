/** Which node ftctl asks where none is named: the only one there is, and never one by chance. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { askNode } from '../../src/cli/control-client';
import { controlSockets, likelySocket } from '../../src/cli/control-sockets';

describe('sockets of nodes', () => {
  let folder = '';
  const servers: Server[] = [];
  const usual = (): string => path.join(folder, 'control.sock');

  const serve = async (...at: string[]): Promise<string> => {
    const file = path.join(folder, ...at, 'control.sock');
    mkdirSync(path.dirname(file), { recursive: true });
    const server = createServer();
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(file, resolve));
    return file;
  };

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-run-'));
  });

  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
    rmSync(folder, { recursive: true });
  });

  test('none, one, several; the usual place comes first', async () => {
    expect(likelySocket(path.join(folder, 'none'))).toBe(path.join(folder, 'none/control.sock'));
    mkdirSync(path.join(folder, 'empty'));
    writeFileSync(path.join(folder, 'empty', 'control.sock'), 'no socket');
    expect(controlSockets(folder)).toEqual([]);
    expect(likelySocket(folder)).toBe(usual());
    const web = await serve('web');
    expect(likelySocket(folder)).toBe(web);
    const mail = await serve('mail');
    expect(controlSockets(folder)).toEqual([mail, web]);
    expect(likelySocket(folder)).toBe(usual());
    expect(await serve()).toBe(usual());
    expect(likelySocket(folder)).toBe(usual());
  });

  test('who asks at a wrong path is told of the right ones', async () => {
    const web = await serve('web');
    await serve('mail');
    const asked = askNode(usual(), 'GET', '/v1/status', undefined, folder);
    await expect(asked).rejects.toThrow(`mail/control.sock and ${web}`);
    const nobody = askNode(usual(), 'GET', '/v1/status', undefined, path.join(folder, 'none'));
    await expect(nobody).rejects.toThrow(/no such socket\. Start the node with --control/);
  });
});
