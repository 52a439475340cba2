#!/usr/bin/env python3
"""Runs a command on a terminal of its own and plays a script against it.

    pty.py STEP... -- COMMAND...

    size=ROWSxCOLS   set the terminal's size
    expect=TEXT      wait until the output has TEXT (after what the last expect found)
    send=TEXT        type TEXT; \\n, \\r, \\xHH as in Python
    kill=SIGNAL      send a signal to the command
    raw, cooked      wait until the terminal is so

Prints the output; ends with the command's exit status, 128+N for a signal, 99 if a step takes 90 s.
"""
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

STEP_SECONDS = 90


def fail(what):
    sys.stdout.flush()
    print(f"\npty.py: {what}", file=sys.stderr)
    os.kill(pid, signal.SIGKILL)
    sys.exit(99)


def is_raw():
    return not termios.tcgetattr(keeper)[3] & termios.ICANON


def read_some():
    """One piece of output, or b'' if there is none for a moment, or None at the end."""
    if not select.select([master], [], [], 0.05)[0]:
        return b""
    try:
        data = os.read(master, 65536)
    except OSError:
        return None
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    return data or None


def wait_for(condition, what):
    global seen
    deadline = time.monotonic() + STEP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            fail(f"waited in vain for {what}")
        seen += read_some() or b""


def step(word):
    global seen
    name, _, value = word.partition("=")
    if name == "size":
        rows, cols = map(int, value.split("x"))
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    elif name == "expect":
        text = value.encode().decode("unicode_escape").encode("latin1")
        wait_for(lambda: text in seen, repr(value))
        seen = seen[seen.index(text) + len(text):]
    elif name == "send":
        os.write(master, value.encode().decode("unicode_escape").encode("latin1"))
    elif name == "kill":
        os.kill(pid, getattr(signal, "SIG" + value))
    elif name in ("raw", "cooked"):
        wait_for(lambda: is_raw() == (name == "raw"), name)
    else:
        sys.exit(f"pty.py: no step {word}")


split = sys.argv.index("--")
master, slave = os.openpty()
keeper = os.dup(slave)  # the terminal outlives the command, to be looked at
seen = b""
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.closerange(3, 100)
    os.execvp(sys.argv[split + 1], sys.argv[split + 1:])
os.close(slave)
for each in sys.argv[1:split]:
    step(each)
status = None
deadline = time.monotonic() + STEP_SECONDS
while status is None:
    read_some()
    ended, how = os.waitpid(pid, os.WNOHANG)
    if ended:
        status = how
    elif time.monotonic() > deadline:
        fail("the command does not end")
while read_some():
    pass
deadline = time.monotonic() + 5
while is_raw() and time.monotonic() < deadline:
    time.sleep(0.05)
if is_raw():
    print("\npty.py: the terminal was not restored", file=sys.stderr)
    sys.exit(98)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
