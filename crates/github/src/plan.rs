//! What has to happen to each branch and tag so that both sides are equal again, without anything
//! being lost on either.
//!
//! For each name there are three values: where it is here, where it is there, and where both were when
//! they were last equal. A side that is still there has not moved, so it follows the other. If both
//! have moved, the one that has all of the other's commits wins. Everything else is a conflict, which
//! is told and left alone until someone resolves it on either side. History is never rewritten: a
//! branch only goes forward, and a tag never moves.

use std::collections::{BTreeMap, BTreeSet};

use freestyle_git::ObjectId;

/// Branches and tags by their full names.
pub(crate) type Refs = BTreeMap<String, ObjectId>;

/// What is to be done about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: both sides have the same.
    Agree(Option<ObjectId>),
    /// This side goes from where it is to where the other is.
    Pull { from: Option<ObjectId>, to: Option<ObjectId> },
    /// The other side goes to where this one is.
    Push { from: Option<ObjectId>, to: Option<ObjectId> },
    /// Someone has to decide.
    Conflict(Reason),
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Each side has commits that the other has not.
    Diverged,
    /// One side has deleted what the other has changed.
    DeletedAndChanged,
    /// A branch went back, or a tag moved, on one side.
    Rewritten,
}

impl Reason {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Diverged => "both sides have commits that the other has not",
            Self::DeletedAndChanged => "one side has deleted what the other has changed",
            Self::Rewritten => {
                "its history was rewritten on one side, or a tag was moved; nothing is overwritten"
            }
        }
    }
}

