//! Records that do not parse, as messages: named, and never a flood.

use crate::limits::REJECTED_NAMED;
use crate::names::shown;
use crate::source::Change;

/// As messages, at most [`REJECTED_NAMED`] of them; the last one says how many more there were.
pub(crate) fn rejections(rejected: Vec<(String, String)>) -> Vec<Change> {
    let more = rejected.len().saturating_sub(REJECTED_NAMED);
    let mut changes: Vec<Change> = rejected
        .into_iter()
        .take(REJECTED_NAMED)
        .map(|(key, reason)| Change::Rejected { key: shown_key(&key), reason })
        .collect();
    if let (Some(Change::Rejected { reason, .. }), true) = (changes.last_mut(), more > 0) {
        reason.push_str(&format!(" (and {more} more)"));
    }
    changes
}

/// A key as it may stand in a log: part by part, for a whole path helps to find it.
fn shown_key(key: &str) -> String {
    const PARTS: usize = 32;
    key.split('/').take(PARTS).map(shown).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted() {
        let changes = rejections((0..1000).map(|i| (format!("/a/{i}\n"), "bad".to_owned())).collect());
        assert_eq!(changes.len(), REJECTED_NAMED);
        let Some(Change::Rejected { key, reason }) = changes.last() else { panic!("no rejection") };
        assert!(reason.contains("984 more") && !key.contains('\n'), "{key} {reason}");
        assert!(rejections(Vec::new()).is_empty());
    }
}
