//! Rendezvous hashing: every replica computes the same owner from the same members, and when one comes or goes only the
//! listeners that it gets or had move. Pure.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::roster::Member;

/// Who owns a listener among `members`; `None` where there are none. Every release must give the same answer: during a
/// rolling update two of them share the listeners.
pub fn owner<'a>(listener: &str, members: &'a BTreeSet<Member>) -> Option<&'a Member> {
    members.iter().max_by_key(|member| (weight(listener, member), *member))
}

fn weight(listener: &str, member: &str) -> u64 {
    // A byte that is in neither name keeps "ab" and "c" from being "a" and "bc".
    let digest = Sha256::new().chain_update(listener).chain_update([0]).chain_update(member).finalize();
    digest.iter().take(8).fold(0, |weight, byte| (weight << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn members(names: &[&str]) -> BTreeSet<Member> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_owner_is_the_same_in_every_release() {
        let members = members(&["operator-a", "operator-b", "operator-c"]);
        let owners: Vec<_> =
            (0..8).map(|n| owner(&format!("shop/orders-{n}"), &members).unwrap().as_bytes()[9] as char).collect();
        assert_eq!(owners.iter().collect::<String>(), "aaabbcca");
    }

    #[test]
    fn nobody_owns_anything_where_nobody_is() {
        assert_eq!(owner("shop/orders", &members(&[])), None);
    }

    #[test]
    fn listeners_spread_evenly() {
        let members = members(&["operator-5d9c7b-x2x9k", "operator-5d9c7b-zz8lq", "operator-5d9c7b-4j2nv"]);
        let mut owned = BTreeMap::new();
        for n in 0..3_000 {
            *owned.entry(owner(&format!("team-{}/orders-{n}", n % 17), &members).unwrap()).or_insert(0_i32) += 1;
        }
        // A binomial of 3,000 and 1/3 has a deviation of 26: four of them.
        assert!(owned.values().all(|count| (count - 1_000).abs() < 104), "{owned:?}");
    }

    /// Who joins takes only for itself, and who leaves moves only its own.
    fn moves_no_more(listener: &str, names: &BTreeSet<Member>, joining: &str) -> Result<(), TestCaseError> {
        let before = owner(listener, names).cloned().unwrap();
        let mut more = names.clone();
        more.insert(joining.to_owned());
        let after = owner(listener, &more).unwrap();
        prop_assert!(*after == before || *after == joining);
        let mut fewer = names.clone();
        fewer.retain(|name| *name == before || name.len() % 2 == 0);
        prop_assert_eq!(owner(listener, &fewer), Some(&before));
        Ok(())
    }

    /// What the property below has failed with.
    #[test]
    fn among_members_with_nearly_the_same_names_no_more_moves_either() {
        moves_no_more("a/aaa", &members(&["-", "-a", "a"]), "AAA").unwrap();
    }

    proptest! {
        #[test]
        fn who_joins_takes_only_for_itself_and_who_leaves_moves_only_its_own(
            listener in "[a-z]{1,8}/[a-z]{1,8}",
            names in proptest::collection::btree_set("[a-z0-9-]{1,12}", 1..8),
            joining in "[A-Z]{3}",
        ) {
            moves_no_more(&listener, &names, &joining)?;
        }
    }
}
