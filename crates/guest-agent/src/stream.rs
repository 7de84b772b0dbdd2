//! The agent's end of a request.

use freestyle_guest_protocol::frame::{Frame, Kind};
use freestyle_guest_protocol::message::{self, Failure, Reply};
use freestyle_guest_protocol::mux::{Outbound, Receiver, Sender};

/// A request to be answered. Every one is answered exactly once: if nobody does, its end does.
pub(crate) struct Stream {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    replied: bool,
}

impl Stream {
    pub(crate) fn new(sender: Sender, receiver: Receiver) -> Self {
        Self { sender, receiver, replied: false }
    }

    /// Answers, behind all data that was sent on the stream.
    pub(crate) async fn reply(mut self, reply: Reply) {
        self.replied = true;
        // Before the reply can leave: the host may put another stream in this one's place.
        self.receiver.close();
        let frame = reply_frame(self.sender.stream(), &reply);
        // Without a link there is nobody left who asked.
        let _ = self.sender.outbound().data(frame).await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.replied {
            return;
        }
        self.receiver.close();
        let reason = "the agent could not serve the request".to_owned();
        reply_now(self.sender.outbound(), self.sender.stream(), Failure::Refused(reason));
    }
}

/// Refuses a request on whose stream nothing was sent.
pub(crate) fn reply_now(outbound: &Outbound, stream: u32, failure: Failure) {
    outbound.control(reply_frame(stream, &Reply::Failed(failure)));
}

fn reply_frame(stream: u32, reply: &Reply) -> Frame {
    Frame { stream, kind: Kind::Reply, payload: message::encode(reply) }
}
