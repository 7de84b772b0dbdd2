//! Shell scripts whose words are data.
//!
//! A script is a file of functions from the folder `guest/`, which is the same for every spec,
//! followed by calls of them. Only the calls' arguments come from the spec, each quoted as one word.

/// A script for the guest's `/bin/sh`.
#[derive(Debug, Clone)]
pub(super) struct Script(String);

impl Script {
    /// A script that knows some functions and calls none yet.
    pub(super) fn new(functions: &[&'static str]) -> Self {
        Self(functions.concat())
    }

    /// Calls a function, or runs a program, with arguments.
    pub(super) fn call<'a>(
        &mut self,
        name: &'static str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) {
        self.0.push_str(name);
        for argument in arguments {
            self.0.push(' ');
            push_quoted(&mut self.0, argument);
        }
        self.0.push('\n');
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// Within single quotes the shell gives a meaning to nothing but the quote that ends them.
fn push_quoted(script: &mut String, word: &str) {
    script.push('\'');
    script.push_str(&word.replace('\'', r"'\''"));
    script.push('\'');
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// What a real shell makes of a call's arguments.
    fn received(arguments: &[&str]) -> Vec<String> {
        let mut script =
            Script::new(&["show() { for word; do printf '%s\\0' \"$word\"; done; }\n"]);
        script.call("show", arguments.iter().copied());
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg(String::from_utf8(script.into_bytes()).unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_shell_receives_every_word_as_it_is() {
        let words = [
            "plain",
            "",
            " ",
            "two words",
            "'",
            "''",
            "it's",
            "\"",
            "$HOME",
            "$(id)",
            "`id`",
            "\\",
            "\\'",
            "a\nb",
            "-n",
            "--",
            "*",
            "~",
            "#x",
            "a;b",
            "a&b",
            "a|b",
            ">f",
            "é\u{1f600}",
            "\t",
        ];
        assert_eq!(received(&words), words);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_word_escapes_its_quotes(words in prop::collection::vec("[^\0]*", 0..6)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            prop_assert_eq!(received(&words), words);
        }
    }
}
