// Dubbo of npm with Dubbo's layout on ZooKeeper.
//
//   node dubbozk.js call ADDRESS ROOT     finds com.ex.Echo 1.0 below ROOT by dubbo2.js, by apache-dubbo-js, and by
//                                         sofa-rpc-node; prints a line of JSON for each call
//   node dubbozk.js serve ADDRESS ROOT    serves com.ex.Echo 1.0 of the group blue by sofa-rpc-node, registers it below
//                                         ROOT, and prints a line; withdraws it when its input ends, and ends
//
// sofa-rpc-node with the codec of dubbo-remoting is what egg-dubbo-rpc is made of. Modules are looked for in NODE_PATH.

"use strict";

const SERVICE = "com.ex.Echo";
const logger = { debug() {}, info() {}, warn() {}, error: console.error };

function say(kind, name, outcome) {
  console.log(JSON.stringify({ kind, name, ...outcome }));
}

async function call(address, root) {
  await byDubbo("dubbo2.js", { register: address, zkRoot: root });
  await byDubbo("apache-dubbo-js", { register: require("apache-dubbo-js").zk({ url: address, zkRoot: root }) });
  await bySofa(address, root);
  process.stdout.write("", () => process.exit(0));
}

async function byDubbo(kind, where) {
  const { Dubbo, java, setting } = require(kind);
  const service = {
    echo: (dubbo) =>
      dubbo.proxyService({
        dubboInterface: SERVICE,
        version: "1.0",
        methods: { say: (text) => [java.String(text)], $echo: (text) => [java.String(text)], missing: () => [] },
      }),
  };
  const dubboSetting = setting.match(SERVICE, { version: "1.0" });
  const dubbo = new Dubbo({ application: { name: "node" }, dubboSetting, service, ...where });
  await dubbo.ready();
  for (const name of ["say", "$echo", "missing"]) {
    const { res, err } = await dubbo.service.echo[name]("hi");
    say(kind, name, { value: err ? undefined : res, error: err ? String(err.message || err) : undefined });
  }
}

function registry(address, root) {
  const { ZookeeperRegistry } = require("sofa-rpc-node").registry;
  return new ZookeeperRegistry({ logger, address: `${address}/${root}/` });
}

async function bySofa(address, root) {
  const { RpcClient } = require("sofa-rpc-node").client;
  const protocol = require("dubbo-remoting");
  const client = new RpcClient({ logger, protocol, registry: registry(address, root), group: "", version: "1.0" });
  const consumer = client.createConsumer({ interfaceName: SERVICE });
  await consumer.ready();
  for (const name of ["say", "missing"]) {
    const args = name === "say" ? [{ $class: "java.lang.String", $: "hi" }] : [];
    const outcome = await consumer.invoke(name, args).then(
      (value) => ({ value }),
      (error) => ({ error: error.message }),
    );
    say("sofa-rpc-node", name, outcome);
  }
}

async function serve(address, root) {
  const { RpcServer } = require("sofa-rpc-node").server;
  const server = new RpcServer({
    logger,
    registry: registry(address, root),
    protocol: require("dubbo-remoting"),
    appName: "node",
    port: 0,
    publishAddress: "127.0.0.1",
    group: "blue",
    version: "1.0",
  });
  server.addService(SERVICE, {
    async say(text) {
      return `blue ${text}`;
    },
  });
  await server.start();
  await server.publish();
  console.log("registered");
  process.stdin.on("end", () => server.close().then(() => process.exit(0))).resume();
}

const [what, address, root] = process.argv.slice(2);
(what === "serve" ? serve : call)(address, root);
