// npm's gRPC, as a client or a server of the interop service.
//
//     node interop.js client|server interop.proto
//
// A line of its input is answered with one. The client gets {"case": NAME, "port": PORT} and says {"error": TEXT}, the
// server says {"port": PORT}.
"use strict";

const assert = require("node:assert");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [role, proto] = process.argv.slice(2);
const { testing } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, defaults: true })).grpc;

const INITIAL = "x-grpc-test-echo-initial";
const TRAILING = "x-grpc-test-echo-trailing-bin";
const REQUESTS = [27182, 8, 1828, 45904];
const REPLIES = [31415, 9, 2653, 58979];
const [LARGE_REQUEST, LARGE_REPLY] = [271828, 314159];
const SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \u{1f608}\t\n";

const payload = (size) => ({ body: Buffer.alloc(size) });
const outputs = (sizes, size = 0, more = {}) => ({
  response_parameters: sizes.map((each) => ({ size: each })),
  payload: payload(size),
  ...more,
});

// Calls that end once, as promises.

function unary(client, method, request, metadata = new grpc.Metadata(), options = {}) {
  return new Promise((resolve, reject) => {
    const found = {};
    const call = client[method](request, metadata, options, (error, reply) => {
      found.error = error;
      found.reply = reply;
      if (error) reject(error);
    });
    call.on("metadata", (initial) => (found.initial = initial));
    call.on("status", (status) => {
      found.status = status;
      if (!status.code) resolve(found);
    });
  });
}

function collected(call) {
  return new Promise((resolve, reject) => {
    const replies = [];
    call.on("data", (reply) => replies.push(reply.payload.body.length));
    call.on("error", reject);
    call.on("end", () => resolve(replies));
  });
}

async function fails(promise, code, text) {
  const error = await promise.then(() => assert.fail("it has not failed"), (error) => error);
  assert.strictEqual(error.code, code, String(error));
  if (text !== undefined) assert.strictEqual(error.details, text);
}

const large = (client, options) =>
  unary(client, "UnaryCall", { response_size: LARGE_REPLY, payload: payload(LARGE_REQUEST) }, undefined, options);

