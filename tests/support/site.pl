# A small web server for guests, whose base image has Perl and nothing that serves the web: it tells
# what it was asked, counts what it was sent, sends events, and repeats what a WebSocket says.
use strict;
use warnings;
use IO::Socket::INET;

my $port = shift // 3000;
my $server = IO::Socket::INET->new(LocalPort => $port, Listen => 128, ReuseAddr => 1) or die $!;
$SIG{CHLD} = "IGNORE";
while (1) {
    my $client = $server->accept or next;
    if (!fork) { serve($client) while 1; }
    close $client;
}

sub serve {
    my ($client) = @_;
    local $/ = "\r\n";
    my $line = <$client> // exit;
    my ($method, $path) = split / /, $line;
    my %fields;
    while (defined(my $field = <$client>)) {
        chomp $field;
        last if $field eq "";
        my ($name, $value) = $field =~ /^([^:]+):\s*(.*)$/ or exit;
        $fields{lc $name} = $value;
    }
    repeat($client, $fields{"sec-websocket-key"}) if lc($fields{upgrade} // "") eq "websocket";
    my $sent = body($client, \%fields);
    events($client, 3) if $path eq "/events";
    events($client, 1000) if $path eq "/ticks";
    my $told = join "", map { "$_: $fields{$_}\n" } sort keys %fields;
    my $text = $path eq "/length" ? "$sent\n" : "$method $path\n$told";
    print $client "HTTP/1.1 200 OK\r\nContent-Length: " . length($text) . "\r\n\r\n$text";
    $client->flush;
}

sub body {
    my ($client, $fields) = @_;
    my $sent = 0;
    if (($fields->{"transfer-encoding"} // "") eq "chunked") {
        while (my $size = hex <$client>) { $sent += take($client, $size); <$client>; }
        <$client>;
    } else {
        $sent = take($client, $fields->{"content-length"} // 0);
    }
    return $sent;
}

sub take {
    my ($client, $length) = @_;
    my $left = $length;
    while ($left > 0) {
        my $count = read $client, my $buffer, $left < 65536 ? $left : 65536;
        exit unless $count;
        $left -= $count;
    }
    return $length;
}

sub events {
    my ($client, $count) = @_;
    print $client "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    for my $n (1 .. $count) { print $client "data: $n\n\n"; $client->flush; sleep 1; }
    exit;
}

sub repeat {
    my ($client, $key) = @_;
    my $sum = `printf %s '${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11' | sha1sum`;
    my $accept = pack "u", pack "H40", $sum;
    $accept = substr $accept, 1;
    $accept =~ tr#` -_#AA-Za-z0-9+/#;
    $accept = substr($accept, 0, 27) . "=";
    print $client "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        . "Connection: Upgrade\r\nSec-WebSocket-Accept: $accept\r\n\r\n";
    $client->flush;
    while (read $client, my $head, 2) {
        my ($kind, $length) = unpack "CC", $head;
        $length &= 0x7f;
        if ($length == 126) { read $client, my $long, 2; $length = unpack "n", $long; }
        read $client, my $mask, 4;
        read $client, my $text, $length if $length;
        $text = "" unless $length;
        $text ^= substr $mask x ($length / 4 + 1), 0, $length;
        my $size = $length < 126 ? pack "C", $length : pack "Cn", 126, $length;
        print $client pack("C", $kind) . $size . $text;
        $client->flush;
        exit if ($kind & 0xf) == 8;
    }
    exit;
}
