// A service in a guest that keeps what it is told in its memory and nowhere else: whoever still
// knows it has that memory.

import { sh } from "./sdk.mjs";

const SERVICE = `use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:7000", Listen => 16, ReuseAddr => 1)
  or die;
my @words;
while (my $client = $server->accept) {
  my ($word) = <$client> =~ m{^GET /(\\w*)};
  1 while <$client> =~ /\\w/;
  push @words, $word if length $word;
  print $client "HTTP/1.0 200 OK\\r\\n\\r\\n@words";
  close $client;
}
`;
const ASK = "curl -sS --max-time 20";
const URL = "http://127.0.0.1:7000";

/** Starts the service in a VM and tells it the words. */
export async function startMemo(vm, ...words) {
  await vm.fs.writeTextFile("/srv/memo.pl", SERVICE);
  const started = `${ASK} --retry 99 --retry-connrefused --retry-delay 1 --retry-max-time 60 ${URL}`;
  await sh(vm, `systemd-run --quiet --unit=memo /usr/bin/perl /srv/memo.pl && ${started}`);
  for (const word of words) await remember(vm, word);
}

/** Tells the service another word; answers all that it knows, in order. */
export async function remember(vm, word) {
  return (await sh(vm, `${ASK} ${URL}/${word}`)).split(" ");
}

/** What the service knows. It is asked once: it must be there. */
export function recall(vm) {
  return remember(vm, "");
}
