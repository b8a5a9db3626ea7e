// Dubbo of npm: clients of a server here, and a server for clients here.
//
//   node dubbo.js call PORT    calls by dubbo2.js, by apache-dubbo-js, and by the codec of dubbo-remoting, which is that
//                              of egg-dubbo-rpc; prints a line of JSON for each call
//   node dubbo.js serve        prints its port, and serves com.ex.Echo 1.0 by that codec, until its input ends
//
// Modules are looked for in NODE_PATH.

"use strict";

const net = require("net");

const SERVICE = "com.ex.Echo";

async function call(port) {
  await proxied("dubbo2.js", port);
  await proxied("apache-dubbo-js", port);
  await new Promise((resolve) => remoting(port, resolve));
  process.stdout.write("", () => process.exit(0));
}

function say(kind, name, outcome) {
  console.log(JSON.stringify({ kind, name, ...outcome }));
}

async function proxied(kind, port) {
  const library = require(kind);
  const java = require("js-to-java");
  const Direct = library.DirectlyDubbo || library.directlyDubbo;
  const settings = { dubboAddress: `127.0.0.1:${port}`, dubboVersion: "2.0.2", dubboInvokeTimeout: 5 };
  const dubbo = Direct.from ? Direct.from(settings) : new Direct(settings);
  const service = dubbo.proxyService({
    dubboInterface: SERVICE,
    version: "1.0",
    methods: {
      say: (text) => [java.String(text)],
      add: (one, other) => [java.int(one), java.long(other)],
      names: (list) => [java.List(list.map((each) => java.String(each)))],
      car: (color) => [java.combine("com.ex.Car", { color, doors: 3 })],
      nothing: () => [],
      fail: (text) => [java.String(text)],
      missing: () => [],
    },
  });
  const calls = [
    ["say", "hi"],
    ["say", "é\u{1f600}".repeat(20)],
    ["say", "x".repeat(70000)],
    ["add", 1, 40],
    ["names", ["a", "b"]],
    ["car", "red"],
    ["nothing"],
    ["fail", "sold"],
    ["missing"],
  ];
  for (const [name, ...args] of calls) {
    const { res, err } = await service[name](...args);
    say(kind, name, { value: err ? undefined : res, error: err ? String(err.message || err) : undefined });
  }
  const many = await Promise.all(Array.from({ length: 50 }, (_, at) => service.say(`call ${at}`)));
  say(kind, "many", { value: many.every(({ res }, at) => res === `call ${at}`) });
}

function streams(socket, handlers) {
  const protocol = require("dubbo-remoting");
  const shared = { sentReqs: new Map(), classCache: new Map() };
  const encoder = protocol.encoder(shared);
  const decoder = protocol.decoder(shared);
  encoder.pipe(socket);
  socket.pipe(decoder);
  for (const [event, handler] of Object.entries(handlers(encoder))) decoder.on(event, handler);
  return encoder;
}

function remoting(port, end) {
  const kind = "dubbo-remoting";
  const args = [
    ["say", [{ $class: "java.lang.String", $: "hi" }]],
    ["add", [{ $class: "int", $: 1 }, { $class: "long", $: 40 }]],
    ["car", [{ $class: "com.ex.Car", $: { color: { $class: "java.lang.String", $: "red" }, doors: { $class: "int", $: 3 } } }]],
    ["nothing", []],
    ["fail", [{ $class: "java.lang.String", $: "sold" }]],
    ["missing", []],
  ];
  const socket = net.connect(port, "127.0.0.1");
  let left = args.length + 1;
  const done = () => --left || end();
  const encoder = streams(socket, () => ({
    response: ({ packetId, data }) => {
      const error = data.error ? String(data.error.message || data.error) : undefined;
      say(kind, args[packetId - 1][0], { value: data.appResponse, error, more: data.responseProps || undefined });
      done();
    },
    heartbeat: (beat) => encoder.writeHeartbeatAck(beat),
    heartbeat_ack: ({ packetId }) => {
      say(kind, "heartbeat", { value: packetId });
      done();
    },
  }));
  encoder.writeHeartbeat(99, { clientUrl: "" });
  args.forEach(([methodName, values], at) => {
    const request = { serverSignature: `${SERVICE}:1.0`, methodName, args: values, requestProps: { user: "1" }, timeout: 3000 };
    encoder.writeRequest(at + 1, request);
  });
}

function serve() {
  const methods = {
    say: (text) => text,
    add: (one, other) => Number(one) + Number(other),
    nothing: () => null,
    fail: (text) => ({ $class: "com.ex.SoldException", $: { detailMessage: { $class: "java.lang.String", $: text } } }),
    attachments: (props) => props,
  };
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    const encoder = streams(socket, () => ({
      heartbeat: (beat) => encoder.writeHeartbeatAck(beat),
      heartbeat_ack: () => {},
      request: (request) => {
        const { methodName, args, requestProps, serverSignature } = request.data;
        const method = methods[methodName];
        if (serverSignature !== `${SERVICE}:1.0` || !method) {
          encoder.writeResponse(request, { isError: true, errorMsg: `no ${serverSignature} ${methodName}` });
        } else {
          const value = methodName === "attachments" ? methods.attachments(requestProps) : method(...args);
          encoder.writeResponse(request, { isError: false, errorMsg: null, appResponse: value });
        }
      },
    }));
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
  process.stdin.on("end", () => process.exit(0)).resume();
}

const [what, port] = process.argv.slice(2);
if (what === "serve") serve();
else call(Number(port));
