"""gRPC's interoperability scenarios (grpc/doc/interop-test-descriptions.md) on the library of PyPI and Debian.

Usage: client.py TARGET [AUTHORITY]. Prints a line for each: its name, and `ok` or what went wrong.
"""

import sys
import time
import traceback

import grpc
import interop_pb2 as messages

options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
if len(sys.argv) > 2:
    options.append(("grpc.default_authority", sys.argv[2]))
channel = grpc.insecure_channel(sys.argv[1], options=options)


def call(kind, name, request, response, service="grpc.testing.TestService"):
    make = getattr(channel, kind)
    return make(f"/{service}/{name}", request.SerializeToString, response.FromString)


empty = call("unary_unary", "EmptyCall", messages.Empty, messages.Empty)
unary = call("unary_unary", "UnaryCall", messages.SimpleRequest, messages.SimpleResponse)
output = call(
    "unary_stream", "StreamingOutputCall", messages.StreamingOutputCallRequest, messages.StreamingOutputCallResponse
)
taken = call(
    "stream_unary", "StreamingInputCall", messages.StreamingInputCallRequest, messages.StreamingInputCallResponse
)
duplex = call(
    "stream_stream", "FullDuplexCall", messages.StreamingOutputCallRequest, messages.StreamingOutputCallResponse
)

SIZES = (31415, 9, 2653, 58979)
TAKEN = (27182, 8, 1828, 45904)
LIMIT = 30


def payload(size):
    return messages.Payload(body=bytes(size))


def asked(size, interval_us=0, **more):
    wanted = [messages.ResponseParameters(size=size, interval_us=interval_us)]
    return messages.StreamingOutputCallRequest(response_parameters=wanted, **more)


def failure(run):
    try:
        run()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


class Pipe:
    """Requests that are made one by one."""

    def __init__(self):
        import queue

        self.queue = queue.Queue()

    def send(self, message):
        self.queue.put(message)

    def end(self):
        self.queue.put(None)

    def __iter__(self):
        return iter(self.queue.get, None)


def empty_unary():
    assert empty(messages.Empty(), timeout=LIMIT) == messages.Empty()


def large_unary():
    answer = unary(messages.SimpleRequest(response_size=314159, payload=payload(271828)), timeout=LIMIT)
    assert answer.payload.body == bytes(314159)


def very_large_unary():
    answer = unary(messages.SimpleRequest(response_size=20_000_000, payload=payload(3_000_000)), timeout=LIMIT)
    assert answer.payload.body == bytes(20_000_000)


def client_compressed_unary():
    request = messages.SimpleRequest(response_size=1000, payload=payload(271828))
    answer = unary(request, timeout=LIMIT, compression=grpc.Compression.Gzip)
    assert answer.payload.body == bytes(1000)


def client_streaming():
    requests = (messages.StreamingInputCallRequest(payload=payload(size)) for size in TAKEN)
    assert taken(requests, timeout=LIMIT).aggregated_payload_size == sum(TAKEN)


def server_streaming():
    wanted = [messages.ResponseParameters(size=size) for size in SIZES]
    request = messages.StreamingOutputCallRequest(response_parameters=wanted)
    assert tuple(len(answer.payload.body) for answer in output(request, timeout=LIMIT)) == SIZES


def ping_pong():
    pipe = Pipe()
    answers = duplex(iter(pipe), timeout=LIMIT)
    for size, sent in zip(SIZES, TAKEN):
        pipe.send(asked(size, payload=payload(sent)))
        assert len(next(answers).payload.body) == size
    pipe.end()
    assert list(answers) == []


def empty_stream():
    assert list(duplex(iter(()), timeout=LIMIT)) == []


def cancel_after_begin():
    pipe = Pipe()
    future = taken.future(iter(pipe), timeout=LIMIT)
    future.cancel()
    assert future.cancelled() and future.code() == grpc.StatusCode.CANCELLED
    pipe.end()


def cancel_after_first_response():
    pipe = Pipe()
    answers = duplex(iter(pipe), timeout=LIMIT)
    pipe.send(asked(31415, payload=payload(27182)))
    assert len(next(answers).payload.body) == 31415
    answers.cancel()
    assert failure(lambda: next(answers)).code() == grpc.StatusCode.CANCELLED
    pipe.end()


def timeout_on_sleeping_server():
    pipe = Pipe()
    answers = duplex(iter(pipe), timeout=0.2)
    pipe.send(asked(31415, interval_us=5_000_000, payload=payload(27182)))
    began = time.monotonic()
    assert failure(lambda: next(answers)).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 4
    pipe.end()


def custom_metadata():
    metadata = (
        ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
    )
    _, seen = unary.with_call(
        messages.SimpleRequest(response_size=314159, payload=payload(271828)), timeout=LIMIT, metadata=metadata
    )
    assert metadata[0] in [tuple(item) for item in seen.initial_metadata()], seen.initial_metadata()
    assert metadata[1] in [tuple(item) for item in seen.trailing_metadata()], seen.trailing_metadata()
    pipe = Pipe()
    answers = duplex(iter(pipe), timeout=LIMIT, metadata=metadata)
    pipe.send(asked(314159, payload=payload(271828)))
    assert len(next(answers).payload.body) == 314159
    pipe.end()
    assert list(answers) == []
    assert metadata[0] in [tuple(item) for item in answers.initial_metadata()]
    assert metadata[1] in [tuple(item) for item in answers.trailing_metadata()]


def status_code_and_message():
    wanted = messages.EchoStatus(code=2, message="test status message")
    error = failure(lambda: unary(messages.SimpleRequest(response_status=wanted), timeout=LIMIT))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, wanted.message)
    request = messages.StreamingOutputCallRequest(response_status=wanted)
    error = failure(lambda: list(duplex(iter([request]), timeout=LIMIT)))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, wanted.message)


def special_status_message():
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
    wanted = messages.EchoStatus(code=2, message=message)
    error = failure(lambda: unary(messages.SimpleRequest(response_status=wanted), timeout=LIMIT))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, message), error.details()


def unimplemented_method():
    absent = call("unary_unary", "UnimplementedCall", messages.Empty, messages.Empty)
    assert failure(lambda: absent(messages.Empty(), timeout=LIMIT)).code() == grpc.StatusCode.UNIMPLEMENTED


def unimplemented_service():
    absent = call(
        "unary_unary", "UnimplementedCall", messages.Empty, messages.Empty, "grpc.testing.UnimplementedService"
    )
    assert failure(lambda: absent(messages.Empty(), timeout=LIMIT)).code() == grpc.StatusCode.UNIMPLEMENTED


SCENARIOS = [
    empty_unary,
    large_unary,
    very_large_unary,
    client_compressed_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_sleeping_server,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
]

for scenario in SCENARIOS:
    try:
        scenario()
        print(f"{scenario.__name__:28} ok")
    except Exception:
        print(f"{scenario.__name__:28} {traceback.format_exc()[-600:]!r}")
    sys.stdout.flush()
