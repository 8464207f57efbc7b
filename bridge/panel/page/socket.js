// The socket to the panel's server: each frame is an array of OSC messages, both ways.
const handlers = new Map();

/** Call a function with the arguments of each message of an address; "" takes what nobody else does. */
export function on(address, act) { handlers.set(address, act); }

let socket = null;

/** Send one message; what cannot be sent is said, not kept. */
export function send(address, ...values) {
  if (socket?.readyState !== WebSocket.OPEN) return handlers.get("/panel/lost")?.("not connected");
  socket.send(JSON.stringify([[address, ...values]]));
}

/** Connect, and again after each loss. */
export function connect() {
  socket = new WebSocket(`ws://${location.host}/socket${location.search}`);
  socket.onmessage = ({ data }) => {
    for (const [address, ...values] of JSON.parse(data)) (handlers.get(address) ?? handlers.get(""))?.(...handlers.has(address) ? values : [address, ...values]);
  };
  socket.onclose = ({ reason }) => {
    handlers.get("/panel/lost")?.(reason || "the panel's program has ended");
    setTimeout(connect, 1000);
  };
}
