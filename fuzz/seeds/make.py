#!/usr/bin/env python3
"""Creates the seeds from which libFuzzer starts: seeds/<target>/<name>."""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent


def message(kind, request_id, payload, transaction=0, claimed=None):
    length = len(payload) if claimed is None else claimed
    return struct.pack("=IIII", kind, request_id, transaction, length) + payload


def write(target, name, content):
    directory = HERE / target
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(content)


# Target wire: eight sizes of pieces, then the stream.
BY_BYTES, BY_HEADERS, AT_ONCE = bytes([1] * 8), bytes([16, 3, 16, 7, 1, 15, 17, 200]), bytes([255] * 8)
STREAMS = {
    "empty": b"",
    "read": message(2, 1, b"domid\0"),
    "permissions": message(3, 2, b"n5\0r0\0b65535\0"),
    "list": message(1, 3, b"a\0b-1\0C_2\0d@3\0"),
    "part": message(22, 4, b"17\0a\0b\0\0"),
    "event": message(15, 0, b"/local/domain/5/data\0token\0") + message(15, 0, b"@releaseDomain\0\0"),
    "error": message(16, 5, b"ENOENT\0") + message(16, 6, b"EFROMTHEFUTURE\0"),
    "many": b"".join(message(kind, kind, b"x" * kind) for kind in range(28)),
    "no-payload": message(12, 7, b"") * 3,
    "full": message(11, 8, b"v" * 4096) + message(2, 9, b"after\0"),
    "cut-header": message(2, 1, b"a\0") + message(2, 2, b"a\0")[:9],
    "cut-payload": message(11, 1, b"a\0value")[:-2],
    "too-long": message(2, 1, b"a\0") + message(2, 2, b"", claimed=4097),
    "far-too-long": message(2, 1, b"", claimed=0xFFFFFFFF) + b"rest",
}
for name, stream in STREAMS.items():
    write("wire", name, (BY_HEADERS if len(name) % 2 else BY_BYTES) + stream)
write("wire", "at-once", AT_ONCE + STREAMS["many"] + STREAMS["full"])

# Target client: the client, then steps with the numbers of fuzz_targets/client.rs.
SOCKET, DEVICE, BLOCKING = b"\0", b"\1", b"\2"
READ, WRITE, HUGE, LIST, WATCH, UNWATCH, PERMISSIONS, SET_PERMISSIONS, DOMAIN_PATH, RM = 0, 1, 2, 3, 5, 6, 7, 8, 9, 10
FLUSH, READABLE, HANG_UP = bytes([2]), bytes([7]), bytes([8])
OK, E2BIG, EAGAIN, ENOSYS, ENOENT, ONE, LARGE, PART, LAST_PART, NO_PART, EVENT, OWNERS = range(12)
ERROR, WATCH_EVENT, OWN = 0, 1, 255


def text(value):
    return bytes([len(value)]) + value


def submit(request, path=0, rest=b""):
    return bytes([0, path, request]) + rest


def reply(index, payload, kind=OWN):
    payload = bytes([payload]) if isinstance(payload, int) else b"\xff" + text(payload)
    return bytes([3, index, kind]) + payload


def raw(value):
    return bytes([6]) + text(value)


ANSWERED = (
    submit(READ) + submit(WRITE, 3, text(b"value")) + submit(LIST) + submit(PERMISSIONS, 1) + FLUSH
    + b"".join(reply(index, choice) + READABLE for index, choice in enumerate([b"value", OK, b"a\0b\0", OWNERS]))
)
CORE = {
    "answered": ANSWERED,
    "out-of-order": submit(READ) + submit(READ, 3) + submit(DOMAIN_PATH, 0, b"\5") + FLUSH
    + reply(2, b"/local/domain/5\0") + reply(0, b"1") + reply(1, b"2") + READABLE,
    "list-in-parts": submit(LIST) + FLUSH + reply(0, E2BIG, ERROR) + READABLE + reply(1, PART) + READABLE
    + reply(2, LAST_PART) + READABLE,
    "list-that-changes": submit(LIST) + FLUSH + reply(0, E2BIG, ERROR) + READABLE + reply(1, PART) + READABLE
    + reply(2, b"8\0d\0") + READABLE + reply(3, b"8\0d\0") + READABLE + reply(4, NO_PART) + READABLE,
    "list-without-parts": submit(LIST) + FLUSH + reply(0, E2BIG, ERROR) + READABLE + reply(1, ENOSYS, ERROR) + READABLE,
    "watch": submit(WATCH, 0, text(b"token")) + FLUSH + reply(0, OK) + reply(0, EVENT, WATCH_EVENT) + READABLE
    + submit(UNWATCH) + FLUSH + reply(1, OK) + READABLE,
    "refused": submit(RM) + submit(SET_PERMISSIONS, 0, b"\5") + FLUSH + reply(0, ENOENT, ERROR)
    + reply(1, b"EFUTURE\0", ERROR) + READABLE,
    "huge": submit(HUGE, 0, b"\x10") + submit(HUGE, 0, b"\xff") + FLUSH + reply(0, OK) + READABLE,
    "too-long": submit(READ) + FLUSH + raw(message(2, 1, b"", claimed=0x7FFFFFFF)) + READABLE + READABLE,
    "id-0": submit(WATCH, 0, text(b"t")) + FLUSH + raw(message(4, 0, b"OK\0")) + READABLE,
    "wrong-kind": submit(READ) + submit(READ, 3) + FLUSH + reply(0, OK, 3) + reply(1, b"v") + READABLE + READABLE,
    "hang-up": submit(READ) + FLUSH + HANG_UP + READABLE + submit(READ) + FLUSH,
}
for name, steps in CORE.items():
    write("client", f"socket-{name}", SOCKET + steps)
    write("client", f"device-{name}", DEVICE + steps)

