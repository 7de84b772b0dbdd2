//! The data types of SSH (RFC 4251 section 5) and the numbers of its messages.

/// Numbers of messages (RFC 4250 section 4.1, RFC 8308).
pub(crate) mod msg {
    pub(crate) const DISCONNECT: u8 = 1;
    pub(crate) const IGNORE: u8 = 2;
    pub(crate) const UNIMPLEMENTED: u8 = 3;
    pub(crate) const DEBUG: u8 = 4;
    pub(crate) const SERVICE_REQUEST: u8 = 5;
    pub(crate) const SERVICE_ACCEPT: u8 = 6;
    pub(crate) const EXT_INFO: u8 = 7;
    pub(crate) const KEXINIT: u8 = 20;
    pub(crate) const NEWKEYS: u8 = 21;
    pub(crate) const KEX_INIT: u8 = 30;
    pub(crate) const KEX_REPLY: u8 = 31;
    pub(crate) const USERAUTH_REQUEST: u8 = 50;
    pub(crate) const USERAUTH_FAILURE: u8 = 51;
    pub(crate) const USERAUTH_SUCCESS: u8 = 52;
    pub(crate) const USERAUTH_BANNER: u8 = 53;
    pub(crate) const GLOBAL_REQUEST: u8 = 80;

    /// The connection protocol begins here: channels and requests, which end-to-end peers exchange.
    pub(crate) const FIRST_OF_CONNECTION: u8 = GLOBAL_REQUEST;
}

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a message from its front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Malformed> {
        Ok(self.byte()? != 0)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| Malformed)?)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed)
    }

    /// The names of a list; none where it is empty.
    pub(crate) fn names(&mut self) -> Result<Vec<&'a str>, Malformed> {
        let list = self.text()?;
        Ok(if list.is_empty() { Vec::new() } else { list.split(',').collect() })
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Builds a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Begins with the message's number.
    pub(crate) fn message(number: u8) -> Self {
        Self(vec![number])
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn byte(self, byte: u8) -> Self {
        self.bytes(&[byte])
    }

    pub(crate) fn boolean(self, value: bool) -> Self {
        self.byte(value.into())
    }

    pub(crate) fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let length = u32::try_from(bytes.len()).expect("messages are far smaller than 4 GiB");
        self.u32(length).bytes(bytes)
    }

    /// A positive number of any size, given as big-endian bytes.
    pub(crate) fn mpint(self, bytes: &[u8]) -> Self {
        let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        // The first bit is the sign.
        let sign: &[u8] =
            if digits.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
        self.string([sign, digits].concat())
    }

    pub(crate) fn names(self, names: &[&str]) -> Self {
        self.string(names.join(","))
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_any_size_are_written_as_in_rfc_4251() {
        for (bytes, encoded) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0, 0], &[0, 0, 0, 0]),
            (&[0x09, 0xa3], &[0, 0, 0, 2, 0x09, 0xa3]),
            (&[0, 0x80], &[0, 0, 0, 2, 0, 0x80]),
        ] {
            assert_eq!(Writer::default().mpint(bytes).finish(), encoded);
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let message = Writer::message(7).u32(9).string("text").names(&["a", "b"]).boolean(true);
        let bytes = message.names(&[]).finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.byte(), Ok(7));
        assert_eq!(reader.u32(), Ok(9));
        assert_eq!(reader.text(), Ok("text"));
        assert_eq!(reader.names().unwrap(), ["a", "b"]);
        assert_eq!(reader.boolean(), Ok(true));
        assert_eq!(reader.names().unwrap(), [""; 0]);
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn a_length_beyond_the_end_and_bytes_behind_it_are_malformed() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, b'a']).string(), Err(Malformed));
        assert_eq!(Reader::new(&[255, 255, 255, 255, b'a']).string(), Err(Malformed));
        assert_eq!(Reader::new(&[0, 0, 0]).u32(), Err(Malformed));
        assert_eq!(Reader::new(&[0]).end(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while reader.names().is_ok() {}
            while reader.string().is_ok() {}
            let _ = (reader.u32(), reader.boolean(), reader.text(), reader.end());
        }
    }
}
