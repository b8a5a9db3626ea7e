// A client of npm's centrifuge that does what lines of JSON on its standard input say, and prints what it hears.
'use strict';
const { Centrifuge } = require('centrifuge');
const WebSocket = require('ws');
const readline = require('readline');

const url = process.argv[2];
const say = (event, value) => console.log(JSON.stringify([event, value]));
const subs = {};
const told = { token: process.argv[3] || '' };
const client = new Centrifuge(url, {
  websocket: WebSocket,
  token: told.token,
  getToken: told.token ? async () => { say('getToken', null); return told.token; } : null,
  minReconnectDelay: 10,
  maxReconnectDelay: 50,
  name: 'test',
});
client.on('connected', (ctx) => say('connected', ctx));
client.on('connecting', (ctx) => say('connecting', ctx));
client.on('disconnected', (ctx) => say('disconnected', ctx));
client.on('error', (ctx) => say('error', ctx));
client.on('publication', (ctx) => say('publication', ctx));
client.on('subscribed', (ctx) => say('server-subscribed', ctx));

const does = {
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  // Cuts the connection without a word.
  cut: () => client._transport._transport.terminate(),
  token: (token) => { told.token = token; },
  subscribe: (channel, options) => {
    const sub = subs[channel] = client.newSubscription(channel, options);
    for (const event of ['subscribed', 'subscribing', 'unsubscribed', 'publication', 'join', 'leave', 'error']) {
      sub.on(event, (ctx) => say(event, ctx));
    }
    sub.subscribe();
  },
  unsubscribe: (channel) => subs[channel].unsubscribe(),
  publish: (channel, data) => client.publish(channel, data).then((r) => say('published', r)),
  history: (channel, options) => client.history(channel, options).then((r) => say('history', r)),
  presence: (channel) => client.presence(channel).then((r) => say('presence', r)),
  stats: (channel) => client.presenceStats(channel).then((r) => say('stats', r)),
};
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [name, ...rest] = JSON.parse(line);
  Promise.resolve(does[name](...rest)).catch((error) => say('failed', error));
}).on('close', () => process.exit(0));
