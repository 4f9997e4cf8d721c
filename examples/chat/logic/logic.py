"""logic: what may be said in the room, and in which order. Usage: logic.py PORT NAME DATABASE

Instances keep nothing of their own: the room is a table of a database that all of them open. Any of them can be killed at
any time, and what it was doing can be done again elsewhere.
"""

import asyncio
import re
import signal
import sqlite3
import sys
from contextlib import closing
from typing import AsyncIterator

import chat_pb2 as chat
import grpc

ID_LETTERS = 64
AUTHOR_LETTERS = 24
TEXT_LETTERS = 500
# How soon an instance sees what another has written. SQLite cannot notify; a database that can would spare the looking.
LOOK_EVERY_SECONDS = 0.05
BATCH = 100  # messages read at a time

EMOJI = {"tea": "🍵", "wave": "👋", "heart": "❤️", "tada": "🎉", "smile": "🙂"}

ROOM = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    action INTEGER NOT NULL,
    written_by TEXT NOT NULL
)
"""
# Together with UNIQUE: a draft that is sent again, because nobody could tell whether it had been written, is written once.
WRITE = """
INSERT INTO messages (id, author, text, action, written_by) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""
COLUMNS = "number, id, author, text, action, written_by"
WRITTEN = f"SELECT {COLUMNS} FROM messages WHERE id = ?"
NEXT = f"SELECT {COLUMNS} FROM messages WHERE number > ? ORDER BY number LIMIT {BATCH}"


class Refused(Exception):
    """The draft will never be a message; the text says why, for its author to read."""


def understand(draft: chat.Draft) -> tuple[str, bool]:
    """The text as the room shall see it, and whether it is an action."""
    text = draft.text.strip()
    if not 0 < len(draft.id) <= ID_LETTERS or not 0 < len(draft.author.strip()) <= AUTHOR_LETTERS:
        raise Refused(f"a message has an id of up to {ID_LETTERS} letters and an author of up to {AUTHOR_LETTERS}")
    if not text:
        raise Refused("there is nothing to say")
    if len(text) > TEXT_LETTERS:
        raise Refused(f"a message has at most {TEXT_LETTERS} letters, this one has {len(text)}")
    command = re.match(r"/(\S*)\s*", text)
    if command and command[1] != "me":
        raise Refused(f"there is no command /{command[1]}, only /me")
    text = re.sub(r":(\w+):", lambda word: EMOJI.get(word[1], word[0]), text[command.end() :] if command else text)
    if not text:
        raise Refused("/me does what?")
    return text, command is not None


class Logic:
    def __init__(self, name: str, database: sqlite3.Connection):
        self.name = name
        self.database = database

    async def post(self, draft: chat.Draft, context: grpc.aio.ServicerContext) -> chat.Message:
        try:
            text, action = understand(draft)
        except Refused as reason:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(reason))
        self.database.execute(WRITE, (draft.id, draft.author.strip(), text, action, self.name))
        return message(self.database.execute(WRITTEN, (draft.id,)).fetchone())

    async def messages(self, after: chat.After, context: grpc.aio.ServicerContext) -> AsyncIterator[chat.Message]:
        await context.send_initial_metadata(())  # the stream is open, be there a message or not
        number = after.number
        while True:
            for row in self.database.execute(NEXT, (number,)).fetchall():
                yield message(row)
                number = row[0]
            await asyncio.sleep(LOOK_EVERY_SECONDS)


def message(row: tuple) -> chat.Message:
    return chat.Message(**dict(zip(COLUMNS.split(", "), row)))


async def serve(port: str, logic: Logic) -> None:
    server = grpc.aio.server()
    procedures = {
        "Post": grpc.unary_unary_rpc_method_handler(
            logic.post, chat.Draft.FromString, chat.Message.SerializeToString
        ),
        "Messages": grpc.unary_stream_rpc_method_handler(
            logic.messages, chat.After.FromString, chat.Message.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("chat.Logic", procedures),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    # Streams never end by themselves: those who follow are to go on elsewhere.
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()
    await server.stop(grace=1)


def main() -> None:
    port, name, path = sys.argv[1:]
    # Each statement is a transaction of its own, and waits for those of the other instances.
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as database:
        database.execute("PRAGMA journal_mode = WAL")  # reading goes on beside a write
        database.execute(ROOM)
        asyncio.run(serve(port, Logic(name, database)))


main()
