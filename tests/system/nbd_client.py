"""A small NBD client that says what it is told to say, legal or not.

libnbd refuses to send much of what a hostile or broken client may send; this one does not. It also pipelines, which the
crash test needs: `send` hands out a cookie, `receive` gives the next finished request.
"""

import socket
import struct

NBDMAGIC = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_MAGIC, STRUCTURED_MAGIC = 0x25609513, 0x67446698, 0x668E33EF

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO = 1, 2, 3, 5, 6, 7
OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT = 8, 9, 10
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_UNKNOWN, REP_ERR_TOO_BIG = (
    0x80000001, 0x80000002, 0x80000003, 0x80000006, 0x80000009)

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF, FLAG_REQ_ONE, FLAG_FAST_ZERO = 1, 2, 4, 8, 16
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 22, 28, 75, 95, 108

CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_BLOCK_STATUS = 0, 1, 2, 5


class Closed(Exception):
    """The server has closed the connection."""


class NbdError(Exception):
    """The server refused a request: `error` as the protocol numbers it."""

    def __init__(self, error, what=""):
        super().__init__(f"NBD error {error} {what}")
        self.error = error


class Raw:
    """A connection before negotiation: the greeting is read, the client's flags are sent."""

    def __init__(self, path, timeout=20, client_flags=3):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buffer = b""
        magic, option_magic, self.handshake_flags = struct.unpack(">QQH", self.take(18))
        assert (magic, option_magic) == (NBDMAGIC, IHAVEOPT), "not a newstyle NBD server"
        self.put(struct.pack(">I", client_flags))

    def put(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed(str(e)) from e

    def take(self, count):
        parts, missing = [], count
        if self.buffer:
            parts, self.buffer = [self.buffer[:count]], self.buffer[count:]
            missing -= len(parts[0])
        while missing:
            try:
                part = self.sock.recv(min(missing, 1 << 20))
            except ConnectionResetError as e:
                raise Closed(str(e)) from e
            if not part:
                raise Closed("end of stream")
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self):
        self.sock.close()

    def option(self, number, data=b"", length=None, magic=IHAVEOPT):
        """Sends one option and gives its replies [(type, data)], the last one being the ACK or the error."""
        self.put(struct.pack(">QII", magic, number, len(data) if length is None else length) + data)
        replies = []
        while True:
            reply_magic, option, kind, size = struct.unpack(">QIII", self.take(20))
            assert reply_magic == REPLY_MAGIC and option == number, "an answer to something else"
            replies.append((kind, self.take(size)))
            if kind == REP_ACK or kind & 0x80000000:
                return replies

    def info(self, name, number=OPT_GO, requests=(3,)):
        encoded = name.encode()
        data = struct.pack(">I", len(encoded)) + encoded + struct.pack(">H", len(requests))
        return self.option(number, data + b"".join(struct.pack(">H", r) for r in requests))


class Client(Raw):
    """A connection in its transmission phase, with structured replies unless told otherwise."""

    def __init__(self, path, name, timeout=20, structured=True, context=True):
        super().__init__(path, timeout)
        self.structured = structured
        self.context_id = None
        if structured:
            assert self.option(OPT_STRUCTURED_REPLY)[-1][0] == REP_ACK
            if context:
                encoded, query = name.encode(), b"base:allocation"
                answers = self.option(OPT_SET_META_CONTEXT, struct.pack(">I", len(encoded)) + encoded + struct.pack(
                    ">II", 1, len(query)) + query)
                for kind, data in answers:
                    if kind == REP_META_CONTEXT:
                        self.context_id = struct.unpack(">I", data[:4])[0]
        answers = self.info(name)
        if answers[-1][0] != REP_ACK:
            raise NbdError(answers[-1][0], f"export {name}")
        self.size = self.flags = None
        for kind, data in answers:
            if kind == REP_INFO and data[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", data[2:12])
        self.cookie = 0
        self.reads = {}  # cookie -> (offset, bytearray)
        self.extents = {}

    def send(self, kind, offset=0, length=0, data=b"", flags=0, magic=REQUEST_MAGIC):
        self.cookie += 1
        if kind == READ:
            # A hostile length must not cost this side its memory.
            self.reads[self.cookie] = (offset, bytearray(min(length, 1 << 26)))
        self.put(struct.pack(">IHHQQI", magic, flags, kind, self.cookie, offset, length) + data)
        return self.cookie

    def receive(self):
        """(cookie, error, bytes or extents) of the next request that is finished."""
        error, cookie = 0, None
        while True:
            magic = struct.unpack(">I", self.take(4))[0]
            if magic == SIMPLE_MAGIC:
                error, cookie = struct.unpack(">IQ", self.take(12))
                read = self.reads.pop(cookie, None)
                if read and not error:
                    assert not self.structured, "a simple reply to a read after structured replies were agreed on"
                    return cookie, 0, self.take(len(read[1]))
                return cookie, error, b""
            assert magic == STRUCTURED_MAGIC, f"a reply begins with {magic:#x}"
            flags, kind, cookie, length = struct.unpack(">HHQI", self.take(16))
            payload = self.take(length)
            if kind == CHUNK_DATA:
                start, into = self.reads[cookie]
                at = struct.unpack(">Q", payload[:8])[0] - start
                into[at:at + length - 8] = payload[8:]
            elif kind == CHUNK_HOLE:
                start, into = self.reads[cookie]
                at, size = struct.unpack(">QI", payload)
                into[at - start:at - start + size] = bytes(size)
            elif kind == CHUNK_BLOCK_STATUS:
                self.extents.setdefault(cookie, []).extend(
                    struct.unpack(">II", payload[i:i + 8]) for i in range(4, length, 8))
            elif kind & 0x8000:
                error = struct.unpack(">I", payload[:4])[0]
            if flags & 1:
                read, extents = self.reads.pop(cookie, None), self.extents.pop(cookie, None)
                return cookie, error, extents if extents is not None else bytes(read[1]) if read and not error else b""

    def call(self, *args, **kwargs):
        """One request and its answer; raises NbdError."""
        cookie = self.send(*args, **kwargs)
        answered, error, data = self.receive()
        assert answered == cookie
        if error:
            raise NbdError(error)
        return data

    def read(self, offset, length, flags=0):
        return self.call(READ, offset, length, flags=flags)

    def write(self, offset, data, flags=0):
        self.call(WRITE, offset, len(data), data, flags)

    def flush(self):
        self.call(FLUSH)

    def trim(self, offset, length, flags=0):
        self.call(TRIM, offset, length, flags=flags)

    def zero(self, offset, length, flags=0):
        self.call(WRITE_ZEROES, offset, length, flags=flags)

    def status(self, offset, length, flags=0):
        """[(bytes, state)], state bit 0: hole, bit 1: reads as zeros."""
        return self.call(BLOCK_STATUS, offset, length, flags=flags)

    def disconnect(self):
        try:
            self.send(DISC)
        except Closed:
            pass
        self.close()
