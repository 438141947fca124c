"""The disk part of check.py: boots the guest with four unlike disks in QEMU and judges what it says
about them, and what lies in the image files afterwards. Knows docs/beacon.md alone.

    disk   image                 why
    data   64 MiB, flush         what is promised for a disk
    quiet  32 MiB, no flush      a device that keeps what it has taken
    fixed  16 MiB, read-only     every write is an I/O error
    sick    8 MiB, flush fails   a write is only good when its flush is
"""
import os
import re
import struct
import tempfile
import time

DISK, DISK_READ, DISK_LOAD, DISCARD = 6, 7, 8, 11
OK, BAD_ARGUMENT, IO_ERROR = 0, 4, 5
BLANK, WHOLE, TORN = 0, 1, 2
BLOCK = 4096
MIB = 1 << 20
REPORT = 2**64 - 1
SIZES = {'data': 64, 'quiet': 32, 'fixed': 16, 'sick': 8}
FIRST = 0xCBF29CE484222325
MASK = 2**64 - 1


def fnv(data):
    value = FIRST
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def block_of(kind, number, sequence, boot):
    """One block as the page draws it."""
    header = struct.pack('<4sIQQQ', b'FTBD', kind, number, sequence, boot)
    word, words = fnv(header[4:]), []
    for _ in range((BLOCK - 40) // 8):
        word = (word * 6364136223846793005 + 1442695040888963407) & MASK
        words.append(word)
    body = header + struct.pack(f'<{len(words)}Q', *words)
    return body + struct.pack('<Q', fnv(body))


def read_block(path, number):
    with open(path, 'rb') as image:
        image.seek(number * BLOCK)
        return image.read(BLOCK)


def is_whole(block):
    return block[:4] == b'FTBD' and struct.unpack('<Q', block[-8:])[0] == fnv(block[:-8])


class Disks:
    """Four image files and the words that give them to QEMU."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='beacon-disk-')
        self.path = {name: os.path.join(self.folder, name) for name in SIZES}
        for name, path in self.path.items():
            with open(path, 'wb') as image:
                image.truncate(SIZES[name] * MIB)
        with open(self.path['fixed'], 'r+b') as image:
            image.seek(7 * BLOCK)
            image.write(block_of(1, 7, 99, 0x77))
        rule = os.path.join(self.folder, 'rule')
        with open(rule, 'w') as file:
            file.write('[inject-error]\nevent = "flush_to_disk"\nerrno = "5"\n')
        self.path['rule'] = rule

    def words(self):
        files = {name: f'file={self.path[name]},format=raw' for name in SIZES}
        files['fixed'] += ',readonly=on'
        files['sick'] = f"file=blkdebug:{self.path['rule']}:{self.path['sick']},format=raw"
        files['data'] += ',discard=unmap'
        more = {'quiet': ',config-wce=off,write-cache=off,discard=off', 'sick': ',werror=report'}
        words = []
        for name, file in files.items():
            words += ['-drive', f'if=none,id={name},{file}',
                      '-device', f"virtio-blk-device,drive={name}{more.get(name, '')}"]
        return words

    def end(self):
        for path in self.path.values():
            os.remove(path)
        os.rmdir(self.folder)


def numbers_of(machine):
    """Which number the guest has given to which disk: they differ in size."""
    end = time.monotonic() + 5
    while 'beacon: up' not in machine.line() and time.monotonic() < end:
        time.sleep(0.02)
    found = {int(blocks): int(number)
             for number, blocks in re.findall(r'disk (\d) of (\d+) blocks', machine.line())}
    return {name: found[mib * MIB // BLOCK] << 56 for name, mib in SIZES.items()}


def check_requests(one, check, number, boot):
    data, quiet = number['data'], number['quiet']
    blank = one.ask(DISK_READ, 5, 0, data)
    check('disk: a block never written is blank',
          (blank['status'], blank['gap_p99'], blank['value']) == (OK, BLANK, 0))
    good = True
    for disk in (data, quiet):
        for block, sequence in ((0, 1), (5, 2**64 - 1), (5, 3), (1234, 4)):
            put = one.ask(DISK, block, sequence, disk)
            got = one.ask(DISK_READ, block, 0, disk)
            good &= put['status'] == OK and put['value'] == sequence
            good &= got['status'] == OK and got['value'] == sequence
            good &= (got['gap_max'], got['gap_p50']) == (block, boot)
            good &= (got['gap_p99'], got['gap_count']) == (WHOLE, 1)
    check('disk: written and read back', good)
    one.ask(DISK, 77, 5, data)
    gone, got = one.ask(DISCARD, 77, 6, data), one.ask(DISK_READ, 77, 0, data)
    check('disk: discarded', (gone['status'], gone['value'], got['gap_p99']) == (OK, 6, BLANK))
    check('disk: no discard where there is none',
          one.ask(DISCARD, 77, 6, quiet)['status'] == BAD_ARGUMENT)
    one.ask(DISK, 77, 7, data)
    last = SIZES['data'] * MIB // BLOCK - 1
    check('disk: the last block', one.ask(DISK, last, 8, data)['status'] == OK)
    bad = [(DISK, last + 1, 0, data), (DISK_READ, 2**64 - 1, 0, data), (DISK, 0, 0, 4 << 56),
           (DISK, 0, 0, data | 1), (DISK_LOAD, 1, 0, data), (DISK_LOAD, 13, 0, data | 9),
           (DISK_LOAD, 1, last, data | 2), (DISK_LOAD, 1, 2**64 - 1, data | 2),
           (DISK_LOAD, 1, 0, 4 << 56 | 1)]
    check('disk: bad arguments', all(one.ask(*x)['status'] == BAD_ARGUMENT for x in bad))


def check_errors(one, check, number):
    fixed, sick = number['fixed'], number['sick']
    got = one.ask(DISK_READ, 7, 0, fixed)
    facts = (got['status'], got['value'], got['gap_max'], got['gap_p50'], got['gap_p99'])
    check('disk: a block of somebody else', facts == (OK, 99, 7, 0x77, WHOLE), facts)
    check('disk: a read-only disk refuses writes',
          one.ask(DISK, 7, 100, fixed)['status'] == IO_ERROR)
    check('disk: and is unchanged', one.ask(DISK_READ, 7, 0, fixed)['value'] == 99)
    check('disk: a flush that fails fails the write',
          one.ask(DISK, 3, 1, sick)['status'] == IO_ERROR)
    one.ask(DISK_LOAD, 4, 0, sick | 64)
    time.sleep(0.3)
    report = one.ask(DISK_LOAD, 0)
    check('disk: what fails of the load is counted', report['gap_p99'] > 0, report['gap_p99'])


def check_crowd(client, check, number, quick):
    """Several clients with several requests each under way; the newest of each block must be there."""
    data, count = number['data'], 200 if quick else 1000
    one, begin = client(910), time.monotonic()
    one.pipeline([(DISK, 100 + i % 64, i + 1, data) for i in range(count)])
    rate = count / (time.monotonic() - begin)
    read = [one.ask(DISK_READ, 100 + i, 0, data) for i in range(64)]
    newest = [max(n + 1 for n in range(count) if n % 64 == i) for i in range(64)]
    check('disk: eight under way of one client', [r['value'] for r in read] == newest,
          f'{rate:.0f} writes/s')
    # The same block, again and again at once: one after the other, by sequence number.
    one.pipeline([(DISK, 99, i + 1, data) for i in range(64)])
    log = [(d, a) for d, a in client.log if a['op'] == DISK and d[16:24] == struct.pack('<Q', 99)]
    last = max(log, key=lambda pair: pair[1]['sequence'])[1]['value']
    found = one.ask(DISK_READ, 99, 0, data)
    check('disk: one block, eight writes at once', (found['gap_p99'], found['value']) ==
          (WHOLE, last), last)


def check_load(one, check, number, machine):
    data = number['data']
    for pace, blocks, what in ((12, 2000, 'as fast as it goes'), (4 | 500 << 32, 100, '500 a second'),
                               (8, 4, 'overlapping')):
        before = one.ask(DISK_LOAD, pace, 4096, data | blocks)
        time.sleep(1)
        for _ in range(3):
            machine.command('stop')
            machine.command('cont')
        after = one.ask(DISK_LOAD, REPORT)
        one.ask(DISK_LOAD, 0)
        rate = (after['value'] - before['value']) / (after['uptime'] - before['uptime']) * 1e9
        reads, broken = after['gap_p50'] - before['gap_p50'], after['gap_count']
        paced = 50 < rate < 560 if pace >> 32 else rate > 200
        check(f'disk: load, {what}', paced and broken == 0 and (reads > 0 or blocks == 4),
              f'{rate:.0f} writes/s, {reads} read back, {broken} broken')
    time.sleep(0.2)
    still = [one.ask(DISK_LOAD, REPORT)['value'] for _ in range(2)]
    check('disk: no load any more', still[0] == still[1])


def check_images(check, disks, client, number, boot):
    """What the files hold once the guest is gone: the newest of every block, whole."""
    newest = {}
    for data, answer in sorted(client.log, key=lambda pair: pair[1]['sequence']):
        if answer['op'] == DISK and answer['status'] == OK:
            a, b, c = struct.unpack('<QQQ', data[16:])
            newest[(c, a)] = b
    names = {disk: name for name, disk in number.items()}
    good = [read_block(disks.path[names[disk]], block) == block_of(1, block, sequence, boot)
            for (disk, block), sequence in newest.items()]
    check('disk: every answered write is in the image, byte for byte', all(good) and good,
          f'{len(good)} blocks')
    loaded = [read_block(disks.path['data'], block) for block in range(4096, 4096 + 300)]
    check('disk: what the load wrote is whole', all(is_whole(b) for b in loaded), len(loaded))


def check_disk(Machine, Client, check, boot, quick):
    disks = Disks()
    Client.log = []
    machine = Machine(64, f'ip=10.77.0.2 boot_id={boot:x}', disks.words())
    try:
        number = numbers_of(machine)
        check('disk: all four found', len(number) == 4, number)
        one = Client(900)
        check_requests(one, check, number, boot)
        check_crowd(Client, check, number, quick)
        check_load(one, check, number, machine)
        check_errors(one, check, number)
        served = sorted(answer['sequence'] for _, answer in Client.log)
        check('disk: sequence numbers without a gap', served == list(range(1, len(served) + 1)))
    finally:
        machine.end()
    check_images(check, disks, Client, number, boot)
    disks.end()
