//! The answer to one message.

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::rdata::{HINFO, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record as WireRecord, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::record::{Record, text_data, wire_name};
use crate::zone::{Found, OWN_TTL, Unavailable, Zone, Zones};

/// What is sent over UDP is not cut into pieces anywhere (DNS flag day 2020).
const MAX_UDP: u16 = 1232;
/// What everybody takes over UDP (RFC 1035 section 2.3.4).
const MIN_UDP: u16 = 512;
/// Aliases that are followed.
const MAX_ALIASES: usize = 8;
const REFRESH: i32 = 3600;
const RETRY: i32 = 600;
const EXPIRE: i32 = 7 * 24 * 3600;

/// What a message came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// From somebody who asks no more than is usual.
    Udp,
    /// From somebody who asks more than that, or does not ask at all and is to be flooded.
    UdpInBrief,
    Tcp,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// To be said by this code.
    Code(ResponseCode),
    /// Records that make no message, which is an error of this server.
    Encoding(ProtoError),
}

impl From<Unavailable> for Failure {
    fn from(_: Unavailable) -> Self {
        Self::Code(ResponseCode::ServFail)
    }
}

impl From<ProtoError> for Failure {
    fn from(error: ProtoError) -> Self {
        Self::Encoding(error)
    }
}

/// Answers a message; `None` if it is none that one may answer.
pub(crate) async fn answer(
    request: &[u8],
    transport: Transport,
    zones: &impl Zones,
) -> Option<Vec<u8>> {
    let Header { metadata: asked, counts } = Header::read(&mut BinDecoder::new(request)).ok()?;
    // Two servers that answer each other's answers never end.
    if asked.message_type == MessageType::Response {
        return None;
    }
    let sorry = |code| {
        let mut sorry = Message::error_msg(asked.id, asked.op_code, code);
        sorry.metadata.recursion_desired = asked.recursion_desired;
        sorry.to_vec().ok()
    };
    if asked.op_code != OpCode::Query {
        return sorry(ResponseCode::NotImp);
    }
    let length = request.len();
    // Before room is made for as many as it claims to have.
    let is_question = counts.queries == 1 && counts.answers == 0 && counts.authorities == 0;
    let request = is_question.then(|| Message::from_vec(request));
    let Some(Ok(request)) = request else { return sorry(ResponseCode::FormErr) };
    let mut response = Message::response(asked.id, asked.op_code);
    response.metadata = Metadata::response_from_request(&asked);
    response.queries.clone_from(&request.queries);
    if request.edns.is_some() {
        response.edns = Some(edns());
    }
    let failure = match fill(&mut response, &request, zones).await {
        Ok(()) => None,
        Err(Failure::Code(code)) => Some(code),
        Err(Failure::Encoding(error)) => {
            tracing::error!(%error, "an answer of the DNS server");
            Some(ResponseCode::ServFail)
        }
    };
    if let Some(code) = failure {
        response = bare(&response);
        response.metadata.response_code = code;
    }
    let room = match (transport, &request.edns) {
        (Transport::Tcp, _) => u16::MAX.into(),
        (Transport::UdpInBrief, _) => length,
        (Transport::Udp, None) => MIN_UDP.into(),
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(MIN_UDP, MAX_UDP).into(),
    };
    match response.to_vec() {
        Ok(bytes) if bytes.len() <= room => Some(bytes),
        // To be asked for again over TCP.
        Ok(_) => {
            let mut cut = bare(&response);
            cut.metadata.truncation = true;
            cut.to_vec().ok()
        }
        Err(error) => {
            tracing::error!(%error, "an answer of the DNS server");
            let mut sorry = bare(&response);
            sorry.metadata.response_code = ResponseCode::ServFail;
            sorry.to_vec().ok()
        }
    }
}

