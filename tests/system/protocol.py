#!/usr/bin/python3
"""The NBD contract: what nbdinfo sees, what legal but odd requests do, and what illegal ones are answered."""

import json
import os
import random
import struct
import threading

import nbd

from harness import MIB, SystemTest, main, run, wait_for
import nbd_client as n
from nbd_client import Client, NbdError, Raw

SIZE = 64 * MIB


class protocol(SystemTest):
    def setUp(self):
        super().setUp()
        self.volume = self.node.volume("vm1", SIZE)

    def client(self, **options):
        return Client(self.volume.socket, "vm1", **options)

    def refused(self, error, *request, **options):
        """Sends a request to a fresh connection; it must be answered with that error and the connection must go on."""
        client = self.client()
        with self.assertRaises(NbdError) as caught:
            client.call(*request, **options)
        self.assertIn(caught.exception.error, error if isinstance(error, tuple) else (error,), request)
        self.assertEqual(client.read(0, 512), bytes(512))
        client.disconnect()

    def test_nbdinfo_sees_size_flags_and_block_sizes(self):
        export = json.loads(run("nbdinfo", "--json", self.volume.uri).stdout)["exports"][0]
        self.assertEqual(export["export-name"], "vm1")
        self.assertEqual(export["export-size"], SIZE)
        self.assertFalse(export["is_read_only"])
        for flag in ("can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_cache", "can_multi_conn", "can_df"):
            self.assertTrue(export[flag], flag)
        self.assertIn("base:allocation", export["contexts"])
        self.assertEqual(export["block_size_minimum"], 1)
        self.assertEqual(export["block_size_preferred"] % 4096, 0)
        self.assertGreaterEqual(export["block_size_maximum"], 1 * MIB)

    def test_the_list_of_exports_names_the_volume(self):
        listed = json.loads(run("nbdinfo", "--list", "--json", f"nbd+unix:///?socket={self.volume.socket}").stdout)
        self.assertEqual([e["export-name"] for e in listed["exports"]], ["vm1"])

    def test_an_unknown_export_is_refused_and_the_negotiation_goes_on(self):
        raw = Raw(self.volume.socket)
        self.assertEqual(raw.info("no-such-volume")[-1][0], n.REP_ERR_UNKNOWN)
        self.assertEqual(raw.info("vm1", n.OPT_INFO)[-1][0], n.REP_ACK)
        self.assertEqual(raw.info("vm1", n.OPT_GO)[-1][0], n.REP_ACK)
        raw.close()

    def test_odd_options_are_answered(self):
        raw = Raw(self.volume.socket)
        self.assertEqual(raw.option(n.OPT_STARTTLS)[-1][0] & 0x80000000, 0x80000000)
        self.assertEqual(raw.option(4242, b"what")[-1][0], n.REP_ERR_UNSUP)
        self.assertEqual(raw.option(n.OPT_STRUCTURED_REPLY, b"x")[-1][0], n.REP_ERR_INVALID)
        # A name longer than its option, an INFO without its parts, a context before structured replies.
        self.assertEqual(raw.option(n.OPT_GO, struct.pack(">I", 1000) + b"vm1\0\0")[-1][0], n.REP_ERR_INVALID)
        self.assertEqual(raw.option(n.OPT_INFO, b"\0\0")[-1][0], n.REP_ERR_INVALID)
        self.assertEqual(raw.option(n.OPT_SET_META_CONTEXT, struct.pack(">I3sI", 3, b"vm1", 0))[-1][0] & 0x80000000, 0x80000000)
        self.assertEqual(raw.option(n.OPT_LIST, b"")[-1][0], n.REP_ACK)
        self.assertEqual(raw.option(n.OPT_ABORT)[-1][0], n.REP_ACK)
        raw.close()

    def test_illegal_requests_get_the_error_that_the_protocol_names(self):
        self.refused(n.EINVAL, n.READ, SIZE, 512)
        self.refused(n.EINVAL, n.READ, SIZE - 512, 1024)
        self.refused((n.ENOSPC, n.EINVAL), n.WRITE, SIZE - 1, 2, b"ab")
        self.refused((n.ENOSPC, n.EINVAL), n.WRITE, SIZE, 1, b"a")
        self.refused((n.ENOSPC, n.EINVAL), n.WRITE_ZEROES, SIZE - 512, 1024)
        self.refused(n.EINVAL, n.TRIM, SIZE - 512, 1024)
        self.refused(n.EINVAL, n.BLOCK_STATUS, SIZE, 1)
        self.refused(n.EINVAL, n.BLOCK_STATUS, 0, 0)
        self.refused(n.EINVAL, n.READ, (1 << 64) - 512, 1024)
        self.refused((n.ENOSPC, n.EINVAL), n.WRITE, (1 << 64) - 1, 2, b"ab")
        self.refused(n.EINVAL, n.TRIM, (1 << 64) - 4096, 8192)
        self.refused(n.EINVAL, 99)
        self.refused(n.EINVAL, n.READ, 0, 512, flags=0x8000)
        self.refused(n.EINVAL, n.WRITE, 0, 512, bytes(512), flags=0x4000)
        self.refused(n.EINVAL, n.READ, 0, 512, flags=n.FLAG_NO_HOLE)

    def test_libnbd_without_its_own_checks_is_answered_too(self):
        h = nbd.NBD()
        h.set_strict_mode(0)
        h.connect_uri(self.volume.uri)
        for call in (lambda: h.pread(512, SIZE), lambda: h.pwrite(b"x" * 512, SIZE), lambda: h.trim(512, SIZE),
                     lambda: h.zero(512, SIZE), lambda: h.pread(512, 0, 1 << 15)):
            with self.assertRaises(nbd.Error) as caught:
                call()
            self.assertIn(caught.exception.errno, ("EINVAL", "ENOSPC"))
        h.pwrite(b"fine", 1000)
        self.assertEqual(h.pread(4, 1000), b"fine")
        h.shutdown()

    def test_a_request_of_no_length_never_ends_the_server(self):
        client = self.client()
        for kind in (n.READ, n.WRITE, n.TRIM, n.WRITE_ZEROES, n.CACHE):
            try:
                client.call(kind, 0, 0)
            except NbdError as e:
                self.assertEqual(e.error, n.EINVAL)
        self.assertEqual(client.read(0, 1), b"\0")

    def test_a_read_beyond_any_limit_is_refused_without_memory(self):
        before = self.node.memory_bytes()
        clients = [self.client() for _ in range(8)]
        for client in clients:
            client.send(n.READ, 0, 0xFFFFFFFF)
            try:
                self.assertNotEqual(client.receive()[1], 0)
            except n.Closed:
                pass
        self.assertLess(self.node.memory_bytes() - before, 64 * MIB)

    def test_a_write_beyond_any_limit_is_refused_without_memory(self):
        before = self.node.memory_bytes()
        for _ in range(8):
            client = self.client()
            client.send(n.WRITE, 0, 0xFFFFFFFF, b"only a little")
        self.assertEqual(self.client().read(0, 512), bytes(512))
        self.assertLess(self.node.memory_bytes() - before, 64 * MIB)

    def test_many_requests_whose_answers_nobody_reads_are_bounded(self):
        before = self.node.memory_bytes()
        client = self.client(timeout=2)
        try:
            for _ in range(4000):
                client.send(n.READ, 0, MIB)
        except (TimeoutError, n.Closed):
            pass  # the server stops reading: that is the bound
        self.assertEqual(self.client().read(0, 512), bytes(512))
        self.assertLess(self.node.memory_bytes() - before, 256 * MIB)
        client.close()

    def test_every_alignment_down_to_one_byte_works(self):
        rng = random.Random(7)
        shadow = bytearray(2 * MIB)
        base = 4 * MIB - MIB  # across the border of two shards
        client = self.client()
        for step in range(1500):
            at, length = rng.randrange(len(shadow) - 1), rng.choice((1, 2, 511, 512, 513, 4095, 4096, 4097, 70000))
            length = min(length, len(shadow) - at)
            kind = rng.randrange(6)
            if kind < 3:
                data = rng.randbytes(length)
                client.write(base + at, data, flags=rng.choice((0, n.FLAG_FUA)) if step % 50 == 0 else 0)
                shadow[at:at + length] = data
            elif kind == 3:
                client.zero(base + at, length, flags=rng.choice((0, n.FLAG_NO_HOLE)))
                shadow[at:at + length] = bytes(length)
            else:
                self.assertEqual(client.read(base + at, length), shadow[at:at + length], (step, at, length))
        self.assertEqual(client.read(base, len(shadow)), shadow)

    def test_trim_gives_zeros_or_the_old_bytes_in_whole_blocks(self):
        client = self.client()
        client.write(0, b"\xaa" * 65536)
        client.trim(1000, 20000)  # blocks 1 to 4 (4096..20479) lie inside as a whole
        after = client.read(0, 65536)
        self.assertEqual(after[:4096], b"\xaa" * 4096)
        self.assertEqual(after[4096:20480], bytes(16384))
        self.assertEqual(after[20480:], b"\xaa" * 45056)

    def test_block_status_tells_written_from_holes(self):
        client = self.client()
        client.write(8192, b"a" * 4096)
        client.write(4 * MIB, b"b" * 8192)
        def written(first, length):
            at, found = first, []
            for size, state in client.status(first, length):
                if not state & 1:
                    found.append((at, size))
                at += size
            self.assertLessEqual(at, SIZE)
            return found
        self.assertEqual(written(0, 4 * MIB)[0], (8192, 4096))
        self.assertEqual(written(4 * MIB, MIB)[0], (4 * MIB, 8192))
        client.trim(8192, 4096)
        self.assertEqual(written(0, MIB), [])
        self.assertEqual(len(client.status(0, SIZE, n.FLAG_REQ_ONE)), 1)
        client.zero(0, 16384, n.FLAG_NO_HOLE)
        self.assertEqual(written(0, MIB), [(0, 16384)])

    def test_trim_of_an_empty_and_of_the_whole_volume(self):
        client = self.client()
        client.trim(0, SIZE)
        client.write(5 * MIB, b"x" * MIB)
        client.trim(0, SIZE)
        self.assertEqual(client.read(5 * MIB, MIB), bytes(MIB))
        client.zero(0, SIZE, n.FLAG_FAST_ZERO)

    def test_simple_replies_work_for_old_clients(self):
        client = self.client(structured=False)
        client.write(100, b"old")
        self.assertEqual(client.read(100, 3), b"old")
        self.assertEqual(client.read(SIZE - 512, 512), bytes(512))

    def test_df_and_cache_are_honoured(self):
        client = self.client()
        client.write(0, b"z" * 4096)
        self.assertEqual(client.read(0, 65536, n.FLAG_DF), b"z" * 4096 + bytes(61440))
        client.call(n.CACHE, 0, MIB)

    def test_garbage_at_any_point_ends_at_most_that_connection(self):
        rng = random.Random(11)
        before = self.node.memory_bytes()
        for step in range(150):
            raw = Raw(self.volume.socket, timeout=5, client_flags=rng.choice((3, 1, 0, 0xFFFFFFFF)))
            try:
                if step % 3 == 0:
                    raw.put(rng.randbytes(rng.randrange(1, 3000)))
                elif step % 3 == 1:
                    raw.put(struct.pack(">QII", n.IHAVEOPT, rng.randrange(12), rng.choice((0, 4, 1 << 20, 0xFFFFFFFF))))
                    raw.put(rng.randbytes(100))
                else:
                    raw.info("vm1")
                    raw.put(rng.randbytes(rng.randrange(1, 300)))
            except n.Closed:
                pass
            raw.close()
        client = self.client()
        client.write(0, b"alive")
        self.assertEqual(client.read(0, 5), b"alive")
        self.assertLess(self.node.memory_bytes() - before, 64 * MIB)

    def test_half_a_greeting_holds_nobody_up_for_long(self):
        self.node.stop()
        self.node.extra = '[nbd]\nhandshake_timeout = "500ms"\nconnections = 8\n'
        self.node.write_config()
        self.node.start()
        idle = []
        try:
            idle = [Raw(self.volume.socket) for _ in range(50)]
        except (n.Closed, OSError):
            pass  # over the limit
        def served():
            try:
                return self.client().read(0, 512) == bytes(512)
            except (n.Closed, OSError):
                return False
        wait_for("a client to get in", served, 5)
        for raw in idle:
            raw.close()

    def test_a_client_that_goes_away_in_the_middle_leaves_the_others_alone(self):
        other = self.client()
        def admitted():
            # Who has gone keeps its place until what it asked is done.
            try:
                return self.client()
            except n.Closed:
                return None
        for _ in range(60):
            client = wait_for("a place", admitted, 5)
            for i in range(20):
                client.send(n.WRITE, i * 4096, 4096, bytes(4096))
                client.send(n.READ, i * 4096, 65536)
            client.put(struct.pack(">IHHQQI", n.REQUEST_MAGIC, 0, n.WRITE, 77, 0, 100000) + b"half")
            client.close()
        other.write(0, b"here")
        self.assertEqual(other.read(0, 4), b"here")

    def test_only_the_owner_may_use_the_socket(self):
        self.assertEqual(os.stat(self.volume.socket).st_mode & 0o777, 0o600)

    def test_connections_over_the_limit_are_closed_not_crashed(self):
        opened = []
        try:
            for _ in range(300):
                opened.append(self.client(timeout=5))
        except (n.Closed, OSError):
            pass
        self.assertGreaterEqual(len(opened), 8)
        self.assertEqual(opened[0].read(0, 512), bytes(512))
        for client in opened:
            client.close()


