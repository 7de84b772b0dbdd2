//! Who is calling.

use std::fmt;

use freestyle_store::{AccountId, ApiKeyId, IdentityId, TokenId};

use crate::denied::Denied;

/// What a caller presents, before it was checked.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// An account's API key.
    ApiKey(&'a str),
    /// An identity's token.
    IdentityToken(&'a str),
}

/// Shows nothing of the secret.
impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey(..)",
            Self::IdentityToken(_) => "IdentityToken(..)",
        })
    }
}

/// Who presented a credential that is in force. [`crate::Access::authenticate`] finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The server side of an account.
    Account {
        /// The account.
        account: AccountId,
        /// The key that was presented.
        key: ApiKeyId,
    },
    /// An end user of an account.
    Identity {
        /// The account.
        account: AccountId,
        /// The end user.
        identity: IdentityId,
        /// The token that was presented.
        token: TokenId,
    },
}

impl Caller {
    /// The account that the caller is or belongs to.
    pub fn account(&self) -> &AccountId {
        match self {
            Self::Account { account, .. } | Self::Identity { account, .. } => account,
        }
    }

    /// The identity, if the caller is one.
    pub fn identity(&self) -> Option<&IdentityId> {
        match self {
            Self::Account { .. } => None,
            Self::Identity { identity, .. } => Some(identity),
        }
    }

    /// The account and its key, for what no identity may do: [`Denied::NotForIdentities`].
    pub fn account_only(&self) -> Result<(&AccountId, &ApiKeyId), Denied> {
        match self {
            Self::Account { account, key } => Ok((account, key)),
            Self::Identity { .. } => Err(Denied::NotForIdentities),
        }
    }
}

/// For logs: what was presented, by its public name.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { key, .. } => write!(f, "{key}"),
            Self::Identity { identity, token, .. } => write!(f, "{identity}/{token}"),
        }
    }
}
