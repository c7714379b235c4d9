#!/usr/bin/env python3
"""Tell an Ewaldflow server about sessions, from the computer beside the microscope.

One file, Python 3.8 or newer, nothing to install. Copy it there and run

    python notify.py --server https://server:4280 --user lab --password-file secret.txt
                     --root D:/Data --root-name scope D:/Data/2026-11-21/session_3

after a session, or leave it running with ``--watch`` instead of a folder: series are then announced
as they are finished, and the session when nothing has come for a while. ``--root`` is the folder
that the server sees as ROOT-NAME, over the network or by a copy.

Each message is written to a spool folder first and stays there until the server has taken it: a
server that is away for a night loses nothing, and each message is taken once, however often it is
sent. What the server refuses lies in ``refused`` with the reason.
"""

import argparse
import base64
import hashlib
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

VERSION = 1
FRAMES = {".img", ".smv", ".tif", ".tiff", ".mrc", ".mrcs", ".cbf", ".dm3", ".dm4", ".emd"}
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 120.0


class Refused(Exception):
    """The server will never take this message, and says why."""


def series_of(session):
    """Each series of a session with its frames, by path below the series.

    A series is a folder of the session with frames anywhere in it; the session itself, if frames
    lie beside its folders.
    """
    direct = _frames_below(session, deep=False)
    if direct:
        return {session: direct}
    found = {}
    for one in sorted(session.iterdir()):
        if one.is_dir() and not one.name.startswith("."):
            frames = _frames_below(one, deep=True)
            if frames:
                found[one] = frames
    return found


def _frames_below(folder, deep):
    names = []
    for place, subfolders, files in os.walk(str(folder)):
        subfolders[:] = sorted(name for name in subfolders if deep and not name.startswith("."))
        inside = Path(place).relative_to(folder)
        names += [
            (inside / name).as_posix() for name in files if Path(name).suffix.lower() in FRAMES
        ]
    return sorted(names)


def digest_of(folder, names):
    """(files, bytes, SHA-256 over the lines "sha256 size name") of the frames of a series."""
    whole, size = hashlib.sha256(), 0
    for name in names:
        one, length = hashlib.sha256(), 0
        with open(str(folder / name), "rb") as opened:
            for block in iter(lambda: opened.read(1 << 20), b""):
                one.update(block)
                length += len(block)
        whole.update(f"{one.hexdigest()} {length} {name}\n".encode())
        size += length
    return len(names), size, whole.hexdigest()


def message(root, root_name, session, series, closed, metadata):
    """What is sent: where the session lies below the root, its series, and a name for itself."""
    listed = []
    for folder, names in sorted(series.items()):
        files, size, digest = digest_of(folder, names)
        inside = folder.relative_to(session).as_posix()
        listed.append({"folder": inside, "files": files, "bytes": size, "digest": digest})
    content = {
        "version": VERSION,
        "root": root_name,
        "session": session.relative_to(root).as_posix(),
        "series": listed,
        "closed": bool(closed),
        "metadata": metadata,
    }
    text = json.dumps(content, sort_keys=True).encode("utf-8")
    content["id"] = hashlib.sha256(text).hexdigest()
    return content


class Spool:
    """Messages on their way, one file each: in the folder, then below sent or refused."""

    def __init__(self, folder):
        self.folder = Path(folder)
        for one in (self.folder, self.folder / "sent", self.folder / "refused"):
            one.mkdir(parents=True, exist_ok=True)

    def add(self, content):
        """Keep a message until it is sent; False if it was sent or refused before."""
        name = content["id"] + ".json"
        if any((self.folder / state / name).exists() for state in ("sent", "refused")):
            return False
        if not (self.folder / name).exists():
            draft = self.folder / (name + f".{os.getpid()}.tmp")
            with open(str(draft), "w", encoding="utf-8") as opened:
                json.dump(content, opened)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(str(draft), str(self.folder / name))
        return True

    def waiting(self):
        """Files of the messages not yet sent, oldest first."""
        return sorted(self.folder.glob("*.json"), key=lambda one: (one.stat().st_mtime, one.name))

    def settle(self, file, state, reply):
        """Move a message below `state`, with what the server said beside it."""
        answer = self.folder / state / (file.stem + ".reply.txt")
        answer.write_text(reply, encoding="utf-8")
        os.replace(str(file), str(self.folder / state / file.name))


