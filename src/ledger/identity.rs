//! Whose ledger it is (DESIGN rule 14). Pure.

use std::collections::BTreeSet;

use crate::model::NodeId;

/// A deployment, known by the ids of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity(BTreeSet<NodeId>);

/// The ledger belongs to another deployment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger belongs to another Redis (its nodes were {}; found {})", some(theirs), some(ours))]
pub struct IdentityError {
    pub theirs: Identity,
    pub ours: Identity,
}

fn some(identity: &Identity) -> String {
    let mut names: Vec<&str> =
        identity.0.iter().map(|id| id.as_str().get(..8).unwrap_or(id.as_str())).take(3).collect();
    if identity.0.len() > 3 {
        names.push("...");
    }
    names.join(", ")
}

impl Identity {
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> Self {
        Self(nodes.into_iter().cloned().collect())
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
        let of = |ids: &[&str]| Identity::of(&ids.iter().map(|id| NodeId::from(*id)).collect::<Vec<_>>());
        let old = Identity::read(&of(&["a", "b", "c"]).write()).unwrap();
        assert!(old.check(&of(&["c", "d"])).is_ok());
        assert!(Identity::default().check(&of(&["d"])).is_ok());
        let error = old.check(&of(&["d", "e"])).unwrap_err().to_string();
        assert!(error.contains("another Redis") && error.contains("a, b, c"), "{error}");
    }
}
