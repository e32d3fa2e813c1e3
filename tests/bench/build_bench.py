"""A clean Release build of everything, without ccache."""

import time

import harness


def arguments(parser):
    pass


def measure(report, options, folder):
    harness.run("cmake", "-S", harness.ROOT, "-B", folder / "build", "--preset", "release", "-DCMAKE_CXX_COMPILER_LAUNCHER=", timeout=300)
    began = time.monotonic()
    harness.run("cmake", "--build", folder / "build", timeout=3600)
    seconds = time.monotonic() - began
    report.figures["build_seconds"] = seconds
    report.note(f"built in {seconds:.0f} s")
    report.bar("clean Release build, minutes", seconds / 60, "<=", 8)
