"""Asks the app of held.rs who it is, through a door that curl has no words for, and prints what came of it.

    call.py binary|compact HOST:PORT               Thrift: the answer, or the text of the exception
    call.py tcp HOST:PORT                          raw TCP: what was said, or `reset`
    call.py connect|upgrade HOST:PORT [FIELD]      a tunnel to `store`, an upgrade at `payments`: as from raw TCP, or an error's body; and a line
                                                   with the status and the code of an error
"""

import socket
import sys

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport


def thrift(protocol_of):
    transport = TFramedTransport(TSocket(host, int(port)))
    transport.open()
    protocol = protocol_of(transport)
    protocol.writeMessageBegin("who", TMessageType.CALL, 1)
    protocol.writeStructBegin("who_args")
    protocol.writeFieldStop()
    protocol.writeStructEnd()
    protocol.writeMessageEnd()
    transport.flush()
    _, kind, _ = protocol.readMessageBegin()
    if kind == TMessageType.EXCEPTION:
        failure = TApplicationException()
        failure.read(protocol)
        return failure.message
    protocol.readStructBegin()
    protocol.readFieldBegin()
    return protocol.readString()


def to_the_end(file):
    try:
        return file.read().decode()
    except ConnectionResetError:
        return "reset"


def http(stream, file, start, fields):
    stream.sendall("\r\n".join([start, *fields, *sys.argv[3:], "", ""]).encode())
    status = file.readline().decode().split(" ")[1]
    fields = dict(line.decode().rstrip().lower().split(": ", 1) for line in iter(file.readline, b"\r\n"))
    if status == "200":
        stream.sendall(b"who?\n")
    body = to_the_end(file) if status in ("101", "200") else file.read(int(fields["content-length"])).decode()
    return f"{body}\n{status} {fields.get('x-pillion-error', '')}"


door, (host, port) = sys.argv[1], sys.argv[2].split(":")
if door in ("binary", "compact"):
    print(thrift({"binary": TBinaryProtocol, "compact": TCompactProtocol}[door]))
else:
    stream = socket.create_connection((host, int(port)))
    file = stream.makefile("rb")
    if door == "tcp":
        try:
            stream.sendall(b"who?\n")
            print(to_the_end(file))
        except (BrokenPipeError, ConnectionResetError):
            print("reset")
    elif door == "connect":
        print(http(stream, file, "CONNECT store:6379 HTTP/1.1", ["host: store:6379"]))
    elif door == "upgrade":
        print(http(stream, file, "GET /who HTTP/1.1", ["host: payments", "connection: upgrade", "upgrade: names/1"]))