class multi_conn(SystemTest):
    def setUp(self):
        super().setUp()
        self.volume = self.node.volume("vm1", SIZE)

    def test_overlapping_writes_and_reads_never_raise_a_checksum_alarm(self):
        """Four connections write and read the same few blocks, at odd borders: each read gives for every byte one of
        the values that some writer wrote there, never an error."""
        def work(number, trouble):
            rng = random.Random(number)
            client = Client(self.volume.socket, "vm1")
            try:
                pending = 0
                for _ in range(1500):
                    at, length = rng.randrange(30000), rng.choice((1, 100, 4096, 5000, 16384))
                    kind = rng.randrange(8)
                    if kind < 4:
                        client.send(n.WRITE, at, length, bytes([65 + number]) * length)
                    elif kind < 6:
                        client.send(n.READ, at, length)
                    elif kind == 6:
                        client.send(n.WRITE_ZEROES, at, length)
                    else:
                        client.send(n.FLUSH) if rng.randrange(10) == 0 else client.send(n.TRIM, at, length)
                    pending += 1
                    while pending >= 16:
                        _, error, data = client.receive()
                        pending -= 1
                        assert error == 0, f"error {error}"
                        assert isinstance(data, list) or set(data) <= set(b"\0ABCD"), "a byte that nobody wrote"
                while pending:
                    assert client.receive()[1] == 0
                    pending -= 1
            except BaseException as e:
                trouble.append(e)
        trouble = []
        threads = [threading.Thread(target=work, args=(i, trouble)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(90)
        self.assertEqual(trouble, [])
        self.assertEqual(self.node.metric("varve_checksum_mismatches_total"), 0)

    def test_a_flush_covers_what_other_connections_were_answered(self):
        writer, flusher = Client(self.volume.socket, "vm1"), Client(self.volume.socket, "vm1")
        for i in range(20):
            writer.write(i * MIB, bytes([i + 1]) * 4096)
            self.assertEqual(flusher.read(i * MIB, 4096), bytes([i + 1]) * 4096)
            flusher.flush()
        self.node.kill()
        self.node.start()
        after = Client(self.volume.socket, "vm1")
        for i in range(20):
            self.assertEqual(after.read(i * MIB, 4096), bytes([i + 1]) * 4096)


if __name__ == "__main__":
    main()
