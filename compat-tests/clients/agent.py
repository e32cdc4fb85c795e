"""What the Python group members have in common: arguments, commands and events.

A member is called as `MEMBER.py KEY=VALUE ...` (`bootstrap`, `topic`, `group`, `reset`,
`session_ms`, `heartbeat_ms`, `commit`, and where it can `instance`, `assignor`, `protocol`,
`seek_ms`). It consumes until it is told to stop, prints one JSON object per line for everything
that happens, and obeys lines on its standard input: `commit NOTE`, `committed`, `delete GROUP`,
`close`. The scenarios and all judgement are in `compat-tests/src/groups.rs`.
"""

import json
import os
import queue
import sys
import threading

OPTIONS = dict(argument.split("=", 1) for argument in sys.argv[1:])
COMMANDS = queue.SimpleQueue()


def say(event, **more):
    sys.stdout.write(json.dumps({"event": event, **more}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def record(partition, offset, value):
    say("record", partition=partition, offset=offset, value=value.decode())


def offsets(found):
    return {str(partition): offset for partition, offset in found.items()}


def _read_commands():
    for line in sys.stdin:
        verb, _, rest = line.rstrip("\n").partition(" ")
        COMMANDS.put((verb, rest))
    os._exit(3)  # the test has gone


def start():
    threading.Thread(target=_read_commands, daemon=True).start()
    return OPTIONS


def next_command():
    """The next command, or None when there is none now."""
    try:
        return COMMANDS.get_nowait()
    except queue.Empty:
        return None
