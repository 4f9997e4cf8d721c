#!/usr/bin/env python3
"""Has another parser read the corpus, and writes down what it saw, in the corpus' notation.

    pip install h11==0.16.0 && tests/second/read.py h11 > tests/second/h11.txt
    tests/second/read.py node > tests/second/node.txt      (the http server of Node.js, on llhttp)

`tests/differential.rs` compares the tables with our own reading. They are committed, so that neither is needed to run it.
"""

import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|\{(\d+):(.*?)\}|([rnt0\\]))")
LETTERS = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


def unescape(text):
    def plain(match):
        code, count, repeated, letter = match.groups()
        if code:
            return chr(int(code, 16))
        return unescape(repeated) * int(count) if count else LETTERS[letter]

    return ESCAPE.sub(plain, text)


def escape(data):
    text = data.decode("latin-1").replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    return re.sub("[^ -~]", lambda match: "\\x%02x" % ord(match[0]), text)


def cases():
    found = {}
    for line in (HERE / "../corpus/requests.txt").read_text().split("\n"):
        mark, rest = line[:1], line[2:]
        if mark == "@":
            name = rest
            found[name] = b""
        elif mark in (">", "|"):
            found[name] += (unescape(rest) + ("\r\n" if mark == ">" else "")).encode("latin-1")
    return found


def digest(data):
    """FNV-1a: tells that a case was changed after it was read."""
    hashed = 0xCBF29CE484222325
    for byte in data:
        hashed = (hashed ^ byte) * 0x100000001B3 % (1 << 64)
    return "%016x" % hashed


def by_h11(data):
    import h11

    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    messages, end = [], "clean"
    connection.receive_data(data)
    closed = False
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            end = "incomplete" if closed and "closed connection" in str(error) else "refused"
            break
        if isinstance(event, h11.Request):
            fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            messages.append([False, event.method + b" " + event.target, fields, b"", []])
        elif isinstance(event, h11.Data):
            messages[-1][3] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            messages[-1][0] = True
            messages[-1][4] = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif event is h11.NEED_DATA and not closed:
            connection.receive_data(b"")
            closed = True
        elif event is h11.PAUSED and connection.our_state is h11.SEND_RESPONSE:
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is h11.MUST_CLOSE:
                break
            connection.start_next_cycle()
        else:
            break
    return messages, end


def by_node(all_cases):
    text = "\n".join(json.dumps([name, data.hex()]) for name, data in all_cases.items())
    said = subprocess.run(["node", HERE / "node.mjs"], input=text, capture_output=True, text=True, check=True).stdout
    for line in said.splitlines():
        name, messages, end = json.loads(line)
        decode = lambda pairs: [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in pairs]
        yield name, (
            [
                [whole, start.encode("latin-1"), decode(fields), bytes.fromhex(body), decode(trailers)]
                for whole, start, fields, body, trailers in messages
            ],
            end,
        )


def main():
    everything = cases()
    which = sys.argv[1]
    verdicts = dict(by_node(everything)) if which == "node" else {name: by_h11(data) for name, data in everything.items()}
    for name in everything:
        messages, end = verdicts[name]
        print("@ " + name)
        print("? " + digest(everything[name]))
        for whole, start, fields, body, trailers in messages:
            print(("= " if whole else "~ ") + escape(start) + (" " + escape(body) if body else ""))
            for key, value in fields:
                print("- " + escape(key) + ": " + escape(value))
            for key, value in trailers:
                print("+ " + escape(key) + ": " + escape(value))
        print("! " + end)


main()