KINDS = [16, 15, 2, 11, 1, 22, 4, 5, 6, 7, 3, 10, 13]


def prepared(*messages):
    """Returns the messages that the server sends before the first call, as pairs of a kind and a payload."""
    stream = b""
    for kind, payload in messages:
        payload = bytes([payload]) if isinstance(payload, int) else b"\xff" + text(payload)
        stream += bytes([0 if kind != 22 else 128, KINDS.index(kind)]) + payload
    return BLOCKING + bytes([len(messages)]) + stream


write("client", "calls", prepared((2, b"v"), (11, OK), (1, b"a\0b\0"), (3, OWNERS), (10, b"/local/domain/5\0"), (4, OK),
                                  (15, EVENT), (13, OK)) + bytes([0, 0, 0, 1]) + text(b"v") + bytes([0, 2, 0, 3, 0, 4, 0, 5, 0, 7]))
write("client", "parts", prepared((16, E2BIG), (22, PART), (22, LAST_PART)) + bytes([0, 2]))
write("client", "transaction", prepared((6, ONE), (2, b"v"), (11, OK), (7, OK)) + bytes([0, 10, 2, 0, 0, 0, 1]))
write("client", "conflict", prepared((6, ONE), (7, OK), (6, LARGE), (16, EAGAIN), (6, ONE), (7, OK)) + bytes([0, 10, 0]) * 3)
write("client", "lost", prepared((6, ONE), (16, ENOENT), (16, ENOENT), (16, EAGAIN)) + bytes([0, 10, 1, 0, 0]))
write("client", "pipeline", prepared((2, b"v"), (1, b"a\0"), (16, ENOENT)) + bytes([0, 9, 3, 0, 0, 0, 3, 0, 10]))

# Target session: capabilities and mode, then steps with the numbers of fuzz_targets/session.rs.
SOCKET, DEVICE = b"\0\0", b"\1\0"
READ, WRITE, HUGE, LIST, WATCH, UNWATCH, BEGIN, COMMIT, RESET, FEATURES = 0, 3, 4, 7, 11, 13, 14, 16, 18, 19
WITHIN = 192
OK, ONE, TWO, LARGE, ZERO, PART, LAST_PART, CHANGED, NO_PART, E2BIG, EAGAIN, ENOSYS, EINVAL, ENOENT = range(14)
ERROR, OWN = 11, 255
SEND, RECEIVE, REJECT, CLOSE, TAKE = bytes([5]), bytes([13]), bytes([15, 1]), bytes([15, 3]), bytes([15, 4])


def session_submit(request, path=0, rest=b"", transaction=0):
    return bytes([0, request, path, transaction]) + text(rest)


def session_reply(index, payload, kind=OWN):
    return bytes([7, index, kind, payload]) + RECEIVE


