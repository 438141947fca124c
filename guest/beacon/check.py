#!/usr/bin/env python3
"""Checks the fixture guest in QEMU: boots it, asks everything, judges every answer.

Runs as root with /dev/kvm, in a network namespace of its own. Knows the protocol from
docs/beacon.md alone, so it also checks that page. Exit code 0 when every check passed.

    make -C guest/beacon && guest/beacon/check.py [--quick]
"""
import os
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # nothing is left behind in the source folder
from check_disk import check_disk  # noqa: E402
from check_tcp import check_tcp  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ELF = os.path.join(HERE, '..', '..', 'build', 'guest', 'beacon.elf')
NAMESPACE = 'beacon-check'
GUEST = ('10.77.0.2', 7777)
BOOT_ID = 0x0123456789ABCDEF
INCR, PUT, GET, STATS, LOAD = 1, 2, 3, 4, 5
OK, BAD_OP, NOT_FOUND, TABLE_FULL, BAD_ARGUMENT = 0, 1, 2, 3, 4
SPIN = 1 << 63
FIELDS = ('magic version op status client id boot sequence previous hash value uptime progress '
          'dirtied gap_max gap_p50 gap_p99 gap_count pages_max zero').split()
failed = 0


def check(what, good, facts=''):
    global failed
    failed += 0 if good else 1
    facts = f' · {facts}' if facts != '' else ''
    print(f"{'ok  ' if good else 'FAIL'} {what}{facts}", flush=True)


def request(op, client, number, a=0, b=0, c=0):
    return struct.pack('<4sBBHIIQQQ', b'FTBQ', 1, op, 0, client, number, a, b, c)


def decode(raw):
    return dict(zip(FIELDS, struct.unpack('<4sBBHII14Q', raw)))


def chain(previous, raw):
    value = 0xCBF29CE484222325
    for byte in struct.pack('<Q', previous) + raw[5:6] + raw[8:]:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


class Machine:
    """One QEMU with the guest in it."""

    def __init__(self, memory_mib, append, disks=()):
        self.folder = tempfile.mkdtemp(prefix='beacon-check-')
        self.console = os.path.join(self.folder, 'console')
        monitor = os.path.join(self.folder, 'monitor')
        self.process = subprocess.Popen([
            'qemu-system-x86_64', '-machine', 'microvm,acpi=off,x-option-roms=off', '-accel', 'kvm',
            '-cpu', 'kvm64,-cx16,-popcnt', '-m', str(memory_mib), '-kernel', ELF, '-append', append,
            '-nodefaults', '-display', 'none', '-serial', f'file:{self.console}',
            '-monitor', f'unix:{monitor},server,nowait',
            '-netdev', 'tap,id=n0,ifname=tap0,script=no,downscript=no,vhost=off',
            '-device', 'virtio-net-device,netdev=n0,mac=52:54:00:77:00:02',
            '-global', 'virtio-mmio.force-legacy=false'] + list(disks), stderr=subprocess.DEVNULL)
        self.monitor = socket.socket(socket.AF_UNIX)
        for _ in range(100):
            try:
                self.monitor.connect(monitor)
                break
            except OSError:
                time.sleep(0.05)
        self.read_monitor()

    def read_monitor(self):
        seen = b''
        while not seen.endswith(b'(qemu) '):
            seen += self.monitor.recv(4096)

    def command(self, text):
        self.monitor.sendall(text.encode() + b'\n')
        self.read_monitor()

    def line(self, timeout=5):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                text = open(self.console).read()
                if text.endswith('\n'):
                    return text.strip()
            except OSError:
                pass
            time.sleep(0.02)
        return ''

    def memory(self, address, length):
        path = os.path.join(self.folder, 'dump')
        self.command(f'pmemsave {address:#x} {length} "{path}"')
        return open(path, 'rb').read()

    def end(self):
        self.process.terminate()
        self.process.wait()
        subprocess.run(['rm', '-rf', self.folder], check=True)


