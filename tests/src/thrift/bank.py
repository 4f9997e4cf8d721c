"""A service of Apache Thrift's and its caller, by hand against Thrift's own library:

    bank.py serve PORT PROTOCOL NAME            serves, alone and beside others (`Bank:…`)
    bank.py call HOST:PORT PROTOCOL SCENARIO    goes through a scenario and prints a line for each step

    exception Overdrawn { 1: i64 missing, 2: Account account }
    struct Account { 1: string owner, 2: list<i64> sums, 3: map<string, Account> shared }
    service Bank {
      i64 add(1: i64 a, 2: i64 b)
      binary mirror(1: binary data)
      Account merge(1: Account one, 2: Account other)
      i64 withdraw(1: i64 sum) throws (1: Overdrawn why)
      oneway void note(1: string text)
      list<string> notes()
      string who()
    }
"""

import hashlib
import sys
import time

from thrift.protocol.TBase import TBase, TExceptionBase
from thrift.protocol.TBinaryProtocol import TBinaryProtocolFactory
from thrift.protocol.TCompactProtocol import TCompactProtocolFactory
from thrift.protocol.TMultiplexedProtocol import TMultiplexedProtocol
from thrift.server.TServer import TThreadedServer
from thrift.Thrift import TApplicationException, TMessageType, TProcessor, TType
from thrift.TMultiplexedProcessor import TMultiplexedProcessor
from thrift.transport.TSocket import TServerSocket, TSocket
from thrift.transport.TTransport import TFramedTransport, TFramedTransportFactory

PROTOCOLS = {"binary": TBinaryProtocolFactory, "compact": TCompactProtocolFactory}
MEBIBYTE = 1 << 20


def struct(name, *fields, base=TBase):
    """A class for a struct of these fields: (number, type, name, arguments of the type)."""

    def init(self, **values):
        for _, _, field, _ in fields:
            setattr(self, field, values.get(field))

    # The library finds a field by its number.
    specs = {number: (number, kind, field, argument, None) for number, kind, field, argument in fields}
    spec = tuple(specs.get(number) for number in range(max(specs, default=-1) + 1))
    return type(name, (base,), {"__init__": init, "__slots__": [field[2] for field in fields], "thrift_spec": spec})


TEXT = "UTF8"
Account = struct(
    "Account",
    (1, TType.STRING, "owner", TEXT),
    (2, TType.LIST, "sums", (TType.I64, None, False)),
    (3, TType.MAP, "shared", None),
)
# It holds itself.
Account.thrift_spec = Account.thrift_spec[:3] + (
    (3, TType.MAP, "shared", (TType.STRING, TEXT, TType.STRUCT, [Account, None], False), None),
)
ACCOUNT = [Account, None]
Overdrawn = struct(
    "Overdrawn", (1, TType.I64, "missing", None), (2, TType.STRUCT, "account", ACCOUNT), base=TExceptionBase
)


def result(kind, argument=None, *throws):
    return struct("result", (0, kind, "success", argument), *throws)


Nothing = struct("Nothing")
# Each method's arguments and result.
METHODS = {
    "add": (struct("add", (1, TType.I64, "a", None), (2, TType.I64, "b", None)), result(TType.I64)),
    "mirror": (struct("mirror", (1, TType.STRING, "data", "BINARY")), result(TType.STRING, "BINARY")),
    "merge": (
        struct("merge", (1, TType.STRUCT, "one", ACCOUNT), (2, TType.STRUCT, "other", ACCOUNT)),
        result(TType.STRUCT, ACCOUNT),
    ),
    "withdraw": (
        struct("withdraw", (1, TType.I64, "sum", None)),
        result(TType.I64, None, (1, TType.STRUCT, "why", [Overdrawn, None])),
    ),
    "note": (struct("note", (1, TType.STRING, "text", TEXT)), None),
    "notes": (Nothing, result(TType.LIST, (TType.STRING, TEXT, False))),
    "who": (Nothing, result(TType.STRING, TEXT)),
}


class Bank:
    """The service itself."""

    def __init__(self, name):
        self.name = name
        self.noted = []

    def add(self, arguments):
        return arguments.a + arguments.b

    def mirror(self, arguments):
        return arguments.data

    def merge(self, arguments):
        one, other = arguments.one, arguments.other
        return Account(owner=one.owner, sums=one.sums + other.sums, shared={**one.shared, other.owner: other})

    def withdraw(self, arguments):
        raise Overdrawn(missing=arguments.sum, account=Account(owner="gr\u00fc\u00dfe", sums=[1, -1], shared={}))

    def note(self, arguments):
        self.noted.append(arguments.text)

    def notes(self, _):
        return self.noted

    def who(self, _):
        return self.name


