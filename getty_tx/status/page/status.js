// The live page: sends its query for the table to the feed, and shows the messages of the feed.
"use strict";

const NUMBERS = ["pendingBytes", "dropped", "groups", "readPkgs", "writePkgs", "readBytes", "writeBytes", "age", "silence", "id",
  "subreactor", "pid"];
// Numbers that identify something: these are sorted from the lowest first.
const NAMES = ["id", "subreactor", "pid"];
const PAGE = 50;

const byId = (id) => document.getElementById(id);
const query = { sort: "id", descending: false, offset: 0, limit: PAGE };
let socket = null;
let last = null;
let total = 0;
let mayClose = false;

const plots = [
  new Plot(byId("plots"), "Messages per second", [["in", "--mark"], ["out", "--good"]]),
  new Plot(byId("plots"), "Bytes per second", [["in", "--mark"], ["out", "--good"]]),
  new Plot(byId("plots"), "Latency, ms", [["reactor's lag", "--bad"], ["handler", "--mark"], ["turn", "--good"]]),
  new Plot(byId("plots"), "Open sessions", [["open", "--mark"]]),
  new Plot(byId("plots"), "Pending bytes", [["pending", "--bad"]]),
];

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function health(text, kind) {
  byId("health").textContent = text;
  byId("health").className = kind;
}

function token() {
  return byId("token").value;
}

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function ask() {
  send(query);
}