SESSION = {
    "answered": session_submit(READ) + session_submit(WRITE, 2, b"value") + SEND + session_reply(1, OK) + session_reply(0, ONE),
    "in-pieces": session_submit(HUGE) + bytes([4, 40]) + session_submit(READ) + SEND + bytes([7, 0, OWN, OK, 12, 5, 12, 40]),
    "list-in-parts": session_submit(LIST) + SEND + session_reply(0, E2BIG, ERROR) + SEND + session_reply(0, PART) + SEND
    + session_reply(0, LAST_PART),
    "list-that-changes": session_submit(LIST) + SEND + session_reply(0, E2BIG, ERROR) + SEND + session_reply(0, PART) + SEND
    + session_reply(0, CHANGED) + SEND + session_reply(0, NO_PART),
    "list-cancelled": session_submit(LIST) + SEND + session_reply(0, E2BIG, ERROR) + bytes([14, 0]) + SEND,
    "features": session_submit(FEATURES) + SEND + session_reply(0, EINVAL, ERROR) + SEND + session_reply(0, ONE),
    "transaction": session_submit(BEGIN) + SEND + session_reply(0, ONE) + session_submit(READ + WITHIN) + session_submit(COMMIT)
    + SEND + session_reply(1, OK) + session_submit(READ + WITHIN) + SEND,
    "transaction-cancelled": session_submit(BEGIN) + SEND + bytes([14, 0]) + session_reply(0, TWO) + SEND,
    "transaction-reset": session_submit(BEGIN) + SEND + session_reply(0, ONE) + session_submit(READ + WITHIN)
    + session_submit(RESET) + SEND + session_reply(1, OK),
    "watch-cancelled": session_submit(WATCH, 0, b"token") + SEND + bytes([14, 0]) + session_reply(0, OK) + SEND,
    "watch": session_submit(WATCH, 0, b"token") + SEND + session_reply(0, OK) + bytes([11, 0]) + RECEIVE
    + session_submit(UNWATCH, 0, b"token") + bytes([14, 1]) + SEND,
    "rejected": session_submit(READ) + session_submit(READ) + REJECT + REJECT,
    "closed": session_submit(READ) + SEND + session_submit(READ) + CLOSE + SEND + RECEIVE + TAKE,
    "cancelled-in-queue": session_submit(READ) + session_submit(WRITE, 0, b"v") + bytes([14, 1]) + SEND + session_reply(0, ENOENT, ERROR),
}
for name, steps in SESSION.items():
    write("session", f"socket-{name}", SOCKET + steps)
    write("session", f"device-{name}", DEVICE + steps)

# Target server: steps of the hostile clients, with the numbers of fuzz_targets/server.rs.
DATA, A, DEEP, B, ATTR, CONTROL, ABSOLUTE, HOME, OTHERS, ROOT, RELEASE, NONE = 0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15
EMPTY, VALUE, TOKEN, ZERO, NEGATIVE, MINE, SHARED, BOTH, GIVEN, MANY, COMMIT, ABANDON, NUL, DOM0S = range(14)
RECEIVE, RECONNECT, NOTHING = bytes([5]), bytes([6]), bytes([7])


def body(kind, path, rest=EMPTY, transaction=0):
    return bytes([kind, transaction, path, rest])


def ask(kind, path, rest=EMPTY, transaction=0, client=0):
    return bytes([client * 8]) + body(kind, path, rest, transaction)


def burst(count, kind, path, rest=EMPTY, transaction=0):
    return bytes([3]) + body(kind, path, rest, transaction) + bytes([count])


def in_transaction(*steps, end=COMMIT):
    return ask(6, NONE, NUL) + b"".join(steps) + ask(7, NONE, end, 1)


