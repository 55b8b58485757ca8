//! Another deployment where a listener's ledger belongs to one that was there before (DESIGN rule 14): what the change is
//! called, and what the user has said of it. Pure.

use sha2::{Digest, Sha256};

use super::Hold;
use crate::{ledger::IdentityError, plan::Answer};

/// Eight hexadecimal digits that say from which nodes to which. Nodes have their ids at random, so the same change comes but
/// once, and back is another change than there.
pub(super) fn name(change: &IdentityError) -> String {
    // A byte that is in no identity keeps what is on one side from being on the other.
    let digest = Sha256::new().chain_update(change.theirs.write()).chain_update([0]).chain_update(change.ours.write());
    data_encoding::HEXLOWER.encode(&digest.finalize()[..4])
}

/// Whether the ledger of a listener that holds for this is to be kept, if the user has said so of this very change.
pub(super) fn answered(hold: Option<&Hold>, answer: Option<&Answer>) -> Option<bool> {
    match (hold?, answer?) {
        (Hold::DeploymentChanged { change, .. }, answer) if *change == answer.change => Some(answer.keep),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::Identity, model::NodeId};

    #[test]
    fn an_answer_is_taken_for_the_change_that_it_names_and_no_other() {
        let of = |ids: &[&str]| Identity::of(&ids.iter().map(|id| NodeId::from(*id)).collect::<Vec<_>>());
        let change = |theirs: &[&str], ours: &[&str]| name(&IdentityError { theirs: of(theirs), ours: of(ours) });
        let there = change(&["a", "b"], &["c"]);
        assert_eq!(there.len(), 8, "{there}");
        assert_eq!(there, change(&["b", "a"], &["c"]));
        assert_ne!(there, change(&["c"], &["a", "b"]), "back");
        assert_ne!(there, change(&["a"], &["b", "c"]));
        assert_ne!(there, change(&["a", "b"], &["d"]), "to another");
        let held = Hold::DeploymentChanged { message: "another".into(), change: there.clone() };
        let answer = |change: &str, keep| Some(Answer { change: change.into(), keep });
        assert_eq!(answered(Some(&held), answer(&there, true).as_ref()), Some(true));
        assert_eq!(answered(Some(&held), answer(&there, false).as_ref()), Some(false));
        assert_eq!(answered(Some(&held), answer("0a1b", false).as_ref()), None);
        assert_eq!(answered(Some(&held), None), None);
        assert_eq!(answered(None, answer(&there, false).as_ref()), None);
        let store = Hold::Store { category: "Fenced", message: "another".into() };
        assert_eq!(answered(Some(&store), answer(&there, false).as_ref()), None);
    }
}