function connect() {
  const url = new URL("feed", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.onopen = () => {
    if (token()) send({ token: token() });
    ask();
  };
  socket.onmessage = (event) => show(JSON.parse(event.data));
  socket.onclose = () => {
    health("no connection; trying again", "bad");
    last = null;
    setTimeout(connect, 1000);
  };
}

function show(message) {
  if (message.wants) health("give the token of --status-token", "bad");
  if (message.error) byId("said").textContent = message.error;
  if (message.answer) byId("said").textContent = `session ${message.close}: ${message.answer}`;
  if (message.state) showState(message.state);
  if (message.table) showTable(message.table);
}

function rate(state, name) {
  if (last === null || state.time <= last.time) return null;
  return Math.max(0, (state[name] - last[name]) / (state.time - last.time));
}

function milliseconds(seconds) {
  return seconds === null || seconds === undefined ? null : seconds * 1000;
}

function showState(state) {
  mayClose = state.mayClose;
  const said = state.problems.length ? state.problems : ["ready", ...state.warnings];
  health(said.join("; "), state.problems.length || state.warnings.length ? "bad" : "good");
  const rates = Object.fromEntries(
    ["readPkgs", "writePkgs", "readBytes", "writeBytes"].map((name) => [name, rate(state, name)]));
  const numbers = [
    ["open", state.states.open], ["handshaking", state.states.handshaking], ["closing", state.states.closing],
    ["packages in/s", rates.readPkgs], ["out/s", rates.writePkgs], ["pending bytes", state.pendingBytes],
    ["paused", state.paused], ["opened", state.opened], ["closed", state.closed], ["refused", state.refused],
    ["reconnects", state.reconnects], ["queued", state.queued],
  ];
  byId("numbers").replaceChildren(...numbers.map(([name, value]) => {
    const box = element("div");
    box.append(element("dt", name), element("dd", short(value)));
    return box;
  }));
  if (last !== null) {
    plots[0].add(state.time, [rates.readPkgs, rates.writePkgs]);
    plots[1].add(state.time, [rates.readBytes, rates.writeBytes]);
  }
  plots[2].add(state.time, [state.lag, state.handler, state.turn].map(milliseconds));
  plots[3].add(state.time, [state.states.open]);
  plots[4].add(state.time, [state.pendingBytes]);
  byId("services").replaceChildren(...state.services.map((service) => element("li",
    `${service.name} (${service.isStopping ? "stopping" : service.isReady ? "ready" : "not ready"}): ` +
    `${service.sessions} sessions, ${service.endpoints.join(", ")}`)));
  byId("grpcHealth").hidden = !state.grpcHealth.length;
  byId("grpcHealth").querySelector("ul").replaceChildren(...state.grpcHealth.map(showHealth));
  const many = state.subreactors.length > 0;
  byId("errors").querySelector(".sub").hidden = !many;
  byId("errors").tBodies[0].replaceChildren(...state.errors.map((fault) => {
    const row = element("tr");
    row.append(element("td", new Date(fault.time * 1000).toLocaleTimeString()));
    if (many) row.append(element("td", fault.subreactor || "", "number"));
    row.append(element("td", fault.service), element("td", fault.count, "number"), element("td", fault.kind),
      element("td", fault.text), element("td", fault.peer || ""));
    return row;
  }));
  byId("subreactors").hidden = !many;
  byId("subreactors").querySelector("tbody").replaceChildren(...state.subreactors.map((sub) => showSub(sub, state)));
  showProviders(state.providers);
  byId("registries").hidden = !state.registries.length;
  byId("registries").querySelector("ul").replaceChildren(...state.registries.map(showRegistry));
  showGroups(state.groups);
  showCalls(state);
  last = state;
}

// What clients of gRPC are told of each service; by how many processes, if there are several.
function showHealth(server) {
  const item = element("li", server.service);
  const list = element("ul");
  for (const [name, states] of Object.entries(server.names)) {
    const all = Object.entries(states);
    const several = all.reduce((sum, [, count]) => sum + count, 0) > 1;
    list.append(element("li", `${name || "(the whole server)"}: ` +
      all.map(([state, count]) => (several ? `${state} ${short(count)}` : state)).join(", "),
      all.every(([state]) => state === "SERVING") ? "" : "bad"));
  }
  item.append(list);
  return item;
}

// The rates of a process are computed from its last message.
function showSub(sub, state) {
  const before = last && last.subreactors.find((each) => each.pid === sub.pid);
  const seconds = last === null ? 0 : state.time - last.time;
  const rateOf = (...names) => {
    if (!before || before.sessions === undefined || sub.sessions === undefined || seconds <= 0) return null;
    return names.reduce((sum, name) => sum + Math.max(0, sub[name] - before[name]), 0) / seconds;
  };
  const cpu = rateOf("cpu");
  const row = element("tr");
  row.append(element("td", sub.number, "number"), element("td", sub.pid, "number"), element("td", sub.state, sub.state));
  for (const value of [sub.sessions, rateOf("readPkgs", "writePkgs"), rateOf("readBytes", "writeBytes"),
    sub.pendingBytes, cpu === null ? null : cpu * 100, milliseconds(sub.lag)]) {
    row.append(element("td", short(value), "number"));
  }
  return row;
}

// Clients with several endpoints: how many are in which state, and those that need somebody's attention first.
function showProviders(clients) {
  const section = byId("providers");
  section.hidden = !clients.length;
  section.querySelector("ul").replaceChildren(...clients.map((client) => {
    const states = Object.entries(client.states).filter(([, count]) => count);
    const left = states.reduce((sum, [, count]) => sum + count, 0) - client.rows.length;
    return element("li", `${client.service}: ` + (states.map(([state, count]) => `${state} ${short(count)}`).join(", ") || "none") +
      (client.ejections ? `; ejected ${short(client.ejections)} times` : "") + (left > 0 ? `; ${left} are not shown` : ""));
  }));
  section.querySelector("tbody").replaceChildren(...clients.flatMap((client) => client.rows.map((each) => {
    const row = element("tr");
    const kind = ["ejected", "connecting", "ended"].includes(each.state) ? "bad" : "";
    row.append(element("td", client.service), element("td", each.id), element("td", each.state, kind),
      element("td", short(each.seconds), "number"), element("td", `${each.sessions} of ${each.places}`, "number"),
      element("td", each.error));
    return row;
  })));
}

// What is registered there, and what is followed.
function showRegistry(registry) {
  const item = element("li",
    registry.isConnected ? `${registry.name} (connected)` : `${registry.name} (stale for ${short(registry.staleFor)} s)`);
  const list = element("ul");
  for (const each of registry.registrations) {
    list.append(element("li", `${each.service} ${each.id}: ` +
      (each.isRegistered ? "registered" : `not registered${each.error && `: ${each.error}`}`),
      each.isRegistered ? "" : "bad"));
  }
  for (const [service, states] of Object.entries(registry.providers)) {
    list.append(element("li", `${service}: providers ` +
      Object.entries(states).map(([state, count]) => `${state} ${short(count)}`).join(", ")));
  }
  item.append(list);
  return item;
}

function showGroups(groups) {
  byId("groups").hidden = !groups;
  if (!groups) return;
  byId("ofGroups").textContent = `groups ${short(groups.groups)}, memberships ${short(groups.memberships)}, ` +
    `deliveries ${short(groups.deliveries)}, dropped ${short(groups.dropped)}, behind ${short(groups.isBehind)}`;
  byId("groups").querySelector("ul").replaceChildren(...groups.engines.map((engine) => element("li",
    `engine ${engine.name}: ${engine.isUp ? "up" : `away${engine.error && `: ${engine.error}`}`}` +
    (engine.reconnects === null ? "" : `, reconnects ${engine.reconnects}`) +
    (engine.lag === null ? "" : `, lag ${short(milliseconds(engine.lag))} ms`), engine.isUp ? "" : "bad")));
  for (const name of ["largest", "busiest"]) {
    byId(name).hidden = !groups[name].length;
    fill(byId(name), groups[name], (group) => [group.name],
      (group) => [group.members, group.rate, group.deliveries, group.behind]);
  }
  byId("behind").hidden = !groups.behind.length;
  fill(byId("behind"), groups.behind, (member) => [member.group, member.subreactor || "", member.session, member.name],
    (member) => [member.seconds, member.missed]);
}

function fill(table, items, textsOf, numbersOf) {
  table.tBodies[0].replaceChildren(...items.map((item) => {
    const row = element("tr");
    row.append(...textsOf(item).map((text) => element("td", text)),
      ...numbersOf(item).map((number) => element("td", short(number), "number")));
    return row;
  }));
}

// The rates of methods, too; one that was not in the last message has none.
function showCalls(state) {
  const calls = state.calls;
  byId("calls").hidden = !calls;
  if (!calls) return;
  const of = (method) => `${method.service} ${method.side} ${method.method}`;
  const before = new Map(last && last.calls ? last.calls.methods.map((method) => [of(method), method]) : []);
  const seconds = last === null ? 0 : state.time - last.time;
  const left = calls.total - calls.methods.length;
  byId("ofCalls").textContent = `late replies ${calls.lateReplies}, refused ${calls.refused}, time-outs ${calls.timeouts}` +
    (calls.serving ? `, requests running ${calls.serving}` : "") +
    (left > 0 ? `; the ${calls.methods.length} methods with the most calls, without ${left} others` : "");
  byId("calls").querySelector("tbody").replaceChildren(...calls.methods.map((method) => {
    const known = before.get(of(method));
    const rate = known && seconds > 0 ? Math.max(0, method.calls - known.calls) / seconds : null;
    const codes = Object.entries(method.codes).map(([code, count]) => `${code} ${count}`).join(", ");
    const row = element("tr");
    // Names that a server does not have, and those of a client above a number, are counted together.
    row.append(element("td", method.service), element("td", method.side), element("td", method.method || "(others)"));
    for (const text of [short(method.calls), short(rate), short(method.running), short(method.failed),
      duration(method.p50), duration(method.p99), short(method.received), short(method.sent)]) {
      row.append(element("td", text, "number"));
    }
    row.append(element("td", codes));
    return row;
  }));
}

// The last bucket of the times ends at 10 s.
function duration(seconds) {
  return (seconds !== null && seconds >= 10 ? "≥ " : "") + short(milliseconds(seconds));
}

function showHead(columns) {
  const row = byId("sessions").tHead.rows[0];
  if ([...row.cells].map((cell) => cell.dataset.column || "").join() !== [...columns, ""].join()) {
    row.replaceChildren();
    byId("sessions").tBodies[0].replaceChildren();
    for (const name of columns) {
      const cell = element("th");
      cell.scope = "col";
      cell.dataset.column = name;
      const button = element("button", name);
      button.type = "button";
      button.onclick = () => {
        query.descending = query.sort === name ? !query.descending : NUMBERS.includes(name) && !NAMES.includes(name);
        query.sort = name;
        query.offset = 0;
        ask();
      };
      cell.append(button);
      row.append(cell);
    }
    row.append(element("th", ""));
  }
  for (const cell of row.cells) {
    const name = cell.dataset.column;
    if (!name) continue;
    const sorted = name === query.sort;
    cell.setAttribute("aria-sort", sorted ? (query.descending ? "descending" : "ascending") : "none");
    cell.firstChild.textContent = sorted ? `${name} ${query.descending ? "▾" : "▴"}` : name;
  }
}

function showTable(table) {
  if (["sort", "descending", "offset"].some((name) => table[name] !== query[name])) return;
  total = table.total;
  // Without groups there is no column for them.
  if (!last || !last.groups) table.sessions.forEach((session) => delete session.groups);
  if (table.sessions.length) showHead(Object.keys(table.sessions[0]));
  const body = byId("sessions").tBodies[0];
  // Rows are reused by session, so that a row keeps the focus of the keyboard.
  const rows = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const shown = table.sessions.map((session) => {
    const row = rows.get(keyOf(session)) || newRow(session);
    Object.entries(session).forEach(([name, value], place) => {
      const text = String(value);
      if (row.cells[place].textContent !== text) row.cells[place].textContent = text;
    });
    row.lastChild.firstChild.hidden = !mayClose;
    return row;
  });
  const same = shown.length === body.rows.length && shown.every((row, place) => row === body.rows[place]);
  if (!same) {
    const focused = document.activeElement;
    body.replaceChildren(...shown);
    if (focused && focused !== document.activeElement && document.contains(focused)) focused.focus();
  }
  const until = query.offset + table.sessions.length;
  const silent = (table.silent || []).length ? `, without sub-reactor ${table.silent.join(", ")}` : "";
  byId("where").textContent = (total ? `${query.offset + 1} to ${until} of ${total}` : "no sessions") + silent;
  byId("before").disabled = query.offset === 0;
  byId("after").disabled = until >= total;
  if (query.offset && query.offset >= total) turn(-1);
}

// Ids of sessions are unique only within a process.
function keyOf(session) {
  return `${session.pid || ""} ${session.id}`;
}

function newRow(session) {
  const row = element("tr");
  row.dataset.key = keyOf(session);
  for (const name of Object.keys(session)) row.append(element("td", "", NUMBERS.includes(name) ? "number" : ""));
  const button = element("button", "Close");
  button.type = "button";
  const where = session.subreactor ? ` of sub-reactor ${session.subreactor}` : "";
  button.setAttribute("aria-label", `Close session ${session.id}${where}`);
  button.onclick = () => {
    if (token()) {
      send({ close: session.id, pid: session.pid, token: token() });
    } else {
      byId("said").textContent = "closing a session needs the token of --status-token";
      byId("token").focus();
    }
  };
  const cell = element("td");
  cell.append(button);
  row.append(cell);
  return row;
}

function turn(pages) {
  query.offset = Math.max(0, query.offset + pages * PAGE);
  ask();
}

byId("before").onclick = () => turn(-1);
byId("after").onclick = () => turn(1);
byId("token").value = sessionStorage.getItem("token") || "";
byId("access").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", token());
  send({ token: token() });
  ask();
};
connect();
