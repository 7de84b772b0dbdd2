// A receiver of webhooks on the loopback.

import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

export class Receiver {
  #waiting = [];
  /** What has come and nobody has asked for yet. */
  #unread = [];
  /** How the next requests are answered; 200 when there is none left. */
  statuses = [];

  static async start() {
    const receiver = new Receiver();
    receiver.server = createServer((request, response) => receiver.#receive(request, response));
    receiver.server.listen(0, "127.0.0.1");
    await once(receiver.server, "listening");
    receiver.url = `http://127.0.0.1:${receiver.server.address().port}/hook`;
    return receiver;
  }

  async #receive(request, response) {
    const received = { headers: request.headers, body: await text(request) };
    received.payload = JSON.parse(received.body);
    const waiting = this.#waiting.shift();
    if (waiting) waiting(received);
    else this.#unread.push(received);
    response.writeHead(this.statuses.shift() ?? 200).end("ok");
  }

  /** What comes next. */
  next() {
    const received = this.#unread.shift();
    return received ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The commits of the next deliveries. */
  async commits(count) {
    const commits = [];
    while (commits.length < count) commits.push((await this.next()).payload.commit);
    return commits;
  }

  close = () => {
    this.server.close();
    this.server.closeAllConnections();
  };
}
