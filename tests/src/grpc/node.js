// gRPC's interoperability scenarios on the library of npm. Usage: node.js serve PORT | node.js call TARGET [AUTHORITY]

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const loaded = loader.loadSync(process.env.INTEROP_PROTO, { keepCase: true, defaults: true });
const { TestService, UnimplementedService } = grpc.loadPackageDefinition(loaded).grpc.testing;
const INITIAL = "x-grpc-test-echo-initial";
const TRAILING = "x-grpc-test-echo-trailing-bin";
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const payload = (size) => ({ body: Buffer.alloc(size) });

function echo(call) {
  const [initial, trailing] = [new grpc.Metadata(), new grpc.Metadata()];
  call.metadata.get(INITIAL).forEach((value) => initial.set(INITIAL, value));
  call.metadata.get(TRAILING).forEach((value) => trailing.set(TRAILING, value));
  call.sendMetadata(initial);
  return trailing;
}

function failed(status, trailing) {
  return Object.assign(new Error(status.message), { code: status.code, details: status.message, metadata: trailing });
}

function serve(port) {
  const server = new grpc.Server({ "grpc.max_receive_message_length": -1 });
  server.addService(TestService.service, {
    EmptyCall: (call, done) => done(null, {}, echo(call)),
    UnaryCall: (call, done) => {
      const trailing = echo(call);
      const status = call.request.response_status;
      if (status) done(failed(status, trailing));
      else done(null, { payload: payload(call.request.response_size) }, trailing);
    },
    StreamingOutputCall: async (call) => {
      for (const wanted of call.request.response_parameters) {
        await pause(wanted.interval_us / 1000);
        call.write({ payload: payload(wanted.size) });
      }
      call.end();
    },
    StreamingInputCall: (call, done) => {
      let total = 0;
      call.on("data", (request) => (total += request.payload.body.length));
      call.on("end", () => done(null, { aggregated_payload_size: total }));
    },
    FullDuplexCall: (call) => {
      const trailing = echo(call);
      let turn = Promise.resolve();
      call.on("data", (request) => {
        turn = turn.then(async () => {
          if (request.response_status) return call.emit("error", failed(request.response_status, trailing));
          for (const wanted of request.response_parameters) {
            await pause(wanted.interval_us / 1000);
            call.write({ payload: payload(wanted.size) });
          }
        });
      });
      call.on("end", () => turn.then(() => call.end(trailing)));
    },
  });
  server.bindAsync("127.0.0.1:" + port, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error) throw error;
  });
}

