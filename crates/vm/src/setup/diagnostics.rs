//! What became of a guest's services, for the user whose setup failed (protocol section 3).

use std::collections::BTreeMap;

/// The states of services and the logs of those in trouble.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// The services of the spec and every other that failed, by state.
    pub service_states: Vec<ServiceStates>,
    /// The end of the journal of each service that failed or has not ended starting.
    pub failed_service_logs: Vec<ServiceLog>,
}

/// Services in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStates {
    /// Such as `active` or `failed`.
    pub active_state: String,
    /// Such as `running` or `exited`.
    pub sub_state: String,
    /// Names of units.
    pub services: Vec<String>,
}

/// A service's last words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLog {
    /// The unit.
    pub unit_name: String,
    /// Lines of its journal.
    pub log: String,
}

/// One unit, as `systemctl show` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UnitState {
    pub(super) id: String,
    load: String,
    active: String,
    sub: String,
    result: String,
    exit_status: String,
    restarts: String,
}

impl UnitState {
    /// How it failed, in words, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        let id = &self.id;
        if self.load == "bad-setting" || self.load == "error" {
            return Some(format!("systemd cannot read {id}"));
        }
        // A service that heals does not stay failed.
        let (is_failed, is_healing) = (self.active == "failed", self.active == "activating");
        let waits = is_healing && self.sub.starts_with("auto-restart");
        let has_failed = is_healing && !matches!(self.restarts.as_str(), "" | "0");
        if !is_failed && !waits {
            return has_failed.then(|| format!("{id} failed and is started again"));
        }
        Some(match self.result.as_str() {
            "exit-code" => format!("{id} ended with status {}", self.exit_status),
            "timeout" => format!("{id} took longer than its timeout"),
            result => format!("{id} failed: {result}"),
        })
    }

    /// Why it is not active although it did not fail, in words, if it is not.
    pub(super) fn omission(&self) -> Option<String> {
        let id = &self.id;
        match (self.load.as_str(), self.active.as_str()) {
            ("not-found", _) => Some(format!("{id} does not exist")),
            (_, "activating") => Some(format!("{id} is still starting")),
            // What it requires does not run, say.
            (_, "inactive") => Some(format!("{id} was not started")),
            _ => None,
        }
    }
}

/// Reads what `show` in `guest/units.sh` prints: a block of lines for each unit.
pub(super) fn states(text: &str) -> Vec<UnitState> {
    let mut units: Vec<UnitState> = Vec::new();
    for block in text.split("\n\n") {
        let mut unit = UnitState::default();
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            let field = match key {
                "Id" => &mut unit.id,
                "LoadState" => &mut unit.load,
                "ActiveState" => &mut unit.active,
                "SubState" => &mut unit.sub,
                "Result" => &mut unit.result,
                "ExecMainStatus" => &mut unit.exit_status,
                "NRestarts" => &mut unit.restarts,
                _ => continue,
            };
            *field = value.chars().take(256).collect();
        }
        let known = units.iter().any(|other| other.id == unit.id);
        if !unit.id.is_empty() && !known {
            units.push(unit);
        }
    }
    units
}

/// Reads what `diagnose` in `guest/diagnose.sh` prints. The guest is not trusted: what makes no
/// sense is left out.
pub(super) fn read(output: &[u8]) -> (Vec<UnitState>, Diagnostics) {
    let (states_text, mut rest) = split_at(output, b"\n\nlog ");
    let units = states(&String::from_utf8_lossy(states_text));
    let mut failed_service_logs = Vec::new();
    while let Some(entry) = rest {
        let (header, body) = split_at(entry, b"\n");
        let header = String::from_utf8_lossy(header);
        let parsed =
            header.split_once(' ').and_then(|(unit, bytes)| Some((unit, bytes.parse().ok()?)));
        let (Some((unit, bytes)), Some(body)) = (parsed, body) else { break };
        let bytes: usize = bytes;
        let log = body.get(..bytes).unwrap_or(body);
        failed_service_logs.push(ServiceLog {
            unit_name: unit.to_owned(),
            log: String::from_utf8_lossy(log).into_owned(),
        });
        rest = body.get(bytes..).and_then(|rest| rest.strip_prefix(b"\nlog "));
    }
    let diagnostics = Diagnostics { service_states: grouped(&units), failed_service_logs };
    (units, diagnostics)
}

