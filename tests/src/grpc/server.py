"""gRPC's interoperability service, on the library of PyPI and Debian. Usage: server.py PORT [SOCKET]"""

import sys
import time
from concurrent import futures

import grpc
import interop_pb2 as messages

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"


def echo_metadata(context):
    for key, value in context.invocation_metadata():
        if key == ECHO_INITIAL:
            context.send_initial_metadata(((key, value),))
        if key == ECHO_TRAILING:
            context.set_trailing_metadata(((key, value),))


def echo_status(request, context):
    if request.HasField("response_status"):
        status = request.response_status
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.set_code(code)
        context.set_details(status.message)


def empty(request, context):
    echo_metadata(context)
    return messages.Empty()


def unary(request, context):
    echo_metadata(context)
    echo_status(request, context)
    return messages.SimpleResponse(payload=messages.Payload(body=bytes(request.response_size)))


def output(request, context):
    for wanted in request.response_parameters:
        time.sleep(wanted.interval_us / 1e6)
        yield messages.StreamingOutputCallResponse(payload=messages.Payload(body=bytes(wanted.size)))


def taken(requests, context):
    total = sum(len(request.payload.body) for request in requests)
    return messages.StreamingInputCallResponse(aggregated_payload_size=total)


def duplex(requests, context):
    echo_metadata(context)
    for request in requests:
        echo_status(request, context)
        yield from output(request, context)


def inspect(request, context):
    """What the app sees of a call: its metadata, the peer's name for it, and the time that is left."""
    shown = lambda value: value if isinstance(value, str) else "the same" if value == bytes(range(256)) else value.hex()
    seen = "\n".join(f"{key}: {shown(value)}" for key, value in context.invocation_metadata())
    left = context.time_remaining()
    seen += f"\ntime-remaining: {left if left is not None and left < 1e6 else None}"
    return messages.SimpleResponse(payload=messages.Payload(body=seen.encode()))


def method(kind, handler, request, response):
    make = getattr(grpc, kind + "_rpc_method_handler")
    return make(handler, request_deserializer=request.FromString, response_serializer=response.SerializeToString)


TEST = {
    "EmptyCall": method("unary_unary", empty, messages.Empty, messages.Empty),
    "UnaryCall": method("unary_unary", unary, messages.SimpleRequest, messages.SimpleResponse),
    "Inspect": method("unary_unary", inspect, messages.SimpleRequest, messages.SimpleResponse),
    "StreamingOutputCall": method(
        "unary_stream", output, messages.StreamingOutputCallRequest, messages.StreamingOutputCallResponse
    ),
    "StreamingInputCall": method(
        "stream_unary", taken, messages.StreamingInputCallRequest, messages.StreamingInputCallResponse
    ),
    "FullDuplexCall": method(
        "stream_stream", duplex, messages.StreamingOutputCallRequest, messages.StreamingOutputCallResponse
    ),
}

server = grpc.server(
    futures.ThreadPoolExecutor(64),
    options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.testing.TestService", TEST),))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
for path in sys.argv[2:]:
    server.add_insecure_port("unix:" + path)
server.start()
server.wait_for_termination()
