// A server whose certificates a real authority makes, which asks a real DNS server where hosts are.

import { Knot } from "./dns.mjs";
import { Pebble } from "./pebble.mjs";
import { withServer } from "./server.mjs";

/** Runs a test with all three; the DNS server begins with these records of the zone. */
export async function withAuthority(t, { zone, records = "", env }, test) {
  const knot = await Knot.start(zone, records);
  t.after(knot.stop);
  const pebble = await Pebble.prepare();
  t.after(pebble.stop);
  const authority = {
    FREESTYLE_DNS_RESOLVER: knot.address,
    FREESTYLE_ACME_DIRECTORY: pebble.directory,
    SSL_CERT_FILE: pebble.certificate,
  };
  await withServer({ poolSize: 0, env: { ...env, ...authority } }, async (server) => {
    const [http, https] = [server.edgeHttpUrl, server.edgeHttpsUrl].map((url) => new URL(url).port);
    await pebble.start({ dns: knot.address, httpPort: Number(http), httpsPort: Number(https) });
    await test({ server, knot, ca: await pebble.root(), http, https });
  });
}
