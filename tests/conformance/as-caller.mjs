// Stands before a server and adds the header of a caller to every request, because the conformance suite can send none
// of its own. All else passes as it came, both ways: Host and Origin too, so that checks against rebinding reach the
// server. Prints its address.
//
// Usage: node as-caller.mjs http://127.0.0.1:8000/mcp 00000000-0000-0000-0000-000000000000

import http from 'node:http';

const server = new URL(process.argv[2]);
const caller = ['x-rls-user-id', process.argv[3]];

const forwarder = http.createServer((request, response) => {
  const { method, url: path, rawHeaders } = request;
  const headers = [...rawHeaders, ...caller];
  // A connection of its own for each request: none can go stale between two of them.
  const onward = http.request({ host: server.hostname, port: server.port, method, path, headers, agent: false });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders);
    response.flushHeaders();
    answer.pipe(response);
    answer.on('error', () => response.destroy());
  });
  onward.on('error', () => response.destroy());
  // A client that goes away goes away for the server too: that is how a call is cancelled.
  response.on('close', () => onward.destroy());
  request.pipe(onward);
});

forwarder.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${forwarder.address().port}${server.pathname}`);
});
