"""Customers of the demo: many calls at once, each answer checked against what it must be.

Usage: customers.py PORT CALLS [--posts] [--expect NAME...] [--kill PID...]
With --posts, every other call is a POST, from service to service too. With --kill, `kill -9` those processes after a third
of the calls. Exit code 0: every call was answered, and rightly, and each instance of --expect answered some of them: with
--kill, of those before it.
"""

import argparse
import http.client
import json
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter

CUSTOMERS = 8
# Written down a second time on purpose: the answers are held against it.
CENTS = {"tea": 250, "bread": 320, "honey": 890}


def expected(item, count):
    cents = CENTS[item] * count
    return cents + max(1, cents * 2 // 100)


def ask(connection, number, method):
    """Who answered; raises when the answer is missing or wrong."""
    item, count, name = list(CENTS)[number % 3], 1 + number % 9, f"call-{number}"
    connection.request(method, f"/quote?item={item}&count={count}&id={name}&method={method}")
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ValueError(f"{answer.status} {body.decode(errors='replace').strip()}")
    result = json.loads(body)
    if result["id"] != name or result["cents"] != expected(item, count):
        raise ValueError(f"{result} for {count} x {item}, {name}")
    return result["payments"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("calls", type=int)
    parser.add_argument("--posts", action="store_true")
    parser.add_argument("--expect", nargs="+", default=[])
    parser.add_argument("--kill", type=int, nargs="+", default=[])
    args = parser.parse_args()

    todo, results = queue.SimpleQueue(), queue.SimpleQueue()
    for number in range(args.calls):
        todo.put(number)
    killed = threading.Event()

    def customer():
        connection = http.client.HTTPConnection("127.0.0.1", args.port, timeout=30)
        while True:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            after, start = killed.is_set(), time.monotonic()
            try:
                who, wrong = ask(connection, number, "POST" if args.posts and number % 2 else "GET"), None
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                who, wrong = None, repr(error)
                connection.close()
            results.put((after, who, wrong, time.monotonic() - start))

    threads = [threading.Thread(target=customer, daemon=True) for _ in range(CUSTOMERS)]
    for thread in threads:
        thread.start()
    answered = {False: Counter(), True: Counter()}
    wrongs, slowest = [], 0.0
    for done in range(args.calls):
        if args.kill and done == args.calls // 3:
            for pid in args.kill:
                os.kill(pid, signal.SIGKILL)
            killed.set()
        after, who, wrong, seconds = results.get()
        slowest = max(slowest, seconds)
        if wrong:
            wrongs.append(wrong)
        else:
            answered[after][who] += 1

    def shares(counter):
        return ", ".join(f"{who} {count}" for who, count in sorted(counter.items())) or "nobody"

    right = args.calls - len(wrongs)
    if args.kill:
        print(f"    before the kill: {shares(answered[False])}")
        print(f"    after it:        {shares(answered[True])}")
    else:
        print(f"    answered by:     {shares(answered[False])}")
    print(f"    {right} of {args.calls} calls answered rightly, the slowest after {slowest * 1000:.0f} ms")
    for wrong in wrongs[:5]:
        print(f"    wrong: {wrong}", file=sys.stderr)
    absent = [name for name in args.expect if not answered[False][name]]
    if absent:
        print(f"    no call was answered by {', '.join(absent)}", file=sys.stderr)
    return 1 if wrongs or absent else 0


sys.exit(main())
