// hessian.js of npm: reads values and writes them again.
//
//     node hessian.js
//
// A line of its input is {"echo": HEX}, or {"case": NAME} for something to write; it is answered with a line: the bytes
// in hex, or {"error": TEXT}.
"use strict";

const readline = require("node:readline");
const hessian = require("hessian.js");

const shared = { a: 1 };

// What the tests ask for by name.
const CASES = {
  numbers: [0, -17, 2048, 262144, 2 ** 40, { $class: "long", $: 16 }, { $class: "double", $: 1 }, 12.25, 0.1, Math.PI],
  others: [null, true, false, new Date(894621091000), new Date(894621060000), Buffer.alloc(5000), Buffer.from("abc")],
  strings: ["", "a", "\u00e9".repeat(40), "\u4e2d".repeat(2000), "a\u{1f600}".repeat(30000)],
  collections: [
    [1, 2],
    { $class: "[int", $: [1, 2, 3] },
    { $class: "java.util.LinkedList", $: ["x"] },
    { a: [], b: {} },
    new Array(20).fill("x"),
  ],
  objects: [
    { $class: "com.ex.Car", $: { color: "red", doors: 4 } },
    { $class: "com.ex.Car", $: { color: "blue", doors: 2 } },
    { $class: "com.ex.Pair", $: { left: shared, right: shared } },
  ],
};

function answer(request) {
  const encoder = new hessian.EncoderV2({ size: 1024 * 1024 });
  let values = CASES[request.case];
  if (request.echo !== undefined) {
    const decoder = new hessian.DecoderV2(Buffer.from(request.echo, "hex"));
    values = [];
    for (let left = request.count; left > 0; left -= 1) values.push(decoder.read(true));
  }
  for (const value of values) encoder.write(value);
  return encoder.get().toString("hex");
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  let reply;
  try {
    reply = answer(JSON.parse(line));
  } catch (error) {
    reply = JSON.stringify({ error: String(error) });
  }
  process.stdout.write(`${reply}\n`);
});