class Processor(TProcessor):
    """What Thrift's compiler would write."""

    def __init__(self, service):
        self.service = service

    def process(self, source, sink):
        name, _, number = source.readMessageBegin()
        if name not in METHODS:
            source.skip(TType.STRUCT)
            source.readMessageEnd()
            unknown = TApplicationException(TApplicationException.UNKNOWN_METHOD, "Unknown function " + name)
            return answer(sink, name, TMessageType.EXCEPTION, number, unknown)
        arguments, result = METHODS[name]
        arguments = arguments()
        arguments.read(source)
        source.readMessageEnd()
        if result is None:
            return getattr(self.service, name)(arguments)
        result = result()
        try:
            result.success = getattr(self.service, name)(arguments)
        except Overdrawn as why:
            result.why = why
        answer(sink, name, TMessageType.REPLY, number, result)


def answer(sink, name, kind, number, what):
    sink.writeMessageBegin(name, kind, number)
    what.write(sink)
    sink.writeMessageEnd()
    sink.trans.flush()


def serve(port, protocol, name):
    processor = TMultiplexedProcessor()
    bank = Processor(Bank(name))
    processor.registerProcessor("Bank", bank)
    processor.registerDefault(bank)
    socket = TServerSocket(host="127.0.0.1", port=int(port))
    TThreadedServer(processor, socket, TFramedTransportFactory(), PROTOCOLS[protocol](), daemon=True).serve()


class Client:
    """What Thrift's compiler would write."""

    def __init__(self, target, protocol, service=None):
        host, port = target.rsplit(":", 1)
        socket = TSocket(host, int(port))
        socket.setTimeout(30_000)
        transport = TFramedTransport(socket)
        protocol = PROTOCOLS[protocol]().getProtocol(transport)
        self.protocol = TMultiplexedProtocol(protocol, service) if service else protocol
        self.number = 0
        transport.open()

    def send(self, method, kind, arguments):
        self.number += 1
        self.protocol.writeMessageBegin(method, kind, self.number)
        arguments.write(self.protocol)
        self.protocol.writeMessageEnd()
        self.protocol.trans.flush()

    def call(self, method, **values):
        arguments, result = METHODS.get(method, (struct("none"), result_of_nothing))
        self.send(method, TMessageType.CALL if result else TMessageType.ONEWAY, arguments(**values))
        if not result:
            return None
        _, kind, number = self.protocol.readMessageBegin()
        assert number == self.number, f"asked {self.number}, answered {number}"
        answered = TApplicationException() if kind == TMessageType.EXCEPTION else result()
        answered.read(self.protocol)
        self.protocol.readMessageEnd()
        if isinstance(answered, TApplicationException):
            raise answered
        if getattr(answered, "why", None) is not None:
            raise answered.why
        return answered.success


result_of_nothing = result(TType.STRING, TEXT)


def scenario_all(client):
    print("add", client.call("add", a=2, b=-5), client.call("add", a=2**62, b=2**62 - 1))
    inner = Account(owner="inner", sums=[7], shared={})
    one = Account(owner="one", sums=[1, 2], shared={"inner": inner})
    merged = client.call("merge", one=one, other=Account(owner="other", sums=[-(2**63)], shared={"inner": inner}))
    print("merge", merged.owner, merged.sums, sorted(merged.shared), merged.shared["other"].shared["inner"].sums)
    try:
        client.call("withdraw", sum=17)
    except Overdrawn as why:
        print("withdraw", why.missing, why.account.owner, why.account.sums)
    try:
        client.call("nothing")
    except TApplicationException as failure:
        print("nothing", failure.type, failure.message)
    text = f"one way {time.time_ns()}"
    client.call("note", text=text)
    print("after a oneway", client.call("add", a=1, b=1))
    # Through sidecars the calls behind a oneway one do not wait for it.
    end = time.monotonic() + 20
    while text not in client.call("notes") and time.monotonic() < end:
        time.sleep(0.01)
    print("notes", text in client.call("notes"))
    for size in (0, 4096, 65_536, 5 * MEBIBYTE + 1):
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        back = client.call("mirror", data=data)
        print("mirror", size, hashlib.sha256(back).hexdigest() == hashlib.sha256(data).hexdigest())


def scenario_unknown(client):
    """A oneway call that the server does not know, which it answers nevertheless: straight to it, the next call would fail."""
    client.send("nothing", TMessageType.ONEWAY, Nothing())
    print("after an unknown oneway", client.call("add", a=1, b=1))


def call(target, protocol, scenario):
    service = "Bank" if scenario == "multiplexed" else None
    scenarios = {"all": scenario_all, "multiplexed": scenario_all, "unknown": scenario_unknown}
    scenarios[scenario](Client(target, protocol, service))


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
