//! Another deployment where a listener's ledger belongs to one that was there before (DESIGN rule 14): what the user has
//! said of the change. Pure.

use super::Hold;
use crate::plan::Answer;

/// What the user has said of the very change that a listener holds for.
pub(super) fn answered<'a>(hold: Option<&Hold>, answer: Option<&'a Answer>) -> Option<&'a Answer> {
    match (hold?, answer?) {
        (Hold::DeploymentChanged { change, .. }, answer) if *change == answer.change => Some(answer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_by_who_holds_for_the_change_that_it_names() {
        let held = Hold::DeploymentChanged { message: "another".into(), change: "c0ffee00".into() };
        let answer = |change: &str| Answer { change: change.into(), keep: true };
        let (same, other) = (answer("c0ffee00"), answer("0a1b"));
        assert_eq!(answered(Some(&held), Some(&same)), Some(&same));
        assert_eq!(answered(Some(&held), Some(&other)), None);
        assert_eq!(answered(Some(&held), None), None);
        assert_eq!(answered(None, Some(&same)), None);
        let store = Hold::Store { category: "Fenced", message: "another".into() };
        assert_eq!(answered(Some(&store), Some(&same)), None);
    }
}
