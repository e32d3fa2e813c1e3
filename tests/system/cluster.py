#!/usr/bin/python3
"""A cluster of real processes on loopback: keys, starting and stopping, volumes over nodes, lost nodes, strangers."""

import json
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import unittest

import nbd

from cluster_nodes import Cluster, Writer, alive, free_ports, start_varved
from harness import BIN, MIB, CliError, fio, main, run, wait_for, workspace


class ClusterTest(unittest.TestCase):
    time_limit = 300

    def setUp(self):
        self.folder = workspace("vc.")
        self.clusters = []
        self.watchdog = threading.Timer(self.time_limit, self.hang)
        self.watchdog.daemon = True
        self.watchdog.start()
        self.addCleanup(self.finish)

    def cluster(self, name="c", **options):
        self.clusters.append(Cluster(self.folder / name, **options))
        return self.clusters[-1]

    def hang(self):
        import faulthandler
        sys.stderr.write(f"{self.id()}: not finished after {self.time_limit} s\n")
        faulthandler.dump_traceback(all_threads=True)
        self.tell()
        for c in self.clusters:
            c.finish()
        os._exit(3)

    def tell(self):
        for c in self.clusters:
            for n in c.nodes.values():
                sys.stderr.write(n.log_end() + "\n")

    def finish(self):
        self.watchdog.cancel()
        result = self._outcome.result
        if any(test is self for test, _ in result.failures + result.errors):
            self.tell()
        for c in self.clusters:
            c.finish()
        if os.environ.get("VARVE_TEST_KEEP"):
            sys.stderr.write(f"kept: {self.folder}\n")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def wait_state(self, cluster, name, state, timeout=40):
        wait_for(f"{name} to be {state}", lambda: cluster.states().get(name) == state, timeout, 0.05)


class cluster_keys(ClusterTest):
    def test_keys_are_made_once_and_listed(self):
        c = self.cluster()
        keys = self.folder / "keys"
        made = c.json("cluster", "keys", "init", keys)["made"]
        self.assertEqual(made, ["ca", "node1", "node2", "node3"])
        before = {f.name: f.read_bytes() for f in keys.iterdir()}
        self.assertEqual(sorted(before), sorted(f"{n}.{e}" for n in made for e in ("key", "pem")))
        self.assertEqual({stat.S_IMODE(f.stat().st_mode) for f in keys.iterdir()}, {0o600})
        self.assertEqual(stat.S_IMODE(keys.stat().st_mode), 0o700)
        self.assertEqual(c.json("cluster", "keys", "init", keys)["made"], [])
        self.assertEqual({f.name: f.read_bytes() for f in keys.iterdir()}, before)
        rows = c.json("cluster", "keys", "ls", keys)["keys"]
        self.assertEqual([(r["name"], r["problem"], r["expires_soon"]) for r in rows], [(n, "", False) for n in made])
        self.assertEqual(len({r["serial"] for r in rows}), 4)
        self.assertGreater(min(r["not_after"] for r in rows), time.time() + 2 * 365 * 86400)
        # The listing of people says the same; it begins at the file's own folder when none is named.
        self.assertIn("No such file", self.refused(c, "--config", c.config, "cluster", "keys", "ls"))

    def refused(self, c, *args):
        with self.assertRaises(CliError) as e:
            c.varve(*args)
        return e.exception.stdout + e.exception.stderr

    def sign(self, keys, node, days):
        """Another certificate for a node, of the cluster's CA."""
        run("openssl", "req", "-new", "-key", keys / f"{node}.key", "-subj", f"/CN={node}", "-out", self.folder / "csr")
        run("openssl", "x509", "-req", "-in", self.folder / "csr", "-CA", keys / "ca.pem", "-CAkey", keys / "ca.key",
            "-days", days, "-out", keys / f"{node}.pem")

    def test_a_node_does_not_start_with_keys_that_the_others_would_refuse(self):
        c = self.cluster()
        c.varve("--config", c.config, "cluster", "keys", "init", c.keys)
        good = {f.name: f.read_bytes() for f in c.keys.iterdir()}
        other = self.folder / "other"
        c.varve("--config", c.config, "cluster", "keys", "init", other)
        file, key = c.keys / "node2.pem", c.keys / "node2.key"
        def expired():
            self.sign(c.keys, "node2", -1)
        def foreign():
            shutil.copy(other / "node2.pem", file)
            shutil.copy(other / "node2.key", key)
        def of_another():
            shutil.copy(c.keys / "node1.pem", file)
            shutil.copy(c.keys / "node1.key", key)
        for spoil, said in ((file.unlink, f"{file}: No such file"), (expired, f"{file} has expired at "),
                            (foreign, f"{file} is not signed by ca.pem"),
                            (of_another, f"{file} is the certificate of "),
                            (lambda: file.write_text("nonsense"), f"{file} is no certificate"),
                            (key.unlink, f"{key}: No such file"),
                            (lambda: key.chmod(0o644), f"{key} can be read by other users: its mode is 0644"),
                            ((c.keys / "ca.pem").unlink, f"{c.keys}/ca.pem: No such file")):
            with self.subTest(said=said):
                spoil()
                node = start_varved(c, "node2")
                out, err = node.communicate(timeout=30)
                self.assertEqual(node.returncode, 2, err)
                self.assertIn(said, err)
                self.assertFalse((c["node2"].data / "incarnation").exists())
                for name, content in good.items():
                    (c.keys / name).write_bytes(content)
                    (c.keys / name).chmod(0o600)
        self.sign(c.keys, "node2", 5)
        self.assertEqual([r["expires_soon"] for r in c.json("cluster", "keys", "ls")["keys"]],
                         [False, False, True, False])
        self.assertRegex(c.varve("--config", c.config, "cluster", "keys", "ls").stdout, "expires in [45] days")

    def test_which_node_must_be_said(self):
        c = self.cluster()
        node = subprocess.run([BIN / "varved", "--config", c.config], capture_output=True,
                              text=True, timeout=20)
        self.assertEqual(node.returncode, 2)
        self.assertIn("expected --node with one of node1, node2, node3", node.stderr)
        node = start_varved(c, "node9")
        self.assertIn('there is no node "node9"', node.communicate(timeout=20)[1])
        self.assertEqual(node.returncode, 2)