/// Decides about every name. `is_ancestor` tells whether the first commit is in the history of the
/// second; both are objects that are here.
pub(crate) fn plan(
    here: &Refs,
    there: &Refs,
    base: &Refs,
    is_ancestor: impl Fn(ObjectId, ObjectId) -> bool,
) -> BTreeMap<String, Step> {
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).chain(base.keys()).collect();
    let mut steps = BTreeMap::new();
    for name in names {
        let at = |refs: &Refs| refs.get(name).copied();
        // Only a branch goes forward.
        let goes_forward = |old, new| name.starts_with("refs/heads/") && is_ancestor(old, new);
        let (here, there, base) = (at(here), at(there), at(base));
        let step = match (here, there) {
            _ if here == there => Step::Agree(here),
            // Only the other side has moved.
            _ if here == base => match (here, there) {
                (Some(old), Some(new)) if !goes_forward(old, new) => {
                    Step::Conflict(Reason::Rewritten)
                }
                (from, to) => Step::Pull { from, to },
            },
            // Only this side has moved.
            _ if there == base => match (there, here) {
                (Some(old), Some(new)) if !goes_forward(old, new) => {
                    Step::Conflict(Reason::Rewritten)
                }
                (from, to) => Step::Push { from, to },
            },
            (Some(ours), Some(theirs)) if goes_forward(ours, theirs) => {
                Step::Pull { from: here, to: there }
            }
            (Some(ours), Some(theirs)) if goes_forward(theirs, ours) => {
                Step::Push { from: there, to: here }
            }
            (Some(_), Some(_)) => Step::Conflict(Reason::Diverged),
            _ => Step::Conflict(Reason::DeletedAndChanged),
        };
        steps.insert(name.clone(), step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Commit `n` of a line has all before it as ancestors; other lines have nothing in common.
    fn commit(line: u8, n: u8) -> ObjectId {
        let mut hex = format!("{line:02x}{n:02x}");
        hex.push_str(&"1".repeat(36));
        ObjectId::from_hex(hex.as_bytes()).unwrap()
    }

    fn is_ancestor(old: ObjectId, new: ObjectId) -> bool {
        let (old, new) = (old.as_bytes(), new.as_bytes());
        old[0] == new[0] && old[1] <= new[1]
    }

    /// The step for one name with these values, each a line and a number.
    fn step(
        name: &str,
        here: Option<(u8, u8)>,
        there: Option<(u8, u8)>,
        base: Option<(u8, u8)>,
    ) -> Step {
        let refs = |at: Option<(u8, u8)>| -> Refs {
            at.map(|(line, n)| (name.to_owned(), commit(line, n))).into_iter().collect()
        };
        let (here, there, base) = (refs(here), refs(there), refs(base));
        plan(&here, &there, &base, is_ancestor).remove(name).unwrap()
    }

    const BRANCH: &str = "refs/heads/main";
    const TAG: &str = "refs/tags/v1";

    #[test]
    fn a_side_that_has_not_moved_follows_the_other() {
        let (one, two) = (Some((1, 1)), Some((1, 2)));
        let at = |at: Option<(u8, u8)>| at.map(|(line, n)| commit(line, n));
        assert_eq!(step(BRANCH, one, two, one), Step::Pull { from: at(one), to: at(two) });
        assert_eq!(step(BRANCH, two, one, one), Step::Push { from: at(one), to: at(two) });
        assert_eq!(step(BRANCH, None, one, None), Step::Pull { from: None, to: at(one) });
        assert_eq!(step(BRANCH, one, None, None), Step::Push { from: None, to: at(one) });
        // Deletions too.
        assert_eq!(step(BRANCH, one, None, one), Step::Pull { from: at(one), to: None });
        assert_eq!(step(BRANCH, None, one, one), Step::Push { from: at(one), to: None });
        assert_eq!(step(TAG, None, one, one), Step::Push { from: at(one), to: None });
        assert_eq!(step(BRANCH, None, None, one), Step::Agree(None));
        assert_eq!(step(BRANCH, two, two, one), Step::Agree(at(two)));
    }

    #[test]
    fn if_both_have_moved_the_one_with_all_commits_wins() {
        let [one, two, three] = [1, 2, 3].map(|n| Some((1, n)));
        let at = |at: Option<(u8, u8)>| at.map(|(line, n)| commit(line, n));
        assert_eq!(step(BRANCH, two, three, one), Step::Pull { from: at(two), to: at(three) });
        assert_eq!(step(BRANCH, three, two, one), Step::Push { from: at(two), to: at(three) });
        assert_eq!(step(BRANCH, two, three, None), Step::Pull { from: at(two), to: at(three) });
    }

    #[test]
    fn what_would_lose_something_is_a_conflict() {
        let [one, two, other] = [(1, 1), (1, 2), (2, 2)].map(Some);
        for (name, here, there, base, reason) in [
            (BRANCH, two, other, one, Reason::Diverged),
            (BRANCH, two, other, None, Reason::Diverged),
            (BRANCH, other, one, one, Reason::Rewritten),
            (BRANCH, one, other, one, Reason::Rewritten),
            (BRANCH, one, two, two, Reason::Rewritten),
            (BRANCH, two, None, one, Reason::DeletedAndChanged),
            (BRANCH, None, two, one, Reason::DeletedAndChanged),
            (TAG, one, two, one, Reason::Rewritten),
            (TAG, one, two, None, Reason::Diverged),
        ] {
            let step = step(name, here, there, base);
            assert_eq!(step, Step::Conflict(reason), "{name} {here:?} {there:?} {base:?}");
        }
    }

    fn any_refs() -> impl Strategy<Value = Refs> {
        let name = prop_oneof!["refs/heads/[ab]", "refs/tags/[ab]"];
        let at = (1u8..3, 1u8..4).prop_map(|(line, n)| commit(line, n));
        proptest::collection::btree_map(name, at, 0..4)
    }

    proptest! {
        #[test]
        fn nothing_is_ever_lost_and_a_second_look_finds_nothing_to_do(
            here in any_refs(), there in any_refs(), base in any_refs(),
        ) {
            let steps = plan(&here, &there, &base, is_ancestor);
            let (mut new_here, mut new_there, mut new_base) = (here.clone(), there.clone(), base.clone());
            let set = |refs: &mut Refs, name: &str, to: Option<ObjectId>| match to {
                Some(to) => drop(refs.insert(name.to_owned(), to)),
                None => drop(refs.remove(name)),
            };
            for (name, step) in &steps {
                let (side, from, to) = match *step {
                    Step::Conflict(_) => continue,
                    Step::Agree(at) => {
                        set(&mut new_base, name, at);
                        continue;
                    }
                    Step::Pull { from, to } => (&mut new_here, from, to),
                    Step::Push { from, to } => (&mut new_there, from, to),
                };
                prop_assert_eq!(side.get(name).copied(), from);
                if let (Some(from), Some(to)) = (from, to) {
                    prop_assert!(is_ancestor(from, to) && name.starts_with("refs/heads/"));
                }
                // What is deleted was seen by the side that deleted it.
                if to.is_none() {
                    prop_assert_eq!(base.get(name).copied(), from);
                }
                set(side, name, to);
                set(&mut new_base, name, to);
            }
            let again = plan(&new_here, &new_there, &new_base, is_ancestor);
            for (name, step) in again {
                let is_over = matches!(step, Step::Agree(_)) || steps[&name] == step;
                prop_assert!(is_over, "{} {:?}", name, step);
            }
        }
    }
}
