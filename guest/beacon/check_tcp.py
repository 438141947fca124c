"""The TCP part of check.py: numbered messages through the kernel's own sockets, and a peer made by
hand out of raw frames, who does what no kernel would do. Knows docs/beacon.md alone.
"""
import random
import select
import socket
import struct
import threading
import time

GUEST = ('10.77.0.2', 7778)
GUEST_MAC = bytes.fromhex('525400770002')
LAST = 2**64 - 1
MASK = 2**64 - 1
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def fnv(value, data):
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


class Expected:
    """What one connection must answer."""

    def __init__(self, boot):
        self.boot, self.total, self.hash = boot, 0, boot

    def answer(self, number, value):
        record = struct.pack('<QQ', number, value)
        self.total = self.total + value & MASK
        self.hash = fnv(0xCBF29CE484222325, struct.pack('<Q', self.hash) + record)
        return record, struct.pack('<QQQQ', number, self.total, self.boot, self.hash)

    def run(self, numbers):
        pairs = [self.answer(n, n * 0x9E3779B97F4A7C15 & MASK) for n in numbers]
        return b''.join(p[0] for p in pairs), b''.join(p[1] for p in pairs)


def dial(receive_buffer=None):
    one = socket.socket()
    if receive_buffer is not None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    one.settimeout(10)
    one.connect(GUEST)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def read(one, count):
    seen = b''
    while len(seen) < count:
        piece = one.recv(65536)
        if piece == b'':
            break
        seen += piece
    return seen


def talk(one, sent, chunk, pause=0.0, wanted=None):
    """Sends in pieces while it reads; returns what came."""
    def send():
        for at in range(0, len(sent), chunk):
            one.sendall(sent[at:at + chunk])
    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(pause)
    heard = read(one, len(sent) * 2 if wanted is None else wanted)
    thread.join()
    return heard