const cases = {
  async empty_unary(client) {
    assert.deepStrictEqual((await unary(client, "EmptyCall", {})).reply, {});
  },
  async large_unary(client) {
    assert.strictEqual((await large(client)).reply.payload.body.length, LARGE_REPLY);
  },
  async server_compressed_unary(client) {
    const request = { response_size: LARGE_REPLY, payload: payload(LARGE_REQUEST), response_compressed: { value: true } };
    assert.strictEqual((await unary(client, "UnaryCall", request)).reply.payload.body.length, LARGE_REPLY);
  },
  async client_compressed_unary(client, port) {
    const options = { "grpc.default_compression_algorithm": 2 };
    const other = new testing.TestService(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options);
    try {
      assert.strictEqual((await large(other)).reply.payload.body.length, LARGE_REPLY);
    } finally {
      other.close();
    }
  },
  client_streaming(client) {
    return new Promise((resolve, reject) => {
      const call = client.StreamingInputCall((error, reply) => {
        if (error) return reject(error);
        assert.strictEqual(reply.aggregated_payload_size, 74922);
        resolve();
      });
      for (const size of REQUESTS) call.write({ payload: payload(size) });
      call.end();
    });
  },
  async server_streaming(client) {
    assert.deepStrictEqual(await collected(client.StreamingOutputCall(outputs(REPLIES))), REPLIES);
  },
  ping_pong(client) {
    return new Promise((resolve, reject) => {
      const call = client.FullDuplexCall();
      let at = 0;
      const next = () => (at < REQUESTS.length ? call.write(outputs([REPLIES[at]], REQUESTS[at])) : call.end());
      call.on("data", (reply) => {
        if (reply.payload.body.length !== REPLIES[at]) reject(new Error(`${reply.payload.body.length} bytes`));
        at += 1;
        next();
      });
      call.on("error", reject);
      call.on("end", () => (at === REQUESTS.length ? resolve() : reject(new Error(`${at} replies`))));
      next();
    });
  },
  async empty_stream(client) {
    const call = client.FullDuplexCall();
    call.end();
    assert.deepStrictEqual(await collected(call), []);
  },
  async custom_metadata(client) {
    const metadata = new grpc.Metadata();
    metadata.set(INITIAL, "test_initial_metadata_value");
    metadata.set(TRAILING, Buffer.from([0xab, 0xab, 0xab]));
    const found = await unary(client, "UnaryCall", { response_size: 10 }, metadata);
    assert.deepStrictEqual(found.initial.get(INITIAL), ["test_initial_metadata_value"]);
    assert.deepStrictEqual(found.status.metadata.get(TRAILING), [Buffer.from([0xab, 0xab, 0xab])]);
  },
  async status_code_and_message(client) {
    const response_status = { code: 2, message: "test status message" };
    await fails(unary(client, "UnaryCall", { response_status }), 2, "test status message");
    const call = client.FullDuplexCall();
    call.write(outputs([], 0, { response_status }));
    call.end();
    await fails(collected(call), 2, "test status message");
  },
  async special_status_message(client) {
    await fails(unary(client, "UnaryCall", { response_status: { code: 2, message: SPECIAL } }), 2, SPECIAL);
  },
  async unimplemented_method(client) {
    await fails(unary(client, "UnimplementedCall", {}), 12);
  },
  async unimplemented_service(client, port) {
    const other = new testing.UnimplementedService(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    await fails(unary(other, "UnimplementedCall", {}), 12);
    other.close();
  },
  async cancel_after_begin(client) {
    await fails(
      new Promise((resolve, reject) => {
        const call = client.StreamingInputCall((error, reply) => (error ? reject(error) : resolve(reply)));
        call.cancel();
      }),
      1,
    );
  },
  async cancel_after_first_response(client) {
    const call = client.FullDuplexCall();
    call.write(outputs([31415], 27182));
    call.once("data", () => call.cancel());
    await fails(collected(call), 1);
  },
  async timeout_on_sleeping_server(client) {
    const call = client.FullDuplexCall(new grpc.Metadata(), { deadline: Date.now() + 1 });
    call.write(outputs([], 27182));
    await fails(collected(call), 4);
  },
  async concurrent_large_unary(client) {
    for (const found of await Promise.all(Array.from({ length: 50 }, () => large(client)))) {
      assert.strictEqual(found.reply.payload.body.length, LARGE_REPLY);
    }
  },
};

// The server

function trailing(call) {
  const metadata = new grpc.Metadata();
  for (const value of call.metadata.get(TRAILING)) metadata.add(TRAILING, value);
  return metadata;
}

function begin(call) {
  const metadata = new grpc.Metadata();
  for (const value of call.metadata.get(INITIAL)) metadata.add(INITIAL, value);
  if (call.metadata.get(INITIAL).length) call.sendMetadata(metadata);
}

const statusOf = ({ response_status: status }) => (status ? { code: status.code, details: status.message } : null);

const service = {
  EmptyCall: (call, answer) => answer(null, {}),
  UnaryCall(call, answer) {
    begin(call);
    answer(statusOf(call.request), { payload: payload(call.request.response_size) }, trailing(call));
  },
  StreamingOutputCall(call) {
    for (const { size } of call.request.response_parameters) call.write({ payload: payload(size) });
    call.end();
  },
  StreamingInputCall(call, answer) {
    let aggregated_payload_size = 0;
    call.on("data", (request) => (aggregated_payload_size += request.payload.body.length));
    call.on("end", () => answer(null, { aggregated_payload_size }));
  },
  FullDuplexCall(call) {
    begin(call);
    call.on("data", (request) => {
      const status = statusOf(request);
      if (status) return call.emit("error", status);
      for (const { size } of request.response_parameters) call.write({ payload: payload(size) });
    });
    call.on("error", () => {});
    call.on("end", () => call.end(trailing(call)));
  },
};

async function* lines() {
  for await (const line of readline.createInterface({ input: process.stdin })) yield JSON.parse(line);
}

const say = (words) => process.stdout.write(JSON.stringify(words) + "\n");

async function asClient() {
  for await (const words of lines()) {
    if (words.list) {
      say({ cases: Object.keys(cases) });
      continue;
    }
    const client = new testing.TestService(`127.0.0.1:${words.port}`, grpc.credentials.createInsecure());
    let error = "";
    try {
      await cases[words.case](client, words.port);
    } catch (failure) {
      error = failure.stack || String(failure);
    }
    client.close();
    say({ error });
  }
}

async function asServer() {
  const server = new grpc.Server();
  server.addService(testing.TestService.service, service);
  const port = await new Promise((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  for await (const _ of lines()) say({ port });
  process.exit(0);
}

(role === "client" ? asClient : asServer)();