class Client:
    """One client: sends, retries, and keeps every (request, answer) pair for the judge."""
    log = []

    def __init__(self, identity):
        self.identity = identity
        self.next = 1
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(GUEST)

    def raw(self, data, timeout=0.3):
        self.socket.send(data)
        ready, _, _ = select.select([self.socket], [], [], timeout)
        return self.socket.recv(4096) if ready else None

    def ask(self, op, a=0, b=0, c=0):
        data = request(op, self.identity, self.next, a, b, c)
        for _ in range(20):
            raw = self.raw(data)
            if raw is not None:
                break
        answer = decode(raw)
        assert answer['client'] == self.identity and answer['id'] == self.next, answer
        self.next += 1
        Client.log.append((data, answer))
        return answer

    def pipeline(self, requests, window=8):
        """Many requests with up to `window` under way; asks again for what stays unanswered."""
        waiting, first = {}, self.next
        todo = list(enumerate(requests))[::-1]
        while todo or waiting:
            while todo and len(waiting) < window:
                index, (op, a, b, c) = todo[-1]
                if waiting and first + index - min(waiting) >= 8:
                    break
                todo.pop()
                data = request(op, self.identity, first + index, a, b, c)
                waiting[first + index] = data
                self.socket.send(data)
            ready, _, _ = select.select([self.socket], [], [], 0.2)
            if not ready:
                for data in waiting.values():
                    self.socket.send(data)
                continue
            answer = decode(self.socket.recv(4096))
            data = waiting.pop(answer['id'], None)
            if data is not None:
                Client.log.append((data, answer))
        self.next = first + len(requests)


def judge_chain():
    """Every request served since boot is in the log, in one chain without a gap."""
    served = sorted(Client.log, key=lambda pair: pair[1]['sequence'])
    previous, good = BOOT_ID, True
    for index, (data, answer) in enumerate(served):
        good &= answer['sequence'] == index + 1 and answer['boot'] == BOOT_ID
        good &= answer['previous'] == previous and answer['hash'] == chain(previous, data)
        good &= answer['zero'] == 0 and answer['magic'] == b'FTBA' and answer['version'] == 1
        previous = answer['hash']
    counters = [a['value'] for _, a in served if a['op'] == INCR]
    good &= counters == list(range(1, len(counters) + 1))
    check('sequence, chain, boot id and counter of everything served', good,
          f'{len(served)} requests')


def check_operations():
    one = Client(7)
    answer = one.ask(INCR)
    check('first incr', answer['value'] == 1 and answer['sequence'] == 1 and answer['status'] == OK)
    check('pages for load', answer['pages_max'] > 10000, answer['pages_max'])
    check('get of what is not there', one.ask(GET, a=5)['status'] == NOT_FOUND)
    good = True
    for key, value in ((5, 99), (0, 7), (2**64 - 1, 2**64 - 1), (5, 100)):
        put, got = one.ask(PUT, key, value), one.ask(GET, key)
        good &= put['status'] == OK and put['value'] == value
        good &= got['status'] == OK and got['value'] == value
    check('put and get', good)
    check('a bad op', one.ask(200)['status'] == BAD_OP)
    bad = [(1, 0, 10), (1, 4097, 10), (1, 8, 0), (1, 8, 2**40), (2**64 - 1, 8, 0)]
    check('bad load arguments', all(one.ask(LOAD, *x)['status'] == BAD_ARGUMENT for x in bad))
    uptime = [one.ask(STATS)['uptime'] for _ in range(50)]
    check('uptime grows', uptime == sorted(uptime) and uptime[-1] < 60e9, uptime[-1])


def check_repetition():
    two = Client(8)
    first = [two.raw(request(INCR, 8, n)) for n in range(1, 11)]
    Client.log.extend((request(INCR, 8, n + 1), decode(raw)) for n, raw in enumerate(first))
    again = [two.raw(request(INCR, 8, n)) for n in range(3, 11)]
    check('the last 8 again, byte for byte', again == first[2:])
    check('an older one is not answered', two.raw(request(INCR, 8, 2)) is None)
    late = two.raw(request(INCR, 8, 12))
    early = two.raw(request(INCR, 8, 11))
    check('12 before 11: both are served', None not in (late, early))
    Client.log.extend([(request(INCR, 8, 12), decode(late)), (request(INCR, 8, 11), decode(early))])
    whole = request(INCR, 8, 13)
    broken = [whole[:-1], whole + b'x', b'', b'FTBX' + whole[4:], whole[:4] + b'\x02' + whole[5:],
              whole[:6] + b'\x01' + whole[7:], request(INCR, 8, 0)]
    check('what is no request is not answered', all(two.raw(x, 0.05) is None for x in broken))
    two.next = 13
    check('and it still serves', two.ask(INCR)['status'] == OK)