/// Puts in what there is to say.
async fn fill(
    response: &mut Message,
    request: &Message,
    zones: &impl Zones,
) -> Result<(), Failure> {
    let refuse = |code| Err(Failure::Code(code));
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    let [query] = &request.queries[..] else { return refuse(ResponseCode::FormErr) };
    let Query { name: asked, query_type: kind, query_class, .. } = query;
    if *query_class != DNSClass::IN || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        return refuse(ResponseCode::Refused);
    }
    let Some(mut name) = text(asked) else { return refuse(ResponseCode::Refused) };
    let Some(mut zone) = zones.zone(&name).await? else { return refuse(ResponseCode::Refused) };
    response.metadata.authoritative = true;
    // As it was asked: some compare every letter.
    let mut owner = asked.clone();
    for _ in 0..MAX_ALIASES {
        let Some(alias) = say(response, &zone, &name, &owner, *kind, zones).await? else {
            return Ok(());
        };
        // What is in none of the zones is for whoever asks to look up elsewhere.
        let Some(next) = zones.zone(&alias).await? else { return Ok(()) };
        (owner, name, zone) = (wire_name(&alias)?, alias, next);
    }
    Ok(())
}

/// Says what a zone knows of a name. Answers the name that it stands for, if it does.
async fn say(
    response: &mut Message,
    zone: &Zone,
    name: &str,
    owner: &Name,
    kind: RecordType,
    zones: &impl Zones,
) -> Result<Option<String>, Failure> {
    let proofs = if kind == RecordType::TXT { zones.proofs(name) } else { Vec::new() };
    if !proofs.is_empty() {
        // Never to be kept: the next one is another.
        let proof = |text: String| WireRecord::from_rdata(owner.clone(), 0, text_data(&text));
        response.add_answers(proofs.into_iter().map(proof));
        return Ok(None);
    }
    if name == zone.apex() && kind == RecordType::SOA {
        response.add_answer(soa(zone)?);
        return Ok(None);
    }
    match zone.look_up(name, kind, zones.is_site(name).await?) {
        Found::Records(records) => response.add_answers(set(owner, &records)?),
        Found::Alias(record) => {
            response.add_answers(set(owner, std::slice::from_ref(&record))?);
            return Ok(Some(record.data.value()));
        }
        Found::Elsewhere { servers, addresses } => {
            // What is said of an alias is still ours to say.
            response.metadata.authoritative = !response.answers.is_empty();
            for server in servers {
                response.add_authorities(set(&wire_name(server.name.as_str())?, &[server])?);
            }
            for address in addresses {
                response.add_additionals(set(&wire_name(address.name.as_str())?, &[address])?);
            }
            response
        }
        // Everything at once would be more than was asked for (RFC 8482).
        Found::Nothing if kind == RecordType::ANY => {
            let refusal = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
            response.add_answer(WireRecord::from_rdata(owner.clone(), OWN_TTL, refusal))
        }
        Found::Nothing => response.add_authority(soa(zone)?),
        Found::NoSuchName => {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.add_authority(soa(zone)?)
        }
    };
    Ok(None)
}

/// Records of one name and kind, in one time to keep them (RFC 2181 section 5.2).
fn set(owner: &Name, records: &[Record]) -> Result<Vec<WireRecord>, ProtoError> {
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or_default();
    let wire =
        |record: &Record| Ok(WireRecord::from_rdata(owner.clone(), ttl, record.data.to_rdata()?));
    records.iter().map(wire).collect()
}

fn soa(zone: &Zone) -> Result<WireRecord, ProtoError> {
    let apex = wire_name(zone.apex())?;
    let main = zone.name_servers().first().map_or(zone.apex(), |name| name.as_str());
    // Its minimum is how long it may be kept that something is not there.
    let data = SOA::new(
        wire_name(main)?,
        apex.prepend_label("hostmaster")?,
        zone.serial(),
        REFRESH,
        RETRY,
        EXPIRE,
        OWN_TTL,
    );
    Ok(WireRecord::from_rdata(apex, OWN_TTL, RData::SOA(data)))
}

/// A name as zones know it; `None` if it is none that can be in one.
fn text(name: &Name) -> Option<String> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
    let label = |label: &[u8]| {
        let text = std::str::from_utf8(label).ok().filter(|_| label.iter().all(is_part));
        text.map(str::to_ascii_lowercase)
    };
    let labels: Vec<_> = name.iter().map(label).collect::<Option<_>>()?;
    (!labels.is_empty()).then(|| labels.join("."))
}

/// A response without what it says.
fn bare(response: &Message) -> Message {
    let mut bare = Message::response(response.id, response.op_code);
    bare.metadata = response.metadata;
    bare.queries.clone_from(&response.queries);
    bare.edns = response.edns.clone();
    bare
}

fn edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP);
    edns
}
