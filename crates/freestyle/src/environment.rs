//! Environment variables, with those of a `.env` file behind them.
//!
//! The file may belong to an application with variables of its own in any dialect, so only lines
//! that set a `FREESTYLE_` variable have to be right; nothing is put into the process's
//! environment.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use crate::error::CliError;

const PREFIX: &str = "FREESTYLE_";
const MAX_BYTES: u64 = 1024 * 1024;

/// Where options come from that are not on the command line.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    file: HashMap<String, String>,
    /// Tests do without the environment they happen to run in.
    file_only: bool,
}

impl Environment {
    /// The process's environment and the file, if there is one.
    pub(crate) fn load(path: &Path) -> Result<Self, CliError> {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(CliError::new(format!("cannot read {}: {error}", path.display())));
            }
        };
        let file = parse(&text)
            .map_err(|reason| CliError::new(format!("{}: {reason}", path.display())))?;
        Ok(Self { file, file_only: false })
    }

    /// A variable. An empty one counts as not set.
    pub(crate) fn get(&self, name: &str) -> Result<Option<String>, CliError> {
        let set = if self.file_only { None } else { std::env::var_os(name) };
        if let Some(value) = set.filter(|value| !value.is_empty()) {
            let value = value.into_string();
            return value.map(Some).map_err(|_| CliError::new(format!("{name} is not UTF-8")));
        }
        Ok(self.file.get(name).filter(|value| !value.is_empty()).cloned())
    }

    /// A variable as what it stands for.
    pub(crate) fn parse<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, CliError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        value.parse().map(Some).map_err(|error| CliError::new(format!("{name}={value}: {error}")))
    }

    /// A variable as a list of what stands between `separator`.
    pub(crate) fn parse_list<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
        separator: char,
    ) -> Result<Vec<T>, CliError> {
        let Some(value) = self.get(name)? else { return Ok(Vec::new()) };
        let items = value.split(separator).map(str::trim).filter(|item| !item.is_empty());
        let items = items.map(|item| {
            item.parse().map_err(|error| CliError::new(format!("{name}: {item}: {error}")))
        });
        items.collect()
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let file = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Self { file: file.collect(), file_only: true }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

/// The `FREESTYLE_` variables of a `.env` file; a later line wins.
fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut variables = HashMap::new();
    let mut rest = text;
    let mut line_number = 1;
    while !rest.is_empty() {
        let line = rest.split_inclusive('\n').next().unwrap_or(rest);
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (variable_name(name), value.trim_start_matches([' ', '\t'])),
            None => ("", ""),
        };
        let wanted = name.starts_with(PREFIX);
        let mut end = line.len();
        match value.chars().next() {
            Some(quote @ ('"' | '\'' | '`')) if !name.is_empty() => {
                let start = line.len() - value.len();
                match quoted(&rest[start..], quote) {
                    Some((content, length)) => {
                        let after =
                            rest[start + length..].split_inclusive('\n').next().unwrap_or("");
                        if wanted && !is_blank_or_comment(after) {
                            return Err(format!(
                                "line {line_number}: text after the closing quote"
                            ));
                        }
                        end = start + length + after.len();
                        if wanted {
                            variables.insert(name.to_owned(), content);
                        }
                    }
                    None if wanted => {
                        return Err(format!("line {line_number}: the quote is not closed"));
                    }
                    None => {}
                }
            }
            _ if wanted => {
                variables.insert(name.to_owned(), unquoted(value).to_owned());
            }
            _ => {}
        }
        line_number += rest[..end].matches('\n').count();
        rest = &rest[end..];
    }
    Ok(variables)
}

/// What stands before `=`, or nothing if that is not the name of a variable.
fn variable_name(text: &str) -> &str {
    let text = text.trim();
    let name = text.strip_prefix("export ").unwrap_or(text).trim();
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if starts_well && name.chars().all(allowed) { name } else { "" }
}

/// A comment needs a space before it: `#` may be part of a value.
fn unquoted(value: &str) -> &str {
    let end = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
    if value.starts_with('#') { "" } else { value[..end].trim() }
}

/// The content of a quoted text and the length of the whole. Only double quotes know escapes.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((content, at + c.len_utf8())),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => content.push('\n'),
                'r' => content.push('\r'),
                't' => content.push('\t'),
                c @ ('"' | '\\' | '$') => content.push(c),
                c => content.extend(['\\', c]),
            },
            c => content.push(c),
        }
    }
    None
}

fn is_blank_or_comment(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        parse(text).unwrap().remove("FREESTYLE_API_KEY")
    }

    #[test]
    fn values_in_every_form() {
        for text in [
            "FREESTYLE_API_KEY=k#1",
            "  FREESTYLE_API_KEY = k#1  ",
            "export FREESTYLE_API_KEY=k#1\r\n",
            "FREESTYLE_API_KEY=k#1 # the key",
            "FREESTYLE_API_KEY='k#1' # the key",
            "FREESTYLE_API_KEY=\"k#1\"",
            "FREESTYLE_API_KEY=`k#1`",
            "# comment\n\nFREESTYLE_API_KEY=old\nFREESTYLE_API_KEY=k#1\n",
        ] {
            assert_eq!(key(text).as_deref(), Some("k#1"), "{text}");
        }
        assert_eq!(key(r#"FREESTYLE_API_KEY="a\"b\\c\n""#).as_deref(), Some("a\"b\\c\n"));
        assert_eq!(key("FREESTYLE_API_KEY=# nothing").as_deref(), Some(""));
        assert_eq!(key("#FREESTYLE_API_KEY=no"), None);
    }

    #[test]
    fn other_variables_may_be_anything() {
        let text = "PEM=\"-----BEGIN\nFREESTYLE_API_KEY=inside\n-----END\"\n\
                    %%% not a line %%%\nOPEN='\nFREESTYLE_API_KEY=k\n";
        assert_eq!(key(text).as_deref(), Some("k"));
    }

    #[test]
    fn mistakes_in_our_variables_are_errors_with_a_line() {
        let error = parse("A=1\nFREESTYLE_API_KEY=\"k").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        let error = parse("A=\"x\ny\"\nFREESTYLE_API_KEY='k' x").unwrap_err();
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let environment = Environment::of(&[("FREESTYLE_POOL_SIZE", "")]);
        assert_eq!(environment.parse::<u32>("FREESTYLE_POOL_SIZE").unwrap(), None);
    }

    #[test]
    fn a_variable_that_cannot_be_parsed_is_named() {
        let environment = Environment::of(&[("FREESTYLE_POOL_SIZE", "many")]);
        let error = environment.parse::<u32>("FREESTYLE_POOL_SIZE").unwrap_err();
        assert!(error.to_string().contains("FREESTYLE_POOL_SIZE=many"));
    }

    #[test]
    fn no_file_is_no_error() {
        assert!(Environment::load("/nonexistent/.env".as_ref()).is_ok());
    }
}
