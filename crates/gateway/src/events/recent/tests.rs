use greenroom_domain::Timestamp;

use super::*;

fn epoch(second: i64) -> Epoch {
    Epoch(Timestamp::from_second(second).expect("a time"))
}

fn recent(events: usize) -> Recent {
    Recent::new(Kept { events, bytes: 1 << 20 }, MostWatchers { all: 3, of_tenant: 2 })
}

fn push(recent: &Recent, sequence: u64, tenant: TenantId, subject: &str) {
    let public = Public { kind: "k".to_owned(), subject: subject.to_owned(), tenant };
    recent.push(sequence, Some(public), Bytes::from(sequence.to_string()));
}

fn seen(recent: &Recent, tenant: TenantId, bot: Option<&str>, place: Cursor) -> (Vec<u64>, Cursor) {
    match recent.next(tenant, bot, place, 2) {
        Next::Events(events, place) => (events.iter().map(|event| event.cursor.sequence).collect(), place),
        Next::Wait(place) => (Vec::new(), place),
        Next::Behind(place) => panic!("behind at {place}"),
    }
}

#[test]
fn a_tenant_sees_its_own_events_once_and_in_order() {
    let recent = recent(100);
    let (one, two) = (TenantId::generate(), TenantId::generate());
    let at = |sequence| Cursor { epoch: epoch(1), sequence };
    assert_eq!(recent.begin(epoch(1), 10), 10);
    for sequence in 11..=14 {
        push(&recent, sequence, one, if sequence == 13 { "b" } else { "a" });
    }
    push(&recent, 15, two, "c");
    recent.push(16, None, Bytes::new());
    assert_eq!(seen(&recent, one, None, at(10)), (vec![11, 12], at(12)));
    assert_eq!(seen(&recent, one, None, at(12)), (vec![13, 14], at(14)));
    assert_eq!(seen(&recent, one, None, at(14)), (vec![], at(16)));
    assert_eq!(seen(&recent, one, Some("b"), at(10)), (vec![13], at(16)));
    assert_eq!(seen(&recent, two, None, at(10)), (vec![15], at(16)));
    for ahead in [99, u64::MAX] {
        assert_eq!(seen(&recent, one, None, at(ahead)), (vec![], at(16)), "a place that is still to come");
    }
    assert_eq!(recent.next(one, None, at(9), 2), Next::Behind(at(9)));
}

#[test]
fn evicted_events_are_read_from_the_bus() {
    let recent = recent(3);
    let (one, two) = (TenantId::generate(), TenantId::generate());
    let at = |sequence| Cursor { epoch: epoch(1), sequence };
    recent.begin(epoch(1), 0);
    for (sequence, tenant) in [(1, one), (2, two), (3, one), (4, two), (5, two)] {
        push(&recent, sequence, tenant, "a");
    }
    assert_eq!(recent.next(one, None, at(1), 9), Next::Behind(at(1)));
    assert_eq!(seen(&recent, one, None, at(2)), (vec![3], at(5)));
    push(&recent, 6, two, "a");
    assert_eq!(recent.next(one, None, at(2), 9), Next::Behind(at(2)));
    assert_eq!(seen(&recent, one, None, at(3)), (vec![], at(6)));
    assert_eq!(recent.lock().tenants.len(), 1, "nobody watches the other tenant");
    let state = recent.lock();
    assert_eq!((state.order.len(), state.bytes), (3, 3));
}

#[test]
fn a_stream_that_was_made_again_is_read_from_its_beginning() {
    let recent = recent(3);
    let one = TenantId::generate();
    let place = Cursor { epoch: epoch(1), sequence: 50 };
    recent.begin(epoch(1), 50);
    assert_eq!(recent.begin(epoch(1), 70), 50, "the same one is taken up where it was left");
    assert_eq!(recent.begin(epoch(2), 7), 0);
    push(&recent, 1, one, "a");
    assert_eq!(seen(&recent, one, None, place), (vec![1], Cursor { epoch: epoch(2), sequence: 1 }));
}

#[tokio::test]
async fn watchers_are_counted_and_woken() {
    let recent = recent(3);
    let (one, two) = (TenantId::generate(), TenantId::generate());
    recent.begin(epoch(1), 0);
    let mut first = recent.watch(one).expect("a place");
    let second = recent.watch(one).expect("a place");
    assert_eq!(recent.watch(one).err(), Some(Full::Tenant));
    let third = recent.watch(two).expect("a place");
    assert_eq!(recent.watch(two).err(), Some(Full::All));
    push(&recent, 1, one, "a");
    first.woken().await;
    drop((second, third));
    assert_eq!(recent.watchers(), 1);
    assert!(recent.watch(one).is_ok());
    assert_eq!(recent.lock().tenants.len(), 1, "nothing is left of those who went");
}
