//! A viewer: a stream that shows a session and is typed on.

use std::collections::VecDeque;

use freestyle_guest_protocol::message::{self, Reply};
use freestyle_guest_protocol::mux::{Channel, Ended, Event, MAX_DATA, Receiver, Sender};
use freestyle_guest_protocol::pty::{PtyControl, PtyEvent};

use super::backlog::Next;
use super::program::Program;
use super::session::Seat;
use crate::stream::Stream;

/// Shows the session until its program has ended or the viewer is gone. Takes what `Session::seat`
/// answers.
pub(super) async fn attend((screen, seat): (Vec<u8>, Seat), mut stream: Stream) {
    let session = seat.session.clone();
    let mut typed = Typed::default();
    let end = tokio::select! {
        end = show(&screen, &seat, &stream.sender) => end.map_or(End::Gone, End::Told),
        end = obey(&seat, &mut stream.receiver, &mut typed) => end,
    };
    drop(seat);
    match end {
        End::Told(reply) => stream.reply(reply).await,
        End::Detached => {
            type_rest(&session.program, &mut stream.receiver, typed).await;
            stream.reply(Reply::Done).await;
        }
        End::Gone => {}
    }
}

/// How a viewer comes to its end.
enum End {
    /// The session has said its last word.
    Told(Reply),
    /// The viewer has: what it typed is still to reach the program.
    Detached,
    Gone,
}

async fn show(screen: &[u8], seat: &Seat, sender: &Sender) -> Result<Reply, Ended> {
    let screen_bytes = u32::try_from(screen.len()).unwrap_or(u32::MAX);
    let attached = PtyEvent::Attached { session: seat.session.id.clone(), screen_bytes };
    sender.send(Channel::Side, message::encode(&attached)).await?;
    for piece in screen.chunks(MAX_DATA) {
        sender.send(Channel::Main, piece.to_vec()).await?;
    }
    loop {
        match seat.backlog.next().await {
            Next::Bytes(bytes) => sender.send(Channel::Main, bytes).await?,
            Next::End(reply) => return Ok(reply),
        }
    }
}

/// What was typed and the program has not read yet. The window of the stream bounds it.
#[derive(Debug, Default)]
struct Typed {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that the terminal has taken.
    written: usize,
}

impl Typed {
    fn rest(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| &piece[self.written..])
    }

    /// The terminal has taken so many bytes more. Answers the piece if that was all of it.
    fn wrote(&mut self, count: usize) -> Option<Vec<u8>> {
        self.written += count;
        let done = self.pieces.pop_front_if(|piece| piece.len() <= self.written)?;
        self.written = 0;
        Some(done)
    }
}

/// Types what the viewer types and does what it says, until it is gone. What it says is not held up
/// by a program that does not read.
async fn obey(seat: &Seat, receiver: &mut Receiver, typed: &mut Typed) -> End {
    let program = &seat.session.program;
    loop {
        let rest = typed.rest();
        tokio::select! {
            event = receiver.recv_unpaid() => match event {
                Some(Event::Data(Channel::Main, bytes)) if bytes.is_empty() => receiver.pay(&bytes),
                Some(Event::Data(Channel::Main, bytes)) => typed.pieces.push_back(bytes),
                Some(Event::Data(Channel::Side, control)) => {
                    receiver.pay(&control);
                    match message::decode(&control) {
                        Ok(PtyControl::Resize(size)) => seat.resize(size),
                        Ok(PtyControl::Kill) => program.kill(),
                        Err(_) => tracing::warn!("a message to a terminal that is none"),
                    }
                }
                Some(Event::End) => return End::Detached,
                Some(Event::Cancel | Event::Reply(_)) | None => return End::Gone,
            },
            count = write(program, rest), if !rest.is_empty() => {
                if let Some(piece) = typed.wrote(count) {
                    receiver.pay(&piece);
                }
            }
        }
    }
}

/// Types what is left, unless the host gives it up.
async fn type_rest(program: &Program, receiver: &mut Receiver, mut typed: Typed) {
    while !typed.rest().is_empty() {
        tokio::select! {
            // Nothing else comes after the end.
            _ = receiver.recv() => return,
            count = write(program, typed.rest()) => drop(typed.wrote(count)),
        }
    }
}

/// Types some of the bytes; answers how many. A terminal that was hung up takes them all, to nowhere.
async fn write(program: &Program, bytes: &[u8]) -> usize {
    program.write(bytes).await.unwrap_or(bytes.len())
}