/// Splits at the first separator, which is in neither part.
fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match bytes.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (&bytes[..at], Some(&bytes[at + separator.len()..])),
        None => (bytes, None),
    }
}

fn grouped(units: &[UnitState]) -> Vec<ServiceStates> {
    let mut groups: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for unit in units {
        groups.entry((&unit.active, &unit.sub)).or_default().push(unit.id.clone());
    }
    let group = |((active, sub), services): ((&str, &str), _)| ServiceStates {
        active_state: active.to_owned(),
        sub_state: sub.to_owned(),
        services,
    };
    groups.into_iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: &str = "Result=exit-code\nExecMainStatus=3\nId=a.service\nLoadState=loaded\n\
        ActiveState=failed\nSubState=failed\n\n\
        Result=success\nExecMainStatus=0\nId=b.service\nLoadState=loaded\n\
        ActiveState=active\nSubState=running\n\n\
        Id=a.service\nActiveState=failed\nSubState=failed\n";

    #[test]
    fn states_are_grouped_and_logs_are_read_by_their_length() {
        let log = b"first\nlog a.service 3\n\xe9";
        let mut output = STATES.as_bytes().to_vec();
        output.extend(format!("\nlog a.service {}\n", log.len()).into_bytes());
        output.extend(log);
        output.extend(b"\nlog b.service 0\n");
        let (units, diagnostics) = read(&output);
        assert_eq!(units.len(), 2);
        assert_eq!(units[0].failure().unwrap(), "a.service ended with status 3");
        assert_eq!(units[1].failure().or(units[1].omission()), None);
        let group = |active: &str, sub: &str, service: &str| ServiceStates {
            active_state: active.to_owned(),
            sub_state: sub.to_owned(),
            services: vec![service.to_owned()],
        };
        let groups =
            [group("active", "running", "b.service"), group("failed", "failed", "a.service")];
        assert_eq!(diagnostics.service_states, groups);
        let logs: Vec<_> = diagnostics
            .failed_service_logs
            .iter()
            .map(|log| (log.unit_name.as_str(), log.log.as_str()))
            .collect();
        assert_eq!(logs, [("a.service", "first\nlog a.service 3\n\u{fffd}"), ("b.service", "")],);
    }

    #[test]
    fn every_kind_of_trouble_has_words() {
        let unit = |load: &str, active: &str, result: &str| {
            let (active, sub) = active.split_once(' ').unwrap_or((active, ""));
            let text = format!(
                "Id=x\nLoadState={load}\nActiveState={active}\nSubState={sub}\n\
                 Result={result}\nExecMainStatus=1"
            );
            let unit = states(&text).remove(0);
            unit.failure().or(unit.omission())
        };
        assert_eq!(unit("not-found", "inactive", "success").unwrap(), "x does not exist");
        assert_eq!(unit("bad-setting", "inactive", "success").unwrap(), "systemd cannot read x");
        assert_eq!(unit("loaded", "failed", "signal").unwrap(), "x failed: signal");
        let healing = unit("loaded", "activating auto-restart", "exit-code");
        assert_eq!(healing.unwrap(), "x ended with status 1");
        let again = "Id=x\nActiveState=activating\nSubState=start\nNRestarts=1\nResult=success";
        let again = states(again).remove(0).failure();
        assert_eq!(again.unwrap(), "x failed and is started again");
        assert_eq!(unit("loaded", "activating", "success").unwrap(), "x is still starting");
        assert_eq!(unit("loaded", "inactive", "success").unwrap(), "x was not started");
        assert_eq!(unit("loaded", "active", "success"), None);
    }

    proptest! {
        #[test]
        fn a_guest_may_print_anything(output in any::<Vec<u8>>()) {
            let with_logs = [b"x\n\nlog ", &output[..], b"\nlog y 5\nab"].concat();
            read(&output);
            read(&with_logs);
        }
    }
}