def ping(size):
    done = subprocess.run(['ping', '-c', '3', '-i', '0.01', '-W', '1', '-s', str(size), GUEST[0]],
                          stdout=subprocess.DEVNULL)
    return done.returncode == 0


def check_crowd(quick):
    count = 2000 if quick else 10000
    threads = [threading.Thread(target=Client(100 + i).pipeline,
                                args=([(INCR, 0, 0, 0), (PUT, i, 1, 0)] * (count // 8),))
               for i in range(4)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check('4 clients at once', True, f'{count / (time.monotonic() - begin):.0f} requests/s')
    for i in range(1100):
        Client(10000 + i).ask(INCR)
    check('1,100 clients one after the other', True)


def check_latency():
    one = Client(300)
    for pause, what in ((0.002, 'asleep between'), (0, 'back to back')):
        times = []
        for _ in range(500):
            time.sleep(pause)
            begin = time.perf_counter()
            one.ask(INCR)
            times.append((time.perf_counter() - begin) * 1e6)
        times.sort()
        check(f'round trip, {what}', True, f'p50 {times[250]:.0f} us, p99 {times[495]:.0f} us')


def check_load(machine):
    one = Client(400)
    for rate, spin in ((1, 0), (10, 0), (40, SPIN), (200, 0)):
        before = one.ask(LOAD, rate, 8, 1000 | spin)
        time.sleep(1)
        after = one.ask(LOAD, 0, 0, 0)
        wanted = rate * (after['uptime'] - before['uptime']) / 1e6
        # Stretches over 5 ms that a busy machine takes from the guest are not made up for.
        ratio = (after['dirtied'] - before['dirtied']) / wanted
        check(f"load of {rate} pages/ms{' spinning' if spin else ''}", 0.6 < ratio < 1.02,
              f'{ratio:.3f}')
    before = one.ask(LOAD, 2**64 - 1, 4096, before['pages_max'])
    times = []
    for _ in range(200):
        begin = time.perf_counter()
        one.ask(INCR)
        times.append((time.perf_counter() - begin) * 1e6)
    after = one.ask(LOAD, 0, 0, 0)
    rate = (after['dirtied'] - before['dirtied']) / (after['uptime'] - before['uptime']) * 1e6
    check('load as fast as it can, whole pages', rate > 20,
          f'{rate:.0f} pages/ms, round trip p50 {sorted(times)[100]:.0f} us')

    symbols = subprocess.run(['nm', ELF], capture_output=True, text=True).stdout
    first = int(re.search(r'^(\w+) . _end$', symbols, re.M).group(1), 16)
    for size in (1, 8, 13, 512, 4096):
        dumps = []
        for _ in range(3):
            one.ask(LOAD, 5, size, 16)
            time.sleep(0.05)
            one.ask(LOAD, 0, 0, 0)
            dumps.append(machine.memory(first, 17 * 4096))
        # Every page was written several times, always at its own place; a few bytes may by chance
        # have come back to what they were.
        pages = [[dump[p * 4096:p * 4096 + 4096] for dump in dumps] for p in range(17)]
        touched = [sum(a != b or a != c for a, b, c in zip(*page)) for page in pages]
        inside = all(max(0, size * 0.9 - 2) < t <= size for t in touched[:16])
        check(f'load of {size} bytes a page', inside and touched[16] == 0, touched[:16])


def check_spinning():
    one = Client(500)
    one.ask(LOAD, 0, 0, SPIN)
    one.ask(STATS)
    time.sleep(1)
    middle = one.ask(STATS)
    time.sleep(1)
    after = one.ask(STATS)
    units = (after['progress'] - middle['progress']) / (after['uptime'] - middle['uptime']) * 1e9
    check('spinning', units > 3e6, f'{units / 1e6:.2f} M units/s')
    check('gap figures hang together', 0 < after['gap_p50'] <= after['gap_p99'] <= after['gap_max'],
          f"{after['gap_count']} gaps/s, p50 {after['gap_p50'] / 1e3:.1f}, p99 "
          f"{after['gap_p99'] / 1e3:.1f}, max {after['gap_max'] / 1e3:.1f} us")
    stopped = one.ask(LOAD, 0, 0, 0)
    time.sleep(0.2)
    still = one.ask(STATS)
    check('not spinning any more', still['progress'] == stopped['progress'])


def check_stop_and_continue(machine):
    one = Client(600)
    good = True
    for index in range(20):
        one.ask(LOAD, (0, 20)[index % 2], 8, 100 | (0, SPIN)[index // 10])
        machine.command('stop')
        data = request(INCR, 600, one.next)
        one.socket.send(data)
        time.sleep(0.02)
        machine.command('cont')
        ready, _, _ = select.select([one.socket], [], [], 1)
        good &= bool(ready)
        if ready:
            one.socket.recv(4096)
        one.ask(INCR)  # the same request once more: this logs its first answer
    one.ask(LOAD, 0, 0, 0)
    check('stopped and continued 20 times, nothing lost', good)


def check_table():
    """Fills the table; runs last, because it leaves it full."""
    one = Client(700)
    one.pipeline([(PUT, key * 0x10001, key, 0) for key in range(1, 65537)])
    full = [a for d, a in Client.log if a['client'] == 700 and a['status'] == TABLE_FULL]
    check('the table takes 65,536 keys and says when it is full', 0 < len(full) < 20, len(full))
    check('a key of the full table', one.ask(GET, 1000 * 0x10001)['value'] == 1000)
    check('a known key can still be put', one.ask(PUT, 5, 1)['status'] == OK)


def announcement(sniffer):
    end = time.monotonic() + 3
    while time.monotonic() < end:
        ready, _, _ = select.select([sniffer], [], [], 0.1)
        if ready:
            frame = sniffer.recv(2048)
            if frame[28:32] == frame[38:42] == bytes([10, 77, 0, 2]):
                return frame[:6] == b'\xff' * 6 and frame[6:12] == bytes.fromhex('525400770002')
    return False


def check_everything(quick):
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    sniffer.bind(('tap0', 0))
    machine = Machine(64, f'quiet ip=10.77.0.2 boot_id={BOOT_ID:x}')
    check('announces its address', announcement(sniffer))
    sniffer.close()
    line = machine.line()
    check('comes up', line.startswith('beacon: up, boot id 0123456789abcdef, memory 64 MiB, '
                                      'ip 10.77.0.2, mac 52:54:00:77:00:02, device at 0x'), line)
    check_operations()
    check_repetition()
    check('ping of every size', all(ping(size) for size in (0, 1, 56, 57, 1000, 1472)))
    check_crowd(quick)
    check_latency()
    check_load(machine)
    check_spinning()
    check_stop_and_continue(machine)
    check_tcp(machine, check, BOOT_ID)
    if not quick:
        check_table()
    judge_chain()
    machine.end()


def check_sizes():
    for memory in (16, 1024, 3072):
        machine = Machine(memory, 'ip=10.77.0.2')
        check(f'{memory} MiB: up', f'memory {memory} MiB' in machine.line())
        answer = decode(Client(1).raw(request(INCR, 1, 1), 2))
        check(f'{memory} MiB: pages for load', answer['pages_max'] > (memory - 8) * 256,
              f"{answer['pages_max']}, uptime {answer['uptime'] / 1e6:.1f} ms")
        machine.end()
    for append in ('', 'ip=10.77.0', 'ip=10.77.0.2 boot_id=xyz'):
        machine = Machine(16, append)
        line = machine.line()
        good = line.endswith('; stopping') and 'up' not in line
        check(f'"{append}" on the command line', good, line)
        machine.end()


def main():
    if '--inside' not in sys.argv:
        if os.geteuid() != 0 or not os.access('/dev/kvm', os.R_OK | os.W_OK):
            sys.exit('check.py needs root and /dev/kvm.')
        inside = ['ip', 'netns', 'exec', NAMESPACE]
        subprocess.run(['ip', 'netns', 'add', NAMESPACE], check=True)
        try:
            for words in ('tuntap add dev tap0 mode tap', 'addr add 10.77.0.1/24 dev tap0',
                          'link set tap0 up', 'link set lo up'):
                subprocess.run(inside + ['ip'] + words.split(), check=True)
            done = subprocess.run(inside + [sys.executable, __file__, '--inside'] + sys.argv[1:])
        finally:
            subprocess.run(['ip', 'netns', 'del', NAMESPACE], check=True)
        sys.exit(done.returncode)
    check_everything('--quick' in sys.argv)
    check_disk(Machine, Client, check, BOOT_ID, quick='--quick' in sys.argv)
    check_sizes()
    print(f'{failed} checks failed' if failed else 'every check passed')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
