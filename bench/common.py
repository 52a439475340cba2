"""common: what the measuring programs share: a process that is read line by line, and the rows of the table."""

import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

RUN_SECONDS = 500  # more than any single guest needs


class Failure(Exception):
    """A side that did not produce a number; says why."""


class Process:
    """A monitor, its output line by line with the time of each, and its sure end."""

    def __init__(self, argv):
        self.name = os.path.basename(argv[0])
        self.start = time.monotonic()
        self.said = []
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.pid = self.process.pid
        self.timer = threading.Timer(RUN_SECONDS, self.process.kill)
        self.timer.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def fail(self, what):
        raise Failure(f"{self.name}: {what}; it said:\n    " + "\n    ".join(self.said[-8:]))

    def lines(self):
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").strip()
            self.said.append(line)
            yield line

    def wait_for(self, pattern):
        """The match of the first line that has it, and the seconds since the start."""
        for line in self.lines():
            match = re.search(pattern, line)
            if match:
                return match, time.monotonic() - self.start
        self.fail(f"never said '{pattern}'")

    def ask(self, test):
        """The number that `load` gives for a test."""
        with contextlib.suppress(BrokenPipeError):  # it says why itself
            self.process.stdin.write(f"{test}\n".encode())
            self.process.stdin.flush()
        return float(self.wait_for(rf"^{test} ([0-9.]+)$")[0][1])

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)  # the guest's timers catch up

    def end(self):
        """All other lines, and the seconds since the start."""
        for _ in self.lines():
            pass
        if self.process.wait() != 0:
            self.fail(f"ended with status {self.process.returncode}")
        return time.monotonic() - self.start


def row(name, unit, ours, peer, theirs):
    value, peer_value = statistics.median(ours), statistics.median(theirs)
    return {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "peer": peer,
        "peer_value": round(peer_value, 1),
        "ratio": round(value / peer_value, 3),
        "better": "lower" if unit in ("ms", "KiB", "ns") else "higher",
    }


def show_life(path):
    while True:
        path.touch()
        time.sleep(1)


def measure(bench, made, groups):
    """Runs the groups, methods of `bench` that yield the parts of rows. Return: did one fail?"""
    failed = False
    threading.Thread(target=show_life, args=(made / "alive",), daemon=True).start()
    for group in groups:
        start = time.monotonic()
        try:
            rows = [json.dumps(row(*parts)) + "\n" for parts in getattr(bench, group.replace("-", "_"))()]
            with (made / "rows").open("a") as out:
                out.writelines(rows)
            with (made / "done").open("a") as out:
                out.write(f"{group}\n")
        except (Failure, OSError) as error:
            print(f"bench: {group}: {error}", file=sys.stderr)
            failed = True
        print(f"bench: {group}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return failed