class Server:
    """The server's address and how to speak to it."""

    def __init__(self, address, user, password, ca_file=None, timeout_s=30.0):
        self.address = address.rstrip("/") + "/notify"
        word = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        self.headers = {"Authorization": "Basic " + word, "Content-Type": "application/json"}
        self.context = None
        if self.address.startswith("https:"):
            self.context = ssl.create_default_context(cafile=ca_file)
        self.timeout_s = timeout_s

    def send(self, body):
        """The server's reply. Raises Refused, or OSError where another try may help."""
        request = urllib.request.Request(self.address, body, self.headers, method="POST")
        try:
            with urllib.request.urlopen(
                request, timeout=self.timeout_s, context=self.context
            ) as reply:
                return reply.read(65536).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            text = error.read(65536).decode("utf-8", "replace").strip()
            # a wrong password, a full or starting server may be mended: keep the message
            if error.code in (400, 403, 404, 413, 422):
                raise Refused(f"{error.code}: {text}") from error
            raise OSError(f"{error.code}: {text}") from error


def deliver(spool, server, say):
    """Send what is waiting, oldest first; True if nothing is left. Raises OSError if it is away."""
    for file in spool.waiting():
        try:
            reply = server.send(file.read_bytes())
        except Refused as error:
            spool.settle(file, "refused", str(error))
            say(f"refused: {error}")
        except FileNotFoundError:
            continue  # another notify.py with this spool was faster
        else:
            spool.settle(file, "sent", reply)
            say(f"sent {file.stem[:12]}")
    return not spool.waiting()


def deliver_all(spool, server, say, give_up_s):
    """Send what is waiting, trying again with growing pauses; False if given up."""
    wait, until = FIRST_WAIT_S, time.monotonic() + give_up_s
    while True:
        try:
            if deliver(spool, server, say):
                return True
        except OSError as error:
            say(f"not sent yet: {error}")
        if time.monotonic() + wait > until:
            return False
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_S)


class Watch:
    """Which series and sessions below a root are finished, by size and time standing still."""

    def __init__(self, root, depth, stable_s, quiet_s):
        self.root, self.depth = Path(root), depth
        self.stable_s, self.quiet_s = stable_s, quiet_s
        self.seen = {}  # series folder -> (state, since)
        self.announced = {}  # series folder -> state
        self.closed = {}  # session folder -> state of all its series

    def look(self, now):
        """(session, series that are newly finished, whether it is over) of each session."""
        news = []
        for session in self._sessions():
            series = series_of(session)
            states = {one: self._state(one, names) for one, names in series.items()}
            fresh, last = {}, 0.0
            for one, state in states.items():
                known, since = self.seen.get(one, (None, now))
                if known != state:
                    self.seen[one] = (state, now)
                    since = now
                last = max(last, since)
                if now - since >= self.stable_s and self.announced.get(one) != state:
                    fresh[one] = series[one]
            over = bool(series) and now - last >= self.quiet_s
            over = over and self.closed.get(session) != states
            if fresh or over:
                news.append((session, series if over else fresh, over, states))
        return news

    def told(self, session, series, over, states):
        """Remember what was announced."""
        for one in series:
            self.announced[one] = states[one]
        if over:
            self.closed[session] = states

    def _sessions(self):
        pattern = "/".join("*" * self.depth)
        return sorted(one for one in self.root.glob(pattern) if one.is_dir())

    @staticmethod
    def _state(folder, names):
        sizes = []
        for name in names:
            try:
                status = (folder / name).stat()
            except OSError:
                sizes.append((name, -1, -1.0))
            else:
                sizes.append((name, status.st_size, status.st_mtime))
        return tuple(sizes)


def watch(options, spool, server, say):
    """Announce series and sessions as they are finished, for ever."""
    looking = Watch(options.root, options.depth, options.stable, options.quiet)
    wait, next_try = FIRST_WAIT_S, 0.0
    while True:
        for session, series, over, states in looking.look(time.monotonic()):
            try:
                spool.add(
                    message(
                        options.root, options.root_name, session, series, over, options.metadata
                    )
                )
            except OSError as error:  # a file went away or is locked: it is looked at again
                say(f"{session}: {error}")
                continue
            looking.told(session, series, over, states)
            say("{}: {} series{}".format(session.name, len(series), ", finished" if over else ""))
            next_try = 0.0
        if spool.waiting() and time.monotonic() >= next_try:
            try:
                deliver(spool, server, say)
                wait = FIRST_WAIT_S
            except OSError as error:
                say(f"not sent yet: {error}")
                next_try = time.monotonic() + wait
                wait = min(2 * wait, LONGEST_WAIT_S)
        time.sleep(options.every)


