#!/usr/bin/python3
"""What scripts and people rely on: JSON also for failures, exit codes, nearest verbs, completion, and every hand-run line."""

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import time

from harness import BIN, MIB, ROOT, SystemTest, die_with_parent, main, run, wait_for
from nbd_client import Client


class cli(SystemTest):
    def test_a_volume_from_its_creation_to_its_end(self):
        node = self.node
        node.varve("volume", "create", "vm1", "--size", "20GiB")
        out = node.varve("volume", "attach", "vm1").stdout
        self.assertRegex(out, r"nbd\+unix:///vm1\?socket=\S+")
        uri = re.search(r"nbd\+unix:///vm1\?socket=\S+", out).group()
        run("qemu-io", "-f", "raw", "-c", "write -P 1 0 8M", uri)
        for listing in (("volume", "ls"), ("shard", "ls", "vm1"), ("tier", "ls"), ("lease", "ls"), ("migration", "ls"),
                        ("actor", "ls"), ("event", "ls")):
            self.assertTrue(node.varve(*listing).stdout.strip(), listing)
            self.assertIsInstance(node.rows(*listing), list, listing)
        self.assertIn("ok", node.varve("status").stdout)
        self.assertEqual(node.json("status")["health"], "ok")
        self.assertTrue(node.rows("lease", "ls"))
        node.varve("shard", "move", "vm1", "--offset", "0", "--to", "slow")
        node.varve("migration", "watch", timeout=60)
        homes = node.homes("vm1")  # shards ahead of a sequential run are made ahead, too
        self.assertEqual((homes.pop(0), set(homes.values())), ("slow", {"fast"}))
        moved = node.migrations()[0]
        self.assertEqual((moved["state"], moved["percent"], moved["verify_failures"]), ("committed", 100, 0))
        node.varve("volume", "resize", "vm1", "40GiB")
        self.assertEqual(json.loads(run("nbdinfo", "--json", uri).stdout)["exports"][0]["export-size"], 40 << 30)
        self.assertNotEqual(node.varve("volume", "rm", "vm1", "--yes", check=False).returncode, 0, "it is attached")
        node.varve("volume", "detach", "vm1")
        refused = node.varve("volume", "rm", "vm1", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("--yes", refused.stderr)
        node.varve("volume", "rm", "vm1", "--yes")
        # Its name is free at once; its shards are removed in the background.
        wait_for("the volume to be gone", lambda: node.rows("volume", "ls") == [], 20, 0.1)

    def test_a_failure_is_json_too_and_has_its_own_exit_code(self):
        codes = {}
        for code, args in (("not_found", ("volume", "attach", "nope")), ("not_found", ("shard", "ls", "nope")),
                           ("invalid_argument", ("volume", "create", "bad/name", "--size", "1GiB"))):
            done = self.node.varve(*args, "--json", check=False)
            self.assertNotEqual(done.returncode, 0)
            error = json.loads(done.stdout)["error"]
            self.assertEqual(error["code"], code)
            self.assertTrue(error["message"])
            codes.setdefault(code, set()).add(done.returncode)
        self.node.varve("volume", "create", "vm1", "--size", "1GiB")
        done = self.node.varve("volume", "create", "vm1", "--size", "1GiB", "--json", check=False)
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "already_exists")
        self.assertTrue(all(len(c) == 1 for c in codes.values()))

    def test_a_durable_volume_is_not_moved_to_memory(self):
        volume = self.node.volume("vm1", "64MiB")
        Client(volume.socket, "vm1").write(0, b"x" * 4096)
        done = self.node.varve("shard", "move", "vm1", "--offset", "0", "--to", "memory", "--json", check=False)
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "volatile_tier")

    def test_a_shard_shows_the_lease_it_was_upgraded_to(self):
        volume = self.node.volume("vm1", "64MiB")
        client = Client(volume.socket, "vm1")
        client.read(0, 4096)  # a read lease on all that is absent
        client.write(0, b"x" * 4096)
        self.assertEqual({x["mode"] for x in self.node.rows("lease", "ls", "vm1") if x["tier"]}, {"write"})
        self.assertEqual(self.node.shards("vm1")[0]["lease"], "write")

    def test_what_happens_to_a_lease_is_shown_and_watched(self):
        volume = self.node.volume("vm1", "64MiB", "--sensitivity", "high")
        client = Client(volume.socket, "vm1")
        client.write(0, b"x" * 4096)
        shown = self.node.json("lease", "show", "vm1", "0")
        self.assertEqual([(x["limit"], x["host"]) for x in shown["leases"] if x["tier"]], [("sensitive", "test")])
        self.assertIn("granted", [x["what"] for x in shown["events"]])
        self.assertEqual({x["host"] for x in shown["events"]}, {"test"})
        self.assertRegex(self.node.varve("lease", "show", "vm1", "0").stdout, "granted .* at test ")
        self.assertIn("nobody", self.node.varve("lease", "show", "vm1", "15").stdout)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            watched = pool.submit(self.node.varve, "lease", "watch", "vm1", "--count", "2", "--json")
            # What is broken its holder gives back, and asks for again when it needs it.
            for _ in range(100):
                if watched.done():
                    break
                self.node.varve("lease", "break", "vm1", "0")
                client.write(0, b"y" * 4096)
            told = [json.loads(x) for x in watched.result(timeout=60).stdout.splitlines()]
        self.assertEqual(len(told), 2)
        self.assertEqual({(x["volume"], x["host"]) for x in told}, {("vm1", "test")})
        self.assertTrue({x["what"] for x in told} <= {"granted", "released", "changed", "refused"}, told)

    def test_a_shard_shows_what_was_just_asked_of_it(self):
        volume = self.node.volume("vm1", "64MiB")
        client = Client(volume.socket, "vm1")
        for _ in range(3):
            client.write(0, b"x" * 4096)
        client.read(0, 4096)
        shard = self.node.shards("vm1")[0]
        self.assertEqual((shard["writes"], shard["reads"]), (3, 1))

    def test_what_is_not_known_is_not_shown_as_zero(self):
        """A tier and the host are killed, each time to be started again a little later: until then nobody knows."""
        volume = self.node.volume("vm1", "64MiB")
        client = Client(volume.socket, "vm1")
        client.write(0, b"x" * 4096)
        def row():
            return self.node.rows("volume", "ls")[0]
        def whole():
            return None not in row().values()
        def seen_while_dead(path, look):
            for _ in range(15):
                wait_for("all to be known", whole, 20, 0.05)
                self.node.varve("actor", "kill", path, check=False)
                if look():
                    return
            self.fail(f"{path} is always back before it is asked")
        for path, name, shown in (("storage/fast", "allocated", "allocated"), ("host", "connections", "clients")):
            wait_for("all to be known", whole, 20, 0.05)
            known = row()[name]
            self.assertGreater(known, 0)
            seen_while_dead(path, lambda: row()[name] is None)
            seen_while_dead(path, lambda: re.search(rf"(?m)^{shown} +unknown$",
                                                    self.node.varve("volume", "show", "vm1").stdout))
            seen_while_dead(path, lambda: " unknown " in self.node.varve("volume", "ls").stdout)
            wait_for("all to be known again", whole, 20, 0.05)
            if path != "host":  # with it goes the port, and with that the client
                self.assertEqual(row()[name], known)

    def test_a_volatile_volume_lives_in_memory_and_moves(self):
        volume = self.node.volume("scratch", "64MiB", "--volatile")
        client = Client(volume.socket, "scratch")
        client.write(0, b"v" * MIB)
        self.assertEqual(self.node.homes("scratch"), {0: "memory"})
        self.node.move("scratch", 0, "fast")
        self.assertEqual(self.node.homes("scratch"), {0: "fast"})
        self.assertEqual(client.read(0, MIB), b"v" * MIB)
        self.node.move("scratch", 0, "memory")
        self.assertEqual(client.read(0, MIB), b"v" * MIB)

    def test_without_a_server_it_says_so(self):
        self.node.stop()
        done = self.node.varve("status", "--json", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("error", json.loads(done.stdout))
        self.assertIn(str(self.node.rpc_socket), self.node.varve("status", check=False).stderr)
        self.node.start()

    def test_stop_ends_the_node_and_says_nothing(self):
        self.node.volume("vm1", "64MiB")
        done = self.node.varve("stop")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(self.node.process.wait(30), 0)
        self.node.process = None

    def test_a_second_varved_in_the_same_folders_is_refused_and_told_who_has_them(self):
        for option, others in (("--data-dir", []), ("--run-dir", ["--data-dir", str(self.folder / "other")])):
            done = run(BIN / "varved", "--config", self.node.config, *others, check=False)
            self.assertEqual(done.returncode, 3)
            self.assertIn(f"(process {self.node.process.pid})", done.stdout + done.stderr)
            self.assertIn(option, done.stdout + done.stderr)
        self.assertEqual(self.node.json("status")["health"], "ok")

    def test_a_node_that_stops_may_be_asked_to_stop_again(self):
        # All have asked before it begins, so that they do not come too late.
        self.node.process.send_signal(signal.SIGSTOP)
        self.node.process.terminate()
        asking = [subprocess.Popen([str(BIN / "varve"), *self.node.cli_options(), "stop"], preexec_fn=die_with_parent,
                                   stderr=subprocess.DEVNULL) for _ in range(8)]
        time.sleep(1)
        self.node.process.send_signal(signal.SIGCONT)
        code = self.node.process.wait(30)
        for each in asking:
            each.wait(30)
        self.assertEqual(code, 0, self.node.log_end())
        self.node.process = None

    def test_a_typo_gets_the_nearest_verb(self):
        done = self.node.varve("volme", "ls", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("volume", done.stderr)
        done = self.node.varve("volume", "craete", "vm1", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("create", done.stderr)

    def test_data_goes_to_stdout_and_messages_to_stderr(self):
        done = self.node.varve("volume", "attach", "nope", check=False)
        self.assertEqual(done.stdout, "")
        self.assertIn("nope", done.stderr)

    def test_completion_is_valid_shell(self):
        script = self.node.varve("completion", "bash").stdout
        run("bash", "-n", data=script)
        # zsh runs it too: there these are PATH and the words of the command line.
        self.assertNotRegex(script, r"\b(path|words)=")
        self.node.varve("volume", "create", "vm1", "--size", "1GiB")
        # The script asks the node by itself.
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "VARVE_SOCKET": str(self.node.rpc_socket)}
        def offered(*words):
            return run("bash", "-c", script + """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
fn=$(complete -p varve | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $fn; printf '%s\\n' "${COMPREPLY[@]}\"""", "bash", *words,
                       env=environment).stdout.split()
        self.assertEqual(offered("varve", "mig"), ["migration"])
        self.assertEqual(offered("varve", "--timeout", "9s", "volume", "att"), ["attach"])
        self.assertEqual(offered("varve", "volume", "attach", "v"), ["vm1"])
        self.assertIn("--json", offered("varve", "volume", "attach", "--"))

    def test_help_names_every_noun(self):
        text = self.node.varve("--help").stdout
        for noun in ("volume", "shard", "tier", "lease", "migration", "status", "trace", "replay", "config"):
            self.assertIn(noun, text)

    def test_config_check_and_show(self):
        self.assertEqual(run(BIN / "varve", "config", "check", ROOT / "configs" / "laptop.toml").returncode, 0)
        bad = self.folder / "bad.toml"
        bad.write_text(self.node.config.read_text() + '\n[lease]\nterrm = "5s"\n')
        done = run(BIN / "varve", "config", "check", bad, check=False)
        self.assertNotEqual(done.returncode, 0)
        line = bad.read_text().splitlines().index('terrm = "5s"') + 1
        self.assertIn(f"bad.toml:{line}:1", done.stdout + done.stderr)
        self.assertIn("term", done.stdout + done.stderr)
        self.assertIn("capacity", run(BIN / "varve", "config", "show", "--config", self.node.config).stdout)

    def test_a_64_tib_volume_is_made_at_once_and_costs_nothing(self):
        self.node.varve("volume", "create", "warm", "--size", "1GiB")
        before = self.node.memory_bytes()
        began = time.monotonic()
        self.node.varve("volume", "create", "huge", "--size", "64TiB")
        self.assertLess(time.monotonic() - began, 1)
        volume = self.node.attach("huge")
        self.assertLess(self.node.memory_bytes() - before, 16 * MIB)
        client = Client(volume.socket, "huge")
        self.assertEqual(client.read((64 << 40) - 4096, 4096), bytes(4096))
        client.write((64 << 40) - 4096, b"e" * 4096)
        self.assertEqual(client.read((64 << 40) - 8192, 8192), bytes(4096) + b"e" * 4096)
        began = time.monotonic()
        for step in range(0, 64 << 40, 1 << 40):
            client.trim(step, (1 << 32) - 4096)
        self.assertLess(time.monotonic() - began, 20, "a trim costs by shards that exist, not by bytes")
        self.assertEqual(client.read((64 << 40) - 4096, 4096), b"e" * 4096)

    def test_a_migration_can_be_cancelled(self):
        self.node.stop()
        self.node.extra = '[migration]\nbudget = "1MiB"\n'
        self.node.write_config()
        self.node.start()
        volume = self.node.volume("vm1", "64MiB")
        client = Client(volume.socket, "vm1")
        client.write(0, b"m" * 4 * MIB)
        self.node.move("vm1", 0, "slow", wait=False)
        running = self.node.running_migrations()
        self.assertEqual(len(running), 1)
        self.node.varve("migration", "cancel", str(running[0]["id"]))
        self.node.wait_migrations()
        self.assertEqual(self.node.migrations()[0]["state"], "aborted")
        self.assertEqual(self.node.homes("vm1"), {0: "fast"})
        self.assertEqual(client.read(0, 4 * MIB), b"m" * 4 * MIB)


class monitoring(SystemTest):
    def test_metrics_pass_promtool_and_have_no_unbounded_labels(self):
        volume = self.node.volume("vm1", "64MiB")
        client = Client(volume.socket, "vm1")
        for i in range(8):
            client.write(i * 4 * MIB, b"x" * 4096)
        self.node.move("vm1", 0, "slow")
        status, text = self.node.http("/metrics")
        self.assertEqual(status, 200)
        done = run("promtool", "check", "metrics", data=text, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((done.stdout + done.stderr).strip(), "")
        for line in text.splitlines():
            if line and not line.startswith("#") and not line.startswith("process_"):
                self.assertTrue(line.startswith("varve_"), line)
            self.assertNotRegex(line, r'[{,](shard|lease|lease_id|shard_id|migration|client)="')
        self.assertGreaterEqual(self.node.metric("varve_migrations_total"), 1)

    def test_the_other_paths(self):
        self.assertEqual(self.node.http("/livez")[0], 200)
        self.assertEqual(self.node.http("/readyz")[0], 200)
        self.assertIn("0.1", self.node.http("/version")[1])
        self.assertEqual(self.node.http("/nothing")[0], 404)


class recording(SystemTest):
    def test_what_is_recorded_can_be_replayed(self):
        volume = self.node.volume("vm1", "64MiB")
        trace = self.folder / "t.trace"
        recorder = subprocess.Popen([str(BIN / "varve"), *self.node.cli_options(), "trace", "record", "vm1", str(trace)],
                                    preexec_fn=die_with_parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for("the recorder", lambda: trace.exists() or recorder.poll() is not None)
        time.sleep(0.3)
        run("qemu-io", "-f", "raw", *[x for i in range(50) for x in ("-c", f"write -P {i + 1} {i * 64}k 8k")], "-c", "read 0 1M",
            "-c", "discard 0 64k", "-c", "flush", volume.uri)
        time.sleep(1.5)
        recorder.send_signal(signal.SIGINT)
        self.assertEqual(recorder.wait(10), 0, recorder.stderr.read())
        recorder.stderr.close()
        self.node.volume("vm2", "64MiB")
        report = self.node.json("replay", str(trace), "vm2", "--speed", "0")
        self.assertGreaterEqual(report["requests"], 53)
        self.assertEqual(report["errors"], 0)

    def test_a_trace_that_was_cut_off_is_read_up_to_there(self):
        trace = self.folder / "cut.trace"
        shipped = (ROOT / "tests" / "data" / "ext4-sqlite.trace").read_bytes()
        trace.write_bytes(shipped[:len(shipped) // 2 + 3])
        self.node.volume("vm1", "1GiB")
        self.assertGreater(self.node.json("replay", str(trace), "vm1", "--speed", "0")["requests"], 100)

    def test_what_is_no_trace_is_refused(self):
        trace = self.folder / "no.trace"
        trace.write_bytes(b"something else entirely" * 100)
        self.node.volume("vm1", "64MiB")
        self.assertIn("error", json.loads(self.node.varve("replay", str(trace), "vm1", "--json", check=False).stdout))


if __name__ == "__main__":
    main()
