#!/usr/bin/python3
"""RDMA by verbs, on a software device in a virtual machine."""

import unittest

from harness import BIN, main
from rdma_machine import RdmaMachine


class verbs(unittest.TestCase):
    """What tests/rdma/verbs.cpp says of connections, messages and writes."""

    def test_unit_tests_in_a_machine_with_a_device(self):
        missing = RdmaMachine.missing()
        if missing:
            self.skipTest(missing)
        done = RdmaMachine(timeout=240).run(BIN / "test_verbs", "--color_output=no")
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-4000:])
        self.assertRegex(done.stdout, r"Running [1-9]\d* test cases", "it says what it ran")


if __name__ == "__main__":
    main()
