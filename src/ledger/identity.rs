//! Whose ledger it is (DESIGN rule 14). Pure.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::plan::Answer;

/// A deployment, by what it is known by: of a cluster the ids of its nodes; else addresses and replication ids, each with the
/// database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity(BTreeSet<String>);

/// The ledger belongs to another deployment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger belongs to another Redis (it was known by {}; found {})", some(theirs), some(ours))]
pub struct IdentityError {
    pub theirs: Identity,
    pub ours: Identity,
}

impl IdentityError {
    /// What the change is called: eight hexadecimal digits that say from which nodes to which. Nodes have their ids at random,
    /// so the same change comes but once, and back is another change than there.
    pub fn name(&self) -> String {
        // A byte that is in no identity keeps what is on one side from being on the other.
        let digest = Sha256::new().chain_update(self.theirs.write()).chain_update([0]).chain_update(self.ours.write());
        data_encoding::HEXLOWER.encode(&digest.finalize()[..4])
    }
}

/// What becomes of a ledger that belongs to another deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Foreign {
    /// It stays as it is, and its keeper ends.
    #[default]
    Hold,
    /// Taken over with its entries.
    Keep,
    /// Taken over without them.
    Discard,
    /// As somebody said who was told of one change. Which it is now shows only when the ledger is opened.
    Told(Answer),
}

impl Foreign {
    /// Whether its entries are kept or dropped; `None`: neither.
    pub fn keeps(&self, change: &IdentityError) -> Option<bool> {
        match self {
            Self::Hold => None,
            Self::Keep => Some(true),
            Self::Discard => Some(false),
            Self::Told(answer) => (answer.change == change.name()).then_some(answer.keep),
        }
    }
}

fn some(identity: &Identity) -> String {
    // Ids are long, and their beginnings tell them apart.
    let short = |mark: &String| match mark.bytes().take_while(u8::is_ascii_hexdigit).count() {
        40.. => format!("{}{}", &mark[..8], &mark[40..]),
        _ => mark.clone(),
    };
    let mut names: Vec<String> = identity.0.iter().map(short).take(3).collect();
    if identity.0.len() > 3 {
        names.push("...".to_owned());
    }
    names.join(", ")
}

impl Identity {
    pub fn of<T: ToString>(known_by: impl IntoIterator<Item = T>) -> Self {
        Self(known_by.into_iter().map(|mark| mark.to_string()).collect())
    }
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }
    pub fn write(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
    /// The same deployment has a node of the old one left: nodes come and go one at a time.
    pub fn check(&self, ours: &Self) -> Result<(), IdentityError> {
        if self.0.is_empty() || !self.0.is_disjoint(&ours.0) {
            return Ok(());
        }
        Err(IdentityError { theirs: self.clone(), ours: ours.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_the_same_while_one_of_its_nodes_is_left() {
        let of = |ids: &[&str]| Identity::of(ids);
        let old = Identity::read(&of(&["a", "b", "c"]).write()).unwrap();
        assert!(old.check(&of(&["c", "d"])).is_ok());
        assert!(Identity::default().check(&of(&["d"])).is_ok());
        let error = old.check(&of(&["d", "e"])).unwrap_err().to_string();
        assert!(error.contains("another Redis") && error.contains("a, b, c"), "{error}");
    }
    #[test]
    fn an_answer_is_about_the_change_that_it_names_and_no_other() {
        let of = |ids: &[&str]| Identity::of(ids);
        let change = |theirs: &[&str], ours: &[&str]| IdentityError { theirs: of(theirs), ours: of(ours) };
        let there = change(&["a", "b"], &["c"]);
        assert_eq!(there.name().len(), 8, "{}", there.name());
        assert_eq!(there.name(), change(&["b", "a"], &["c"]).name());
        let others = [
            change(&["c"], &["a", "b"]),
            change(&["a"], &["b", "c"]),
            change(&["a", "b"], &["d"]),
            change(&["a", "b"], &["c", "d"]),
        ];
        for keep in [true, false] {
            let told = Foreign::Told(Answer { change: there.name(), keep });
            assert_eq!(told.keeps(&there), Some(keep));
            for other in &others {
                assert_eq!(told.keeps(other), None, "{other}");
            }
        }
    }
}
