#!/usr/bin/python3
"""The actor console as people use it, on a terminal, and as scripts do: completion, history, Ctrl-C, kill under load."""

import fcntl
import json
import os
import pty
import re
import select
import stat
import struct
import subprocess
import termios
import threading
import time

from harness import BIN, SystemTest, die_with_parent, fio, main, wait_for

UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"


class Terminal:
    """A program on a pseudo-terminal of its own, which is its controlling one."""

    def __init__(self, words, environment):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        def before():
            die_with_parent()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen([str(w) for w in words], stdin=theirs, stdout=theirs, stderr=theirs,
                                        env=environment, start_new_session=True, preexec_fn=before)
        os.close(theirs)
        self.fd = ours
        self.seen = ""  # what was not expected yet, without what only moves the cursor

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, timeout=20):
        """Waits for output that matches, and forgets it with all before it; the match."""
        end = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end():]
                return found
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"waited {timeout} s in vain for {pattern!r}; there is {self.seen!r}")
            try:
                text = os.read(self.fd, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                raise AssertionError(f"ended instead of {pattern!r}; there is {self.seen!r}") from None
            self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    def end(self, timeout=10):
        code = self.process.wait(timeout)
        os.close(self.fd)
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class console(SystemTest):
    time_limit = 180

    def terminal(self, *options):
        environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(self.folder),
                       "XDG_STATE_HOME": str(self.folder / "state")}
        x = Terminal([BIN / "varve", *self.node.cli_options(), "console", *options], environment)
        self.addCleanup(x.close)
        return x

    def lines(self, commands, *options, check=True):
        done = self.node.varve("console", "--json", "-c", commands, *options, check=check)
        return [json.loads(line) for line in done.stdout.splitlines()] if check else done

    def agent(self):
        return self.lines("inspect host/1")[0]

    def healthy(self):
        done = self.node.varve("status", "--json", check=False, timeout=20)
        return done.returncode == 0 and '"ok"' in done.stdout

    def test_an_agent_is_killed_from_a_terminal_while_fio_verifies(self):
        volume = self.node.volume("vm1", "32MiB")
        fio(self.folder, volume, "--rw=write", "--bs=1M", "--size=32M")
        enough = threading.Event()
        def load(_):
            fio(self.folder, volume, "--rw=randrw", "--bs=4k", "--size=32M", "--time_based", "--runtime=120",
                "--iodepth=4", "--rate_iops=500", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=64",
                timeout=160, enough=enough)
        with self.background(load):
            try:
                self.use_a_terminal()
                time.sleep(2)
            finally:
                enough.set()
        self.assertEqual(self.agent()["restarts"], 1)
        self.node.wait_migrations()
        self.assertEqual(self.node.homes("vm1")[0], "slow")
        codes = [e["code"] for e in self.node.events()]
        for code in ("CONSOLE_WRITER", "CONSOLE_SEND", "CONSOLE_KILL"):
            self.assertIn(code, codes)

    def use_a_terminal(self):
        x = self.terminal("--allow-write")
        x.expect("with send and kill")
        x.expect("test# ")
        # Commands, paths, messages and names are completed; what was typed so stands in the history below.
        x.type("tr" + TAB + "\n")
        for row in ("/test +node-root +running", "1 +vm-agent +running", r"catalog +catalog +running +\d+ +0 ",
                    r"fast +tier +running +\d+ +0 "):
            x.expect(row)
        x.expect("test# ")
        x.type("inspect ho" + TAB + TAB + "\n")
        x.expect(r"kind +varve\.vm-agent")
        x.expect(r"leases-held +[1-9]")
        x.expect("test# ")
        x.type("send management/migrations " + TAB)
        x.expect("cancel +pause +resume +start")
        x.type("st" + TAB + "vm" + TAB + "zero 1 sl" + TAB + "\n")
        x.expect(r'\(SHARD\) is "zero"; expected a whole number')
        x.expect("test# ")
        x.type("send management/migrations start vm1 0 1 slow\n")
        x.expect(r"migration +\d+")
        x.expect("test# ")
        # Its supervisor heals it.
        x.type("kill host/1\n")
        x.expect("killed /test/host/1")
        x.expect("test# ")
        x.type("watch host/1 200ms\n")
        x.expect(r"state +running")
        x.expect(r"restarts +1")
        x.expect(r"restarts +1")  # again, in the next round
        x.type(CTRL_C)
        x.expect("test# ")
        # The line before is found again; Ctrl-C drops it.
        x.type(UP)
        x.expect("watch host/1 200ms")
        time.sleep(0.3)  # as a person would: libedit may not read again yet
        x.type(CTRL_C)
        x.expect("test# ")
        x.type("quit\n")
        self.assertEqual(x.end(), 0)
        self.assertEqual((self.folder / "state" / "varve" / "history").read_text().splitlines(), [
            "tree", "inspect host/1", "send management/migrations start vm1 zero 1 slow",
            "send management/migrations start vm1 0 1 slow", "kill host/1", "watch host/1 200ms", "quit"])

    def test_history_is_kept_for_its_owner_only_and_found_by_the_next_console(self):
        x = self.terminal()
        x.expect("read-only")
        x.expect("test> ")
        x.type("inspect management/catalog\n")
        x.expect("revision")
        x.expect("test> ")
        x.type(CTRL_D)
        self.assertEqual(x.end(), 0)
        file = self.folder / "state" / "varve" / "history"
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        self.assertEqual(file.read_text(), "inspect management/catalog\n")
        x = self.terminal()
        x.expect("test> ")
        x.type(UP)
        x.expect("inspect management/catalog")
        x.type("\n")
        x.expect("revision")
        x.expect("test> ")
        # What is forbidden is said, and the console goes on.
        x.type("kill management/catalog\n")
        x.expect("read_only: kill changes things: start the console with --allow-write")
        x.expect("test> ")
        # It outlives the node.
        self.node.restart()
        x.type("inspect management/placement\n")
        x.expect("tier-fast +up|tiers-known")
        x.expect("test> ")
        x.type("quit\n")
        self.assertEqual(x.end(), 0)

    def test_scripts_get_a_line_of_json_for_each_command(self):
        self.node.volume("vm1", "32MiB")
        tree, volume, watched, again = self.lines("tree; inspect /test/management/volumes/1; watch tree 100ms --count 2")
        paths = {a["path"]: a for a in tree["actors"]}
        self.assertEqual(paths["/test"]["kind"], "varve.node-root")
        for a in paths.values():
            self.assertEqual(a["state"], "running", a)
            self.assertIsInstance(a["mailbox"], int, a)
        self.assertEqual(volume["facts"]["size"], 32 << 20)
        self.assertEqual((volume["facts"]["name"], volume["facts"]["clients"]), ("vm1", 0))
        self.assertEqual({a["path"] for a in watched["actors"]}, {a["path"] for a in again["actors"]})
        offered, = self.lines("help management/volumes/1")
        self.assertEqual([m["message"] for m in offered["messages"]], ["resize"])
        sent, = self.lines("send management/volumes/1 resize 64MiB", "--allow-write")
        self.assertEqual(sent["answer"]["size"], 64 << 20)
        self.assertEqual(self.node.rows("volume", "ls")[0]["size"], 64 << 20)

    def test_the_first_failure_ends_a_script_with_its_exit_code(self):
        for commands, code, name in (("inspect /test/none; tree", 1, "not_found"), ("bogus; tree", 2, "usage"),
                                     ("kill management/catalog; tree", 1, "read_only"),
                                     ("send management/volumes create vm1 1GiB", 1, "read_only"),
                                     ("watch tree", 2, "usage"), ("inspect 'a", 2, "usage")):
            done = self.lines(commands, check=False)
            self.assertEqual(done.returncode, code, commands)
            self.assertEqual(json.loads(done.stdout)["error"]["code"], name)
        self.assertEqual(self.node.rows("volume", "ls"), [])
        self.assertEqual(self.lines("inspect management/catalog")[0]["restarts"], 0)
        done = self.lines("send management/volumes create vm1 big", "--allow-write", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('(SIZE) is "big"; expected a size in bytes, such as 20GiB', json.loads(done.stdout)["error"]["message"])
        # Without a terminal, lines come from standard input.
        done = subprocess.run([BIN / "varve", *self.node.cli_options(), "console"], input="inspect storage/fast\nquit\n",
                              capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("varve.tier", done.stdout)

    def test_the_root_is_started_again_too(self):
        volume = self.node.volume("vm1", "16MiB")
        self.lines("kill /test", "--allow-write")
        wait_for("the node to heal", self.healthy, 30, 0.1)
        root = self.lines("inspect /test")[0]
        self.assertEqual((root["state"], root["restarts"]), ("running", 1))
        fio(self.folder, volume, "--rw=randwrite", "--bs=4k", "--size=16M", "--verify=crc32c", "--verify_fatal=1")


if __name__ == "__main__":
    main()
