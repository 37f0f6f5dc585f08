"""Owns the wide-area network of the box: packets between tun devices, each line with delay, rate, queue and loss.

Python's standard library alone, since Node cannot make a tun device. Commands come as JSON lines on the standard input:

  {"do": "line", "name": "t0", "addresses": ["203.0.113.1"], "seed": 1, "up": SHAPE, "down": SHAPE}   makes the device t0
  {"do": "shape", "name": "t0", "up": SHAPE, "down": SHAPE}   changes it from now on
  {"do": "counters"}   answers with what every line did, and how late this process was

SHAPE is {"bytesPerSecond": number or null, "delay": seconds, "queueBytes": number, "loss": 0..1}. Every command is answered
by one JSON line. A packet waits in the sender's uplink until the line is free, or is dropped where the queue is full; it
occupies the line for size / rate, may be lost, travels for `delay`, and then does the same in the receiver's downlink.
"""
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
MTU = 1500
# Packets read from one device in a row, so that none starves the others.
BURST = 64
# Seconds between two looks at what has come and what is due.
ROUND = 0.0004


class Pipe:
    def __init__(self, shape, rng):
        self.rng = rng
        self.free = 0.0
        self.packets = self.bytes = self.dropped = self.lost = 0
        self.shape(shape)

    def shape(self, shape):
        self.rate = shape["bytesPerSecond"]
        self.delay = shape["delay"]
        self.queue = shape["queueBytes"]
        self.loss = shape["loss"]

    def offer(self, now, size):
        """When a packet that comes at `now` leaves the far end; None where it does not."""
        if self.rate:
            start = max(now, self.free)
            if (start - now) * self.rate + size > self.queue:
                self.dropped += 1
                return None
            now = self.free = start + size / self.rate
        self.packets += 1
        self.bytes += size
        if self.loss and self.rng.random() < self.loss:
            self.lost += 1
            return None
        return now + self.delay

    def counters(self):
        return {"packets": self.packets, "bytes": self.bytes, "dropped": self.dropped, "lost": self.lost}


class Line:
    def __init__(self, command):
        rng = random.Random(command["seed"])
        self.up, self.down = Pipe(command["up"], rng), Pipe(command["down"], rng)
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", command["name"].encode(), IFF_TUN_NO_PI))


def destination(packet):
    version = packet[0] >> 4
    return packet[16:20] if version == 4 else packet[24:40] if version == 6 else b""


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class Router:
    def __init__(self):
        self.lines = {}
        self.routes = {}
        # (when, order, line, packet, whether it has passed the downlink)
        self.events = []
        self.order = 0
        self.late = self.late_events = self.latest = 0

    def later(self, when, line, packet, passed):
        if when is None:
            return
        self.order += 1
        heapq.heappush(self.events, (when, self.order, line, packet, passed))

    def run_until(self, now):
        events = self.events
        some = bool(events) and events[0][0] <= now
        while events and events[0][0] <= now:
            when, _, line, packet, passed = heapq.heappop(events)
            if not passed:
                self.later(line.down.offer(when, len(packet)), line, packet, True)
                continue
            self.late += now - when
            self.late_events += 1
            self.latest = max(self.latest, now - when)
            try:
                os.write(line.fd, packet)
            except OSError:
                # The device is down, or its host takes no more.
                line.down.dropped += 1
        return some

    def read(self, line):
        now = time.monotonic()
        for count in range(BURST):
            try:
                packet = os.read(line.fd, MTU)
            except OSError:
                return count > 0
            target = self.routes.get(destination(packet))
            if target:
                self.later(line.up.offer(now, len(packet)), target, packet, False)
        return True

    def command(self, command):
        do = command["do"]
        if do == "line":
            line = self.lines[command["name"]] = Line(command)
            for address in command["addresses"]:
                self.routes[packed(address)] = line
        elif do == "shape":
            line = self.lines[command["name"]]
            line.up.shape(command["up"])
            line.down.shape(command["down"])
        elif do == "counters":
            lines = {name: {"up": l.up.counters(), "down": l.down.counters()} for name, l in self.lines.items()}
            mean = self.late / self.late_events if self.late_events else 0
            late = {"meanMs": 1000 * mean, "mostMs": 1000 * self.latest}
            self.late = self.late_events = self.latest = 0
            return {"lines": lines, "late": late}
        return {}


def main():
    try:
        # Ahead of what it carries packets for, on few cores above all.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        pass
    router = Router()
    text = b""
    lines = []
    busy = False
    while True:
        # While packets come it looks at them in rounds: to be woken for each would cost more than to carry it.
        if busy:
            time.sleep(ROUND)
        due = router.events[0][0] - time.monotonic() if router.events else None
        ready = select.select([0] if busy else [0, *(line.fd for line in lines)], [], [], 0 if busy else due)[0]
        if 0 in ready:
            more = os.read(0, 65536)
            if not more:
                return
            *whole, text = (text + more).split(b"\n")
            for one in whole:
                print(json.dumps(router.command(json.loads(one))), flush=True)
            lines = list(router.lines.values())
        busy = False
        for line in lines:
            busy = router.read(line) or busy
        busy = router.run_until(time.monotonic()) or busy
        due = router.events[0][0] - time.monotonic() if router.events else 1
        busy = busy or due < ROUND


sys.exit(main())