def arguments(words):
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description="Tell an Ewaldflow server about sessions.",
        epilog="Exit code 0: everything was taken; 1: something waits or was refused; 2: usage.",
    )
    parser.add_argument("session", nargs="?", type=Path, help="folder of a finished session")
    parser.add_argument("--watch", action="store_true", help="watch the root instead, for ever")
    parser.add_argument("--server", required=True, metavar="URL")
    parser.add_argument("--user", required=True)
    parser.add_argument(
        "--password-file",
        required=True,
        type=Path,
        metavar="FILE",
        help="its first line; or '-' for the variable EWALDFLOW_PASSWORD",
    )
    parser.add_argument(
        "--ca-file", metavar="FILE", help="certificate of the server's own authority"
    )
    parser.add_argument(
        "--root", required=True, type=Path, metavar="FOLDER", help="folder that the server sees too"
    )
    parser.add_argument("--root-name", required=True, metavar="NAME", help="as the server calls it")
    parser.add_argument(
        "--spool",
        type=Path,
        default=Path.home() / ".ewaldflow-spool",
        metavar="FOLDER",
        help="where messages wait (%(default)s)",
    )
    parser.add_argument("--instrument", help="name of the instrument, for what headers lack")
    parser.add_argument("--sample", help="name of the sample, so that structures are solved")
    parser.add_argument(
        "--give-up",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds to try; what waits is sent by the next call (%(default)s)",
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=1,
        metavar="N",
        help="folders between the root and a session, with --watch (%(default)s)",
    )
    parser.add_argument(
        "--stable",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds without change after which a series is finished (%(default)s)",
    )
    parser.add_argument(
        "--quiet",
        type=float,
        default=1800.0,
        metavar="S",
        help="seconds without change after which a session is over (%(default)s)",
    )
    parser.add_argument(
        "--every", type=float, default=5.0, metavar="S", help="seconds between looks (%(default)s)"
    )
    options = parser.parse_args(words)
    if options.watch == (options.session is not None):
        parser.error("give the folder of a session, or --watch")
    options.root = options.root.resolve()
    if not options.root.is_dir():
        parser.error(f"--root {options.root}: no such folder")
    if options.session is not None:
        options.session = options.session.resolve()
        if options.root not in options.session.parents or not options.session.is_dir():
            parser.error(f"{options.session}: expected a folder below {options.root}")
    if str(options.password_file) == "-":
        options.password = os.environ.get("EWALDFLOW_PASSWORD", "")
    else:
        try:
            text = options.password_file.read_text(encoding="utf-8")
        except OSError as error:
            parser.error(f"--password-file {options.password_file}: {error.strerror}")
        options.password = text.splitlines()[0].strip() if text.strip() else ""
    if not options.password:
        parser.error("--password-file: found nothing, expected the password in its first line")
    options.metadata = {
        name: value
        for name, value in (("instrument", options.instrument), ("sample", options.sample))
        if value
    }
    return options


def main(words=None):
    """Run; returns the exit code."""
    options = arguments(words)
    spool = Spool(options.spool)
    server = Server(options.server, options.user, options.password, options.ca_file)

    def say(line):
        print("{} {}".format(time.strftime("%H:%M:%S"), line), flush=True)

    if options.watch:
        try:
            watch(options, spool, server, say)
        except KeyboardInterrupt:
            return 0
    series = series_of(options.session)
    if not series:
        print(
            "{}: found no frames, expected files {}".format(
                options.session, " ".join(sorted(FRAMES))
            ),
            file=sys.stderr,
        )
        return 2
    content = message(
        options.root, options.root_name, options.session, series, True, options.metadata
    )
    if not spool.add(content):
        say("sent before: {}".format(content["id"][:12]))
    done = deliver_all(spool, server, say, options.give_up)
    refused = (spool.folder / "refused" / (content["id"] + ".json")).exists()
    return 0 if done and not refused else 1


if __name__ == "__main__":
    sys.exit(main())
