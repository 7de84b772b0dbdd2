//! The login name (protocol section 15): which VM, which Linux user in it, and mostly also the
//! credential.
//!
//! ```text
//! <vm>                 the credential is asked for as the password
//! <vm>+<user>          the same, as a Linux user other than root
//! <vm>:<token>         with the credential; also <vm>+<user>:<token>
//! <vm>,<token>         the same for URLs and scp, where a colon means something else
//! ```

use std::fmt;

use freestyle_store::VmId;
use freestyle_vm::LinuxUser;

/// Whoever names no user logs in as this one.
const DEFAULT_USER: &str = "root";
/// Ids of the first VMs were this short; they mean the id padded with zeros (protocol section 5).
const MIN_VM_ID: usize = 5;
const VM_ID: usize = 20;
/// Tokens and API keys are shorter.
const MAX_TOKEN: usize = 128;

/// Where someone wants to log in, and by which right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) vm: VmId,
    /// As it was named, if it was.
    user: Option<LinuxUser>,
    pub(crate) token: Option<Token>,
}

/// An identity's token or an API key, as it came: nothing is known of it yet.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

/// It is a secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// `None` if it cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_token = !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(allowed);
        is_token.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Login {
    /// `None` if it has another form.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (place, token) = match name.split_once([':', ',']) {
            Some((place, token)) => (place, Some(Token::parse(token)?)),
            None => (name, None),
        };
        let (vm, user) = match place.split_once('+') {
            Some((vm, user)) => (vm, Some(LinuxUser::parse(user).ok()?)),
            None => (place, None),
        };
        Some(Self { vm: parse_vm(vm)?, user, token })
    }

    /// The user as it was named: nothing is what a limited right may refuse.
    pub(crate) fn named_user(&self) -> Option<&str> {
        self.user.as_ref().map(LinuxUser::as_str)
    }

    /// The user to log in as.
    pub(crate) fn user(&self) -> &str {
        self.named_user().unwrap_or(DEFAULT_USER)
    }
}

fn parse_vm(text: &str) -> Option<VmId> {
    if !(MIN_VM_ID..=VM_ID).contains(&text.len()) {
        return None;
    }
    format!("{text:0<VM_ID$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VM: &str = "k3v9x0q2m7a1c5z8e4t6";

    fn parsed(name: &str) -> Option<(String, String, Option<String>)> {
        let login = Login::parse(name)?;
        let token = login.token.as_ref().map(|token| token.as_str().to_owned());
        Some((login.vm.to_string(), login.user().to_owned(), token))
    }

    #[test]
    fn every_form_is_understood() {
        for (name, user, token) in [
            ("VM", "root", None),
            ("VM+alice", "alice", None),
            ("VM:fsi_A-9", "root", Some("fsi_A-9")),
            ("VM,fsi_A-9", "root", Some("fsi_A-9")),
            ("VM+alice:fsi_A-9", "alice", Some("fsi_A-9")),
            ("VM+alice,fsi_A-9", "alice", Some("fsi_A-9")),
            ("VM+a.b-c_d:t", "a.b-c_d", Some("t")),
        ] {
            let expected = (VM.to_owned(), user.to_owned(), token.map(str::to_owned));
            assert_eq!(parsed(&name.replace("VM", VM)), Some(expected), "{name}");
        }
        assert_eq!(parsed("abcde:t").unwrap().0, "abcde000000000000000");
    }

    #[test]
    fn whoever_names_root_has_named_a_user() {
        assert_eq!(Login::parse(VM).unwrap().named_user(), None);
        assert_eq!(Login::parse(&format!("{VM}+root")).unwrap().named_user(), Some("root"));
    }

    #[test]
    fn every_other_form_is_refused() {
        for name in [
            "",
            "root",
            "VM:",
            "VM,",
            "VM+",
            "VM+:t",
            "+alice:t",
            ":t",
            "VM:a:b",
            "VM:a,b",
            "VM:a b",
            "VM:a@b",
            "VM:a+b",
            "VM+al ice:t",
            "VM+alice+bob:t",
            "VM+-x:t",
            "VM+../x:t",
            "VMx:t",
            " VM:t",
            "VM:t\n",
            "VM\0",
            "VM:é",
            "abcd:t",
            "VM+alice:",
        ] {
            assert_eq!(parsed(&name.replace("VM", VM)), None, "{name:?}");
        }
        assert_eq!(parsed(&VM.to_uppercase()), None);
        assert_eq!(parsed(&format!("{VM}:{}", "a".repeat(MAX_TOKEN + 1))), None);
    }

    #[test]
    fn a_token_is_not_logged() {
        let login = Login::parse(&format!("{VM}:fsi_secret")).unwrap();
        assert!(!format!("{login:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_what_was_meant(
            vm in "[a-z0-9]{20}",
            user in proptest::option::of("[a-z_][a-z0-9_.-]{0,31}"),
            token in proptest::option::of("[A-Za-z0-9_-]{1,80}"),
            separator in "[:,]",
        ) {
            let plus = user.as_ref().map(|user| format!("+{user}")).unwrap_or_default();
            let rest = token.as_ref().map(|token| format!("{separator}{token}"));
            let name = format!("{vm}{plus}{}", rest.unwrap_or_default());
            let expected = (vm, user.unwrap_or("root".to_owned()), token);
            prop_assert_eq!(parsed(&name), Some(expected));
        }

        #[test]
        fn nothing_else_gets_through(name in "\\PC{0,60}") {
            if let Some((vm, user, token)) = parsed(&name) {
                let safe = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.$".contains(c));
                prop_assert!(safe(&vm) && safe(&user) && token.is_none_or(|token| safe(&token)));
            }
        }
    }
}
