"""The services of shop.proto, on the library of PyPI and Debian. Usage: shop_server.py PORT DESCRIPTORS [REFLECTION…]

REFLECTION is a version of server reflection to offer: v1, v1alpha.
"""

import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

files = descriptor_pb2.FileDescriptorSet.FromString(open(sys.argv[2], "rb").read())
pool = descriptor_pool.DescriptorPool()
for file in files.file:
    pool.Add(file)
factory = message_factory.MessageFactory(pool)
kind = lambda name: factory.GetPrototype(pool.FindMessageTypeByName(name))
Receipt, Order, Event, Text, Empty = map(kind, ["shop.Receipt", "shop.Order", "shop.Event", "shop.Text", "google.protobuf.Empty"])

changed = threading.Condition()
counts = {"running": 0, "cancelled": 0, "next": 0}


def change(name, by):
    with changed:
        counts[name] += by
        changed.notify_all()


def counted(context):
    """Whether the call ends without its handler's doing is what the caller's leaving shows."""
    change("running", 1)
    finished = threading.Event()

    def ended():
        change("running", -1)
        change("cancelled", 0 if finished.is_set() else 1)

    context.add_callback(ended)
    return finished


def place(request, context):
    return Receipt(order=request, total_count=sum(item.count for item in request.items))


def get(request, context):
    if request.id == 404:
        context.abort(grpc.StatusCode.NOT_FOUND, "no order 404 – not one")
    return Receipt(order=Order(id=request.id, customer="ann"), urgent=request.urgent)


def watch(request, context):
    finished = counted(context)
    context.send_initial_metadata((("x-watched", "yes"),))
    begun = counts["next"]
    for number in range(request.count):
        with changed:
            wanted = begun + number - request.at_once + 1
            changed.wait_for(lambda: counts["next"] >= wanted or not context.is_active())
        if not context.is_active():
            return
        yield Event(number=number)
    finished.set()
    if request.status:
        code = next(code for code in grpc.StatusCode if code.value[0] == request.status)
        context.abort(code, "as it was asked to")


def gather(requests, context):
    finished = counted(context)
    orders = list(requests)
    finished.set()
    return Receipt(total_count=sum(item.count for order in orders for item in order.items))


def chat(requests, context):
    finished = counted(context)
    for order in requests:
        yield place(order, context)
    finished.set()


def fail(request, context):
    code = next(code for code in grpc.StatusCode if code.value[0] == request.status)
    trailers = [("x-why", "asked")]
    if request.details:
        known, unknown = any_pb2.Any(), any_pb2.Any(type_url="type.googleapis.com/no.Body", value=b"\x01\xff")
        known.type_url, known.value = "type.googleapis.com/shop.Order", Order(customer="bob").SerializeToString()
        # google.rpc.Status by its field numbers: the library for it is not here.
        details = b"".join(b"\x1a" + bytes([len(any)]) + any for any in (known.SerializeToString(), unknown.SerializeToString()))
        trailers.append(("grpc-status-details-bin", details))
    context.set_trailing_metadata(trailers)
    context.abort(code, request.message)


def inspect(request, context):
    seen = "\n".join(f"{key}: {value}" for key, value in context.invocation_metadata())
    left = context.time_remaining()
    context.send_initial_metadata((("x-initial", "first"),))
    context.set_trailing_metadata((("x-trailing", "last"),))
    return Text(text=seen + f"\ntime-remaining: {left if left is not None and left < 1e6 else None}")


def hang(request, context):
    counted(context)
    with changed:
        changed.wait_for(lambda: not context.is_active())
    return Empty()


def go_on(request, context):
    change("next", 1)
    return Empty()


def count(request, context):
    return Text(text=f"{counts['running']} {counts['cancelled']}")


def unknown(request, context):
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "described, and not there")


def blob(request, context):
    return Text(text="x" * request.bytes)


handlers = {
    "shop.Orders": {
        "Place": place, "Get": get, "Watch": watch, "Gather": gather, "Chat": chat, "Fail": fail, "Blob": blob,
        "Inspect": inspect, "Hang": hang, "Next": go_on, "Count": count,
    },
    "shop.Carts": {"Place": place, "Clear": lambda request, context: Text(text="cleared")},
}
server = grpc.server(
    futures.ThreadPoolExecutor(64),
    options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)],
)
for service, methods in handlers.items():
    known = {}
    for method in pool.FindServiceByName(service).methods:
        described = next(m for file in files.file for s in file.service for m in s.method
                         if f"{file.package}.{s.name}.{m.name}" == method.full_name)
        shape = f"{'stream' if described.client_streaming else 'unary'}_{'stream' if described.server_streaming else 'unary'}"
        known[method.name] = getattr(grpc, shape + "_rpc_method_handler")(
            methods.get(method.name, unknown),
            request_deserializer=factory.GetPrototype(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, known),))
if len(sys.argv) > 3:
    from grpc_reflection.v1alpha import reflection, reflection_pb2

    asked = reflection.ReflectionServicer([*handlers, reflection.SERVICE_NAME], pool=pool)
    handler = grpc.stream_stream_rpc_method_handler(
        asked.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for version in sys.argv[3:]:
        service = f"grpc.reflection.{version}.ServerReflection"
        offered = grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((offered,))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