def check_sockets(machine, check, boot):
    results = []

    def client(index):
        one = dial()
        sent, wanted = Expected(boot).run(range(1, 501))
        results.append(talk(one, sent, (5, 16, 160, 1000)[index % 4]) == wanted)
        one.close()
    threads = [threading.Thread(target=client, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check('TCP: 16 connections at once', results == [True] * 16)

    one, expected = dial(4096), Expected(boot)
    begin = time.monotonic()
    sent, wanted = expected.run(range(1, 3001))
    good = talk(one, sent, 4000, pause=1.0) == wanted
    check('TCP: a reader who is slow to begin', good, f'{time.monotonic() - begin:.1f} s')

    sent, wanted = expected.run(range(1, 2001))
    timer = threading.Timer(0.05, lambda: (machine.command('stop'), time.sleep(0.4),
                                           machine.command('cont')))
    timer.start()
    heard = b''
    for at in range(0, len(sent), 800):
        one.sendall(sent[at:at + 800])
        heard += read(one, 1600)
        time.sleep(0.004)
    timer.join()
    check('TCP: stopped and continued on the way', heard == wanted)
    sent, wanted = expected.run([7])
    one.sendall(sent + b'half a')
    one.shutdown(socket.SHUT_WR)
    check('TCP: the client closes', read(one, 1000) == wanted)
    one.close()

    one, expected = dial(), Expected(boot)
    sent, wanted = expected.run([1, LAST])
    one.sendall(sent + b'what follows the last is thrown away')
    check('TCP: the last record closes', read(one, 1000) == wanted)
    one.close()
    time.sleep(0.05)
    crowd = [dial() for _ in range(32)]
    check('TCP: 32 connections, and no more', refused(GUEST))
    for one in crowd:
        one.close()
    check('TCP: another port is refused', refused((GUEST[0], 7779)))


def refused(address):
    try:
        socket.create_connection(address, 2).close()
        return False
    except ConnectionRefusedError:
        return True


def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class RawPeer:
    """One TCP peer out of raw frames, at an address that the kernel does not know."""
    mac = bytes.fromhex('020000000009')

    def __init__(self, ip='10.77.0.9', port=5000):
        self.ip, self.port = socket.inet_aton(ip), port
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.bind(('tap0', 0))
        self.seq, self.ack = 1000, 0

    def raw(self, segment, break_checksum=False):
        pseudo = self.ip + socket.inet_aton(GUEST[0]) + struct.pack('>HH', 6, len(segment))
        right = checksum(pseudo + segment) ^ (0x55 if break_checksum else 0)
        segment = segment[:16] + struct.pack('>H', right) + segment[18:]
        head = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0)
        head += self.ip + socket.inet_aton(GUEST[0])
        head = head[:10] + struct.pack('>H', checksum(head)) + head[12:]
        frame = GUEST_MAC + self.mac + b'\x08\x00' + head + segment
        try:
            self.socket.send(frame)
        except OSError:
            pass  # the queue of the device is full: a frame is lost, as frames are

    def send(self, flags, data=b'', seq=None, ack=None, window=8000, options=b'', **more):
        offset = (20 + len(options)) // 4 << 4
        self.raw(struct.pack('>HHIIBBHHH', self.port, GUEST[1], (seq or self.seq) & 0xFFFFFFFF,
                             (self.ack if ack is None else ack) & 0xFFFFFFFF, offset, flags, window,
                             0, 0) + options + data, **more)

    def hear(self, timeout=0.3, count=1):
        """Up to `count` segments for this port: (flags, seq, ack, data, options, when)."""
        heard, end = [], time.monotonic() + timeout
        while len(heard) < count:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                break
            frame = self.socket.recv(2048)
            if frame[6:12] != GUEST_MAC or frame[23] != 6 or frame[30:34] != self.ip:
                continue
            segment = frame[34:14 + struct.unpack('>H', frame[16:18])[0]]
            pseudo = frame[26:34] + struct.pack('>HH', 6, len(segment))
            assert checksum(pseudo + segment) == 0 and checksum(frame[14:34]) == 0
            _, port, seq, ack, offset, flags = struct.unpack('>HHIIBB', segment[:14])
            if port == self.port:
                size = (offset >> 4) * 4
                heard.append((flags, seq, ack, segment[size:], segment[20:size], time.monotonic()))
        return heard

    def one(self, timeout=0.3):
        heard = self.hear(timeout)
        return heard[0] if heard else (None,) * 6

    def open(self):
        self.send(SYN, options=b'\x02\x04\x05\xb4')
        self.answer = self.one()
        self.seq += 1
        self.ack = (self.answer[1] or 0) + 1
        self.send(ACK)

    def drain(self):
        self.hear(0.05, 1000)


def check_order(check, boot):
    peer, expected = RawPeer(), Expected(boot)
    peer.send(SYN, break_checksum=True)
    check('TCP: a SYN with a wrong checksum is not answered', peer.one(0.1)[0] is None)
    peer.open()
    flags, first, ack, _, options, _ = peer.answer
    check('TCP: SYN and MSS', flags == SYN | ACK and ack == 1001 and options == b'\x02\x04\x05\xb4')
    pairs = [expected.answer(n, n) for n in range(1, 5)]
    base = peer.seq
    peer.send(ACK, pairs[1][0], seq=base + 16)
    flags, _, ack, data, _, _ = peer.one()
    check('TCP: out of order is acknowledged again', flags == ACK and ack == base and data == b'')
    peer.send(ACK, pairs[0][0])
    good = peer.one()[2:4] == (base + 16, pairs[0][1])
    peer.ack += 32
    peer.send(ACK, pairs[0][0] + pairs[1][0] + pairs[2][0])
    flags, _, ack, data, _, _ = peer.one()
    check('TCP: in order, and overlapping', good and ack == base + 48 and
          data == pairs[1][1] + pairs[2][1])

    heard = peer.hear(2.5, 4)
    gaps = [b[5] - a[5] for a, b in zip(heard, heard[1:])]
    good = all(h[3] == data and h[1] == peer.ack for h in heard) and len(heard) == 4
    check('TCP: sent again, ever more slowly', good and all(b > 1.5 * a for a, b in
                                                            zip(gaps, gaps[1:])),
          ', '.join(f'{gap * 1e3:.0f} ms' for gap in gaps))
    peer.seq = base + 48
    for _ in range(3):
        peer.send(ACK)
    check('TCP: three duplicates bring it at once', peer.one(0.1)[3] == data)
    peer.ack += 64
    peer.send(ACK, ack=peer.ack + 1)
    check('TCP: what was never sent is not acknowledged', peer.one()[0] == ACK)
    peer.send(ACK)
    peer.send(RST, seq=peer.seq + 5)
    check('TCP: an inexact RST is questioned', peer.one()[0] == ACK)
    peer.send(SYN, seq=peer.seq + 5)
    check('TCP: and so is a SYN', peer.one()[0] == ACK)
    peer.send(ACK, pairs[3][0], window=0)
    flags = peer.one(0.1)[0]
    probe = peer.one(1.0)
    check('TCP: a closed window is probed', flags == ACK and probe[3] == pairs[3][1][:1])
    peer.seq += 16
    peer.send(ACK)
    rest = peer.one()[3]
    peer.ack += 32
    peer.send(ACK)
    check('TCP: and used when it opens', rest == pairs[3][1][1:])
    peer.drain()
    peer.send(RST)
    peer.send(ACK, b'x')
    check('TCP: an exact RST ends it', peer.one()[0] == RST)


def check_hostile(check, boot):
    steady, expected = dial(), Expected(boot)

    def still_serves(what, facts=''):
        sent, wanted = expected.run(range(1, 101))
        good = talk(steady, sent, 160) == wanted
        other = dial()
        sent, wanted = Expected(boot).run(range(1, 11))
        good &= talk(other, sent, 160) == wanted
        other.close()
        check(what, good, facts)
    peer = RawPeer(port=6000)
    for index in range(500):
        peer.ip = socket.inet_aton(f'10.77.{index % 7}.{index % 200 + 10}')
        peer.port = 6000 + index
        peer.send(SYN)
    still_serves('TCP: a flood of 500 SYNs')
    peer = RawPeer(port=6500)
    peer.open()
    peer.drain()
    generator = random.Random(1)
    for index in range(3000):
        size = generator.choice((0, 13, 20, 24, 40, 60, 300, 1460))
        segment = bytearray(generator.randbytes(size))
        if len(segment) >= 14:
            segment[0:2] = struct.pack('>H', generator.choice((peer.port, 6600)))
            segment[2:4] = struct.pack('>H', GUEST[1])
            near = generator.choice((0, 0, 1, 16, -1, -16, 8192, 2**31))
            if index % 3:
                segment[4:8] = struct.pack('>I', (peer.seq + near) & 0xFFFFFFFF)
                segment[8:12] = struct.pack('>I', (peer.ack + near) & 0xFFFFFFFF)
            if index % 2:
                segment[12] = generator.choice((0x50, 0x60, 0xF0))
            if index % 5:
                segment[13] &= ~RST
        if index % 300 == 299:
            peer.port = 6500 + index
            peer.seq = 1000
            peer.open()
            peer.hear(0.01, 100)
        if len(segment) >= 18:
            peer.raw(bytes(segment))
        else:
            peer.raw(bytes(segment) + b'\0' * (18 - len(segment)))
    still_serves('TCP: 3,000 segments of nonsense')
    steady.close()


def check_tcp(machine, check, boot):
    check_sockets(machine, check, boot)
    check_order(check, boot)
    check_hostile(check, boot)