async function call(target, authority) {
  const options = { "grpc.max_receive_message_length": -1, "grpc.enable_retries": 0 };
  if (authority) options["grpc.default_authority"] = authority;
  const client = new TestService(target, grpc.credentials.createInsecure(), options);
  const limit = (seconds = 30) => ({ deadline: Date.now() + seconds * 1000 });
  const SIZES = [31415, 9, 2653, 58979];
  const TAKEN = [27182, 8, 1828, 45904];
  const check = (condition, what) => {
    if (!condition) throw new Error("not so: " + what);
  };
  const unary = (name, request, metadata = new grpc.Metadata(), at = client) =>
    new Promise((resolve, reject) => {
      const seen = {};
      const sent = at[name](request, metadata, limit(), (error, answer) =>
        error ? reject(error) : (seen.answer = answer));
      sent.on("metadata", (initial) => (seen.initial = initial));
      sent.on("status", (status) => (seen.trailing = status.metadata) && seen.answer && resolve(seen));
    });
  const failure = (promise) =>
    promise.then(() => check(false, "it failed"), (error) => error);
  // All answers of a stream; `each` gets every one as it comes.
  const answers = (stream, each = () => {}) =>
    new Promise((resolve, reject) => {
      const all = [];
      stream.on("data", (answer) => {
        all.push(answer.payload.body.length);
        each(all.length);
      });
      stream.on("error", reject);
      stream.on("end", () => resolve(all));
    });
  const asked = (size, more = {}) => ({ response_parameters: [{ size, interval_us: 0 }], ...more });
  const metadata = () => {
    const sent = new grpc.Metadata();
    sent.set(INITIAL, "test_initial_metadata_value");
    sent.set(TRAILING, Buffer.from([0xab, 0xab, 0xab]));
    return sent;
  };
  const bytes = (seen) => seen.get(TRAILING).map((value) => value.toString("hex")).join();

  const scenarios = {
    empty_unary: async () => check((await unary("EmptyCall", {})).answer, "an answer"),
    large_unary: async () => {
      const seen = await unary("UnaryCall", { response_size: 314159, payload: payload(271828) });
      check(seen.answer.payload.body.length === 314159, "the size");
    },
    client_streaming: () =>
      new Promise((resolve, reject) => {
        const stream = client.StreamingInputCall(new grpc.Metadata(), limit(), (error, answer) =>
          error ? reject(error) : resolve(check(answer.aggregated_payload_size === 74922, "the sum")));
        TAKEN.forEach((size) => stream.write({ payload: payload(size) }));
        stream.end();
      }),
    server_streaming: async () => {
      const wanted = { response_parameters: SIZES.map((size) => ({ size, interval_us: 0 })) };
      const all = await answers(client.StreamingOutputCall(wanted, new grpc.Metadata(), limit()));
      check(String(all) === String(SIZES), all);
    },
    ping_pong: async () => {
      const stream = client.FullDuplexCall(new grpc.Metadata(), limit());
      const send = (turn) =>
        turn < 4 ? stream.write(asked(SIZES[turn], { payload: payload(TAKEN[turn]) })) : stream.end();
      send(0);
      const all = await answers(stream, send);
      check(String(all) === String(SIZES), all);
    },
    empty_stream: async () => {
      const stream = client.FullDuplexCall(new grpc.Metadata(), limit());
      stream.end();
      check((await answers(stream)).length === 0, "no answer");
    },
    cancel_after_begin: async () => {
      const error = await failure(new Promise((resolve, reject) => {
        const stream = client.StreamingInputCall(new grpc.Metadata(), limit(), (error) =>
          error ? reject(error) : resolve());
        stream.cancel();
      }));
      check(error.code === grpc.status.CANCELLED, error);
    },
    cancel_after_first_response: async () => {
      const stream = client.FullDuplexCall(new grpc.Metadata(), limit());
      stream.write(asked(31415, { payload: payload(27182) }));
      const error = await failure(answers(stream, () => stream.cancel()));
      check(error.code === grpc.status.CANCELLED, error);
    },
    timeout_on_sleeping_server: async () => {
      const stream = client.FullDuplexCall(new grpc.Metadata(), limit(0.2));
      stream.write({ response_parameters: [{ size: 31415, interval_us: 5000000 }], payload: payload(27182) });
      const error = await failure(answers(stream));
      check(error.code === grpc.status.DEADLINE_EXCEEDED, error);
    },
    custom_metadata: async () => {
      const seen = await unary("UnaryCall", { response_size: 314159, payload: payload(271828) }, metadata());
      check(String(seen.initial.get(INITIAL)) === "test_initial_metadata_value", "the initial metadata");
      check(bytes(seen.trailing) === "ababab", "the trailing metadata");
    },
    status_code_and_message: async () => {
      const status = { code: 2, message: "test status message" };
      const error = await failure(unary("UnaryCall", { response_status: status }));
      check(error.code === 2 && error.details === status.message, error);
      const stream = client.FullDuplexCall(new grpc.Metadata(), limit());
      stream.write({ response_status: status });
      stream.end();
      const again = await failure(answers(stream));
      check(again.code === 2 && again.details === status.message, again);
    },
    special_status_message: async () => {
      const message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
      const error = await failure(unary("UnaryCall", { response_status: { code: 2, message } }));
      check(error.code === 2 && error.details === message, error);
    },
    unimplemented_method: async () => {
      const error = await failure(unary("UnimplementedCall", {}));
      check(error.code === grpc.status.UNIMPLEMENTED, error);
    },
    unimplemented_service: async () => {
      const other = new UnimplementedService(target, grpc.credentials.createInsecure(), options);
      const error = await failure(unary("UnimplementedCall", {}, new grpc.Metadata(), other));
      check(error.code === grpc.status.UNIMPLEMENTED, error);
      other.close();
    },
  };
  for (const [name, scenario] of Object.entries(scenarios)) {
    await scenario().then(
      () => console.log(name.padEnd(28), "ok"),
      (error) => console.log(name.padEnd(28), error),
    );
  }
  client.close();
}

const [verb, ...rest] = process.argv.slice(2);
verb === "serve" ? serve(...rest) : call(...rest);
