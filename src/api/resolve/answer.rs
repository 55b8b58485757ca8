//! What the user has said of a change of the deployment.

use kube::api::ObjectMeta;

use super::Check;
use crate::{api::DEPLOYMENT_CHANGED, plan::Answer};

pub(super) fn answer(check: &mut Check<'_>, metadata: &ObjectMeta) -> Option<Answer> {
    let said = metadata.annotations.as_ref()?.get(DEPLOYMENT_CHANGED)?;
    let answer = read(said);
    if answer.is_none() {
        check.problem(
            format!("metadata.annotations[\"{DEPLOYMENT_CHANGED}\"]"),
            format!("is {said:?}"),
            "use Discard:CHANGE or Keep:CHANGE, as the condition Connected says it, or remove it",
        );
    }
    answer
}

fn read(said: &str) -> Option<Answer> {
    let (what, change) = said.split_once(':')?;
    let keep = match what {
        "Keep" => true,
        "Discard" => false,
        _ => return None,
    };
    let digits = change.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (digits && (1..=64).contains(&change.len())).then(|| Answer { change: change.to_owned(), keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_about_one_change() {
        let answer = |keep| Some(Answer { change: "0a1b".into(), keep });
        assert_eq!(read("Keep:0a1b"), answer(true));
        assert_eq!(read("Discard:0a1b"), answer(false));
        for wrong in ["", "Keep", "Keep:", "Discard", "discard:0a1b", "Discard:0A1B", "Discard: 0a1b", "Drop:0a1b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
