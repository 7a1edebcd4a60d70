//! Whether an operator may have a slot back: pure.
//!
//! A slot is free only on evidence. An operator may say that there will never be any, but only where the platform does not
//! say anything itself.

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The slot back, on proof.
    Reset,
    /// The slot back, without.
    ForceFree,
}

/// What is known of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is idle or cordoned.
    Free,
    /// It is neither, but no runner has it.
    Nobodys,
    /// A runner has it, and its platform says that nothing runs.
    Gone,
    /// A runner has it, and its platform says that it runs.
    Running,
    /// A runner has it, and its platform says nothing.
    Silent,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescue {
    /// Nobody has it: free it.
    Free,
    /// The runner is gone: take that as evidence.
    Evidence,
    /// Take the operator's word for it.
    Force,
    /// It cannot be, and this is why.
    Refuse(&'static str),
}

pub fn rescue(wanted: Wanted, found: Found) -> Rescue {
    match (wanted, found) {
        (_, Found::Free) => Rescue::Refuse("nobody has this slot"),
        (_, Found::Nobodys) => Rescue::Free,
        (_, Found::Gone) => Rescue::Evidence,
        (_, Found::Running) => Rescue::Refuse("its runner runs: have its bot leave, or cancel it"),
        (Wanted::Reset, Found::Silent) => Rescue::Refuse(
            "its platform does not answer, so nobody knows whether its runner is gone: try again later, or free it by force when the platform is gone for good",
        ),
        (Wanted::ForceFree, Found::Silent) => Rescue::Force,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_on_proof_or_where_there_will_never_be_any() {
        use Found::{Free, Gone, Nobodys, Running, Silent};
        use Wanted::{ForceFree, Reset};
        let refused = |wanted, found| matches!(rescue(wanted, found), Rescue::Refuse(_));
        for wanted in [Reset, ForceFree] {
            assert!(refused(wanted, Free) && refused(wanted, Running), "{wanted:?}");
            assert_eq!(rescue(wanted, Nobodys), Rescue::Free);
            assert_eq!(rescue(wanted, Gone), Rescue::Evidence, "where there is proof nothing is forced");
        }
        assert!(refused(Reset, Silent));
        assert_eq!(rescue(ForceFree, Silent), Rescue::Force);
    }
}