class cluster_control(ClusterTest):
    def test_up_status_and_down(self):
        c = self.cluster()
        done = c.up()
        self.assertIn(f"keys made in {c.keys}", done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["NODE", "node1", "node2", "node3"])
        pids = {n: m.pid() for n, m in c.nodes.items()}
        self.assertNotIn(None, pids.values())
        self.assertEqual(c.states(), {"node1": "up", "node2": "up", "node3": "up"})
        # Any node tells, and says the same.
        for n in c.nodes.values():
            view = n.json("cluster", "status")
            self.assertEqual((view["cluster"], view["leader"], view["node"], view["health"]),
                             ("test", "node1", n.name, "ok"))
            self.assertEqual([(m["node"], m["roles"]) for m in view["nodes"]],
                             [(m.name, ",".join(m.roles)) for m in c.nodes.values()])
            self.assertIn(f" node={n.name} event=started", n.log.read_text())
        # Again: nothing is started.
        again = c.json("cluster", "up", c.config)
        self.assertEqual([(n["started"], n["ready"], n["pid"]) for n in again["nodes"]],
                         [(False, True, pids[n]) for n in c.nodes])
        self.assertEqual(again["keys_made"], [])
        # --node chooses who is asked; without it the first that answers is.
        self.assertEqual(c.json("cluster", "status", "--node", "node3")["node"], "node3")
        self.assertEqual(c.json("cluster", "status")["node"], "node1")
        # Half dead: what is there is stopped all the same, and up makes it whole.
        lives = {n: c.member(n)["incarnation"] for n in c.nodes}
        c["node1"].kill()
        c["node2"].kill()
        c.down()
        self.assertEqual({m.pid() for m in c.nodes.values()}, {None})
        self.assertFalse(any(alive(p) for p in pids.values()))
        c.down()  # again: nothing to do
        c.up()
        self.assertEqual(c.states(), {"node1": "up", "node2": "up", "node3": "up"})
        for n, life in lives.items():
            self.assertGreater(c.member(n)["incarnation"], life)
        c.down()
        for n in c.nodes.values():
            self.assertIn("event=stopped", n.log_end(3), "in order, by itself")

    def test_what_cannot_start_is_told_with_its_log(self):
        c = self.cluster()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", c["node2"].http_port))
            taken.listen()
            done = c.up(check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("node node2: varved ended with exit code 1", done.stderr)
        self.assertIn(str(c["node2"].http_port), done.stderr)
        c.up()
        c.down()

    def test_keys_kept_elsewhere_are_not_made(self):
        c = self.cluster()
        c.keys = self.folder / "elsewhere"
        c.write_config()
        done = c.up(check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"varve cluster keys init {c.keys}", done.stderr)
        self.assertFalse(c.keys.exists())
        self.assertEqual({m.pid() for m in c.nodes.values()}, {None})

    def test_with_an_etcd_of_its_own_managers_take_over(self):
        if not shutil.which("etcd"):
            self.fail("no etcd: install or unpack the Debian package etcd-server")
        url = f"http://127.0.0.1:{free_ports(1)[0]}"
        c = self.cluster(nodes={"node1": ["manager", "host"], "node2": ["manager", "storage"], "node3": ["storage"]},
                         catalog=f'[catalog]\nkind = "etcd"\nendpoints = ["{url}"]\nlocal = true\n')
        done = c.up()
        self.assertIn(f"etcd started at {url}", done.stderr)
        leader = c.json("cluster", "status")["leader"]
        self.assertIn(leader, ("node1", "node2"))
        other = "node2" if leader == "node1" else "node1"
        self.assertEqual(c[other].json("cluster", "status")["leader"], leader)
        c[leader].kill()
        wait_for("the other to lead", lambda: c[other].json("cluster", "status")["leader"] == other, 20)
        self.assertIn("NODE_DOWN", {f["code"] for f in wait_for(
            "the loss to be told", lambda: [f for f in c[other].json("cluster", "status")["findings"]
                                            if f["code"] == "NODE_DOWN"], 20)})
        c.up()
        self.assertEqual(set(c.states().values()), {"up"})
        self.assertIn("etcd  stopped", c.down().stdout)


class cluster_volumes(ClusterTest):
    def test_a_volume_of_one_node_is_attached_at_another_with_its_shards_on_a_third(self):
        c = self.cluster()
        c.up()
        one, two, three = c.nodes.values()
        three.varve("volume", "create", "vm1", "--size", "256MiB", "--tier", "t3")
        with self.assertRaises(CliError) as refused:
            three.varve("volume", "attach", "vm1", "--json")
        self.assertEqual(refused.exception.error["code"], "invalid_argument")
        self.assertIn("node3 is no host", refused.exception.error["message"])
        volume = one.attach("vm1", "--host", "node2")
        self.assertTrue(volume.socket.startswith(str(two.run_dir)), volume.socket)
        for n in c.nodes.values():
            row = n.rows("volume", "ls")[0]
            self.assertEqual((row["name"], [a["host"] for a in row["attachments"]], row["uri"]),
                             ("vm1", ["node2"], volume.uri))
        # fio writes with checksums, then reads all of it back.
        fio(self.folder, volume, "--rw=randrw", "--bs=4k,64k", "--size=48m", "--iodepth=16", "--verify=crc32c",
            "--do_verify=1", "--verify_fatal=1", "--fsync=64", "--randseed=7")
        fio(self.folder, volume, "--rw=randwrite", "--bs=16k", "--size=48m", "--offset=64m", "--iodepth=8",
            "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--randseed=8")
        shards = one.rows("shard", "ls", "vm1")
        self.assertGreater(len(shards), 10)
        self.assertEqual({(s["tier"], s["node"]) for s in shards}, {("t3", "node3")})
        self.assertEqual({t["name"]: t["node"] for t in two.rows("tier", "ls")},
                         {"t1": "node1", "t2": "node2", "t3": "node3"})
        # What a tier says of its device is a little behind.
        wait_for("what was written", lambda: next(
            t["written_bytes"] for t in one.rows("tier", "ls") if t["name"] == "t3") > 48 * MIB)
        two.varve("volume", "verify", "vm1")
        for n, side in ((two, "client"), (three, "server")):
            self.assertGreater(n.metric("varve_remote_bytes_total", side=side, op="write"), 48 * MIB)
            self.assertGreater(n.metric("varve_remote_sessions", side=side), 0)
        self.assertEqual(one.metric("varve_cluster_nodes", state="up"), 3)
        # Another host: only when it is said that both may have it.
        with self.assertRaises(CliError) as refused:
            one.varve("volume", "attach", "vm1", "--json")
        self.assertEqual(refused.exception.error["code"], "volume_attached")
        both = one.attach("vm1", "--shared")
        self.assertEqual(sorted(a["host"] for a in one.rows("volume", "ls")[0]["attachments"]), ["node1", "node2"])
        data = random.Random(1).randbytes(MIB)
        self.write(volume, 200 * MIB, data)
        self.assertEqual(self.read(both, 200 * MIB, MIB), data)
        # The console of any node shows the actors of all, and says how one is that lives elsewhere.
        rows = self.console(three, "tree")["actors"]
        self.assertEqual(rows[0]["path"], "/node3")
        for path in ("/node1/management/leases", "/node2/host/1", "/node3/storage/t3", "/node1/cluster/node3"):
            self.assertIn(path, [r["path"] for r in rows])
        self.assertEqual({r["state"] for r in rows}, {"running"})
        self.assertEqual(self.console(three, "inspect /node2/host/1")["facts"]["uri"], volume.uri)
        three.varve("volume", "detach", "vm1", "--host", "node2")
        self.write(both, 201 * MIB, data)
        three.varve("volume", "detach", "vm1")
        self.assertFalse(one.rows("volume", "ls")[0]["attached"])
        two.varve("volume", "rm", "vm1", "--yes")
        c.down()

    def console(self, node, command, *options):
        return json.loads(node.varve("console", "--json", *options, "-c", command).stdout)

    def write(self, volume, offset, data):
        h = nbd.NBD()
        h.connect_uri(volume.uri)
        h.pwrite(data, offset)
        h.flush()
        h.shutdown()

    def read(self, volume, offset, length):
        h = nbd.NBD()
        h.connect_uri(volume.uri)
        data = h.pread(length, offset)
        h.shutdown()
        return bytes(data)

    def test_a_node_is_killed_and_comes_back(self):
        c = self.cluster()
        c.up()
        one, two, three = c.nodes.values()
        one.varve("volume", "create", "far", "--size", "64MiB", "--tier", "t3")
        one.varve("volume", "create", "near", "--size", "64MiB", "--tier", "t2")
        far, near = two.attach("far"), two.attach("near")
        data = random.Random(2).randbytes(8 * MIB)
        self.write(far, 0, data)
        before = c.member("node3")
        seen = []
        three.kill()
        def down():
            state = c.states().get("node3")
            if state and (not seen or seen[-1] != state):
                seen.append(state)
            return state == "down"
        wait_for("node3 to be down", down, 30, 0.02)
        self.assertEqual([s for s in seen if s != "up"], ["suspect", "down"])
        view = c.json("cluster", "status")
        self.assertEqual([(f["code"], f["severity"]) for f in view["findings"] if f["code"].startswith("NODE_")],
                         [("NODE_DOWN", "error")])
        self.assertEqual(view["health"], "error")
        self.write(near, 0, data)  # what does not need it goes on
        rows = {r["path"]: r for r in self.console(two, "tree")["actors"]}
        self.assertEqual((rows["/node3"]["state"], rows["/node1/host"]["state"]), ("silent", "running"))
        self.assertNotIn("/node3/storage/t3", rows)
        self.console(two, "kill /node1/host", "--allow-write")
        wait_for("the host of node1 to be started again",
                 lambda: self.console(two, "inspect /node1/host")["restarts"] == 1)
        self.assertEqual(self.read(near, 0, len(data)), data)
        c.up()
        after = c.member("node3")
        self.assertEqual(after["state"], "up")
        self.assertGreater(after["incarnation"], before["incarnation"])
        self.assertEqual(self.read(far, 0, len(data)), data)
        self.write(far, 8 * MIB, data)
        one.varve("volume", "verify", "far")
        # The host as well: its volumes are served again at the same address.
        two.kill()
        self.wait_state(c, "node2", "down")
        c.up()
        self.assertEqual(self.read(far, 8 * MIB, len(data)), data)
        self.assertEqual(self.read(near, 0, len(data)), data)
        c.down()

    def test_the_manager_is_killed_under_io(self):
        # Nothing of it is needed by the volume: its shards and its VM are elsewhere.
        c = self.cluster()
        c.up()
        one, two, _ = c.nodes.values()
        one.varve("volume", "create", "vm1", "--size", "64MiB", "--tier", "t3")
        volume = two.attach("vm1")
        for at in range(0, 64 * MIB, MIB):  # all leases are taken
            self.write(volume, at, bytes(range(256)) * 4096)
        writer = Writer(volume, 64 * MIB)
        wait_for("some requests", lambda: writer.requests > 20, 30)
        one.kill()
        began = writer.requests
        time.sleep(5)
        wait_for("requests without a manager", lambda: writer.requests > began + 50, 30)
        self.assertIsNone(writer.trouble)
        with self.assertRaises(CliError) as refused:
            two.varve("volume", "create", "vm2", "--size", "1MiB", "--json", timeout=60)
        self.assertEqual(refused.exception.error["code"], "unavailable")
        c.up()
        began = writer.requests
        wait_for("requests after its return", lambda: writer.requests > began + 50, 30)
        writer.finish()
        self.assertLess(writer.slowest, 5)
        two.varve("volume", "create", "vm2", "--size", "1MiB")
        two.varve("volume", "verify", "vm1")
        c.down()


    def test_a_tier_of_a_node_without_a_catalog_is_known_by_its_id(self):
        c = self.cluster()
        c.up()
        one, _, three = c.nodes.values()
        def tier():
            return next(t for t in one.rows("tier", "ls") if t["name"] == "t3")
        before = tier()
        self.assertRegex(before["id"], "^[0-9a-f]{32}$")
        three.kill()
        folder = three.data / "tier"
        folder.rename(three.data / "unmounted")
        c.up()
        wait_for("the tier to be refused", lambda: tier()["state"] == "refused", 20)
        self.assertFalse(folder.exists(), "what is not known is not touched")
        three.kill()
        # Its shards' headers are not all that there are.
        with self.assertRaises(CliError) as refused:
            c.varve("--config", c.config, "--node", "node3", "catalog", "rebuild", "--dry-run", "--json")
        self.assertEqual(refused.exception.error["code"], "unsupported")
        (three.data / "unmounted").rename(folder)
        c.up()
        wait_for("the tier to be up", lambda: (tier()["state"], tier()["id"]) == ("up", before["id"]), 20)
        c.down()


class cluster_strangers(ClusterTest):
    def test_strangers_are_refused_and_the_nodes_go_on(self):
        c = self.cluster()
        c.up()
        one, two, three = c.nodes.values()
        one.varve("volume", "create", "vm1", "--size", "64MiB", "--tier", "t3")
        writer = Writer(two.attach("vm1"), 64 * MIB)
        memory = self.memory(c)
        pids = {n.name: n.pid() for n in c.nodes.values()}
        rng = random.Random(3)
        http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        hello = bytes.fromhex("160301ffff0100fffb0303") + rng.randbytes(32)  # of TLS, and huge; then nothing
        for n in c.nodes.values():
            for port in (n.control, n.data_port):
                for data in (b"", http, hello, rng.randbytes(100), rng.randbytes(1 << 20), b"\0" * 4096, b"\xff" * 65536):
                    self.send(port, data)
                quiet = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
                for s in quiet:
                    s.close()
        began = writer.requests
        wait_for("I/O to go on", lambda: writer.requests > began + 50, 30)
        writer.finish()
        self.assertEqual({n.name: n.pid() for n in c.nodes.values()}, pids)
        self.assertEqual(set(c.states().values()), {"up"})
        for n, bytes_now in self.memory(c).items():
            self.assertLess(bytes_now - memory[n], 64 * MIB, n)
        c.down()

    def send(self, port, data):
        """As a plain client: what comes back does not matter, but that it ends does."""
        s = socket.create_connection(("127.0.0.1", port), timeout=5)
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            s.settimeout(1)
            while s.recv(65536):
                pass
        except OSError:
            pass
        finally:
            s.close()

    def memory(self, c):
        result = {}
        for n in c.nodes.values():
            for line in open(f"/proc/{n.pid()}/status"):
                if line.startswith("VmRSS:"):
                    result[n.name] = int(line.split()[1]) * 1024
        return result

    def test_a_node_of_another_ca_does_not_join(self):
        c = self.cluster()
        c.up()
        three = c["node3"]
        three.kill()
        self.wait_state(c, "node3", "down")
        # The same cluster by its file, and another CA: as somebody would who can reach the ports.
        fake = Cluster(self.folder / "fake")
        for n in c.nodes.values():
            for name in ("control", "data_port"):
                setattr(fake[n.name], name, getattr(n, name))
        fake.write_config()
        self.clusters.append(fake)
        fake.varve("--config", fake.config, "cluster", "keys", "init", fake.keys)
        stranger = start_varved(fake, "node3")
        time.sleep(5)
        self.assertIsNone(stranger.poll(), "it starts: its keys fit each other")
        self.assertEqual(c.states()["node3"], "down")
        self.assertFalse(fake["node3"].ready())
        stranger.kill()
        stranger.communicate(timeout=20)
        # The others, which stand before it in the file, connect to it; and say why they do not get in.
        said = c["node1"].log.read_text()
        self.assertIn("node node3: 127.0.0.1", said)
        self.assertIn("mutual TLS", said)
        self.assertEqual(said.count("PEER_CONNECTED text=\"node node2"), 1, "the others keep each other")
        # And the right one is let in afterwards.
        c.up()
        self.assertEqual(c.states()["node3"], "up")
        c.down()


if __name__ == "__main__":
    main()