SERVER = {
    "nodes": ask(11, A, VALUE) + ask(2, A) + ask(1, DATA) + ask(12, DEEP) + ask(13, A) + ask(3, DATA) + RECEIVE,
    "each-kind": b"".join(ask(kind, A) + ask(kind, NONE, NUL) for kind in range(28)) + RECEIVE,
    "permissions": ask(11, A, VALUE) + b"".join(ask(14, A, rest) for rest in (MINE, SHARED, BOTH, GIVEN, MANY, EMPTY)) + RECEIVE,
    "permissions-of-dom0s-nodes": b"".join(ask(14, path, DOM0S) for path in (HOME, OTHERS, ROOT, RELEASE)) + RECEIVE,
    "not-its-own": b"".join(ask(kind, path, VALUE if kind == 11 else EMPTY) for kind in (2, 11, 12, 13) for path in (OTHERS, ROOT, HOME)),
    "too-many-nodes": burst(31, 11, DATA, VALUE) + burst(31, 12, B) + RECEIVE,
    "too-many-watches": burst(10, 4, DATA, TOKEN) + burst(10, 5, DATA, TOKEN) + RECEIVE,
    "too-many-transactions": burst(10, 6, NONE, NUL) + ask(7, NONE, COMMIT, 2) + RECEIVE,
    "watch-and-write": ask(4, DATA, TOKEN) + ask(4, RELEASE, TOKEN) + burst(8, 11, DATA, VALUE) + ask(13, DATA) + RECEIVE,
    "events-that-nobody-reads": ask(4, ATTR, TOKEN) + (burst(31, 12, ATTR) + burst(31, 13, ATTR)) * 4,
    "transaction": in_transaction(ask(11, A, VALUE, 1), ask(13, A, EMPTY, 1), ask(12, DEEP, EMPTY, 1)) + RECEIVE,
    "transaction-abandoned": in_transaction(ask(11, A, VALUE, 1), end=ABANDON) + RECEIVE,
    "transaction-conflict": in_transaction(ask(2, A, EMPTY, 1), ask(11, A, VALUE, client=1), ask(11, B, VALUE, 1)) + RECEIVE,
    "transaction-too-many-nodes": in_transaction(burst(31, 11, DATA, VALUE, 1)) + RECEIVE,
    "transactions-side-by-side": ask(6, NONE, NUL) + ask(6, NONE, NUL) + burst(8, 12, DATA, EMPTY, 1) + burst(8, 12, B, EMPTY, 2)
    + ask(7, NONE, COMMIT, 1) + ask(7, NONE, COMMIT, 2) + RECEIVE,
    "reset": ask(4, DATA, TOKEN) + ask(6, NONE, NUL) + ask(21, NONE, NUL) + RECEIVE,
    "long-list": burst(8, 12, DATA) + ask(22, DATA, ZERO) + ask(22, DATA, NEGATIVE) + RECEIVE,
    "too-long": bytes([4]) + text(message(2, 1, b"", claimed=4097)) + NOTHING,
    "half-a-message": bytes([4]) + text(message(2, 1, b"data\0")[:18]) + RECONNECT + ask(2, DATA) + RECEIVE,
    "long-value": bytes([0]) + bytes([11, 0, A, 255, 15]) + bytes([0]) + bytes([11, 0, A, 255, 17]) + RECEIVE,
}
for name, steps in SERVER.items():
    write("server", name, steps)

# Target routing: the number of a layout of fuzz_targets/routing.rs, then what a kernel sent.
KERNELS = pathlib.Path(__file__).parents[2] / "crates/xen-guest-agent/tests/data/bsd"
FREEBSD, FREEBSD_LIST, FREEBSD_I386_LIST, NETBSD, OPENBSD = 0, 1, 3, 4, 5
ROUTING = {
    "freebsd-list": (FREEBSD_LIST, "freebsd-12.2-amd64", "main", "NET_RT_IFLISTL lo0 up"),
    "freebsd-short-list": (FREEBSD, "freebsd-12.2-amd64", "main", "NET_RT_IFLIST lo0 up"),
    "freebsd-i386-list": (FREEBSD_I386_LIST, "freebsd-12.2-amd64", "i386-binary", "NET_RT_IFLISTL 32bit"),
    "freebsd-rename": (FREEBSD, "freebsd-12.2-amd64", "main", "ifconfig name tap0 wan0"),
    "freebsd-address": (FREEBSD, "freebsd-12.2-amd64", "main", "SIOCAIFADDR epair0a 192.0.2.1/24 again"),
    "freebsd-address-6": (FREEBSD, "freebsd-12.2-amd64", "main", "SIOCAIFADDR_IN6 epair0a 2001:db8::1/64 (DAD)"),
    "freebsd-destroy": (FREEBSD, "freebsd-12.2-amd64", "main", "ifconfig destroy vlan0"),
    "netbsd-list": (NETBSD, "netbsd-7.99.34-rump-amd64", "main", "NET_RT_IFLIST at boot"),
    "netbsd-destroy": (NETBSD, "netbsd-7.99.34-rump-amd64", "main", "ifconfig destroy gif0"),
    "openbsd-list": (OPENBSD, "openbsd-6.5cur-amd64", "main", "NET_RT_IFLIST lo0 up"),
    "openbsd-address": (OPENBSD, "openbsd-6.5cur-amd64", "main", "SIOCAIFADDR pair0 192.0.2.1/24"),
    "openbsd-destroy": (OPENBSD, "openbsd-6.5cur-amd64", "main", "ifconfig destroy pair1"),
}
for name, (layout, kernel, program, label) in ROUTING.items():
    lines = (KERNELS / f"{kernel}.messages.tsv").read_text().splitlines()
    records = [fields for fields in (line.split("\t") for line in lines) if fields[:2] == [program, label]]
    stream = b"".join(bytes.fromhex(fields[5]) for fields in records if fields[2] in ("sysctl", "socket proto 0"))
    write("routing", name, bytes([layout]) + stream[:4095])
